"""The host's side of the process that keeps the model's variables.

- ``kernel``          ``Kernel``: runs cells, takes and restores snapshots, survives the process
- ``kernel_process``  one life of the process
- ``report``          checks the process's frames
- ``lm_handler``      answers the process's requests to models
- ``launch``          the command and the environment of the process

``inside`` is the program of that process; both sides share ``inside/wire.py``. The host trusts no frame and
never unpickles. Importing this package imports none of them.
"""
