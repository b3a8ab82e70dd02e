"""What a search leaves: JSON for scripts, a page for people, and the Structures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from compress.files.writing import replaced_folder, write_json, write_text
from compress.reports import formats
from compress.reports.page import Condition, Figure, Page, Section, Table, Text, code, short_name
from compress.reports.plots import heat_map
from compress.reports.saving import save_page
from compress.search.coarse import segments
from compress.structure import STRUCTURE_FILE, Structure

SEARCH_NAME = "search"
SEARCH_JSON = f"{SEARCH_NAME}.json"
SEARCH_FILES = (STRUCTURE_FILE, SEARCH_JSON, f"{SEARCH_NAME}.md", f"{SEARCH_NAME}.html")
STRUCTURES = "structures"
_SCORE_DIGITS = 4
_INTERVAL = "95 % interval"
MEASURE_NAMES = {"distance_correlation": "distance correlation", "svcca": "SVCCA", "cka": "linear CKA"}

METHOD_HEADER = ["method", "removed", "WER", _INTERVAL, "evaluations", "block runs", "seconds"]
PROPOSAL_HEADER = ["removed", "method", "score", "WER", _INTERVAL, "CER"]


def write_result(result: Mapping[str, Any], structures: Mapping[str, Structure], out: Path) -> None:
    """Writes all files into a folder, which is made where needed; files of an earlier search in it are replaced.

    Args:
        result: from `search_blocks`.
        structures: by method, the one that it chooses.
        out: the folder.
    """
    with replaced_folder(out / STRUCTURES) as folder:
        for method, structure in structures.items():
            structure.save(folder / f"{method}.json")
    best = next(entry["method"] for entry in result["methods"] if entry["removed"] == result["best"]["removed"])
    write_text(out / STRUCTURE_FILE, json.dumps(structures[best].to_dict()) + "\n")
    save_page(page_of(result), out, SEARCH_NAME)
    write_json(out / SEARCH_JSON, result)


def page_of(result: Mapping[str, Any]) -> Page:
    """Builds the page of a search.

    Args:
        result: from `search_blocks`, or read from search.json.
    """
    methods = Text(
        "Blocks are numbered from 0. What each method chooses, and what the choice took. Error rates before any "
        "recovery training, with 95 % bootstrap intervals."
    )
    proposals = Text(
        "Every proposal whose error rate was measured, the best first. The score only screens; the error rate decides."
    )
    return Page(
        title=f"{short_name(result['model'])} without {result['remove']} of {result['blocks']} blocks",
        headline=_headline(result),
        sections=[
            Section("Methods", [methods, Table(METHOD_HEADER, _method_rows(result), left=2, pages_only=[_INTERVAL])]),
            *_matrix(result),
            Section("Proposals", [proposals, Table(PROPOSAL_HEADER, _proposal_rows(result), left=2)]),
        ],
        conditions=_conditions(result),
        maker="compress search",
        created=result["created"],
        context=speech_line(result["data"]),
        footer=f"Made by compress {result['versions']['compress']}. Every number is in {SEARCH_JSON} beside this file.",
    )


def speech_line(data: Mapping[str, Any]) -> str:
    """Which speech it was, in one line."""
    amount = f"{data['utterances']:,} utterances, {formats.duration(data['seconds'])}"
    return f"{short_name(data['source'])}, {data['split'] or formats.WHOLE_SOURCE} · {amount}"


def data_condition(data: Mapping[str, Any]) -> Condition:
    """Which speech it was, and how it was scored."""
    amount = f"{data['utterances']:,} utterances, {formats.duration(data['seconds'])}"
    return Condition(
        "Data", f"{code(data['source'])}, {formats.split(data['split'])}, {amount}; scoring ignores: {data['ignores']}"
    )


def block_list(blocks: Sequence[int]) -> str:
    """Block numbers, runs shortened: [1, 2, 3, 7] -> "1-3, 7"."""
    return ", ".join(str(a) if a == b else f"{a}{'-' if b > a + 1 else ', '}{b}" for a, b in segments(blocks))


def _headline(result: Mapping[str, Any]) -> str:
    best, whole = result["best"], result["whole"]
    blocks = "block" if len(best["removed"]) == 1 else "blocks"
    return (
        f"Without {blocks} {block_list(best['removed'])} of {result['blocks']} the word error rate goes from "
        f"{formats.percent(whole['wer'], 2)} to {formats.percent(best['wer'], 2)}, before any recovery training."
    )


def _method_rows(result: Mapping[str, Any]) -> list[list[str]]:
    """One row per method, under `METHOD_HEADER`; the whole model first."""
    whole = result["whole"]
    rows = [["whole model", "", formats.percent(whole["wer"], 2), formats.interval(whole["wer_ci95"]), "", "", ""]]
    for entry in result["methods"]:
        reused = f"{entry['block_runs']:,} of {entry['block_runs_alone']:,}"
        numbers = [formats.percent(entry["wer"], 2), formats.interval(entry["wer_ci95"])]
        numbers += [f"{entry['evaluations']:,}", reused, f"{entry['seconds']:.1f}"]
        rows.append([entry["method"], block_list(entry["removed"]), *numbers])
    return rows


def _proposal_rows(result: Mapping[str, Any]) -> list[list[str]]:
    """One row per proposal measured, under `PROPOSAL_HEADER`; the best first."""
    ordered = sorted(result["proposals"], key=lambda proposal: (proposal["wer"], proposal["cer"]))
    return [
        [
            block_list(proposal["removed"]),
            proposal["method"],
            "" if proposal["score"] is None else f"{proposal['score']:.{_SCORE_DIGITS}f}",
            formats.percent(proposal["wer"], 2),
            formats.interval(proposal["wer_ci95"]),
            formats.percent(proposal["cer"], 2),
        ]
        for proposal in ordered
    ]


def _matrix(result: Mapping[str, Any]) -> list[Section]:
    """The matrix as a heat map, if any method asked for it."""
    matrix = result["matrix"]
    if not matrix:
        return []
    heat = heat_map(matrix["values"], [(first, last + 1) for first, last in segments(result["best"]["removed"])])
    name = MEASURE_NAMES[matrix["measure"]]
    note = (
        f"{name[0].upper()}{name[1:]} between the boundaries of blocks, by the scale on the right. Boundary 0 is "
        "the input of the first block, boundary b + 1 the output of block b. Outlined: input (row) and output (column) "
        "of each run of blocks that the best proposal removes; their mean is its score."
    )
    return [
        Section(
            "Correlation between blocks", [Figure(heat, f"{name} between the boundaries of blocks", note, wide=True)]
        )
    ]


def _conditions(result: Mapping[str, Any]) -> list[Condition]:
    """What the numbers were measured on, and how the matrix was made."""
    conditions = [
        Condition("Model", f"{code(result['model'])} ({result['family']})"),
        data_condition(result["data"]),
        Condition(
            "Machine", f"{result['machine']}; processes that shared the error rates: {result['jobs']}", in_terminal=True
        ),
        Condition("Seconds", "do not include reading the model, but the matrix, for the first method that needs it."),
        Condition("Block runs", "blocks run per batch, of those that there would be if nothing had been reused."),
    ]
    if refit := result.get("refit"):
        place = f"{refit['utterances']:,} utterances of {code(refit['data'])}, {formats.split(refit['split'])}"
        conditions.append(Condition("Refit", f"every proposal was removed and refitted in closed form on {place}."))
    if matrix := result["matrix"]:
        conditions.append(Condition("Matrix", _how_compared(matrix)))
    return conditions


def _how_compared(matrix: Mapping[str, Any]) -> str:
    row = "means of utterances" if matrix["feature"] == "mean" else f"at most {matrix['rows']:,} frames"
    return f"{MEASURE_NAMES[matrix['measure']]} of {row}, padding left out, {matrix['seconds']:.1f} s."
