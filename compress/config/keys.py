"""The dotted keys of a config class: which there are, what each holds, and which one somebody meant."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Hashable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

PART = "."
"""Between the names of a dotted key."""


class UnknownKeyError(ValueError):
    """A key of a YAML file or a command line that the config does not have."""

    def __init__(self, key: str, known: Sequence[str], place: str) -> None:
        """Names the key, where it stands, and the known key nearest to it.

        Args:
            key: The dotted key nobody knows, for example `budget.parms`.
            known: All dotted keys of the config.
            place: Where the key was found, for example a file name.
        """
        meant = f"Did you mean '{nearest(key, known)}'? (--help lists every key)" if known else "There are no keys."
        super().__init__(f"Unknown key '{key}' in {place}. {meant}")


def known_keys(config_class: type[Any], prefix: str = "") -> list[str]:
    """Lists all dotted keys of a config class, parents before their children.

    Args:
        config_class: A dataclass.
        prefix: Put before every key, for example `budget.`.
    """
    keys = []
    for name, annotation in fields_of(config_class).items():
        keys.append(prefix + name)
        nested = nested_class(annotation)
        if nested is not None:
            keys += known_keys(nested, f"{prefix}{name}{PART}")
    return keys


def nearest(key: str, known: Sequence[str]) -> str:
    """Finds the known dotted key that looks most like `key`, both as a whole and in its last part.

    Args:
        key: The key somebody wrote.
        known: At least one key to choose from.
    """

    def similarity(candidate: str) -> float:
        return _ratio(key, candidate) + _ratio(_leaf(key), _leaf(candidate))

    return max(known, key=similarity)


def find_key(config_class: type[Any], written: str) -> tuple[str, Any]:
    """Finds what an option means.

    Args:
        config_class: A dataclass.
        written: The option without its leading hyphens; a hyphen in it equals an underscore.

    Returns:
        The dotted key, and the annotation of what it holds. Behind a key that holds a mapping, anything goes.

    Raises:
        UnknownKeyError: If the class has no such key.
    """
    key = ""
    owner: type[Any] | None = config_class
    annotation: Any = None
    parts = written.split(PART)
    for number, part in enumerate(parts):
        name = part.replace("-", "_")
        if owner is None or name not in fields_of(owner):
            raise UnknownKeyError(written.replace("-", "_"), known_keys(config_class), "the command line")
        key, annotation = f"{key}{PART}{name}" if key else name, fields_of(owner)[name]
        owner = nested_class(annotation)
        if number < len(parts) - 1 and owner is None and holds_mapping(annotation):
            return PART.join([key, *(part.replace("-", "_") for part in parts[number + 1 :])]), Any
    return key, annotation


def unknown_keys(values: Any, config_class: type[Any], prefix: str = "") -> Iterator[str]:
    """Yields the dotted keys of YAML values that the class has no field for; wrong types are the parser's business.

    Args:
        values: What the YAML file holds.
        config_class: A dataclass.
        prefix: Put before every key.
    """
    if not isinstance(values, Mapping):
        return
    known = fields_of(config_class)
    for name, value in values.items():
        if name not in known:
            yield f"{prefix}{name}"
            continue
        nested = nested_class(known[name])
        if nested is not None:
            for item in value if isinstance(value, list) else [value]:
                yield from unknown_keys(item, nested, f"{prefix}{name}{PART}")


def require_parts(items: Any, part: type[Any], key: str, place: str) -> None:
    """Refuses entries of a list of parts that are none, before a parser takes them for names of classes to import.

    Args:
        items: of the list; anything else is the parser's business.
        part: the dataclass of an entry.
        key: of the list, dotted.
        place: where it was found.

    Raises:
        UnknownKeyError: if an entry has a key that the class does not have.
        ValueError: if an entry has no keys.
    """
    for item in items if isinstance(items, list | tuple) else ():
        if not isinstance(item, Mapping):
            example = f"{{{next(iter(fields_of(part)))}: ...}}"
            raise ValueError(f"{key} in {place} holds {item!r}; each of its entries is keys with values: [{example}].")
        for unknown in unknown_keys(item, part, f"{key}{PART}"):
            raise UnknownKeyError(unknown, known_keys(part, f"{key}{PART}"), place)


def fields_of(config_class: type[Any]) -> Mapping[str, Any]:
    """Returns the fields of a config class that can be given, with the annotations of what they hold."""
    return _fields_of(typing.cast(Hashable, config_class))


@cache
def _fields_of(config_class: Any) -> Mapping[str, Any]:
    hints = typing.get_type_hints(config_class)
    return {field.name: hints[field.name] for field in dataclasses.fields(config_class) if field.init}


def nested_class(annotation: Any) -> type[Any] | None:
    """Finds the dataclass in an annotation such as `Budget`, `Budget | None` or `tuple[Budget, ...]`."""
    if isinstance(annotation, type) and dataclasses.is_dataclass(annotation):
        return annotation
    if holds_mapping(annotation):
        return None
    return next(filter(None, map(nested_class, typing.get_args(annotation))), None)


def holds_mapping(annotation: Any) -> bool:
    """Says whether what is annotated is a mapping, or can be one."""
    origin = typing.get_origin(annotation) or annotation
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return True
    return any(map(holds_mapping, typing.get_args(annotation)))


def alternatives(annotation: Any) -> tuple[Any, ...]:
    """Returns the members of a union but None; the annotation itself where it is no union."""
    if typing.get_origin(annotation) not in (typing.Union, types.UnionType):
        return (annotation,)
    return tuple(member for member in typing.get_args(annotation) if member is not type(None))


def _leaf(key: str) -> str:
    return key.rpartition(PART)[2]


def _ratio(first: str, second: str) -> float:
    return difflib.SequenceMatcher(None, first, second).ratio()
