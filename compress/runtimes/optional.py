"""Packages that exports need and nothing else does."""

from __future__ import annotations

from importlib.util import find_spec

EXTRA = 'pip install ".[export]"'


class MissingPackageError(ValueError):
    """An optional package that is needed now is not installed."""


def require_packages(purpose: str, *names: str) -> None:
    """Refuses to begin where a package is missing.

    Args:
        purpose: what needs them, for the message.
        names: of the packages, as they are imported.

    Raises:
        MissingPackageError: naming what is missing and how to install it, in one line.
    """
    missing = [name for name in names if find_spec(name) is None]
    if missing:
        raise MissingPackageError(f"{purpose} needs {' and '.join(missing)}: in a checkout, {EXTRA}")
