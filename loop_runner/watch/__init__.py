"""The live view in the terminal: a list of runs, and a page for one run (extra ``[watch]``).

- ``screens`` ``WatchApp``: the list of runs, and what opens a page
- ``run_page`` ``RunPage``: one run
- ``parts``   the texts of the page, as functions of an ``lr.RunView``

Uses the public API only, takes no lock, and writes only what its keys ask of a run.
"""
