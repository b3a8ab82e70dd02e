"""Print the versions of this package and of what it stands on, for a bug report.

Example:
  compress version
"""

from __future__ import annotations

import importlib.metadata
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from compress.config import parse
from compress.files.shipped import __version__

DEPENDENCIES = ("torch", "torchaudio", "transformers", "accelerate", "datasets", "evaluate")


@dataclass(frozen=True)
class VersionConfig:
    """Nothing can be chosen."""


def run(arguments: Sequence[str]) -> None:
    """Prints one version per line.

    Args:
        arguments: The words after `compress version`: none.
    """
    parse(VersionConfig, arguments, prog="compress version", description=__doc__)
    sys.stdout.write(f"conformer-compress {__version__}\n")
    for name in DEPENDENCIES:
        sys.stdout.write(f"{name} {_version(name)}\n")
    sys.stdout.write(f"python {platform.python_version()} on {platform.system()} {platform.machine()}\n")


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"
