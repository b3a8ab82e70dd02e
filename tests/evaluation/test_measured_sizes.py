"""`compress evaluate` on an elastic checkpoint: every depth, as the extracted model would be measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from rich.console import Console

from compress.checkpoint import save
from compress.data import BatchConfig, SpeechConfig
from compress.elastic import ElasticConfig, extract, make_elastic, rule_structures
from compress.evaluation import EvaluateConfig
from compress.evaluation.bootstrap import BootstrapConfig
from compress.evaluation.evaluate import evaluate_models
from compress.evaluation.page import page_of
from compress.evaluation.speed import SpeedConfig
from compress.reports.console import show
from compress.reports.markdown import render_markdown
from compress.training.tokens import TokensConfig, build_processor
from tests.helpers import tiny

RATE = 16000
EQUAL = ("wer", "wer_ci95", "cer", "macs_per_second")


def evaluate(model: str, speech: Path, **options: Any) -> dict[str, Any]:
    return evaluate_models(
        EvaluateConfig(
            model=model,
            data=SpeechConfig(source=str(speech), split="test", cache_dir=str(speech / "cache")),
            batch=BatchConfig(seconds=2.0, workers=0),
            speed=SpeedConfig(seconds=0.5, warmup=1, repetitions=2),
            bootstrap=BootstrapConfig(resamples=100),
            macs_seconds=1.0,
            **options,
        )
    )


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("speech")
    (out / "test").mkdir()
    generator, lines = np.random.default_rng(0), ["file_name,transcription"]
    for number in range(6):
        noise = 0.1 * generator.standard_normal(int(RATE * (0.4 + 0.05 * number))).astype(np.float32)
        soundfile.write(out / "test" / f"{number}.wav", noise, RATE)
        lines.append(f"{number}.wav,{' '.join('abcde'[: 1 + number % 4])}")
    (out / "test" / "metadata.csv").write_text("\n".join(lines) + "\n")
    return out


@pytest.fixture(scope="module")
def elastic(tmp_path_factory: pytest.TempPathFactory) -> str:
    model = tiny.parakeet()
    with torch.no_grad():
        model.ctc_head.weight.mul_(50.0)  # so that it writes something other at each depth
    folder = tmp_path_factory.mktemp("checkpoints") / "elastic"
    processor = build_processor("parakeet", ["abcdefghijklmnop q"], TokensConfig(), mel_bins=16)
    save(make_elastic(model, rule_structures(model, ElasticConfig(depths=(1, 2)))), processor, folder)
    return str(folder)


@pytest.fixture(scope="module")
def out(elastic: str, speech: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    evaluate(elastic, speech, out=str(folder), baseline=elastic)
    return folder


def test_every_depth_is_measured_as_the_extracted_model(elastic: str, speech: Path, out: Path, tmp_path: Path) -> None:
    report = json.loads((out / "report.json").read_text())
    assert [one["size"] for one in report["sizes"]] == ["1", "2", "3"]
    assert [one["runs"] for one in report["sizes"]] == ["blocks 2", "blocks 1 2", "blocks 0 1 2"]
    assert len({one["cer"] for one in report["sizes"]}) > 1
    for one in report["sizes"]:
        assert one["rtf"] > 0.0
        small = str(tmp_path / one["size"])
        extract(elastic, small, size=one["size"])
        alone = evaluate(small, speech)["model"]
        assert {key: one[key] for key in EQUAL} == {key: alone[key] for key in EQUAL}
        assert one["parameters"] == alone["parameters"]["total"]


def test_the_model_itself_is_measured_at_its_full_depth(out: Path) -> None:
    report = json.loads((out / "report.json").read_text())
    assert report["sizes"][-1]["wer"] == report["model"]["wer"] == report["baseline"]["wer"]
    assert report["sizes"][-1]["parameters"] == report["model"]["parameters"]["total"]
    assert report["difference"]["wer"] == 0.0


def test_pages_and_terminal_show_a_row_per_depth_and_a_plot(out: Path) -> None:
    report = json.loads((out / "report.json").read_text())
    page, console = (out / "report.html").read_text(), Console(record=True, width=160)
    assert "At each size" in page
    assert page.count(">size 2</") == 4  # the plot, and a bar each for parameters, MACs and real-time factor
    assert "| 2 | blocks 1 2 |" in render_markdown(page_of(report))
    show(page_of(report), console)
    assert "At each size" in console.export_text()


def test_other_models_have_no_such_table(speech: Path, elastic: str, tmp_path: Path) -> None:
    extract(elastic, str(tmp_path / "small"), depth=2)
    report = evaluate(str(tmp_path / "small"), speech, out=str(tmp_path / "report"))
    assert "sizes" not in report
    assert "At each size" not in (tmp_path / "report" / "report.html").read_text()
