"""A command written as one text is split as a shell would, and refused if it needs one."""

import json
import shutil
import subprocess
import sys

import pytest

from loop_runner.errors import HookError, VerifierError
from loop_runner.verify import build, command_line, external_hook

NEEDS_A_SHELL = [
    "grep -q Paris answer.md && grep -q Rome answer.md",
    "grep -q Paris answer.md || grep -q Rome answer.md",
    "grep -q Paris answer.md; grep -q Rome answer.md",
    "grep -q Paris answer.md;grep -q Rome answer.md",
    "cat answer.md | grep -q Paris",
    "cat answer.md|grep -q Paris",
    "./server & ./check.sh",
    "python3 check.py > out.txt",
    "python3 check.py 2>&1",
    "python3 check.py < answer.md",
    "python3 check.py $NAME",
    "python3 check.py ${NAME}",
    'python3 check.py "$LOOP_ANSWER"',
    'python3 check.py "x${NAME}y"',
    'python3 check.py "$(date)"',
    'python3 check.py "`date`"',
    "python3 check.py $(date)",
    "python3 check.py `date`",
    "python3 check.py workspace/*.py",
    "python3 check.py workspace/?.py",
    "python3 check.py workspace/[ab].py",
    "python3 check.py {a,b}.py",
    "python3 check.py {1..3}",
    "python3 check.py ~/expected.txt",
    "python3 check.py # the main check",
    "(python3 check.py)",
    "LEVEL=3 python3 check.py",
    "! grep -q TODO answer.md",
    "cd workspace",
    "export A=b",
    "if true",
    "[[ -f answer.md ]]",
    "make lint\nmake test",
    "grep -q 'Paris' answer.md &&grep -q 'Rome' answer.md",
    "echo \"a\"$HOME'b'",
]


@pytest.mark.parametrize("text", NEEDS_A_SHELL)
def test_an_operator_of_a_shell_is_refused_with_the_list_that_works(text, tmp_path):
    wanted = json.dumps(["sh", "-c", text])
    for make in (
        lambda: build([{"command": text}], tmp_path),
        lambda: build([{"command": {"run": text}}], tmp_path),
        lambda: build([{"any": [{"command": text}]}], tmp_path),
        lambda: external_hook.build([text], tmp_path),
        lambda: external_hook.build([{"command": text, "name": "x"}], tmp_path),
    ):
        with pytest.raises((VerifierError, HookError)) as refused:
            make()
        assert wanted in str(refused.value)
        assert "no shell runs it" in str(refused.value)


@pytest.mark.parametrize("text", NEEDS_A_SHELL)
def test_the_same_text_in_a_list_is_left_as_it_is(text, tmp_path):
    build([{"command": ["sh", "-c", text]}], tmp_path)
    external_hook.build([["sh", "-c", text]], tmp_path)


NEEDS_NO_SHELL = [
    "make check",
    "  make   check  ",
    "make check\n",
    "grep -q 'a && b' answer.md",
    'grep -q "a | b; c > d < e (f)" answer.md',
    "grep -qE '^[0-9]*$' answer.md",
    'grep -qE "^42$" answer.md',
    'grep -q "costs \\$5" answer.md',
    "grep -q costs\\ \\$5 answer.md",
    "grep -q '$NAME `x` ~ # !' answer.md",
    "grep -q it\\'s answer.md",
    "git diff HEAD~1",
    "python3 check.py --level=3 a=b C#",
    "find . ! -name x -exec cat {} +",
    "[ -f answer.md ]",
    "test ! -f answer.md",
    "echo '' \"\" a''b",
    "echo 'line one\nline two'",
    "make \\\n check",
    'echo "a\\\nb"',
    "echo «é» “x y”",
    "echo 100% a^b a,b @x +y",
    'echo "back\\slash" "\\\\" "a\\"b"',
]


@pytest.mark.parametrize("text", NEEDS_NO_SHELL)
def test_what_needs_no_shell_is_split_as_a_shell_splits_it(text):
    shown = "import json, sys; print(json.dumps(sys.argv[1:]))"
    script = f'run() {{ "{sys.executable}" -c "$0" "$@"; }}; run {text.strip()}'
    ended = subprocess.run(
        [shutil.which("sh") or "sh", "-c", script, shown], capture_output=True, text=True, check=True
    )
    assert command_line.split(text) == json.loads(ended.stdout)


@pytest.mark.parametrize("text", ["echo 'open", 'echo "open', "echo open\\"])
def test_an_open_quote_is_refused(text, tmp_path):
    with pytest.raises(VerifierError, match="cannot be split into words"):
        build([{"command": text}], tmp_path)
