"""Where speech comes from: folders with a metadata file, tables (parquet, arrow, the Hub), streams."""

from __future__ import annotations

import csv
import json
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np

from compress.data.audio import AUDIO_SUFFIXES
from compress.data.settings import SpeechConfig

logger = logging.getLogger(__name__)

FILE_COLUMN = "file_name"
METADATA_NAMES = ("metadata.csv", "metadata.jsonl")
TABLE_SUFFIXES = {".parquet": "parquet", ".arrow": "arrow"}
SAVED_MARKERS = ("dataset_dict.json", "state.json")
SHUFFLE_ROWS = 1000
"""Rows that a stream holds to shuffle them."""

Item = TypeVar("Item")
Payload = bytes | Path | None
"""A file's bytes, its path, or `None` where a row holds neither."""


@dataclass(frozen=True)
class Origin:
    """What is read for a split.

    Attributes:
        files: metadata file, tables, or folder of audio without either, as resolved paths; empty for the Hub.
        whole: whether the source has no splits, so that all of it is read for any.
    """

    files: frozenset[Path] = frozenset()
    whole: bool = False

    @classmethod
    def of(cls, files: Iterable[Path], *, whole: bool) -> Origin:
        """An origin that compares equal however its paths are written."""
        return cls(frozenset(file.resolve() for file in files), whole)


class Source(Protocol):
    """A data set that can be counted and read in any order."""

    name: str
    origin: Origin
    ids: list[str]
    texts: list[object]

    def payload(self, index: int) -> Payload:
        """The bytes or the path of one entry's audio."""

    def stamps(self) -> list[str]:
        """What identifies the audio's present content: names, sizes and times of change, or a fingerprint."""


@dataclass
class FolderSource:
    """Audio files and a metadata file, in the audiofolder convention."""

    name: str
    origin: Origin
    root: Path
    ids: list[str]
    texts: list[object]

    def payload(self, index: int) -> Payload:
        """The path of one entry's audio file."""
        return self.root / self.ids[index]

    def stamps(self) -> list[str]:
        """Name, size and time of change of every file."""
        return [_stamp(self.root, name) for name in self.ids]


@dataclass
class TableSource:
    """A `datasets` table whose audio column holds bytes, paths or both."""

    name: str
    origin: Origin
    table: Any
    audio_column: str
    root: Path
    ids: list[str]
    texts: list[object]

    def payload(self, index: int) -> Payload:
        """The bytes of one row's audio, else its path."""
        return audio_payload(self.table[index][self.audio_column], self.root)

    def stamps(self) -> list[str]:
        """The table's fingerprint, and the stamps of the files it points to."""
        return [str(self.table._fingerprint), *(_stamp(self.root, name) for name in self.ids)]


class Row(NamedTuple):
    """One row of a stream.

    Attributes:
        id: unique among the rows that are read.
        file: its file name, or its number.
        text: the transcript, if it is text.
        payload: the audio.
    """

    id: str
    file: str
    text: object
    payload: Payload


@dataclass
class StreamSource:
    """A `datasets` stream: rows as they come."""

    name: str
    origin: Origin
    rows: Any
    config: SpeechConfig
    root: Path

    def read(self, *, shuffle: bool, seed: int, epoch: int) -> Iterator[Row]:
        """Yields every row, in an order that follows from seed and epoch.

        Repeated names are numbered in the order of shards and rows, as in a listed data set; where shards are shuffled,
        which of them comes first follows from seed and epoch too.

        Args:
            shuffle: take shards in random order, and rows at random from a buffer of `SHUFFLE_ROWS`.
            seed: of the run.
            epoch: number of the epoch.
        """
        random = np.random.default_rng([seed, epoch])
        rows = self._rows(random if shuffle else None)
        return _mixed(rows, random) if shuffle else rows

    def _rows(self, random: np.random.Generator | None) -> Iterator[Row]:
        # The library's own shuffling gives other rows in a worker process than outside of one.
        shards = [self.rows.shard(self.rows.num_shards, number) for number in range(self.rows.num_shards)]
        order = range(len(shards)) if random is None or self.config.limit else random.permutation(len(shards)).tolist()
        every = ((shard, number, row) for shard in order for number, row in enumerate(shards[shard]))
        seen: Counter[str] = Counter()
        for shard, number, row in islice(every, self.config.limit):
            cell = row[self.config.audio_column]
            where = f"shard {shard} row {number}" if len(shards) > 1 else f"row {number}"
            name = _row_name(cell, where)
            yield Row(numbered(name, seen), name, row.get(self.config.text_column), audio_payload(cell, self.root))


def open_source(config: SpeechConfig, *, labels: bool) -> Source | StreamSource:
    """Finds out what `config.source` is, opens it, and warns if it has no splits.

    Args:
        config: the data set.
        labels: whether transcripts are needed.

    Raises:
        ValueError: naming what was looked for, what is there, and the remedy.
    """
    source = _open(Path(config.source).expanduser(), config, labels=labels)
    if source.origin.whole:
        logger.warning("%s has no split %r: the whole of it is read", config.source, config.split)
    return source


def _open(path: Path, config: SpeechConfig, *, labels: bool) -> Source | StreamSource:
    if path.is_file() and path.suffix in (".csv", ".jsonl"):
        return read_folder(path.parent, path, config, labels=labels, whole=True)
    if path.is_dir() and not _is_table_folder(path):
        return _open_folder(path, config, labels=labels)
    return _open_table(path, config, labels=labels)


def read_folder(root: Path, metadata: Path, config: SpeechConfig, *, labels: bool, whole: bool) -> FolderSource:
    """Reads one metadata file.

    Args:
        root: the folder that file names start from.
        metadata: the file to read.
        config: the data set.
        labels: whether transcripts are needed.
        whole: whether the file is read for any split.

    Raises:
        ValueError: if it lacks `file_name` or the transcript column, or holds no rows.
    """
    rows = _read_rows(metadata)[: config.limit]
    if not rows:
        raise ValueError(f"{metadata}: holds no rows")
    _require_column(FILE_COLUMN, rows[0], str(metadata))
    if labels:
        _require_column(config.text_column, rows[0], str(metadata), "text_column")
    names = [str(row.get(FILE_COLUMN) or f"row {number}") for number, row in enumerate(rows)]
    _warn_of_unlisted(root, metadata, names, config.limit)
    texts = [row.get(config.text_column) for row in rows]
    return FolderSource(str(root), Origin.of([metadata], whole=whole), root, names, texts)


def audio_payload(cell: object, root: Path) -> Payload:
    """The bytes of an audio cell if it has them, else its path (a relative one under `root`)."""
    if isinstance(cell, dict):
        return cell["bytes"] if cell.get("bytes") else audio_payload(cell.get("path"), root)
    if isinstance(cell, bytes):
        return cell
    return root / cell if isinstance(cell, str) else None


def unique(names: Iterable[str]) -> list[str]:
    """Names with `#2`, `#3`, ... after the second, third, ... of a kind."""
    seen: Counter[str] = Counter()
    return [numbered(name, seen) for name in names]


def numbered(name: str, seen: Counter[str]) -> str:
    """The name itself if `seen` does not hold it, else with a number; `seen` holds it afterwards."""
    seen[name] += 1
    return name if seen[name] == 1 else numbered(f"{name}#{seen[name]}", seen)


def _open_folder(root: Path, config: SpeechConfig, *, labels: bool) -> FolderSource:
    folder = root / config.split
    metadata = _find_metadata(folder)
    if metadata is not None:
        return read_folder(folder, metadata, config, labels=labels, whole=False)
    metadata = _find_metadata(root)
    if metadata is not None:
        return read_folder(root, metadata, config, labels=labels, whole=True)
    splits = sorted(child.name for child in root.iterdir() if child.is_dir() and _find_metadata(child))
    if splits:
        raise ValueError(f"{root}: no split {config.split!r}; it has {', '.join(splits)}. Set split to one of them.")
    if not labels:
        return _bare_folder(folder if folder.is_dir() else root, config, whole=not folder.is_dir())
    raise ValueError(
        f"{root}: neither it nor its folder {config.split!r} holds {' or '.join(METADATA_NAMES)}; "
        f"write one with the columns {FILE_COLUMN} and {config.text_column}"
    )


def _bare_folder(root: Path, config: SpeechConfig, *, whole: bool) -> FolderSource:
    names = sorted(_audio_files(root))[: config.limit]
    if not names:
        raise ValueError(f"{root}: holds no {', '.join(AUDIO_SUFFIXES)} files")
    return FolderSource(str(root), Origin.of([root], whole=whole), root, names, [None] * len(names))


def _find_metadata(folder: Path) -> Path | None:
    found = [folder / name for name in METADATA_NAMES if (folder / name).is_file()]
    if len(found) > 1:
        raise ValueError(f"{folder}: holds both {' and '.join(METADATA_NAMES)}; remove one, or name it as the source")
    return found[0] if found else None


def _read_rows(metadata: Path) -> list[dict[str, Any]]:
    try:
        with metadata.open(encoding="utf-8-sig", newline="") as file:
            if metadata.suffix == ".csv":
                return list(csv.DictReader(file))
            return [json.loads(line) for line in file if line.strip()]
    except (csv.Error, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{metadata}: cannot be read: {error}") from error


def _require_column(column: str, row: dict[str, Any], where: str, key: str | None = None) -> None:
    if column not in row:
        remedy = f"; set {key} to one of them" if key else ""
        raise ValueError(f"{where}: no column {column!r}; it has {', '.join(map(str, row))}{remedy}")


def _audio_files(root: Path) -> Iterator[str]:
    for path in root.rglob("*"):
        if path.suffix.lower() in AUDIO_SUFFIXES:
            yield path.relative_to(root).as_posix()


def _warn_of_unlisted(root: Path, metadata: Path, names: Sequence[str], limit: int | None) -> None:
    unlisted = set(_audio_files(root)) - {Path(name).as_posix() for name in names} if limit is None else set()
    if unlisted:
        logger.warning(
            "%s: %d audio files are not listed in %s and not used, such as %s",
            root,
            len(unlisted),
            metadata.name,
            min(unlisted),
        )


def _is_table_folder(path: Path) -> bool:
    if any((path / name).is_file() for name in SAVED_MARKERS):
        return True
    return _find_metadata(path) is None and bool(_table_files(path))


def _table_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if path.suffix in TABLE_SUFFIXES else []
    for suffix in TABLE_SUFFIXES:
        files = sorted(path.rglob(f"*{suffix}"))
        if files:
            return files
    return []


def _open_table(path: Path, config: SpeechConfig, *, labels: bool) -> Source | StreamSource:
    rows, origin = _load_rows(path, config)
    rows = _without_decoding(rows, config, labels=labels)
    root = path if path.is_dir() else path.parent
    if config.streaming:
        return StreamSource(config.source, origin, rows, config, root)
    rows = rows.select(range(min(len(rows), config.limit or len(rows))))
    if not len(rows):
        raise ValueError(f"{config.source}: split {config.split!r} holds no rows")
    texts = list(rows[config.text_column]) if config.text_column in rows.column_names else [None] * len(rows)
    return TableSource(config.source, origin, rows, config.audio_column, root, _row_names(rows, config), texts)


def _load_rows(path: Path, config: SpeechConfig) -> tuple[Any, Origin]:
    import datasets

    if any((path / name).is_file() for name in SAVED_MARKERS):
        return _load_saved(path, config)
    files = _table_files(path) if path.exists() else []
    if files:
        kind = TABLE_SUFFIXES[files[0].suffix]
        chosen = _files_of_split(files, path, config.split)
        origin = Origin.of(chosen or files, whole=not chosen)
        names = [str(file) for file in chosen or files]
        return datasets.load_dataset(kind, data_files=names, split="train", streaming=config.streaming), origin
    if path.exists():
        raise ValueError(f"{path}: not a data set; give a metadata file, a .parquet or .arrow file, or a folder")
    if path.is_absolute() or config.source.startswith((".", "~")):
        raise ValueError(f"{path}: no such folder or file")
    return _load_from_hub(config), Origin()


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
    return saved.to_iterable_dataset() if config.streaming else saved, Origin.of(files, whole=whole)


def _files_of_split(files: Sequence[Path], path: Path, split: str) -> list[Path]:
    """The files of a folder that are named after a split; none if the folder does not tell splits apart."""
    if path.is_file():
        return []
    return [file for file in files if file.name.startswith(split) or split in file.relative_to(path).parts[:-1]]


def _without_decoding(rows: Any, config: SpeechConfig, *, labels: bool) -> Any:
    import datasets

    columns = rows.column_names or list(next(iter(rows.take(1)), {}))
    _require_column(config.audio_column, dict.fromkeys(columns), config.source, "audio_column")
    if labels:
        _require_column(config.text_column, dict.fromkeys(columns), config.source, "text_column")
    if isinstance((rows.features or {}).get(config.audio_column), datasets.Audio):
        rows = rows.cast_column(config.audio_column, datasets.Audio(decode=False))
    return rows.select_columns([name for name in (config.audio_column, config.text_column) if name in columns])


def _row_names(rows: Any, config: SpeechConfig) -> list[str]:
    column = config.audio_column
    flat = rows.select_columns([column]).flatten()  # reads the paths without touching the bytes beside them
    name = next((candidate for candidate in (f"{column}.path", column) if candidate in flat.column_names), None)
    cells = list(flat.select_columns([name])[name]) if name else [None] * len(rows)
    return [_row_name(cell, f"row {number}") for number, cell in enumerate(cells)]


def _row_name(cell: object, otherwise: str) -> str:
    path = cell.get("path") if isinstance(cell, dict) else cell
    return path if isinstance(path, str) and path else otherwise


def _mixed(rows: Iterable[Item], random: np.random.Generator) -> Iterator[Item]:
    """Rows at random from a buffer that is kept full."""
    buffer: list[Item] = []
    for row in rows:
        if len(buffer) < SHUFFLE_ROWS:
            buffer.append(row)
            continue
        place = int(random.integers(SHUFFLE_ROWS))
        yield buffer[place]
        buffer[place] = row
    yield from (buffer[place] for place in random.permutation(len(buffer)))


def _stamp(root: Path, name: str) -> str:
    try:
        status = (root / name).stat()
    except OSError:
        return f"{name}|missing"
    return f"{name}|{status.st_size}|{status.st_mtime_ns}"
