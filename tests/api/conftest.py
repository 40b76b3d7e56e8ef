import pytest

from tests.support.tasks import write_task


@pytest.fixture(autouse=True)
def own_state(tmp_path, monkeypatch):
    """A current folder, a cache and a state folder of the test's own."""
    monkeypatch.setenv("LOOP_RUNNER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LOOP_RUNNER_STATE", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def script(tmp_path):
    """Gives the model id of a script with these root replies."""

    def make(*replies, sub=()):
        folder = tmp_path / f"script{len(list(tmp_path.glob('script*')))}"
        write_task(folder, root=replies, sub=sub)
        return f"script:{folder / 'script.yaml'}"

    return make
