"""Variables that another version of Python, or cloudpickle, has written: restored, or reported with a reason.

`tests/data/snapshots/` holds the snapshots of `CELLS` by Python 3.11 to 3.13, in the format of today and, named
`cloudpickle-*`, as written with that version of cloudpickle before.
"""

# ruff: noqa: E501 - cells are shorter to read on one line each

import base64
import json
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from loop_runner.kernel import kernel as kernel_module
from loop_runner.kernel.kernel import Kernel
from loop_runner.records import Answer, Inputs, Snapshot, Variable
from loop_runner.sandbox.probe import SandboxReport
from loop_runner.sandbox.wrap import Layers
from loop_runner.task.kernel_settings import KernelSettings

DATA = Path(__file__).parents[1] / "data" / "snapshots"
CELLS = (
    "import re, math, os.path\nfrom dataclasses import dataclass, field\nfrom enum import Enum, IntFlag, auto\nfrom collections import namedtuple, OrderedDict, Counter, defaultdict, deque\nfrom typing import NamedTuple, TypeVar, Generic\nfrom abc import ABC, abstractmethod\nimport functools, datetime, decimal, fractions",
    "numbers = {'one': 1, 'big': 10**40, 'pi': 3.5}\ntexts = ['a', 'ä\\u2028', b'raw']\nshared = [1]\nalias = shared\nnested = {'t': (1, {2, 3}, frozenset('ab'), shared)}\nwhen = datetime.date(2026, 11, 30)\nprice = decimal.Decimal('3.10')\nhalf = fractions.Fraction(1, 2)\ncounted = Counter('aab')\nqueue = deque([1, 2], maxlen=5)",
    "K = 10\ndef add(a, b=[1], *, c: int = 3):\n    'Adds.'\n    return a + b[0] + c + K\nadd.note = 'n'\ndef make():\n    n = 0\n    def up():\n        nonlocal n\n        n += 1\n        return n\n    return up\nup = make(); up()\nsquares = [lambda x, i=i: x * i for i in range(3)]\ndef fails():\n    return 1 / 0",
    "class A:\n    count = 0\n    def hello(self): return type(self).__name__, K\n    @property\n    def seven(self): return 7\n    @staticmethod\n    def st(): return 's'\n    @classmethod\n    def cl(cls): return cls.__name__\nclass B(A):\n    __slots__ = ('s',)\n    def hello(self): return super().hello()\na = A(); a.x = 1\nb = B(); b.s = 2",
    "@dataclass\nclass D:\n    x: int\n    y: list = field(default_factory=list)\n    z: str = 'z'\n@dataclass(frozen=True, order=True)\nclass F:\n    x: int = 1\nd = D(1, [2]); f = F(3)",
    "class Color(Enum):\n    RED = 1\n    BLUE = 'b'\n    ALIAS = 1\n    def low(self): return self.name.lower()\nclass Flag(IntFlag):\n    X = auto()\n    Y = auto()\nred = Color.RED; both = Flag.X | Flag.Y",
    "Point = namedtuple('Point', 'x y', defaults=[9])\nclass Pair(NamedTuple):\n    l: int\n    r: str = 'r'\n    def both(self): return (self.l, self.r)\np = Point(1); pair = Pair(5)",
    "class Shape(ABC):\n    @abstractmethod\n    def area(self): ...\nclass Sq(Shape):\n    def __init__(self, s): self.s = s\n    def area(self): return self.s ** 2\nsq = Sq(3)\nT = TypeVar('T')\nclass Box(Generic[T]):\n    def __init__(self, v): self.v = v\nbox = Box(1)\nbound = sq.area\npattern = re.compile('a+')\nkeys = {'k': 1}.keys()\npart = functools.partial(add, 1)",
)
VALUES = {
    "numbers": "{'one': 1, 'big': 10**40, 'pi': 3.5}",
    "texts": "['a', 'ä\\u2028', b'raw']",
    "(alias is shared, nested['t'][3] is shared, nested['t'][:3])": "(True, True, (1, {2, 3}, frozenset('ab')))",
    "(when, price, half, counted, queue)": "(datetime.date(2026, 11, 30), decimal.Decimal('3.10'), fractions.Fraction(1, 2), Counter(a=2, b=1), deque([1, 2], 5))",
    "(add(1), add.__doc__, add.note, add.__annotations__, add.__qualname__)": "(15, 'Adds.', 'n', {'c': int}, 'add')",
    "(add.__code__.co_filename, add.__code__.co_firstlineno)": "('<cell 3>', 2)",
    "(up(), [square(2) for square in squares])": "(2, [0, 2, 4])",
    "(a.hello(), a.seven, a.x, A.st(), A.cl(), b.hello(), b.s)": "(('A', 10), 7, 1, 's', 'A', ('B', 10), 2)",
    "(d.x, d.y, D(5), d == D(1, [2]), d == D(2), f, F(2) < f, {f: 1}[F(3)])": "(1, [2], D(5, []), True, False, F(3), True, 1)",
    "(repr(d), repr(f))": "(\"D(x=1, y=[2], z='z')\", 'F(x=3)')",
    "(red is Color.RED, Color('b').low(), Color.ALIAS is red, both, Flag.X in both)": "(True, 'blue', True, Flag(3), True)",
    "(p, p.x, Point(3), pair, pair.both(), p._replace(x=2), pair._asdict())": "(Point(1, 9), 1, Point(3, 9), Pair(5, 'r'), (5, 'r'), Point(2, 9), {'l': 5, 'r': 'r'})",
    "(sq.area(), isinstance(sq, Shape), box.v, bound(), pattern.findall('baa'), list(keys), part())": "(9, True, 1, 9, ['aa'], ['k'], 15)",
}
STORED = sorted(path.stem for path in DATA.glob("*.json"))
_OWN = f"python3.{sys.version_info.minor}"
PYTHONS = [None, *(name for name in ("python3.11", "python3.12", "python3.13", "python3.14") if name != _OWN)]


def interpreter(name):
    """A path of that Python; skips the test if this machine has none."""
    if name is None:
        return None
    places = sorted(Path.home().glob(f".pyenv/versions/*/bin/{name}"))
    for result in filter(None, (shutil.which(name), *map(str, places))):
        if subprocess.run([result, "-c", "pass"], check=False, capture_output=True).returncode == 0:
            return result
    pytest.skip(f"no {name} on this machine")


@pytest.fixture
def start_with(loop, sub_model, tmp_path, monkeypatch):
    """Starts kernels of another Python, with no sandbox around them: an interpreter may lie anywhere."""
    report = SandboxReport("C", (), ("all but limits",), (), Layers())
    monkeypatch.setattr(kernel_module, "probe", lambda _python=None: report)
    kernels = []

    def begin(python, snapshot):
        settings = KernelSettings(python=python, require_tier="C")
        kernel = Kernel(settings, Inputs(()), tmp_path, sub_model, loop)
        kernels.append(kernel)
        return kernel, kernel.start(snapshot, Answer())

    yield begin
    for kernel in kernels:
        kernel.close()


def stored(name):
    data = json.loads((DATA / f"{name}.json").read_text())
    blobs = {key: base64.b64decode(blob) for key, blob in data["blobs"].items()}
    return Snapshot(tuple(Variable(**row) for row in data["variables"]), blobs)


def check(kernel, lost, number=100):
    """Every value is the one that it was."""
    assert lost == ()
    checks = [f"given = {given}\nassert given == {wanted}, given" for given, wanted in VALUES.items()]
    result = kernel.run_cell("\n".join(checks), number)
    assert result.end == "ok", result.output
    failed = kernel.run_cell("fails()", number + 1)
    assert 'File "<cell 3>", line 16, in fails\n    return 1 / 0' in failed.output


@pytest.mark.parametrize("name", STORED)
@pytest.mark.parametrize("python", PYTHONS)
def test_what_one_version_has_written_another_restores_whole(start_with, python, name):
    check(*start_with(interpreter(python), stored(name)))


@pytest.mark.parametrize("python", PYTHONS)
def test_what_is_written_today_is_restored_by_itself_with_the_same_bytes(start_with, python):
    kernel, _ = start_with(interpreter(python), Snapshot())
    for number, cell in enumerate(CELLS, 1):
        assert kernel.run_cell(cell, number).end == "ok"
    first = kernel.snapshot()
    again, lost = start_with(interpreter(python), first)
    assert again.snapshot().blobs.keys() == first.blobs.keys()
    check(again, lost)


def test_a_snapshot_names_the_python_that_took_it(start_with):
    for python in ("python3.12", "python3.13"):
        kernel, _ = start_with(interpreter(python), Snapshot())
        assert kernel.run_cell("x = 1", 1).end == "ok"
        assert kernel.snapshot().python.startswith(python.removeprefix("python") + ".")


def test_the_bytes_name_nothing_but_our_module_and_the_standard_library(start):
    import pickletools

    kernel = start()
    for cell in CELLS:
        assert kernel.run(cell).end == "ok"
    for blob in kernel.snapshot().blobs.values():
        texts = [argument for _, argument, _ in _opcodes(blob, pickletools) if isinstance(argument, str)]
        assert not [text for text in texts if text.startswith("cloudpickle")]
        modules = {text for text in texts if text.startswith("loop_runner")}
        assert modules <= {"loop_runner.kernel.by_value", "loop_runner.kernel.snapshot"}
    assert "cloudpickle" not in sys.stdlib_module_names


def _opcodes(blob, pickletools):
    size = int.from_bytes(blob[8:12], "big")
    index = json.loads(blob[12 : 12 + size])
    start = 12 + size
    for _, length in index["names"]:
        yield from pickletools.genops(blob[start : start + length])
        start += length


SOURCELESS = "namespace = {}\nexec('def f(): return 1\\ndef g(): return 2', namespace)\nf = namespace['f']\nrows = [1, 2]\nuses = [f]\ndel namespace"


def test_code_of_another_python_without_a_source_is_lost_and_named_and_the_rest_is_restored(start_with, loop):
    kernel, _ = start_with(interpreter("python3.12"), Snapshot())
    assert kernel.run_cell(SOURCELESS, 1).end == "ok"
    taken = kernel.snapshot()
    other, lost = start_with(interpreter("python3.13"), taken)
    reasons = {variable.name: variable.reason for variable in lost}
    assert reasons.keys() == {"f", "uses"}
    assert "another version of Python compiled, and the source is not known: f" in reasons["f"]
    assert other.run_cell("assert rows == [1, 2]", 2).end == "ok"
    statuses = {variable.name: variable.status for variable in other.snapshot().variables}
    assert statuses == {"f": "lost", "uses": "lost", "rows": "saved"}


def test_bytecode_of_an_unknown_version_never_runs(start, monkeypatch):
    kernel = start()
    kernel.run("def f(): return 1\nx = 5\ny = eval('lambda: 2')")
    taken = kernel.snapshot()
    blobs = {}
    from loop_runner.kernel.inside.by_value import BYTECODE

    for name, blob in taken.blobs.items():
        packed = b"M" + BYTECODE.to_bytes(2, "little")
        assert packed in blob
        blobs[name] = blob.replace(packed, b"M" + (BYTECODE + 1).to_bytes(2, "little"))
    again = start(snapshot=Snapshot(taken.variables, blobs), expect_lost=True)
    assert {variable.name for variable in again.lost} == {"y"}
    assert again.value("(f(), x)") == "(1, 5)"


def test_a_name_that_fails_takes_no_other_with_it_that_shares_only_texts_and_types(start):
    kernel = start()
    kernel.run(
        "class Bad:\n    def __reduce__(self): return (int, ('no number', ))\na = [Bad(), 'a text', int]\nb = ['a text', int]\nc = {'k': 'a text'}\nd = [a]"
    )
    taken = kernel.snapshot()
    statuses = {variable.name: variable.status for variable in taken.variables}
    assert statuses["b"] == statuses["c"] == "saved"
    assert "saved" not in (statuses["a"], statuses["d"])


KINDS = {
    "a class inside a function": "def make():\n    class Inner:\n        def me(self): return __class__\n    return Inner\nInner = make()\nx = Inner()",
    "slots and private names": "class S:\n    __slots__ = ('_S__a', 'b', '__dict__')\n    def __init__(self): self._S__a = 1; self.b = 2; self.c = 3\nx = S()",
    "a metaclass": "class M(type):\n    def __call__(cls, *a): return super().__call__(*a)\nclass C(metaclass=M): pass\nx = C()",
    "registered classes": "from abc import ABC\nclass I(ABC): pass\nclass P: pass\nclass Q: pass\nI.register(Q); I.register(P)\nx = isinstance(P(), I)",
    "equal constants of a base": "class A:\n    big = 10**9; t = (1, 'x'); s = 'text of a class'\nclass B(A):\n    big = 10**9; t = (1, 'x'); s = 'text of a class'\nx = B()",
    "a cached property": "class C:\n    n = 0\n    @property\n    def p(self): return 1\nx = C(); y = x.p",
    "private globals": "g = {'K': 1}\nexec('def f(): return K\\ndef h(): return f() + K', g)\nf, h = g['f'], g['h']\ndel g\nx = h()",
    "wrappers": "import functools\ndef deco(f):\n    @functools.wraps(f)\n    def w(*a): return f(*a)\n    return w\n@deco\ndef f(a): 'd'; return a\nx = f(1)",
    "nested functions and defaults": "def f(a=[1], *b, c={'k': (1,)}):\n    def g(): return a, c\n    return g\nx = f()()",
    "a module of its own": "import types\nm = types.ModuleType('m'); m.a = 1; m.b = [m.a]\nx = m.b",
    "flags and functional enums": "from enum import Flag, Enum\nF = Flag('F', 'A B C')\nE = Enum('E', {'x': 1, 'y': 'two'})\nx = F.A | F.C",
    "views and proxies": "import types\nv = {'a': 1}.values(); i = {'a': 1}.items(); m = types.MappingProxyType({'k': 1}); b = memoryview(b'xy')\nx = list(v)",
    "keyword-only dataclasses": "from dataclasses import dataclass, field, KW_ONLY\nfrom typing import ClassVar\n@dataclass(kw_only=True)\nclass D:\n    a: int\n    b: list = field(default_factory=list, repr=False)\n    c: ClassVar[int] = 5\n@dataclass\nclass E(D):\n    d: int = 0\nx = E(a=1); y = D(a=2)",
}


@pytest.mark.parametrize("cell", KINDS.values(), ids=KINDS.keys())
def test_every_kind_of_function_and_class_has_the_same_bytes_after_a_restart(start, cell):
    kernel = start()
    assert kernel.run(cell).end == "ok"
    first = kernel.snapshot()
    again = start(snapshot=first, expect_lost=True)
    assert again.lost == ()
    assert again.snapshot().blobs.keys() == first.blobs.keys()
    assert {variable.name: asdict(variable) for variable in again.snapshot().variables} == {
        variable.name: asdict(variable) for variable in first.variables
    }


@pytest.mark.parametrize("cell", KINDS.values(), ids=KINDS.keys())
def test_every_kind_of_function_and_class_is_restored_by_another_python(start_with, cell):
    kernel, _ = start_with(interpreter("python3.12"), Snapshot())
    assert kernel.run_cell(cell, 1).end == "ok"
    other, lost = start_with(interpreter("python3.13"), kernel.snapshot())
    missing = {variable.name for variable in lost}
    assert missing == ({"f", "h"} if "exec(" in cell else set())
    assert other.run_cell("x", 2).end == "ok"
