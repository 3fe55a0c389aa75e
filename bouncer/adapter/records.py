"""LiveKit's participants, jobs and tracks in our records: from events (rtc) and from the server's API (protobuf)."""

from collections.abc import Iterable, Mapping
from itertools import islice

from livekit import api, rtc
from livekit.protocol import agent, models

from bouncer.adapter.clock import ServerClock
from bouncer.events import Info, Job, Medium, Publication
from bouncer.room import Kind

_KINDS: Mapping[int, Kind] = {
    rtc.ParticipantKind.PARTICIPANT_KIND_STANDARD: Kind.STANDARD,
    rtc.ParticipantKind.PARTICIPANT_KIND_INGRESS: Kind.INGRESS,
    rtc.ParticipantKind.PARTICIPANT_KIND_EGRESS: Kind.EGRESS,
    rtc.ParticipantKind.PARTICIPANT_KIND_SIP: Kind.SIP,
    rtc.ParticipantKind.PARTICIPANT_KIND_AGENT: Kind.AGENT,
    rtc.ParticipantKind.PARTICIPANT_KIND_CONNECTOR: Kind.CONNECTOR,
    rtc.ParticipantKind.PARTICIPANT_KIND_BRIDGE: Kind.BRIDGE,
}
_LISTED_KINDS: Mapping[int, Kind] = {
    models.ParticipantInfo.STANDARD: Kind.STANDARD,
    models.ParticipantInfo.INGRESS: Kind.INGRESS,
    models.ParticipantInfo.EGRESS: Kind.EGRESS,
    models.ParticipantInfo.SIP: Kind.SIP,
    models.ParticipantInfo.AGENT: Kind.AGENT,
    models.ParticipantInfo.CONNECTOR: Kind.CONNECTOR,
    models.ParticipantInfo.BRIDGE: Kind.BRIDGE,
}
"""The numbers of CONNECTOR and BRIDGE differ between the two APIs. An unknown kind counts as STANDARD: a person."""
_MEDIA: Mapping[int, Medium] = {models.TrackType.AUDIO: Medium.AUDIO, models.TrackType.DATA: Medium.DATA}
FOR_ONE_PARTICIPANT = (agent.JobType.JT_PUBLISHER, agent.JobType.JT_PARTICIPANT)
"""Types of job that serve one participant, so that one agent for each is right."""
MAX_TRACKS = 64
"""Tracks of a participant that are looked at, of each kind."""


def shown(participant: rtc.Participant, clock: ServerClock, data_tracks: Iterable[Publication] = ()) -> Info:
    """Return a participant as the room's events show it; they show its data tracks apart."""
    joined_ms = joined(participant)
    tracks = participant.track_publications.values()
    return Info(
        sid=participant.sid,
        identity=participant.identity,
        kind=_KINDS.get(participant.kind, Kind.STANDARD),
        simulated=rtc.ParticipantKindDetail.PARTICIPANT_KIND_DETAIL_SIMULATION in participant.kind_details,
        active=participant.state == rtc.ParticipantState.PARTICIPANT_STATE_ACTIVE,
        joined_at=clock.instant(joined_ms),
        joined_ms=joined_ms,
        attributes=participant.attributes,
        name=participant.name,
        metadata=participant.metadata,
        audio=any(map(is_audio, tracks)),
        publications=(*map(publication, islice(tracks, MAX_TRACKS)), *islice(data_tracks, MAX_TRACKS)),
    )


def listed(participant: models.ParticipantInfo, clock: ServerClock) -> Info:
    """Return a participant as the server lists it."""
    joined_ms = participant.joined_at_ms or participant.joined_at * 1000
    return Info(
        sid=participant.sid,
        identity=participant.identity,
        kind=_LISTED_KINDS.get(participant.kind, Kind.STANDARD),
        simulated=models.ParticipantInfo.SIMULATION in participant.kind_details,
        active=participant.state == models.ParticipantInfo.ACTIVE,
        joined_at=clock.instant(joined_ms),
        joined_ms=joined_ms,
        attributes=dict(participant.attributes),
        name=participant.name,
        metadata=participant.metadata,
        audio=any(track.type == models.TrackType.AUDIO for track in participant.tracks),
        publications=(
            *(_listed_track(track) for track in participant.tracks[:MAX_TRACKS]),
            *(_listed_data_track(track) for track in participant.data_tracks[:MAX_TRACKS]),
        ),
        agent_grant=participant.permission.agent,
        hidden=participant.permission.hidden,
        recorder=participant.permission.recorder,
        can_publish=participant.permission.can_publish,
        can_send_data=participant.permission.can_publish_data,
    )


def listed_job(dispatch: api.AgentDispatch, job: agent.Job) -> Job:
    """Return a job as its dispatch lists it."""
    return Job(
        dispatch=dispatch.id,
        job=job.id,
        agent_name=dispatch.agent_name,
        metadata=dispatch.metadata,
        identity=job.state.participant_identity or f"agent-{job.id}",
        serves=job.participant.identity if job.type in FOR_ONE_PARTICIPANT else "",
    )


def joined(participant: rtc.Participant) -> int:
    """Return when it joined, in the server's milliseconds; 0 if that is not known."""
    return round(participant.joined_at.timestamp() * 1000) if participant.joined_at else 0


def is_audio(track: rtc.TrackPublication) -> bool:
    """Return True if it is an audio track."""
    return track.kind == rtc.TrackKind.KIND_AUDIO


def publication(track: rtc.TrackPublication) -> Publication:
    """Return an audio or video track as the room's events show it."""
    medium = Medium.AUDIO if is_audio(track) else Medium.VIDEO
    return Publication(medium, track.name, track.muted, track.encryption_type != rtc.EncryptionType.NONE)


def _listed_track(track: models.TrackInfo) -> Publication:
    medium = _MEDIA.get(track.type, Medium.VIDEO)
    return Publication(medium, track.name, track.muted, track.encryption != models.Encryption.NONE)


def _listed_data_track(track: models.DataTrackInfo) -> Publication:
    return Publication(Medium.DATA, track.name, encrypted=track.encryption != models.Encryption.NONE)
