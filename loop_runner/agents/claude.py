"""Claude Code: the command of a pass, and where its login is. Starts nothing."""

from __future__ import annotations

from loop_runner.model.providers.logins import has_claude as is_logged_in

__all__ = ["PASS", "is_logged_in"]

# ``{settings}`` has this run's stop hook; edits need no confirmation, other tools follow the user's settings.
PASS = (
    "claude",
    "-p",
    "--settings",
    "{settings}",
    "--permission-mode",
    "acceptEdits",
    "--output-format",
    "json",
)
