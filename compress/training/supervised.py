"""What the recipes share that train on transcripts, from nothing or from a checkpoint: settings and the processor."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from transformers import AutoProcessor, PreTrainedModel

from compress.checkpoint import load_config, load_processor, require_match
from compress.config import check, check_at_least
from compress.data import SpeechLoader, open_speech
from compress.files.writing import replaced_folder
from compress.training.loop import processes
from compress.training.loop.schedule import warmup_cosine
from compress.training.new_models import ModelConfig, mel_bins
from compress.training.run import RunConfig
from compress.training.tokens import SAMPLING_RATE, TokensConfig, build_processor

logger = logging.getLogger(__name__)

PROCESSOR = "processor"
"""Folder in a run's output of the tokens that it has learned."""


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW with a linear warm-up, then half a cosine.

    Attributes:
        learning_rate: the peak; 5e-4 to 1e-3 suits models of a few million parameters, larger ones need less.
        warmup_steps: steps of the linear rise.
        weight_decay: of matrices and kernels, not of biases and norms.
        max_gradient_norm: longer gradients are shortened to this.
        final_fraction: of the peak learning rate, at the last step.
    """

    learning_rate: float = 5e-4
    warmup_steps: int = 200
    weight_decay: float = 1e-2
    max_gradient_norm: float = 1.0
    final_fraction: float = 0.0

    def check_length(self, total_steps: int) -> None:
        """Refuses a run that ends before its warm-up does."""
        remedy = f"the run has {total_steps} steps: give 0 to {total_steps}, more epochs or more max_steps"
        check(self.warmup_steps <= total_steps, "optimizer.warmup_steps", self.warmup_steps, remedy)

    def factor(self, step: int, total_steps: int) -> float:
        """The factor on every learning rate at a step (see `warmup_cosine`)."""
        return warmup_cosine(step, total_steps, self.warmup_steps, self.final_fraction)


@dataclass(frozen=True, kw_only=True)
class SupervisedConfig(RunConfig):
    """One training run on transcripts.

    The settings that every run has are those of `RunConfig`.

    Attributes:
        model: what to train.
        tokens: what a new model spells with; a checkpoint brings its own.
        optimizer: how fast it learns, and how the rates rise and fall.
        epochs: passes over the training set.
        max_steps: length of the run in steps, instead of `epochs`.
    """

    model: ModelConfig
    tokens: TokensConfig = field(default_factory=TokensConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    epochs: int = 10
    max_steps: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least("epochs", self.epochs, 1)
        check_at_least("max_steps", self.max_steps, 1)
        if self.dev is None and self.dev_split is None:
            raise ValueError("The best model is the one with the fewest errors on the dev set: set dev_split, or dev.")
        if self.data.streaming and self.max_steps is None:
            raise ValueError("A stream has no known length: set max_steps, or data.streaming to false.")
        if self.data.streaming and self.model.checkpoint is None:
            raise ValueError(
                "Tokens cannot be learned from a stream: start from model.checkpoint, or set data.streaming to false."
            )


def find_processor(config: SupervisedConfig, accelerator: Accelerator, *, resuming: bool) -> Any:
    """A checkpoint's own processor, or one whose tokens are learned, once, from the training transcripts.

    Args:
        config: of the run; what is learned is kept in its output folder.
        accelerator: rank 0 learns.
        resuming: whether the run has learned them before.

    Raises:
        CheckpointError: if a checkpoint's processor does not fit its model.
    """
    folder = Path(config.output, PROCESSOR)
    with accelerator.main_process_first():
        if config.model.checkpoint is not None:
            processor = load_processor(config.model.checkpoint)
            require_match(load_config(config.model.checkpoint), processor, config.model.checkpoint)
            return processor
        if accelerator.is_main_process and not resuming:
            assert config.model.family is not None
            train_set = open_speech(config.data, sampling_rate=SAMPLING_RATE)
            texts = [text for text in train_set.texts if text is not None]
            processor = build_processor(config.model.family, texts, config.tokens, mel_bins=mel_bins(config.model))
            with replaced_folder(folder) as fresh:
                processor.save_pretrained(fresh)
        return AutoProcessor.from_pretrained(folder)


def announce(
    config: SupervisedConfig, model: PreTrainedModel, loader: SpeechLoader, step: int, total_steps: int
) -> None:
    """Says what is going to be trained on what.

    Args:
        config: of the run.
        model: what is trained.
        loader: of its speech.
        step: steps behind us.
        total_steps: of the whole run.
    """
    data = loader.dataset
    amount = "a stream" if data.streaming else f"{len(data)} utterances, {sum(data.seconds) / 3600:.1f} hours"
    logger.info(
        "%s: %.2f million parameters, %d tokens; %s; %s %d of %d steps on %d process(es)",
        config.output,
        model.num_parameters() / 1e6,
        model.config.vocab_size,
        amount,
        "going on after" if step else "starting with",
        step,
        total_steps,
        processes.world_size(),
    )
