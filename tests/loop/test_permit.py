"""A run that works under a lease sends nothing after the moment that its permit names."""

import pytest

from loop_runner.loop.stopping import Stop
from loop_runner.process import PERMIT, permit_in, permit_moment


def in_seconds(seconds):
    return str(permit_moment(seconds))


def test_without_a_permit_file_a_run_may_send_for_ever():
    assert permit_in({})()


def test_a_permit_holds_until_its_moment_and_is_read_again_each_time(tmp_path):
    path = tmp_path / "permit"
    path.write_text(in_seconds(60))
    stop = Stop()
    stop.permit = permit_in({PERMIT: str(path)})
    assert (stop(), stop.is_urgent) == (False, False)
    path.write_text(in_seconds(-1))
    assert (stop(), stop.is_urgent) == (True, True)
    path.write_text(in_seconds(60))
    assert not stop()


@pytest.mark.parametrize("content", [None, "", "soon", "-1"])
def test_a_permit_that_is_missing_or_not_a_moment_permits_nothing(tmp_path, content):
    path = tmp_path / "permit"
    if content is not None:
        path.write_text(content)
    assert not permit_in({PERMIT: str(path)})()
