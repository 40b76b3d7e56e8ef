import pytest

from loop_runner.serve.service_settings import Settings
from tests.support.service import in_thread, write_models


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder of task files, and the environment of their runs."""
    folder = tmp_path_factory.mktemp("service") / "tasks"
    return folder, write_models(folder)


@pytest.fixture(scope="module")
def service(models):
    folder, env = models
    settings = Settings(
        runs=folder.parent / "runs",
        tasks=folder,
        port=0,
        model=f"script:{folder / 'quoted' / 'script.yaml'}",
        sub_models=(f"script:{folder / 'good' / 'script.yaml'}",),
        max_body_bytes=1 << 20,
        body_timeout_s=1.0,
        grace_s=3600,
    )
    with pytest.MonkeyPatch.context() as patch:
        for name, value in env.items():
            patch.setenv(name, value)
        with in_thread(settings) as running:
            yield running
