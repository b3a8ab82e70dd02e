"""What a search leaves: JSON for scripts, Markdown for a repository, a page for a person, and the Structures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from compress.files.writing import replaced_folder, write_json, write_text
from compress.reports import formats
from compress.reports.console import terminal_table
from compress.reports.markdown import escape, table
from compress.reports.page import environment, short_name
from compress.reports.plots import heat_map
from compress.search.coarse import segments
from compress.structure import STRUCTURE_FILE, Structure

JSON_NAME = "search.json"
MARKDOWN_NAME = "search.md"
HTML_NAME = "search.html"
STRUCTURES = "structures"
_TEMPLATE = "search.html.j2"
_SCORE_DIGITS = 4
MEASURE_NAMES = {"distance_correlation": "distance correlation", "svcca": "SVCCA", "cka": "linear CKA"}

METHOD_HEADER = ["method", "removed", "WER", "95 % interval", "evaluations", "block runs", "seconds"]
PROPOSAL_HEADER = ["removed", "method", "score", "WER", "95 % interval", "CER"]


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
    best = next(one["method"] for one in result["methods"] if one["removed"] == result["best"]["removed"])
    write_text(out / STRUCTURE_FILE, json.dumps(structures[best].to_dict()) + "\n")
    write_text(out / MARKDOWN_NAME, render_markdown(result))
    write_text(out / HTML_NAME, render_html(result))
    write_json(out / JSON_NAME, result)


def method_rows(result: Mapping[str, Any]) -> list[list[str]]:
    """One row per method, under `METHOD_HEADER`; the whole model first."""
    whole = result["whole"]
    rows = [["whole model", "", formats.percent(whole["wer"], 2), formats.interval(whole["wer_ci95"]), "", "", ""]]
    for one in result["methods"]:
        reused = f"{one['block_runs']:,} of {one['block_runs_alone']:,}"
        numbers = [formats.percent(one["wer"], 2), formats.interval(one["wer_ci95"])]
        numbers += [f"{one['evaluations']:,}", reused, f"{one['seconds']:.1f}"]
        rows.append([one["method"], numbered(one["removed"]), *numbers])
    return rows


def proposal_rows(result: Mapping[str, Any]) -> list[list[str]]:
    """One row per proposal measured, under `PROPOSAL_HEADER`; the best first."""
    ordered = sorted(result["proposals"], key=lambda one: (one["wer"], one["cer"]))
    return [
        [
            numbered(one["removed"]),
            one["method"],
            "" if one["score"] is None else f"{one['score']:.{_SCORE_DIGITS}f}",
            formats.percent(one["wer"], 2),
            formats.interval(one["wer_ci95"]),
            formats.percent(one["cer"], 2),
        ]
        for one in ordered
    ]


def numbered(blocks: Sequence[int]) -> str:
    """Block numbers, runs shortened: [1, 2, 3, 7] -> "1-3, 7"."""
    return ", ".join(str(a) if a == b else f"{a}{'-' if b > a + 1 else ', '}{b}" for a, b in segments(blocks))


def headline(result: Mapping[str, Any]) -> str:
    """The result in a sentence."""
    best, whole = result["best"], result["whole"]
    return (
        f"Without blocks {numbered(best['removed'])} of {result['blocks']} the word error rate goes from "
        f"{formats.percent(whole['wer'], 2)} to {formats.percent(best['wer'], 2)}, before any recovery training."
    )


def conditions(result: Mapping[str, Any]) -> list[str]:
    """What the numbers were measured on, and how the matrix was made."""
    data = result["data"]
    lines = [
        f"Data: {data['source']}, split {data['split']}, {data['utterances']:,} utterances, "
        f"{formats.duration(data['seconds'])}; scoring ignores: {data['ignores']}.",
        f"Processes that shared the error rates: {result['jobs']}. The seconds of a method do not include reading the "
        "model, but they include the matrix for the first method that needs it.",
        "Block runs: blocks run per batch, of those that there would be if nothing had been reused.",
    ]
    if matrix := result["matrix"]:
        row = "means of utterances" if matrix["feature"] == "mean" else f"at most {matrix['rows']:,} frames"
        name = MEASURE_NAMES[matrix["measure"]]
        lines.append(f"Matrix: {name} of {row}, padding left out, {matrix['seconds']:.1f} s.")
    return lines


def render_markdown(result: Mapping[str, Any]) -> str:
    """Writes the search as Markdown: headline, methods, proposals, conditions."""
    parts = [f"# {escape(result['model'])} without {result['remove']} of {result['blocks']} blocks", headline(result)]
    parts += [table(METHOD_HEADER, method_rows(result))]
    parts += ["## Proposals", table(PROPOSAL_HEADER, proposal_rows(result))]
    parts += ["## Conditions", "\n".join(f"- {escape(line)}" for line in conditions(result))]
    return "\n\n".join(parts) + "\n"


def render_html(result: Mapping[str, Any]) -> str:
    """Draws the search as one self-contained page, with the matrix as a heat map."""
    matrix = result["matrix"]
    return environment().get_template(_TEMPLATE).render(
        result=result,
        title=f"{short_name(result['model'])} without {result['remove']} of {result['blocks']} blocks",
        headline=headline(result),
        measure=MEASURE_NAMES[matrix["measure"]] if matrix else "",
        heat=heat_map(matrix["values"], segments(result["best"]["removed"])) if matrix else None,
        methods=(METHOD_HEADER, method_rows(result)),
        proposals=(PROPOSAL_HEADER, proposal_rows(result)),
        conditions=conditions(result),
    )  # fmt: skip


def show(result: Mapping[str, Any], out: str, console: Console | None = None) -> None:
    """Prints the tables and where the files are.

    Args:
        result: from `search_blocks`.
        out: the folder.
        console: where to draw; standard output when None.
    """
    console = console or Console()
    narrow = [place for place, name in enumerate(METHOD_HEADER) if name != "95 % interval"]
    methods = [[row[place] for place in narrow] for row in (METHOD_HEADER, *method_rows(result))]
    console.print(terminal_table("Methods", methods[0], methods[1:]))
    console.print(terminal_table("Proposals", PROPOSAL_HEADER, proposal_rows(result)))
    console.print(headline(result), markup=False)
    console.print(f"Written to {out}: {STRUCTURE_FILE}, {JSON_NAME}, {MARKDOWN_NAME}, {HTML_NAME}.", style="dim")
