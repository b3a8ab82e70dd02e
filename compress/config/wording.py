"""What the parser says of a value, in one sentence: the key, what stands there, and what to give instead."""

from __future__ import annotations

import re

_KEY = re.compile(r'Parser key "([^"]+)":')
_KIND = re.compile(r"Expected a (?:<class '(?:\w+\.)*(\w+)'>|typing\.Literal\[([^\]]*)\])")
_VALUE = re.compile(r"(?:Got|Given) value: (.*)", re.DOTALL)
_CASES = re.compile(r"Errors:\n(.*?)\n *Given value type:", re.DOTALL)
_CASE = re.compile(r"^ *- ", re.MULTILINE)
_THEIRS = ("Expected a ", "Problem with ")
_KINDS = {
    "int": "a whole number", "float": "a finite number", "bool": "true or false", "str": "text",
    "dict": "keys with values", "tuple": "a list in brackets", "list": "a list in brackets", "NoneType": "null",
}  # fmt: skip
_NO_MEMORY = ("MemoryError", "OutOfMemoryError", "can't allocate memory", "not enough memory")
_LESS = "Give smaller batches (batch.seconds, speed.seconds), or take a machine with more."
_VALUES = {"None": "null", "True": "true", "False": "false"}


def in_our_words(text: str) -> str:
    """Says in one sentence what the parser says in several lines; what it does not know stays, in one paragraph.

    Where a key may hold several things, the parser lists why the value is none of them. If one of the reasons is a
    sentence of a dataclass of ours, that is the one that helps.
    """
    cases = [case.strip() for found in _CASES.findall(text) for case in _CASE.split(found) if case.strip()]
    for case in cases:
        if not case.startswith(_THEIRS):
            return " ".join(case.split())
    keys, kinds, value = _KEY.findall(text), _kinds(text), _VALUE.search(text)
    if not (keys and kinds and value):
        return " ".join(text.split())
    if len(keys) > 1:
        kinds = [kind for kind in kinds if kind != _KINDS["NoneType"]]  # which is allowed of the part, not of its key
    there = value[1].partition("\n")[0].strip()
    return f"{'.'.join(keys)} is {_VALUES.get(there, there)}; give {', or '.join(dict.fromkeys(kinds))}."


def lacks_memory(error: BaseException) -> bool:
    """Says whether an error tells that memory was not enough, whoever asked for it."""
    said = f"{type(error).__name__} {error}"
    return isinstance(error, MemoryError | RuntimeError) and any(words in said for words in _NO_MEMORY)


def out_of_memory(error: BaseException) -> str:
    """Says so in one paragraph, with the remedy."""
    detail = str(error).strip().partition("\n")[0]
    return f"There is not enough memory{f' ({detail})' if detail else ''}. {_LESS}"


def _kinds(text: str) -> list[str]:
    choices = ((name, literals.replace("'", "")) for name, literals in _KIND.findall(text))
    return [_KINDS.get(name, name) if name else f"one of {literals}" for name, literals in choices]
