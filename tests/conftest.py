import os
import tempfile

from tests.support.model_server import model_server

__all__ = ["model_server"]


def pytest_configure():
    """Marks of run folders that tests create are kept apart from the user's own."""
    os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp(prefix="loop-runner-tests-state-")


def pytest_unconfigure():
    import shutil

    shutil.rmtree(os.environ["XDG_STATE_HOME"], ignore_errors=True)
