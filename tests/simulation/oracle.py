"""Who may be evicted, and who has to be gone: the policies' own words, applied to what truly happened.

Independent of the engine: it reads what the simulated server knows and what each bouncer was told, with the true dates.
A bouncer may learn of things late, so it may act later than the truth would have it, and never earlier. What speaks for
an eviction has to be so as far as the bouncer could know; what speaks against it counts once it was told.
"""

from collections.abc import Iterator
from math import inf

from bouncer.room import Kind, Room
from tests.simulation.livekit import GUARDING, NAME, Known, Line, Member, is_agent
from tests.simulation.meaning import CLEARS_ROOM, HEARS, Meaning, Rule, matches

EPSILON = 0.003
"""Seconds by which milliseconds may be rounded."""
UNKNOWN_FOR = 6.0
"""Seconds for which it can't be known of which dispatch a job is."""
TOGETHER = 20.0
"""Seconds that evictions which were decided together may take: 3 s a call, and 3.5 s for an agent to leave."""
HEARD_LATE = 0.8
"""Seconds by which it is told late at most that somebody is heard or not."""
HUMANS = {Kind.STANDARD, Kind.SIP, Kind.CONNECTOR, Kind.BRIDGE}


def is_human(member: Member) -> bool:
    """Whether it is a person."""
    return member.kind in HUMANS and not member.grant and not member.simulated


def is_bouncer(line: Line, member: Member) -> bool:
    """Whether it really is a bouncer of ours, and that can be known.

    Once its dispatch is deleted its job is over, and only who saw it listed knows whose it was.
    """
    known, dispatch = line.known.get(member.sid), member.dispatch
    if dispatch is None or dispatch.agent_name != NAME or not member.hidden:
        return False
    return dispatch.id in line.server.dispatches or (known is not None and known.job is not None)


def age(who: Known | Member) -> tuple[int, str]:
    """Sorts the oldest first."""
    member = who.member if isinstance(who, Known) else who
    return (round(member.joined_at * 1000), member.sid)


def name(known: Known) -> str:
    """The agent name: the dispatch's word, else what it called itself at first sight."""
    return known.job.agent_name if known.job else known.name


def claims(known: Known) -> str:
    """Of whom it may be the avatar."""
    avatar = known.member.kind is Kind.AGENT and not known.member.simulated and not known.name and not known.job
    return known.claims if avatar and known.claims != known.member.identity else ""


class View:
    """The room as one bouncer may see it at one instant."""

    def __init__(self, line: Line, *, together: bool = False) -> None:
        """Take it down; `together` with those who were sent away a moment ago.

        Who is sent away together is judged as if all were still here: one alone would be no chatter, and no hand-off.
        """
        self.line = line
        self.now = line.server.loop.time()
        self.all = list(line.known.values())
        self.here = [k for k in self.all if not k.left_told and (k.member.here or k.lacked_at is None)]
        """Who may be believed to be here: whose leaving was not told, and not to be seen in the last list."""
        self.humans = [k for k in self.all if is_human(k.member) and k.member.here and not k.left_told]
        """The people who truly are here, and whom the bouncer was told of."""
        self.principals = {
            k.member.identity
            for k in self.here
            if is_agent(k.member) and not is_bouncer(line, k.member) and not claims(k)
        }
        self.agents = [
            k
            for k in self.here
            if is_agent(k.member)
            and k.active
            and k.member is not line.me
            and not is_bouncer(line, k.member)
            and not may_be_bouncer(line, k)
            and not self.attached(k)
        ]
        gone = {member.sid for at, member in line.sent if at > self.now - TOGETHER} if together else set()
        self.group = self.agents + [k for k in self.all if k.member.sid in gone and k not in self.agents]

    def attached(self, known: Known) -> bool:
        """Whether it is the avatar of an agent that is here."""
        return claims(known) in self.principals and self.first_of(known)

    def orphan(self, known: Known) -> bool:
        """Whether it is the avatar of nobody who is here."""
        return claims(known) != "" and self.first_of(known) and not self.attached(known)

    def first_of(self, known: Known) -> bool:
        """Whether it is the oldest that names this principal: each has one avatar."""
        return not any(claims(k) == claims(known) and age(k) < age(known) for k in self.here)

    def due(self, rule: Rule, who: Known) -> float:
        """The earliest instant by which the policy may want it out; inf for never."""
        return min((due for due in DUE[rule.policy](self, rule, who)), default=inf)

    def alike(self, who: Known, rule: Rule) -> list[Known]:
        """Those with the same key, itself included."""
        key = rule["key"]

        def value(known: Known) -> tuple[str, str]:
            of = name(known) if key == "agent_name" else known.attributes.get(key.removeprefix("attribute:"), "")
            return (of, known.job.publisher if known.job else "")

        return [k for k in self.group if value(k) == value(who) and (value(who)[0] or rule["unnamed"])]

    def surplus(self, who: Known, group: list[Known], most: int, grace: float, *, newest: bool) -> Iterator[float]:
        """When it has to go as one too many in a group of which so many may stay, if it is."""

        def replaced(known: Known) -> bool:
            return known.job is not None and known.job.job in self.line.replaced

        def better(known: Known) -> bool:
            if replaced(known) != replaced(who):
                return replaced(who)
            return age(known) > age(who) if newest or replaced(who) else age(known) < age(who)

        kept = [k for k in group if better(k)]
        if len([k for k in kept if k in self.agents and k.member.sid not in self.line.leaving]) < most:
            # Nobody leaves for the sake of those who left.
            return
        joined = who.member.joined_at
        due = max(joined, sorted(k.member.joined_at for k in kept)[most - 1]) + grace
        proven = [k for k in kept if k.member.joined_at > joined or max(k.alive_at, k.acted_at) > joined]
        if unlisted(who) and len(proven) < most:
            due = max(due, joined + UNKNOWN_FOR)
        yield due

    def watched(self, at: float) -> float:
        """A date that is known by watching only."""
        return max(at, self.line.watching_since)


def unlisted(known: Known) -> bool:
    """Whether it is a job by its identity, and no dispatch is known to have it."""
    return known.job is None and known.member.identity.startswith("agent-AJ_")


def may_be_bouncer(line: Line, known: Known) -> bool:
    """Whether it looks like a bouncer, and the jobs were not asked for so late that it would be among them."""
    alike = unlisted(known) and known.member.hidden
    return alike and line.jobs_asked_at < known.member.joined_at + UNKNOWN_FOR


def allow_list(view: View, rule: Rule, who: Known) -> Iterator[float]:  # noqa: ARG001 - as all of them
    """Its name is on no list."""
    if not matches(name(who), rule["agent_names"]):
        yield who.member.joined_at + rule["grace"]


def crosstalk(view: View, rule: Rule, who: Known) -> Iterator[float]:
    """It speaks, and so does an older one."""
    if who.speaking_since is not None:
        for other in view.agents:
            if age(other) < age(who) and other.speaking_since is not None:
                yield view.watched(max(other.speaking_since, who.speaking_since)) + rule["overlap"]


def deny_list(view: View, rule: Rule, who: Known) -> Iterator[float]:  # noqa: ARG001 - as all of them
    """Its name or identity is on a list."""
    named = name(who) != "" and matches(name(who), rule["agent_names"])
    if named or matches(who.member.identity, rule["identities"]):
        yield who.member.joined_at + rule["grace"]


def duplicates(view: View, rule: Rule, who: Known) -> Iterator[float]:
    """Others have its name, and a better right."""
    group = view.alike(who, rule)
    yield from view.surplus(who, group, rule["max"], rule["grace"], newest=rule["keep"] == "newest")


def empty_room(view: View, rule: Rule, who: Known) -> Iterator[float]:
    """No human is here."""
    joined = who.member.joined_at
    if view.humans:
        return
    # Who was only ever announced may have been a bot: the agent grant is shown in lists only.
    people = [k.member for k in view.all if is_human(k.member) and (k.listed or k.member.kind is not Kind.STANDARD)]
    if gone := [member.left_at for member in people if member.left_at is not None]:
        yield max(view.watched(max(gone)), joined) + rule["grace"]
    else:
        yield max(view.line.watching_since, joined) + rule["never_joined"]


def human_takeover(view: View, rule: Rule, who: Known) -> Iterator[float]:
    """An operator is here."""
    for other in view.here:
        by_name = not rule["identity"] or matches(other.member.identity, rule["identity"])
        by_attributes = all(
            key in other.attributes and matches(other.attributes[key], [glob])
            for key, glob in rule["attributes"].items()
        )
        if is_human(other.member) and other.active and by_name and by_attributes:
            yield max(other.member.joined_at, who.member.joined_at) + rule["grace"]


def idle_timeout(view: View, rule: Rule, who: Known) -> Iterator[float]:
    """It does nothing."""
    busy = who.state in ("thinking", "speaking") or who.speaking_since is not None
    seen = who.shows or not who.member.audio or who.heard is not None
    if not busy and seen:
        yield view.watched(max(who.acted_at, view.line.coming.get(who.member.sid, 0.0))) + rule["timeout"]


def lone_chatter(view: View, rule: Rule, who: Known) -> Iterator[float]:
    """Two agents or more talk, and no human."""
    silent_since = view.line.watching_since
    for known in view.all:
        if is_human(known.member):
            for speech in known.speech:
                silent_since = max(silent_since, inf if speech.until is None else speech.until)
    spoken = silent_since > view.line.watching_since
    spoke: dict[str, list[tuple[float, float]]] = {}
    for known in view.group:
        # Of what began before we were connected again it isn't known when; it is once a person has spoken since.
        for speech in (s for s in known.speech if s.told_at >= view.line.watching_since or spoken):
            until = inf if speech.until is None else speech.until
            if until > silent_since:
                spoke.setdefault(known.member.sid, []).append((max(speech.since, silent_since), until))
    if who.member.sid not in spoke or len(spoke) < 2:
        return
    end = sorted(min(speech)[0] for speech in spoke.values())[1] + rule["timeout"]
    oldest = min((k for k in view.group if k.member.sid in spoke), key=age)
    if rule["keep"] == "none" or who is not oldest:
        yield from (max(end, since) for each in spoke.values() for since, until in each if until >= end)


def max_agents(view: View, rule: Rule, who: Known) -> Iterator[float]:
    """There are enough."""
    yield from view.surplus(who, view.group, rule["max"], rule["grace"], newest=False)


def max_lifetime(view: View, rule: Rule, who: Known) -> Iterator[float]:  # noqa: ARG001 - as all of them
    """It has been here for long enough."""
    yield who.member.joined_at + rule["limit"]


def no_return(view: View, rule: Rule, who: Known) -> Iterator[float]:
    """It was evicted, and is back."""
    joined = who.member.joined_at
    for at, member in view.line.sent:
        # Our clock may date its joining later than the server does.
        back = member.sid in view.line.evicted - {who.member.sid} and member.identity == who.member.identity
        if back and at - EPSILON <= joined + view.line.skew and joined - at < rule["window"]:
            yield joined


def orphaned_avatar(view: View, rule: Rule, who: Known) -> Iterator[float]:
    """The agent whose avatar it is, is gone."""
    principal = claims(who)
    if principal and view.first_of(who) and not view.attached(who):
        agents = [k.member for k in view.all if k.member.identity == principal and is_agent(k.member)]
        gone = [member.left_at for member in agents if member.left_at is not None]
        yield view.watched(max([*gone, who.member.joined_at])) + rule["grace"]


def stuck_state(view: View, rule: Rule, who: Known) -> Iterator[float]:
    """It is in one state for too long."""
    if who.state in rule["limits"]:
        yield view.watched(who.state_at) + rule["limits"][who.state]


def superseded(view: View, rule: Rule, who: Known) -> Iterator[float]:
    """Its successor has joined."""
    for by, successors in rule["by"].items():
        for other in view.group:
            named = name(who) and name(other) and matches(name(who), [by]) and matches(name(other), successors)
            if named and age(other) > age(who):
                yield other.member.joined_at + rule["grace"]


def unresponsive(view: View, rule: Rule, who: Known) -> Iterator[float]:
    """People spoke, and it did not react."""
    if who.state in ("thinking", "speaking") or who.speaking_since is not None:
        return
    since = max(who.reacted_at, who.member.joined_at, view.line.watching_since)
    for known in view.all:
        if is_human(known.member):
            for speech in known.speech:
                told = who.told_at <= speech.ended_told < inf
                if told and speech.until is not None and speech.until >= since:
                    yield speech.until + rule["timeout"]


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
    """What speaks against evicting somebody at this moment; "" if nothing does."""
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
    if meaning.exempts(member.identity, name(who)):
        return "it is exempt"
    view = View(line)
    if follows(view, meaning, who) or not (reason := unfounded(view, meaning, who)):
        return ""
    return reason if unfounded(View(line, together=True), meaning, who) else ""


def acting(line: Line) -> Known | None:
    """An older bouncer that truly is here and guards the room, and of which this one was told all that."""
    for known in line.known.values():
        member = known.member
        older = age(member) < age(line.me)
        alive = is_bouncer(line, member) and member.here and member.died_at is None
        if older and alive and known.active and known.job and known.attributes.get(GUARDING):
            return known
    return None


def is_surplus(line: Line, member: Member) -> bool:
    """Whether a bouncer is younger than this one and, as far as it can know, than another that guards the room."""
    others = [k for k in line.known.values() if is_bouncer(line, k.member) and k.active and not k.left_told]
    ages = [age(k) for k in others if k.attributes.get(GUARDING)]
    return any(age(line.me) < other < age(member) for other in ages)


def follows(view: View, meaning: Meaning, who: Known) -> bool:
    """Whether it is the avatar of an agent that was sent away, or is being sent away with it."""
    principal = claims(who)
    if not principal:
        return False
    if any(member.identity == principal for _, member in view.line.sent):
        return True
    leaving = [k for k in view.agents if k.member.identity == principal and k.member.sid in view.line.decided]
    return any(not unfounded(view, meaning, k) for k in leaving)


def unfounded(view: View, meaning: Meaning, who: Known) -> str:
    """Why no policy can have it evicted; "" if one can."""
    if view.attached(who):
        return "it is the avatar of an agent that stays"
    rules = [rule for rule in meaning.rules if rule.evicts and rule.judges(name(who))]
    dues = {rule: view.due(rule, who) for rule in rules}
    founded = {rule.policy for rule, due in dues.items() if due <= view.now + EPSILON}
    if not founded:
        return "nothing wants it out now: " + (", ".join(f"{r.policy} at {due:.3f}" for r, due in dues.items()) or "-")
    if meaning.keep_last and view.humans and not founded & CLEARS_ROOM and not view.orphan(who):
        # Nobody is kept company by an orphaned avatar, nor by who is being sent away. Who stayed all the same, say as
        # only its identity was a job's, does.
        sent = {member.sid for _, member in view.line.sent if not member.here} | view.line.leaving
        others = [k for k in view.agents if k is not who and k.member.sid not in sent and not view.orphan(k)]
        if all(meaning.exempts(k.member.identity, name(k)) for k in others):
            return "it is the last agent"
    return ""


def interrupted(view: View, who: Known) -> bool:
    """Whether it may have been heard still when a person was heard to end: then nobody waits for its answer."""
    if not who.speech or who.speech[-1].until is None:
        return False
    ended = who.speech[-1].until
    people = [k for k in view.all if is_human(k.member)]
    return any(s.until is not None and 0 <= s.until - ended <= HEARD_LATE for k in people for s in k.speech)


def just_came(view: View, who: Known) -> bool:
    """Whether a person ended about when it joined: our clock may date its joining after that."""
    joined = who.member.joined_at
    people = [k for k in view.all if is_human(k.member)]
    return any(s.until is not None and 0 <= s.until - joined <= view.line.skew for k in people for s in k.speech)


def fell_silent(view: View, at: float) -> bool:
    """Whether an agent was heard to end around that instant: then its last speech may have been before it."""
    ends = (s.until for k in view.group for s in k.speech if s.until is not None)
    return any(abs(end - at) <= HEARD_LATE for end in ends)


def forgotten(before: Room, after: Room, *, frozen: bool) -> Iterator[str]:
    """What a bouncer knew of those with an unchanged sid, and knows no more.

    If its process was `frozen` meanwhile, it rightly doubts what it heard: then it may take nobody for alive.
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


def overdue(line: Line, meaning: Meaning, since: float) -> Iterator[str]:
    """Those who should be gone: nothing speaks against it, and they were due before that instant."""
    view = View(line)
    for who in view.agents:
        if who.member.here and not objection(line, meaning, who.member):
            for rule in meaning.rules:
                # What an avatar did isn't kept while it has a principal, and a bot is a person until it is listed.
                unknown = (claims(who) or who.member.kind is not Kind.AGENT) and rule.policy in HEARS
                unknown |= rule.policy == "unresponsive" and (interrupted(view, who) or just_came(view, who))
                due = view.due(rule, who) if rule.evicts and rule.judges(name(who)) and not unknown else inf
                if due < since and not (rule.policy == "lone_chatter" and fell_silent(view, due)):
                    yield f"{who.member} by {rule.policy} since {due:.3f}"
                    break
