"""Checks a built site: every link and anchor leads somewhere, no reference is unresolved, nothing is fetched elsewhere.

  python -m tools.docs.site build/site

Links to other sites are not followed.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tools.commands import main

CODE = frozenset({"code", "pre", "script", "style"})
EMPTY = frozenset(
    {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
)
FETCHED = {"img": "src", "script": "src", "iframe": "src", "source": "src", "audio": "src", "video": "src"}
FETCHED_LINKS = frozenset({"stylesheet", "icon", "preload", "preconnect", "dns-prefetch", "modulepreload"})
_REFERENCE = re.compile(r"\[[^\[\]\n]+\]\[[^\[\]\n]*\]")
_NOT_FOUND_PAGE = "404.html"


@dataclass(frozen=True, kw_only=True)
class CheckConfig:
    """What is checked.

    Attributes:
        site: Folder of a built site.
    """

    site: str


@dataclass
class Page(HTMLParser):
    """What one page has: anchors, links, what it fetches, and references that were left as text."""

    anchors: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)
    unresolved: list[str] = field(default_factory=list)
    _code: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if tag in FETCHED and FETCHED[tag] in values:
            self.fetched.append(values[FETCHED[tag]])
        if tag == "link" and FETCHED_LINKS & set(values.get("rel", "").split()):
            self.fetched.append(values["href"])
        if tag == "autoref":
            self.unresolved.append(values.get("identifier", tag))
        if tag in CODE and tag not in EMPTY:
            self._code.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self._code and tag == self._code[-1]:
            self._code.pop()

    def handle_data(self, data: str) -> None:
        if not self._code:
            self.unresolved += _REFERENCE.findall(data)


def read(path: Path) -> Page:
    """Parses a page."""
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def problems(site: Path) -> list[str]:
    """Everything that is wrong with a site, one line each."""
    pages = {path.resolve(): read(path) for path in sorted(site.rglob("*.html"))}
    lines = [] if pages else [f"{site} holds no page"]
    for path, page in pages.items():
        if path.name != _NOT_FOUND_PAGE:  # its links begin at the root of a server
            name = path.relative_to(site.resolve())
            lines += [f"{name}: {problem}" for problem in problems_of(path, page, pages)]
    return lines


def problems_of(path: Path, page: Page, pages: dict[Path, Page]) -> Iterator[str]:
    """What is wrong with one page."""
    for link in dict.fromkeys(page.links):
        if problem := problem_of_link(link, path, pages):
            yield problem
    for link in page.fetched:
        if urlsplit(link).netloc:
            yield f"fetches {link}"
        elif not link.startswith("data:") and not target(link, path).exists():
            yield f"shows {link}, which does not exist"
    for reference in page.unresolved:
        yield f"the reference {reference} is unresolved"


def problem_of_link(link: str, path: Path, pages: dict[Path, Page]) -> str | None:
    """What is wrong with a link within the site; None: nothing."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return None
    file = target(link, path)
    if not file.exists():
        return f"{link} leads nowhere"
    anchor = unquote(parts.fragment)
    if anchor and file in pages and anchor not in pages[file].anchors | {"top"}:
        return f"{link} leads to a page without the anchor {anchor}"
    return None


def target(link: str, path: Path) -> Path:
    """The file that a link of a page leads to."""
    place = unquote(urlsplit(link).path)
    file = (path.parent / place).resolve() if place else path
    return file / "index.html" if file.is_dir() else file


def check(config: CheckConfig) -> None:
    """Prints what is wrong with a site, and ends with an exit code of 1 if something is."""
    complaints = problems(Path(config.site))
    print("\n".join(complaints) or "Everything leads somewhere.")
    if complaints:
        sys.exit(1)


if __name__ == "__main__":
    main(check, positional=("site",))
