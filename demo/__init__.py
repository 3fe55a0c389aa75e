"""The demo: a bouncer at work on a real LiveKit server, shown in a terminal."""
