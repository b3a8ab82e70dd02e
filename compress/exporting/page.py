"""What a person reads of an export when it is done."""

from __future__ import annotations

from compress.checkpoint.exported import Export
from compress.reports import formats
from compress.reports.page import Page, Section, Table, Text, short_name

_LISTED = 20


def page_of(export: Export) -> Page:
    """The page of an export: its files, how exact it is, and what was measured."""
    facts = export.facts
    which = ", before 8 bits" if facts.get("int8") else ""
    rows = [
        ("client", facts["client"]),
        ("precision", facts["precision"]),
        ("on disk", formats.size(export.bytes_on_disk)),
        (f"largest difference from the model{which}", formats.significant(facts["largest_difference"])),
        *_error_rows(export),
    ]
    return Page(
        title=short_name(facts["model"]["name"]),
        headline=f"{export.folder}: {', '.join(facts['graphs'])}",
        sections=[Section("Notes", [Text(note) for note in facts["notes"]])] if facts["notes"] else [],
        conditions=[],
        maker="compress export",
        numbers=Table(("", "export"), [*rows, *_kept_rows(export)]),
    )


def _error_rows(export: Export) -> list[tuple[str, str]]:
    rates = export.facts.get("error_rates")
    if not rates:
        return []
    return [
        (f"WER of the {name}, {rates['split'] or formats.WHOLE_SOURCE}", formats.percent(rates[name]["wer"], 2))
        for name in ("model", "export")
    ]


def _kept_rows(export: Export) -> list[tuple[str, str]]:
    int8 = export.facts.get("int8")
    if not int8:
        return []
    kept = int8["kept_float32"]
    shown = [("kept in float32" if number == 0 else "", name) for number, name in enumerate(kept[:_LISTED])]
    return [("quantised layers", str(int8["quantised_layers"])), *shown]
