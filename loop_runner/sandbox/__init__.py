"""What keeps a process that runs untrusted code away from the rest of the machine.

- ``probe``   which tier this machine gives, tried by effect: ``probe`` and ``SandboxReport``
- ``wrap``    the command and the environment of a confined process: ``wrap``, ``Layers``, ``Limits``
- ``mounts``  what such a process can see of the file system

``cgroup`` limits memory, ``remembered`` keeps what the probe found, ``bytecode`` compiles for processes that
may not write. ``inside`` is the code that a process runs first, to confine itself. Used for the model's
kernel, for gates and for whatever reads documents. Never claims more than it has tried.
"""
