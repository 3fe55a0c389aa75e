"""The events of the log: every record of the logger `bouncer` has one of these texts, and its facts as fields."""

from collections.abc import Mapping
from enum import StrEnum


class LogEvent(StrEnum):
    """A log record's text. Searches and alerts depend on these; docs/reference/log-events.md describes them."""

    GUARDING = "guarding"
    NO_LONGER_GUARDING = "no longer guarding"
    ROOM_RECREATED = "room recreated"
    CONNECTION_LOST = "connection lost"
    CONNECTION_RESTORED = "connection restored"

    CONFIGURED = "configured"
    CONFIGURATION_REFUSED = "configuration refused"
    CONFIGURATION_QUESTIONABLE = "configuration questionable"
    UNNAMED_NOT_JUDGED = "unnamed agents not judged"

    NOTICE_GIVEN = "notice given"
    REPORTED = "reported"
    HELD_BACK = "held back"
    EVICTED = "evicted"
    WOULD_EVICT = "would evict"
    EVICTION_NOT_NEEDED = "eviction not needed"
    EVICTION_CALLED_OFF = "eviction called off"
    EVICTION_FAILED = "eviction failed"
    EVICTION_DENIED = "eviction denied"
    COUNTDOWN = "countdown"
    COUNTDOWN_CALLED_OFF = "countdown called off"
    COUNTDOWN_OVER = "countdown over"

    ACTING = "acting"
    STANDING_BY = "standing by"
    NOT_NEEDED = "not needed"
    HANDED_OVER = "handed over"
    HANDED_TO_NO_ONE = "handed to no one"
    ASKED = "asked"
    ANSWER_FAILED = "answer failed"
    SUCCESSOR_REQUESTED = "successor requested"
    SUCCESSOR_PENDING = "successor pending"
    REPLACED = "replaced"
    NOT_REPLACED = "not replaced"
    ORPHAN_FOUND = "orphaned room found"
    ORPHANS_NOT_SOUGHT = "orphaned rooms not sought"
    CLOSING_HANGS = "closing hangs"
    SURPLUS_TAKEN_BACK = "surplus taken back"

    CANNOT_HEAR = "cannot hear a participant"
    LEVEL_DETECTION = "falling back to level detection"
    SPEECH_DETECTION_FAILED = "speech detection failed"
    SPEECH_DETECTOR_UNAVAILABLE = "speech detector unavailable"
    HEARING_FAILED = "hearing failed"

    POLICY_FAULT = "policy fault"
    FAILING = "failing"
    MESSAGE_NOT_SENT = "message not sent"
    WEBHOOK_FAILING = "webhook failing"
    WEBHOOK_LOSING = "webhook losing records"
    OBSERVER_FAILED = "observer failed"
    RECORDING_FAILED = "recording failed"
    RECORDING_LIMIT = "recording limit reached"
    ENVIRONMENT = "environment warning"
    FILE_LIMIT = "open-file limit too low"


TO_DO: Mapping[str, str] = {
    LogEvent.CONFIGURATION_REFUSED: "put right what `errors` names; `bouncer check` tries a configuration beforehand",
    LogEvent.EVICTION_DENIED: "give the worker an API key whose roomAdmin grant the server accepts",
    LogEvent.POLICY_FAULT: "report it to the policy's author; until then turn the policy off in the configuration",
    LogEvent.FAILING: "see `error`; `bouncer doctor` tries the server and the key. It is tried again by itself",
    LogEvent.MESSAGE_NOT_SENT: "report it as a bug of the bouncer; the room is guarded, and was not told",
    LogEvent.OBSERVER_FAILED: "report it to the observer's author, or take it out of BOUNCER_OBSERVERS",
    LogEvent.ANSWER_FAILED: "report it as a bug of the bouncer; the room is guarded, and can't be asked about",
    LogEvent.HEARING_FAILED: "report it as a bug of the bouncer; until it works again, no one is heard in the room",
    LogEvent.SPEECH_DETECTOR_UNAVAILABLE: "install what the traceback says is missing, or configure hearing as `level`",
    LogEvent.RECORDING_FAILED: "make room in the folder that BOUNCER_RECORD names, or let the worker write there",
    LogEvent.CLOSING_HANGS: "nothing now; if it happens again, restart the worker, since what hangs keeps its memory",
}
"""What an operator does about each event that is logged at ERROR."""
