"""What ships for CI, without its services: each file fits its published schema, and its shell really runs."""

import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

from tests.audit.conftest import SHOP
from tests.support.commands import clean_environment
from tests.support.documents import ROOT
from tests.support.git import git

ACTION = yaml.safe_load((ROOT / "action.yml").read_text())
GITLAB = yaml.safe_load((ROOT / "templates" / "audit.gitlab-ci.yml").read_text())
STEPS = ACTION["runs"]["steps"]
(AUDIT,) = (step for step in STEPS if step.get("id") == "audit")


def schema(name):
    """A schema of SchemaStore's, as check-jsonschema carries it; the package itself is not imported."""
    spec = importlib.util.find_spec("check_jsonschema")
    if spec is None:
        pytest.skip("check-jsonschema comes with the extra [dev]")
    assert spec.submodule_search_locations
    folder = spec.submodule_search_locations[0]
    return json.loads((Path(folder) / "builtin_schemas" / "vendor" / f"{name}.json").read_text())


@pytest.mark.parametrize(("name", "data"), [("github-actions", ACTION), ("gitlab-ci", GITLAB)])
def test_the_files_fit_the_published_schemas(name, data):
    jsonschema.validators.validator_for(schema(name))(schema(name)).validate(data)


def test_no_text_of_a_workflow_becomes_part_of_a_script():
    for step in STEPS:
        assert "${{" not in step.get("run", "")


def test_every_input_is_used_and_every_one_used_is_there():
    used = set(re.findall(r"inputs\.([a-z-]+)", yaml.safe_dump([ACTION["runs"], ACTION["outputs"]])))
    assert used == set(ACTION["inputs"])


def caches():
    return [
        next(step for step in STEPS if step.get("uses", "").startswith(f"actions/cache/{which}"))
        for which in ("restore", "save")
    ]


def test_the_cache_is_kept_also_when_the_job_is_cancelled():
    restore, save = caches()
    assert save["if"] == "always() && steps.audit.outputs.nothing-new != 'true'"
    assert restore["with"]["path"] == save["with"]["path"]
    assert save["with"]["path"] == "${{ inputs.working-directory }}/${{ inputs.runs }}"
    assert restore["with"]["key"] == save["with"]["key"]


def test_every_action_is_pinned_by_its_commit():
    used = [step["uses"] for step in STEPS if "uses" in step]
    assert used
    assert all(re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", item) for item in used)


def test_dependencies_are_installed_by_hash_and_without_a_key():
    (install,) = (step for step in STEPS if step.get("name") == "Install")
    assert "--require-hashes" in install["run"]
    assert {"ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "OPENAI_API_KEY"} <= set(install["env"])
    script = "\n".join(GITLAB["loop-runner-audit"]["before_script"])
    assert "--require-hashes" in script
    pips = [line for line in script.splitlines() if "pip install" in line]
    assert all(line.lstrip().startswith("keyless ") for line in pips)
    lock = (ROOT / "requirements" / "runtime.txt").read_text()
    assert "--hash=sha256:" in lock


def test_later_steps_keep_their_python():
    (python,) = (step for step in STEPS if step.get("uses", "").startswith("actions/setup-python"))
    assert python["with"]["update-environment"] is False
    assert not any("GITHUB_PATH" in step.get("run", "") for step in STEPS)


@pytest.mark.parametrize("other", [{"rules": "b.yaml"}, {"paths": "lib"}, {"working-directory": "sub"}])
def test_two_audits_of_one_workflow_have_two_caches(runner, tmp_path, other):
    (name,) = (step for step in STEPS if step.get("id") == "cache")
    restore, _ = caches()
    assert "${{ steps.cache.outputs.name }}" in restore["with"]["key"]
    python = {"AUDIT_PYTHON": sys.executable}
    for inputs in ({"rules": "a.yaml"}, {"rules": "a.yaml"} | other, {"rules": "a.yaml"}):
        ended = runner(name["run"], action_variables(name, **inputs) | python)
        assert ended.returncode == 0, ended.stderr
    first, second, third = (tmp_path / "GITHUB_OUTPUT").read_text().splitlines()
    assert first == third != second


def test_the_gitlab_job_says_when_it_runs():
    conditions = [rule["if"] for rule in GITLAB["loop-runner-audit"]["rules"]]
    assert any("merge_request_event" in condition for condition in conditions)
    assert any("CI_DEFAULT_BRANCH" in condition for condition in conditions)


@pytest.fixture
def runner(project, tmp_path):
    """Runs a script of a CI system as it would, with this checkout in the place of an installed one."""
    folder = tmp_path / "runner" / "loop-runner" / "bin"
    folder.mkdir(parents=True)
    command = folder / "loop-runner"
    python = f"PYTHONPATH={shlex.quote(str(ROOT))} exec {shlex.quote(sys.executable)}"
    command.write_text(f'#!/bin/sh\n{python} -m loop_runner "$@"\n')
    command.chmod(0o755)

    def run(script, variables, shell=("bash", "--noprofile", "--norc", "-e", "-o", "pipefail"), cwd=""):
        files = {name: tmp_path / name for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
        for path in files.values():
            path.touch()
        env = {
            **{key: value for key, value in clean_environment().items() if not key.startswith("GITHUB_")},
            **{name: str(path) for name, path in files.items()},
            "RUNNER_TEMP": str(tmp_path / "runner"),
            "PATH": f"{folder}:{os.environ['PATH']}",
            **variables,
        }
        place = tmp_path / "step.sh"
        place.write_text(script)
        return subprocess.run(
            [*shell, place],
            cwd=project.folder / cwd,
            env=env,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    return run


def action_variables(step=AUDIT, **inputs):
    """A step's ``env`` with inputs filled in, as GitHub does it."""
    values = {name: str(item.get("default", "")) for name, item in ACTION["inputs"].items()} | inputs
    return {
        key: re.sub(r"\$\{\{ inputs\.([a-z-]+) \}\}", lambda match: values[match[1]], text)
        for key, text in step["env"].items()
    }


INPUTS = {"rules": "rules.yaml", "model": "script:script.yaml", "arguments": "--quiet"}


def test_the_action_annotates_reports_and_says_how_it_ended(project, runner, tmp_path):
    ended = runner(AUDIT["run"], action_variables(**INPUTS, paths="src"))
    assert ended.returncode == 1, ended.stderr
    assert "::error file=src/shop.py,line=9" in ended.stdout
    assert (tmp_path / "GITHUB_OUTPUT").read_text() == "exit-code=1\n"
    again = runner(AUDIT["run"], action_variables(**INPUTS, paths="src"))
    assert again.returncode == 1
    assert (tmp_path / "GITHUB_OUTPUT").read_text().endswith("exit-code=1\nnothing-new=true\n")
    assert "# Audit" in (tmp_path / "GITHUB_STEP_SUMMARY").read_text()
    assert json.loads((project.folder / "loop-runner-audit.sarif").read_text())["version"] == "2.1.0"


def test_an_input_that_looks_like_shell_stays_an_argument(project, runner):
    ended = runner(
        AUDIT["run"], action_variables(**{**INPUTS, "paths": "$(touch${IFS}owned) `id` --rules=x"})
    )
    assert ended.returncode == 2
    assert not (project.folder / "owned").exists()


def test_the_action_keeps_the_newest_run_folders(project, runner):
    for number in range(4):
        project.write("src/shop.py", SHOP + f"\n\nlast = {number}\n")
        runner(AUDIT["run"], action_variables(**INPUTS, paths="src", keep="2", **{"fail-on": "never"}))
    kept = list((project.folder / ".loop-runner-audits").iterdir())
    assert len(kept) == 2


def as_a_cache_restores(folder):
    """Replace each run folder by a copy, which has no mark of this user."""
    shutil.copytree(folder, folder.with_name("restored"), symlinks=True)
    shutil.rmtree(folder)
    folder.with_name("restored").rename(folder)


def no_reply_then_replies(project, step, change=str):
    """An audit in which the model's replies are useless, its run folder from a cache, and the next one."""
    script = project.folder / "script.yaml"
    good = script.read_text()
    script.write_text('sub: [{reply: "not JSON"}]\n')
    assert step().returncode == 3
    script.write_text(good)
    as_a_cache_restores(project.folder / ".loop-runner-audits")
    (run,) = (project.folder / ".loop-runner-audits").iterdir()
    change(run)
    return step()


def test_the_action_continues_an_audit_from_the_cache(project, runner):
    variables = action_variables(**INPUTS, paths="src")
    ended = no_reply_then_replies(project, lambda: runner(AUDIT["run"], variables))
    assert ended.returncode == 1, ended.stderr


def test_the_gitlab_job_continues_an_audit_from_the_cache(project, runner):
    job = GITLAB["loop-runner-audit"]
    given = {"AUDIT_PATHS": "src", "AUDIT_MODEL": "script:script.yaml", "AUDIT_CHANGED_SINCE": ""}
    variables = {**job["variables"], **given}
    ended = no_reply_then_replies(
        project, lambda: runner("\n".join(job["script"]), variables, shell=("sh", "-e"))
    )
    assert ended.returncode == 1, ended.stderr


@pytest.mark.parametrize(
    "line",
    ["stop_hooks: [{command: [touch, owned]}]", "kernel: {python: /bin/sh}", "sub_models: [script:x.yaml]"],
)
def test_an_audit_from_the_cache_with_another_task_is_not_continued(project, runner, line):
    def change(run):
        key, _, value = line.partition(": ")
        task = yaml.safe_load((run / "task.yaml").read_text()) | {key: yaml.safe_load(value)}
        (run / "task.yaml").write_text(yaml.safe_dump(task))
        identity = ["-c", "user.name=A Person", "-c", "user.email=person@localhost"]
        subprocess.run(["git", *identity, "-C", run, "commit", "-qam", "x"], check=True)

    variables = action_variables(**INPUTS, paths="src")
    ended = no_reply_then_replies(project, lambda: runner(AUDIT["run"], variables), change)
    assert ended.returncode == 4
    assert "was not created here by you" in ended.stderr


def test_the_gitlab_job_writes_both_reports(project, runner):
    job = GITLAB["loop-runner-audit"]
    given = {"AUDIT_PATHS": "src", "AUDIT_MODEL": "script:script.yaml", "AUDIT_CHANGED_SINCE": ""}
    ended = runner("\n".join(job["script"]), {**job["variables"], **given}, shell=("sh", "-e"))
    assert ended.returncode == 1, ended.stderr
    entries = json.loads((project.folder / job["artifacts"]["reports"]["codequality"]).read_text())
    assert len(entries) == 2
    assert "testsuites" in (project.folder / job["artifacts"]["reports"]["junit"]).read_text()
    assert job["variables"]["AUDIT_RUNS"].rstrip("/") == job["cache"]["paths"][0].rstrip("/")


PATHS = {
    "one with a blank": ("my src", {"my src/a.py"}),
    "several on a line": ("src lib", {"src/shop.py", "lib/b.py"}),
    "one per line": ("my src\nlib\n", {"my src/a.py", "lib/b.py"}),
    "a glob": ("l*/*.py", {"lib/b.py"}),
    "a glob with a blank": ("my src/*.py\nlib/*.py", {"my src/a.py", "lib/b.py"}),
}


@pytest.mark.parametrize(("paths", "expected"), PATHS.values(), ids=PATHS)
@pytest.mark.parametrize("system", ["github", "gitlab"])
def test_paths_with_blanks_stay_whole(project, runner, system, paths, expected):
    project.write("my src/a.py", SHOP)
    project.write("lib/b.py", SHOP)
    if system == "github":
        ended = runner(AUDIT["run"], action_variables(**INPUTS, paths=paths))
        seen = set(re.findall(r"file=([^,]+),", ended.stdout))
    else:
        given = {"AUDIT_PATHS": paths, "AUDIT_MODEL": "script:script.yaml", "AUDIT_CHANGED_SINCE": ""}
        job = GITLAB["loop-runner-audit"]
        ended = runner("\n".join(job["script"]), {**job["variables"], **given}, shell=("sh", "-e"))
        entries = json.loads((project.folder / "gl-code-quality.json").read_text())
        seen = {entry["location"]["path"] for entry in entries}
    assert ended.returncode == 1, ended.stderr
    assert seen == expected


def test_the_action_works_in_a_folder_of_the_repository(project, runner):
    assert AUDIT["working-directory"] == "${{ inputs.working-directory }}"
    git(project.folder, "init", "-q")
    inputs = INPUTS | {"rules": "../rules.yaml"}
    ended = runner(AUDIT["run"], action_variables(**inputs, paths="."), cwd="src")
    assert ended.returncode == 1, ended.stderr
    assert "::error file=src/shop.py" in ended.stdout
    assert (project.folder / "src" / "loop-runner-audit.sarif").is_file()


@pytest.mark.parametrize(
    ("event", "since"),
    [
        ({"GITHUB_BASE_REF": "main"}, "origin/main"),
        ({"GITHUB_BASE_REF": "", "AUDIT_BEFORE": "a1" * 20}, "a1" * 20),
        ({"GITHUB_BASE_REF": "", "AUDIT_BEFORE": "0" * 40}, None),
        ({"GITHUB_BASE_REF": "", "AUDIT_BEFORE": ""}, None),
    ],
    ids=["a pull request", "a push", "a new branch", "by hand"],
)
def test_the_base_is_that_of_the_event(project, runner, event, since):
    """The command refuses a revision that does not exist, so the message names what was passed."""
    git(project.folder, "init", "-q")
    variables = action_variables(**INPUTS, paths="src", **{"changed-since": "auto"}) | event
    ended = runner(AUDIT["run"], variables)
    assert ended.returncode == (1 if since is None else 2), ended.stderr
    if since is not None:
        assert f"what changed since {since} cannot be found" in ended.stderr


@pytest.mark.parametrize(("choice", "code"), [("fail", 2), ("skip", 0)])
def test_a_fork_without_a_key_is_reported(project, runner, choice, code):
    inputs = {"rules": "rules.yaml", "on-missing-key": choice, "paths": "src"}
    ended = runner(AUDIT["run"], action_variables(**inputs))
    assert ended.returncode == code
    (run,) = json.loads((project.folder / "loop-runner-audit.sarif").read_text())["runs"]
    assert not run["invocations"][0]["executionSuccessful"]
    job = GITLAB["loop-runner-audit"]
    given = {"AUDIT_PATHS": "src", "AUDIT_CHANGED_SINCE": "", "AUDIT_ON_MISSING_KEY": choice}
    ended = runner("\n".join(job["script"]), {**job["variables"], **given}, shell=("sh", "-e"))
    assert ended.returncode == code


# ── pre-commit ──────────────────────────────────────────────────────────────────────────────────────


def pre_commit(*args, cwd, home):
    pytest.importorskip("pre_commit", reason="it comes with the extra [dev]")
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    env = {**clean_environment({"PRE_COMMIT_HOME": str(home)}), "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-m", "pre_commit", *map(str, args)]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=100, check=False)


def test_pre_commit_takes_the_manifest(tmp_path):
    ended = pre_commit(
        "validate-manifest", ROOT / ".pre-commit-hooks.yaml", cwd=tmp_path, home=tmp_path / "home"
    )
    assert ended.returncode == 0, ended.stdout


def test_pre_commit_runs_the_hook_on_what_is_staged(project, tmp_path):
    # As the manifest has it, but with this checkout in the place of an installed one: nothing is fetched.
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    entry = hook["entry"].replace("loop-runner", f"{sys.executable} -m loop_runner", 1)
    args = [*hook["args"], "--model", "script:script.yaml", "--quiet"]
    local = {**hook, "language": "system", "entry": entry, "args": args, "files": "^src/"}
    project.write(".pre-commit-config.yaml", yaml.safe_dump({"repos": [{"repo": "local", "hooks": [local]}]}))
    project.write("src/fine.py", "x = 1\n")
    git(project.folder, "init", "-q")
    git(project.folder, "add", ".pre-commit-config.yaml", "src/fine.py")
    clean = pre_commit("run", cwd=project.folder, home=tmp_path / "home")
    assert clean.returncode == 0, clean.stdout
    git(project.folder, "add", "src/shop.py")
    failed = pre_commit("run", cwd=project.folder, home=tmp_path / "home")
    assert failed.returncode == 1
    assert "src/shop.py" in failed.stdout
    assert "bare-except" in failed.stdout
