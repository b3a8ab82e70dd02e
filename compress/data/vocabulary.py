"""Which characters a model's tokenizer can spell."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable, Sequence
from typing import Any

OUTSIDER = "\u2603"
"""A snowman: whoever can spell it can spell anything (byte-level vocabularies and byte fallback)."""


class Alphabet(frozenset[str]):
    """Characters that some tokenizers can spell one by one, and the tokenizers, to ask about whole transcripts.

    A tokenizer may know `ɑː` or `ch` and none of its characters; it may write several characters as one.
    """

    tokenizers: Sequence[Any]

    def __new__(cls, characters: Iterable[str], tokenizers: Sequence[Any] = ()) -> Alphabet:
        """Makes an alphabet.

        Args:
            characters: those that every tokenizer can spell by themselves.
            tokenizers: of the models.
        """
        alphabet = super().__new__(cls, characters)
        alphabet.tokenizers = tokenizers
        return alphabet

    def spells(self, text: str) -> bool:
        """Says whether every tokenizer can spell a whole transcript, though perhaps not each of its characters."""
        return bool(self.tokenizers) and all(_spells_whole(tokenizer, text) for tokenizer in self.tokenizers)


def can_spell(vocabulary: Collection[str], text: str) -> bool:
    """Says whether a transcript can be spelt: character by character or, where tokenizers can be asked, as a whole."""
    if set(text) <= set(vocabulary):
        return True
    return isinstance(vocabulary, Alphabet) and vocabulary.spells(text)


def vocabulary_of(processor: Any) -> Alphabet | None:
    """Returns the characters that a processor's tokenizer can spell, found by asking it.

    Args:
        processor: a `transformers` processor with a `tokenizer`, or a tokenizer.

    Returns:
        Its characters, the space included if words stay apart; `None` if it can spell anything.
    """
    tokenizer = getattr(processor, "tokenizer", processor)
    if _spells(tokenizer, OUTSIDER):
        return None
    special = set(tokenizer.all_special_tokens)
    characters = {character for token in tokenizer.get_vocab() if token not in special for character in token}
    candidates = characters | {variant for character in characters for variant in _variants(character)}
    spelled = {character for character in candidates if _spells(tokenizer, character)}
    if spelled and _keeps_words_apart(tokenizer, min(spelled)):
        spelled.add(" ")
    return Alphabet(spelled, (tokenizer,))


def _variants(character: str) -> set[str]:
    return {variant for variant in (character.lower(), character.upper()) if len(variant) == 1}


def spell(tokenizer: Any, text: str) -> list[int]:
    """Spells a text with a tokenizer; what looks like a special token, such as `<pad>`, is spelt as the text it is."""
    tokens = list(tokenizer(text, add_special_tokens=False).input_ids)
    special = set(tokenizer.all_special_ids) - {getattr(tokenizer, "word_delimiter_token_id", None)}
    if special.isdisjoint(tokens):
        return tokens
    # Only now: tokenizers in Python then take tokens of several characters apart as well.
    return list(tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids)


def _spells(tokenizer: Any, character: str) -> bool:
    tokens = spell(tokenizer, character)
    if not tokens or tokenizer.unk_token_id in tokens:
        return False
    return str(tokenizer.decode(tokens)).strip().casefold() == character.casefold()


def _spells_whole(tokenizer: Any, text: str) -> bool:
    """Says whether nothing of a text becomes unknown or, where a tokenizer has no token for that, is dropped."""
    tokens = spell(tokenizer, text)
    if not tokens or tokenizer.unk_token_id in tokens or tokenizer.pad_token_id in tokens:
        return False
    return tokenizer.unk_token_id is not None or _bare(str(tokenizer.decode(tokens))) == _bare(text)


def _bare(text: str) -> str:
    return "".join(unicodedata.normalize("NFKC", text).casefold().split())


def _keeps_words_apart(tokenizer: Any, character: str) -> bool:
    tokens = spell(tokenizer, f"{character} {character}")
    return tokenizer.unk_token_id not in tokens and " " in str(tokenizer.decode(tokens)).strip()
