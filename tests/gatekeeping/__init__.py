"""The gatekeeper: tables of what it does about one room, and a simulation of what it does about thousands."""
