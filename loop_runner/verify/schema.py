"""The verifier that requires JSON of a given shape, in the answer or in a file.

Owns what counts as the JSON of an answer and how a fault is worded; ``json_schema`` compares.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from loop_runner.records import Accepted, Broken, Rejected, Verdict
from loop_runner.text import cut_middle
from loop_runner.verify.json_schema import (
    BadSchemaError,
    NoVerdictError,
    SchemaChecker,
    TooSlowError,
    decode,
    only_json,
)
from loop_runner.verify.one_line import exact_line
from loop_runner.verify.options import SECONDS, TEXT, TEXT_OR_MAPPING, Keys, Options
from loop_runner.verify.programs import Programs
from loop_runner.verify.verifier import NO_MEANS, BaseVerifier, Means, Submission

_MAX_FAULT_CHARS = 800
_MAX_BYTES = 64 * 1024 * 1024
_MAX_SHOWN_CHARS = 40_000  # of a schema, in the prompt


@dataclass(frozen=True, slots=True)
class Schema(BaseVerifier):
    """Accepts when the answer, or the file ``of`` in the workspace, is JSON that fits."""

    is_free = True
    KEYS: ClassVar[Keys] = {"schema": TEXT_OR_MAPPING, "of": TEXT, "timeout_s": SECONDS}

    name: str
    schema: str | Mapping[str, Any]  # a file of the task's folder, or the schema itself
    task_dir: Path
    of: str = ""  # a path in workspace/; empty: the answer
    timeout_s: float = 30.0

    @classmethod
    def settings_from(cls, value: object) -> object:
        """The settings; the schema itself may be written in their place."""
        is_schema = isinstance(value, Mapping) and "schema" not in value and bool(set(value) - set(cls.KEYS))
        return {"schema": value} if is_schema else value

    @classmethod
    def from_options(cls, name: str, options: Options, task_dir: Path) -> Schema:
        """Raises ``VerifierError`` when there is no schema."""
        schema = options.text_or_mapping("schema")
        of = options.word("of", "")
        label = schema if isinstance(schema, str) else "written in the task"
        return cls(
            name or exact_line(f"schema {label}", 80),
            schema,
            task_dir,
            "" if of == "answer" else of,
            options.seconds("timeout_s", 30.0),
        )

    @property
    def requirement(self) -> str:
        """See ``Verifier``."""
        named = f"the JSON Schema {self.schema}" if isinstance(self.schema, str) else "this JSON Schema"
        return f"{f'the file {self.of}' if self.of else 'the answer'} must be JSON that fits {named}"

    def described(self, pins: Programs, *, briefly: bool = False) -> str:
        """With the schema itself; a small model is not shown one that is in a file."""
        if briefly and isinstance(self.schema, str):
            return self.requirement
        try:
            schema, _ = self._schema(pins)
        except ValueError:
            return self.requirement  # the schema is missing, and the verdict will say so
        return f"{self.requirement}: {cut_middle(json.dumps(schema, ensure_ascii=False), _MAX_SHOWN_CHARS)}"

    @property
    def reads_files(self) -> bool:  # type: ignore[override]
        """See ``Verifier``."""
        return bool(self.of)

    def sources(self) -> list[Path]:
        """What is to be pinned for it."""
        return [self.task_dir / self.schema] if isinstance(self.schema, str) else []

    def fault(self, pins: Programs) -> str:
        """Why no answer could be compared with the schema; "" when one can."""
        try:
            schema, _ = self._schema(pins)
        except ValueError as error:
            return exact_line(str(error), 400)
        compared = self._compare(schema, None)
        return compared.reason if isinstance(compared, Broken) else ""

    def verify(self, submission: Submission, means: Means = NO_MEANS) -> Verdict:
        """``Broken`` when the schema is missing, changed or no schema."""
        try:
            schema, record = self._schema(means.programs)
        except ValueError as error:
            return Broken(exact_line(str(error), 400))
        try:
            value = _read(self._text(submission))
        except _NotJson as fault:
            return Rejected(str(fault), fault.evidence, 0.0, record)
        result = self._compare(schema, value)
        if isinstance(result, Broken):
            return result
        faults, more = result
        if not faults:
            # In a report, a file's name is more useful than the first lines of its schema.
            return Accepted(record=record, statement=self.requirement if isinstance(self.schema, str) else "")
        count = len(faults) + more
        plural = "fault" if count == 1 else "faults"
        what, first = self.of or "the answer", exact_line(faults[0], 300)
        return Rejected(
            f"{what} does not fit the schema: {count} {plural}, the first at {first}",
            "\n".join([*(exact_line(fault, _MAX_FAULT_CHARS) for fault in faults), *_further(more)]),
            round(1 / (1 + count), 4),
            record,
        )

    def _schema(self, pins: Programs) -> tuple[object, dict[str, Any]]:
        if not isinstance(self.schema, str):
            return dict(self.schema), {}
        mine = [
            program for program in pins.files.values() if program.source == str(self.task_dir / self.schema)
        ]
        if not mine or mine[0].data is None:
            msg = f"there is no schema {self.schema} in the task's folder {self.task_dir}"
            raise ValueError(msg)
        if changed := pins.changed(mine):
            raise ValueError(changed)
        record = {"programs": {self.schema: mine[0].sha256}}
        try:
            return json.loads(mine[0].data), record
        except (ValueError, RecursionError) as error:
            msg = f"{self.schema} is not JSON: {error}"
            raise ValueError(msg) from error

    def _text(self, submission: Submission) -> str:
        """The JSON to judge; ``_NotJson`` when there is none, or when it is ambiguous."""
        if not self.of:
            try:
                return only_json(submission.answer)
            except ValueError as error:
                raise _NotJson(f"it can be read in more than one way: {error}") from None
        root = (submission.checkout / "workspace").resolve()
        path = (root / self.of.removeprefix("workspace/")).resolve()
        if not path.is_relative_to(root):  # "of: /etc/passwd" in a run that someone else made
            raise _NotJson(f"{self.of} is not in the workspace")
        try:
            if path.stat().st_size > _MAX_BYTES:
                raise _NotJson(f"{self.of} is longer than {_MAX_BYTES:,} bytes")
            return path.read_text(encoding="utf-8-sig")
        except OSError:
            raise _NotJson(f"there is no file {self.of} in the workspace") from None
        except UnicodeDecodeError as error:
            raise _NotJson(f"{self.of} is not UTF-8: {error.reason} at byte {error.start}") from None

    def _compare(self, schema: object, value: object) -> tuple[list[str], int] | Broken:
        checker = SchemaChecker(self.timeout_s)
        try:
            return checker.faults(json.dumps(schema), json.dumps(value))
        except TooSlowError:
            return Broken(f"the schema was not done with this answer in {self.timeout_s:g} s")
        except NoVerdictError as error:
            return Broken(exact_line(f"the schema could not be tried: {error}", 400))
        except BadSchemaError as error:
            return Broken(exact_line(f"the schema cannot be used: {error}", 400))
        finally:
            checker.close()


class _NotJson(Exception):  # noqa: N818 - an answer's fault
    """There is no JSON to compare; the text says why, ``evidence`` where."""

    def __init__(self, reason: str, evidence: str = "") -> None:
        super().__init__(reason)
        self.evidence = evidence


def _read(text: str) -> object:
    try:
        return decode(text)
    except json.JSONDecodeError as error:
        line = error.doc.split("\n")[error.lineno - 1] if error.doc else ""
        raise _NotJson(
            f"it is not JSON: {error.msg} at line {error.lineno}, column {error.colno}",
            f"line {error.lineno} is: {exact_line(line)}" if line else "it is empty",
        ) from None
    except ValueError as error:
        raise _NotJson(f"it is not JSON: {error}", cut_middle(text, 600)) from None


def _further(more: int) -> list[str]:
    return [f"and {more} more"] if more else []
