"""Fetching a model in slices: small wheels through the same code, with a folder as pip's index."""

import base64
import hashlib
import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from loop_runner import process
from loop_runner.errors import ConfigError, EnvironmentFault, ModelError
from loop_runner.model.catalog import Fetchable, Slice
from loop_runner.model.providers import fetch
from loop_runner.model.providers.fetch import Progress

PARTS = (b"GGUF" + b"a" * 3000, b"b" * 3000, b"c" * 500)


def write_wheel(folder: Path, package: str, payload: bytes) -> Slice:
    """A real wheel, small, that carries ``payload`` the way the big ones do."""
    module = package.replace("-", "_")
    info = f"{module}-1.0.dist-info"
    files = {
        f"{module}/__init__.py": b"",
        f"{module}/data/part.bin": payload,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    for name, data in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        record += f"{name},sha256={digest},{len(data)}\n"
    path = folder / f"{module}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, data in files.items():
            wheel.writestr(name, data)
        wheel.writestr(f"{info}/RECORD", record + f"{info}/RECORD,,\n")
    data = path.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    return Slice(package, "1.0", path.name, f"{module}/data/part.bin", len(data), digest)


@dataclass(frozen=True)
class Index:
    """A folder of wheels, and the catalog entry that describes them."""

    folder: Path
    entry: Fetchable

    def fetch(
        self, into: Path, progress: list[Progress] | None = None, entry: Fetchable | None = None
    ) -> Path:
        options = ("--no-index", "--find-links", str(self.folder))
        shown = progress if progress is not None else []
        return fetch.fetch("tiny", into, shown.append, entry=entry or self.entry, pip_options=options)


@pytest.fixture
def index(tmp_path: Path) -> Index:
    folder = tmp_path / "index"
    folder.mkdir()
    pieces = tuple(write_wheel(folder, f"tiny-part{n}", part) for n, part in enumerate(PARTS, 1))
    whole = b"".join(PARTS)
    digest = hashlib.sha256(whole).hexdigest()
    return Index(folder, Fetchable("tiny", "Tiny", "none", len(whole), digest, pieces))


def left_in(folder: Path) -> Sequence[str]:
    return sorted(path.name for path in folder.iterdir())


def test_slices_are_downloaded_checked_joined_and_cleared_away(index: Index, tmp_path: Path) -> None:
    progress: list[Progress] = []
    path = index.fetch(tmp_path / "models", progress)
    assert path.read_bytes() == b"".join(PARTS)
    assert left_in(path.parent) == ["tiny.gguf"]
    assert [p.step for p in progress][-1] == "joining"
    assert all(p.done_bytes <= p.total_bytes for p in progress)
    assert str(progress[-1]) == "joining: 100 %"


def test_what_is_fetched_is_not_fetched_again(index: Index, tmp_path: Path) -> None:
    path = index.fetch(tmp_path / "models")
    for wheel in index.folder.iterdir():
        wheel.unlink()
    assert index.fetch(tmp_path / "models") == path


def test_an_interrupted_fetch_goes_on_with_the_slices_that_are_whole(index: Index, tmp_path: Path) -> None:
    second = index.folder / index.entry.slices[1].wheel
    second.rename(tmp_path / "away.whl")
    with pytest.raises(EnvironmentFault, match=r"tiny-part2 1\.0, a part of the model, is no longer"):
        index.fetch(tmp_path / "models")
    assert index.entry.slices[0].wheel in left_in(tmp_path / "models" / "tiny.parts")
    (index.folder / index.entry.slices[0].wheel).unlink()  # nobody needs it any more
    (tmp_path / "away.whl").rename(second)
    assert index.fetch(tmp_path / "models").read_bytes() == b"".join(PARTS)


def test_a_slice_that_was_cut_off_is_downloaded_again(index: Index, tmp_path: Path) -> None:
    parts = tmp_path / "models" / "tiny.parts"
    parts.mkdir(parents=True)
    first = index.entry.slices[0]
    (parts / first.wheel).write_bytes((index.folder / first.wheel).read_bytes()[:-5] + b"-----")
    assert index.fetch(tmp_path / "models").read_bytes() == b"".join(PARTS)


def test_a_slice_with_other_bytes_is_refused(index: Index, tmp_path: Path) -> None:
    write_wheel(index.folder, "tiny-part2", b"evil")
    with pytest.raises(ModelError, match=r"tiny-part2 1\.0 is not what loop-runner was tested with"):
        index.fetch(tmp_path / "models")
    assert not (tmp_path / "models" / "tiny.gguf").exists()


def test_a_whole_that_does_not_match_is_refused_and_not_left_in_place(index: Index, tmp_path: Path) -> None:
    wrong = replace(index.entry, sha256="0" * 64)
    with pytest.raises(ModelError, match="the joined file of tiny is not what"):
        index.fetch(tmp_path / "models", entry=wrong)
    assert left_in(tmp_path / "models") == ["tiny.parts"]


def test_too_little_space_is_said_before_anything_is_downloaded(index: Index, tmp_path: Path) -> None:
    huge = replace(index.entry, size_bytes=1 << 60)
    with pytest.raises(EnvironmentFault, match="MB free; fetching tiny needs") as caught:
        index.fetch(tmp_path / "models", entry=huge)
    assert caught.value.exit_code == 4
    assert "LOOP_RUNNER_CACHE" in caught.value.hint
    assert left_in(tmp_path / "models" / "tiny.parts") == ["lock"]


def test_two_fetches_at_once_wait_for_each_other(index: Index, tmp_path: Path) -> None:
    code = (
        "import sys, pickle; from pathlib import Path; from loop_runner.model.providers.fetch import fetch\n"
        "entry = pickle.loads(sys.stdin.buffer.read())\n"
        "options = ['--no-index', '--find-links', sys.argv[1]]\n"
        "print(fetch('tiny', Path(sys.argv[2]), entry=entry, pip_options=options))\n"
    )
    argv = [sys.executable, "-c", code, str(index.folder), str(tmp_path / "models")]
    env = {**os.environ, "PYTHONPATH": str(Path(fetch.__file__).parents[3])}
    running = [
        subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env) for _ in range(2)
    ]
    for child in running:
        assert child.stdin is not None
        child.stdin.write(pickle.dumps(index.entry))
        child.stdin.close()
    for child in running:
        assert child.wait(60) == 0
        assert child.stdout is not None
        child.stdout.close()
    assert left_in(tmp_path / "models") == ["tiny.gguf"]


def test_a_python_without_pip_is_told_how_to_get_it(tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", bare], check=True)
    code = (
        "import sys; from pathlib import Path; from loop_runner.model.providers import fetch\n"
        "from loop_runner.model.catalog import *\n"
        "piece = Slice('tiny-part1', '1.0', 'x.whl', 'm', 1, 'h')\n"
        "entry = Fetchable('tiny', 't', 'l', 1, 'h', (piece,))\n"
        "try:\n    fetch.fetch('tiny', Path(sys.argv[1]), entry=entry)\n"
        "except fetch.EnvironmentFault as error:\n    print(error)\n"
    )
    env = {"PYTHONPATH": str(Path(fetch.__file__).parents[3])}
    argv = [str(bare / "bin" / "python"), "-c", code, str(tmp_path / "models")]
    ran = subprocess.run(argv, env=env, capture_output=True, text=True, check=True)
    assert "this Python has no pip" in ran.stdout
    assert "ensurepip" in ran.stdout


def test_an_unknown_name_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no model 'codr' to fetch") as caught:
        fetch.fetch("codr", tmp_path)
    assert caught.value.hint == "known: coder"


def test_the_list_says_what_is_there_and_what_is_not(tmp_path: Path) -> None:
    (only,) = fetch.list_models(tmp_path)
    assert (only.name, only.is_fetched, only.path) == ("coder", False, tmp_path / "coder.gguf")
    assert "Apache-2.0" in only.licence
    only.path.write_bytes(b"half of it")
    assert not fetch.is_fetched("coder", tmp_path)


def test_the_models_folder_can_be_moved_by_the_environment(tmp_path: Path) -> None:
    assert fetch.models_dir({"LOOP_RUNNER_CACHE": str(tmp_path)}) == tmp_path / "models"
    assert fetch.models_dir({}).parts[-2:] == ("loop-runner", "models")


# ── progress ────────────────────────────────────────────────────────────────────────────────────────


def shares(progress: Sequence[Progress]) -> list[float]:
    return [step.done_bytes / step.total_bytes for step in progress]


@pytest.mark.parametrize("present", [(), (0,), (1,), (0, 2), (0, 1, 2)])
def test_progress_never_goes_back_and_ends_at_all(
    index: Index, tmp_path: Path, present: tuple[int, ...]
) -> None:
    parts = tmp_path / "models/tiny.parts"
    parts.mkdir(parents=True)
    for number in present:
        name = index.entry.slices[number].wheel
        (parts / name).write_bytes((index.folder / name).read_bytes())
    progress: list[Progress] = []
    index.fetch(tmp_path / "models", progress)
    assert shares(progress) == sorted(shares(progress))
    assert shares(progress)[-1] == 1
    assert len({step.total_bytes for step in progress}) == 1


def test_a_slice_that_pip_holds_twice_for_a_moment_counts_once(
    index: Index, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(fetch, "_POLL_S", 0.005)
    monkeypatch.setattr(fetch, "_size_of", lambda _: 1 << 40)
    progress: list[Progress] = []
    index.fetch(tmp_path / "models", progress)
    first = sum(piece.size_bytes for piece in index.entry.slices[:1])
    assert progress[0].done_bytes <= first
    assert shares(progress) == sorted(shares(progress))
    assert max(shares(progress)) == 1


# ── what went wrong ─────────────────────────────────────────────────────────────────────────────────

ALTERNATIVES = ("local:/path/to/model.gguf", "ANTHROPIC_API_KEY", "session: command")
NONE = "ERROR: Could not find a version that satisfies the requirement tiny-part1 (from versions: none)\n"
OTHERS = NONE.replace("none", "1.1, 2.0")
LAST = "ERROR: No matching distribution found for tiny-part1==1.0\n"
RETRY = "WARNING: Retrying (Retry(total=0, connect=None)) after connection broken by 'NewConnectionError'\n"


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (NONE + LAST, "is no longer in the package index"),
        (OTHERS + LAST, "is no longer in the package index"),
        ("ERROR: HTTP error 404 while getting https://index/x.whl\n", "is no longer in the package index"),
        ("ERROR: 410 Client Error: Gone for url: https://index/x.whl\n", "is no longer in the package index"),
        (RETRY + NONE + LAST, "pip could not download tiny-part1 1.0"),
        ("ERROR: HTTP error 403 while getting https://index/x.whl\n", "the package index answered 403"),
        ("ERROR: 503 Server Error: Unavailable for url: https://index\n", "the package index answered 503"),
        ("ERROR: Could not install packages: ProxyError\n", "pip could not download tiny-part1 1.0"),
        ("", r"pip could not download tiny-part1 1.0: no message \(exit code 1\)"),
    ],
)
def test_a_failed_download_says_which_kind_and_names_the_alternatives(
    index: Index, tmp_path: Path, monkeypatch, output: str, message: str
) -> None:
    monkeypatch.setattr("loop_runner.process.run", lambda *_, **__: process.Finished(1, output))
    with pytest.raises(EnvironmentFault, match=message) as caught:
        index.fetch(tmp_path / "models")
    assert all(way in caught.value.hint for way in ALTERNATIVES)
    assert ("single uploader" in caught.value.why) == ("no longer" in message)


def test_other_bytes_name_the_alternatives(index: Index, tmp_path: Path) -> None:
    write_wheel(index.folder, "tiny-part1", b"evil")
    with pytest.raises(ModelError) as caught:
        index.fetch(tmp_path / "models")
    assert all(way in caught.value.hint for way in ALTERNATIVES)


def test_an_index_that_cannot_be_reached_is_not_called_a_withdrawal(index: Index, tmp_path: Path) -> None:
    options = ("--isolated", "--index-url", "http://127.0.0.1:9/simple", "--retries", "1", "--timeout", "1")
    with pytest.raises(EnvironmentFault, match="pip could not download tiny-part1") as caught:
        fetch.fetch("tiny", tmp_path / "models", entry=index.entry, pip_options=options)
    assert "check the network" in caught.value.hint
