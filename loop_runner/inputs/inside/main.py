"""The child's program: reads a job from standard input, converts the originals one by one, writes frames.

An unreadable document leads to a reason, not to the end of the child, as far as Python can control that.
Where it cannot (a C library's memory, an endless loop in one), the host blames the original begun last.
"""

from __future__ import annotations

import codecs
import errno
import gc
import importlib
import io
import json
import lzma
import mimetypes
import os
import signal
import sys
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from typing import IO, Any

from loop_runner.inputs.inside import (
    archives,
    documents,
    kinds,
    mail,
    notebook,
    patterns,
    pdf,
    repository,
    tables,
)
from loop_runner.inputs.inside.sink import NO_TEXT, Limits, Refused, Sink, clean

_OF_THE_MACHINE = frozenset(
    (
        errno.EACCES,
        errno.EPERM,
        errno.EROFS,
        errno.ENOSPC,
        errno.EMFILE,
        errno.ENFILE,
        errno.EAGAIN,
        errno.ENOSYS,
    )
)


class _TimeIsUpError(BaseException):
    """Raised by the alarm; no ``except Exception`` of a library may swallow it."""


def main() -> None:
    """Read the job, do it, say what came out."""
    job = json.loads(sys.stdin.buffer.read())
    # Output of libraries must not get between the frames.
    out = os.fdopen(os.dup(1), "wb", buffering=1 << 20)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    warnings.simplefilter("ignore")
    mimetypes.knownfiles.clear()  # the texts must be the same on every machine
    sys.path += job["packages"]
    signal.signal(signal.SIGALRM, _on_alarm)
    limits = Limits(**job["limits"])
    for index, request in enumerate(job["originals"]):
        sink = Sink(out, limits)
        sink.frame(type="begin", index=index)
        out.flush()
        why = _convert_original(request, sink, limits, job["loaders"])
        if why:
            sink.frame(type="fail", why=why[:500])
        sink.frame(type="done", index=index)
        out.flush()
        gc.collect()
    out.close()
    os._exit(0)  # libraries' threads and exit handlers must not run


def _on_alarm(_number: int, _frame: object) -> None:
    raise _TimeIsUpError


def _convert_original(
    request: Mapping[str, Any], sink: Sink, limits: Limits, loaders: Mapping[str, Mapping[str, str]]
) -> str:
    """Convert one original; returns the reason if it cannot be converted, else ""."""
    signal.setitimer(signal.ITIMER_REAL, limits.seconds)
    try:
        _Original(request, sink, limits, loaders).read()
    except Refused as refusal:
        return str(refusal)
    except _TimeIsUpError:
        return f"too large: it was not read within {limits.seconds:g} s"
    except MemoryError:
        return "too large: reading it takes more memory than there is for one document"
    except RecursionError:
        return "broken: its parts are nested too deeply"
    except (zipfile.BadZipFile, tarfile.TarError, lzma.LZMAError, zlib.error, NotImplementedError) as error:
        return f"broken: {error or type(error).__name__}"
    except Exception as error:  # noqa: BLE001 - libraries raise whatever a damaged file leads them to
        return _why(error)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return "" if sink.texts or request["kind"] in ("about", "render") else NO_TEXT


def _why(error: Exception) -> str:
    """Why it was not read. "broken" is a fault of the document, never a refusal by the machine."""
    text = f"{type(error).__name__}: {_first_line(error)}"
    chain: BaseException | None = error
    while chain is not None:
        if isinstance(chain, ImportError) or (isinstance(chain, OSError) and chain.errno in _OF_THE_MACHINE):
            return f"not read here: {text}; the document may be fine"
        chain = chain.__cause__ or chain.__context__
    return f"broken: {text}"


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or ["no reason given"])[0][:300]


class _Original:
    """One original and everything inside it."""

    def __init__(
        self, request: Mapping[str, Any], sink: Sink, limits: Limits, loaders: Mapping[str, Mapping[str, str]]
    ) -> None:
        self._request = request
        self._sink = sink
        self._limits = limits
        self._loaders = loaders
        self._meter = archives.Meter(limits)

    def read(self) -> None:
        """Convert it."""
        if self._request["kind"] == "git":
            self._read_repository(self._request["git"])
            return
        with os.fdopen(self._request["fd"], "rb") as file:
            file.seek(0)
            if self._request["kind"] == "about":
                about, places = tables.describe(self._request["table"], file.read(), self._limits)
                self._sink.frame(type="about", about=about[:2000], places=places)
                return
            if self._request["kind"] == "render":
                data = pdf.render(file, self._request["page"])
                self._sink.frame(data, type="image")
                return
            self._convert(file, self._request["name"], "", self._request["kind"], 0)

    def _convert(self, file: IO[bytes], name: str, member: str, kind: str, depth: int) -> None:
        """``member`` is "" for the original itself."""
        sink, limits = self._sink, self._limits
        if kind == "package":
            kind = documents.package_kind(file, name, limits)
            file.seek(0)
        if kind == "pdf":
            pdf.read(file, sink, member, limits)
        elif kind in ("docx", "xlsx", "pptx", "epub"):
            documents.office(file, sink, member, kind)
        elif kind == "html":
            documents.html(_without_bom(file), sink, member)
        elif kind == "mbox":
            mail.mailbox(_without_bom(file), sink, member, limits, self._inside(member, depth))
        elif kind == "eml":
            mail.message(_without_bom(file), sink, member, self._inside(member, depth))
        elif kind == "ipynb":
            notebook.read(_without_bom(file), sink, member)
        elif kind in ("utf-16", "utf-32"):
            text = clean(file.read().decode(kind))
            sink.text(member, kind, text.encode("utf-8", "replace"), [])
        elif kind == "added":
            self._with_added(file, name, member)
        elif kind in ("zip", "tar", "gzip", "bzip2", "xz"):
            self._look_into(file, name, member, kind, depth)
        else:
            raise Refused(f"binary: nothing here reads {kind}")

    def _look_into(self, file: IO[bytes], name: str, member: str, kind: str, depth: int) -> None:
        if depth >= self._limits.depth:
            raise Refused(
                f"nested too deeply: archives in archives are opened {self._limits.depth} levels deep"
            )
        prefix = f"{member}/" if member else ""
        take = self._inside(member, depth)
        if kind == "zip":
            if not name.lower().endswith(".zip") and not self._request.get("is_named"):
                raise Refused("binary: a zip archive that is not called .zip")
            archives.read_zip(file, self._sink, prefix, self._meter, take)
        elif kind == "tar":
            archives.read_tar(file, self._sink, prefix, self._meter, take)
        else:
            stream = archives.unpacked(file, kind, self._meter)
            if kinds.is_tar(name):
                archives.read_tar(stream, self._sink, prefix, self._meter, take)
            else:
                take(name.rsplit("/", 1)[-1].rpartition(".")[0] or "data", archives.read_all(stream))

    def _inside(self, member: str, depth: int) -> Any:
        """The function that takes members inside ``member``: each becomes a text, converted if necessary."""

        def take(name: str, data: bytes) -> None:
            self._take(f"{member}/{name}" if member else name, data, depth + 1)

        return take

    def _take(self, member: str, data: bytes, depth: int) -> None:
        if not data:
            raise Refused("empty")
        kind = kinds.kind_of(member, data[: kinds.SNIFF], frozenset(self._loaders))
        if kind is not None:
            try:
                self._convert(io.BytesIO(data), member, member, kind, depth)
            except (Refused, MemoryError, RecursionError):
                raise
            except Exception as error:  # noqa: BLE001 - one damaged member must not cost the others
                raise Refused(_why(error)) from None
            return
        if why := kinds.why_binary(data[: kinds.SNIFF]):
            raise Refused(why)
        self._sink.text(member, "text", data, [], as_is=True)

    def _with_added(self, file: IO[bytes], name: str, member: str) -> None:
        """With another package's loader, which returns (label, text) pairs."""
        loader = self._loaders[kinds.suffix_of(name)]
        for folder in loader["folders"]:
            if folder not in sys.path:
                sys.path.append(folder)
        module, _, attribute = loader["value"].partition(":")
        load: Any = importlib.import_module(module)
        for part in attribute.split("."):
            load = getattr(load, part)
        sections = [(str(label), str(text)) for label, text in load(file, name)]
        self._sink.sections(member, kinds.suffix_of(name)[1:], sections)

    def _read_repository(self, request: Mapping[str, Any]) -> None:
        wanted = [patterns.parts(pattern) for pattern in request["paths"]]
        excluded = [patterns.parts(pattern) for pattern in request["exclude"]]

        exact = frozenset(request["exact"])

        def why_not(path: str) -> str:
            if exact:
                return "" if path in exact else "-"
            if wanted and not any(_is_meant(path, pattern) for pattern in wanted):
                return "-"
            return "excluded" if patterns.is_excluded(path, excluded) else ""

        def take(path: str, data: bytes, sha256: str) -> None:
            self._sink.about = {"blob": path, "sha256": sha256}
            self._take(path, data, 0)

        repository.read(request, self._sink, self._meter, take, why_not)


def _without_bom(file: IO[bytes]) -> bytes:
    return file.read().removeprefix(codecs.BOM_UTF8)


def _is_meant(path: str, pattern: tuple[str, ...]) -> bool:
    """By its whole name, or because a folder above it matches."""
    own = patterns.parts(path)
    return any(patterns.matches(own[:end], pattern) for end in range(1, len(own) + 1))
