"""A run as a whole: begun, resumed, forked, replayed, verified again, compared.

- ``start``     creates a run folder or opens one, and puts the parts of a run together
- ``fork``      a new run from any point of another one; ``bisect`` finds the point where something changed
- ``replay``    runs the recorded replies again and compares every byte
- ``reverify``  checks the proof of a run with the same verifiers

``preflight`` finds what would fail later, ``origin`` and ``trust`` know whose a run folder is, ``compare``
and ``cost`` read several runs, ``reporters`` pass events on. Never prints. Start reading at ``start``.
"""
