"""Typed configs: frozen dataclasses read from YAML and from the command line, by one rule for every option.

A recipe or a verb declares a frozen dataclass and calls `parse`. The YAML file mirrors the dataclass,
`--budget.params 50%` overrides one field of it, and a key that the dataclass does not have is an error that names the
nearest one it has. `compress.config.options` states the rule for options, and `compress.config.checks` holds what the
dataclasses refuse values with.
"""

from compress.config.checks import check, check_at_least, check_choice, check_positive
from compress.config.keys import UnknownKeyError, known_keys, nearest
from compress.config.parsing import FAILURES, USAGE_EXIT_CODE, fail, parse, to_dict

__all__ = [
    "FAILURES",
    "USAGE_EXIT_CODE",
    "UnknownKeyError",
    "check",
    "check_at_least",
    "check_choice",
    "check_positive",
    "fail",
    "known_keys",
    "nearest",
    "parse",
    "to_dict",
]
