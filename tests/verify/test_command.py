"""The program decides by its exit code; one that does not work is a broken gate, never a wrong answer."""

import hashlib
import json
import stat
import sys
import textwrap
import time
from pathlib import Path

import pytest

from loop_runner.records import Accepted, Broken, Inputs, InputText, Rejected
from loop_runner.verify import Submission
from tests.support.gates import built


@pytest.fixture
def task_dir(tmp_path):
    folder = tmp_path / "task"
    folder.mkdir()
    return folder


@pytest.fixture
def checkout(tmp_path):
    folder = tmp_path / "checkout"
    (folder / "workspace" / "notes").mkdir(parents=True)
    (folder / "answer.md").write_text("42 is it")
    (folder / "answer.json").write_text("{}")
    (folder / "workspace" / "notes" / "a.md").write_text("note")
    (folder / "workspace" / "link").symlink_to("/etc/hostname")
    for path in [folder, *folder.rglob("*")]:
        if not path.is_symlink():
            path.chmod(path.stat().st_mode & ~0o222)
    yield folder
    for path in [folder, *folder.rglob("*")]:
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o755)


@pytest.fixture
def verdict(task_dir, checkout, tmp_path):
    def run(spec, answer="42 is it"):
        (verifier,) = built([{"command": spec}], task_dir)
        text = InputText("a.txt", tmp_path / "a.txt", 3, "abc")
        return verifier.verify(Submission(answer, checkout, Inputs((text,))))

    return run


def python(code):
    return [sys.executable, "-c", textwrap.dedent(code)]


def test_exit_code_0_accepts_and_keeps_the_output(verdict):
    assert verdict(python("print('fine')")) == Accepted("fine")


@pytest.mark.parametrize("code", [1, 2, 125])
def test_other_exit_codes_reject_with_the_output_as_evidence(verdict, code):
    output = verdict(python(f"import sys; print('expected 42, got 41'); sys.exit({code})"))
    assert isinstance(output, Rejected)
    assert output.reason.endswith(f"ended with exit code {code}")
    assert output.evidence == "expected 42, got 41"


def test_standard_error_is_evidence_too(verdict):
    assert "AssertionError: no" in verdict(python("assert False, 'no'")).evidence


def test_long_output_keeps_its_head_and_its_tail(verdict):
    output = verdict(python("print('first'); print('x' * 1_000_000); print('last'); raise SystemExit(1)"))
    assert output.evidence.startswith("first")
    assert output.evidence.endswith("last")
    assert len(output.evidence) < 10_000


@pytest.mark.parametrize("code", [126, 127, 128, 255])
def test_exit_codes_that_mean_it_did_not_run_are_broken(verdict, code):
    assert isinstance(verdict(python(f"raise SystemExit({code})")), Broken)


def test_a_missing_program_is_broken(verdict):
    output = verdict(["no-such-program-anywhere"])
    assert isinstance(output, Broken)
    assert "no-such-program-anywhere could not be started" in output.reason


def test_a_program_that_is_not_executable_is_broken(verdict, task_dir):
    (task_dir / "check.sh").write_text("#!/bin/sh\nexit 0\n")
    assert isinstance(verdict(["check.sh"]), Broken)


def test_a_missing_script_is_broken_although_its_interpreter_would_say_2(verdict):
    output = verdict(["python3", "check.py"])
    assert isinstance(output, Broken)
    assert "check.py is neither in the task's folder" in output.reason


def test_a_killed_program_is_broken(verdict):
    output = verdict(python("import os; print('so far', flush=True); os.kill(os.getpid(), 9)"))
    assert isinstance(output, Broken)
    assert "SIGKILL; its last line: so far" in output.reason


def test_a_program_that_takes_too_long_is_broken_and_ended(verdict):
    started = time.monotonic()
    output = verdict({"run": python("import time; time.sleep(60)"), "timeout_s": 0.3})
    assert isinstance(output, Broken)
    assert "did not end in 0.3 s" in output.reason
    assert time.monotonic() - started < 20


def test_what_a_program_leaves_running_in_another_session_does_not_hold_up_the_verdict(verdict):
    started = time.monotonic()
    output = verdict(["sh", "-c", "setsid sleep 30 & sleep 0.3; echo done"])
    assert output == Accepted("done")
    assert time.monotonic() - started < 20


def test_programs_and_scripts_are_found_in_the_tasks_folder(verdict, task_dir):
    (task_dir / "check.py").write_text("import helper; helper.check()")
    (task_dir / "helper.py").write_text("def check(): print('helped')")
    assert verdict(["python3", "check.py"]) == Accepted("helped")
    (task_dir / "tool").write_text("#!/bin/sh\necho ran $1\n")
    (task_dir / "tool").chmod(0o755)
    assert verdict("tool 'a b'") == Accepted("ran a b")
    assert verdict("./tool x") == Accepted("ran x")


def test_a_file_of_the_model_never_stands_in_for_one_of_the_task(verdict, task_dir):
    (task_dir / "answer.md").write_text("not the answer")
    assert verdict(["cat", "answer.md"]) == Accepted("42 is it")


def test_there_is_no_shell(verdict):
    assert verdict(["echo", "a;b", "$HOME", "`x`", ">", "y"]) == Accepted("a;b $HOME `x` > y")


def test_it_gets_the_answer_the_workspace_and_the_inputs_and_nothing_of_our_environment(
    verdict, task_dir, monkeypatch
):
    monkeypatch.setenv("SECRET_TOKEN", "hidden")
    output = verdict(
        python(
            """
            import json, os, pathlib, sys
            env = dict(os.environ)
            print(json.dumps({
                "names": sorted(env),
                "answer": pathlib.Path(env["LOOP_ANSWER"]).read_text(),
                "stdin": sys.stdin.read(),
                "note": pathlib.Path(env["LOOP_WORKSPACE"], "notes/a.md").read_text(),
                "inputs": json.load(open(env["LOOP_INPUTS"])),
                "task": env["LOOP_TASK_DIR"],
                "here": sorted(os.listdir()),
                "home": os.listdir(env["HOME"]),
            }))
            """
        )
    )
    seen = json.loads(output.evidence)
    wanted = {
        "PATH",
        "HOME",
        "TMPDIR",
        "LANG",
        "LOOP_ANSWER",
        "LOOP_WORKSPACE",
        "LOOP_INPUTS",
        "LOOP_TASK_DIR",
        *("PYTHONDONTWRITEBYTECODE", "PYTHONNOUSERSITE", "PYTHONHASHSEED"),
        *("GIT_CONFIG_NOSYSTEM", "GIT_ATTR_NOSYSTEM", "PIP_CONFIG_FILE", "NPM_CONFIG_GLOBALCONFIG"),
        "XDG_CONFIG_DIRS",
    }
    assert set(seen["names"]) - {"LC_CTYPE"} == wanted
    assert seen["answer"] == seen["stdin"] == "42 is it"
    assert seen["note"] == "note"
    assert [(item["name"], item["sha256"]) for item in seen["inputs"]] == [("a.txt", "abc")]
    assert seen["task"] == "task"  # as the output shows it
    assert seen["here"] == ["answer.json", "answer.md", "workspace"]
    assert seen["home"] == []


def test_with_writable_it_may_write_and_nothing_of_it_reaches_the_checkout(verdict, checkout):
    before = sorted(str(path) for path in checkout.rglob("*"))
    code = """
        import os
        open("new", "w").close()
        open("answer.md", "w").write("forged")
        open("workspace/notes/a.md", "w").write("forged")
        os.mkdir("workspace/deep"); os.chmod("workspace/deep", 0)
        open(os.environ["TMPDIR"] + "/here", "w").write(os.getcwd())
        """
    output = verdict({"run": python(code), "writable": True})
    assert isinstance(output, Accepted)
    assert sorted(str(path) for path in checkout.rglob("*")) == before
    assert (checkout / "answer.md").read_text() == "42 is it"


def test_paths_of_this_run_are_taken_out_of_the_output(verdict, task_dir):
    (task_dir / "check.py").write_text(
        "import os, sys\nprint(os.getcwd(), __file__, os.environ['LOOP_ANSWER'], os.environ['TMPDIR'])\n"
    )
    assert verdict(["python3", "check.py"]).evidence == ". check.py answer.md /gate/scratch/tmp"


def test_the_record_names_the_exit_code_the_output_and_the_programs(verdict, task_dir):
    (task_dir / "check.py").write_text("import helper\n")
    (task_dir / "helper.py").write_text("print('fine')\n")
    record = verdict(["python3", "check.py"]).record
    assert record["exit_code"] == 0
    assert record["output_sha256"] == hashlib.sha256(b"fine\n").hexdigest()
    assert record["programs"] == {
        name: hashlib.sha256((task_dir / name).read_bytes()).hexdigest() for name in ("check.py", "helper.py")
    }
    assert Path(record["interpreter"]["path"]).name == "python3"


def test_links_of_the_model_are_copied_as_links(verdict, checkout):
    output = verdict(python("import os; print(os.readlink('workspace/link'))"))
    assert output.evidence == "/etc/hostname"
    assert stat.S_ISLNK((checkout / "workspace" / "link").lstat().st_mode)


def test_a_checkout_that_is_gone_is_broken(task_dir, tmp_path):
    (verifier,) = built([{"command": "true"}], task_dir)
    assert isinstance(verifier.verify(Submission("x", tmp_path / "gone", Inputs(()))), Broken)


# ── the report on the last line ─────────────────────────────────────────────────────────────────────


def test_a_last_line_of_json_gives_score_and_reason(verdict):
    output = verdict(
        python("""print('3 of 4'); print('{"score": 0.75, "reason": "row 4 is missing"}'); exit(1)""")
    )
    assert output == Rejected("row 4 is missing", "3 of 4", 0.75)
    assert verdict(python("""print('{"score": 0.5}')""")) == Accepted("", 0.5)


@pytest.mark.parametrize(
    "line", ['{"score": "high"}', '{"score": NaN}', '{"score": true}', '{"score": Infinity}', '{"reason": 5}']
)
def test_a_report_that_makes_no_sense_is_passed_over(verdict, line):
    output = verdict(python(f"print({line!r}); exit(1)"))
    assert (output.score, output.reason.endswith("ended with exit code 1")) == (0.0, True)


@pytest.mark.parametrize("line", ["{", '{"other": 1}', "[1]", "{" * 5000])
def test_other_last_lines_are_plain_output(verdict, line):
    assert verdict(python(f"print({line!r}); exit(1)")).evidence == line


def test_a_score_is_kept_between_0_and_1(verdict):
    assert verdict(python("""print('{"score": 7}'); exit(1)""")).score == 1.0
    assert verdict(python("""print('{"score": -7}'); exit(1)""")).score == 0.0


@pytest.mark.parametrize(
    "code",
    [
        "open('data.json')",
        "import os; open(os.environ['LOOP_TASK_DIR'] + '/data.json')",
        "import lib_of_mine",
        "raise SystemExit('cat: data.json: No such file or directory')",
    ],
)
def test_a_program_that_misses_a_file_which_is_not_pinned_is_broken_not_a_rejection(verdict, task_dir, code):
    (task_dir / "data.json").write_text("{}")
    (task_dir / "lib_of_mine").mkdir()
    (task_dir / "lib_of_mine/a.txt").write_text("")
    output = verdict(python(code))
    assert isinstance(output, Broken)
    assert "is in the task's folder and is not pinned" in output.reason


def test_a_missing_file_of_the_models_is_a_rejection(verdict, task_dir):
    (task_dir / "report.md").write_text("mine")
    assert isinstance(verdict(python("open('workspace/report.md')")), Rejected)
    assert isinstance(verdict(python("open('other.json')")), Rejected)
    assert isinstance(verdict(python("raise SystemExit('Neptune was not found in report.md')")), Rejected)


def test_a_missing_test_runner_and_tests_that_are_not_there_are_broken(verdict):
    assert isinstance(verdict([sys.executable, "-m", "no_such_runner"]), Broken)
    assert isinstance(verdict([sys.executable, "-m", "pytest", "no-such-tests"]), Broken)


# ── an agent that may write into the task's folder ──────────────────────────────────────────────────


def agents_verdict(task_dir, checkout, spec, during):
    """The verdict on an agent's work; ``during`` is what the agent does to the task's folder."""
    (verifier,) = built([spec], task_dir, is_agent=True)
    during()
    return verifier.verify(Submission("41", checkout, Inputs(())))


@pytest.mark.parametrize("name", ["workspace/out.txt", "out.txt", "data.json", "deep/er/out.txt"])
@pytest.mark.parametrize("ending", ["", "; exit 1"])
def test_a_file_that_an_agent_creates_does_not_break_the_gate(task_dir, checkout, name, ending):
    def create():
        (task_dir / name).parent.mkdir(parents=True, exist_ok=True)
        (task_dir / name).write_text("")

    spec = {"command": ["sh", "-c", f"cat {name} {ending}"]}
    outcome = agents_verdict(task_dir, checkout, spec, create)
    assert isinstance(outcome, Rejected)
    assert "workspace/" not in outcome.evidence
    assert Path(name).name in outcome.evidence


@pytest.mark.parametrize("kind", ["command", "python"])
@pytest.mark.parametrize("change", ["rewrite", "delete", "folder"])
def test_an_agent_that_changes_its_check_is_judged_by_the_pinned_one(task_dir, checkout, kind, change):
    check = task_dir / "check.py"
    check.write_text("def check(s):\n    return False\nif __name__ == '__main__':\n    raise SystemExit(1)\n")

    def tamper():
        check.unlink()
        if change == "rewrite":
            check.write_text("def check(s):\n    return True\n")
        elif change == "folder":
            check.mkdir()

    spec = {"command": [sys.executable, "check.py"]} if kind == "command" else {"python": "check.py"}
    assert isinstance(agents_verdict(task_dir, checkout, spec, tamper), Rejected)
