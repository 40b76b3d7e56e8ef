"""The run folder: git history, journal, lock.

- ``workspace``    the only writer of a run folder, for as long as it holds the lock
- ``history``      reads a run folder without the lock
- ``layout``       which bytes are at which path, and back
- ``journal``      replies that are paid for and not yet in a commit
- ``walk``         reads the model's files without following links, blocking or trusting
- ``folder``       writes files below a folder without following links
- ``recovery``     prepares a run to continue: clears leftovers, sets aside, restores
- ``git``          the folder of everything that starts git
- ``repair``       the folder of everything that finds damage and rebuilds
- ``lock``, ``faults``  the bottom layer: one runner, errors in three parts
"""
