"""What counts as an input, what it is called, and what is said about the rest."""

import hashlib
import os
import socket
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop_runner.errors import ConfigError, WorkspaceError
from loop_runner.inputs import changed, from_json, load, read_bytes, to_json


@pytest.fixture
def tree(tmp_path):
    """Make files under ``tmp_path`` from names and contents."""

    def make(**files):
        for name, content in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return tmp_path

    return make


def names(inputs):
    return [text.name for text in inputs.texts]


def reasons(inputs):
    return {path.rsplit("/", 1)[-1]: reason for path, reason in inputs.skipped}


def refused(*args, **kwargs):
    with pytest.raises(ConfigError) as caught:
        load(*args, **kwargs)
    assert caught.value.why
    assert caught.value.hint
    return caught.value


# ── files, folders, globs ───────────────────────────────────────────────────────────────────────────


def test_a_file_by_its_own_path_is_a_single_text(tree):
    base = tree(**{"docs/a.txt": "hällo"})
    inputs = load(["docs/a.txt"], base)
    (text,) = inputs.texts
    assert inputs.is_single
    assert (text.name, text.path, text.size_bytes, text.replaced_bytes) == (
        "a.txt",
        base / "docs/a.txt",
        6,
        0,
    )
    assert text.sha256 == hashlib.sha256("hällo".encode()).hexdigest()


def test_a_folder_is_walked_in_sorted_order_with_names_relative_to_it(tree):
    base = tree(**{"d/b.txt": "b", "d/a/z.txt": "z", "d/a/y/x.txt": "x", "other.txt": "o"})
    inputs = load(["d"], base)
    assert names(inputs) == ["a/y/x.txt", "a/z.txt", "b.txt"]
    assert not inputs.is_single


def test_a_folder_with_one_file_is_not_single(tree):
    assert not load(["d"], tree(**{"d/a.txt": "a"})).is_single


@pytest.mark.parametrize(
    ("pattern", "result"),
    [
        ("d/*.md", ["a.md"]),
        ("d/**/*.md", ["a.md", "x/b.md", "x/y/c.md"]),
        ("d/**", ["a.md", "a.txt", "x/b.md", "x/y/c.md"]),
        ("d/*/*.md", ["x/b.md"]),
        ("d/x/[bc].md", ["b.md"]),
        ("d/?.txt", ["a.txt"]),
        ("**/c.md", ["d/x/y/c.md"]),
    ],
)
def test_a_glob_takes_the_files_that_match(tree, pattern, result):
    base = tree(**{"d/a.md": "a", "d/a.txt": "a", "d/x/b.md": "b", "d/x/y/c.md": "c", "e.md": "e"})
    assert names(load([pattern], base)) == result


def test_a_file_whose_name_looks_like_a_glob_is_that_file(tree):
    assert names(load(["a[1].txt"], tree(**{"a[1].txt": "x", "a1.txt": "y"}))) == ["a[1].txt"]


def test_absolute_paths_need_no_base(tree, tmp_path):
    base = tree(**{"a.txt": "a"})
    assert names(load([str(base / "a.txt"), {"path": str(base / "*.txt")}], tmp_path / "elsewhere")) == [
        "a.txt"
    ]


def test_no_specs_give_no_texts(tmp_path):
    assert load([], tmp_path).texts == ()


# ── what is left out ────────────────────────────────────────────────────────────────────────────────


def test_each_file_left_out_of_a_folder_has_its_reason(tree):
    base = tree(
        **{
            "d/good.txt": "text",
            "d/.hidden": "h",
            "d/.git/config": "g",
            "d/__pycache__/a.pyc": "p",
            "d/sub/node_modules/a.js": "n",
            "d/empty.txt": "",
            "d/nul.bin": b"abc\0def",
            "d/a.pdf": b"%PDF-1.4 text only",
            "d/wide.txt": "wide".encode("utf-16"),
            "d/no.log": "l",
        }
    )
    os.mkfifo(base / "d/pipe")
    (base / "d/loop").symlink_to("..")
    (base / "d/gone").symlink_to("nowhere")
    (base / "d/out").symlink_to(base / "outside.txt")
    (base / "outside.txt").write_text("secret")
    (base / "d/twin").symlink_to("good.txt")
    (base / "d" / "line\nfeed.txt").write_text("x")
    inputs = load(["d"], base, exclude=["*.log"])
    assert names(inputs) == ["good.txt"]
    assert reasons(inputs) == {
        ".hidden": "hidden",
        ".git": "a tool's folder",
        "__pycache__": "a tool's folder",
        "node_modules": "a tool's folder",
        "empty.txt": "empty",
        "nul.bin": "binary: it holds NUL bytes",
        "a.pdf": "binary: a PDF",
        "wide.txt": "binary: UTF-16 text",
        "no.log": "excluded",
        "pipe": "not a regular file",
        "loop": "a link to a folder",
        "gone": "a link to nothing",
        "out": "a link that leads out of the folder",
        "twin": "the same file as good.txt",
        "line\nfeed.txt": "its name holds control characters or is not UTF-8",
    }


def test_a_name_that_is_not_utf8_is_skipped_and_said_in_plain_letters(tree):
    base = tree(**{"d/a.txt": "a"})
    with open(os.fsencode(base / "d") + b"/caf\xe9.txt", "wb") as file:
        file.write(b"x")
    inputs = load(["d"], base)
    assert names(inputs) == ["a.txt"]
    inputs.skipped[0][0].encode("utf-8")


def test_a_root_inside_a_tools_folder_is_taken(tree):
    base = tree(**{"venv/lib/site-packages/pkg/a.py": "a", "venv/lib/site-packages/pkg/venv/b.py": "b"})
    assert names(load(["venv/lib/site-packages/pkg"], base)) == ["a.py"]
    assert names(load([".hidden/a.txt"], tree(**{".hidden/a.txt": "a"}))) == ["a.txt"]


@pytest.mark.parametrize(
    ("exclude", "left"),
    [
        (["b.txt"], ["a.txt", "x/y/c.md"]),
        (["x"], ["a.txt"]),
        (["x/b.txt"], ["a.txt", "x/y/c.md"]),
        (["x/"], ["a.txt"]),
        (["**/*.md"], ["a.txt", "x/b.txt"]),
        (["*.txt", "y"], []),
        (["x/**"], ["a.txt"]),
        (["?.txt"], ["x/y/c.md"]),
    ],
)
def test_exclude_patterns_name_parts_or_whole_names(tree, exclude, left):
    base = tree(**{"d/a.txt": "a", "d/x/b.txt": "b", "d/x/y/c.md": "c"})
    if left:
        assert names(load(["d"], base, exclude=exclude)) == left
        assert names(load([{"path": "d", "exclude": exclude}], base)) == left
    else:
        assert "(excluded)" in refused(["d"], base, exclude=exclude).why


# ── names ───────────────────────────────────────────────────────────────────────────────────────────


def test_names_that_collide_are_told_apart_by_their_roots(tree):
    base = tree(**{"one/a.txt": "1", "one/b.txt": "b", "two/a.txt": "2", "three/c.txt": "3"})
    assert names(load(["one", "two", "three"], base)) == ["one/a.txt", "one/b.txt", "two/a.txt", "c.txt"]


def test_roots_with_the_same_folder_name_go_one_part_further(tree):
    base = tree(**{"p/src/a.txt": "1", "q/src/a.txt": "2"})
    assert names(load(["p/src", "q/src"], base)) == ["p/src/a.txt", "q/src/a.txt"]


def test_files_with_the_same_name_are_told_apart_by_their_folders(tree):
    base = tree(**{"one/notes.txt": "1", "two/notes.txt": "2"})
    assert names(load(["one/notes.txt", "two/notes.txt"], base)) == ["one/notes.txt", "two/notes.txt"]


def test_the_same_file_given_twice_is_one_text(tree):
    base = tree(**{"d/a.txt": "a", "d/b.txt": "b"})
    inputs = load(["d/a.txt", "d", "d/**"], base)
    assert names(inputs) == ["a.txt", "b.txt"]
    assert ("d/a.txt", "the same file as a.txt") in inputs.skipped


def test_a_name_of_the_users_own_is_used(tree):
    base = tree(**{"d/a.txt": "a", "e.txt": "e"})
    inputs = load([{"path": "d", "name": "docs"}, {"path": "e.txt", "name": "the end"}], base)
    assert names(inputs) == ["docs/a.txt", "the end"]


def test_two_names_of_the_users_own_that_collide_are_refused(tree):
    base = tree(**{"a.txt": "a", "b.txt": "b"})
    error = refused([{"path": "a.txt", "name": "n"}, {"path": "b.txt", "name": "n"}], base)
    assert "two inputs have the name 'n'" in error.message


# ── what is refused ─────────────────────────────────────────────────────────────────────────────────


def test_a_missing_input_names_the_nearest(tree):
    error = refused(["docs/contract.text"], tree(**{"docs/contract.txt": "c"}))
    assert "'docs/contract.text' does not exist" in error.message
    assert error.hint == "did you mean 'contract.txt'?"


def test_a_missing_folder_and_an_empty_glob_are_refused(tree):
    base = tree(**{"a.txt": "a"})
    assert "does not exist" in refused(["nowhere/x/y"], base).message
    assert "does not exist" in refused(["nowhere/*.md"], base).message
    assert "nothing to read in *.md" in refused(["*.md"], base).message


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"a\0b", "binary: it holds NUL bytes"),
        (b"PK\x03\x04more", "binary: a zip archive"),
    ],
)
def test_a_file_by_its_own_path_that_is_no_text_is_refused(tree, content, reason):
    error = refused(["f"], tree(f=content))
    assert f"input 'f' cannot be used: {reason}" in error.message


def test_pipes_sockets_and_devices_are_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert "not a regular file" in refused(["pipe"], tmp_path).message
    assert "not a regular file" in refused(["/dev/zero"], tmp_path).message
    with socket.socket(socket.AF_UNIX) as item:
        item.bind(str(tmp_path / "sock"))
        assert "cannot be used" in refused(["sock"], tmp_path).message


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_refused_and_skipped_in_a_folder(tree):
    base = tree(**{"d/a.txt": "a", "d/b.txt": "b"})
    (base / "d/a.txt").chmod(0)
    assert "permission denied" in refused(["d/a.txt"], base).message
    assert reasons(load(["d"], base)) == {"a.txt": "permission denied"}


def test_a_folder_with_nothing_to_read_is_refused_with_what_was_left_out(tree):
    error = refused(["d"], tree(**{"d/a.bin": b"\0", "d/b.txt": ""}))
    assert "nothing to read in d" in error.message
    assert "d/a.bin (binary: it holds NUL bytes); d/b.txt (empty)" in error.why


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"pth": "a"}, "did you mean 'path'?"),
        ({"path": "a", "x": 1}, "the keys are path, exclude, name and convert"),
        ({}, "is not written as expected"),
        ({"path": 5}, "is not written as expected"),
        ({"path": "a", "exclude": [5]}, "is not written as expected"),
        ({"path": "a", "exclude": 5}, "is not written as expected"),
        ({"path": "a", "name": ""}, "is not written as expected"),
        ({"path": "a", "name": "x\ny"}, "is not written as expected"),
        ({"path": "a\0b"}, "its name has a line break or another control character"),
        ("", "is not written as expected"),
        (5, "is not written as expected"),
    ],
)
def test_a_spec_with_a_mistake_is_refused(tmp_path, spec, message):
    assert message in str(refused([spec], tmp_path))


def test_a_path_longer_than_paths_can_be_is_refused(tmp_path):
    assert "file name too long" in refused(["x" * 5000], tmp_path).message
    assert "home directory" in refused(["~no-such-user-at-all/x"], tmp_path).message


# ── bytes ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("data", "count"),
    [
        (b"plain", 0),
        ("ünïcödé €😀".encode(), 0),
        (b"caf\xe9", 1),
        (b"a\xff\xfeb", 2),
        (b"a\xe2\x82", 2),
        (b"x" * (1 << 20) + b"\xe9", 1),
        (b"x" * ((1 << 20) - 1) + "€".encode() + b"y", 0),
        (b"x" * ((1 << 20) - 1) + b"\xe2\x82" + b"y", 2),
    ],
)
def test_bytes_that_are_not_utf8_are_counted(tree, data, count):
    assert load(["f"], tree(f=data)).texts[0].replaced_bytes == count


@given(st.binary(min_size=1, max_size=200).filter(lambda data: b"\0" not in data))
def test_the_count_is_what_reading_would_lose(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("x") / "f"
    path.write_bytes(b"_" + data)
    kept = (b"_" + data).decode("utf-8", "ignore").encode()
    assert load([str(path)], path.parent).texts[0].replaced_bytes == len(data) + 1 - len(kept)


def test_nul_bytes_far_behind_do_not_make_a_file_binary(tree):
    assert load(["f"], tree(f=b"x" * 9000 + b"\0")).texts


def test_changed_names_what_differs_or_is_gone(tree):
    base = tree(**{"d/a.txt": "aaaa", "d/b.txt": "b", "d/c.txt": "c", "d/e.txt": "e"})
    inputs = load(["d"], base)
    assert changed(inputs) == ()
    (base / "d/a.txt").write_text("aaab")
    (base / "d/b.txt").unlink()
    (base / "d/c.txt").unlink()
    os.mkfifo(base / "d/c.txt")
    assert changed(inputs) == ("a.txt", "b.txt", "c.txt")


def test_a_text_is_read_only_when_it_is_still_the_same(tree):
    base = tree(f="text")
    (text,) = load(["f"], base).texts
    assert read_bytes(text) == b"text"
    (base / "f").write_text("next")
    with pytest.raises(ConfigError, match="input 'f' has changed"):
        read_bytes(text)


# ── inputs.json ─────────────────────────────────────────────────────────────────────────────────────


def test_json_gives_back_the_same_inputs(tree):
    base = tree(**{"d/a.txt": "ä", "d/b": b"\xff", "d/c": ""})
    inputs = load(["d"], base)
    assert from_json(to_json(inputs)) == inputs
    assert from_json(to_json(inputs, base), base) == inputs


def test_inputs_that_moved_with_their_base_are_found(tree, tmp_path):
    base = tree(**{"here/d/a.txt": "a"}) / "here"
    text = to_json(load(["d"], base), base)
    base.rename(tmp_path / "there")
    moved = from_json(text, tmp_path / "there")
    assert moved.texts[0].path == tmp_path / "there/d/a.txt"
    assert changed(moved) == ()
    assert changed(from_json(text)) == ("a.txt",)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"format": 1}', '{"format": 1, "texts": [{}]}', "null"]
)
def test_a_damaged_listing_is_a_clear_error(text):
    with pytest.raises(WorkspaceError, match=r"inputs\.json cannot be read"):
        from_json(text)


def test_a_listing_of_a_newer_format_is_refused():
    with pytest.raises(WorkspaceError, match="format 2"):
        from_json('{"format": 2}')


def test_two_thousand_files_are_taken_in_quickly(tmp_path):
    for number in range(2000):
        path = tmp_path / f"d{number % 40}" / f"{number}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"some text of a file\n" * 500)
    started = time.process_time()
    assert len(load(["."], tmp_path).texts) == 2000
    assert time.process_time() - started < 5  # measured: 0.15 s
