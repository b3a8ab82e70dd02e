from __future__ import annotations

import pytest
import torch

from compress.data.loader import frames_needed
from compress.training.ctc import ctc_loss
from compress.training.loop.unalignable import Unalignable

BLANK = 4


def test_agrees_with_the_loss_of_transformers() -> None:
    from transformers.loss.loss_ctc import ForCTCLoss

    logits = torch.randn(2, 9, 5)
    labels, frames = torch.tensor([[0, 1, 1], [2, -100, -100]]), torch.tensor([9, 6])
    loss, unalignable = ctc_loss(logits, frames, labels, BLANK)
    expected = ForCTCLoss(logits, labels, frames, BLANK, zero_infinity=True)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert unalignable.tolist() == [False, False]


def test_takes_a_mask_and_is_float32_under_autocast() -> None:
    logits = torch.randn(2, 6, 5, dtype=torch.bfloat16)
    mask = torch.arange(6) < torch.tensor([[6], [4]])
    with torch.autocast("cpu", torch.bfloat16):
        loss, _ = ctc_loss(logits, mask, torch.tensor([[0, 1], [2, -100]]), BLANK)
    again, _ = ctc_loss(logits.float(), torch.tensor([6, 4]), torch.tensor([[0, 1], [2, -100]]), BLANK)
    assert loss.dtype == torch.float32
    assert loss.item() == again.item()


def test_padding_frames_do_not_matter() -> None:
    logits = torch.randn(1, 8, 5)
    other = logits.clone()
    other[:, 5:] = 100.0
    labels, frames = torch.tensor([[0, 1]]), torch.tensor([5])
    assert ctc_loss(logits, frames, labels, BLANK)[0] == ctc_loss(other, frames, labels, BLANK)[0]


def test_counts_a_blank_between_equal_tokens() -> None:
    labels = torch.tensor([[1, 1, 2], [1, 2, 1], [3, -100, -100], [-100, -100, -100]])
    assert frames_needed(labels).tolist() == [4, 3, 1, 0]


def test_an_unalignable_utterance_is_pointed_out_and_adds_nothing(caplog: pytest.LogCaptureFixture) -> None:
    logits = torch.randn(2, 3, 5, requires_grad=True)
    loss, unalignable = ctc_loss(logits, torch.tensor([3, 3]), torch.tensor([[1, 2, -100], [1, 1, 2]]), BLANK)
    loss.backward()
    assert unalignable.tolist() == [False, True]
    assert torch.isfinite(loss)
    assert logits.grad is not None
    assert torch.count_nonzero(logits.grad[1]) == 0
    found = Unalignable()
    found.note(unalignable, ["good.wav", "short.wav"])
    found.note(unalignable, ["good.wav", "short.wav"])
    assert found.ids == {"short.wav"}
    assert caplog.text.count("short.wav") == 1


def test_a_target_without_a_logit_is_refused() -> None:
    with pytest.raises(ValueError, match="A transcript holds token 7, but the model has outputs for 5 tokens"):
        ctc_loss(torch.randn(1, 20, 5), torch.tensor([20]), torch.tensor([[1, 7]]), BLANK)
