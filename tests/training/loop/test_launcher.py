"""What the launcher asks for is done, or refused before anything else."""

from __future__ import annotations

from typing import Any

import pytest

from compress.training.loop.launcher import require_obeyed, require_shardable


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        (
            "ACCELERATE_GRADIENT_ACCUMULATION_STEPS",
            "4",
            "ACCELERATE_GRADIENT_ACCUMULATION_STEPS=4: the run itself accumulates 1; give --accumulate 4",
        ),
        (
            "ACCELERATE_MIXED_PRECISION",
            "bf16",
            "--mixed_precision bf16: the run's own precision is auto; give --precision",
        ),
        (
            "ACCELERATE_MIXED_PRECISION",
            "fp16",
            "--mixed_precision fp16: the run's own precision is auto; there are bf16",
        ),
        ("ACCELERATE_USE_DEEPSPEED", "true", "--use_deepspeed: models are sharded by FSDP2 alone; launch without it"),
    ],
)
def test_what_is_not_obeyed_is_refused(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, message: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ValueError, match=message):
        require_obeyed("auto")


@pytest.mark.parametrize(
    ("asked", "settings", "message"),
    [
        ({"FSDP_VERSION": "1"}, {}, "--fsdp_version 1: models are sharded by FSDP2; give 2"),
        ({"FSDP_OFFLOAD_PARAMS": "true"}, {}, "--fsdp_offload_params true: .*; give false"),
        ({"FSDP_CPU_RAM_EFFICIENT_LOADING": "true"}, {}, "--fsdp_cpu_ram_efficient_loading true: .*; give false"),
        ({"FSDP_ACTIVATION_CHECKPOINTING": "True"}, {}, "--gradient_checkpointing true; give false"),
        ({"FSDP_AUTO_WRAP_POLICY": "SIZE_BASED_WRAP"}, {}, "give TRANSFORMER_BASED_WRAP, which finds the blocks"),
        ({}, {"compiled": True}, "--use_fsdp: a model in pieces has no compile: true"),
        ({}, {"optim": "adamw_8bit"}, "--use_fsdp: a model in pieces has no optim: adamw_8bit"),
    ],
)
def test_what_sharding_cannot_do_is_refused(
    monkeypatch: pytest.MonkeyPatch, asked: dict[str, str], settings: dict[str, Any], message: str
) -> None:
    known: dict[str, Any] = {"compiled": False, "optim": "adamw"}
    require_shardable(**known | settings)  # nothing is asked for
    for variable, value in ({"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"} | asked).items():
        monkeypatch.setenv(variable, value)
    with pytest.raises(ValueError, match=message):
        require_shardable(**known | settings)


def test_what_agrees_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "false")
    require_obeyed("bf16", accumulate=4)
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "1")
    with pytest.raises(ValueError, match="the run's own precision is fp32"):
        require_obeyed("fp32")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    require_obeyed("auto")
