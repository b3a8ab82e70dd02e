"""The fenced blocks of README.md and docs/, and what a page says about running them (see tests/docs/test_blocks.py)."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
SHELL, PYTHON = ("bash", "sh", "shell"), ("python", "py")
_FENCE = re.compile(r"^(?P<indent>[ >]*)(?P<fence>`{3,}|~{3,})[ {.]*(?P<language>[\w+-]*)")
_NOT_RUN = re.compile(r"<!--\s*not run:\s*(?P<reason>.*?)\s*-->")
_RUN_FIRST = re.compile(r"<!--\s*run first:\s*$")


@dataclass(frozen=True)
class Block:
    """One fenced block of a page.

    Attributes:
        page: path of the page, relative to the repository.
        line: of its fence, counted from 1.
        language: the word behind the fence.
        code: what stands inside, without the indentation of the fence.
        reason: why it is not run; None: it is.
        hidden: whether it stands in a comment, to prepare what the page presupposes.
    """

    page: str
    line: int
    language: str
    code: str
    reason: str | None = None
    hidden: bool = False

    @property
    def runs(self) -> bool:
        """Whether it is a program, and run."""
        return self.reason is None and self.language in (*SHELL, *PYTHON)

    @property
    def place(self) -> str:
        """Page and line, for messages."""
        return f"{self.page}:{self.line}"


def pages(repository: Path = REPOSITORY) -> list[Path]:
    """README.md and every page of docs/ that is written by hand."""
    written = sorted(path for path in (repository / "docs").rglob("*.md") if "reference" not in path.parts)
    return [repository / "README.md", *written]


def blocks_of(path: Path, repository: Path = REPOSITORY) -> list[Block]:
    """Every fenced block of a page, and every hidden one, in their order."""
    return list(_blocks(path.read_text(encoding="utf-8").splitlines(), str(path.relative_to(repository))))


def _blocks(lines: list[str], page: str) -> Iterator[Block]:
    reason, number = None, 0
    while number < len(lines):
        line = lines[number]
        if _RUN_FIRST.search(line):
            end = next(index for index in range(number, len(lines)) if lines[index].strip() == "-->")
            yield Block(page, number + 1, "bash", "\n".join(lines[number + 1 : end]), hidden=True)
            number = end
        elif fence := _FENCE.match(line):
            end = _closing(lines, number, fence["fence"], page)
            code = textwrap.dedent("\n".join(lines[number + 1 : end]))
            yield Block(page, number + 1, fence["language"], code, reason)
            reason, number = None, end
        elif mark := _NOT_RUN.search(line):
            reason = mark["reason"]
        elif line.strip():
            reason = None
        number += 1


def _closing(lines: list[str], start: int, fence: str, page: str) -> int:
    for number in range(start + 1, len(lines)):
        if lines[number].strip().startswith(fence) and not lines[number].strip(" `~"):
            return number
    raise ValueError(f"{page}:{start + 1}: this fence is never closed.")
