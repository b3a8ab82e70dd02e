"""Which characters a model's tokenizer can spell."""

from __future__ import annotations

from typing import Any

OUTSIDER = "\u2603"
"""A snowman: whoever can spell it can spell anything (byte-level vocabularies and byte fallback)."""


def vocabulary_of(processor: Any) -> set[str] | None:
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
    return spelled


def _variants(character: str) -> set[str]:
    return {variant for variant in (character.lower(), character.upper()) if len(variant) == 1}


def spell(tokenizer: Any, text: str) -> list[int]:
    """Spells a text with a tokenizer; what looks like a special token, such as `<pad>`, is spelt as the text it is."""
    return list(tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids)


def _spells(tokenizer: Any, character: str) -> bool:
    tokens = spell(tokenizer, character)
    if not tokens or tokenizer.unk_token_id in tokens:
        return False
    return str(tokenizer.decode(tokens)).strip().casefold() == character.casefold()


def _keeps_words_apart(tokenizer: Any, character: str) -> bool:
    tokens = spell(tokenizer, f"{character} {character}")
    return tokenizer.unk_token_id not in tokens and " " in str(tokenizer.decode(tokens)).strip()
