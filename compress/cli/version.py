"""Print the versions of this package and of what it stands on, for a bug report.

Example:
  compress version
"""

from __future__ import annotations

import importlib.metadata
import platform
import sys
from collections.abc import Sequence

DEPENDENCIES = ("torch", "torchaudio", "transformers", "accelerate", "datasets")


def run(arguments: Sequence[str]) -> None:
    """Prints one version per line.

    Args:
        arguments: The words after `compress version`: none.
    """
    from compress.cli import parse_verb, verb_parser
    from compress.files.shipped import __version__

    parse_verb(verb_parser("version", __doc__), arguments)
    sys.stdout.write(f"conformer-compress {__version__}\n")
    for name in DEPENDENCIES:
        sys.stdout.write(f"{name} {_version(name)}\n")
    sys.stdout.write(f"python {platform.python_version()} on {platform.system()} {platform.machine()}\n")


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"
