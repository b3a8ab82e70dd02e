"""What a step will take is known before it takes it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from compress.cli import main
from compress.data import BatchConfig
from compress.training.memory import StepConfig, predicted_memory
from tests.helpers.launching import REPOSITORY, environment
from tools.experiments.measure_memory import HANDED_BACK, MemoryConfig, model_config

SMALL = ("--hidden_size", "128", "--blocks", "2", "--repetitions", "2", "--variant", "plain")


def test_the_prediction_is_what_a_process_grows_by(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = MemoryConfig(hidden_size=128, blocks=2)
    model_config(config).save_pretrained(tmp_path)
    step = ("--seconds", str(config.step.seconds), "--batch.seconds", str(config.step.batch.seconds))
    main(["inspect", str(tmp_path), "--train", "true", "--json", "true", "--precision", "fp32", *step])
    predicted = json.loads(capsys.readouterr().out)
    command = [sys.executable, "-m", "tools.experiments.measure_memory", *SMALL]  # allocators read settings once
    ended = subprocess.run(
        command, env=environment() | HANDED_BACK, cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    measured = json.loads(ended.stdout.splitlines()[-1])["bytes"]
    assert predicted["total"] == pytest.approx(measured, rel=0.2)
    assert predicted["total"] == sum(predicted[kind] for kind in ("weights", "gradients", "optimizer", "activations"))


def test_matrices_have_one_moment_with_muon() -> None:
    config = model_config(MemoryConfig(hidden_size=32, blocks=1))
    both, one = (
        predicted_memory(config, StepConfig(seconds=2.0, batch=BatchConfig(seconds=4.0), optim=optim))["optimizer"]
        for optim in ("adamw", "muon")
    )
    assert 0.5 * both < one < 0.7 * both
