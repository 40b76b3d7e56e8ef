"""A verifier that an installed package adds is treated as a built-in one: pinned, confined, given models.

The package is ``tests/data/plugin``, installed by pip into a folder that the runs are given.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.support.commands import loop_runner
from tests.support.tasks import ready, write_task

SOURCE = Path(__file__).parents[1] / "data" / "plugin"
SECRET = "a-token-that-no-verifier-may-see"


@pytest.fixture(scope="session")
def wheelhouse(tmp_path_factory):
    """The package as pip installs it, without network."""
    folder = tmp_path_factory.mktemp("package")
    shutil.copytree(SOURCE, folder / "source")
    target = folder / "site"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-build-isolation", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--no-compile", "--target", target, folder / "source"], check=True, timeout=100)
    return target


@pytest.fixture
def site(wheelhouse, tmp_path):
    return Path(shutil.copytree(wheelhouse, tmp_path / "site"))


@pytest.fixture
def call(site, tmp_path):
    """Runs a command in the folder of the test, with the package installed."""

    def run(*args, installed=True):
        path = [str(site)] if installed else []
        path += filter(None, [os.environ.get("PYTHONPATH")])
        env = {"PYTHONPATH": os.pathsep.join(path), "MY_SECRET_TOKEN": SECRET}
        return loop_runner(*map(str, args), cwd=tmp_path, env=env)

    return run


@pytest.fixture
def start(call, tmp_path):
    """Runs a task with one verifier to its end in ``run``."""

    def run(verifier, answer="HELLO", *, passes=1, judge=(), **keys):
        task = write_task(
            tmp_path / "task",
            root=[ready(answer)] * passes,
            verifiers=[verifier],
            budget={"passes": passes, **keys.pop("budget", {})},
            **keys,
        )
        with (task.parent / "script.yaml").open("a") as script:
            script.write(yaml.safe_dump({"judge": [{"reply": reply} for reply in judge]}) if judge else "")
        return call("run", task, "--run-dir", "run")

    return run


def report(folder, number=1):
    verdict = json.loads((folder / f"run/passes/{number:04}/verdict.json").read_text())
    (result,) = verdict["reports"]
    return result


# ── it judges ───────────────────────────────────────────────────────────────────────────────────────


def test_it_accepts_with_its_evidence_and_in_a_process_of_its_own(start, tmp_path):
    ended = start("shout")
    assert ended.returncode == 0, ended.stderr
    result = report(tmp_path)
    assert result["verdict"] == "accepted"
    assert result["score"] == 0.9
    assert json.loads(result["evidence"])["parent"] != os.getpid()
    assert "the answer must be shouted" in (tmp_path / "run/system.md").read_text()


def test_it_rejects_with_its_reason_evidence_and_score(start, tmp_path):
    ended = start("shout", "hello")
    assert ended.returncode == 3, ended.stderr
    result = report(tmp_path)
    assert (result["verdict"], result["reason"], result["evidence"], result["score"]) == (
        "rejected",
        "it is not shouted",
        "only capitals, please",
        0.25,
    )


def test_one_that_was_written_for_the_submission_alone_still_works(start, tmp_path):
    assert start({"earlier": "HELLO"}).returncode == 0
    (tmp_path / "run").rename(tmp_path / "first")
    ended = start({"earlier": "BYE"})
    assert "earlier BYE" in ended.stderr


def test_two_of_a_kind_have_two_names_and_a_group_may_hold_it(start, tmp_path):
    ended = start({"any": [{"earlier": "BYE"}, {"earlier": "BYE"}, {"earlier": "HELLO"}]})
    assert ended.returncode == 0, ended.stderr
    (group,) = json.loads((tmp_path / "run/proof.json").read_text())["gates"]
    assert [member["verifier"] for member in group["members"]] == [
        "earlier BYE",
        "earlier BYE (2)",
        "earlier HELLO",
    ]


# ── pinned ──────────────────────────────────────────────────────────────────────────────────────────


def test_the_proof_names_the_files_of_the_package_with_their_hashes(start, site, tmp_path):
    assert start("shout").returncode == 0
    (gate,) = json.loads((tmp_path / "run/proof.json").read_text())["gates"]
    names = {name.split("/", 2)[2] for name in gate["record"]["programs"]}
    assert {"lr_checks/kinds.py", "lr_checks/helper.py", "lr_checks/words.txt"} <= names
    assert "lr_checks-1.0.dist-info/entry_points.txt" in names
    assert len(gate["record"]["programs"]) == len(list((tmp_path / "run/gates/files").rglob("*.*"))) - 1
    assert gate["record"]["interpreter"]["path"].endswith("python")


@pytest.mark.parametrize("name", ["kinds.py", "helper.py", "words.txt", "__init__.py"])
def test_a_file_of_the_package_that_changes_stops_the_run_when_it_is_resumed(
    start, call, site, tmp_path, name
):
    assert start("shout", "hello").returncode == 3
    with (site / "lr_checks" / name).open("a") as file:
        file.write("\n# changed\n")
    ended = call("resume", "run", "--passes", "2")
    assert ended.returncode == 2, ended.stderr
    assert f"lr_checks/{name} has changed since the run began" in ended.stderr
    assert "--repin" in ended.stderr
    assert not (tmp_path / "run/passes/0002").exists()


def test_repin_takes_the_package_as_it_is_now(start, call, site):
    assert start("shout", "hello", passes=2).returncode == 3
    (site / "lr_checks/helper.py").write_text("def is_shouted(text):\n    return True\n")
    task = call("resume", "run", "--passes", "3", "--repin")
    assert "has changed" not in task.stderr


def test_a_rerun_uses_the_pinned_files_and_reports_what_has_changed(start, call, site):
    assert start("shout").returncode == 0
    (site / "lr_checks/helper.py").write_text("def is_shouted(text):\n    return False\n")
    ended = call("verify", "run", "--allow", "plugin=shout")
    assert ended.returncode == 0, ended.stderr
    assert "same       shout: accepted" in ended.stdout
    assert "changed in the package that is installed here: lr_checks/helper.py" in ended.stdout


def test_a_rerun_of_an_unchanged_package_reports_no_change(start, call):
    assert start("shout").returncode == 0
    ended = call("verify", "run", "--allow", "plugin=shout")
    assert ended.returncode == 0, ended.stderr
    assert "changed" not in ended.stdout


def test_a_rerun_needs_a_grant_and_no_installed_package(start, call):
    assert start("shout").returncode == 0
    refused = call("verify", "run", installed=False)
    assert refused.returncode == 4
    assert "--allow plugin=shout" in refused.stderr
    ended = call("verify", "run", "--allow", "plugin=shout", installed=False)
    assert ended.returncode == 0, ended.stderr
    assert "lr_checks 1.0 is not installed here; its pinned files were run" in ended.stdout


def test_forged_pins_are_refused(start, call, tmp_path):
    assert start("shout").returncode == 0
    (helper,) = (tmp_path / "run/gates/files").rglob("helper.py")
    helper.write_text("def is_shouted(text):\n    return True\n")
    ended = call("verify", "run", "--allow", "plugin=shout")
    assert ended.returncode == 3
    assert "helper.py" in ended.stdout


def test_a_package_that_is_missing_when_the_run_is_resumed_is_named(start, call, tmp_path):
    assert start("shout", "hello").returncode == 3
    ended = call("resume", "run", "--passes", "2", installed=False)
    assert ended.returncode == 2
    assert (
        "the verifier `shout` comes from the package lr_checks 1.0, which is not installed here"
        in ended.stderr
    )
    assert "pip install lr_checks==1.0" in ended.stderr
    assert not (tmp_path / "run/passes/0002").exists()


def test_files_of_the_task_that_it_names_are_pinned_and_shown_in_the_prompt(start, call, tmp_path):
    (tmp_path / "task").mkdir()
    (tmp_path / "task/words.md").write_text("HELLO\n")
    ended = start({"rubric": "words.md"})
    assert ended.returncode == 0, ended.stderr
    assert "the answer must be HELLO" in (tmp_path / "run/system.md").read_text()
    assert "words.md" in report(tmp_path)["record"]["programs"]
    (tmp_path / "task/words.md").write_text("BYE\n")
    assert call("verify", "run", "--allow", "plugin=rubric").returncode == 0


# ── in the sandbox ──────────────────────────────────────────────────────────────────────────────────


def probed(start, tmp_path, **settings):
    (tmp_path / "task").mkdir(exist_ok=True)
    (tmp_path / "task/.env").write_text(f"TOKEN={SECRET}")
    (tmp_path / "elsewhere.txt").write_text("private")
    write = ["run/task.yaml", "run/gates/pins.json", "task/owned", "elsewhere.txt", "site/lr_checks/kinds.py"]
    read = ["run/task.yaml", "run/.git/config", "task/.env", "elsewhere.txt"]
    paths = {
        "write": [str(tmp_path / path) for path in write],
        "read": [str(tmp_path / path) for path in read],
    }
    ended = start({"prober": {**paths, **settings}}, "anything")
    assert ended.returncode == 0, ended.stderr
    assert not [path for path in paths["write"] if _text(path) == "changed by a verifier"]
    return json.loads(report(tmp_path)["evidence"])


def _text(path):
    return Path(path).read_text() if os.path.exists(path) else ""


def test_it_reaches_neither_the_run_folder_nor_the_users_files_nor_the_environment(start, tmp_path):
    worked = probed(start, tmp_path)
    del worked["wrote"]
    assert worked == {
        "env": [],
        "argv": [],
        "read": [],
        "checkout": False,
        "network": False,
        "model": False,
    }


@pytest.fixture
def port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize("is_declared", [True, False])
def test_it_has_the_network_only_if_it_declares_it(start, tmp_path, port, is_declared):
    assert probed(start, tmp_path, port=port, network=is_declared)["network"] is is_declared
    assert json.loads((tmp_path / "run/proof.json").read_text())["sandbox"]["network"] is is_declared


def test_a_rerun_gives_it_the_network_only_word_by_word(start, call, tmp_path, port):
    probed(start, tmp_path, port=port, network=True)
    refused = call("verify", "run", "--allow", "plugin=prober")
    assert refused.returncode == 4
    assert "--allow network" in refused.stderr
    assert call("verify", "run", "--allow", "plugin=prober", "--allow", "network").returncode == 0


def test_its_code_is_never_imported_by_the_runner(start, site, tmp_path):
    marker = tmp_path / "imported"
    with (site / "lr_checks/__init__.py").open("a") as file:
        file.write(f"\ntry:\n    open({str(marker)!r}, 'w').close()\nexcept OSError:\n    pass\n")
    assert start("shout").returncode == 0
    assert not marker.exists()


# ── models ──────────────────────────────────────────────────────────────────────────────────────────


def judged(start, settings, *, reply="yes", **keys):
    return start({"polite": settings}, judge=[reply], **keys)


def calls(folder):
    lines = (folder / "run/passes/0001/calls.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize(("reply", "code"), [("yes", 0), ("never", 3)])
def test_it_asks_the_root_model_and_the_request_is_kept_and_charged(start, tmp_path, reply, code):
    ended = judged(start, {}, reply=reply)
    assert ended.returncode == code, ended.stderr
    (requests,) = calls(tmp_path)
    assert requests["kind"] == "judge"
    assert "Polite? HELLO" in json.dumps(requests)
    (request,) = report(tmp_path)["record"]["requests"]
    assert request["fingerprint"] == requests["fingerprint"]
    spent = json.loads((tmp_path / "run/passes/0001/pass.json").read_text())
    tokens = [-(-len(text) // 4) for text in (ready("HELLO"), reply)]  # as a script model counts
    assert spent["usage_so_far"]["output_tokens"] == sum(tokens)


def test_a_spent_budget_ends_the_run_unverified_and_names_the_limit(start, tmp_path):
    ended = judged(start, {}, budget={"tokens": 500})
    assert ended.returncode == 3, ended.stderr
    assert "500 tokens" in ended.stdout + ended.stderr
    assert not (tmp_path / "run/passes/0001/calls.jsonl").exists(), "no request was sent"


def test_further_numbers_are_further_replies(start, tmp_path):
    ended = judged(start, {"how": "panel"})
    assert ended.returncode == 0, ended.stderr
    assert [request["number"] for request in report(tmp_path)["record"]["requests"]] == [0, 1]
    assert len(calls(tmp_path)) == 2


def test_a_rerun_takes_the_recorded_replies(start, call):
    assert judged(start, {}).returncode == 0
    ended = call("verify", "run", "--allow", "plugin=polite")
    assert ended.returncode == 0, ended.stderr
    assert "same       polite: accepted" in ended.stdout


def test_a_model_that_it_does_not_declare_is_not_asked(start, tmp_path):
    ended = judged(start, {"models": [""], "asks": "script:other.yaml"})
    assert ended.returncode == 4, ended.stderr
    assert "script:other.yaml, which `models()` does not name" in ended.stdout + ended.stderr


def test_one_that_declares_no_model_cannot_ask_one(start):
    ended = judged(start, {"models": []})
    assert ended.returncode == 4, ended.stderr
    assert "no model can be asked here" in ended.stdout + ended.stderr


def test_a_declared_model_is_checked_before_the_run_begins(start, tmp_path):
    ended = judged(start, {"models": ["nobody:x"]})
    assert ended.returncode == 2
    assert "there is no provider 'nobody'" in ended.stderr
    assert not (tmp_path / "run").exists()


# ── broken and refused ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("raises", "it failed with RuntimeError: boom, at kinds.py:"),
        ("exits", "it failed with SystemExit: 0"),
        ("dies", "SIGKILL"),
        ("hangs", "did not end in 4 s"),
        ("odd verdict", "`verify` returned 'fine'; it must be Accepted, Rejected or Broken"),
    ],
)
@pytest.mark.timeout(240)
def test_one_that_crashes_is_broken(start, how, reason):
    ended = start({"faulty": how})
    assert ended.returncode == 4, ended.stderr
    assert reason in ended.stdout + ended.stderr


def test_an_answer_that_crashes_it_is_rejected(start):
    ended = start({"faulty": "this answer"}, "not a number")
    assert ended.returncode == 3, ended.stderr
    assert "could not finish its work because of this answer" in ended.stderr


def test_a_child_of_its_process_cannot_give_the_verdict(start):
    ended = start({"faulty": "forks"})
    assert ended.returncode == 3, ended.stderr
    assert "from the parent" in ended.stderr


@pytest.mark.parametrize(
    ("verifier", "message"),
    [
        ({"faulty": "constructor"}, "it does not take these settings: ValueError: what is constructor?"),
        ({"odd": {"requirement": ""}}, "its `requirement` is ''; it must be a text"),
        ({"odd": {"requirement": 5}}, "its `requirement` is 5; it must be a text"),
        ({"odd": {"requirement": None}}, "its `requirement` is None; it must be a text"),
        ({"odd": {"name": "two\nlines"}}, "its `name` is"),
        ({"odd": {"models": "gpt"}}, "its `models()` is 'gpt'; it must be a list of texts"),
        ({"odd": {"models": [1]}}, "its `models()` is [1]; it must be a list of texts"),
        ({"odd": {"timeout_s": -1}}, "its `timeout_s` is -1; it must be a number of seconds"),
        ({"odd": {"sources": ["../secret"]}}, "which is not in the task's folder"),
        ({"odd": {"sources": ["/etc/passwd"]}}, "which is not in the task's folder"),
        ({"rubric": "missing.md"}, "FileNotFoundError"),
        ({"shuot": 1}, "did you mean 'shout'?"),
    ],
)
def test_what_cannot_work_is_refused_before_the_run_begins(start, tmp_path, verifier, message):
    ended = start(verifier)
    assert ended.returncode == 2, ended.stderr
    assert message in ended.stderr
    assert not (tmp_path / "run").exists()


def test_inputs_that_it_refuses_are_refused_before_the_run_begins(start, tmp_path):
    (tmp_path / "task").mkdir()
    (tmp_path / "task/small.txt").write_text("small")
    (tmp_path / "task/large.txt").write_text("far too large")
    ended = start("sized", inputs=["large.txt"])
    assert ended.returncode == 2, ended.stderr
    assert "13 bytes are too many" in ended.stderr
    ended = start("sized", inputs=["small.txt"])
    assert ended.returncode == 0, ended.stderr
    assert report(tmp_path)["evidence"] == "['small.txt']"


def test_a_package_that_does_not_import_is_named_before_the_run_begins(start, site, tmp_path):
    (site / "lr_checks/helper.py").write_text("import no_such_module\n")
    ended = start("shout")
    assert ended.returncode == 2, ended.stderr
    assert (
        "verifier `shout`: its code (lr_checks.kinds:Shout) cannot be loaded: ModuleNotFoundError"
        in ended.stderr
    )
    assert not (tmp_path / "run").exists()


def test_fork_starts_nothing_of_a_package(start, call, site, tmp_path):
    assert start("shout", "hello").returncode == 3
    shutil.rmtree(site / "lr_checks")
    ended = call("fork", "run", "copy", "--set", "budget.passes=3")
    assert ended.returncode == 0, ended.stderr


def test_the_verifier_that_the_docs_show_works(start, site):
    text = (Path(__file__).parents[2] / "docs/verifiers.md").read_text()
    code = text.partition("```python3\n")[2].partition("```")[0]
    (site / "lr_checks/kinds.py").write_text(code)
    assert start({"polite": {}}, judge=["Yes, it is."]).returncode == 0
