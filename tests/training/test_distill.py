import pytest
import torch
import torch.nn.functional as F

import compress
from compress import Block, Structure
from compress.conformers import blocks_of, frame_mask, head_logits
from compress.conformers.recording import BlockOutputs
from compress.training.ctc import ctc_loss
from compress.training.distill import (
    Distillation,
    DistillConfig,
    block_distance,
    matched_blocks,
    nearest_in_order,
)
from compress.training.posteriors import InnerOutputs, around_spikes, even, output_divergence
from tests.helpers.tiny import CTC_MODELS, batch, parakeet

MASK = torch.tensor([[True, True, True], [True, False, False]])


@pytest.mark.parametrize("distance", ["l1_cosine", "mse"])
def test_distance_ignores_padding_and_vanishes_only_when_equal(distance):
    teacher = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(0))
    student = teacher.clone()
    student[1, 1:] += 100.0
    assert float(block_distance(student, teacher, MASK, distance)) == pytest.approx(0, abs=1e-6)
    student[0, 0] += 1.0
    assert float(block_distance(student, teacher, MASK, distance)) > 0.01


def test_distances_by_hand():
    teacher, student = torch.tensor([[[3.0, 4.0]]]), torch.tensor([[[4.0, 3.0]]])
    mask = torch.ones(1, 1, dtype=torch.bool)
    assert float(block_distance(student, teacher, mask, "l1_cosine")) == pytest.approx(1.0 + 1 - 24 / 25)
    assert float(block_distance(student, teacher, mask, "mse")) == pytest.approx(1.0 / 12.5)


def test_divergence_is_kl_per_valid_frame_times_squared_temperature():
    generator = torch.Generator().manual_seed(0)
    teacher, student = (torch.randn(2, 3, 5, generator=generator) for _ in range(2))
    by_hand = 0.0
    for t, s in zip(teacher[MASK], student[MASK], strict=True):
        p = F.softmax(t / 2, -1)
        by_hand += float((p * (F.log_softmax(t / 2, -1) - F.log_softmax(s / 2, -1))).sum())
    assert float(output_divergence(student, teacher, MASK, 2.0)) == pytest.approx(
        4 * by_hand / int(MASK.sum()), rel=1e-5
    )
    assert float(output_divergence(teacher, teacher, MASK)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("name", CTC_MODELS)
def test_block_outputs_are_the_hidden_states(name):
    model = CTC_MODELS[name]()
    recorder = BlockOutputs(model, [0, 2])
    outputs = model(**batch(model), output_hidden_states=True)
    taken = recorder.take()
    assert taken.keys() == {0, 2}
    assert torch.equal(taken[0], outputs.hidden_states[1])
    assert recorder.take() == {}
    recorder.close()
    model(**batch(model))
    assert recorder.take() == {}


def test_a_student_equal_to_its_teacher_has_no_loss():
    model = parakeet()
    twin = compress.remove(model, Structure.full("parakeet", 3))
    recorders = [BlockOutputs(m, [2]) for m in (model, twin)]
    logits = [m(**batch(model)).logits for m in (model, twin)]
    mask = torch.ones(logits[0].shape[:2], dtype=torch.bool)
    mine, target = (recorder.take()[2] for recorder in recorders)
    assert float(block_distance(mine, target, mask, "l1_cosine")) == pytest.approx(0, abs=1e-6)
    assert float(output_divergence(*logits, mask)) == pytest.approx(0, abs=1e-6)


def test_all_losses_of_a_step_have_their_weights_and_name_what_cannot_be_aligned():
    teacher, student = parakeet(), parakeet(seed=1)
    config = DistillConfig(layers=0.5, output=2.0, ctc=0.3)
    distillation, inputs = Distillation(student, teacher, config), batch(teacher)
    labels = torch.arange(40).remainder(18).repeat(2, 1)
    labels[1, 3:] = -100
    target, output = distillation.target(inputs), student(**inputs).logits
    mask = frame_mask(teacher, inputs, output.shape[1])
    losses, unalignable = distillation.losses(output, target, mask, labels)
    ctc, too_long = ctc_loss(output, mask, labels, 19)
    assert not target.requires_grad
    assert torch.equal(unalignable, too_long)
    assert unalignable.tolist() == [True, False]
    assert float(losses["output"]) == pytest.approx(2 * float(output_divergence(output, target, mask)), rel=1e-5)
    assert float(losses["ctc"]) == pytest.approx(0.3 * float(ctc), rel=1e-5)
    student(**inputs)
    distillation.target(inputs)
    assert float(distillation.layers.take(mask)) == pytest.approx(2 * float(losses["layers"]), rel=1e-5)


def test_inner_blocks_learn_what_the_teacher_says_in_the_end():
    """The mean divergence of what each says by way of the student's own head, on the frames that are selected."""
    teacher, student = parakeet(), parakeet(seed=1)
    inputs, config = (
        batch(teacher),
        DistillConfig(layers=0, output=2.0, ctc=0, inner=0.5, inner_blocks=5, temperature=2),
    )
    distillation = Distillation(student, teacher, config)
    target, recorder = distillation.target(inputs), BlockOutputs(student, [0, 1])
    output = student(**inputs).logits
    mask = frame_mask(teacher, inputs, output.shape[1])
    losses, _ = distillation.losses(output, target, mask, None)
    said = [head_logits(student, hidden) for hidden in recorder.take().values()]
    expected = sum(float(output_divergence(logits, target, mask, 2.0)) for logits in said) / 2
    assert float(losses["inner"]) == pytest.approx(0.5 * expected, rel=1e-5)
    assert losses.keys() == {"output", "inner"}
    losses["inner"].backward()
    assert next(blocks_of(student)[1].parameters()).grad.abs().sum() > 0
    assert not any(
        parameter.grad is not None and parameter.grad.any() for parameter in blocks_of(student)[2].parameters()
    )
    assert InnerOutputs(student, 1).blocks == [1]
    distillation.close()
    short = compress.remove(student, Structure("parakeet", (None, None, Block())))
    with pytest.raises(ValueError, match=r"no inner block .* set distill.inner to 0"):
        Distillation(short, teacher, config)


def test_blank_frames_count_beside_spikes_alone():
    best = torch.tensor([[2, 2, 2, 0, 2, 2, 2, 2, 1], [2, 2, 2, 2, 2, 2, 2, 2, 2], [2, 2, 0, 2, 2, 0, 2, 2, 2]])
    logits, mask = F.one_hot(best, 3).float(), torch.ones(3, 9, dtype=torch.bool)
    mask[2, 4:] = False
    for neighbours, wanted in ((0, [[3, 8], [], [2]]), (1, [[2, 3, 4, 7, 8], [], [1, 2, 3]])):
        chosen = around_spikes(logits, mask, 2, neighbours)
        assert [row.nonzero().flatten().tolist() for row in chosen] == wanted
    weights = even(around_spikes(logits, mask, 2, 0), mask)
    assert weights.sum(-1).tolist() == [9.0, 0.0, 4.0]


def test_without_transcripts_there_is_no_ctc_and_nothing_is_unalignable():
    teacher = parakeet()
    distillation, inputs = Distillation(teacher, teacher, DistillConfig(layers=0.0)), batch(teacher)
    target = distillation.target(inputs)
    mask = frame_mask(teacher, inputs, target.shape[1])
    losses, unalignable = distillation.losses(target, target, mask, None)
    assert list(losses) == ["output"]
    assert unalignable.tolist() == [False, False]


def test_matching_is_evenly_spaced_and_ends_at_the_last_block():
    model = parakeet()
    assert matched_blocks(model, model, 4) == [(0, 0), (1, 1), (2, 2)]
    assert matched_blocks(model, model, 1) == [(2, 2)]
    assert matched_blocks(model, model, None) == matched_blocks(model, model, 3)


def test_matching_follows_dropped_blocks_in_order():
    model = parakeet()
    small = compress.remove(model, Structure("parakeet", (Block(), None, Block())))
    assert matched_blocks(small, model, 3) == [(0, 0), (1, 2)]
    late = compress.remove(model, Structure("parakeet", (None, Block(), None)))
    assert matched_blocks(late, model, 3) == [(0, 1)]
    assert matched_blocks(late, model, 1) == [(0, 2)]


def test_each_block_is_matched_once_to_one_as_near_as_order_allows():
    assert nearest_in_order([2, 5, 8, 11], [0, 1, 2, 3, 4, 5]) == [(0, 2), (1, 3), (2, 4), (3, 5)]
    assert nearest_in_order([2, 5, 8, 11], [0, 6, 7]) == [(0, 0), (1, 1), (2, 2)]
    assert nearest_in_order([2, 5], [2, 3, 4, 5, 6]) == [(0, 0), (1, 3)]
    assert nearest_in_order([3], []) == []


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"layers": -1.0}, "distill.layers is -1.0; give at least 0 as the weight of a loss"),
        ({"layers": 0.0, "output": 0.0, "ctc": 0.0}, "nothing would be learned"),
        ({"blocks": 0}, "distill.blocks is 0; give at least 1"),
        ({"inner_blocks": 0}, "distill.inner_blocks is 0; give at least 1"),
        ({"blank_neighbours": -1}, "distill.blank_neighbours is -1; give at least 0 frames"),
        ({"temperature": 0.0}, "distill.temperature is 0.0; give a number above 0"),
    ],
)
def test_senseless_settings_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        DistillConfig(**values)
