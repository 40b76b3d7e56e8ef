"""The verifier that calls a function of the program that began the run, in that program's own process.

Owns how such a function is named and hashed and what its return value means. It cannot be pinned, and the
record of its verdict says so: a process without the same function can neither continue the run with it nor
judge the answer again. A function is never imported by name: the caller passes it, or it is missing.
"""

from __future__ import annotations

import hashlib
import inspect
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from loop_runner.errors import VerifierError
from loop_runner.records import Accepted, Broken, Rejected, Verdict
from loop_runner.verify import bound_values
from loop_runner.verify.built_in import OF_PROGRAMS
from loop_runner.verify.one_line import exact_line
from loop_runner.verify.programs import Programs
from loop_runner.verify.verifier import NO_MEANS, BaseVerifier, Means, Submission

_REASON_CHARS = 4000
_SAYS_CHARS = 400


@dataclass(frozen=True, slots=True)
class Function(BaseVerifier):
    """Calls ``call(answer, submission)``; see docs/api.md for what it may return."""

    name: str
    function: str  # its module and its name there
    sha256: str  # of its source when the run began
    call: Callable[..., Any] | None = None
    values: Mapping[str, Any] | None = None  # see ``bound_values.of``; None in runs of older versions

    @classmethod
    def of(cls, value: object, name: str, functions: Mapping[str, Callable[..., Any]]) -> Function:
        """The verifier that a run folder describes; raises ``VerifierError`` for another description."""
        if not isinstance(value, Mapping) or not all(isinstance(value.get(key), str) for key in _KEYS):
            raise VerifierError(
                f"verifier `{OF_PROGRAMS}`: {value!r} is not written as expected",
                why="it names a function of the Python program that began the run",
                hint="give the function itself to the library: lr.Task(..., verifiers=[check])",
            )
        function = value["function"]
        call, values = functions.get(function), value.get("values")
        return cls(name or exact_line(function, 80), function, value["sha256"], call, values)

    @property
    def requirement(self) -> str:
        """See ``Verifier``."""
        return f"the check {self.name} must accept the answer"

    def fault(self, pins: Programs) -> str:
        """Why the function cannot be called, or how it differs from the one that the run began with."""
        if self.call is None:
            return (
                f"it is the Python function {self.function}, which only the program that began the run has;"
                " continue the run from there: lr.resume(run, verify=[...])"
            )
        if (now := sha256_of(self.call)) != self.sha256:
            return (
                f"the function {self.function} is not the one that the run began with (SHA-256 of its source"
                f" {self.sha256[:12]} then, {now[:12]} now)"
            )
        if difference := bound_values.difference(self.values, bound_values.of(self.call)):
            return f"the function {self.function} is not the one that the run began with: {difference}"
        return ""

    def verify(self, submission: Submission, means: Means = NO_MEANS) -> Verdict:
        """``Broken`` when the function is missing, changed, raises or returns something else."""
        if why := self.fault(means.programs):
            return Broken(why)
        assert self.call is not None
        about = {"name": self.function, "sha256": self.sha256, "pinned": False}
        record = {"function": about | ({"values": self.values} if self.values else {})}
        try:
            returned = self.call(submission.answer, submission)
        except AssertionError as error:
            return Rejected(str(error) or f"an assertion of {self.name} failed", record=record)
        except Exception as error:  # noqa: BLE001 - the user's code, at a border
            return Broken(exact_line(f"{self.function} raised {type(error).__name__}: {error}", 400))
        return _verdict(returned, self.name, record)


_KEYS = ("function", "sha256")


def _verdict(returned: object, name: str, record: Mapping[str, Any]) -> Verdict:
    match returned:
        case None | True | "":
            return Accepted(record=record)
        case False:
            return Rejected(f"{name} returned False", record=record)
        case str():
            return Rejected(returned[:_REASON_CHARS], record=record)
        case Accepted():
            return Accepted(
                returned.evidence, returned.score, {**returned.record, **record}, returned.statement
            )
        case Rejected():
            return Rejected(returned.reason, returned.evidence, returned.score, {**returned.record, **record})
        case Broken():
            return returned
    return Broken(f"{name} returned {type(returned).__name__}, not None, a text, True, False or a verdict")


class Collected:
    """Entries of ``verifiers:`` as in a task file, plus the functions that some of them stand for."""

    def __init__(self) -> None:
        self.functions: dict[str, Callable[..., Any]] = {}

    def specs(self, given: Iterable[Any]) -> list[Any]:
        """``given`` with an entry for each function. Raises ``VerifierError`` if one cannot be called."""
        if isinstance(given, str | Mapping) or callable(given):
            given = [given]
        if not isinstance(given, Iterable):
            raise VerifierError(
                f"verifiers are a list, not {given!r:.80}",
                why="they decide when the run ends",
                hint='for example verifiers=[lr.contains("42")], or a list of functions',
            )
        return [self._spec(entry) for entry in given]

    def _spec(self, given: Any) -> Any:
        if isinstance(given, Mapping):
            return {
                key: self.specs(value) if key in ("all", "any") and isinstance(value, list | tuple) else value
                for key, value in given.items()
            }
        return self._of_function(given) if callable(given) else given

    def _of_function(self, function: Callable[..., Any]) -> dict[str, Any]:
        _refuse(function)
        target = _named(function)
        called, count = first, _ = f"{target.__module__}:{target.__qualname__}", 1
        while called in self.functions:
            count += 1
            called = f"{first} ({count})"
        self.functions[called] = function
        about = {"function": called, "sha256": sha256_of(function), "values": bound_values.of(function)}
        spec: dict[str, Any] = {OF_PROGRAMS: about}
        spec["name"] = exact_line(called.partition(":")[2], 80)
        own = None if not hasattr(function, "__qualname__") else inspect.getdoc(function)
        if says := " ".join((own or "").partition("\n\n")[0].split()):
            spec["says"] = says[:_SAYS_CHARS]
        return spec


def named_in(specs: Iterable[Any]) -> Iterator[str]:
    """The names of the functions that entries of ``verifiers:`` call."""
    for spec in specs:
        if isinstance(spec, Mapping):
            value = spec.get(OF_PROGRAMS)
            if isinstance(value, Mapping):
                yield str(value.get("function"))
            for kind in ("all", "any"):
                members = spec.get(kind)
                yield from named_in(members if isinstance(members, list | tuple) else ())


def sha256_of(function: Callable[..., Any]) -> str:
    """SHA-256 (hex) of the source of ``function``; of its compiled code where there is no source."""
    target = _named(function)
    try:
        source = textwrap.dedent(inspect.getsource(target)).encode("utf-8", "surrogatepass")
    except (OSError, TypeError):
        code = _code(target)
        source = b"" if code is None else code.co_code + repr((code.co_names, code.co_consts)).encode()
    return hashlib.sha256(source).hexdigest()


def _code(target: Any) -> Any:
    """The compiled code of a function, or of how an instance of a class is called; None for a builtin."""
    return getattr(target, "__code__", None) or getattr(target.__call__, "__code__", None)


def _named(function: Callable[..., Any]) -> Any:
    """The object with a name and a source: the function, that of a ``partial``, or an instance's class."""
    target = inspect.unwrap(function)
    while hasattr(target, "func"):
        target = target.func
    return target if hasattr(target, "__qualname__") else type(target)


def _refuse(function: Callable[..., Any]) -> None:
    is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - whether calling it gives a coroutine
    )
    target = _named(function)
    if _code(target) is None and not _has_source(target):
        fault = "it is not written in Python, so the proof could not say what it does"
        raise _unusable(target, fault)
    fault = "it is asynchronous, and a verifier is called from a thread without an event loop" * is_async
    try:
        inspect.signature(function).bind("answer", None)
    except TypeError as error:
        fault = f"it cannot be called with (answer, submission): {error}"
    except ValueError:  # a builtin without a signature: calling it shows
        return
    if fault:
        raise _unusable(target, fault)


def _has_source(target: Any) -> bool:
    try:
        return bool(inspect.getsource(target))
    except (OSError, TypeError):
        return False


def _unusable(target: Any, fault: str) -> VerifierError:
    return VerifierError(
        f"{target.__qualname__} cannot be a verifier: {fault}",
        why="a verifier is called with the answer's text and the submission when a session wants to end",
        hint="write it as: def check(answer, submission): return None or the reason why not",
    )
