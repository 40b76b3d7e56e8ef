"""``manual:``: a person answers with an editor; half a file is never taken for a whole reply."""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from loop_runner.errors import ConfigError, ModelError
from loop_runner.model.client import Setting
from loop_runner.model.providers.manual import END_MARK, ManualClient, NoReplyError
from loop_runner.records import Message, Request
from tests.support.commands import loop_runner, started, wait_for
from tests.support.tasks import ready, write_task

REQUEST = Request("manual:box", (Message("user", "How many? ```"),), system="You count.")


def waiting(folder: Path, what: str = "request") -> list[Path]:
    return sorted(folder.glob(f"*.{what}.md")) if folder.is_dir() else []


def answer(folder: Path, text: str) -> None:
    """Reply to the open request as an editor does that writes in place."""
    open_ones = [item for item in waiting(folder) if not reply_of(item).exists()]
    reply_of(open_ones[0]).write_text(text)


def reply_of(request: Path) -> Path:
    return request.with_name(request.name.replace(".request.", ".reply."))


def ask(
    folder: Path, person: Callable[[], object], *, seconds_left: float | None = None, stable_s: float = 0.3
) -> tuple[str, list[str]]:
    """Ask, with ``person`` at work in a thread; gives the reply and what was said on the screen."""
    shown: list[str] = []
    setting = Setting(folder.parent, {}, tell=shown.append, seconds_left=lambda: seconds_left)

    async def run() -> str:
        client = ManualClient(folder, setting, stable_s=stable_s, look_again_s=0.05)
        at_work = asyncio.create_task(asyncio.to_thread(person))
        try:
            return (await client.complete(REQUEST)).text
        finally:
            await client.close()
            await at_work

    return asyncio.run(run()), shown


def once_asked(folder: Path, *steps: Callable[[], object]) -> Callable[[], None]:
    def person() -> None:
        wait_for(lambda: bool(waiting(folder)))
        for step in steps:
            step()

    return person


def test_the_request_is_a_text_for_a_person_and_the_screen_says_where_it_is(tmp_path: Path) -> None:
    box = tmp_path / "box"
    text, notices = ask(box, once_asked(box, lambda: answer(box, f"42\n{END_MARK}\n")))
    assert text == "42"
    (request,) = waiting(box)
    shown = request.read_text()
    assert reply_of(request).name in shown
    assert "You count." in shown
    assert "````text\nHow many? ```\n````" in shown
    assert "waiting for a person" in notices[0]
    assert str(request) in notices[0]


def test_a_file_that_is_still_being_written_is_not_a_reply(tmp_path: Path) -> None:
    box = tmp_path / "box"

    def write_slowly() -> None:
        (request,) = waiting(box)
        with reply_of(request).open("w") as file:
            for part in ("The ", "answer ", "is ", "42"):
                file.write(part)
                file.flush()
                time.sleep(0.1)

    assert ask(box, once_asked(box, write_slowly), stable_s=0.5)[0] == "The answer is 42"


def test_a_program_may_move_a_whole_reply_into_place(tmp_path: Path) -> None:
    box = tmp_path / "box"

    def move() -> None:
        (request,) = waiting(box)
        (box / "draft.tmp").write_text(f"42\n{END_MARK}")
        os.replace(box / "draft.tmp", reply_of(request))

    assert ask(box, once_asked(box, move), stable_s=60)[0] == "42"


def test_an_empty_file_is_not_a_reply_and_a_text_that_is_not_utf8_is(tmp_path: Path) -> None:
    box = tmp_path / "box"

    def person() -> None:
        (request,) = waiting(box)
        reply_of(request).write_bytes(b"")
        time.sleep(0.5)
        reply_of(request).write_bytes(b"caf\xe9")

    assert ask(box, once_asked(box, person))[0] == "caf�"


def test_when_the_time_of_the_run_is_up_the_request_stays_open(tmp_path: Path) -> None:
    box = tmp_path / "box"
    with pytest.raises(NoReplyError, match="no reply to") as caught:
        ask(box, lambda: None, seconds_left=0.3)
    assert isinstance(caught.value, ModelError)
    assert "budget.wall" in caught.value.hint
    person = once_asked(box, lambda: answer(box, f"42\n{END_MARK}"))
    text, shown = ask(box, person)
    assert text == "42"
    assert "still waiting" in shown[0]
    assert len(waiting(box)) == 1


def test_a_mailbox_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "box").write_text("")
    with pytest.raises(ConfigError, match="is not a folder"):
        ManualClient(tmp_path / "box", Setting(tmp_path, {}))


# ── whole runs ──────────────────────────────────────────────────────────────────────────────────────


def test_a_run_that_was_killed_finds_its_open_request_again_and_the_reply_to_it(tmp_path: Path) -> None:
    task = write_task(tmp_path / "task", root=[], model="manual:box")
    box = tmp_path / "task" / "box"
    with started("run", task, cwd=tmp_path) as command:
        command.wait_for_line("waiting for a person", timeout_s=60)
        command.signal(signal.SIGKILL)
        command.finish()
    answer(box, f"{ready('42')}\n{END_MARK}")
    resumed = loop_runner("resume", "scripted", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert len(waiting(box)) == 1


def test_a_run_whose_person_never_answers_ends_unverified_when_its_time_is_up(tmp_path: Path) -> None:
    task = write_task(tmp_path / "task", root=[], model="manual:box", budget={"wall": "3s"})
    ended = loop_runner("run", task, cwd=tmp_path)
    assert ended.returncode == 3, ended.stderr
    assert "the budget of 3 seconds is used up" in ended.stdout


def test_a_wait_is_longer_than_the_rounded_time_that_is_left_so_that_the_limit_is_reached(
    tmp_path: Path,
) -> None:
    started = time.monotonic()
    with pytest.raises(NoReplyError):
        ask(tmp_path / "box", lambda: None, seconds_left=0.1)
    assert time.monotonic() - started >= 0.1 + 0.05  # the most that rounding to tenths takes away


def test_two_equal_questions_are_two_letters(tmp_path: Path) -> None:
    code = "```repl\nFINAL(' '.join(llm_batch(['how many?', 'how many?'])))\n```"
    task = write_task(
        tmp_path / "task", root=[code], sub_model="manual:box", verifiers=[{"contains": "40 2"}]
    )
    box = tmp_path / "task" / "box"

    def person() -> None:
        wait_for(lambda: len(waiting(box)) == 2, 60)
        for text in ("40", "2"):
            answer(box, f"{text}\n{END_MARK}")

    at_work = threading.Thread(target=person)
    at_work.start()
    ended = loop_runner("run", task, cwd=tmp_path)
    at_work.join()
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize(
    "encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig", "utf-8", "utf-16-be-with-mark"]
)
def test_a_reply_that_an_editor_saved_in_another_encoding_is_read(tmp_path: Path, encoding: str) -> None:
    text = "The answer is 42, d\u00e9j\u00e0.\n=== end ===\n"
    mark = "\ufeff" if encoding.endswith("-with-mark") else ""
    data = (mark + text).encode(encoding.removesuffix("-with-mark"))
    folder = tmp_path / "box"

    def person() -> None:
        reply_of(waiting(folder)[0]).write_bytes(data)

    assert ask(folder, once_asked(folder, person))[0] == "The answer is 42, d\u00e9j\u00e0."
