"""Timing in alternation, peak memory, and bytes on disk."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from compress.checkpoint.weights import bytes_on_disk
from compress.evaluation import speed
from compress.evaluation.memory import peak_growth_bytes, weights_in_memory
from compress.evaluation.speed import Speed, SpeedConfig, conditions, measure, speed_inputs
from compress.training.tokens import TokensConfig, build_processor
from tests.helpers import tiny

CPU = torch.device("cpu")
MIB = 2**20


def test_models_take_turns_and_warm_up_is_not_counted():
    calls: list[str] = []
    passes = {name: lambda name=name: calls.append(name) for name in ("model", "baseline")}
    times = speed._alternate(passes, SpeedConfig(warmup=1, repetitions=3))
    assert calls == ["model", "baseline", "baseline", "model"] * 2
    assert {name: len(values) for name, values in times.items()} == {"model": 3, "baseline": 3}


def test_median_counts_and_batch_seconds_divide():
    result = Speed(times_seconds=(0.1, 9.0, 0.3), audio_seconds=20.0, activation_bytes=0)
    assert result.median_seconds == 0.3
    assert result.rtf == pytest.approx(0.015)


def test_measure_reports_conditions_and_restores_threads():
    model = tiny.parakeet()
    config = SpeedConfig(seconds=0.5, batch=2, warmup=0, repetitions=2, threads=2)
    processor = build_processor("parakeet", ["ab c"], TokensConfig(), mel_bins=16)
    inputs = speed_inputs(processor, 16000, config)
    assert inputs["input_features"].shape[0] == 2
    before = torch.get_num_threads()
    result = measure({"model": model}, {"model": inputs}, config)["model"]
    assert torch.get_num_threads() == before
    assert len(result.times_seconds) == 2
    assert result.audio_seconds == 1.0
    assert result.rtf > 0
    stated = conditions(CPU, torch.float32, config)
    assert (stated["threads"], stated["batch"], stated["seconds"], stated["repetitions"]) == (2, 2, 0.5, 2)
    assert "features" in stated["timed"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seconds": 0}, "speed.seconds is 0"),
        ({"batch": 0}, "speed.batch is 0"),
        ({"threads": 0}, "speed.threads is 0"),
    ],
)
def test_impossible_conditions_are_refused(options: dict[str, float], message: str):
    with pytest.raises(ValueError, match=message):
        SpeedConfig(**options)  # type: ignore[arg-type]


def test_peak_memory_sees_what_was_freed_again():
    def work() -> None:
        block = np.ones(96 * MIB, dtype=np.uint8)
        block.sum()

    assert peak_growth_bytes(work, CPU) > 64 * MIB
    assert peak_growth_bytes(lambda: None, CPU) < 32 * MIB


def test_weights_in_memory_counts_shared_tensors_once():
    layer = torch.nn.Linear(10, 10, bias=False)
    shared = torch.nn.Linear(10, 10, bias=False)
    shared.weight = layer.weight
    assert weights_in_memory(torch.nn.Sequential(layer, shared)) == 400


def test_bytes_on_disk_of_a_folder(tmp_path: Path):
    (tmp_path / "model.safetensors").write_bytes(b"x" * 100)
    (tmp_path / "optimizer.safetensors").write_bytes(b"x" * 1000)
    assert bytes_on_disk(str(tmp_path)) == 100


def test_bytes_on_disk_adds_the_shards_of_an_index(tmp_path: Path):
    for number, size in enumerate((10, 20, 40)):
        (tmp_path / f"part-{number}.safetensors").write_bytes(b"x" * size)
    weights = {"a": "part-0.safetensors", "b": "part-2.safetensors", "c": "part-2.safetensors"}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weights}))
    assert bytes_on_disk(str(tmp_path)) == 50


def test_bytes_on_disk_of_pickled_weights(tmp_path: Path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"x" * 30)
    (tmp_path / "training_args.bin").write_bytes(b"x" * 1000)
    assert bytes_on_disk(str(tmp_path)) == 30
    (tmp_path / "model.safetensors").write_bytes(b"x" * 20)
    assert bytes_on_disk(str(tmp_path)) == 20


def test_bytes_on_disk_adds_pickled_shards(tmp_path: Path):
    for number, size in enumerate((10, 20)):
        (tmp_path / f"pytorch_model-{number}.bin").write_bytes(b"x" * size)
    weights = {"a": "pytorch_model-0.bin", "b": "pytorch_model-1.bin"}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weights}))
    assert bytes_on_disk(str(tmp_path)) == 30


def test_bytes_on_disk_of_a_cached_hub_model(tmp_path: Path):
    repository = tmp_path / "models--someone--speech"
    commit = "0123456789abcdef0123456789abcdef01234567"
    (repository / "snapshots" / commit).mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    (repository / "snapshots" / commit / "model.safetensors").write_bytes(b"x" * 70)
    assert bytes_on_disk("someone/speech", cache_dir=str(tmp_path)) == 70
    with pytest.raises(ValueError, match="neither a folder nor"):
        bytes_on_disk("someone/else", cache_dir=str(tmp_path))


def test_folder_without_weights_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match=r"no model\.safetensors or pytorch_model\.bin"):
        bytes_on_disk(str(tmp_path))
