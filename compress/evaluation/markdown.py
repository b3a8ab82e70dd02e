"""report.md: the comparison as a Markdown page that reads well in a repository."""

from __future__ import annotations

from compress.evaluation import skipping
from compress.evaluation.report import Report
from compress.evaluation.rows import comparison_rows, compression_line, condition_line, headline
from compress.evaluation.subnets import HEADER, subnet_rows
from compress.reports import formats
from compress.reports.markdown import escape, table
from compress.structure import MODULES


def render_markdown(report: Report) -> str:
    """Writes the report as Markdown: headline, comparison, what each block kept, worst utterances, conditions."""
    parts = [f"# {escape(report['model']['name'])}", headline(report), _comparison(report)]
    parts += [*_sizes(report), *_skipping(report), *_blocks(report)]
    parts += [*_worst(report), *_conditions(report)]
    return "\n\n".join(parts) + "\n"


def _comparison(report: Report) -> str:
    paired = "baseline" in report
    header = ["", "model", *(("baseline", "model against baseline") if paired else ())]
    rows = [
        [row.label.strip(), row.model, *((row.baseline, row.change) if paired else ())]
        for row in comparison_rows(report)
    ]
    return table(header, rows)


def _sizes(report: Report) -> list[str]:
    rows = subnet_rows(report)
    return ["## At each size", table(list(HEADER), rows)] if rows else []


def _skipping(report: Report) -> list[str]:
    rows = skipping.skipping_rows(report)
    if not rows:
        return []
    return ["## What skipping does", skipping.setting_line(report), table(list(skipping.HEADER), rows)]


def _blocks(report: Report) -> list[str]:
    rows = []
    for index, block in enumerate(report["model"]["blocks"]):
        cells = [_kept(block, name) for name in MODULES]
        rows.append([str(index), *cells])
    return ["## What each block kept", table(["block", *MODULES], rows)] if rows else []


def _kept(block: dict[str, dict[str, list[int]]] | None, name: str) -> str:
    if block is None:
        return "dropped"
    kept, original = block[name]["units"]
    return f"{kept} of {original}" if kept else "removed"


def _worst(report: Report) -> list[str]:
    if not report["worst"]:
        return []
    lines = ["## Worst utterances"]
    for one in report["worst"]:
        texts = [f"- `{one['id']}`, {one['model']['errors']} errors", f"  - said: {escape(one['reference'])}"]
        texts += [f"  - {role}: {escape(one[role]['hypothesis'])}" for role in ("model", "baseline") if one.get(role)]
        lines.append("\n".join(texts))
    return [lines[0], "\n".join(lines[1:])]


def _conditions(report: Report) -> list[str]:
    data, model, bootstrap = report["data"], report["model"], report["bootstrap"]
    lines = [
        f"- Data: {escape(data['source'])}, split {data['split']}, {data['utterances']:,} utterances, "
        f"{formats.duration(data['seconds'])}; scoring ignores: {data['ignores']}.",
        f"- Real-time factor: {condition_line(report)}; {report['conditions']['timed']}",
        f"- Peak memory: weights + {report['conditions']['memory']}.",
        f"- Intervals: {bootstrap['resamples']:,} bootstrap resamples over utterances, seed {bootstrap['seed']}.",
        *(f"- Batching of the {role}: {report[role]['batching']}." for role in ("model", "baseline") if role in report),
    ]
    sizes = compression_line(model)
    lines += [f"- Compression: {escape(sizes)}."] if sizes else []
    lines += [f"- Skipped: `{problem['file']}`: {escape(problem['reason'])}" for problem in data["problems"]]
    return ["## Conditions", "\n".join(lines)]
