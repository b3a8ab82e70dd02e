"""Whether a run is being continued with the settings it was started with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

MISSING = "(absent)"
OUTPUT = "output"
"""The setting that names the folder of a run."""
STAGES = "stages"
"""Folder, in the output of a run, of the outputs of its stages."""


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

    Paths in the run's own folder are the same where they are so seen from there: it may have been moved since.

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
        and _seen_from_run(before, key) != _seen_from_run(after, key)
        and not any(fnmatchcase(key, pattern) for pattern in harmless)
    }


def _seen_from_run(settings: Mapping[str, Any], key: str) -> Any:
    """A setting; of a path in the folder of the run, that of all stages, what is behind this folder."""
    value, output = settings.get(key, MISSING), settings.get(OUTPUT)
    if not isinstance(value, str) or not isinstance(output, str):
        return value
    folder = Path(output)
    folder = folder.parents[1] if folder.parent.name == STAGES else folder
    return Path(value).relative_to(folder) if Path(value).is_relative_to(folder) else value


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
