"""The real Codex against a loopback provider: the loop's own scenarios."""

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
