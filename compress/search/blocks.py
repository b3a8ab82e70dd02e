"""`compress search`: which blocks of a model can be dropped, by CoMFLP and by simpler ways, measured on a dev set."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from compress.checkpoint import load_config, load_recogniser
from compress.config import check_at_least, check_choice, to_dict
from compress.conformers import blocks_of, family_of, fixed_blocks, skeleton
from compress.curvature.repair import RefitConfig
from compress.data import SpeechConfig, SpeechDataset, require_split
from compress.evaluation.speed import device_name
from compress.files.writing import require_writable
from compress.machine import DTYPES, find_device
from compress.reports.making import made
from compress.search.bypass import removable, route_without, structure_without
from compress.search.coarse import check_remove, proposal_score
from compress.search.fine import FineSearch, ProposalTrial, Repairing
from compress.search.methods import METHODS, CoarseConfig, Outcome, Task, ranking, run_method
from compress.search.report import write_result
from compress.search.settings import BlocksConfig, boundary_sample
from compress.search.similarity import MEASURES, Matrix, Measure
from compress.shrinking.calibration import Calibration
from compress.shrinking.checkpoints import calibration_of
from compress.shrinking.repairing import repair
from compress.surgery.stock import ROUTES, route_of

logger = logging.getLogger(__name__)

Search = dict[str, Any]
"""What search.json holds; `SEARCH_ABOUT` explains it."""

SEARCH_ABOUT = (
    "Blocks are numbered from 0; index 0 of the matrix is the input of the first block, index b + 1 the output of "
    "block b. Error rates are fractions, pooled over the corpus; times are wall-clock seconds. A score is the mean, "
    "over the runs of removed blocks, of matrix[input of the run][output of the run]. block_runs counts blocks run "
    "per batch of speech, block_runs_alone what it would be without reuse. With `refit` every proposal was removed and "
    "repaired before it was measured, and `repair` says what that did. A route says what it takes to load the "
    "model without the blocks that a method removes."
)
ALL = "all"
"""Stands for every method."""


@dataclass(frozen=True, kw_only=True)
class SearchConfig(BlocksConfig):
    """Which model loses how many blocks, and how they are searched for.

    The rest is that of `BlocksConfig`.

    Attributes:
        remove: how many blocks go.
        out: folder for search.json, search.md, search.html and the Structures.
        methods: any of `comflp`, `greedy`, `every-other` and `last`, or `[all]`.
        measure: of the correlation between boundaries: `distance_correlation`, `svcca` or `cka`.
        top_k: proposals of the coarse search whose word error rate is measured.
        coarse: how proposals are found in the matrix.
        refit: how the model without the blocks is repaired in closed form before its error rate is measured, as
            `compress apply --data` repairs what the Structure leaves, e.g. --refit.utterances 256; null: not at all.
        refit_split: the split of the speech for that, which is otherwise read like `data`; transcripts play no part.
        refit_data: that speech, if it is another source.
    """

    remove: int
    out: str = "search"
    methods: tuple[str, ...] = ("comflp",)
    measure: Measure = "distance_correlation"
    top_k: int = 10
    coarse: CoarseConfig = field(default_factory=CoarseConfig)
    refit: RefitConfig | None = None
    refit_split: str = "train"
    refit_data: SpeechConfig | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("measure", self.measure, MEASURES)
        for method in self.methods:
            check_choice("methods", method, (*METHODS, ALL))
        check_at_least("top_k", self.top_k, 1)
        if self.refit and self.data.mix and self.refit_data is None:
            raise ValueError("data.mix has no other split for the refit: name its speech with refit_data.source.")

    @property
    def chosen_methods(self) -> list[str]:
        """The names in `methods`, each once."""
        return list(METHODS if ALL in self.methods else dict.fromkeys(self.methods))

    @property
    def refit_set(self) -> SpeechConfig:
        """The speech that a refit looks at."""
        return self.refit_data or replace(self.data, split=self.refit_split, limit=None)


def search_blocks(config: SearchConfig) -> Search:
    """Searches for the blocks to drop and writes what was found.

    Args:
        config: the model, the speech, and how blocks are searched for.

    Returns:
        What is written to search.json; `SEARCH_ABOUT` explains it.

    Raises:
        ValueError: if so many blocks cannot go, or the model or the data are not usable; the message says why.
    """
    _check_before(config)
    model, processor = load_recogniser(config.model, dtype=DTYPES[config.dtype], device=find_device(config.device))
    dataset = config.open(processor)
    speech = _speech_for_refit(config, model, processor, dataset)
    fine = FineSearch(model, processor, dataset, config.fine(), _repairing(config, model, speech))
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
    outcomes = [_run(name, task) for name in config.chosen_methods]
    _warn_of_routes(model, outcomes)
    result = _result(config, model, dataset, whole, outcomes, task, took) | {"refit": _refit_entry(config, speech)}
    structures = {outcome.method: structure_without(model, outcome.best.proposal) for outcome in outcomes}
    write_result(result, structures, Path(config.out))
    return result


def _check_before(config: SearchConfig) -> None:
    """Refuses impossible numbers before weights and speech are read."""
    require_writable(config.out)
    shape = skeleton(load_config(config.model), original=False)
    check_remove(config.remove, len(blocks_of(shape)), fixed_blocks(shape))


def _speech_for_refit(
    config: SearchConfig, model: PreTrainedModel, processor: Any, dev: SpeechDataset
) -> Calibration | None:
    """What models without some blocks are repaired on, if they are; it is read once."""
    if config.refit is None:
        return None
    speech = calibration_of(model, processor, config.refit_set, config.refit.utterances, config.batch, config.seed)
    require_split(speech.dataset, dev, "the speech of the refit", "name another source with refit_data.source")
    return speech


def _repairing(config: SearchConfig, model: PreTrainedModel, speech: Calibration | None) -> Repairing | None:
    if config.refit is None or speech is None:
        return None
    return partial(repair, whole=model, speech=speech, config=config.refit)


def _correlate(
    model: PreTrainedModel, processor: Any, dataset: SpeechDataset, config: SearchConfig, took: dict[str, float]
) -> Matrix:
    began = time.perf_counter()
    sample = boundary_sample(model, processor, dataset, config)
    matrix = MEASURES[config.measure](sample, **config.matrix.options(config.measure))
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
    for outcome in outcomes:
        route = route_without(model, outcome.best.proposal)
        if route != route_of(model.config):
            logger.warning("%s: its result %s, not with transformers alone", outcome.method, ROUTES[route])


def _result(
    config: SearchConfig,
    model: PreTrainedModel,
    dataset: SpeechDataset,
    whole: ProposalTrial,
    outcomes: Sequence[Outcome],
    task: Task,
    took: Mapping[str, float],
) -> Search:
    matrix = task.matrix if took else None
    best = min((outcome.best for outcome in outcomes), key=ranking)
    return {
        "about": SEARCH_ABOUT,
        **made(),
        "model": config.model,
        "family": family_of(model).name,
        "blocks": task.blocks,
        "removable": list(task.free),
        "remove": config.remove,
        "data": config.described(dataset),
        "jobs": task.fine.jobs,
        "machine": device_name(model.device),
        "whole": _trial_entry(whole, None),
        "matrix": None if matrix is None else _matrix_entry(config, matrix, took),
        "methods": [_method_entry(outcome, model) for outcome in outcomes],
        "proposals": [
            {"method": outcome.method} | _trial_entry(trial, matrix) for outcome in outcomes for trial in outcome.trials
        ],
        "best": _trial_entry(best, matrix),
    }


def _refit_entry(config: SearchConfig, speech: Calibration | None) -> Search | None:
    if speech is None:
        return None
    looked_at = {"utterances": speech.utterances, "data": config.refit_set.named(), "split": speech.dataset.split}
    return to_dict(config.refit) | looked_at


def _matrix_entry(config: SearchConfig, matrix: Matrix, took: Mapping[str, float]) -> Search:
    feature, options = config.matrix.feature, config.matrix.options(config.measure)
    size = {"rows": config.matrix.rows} if feature == "frames" else {}
    return {"measure": config.measure, "feature": feature, **size, **options, **took, "values": matrix.tolist()}


def _method_entry(outcome: Outcome, model: PreTrainedModel) -> Search:
    entry = {
        "method": outcome.method,
        "removed": list(outcome.best.proposal),
        "wer": outcome.best.wer,
        "wer_ci95": list(outcome.best.wer_ci95),
        "evaluations": outcome.evaluations,
        "seconds": outcome.seconds,
        "block_runs": outcome.block_runs,
        "block_runs_alone": outcome.block_runs_alone,
    }
    order = {"order": list(outcome.order)} if outcome.order else {}
    return entry | order | {"route": route_without(model, outcome.best.proposal)}


def _trial_entry(trial: ProposalTrial, matrix: Matrix | None) -> Search:
    score = None if matrix is None or not trial.proposal else proposal_score(matrix, trial.proposal)
    return {
        "removed": list(trial.proposal),
        "score": score,
        "wer": trial.wer,
        "wer_ci95": list(trial.wer_ci95),
        "cer": trial.cer,
    } | ({"repair": dict(trial.repair)} if trial.repair else {})
