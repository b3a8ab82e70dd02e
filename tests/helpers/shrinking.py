"""Command lines of `compress shrink` that end soon."""

from __future__ import annotations

from pathlib import Path

from compress.checkpoint import save
from compress.training.tokens import TokensConfig, build_processor
from tests.helpers import tiny

QUICK = ["--batch.workers", "0", "--refit.utterances", "6"]


def spelling_checkpoint(folder: Path) -> str:
    """Writes a tiny Parakeet that spells what is said in speech of tones."""
    model, processor = tiny.parakeet(), build_processor("parakeet", ["low mid high"], TokensConfig(), mel_bins=16)
    model.config.pad_token_id = processor.tokenizer.pad_token_id
    save(model, processor, folder)
    return str(folder)


def words(speech: Path, out: Path, *more: str) -> list[str]:
    return ["--data", str(speech), "--data.cache_dir", str(speech / "cache"), "--out", str(out), *QUICK, *more]
