"""The jobs of a fleet: where they come from, and names that never change."""

import datetime as dt
import json

import pytest

from loop_runner import ConfigError
from loop_runner.fleet.jobs import read_jobs, shard_of


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("b.txt", "a.txt", "é ü.txt"):
        (tmp_path / "in" / name).write_text("x")
    (tmp_path / "in" / "sub.txt").mkdir()
    return tmp_path


def test_a_glob_gives_a_job_for_each_file_in_the_order_of_the_names(folder):
    jobs = read_jobs({"glob": "in/*.txt"}, folder)
    assert [job.values["path"] for job in jobs] == ["in/a.txt", "in/b.txt", "in/é ü.txt"]
    assert jobs[0].values["stem"] == "a"


def test_several_globs_that_find_one_file_give_one_job(folder):
    assert len(read_jobs({"glob": ["in/*.txt", "in/a*"]}, folder)) == 3


def test_a_job_keeps_its_name_when_others_come_before_it(folder):
    before = {job.values["path"]: job.name for job in read_jobs({"glob": "in/*.txt"}, folder)}
    (folder / "in" / "0.txt").write_text("x")
    after = {job.values["path"]: job.name for job in read_jobs({"glob": "in/*.txt"}, folder)}
    assert before.items() <= after.items()


def test_a_list_may_hold_plain_values_and_mappings(folder):
    jobs = read_jobs(["ssl", {"name": "tls", "port": 443}], folder)
    assert jobs[0].values == {"value": "ssl"}
    assert (jobs[1].name, jobs[1].values["port"]) == ("tls", 443)


def test_a_matrix_gives_every_combination(folder):
    jobs = read_jobs({"matrix": {"model": ["a", "b"], "input": [1, 2, 3]}}, folder)
    assert [(job.values["model"], job.values["input"]) for job in jobs][:4] == [
        ("a", 1),
        ("a", 2),
        ("a", 3),
        ("b", 1),
    ]
    assert len({job.name for job in jobs}) == 6


def test_rows_of_a_csv_file_and_lines_of_a_jsonl_file_are_jobs(folder):
    (folder / "jobs.csv").write_text("\ufeffname,port\nssh,22\nweb,80\n")
    (folder / "jobs.jsonl").write_text('{"name": "ssh", "port": 22}\n\n"web"\n')
    assert [job.values["port"] for job in read_jobs("jobs.csv", folder)] == ["22", "80"]
    assert [job.values for job in read_jobs("jobs.jsonl", folder)] == [
        {"name": "ssh", "port": 22},
        {"value": "web"},
    ]


@pytest.mark.parametrize(
    "source",
    [
        *(None, 3, [], {}, {"glob": "none/*"}, {"glob": 3}, {"glob": "in/*", "more": 1}, {"matrix": {}}),
        *(
            {"matrix": {"a": "b"}},
            {"matrix": {"a": []}},
            "missing.csv",
            "jobs.txt",
            [{"bad key": 1}],
            [{1: 2}],
        ),
    ],
)
def test_what_is_no_list_of_jobs_is_refused(folder, source):
    (folder / "jobs.txt").write_text("x")
    with pytest.raises(ConfigError):
        read_jobs(source, folder)


@pytest.mark.parametrize("text", ["name,port\nssh\n", "name,port\nssh,22,23\n"])
def test_a_row_with_too_few_or_too_many_fields_is_refused_with_its_line(folder, text):
    (folder / "jobs.csv").write_text(text)
    with pytest.raises(ConfigError, match=r"jobs\.csv:2"):
        read_jobs("jobs.csv", folder)


@pytest.mark.parametrize("source", [["a", "a"], [{"name": "A"}, {"name": "a"}], [{"name": "x", "n": 1}] * 2])
def test_two_jobs_with_one_name_are_refused(folder, source):
    with pytest.raises(ConfigError, match="2 jobs have the name"):
        read_jobs(source, folder)


@pytest.mark.parametrize(
    "name", ["../up", "/etc/passwd", ".git", "a b", "é", "", "x" * 300, "a\nb", "-rf", "con\x1b[2J"]
)
def test_a_name_is_always_a_plain_file_name(folder, name):
    (job,) = read_jobs([{"name": name, "n": 1}], folder)
    assert job.name.isascii()
    assert job.name[0].isalnum()
    assert set(job.name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
    assert len(job.name) <= 100


def test_shards_share_the_jobs_out_and_depend_on_names_only():
    names = [f"job-{number}" for number in range(3000)]
    sizes = [sum(shard_of(name, 3) == shard for name in names) for shard in range(3)]
    assert sum(sizes) == 3000
    assert min(sizes) > 900
    assert shard_of("job-7", 3) == shard_of("job-7", 3)


def test_dates_of_yaml_are_texts(folder):
    (job,) = read_jobs([{"day": dt.date(2026, 1, 2)}], folder)
    assert json.dumps(dict(job.values)) == '{"day": "2026-01-02"}'
