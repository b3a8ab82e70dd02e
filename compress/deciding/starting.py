"""Where gates start, if scores are known before anything is learned."""

from __future__ import annotations

import torch

from compress.cost import CostTable
from compress.deciding.gates import LOG_ALPHA_LIMIT, Gates
from compress.deciding.selection import Scores

_HALVINGS = 40  # of the interval in which the start is looked for


@torch.no_grad()
def start_gates_(gates: Gates, scores: Scores, table: CostTable, limit: int) -> None:
    """Sets the locations of units' gates by scores, so that the expected cost is a limit.

    Units stand in the order of their scores, by what they cost together with all before them; locations fall evenly
    along this line, from one limit of locations to the other, around the place where the expected cost is met.

    Args:
        gates: changed in place.
        scores: of the units; gates of units without any start as they are.
        table: what they cost.
        limit: the expected cost to start with.

    Raises:
        ValueError: if no unit has a gate that could be set.
    """
    groups = [group for group in gates.groups if group.kind != "module" and group.place in scores.units]
    if not groups:
        raise ValueError("gates.start sets the gates of units, and none are gated: see gates.units, include, exclude.")
    values = torch.cat([torch.tensor(scores.units[group.place], dtype=torch.float64) for group in groups])
    costs = torch.cat([torch.full((g.size,), float(table.each(g.place))) for g in groups])
    entries = torch.cat([torch.arange(group.start, group.start + group.size) for group in groups])
    order = values.argsort(descending=True, stable=True)
    behind, places = costs[order].cumsum(0) / costs.sum(), entries[order].to(gates.log_alpha.device)
    low, high = -1.0, 2.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        locations = (2 * LOG_ALPHA_LIMIT * (middle - behind)).clamp(-LOG_ALPHA_LIMIT, LOG_ALPHA_LIMIT)
        gates.log_alpha[places] = locations.to(gates.log_alpha)
        low, high = (low, middle) if table.expected(*gates.expected()) > limit else (middle, high)
