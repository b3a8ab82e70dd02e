"""Which characters a tokenizer can spell is found by asking it."""

from __future__ import annotations

from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from compress.data import vocabulary_of
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
