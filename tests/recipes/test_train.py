"""recipes/train.py through its real command lines, on a tiny model and tiny generated speech."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.helpers.jobs import LOG, TRAIN_STEPS
from tests.helpers.launching import (
    done,
    load_recipe,
    metrics,
    run_here,
)

RECIPE = "recipes/train.py"


def train_here(config: Path, output: Path, *overrides: str) -> Path:
    return run_here(RECIPE, config, output, *overrides, "--batch.workers", "0")


@pytest.fixture
def config(configs: Callable[[str], Path]) -> Path:
    return configs("train")


@pytest.fixture
def finished(runs: Callable[[str], Path]) -> Path:
    return runs("train")


def test_a_whole_run_leaves_everything(finished: Path) -> None:
    log = (finished / LOG).read_text()
    assert f"train {TRAIN_STEPS}/{TRAIN_STEPS}" in log
    assert "left 0:0" in log
    numbers = done(finished)
    assert numbers["steps"] == TRAIN_STEPS
    assert numbers["best_dev_wer"] == min(metrics(finished, "dev/wer"))
    assert len(metrics(finished, "loss/ctc")) == TRAIN_STEPS
    assert len(metrics(finished, "dev/wer")) == TRAIN_STEPS // 2
    assert 0.0 <= numbers["wait_share"] <= 1.0
    assert numbers["seconds"] > 0.0
    assert numbers["skipped_steps"] == 0
    assert sorted(path.name for path in (finished / "checkpoints").iterdir()) == ["step-00000004", "step-00000006"]
    assert list(finished.rglob("events.out.tfevents*"))
    assert json.loads((finished / "config.json").read_text())["optimizer"]["warmup_steps"] == 2


def test_two_processes_report_once(runs_on_two: Callable[[str], Path], finished: Path) -> None:
    output = runs_on_two("train")
    log = (output / LOG).read_text()
    assert "on 2 process(es)" in log
    assert log.count(f"train {TRAIN_STEPS}/{TRAIN_STEPS}  loss") == 1
    one, two = (load_file(folder / "last" / "model.safetensors") for folder in (finished, output))
    assert {key: tensor.shape for key, tensor in two.items()} == {key: tensor.shape for key, tensor in one.items()}


@pytest.mark.parametrize("name", ["best", "last"])
def test_its_models_are_complete(finished: Path, name: str) -> None:
    from compress.checkpoint import load_model, load_processor

    model, processor = load_model(str(finished / name)), load_processor(str(finished / name))
    assert model.num_parameters() == done(finished)["parameters"]
    assert model.config.vocab_size == len(processor.tokenizer)
    assert set(processor.tokenizer.get_vocab()) == {"<pad>", "<unk>", "▁", *"lowmidhg"}


def test_goes_on_from_a_checkpoint_with_its_own_tokens(config: Path, finished: Path, tmp_path: Path) -> None:
    text = config.read_text()
    start, end = text.index("model:"), text.index("data:")
    path = tmp_path / "more.yaml"
    path.write_text(text[:start] + f"model:\n  checkpoint: {finished / 'best'}\n" + text[end:])
    output = train_here(path, tmp_path / "run", "--max_steps", "2", "--optimizer.learning_rate", "1e-6")
    before, after = (load_file(folder / "model.safetensors") for folder in (finished / "best", output / "last"))
    assert torch.allclose(before["ctc_head.weight"], after["ctc_head.weight"], atol=1e-4)
    assert (output / "last" / "tokenizer.json").read_text() == (finished / "best" / "tokenizer.json").read_text()


def test_trains_the_other_family_with_word_pieces(config: Path, tmp_path: Path) -> None:
    text = config.read_text().replace("family: parakeet", "family: wav2vec2_conformer")
    text = text.replace("subsampling_conv_channels: 4", "conv_dim: [8, 8, 8, 8, 8]").replace(
        "time_masks: 1", "time_masks: 0"
    )
    path = tmp_path / "other.yaml"
    path.write_text(text.replace("freq_masks: 1", "freq_masks: 0").replace("    subsampling_factor: 4\n", ""))
    output = train_here(
        path, tmp_path / "run", "--max_steps", "2", "--tokens.kind", "bpe", "--tokens.vocabulary_size", "14"
    )
    assert done(output)["steps"] == 2
    assert json.loads((output / "last" / "config.json").read_text())["pad_token_id"] == 0


def test_learns_the_tones(config: Path, tmp_path: Path) -> None:
    output = train_here(
        config, tmp_path / "run", "--max_steps", "200", "--optimizer.learning_rate", "3e-3",
        "--model.settings.hidden_size", "48", "--model.settings.subsampling_conv_channels", "16",
        "--model.settings.dropout", "0.0", "--augment.time_masks", "0", "--augment.freq_masks", "0",
        "--evaluate_every_steps", "200", "--checkpoint_every_steps", "200",
    )  # fmt: skip
    losses = metrics(output, "loss/ctc")
    assert sum(losses[-5:]) < 0.1 * sum(losses[:5])


def test_a_dev_set_is_needed() -> None:
    from compress.data import SpeechConfig
    from compress.training.new_models import ModelConfig

    with pytest.raises(ValueError, match="set dev_split, or dev"):
        load_recipe(RECIPE).Config(
            output="out", data=SpeechConfig(source="x"), model=ModelConfig(family="parakeet"), dev_split=None
        )


def test_a_stream_needs_steps_and_tokens() -> None:
    from compress.data import SpeechConfig
    from compress.training.new_models import ModelConfig

    recipe, stream = load_recipe(RECIPE), SpeechConfig(source="x", streaming=True)
    with pytest.raises(ValueError, match="set max_steps"):
        recipe.Config(output="out", data=stream, model=ModelConfig(checkpoint="x"))
    with pytest.raises(ValueError, match=r"start from model\.checkpoint"):
        recipe.Config(output="out", data=stream, model=ModelConfig(family="parakeet"), max_steps=3)
