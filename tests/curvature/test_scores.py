"""Scores of units: against finite differences, independent of batches and processes, in every family."""

from __future__ import annotations

from typing import Any
from weakref import WeakSet

import pytest
import torch

import compress
from compress.conformers import block_units, frame_mask, frame_outputs, front_groups, part
from compress.curvature.fisher import _signed, fisher_scores
from compress.curvature.moments import Moments
from compress.curvature.passage import Passage, one_by_one
from compress.curvature.repair import RefitConfig, Repair
from compress.curvature.scores import obs_scores, variance_scores
from compress.data import Batch
from compress.data.loader import IGNORED_LABEL
from compress.deciding.gates import GateConfig, Gates
from compress.structure import IN_FRONT, MODULES, Block, Place, Structure
from tests.helpers.tiny import BLOCKS, MODELS, batch, parakeet

LABELS = torch.tensor([[3, 5, 5, 2], [7, 1, IGNORED_LABEL, IGNORED_LABEL]])


def speech(model: Any, *, singly: bool = False) -> list[Batch]:
    both = batch(model)
    if not singly:
        return [Batch(both, LABELS, ["a", "b"], ["", ""], 2.0)]
    lengths = both["attention_mask"].sum(1).tolist()
    return [
        Batch({name: value[n : n + 1, :length] for name, value in both.items()}, LABELS[n : n + 1], [name], [""], 1.0)
        for n, (name, length) in enumerate(zip("ab", lengths, strict=True))
    ]


def ctc(model: Any, inputs: Any, labels: Any) -> float:
    output = frame_outputs(model, inputs)
    frames = frame_mask(model, inputs, output.shape[1]).sum(1)
    labels = labels[labels != IGNORED_LABEL][None]
    blank = model.config.pad_token_id
    log_probabilities = output.double().log_softmax(-1).transpose(0, 1)
    lengths = torch.tensor([labels.shape[1]])
    return float(torch.nn.functional.ctc_loss(log_probabilities, labels, frames, lengths, blank=blank, reduction="sum"))


def test_fisher_is_the_squared_slope_of_each_utterances_loss() -> None:
    model = parakeet().double()
    utterances = speech(model, singly=True)
    for utterance in utterances:
        utterance.inputs["input_features"] = utterance.inputs["input_features"].double()
    scores = fisher_scores(model, utterances, front=True)
    gates = Gates(model, GateConfig(units=("head", "ffn_unit", "conv_channel", "front_channel")))
    gates.attach(model)
    ones, step = torch.ones(len(gates.log_alpha), dtype=torch.float64), 1e-5
    assert [group.front for group in gates.groups[-2:]] == ["conv0", "conv1"]
    for group in (*gates.groups[:-2:3], *gates.groups[-2:]):
        for unit in (0, group.size - 1):
            slopes = []
            for utterance in utterances:
                losses = []
                for sign in (1, -1):
                    values = ones.clone()
                    values[group.start + unit] += sign * step
                    gates.use(values)
                    with torch.no_grad():
                        losses.append(ctc(model, utterance.inputs, utterance.labels))
                slopes.append((losses[0] - losses[1]) / (2 * step))
            expected = sum(slope**2 for slope in slopes)
            assert float(scores[group.place][unit]) == pytest.approx(expected, rel=1e-3, abs=1e-9)


@pytest.mark.parametrize("name", MODELS)
def test_scores_of_every_unit_in_every_family(name: str) -> None:
    """Scores are there for all units, above zero, the same in batches and singly, and weights get no gradient."""
    model = MODELS[name]()
    units = {Place(b, m): counts[n] for b, counts in enumerate(block_units(model)) for m, n in enumerate(MODULES)}
    front = {Place(IN_FRONT, number): group.channels for number, group in enumerate(front_groups(model))}
    batched, single = speech(model, singly=one_by_one(model)), speech(model, singly=True)
    for score in (fisher_scores, obs_scores, variance_scores):
        first, second = (
            score(model, batches if score is fisher_scores else [b.inputs for b in batches], front=True)  # type: ignore[arg-type]
            for batches in (batched, single)
        )
        of_front = front if score is fisher_scores else dict(list(front.items())[-1:])
        assert {place: len(scores) for place, scores in first.items()} == units | of_front
        assert all((scores >= 0).all() and scores.sum() > 0 for scores in first.values())
        for place, scores in first.items() if score is fisher_scores else ():
            scale = float(scores.max())
            assert torch.allclose(scores / scale, second[place] / scale, rtol=0.05, atol=1e-3)
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("score", [obs_scores, variance_scores])
def test_scores_of_moments_do_not_depend_on_batches(score: Any) -> None:
    """In double precision, since what a model without training gives hardly varies."""
    model = parakeet().double()
    batched, single = (
        [{"input_features": batch.inputs["input_features"].double(), "attention_mask": batch.inputs["attention_mask"]}
         for batch in speech(model, singly=singly)] for singly in (False, True)
    )  # fmt: skip
    first, second = score(model, batched, front=True), score(model, single, front=True)
    for place, scores in first.items():
        assert torch.allclose(scores, second[place], rtol=1e-4, atol=1e-6 * float(scores.max()))


def test_the_variance_of_a_head_is_that_of_what_it_adds() -> None:
    model = parakeet().double()
    (inputs,) = ({name: value.double() if value.is_floating_point() else value for name, value in b.inputs.items()}
                 for b in speech(model))  # fmt: skip
    passage, seen = Passage(model, [inputs]), list[torch.Tensor]()
    with passage.observed({"attention": lambda before, after: seen.append(before)}):
        passage.run()
    layer: Any = passage.last_projection("attention")
    found = variance_scores(model, [inputs])[Place.of(0, "attention")]
    size = layer.weight.shape[1] // len(found)
    (rows,) = seen
    added = [
        rows[:, n * size : (n + 1) * size] @ layer.weight[:, n * size : (n + 1) * size].T for n in range(len(found))
    ]
    expected = torch.stack([of_head.var(0, unbiased=False).sum() for of_head in added])
    assert torch.allclose(found / found.sum(), expected / expected.sum(), rtol=1e-6)


def test_channels_in_front_have_scores_in_half_precision() -> None:
    """Also where sums of products do not fit into it."""
    model = parakeet().half()
    part(model, front_groups(model)[-1].last).weight.data.mul_(1000)
    inputs = batch(model) | {"input_features": batch(model)["input_features"].half()}
    of_front = obs_scores(model, [inputs], front=True)[Place(IN_FRONT, 1)]
    assert torch.isfinite(of_front).all()


def test_a_model_with_an_emptied_block_has_scores_of_the_others() -> None:
    structure = Structure("parakeet", (Block(), Block(None, None, None, None), Block(ffn2=None, attention=(0,))))
    small = compress.remove(parakeet(), structure)
    places = {Place(0, m) for m in range(4)} | {Place(2, m) for m in range(3)}
    assert set(obs_scores(small, [batch(small)])) == set(fisher_scores(small, speech(small))) == places
    smaller = compress.remove(small, Structure("parakeet", (Block(conv=(0, 1)), Block(), Block())))
    assert {module.place for module in Repair(smaller, small, [batch(small)], RefitConfig()).run()} == places


def test_scores_of_processes_add_up() -> None:
    model = parakeet()
    whole = fisher_scores(model, speech(model))
    parts = [fisher_scores(model, [utterance]) for utterance in speech(model, singly=True)]
    for place, scores in whole.items():
        assert torch.allclose(scores, sum(part[place] for part in parts), rtol=1e-3)


def test_a_transcript_that_does_not_fit_is_replaced_by_what_the_model_writes(caplog: pytest.LogCaptureFixture) -> None:
    model = parakeet()
    frames = frame_outputs(model, speech(model)[0].inputs).shape[1]
    too_long = torch.full((1, 2 * frames), 3)
    utterances = zip("ab", speech(model, singly=True), strict=True)
    scores = fisher_scores(model, [Batch(heard.inputs, too_long, [name], [""], 2.0) for name, heard in utterances])
    assert all(float(of_units.sum()) > 0 for of_units in scores.values())
    (warning,) = caplog.messages
    assert "2 utterances have fewer frames than their transcript needs (a, ...)" in warning


def test_fisher_names_the_module_that_is_not_finite() -> None:
    model = parakeet()
    model.encoder.layers[1].conv.pointwise_conv1.weight.data.fill_(float("inf"))
    with pytest.raises(ValueError, match=r"What goes through blocks.1.conv is not finite"):
        fisher_scores(model, speech(model))


def test_fisher_without_a_ctc_head_is_the_squared_slope_of_the_signed_output() -> None:
    model = MODELS["parakeet_tdt"]().double()
    (utterance, _) = speech(model, singly=True)
    utterance.inputs["input_features"] = utterance.inputs["input_features"].double()
    scores = fisher_scores(model, [utterance])
    gates = Gates(model, GateConfig(units=("head", "ffn_unit", "conv_channel")))
    gates.attach(model)
    for group in gates.groups[::5]:
        signed = []
        for sign in (1, -1):
            values = torch.ones(len(gates.log_alpha), dtype=torch.float64)
            values[group.start] += sign * 1e-5
            gates.use(values)
            with torch.no_grad():
                output = frame_outputs(model, utterance.inputs)[0]
            signed.append(float(_signed(output, utterance.ids[0])))
        slope = (signed[0] - signed[1]) / 2e-5
        assert float(scores[group.place][0]) == pytest.approx(slope**2, rel=1e-3, abs=1e-9)


def test_no_more_moments_are_held_than_those_of_one_block(monkeypatch: pytest.MonkeyPatch) -> None:
    alive: WeakSet[Moments] = WeakSet()
    counts: list[int] = []
    begin = Moments.__init__

    def counted(self: Moments, *args: Any, **settings: Any) -> None:
        begin(self, *args, **settings)
        alive.add(self)
        counts.append(len(alive))

    monkeypatch.setattr(Moments, "__init__", counted)
    obs_scores(parakeet(), [batch(parakeet())])
    assert len(counts) == BLOCKS * len(MODULES)
    assert max(counts) <= len(MODULES) + 1
