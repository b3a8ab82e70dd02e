"""recipes/train.py with intermediate CTC and stochastic depth: resumed exactly, on two processes, fine-tuning."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from compress.checkpoint import load_model
from tests.helpers.jobs import TRAIN_STEPS
from tests.helpers.launching import (
    done,
    metrics,
    run_here,
)

RECIPE = "recipes/train.py"


@pytest.fixture
def config(configs: Callable[[str], Path]) -> Path:
    return configs("depths")


@pytest.fixture
def finished(runs: Callable[[str], Path]) -> Path:
    return runs("depths")


def test_all_losses_are_reported_and_finite(finished: Path) -> None:
    for name in ("ctc", "inter_ctc", "total"):
        values = metrics(finished, f"loss/{name}")
        assert len(values) == TRAIN_STEPS
        assert all(value == value for value in values)
    rows = zip(*(metrics(finished, f"loss/{name}") for name in ("ctc", "inter_ctc", "total")), strict=True)
    assert all(total == pytest.approx(0.5 * last + 0.5 * inner, rel=1e-5) for last, inner, total in rows)


def test_the_models_are_elastic_and_each_depth_has_its_head(finished: Path) -> None:
    model = load_model(str(finished / "last"))
    assert model.depths == {2: (0, 1), 4: (0, 1, 2, 3)}
    rates = done(finished)["last_dev_wer_by_depth"]
    assert rates["4"] == done(finished)["last_dev_wer"]
    assert list(rates) == ["2", "4"]
    assert done(finished)["best_dev_wer"] == min(metrics(finished, "dev/wer/mean"))
    assert metrics(finished, "dev/wer") == metrics(finished, "dev/wer/4")
    assert len(metrics(finished, "dev/wer/2")) == TRAIN_STEPS // 3
    assert set(load_file(finished / "last" / "model.safetensors")) == set(model.state_dict())
    inside = load_file(finished / "checkpoints" / "step-00000006" / "model.safetensors")
    assert torch.equal(inside["inter_ctc.heads.0.bias"], model.state_dict()["ctc_head.per_size.0.bias"])


@pytest.mark.parametrize("heads", ["shared", "separate"])
def test_a_checkpoint_is_fine_tuned(config: Path, finished: Path, tmp_path: Path, heads: str) -> None:
    text = config.read_text()
    path = tmp_path / "more.yaml"
    path.write_text(
        text[: text.index("model:")]
        + f"model:\n  checkpoint: {finished / 'best'}\n"
        + text[text.index("data:") :].replace("heads: separate", f"heads: {heads}")
    )
    output = run_here(RECIPE, path, tmp_path / "run", "--max_steps", "2")
    rows = zip(*(metrics(output, f"loss/{name}") for name in ("ctc", "inter_ctc", "total")), strict=True)
    assert all(total == pytest.approx(0.7 * last + 0.3 * inner, rel=1e-5) for last, inner, total in rows)


def test_without_depths_the_full_size_goes_on_alone(config: Path, finished: Path, tmp_path: Path) -> None:
    """The heads of the others would stay as they are while the blocks under them are trained."""
    path, more = tmp_path / "more.yaml", ("--elastic", "null", "--inter_ctc", "null", "--max_steps", "2")
    text = config.read_text()
    path.write_text(f"model: {{checkpoint: {finished / 'best'}}}\noutput: O\n" + text[text.index("data:") :])
    output = run_here(RECIPE, path, tmp_path / "run", *more)
    model = load_model(str(output / "last"))
    assert type(model).__name__ == "ParakeetForCTC"
    assert not any("per_size" in name for name in load_file(output / "last" / "model.safetensors"))
    assert "last_dev_wer_by_depth" not in done(output)


def test_a_wrong_rate_is_refused_by_name(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run_here(RECIPE, config, tmp_path / "run", "--stochastic_depth", "1.5")
    assert "stochastic_depth is 1.5; give the probability" in capsys.readouterr().err


def test_a_depth_that_the_model_cannot_have_is_refused(config: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has 4 blocks and can run at depth 1 to 4, not at 9"):
        run_here(RECIPE, config, tmp_path / "run", "--elastic.depths", "[9]")
