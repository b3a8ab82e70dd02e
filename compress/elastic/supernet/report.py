"""What a supernet leaves beside its models: JSON for scripts, Markdown for a repository, a page with a plot."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig

from compress.cost import DEFAULT_SECONDS, cost_table
from compress.elastic.supernet.history import History
from compress.elastic.supernet.subnets import Subnets
from compress.files.shipped import __version__
from compress.files.writing import write_json, write_text
from compress.reports import formats
from compress.reports.markdown import escape, table
from compress.reports.page import environment, short_name
from compress.reports.plots import spans_figure
from compress.structure import MODULES, Structure, share_kept

JSON_NAME, MARKDOWN_NAME, HTML_NAME = "supernet.json", "supernet.md", "supernet.html"
_TEMPLATE = "supernet.html.j2"
SIZE_HEADER = ["size", "limit", "achieved", "parts", "parameters", "MACs/s", "WER", "CER"]
KEPT_HEADER = ["size", *MODULES]


def decided(
    sizes: Subnets, ranking: list[int], history: History, config: PreTrainedConfig, method: str, steps: int
) -> dict[str, Any]:
    """What a selection has decided.

    Args:
        sizes: what was asked for.
        ranking: the numbers of all parts, most wanted first.
        history: how parts left.
        config: of the model whose parts they are.
        method: name of the selection.
        steps: that it took.

    Returns:
        JSON-able: the parts, their ranking, when each left, and the sizes, smallest first.
    """
    counts, tables = sizes.counts(ranking), [cost_table(config, "params"), cost_table(config, "macs")]
    units = [dict(zip(MODULES, one, strict=True)) for one in sizes.parts.units]
    entries = []
    for name, structure in sizes.structures(ranking).items():
        parameters, macs = (table.of(structure) for table in tables)
        entries.append({
            "size": name,
            "limit": sizes.limits.get(name),
            "achieved": sizes.parts.cost(ranking[: counts[name]]),
            "parts": counts[name],
            "parameters": parameters,
            "macs_per_second": macs / DEFAULT_SECONDS,
            "kept": {name: share_kept(structure, units, name) for name in MODULES},
            "structure": structure.to_dict(),
        })  # fmt: skip
    return {
        "method": method,
        "steps": steps,
        "counted": sizes.counted,
        "parts": [part.name for part in sizes.parts.entries],
        "ranking": ranking,
        "spans": [history.spans(number, steps) for number in range(len(sizes.parts))],
        "places": [[part.block, MODULES[part.module]] for part in sizes.parts.entries],
        "sizes": entries,
        "versions": {"compress": __version__},
    }


def structures_of(result: Mapping[str, Any]) -> dict[str, Structure]:
    """The Structure of each size that was decided, smallest first."""
    return {one["size"]: Structure.from_dict(one["structure"]) for one in result["sizes"]}


def write_decided(result: Mapping[str, Any], out: Path) -> None:
    """Writes all files into a folder.

    Args:
        result: from `decided`; its sizes may have error rates, `wer` and `cer`, by now.
        out: the folder.
    """
    write_json(out / JSON_NAME, result)
    write_text(out / MARKDOWN_NAME, render_markdown(result, out.name))
    write_text(out / HTML_NAME, render_html(result, out.name))


def read_decided(out: Path) -> dict[str, Any]:
    """Reads what `write_decided` wrote."""
    result: dict[str, Any] = json.loads((out / JSON_NAME).read_text())
    return result


def size_rows(result: Mapping[str, Any]) -> list[list[str]]:
    """One row per size, under `SIZE_HEADER`; the full one last."""
    return [
        [
            one["size"],
            "" if one["limit"] is None else f"{one['limit']:,}",
            f"{one['achieved']:,}",
            str(one["parts"]),
            formats.count(one["parameters"]),
            formats.count(one["macs_per_second"]),
            *(formats.percent(one[rate], 2) if rate in one else "" for rate in ("wer", "cer")),
        ]
        for one in result["sizes"]
    ]


def kept_rows(result: Mapping[str, Any]) -> list[list[str]]:
    """One row per size, under `KEPT_HEADER`."""
    return [[one["size"], *(formats.percent(one["kept"][name], 0) for name in MODULES)] for one in result["sizes"]]


def headline(result: Mapping[str, Any]) -> str:
    """The result in a sentence."""
    smallest, *_, full = result["sizes"]
    share = formats.percent(smallest["parameters"] / full["parameters"], 0)
    known = (
        f", at a word error rate of {formats.percent(smallest['wer'], 2)} instead of {formats.percent(full['wer'], 2)}"
        if "wer" in smallest
        else ""
    )
    return (
        f"The smallest of {len(result['sizes'])} sizes keeps {smallest['parts']} of {full['parts']} parts and {share} "
        f"of the parameters{known}. Chosen by {result['method']} in {result['steps']:,} steps."
    )


def render_markdown(result: Mapping[str, Any], name: str) -> str:
    """Writes the sizes as Markdown."""
    parts = [f"# {escape(name)}", headline(result), "## Sizes", table(SIZE_HEADER, size_rows(result))]
    return "\n\n".join([*parts, "## What each size keeps", table(KEPT_HEADER, kept_rows(result))]) + "\n"


def render_html(result: Mapping[str, Any], name: str) -> str:
    """Draws the sizes as one self-contained page, with a plot of how parts left."""
    named = zip(result["places"], result["parts"], result["spans"], strict=True)
    return environment().get_template(_TEMPLATE).render(
        result=result,
        title=short_name(name),
        headline=headline(result),
        sizes=(SIZE_HEADER, size_rows(result)),
        kept=(KEPT_HEADER, kept_rows(result)),
        modules=MODULES,
        spans=spans_figure([(block, module, part, spans) for (block, module), part, spans in named], result["steps"]),
    )  # fmt: skip
