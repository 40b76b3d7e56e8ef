"""What an earlier run wrote is never an input, wherever it lies and whatever it is called."""

import shutil
import subprocess
import tarfile
import zipfile

import pytest

from loop_runner.errors import ConfigError
from loop_runner.inputs import Converter, load
from loop_runner.runs import start as runs
from loop_runner.runs.context import RunContext
from loop_runner.task import config
from loop_runner.workspace.history import History
from tests.support.tasks import cell, write_task

INVENTION = "The tower is 4711 feet high"
LETTER = "0003-root-1f2e3d4c5b6a"


@pytest.fixture(scope="module")
def earlier(tmp_path_factory):
    """A run whose answers hold an invention."""
    folder = tmp_path_factory.mktemp("earlier")
    root = [cell(f"FINAL('{INVENTION}')"), cell("FINAL('42')")]
    file = write_task(folder / "task", root=root, verifiers=[{"contains": "42"}])
    assert runs.start(config.read_task(file), folder / "run", RunContext({})).status == "verified"
    return folder / "run"


@pytest.fixture
def base(tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "a.txt").write_text("The tower is 1,024 feet high.\n")
    return folder


def taken(specs, base, tmp_path, **options):
    return load(specs, base, converter=Converter(tmp_path / "cache"), **options)


def names(texts):
    return [text.name for text in texts.texts]


def holds_invention(texts):
    return any(INVENTION in text.path.read_text(errors="replace") for text in texts.texts)


def runs_reported(texts):
    return [path for path, reason in texts.skipped if reason.startswith("a run of loop-runner")]


def copy(earlier, target):
    shutil.copytree(earlier, target, symlinks=True)


def clone(earlier, target):
    subprocess.run(["git", "clone", "-q", earlier, target], check=True)


def only_the_files(earlier, target):
    shutil.copytree(earlier, target, ignore=shutil.ignore_patterns(".git"))


def without_the_format(earlier, target):
    only_the_files(earlier, target)
    (target / "loop-runner.json").unlink()


def only_the_passes(earlier, target):
    shutil.copytree(earlier / "passes", target)


def one_pass(earlier, target):
    shutil.copytree(earlier / "passes/0001", target)


def one_turn(earlier, target):
    shutil.copytree(earlier / "passes/0001/turns/0001", target)


COPIES = [copy, clone, only_the_files, without_the_format, only_the_passes, one_pass, one_turn]


@pytest.mark.parametrize("name", ["runs/one", "evidence", "docs/deep/er"])
@pytest.mark.parametrize("make", COPIES)
def test_a_folder_never_gives_what_a_run_wrote(earlier, base, tmp_path, make, name):
    (base / name).parent.mkdir(parents=True, exist_ok=True)
    make(earlier, base / name)
    texts = taken(["."], base, tmp_path)
    assert names(texts) == ["a.txt"]
    assert runs_reported(texts)


@pytest.mark.parametrize("pattern", ["**/*.md", "*", "**/*", "*/*.md", "e*/passes/*/*.md"])
def test_a_glob_never_gives_what_a_run_wrote(earlier, base, tmp_path, pattern):
    copy(earlier, base / "evidence")
    (base / "b.md").write_text("a text")
    assert not holds_invention(taken([pattern, "a.txt"], base, tmp_path))


@pytest.mark.parametrize("pattern", ["evidence/*.md", "evidence/passes/*/*.md", "evidence/workspace/*"])
def test_a_glob_into_a_run_folder_is_refused(earlier, base, tmp_path, pattern):
    copy(earlier, base / "evidence")
    with pytest.raises(ConfigError, match="run folder"):
        taken([pattern, "a.txt"], base, tmp_path)


def test_a_run_folder_is_reported_once_and_what_lies_beside_it_is_taken(earlier, base, tmp_path):
    copy(earlier, base / "runs/one")
    (base / "runs/notes.txt").write_text("a text")
    texts = taken(["."], base, tmp_path)
    assert names(texts) == ["a.txt", "runs/notes.txt"]
    assert runs_reported(texts) == ["./runs/one"]


@pytest.mark.parametrize(
    "spec", ["run", "run/answer.md", "run/passes", "run/passes/0001/turns/0001/reply.md", "run/workspace"]
)
def test_a_path_into_a_run_folder_is_refused(earlier, base, tmp_path, spec):
    copy(earlier, base / "run")
    with pytest.raises(ConfigError, match="is in the run folder") as caught:
        taken([spec], base, tmp_path)
    assert caught.value.hint


def test_a_link_to_what_a_run_wrote_is_left_out(earlier, base, tmp_path):
    copy(earlier, base / "run")
    (base / "link.md").symlink_to(base / "run/answer.md")
    assert names(taken(["."], base, tmp_path)) == ["a.txt"]


def pack_zip(folder, target):
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, path.relative_to(folder))


def pack_tar(folder, target):
    with tarfile.open(target, "w:gz") as archive:
        archive.add(folder, ".")


def pack_twice(folder, target):
    pack_zip(folder, folder.parent / "inner.zip")
    with zipfile.ZipFile(target, "w") as archive:
        archive.write(folder.parent / "inner.zip", "deep/inner.zip")


@pytest.mark.parametrize("make", COPIES)
@pytest.mark.parametrize(
    ("pack", "name"), [(pack_zip, "b.zip"), (pack_tar, "b.tar.gz"), (pack_twice, "b.zip")]
)
def test_an_archive_never_gives_what_a_run_wrote(earlier, base, tmp_path, make, pack, name):
    packed = tmp_path / "packed"
    packed.mkdir()
    (packed / "b.txt").write_text("a text")
    make(earlier, packed / "evidence")
    pack(packed, base / name)
    for specs in (["."], [name, "a.txt"]):
        texts = taken(specs, base, tmp_path)
        assert len(texts.texts) == 2
        assert not holds_invention(texts)
        assert runs_reported(texts)


def test_an_archive_of_a_run_alone_is_refused(earlier, base, tmp_path):
    pack_zip(earlier, base / "b.zip")
    with pytest.raises(ConfigError, match="a run of loop-runner"):
        taken(["b.zip"], base, tmp_path)


def git(folder, *words):
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True)


@pytest.mark.parametrize("paths", [[], ["**/*.md", "a.txt"], ["evidence/answer.md", "a.txt"]])
@pytest.mark.parametrize("make", [only_the_files, without_the_format])
def test_a_revision_never_gives_what_a_run_wrote(earlier, base, tmp_path, make, paths):
    make(earlier, base / "evidence")
    git(base, "init", "-q")
    git(base, "add", "-f", ".")
    git(base, "commit", "-qm", "all")
    spec = {"git": ".", "revision": "HEAD"} | ({"paths": paths} if paths else {})
    texts = taken([spec], base, tmp_path)
    assert names(texts) == ["a.txt"]
    assert [reason for _, reason in texts.skipped] == [
        "a run of loop-runner: what earlier runs wrote is no evidence"
    ]


@pytest.mark.parametrize("spec", ["run@HEAD", {"git": "run", "revision": "HEAD", "paths": ["answer.md"]}])
def test_a_revision_of_a_run_is_refused(earlier, base, tmp_path, spec):
    clone(earlier, base / "run")
    with pytest.raises(ConfigError):
        taken([spec], base, tmp_path)


def test_letters_of_a_manual_model_are_left_out_and_reported_once(base, tmp_path):
    (base / "box").mkdir()
    (base / "box" / f"{LETTER}.request.md").write_text(INVENTION)
    (base / "box" / f"{LETTER}.reply.md").write_text(INVENTION)
    texts = taken(["."], base, tmp_path)
    assert names(texts) == ["a.txt"]
    assert len(texts.skipped) == 1
    with pytest.raises(ConfigError, match="letter of a manual model"):
        taken([f"box/{LETTER}.reply.md"], base, tmp_path)


@pytest.mark.parametrize(
    "name", ["answer.md", "task.yaml", "verdict.json", "loop-runner.json", "passes/a.md"]
)
def test_one_file_that_is_called_like_one_of_a_run_is_taken(base, tmp_path, name):
    (base / name).parent.mkdir(exist_ok=True)
    (base / name).write_text("{}")
    assert names(taken(["."], base, tmp_path)) == sorted(["a.txt", name])


def test_a_second_run_over_the_same_folder_does_not_read_the_first(tmp_path):
    file = write_task(
        tmp_path / "task",
        root=[cell(f"FINAL('{INVENTION}')"), cell("FINAL('42')")],
        verifiers=[{"contains": "42"}, {"python": "check.py"}],
        inputs=["."],
        texts={"check.py": "def check(submission):\n    pass\n", "b.txt": "the tower"},
    )
    for name in ("runs/first", "runs/second"):
        outcome = runs.start(config.read_task(file), tmp_path / "task" / name, RunContext({}))
        assert outcome.status == "verified"
    with History(tmp_path / "task/runs/second") as history:
        listing = (history.read("inputs.json") or b"").decode()
    assert INVENTION not in listing
    assert '"name": "b.txt"' in listing
    for own in ("task.yaml", "check.py", "script.yaml", "runs/first"):
        assert f'"name": "{own}' not in listing


def test_the_tasks_own_files_are_left_out_unless_they_are_named(base, tmp_path):
    check = base / "check.py"
    check.write_text("assert total == 4711\n")
    texts = taken(["."], base, tmp_path, own=[check])
    assert names(texts) == ["a.txt"]
    assert texts.skipped[0][1].startswith("the task's own file")
    assert names(taken([".", "check.py"], base, tmp_path, own=[check])) == ["a.txt", "check.py"]
    pack_zip(base, tmp_path / "b.zip")
    shutil.move(tmp_path / "b.zip", base / "b.zip")
    assert names(taken(["b.zip"], base, tmp_path, own=[check])) == ["b.zip/a.txt"]
