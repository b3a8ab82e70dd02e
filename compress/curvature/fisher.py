"""Fisher scores: by how much the loss would bend if a unit's gate were closed, from gradients of single utterances.

A gate of value 1 stands on every unit, each utterance has gates of its own, and what counts is the sum over
utterances of the squared gradient (Theis et al. 2018, arXiv 1801.05787, eq. 10; Kwon et al. 2022, arXiv 2204.09656,
eq. 8). Each utterance has its own gradient whatever batch it is in, so scores depend on neither batches nor processes.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from compress.conformers import (
    FrontGroup,
    block_units,
    blocks_of,
    family_of,
    frame_mask,
    frame_outputs,
    front_groups,
    part,
    submodule,
)
from compress.curvature.moments import Total, alone, require_finite
from compress.data import Batch
from compress.data.loader import IGNORED_LABEL, frames_needed
from compress.running.aspects import in_full
from compress.structure import IN_FRONT, MODULES, Place

logger = logging.getLogger(__name__)


def fisher_scores(
    model: PreTrainedModel,
    batches: Sequence[Batch],
    total: Total = alone,
    of: Callable[[Tensor], Tensor] = torch.square,
    *,
    front: bool = False,
) -> dict[Place, Tensor]:
    """Sums over utterances the squared gradient of the loss with respect to every unit's gate.

    The loss of an utterance is CTC on its transcript, or on the model's own where that needs more frames than there are
    (such are counted in a warning). A model without a CTC head has the distance that it would be
    distilled with, that of its encoder's output: at open gates its gradient vanishes, but not its curvature, whose
    diagonal is that of J^T J for the Jacobian J of the output. It is estimated by the gradient of the output's product
    with random signs (Hutchinson 1990), which are drawn for each utterance from its id.

    Args:
        model: of any family, in eval mode.
        batches: speech on the model's device, with labels for a CTC model.
        total: over the processes.
        of: what is summed of each gradient, instead of its square.
        front: whether channels in front of the blocks get scores, too.

    Returns:
        By module, `(units,)`, float64.
    """
    groups = front_groups(model) if front else []
    counts = {Place(b, m): units[name] for b, units in enumerate(block_units(model)) for m, name in enumerate(MODULES)}
    counts |= {Place(IN_FRONT, number): group.channels for number, group in enumerate(groups)}
    sums = {
        place: torch.zeros(count, dtype=torch.float64, device=model.device) for place, count in counts.items() if count
    }
    short: list[str] = []
    with in_full(model), _frozen(model):
        for batch in batches:
            for place, gradient in _gradients(model, batch, groups, short).items():
                sums[place] += of(gradient.double()).sum(0)
    if short:
        logger.warning(
            "%d utterances have fewer frames than their transcript needs (%s, ...): they are looked at with what the "
            "model itself writes down.", len(short), short[0],
        )  # fmt: skip
    return {place: _finite(total(scores), place) for place, scores in sums.items()}


def _finite(scores: Tensor, place: Place) -> Tensor:
    if not torch.isfinite(scores).all():
        raise ValueError(
            f"The gradient that reaches {place.label} is not finite on this speech: check the "
            "weights of the model, or decide by obs, which needs no gradient."
        )
    return scores


def _gradients(
    model: PreTrainedModel, batch: Batch, front: Sequence[FrontGroup], short: list[str]
) -> dict[Place, Tensor]:
    """By module, `(batch, units)`: the gradient of each utterance's loss with respect to the gates on its units.

    `short` takes the names of utterances with fewer frames than their transcript needs.
    """
    with torch.enable_grad(), _gated(model, len(batch.ids), front) as gates:
        output = frame_outputs(model, batch.inputs)
        _loss(model, batch, output, short).backward()
    return {place: gate.grad for place, gate in gates.items() if gate.grad is not None}


def _loss(model: PreTrainedModel, batch: Batch, output: Tensor, short: list[str]) -> Tensor:
    """The sum of the losses of all utterances of a batch."""
    mask = frame_mask(model, batch.inputs, output.shape[1])
    if not family_of(model).has_ctc:
        return sum((_signed(rows[valid], name) for rows, valid, name in zip(output, mask, batch.ids, strict=True)),
                   output.new_zeros(()))  # fmt: skip
    blank = int(model.config.pad_token_id)
    labels = _alignable(batch, output, mask.sum(-1), blank, short)
    lengths = (labels != IGNORED_LABEL).sum(-1)
    with torch.backends.cudnn.flags(enabled=False):
        return F.ctc_loss(
            output.float().log_softmax(-1).transpose(0, 1), labels.masked_fill(labels == IGNORED_LABEL, 0),
            mask.sum(-1), lengths, blank=blank, reduction="sum", zero_infinity=True,
        )  # fmt: skip


def _alignable(batch: Batch, output: Tensor, frames: Tensor, blank: int, short: list[str]) -> Tensor:
    """The labels of a batch; the model's own for utterances with fewer frames than their transcript needs."""
    too_long = frames_needed(batch.labels) > frames
    if not too_long.any():
        return batch.labels
    short += [name for name, long in zip(batch.ids, too_long.tolist(), strict=True) if long]
    labels = batch.labels.clone()
    for row in too_long.nonzero().flatten().tolist():
        written = torch.unique_consecutive(output[row, : frames[row]].argmax(-1))
        written = written[written != blank][: labels.shape[1]]
        labels[row] = IGNORED_LABEL
        labels[row, : len(written)] = written
    return labels


def _signed(output: Tensor, name: str) -> Tensor:
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    signs = torch.randint(0, 2, output.shape, generator=generator).to(output) * 2 - 1
    return (output * signs).sum()


@contextmanager
def _gated(model: PreTrainedModel, utterances: int, front: Sequence[FrontGroup]) -> Iterator[dict[Place, Tensor]]:
    """Inside, every utterance of a batch has gates of value 1 on the inputs of all last projections, its own leaves."""
    family, gates = family_of(model), dict[Place, Tensor]()

    def opened(place: Place, units: int) -> Tensor:
        gates[place] = torch.ones(utterances, units, device=model.device, dtype=model.dtype, requires_grad=True)
        return gates[place]

    with ExitStack() as stack:
        for number, group in enumerate(front):
            gate = opened(Place(IN_FRONT, number), group.channels)
            where = Place(IN_FRONT, number).label
            stack.enter_context(_on(part(model, group.last), gate, where, frames_first=False))
        for b, counts in enumerate(block_units(model)):
            for m, (name, description) in enumerate(family.modules.items()):
                branch = submodule(blocks_of(model)[b], description)
                if branch is None:
                    continue
                gate = opened(Place(b, m), counts[name])
                where, first = Place(b, m).label, name in family.frames_first
                stack.enter_context(_on(part(branch, description.last), gate, where, frames_first=first))
        yield gates


@contextmanager
def _on(projection: nn.Module, gate: Tensor, where: str, *, frames_first: bool) -> Iterator[None]:
    def hook(module: nn.Module, args: Any) -> Any:
        require_finite(where, args[0].detach())
        kernel = isinstance(module, nn.Conv1d | nn.Conv2d)
        values, channels = args[0], 1 if kernel else -1
        columns = gate.repeat_interleave(values.shape[channels] // gate.shape[1], dim=1)
        if kernel:
            return (values * columns.view(*columns.shape, *[1] * (values.ndim - 2)), *args[1:])
        return (values * (columns[None] if frames_first else columns[:, None]), *args[1:])

    handle = projection.register_forward_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _frozen(model: PreTrainedModel) -> Iterator[None]:
    """Inside, no weight gets a gradient; afterwards those that had one may again."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        for parameter in trained:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
