"""Odd environments: how each is set up, which jobs it concerns, and what is at fault if one cannot work."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.agents.conftest import git
from tests.environments.places import JOBS, Place, make_repository
from tests.support.machines import path_without


@dataclass(frozen=True)
class Environment:
    """One row. ``{place}`` in ``env`` is the place's folder.

    ``faults``: job → a pattern of what must be named where the job cannot work, and so ends with 2 or 4.
    ``may_fail``: the same, but the job may also work (the limit is near what it needs).
    """

    name: str
    env: Mapping[str, str | None] = field(default_factory=dict)
    shell: str = '"$@"'
    arrange: Callable[[Place], object] = id
    jobs: tuple[str, ...] = JOBS
    faults: Mapping[str, str] = field(default_factory=dict)
    may_fail: str = ""

    def set_up(self, place: Place) -> None:
        """Spoil ``place``, and let its jobs start in this environment."""
        place.shell = self.shell
        self.arrange(place)
        for name, value in self.env.items():
            place.env.setdefault(name, value and value.replace("{place}", str(place.folder)))


GIT_JOBS = ("run", "export", "verify")
WRITERS = ("run", "audit", "export")


def _with(program: str, text: str, folder: str = "bin") -> Callable[[Place], None]:
    """Put a program of that name in front of all others."""

    def arrange(place: Place) -> None:
        (place.folder / folder).mkdir(exist_ok=True)
        file = place.folder / folder / program
        file.write_text(f"#!/bin/sh\n{text}\n")
        file.chmod(0o755)
        place.env["PATH"] = f"{place.folder / folder}:{os.environ['PATH']}"

    return arrange


def _without_git(place: Place) -> None:
    place.env["PATH"] = path_without(["git"], place.folder / "others")


def _site(code: str) -> Callable[[Place], None]:
    """Run ``code`` at the start of every Python, as a sitecustomize."""

    def arrange(place: Place) -> None:
        (place.folder / "site").mkdir()
        (place.folder / "site/sitecustomize.py").write_text(code)
        place.env["PYTHONPATH"] = f"{place.folder / 'site'}:{Path(__file__).parents[2]}"

    return arrange


_CLOCK = (
    "import time\n_real = time.time\n"
    "time.time = lambda: {} + _real() % 1000\ntime.time_ns = lambda: int(time.time() * 1e9)\n"
)


def _moved(name: str) -> Callable[[Place], None]:
    """Do everything in a subfolder of this name."""

    def arrange(place: Place) -> None:
        new = os.fsencode(place.folder) + b"/" + os.fsencode(name)
        os.makedirs(new)
        for entry in list(place.folder.iterdir()):
            if os.fsencode(entry.name) != os.fsencode(name).split(b"/")[0]:
                shutil.move(entry, Path(os.fsdecode(new)) / entry.name)
        place.folder = Path(os.fsdecode(new))

    return arrange


def _linked(place: Place) -> None:
    link = place.folder.with_name("link")
    link.symlink_to(place.folder)
    place.folder = link


def _file_as_home(place: Place) -> None:
    shutil.rmtree(place.folder / "home")
    (place.folder / "home").write_text("")


def _repository(*options: str, name: str = "other") -> Callable[[Place], None]:
    def arrange(place: Place) -> None:
        make_repository(place.folder / name, *options)
        place.to = name

    return arrange


def _setting(*settings: str) -> Callable[[Place], None]:
    """Set keys in the user's repository."""

    def arrange(place: Place) -> None:
        for setting in settings:
            key, _, value = setting.partition("=")
            git(place.folder / "project", "config", key, value.replace("{place}", str(place.folder)))

    return arrange


def _branch(name: str, to: str = "made") -> Callable[[Place], None]:
    def arrange(place: Place) -> None:
        git(place.folder / "project", "branch", name)
        place.branch = to

    return arrange


def _clone(*options: str) -> Callable[[Place], None]:
    def arrange(place: Place) -> None:
        git(place.folder / "project", "config", "uploadpack.allowFilter", "true")
        source = f"file://{place.folder / 'project'}"
        git(place.folder, "-c", "protocol.file.allow=always", "clone", "-q", *options, source, "clone")
        place.to = "clone"

    return arrange


def _wrong_owner(place: Place) -> None:
    if os.getuid() == 0:
        subprocess.run(["chown", "-R", "65534", place.folder / "project"], check=True)


def _mounted(command: str) -> str:
    """Shell code that gives the job mounts of its own."""
    user = "" if os.getuid() == 0 else " --map-root-user"
    return f'exec unshare --mount{user} sh -c \'{command} && exec "$@"\' sh "$@"'


def _env(name: str, env: Mapping[str, str | None], **more: object) -> Environment:
    return Environment(name, env=env, **more)  # type: ignore[arg-type]


PYTHON = [
    _env("PYTHONOPTIMIZE=2", {"PYTHONOPTIMIZE": "2"}),
    _env("PYTHONWARNINGS=error", {"PYTHONWARNINGS": "error"}),
    _env("PYTHONDEVMODE=1", {"PYTHONDEVMODE": "1"}),
    _env(
        "PYTHONUTF8=0 with LANG=C",
        {"PYTHONUTF8": "0", "LANG": "C", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"},
    ),
    _env("an ASCII terminal", {"PYTHONIOENCODING": "ascii:strict", "LC_ALL": "C", "PYTHONUTF8": "0"}),
    _env("a Latin-1 terminal", {"PYTHONIOENCODING": "latin-1:strict"}),
    _env("a cp1252 terminal", {"PYTHONIOENCODING": "cp1252:strict"}),
    _env("a UTF-16 terminal", {"PYTHONIOENCODING": "utf-16"}, jobs=("run", "verify", "hook stop")),
    _env("an encoding that does not exist", {"LC_CTYPE": "xx.YY"}),
    _env("a locale that does not exist", {"LC_ALL": "xx_YY.UTF-8"}),
    _env("no locale", {"LC_ALL": None, "LANG": None, "LC_CTYPE": None}),
    _env(
        "relative PYTHONPATH",
        {"PYTHONPATH": f".:{os.path.relpath(Path(__file__).parents[2], '/')}:{Path(__file__).parents[2]}"},
    ),
    _env("PYTHONSAFEPATH=1", {"PYTHONSAFEPATH": "1"}),
    _env(
        "PYTHONNOUSERSITE and PYTHONDONTWRITEBYTECODE",
        {"PYTHONNOUSERSITE": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        jobs=("run", "audit"),
    ),
    _env("PYTHONUNBUFFERED=1", {"PYTHONUNBUFFERED": "1"}, jobs=("run", "verify")),
    _env("PYTHONHASHSEED=0", {"PYTHONHASHSEED": "0"}, jobs=("run", "audit", "verify")),
    _env("PYTHONINTMAXSTRDIGITS=640", {"PYTHONINTMAXSTRDIGITS": "640"}, jobs=("run",)),
    _env("PYTHONTRACEMALLOC=1", {"PYTHONTRACEMALLOC": "1"}, jobs=("run",)),
    _env("PYTHONPROFILEIMPORTTIME=1", {"PYTHONPROFILEIMPORTTIME": "1"}, jobs=("run", "hook stop")),
]
TERMINAL = [
    _env("TERM=dumb and one column", {"TERM": "dumb", "COLUMNS": "1"}),
    _env("TERM unset", {"TERM": None}, jobs=("run", "verify")),
    _env("TERM of an unknown kind", {"TERM": "é\x1b[31m"}, jobs=("run",)),
    _env("COLUMNS=0", {"COLUMNS": "0", "LINES": "0"}, jobs=("run", "audit", "verify")),
    _env("COLUMNS=-5", {"COLUMNS": "-5"}, jobs=("run", "audit", "verify")),
    _env("COLUMNS is a word", {"COLUMNS": "wide", "LINES": "x"}, jobs=("run", "audit", "verify")),
    _env("COLUMNS=99999999", {"COLUMNS": "99999999"}, jobs=("run", "audit")),
    _env("NO_COLOR and CI", {"NO_COLOR": "1", "CI": "true", "GITHUB_ACTIONS": "true"}),
    _env("FORCE_COLOR", {"FORCE_COLOR": "1", "CLICOLOR_FORCE": "1", "PY_COLORS": "1"}),
    Environment("standard input closed", shell='"$@" <&-', jobs=("run", "audit", "export", "verify")),
    Environment("standard output closed", shell='"$@" >&-'),
    Environment("standard error closed", shell='"$@" 2>&-'),
    Environment("all streams closed", shell='"$@" <&- >&- 2>&-', jobs=("run", "audit", "export", "verify")),
    Environment(
        "a reader that has gone", shell='{ { "$@"; echo $? >&3; } | true; } 3>code 2>&1; exit $(cat code)'
    ),
    Environment("standard error is full", shell='"$@" 2>/dev/full'),
    Environment(
        "standard output is full",
        shell='"$@" >/dev/full',
        faults=dict.fromkeys(("run", "audit", "export", "verify"), "standard output"),
    ),
]
FOLDERS = [
    _env("HOME missing", {"HOME": "{place}/missing"}),
    _env("HOME unset", {"HOME": None}),
    _env("HOME empty", {"HOME": ""}),
    _env("HOME relative", {"HOME": "home"}, jobs=("run", "audit")),
    _env("HOME not UTF-8", {"HOME": "{place}/h\udcff"}, jobs=("run", "hook stop")),
    Environment("HOME is a file", arrange=_file_as_home),
    _env(
        "HOME cannot be made",
        {"HOME": "/dev/null/home", "LOOP_RUNNER_STATE": None, "XDG_STATE_HOME": None},
        jobs=("run", "audit", "export", "verify"),
    ),
    Environment("HOME read-only", shell=_mounted("mount --bind home home && mount -o remount,ro,bind home")),
    _env("TMPDIR missing", {"TMPDIR": "{place}/missing"}),
    _env("TMPDIR is a file", {"TMPDIR": "{place}/task.yaml"}),
    _env("TMPDIR relative", {"TMPDIR": "home"}),
    _env(
        "TMPDIR with odd characters",
        {"TMPDIR": "{place}/t m'p\n\"é"},
        arrange=lambda place: (place.folder / "t m'p\n\"é").mkdir(),
    ),
    _env(
        "TMPDIR long",
        {"TMPDIR": "{place}/" + "t" * 200},
        arrange=lambda place: (place.folder / ("t" * 200)).mkdir(),
    ),
    Environment(
        "TMPDIR full",
        env={"TMPDIR": "{place}/home"},
        shell=_mounted(
            "mount -t tmpfs -o size=4k none home && { head -c 9000 /dev/zero >home/x; true; } 2>&-"
        ),
        may_fail="full|space",
    ),
    _env(
        "XDG folders missing",
        {
            f"XDG_{name}": "{place}/missing"
            for name in ("CONFIG_HOME", "CACHE_HOME", "DATA_HOME", "STATE_HOME", "RUNTIME_DIR")
        },
    ),
    _env(
        "XDG folders relative",
        {
            f"XDG_{name}": "odd"
            for name in ("CONFIG_HOME", "CACHE_HOME", "DATA_HOME", "STATE_HOME", "RUNTIME_DIR")
        },
    ),
    _env(
        "XDG folders are a file",
        {
            f"XDG_{name}": "{place}/task.yaml"
            for name in ("CONFIG_HOME", "CACHE_HOME", "DATA_HOME", "STATE_HOME", "RUNTIME_DIR")
        },
    ),
    _env(
        "LOOP_RUNNER_STATE is a file",
        {"LOOP_RUNNER_STATE": "{place}/task.yaml"},
        jobs=("run", "audit", "export", "verify"),
    ),
    Environment(
        "the project is read-only",
        shell=_mounted("mount --bind . . && mount -o remount,ro,bind . && cd ."),
        jobs=("run", "audit", "export"),
        may_fail="Read-only|read-only|written",
    ),
    Environment("the project is a link", arrange=_linked),
    Environment("a folder with a line break and quotes", arrange=_moved("a\nb 'c' \"d\" $(e) `f`")),
    Environment("a folder with a leading dash", arrange=_moved("-rf")),
    Environment("a folder not UTF-8", arrange=_moved("n\udcff\udce9")),
    Environment("a folder of 255 bytes", arrange=_moved("x" * 255)),
    Environment("a deep path", arrange=_moved("/".join(["deep" * 10] * 20))),
    Environment("a folder with blanks and a colon", arrange=_moved(" a : b ; c ")),
    Environment("a folder in Chinese", arrange=_moved("项目 é"), jobs=("run", "export")),
    Environment("no /proc", shell=_mounted("mount -t tmpfs none /proc"), may_fail="/proc|sandbox"),
    Environment(
        "/dev/shm missing",
        shell=_mounted("mount -t tmpfs -o ro none /dev/shm"),
        jobs=("run", "audit", "verify"),
    ),
    Environment("umask 077", shell='umask 077; "$@"'),
    Environment("umask 000", shell='umask 000; "$@"'),
    Environment("umask 777", shell='umask 777; "$@"', may_fail="."),
]
LIMITS = [
    Environment("nice", shell='nice -n 19 "$@"', jobs=("run", "verify")),
    Environment("RLIMIT_AS of 60 MB", shell='ulimit -v 60000; "$@"', may_fail="memory|ulimit"),
    Environment("RLIMIT_AS of 200 MB", shell='ulimit -v 200000; "$@"', may_fail="memory|ulimit"),
    Environment("RLIMIT_AS of 500 MB", shell='ulimit -v 500000; "$@"', may_fail="memory|ulimit"),
    Environment("RLIMIT_NOFILE of 16", shell='ulimit -n 16; "$@"', may_fail="open files|ulimit -n"),
    Environment("RLIMIT_NOFILE of 32", shell='ulimit -n 32; "$@"', may_fail="open files|ulimit -n"),
    Environment(
        "RLIMIT_FSIZE of 0", shell='ulimit -f 0; "$@"', may_fail="size of files|ulimit -f|File too large"
    ),
    Environment(
        "RLIMIT_FSIZE of 8 kB", shell='ulimit -f 16; "$@"', may_fail="size of files|ulimit -f|File too large"
    ),
    Environment(
        "RLIMIT_CORE and RLIMIT_STACK small", shell='ulimit -c 0; ulimit -s 512; "$@"', jobs=("run", "verify")
    ),
    Environment("RLIMIT_STACK unlimited", shell='ulimit -s unlimited; "$@"', jobs=("run",)),
    Environment("RLIMIT_NPROC of 1", shell='ulimit -u 1; "$@"', may_fail="process|ulimit -u"),
    Environment("signals ignored", shell='trap "" HUP INT TERM PIPE USR1 CHLD; "$@"'),
    Environment("a clock before 1970", arrange=_site(_CLOCK.format("-86400 * 365"))),
    Environment("a clock at 0", arrange=_site(_CLOCK.format("-500")), jobs=GIT_JOBS),
    Environment("a clock after 2038", arrange=_site(_CLOCK.format("2**31 + 86400"))),
    Environment("a clock after 2106", arrange=_site(_CLOCK.format("2**32 + 86400")), jobs=GIT_JOBS),
    _env("a time zone that does not exist", {"TZ": "Nowhere/Land"}),
    _env("SOURCE_DATE_EPOCH is a word", {"SOURCE_DATE_EPOCH": "x"}, jobs=("run",)),
]
GIT = [
    _env(
        "GIT_DIR and GIT_WORK_TREE set",
        {"GIT_DIR": "/proc/nonexistent", "GIT_WORK_TREE": "/proc/nonexistent"},
    ),
    _env("GIT_INDEX_FILE set", {"GIT_INDEX_FILE": "/proc/nonexistent"}, jobs=GIT_JOBS),
    _env(
        "GIT_OBJECT_DIRECTORY set",
        {
            "GIT_OBJECT_DIRECTORY": "/proc/nonexistent",
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": "/proc/nonexistent",
        },
        jobs=GIT_JOBS,
    ),
    _env(
        "GIT_CONFIG_COUNT set",
        {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "commit.gpgsign", "GIT_CONFIG_VALUE_0": "true"},
        jobs=GIT_JOBS,
    ),
    _env("GIT_CONFIG_COUNT is a word", {"GIT_CONFIG_COUNT": "many"}, jobs=GIT_JOBS),
    _env(
        "GIT_CONFIG_GLOBAL broken",
        {"GIT_CONFIG_GLOBAL": "{place}/task.yaml", "GIT_CONFIG_NOSYSTEM": None},
        jobs=(*GIT_JOBS, "audit"),
    ),
    _env(
        "GIT_CEILING_DIRECTORIES set",
        {"GIT_CEILING_DIRECTORIES": "/", "GIT_DISCOVERY_ACROSS_FILESYSTEM": "0"},
        jobs=GIT_JOBS,
    ),
    _env("GIT_TRACE set", {"GIT_TRACE": "1", "GIT_TRACE2": "1"}, jobs=GIT_JOBS),
    _env("GIT_DEFAULT_HASH=sha256", {"GIT_DEFAULT_HASH": "sha256"}, jobs=GIT_JOBS),
    _env(
        "GIT_AUTHOR_DATE is a word",
        {
            "GIT_AUTHOR_DATE": "then",
            "GIT_COMMITTER_DATE": "now",
            "GIT_AUTHOR_NAME": "",
            "GIT_COMMITTER_EMAIL": "",
        },
        jobs=GIT_JOBS,
    ),
    _env("GIT_NAMESPACE set", {"GIT_NAMESPACE": "x", "GIT_LITERAL_PATHSPECS": "1"}, jobs=GIT_JOBS),
    Environment("another user's repository", arrange=_wrong_owner, jobs=("export",)),
    Environment(
        "commit.gpgsign",
        arrange=_setting("commit.gpgsign=true", "gpg.program=/nonexistent"),
        jobs=("export",),
    ),
    Environment("core.autocrlf", arrange=_setting("core.autocrlf=true", "core.eol=crlf"), jobs=("export",)),
    Environment("core.hooksPath", arrange=_setting("core.hooksPath={place}/hooks"), jobs=("export",)),
    Environment("user.useConfigOnly", arrange=_setting("user.useConfigOnly=true"), jobs=("export",)),
    Environment("core.fsmonitor", arrange=_setting("core.fsmonitor=/nonexistent"), jobs=("export",)),
    Environment(
        "core.bare and core.worktree", arrange=_setting("core.worktree=/nonexistent"), jobs=("export",)
    ),
    Environment(
        "a broken config",
        arrange=lambda place: (place.folder / "project/.git/config").write_text("[core\n"),
        jobs=("export",),
        faults={"export": "config"},
    ),
    Environment(
        "an extension that git does not know",
        arrange=_setting("core.repositoryformatversion=1", "extensions.unknown=1"),
        jobs=("export",),
        faults={"export": "unknown"},
    ),
    Environment(
        "a branch named loop-runner",
        arrange=_branch("loop-runner", to=""),
        jobs=("export",),
        faults={"export": "has a branch loop-runner, so"},
    ),
    Environment(
        "a branch named loop-runner, and another name for the new one",
        arrange=_branch("loop-runner"),
        jobs=("export",),
    ),
    Environment(
        "a branch named made/x", arrange=_branch("made/x"), jobs=("export",), faults={"export": "made"}
    ),
    Environment("a branch named made", arrange=_branch("made"), jobs=("export",), faults={"export": "made"}),
    Environment(
        "a sha256 repository",
        arrange=_repository("--object-format=sha256"),
        jobs=("export",),
        faults={"export": "sha256"},
    ),
    Environment(
        "a repository not UTF-8",
        arrange=_repository(name="r\udcff"),
        jobs=("export",),
        faults={"export": "does not have the commit"},
    ),
    Environment("a treeless clone", arrange=_clone("--filter=tree:0"), jobs=("export",)),
    Environment("a blobless clone", arrange=_clone("--filter=blob:none", "--no-checkout"), jobs=("export",)),
    Environment("a shallow clone", arrange=_clone("--depth=1"), jobs=("export",)),
    Environment("a bare clone", arrange=_clone("--bare"), jobs=("export",)),
    Environment(
        "a clone that shares objects", arrange=_clone("--reference-if-able", "project"), jobs=("export",)
    ),
    Environment(
        "a locked reference",
        arrange=lambda place: (place.folder / "project/.git/refs/heads/made.lock").touch(),
        jobs=("export",),
        faults={"export": "made.lock"},
    ),
    Environment(
        "a read-only repository",
        shell=_mounted("mount --bind project project && mount -o remount,ro,bind project"),
        jobs=("export",),
        faults={"export": "project"},
    ),
    Environment(
        "no git",
        arrange=_without_git,
        jobs=("run", "audit", "export", "verify"),
        may_fail="git was not found",
    ),
    Environment(
        "a git that fails",
        arrange=_with("git", "echo no >&2; exit 127"),
        jobs=("run", "audit", "export", "verify"),
        may_fail="git",
    ),
    Environment(
        "a git that is killed",
        arrange=_with("git", "kill -9 $$"),
        jobs=("run", "audit", "export", "verify"),
        may_fail="git",
    ),
    Environment(
        "a git that cannot be executed",
        arrange=_with("git", "\0\1\2"),
        jobs=("run", "audit", "export", "verify"),
        may_fail="git",
    ),
    Environment(
        "a git that prints nothing",
        arrange=_with("git", "exit 0"),
        jobs=("run", "audit", "export", "verify"),
        may_fail="git",
    ),
    Environment(
        "a very old git",
        arrange=_with(
            "git",
            'case "$*" in *version*) echo git version 1.7.1;; *) echo "unknown option" >&2; exit 129;; esac',
        ),
        jobs=("run", "audit", "export", "verify"),
        may_fail="git",
    ),
    _env("PATH unset", {"PATH": None}),
    _env("PATH empty", {"PATH": ""}, jobs=("run", "audit", "export", "verify"), may_fail="PATH"),
    _env("PATH with odd entries", {"PATH": f"::.:/nonexistent:/etc/passwd:~/bin:{os.environ['PATH']}"}),
]
NETWORK = [
    _env("a proxy that is not used", {"ALL_PROXY": "socks://127.0.0.1:1", "HTTPS_PROXY": "gopher://x"}),
    _env("no certificates", {"SSL_CERT_FILE": "/proc/nonexistent.pem", "SSL_CERT_DIR": "/proc/nonexistent"}),
    _env(
        "an odd ANTHROPIC_BASE_URL",
        {"ANTHROPIC_BASE_URL": "nonsense", "OPENAI_BASE_URL": "\x01"},
        jobs=("run", "audit"),
    ),
    _env(
        "odd keys", {"ANTHROPIC_API_KEY": "k\n", "OPENAI_API_KEY": "“k”"}, jobs=("run", "audit", "hook stop")
    ),
    _env("SSLKEYLOGFILE cannot be written", {"SSLKEYLOGFILE": "/proc/nonexistent/keys"}, jobs=("run",)),
    _env("variables that are not UTF-8", {"ODD_TOKEN": "\udcff\udcfe-secret-value", "LOGNAME": "\udcff"}),
    _env(
        "an environment of 2 MB",
        {f"BIG_{number}": "x" * 100_000 for number in range(15)},
        jobs=("run", "hook stop", "verify"),
    ),
    _env(
        "LD_PRELOAD of a missing library",
        {"LD_PRELOAD": "/proc/nonexistent.so"},
        jobs=("run", "verify", "hook stop"),
    ),
]
TABLE = [*PYTHON, *TERMINAL, *FOLDERS, *LIMITS, *GIT, *NETWORK]
