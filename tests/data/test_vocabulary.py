"""Which characters a tokenizer can spell is found by asking it."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Wav2Vec2CTCTokenizer

from compress.data import vocabulary_of
from compress.data.checks import transcript_problem
from compress.data.vocabulary import spell
from tests.helpers.samples import LETTERS

SENTENCES = ["turn on the light", "don't stop the music now", "turn the light off"] * 5


def trained(model: Any, trainer: Any, metaspace: bool) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace() if metaspace else pre_tokenizers.ByteLevel()
    tokenizer.decoder = decoders.Metaspace() if metaspace else decoders.ByteLevel()
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", pad_token="<pad>")


def test_characters(parakeet: Any, wav2vec2: Any) -> None:
    assert vocabulary_of(parakeet) == set(LETTERS + " ")
    assert vocabulary_of(wav2vec2) == set(LETTERS.upper() + " ")


def test_word_pieces() -> None:
    pieces = trained(
        models.BPE(unk_token="<unk>"),
        trainers.BpeTrainer(vocab_size=60, special_tokens=["<unk>", "<pad>"]),
        metaspace=True,
    )
    assert vocabulary_of(pieces) == set("".join(SENTENCES))


def test_bytes_spell_anything() -> None:
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<unk>", "<pad>"], initial_alphabet=alphabet)
    assert vocabulary_of(trained(models.BPE(), trainer, metaspace=False)) is None


def test_what_looks_like_a_special_token_is_spelt_as_text(parakeet: Any) -> None:
    assert spell(parakeet.tokenizer, "a pad") == spell(parakeet.tokenizer, "a ") + spell(parakeet.tokenizer, "pad")
    assert parakeet.tokenizer.pad_token_id not in spell(parakeet.tokenizer, "a<pad>b")


def phonemes(**special: str) -> PreTrainedTokenizerFast:
    tokens = ["<unk>", "<pad>", "e\u026a", "t\u02d0", "ch"]
    tokenizer = Tokenizer(models.WordLevel({token: number for number, token in enumerate(tokens)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", pad_token="<pad>", **special)


def test_tokenizers_in_python_keep_tokens_of_several_characters(tmp_path: Path) -> None:
    """Those of Wav2Vec2 are no special tokens, but are taken apart where these are."""
    tokens = ["<pad>", "<unk>", "|", "e\u026a", "ch", "m"]
    (tmp_path / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(tokens)}))
    tokenizer = Wav2Vec2CTCTokenizer(str(tmp_path / "vocab.json"), bos_token=None, eos_token=None)
    vocabulary = vocabulary_of(tokenizer)
    assert spell(tokenizer, "m m che\u026am") == [5, 2, 5, 4, 3, 5]
    assert transcript_problem("m m che\u026am", vocabulary) is None
    assert tokenizer.pad_token_id not in spell(tokenizer, "ch<pad>")
    for unknown in ("e", "ch<pad>", "m x"):
        assert transcript_problem(unknown, vocabulary) is not None


def test_tokens_of_several_characters_are_asked_about_as_a_whole() -> None:
    vocabulary = vocabulary_of(phonemes())
    assert vocabulary == set()
    assert transcript_problem("e\u026a ch t\u02d0", vocabulary) is None
    assert transcript_problem("e\u026a x", vocabulary) == "characters outside the vocabulary: ' ' 'e' 'x' '\u026a'"
    assert transcript_problem("ch <pad>", vocabulary) is not None
    sent = pickle.loads(pickle.dumps(vocabulary))
    assert transcript_problem("ch ch", sent) is None


def test_a_tokenizer_that_normalises_spells_what_it_normalises() -> None:
    tokenizer = phonemes()
    tokenizer.backend_tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), normalizers.Strip()])
    assert transcript_problem("CH E\u026a", vocabulary_of(tokenizer)) is None
