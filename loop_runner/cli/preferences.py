"""``config``, and what the settings of the user and the project change about the other commands."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import loop_runner as lr
from loop_runner import ConfigError
from loop_runner.cli import output

if TYPE_CHECKING:
    from loop_runner.runs.preferences import Settings, Value

# Commands that work when the settings do not: they say what is wrong with them.
_WITHOUT = frozenset({"config", "doctor", "help", "docs", "completion", "models"})


def settings() -> Settings:
    """The settings that hold in the current folder."""
    from loop_runner.runs import preferences as all_settings

    return all_settings.read(os.environ, Path.cwd())


def apply(arguments: list[str]) -> None:
    """Use the folder of runs that the settings name. Costs nothing where there are no settings."""
    from loop_runner.runs import new_folders

    new_folders.use_runs_folder(None)
    if not arguments or arguments[0].startswith("-") or arguments[0] in _WITHOUT or not _exist():
        return
    if runs := settings().get("runs"):
        new_folders.use_runs_folder(Path(runs).expanduser())


def _exist() -> bool:
    """Whether there is any file of settings: without one, nothing is imported to read it."""
    named = os.environ.get("LOOP_RUNNER_CONFIG")
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")  # noqa: PTH111
    user = named or f"{base}/loop-runner/config.toml"
    try:
        here = Path.cwd()
    except OSError:
        return False
    return Path(user).is_file() or any(
        (place / ".loop-runner.toml").is_file() for place in (here, *here.parents)
    )


def with_settings(task: lr.Task, flags: dict[str, Any]) -> lr.Task:
    """The task with the models of the settings where it names none; ``flags`` with their display."""
    if not _exist():
        return task
    result = settings()
    for name, ignored in result.ignored.items():
        output.note(f"note: {ignored.origin}: `{name}` is ignored: {ignored.ignored}")
    if (display := result.get("display")) == "quiet":
        flags["quiet"] = True
    elif display and flags.get("display") == "auto":
        flags["display"] = display
    checked = task.checked
    if checked.is_agent or checked.model is not None:
        return task
    models = {"model": result.get("model"), "sub_model": checked.sub_model or result.get("sub_model")}
    return lr.Task.of(replace(checked, **models), task.output_type)


def sub_model() -> str | None:
    """The model for questions that the settings name: the sub-model, else the model."""
    result = settings() if _exist() else None
    return (result.get("sub_model") or result.get("model")) if result else None


def run_names() -> list[str]:
    """The names of the runs here, the newest first."""
    from loop_runner.runs.folders import all_runs

    return [run.name for run in all_runs()]


def project_targets() -> tuple[Any, ...]:
    """The targets of notifications that the project's own file names and the user agreed to."""
    result = settings() if _exist() else None
    value = result.values.get("notify") if result else None
    return value.value if result and value and value.origin == str(result.project_file) else ()


@click.group()
def config() -> None:
    """Show the settings of the user and the project, and trust a project's.

    \b
    Example:  loop-runner config show --origin
    """


@config.command()
@click.option("--origin", is_flag=True, help="Show the file that each value comes from.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def show(origin: bool, as_json: bool) -> None:
    """Print the settings that hold in this folder.

    \b
    Example:  loop-runner config show --origin
    """
    result = settings()
    if as_json:
        rows = {name: _as_json(value) for name, value in (*result.values.items(), *result.ignored.items())}
        files = {"user": result.user_file, "project": result.project_file}
        output.write_json(
            {"settings": rows, "files": {name: str(path or "") for name, path in files.items()}}
        )
        return
    if not result.values and not result.ignored:
        output.write(
            f"no settings; yours go into {result.user_file or 'a file that LOOP_RUNNER_CONFIG names'}"
        )
    for name, value in sorted(result.values.items()):
        output.write(f"{name} = {_shown(value)}" + (f"   # {value.origin}" if origin else ""))
    for name, value in sorted(result.ignored.items()):
        output.write(f"{name} = {_shown(value)}   # ignored, {value.origin}: {value.ignored}")


@config.command()
@click.argument("file", required=False, type=click.Path(path_type=Path, exists=True))
def trust(file: Path | None) -> None:
    """Let all settings of the project in this folder count, as they are now.

    Look at the file first: its notifications may start programs and send data.

    \b
    Example:  loop-runner config trust
    """
    from loop_runner.runs import preferences as all_settings

    result = file or all_settings.project_file(Path.cwd(), os.environ)
    if result is None:
        raise ConfigError(
            f"there is no {all_settings.PROJECT_FILE} here",
            why="a project's settings are in that file, in this folder or one above it",
            hint="name the file: loop-runner config trust PATH",
        )
    all_settings.trust_project(result.absolute(), os.environ)
    output.write(f"trusted as it is now: {result}")


@config.command("test-notify")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def test_notify(as_json: bool) -> int:
    """Send a test message to every target of your settings, and say which of them took it.

    \b
    Example:  loop-runner config test-notify
    """
    from loop_runner.runs import notify

    targets = settings().get("notify", ())
    if not targets:
        raise ConfigError(
            "your settings name nobody to notify",
            why="a test message needs a target",
            hint="add `notify = [...]` to your settings; see docs/notifications.md",
        )
    message = notify.Message("test", "loop-runner", "this is a test")
    children = [notify.start(target, message, os.environ) for target in targets]
    taken = [child.wait() == 0 for child in children]
    if as_json:
        rows = [{"target": target.shown(), "ok": ok} for target, ok in zip(targets, taken, strict=True)]
        output.write_json({"targets": rows})
    else:
        for target, ok in zip(targets, taken, strict=True):
            output.write(f"{'ok' if ok else 'FAILED':<8} {target.shown()}")
    return 0 if all(taken) else 4


def _shown(value: Value) -> str:
    """A value on one line; addresses of notifications are never shown."""
    import json

    return json.dumps(_plain(value.value), ensure_ascii=False)


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [target.shown() if hasattr(target, "shown") else target for target in value]
    return value


def _as_json(value: Value) -> dict[str, Any]:
    return {"value": _plain(value.value), "origin": value.origin, "ignored": value.ignored}
