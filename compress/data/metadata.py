"""Metadata files of audiofolders: rows as they stand there, and what is wrong with those that cannot be read."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compress.data.audio import AUDIO_SUFFIXES
from compress.data.checks import is_text

FILE_COLUMN = "file_name"
ENCODING = "utf-8-sig"


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
    """Reads every row of a `.csv` file with a header, or of a `.jsonl` file with an object a line.

    Args:
        path: of the file.

    Raises:
        ValueError: naming the file and, where there is one, the line: if it is no text, a quote is never closed, a
            line is no JSON, or a column is named twice.
    """
    read = _csv_rows if path.suffix == ".csv" else _json_rows
    try:
        with path.open(encoding=ENCODING, newline="") as file:
            return list(read(file, str(path)))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: {_undecodable(path.read_bytes())} is no UTF-8; save the file as UTF-8") from error


def _undecodable(content: bytes) -> str:
    """Names the line that cannot be decoded; the error of a file that is read in pieces does not know it."""
    readable = content.decode(ENCODING, errors="surrogateescape")
    lines = (number for number, line in enumerate(readable.splitlines(), start=1) if not is_text(line))
    return f"line {next(lines, 1)}"


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
        row = json.loads(text, object_pairs_hook=_Pairs)
    except (json.JSONDecodeError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else "it is nested too deeply"
        raise ValueError(f"{where}: line {line} cannot be read as JSON: {reason}; write one object a line") from error
    if not isinstance(row, _Pairs):
        return MetadataRow(line, fault=f"line {line} is no JSON object")
    twice = [name for name, count in Counter(name for name, _ in row).items() if count > 1]
    return MetadataRow(line, dict(row), f"line {line} names {twice[0]!r} more than once" if twice else "")


class _Pairs(list[tuple[str, Any]]):
    """The names and values of a JSON object in their order, repeated ones as well."""
