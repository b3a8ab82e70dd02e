"""What a curve of sizes leaves: a page with error rates against size, MACs and speed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from compress.reports import formats
from compress.reports.curves import curve_figure
from compress.reports.page import Columns, Condition, Figure, Page, Panel, Section, Table, Text, code, short_name

SHRINK_REPORT = "report"
SHRINK_FILES = tuple(f"{SHRINK_REPORT}.{ending}" for ending in ("html", "md", "json"))
CURVE_HEADER = ["size", "of the whole", "parameters", "MACs per s", "WER", "95 % interval", "times as fast", "seconds"]


def page_of(report: Mapping[str, Any]) -> Page:
    """Builds the page of a curve.

    Args:
        report: from `measure_curve`, or read from report.json.
    """
    data = report["data"]
    amount = f"{data['utterances']:,} utterances, {formats.duration(data['seconds'])}"
    return Page(
        title=f"{short_name(report['model'])} at {len(report['entries']) - 1} sizes, without training",
        headline=_headline(report),
        sections=[Section("Error rate against what a size saves", [_note(), Columns(_panels(report))])],
        conditions=_conditions(report, amount),
        maker="compress shrink",
        created=report["created"],
        context=f"{short_name(data['source'])}, {data['split']} · {amount}",
        numbers=Table(CURVE_HEADER, [_row(entry, report["chosen"]) for entry in report["entries"]]),
        footer=f"Made by compress {report['versions']['compress']}. All numbers are in {SHRINK_REPORT}.json.",
    )


def _headline(report: Mapping[str, Any]) -> str:
    by_name = {entry["name"]: entry for entry in report["entries"]}
    whole = formats.percent(by_name["whole"]["wer"], 2)
    if report["chosen"] is None:
        least = report["entries"][1]
        return (
            f"No size holds the word error rate of the whole model, {whole}: the largest, {least['name']}, has "
            f"{formats.percent(least['wer'], 2)}. Nothing was trained."
        )
    chosen = by_name[report["chosen"]]
    rate, faster = formats.percent(chosen["wer"], 2), formats.times(chosen["times_as_fast"])
    return (
        f"At {formats.percent(chosen['share'])} of the model the word error rate is {rate}, which its interval does "
        f"not tell from the whole model's {whole}; it is {faster} as fast. Nothing was trained."
    )


def _note() -> Text:
    return Text(
        "The dashed line is the whole model. Marked: the smallest size whose interval reaches down to it. What "
        "training adds to a size is seen only by training it: `recipes/prune.py` starts from any of these Structures."
    )


def _panels(report: Mapping[str, Any]) -> list[Panel]:
    places: dict[str, tuple[str, Callable[[Mapping[str, Any]], float]]] = {
        "Size": ("% of the whole", lambda entry: 100 * entry["share"]),
        "MACs": ("millions per second of speech", lambda entry: entry["macs_per_second"] / 1e6),
        "Speed": ("times as fast as the whole model", lambda entry: entry["times_as_fast"]),
    }
    whole = report["entries"][0]["wer"]
    panels = []
    for title, (unit, place) in places.items():
        points = [
            (entry["name"], _kind(entry, report["chosen"]), place(entry), entry["wer"], entry["wer_ci95"])
            for entry in report["entries"]
        ]
        drawing = curve_figure(sorted(points, key=lambda point: point[2]), whole, unit)
        panels.append(Panel(title, [Figure(drawing, f"Word error rate against {title.lower()}")]))
    return panels


def _kind(entry: Mapping[str, Any], chosen: str | None) -> str:
    if entry["name"] == chosen:
        return "chosen"
    return "baseline" if entry["name"] == "whole" else "model"


def _row(entry: Mapping[str, Any], chosen: str | None) -> list[str]:
    return [
        entry["name"] + (" (smallest that holds)" if entry["name"] == chosen else ""),
        formats.percent(entry["share"]),
        formats.count(entry["parameters"]),
        formats.count(entry["macs_per_second"]),
        formats.percent(entry["wer"], 2),
        formats.interval(entry["wer_ci95"]),
        formats.times(entry["times_as_fast"]),
        f"{entry['seconds']:.1f}" if "seconds" in entry else "",
    ]


def _conditions(report: Mapping[str, Any], amount: str) -> list[Condition]:
    data, timing, refit = report["data"], report["conditions"], report["refit"]
    looked_at = formats.duration(report["calibration_seconds"])
    place = f"{code(data['source'])}, split {data['split']}"
    how = "not repaired" if refit is None else f"repaired in closed form on {refit['utterances']} utterances"
    threads = f"{timing['threads']} threads, {timing['dtype']}, batches of {timing['batch']} x {timing['seconds']:g} s"
    return [
        Condition("Model", f"{code(report['model'])} ({report['family']})"),
        Condition("Method", f"{report['structure']}, {how}; {looked_at} of speech were looked at"),
        Condition("Data", f"{place}, {amount}; scoring ignores: {data['ignores']}"),
        Condition("Machine", f"{timing['device_name']}, {threads}", in_terminal=True),
        Condition("Seconds", "of deciding, removing and repairing, on top of the size before."),
    ]
