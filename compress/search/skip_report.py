"""What `compress skip` shows of the settings that it measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compress.reports import formats
from compress.reports.page import Page, Section, Table, short_name

HEADER = ("first blocks", "threshold", "extension", "frames skipped", "MACs", "WER", "points more")


def page_of(facts: Mapping[str, Any]) -> Page:
    """Builds the page of a calibration.

    Args:
        facts: from `calibrate`.
    """
    measured = facts["skipping"]
    rows = [row(trial, measured["wer_to_hold"]) for trial in measured["trials"]]
    return Page(
        title=f"What {short_name(facts['teacher'])} can skip",
        headline=_headline(measured),
        sections=[Section("Settings that were measured", [Table(HEADER, rows, left=0)])],
        conditions=[],
        maker="compress skip",
    )


def row(trial: Mapping[str, Any], wer_to_hold: float) -> list[str]:
    """One setting for people, under `HEADER`.

    Args:
        trial: an entry of `trials`.
        wer_to_hold: the error rate that it is compared with.
    """
    settings, wer = trial["settings"], trial["wer"]
    return [
        str(settings["first_blocks"]),
        f"{settings['threshold']:g}",
        str(settings["extension"]),
        formats.percent(trial["skipped"]),
        formats.percent(trial["macs_share"]),
        "" if wer is None else formats.percent(wer, 2),
        "" if wer is None else formats.points(wer - wer_to_hold),
    ]


def _headline(measured: Mapping[str, Any]) -> str:
    chosen = "Chosen: behind the first {first_blocks} blocks, threshold {threshold:g}, extension {extension}."
    trial, allowed = measured["chosen"], measured["max_wer_increase"]
    without, to_hold = (formats.percent(measured[name], 2) for name in ("wer_without", "wer_to_hold"))
    return (
        f"{chosen.format(**trial['settings'])} WER {formats.percent(trial['wer'], 2)}, without skipping {without}; "
        f"allowed were {allowed:g} points more than {to_hold}."
    )
