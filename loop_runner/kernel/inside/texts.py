"""``context``: the input as the model's code sees it. Runs inside the kernel process.

One text is a plain ``str``. Many are a read-only mapping of name to text; each text is read from its file on
first use and kept. Texts are UTF-8, with invalid bytes replaced by U+FFFD; line ends are unchanged. A byte
order mark at the beginning is not part of the text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from .names import plural

_SHOWN_NAMES = 5
_LARGE_BYTES = 16 << 20


def read_text(path: str) -> str:
    """The text in the file at ``path``."""
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - pathlib costs the start of every kernel 5 ms
        if file.seek(0, 2) >= _LARGE_BYTES:
            return _read_large(file.fileno()).removeprefix("\ufeff")
        file.seek(0)
        return file.read().decode("utf-8", "replace").removeprefix("\ufeff")


def _read_large(fd: int) -> str:
    """As above, in a third of the time: the bytes are decoded where the system holds them."""
    import mmap

    with mmap.mmap(fd, 0, access=mmap.ACCESS_READ) as data:
        return str(data, "utf-8", "replace")


class Texts(Mapping[str, str]):
    """All texts by name, in the task's order. ``context[name]`` is the text; it cannot be changed."""

    def __init__(self, files: list[tuple[str, str, int]], images: Iterable[str] = ()) -> None:
        """``images``: the names of inputs that have no text; ``llm_query(..., images=[name])`` shows them."""
        self.images = tuple(images)
        self._paths = {name: path for name, path, _ in files}
        self._total_bytes = sum(size for _, _, size in files)
        self._read: dict[str, str] = {}

    def __getitem__(self, name: str) -> str:
        text = self._read.get(name) if isinstance(name, str) else None
        return self._load(name) if text is None else text

    def _load(self, name: object) -> str:
        if not isinstance(name, str):
            first = next(iter(self._paths), "NAME")
            raise TypeError(
                f"context is a mapping of name to text: use a name, like context[{first!r}], not {name!r:.40}"
            )
        if name not in self._paths:
            raise KeyError(f"no text is named {name!r:.80}{did_you_mean(name, self._paths)}")
        text = self._read[name] = read_text(self._paths[name])
        return text

    def add(self, name: str, text: str) -> None:
        """Take in a text that came later: a page that was fetched."""
        if name not in self._paths:
            self._paths[name] = ""
            self._total_bytes += len(text.encode("utf-8", "replace"))
        self._read[name] = text

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)

    def __contains__(self, name: object) -> bool:
        return name in self._paths

    def __repr__(self) -> str:
        names = ", ".join(repr(name) for name in list(self._paths)[:_SHOWN_NAMES])
        more = ", …" if len(self._paths) > _SHOWN_NAMES else ""
        size = f"{plural(len(self._paths), 'text')}, {plural(self._total_bytes, 'byte')}"
        shown = f"; images: {plural(len(self.images), 'name')} in .images" if self.images else ""
        return f"<context: {size}, by name: {names}{more}{shown}>"

    def cached(self) -> dict[str, str]:
        """The texts that were read so far (the snapshot names them instead of saving them)."""
        return self._read


def did_you_mean(name: str, known: object) -> str:
    """`; did you mean 'a', 'b'?` for names like ``name``, or nothing."""
    from difflib import get_close_matches

    names = [candidate for candidate in known if isinstance(candidate, str)]  # type: ignore[attr-defined]
    tail = name.rsplit("/", 1)[-1]
    close = [candidate for candidate in names if candidate.rsplit("/", 1)[-1] == tail][:3]
    # difflib is slow on long lists, and a typo rarely changes the first letter.
    pool = (
        names if len(names) < 3000 else [candidate for candidate in names if candidate[:1] == name[:1]][:3000]
    )
    close += [
        candidate for candidate in get_close_matches(name, pool, n=3, cutoff=0.6) if candidate not in close
    ]
    return f"; did you mean {', '.join(map(repr, close[:3]))}?" if close else ""
