"""A report without a model behind it, large enough to show every part of the page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from compress.cost import Size
from compress.evaluation.bootstrap import BootstrapConfig
from compress.evaluation.report import Measurements, Report, Transcripts, build
from compress.evaluation.speed import Speed

WORDS = ("the", "quick", "brown", "fox", "jumps", "over", "seven", "small", "boats", "past", "an", "old", "harbour")
UNITS = {"ffn1": 576, "attention": 4, "conv": 144, "ffn2": 576}
PARAMETERS_PER_UNIT = {"ffn1": 289, "attention": 26000, "conv": 440, "ffn2": 289}
OUTSIDE_BLOCKS = 1_100_000
BOOTSTRAP = BootstrapConfig(resamples=200)


@pytest.fixture(scope="session")
def make_report() -> Callable[..., Report]:
    """Builds a report of a model with gaps in every block, with or without a baseline."""
    return build_report


def build_report(blocks: int = 12, utterances: int = 120, baseline: bool = True, seed: int = 0) -> Report:
    generator = np.random.default_rng(seed)
    references = [" ".join(generator.choice(WORDS, generator.integers(4, 14))) for _ in range(utterances)]
    kept = thinned(generator, blocks)
    measured = {"model": measurements("runs/demo/student/final", references, 0.09, kept, seed + 1)}
    if baseline:
        full: list[Any] = [{name: (n, n) for name, n in UNITS.items()} for _ in range(blocks)]
        measured["baseline"] = measurements("runs/demo/teacher/best", references, 0.07, full, seed + 2)
    return build(measured, data=data_entry(references), conditions=CONDITIONS, bootstrap=BOOTSTRAP, worst=6)


def thinned(generator: np.random.Generator, blocks: int) -> list[Any]:
    """Kept units with a removed module here and there, and the last block but two dropped."""
    kept: list[Any] = []
    for index in range(blocks):
        share = generator.uniform(0.15, 0.95, len(UNITS))
        block = {name: (int(n * s), n) for (name, n), s in zip(UNITS.items(), share, strict=True)}
        if index % 5 == 3:
            block["conv" if index % 2 else "ffn1"] = (0, UNITS["conv" if index % 2 else "ffn1"])
        kept.append(None if index == blocks - 3 else block)
    return kept


def measurements(name: str, references: list[str], error: float, kept: list[Any], seed: int) -> Measurements:
    size, original = sized(kept), sized([{key: (n, n) for key, n in UNITS.items()} for _ in kept])
    share = size.total / original.total
    noise = np.random.default_rng(seed).uniform(0.9, 1.1, 5)
    return Measurements(
        name=name,
        family="parakeet",
        transcripts=transcripts(references, error, seed),
        batching="in batches of up to 80 s",
        size=size,
        original=original,
        kept=kept,
        disk_bytes=4 * size.total + 4096,
        digest=f"{seed:064x}",
        memory_bytes=4 * size.total,
        speed=Speed(tuple(float(value) for value in 0.12 * (0.3 + 0.7 * share) * noise), 10.0, int(9e7 * share)),
        compression={
            "requested": "params 50% of total",
            "metric": "params",
            "expected": 0.4981 * original.total,
            "achieved": size.total,
            "full": original.total,
            "teacher": "runs/demo/teacher/best",
        },
    )


def transcripts(references: list[str], error: float, seed: int) -> Transcripts:
    generator = np.random.default_rng(seed)
    ids = tuple(f"test/speaker-{index % 7}/utterance-{index:04d}.flac" for index in range(len(references)))
    seconds = tuple(0.4 * len(text.split()) for text in references)
    return Transcripts(ids, seconds, tuple(references), tuple(misheard(text, error, generator) for text in references))


def misheard(text: str, error: float, generator: np.random.Generator) -> str:
    words: list[str] = []
    for word in text.split():
        draw = generator.random()
        if draw < 0.5 * error:
            words.append(str(generator.choice(WORDS)))
        elif draw < 0.75 * error:
            continue
        else:
            words.append(word)
        if generator.random() < 0.2 * error:
            words.append(str(generator.choice(WORDS)))
    return " ".join(words)


def sized(kept: list[Any]) -> Size:
    left = [block for block in kept if block is not None]
    rows = [{key: block[key][0] * PARAMETERS_PER_UNIT[key] for key in UNITS} | {"norm": 288} for block in left]
    encoder = OUTSIDE_BLOCKS + sum(sum(row.values()) for row in rows)
    return Size(
        total=encoder + 7250,
        encoder=encoder,
        blocks=rows,
        macs=26 * encoder * 10,
        encoder_macs=26 * encoder * 10,
        block_macs=rows,
        seconds=10.0,
    )


def data_entry(references: list[str]) -> dict[str, Any]:
    return {
        "source": "data/harbour",
        "subset": None,
        "split": "test",
        "utterances": len(references),
        "seconds": 612.0,
        "normalise": "lower",
        "ignores": "case",
        "problems": [{"file": "test/broken <b>.flac", "reason": "cannot be read: no RIFF & no FLAC header"}],
    }


CONDITIONS: dict[str, Any] = {
    "device": "cpu",
    "device_name": "Some Processor, 2 cores",
    "threads": 2,
    "dtype": "float32",
    "batch": 1,
    "seconds": 10.0,
    "warmup": 2,
    "repetitions": 5,
    "timed": "forward pass from prepared features to logits.",
    "memory": "growth of the process's resident memory over one forward pass",
    "torch": "2.11.0",
}
