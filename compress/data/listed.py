"""A source made of a listing, as the readers of `compress.data.formats` give it."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from compress.data.audio import Clip, UnusableAudio
from compress.data.columns import FurtherColumns
from compress.data.formats.cuts import read_cuts
from compress.data.formats.entries import Entry, Listed, Remark, Wanted
from compress.data.formats.kaldi import read_kaldi
from compress.data.formats.nemo import read_manifests
from compress.data.formats.nemo_tarred import read_tarred
from compress.data.formats.recognise import SPEECH_FORMATS, Recognised
from compress.data.formats.shar import read_shar
from compress.data.formats.tar_streams import tar_shards
from compress.data.formats.webdataset import read_webdataset
from compress.data.settings import SpeechConfig
from compress.data.sources import Origin, Payload, stamp
from compress.data.streams import StreamSource

logger = logging.getLogger(__name__)

Reader = Callable[[Sequence[Path], Wanted], Listed]


def _each(read: Callable[[Path, Wanted], Listed]) -> Reader:
    """Reads several folders as one data set."""

    def read_all(folders: Sequence[Path], wanted: Wanted) -> Listed:
        listing = Listed()
        for folder in folders:
            listing.add(read(folder, wanted))
        return listing

    return read_all


READERS: Mapping[str, Reader] = {
    "nemo": read_manifests,
    "nemo_tarred": read_tarred,
    "kaldi": _each(read_kaldi),
    "lhotse": read_cuts,
    "shar": _each(read_shar),
    "webdataset": read_webdataset,
}


@dataclass(frozen=True)
class ListedColumns:
    """What the entries of a listing say beside their transcripts."""

    entries: Sequence[Entry]

    def names(self) -> list[str]:
        """Every column, in order."""
        return list({name: None for entry in self.entries for name in entry.columns})

    def values(self, name: str) -> list[object]:
        """One column; None where an entry does not have it."""
        return [entry.columns.get(name) for entry in self.entries]


@dataclass
class ListedSource:
    """The entries of a listing, as a source."""

    name: str
    origin: Origin
    entries: list[Entry]
    remarks: list[Remark]
    columns: FurtherColumns
    ids: list[str] = field(init=False)
    texts: list[object] = field(init=False)
    faults: dict[int, str] = field(init=False)
    said_seconds: dict[int, float] = field(init=False)

    def __post_init__(self) -> None:
        numbered = list(enumerate(self.entries))
        self.ids = [entry.id for entry in self.entries]
        self.texts = [entry.text for entry in self.entries]
        self.faults = {number: entry.fault for number, entry in numbered if entry.fault}
        self.said_seconds = {number: entry.said_seconds for number, entry in numbered if entry.said_seconds is not None}

    def payload(self, index: int) -> Payload:
        """Returns one entry's audio: a path, bytes, or the part of either that is meant.

        Raises:
            UnusableAudio: if what it is stored in does not give it.
        """
        entry = self.entries[index]
        try:
            audio = entry.audio if entry.audio is None or isinstance(entry.audio, Path) else entry.audio.read()
        except (OSError, ValueError) as error:
            raise UnusableAudio(str(error)) from None
        if audio is None or not entry.is_clip:
            return audio
        return Clip(audio, entry.channel, entry.start, entry.seconds)

    def place(self, index: int) -> str | None:
        """Names one entry's audio: its file, and which part of it."""
        entry = self.entries[index]
        where = (entry.audio,) if isinstance(entry.audio, Path) else entry.audio and entry.audio.place
        if not where:
            return None
        part = (entry.channel, entry.start, entry.seconds) if entry.is_clip else ()
        return "|".join(map(str, (os.path.realpath(where[0]), *where[1:], *part)))

    def stamps(self) -> list[str]:
        """Returns what `stamp` says of every file, and a digest of which parts of them are meant."""
        paths = dict.fromkeys(path for entry in self.entries for path in _files_of(entry))
        parts = hashlib.sha256()
        for entry in self.entries:
            parts.update(repr((entry.audio, entry.channel, entry.start, entry.seconds)).encode())
        return [*(stamp(path.parent, path.name) for path in paths), parts.hexdigest()]


def wanted_of(config: SpeechConfig, *, labels: bool) -> Wanted:
    """Says what a reader of formats is asked for."""
    return Wanted(config.text_column, labels, config.allow_commands, config.channel)


def open_listed(found: Recognised, config: SpeechConfig, *, labels: bool) -> ListedSource:
    """Opens what was recognised as one of the formats of `READERS`.

    Args:
        found: its kind and its places.
        config: the data set.
        labels: whether transcripts are needed.

    Raises:
        ValueError: if it cannot be read, or holds no entries.
    """
    listing = READERS[found.kind](found.places, wanted_of(config, labels=labels))
    entries = listing.entries[: config.limit]
    if not entries:
        raise ValueError(f"{found.places[0]}: holds no utterances, as {SPEECH_FORMATS[found.kind]}{_skipped(listing)}")
    if listing.text_from:
        logger.info("%s: %s; transcripts from %s", config.source, SPEECH_FORMATS[found.kind], listing.text_from)
    origin = Origin.of(listing.files, whole=found.whole)
    return ListedSource(config.source, origin, entries, listing.remarks, ListedColumns(entries))


def open_tar_stream(found: Recognised, config: SpeechConfig, *, labels: bool) -> StreamSource:
    """Opens tars of samples to be read in turn; arguments as of `open_listed`."""
    origin = Origin.of(found.places, whole=found.whole)
    shards = tar_shards(found.places, config.audio_column, wanted_of(config, labels=labels))
    return StreamSource(config.source, origin, shards, config, [])


def _skipped(listing: Listed) -> str:
    return f"; {len(listing.remarks)} were left out, the first: {listing.remarks[0].reason}" if listing.remarks else ""


def _files_of(entry: Entry) -> tuple[Path, ...]:
    if entry.audio is None:
        return ()
    return (entry.audio,) if isinstance(entry.audio, Path) else entry.audio.files
