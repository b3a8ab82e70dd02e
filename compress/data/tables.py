"""Speech in tables: parquet, arrow, saved data sets and the Hub, read as a whole or as a stream of rows."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compress.data.columns import FurtherColumns, TableColumns
from compress.data.folders import find_metadata
from compress.data.formats.entries import Remark
from compress.data.formats.recognise import SAVED_MARKERS, TABLE_SUFFIXES
from compress.data.formats.splits import files_of_split
from compress.data.settings import SpeechConfig
from compress.data.sources import Origin, Payload, Source, audio_payload, below, require_column, stamp
from compress.data.streams import ParquetShard, RemoteShard, Shard, StreamSource, TableShard, row_name


@dataclass
class TableSource:
    """A `datasets` table whose audio column holds bytes, paths or both; relative paths begin at one of `roots`."""

    name: str
    origin: Origin
    table: Any
    audio_column: str
    roots: Sequence[Path]
    ids: list[str]
    texts: list[object]
    columns: FurtherColumns
    faults: dict[int, str] = field(default_factory=dict)
    remarks: list[Remark] = field(default_factory=list)
    said_seconds: dict[int, float] = field(default_factory=dict)

    def payload(self, index: int) -> Payload:
        """Returns the bytes of one row's audio, else its path."""
        return audio_payload(self.table[index][self.audio_column], self.roots)

    def place(self, index: int) -> str | None:
        """Returns the path of one row's audio, if it is a file of its own."""
        path = os.path.realpath(below(self.roots, self.ids[index]))
        return path if os.path.isfile(path) else None

    def stamps(self) -> list[str]:
        """Returns the table's fingerprint, and the stamps of its own files and of those it points to."""
        roots = [root.resolve() for root in self.roots]
        tables = [stamp(file.parent, file.name) for file in sorted(self.origin.files)]
        audio = (below(roots, name) for name in self.ids)
        return [str(self.table._fingerprint), *tables, *(stamp(path.parent, path.name) for path in audio)]


def is_table_folder(path: Path) -> bool:
    """Says whether a folder is a saved data set, or holds tables and no metadata file."""
    if any((path / name).is_file() for name in SAVED_MARKERS):
        return True
    return find_metadata(path) is None and bool(_table_files(path))


def open_table(path: Path, config: SpeechConfig, *, labels: bool, files: Sequence[Path] = ()) -> Source | StreamSource:
    """Opens a table, a folder of tables, a saved data set, or a data set on the Hub.

    Args:
        path: where `config.source` is, if it is local.
        config: the data set.
        labels: whether transcripts are needed.
        files: tables that are read for any split, where `path` is a pattern of them.

    Raises:
        ValueError: if there is no such thing, or if it lacks a split or a column.
    """
    rows, origin, files = _load_rows(path, config, files)
    everything, rows = rows, _without_decoding(rows, config, labels=labels)
    roots = [*sorted({file.parent for file in origin.files}), path if path.is_dir() else path.parent]
    if config.streaming:
        return StreamSource(config.source, origin, _shards(rows, files, config, labels=labels), config, roots)
    rows = rows.select(range(min(len(rows), config.limit or len(rows))))
    if not len(rows):
        raise ValueError(f"{config.source}: split {config.split!r} holds no rows")
    texts = list(rows[config.text_column]) if config.text_column in rows.column_names else [None] * len(rows)
    columns, names = TableColumns(everything.select(range(len(rows)))), _row_names(rows, config)
    return TableSource(config.source, origin, rows, config.audio_column, roots, names, texts, columns)


def _table_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if path.suffix in TABLE_SUFFIXES else []
    for suffix in TABLE_SUFFIXES:
        files = sorted(path.rglob(f"*{suffix}"))
        if files:
            return files
    return []


def _shards(rows: Any, files: Sequence[Path], config: SpeechConfig, *, labels: bool) -> list[Shard]:
    """What a stream reads: files on this machine, of which any row can be found, else shards on the Hub."""
    import datasets

    if isinstance(rows, datasets.Dataset):
        return [TableShard(rows)]
    if files and files[0].suffix == ".parquet":
        return [ParquetShard(file, (config.audio_column, config.text_column)) for file in files]
    if files:
        tables = (datasets.Dataset.from_file(str(file)) for file in files)
        return [TableShard(_without_decoding(table, config, labels=labels)) for table in tables]
    return [RemoteShard(rows, number) for number in range(rows.num_shards)]


def _load_rows(path: Path, config: SpeechConfig, matched: Sequence[Path]) -> tuple[Any, Origin, Sequence[Path]]:
    """Loads what is there.

    Returns:
        A table or a stream, where it comes from, and the files on this machine that a stream reads.
    """
    import datasets

    if any((path / name).is_file() for name in SAVED_MARKERS):
        return *_load_saved(path, config), ()
    files = matched or (_table_files(path) if path.exists() else [])
    if files:
        kind = TABLE_SUFFIXES[files[0].suffix]
        chosen = [] if matched else files_of_split(files, path, config.split)
        origin = Origin.of(chosen or files, whole=not chosen)
        names = [glob.escape(str(file.resolve())) for file in chosen or files]
        rows = datasets.load_dataset(kind, data_files=names, split="train", streaming=config.streaming)
        return rows, origin, chosen or files
    if path.exists():
        raise ValueError(f"{path}: not a data set; give a metadata file, a .parquet or .arrow file, or a folder")
    if path.is_absolute() or config.source.startswith((".", "~")):
        raise ValueError(f"{path}: no such folder or file")
    return _load_from_hub(config), Origin(), ()


def _load_from_hub(config: SpeechConfig) -> Any:
    import datasets

    try:
        return datasets.load_dataset(config.source, config.subset, split=config.split, streaming=config.streaming)
    except Exception as error:  # the Hub client raises many kinds; all of them mean that the name cannot be opened
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"{config.source}: no such folder or file, and no data set of that name can be opened from the Hub "
            f"(subset {config.subset}, split {config.split!r}): {reason}"
        ) from error


def _load_saved(path: Path, config: SpeechConfig) -> tuple[Any, Origin]:
    import datasets

    saved = datasets.load_from_disk(str(path))
    whole = not isinstance(saved, datasets.DatasetDict)
    if not whole:
        if config.split not in saved:
            raise ValueError(f"{path}: no split {config.split!r}; it has {', '.join(saved)}. Set split to one of them.")
        saved = saved[config.split]
    files = (path if whole else path / config.split).glob("*.arrow")
    return saved, Origin.of(files, whole=whole)


def _without_decoding(rows: Any, config: SpeechConfig, *, labels: bool) -> Any:
    import datasets

    columns = rows.column_names or list(next(iter(rows.take(1)), {}))
    require_column(config.audio_column, dict.fromkeys(columns), config.source, "audio_column")
    if labels:
        require_column(config.text_column, dict.fromkeys(columns), config.source, "text_column")
    if isinstance((rows.features or {}).get(config.audio_column), datasets.Audio):
        rows = rows.cast_column(config.audio_column, datasets.Audio(decode=False))
    return rows.select_columns([name for name in (config.audio_column, config.text_column) if name in columns])


def _row_names(rows: Any, config: SpeechConfig) -> list[str]:
    column = config.audio_column
    flat = rows.select_columns([column]).flatten()  # reads the paths without touching the bytes beside them
    name = next((candidate for candidate in (f"{column}.path", column) if candidate in flat.column_names), None)
    cells = list(flat.select_columns([name])[name]) if name else [None] * len(rows)
    return [row_name(cell, f"row {number}") for number, cell in enumerate(cells)]
