"""The picture in docs/design.md, checked against the imports: a row for each folder, all arrows down."""

import ast
import re
import sys
from pathlib import Path

import pytest

import loop_runner

PACKAGE = Path(__file__).parents[1] / "loop_runner"

# The folders from the top of the page to the bottom, each with the folders that it may import.
FOLDERS = {
    "cli": {
        "fleet",
        "serve",
        "mcp",
        "report",
        "api",
        "runs",
        "audit",
        "agents",
        "inputs",
        "model",
        "kernel",
        "sandbox",
        "task",
        "watch",
    },
    "watch": set(),  # the public API only, as the next ones
    "serve": {"report"},
    "mcp": set(),
    "integrations": set(),
    "fleet": set(),
    "report": set(),
    "api": {"audit", "tools", "runs", "loop", "verify", "model", "inputs", "workspace", "task"},
    "audit": {"runs", "verify", "model", "inputs", "workspace", "task"},
    "runs": {
        "loop",
        "session",
        "agents",
        "tools",
        "verify",
        "model",
        "kernel",
        "inputs",
        "workspace",
        "sandbox",
        "task",
    },
    "loop": {"session", "verify", "model", "kernel", "workspace", "task"},
    "agents": {"session", "model", "workspace", "task"},
    "session": {"tools", "verify", "model", "kernel", "workspace", "task"},
    "tools": {"model", "inputs", "workspace", "task"},
    "verify": {"model", "inputs", "workspace", "sandbox", "task"},
    "inputs": {"workspace", "sandbox"},
    "kernel": {"sandbox", "task"},
    "model": {"task"},
    "workspace": set(),
    "sandbox": set(),
    "task": set(),
}
# What the library offers by name; front ends use nothing else.
PUBLIC = {"__version__", *loop_runner.__all__, *loop_runner._FURTHER} - set(FOLDERS)
# The ground floor: plain modules, which every folder may import.
FLOOR = {
    "__init__": set(),  # the version and the names of the library, which FRONT_DOOR has for type checkers
    "plugins": {"errors"},
    "scratch": {"linux"},
    "process": {"errors", "linux"},
    "events": {"failpoints", "redaction"},
    "budget": {"errors", "keys", "records", "text"},
    "records": {"keys", "text"},
    "text": set(),
    "keys": set(),
    "errors": {"redaction"},
    "failpoints": set(),
    "linux": set(),
    "redaction": set(),
}
# ``loop_runner/__init__.py`` names what ``api`` offers, and loads it when it is used.
FRONT_DOOR = {"api", "loop", "runs", *FLOOR}
# The hook's own process: started at every stop of every session, so it is the standard library and its own.
HOOK_PROCESS = {"stop", "sessions", "call", "protocol"}
# What reads documents, in a confined process: an extra.
OF_DOCUMENTS = {"loop_runner.inputs.inside": {"markitdown", "openpyxl", "pypdfium2"}}
# The rooms that may import each heavy or risky library.
OWNERS = {
    "git": {"workspace"},
    "anthropic": {"model"},
    "xllamacpp": {"model"},
    "httpx2": {"model", "tools"},
    "jinja2": {"task", "report", "fleet", "serve"},
    "click": {"cli"},
    "distributed": {"fleet"},
    "rich": {"cli", "watch"},
    "textual": {"watch"},
    "fastapi": {"serve"},
    "mcp": {"mcp", "tools"},
    "pydantic_ai": {"integrations"},
    "inspect_ai": {"integrations"},
    "starlette": {"serve"},
    "uvicorn": {"serve"},
    "markupsafe": {"report"},
    "pygments": {"report"},
}


# What the commands import besides the public names of ``loop_runner``: each other, and how text is shown and
# kept from a terminal. ``doctor`` looks into the parts of the machine, ``hook`` and ``agent`` at the clients,
# ``preferences`` at the user's settings, ``estimates`` at prices; ``follow`` prints the trace live,
# ``completing`` lists names at each press of a key, ``live`` shows how far inputs are read.
OF_COMMANDS = {
    *("cli", "text", "redaction", "failpoints", "errors", "plugins", "keys"),
    *("fleet", "serve", "mcp", "report", "watch"),  # the front ends that a command starts
}
BELOW_THE_LIBRARY = {
    "agent",
    "completing",
    "doctor",
    "estimates",
    "hook",
    "follow",
    "live",
    "machine_checks",
    "preferences",
}
HOOK_STARTS_AT_ONCE = ("__init__", "loop_runner.agents.stop")  # without the rest of the package

# Modules of one name in several folders: each row is one matter, seen from these folders.
SAME_NAME = {
    "estimate": {"audit", "runs"},
    "preferences": {"cli", "runs"},
    "audit": {"cli", "kernel/inside"},
    "bisect": {"cli", "runs"},
    "compare": {"cli", "runs"},
    "cost": {"cli", "runs"},
    "findings": {"audit", "verify"},  # of an audit: as they are shown, and as they are checked
    "fsck": {"cli", "workspace/repair"},
    "launch": {"kernel", "runs"},  # the start of a process, which is not waited for
    "models": {"cli", "runs"},
    "replay": {"cli", "runs"},
    "server": {"serve", "mcp"},
    "install": {"agents", "mcp"},
    "agent": {"cli", "agents"},
    "gates": {"cli", "verify"},
    "run": {"cli", "audit"},
    "tables": {"inputs/inside", "kernel/inside"},
}


def modules():
    return sorted(path for path in PACKAGE.rglob("*.py") if "_resources" not in path.parts)


def is_inside(path):
    """Whether the module runs in a confined process: such modules have a folder of their own in each room."""
    return "inside" in path.relative_to(PACKAGE).parts


def room(path):
    relative = path.relative_to(PACKAGE)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def imported(path):
    """Dotted names that a module imports, anywhere in it; those of its own folder are made absolute."""
    own = ".".join(("loop_runner", *path.relative_to(PACKAGE).parts[:-1]))
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level <= 1, f"{path} imports from the folder above by dots"
            base = ".".join(filter(None, (own if node.level else None, node.module)))
            yield from (f"{base}.{alias.name}" for alias in node.names)


def rooms_of(path):
    """The rooms that a module imports, but for its own, and for what is inside: all may use that."""
    for name in imported(path):
        top, *parts = name.split(".")
        if top == "loop_runner" and "inside" not in parts and parts[:1] != [room(path)]:
            yield "__init__" if parts == [] or parts[0] in PUBLIC else parts[0]


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_import_points_down_the_page(path):
    own = room(path)
    if path == PACKAGE / "__init__.py":
        assert set(rooms_of(path)) <= FRONT_DOOR
        return
    below = {"cli"} if own == "__main__" else FLOOR.get(own, FOLDERS.get(own, set()) | set(FLOOR))
    assert set(rooms_of(path)) <= below, f"{own} reaches up to {set(rooms_of(path)) - below}"


def test_the_table_is_the_package_from_top_to_bottom():
    assert set(FOLDERS) == {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert {*FLOOR, "__main__"} == {path.stem for path in PACKAGE.glob("*.py")}
    for table in (FOLDERS, FLOOR):
        seen: set[str] = set()
        for folder, below in table.items():
            assert not below & {*seen, folder}, f"{folder} may import what is above it"
            seen.add(folder)


def test_a_row_allows_nothing_that_is_not_used():
    used: dict[str, set[str]] = {folder: set() for folder in FOLDERS}
    for path in modules():
        if room(path) in FOLDERS:
            used[room(path)] |= set(rooms_of(path)) - set(FLOOR)
    assert used == FOLDERS


def test_the_package_stays_small_enough_to_hold_in_mind():
    assert len(FOLDERS) <= 21
    assert len(FLOOR) + 1 <= 14
    lines = {str(path): len(path.read_text(encoding="utf-8").splitlines()) for path in modules()}
    assert {path for path, count in lines.items() if count > 500} == set()


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_each_outside_library_has_one_room(path):
    for name in imported(path):
        owners = OWNERS.get(name.split(".")[0])
        assert owners is None or room(path) in owners, f"{path.name} imports {name}"


@pytest.mark.parametrize(
    "path", [path for path in modules() if is_inside(path)], ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_what_runs_in_a_confined_process_imports_the_standard_library_and_its_own_folder(path):
    own = ".".join(("loop_runner", *path.relative_to(PACKAGE).parts[:-1]))
    for name in imported(path):
        is_own = name.startswith(f"{own}.")
        assert is_own or name.split(".")[0] in {*sys.stdlib_module_names, *OF_DOCUMENTS.get(own, ())}, name


@pytest.mark.parametrize("path", sorted((PACKAGE / "cli").glob("*.py")), ids=lambda path: path.stem)
def test_the_commands_use_the_public_library_only(path):
    for name in imported(path):
        top, *parts = name.split(".")
        is_exempt = path.stem in BELOW_THE_LIBRARY or (path.stem, name) == HOOK_STARTS_AT_ONCE
        if top == "loop_runner" and parts and not is_exempt:
            assert parts[0] in PUBLIC | OF_COMMANDS, f"cli/{path.name} imports {name}"


def test_the_process_of_the_hook_imports_the_standard_library_and_itself_only():
    for path in (PACKAGE / "agents").glob("*.py"):
        if path.stem not in HOOK_PROCESS:
            continue
        for name in imported(path):
            top, *parts = name.split(".")
            is_own = parts[:1] == ["agents"] and parts[1] in HOOK_PROCESS
            assert is_own or top in sys.stdlib_module_names or name == "loop_runner.redaction", (
                f"{path.name} imports {name}"
            )


def test_no_module_on_the_host_imports_pickle():
    for path in modules():
        if not is_inside(path):
            names = {name.split(".")[0] for name in imported(path)}
            assert not names & {"pickle", "cloudpickle", "dill", "marshal", "shelve"}, path


def test_two_modules_have_the_same_name_only_when_they_are_about_the_same_matter():
    folders: dict[str, set[str]] = {}
    for path in modules():
        if path.stem not in ("__init__", "__main__"):
            folders.setdefault(path.stem, set()).add(str(path.parent.relative_to(PACKAGE)))
    assert {name: result for name, result in folders.items() if len(result) > 1} == SAME_NAME


def test_every_module_that_the_documents_name_exists():
    folders = "|".join(FOLDERS)
    documents = [*PACKAGE.parent.glob("*.md"), *PACKAGE.parent.glob("docs/**/*.md")]
    missing = {
        (page.name, path)
        for page in documents
        if page.name != "CHANGELOG.md"
        for path in re.findall(rf"(?<![\w/.-])((?:{folders})/[\w/]+\.py)\b", page.read_text(encoding="utf-8"))
        if not path.startswith("workspace/test_")  # a file of the model's in an example
        if not any((place / path).is_file() for place in (PACKAGE, PACKAGE.parent / "tests"))
    }
    assert missing == set()
