"""Runs as parts of other frameworks, one file each. Each is loaded by those who have the framework.

- ``pydantic_ai``  ``create_toolset(runs_dir)`` and ``rlm_tool(context)`` for agents of PydanticAI
- ``inspect_ai``   ``rlm_solver()`` for evaluations of Inspect

Uses the public API only, and never decides whether an answer is verified: it hands on what the run says.
Start reading at ``pydantic_ai.py``.
"""
