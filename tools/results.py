"""RESULTS.md as a value: entries, each with a question and its answer, and the index that is made of them.

    python -m tools.results index
    python -m tools.results answer --title "..." --question "..." --answer "..." --remark "..."
    python -m tools.results archive --title "..." --because "..."

`index` writes RESULTS.md and the archive anew from their entries. `answer` gives an entry its line in the index; every
number of the answer must stand in the entry. `archive` moves an entry that a newer one supersedes to
docs/results/archive.md, its text unchanged. The tools that measure something append their entries with `add`.
"""

from __future__ import annotations

import datetime
import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tools.commands import main

REPOSITORY = Path(__file__).resolve().parent.parent
RESULTS = REPOSITORY / "RESULTS.md"
ARCHIVE = REPOSITORY / "docs" / "results" / "archive.md"
HEADING = "## "
QUESTION, ANSWER, REMARK, SUPERSEDED = "question", "answer", "remark", "superseded"
HEAD = (QUESTION, ANSWER, REMARK, SUPERSEDED)
"""What an entry says of itself before all else, in this order."""
ANCHOR = "<a id="
NUMBER = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?")
OPENING = """\
# Results

Every entry is written by a program of this repository, whose command stands in the entry; this table is made of the
entries. Names and options are those of an entry's commit: `uniform, from scratch` is the structure that is now called
`proportional`, and programs have moved since."""
ENDING = "Entries that newer ones supersede are in the [archive](docs/results/archive.md)."
ARCHIVE_OPENING = """\
# Results that newer ones supersede

The entries are as they stood in RESULTS.md."""


@dataclass(frozen=True, kw_only=True)
class EntryConfig:
    """An entry of RESULTS.md.

    Attributes:
        title: Heading of the entry.
        question: What the entry answers, for the index.
        answer: The answer in one number, for the index. Both can be given afterwards (tools/results.py).
        note: Machine and remarks.
        results: The file that gets the entry; null only prints it, where there is something to print.
    """

    title: str
    question: str = ""
    answer: str = ""
    note: str = ""
    results: str | None = None


@dataclass(frozen=True)
class Entry:
    """One entry.

    Attributes:
        title: Its heading.
        lines: Its text, in Markdown.
        head: What it says of itself: question, answer, a remark, what supersedes it.
    """

    title: str
    lines: tuple[str, ...]
    head: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, text: str) -> Entry:
        """Reads what `written` gives."""
        title, *lines = text.strip("\n").split("\n")
        head = {}
        while lines and (not lines[0] or lines[0].startswith(ANCHOR) or _head_key(lines[0])):
            if key := _head_key(lines[0]):
                head[key] = lines[0].removeprefix(f"- {key}: ")
            lines = lines[1:]
        return cls(title.removeprefix(HEADING), tuple(lines), head)

    def written(self) -> str:
        """The entry in Markdown."""
        head = [f"- {key}: {self.head[key]}" for key in HEAD if self.head.get(key)]
        mark = f'{ANCHOR}"{self.anchor}"></a>'
        return "\n".join([HEADING + self.title, "", mark, "", *head, *self.lines]).rstrip("\n")

    @property
    def anchor(self) -> str:
        """Where links to the entry lead, whoever shows the page: each names headings in its own way."""
        return "-".join(re.findall(r"\w+", self.title.lower()))

    def link(self) -> str:
        """A link from the same page."""
        return f"[{self.title}](#{self.anchor})"

    def answering(self, question: str, answer: str, remark: str = "") -> Entry:
        """The entry with its line in the index; what is not given stays.

        Raises:
            ValueError: if a number of the answer does not stand in the entry.
        """
        known = set(NUMBER.findall("\n".join(self.lines)))
        if foreign := [number for number in NUMBER.findall(answer) if number not in known]:
            raise ValueError(f"'{self.title}' does not hold {', '.join(foreign)}, which its answer says: {answer}")
        given = {QUESTION: question, ANSWER: answer, REMARK: remark}
        return replace(self, head=self.head | {key: text for key, text in given.items() if text})


def _head_key(line: str) -> str | None:
    return next((key for key in HEAD if line.startswith(f"- {key}: ")), None)


def read_entries(path: Path) -> list[Entry]:
    """The entries of a file, in its order; none where there is no file."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [Entry.read(HEADING + part) for part in f"\n{text}".split(f"\n{HEADING}")[1:]]


def results_text(entries: Sequence[Entry]) -> str:
    """RESULTS.md: what it is, the index, and the entries."""
    rows = [(entry.head.get(QUESTION, ""), entry.head.get(ANSWER, ""), entry.link()) for entry in entries]
    return _text([OPENING, _index((QUESTION, ANSWER, "entry"), rows), ENDING], entries)


def archive_text(entries: Sequence[Entry]) -> str:
    """The archive: what supersedes what, and the entries."""
    rows = [(entry.link(), entry.head.get(SUPERSEDED, "")) for entry in entries]
    return _text([ARCHIVE_OPENING, _index(("entry", "superseded by"), rows)], entries)


def _text(opening: Sequence[str], entries: Sequence[Entry]) -> str:
    return "\n\n".join([*opening, *(entry.written() for entry in entries)]) + "\n"


def _index(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(grid(names, rows)).rstrip("\n")


def grid(names: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table in Markdown, and the empty line behind it; nothing where there are no rows."""
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    return [*lines, *("| " + " | ".join(row) + " |" for row in rows), ""] if rows else []


def add(config: EntryConfig, lines: Sequence[str]) -> None:
    """Appends an entry to the file that the config names, if it names one.

    Raises:
        ValueError: if the file has an entry of that title, or the answer holds a number that the entry does not.
    """
    if not config.results:
        return
    path = Path(config.results)
    entries = read_entries(path)
    if any(entry.title == config.title for entry in entries):
        raise ValueError(f"{path} has an entry '{config.title}' already: choose another title, or archive that one.")
    entry = Entry(config.title, tuple(lines)).answering(config.question, config.answer)
    path.write_text(results_text([*entries, entry]), encoding="utf-8")


def facts(command: str, data: str, note: str, commit: str | None = None) -> list[str]:
    """How an entry begins: date and commit, the data, the note, and the commands, separated by " ; "."""
    lines = [f"- date {datetime.date.today()}, commit {commit or head_commit()}", f"- data: {data}"]
    if note:
        lines.append(f"- {note}")
    return [*lines, "", *(f"    {part.strip()}" for part in command.split(" ; ")), ""]


def head_commit() -> str:
    """The commit of this checkout, in short."""
    command = ["git", "-C", str(REPOSITORY), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


@dataclass(frozen=True, kw_only=True)
class FilesConfig:
    """The files of results.

    Attributes:
        results: The entries that hold.
        archive: Those that are superseded.
    """

    results: str = str(RESULTS)
    archive: str = str(ARCHIVE)


@dataclass(frozen=True, kw_only=True)
class AnswerConfig(FilesConfig):
    """What the index says of an entry.

    Attributes:
        title: Heading of the entry.
        question: What it answers; empty leaves what is there.
        answer: The answer in one number, which the entry must hold; empty leaves what is there.
        remark: What a reader must know today and the entry does not say; empty leaves what is there.
    """

    title: str
    question: str = ""
    answer: str = ""
    remark: str = ""


@dataclass(frozen=True, kw_only=True)
class ArchiveConfig(FilesConfig):
    """An entry that does not hold any more.

    Attributes:
        title: Heading of the entry.
        because: What supersedes it.
    """

    title: str
    because: str


def index(config: FilesConfig) -> None:
    """Writes both files anew from their entries."""
    for path, text in _files(config):
        path.write_text(text(read_entries(path)), encoding="utf-8")


def answer(config: AnswerConfig) -> None:
    """Gives an entry its question, answer or remark."""
    path = Path(config.results)
    entries = read_entries(path)
    place = _place(entries, config.title, path)
    entries[place] = entries[place].answering(config.question, config.answer, config.remark)
    path.write_text(results_text(entries), encoding="utf-8")


def archive(config: ArchiveConfig) -> None:
    """Moves an entry to the archive."""
    path, old = Path(config.results), Path(config.archive)
    entries = read_entries(path)
    entry = entries.pop(_place(entries, config.title, path))
    superseded = replace(entry, head=entry.head | {SUPERSEDED: config.because})
    old.parent.mkdir(parents=True, exist_ok=True)
    old.write_text(archive_text([*read_entries(old), superseded]), encoding="utf-8")
    path.write_text(results_text(entries), encoding="utf-8")


def _files(config: FilesConfig) -> Iterator[tuple[Path, Callable[[Sequence[Entry]], str]]]:
    yield Path(config.results), results_text
    yield Path(config.archive), archive_text


def _place(entries: Sequence[Entry], title: str, path: Path) -> int:
    for number, entry in enumerate(entries):
        if entry.title == title:
            return number
    raise ValueError(f"{path} has no entry '{title}'; it has {', '.join(repr(entry.title) for entry in entries)}.")


if __name__ == "__main__":
    main(index, answer, archive)
