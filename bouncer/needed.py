"""Is a bouncer needed in a room? One answer, for a bouncer that may leave and a gatekeeper that may send one. Pure."""

from collections.abc import Sequence

from bouncer.decide import Decision, Guards, HeldBy, Ledger
from bouncer.policy import Rule
from bouncer.room import Instant, Room


def why_needed(
    room: Room, rules: Sequence[Rule], guards: Guards, decision: Decision, now: Instant, ledger: Ledger
) -> str:
    """Return why a bouncer is needed in a room that was judged so; empty if it isn't.

    It is needed if a rule has to watch an agent from inside the room, or if a participant is due or will come due. What
    is exempt, held or handled doesn't count, except what only waits for the budget.
    """
    judged = [who for who in room.agents_and_avatars if not guards.exempts(who, now)]
    for rule in rules:
        if rule.watches and any(map(rule.judges, judged)):
            return f"{rule.id} has to watch an agent"
    if ledger.leaving or ledger.owed:
        return "an eviction is under way"
    held = {hold.finding.key for hold in decision.held if hold.by is not HeldBy.BUDGET}
    for finding in decision.findings:
        verdict = finding.verdict
        settled = finding.key in held or finding.key in ledger.handled
        if not settled and not guards.exempts(finding.participant, now):
            return f"{finding.rule.id}: an agent {'is' if verdict.due <= now else 'will come'} due"
    return ""
