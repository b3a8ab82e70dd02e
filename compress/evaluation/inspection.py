"""Inspection: what a model is made of, what can be gated, and which budgets it can reach, from its config alone."""

from __future__ import annotations

import math
from itertools import groupby
from typing import Any

from compress.checkpoint import load_config, obstacle
from compress.conformers import block_units, family_of, front_channels, skeleton
from compress.cost import DEFAULT_SECONDS, PER_MILLISECOND, CostTable, cost_table, size_of
from compress.deciding.budget import reachable
from compress.deciding.gates import IN_BLOCKS, GateConfig, Gates
from compress.latency import LatencyProfile
from compress.reports.page import Page, Section, Table
from compress.running.aspects import ASPECTS
from compress.structure import MODULES
from compress.surgery.stock import ROUTES, route_of


def inspect_model(model: str, seconds: float = DEFAULT_SECONDS, profile: str | None = None) -> dict[str, Any]:
    """Describes a model; only its config is read, no weights are downloaded and nothing is allocated.

    Args:
        model: folder or Hub name.
        seconds: length of the utterance for MACs.
        profile: of the model's latency, a file of `compress profile`.

    Returns:
        A JSON-able description: family, how it can run in part (by aspect, e.g. `sizes`), what keeps it from being
        compressed (if anything), parameters and MACs (total, encoder, per block and module), units per block, number of
        gates by kind, channels in front of the blocks and what they cost, and reachable budgets by metric and
        denominator, the smallest also with `budget.front`.

    Raises:
        ValueError: if `seconds` is not positive and finite, the model is not supported, or the profile is none of it.
    """
    if not 0 < seconds < math.inf:
        raise ValueError(f"seconds is {seconds:g}; give the length of an utterance, for example {DEFAULT_SECONDS:g}.")
    config = load_config(model)
    bones = skeleton(config, original=False)
    size = size_of(bones, seconds)
    gates, with_front = (Gates(bones, GateConfig().with_front(front)) for front in (False, True))
    tables = [cost_table(config, metric, scope, seconds) for metric, scope in _BUDGETS]
    tables += [LatencyProfile.load(profile).table(config)] if profile else []
    return {
        "model": model,
        "model_type": str(config.model_type),
        "family": family_of(config).name,
        "obstacle": obstacle(config),
        "route": route_of(config),
        **{aspect.name: aspect.describe(bones) for aspect in ASPECTS},
        "parameters": {"total": size.total, "encoder": size.encoder},
        "macs": {"total": size.macs, "encoder": size.encoder_macs, "seconds": seconds},
        "macs_end": size.macs_end,
        "macs_per_second": size.macs_per_second,
        "blocks": [
            {"units": units, "parameters": parameters, "macs": macs}
            for units, parameters, macs in zip(block_units(bones), size.blocks, size.block_macs, strict=True)
        ],
        "gates": {kind: sum(group.size for group in gates.groups if group.kind == kind) for kind in IN_BLOCKS},
        "front": {
            "channels": front_channels(bones),
            **{name: _front_cost(table) for name, table in zip(("parameters", "macs"), tables[::2], strict=False)},
        },
        "reachable": [_reachable(table, gates, with_front) for table in tables],
    }


_BUDGETS: tuple[tuple[Any, Any], ...] = (
    ("params", "total"),
    ("params", "encoder"),
    ("macs", "total"),
    ("macs", "encoder"),
)


def _front_cost(table: CostTable) -> int:
    return table.front.saved([0] * len(table.front.names))


def _reachable(table: CostTable, gates: Gates, with_front: Gates) -> dict[str, Any]:
    low, high = reachable(table, gates.scores())
    costs = {"full": table.full, "smallest": low, "largest": high}
    shares = {"smallest_share": low / table.full, "largest_share": high / table.full}
    if table.front.names:
        lowest, _ = reachable(table, with_front.scores())
        costs, shares = (
            costs | {"smallest_with_front": lowest},
            shares | {"smallest_with_front_share": lowest / table.full},
        )
    return {"metric": table.metric, "denominator": table.denominator, **costs, **shares}


def inspection_page(description: dict[str, Any]) -> Page:
    """The description as a report."""
    reached = description["reachable"][_BUDGETS.index(("params", "total"))]
    smallest = f"A budget of parameters can be as small as {reached['smallest_share']:.1%} of the whole model"
    if (with_front := reached.get("smallest_with_front_share")) is not None:
        smallest += f", or {with_front:.1%} where channels in front of the blocks may go, too (budget.front)"
    return Page(
        title=description["model"],
        headline=f"{smallest}.",
        sections=[
            Section("parameters, MACs and units by block", [_block_table(description)]),
            Section("reachable budgets", [_budget_table(description)]),
        ],
        conditions=[],
        maker="compress inspect",
        context=f"family {description['family']} (model_type {description['model_type']})",
        numbers=_summary(description),
    )


def _summary(description: dict[str, Any]) -> Table:
    macs, seconds = description["macs"], description["macs"]["seconds"]
    end = "" if description["macs_end"] == "logits" else ", to the end of the encoder"
    rows = [
        ("checkpoint", ROUTES[description["route"]]),
        *filter(None, (aspect.row(description[aspect.name]) for aspect in ASPECTS)),
        *([("cannot be compressed yet", description["obstacle"])] if description["obstacle"] else []),
        ("parameters", f"{description['parameters']['total']:,}"),
        ("in the encoder", f"{description['parameters']['encoder']:,}"),
        (f"MACs of {seconds:g} s of audio{end}", f"{macs['total'] / 1e9:,.3f} G"),
        *([("in front of the blocks", _front_line(description["front"]))] if description["front"]["channels"] else []),
        ("gates", ", ".join(f"{count:,} {kind}" for kind, count in description["gates"].items())),
    ]
    return Table(("", "whole model"), rows, left=2)


def _front_line(front: dict[str, Any]) -> str:
    channels = ", ".join(f"{name} {count}" for name, count in front["channels"].items())
    return f"channels of {channels}: {front['parameters']:,} parameters, {front['macs'] / 1e9:,.3f} GMAC"


def _block_table(description: dict[str, Any]) -> Table:
    """One row for each run of equal blocks."""
    rows = []
    for _, run in groupby(enumerate(description["blocks"]), key=lambda pair: pair[1]):
        alike = list(run)
        (first, block), last = alike[0], alike[-1][0]
        name = str(first) if first == last else f"{first} to {last}, each"
        cells = [_cell(block["parameters"][m], block["macs"][m]) + f"\n{block['units'][m]} units" for m in MODULES]
        rows.append((name, *cells, _cell(sum(block["parameters"].values()), sum(block["macs"].values()))))
    return Table(("block", *MODULES, "all"), rows)


def _cell(parameters: int, macs: int) -> str:
    return f"{parameters / 1e6:.3f} M\n{macs / 1e9:.3f} GMAC"


def _budget_table(description: dict[str, Any]) -> Table:
    ends = {"smallest": "smallest", "smallest_with_front": "with budget.front", "largest": "largest"}
    if not description["front"]["channels"]:
        del ends["smallest_with_front"]
    rows = [
        (
            row["metric"] if row["metric"] != "latency" else "latency, ms",
            row["denominator"],
            _cost(row, "full"),
            *(f"{_cost(row, name)} ({row[f'{name}_share']:.1%})" if name in row else "" for name in ends),
        )
        for row in description["reachable"]
    ]
    return Table(("budget", "denominator", "100 %", *ends.values()), rows, left=2)


def _cost(row: dict[str, Any], name: str) -> str:
    return f"{row[name] / PER_MILLISECOND:,.2f}" if row["metric"] == "latency" else f"{row[name]:,}"
