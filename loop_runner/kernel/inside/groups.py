"""Writes related variables into one body, and finds those that cannot be written."""

from __future__ import annotations

import io
import pickle
import time

from . import snapshot
from .links import Links

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


BIG_BYTES = 1024 * 1024


LEAST_SECONDS = 0.2


_NEVER = float("inf")


_UNRECORDED = frozenset({int, float, bool, type(None)})  # neither a pickler's memo nor ours holds them


monotonic = time.monotonic


_dump = pickle.Pickler.dump


_dumps = pickle.dumps


class TooLargeHereError(BaseException):
    """Too much to pause this process for: a copy of it has to write."""


class _OverdueError(BaseException):
    """A name took too long. Not an ``Exception``: the model's own handlers must not catch it."""


class _Body(io.BytesIO):
    """Bytes up to two limits: one for everything that this process may write, one per name."""

    def __init__(self, pause_bytes: int | None, name_bytes: int | None = None) -> None:
        super().__init__()
        self._pause_bytes = pause_bytes
        self._name_bytes = name_bytes
        self._start = 0

    def begin_name(self) -> int:
        self._start = self.tell()
        return self._start

    def write(self, data: Any, /) -> int:
        end = self.tell() + len(data)
        if self._pause_bytes is not None and end > self._pause_bytes:
            raise TooLargeHereError
        if self._name_bytes is not None and end - self._start > self._name_bytes:
            raise OversizeError
        return super().write(data)


class Written:
    """Some names as one pickle."""

    def __init__(self, names: list[str]) -> None:
        self.names = names
        self.numbers = range(0)
        self.sizes: dict[str, int] = {}
        self.reached: snapshot.Reached
        self.body = _Body(None)

    @property
    def size(self) -> int:
        """Bytes that its names take together."""
        return sum(self.sizes.values())


class OversizeError(BaseException):
    """One name alone is larger than a small one may be."""


class Failed(Exception):  # noqa: N818 - it leads to another try, not to a report
    """One name cannot be written; the attempt is void."""


class Work:
    """One attempt to write everything that has to be written."""

    def __init__(
        self,
        namespace: dict[str, Any],
        pins: dict[int, tuple[str, ...]],
        lost: dict[str, str],
        *,
        max_bytes: int,
        pause_bytes: int | None,
        deadline: float,
        overdue: list[str],
    ) -> None:
        self._namespace = namespace
        self._pins = pins
        self._lost = lost
        self._max_bytes = max_bytes
        self._pause_bytes = pause_bytes
        self._deadline = deadline
        self._overdue = overdue
        self.oversize = ""
        self.links = Links(pins)
        self.roots: dict[str, int] = {}  # name → root of the names that share something with it
        self.words: dict[int, set[str]] = {}  # root → names that the code of those names may look up
        self._alive: list[object] = []  # ids stay unique for as long as their objects live

    def group(self, hints: list[list[str]], rest: list[str]) -> list[tuple[Written, bool]]:
        """Write all names; returns blobs and whether each is big. ``hints``: the big groups of last time."""
        todo = [rest, *hints]
        # Only the last one may skip recording, and only if nothing inside it can be shared.
        written = [
            self.write(names, is_rest=names is rest, records=position + 1 < len(todo) or len(names) > 1)
            for position, names in enumerate(todo)
        ]
        self._alive += written
        if len(written) == 1 and written[0].size <= BIG_BYTES and not written[0].reached.words:
            return [(written[0], False)] if rest else []  # the usual case: nothing to separate
        sizes = {
            number: size
            for pickled in written
            for number, size in zip(pickled.numbers, pickled.sizes.values(), strict=True)
        }
        big: list[list[str]] = []
        small: list[str] = []
        known_as = self.links.names
        for component in self.links.components(sorted(sizes, key=known_as.__getitem__)):
            names = [known_as[number] for number in component]
            if sum(map(sizes.__getitem__, component)) > BIG_BYTES:
                big.append(sorted(names))
            else:
                small += names
        for pickled in written:
            for number, words in pickled.reached.words.items():
                self.words.setdefault(self.links.root(number), set()).update(words)
        self.roots = {known_as[number]: self.links.root(number) for number in sizes}
        known = {tuple(pickled.names): pickled for pickled in written}
        groups = [(sorted(small), False), *((names, True) for names in sorted(big))]
        return [(known.get(tuple(names)) or self.write(names), is_big) for names, is_big in groups if names]

    def write(self, names: list[str], *, is_rest: bool = False, records: bool | None = None) -> Written:
        """Write ``names`` as one pickle. Without ``records``, the links are known already."""
        written = Written(names)
        written.body = file = _Body(self._pause_bytes, BIG_BYTES if is_rest else None)
        links = self.links if records is not None else Links(self._pins)
        written.reached = snapshot.Reached(links, records=bool(records))
        pickler = snapshot.Pickler(file, self._namespace, written.reached)
        self._alive.append(pickler)
        written.numbers = links.number(names)
        for name, number in zip(names, written.numbers, strict=True):
            written.reached.name = number
            start = file.begin_name()
            try:
                if type(self._namespace[name]) in _UNRECORDED:
                    file.write(_dumps(self._namespace[name], 5))
                else:
                    self.dump(pickler, name)
            except OversizeError:
                self.oversize = name
                raise
            written.sizes[name] = file.tell() - start
            self._max_bytes -= written.sizes[name] if records is not None else 0
            if self._max_bytes < 0:
                self._lost[name] = "the saved variables would take more room than there is"
                raise Failed
        return written

    def try_alone(self, name: str) -> None:
        """Find out whether ``name`` fails, without affecting the others."""
        reached = snapshot.Reached(Links(self._pins), records=False)
        (reached.name,) = reached.links.number([name])
        pickler = snapshot.Pickler(_Body(self._pause_bytes), self._namespace, reached)
        try:
            self.dump(pickler, name)
        except Failed:
            return

    def dump(self, pickler: snapshot.Pickler, name: str) -> None:
        """Write one name; one that raises or takes too long is lost."""
        # Half of the remaining time: names that hang must leave some to the others.
        now = monotonic()
        try:
            patience.ends = now + max((self._deadline - now) / 2, LEAST_SECONDS)
            _dump(pickler, self._namespace[name])
            patience.ends = _NEVER
        except _OverdueError:
            patience.ends = _NEVER
            self._lost[name] = "saving it took too long"
            self._overdue.append(name)
            raise Failed from None
        except Exception as error:  # noqa: BLE001 - objects of the model's decide what they raise
            patience.ends = _NEVER
            self._lost[name] = snapshot.reason_of(error)
            raise Failed from None
        except BaseException:
            patience.ends = _NEVER
            raise


class _Patience:
    """Whether the name being written is overdue; a timer calls this regularly."""

    __slots__ = ("ends",)

    def __init__(self) -> None:
        self.ends = _NEVER

    def tick(self, _number: int, _frame: object) -> None:
        """Raise repeatedly: a handler of the model's code may swallow the first error."""
        if monotonic() > self.ends:
            raise _OverdueError


patience = _Patience()
