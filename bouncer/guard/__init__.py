"""The life of one guarded room: what to do next, one attempt at an eviction, one succession."""
