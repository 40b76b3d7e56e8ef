"""Reads a file that a person names: a task, rules, a prompt, a script.

Owns what may go wrong on the way, in plain words. Only regular files are read, and only up to a size: a pipe
that no process writes to would be waited for, and a device has no end. Relies on the standard library only.
"""

from __future__ import annotations

import codecs
import os
import stat
from pathlib import Path

MAX_BYTES = 64 * 2**20
_OTHER_BOMS = {codecs.BOM_UTF16_LE: "UTF-16", codecs.BOM_UTF16_BE: "UTF-16"}


def read_text(path: Path, most: int = MAX_BYTES) -> str:
    """The text of ``path``, which is UTF-8; a byte order mark is no part of it.

    Raises ``OSError`` with the reason in plain words: ``FileNotFoundError``, ``IsADirectoryError``, or
    another one. Line ends are kept as universal newlines.
    """
    return decoded(read_bytes(path, most)).replace("\r\n", "\n").replace("\r", "\n")


def read_bytes(path: Path, most: int = MAX_BYTES) -> bytes:
    """The bytes of ``path``, at most ``most``. Raises as ``read_text`` does."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            _refuse_odd(os.fstat(descriptor).st_mode)
            with open(descriptor, "rb", closefd=False) as file:
                data = file.read(most + 1)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise _in_words(error) from None
    except ValueError as error:  # a NUL in the name
        raise OSError(str(error)) from None
    if len(data) > most:
        raise OSError(f"it has more than {most:,} bytes")
    return data


def decoded(data: bytes) -> str:
    """``data`` as UTF-8 text. Raises ``OSError`` that says where it is none."""
    for bom, name in _OTHER_BOMS.items():
        if data.startswith(bom):
            raise OSError(f"it is {name}, not UTF-8")
    try:
        return data.removeprefix(codecs.BOM_UTF8).decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise OSError(f"it is not UTF-8: line {line} has the byte 0x{data[error.start]:02x}") from None


def _refuse_odd(mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError("it is a folder")
    if not stat.S_ISREG(mode):
        raise OSError("it is a pipe or a device, not a regular file")


def _in_words(error: OSError) -> OSError:
    """The same kind of error; its text has no number and no second copy of the path."""
    if isinstance(error, FileNotFoundError):
        return FileNotFoundError("there is no such file")
    return type(error)((error.strerror or str(error)).lower()) if error.errno else error
