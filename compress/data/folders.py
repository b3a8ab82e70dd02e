"""Speech in folders: audio files and a metadata file, in the audiofolder convention, or audio files alone."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from compress.data.columns import FurtherColumns, MetadataColumns
from compress.data.formats.entries import AUDIO_SUFFIXES, Remark
from compress.data.formats.metadata import FILE_COLUMN, MetadataRow, read_metadata
from compress.data.formats.recognise import METADATA_NAMES, looked_for
from compress.data.formats.text_files import is_text
from compress.data.settings import SpeechConfig
from compress.data.sources import Origin, Payload, require_column, stamp

logger = logging.getLogger(__name__)


@dataclass
class FolderSource:
    """Audio files and a metadata file, in the audiofolder convention."""

    name: str
    origin: Origin
    root: Path
    ids: list[str]
    texts: list[object]
    columns: FurtherColumns
    faults: dict[int, str] = field(default_factory=dict)
    remarks: list[Remark] = field(default_factory=list)
    said_seconds: dict[int, float] = field(default_factory=dict)

    def payload(self, index: int) -> Payload:
        """Returns the path of one entry's audio file."""
        return self.root / self.ids[index]

    def place(self, index: int) -> str | None:
        """Returns the path of one entry's audio file, however it is written."""
        return os.path.realpath(self.root / self.ids[index])

    def stamps(self) -> list[str]:
        """Returns what `stamp` says of every file."""
        root = self.root.resolve()
        return [stamp(root, name) for name in self.ids]


def open_folder(root: Path, config: SpeechConfig, *, labels: bool) -> FolderSource:
    """Opens the split of a folder; where the folder has no splits, all of it.

    Args:
        root: the folder.
        config: the data set.
        labels: whether transcripts are needed.

    Raises:
        ValueError: if it has splits, but not this one, or if it lacks a metadata file that is needed.
    """
    folder = root / config.split
    metadata = find_metadata(folder)
    if metadata is not None:
        return read_folder(folder, metadata, config, labels=labels, whole=False)
    metadata = find_metadata(root)
    if metadata is not None:
        return read_folder(root, metadata, config, labels=labels, whole=True)
    splits = sorted(child.name for child in root.iterdir() if child.is_dir() and find_metadata(child))
    if splits:
        raise ValueError(f"{root}: no split {config.split!r}; it has {', '.join(splits)}. Set split to one of them.")
    if not labels:
        return _bare_folder(folder if folder.is_dir() else root, config, whole=not folder.is_dir())
    raise ValueError(
        f"{root}: neither it nor its folder {config.split!r} holds {' or '.join(METADATA_NAMES)}; "
        f"write one with the columns {FILE_COLUMN} and {config.text_column} ({looked_for(root)})"
    )


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
    rows = read_metadata(metadata)[: config.limit]
    if not rows:
        raise ValueError(f"{metadata}: holds no rows")
    named = {name: None for row in rows for name in row.values}
    require_column(FILE_COLUMN, named, str(metadata))
    if labels:
        require_column(config.text_column, named, str(metadata), "text_column")
    faults = {number: fault for number, row in enumerate(rows) if (fault := _fault(row))}
    names = [_name(row) for row in rows]
    _warn_of_unlisted(root, metadata, names, config.limit)
    texts = [row.values.get(config.text_column) for row in rows]
    columns = MetadataColumns(metadata, len(rows))
    return FolderSource(str(root), Origin.of([metadata], whole=whole), root, names, texts, columns, faults)


def find_metadata(folder: Path) -> Path | None:
    """Finds the metadata file of a folder, if it has one.

    Raises:
        ValueError: if it has two.
    """
    present = [folder / name for name in METADATA_NAMES if (folder / name).is_file()]
    if len(present) > 1:
        raise ValueError(f"{folder}: holds both {' and '.join(METADATA_NAMES)}; remove one, or name it as the source")
    return present[0] if present else None


def _bare_folder(root: Path, config: SpeechConfig, *, whole: bool) -> FolderSource:
    names = sorted(_audio_files(root))[: config.limit]
    if not names:
        raise ValueError(f"{root}: holds no {', '.join(AUDIO_SUFFIXES)} files")
    columns = MetadataColumns(None, len(names))
    return FolderSource(str(root), Origin.of([root], whole=whole), root, names, [None] * len(names), columns)


def _fault(row: MetadataRow) -> str:
    """Says why a row names no file that can be read; empty where it does."""
    name = row.values.get(FILE_COLUMN)
    if row.fault:
        return row.fault
    if not isinstance(name, str) or not name:
        return f"line {row.line} names no file in {FILE_COLUMN}"
    return "" if _is_file_name(name) else f"line {row.line} names a file as no file can be called: {name!r}"


def _name(row: MetadataRow) -> str:
    name = row.values.get(FILE_COLUMN)
    return name if isinstance(name, str) and name and _is_file_name(name) else f"line {row.line}"


def _is_file_name(name: str) -> bool:
    return "\0" not in name and is_text(name)


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
