"""Who speaks, who has answered, and which agents chat. Pure.

Speech is what is heard; what can't be heard is unknown. Only with hearing off, an agent's own state counts. An avatar's
sound shows its principal at work; it counts as the principal's speech only while the principal's own state says that it
speaks. What is heard is told late and dated back, so each date is compared with what is known of the others.

Silence is proof only where work would be seen: `unseen` says in words why an agent may be working all the same.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from bouncer.events import Channel, Medium, Publication
from bouncer.people import Member, People
from bouncer.room import ACTIVE_STATES, Instant, Kind, Role
from bouncer.selectors import matches


@dataclass(slots=True)
class Voice:
    """What one participant did, and what is heard of it."""

    member: Member
    active_at: Instant
    state: str = ""
    state_at: Instant = 0.0
    worked: bool = False
    """True if it was ever seen to do something in a way in which no other participant can do it in its name."""
    audio: bool = False
    """True if it published an audio track, or was heard, and has not taken back its last track since."""
    encrypted: bool = False
    """True if its data packets and streams are encrypted end to end."""
    heard: bool | None = None
    """True if it is heard speaking; None while that is not known."""
    avatar_sounds: bool = False
    """True if its avatar is heard."""
    speaking_since: Instant | None = None
    spoke_at: Instant | None = None
    """When its last speech ended."""
    spoke_since: Instant | None = None
    """When its last speech began."""
    unanswered_since: Instant | None = None
    reacted_at: Instant = 0.0
    chatting_since: Instant | None = None
    chatted: tuple[Instant, Instant] | None = None
    """Since when it was chatting, and when a human spoke then."""


@dataclass(slots=True)
class Conversation:
    """The part that each participant takes in the conversation."""

    people: People
    hears: bool = False
    """True if the room is listened to."""
    ignored: Collection[str] = ()
    """Globs on the names of tracks that are no one's voice."""
    _voices: dict[str, Voice] = field(default_factory=dict)
    _speaking: dict[str, Voice] = field(default_factory=dict)
    """Those that speak, by sid."""
    _date: Instant = float("-inf")
    """The date of the last event that another one may depend on."""
    _texts: dict[str, Voice] = field(default_factory=dict)
    """Participants in whose name text came at this date, by sid."""
    _leaving: list[Voice] = field(default_factory=list)
    """Participants that left at this date."""
    _captions_at: Instant = float("-inf")
    """When the last transcription came that an unknown writer wrote in the name of another participant."""

    def configure(self, at: Instant, *, hears: bool, ignored: Collection[str]) -> None:
        """Take in whether the room is listened to, and which tracks are no one's voice."""
        if (hears, ignored) != (self.hears, self.ignored):
            self.hears, self.ignored = hears, ignored
            for voice in self._voices.values():
                self._note_speech(voice, at)
            self.restart_watching(at)

    def enter(self, voice: Voice, at: Instant) -> None:
        """Add the voice of a participant that is here, or here again."""
        self._go_on(at)
        self._voices[voice.member.info.sid] = voice
        self._speak(voice, voice.speaking_since)
        self._note_speech(voice, at)

    def leave(self, voice: Voice, at: Instant) -> None:
        """Take out the voice of a participant that has left."""
        self._go_on(at)
        self._leaving.append(voice)
        del self._voices[voice.member.info.sid]
        self._note_speech(voice, at)
        self._speaking.pop(voice.member.info.sid, None)
        voice.heard = voice.unanswered_since = voice.chatting_since = None

    def restart_watching(self, at: Instant) -> None:
        """Forget what rests on having watched in one way without a gap. An agent that speaks on chats from now on."""
        a_human_speaks = self._a_human_speaks()
        for voice in self._voices.values():
            voice.unanswered_since = voice.chatting_since = voice.chatted = voice.spoke_since = None
            if voice.speaking_since is not None and self._role(voice) is Role.AGENT and not a_human_speaks:
                voice.chatting_since = at

    def recall(self, voice: Voice, at: Instant) -> None:
        """Take in that other attributes of a participant may change who speaks: a call was answered."""
        if voice.member.info.kind is Kind.SIP:
            self._note_speech(voice, at)

    def state(self, voice: Voice, state: str, at: Instant, *, reacts: bool) -> None:
        """Take in the state that an agent publishes, another one than before; `reacts` unless found in it."""
        if state in ACTIVE_STATES or voice.state in ACTIVE_STATES:
            self.act(voice, at)
        if reacts:
            self._react(voice, at)
        voice.state, voice.state_at = state, at
        self._note_speech(voice, at)

    def act(self, voice: Voice, at: Instant) -> None:
        """Take in that a participant did something."""
        voice.active_at = max(voice.active_at, at)

    def send(self, voice: Voice, at: Instant, channel: Channel | None) -> None:
        """Take in that a participant sent something, or opened a track, which alone is no work."""
        self.act(voice, at)
        self._go_on(at)
        if channel in (Channel.TEXT, Channel.BYTES):
            self._texts[voice.member.info.sid] = voice
        elif channel is not Channel.TRACK:
            voice.worked = True

    def transcribe(self, voice: Voice | None, writer: str, at: Instant) -> None:
        """Take in a piece of a transcription in a participant's name; None if it isn't here."""
        if voice:
            self.send(voice, at, Channel.TEXT)
            self._react(voice, at)
        if not writer and (voice is None or not voice.member.agent_by_grant):
            self._captions_at = max(self._captions_at, at)

    def _go_on(self, at: Instant) -> None:
        """Conclude a date, whatever the order of its events: text shows work if no other agent may have written it."""
        if at <= self._date:
            return
        for voice in self._texts.values():
            voice.worked |= not self._others_write(voice)
        self._texts.clear()
        self._leaving.clear()
        self._date = at

    def _others_write(self, voice: Voice) -> bool:
        """Return True if another agent is or was here at this date, which may have written in this one's name."""
        others = (v.member for v in (*self._agents(), *self._leaving) if v is not voice)
        return any(m.agent_by_grant and m.info.identity != self.people.me for m in others)

    def _agents(self) -> Iterator[Voice]:
        """Yield the voices of those that the server calls agents."""
        return (self._voices[sid] for sid in self.people.agents if sid in self._voices)

    def _worked(self, voice: Voice) -> bool:
        """Return True if it was seen at work, for all that is known at this date."""
        return voice.worked or (voice.member.info.sid in self._texts and not self._others_write(voice))

    def hear(self, voice: Voice, at: Instant, *, speaking: bool | None) -> list[Voice]:
        """Take in what is heard of a participant now. Returns: the voices that this shows to be alive."""
        found = self._sounds(voice) and voice.heard is None and speaking is not None
        lost, voice.heard = voice.heard is True and speaking is None, speaking
        voice.audio |= speaking is True
        speaker = self._speaker(voice)
        if speaker and (found or lost):
            # It may have spoken until now: time in which it wasn't heard counts for no one.
            self.act(speaker, at)
        self._note_speech(speaker or voice, at)
        return [voice, *([speaker] if speaker else [])] if speaking else []

    def recast(self, principals: set[str], at: Instant) -> None:
        """Take in whose avatar is whose, where that has changed."""
        for identity in sorted(principals):
            avatar = self._voices.get(self.people.avatar_of(identity))
            if avatar and self._role(avatar) is Role.AVATAR:
                self._speak(avatar, None)
                avatar.spoke_at = avatar.unanswered_since = avatar.chatting_since = None
            for voice in (avatar, self._voices.get(self.people.sid_of(identity))):
                if voice:
                    self._note_speech(voice, at)

    def heard(self, voice: Voice) -> bool | None:
        """Return True if it is heard, itself or through its avatar; None if that is not known, or if neither sounds."""
        # Of a participant without a track it is told that it is silent. That says nothing of what it does.
        voices = [v for v in (voice, self._avatar(voice)) if v and (self._sounds(v) or v.heard)]
        if any(v.heard for v in voices):
            return True
        return False if voices and all(v.heard is False for v in voices) else None

    def _avatar(self, voice: Voice) -> Voice | None:
        """Return the avatar of an agent; no one speaks for a person."""
        avatar = self._voices.get(self.people.avatar_of(voice.member.info.identity))
        is_one = avatar and self._role(avatar) is Role.AVATAR and self._role(voice) is Role.AGENT
        return avatar if is_one else None

    def audible(self, voice: Voice) -> bool | None:
        """Return True if its sound is heard, False if it has one that can't be heard, None if it has none."""
        if self.heard(voice) is not None:
            return True
        return False if self._sounds(voice) else None

    def unseen(self, voice: Voice) -> str:
        """Say why an agent may be working unseen, so that its silence proves nothing; "" if it would be seen."""
        heard, runs = self.heard(voice) is not None, voice.state != ""
        tracks = voice.member.info.publications
        if any(t.medium is Medium.DATA or (t.medium is Medium.VIDEO and not t.muted) for t in tracks):
            return "it may be working in its video or data track"
        if not heard and not runs and not self._worked(voice):
            return "it publishes no state and was never seen at work, so it may be working unseen"
        if self.hears and self._sounds(voice) and voice.heard is None and not heard and not runs:
            return "its sound can't be heard"
        if (voice.encrypted or any(t.encrypted for t in tracks)) and not heard and not runs:
            return "its data is encrypted"
        if not heard and self._captions_at > voice.active_at:
            return "it may be the unknown writer of captions in others' names"
        return ""

    def _sounds(self, voice: Voice) -> bool:
        """Return True if it publishes sound that may be its voice."""
        tracks = voice.member.info.publications
        return any(map(self._may_be_voice, tracks)) if tracks else voice.audio

    def _may_be_voice(self, track: Publication) -> bool:
        return track.medium is Medium.AUDIO and not matches(track.name, self.ignored)

    def _speaker(self, voice: Voice) -> Voice | None:
        """Whose voice it is: its own, or of an avatar its principal's, if that is an agent that is here."""
        if self._role(voice) is not Role.AVATAR:
            return voice
        principal = self._voices.get(self.people.sid_of(voice.member.on_behalf_of))
        return principal if principal and self._role(principal) is Role.AGENT else None

    def _role(self, voice: Voice) -> Role:
        """Return what it is in the conversation, in which a person whose phone still rings takes no part."""
        role = self.people.role(voice.member)
        return Role.OTHER if role is Role.HUMAN and voice.member.ringing else role

    def _note_speech(self, voice: Voice, at: Instant) -> None:
        """Draw the consequences if a participant began or ended speaking, as far as it is now known."""
        role, heard = self._role(voice), self.heard(voice)
        if role is Role.AGENT:
            self._note_avatar(voice, at)
        # An avatar's own state says nothing, even once it is an orphan: its principal says when it speaks.
        claims = role is Role.AGENT and not voice.member.claims_principal
        says_so = claims and voice.state == "speaking"
        heard_to_speak = voice.heard is True or (says_so and heard is True)
        sounds = heard_to_speak or (says_so and heard is None and not self.hears)
        speaking = voice.member.info.sid in self._voices and sounds
        if speaking == (voice.speaking_since is not None) or role not in (Role.AGENT, Role.HUMAN):
            return
        if not speaking:
            voice.spoke_since, voice.spoke_at = voice.speaking_since, at
        self._speak(voice, at if speaking else None)
        if role is Role.AGENT:
            if not (says_so and heard is None):
                # That its state says so shows nothing that it did since it entered that state.
                self.act(voice, at)
            self._agent_spoke(voice, at)
        else:
            # Speech that is cut off, because it can't be heard any more or its speaker left, asks for no answer.
            self._human_spoke(at, asks=not speaking and heard is False)

    def _speak(self, voice: Voice, since: Instant | None) -> None:
        voice.speaking_since = since
        if since is None:
            self._speaking.pop(voice.member.info.sid, None)
        else:
            self._speaking[voice.member.info.sid] = voice

    def _note_avatar(self, voice: Voice, at: Instant) -> None:
        """Take in whether an agent's avatar is heard, which shows the agent at work."""
        avatar = self._avatar(voice)
        sounds = avatar is not None and avatar.heard is True
        if sounds != voice.avatar_sounds:
            voice.avatar_sounds = sounds
            self.act(voice, at)
            self._react(voice, at)

    def _agent_spoke(self, agent: Voice, at: Instant) -> None:
        """Take in that an agent began or ended speaking."""
        self._react(agent, at)
        if agent.speaking_since is not None:
            if agent.chatting_since is None and not self._a_human_speaks():
                agent.chatting_since = at
        elif agent.chatting_since is not None and at <= agent.chatting_since:
            # The last human's end, which is dated back too, was told before this agent's, but was not before it.
            agent.chatting_since = None

    def _human_spoke(self, at: Instant, *, asks: bool) -> None:
        """Take in that a human began or ended speaking; `asks` for an answer if it was heard to the end."""
        quiet = not self._a_human_speaks()
        for agent in self._agents():
            if self._role(agent) is Role.AGENT:
                unmoved = agent.speaking_since is None and max(agent.reacted_at, agent.member.info.joined_at) <= at
                if asks and unmoved and agent.unanswered_since is None:
                    agent.unanswered_since = at
                if agent.chatting_since is not None:
                    agent.chatted = (agent.chatting_since, at)
                # What ended before the agent began may be told after that.
                speaks = quiet and agent.speaking_since is not None
                agent.chatting_since = max(at, agent.speaking_since or at) if speaks else None

    def _react(self, voice: Voice, at: Instant) -> None:
        voice.reacted_at, voice.unanswered_since = max(voice.reacted_at, at), None

    def _a_human_speaks(self) -> bool:
        return any(self._role(voice) is Role.HUMAN for voice in self._speaking.values())
