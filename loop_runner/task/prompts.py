"""Renders the prompts from jinja2 files: the built-in ones in ``prompts/``, a type's, a project's own.

A template is looked for in the project's ``prompts/`` (frozen in the run folder), then in ours for the type
of task (``prompts/types/TYPE/``), then in ours; ``ours/NAME`` leaves the project's out, so that an own one
can include what it replaces. Undefined names are errors. What models and inputs wrote is passed in as values,
never as template source, and the templates put it into fences that it cannot close (``fenced``). A run folder
may come from another person, so templates run in jinja2's sandbox. Relies on jinja2, imported on first use.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from loop_runner import text
from loop_runner.errors import ConfigError, WorkspaceError
from loop_runner.task import bounded, resources

if TYPE_CHECKING:
    import jinja2

ENDING = ".md.j2"
FOLDER = "prompts"  # in the run folder, and of the built-in templates
_MAX_BYTES = 200_000  # of one template
_MAX_OWN = 100


@dataclass(frozen=True, slots=True)
class Templates:
    """The templates of one run: ``own`` are the project's, as (file name, source)."""

    type: str = ""
    own: tuple[tuple[str, str], ...] = ()

    def render(self, template: str, /, **values: Any) -> str:
        """Render ``<template>.md.j2``.

        Raises ``ConfigError`` when the project's own templates are what fails, else what jinja2 raises.
        """
        environment = _environment(self)
        if not self.own:
            return environment.get_template(f"{template}{ENDING}").render(**values).strip() + "\n"
        try:
            with bounded.limits():
                parts = environment.get_template(f"{template}{ENDING}").generate(**values)
                return bounded.joined(parts).strip() + "\n"
        except bounded.TooMuchError as error:
            raise WorkspaceError(
                f"the template {template}{ENDING} of this run cannot be rendered: {error}",
                why="the model needs it to know what to do next",
                hint="templates are frozen when a run begins: fix the project's and start a new run",
                exit_code=4,
            ) from error
        except Exception as error:  # noqa: BLE001 - whatever a user's template does
            _refuse_own(template, error)

    def to_files(self) -> dict[str, bytes]:
        """The project's own, as a run folder keeps them."""
        return {f"{FOLDER}/{name}": source.encode() for name, source in self.own}


BUILT_IN = Templates()


def render(template: str, /, **values: Any) -> str:
    """Render ``prompts/<template>.md.j2``. Raises ``jinja2.UndefinedError`` for a name that is not given."""
    return BUILT_IN.render(template, **values)


def of_task(type_name: str, folder: Path | None) -> Templates:
    """The templates of a new run: the type's, and the project's own in ``folder``, checked.

    Raises ``ConfigError`` for a template without the name of a built-in one, that does not compile, includes
    a file that is not there, or uses a value that it would not be given.
    """
    if folder is None or not folder.is_dir():
        return Templates(type_name)
    paths = sorted(folder.glob(f"*{ENDING}"))
    if paths and folder.resolve() == resources.folder(FOLDER).resolve():
        return Templates(type_name)  # a task file at the top of our own checkout
    if len(paths) > _MAX_OWN:
        raise _bad(str(folder), f"it holds more than {_MAX_OWN} templates")
    templates = Templates(type_name, tuple((path.name, _source(path)) for path in paths))
    for name, _ in templates.own:
        _check(templates, name, folder)
    return templates


def frozen(type_name: str, paths: Iterable[str], read: Callable[[str], bytes | None]) -> Templates:
    """The templates of a run that has begun: ``paths`` are those below ``prompts/`` in its folder."""
    own = tuple(
        (path.removeprefix(f"{FOLDER}/"), (read(path) or b"").decode("utf-8", "replace"))
        for path in sorted(paths)
        if path.endswith(ENDING)
    )
    return Templates(type_name, own)


# ── finding them ────────────────────────────────────────────────────────────────────────────────────


@cache
def _environment(templates: Templates) -> jinja2.Environment:
    import jinja2

    built_in = _built_in(templates.type)
    environment = bounded.environment_class()(
        loader=jinja2.ChoiceLoader(
            [jinja2.DictLoader(dict(templates.own)), built_in, jinja2.PrefixLoader({"ours": built_in})]
        ),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # the output is a prompt, not HTML; model text goes through `fenced`
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    bounded.remove_filters(environment)
    environment.filters["fenced"] = text.fence
    environment.filters["cut_middle"] = text.cut_middle
    environment.filters["one_line"] = text.one_line
    environment.filters["label"] = text.label
    return environment


def _built_in(type_name: str) -> jinja2.BaseLoader:
    import jinja2

    base = resources.folder(FOLDER)
    folders = [base / "types" / type_name, base] if type_name else [base]
    return jinja2.FileSystemLoader(folders)


# ── checking a project's own ────────────────────────────────────────────────────────────────────────


def _source(path: Path) -> str:
    try:
        data = path.read_bytes()
        if len(data) > _MAX_BYTES:
            raise _bad(str(path), f"it has more than {_MAX_BYTES:,} bytes")
        return data.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _bad(str(path), f"it cannot be read: {error}") from error


def _check(templates: Templates, name: str, folder: Path) -> None:
    """Before anything is paid: a run would meet the fault only at the end of its first pass."""
    import jinja2

    path = str(folder / name)
    built_in = _environment(Templates(templates.type))
    is_part = name.startswith("_")  # for others to include; whatever those are given is there
    if not is_part and name not in built_in.list_templates():
        raise _unknown(path, name, built_in.list_templates())
    try:
        used = _names(templates, name)
        known = None
        if not is_part:  # a short one for small models is given what the long one is
            known = _names(Templates(templates.type), name) | _names(
                Templates(templates.type), name.replace(".local.", ".")
            )
    except jinja2.TemplateSyntaxError as error:
        raise _bad(f"{folder / (error.name or name)}, line {error.lineno}", str(error.message)) from error
    except jinja2.TemplateNotFound as error:
        raise _bad(path, f"it includes {error.name}, which does not exist") from error
    except jinja2.TemplateError as error:
        raise _bad(path, str(error)) from error
    for unknown_name in sorted(used - known) if known is not None else ():
        near = difflib.get_close_matches(unknown_name, sorted(known or ()), 1)
        given = f"did you mean `{near[0]}`? " if near else ""
        raise _bad(
            path,
            f"it uses `{unknown_name}`, which is not available to it",
            f"{given}available: {_listed(known)}",
        )


def _names(templates: Templates, name: str, seen: frozenset[str] = frozenset()) -> set[str]:
    """The values that a template and what it includes ask for."""
    from jinja2 import meta

    environment = _environment(templates)
    assert environment.loader is not None
    source, _, _ = environment.loader.get_source(environment, name)
    tree = environment.parse(source, name)
    names = set(meta.find_undeclared_variables(tree))
    for other in meta.find_referenced_templates(tree):
        if other is not None and other not in seen:
            names |= _names(templates, other, seen | {name})
    return names


def _listed(names: set[str] | None) -> str:
    return ", ".join(sorted(names or ())) or "nothing"


def _unknown(path: str, name: str, built_in: list[str]) -> ConfigError:
    own = sorted(template.removesuffix(ENDING) for template in built_in if "/" not in template)
    near = difflib.get_close_matches(name.removesuffix(ENDING), own, 1)
    meant = f"did you mean {near[0]}{ENDING}?" if near else f"known: {', '.join(own)}"
    return ConfigError(
        f"{path} does not have the name of a template",
        why="it would never be used, and the model would see the built-in template",
        hint=f"{meant}. A part to include begins with _. A folder for something else: `prompts: none`"
        " in the task file, or the name of another folder",
    )


def _bad(where: str, problem: str, hint: str = "") -> ConfigError:
    return ConfigError(
        f"{where}: {problem}",
        why="it replaces a built-in template, so the model would not see its instructions",
        hint=hint or "fix it, or remove it; docs/task-types.md shows how they are written",
    )


def _refuse_own(template: str, error: Exception) -> NoReturn:
    raise ConfigError(
        f"the template {template}{ENDING} cannot be rendered with the project's own templates: {error}",
        why="the model needs it to know what to do next",
        hint="templates are frozen when a run begins: fix the project's and start a new run",
    ) from error
