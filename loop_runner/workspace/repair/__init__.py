"""Finds damage in a run folder, and rebuilds what can be rebuilt.

- ``fsck``         lists the damage; changes nothing
- ``repair``       sets damaged files aside and restores the last whole state
- ``inventory``    which objects of the repository can still be read
- ``consistency``  whether the files of a commit agree with each other

Never deletes what it cannot rebuild.
"""
