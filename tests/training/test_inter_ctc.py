"""Intermediate CTC: the tapped blocks, their logits, the weighted loss, and what is refused."""

from __future__ import annotations

import pytest
import torch

from compress.conformers import ctc_head, frame_mask
from compress.elastic import ElasticConfig, make_elastic, rule_structures
from compress.model.removal import remove
from compress.structure import Block, Structure
from compress.training.ctc import ctc_loss
from compress.training.inter_ctc import InterCtc, InterCtcConfig, tappable
from compress.training.recogniser import Recogniser
from tests.helpers.tiny import CTC_MODELS, batch, granite_speech5, parakeet

LABELS = torch.tensor([[3, 4, 5], [6, 7, -100]])


@pytest.mark.parametrize("name", CTC_MODELS)
def test_a_tap_gives_what_the_model_cut_short_there_gives(name: str) -> None:
    model = CTC_MODELS[name]()
    recogniser = Recogniser(model, inter_ctc=InterCtcConfig(blocks=(1,)))
    inputs = batch(model)
    family = CTC_MODELS[name]().config.model_type
    with torch.no_grad():
        last, tapped = recogniser(**inputs)
        assert torch.equal(last, model(**inputs).logits)
        if family != "granite_speech5_ctc":  # feeds its posteriors back after half of its blocks, also of the cut model
            short = remove(CTC_MODELS[name](), Structure(_name(name), (Block(), Block(), None)))
            torch.testing.assert_close(tapped, short(**inputs).logits, rtol=0, atol=1e-6)


def _name(name: str) -> str:
    return name.split("-")[0]


@pytest.mark.parametrize("heads", ["shared", "separate"])
def test_the_loss_is_the_weighted_mean(heads: str) -> None:
    model = parakeet()
    config = InterCtcConfig(blocks=(0, 1), weight=0.4, heads=heads)  # type: ignore[arg-type]
    recogniser, inputs = Recogniser(model, inter_ctc=config), batch(model)
    logits = recogniser(**inputs)
    mask = frame_mask(model, inputs, logits[0].shape[1])
    losses, unalignable = recogniser.losses(logits, mask, LABELS, blank=19)
    single = [ctc_loss(one, mask, LABELS, 19)[0] for one in logits]
    torch.testing.assert_close(losses.total, 0.6 * single[0] + 0.4 * (single[1] + single[2]) / 2)
    assert set(losses.parts) == {"ctc", "inter_ctc"}
    assert not unalignable.any()


def test_without_intermediate_ctc_the_loss_is_that_of_the_last_block() -> None:
    model = parakeet()
    recogniser, inputs = Recogniser(model), batch(model)
    logits = recogniser(**inputs)
    losses, _ = recogniser.losses(logits, frame_mask(model, inputs, logits[0].shape[1]), LABELS, blank=19)
    assert list(losses.parts) == ["ctc"]
    assert losses.total is losses.parts["ctc"]


def test_separate_heads_go_to_the_sizes_that_end_where_they_are() -> None:
    model = parakeet()
    inter_ctc = InterCtc(model, InterCtcConfig(blocks=(0, 1), heads="separate"), new=True)
    for number, head in enumerate(inter_ctc.heads):
        torch.nn.init.constant_(head.bias, number)
    depths = rule_structures(model, ElasticConfig((1, 2), "last_first"))
    heads = inter_ctc.heads_of(depths)
    assert {name: head.bias.mean().item() for name, head in heads.items()} == {"1": 0, "2": 1}
    assert inter_ctc.heads_of(rule_structures(model, ElasticConfig((1, 2), "every_other"))) == {}
    one_tap = InterCtc(model, InterCtcConfig(blocks=(0,), heads="separate"), new=True)
    assert one_tap.heads_of(depths) == dict.fromkeys(depths, one_tap.heads[0])
    assert InterCtc(model, InterCtcConfig(blocks=(0,)), new=True).heads_of(depths) == {}

    inputs, elastic = batch(model), make_elastic(model, depths, heads=heads)
    with torch.no_grad():
        recogniser = Recogniser(model, inter_ctc=InterCtcConfig(blocks=(0, 1), heads="separate"))
        recogniser.inter_ctc = inter_ctc
        last, *inner = recogniser(**inputs)
        for depth, logits in zip((1, 2, 3), (*inner, last), strict=True):
            elastic.set_depth(depth)
            torch.testing.assert_close(elastic(**inputs).logits, logits, rtol=0, atol=1e-6)
    again = InterCtc(elastic, InterCtcConfig(blocks=(1,), heads="separate"), new=False)
    assert torch.equal(again.heads[0].bias, inter_ctc.heads[1].bias)
    assert "per_size" not in " ".join(again.state_dict())


def test_separate_heads_are_trained_and_stay_out_of_the_model() -> None:
    model = parakeet()
    names = set(model.state_dict())
    recogniser = Recogniser(model, inter_ctc=InterCtcConfig(blocks=(0, 1), heads="separate"))
    assert recogniser.inter_ctc is not None
    assert len(recogniser.inter_ctc.heads) == 2
    assert set(model.state_dict()) == names
    sum(one.square().mean() for one in recogniser(**batch(model))[1:]).backward()  # type: ignore[union-attr]
    assert all(p.grad is not None for p in recogniser.inter_ctc.heads.parameters())
    assert all(p.grad is None for p in ctc_head(model).parameters())


def test_the_gradient_of_a_tap_reaches_no_later_block() -> None:
    model = parakeet()
    recogniser = Recogniser(model, inter_ctc=InterCtcConfig(blocks=(0,)))
    recogniser(**batch(model))[1].square().mean().backward()
    layers = model.encoder.layers
    assert [any(p.grad is not None for p in block.parameters()) for block in layers] == [True, False, False]


def test_defaults_depend_on_where_training_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    import compress.training.inter_ctc as module

    assert module._default_blocks(18, range(17), new=True) == [2, 5, 8, 11, 14]  # ESPnet: 3, 6, 9, 12, 15 from 1
    assert module._default_blocks(18, range(17), new=False) == [5, 8, 11]
    assert module._default_blocks(2, range(1), new=True) == [0]
    model = parakeet()
    assert InterCtc(model, InterCtcConfig(), new=True).weight == 0.5
    assert InterCtc(model, InterCtcConfig(), new=False).weight == 0.3


def test_what_cannot_be_tapped_is_refused() -> None:
    with pytest.raises(ValueError, match=r"names \[2\], but of this model blocks 0 to 1"):
        InterCtc(parakeet(), InterCtcConfig(blocks=(0, 2)), new=True)
    with pytest.raises(ValueError, match=r"weight is 1\.0; give a number above 0 and below 1"):
        InterCtcConfig(weight=1.0)
    with pytest.raises(ValueError, match="each once"):
        InterCtcConfig(blocks=(1, 1))
    with pytest.raises(ValueError, match="each once"):
        InterCtcConfig(blocks=())


def test_taps_stand_behind_the_last_change_of_the_frame_rate() -> None:
    model = granite_speech5()
    model.config.encoder_config.subsample_layers = [0, 1]
    assert tappable(model) == range(1, 2)
    with pytest.raises(ValueError, match="blocks 1 to 1 can be tapped"):
        InterCtc(model, InterCtcConfig(blocks=(0,)), new=True)
