"""Finds, names, hashes and checks the texts that a task works on, and has documents converted to text.

Owns what counts as an input. ``finding`` decides which files are meant, ``converting`` has documents
converted in sandboxed children (``inside``), ``loading`` combines the results. Relies on the file system
and, for documents, on the sandbox. Never copies an input that is text, and never parses a document itself.
"""

from loop_runner.inputs.converting import Converter
from loop_runner.inputs.finding import TOOL_FOLDERS
from loop_runner.inputs.images import ImageReader
from loop_runner.inputs.listing import from_json, to_json
from loop_runner.inputs.loading import (
    changed,
    content,
    found_in,
    is_fault,
    load,
    notices,
    read_bytes,
    skipped_by_kind,
)
from loop_runner.inputs.reconverting import restore
from loop_runner.inputs.urls import Fetcher, data_file
from loop_runner.scratch import cache_dir

__all__ = [
    "TOOL_FOLDERS",
    "Converter",
    "Fetcher",
    "ImageReader",
    "cache_dir",
    "changed",
    "content",
    "data_file",
    "found_in",
    "from_json",
    "is_fault",
    "load",
    "notices",
    "read_bytes",
    "restore",
    "skipped_by_kind",
    "to_json",
]
