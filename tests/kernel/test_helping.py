"""What `help()` prints of helpers, of functions of the model and of the library."""

import pytest


def test_help_without_a_subject_names_the_helpers_and_nothing_else(kernel):
    printed = kernel.run("help()").output
    names = printed.strip().removeprefix("help(NAME) explains one of: ").split(", ")
    assert {"search_text", "llm_query", "llm_query_batched", "help", "check"} <= set(names)
    assert not {"LLMError", "context", "input_data", "answer"} & set(names)


@pytest.mark.parametrize("subject", ["search_text", "'search_text'"])
def test_help_shows_a_helper_with_its_annotations_without_quotes(kernel, subject):
    printed = kernel.run(f"help({subject})").output
    assert printed.startswith("search_text(query: str, names: str | Iterable[str] | None = None,")
    assert "-> SearchHits\n" in printed
    assert "best passages first" in printed


@pytest.mark.parametrize(
    ("definition", "shown"),
    [
        ("def f(a: int, b: 'list[str]' = (), *c, d: 'X' = 'x') -> 'dict[str, X]': 'Adds.'",
         "f(a: int, b: list[str] = (), *c, d: X = 'x') -> dict[str, X]\n\nAdds."),
        ("from __future__ import annotations\ndef f(a: int | None) -> Any: 'Adds.'",
         "f(a: int | None) -> Any\n\nAdds."),
        ("def f(a, /, b): pass", "f(a, /, b)\n\nIt has no docstring."),
        ("async def f(a: 'int'): 'Waits.'", "f(a: int)\n\nWaits."),
        ("f = lambda x=1: x", "<lambda>(x=1)\n\nIt has no docstring."),
        ("f = len", "len(obj, /)\n\nReturn the number of items in a container."),
    ],
)  # fmt: skip
def test_help_shows_how_a_function_is_called(kernel, definition, shown):
    kernel.run(definition)
    assert kernel.run("help(f)").output.strip() == shown


@pytest.mark.parametrize(
    ("subject", "shown"),
    [
        ("'json'", "dumps("),
        ("'json.loads'", "Deserialize"),
        ("__import__('json')", "JSONEncoder"),
        ("C", "does it"),
        ("C()", "does it"),
        ("LLMError", "A sub-model call without a reply"),
    ],
)
def test_help_shows_modules_and_classes_as_python_does(kernel, subject, shown):
    kernel.run("class C:\n    def m(self):\n        'does it'")
    result = kernel.run(f"help({subject})")
    assert result.end == "ok"
    assert shown in kernel.value("last_output")


def test_help_about_a_name_that_is_nothing_lists_the_helpers(kernel):
    printed = kernel.run("help('serch_text')").output
    assert "No Python documentation found for 'serch_text'" in printed
    assert "search_text" in printed.split("the helpers are:")[1]
