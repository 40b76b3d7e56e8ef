"""The functions that the model's code can call, and the names it cannot lose. Inside the kernel process.

Each helper's docstring is written for the model. Heavy parts (search, citing) are imported when first used.
"""

from __future__ import annotations

from operator import is_

from . import shown
from .arguments import (
    MAX_NAME_CHARS,
    MAX_TEXTS,
    as_text,
    begins_at,
    named_texts,
    parsed,
    titled,
    utf8_of,
    values_of,
)
from .lm_client import LLMError
from .preview import length, preview, type_name
from .query_settings import settings_of
from .texts import Texts, did_you_mean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from .answer_box import AnswerBox
    from .citing import Citer
    from .lm_client import LmClient
    from .matching import Matches
    from .past import PastTurn
    from .reading import Chunk, Outline, Passage, Rows
    from .search import SearchHits, SearchIndex

_ROWS = 200
# The helpers in the system prompt, in its order and in the words of the docstrings below (``offered``).
OFFERED = (
    "search_text",
    "outline",
    "read",
    "chunks",
    "rows",
    "cite",
    "cite_lines",
    "find_all",
    "label",
    "llm_query",
    "llm_batch",
    "rlm_query",
    "rlm_batch",
    "check",
    "budget",
    "past",
    "help",
    "SHOW_VARS",
    "FINAL",
    "FINAL_VAR",
)
# Words that a model may want for its own variables: then the model's value counts.
YIELDING = frozenset(("check", "outline", "read", "rows", "label", "find_all", "past", "help"))
ALSO_CALLED = {"llm_query_batched": "llm_batch"}  # other names that models know


class Helpers:
    """The helpers of one namespace.

    ``protected`` are their fixed names in it; ``yielding`` are those whose names a cell may take.
    """

    def __init__(
        self,
        namespace: dict[str, Any],
        context: str | Texts,
        single_name: str,
        answer: AnswerBox,
        models: LmClient,
        places: Mapping[str, Sequence[tuple[int, str]]] | None = None,
        parts: Mapping[str, tuple[str, int]] | None = None,
        headings: Mapping[str, Sequence[tuple[int, int, str]]] | None = None,
        tools: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """``places``: for converted texts, (first line, label) of their pages, sheets, messages.

        ``parts``: for texts cut from a text of the run, its name and the line where they begin.
        ``headings``: for documents that list their own parts, (line, level, title). ``tools``: the task's.
        """
        self._parts = parts or {}
        self._namespace = namespace
        self._context = context
        self._single_name = single_name
        self._answer = answer
        self._models = models
        self._places = places or {}
        self._headings = headings or {}
        self._keys: list[Any] = []  # of the namespace at the last search for the model's own names
        self._own: list[str] = []
        self._index: SearchIndex | None = None
        self.protected: dict[str, Any] = {"context": context, "input_data": context, "LLMError": LLMError}
        self.protected |= {name: getattr(self, name) for name in OFFERED if name not in YIELDING}
        self.protected |= {other: self.protected[name] for other, name in ALSO_CALLED.items()}
        if tools:
            from . import tool_functions

            self.protected |= tool_functions.made(tools, models, self._take_in)
        self.yielding: dict[str, Any] = {name: getattr(self, name) for name in OFFERED if name in YIELDING}

    # ── sub-models ──────────────────────────────────────────────────────────────────────────────────

    def llm_query(
        self,
        prompt: str,
        *,
        context: Any = None,
        schema: dict[str, Any] | None = None,
        model: str | None = None,
        tools: Iterable[Any] | None = None,
        images: Iterable[Any] | None = None,
    ) -> Any:
        """Ask a sub-model, which sees only `context` (a text, or a dict of texts) and then `prompt`.

        Returns text; with `schema` (JSON Schema), data of that form. Raises LLMError.

        `tools`: tools of the task that it may call, in at most five rounds. `images`: names of images
        (`"scan.png"`), pages of PDFs (`"report.pdf#page=3"`) or bytes (PNG, JPEG).
        """
        reply = self._replies([prompt], context, schema, model, tools, images)[0]
        if isinstance(reply, LLMError):
            raise reply
        return reply

    def llm_batch(
        self,
        prompts: Iterable[str],
        *,
        context: Any = None,
        schema: dict[str, Any] | None = None,
        model: str | None = None,
    ) -> list[Any]:
        """Ask many prompts at once, each as `llm_query` does; the replies are in the same order.

        A failed call returns an LLMError, which is falsy; its str() says why.
        """
        if isinstance(prompts, str):
            raise TypeError("llm_batch takes a list of prompts; for one prompt use llm_query")
        replies = self._replies(list(prompts), context, schema, model)
        self._say_failed("llm_batch", replies)
        return replies

    def rlm_query(self, question: str, data: Any = "", *, model: str | None = None) -> str:
        """Have a child session answer `question` about `data`, with a REPL of its own.

        For a part that needs code itself; costs more than `llm_query`.

        `data` (a text, or a dict or list of texts) is its `context`. Its answer is text. Raises LLMError.
        """
        if isinstance(answer := self._delegated([(question, data)], model)[0], LLMError):
            raise answer
        return str(answer)

    def rlm_batch(self, tasks: Iterable[tuple[str, Any]], *, model: str | None = None) -> list[Any]:
        """Run `rlm_query` for many (question, data) pairs at once; results as in `llm_batch`."""
        pairs = list(tasks)
        if not all(isinstance(pair, (tuple, list)) and len(pair) == 2 for pair in pairs):
            raise TypeError("rlm_batch takes a list of (question, data) pairs")
        answers = self._delegated([(question, data) for question, data in pairs], model)
        self._say_failed("rlm_batch", answers)
        return answers

    def budget(self) -> dict[str, Any]:
        """The remaining limits of the run, as a dict.

        None where there is no limit.

        Keys: passes, turns, tokens, tokens_in, tokens_out, usd, seconds, subcalls, tool_calls, depth.
        """
        return parsed(self._models.left())  # type: ignore[no-any-return]

    def past(self, pass_number: int, turn: int) -> PastTurn:
        """A turn of this run, with `.code` and `.output`. Both count from 1."""
        from .past import PastTurn

        fields = parsed(self._models.past(pass_number, turn))
        return PastTurn(f"pass {pass_number} turn {turn}", **fields)

    def _replies(
        self,
        prompts: list[Any],
        context: Any,
        schema: dict[str, Any] | None,
        model: str | None,
        tools: Iterable[Any] | None = None,
        images: Iterable[Any] | None = None,
    ) -> list[Any]:
        settings, pictures = settings_of(schema, model, tools, images)
        before = "" if context is None else "\n\n".join(map(titled, named_texts(context))) + "\n\n"
        replies = self._models.ask([before + as_text(prompt) for prompt in prompts], settings, pictures)
        if tools is not None:
            from .tool_functions import taken_in

            replies = [taken_in(reply, self._take_in) for reply in replies]
        if schema is None:
            return list(replies)
        return [reply if isinstance(reply, LLMError) else parsed(reply) for reply in replies]

    def _delegated(self, pairs: list[tuple[Any, Any]], model: str | None) -> list[Any]:
        answers, notes = self._models.delegate([self._task(*pair, model) for pair in pairs])
        for note in dict.fromkeys(notes):
            print(f"rlm_query: {note}")  # noqa: T201 - the model is to read it
        return list(answers)

    def _task(self, question: Any, data: Any, model: str | None) -> tuple[dict[str, Any], bytes]:
        has_inputs = data is self._context
        texts = [] if has_inputs else [(name, utf8_of(text)) for name, text in named_texts(data)]
        sources = [] if has_inputs else list(map(self._source, values_of(data)))
        if len(texts) > MAX_TEXTS or any(len(name) > MAX_NAME_CHARS for name, _ in texts):
            raise ValueError(
                f"data takes up to {MAX_TEXTS:,} texts with names of up to {MAX_NAME_CHARS} characters"
            )
        about = {
            "question": as_text(question),
            "texts": [
                [name, len(text), *source] for (name, text), source in zip(texts, sources, strict=True)
            ],
            "single": not has_inputs and len(texts) == 1 and not texts[0][0],
            "inputs": has_inputs,
            "model": "" if model is None else as_text(model),
        }
        return about, b"".join(text for _, text in texts)

    def _source(self, text: object) -> tuple[str, int] | tuple[()]:
        """Name and first line of the text that contains ``text``, so that a child can cite it."""
        known = self._known_texts()
        name = getattr(text, "name", None) or next((key for key in known if known[key] is text), None)
        line = getattr(text, "line", 1)
        if type(name) is not str or type(line) is not int or name not in known:
            return ()
        return (name, line) if begins_at(known[name], line, as_text(text)) else ()

    def _say_failed(self, what: str, replies: list[Any]) -> None:
        failed = [reply for reply in replies if isinstance(reply, LLMError)]
        if failed:
            print(  # noqa: T201 - a batch that failed in part must not pass for a whole one
                f"{what}: {len(failed)} of {len(replies)} calls failed; the first: {failed[0]}"
            )

    # ── the input ───────────────────────────────────────────────────────────────────────────────────

    def search_text(
        self,
        query: str,
        names: str | Iterable[str] | None = None,
        max_results: int = 8,
        context_lines: int = 2,
        *,
        regex: bool = False,
    ) -> SearchHits:
        """Search all texts by keywords, best passages first.

        Hits have `.name`, `.line`, `.text` and `.passage`; `names` may be patterns (`*.md`).

        `.text` is the best line, `.passage` the lines around it as `name:line: text`; `.total` is the number
        of matches. `regex=True` takes `query` as a regular expression, with `context_lines` around each line
        that matches.
        """
        return self._search_index().search(as_text(query), names, max_results, context_lines, regex=regex)

    def _search_index(self) -> SearchIndex:
        from .search import SearchIndex

        if self._index is None:
            self._index = SearchIndex(self.texts(), self._place_of)
        return self._index

    def outline(self, name: str | None = None) -> Outline:
        """The headings, functions, pages, sheets or columns of the text `name`.

        Parts have `.line`, `.level` and `.text`.

        Of JSON it shows the keys, of a table the columns.
        """
        from . import outlines

        name, text = self._named(name)
        return outlines.outline(name, text, self._places.get(name, ()), self._headings.get(name, ()))

    def read(self, name: str | None = None, start: int | str = 1, end: int | None = None) -> Passage:
        """Lines `start` to `end` of the text `name` as `name:line: text`; without `end`, 200 lines.

        `start` may be a part that `outline` shows ("page 12", a heading).

        It then returns all its lines. A negative `start` counts from the end. The last line says how to read
        further.
        """
        from . import passages

        name, text = self._named(name)
        places, headings = self._places.get(name, ()), self._headings.get(name, ())
        return passages.read(name, text, start, end, places, headings)

    def chunks(
        self, text_or_name: str, size: int = 20_000, overlap: int = 0, *, by: str = "size"
    ) -> list[Chunk]:
        """Cut a text (or the text of that name) into pieces of at most `size` characters, between lines.

        `by`: "size", "heading", "function" or "row". Pieces have `.name`, `.line` and `.last_line`.

        `by="heading"` or `"function"` begins a piece at each of them; `by="row"` keeps rows of a table whole
        and repeats the row of column names.
        """
        text, name = as_text(text_or_name), ""
        if "\n" not in text and text in self.texts():
            name, text = text, self.texts()[text]
        else:
            name = next((key for key, known in self._known_texts().items() if known is text_or_name), "")
        from . import cutting

        if by == "size":
            return cutting.cut_chunks(text, size, overlap, name=name)
        if overlap:
            raise ValueError("chunks overlap only with by='size'")
        return cutting.cut_by(by, name, text, size, self._headings.get(name, ()))

    def rows(self, name: str | None = None, place: str | None = None) -> Rows:
        """The rows of a table (CSV, TSV, JSONL, JSON, Markdown) as dicts that have a `.line`.

        `place`: a part that `outline` shows ("sheet Prices").

        A column with only numbers becomes numbers, an empty value None. `.columns` has the names, `.skipped`
        the lines that are not rows.
        """
        from . import tables

        name, text = self._named(name)
        table = tables.rows(name, text, place, self._places.get(name, ()))
        if table.skipped:
            (line, why), count = table.skipped[0], len(table.skipped)
            print(f"rows: {count:,} left out, the first at {name}:{line} ({why}); see .skipped")  # noqa: T201
        return table

    def cite(self, quote: str, name: str | None = None) -> str:
        """The citation `> name:line: text` of each line of `quote`.

        ValueError if it is not in the texts word for word, or in several places.

        The message says what to do, and names the places.
        """
        return self._citer().cite(as_text(quote), None if name is None else self._named(name)[0])

    def cite_lines(self, name: str | None = None, first: int = 1, last: int | None = None) -> str:
        """The citations of the lines `first` to `last` of the text `name`; without `last`, of one line."""
        name, _ = self._named(name)
        return self._citer().cite_lines(name, first, first if last is None else last)

    def _citer(self) -> Citer:
        from .citing import Citer

        return Citer(self.texts(), self._places, self._parts)

    def find_all(self, regex: str, names: str | Iterable[str] | None = None) -> Matches:
        """Every match of a regular expression, in order; len() counts them, print() shows the first.

        They have `.name`, `.line`, `.text`, `.match` and `.groups`.

        `^` and `$` match at each line.
        """
        from .matching import find_all

        return find_all(self.texts(), self._search_index().choose(names), as_text(regex))

    def label(
        self,
        items: Any,
        question: str,
        labels: Iterable[str],
        batch: int = 40,
        *,
        model: str | None = None,
    ) -> dict[Any, str | None]:
        """Have sub-models give each item one of `labels`; returns a dict of key to label.

        `items`: a dict of key to text, or a list. Items without a label are None and are printed.

        The keys of a list are 0, 1, ... `batch` items go into one call, by id; missing ones are requested
        again.
        """
        from .labelling import Labelling

        return Labelling(self._replies, items, as_text(question), labels, model).run(batch)

    def help(self, helper: object = None) -> None:
        """Print the documentation of a helper or a function; without one, their names."""
        from .helping import describe

        print(describe(self.protected | self.yielding, helper))  # noqa: T201 - printing is what it is for

    def _named(self, name: object) -> tuple[str, str]:
        """(name, text) of the text ``name``; if there is only one text, no name is needed."""
        texts = self.texts()
        if name is None and len(texts) == 1:
            name = next(iter(texts))
        if isinstance(name, str) and name not in texts:
            ends = [full_name for full_name in texts if full_name.endswith("/" + name)]
            name = ends[0] if len(ends) == 1 else name
        if not isinstance(name, str) or name not in texts:
            close = did_you_mean(name, texts) if isinstance(name, str) else ""
            raise ValueError(f"no text is named {name!r:.80}{close}; the names are in `context`")
        return name, texts[name]

    def _known_texts(self) -> Mapping[str, str]:
        """The texts that were read so far."""
        return self._context.cached() if isinstance(self._context, Texts) else self.texts()

    def _place_of(self, name: str, line: int) -> str:
        from .places import place_of

        return place_of(self._places.get(name, ()), line)

    def _take_in(self, name: str, text: str, places: Any, headings: Any) -> None:
        """A page that a tool fetched is a text of ``context`` from now on."""
        if isinstance(self._context, Texts) and name not in self._context.cached():
            self._context.add(name, text)
            self._places = {**self._places, name: [tuple(place) for place in places]}
            self._headings = {**self._headings, name: [tuple(heading) for heading in headings]}
            self._index = None

    def texts(self) -> Texts | dict[str, str]:
        """All texts by name, even if ``context`` is a single one."""
        return self._context if isinstance(self._context, Texts) else {self._single_name: self._context}

    # ── the answer ──────────────────────────────────────────────────────────────────────────────────

    def check(self) -> None:
        """Print the verdict of the task's checks on `answer["content"]` now; it is free.

        Use it before you set `ready`.

        Checks that run programs or ask models are listed, but not run.
        """
        content = self._answer.draft()
        print(shown.cut(self._models.check(content)))  # noqa: T201 - printing is what it is for

    def FINAL(self, value: object) -> None:  # noqa: N802 - the name that models know
        """Give `value` as the final answer."""
        self._answer.finish(value)

    def FINAL_VAR(self, name: object) -> None:  # noqa: N802
        """Give the variable of that name as the final answer."""
        if not isinstance(name, str):
            self._answer.finish(name)
        elif name in self._namespace:
            self._answer.finish(self._namespace[name])
        else:
            raise NameError(
                f"FINAL_VAR: no variable is named {name!r:.80}{did_you_mean(name, self.own_names())}"
            )

    # ── the namespace ───────────────────────────────────────────────────────────────────────────────

    def SHOW_VARS(self) -> None:  # noqa: N802
        """Print your variables: name, type, size, preview."""
        rows = [row for name in self.own_names() if (row := self._row(name))]
        print("\n".join(rows[:_ROWS]) or "no variables yet")  # noqa: T201 - printing is what it is for
        if len(rows) > _ROWS:
            print(f"… and {len(rows) - _ROWS:,} more")  # noqa: T201

    def own_names(self) -> list[str]:
        """The model's own names, sorted."""
        keys = list(self._namespace)
        if len(keys) != len(self._keys) or not all(map(is_, keys, self._keys)):
            self._keys, self._own = keys, self._own_among(keys)
        helpers = [name for name, value in self.yielding.items() if self._namespace.get(name) is value]
        return [name for name in self._own if name not in helpers] if helpers else list(self._own)

    def _own_among(self, keys: list[Any]) -> list[str]:
        return sorted(
            name
            for name in keys
            if isinstance(name, str)
            and name.isidentifier()
            and len(name) <= 200
            and name[:2] != "__"
            and name not in self.protected
            and name not in ("answer", "last_output")
        )

    def _row(self, name: str) -> str:
        value = self._namespace[name]
        kind = type_name(value)
        if kind == "module":
            return ""
        count = length(value)
        size = "" if count is None else f" of {count:,}"
        return f"{name}: {kind}{size} = {preview(value)}"
