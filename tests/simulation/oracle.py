"""Who may be evicted, and who has to be gone: the policies' own words, applied to what truly happened.

Independent of the engine: it reads what the simulated server knows and what each bouncer was told, with the true dates.
A bouncer may learn of things late, so it may act later than the truth would have it, and never earlier. What speaks for
an eviction has to be so as far as the bouncer could know; what speaks against it counts once it was told.
"""

from collections.abc import Container, Iterator
from collections.abc import Set as AbstractSet
from math import inf

from bouncer.room import Kind, Room
from tests.simulation.livekit import (
    BATCH,
    CALL_STATUS,
    GUARDING,
    HEARD_LATE,
    RINGING,
    STANDING,
    UNSEEN,
    Known,
    Line,
    Member,
    Speech,
    is_agent,
)
from tests.simulation.meaning import CLEARS_ROOM, HEARS, JUDGES_AVATARS, Meaning, Rule, matches, selects

EPSILON = 0.003
"""Seconds by which milliseconds may be rounded."""
UNKNOWN_FOR = 6.0
"""Seconds for which it can't be known of which dispatch a job is."""
JOB_KNOWN_IN = 7.5
"""Seconds in which a list of the dispatches has shown that."""
LACKED_FOR = 2.5
"""Seconds in which another list shows that one is gone which a list lacked."""
ALIVE_WITHIN = 1.0
"""Seconds before another's joining in which a sign of life shows that an agent is no corpse."""
STAY_WITHIN = 20.0
"""Seconds in which one that has left may be back."""
SENT_LATELY = 20.0
"""Seconds that evictions of one decision may take: 3 s a call, and 3.5 s for an agent to leave."""
HUMANS = {Kind.STANDARD, Kind.SIP, Kind.CONNECTOR, Kind.BRIDGE}


def asks(member: Member) -> bool:
    """Return True if it only asks bouncers what they see."""
    return member.hidden and member.mute and member.kind is not Kind.AGENT


def is_human(member: Member) -> bool:
    """Return True if LiveKit makes it a person and it is not someone's avatar."""
    if member.simulated:
        return not asks(member)
    return member.kind in HUMANS and not (member.grant or member.hidden or member.recorder)


def passed_for_person(known: Known) -> bool:
    """Return True if it looks like a person until a list shows its grant: a bot of another kind."""
    return is_agent(known.member) and known.member.kind is not Kind.AGENT


def is_bouncer(line: Line, member: Member) -> bool:
    """Return True if it really is a bouncer of ours, and that can be known.

    Once its dispatch is deleted its job is over, and only who saw it listed knows whose it was.
    """
    known, dispatch = line.known.get(member.sid), member.dispatch
    if member.hidden and member.identity in line.proven:
        return True
    if dispatch is None or not member.hidden:
        return False
    if dispatch.agent_name != line.fleet:
        # One of another fleet, once it is known to guard the room.
        return known is not None and known.guarded and known.job is not None
    return dispatch.id in line.server.dispatches or (known is not None and known.job is not None)


def is_ours(line: Line, member: Member) -> bool:
    """Return True if it is known to be a bouncer of ours, and not of another fleet."""
    dispatched = member.dispatch is not None and member.dispatch.agent_name == line.fleet
    return is_bouncer(line, member) and (dispatched or member.identity in line.proven)


def age(who: Known | Member) -> tuple[int, str]:
    """Sorts the oldest first: by when their stays began; for a member that isn't known, when it joined."""
    return (
        (round(who.since * 1000), who.first_sid) if isinstance(who, Known) else (round(who.joined_at * 1000), who.sid)
    )


class View:
    """The room as one bouncer may see it at one instant."""

    def __init__(
        self,
        line: Line,
        *,
        together: bool = False,
        owing: bool = False,
        told: bool = False,
        without: frozenset[str] = frozenset(),
    ) -> None:
        """Take it down; `together` with those who were sent away a moment ago.

        Agents that are sent away together are judged as if all were still here: one alone would be no chatter, and no
        hand-off.
        With `owing`, what is over by now makes no one due. If only what was `told` counts, people who left are here
        until then, a freeze is a gap in watching, and who calls itself a bouncer may be one until it is listed. The
        sids in `without` count as gone.
        """
        self.line, self.owing, self.told = line, owing, told
        self.meaning = line.meanings[-1][1] if line.meanings else Meaning({})
        self.now = line.server.loop.time()
        self.watching_since = max(line.watching_since, line.server.thawed_at if told else 0.0)
        self.listening_since = max(self.watching_since, line.listening_since)
        self._claims: dict[str, str] = {}
        self.all = [k for k in line.known.values() if k.member.sid not in without]
        holders = {k.member.identity: k for k in sorted(self.all, key=lambda k: age(k.member))}
        here = (k for k in self.all if not k.left_told and (k.member.here or k.lacked_at is None))
        self.here = [k for k in here if holders[k.member.identity] is k]
        """Who may be believed to be here: whose leaving was not told, and not to be seen in the last list."""
        self.humans = [k for k in self.all if self.person(k) and (k.member.here or told) and not k.left_told]
        """The people who truly are here, as far as the bouncer was told of them."""
        self.principals = {k.member.identity for k in self.here if not self.claims(k)}
        self.agents = [
            k
            for k in self.here
            if is_agent(k.member)
            and k.active
            and k.member is not line.me
            and not is_bouncer(line, k.member)
            and not may_be_bouncer(line, k)
            and not (told and passes_for_bouncer(line, k))
            and not self.attached(k)
        ]
        gone = {member.sid for at, member in line.sent if at > self.now - SENT_LATELY} if together else set()
        self.group = self.agents + [k for k in self.all if k.member.sid in gone and k not in self.agents]

    def claims(self, known: Known) -> str:
        """The identity of the agent whose avatar it may be; "" if there is none."""
        sid = known.member.sid
        if sid not in self._claims:
            self._claims[sid] = self.line.claims(known)
        return self._claims[sid]

    def person(self, known: Known) -> bool:
        """Return True if it is a person: an avatar with a plain token is none, once its principal was here."""
        avatar = known.adopted and self.claims(known) != ""
        if self.told and passed_for_person(known) and not known.listed_at:
            return not avatar
        if avatar or known.member.simulated or asks(known.member) or is_agent(known.member):
            return is_human(known.member) and not avatar
        people = self.meaning.people
        none = selects(people.get("except"), known)
        return not none and (is_human(known.member) or selects(people.get("also"), known))

    def attached(self, known: Known) -> bool:
        """Return True if it is the avatar of an agent that is here."""
        return self.claims(known) in self.principals and self.first_of(known)

    def orphan(self, known: Known) -> bool:
        """Return True if it is an avatar whose principal isn't here."""
        return self.claims(known) != "" and self.first_of(known) and not self.attached(known)

    def first_of(self, known: Known) -> bool:
        """Return True if it is the oldest that names this principal: each has one avatar."""
        others = (k for k in self.here if k.adopted or is_agent(k.member))
        return not any(self.claims(k) == self.claims(known) and age(k) < age(known) for k in others)

    def contested(self, known: Known) -> bool:
        """Return True if others claim its principal too."""
        return self.claims(known) != "" and any(
            self.claims(k) == self.claims(known) for k in self.here if k is not known
        )

    def unfit_avatar(self, known: Known) -> bool:
        """Return True if it is a person that claims a principal, which never was here or which others claimed too."""
        rivals = (k for k in self.all if self.claims(k) == self.claims(known) and k is not known)
        return self.claims(known) != "" and not is_agent(known.member) and (not known.adopted or any(rivals))

    def due(self, rule: Rule, who: Known) -> float:
        """The earliest instant by which the policy may want it out; inf for never."""
        judged = max((who.attributes_at.get(name, 0.0) + rule.gives for name in rule.judged_by()), default=0.0)
        return min((max(due, judged) for due in DUE[rule.policy](self, rule, who)), default=inf)

    def alike(self, who: Known, rule: Rule) -> list[Known]:
        """Those with the same key, itself included."""
        key = rule["key"]

        def value(known: Known) -> tuple[str, str]:
            of = known.agent_name if key == "agent_name" else known.attributes.get(key.removeprefix("attribute:"), "")
            return (of, known.job.serves if known.job else known.member.serves)

        return [
            k
            for k in self.group
            if not self.orphan(k)
            and value(k) == value(who)
            and (value(who)[0] or (rule["unnamed"] and key == "agent_name"))
        ]

    def surplus(
        self, who: Known, group: list[Known], rule: Rule, *, newest: bool = False, key: str = ""
    ) -> Iterator[float]:
        """When it has to go as one too many in a group of which so many may stay, if it is."""

        def replaced(known: Known) -> bool:
            return known.job is not None and known.job.job in self.line.replaced

        if who not in group:
            return
        by_age = [k for k in sorted(group, key=age, reverse=newest) if not replaced(k)]
        last = [k for k in sorted(group, key=age, reverse=True) if replaced(k)]
        ranked = list(by_age)
        # The places that agents of one name have go to those first whose dispatch confirms the name.
        for called in {k.agent_name for k in ranked} - {""}:
            places = [i for i, k in enumerate(ranked) if k.agent_name == called]
            for i, k in zip(places, sorted((ranked[i] for i in places), key=lambda k: k.job is None), strict=True):
                ranked[i] = k
        # Whether a job is certain to be this one's, and whether a stay goes on, the bouncer may see otherwise.
        by_date = sorted(by_age, key=lambda k: age(k.member), reverse=newest)
        for order in (ranked, by_age, by_date):
            yield from self._one_too_many(who, [*order, *last], rule, newest=newest, key=key)

    def _one_too_many(self, who: Known, ranked: list[Known], rule: Rule, *, newest: bool, key: str) -> Iterator[float]:
        def since(known: Known) -> float:
            return max(known.since, known.attributes_at.get(key, 0.0))

        kept, most, gone = ranked[: ranked.index(who)], rule["max"], self.line.leaving
        if len([k for k in kept if k in self.agents and k.member.sid not in gone]) < most:
            # No agent leaves on account of those that have left.
            return
        joined, was_replaced = who.since, who.job is not None and who.job.job in self.line.replaced
        due = max(since(who), sorted(map(since, kept))[most - 1]) + rule["grace"]
        # The bouncer may date the joining of one as late as its own first sight of it.
        signs = [max(k.told_at, k.alive_at, k.acted_at) for k in kept]
        proven = [at for at in signs if at > joined - ALIVE_WITHIN - EPSILON]
        if not newest and not was_replaced and len(proven) < most:
            due = max(due, joined + rule["wait_for_life"])

        def beaten(known: Known) -> bool:
            open_ = unlisted(known) and not settled(self.line, known, self.line.jobs_asked_at)
            alike = known.agent_name == who.agent_name and not open_
            return alike and (known.job is None or (age(known) < age(who)) == newest)

        if unlisted(who) and not was_replaced and all(map(beaten, kept)):
            # Its dispatch may be listed yet, and confirm its name.
            due = max(due, joined + UNKNOWN_FOR)
        yield due

    def began(self, speech: Speech) -> float:
        """Since when it lasts: what a state says counts for certain since it was told."""
        claimed = speech.claimed and (self.owing or self.told)
        return max(speech.since, speech.told_at) if claimed else speech.since

    def left_at(self, known: Known) -> float:
        """When it left; if only what was told counts, when an event said so, or else two lists had lacked it."""
        if not self.told:
            return known.member.left_at or 0.0
        return known.left_told_at if known.left_told else (known.lacked_at or self.now) + LACKED_FOR

    def watched(self, at: float) -> float:
        """A date that is known by watching only."""
        return max(at, self.watching_since)


def unlisted(known: Known) -> bool:
    """Return True if it is a job by its identity, and no dispatch is known to have it."""
    return known.job is None and known.member.identity.startswith("agent-AJ_")


def rings(known: Known) -> bool:
    """Return True if it is a phone that no one has answered yet."""
    return known.member.kind is Kind.SIP and known.attributes.get(CALL_STATUS) in RINGING


def is_heard(view: View, who: Known) -> bool:
    """Return True if it is known what it sounds like, itself or its avatar."""
    avatars = [k for k in view.here if view.claims(k) == who.member.identity and view.attached(k)]
    return any(k.heard is not None for k in (who, *avatars))


def unseen(view: View, who: Known) -> bool:
    """Return True if it may be working unseen."""
    if who.member.works in UNSEEN:
        return True
    if is_heard(view, who):
        return False
    if view.line.captions_at > who.acted_told:
        return True
    if who.state:
        return False
    deaf = view.line.hears and (who.member.audio or who.member.works == "whisper")
    return deaf or not (who.worked or who.wrote)


def settled(line: Line, known: Known, asked_at: float) -> bool:
    """Return True if jobs were asked for so late, at that instant, that its own, if it had one, would be among them."""
    return asked_at >= known.first_since + line.skew + UNKNOWN_FOR


def may_be_bouncer(line: Line, known: Known) -> bool:
    """Return True if it looks like a bouncer whose job may be listed yet, or was forgotten by a restart as ours was."""
    return unlisted(known) and known.member.hidden and not settled(line, known, line.ours_asked_at)


def passes_for_bouncer(line: Line, known: Known) -> bool:
    """Return True if it looks like a bouncer until a list shows that it is not hidden, or has no job of ours."""
    return unlisted(known) and not known.listed_at and known.agent_name == line.fleet


def allow_list(view: View, rule: Rule, who: Known) -> Iterator[float]:
    """Its name is on no list, nor is that of the agent whose avatar it is."""
    judged: Known | None = who
    if view.attached(who):
        judged = next((k for k in view.agents if k.member.identity == view.claims(who)), None)
    if judged and not matches(judged.agent_name, rule["agent_names"]):
        since = orphaned_at(view, who) + STAY_WITHIN if view.orphan(who) else who.since
        yield max(who.since, since) + rule["grace"]


def crosstalk(view: View, rule: Rule, who: Known) -> Iterator[float]:
    """It speaks, and so does an older one; or both did, and that it ended was told late."""
    for other in view.agents:
        for mine in who.speech:
            for theirs in other.speech if age(other) < age(who) else ():
                met = max(view.listening_since, view.began(mine), view.began(theirs))
                parted = min(inf if s.until is None else s.until for s in (mine, theirs))
                late = HEARD_LATE if view.line.hears and (is_heard(view, who) or is_heard(view, other)) else 0.0
                due = met + rule["overlap"] + late
                if parted == inf or met + rule["overlap"] <= parted <= due + EPSILON:
                    yield due


def deny_list(view: View, rule: Rule, who: Known) -> Iterator[float]:  # noqa: ARG001 - as all of them
    """Its name or identity is on a list."""
    named = who.agent_name != "" and matches(who.agent_name, rule["agent_names"])
    if named or matches(who.member.identity, rule["identities"]):
        yield who.since + rule["grace"]
    if selects(rule["who"], who):
        since = [who.attributes_at.get(name, 0.0) for name in rule["who"].get("attributes", ())]
        yield max([who.since, *since]) + rule["grace"]


def duplicates(view: View, rule: Rule, who: Known) -> Iterator[float]:
    """Others have its name, and a better right."""
    group = view.alike(who, rule)
    key = rule["key"].removeprefix("attribute:")
    yield from view.surplus(who, group, rule, newest=rule["keep"] == "newest", key=key)


def empty_room(view: View, rule: Rule, who: Known) -> Iterator[float]:
    """No human is here."""
    joined = who.since
    if view.humans:
        return
    # A participant that was only ever announced may have been a bot: the agent grant is shown in lists only.
    people = [
        k
        for k in view.all
        if view.person(k)
        and not view.claims(k)
        and (view.told or k.listed_at or k.member.kind is not Kind.STANDARD or k.member.simulated)
    ]
    gone = [k.left_told_at if view.told else k.member.left_at for k in people if k.member.left_at is not None]
    if gone:
        # Who only passed for a person had come as no one, and begins nothing, but may have been the last to leave.
        gone += [k.listed_at for k in view.all if view.told and passed_for_person(k)]
        gone += [k.left_told_at for k in view.all if view.told and k.left_told and view.unfit_avatar(k)]
        yield max(view.watched(max(gone)), joined) + rule["grace"]
    else:
        yield max(view.watching_since, joined) + rule["never_joined"]


def human_takeover(view: View, rule: Rule, who: Known) -> Iterator[float]:
    """An operator is here."""
    operator = {key: rule[key] for key in ("identity", "name", "attributes", "metadata") if rule[key]}
    for other in view.here:
        if view.person(other) and other.active and selects(operator, other) and not rings(other):
            since = [other.attributes_at.get(key, 0.0) for key in (*rule["attributes"], CALL_STATUS)]
            yield max(other.since, who.since, *since) + rule["grace"]


def idle_timeout(view: View, rule: Rule, who: Known) -> Iterator[float]:
    """It does nothing."""
    busy = who.state in ("thinking", "speaking") or who.speaking_since is not None
    if not busy and (rule["unseen"] == "evict" or not unseen(view, who)):
        acted_at = view.watched(
            max(who.acted_told if view.told else who.acted_at, view.line.coming.get(who.member.sid, 0.0))
        )
        yield acted_at + rule["timeout"] + (HEARD_LATE if is_heard(view, who) else 0.0)


def lone_chatter(view: View, rule: Rule, who: Known) -> Iterator[float]:
    """Two agents or more talk, and no human; or one did only just now, which was told late."""
    people = [k for k in view.all if view.person(k) and not rings(k)]
    if any(k.member.audio and k.heard is None and not k.left_told and k.member.here for k in people):
        return
    speeches = [speech for known in people for speech in known.speech]
    for before in (inf,) if view.owing else (inf, *(s.since for s in speeches)):
        yield from _chatted(view, rule, who, [s for s in speeches if s.since < before], before)


def _chatted(view: View, rule: Rule, who: Known, speeches: list[Speech], before: float) -> Iterator[float]:
    """When it is due if these are all the speeches of people before that instant."""
    silent_since = view.listening_since
    for human in speeches:
        silent_since = max(silent_since, inf if human.until is None else human.until)
    spoke: dict[str, list[tuple[float, float]]] = {}
    for known in view.group:
        for speech in known.speech:
            until = inf if speech.until is None else speech.until
            if until > silent_since:
                spoke.setdefault(known.member.sid, []).append((max(view.began(speech), silent_since), until))
    if who.member.sid not in spoke or len(spoke) < 2:
        return
    end = sorted(min(speech)[0] for speech in spoke.values())[1] + rule["timeout"]
    oldest = min((k for k in view.group if k.member.sid in spoke), key=age)
    if rule["keep"] == "none" or who is not oldest:
        firsts = (max(end, since) for each in spoke.values() for since, until in each if until >= end)
        yield from (at + HEARD_LATE for at in firsts if at <= before)


def max_agents(view: View, rule: Rule, who: Known) -> Iterator[float]:
    """There are enough."""
    yield from view.surplus(who, [k for k in view.group if not view.orphan(k)], rule)


def max_lifetime(view: View, rule: Rule, who: Known) -> Iterator[float]:  # noqa: ARG001 - as all of them
    """It has been here for long enough."""
    yield who.since + rule["limit"]


def no_return(view: View, rule: Rule, who: Known) -> Iterator[float]:
    """It was evicted, and is back, by this connection or an earlier one of its stay."""
    if view.owing and any(member is who.member for _, member in view.line.sent):
        # It survived a removal of ours, the last one that is remembered of its identity.
        return

    def came(known: Known) -> float:
        # One whose date can't be right joined when it was first seen.
        return max(known.since, known.member.joined_at)

    same = (k for k in view.all if k.member.identity == who.member.identity)
    for joined in (came(k) for k in same if who.since <= came(k) <= came(who)):
        for at, member in view.line.sent:
            # Our clock may date its joining later than the server does.
            back = member.sid in view.line.evicted - {who.member.sid} and member.identity == who.member.identity
            if back and at - EPSILON <= joined + view.line.skew and joined - at < rule["window"]:
                yield joined


def orphaned_avatar(view: View, rule: Rule, who: Known) -> Iterator[float]:
    """The agent whose avatar it is, is gone."""
    if view.orphan(who):
        yield orphaned_at(view, who) + rule["grace"]


def orphaned_at(view: View, who: Known) -> float:
    """Since when an orphaned avatar has been one."""
    agents = [k for k in view.all if k.member.identity == view.claims(who) and not view.claims(k)]
    gone = [view.left_at(k) for k in agents if k.member.left_at is not None]
    seen_at = who.told_at if view.told else who.since
    return view.watched(max([*gone, seen_at]))


def stuck_state(view: View, rule: Rule, who: Known) -> Iterator[float]:
    """It is in one state for too long."""
    # Its state may be told late, and with it what it did before that.
    active = who.acted_at > view.watched(max(who.state_at, who.since)) + BATCH + 0.5
    if who.state in rule["limits"] and not active:
        yield view.watched(who.state_told if view.told else who.state_at) + rule["limits"][who.state]


def superseded(view: View, rule: Rule, who: Known) -> Iterator[float]:
    """Its successor has joined."""
    for by, successors in rule["by"].items():
        for other in view.group:
            named = (
                who.agent_name
                and other.agent_name
                and matches(who.agent_name, [by])
                and matches(other.agent_name, successors)
            )
            if named and age(other) > age(who):
                yield other.since + rule["grace"]


def unresponsive(view: View, rule: Rule, who: Known) -> Iterator[float]:
    """People spoke, and it did not react."""
    if who.state in ("thinking", "speaking") or who.speaking_since is not None or unseen(view, who):
        return
    since = max(who.reacted_at, who.member.joined_at, view.listening_since)
    for known in view.all:
        if view.person(known):
            for speech in known.speech:
                told = who.told_at <= speech.ended_told < inf
                if told and speech.until is not None and speech.until >= since:
                    yield speech.until + rule["timeout"] + HEARD_LATE


DUE = {
    policy.__name__: policy
    for policy in (
        allow_list,
        crosstalk,
        deny_list,
        duplicates,
        empty_room,
        human_takeover,
        idle_timeout,
        lone_chatter,
        max_agents,
        max_lifetime,
        no_return,
        orphaned_avatar,
        stuck_state,
        superseded,
        unresponsive,
    )
}


def objection(line: Line, meaning: Meaning | None, member: Member) -> str:  # noqa: PLR0911 - one for each objection
    """Return what forbids evicting it at this moment; "" if nothing does."""
    who = line.known.get(member.sid)
    if not is_agent(member):
        return "it is no agent"
    if is_bouncer(line, member):
        return "it is a bouncer"
    if elder := acting(line):
        return f"{elder.member} guards the room"
    if member.active_at > line.server.loop.time():
        return "it is still JOINING"
    if meaning is None or meaning.mode != "enforce":
        return f"the mode is {meaning.mode if meaning else 'unknown'}"
    if line.blind:
        return "the bouncer is blind"
    if who is None:
        return "the bouncer can't know of it"
    if may_be_bouncer(line, who):
        return "it may be a bouncer"
    if meaning.exempts(who):
        return "it is exempt"
    view = View(line)
    principal = [k for k in view.here if view.attached(who) and k.member.identity == view.claims(who)]
    if principal and not view.contested(who) and meaning.exempts(principal[0]):
        return "its principal is exempt"
    if follows(view, meaning, who) or not (reason := unfounded(view, meaning, who)):
        return ""
    return reason if unfounded(View(line, together=True), meaning, who) else ""


def acting(line: Line) -> Known | None:
    """An older bouncer that truly is here and guards the room, and of which this one was told all that."""
    for known in line.known.values():
        member = known.member
        older = age(member) < age(line.me)
        alive = is_ours(line, member) and member.here and member.died_at is None
        if older and alive and known.active and known.job and known.attributes.get(GUARDING):
            return known
    return None


def is_surplus(line: Line, member: Member) -> bool:
    """Return True if it is younger than this bouncer and, as far as it can know, than another that has arrived."""
    others = [k for k in line.known.values() if is_ours(line, k.member) and k.active and not k.left_told]
    ages = [age(k.member) for k in others if k.attributes.get(GUARDING) or k.attributes.get(STANDING)]
    return any(age(line.me) < other < age(member) for other in ages)


def follows(view: View, meaning: Meaning, who: Known) -> bool:
    """Return True if it is the avatar of an agent that was sent away, or is being sent away with it."""
    principal = view.claims(who)
    if not principal or view.contested(who):
        return False
    if any(member.identity == principal for _, member in view.line.sent):
        return True
    leaving = [k for k in view.agents if k.member.identity == principal and k.member.sid in view.line.decided]
    return any(not unfounded(view, meaning, k) for k in leaving)


def unfounded(view: View, meaning: Meaning, who: Known) -> str:
    """Why no policy can have it evicted; "" if one can."""
    rules = [rule for rule in meaning.rules if rule.evicts and rule.judges(who)]
    if view.attached(who) or view.contested(who):
        rules = [rule for rule in rules if rule.policy in JUDGES_AVATARS]
    dues = {rule: view.due(rule, who) for rule in rules}
    founded = {rule.policy for rule, due in dues.items() if due <= view.now + EPSILON}
    # What was decided together is carried out together, whatever comes of the conversation meanwhile.
    founded |= {rule.policy for rule in rules if rule.policy == view.line.group.get(who.member.sid)}
    if not founded:
        return "nothing wants it out now: " + (", ".join(f"{r.policy} at {due:.3f}" for r, due in dues.items()) or "-")
    if is_last(view, meaning, who) and not founded & CLEARS_ROOM:
        return "it is the last agent"
    return ""


def is_last(view: View, meaning: Meaning, who: Known) -> bool:
    """Return True if it is kept for the people who are here, as their last agent."""
    if not meaning.keep_last or not view.humans or view.orphan(who):
        return False
    # An orphaned avatar is no company, nor is an agent being sent away. One that stayed all the same, say as only its
    # identity was a job's, does.
    sent = {member.sid for _, member in view.line.sent if not member.here} | view.line.leaving
    others = [k for k in view.agents if k is not who and k.member.sid not in sent and not view.orphan(k)]
    return all(meaning.exempts(k) for k in others)


def may_be_kept(line: Line, meaning: Meaning, due: Container[str]) -> bool:
    """Return True if one of those that are due stays for the people who are here, as there is no other agent."""
    view = View(line)
    company = [k for k in view.agents if not (meaning.exempts(k) or view.orphan(k))]
    return meaning.keep_last and bool(view.humans) and all(k.member.sid in due for k in company)


def interrupted(view: View, who: Known) -> bool:
    """Return True if it may still have been speaking when a person finished: then no one waits for its answer."""
    if not who.speech or who.speech[-1].until is None:
        return False
    ended = who.speech[-1].until
    people = [k for k in view.all if view.person(k)]
    return any(s.until is not None and 0 <= s.until - ended <= HEARD_LATE for k in people for s in k.speech)


def just_came(view: View, who: Known) -> bool:
    """Return True if a person ended about when it joined: our clock may date its joining after that."""
    joined = who.since
    people = [k for k in view.all if view.person(k)]
    return any(s.until is not None and 0 <= s.until - joined <= view.line.skew for k in people for s in k.speech)


def fell_silent(view: View, at: float) -> bool:
    """Return True if an agent was heard to end around that instant: then its last speech may have been before it."""
    ends = (s.until for k in view.group for s in k.speech if s.until is not None)
    return any(abs(end - at) <= HEARD_LATE for end in ends)


def forgotten(before: Room, after: Room, *, frozen: bool) -> Iterator[str]:
    """What a bouncer knew of those with an unchanged sid, and knows no more.

    If its process was `frozen` meanwhile, it rightly doubts what it heard: then it may take no one for alive.
    """
    then = {p.sid: p for p in before.participants if p.sid != before.me}
    for p in after.participants:
        if was := then.get(p.sid):
            for fact, lost in (
                ("its dispatch", was.dispatch not in ("", p.dispatch)),
                ("its name", was.agent_name != p.agent_name and was.dispatch == p.dispatch),
                ("that it is hidden", was.hidden and not p.hidden),
                ("that it is no human", p.is_human and not was.is_human),
                ("that it was alive", p.alive_at < was.alive_at and not frozen),
                ("that it was active", p.active_at < was.active_at),
                ("that its job was replaced", was.replaced and not p.replaced),
            ):
                if lost:
                    yield f"{fact}, of {p.identity}/{p.sid}"


def lacked(line: Line) -> set[str]:
    """The sids that the last list lacked, and that no event has told to have left."""
    return {s for s, k in line.known.items() if (k.lacked_at is not None or s in line.last_lacked) and not k.left_told}


def overdue(line: Line, meaning: Meaning, since: float) -> dict[str, str]:
    """Those who should be gone, by sid: nothing speaks against it, and they were due before that instant."""
    owed = _owed(View(line, owing=True), meaning, since)
    return {sid: next(iter(what.values())) for sid, what in owed.items()}


def undeniable(line: Line, meaning: Meaning, since: float, leaving: AbstractSet[str] = frozenset()) -> dict[str, str]:
    """Those who should be gone whatever the bouncer takes for so.

    It may not know yet that a person left; those that the last list lacked, and those that are `leaving`, may be gone.
    """
    if not (owed := _owed(View(line, owing=True), meaning, since)):
        return {}
    lacking = lacked(line)
    gone = lacking | leaving | {member.sid for _, member in line.sent if not member.here}
    principals = {line.known[sid].member.identity for sid in gone}
    gone |= {sid for sid, k in line.known.items() if line.claims(k) in principals}

    told = View(line, owing=True, told=True)

    def reason(sid: str) -> str:
        """Why it should be gone under one rule, in whichever of these views: the bouncer may mix what they show."""
        who = line.known[sid]
        views = (told, View(line, owing=True, without=frozenset(gone - {sid})))
        # An avatar's heir is one only if the avatar that the last list lacked is gone.
        unsure = sid in lacking or (lacking and line.claims(who))
        if unsure or any(who not in view.agents or unfounded(view, meaning, who) for view in views):
            return ""
        owes = [_owes(view, meaning, who, since) for view in views]
        return next((what for rule, what in owed[sid].items() if all(rule in each for each in owes)), "")

    return {sid: what for sid in owed if (what := reason(sid))}


def _owed(view: View, meaning: Meaning, since: float) -> dict[str, dict[Rule | None, str]]:
    return {
        who.member.sid: what
        for who in view.agents
        if who.member.here
        and (what := _owes(view, meaning, who, since))
        and not objection(view.line, meaning, who.member)
    }


def _owes(view: View, meaning: Meaning, who: Known, since: float) -> dict[Rule | None, str]:
    """Why it was due before that instant, for certain: by rule, or by None whichever."""
    if not who.listed_at and passed_for_person(who):
        # A bot of another kind is a person until a list shows its grant.
        return {}
    if view.line.owed.get(who.member.sid) is meaning:
        return {None: f"{who.member}, since another has left that was decided on with it"}
    # Whether a stay goes on isn't certain while a removal is on its way, or a job unlisted.
    if any(k.since != k.member.joined_at for k in (who, *view.here)):
        return {}
    # Of those with plain tokens that claim one principal, all but one are people.
    if any(view.contested(k) and not is_agent(k.member) for k in view.here):
        return {}
    owes: dict[Rule | None, str] = {}
    for rule in meaning.rules:
        if not rule.evicts or not rule.judges(who) or _unknown(view, meaning, rule, who):
            continue
        due = view.due(rule, who)
        if rule.policy in ("duplicates", "max_agents"):
            alike = [k for k in view.group if k.agent_name == who.agent_name]
            if len({k.job is None for k in alike}) > 1:
                continue
            # The bouncer may not take what we know for a sign that the elder is alive.
            due = max(due, who.since + max(JOB_KNOWN_IN, rule["wait_for_life"]))
            if rule.options.get("keep") == "newest":
                # The younger one that stays may turn out to serve someone else.
                due = max([due, *(k.since + JOB_KNOWN_IN for k in view.alike(who, rule) if k.job is None)])
        if due < since and not (rule.policy == "lone_chatter" and fell_silent(view, due)):
            owes[rule] = f"{who.member} by {rule.policy} since {due:.3f}"
    return owes


def _unknown(view: View, meaning: Meaning, rule: Rule, who: Known) -> bool:  # noqa: PLR0911 - one for each policy
    """Return True if the bouncer may not know what the rule goes by."""
    # What an avatar did isn't kept while it has a principal, and a bot is a person until it is listed. Whether another
    # wrote in its name isn't known; nor is what it did while its state was on its way.
    if rule.policy in HEARS and (view.claims(who) or who.member.kind is not Kind.AGENT or who.wrote):
        return True
    if view.contested(who) and rule.policy not in JUDGES_AVATARS:
        return True
    match rule.policy:
        case "stuck_state" if who.acted_at > who.state_at:
            return True
        case "superseded" if any(passed_for_person(k) and not k.listed_at for k in view.here):
            # Its successor may be a bot.
            return True
        case "crosstalk":
            # What an older one says may be a corpse's last word, and what is told late proves no life.
            since = max(who.since, view.watching_since, view.line.server.thawed_at)
            # What ended is remembered for a while only, which a budget may outlast.
            if who.speaking_since is None or any(
                age(k) < age(who) and not is_heard(view, k) and k.alive_at < since + 2 * BATCH + 1 for k in view.agents
            ):
                return True
        case "unresponsive" if interrupted(view, who) or just_came(view, who):
            return True
        case _:
            pass
    return rule.policy not in CLEARS_ROOM and is_last(view, meaning, who)
