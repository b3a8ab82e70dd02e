"""Learning to skip: gradients in every family, the weighted loss, what is drawn, and what is refused."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from transformers import PreTrainedModel

from compress.conformers import blocks_of, frame_mask, structure_of
from compress.elastic import make_elastic, rule_structures
from compress.elastic.rules import ElasticConfig
from compress.model.able_to_skip import able_to_skip
from compress.model.removal import remove
from compress.running.batch_norms import running_statistics
from compress.running.skipper import skipper_of
from compress.running.skipping import Skipping, SkippingError, read_skipping
from compress.running.skipping_pass import HEADS
from compress.structure import Block, Structure
from compress.training.ctc import ctc_loss
from compress.training.inter_ctc import InterCtcConfig
from compress.training.loop.losses import Losses
from compress.training.loop.savings import recomputed
from compress.training.posteriors import output_divergence
from compress.training.preparation import prepare_for_training
from compress.training.recogniser import Recogniser
from compress.training.skipping_objective import (
    SkippingConfig,
    SkippingObjective,
    last_skipped_share,
    objective_of,
    skipping_config,
    skipping_model,
)
from compress.training.student import Student
from tests.helpers.tiny import CTC_MODELS, batch, parakeet, random_structure

LABELS = torch.tensor([[3, 4, 5], [6, 7, -100]])
HALF = 0.06
"""About half of the frames of the tiny models have a blank more likely than that."""


def recogniser(model: PreTrainedModel, config: SkippingConfig) -> Recogniser:
    return Recogniser(skipping_model(model, config).train(), skipping=config, seed=0)


def loss_of(one: Recogniser, inputs: dict[str, Tensor]) -> tuple[Losses, list[Tensor]]:
    one.draw()
    logits = one(**inputs)
    mask = frame_mask(one.model, inputs, logits[0].shape[1])
    return one.losses(logits, mask, LABELS, int(one.model.config.pad_token_id))[0], logits


def threshold_between(model: PreTrainedModel, inputs: dict[str, Tensor]) -> float:
    """One at which about half of the frames skip."""
    model.eval()
    model.set_skipping(threshold=0.5)
    with torch.no_grad():
        model(**inputs)
    blank = model.skipper.last.blank[model.skipper.last.valid].sort().values
    model.train()
    return float(blank[len(blank) // 2 - 1 : len(blank) // 2 + 1].mean())


@pytest.mark.parametrize("name", CTC_MODELS)
@pytest.mark.parametrize("factorised", [False, True])
def test_every_weight_learns_while_frames_skip(name: str, factorised: bool) -> None:
    one = recogniser(CTC_MODELS[name](), SkippingConfig(factorised=factorised, extension=0, simulated=1.0))
    model, inputs = one.model, batch(one.model)
    model.set_skipping(threshold=threshold_between(model, inputs))
    losses, _ = loss_of(one, inputs)
    losses.total.backward()
    assert 0 < float(losses.metrics["skipped_frames"]) < 1
    for name_, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name_
            assert parameter.grad.isfinite().all(), name_
    blocks, first = blocks_of(model), model.skipper.settings.first_blocks
    for block in (blocks[first - 1], blocks[first]):
        assert any(parameter.grad.any() for parameter in block.parameters() if parameter.grad is not None)


def test_the_loss_is_weighted_and_the_last_output_gets_nothing_of_the_divergence() -> None:
    config = SkippingConfig(first_blocks=(1, 2), weight=0.4, distillation=0.5, simulated=0.0)
    one = recogniser(parakeet(), config)
    prepared = one.model
    inputs = batch(prepared)
    losses, logits = loss_of(one, inputs)
    mask = frame_mask(prepared, inputs, logits[0].shape[1])
    ctc = [ctc_loss(x, mask, LABELS, 19)[0] for x in logits]
    divergence = sum(output_divergence(x, logits[0].detach(), mask) for x in logits[1:]) / 2
    expected = 0.6 * ctc[0] + 0.4 * ((ctc[1] + ctc[2]) / 2 + 0.5 * divergence)
    assert_close(losses.total, expected)
    assert set(losses.parts) == {"ctc", "skipping_ctc", "skipping_divergence"}
    assert not losses.metrics
    (gradient,) = torch.autograd.grad(losses.parts["skipping_divergence"], prepared.ctc_head.weight, allow_unused=True)
    assert gradient is None


@pytest.mark.parametrize("penalty", [0.0, 2.0])
def test_a_step_that_runs_both_ways_teaches_the_output_with_skipping_by_the_one_without(penalty: float) -> None:
    config = SkippingConfig(
        extension=0, weight=0.4, distillation=0.5, simulated=1.0, consistency=2.0, repeat_penalty=penalty
    )
    one = recogniser(parakeet(), config)
    model, inputs = one.model, batch(one.model)
    prepare_for_training(model, dropout=0.0)
    model.set_skipping(threshold=threshold_between(model, inputs))
    before = copy.deepcopy(model.state_dict())
    with running_statistics(model):  # as in use
        model.skipper.in_training = 1
        with_skipping = model(**inputs).logits
    share = last_skipped_share(model)
    assert_close(model.state_dict(), before)
    model.skipper.in_training = None
    without = model(**inputs).logits
    once = copy.deepcopy(model.state_dict())
    model.load_state_dict(before)

    losses, (last, inner) = loss_of(one, inputs)
    mask = frame_mask(model, inputs, last.shape[1])
    assert_close(model.state_dict(), once)
    assert any("running" in name and not torch.equal(once[name], before[name]) for name in once)
    assert_close(last, without)
    assert not torch.allclose(last, with_skipping)
    assert losses.metrics["skipped_frames"] == share
    ctc = [ctc_loss(x, mask, LABELS, 19, repeat_penalty=penalty)[0] for x in (without, with_skipping, inner)]
    from_last, apart = (output_divergence(x, without, mask) for x in (inner, with_skipping))
    expected = 0.6 * ((ctc[0] + ctc[1]) / 2 + 2 * apart) + 0.4 * (ctc[2] + 0.5 * from_last)
    assert_close(losses.total, expected)
    assert set(losses.parts) == {"ctc", "skipping_ctc", "skipping_divergence", "skipped_ctc", "skipped_divergence"}
    losses.total.backward()


def test_a_student_that_runs_both_ways_is_compared_with_its_teacher_without_skipping() -> None:
    found = []
    for consistency in (0.0, 1.0):
        config = SkippingConfig(extension=0, simulated=1.0, consistency=consistency)
        model = skipping_model(parakeet(), config)
        prepare_for_training(model, dropout=0.0)
        student, inputs = Student(model.train(), objective_of(model, config, 0)), batch(model)
        model.set_skipping(threshold=threshold_between(model, inputs))
        student.draw()
        logits = student(**inputs)
        assert (skipper_of(model).last.slots is None) == bool(consistency)
        mask = frame_mask(model, inputs, logits.shape[1])
        found.append(student.losses(logits, mask, None, 0)["skipping"])
        found[-1].backward()
    assert found[1] > found[0]


def test_the_gradient_is_that_of_the_gathered_sequences() -> None:
    """What a frame that skips has in it behind the first blocks reaches the loss by its own output only."""
    one = recogniser(parakeet(), SkippingConfig(extension=0))
    model, inputs = one.model, batch(one.model)
    model.eval()
    threshold = threshold_between(model, inputs)
    model.set_skipping(threshold=threshold, extension=0)
    model.eval()
    states: list[Tensor] = []

    def keep(module: torch.nn.Module, args: object, output: Tensor) -> None:
        output.retain_grad()
        states.append(output)

    block = blocks_of(model)[0]
    handle = block.register_forward_hook(keep)
    block._forward_hooks.move_to_end(handle.id, last=False)
    output = model(**inputs).logits
    kept = model.skipper.last.deep
    output[kept].sum().backward()
    assert states[0].grad is not None
    assert states[0].grad[kept].any()
    assert not states[0].grad[~kept].any()


def test_in_training_an_utterance_without_spikes_keeps_all_frames() -> None:
    one = recogniser(parakeet(), SkippingConfig(threshold=0.0, simulated=1.0))
    losses, _ = loss_of(one, batch(one.model))
    assert float(losses.metrics["skipped_frames"]) == 0
    one.eval()
    one(**batch(one.model))
    assert not one.model.skipper.last.deep.any()


def test_each_batch_skips_behind_one_of_the_heads_or_not_at_all_and_resumes_exactly() -> None:
    model = able_to_skip(parakeet(), Skipping(2, heads=(1, 2)))
    objective = SkippingObjective(model, SkippingConfig(simulated=0.7), seed=3)

    def drawn(one: SkippingObjective) -> int | None:
        one.draw(model)
        return model.skipper.in_training

    first = [drawn(objective) for _ in range(60)]
    assert set(first) == {None, 1, 2}
    state = objective.noise.state_dict()
    rest = [drawn(objective) for _ in range(20)]
    again = SkippingObjective(model, SkippingConfig(simulated=0.7), seed=9)
    again.noise.load_state_dict(state)
    assert [drawn(again) for _ in range(20)] == rest
    never = SkippingObjective(model, SkippingConfig(simulated=0.0), seed=3)
    assert {drawn(never) for _ in range(20)} == {None}


def test_in_eval_mode_the_chosen_head_decides_whatever_training_drew() -> None:
    one = recogniser(parakeet(), SkippingConfig(first_blocks=(1, 2), threshold=0.5))
    inputs = batch(one.model)
    one.model.skipper.in_training = None
    one.eval()
    assert len(one(**inputs)) == 1
    assert one.model.skipper.last.blank is not None


def test_what_is_null_is_as_the_checkpoint_has_it() -> None:
    known = Skipping(2, 0.8, 3, heads=(1, 2), own_heads=False, factorised=True)
    model = able_to_skip(parakeet(), known)
    assert SkippingConfig().settings(model) == known
    assert SkippingConfig(threshold=0.9, first_blocks=(2,)).settings(model) == Skipping(
        2, 0.9, 3, heads=(2,), own_heads=False, factorised=True
    )
    assert SkippingConfig().settings(parakeet()) == Skipping(1, heads=(1,))
    assert read_skipping(skipping_config(parakeet().config, SkippingConfig()).skipping) == Skipping(1, heads=(1,))
    assert skipping_config(parakeet().config, None).model_type == "parakeet_ctc"


def test_a_checkpoint_that_skips_goes_on_learning_it_by_itself() -> None:
    model = able_to_skip(parakeet(), Skipping(1, heads=(1,)))
    prepare_for_training(model, dropout=0.0)  # no layerdrop: each block runs
    one = Recogniser(model.train())
    losses, _ = loss_of(one, batch(one.model))
    assert "skipping_ctc" in losses.parts


def test_pruned_and_elastic_models_learn_to_skip() -> None:
    pruned = remove(parakeet(), random_structure(parakeet(), 3, drop_blocks=False))
    elastic = make_elastic(parakeet(), rule_structures(parakeet(), ElasticConfig((2,))))
    for model in (pruned, elastic):
        found = skipping_model(model, SkippingConfig(own_heads=True))
        assert structure_of(found) == structure_of(model)
        assert getattr(found.config, "sizes", None) == getattr(model.config, "sizes", None)
        one = Recogniser(found.train(), skipping=SkippingConfig())
        loss_of(one, batch(found))[0].total.backward()
        assert getattr(found, HEADS)[0].weight.grad is not None
        assert skipper_of(found) is not None


def test_a_model_that_has_lost_its_intermediate_outputs_learns_to_skip_anew_or_not_at_all() -> None:
    """What its config keeps of skipping says that its CTC head is factorised, and nothing else."""
    wanted = SkippingConfig(first_blocks=(1,), threshold=0.9, factorised=True)
    lost = remove(skipping_model(parakeet(), wanted), Structure("parakeet", (None, None, Block())))
    assert lost.config.skipping["factorised"]
    assert objective_of(lost, None, seed=0) is None
    one = Recogniser(lost.train())
    assert loss_of(one, batch(lost))[0].parts.keys() == {"ctc"}
    with pytest.raises(SkippingError, match="none that frames could skip"):
        SkippingConfig().settings(lost)
    two = remove(skipping_model(parakeet(), wanted), Structure("parakeet", (None, Block(), Block())))
    assert SkippingConfig().settings(two) == Skipping(1, 0.9, heads=(1,), factorised=True)


@pytest.mark.parametrize("consistency", [0.0, 1.0])
def test_blocks_that_are_computed_again_give_the_same_gradients(consistency: float) -> None:
    found = []
    for again in (False, True):
        one = recogniser(parakeet(), SkippingConfig(extension=0, simulated=1.0, consistency=consistency))
        model, inputs = one.model, batch(one.model)
        prepare_for_training(model, dropout=0.0)
        model.set_skipping(threshold=threshold_between(model, inputs))
        with recomputed(model, again):
            losses, _ = loss_of(one, inputs)
        losses.total.backward()
        gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        found.append(gradients | dict(model.named_buffers()))
    assert found[0].keys() == found[1].keys()
    for name in found[0]:
        assert_close(found[0][name], found[1][name], rtol=1e-4, atol=1e-6)


def test_stochastic_depth_and_skipping_draw_by_themselves() -> None:
    one = recogniser(parakeet(), SkippingConfig())
    states = [noise.state_dict()["generator"] for noise in one.states().values()]
    assert len(states) == 2
    assert not torch.equal(*states)


def test_what_is_refused() -> None:
    model = able_to_skip(parakeet(), Skipping(1, heads=(1,)))
    with pytest.raises(ValueError, match="set inter_ctc to null"):
        Recogniser(model, inter_ctc=InterCtcConfig(blocks=(1,)))
    with pytest.raises(SkippingError, match="is from 1 to 2"):
        SkippingConfig(first_blocks=(3,)).settings(parakeet())
    for wrong, message in (
        ({"weight": 1.0}, "above 0 and below 1"),
        ({"distillation": -1.0}, "skipping.distillation is -1.0; give at least 0"),
        ({"consistency": -1.0}, "skipping.consistency is -1.0; give at least 0"),
        ({"repeat_penalty": -1.0}, "skipping.repeat_penalty is -1.0; give at least 0"),
        ({"simulated": 1.5}, "share of batches"),
        ({"first_blocks": ()}, "name a number of blocks"),
    ):
        with pytest.raises(ValueError, match=message):
            SkippingConfig(**wrong)
