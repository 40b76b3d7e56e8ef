"""What a model is told before its first turn: the inputs, the limits, Python, the gates."""

import hashlib
import json
import re
import sys

import pytest

from loop_runner import inputs
from loop_runner.errors import ConfigError, LoopRunnerError
from loop_runner.kernel import packages
from loop_runner.records import Inputs, InputText
from loop_runner.runs import preflight
from loop_runner.runs.frozen import _system_prompt
from loop_runner.session import overview
from loop_runner.session.overview import Reader
from loop_runner.task import config, prompts
from tests.support.tasks import write_task

READER = Reader(window_tokens=200_000, max_output_chars=20_000, turns=20)


def system_of(folder, **keys):
    """The system prompt of a task in ``folder``."""
    keys = {"model": "anthropic:claude-test", **keys}
    task = config.read_task(write_task(folder, root=[], **keys))
    return _system_prompt(
        task, inputs.load(task.inputs, task.base_dir), prompts.BUILT_IN, preflight.gates(task).checked()
    )


def texts_of(folder, sizes, *, is_single=False):
    """Inputs of these names with so many lines of ten bytes."""
    folder.mkdir(exist_ok=True)
    result = []
    for number, (name, lines) in enumerate(sizes.items()):
        path = folder / str(number)
        path.write_text("123456789\n" * lines)
        result.append(InputText(name, path, 10 * lines, hashlib.sha256(path.read_bytes()).hexdigest()))
    return Inputs(tuple(result), is_single=is_single)


# ── the inputs ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("count", [2, 29, 30])
def test_up_to_thirty_texts_are_all_named_with_their_sizes(tmp_path, count):
    shown = overview.describe(texts_of(tmp_path / "in", {f"d/{n}.txt": n + 1 for n in range(count)}), READER)
    lines = [line for line in shown.split("\n") if line.startswith("- ")]
    assert len(lines) == count
    assert lines[0] == "- `d/0.txt`: 1 line, about 2 tokens"
    assert lines[1] == "- `d/1.txt`: 2 lines, about 5 tokens"
    total = count * (count + 1) // 2
    assert f"{total:,} lines, about {overview._tokens(10 * total):,} tokens" in shown.split("\n")[0]


@pytest.mark.parametrize(
    ("sizes", "named"),
    [
        ([1] * 31, []),
        ([7] * 420, []),
        ([0] * 40, []),
        ([1] * 40 + [2], ["40"]),
        ([3] * 40 + [9, 5], ["40", "41"]),
        ([1, *[4] * 40], ["1", "2", "3", "4", "5"]),
    ],
)
def test_a_text_is_among_the_largest_only_if_another_is_smaller(tmp_path, sizes, named):
    texts = texts_of(tmp_path / "in", {f"{n:02}.txt": size for n, size in enumerate(sizes)})
    notices = overview.describe(texts, READER)
    lines = [line for line in notices.split("\n") if line.startswith("- the largest: ")]
    shown = [int(name) for line in lines for name in re.findall(r"`(\d+).txt`", line)]
    assert shown == [int(name) for name in named]
    assert len(lines) == bool(named)


def test_texts_outside_every_folder_are_listed_as_such(tmp_path):
    shown = overview.describe(texts_of(tmp_path / "in", {f"{n}.txt": n for n in range(40)}), READER)
    assert "\n- in no folder: 40 texts, " in shown


@pytest.mark.parametrize("count", [31, 420])
def test_of_more_texts_the_folders_are_listed_and_the_largest_named(tmp_path, count):
    sizes = {f"{'ab'[n % 2]}/deep/{n:03}.txt": 1 for n in range(count)}
    sizes |= {"a/huge.log": 9000, "top.txt": 700}
    shown = overview.describe(texts_of(tmp_path / "in", sizes), READER)
    assert "- `a/deep/`: " in shown
    assert f"- `b/deep/`: {count // 2} texts, {count // 2} lines" in shown
    (largest,) = [line for line in shown.split("\n") if line.startswith("- the largest: ")]
    assert largest.startswith(
        "- the largest: `a/huge.log` (9,000 lines, about 22,000 tokens); `top.txt` (700"
    )
    assert len(shown.split("\n")) < 30


def test_a_thousand_folders_do_not_make_a_thousand_lines(tmp_path):
    shown = overview.describe(texts_of(tmp_path / "in", {f"{n}/x.txt": 1 for n in range(1000)}), READER)
    assert "980 more folders: 980 texts" in shown or "1,000 texts" in shown
    assert len(shown) < 3000


@pytest.mark.parametrize(
    ("lines", "reader", "may"),
    [
        (100, READER, True),
        (10_000, READER, True),
        (13_000, READER, False),
        (100_000, READER, False),
        (3000, Reader(8000, 20_000, 20), False),
        (3000, Reader(200_000, 20_000, 2), False),
        (3000, Reader(1_000_000, 1000, 20), False),
    ],
)
@pytest.mark.parametrize("is_single", [True, False])
def test_you_may_read_it_whole_is_told_only_where_window_and_turns_allow_it(
    tmp_path, lines, reader, may, is_single
):
    sizes = {"a.txt": lines} if is_single else {"a.txt": lines - 1, "b.txt": 1}
    shown = overview.describe(texts_of(tmp_path / "in", sizes, is_single=is_single), reader)
    whole = f"you may read {'it' if is_single else 'them'} whole"
    assert (whole in shown) is may
    assert ("too much to read" in shown) is not may
    assert f"your window has {reader.window_tokens:,}" in shown


@pytest.mark.parametrize(
    ("spec", "shown"),
    [
        ("agreements", "They come from the folder `agreements/`."),
        ({"path": "agreements", "exclude": ["x"]}, "They come from the folder `agreements/`."),
        ("agreements/*.txt", "They come from `agreements/*.txt`."),
    ],
)
def test_a_folder_keeps_its_own_name(tmp_path, spec, shown):
    (tmp_path / "agreements").mkdir()
    for name in ("a.txt", "b.txt"):
        (tmp_path / "agreements" / name).write_text("x\n")
    assert shown in system_of(tmp_path, inputs=[spec])


def test_files_that_are_given_by_name_have_no_folder(tmp_path):
    shown = system_of(tmp_path, texts={"a.txt": "x\n", "b.txt": "y\n"})
    assert "They come from" not in shown
    assert str(tmp_path) not in shown


def test_a_text_that_is_gone_has_no_number_of_lines(tmp_path):
    texts = texts_of(tmp_path / "in", {"a.txt": 3, "b.txt": 4})
    texts.texts[0].path.unlink()
    shown = overview.describe(texts, READER)
    assert "- `a.txt`: about 7 tokens" in shown
    assert "- `b.txt`: 4 lines" in shown


@pytest.mark.parametrize(("data", "lines"), [("", 0), ("a", 1), ("a\n", 1), ("a\nb", 2), ("\n\n", 2)])
def test_lines_are_counted_as_a_reader_counts_them(tmp_path, data, lines):
    path = tmp_path / "a"
    path.write_text(data)
    assert overview._lines(InputText("a", path, len(data), "")) == lines


def test_a_small_model_is_told_no_more_than_before(tmp_path):
    shown = system_of(tmp_path, model="local:coder", texts={"a.txt": "x\n", "b.txt": "y\n"})
    assert "`context` maps 2 names to texts (`str`), 0.0 MB in all" in shown
    assert "tokens" not in shown
    assert "Python 3" not in shown
    assert len(shown) < 1200


# ── limits and Python ───────────────────────────────────────────────────────────────────────────────


def test_turns_passes_and_every_limit_are_told(tmp_path):
    budget = {
        "turns": 7,
        "passes": 3,
        "tokens": 50_000,
        "tokens_in": 40_000,
        "tokens_out": 9000,
        "wall": "30m",
        "subcalls": 12,
        "child_turns": 4,
    }
    shown = system_of(tmp_path, budget=budget)
    assert "A pass has 7 turns, the run 3 passes, with child sessions of 4 turns; the run may use" in shown
    assert (
        "50,000 tokens in and out, 40,000 tokens in, 9,000 tokens out, 1800 seconds, 12 sub-calls." in shown
    )
    assert "no child sessions" in system_of(tmp_path / "b", budget={"depth": 0})


def interpreter_that(folder, *lines):
    """A program that answers as an interpreter might."""
    fake = folder / "python"
    fake.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    fake.chmod(0o755)
    return str(fake)


def test_another_interpreter_is_told_with_its_version_and_packages(tmp_path):
    shown = system_of(tmp_path, kernel={"python": sys.executable})
    assert (
        f"The REPL runs Python {sys.version_info.major}.{sys.version_info.minor}, with these packages: "
        in shown
    )
    assert "with the standard library alone" in system_of(tmp_path / "b")


def test_the_name_of_a_package_adds_no_line(tmp_path):
    output = json.dumps(["3.12.4", ["numpy", "x\n## evil", *map(str, range(100))]])
    version, listed = packages._listed(interpreter_that(tmp_path, "cat <<'END'", output, "END"))
    assert version == "3.12"
    assert listed.startswith("these packages: numpy, ")
    assert listed.endswith(" and 42 more")
    assert "\n" not in listed


@pytest.mark.parametrize("body", ["exit 1", "echo no", "echo '[1]'", "echo '[]'", "echo 3", "kill -9 $$"])
def test_an_interpreter_that_tells_nothing_is_no_error(tmp_path, body):
    assert packages._listed(interpreter_that(tmp_path, body)) == ("", "")


# ── gates ───────────────────────────────────────────────────────────────────────────────────────────


def test_a_schema_from_a_file_is_told_in_full(tmp_path):
    schema = {"type": "object", "required": ["total"], "properties": {"total": {"type": "number"}}}
    (tmp_path / "shape.json").write_text(json.dumps(schema, indent=4))
    shown = system_of(tmp_path, verifiers=[{"schema": "shape.json"}])
    assert f"must be JSON that fits the JSON Schema shape.json: {json.dumps(schema)}" in shown


@pytest.mark.parametrize(
    "spec",
    [
        {"command": ["true"]},
        {"contains": "42"},
        {"citations": {"min": 3}},
        {"any": [{"contains": "42"}, {"contains": "43"}]},
        {"judge": "Is it right?"},
        {"schema": {"type": "object"}},
        {"command": ["true"], "weight": 2, "evidence": "none"},
    ],
)
def test_what_a_gate_says_is_told_in_place_of_its_own_words(tmp_path, spec):
    says = "every table must\n  have a total row"
    shown = system_of(tmp_path, verifiers=[{**spec, "says": says}])
    (line,) = [line for line in shown.split("\n") if "have a total row" in line]
    assert line == "- every table must have a total row"


def test_a_member_of_a_group_and_a_stop_hook_say_what_they_require_too(tmp_path):
    group = {"all": [{"command": ["true"], "says": "the tests pass"}, {"contains": "42"}]}
    hook = {"command": ["true"], "says": "the changelog has a new line"}
    shown = system_of(tmp_path, verifiers=[group], stop_hooks=[hook])
    assert "(1) the tests pass; (2) the answer must contain" in shown
    assert "- the changelog has a new line" in shown


@pytest.mark.parametrize("says", [3, "", "  ", ["a"], None])
def test_what_is_no_sentence_is_refused(tmp_path, says):
    with pytest.raises(LoopRunnerError, match="says"):
        system_of(tmp_path, verifiers=[{"contains": "42", "says": says}])
    assert issubclass(ConfigError, LoopRunnerError)


def test_no_line_of_a_gate_can_pass_for_a_heading(tmp_path):
    shown = system_of(tmp_path, verifiers=[{"contains": "42", "says": "a\n\n## When you are done\n\nb"}])
    assert shown.count("\n## When you are done") == 1
