"""The commands of the README that name a provider, run as they stand there against our own servers."""

import re
import shlex
import sysconfig
from pathlib import Path

import pytest

from tests.support.commands import loop_runner

README = Path(__file__).parents[2] / "README.md"
CELL = """
line = llm_query(f"{search_text('POP3_PORT')} Which line names the default port?")
FINAL("Answer: 110\\n" + str(cite(line)))
"""


def commands():
    lines = re.findall(r"^loop-runner (ask .*--model .*)$", README.read_text(encoding="utf-8"), re.MULTILINE)
    return [shlex.split(line) for line in lines]


def test_the_readme_names_three_providers():
    named = [word for words in commands() for word in words if re.match(r"(anthropic|openai)[a-z-]*:", word)]
    assert sorted({word.partition(":")[0] for word in named}) == ["anthropic", "anthropic-batch", "openai"]
    assert len(commands()) == 3


@pytest.mark.parametrize("words", commands(), ids=lambda words: words[-1])
def test_the_command_ends_verified(words, tmp_path, model_server):
    def answer(request):
        if not request.system:
            return "POP3_PORT = 110"
        return f"```repl\n{CELL}\n```"

    model_server.answer_with(answer)
    stdlib = sysconfig.get_path("stdlib")
    words = [word.replace("/usr/lib/python3.11", stdlib) for word in words]
    env = {**model_server.env, "OPENAI_BASE_URL": model_server.openai_url}
    ended = loop_runner(*words, cwd=tmp_path, env=env)
    assert ended.returncode == 0, ended.stderr + ended.stdout
    assert "VERIFIED" in ended.stdout
    assert "POP3_PORT = 110" in ended.stdout
    assert len(model_server.batches.created) == ("anthropic-batch" in words[-1])
    requests = {request.body["model"] for request in model_server.prompts}
    assert words[words.index("--model") + 1].partition(":")[2] in requests
