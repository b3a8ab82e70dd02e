"""`evaluate_models` on real checkpoints: tiny random models of both families and a folder of noise with transcripts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import soundfile
import torch
from transformers import PreTrainedModel

import compress
from compress import Block, Structure
from compress.checkpoint import load_model, save
from compress.conformers import family_of
from compress.data import Batch, BatchConfig, SpeechConfig, SpeechLoader, open_speech
from compress.evaluation import EvaluateConfig, contenders, page
from compress.evaluation import evaluate as evaluation
from compress.evaluation.bootstrap import BootstrapConfig
from compress.evaluation.contenders import Evaluation
from compress.evaluation.evaluate import evaluate_models
from compress.evaluation.measured_aspect import MeasuredAspect
from compress.evaluation.metrics import error_rates
from compress.evaluation.report import Report
from compress.evaluation.speed import SpeedConfig
from compress.evaluation.transcribe import transcribe
from compress.reports.page import Section, Text
from compress.training.tokens import TokensConfig, build_processor
from tests.helpers import tiny

RATE = 16000
LETTERS = "abcdefghijklmnop q"
QUICK = {
    "speed": SpeedConfig(seconds=0.5, warmup=1, repetitions=2),
    "bootstrap": BootstrapConfig(resamples=100),
    "macs_seconds": 1.0,
}
HALVED = {"ffn1": tuple(range(32)), "attention": (0, 2), "conv": None, "ffn2": "all"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve utterances of different length, one of them unreadable, under `test/`."""
    out = tmp_path_factory.mktemp("speech")
    generator = np.random.default_rng(0)
    (out / "test").mkdir()
    lines = ["file_name,transcription"]
    for number in range(12):
        noise = 0.1 * generator.standard_normal(int(RATE * (0.4 + 0.05 * number))).astype(np.float32)
        soundfile.write(out / "test" / f"{number}.wav", noise, RATE)
        lines.append(f"{number}.wav,{' '.join('abcde'[: 1 + number % 4])} {'gh' * (1 + number % 3)}")
    (out / "test" / "11.wav").write_bytes(b"not a sound file")
    (out / "test" / "metadata.csv").write_text("\n".join(lines) + "\n")
    return out


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A full and a compressed Parakeet, and a Wav2Vec2-Conformer, each saved with its processor."""
    out = tmp_path_factory.mktemp("checkpoints")
    processor = build_processor("parakeet", [LETTERS], TokensConfig(), mel_bins=16)
    full = tiny.parakeet()
    save(full, processor, out / "full")
    kept = Structure("parakeet", (Block(**HALVED), None, Block()))
    sizes = {"requested": "params 60% of total", "limit": 600, "expected": 590.0, "achieved": 580, "full": 1000}
    save(compress.remove(full, kept), processor, out / "small", sizes)
    waves = tiny.wav2vec2_conformer("relative")
    save(waves, build_processor("wav2vec2_conformer", [LETTERS], TokensConfig()), out / "waves")
    return {name: str(out / name) for name in ("full", "small", "waves")}


def config(checkpoints: dict[str, str], folder: Path, model: str, **options: Any) -> EvaluateConfig:
    data = SpeechConfig(source=str(folder), split="test", max_bad_fraction=0.2, cache_dir=str(folder / "cache"))
    return EvaluateConfig(
        model=checkpoints[model], data=data, batch=BatchConfig(seconds=2.0, workers=0), **QUICK, **options
    )


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory, checkpoints: dict[str, str], folder: Path) -> Path:
    """The files of a comparison."""
    out = tmp_path_factory.mktemp("report")
    evaluate_models(config(checkpoints, folder, "small", baseline=checkpoints["full"], out=str(out)))
    return out


def test_report_json_holds_the_contract(out: Path, checkpoints: dict[str, str]):
    report = json.loads((out / "report.json").read_text())
    for role, name in (("model", "small"), ("baseline", "full")):
        entry = report[role]
        weights = Path(checkpoints[name]) / "model.safetensors"
        parameters = sum(p.numel() for p in load_model(checkpoints[name]).parameters())
        assert entry["parameters"]["total"] == parameters > entry["parameters"]["encoder"] > 0
        assert entry["bytes"] == weights.stat().st_size
        errors = entry["substitutions"] + entry["deletions"] + entry["insertions"]
        assert entry["wer"] == pytest.approx(errors / entry["words"])
        assert entry["wer_ci95"][0] <= entry["wer"] <= entry["wer_ci95"][1]
        assert entry["cer"] > 0
        assert entry["macs_per_second"] > 0
        assert entry["rtf"] > 0
        assert entry["peak_memory_bytes"] >= 4 * parameters
    low, high = report["difference"]["wer_ci95"]
    assert low <= report["difference"]["wer"] <= high
    assert report["difference"]["wer"] == pytest.approx(report["model"]["wer"] - report["baseline"]["wer"])
    ratio = report["ratio"]
    assert ratio["parameters"] == report["model"]["parameters"]["total"] / report["baseline"]["parameters"]["total"] < 1
    assert ratio["macs"] == report["model"]["macs_per_second"] / report["baseline"]["macs_per_second"] < 1
    assert ratio["speed"] == report["baseline"]["rtf"] / report["model"]["rtf"]


def test_report_says_what_stayed_and_what_was_skipped(out: Path):
    report = json.loads((out / "report.json").read_text())
    first, second, third = report["model"]["blocks"]
    assert second is None
    assert first["ffn1"]["units"] == [32, 64]
    assert first["attention"]["units"] == [2, 4]
    assert first["conv"]["units"][0] == first["conv"]["parameters"][0] == 0
    assert all(module["parameters"][0] == module["parameters"][1] for module in third.values())
    assert [problem["file"] for problem in report["data"]["problems"]] == ["11.wav"]
    assert report["data"]["utterances"] == 11
    assert report["model"]["compression"]["achieved"] == 580
    for key in ("device", "threads", "batch", "seconds", "warmup", "repetitions"):
        assert report["conditions"][key] is not None


def test_all_files_are_written_and_nothing_else(out: Path):
    assert sorted(path.name for path in out.iterdir()) == [
        "report.html",
        "report.json",
        "report.md",
        "transcripts.jsonl",
    ]
    lines = [json.loads(line) for line in (out / "transcripts.jsonl").read_text().splitlines()]
    assert len(lines) == 11
    assert lines[0].keys() == {"id", "seconds", "reference", "model", "baseline"}
    assert (
        "requested params 60% of total, expected 590 (59.00 %), achieved 580 (58.00 %)"
        in (out / "report.md").read_text()
    )


def test_same_model_as_its_own_baseline_differs_by_nothing(checkpoints: dict[str, str], folder: Path):
    report = evaluate_models(config(checkpoints, folder, "full", baseline=checkpoints["full"]))
    assert report["difference"]["wer"] == 0
    assert report["difference"]["wer_ci95"] == [0, 0]
    assert report["ratio"]["parameters"] == report["ratio"]["macs"] == 1


def test_models_with_different_processors_are_compared(checkpoints: dict[str, str], folder: Path):
    """The padding-sensitive family runs one utterance at a time, whatever the batches, and the report says so."""
    report = evaluate_models(config(checkpoints, folder, "waves", baseline=checkpoints["full"], worst=3))
    assert "one utterance at a time" in report["model"]["batching"]
    assert "batches" in report["baseline"]["batching"]
    assert report["model"]["family"] != report["baseline"]["family"]
    assert len(report["worst"]) == 3


@pytest.mark.parametrize("name", ["full", "waves"])
def test_transcripts_do_not_depend_on_batching(checkpoints: dict[str, str], folder: Path, name: str):
    model = load_model(checkpoints[name])
    processor = compress.checkpoint.load_processor(checkpoints[name])
    data = SpeechConfig(source=str(folder), split="test", max_bad_fraction=0.2, cache_dir=str(folder / "cache"))
    dataset = open_speech(data, sampling_rate=RATE)
    rows = {}
    for most in (1, None):
        if most is None and family_of(model).padding_sensitive:
            continue
        loader = SpeechLoader(
            dataset, processor, BatchConfig(seconds=4.0, workers=0, max_utterances=most), shuffle=False
        )
        ids, references, hypotheses = transcribe(model, loader, processor)
        rows[most] = dict(zip(ids, zip(references, hypotheses, strict=True), strict=True))
    assert all(row == rows[1] for row in rows.values())
    assert set(rows[1]) == set(dataset.ids)
    assert error_rates(*zip(*rows[1].values(), strict=True)).words > 0


def test_transcribe_leaves_the_training_mode_as_it_was(checkpoints: dict[str, str], folder: Path):
    model, processor = load_model(checkpoints["full"]).train(), compress.checkpoint.load_processor(checkpoints["full"])
    data = SpeechConfig(
        source=str(folder), split="test", max_bad_fraction=0.2, limit=2, cache_dir=str(folder / "cache")
    )
    loader = SpeechLoader(open_speech(data, sampling_rate=RATE), processor, BatchConfig(workers=0), shuffle=False)
    seen = []
    transcribe(model, loader, processor, on_batch=lambda batch: seen.extend(batch.ids))
    assert model.training
    assert len(seen) == 2


def test_case_is_ignored_unless_asked_for(checkpoints: dict[str, str], folder: Path, tmp_path: Path):
    """Upper-case transcripts of a model that writes lower case: scored alike, or refused."""
    (tmp_path / "test").symlink_to(folder / "test", target_is_directory=True)
    loud = (
        (folder / "test" / "metadata.csv")
        .read_text()
        .upper()
        .replace("FILE_NAME,TRANSCRIPTION", "file_name,transcription")
    )
    upper = tmp_path / "upper"
    upper.mkdir()
    for path in (folder / "test").glob("*.wav"):
        (upper / path.name).symlink_to(path)
    (upper / "metadata.csv").write_text(loud.replace(".WAV", ".wav"))
    quiet = evaluate_models(config(checkpoints, folder, "full"))
    data = SpeechConfig(source=str(upper), split="test", max_bad_fraction=0.2, cache_dir=str(tmp_path / "cache"))
    options = {"data": data, "model": checkpoints["full"], "batch": BatchConfig(seconds=2.0, workers=0), **QUICK}
    assert evaluate_models(EvaluateConfig(**options))["model"]["wer"] == quiet["model"]["wer"]
    with pytest.raises(ValueError, match="outside the vocabulary"):
        evaluate_models(EvaluateConfig(normalise="none", **options))


def test_a_checkpoint_with_pickled_weights_is_refused(checkpoints: dict[str, str], folder: Path, tmp_path: Path):
    pickled = shutil.copytree(checkpoints["full"], tmp_path / "pickled")
    (pickled / "model.safetensors").unlink()
    torch.save(load_model(checkpoints["full"]).state_dict(), pickled / "pytorch_model.bin")
    with pytest.raises(ValueError, match="holds no weights in the safetensors format"):
        evaluate_models(config({"full": str(pickled)}, folder, "full"))


def test_an_unknown_size_is_said_before_anything_is_read(
    checkpoints: dict[str, str], folder: Path, monkeypatch: pytest.MonkeyPatch
):
    def refuse(name: str) -> int:
        raise ValueError(f"{name} holds no weights")

    monkeypatch.setattr(contenders, "bytes_on_disk", refuse)
    monkeypatch.setattr(evaluation, "open_speech", lambda *_, **__: pytest.fail("the data were opened first"))
    with pytest.raises(ValueError, match="holds no weights"):
        evaluate_models(config(checkpoints, folder, "full"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "float8"}, "dtype='float8'.*float32"),
        ({"macs_seconds": 0.0}, "macs_seconds is 0"),
        ({"worst": -1}, "worst is -1"),
        ({"normalise": "upper"}, "normalise='upper'.*lower"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        EvaluateConfig(model="m", **options)


def test_an_unknown_device_is_refused(checkpoints: dict[str, str], folder: Path):
    with pytest.raises(ValueError, match="device='gpu' is unknown"):
        evaluate_models(config(checkpoints, folder, "full", device="gpu"))


def test_a_missing_gpu_is_said(checkpoints: dict[str, str], folder: Path):
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(ValueError, match="no GPU"):
        evaluate_models(config(checkpoints, folder, "full", device="cuda"))


def test_streamed_data_gives_the_same_numbers(checkpoints: dict[str, str], folder: Path, tmp_path: Path):
    """A stream tells neither its length nor its order beforehand; the corpus is the same."""
    lines = [line.split(",") for line in (folder / "test" / "metadata.csv").read_text().splitlines()[1:-1]]
    rows = {
        "audio": [{"bytes": (folder / "test" / name).read_bytes(), "path": name} for name, _ in lines],
        "transcription": [text for _, text in lines],
    }
    datasets.Dataset.from_dict(rows).to_parquet(tmp_path / "test.parquet")
    data = SpeechConfig(source=str(tmp_path / "test.parquet"), split="test", streaming=True)
    options = {"model": checkpoints["small"], "baseline": checkpoints["full"], "batch": BatchConfig(workers=0), **QUICK}
    streamed = evaluate_models(EvaluateConfig(data=data, **options))
    listed = evaluate_models(config(checkpoints, folder, "small", baseline=checkpoints["full"]))
    assert streamed["data"]["utterances"] == listed["data"]["utterances"] == len(lines)
    assert streamed["data"]["seconds"] is None
    assert streamed["model"]["wer"] == listed["model"]["wer"]
    assert streamed["difference"]["wer"] == listed["difference"]["wer"]


class Loud(MeasuredAspect):
    """A made-up aspect: the model can be louder, which is counted, timed and told."""

    name = "loudness"
    about = "how loud the model can be"

    def __init__(self) -> None:
        self.set: list[str] = []

    def watch(self, model: PreTrainedModel) -> Watcher:
        return Watcher()

    def ways(self, model: PreTrainedModel) -> dict[str, Callable[[], None]]:
        return {"loud": lambda: self.set.append("loud")}

    def run_whole(self, model: PreTrainedModel) -> None:
        self.set.append("whole")

    @contextmanager
    def held_still(self, models: Sequence[PreTrainedModel]) -> Iterator[None]:
        self.set.append("still")
        yield
        self.set.append("free")

    def measure(self, evaluation: Evaluation, watcher: Watcher) -> dict[str, Any] | None:
        return {"utterances": watcher.utterances, "rtf": evaluation.speeds["loud"].rtf}

    def sections(self, report: Report) -> list[Section]:
        loudness = report.get(self.name, {})
        return [Section("How loud", [Text(f"Heard {loudness['utterances']} times.")])] if loudness else []


class Watcher:
    def __init__(self) -> None:
        self.utterances = 0

    def __call__(self, batch: Batch) -> None:
        self.utterances += len(batch.ids)


def test_the_next_aspect_is_measured_and_shown_by_its_object_alone(
    checkpoints: dict[str, str], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loud = Loud()
    for module in (evaluation, page):
        monkeypatch.setattr(module, "MEASURED_ASPECTS", (loud,))
    report = evaluate_models(config(checkpoints, folder, "full", baseline=checkpoints["small"], out=str(tmp_path)))
    assert report["loudness"]["utterances"] == 11  # those of the model, not of the baseline
    assert report["loudness"]["rtf"] > 0
    assert report["about"]["loudness"] == loud.about
    assert (loud.set[0], loud.set[-2:]) == ("still", ["free", "whole"])
    assert loud.set.count("loud") == loud.set.count("whole") - 1 > 2
    for name in ("report.md", "report.html"):
        assert "Heard 11 times." in (tmp_path / name).read_text()
