"""recipes/train.py through its real command lines, on a tiny model and tiny generated speech."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.helpers.launching import (
    ACCELERATE,
    LAUNCH_SECONDS,
    REPOSITORY,
    TINY,
    command,
    done,
    environment,
    launch,
    load_recipe,
    metrics,
    run_alone,
    run_on_two,
    speech_and_config,
)

RECIPE = "recipes/train.py"
STEPS = 6

CONFIG = (
    TINY.replace("BLOCKS", "1")
    + f"""
batch:
  seconds: 12
augment:
  time_masks: 1
  freq_masks: 1
max_steps: {STEPS}
optimizer:
  warmup_steps: 2
evaluate_every_steps: 2
checkpoint_every_steps: 2
log_every_steps: 1
threads: 1
"""
)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return speech_and_config(tmp_path_factory.mktemp("tones"), CONFIG)


@pytest.fixture(scope="module")
def finished(config: Path) -> Path:
    """The output of a whole run, as `accelerate launch --cpu` leaves it."""
    output = config.parent / "finished"
    result = launch(RECIPE, ACCELERATE, config, output)
    assert result.returncode == 0, result.stderr
    assert f"train {STEPS}/{STEPS}" in result.stderr
    assert "left 0:0" in result.stderr
    return output


def test_a_whole_run_leaves_everything(finished: Path) -> None:
    numbers = done(finished)
    assert numbers["steps"] == STEPS
    assert numbers["best_dev_wer"] == min(metrics(finished, "dev/wer"))
    assert len(metrics(finished, "loss/ctc")) == STEPS
    assert len(metrics(finished, "dev/wer")) == STEPS // 2
    assert 0.0 <= numbers["wait_share"] <= 1.0
    assert numbers["seconds"] > 0.0
    assert numbers["skipped_steps"] == 0
    assert sorted(path.name for path in (finished / "checkpoints").iterdir()) == ["step-00000004", "step-00000006"]
    assert list(finished.rglob("events.out.tfevents*"))
    assert json.loads((finished / "config.json").read_text())["optimizer"]["warmup_steps"] == 2


@pytest.mark.parametrize("name", ["best", "last"])
def test_its_models_are_complete(finished: Path, name: str) -> None:
    from compress.checkpoint import load_model, load_processor

    model, processor = load_model(str(finished / name)), load_processor(str(finished / name))
    assert model.num_parameters() == done(finished)["parameters"]
    assert model.config.vocab_size == len(processor.tokenizer)
    assert set(processor.tokenizer.get_vocab()) == {"<pad>", "<unk>", "▁", *"lowmidhg"}


def test_started_again_it_says_that_it_has_ended(config: Path, finished: Path) -> None:
    before = done(finished)
    result = run_alone(RECIPE, config, finished)
    assert result.returncode == 0, result.stderr
    assert "has already ended" in result.stderr
    assert done(finished) == before


def test_other_settings_are_refused(config: Path, finished: Path) -> None:
    result = run_alone(RECIPE, config, finished, "--optimizer.learning_rate", "0.1", "--keep_checkpoints", "5")
    assert result.returncode == 2
    assert "optimizer.learning_rate was 0.0005, is 0.1." in result.stderr
    assert "Traceback" not in result.stderr


def test_killed_and_resumed_equals_never_interrupted(config: Path, finished: Path) -> None:
    output = config.parent / "killed"
    process = subprocess.Popen(
        command(RECIPE, [sys.executable], config, output, "--checkpoint_every_steps", "1", "--keep_checkpoints", "9"),
        cwd=REPOSITORY,
        env=environment(),
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + LAUNCH_SECONDS
    while not (output / "checkpoints" / "step-00000003").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (output / "done.json").exists()

    result = run_alone(RECIPE, config, output)
    assert result.returncode == 0, result.stderr
    assert "going on after" in result.stderr
    assert metrics(output, "loss/ctc") == metrics(finished, "loss/ctc")
    assert metrics(output, "dev/cer") == metrics(finished, "dev/cer")
    for name in ("best", "last"):
        whole = load_file(finished / name / "model.safetensors")
        resumed = load_file(output / name / "model.safetensors")
        assert all(torch.equal(resumed[key], tensor) for key, tensor in whole.items())
    same = ("steps", "best_dev_wer", "best_step", "last_dev_cer", "parameters")
    assert {key: done(output)[key] for key in same} == {key: done(finished)[key] for key in same}


def test_two_processes_leave_the_same(config: Path, finished: Path) -> None:
    output = config.parent / "two"
    result = run_on_two(RECIPE, config, output)
    assert result.returncode == 0, result.stderr
    assert "on 2 process(es)" in result.stderr
    assert result.stderr.count("train 6/6  ctc") == 1
    one, two = (load_file(folder / "last" / "model.safetensors") for folder in (finished, output))
    assert {key: tensor.shape for key, tensor in two.items()} == {key: tensor.shape for key, tensor in one.items()}
    names = {path.name for path in (output / "checkpoints" / "step-00000006").iterdir()}
    assert {"random-0.pt", "random-1.pt"} <= names
    assert set(done(output)) == set(done(finished))


def train_here(config: Path, output: Path, *overrides: str) -> Path:
    from compress.config import parse

    recipe = load_recipe(RECIPE)
    arguments = ["--config", str(config), "--output", str(output), *overrides, "--batch.workers", "0"]
    recipe.main(parse(recipe.Config, arguments, prog="train.py"))
    return output


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
        config, tmp_path / "run", "--max_steps", "200", "--optimizer.learning_rate", "3e-3", "--precision", "fp32",
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
