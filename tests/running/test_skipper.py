"""Skipping at run time, in every CTC family: what it must equal, on empty, full and one-frame sequences."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from compress.conformers import blocks_of, family_of, frame_lengths, head_logits
from compress.conformers.recording import BlockOutputs
from compress.model.able_to_skip import able_to_skip
from compress.running.aspect_skipping import SKIPPING
from compress.running.skipper import without_skipping
from compress.running.skipping import Skipping, SkippingError, possible_first_blocks
from compress.running.skipping_pass import Pass, Seen, intermediate_logits
from compress.training.distill import DistillConfig, LayerDistance
from tests.helpers.skips import halved, logits, skipper
from tests.helpers.tiny import CTC_MODELS, batch, canary, parakeet, wav2vec2_bert

MASKING = [name for name in CTC_MODELS if not family_of(CTC_MODELS[name]()).padding_sensitive]
EXACT, OTHER_SHAPES = 0, 2e-6


def skipping(name: str, threshold: float = 0.95, **more: Any) -> PreTrainedModel:
    model = CTC_MODELS[name]()
    first = possible_first_blocks(model).start
    return able_to_skip(model, Skipping(first, threshold, heads=(first,), **more))


@pytest.mark.parametrize("name", CTC_MODELS)
def test_at_threshold_one_it_is_the_full_model(name: str) -> None:
    original, model = CTC_MODELS[name](), skipping(name, 1.0)
    inputs = batch(original)
    assert torch.equal(logits(model, inputs), logits(original, inputs))
    assert skipper(model).last.blank is None
    model.set_skipping(threshold=0.5)
    with without_skipping(model):
        assert torch.equal(logits(model, inputs), logits(original, inputs))
    assert skipper(model).settings.threshold == 0.5


@pytest.mark.parametrize("name", CTC_MODELS)
@pytest.mark.parametrize("own_heads", [True, False])
def test_if_everything_is_skipped_it_is_the_intermediate_output(name: str, own_heads: bool) -> None:
    model = skipping(name, 0.0, own_heads=own_heads)
    inputs, settings = batch(model), skipper(model).settings
    outputs = BlockOutputs(model, [settings.first_blocks - 1])
    with without_skipping(model):
        logits(model, inputs)
        before = outputs.take()[settings.first_blocks - 1]
    with torch.no_grad():
        expected = head_logits(model, before)
        assert torch.equal(logits(model, inputs), expected)
        if not own_heads:
            own = intermediate_logits(model, settings, settings.first_blocks, before)
            assert torch.equal(own, expected)
    kept = skipper(model).last.deep
    assert kept is not None
    assert not kept.any()


@pytest.mark.parametrize("name", MASKING)
@pytest.mark.parametrize("factorised", [False, True])
def test_a_batch_is_its_utterances_one_by_one(name: str, factorised: bool) -> None:
    model = skipping(name, factorised=factorised)
    inputs = batch(model)
    halved(model, inputs, extension=1 if factorised else 0)
    together = logits(model, inputs)
    kept = skipper(model).last.deep
    assert kept is not None
    assert len(set(kept.sum(1).tolist())) == 2  # so that gathered sequences are padded
    for row, mask in enumerate(inputs["attention_mask"]):
        one = {key: value[row : row + 1, : int(mask.sum())] for key, value in inputs.items()}
        frames = int(frame_lengths(model, one["attention_mask"]))
        alone = logits(model, one)[0, :frames]
        torch.testing.assert_close(alone, together[row, :frames], rtol=0, atol=OTHER_SHAPES)


@pytest.mark.parametrize("name", MASKING)
def test_what_it_computes_is_the_blocks_on_the_kept_frames(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Skipped frames are neither keys nor values: changing them behind the first blocks changes no kept frame."""
    model, first = skipping(name), possible_first_blocks(CTC_MODELS[name]()).start
    inputs = batch(model)
    halved(model, inputs)
    before = logits(model, inputs)
    kept = skipper(model).last.deep
    assert kept is not None
    frozen = kept.clone()

    def noisy(module: Any, args: Any, output: Tensor) -> Tensor:
        return torch.where(frozen[..., None], output, torch.randn_like(output))

    block = blocks_of(model)[first - 1]
    handle = block.register_forward_hook(noisy)
    block._forward_hooks.move_to_end(handle.id, last=False)
    monkeypatch.setattr(Pass, "_decide", lambda *_: _places(frozen))
    after = logits(model, inputs)
    torch.testing.assert_close(after[kept], before[kept], rtol=0, atol=OTHER_SHAPES)
    assert not torch.allclose(after[~kept], before[~kept])


def _places(kept: Tensor) -> Any:
    from compress.running.frames import Slots

    return Slots.of(kept, kept.sum(1).tolist())


@pytest.mark.parametrize("name", CTC_MODELS)
def test_without_an_attention_mask_all_frames_count(name: str) -> None:
    model = skipping(name)
    inputs = {key: value for key, value in batch(model).items() if key != "attention_mask"}
    halved(model, inputs)
    found, seen = logits(model, inputs), skipper(model).last
    assert seen.valid is not None
    assert seen.deep is not None
    assert seen.valid.all()
    assert 0 < seen.deep.sum() < seen.valid.sum()
    assert found.isfinite().all()


@pytest.mark.parametrize("name", CTC_MODELS)
def test_one_frame_utterances(name: str) -> None:
    model = skipping(name, 0.5)
    inputs = batch(model)
    features = family_of(model).features
    shortest = next(
        length
        for length in range(1, inputs[features].shape[1])
        if int(frame_lengths(model, torch.ones(1, length, dtype=torch.long))) == 1
    )
    one = {features: inputs[features][:1, :shortest], "attention_mask": torch.ones(1, shortest, dtype=torch.long)}
    for threshold in (0.0, 0.5, 1.0):
        model.set_skipping(threshold=threshold)
        assert logits(model, one).isfinite().all()


def test_an_utterance_of_which_nothing_is_kept_beside_one_of_which_all_is(monkeypatch: pytest.MonkeyPatch) -> None:
    model = skipping("parakeet", 0.5)
    inputs = batch(model)
    full = logits(able_to_skip(parakeet(), Skipping(1, 1.0, heads=(1,))), inputs)
    valid = torch.arange(24) < torch.tensor([[24], [15]])
    kept = valid.clone()
    kept[0] = False
    monkeypatch.setattr(Pass, "_decide", lambda *_: _places(kept))
    found = logits(model, inputs)
    assert found.isfinite().all()
    torch.testing.assert_close(found[1, :15], full[1, :15], rtol=0, atol=OTHER_SHAPES)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_every_kind_of_attention_and_copies_and_half_precision(attention: str) -> None:
    for name in ("parakeet", "lasr", "wav2vec2_bert-relative_key"):
        model = skipping(name)
        inputs = batch(model)
        halved(model, inputs)
        expected = logits(model, inputs)
        model.set_attn_implementation(attention)
        torch.testing.assert_close(logits(model, inputs), expected, rtol=0, atol=1e-5)
        copied = copy.deepcopy(model)
        model.set_skipping(threshold=1.0)  # the copy's are its own
        torch.testing.assert_close(logits(copied, inputs), expected, rtol=0, atol=1e-5)
        half = {key: value.bfloat16() if value.is_floating_point() else value for key, value in inputs.items()}
        assert logits(copied.bfloat16(), half).isfinite().all()


def test_a_thread_takes_no_notice_of_the_passes_of_another() -> None:
    """Here the other one's pass begins and ends behind the first block of this one's, on fewer frames."""
    model = skipping("parakeet")
    inputs = batch(model)
    other = {key: value[1:, :60] for key, value in inputs.items()}
    halved(model, inputs)
    expected, expected_other, blank = logits(model, inputs), logits(model, other), skipper(model).last.blank

    def meanwhile(*_: Any) -> None:
        handle.remove()
        with ThreadPoolExecutor(1) as threads:
            assert torch.equal(threads.submit(logits, model, other).result(), expected_other)

    handle = blocks_of(model)[0].register_forward_pre_hook(meanwhile)
    assert torch.equal(logits(model, inputs), expected)
    seen = skipper(model).last
    assert blank is not None
    assert seen.blank is not None
    assert seen.blank.shape[0] == 2 > blank.shape[0]


def test_the_skipping_of_a_model_that_has_run_can_be_pickled() -> None:
    model = skipping("parakeet")
    logits(model, batch(model))
    again = pickle.loads(pickle.dumps(skipper(model)))
    assert again.settings == skipper(model).settings
    assert again.last == Seen()


@pytest.mark.parametrize("name", CTC_MODELS)
def test_factorised_heads_say_the_same_where_tokens_are_not_computed(name: str) -> None:
    model = skipping(name, 1.0, factorised=True)
    inputs, blank = batch(model), int(model.config.pad_token_id)
    head = getattr(model, str(family_of(model).head))
    with torch.no_grad():
        head.bias[blank] += 1.0  # so that some frames are blank
    full = logits(model, inputs)
    torch.testing.assert_close(full.exp().sum(-1), torch.ones(full.shape[:2]))
    model.set_skipping(threshold=0.1)
    assert head.threshold == 0.5  # below, the best token could be another
    head.threshold = 0.6
    skipper(model).settings = replace(skipper(model).settings, threshold=1.0)
    fast = logits(model, inputs)
    torch.testing.assert_close(fast.exp().sum(-1), torch.ones(full.shape[:2]))
    assert torch.equal(fast.argmax(-1), full.argmax(-1))
    torch.testing.assert_close(fast[..., blank], full[..., blank], rtol=0, atol=1e-5)
    spread = full[..., blank].exp() > 0.6 + 1e-5
    assert spread.any()
    torch.testing.assert_close(fast[~spread], full[~spread], rtol=0, atol=1e-5)


def test_hidden_states_behind_the_first_blocks_are_those_of_the_gathered_frames() -> None:
    model = skipping("parakeet")
    inputs = batch(model)
    halved(model, inputs)
    with torch.no_grad():
        states = model(**inputs, output_hidden_states=True).hidden_states
    kept = skipper(model).last.deep
    assert kept is not None
    slots = int(kept.sum(1).max())
    assert [state.shape[1] for state in states] == [24, slots, slots, 24]


def test_nothing_of_a_pass_outlives_it_but_what_it_has_seen() -> None:
    model = skipping("parakeet")
    inputs, before = batch(model), vars(skipper(model)).keys()
    halved(model, inputs)
    first = skipper(model).last
    logits(model, inputs)
    assert vars(skipper(model)).keys() == before == {"settings", "in_training", "_passes"}
    passes = vars(skipper(model))["_passes"]
    assert vars(passes) == {"now": None, "last": skipper(model).last}
    assert skipper(model).last is not first
    assert vars(first).keys() == {"blank", "valid", "slots", "gathered", "logits"}


def test_layers_of_a_student_that_skips_are_compared_on_the_kept_frames() -> None:
    teacher, student = parakeet(seed=1), skipping("parakeet")
    inputs = batch(student)
    halved(student, inputs)
    distance = LayerDistance(student, teacher, DistillConfig(blocks=3))
    with torch.no_grad():
        student(**inputs)
        teacher(**inputs)
        valid = skipper(student).last.valid
        assert valid is not None
        assert float(distance.take(valid)) > 0
    distance.close()


def test_frames_are_compared_in_their_places_where_one_utterance_keeps_all_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Then the gathered sequences are as long as the whole ones."""
    model = skipping("parakeet", threshold=0.5)

    def blank_from_the_third_frame_of_the_second(*args: Any) -> Tensor:
        blank = torch.zeros(args[-1].shape[:2])
        blank[1, 2:] = 1.0
        return blank

    monkeypatch.setattr("compress.running.skipping_pass.blank_behind", blank_from_the_third_frame_of_the_second)
    outputs = BlockOutputs(model, range(3))
    logits(model, batch(model))
    seen, first = skipper(model).last, skipper(model).settings.first_blocks
    assert seen.valid is not None
    assert seen.deep is not None
    assert int(seen.deep[1].sum()) < int(seen.valid[1].sum())
    numbers = torch.arange(seen.valid.shape[1])[None, :, None].expand(2, -1, 1)
    for block, output in outputs.take().items():
        frames, mask = SKIPPING.as_seen(model, block, numbers, seen.valid)
        assert frames.shape[1] == output.shape[1] == seen.valid.shape[1]
        ran = seen.deep if first - 1 <= block < 2 else seen.valid
        for row, on, wanted in zip(frames, mask, ran, strict=True):
            assert row[on].flatten().tolist() == wanted.nonzero().flatten().tolist()


def test_what_cannot_skip_says_why() -> None:
    with pytest.raises(SkippingError, match="is from 1 to 2"):
        able_to_skip(parakeet(), Skipping(3, heads=(3,)))
    with pytest.raises(ValueError, match="has no CTC head"):
        able_to_skip(canary(), Skipping(1, heads=(1,)))
    with pytest.raises(SkippingError, match=r"recipes/train.py --skipping.first_blocks \[2\]"):
        able_to_skip(parakeet(), Skipping(1, heads=(1,))).set_skipping(first_blocks=2)
    with pytest.raises(SkippingError, match=r"is a probability from 0 to 1, got 1\.5"):
        able_to_skip(parakeet(), Skipping(1, heads=(1,))).set_skipping(threshold=1.5)
    adapted = wav2vec2_bert("relative")
    adapted.wav2vec2_bert.intermediate_ffn = torch.nn.Identity()
    with pytest.raises(ValueError, match="Use a model without an adapter"):
        able_to_skip(adapted, Skipping(1, heads=(1,)))


def test_the_frame_rate_limits_the_first_blocks() -> None:
    assert list(possible_first_blocks(CTC_MODELS["granite_speech5"]())) == [1, 2]
