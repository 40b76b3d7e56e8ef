"""Run a model unattended until a verifier, not the model, says that the work is done.

The story in the order in which a pass lives it, one module each:

- ``config``     reads the task file into a ``Task``
- ``inputs``     names, hashes and checks what the task works on
- ``prompts``    renders what the model is told
- ``loop``       runs passes until the stop hook allows the end
- ``session``    one pass: the model writes code, the kernel runs it
- ``kernel``     the process that keeps the model's variables
- ``model``      one request, one reply, from any provider
- ``stop_hook``  asked when a session wants to end; runs the verifiers
- ``verify``     checks the committed answer
- ``workspace``  the run folder: git history, journal, lock
- ``cli``        the only layer that prints, reads argv or exits

Importing this package imports nothing else; what is not named here may change.
"""

__version__ = "0.1.0"
