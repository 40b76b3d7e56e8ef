"""The images of a query from the kernel: names, and bytes that follow the prompt in its frame."""

from __future__ import annotations

from loop_runner.kernel.inside import wire


def split(listed: object, rest: bytes) -> tuple[str, list[str | bytes]]:
    """The prompt and the images of a query; ``WireError`` when they are not as they are listed."""
    entries = listed if type(listed) is list else [None]
    if not all(type(entry) is str or (type(entry) is int and entry > 0) for entry in entries):
        raise wire.WireError("the images of a query have a wrong shape")
    sizes = [entry for entry in entries if type(entry) is int]
    at = len(rest) - sum(sizes)
    if at < 0:
        raise wire.WireError("the images of a query are not as they are listed")
    prompt, images = _text(rest[:at]), list[str | bytes]()
    for entry in entries:
        size = entry if type(entry) is int else 0
        images.append(rest[at : at + size] if size else str(entry))
        at += size
    return prompt, images


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise wire.WireError("a prompt is not UTF-8") from None
