"""The recipes with skipping: from scratch, resumed exactly, on two processes, and pruning of what comes of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from compress.checkpoint import load_model
from compress.running.skipping import Skipping, read_skipping
from tests.helpers.launching import (
    TINY,
    done,
    metrics,
    run_here,
    run_on_two,
    speech_and_config,
)

TRAIN, PRUNE = "recipes/train.py", "recipes/prune.py"
STEPS, LEARN, RECOVER = 6, 3, 2
LOSSES = ("ctc", "skipping_ctc", "skipping_divergence", "total")

CONFIG = (
    TINY.replace("BLOCKS", "4")
    + f"""
batch:
  seconds: 12
  workers: 0
skipping:
  first_blocks: [1, 2]
  threshold: 0.07
  simulated: 0.8
stochastic_depth: 0.3
elastic:
  depths: [3]
max_steps: {STEPS}
optimizer:
  warmup_steps: 2
evaluate_every_steps: 3
checkpoint_every_steps: 3
log_every_steps: 1
threads: 1
"""
)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return speech_and_config(tmp_path_factory.mktemp("tones"), CONFIG)


@pytest.fixture(scope="module")
def finished(config: Path) -> Path:
    return run_here(TRAIN, config, config.parent / "finished")


def test_the_losses_are_weighted_and_frames_skip(finished: Path) -> None:
    rows = list(zip(*(metrics(finished, f"loss/{name}") for name in LOSSES), strict=True))
    assert len(rows) == STEPS
    for last, inner, divergence, total in rows:
        assert total == pytest.approx(0.7 * last + 0.3 * (inner + divergence), rel=1e-5)
    assert any(0 < share < 1 for share in metrics(finished, "skipped_frames"))


def test_the_models_carry_heads_and_settings(finished: Path) -> None:
    model = load_model(str(finished / "last"))
    assert read_skipping(model.config.skipping) == Skipping(2, 0.07, heads=(1, 2))
    assert model.depths == {3: (1, 2, 3), 4: (0, 1, 2, 3)}
    heads = [name for name in load_file(finished / "last" / "model.safetensors") if name.startswith("skipping_heads.")]
    assert len(heads) == 4


def test_resumed_equals_uninterrupted(config: Path, finished: Path) -> None:
    output = config.parent / "resumed"
    shutil.copytree(finished, output)
    (output / "done.json").unlink()
    shutil.rmtree(output / "checkpoints" / "step-00000006")
    shutil.rmtree(output / "last")
    run_here(TRAIN, config, output)
    whole, resumed = (load_file(folder / "last" / "model.safetensors") for folder in (finished, output))
    assert all(torch.equal(resumed[key], tensor) for key, tensor in whole.items())
    assert metrics(output, "skipped_frames") == metrics(finished, "skipped_frames")


def test_two_processes_train(config: Path) -> None:
    output = config.parent / "two"
    result = run_on_two(TRAIN, config, output)
    assert result.returncode == 0, result.stderr
    assert len(metrics(output, "loss/total")) == STEPS
    assert done(output)["skipped_steps"] == 0


@pytest.fixture(scope="module")
def pruning(config: Path, finished: Path) -> Path:
    text, path = config.read_text(), config.parent / "prune.yaml"
    path.write_text(
        f"output: unused\nteacher: {finished / 'last'}\nbudget: {{params: 70%}}\n"
        + text[text.index("data:") : text.index("skipping:")]
        + f"learn: {{steps: {LEARN}, learning_rate: 1.0e-3, warmup_steps: 1, gate_learning_rate: 0.5}}\n"
        + f"recover: {{steps: {RECOVER}, learning_rate: 1.0e-3}}\nlog_every_steps: 1\nthreads: 1\n"
    )
    return path


def test_a_checkpoint_that_skips_is_pruned_and_learns_on(pruning: Path, finished: Path) -> None:
    output = run_here(PRUNE, pruning, pruning.parent / "pruned")
    for phase, steps in (("learn", LEARN), ("recover", RECOVER)):
        values = metrics(output / phase, "loss/skipping")
        assert len(values) == steps
        assert all(value > 0 for value in values)
    model = load_model(str(output / "final"))
    assert model.skipper.settings.threshold == 0.07
    assert model.num_parameters() < load_model(str(finished / "last")).num_parameters()


def test_pruning_can_add_skipping(config: Path, pruning: Path) -> None:
    plain = run_here(
        TRAIN, config, config.parent / "plain", "--skipping", "null", "--max_steps", "2", "--elastic", "null"
    )
    output = run_here(
        PRUNE, pruning, config.parent / "added", "--teacher", str(plain / "last"), "--structure", "magnitude",
        "--skipping.first_blocks", "[2]",
    )  # fmt: skip
    assert load_model(str(output / "final")).skipper.settings.heads == (2,)
    assert done(output)["achieved"] <= done(output)["limit"]


def test_two_kinds_of_intermediate_outputs_are_refused(config: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="set inter_ctc to null"):
        run_here(TRAIN, config, tmp_path / "run", "--inter_ctc.blocks", "[1]")
