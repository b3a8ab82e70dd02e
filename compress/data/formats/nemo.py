"""NeMo manifests: JSON lines that name audio files, or parts of them, with their transcripts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from compress.data.formats.commands import allowed, command_in, file_of
from compress.data.formats.entries import Entry, Listed, Remark, Stored, Wanted, located, number_of, span, text_key
from compress.data.formats.metadata import MetadataRow, read_metadata
from compress.files.reading import require_regular

AUDIO_KEYS = ("audio_filename", "audio_filepath", "audio_file")
TEXT_KEYS = ("text", "text_filepath", "normalized_text")
TEXT_FILE = "text_filepath"
MOST_TEXT_BYTES = 1 << 20
CHANNEL_KEYS = ("channel", "channel_selector")

FindAudio = Callable[[str, MetadataRow], tuple["Path | Stored | None", str]]
"""Finds the audio that a row names: where it is, or None and why it is nowhere."""


def read_manifests(paths: Sequence[Path], wanted: Wanted) -> Listed:
    """Reads manifests whose audio lies in files.

    Relative paths begin at the manifest's folder, or else at the working directory.

    Args:
        paths: of the manifests; together they are one data set.
        wanted: what is asked for.

    Raises:
        ValueError: naming file and line, if one cannot be read, or the keys, if no transcripts are there.
    """
    rows = [(path, row) for path in paths for row in read_metadata(path)]
    key = key_of_texts([row for _, row in rows], wanted, paths[0])
    listing = Listed(files=list(paths), text_from=key)
    for path, row in rows:
        add_row(listing, row, key, wanted, path, beside(path, wanted))
    return listing


def key_of_texts(rows: Sequence[MetadataRow], wanted: Wanted, path: Path) -> str:
    """Chooses the key of transcripts, see `text_key`; empty where there are no rows."""
    return text_key((name for row in rows for name in row.values), TEXT_KEYS, wanted, str(path)) if rows else ""


def beside(manifest: Path, wanted: Wanted) -> FindAudio:
    """Makes the function that finds audio files for a manifest."""

    def place(name: str, row: MetadataRow) -> tuple[Path | Stored | None, str]:
        command = command_in(name)
        handed_on = file_of(command) if command is not None else name
        if command is None or handed_on is not None:
            return located(handed_on or name, [manifest.parent, Path()])
        runnable, why = allowed(command, wanted.allow_commands)
        return runnable, f"line {row.line} is {why}" if why else ""

    return place


def add_row(listing: Listed, row: MetadataRow, key: str, wanted: Wanted, path: Path, place: FindAudio) -> None:
    """Adds what one row says to a listing: an entry, or a remark if the row is to be skipped.

    Args:
        listing: to add to.
        row: of the manifest.
        key: of transcripts.
        wanted: what is asked for.
        path: of the manifest.
        place: finds the audio.
    """
    values = row.values
    name = next((values[audio] for audio in AUDIO_KEYS if audio in values), None)
    where = f"{path.name} line {row.line}"
    if skip := values.get("_skipme"):
        listing.remarks.append(Remark(str(name or where), f"marked to be skipped: _skipme {skip!r}"))
        return
    fault = row.fault or (_translation(values) if wanted.labels else "")
    if isinstance(name, list):
        name, fault = _one_of_several(name, wanted.channel, fault)
    if not isinstance(name, str) or not name:
        reason = fault or f"line {row.line} names no audio; it has {', '.join(values)}"
        listing.entries.append(Entry(where, None, fault=reason, columns=values))
        return
    audio, why = place(name, row)
    text, unread = _text(values, key, path)
    listing.entries.append(_entry(name, audio, row, fault or why or unread, text))
    _remark_on_numbers(listing, listing.entries[-1].id, values)


def _entry(name: str, audio: Path | Stored | None, row: MetadataRow, fault: str, text: object) -> Entry:
    values = row.values
    duration = number_of(values.get("duration"))
    named = [value for key in CHANNEL_KEYS if isinstance(value := values.get(key), int) and not isinstance(value, bool)]
    channel = next(iter(named), None)
    if values.get("offset") is None:
        return Entry(name, audio, text, channel, said_seconds=duration, fault=fault, columns=values)
    start = number_of(values["offset"])
    if start is None or start < 0 or (duration is not None and duration <= 0):
        there = f"offset {values['offset']!r} and duration {values.get('duration')!r}"
        fault = fault or f"line {row.line} names no part of a file: {there}"
        return Entry(name, audio, text, fault=fault, columns=values)
    return Entry(span(name, start, duration), audio, text, channel, start, duration, fault=fault, columns=values)


def _text(values: Mapping[str, Any], key: str, path: Path) -> tuple[object, str]:
    """The transcript of a row, and why the file that holds it cannot be read."""
    value = values.get(key)
    if key != TEXT_FILE or not isinstance(value, str):
        return value, ""
    file, why = located(value, [path.parent, Path()])
    try:
        if file is None:
            return None, f"no transcript: {why}"
        require_regular(file, MOST_TEXT_BYTES)
        return file.read_text(encoding="utf-8-sig"), ""
    except (ValueError, OSError) as error:
        return None, f"its transcript cannot be read: {value}: {error}"


def _translation(values: Mapping[str, Any]) -> str:
    source, target = values.get("source_lang"), values.get("target_lang")
    if not source or not target or source == target:
        return ""
    return f"a translation from {source} into {target}: its text is no transcript of what is said"


def _one_of_several(names: list[Any], channel: int | None, fault: str) -> tuple[Any, str]:
    """The file of the wanted channel, where each is a file of its own."""
    if channel is None:
        return names[0] if names else None, fault or f"{len(names)} files, one a channel: set data.channel to take one"
    if channel >= len(names):
        return names[0] if names else None, fault or f"has no channel {channel}: it has {len(names)}, counted from 0"
    return names[channel], fault


def _remark_on_numbers(listing: Listed, name: str, values: Mapping[str, Any]) -> None:
    duration = values.get("duration")
    if duration is not None and number_of(duration) is None:
        listing.remarks.append(Remark(name, f"duration is no number: {duration!r}, measured instead"))
