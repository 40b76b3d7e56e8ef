"""Installing the hook into the clients' settings: twice is once, and nothing else changes."""

import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop_runner.agents import install, json_text
from loop_runner.errors import HookError
from tests.support.commands import loop_runner

CLIENTS = ["claude", "codex", "gemini", "cursor", "copilot"]
MINE = """{
    // not this line
    "model": "x",   "list": [1,2,
      3],
    "hooks": {
        "Stop": [ {"hooks": [{"type": "command", "command": "mine"}]} ],
        "PreToolUse": []
    },
    "last": {"a": "\\u00e9 \\\\ \\" }"}
}
""".replace("    // not this line\n", "")


def put(tmp_path, client, undo=False):
    change = (install.uninstall if undo else install.install)(client, tmp_path, {})
    install.write(change)
    return change


@pytest.mark.parametrize("client", CLIENTS)
def test_twice_is_once_and_uninstall_takes_it_out_again(tmp_path, client):
    first = put(tmp_path, client)
    assert install.MARK in first.path.read_text()
    assert not put(tmp_path, client).is_needed
    put(tmp_path, client, undo=True)
    assert not first.path.exists() or install.MARK not in first.path.read_text()
    assert not put(tmp_path, client, undo=True).is_needed


@pytest.mark.parametrize("client", ["claude", "codex"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_the_users_own_hooks_and_every_byte_of_theirs_stay(tmp_path, client, newline):
    path = install.install(client, tmp_path, {}).path
    path.parent.mkdir(parents=True)
    before = MINE.replace("\n", newline).encode()
    path.write_bytes(before)
    put(tmp_path, client)
    data = json.loads(path.read_text())
    assert [item["hooks"][0]["command"] == "mine" for item in data["hooks"]["Stop"]] == [True, False]
    put(tmp_path, client, undo=True)
    assert path.read_bytes() == before


def test_an_entry_of_an_older_copy_is_replaced(tmp_path):
    put(tmp_path, "claude")
    old = install.install("claude", tmp_path, {}, hook=f"/old/python /old/stop.py {install.MARK}")
    install.write(old)
    put(tmp_path, "claude")
    assert (tmp_path / ".claude/settings.json").read_text().count(install.MARK) == 2, "Stop and SessionStart"


@pytest.mark.parametrize(
    "broken",
    [
        '{"hooks": ',
        "[]",
        '{"hooks": []}',
        '{"hooks": {"Stop": {}}}',
        "// c\n{}",
        '{"a": NaN}',
        "\ufeff{}",
        "{}x",
        "3",
    ],
)
def test_a_file_that_cannot_be_read_for_certain_is_left_alone(tmp_path, broken):
    path = tmp_path / ".claude" / "settings.json"
    path.parent.mkdir()
    path.write_text(broken, encoding="utf-8")
    for change in (install.install, install.uninstall):
        with pytest.raises(HookError, match="cannot be changed safely"):
            change("claude", tmp_path, {})
    assert path.read_text(encoding="utf-8") == broken


def test_a_link_stays_a_link_and_permissions_stay(tmp_path):
    real = tmp_path / "dotfiles.json"
    real.write_text("{}")
    real.chmod(0o600)
    (tmp_path / ".claude").mkdir()
    (tmp_path / ".claude" / "settings.json").symlink_to(real)
    put(tmp_path, "claude")
    assert (tmp_path / ".claude" / "settings.json").is_symlink()
    assert real.stat().st_mode & 0o777 == 0o600
    assert "Stop" in real.read_text()


def test_a_dry_run_prints_the_diff_and_writes_nothing(tmp_path):
    done = loop_runner("hook", "install", "claude", "--project", tmp_path, "--dry-run", cwd=tmp_path)
    assert done.returncode == 0
    assert "+++ " in done.stdout
    assert install.MARK in done.stdout
    assert not (tmp_path / ".claude").exists()
    output = json.loads(
        loop_runner("hook", "install", "claude", "--project", tmp_path, "--json", cwd=tmp_path).stdout
    )
    assert (output["changed"], output["dry_run"]) == (True, False)


def test_copilot_needs_a_project(tmp_path):
    with pytest.raises(HookError, match="from a project"):
        install.install("copilot", None, {"HOME": str(tmp_path)})


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(st.text(max_size=5), VALUES, max_size=4),
    st.lists(st.sampled_from("abc"), min_size=1, max_size=3),
    st.sampled_from([None, 2, "\t"]),
)
def test_adding_and_removing_an_item_gives_the_text_back(data, path, indent):
    at = data
    for key in path[:-1]:
        at[key] = at.get(key) if isinstance(at.get(key), dict) else {"other": 1}
        at = at[key]
    at[path[-1]] = [1, {"two": 2}]
    text = json.dumps(data, indent=indent)
    added = json_text.add(text, tuple(path), {"new": ["x"]})
    at[path[-1]].append({"new": ["x"]})
    assert json.loads(added) == data
    assert json_text.remove(added, tuple(path), 2) == text


SHARED_ENTRY = {
    "hooks": {
        "Stop": [
            {"hooks": [{"type": "command", "command": "mine"}, {"type": "command", "command": "BUILT_IN"}]},
            {"hooks": [{"type": "command", "command": "another"}]},
        ]
    }
}


@pytest.mark.parametrize("own", [f"/old/stop.py {install.MARK}", "loop-runner hook stop", install.SHARED])
def test_a_hook_that_shares_an_entry_is_not_installed_twice_and_uninstalled_alone(tmp_path, own):
    path = tmp_path / ".claude" / "settings.json"
    path.parent.mkdir()
    path.write_text(json.dumps(SHARED_ENTRY).replace("BUILT_IN", own))
    put(tmp_path, "claude")
    now = json.loads(path.read_text())["hooks"]["Stop"]
    commands = [hook["command"] for item in now for hook in item["hooks"]]
    assert sorted(commands) == sorted(["mine", "another", install.SHARED])
    assert not put(tmp_path, "claude").is_needed
    put(tmp_path, "claude", undo=True)
    left = json.loads(path.read_text())["hooks"]["Stop"]
    assert [hook["command"] for item in left for hook in item["hooks"]] == ["mine", "another"]


@pytest.mark.parametrize("client", CLIENTS)
def test_a_projects_settings_hold_no_path_of_one_person(tmp_path, client):
    text = put(tmp_path, client).path.read_text()
    assert sys.prefix not in text
    assert "/stop.py" not in text


@pytest.mark.parametrize("client", CLIENTS)
def test_a_project_that_does_not_exist_is_a_mistake_and_no_folder_is_made(tmp_path, client):
    with pytest.raises(HookError, match="there is no folder"):
        put(tmp_path / "typo", client)
    assert not (tmp_path / "typo").exists()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("\ufeff{}", "byte order mark"),
        ("// mine\n{}", "line 1 is a comment"),
        ('{\n  /* mine */\n  "a": 1\n}', "line 2 is a comment"),
        ('\ufeff// mine\n{"a": 1}', "line 1 is a comment"),
        ("[]", "not one JSON object"),
    ],
)
def test_settings_that_are_refused_are_refused_for_a_clear_reason(tmp_path, text, reason):
    path = tmp_path / ".claude" / "settings.json"
    path.parent.mkdir()
    path.write_text(text, encoding="utf-8")
    with pytest.raises(HookError, match=reason):
        put(tmp_path, "claude")
    assert path.read_text(encoding="utf-8") == text


def test_settings_that_switch_all_hooks_off_are_mentioned(tmp_path):
    path = tmp_path / ".claude" / "settings.json"
    path.parent.mkdir()
    path.write_text('{"disableAllHooks": true}')
    ended = loop_runner("hook", "install", "claude", "--project", tmp_path, cwd=tmp_path)
    assert ended.returncode == 0
    assert "disableAllHooks" in ended.stderr
