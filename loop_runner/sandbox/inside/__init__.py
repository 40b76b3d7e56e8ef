"""The code that a process runs first to confine itself: the standard library and this folder only.

- ``confine``   applies the layers of a plan, one by one; a layer that fails ends the process
- ``seccomp``   the filter of system calls
- ``own_root``  a file system of its own where there is no bubblewrap
- ``effects``   tries whether each layer does what it should

The host imports ``confine`` and ``seccomp`` too, for their knowledge of this machine.
"""
