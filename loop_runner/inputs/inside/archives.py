"""Reads archives member by member and passes each on. Nothing is unpacked to disk, no member is trusted.

An archive's claims about sizes can only lead to a refusal; the bytes that come out are counted.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import stat
import tarfile
import zipfile
from collections.abc import Callable
from typing import IO

from loop_runner.inputs.inside import paths
from loop_runner.inputs.inside.sink import Limits, Refused, Sink, TooMuch

_RATIO_FROM = 10 << 20  # smaller members may be as repetitive as they like
_CHUNK = 1 << 20

Take = Callable[[str, bytes], None]  # (name inside the archive, its bytes)


class Meter:
    """Counts the unpacked bytes of one original, including nested archives."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._bytes = 0
        self._members = 0

    def bytes(self, count: int) -> None:
        """``TooMuch`` once it is too much."""
        self._bytes += count
        if self._bytes > self.limits.total_bytes:
            raise TooMuch(f"too large: it unpacks to more than {self.limits.total_bytes >> 20} MB")

    def member(self) -> None:
        """``TooMuch`` once there are too many."""
        self._members += 1
        if self._members > self.limits.members:
            raise TooMuch(f"too many members: at most {self.limits.members:,} are looked at")


def read_zip(file: IO[bytes], sink: Sink, prefix: str, meter: Meter, take: Take) -> None:
    """Hand every member of a zip archive to ``take``."""
    with zipfile.ZipFile(file) as archive:
        seen: set[str] = set()
        for info in archive.infolist():
            if info.is_dir():
                continue
            meter.member()
            name = paths.plain(info.filename)
            why = (
                paths.why_not(info.orig_filename, meter.limits)
                or _why_not_zipped(info, meter.limits)
                or _why_not_again(name, seen)
            )
            if why:
                sink.skip(prefix + paths.shown(info.orig_filename), why)
                continue
            try:
                with archive.open(info) as member:
                    data = _read(member, meter)
            except (
                zipfile.BadZipFile,
                NotImplementedError,
                RuntimeError,
                EOFError,
                OSError,
                ValueError,
            ) as error:
                sink.skip(prefix + name, f"broken: {_words(error)}")
                continue
            except Refused as refusal:
                if isinstance(refusal, TooMuch):
                    raise
                sink.skip(prefix + name, str(refusal))
                continue
            _hand_on(take, sink, prefix, name, data)


def _why_not_zipped(info: zipfile.ZipInfo, limits: Limits) -> str:
    mode = info.external_attr >> 16
    kind = stat.S_IFMT(mode)
    if kind == stat.S_IFLNK:
        return "a link"
    if kind not in (0, stat.S_IFREG):
        return "not a regular file"
    if info.flag_bits & 0x1:
        return "encrypted: its archive has a password"
    if info.file_size > limits.total_bytes:
        return f"too large: it says that it unpacks to {info.file_size:,} bytes"
    if info.file_size > _RATIO_FROM and info.file_size > limits.ratio * max(info.compress_size, 1):
        return f"too large: it unpacks to {info.file_size // max(info.compress_size, 1)} times its size"
    return ""


def read_tar(file: IO[bytes], sink: Sink, prefix: str, meter: Meter, take: Take) -> None:
    """Hand every regular member of a tar archive (unpacked already) to ``take``, in one pass."""
    seen: set[str] = set()
    with tarfile.open(fileobj=file, mode="r|") as archive:
        for info in archive:
            if info.isdir():
                continue
            meter.member()
            name = paths.plain(info.name)
            why = (
                paths.why_not(info.name, meter.limits)
                or _why_not_in_tar(info, meter.limits)
                or _why_not_again(name, seen)
            )
            member = None if why else archive.extractfile(info)
            if member is None:
                sink.skip(prefix + paths.shown(info.name), why or "not a regular file")
                continue
            _hand_on(take, sink, prefix, name, _read(member, meter))


def _why_not_in_tar(info: tarfile.TarInfo, limits: Limits) -> str:
    if info.issym() or info.islnk():
        return "a link"
    if not info.isfile():
        return "not a regular file"
    if info.size > limits.total_bytes:
        return f"too large: it says that it has {info.size:,} bytes"
    return ""


def _why_not_again(name: str, seen: set[str]) -> str:
    """Record ``name``; only the first member with a name counts."""
    if name in seen:
        return "repeated: the archive has a member of that name already"
    seen.add(name)
    return ""


def unpacked(file: IO[bytes], kind: str, meter: Meter) -> IO[bytes]:
    """A stream of the unpacked bytes of ``file`` (gzip, bzip2 or xz), which counts what is read."""
    opened: IO[bytes]
    if kind == "gzip":
        opened = gzip.GzipFile(fileobj=file)  # type: ignore[assignment]
    elif kind == "bzip2":
        opened = bz2.BZ2File(file)
    else:
        opened = lzma.LZMAFile(file)  # noqa: SIM115
    return io.BufferedReader(_Counted(opened, meter), _CHUNK)


def read_all(stream: IO[bytes]) -> bytes:
    """The whole content of a stream that counts itself."""
    return stream.read()


class _Counted(io.RawIOBase):
    def __init__(self, inner: IO[bytes], meter: Meter) -> None:
        self._inner = inner
        self._meter = meter

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]
        data = self._inner.read(len(view))
        self._meter.bytes(len(data))
        view[: len(data)] = data
        return len(data)


def _read(member: IO[bytes], meter: Meter) -> bytes:
    chunks = []
    while chunk := member.read(_CHUNK):
        meter.bytes(len(chunk))
        chunks.append(chunk)
    return b"".join(chunks)


def _hand_on(take: Take, sink: Sink, prefix: str, name: str, data: bytes) -> None:
    try:
        take(name, data)
    except TooMuch:
        raise
    except Refused as refusal:
        sink.skip(prefix + name, str(refusal))


def _words(error: BaseException) -> str:
    return (str(error) or type(error).__name__)[:200]
