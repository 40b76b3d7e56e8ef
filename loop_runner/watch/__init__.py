"""The live view in the terminal: a list of runs, and a page for one run (extra ``[watch]``).

- ``app``    ``WatchApp``: the screens and their keys
- ``page``   ``RunPage``: one run
- ``parts``  the texts of the page, as functions of an ``lr.RunView``

Uses the public API only, takes no lock and writes nothing but what its keys ask of a run. Start at ``app``.
"""
