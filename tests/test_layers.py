"""The picture in docs/design.md, checked against the imports."""

import ast
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "loop_runner"

# Each room may import from the rooms in its set (and from itself); "*" stands for the plain-data floor.
FLOOR = {
    "config",
    "budget",
    "records",
    "errors",
    "resources",
    "text",
    "profiles",
    "plugins",
    "failpoints",
    "task_types",
    "scratch",
    "caches",
    "redaction",
    "stopping",
    "installing",
    "prompt_size",
}
MIDDLE = {
    "events",
    "prompts",
    "inputs",
    "process",
    "reply_reader",
    "json_schema",
    "conversation",
    "transcript",
    "overview",
}
# What a session is made of; a child session is one.
SESSION = {"session", "subcalls", "children", "direct", "committing"}
TALKERS = {"model", "kernel", "workspace"}
GATES = {"stop_hook", "verify", "panel", "gate_sandbox", "proof", "verdicts"}
# The hook's own process: started at every stop of every session, so it is the standard library and its own.
HOOK_PROCESS = {"stop", "sessions", "call", "protocol"}
ALLOWED = {
    "cli": FLOOR
    | MIDDLE
    | TALKERS
    | SESSION
    | {
        "agent_runs",
        "audit",
        "bisecting",
        "comparing",
        "costing",
        "file_schemas",
        "forking",
        "hooks",
        "loop",
        "origin",
        "progress",
        "proven",
        "replaying",
        "reporters",
        "reverify",
        "runs",
        "scaffold",
        "stop_hook",
        "trust",
        "verify",
    },
    "audit": FLOOR | MIDDLE | TALKERS | {"runs", "verify"},
    "bisecting": FLOOR | MIDDLE | {"workspace"},
    "comparing": FLOOR | MIDDLE | TALKERS | {"costing"},
    "replaying": FLOOR | MIDDLE | TALKERS | {"forking", "runs"} | GATES,
    "costing": FLOOR | MIDDLE | TALKERS,
    "forking": FLOOR | MIDDLE | TALKERS | {"origin", "runs"},
    "reverify": FLOOR | MIDDLE | TALKERS | {"runs", "loop", "hooks", "proven"} | GATES,
    "file_schemas": FLOOR | {"audit", "hooks", "inputs", "verify"},
    "proven": FLOOR | {"proof", "verify", "workspace"},
    "checks": FLOOR | {"stop_hook", "verify"},
    "runs": FLOOR
    | MIDDLE
    | TALKERS
    | {"agent_runs", "checks", "course", "hooks", "loop", "origin", "passes", "preflight", "trust"}
    | SESSION
    | GATES,
    "preflight": FLOOR | {"hooks", "verify"},
    "origin": FLOOR,
    "trust": FLOOR | {"workspace"},
    "agent_runs": FLOOR | MIDDLE | {"committing", "hooks", "workspace"},
    "hooks": FLOOR | {"committing", "events", "process", "verify", "workspace"},
    "loop": FLOOR | MIDDLE | TALKERS | {"course", "passes", "progress", "session"} | GATES,
    "passes": FLOOR | MIDDLE | TALKERS | {"course", "progress", "reentry"} | SESSION,
    "course": FLOOR | {"progress", "proof", "reentry", "workspace"},
    "committing": FLOOR | {"events", "workspace"},
    "panel": FLOOR | {"model", "verify"},
    "gate_sandbox": FLOOR | {"process", "kernel", "verify"},
    "progress": FLOOR,
    "reporters": FLOOR | {"events"},
    "proof": FLOOR | {"verdicts"},
    "verdicts": FLOOR,
    "reentry": FLOOR | MIDDLE | {"carried", "workspace"},
    "carried": FLOOR | {"conversation", "progress", "workspace"},
    "session": FLOOR | MIDDLE | TALKERS | {"committing", "subcalls"},
    "children": FLOOR | MIDDLE | TALKERS | {"subcalls"},
    "subcalls": FLOOR | MIDDLE | TALKERS,
    "json_schema": FLOOR | {"process"},
    "json_schema_child": set(),
    "json_schema_faults": set(),
    "direct": FLOOR | {"conversation"},
    "transcript": FLOOR | {"prompts"},
    "conversation": FLOOR | {"missing_code", "model", "prompts", "reply_reader", "transcript"},
    "missing_code": FLOOR,
    "stop_hook": FLOOR | {"events", "process", "inputs", "verify"},
    "verify": FLOOR | {"process", "inputs", "json_schema", "kernel"},  # of the kernel: `claims` alone
    "workspace": FLOOR | {"process"},
    "model": FLOOR | {"process"},
    "kernel": FLOOR | {"process"},
    "inputs": FLOOR | {"process", "kernel", "workspace"},
    "events": FLOOR,
    "prompts": FLOOR | {"bounded"},
    "bounded": set(),
    "overview": FLOOR,
    "process": FLOOR,
    "reply_reader": FLOOR,
    "config": {"budget", "prompt_size", "records", "errors", "task_types"},
    "prompt_size": {"errors"},
    "task_types": set(),
    "scaffold": FLOOR,
    "budget": {"records", "errors"},
    "records": set(),
    "errors": {"redaction"},
    "redaction": set(),
    "stopping": set(),
    "installing": set(),
    "failpoints": set(),
    "resources": set(),
    "text": {"kernel"},  # of the kernel: `names` alone
    "scratch": set(),
    "caches": set(),
    "profiles": set(),
    "plugins": {"errors"},
    "__init__": set(),
    "__main__": {"cli"},
}

# The host's half of the kernel room; the rest of it runs inside the kernel process.
KERNEL_HOST = {
    "checker",
    "kernel",
    "kernel_process",
    "launch",
    "lm_handler",
    "offered",
    "packages",
    "replays",
    "report",
    "sandbox",
    "remembered",
    "deaths",
    "mounts",
    "wrap",
    "cgroup",
    "quota",
}
# The one room that may import each heavy or risky library.
OWNERS = {
    "git": "workspace",
    "anthropic": "model",
    "xllamacpp": "model",
    "httpx2": "model",
    "jinja2": ("prompts", "bounded"),
    "click": "cli",
}


def modules():
    return sorted(path for path in PACKAGE.rglob("*.py") if "_resources" not in path.parts)


def room(path):
    relative = path.relative_to(PACKAGE)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def imported(path):
    """Dotted names that a module imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_import_points_down_the_page(path):
    own = room(path)
    ours = [name.split(".") for name in imported(path) if name.split(".")[0] == "loop_runner"]
    rooms = {parts[1] for parts in ours if len(parts) > 1 and parts[1] != "__version__"} - {own}
    assert rooms <= ALLOWED[own], f"{own} reaches up to {rooms - ALLOWED[own]}"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_each_outside_library_has_one_room(path):
    for name in imported(path):
        owner = OWNERS.get(name.split(".")[0])
        assert owner is None or room(path) in (owner if isinstance(owner, tuple) else (owner,)), (
            f"{path.name} imports {name}"
        )


def test_the_files_inside_the_kernel_import_the_standard_library_and_each_other_only():
    for path in (PACKAGE / "kernel").glob("*.py"):
        if path.stem in KERNEL_HOST:
            continue
        for name in imported(path):
            top = name.split(".")[0]
            if top == "loop_runner":
                inside = name.removeprefix("loop_runner.kernel.").split(".")[0]
                assert name.startswith("loop_runner.kernel."), f"{path.name} imports {name}"
                assert inside not in KERNEL_HOST, f"{path.name} imports {name}"
            else:
                assert top in sys.stdlib_module_names, f"{path.name} imports {name}"


def test_the_process_of_the_hook_imports_the_standard_library_and_itself_only():
    for path in (PACKAGE / "hooks").glob("*.py"):
        if path.stem not in HOOK_PROCESS:
            continue
        for name in imported(path):
            top = name.split(".")[0]
            assert top in sys.stdlib_module_names or top == "loop_runner", f"{path.name} imports {name}"
            if top == "loop_runner":
                inside = name.removeprefix("loop_runner.hooks.").split(".")[0]
                assert inside in HOOK_PROCESS or name == "loop_runner.redaction", (
                    f"{path.name} imports {name}"
                )


def test_no_module_on_the_host_imports_pickle():
    for path in modules():
        if path.parent.name != "kernel" or path.stem in KERNEL_HOST:
            names = {name.split(".")[0] for name in imported(path)}
            assert not names & {"pickle", "cloudpickle", "dill", "marshal", "shelve"}, path
