"""What an analysis leaves: JSON for scripts, Markdown for a repository, a page with plots for a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from compress.files.writing import write_json, write_text
from compress.reports import formats
from compress.reports.console import terminal_table
from compress.reports.markdown import escape, table
from compress.reports.page import environment, short_name
from compress.reports.plots import heat_map, named_rates_figure
from compress.search.report import MEASURE_NAMES

JSON_NAME, MARKDOWN_NAME, HTML_NAME = "analysis.json", "analysis.md", "analysis.html"
_TEMPLATE = "analysis.html.j2"
REMOVAL_HEADER = ["without block", "WER", "95 % interval", "CER"]
HEAD_HEADER = ["CTC head after block", "CTC loss per token", "WER", "95 % interval", "CER"]


def write_analysis(result: Mapping[str, Any], out: Path) -> None:
    """Writes all files into a folder, which is made where needed.

    Args:
        result: from `analyze_blocks`.
        out: the folder.
    """
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / MARKDOWN_NAME, render_markdown(result))
    write_text(out / HTML_NAME, render_html(result))
    write_json(out / JSON_NAME, result)


def removal_rows(result: Mapping[str, Any]) -> list[list[str]]:
    """One row per single removal, under `REMOVAL_HEADER`; the whole model first."""
    return [["none", *_rates(result["whole"])], *([str(one["block"]), *_rates(one)] for one in result["removals"])]


def head_rows(result: Mapping[str, Any]) -> list[list[str]]:
    """One row per intermediate head, under `HEAD_HEADER`."""
    return [[str(one["block"]), f"{one['ctc_loss']:.3f}", *_rates(one)] for one in result["heads"]]


def headline(result: Mapping[str, Any]) -> str:
    """What stands out, in a sentence."""
    least = min(result["removals"], key=lambda one: (one["wer"], one["cer"]))
    most = max(result["removals"], key=lambda one: (one["wer"], one["cer"]))
    return (
        f"Of {result['blocks']} blocks the model can best do without block {least['block']} (WER "
        f"{formats.percent(result['whole']['wer'], 2)} to {formats.percent(least['wer'], 2)}) and least without block "
        f"{most['block']} ({formats.percent(most['wer'], 2)}), one at a time and before any recovery training."
    )


def conditions(result: Mapping[str, Any]) -> list[str]:
    """What the numbers were measured on."""
    data = result["data"]
    lines = [
        f"Data: {data['source']}, split {data['split']}, {data['utterances']:,} utterances, "
        f"{formats.duration(data['seconds'])}; scoring ignores: {data['ignores']}."
    ]
    return lines + ([f"No intermediate heads: {result['no_heads_because']}"] if result["no_heads_because"] else [])


def render_markdown(result: Mapping[str, Any]) -> str:
    """Writes the analysis as Markdown: headline, single removals, heads, conditions."""
    parts = [f"# The blocks of {escape(result['model'])}", headline(result)]
    parts += ["## Without one block", table(REMOVAL_HEADER, removal_rows(result))]
    if result["heads"]:
        parts += ["## The CTC head after each block", table(HEAD_HEADER, head_rows(result))]
    parts += ["## Conditions", "\n".join(f"- {escape(line)}" for line in conditions(result))]
    return "\n\n".join(parts) + "\n"


def render_html(result: Mapping[str, Any]) -> str:
    """Draws the analysis as one self-contained page."""
    whole = ("whole model", "baseline", result["whole"]["wer"], result["whole"]["wer_ci95"])
    without = [(f"without {one['block']}", "model", one["wer"], one["wer_ci95"]) for one in result["removals"]]
    after = [(f"after {one['block']}", "model", one["wer"], one["wer_ci95"]) for one in result["heads"]]
    return environment().get_template(_TEMPLATE).render(
        result=result,
        title=f"The blocks of {short_name(result['model'])}",
        headline=headline(result),
        heats=[(MEASURE_NAMES[name], heat_map(values)) for name, values in result["matrices"].items()],
        removal_figure=named_rates_figure([whole, *without]),
        removals=(REMOVAL_HEADER, removal_rows(result)),
        head_figure=named_rates_figure(after) if after else None,
        heads=(HEAD_HEADER, head_rows(result)),
        conditions=conditions(result),
    )  # fmt: skip


def show(result: Mapping[str, Any], out: str, console: Console | None = None) -> None:
    """Prints the tables and where the files are.

    Args:
        result: from `analyze_blocks`.
        out: the folder.
        console: where to draw; standard output when None.
    """
    console = console or Console()
    console.print(terminal_table("Without one block", REMOVAL_HEADER, removal_rows(result)))
    if result["heads"]:
        console.print(terminal_table("The CTC head after each block", HEAD_HEADER, head_rows(result)))
    console.print(headline(result), markup=False)
    for line in conditions(result)[1:]:
        console.print(line, markup=False)
    console.print(f"Written to {out}: {JSON_NAME}, {MARKDOWN_NAME}, {HTML_NAME}.", style="dim")


def _rates(one: Mapping[str, Any]) -> Sequence[str]:
    return [formats.percent(one["wer"], 2), formats.interval(one["wer_ci95"]), formats.percent(one["cer"], 2)]
