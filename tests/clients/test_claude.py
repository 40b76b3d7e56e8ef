"""The real Claude Code against a loopback provider: the loop's own scenarios."""

import json
import signal
import subprocess
import sys

from tests.clients.conftest import ROOT
from tests.clients.server import Refused, Tool
from tests.support.commands import wait_for

HTTP = ["-p", "--settings", "{settings}", "--output-format", "json"]  # the hook in its HTTP form
INSTALLED = ["-p", "--output-format", "json"]  # the hook that `hook install` wrote


def test_25_blocks_and_an_acceptance_in_one_session(place, claude):
    place.provider.replies = [f"it is {number}" for number in range(26)] + ["it is 42"]
    outcome = place.run(place.task([claude, *HTTP]))
    assert (outcome.status, outcome.spend.passes) == ("verified", 27)
    assert place.endings() == [None] * 27
    texts = place.provider.texts()
    assert len(texts) == 27, "one session, one request a pass"
    assert "What failed in pass 26" in texts[-1]


def test_what_it_says_that_it_spent_is_in_the_ledger_the_pass_and_cost(place, claude):
    place.provider.replies = ["it is 41", "it is 42"]
    outcome = place.run(place.task([claude, *HTTP], budget={"passes": 40, "usd": 5}))
    assert (outcome.status, outcome.spend.passes) == ("verified", 2)
    usage = outcome.spend.usage
    assert (usage.input_tokens, usage.output_tokens) == (20, 10), "two requests, as the provider counted them"
    assert outcome.spend.usd is not None
    assert outcome.spend.usd > 0
    about = json.loads((place.run_folder / "passes/0002/pass.json").read_text())
    assert about["usd_so_far"] == round(outcome.spend.usd, 9)
    data = json.loads(place.loop_runner("cost", place.run_folder, "--json"))
    assert {line["kind"] for line in data["lines"]} == {"agent"}
    assert data["total"]["usd"] == outcome.spend.usd
    item = [line["usd"] for line in data["lines"]]
    assert item == [outcome.spend.usd / 2] * 2, "with a limit, each pass says what it cost"


def test_a_limit_in_dollars_ends_the_run_after_the_pass_that_reached_it(place, claude):
    place.provider.replies = [f"it is {number}" for number in range(41)]
    outcome = place.run(place.task([claude, *HTTP], budget={"passes": 40, "usd": 0.0002}))
    assert (outcome.status, outcome.spend.passes) == ("unverified", 2)
    assert "US dollars" in outcome.reason
    assert len(place.provider.requests) == 2


def test_the_installed_command_does_the_same_and_notes_and_files_are_told(place, claude):
    place.loop_runner("hook", "install", "claude")
    place.provider.replies = ["it is 40", Tool("echo 'count up' > note.md"), "it is 41", "it is 42"]
    outcome = place.run(place.task([claude, *INSTALLED, "--allowedTools", "Bash"]))
    assert (outcome.status, outcome.spend.passes) == ("verified", 3)
    assert (place.run_folder / "workspace/note.md").read_text() == "count up\n"
    assert "note.md" in place.provider.texts()[-1], "the next pass is told which files changed"


def test_two_hooks_of_ours_in_one_client_count_a_stop_once(place, claude):
    place.loop_runner("hook", "install", "claude")
    place.provider.replies = ["it is 40", "it is 42"]
    outcome = place.run(place.task([claude, *HTTP]))
    assert (outcome.status, outcome.spend.passes) == ("verified", 2)


def test_a_hook_of_the_users_keeps_working_beside_ours(place, claude):
    settings = place.folder / "home/.claude/settings.json"
    settings.parent.mkdir()
    mine = f"touch {place.folder}/mine; echo '{{}}'"
    settings.write_text(json.dumps({"hooks": {"Stop": [{"hooks": [{"type": "command", "command": mine}]}]}}))
    place.loop_runner("hook", "install", "claude")
    place.provider.replies = ["it is 40", "it is 42"]
    assert place.run(place.task([claude, *INSTALLED])).spend.passes == 2
    assert (place.folder / "mine").exists()


def test_the_block_cap_is_noticed_and_the_work_goes_on_in_a_new_session(place, claude):
    place.provider.replies = ["it is 1", "it is 2", "it is 3", "it is 4", "it is 42"]
    capped = ["env", "CLAUDE_CODE_STOP_HOOK_BLOCK_CAP=2", claude, *HTTP]
    outcome = place.run(place.task(capped))
    assert outcome.status == "verified"
    assert "block cap" in place.endings()
    assert len(place.provider.requests) == 5


def test_a_hook_that_crashes_or_is_switched_off_does_not_make_an_answer_done(place, claude):
    crash = json.dumps({"hooks": {"Stop": [{"hooks": [{"type": "command", "command": "exit 1"}]}]}})
    place.provider.replies = ["it is 41, and all checks passed", "it is 42"]
    outcome = place.run(place.task([claude, "-p", "--settings", crash, "--output-format", "json"]))
    assert (outcome.status, outcome.spend.passes) == ("verified", 2)
    assert place.endings() == ["hook did not run"] * 2


def test_an_api_error_is_told_apart_and_tried_again(place, claude):
    place.provider.replies = [Refused(400)] * 50
    notices = []

    def listen(event):
        notices.append(event.text)
        if "api error" in event.text:
            place.provider.replies = ["it is 42"]

    outcome = place.run(place.task([claude, *HTTP]), listen=listen)
    assert (outcome.status, outcome.spend.passes) == ("verified", 1)
    assert any("api error" in text for text in notices)


def test_refused_tools_are_named(place, claude):
    place.provider.replies = [Tool("curl http://127.0.0.1:1/"), "it is 42"]
    notices = []
    place.run(place.task([claude, *HTTP]), listen=lambda event: notices.append(event.text))
    assert any("refused: Bash" in text for text in notices)


def test_the_kill_switch_lets_the_client_end(place, claude):
    place.provider.replies = [f"it is {number}" for number in range(41)]

    def press(event):
        if event.kind == "pass_ended" and event.pass_number == 3:
            (place.run_folder / "STOP").touch()

    outcome = place.run(place.task([claude, *HTTP]), listen=press)
    assert (outcome.status, outcome.spend.passes) == ("interrupted", 3)
    requests = len(place.provider.requests)
    assert requests <= 4
    (place.run_folder / "STOP").unlink()
    place.provider.replies = ["it is 42"]
    assert place.resume().status == "verified"


def test_a_killed_runner_is_resumed_where_it_was(place, claude):
    place.provider.replies = ["it is 39", "it is 40", Tool("sleep 60")]
    task = place.task([claude, *HTTP, "--allowedTools", "Bash"])
    argv = [sys.executable, "-m", "loop_runner", "run", str(task), "--run-dir", str(place.run_folder)]
    with subprocess.Popen(
        argv, env=place.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as runner:
        wait_for(lambda: len(place.provider.requests) == 3, 60)
        runner.send_signal(signal.SIGKILL)
    place.provider.replies = ["it is 42"]
    outcome = place.resume()
    assert (outcome.status, outcome.spend.passes) == ("verified", 3)


# ── loops inside a session that a person started ────────────────────────────────────────────────────


def in_session(place, claude, *extra, cwd, prompt="go", env=None):
    argv = [
        claude,
        "-p",
        prompt,
        "--plugin-dir",
        ROOT,
        "--output-format",
        "json",
        "--allowedTools",
        "Bash",
        *extra,
    ]
    done = place.call(argv, cwd=cwd, env=env)
    return json.loads(done.stdout)


def test_the_plugin_starts_a_loop_in_its_session_and_no_other_is_taken(place, claude):
    project = place.folder / "project"
    project.mkdir()
    place.session_task("one", "42")
    place.provider.replies = [place.start("one"), "it is 41", Tool("echo 42 > found.txt"), "it is 42"]
    output = in_session(place, claude, cwd=project)
    assert output["result"] == "it is 42"
    assert place.endings(place.folder / "one") == [None, None]
    assert (place.folder / "one/workspace/found.txt").read_text() == "42\n"

    def state():
        return json.loads(place.loop_runner("status", place.folder / "one", "--json"))["runs"][0]["state"]

    wait_for(lambda: state() == "verified")
    assert list((place.folder / "state/sessions").iterdir()) == [], "nothing is left to take the next session"
    before = len(place.provider.requests)
    place.provider.replies = ["hello"]
    assert in_session(place, claude, cwd=project)["result"] == "hello"
    assert len(place.provider.requests) == before + 1


def test_two_loops_in_one_folder_each_keep_their_own_session(place, claude):
    project = place.folder / "project"
    project.mkdir()
    place.session_task("one", "alpha")
    place.session_task("two", "beta")
    place.provider.replies = [place.start("one"), "not yet"]
    first = json.loads(
        place.call(
            [claude, "-p", "go", "--plugin-dir", ROOT, "--output-format", "json", "--allowedTools", "Bash"],
            cwd=project,
            env={"CLAUDE_CODE_STOP_HOOK_BLOCK_CAP": "1"},
        ).stdout
    )
    place.provider.replies = [place.start("two"), "it is alpha", "it is beta"]
    assert in_session(place, claude, cwd=project)["result"] == "it is beta", "alpha ends the other one only"
    place.provider.replies = ["it is beta", "it is alpha"]
    resumed = in_session(place, claude, "--resume", first["session_id"], cwd=project, prompt="go on")
    assert resumed["result"] == "it is alpha", "the first session still has its own loop"
    passes = {name: len(place.endings(place.folder / name)) for name in ("one", "two")}
    assert passes["two"] == 2
    assert passes["one"] >= 3


def test_a_cancelled_loop_lets_its_session_end(place, claude):
    project = place.folder / "project"
    project.mkdir()
    place.session_task("one", "42")
    cancel = Tool(f"loop-runner hook cancel {place.folder}/one")
    place.provider.replies = [place.start("one"), "it is 40", cancel, "stopped"]
    assert in_session(place, claude, cwd=project)["result"] == "stopped"


def test_the_repository_is_a_plugin_that_claude_takes(place, claude):
    done = place.call([claude, "plugin", "validate", ROOT])
    assert done.returncode == 0, done.stdout + done.stderr
