"""What a curve of sizes leaves: a page with error rates against size, MACs and speed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compress.reports import formats
from compress.reports.curves import curve_figure
from compress.reports.page import Columns, Condition, Figure, Page, Panel, Section, Table, Text, code, short_name

SHRINK_REPORT = "report"
SHRINK_FILES = tuple(f"{SHRINK_REPORT}.{ending}" for ending in ("html", "md", "json"))
CURVE_HEADER = ["size", "of the whole", "parameters", "MACs per s", "WER", "95 % interval", "times as fast", "seconds"]
COUNTED: dict[str, str] = {"params": "parameters", "macs": "MACs", "latency": "predicted time"}
"""By metric, what a size counts."""
WHOLE = "whole"
"""Name of the model as it is."""


def with_chosen(entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The entries of a curve, each with whether it holds the error rate of the first, and the smallest that does.

    Args:
        entries: the whole model's, and those of its sizes, the largest first.
    """
    whole = entries[0]
    sizes = [{**entry, "holds": entry["wer_ci95"][0] <= whole["wer"]} for entry in entries[1:]]
    chosen = next((entry["name"] for entry in reversed(sizes) if entry["holds"]), None)
    return {"entries": [whole, *sizes], "chosen": chosen}


@dataclass(frozen=True)
class Making:
    """What a page says of how its sizes were made.

    Attributes:
        maker: the program.
        how: behind the number of sizes in the title.
        effort: a sentence behind the headline.
        note: what stands behind the explanation of the curve.
        method: the condition of that name.
        seconds: what the last column counts.
    """

    maker: str
    how: str
    effort: str
    note: str
    method: str
    seconds: str


def page_of(report: Mapping[str, Any]) -> Page:
    """Builds the page of a curve without training.

    Args:
        report: from `measure_curve`, or read from report.json.
    """
    refit, looked_at = report["refit"], formats.duration(report["calibration_seconds"])
    how = "not repaired" if refit is None else f"repaired in closed form on {refit['utterances']} utterances"
    making = Making(
        maker="compress shrink",
        how="without training",
        effort="Nothing was trained.",
        note=(
            "What training adds to a size is seen only by training it: `recipes/prune.py` starts from any of these "
            "Structures."
        ),
        method=f"{report['structure']}, {how}; {looked_at} of speech were looked at",
        seconds="of deciding, removing and repairing, on top of the size before.",
    )
    return curve_page(report, making)


def curve_page(report: Mapping[str, Any], making: Making) -> Page:
    """Builds the page of a curve.

    Args:
        report: model, family, created, versions, data, conditions, and what `with_chosen` gives.
        making: how its sizes were made.
    """
    data = report["data"]
    amount = f"{data['utterances']:,} utterances, {formats.duration(data['seconds'])}"
    rows = [_row(entry, report["chosen"]) for entry in report["entries"]]
    return Page(
        title=f"{short_name(report['model'])} at {formats.counted(len(report['entries']) - 1, 'size')}, {making.how}",
        headline=f"{_headline(report)} {making.effort}",
        sections=[Section("Error rate against what a size saves", [_note(making), Columns(_panels(report))])],
        conditions=_conditions(report, making, amount),
        maker=making.maker,
        created=report["created"],
        context=f"{short_name(data['source'])}, {data['split'] or formats.WHOLE_SOURCE} · {amount}",
        numbers=Table(CURVE_HEADER, rows, pages_only=["seconds"]),
        footer=f"Made by compress {report['versions']['compress']}. All numbers are in {SHRINK_REPORT}.json.",
    )


def _headline(report: Mapping[str, Any]) -> str:
    by_name = {entry["name"]: entry for entry in report["entries"]}
    whole = formats.percent(by_name["whole"]["wer"], 2)
    if report["chosen"] is None:
        least = report["entries"][1]
        return (
            f"No size holds the word error rate of the whole model, {whole}: the largest, {least['name']}, has "
            f"{formats.percent(least['wer'], 2)}."
        )
    chosen = by_name[report["chosen"]]
    rate, faster = formats.percent(chosen["wer"], 2), formats.times(chosen["times_as_fast"])
    return (
        f"At {formats.percent(chosen['share'])} of {_counted(report)} the word error rate is {rate}, which its "
        f"interval does not tell from the whole model's {whole}; it is {faster} as fast."
    )


def _counted(report: Mapping[str, Any]) -> str:
    """What the sizes are shares of."""
    metric, _, *denominator = report["entries"][1]["requested"].split()
    whose = "the encoder's" if denominator[:2] == ["of", "encoder"] else "the model's"
    return f"{whose} {COUNTED[metric]}"


def _sizes_of(report: Mapping[str, Any]) -> str:
    """What the sizes are shares of, and under which conditions it was counted."""
    _, under, conditions = report["entries"][1]["requested"].partition(" at ")
    return f"shares of {_counted(report)}{under}{conditions}"


def _note(making: Making) -> Text:
    meaning = "The dashed line is the whole model. Marked: the smallest size whose interval reaches down to it."
    return Text(f"{meaning} {making.note}")


def _panels(report: Mapping[str, Any]) -> list[Panel]:
    places: dict[str, tuple[str, Callable[[Mapping[str, Any]], float]]] = {
        "Size": (f"% of {_counted(report)}", lambda entry: 100 * entry["share"]),
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
    return "baseline" if entry["name"] == WHOLE else "model"


def _row(entry: Mapping[str, Any], chosen: str | None) -> list[str]:
    return [
        entry["name"] + (" (chosen)" if entry["name"] == chosen else ""),
        formats.percent(entry["share"]),
        formats.count(entry["parameters"]),
        formats.count(entry["macs_per_second"]),
        formats.percent(entry["wer"], 2),
        formats.interval(entry["wer_ci95"]),
        formats.times(entry["times_as_fast"]),
        f"{entry['seconds']:.1f}" if "seconds" in entry else "",
    ]


def _conditions(report: Mapping[str, Any], making: Making, amount: str) -> list[Condition]:
    data, timing = report["data"], report["conditions"]
    place = f"{code(data['source'])}, {formats.split(data['split'])}"
    threads = (
        f"{formats.counted(timing['threads'], 'thread')}, {timing['dtype']}, "
        f"batches of {timing['batch']} x {timing['seconds']:g} s"
    )
    return [
        Condition("Model", f"{code(report['model'])} ({report['family']})"),
        Condition("Sizes", _sizes_of(report)),
        Condition("Method", making.method),
        Condition("Data", f"{place}, {amount}; scoring ignores: {data['ignores']}"),
        Condition("Machine", f"{timing['device_name']}, {threads}", in_terminal=True),
        Condition("Seconds", making.seconds),
    ]
