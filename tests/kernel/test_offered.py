"""The helpers as the system prompt tells of them: all of them, from their own docstrings, byte for byte."""

import ast
import inspect
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from loop_runner import inputs
from loop_runner.kernel.inside.answer_box import AnswerBox
from loop_runner.kernel.inside.helpers import ALSO_CALLED, OFFERED, Helpers
from loop_runner.kernel.inside.lm_client import LmClient
from loop_runner.kernel.offered import documented, offered
from loop_runner.records import Inputs
from loop_runner.runs import preflight
from loop_runner.runs.frozen import _system_prompt, child_system_prompt, templates_of
from loop_runner.task import config, prompts, scaffold
from loop_runner.verify import Gates
from tests.support import documents
from tests.support.tasks import write_task


@pytest.fixture
def prompts_for(tmp_path):
    """What a run's models are told first: (root, child), of a run that uses ``model``."""

    def begin(model):
        task = config.read_task(write_task(tmp_path / "task", root=[], model=model))
        root = _system_prompt(task, Inputs(()), prompts.BUILT_IN, Gates())
        return root, child_system_prompt(task, prompts.BUILT_IN)

    return begin


def docstring(name):
    return inspect.cleandoc(getattr(Helpers, name).__doc__)


def told_to_the_root(name):
    """The first two paragraphs; ``help()`` prints the others too."""
    return " ".join(" ".join(docstring(name).split("\n\n")[:2]).split())


def first_sentence(name):
    return " ".join(docstring(name).split("\n\n")[0].split())


def test_every_helper_in_the_namespace_is_in_the_prompt_in_the_words_of_its_docstring(prompts_for):
    root, _ = prompts_for("anthropic:claude-test")
    namespace: dict[str, object] = {}
    helpers = Helpers(namespace, "", "", AnswerBox(namespace, "", {}), LmClient(-1))
    there = helpers.protected | helpers.yielding
    callables = {name for name, value in there.items() if inspect.ismethod(value)}
    assert callables == {*OFFERED, *ALSO_CALLED}
    lines = [line for line in root.split("\n") if line.startswith("- `")]
    for name in callables:
        own = ALSO_CALLED.get(name, name)
        (line,) = [line for line in lines if line.startswith(f"- `{own}(")]
        assert f"`{name}" in line
        assert line.endswith(f": {told_to_the_root(own)}")
        assert f": {first_sentence(own)}" in line


def test_the_parameters_in_the_prompt_are_those_that_the_helpers_take(prompts_for):
    root, _ = prompts_for("anthropic:claude-test")
    for name in OFFERED:
        (call,) = re.findall(rf"^- `({name}\(.*?\))`", root, re.MULTILINE)
        output = ast.parse(f"def {call}: pass").body[0]
        assert isinstance(output, ast.FunctionDef)
        _, *parameters = inspect.signature(getattr(Helpers, name)).parameters.values()
        # Shown where a task has tools, or images among its inputs.
        parameters = [item for item in parameters if item.name not in ("tools", "images")]
        positional = [item.name for item in parameters if item.kind is not item.KEYWORD_ONLY]
        assert [item.arg for item in output.args.args] == positional
        defaults = [item.default for item in parameters if item.default is not item.empty]
        assert [
            ast.literal_eval(item) for item in [*output.args.defaults, *output.args.kw_defaults] if item
        ] == defaults


def test_a_child_is_told_the_first_sentences_and_a_small_model_a_few_of_the_helpers(prompts_for):
    _, child = prompts_for("anthropic:claude-test")
    for name in ("search_text", "read", "outline", "chunks", "rows", "llm_query", "llm_batch"):
        assert re.search(rf"^- `{name}\(.*: {re.escape(first_sentence(name))}$", child, re.MULTILINE)
    small, _ = prompts_for("local:coder")
    named = set(re.findall(r"^- (\w+)\(", small, re.MULTILINE))
    assert named <= set(OFFERED)
    assert named == {"search_text", "llm_query"}
    assert len(small) < 1200


def test_the_list_of_helpers_is_the_same_bytes_in_every_process():
    code = "from loop_runner.kernel.offered import offered; print(repr((offered(), offered(briefly=True))))"
    output = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parents[2])},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert output == {repr((offered(), offered(briefly=True))) + "\n"}


def test_the_page_about_the_helpers_has_the_same_lines():
    page = (Path(__file__).parents[2] / "docs" / "helpers.md").read_text(encoding="utf-8")
    assert documents.with_list_of_helpers(page) == page, "run `make docs`"
    assert page.count("\n- `") == len(documented())


def test_what_we_say_to_a_large_model_stays_under_1500_tokens(prompts_for):
    """3.6 characters to a token: two public tokenizers found 3.7 in this text."""
    root, _ = prompts_for("anthropic:claude-test")
    assert len(root) / 3.6 < 1500


@pytest.mark.parametrize("kind", [known.name for known in scaffold.offered()])
def test_the_whole_system_prompt_of_every_type_stays_under_1500_tokens(tmp_path, kind):
    """With the inputs and the gates that `loop-runner init` writes. Four characters to a token."""
    scaffold.create(kind, tmp_path / "new")
    task = replace(config.read_task(tmp_path / "new" / "task.yaml"), model="anthropic:claude-test")
    texts = inputs.load(task.inputs, task.base_dir)
    gates = preflight.gates(task)
    assert len(_system_prompt(task, texts, templates_of(task), gates)) < 4 * 1500
