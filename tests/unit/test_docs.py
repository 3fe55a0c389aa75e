"""The pages of the policies: fresh in the README, complete, and with examples that work."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, ClassVar, Literal

import pytest
from annotated_types import Ge, Gt, Le, MinLen

from bouncer import Count, Glob, Globs, Policy, Room, Seconds, Verdict
from bouncer.config import Layer, load, option_docs
from bouncer.docs import BEGIN, END, common, page, renewed, section, takes
from bouncer.schema import own_options
from policies import BUILTIN
from policies.unresponsive import Unresponsive
from tests.packages import ROOT, shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Odd:
    """Whoever is | odd has to leave."""

    name: ClassVar[str] = "odd"

    text: str = "a|b"
    """This | or
    that."""
    glob: Glob = "*"
    globs: Globs | None = None
    seconds: Seconds = 1
    some: Annotated[Seconds, Gt(0)] = 1
    count: Count = 1
    number: float = 1
    least: Annotated[int, Ge(1)] = 1
    most: Annotated[float, Le(5)] = 1
    yes: bool = True
    which: Literal["a", "b"] = "a"
    by: Mapping[Glob, Annotated[Globs, MinLen(1)]]
    states: Mapping[Literal["x", "y"], Seconds]
    numbers: tuple[int, ...] = ()
    texts: Mapping[str, str]
    anything: Any = None

    def evaluate(self, room: Room) -> Iterator[Verdict]:
        """Nobody but the first."""
        yield from (Verdict(agent, 0, "was first") for agent in room.agents[:1])


each_policy = pytest.mark.parametrize("policy", BUILTIN, ids=lambda policy: policy.name)


class TestReadme:
    """Its section on the policies is made from the code."""

    def test_it_is_fresh(self) -> None:
        """What it says is what the code says now; `make docs` writes it."""
        text = (ROOT / "README.md").read_text(encoding="utf-8")

        assert text == renewed(text, BUILTIN), "run `make docs`"
        assert all(page(policy) in text for policy in BUILTIN)
        assert common() in text

    def test_nothing_else_is_touched(self) -> None:
        """What stands around the section stays, and doing it again changes nothing."""
        text = f"# Title\n\n{BEGIN}\nstale\n{END}\n\nThe rest, {BEGIN} included.\n"
        new = renewed(text, BUILTIN[:1])

        assert new.startswith(f"# Title\n\n{BEGIN}\n")
        assert new.endswith(f"\n{END}\n\nThe rest, {BEGIN} included.\n")
        assert section(BUILTIN[:1]) in new
        assert "stale" not in new
        assert renewed(new, BUILTIN[:1]) == new

    @pytest.mark.parametrize("text", ["", BEGIN, END, f"{END} {BEGIN}"])
    def test_marks_that_are_missing(self, text: str) -> None:
        """Then nothing is written anywhere."""
        with pytest.raises(ValueError, match="policies:begin"):
            renewed(text, BUILTIN)

    @pytest.mark.parametrize("text", [text for text in shown("json", "README.md") if '"bouncer"' in text])
    def test_its_configurations_are_valid(self, text: str) -> None:
        """Each of them can be pasted into a room's metadata."""
        assert load([Layer("README.md", text)], BUILTIN).effective


class TestPage:
    """All that there is to know about one policy."""

    @each_policy
    def test_it_has_everything(self, policy: type[Policy]) -> None:
        """The docstring, each option with its default and meaning, and an example."""
        text = page(policy)
        rows = {line.split("`")[1]: line for line in text.splitlines() if line.startswith("| `")}

        assert text.startswith(f"### `{policy.name}`\n\n{(policy.__doc__ or '').splitlines()[0]}\n")
        assert [name for name in rows if name != "action"] == [option.name for option in fields(policy)]  # type: ignore[arg-type]
        for name, meaning in option_docs(policy).items():
            assert meaning in rows[name]
        for name, option in own_options(policy).items():
            assert f"| `{json.dumps(option['default'])}` |" in rows[name] if "default" in option else "| required |"
        (example,) = (json.loads(line) for line in text.splitlines() if line.startswith("{"))
        assert [*example["bouncer"]["policies"]] == [policy.name]

    def test_another_default_action_is_told(self) -> None:
        """And the same one isn't."""
        assert [policy for policy in BUILTIN if "| `action` |" in page(policy)] == [Unresponsive]
        assert '| `action` | `"evict"` or `"report"` | `"report"` |' in page(Unresponsive)

    @each_policy
    def test_that_it_clears_rooms_is_told(self, policy: type[Policy]) -> None:
        """Whoever sets `keep_last_agent` wants to know."""
        assert ("keep_last_agent" in page(policy)) == getattr(policy, "may_clear_room", False)

    def test_what_every_policy_takes(self) -> None:
        """Is told once."""
        assert [line.split("`")[1] for line in common().splitlines() if line.startswith("| `")] == [
            *("action", "notice", "only")
        ]

    def test_the_marks_of_a_table_are_escaped(self) -> None:
        """So a row has as many columns as the others, and one line."""
        assert '| `text` | text | `"a\\|b"` | This \\| or that. |' in page(Odd).splitlines()
        assert "| [`odd`](#odd) | Whoever is \\| odd has to leave. |" in section([Odd]).splitlines()

    def test_a_long_example(self) -> None:
        """Is broken up."""
        lines = page(Odd).splitlines()
        example = json.loads("\n".join(lines[lines.index("```json") + 1 : -1]))

        assert example["bouncer"]["policies"]["odd"].keys() == {*own_options(Odd)} - {"by", "states", "texts"}
        assert max(map(len, lines)) < 120

    def test_what_an_option_takes(self) -> None:
        """In a few words, whatever its type."""
        assert {name: takes(option) for name, option in own_options(Odd).items()} == {
            "text": "text",
            "glob": "glob",
            "globs": "list of globs",
            "seconds": "seconds",
            "some": "seconds, more than 0",
            "count": "whole number from 1 to 1000000",
            "number": "number",
            "least": "whole number from 1",
            "most": "number up to 5",
            "yes": "`true` or `false`",
            "which": '`"a"` or `"b"`',
            "by": "object of lists of globs",
            "states": "object of seconds for `x`, `y`",
            "numbers": "list of whole numbers",
            "texts": "object of texts",
            "anything": "any JSON",
        }
