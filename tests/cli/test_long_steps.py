"""Long steps before a run show a bar at a terminal: fetching, reading, hashing and converting inputs."""

import io
import threading

import pytest
from click.testing import CliRunner

import loop_runner as lr
from loop_runner import inputs
from loop_runner.cli import live, models
from loop_runner.cli.display import Progress
from loop_runner.inputs import long_steps


def steps_of(action):
    """What a terminal would be given while ``action`` runs."""
    steps: list[long_steps.Step | None] = []
    with long_steps.listening(steps.append):
        action()
    return steps


def named(steps, what):
    return [step for step in steps if step is not None and step.what == what]


def test_reading_large_inputs_is_counted_in_bytes_to_the_last_one(tmp_path):
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("line\n" * 400_000)
    reading = named(steps_of(lambda: inputs.load(["."], tmp_path)), "reading")
    assert [step.total for step in reading] == [4_000_000] * len(reading)
    assert [step.done for step in reading] == sorted(step.done for step in reading)
    assert (reading[0].done, reading[-1].done, reading[-1].share) == (0, 4_000_000, 1.0)
    assert len(reading) > 3, "a large file is counted while it is read"


@pytest.mark.slow
def test_documents_are_counted_while_they_are_hashed_and_converted(tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.eml").write_text(f"Subject: {number}\n\nText {number}")
    (tmp_path / "as-it-is.txt").write_text("text")
    converter = inputs.Converter(tmp_path.parent / "cache", None)
    steps = steps_of(lambda: inputs.load(["."], tmp_path, converter=converter))
    for what in ("hashing", "converting"):
        assert [str(step) for step in named(steps, what)][-1] == "3 documents of 3 documents"
    assert named(steps, "reading")[-1].total == 4, "what was converted is not read once more"
    assert steps[-1] is None, "nothing is shown when the steps have ended"


def test_a_fetch_is_counted_against_the_length_that_the_server_gave(tmp_path, page_server):
    fetcher = inputs.Fetcher(tmp_path / "cache", allows_private=True)
    fetching = named(
        steps_of(lambda: inputs.load([{"url": page_server}], tmp_path, fetch=fetcher)), "fetching"
    )
    assert fetching[0].total == fetching[-1].done == 300_000


@pytest.fixture
def page_server():
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Pages(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/plain")
            self.send_header("Content-Length", "300000")
            self.end_headers()
            self.wfile.write(b"x" * 300_000)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Pages) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/page.txt"
        server.shutdown()


def test_a_step_that_fails_is_no_longer_shown(tmp_path):
    def failing():
        with pytest.raises(lr.ConfigError):
            inputs.load(["missing.txt"], tmp_path)
        with pytest.raises(ZeroDivisionError), long_steps.step("reading", 10):
            raise ZeroDivisionError

    assert steps_of(failing)[-1] is None


def test_nothing_is_counted_where_nobody_looks():
    with long_steps.step("reading", 10) as advance:
        advance(5)
        assert not long_steps.is_shown()


@pytest.mark.parametrize(
    ("step", "shown"),
    [
        (long_steps.Step("reading", 0, 0), "0.0 MB"),
        (long_steps.Step("reading", 2_500_000, 5_000_000), "2.5 MB of 5.0 MB"),
        (long_steps.Step("fetching", 12_000_000_000), "12,000.0 MB"),
        (long_steps.Step("converting", 3, 1200, "documents"), "3 documents of 1,200 documents"),
    ],
)
def test_a_step_is_shown_with_its_unit(step, shown):
    assert str(step) == shown


def test_the_block_shows_a_bar_below_its_first_line_and_only_while_the_step_lasts():
    block = live.Block(Progress(), None, lambda: None, stream=io.StringIO())
    with block, long_steps.step("reading", 4_000_000) as advance:
        advance(1_000_000)
        lines = block._lines(1).plain.splitlines()
        assert lines[1] == "  reading    ████░░░░░░░░░░░░ 1.0 MB of 4.0 MB"
    assert "reading" not in block._lines(1).plain
    assert not long_steps.is_shown(), "a block that has ended no longer listens"


def test_the_fetch_of_a_model_shows_a_bar_at_a_terminal(monkeypatch):
    from loop_runner.model.providers.fetch import Progress as OfFetch

    with CliRunner().isolation() as (_, error, _):
        monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
        models._Bar()(OfFetch("downloading", 50, 100))
        assert "████████░░░░░░░░ downloading: 50 %" in error.getvalue().decode()
