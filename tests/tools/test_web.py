"""Pages that the model's code fetches: inputs from then on, cited, committed, found again; and search."""

import json
import shutil
import subprocess

import pytest

from loop_runner.runs import replay, start
from loop_runner.runs.context import RunContext
from loop_runner.runs.reverify import verify_run
from loop_runner.task import config
from loop_runner.workspace.history import History
from tests.support.tasks import cell, write_task
from tests.tools.test_python_tools import output
from tests.tools.web import Page, as_json, query_of, serving, text

PAGE = "The tower is 330 m high.\nIt was opened in 1889.\n"


def run(task, folder, env=None):
    return start.start(config.read_task(task), folder, RunContext(env or {"PATH": "/usr/bin:/bin"}))


def web_task(folder, *codes, fetch=None, search=None, **keys):
    tools = [{"fetch": {"allow": ["127.0.0.1"], "private_addresses": True, **(fetch or {})}}]
    tools += [] if search is None else [{"search": search}]
    return write_task(folder, root=list(map(cell, codes)), tools=tools, **keys)


def test_a_fetched_page_is_searched_cited_committed_and_verified_offline(tmp_path):
    with serving({"/tower": text(PAGE), "/old": "/tower"}) as web:
        code = f"""
page = fetch_url({web.url + "/old"!r})
print(list(context), page[:9], search_text('tower high'))
name = [each for each in context if 'tower' in each][0]
kept = context[name]
"""
        task = web_task(
            tmp_path / "task",
            code,
            "print(kept[:9], page == kept, name in context)\n"
            "FINAL('330 m\\n\\n' + cite('The tower is 330 m high.'))",
            verifiers=[{"citations": {"min": 1}}],
        )
        outcome = run(task, tmp_path / "run")
    assert outcome.status == "verified", outcome
    name = "127.0.0.1/tower"
    assert f"context['{name}'], 3 lines" in output(tmp_path / "run")
    assert "The tower True True" in output(tmp_path / "run", 2)
    pages = json.loads((tmp_path / "run/pages.json").read_text())["pages"]
    assert [(page["name"], page["kind"], len(page["retrieved"])) for page in pages] == [(name, "text", 10)]
    assert (tmp_path / "run/pages" / pages[0]["file"]).read_text() == PAGE
    subprocess.run(["git", "clone", "-q", tmp_path / "run", tmp_path / "clone"], check=True)
    shutil.rmtree(tmp_path / "run")
    checked = verify_run(tmp_path / "clone", RunContext({"PATH": "/usr/bin:/bin"}))
    assert (checked.status, checked.is_accepted) == ("same", True)
    assert replay.replay(tmp_path / "clone").is_same


def test_a_page_is_there_after_a_resume_and_after_the_death_of_the_kernel(tmp_path):
    with serving({"/a": text("one\n"), "/b": text("two\n")}) as web:
        task = web_task(
            tmp_path / "task",
            f"fetch_url({web.url + '/a'!r}); fetch_url({web.url + '/b'!r})",
            "import os; os._exit(3)",
            "print(sorted(context), context['127.0.0.1/b'])\nFINAL('41')",
            "print(sorted(context), context['127.0.0.1/a'], read('127.0.0.1/b'))\nFINAL('42')",
            budget={"passes": 1},
        )
        run(task, tmp_path / "run")
    assert "['127.0.0.1/a', '127.0.0.1/b', 'notes.txt'] two" in output(tmp_path / "run", 3)
    start.resume(tmp_path / "run", RunContext({"PATH": "/usr/bin:/bin"}), (("budget.passes", 2),))
    shown = (tmp_path / "run/passes/0002/turns/0001/output.txt").read_text()
    assert "['127.0.0.1/a', '127.0.0.1/b', 'notes.txt'] one" in shown
    assert "127.0.0.1/b:1: two" in shown


@pytest.mark.slow
def test_an_address_that_is_not_allowed_or_gives_nothing_costs_one_call_and_a_clear_message(tmp_path):
    pages: dict[str, Page] = {
        "/away": "http://example.org/",
        "/loop": "/loop",
        "/large": ("text/plain", b"x" * 300_000),
        "/image": ("image/png", b"\x89PNG\r\n\x1a\n" + bytes(100)),
        "/empty": text(""),
    }
    with serving(pages) as web:
        addresses = [
            *(web.url + path for path in (*pages, "/missing")),
            "http://example.org/",
            "file:///etc/passwd",
            "http://user@127.0.0.1.evil.example/",
            "not an address",
        ]
        code = f"""
for address in {addresses!r}:
    try:
        print('FETCHED', fetch_url(address))
    except ToolError as error:
        print(error)
FINAL('42')
"""
        run(web_task(tmp_path / "task", code, fetch={"max_mb": 0.2}), tmp_path / "run")
        private = web_task(
            tmp_path / "b", code.replace("for address", "for address", 1), fetch={"private_addresses": False}
        )
        run(private, tmp_path / "run-b")
    shown = output(tmp_path / "run")
    assert "FETCHED" not in shown + output(tmp_path / "run-b")
    for expected in (
        "the task does not allow the host example.org",
        "it redirects more than 5 times",
        "too large: more than 209,715 bytes",
        "binary",
        "empty",
        "the server answered 404",
        "'file:///etc/passwd' is no address of the web",
        "the task does not allow the host 127.0.0.1.evil.example",
        "'not an address' is no address",
    ):
        assert expected in shown, (expected, shown)
    assert "an address of a private network (fetch: {private_addresses: true} allows it)" in output(
        tmp_path / "run-b"
    )


RESULTS = [
    {"title": "Tower", "url": "http://a.example/", "snippet": "330 m"},
    {"title": "Other", "url": "http://b.example/", "snippet": "<b>bold</b>"},
]


def search_page(provider):
    renamed = {"searxng": "content", "tavily": "content", "brave": "description"}[provider]
    rows = [
        {"title": row["title"], "url": row["url"], renamed: row["snippet"], "score": 1.0} for row in RESULTS
    ]
    return as_json({"web": {"results": rows}} if provider == "brave" else {"results": rows})


@pytest.mark.parametrize("provider", ["searxng", "brave", "tavily"])
def test_each_search_provider_is_asked_in_its_format_and_its_answer_is_read(provider, tmp_path):
    import asyncio

    from loop_runner.tools.entries import read_entries
    from loop_runner.tools.preparing import specs
    from loop_runner.tools.searching import SearchCaller

    with serving({"/search": search_page(provider), "/": search_page(provider)}) as web:
        entry = {"search": {"provider": provider, "url": web.url + ("" if provider == "searxng" else "/")}}
        env = {"BRAVE_API_KEY": "secret-b", "TAVILY_API_KEY": "secret-t"}
        (spec,) = specs(read_entries([entry]), tmp_path, env, {})
        result = asyncio.run(SearchCaller(tmp_path, env).call(spec, {"query": "how high & wide"}))
        path, headers, body = web.requests[0]
    assert result == RESULTS
    if provider == "tavily":
        assert json.loads(body) == {"query": "how high & wide", "max_results": 10}
        assert headers["Authorization"] == "Bearer secret-t"
    else:
        assert query_of(path)["q"] == ["how high & wide"]
        assert headers.get("X-Subscription-Token", headers.get("X-subscription-token")) == (
            "secret-b" if provider == "brave" else None
        )


def test_a_search_that_is_answered_wrongly_is_an_error_in_the_cell(tmp_path):
    pages = {"/search": text("<html>no json</html>")}
    with serving(pages) as web:
        code = "try:\n    web_search('x')\nexcept ToolError as error:\n    print(error)\nFINAL('42')"
        task = web_task(tmp_path / "task", code, search={"provider": "searxng", "url": web.url})
        run(task, tmp_path / "run")
    assert "`web_search` failed: the search engine's answer is no JSON" in output(tmp_path / "run")
    with History(tmp_path / "run") as history:
        assert [call.model for call in history.calls() if call.kind == "tool"] == ["tool:web_search"]


def test_research_on_the_web_has_its_own_prompt_and_asks_for_the_date_of_retrieval(tmp_path):
    task = web_task(
        tmp_path / "task",
        "FINAL('42')",
        type="research",
        verifiers=[],
        budget={"passes": 1},
        texts={"a.txt": "x\n"},
    )
    settled = config.read_task(task)
    assert [sorted(verifier) for verifier in settled.verifiers] == [["citations"], ["name", "regex"]]
    run(task, tmp_path / "run")
    system = (tmp_path / "run/system.md").read_text()
    assert "This is research on the web." in system
    assert "literature review" not in system
    plain = write_task(tmp_path / "b", root=[cell("FINAL('42')")], type="research", verifiers=[])
    assert len(config.read_task(plain).verifiers) == 1
