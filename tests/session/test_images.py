"""``llm_query(..., images=[...])`` in whole runs: what providers get, what is recorded, what is refused."""

import base64
import hashlib
import json

import pytest

from loop_runner.runs import replay, start
from loop_runner.runs.context import RunContext
from loop_runner.task import config
from loop_runner.workspace.history import History
from tests.inputs.test_images import JPEG, SCANNED, png
from tests.support.tasks import cell, run_task, write_task

FILES = {"scan.png": png(), "photo.jpg": JPEG, "scanned.pdf": SCANNED}


def image_task(folder, code, **keys):
    task = write_task(
        folder,
        root=[cell(f"{code}\nFINAL('42')")],
        texts={"notes.txt": "words\n"},
        **{"inputs": ["notes.txt", *FILES], **keys},
    )
    for name, data in FILES.items():
        (folder / name).write_bytes(data)
    return task


def output(run):
    return (run / "passes/0001/turns/0001/output.txt").read_text()


def sent_to_anthropic(content):
    sources = [part["source"] for part in content[:-1]]
    return [(source["media_type"], source["data"]) for source in sources], content[-1]["text"]


def sent_to_openai(content):
    urls = [part["image_url"]["url"].removeprefix("data:") for part in content[:-1]]
    return [tuple(url.split(";base64,")) for url in urls], content[-1]["text"]


@pytest.mark.slow
@pytest.mark.parametrize(("provider", "read"), [("anthropic", sent_to_anthropic), ("openai", sent_to_openai)])
def test_a_provider_gets_the_images_before_the_prompt_and_a_replay_sends_nothing(
    provider, read, tmp_path, model_server
):
    code = (
        "data = bytes([0xff, 0xd8, 0xff]) + b'made here'\n"
        "print(llm_query('What is it?', images=['scan.png', data, 'scanned.pdf#page=1']))\n"
        "print(llm_query('How many?', schema={'type': 'integer'}, images=['photo.jpg']) + 1)\n"
        "print(context.images)"
    )
    model_server.answer_with(lambda request: "41" if "How many?" in request.last_user_text else "a drawing")
    task = image_task(tmp_path / "task", code, sub_model=f"{provider}:small")
    env = {"ANTHROPIC_BASE_URL": model_server.url, "ANTHROPIC_API_KEY": "k"}
    env |= {"OPENAI_BASE_URL": model_server.openai_url, "OPENAI_API_KEY": "k", "PATH": "/usr/bin:/bin"}
    outcome = start.start(config.read_task(task), tmp_path / "run", RunContext(env))
    assert outcome.status == "verified", outcome
    assert "a drawing\n42\n('scan.png', 'photo.jpg', 'scanned.pdf')" in output(tmp_path / "run")
    first, second = (read(request.body["messages"][0]["content"]) for request in model_server.requests)
    images, prompt = first
    assert prompt == "What is it?"
    assert [kind for kind, _ in images] == ["image/png", "image/jpeg", "image/png"]
    made = b"\xff\xd8\xffmade here"
    assert [base64.b64decode(data) for _, data in images][:2] == [png(), made]
    assert [base64.b64decode(data) for _, data in second[0]] == [JPEG]
    kept = {path.stem: path.read_bytes() for path in (tmp_path / "run/images").iterdir()}
    assert {hashlib.sha256(data).hexdigest() for data in (png(), made, JPEG)} < kept.keys()
    assert all(hashlib.sha256(data).hexdigest() == name for name, data in kept.items())
    with History(tmp_path / "run") as history:
        prompts = [call.prompt for call in history.calls() if call.kind == "sub"]
    assert any(f"[image: {hashlib.sha256(made).hexdigest()}.jpeg]" in text for text in prompts)
    count = len(model_server.requests)
    assert replay.replay(tmp_path / "run").is_same
    assert len(model_server.requests) == count


@pytest.mark.slow
def test_what_cannot_be_shown_is_an_error_in_the_cell_and_the_prompt_says_what_can(tmp_path):
    code = """
for call in (lambda: llm_query('x', images=['none.png']), lambda: llm_query('x', images='scan.png'),
             lambda: llm_query('x', images=[5]), lambda: llm_query('x', images=[b'no image']),
             lambda: llm_query('x', images=['scanned.pdf']), lambda: llm_query('x', images=['scan.png'] * 21),
             lambda: llm_query('x', images=['scan.png'], tools=['t']), lambda: llm_query('x', images=[]),
             lambda: llm_query('x', images=['scan.png'])):
    try:
        print('GOT', call())
    except Exception as error:
        print(type(error).__name__, error)
"""
    run_task(image_task(tmp_path / "task", code, sub=[{"reply": "a reply"}]), tmp_path / "run")
    starts = ("LLMError", "TypeError", "GOT")
    lines = [line for line in output(tmp_path / "run").splitlines() if line.startswith(starts)]
    expected = [
        "LLMError images=: no image is named 'none.png'; the images are: scan.png, photo.jpg, scanned.pdf",
        "TypeError images takes a list",
        "TypeError images takes names of images ('scan.png'), pages of PDFs",
        "LLMError images=: an image is neither PNG nor JPEG",
        "LLMError images=: scanned.pdf is a PDF: name a page of it",
        "LLMError images=: images= takes at most 20 images, not 21",
        "LLMError images= and tools= cannot be used in one call",
        "GOT a reply",
        "GOT a reply",
    ]
    assert [line[: len(start)] for line, start in zip(lines, expected, strict=False)] == expected
    prompt = (tmp_path / "run/system.md").read_text()
    listed = "`scan.png` (PNG), `photo.jpg` (JPEG), `scanned.pdf` (PDF without text)"
    assert f"Images, which have no text, listed in `context.images`: {listed}" in prompt
    assert "`llm_query('What does it show?', images=['scan.png'])`" in prompt
    named = json.loads((tmp_path / "run/inputs.json").read_text())["images"]
    assert [image["name"] for image in named] == list(FILES)


@pytest.mark.slow
def test_a_model_that_takes_no_images_is_not_sent_any(tmp_path):
    code = "try: llm_query('x', images=['scan.png'])\nexcept LLMError as error: print(error)"
    run_task(image_task(tmp_path / "task", code, sub_model="manual:person"), tmp_path / "run")
    assert "takes no images" in output(tmp_path / "run")
