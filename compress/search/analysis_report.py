"""What an analysis leaves: JSON for scripts, and a page with plots for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from compress.files.writing import write_json
from compress.reports import formats
from compress.reports.page import Condition, Figure, Page, Section, Table, Text, code, short_name
from compress.reports.plots import heat_map, named_rates_figure
from compress.reports.saving import save_page
from compress.search.report import MEASURE_NAMES, data_condition, speech_line

ANALYSIS_NAME = "analysis"
ANALYSIS_JSON = f"{ANALYSIS_NAME}.json"
ANALYSIS_FILES = (ANALYSIS_JSON, f"{ANALYSIS_NAME}.md", f"{ANALYSIS_NAME}.html")
REMOVAL_HEADER = ["without block", "WER", "95 % interval", "CER"]
HEAD_HEADER = ["CTC head after block", "CTC loss per token", "WER", "95 % interval", "CER"]


def write_analysis(result: Mapping[str, Any], out: Path) -> None:
    """Writes all files into a folder, which is made where needed.

    Args:
        result: from `analyze_blocks`.
        out: the folder.
    """
    out.mkdir(parents=True, exist_ok=True)
    save_page(page_of(result), out, ANALYSIS_NAME)
    write_json(out / ANALYSIS_JSON, result)


def page_of(result: Mapping[str, Any]) -> Page:
    """Builds the page of an analysis.

    Args:
        result: from `analyze_blocks`, or read from analysis.json.
    """
    matrices = result["matrices"].items()
    return Page(
        title=f"The blocks of {short_name(result['model'])}",
        headline=_headline(result),
        sections=[
            *_removals(result),
            *(_matrix(MEASURE_NAMES[name], values) for name, values in matrices),
            *_heads(result),
        ],
        conditions=_conditions(result),
        maker="compress analyze",
        created=result["created"],
        context=speech_line(result["data"]),
        footer=f"Made by compress {result['versions']['compress']}. "
        f"Every number is in {ANALYSIS_JSON} beside this file.",
    )


def _headline(result: Mapping[str, Any]) -> str:
    """What stands out, in a sentence."""
    if not result["removals"]:
        whole = formats.percent(result["whole"]["wer"], 2)
        return f"The model can do without none of its blocks, of which it has {result['blocks']}: WER {whole}."
    least = min(result["removals"], key=lambda removal: (removal["wer"], removal["cer"]))
    most = max(result["removals"], key=lambda removal: (removal["wer"], removal["cer"]))
    return (
        f"Of {result['blocks']} blocks the model can best do without block {least['block']} (WER "
        f"{formats.percent(result['whole']['wer'], 2)} to {formats.percent(least['wer'], 2)}) and least without block "
        f"{most['block']} ({formats.percent(most['wer'], 2)}), one at a time and before any recovery training."
    )


def _removals(result: Mapping[str, Any]) -> list[Section]:
    """What the model makes without each block; no section where it can do without none."""
    whole, removals = result["whole"], result["removals"]
    if not removals:
        return []
    note = (
        "Blocks are numbered from 0. Word error rate of the model without each single block, with 95 % bootstrap "
        "intervals, before any recovery training."
    )
    figure = named_rates_figure([
        ("whole model", "baseline", whole["wer"], whole["wer_ci95"]),
        *((f"without {removal['block']}", "model", removal["wer"], removal["wer_ci95"]) for removal in removals),
    ], wide=True)  # fmt: skip
    rows = [["none", *_rates(whole)], *([str(removal["block"]), *_rates(removal)] for removal in removals)]
    drawn = Figure(figure, "Word error rate without each block, with 95 % intervals", wide=True)
    return [Section("Without one block", [Text(note), drawn, Table(REMOVAL_HEADER, rows, left=0)])]


def _matrix(name: str, values: Sequence[Sequence[float]]) -> Section:
    heat = heat_map(values)
    note = (
        "Between the boundaries of blocks, by the scale on the right. Boundary 0 is the "
        "input of the first block, boundary b + 1 the output of block b."
    )
    figure = Figure(heat, f"{name} between the boundaries of blocks", note, wide=True)
    return Section(f"How alike the blocks are: {name}", [figure])


def _heads(result: Mapping[str, Any]) -> list[Section]:
    """What the head makes of each block; no section where the outputs of blocks have no logits."""
    heads = result["heads"]
    if not heads:
        return []
    note = Text(
        "What the model's own head writes of each block's output, by way of whatever stands between the last block and "
        "the head." + _left_out(heads)
    )
    given = [(f"after {head['block']}", "model", head["wer"], head["wer_ci95"]) for head in heads]
    label = "Word error rate of the head after each block, with 95 % intervals"
    figure = Figure(named_rates_figure(given, wide=True), label, wide=True)
    rows = [[str(head["block"]), _loss(head["ctc_loss"]), *_rates(head)] for head in heads]
    return [Section("The CTC head after each block", [note, figure, Table(HEAD_HEADER, rows, left=0)])]


def _left_out(heads: Sequence[Mapping[str, Any]]) -> str:
    """What the losses do not count."""
    most = max(head["unalignable"] for head in heads)
    return f" The losses leave out {formats.counted(most, 'utterance')} with more tokens than frames." if most else ""


def _loss(mean: float | None) -> str:
    return "" if mean is None else f"{mean:.3f}"


def _conditions(result: Mapping[str, Any]) -> list[Condition]:
    """What the numbers were measured on, and what could not be measured."""
    conditions = [Condition("Model", f"{code(result['model'])} ({result['family']})"), data_condition(result["data"])]
    if reason := result["no_heads_because"]:
        conditions.append(Condition("No intermediate heads", reason, in_terminal=True))
    return conditions


def _rates(entry: Mapping[str, Any]) -> Sequence[str]:
    return [formats.percent(entry["wer"], 2), formats.interval(entry["wer_ci95"]), formats.percent(entry["cer"], 2)]
