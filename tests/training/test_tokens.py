from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compress.conformers import NEW_MODELS
from compress.data import vocabulary_of
from compress.training.new_models import ModelConfig, build_model
from compress.training.tokens import TokensConfig, build_processor
from tests.helpers import forked
from tests.helpers.tiny import SETTINGS

TEXTS = [
    "the cat sat on the mat",
    "a dog's life is hard",
    "turn the volume up in the kitchen",
    "see  the moon and all the stars",
    "hello all you happy people",
]
KINDS = ("characters", "bpe", "unigram")
COMBINATIONS = list(product(NEW_MODELS, KINDS))


def build(family: str, kind: str) -> Any:
    return build_processor(family, TEXTS, TokensConfig(kind, 44))  # type: ignore[arg-type]


def as_ctc(tokens: list[int], blank: int) -> list[int]:
    """Each token twice, then a blank: what greedy decoding has to undo."""
    return [frame for token in tokens for frame in (token, token, blank)]


@pytest.mark.parametrize(("family", "kind"), COMBINATIONS)
def test_every_transcript_can_be_spelled_and_read_back(family: str, kind: str) -> None:
    processor = build(family, kind)
    tokenizer = processor.tokenizer
    size, blank = len(tokenizer), tokenizer.pad_token_id
    assert blank == (size - 1 if family == "parakeet" else 0)
    assert sorted(tokenizer.get_vocab().values()) == list(range(size))
    for text in TEXTS:
        tokens = tokenizer(text).input_ids
        assert tokenizer.unk_token_id not in tokens
        assert blank not in tokens
        (read,) = processor.batch_decode([[blank, *as_ctc(tokens, blank)]])
        assert " ".join(read.split()) == " ".join(text.split())


@pytest.mark.parametrize(("family", "kind"), COMBINATIONS)
def test_blanks_spaces_and_nothing_decode_to_nothing(family: str, kind: str) -> None:
    processor = build(family, kind)
    blank = processor.tokenizer.pad_token_id
    space = [token for name, token in processor.tokenizer.get_vocab().items() if name in ("▁", "|")]
    assert processor.batch_decode([[], [blank, blank], space, [*space, blank, *space]]) == ["", "", "", ""]


@pytest.mark.parametrize(("family", "kind"), COMBINATIONS)
def test_the_data_loader_sees_the_same_alphabet(family: str, kind: str) -> None:
    assert vocabulary_of(build(family, kind)) == set("".join(TEXTS))


def test_pieces_are_longer_than_characters() -> None:
    lengths = {
        kind: len(build("parakeet", kind).tokenizer("turn the volume up in the kitchen").input_ids) for kind in KINDS
    }
    assert lengths["bpe"] < lengths["characters"]
    assert lengths["unigram"] < lengths["characters"]


RELOAD = """
import json, sys
import numpy as np
import compress
from transformers import AutoModelForCTC, AutoProcessor, pipeline
results = {}
for folder, frames in json.loads(sys.argv[1]).items():
    processor = AutoProcessor.from_pretrained(folder)
    transcriber = pipeline("automatic-speech-recognition", model=folder)
    noise = np.random.default_rng(0).standard_normal(16000).astype(np.float32)
    results[folder] = [type(processor).__name__, processor.batch_decode([frames])[0], transcriber(noise)["text"]]
print(json.dumps(results))
"""


def test_processors_and_models_work_in_a_fresh_process(tmp_path: Path) -> None:
    text = "see the dog's moon all"
    frames, texts = {}, {}
    for family, kind in COMBINATIONS:
        folder = tmp_path / f"{family}-{kind}"
        processor = build(family, kind)
        tokenizer = processor.tokenizer
        features = {NEW_MODELS[family].mel_bins: 80} if NEW_MODELS[family].mel_bins else {}
        config = ModelConfig(family, SETTINGS[family] | features)
        model = build_model(config, vocabulary_size=len(tokenizer), blank=tokenizer.pad_token_id)
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
        frames[str(folder)] = as_ctc(tokenizer(text).input_ids, tokenizer.pad_token_id)
        texts[str(folder)] = [type(processor).__name__, text]
    done = forked.run(["-c", RELOAD, json.dumps(frames)])
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout.splitlines()[-1])
    assert {folder: result[:2] for folder, result in results.items()} == texts
    assert all(isinstance(result[2], str) and "<pad>" not in result[2] for result in results.values())


def test_a_limit_below_the_alphabet_is_refused() -> None:
    with pytest.raises(ValueError, match=r"vocabulary_size is 10, but single characters already take 2\d"):
        build_processor("parakeet", TEXTS, TokensConfig("bpe", 10))


def test_no_text_is_refused() -> None:
    with pytest.raises(ValueError, match="no transcript"):
        build_processor("parakeet", ["", "  "], TokensConfig())


def test_a_reserved_character_is_refused_with_the_remedy() -> None:
    with pytest.raises(ValueError, match=r"tokens\.kind to bpe"):
        build_processor("wav2vec2_conformer", ["a|b"], TokensConfig())


def test_an_unknown_family_is_refused() -> None:
    with pytest.raises(ValueError, match="choose one of parakeet"):
        build_processor("whisper", TEXTS, TokensConfig())


def test_the_mel_bins_reach_the_features() -> None:
    processor = build_processor("parakeet", TEXTS, TokensConfig(), mel_bins=40)
    features = processor.feature_extractor(np.zeros(1600, np.float32), sampling_rate=16000).input_features
    assert features.shape[-1] == 40
