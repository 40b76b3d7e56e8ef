"""What keeps a process that runs untrusted code away from the rest of the machine.

- ``probe``   finds this machine's tier by trying it: ``probe`` and ``SandboxReport``
- ``wrap``    the command and the environment of a confined process: ``wrap``, ``Layers``, ``Limits``
- ``mounts``  what such a process can see of the file system

``cgroup`` limits memory, ``remembered`` caches the probe's result, ``bytecode`` compiles for processes that
may not write. ``inside`` is the code that a process runs first, to confine itself. Used for the model's
kernel, for gates and for document readers. Never claims more than it has tried.
"""
