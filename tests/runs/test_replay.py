"""A replay makes the same tree from the recorded replies, asks nobody, and says where it cannot."""

import json
import re
import signal

import pytest
import yaml

from loop_runner.sandbox.probe import probe
from tests.support.commands import loop_runner, started
from tests.support.git import git, tree
from tests.support.machines import path_without
from tests.support.tasks import cell, ready, write_task

pytestmark = pytest.mark.slow

FAN_OUT = "print(llm_batch([f'how many in {n}?' for n in range(20)]))"


def json_of(*args, cwd, code=0, **keys):
    result = loop_runner(*args, "--json", cwd=cwd, **keys)
    assert result.returncode == code, result.stdout + result.stderr
    return json.loads(result.stdout)


def replayed(place, *args, name="scripted", code=0, **keys):
    return json_of("replay", name, *args, cwd=place, code=code, **keys)


def make(place, root, *, code=0, args=(), env=None, **task):
    """A run ``runs/scripted`` of a scripted task."""
    write_task(place / "task", root=root, **task)
    result = loop_runner("run", "task/task.yaml", "-q", *args, cwd=place, env=env)
    assert result.returncode == code, result.stderr
    return place / "runs/scripted"


def everything(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# ── the same tree ───────────────────────────────────────────────────────────────────────────────────


def test_a_replay_is_the_same_byte_for_byte_and_leaves_the_run_alone(place):
    run = place / "runs/scripted"
    before = everything(run)
    (place / "task/script.yaml").unlink()
    data = replayed(place, "--to", "again")
    assert (data["status"], data["passes"], data["turns"], data["replies"]) == ("same", 3, 5, 5)
    assert (data["tree"], data["gates_asked"], data["differences"]) == (tree(run), 3, [])
    assert tree(place / "again") == tree(run)
    assert everything(run) == before


def test_a_run_that_was_killed_and_resumed_replays(tmp_path):
    cells = [cell(FAN_OUT), cell("import time\ntime.sleep(0.5)\nx = llm_query('last?')"), ready("42")]
    write_task(tmp_path / "task", root=cells, sub=[{"match": r"(\d+)", "reply": "{1}"}, {"reply": "no"}])
    for line in ("pass 1 turn 1: the code ran", "pass 1 turn 2: asking", "pass 1 turn 3: asking"):
        with started(
            *(["resume", "scripted"] if (tmp_path / "runs").exists() else ["run", "task/task.yaml"]),
            cwd=tmp_path,
        ) as running:
            running.wait_for_line(line)
            running.signal(signal.SIGKILL)
            running.finish()
    assert loop_runner("resume", "scripted", "-q", cwd=tmp_path).returncode == 0
    data = replayed(tmp_path)
    assert (data["status"], data["turns"], data["replies"]) == ("same", 3, 24)


def test_sub_calls_side_by_side_with_the_same_prompt_replay(tmp_path):
    batch = "print(llm_batch(['same?'] * 8 + ['other?', 'same?']))\nkept = set('abcd')\nprint(kept)"
    run = make(
        tmp_path, [cell(batch), ready("42")], sub=[{"contains": "same", "reply": "yes"}, {"reply": "no"}]
    )
    assert replayed(tmp_path)["tree"] == tree(run)


def test_forks_replay_with_what_they_changed(place):
    (place / "new.md").write_text("Name the answer once more.\n")
    for number, moment in enumerate(("2.2", "1", "2.1")):
        name = f"fork{number}"
        json_of("fork", f"scripted@{moment}", name, "--prompt", "new.md", "--run", "-q", cwd=place)
        data = replayed(place, name=name)
        assert (data["status"], data["outside_commits"]) == ("same", 1)


def test_a_rewound_run_replays(place):
    for moment in ("3.1", "1.1"):
        json_of("rewind", "scripted", moment, cwd=place)
        assert replayed(place)["status"] == "same", "an unfinished run, up to where it stands"
        json_of("resume", "scripted", "-q", cwd=place)
        assert replayed(place)["status"] == "same"


def test_settings_of_one_start_only_are_in_the_record(tmp_path):
    run = make(tmp_path, [ready("40"), ready("41"), ready("42")], code=3, args=("--passes", "1"))
    assert loop_runner("resume", "scripted", "-q", "--passes", "2", cwd=tmp_path).returncode == 3
    assert loop_runner("resume", "scripted", "-q", "--set", "budget.passes=7", cwd=tmp_path).returncode == 0
    assert "2 of 7 passes" not in (run / "passes/0002/injected.md").read_text()
    assert 'Loop-Set: {"budget.passes": 7}' in git(run, "log", "-1", "--format=%B")
    assert replayed(tmp_path)["status"] == "same"


def test_what_is_left_of_a_time_limit_is_told_again_as_it_was(tmp_path):
    slow = "import time\ntime.sleep(1.2)\nanswer['content'] = '41'\nanswer['ready'] = True"
    run = make(tmp_path, [cell(slow), ready("42")], budget={"wall": "90s"})
    assert re.search(r"\b[78]\d s\b", (run / "passes/0002/injected.md").read_text())
    assert replayed(tmp_path)["status"] == "same"


def test_a_persons_commits_are_taken_as_they_are(place):
    run = place / "runs/scripted"
    json_of("rewind", "scripted", "2.1", cwd=place)
    (run / "workspace/notes/mine.md").write_text("look at the second line\n")
    git(run, "add", "-A")
    git(run, "-c", "user.name=x", "-c", "user.email=x@y", "commit", "-qm", "a hint of mine")
    json_of("resume", "scripted", "-q", cwd=place)
    data = replayed(place)
    assert (data["status"], data["outside_commits"]) == ("same", 2), "the rewind's own, and the person's"


def test_tracebacks_name_the_folder_of_the_run_and_not_of_the_replay(tmp_path):
    module = "open('helper.py', 'w').write('def f():\\n    raise ValueError(1)\\n')"
    use = "import os, sys\nprint(os.getcwd())\nsys.path.insert(0, '.')\nimport helper\nhelper.f()"
    run = make(tmp_path, [cell(module), cell(use), ready("42")])
    assert f"{run}/workspace/helper.py" in (run / "passes/0001/turns/0002/output.txt").read_text()
    assert replayed(tmp_path)["status"] == "same"


def test_a_paid_run_is_replayed_without_its_provider_and_without_a_key(tmp_path, model_server):
    write_task(tmp_path / "task", root=[], model="anthropic:claude-test", budget={"passes": 2})
    model_server.will_reply(cell("a = llm_query('how many?')"), "40", ready("41"), ready("42"))
    assert loop_runner("run", "task/task.yaml", "-q", cwd=tmp_path, env=model_server.env).returncode == 0
    requests = len(model_server.requests)
    nowhere = {"ANTHROPIC_BASE_URL": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}
    data = replayed(tmp_path, env=nowhere)
    assert (data["status"], data["replies"]) == ("same", 4)
    assert len(model_server.requests) == requests


# ── machines ────────────────────────────────────────────────────────────────────────────────────────


def test_another_sandbox_is_said_and_its_report_is_taken_from_the_record(tmp_path):
    """The run had no bubblewrap, the replay has it, as on another machine."""
    if probe().tier != "A":
        pytest.skip("bubblewrap is missing or does not work here, so there is no other sandbox to replay in")
    run = make(tmp_path, [ready("41"), ready("42")], env={"PATH": path_without({"bwrap"}, tmp_path / "bin")})
    recorded = json.loads((run / "passes/0001/pass.json").read_text())["sandbox"]
    data = replayed(tmp_path)
    assert (data["status"], data["taken_from_record"]) == ("same", ["sandbox"])
    assert recorded["tier"] != "A"
    assert "this machine's is another" in loop_runner("replay", "scripted", cwd=tmp_path).stdout


def test_inputs_that_lie_elsewhere_are_named_and_found_with_inputs(place):
    (place / "task/notes.txt").rename(place / "notes.txt")
    refused = loop_runner("replay", "scripted", cwd=place)
    assert refused.returncode == 2
    assert "1 of 1 input is not there" in refused.stderr
    assert "--inputs DIR" in refused.stderr
    assert replayed(place, "--inputs", ".")["status"] == "same"
    (place / "notes.txt").write_text("something else")
    assert loop_runner("replay", "scripted", "--inputs", ".", cwd=place).returncode == 2


# ── gates ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def judged(tmp_path):
    """A run whose gate is a program: it accepts 42, and says when."""
    gate = "import time; print('at', time.time_ns()); exit('42' not in open('answer.md').read())"
    (tmp_path / "task").mkdir()
    (tmp_path / "task/gate.py").write_text(gate)
    make(tmp_path, [ready("41"), ready("42")], verifiers=[{"command": ["python3", "gate.py"]}])
    return tmp_path


def test_a_gate_that_says_the_same_in_other_words_is_a_difference_of_its_own(judged):
    data = replayed(judged, code=3)
    assert (data["status"], data["differences"], data["first_difference"]) == ("differs", [], None)
    first = data["verdicts"][0]
    assert (first["pass"], first["recorded"], first["now"]) == (1, "block", "block")
    output = loop_runner("replay", "scripted", cwd=judged).stdout
    assert "pass 1: recorded block, now block, in other words" in output


def test_a_gate_that_decides_otherwise_is_named_and_the_replay_goes_on_as_recorded(judged):
    (judged / "task/gate.py").write_text("exit(0)")
    data = replayed(judged, code=3)
    assert data["passes"] == 2
    first = data["verdicts"][0]
    assert (first["pass"], first["recorded"], first["now"]) == (1, "block", "broken")
    assert "has changed since the run began" in first["detail"]


def test_a_gate_that_cannot_be_asked_is_said_to_be_broken(judged):
    (judged / "task/gate.py").unlink()
    task = yaml.safe_load((judged / "runs/scripted/task.yaml").read_text())
    assert task["verifiers"]
    data = replayed(judged, code=3)
    assert data["verdicts"]
    assert data["differences"] == []


def test_recorded_verdicts_need_no_gate(judged):
    (judged / "task/gate.py").write_text("raise SystemExit('not asked')")
    data = replayed(judged, "--recorded-verdicts")
    assert (data["status"], data["gates_asked"]) == ("same", 0)


# ── what differs ────────────────────────────────────────────────────────────────────────────────────


def test_a_cell_that_reads_the_clock_is_found_with_its_path_and_line(tmp_path):
    make(tmp_path, [cell("import time\nprint(time.time_ns())"), ready("42")])
    data = replayed(tmp_path, code=3)
    assert (data["status"], data["turns"]) == ("differs", 2)
    assert (data["first_difference"]["pass"], data["first_difference"]["turn"]) == (1, 1)
    (path,) = data["first_difference"]["paths"]
    assert (path["kind"], path["path"]) == ("differs", "passes/0001/turns/0001/output.txt")
    assert path["recorded"].isdecimal()
    assert path["recorded"] != path["replayed"]
    assert data["missing"] == []
    (reworded,) = data["reworded"]
    assert (reworded["kind"], reworded["pass"], reworded["turn"]) == ("root", 1, 2)
    assert (
        "1 request to the model now in other words" in loop_runner("replay", "scripted", cwd=tmp_path).stdout
    )


def test_a_difference_that_the_model_was_not_told_is_listed_path_by_path(tmp_path):
    make(tmp_path, [cell("import os\nopen('n.txt', 'wb').write(os.urandom(8))"), ready("42")])
    data = replayed(tmp_path, code=3)
    assert (data["status"], data["turns"]) == ("differs", 2)
    assert [item["path"] for item in data["differences"]] == ["workspace/n.txt"]
    assert "  differs  workspace/n.txt" in loop_runner("replay", "scripted", cwd=tmp_path).stdout


@pytest.mark.parametrize("kind", ["root", "sub"])
def test_a_reply_that_is_not_in_the_record_is_named_and_nobody_is_asked(tmp_path, kind):
    run = make(tmp_path, [cell("print(llm_query('how many?'))"), ready("42")], sub=[{"reply": "40"}])
    path = run / "passes/0001/turns/0001/calls.jsonl"
    kept = [line for line in path.read_text().splitlines(keepends=True) if json.loads(line)["kind"] != kind]
    path.write_text("".join(kept))
    git(run, "-c", "user.name=x", "-c", "user.email=x@y", "commit", "-qam", "a reply is lost")
    data = replayed(tmp_path, code=3)
    assert data["status"] == ("stopped" if kind == "root" else "differs")
    assert (data["missing"][0]["kind"], data["missing"][0]["turn"]) == (kind, 1)
    output = loop_runner("replay", "scripted", cwd=tmp_path).stdout
    assert f"no reply is recorded: pass 1 turn 1, {kind} request" in output


def test_a_replay_writes_over_nothing(place):
    (place / "there").mkdir()
    (place / "there/mine.txt").write_text("mine")
    result = loop_runner("replay", "scripted", "--to", "there", cwd=place)
    assert result.returncode == 2
    assert "is not empty" in result.stderr
    assert [path.name for path in (place / "there").iterdir()] == ["mine.txt"]
