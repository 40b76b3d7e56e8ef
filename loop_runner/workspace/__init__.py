"""The run folder: git history, journal, lock.

- ``workspace``    the one writer of a run folder, for its life under the lock
- ``history``      reads a run folder without the lock
- ``layout``       which bytes are at which path, and back
- ``journal``      replies that are paid for and not in a commit yet
- ``walk``         reads the model's files without following, blocking or believing
- ``folder``       writes files below a folder without following links
- ``recovery``     what is done before a run goes on: clear, set aside, put back
- ``git``          the folder of all that starts git
- ``repair``       the folder of what finds damage and rebuilds
- ``lock``, ``faults``  the floor: one runner, errors in three parts
"""
