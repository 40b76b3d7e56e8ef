"""What the site adds to mkdocs: the navigation from docs/index.md, and the pages outside of docs/.

The README, the change log and the READMEs of the examples become pages of the site too. A link to a folder
leads to its README; a link to a file that the site does not have becomes plain text.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
OUTSIDE = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "hooks/README.md", "examples/from-rlms.md")

# How much a page counts in the search, by the beginning of its path. Explanations come before references.
_BOOST = {
    **dict.fromkeys(("adr/", "examples/", "CHANGELOG", "index.md"), 0.1),
    **dict.fromkeys(("claims", "CONTRIBUTING"), 0.2),
    **dict.fromkeys(("commands", "compared", "design", "hooks/"), 0.3),
    "faq": 2,
}
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
_ENTRY = re.compile(r"^- \[([^\]]+)\]\(([^)\s]+)\)", re.MULTILINE)


def outside() -> list[str]:
    """The pages outside of docs/, by their path from the root."""
    examples = sorted(ROOT.glob("examples/*/README.md"))
    return [*OUTSIDE, *(path.relative_to(ROOT).as_posix() for path in examples)]


def pages() -> list[str]:
    """Every page of docs/, by its path there."""
    folder = ROOT / "docs"
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.md"))


def sections(index: str) -> list[tuple[str, list[tuple[str, str]]]]:
    """The sections of the map, each with the title and the path of its pages. A list entry is a page."""
    parts = re.split(r"^## ", index, flags=re.MULTILINE)[1:]
    entries_of = [(part.partition("\n")[0], _ENTRY.findall(part)) for part in parts]
    return [(name, [(title, path) for title, path in entries]) for name, entries in entries_of if entries]


def missing(index: str) -> list[str]:
    """The pages that the map does not name. Design notes are listed by their own page."""
    named = {path for _, entries in sections(index) for _, path in entries}
    return [path for path in pages() if path not in named and path != "index.md" and not _is_note(path)]


def _is_note(path: str) -> bool:
    return path.startswith("adr/")


def in_site(path: str) -> str:
    """Where a file of the project is in the site: pages of docs/ are at its top, the README is home.md."""
    inside = path.removeprefix("docs/")
    return "home.md" if path == "README.md" else inside


def rewritten(markdown: str, page: str) -> str:
    """``markdown`` with links as the site needs them; ``page`` is its path from the root."""
    known = {f"docs/{path}" for path in pages()} | set(outside())

    def link(match: re.Match[str]) -> str:
        mark, words, target = match.groups()
        path, hash_mark, anchor = target.partition("#")
        if re.match(r"[a-z]+:", target) or not path:
            return match[0]
        aim = posixpath.normpath(posixpath.join(posixpath.dirname(page), path))
        if (ROOT / aim).is_dir():
            aim += "/README.md"
        if aim not in known and not (aim.startswith("docs/") and (ROOT / aim).is_file()):
            return match[0] if aim.startswith("docs/") else words
        here = posixpath.dirname(in_site(page)) or "."
        return f"{mark}[{words}]({posixpath.relpath(in_site(aim), here)}{hash_mark}{anchor})"

    return _LINK.sub(link, markdown)


# ── called by mkdocs ────────────────────────────────────────────────────────────────────────────────


def on_config(config: Any) -> Any:
    """Make the navigation from the map; pages that it does not name come last, under "More"."""
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    navigation: list[Any] = [{"Map": "index.md"}, {"README": "home.md"}]
    for name, entries in sections(index):
        own = [{title: _path_of(path)} for title, path in entries if not re.match(r"[a-z]+:", path)]
        navigation.append({name: own})
    notes = [path for path in pages() if _is_note(path)]
    more = [*missing(index), *[path for path in map(in_site, outside()) if path != "home.md"]]
    named = {path for _, entries in sections(index) for _, path in entries}
    more = [path for path in more if path not in {_path_of(name) for name in named}]
    config.nav = [*navigation, *([{"More": more}] if more else []), {"Design notes": notes}]
    return config


def _path_of(target: str) -> str:
    return in_site(posixpath.normpath(posixpath.join("docs", target)))


def on_files(files: Files, config: Any) -> Files:
    """Add the pages outside of docs/."""
    for path in outside():
        content = (ROOT / path).read_text(encoding="utf-8")
        files.append(File.generated(config, in_site(path), content=content))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Rewrite the links of a page, and set how much it counts in the search."""
    origins = {in_site(path): path for path in outside()}
    name = page.file.src_uri
    for beginning, boost in _BOOST.items():
        if name.startswith(beginning):
            page.meta.setdefault("search", {"boost": boost})
    return rewritten(markdown, origins.get(name, f"docs/{name}"))
