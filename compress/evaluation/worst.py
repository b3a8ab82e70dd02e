"""The utterances with most errors, word by word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from compress.evaluation.report import ROLES, Report
from compress.reports import formats
from compress.reports.page import Figure, Listing, Section, code

_KINDS = (
    ("substitute", "substituted"),
    ("delete", "deleted: said, not written"),
    ("insert", "inserted: written, not said"),
)


@dataclass(frozen=True)
class AlignedUtterance:
    """What was said and what each model wrote, in columns of `(kind, said, written)`."""

    name: str
    facts: Sequence[str]
    lines: Sequence[tuple[str, Sequence[tuple[str, str | None, str | None]]]]


@dataclass(frozen=True)
class AlignedUtterances:
    """Utterances below each other."""

    macro: ClassVar[str] = "aligned_utterances"
    utterances: Sequence[AlignedUtterance]


def worst_sections(report: Report) -> list[Section]:
    """The worst utterances of a report; no section where the model made no error."""
    if not report["worst"]:
        return []
    figure = Figure(
        AlignedUtterances([_aligned(utterance) for utterance in report["worst"]]),
        "What was said and what was written, word by word",
        "Most errors of the model first. Where they differ, the upper word was said and the lower one was written.",
        _KINDS,
        Listing([_listed(utterance) for utterance in report["worst"]]),
    )
    return [Section("Worst utterances", [figure], detail=True)]


def _written(utterance: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """What each model made of an utterance; a model that could not use it is left out."""
    return [(role, utterance[role]) for role in ROLES if utterance.get(role)]


def _aligned(utterance: dict[str, Any]) -> AlignedUtterance:
    written = _written(utterance)
    errors = ", ".join(f"{role}: {formats.counted(entry['errors'], 'error')}" for role, entry in written)
    lines = [(role, entry["alignment"]) for role, entry in written]
    return AlignedUtterance(utterance["id"], [formats.duration(utterance["seconds"]), errors], lines)


def _listed(utterance: dict[str, Any]) -> tuple[str, list[str]]:
    lines = [f"said: {utterance['reference']}"]
    lines += [f"{role}: {entry['hypothesis']}" for role, entry in _written(utterance)]
    return f"{code(utterance['id'])}, {formats.counted(utterance['model']['errors'], 'error')}", lines
