"""Who is what: the table of docs/explanation/who-is-what.md, for `policies --who`. A test holds the two together."""

from typing import NamedTuple


class Category(NamedTuple):
    """One row; the first that fits a participant decides what it is."""

    participant: str
    counts_as: str
    may_be_evicted: str


WHO: tuple[Category, ...] = (
    Category(
        "hidden, with our agent name and one of our dispatches; or a bouncer of another fleet",
        "a bouncer",
        "never under a policy; a surplus bouncer of ours is sent away",
    ),
    Category("hidden, with a job's identity (agent-AJ_…) whose dispatch is not listed yet", "nothing yet", "no"),
    Category("hidden, not of kind AGENT, without permission to publish or send data", "nothing", "never"),
    Category("with the kind detail SIMULATION: a simulated caller", "a person", "never"),
    Category(
        "with lk.publish_on_behalf at first sight, naming a present participant, without a name and a dispatch; "
        "one per principal",
        "part of its principal",
        "with its principal or once orphaned, if it is of kind AGENT or has the agent grant",
    ),
    Category("of kind AGENT, or with the agent grant", "an agent", "yes"),
    Category("named by people.except", "nothing", "never"),
    Category("named by people.also", "a person", "never"),
    Category("of kind EGRESS or INGRESS; hidden; or with the recorder grant", "nothing", "never"),
    Category("everyone else: STANDARD, SIP, CONNECTOR, BRIDGE", "a person", "never"),
)
