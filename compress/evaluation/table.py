"""The comparison as a table in the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from compress.evaluation import skipping
from compress.evaluation.report import Report
from compress.evaluation.rows import comparison_rows, compression_line, condition_line
from compress.evaluation.subnets import HEADER, subnet_rows

_MOST_PROBLEMS = 10


def show(report: Report, console: Console | None = None) -> None:
    """Draws the report's table, its conditions and the files that were skipped.

    Args:
        report: from `evaluate_models`.
        console: where to draw; standard output when None.
    """
    console = console or Console()
    console.print(comparison_table(report))
    if "sizes" in report:
        console.print(sizes_table(report))
    if "skipping" in report:
        console.print(skipping_table(report))
        console.print(skipping.setting_line(report), markup=False)
    console.print(f"Speed on {condition_line(report)}.", style="dim", markup=False)
    sizes = compression_line(report["model"])
    if sizes:
        console.print(f"Compression: {sizes}.", style="dim", markup=False)
    _show_problems(report, console)


def comparison_table(report: Report) -> Table:
    """The comparison: one row per quantity, one column per model."""
    data = report["data"]
    title = f"{report['model']['name']} on {data['source']} ({data['split']}, {data['utterances']:,} utterances)"
    table = Table(title=Text(title), title_style="bold", title_justify="left", header_style="bold")
    table.add_column("")
    table.add_column("model", justify="right")
    paired = "baseline" in report
    if paired:
        table.add_column("baseline", justify="right")
        table.add_column("against baseline", justify="right")
    for row in comparison_rows(report):
        cells = [row.model, row.baseline, row.change] if paired else [row.model]
        table.add_row(row.label, *cells, style="dim" if row.label.startswith(" ") else None)
    return table


def sizes_table(report: Report) -> Table:
    """The sizes of an elastic model: one row each."""
    table = Table(title=Text("At each size"), title_style="bold", title_justify="left", header_style="bold")
    for name in HEADER:
        table.add_column(name, justify="left" if name == HEADER[1] else "right")
    for row in subnet_rows(report):
        table.add_row(*row)
    return table


def skipping_table(report: Report) -> Table:
    """A model with and without skipping: one row each."""
    table = Table(title=Text("What skipping does"), title_style="bold", title_justify="left", header_style="bold")
    for name in skipping.HEADER:
        table.add_column(name, justify="left" if name == skipping.HEADER[0] else "right")
    for row in skipping.skipping_rows(report):
        table.add_row(*row)
    return table


def _show_problems(report: Report, console: Console) -> None:
    problems = report["data"]["problems"]
    if not problems:
        return
    console.print(f"Files skipped: {len(problems)}", style="yellow")
    for problem in problems[:_MOST_PROBLEMS]:
        console.print(f"  {problem['file']}: {problem['reason']}", style="yellow", markup=False)
    if len(problems) > _MOST_PROBLEMS:
        console.print(f"  and {len(problems) - _MOST_PROBLEMS} more, all in the report.", style="yellow")
