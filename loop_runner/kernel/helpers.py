"""What the model's code can call, and the names that it cannot lose. Runs inside the kernel process.

Each helper's docstring is written for the model. Heavy parts (search, citing) are imported when first used.
"""

from __future__ import annotations

from loop_runner.kernel.lm_client import LLMError
from loop_runner.kernel.preview import length, preview, type_name
from loop_runner.kernel.texts import Texts, did_you_mean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from loop_runner.kernel.answer_box import AnswerBox
    from loop_runner.kernel.lm_client import LmClient
    from loop_runner.kernel.search import SearchHits, SearchIndex

_ROWS = 200


class Helpers:
    """The helpers of one namespace; ``protected`` is what they are called there."""

    def __init__(
        self,
        namespace: dict[str, Any],
        context: str | Texts,
        single_name: str,
        answer: AnswerBox,
        models: LmClient,
    ) -> None:
        self._namespace = namespace
        self._context = context
        self._single_name = single_name
        self._answer = answer
        self._models = models
        self._index: SearchIndex | None = None
        self.protected: dict[str, Any] = {"context": context, "input_data": context, "LLMError": LLMError}
        self.protected |= {
            name: getattr(self, name)
            for name in (
                "search_text",
                "chunks",
                "cite",
                "llm_query",
                "llm_batch",
                "FINAL",
                "FINAL_VAR",
                "SHOW_VARS",
            )
        }
        self.protected["llm_query_batched"] = self.protected["llm_batch"]

    # ── sub-models ──────────────────────────────────────────────────────────────────────────────────

    def llm_query(self, prompt: str) -> str:
        """Ask the sub-model, which sees only `prompt`. Returns its reply as text."""
        reply = self._models.ask([_text(prompt)])[0]
        if isinstance(reply, LLMError):
            raise reply
        return reply

    def llm_batch(self, prompts: Iterable[str]) -> list[str]:
        """Ask the sub-model many prompts at once. Returns the replies in the same order."""
        if isinstance(prompts, str):
            raise TypeError("llm_batch takes a list of prompts; for one prompt use llm_query")
        replies = self._models.ask([_text(prompt) for prompt in prompts])
        failed = [reply for reply in replies if isinstance(reply, LLMError)]
        if failed:
            raise LLMError(f"{len(failed)} of {len(replies)} sub-model calls failed; the first: {failed[0]}")
        return [reply for reply in replies if isinstance(reply, str)]

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
        """Search all texts by keywords, best passages first; print() the result to read it.

        Each hit has `.name`, `.line`, `.text` (the best line) and `.passage` (lines as `name:line: text`).
        `names` limits the search to some texts; `regex=True` takes `query` as a regular expression.
        """
        from loop_runner.kernel.search import SearchIndex

        if self._index is None:
            self._index = SearchIndex(self.texts())
        return self._index.search(_text(query), names, max_results, context_lines, regex=regex)

    def chunks(self, text_or_name: str, size: int = 20_000, overlap: int = 0) -> list[str]:
        """Cut a text (or the text of that name) into pieces of at most `size` characters, between lines."""
        from loop_runner.kernel.search import cut_chunks

        text = _text(text_or_name)
        if "\n" not in text and isinstance(self._context, Texts) and text in self._context:
            text = self._context[text]
        return cut_chunks(text, size, overlap)

    def cite(self, quote: str, name: str | None = None) -> str:
        """Find `quote` in the texts; returns the citation line `> name:line: text of that line`."""
        from loop_runner.kernel.citing import find_citation

        return find_citation(self.texts(), _text(quote), name)

    def texts(self) -> Texts | dict[str, str]:
        """All texts by name, also when ``context`` is a single one."""
        return self._context if isinstance(self._context, Texts) else {self._single_name: self._context}

    # ── the answer ──────────────────────────────────────────────────────────────────────────────────

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
        """Print your variables: name, type, size and a short preview."""
        rows = [row for name in self.own_names() if (row := self._row(name))]
        print("\n".join(rows[:_ROWS]) or "no variables yet")  # noqa: T201 - printing is what it is for
        if len(rows) > _ROWS:
            print(f"… and {len(rows) - _ROWS:,} more")  # noqa: T201

    def own_names(self) -> list[str]:
        """The model's own names, sorted."""
        return sorted(
            name
            for name in self._namespace
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


def _text(value: object) -> str:
    """``value`` as an exact ``str``: models pass numbers, hits and lists where a text is meant."""
    return value if type(value) is str else str.__str__(str(value))
