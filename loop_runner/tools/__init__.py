"""What the model's code may call besides models: the user's functions, commands, MCP servers and the web.

Owns the entries of ``tools:`` in a task file (``entries``), what a run keeps of them (``spec``), and how one
call is made on the host (``toolbox``: arguments checked, the call made, its result checked and encoded).
``python_process`` keeps the one process of a run's Python tools. A call goes through the switchboard as a
model request does, so the journal, the budget and the replay hold for it. Nothing here is reached by the
model's code but the result of a call, and nothing that a tool returns is believed before it fits.

Start reading with ``toolbox.Toolbox.call``.
"""

from loop_runner.tools.entries import Entry, read_entries
from loop_runner.tools.spec import Settings, ToolSpec, specs_from_json, specs_to_json
from loop_runner.tools.toolbox import Toolbox

__all__ = ["Entry", "Settings", "ToolSpec", "Toolbox", "read_entries", "specs_from_json", "specs_to_json"]
