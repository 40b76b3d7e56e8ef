"""What a library looks for is absent or readable, in every tier; also with a desktop's ``/etc``."""

import json
import subprocess
import sys

import pytest

from loop_runner.sandbox.wrap import Limits
from tests.escapes.stdlib_calls import CALLS, PROGRAM, expected_in_plain_b
from tests.support import desktop
from tests.support.confined import BUBBLEWRAP, SOURCE, TIERS, run

NAMES = [name for name in TIERS if BUBBLEWRAP or not name.startswith("A")]
_IN_A_DESKTOP = """
import json, sys
from pathlib import Path
from loop_runner.sandbox.wrap import Limits
from tests.support.confined import TIERS, run
from tests.escapes.stdlib_calls import CALLS, PROGRAM
ran = run(TIERS[sys.argv[1]], Path(sys.argv[2]), PROGRAM, json.dumps(CALLS), limits=Limits())
sys.exit(ran.err) if ran.code else print(ran.out)
"""


def _own_mounts_or_skip(name):
    if name == "B with its own root" and not desktop.can_be_made():
        pytest.skip("OWN ROOT UNTESTED: this user may not make mounts")


def _check(name, seen):
    assert list(seen) == list(CALLS)
    failed = {call: result for call, result in seen.items() if result != "works"}
    allowed = expected_in_plain_b() if name == "B" else set()
    assert failed.keys() <= allowed, failed


@pytest.mark.parametrize("name", NAMES)
def test_the_standard_library_works(name, tmp_path):
    _own_mounts_or_skip(name)
    ran = run(TIERS[name], tmp_path, PROGRAM, json.dumps(CALLS), limits=Limits())
    assert ran.code == 0, ran.err
    _check(name, json.loads(ran.out))


@pytest.mark.skipif(not desktop.can_be_made(), reason="DESKTOP UNTESTED: this user may not make mounts")
@pytest.mark.parametrize("name", NAMES)
def test_the_standard_library_works_with_the_files_of_a_full_desktop(name, tmp_path):
    tmp_path.chmod(0o755)
    place = tmp_path / "machine"
    place.mkdir()
    argv = desktop.command([sys.executable, "-c", _IN_A_DESKTOP, name, str(tmp_path)], place)
    done = subprocess.run(argv, cwd=SOURCE, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    _check(name, json.loads(done.stdout))


def test_the_table_of_the_docs_is_what_is_expected_here():
    page = (
        (SOURCE / "docs" / "claims.md").read_text().partition("| call | A | B, own root | B, no mounts |")[2]
    )
    table = page.partition("\n\n")[0]
    rows = [line for line in table.splitlines() if line[:3] == "| `"]
    assert [row.split("`")[1] for row in rows] == list(CALLS)
    for row in rows:
        works_everywhere = row.endswith("| works | works | works |")
        assert works_everywhere == (row.split("`")[1] not in expected_in_plain_b()), row
