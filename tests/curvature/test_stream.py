"""How modules count in the residual stream: in every precision, where next to nothing comes out, in two processes."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

import compress
from compress.conformers import frame_outputs
from compress.curvature.moments import Total, alone
from compress.curvature.passage import Passage
from compress.curvature.repair import RefitConfig, Repair
from compress.curvature.stream import StreamGauge
from compress.structure import Block, Structure
from tests.helpers.tiny import BLOCKS, batch, parakeet, random_structure


def factors(model: Any, inputs: dict[str, Tensor], total: Total = alone) -> dict[str, tuple[float, float] | None]:
    """Those of the first block."""
    passage = Passage(model, [inputs])
    gauge = StreamGauge(passage)
    with gauge.watching():
        passage.run()
    return gauge.factors(total)


def faint(model: Any, factor: float) -> Any:
    """A copy, in which so much is left of what the first FFN says."""
    other = copy.deepcopy(model)
    for parameter in other.encoder.layers[0].feed_forward1.linear2.parameters():
        parameter.data.mul_(factor)
    return other


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@torch.no_grad()
def test_factors_are_found_in_every_precision(dtype: torch.dtype) -> None:
    model, inputs = parakeet().to(dtype), batch(parakeet())
    inputs["input_features"] = inputs["input_features"].to(dtype)
    found = factors(model, inputs)
    expected = {"ffn1": (1.0, 0.5), "attention": (1.0, 1.0), "conv": (1.0, 1.0), "ffn2": (1.0, 0.5)}
    assert found == {name: pytest.approx(both, rel=1e-2) for name, both in expected.items()}


@torch.no_grad()
def test_what_rounding_hides_has_no_factors_and_a_refit_leaves_it_alone() -> None:
    whole, inputs = parakeet(), batch(parakeet())
    assert factors(faint(whole, 1e-3), inputs)["ffn1"] == pytest.approx((1.0, 0.5), rel=1e-3)
    for factor in (0.0, 1e-12, 1e-8):
        silent = faint(whole, factor)
        assert factors(silent, inputs)["ffn1"] is None
        small = compress.remove(silent, random_structure(silent, 4))
        list(Repair(small, silent, [inputs], RefitConfig()).run())
        largest = max(float(parameter.abs().max()) for parameter in silent.parameters())
        assert max(float(parameter.abs().max()) for parameter in small.parameters()) < 10 * largest
        assert torch.isfinite(frame_outputs(small, inputs)).all()


@torch.no_grad()
def test_factors_are_those_of_all_processes() -> None:
    """What another process has looked at counts, here a batch in which nothing can be told."""
    model, inputs = parakeet(), batch(parakeet())
    assert factors(model, inputs, lambda sums: 3 * sums) == {
        name: pytest.approx(both) for name, both in factors(model, inputs).items()
    }
    silence = dict(inputs, input_features=torch.zeros_like(inputs["input_features"]))
    shares: list[Tensor] = []
    factors(model, silence, lambda sums: shares.append(sums) or sums)
    found = factors(model, inputs, lambda sums: sums + shares.pop(0))
    assert found["ffn1"] == pytest.approx((1.0, 0.5), rel=1e-4)


@torch.no_grad()
def test_a_whole_model_that_is_not_finite_is_named_by_its_module() -> None:
    whole = parakeet()
    small = compress.remove(whole, Structure("parakeet", (Block(ffn1=(0, 2)),) * BLOCKS))
    whole.encoder.layers[0].conv.pointwise_conv1.weight.fill_(float("inf"))
    with pytest.raises(ValueError, match=r"What goes through blocks.0.conv is not finite on this speech"):
        list(Repair(small, whole, [batch(whole)], RefitConfig()).run())
