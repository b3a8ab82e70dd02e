"""A last projection in closed form: the weights with which some of its inputs give what all of them gave.

The common core of Kubo et al. 2024, ZipLM (Kurtic et al. 2023), SlimGPT and DarwinLM: least squares on second moments.
"""

from __future__ import annotations

import torch
from torch import Tensor

from compress.curvature.moments import Moments

_TINY = torch.finfo(torch.float64).tiny
CANDIDATES = 4
"""Of units that go together, so many times as many are looked at one by one."""
STILL_THERE = 0.8
"""Share of the units of a matrix below which it is made smaller: taking units out in place costs less than that."""


def refitted(weight: Tensor, moments: Moments, ridge: float) -> Tensor:
    """The weights of least squared error that stay near given ones: argmin |y - V z|^2 + r |V - W|^2.

    The ridge pulls towards the weights that are there, not towards zero: what the speech does not determine stays as
    it is, the squared error never rises, and where nothing was removed nothing changes.

    Args:
        weight: `(targets, inputs)`, the weights W; with a constant among the inputs, the bias is the last column.
        moments: of the inputs, and of the errors of these weights.
        ridge: as a share of the inputs' mean square; the constant has none.

    Returns:
        `(targets, inputs)`, float64; `weight` itself where the inputs are all zero.
    """
    if not moments.mean_square:
        return weight.double()
    factor = _factor_(moments.second.clone(), _pull(moments, ridge))
    return weight.double() + torch.cholesky_solve(moments.cross.T, factor).T


def squared_errors(weight: Tensor, moments: Moments) -> tuple[float, float]:
    """The squared error as a share of the targets' power: of the weights that moments were taken with, and of others.

    Args:
        weight: the others, `(targets, inputs)`.
        moments: of the inputs, and of the errors of the first.
    """
    assert moments.weight is not None
    change = weight.double() - moments.weight.double()
    error = moments.error - 2 * (change * moments.cross).sum() + ((change @ moments.second) * change).sum()
    power = float(moments.power.clamp_min(_TINY))
    return float(moments.error) / power, max(0.0, float(error)) / power


def _pull(moments: Moments, ridge: float) -> Tensor:
    """`(inputs,)`: how strongly each weight is pulled towards what it was."""
    pull = torch.full_like(moments.second.diagonal(), ridge * moments.mean_square * float(moments.frames))
    if moments.constant:
        pull[-1] = 0.0
    return pull


def _factor_(products: Tensor, pull: Tensor) -> Tensor:
    """The Cholesky factor of sums of products, `(inputs, inputs)`, and of a pull on their diagonal, which changes them.

    Where rounding has left them a little indefinite, the pull grows until they are not.
    """
    factor, failed = products, torch.ones(())
    while failed:
        products.diagonal().add_(pull)
        factor, failed = torch.linalg.cholesky_ex(products)
        pull = 10 * pull
    return factor


def removal_errors(weight: Tensor, moments: Moments, size: int, step: int, ridge: float) -> Tensor:
    """By how much the squared error of a projection rises with each unit that goes, the others being refitted.

    Optimal Brain Surgeon for groups (Hassibi and Stork 1993; Kurtic et al. 2023, ZipLM, eq. 3): the units that cost
    least go first, one by one; the inverse of the moments, and the weights, follow each of them. So a unit whose
    part another can take over is cheap only as long as that other one is there. That which goes next is looked for
    among all units that are left after every `step` units, and in between among those that were cheapest then.

    Args:
        weight: `(outputs, inputs)`; with a constant among the inputs, the bias is the last column.
        moments: of the inputs.
        size: inputs per unit.
        step: units that leave weights and inverse at a time; 1 where a unit has several inputs.
        ridge: as a share of the inputs' mean square.

    Returns:
        `(units,)`, float64: the rise per frame when the unit went, never less than that of one that went before it.
    """
    inverse = _inverse(moments, ridge)
    weights, units = weight[:, : moments.width].T.double().contiguous(), moments.width // size
    left = torch.arange(units, device=weight.device)
    there = torch.ones(units, dtype=torch.bool, device=weight.device)
    rises, highest = weights.new_zeros(units), weights.new_zeros(())
    while count := int(there.sum()):
        rise = _rises(weights, inverse, len(left), size).masked_fill(~there, torch.inf)
        near = rise.argsort(stable=True)[: min(CANDIDATES * step, count)]
        if step == 1:
            gone, rise = near[:1], rise[near[:1]]
        else:
            order, rise = _in_turn(weights[near], inverse[near][:, near], min(step, count))
            gone = near[order]
        highest = torch.maximum(highest, rise.cummax(0).values)
        rises[left[gone]] = highest
        highest = highest[-1]
        there[gone] = False
        _take_out_(weights, inverse, (gone[:, None] * size + torch.arange(size, device=gone.device)).flatten())
        if count - len(gone) < STILL_THERE * len(left):
            inputs = there.repeat_interleave(size).nonzero().flatten()
            weights, inverse = weights[inputs], inverse.index_select(0, inputs).index_select(1, inputs)
            left, there = left[there], there[there]
    return rises


def _inverse(moments: Moments, ridge: float) -> Tensor:
    """`(width, width)`: the inverse of the mean products of inputs, with a ridge.

    A constant takes up the means, so that what is left are products of what differs from them.
    """
    width = moments.width
    second = moments.second[:width, :width] / moments.frames
    if moments.constant:
        mean = moments.second[:width, -1] / moments.frames
        second.addr_(mean, mean, alpha=-1)
    pull = torch.full_like(second.diagonal(), ridge * max(moments.mean_square, _TINY))
    return torch.cholesky_inverse(_factor_(second, pull))


def _rises(weights: Tensor, inverse: Tensor, units: int, size: int) -> Tensor:
    """`(units,)`: the rise of the error if one unit goes: tr((H^-1)_uu^-1 W_u W_u^T), W_u `(size, outputs)`."""
    if size == 1:
        of_inputs: Tensor = torch.linalg.vector_norm(weights, dim=1).square()
        return of_inputs / inverse.diagonal().clamp_min(_TINY)
    index = torch.arange(units * size, device=inverse.device).view(units, size)
    blocks = inverse[index[:, :, None], index[:, None, :]]
    of_units = weights.view(units, size, -1)
    rises: Tensor = torch.linalg.solve(blocks, of_units @ of_units.mT).diagonal(dim1=1, dim2=2).sum(1)
    return rises.clamp_min(0.0)


def _in_turn(weights: Tensor, inverse: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Which of some inputs go first, one by one, the others refitted each time, and by how much the error rises.

    On the CPU, since every operation is small.

    Args:
        weights: of these inputs alone, `(inputs, outputs)`.
        inverse: the same of the inverse, `(inputs, inputs)`.
        count: how many go.

    Returns:
        Their numbers in order, and the rise at each, `(count,)`.
    """
    products, inverse = (weights @ weights.T).cpu(), inverse.cpu()
    there = torch.ones(len(inverse), dtype=torch.bool)
    order, rises = torch.zeros(count, dtype=torch.long), inverse.new_zeros(count)
    for number in range(count):
        rise = (products.diagonal() / inverse.diagonal().clamp_min(_TINY)).masked_fill(~there, torch.inf)
        gone = int(rise.argmin())
        order[number], rises[number], there[gone] = gone, rise[gone].clamp_min(0.0), False
        row, follow = products[gone], inverse[gone] / inverse[gone, gone].clamp_min(_TINY)
        change = torch.outer(follow, row - 0.5 * row[gone] * follow)
        products = products - change - change.T
        inverse = inverse - torch.outer(follow, inverse[gone])
    return order.to(weights.device), rises.to(weights)


def _take_out_(weights: Tensor, inverse: Tensor, gone: Tensor) -> None:
    """Lets weights, `(inputs, outputs)`, and inverse follow when some inputs go and the others are refitted.

    Their own rows end as next to nothing; a 1 on the diagonal keeps what is solved with them regular.
    """
    between = inverse[gone]
    follow = torch.linalg.solve(between[:, gone], between)
    weights.addmm_(follow.T, weights[gone], alpha=-1)
    inverse.addmm_(between.T, follow, alpha=-1)
    inverse[gone, gone] = 1.0
