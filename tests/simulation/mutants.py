"""Deliberate bugs, each put into the engine's own code, to prove that the simulation can fail.

    python -m tests.simulation.mutants [--rooms 4000] [NAME ...]

A mutant is an edit of the source: the text before and after it. Only the functions that it changes get another code, in
place, so that all who hold them run it; a text that isn't there exactly once is an error. Rooms are played until an
invariant breaks. First the same rooms are played on the code as it is.
"""

import argparse
import ast
import importlib
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import Pool
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

from tests.simulation.room import Outcome, play


@dataclass(frozen=True, slots=True)
class Edit:
    """One change of a module's source."""

    module: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Mutant:
    """A deliberate bug."""

    name: str
    edits: tuple[Edit, ...]


def mutant(name: str, *edits: str) -> Mutant:
    """A bug made by edits, each given as module, text before, text after."""
    return Mutant(name, tuple(Edit(*edits[i : i + 3]) for i in range(0, len(edits), 3)))


MUTANTS = (
    mutant(
        "skip the sid check, and whether it is still due",
        "bouncer.eviction",
        "if there[who.identity] != who.sid:",
        "if False:",
        "bouncer.eviction",
        "if not self._still_due(finding):",
        "if False:",
    ),
    mutant(
        "don't look whether it is still due",
        "bouncer.eviction",
        "if not self._still_due(finding):",
        "if False:",
    ),
    mutant(
        "ignore a mode that changed during an eviction",
        "bouncer.patrol",
        "if config is None or not self._evictors[config.mode].sends:\n            return False",
        "config = self.config",
    ),
    mutant(
        "take who leaves by the same rule for gone",
        "bouncer.recheck",
        "return who.sid in due",
        "return who.sid in _due(moment, left=under_way.keys() - {who.sid})",
    ),
    mutant(
        "forget by a reconnect that time went unwatched",
        "bouncer.tracker",
        "self._me, self.blind = me.identity, False\n                self._watch_anew(at)",
        "self._me, self.blind = me.identity, False",
    ),
    mutant(
        "ignore that the process was frozen",
        "bouncer.tracker",
        "self._watch_anew(at, believe_nothing=True)",
        "pass",
    ),
    mutant("ignore exempt", "bouncer.decide", "if guards.exempts(finding.participant):", "if False:"),
    mutant(
        "evict all duplicates",
        "policies.duplicates",
        "in enumerate(order[self.max :], self.max):",
        "in enumerate(order if len(order) > self.max else (), self.max):",
    ),
    mutant("no budget", "bouncer.decide", "list(candidates.values())[:budget]", "list(candidates.values())"),
    mutant("charge no removal", "bouncer.history", "self._sent.append(now)", "pass"),
    mutant(
        "one list that lacks somebody is enough",
        "bouncer.tracker",
        "member.missing_since = asked_at\n",
        "self._leave(sid, at)\n",
    ),
    mutant(
        "rely on somebody whom the last list lacked",
        "bouncer.recheck",
        "if not decision.evictions or not self.unsure:",
        "if True:",
    ),
    mutant("decide while blind", "bouncer.patrol", "self._closed or self.tracker.blind or", "self._closed or"),
    mutant(
        "judge avatars as agents",
        "bouncer.tracker",
        "return Role.AVATAR if attached else Role.AGENT",
        "return Role.AGENT",
    ),
    mutant(
        "end a dispatch that a healthy job depends on",
        "bouncer.recheck",
        "return all(eviction and still_due(eviction.finding, moment) for eviction in evictions)",
        "return True",
    ),
    mutant(
        "overlook the jobs that are JOINING",
        "bouncer.recheck",
        "for p in moment.room.participants if p.may_be_of",
        "for p in moment.room.agents if p.may_be_of",
    ),
    mutant(
        "take a full reconnect for everybody's leaving",
        "bouncer.patrol",
        "if self._watching() and all(self.tracker.has(info.sid) for info in infos):",
        "if True:",
    ),
    mutant(
        "know nobody again after a full reconnect",
        "bouncer.tracker",
        "self._departed.pop(info.sid, None) or self._new_member",
        "self._new_member",
    ),
    mutant(
        "leave the dispatches of those who were removed",
        "bouncer.history",
        "return sorted(d for d, sids in depending.items() if not sids)",
        "return []",
    ),
    mutant(
        "act on JOINING",
        "bouncer.room",
        "if p.is_agent and p.active and p.identity",
        "if p.is_agent and p.identity",
        "bouncer.decide",
        "return who.active and who.identity",
        "return who.identity",
    ),
    mutant(
        "keep the corpse, not its replacement",
        "bouncer.tracker",
        "self._replaced.add(older.job)",
        "self._replaced.add(job.job)",
    ),
    mutant(
        "forget that a job was replaced once its replacement is gone",
        "bouncer.tracker",
        "newest: dict[tuple[str, str], Job] = {}",
        "newest: dict[tuple[str, str], Job] = {}\n        self._replaced.clear()",
    ),
    mutant(
        "prefer those that were replaced",
        "bouncer.room",
        "return [*(reversed(rightful) if newest else rightful), *reversed(replaced)]",
        "return [*reversed(replaced), *(reversed(rightful) if newest else rightful)]",
    ),
    mutant(
        "don't wait for a dispatch to be listed",
        "bouncer.room",
        "return agent.joined_at + UNLISTED_FOR",
        "return agent.joined_at",
    ),
    mutant(
        "take late news for a sign of life",
        "bouncer.tracker",
        "if attributes != member.info.attributes:",
        "if True:",
        "bouncer.tracker",
        "at if member.audio else at - ANNOUNCED_WITHIN",
        "at",
    ),
    mutant(
        "a person who is JOINING is nobody",
        "bouncer.room",
        "for p in self.participants if p.is_human)",
        "for p in self.participants if p.is_human and p.active)",
    ),
    mutant(
        "retry at once, without a pause",
        "bouncer.history",
        "return 0.8 + 0.4 * self.jitter()",
        "return 0.0",
    ),
    mutant(
        "pause no longer after the tenth failure than after the first",
        "bouncer.history",
        "first * 2.0 ** min(self._failures[what] - 1, 16)",
        "first",
    ),
    mutant(
        "never try again what failed",
        "bouncer.history",
        "self._retry_at[who.sid] = now + self.fail(who.sid)",
        "self._retry_at[who.sid] = now + 1e6",
    ),
    mutant(
        "evict other bouncers",
        "bouncer.tracker",
        "if info.hidden and any(job.agent_name == self.my_agent_name for job in member.jobs):",
        "if False:",
    ),
    mutant(
        "take what may be a bouncer for an agent",
        "bouncer.tracker",
        "role=Role.OTHER if self._may_be_bouncer(member) else self._role(member)",
        "role=self._role(member)",
    ),
    mutant(
        "believe that somebody has no job who may not be listed yet",
        "bouncer.tracker",
        "known.job_sought |= known.info.joined_at + UNLISTED_FOR <= asked_at",
        "known.job_sought = True",
    ),
    mutant(
        "never believe that somebody has no job",
        "bouncer.tracker",
        "known.job_sought |= known.info.joined_at + UNLISTED_FOR <= asked_at",
        "pass",
    ),
    mutant("judge simulated participants", "bouncer.tracker", "if info.simulated or info.kind", "if info.kind"),
    mutant("ignore keep_last_agent", "bouncer.decide", "if finding.participant.sid == last and", "if False and"),
    mutant(
        "report again and again",
        "bouncer.patrol",
        "self._history.report(finding)",
        "pass",
    ),
    mutant(
        "forget whom we removed",
        "bouncer.patrol",
        "self.tracker.apply(RemovalSent(eviction.at, who.identity))",
        "pass",
    ),
    mutant(
        "an agent at work is idle",
        "policies.idle_timeout",
        "if not agent.busy:",
        "if True:",
    ),
    mutant(
        "a bouncer that stands by sleeps on after a reconnect",
        "bouncer.patrol",
        "event.at\n            self.list_soon()",
        "event.at",
    ),
    mutant(
        "act beside an older bouncer",
        "bouncer.room",
        "return tuple(p for p in others if mine is None or p.age < mine)",
        "return ()",
    ),
    mutant("send away the bouncer that stands by", "bouncer.patrol", "room.juniors[STANDBYS:]", "room.juniors"),
    mutant(
        "obey whoever calls itself a bouncer",
        "bouncer.tracker",
        "if info.hidden and any(job.agent_name == self.my_agent_name for job in member.jobs):",
        "if member.agent_name == self.my_agent_name:",
    ),
    mutant("list once and never again", "bouncer.patrol", "+ every * (0.9 + 0.2 * self._jitter())", "+ 1e6"),
)


@contextmanager
def applied(one: Mutant) -> Iterator[None]:
    """Run with the bug in the code.

    Raises: ValueError if a text to be replaced isn't there exactly once, or is not within a function.
    """
    with ExitStack() as undo:
        for edit in one.edits:
            for function, code in _changed(one.name, edit):
                undo.callback(setattr, function, "__code__", function.__code__)
                function.__code__ = code
        yield


def _changed(name: str, edit: Edit) -> list[tuple[FunctionType, CodeType]]:
    module = importlib.import_module(edit.module)
    path = Path(str(module.__file__))
    source = path.read_text(encoding="utf-8")
    if source.count(edit.before) != 1:
        raise ValueError(f"{name}: this stands {source.count(edit.before)} times in {path.name}: {edit.before!r}")
    line = source[: source.index(edit.before)].count("\n") + 1
    qualname = _enclosing(ast.parse(source), line)
    codes = _codes(compile(source.replace(edit.before, edit.after), str(path), "exec"))
    found: Any = module
    for part in qualname.split("."):
        found = getattr(found, part)
    function = found.fget if isinstance(found, property) else found
    if not isinstance(function, FunctionType):
        raise TypeError(f"{name}: {qualname} is no function")
    return [(function, codes[qualname])]


def _enclosing(tree: ast.AST, line: int, within: str = "") -> str:
    """The qualified name of the outermost function at a line."""
    for node in ast.iter_child_nodes(tree):
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if node.lineno <= line <= (node.end_lineno or 0):
            name = f"{within}{node.name}"
            return _enclosing(node, line, f"{name}.") if isinstance(node, ast.ClassDef) else name
    raise ValueError(f"line {line} is not within a function")


def _codes(code: CodeType) -> dict[str, CodeType]:
    """All code objects of a module, by qualified name."""
    inner = [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return {c.co_qualname: c for c in inner} | {q: c for each in inner for q, c in _codes(each).items()}


def hunt(one: Mutant, rooms: int, first: int = 0) -> tuple[Mutant, Outcome | None]:
    """Play rooms with the bug until an invariant breaks; None if none does."""
    with applied(one):
        for seed in range(first, first + rooms):
            outcome = play(seed)
            if outcome.invariant:
                return one, outcome
    return one, None


def main(arguments: Sequence[str] | None = None) -> int:
    """Hunt all of them, and print who was caught by what; 1 if one escaped, or the code as it is fails."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.mutants")
    parser.add_argument("--rooms", type=int, default=4000, help="rooms to play with each until it is caught")
    parser.add_argument("names", nargs="*", help="parts of the names of those to hunt; all without any")
    options = parser.parse_args(arguments)
    chosen = [one for one in MUTANTS if not options.names or any(part in one.name for part in options.names)]
    began, escaped, needed = time.monotonic(), 0, 0
    width = max(len(one.name) for one in chosen)
    with Pool() as pool:
        for one, outcome in pool.imap(partial(hunt, rooms=options.rooms), chosen):
            if outcome:
                needed = max(needed, outcome.seed + 1)
                print(f"{one.name:{width}}  caught by seed {outcome.seed:<5} {outcome.invariant}", flush=True)
            else:
                escaped += 1
                print(f"{one.name:{width}}  NOT CAUGHT by {options.rooms} rooms", flush=True)
        innocent = [outcome for outcome in pool.imap(play, range(needed), chunksize=20) if outcome.invariant]
    for outcome in innocent:
        print(f"without any bug, seed {outcome.seed} fails too: {outcome.invariant}: {outcome.what}")
    caught = len(chosen) - escaped
    print(
        f"{caught} of {len(chosen)} caught; the code as it is passes {needed - len(innocent)} of {needed} rooms; "
        f"{time.monotonic() - began:.0f} s"
    )
    return 1 if escaped or innocent else 0


if __name__ == "__main__":
    sys.exit(main())
