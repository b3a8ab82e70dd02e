"""What every value of a config must be, whatever it means: there, finite, of its type, within sane limits.

A dataclass that wants another range for some of its numbers says so: `RANGES = {"low": (-10, 0)}`.
"""

from __future__ import annotations

import math
import os
import typing
from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from compress.config.keys import PART, alternatives, fields_of, holds_mapping, nested_class

RANGES = "RANGES"
"""Name of the class variable with the range of some fields: the least and the largest value, both allowed."""
LARGEST_NUMBER = 1e12
USUAL_RANGES: Mapping[str, tuple[float, float]] = {
    "learning_rate": (0, 1000),
    "weight_decay": (0, 1000),
    "max_gradient_norm": (1e-9, 1e9),
    "temperature": (1e-6, 1e6),
    "final_fraction": (0, 1),
}
"""By the end of a field's name; every other number goes from 0 to `LARGEST_NUMBER`."""


def with_home(value: Any) -> Any:
    """Puts the home folder where a text begins with `~/`; a shell does so in `--out ~/a`, and not in `--out=~/a`.

    Args:
        value: What was parsed: anything, with texts however deep in it.
    """
    if isinstance(value, Namespace):
        return type(value)(**with_home(vars(value)))
    if isinstance(value, dict):
        return {name: with_home(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(with_home, value))
    return os.path.expanduser(value) if isinstance(value, str) and value.startswith("~/") else value


def check_values(config_class: type[Any], values: Any, prefix: str = "") -> None:
    """Refuses values that no setting can have, before a config is made of them.

    Args:
        config_class: A dataclass.
        values: Its values by name, plain or nested in the same way.
        prefix: Put before every key, for example `budget.`.

    Raises:
        ValueError: Naming the key, the value and what to give instead.
    """
    if not hasattr(values, "get"):
        return
    for name, annotation in fields_of(config_class).items():
        if name in values:
            _check(config_class, name, annotation, values.get(name), f"{prefix}{name}")


def _check(config_class: type[Any], name: str, annotation: Any, value: Any, key: str) -> None:
    if value is None:
        if annotation is not Any and type(None) not in typing.get_args(annotation):
            raise ValueError(f"{key} is null; leave it out for its default, or give {_named(annotation)}.")
        return
    nested = nested_class(annotation)
    for item in value if isinstance(value, list | tuple) else (value,):
        if nested is not None:
            check_values(nested, item, f"{key}{PART}")
        elif isinstance(item, int | float) and not isinstance(item, bool) and not holds_mapping(annotation):
            _check_number(key, item, *_range(config_class, name))
    if value == "" and str in alternatives(annotation):
        _check_text(config_class, name, key)


def _check_number(key: str, value: float, least: float, most: float) -> None:
    if not math.isfinite(value) or not least <= value <= most:
        raise ValueError(f"{key} is {value!r}; give a number from {least:g} to {most:g}.")


def _check_text(config_class: type[Any], name: str, key: str) -> None:
    if getattr(config_class, name, None) != "":
        raise ValueError(f"{key} is empty; give some text, or leave it out for its default.")


def _range(config_class: type[Any], name: str) -> tuple[float, float]:
    own: Mapping[str, tuple[float, float]] = getattr(config_class, RANGES, {})
    usual = next((limits for end, limits in USUAL_RANGES.items() if name.endswith(end)), (0, LARGEST_NUMBER))
    return own.get(name, usual)


def _named(annotation: Any) -> str:
    kinds = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
    return kinds.get(annotation, "a value")
