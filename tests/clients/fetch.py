"""Fetches the real clients, pinned by version and SHA-256, into a cache; says loudly what cannot be had.

Claude Code is inside the wheel of ``claude-agent-sdk``, Codex inside a package of npm that holds programs
only. Both come through the ordinary clients of their registries; nothing of them runs to install them.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "loop-runner" / "clients"
CLAUDE = "0.2.186"  # of claude-agent-sdk; holds Claude Code 2.1.329
CODEX = "0.169.0"
_SHA256 = {
    "claude": "3aedbd01e5727283339362a544506f05cc19863a3b4c26bb9e1656d3e3940c3d",
    "codex": "89801b4b97faba562eb80fe0a833159ac79399be674022f4b1a0ccab1d153faa",
}
_INSIDE = {
    "claude": "claude_agent_sdk/_bundled/claude",
    "codex": "package/vendor/x86_64-unknown-linux-musl/bin/codex",
}
_TIMEOUT_S = 600


class CannotFetch(Exception):  # noqa: N818 - says what is so
    """A client cannot be had here; the text says why."""


def path_of(client: str) -> Path | None:
    """The client's program, if it was fetched."""
    path = _place(client)
    return path if path.is_file() else None


def fetch(client: str) -> Path:
    """The client's program, fetched if need be. Raises ``CannotFetch``."""
    path = _place(client)
    if path.is_file():
        return path
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        raise CannotFetch(f"{client} is pinned for Linux on x86-64 only")
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        package = _download(client, Path(folder))
        with package.open("rb") as file:
            result = hashlib.file_digest(file, "sha256").hexdigest()
        if result != _SHA256[client]:
            raise CannotFetch(f"{package.name} has SHA-256 {result}, not {_SHA256[client]}")
        new = Path(folder) / "program"
        with new.open("wb") as target:
            if client == "claude":
                with zipfile.ZipFile(package) as archive, archive.open(_INSIDE[client]) as source:
                    shutil.copyfileobj(source, target)
            else:
                with tarfile.open(package) as tar:
                    member = tar.extractfile(_INSIDE[client])
                    assert member is not None
                    shutil.copyfileobj(member, target)
        new.chmod(0o755)
        path.parent.mkdir(exist_ok=True)
        new.replace(path)
    return path


def _place(client: str) -> Path:
    return CACHE / f"{client}-{CLAUDE if client == 'claude' else CODEX}" / client


def _download(client: str, folder: Path) -> Path:
    if client == "claude":
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        argv = [*pip, "-d", str(folder), f"claude-agent-sdk=={CLAUDE}"]
    else:
        argv = ["npm", "pack", "--silent", f"@openai/codex@{CODEX}-linux-x64"]
    try:
        done = subprocess.run(
            argv, cwd=folder, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotFetch(f"{argv[0]}: {error}") from error
    packages = [path for path in folder.iterdir() if path.suffix in {".whl", ".tgz"}]
    if done.returncode or not packages:
        raise CannotFetch(f"{' '.join(argv)} ended with {done.returncode}: {done.stderr.strip()[-400:]}")
    return packages[0]
