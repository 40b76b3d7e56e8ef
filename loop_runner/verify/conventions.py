"""Programs that find their own file by convention: ``make`` reads ``Makefile`` without being told.

Owns which program looks for which files, and what else in the task's folder such a file names. These are
pinned as if the command named them. Reads the task's folder only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path

from loop_runner.verify.programs import Programs

_PYTHON_PROJECT = ("pyproject.toml", "setup.cfg", "setup.py")
_NODE_PROJECT = (
    *("package.json", "package-lock.json", "yarn.lock", "pnpm-lock.yaml", ".npmrc", "tsconfig.json"),
    *("jest.config.*", "vitest.config.*", "test", "tests", "__tests__"),
)
_GRADLE = ("build.gradle", "build.gradle.kts", "settings.gradle", "settings.gradle.kts", "gradle.properties")
# Error messages mention the first name of a row.
_FILES: dict[str, tuple[str, ...]] = {
    "make": ("Makefile", "GNUmakefile", "makefile"),
    "just": ("justfile", "Justfile", ".justfile"),
    "task": ("Taskfile.yml", "Taskfile.yaml"),
    "cargo": ("Cargo.toml", "Cargo.lock", "rust-toolchain.toml", ".cargo", "build.rs", "src", "tests"),
    "go": ("go.mod", "go.sum", "*.go"),
    "tox": ("tox.ini", *_PYTHON_PROJECT, "tests"),
    "nox": ("noxfile.py", *_PYTHON_PROJECT, "tests"),
    "pytest": (
        "pytest.ini",
        "tox.ini",
        *_PYTHON_PROJECT,
        "conftest.py",
        "test_*.py",
        "*_test.py",
        "tests",
        "test",
    ),
    "npm": _NODE_PROJECT,
    "cmake": ("CMakeLists.txt", "CMakePresets.json"),
    "ctest": ("CTestTestfile.cmake", "CMakeLists.txt"),
    "meson": ("meson.build",),
    "ninja": ("build.ninja",),
    "gradle": _GRADLE,
    "mvn": ("pom.xml", "src"),
    "ant": ("build.xml",),
    "rake": ("Rakefile", "rakefile", "Rakefile.rb"),
    "bundle": ("Gemfile", "Gemfile.lock", "Rakefile", "spec", "test"),
    "poetry": ("pyproject.toml", "poetry.lock", "tests"),
    "uv": ("pyproject.toml", "uv.lock", "tests"),
    "hatch": ("pyproject.toml", "hatch.toml", "tests"),
    "pdm": ("pyproject.toml", "pdm.lock", "tests"),
    "pre-commit": (".pre-commit-config.yaml",),
}
_SAME = {
    "gmake": "make",
    "py.test": "pytest",
    "gradlew": "gradle",
    "mvnw": "mvn",
    **dict.fromkeys(("yarn", "pnpm", "npx", "bun", "bunx"), "npm"),
}
# They also run in a folder without their own file: pytest then collects the tests it finds there.
_NEED_NONE = {"pytest", "npx", "bunx", "uv", "go", "cmake", "pre-commit"}
_NOT_NAMED = {"answer.md", "answer.json", "workspace", ".", "..", ".git", "runs", "node_modules", ".venv"}
_WORDS = re.compile(r"[\w.][\w./-]*")
_MAX_BYTES = 200_000


def applies(program: str) -> bool:
    """Whether ``program`` finds a file of its own by convention."""
    return _SAME.get(program, program) in _FILES


def files(program: str, task_dir: Path) -> list[Path]:
    """The files of ``program`` in the task's folder, and the files and folders there that they name."""
    own = list(_own(program, task_dir))
    named = [path for file in own for path in _named_in(file, task_dir)]
    return list(dict.fromkeys([*own, *named]))


def pinned_files(program: str, task_dir: Path, programs: Programs) -> list[Path]:
    """As ``files``, from the pins: the task's folder may have changed or been deleted since."""
    patterns = _FILES.get(_SAME.get(program, program), ())
    inside = {
        Path(source).relative_to(task_dir): pinned.data or b""
        for source, pinned in programs.files.items()
        if Path(source).is_relative_to(task_dir)
    }
    own = [path for path in inside if any(fnmatch(path.parts[0], pattern) for pattern in patterns)]
    words = {word for path in own for word in _words(inside[path])}
    named = [path for path in inside if any(_is_at_or_below(path, word) for word in words)]
    return [task_dir / path for path in dict.fromkeys([*own, *named])]


def _is_at_or_below(path: Path, word: str) -> bool:
    place = Path(word)
    return path == place or place in path.parents


def missing(program: str, argv: Sequence[str]) -> str:
    """Why ``program`` cannot run without a file of its own; "" if it can, or if ``argv`` names a place."""
    if program in _NEED_NONE or any(
        word.startswith(("-C", "-f", "--file", "--directory")) for word in argv[1:]
    ):
        return ""
    name = _FILES[_SAME.get(program, program)][0]
    return (
        f"{program} looks for {name}, and the task's folder has none; put it there, or name the file and the "
        "folder in the command"
    )


def _own(program: str, task_dir: Path) -> Iterator[Path]:
    for pattern in _FILES.get(_SAME.get(program, program), ()):
        yield from sorted(path for path in task_dir.glob(pattern) if path.exists())


def _named_in(file: Path, task_dir: Path) -> Iterator[Path]:
    try:
        data = file.read_bytes() if file.is_file() else b""
    except OSError:
        return
    for word in _words(data):
        path = task_dir / word
        if path.exists() and not (path / ".git" / "loop-runner").exists():
            yield path


def _words(data: bytes) -> Iterator[str]:
    """The words in a file that may name a file of the task's folder."""
    for word in dict.fromkeys(_WORDS.findall(data[:_MAX_BYTES].decode("utf-8", "replace"))):
        parts = Path(word).parts
        if parts and parts[0] not in _NOT_NAMED and ".." not in parts:
            yield word
