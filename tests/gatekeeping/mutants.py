"""Deliberate bugs in the gatekeeper, to prove that its simulation can fail."""

from tests.simulation.mutants import mutant

DOORS = "gatekeeper.doors.Doors"
MARK = "gatekeeper.mark.surplus"
MUTANTS = (
    mutant("dispatch on a webhook alone", f"{DOORS}._dispatching", "door.listed_at < now - FRESH", "False"),
    mutant("no limit on what is in flight", f"{DOORS}._full", "A >= IN_FLIGHT", "False"),
    mutant("the newest room first", f"{DOORS}._attend", "(door.wanted_at, door.sid)", "(-door.wanted_at, door.sid)"),
    mutant("never take back what brought no bouncer", f"{DOORS}._refuse", "dispatch.mark == door.sid", "False"),
    mutant("take back what others dispatched", f"{DOORS}._refuse", "dispatch.mark == door.sid", "True"),
    mutant(
        "never look whether the bouncer came", f"{DOORS}._bouncers", "command.at >= door.since + CHECKS[-1]", "False"
    ),
    mutant("believe that a bouncer stays", f"{DOORS}._plan", "max(door.checked_at, door.since) + A", "now + 1e6"),
    mutant("keep what is surplus", f"{DOORS}._dispatches", "surplus(dispatches, door.bouncers, A)", "()"),
    mutant("keep two where one came back", f"{DOORS}._dispatches", "A if seen_before else B", "B"),
    mutant("believe at once that it came back", f"{DOORS}._dispatches", "A if seen_before else B", "A"),
    mutant("no budget", "gatekeeper.budget.Budget.take", "self._now(now) - 1.0", "self._now(now)"),
    mutant("believe that nothing is needed", f"{DOORS}._consider", "self._needed(door.sid, now)", "False"),
    mutant(
        "never look again whether a bouncer is needed",
        f"{DOORS}._attend",
        "self._checks[Standing.GUARDED][door.sid] = None",
        "pass",
    ),
    mutant("no pause", f"{DOORS}._sign", "PAUSES.pause(A, B)", "0.0"),
    mutant("a closed room stays known", f"{DOORS}._lacking", "A or door.lacked >= lists", "False"),
    mutant("ignore the mode", f"{DOORS}._consider", "not door.chosen or door.ghost", "False"),
    mutant(
        "leave the ghosts their bouncer",
        f"{DOORS}._dispatches",
        "(foreign or door.suspect) and not door.people",
        "False",
        f"{DOORS}._created",
        "self._back[dispatch] = A",
        "pass",
    ),
    mutant(
        "never dispatch again where the bouncer left",
        "gatekeeper.doors.Doors._departed",
        "self._sign(door, Sign.ABSENT, now)",
        "None",
        f"{DOORS}._bouncers",
        "self._sign(door, Sign.ABSENT, now)",
        "None",
    ),
    mutant("take all back", MARK, "made_by[b.identity] != kept", "True"),
    mutant("two gatekeepers keep different ones", MARK, "(b.identity not in returned, b.joined_ms, b.sid)", "(id(b),)"),
    mutant("keep one that isn't ready", MARK, "b.ready", "True"),
    mutant("decide while LiveKit is away", f"{DOORS}._failed", "self.blind = True", "pass"),
)
