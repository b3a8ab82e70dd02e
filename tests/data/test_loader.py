"""Batches: what a model reads, the same for any number of workers, any resumption, any number of ranks."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import dataloader
from transformers import ParakeetCTCConfig, ParakeetForCTC, Wav2Vec2ConformerConfig, Wav2Vec2ConformerForCTC

from compress.data import AugmentConfig, Batch, BatchConfig, SpeechConfig, SpeechDataset, SpeechLoader, open_speech
from compress.data.loader import BatchBuilder
from compress.training.loop.position import Position

Open = Callable[..., SpeechDataset]
AUGMENT = AugmentConfig(speed=(0.9, 1.0, 1.1), time_masks=2, freq_masks=2, max_freq_bins=4)
LOAD_SECONDS = 60
"""Longest wait for what a worker loads."""


@pytest.fixture
def dataset(folder: Path, open_folder: Open) -> SpeechDataset:
    return open_folder(folder)


def make(dataset: SpeechDataset, processor: Any, workers: int = 0, **options: Any) -> SpeechLoader:
    return SpeechLoader(dataset, processor, BatchConfig(seconds=4.0, workers=workers), **{"seed": 3, **options})


def assert_same(left: list[Batch], right: list[Batch]) -> None:
    assert [batch.ids for batch in left] == [batch.ids for batch in right]
    for a, b in zip(left, right, strict=True):
        assert a.texts == b.texts
        assert a.seconds == b.seconds
        assert torch.equal(a.labels, b.labels)
        assert a.inputs.keys() == b.inputs.keys()
        assert all(torch.equal(a.inputs[name], b.inputs[name]) for name in a.inputs)


def test_any_number_of_workers_gives_the_same_batches(dataset: SpeechDataset, parakeet: Any) -> None:
    loaders = [make(dataset, parakeet, workers, augment=AUGMENT) for workers in (0, 1, 2)]
    for epoch in (0, 1):
        reference, *others = [list(loader.epoch(epoch)) for loader in loaders]
        assert len(reference) == loaders[0].batches_per_epoch(epoch)
        for other in others:
            assert_same(reference, other)


def test_workers_have_ended_when_reading_ends(dataset: SpeechDataset, parakeet: Any) -> None:
    others = set(multiprocessing.active_children())
    with Position().reading(make(dataset, parakeet, workers=2)) as batches:
        next(batches)
        assert len(set(multiprocessing.active_children()) - others) == 2
    assert set(multiprocessing.active_children()) == others


def test_an_interrupt_while_workers_end_is_not_lost(
    dataset: SpeechDataset, parakeet: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python drops what is raised where an object is deleted, which is where torch ends its workers by itself."""
    loader = make(dataset, parakeet, workers=1)
    next(loader.epoch(0))
    end = dataloader._MultiProcessingDataLoaderIter._shutdown_workers

    def interrupted(self: Any) -> None:
        end(self)
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(dataloader._MultiProcessingDataLoaderIter, "_shutdown_workers", interrupted)
    with pytest.raises(KeyboardInterrupt):
        loader.close()


def test_the_number_of_threads_does_not_matter(dataset: SpeechDataset, parakeet: Any) -> None:
    reference = list(make(dataset, parakeet).epoch(0))
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert_same(reference, list(make(dataset, parakeet).epoch(0)))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_epoch_goes_on_where_it_stopped(
    dataset: SpeechDataset, parakeet: Any, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = list(make(dataset, parakeet, augment=AUGMENT).epoch(1))
    loaded: list[int] = []
    monkeypatch.setattr(SpeechDataset, "__getitem__", _recording(SpeechDataset.__getitem__, loaded))
    loader = make(dataset, parakeet, workers, augment=AUGMENT)
    rest = list(loader.epoch(1, start=2))
    assert_same(everything[2:], rest)
    if workers == 0:
        assert len(loaded) == sum(len(batch.ids) for batch in rest)
    assert list(loader.epoch(1, start=len(everything))) == []
    with pytest.raises(ValueError, match=f"start {len(everything) + 1} is beyond the {len(everything)} batches"):
        list(loader.epoch(1, start=len(everything) + 1))


def _recording(original: Callable[..., Any], loaded: list[int]) -> Callable[..., Any]:
    def item(self: SpeechDataset, index: int) -> Any:
        loaded.append(index)
        return original(self, index)

    return item


def test_an_abandoned_epoch_does_not_leak_into_the_next(dataset: SpeechDataset, parakeet: Any) -> None:
    loader = make(dataset, parakeet, workers=2)
    iterator = loader.epoch(0)
    next(iterator)
    del iterator
    assert_same(list(loader.epoch(1)), list(make(dataset, parakeet).epoch(1)))
    loader.close()
    assert_same(list(loader.epoch(2)), list(make(dataset, parakeet).epoch(2)))


def test_the_global_random_state_is_left_alone(dataset: SpeechDataset, parakeet: Any) -> None:
    before = torch.get_rng_state()
    list(make(dataset, parakeet, augment=AUGMENT).epoch(0))
    list(make(dataset, parakeet, workers=1, augment=AUGMENT).epoch(0))
    assert torch.equal(torch.get_rng_state(), before)


def test_ranks_share_an_epoch(dataset: SpeechDataset, parakeet: Any) -> None:
    ranks = [make(dataset, parakeet, rank=rank, world_size=2) for rank in (0, 1)]
    assert ranks[0].batches_per_epoch(0) == ranks[1].batches_per_epoch(0)
    ids = [{name for batch in loader.epoch(0) for name in batch.ids} for loader in ranks]
    assert not ids[0] & ids[1]
    assert ids[0] | ids[1] == set(dataset.ids)


def test_labels_and_texts(dataset: SpeechDataset, parakeet: Any) -> None:
    for batch in make(dataset, parakeet).epoch(0):
        assert batch.labels.dtype == torch.int64
        for name, text, row in zip(batch.ids, batch.texts, batch.labels, strict=True):
            assert dataset.texts[dataset.ids.index(name)] == text
            tokens = row[row != -100]
            assert parakeet.tokenizer.decode(tokens, group_tokens=False) == text
            assert torch.equal(row[: len(tokens)], tokens)


def test_rows_without_transcript_have_no_labels(folder: Path, open_folder: Open, parakeet: Any) -> None:
    dataset = open_folder(folder, labels=False, text_column="nothing")
    batch = next(make(dataset, parakeet).epoch(0))
    assert batch.labels.shape == (len(batch.ids), 1)
    assert (batch.labels == -100).all()
    assert set(batch.texts) == {""}


def test_seconds_are_those_of_the_speech(dataset: SpeechDataset, parakeet: Any) -> None:
    total = sum(batch.seconds for batch in make(dataset, parakeet).epoch(0))
    assert total == pytest.approx(sum(dataset.seconds), rel=1e-5)


def test_a_parakeet_model_reads_the_batch(dataset: SpeechDataset, parakeet: Any) -> None:
    batch = next(make(dataset, parakeet).epoch(0))
    assert set(batch.inputs) == {"input_features", "attention_mask"}
    encoder = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    encoder |= {"num_mel_bins": 16, "subsampling_factor": 4, "subsampling_conv_channels": 8}
    config = ParakeetCTCConfig(vocab_size=30, pad_token_id=29, encoder_config=encoder)
    output = ParakeetForCTC(config)(**batch.to("cpu").inputs, labels=batch.labels)
    assert torch.isfinite(output.loss)
    assert output.logits.shape[0] == len(batch.ids)


def test_a_wav2vec2_model_reads_the_batch(folder: Path, open_folder: Open, wav2vec2: Any) -> None:
    batch = next(make(open_folder(folder, case="upper"), wav2vec2).epoch(0))
    assert set(batch.inputs) == {"input_values", "attention_mask"}
    lengths = batch.inputs["attention_mask"].sum(dim=1)
    assert int(lengths.max()) == batch.inputs["input_values"].shape[1]
    row = batch.inputs["input_values"][0, : lengths[0]]
    assert float(row.mean()) == pytest.approx(0, abs=1e-4)
    assert float(row.std()) == pytest.approx(1, abs=1e-2)
    config = Wav2Vec2ConformerConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        conv_dim=(8, 8),
        conv_kernel=(10, 8),
        conv_stride=(5, 4),
        num_feat_extract_layers=2,
        vocab_size=30,
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
        mask_time_prob=0.0,
    )
    model = Wav2Vec2ConformerForCTC(config).eval()
    assert torch.isfinite(model(**batch.inputs, labels=batch.labels).loss)


def test_specaugment_of_raw_waveforms_is_refused(dataset: SpeechDataset, wav2vec2: Any) -> None:
    with pytest.raises(ValueError, match="time_masks 2 and freq_masks 2 mask spectral features, but Wav2Vec2Feature"):
        make(dataset, wav2vec2, augment=AUGMENT)
    make(dataset, wav2vec2, augment=AugmentConfig(speed=(0.9,)))


def test_a_wrong_rate_is_refused(folder: Path, cache: str, parakeet: Any) -> None:
    dataset = open_speech(SpeechConfig(str(folder), cache_dir=cache), sampling_rate=8_000)
    with pytest.raises(ValueError, match="was opened at 8000 Hz, but the model reads 16000 Hz"):
        make(dataset, parakeet)


def test_augmentation_follows_from_seed_and_epoch(dataset: SpeechDataset, parakeet: Any) -> None:
    first, again, other = (list(make(dataset, parakeet, augment=AUGMENT, seed=seed).epoch(0)) for seed in (1, 1, 2))
    assert_same(first, again)
    assert [batch.seconds for batch in first] != [batch.seconds for batch in other]


def test_waiting_time_is_measured(dataset: SpeechDataset, parakeet: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    build, now = BatchBuilder.build, [0.0]

    def slow(self: BatchBuilder, *arguments: Any) -> Batch:
        now[0] += 2.0
        return build(self, *arguments)

    monkeypatch.setattr(BatchBuilder, "build", slow)
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    loader = make(dataset, parakeet)
    for _ in loader.epoch(0):
        now[0] += 3.0
    assert loader.wait_seconds == 2.0 * loader.batches_per_epoch(0)


def test_workers_load_ahead(
    dataset: SpeechDataset, parakeet: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    build, marks = BatchBuilder.build, tmp_path / "marks"

    def marked(self: BatchBuilder, *arguments: Any) -> Batch:
        with marks.open("a") as file:
            file.write("built\n")
        return build(self, *arguments)

    monkeypatch.setattr(BatchBuilder, "build", marked)
    loader = make(dataset, parakeet, workers=1)
    assert loader.batches_per_epoch(0) > 1
    batches = loader.epoch(0)
    next(batches)
    deadline = time.monotonic() + LOAD_SECONDS
    while len(marks.read_text().splitlines()) < 2:  # nobody asks for the second one
        assert time.monotonic() < deadline, f"no second batch after {LOAD_SECONDS} s"
        time.sleep(0.01)
    loader.close()


def test_speed_changes_the_length(dataset: SpeechDataset, parakeet: Any) -> None:
    plain = sum(batch.seconds for batch in make(dataset, parakeet).epoch(0))
    fast = sum(batch.seconds for batch in make(dataset, parakeet, augment=AugmentConfig(speed=(1.25,))).epoch(0))
    assert fast == pytest.approx(plain / 1.25, rel=1e-3)
    assert np.isfinite(fast)
