"""lhotse's cuts: JSON lines that are read here as they stand; lhotse itself computes what only it can."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import soundfile

from compress.data.formats.commands import PIPE, allowed
from compress.data.formats.entries import MOST, Entry, Listed, Remark, Stored, Wanted, located, number_of
from compress.data.formats.metadata import MetadataRow, read_metadata

TEXT_FROM = "supervisions[].text"
MIXED, PADDING = "MixedCut", "PaddingCut"
SAME_SECONDS = 0.001
"""A cut that differs by less from its recording is the whole of it."""

_NUMBER = (int, float)
_SUPERVISION = {"custom": {}, "start": _NUMBER, "duration": _NUMBER}
_RECORDING = {"sources": [{"channels": [int], "type": str}], "duration": _NUMBER}
_CUT: dict[str, Any] = {
    "recording": _RECORDING, "supervisions": [_SUPERVISION], "custom": {}, "start": _NUMBER, "duration": _NUMBER,
}  # fmt: skip
_CUT["tracks"] = [{"cut": _CUT}]
"""What must be of these types for a cut to be understood."""

Cut = Mapping[str, Any]
FindCut = Callable[[Cut, MetadataRow, "int | None"], tuple["Path | Stored | None", "int | None", str]]
"""Finds a cut's audio, or one channel of its recording: where it is, which channel there, or why it is nowhere."""


@dataclass(frozen=True)
class ComputedCut:
    """A cut whose audio lhotse computes: several tracks, or one that is transformed.

    Attributes:
        cut: as its line says it, with paths that are found.
    """

    cut: Cut

    @property
    def place(self) -> None:
        """None: a program makes the audio."""

    @property
    def files(self) -> tuple[Path, ...]:
        """Every recording of its tracks."""
        return tuple(Path(source["source"]) for source in _sources(self.cut) if source.get("type") == "file")

    def read(self) -> bytes:
        """Returns the bytes of a wav file of what lhotse computes."""
        from lhotse import CutSet

        cut = next(iter(CutSet.from_dicts([dict(self.cut)])))
        wav = io.BytesIO()
        soundfile.write(wav, cut.load_audio().T, cut.sampling_rate, format="WAV", subtype="FLOAT")
        return wav.getvalue()


def read_cuts(paths: Sequence[Path], wanted: Wanted) -> Listed:
    """Reads manifests of cuts whose audio lies in files.

    Relative paths begin at the manifest's folder, or else at the working directory. A cut with several supervisions
    gives an utterance for each.

    Args:
        paths: of the manifests; together they are one data set.
        wanted: what is asked for.

    Raises:
        ValueError: naming file and line, if one cannot be read.
    """
    listing = Listed(files=list(paths), text_from=TEXT_FROM)
    for path in paths:
        for row in read_metadata(path):
            add_cut(listing, row, wanted, path, _in_files(path, wanted))
    return listing


def add_cut(listing: Listed, row: MetadataRow, wanted: Wanted, path: Path, place: FindCut) -> None:
    """Adds the utterances of one cut to a listing.

    Args:
        listing: to add to.
        row: of the manifest.
        wanted: what is asked for.
        path: of the manifest.
        place: finds the audio.
    """
    name = str(row.values.get("id") or f"{path.name} line {row.line}")
    if fault := row.fault or misshapen(row.values):
        listing.entries.append(Entry(name, None, fault=fault if row.fault else f"line {row.line}: {fault}"))
        return
    cut = row.values
    no_span = f"line {row.line} {fault}" if (fault := _no_span(cut, 0.0)) else ""
    supervisions = [part for part in cut.get("supervisions") or [] if isinstance(part, Mapping)]
    audio, channel, why = place(cut, row, None)
    if isinstance(audio, ComputedCut):
        tracks = [track.get("cut", {}) for track in cut.get("tracks") or []]
        supervisions = [part for track in tracks for part in track.get("supervisions") or []] or supervisions
        listing.remarks.append(Remark(name, "computed by lhotse: it has tracks or transforms, which are augmentation"))
        text = " ".join(str(part.get("text") or "") for part in supervisions)
        listing.entries.append(Entry(name, audio, text, fault=why or no_span, columns=_columns(cut, supervisions)))
    elif len(supervisions) > 1 and wanted.labels:
        listing.remarks.append(Remark(name, f"several supervisions: {len(supervisions)}, each an utterance of its own"))
        for part in supervisions:
            audio, channel, why = place(cut, row, _own_channel(cut, part))
            listing.entries.append(_part(name, audio, channel, cut, part, why or no_span))
    else:
        listing.entries.append(_whole(name, audio, channel, cut, supervisions, why or no_span))


def _own_channel(cut: Cut, part: Cut) -> int | None:
    """The one of several channels in which a supervision is, where it names one."""
    own, named = cut.get("channel"), part.get("channel")
    channels = named if isinstance(named, list) else [named]
    return channels[0] if isinstance(own, list) and len(channels) == 1 and channels[0] in own else None


def misshapen(cut: Cut) -> str:
    """Says which value of a cut is of another type than lhotse writes there; empty where none is."""
    try:
        return _misshapen(cut, _CUT, "")
    except RecursionError:
        return "nested too deeply"


def _misshapen(value: Any, form: Any, where: str) -> str:
    """Compares a value with a form: an object of forms by name, a list of one form, or types."""
    if value is None:
        return ""
    kind: Any = type(form) if isinstance(form, dict | list) else form
    if not isinstance(value, kind) or isinstance(value, bool):
        return f"{where.lstrip('.')} is {type(value).__name__}, which cannot be"
    parts: list[tuple[Any, Any, str]] = []
    if isinstance(form, dict):
        parts = [(value.get(name), part, f"{where}.{name}") for name, part in form.items()]
    elif isinstance(form, list):
        parts = [(item, form[0], where) for item in value]
    return next(filter(None, (_misshapen(*part) for part in parts)), "")


def needs_lhotse(cut: Cut) -> bool:
    """Says whether a cut's audio has to be computed."""
    recording = cut.get("recording") or {}
    return cut.get("type") == MIXED or bool(recording.get("transforms"))


def source_of(cut: Cut) -> tuple[Mapping[str, Any] | None, int | None, str]:
    """Finds the one source that holds a cut's channels.

    Returns:
        The source, the channel in it (None: all of them), and why there is no such source.
    """
    recording = cut.get("recording") or {}
    sources = [part for part in recording.get("sources") or [] if isinstance(part, Mapping)]
    if not sources:
        return None, None, "no recording, features only" if cut.get("features") else "no recording"
    channels = cut.get("channel", 0)
    channels = list(channels) if isinstance(channels, list) else [channels]
    if not all(isinstance(channel, int) for channel in channels):
        return None, None, f"channel is {cut['channel']!r}, which cannot be"
    source = next((part for part in sources if set(channels) <= set(part.get("channels") or [0])), None)
    if source is None:
        return None, None, f"channels {channels} lie in {len(sources)} files: cut them apart by channel"
    own = list(source.get("channels") or [0])
    if 1 < len(channels) < len(own):
        return None, None, f"channels {channels} are some of the {len(own)} in their file: cut them apart by channel"
    return source, own.index(channels[0]) if len(channels) == 1 and len(own) > 1 else None, ""


def _in_files(path: Path, wanted: Wanted) -> FindCut:
    roots = [path.parent, Path()]

    def place(cut: Cut, row: MetadataRow, channel: int | None) -> tuple[Path | Stored | None, int | None, str]:
        if cut.get("type") == PADDING:
            return None, None, f"line {row.line} is padding, no speech"
        if commands := [command for command in _commands(cut) if not wanted.allow_commands]:
            return None, None, f"line {row.line} is {allowed(commands[0], False)[1]}"
        if needs_lhotse(cut):
            return _computed(cut, roots)
        source, channel, why = source_of(cut if channel is None else {**cut, "channel": channel})
        if source is None:
            return None, None, f"line {row.line}: {why}"
        if command := next(_commands(cut), None):
            return *allowed(command, wanted.allow_commands)[:1], channel, ""
        if source.get("type") != "file":
            return None, None, f"line {row.line}: audio of type {source.get('type')!r}, not in a file"
        audio, why = located(str(source.get("source")), roots)
        return audio, channel, why

    return place


def _computed(cut: Cut, roots: Sequence[Path]) -> tuple[Stored | None, int | None, str]:
    if importlib.util.find_spec("lhotse") is None:
        return None, None, "lhotse is needed for its tracks or transforms: pip install lhotse"
    found = _with_paths(cut, roots)
    return ComputedCut(found), None, ""


def _with_paths(value: Any, roots: Sequence[Path]) -> Any:
    """A cut with the path of every source found, where it can be."""
    if isinstance(value, list):
        return [_with_paths(item, roots) for item in value]
    if not isinstance(value, Mapping):
        return value
    copied = {key: _with_paths(item, roots) for key, item in value.items()}
    if copied.get("type") == "file" and isinstance(copied.get("source"), str):
        copied["source"] = str(located(copied["source"], roots)[0] or copied["source"])
    return copied


def _commands(cut: Cut) -> Iterator[str]:
    """Every command in a cut, its tracks included."""
    for source in _sources(cut):
        if source.get("type") == "command" or source["source"].startswith(PIPE):
            yield source["source"].removeprefix(PIPE)


def _sources(value: Any) -> Iterator[Mapping[str, Any]]:
    """Every source in a cut, its tracks included."""
    if isinstance(value, list):
        for item in value:
            yield from _sources(item)
    elif isinstance(value, Mapping):
        if isinstance(value.get("source"), str):
            yield value
        for item in value.values():
            yield from _sources(item)


def _whole(
    name: str, audio: Path | Stored | None, channel: int | None, cut: Cut, supervisions: Sequence[Cut], why: str
) -> Entry:
    text = supervisions[0].get("text") if supervisions else None
    entry = Entry(name, audio, text, channel, fault=why, columns=_columns(cut, supervisions))
    start, seconds = number_of(cut.get("start")) or 0.0, number_of(cut.get("duration"))
    total = number_of((cut.get("recording") or {}).get("duration"))
    if start <= 0 and (seconds is None or total is None or abs(seconds - total) < SAME_SECONDS):
        entry.said_seconds = total
    else:
        entry.start, entry.seconds = start, seconds
    return entry


def _part(name: str, audio: Path | Stored | None, channel: int | None, cut: Cut, part: Cut, why: str) -> Entry:
    begin, seconds = number_of(part.get("start")) or 0.0, number_of(part.get("duration"))
    start = (number_of(cut.get("start")) or 0.0) + begin
    own = f"{name}/{part.get('id', format(begin, 'g'))}"
    why = why or _no_span(part, -MOST)
    if start < 0:  # who speaks may have begun before the recording does
        start, seconds = 0.0, None if seconds is None else seconds + start
        if seconds is not None and seconds <= 0:
            why = why or f"ends before its recording begins: by {-seconds:.2f} s"
    return Entry(own, audio, part.get("text"), channel, start, seconds, fault=why, columns=_columns(cut, [part]))


def _no_span(part: Cut, least: float) -> str:
    """Says why start and duration name no part of a recording; those that are left out are for others to say."""
    start, seconds = part.get("start"), part.get("duration")
    begin, length = number_of(0.0 if start is None else start), number_of(MOST / 2 if seconds is None else seconds)
    if begin is not None and begin >= least and length is not None and length > 0:
        return ""
    return f"names no part of a recording: start {start!r}, duration {seconds!r}"


def _columns(cut: Cut, supervisions: Sequence[Cut]) -> dict[str, Any]:
    """What is said of the speech: of the first supervision, and the cut's own further values."""
    said = supervisions[0] if supervisions else {}
    plain = {key: said.get(key) for key in ("speaker", "gender", "language") if said.get(key) is not None}
    custom = {**(cut.get("custom") or {}), **(said.get("custom") or {})}
    return {**{key: value for key, value in custom.items() if isinstance(value, str | int | float)}, **plain}
