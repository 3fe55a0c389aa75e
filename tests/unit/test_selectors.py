"""Selectors: which participants a configuration means."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bouncer import Selector, matches, selected_since, selects
from bouncer.selectors import KNOWN_TEXTS, LONGEST_TEXT, Pattern, Patterns, among_since, globs_in
from bouncer.testing import agent

CONFIGURATION = Path(__file__).parents[2] / "docs/reference/configuration.md"
A = agent(
    "agent-1",
    "billing",
    joined=10,
    name_at=20,
    attributes={"desk": "7", "role": "operator"},
    attributes_at={"role": 30},
    metadata='{"tier": "vip"}',
    metadata_at=40,
)


class TestGlobs:
    """Globs are case-sensitive, and match the whole text."""

    @pytest.mark.parametrize(
        ("text", "glob", "fits"),
        [
            ("billing", "billing", True),
            ("billing", "bill", False),
            ("billing", "bil*", True),
            ("billing", "*ing", True),
            ("billing", "Bil*", False),
            ("billing", "b?lling", True),
            ("billing", "[ab]illing", True),
            ("a\nb", "a*b", True),
            ("", "*", True),
            ("", "?", False),
            ("Zo\u00eb", "Zoe\u0308", True),
            ("Zoe\u0308", "Zo\u00eb", True),
            ("Zoe\u0308", "Zo?", True),
            ("\ud800x", "?x", True),
            ("x" * 10 * LONGEST_TEXT, "x*", True),
            ("x" * LONGEST_TEXT + "y", "*y", False),
        ],
    )
    def test_what_matches(self, text: str, glob: str, fits: bool) -> None:  # noqa: FBT001 - a table
        """Both sides are compared in NFC, compiled or not. Only the beginning of a long text counts."""
        assert matches(text, [glob]) == matches(text, Patterns([glob])) == matches(text, (Pattern(glob),)) == fits

    def test_as_much_of_a_text_counts_as_is_documented(self) -> None:
        """An exemption by metadata has to hold for metadata of a thousand characters, too."""
        assert "of more than 1,024 characters the beginning counts" in CONFIGURATION.read_text(encoding="utf-8")
        assert matches("x" * 1023 + "y", ["*y"])
        assert not matches("x" * 1024 + "y", ["*y"])

    @given(st.lists(st.text(max_size=5), max_size=5), st.text(max_size=8))
    def test_compiled_or_not(self, globs: list[str], text: str) -> None:
        """Neither compiling nor asking twice changes the answer."""
        patterns = Patterns(globs)

        assert patterns == tuple(globs)
        assert patterns.fit(text) == patterns.fit(text) == matches(text, globs)

    @pytest.mark.parametrize("glob", ["*a" * 100 + "b", "*[a]*" * 50 + "b", "*a?" * 80 + "b"])
    def test_no_glob_makes_the_match_backtrack(self, glob: str) -> None:
        """One that tries each way to divide the text among its stars would never end."""
        assert not matches("a" * LONGEST_TEXT, [glob])

    def test_what_is_remembered_is_bounded(self) -> None:
        """A participant that changes its name for ever fills no memory."""
        patterns = Patterns(["a*"])
        for number in range(2 * KNOWN_TEXTS):
            assert patterns.fit(f"a{number}")

        assert len(patterns._known) == KNOWN_TEXTS  # noqa: SLF001 - what it is about


class TestSelector:
    """All the keys that are given have to match."""

    @pytest.mark.parametrize(
        ("keys", "fits"),
        [
            ({}, False),
            ({"identity": ("agent-*",)}, True),
            ({"identity": ("x", "agent-1")}, True),
            ({"identity": ("x",)}, False),
            ({"agent_name": ("bil*",)}, True),
            ({"agent_name": ("",)}, False),
            ({"identity": ("agent-*",), "agent_name": ("support",)}, False),
            ({"attributes": {"desk": "[0-9]"}}, True),
            ({"attributes": {"desk": "7", "role": "op*"}}, True),
            ({"attributes": {"desk": "7", "role": "guest"}}, False),
            ({"attributes": {"nothing": "*"}}, False),
            ({"metadata": ('*"vip"*',)}, True),
            ({"name": ("?*",)}, False),
        ],
    )
    def test_what_it_matches(self, keys: dict[str, Any], fits: bool) -> None:  # noqa: FBT001 - a table
        """Its globs may come from a configuration or from a policy."""
        selector = Selector.of(**keys)

        assert selector.matches(A) == selects(selector, A) == fits
        assert (selected_since(selector, A) is not None) == fits
        assert selects((Selector(identity=("nobody",)), selector), A) == fits

    def test_an_agent_without_a_name_is_not_meant_by_one(self) -> None:
        """Not even by a glob that matches everything."""
        assert not Selector(agent_name=("*",)).matches(agent("A"))

    @pytest.mark.parametrize(
        ("keys", "since"),
        [
            ({"identity": ("agent-1",)}, 10),
            ({"attributes": {"desk": "7"}}, 10),
            ({"attributes": {"desk": "7", "role": "*"}}, 30),
            ({"name": ("*",)}, 20),
            ({"name": ("*",), "metadata": ("*",)}, 40),
        ],
    )
    def test_since_when(self, keys: dict[str, Any], since: float) -> None:
        """A selector matches from when the last of its facts is true. Of several selectors the earliest counts."""
        assert selected_since(Selector(**keys), A) == since
        assert selected_since((Selector(**keys), Selector(metadata=("*",))), A) == since
        assert selected_since(None, A) is None

    def test_it_says_only_what_is_given(self) -> None:
        """The effective configuration is as short as what was written."""
        assert Selector(identity=("a",)).model_dump(mode="json") == {"identity": ["a"]}

    @pytest.mark.parametrize(
        ("only", "fits"),
        [
            (("bil*",), True),
            ((), False),
            (Patterns(["x", "billing"]), True),
            (Selector(identity=("agent-1",)), True),
            ((Selector(identity=("x",)), Selector(agent_name=("b*",))), True),
            ((Selector(identity=("x",)),), False),
        ],
    )
    def test_only(self, only: Any, fits: bool) -> None:  # noqa: FBT001 - a table
        """A list of texts is globs on the agent name."""
        assert (among_since(only, A) is not None) == fits


def test_all_globs_are_found() -> None:
    """Everywhere: in lists, as keys and values, in selectors."""
    selector = Selector(identity=("a", "b"), attributes={"c": "d"})
    value = {Pattern("e"): (Pattern("f"), "no glob"), "g": selector}

    assert sorted(globs_in((value, 7))) == ["a", "b", "d", "e", "f"]
