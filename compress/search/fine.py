"""Fine search: the word error rate of proposals on a dev set, each utterance read once for all of them."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch

from compress.config import check_at_least
from compress.conformers import blocks_of, family_of
from compress.data import Batch, BatchConfig, SpeechDataset, SpeechLoader
from compress.evaluation.bootstrap import BootstrapConfig, rate_interval
from compress.evaluation.errors import count_errors
from compress.evaluation.generate import GenerateConfig
from compress.evaluation.metrics import error_rates
from compress.evaluation.normalisation import Normaliser, scoring_rule
from compress.evaluation.transcribe import batching_for, transcribe
from compress.files.writing import MEBIBYTE
from compress.model.removal import remove
from compress.search.bypass import structure_without, without_blocks
from compress.search.coarse import Proposal
from compress.search.reuse import SharedRuns, block_runs, plan_runs

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Written = tuple[str, str, dict[Proposal, str]]
"""Of one utterance: its id, what was said, and what the model writes under each proposal."""
Repairing = Callable[["PreTrainedModel"], Mapping[str, Any]]


@dataclass(frozen=True)
class ProposalTrial:
    """The error rates of the model without some blocks.

    Attributes:
        proposal: numbers of the removed blocks.
        wer: word error rate, pooled, as a fraction.
        wer_ci95: its 95 % bootstrap interval.
        cer: character error rate; of equal WER the lower one wins.
        repair: what a repair of that model did, if there was one.
    """

    proposal: Proposal
    wer: float
    wer_ci95: tuple[float, float]
    cer: float
    repair: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class FineConfig:
    """How proposals are measured.

    Attributes:
        batch: how utterances are put together; families whose output depends on padding run one by one.
        jobs: processes that share the utterances, each with one thread; on a GPU, and where processes cannot be forked
            (outside Linux), there is one.
        reuse_mib: hidden states of one batch that are kept for proposals that share them, in each process; beyond it
            proposals are computed from the front. 0 keeps none. Models without a CTC head never share.
        normalise: what scoring ignores on both sides.
        generate: how a model without a CTC head writes.
        bootstrap: how intervals are computed.
    """

    batch: BatchConfig = field(default_factory=BatchConfig)
    jobs: int = 1
    reuse_mib: float = 512.0
    normalise: Normaliser = "lower"
    generate: GenerateConfig | None = None
    bootstrap: BootstrapConfig = field(default_factory=BootstrapConfig)

    def __post_init__(self) -> None:
        check_at_least("jobs", self.jobs, 1, "process")
        check_at_least("reuse_mib", self.reuse_mib, 0, "mebibytes")


class FineSearch:
    """Measures proposals on one dev set, and counts what that takes.

    Args:
        model: of any family, in eval mode.
        processor: the model's own.
        dataset: the dev set, with transcripts.
        config: how proposals are measured.
        repairing: changes the model without some blocks in place, and says what that did; then each proposal is removed
            and repaired for itself, and nothing is shared between them. None: proposals are measured as they are.

    Attributes:
        evaluations: word error rates measured so far.
        block_runs: blocks run so far, per batch of speech.
        block_runs_alone: the same if every proposal had been run from the front.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        processor: Any,
        dataset: SpeechDataset,
        config: FineConfig,
        repairing: Repairing | None = None,
    ) -> None:
        self.model, self.processor, self.dataset, self.config = model, processor, dataset, config
        self.repairing = repairing
        self.jobs = 1 if model.device.type != "cpu" or not sys.platform.startswith("linux") else config.jobs
        self.jobs = min(self.jobs, len(dataset))
        self.rule = scoring_rule(config.normalise, [processor])
        self.evaluations = self.block_runs = self.block_runs_alone = 0

    def measure(self, proposals: Collection[Proposal]) -> list[ProposalTrial]:
        """Measures the error rates under each proposal, in the order given; the empty proposal is the whole model."""
        self._count(proposals)
        if self.repairing and any(proposals):
            return [self._repaired(proposal, self.repairing) for proposal in proposals]
        written = self._written(tuple(proposals))
        references = [self.rule(said) for _, said, _ in written]
        return [self._trial(proposal, references, written) for proposal in proposals]

    def _repaired(self, proposal: Proposal, repairing: Repairing) -> ProposalTrial:
        """Measures the model that is left without some blocks, repaired."""
        small = remove(self.model, structure_without(self.model, proposal)).eval()
        facts = repairing(small)
        [trial] = FineSearch(small, self.processor, self.dataset, self.config).measure([()])
        return replace(trial, proposal=proposal, repair=facts)

    def _count(self, proposals: Collection[Proposal]) -> None:
        blocks = len(blocks_of(self.model))
        alone = sum(blocks - len(proposal) for proposal in proposals)
        shared = family_of(self.model).has_ctc and self.config.reuse_mib > 0 and not self.repairing
        self.evaluations += len(proposals)
        self.block_runs += block_runs(plan_runs(proposals, blocks), blocks) if shared else alone
        self.block_runs_alone += alone

    def _trial(self, proposal: Proposal, references: Sequence[str], written: Sequence[Written]) -> ProposalTrial:
        hypotheses = [self.rule(texts[proposal]) for _, _, texts in written]
        return scored(proposal, references, hypotheses, self.config.bootstrap)

    def _written(self, proposals: tuple[Proposal, ...]) -> list[Written]:
        """Transcribes under every proposal, in an order that does not depend on the number of processes."""
        if self.jobs == 1:
            return sorted(self.share(0, 1, proposals, self.config.batch.workers), key=_name)
        with ProcessPoolExecutor(
            self.jobs, multiprocessing.get_context("fork"), initializer=_adopt, initargs=(self, proposals)
        ) as pool:
            shares = pool.map(_share, range(self.jobs), chunksize=1)
            return sorted((row for rows in shares for row in rows), key=_name)

    @torch.no_grad()
    def share(self, rank: int, world_size: int, proposals: tuple[Proposal, ...], workers: int | None) -> list[Written]:
        """Transcribes one process's share of the dev set, under every proposal."""
        batching = replace(batching_for(self.model, self.config.batch), workers=workers)
        loader = SpeechLoader(self.dataset, self.processor, batching, shuffle=False, rank=rank, world_size=world_size)
        rows: list[Written] = []
        for batch in loader.epoch(0):
            texts = self._texts(batch, proposals)
            rows += [
                (name, batch.texts[row] or "", {proposal: texts[proposal][row] for proposal in proposals})
                for row, name in enumerate(batch.ids)
            ]
        loader.close()
        return rows

    def _texts(self, batch: Batch, proposals: tuple[Proposal, ...]) -> dict[Proposal, list[str]]:
        if family_of(self.model).has_ctc:
            shared = SharedRuns(self.model, proposals, int(self.config.reuse_mib * MEBIBYTE))
            return {proposal: self.processor.batch_decode(tokens) for proposal, tokens in shared.tokens(batch.inputs)}
        texts = {}
        for proposal in proposals:
            with without_blocks(self.model, proposal):
                texts[proposal] = transcribe(self.model, _Once(batch), self.processor, config=self.config.generate)[2]
        return texts


def scored(
    proposal: Proposal, references: Sequence[str], hypotheses: Sequence[str], bootstrap: BootstrapConfig
) -> ProposalTrial:
    """Computes the error rates of what was written under a proposal."""
    rates, counts = error_rates(references, hypotheses), count_errors(references, hypotheses)
    interval = rate_interval(counts.errors, counts.words, bootstrap)
    return ProposalTrial(proposal, rates.wer, (interval.low, interval.high), rates.cer)


class _Once:
    """One batch as a source of batches."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch

    def epoch(self, epoch: int) -> list[Batch]:
        """Returns the batch, whichever epoch it is."""
        return [self.batch]


def _name(row: Written) -> str:
    return row[0]


_adopted: list[tuple[FineSearch, tuple[Proposal, ...]]] = []
"""In a forked process: what it shares with its parent, memory of the weights included."""


def _adopt(search: FineSearch, proposals: tuple[Proposal, ...]) -> None:
    torch.set_num_threads(1)  # a fork has lost its parent's threads
    _adopted.append((search, proposals))


def _share(rank: int) -> list[Written]:
    search, proposals = _adopted[-1]
    return search.share(rank, search.jobs, proposals, workers=0)
