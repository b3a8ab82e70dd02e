"""What a supernet leaves beside its models: JSON for scripts, and a page with a plot for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig

from compress.cost import DEFAULT_SECONDS, cost_table
from compress.elastic.supernet.history import History
from compress.elastic.supernet.limits import Subnets
from compress.files.reading import read_object, require_form
from compress.files.shipped import __version__
from compress.files.writing import write_json
from compress.reports import formats
from compress.reports.curves import curve_figure
from compress.reports.page import Columns, Condition, Figure, Page, Panel, Section, Table, Text, short_name
from compress.reports.plots import spans_figure
from compress.reports.saving import save_page
from compress.structure import MODULES, Structure, share_kept

SUPERNET_NAME = "supernet"
SUPERNET_JSON = f"{SUPERNET_NAME}.json"
DECIDED_FORM = {
    **dict.fromkeys(("parts", "ranking", "spans", "places", "sizes"), list),
    **dict.fromkeys(("method", "counted", "versions.compress"), str),
    "steps": int,
}
SIZE_FORM = {"size": str, "kept": dict, "structure": dict, "macs_per_second": float} | dict.fromkeys(
    ("achieved", "parts", "parameters"), int
)
SIZE_HEADER = ["size", "limit", "achieved", "parts", "parameters", "MACs/s", "WER", "95 % interval", "CER"]
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
    units = [dict(zip(MODULES, block, strict=True)) for block in sizes.parts.units]
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
    return {entry["size"]: Structure.from_dict(entry["structure"]) for entry in result["sizes"]}


def write_decided(result: Mapping[str, Any], out: Path) -> None:
    """Writes all files into a folder.

    Args:
        result: from `decided`; its sizes may have error rates, `wer`, `wer_ci95` and `cer`, by now.
        out: the folder.
    """
    write_json(out / SUPERNET_JSON, result)
    save_page(page_of(result, out.name), out, SUPERNET_NAME)


def read_decided(out: Path) -> dict[str, Any]:
    """Reads what `write_decided` wrote.

    Raises:
        ReadError: naming the file, and what is missing or of another type.
    """
    result = read_object(out / SUPERNET_JSON, DECIDED_FORM)
    for number, entry in enumerate(result["sizes"]):
        require_form(entry, SIZE_FORM, f"{out / SUPERNET_JSON}: sizes[{number}]")
    return result


def page_of(result: Mapping[str, Any], name: str) -> Page:
    """Builds the page of a supernet.

    Args:
        result: from `decided`; its sizes may have error rates, `wer` and `cer`, by now.
        name: of the run.
    """
    sizes = Text(
        f"Limit and achieved size count {result['counted']}; parameters and MACs are those of the size as a model of "
        "its own. Error rates are of the dev set, of the model in `best`."
    )
    kept = Text("The share of the units of each kind of module: heads, channels, and intermediate units of FFNs.")
    return Page(
        title=name,
        headline=_headline(result),
        sections=[
            *_curve(result["sizes"]),
            Section("Sizes", [sizes, Table(SIZE_HEADER, [_size_row(entry) for entry in result["sizes"]])]),
            Section(
                "What each size keeps", [kept, Table(KEPT_HEADER, [_kept_row(entry) for entry in result["sizes"]])]
            ),
            Section("How parts left", [_spans(result)]),
        ],
        conditions=_conditions(result),
        maker="recipes/train_supernet.py",
        created=result.get("created", ""),
        context=_speech(result.get("data")),
        footer=f"Made by compress {result['versions']['compress']}. "
        f"Every number is in {SUPERNET_JSON} beside this file.",
    )


def _headline(result: Mapping[str, Any]) -> str:
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


def _speech(data: Mapping[str, Any] | None) -> str:
    """On which speech error rates are measured; empty where nothing is known of it."""
    if data is None:
        return ""
    amount = "" if data["utterances"] is None else f", {formats.counted(data['utterances'], 'utterance')}"
    seconds = f", {formats.duration(data['seconds'])}" if data["seconds"] else ""
    return f"error rates: {short_name(data['source'])}, {data['split'] or formats.WHOLE_SOURCE}{amount}{seconds}"


def _curve(sizes: Sequence[Mapping[str, Any]]) -> list[Section]:
    """The error rate of each size over its parameters, once it is known."""
    if not all("wer_ci95" in entry for entry in sizes):
        return []
    note = (
        "Every point is a size of the one model, with its 95 % bootstrap interval over utterances; dashed is the error "
        "rate of the full size."
    )
    panels = [_curve_over(sizes, "parameters", "parameters"), _curve_over(sizes, "macs_per_second", "MACs per second")]
    return [Section("Word error rate over size", [Text(note), Columns(panels)])]


def _curve_over(sizes: Sequence[Mapping[str, Any]], key: str, name: str) -> Panel:
    full = sizes[-1]
    points = [
        (entry["size"], "baseline" if entry is full else "model", entry[key] / 1e6, entry["wer"], entry["wer_ci95"])
        for entry in sizes
    ]
    drawing = curve_figure(points, full["wer"], f"{name}, millions")
    return Panel(f"Over {name}", [Figure(drawing, f"Word error rate over the {name} of each size")])


def _conditions(result: Mapping[str, Any]) -> list[Condition]:
    return [
        Condition("Selection", f"{result['method']}, {result['steps']:,} steps"),
        Condition("Parts", f"{len(result['parts'])}, ranked by the selection"),
        *([Condition("Data", text)] if (text := _speech(result.get("data"))) else []),
        Condition("Costs", f"count {result['counted']}"),
        Condition("Versions", ", ".join(f"{name} {version}" for name, version in result["versions"].items())),
    ]


def _size_row(entry: Mapping[str, Any]) -> list[str]:
    """One size, under `SIZE_HEADER`."""
    return [
        entry["size"],
        "" if entry["limit"] is None else f"{entry['limit']:,}",
        f"{entry['achieved']:,}",
        str(entry["parts"]),
        formats.count(entry["parameters"]),
        formats.count(entry["macs_per_second"]),
        formats.percent(entry["wer"], 2) if "wer" in entry else "",
        formats.interval(entry["wer_ci95"], 2) if "wer_ci95" in entry else "",
        formats.percent(entry["cer"], 2) if "cer" in entry else "",
    ]


def _kept_row(entry: Mapping[str, Any]) -> list[str]:
    """One size, under `KEPT_HEADER`."""
    return [entry["size"], *(formats.percent(entry["kept"][name], 0) for name in MODULES)]


def _spans(result: Mapping[str, Any]) -> Figure:
    named = zip(result["places"], result["parts"], result["spans"], strict=True)
    parts = [(block, module, part, spans) for (block, module), part, spans in named]
    note = (
        "A line for each part, in running order from the top, for as long as the sub-net kept it during the selection. "
        "Rest the pointer on a line for its name."
    )
    legend = [(name, name) for name in MODULES]
    drawing = spans_figure(parts, result["steps"])
    return Figure(drawing, "The steps in which each part was kept", note, legend, wide=True)
