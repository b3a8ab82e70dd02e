"""The intermediate heads of a model whose blocks change, or that gets its first."""

from __future__ import annotations

import copy

from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from compress.conformers import ctc_head, structure_of
from compress.running.skipper import HEADS
from compress.running.skipping import heads_left, kept_blocks, read_skipping


def follow_heads_(model: PreTrainedModel, before: PreTrainedConfig, after: PreTrainedConfig) -> None:
    """Gives a model the intermediate heads that a config wants, in place, and takes the others.

    A head that it has at the same place among its blocks stays; another one begins as a copy of its CTC head.

    Args:
        model: with the blocks of `after`.
        before: says which heads it has, and which blocks it had.
        after: says which it gets.
    """
    wanted, had = (read_skipping(getattr(config, "skipping", None)) for config in (after, before))
    heads: dict[int, nn.Module] = {}
    if had and had.own_heads:
        places = {number: place for place, number in enumerate(had.heads)}
        left = heads_left(had.heads, *(kept_blocks(structure_of(config)) for config in (before, after)))
        heads = {number: getattr(model, HEADS)[places[old]] for number, old in left.items()}
        delattr(model, HEADS)
    if wanted and wanted.own_heads:
        found = (heads.get(number) or copy.deepcopy(ctc_head(model)) for number in wanted.heads)
        setattr(model, HEADS, nn.ModuleList(found))
