"""What the service keeps on disk, in ``RUNS/.serve``: one folder per accepted request, and uploaded files.

    requests/ID/record.json    who asked, what identifies the request; written once, before the run starts
    requests/ID/task.yaml      what ``loop-runner run`` is given
    requests/ID/inputs/        the texts that came with the request
    requests/ID/wanted         ``run``, ``pause``, ``stop``: what the client wants now
    requests/ID/end.json       how the run ended, once it has
    files/HASH/NAME            the bytes of uploads, each once
    uploads/ID.json            what an upload is called, and whose it is

A folder of ``requests`` appears whole or not at all (it is renamed into place), so a service that is killed
at any moment finds each accepted request, and none twice. No database; one service per folder (``lock``).
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

import loop_runner as lr

RUN_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,80}")
FILE_ID = re.compile(r"file-[0-9a-f]{24}")
_SUFFIX = re.compile(r"[^.A-Za-z0-9]")


@dataclass(frozen=True, slots=True)
class Record:
    """One accepted request. ``credential`` is the name of the token; ``key_sha256`` is "" without a key."""

    id: str
    credential: str
    api: str  # chat, responses, messages or runs
    model: str
    question: str
    body_sha256: str
    key_sha256: str = ""
    created_at: float = 0.0
    background: bool = False
    previous: str = ""
    instructions: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Upload:
    """One uploaded file, as its owner sees it."""

    id: str
    credential: str
    filename: str
    sha256: str
    size_bytes: int
    purpose: str
    created_at: float


class Store:
    """The service's folder. Every write is atomic and on disk when the method returns."""

    def __init__(self, folder: Path, runs: Path) -> None:
        self.folder, self.runs = folder, runs
        self.requests, self.files, self.uploads = (folder / name for name in ("requests", "files", "uploads"))
        for path in (self.requests, self.files, self.uploads):
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.chmod(0o700)
        self._lock = _only_one(folder / "lock")
        self._remove_torn()

    def close(self) -> None:
        """Let another service use the folder."""
        self._lock.close()

    # ── requests ────────────────────────────────────────────────────────────────────────────────────

    def new_id(self, question: str) -> str:
        """A name for a new run folder: words of the question, and 48 random bits."""
        words = "-".join(re.findall(r"[a-z0-9]+", question[:200].lower()))[:32].strip("-") or "run"
        return f"{words}-{secrets.token_hex(6)}"

    def place(self, record: Record, files: Mapping[str, bytes]) -> None:
        """Keep an accepted request with ``files``: whole, or not at all."""
        new = self.requests / f".{record.id}"
        (new / "inputs").mkdir(parents=True, mode=0o700)
        for name, data in files.items():
            _write(new / name, data)
            (new / name).chmod(0o644)  # for the kernel, which is never root; the folder above is private
        _write(new / "record.json", json.dumps(asdict(record)).encode())
        _sync(new / "inputs")
        _sync(new)
        new.rename(self.requests / record.id)
        _sync(self.requests)

    def records(self) -> Iterator[Record]:
        """Every request, the oldest first."""
        result = [record for path in self.requests.iterdir() if (record := _record(path)) is not None]
        yield from sorted(result, key=lambda record: record.created_at)

    def request(self, run_id: str) -> Path:
        """The folder of a request."""
        return self.requests / run_id

    def run_folder(self, run_id: str) -> Path:
        """The run folder of a request; it may not exist yet."""
        return self.runs / run_id

    def wanted(self, run_id: str) -> str:
        """What the client wants now: ``run``, ``pause`` or ``stop``."""
        with suppress(OSError):
            return (self.request(run_id) / "wanted").read_text(encoding="ascii")
        return "run"

    def want(self, run_id: str, what: str) -> None:
        """Keep what the client wants, for this service and the next one."""
        _write(self.request(run_id) / "wanted", what.encode())

    def end(self, run_id: str) -> dict[str, Any] | None:
        """How the run ended; None while it has not."""
        with suppress(OSError, ValueError):
            return dict(json.loads((self.request(run_id) / "end.json").read_bytes()))
        return None

    def keep_end(self, run_id: str, end: Mapping[str, Any] | None) -> None:
        """Keep how the run ended; None: it continues."""
        path = self.request(run_id) / "end.json"
        if end is None:
            path.unlink(missing_ok=True)
        else:
            _write(path, json.dumps(end).encode())

    def remove(self, run_id: str) -> None:
        """Remove a request and its run folder. The record goes last: a killed removal can be repeated."""
        shutil.rmtree(self.run_folder(run_id), ignore_errors=True)
        gone = self.requests / f".{run_id}.gone"
        with suppress(FileNotFoundError):
            self.request(run_id).rename(gone)
        shutil.rmtree(gone, ignore_errors=True)

    # ── uploads ─────────────────────────────────────────────────────────────────────────────────────

    def upload(self, credential: str, filename: str, data: bytes, purpose: str) -> Upload:
        """Keep a file: its bytes once, by hash, and this upload of it."""
        digest = hashlib.sha256(data).hexdigest()
        path = self._blob(digest, filename)
        if not path.exists():
            path.parent.mkdir(exist_ok=True, mode=0o700)
            _write(path, data)
        result = Upload(
            f"file-{secrets.token_hex(12)}", credential, filename, digest, len(data), purpose, time.time()
        )
        _write(self.uploads / f"{result.id}.json", json.dumps(asdict(result)).encode())
        return result

    def uploaded(self, file_id: str, credential: str) -> Upload | None:
        """An upload of this credential."""
        if not FILE_ID.fullmatch(file_id):
            return None
        with suppress(OSError, ValueError, TypeError):
            upload = Upload(**json.loads((self.uploads / f"{file_id}.json").read_bytes()))
            return upload if upload.credential == credential else None
        return None

    def uploads_of(self, credential: str) -> list[Upload]:
        """All uploads of this credential, the newest first."""
        result = (self.uploaded(path.stem, credential) for path in self.uploads.glob("file-*.json"))
        return sorted((item for item in result if item), key=lambda item: -item.created_at)

    def bytes_of(self, upload: Upload) -> bytes:
        """The content of an upload."""
        return self._blob(upload.sha256, upload.filename).read_bytes()

    def forget(self, upload: Upload) -> None:
        """Remove an upload, and its bytes if no other upload has them. Runs have copies of their own."""
        (self.uploads / f"{upload.id}.json").unlink(missing_ok=True)
        if not any(upload.sha256.encode() in path.read_bytes() for path in self.uploads.glob("file-*.json")):
            shutil.rmtree(self.files / upload.sha256, ignore_errors=True)

    def _blob(self, digest: str, filename: str) -> Path:
        return self.files / digest / f"content{_SUFFIX.sub('', Path(filename).suffix)[:10].lower()}"

    def _remove_torn(self) -> None:
        for path in self.requests.glob(".*"):
            shutil.rmtree(path, ignore_errors=True)


def _record(path: Path) -> Record | None:
    if path.name.startswith("."):
        return None
    with suppress(OSError, ValueError, TypeError):
        return Record(**json.loads((path / "record.json").read_bytes()))
    return None


def _only_one(path: Path) -> IO[bytes]:
    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise lr.WorkspaceError(
            f"another service uses {path.parent.parent}",
            why="two services would start the runs of the same requests",
            hint="stop the other one, or give this one a folder of its own with --runs",
        ) from error
    return file


def _write(path: Path, data: bytes) -> None:
    new = path.with_name(f".{path.name}.new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    with os.fdopen(os.open(new, flags, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    _sync(path.parent)


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
