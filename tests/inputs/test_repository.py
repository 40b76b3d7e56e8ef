"""Files of a commit are read without a checkout, and a repository's own settings decide nothing."""

from pathlib import Path

import pytest

from loop_runner import inputs
from loop_runner.errors import ConfigError
from tests.support import papers


@pytest.fixture
def repository(tmp_path, git):
    """A repository whose tag v1 has other bytes than its branch and its folder."""
    top = tmp_path / "project"
    top.mkdir()
    git(top, "init", "-q", "-b", "main")
    (top / "docs").mkdir()
    (top / "docs/a.txt").write_text("old words\n")
    (top / "docs/b.pdf").write_bytes(papers.pdf(["first page", "second page"]))
    (top / "src.py").write_text("print('old')\n")
    git(top, "add", "-A")
    git(top, "commit", "-q", "-m", "one")
    git(top, "tag", "v1")
    (top / "docs/a.txt").write_text("new words\n")
    git(top, "commit", "-q", "-am", "two")
    (top / "docs/a.txt").write_text("words on disk\n")
    return top


def texts(result):
    return {text.name: text.path.read_text() for text in result.texts}


def refused(spec, base, converter):
    with pytest.raises(ConfigError) as caught:
        inputs.load([spec], base, converter=converter)
    return str(caught.value)


def test_a_revision_gives_its_own_bytes_with_commit_and_path(repository, converter, git):
    result = inputs.load([{"git": "project", "revision": "v1"}], repository.parent, converter=converter)
    assert texts(result) == {
        "docs/a.txt": "old words\n",
        "docs/b.pdf": "first page\nsecond page\n",
        "src.py": "print('old')\n",
    }
    commit = git(repository, "rev-parse", "v1")
    pdf = papers.origin(result.texts[1])
    assert (pdf.path, pdf.kind, pdf.member) == (repository, "pdf", f"{commit}:docs/b.pdf")
    assert pdf.places == ((1, "page 1"), (2, "page 2"))
    assert not result.is_single


@pytest.mark.parametrize(
    ("more", "names"),
    [
        ({"paths": ["docs"]}, ["docs/a.txt", "docs/b.pdf"]),
        ({"paths": ["**/*.py", "docs/*.txt"]}, ["docs/a.txt", "src.py"]),
        ({"exclude": ["docs"]}, ["src.py"]),
        ({"paths": ["docs"], "exclude": ["*.pdf"], "name": "old"}, ["old/docs/a.txt"]),
    ],
)
def test_paths_and_exclude_choose_among_its_files(repository, converter, more, names):
    result = inputs.load([{"git": str(repository), "revision": "v1", **more}], Path("/"), converter=converter)
    assert [text.name for text in result.texts] == names


def test_path_and_revision_fit_in_one_text(repository, converter):
    result = inputs.load(["project@v1"], repository.parent, converter=converter)
    assert texts(result)["docs/a.txt"] == "old words\n"


def test_a_folder_that_is_really_called_so_is_that_folder(repository, converter):
    (repository.parent / "project@v1").mkdir()
    (repository.parent / "project@v1/x.txt").write_text("a folder\n")
    result = inputs.load(["project@v1"], repository.parent, converter=converter)
    assert texts(result) == {"x.txt": "a folder\n"}


def test_a_worktree_and_a_bare_repository_are_repositories(repository, converter, git, tmp_path):
    git(repository, "worktree", "add", "-q", str(tmp_path / "tree"), "v1")
    git(tmp_path, "clone", "-q", "--bare", str(repository), str(tmp_path / "bare.git"))
    for place in ("tree", "bare.git"):
        result = inputs.load([{"git": place, "revision": "v1"}], tmp_path, converter=converter)
        assert texts(result)["docs/a.txt"] == "old words\n"


@pytest.mark.parametrize("revision", ["--upload-pack=touch /tmp/x", "-v", "--output=x"])
def test_a_revision_that_is_an_option_is_refused(repository, converter, revision):
    assert "is not a revision" in refused(
        {"git": str(repository), "revision": revision}, Path("/"), converter
    )


def test_a_revision_that_is_not_there_is_named(repository, converter):
    assert "no revision 'v9'" in refused({"git": str(repository), "revision": "v9"}, Path("/"), converter)


def test_a_folder_without_a_repository_is_refused(tmp_path, converter):
    assert "is not a git repository" in refused({"git": str(tmp_path)}, Path("/"), converter)


def test_filters_hooks_and_helpers_of_the_repository_are_not_run(repository, converter, tmp_path, git):
    mark = tmp_path / "ran"
    run = f"touch {mark}"
    (repository / ".gitattributes").write_text("* filter=evil diff=evil\n")
    git(repository, "add", ".gitattributes")
    git(repository, "commit", "-q", "-m", "attributes")
    config = (
        f'[core]\n fsmonitor = "{run}"\n sshCommand = "{run}"\n pager = "{run}"\n'
        f' alternateRefsCommand = "{run}"\n'
        f'[filter "evil"]\n smudge = "{run}"\n clean = "{run}"\n process = "{run}"\n'
        f'[diff "evil"]\n textconv = "{run}"\n command = "{run}"\n'
        f'[include]\n path = {tmp_path}/nowhere\n[alias]\n ls-tree = "!{run}"\n cat-file = "!{run}"\n'
    )
    with (repository / ".git/config").open("a") as file:
        file.write(config)
    result = inputs.load([{"git": str(repository)}], Path("/"), converter=converter)
    assert texts(result)["docs/a.txt"] == "new words\n"
    assert not mark.exists()


def test_a_missing_object_is_never_fetched(repository, converter, tmp_path, git):
    mark = tmp_path / "fetched"
    blob = git(repository, "rev-parse", "v1:src.py")
    (repository / ".git/objects" / blob[:2] / blob[2:]).unlink()
    with (repository / ".git/config").open("a") as file:
        file.write(
            "[core]\n repositoryformatversion = 1\n[extensions]\n partialClone = evil\n"
            f'[remote "evil"]\n url = ext::sh -c "touch {mark}"\n promisor = true\n'
            '[protocol "ext"]\n allow = always\n'
        )
    result = inputs.load([{"git": str(repository), "revision": "v1"}], Path("/"), converter=converter)
    assert "src.py" not in texts(result)
    assert "broken: the repository does not have it" in result.skipped[0][1]
    assert not mark.exists()


def test_objects_of_another_repository_are_not_reached(repository, converter, tmp_path, git):
    top = tmp_path / "thief"
    top.mkdir()
    git(top, "init", "-q")
    (top / ".git/objects/info/alternates").write_text(f"{repository}/.git/objects\n")
    commit = git(repository, "rev-parse", "v1")
    output = refused({"git": str(top), "revision": commit}, Path("/"), converter)
    assert "no revision" in output
    (tmp_path / "link").mkdir()
    (tmp_path / "link/.git").write_text(f"gitdir: {repository}/.git\n")
    output = refused({"git": str(tmp_path / "link"), "revision": "v1"}, Path("/"), converter)
    assert "a repository that the task does not name" in output


def test_links_and_submodules_are_left_out_with_a_reason(repository, converter, git):
    (repository / "link").symlink_to("/etc/passwd")
    git(repository, "add", "link")
    commit = git(repository, "rev-parse", "v1")
    git(repository, "update-index", "--add", "--cacheinfo", f"160000,{commit},module")
    git(repository, "commit", "-q", "-m", "three")
    result = inputs.load([{"git": "project"}], repository.parent, converter=converter)
    assert dict(result.skipped) == {
        "project@HEAD/link": "a link",
        "project@HEAD/module": "not a regular file",
    }
