"""The command `compress`: one verb, one file, one function `run`.

The first line of a verb's module says what it does (and stands in the overview); the whole docstring is its `--help`.
A verb imports what it needs when it runs: neither the overview nor a verb that needs no model waits for torch.
"""

from __future__ import annotations

import ast
import importlib
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.logging import RichHandler

from compress.config import FAILURES, USAGE_EXIT_CODE, fail, nearest

VERBS = (
    "inspect", "check", "profile", "shrink", "prune", "analyze", "search", "apply", "elastic", "extract", "skip",
    "train", "train-supernet", "evaluate", "export", "transcribe", "push", "demo", "ls", "cat", "cp", "version",
)  # fmt: skip
WITHOUT_MODELS = ("prune", "train", "train-supernet", "ls", "cat", "cp", "version")
_INTERRUPTED_EXIT_CODE = 130
_HELP_OPTIONS = ("-h", "--help")

_OVERVIEW = """\
usage: compress VERB [OPTIONS]

Make a Conformer speech recogniser smaller: learn which parts it needs, remove the rest, and measure what that cost.

verbs:
{verbs}

`compress help VERB` explains one verb. prune, train and train-supernet start the recipes (`compress ls`), as this does:
  accelerate launch recipes/prune.py --config configs/demo/prune.yaml --budget.params 50%
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs `compress VERB ...`.

    Args:
        arguments: The command line without the program's name; `sys.argv[1:]` when None.

    Returns:
        The exit code: 0, 2 for a mistake of the user (one message on stderr), or 130 when interrupted.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in _HELP_OPTIONS or words == ["help"]:
        sys.stdout.write(overview())
        return 0 if words else USAGE_EXIT_CODE
    name, *rest = ["version" if words[0] == "--version" else words[0], *words[1:]]
    if name == "help" and rest:
        name, rest = rest[0], [_HELP_OPTIONS[-1]]
    name = name.replace("_", "-")
    if name not in VERBS:
        sys.stderr.write(f"compress: error: {_no_verb(name)}\n")
        return USAGE_EXIT_CODE
    return _run(name, rest)


def overview() -> str:
    """Describes every verb in one line, as `compress --help` shows it."""
    width = max(map(len, VERBS))
    return _OVERVIEW.format(verbs="\n".join(f"  {name:{width}}  {_summary(name)}" for name in VERBS))


def _run(name: str, arguments: Sequence[str]) -> int:
    handler = RichHandler(console=Console(stderr=True), show_path=False)
    logging.basicConfig(level=logging.INFO, format="%(message)s", datefmt="[%X]", handlers=[handler])
    try:
        if name not in WITHOUT_MODELS:
            importlib.import_module("compress.model.registration")  # which `import compress` does, but for the command
            importlib.import_module(
                "transformers.utils.logging"
            ).disable_progress_bar()  # of reading and writing weights
        importlib.import_module(f"{__name__}.{_module_name(name)}").run(arguments)
    except BrokenPipeError:
        sys.stderr.close()  # The reader, for example `head`, has what it wanted.
    except KeyboardInterrupt:
        sys.stderr.write(f"compress {name}: interrupted\n")
        return _INTERRUPTED_EXIT_CODE
    except FAILURES as error:
        fail(f"compress {name}", error)
    return 0


def _no_verb(name: str) -> str:
    near = nearest(name, (*VERBS, "help"))
    return f"there is no verb '{name}'. Did you mean '{near}'? The verbs are {', '.join(VERBS)}"


def _module_name(verb: str) -> str:
    return verb.replace("-", "_")


def _summary(name: str) -> str:
    """The first line of a verb's module, which is not imported for it."""
    text = Path(__file__).with_name(f"{_module_name(name)}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]
