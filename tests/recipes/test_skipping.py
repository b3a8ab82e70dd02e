"""The recipes with skipping: from scratch, resumed exactly, on two processes, and pruning of what comes of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file

from compress.checkpoint import load_model
from compress.files.reading import read_json_lines
from compress.running.skipping import Skipping, read_skipping
from tests.helpers.jobs import TRAIN_STEPS
from tests.helpers.launching import (
    done,
    metrics,
    run_here,
)

TRAIN, PRUNE = "recipes/train.py", "recipes/prune.py"
LEARN, RECOVER = 3, 2
LOSSES = ("ctc", "skipping_ctc", "skipping_divergence", "total")


@pytest.fixture
def config(configs: Callable[[str], Path]) -> Path:
    return configs("skipping")


@pytest.fixture
def finished(runs: Callable[[str], Path]) -> Path:
    return runs("skipping")


def test_the_losses_are_weighted_and_frames_skip(finished: Path) -> None:
    rows = [row for row in read_json_lines(finished / "metrics.jsonl") if "loss/total" in row]
    assert len(rows) == TRAIN_STEPS
    both = [row for row in rows if "loss/skipped_ctc" in row]
    assert both
    for row in rows:
        last, inner, divergence, total = (row[f"loss/{name}"] for name in LOSSES)
        if row in both:
            last = (last + row["loss/skipped_ctc"]) / 2 + 0.5 * row["loss/skipped_divergence"]
        assert total == pytest.approx(0.7 * last + 0.3 * (inner + divergence), rel=1e-5)
    assert any(0 < share < 1 for share in metrics(finished, "skipped_frames"))


def test_the_models_carry_heads_and_settings(finished: Path) -> None:
    model = load_model(str(finished / "last"))
    assert read_skipping(model.config.skipping) == Skipping(2, 0.07, heads=(1, 2))
    assert model.depths == {3: (1, 2, 3), 4: (0, 1, 2, 3)}
    heads = [name for name in load_file(finished / "last" / "model.safetensors") if name.startswith("skipping_heads.")]
    assert len(heads) == 4


@pytest.fixture
def pruning(config: Path, finished: Path, tmp_path: Path) -> Path:
    """The config of a compression of what was trained."""
    text, path = config.read_text(), tmp_path / "prune.yaml"
    path.write_text(
        f"output: unused\nteacher: {finished / 'last'}\nbudget: {{params: 70%}}\nstructure: learned\nprecision: fp32\n"
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
        TRAIN, config, pruning.parent / "plain", "--skipping", "null", "--max_steps", "2", "--elastic", "null"
    )
    output = run_here(
        PRUNE, pruning, pruning.parent / "added", "--teacher", str(plain / "last"), "--structure", "magnitude",
        "--skipping.first_blocks", "[2]",
    )  # fmt: skip
    assert load_model(str(output / "final")).skipper.settings.heads == (2,)
    assert done(output)["achieved"] <= done(output)["limit"]


def test_two_kinds_of_intermediate_outputs_are_refused(config: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="set inter_ctc to null"):
        run_here(TRAIN, config, tmp_path / "run", "--inter_ctc.blocks", "[1]")
