"""Rooms, rules and histories for property tests, small enough that everything meets everything."""

from collections.abc import Mapping
from dataclasses import MISSING, fields
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from annotated_types import MaxLen
from hypothesis import strategies as st

from bouncer import Glob, Kind, Participant, Policy, Role, Room
from bouncer.decide import Guards, Ledger, Removal
from bouncer.policy import Rule
from bouncer.selectors import Selector
from policies import BUILTIN

instants = st.integers(0, 40).map(float)
"""Few enough that dates coincide and lie on both sides of each other's deadlines."""
names = st.sampled_from(["", "assistant", "support", "bouncer"])
identities = st.sampled_from(["agent-AJ_1", "agent-AJ_2", "agent-AJ_3", "ana", "bob", "rec", "av"])
ATTRIBUTES = ("desk", "role", "sip.callStatus")
SELECTORS = (
    Selector(identity=("agent-*",)),
    Selector(agent_name=("s*",)),
    Selector(attributes={"desk": "1"}),
    Selector(name=("Zo\u00eb",), metadata=("*operator*",)),
)
selections = st.sampled_from([*SELECTORS, SELECTORS[:2], SELECTORS[2:]])
"""Selectors, and lists of them."""
globs = st.lists(st.sampled_from(["*", "agent-*", "rec", "ana", "assistant", "s*", "[ab]*"]), max_size=2).map(tuple)


narrowed: st.SearchStrategy[Any] = st.one_of(st.none(), globs, selections)
"""What `only` may say."""


@st.composite
def participants(draw: st.DrawFn) -> Participant:
    """Draw any participant, with facts that may or may not make sense together."""
    identity = draw(identities)
    joined = draw(instants)
    return Participant(
        sid=f"PA_{identity}",
        identity=identity,
        kind=draw(st.sampled_from([*[Kind.AGENT] * len(Kind), *Kind])),
        role=draw(st.sampled_from([*[Role.AGENT] * len(Role), *Role])),
        agent_name=draw(names),
        dispatch=draw(st.sampled_from(["", "AD_1", "AD_2"])),
        replaced=draw(st.sampled_from([False, False, True])),
        dispatch_metadata=draw(st.sampled_from(["", "task 1", "task 2"])),
        serves=draw(st.sampled_from(["", "", "ana", "bob"])),
        attributes=draw(st.dictionaries(st.sampled_from(ATTRIBUTES), st.sampled_from(["1", "2"]), max_size=2)),
        name=draw(st.sampled_from(["", "Ana", "Zo\u00eb", "Zoe\u0308"])),
        name_at=joined + draw(instants),
        metadata=draw(st.sampled_from(["", '{"role": "operator"}'])),
        metadata_at=joined + draw(instants),
        attributes_at=draw(st.dictionaries(st.sampled_from(ATTRIBUTES), instants)),
        role_at=draw(st.just(0.0) | instants),
        hidden=draw(st.booleans()),
        agent_grant=draw(st.booleans()),
        contested=draw(st.sampled_from([False, False, True])),
        on_behalf_of=draw(st.sampled_from(["", "", "agent-AJ_1", "agent-AJ_2"])),
        active=draw(st.sampled_from([True, True, True, False])),
        joined_at=joined,
        joined_ms=round(joined * 1000),
        age=(round(joined * 1000), round(joined * 1000), f"PA_{identity}"),
        alive_at=joined + draw(instants),
        active_at=joined + draw(instants),
        audible=draw(st.sampled_from([None, True, False])),
        unseen=draw(st.sampled_from(["", "", "unclear"])),
        state=draw(st.sampled_from(["", "initializing", "idle", "listening", "thinking", "speaking"])),
        state_at=joined + draw(instants),
        speaking_since=draw(st.none() | instants),
        spoke_at=draw(st.none() | instants),
        spoke_since=draw(st.none() | instants),
        unanswered_since=draw(st.none() | instants),
        chatting_since=draw(st.none() | instants),
        chatted=draw(st.none() | st.tuples(instants, instants)),
        principal_left_at=draw(st.none() | instants),
    )


rooms = st.builds(
    Room,
    me=st.sampled_from(["", "agent-AJ_1"]),
    participants=st.lists(participants(), min_size=2, max_size=7, unique_by=lambda p: p.identity).map(tuple),
    watching_since=instants,
    humans_left_at=st.none() | instants,
    evicted_at=st.dictionaries(identities, instants, max_size=2),
)


def _option(hint: Any) -> st.SearchStrategy[Any]:  # noqa: PLR0911 - a line for each kind of type
    """Draw a value for an option of any type, in the range where it matters."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint in (Glob, str, Annotated[str, MaxLen(256)]):
        return st.sampled_from(
            [
                "*",
                "agent-*",
                "assistant",
                "s*",
                "1",
                "desk",
                "attribute:desk",
                "agent_name",
                "dispatch_metadata",
                "metadata",
            ]
        )
    if origin is Annotated:
        return _option(arguments[0])
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin in (Union, UnionType):
        return st.one_of([_option(each) for each in arguments])
    if origin is tuple:
        return st.lists(_option(arguments[0]), min_size=1, max_size=2).map(tuple)
    if origin is Mapping:
        return st.dictionaries(_option(arguments[0]), _option(arguments[1]), min_size=1, max_size=2)
    plain: Mapping[Any, st.SearchStrategy[Any]] = {
        float: st.integers(0, 20).map(float),
        int: st.integers(1, 3),
        bool: st.booleans(),
        NoneType: st.none(),
        Selector: st.sampled_from(SELECTORS),
    }
    return plain[hint]


@st.composite
def policies(draw: st.DrawFn, registry: tuple[type[Policy], ...] = BUILTIN) -> Policy:
    """Draw a policy of the registry with any options that it accepts."""
    policy = draw(st.sampled_from(registry))
    hints = get_type_hints(policy, include_extras=True)
    options = {}
    for option in fields(policy):  # type: ignore[arg-type]  # every policy is a dataclass
        required = option.default is MISSING and option.default_factory is MISSING
        if required or draw(st.booleans()):
            options[option.name] = draw(_option(hints[option.name]))
    try:
        return policy(**options)
    except ValueError:  # options that exclude each other
        return draw(policies(registry))


@st.composite
def rule_lists(draw: st.DrawFn) -> tuple[Rule, ...]:
    """Draw rules as a configuration makes them: in registry order, each policy any number of times."""
    chosen = draw(st.lists(policies(), max_size=4))
    rules: list[Rule] = []
    for policy_type in BUILTIN:
        for index, policy in enumerate(p for p in chosen if type(p) is policy_type):
            rules.append(
                Rule(
                    policy=policy,
                    index=index,
                    action=draw(st.sampled_from(["evict", "evict", "report"])),
                    notice=draw(st.sampled_from([0.0, 0.0, 3.0])),
                    only=draw(narrowed),
                )
            )
    return tuple(rules)


guards = st.builds(
    Guards,
    exempt_identities=globs,
    exempt_agent_names=globs,
    max_per_minute=st.sampled_from([1, 2, 10]),
    keep_last_agent=st.booleans(),
)


@st.composite
def removals(draw: st.DrawFn) -> Removal:
    """Draw a removal that was sent, of a connection that is here or was."""
    identity = draw(identities)
    return Removal(draw(instants), f"PA_{identity}{draw(st.sampled_from(['', '_before']))}", identity)


@st.composite
def ledgers(draw: st.DrawFn, rules: tuple[Rule, ...]) -> Ledger:
    """Draw a history: what was sent, is under way, was handled, or has failed."""
    sids = st.sampled_from(["PA_agent-AJ_1", "PA_agent-AJ_2", "PA_ana", "PA_gone"])
    keys = st.tuples(sids, st.sampled_from([rule.id for rule in rules] or ["none"]))
    return Ledger(
        sent=tuple(sorted(draw(st.lists(removals(), max_size=4)), key=lambda removal: removal.at)),
        leaving=draw(st.frozensets(sids, max_size=2)),
        unsent=draw(st.integers(0, 1)),
        handled=draw(st.frozensets(keys, max_size=2)),
        noticed=draw(st.dictionaries(keys, instants, max_size=2)),
        retry_at=draw(st.dictionaries(sids, instants, max_size=2)),
    )
