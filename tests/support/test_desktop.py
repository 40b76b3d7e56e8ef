"""The made-up desktop is what it says it is."""

import os
import subprocess

import pytest

from tests.support import desktop
from tests.support.confined import IS_ROOT, ORDINARY_UID

pytestmark = pytest.mark.skipif(not desktop.can_be_made(), reason="this user may not make mounts")


def _run(argv, folder, **options):
    return subprocess.run(
        desktop.command(argv, folder, **options), capture_output=True, text=True, check=True
    ).stdout


def test_a_program_sees_the_files_of_a_desktop_and_this_machine_keeps_its_own(tmp_path):
    before = sorted(os.listdir("/etc"))
    assert "desktoptype" in _run(["cat", "/etc/mime.types"], tmp_path)
    assert sorted(os.listdir("/etc")) == before


@pytest.mark.skipif(not IS_ROOT, reason="only root may become another user")
def test_a_program_can_become_an_ordinary_user_who_cannot_read_secrets(tmp_path):
    tmp_path.chmod(0o755)
    shell = "id -u; cat /etc/desktop.secret 2>/dev/null || echo refused"
    out = _run(["sh", "-c", shell], tmp_path, uid=ORDINARY_UID)
    assert out.split() == [str(ORDINARY_UID), "refused"]
