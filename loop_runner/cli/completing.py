"""``completion``: what a shell needs to complete commands, options, runs and models."""

from __future__ import annotations

from contextlib import suppress

import click
from click.shell_completion import CompletionItem, get_completion_class

import loop_runner as lr
from loop_runner.cli import output

_VARIABLE = "_LOOP_RUNNER_COMPLETE"
_FILES = {"bash": "~/.bashrc", "zsh": "~/.zshrc", "fish": "~/.config/fish/completions/loop-runner.fish"}
# bash ends a word at a colon, and models have one: `anthropic:claude-...`.
_BASH_WORDS = "COMP_WORDBREAKS=${COMP_WORDBREAKS//:}\n"


@click.command()
@click.argument("shell", type=click.Choice(sorted(_FILES)))
def completion(shell: str) -> None:
    """Print the code that completes commands, options, runs and models in a shell.

    For bash, add the line of the example to ~/.bashrc; for zsh, the same with zsh to ~/.zshrc. For fish,
    write the output to ~/.config/fish/completions/loop-runner.fish.

    \b
    Example:  eval "$(loop-runner completion bash)"
    """
    from loop_runner.cli.group import main_group

    made = get_completion_class(shell)
    assert made is not None
    source = made.source_template % made(main_group, {}, "loop-runner", _VARIABLE).source_vars()
    output.write((_BASH_WORDS if shell == "bash" else "") + source.strip())


class _RunName(click.types.StringParamType):
    """The name of a run, or a folder."""

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The runs whose names begin so, the newest first, and folders."""
        from loop_runner.cli import preferences

        result: list[CompletionItem] = []
        with suppress(lr.LoopRunnerError, OSError):
            preferences.apply([str(ctx.info_name)])
            result = [CompletionItem(name) for name in preferences.run_names() if name.startswith(incomplete)]
        return result if result and "/" not in incomplete else [CompletionItem(incomplete, type="dir")]


class _ModelId(click.types.StringParamType):
    """A model, as ``provider:name``."""

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The models that are known by name; a file behind ``local:``, ``script:`` or ``manual:`` is not."""
        return [CompletionItem(model) for model in _models() if model.startswith(incomplete)]


def _models() -> list[str]:
    result: dict[str, None] = {}
    with suppress(lr.LoopRunnerError, OSError):
        result |= {f"local:{entry.name}": None for entry in lr.installed.local_models() if entry.is_fetched}
        for provider in lr.installed.providers():
            if provider.name != "local":
                names = (provider.root, provider.sub)
                result |= {f"{provider.name}:{name}": None for name in names if name}
                result |= {} if provider.root else {f"{provider.name}:": None}
    return list(result)


def with_completion(command: click.Command) -> click.Command:
    """``command`` with arguments that complete runs, and options that complete models."""
    for param in command.params:
        if isinstance(param.type, click.types.StringParamType):
            if str(param.metavar or "").lstrip("[").startswith("RUN"):
                param.type = _RunName()
            elif param.name in ("model", "sub_model"):
                param.type = _ModelId()
    return command
