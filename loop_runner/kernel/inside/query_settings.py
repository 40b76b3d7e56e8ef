"""What the host is given with a prompt: a schema, a model, tools, images. Runs inside the kernel process."""

from __future__ import annotations

from .arguments import as_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any


def settings_of(
    schema: dict[str, Any] | None,
    model: str | None,
    tools: Iterable[Any] | None,
    images: Iterable[Any] | None,
) -> tuple[dict[str, Any], bytes]:
    """The settings of a query, without what was not given, and the bytes of images that follow the prompt."""
    if schema is not None and not isinstance(schema, dict):
        raise TypeError("schema takes a JSON Schema as a dict, such as {'type': 'integer'}")
    settings: dict[str, Any] = {} if schema is None else {"schema": schema}
    if model is not None:
        settings["model"] = as_text(model)
    if tools is not None:
        settings["tools"] = [getattr(tool, "__name__", as_text(tool)) for tool in tools]
    return settings, b"" if images is None else _with_images(images, settings)


def _with_images(images: Iterable[Any], settings: dict[str, Any]) -> bytes:
    """Add the images to ``settings``, by names, or by the sizes of the bytes, which are returned."""
    if isinstance(images, (str, bytes, bytearray)):
        raise TypeError("images takes a list: images=['scan.png']")
    entries: list[str | int] = []
    parts = []
    for image in images:
        if isinstance(image, str):
            entries.append(image)
        elif isinstance(image, (bytes, bytearray, memoryview)) and len(image):
            parts.append(bytes(image))
            entries.append(len(parts[-1]))
        else:
            raise TypeError(
                "images takes names of images ('scan.png'), pages of PDFs ('report.pdf#page=3') and bytes, "
                f"not {type(image).__name__}"
            )
    settings["images"] = entries
    return b"".join(parts)
