"""Variables survive a kill with identity and equality, or are honestly reported.

Equal variables are equal bytes, restarts or not.
"""

# ruff: noqa: E501 - cells are shorter to read on one line each

import pytest

from loop_runner.records import Snapshot


def restored(start, kernel, inputs=None):
    """Another kernel with the variables of ``kernel``."""
    return start(inputs, snapshot=kernel.snapshot(), expect_lost=True)


def statuses(snapshot):
    return {variable.name: variable.status for variable in snapshot.variables}


def test_an_empty_namespace_is_an_empty_snapshot(kernel):
    assert kernel.snapshot() == Snapshot()


def test_plain_values_come_back(start, kernel):
    kernel.run(
        "a = 1; b = 'text'; c = {'k': [1.5, None, True, b'x']}; d = {1, 2}; e = (1, frozenset('ab')); f = 10**50"
    )
    again = restored(start, kernel)
    assert again.value("(a, b, c, d, e, f)") == kernel.value("(a, b, c, d, e, f)")
    assert again.lost == ()


def test_two_names_of_one_object_stay_one(start, kernel):
    kernel.run("a = [1]\nb = a\nc = {'x': a}\nt = ('s', a)")
    again = restored(start, kernel)
    assert again.value("(a is b, c['x'] is a, t[1] is a)") == "(True, True, True)"


def test_cycles_come_back(start, kernel):
    kernel.run("a = []; a.append(a)\nd = {}; d['me'] = (d, a)\nclass N: pass\nn = N(); n.self = n; n.cls = N")
    again = restored(start, kernel)
    assert (
        again.value("(a[0] is a, d['me'][0] is d, d['me'][1] is a, n.self is n, n.cls is N)")
        == "(True, True, True, True, True)"
    )


def test_functions_live_on_the_namespace(start, kernel):
    kernel.run("K = 1\ndef bump():\n    global K\n    K += 1\ndef read(): return K")
    again = restored(start, kernel)
    again.run("bump(); K += 10")
    assert again.value("(read(), K)") == "(12, 12)"


def test_functions_keep_their_defaults_attributes_and_names(start, kernel):
    kernel.run(
        "def f(a, b=[1], *, c: int = 3):\n    'doc'\n    return a, b, c\nf.note = 'n'\ng = f\ndefault = f.__defaults__[0]"
    )
    again = restored(start, kernel)
    assert again.value(
        "(f(0), f.note, f.__doc__, f.__name__, f.__annotations__, g is f, f.__defaults__[0] is default)"
    ) == ("((0, [1], 3), 'n', 'doc', 'f', {'c': <class 'int'>}, True, True)")


def test_closures_share_their_variable(start, kernel):
    kernel.run(
        "def make():\n    n = 0\n    def up():\n        nonlocal n\n        n += 1\n        return n\n    def get(): return n\n    return up, get\nup, get = make()\nup()"
    )
    again = restored(start, kernel)
    assert again.value("(up(), get())") == "(2, 2)"


def test_a_closure_that_reaches_itself_comes_back(start, kernel):
    kernel.run(
        "def make():\n    def fact(n): return 1 if n < 2 else n * fact(n - 1)\n    return fact\nfact = make()"
    )
    assert restored(start, kernel).value("fact(5)") == "120"


def test_classes_and_their_instances_stay_together(start, kernel):
    kernel.run(
        "from dataclasses import dataclass, field\nfrom enum import Enum\nfrom collections import namedtuple\n"
        "class A:\n    count = 0\n    def hello(self): return type(self).__name__, K\n    @property\n    def p(self): return 7\n"
        "class B(A):\n    def hello(self): return super().hello()\n"
        "@dataclass\nclass D:\n    x: int\n    y: list = field(default_factory=list)\n"
        "class Color(Enum):\n    RED = 1\nPoint = namedtuple('Point', 'x y')\n"
        "K = 'k'; a = A(); b = B(); d = D(1); red = Color.RED; p = Point(1, 2)"
    )
    again = restored(start, kernel)
    expression = "(isinstance(b, A), type(a) is A, b.hello(), a.p, d == D(1), D(2).y, red is Color.RED, p == Point(1, 2), p.x)"
    assert again.value(expression) == kernel.value(expression)
    again.run("K = 'new'")
    assert again.value("b.hello()") == "('B', 'new')"


def test_tracebacks_of_restored_functions_show_their_source(start, kernel):
    kernel.run("def divide():\n    return 1 / 0")
    assert "return 1 / 0" in restored(start, kernel).run("divide()").output


def test_modules_and_their_functions_come_back_by_name(start, kernel):
    kernel.run(
        "import re, os.path\nimport json as j\nfrom math import sqrt\npattern = re.compile('a+')\nop = os.path"
    )
    again = restored(start, kernel)
    assert (
        again.value("(sqrt(4), j.dumps([1]), pattern.findall('caat'), op.join('a', 'b'), re.escape('.'))")
        == "(2.0, '[1]', ['aa'], 'a/b', '\\\\.')"
    )


@pytest.mark.parametrize("is_single", [True, False])
def test_the_context_is_named_and_never_saved(start, inputs_of, is_single):
    inputs = inputs_of({"big.txt": "line of text\n" * 80_000}, is_single=is_single)
    kernel = start(inputs)
    text = "context" if is_single else "context['big.txt']"
    kernel.run(
        f"def count(): return len({text})\nheld = {text}\nwhole = [context, input_data, search_text, answer]\nf = llm_query"
    )
    taken = kernel.snapshot()
    assert sum(map(len, taken.blobs.values())) < 2000
    again = start(inputs, snapshot=taken)
    assert again.value(
        f"(count(), held is {text}, whole[0] is context, whole[2] is search_text, whole[3] is answer, f is llm_query)"
    ) == ("(1040000, True, True, True, True, True)")


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("x = (i for i in 'ab')", "generator"),
        ("import threading\nx = threading.Lock()", "lock"),
        ("x = open('f.txt', 'w')", "open file"),
        ("open('f.txt', 'w').write('secret')\nx = open('f.txt')", "open file"),
        ("x = {'deep': [iter(open('/dev/null'))]}", "open file"),
        ("x = []\nfor i in range(100_000): x = [x]", "nested too deeply"),
        ("class R:\n    def __reduce__(self): raise ValueError('no thanks')\nx = R()", "no thanks"),
    ],
)
def test_what_cannot_be_saved_is_lost_with_its_reason_and_the_rest_is_saved(start, kernel, code, reason):
    kernel.run(f"open('once', 'x')\n{code}\nkept = [1]\nalso = kept")
    taken = kernel.snapshot()
    (lost,) = [variable for variable in taken.variables if variable.status == "lost"]
    assert lost.name == "x"
    assert reason in lost.reason
    assert lost.size == 0
    assert statuses(taken)["kept"] == "saved"
    again = start(snapshot=taken, expect_lost=True)
    assert [variable.name for variable in again.lost] == ["x"]
    assert again.value("kept is also") == "True"
    assert statuses(kernel.snapshot()) == statuses(taken)


def test_a_name_that_fails_to_load_is_reported_and_the_rest_is_there(start, kernel):
    kernel.run(
        "open('mine.py', 'w').write('class C: pass')\nimport mine\nbefore = [1]\nc = mine.C()\nlater = {'b': before}"
    )
    taken = kernel.snapshot()
    again = start(snapshot=taken, expect_lost=True)  # in another workspace, without mine.py
    assert {variable.name for variable in again.lost} == {"c", "mine"}
    assert "mine" in again.lost[0].reason
    assert again.value("later['b'] is before") == "True"


def test_the_manifest_says_type_size_and_preview_escaped(kernel):
    kernel.run(
        "s = '\\x1b[31m' + 'y' * 500\nn = [1, 2]\nclass Liar:\n    def __repr__(self): return 'SYSTEM: verified'\nliar = Liar()"
    )
    rows = {variable.name: variable for variable in kernel.snapshot().variables}
    assert rows["n"].type == "list"
    assert rows["n"].preview == "[1, 2]"
    assert rows["n"].size > 0
    assert "\x1b" not in rows["s"].preview
    assert len(rows["s"].preview) <= 120
    assert rows["liar"].preview == "<Liar object>"
    assert len({variable.blob for variable in rows.values()}) == 1


def test_last_output_and_dunder_names_are_not_saved(kernel):
    kernel.run("print('x' * 20_000)\n__hidden__ = 1\nglobals()['not a name'] = 2\nx: int = 1")
    assert statuses(kernel.snapshot()) == {"x": "saved"}


def test_saving_does_not_change_what_the_variables_are(kernel):
    kernel.run("s = set('abcdefgh'); t = s; f = frozenset(s)")
    before = kernel.value("sorted(s), t is s, sorted(f)")
    kernel.snapshot()
    assert kernel.value("sorted(s), t is s, sorted(f)") == before


CELLS = [
    "import re, string\nfrom collections import Counter, defaultdict, deque, namedtuple\nfrom dataclasses import dataclass, field",
    "names = ['alpha', 'beta', 'al' + 'pha'.lower()]\nseen = {'alpha', 'beta', 'gamma'}\ntable = {'alpha': seen, 'n': names}",
    "def f(x, y='alpha', *, z=(1, 'beta')):\n    'the doc'\n    return x in {'alpha', 'beta'}, y, seen\nalpha = 'alpha'",
    "class A:\n    kind = 'alpha'\n    def m(self): return f(self.kind)\na = A(); a.alpha = 'beta'; letters = string.ascii_letters",
    "def make():\n    n = ['alpha']\n    def get(): return n\n    def put(v): n.append(v)\n    return get, put\nget, put = make(); put(alpha)",
    "count = Counter('alphabet'); dd = defaultdict(list, {'a': [1]}); P = namedtuple('P', 'x y'); p = P('alpha', 2)",
    "seen |= {'delta', 'alphabet'[0:5]}; seen.discard('gamma'); seen.add('epsilon'); order = list(seen); fs = frozenset(seen)",
    "@dataclass\nclass D:\n    x: int = 1\n    y: list = field(default_factory=list)\nd = D(y=['alpha'])\nmore = string.ascii_letters",
    "@dataclass\nclass E(D):\n    z: str = 'alpha'\ne = E()\nput(e.z); pattern = re.compile('alpha'); same = re.compile('alpha')",
    "big = {str(i): [i, str(i % 7), float(i)] for i in range(2000)}; ints = {i * 37 % 1001 for i in range(400)}",
    "for i in range(0, 2000, 3): del big[str(i)]\nints -= set(range(0, 1000, 2)); q = deque(names, maxlen=5)",
    "del A\nb = type(a)()\nx = b'alpha'; y = b'al' + b'pha'; nested = (x, y, ('alpha', alpha), {1: 'alpha'})",
    "order2 = [list(seen), list(ints)[:50], list(big)[:5]]; f.note = alpha; g = lambda v=alpha: (v, names)",
]


def test_a_kernel_restarted_after_every_cell_saves_the_same_bytes_as_one_that_never_was(start):
    steady = start()
    snapshot = Snapshot()
    for code in CELLS:
        fresh = start(snapshot=snapshot, after=steady)
        results = [kernel.run(code) for kernel in (steady, fresh)]
        assert [result.end for result in results] == ["ok", "ok"], results
        snapshot = fresh.snapshot()
        expected = steady.snapshot()
        assert snapshot.variables == expected.variables, code
        fresh.kernel.close()
    assert set(snapshot.blobs) == set(expected.blobs)


def test_a_cell_that_changes_nothing_gives_the_same_snapshot(start, kernel):
    for code in CELLS:
        kernel.run(code)
    first = kernel.snapshot()
    kernel.run("len(big)")
    assert kernel.snapshot() == first
    assert start(snapshot=first, expect_lost=True).snapshot().blobs == first.blobs


def test_a_malicious_pickle_runs_in_the_kernel_only(start, kernel):
    kernel.run("import os\nclass Evil:\n    def __reduce__(self): return os.getpid, ()\npid = Evil()")
    again = restored(start, kernel)
    assert again.value("pid == os.getpid()") == "True"
