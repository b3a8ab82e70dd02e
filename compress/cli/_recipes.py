"""What the verbs that start a recipe have in common."""

from __future__ import annotations

import importlib.util
import logging
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

HELP = {"-h", "--help"}
BY_SIGNAL = 128
_MODULE = "compress_recipe"


def launch(verb: str, recipe: str, description: str, arguments: Sequence[str]) -> None:
    """Does what `accelerate launch recipes/NAME.py ARGUMENTS` does; what `accelerate config` has saved is obeyed.

    Args:
        verb: for the help.
        recipe: the name of its file.
        description: for the help.
        arguments: The words after the verb.

    Raises:
        SystemExit: with the recipe's exit code, if it fails; as shells do, 128 and the signal's number if one ended it.
    """
    from subprocess import CalledProcessError

    from accelerate.commands.launch import launch_command, launch_command_parser

    from compress.config import parse
    from compress.files.shipped import find

    path = str(find(f"recipes/{recipe}").path)
    if HELP.intersection(arguments):
        parse(_module(path).Config, ["--help"], prog=f"compress {verb}", description=description)
    logging.getLogger("accelerate.commands.launch").setLevel(logging.ERROR)  # it lists the defaults that it takes
    try:
        with _terminated_together():
            launch_command(launch_command_parser().parse_args([path, *arguments]))
    except CalledProcessError as error:  # the recipe has said why
        sys.exit(error.returncode if error.returncode >= 0 else BY_SIGNAL - error.returncode)


@contextmanager
def _terminated_together() -> Iterator[None]:
    """Inside, who terminates this process terminates what it has started, and it ends when that has ended."""
    import psutil

    def pass_on(number: int, frame: Any) -> None:
        children = psutil.Process().children()
        for child in children:
            child.send_signal(number)
        if not children:
            sys.exit(BY_SIGNAL + number)

    before = signal.signal(signal.SIGTERM, pass_on)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _module(path: str) -> Any:
    spec = importlib.util.spec_from_file_location(_MODULE, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[_MODULE] = module  # where its dataclasses look for the types that they name
    spec.loader.exec_module(module)
    return module
