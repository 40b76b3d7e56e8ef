"""Fleet files and task templates: every mistake is named before anything starts."""

import pytest
import yaml

from loop_runner import ConfigError
from loop_runner.fleet.fleet_file import read_fleet

TASK = {
    "name": "x",
    "prompt": "Which port is in {{ job.path }}?",
    "inputs": ["{{ job.path }}"],
    "budget": {"passes": "{{ job.passes }}"},
    "verifiers": [{"contains": "{{ job.word }}"}],
}
JOB = {"path": "a.txt", "passes": 3, "word": "port"}
FLEET = {"name": "f", "task": "task.yaml", "jobs": [JOB], "store": "store"}


@pytest.fixture
def fleet(tmp_path):
    """Reads a fleet file with these keys; None removes one."""

    def read(template=TASK, **keys):
        (tmp_path / "task.yaml").write_text(yaml.safe_dump(template))
        data = {key: value for key, value in {**FLEET, **keys}.items() if value is not None}
        (tmp_path / "fleet.yaml").write_text(yaml.safe_dump(data))
        return read_fleet(tmp_path / "fleet.yaml")

    return read


def test_a_job_fills_in_the_task_and_a_whole_value_keeps_its_type(fleet, tmp_path):
    result = fleet()
    task = result.task_of(result.jobs[0])
    assert task["prompt"] == "Which port is in a.txt?"
    assert task["budget"] == {"passes": 3}
    assert task["inputs"] == ["a.txt"]
    assert task["verifiers"] == [{"contains": "port"}]
    assert task["task_dir"] == str(tmp_path)
    assert task["name"] == result.jobs[0].name


@pytest.mark.parametrize(
    "word", ["{{ job.passes }}", "{% for x in y %}", "a: b\n- c", "'\"", "#", "!!python/object:os.system"]
)
def test_a_value_is_data_and_never_a_template_or_yaml(fleet, word):
    result = fleet(jobs=[{**JOB, "word": word}])
    assert result.task_of(result.jobs[0])["verifiers"] == [{"contains": word}]


@pytest.mark.parametrize(
    "prompt", ["{{ job.missing }}", "{{ other }}", "{{ job.", "{{ job.__class__ }}", "{{ job.path.x.y }}"]
)
def test_a_template_that_cannot_be_filled_in_names_the_key_and_the_job(fleet, prompt):
    result = fleet(template={**TASK, "prompt": f"say {prompt}"})
    with pytest.raises(ConfigError, match=r"`prompt` cannot be filled in for the job"):
        result.task_of(result.jobs[0])


def test_the_money_of_one_job_limits_its_task(fleet):
    result = fleet(budget={"usd": 10, "per_job": {"usd": 2}})
    assert result.task_of(result.jobs[0])["budget"]["usd"] == 2.0
    result = fleet(template={**TASK, "budget": {"usd": 1}}, budget={"per_job": {"usd": 2}})
    assert result.task_of(result.jobs[0])["budget"]["usd"] == 1.0


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"name": None}, "`name`"),
        ({"name": "a/b"}, "`name`"),
        ({"task": None}, "`task`"),
        ({"store": None}, "`store`"),
        ({"store": 3}, "`store`"),
        ({"jobs": None}, "jobs"),
        ({"concurency": 3}, "did you mean `concurrency`"),
        ({"concurrency": 0}, "`concurrency`"),
        ({"concurrency": True}, "`concurrency`"),
        ({"budget": 5}, "`budget`"),
        ({"budget": {"usd": 5}}, "`budget.per_job.usd`"),
        ({"budget": {"usd": -1, "per_job": {"usd": 1}}}, "`budget.usd`"),
        ({"budget": {"per_job": {"usd": float("nan")}}}, "`budget.per_job.usd`"),
        ({"budget": {"per_job": {"eur": 1}}}, "`budget.per_job.eur`"),
        ({"order": ["fastest"]}, "`order`"),
        ({"results": "results.txt"}, "`results`"),
        ({"task": "missing.yaml"}, "cannot be read"),
    ],
)
def test_each_mistake_in_a_fleet_file_is_named(fleet, keys, words):
    with pytest.raises(ConfigError, match=words):
        fleet(**keys)


@pytest.mark.parametrize("content", ["", "- a", "a: [", "&a [*a]", "\x00", "{{{{", b"\xff\xfe"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path, content):
    path = tmp_path / "fleet.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError):
        read_fleet(path)
