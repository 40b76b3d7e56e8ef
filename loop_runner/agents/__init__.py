"""Passes that an agent CLI does (Claude Code, Codex, Gemini CLI, Cursor, Copilot), and the hook it calls.

- ``agent``     a pass of an agent: starts the client, and takes its answer from the run folder
- ``agent_runs``  what such a run begins with, where the agent works, and whose session it belongs to
- ``stop``      the hook's own process, with ``sessions`` and ``call``: the standard library only
- ``endpoint``  the running loop's side of the hook
- ``install``   writes and removes the hook in the settings of each client

Owns what differs between the clients: the events that they send (``protocol``), how they end (``endings``).
Never judges an answer: the loop verifies it again after the client has ended. Start reading at ``agent``.
"""
