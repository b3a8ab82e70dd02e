"""What `accelerate launch` asks of a run by its options or its saved config: obeyed, or refused by name."""

from __future__ import annotations

import os
from collections.abc import Mapping

from compress.training.loop.precision import Precision

NOT_OBEYED: Mapping[str, tuple[str, str]] = {
    "ACCELERATE_USE_DEEPSPEED": ("--use_deepspeed", "models are sharded by FSDP2 alone"),
    "ACCELERATE_USE_MEGATRON_LM": ("--use_megatron_lm", "models are sharded by FSDP2 alone"),
    "ACCELERATE_USE_PARALLELISM_CONFIG": ("--use_parallelism_config", "models are sharded by FSDP2 alone"),
}
"""Variables by which the launcher switches something on, with its option and why it cannot be had."""
FSDP, FSDP_VERSION, FSDP_POLICY = "ACCELERATE_USE_FSDP", "FSDP_VERSION", "FSDP_AUTO_WRAP_POLICY"
NOT_SHARDED_BY: Mapping[str, tuple[str, str]] = {
    "FSDP_OFFLOAD_PARAMS": ("--fsdp_offload_params", "weights stay where they are computed with; give false"),
    "FSDP_CPU_RAM_EFFICIENT_LOADING": (
        "--fsdp_cpu_ram_efficient_loading",
        "every process reads the model itself, statistics of BatchNorm included; give false",
    ),
    "FSDP_ACTIVATION_CHECKPOINTING": (
        "--fsdp_activation_checkpointing",
        "blocks are computed again by the recipe's own --gradient_checkpointing true; give false",
    ),
}
"""What `accelerate launch` can ask of FSDP2 and is not done, with its option and the remedy."""
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
            f"{ACCUMULATION}={steps}: the run itself accumulates {accumulate}; give --accumulate {steps}, too, or unset"
            " the variable."
        )
    mixed = os.environ.get(MIXED_PRECISION, "no")
    if _asked(MIXED_PRECISION) and mixed != precision:
        remedy = "give --precision bf16, too, or" if mixed == "bf16" else "there are bf16 and fp32;"
        raise ValueError(
            f"accelerate launch --mixed_precision {mixed}: the run's own precision is {precision}; {remedy} launch "
            "without it (see `accelerate config`)."
        )


def wants_sharding() -> bool:
    """Whether the launcher asks for models that are sharded over processes."""
    return _asked(FSDP)


def require_shardable(*, compiled: bool, optim: str) -> None:
    """Refuses what the launcher asks for beside sharding, or a recipe beside the launcher's, and cannot be had.

    Args:
        compiled: whether blocks are to be compiled.
        optim: the optimizer.

    Raises:
        ValueError: naming the option, and the remedy.
    """
    if not wants_sharding():
        return
    if (version := os.environ.get(FSDP_VERSION, "1")) != "2":
        raise ValueError(f"accelerate launch --fsdp_version {version}: models are sharded by FSDP2; give 2.")
    for variable, (option, remedy) in NOT_SHARDED_BY.items():
        if _asked(variable):
            raise ValueError(f"accelerate launch {option} {os.environ[variable]}: {remedy}.")
    if os.environ.get(FSDP_POLICY, "").upper() == "SIZE_BASED_WRAP":
        raise ValueError(
            "accelerate launch --fsdp_auto_wrap_policy SIZE_BASED_WRAP: models are sharded block by block; give "
            "TRANSFORMER_BASED_WRAP, which finds the blocks by itself."
        )
    if compiled or optim != "adamw":
        setting = "compile: true" if compiled else f"optim: {optim}"
        raise ValueError(f"accelerate launch --use_fsdp: a model in pieces has no {setting}; leave one of them out.")


def _asked(variable: str) -> bool:
    return os.environ.get(variable, "").lower() not in _OFF
