"""The closed form of a projection against least squares by torch, and what the ridge promises."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from compress.curvature.least_squares import refitted, removal_errors, squared_errors
from compress.curvature.moments import STRIPE, Moments, alone

FRAMES, INPUTS, OUTPUTS = 200, 12, 5


def rows(frames: int = FRAMES, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Inputs that depend on each other, and targets."""
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randn(INPUTS, INPUTS, generator=generator, dtype=torch.float64)
    inputs = torch.randn(frames, INPUTS, generator=generator, dtype=torch.float64) @ mixed + 0.5
    return inputs, torch.randn(frames, OUTPUTS, generator=generator, dtype=torch.float64) + inputs[:, :OUTPUTS]


def moments_of(inputs: Tensor, targets: Tensor, weight: Tensor, *, constant: bool = True) -> Moments:
    moments = Moments(inputs.shape[1], constant=constant, device=inputs.device, weight=weight)
    for start in range(0, len(inputs), 37):
        moments.add(inputs[start : start + 37], targets[start : start + 37])
    return moments.gather(alone, "here")


def some_weight() -> Tensor:
    return torch.randn(OUTPUTS, INPUTS + 1, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


def with_ones(inputs: Tensor) -> Tensor:
    return torch.cat([inputs, inputs.new_ones(len(inputs), 1)], dim=1)


@pytest.mark.parametrize("constant", [True, False])
def test_without_a_ridge_to_speak_of_it_is_least_squares(constant: bool) -> None:
    inputs, targets = rows()
    columns = with_ones(inputs) if constant else inputs
    expected = torch.linalg.lstsq(columns, targets).solution.T
    given = torch.ones_like(expected)
    moments = moments_of(inputs, targets, given, constant=constant)
    found = refitted(given, moments, 1e-12)
    assert torch.allclose(found, expected, atol=1e-6)
    errors = [(targets - columns @ weight.T).square().sum() / targets.square().sum() for weight in (given, found)]
    assert squared_errors(found, moments) == pytest.approx([float(error) for error in errors], rel=1e-6)


@pytest.mark.parametrize("frames", [FRAMES, 5, 1])
@pytest.mark.parametrize("ridge", [1e-6, 1e-3, 1.0])
def test_the_error_never_rises_also_with_fewer_frames_than_inputs(frames: int, ridge: float) -> None:
    inputs, targets = rows(frames)
    given = some_weight()
    moments = moments_of(inputs, targets, given)
    found = refitted(given, moments, ridge)
    assert torch.isfinite(found).all()
    before, after = squared_errors(found, moments)
    assert after <= before


def test_products_of_many_inputs_are_formed_on_one_side_and_mirrored() -> None:
    inputs = torch.randn(30, 2 * STRIPE + 100, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    moments = Moments(inputs.shape[1], constant=True, device=inputs.device)
    for start in (0, 10):
        moments.add(inputs[start : start + 20])
    columns = with_ones(torch.cat([inputs[:20], inputs[10:]]))
    assert torch.allclose(moments.gather(alone, "here").second, columns.T @ columns, atol=1e-12)
    assert torch.equal(moments.second, moments.second.T)


def test_what_gives_the_targets_already_stays() -> None:
    inputs, _ = rows(frames=6)
    given = some_weight()
    moments = moments_of(inputs, with_ones(inputs) @ given.T, given)
    assert torch.allclose(refitted(given, moments, 1e-3), given, atol=1e-9)
    nothing = torch.zeros(6, INPUTS, dtype=torch.float64)
    assert torch.equal(refitted(given, moments_of(nothing, nothing[:, :OUTPUTS], given), 1e-3), given)


def explained(inputs: Tensor, targets: Tensor, kept: list[int]) -> float:
    """The mean squared error when some inputs are left and their weights fitted anew."""
    columns = with_ones(inputs[:, kept])
    rest = targets - columns @ torch.linalg.lstsq(columns, targets).solution
    return float(rest.square().sum() / len(inputs))


@pytest.mark.parametrize(("size", "step"), [(1, 1), (1, 3), (3, 1)])
def test_a_unit_costs_by_how_much_the_error_rises_when_it_goes(size: int, step: int) -> None:
    """The order is that of going, one after the other, each refitted; and the rises add up to the error."""
    inputs, _ = rows()
    weight = some_weight()
    targets = with_ones(inputs) @ weight.T
    found = removal_errors(weight, moments_of(inputs, targets, weight), size, step, 1e-12)
    units = [list(range(unit * size, (unit + 1) * size)) for unit in range(INPUTS // size)]
    left = list(range(len(units)))
    error, rises = 0.0, {}
    while left:
        errors = {
            gone: explained(inputs, targets, [i for unit in left if unit != gone for i in units[unit]]) for gone in left
        }
        gone = min(errors, key=errors.__getitem__)
        rises[gone], error = errors[gone] - error, errors[gone]
        left.remove(gone)
    highest = 0.0
    for unit, rise in rises.items():
        highest = max(highest, rise)
        assert float(found[unit]) == pytest.approx(highest, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("step", [1, 2, 4])
def test_the_twin_of_a_unit_is_free_and_its_last_copy_is_not(step: int) -> None:
    """Also where several units leave at a time."""
    inputs, _ = rows()
    inputs[:, 1] = inputs[:, 0]
    weight = torch.ones(OUTPUTS, INPUTS + 1, dtype=torch.float64)
    found = removal_errors(weight, moments_of(inputs, inputs[:, :OUTPUTS], weight), 1, step, 1e-9)
    twins = sorted(found[:2].tolist())
    assert twins[0] < 1e-6 < 0.01 < twins[1]


def test_of_many_units_that_leave_several_at_a_time_the_order_is_that_of_one_by_one() -> None:
    inputs = torch.randn(4000, 256, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    inputs[:, 100:] += 0.05 * inputs[:, :156].cumsum(1)
    weight = torch.randn(16, 257, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    moments = moments_of(inputs, inputs[:, :16], weight)
    one, several = (removal_errors(weight, moments, 1, step, 1e-4) for step in (1, 8))
    assert torch.allclose(one, several, rtol=0.05)


def test_inputs_that_hardly_vary_have_scores_and_a_refit() -> None:
    """Their products, of single precision, are indefinite by more than the ridge."""
    generator = torch.Generator().manual_seed(0)
    inputs = 1 + 1e-4 * torch.randn(100, 2048, generator=generator)
    weight = torch.randn(8, 2049, generator=generator)
    moments = Moments(2048, constant=True, device=inputs.device, weight=weight)
    moments.add(inputs, torch.ones(100, 8))
    moments.gather(alone, "here")
    rises = removal_errors(weight, moments, 1, 64, 1e-4)
    assert torch.isfinite(rises).all()
    assert (rises >= 0).all()
    before, after = squared_errors(refitted(weight, moments, 1e-4), moments)
    assert after < 0.01 * before


def test_inputs_of_which_nothing_is_heard_cost_nothing() -> None:
    silent = torch.zeros(6, INPUTS, dtype=torch.float64)
    found = removal_errors(some_weight(), moments_of(silent, silent[:, :OUTPUTS], some_weight()), 1, 1, 1e-4)
    assert torch.isfinite(found).all()
    assert found.max() < 1e-9
