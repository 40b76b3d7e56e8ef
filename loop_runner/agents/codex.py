"""Codex: the command of a pass, and where its login is. Starts nothing."""

from __future__ import annotations

from loop_runner.model.providers.logins import has_codex as is_logged_in

__all__ = ["PASS", "is_logged_in"]

# The files are a copy of the user's commit, in a run folder: it may write there, and nowhere else.
PASS = ("codex", "exec", "--skip-git-repo-check", "--sandbox", "workspace-write", "--json", "-")
