"""Metadata files of audiofolders: rows as they stand there, and what is wrong with those that cannot be read."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compress.data.formats.entries import AUDIO_SUFFIXES
from compress.data.formats.text_files import open_text

FILE_COLUMN = "file_name"


@dataclass(frozen=True)
class MetadataRow:
    """One row of a metadata file.

    Attributes:
        line: where it begins in the file, from 1.
        values: its columns.
        fault: why the row cannot be used; empty where it can.
    """

    line: int
    values: dict[str, Any] = field(default_factory=dict)
    fault: str = ""


def read_metadata(path: Path) -> list[MetadataRow]:
    """Reads every row of a `.csv` file with a header, or of any other file with a JSON object a line.

    Args:
        path: of the file.

    Raises:
        ValueError: naming the file and, where there is one, the line: if it is no text, a quote is never closed, a
            line is no JSON, or a column is named twice.
    """
    read = _csv_rows if path.suffix == ".csv" else _json_rows
    with open_text(path, newline="") as file:
        return list(read(file, str(path)))


def _csv_rows(file: Any, where: str) -> Iterator[MetadataRow]:
    header: list[str] | None = None
    for line, cells in _csv_cells(file, where):
        if not cells:
            continue
        if header is None:
            header = _distinct(cells, where)
            continue
        _refuse_swallowed(cells, header, line, where)
        values = dict(zip(header, cells, strict=False))
        yield MetadataRow(line, values, _cells_fault(line, cells, header))


def _csv_cells(file: Any, where: str) -> Iterator[tuple[int, list[str]]]:
    """Yields the cells of every row with the line on which it begins."""
    reader = csv.reader(file, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise ValueError(
                f"{where}: line {line} cannot be read: {error}; a quote that begins a field must be closed at its end, "
                "and one inside is written twice"
            ) from error
        if cells is None:
            return
        yield line, cells


def _distinct(header: list[str], where: str) -> list[str]:
    if twice := [name for name, count in Counter(header).items() if count > 1]:
        raise ValueError(f"{where}: the column {twice[0]!r} stands in the header more than once; rename one of them")
    return header


def _refuse_swallowed(cells: list[str], header: list[str], line: int, where: str) -> None:
    """Refuses a quoted field that holds whole rows, since then a quote before them was never closed."""
    place = header.index(FILE_COLUMN) if FILE_COLUMN in header else 0
    for inside in (text for cell in cells for text in cell.splitlines()[1:]):
        fields = inside.split(",")
        if len(fields) > place and Path(fields[place]).suffix.lower() in AUDIO_SUFFIXES:
            raise ValueError(
                f"{where}: line {line} begins a quote that is not closed before the row {inside!r}; close it, or leave "
                "the quote out"
            )


def _cells_fault(line: int, cells: list[str], header: list[str]) -> str:
    if len(cells) == len(header):
        return ""
    hint = "; put a text with commas in quotes" if len(cells) > len(header) else ""
    return f"line {line} has {len(cells)} fields, the header {len(header)}{hint}"


def _json_rows(file: Any, where: str) -> Iterator[MetadataRow]:
    for line, text in enumerate(file, start=1):
        if text.strip():
            yield _json_row(line, text, where)


def _json_row(line: int, text: str, where: str) -> MetadataRow:
    try:
        row = json.loads(text, object_pairs_hook=_Object)
    except (json.JSONDecodeError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else "it is nested too deeply"
        raise ValueError(f"{where}: line {line} cannot be read as JSON: {reason}; write one object a line") from error
    if not isinstance(row, _Object):
        return MetadataRow(line, fault=f"line {line} is no JSON object")
    return MetadataRow(line, row, f"line {line} names {row.twice[0]!r} more than once" if row.twice else "")


class _Object(dict[str, Any]):
    """A JSON object, and which of its names stand in it more than once."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.twice = [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]
