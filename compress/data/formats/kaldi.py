"""Kaldi's data folders: `wav.scp`, `segments`, `text`, `utt2spk`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from compress.data.formats.arks import place_in_ark, records
from compress.data.formats.commands import allowed, command_in, file_of
from compress.data.formats.entries import Entry, Listed, Remark, Stored, Wanted, located, number_of
from compress.data.formats.text_files import split_line, text_lines

WAVS, SEGMENTS, TEXT, SPEAKERS = "wav.scp", "segments", "text", "utt2spk"
FEATURES = "feats.scp"
TO_THE_END = -1.0
_REST = 1
_SEGMENT_FIELDS = (3, 4)


class _Line(NamedTuple):
    """What stands behind the id in a line, and the number of the line."""

    number: int
    rest: str


@dataclass(frozen=True)
class _Recording:
    """Where the audio of an id of `wav.scp` is, or why it is nowhere."""

    audio: Path | Stored | None
    fault: str


def read_kaldi(folder: Path, wanted: Wanted) -> Listed:
    """Reads a data folder; the order of lines does not matter.

    Args:
        folder: with `wav.scp`.
        wanted: what is asked for.

    Raises:
        ValueError: if `text` is missing but needed, shares no id with the audio, or an id has two different lines.
    """
    listing = Listed(files=[folder / name for name in (WAVS, SEGMENTS, TEXT) if (folder / name).is_file()])
    wavs = _by_id(folder / WAVS, listing)
    recordings = _recordings(wavs, folder, wanted)
    texts = _texts(folder, wanted, listing)
    speakers = _by_id(folder / SPEAKERS, listing) if (folder / SPEAKERS).is_file() else {}
    if (folder / SEGMENTS).is_file():
        listing.entries = _segments(_by_id(folder / SEGMENTS, listing), recordings)
    else:
        listing.entries = [Entry(name, found.audio, fault=found.fault) for name, found in recordings.items()]
    _require_shared(folder, texts, listing)
    for entry in listing.entries:
        entry.text = texts[entry.id].rest if entry.id in texts else None
        entry.columns = {"speaker": speakers[entry.id].rest if entry.id in speakers else None} if speakers else {}
    there = {entry.id for entry in listing.entries}
    listing.entries += [
        Entry(name, None, fault=f"no audio: {TEXT} line {line.number} has it, {WAVS} or {SEGMENTS} not")
        for name, line in texts.items()
        if name not in there
    ]
    return listing


def _texts(folder: Path, wanted: Wanted, listing: Listed) -> Mapping[str, _Line]:
    if (folder / TEXT).is_file():
        listing.text_from = TEXT
        return _by_id(folder / TEXT, listing)
    if wanted.labels:
        raise ValueError(f"{folder}: no transcripts; the file {TEXT!r} is missing")
    return {}


def _by_id(path: Path, listing: Listed) -> dict[str, _Line]:
    """Every line by its id.

    Raises:
        ValueError: with both numbers, if an id has two lines that differ.
    """
    lines: dict[str, _Line] = {}
    for number, line in text_lines(path):
        name, rest = [*split_line(line, _REST), ""][:2]
        first = lines.setdefault(name, _Line(number, rest))
        if first.number == number:
            continue
        if first.rest != rest:
            raise ValueError(f"{path}: {name!r} stands on lines {first.number} and {number}, which differ; keep one")
        listing.remarks.append(Remark(name, f"the same line twice: {path.name} lines {first.number} and {number}"))
    if not lines:
        raise ValueError(f"{path}: holds no lines")
    return lines


def _recordings(wavs: Mapping[str, _Line], folder: Path, wanted: Wanted) -> dict[str, _Recording]:
    roots = [folder, folder.absolute().parent.parent, Path()]
    found = {name: _recording(line, roots, wanted) for name, line in wavs.items()}
    places = {name: place for name, line in wavs.items() if (place := place_in_ark(line.rest))}
    in_archives = {name: (path, place[1]) for name, place in places.items() if (path := found[name].audio)}
    made = records((path, offset) for path, offset in in_archives.values() if isinstance(path, Path))
    for name, (path, offset) in in_archives.items():
        if isinstance(path, Path):
            found[name] = _Recording(made[path, offset], "")
    return found


def _recording(line: _Line, roots: Sequence[Path], wanted: Wanted) -> _Recording:
    """The file that a line names; of an archive, the archive itself."""
    name = line.rest
    command = command_in(name)
    handed_on = file_of(command) if command is not None else name
    if handed_on is None:
        runnable, why = allowed(command or "", wanted.allow_commands)
        return _Recording(runnable, f"{WAVS} line {line.number} is {why}" if why else "")
    if not handed_on or handed_on == "-" or handed_on.startswith("|"):
        return _Recording(None, f"{WAVS} line {line.number} names no file: {name!r}")
    place = place_in_ark(handed_on)
    return _Recording(*located(place[0] if place else handed_on, roots))


def _segments(lines: Mapping[str, _Line], recordings: Mapping[str, _Recording]) -> list[Entry]:
    return [_segment(name, line, recordings) for name, line in lines.items()]


def _segment(name: str, line: _Line, recordings: Mapping[str, _Recording]) -> Entry:
    fields = split_line(line.rest)
    where = f"{SEGMENTS} line {line.number}"
    if len(fields) not in _SEGMENT_FIELDS:
        return Entry(name, None, fault=f"{where} has {len(fields) + 1} fields; utterance, recording, start, end")
    recording = recordings.get(fields[0])
    if recording is None:
        return Entry(name, None, fault=f"{where} names a recording that {WAVS} does not have: {fields[0]!r}")
    start, end = number_of(fields[1]), number_of(fields[2])
    channel = fields[3] if len(fields) > len(("recording", "start", "end")) else None
    if start is None or end is None or start < 0 or (end <= start and end != TO_THE_END):
        return Entry(name, None, fault=f"{where} names no part of a recording: from {fields[1]} to {fields[2]}")
    if channel is not None and not channel.isdecimal():
        return Entry(name, None, fault=f"{where} names channel {channel!r}: give its number, from 0")
    return Entry(
        name,
        recording.audio,
        channel=None if channel is None else int(channel),
        start=start,
        seconds=None if end == TO_THE_END else end - start,
        fault=recording.fault,
    )


def _require_shared(folder: Path, texts: Mapping[str, _Line], listing: Listed) -> None:
    if texts and not any(entry.id in texts for entry in listing.entries):
        here, there = listing.entries[0].id, next(iter(texts))
        raise ValueError(
            f"{folder}: no id is shared by {TEXT} and the audio; {TEXT} has {there!r}, the audio has {here!r}"
        )
