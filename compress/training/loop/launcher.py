"""What `accelerate launch` asks of a run by its options or its saved config: obeyed, or refused by name."""

from __future__ import annotations

import os
from collections.abc import Mapping

from compress.training.loop.precision import Precision

NOT_OBEYED: Mapping[str, tuple[str, str]] = {
    "ACCELERATE_USE_FSDP": ("--use_fsdp", "models are not sharded here"),
    "ACCELERATE_USE_DEEPSPEED": ("--use_deepspeed", "models are not sharded here"),
    "ACCELERATE_USE_MEGATRON_LM": ("--use_megatron_lm", "models are not sharded here"),
    "ACCELERATE_USE_PARALLELISM_CONFIG": ("--use_parallelism_config", "models are not sharded here"),
}
"""Variables by which the launcher switches something on, with its option and why it cannot be had."""
ACCUMULATION, MIXED_PRECISION = "ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "ACCELERATE_MIXED_PRECISION"
_OFF = ("", "0", "false", "no")


def require_obeyed(precision: Precision, accumulate: int = 1) -> None:
    """Refuses what the launcher asks for and a recipe would not do.

    Args:
        precision: of the run; it must be what the launcher asks for, if it asks for any.
        accumulate: batches of a step; the same holds.

    Raises:
        ValueError: naming the launcher's option and the recipe's own, if there is one.
    """
    for variable, (option, reason) in NOT_OBEYED.items():
        if _asked(variable):
            raise ValueError(f"accelerate launch {option}: {reason}; launch without it (see `accelerate config`).")
    steps = os.environ.get(ACCUMULATION, "1")
    if steps not in ("1", str(accumulate)):
        raise ValueError(
            f"accelerate launch --gradient_accumulation_steps {steps}: the run itself accumulates {accumulate}; give "
            f"--accumulate {steps}, too, or launch without it (see `accelerate config`)."
        )
    mixed = os.environ.get(MIXED_PRECISION, "no")
    if _asked(MIXED_PRECISION) and mixed != precision:
        remedy = "give --precision bf16, too, or" if mixed == "bf16" else "there are bf16 and fp32;"
        raise ValueError(
            f"accelerate launch --mixed_precision {mixed}: the run's own precision is {precision}; {remedy} launch "
            "without it (see `accelerate config`)."
        )


def _asked(variable: str) -> bool:
    return os.environ.get(variable, "").lower() not in _OFF
