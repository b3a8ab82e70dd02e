"""Error rates by the values of a metadata column, such as the speaker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from compress.data import SpeechDataset
from compress.evaluation.bootstrap import BootstrapConfig, rate_interval
from compress.evaluation.errors import count_errors
from compress.evaluation.report import ROLES, Report, Transcripts
from compress.reports import formats
from compress.reports.page import Figure, Panel, Section, Table, Text
from compress.reports.plots import named_rates_figure

MOST_SHOWN = 50
"""Groups of a page; all are in report.json."""
MOST_DRAWN = 20
FEWEST_UTTERANCES = 2
"""One utterance alone tells nothing of how others would differ."""
NO_VALUE = "(none)"

Groups = Mapping[str, "str | None"]
"""The value of each utterance, by its id."""


def groups_of(speech: SpeechDataset, column: str | None) -> Groups | None:
    """Reads the column by which error rates are asked for; None if none is.

    Raises:
        ValueError: naming the columns that there are, if this one is not among them.
    """
    return None if column is None else dict(zip(speech.ids, speech.groups(column), strict=True))


def rates_by_group(
    column: str | None, groups: Groups, transcripts: Mapping[str, Transcripts], bootstrap: BootstrapConfig
) -> dict[str, Any]:
    """What the report says of each group: those with the highest error rate first, those without a value last.

    Args:
        column: whose values make the groups.
        groups: of every utterance of the model.
        transcripts: by role.
        bootstrap: how intervals are computed.
    """
    ids: dict[str | None, set[str]] = {}
    for utterance, value in groups.items():
        ids.setdefault(value, set()).add(utterance)
    entries = [_entry(value, inside, transcripts, bootstrap) for value, inside in ids.items()]
    return {"column": column, "groups": sorted(entries, key=_order)}


def group_sections(report: Report) -> list[Section]:
    """One section of the page; none where no column was asked for."""
    if "by" not in report:
        return []
    column, groups = report["by"]["column"], report["by"]["groups"]
    shown, drawn = groups[:MOST_SHOWN], [group for group in groups[:MOST_DRAWN] if group["model"]["wer_ci95"]]
    roles = [role for role in ROLES if role in report]
    header = (column, "utterances", "words", *(cell for role in roles for cell in _columns(role, roles)))
    parts: list[Any] = [Text(_note(column, groups)), Table(header, [_row(group, roles) for group in shown])]
    if drawn:
        rates = [(_name(group), "model", group["model"]["wer"], group["model"]["wer_ci95"]) for group in drawn]
        label = f"Word error rate of the model by {column}, with 95 % intervals"
        parts.append(Panel("", [Figure(named_rates_figure(rates, wide=True), label, wide=True)]))
    return [Section(f"Word error rate by {column}", parts)]


def _entry(
    value: str | None, ids: set[str], transcripts: Mapping[str, Transcripts], bootstrap: BootstrapConfig
) -> dict[str, Any]:
    rates = {role: _rates(texts.only(ids), bootstrap) for role, texts in transcripts.items()}
    return {"value": value, "utterances": len(ids), "words": rates["model"].pop("words")} | {
        role: {key: rate for key, rate in entry.items() if key != "words"} for role, entry in rates.items()
    }


def _rates(texts: Transcripts, bootstrap: BootstrapConfig) -> dict[str, Any]:
    """Words, error rate and its interval; without words there is no rate, and of one utterance no interval."""
    if not any(reference.split() for reference in texts.references):
        return {"words": 0, "wer": None, "wer_ci95": None}
    counts = count_errors(texts.references, texts.hypotheses)
    enough = len(texts.ids) >= FEWEST_UTTERANCES
    interval = rate_interval(counts.errors, counts.words, bootstrap).to_list() if enough else None
    words = int(counts.words.sum())
    return {"words": words, "wer": int(counts.errors.sum()) / words, "wer_ci95": interval}


def _order(entry: dict[str, Any]) -> tuple[bool, float, str]:
    return entry["value"] is None, -(entry["model"]["wer"] or 0.0), entry["value"] or ""


def _note(column: str, groups: Sequence[dict[str, Any]]) -> str:
    more = f" Shown are the first {MOST_SHOWN}; all are in report.json." if len(groups) > MOST_SHOWN else ""
    return (
        f"{formats.counted(len(groups), 'group')} by the column {column}, the highest error rate first, with 95 % "
        f"bootstrap intervals over the utterances of each; one utterance alone has no interval.{more}"
    )


def _columns(role: str, roles: Sequence[str]) -> tuple[str, str]:
    return ("WER", "95 % interval") if len(roles) == 1 else (f"WER, {role}", f"95 % interval, {role}")


def _name(group: dict[str, Any]) -> str:
    return NO_VALUE if group["value"] is None else str(group["value"])


def _row(group: dict[str, Any], roles: Sequence[str]) -> list[str]:
    cells = [_name(group), f"{group['utterances']:,}", f"{group['words']:,}"]
    for role in roles:
        rate, interval = group[role]["wer"], group[role]["wer_ci95"]
        cells += [
            "" if rate is None else formats.percent(rate, 2),
            "" if interval is None else formats.interval(interval),
        ]
    return cells
