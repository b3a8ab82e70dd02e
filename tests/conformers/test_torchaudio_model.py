"""torchaudio's Conformer as a model of transformers computes what it computes in torchaudio."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchaudio.models import Conformer
from transformers import AutoModelForCTC

from compress.conformers import frame_mask
from compress.conformers.torchaudio_model import TorchaudioConformerConfig, TorchaudioConformerForCTC

WIDTH, TOKENS = 32, 7


@pytest.mark.parametrize("use_group_norm", [False, True])
@pytest.mark.parametrize("convolution_first", [False, True])
@pytest.mark.parametrize("stacked_frames", [None, 4])
def test_a_wrapped_conformer_computes_the_same(
    tmp_path, use_group_norm: bool, convolution_first: bool, stacked_frames: int | None
) -> None:
    torch.manual_seed(0)
    conformer = Conformer(
        WIDTH, 4, 48, 2, 7, dropout=0.1, use_group_norm=use_group_norm, convolution_first=convolution_first
    ).eval()
    head = nn.Linear(WIDTH, TOKENS)
    before = nn.Linear(4 * 20, WIDTH) if stacked_frames else None
    model = TorchaudioConformerForCTC.wrap(
        conformer, head, input_linear=before, stacked_frames=stacked_frames or 1, blank=3
    ).eval()
    features = torch.randn(2, 40, 20 if stacked_frames else WIDTH)
    mask = torch.ones(2, 40, dtype=torch.long)
    mask[1, 24:] = 0
    inputs = {"input_features": features, "attention_mask": mask}
    with torch.no_grad():
        stacked = before(features.view(2, 10, 80)) if before else features
        lengths = mask.sum(-1) // (stacked_frames or 1)
        expected = head(conformer(stacked, lengths)[0])
        logits = model(**inputs).logits
    valid = frame_mask(model, inputs, logits.shape[1])
    assert valid.sum(-1).tolist() == lengths.tolist()
    assert torch.allclose(logits[valid], expected[valid], atol=1e-6)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForCTC.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        assert torch.equal(loaded(**inputs).logits, logits)
    assert loaded.config.pad_token_id == 3


def test_its_loss_is_ctc() -> None:
    model = TorchaudioConformerForCTC(TorchaudioConformerConfig(num_layers=1, vocab_size=TOKENS))
    features, labels = torch.randn(2, 80, 80), torch.tensor([[1, 2, 2], [4, -100, -100]])
    output = model(features, labels=labels)
    scores = output.logits.log_softmax(-1).transpose(0, 1)
    lengths = torch.tensor([20, 20])
    expected = nn.functional.ctc_loss(scores, torch.tensor([1, 2, 2, 4]), lengths, torch.tensor([3, 1]))
    assert output.loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_features_that_do_not_fit_are_refused() -> None:
    config = TorchaudioConformerConfig(project_input=False, num_features=80, stacked_frames=4, input_dim=144)
    with pytest.raises(ValueError, match=r"80 features x 4 frames = 320, input_dim is 144"):
        TorchaudioConformerForCTC(config)
