"""What the launcher asks for is done, or refused before anything else."""

from __future__ import annotations

import pytest

from compress.training.loop.launcher import require_obeyed


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        (
            "ACCELERATE_GRADIENT_ACCUMULATION_STEPS",
            "4",
            "--gradient_accumulation_steps 4: the run itself accumulates 1; give --accumulate 4",
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
        ("ACCELERATE_USE_FSDP", "true", "--use_fsdp: models are not sharded here; launch without it"),
        ("ACCELERATE_USE_DEEPSPEED", "true", "--use_deepspeed: models are not sharded here"),
    ],
)
def test_what_is_not_obeyed_is_refused(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, message: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ValueError, match=message):
        require_obeyed("auto")


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
