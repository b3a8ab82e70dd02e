"""The one rule for options, of every verb, every recipe and every tool: `RULE`, which `--help` shows.

A command line is spelt out word by word as `--key=value`, by what the config class says of each key, before anything
else parses it.
"""

from __future__ import annotations

import json
import re
import typing
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import yaml

from compress.config.keys import (
    PART,
    UnknownKeyError,
    alternatives,
    find_key,
    known_keys,
    nested_class,
    require_parts,
)

CONFIG, PRINT_CONFIG = "config", "print_config"
HELP, HELP_OF_PART = ("-h", "--help"), ".help"
SHORT_FOR = "SHORT_FOR"
"""A dataclass with `SHORT_FOR = "source"` can be given by that field alone: `--data DIR` for `--data.source DIR`."""
ONE_OF = "ONE_OF"
"""A dataclass with `ONE_OF = ("params", "macs")` takes one of these fields: an option replaces the one of a file."""
RULE = """\
Options are written --key value or --key=value, and a hyphen in a key equals an underscore. A flag without a value is
true: --dry-run. Lists stand in brackets: --depths [4,6], in quotes if they hold spaces or the shell wants it (zsh
does). --data DIR is short for --data.source DIR, and --data.help shows the keys of data. The last of equal options
counts."""

_OPTION = "--"
_NULL = "null"
_NUMBER = re.compile(r"^\[?[-+.\d]")
_BOOLEANS = ("true", "false", "yes", "no", _NULL)


def spelt_out(words: Sequence[str], config_class: type[Any], positional: Sequence[str] = ()) -> list[str]:
    """Writes every option of a command line as `--key=value`.

    Args:
        words: The command line without the program's name.
        config_class: A dataclass, whose keys the options are.
        positional: The keys that words without `--` are for, in order; those given as options are left out.

    Returns:
        Options for the parser; `--help` or `--KEY.help` alone where it is among the words.

    Raises:
        UnknownKeyError: If the class has no key of an option's name.
        ValueError: If a word is surplus, a value is missing, or a list does not stand in brackets.
    """
    if any(word in HELP for word in words):
        return [HELP[-1]]
    if parts := [word for word in words if word.startswith(_OPTION) and word.endswith(HELP_OF_PART)]:
        return [_help_of_part(config_class, parts[0])]
    line = _CommandLine(words, config_class)
    open_keys = [key for key in positional if key not in line.given]
    line.given |= dict(zip(open_keys, line.loose, strict=False))
    if surplus := line.loose[len(open_keys) :]:
        raise ValueError(_surplus(surplus, line))
    loose = (f"{_OPTION}{key}={line.given[key]}" for key in open_keys if key in line.given)
    return [*line.options, *loose, *(f"{_OPTION}{key}={_NULL}" for key in _replaced(line))]


def _replaced(line: _CommandLine) -> Iterator[str]:
    """Yields the keys that a file may hold, and of which the command line has another one in its place."""
    for key, value in line.given.items() if CONFIG in line.given else ():
        part, _, name = key.rpartition(PART)
        several = _one_of(find_key(line.config_class, part)[1]) if part and value != _NULL else ()
        if name in several:
            others = [f"{part}{PART}{other}" for other in several if other != name]
            yield from (other for other in others if other not in line.given)


def _help_of_part(config_class: type[Any], word: str) -> str:
    key, kind = find_key(config_class, word.removeprefix(_OPTION).removesuffix(HELP_OF_PART))
    if nested_class(kind) is None:
        raise ValueError(f"{_OPTION}{key} has no keys of its own; --help says what it is")
    return f"{_OPTION}{key}{HELP_OF_PART}"


class _CommandLine:
    """The words of a command line, read from the first to the last.

    Attributes:
        options: Every option, spelt out.
        given: The last value of every key.
        loose: The words that belong to no option.
        after: For each loose word that stands right behind a flag, the flag's key.
    """

    def __init__(self, words: Sequence[str], config_class: type[Any]) -> None:
        self.config_class = config_class
        self.options: list[str] = []
        self.given: dict[str, str] = {}
        self.loose: list[str] = []
        self.after: dict[str, str] = {}
        self._words, self._flag = deque(words), ""
        while self._words:
            self._read(self._words.popleft())

    def _read(self, word: str) -> None:
        if not word.startswith("-"):
            self.loose.append(word)
            self.after |= {word: self._flag} if self._flag else {}
            self._flag = ""
            return
        written, equals, value = word.removeprefix(_OPTION).partition("=")
        self._flag = ""
        if not word.startswith(_OPTION):
            raise UnknownKeyError(word, known_keys(self.config_class), "the command line")
        if written.replace("-", "_") in (CONFIG, PRINT_CONFIG) and known_keys(self.config_class):
            self._read_own(written.replace("-", "_"), equals + value)
            return
        key, kind = find_key(self.config_class, written)
        if not equals:
            value = self._flag_value(key) if _is_flag(kind) else self._value(key)
        self._add(key, kind, value)

    def _read_own(self, name: str, value: str) -> None:
        """Reads an option that every config has: `--config FILE`, `--print_config`."""
        if name == CONFIG:
            self.given[CONFIG] = value.removeprefix("=") or self._value(CONFIG)
            value = f"={self.given[CONFIG]}"
        self.options.append(f"{_OPTION}{name}{value}")

    def _add(self, key: str, kind: Any, value: str) -> None:
        short = short_for(kind)
        if short and value != _NULL and not value.startswith("{"):
            key, kind = find_key(self.config_class, f"{key}{PART}{short}")
        if (elements := _elements(kind)) is not None and value != _NULL:
            value = self._list(key, elements, value)
        self.given[key] = value
        self.options.append(f"{_OPTION}{key}={value}")

    def _flag_value(self, key: str) -> str:
        """Takes the next word if it is true or false; else the flag is true."""
        if self._words and self._words[0].lower() in _BOOLEANS:
            return self._words.popleft()
        self._flag = key
        return "true"

    def _value(self, key: str) -> str:
        if not self._words or self._words[0].startswith(_OPTION):
            raise ValueError(f"{_OPTION}{key} has no value; write {_OPTION}{key} VALUE")
        return self._words.popleft()

    def _list(self, key: str, element: Any, value: str) -> str:
        """Checks for brackets, and quotes each entry of a list of text, so that `[33%,*]` and `[1,2]` are text."""
        if not (value.startswith("[") and value.endswith("]")):
            if (part := nested_class(element)) is not None:
                require_parts([value], part, key, "the command line")
            raise ValueError(_in_brackets(key, [value, *self._entries(key, element)]))
        if (part := nested_class(element)) is not None:
            require_parts(_read(key, value), part, key, "the command line")
        return _quoted(value) if element is str else value

    def _entries(self, key: str, element: Any) -> Iterator[str]:
        """Yields the next words that somebody may have meant as entries of the same list."""
        for word in self._words:
            option, _, value = word.removeprefix(_OPTION).partition("=")
            if word.startswith(_OPTION) and option.replace("-", "_") != key:
                return
            entry = value if word.startswith(_OPTION) else word
            if entry and (element is str or _NUMBER.search(entry)):
                yield entry


def short_for(kind: Any) -> str | None:
    """Returns the field by which alone a part can be given; see `SHORT_FOR`."""
    return next(filter(None, (getattr(member, SHORT_FOR, None) for member in alternatives(kind))), None)


def _one_of(kind: Any) -> tuple[str, ...]:
    """Returns the fields of a part of which one is given; see `ONE_OF`."""
    return next(filter(None, (getattr(member, ONE_OF, ()) for member in alternatives(kind))), ())


def _is_flag(kind: Any) -> bool:
    return alternatives(kind) == (bool,)


def _elements(kind: Any) -> Any:
    """Returns what a list holds; None where no list is annotated."""
    for member in alternatives(kind):
        if typing.get_origin(member) in (tuple, list):
            return typing.get_args(member)[0]
    return None


def _quoted(value: str) -> str:
    try:
        items = yaml.load(value, Loader=yaml.BaseLoader)  # every scalar stays text
    except yaml.YAMLError:
        items = None
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        items = [item.strip() for item in value[1:-1].split(",")]
    return json.dumps(items, ensure_ascii=False)


def _read(key: str, value: str) -> Any:
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ValueError(f"{_OPTION}{key} cannot be read as a list: {' '.join(str(error).split())}") from error


def _in_brackets(key: str, words: Sequence[str]) -> str:
    items = [item for item in re.split(r"[,\s]+", " ".join(words).strip("[]")) if item]
    return f"{_OPTION}{key} takes a list in brackets; write {_OPTION}{key} [{','.join(items)}]"


def _surplus(words: Sequence[str], line: _CommandLine) -> str:
    understood = ", ".join(f"{key}={value}" for key, value in line.given.items()) or "nothing else"
    flags = [f'"{line.after[word]}" is true or false' for word in words if word in line.after]
    return f"surplus: {' '.join(words)}; understood: {understood}" + "".join(f"; {text}" for text in flags)
