"""What the list of variables shows: values that a model can use, and no code of the model's is run for it."""

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import pathlib
import re
import types
from typing import Any, ClassVar, NamedTuple

import pytest

from loop_runner.kernel.inside.preview import preview


@dataclasses.dataclass
class Finding:
    rule: str
    line: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Slotted:
    text: str
    where: tuple[int, ...] = ()


class Colour(enum.Enum):
    RED = 1


class Plain:
    def __init__(self):
        self.name, self.items = "a", [1, 2]

    def run(self):
        """Does nothing."""


class Point(NamedTuple):
    x: Any
    y: Any


def count_words(text, least=2, *rest, unit="word", **more):
    """Count the words of a text.

    Slowly.
    """


def without_docstring(a, /, b, *, c):
    return a, b, c


for name in (Finding, Slotted, Plain, Point, count_words, without_docstring):
    name.__module__ = "__main__"  # as in a cell

UTC = dt.UTC
SHOWN = {
    "a function": (
        count_words,
        "count_words(text, least=2, *rest, unit='word', **more): Count the words of a text.",
    ),
    "a function without a docstring": (without_docstring, "without_docstring(a, /, b, *, c)"),
    "an imported function": (re.compile, "from re import compile"),
    "an imported builtin": (len, "from builtins import len"),
    "an imported class": (pathlib.Path, "from pathlib import Path"),
    "a dataclass": (Finding, "<class Finding(rule, line)>"),
    "a class": (Plain, "<class Plain with run>"),
    "an object of a dataclass": (Finding("R1", 3), "Finding(rule='R1', line=3)"),
    "an object with slots": (Slotted("a", (1,)), "Slotted(text='a', where=(1,))"),
    "an object": (Plain(), "<Plain object: name='a', items=[1, 2]>"),
    "a namespace": (types.SimpleNamespace(a=1), "<SimpleNamespace object: a=1>"),
    "a named tuple": (Point(1, 2), "Point(x=1, y=2)"),
    "a counter": (collections.Counter("abracadabra"), "Counter({'a': 5, 'b': 2, 'r': 2, 'c': 1, 'd': 1})"),
    "a defaultdict": (collections.defaultdict(list, a=[1]), "defaultdict(list, {'a': [1]})"),
    "an ordered dict": (collections.OrderedDict(a=1), "OrderedDict({'a': 1})"),
    "a deque": (collections.deque([1, 2]), "deque([1, 2])"),
    "a date": (dt.date(2024, 1, 2), "date('2024-01-02')"),
    "a time with a zone": (
        dt.datetime(2024, 1, 2, 3, tzinfo=UTC),
        "datetime('2024-01-02 03:00:00+00:00')",
    ),
    "a duration": (dt.timedelta(days=3), "timedelta('3 days, 0:00:00')"),
    "a decimal": (decimal.Decimal("1.50"), "Decimal('1.50')"),
    "a fraction": (fractions.Fraction(1, 3), "Fraction(1, 3)"),
    "a member of an enumeration": (Colour.RED, "Colour.RED"),
    "a path": (pathlib.PurePosixPath("/a/b.txt"), "PurePosixPath('/a/b.txt')"),
    "a pattern": (re.compile("a+"), "Pattern('a+')"),
    "a range": (range(3), "range(0, 3)"),
    "values in a list": (
        [dt.date(2024, 1, 2), Finding("R1")],
        "[date('2024-01-02'), Finding(rule='R1', line=0)]",
    ),
    "values in a dict": ({"a": collections.Counter("a")}, "{'a': Counter({'a': 1})}"),
}


@pytest.mark.parametrize("case", SHOWN)
def test_a_value_is_shown_as_it_is(case):
    value, shown = SHOWN[case]
    assert preview(value) == shown


class Spy:
    """Whatever is asked of it is noted."""

    calls: ClassVar[list[str]] = []

    def __getattribute__(self, name):
        Spy.calls.append(name)
        return object.__getattribute__(self, name)

    def __repr__(self):
        Spy.calls.append("repr")
        return "x"

    __str__ = __hash__ = __len__ = __iter__ = __eq__ = __getitem__ = __repr__  # type: ignore[assignment]


class SpyMeta(type):
    def __getattribute__(cls, name):
        Spy.calls.append(name)
        return type.__getattribute__(cls, name)

    def __instancecheck__(cls, value):
        Spy.calls.append("isinstance")
        return True


class ByMeta(metaclass=SpyMeta):
    pass


class Zone(dt.tzinfo):
    def utcoffset(self, when):
        Spy.calls.append("utcoffset")
        return dt.timedelta(0)

    tzname = dst = utcoffset


class Counter(Spy, collections.Counter):  # type: ignore[misc, type-arg]
    pass


def spy_counter():
    value = Counter.__new__(Counter)
    dict.__setitem__(value, "a", 1)
    return value


class WithProperty:
    @property
    def __dict__(self):  # type: ignore[override]
        Spy.calls.append("__dict__")
        return {}


@pytest.mark.parametrize(
    "make",
    [
        Spy,
        ByMeta,
        lambda: ByMeta,
        lambda: Finding(Spy(), Spy()),  # type: ignore[arg-type]
        lambda: [Spy()],
        lambda: collections.deque([Spy()]),
        lambda: collections.defaultdict(Spy, a=Spy()),
        lambda: dt.datetime(2024, 1, 1, tzinfo=Zone()),
        spy_counter,
        WithProperty,
        lambda: types.SimpleNamespace(a=Spy()),
        lambda: Point(Spy(), Spy()),
    ],
    ids=range(12),
)
def test_no_code_of_the_models_runs_when_a_value_is_shown(make):
    value = make()
    Spy.calls.clear()
    assert preview(value)
    assert Spy.calls == []


@pytest.mark.parametrize(
    "value",
    ["x" * 9999, [["x" * 999] * 99] * 99, dict.fromkeys(range(999), "x" * 99), Finding("x" * 9999), 10**5000],
    ids=range(5),
)
def test_a_preview_is_one_short_line(value):
    shown = preview(value)
    assert len(shown) <= 120
    assert "\n" not in shown
