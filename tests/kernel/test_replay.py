"""What cannot be saved is made again by the cells that made it, at no cost and without effects; or it is lost."""

# ruff: noqa: E501 - cells are shorter to read on one line each

import pytest


def rows(snapshot):
    return {variable.name: variable for variable in snapshot.variables}


@pytest.fixture
def again(start):
    """Another kernel with the variables of ``kernel`` and the cells that it ran."""

    def make(driver, taken=None, **options):
        return start(snapshot=taken or driver.snapshot(), after=driver, **options)

    return make


MAKES = {
    "a generator": ("lines = (i * i for i in range(5)); next(lines)", "list(lines)", "[1, 4, 9, 16]"),
    "a generator of a function": ("def count(n):\n    for i in range(n): yield i, K\nK = 'k'; lines = count(3); next(lines)", "list(lines)", "[(1, 'k'), (2, 'k')]"),
    "a lock": ("import threading; lock = threading.Lock(); lock.acquire()", "lock.locked()", "True"),
    "a file that is read": ("f = open('in.txt'); f.readline()", "f.read()", "b"),
    "a database in memory": ("import sqlite3\ndb = sqlite3.connect(':memory:'); db.execute('create table t (x)'); _ = db.execute('insert into t values (7)')", "list(db.execute('select * from t'))", "[(7,)]"),
    "what asked the sub-model": ("parts = llm_batch(['a', 'b']); g = (p for p in parts + [llm_query('c')]); next(g)", "list(g)", "['echo: b', 'echo: c']"),
}  # fmt: skip


@pytest.mark.parametrize("what", MAKES)
def test_what_cannot_be_saved_is_made_again(kernel, again, sub_model, tmp_path, what):
    (tmp_path / "workspace0/in.txt").write_text("a\nb")
    code, expression, expected = MAKES[what]
    assert kernel.run(code).end == "ok"
    taken = kernel.snapshot()
    assert {each.status for each in taken.variables} <= {"saved", "replay"}, taken.variables
    assert "replay" in {each.status for each in taken.variables}
    asked = len(sub_model.prompts)
    other = again(kernel, taken, workspace=tmp_path / "workspace0")
    assert other.lost == ()
    assert other.snapshot().variables == taken.variables
    assert other.value(expression) == expected
    assert len(sub_model.prompts) == asked


def test_cells_that_only_share_names_of_locals_are_not_run(kernel):
    kernel.run("def double(n): return 2 * n\nopen('out.txt', 'w').write('x')")
    kernel.run("lines = (n for n in range(3))\nclass C:\n    def __init__(self, n): self.n = n")
    assert rows(kernel.snapshot())["lines"].status == "replay"


@pytest.mark.parametrize(
    "use",
    [
        "alias = lines\nx = next(alias)",
        "def take(): return next(lines)\nx = take()",
        "def take(g=lines): return next(g)\nx = take()",
        "class Holder: held = lines\nx = next(Holder.held)",
        "def one(): return two()\ndef two(): return next(lines)\nx = one()",
        "held = {'k': [lines]}\nx = next(held['k'][0])",
    ],
)
def test_cells_that_used_it_by_another_name_are_run_too(kernel, again, use):
    kernel.run("lines = (n for n in range(5))")
    for line in use.split("\n"):
        kernel.run(line)
    kernel.run("unrelated = [x]")
    assert again(kernel).value("(list(lines), x)") == "([1, 2, 3, 4], 0)"


def test_later_cells_that_used_it_are_run_too(kernel, again):
    kernel.run("def count():\n    for i in range(10): yield i\nlines = count()")
    kernel.run("unrelated = open('out.txt', 'w').write('x')")
    kernel.run("first = next(lines); total = first")
    kernel.run("total = 100")
    kernel.run("second = next(lines)")
    other = again(kernel)
    assert other.value("(next(lines), first, second, total)") == "(2, 0, 1, 100)"


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("f = open('out.txt', 'w')", "writes files"),
        ("lines = (i for i in 'ab'); open('log.txt', 'a').write(next(lines))", "writes files"),
        ("import os; lines = (i for i in 'ab'); os.mkdir(next(lines))", "outside the kernel"),
        (
            "import os\nif os.path.exists('late'): raise ValueError('late')\nlines = (i for i in 'ab')",
            "raised ValueError",
        ),
        (
            "import threading, time; t = threading.Thread(target=time.sleep, args=[60], daemon=True); t.start()",
            "thread",
        ),
    ],
)
def test_what_would_act_again_is_lost_with_the_reason(start, kernel, tmp_path, code, why):
    assert kernel.run(code).end == "ok"
    (tmp_path / "workspace0/late").touch()
    (tmp_path / "workspace0/log.txt").unlink(missing_ok=True)
    lost = [each for each in kernel.snapshot().variables if each.status == "lost"]
    assert lost
    assert all(why in each.reason for each in lost)
    assert not (tmp_path / "workspace0/log.txt").exists()


def test_making_it_again_changes_nothing_else(kernel, again, tmp_path):
    kernel.run("found = [1]; lines = (i for i in found); answer['content'] = 'early'; print('told')")
    kernel.run("found.append(2); answer['content'] = 'draft'")
    taken = kernel.snapshot()
    other = again(kernel, taken)
    result = other.run("found, answer['content']")
    assert result.output == "([1, 2], '')\n"  # the answer is the host's to restore
    assert result.answer.content == ""


SHARES = {
    "a list": ("found = [1]; lines = (i for i in found)", "found.append(next(lines) + 1)", "(next(lines), found.append(3), list(lines), found)", "(2, None, [3], [1, 2, 3])"),
    "a class": ("import threading\nclass W:\n    def __init__(self): self.lock = threading.Lock()\nw = W()", "other = W; kept = [1]", "(type(w) is W, isinstance(w, other), W().lock.locked())", "(True, True, False)"),
    "a function": ("def f(x, seen=[]):\n    seen.append(x); return seen\nlines = (f(i) for i in range(9)); next(lines)", "same = f; before = f(7)", "(next(lines) is before, same is f, before)", "(True, True, [0, 7, 1])"),
    "a class that others use": ("import threading\nclass W:\n    def __init__(self): self.lock = threading.Lock()\nclass V:\n    pass", "v = V(); w = W()\nw.v = v; vs = [V()]", "(type(w.v) is V is type(vs[0]), w.v is v, type(w) is W)", "(True, True, True)"),
    "through another": ("inner = [1]; outer = {'inner': inner}; other = {'outer': outer}; lines = (i for i in inner)", "inner.append(2)", "(other['outer'] is outer, outer['inner'] is inner, inner.append(3), list(lines))", "(True, True, None, [1, 2, 3])"),
}  # fmt: skip


@pytest.mark.parametrize("what", SHARES)
def test_what_is_made_again_shares_with_what_was_saved(kernel, again, what):
    first, second, expression, expected = SHARES[what]
    for code in (first, second):
        assert kernel.run(code).end == "ok"
    taken = kernel.snapshot()
    assert {each.status for each in taken.variables} == {"saved", "replay"}, taken.variables
    other = again(kernel, taken)
    assert other.kernel.snapshot(full=True) == taken
    assert other.value(expression) == expected == kernel.value(expression)


def test_what_shares_with_something_that_comes_out_otherwise_is_lost(kernel, again):
    kernel.run("import time\nfound = [time.time_ns()]; lines = (i for i in found); apart = (i for i in 'ab')")
    found = kernel.value("found")
    taken = kernel.snapshot()
    assert rows(taken)["lines"].status == rows(taken)["apart"].status == "lost"
    assert "it shares objects with found" in rows(taken)["lines"].reason
    other = again(kernel, taken, expect_lost=True)
    assert other.value("found") == found


def test_one_that_cannot_be_made_again_costs_no_other(kernel):
    kernel.run("lines = (i for i in 'ab')")
    kernel.run("f = open('out.txt', 'w')")
    taken = rows(kernel.snapshot())
    assert (taken["lines"].status, taken["f"].status) == ("replay", "lost")


def test_what_takes_too_much_work_to_make_again_is_lost(start):
    kernel = start(timeout_s=12)
    kernel.run("total = sum(i * i % 7 for i in range(25_000_000)); lines = (i for i in 'ab')")
    assert "it took too long" in rows(kernel.snapshot())["lines"].reason


def test_a_module_that_the_model_wrote_cannot_act_again(kernel):
    kernel.run("open('mine.py', 'w').write(\"open('log.txt', 'a').write('x')\")")
    kernel.run("import mine\nlines = (i for i in 'ab')\ndel mine")
    assert "writes files" in rows(kernel.snapshot())["lines"].reason


def test_a_cell_that_failed_then_may_fail_again(kernel, again):
    kernel.run("lines = (i for i in 'ab'); next(lines); 1 / 0")
    assert again(kernel).value("list(lines)") == "['b']"


def test_what_was_lost_stays_lost_until_it_is_bound_anew(kernel):
    kernel.run("f = open('out.txt', 'w')")
    first = rows(kernel.snapshot())["f"]
    kernel.run("x = 1")
    assert rows(kernel.snapshot())["f"] == first
    kernel.run("g = (i for i in 'ab')\nf = threads = 1")
    assert rows(kernel.snapshot())["f"].status == "saved"


def test_a_restart_after_a_death_makes_it_again(kernel):
    kernel.run("lines = (i for i in 'abc'); next(lines)")
    kernel.snapshot()
    kernel.run("next(lines); import os; os._exit(1)")
    assert kernel.value("list(lines)") == "['b', 'c']"


@pytest.mark.parametrize("is_single", [True, False])
def test_the_context_is_there_again(start, again, inputs_of, is_single):
    inputs = inputs_of({"a.txt": "one\ntwo\n"}, is_single=is_single)
    kernel = start(inputs)
    text = "context" if is_single else "context['a.txt']"
    kernel.run(f"lines = (line for line in {text}.splitlines())")
    kernel.run("first = next(lines)")
    assert rows(kernel.snapshot())["lines"].status == "replay"
    assert again(kernel, inputs=inputs).value("(first, list(lines))") == "('one', ['two'])"
