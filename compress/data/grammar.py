"""Sentences for the synthetic corpus: small grammars, and a rule that decides which split a sentence belongs to."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

SPLITS = ("train", "dev", "test")
SHARES = {"dev": 1, "test": 2}
"""Of every `SHARE_TOTAL` sentences so many belong to dev and to test; train has the others."""
SHARE_TOTAL = 10
ATTEMPTS = 10_000

_SLOT = re.compile(r"<(\w+)>")


@dataclass(frozen=True)
class Grammar:
    """Templates and what fills their slots.

    Attributes:
        start: templates; `<name>` is a slot.
        slots: fillers of each slot, which may have slots themselves.
    """

    start: Sequence[str]
    slots: Mapping[str, Sequence[str]]

    def sentence(self, random: np.random.Generator) -> str:
        """Draws a sentence."""
        return self._fill(self.start[int(random.integers(len(self.start)))], random)

    def sentence_of(self, split: str, random: np.random.Generator) -> str:
        """Draws a sentence that belongs to `split`; no sentence belongs to two.

        Raises:
            ValueError: if the grammar has no such sentence.
        """
        for _ in range(ATTEMPTS):
            sentence = self.sentence(random)
            if split_of(sentence) == split:
                return sentence
        raise ValueError(f"the grammar has no sentence for split {split!r} among {ATTEMPTS} drawn")

    def words(self) -> set[str]:
        """Returns all words that a sentence can hold."""
        texts = [*self.start, *(filler for fillers in self.slots.values() for filler in fillers)]
        return {word for text in texts for word in _SLOT.sub(" ", text).split()}

    def _fill(self, template: str, random: np.random.Generator) -> str:
        def choose(slot: re.Match[str]) -> str:
            fillers = self.slots[slot.group(1)]
            return self._fill(fillers[int(random.integers(len(fillers)))], random)

        return _SLOT.sub(choose, template)


def split_of(sentence: str) -> str:
    """Returns the split a sentence belongs to: a property of its text, whatever the seed."""
    draw = int.from_bytes(hashlib.sha256(sentence.encode()).digest()[:8], "big") % SHARE_TOTAL
    for split, share in SHARES.items():
        if draw < share:
            return split
        draw -= share
    return "train"


COMMANDS = Grammar(
    start=(
        "turn <switch> the <room> <device>",
        "turn <switch> the <room> <device> <when>",
        "turn <switch> the <device> in the <room>",
        "set the <room> <device> to <number>",
        "set a timer for <number> <unit>",
        "wake me up <when>",
        "play <music> in the <room>",
        "play <music> <when>",
        "what's the weather like <when>",
        "don't <move> the <room> <opening>",
        "<move> the <room> <opening> <when>",
        "call <person> <when>",
        "remind me to <duty> <when>",
        "make it <change> in the <room>",
        "add <number> <goods> to my list",
        "buy <number> <goods> and <number> <goods>",
        "tell <person> i'm coming <when>",
    ),
    slots={
        "switch": ("on", "off"),
        "room": ("kitchen", "bedroom", "garden", "office", "hall", "bathroom"),
        "device": ("light", "lamp", "heater", "radio", "fan"),
        "number": ("three", "five", "six", "seven", "nine", "ten", "fifteen", "twenty", "thirty", "twenty five"),
        "unit": ("seconds", "minutes", "hours"),
        "when": ("<day>", "at <hour>", "in <number> <unit>", "<day> at <hour>"),
        "day": ("today", "tomorrow", "on <weekday>", "in the evening"),
        "weekday": ("monday", "friday", "sunday"),
        "hour": ("six", "seven", "eight", "nine", "ten", "half past <half>"),
        "half": ("five", "seven", "eight"),
        "music": ("jazz", "piano music", "old songs", "rock music"),
        "move": ("open", "close"),
        "opening": ("window", "door", "curtains"),
        "person": ("anna", "peter", "my mother", "the doctor"),
        "duty": ("buy <goods>", "water the garden", "call <person>", "close the <opening>"),
        "goods": ("apples", "eggs", "lemons", "potatoes"),
        "change": ("warmer", "colder", "brighter", "louder"),
    },
)
"""Commands to a house."""

DIGITS = Grammar(
    start=tuple(" ".join(["<digit>"] * count) for count in range(2, 7)),
    slots={"digit": ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")},
)
"""Two to six digits in a row."""

GRAMMARS: Mapping[str, Grammar] = {"commands": COMMANDS, "digits": DIGITS}
