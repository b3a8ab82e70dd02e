from __future__ import annotations

import pytest
import torch
from torch import nn

from compress.training.loop.optimizer import WEIGHTS, ParameterGroup, build_optimizer, weight_groups


def test_biases_norms_and_vectors_do_not_decay(tiny_model: nn.Module) -> None:
    decayed, plain = weight_groups(tiny_model, 1e-3, 0.1)
    assert (decayed.weight_decay, plain.weight_decay) == (0.1, 0.0)
    names = {id(parameter): name for name, parameter in tiny_model.named_parameters()}
    plain_names = [names[id(parameter)] for parameter in plain.parameters]
    assert "encoder.layers.0.norm_out.weight" in plain_names
    assert "encoder.layers.0.feed_forward1.linear1.bias" in plain_names
    assert "encoder.layers.0.self_attn.bias_u" in plain_names
    assert not any(name.endswith("bias") for name in (names[id(p)] for p in decayed.parameters))
    assert len(decayed.parameters) + len(plain.parameters) == len(names)


def test_frozen_and_excluded_parameters_are_left_out(tiny_model: nn.Module) -> None:
    head = tiny_model.ctc_head
    head.bias.requires_grad_(False)
    groups = weight_groups(tiny_model, 1e-3, 0.1, exclude=[head.weight])
    taken = {id(parameter) for group in groups for parameter in group.parameters}
    assert id(head.bias) not in taken
    assert id(head.weight) not in taken
    assert len(taken) == len(list(tiny_model.parameters())) - 2


def test_a_multiplier_ascends_while_a_weight_descends() -> None:
    weight, multiplier = nn.Parameter(torch.tensor([1.0])), nn.Parameter(torch.tensor([1.0]))
    optimizer = build_optimizer(
        [ParameterGroup(WEIGHTS, [weight], 0.1), ParameterGroup("multipliers", [multiplier], 0.1, maximize=True)]
    )
    (weight + multiplier).sum().backward()
    optimizer.step()
    assert weight.item() == pytest.approx(0.9, abs=1e-4)
    assert multiplier.item() == pytest.approx(1.1, abs=1e-4)


def test_an_ascending_group_must_not_decay() -> None:
    with pytest.raises(ValueError, match=r"weight_decay is 0\.\d+; it must be 0 in a group that ascends"):
        ParameterGroup("multipliers", [], 0.1, weight_decay=0.01, maximize=True)


def test_nothing_to_train_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing to train"):
        build_optimizer([ParameterGroup(WEIGHTS, [nn.Parameter(torch.ones(1), requires_grad=False)], 0.1)])
