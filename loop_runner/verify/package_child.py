"""Runs as a program, in the sandbox: calls the verifier that a package adds, and sends its reply.

Arguments: the folder of ``loop_runner``, the descriptor of the verdict channel, and that of the model line
("" for none). The job comes on standard input as JSON. The verifier is imported from the pinned files.
"""

import importlib.util
import inspect
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_MAX_CHARS = 20_000  # of each text that is sent


def main() -> None:
    """Do the job and send the outcome."""
    package_dir, channel, line = sys.argv[1:4]
    del sys.argv[1:]
    _find_loop_runner(Path(package_dir))
    from loop_runner.verify import python_child

    send = python_child.channel(int(channel), Path(package_dir) / "linux.py")
    job = json.load(sys.stdin)
    sent = {key: _cut(value) for key, value in _done(job, int(line) if line else None).items()}
    send(json.dumps(sent, default=repr).encode())


def _find_loop_runner(folder: Path) -> None:
    """Import the package from ``folder``, wherever it is: the folder above it may be unreadable."""
    spec = importlib.util.spec_from_file_location(
        "loop_runner", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    assert spec.loader is not None
    sys.modules["loop_runner"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["loop_runner"])


def _cut(value: object) -> object:
    if not isinstance(value, str) or len(value) <= _MAX_CHARS:
        return value
    return f"{value[: _MAX_CHARS // 2]}\n[…]\n{value[-_MAX_CHARS // 2 :]}"


def _done(job: Mapping[str, Any], line: int | None) -> dict[str, Any]:
    sys.path[:0] = job["paths"]
    sys.path += [folder for folder in job["installed"] if folder not in sys.path]
    module, _, name = job["value"].partition(":")
    try:
        make: Any = importlib.import_module(module)
        for part in filter(None, name.split(".")):
            make = getattr(make, part)
    except BaseException as error:  # noqa: BLE001 - a border: whatever the package does on import
        return {"broken": f"its code ({job['value']}) cannot be loaded: {_last_line(error)}"}
    base_dir = Path(job["base_dir"])
    try:
        verifier = make(job["name"], job["settings"], base_dir)
    except BaseException as error:  # noqa: BLE001 - a border: the package's own code
        return {"refused": f"it does not take these settings: {_last_line(error)}"}
    do = {"describe": _described, "refuse": _refusal, "verify": _verdict}[job["do"]]
    return do(verifier, job, base_dir, line)


def _described(verifier: Any, job: Mapping[str, Any], base_dir: Path, _line: int | None) -> dict[str, Any]:
    """What a run must know before it begins. The verifier's own files are requested first."""
    try:
        sources = [_relative(path, base_dir) for path in _listed(verifier, "sources")]
        if not job["is_last"] and not all(Path(base_dir, path).exists() for path in sources):
            return {"sources": sources}
        return {
            "sources": sources,
            "name": getattr(verifier, "name", "") or job["name"],
            "requirement": getattr(verifier, "requirement", None),
            "models": _listed(verifier, "models"),
            "network": getattr(verifier, "network", False),
            "timeout_s": getattr(verifier, "timeout_s", None),
            "refuses": _has_own(verifier, "refuse"),
        }
    except BaseException as error:  # noqa: BLE001 - a border: the package's own code
        return {"broken": f"it cannot say what it requires: {_last_line(error)}"}


def _listed(verifier: Any, name: str) -> Any:
    """The list that a method returns; empty if the method does not exist."""
    method = getattr(verifier, name, None)
    listed = method() if callable(method) else method or []
    return list(listed) if isinstance(listed, Sequence) and not isinstance(listed, str) else listed


def _relative(path: Any, base_dir: Path) -> str:
    full = os.path.normpath(Path(base_dir, path))
    return os.path.relpath(full, base_dir) if Path(full).is_relative_to(base_dir) else str(path)


def _has_own(verifier: Any, name: str) -> bool:
    from loop_runner.verify import BaseVerifier

    own = getattr(type(verifier), name, None)
    return own is not None and own is not getattr(BaseVerifier, name)


def _refusal(verifier: Any, job: Mapping[str, Any], _base_dir: Path, _line: int | None) -> dict[str, Any]:
    try:
        verifier.refuse(_inputs(job))
    except BaseException as error:  # noqa: BLE001 - a border: the package's own code
        return {"refused": _last_line(error)}
    return {}


def _verdict(verifier: Any, job: Mapping[str, Any], _base_dir: Path, line: int | None) -> dict[str, Any]:
    from loop_runner.verify import Means, Submission
    from loop_runner.verify.model_line import RemotePanel

    answer = Path(os.environ["LOOP_ANSWER"])
    submission = Submission(
        answer.read_text(encoding="utf-8", errors="replace"),
        answer.parent,
        _inputs(job),
        job["prompt"],
        tuple(job["earlier"]),
    )
    given: list[Any] = [submission]
    if _takes_means(verifier.verify):
        given.append(Means(panel=None if line is None else RemotePanel(line, job["model"])))
    try:
        return _read(verifier.verify(*given))
    except BaseException as error:  # noqa: BLE001 - a border: the package's own code, sys.exit among it
        return {"broken": f"it failed with {_last_line(error)}{_place(error)}"}


def _takes_means(verify: Any) -> bool:
    """Whether its signature is ``verify(submission, means)``; earlier ones take the submission alone."""
    try:
        inspect.signature(verify).bind(None, None)
    except (TypeError, ValueError):
        return False
    return True


def _inputs(job: Mapping[str, Any]) -> Any:
    from loop_runner.records import Inputs, InputText

    texts = (InputText(name, Path(path), size, sha256) for name, path, size, sha256 in job["inputs"])
    return Inputs(tuple(texts))


def _read(verdict: Any) -> dict[str, Any]:
    from loop_runner.records import Accepted, Broken, Rejected

    if isinstance(verdict, Accepted):
        statement = verdict.statement
        return {
            "verdict": "accepted",
            "evidence": verdict.evidence,
            "score": verdict.score,
            "statement": statement,
        }
    if isinstance(verdict, Rejected):
        return {
            "verdict": "rejected",
            "reason": verdict.reason,
            "evidence": verdict.evidence,
            "score": verdict.score,
        }
    if isinstance(verdict, Broken):
        return {"broken": verdict.reason}
    return {"broken": f"`verify` returned {verdict!r:.100}; it must be Accepted, Rejected or Broken"}


def _last_line(error: BaseException) -> str:
    """The error in one line; a ``LoopRunnerError`` words it itself."""
    return getattr(error, "message", "") or f"{type(error).__name__}: {error}".strip().replace("\n", " ")


def _place(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f", at {Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace else ""


if __name__ == "__main__":
    main()
