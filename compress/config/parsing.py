"""From words and YAML files to a config, and back to plain values."""

from __future__ import annotations

import argparse
import dataclasses
import enum
import os
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import yaml
from jsonargparse import ArgumentParser, DefaultHelpFormatter

from compress.config.keys import PART, UnknownKeyError, fields_of, find_key, known_keys, nested_class, unknown_keys
from compress.config.options import CONFIG, HELP_OF_PART, RULE, short_for, spelt_out
from compress.config.sections import nested, with_sections
from compress.config.values import check_values, with_home
from compress.config.wording import in_our_words, lacks_memory, out_of_memory
from compress.config.yaml_files import read_yaml

T = TypeVar("T")

USAGE_EXIT_CODE = 2
FAILURES = (ValueError, OSError, MemoryError, RuntimeError)
"""What a program hands to `fail`."""
TRACEBACK_VARIABLE = "COMPRESS_TRACEBACK"
_OF_UNIONS = "Union subtypes"
"""What the parser says of a value that is none of several things, also where a dataclass of ours refused it."""


class HelpFormatter(DefaultHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Help with types and defaults that keeps the line breaks of descriptions and examples, and names no class."""

    def _get_type_str(self, action: argparse.Action) -> str | None:
        text = super()._get_type_str(action)
        return text and re.sub(r"\w+Config\b", "keys", text)


def parse(
    config_class: type[T],
    args: Sequence[str] | None = None,
    *,
    prog: str,
    description: str = "",
    positional: Sequence[str] = (),
) -> T:
    """Builds a config from `--config FILE.yaml` and dotted overrides such as `--budget.params 50%`.

    How options are written is the rule of `compress.config.options`; a text that begins with `~/` is below the home
    folder. Anything wrong (an unknown key, a surplus word, a missing or ill-typed value, one the dataclass refuses with
    a `ValueError`) ends the process with exit code 2 and one paragraph on stderr. `--print_config` prints the resulting
    config as YAML and ends with exit code 0.

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
    try:
        options = spelt_out(words, config_class, positional)
        if options and options[0].endswith(HELP_OF_PART):
            _show_part(prog, config_class, options[0].removeprefix("--").removesuffix(HELP_OF_PART))
        parser = _make_parser(prog, description, positional, config_class)
        with tempfile.TemporaryDirectory() as folder:
            values = with_home(parser.parse_args([_tidied(option, config_class, folder) for option in options]))
        check_values(config_class, values)
        values = parser.instantiate(values)
        return config_class(**{name: values[name] for name in fields_of(config_class)})
    except (argparse.ArgumentError, ValueError, OSError) as error:
        fail(prog, error)


def fail(prog: str, error: BaseException) -> NoReturn:
    """Ends the process with exit code 2 and one clear message on stderr.

    What is no mistake of a user and no lack of memory is raised as it is.

    With the environment variable `COMPRESS_TRACEBACK=1` the error itself is raised, for its traceback.

    Args:
        prog: The program's name in the message.
        error: What went wrong, in words a user understands.
    """
    ours = isinstance(error, ValueError | OSError | argparse.ArgumentError) or lacks_memory(error)
    if not ours or os.environ.get(TRACEBACK_VARIABLE) == "1":
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


def _make_parser(prog: str, description: str, positional: Sequence[str], config_class: type[Any]) -> ArgumentParser:
    """Makes a parser with this project's help, which raises `argparse.ArgumentError` instead of exiting."""
    has_keys = bool(known_keys(config_class))
    named = [key.partition(PART)[0].upper() for key in positional]
    parser = _empty_parser(prog, [*named, *["[--OPTION VALUE ...]"] * has_keys], description)
    if has_keys:
        parser.epilog = RULE
        parser.add_argument(f"--{CONFIG}", action="config", help="YAML file with any of the options below.")
        parser.add_class_arguments(config_class)
        _explain_parts(parser, config_class)
    return parser


def _empty_parser(prog: str, usage: Sequence[str], description: str) -> ArgumentParser:
    return ArgumentParser(
        prog=prog,
        usage=" ".join([prog, *usage]),
        description=description.strip(),
        formatter_class=HelpFormatter,
        exit_on_error=False,
        allow_abbrev=False,
    )


def _explain_parts(parser: ArgumentParser, config_class: type[Any]) -> None:
    """Says of every key that holds others what it takes by itself; that `--KEY.help` exists is said at the end."""
    for action in parser._actions:
        if action.dest.endswith(HELP_OF_PART):
            action.help = argparse.SUPPRESS
        elif action.metavar == "CONFIG" and action.dest != CONFIG:
            short = short_for(find_key(config_class, action.dest)[1])
            action.metavar = short.upper() if short else "FILE"
            action.help = f"short for --{action.dest}.{short}." if short else "YAML file with the keys below."


def _show_part(prog: str, config_class: type[Any], key: str) -> NoReturn:
    """Prints the keys of a part, and ends the process."""
    part = nested_class(find_key(config_class, key)[1])
    assert part is not None
    parser = _empty_parser(prog, [f"[--{key}.KEY VALUE ...]"], "")
    parser.add_class_arguments(part, key)
    _explain_parts(parser, config_class)
    parser.print_help()
    sys.exit(0)


def _tidied(option: str, config_class: type[Any], folder: str) -> str:
    """Reads the YAML file of a `--config`, and puts one without empty sections and dotted keys in its place.

    Args:
        option: Any option; others pass, and a file that is not there is the parser's business.
        config_class: A dataclass, whose keys the file may hold.
        folder: Where the other file goes.

    Raises:
        UnknownKeyError: If the file holds a key that the config does not have.
        ValueError: If it is no YAML, or a part of the config is no mapping in it.
    """
    prefix = f"--{CONFIG}="
    file = Path(with_home(option.removeprefix(prefix)))
    if not option.startswith(prefix) or not file.exists():
        return option
    content = read_yaml(file)
    sections = nested(content, str(file))
    for key in unknown_keys(sections, config_class):
        raise UnknownKeyError(key, known_keys(config_class), str(file))
    filled = with_sections(sections, config_class, str(file))
    if filled == content and any(value is not None for value in content.values()):
        return option
    plain = Path(folder, file.name)
    plain.write_text(yaml.safe_dump(filled), encoding="utf-8")
    return f"{prefix}{plain}"


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
    """Says what the parser found in our words; our own messages keep theirs."""
    text = str(error) or type(error).__name__
    if lacks_memory(error):
        return out_of_memory(error)
    return in_our_words(text) if isinstance(error, argparse.ArgumentError) or _OF_UNIONS in text else text
