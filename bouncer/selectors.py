"""Which participants a configuration means: globs on what they are called, compiled once. Pure.

A glob has to match the whole text, in Unicode NFC on both sides. Each configuration has its own compiled globs, and
each list of them remembers the texts that it has matched, so a name is matched once, however often a room is judged.
"""

import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from fnmatch import translate
from functools import lru_cache, partial
from typing import Annotated, Any, Protocol, Self
from unicodedata import normalize

from annotated_types import MaxLen, MinLen
from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Tag, model_serializer

from bouncer.room import Instant, Participant

LONGEST_TEXT = 1024
"""Characters of a text that globs see; of a longer one the beginning counts. Names and identities have 256 at most."""
KNOWN_TEXTS = 16 * 1024
"""Texts for which a glob, or a list of them, remembers whether it matches: more than a room has participants."""
LONGEST_KNOWN = 256
"""Characters of the texts that are remembered; no name has more."""
MAX_GLOBS = 256
"""Globs of one list."""
MAX_SELECTORS = 16
"""Selectors of one list."""


def in_nfc(text: str) -> str:
    """Return the text as globs see it."""
    return normalize("NFC", text[:LONGEST_TEXT])


def _compile(glob: str) -> re.Pattern[str]:
    # translate() puts each part before a `*` in an atomic group, so that no glob can make the match backtrack.
    return re.compile(translate(normalize("NFC", glob)))


_compiled = lru_cache(maxsize=1024)(_compile)
"""For globs that don't come from a configuration."""


def named_in_nfc(attributes: Mapping[str, str]) -> Mapping[str, str]:
    """Return attributes with their names as configurations have them."""
    if all(map(str.isascii, attributes)):
        return attributes
    return {normalize("NFC", name): value for name, value in attributes.items()}


Ask = Callable[[str, str], bool | None]
"""Given a glob and a text, returns whether it matches; None leaves that to the glob."""


class _Known(OrderedDict[str, bool]):
    """For each text that was matched, True if it fits."""

    def recall(self, text: str, find: Callable[[str], bool]) -> bool:
        """Return True if a text matches; `find` says it of one that isn't known, in NFC."""
        if (known := self.get(text)) is not None:
            return known
        found = find(in_nfc(text))
        if len(text) <= LONGEST_KNOWN:
            self[text] = found
            if len(self) > KNOWN_TEXTS:
                self.popitem(last=False)
        return found


class Pattern(str):
    """One glob, compiled."""

    __slots__ = ("_ask", "_known", "_regex")
    _regex: re.Pattern[str]
    _ask: Ask | None
    _known: _Known

    def __new__(cls, glob: str) -> Self:
        """Compile it."""
        made = super().__new__(cls, glob)
        made._regex, made._ask, made._known = _compile(glob), None, _Known()
        return made

    def ask(self, ask: Ask) -> None:
        """Let someone else say whether it matches, for texts of which the glob itself can't tell."""
        self._ask = ask

    def fit(self, text: str) -> bool:
        """Return True if it matches the text."""
        return self._known.recall(text, self.fits)

    def fits(self, text: str) -> bool:
        """Return True if it matches a text that is in NFC."""
        answer = self._ask(self, text) if self._ask else None
        return self._regex.match(text) is not None if answer is None else answer


class Patterns(tuple[Pattern, ...]):  # noqa: SLOT001 - a subclass of tuple can have none
    """A list of globs, of which one match is enough."""

    _known: _Known

    def __new__(cls, globs: Iterable[str] = ()) -> Self:
        """Compile them."""
        made = super().__new__(cls, (glob if isinstance(glob, Pattern) else Pattern(glob) for glob in globs))
        made._known = _Known()
        return made

    def fit(self, text: str) -> bool:
        """Return True if one of them matches the text."""
        return self._known.recall(text, lambda plain: any(glob.fits(plain) for glob in self))


Glob = Annotated[str, MinLen(1), MaxLen(256), AfterValidator(Pattern)]
"""A case-sensitive pattern for the whole name: `*` any text, `?` one character, `[ab]` one of these."""

_Name = Annotated[str, AfterValidator(partial(normalize, "NFC"))]
AttributeGlobs = Mapping[_Name, Glob]
"""Participant attributes: each name with a glob on its value."""

Globs = Annotated[tuple[Glob, ...], MaxLen(MAX_GLOBS)]
"""A list of globs; one match is enough."""

_Some = Annotated[tuple[Glob, ...], MinLen(1), MaxLen(MAX_GLOBS), AfterValidator(Patterns)]


def matches(text: str, globs: Iterable[str]) -> bool:
    """Return True if a glob matches the whole text, in time linear in the text for each `*`."""
    if isinstance(globs, Patterns):
        return globs.fit(text)
    return any(
        glob.fit(text) if isinstance(glob, Pattern) else bool(_compiled(glob).match(in_nfc(text))) for glob in globs
    )


class Selectable(Protocol):
    """What a selector looks at."""

    @property
    def identity(self) -> str: ...  # noqa: D102
    @property
    def agent_name(self) -> str: ...  # noqa: D102
    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def attributes(self) -> Mapping[str, str]: ...  # noqa: D102
    @property
    def metadata(self) -> str: ...  # noqa: D102


class Selector(BaseModel):
    """Participants, by what they are called. All the keys that are given have to match."""

    model_config = ConfigDict(
        strict=True, extra="forbid", allow_inf_nan=False, frozen=True, use_attribute_docstrings=True
    )

    identity: _Some = ()
    """Globs on the identity."""
    agent_name: _Some = ()
    """Globs on the agent name. A participant without one isn't matched."""
    name: _Some = ()
    """Globs on the display name."""
    attributes: Annotated[AttributeGlobs, MinLen(1), MaxLen(32)] = {}
    """Participant attributes: name, and a glob on the value. All of them have to match."""
    metadata: _Some = ()
    """Globs on the participant's metadata."""

    @classmethod
    def of(cls, **keys: Any) -> Self:
        """Make one of globs that are valid already, without compiling them again."""
        return cls.model_construct(**keys)

    def matches(self, who: Selectable) -> bool:
        """Return True if all the keys that are given match; False if none is given."""
        found = list(self.found(who).values())
        return bool(found) and all(found)

    def found(self, who: Selectable) -> dict[str, bool]:
        """Return for each key that is given whether it matches."""
        found: dict[str, bool] = {}
        if self.identity:
            found["identity"] = matches(who.identity, self.identity)
        if self.agent_name:
            found["agent_name"] = who.agent_name != "" and matches(who.agent_name, self.agent_name)
        if self.name:
            found["name"] = matches(who.name, self.name)
        if self.attributes:
            found["attributes"] = all(
                name in who.attributes and matches(who.attributes[name], (glob,))
                for name, glob in self.attributes.items()
            )
        if self.metadata:
            found["metadata"] = matches(who.metadata, self.metadata)
        return found

    def since(self, who: Participant) -> Instant:
        """Return since when the participant has had all that this selector looks at, at the earliest since joining."""
        dates = [who.joined_at, *map(who.attribute_at, self.attributes)]
        if self.name:
            dates.append(who.name_at)
        if self.metadata:
            dates.append(who.metadata_at)
        return max(dates)

    @model_serializer(mode="wrap")
    def _only_what_is_given(self, handler: Any) -> dict[str, Any]:
        return {key: value for key, value in handler(self).items() if value}


ONE, MANY, GLOBS = "[one]", "[many]", "[globs]"
TAGS = frozenset({ONE, MANY, GLOBS})
"""What tells the shapes of a value apart, such as a selector or a list of them. No JSON path shows them."""


LONGEST_OPTION = 256
"""Characters of a text that a configuration gives."""
MAX_TEXTS = 8


def shape(value: Any) -> str:
    """Return the tag of a value."""
    return MANY if isinstance(value, list | tuple) else ONE


Selection = Annotated[
    Annotated[Selector, Tag(ONE)] | Annotated[tuple[Selector, ...], MinLen(1), MaxLen(MAX_SELECTORS), Tag(MANY)],
    Discriminator(shape),
]
"""A selector, or a list of selectors of which one match is enough."""

Text = Annotated[str, MaxLen(LONGEST_OPTION), AfterValidator(partial(normalize, "NFC"))]
Texts = Annotated[
    Annotated[Text, Tag(ONE)] | Annotated[tuple[Text, ...], MinLen(1), MaxLen(MAX_TEXTS), Tag(MANY)],
    Discriminator(shape),
]
"""A text, or a short list of texts."""


def selectors(selection: Selector | tuple[Selector, ...] | None) -> tuple[Selector, ...]:
    """Return the selectors of a selection; none for None."""
    return () if selection is None else (selection,) if isinstance(selection, Selector) else selection


def selects(selection: Selector | tuple[Selector, ...] | None, who: Selectable) -> bool:
    """Return True if a selector of the selection matches."""
    return any(selector.matches(who) for selector in selectors(selection))


def selected_since(selection: Selector | tuple[Selector, ...] | None, who: Participant) -> Instant | None:
    """Return since when a selector of the selection has matched, as far as is known; None if none matches."""
    return min((each.since(who) for each in selectors(selection) if each.matches(who)), default=None)


def _only_shape(value: Any) -> str:
    """Return the tag of a value of `only`, in which texts are globs on agent names."""
    if isinstance(value, tuple) and any(isinstance(each, Mapping | Selector) for each in value):
        return MANY
    return ONE if isinstance(value, Mapping | Selector) else GLOBS


Only = Annotated[
    Annotated[Globs, Tag(GLOBS)]
    | Annotated[Selector, Tag(ONE)]
    | Annotated[tuple[Selector, ...], MinLen(1), MaxLen(MAX_SELECTORS), Tag(MANY)],
    Discriminator(_only_shape),
]
"""Globs on the agent name, a selector, or a list of selectors of which one match is enough."""


def among_since(only: tuple[str, ...] | Selector | tuple[Selector, ...], who: Participant) -> Instant | None:
    """Return since when a value of `only` has meant the participant, as far as is known; None if it doesn't."""
    globs = only if isinstance(only, Patterns) else () if isinstance(only, Selector) else _texts(only)
    if globs and matches(who.agent_name, globs):
        return who.joined_at
    return selected_since(only if isinstance(only, Selector) else _selectors(only), who)


def _texts(only: tuple[Any, ...]) -> list[str]:
    return [each for each in only if isinstance(each, str)]


def _selectors(only: tuple[Any, ...]) -> tuple[Selector, ...]:
    return tuple(each for each in only if isinstance(each, Selector))


def compiled(value: Any) -> Any:
    """Return the same value, with every list of globs in it compiled as one."""
    if isinstance(value, Mapping):
        return {key: compiled(inner) for key, inner in value.items()}
    if type(value) is tuple:
        one = bool(value) and all(isinstance(each, Pattern) for each in value)
        return Patterns(value) if one else tuple(map(compiled, value))
    return value


def globs_in(value: Any) -> Iterator[str]:
    """Yield every glob in a value: of options, a model, a collection."""
    if isinstance(value, Pattern):
        yield value
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from globs_in(getattr(value, name))
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from globs_in(key)
            yield from globs_in(inner)
    elif isinstance(value, tuple):
        for inner in value:
            yield from globs_in(inner)
