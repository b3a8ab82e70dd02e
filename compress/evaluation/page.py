"""The report of an evaluation for people: tiles, accuracy, what each block kept, worst utterances, conditions."""

from __future__ import annotations

from compress.evaluation.figures import blocks_figure, difference_figure, rates_figure
from compress.evaluation.groups import group_sections
from compress.evaluation.measured_aspects import MEASURED_ASPECTS
from compress.evaluation.report import ROLES, Report
from compress.evaluation.rows import (
    comparison_rows,
    compression_line,
    condition_line,
    headline,
    runs_elsewhere,
    runtime_words,
    verdict,
)
from compress.evaluation.tiles import tiles
from compress.evaluation.worst import worst_sections
from compress.reports import formats
from compress.reports.bars import Share, Stacked, StackedBars
from compress.reports.page import Columns, Condition, Figure, Page, Panel, Section, Table, Text, code, short_name
from compress.structure import MODULES

_ERRORS = {"substitute": "substitutions", "delete": "deletions", "insert": "insertions"}
_ERROR_LEGEND = (("substitute", "substituted"), ("delete", "deleted"), ("insert", "inserted"))
_CHANGE_WORDS = {"better": "with fewer", "same": "with as many", "worse": "with more"}
_CHANGES = {"better": "fewer errors", "same": "as many", "worse": "more errors"}


def page_of(report: Report) -> Page:
    """Builds the page of a report.

    Args:
        report: from `evaluate_models`, or read from report.json.
    """
    data = report["data"]
    in_use = next((use for aspect in MEASURED_ASPECTS if (use := aspect.in_use(report))), None)
    context = [f"against {short_name(report['baseline']['name'])}"] if "baseline" in report else []
    context += [f"{short_name(data['source'])}, {data['split'] or formats.WHOLE_SOURCE}", _amount_of_speech(report)]
    return Page(
        title=short_name(report["model"]["name"]),
        headline=" ".join(
            [headline(report, in_use), *(said for aspect in MEASURED_ASPECTS if (said := aspect.summary(report)))]
        ),
        sections=[
            _accuracy(report),
            *group_sections(report),
            *(section for aspect in MEASURED_ASPECTS for section in aspect.sections(report)),
            *_blocks(report),
            *worst_sections(report),
        ],
        conditions=_conditions(report),
        maker="compress evaluate",
        created=report["created"],
        context=" · ".join(context),
        tiles=tiles(report, in_use.otherwise if in_use else ""),
        numbers=_numbers(report),
        problems=[f"{code(problem['file'])}: {problem['reason']}" for problem in data["problems"]],
        footer=f"Made by compress {report['versions']['compress']}. Every transcript is in transcripts.jsonl beside "
        "this file, every number in report.json.",
    )


def _amount_of_speech(report: Report) -> str:
    return f"{report['data']['utterances']:,} utterances, {formats.duration(report['data']['seconds'])}"


def _numbers(report: Report) -> Table:
    paired = "baseline" in report
    header = ["", "model", *(("baseline", "against baseline") if paired else ())]
    rows = [[row.label, row.model, *((row.baseline, row.change) if paired else ())] for row in comparison_rows(report)]
    return Table(header, rows)


def _accuracy(report: Report) -> Section:
    note = (
        f"Errors are pooled over {report['model']['words']:,} reference words; intervals are 95 % bootstrap intervals "
        "over utterances"
    )
    paired = ", and the difference is paired: both models are scored on the same resampled utterances"
    rates = Figure(rates_figure(report), "Word error rate with 95 % intervals")
    kinds = Figure(_errors_by_kind(report), "Errors of each model by kind", legend=_ERROR_LEGEND)
    panels = [Panel("Word error rate", [rates]), Panel("Errors by kind", [kinds])]
    if "difference" not in report:
        return Section("Accuracy", [Text(note + "."), Columns(panels)])
    return Section(
        "Accuracy", [Text(note + paired + "."), Columns([panels[0], _difference(report), panels[1], _changes(report)])]
    )


def _difference(report: Report) -> Panel:
    label = "Paired difference in word error rate with its 95 % interval"
    return Panel("Difference", [Figure(difference_figure(report), label), Text(verdict(report))])


def _changes(report: Report) -> Panel:
    """How many utterances got fewer, as many or more errors than with the baseline."""
    entry = report["difference"]
    shares = [
        Share(kind, 100 * entry[kind] / entry["utterances"], f"{entry[kind]:,} of {entry['utterances']:,} utterances")
        for kind in _CHANGES
    ]
    bar = Stacked("model", shares, ", ".join(f"{entry[kind]:,} {name}" for kind, name in _CHANGE_WORDS.items()))
    words = Text(
        f"Against the baseline, {entry['better']:,} of {entry['utterances']:,} utterances have fewer errors, "
        f"{entry['same']:,} as many and {entry['worse']:,} more."
    )
    title = "Utterances against the baseline"
    return Panel(title, [Figure(StackedBars([bar]), title, legend=tuple(_CHANGES.items()), words=words)])


def _errors_by_kind(report: Report) -> StackedBars:
    """Substitutions, deletions and insertions of each model, on one scale."""
    roles = [role for role in reversed(ROLES) if role in report]
    longest = max(sum(report[role][name] for name in _ERRORS.values()) / report[role]["words"] for role in roles) or 1.0
    bars = []
    for role in roles:
        entry = report[role]
        rates = {kind: entry[name] / entry["words"] for kind, name in _ERRORS.items()}
        shares = [
            Share(kind, 100 * rate / longest, f"{role}: {_ERRORS[kind]}, {formats.percent(rate, 2)} of the words")
            for kind, rate in rates.items()
        ]
        counts = ", ".join(f"{entry[_ERRORS[kind]]:,} {word}" for kind, word in _ERROR_LEGEND)
        bars.append(Stacked(role, shares, counts))
    return StackedBars(bars)


def _blocks(report: Report) -> list[Section]:
    blocks = report["model"]["blocks"]
    rows = [[str(index), *(_kept(block, name) for name in MODULES)] for index, block in enumerate(blocks)]
    if not rows:
        return []
    figure = Figure(
        blocks_figure(report["model"]),
        "Parameters per block before and after, and the share of units each module kept",
        "Above: parameters of each block, in front of what the block had before compression. Below: the share of "
        "heads (attention), channels (conv) and intermediate units (FFNs) that each module kept, in percent. Rest the "
        "pointer on a column for the numbers.",
        [*((name, name) for name in MODULES), ("before", "before compression")],
        Table(["block", *MODULES], rows),
        wide=True,
    )
    return [Section("What each block kept", [figure, *_front(report["model"]["front"])], detail=True)]


def _front(front: dict[str, list[int]]) -> list[Table]:
    """What was kept in front of the blocks, if not all of it."""
    rows = [(name, f"{kept} of {channels}") for name, (kept, channels) in front.items()]
    lacks = any(kept < channels for kept, channels in front.values())
    return [Table(["channels in front of the blocks", "kept"], rows)] if lacks else []


def _run_by(report: Report, role: str) -> str:
    """What ran it, if anything in the report was not run by PyTorch."""
    return f", {runtime_words(report[role])}" if runs_elsewhere(report) else ""


def _kept(block: dict[str, dict[str, list[int]]] | None, name: str) -> str:
    if block is None:
        return "dropped"
    kept, original = block[name]["units"]
    return f"{kept} of {original}" if kept else "removed"


def _role_condition(report: Report, role: str) -> Condition:
    entry = report[role]
    who = f"{code(entry['name'])} ({entry['family']}{_run_by(report, role)})"
    return Condition(role.capitalize(), f"{who}, transcribed {entry['batching']}", in_terminal=True)


def _conditions(report: Report) -> list[Condition]:
    data, given, bootstrap, macs = (report[key] for key in ("data", "conditions", "bootstrap", "model"))
    through = "to the end of the encoder" if macs.get("macs_end") == "encoder" else "through the whole model"
    conditions = [_role_condition(report, role) for role in ROLES if role in report]
    if compression := compression_line(report["model"]):
        conditions.append(Condition("Compression", compression, in_terminal=True))
    speech = f"{code(data['source'])}, {formats.split(data['split'])}, {_amount_of_speech(report)}"
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    return [
        *conditions,
        Condition("Data", f"{speech}; scoring ignores: {data['ignores']}", in_terminal=True),
        Condition("Real-time factor", condition_line(report), in_terminal=True),
        Condition("Timed", given["timed"]),
        Condition("Peak memory", f"the weights in memory and the {given['memory']}"),
        Condition("MACs", f"of {macs['macs_seconds']:g} s {through}, per second of them"),
        Condition("Intervals", f"{bootstrap['resamples']:,} resamples of utterances, seed {bootstrap['seed']}"),
        Condition("Versions", versions),
        Condition("Skipped files", f"{len(data['problems']) or 'none'}"),
    ]
