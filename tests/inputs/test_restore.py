"""A resumed run has its texts back, byte for byte, or says why not."""

import re
import shutil
from dataclasses import replace

import pytest

from loop_runner import inputs
from loop_runner.errors import ConfigError
from tests.support import papers


@pytest.fixture
def loaded(folder, converter, tmp_path, git):
    root = folder(
        files={
            "a.pdf": papers.pdf(["one", "two"]),
            "b.zip": papers.zipped([("x.txt", "alpha\n"), ("y.docx", papers.docx(["beta"]))]),
        }
    )
    top = tmp_path / "project"
    top.mkdir()
    git(top, "init", "-q")
    (top / "z.zip").write_bytes(papers.zipped([("in[1].txt", "gamma\n")]))
    git(top, "add", "-A")
    git(top, "commit", "-q", "-m", "one")
    return inputs.load([str(root), {"git": str(top)}], tmp_path, converter=converter)


def restored(result, converter, tmp_path):
    return inputs.restore(result, converter, tmp_path / "cache", lambda _path: None)


def made_by(program, loaded):
    """The inputs as a run lists them whose first text another program made."""
    first = loaded.texts[0]
    other = replace(first, sha256="0" * 64, origin=replace(first.origin, made_by=program))
    return replace(loaded, texts=(other,))


def refusal(result, converter, tmp_path):
    with pytest.raises(ConfigError) as caught:
        restored(result, converter, tmp_path)
    return caught.value


def test_texts_whose_cache_is_gone_are_made_again(loaded, converter, tmp_path):
    assert len(loaded.texts) == 4
    shutil.rmtree(tmp_path / "cache")
    assert len(inputs.changed(loaded)) == 4
    again = restored(loaded, converter, tmp_path)
    assert inputs.changed(again) == ()
    assert [text.sha256 for text in again.texts] == [text.sha256 for text in loaded.texts]


def test_an_original_that_changed_is_named_whether_or_not_the_cache_has_its_text(loaded, converter, tmp_path):
    (tmp_path / "in/a.pdf").write_bytes(papers.pdf(["another"]))
    assert inputs.changed(loaded) == ("a.pdf",)
    shutil.rmtree(tmp_path / "cache")
    assert inputs.changed(restored(loaded, converter, tmp_path)) == ("a.pdf",)


def test_another_version_of_a_converter_is_named(loaded, converter, tmp_path):
    shutil.rmtree(tmp_path / "cache")
    caught = refusal(made_by("pypdfium2 5.0.0", loaded), converter, tmp_path)
    assert re.search(
        r"pypdfium2 5\.0\.0 made it when the run began, and pypdfium2 [0-9.]+ makes", str(caught)
    )
    assert "pypdfium2==5.0.0" in caught.hint


def test_a_text_of_a_converter_that_is_no_longer_used_needs_the_earlier_release(loaded, converter, tmp_path):
    shutil.rmtree(tmp_path / "cache")
    caught = refusal(made_by("pypdf 5.0.0", loaded), converter, tmp_path)
    assert "pypdf 5.0.0 made it when the run began" in str(caught)
    assert "the release of loop-runner that began it" in caught.hint


def test_originals_that_moved_are_found_and_converted_there(loaded, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.move(tmp_path / "in", elsewhere / "in")
    shutil.move(tmp_path / "project", elsewhere / "project")
    shutil.rmtree(tmp_path / "cache")
    moved = inputs.found_in(loaded, elsewhere)
    again = restored(moved, inputs.Converter(tmp_path / "cache"), tmp_path)
    assert inputs.changed(again) == ()
    assert all(text.origin.path.is_relative_to(elsewhere) for text in again.texts)
