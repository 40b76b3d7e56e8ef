"""Renders what the model is told, from the jinja2 files in ``prompts/``.

Undefined names are errors. What models and inputs wrote is passed in as values, never as template source, and
the templates put it into fences that it cannot close (``fenced``). Relies on jinja2, imported on first use.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from loop_runner import resources, text

if TYPE_CHECKING:
    import jinja2


def render(template: str, /, **values: Any) -> str:
    """Render ``prompts/<template>.md.j2``. Raises ``jinja2.UndefinedError`` for a name that is not given."""
    return _environment().get_template(f"{template}.md.j2").render(**values).strip() + "\n"


@cache
def _environment() -> jinja2.Environment:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(resources.folder("prompts")),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701 - the output is a prompt, not HTML; model text goes through `fenced`
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["fenced"] = text.fence
    environment.filters["cut_middle"] = text.cut_middle
    environment.filters["one_line"] = text.one_line
    return environment
