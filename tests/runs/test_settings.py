"""Settings: where each value comes from, what a project may not set, and mistakes."""

import json
import os
import time

import pytest
from click.testing import CliRunner

from loop_runner.cli import main_group
from loop_runner.errors import ConfigError
from loop_runner.runs import preferences
from tests.support.commands import loop_runner
from tests.support.tasks import ready, write_task


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A home with settings of the user, and a project below it that is the current folder."""
    home, project = tmp_path / "home", tmp_path / "project"
    project.mkdir()
    home.mkdir()
    (project / ".git").mkdir()
    monkeypatch.setenv("LOOP_RUNNER_CONFIG", str(home / "config.toml"))
    monkeypatch.setenv("LOOP_RUNNER_STATE", str(home / "state"))
    monkeypatch.chdir(project)
    return home, project


def own(place, text):
    (place[0] / "config.toml").write_text(text)


def shared(place, text):
    (place[1] / ".loop-runner.toml").write_text(text)


def settings_at(place):
    return preferences.read(os.environ, place[1])


def test_a_project_wins_over_the_user_where_it_may(place):
    own(place, 'model = "anthropic:a"\nsub_model = "anthropic:b"\n')
    shared(place, 'model = "openai:c"\n')
    values = settings_at(place).values
    assert (values["model"].value, values["model"].origin) == (
        "openai:c",
        str(place[1] / ".loop-runner.toml"),
    )
    assert (values["sub_model"].value, values["sub_model"].origin) == (
        "anthropic:b",
        str(place[0] / "config.toml"),
    )


def test_a_folder_below_has_the_projects_settings_and_one_above_has_not(place):
    shared(place, 'model = "openai:c"\n')
    (place[1] / "a" / "b").mkdir(parents=True)
    assert preferences.read(os.environ, place[1] / "a" / "b").get("model") == "openai:c"
    assert preferences.read(os.environ, place[1].parent).get("model") is None


def test_the_search_ends_at_the_top_of_the_repository(place):
    (place[1].parent / ".loop-runner.toml").write_text('model = "openai:above"\n')
    assert settings_at(place).get("model") is None


@pytest.mark.parametrize(
    "line",
    [
        'notify = ["json://example.org"]',
        'notify = [{command = ["touch", "/tmp/x"]}]',
        'notify = [{webhook = "https://example.org", secret = "S"}]',
        'model = "program:sh -c x"',
        'model = "script:evil.yaml"',
        'model = "manual:somewhere"',
        'model = "local:/tmp/model.gguf"',
        'sub_model = "plugin:x"',
        'runs = "/tmp/elsewhere"',
        'runs = "../elsewhere"',
        'runs = "~/elsewhere"',
    ],
)
def test_a_projects_file_starts_no_program_and_sends_no_data_without_consent(place, line):
    shared(place, line + "\n")
    (name,) = settings_at(place).ignored
    assert settings_at(place).values == {}
    assert "loop-runner config trust" in settings_at(place).ignored[name].ignored
    preferences.trust_project(place[1] / ".loop-runner.toml", os.environ)
    assert settings_at(place).values.keys() == {name}


def test_consent_is_for_the_file_as_it_is(place):
    shared(place, 'notify = [{command = ["true"]}]\n')
    preferences.trust_project(place[1] / ".loop-runner.toml", os.environ)
    shared(place, 'notify = [{command = ["false"]}]\n')
    assert settings_at(place).values == {}


def test_a_link_out_of_the_project_is_no_folder_inside_it(place):
    (place[1] / "out").symlink_to(place[0])
    shared(place, 'runs = "out/runs"\n')
    assert settings_at(place).values == {}


def test_a_limit_on_spending_is_the_users_alone_even_with_consent(place):
    own(place, "spend = {usd_per_day = 5}\n")
    shared(place, "[spend]\nusd_per_day = 500\n")
    preferences.trust_project(place[1] / ".loop-runner.toml", os.environ)
    assert settings_at(place).get("spend.usd_per_day") == 5.0
    assert settings_at(place).ignored.keys() == {"spend.usd_per_day"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("modle = 'x'", "did you mean `model`"),
        ("model = 3", "takes a text"),
        ("display = 'loud'", "takes one of"),
        ("spend = {usd_per_day = -1}", "takes a number"),
        ("spend = {usd_per_day = true}", "takes a number"),
        ("spend = {usd_per_day = nan}", "takes a number"),
        ("spend = {usd = 3}", "no setting `spend.usd`"),
        ("notify = [3]", "takes a list of targets"),
        ("notify = 'nonsense'", "takes a list of targets"),
        ("model = ", "cannot be read"),
        ("\x00", "cannot be read"),
    ],
)
def test_a_mistake_names_the_file_and_the_setting(place, text, message):
    own(place, text)
    with pytest.raises(ConfigError) as caught:
        settings_at(place)
    assert message in str(caught.value)
    assert "config.toml" in caught.value.message


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_what_is_no_file_is_no_settings(place, make):
    make(place[0] / "config.toml")
    assert settings_at(place).values == {}


def config(*args, exit_code=0):
    result = CliRunner().invoke(main_group, ["config", *args])
    assert result.exit_code == exit_code, result.output or result.exception
    return result.output


def test_show_names_the_origin_and_shows_no_address(place):
    own(place, 'notify = ["slack://TokenA/TokenB"]\nmodel = "anthropic:a"\n')
    shown = config("show", "--origin")
    assert f'model = "anthropic:a"   # {place[0] / "config.toml"}' in shown
    assert "TokenA" not in shown
    data = json.loads(config("show", "--json"))
    assert data["settings"]["model"]["origin"] == str(place[0] / "config.toml")
    assert "TokenA" not in json.dumps(data)


def test_trust_names_what_it_trusts(place):
    shared(place, 'notify = [{command = ["true"]}]\n')
    assert "ignored" in config("show")
    assert ".loop-runner.toml" in config("trust")
    assert "ignored" not in config("show")


def test_trust_without_a_file_is_an_error(place):
    with pytest.raises(ConfigError, match="there is no"):
        CliRunner().invoke(main_group, ["config", "trust"], catch_exceptions=False)


def test_a_test_message_says_who_took_it(place):
    own(place, 'notify = [{command = ["true"]}, {command = ["false"]}]\n')
    result = CliRunner().invoke(main_group, ["config", "test-notify"], standalone_mode=False)
    shown = result.output
    assert result.return_value == 4
    assert "ok       command true" in shown
    assert "FAILED   command false" in shown


@pytest.mark.slow
def test_a_run_uses_the_settings_and_sends_its_end(place):
    """One run with all of it: the model and the folder of the project, the user's notification and limit."""
    home, project = place
    write_task(project, root=[ready("42")], model=None)
    (project / "task.yaml").write_text((project / "task.yaml").read_text().replace("model: null\n", ""))
    code = f"import sys; open({str(home / 'sent')!r}, 'w').write(sys.stdin.read())"
    own(
        place,
        f"notify = [{{command = ['python3', '-c', {json.dumps(code)}]}}]\nspend = {{usd_per_day = 5}}\n",
    )
    shared(place, 'model = "script:script.yaml"\nruns = "my-runs"\n')
    preferences.trust_project(project / ".loop-runner.toml", os.environ)
    env = {name: os.environ[name] for name in ("LOOP_RUNNER_CONFIG", "LOOP_RUNNER_STATE")}
    done = loop_runner("run", "task.yaml", "-q", cwd=project, env=env)
    assert done.returncode == 0, done.stderr
    assert (project / "my-runs" / "scripted" / "proof.json").is_file()
    for _ in range(100):
        if (home / "sent").is_file() and (home / "sent").read_text():
            break
        time.sleep(0.1)
    assert json.loads((home / "sent").read_text())["event"] == "verified"
