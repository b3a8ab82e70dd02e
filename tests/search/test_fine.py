"""The error rate of a proposal is that of the removed model, however it is computed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import compress
from compress.checkpoint import load_model, load_processor
from compress.data import BatchConfig, SpeechConfig, SpeechDataset, SpeechLoader, open_speech
from compress.evaluation.bootstrap import BootstrapConfig
from compress.evaluation.generate import GenerateConfig
from compress.evaluation.metrics import error_rates
from compress.evaluation.transcribe import transcribe
from compress.search import reuse, structure_without
from compress.search.fine import FineConfig, FineSearch
from tests.helpers import tiny
from tests.helpers.launching import RATE
from tests.helpers.processors import processor_of

PROPOSALS = [(), (0,), (2,), (0, 1), (1, 2)]
BATCH = BatchConfig(seconds=3.0, workers=0)
QUICK = BootstrapConfig(resamples=100)


@pytest.fixture(scope="module")
def dataset(speech: Path) -> SpeechDataset:
    return open_speech(SpeechConfig(str(speech), "dev", cache_dir=str(speech / "cache")), sampling_rate=RATE)


def lively(model: Any) -> Any:
    """Makes a random model say different things at different times."""
    with torch.no_grad():
        logits = model(**tiny.batch(model)).logits.flatten(0, 1)
        model.ctc_head.bias -= logits.mean(0)
    return model


def expected(model: Any, processor: Any, dataset: SpeechDataset, batch: BatchConfig, **how: Any) -> list[Any]:
    found = []
    removed = [compress.remove(model, structure_without(model, one)) if one else model for one in PROPOSALS]
    for proposal, small in zip(PROPOSALS, removed, strict=True):
        _, references, texts = transcribe(
            small, SpeechLoader(dataset, processor, batch, shuffle=False), processor, **how
        )
        rates = error_rates(references, texts)
        found.append((proposal, rates.wer, rates.cer))
    return found


@pytest.mark.parametrize(("jobs", "reuse_mib"), [(1, 512), (1, 0), (2, 512)])
def test_rates_are_those_of_the_removed_model(
    parakeet: str, dataset: SpeechDataset, jobs: int, reuse_mib: float
) -> None:
    model, processor = lively(load_model(parakeet)), load_processor(parakeet)
    config = FineConfig(batch=BATCH, jobs=jobs, reuse_mib=reuse_mib, bootstrap=QUICK)
    fine = FineSearch(model, processor, dataset, config)
    trials = fine.measure(PROPOSALS)
    assert [(one.proposal, one.wer, one.cer) for one in trials] == expected(model, processor, dataset, BATCH)
    assert len({one.cer for one in trials}) > 2
    assert all(one.wer_ci95[0] <= one.wer <= one.wer_ci95[1] for one in trials)
    assert fine.evaluations == 5
    assert fine.block_runs_alone == 3 + 2 + 2 + 1 + 1
    assert (fine.block_runs < fine.block_runs_alone) == (reuse_mib > 0)


def test_padding_sensitive_families_run_one_by_one(checkpoint: Any, dataset: SpeechDataset) -> None:
    name = checkpoint("wav2vec2_conformer-few_frames", tiny.wav2vec2_conformer("relative", last_stride=32))
    model, processor, few = load_model(name), load_processor(name), dataset.sample(2)
    alone = BatchConfig(seconds=3.0, workers=0, max_utterances=1)
    wanted = expected(model, processor, few, alone)
    trials = FineSearch(model, processor, few, FineConfig(batch=BATCH, bootstrap=QUICK)).measure(PROPOSALS)
    assert [(one.proposal, one.wer, one.cer) for one in trials] == wanted


def test_models_without_a_ctc_head_generate(dataset: SpeechDataset) -> None:
    model = tiny.OTHER_MODELS["parakeet_tdt"]()
    processor = processor_of(model)
    generate = GenerateConfig(max_new_tokens=5)
    few = dataset.sample(3)
    fine = FineSearch(model, processor, few, FineConfig(batch=BATCH, generate=generate, bootstrap=QUICK))
    trials = fine.measure(PROPOSALS)
    wanted = expected(model, processor, few, BATCH, config=generate)
    assert [(one.proposal, one.wer, one.cer) for one in trials] == wanted
    assert fine.block_runs == fine.block_runs_alone


class Held(dict[Any, torch.Tensor]):
    """Notes the most bytes it ever held."""

    most = 0

    def __setitem__(self, key: Any, value: torch.Tensor) -> None:
        super().__setitem__(key, value)
        Held.most = max(Held.most, sum(one.nbytes for one in self.values()))


@torch.no_grad()
def test_kept_states_stay_within_their_bound() -> None:
    """What does not fit is computed again."""
    model = tiny.parakeet(num_hidden_layers=24)
    inputs = tiny.batch(model)
    proposals = [(block,) for block in range(24)] + [(block, 23) for block in range(11, 23)]
    found, runs = {}, {}
    for bound in (1 << 20, 30_000, 0):
        shared = reuse.SharedRuns(model, proposals, bound)
        Held.most, calls = 0, []
        handles = [b.register_forward_hook(lambda *_, calls=calls: calls.append(1)) for b in shared.blocks]
        results = iter(shared.tokens(inputs))
        first = next(results)
        shared._states = Held(shared._states)
        found[bound] = dict([first, *results])
        runs[bound] = len(calls)
        assert Held.most <= bound
        for handle in handles:
            handle.remove()
    assert runs[1 << 20] < runs[30_000] < runs[0] == sum(24 - len(one) for one in proposals)
    for one in proposals:
        assert torch.equal(found[1 << 20][one], found[0][one])
        assert torch.equal(found[30_000][one], found[0][one])


def test_settings_that_make_no_sense() -> None:
    with pytest.raises(ValueError, match="jobs is 0"):
        FineConfig(jobs=0)
    with pytest.raises(ValueError, match="reuse_mib is -1"):
        FineConfig(reuse_mib=-1)


def test_a_sample_of_the_data(dataset: SpeechDataset) -> None:
    few = dataset.sample(4, seed=1)
    assert len(few) == len(few.ids) == len(few.texts) == len(few.seconds) == 4
    assert few.ids == [name for name in dataset.ids if name in few.ids] != dataset.sample(4, seed=2).ids
    assert [few[row].text for row in range(4)] == few.texts
    assert len(dataset) == 10
    assert dataset.sample(10) is dataset
