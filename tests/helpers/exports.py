"""Tiny pruned Parakeets that clients can run, and what PyTorch writes down with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import soundfile
import torch
from torch import Tensor
from transformers import (
    ParakeetCTCConfig,
    ParakeetForCTC,
    ParakeetForRNNT,
    ParakeetForTDT,
    ParakeetProcessor,
    ParakeetRNNTConfig,
    ParakeetTDTConfig,
    PreTrainedModel,
)

from compress.checkpoint import load_recogniser, save
from compress.conformers import family_of
from compress.data import extract_features, feature_extractor_of
from compress.evaluation.generate import GenerateConfig, generate
from compress.evaluation.transcribe import best_tokens
from compress.model.removal import remove
from compress.training.new_models import ModelConfig, build_model
from compress.training.tokens import TokensConfig, build_processor
from tests.helpers.tiny import PARAKEET_ENCODER, SETTINGS, random_structure

BINS = 80
TRANSDUCERS = {"tdt": (ParakeetForTDT, ParakeetTDTConfig), "rnnt": (ParakeetForRNNT, ParakeetRNNTConfig)}


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


def save_talkative_of(family: str, folder: Path) -> None:
    """Saves a pruned model of a family with one kind of features only, which says something all the time."""
    processor = build_processor(family, ["low mid high"], TokensConfig(), mel_bins=128)
    tokenizer = processor.tokenizer
    torch.manual_seed(0)
    config = ModelConfig(family=family, settings=SETTINGS[family] | {"num_hidden_layers": 3})
    model = build_model(config, vocabulary_size=len(tokenizer), blank=tokenizer.pad_token_id).eval()
    _, head = list(model.named_modules())[-1]
    with torch.no_grad():
        head.weight.mul_(20)
        head.bias[tokenizer.pad_token_id] -= 10
        head.bias[tokenizer.unk_token_id] -= 1000
    save(remove(model, random_structure(model, 3)), processor, folder)


def talkative_transducer(kind: str) -> tuple[PreTrainedModel, ParakeetProcessor]:
    """A model that says something all the time, "tdt" or "rnnt", and never stays at a frame without end."""
    of_ctc = build_processor("parakeet", ["low mid high"], TokensConfig(), mel_bins=BINS)
    processor = ParakeetProcessor(of_ctc.feature_extractor, of_ctc.tokenizer, decoder_type=kind)
    model_class, config_class = TRANSDUCERS[kind]
    vocabulary, blank = len(processor.tokenizer), processor.tokenizer.pad_token_id
    config = config_class(
        vocab_size=vocabulary,
        pad_token_id=blank,
        blank_token_id=blank,
        decoder_hidden_size=16,
        num_decoder_layers=2,
        encoder_config=PARAKEET_ENCODER | {"num_mel_bins": BINS, "num_hidden_layers": 2},
    )
    torch.manual_seed(0)
    model = model_class(config).eval()
    with torch.no_grad():
        model.joint.head.weight.mul_(20)
        model.joint.head.bias[processor.tokenizer.unk_token_id] -= 1000
        model.joint.head.bias[vocabulary : vocabulary + 1] -= 1000  # that a token lasts no frame
    model.generation_config.decoder_start_token_id = blank
    model.generation_config.suppress_tokens = list(range(vocabulary, len(model.joint.head.bias))) or None
    return remove(model, random_structure(model, 3)), processor


def wave_files(folder: str, split: str = "dev") -> list[str]:
    return sorted(str(path) for path in Path(folder, split).glob("*.wav"))


def features_of(processor: Any, files: list[str]) -> dict[str, Tensor]:
    """One batch of all files, which are of the model's rate."""
    extractor = feature_extractor_of(processor)
    return extract_features(
        extractor, [soundfile.read(file, dtype="float32")[0] for file in files], extractor.sampling_rate
    )


def written_by_torch(name: str, files: list[str]) -> list[str]:
    model, processor = load_recogniser(name)
    texts = []
    for file in files:
        inputs = features_of(processor, [file])
        with torch.no_grad():
            if family_of(model).has_ctc:
                texts += processor.batch_decode(best_tokens(model, inputs))
            else:
                texts += generate(model, inputs, processor, GenerateConfig())
    return texts
