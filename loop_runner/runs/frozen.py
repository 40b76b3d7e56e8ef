"""The task as a run folder stores it: written once, read whenever the run continues."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from loop_runner import inputs
from loop_runner.errors import ConfigError
from loop_runner.kernel import packages
from loop_runner.kernel.offered import offered
from loop_runner.model import registry
from loop_runner.records import (
    Inputs,
    Message,
    Request,
)
from loop_runner.runs import preflight
from loop_runner.runs.context import RunContext
from loop_runner.runs.models import (
    count_tokens,
    profile_name,
    shown_chars,
)
from loop_runner.session import direct
from loop_runner.session.overview import Reader, describe
from loop_runner.task import config, limits, prompts, system_prompts, task_types
from loop_runner.task.config import Task
from loop_runner.task.profiles import profile
from loop_runner.task.prompts import Templates
from loop_runner.text import code, plural
from loop_runner.verify import Gates, Programs
from loop_runner.workspace.openable import parsing
from loop_runner.workspace.workspace import Workspace

if TYPE_CHECKING:
    from loop_runner.tools import ToolSpec

_EXAMPLE_QUESTION = "example/question.md"


# The helpers that a child session is told of; the others are there too.
_OF_CHILDREN = ("search_text", "outline", "read", "chunks", "rows", "cite", "llm_query", "llm_batch")


def templates_of(task: Task) -> Templates:
    """The templates of the task's type, with those of the task's own folder in front."""
    return prompts.of_task(task.type, None if task.prompts == "none" else task.base_dir / task.prompts)


def task_files(
    task: Task, texts: Inputs, templates: Templates, gates: Gates, tools: Sequence[ToolSpec] = ()
) -> dict[str, bytes]:
    """The stored form of a task: the task, the prompt, and the system prompt."""
    files = {"task.yaml": config.dump_task(task).encode(), "prompt.md": task.prompt.encode()}
    if task.is_agent:
        return files | {"system.md": _agent_rules(task, templates, gates).encode()}
    return files | {
        "system.md": (_system_prompt(task, texts, templates, gates) + of_tools(templates, tools)).encode(),
        **_direct_files(task, templates, gates),
        "child_system.md": (child_system_prompt(task, templates) + of_tools(templates, tools)).encode(),
        **_example_files(task, templates),
    }


def of_tools(templates: Templates, tools: Sequence[ToolSpec]) -> str:
    """What a system prompt ends with: the tools of the task; "" for a task without any."""
    if not tools:
        return ""
    from loop_runner.tools import offered_tools

    return "\n" + templates.render("tools", tools=offered_tools.lines(tools))


def follow_model(old: Task, new: Task) -> Task:
    """``new`` with the sub-model that goes with its root model, where that is what ``old`` had."""
    if not old.model or not new.model or new.model == old.model or new.sub_model != old.sub_model:
        return new
    if old.sub_model not in (old.model, registry.default_sub_model(old.model)):
        return new
    return replace(new, sub_model=registry.default_sub_model(new.model))


def described_gates(task: Task, known: Programs) -> Gates:
    """The verifiers as far as they can be described with nothing started; ``known`` files are pinned."""
    return preflight.gates(task, known, starts_nothing=True).checked()


def frozen_gates(task: Task, workspace: Workspace, *, repin: bool = False) -> Gates:
    """The verifiers, with their programs as the run folder has them, and those that it does not have yet."""
    pinned = Programs() if repin else pinned_in(workspace.folder, workspace.history.read)
    return preflight.gates(task, pinned)


def pinned_in(folder: Path, read: Callable[[str], bytes | None], *, is_frozen: bool = False) -> Programs:
    """The programs that a run folder holds; ``WorkspaceError`` when they were changed there."""
    with parsing(folder, "gates/pins.json"):
        return Programs.from_files(read, is_frozen=is_frozen)


def frozen_inputs(
    source: str,
    task: Task,
    read: Callable[[str], bytes | None],
    env: Mapping[str, str],
    elsewhere: Path | None = None,
) -> Inputs:
    """The inputs that ``source`` (``inputs.json``) names, where they lie now; ``elsewhere`` is tried first.

    ``read`` gives files of the run folder. What was converted is converted again where the cache has lost it.
    Raises ``ConfigError`` when one is missing or is not what the run began with.
    """
    texts = inputs.from_json(source, task.base_dir)
    if elsewhere is not None:
        texts = inputs.found_in(texts, elsewhere)
    texts = restored_inputs(texts, task, read, env)
    _refuse_changed_inputs(texts)
    return texts


def restored_inputs(
    texts: Inputs, task: Task, read: Callable[[str], bytes | None], env: Mapping[str, str]
) -> Inputs:
    """``texts``, with converted or fetched ones rebuilt if the cache has lost them."""
    cache = inputs.cache_dir(env)
    return inputs.restore(texts, inputs.Converter(cache, task.kernel.require_tier), cache, read)


def text_of(workspace: Workspace, path: str) -> str:
    """One of the runner's files; ``WorkspaceError`` when it is no longer text."""
    with parsing(workspace.folder, path):
        return (workspace.history.read(path) or b"").decode()


def _system_prompt(task: Task, texts: Inputs, templates: Templates, gates: Gates) -> str:
    model = task.model or ""
    sizes, shown = profile(registry.profile_name(model)), shown_chars(task, model)
    reader = Reader(registry.window_tokens(model), shown, task.budget.turns)
    return system_prompts.root(
        templates,
        sizes,
        system_prompts.Session(
            limits.describe_limits(task.budget),
            task.history,
            task.code_as == "tool",
            task_types.is_on_web(task.tools),
        ),
        inputs=describe(texts, None if sizes.has_example else reader, _sources(task)),
        python=packages.describe(task.kernel),
        helpers=offered(),
        requirements=gates.requirements(briefly=bool(sizes.suffix)),
        max_output_chars=shown,
    )


def _sources(task: Task) -> list[str]:
    """What the task names as its inputs, but for single files: their names say it all."""
    specs = [dict(item) if isinstance(item, Mapping) else {"path": item} for item in task.inputs]
    specs = [item for item in specs if "data" not in item]  # its name says it all
    given = [str(item.get("git") or item.get("path") or item.get("url")) for item in specs]
    own = [item for item in given if not (task.base_dir / item).is_file() and "://" not in item]
    return [shown for item in own if (shown := _source(task.base_dir / item, item))]


def _source(path: Path, given: str) -> str:
    """A folder by its own name; a pattern or revision as it was written."""
    if path.is_dir():
        return f"the folder {code(path.resolve().name + '/')}"
    return code(given) if not Path(given).is_absolute() else ""


def _agent_rules(task: Task, templates: Templates, gates: Gates) -> str:
    """The text about the loop after an agent's prompt in every pass: it has no system prompt from us."""
    place = "this folder" if task.session == "command" else "the folder you work in"
    return system_prompts.agent(templates, place, gates.requirements())


def _direct_files(task: Task, templates: Templates, gates: Gates) -> dict[str, bytes]:
    """The system prompt of a pass that takes the direct path; none where no pass does."""
    if task.session not in ("direct", "auto") or task.tools:
        return {}
    return {"system.direct.md": system_prompts.direct(templates, gates.requirements()).encode()}


def session_file(
    task: Task, texts: Inputs, context: RunContext, files: Mapping[str, bytes]
) -> dict[str, bytes]:
    """How the passes are held, decided once: a resumed run must not decide otherwise."""
    if task.session not in ("direct", "auto") or task.tools:
        return {}
    root = task.model or ""
    system = files["system.direct.md"].decode()
    reply_tokens = profile(registry.profile_name(root)).max_reply_tokens
    decision = direct.decide(
        task.session,
        lambda: Request(
            root, (direct.first_message(texts, task.prompt, 0),), system, max_output_tokens=reply_tokens
        ),
        texts,
        room_tokens=registry.window_tokens(root) - reply_tokens,
        count=lambda request: count_tokens(request, task.base_dir, context.env),
    )
    return {"session.json": decision.to_json()}


def session_kind(workspace: Workspace) -> direct.Decision:
    """How the passes of this run are held, as it was decided when the run began."""
    with parsing(workspace.folder, "session.json"):
        return direct.from_json(workspace.history.read("session.json"))


def child_system_prompt(task: Task, templates: Templates) -> str:
    """What every child session is told first: the same for all of them, so that a provider can cache it."""
    model = task.sub_model or task.model or ""
    return system_prompts.child(
        templates,
        profile(profile_name(task, model)),
        helpers=offered(_OF_CHILDREN, briefly=True),
        max_output_chars=shown_chars(task, model),
    )


def _example_files(task: Task, templates: Templates) -> dict[str, bytes]:
    """The worked turn of a profile that has one, frozen like the rest of the prompt."""
    sizes = profile(registry.profile_name(task.model or ""))
    example = system_prompts.example(templates, sizes)
    if example is None:
        return {}
    question, replies = example
    numbered = {_example_reply(number): reply for number, reply in enumerate(replies, 1)}
    return {path: text.encode() for path, text in {_EXAMPLE_QUESTION: question, **numbered}.items()}


def _example_reply(number: int) -> str:
    return "example/reply.md" if number == 1 else f"example/reply-{number}.md"


def examples_of(workspace: Workspace) -> Iterator[tuple[Message, ...]]:
    """The worked turns that conversations of the run begin with, for the passes in turn; none for most."""
    question = workspace.history.read(_EXAMPLE_QUESTION)
    for number in itertools.count(1):
        reply = workspace.history.read(_example_reply(number))
        if question is None or reply is None:
            return
        yield Message("user", question.decode()), Message("assistant", reply.decode())


def refuse_changed_tools(task: Task, programs: Programs) -> None:
    """Refuse tools whose files are not what the run began with: their results would be another program's."""
    if not task.tools:
        return
    from loop_runner.tools import preparing, read_entries

    made_of = preparing.sources(read_entries(task.tools), task.base_dir.resolve())
    if changed := programs.changed(programs.relied_on(made_of)):
        raise ConfigError(
            f"a file of the task's tools: {changed}",
            why="the run holds results of the old file, and would mix them with those of the new one",
            hint="restore the file, or pin it anew: loop-runner resume RUN --repin",
        )


def refuse_other_words(frozen: Task, task: Task) -> None:
    """Refuse a change of what the model was told in the system prompt, which never changes."""
    for key in ("history", "session", "code_as", "tools"):
        if getattr(frozen, key) != getattr(task, key):
            raise ConfigError(
                f"`{key}` cannot be changed for a run that has begun",
                why="the system prompt of the run states the old value",
                hint="start a new run with it",
            )


def _of_inputs(some: Sequence[str], texts: Inputs, singular: str, several: str) -> str:
    verb = singular if len(some) == 1 else several
    return f"{len(some)} of {plural(len(texts.texts), 'input')} {verb}"


def _refuse_changed_inputs(texts: Inputs) -> None:
    changed = inputs.changed(texts)
    if not changed:
        return
    shown = ", ".join(changed[:3]) + (f" and {len(changed) - 3} more" if len(changed) > 3 else "")
    paths = {text.name: text.path for text in texts.texts}
    if gone := [name for name in changed if not paths[name].exists()]:
        raise ConfigError(
            f"{_of_inputs(gone, texts, 'is', 'are')} not there: {paths[gone[0]]}"
            + (f" and {len(gone) - 1} more" if len(gone) > 1 else ""),
            why="a run folder names its inputs and their hashes; it does not hold them",
            hint="put them there, or name their folder here with --inputs DIR (inputs_dir= in a program)",
        )
    raise ConfigError(
        f"{_of_inputs(changed, texts, 'has', 'have')} changed since the run began: {shown}",
        why="notes, variables and citations of earlier passes refer to the old texts",
        hint="restore the old files, or start a new run",
    )
