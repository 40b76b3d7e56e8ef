"""Every shape in which models have been seen to write their code, and what must be read out of it."""

import ast
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loop_runner.session.reply_reader import MAX_CHARS, read

X = "x = 1"
TWO = "hits = search_text('a')\nprint(hits)"

# (what the shape is, the reply, the code; None: no code)
SHAPES = [
    ("a repl fence", f"```repl\n{TWO}\n```", TWO),
    ("a python fence", f"```python\n{TWO}\n```", TWO),
    ("a py fence", f"```py\n{TWO}\n```", TWO),
    ("a fence with a capital tag", f"```Python\n{TWO}\n```", TWO),
    ("a bare fence", f"```\n{TWO}\n```", TWO),
    ("a tilde fence", f"~~~python\n{TWO}\n~~~", TWO),
    ("a longer fence", f"````python\n{TWO}\n````", TWO),
    ("a tag in braces", f"```{{.python}}\n{TWO}\n```", TWO),
    ("attributes behind the tag", f'```python title="a.py"\n{TWO}\n```', TWO),
    ("a blank before the tag", f"``` python\n{TWO}\n```", TWO),
    ("prose around it", f"I will look.\n\n```repl\n{TWO}\n```\nThen I wait.", TWO),
    ("prose on the opening's line", f"Here it is: ```python\n{TWO}\n```", TWO),
    ("two fences", "```repl\nx = 1\n```\nand\n```repl\nprint(x)\n```", "x = 1\nprint(x)"),
    ("the same fence twice", f"```repl\n{TWO}\n```\n```repl\n{TWO}\n```", TWO),
    ("no closing between two", "```repl\nx = 1\n```repl\nprint(x)\n```", "x = 1\nprint(x)"),
    ("a text fence beside it", f"```text\nplan\n```\n```repl\n{TWO}\n```", TWO),
    ("a json fence behind it", f'```repl\n{TWO}\n```\n```json\n{{"a": 1}}\n```', TWO),
    ("a bare fence of prose beside it", f"```\nmy plan is\n```\n```repl\n{TWO}\n```", TWO),
    ("an output fence, then more", f"```repl\n{TWO}\n```\n```output\n[]\n```\n```repl\ny = 2\n```", TWO),
    ("an invented output", f"```repl\n{TWO}\n```\nOutput:\n```\n['a']\n```\n```repl\ny = 2\n```", TWO),
    ("an invented output in bold", f"```repl\n{TWO}\n```\n**Output:** 5\n```repl\ny = 2\n```", TWO),
    ("an invented next turn", f"```repl\n{TWO}\n```\nUser: go on\n```repl\ny = 2\n```", TWO),
    ("a label before the first code", f"Result: none yet\n```repl\n{TWO}\n```", TWO),
    ("only an opening fence", f"```repl\n{TWO}", TWO),
    ("only an opening fence, with prose", f"```repl\n{TWO}\n\nThis prints the hits.", TWO),
    ("only an opening fence, torn off", f"```repl\n{TWO}\nanswer['con", TWO),
    ("only a closing fence", f"{TWO}\n```", TWO),
    ("only a closing fence behind prose", f"Let me look at it.\n\n{TWO}\n```\nDone.", TWO),
    ("a tag without its fence", f"python\n{TWO}\n```", TWO),
    ("a tag without any fence", f"repl\n{TWO}", TWO),
    ("the tag on the next line", f"```\npython\n{TWO}\n```", TWO),
    ("closing, invented output", f"{TWO}\n```\nOutput:\n```\n5\n```", TWO),
    ("closing, then a fence", "x = 1\n```\nnow\n```repl\nprint(x)\n```", "x = 1\nprint(x)"),
    ("no fence", TWO, TWO),
    ("no fence, prose before", f"Let me search for it first.\n\n{TWO}", TWO),
    ("no fence, prose behind", f"{TWO}\n\nThis will print what was found.", TWO),
    ("no fence, prose around", f"Sure!\n{TWO}\nI hope that this helps.", TWO),
    ("no fence, indented", f"    {TWO.replace(chr(10), chr(10) + '    ')}", TWO),
    ("no fence, a listing", f"The code:\n\n    {TWO.replace(chr(10), chr(10) + '    ')}\n\nGood.", TWO),
    ("no fence, a block", "Look:\nfor x in [1]:\n    print(x)\nelse:\n    print(2)\nDone.",
     "for x in [1]:\n    print(x)\nelse:\n    print(2)"),
    ("no fence, a long string", 'I do it:\na = """one\ntwo\nthree"""\nprint(a)\nSo there.',
     'a = """one\ntwo\nthree"""\nprint(a)'),
    ("no fence, open brackets", "I do:\na = [\n1,\n2,\n]\nprint(a)\nSo it is.", "a = [\n1,\n2,\n]\nprint(a)"),
    ("no fence, a last variable", "I look:\nx = 1\nx\n", "x = 1\nx"),
    ("no fence, a decorator", "So:\n@f\ndef g():\n    pass\ng()\nEnd of it.", "@f\ndef g():\n    pass\ng()"),
    ("no fence, a slice of the context", "context[:500]", "context[:500]"),
    ("single backticks", "I run this:\n`print(len(context))`", "print(len(context))"),
    ("interpreter prompts",
     ">>> x = 1\n>>> for y in [x]:\n...     print(y)\n1", "x = 1\nfor y in [x]:\n    print(y)"),
    ("interpreter prompts in a fence", "```python\n>>> x = 1\n1\n```", X),
    ("an indented fence",
     "1. Look:\n\n   ```python\n   if x:\n       print(x)\n   ```", "if x:\n    print(x)"),
    ("an indented fence only", "  ```python\nx = 1\n  ```", X),
    ("code that is all indented", "```python\n    x = 1\n    y = 2\n```", "x = 1\ny = 2"),
    ("all on one line", "```python x = 1```", X),
    ("all on one line, no tag", "```x = 1```", X),
    ("code on the opening's line", "```import re\nprint(re)\n```", "import re\nprint(re)"),
    ("glued to the closing", "```python\nx = 1```\nDone.", X),
    ("a fence in a string", "```python\ns = '''\n```\nabc\n```\n'''\n```", "s = '''\n```\nabc\n```\n'''"),
    ("an opening fence in a string",
     "```python\ns = '''\n```python\nabc\n'''\n```\nOk", "s = '''\n```python\nabc\n'''"),
    ("a fence named in a comment", "```python\nx = 1  # no ```\ny = 2\n```", "x = 1  # no ```\ny = 2"),
    ("triple quotes as a fence", "'''python\nx = 1\n'''", X),
    ("Windows line ends", "```python\r\nx = 1\r\nprint(x)\r\n```\r\n", "x = 1\nprint(x)"),
    ("a byte order mark", "\ufeff```python\nx = 1\n```", X),
    ("an end-of-turn mark", "```python\nx = 1\n```<|im_end|>", X),
    ("a thought before it", "<think>```python\ny = 2\n```</think>\n```python\nx = 1\n```", X),
    ("a thought without its opening", "I could say y = 2\n</think>\nx = 1", X),
    ("a thought that never ends", "<think>y = 2\nprint(y)", None),
    ("a code tag", "<code>\nx = 1\n</code>", X),
    ("a code tag not closed", "Ok\n<python>\nx = 1\n", X),
    ("a fence in a code tag", "<code>\n```python\nx = 1\n```\n</code>", X),
    ("a tool call", '<tool_call>\n{"name": "python", "arguments": {"code": "x = 1"}}\n</tool_call>', X),
    ("arguments as text", '{"name": "repl", "arguments": "{\\"code\\": \\"x = 1\\"}"}', X),
    ("a JSON object", 'I call it.\n{"code": "x = 1\\nprint(x)"}', "x = 1\nprint(x)"),
    ("a JSON object in a fence", '```json\n{"code": "x = 1"}\n```', X),
    ("raw line ends in JSON", '{"code": "x = 1\nprint(x)"}', "x = 1\nprint(x)"),
    ("a fence inside JSON", '{"code": "```python\\nx = 1\\n```"}', X),
    ("a parameter tag", "<function=python>\n<parameter=code>\nx = 1\n</parameter>\n</function>", X),
    ("a python token", "I look.<|python_tag|>x = 1", X),
    ("FINAL with Python", "FINAL(128)", "FINAL(128)"),
    ("FINAL with a variable", "I am done.\nFINAL(result)", "FINAL(result)"),
    ("FINAL_VAR", "FINAL_VAR(result)", "FINAL_VAR(result)"),
    ("FINAL with prose inside", "FINAL(The default is 128.)", "FINAL('The default is 128.')"),
    ("FINAL with brackets inside", "FINAL(It is 128 (see above))", "FINAL('It is 128 (see above)')"),
    ("FINAL over lines", "FINAL(It is 128\n> a.py:1: x)", "FINAL('It is 128\\n> a.py:1: x')"),
    ("FINAL never closed", "FINAL(It is 128", "FINAL('It is 128')"),
    ("FINAL at the end of a sentence", "So the answer is FINAL(128).", "FINAL(128)"),
    ("FINAL of a variable beside code", "```repl\nx = 1\n```\nFINAL(x)", "x = 1\nFINAL(x)"),
    ("FINAL_VAR beside code", "```repl\nx = 1\n```\nFINAL_VAR('x')", "x = 1\nFINAL_VAR('x')"),
    ("a guess beside code", '```repl\nx = 1\n```\nFINAL("128")', X),
    ("a syntax error is kept", "```python\nx = = 1\n```", "x = = 1"),
    ("one good and one torn block", "```python\nx = 1\n```\n```python\ny = (\n```", X),
    ("a syntax error in a bare fence", "```\nx = 1\ny = = 2\n```", "x = 1\ny = = 2"),
    ("prose", "I think that the answer is 128.", None),
    ("one word", "Done", None),
    ("words that parse", "Hello, world", None),
    ("a label that parses", "answer: 42", None),
    ("prose in a bare fence", "```\nThe answer is 128.\n```", None),
    ("an empty fence", "```python\n```", None),
    ("a fence of another language", "```bash\nls -la\n```", None),
    ("nothing", "", None),
    ("blanks", " \n\t\n", None),
    ("JSON without code", '{"answer": "128"}', None),
    ("numbers", "1\n2\n3", None),
]  # fmt: skip


@pytest.mark.parametrize(
    ("reply", "code"), [shape[1:] for shape in SHAPES], ids=[shape[0] for shape in SHAPES]
)
def test_the_code_is_found(reply, code):
    result = read(reply).code
    assert (result if result is None else result.strip("\n")) == code


def test_what_stood_around_the_code_is_prose():
    assert read("Look:\n```repl\nx = 1\n```\nNow wait.").prose == "Look:\nNow wait."
    assert read("No code at all.").prose == "No code at all."


def test_an_invalid_escape_in_a_string_is_no_warning_of_ours():
    assert read('```python\nprint("\\d")\n```').code == 'print("\\d")'


WRAPPINGS = {
    "repl": "```repl\n{}\n```",
    "python": "I will now look.\n\n```python\n{}\n```\n\nThat was it.",
    "bare": "```\n{}\n```",
    "tilde": "~~~py\n{}\n~~~",
    "long": "`````python\n{}\n`````",
    "windows": "```python\r\n{}\r\n```\r\n",
    "opening": "```python\n{}",
    "closing": "{}\n```",
    "none": "{}",
    "tag": "<code>\n{}\n</code>",
}

STATEMENTS = [
    "x = 1",
    "print(x)",
    "import re",
    "for i in range(3):\n    print(i)",
    "if x:\n    y = 2\nelse:\n    y = 3",
    "def f(a, b=2):\n    '''Doc.\n\n    ```\n    >>> f(1)\n    ```\n    '''\n    return a + b",
    's = """\n```\nfenced\n```\n"""',
    's = """\n```python\nprint(1)\n```\nOutput:\n"""',
    "s = 'a \\\n``` b'",
    "data = [\n1,\n2,\n]",
    "# a comment with ``` in it",
    "try:\n    g()\nexcept ValueError as error:\n    print(error)\nfinally:\n    pass",
    "answer['content'] = f'{x}\\n> a.py:1: b'",
    "class A:\n\n    b = 1\n\n    def c(self): return self.b",
    "with open('a') as f:\n\tt = f.read()",
    "@d\ndef e():\n    yield",
    "y = {'a': 1}; z = y",
]


@settings(max_examples=300, deadline=None)
@given(
    code=st.lists(st.sampled_from(STATEMENTS), min_size=1, max_size=6).map("\n".join),
    wrapping=st.sampled_from(sorted(WRAPPINGS)),
)
def test_valid_code_in_any_wrapping_comes_back_equal(code, wrapping):
    if wrapping in {"opening", "closing", "none"}:
        code = "x = 0\n" + code  # without fences, comments alone are prose
    if wrapping in {"closing", "none", "tag"} and "```" in code:
        return  # a fence line without one around it says where code ends
    result = read(WRAPPINGS[wrapping].format(code)).code
    assert result is not None
    assert ast.dump(ast.parse(result)) == ast.dump(ast.parse(code))


@settings(max_examples=100, deadline=None)
@given(
    code=st.lists(st.sampled_from(STATEMENTS), min_size=1, max_size=4).map("\n".join),
    indent=st.sampled_from(["  ", "    ", "\t"]),
)
def test_valid_code_in_an_indented_fence_comes_back_equal(code, indent):
    reply = "\n".join(indent + line for line in f"```python\n{code}\n```".split("\n"))
    result = read(reply).code
    assert result is not None
    assert ast.dump(ast.parse(result)) == ast.dump(ast.parse(code))


NOISE = st.lists(
    st.one_of(
        st.sampled_from(
            ["```", "```python", "~~~", "'''", "FINAL(", ")", "<code>", "</code>", "{", '{"code": "', "x = (",
             ">>> y", "\n", " ", "Output:", "print(1)", "@", "<think>", "</think>",
             "\0", "\ud800", "`a`", "<tool_call>"]
        ),
        st.text(max_size=5),
    )
).map("".join)  # fmt: skip


@settings(max_examples=500, deadline=None)
@given(NOISE)
def test_no_text_makes_the_reader_raise(text):
    result = read(text)
    assert result.code is None or result.code.strip()


HOSTILE = {
    "prose": "see the docs (of it\n",
    "fences": "```\n",
    "tagged fences": "```python\nx = (\n",
    "brackets": "(",
    "open lists": "x = [\n",
    "json": '{"a":\n',
    "tags": "<code>",
    "finals": "FINAL(\n",
    "quotes": "'''\n",
    "prompts": ">>> x = '''\n",
    "backticks": "`",
    "blanks": " ",
    "minus": "-",
    "closing": "x = 1\n```\n",
    "labels": "Output:\n```\n",
    "operators": "a+",
    "tokens": "<|im_end|>",
}


@pytest.mark.parametrize("unit", HOSTILE.values(), ids=HOSTILE)
def test_ten_megabytes_of_anything_are_read_in_bounded_time(unit):
    text = unit * (10_000_000 // len(unit))
    started = time.process_time()
    read(text)
    # Measured at under 2 s; the bound only has to tell linear from quadratic.
    assert time.process_time() - started < 10


def test_only_the_beginning_of_a_huge_reply_is_considered():
    assert read("```python\nx = 1\n```\n" + "a" * MAX_CHARS + "\n```python\ny = 2\n```").code == "x = 1"


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        ("```repl x = 1\nprint(x)\n```", "x = 1\nprint(x)"),
        ("```python import re\nprint(re)\n```", "import re\nprint(re)"),
        ("```repl for n in range(3):\n    print(n)\n```", "for n in range(3):\n    print(n)"),
        ("```py print(len(context))\nprint(2)\n```", "print(len(context))\nprint(2)"),
        ("```repl data = [\n    1,\n]\n```", "data = [\n    1,\n]"),
        ("```repl tool=toolu_01\nprint(1)\n```", "print(1)"),
        ('```python title="a.py"\nprint(1)\n```', "print(1)"),
        ("```python copy\nprint(1)\n```", "print(1)"),
        ("```python {.line-numbers}\nprint(1)\n```", "print(1)"),
        ("```python filename=a.py\nprint(1)\n```", "print(1)"),
    ],
)
def test_code_on_the_line_of_the_fence_is_not_lost_and_attributes_are_no_code(reply, code):
    assert read(reply).code == code
