"""`compress analyze`: how the blocks of a model behave, measured on a dev set.

How alike the boundaries of blocks are, what the model writes without each single block, and what its CTC head makes of
every block's output: the pictures from which Lee, Kang and Watanabe (2021, arXiv 2106.09216) read which blocks can go.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from compress.checkpoint import load_recogniser
from compress.config import check_choice
from compress.conformers import blocks_of, family_of, fixed_blocks, frame_mask
from compress.conformers.head import ctc_head, head_logits
from compress.conformers.recording import BlockOutputs
from compress.conformers.registry import UnsupportedModelError
from compress.data import Batch, SpeechDataset, SpeechLoader
from compress.evaluation.normalisation import ScoringRule, scoring_rule
from compress.evaluation.transcribe import batching_for, to_model
from compress.files.writing import require_writable
from compress.machine import DTYPES, find_device
from compress.reports.making import made
from compress.running.aspects import in_full
from compress.search.analysis_report import write_analysis
from compress.search.bypass import removable
from compress.search.fine import FineSearch, ProposalTrial, scored
from compress.search.settings import BlocksConfig, boundary_sample
from compress.search.similarity import MEASURES, Measure
from compress.training.ctc import ctc_loss

logger = logging.getLogger(__name__)

Analysis = dict[str, Any]
"""What analysis.json holds; `ANALYSIS_ABOUT` explains it."""

ANALYSIS_ABOUT = (
    "Blocks are numbered from 0; index 0 of a matrix is the input of the first block, index b + 1 the output of block "
    "b. Error rates are fractions, pooled over the corpus. removals: the model without one block. heads: the model's "
    "own CTC head on the output of a block, by way of whatever stands between the last block and the head; its CTC "
    "loss is per target token, averaged over utterances but the `unalignable` ones, which have more tokens than frames."
)


@dataclass(frozen=True, kw_only=True)
class AnalyzeConfig(BlocksConfig):
    """What is analysed of a model.

    The rest is that of `BlocksConfig`.

    Attributes:
        measures: correlations between boundaries: any of `distance_correlation`, `svcca` and `cka`.
        out: folder for analysis.json, analysis.md and analysis.html.
    """

    measures: tuple[Measure, ...] = ("svcca", "cka")
    out: str = "analysis"

    def __post_init__(self) -> None:
        super().__post_init__()
        for measure in self.measures:
            check_choice("measures", measure, MEASURES)


def analyze_blocks(config: AnalyzeConfig) -> Analysis:
    """Measures how the blocks of a model behave, and writes what was found.

    Args:
        config: the model, the speech, and what is analysed.

    Returns:
        What is written to analysis.json; `ANALYSIS_ABOUT` explains it.

    Raises:
        ValueError: if the model or the data are not usable; the message says why.
    """
    require_writable(config.out)
    began = time.perf_counter()
    model, processor = load_recogniser(config.model, dtype=DTYPES[config.dtype], device=find_device(config.device))
    dataset = config.open(processor)
    sample = boundary_sample(model, processor, dataset, config)
    matrices = {name: MEASURES[name](sample, **config.matrix.options(name)).tolist() for name in config.measures}
    fine = FineSearch(model, processor, dataset, config.fine())
    single = removable(model) if len(blocks_of(model)) > 1 else ()
    whole, *singles = fine.measure([(), *((block,) for block in single)])
    heads, reason = intermediate_heads(model, processor, dataset, config)
    result = {
        "about": ANALYSIS_ABOUT,
        **made(),
        "model": config.model,
        "family": family_of(model).name,
        "blocks": len(blocks_of(model)),
        "data": config.described(dataset),
        "matrices": matrices,
        "whole": _rates(whole),
        "removals": [_rates(trial) | {"block": trial.proposal[0]} for trial in singles],
        "heads": heads,
        "no_heads_because": reason,
        "seconds": time.perf_counter() - began,
    }
    write_analysis(result, Path(config.out))
    return result


def intermediate_heads(
    model: PreTrainedModel, processor: Any, dataset: SpeechDataset, config: BlocksConfig
) -> tuple[list[Analysis], str | None]:
    """Measures what the CTC head makes of every block's output behind the last change of the frame rate.

    Returns:
        For each such block its number, CTC loss, WER with its interval, and CER; none where the outputs of blocks have
        no logits, and then why.
    """
    try:
        ctc_head(model)
    except UnsupportedModelError as error:
        return [], str(error)
    first = max(fixed_blocks(model), default=0)
    chosen = range(first, len(blocks_of(model)))
    heard = _Heard(model, processor, chosen)
    loader = SpeechLoader(dataset, processor, batching_for(model, config.batch), shuffle=False)
    try:
        for batch in loader.epoch(0):
            heard.add(batch)
    finally:
        heard.close()
        loader.close()
    rule = scoring_rule(config.normalise, [processor])
    references = list(map(rule, heard.said))
    return [_head(heard, block, references, rule, config) for block in chosen], None


class _Heard:
    """Runs the model over batches and writes down what its head makes of the chosen blocks' outputs."""

    def __init__(self, model: PreTrainedModel, processor: Any, blocks: Sequence[int]) -> None:
        self.model, self.processor = model, processor
        self.blank = int(model.config.pad_token_id)
        self.outputs = BlockOutputs(model, blocks)
        self.said: list[str] = []
        self.written: dict[int, list[str]] = {block: [] for block in blocks}
        self.losses: dict[int, float] = dict.fromkeys(blocks, 0.0)
        self.aligned: dict[int, int] = dict.fromkeys(blocks, 0)

    @torch.no_grad()
    def add(self, batch: Batch) -> None:
        """Runs the model over one batch."""
        inputs = to_model(self.model, batch.inputs)
        with in_full(self.model):
            self.model(**inputs)
        self.said += [text or "" for text in batch.texts]
        for block, hidden in self.outputs.take().items():
            logits = head_logits(self.model, hidden)
            self._add(block, logits, frame_mask(self.model, inputs, logits.shape[1]), batch)

    def _add(self, block: int, logits: Tensor, mask: Tensor, batch: Batch) -> None:
        loss, unalignable = ctc_loss(logits, mask, batch.labels.to(logits.device), self.blank, utterances=1.0)
        self.losses[block] += float(loss)
        self.aligned[block] += int((~unalignable).sum())
        tokens = logits.argmax(-1).masked_fill(~mask.to(logits.device), self.blank)
        self.written[block] += self.processor.batch_decode(tokens.cpu())

    def close(self) -> None:
        """Removes the hooks."""
        self.outputs.close()


def _head(heard: _Heard, block: int, references: Sequence[str], rule: ScoringRule, config: BlocksConfig) -> Analysis:
    hypotheses = list(map(rule, heard.written[block]))
    aligned = heard.aligned[block]
    mean = heard.losses[block] / aligned if aligned else None
    found = {"block": block, "ctc_loss": mean, "unalignable": len(references) - aligned}
    return _rates(scored((), references, hypotheses, config.bootstrap)) | found


def _rates(trial: ProposalTrial) -> Analysis:
    return {"wer": trial.wer, "wer_ci95": list(trial.wer_ci95), "cer": trial.cer}
