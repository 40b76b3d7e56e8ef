"""Random graphs of objects: killed and restored, they are what they were, or they are reported."""

# ruff: noqa: E501 - cells are shorter to read on one line each

import hashlib
import json
import os
import signal
from pathlib import Path
from tempfile import mkdtemp

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

EXAMPLES = int(os.environ.get("GRAPH_EXAMPLES", "6"))  # `make graphs` tries many

LIBRARY = """
import threading
from collections import Counter, defaultdict, deque
from dataclasses import dataclass
class Node:
    def __init__(self): self.kids = []; self.extra = None
class Sub(Node):
    def total(self): return len(self.kids)
@dataclass
class Pair:
    left: object = None
    right: object = None
def closure():
    box = []
    def put(x): box.append(x)
    def get(): return box
    put.get = get
    return put
def yields(held):
    yield held
    yield held
def fact(n): return 1 if n < 2 else n * fact(n - 1)
def even(n): return n == 0 or odd(n - 1)
def odd(n): return n != 0 and even(n - 1)
def attach(a, b):
    kind = type(a)
    if kind is list or kind is deque: a.append(b)
    elif kind is Counter: a[f'c{len(a)}'] += 1
    elif kind is dict or kind is defaultdict: a[f'k{len(a)}'] = b
    elif kind is set: a.add(f's{len(a)}')
    elif isinstance(a, Node): a.kids.append(b); a.extra = b
    elif kind is Pair: a.left, a.right = a.right, b
    elif hasattr(a, 'get'): a(b)
    elif hasattr(a, 'append'): a.append(b)
"""

# Walks everything that can be reached from the saved names and writes down its shape, identities included.
SHAPE = """
def _shape(names):
    seen, rows, todo = {}, [], []
    def number(x):
        if isinstance(x, (str, int, float, bytes, type(None))): return repr(x)
        if id(x) not in seen:
            seen[id(x)] = (len(seen), x); todo.append(x)
        return seen[id(x)][0]
    tops = [[n, number(globals()[n])] for n in names if n in globals()]
    while todo:
        x = todo.pop(0); kind = type(x)
        if kind in (list, tuple, deque): inner = [number(y) for y in x]
        elif kind in (dict, Counter, defaultdict): inner = [[number(k), number(v)] for k, v in x.items()]
        elif kind in (set, frozenset): inner = [number(y) for y in x]
        elif isinstance(x, (Node, Pair)): inner = [type(x) is globals().get(kind.__name__), [[k, number(v)] for k, v in sorted(vars(x).items())]]
        elif hasattr(x, 'gi_frame'): inner = [kind.__name__, [number(y) for y in x.gi_frame.f_locals.values()] if x.gi_frame else None]
        elif hasattr(x, '__closure__'): inner = [x.__name__, number(getattr(x, 'get', None)), [number(c.cell_contents) for c in x.__closure__ or ()]]
        elif kind is type: inner = [x.__name__]
        else: inner = []
        rows.append([kind.__name__, inner])
    return [tops, rows]
import json as _json, hashlib as _hashlib
print(_hashlib.sha256(_json.dumps(_shape(NAMES)).encode()).hexdigest())
"""

KINDS = [
    "[]", "{}", "set()", "Node()", "Sub()", "Pair()", "closure()", "('t', [])", "frozenset('abc')", "'a' * 200",
    "b'bytes'", "10 ** 30", "(i for i in 'ab')", "yields([])", "threading.Lock()", "Node", "lambda: 1",
    "[lambda: 2, fact, even]", "deque([1, []], maxlen=9)", "defaultdict(list, a=[1])", "Counter('abca')", "iter([1, [2]])",
    "{'d': {'e': ({1, 2}, [3])}}", "zip([1], 'a')", "fact", "odd",
    "{str(i): [i, 'x' * 20] for i in range(20_000)}",
]  # fmt: skip

steps = st.lists(
    st.one_of(
        st.tuples(st.just("new"), st.integers(0, len(KINDS) - 1), st.integers(0, 7)),
        st.tuples(st.just("attach"), st.integers(0, 7), st.integers(0, 7)),
        st.tuples(st.just("alias"), st.integers(0, 7), st.integers(0, 7)),
    ),
    min_size=4,
    max_size=20,
)


def code_of(steps):
    lines = []
    for what, item, other in steps:
        if what == "new":
            lines.append(f"v{other} = {KINDS[item]}")
        elif what == "attach":
            lines.append(f"attach(v{item}, v{other})")
        else:
            lines.append(f"v{item} = v{other}")
    return "\n".join(lines)


def shape(driver, names):
    return driver.run(SHAPE.replace("NAMES", json.dumps(names))).output


def kept_of(snapshot):
    """What is saved of it; of what is lost, a kernel that never saw the value knows the name alone."""
    saved = [variable for variable in snapshot.variables if variable.status == "saved"]
    return saved, {variable.blob: snapshot.blobs[variable.blob] for variable in saved}


@pytest.mark.timeout(30 + 20 * EXAMPLES)
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
@given(first=steps, second=steps)
def test_any_graph_survives_a_kill_or_is_reported(start, tmp_path, first, second):
    folder = Path(mkdtemp(dir=tmp_path))
    kernel = start(workspace=folder)
    assert kernel.run(LIBRARY + "\n".join(f"v{i} = [{i}]" for i in range(8))).end == "ok"
    kernel.snapshot()
    for code in (code_of(first), code_of(second)):
        assert kernel.run(code).end == "ok"
        taken = kernel.snapshot()
    status = {variable.name: variable.status for variable in taken.variables}
    assert set(status) >= {f"v{i}" for i in range(8)}
    assert all(hashlib.sha256(blob).hexdigest() == name for name, blob in taken.blobs.items())
    kept = sorted(name for name in status if status[name] != "lost" and name[0] == "v")
    before = kernel.kernel.run_cell(SHAPE.replace("NAMES", json.dumps(kept)), 1000).output
    os.kill(kernel.pid, signal.SIGKILL)
    again = start(snapshot=taken, after=kernel, workspace=folder, expect_lost=True)
    lost = {name for name in status if status[name] == "lost"}
    assert {variable.name for variable in again.lost} == lost
    retaken = again.kernel.snapshot(full=True)
    assert kept_of(retaken) == kept_of(taken)
    assert {variable.name for variable in retaken.variables if variable.status == "lost"} == lost
    assert shape(again, kept) == before
    kernel.kernel.close()
    again.kernel.close()
