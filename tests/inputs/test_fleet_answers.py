"""Verified answers of a fleet as inputs: each citation is followed to the inputs of its job."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from loop_runner import inputs
from loop_runner.errors import ConfigError
from loop_runner.inputs.inside.runs import RUN
from loop_runner.records import Accepted, Broken, Rejected
from loop_runner.verify.citations import Citations
from loop_runner.verify.quotes import locate
from tests.support.gates import submission
from tests.support.tasks import ready, run_task, write_task

pytestmark = pytest.mark.slow

ANSWER = "The port is 8000.\n> doc.txt:1: the port is 8000\nNothing else is known."
CITED = "> web.md:2: > doc.txt:1: the port is 8000"


def job(fleet, name, answer, verifier="citations"):
    """A job of a fleet that ended verified, as a store keeps it."""
    task = write_task(
        fleet / "in",
        root=[ready(answer)],
        texts={"doc.txt": "the port is 8000\nthe name is web\n"},
        verifiers=[verifier],
        kernel={"require_tier": "C"},
    )
    (fleet / "store/runs").mkdir(parents=True, exist_ok=True)
    assert run_task(task, fleet / "store/runs" / name).status == "verified"
    state(fleet, name, "verified")


def state(fleet, name, status):
    (fleet / "store/jobs").mkdir(exist_ok=True)
    (fleet / f"store/jobs/{name}.json").write_text(json.dumps({"status": status}))
    (fleet / "store/fleet.json").write_text('{"format": 1}')


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A fleet with one answer that cites and one that does not; not to be changed."""
    fleet = tmp_path_factory.mktemp("made")
    job(fleet, "web", ANSWER)
    job(fleet, "bare", "The name is web, I think.", {"contains": "web"})
    return fleet


@pytest.fixture
def fleet(made, tmp_path):
    """A copy of it, on which the jobs' inputs are found beside the store."""
    shutil.copytree(made, tmp_path / "fleet", symlinks=True)
    return tmp_path / "fleet"


def load(fleet):
    return inputs.load([{"fleet": "store"}], fleet)


def located(answer, texts):
    (citation,) = locate(answer, texts)
    return citation


def verdict(folder, answer, texts):
    return Citations("citations").verify(submission(folder, answer, inputs=texts))


def test_the_texts_are_the_verified_answers_by_the_names_of_their_jobs(fleet):
    state(fleet, "other", "unverified")
    texts = load(fleet)
    assert [text.name for text in texts.texts] == ["bare.md", "web.md"]
    assert inputs.content(texts.texts[1]).decode().strip() == ANSWER
    assert texts.skipped == (("store/other", "no verified answer: unverified"),)
    assert inputs.skipped_by_kind(texts) == {"jobs without a verified answer": 1}


@pytest.mark.parametrize(
    "answer",
    [CITED, "> web.md:1: The port is 8000.", "> web.md:1-2: The port is 8000. > doc.txt:1: the port is 8000"],
)
def test_a_citation_of_an_answer_is_followed_to_the_inputs_of_its_job(fleet, answer):
    citation = located(answer, load(fleet))
    assert citation.ok, citation.reason
    (place,) = citation.rests_on
    assert place.endswith("in/doc.txt:1")
    accepted = verdict(fleet, answer, load(fleet))
    assert isinstance(accepted, Accepted)
    assert accepted.record["citations"][0]["rests_on"] == [place]


def test_a_line_that_the_answer_does_not_have_is_not_found(fleet):
    assert not located("> web.md:1: The port is 9000.", load(fleet)).ok


def test_an_answer_that_quotes_nothing_of_its_inputs_is_no_evidence(fleet):
    rejected = verdict(fleet, "> bare.md:1: The name is web, I think.", load(fleet))
    assert isinstance(rejected, Rejected)
    assert "nothing is behind this line" in rejected.evidence


def test_a_quote_that_the_inputs_of_the_job_do_not_have_is_rejected_even_if_a_run_accepted_it(tmp_path):
    job(tmp_path, "web", "8000\n> doc.txt:1: the port is 9000", {"contains": "8000"})
    rejected = verdict(tmp_path, "> web.md:2: > doc.txt:1: the port is 9000", load(tmp_path))
    assert isinstance(rejected, Rejected)
    assert "not found in the inputs of its job" in rejected.evidence


@pytest.mark.parametrize("file", ["in/doc.txt", "store/runs/web/inputs.json", "store/runs/web/answer.md"])
@pytest.mark.parametrize("how", ["changed", "removed"])
def test_what_has_changed_since_the_run_began_breaks_the_check_and_judges_no_answer(made, fleet, file, how):
    texts = load(fleet)
    shutil.move(made / "in", made / "away")  # else the job's own path would be found
    try:
        (fleet / file).unlink() if how == "removed" else (fleet / file).write_text("{}\n")
        assert isinstance(verdict(fleet, CITED, texts), Broken)
        if file != "in/doc.txt":
            assert inputs.changed(texts) == ("web.md",)
    finally:
        shutil.move(made / "away", made / "in")


def forge_answer(fleet):
    (fleet / "store/runs/web/answer.md").write_text("The port is 9000.\n")


def forge_link(fleet):
    path = fleet / "store/runs/web/answer.md"
    path.rename(fleet / "elsewhere.md")
    path.symlink_to(fleet / "elsewhere.md")


def forge_inputs(fleet):
    (fleet / "store/runs/web/inputs.json").write_text("{}")


def forge_run(fleet):
    shutil.rmtree(fleet / "store/runs/web/.git")


def forge_state(fleet):
    (fleet / "store/jobs/web.json").write_text("[")


@pytest.mark.parametrize("forge", [forge_answer, forge_link, forge_inputs, forge_run, forge_state])
def test_an_answer_that_its_run_has_not_committed_as_accepted_is_left_out(fleet, forge):
    forge(fleet)
    texts = load(fleet)
    assert [text.name for text in texts.texts] == ["bare.md"]
    assert texts.skipped[0][1].startswith("no verified answer")


def test_a_store_that_was_moved_with_its_fleet_is_found_in_its_new_place(fleet, tmp_path):
    texts = inputs.from_json(inputs.to_json(load(fleet)))
    fleet.rename(tmp_path / "moved")
    assert located(CITED, inputs.found_in(texts, tmp_path / "moved/store")).ok


@pytest.mark.parametrize(
    "spec", [{"fleet": "in"}, {"fleet": "nowhere"}, {"fleet": "store", "exclude": "*"}, {"fleet": 3}]
)
def test_what_is_no_store_of_a_fleet_is_refused(fleet, spec):
    with pytest.raises(ConfigError):
        inputs.load([spec], fleet)


def test_a_store_that_is_given_as_a_folder_is_no_evidence(fleet):
    texts = inputs.load(["store"], fleet)
    assert all("runs" not in text.name for text in texts.texts)
    assert ("store/runs/web", RUN) in texts.skipped


def test_a_synthesis_is_verified_down_to_the_inputs_of_the_jobs(fleet):
    both = f"Both agree.\n{CITED}\n> web.md:1: The port is 8000."
    task = {
        "name": "all",
        "type": "synthesis",
        "prompt": "Which port?",
        "inputs": [{"fleet": "store"}],
        "model": "script:script.yaml",
        "kernel": {"require_tier": "C"},
    }
    (fleet / "task.yaml").write_text(yaml.safe_dump(task))
    wrong = ready("None.\n> bare.md:1: The name is web, I think.\n> web.md:3: Nothing else is known.")
    (fleet / "script.yaml").write_text(yaml.safe_dump({"root": [wrong, ready(both)]}))
    outcome = run_task(fleet / "task.yaml", fleet / "run")
    assert outcome.status == "verified", outcome.reason
    assert outcome.checkpoint.pass_number == 2
    proof = json.loads((Path(fleet) / "run/proof.json").read_text())
    assert "in/doc.txt:1" in json.dumps(proof)
