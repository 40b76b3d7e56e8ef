"""The real Codex against a loopback provider: the loop's own scenarios."""

import json
import signal
import subprocess
import sys

from tests.clients.server import Refused, Tool
from tests.support.commands import wait_for

TRUSTED = ["exec", "--skip-git-repo-check", "--json", "--dangerously-bypass-hook-trust", "-"]


def test_25_blocks_and_an_acceptance_in_one_session(place, codex):
    place.loop_runner("hook", "install", "codex")
    place.provider.replies = [f"it is {number}" for number in range(26)] + ["it is 42"]
    outcome = place.run(place.task([codex, *TRUSTED]))
    assert (outcome.status, outcome.spend.passes) == ("verified", 27)
    assert place.endings() == [None] * 27
    texts = place.provider.texts()
    assert len(texts) == 27, "one session, one request a pass"
    assert "What failed in pass 26" in texts[-1]


def test_the_tokens_that_it_counts_are_in_the_ledger_and_dollars_at_the_rate_that_is_given(place, codex):
    place.loop_runner("hook", "install", "codex")
    place.provider.replies = ["it is 41", "it is 42"]
    rates = {"agent:codex": {"input": 1.0, "output": 2.0}}
    outcome = place.run(place.task([codex, *TRUSTED], prices=rates))
    assert outcome.status == "verified"
    usage = outcome.spend.usage
    assert (usage.input_tokens, usage.output_tokens) == (20, 10)
    assert outcome.spend.usd == 40e-6


def test_tokens_without_a_rate_are_counted_and_dollars_stay_unknown(place, codex):
    place.provider.replies = ["it is 42"]
    outcome = place.run(place.task([codex, *[word for word in TRUSTED if "trust" not in word]]))
    assert (outcome.spend.usage.input_tokens, outcome.spend.usd) == (10, None)
    assert "unknown" in place.loop_runner("cost", place.run_folder)


def test_a_hook_that_is_not_trusted_does_not_make_an_answer_done(place, codex):
    place.loop_runner("hook", "install", "codex")
    place.provider.replies = ["it is 41, and all checks passed", "it is 42"]
    outcome = place.run(place.task([codex, *[word for word in TRUSTED if "trust" not in word]]))
    assert (outcome.status, outcome.spend.passes) == ("verified", 2)
    assert place.endings() == ["hook did not run"] * 2


def test_an_api_error_is_told_apart_and_tried_again(place, codex):
    place.provider.replies = [Refused(400)] * 50
    notices = []

    def listen(event):
        notices.append(event.text)
        if "api error" in event.text:
            place.provider.replies = ["it is 42"]

    outcome = place.run(place.task([codex, *TRUSTED]), listen=listen)
    assert (outcome.status, outcome.spend.passes) == ("verified", 1)
    assert any("api error" in text for text in notices)


def test_the_kill_switch_lets_the_client_end(place, codex):
    place.loop_runner("hook", "install", "codex")
    place.provider.replies = [f"it is {number}" for number in range(41)]

    def press(event):
        if event.kind == "pass_ended" and event.pass_number == 3:
            (place.run_folder / "STOP").touch()

    outcome = place.run(place.task([codex, *TRUSTED]), listen=press)
    assert (outcome.status, outcome.spend.passes) == ("interrupted", 3)
    assert len(place.provider.requests) <= 4


def test_a_killed_runner_is_resumed_where_it_was(place, codex):
    place.loop_runner("hook", "install", "codex")
    place.provider.replies = ["it is 39", "it is 40", Tool("sleep 60")]
    task = place.task([codex, *TRUSTED])
    argv = [sys.executable, "-m", "loop_runner", "run", str(task), "--run-dir", str(place.run_folder)]
    with subprocess.Popen(
        argv, env=place.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as runner:
        wait_for(lambda: len(place.provider.requests) == 3, 60)
        runner.send_signal(signal.SIGKILL)
    place.provider.replies = ["it is 42"]
    outcome = place.resume()
    assert outcome.status == "verified"
    assert outcome.spend.passes in (3, 4), "the killed pass is done again"


def test_a_hook_that_crashes_does_not_make_an_answer_done(place, codex):
    entry = {"hooks": [{"type": "command", "command": "exit 1"}]}
    (place.folder / "home/.codex/hooks.json").write_text(json.dumps({"hooks": {"Stop": [entry]}}))
    place.provider.replies = ["it is 41, and all checks passed", "it is 42"]
    outcome = place.run(place.task([codex, *TRUSTED]))
    assert (outcome.status, outcome.spend.passes) == ("verified", 2)
    assert place.endings() == ["hook did not run"] * 2


# ── loops inside a session that a person started ────────────────────────────────────────────────────

FREE = ["--json", "--dangerously-bypass-hook-trust", "--dangerously-bypass-approvals-and-sandbox"]


def in_session(place, codex, *words):
    """Run one turn of a session; its id, and all that the agent said."""
    done = place.call([codex, "exec", *words, "--skip-git-repo-check", *FREE, "-"], stdin="go")
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    items = [line["item"] for line in lines if line["type"] == "item.completed"]
    (session,) = {line["thread_id"] for line in lines if "thread_id" in line}
    return session, [item["text"] for item in items if item["type"] == "agent_message"]


def test_two_loops_in_one_folder_each_keep_their_own_session(place, codex):
    place.loop_runner("hook", "install", "codex")
    place.session_task("one", "alpha")
    place.session_task("two", "beta")
    place.provider.replies = [place.start("one"), "not yet", Refused(400)]
    first, _ = in_session(place, codex)
    place.provider.replies = [place.start("two"), "it is alpha", "it is beta"]
    assert in_session(place, codex)[1] == ["it is alpha", "it is beta"], "alpha ends the other one only"
    place.provider.replies = ["it is beta", "it is alpha"]
    again, output = in_session(place, codex, "resume", first)
    assert (again, output) == (first, ["it is beta", "it is alpha"]), (
        "the first session still has its own loop"
    )
    place.provider.replies = ["hello"]
    assert in_session(place, codex)[1] == ["hello"], "and a third has none"


def test_a_cancelled_loop_lets_its_session_end(place, codex):
    place.loop_runner("hook", "install", "codex")
    place.session_task("one", "42")
    cancel = Tool(f"{place.folder}/bin/loop-runner hook cancel {place.folder}/one")
    place.provider.replies = [place.start("one"), "it is 40", cancel, "stopped"]
    assert in_session(place, codex)[1] == ["it is 40", "stopped"]
