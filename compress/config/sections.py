"""The sections of a YAML file: dotted keys put where they belong, and empty ones left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compress.config.keys import PART, alternatives, fields_of, nested_class, require_parts


def nested(content: Any, where: str) -> dict[str, Any]:
    """Puts the value of every dotted key of a file where it belongs: `{"a.b": 1}` becomes `{"a": {"b": 1}}`.

    Args:
        content: What the file holds; nothing is an empty config.
        where: The file, for messages.

    Raises:
        ValueError: If the file holds something else than keys, or a key stands there in both ways.
    """
    if content is None:
        return {}
    if not isinstance(content, Mapping):
        raise ValueError(f"{where} holds {type(content).__name__}, no keys of a config; write `key: value` lines.")
    result: dict[str, Any] = {}
    for written, value in content.items():
        *owners, last = str(written).split(PART)
        place = result
        for owner in owners:
            section = place.get(owner)
            if not isinstance(section, Mapping | None):
                raise ValueError(f"{where}: {written} is a key of {owner}, which has a value of its own there.")
            place[owner] = place = dict(section or {})
        place[last] = _together(place[last], value, f"{where}: {written}") if last in place else value
    return result


def _together(given: Any, value: Any, where: str) -> dict[str, Any]:
    """Joins what dotted keys and a section say of one part."""
    if not isinstance(given, Mapping) or not isinstance(value, Mapping) or set(given) & set(value):
        raise ValueError(f"{where} is given twice, by a dotted key and in a section; keep one.")
    return {**given, **value}


def with_sections(content: Mapping[str, Any], config_class: type[Any], where: str, prefix: str = "") -> dict[str, Any]:
    """Leaves out sections without content, so that they have their defaults.

    Args:
        content: What `nested` gave.
        config_class: A dataclass.
        where: The file, for messages.
        prefix: Put before every key.

    Raises:
        ValueError: If a section is neither empty nor a mapping.
    """
    known = fields_of(config_class)
    result: dict[str, Any] = {}
    for name, value in content.items():
        annotation = known.get(name)
        section = nested_class(annotation) if annotation is not None else None
        if section is None or section not in alternatives(annotation):  # also lists of sections
            if section is not None:
                require_parts(value if isinstance(value, list) else [value], section, f"{prefix}{name}", where)
            result[name] = value
        elif isinstance(value, Mapping):
            result[name] = with_sections(value, section, where, f"{prefix}{name}{PART}")
        elif value is None and type(None) not in getattr(annotation, "__args__", ()):
            continue
        elif value is None or (isinstance(value, str) and "\0" not in value):  # a file with the section
            result[name] = value
        else:
            raise ValueError(
                f"{where}: {prefix}{name} is {value!r}; it is a section, so give keys below it, or nothing."
            )
    return result
