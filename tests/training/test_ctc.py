from __future__ import annotations

from itertools import groupby, pairwise, product

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

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


def by_every_path(logits: Tensor, labels: list[int], penalty: float) -> Tensor:
    """The loss by its definition: a sum over all alignments, each of which pays for every repeating frame."""
    frames, vocabulary = logits.shape
    log_probabilities, paths = logits.log_softmax(-1), []
    for path in product(range(vocabulary), repeat=frames):
        tokens = [token for token, _ in groupby(path) if token != BLANK]
        if tokens == labels:
            repeats = sum(before == now != BLANK for before, now in pairwise(path))
            paths.append(sum(log_probabilities[at, token] for at, token in enumerate(path)) - penalty * repeats)
    return -torch.stack(paths).logsumexp(0) / len(labels)


@pytest.mark.parametrize("penalty", [0.0, 0.5, 3.0])
def test_repeats_cost_what_every_path_says(penalty: float) -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 5, 5, dtype=torch.float32, requires_grad=True)
    labels, frames = torch.tensor([[0, 1, 1], [2, -100, -100]]), torch.tensor([5, 4])
    loss, _ = ctc_loss(logits, frames, labels, BLANK, repeat_penalty=penalty)
    expected = (by_every_path(logits[0], [0, 1, 1], penalty) + by_every_path(logits[1, :4], [2], penalty)) / 2
    assert_close(loss, expected)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert_close(gradient, torch.autograd.grad(expected, logits)[0])


def test_what_cannot_be_aligned_adds_nothing_whatever_repeats_cost() -> None:
    logits = torch.randn(2, 3, 5, requires_grad=True)
    labels = torch.tensor([[1, 2, -100], [1, 1, 2]])
    loss, _ = ctc_loss(logits, torch.tensor([3, 3]), labels, BLANK, repeat_penalty=2.0)
    alone, _ = ctc_loss(logits[:1], torch.tensor([3]), labels[:1], BLANK, utterances=2.0, repeat_penalty=2.0)
    assert_close(loss, alone)
    assert torch.count_nonzero(torch.autograd.grad(loss, logits)[0][1]) == 0
