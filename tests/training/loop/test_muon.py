from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from compress.training.loop import muon
from compress.training.loop.muon import MOMENTUM, SIZE_OF_ADAMW, is_matrix, orthogonal
from compress.training.loop.optimizer import BETAS, WEIGHTS, ParameterGroup, build_optimizer, weight_groups

RATE = 0.1


@pytest.mark.parametrize("shape", [(6, 6), (4, 9), (9, 4), (1, 5)])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_singular_values_become_alike_and_directions_stay(shape: tuple[int, int], scale: float) -> None:
    torch.manual_seed(0)
    u, _, v = torch.linalg.svd(torch.randn(shape), full_matrices=False)
    values = torch.linspace(0.5, 1.0, min(shape))
    made = u.T @ orthogonal(scale * (u * values) @ v) @ v.T
    assert ((made.diagonal() > 0.65) & (made.diagonal() < 1.25)).all()
    torch.testing.assert_close(made, made.diagonal().diag(), atol=1e-4, rtol=0)


def test_no_gradient_is_no_direction() -> None:
    assert not orthogonal(torch.zeros(3, 4)).any()


def test_matrices_and_kernels_of_one_frame_are_matrices() -> None:
    matrices = (nn.Linear(3, 4), nn.Conv1d(3, 4, 1), nn.Conv2d(3, 4, 1))
    kernels = (nn.Conv1d(3, 4, 5), nn.Conv1d(4, 4, 5, groups=4))
    assert all(is_matrix(layer.weight) for layer in matrices)
    assert not any(is_matrix(layer.weight) for layer in kernels)
    assert not is_matrix(torch.zeros(4))


def of_gradients(optimizer: torch.optim.Optimizer, *gradients: torch.Tensor) -> None:
    (parameter,) = (p for group in optimizer.param_groups for p in group["params"])
    for gradient in gradients:
        parameter.grad = gradient.clone()
        optimizer.step()


@pytest.mark.parametrize("in_bf16", [False, True])
def test_a_matrix_moves_along_its_averaged_gradient_as_far_as_adamw_moves_it(
    in_bf16: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the precision of where the matrix is at the step, which may not be where it was made."""
    torch.manual_seed(0)
    dtype = torch.bfloat16 if in_bf16 else torch.float32
    start, first, second = torch.randn(3, 4, 8)
    weight = nn.Parameter(start.clone())
    optimizer = build_optimizer([ParameterGroup(WEIGHTS, [weight], RATE, weight_decay=0.5)], "muon")
    monkeypatch.setattr(muon, "has_bf16", lambda device: in_bf16 and device == weight.device)
    of_gradients(optimizer, first, second)
    wanted, momentum = start.clone(), torch.zeros_like(start)
    for gradient in (first, second):
        momentum = MOMENTUM * momentum + (1 - MOMENTUM) * gradient
        ahead = MOMENTUM * momentum + (1 - MOMENTUM) * gradient
        wanted = (1 - 0.5 * RATE) * wanted - RATE * SIZE_OF_ADAMW * 8**0.5 * orthogonal(ahead, dtype)
    torch.testing.assert_close(weight.detach(), wanted)
    moved = RATE * SIZE_OF_ADAMW * 8**0.5 * orthogonal(first)
    assert 0.7 * SIZE_OF_ADAMW < moved.square().mean().sqrt() / RATE < 1.3 * SIZE_OF_ADAMW


def test_a_kernel_of_one_frame_moves_as_the_matrix_that_it_is() -> None:
    torch.manual_seed(0)
    start, gradient = torch.randn(2, 4, 8)
    matrix, kernel = nn.Parameter(start.clone()), nn.Parameter(start.clone()[..., None])
    of_gradients(build_optimizer([ParameterGroup(WEIGHTS, [matrix], RATE)], "muon"), gradient)
    of_gradients(build_optimizer([ParameterGroup(WEIGHTS, [kernel], RATE)], "muon"), gradient[..., None])
    assert torch.equal(matrix, kernel[..., 0])


def test_all_that_is_no_matrix_of_the_weights_moves_as_with_adamw(tiny_model: nn.Module) -> None:
    gates = nn.Parameter(torch.ones(3, 3))
    multiplier = nn.Parameter(torch.zeros(()))
    trained = [*tiny_model.parameters(), gates, multiplier]
    others = [gates, *(p for name, p in tiny_model.named_parameters() if "bias" in name)]  # those of heads are 2-D
    start = [p.detach().clone() for p in trained]
    gradients = [torch.randn_like(p) for p in trained]

    def after_two_steps(name: Any) -> list[torch.Tensor]:
        groups = [
            *weight_groups(tiny_model, 1e-2, 0.1),
            ParameterGroup("gates", [gates], 0.1),
            ParameterGroup("multipliers", [multiplier], 0.1, maximize=True),
        ]
        optimizer = build_optimizer(groups, name)
        for value, parameter in zip(start, trained, strict=True):
            parameter.data.copy_(value)
        for _ in range(2):
            for gradient, parameter in zip(gradients, trained, strict=True):
                parameter.grad = gradient.clone()
            optimizer.step()
        return [p.detach().clone() for p in trained]

    theirs, ours = after_two_steps("adamw"), after_two_steps("muon")
    for parameter, one, other in zip(trained, theirs, ours, strict=True):
        matrix = is_matrix(parameter) and all(parameter is not other for other in others)
        assert torch.equal(one, other) is not matrix


def test_a_step_goes_on_from_its_saved_state() -> None:
    torch.manual_seed(0)
    start, *gradients = torch.randn(4, 4, 8)
    through, stopped = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    optimizers = [build_optimizer([ParameterGroup(WEIGHTS, [p], RATE)], "muon") for p in (through, stopped)]
    of_gradients(optimizers[0], *gradients)
    of_gradients(optimizers[1], *gradients[:2])
    resumed = build_optimizer([ParameterGroup(WEIGHTS, [stopped], RATE)], "muon")
    resumed.load_state_dict(optimizers[1].state_dict())
    of_gradients(resumed, *gradients[2:])
    assert torch.equal(through, stopped)
    assert resumed.param_groups[0]["betas"] == BETAS
