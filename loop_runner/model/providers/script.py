"""``script:FILE``: replies from a YAML file, for tests and examples.

Owns that file's format (docs/script-models.md). Relies on PyYAML. Deterministic: the same requests get the
same replies, in any process, which is what crash tests compare.
"""

from __future__ import annotations

import asyncio
import difflib
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast, get_args

from loop_runner.errors import ConfigError, ModelError
from loop_runner.model.client import TryAgain
from loop_runner.records import Reply, Request, RequestKind, Usage
from loop_runner.task import named_file
from loop_runner.text import plural

FaultKind = Literal["error", "overloaded", "refusal", "max_tokens", "throttled", "window", "hang"]

_CHARS_PER_TOKEN = 4
_GROUP = re.compile(r"\{([1-9])\}")


@dataclass(frozen=True, slots=True)
class Rule:
    """One way to answer a sub-call: the first rule whose ``pattern`` is found in the prompt wins."""

    reply: str
    pattern: re.Pattern[str] | None = None  # None: any prompt

    def answer(self, prompt: str) -> str | None:
        """The reply to ``prompt``, with ``{1}`` … ``{9}`` as the pattern's groups; None: no match."""
        if self.pattern is None:
            return self.reply
        match = self.pattern.search(prompt)
        if match is None:
            return None
        groups = match.groups(default="")
        return _GROUP.sub(lambda m: groups[int(m[1]) - 1] if int(m[1]) <= len(groups) else m[0], self.reply)


@dataclass(frozen=True, slots=True)
class ChildRule:
    """The replies of a child session, in order; the first rule whose ``pattern`` is in its question wins."""

    replies: tuple[str, ...]
    pattern: re.Pattern[str] | None = None  # None: any question


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong at the ``number``-th request (from 1) of a kind."""

    kind: RequestKind
    number: int
    what: FaultKind


@dataclass(frozen=True, slots=True)
class Script:
    """A script file, checked."""

    path: Path
    root: tuple[str, ...] = ()
    sub: tuple[Rule, ...] = ()
    judge: tuple[Rule, ...] = ()
    summary: tuple[Rule, ...] = (Rule("This is the scripted summary."),)
    child: tuple[ChildRule, ...] = ()
    latency_s: float = 0.0
    faults: tuple[Fault, ...] = ()
    usage: Usage | None = None  # the same for every reply; None: estimated from the lengths


class ScriptClient:
    """Answers root requests in order (by ``Request.ordinal``), sub and judge requests by rule."""

    takes_images = True  # and looks at none

    def __init__(self, script: Script) -> None:
        self._script = script
        self._seen: Counter[str] = Counter()
        self._throttled: set[tuple[str, int]] = set()

    async def complete(self, request: Request) -> Reply:
        """The scripted reply. Raises ``ModelError`` when there is none, or when the script says so."""
        number = self._number(request)
        if self._script.latency_s:
            await asyncio.sleep(self._script.latency_s)
        fault = next(
            (f.what for f in self._script.faults if (f.kind, f.number) == (request.kind, number)), None
        )
        if fault == "hang":
            await asyncio.Event().wait()
        if fault == "window":
            return Reply("", "model_context_window_exceeded", model=self._script.path.name)
        if fault == "throttled" and (request.kind, number) not in self._throttled:
            self._throttled.add((request.kind, number))
            self._seen[request.kind] -= 1  # it comes again, and is the same request
            raise TryAgain(
                f"{self._script.path.name}: throttled, as scripted for {request.kind} request {number}",
                reason="throttled, as scripted",
                is_throttle=True,
                asked_pause_s=0.0,
            )
        if fault in ("error", "overloaded"):
            raise ModelError(
                f"{self._script.path.name}: {fault}, as scripted for {request.kind} request {number}",
                hint="this is a fault that the script file asks for",
            )
        if fault == "refusal":
            return Reply("", "refusal", self._usage(request, ""), model=self._script.path.name)
        text = self._text(request)
        if fault == "max_tokens":
            text = text[: len(text) // 2]
        reply = Reply(text, "end_turn", self._usage(request, text), model=self._script.path.name)
        return replace(reply, stop_reason="max_tokens") if fault == "max_tokens" else reply

    async def close(self) -> None:
        """Nothing to let go of."""

    def _number(self, request: Request) -> int:
        """Which request of its kind this is, from 1. Only the root's is known across restarts."""
        # Sub-calls are made side by side, so their order over a whole run means nothing.
        self._seen[request.kind] += 1
        return request.ordinal + 1 if request.kind == "root" else self._seen[request.kind]

    def _text(self, request: Request) -> str:
        script = self._script
        if request.kind == "root":
            if request.ordinal < len(script.root):
                return script.root[request.ordinal]
            raise ModelError(
                f"{script.path.name} has {plural(len(script.root), 'root reply', 'root replies')} and "
                f"was asked for reply number {request.ordinal + 1}",
                why="a script only has the replies that its file lists",
                hint=f"add a reply under `root:` in {script.path}, or set a smaller budget",
            )
        if request.is_conversation and request.kind != "summary":
            return self._child_text(request)
        rules = {"sub": script.sub, "judge": script.judge}.get(request.kind, script.summary)
        prompt = request.messages[-1].text if request.messages else ""
        for rule in rules:
            if (answer := rule.answer(prompt)) is not None:
                return answer
        raise ModelError(
            f"no rule under `{request.kind}:` in {script.path.name} fits the prompt: {prompt[:200]!r}",
            hint=f"add a rule, or one with only `reply:` that fits any prompt, to {script.path}",
        )

    def _child_text(self, request: Request) -> str:
        """The reply of a child session's turn; ``ordinal`` says how many turns it has had."""
        question = request.messages[0].text
        for rule in self._script.child:
            if rule.pattern is None or rule.pattern.search(question):
                if request.ordinal < len(rule.replies):
                    return rule.replies[request.ordinal]
                break
        raise ModelError(
            f"{self._script.path.name} has no reply number {request.ordinal + 1} for the child session"
            f" that is asked: {question[:200]!r}",
            hint=f"add a rule with `replies:` under `child:` in {self._script.path}",
        )

    def _usage(self, request: Request, reply: str) -> Usage:
        if self._script.usage is not None:
            return self._script.usage
        prompt_chars = len(request.system) + sum(len(message.text) for message in request.messages)
        return Usage(-(-prompt_chars // _CHARS_PER_TOKEN), -(-len(reply) // _CHARS_PER_TOKEN))


# ── reading the file ────────────────────────────────────────────────────────────────────────────────


def read_script(path: Path) -> Script:
    """Read and check ``path``. Raises ``ConfigError`` that names the file, the line and the nearest key."""
    import yaml

    try:
        node = yaml.compose(named_file.read_text(path), Loader=yaml.SafeLoader)
    except FileNotFoundError:
        raise ConfigError(
            f"there is no script file {path}",
            why="it contains every reply of a script model",
            hint="the path in script:FILE is relative to the task file",
        ) from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error}", hint="a script file is YAML in UTF-8") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}{line}: not valid YAML: {getattr(error, 'problem', error)}") from error
    return Script(path, **_Reader(path).section(node, _SCRIPT_KEYS))


class _Reader:
    """Turns YAML nodes into checked values; a node, unlike a value, knows its line."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def bad(self, node: Any, message: str, hint: str = "") -> ConfigError:
        line = node.start_mark.line + 1 if node is not None else 1
        return ConfigError(f"{self._path}, line {line}: {message}", hint=hint or "see docs/script-models.md")

    def section(self, node: Any, keys: Mapping[str, Callable[[_Reader, Any], Any]]) -> dict[str, Any]:
        """A mapping whose keys are all in ``keys``, each value read by its own function."""
        import yaml

        if not isinstance(node, yaml.MappingNode):
            raise self.bad(node, f"expected a mapping of {', '.join(keys)}")
        values = {}
        for key, value in node.value:
            if key.value not in keys:
                near = difflib.get_close_matches(str(key.value), keys, n=1, cutoff=0.5)
                hint = f"did you mean `{near[0]}`?" if near else f"known keys: {', '.join(keys)}"
                raise self.bad(key, f"unknown key `{key.value}`", hint)
            values[key.value] = keys[key.value](self, value)
        return values

    def items(self, node: Any) -> Sequence[Any]:
        import yaml

        if not isinstance(node, yaml.SequenceNode):
            raise self.bad(node, "expected a list")
        return cast("Sequence[Any]", node.value)

    def text(self, node: Any) -> str:
        import yaml

        if not isinstance(node, yaml.ScalarNode):
            raise self.bad(node, "expected a text")
        return str(node.value)

    def number(self, node: Any) -> float:
        try:
            value = float(self.text(node))
        except ValueError:
            raise self.bad(node, f"expected a number, not {node.value!r}") from None
        if not 0 <= value < float("inf"):
            raise self.bad(node, f"expected a number from 0 up, not {node.value!r}")
        return value

    def count(self, node: Any) -> int:
        return int(self.number(node))

    def replies(self, node: Any) -> tuple[str, ...]:
        return tuple(self.text(item) for item in self.items(node))

    def rules(self, node: Any) -> tuple[Rule, ...]:
        return tuple(self._rule(item) for item in self.items(node))

    def _rule(self, node: Any) -> Rule:
        keys = {"match": _Reader.pattern, "contains": _Reader.literal, "reply": _Reader.text}
        values = self.section(node, keys)
        if "reply" not in values:
            raise self.bad(node, "a rule without `reply`")
        if "match" in values and "contains" in values:
            raise self.bad(node, "a rule with both `match` and `contains`", "keep one of them")
        return Rule(values["reply"], values.get("match", values.get("contains")))

    def child_rules(self, node: Any) -> tuple[ChildRule, ...]:
        return tuple(self._child_rule(item) for item in self.items(node))

    def _child_rule(self, node: Any) -> ChildRule:
        keys = {"match": _Reader.pattern, "contains": _Reader.literal, "replies": _Reader.replies}
        values = self.section(node, keys)
        if "replies" not in values:
            raise self.bad(node, "a rule for child sessions without `replies`")
        if "match" in values and "contains" in values:
            raise self.bad(node, "a rule with both `match` and `contains`", "keep one of them")
        return ChildRule(values["replies"], values.get("match", values.get("contains")))

    def pattern(self, node: Any) -> re.Pattern[str]:
        try:
            return re.compile(self.text(node), re.DOTALL)
        except re.error as error:
            raise self.bad(node, f"not a regular expression: {error}") from None

    def literal(self, node: Any) -> re.Pattern[str]:
        return re.compile(re.escape(self.text(node)))

    def faults(self, node: Any) -> tuple[Fault, ...]:
        return tuple(self._fault(item) for item in self.items(node))

    def _fault(self, node: Any) -> Fault:
        values = self.section(node, {"on": _Reader.text, "kind": _Reader.text})
        place = re.fullmatch(r"(root|sub|child|judge|summary) ([1-9]\d*)", values.get("on", ""))
        if place is None:
            raise self.bad(
                node, f"`on` takes a kind and a number, not {values.get('on')!r}", "for example: root 3"
            )
        what = values.get("kind")
        if what not in get_args(FaultKind):
            raise self.bad(node, f"unknown fault {what!r}", f"known faults: {', '.join(get_args(FaultKind))}")
        return Fault(cast("RequestKind", place[1]), int(place[2]), cast("FaultKind", what))

    def usage(self, node: Any) -> Usage:
        names = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
        return Usage(**self.section(node, dict.fromkeys(names, _Reader.count)))


_SCRIPT_KEYS: dict[str, Callable[[_Reader, Any], Any]] = {
    "root": _Reader.replies,
    "sub": _Reader.rules,
    "judge": _Reader.rules,
    "summary": _Reader.rules,
    "child": _Reader.child_rules,
    "latency_s": _Reader.number,
    "faults": _Reader.faults,
    "usage": _Reader.usage,
}
