"""Show a model's parameters and MACs per block and module, what can be gated, and which budgets can be reached.

Nothing is trained. A model that was downloaded once is read from the cache. With --train it says instead how much
memory a step of gate learning will take, before any is spent: on fake tensors, without a GPU, in a minute or two.

Examples:
  compress inspect nvidia/parakeet-ctc-0.6b
  compress inspect runs/prune/final --seconds 30
  compress inspect runs/prune/final --profile latency.json
  compress inspect runs/prune/final --json > sizes.json
  compress inspect nvidia/parakeet-ctc-0.6b --train --batch.seconds 200 --seconds 17 --gradient_checkpointing true
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Literal

from compress.config import parse
from compress.cost import DEFAULT_SECONDS
from compress.data.settings import BatchConfig


@dataclass(frozen=True)
class InspectConfig:
    """What is looked at.

    Attributes:
        model: checkpoint folder or Hub name.
        seconds: length of the utterance that MACs are counted for; with --train, of each utterance of a batch.
        profile: file of `compress profile`: times that can be reached are shown, too.
        json: print JSON instead of a table.
        train: predict the memory of a training step instead.
        batch: with --train, audio in one batch, as in the recipes.
        gradient_checkpointing: with --train, as in the recipes.
        teacher_dtype: with --train, as in recipes/prune.py.
        precision: with --train, of the forward passes.
        optim: with --train, as in the recipes.
    """

    model: str
    seconds: float = DEFAULT_SECONDS
    profile: str | None = None
    json: bool = False
    train: bool = False
    batch: BatchConfig = field(default_factory=BatchConfig)
    gradient_checkpointing: bool = False
    teacher_dtype: Literal["float32", "bfloat16"] = "float32"
    precision: Literal["bf16", "fp32"] = "bf16"
    optim: Literal["adamw", "adamw_8bit", "muon"] = "adamw"


def run(arguments: Sequence[str]) -> None:
    """Prints what `compress.evaluation.inspection` finds out about a model, or the memory of a training step.

    Args:
        arguments: The words after `compress inspect`.

    Raises:
        ValueError: If the model is of a family that is not supported, or `--seconds` is not positive.
        OSError: If the model cannot be found.
    """
    config = parse(InspectConfig, arguments, prog="compress inspect", description=__doc__, positional=["model"])

    from compress.evaluation.inspection import inspect_model, inspection_page
    from compress.reports.console import show

    if config.train:
        from compress.checkpoint import load_config
        from compress.training.memory import StepConfig, memory_page, predicted_memory

        settings = StepConfig(**{each.name: getattr(config, each.name) for each in fields(StepConfig)})
        facts = dict(predicted_memory(load_config(config.model), settings))
        page = memory_page(config.model, settings, facts)
    else:
        facts = inspect_model(config.model, config.seconds, config.profile)
        page = inspection_page(facts)
    if config.json:
        sys.stdout.write(json.dumps(facts, indent=2) + "\n")
    else:
        show(page)
