"""`compress search`: which blocks of a model can be dropped, by CoMFLP and by simpler ways, measured on a dev set."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

import compress
from compress.checkpoint import load_config, load_model, load_processor
from compress.conformers import blocks_of, family_of, fixed_blocks, skeleton
from compress.data import BatchConfig, SpeechConfig, SpeechDataset, SpeechLoader, feature_extractor_of, open_speech
from compress.data.settings import SYNTHETIC
from compress.evaluation.bootstrap import BootstrapConfig
from compress.evaluation.errors import IGNORED, Normaliser
from compress.evaluation.evaluate import DTYPES, find_device, shared_vocabulary
from compress.evaluation.generate import GenerateConfig
from compress.layers.boundaries import Feature, SampleConfig, sample_boundaries
from compress.layers.bypass import removable, route_without, structure_without
from compress.layers.coarse import check_remove, proposal_score
from compress.layers.fine import FineConfig, FineSearch, Trial
from compress.layers.methods import METHODS, CoarseConfig, Outcome, Task, ranking, run_method
from compress.layers.report import write_result
from compress.layers.similarity import MEASURES, SVCCA_SHARE, Matrix, Measure
from compress.machine import usable_cores
from compress.stock import ROUTES, route_of

logger = logging.getLogger(__name__)

Result = dict[str, Any]
"""What search.json holds; `ABOUT` explains it."""

ABOUT = (
    "Blocks are numbered from 1. Error rates are fractions, pooled over the corpus; times are wall-clock seconds. A "
    "score is the mean, over the runs of removed blocks, of matrix[input of the run][output of the run]. block_runs "
    "counts blocks run per batch of speech, block_runs_alone what it would be without reuse. A route says what it "
    "takes to load the model without the blocks that a method removes."
)


@dataclass(frozen=True)
class MatrixConfig:
    """What the correlation matrix is computed from. The paper leaves most of it to its code.

    That code compares means of utterances, in groups of 4 (`feature: mean`, `group: 4`). On a teacher of 6 blocks and
    the dev split of connected digits such scores said nothing of the error rate (rank correlation over all proposals of
    2 and 3 blocks: -0.14 and 0.01, where -1 is perfect); those of frames in groups of 512 did (-0.73 and -0.43).

    Attributes:
        feature: what is compared: `frames`, or the `mean` of every utterance.
        rows: frames in all, at most.
        group: distance correlation only: it is computed in groups of so many rows and averaged.
        unit_length: distance correlation only: divide each row by its length first, as CoMFLP's code does.
        svcca_share: SVCCA only: the share of the sum of singular values that is kept.
        max_mib: memory for the sample, in MiB.
    """

    feature: Feature = "frames"
    rows: int = 4096
    group: int = 512
    unit_length: bool = True
    svcca_share: float = SVCCA_SHARE
    max_mib: float = 1024.0

    def __post_init__(self) -> None:
        if self.feature not in ("mean", "frames"):
            raise ValueError(f"matrix.feature={self.feature!r} is unknown; choose mean or frames.")
        if not 2 <= self.group <= MOST_IN_GROUP:
            raise ValueError(f"matrix.group is {self.group}; give 2 to {MOST_IN_GROUP} rows.")
        if not 0 < self.svcca_share <= 1:
            raise ValueError(f"matrix.svcca_share is {self.svcca_share}; give a share above 0 and up to 1.")

    def options(self, measure: Measure) -> dict[str, Any]:
        """What the matrix of this measure takes beside the sample."""
        if measure == "distance_correlation":
            return {"group": self.group, "unit_length": self.unit_length}
        return {"share": self.svcca_share} if measure == "svcca" else {}


MOST_IN_GROUP = 512
"""Rows of a group: the distances at all boundaries of a deep model then take some 100 MiB."""


def _dev_split() -> SpeechConfig:
    return SpeechConfig(source=SYNTHETIC, split="dev")


@dataclass(frozen=True)
class SearchConfig:
    """Which model loses how many blocks, and how they are searched for.

    Attributes:
        model: folder or Hub id of the model.
        remove: how many blocks go.
        data: speech with transcripts; the dev split, never the one that results are reported on.
        out: folder for search.json, search.md, search.html and the Structures.
        method: `comflp`, `greedy`, `every-other`, `last`, or several with commas between them; `all`.
        measure: of the correlation between boundaries: `distance_correlation`, `svcca` or `cka`.
        top_k: proposals of the coarse search whose word error rate is measured.
        utterances: of the dev set that are used, drawn at random; for the matrix and for the error rates.
        seed: of everything random.
        matrix: what the matrix is computed from.
        coarse: how proposals are found in it.
        batch: how utterances are put together; families whose output depends on padding run one by one.
        jobs: processes that share the error rates, each with one thread; null: one for each core. On a GPU one.
        reuse_mib: hidden states kept for proposals that share them, per process; beyond it they are computed again.
        device: "cpu", "cuda", "cuda:1", or "auto" for a GPU if there is one.
        dtype: "float32", "bfloat16" or "float16".
        normalise: what scoring ignores on both sides: "none", "lower" (case), "words" (case and punctuation).
        generate: how models without a CTC head write.
        bootstrap: how intervals are computed.
    """

    model: str
    remove: int
    data: SpeechConfig = field(default_factory=_dev_split)
    out: str = "search"
    method: str = "comflp"
    measure: Measure = "distance_correlation"
    top_k: int = 10
    utterances: int = 320
    seed: int = 0
    matrix: MatrixConfig = field(default_factory=MatrixConfig)
    coarse: CoarseConfig = field(default_factory=CoarseConfig)
    batch: BatchConfig = field(default_factory=BatchConfig)
    jobs: int | None = None
    reuse_mib: float = 512.0
    device: str = "auto"
    dtype: str = "float32"
    normalise: Normaliser = "lower"
    generate: GenerateConfig = field(default_factory=GenerateConfig)
    bootstrap: BootstrapConfig = field(default_factory=BootstrapConfig)

    def __post_init__(self) -> None:
        choices: dict[str, Collection[str]] = {"measure": MEASURES, "dtype": DTYPES, "normalise": IGNORED}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name}={getattr(self, name)!r} is unknown; choose one of {', '.join(known)}.")
        if unknown := [name for name in self.methods if name not in METHODS]:
            raise ValueError(f"method={unknown[0]!r} is unknown; choose among {', '.join(METHODS)}, or all.")
        for name in ("top_k", "utterances"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; give at least 1.")
        if self.data.streaming:
            raise ValueError("A dev set is read several times here: set data.streaming to false.")
        self.fine()  # refuses what does not fit

    @property
    def methods(self) -> list[str]:
        """The names in `method`, each once."""
        named = METHODS if self.method == "all" else dict.fromkeys(map(str.strip, self.method.split(",")))
        return list(named)

    def fine(self) -> FineConfig:
        """How proposals are measured."""
        return FineConfig(
            batch=self.batch,
            jobs=usable_cores() if self.jobs is None else self.jobs,
            reuse_mib=self.reuse_mib,
            normalise=self.normalise,
            generate=self.generate,
            bootstrap=self.bootstrap,
        )


def search_blocks(config: SearchConfig) -> Result:
    """Searches for the blocks to drop and writes what was found.

    Args:
        config: see `SearchConfig`.

    Returns:
        What is written to search.json; `ABOUT` explains it.

    Raises:
        ValueError: if so many blocks cannot go, or the model or the data are not usable; the message says why.
    """
    _check_before(config)
    model = load_model(config.model, dtype=DTYPES[config.dtype], device=find_device(config.device))
    processor = load_processor(config.model)
    dataset = _open(config, processor)
    fine = FineSearch(model, processor, dataset, config.fine())
    took: dict[str, float] = {}
    task = Task(
        blocks=len(blocks_of(model)),
        free=removable(model),
        remove=config.remove,
        fine=fine,
        correlate=lambda: _correlate(model, processor, dataset, config, took),
        top_k=config.top_k,
        coarse=config.coarse,
    )
    whole = fine.measure([()])[0]
    logger.info("Whole model: WER %.2f %% on %d utterances", 100 * whole.wer, len(dataset))
    outcomes = [_run(name, task) for name in config.methods]
    _warn_of_routes(model, outcomes)
    result = _result(config, model, dataset, whole, outcomes, task, took)
    structures = {one.method: structure_without(model, one.best.proposal) for one in outcomes}
    write_result(result, structures, Path(config.out))
    return result


def correlation_matrix(model: PreTrainedModel, processor: Any, dataset: SpeechDataset, config: SearchConfig) -> Matrix:
    """The correlation between all boundaries of a model's blocks, from one pass over a data set.

    Args:
        model: of any family, in eval mode.
        processor: the model's own.
        dataset: speech; transcripts play no part.
        config: measure, matrix, batch and seed are read.

    Returns:
        `(blocks + 1, blocks + 1)`; index 0 is the input of the first block.
    """
    one_by_one = family_of(model).padding_sensitive
    batching = BatchConfig(**vars(config.batch) | ({"max_utterances": 1} if one_by_one else {}))
    loader = SpeechLoader(dataset, processor, batching, shuffle=False)
    sample = sample_boundaries(
        model,
        loader.epoch(0),
        len(dataset),
        SampleConfig(config.matrix.feature, config.matrix.rows, config.matrix.max_mib, config.seed),
    )
    loader.close()
    return MEASURES[config.measure](sample, **config.matrix.options(config.measure))


def _check_before(config: SearchConfig) -> None:
    """Refuses impossible numbers before weights and speech are read."""
    if Path(config.out).is_file():
        raise ValueError(f"out is {config.out!r}, which is a file; give a folder.")
    shape = skeleton(load_config(config.model), original=False)
    check_remove(config.remove, len(blocks_of(shape)), [index + 1 for index in fixed_blocks(shape)])


def _open(config: SearchConfig, processor: Any) -> SpeechDataset:
    rate = int(feature_extractor_of(processor).sampling_rate)
    vocabulary = shared_vocabulary([processor], config.normalise)
    return open_speech(config.data, sampling_rate=rate, vocabulary=vocabulary).sample(config.utterances, config.seed)


def _correlate(
    model: PreTrainedModel, processor: Any, dataset: SpeechDataset, config: SearchConfig, took: dict[str, float]
) -> Matrix:
    began = time.perf_counter()
    matrix = correlation_matrix(model, processor, dataset, config)
    took["seconds"] = time.perf_counter() - began
    logger.info("Matrix of %s: %.1f s", config.measure, took["seconds"])
    return matrix


def _run(name: str, task: Task) -> Outcome:
    outcome = run_method(name, task)
    logger.info(
        "%s: without blocks %s WER %.2f %%, %d evaluations, %.1f s",
        name, ", ".join(map(str, outcome.best.proposal)), 100 * outcome.best.wer, outcome.evaluations, outcome.seconds,
    )  # fmt: skip
    return outcome


def _warn_of_routes(model: PreTrainedModel, outcomes: Sequence[Outcome]) -> None:
    """Says so where the original class cannot hold what a method leaves, though it could hold other choices."""
    for one in outcomes:
        route = route_without(model, one.best.proposal)
        if route != route_of(model.config):
            logger.warning("%s: its result %s, not with transformers alone", one.method, ROUTES[route])


def _result(
    config: SearchConfig,
    model: PreTrainedModel,
    dataset: SpeechDataset,
    whole: Trial,
    outcomes: Sequence[Outcome],
    task: Task,
    took: Mapping[str, float],
) -> Result:
    matrix = task.matrix if took else None
    best = min((one.best for one in outcomes), key=ranking)
    return {
        "about": ABOUT,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "versions": {"compress": compress.__version__, "torch": torch.__version__},
        "model": config.model,
        "family": family_of(model).name,
        "blocks": task.blocks,
        "removable": list(task.free),
        "remove": config.remove,
        "data": {"source": config.data.source, "split": config.data.split, "ignores": IGNORED[config.normalise]}
        | {"utterances": len(dataset), "seconds": sum(dataset.seconds)},
        "jobs": task.fine.jobs,
        "whole": _trial_entry(whole, None),
        "matrix": None if matrix is None else _matrix_entry(config, matrix, took),
        "methods": [_method_entry(one) | {"route": route_without(model, one.best.proposal)} for one in outcomes],
        "proposals": [{"method": one.method} | _trial_entry(trial, matrix) for one in outcomes for trial in one.trials],
        "best": _trial_entry(best, matrix),
    }


def _matrix_entry(config: SearchConfig, matrix: Matrix, took: Mapping[str, float]) -> Result:
    options = config.matrix.options(config.measure)
    size = {"rows": config.matrix.rows} if config.matrix.feature == "frames" else {}
    return (
        {"measure": config.measure, "feature": config.matrix.feature}
        | size
        | options
        | dict(took)
        | {"values": matrix.tolist()}
    )


def _method_entry(one: Outcome) -> Result:
    return {
        "method": one.method,
        "removed": list(one.best.proposal),
        "wer": one.best.wer,
        "wer_ci95": list(one.best.wer_ci95),
        "evaluations": one.evaluations,
        "seconds": one.seconds,
        "block_runs": one.block_runs,
        "block_runs_alone": one.block_runs_alone,
    } | ({"order": list(one.order)} if one.order else {})


def _trial_entry(trial: Trial, matrix: Matrix | None) -> Result:
    score = None if matrix is None or not trial.proposal else proposal_score(matrix, trial.proposal)
    return {
        "removed": list(trial.proposal),
        "score": score,
        "wer": trial.wer,
        "wer_ci95": list(trial.wer_ci95),
        "cer": trial.cer,
    }
