"""Reads mailboxes and single messages: the headers that a reader needs, the text, and attachments."""

from __future__ import annotations

import email
import email.policy
from collections.abc import Callable, Iterator
from email.message import EmailMessage, Message
from html.parser import HTMLParser
from typing import Any

from loop_runner.inputs.inside import paths
from loop_runner.inputs.inside.sink import Limits, Refused, Sink, TooMuch

_HEADERS = ("From", "To", "Cc", "Date", "Subject")
_MAX_PARTS = 1000
_MAX_DEPTH = 20

Attach = Callable[[str, bytes], None]  # (member's name, its bytes)


def mailbox(data: bytes, sink: Sink, member: str, limits: Limits, attach: Attach) -> None:
    """All messages of an mbox file as one text, each with its number; attachments are passed on."""
    if not data.startswith(b"From "):
        raise Refused("broken: it is called .mbox, and does not begin like one")
    sink.sections(member, "mbox", list(_messages(data, sink, member, limits, attach)))


def message(data: bytes, sink: Sink, member: str, attach: Attach) -> None:
    """One message on its own."""
    text = _text_of(data, attach)
    if not text.strip():
        raise Refused("broken: it holds no message")
    sink.sections(member, "eml", [("message 1", text)])


def _messages(
    data: bytes, sink: Sink, member: str, limits: Limits, attach: Attach
) -> Iterator[tuple[str, str]]:
    for number, raw in enumerate(_split(data), 1):
        label = f"message {number}"
        if number > limits.members:
            raise TooMuch(f"too many messages: at most {limits.members:,} are read")
        try:
            text = _text_of(raw, _below(label, attach))
        except (Refused, RecursionError) as error:
            why = (
                "broken: its parts are nested too deeply" if isinstance(error, RecursionError) else str(error)
            )
            if isinstance(error, TooMuch):
                raise
            sink.skip(f"{member}/{label}".lstrip("/"), why)
            continue
        yield label, text + "\n"


def _below(label: str, attach: Attach) -> Attach:
    def attach_below(name: str, body: bytes) -> None:
        attach(f"{label}/{name}", body)

    return attach_below


def _split(data: bytes) -> Iterator[bytes]:
    """The messages of an mbox: each follows an empty line and one that begins with "From "."""
    start = data.find(b"\n") + 1
    while start:
        # Such a line in a body should have been written as ">From ", but not every writer does so.
        at = data.find(b"\nFrom ", start)
        while at >= 0 and not data[max(at - 2, 0) : at].endswith((b"\n", b"\n\r")):
            at = data.find(b"\nFrom ", at + 1)
        yield data[start : at + 1] if at >= 0 else data[start:]
        start = 0 if at < 0 else data.find(b"\n", at + 1) + 1


def _text_of(data: bytes, attach: Attach) -> str:
    # Parsing recurses with the nesting of parts, so the depth is checked first.
    if data.lower().count(b"boundary=") > _MAX_PARTS:
        raise Refused(f"too many parts: at most {_MAX_PARTS:,} are read")
    try:
        parsed = email.message_from_bytes(data, policy=email.policy.default)
        assert isinstance(parsed, EmailMessage)
        lines = [f"{name}: {_header(parsed, name)}" for name in _HEADERS if parsed[name] is not None]
        lines.append("")
        for name, body in _parts(parsed, 0, [_MAX_PARTS]):
            if name:
                attach(name, body)
                lines.append(f"[attached: {name}]")
            else:
                lines.append(body.decode("utf-8", "replace"))
    except Refused:
        raise
    except (LookupError, ValueError, TypeError, AttributeError, IndexError) as error:
        raise Refused(f"broken: {type(error).__name__}: {error}"[:300]) from None
    return "\n".join(lines)


def _header(parsed: EmailMessage, name: str) -> str:
    return " ".join(str(parsed[name]).split())


def _parts(part: Message[Any, Any], depth: int, left: list[int]) -> Iterator[tuple[str, bytes]]:
    """(file name or "", bytes) of a message's parts, in order; among alternatives, the plain text."""
    left[0] -= 1
    if depth > _MAX_DEPTH or left[0] < 0:
        raise Refused("broken: its parts are nested too deeply, or are too many")
    if part.is_multipart():
        children = part.get_payload()
        if not isinstance(children, list):
            raise Refused("broken: a part of it says that it has parts, and has none")
        if part.get_content_subtype() == "alternative":
            children = [_best(children)] if children else []
        for child in children:
            assert isinstance(child, Message)
            yield from _parts(child, depth + 1, left)
        return
    payload = part.get_payload(decode=True)
    body = payload if isinstance(payload, bytes) else b""
    name = part.get_filename()
    if name:
        yield paths.plain(paths.shown(str(name))).replace("/", "_") or "attachment", body
    elif part.get_content_maintype() == "text":
        text = body.decode(_charset(part), "replace")
        if part.get_content_subtype() == "html":
            text = without_tags(text)
        yield "", text.encode("utf-8", "replace")
    else:
        yield f"part.{part.get_content_subtype()}", body


def _best(children: list[Any]) -> Any:
    plain = [child for child in children if child.get_content_type() == "text/plain"]
    return (plain or children)[0]


def _charset(part: Message[Any, Any]) -> str:
    name = part.get_content_charset() or "utf-8"
    try:
        "".encode(name)
        b"".decode(name)
    except (LookupError, UnicodeError):
        return "utf-8"
    return name


class _Tags(HTMLParser):
    """Keeps the text of a page."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.kept: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag in ("script", "style"):
            self._hidden += 1
        elif tag in ("br", "p", "div", "tr", "li", "h1", "h2", "h3", "h4"):
            self.kept.append("\n")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("script", "style"):
            self._hidden = max(self._hidden - 1, 0)

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.kept.append(data)


def without_tags(text: str) -> str:
    """The text of an HTML page, without blank lines."""
    parser = _Tags()
    parser.feed(text)
    parser.close()
    lines = (" ".join(line.split()) for line in "".join(parser.kept).split("\n"))
    return "\n".join(line for line in lines if line)
