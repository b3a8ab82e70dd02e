"""Further columns of a data set, such as who speaks: read when somebody asks for one, and never for training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from compress.data.formats.metadata import read_metadata


class FurtherColumns(Protocol):
    """The columns of a source, entry by entry."""

    def names(self) -> list[str]:
        """Every column, in order."""

    def values(self, name: str) -> list[object]:
        """One column, a value for each entry."""


@dataclass(frozen=True)
class MetadataColumns:
    """Those of a metadata file, which is read anew.

    Attributes:
        path: of the file; None where there is none.
        entries: how many of its rows are read.
    """

    path: Path | None
    entries: int

    def names(self) -> list[str]:
        """Every column, in order."""
        return list({name: None for row in self._rows() for name in row})

    def values(self, name: str) -> list[object]:
        """One column; None where a row does not have it."""
        return [row.get(name) for row in self._rows()]

    def _rows(self) -> Sequence[Mapping[str, Any]]:
        return [row.values for row in read_metadata(self.path)[: self.entries]] if self.path else []


@dataclass(frozen=True)
class TableColumns:
    """Those of a `datasets` table, which stays on the disk until one is asked for."""

    table: Any

    def names(self) -> list[str]:
        """Every column, in order."""
        return list(self.table.column_names)

    def values(self, name: str) -> list[object]:
        """One column."""
        return list(self.table.select_columns([name])[name])


def as_group(value: object) -> str | None:
    """Writes a value as the name of a group; None where there is none.

    Raises:
        ValueError: if it is no text, number or yes and no, by which nothing can be grouped.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if not isinstance(value, str | int | float):
        raise ValueError(f"it holds a value of type {type(value).__name__}; only texts and numbers make groups")
    return str(value).strip() or None
