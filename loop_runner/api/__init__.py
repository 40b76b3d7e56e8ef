"""The library: what ``import loop_runner`` offers, as docs/api.md describes it.

- ``checked_task``  ``Task``, checked when it is made; ``data`` for inputs in memory
- ``makers``        a function for each kind of verifier
- ``running``       ``run``, ``ask``, ``resume`` and their asynchronous forms
- ``result``        ``Result`` and ``Run``: how a run ended, and its folder; ``looking`` has the rest of it
- ``auditing``      ``audit``
- ``work``          one run at work in a thread of its own
- ``types``         further types, for annotations; ``installed`` what this installation has

``rlm`` has the words of ``rlms`` and ``dspy.RLM``, ``stream`` and ``typed_events`` what happens meanwhile. A
run works in a thread, so the caller's event loop, signals, current folder and settings stay its own. Never
prints. Start reading at ``running``.
"""
