"""The workbench: nine tasks of the kind that people bring, each played by a scripted root model.

Owns the tasks (`tasks.py`, with seeded inputs from `legal.py`, `reading.py` and `counting.py`), the
play against the loopback model server (`playing.py`), and the figures (`figures.py`). Every request to a
model is recorded. `test_workbench.py` plays small inputs and asserts the answers, the stable prefix and
that no reply is paid for twice; `python -m tests.workbench` plays full inputs and writes
bench/WORKBENCH.md.

A scripted root model does what a good model would do with the helpers that its system prompt offers.
Where an earlier version lacks one, the script writes the code itself, so that versions can be compared.
"""
