"""A tiny pruned Parakeet that clients can run, and what PyTorch writes down with it."""

from __future__ import annotations

from pathlib import Path

import soundfile
import torch
from transformers import ParakeetCTCConfig, ParakeetForCTC

from compress.checkpoint import load_recogniser, save
from compress.data import extract_features, feature_extractor_of
from compress.evaluation.transcribe import best_tokens
from compress.model.removal import remove
from compress.training.tokens import TokensConfig, build_processor
from tests.helpers.tiny import PARAKEET_ENCODER, random_structure

BINS = 80


def save_talkative(folder: Path) -> None:
    """Saves a model with the features of Parakeet's own checkpoints, which says something all the time."""
    processor = build_processor("parakeet", ["low mid high"], TokensConfig(), mel_bins=BINS)
    blank = processor.tokenizer.pad_token_id
    config = ParakeetCTCConfig(
        vocab_size=len(processor.tokenizer),
        pad_token_id=blank,
        encoder_config=PARAKEET_ENCODER | {"num_mel_bins": BINS},
    )
    torch.manual_seed(0)
    model = ParakeetForCTC(config).eval()
    with torch.no_grad():
        model.ctc_head.weight.mul_(20)
        model.ctc_head.bias[blank] -= 10
        model.ctc_head.bias[processor.tokenizer.unk_token_id] -= 1000
    save(remove(model, random_structure(model, 3)), processor, folder)


def wave_files(folder: str, split: str = "dev") -> list[str]:
    return sorted(str(path) for path in Path(folder, split).glob("*.wav"))


def written_by_torch(name: str, files: list[str]) -> list[str]:
    model, processor = load_recogniser(name)
    texts = []
    for file in files:
        audio, rate = soundfile.read(file, dtype="float32")
        inputs = extract_features(feature_extractor_of(processor), [audio], rate)
        with torch.no_grad():
            texts += processor.batch_decode(best_tokens(model, inputs))
    return texts
