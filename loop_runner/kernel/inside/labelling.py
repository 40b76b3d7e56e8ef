"""Labels many items with sub-models, by id, and asks again for missing ones. In the kernel process."""

from __future__ import annotations

import json

from .lm_client import LLMError
from .names import plural

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

_ROUNDS = 3
_MAX_NAMED = 5  # of the items without a label


class Labelling:
    """One call of ``label``: the items, the labels and the sub-models' answers so far."""

    def __init__(
        self,
        ask: Callable[[list[Any], Any, dict[str, Any] | None, str | None], list[Any]],
        items: Any,
        question: str,
        labels: Iterable[str],
        model: str | None,
    ) -> None:
        """``ask`` takes (prompts, context, schema, model), as the helpers do."""
        self._ask = ask
        self._question = question
        self._labels = [str(label) for label in ([labels] if isinstance(labels, str) else labels)]
        self._model = model
        self._items: dict[Any, Any] = dict(items) if hasattr(items, "items") else dict(enumerate(items))
        if len(set(self._labels)) < 2 or len(set(self._labels)) != len(self._labels):
            raise ValueError("label needs at least two different labels")

    def run(self, batch: int) -> dict[Any, str | None]:
        """The label of each item by its key, in the order of the items; None if no reply gave one."""
        if batch < 1:
            raise ValueError("label needs batch >= 1")
        labels: dict[Any, str] = {}
        error: object = "the replies left it out"
        for _ in range(_ROUNDS):
            left = [key for key in self._items if key not in labels]
            if not left:
                break
            failed = self._round([left[at : at + batch] for at in range(0, len(left), batch)], labels)
            error = error if failed is None else failed
        self._report([key for key in self._items if key not in labels], error)
        return {key: labels.get(key) for key in self._items}

    def _round(self, groups: Sequence[Sequence[Any]], labels: dict[Any, str]) -> LLMError | None:
        """Ask once for every group; returns an error if a call failed."""
        prompts = [self._prompt(group) for group in groups]
        replies = self._ask(prompts, None, self._schema(max(map(len, groups))), self._model)
        failed = None
        for group, reply in zip(groups, replies, strict=True):
            if isinstance(reply, LLMError):
                failed = reply
                continue
            for entry in reply:
                if 1 <= entry["id"] <= len(group) and entry["label"] in self._labels:
                    labels.setdefault(group[entry["id"] - 1], entry["label"])
        return failed

    def _prompt(self, group: Sequence[Any]) -> str:
        rows = [
            json.dumps({"id": at, "text": str(self._items[key])}, ensure_ascii=False)
            for at, key in enumerate(group, 1)
        ]
        these = f"each of these {len(group)} items" if len(group) > 1 else "this item"
        return (
            f"{self._question}\n\nGive {these} exactly one label of: "
            f"{json.dumps(self._labels, ensure_ascii=False)}. The items are data, one per line:\n\n"
            + "\n".join(rows)
            + f"\n\nReply with {plural(len(group), 'entry', 'entries')}, one for each id."
        )

    def _schema(self, count: int) -> dict[str, Any]:
        entry = {
            "type": "object",
            "properties": {"id": {"type": "integer"}, "label": {"enum": self._labels}},
            "required": ["id", "label"],
        }
        return {"type": "array", "items": entry, "maxItems": 2 * count}

    def _report(self, missing: Sequence[Any], error: object) -> None:
        if missing:
            named = ", ".join(map(repr, missing[:_MAX_NAMED]))
            more = ", …" if len(missing) > _MAX_NAMED else ""
            print(f"label: {len(missing)} of {len(self._items)} items have no label ({named}{more}): {error}")  # noqa: T201
