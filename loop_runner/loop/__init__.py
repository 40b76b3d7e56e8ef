"""Passes, until the stop hook allows the end or a limit is reached.

- ``loop``      ``Loop``: one pass after the other, the verdict on each, the commit of each
- ``reentry``   the first message of a pass: the original prompt, what failed, the committed state
- ``stalling``  which strategy the next pass gets, and when to give up because nothing changes

``carried`` finds what a pass takes over from the passes before it; ``stopping`` ends a run in order when a
signal arrives. Never talks to a model and never runs code: a session does. Start reading at ``Loop.run``.
"""
