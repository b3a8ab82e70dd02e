"""Typed configs: frozen dataclasses read from YAML, with dotted overrides on the command line.

A recipe or a verb declares a frozen dataclass and calls `parse`. The YAML file mirrors the dataclass,
`--budget.params 50%` overrides one field of it, and a key that the dataclass does not have is an error that names the
nearest one it has.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import enum
import os
import sys
import typing
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import yaml
from jsonargparse import ArgumentParser, DefaultHelpFormatter

T = TypeVar("T")

USAGE_EXIT_CODE = 2
TRACEBACK_VARIABLE = "COMPRESS_TRACEBACK"
CONFIG_OPTION = "config"
PRINT_CONFIG_OPTION = "print_config"
_PARSER_OPTIONS = frozenset({"help", CONFIG_OPTION, PRINT_CONFIG_OPTION})


class HelpFormatter(DefaultHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Help with types and defaults that keeps the line breaks of descriptions and examples."""


class UnknownKeyError(ValueError):
    """A key of a YAML file or a command line that the config does not have."""

    def __init__(self, key: str, known: Sequence[str], place: str) -> None:
        """Names the key, where it stands, and the known key nearest to it.

        Args:
            key: The dotted key nobody knows, for example `budget.parms`.
            known: All dotted keys of the config.
            place: Where the key was found, for example a file name.
        """
        super().__init__(
            f"Unknown key '{key}' in {place}. Did you mean '{nearest(key, known)}'? (--help lists every key)"
        )


def parse(config_class: type[T], args: Sequence[str] | None = None, *, prog: str, description: str = "") -> T:
    """Builds a config from `--config FILE.yaml` and dotted overrides such as `--budget.params 50%`.

    Anything wrong (an unknown key, a missing or ill-typed value, one the dataclass refuses with a `ValueError`) ends
    the process with exit code 2 and one paragraph on stderr. `--print_config` prints the resulting config as YAML and
    ends with exit code 0.

    Args:
        config_class: A frozen dataclass; its fields may be frozen dataclasses too, tuples, optional values or mappings.
        args: The command line without the program's name; `sys.argv[1:]` when None.
        prog: The program's name in messages.
        description: Shown by `--help`, line breaks kept.

    Returns:
        An instance of `config_class`.
    """
    arguments = list(sys.argv[1:] if args is None else args)
    parser = make_parser(prog, description)
    parser.add_argument(f"--{CONFIG_OPTION}", action=CONFIG_OPTION, help="YAML file with any of the options below.")
    parser.add_class_arguments(config_class)
    try:
        _refuse_unknown_keys(config_class, arguments)
        values = parser.instantiate(parser.parse_args(arguments))
        return config_class(**{field.name: values[field.name] for field in _fields(config_class)})
    except (argparse.ArgumentError, ValueError, OSError) as error:
        fail(prog, error)


def make_parser(prog: str, description: str = "") -> ArgumentParser:
    """Makes an empty parser with this project's help style, which raises `argparse.ArgumentError` instead of exiting.

    Args:
        prog: The program's name in messages.
        description: Shown by `--help`, line breaks kept.
    """
    return ArgumentParser(
        prog=prog,
        description=description.strip(),
        formatter_class=HelpFormatter,
        exit_on_error=False,
        allow_abbrev=False,
    )


def fail(prog: str, error: BaseException) -> NoReturn:
    """Ends the process with exit code 2 and one clear message on stderr.

    With the environment variable `COMPRESS_TRACEBACK=1` the error itself is raised, for its traceback.

    Args:
        prog: The program's name in the message.
        error: What went wrong, in words a user understands.
    """
    if os.environ.get(TRACEBACK_VARIABLE) == "1":
        raise error
    sys.stderr.write(f"{prog}: error: {_message(error)}\n")
    sys.exit(USAGE_EXIT_CODE)


def to_dict(config: Any) -> dict[str, Any]:
    """Turns a config into plain dicts, lists, strings, numbers, booleans and None, ready for JSON or YAML.

    Args:
        config: An instance of a dataclass.

    Raises:
        ValueError: If a value cannot be written as JSON.
    """
    plain = _plain(config)
    assert isinstance(plain, dict)
    return plain


def known_keys(config_class: type[Any], prefix: str = "") -> list[str]:
    """Lists all dotted keys of a config class, parents before their children.

    Args:
        config_class: A dataclass.
        prefix: Put before every key, for example `budget.`.
    """
    keys = []
    for name, annotation in _annotations(config_class).items():
        keys.append(prefix + name)
        nested = _nested_class(annotation)
        if nested is not None:
            keys += known_keys(nested, f"{prefix}{name}.")
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


def _refuse_unknown_keys(config_class: type[Any], arguments: Sequence[str]) -> None:
    known = known_keys(config_class)
    for key in _option_keys(arguments):
        if key.split(".")[-1] not in _PARSER_OPTIONS and not _accepts(config_class, key):
            raise UnknownKeyError(key, known, "the command line")
    for file in _config_files(arguments):
        for key in _unknown_keys(_read_yaml(file), config_class, prefix=""):
            raise UnknownKeyError(key, known, str(file))


def _option_keys(arguments: Sequence[str]) -> Iterator[str]:
    """Yields `budget.params` for `--budget.params 50%`, `--budget.params=50%` and `--budget.params+ 50%`."""
    for argument in arguments:
        if argument.startswith("--") and len(argument) > len("--"):
            yield argument[len("--") :].split("=")[0].rstrip("+")


def _config_files(arguments: Sequence[str]) -> Iterator[Path]:
    option = f"--{CONFIG_OPTION}"
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=False):
        value = following if argument == option else argument.removeprefix(f"{option}=")
        if (argument == option or value != argument) and Path(value).is_file():
            yield Path(value)


def _read_yaml(file: Path) -> Any:
    try:
        return yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is not a readable YAML file: {error}") from error


def _accepts(config_class: type[Any], key: str) -> bool:
    """Says whether a dotted key leads to a field of the class, or into a field that holds a mapping."""
    name, _, rest = key.partition(".")
    annotation = _annotations(config_class).get(name)
    if annotation is None or not rest:
        return annotation is not None
    nested = _nested_class(annotation)
    return _accepts(nested, rest) if nested is not None else _holds_mapping(annotation)


def _unknown_keys(values: Any, config_class: type[Any], prefix: str) -> Iterator[str]:
    """Yields the dotted keys of YAML values that the class has no field for; wrong types are the parser's business."""
    if not isinstance(values, Mapping):
        return
    annotations = _annotations(config_class)
    for name, value in values.items():
        if name not in annotations:
            yield f"{prefix}{name}"
            continue
        nested = _nested_class(annotations[name])
        if nested is not None:
            for item in value if isinstance(value, list) else [value]:
                yield from _unknown_keys(item, nested, f"{prefix}{name}.")


def _annotations(config_class: type[Any]) -> dict[str, Any]:
    hints = typing.get_type_hints(config_class)
    return {field.name: hints[field.name] for field in _fields(config_class)}


def _fields(config_class: type[Any]) -> list[dataclasses.Field[Any]]:
    return [field for field in dataclasses.fields(config_class) if field.init]


def _nested_class(annotation: Any) -> type[Any] | None:
    """Finds the dataclass in an annotation such as `Budget`, `Budget | None` or `tuple[Budget, ...]`."""
    if isinstance(annotation, type) and dataclasses.is_dataclass(annotation):
        return annotation
    if _holds_mapping(annotation):
        return None
    return next(filter(None, map(_nested_class, typing.get_args(annotation))), None)


def _holds_mapping(annotation: Any) -> bool:
    origin = typing.get_origin(annotation) or annotation
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return True
    return any(map(_holds_mapping, typing.get_args(annotation)))


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, enum.Enum):
        return _plain(value.value)
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    raise ValueError(
        f"{value!r} ({type(value).__name__}) cannot stand in a config: use numbers, text, lists and dataclasses"
    )


def _message(error: BaseException) -> str:
    """Joins the lines of the parser's own errors into one paragraph; our messages keep theirs."""
    text = str(error) or type(error).__name__
    return " ".join(text.split()) if isinstance(error, argparse.ArgumentError) else text


def _leaf(key: str) -> str:
    return key.rpartition(".")[2]


def _ratio(first: str, second: str) -> float:
    return difflib.SequenceMatcher(None, first, second).ratio()


def check_choice(name: str, value: str, known: Collection[str]) -> None:
    """Refuses a word that is not among those known."""
    if value not in known:
        raise ValueError(f"{name}={value!r} is unknown; choose one of {', '.join(known)}.")
