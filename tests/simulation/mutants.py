"""Deliberate bugs, each put into the engine's own code, to prove that the simulation can fail.

    python -m tests.simulation.mutants [--rooms 4000] [NAME ...]

A mutant is some edits of the source, each given as three texts: where, before, after. `edits.py` says how they match.
To move a mutant after a refactoring, change `where`, or copy the new line into `before`. `make test` warns of a mutant
that no longer applies; `make mutants` fails for it, and for each mutant that no room catches.

Rooms are played until an invariant breaks. Then that room is played on the code as it is, which has to pass. A mutant
may ask for rooms of one theme. What no room can show, say that memory doesn't grow, a unit test has to see: such a
mutant names it.
"""

import argparse
import importlib
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing import Pool

from tests.simulation.edits import Edit, StaleError, applied
from tests.simulation.room import Played, play

UNIT_TESTS = "tests.unit.test_planted"


@dataclass(frozen=True, slots=True)
class Mutant:
    """A deliberate bug."""

    name: str
    edits: tuple[Edit, ...]
    theme: str | None = None
    """The theme of the rooms that are played; None for any."""
    seen_by: str = ""
    """The test in `tests/unit/test_planted.py` that has to fail; "" if a room has to."""

    @property
    def stale(self) -> str:
        """Why it can't be put into the code as it is now; "" if it can."""
        try:
            with applied(*self.edits):
                return ""
        except StaleError as error:
            return str(error)


def mutant(name: str, *edits: str, theme: str | None = None, seen_by: str = "") -> Mutant:
    """Make a bug of edits, each given as where, before and after."""
    return Mutant(name, tuple(Edit(*edits[i : i + 3]) for i in range(0, len(edits), 3)), theme, seen_by)


MUTANTS = (
    mutant(
        "skip the sid check, and whether it is still due",
        "bouncer.guard.eviction",
        "A[B.identity] != B.sid",
        "False",
        "bouncer.guard.eviction",
        "not self._scene.still_due(A)",
        "False",
    ),
    mutant("don't look whether it is still due", "bouncer.guard.eviction", "not self._scene.still_due(A)", "False"),
    mutant(
        "ignore a mode that changed during an eviction",
        "bouncer.guard.watch.Watch.still_due",
        "if A is None or B: return False",
        "A = self.config",
        theme="malice",
    ),
    mutant(
        "take who leaves by the same rule for gone",
        "bouncer.guard.recheck.Recheck._as_committed",
        "stay = A",
        "stay = set()",
        theme="chatter",
    ),
    mutant(
        "owe nothing to those who were decided on together",
        "bouncer.guard.recheck.owed",
        "return tuple(A)",
        "return ()",
        theme="chatter",
    ),
    mutant(
        "forget by a reconnect that time went unwatched",
        "bouncer.tracker.Tracker.apply",
        "self._restart_watching(A)",
        "None",
    ),
    mutant(
        "ignore that the process was frozen",
        "bouncer.tracker.Tracker.apply",
        "self._restart_watching(A, believe_nothing=True)",
        "None",
        theme="work",
    ),
    mutant("ignore exempt", "bouncer.decide._held", "exempt[A]", "''"),
    mutant(
        "evict all duplicates",
        "policies.duplicates",
        "zip(A[self.max:], B, C, strict=True)",
        "zip(A if len(A) > self.max else (), *([*dates, *([0.0] * self.max)] for dates in (B, C)), strict=False)",
    ),
    mutant("no budget", "bouncer.decide._within_budget", "len(A) < left and B < share", "True"),
    mutant("charge no removal", "bouncer.guard.history", "self._sent.append(A)", "None"),
    mutant(
        "missing from one list is gone",
        "bouncer.tracker.Tracker._take_list",
        "A >= MISSING_FOR",
        "True",
    ),
    mutant(
        "rely on one that the last list lacked",
        "bouncer.guard.recheck.Moment",
        "not A.evictions or not unsure",
        "True",
    ),
    mutant("decide while blind", "bouncer.guard.watch.Watch.standing", "self.tracker.blind", "False"),
    mutant("judge avatars as agents", "bouncer.people.People.role", "self.is_avatar(A) and B", "False"),
    mutant(
        "end a dispatch that a healthy job depends on",
        "bouncer.guard.recheck.Recheck.may_end_dispatch",
        "return all(A for B in C)",
        "return True",
    ),
    mutant(
        "overlook the jobs that are JOINING",
        "bouncer.guard.recheck.Recheck",
        "self._moment.room.participants",
        "self._moment.room.agents",
    ),
    mutant(
        "take a full reconnect for everyone's leaving",
        "bouncer.guard.watch",
        "self.tracker.left_since(infos)",
        "()",
        theme="malice",
    ),
    mutant(
        "recognise no one after a full reconnect",
        "bouncer.tracker",
        "self._departed.pop(A.sid, None)",
        "None",
    ),
    mutant(
        "leave the dispatches of those who were removed",
        "bouncer.guard.history",
        "sorted(A for A, B in C if not B)",
        "[]",
    ),
    mutant(
        "act on JOINING",
        "bouncer.room.Participant.evictable",
        "A and self.active and B",
        "A and B",
    ),
    mutant(
        "keep the corpse, not its replacement",
        "bouncer.people",
        "if A := B.get((C.dispatch, C.serves)): self._replaced.add(A.job)",
        "if B.get((C.dispatch, C.serves)): self._replaced.add(C.job)",
    ),
    mutant(
        "forget that a job was replaced once its replacement is gone",
        "bouncer.people.People._settle_jobs",
        "",
        "self._replaced.clear()",
    ),
    mutant(
        "take a job that comes back for a newer one",
        "bouncer.people.People._settle_jobs",
        "A.job_age",
        "A.age",
        theme="chatter",
    ),
    mutant(
        "prefer those that were replaced",
        "bouncer.room.in_order",
        "[*A, *reversed(B)]",
        "[*reversed(B), *A]",
    ),
    mutant(
        "evict the replacement, and keep the corpse of another dispatch",
        "bouncer.room.may_replace",
        "A <= B - ALIVE_WITHIN",
        "False",
    ),
    mutant(
        "take late news for a sign of life",
        "bouncer.tracker.Tracker._take_sign",
        "A != B.info.attributes",
        "True",
        "bouncer.tracker",
        "at if A.audio else at - ANNOUNCED_WITHIN",
        "at",
    ),
    mutant(
        "a person who is JOINING does not count",
        "bouncer.room.Room.__post_init__",
        "A.role is Role.HUMAN",
        "A.role is Role.HUMAN and A.active",
    ),
    mutant("retry at once, without a pause", "bouncer.guard.schedule", "0.8 + 0.4 * A", "0.0"),
    mutant(
        "pause no longer after the tenth failure than after the first",
        "bouncer.guard.schedule",
        "A * 2.0 ** B",
        "A",
    ),
    mutant(
        "never try again what failed",
        "bouncer.guard.history.History.end",
        "now + self.pause(A)",
        "now + 1e6",
    ),
    mutant(
        "evict other bouncers",
        "bouncer.people.People.role",
        "self._is_bouncer(A)",
        "A.identity == self.me",
    ),
    mutant(
        "take what may be a bouncer for an agent",
        "bouncer.people.People.public_role",
        "Role.OTHER if A else B",
        "B",
    ),
    mutant(
        "believe that one has no job that may not be listed yet",
        "bouncer.people",
        "A.listable_since + UNLISTED_FOR <= asked_at",
        "True",
    ),
    mutant(
        "never believe that one has no job",
        "bouncer.people",
        "A.listable_since + UNLISTED_FOR <= asked_at",
        "False",
    ),
    mutant(
        "judge simulated participants",
        "bouncer.people.People.role",
        "A.simulated",
        "False",
        "bouncer.people.Member.agent_by_grant",
        "A and not B.simulated",
        "A",
    ),
    mutant(
        "people.except is about simulated participants too",
        "bouncer.people.People.role",
        "A.simulated",
        "False",
        theme="people",
    ),
    mutant("ignore keep_last_agent", "bouncer.decide._held", "A.sid == last", "False"),
    mutant("report again and again", "bouncer.guard.history.History.report", "self._handled.add(A)", "None"),
    mutant(
        "forget the agents that we removed",
        "bouncer.tracker.Tracker._note_eviction",
        "self._evicted_at[A] = at",
        "self._evicted_at[A] = -1e6",
    ),
    mutant("an agent at work is idle", "policies.idle_timeout", "not A.busy", "True", theme="work"),
    mutant(
        "a bouncer that stands by sleeps on after a reconnect",
        "bouncer.guard.watch.Watch.tell",
        "self._said = A\nself.listing.soon(B)",
        "self._said = A",
        seen_by="test_a_list_follows_a_reconnect_at_once",
    ),
    mutant("act alongside an older bouncer", "bouncer.room.Room.seniors", "", "return ()"),
    mutant("send away the bouncer that stands by", "bouncer.guard.watch", "A.juniors[STANDBYS:]", "A.juniors"),
    mutant(
        "obey anyone that calls itself a bouncer",
        "bouncer.people.People.role",
        "self._is_bouncer(A)",
        "A.agent_name == self.my_agent_name",
    ),
    mutant(
        "dispatch a successor before giving up the claim",
        "bouncer.guard.handover",
        "await api.say(Says.NOTHING)\nreturn await api.dispatch_successor()",
        "made = await api.dispatch_successor()\nawait api.say(Says.NOTHING)\nreturn made",
    ),
    mutant(
        "every date is 1.5 s late",
        "bouncer.decide._findings",
        "max(verdict.due, A)",
        "max(verdict.due, A) + 1.5",
    ),
    mutant(
        "send a bouncer away by the timer of an earlier one",
        "bouncer.guard.watch.Watch._send_surplus_away",
        "if not A:\n    self.surplus.clear()\n    return",
        "if not A:\n    return",
        seen_by="test_the_time_of_too_many_bouncers_begins_with_the_last_of_them",
    ),
    mutant(
        "end a surplus bouncer's dispatch though others need it",
        "bouncer.guard.watch.Watch._send_surplus_away",
        "A - needed",
        "A",
        seen_by="test_a_surplus_bouncer_stays_if_one_that_is_needed_has_its_dispatch",
    ),
    mutant(
        "take a newcomer with the identity for the evicted one",
        "bouncer.guard.eviction",
        "A is not None and A.sid == B.sid",
        "A is not None",
        seen_by="test_an_eviction_is_proven_though_another_has_its_identity",
    ),
    mutant(
        "forget a spent dispatch while a job of it may be gone",
        "bouncer.guard.history.History.take_spent",
        "self.spent = A",
        "self.spent = set()",
        seen_by="test_a_spent_dispatch_waits_for_a_job_that_may_be_gone",
    ),
    mutant(
        "postpone a list again with each call that is refused",
        "bouncer.guard.schedule.Listing.postpone",
        "min(self.postponed_at, A)",
        "A",
        seen_by="test_a_list_is_postponed_from_the_first_refusal_on",
    ),
    mutant(
        "take an identity from the newcomer when its earlier owner leaves",
        "bouncer.people.People.leave",
        "A.get(B) == sid",
        "True",
        seen_by="test_the_last_to_enter_keeps_an_identity_whose_earlier_owner_leaves",
    ),
    mutant(
        "remember replaced jobs for ever",
        "bouncer.people.People.dispatched",
        "self._replaced &= A",
        "pass",
        seen_by="test_a_replaced_job_is_forgotten_once_it_is_listed_no_more",
    ),
    mutant("list once and never again", "bouncer.guard.schedule", "A + B * (0.9 + 0.2 * C)", "A + 1e6"),
    mutant("evict avatars of standard kind", "bouncer.room.Participant.evictable", "A and B and C", "B and C"),
    mutant("take a recorder for a person", "bouncer.people.People.role", "A.recorder", "False"),
    mutant("a phone that rings is an operator", "policies.human_takeover", "not A.ringing", "True"),
    mutant(
        "obey the bouncers of another fleet",
        "bouncer.room.Participant.guarding",
        "A and not self.foreign",
        "A",
    ),
    mutant(
        "believe each of several avatars",
        "bouncer.decide._avatars_of",
        "not A.contested",
        "True",
        theme="avatars",
    ),
    mutant(
        "believe that an attribute was always so",
        "bouncer.room.Participant.attribute_at",
        "max(self.joined_at, A)",
        "self.joined_at",
    ),
    mutant(
        "an agent that may work unseen is idle",
        "policies.idle_timeout",
        'agent.unseen if A else ""',
        '""',
        theme="work",
    ),
    mutant(
        "text in another's name is work",
        "bouncer.conversation.Conversation._go_on",
        "not self._others_write(A)",
        "True",
        theme="work",
    ),
    mutant(
        "a state's own word is work in that state",
        "bouncer.conversation.Conversation._note_speech",
        "not (A and heard is None)",
        "True",
        seen_by="test_the_state_of_an_agent_is_no_work_in_that_state",
    ),
    mutant("hearing is never late", "policies.unresponsive", "A + LATE", "A"),
    mutant(
        "who writes captions does nothing",
        "bouncer.conversation.Conversation.send",
        "self.act(voice, at)",
        "None",
        theme="work",
    ),
    mutant(
        "captions by an unknown writer put no silent agent in doubt",
        "bouncer.conversation.Conversation.unseen",
        "not A and self._captions_at > B",
        "False",
        theme="work",
    ),
    mutant(
        "an agent that was never seen at work is idle",
        "bouncer.conversation.Conversation.unseen",
        "not A and not B and not self._worked(C)",
        "False",
        theme="work",
    ),
    mutant(
        "work on a video or data track would be seen",
        "bouncer.conversation.Conversation.unseen",
        "t.medium is Medium.DATA or A",
        "False",
        theme="work",
    ),
    mutant(
        "work that is encrypted would be seen",
        "bouncer.conversation.Conversation.unseen",
        "(voice.encrypted or A) and B and C",
        "False",
        theme="work",
    ),
    mutant(
        "ambience is a voice", "bouncer.conversation", "A and not matches(track.name, self.ignored)", "A", theme="work"
    ),
    mutant("agents that serve different people are duplicates", "policies.duplicates", "agent.serves", "''"),
    mutant(
        "agents that may each serve a person are duplicates",
        "policies.duplicates",
        "any(A) and not agent.replaced",
        "False",
    ),
    mutant(
        "who writes in its own name is an unknown writer",
        "bouncer.conversation.Conversation.transcribe",
        "not writer and A",
        "A",
        theme="work",
    ),
    mutant("people.except is ignored", "bouncer.people.People.role", "self.named.not_people(A)", "False"),
    mutant("people.also is ignored", "bouncer.people.People.role", "self.named.people(A)", "False", theme="people"),
    mutant(
        "anyone that claims it may be an avatar",
        "bouncer.people",
        "A.claims_principal and B",
        "A.claims_principal",
        theme="avatars",
    ),
    mutant(
        "names are compared as they are written",
        "bouncer.selectors.in_nfc",
        'normalize("NFC", A)',
        "A",
        theme="people",
    ),
    mutant(
        "one key of a selector is enough",
        "bouncer.selectors.Selector.matches",
        "bool(A) and all(A)",
        "any(A)",
    ),
    mutant(
        "the servers' clock is matched again at each reconnect",
        "bouncer.adapter.clock.ServerClock.joined",
        "not A or B in self._seen",
        "not A",
        seen_by="test_a_participant_that_is_announced_again_sets_no_clock",
    ),
    mutant(
        "believe any date of the servers",
        "bouncer.tracker.Tracker._first_sight",
        "A if joined_at >= self._listed_at else at",
        "joined_at",
        seen_by="test_a_date_fits_what_the_last_list_showed",
    ),
    mutant(
        "take the earliest date that may be right for one that can't be",
        "bouncer.tracker.Tracker._first_sight",
        "A if joined_at >= self._listed_at else at",
        "min(max(joined_at, self._listed_at), at)",
        seen_by="test_a_job_whose_date_cannot_be_right_may_be_listed_later",
    ),
    mutant(
        "go by the servers' dates among those whose order we saw",
        "bouncer.tracker._order",
        "return A if B else None",
        "return None",
        seen_by="test_an_order_that_we_saw_stands",
    ),
    mutant(
        "a reconnect begins another stay",
        "bouncer.tracker.Tracker._first_sight",
        "self._continue_stay(A, B)",
        "None",
        seen_by="test_a_stay_goes_on_unless_it_was_ended",
    ),
    mutant(
        "one that was evicted goes on with its stay",
        "bouncer.tracker.Tracker._first_sight",
        "A and B and self._evicted_at.get(C, D) <= E",
        "A and B",
        seen_by="test_a_stay_goes_on_unless_it_was_ended",
    ),
    mutant(
        "take an impostor for as good as the dispatched one",
        "bouncer.room.in_order",
        "(A.agent_name, not A.dispatch)",
        "(A.agent_name, False)",
        seen_by="test_of_one_name_the_dispatched_agent_has_the_place",
    ),
    mutant(
        "claim the room though no list is answered",
        "bouncer.guard.watch.Watch.says",
        "A or B or self.listing.stale(C, D)",
        "A or B",
        seen_by="test_who_learns_nothing_claims_nothing",
    ),
    mutant(
        "take our own computing for a freeze",
        "bouncer.guard.watch.Watch._overslept",
        "A and B > timer + STALL + self._busy",
        "A and B > timer + STALL",
        seen_by="test_time_that_we_computed_was_not_slept",
    ),
    mutant(
        "forget agents because a crowd leaves",
        "bouncer.tracker.Tracker._leave",
        "next(crowd, A)",
        "A",
        seen_by="test_agents_are_not_forgotten_because_a_crowd_leaves",
    ),
    mutant(
        "judge a job by the stay of the one before",
        "bouncer.decide._findings",
        "max(verdict.due, who.stay_known_at)",
        "verdict.due",
        seen_by="test_nothing_is_due_before_it_is_known_whose_stay_goes_on",
    ),
    mutant(
        "take an orphaned avatar for one more agent",
        "policies.max_agents",
        "not agent.orphaned",
        "True",
        theme="avatars",
    ),
    mutant(
        "go on counting what agents said of themselves once they are heard",
        "bouncer.conversation.Conversation.configure",
        "self.restart_watching(A)",
        "None",
        seen_by="test_what_agents_said_of_themselves_counts_no_more_once_they_are_heard",
    ),
    mutant(
        "decide once for evictions of which one becomes owed meanwhile",
        "bouncer.guard.watch.Watch.sent",
        "self._recheck = None",
        "None",
        seen_by="test_one_of_a_group_stays_due_though_another_leaves_for_another_reason",
    ),
    mutant("a state stands in for hearing", "bouncer.conversation", "A and heard is None and not self.hears", "A"),
    # Rooms as people run them: docs/explanation/from-the-field.md names those of each kind of room.
    mutant(
        "the silence of an agent without a track is heard",
        "bouncer.conversation.Conversation.heard",
        "self._sounds(A) or A.heard",
        "self._sounds(A) or A.heard is not None",
        theme="work",
    ),
    mutant(
        "streams and data are no work",
        "bouncer.tracker.Tracker._take_sign",
        "self._conversation.send(A, B, C)",
        "None",
        theme="work",
    ),
    mutant(
        "the grace begins while the operator's phone rings",
        "policies.human_takeover",
        "max(A, human.answered_at, B)",
        "max(A, B)",
        theme="people",
    ),
    mutant(
        "an attribute that narrows a rule gives no time",
        "bouncer.decide._findings",
        "max(A, since + B)",
        "A",
        theme="malice",
    ),
    mutant("two forms of one name are two names", "bouncer.people.Member", 'normalize("NFC", A)', "A"),
    mutant(
        "the app's own dispatch metadata are a mistake",
        "bouncer.configuration.lookalikes.unreadable",
        "",
        "return UNREADABLE",
        seen_by="test_the_apps_own_dispatch_metadata_leaves_the_room_its_configuration",
    ),
    mutant(
        "one agent for each person is any job",
        "bouncer.adapter.records.listed_job",
        "A if B in FOR_ONE_PARTICIPANT else C",
        "C",
        seen_by="test_jobs_for_one_participant_are_told_apart",
    ),
)


@dataclass(frozen=True, slots=True)
class Hunt:
    """How the hunt for a mutant went."""

    mutant: Mutant
    caught_by: str = ""
    """The room or the test that caught it; "" if nothing did."""
    guilty: tuple[Played, ...] = ()
    """The rooms that break an invariant without it too, and so prove nothing."""


def hunt(one: Mutant, rooms: int) -> Hunt:
    """Run the test that sees the bug, or play rooms until one breaks an invariant with it, and doesn't without it."""
    if one.seen_by:
        with applied(*one.edits):
            try:
                getattr(importlib.import_module(UNIT_TESTS), one.seen_by)()
            except AssertionError:
                return Hunt(one, one.seen_by)
        return Hunt(one)
    seeds = iter(range(rooms))
    guilty: list[Played] = []
    while True:
        with applied(*one.edits):
            outcomes = (play(seed, theme=one.theme) for seed in seeds)
            broken = next((outcome for outcome in outcomes if outcome.invariant), None)
        if broken is None:
            return Hunt(one, guilty=tuple(guilty))
        if not (clean := play(broken.seed, theme=one.theme)).invariant:
            return Hunt(one, f"seed {broken.seed:<5} {broken.invariant}", tuple(guilty))
        guilty.append(clean)


def main(arguments: Sequence[str] | None = None) -> int:
    """Hunt all of them, and print what caught each; 1 if one escaped or doesn't apply, or the code as it is fails."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.mutants")
    parser.add_argument("--rooms", type=int, default=4000, help="rooms to play with each until it is caught")
    parser.add_argument("names", nargs="*", help="parts of the names of those to hunt; all without any")
    options = parser.parse_args(arguments)
    chosen = [one for one in MUTANTS if not options.names or any(part in one.name for part in options.names)]
    stale = {one.name: why for one in chosen if (why := one.stale)}
    fit = [one for one in chosen if one.name not in stale]
    began, caught, guilty = time.monotonic(), 0, 0
    width = max(len(one.name) for one in chosen)
    with Pool() as pool:
        for found in pool.imap(partial(hunt, rooms=options.rooms), fit):
            one, caught = found.mutant, caught + bool(found.caught_by)
            escaped = f"NOT CAUGHT by {one.seen_by or f'{options.rooms} rooms'}"
            print(f"{one.name:{width}}  {f'caught by {found.caught_by}' if found.caught_by else escaped}", flush=True)
            for outcome in found.guilty:
                guilty += 1
                print(f"without any bug, seed {outcome.seed} fails too: {outcome.invariant}: {outcome.what}")
    for name, why in stale.items():
        print(f"{name:{width}}  DOESN'T APPLY: {why}")
    print(f"{caught} of {len(chosen)} caught; {time.monotonic() - began:.0f} s")
    return 0 if caught == len(chosen) and not guilty else 1


if __name__ == "__main__":
    sys.exit(main())
