"""Measures what `compress shrink` takes on a large model, each way to decide in a fresh process.

    python -m tools.experiments.measure_shrink --folder runs/shrink --results RESULTS.md

The model has a public configuration and random weights: neither time nor memory depend on their values. What is there
already is not made or measured again. Memory is measured as by `tools.experiments.measure_scale`.
"""

from __future__ import annotations

import copy
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedConfig

from compress.checkpoint.weights import bytes_on_disk
from compress.conformers import family_of, skeleton
from compress.data import SpeechConfig
from compress.data.settings import SYNTHETIC
from compress.deciding.budget import BudgetConfig
from compress.evaluation.speed import device_name
from compress.files.writing import write_json
from compress.shrinking import ShrinkConfig, shrink_checkpoint
from compress.training.tokens import TokensConfig, build_processor
from tools.commands import main, typed
from tools.experiments.measure_scale import HEAD, in_a_fresh_process, measured, random_weights, row
from tools.experiments.public_configs import CONFIGS
from tools.results import EntryConfig, add, facts, grid

LIMIT = 1.5


@dataclass(frozen=True, kw_only=True)
class ShrinkScaleConfig(EntryConfig):
    """What is measured, and the entry that holds it.

    Attributes:
        folder: Where the models go; what is written, about twice the full weights, stays there.
        model: One of the public configurations (public_configs.py).
        blocks: So many blocks instead of its own; null: its own.
        budget: Of parameters.
        decisions: Who decides, each of `compress shrink`.
        data: Speech; null generates some.
        threads: CPU threads.
    """

    folder: str
    model: str = "nvidia/parakeet-ctc-0.6b"
    blocks: int | None = None
    budget: str = "50%"
    decisions: tuple[str, ...] = ("obs",)
    data: str | None = None
    threads: int = 2
    title: str = "Half of a model of 0.6 billion parameters without training: time and memory"

    @property
    def described(self) -> PreTrainedConfig:
        """The configuration of the model."""
        config = copy.deepcopy(CONFIGS[self.model])
        if self.blocks is not None:
            config.encoder_config.num_hidden_layers = self.blocks
        return config

    @property
    def full(self) -> Path:
        """Where the full model is."""
        return Path(self.folder, f"full-{self.blocks or 'all'}")


def measure_shrink(config: ShrinkScaleConfig) -> None:
    """Prints time and peak memory of shrinking by every decision, and appends them to a file."""
    if not config.full.exists():
        in_a_fresh_process(prepare, config)
    lines = grid(HEAD, [_row(decision, config) for decision in config.decisions])
    print("\n".join(lines))
    where = f"{device_name(torch.device('cpu'))}, {config.threads} threads. {config.note}".strip()
    add(config, [*facts(typed(), config.data or "generated speech, 256 utterances", where), *lines])


def _row(decision: str, config: ShrinkScaleConfig) -> list[str]:
    known = Path(config.folder, f"{decision}-{config.blocks or 'all'}-{config.budget.rstrip('%')}.json")
    if not known.exists():
        write_json(known, in_a_fresh_process(measured_shrink, decision, config))
    used = json.loads(known.read_text())
    return row(f"compress shrink to {config.budget} by {decision}", used, bytes_on_disk(str(config.full)), LIMIT)


def prepare(config: ShrinkScaleConfig) -> None:
    """Writes the full model, its weights drawn in place."""
    torch.set_num_threads(config.threads)
    described = config.described
    processor = build_processor(family_of(described).name, ["the quick brown fox"], TokensConfig())
    described.pad_token_id = processor.tokenizer.pad_token_id
    random_weights(skeleton(described)).save_pretrained(config.full, max_shard_size="50GB")
    processor.save_pretrained(config.full)


def measured_shrink(decision: str, config: ShrinkScaleConfig) -> dict[str, float]:
    """What the user's `compress shrink` does."""
    small = Path(config.folder, f"{decision}-small")
    shutil.rmtree(small, ignore_errors=True)
    asked = ShrinkConfig(
        model=str(config.full), out=str(small), data=SpeechConfig(source=config.data or SYNTHETIC),
        structure=decision, budget=BudgetConfig(params=config.budget), device="cpu",
    )  # fmt: skip
    return measured(lambda: shrink_checkpoint(asked), config.threads)


if __name__ == "__main__":
    main(measure_shrink)
