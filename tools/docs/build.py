"""Builds the documentation and checks it: build/site/index.html.

  python -m tools.docs.build      # what `make docs` runs

The pages of docs/, CHANGELOG.md, CONTRIBUTING.md, RESULTS.md and the reference, which tools/docs/reference.py makes
from the code, are put together in build/docs; Zensical builds the site from them as zensical.toml says, without a
network. It ends with an error if the builder says anything beside that it has built, or tools/docs/site.py finds
something.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tools.commands import main
from tools.docs import reference, site

REPOSITORY = Path(__file__).resolve().parents[2]
BUILD = REPOSITORY / "build"
PAGES, SITE = "docs", "site"
COPIED = {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md", "RESULTS.md": "results/index.md"}
"""Pages that stand at the top of the repository, and where they are in the documentation."""
_DOCS_LINK = re.compile(r"\]\(docs/")
_LINK_TO_COPIED = re.compile(rf"\]\((?:\.\./)+({'|'.join(COPIED)})")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_EXPECTED = re.compile(r"Build started|No issues found|Build finished in [0-9.]+m?s")


@dataclass(frozen=True, kw_only=True)
class BuildConfig:
    """The documentation of this checkout; there is nothing to choose."""


def put_together(pages: Path) -> None:
    """Fills the folder that the builder reads."""
    shutil.rmtree(pages, ignore_errors=True)
    shutil.copytree(REPOSITORY / "docs", pages)
    for page in pages.rglob("*.md"):
        text = _with_links_to_copied(page.read_text(encoding="utf-8"), page.relative_to(pages))
        page.write_text(text, encoding="utf-8")
    for name, place in COPIED.items():
        up = "../" * place.count("/")
        target = pages / place
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(_DOCS_LINK.sub(f"]({up}", (REPOSITORY / name).read_text(encoding="utf-8")), encoding="utf-8")
    reference.write(pages / "reference")


def _with_links_to_copied(text: str, page: Path) -> str:
    """A page whose links to pages at the top of the repository lead to where these are in the documentation."""
    up = "../" * (len(page.parts) - 1)
    return _LINK_TO_COPIED.sub(lambda link: f"]({up}{COPIED[link[1]]}", text)


def build(config: Path) -> list[str]:
    """Runs the builder; returns what it says beside that it has built.

    Args:
        config: a zensical.toml.
    """
    if importlib.util.find_spec("zensical") is None:
        return ["The documentation is built by zensical: install the optional dependencies `docs`, with Python 3.11."]
    command = [sys.executable, "-m", "zensical", "build", "--clean", "--config-file", str(config)]
    result = subprocess.run(command, cwd=config.parent, capture_output=True, text=True, check=False)
    lines = [_COLOUR.sub("", line) for line in (result.stdout + result.stderr).splitlines()]
    said = [line for line in lines if line.strip() and not _EXPECTED.fullmatch(line.strip())]
    return said or ([f"The builder ended with {result.returncode}."] if result.returncode else [])


def build_and_check(_: BuildConfig) -> None:
    """Builds and checks, and ends with an exit code of 1 if something is wrong."""
    put_together(BUILD / PAGES)
    complaints = [*build(REPOSITORY / "zensical.toml"), *site.problems(BUILD / SITE)]
    print("\n".join(complaints) or f"Built and checked: {BUILD / SITE / 'index.html'}")
    if complaints:
        sys.exit(1)


if __name__ == "__main__":
    main(build_and_check)
