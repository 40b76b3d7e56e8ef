"""Programs are started, fed, heard and ended, whatever they leave behind."""

import os
import sys
import time

import pytest

from loop_runner.process import run

ENV = {"PATH": os.environ["PATH"]}


@pytest.fixture
def start(tmp_path):
    def start(*argv, **kwargs):
        return run(argv, cwd=tmp_path, env=ENV, **{"timeout_s": 20, **kwargs})

    return start


def test_output_of_both_streams_is_kept_in_order(start):
    ended = start("sh", "-c", "echo one; echo two >&2; echo three; exit 3")
    assert (ended.exit_code, ended.output) == (3, "one\ntwo\nthree\n")


def test_stdin_arrives_whole(start):
    assert start("wc", "-c", stdin=b"x" * 3_000_000).output.strip() == "3000000"


def test_a_program_that_does_not_read_its_stdin_still_ends(start):
    assert start("true", stdin=b"x" * 3_000_000).exit_code == 0


def test_long_output_keeps_head_and_tail_and_counts_the_rest(start):
    ended = start(sys.executable, "-c", "print('a' * 100_000 + 'z')", max_output_bytes=1000)
    assert ended.output.startswith("aaa")
    assert ended.output.endswith("z\n")
    assert ended.dropped_bytes == 100_002 - 1000


@pytest.mark.parametrize("left_behind", ["sleep 30", "yes"])
def test_a_process_that_left_the_group_does_not_hold_up_the_end(start, left_behind):
    started = time.monotonic()
    ended = start("sh", "-c", f"setsid timeout 5 {left_behind} & sleep 0.3", stdin=b"x" * 3_000_000)
    assert ended.exit_code == 0
    assert time.monotonic() - started < 4


def test_a_timeout_ends_the_whole_group(start):
    started = time.monotonic()
    ended = start("sh", "-c", "sleep 30 & sleep 30", timeout_s=0.3)
    assert (ended.timed_out, ended.exit_code) == (True, -9)
    assert time.monotonic() - started < 10
