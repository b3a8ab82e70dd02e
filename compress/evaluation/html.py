"""report.html: one file with everything in it (style and figures inline, no script, nothing fetched)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from compress.evaluation import skipping
from compress.evaluation.figures import blocks_figure, difference_figure, rates_figure, sizes_figure
from compress.evaluation.report import Report
from compress.evaluation.rows import comparison_rows, compression_line, condition_line, headline, verdict
from compress.evaluation.subnets import HEADER, subnet_rows
from compress.evaluation.utterance_plot import UtteranceFigure, utterance_figure
from compress.reports import formats
from compress.reports.page import environment, short_name
from compress.structure import MODULES

_TEMPLATE = "report.html.j2"
_ROLES = ("model", "baseline")
_ERRORS = {"substitute": "substitutions", "delete": "deletions", "insert": "insertions"}
_CHANGES = ("better", "same", "worse")


@dataclass(frozen=True)
class Bar:
    """One horizontal bar of a tile."""

    role: str
    share: float  # of the longest bar in the tile
    text: str


@dataclass(frozen=True)
class Tile:
    """One quantity: the model's value large, what it is against the baseline, and a bar per model."""

    label: str
    value: str
    change: str
    better: bool | None  # None: no baseline, or no difference
    bars: list[Bar]
    note: str = ""


@dataclass(frozen=True)
class Part:
    """A piece of a stacked bar; `width` is in percent of the room for the bar."""

    kind: str
    width: float
    title: str


@dataclass(frozen=True)
class Stacked:
    """A stacked bar of one model's errors."""

    role: str
    parts: list[Part]
    text: str


def render_html(report: Report) -> str:
    """Draws the report as one self-contained page, for light and dark screens and for paper."""
    template = environment().get_template(_TEMPLATE)
    return template.render(
        report=report,
        title=short_name(report["model"]["name"]),
        roles=[role for role in _ROLES if role in report],
        modules=MODULES,
        headline=headline(report),
        tiles=tiles(report),
        errors=error_bars(report),
        changes=change_bars(report),
        rates=rates_figure(report),
        difference=difference_figure(report) if "difference" in report else None,
        verdict=verdict(report) if "difference" in report else "",
        blocks=blocks_figure(report["model"]),
        rows=comparison_rows(report),
        sizes=sizes_figure(report) if "sizes" in report else None,
        size_bars=size_bars(report) if "sizes" in report else {},
        size_header=HEADER,
        size_rows=subnet_rows(report),
        skipping_header=skipping.HEADER,
        skipping_rows=skipping.skipping_rows(report),
        skipping_settings=skipping.setting_line(report) if "skipping" in report else "",
        utterance=_utterance(report),
        conditions=condition_line(report),
        compression=compression_line(report["model"]),
    )


def _utterance(report: Report) -> UtteranceFigure | None:
    """The figure of one utterance of a model that skips, if there is one."""
    found = report.get("skipping", {}).get("example")
    return utterance_figure(found) if found else None


def tiles(report: Report) -> list[Tile]:
    """The six quantities people look for first."""
    shared = report.get("ratio")
    return [
        _tile(report, "Word error rate", ("wer",), lambda v: formats.percent(v, 2), _wer_change(report)),
        _tile(report, "Parameters", ("parameters", "total"), formats.count, _size_change(shared, "parameters")),
        _tile(report, "MACs per second of audio", ("macs_per_second",), formats.count, _size_change(shared, "macs")),
        _tile(report, "Real-time factor", ("rtf",), formats.significant, _speed_change(shared)),
        _tile(report, "On disk", ("bytes",), formats.size, _size_change(shared, "bytes")),
        _tile(report, "Peak memory", ("peak_memory_bytes",), formats.size, _size_change(shared, "memory")),
    ]


def size_bars(report: Report) -> dict[str, list[Bar]]:
    """What each size of an elastic model costs, by quantity, the full size first."""
    entries = list(reversed(report["sizes"]))
    quantities = (
        ("Parameters", "parameters", formats.count),
        ("MACs per second of audio", "macs_per_second", formats.count),
        ("Real-time factor", "rtf", formats.significant),
    )
    return {
        label: [Bar(f"size {one['size']}", one[key] / entries[0][key], show(one[key])) for one in entries]
        for label, key, show in quantities
    }


def error_bars(report: Report) -> list[Stacked]:
    """Substitutions, deletions and insertions of each model, on one scale."""
    roles = [role for role in reversed(_ROLES) if role in report]
    longest = max(sum(report[role][name] for name in _ERRORS.values()) / report[role]["words"] for role in roles) or 1.0
    bars = []
    for role in roles:
        entry = report[role]
        shares = {kind: entry[name] / entry["words"] for kind, name in _ERRORS.items()}
        parts = [
            Part(kind, 100 * share / longest, f"{role}: {_ERRORS[kind]}, {formats.percent(share, 2)} of the words")
            for kind, share in shares.items()
        ]
        bars.append(Stacked(role, parts, " + ".join(f"{entry[name]:,}" for name in _ERRORS.values())))
    return bars


def change_bars(report: Report) -> list[Stacked]:
    """How many utterances got fewer, as many or more errors than with the baseline; no bar without a baseline."""
    if "difference" not in report:
        return []
    entry = report["difference"]
    parts = [
        Part(kind, 100 * entry[kind] / entry["utterances"], f"{entry[kind]:,} of {entry['utterances']:,} utterances")
        for kind in _CHANGES
    ]
    return [Stacked("model", parts, " + ".join(f"{entry[kind]:,}" for kind in _CHANGES))]


def _tile(report: Report, label: str, path: tuple[str, ...], show: Any, change: tuple[str, bool | None]) -> Tile:
    values = {role: _at(report[role], path) for role in _ROLES if role in report}
    longest = max(values.values()) or 1.0
    bars = [Bar(role, value / longest, show(value)) for role, value in values.items()]
    return Tile(label, show(values["model"]), *change, bars if len(bars) > 1 else [])


def _at(entry: dict[str, Any], path: tuple[str, ...]) -> float:
    value: Any = entry
    for key in path:
        value = value[key]
    return float(value)


def _wer_change(report: Report) -> tuple[str, bool | None]:
    if "difference" not in report:
        return formats.interval(report["model"]["wer_ci95"]), None
    low, high = report["difference"]["wer_ci95"]
    better = True if high < 0 else False if low > 0 else None
    return f"{formats.points(report['difference']['wer'])} points", better


def _size_change(shared: dict[str, float] | None, key: str) -> tuple[str, bool | None]:
    if shared is None:
        return "", None
    return f"{formats.percent(shared[key])} of baseline", _verdict(1.0 - shared[key])


def _speed_change(shared: dict[str, float] | None) -> tuple[str, bool | None]:
    if shared is None:
        return "", None
    return f"{formats.times(shared['speed'])} as fast", _verdict(shared["speed"] - 1.0)


def _verdict(gain: float) -> bool | None:
    return None if gain == 0 else gain > 0
