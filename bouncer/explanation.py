"""Why a participant is still in its room, or no longer: a view in, sentences for a ticket out.

The view is the one of guard/view.py, as a bouncer answered with it or as it was seen from outside. The sentences are
plain: what is another's text is escaped, and each stands in a line of its own.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bouncer.dates import clock, span, ticking, unix
from bouncer.plain import plain

Facts = Mapping[str, Any]

GUARD_WORDS: Mapping[str, str] = {
    "exempt": "it is exempt",
    "doubt": "the verdict is in doubt",
    "keep_last_agent": "it is the last agent while a person is in the room (`keep_last_agent`)",
    "max_per_minute": "this minute's evictions are used up (`max_per_minute`)",
}
"""What holds a verdict back, in words."""
STANDING_WORDS: Mapping[str, str] = {
    "acting": "the bouncer acts",
    "standing_by": "the bouncer stands by: an older one guards the room",
    "blind": "the bouncer has lost its connection",
    "unconfigured": "the bouncer has no valid configuration",
    "unsurveyed": "the bouncer is connected, and reads who is there",
    "off": "the bouncer does nothing: the mode is off",
    "closed": "the bouncer has ended",
}
"""What a bouncer is in its room, in words."""
NAME_ATTRIBUTES = frozenset({"lk.agent.state", "lk.agent_name", "lk.agent.name"})
"""The attributes that are facts of their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What there is to say about one participant."""

    found: str
    """`present`, `left` or `unknown`."""
    title: str
    summary: str
    """Why it is still here, or isn't, in one or two sentences."""
    facts: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()
    """What the rules in force say about it."""
    told: tuple[str, ...] = ()
    """What the bouncer has told of it lately."""
    unknown: tuple[str, ...] = ()
    """What only a bouncer would know."""

    def parts(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Return all but the title and the summary: headings, each with its lines, where there are any."""
        named = {
            "Facts": self.facts,
            "Rules": self.rules,
            "What the bouncer told": self.told,
            "Not known from outside": self.unknown,
        }
        return tuple((heading, lines) for heading, lines in named.items() if lines)

    def sentences(self) -> tuple[str, ...]:
        """Return all of it, a sentence or two a line."""
        return (self.title, self.summary, *self.facts, *self.rules, *self.told, *self.unknown)


def explain(view: Facts, identity: str, *, at: str) -> Explanation:
    """Return what is known about the participant with this identity; `at` is the date of the view."""
    who = next((each for each in view["participants"] if each["identity"] == identity), None)
    earlier = [each for each in view["departed"] if each["identity"] == identity]
    title = plain(f"“{identity}” in room “{view['room']}” ({view['room_sid']}), {_source(view)} {_moment(at)}.")
    records = [each for each in view.get("recent", ()) if each.get("identity") == identity]
    told = _plainly(f"At {clock(each['at'], at)}: {record_words(each)}." for each in records)
    if who is None:
        summary = _left(earlier[0], view, at) if earlier else _never_seen(view)
        facts = tuple(_stay(each, at) for each in earlier)
        return Explanation(
            found="left" if earlier else "unknown",
            title=title,
            summary=plain(summary),
            facts=_plainly(facts),
            told=told,
        )
    verdicts = [each for each in view["verdicts"] if each["sid"] == who["sid"]]
    return Explanation(
        found="present",
        title=title,
        summary=plain(_summary(who, verdicts, view, at)),
        facts=_plainly((*_facts(who, view, at), *(_stay(each, at) for each in earlier))),
        rules=_plainly(_rules(who, verdicts, view, at)),
        told=told,
        unknown=_plainly(_unknown(view)),
    )


def verdict_words(verdict: Facts, at: str) -> str:  # noqa: PLR0911 - a return for each status
    """Return in a few words what becomes of a verdict: `due in 45 s`, `held back: it is exempt (its identity)`."""
    due_in = unix(verdict["due_at"]) - unix(at)
    match verdict["status"]:
        case "pending" if verdict["held_by"]:
            return f"due in {span(due_in)}, and then held back: {_guard(verdict)}"
        case "pending":
            return f"due in {span(due_in)}"
        case "held":
            return f"due for {span(-due_in)}, held back: {_guard(verdict)}"
        case "leaving":
            return "being evicted" if "sent_at" in verdict else "about to be evicted"
        case "retrying":
            return "due; the last attempt failed, and another follows"
        case "reported":
            return "due, only reported"
        case _:
            return "due now"


def _plainly(lines: Any) -> tuple[str, ...]:
    return tuple(plain(line) for line in lines)


def _guard(verdict: Facts) -> str:
    words = GUARD_WORDS.get(verdict["held_by"], verdict["held_by"])
    more = verdict.get("why") or (verdict["doubt"] if verdict["held_by"] == "doubt" else "")
    return f"{words} ({more})" if more else words


def _source(view: Facts) -> str:
    return f"as the bouncer {view['bouncer']} saw it on" if view["standing"] else "as the server listed it on"


def _moment(at: str) -> str:
    return f"{at[:10]} at {at[11:19]} UTC"


def _when(text: str, at: str) -> str:
    """Return a date with how long ago it was."""
    return f"at {clock(text, at)}, {span(unix(at) - unix(text))} ago"


def _since(text: str, at: str) -> str:
    return f"since {clock(text, at)}, for {span(unix(at) - unix(text))}"


def _left(stay: Facts, view: Facts, at: str) -> str:
    if "evicted_at" in stay:
        return f"It was evicted under {stay['policy']} because it {stay['reason']}."
    who = f"The bouncer {view['bouncer']}"
    return f"It left {_when(stay['left_at'], at)}. {who} didn't evict it: it left by itself, or another removed it."


def _stay(stay: Facts, at: str) -> str:
    stayed = span(unix(stay["left_at"]) - unix(stay["joined_at"]))
    named = f", an agent named “{stay['agent_name']}”," if stay["agent_name"] else ""
    sent = ""
    if "evicted_at" in stay:
        sent = f" Its removal was sent at {clock(stay['evicted_at'], at)}, under {stay['policy']}: it {stay['reason']}."
    return f"Its connection {stay['sid']}{named} left {_when(stay['left_at'], at)}, after {stayed}.{sent}"


def _never_seen(view: Facts) -> str:
    if view["standing"]:
        return "It isn't in the room, and the bouncer remembers no one of that identity that left."
    return "It isn't in the room. Only a bouncer in the room would remember whether it was, and why it left."


def _summary(who: Facts, verdicts: list[Facts], view: Facts, at: str) -> str:
    if who["role"] != "agent" and who["role"] != "avatar":
        return {
            "person": "It is a person, and a bouncer never removes a person.",
            "bouncer": "It is a bouncer, and no rule evicts a bouncer.",
        }.get(who["role"], "It is neither an agent nor a person to a bouncer, and is never evicted.")
    return " ".join(filter(None, (_spared(view), _why_here(who, verdicts, view, at))))


def _spared(view: Facts) -> str:  # noqa: PLR0911 - a return for each reason
    """Return why nothing at all is evicted here; empty if it isn't so."""
    wrong = "; ".join(f"{each['layer']}: {each['path']}: {each['message']}" for each in view["problems"])
    if view["configuration"] is None:
        return "There is no valid configuration, so nothing is evicted." + (
            f" It was refused: {wrong}." if wrong else ""
        )
    if not view["guarded_by"] and not view["standing"]:
        return "No bouncer guards the room, so nothing is evicted."
    if view["mode"] == "off":
        return "The mode is `off`, so nothing is judged."
    if view["standing"] == "standing_by":
        return "This bouncer stands by: an older one guards the room."
    if view["standing"] in ("blind", "unsurveyed"):
        return "The bouncer has just connected, or is reconnecting, and decides nothing until it knows the room again."
    if view["mode"] == "dry_run":
        return "The mode is `dry_run`, so evictions are only told."
    return ""


def _why_here(who: Facts, verdicts: list[Facts], view: Facts, at: str) -> str:  # noqa: PLR0911 - a return for each status
    if view["configuration"] is None or view["mode"] == "off":
        return ""
    if "joining" in who:
        return "It is still joining, and isn't judged before it is active."
    order = ("leaving", "due", "covered", "retrying", "held", "reported", "pending")
    ranked = sorted(verdicts, key=lambda each: order.index(each["status"]))
    if not ranked:
        extra = " It leaves together with its principal." if who["role"] == "avatar" else ""
        return f"No rule that was judged asks it to leave.{extra}"
    first = ranked[0]
    ground = f"under {first['policy']}, because it {first['reason']}"
    match first["status"]:
        case "leaving" if "sent_at" in first:
            return f"It is being evicted {ground}: the removal went out {_when(first['sent_at'], at)}."
        case "leaving":
            return f"It is about to be evicted {ground}."
        case "retrying":
            retry_in = span(unix(first["retry_at"]) - unix(at))
            return f"It is due {ground}; the last attempt failed, and the next follows in {retry_in}."
        case "held":
            return f"It has been due {_since(first['due_at'], at)}, {ground}. That is held back: {_guard(first)}."
        case "reported":
            return f"It has been due {_since(first['due_at'], at)}, {ground}. That is only reported."
        case "pending":
            left = span(unix(first["due_at"]) - unix(at))
            ahead = f"It is not due yet: it has until {clock(first['due_at'], at)}, {left} more."
            if first["held_by"]:
                return f"{ahead} Then it is due {ground}. That will be held back: {_guard(first)}."
            return f"{ahead} Then it is {'evicted' if first['action'] == 'evict' else 'reported'} {ground}."
        case _:
            return f"It is due now {ground}."


def _facts(who: Facts, view: Facts, at: str) -> Iterator[str]:  # noqa: C901, PLR0912 - one fact after the other
    yield _identity(who)
    yield f"It joined {_when(who['joined_at'], at)}. Its connection is {who['sid']}."
    if "evicted_at" in who:
        yield f"An agent of its identity was evicted {_when(who['evicted_at'], at)}."
    if "joining" in who:
        yield "It is not active yet."
    if "on_behalf_of" in who:
        yield f"It publishes on behalf of “{who['on_behalf_of']}”."
    if "principal_left_at" in who:
        yield f"That principal left {_when(who['principal_left_at'], at)}."
    if "contested" in who:
        yield "Several participants claim the same principal, so it is uncertain which one is its avatar."
    if "serves" in who:
        yield f"Its job serves the participant “{who['serves']}”."
    if "replaced" in who:
        yield "A newer job of its dispatch has been seen."
    if "unlisted" in who:
        yield "The server doesn't list its job with any dispatch yet."
    if "state" in who:
        yield f"Its state is “{who['state']}”" + (f", {_since(who['state_at'], at)}." if "state_at" in who else ".")
    if "ringing" in who:
        yield "Its call is not answered yet."
    if "audible" in who:
        yield "Its sound can be heard." if who["audible"] else "It has sound that can't be heard."
    if "speaking_since" in who:
        yield f"It has been speaking {_since(who['speaking_since'], at)}."
    elif "spoke_at" in who:
        yield f"It last spoke until {clock(who['spoke_at'], at)}, {span(unix(at) - unix(who['spoke_at']))} ago."
    if "avatar_sounds" in who:
        yield "Its avatar is heard now."
    if "busy" in who:
        yield "It is at work now."
    elif "active_at" in who:
        yield f"It last did something {_when(who['active_at'], at)}."
    if "alive_at" in who:
        yield f"Its last sign of life came {_when(who['alive_at'], at)}."
    if "unanswered_since" in who:
        yield f"A person spoke until {clock(who['unanswered_since'], at)}, and it has not reacted since."
    if "chatting_since" in who:
        yield f"It has spoken with no person speaking {_since(who['chatting_since'], at)}."
    if "unseen" in who:
        yield f"Its silence proves nothing: {who['unseen']}."
    if "exempt" in who:
        yield f"It is exempt because of {who['exempt']}."
    for name, attribute in who.get("attributes", {}).items():
        if name not in NAME_ATTRIBUTES:
            yield f"Its attribute “{name}” has been “{attribute['value']}” since {clock(attribute['at'], at)}."
    if "watching_since" in view:
        yield f"The room has been watched without a gap {_since(view['watching_since'], at)}."
    if "people_left_at" in view:
        yield f"The last person left {_when(view['people_left_at'], at)}."


def _identity(who: Facts) -> str:
    kind = f"of kind {who['kind']}"
    match who["role"]:
        case "agent" | "avatar" as role:
            named = f" named “{who['agent_name']}”" if who["agent_name"] else " without an agent name"
            job = f", a job of dispatch {who['dispatch_id']}" if "dispatch_id" in who else ""
            return f"It is an {role}{named if role == 'agent' else ''}, {kind}{job}."
        case "bouncer":
            fleet = "another fleet's bouncer" if "foreign" in who else "a bouncer"
            return f"It is {fleet} that {'guards' if 'guarding' in who else 'does not guard'} the room."
        case "person":
            return f"It is a person, {kind}."
        case _:
            hidden = ", hidden" if "hidden" in who else ""
            return f"It counts as nobody, {kind}{hidden}."


def _rules(who: Facts, verdicts: list[Facts], view: Facts, at: str) -> Iterator[str]:
    if who["role"] not in ("agent", "avatar") or view["mode"] == "off":
        return
    for each in verdicts:
        act = " Its action is to report." if each["action"] == "report" else ""
        words = verdict_words(each, at)
        yield f"{each['policy']}: it {each['reason']}. Due at {clock(each['due_at'], at)} ({words}).{act}"
    told = {each["policy"] for each in verdicts}
    unjudged = {rule["policy"] for rule in view["rules"] if rule["watches"]} if not view["standing"] else set()
    silent = [rule["policy"] for rule in view["rules"] if rule["policy"] not in told | unjudged]
    if silent:
        yield f"Nothing against it under {', '.join(silent)}."
    if unjudged:
        yield f"Not judged, since only a bouncer in the room can: {', '.join(sorted(unjudged))}."


def _unknown(view: Facts) -> Iterator[str]:
    for each in view.get("unknown_facts", ()):
        needed = f" ({', '.join(each['policies'])})" if each["policies"] else ""
        yield f"Only a bouncer would know {each['fact']}{needed}."


def record_words(record: Facts) -> str:
    """Return a record of what a bouncer has told in one line, without its date."""
    who = f"{record['identity']} " if "identity" in record else ""
    ground = f"under {record['policy']}: it {record['reason']}" if "reason" in record else ""
    match record["event"]:
        case "notice":
            said = f"{who}has {span(record['due_in'])} left {ground}"
        case "evicted":
            said = f"{who}was evicted {ground}"
        case "reported":
            said = f"{who}{'would be evicted' if record.get('outcome') == 'would' else 'is reported'} {ground}"
        case "held":
            said = f"{who}is held back, since {_guard({'doubt': '', **record})}; due {ground}"
        case "failed":
            said = f"{who}could not be removed ({record['outcome']}), {ground}"
        case "called_off":
            said = f"{who}is not evicted after all: {record.get('why') or 'it had left'}"
        case "config_error":
            errors = [f"{each['path']}: {each['message']}" for each in record["errors"]]
            said = f"a configuration was refused: {'; '.join(errors)}"
        case "configured":
            said = f"a configuration is in force, in the mode {record['mode']}"
        case "standing":
            said = STANDING_WORDS.get(record["standing"], f"the bouncer is {record['standing']}")
        case "handed_over":
            said = f"the room was handed over to {record['successor']}"
        case "fault" | "trouble" as event:
            said = f"{event}: {record.get('policy') or record.get('doing')}: {record['error']}"
        case "guarding":
            said = "the room has a bouncer"
        case event:
            said = str(event).replace("_", " ")
    return plain(said)


def doing(who: Facts, at: str) -> str:
    """Return in a few words what a participant is doing: `listening, idle 1:04`."""
    words = []
    if "joining" in who:
        words.append("joining")
    if "ringing" in who:
        words.append("ringing")
    if state := who.get("state", ""):
        words.append(state)
    if "speaking_since" in who:
        words.append(f"speaking {ticking(unix(at) - unix(who['speaking_since']))}")
    elif "busy" not in who and "active_at" in who and who["role"] == "agent":
        words.append(f"idle {ticking(unix(at) - unix(who['active_at']))}")
    elif "spoke_at" in who:
        words.append(f"silent {ticking(unix(at) - unix(who['spoke_at']))}")
    return plain(", ".join(words))


def outlook(who: Facts, verdicts: list[Facts], at: str) -> tuple[str, str]:
    """Return in a few words what is ahead of a participant, and how urgent that is.

    Returns: the words, such as `idle_timeout in 1:04`; and `now`, `soon`, `held` or an empty text.
    """
    mine = [each for each in verdicts if each["sid"] == who["sid"]]
    for statuses, urgency in ((("leaving", "due", "covered", "retrying"), "now"), (("held", "reported"), "held")):
        for each in mine:
            if each["status"] in statuses:
                verb = each["held_by"] or {"leaving": "leaving", "reported": "reported"}.get(each["status"], "now")
                return f"{each['policy']}: {verb}", urgency
    ahead = sorted((each for each in mine if each["status"] == "pending"), key=lambda each: str(each["due_at"]))
    for each in ahead:
        if not each["held_by"]:
            return f"{each['policy']} in {ticking(unix(each['due_at']) - unix(at))}", "soon"
    return ("exempt" if "exempt" in who else "", "held" if "exempt" in who else "")
