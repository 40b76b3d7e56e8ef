"""Stop hooks for the agent command lines that people already use.

``stop`` is the hook's own process and imports the standard library only; ``endpoint`` and ``agent`` are the
running loop's side of it; ``install`` writes the clients' settings; ``external`` asks hooks of others.
"""
