"""Data in memory as inputs: kept in the run, so that it is as good as files later."""

import json
import shutil
import subprocess

import pytest

import loop_runner as lr
from tests.support.tasks import cell, ready

CODE = cell(
    "answer['content'] = str(type(context).__name__) + ' ' + repr(context)[:200]\nanswer['ready'] = True"
)


def seen(script, inputs):
    """What the model's code finds in ``context``."""
    task = lr.Task("What?", inputs=inputs, verifiers=[lr.regex(".")], model=script(CODE))
    return lr.run(task).answer


def test_one_text_is_the_context_itself(script):
    assert seen(script, [lr.data("The answer is 42.\n")]).startswith("str 'The answer is 42.")


@pytest.mark.parametrize(
    ("inputs", "names"),
    [
        ({"a.txt": "one", "b/c.txt": "two"}, ["a.txt", "b/c.txt"]),
        ([lr.data({"x": [1, 2]}, "d.json"), lr.data("one", "a.txt")], ["d.json", "a.txt"]),
        ([{"a.txt": "one"}, {"b.txt": b"two"}], ["a.txt", "b.txt"]),
        ([lr.data([1, 2]), lr.data("one", "a.txt")], ["data.json", "a.txt"]),
    ],
)
def test_data_has_the_names_that_it_was_given(script, inputs, names):
    task = lr.Task("What?", inputs=inputs, verifiers=[lr.regex(".")], model=script(ready("x")))
    folder = lr.run(task).run.folder
    assert [text["name"] for text in json.loads((folder / "inputs.json").read_text())["texts"]] == names


@pytest.mark.parametrize("package", ["pandas", "polars"])
def test_a_frame_is_a_table(script, package):
    frames = pytest.importorskip(package)
    frame = frames.DataFrame({"port": [80, 443], "name": ["http", 'näme, "quoted"']})
    table = r'port,name\n80,http\n443,"näme, ""quoted""'
    assert table in seen(script, {"ports.csv": frame})
    assert table in seen(script, [lr.data(frame)])


@pytest.mark.parametrize("package", ["pandas", "polars"])
def test_an_empty_frame_and_one_with_missing_values_are_tables_too(package):
    frames = pytest.importorskip(package)
    empty = frames.DataFrame({"port": []})
    missing = frames.DataFrame({"port": ["80", None], "host": [None, "db"]})
    assert lr.data(empty, "a.csv").content == b"port\n"
    assert lr.data(missing, "a.csv").content == b"port,host\n80,\n,db\n"


def test_a_lazy_frame_of_polars_is_refused_with_what_to_write_instead():
    polars = pytest.importorskip("polars")
    with pytest.raises(lr.ConfigError, match=r"collect\(\)"):
        lr.data(polars.LazyFrame({"port": [80]}), "ports.csv")


def test_a_column_is_a_table_of_one_column():
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    for column in (pandas.Series([80, 443], name="port"), polars.Series("port", [80, 443])):
        assert lr.data(column, "a.csv").content == b"port\n80\n443\n"


@pytest.mark.parametrize(
    ("make", "table"),
    [
        (lambda frame: frame, b"n\n1\n2\n3\n"),
        (lambda frame: frame[frame.n > 1], b"n\n2\n3\n"),
        (lambda frame: frame.rename_axis("row"), b"row,n\n0,1\n1,2\n2,3\n"),
        (lambda frame: frame.set_index([["a", "b", "c"]]), b",n\na,1\nb,2\nc,3\n"),
        (lambda frame: frame.assign(m=4).groupby(["m", "n"]).sum(), b"m,n\n4,1\n4,2\n4,3\n"),
    ],
)
def test_labels_of_rows_that_are_data_are_kept(make, table):
    pandas = pytest.importorskip("pandas")
    assert lr.data(make(pandas.DataFrame({"n": [1, 2, 3]})), "a.csv").content == table


def test_a_document_in_memory_is_converted(script):
    page = b"<html><body><h1>Ports</h1><p>The port is 8080.</p></body></html>"
    assert "The port is 8080." in seen(script, [lr.data(page, "page.html")])


def test_files_and_data_go_together(script, tmp_path):
    (tmp_path / "a.txt").write_text("one\n")
    assert "a.txt" in seen(script, ["a.txt", lr.data("two", "b.txt")])


def test_data_is_cited_and_the_proof_holds_in_a_clone_without_a_cache(script, tmp_path):
    cited = 'It is 42.\n\nSources:\n- notes.txt:1 "The answer is 42."'
    task = lr.Task(
        "What?",
        inputs={"notes.txt": "The answer is 42.\n"},
        verifiers=[lr.citations()],
        model=script(ready("wrong"), ready(cited)),
        budget={"passes": 1},
    )
    assert lr.run(task, run_dir="mine").status == "unverified"
    shutil.rmtree(tmp_path / "cache")
    result = lr.resume("mine", budget={"passes": 2})
    assert result.verified
    assert result.citations[0].ok
    subprocess.run(["git", "clone", "-q", "mine", "copy"], check=True, capture_output=True)
    shutil.rmtree("mine")
    shutil.rmtree(tmp_path / "cache")
    assert lr.verify("copy").status == "same"


def test_data_that_a_task_file_names_is_not_there(tmp_path):
    (tmp_path / "task.yaml").write_text(
        "name: x\nprompt: y\nmodel: script:z\nverifiers: [{contains: x}]\ninputs: [{data: abc.txt}]\n"
    )
    with pytest.raises(lr.ConfigError, match=r"the data abc.txt is not there|inputs.urls"):
        lr.run("task.yaml")


# ── the type of the answer ──────────────────────────────────────────────────────────────────────────

import dataclasses  # noqa: E402


@dataclasses.dataclass
class Port:
    number: int
    name: str


def typed(script, output_type, *replies, passes=2):
    return lr.ask(
        "Which port?",
        {"n.txt": "port 80 is http"},
        model=script(*map(ready, replies)),
        output_type=output_type,
        budget={"passes": passes},
    )


def test_a_dataclass_is_what_the_answer_becomes(script):
    result = typed(script, Port, '{"number": "eighty"}', '{"number": 80, "name": "http"}')
    assert result.verified
    assert result.output == Port(80, "http")
    assert result.spend.passes == 2


def test_a_pydantic_model_is_what_the_answer_becomes(script):
    pydantic = pytest.importorskip("pydantic")
    model = pydantic.create_model("Ports", ports=(list[Port], ...))
    result = typed(script, model, '```json\n{"ports": [{"number": 80, "name": "http"}]}\n```')
    assert result.output.ports == [Port(80, "http")]


@pytest.mark.parametrize(
    ("output_type", "answer", "output"),
    [
        ({"type": "array", "items": {"type": "integer"}}, "[1, 2]", [1, 2]),
        (list[int], "[1, 2]", [1, 2]),
        (dict[str, int], '{"a": 1}', {"a": 1}),
        (int, "3", 3),
    ],
)
def test_a_schema_or_another_type_is_checked(script, output_type, answer, output):
    assert typed(script, output_type, answer).output == output


def test_an_answer_of_another_type_is_unverified_and_gives_no_object(script):
    result = typed(script, Port, "port eighty", passes=1)
    assert (result.status, result.output) == ("unverified", None)
