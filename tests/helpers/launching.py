"""Launching the recipes as a user does, on tiny generated speech."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from compress.config import parse
from tests.helpers import forked

REPOSITORY = Path(__file__).resolve().parents[2]
RATE = 16000
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
FORKING = ("--start-method", "fork", "--run-path")
"""By which torchrun forks, and does not import torch anew in every process."""
SHARDED = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP"}
"""What `accelerate launch` sets for models in pieces."""
TINY = """
output: OUTPUT
precision: fp32
model:
  family: parakeet
  settings:
    hidden_size: 16
    num_hidden_layers: BLOCKS
    num_attention_heads: 2
    intermediate_size: 32
    subsampling_conv_channels: 4
    subsampling_factor: 4
data:
  source: DATA
  cache_dir: CACHE
"""
"""How the config of a tiny model on this speech begins; see `speech_and_config`."""
PITCHES = {"low": 200.0, "mid": 500.0, "high": 1200.0}


def speak(words: Sequence[str], random: np.random.Generator) -> np.ndarray:
    """A "sentence": half a second of one tone a word."""
    time_axis = np.arange(RATE // 2) / RATE
    tones = [np.sin(2 * np.pi * PITCHES[word] * time_axis) for word in words]
    return 0.3 * np.concatenate(tones) + 0.01 * random.standard_normal(len(words) * len(time_axis))


def make_split(folder: Path, count: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    with (folder / "metadata.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["file_name", "transcription"])
        for number in range(count):
            words = random.choice(list(PITCHES), size=random.integers(2, 5)).tolist()
            soundfile.write(folder / f"{number}.wav", speak(words, random), RATE)
            rows.writerow([f"{number}.wav", " ".join(words)])


def speech_and_config(folder: Path, text: str) -> Path:
    """Speech of train and dev, and a config with its `DATA`, `CACHE` and `OUTPUT` filled in, all in a folder."""
    make_split(folder / "speech" / "train", 24, seed=1)
    make_split(folder / "speech" / "dev", 7, seed=2)
    for word, name in (("DATA", "speech"), ("CACHE", "cache"), ("OUTPUT", "run")):
        text = text.replace(word, str(folder / name))
    path = folder / "tones.yaml"
    path.write_text(text)
    return path


def command(recipe: str, launcher: Sequence[str], config: Path, output: Path, *overrides: str) -> list[str]:
    return [*launcher, recipe, "--config", str(config), "--output", str(output), *overrides]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}


def run_alone(recipe: str, config: Path, output: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    """Runs a recipe in a process of its own."""
    return forked.run(command(recipe, (), config, output, *overrides))


def run_by_torchrun(recipe: str, config: Path, output: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    """Runs a recipe on two processes that torchrun starts."""
    return forked.run(command(recipe, (*TORCHRUN, *FORKING), config, output, *overrides), **forked.ON_CPU)


def run_on_two(
    recipe: str, config: Path, output: Path, *overrides: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Runs a recipe on two processes that train together."""
    return forked.run_two(command(recipe, (), config, output, *overrides), **environment)


def metrics(output: Path, name: str) -> list[float]:
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return [line[name] for line in lines if name in line]


def done(output: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((output / "done.json").read_text())
    return result


def run_here(recipe: str, config: Path, output: Path, *overrides: str) -> Path:
    """Runs a recipe in this process; returns its output folder."""
    module = load_recipe(recipe)
    module.main(parse(module.Config, ["--config", str(config), "--output", str(output), *overrides], prog=recipe))
    return output


def load_recipe(recipe: str) -> Any:
    spec = importlib.util.spec_from_file_location(Path(recipe).stem + "_recipe", REPOSITORY / recipe)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
