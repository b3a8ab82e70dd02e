"""From words and YAML files to a config, and back to plain values."""

from __future__ import annotations

import argparse
import dataclasses
import enum
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from jsonargparse import ArgumentParser, DefaultHelpFormatter

from compress.config.keys import UnknownKeyError, fields_of, known_keys, unknown_keys
from compress.config.options import CONFIG, RULE, spelt_out
from compress.config.yaml_files import read_yaml

T = TypeVar("T")

USAGE_EXIT_CODE = 2
TRACEBACK_VARIABLE = "COMPRESS_TRACEBACK"


class HelpFormatter(DefaultHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Help with types and defaults that keeps the line breaks of descriptions and examples."""


def parse(
    config_class: type[T],
    args: Sequence[str] | None = None,
    *,
    prog: str,
    description: str = "",
    positional: Sequence[str] = (),
) -> T:
    """Builds a config from `--config FILE.yaml` and dotted overrides such as `--budget.params 50%`.

    How options are written is the rule of `compress.config.options`. Anything wrong (an unknown key, a surplus word, a
    missing or ill-typed value, one the dataclass refuses with a `ValueError`) ends the process with exit code 2 and one
    paragraph on stderr. `--print_config` prints the resulting config as YAML and ends with exit code 0.

    Args:
        config_class: A frozen dataclass; its fields may be frozen dataclasses too, tuples, optional values or mappings.
        args: The command line without the program's name; `sys.argv[1:]` when None.
        prog: The program's name in messages.
        description: Shown by `--help`, line breaks kept.
        positional: The keys that can be given without their names, in order.

    Returns:
        An instance of `config_class`.
    """
    words = list(sys.argv[1:] if args is None else args)
    parser = _make_parser(prog, description, positional)
    parser.add_argument(f"--{CONFIG}", action="config", help="YAML file with any of the options below.")
    parser.add_class_arguments(config_class)
    try:
        options = spelt_out(words, config_class, positional)
        _refuse_unknown_keys(config_class, options)
        values = parser.instantiate(parser.parse_args(options))
        return config_class(**{name: values[name] for name in fields_of(config_class)})
    except (argparse.ArgumentError, ValueError, OSError) as error:
        fail(prog, error)


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


def _make_parser(prog: str, description: str, positional: Sequence[str]) -> ArgumentParser:
    """Makes an empty parser with this project's help, which raises `argparse.ArgumentError` instead of exiting."""
    return ArgumentParser(
        prog=prog,
        usage=" ".join([prog, *map(str.upper, positional), "[--OPTION VALUE ...]"]),
        description=description.strip(),
        epilog=RULE,
        formatter_class=HelpFormatter,
        exit_on_error=False,
        allow_abbrev=False,
    )


def _refuse_unknown_keys(config_class: type[Any], options: Sequence[str]) -> None:
    """Refuses what a YAML file holds beside the config's keys; a file that is not there is the parser's business."""
    prefix = f"--{CONFIG}="
    files = [Path(option.removeprefix(prefix)) for option in options if option.startswith(prefix)]
    for file in filter(Path.exists, files):
        for key in unknown_keys(read_yaml(file), config_class):
            raise UnknownKeyError(key, known_keys(config_class), str(file))


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
