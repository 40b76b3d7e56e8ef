"""A run's transcript in formats that other tools read: JSON lines, OpenAI messages, a log of Inspect.

Owns the three formats. All of them hold the run's texts whole, as they were committed; a secret of this
environment is replaced. Nothing here depends on a clock but the commit times that the run has.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

import loop_runner as lr
from loop_runner import redaction

_EPOCH = 0.0


def jsonl(record: lr.Record) -> str:
    """A line for the run, then one for each pass and one for each of its turns."""
    return _lines(_events(record))


def openai(record: lr.Record) -> str:
    """A line for each pass: its conversation as chat messages, as fine-tuning and most viewers take it."""
    return _lines(
        {
            "messages": _messages(record, entry),
            "metadata": {
                "run": record.name,
                "pass": entry.number,
                "outcome": entry.outcome,
                "score": entry.score,
            },
        }
        for entry in record.passes
    )


def inspect(record: lr.Record) -> str:
    """A log of Inspect (https://inspect.aisi.org.uk): a sample whose epochs are the passes of the run."""
    models = [line.model for line in record.costs] or ["unknown"]
    created = _time(min((entry.ended_at for entry in record.passes if entry.ended_at), default=_EPOCH))
    log = {
        "version": 2,
        "status": "success",
        "eval": {
            "created": created,
            "task": record.name,
            "task_id": record.name,
            "run_id": record.name,
            "eval_id": record.name,
            "task_version": 0,
            "dataset": {"name": record.name, "samples": 1, "sample_ids": ["run"]},
            "model": models[0],
            "config": {"epochs": max(len(record.passes), 1)},
            "packages": {"loop-runner": lr.__version__},
            "metadata": {"state": record.state, "reason": record.reason},
        },
        "plan": {"name": "loop-runner", "steps": []},
        "results": _results(record),
        "stats": {
            "started_at": created,
            "completed_at": _time(max((e.ended_at for e in record.passes if e.ended_at), default=_EPOCH)),
            "model_usage": _usage_by_model(record),
        },
        "samples": [_sample(record, entry, models[0]) for entry in record.passes],
    }
    return json.dumps(redaction.clean_json(log), ensure_ascii=True, indent=1) + "\n"


FORMATS: Mapping[str, Callable[[lr.Record], str]] = {"jsonl": jsonl, "openai": openai, "inspect": inspect}


def file_name(record: lr.Record, kind: str) -> str:
    """The name of a transcript in a folder; ``inspect view`` lists logs whose name begins with a time."""
    if kind != "inspect":
        return f"{record.folder.absolute().name}.{kind}.jsonl"
    began = _time(min((entry.ended_at for entry in record.passes if entry.ended_at), default=_EPOCH))
    name = re.sub(r"[^A-Za-z0-9-]+", "-", record.name)
    identity = hashlib.sha256(str(record.folder.absolute()).encode()).hexdigest()[:22]
    return f"{began.replace(':', '-')}_{name}_{identity}.json"


def _lines(rows: Iterator[dict[str, Any]]) -> str:
    return "".join(json.dumps(redaction.clean_json(row), ensure_ascii=True) + "\n" for row in rows)


def _events(record: lr.Record) -> Iterator[dict[str, Any]]:
    yield {
        "kind": "run",
        "version": 1,
        "name": record.name,
        "state": record.state,
        "prompt": record.prompt,
        "answer": record.answer,
        "missing": list(record.faults),
    }
    for entry in record.passes:
        for turn in entry.turns:
            row = asdict(turn)
            number = row.pop("number")
            yield {"kind": "turn", "pass": entry.number, "turn": number, **row}
        yield {
            "kind": "pass",
            "pass": entry.number,
            "outcome": entry.outcome,
            "reason": entry.reason,
            "score": entry.score,
            "answer": entry.answer,
            "usd": entry.usd,
            "commit": entry.commit,
        }


def _messages(record: lr.Record, entry: lr.RecordedPass) -> list[dict[str, str]]:
    system = [{"role": "system", "content": record.system}] if record.system else []
    reply_text = [{"role": "user", "content": entry.shown or record.prompt}]
    for number, turn in enumerate(entry.turns, 1):
        reply_text.append({"role": "assistant", "content": turn.reply})
        if turn.output and number < len(entry.turns):
            reply_text.append({"role": "user", "content": turn.output})
    return [*system, *reply_text]


def _results(record: lr.Record) -> dict[str, Any]:
    accepted = sum(entry.outcome == "accepted" for entry in record.passes)
    metrics = {"accepted": {"name": "accepted", "value": accepted}}
    score = {"name": "verifiers", "scorer": "verifiers", "params": {}, "metrics": metrics}
    return {"total_samples": len(record.passes), "completed_samples": len(record.passes), "scores": [score]}


def _sample(record: lr.Record, entry: lr.RecordedPass, model: str) -> dict[str, Any]:
    messages = _messages(record, entry)
    return {
        "id": "run",
        "epoch": entry.number,
        "input": record.prompt,
        "target": "",
        "messages": messages,
        "output": {
            "model": model,
            "choices": [
                {"message": {"role": "assistant", "content": entry.answer}, "stop_reason": "stop"},
            ],
            "usage": _usage(entry.usage),
        },
        "scores": {
            "verifiers": {
                "value": "C" if entry.outcome == "accepted" else "I",
                "answer": entry.answer,
                "explanation": entry.reason or entry.outcome,
                "metadata": {"score": entry.score},
            }
        },
        "metadata": {"outcome": entry.outcome, "commit": entry.commit, "usd": entry.usd},
        "total_time": entry.seconds,
    }


def _usage(usage: lr.Usage) -> dict[str, int]:
    return {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        "input_tokens_cache_read": usage.cache_read_tokens,
        "input_tokens_cache_write": usage.cache_write_tokens,
    }


def _usage_by_model(record: lr.Record) -> dict[str, dict[str, int]]:
    sums: dict[str, lr.Usage] = {}
    for line in record.costs:
        sums[line.model] = sums.get(line.model, lr.Usage()) + line.usage
    return {model: _usage(usage) for model, usage in sorted(sums.items())}


def _time(seconds: float) -> str:
    try:
        return dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat()
    except (OverflowError, ValueError, OSError):
        return dt.datetime.fromtimestamp(_EPOCH, dt.UTC).isoformat()
