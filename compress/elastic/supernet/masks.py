"""Masks: a sub-net as gate values of its parts on the full model, which computes what the removed model does."""

from __future__ import annotations

from itertools import groupby

import torch
from torch import Tensor
from transformers import PreTrainedModel

from compress.deciding.gates import GateConfig, Gates
from compress.elastic.supernet.parts import Parts

KINDS = {"module": ("module",), "component": ("module", "head", "ffn_unit")}
"""Per granularity, the kinds of gates that say which parts run; a convolution is whole or absent in both."""


class PartMasks:
    """Gates of whole parts on a model.

    The value of a part multiplies the units that it has; a module's bias is there as long as one of its parts is, so it
    is multiplied by the largest of their values.

    Args:
        model: gets gates on its last projections, in place; `detach` takes them off.
        parts: of that model.
    """

    def __init__(self, model: PreTrainedModel, parts: Parts) -> None:
        self.gates = Gates(model, GateConfig(units=KINDS[parts.granularity]))
        self.gates.attach(model)
        places = [place for place, _ in groupby(part.place for part in parts.entries)]
        self._module_of_part = torch.tensor([places.index(part.place) for part in parts.entries])
        of_unit = {(*part.place, unit): number for number, part in enumerate(parts.entries) for unit in part.units}
        entries: list[int] = []
        for group in self.gates.groups:
            if group.kind == "module":
                entries.append(len(parts) + places.index(group.place))
            else:
                entries += [of_unit[group.block, group.module, unit] for unit in range(group.size)]
        self._entries, self._places = torch.tensor(entries), len(places)

    def use(self, values: Tensor) -> None:
        """Puts values of the parts to work for the following forward passes.

        Args:
            values: `(parts,)`; 0 takes a part out.
        """
        device = values.device
        modules = values.new_zeros(self._places).scatter_reduce(
            0, self._module_of_part.to(device), values, "amax", include_self=False
        )
        self.gates.use(torch.cat([values, modules])[self._entries.to(device)], joint=False)

    def open(self) -> None:
        """Lets the full model run again."""
        self.gates.reset()

    def detach(self, model: PreTrainedModel) -> None:
        """Takes the gates off the model, in place; its tensors are as trained."""
        self.gates.detach(model)
