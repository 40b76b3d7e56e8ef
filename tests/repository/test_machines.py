"""The suite runs the same on every machine, and says what it left out."""

import os
import re
from pathlib import Path

import pytest

from tests import machines
from tests.conftest import reason
from tests.support.isolation import is_personal, isolate

ROOT = Path(__file__).parents[2]


def listed():
    lines = (ROOT / "tests/slow.txt").read_text().splitlines()
    return [line for line in lines if not line.startswith("#")]


def test_every_slow_test_that_is_listed_exists():
    for name in listed():
        file, _, test = name.partition("::")
        assert f"def {test}(" in (ROOT / file).read_text() if test else (ROOT / file).is_file(), name


def test_every_test_of_the_sample_exists():
    for name in (*machines.SAMPLE, *machines.TESTS, *machines.WAYS_OUT):
        file, _, test = name.partition("[")[0].partition("::")
        assert f"def {test}" in (ROOT / file).read_text(), name


@pytest.mark.parametrize(
    "name",
    [
        *("ANTHROPIC_API_KEY", "OPENAI_BASE_URL", "HTTP_PROXY", "https_proxy", "GIT_DIR", "GIT_AUTHOR_NAME"),
        *(
            "PYTHONWARNINGS",
            "PYTHONUTF8",
            "PYTHONHOME",
            "COLUMNS",
            "NO_COLOR",
            "FORCE_COLOR",
            "CI",
            "TZ",
            "LANG",
        ),
        *("GITHUB_ACTIONS", "CLAUDE_CODE_SESSION_ID", "LC_CTYPE", "CODEX_THREAD_ID"),
    ],
)
def test_a_setting_of_the_shell_does_not_reach_a_test(name):
    env = {name: "x", "PATH": "/bin", "HOME": "/home/user"}
    isolate(env)
    assert name not in env
    assert is_personal(name)
    assert (env["PATH"], env["HOME"], env["GIT_CONFIG_GLOBAL"]) == ("/bin", "/home/user", os.devnull)


def test_a_skipped_test_is_counted_by_its_reason():
    class Report:
        longrepr = ("tests/test_x.py", 3, "Skipped: no\n  bubblewrap here")

    assert reason(Report()) == "no bubblewrap here"


def test_the_counts_of_a_run_are_found_in_what_pytest_prints():
    output = "skipped: 2: no bubblewrap\n143 passed, 2 skipped in 3.20s\n"
    assert machines._COUNTS.findall(output) == ["143 passed, 2 skipped in 3.20s"]
    assert machines._SKIPPED.findall(output) == [("2", "no bubblewrap")]


def test_every_condition_is_run():
    assert [re.sub(r"\W+", " ", name) for name in machines.CONDITIONS] == [
        "without bubblewrap and strace",
        "as an ordinary user",
        "with the etc of a full desktop",
        "under LC_ALL C",
        "with a read only HOME",
        "in a path that contains spaces",
    ]


def test_a_run_that_fails_fails_the_target_and_is_shown(tmp_path, monkeypatch, capsys):
    failing = tmp_path / "test_of_this_machine.py"
    failing.write_text("def test_that_fails():\n    assert False\n")
    for name, tests in (("SAMPLE", (str(failing),)), ("TESTS", ()), ("WAYS_OUT", ())):
        monkeypatch.setattr(machines, name, tests)
    assert machines.main(["LC_ALL"]) == 1
    assert "test_that_fails" in capsys.readouterr().out
