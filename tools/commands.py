"""The command line of a tool: one command, or several that the first word names, each with a config of its own."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from typing import Any, get_type_hints

from compress.config import fail, parse

Command = Callable[[Any], None]
"""A function of one frozen dataclass; its fields are the options."""


def main(*commands: Command, positional: Sequence[str] = ()) -> None:
    """Runs the command that the words after the program's name ask for; a mistake ends the process with one message.

    Args:
        commands: what the tool can do. Of several, the first word names one.
        positional: the options that can be given without their names, in order.
    """
    description = sys.modules["__main__"].__doc__ or ""
    program, words = shlex.join(_program()), sys.argv[1:]
    command = commands[0]
    if len(commands) > 1:
        command = _named(commands, words[:1], program, description)
        program, words = f"{program} {words[0]}", words[1:]
    (config_class,) = (hint for name, hint in get_type_hints(command).items() if name != "return")
    config = parse(config_class, words, prog=program, description=description, positional=positional)
    try:
        command(config)
    except (ValueError, OSError) as error:
        fail(program, error)


def _named(commands: tuple[Command, ...], words: list[str], program: str, description: str) -> Command:
    names = {command.__name__: command for command in commands}
    if words in (["--help"], ["-h"]):
        print(description)
        sys.exit()
    if not words or words[0] not in names:
        fail(program, ValueError(f"The first word is one of {', '.join(names)}; given: {' '.join(words) or 'none'}."))
    return names[words[0]]


def typed() -> str:
    """The command that runs at present, as a reader of RESULTS.md would type it in the checkout."""
    return shlex.join([*_program(), *sys.argv[1:]])


def _program() -> list[str]:
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return ["python", "-m", spec.name] if spec else ["python", sys.argv[0]]
