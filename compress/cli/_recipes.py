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
PATIENCE = 3.0
"""Seconds that an interrupted recipe has to end before it is told again, because only its launcher was."""
LONG = 60.0
"""And that it then has."""
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
        with _ended_together():
            launch_command(launch_command_parser().parse_args([path, *arguments]))
    except CalledProcessError as error:
        if error.returncode >= 0:
            sys.exit(error.returncode)  # the recipe has said why
        ended = signal.Signals(-error.returncode)
        by = ended.name + (" (is memory short?)" if ended == signal.SIGKILL else "")
        sys.stderr.write(f"{recipe}: ended by {by}; the same command goes on from the last checkpoint\n")
        sys.exit(BY_SIGNAL + ended)


@contextmanager
def _ended_together() -> Iterator[None]:
    """Inside, who ends this process ends what it has started, and it ends when that has ended.

    Ctrl-C reaches both; `kill -INT` only this process.
    """
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
    except KeyboardInterrupt:
        _, deaf = psutil.wait_procs(psutil.Process().children(), PATIENCE)
        for child in deaf:
            child.send_signal(signal.SIGINT)
        psutil.wait_procs(deaf, LONG)
        raise
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
