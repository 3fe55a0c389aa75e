"""A second front door: a small service that sees to it that every room has a bouncer."""
