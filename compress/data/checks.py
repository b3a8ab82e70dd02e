"""What is wrong with a data set: found, reported, skipped up to a limit; nothing is dropped silently."""

from __future__ import annotations

import json
import logging
import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from compress.data.formats.text_files import is_text
from compress.data.vocabulary import can_spell
from compress.files.writing import write_text

logger = logging.getLogger(__name__)

LISTED_IN_ERROR = 50
LISTED_IN_LOG = 10
CHARACTERS_SHOWN = 10
LONGEST_SHOWN = 300
"""Characters of a name or a reason that a person is shown; `write_problems` writes all of them."""


@dataclass(frozen=True)
class Problem:
    """One unusable entry of a data set.

    Attributes:
        file: its file name, or its row.
        reason: why it cannot be used.
        source: the data set that it is of, where several are mixed.
    """

    file: str
    reason: str
    source: str | None = None

    def facts(self) -> dict[str, str]:
        """Returns what is known of it, ready for JSON."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def __str__(self) -> str:
        return f"{_short(self.file)}: {_short(self.reason)}"


class BadDataError(ValueError):
    """More of a data set is unusable than `max_bad_fraction` allows, or all of it.

    Attributes:
        problems: all of them.
    """

    def __init__(self, message: str, problems: Sequence[Problem]) -> None:
        super().__init__(message)
        self.problems = list(problems)


def clean_transcript(text: object, case: str) -> str | None:
    """Collapses white space, composes characters and sets the case; `None` if nothing is left or it is no text."""
    if not isinstance(text, str):
        return None
    collapsed = composed(" ".join(text.split()))
    return {"lower": collapsed.lower(), "upper": collapsed.upper()}.get(case, collapsed) or None


def composed(text: str) -> str:
    """Writes each character that can be written in several ways in the same one, Unicode's NFC."""
    return unicodedata.normalize("NFC", text)


def as_spelt(text: str | None, vocabulary: Collection[str] | None) -> str | None:
    """Writes a transcript in the parts of characters where a tokenizer knows these alone, else leaves it as it is.

    Args:
        text: the transcript as `clean_transcript` gives it.
        vocabulary: characters the tokenizer can spell; `None` allows any.
    """
    if text is None or vocabulary is None or not is_text(text) or can_spell(vocabulary, text):
        return text
    parts = unicodedata.normalize("NFD", text)
    return parts if can_spell(vocabulary, parts) else text


def transcript_problem(text: str | None, vocabulary: Collection[str] | None) -> str | None:
    """Says why a transcript cannot be used; `None` if it can.

    Args:
        text: the transcript as `clean_transcript` gives it.
        vocabulary: characters the tokenizer can spell; `None` allows any.
    """
    if text is None:
        return "no transcript"
    if not is_text(text):
        return f"the transcript holds halves of characters: {text!r}"
    if vocabulary is None or can_spell(vocabulary, text):
        return None
    unknown = sorted(set(text) - set(vocabulary))
    shown = " ".join(repr(character) for character in unknown[:CHARACTERS_SHOWN])
    ellipsis = " ..." if len(unknown) > CHARACTERS_SHOWN else ""
    return f"characters outside the vocabulary: {shown}{ellipsis}{_case_hint(unknown, vocabulary or ())}"


def report(
    source: str, problems: Sequence[Problem], total: int, max_bad_fraction: float, bad: int | None = None
) -> None:
    """Logs the problems of a data set, or stops the run.

    Args:
        source: the data set, for the message.
        problems: its unusable entries.
        total: all its entries.
        max_bad_fraction: fraction of entries that may be skipped.
        bad: how many are unusable, if not all of them are known by name.

    Raises:
        BadDataError: if more entries than that are unusable; the message lists them.
    """
    bad = len(problems) if bad is None else bad
    if not bad:
        return
    share = f"{bad} of {total} entries ({bad / total:.1%})"
    if bad > max_bad_fraction * total:
        remedy = "Mend or remove them, or raise max_bad_fraction."
        head = f"{source}: {share} cannot be used, more than max_bad_fraction {max_bad_fraction:.1%}. {remedy}"
        raise BadDataError(f"{head}\n{listing(problems, LISTED_IN_ERROR)}", problems)
    logger.warning("%s: skipped %s that cannot be used:\n%s", source, share, listing(problems, LISTED_IN_LOG))


def write_problems(problems: Sequence[Problem], path: str | Path, about: str = "entries that cannot be used") -> None:
    """Writes every problem to a JSON-lines file with `file` and `reason`, in place of an older one.

    Args:
        problems: unusable entries; if there are none, there is no file afterwards.
        path: of the file; its folder is made where needed.
        about: what they are, for the log.
    """
    path = Path(path)
    if not problems:
        path.unlink(missing_ok=True)
        return
    write_text(path, "".join(f"{json.dumps(problem.facts())}\n" for problem in problems))
    logger.warning("%s: lists all %s, %d lines", path, about, len(problems))


def listing(problems: Sequence[Problem], limit: int) -> str:
    """Lists the first `limit` problems, one in a line, and says how many more there are."""
    lines = [f"  {problem}" for problem in problems[:limit]]
    if len(problems) > limit:
        lines.append(f"  ... and {len(problems) - limit} more")
    return "\n".join(lines)


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


def _case_hint(unknown: Sequence[str], vocabulary: Collection[str]) -> str:
    for case in ("lower", "upper"):
        if all(getattr(character, case)() in vocabulary for character in unknown):
            return f" (set case: {case})"
    return ""
