"""Whether a run is being continued with the settings it was started with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

MISSING = "(absent)"


class SettingsChangedError(ValueError):
    """A run is being resumed with settings that would make it another run."""


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as one mapping with dotted keys: `{"a": {"b": 1}}` becomes `{"a.b": 1}`."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = list(value) if isinstance(value, tuple) else value
    return flat


def differing(
    old: Mapping[str, Any], new: Mapping[str, Any], harmless: Sequence[str] = ()
) -> dict[str, tuple[Any, Any]]:
    """The dotted keys whose values differ, with both values.

    Args:
        old: settings, nested.
        new: settings, nested.
        harmless: globs of dotted keys that may differ, e.g. `"logging.*"`.
    """
    before, after = flatten(old), flatten(new)
    return {
        key: (before.get(key, MISSING), after.get(key, MISSING))
        for key in sorted(before.keys() | after.keys())
        if before.get(key, MISSING) != after.get(key, MISSING)
        and not any(fnmatchcase(key, pattern) for pattern in harmless)
    }


def require_same(old: Mapping[str, Any], new: Mapping[str, Any], *, harmless: Sequence[str], where: str) -> None:
    """Refuses to go on with other settings.

    Raises:
        SettingsChangedError: naming every differing key with both values.
    """
    changes = differing(old, new, harmless)
    if changes:
        listed = "; ".join(f"{key} was {was!r}, is {now!r}" for key, (was, now) in changes.items())
        raise SettingsChangedError(
            f"{where} holds a run with other settings: {listed}. "
            "Give another output folder, delete that one, or go back to its settings."
        )
