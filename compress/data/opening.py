"""From a user's words to a data set: found, opened, every entry checked once, what cannot be used reported."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from compress.data.audio import AudioLimits
from compress.data.cache import cache_root, scan
from compress.data.checks import BadDataError, Problem, as_spelt, clean_transcript, report, transcript_problem
from compress.data.dataset import SpeechDataset, SpeechStream, warn_of_shared
from compress.data.folders import open_folder, read_folder
from compress.data.formats.recognise import recognise
from compress.data.listed import READERS, open_listed, open_tar_stream
from compress.data.mix import mixed
from compress.data.remarks import remarks_on, report_remarks
from compress.data.settings import SYNTHETIC, SpeechConfig
from compress.data.sources import Source
from compress.data.streams import StreamSource
from compress.data.synthetic import ensure_corpus
from compress.data.tables import is_table_folder, open_table

logger = logging.getLogger(__name__)


def open_speech(
    config: SpeechConfig, *, sampling_rate: int, vocabulary: Collection[str] | None = None, labels: bool = True
) -> SpeechDataset:
    """Opens a data set, checks every entry, and reports what cannot be used.

    Args:
        config: the data set.
        sampling_rate: the model's, in Hz.
        vocabulary: characters the tokenizer can spell, see `vocabulary_of`; `None` allows any.
        labels: whether transcripts are needed.

    Raises:
        BadDataError: if more entries than `config.max_bad_fraction` cannot be used, or all of them.
        ValueError: if the source cannot be opened.
    """
    if config.mix:
        return _open_mix(config, sampling_rate=sampling_rate, vocabulary=vocabulary, labels=labels)
    if config.source == SYNTHETIC:
        folder = ensure_corpus(cache_root(config), config.synthetic, sampling_rate)
        config = replace(config, source=str(folder), text_column="transcription", streaming=False)
    limits = AudioLimits(sampling_rate, config.min_seconds, config.max_seconds, config.silence_dbfs, config.channel)
    source = _open_source(config, labels=labels)
    if isinstance(source, StreamSource):
        return SpeechStream(source, config, limits, vocabulary, labels)
    if config.streaming:
        raise ValueError(f"{config.source}: only tables, tars and the Hub can be streamed; set streaming: false")
    return _checked(source, config, limits, vocabulary, labels)


OTHER_DEV_SET = "name another source with dev.source, or set dev_split to null"
"""What a training does about a dev set that is no other speech."""


def require_split(
    train: SpeechDataset, dev: SpeechDataset, name: str = "the training set", remedy: str = OTHER_DEV_SET
) -> None:
    """Refuses a dev set that holds the training set, or is part of it, because their source has no splits.

    Args:
        train: the training set, or what else measurements should not be made on.
        dev: the dev set.
        name: what the first is called in messages.
        remedy: what to do about it.

    Raises:
        ValueError: naming a file that both read, and the remedy.
    """
    for part in train.parts():
        shared = part.origin.files & dev.origin.files
        if shared and (part.whole or dev.whole):
            raise ValueError(
                f"the dev set would hold utterances of {name}: both read {min(shared)}, which is not "
                f"divided into splits; {remedy}"
            )
        warn_of_shared(name, part, "the dev set", dev)


def _open_mix(
    config: SpeechConfig, *, sampling_rate: int, vocabulary: Collection[str] | None, labels: bool
) -> SpeechDataset:
    parts = [
        open_speech(part, sampling_rate=sampling_rate, vocabulary=vocabulary, labels=labels) for part in config.each()
    ]
    return mixed(parts, [part.source for part in config.mix], [part.weight for part in config.mix])


def _open_source(config: SpeechConfig, *, labels: bool) -> Source | StreamSource:
    """Finds out what `config.source` is, opens it, and warns if it has no splits.

    Args:
        config: the data set.
        labels: whether transcripts are needed.

    Raises:
        ValueError: naming what was looked for, what is there, and the remedy.
    """
    path = _subset_of(Path(config.source).expanduser(), config)
    source = _open_place(path, config, labels=labels)
    if source.origin.whole:
        logger.warning("%s has no split %r: the whole of it is read", config.source, config.split)
    return source


def _subset_of(path: Path, config: SpeechConfig) -> Path:
    """Returns the folder of a local data set's subset, if one is asked for; data sets on the Hub know their own."""
    if config.subset is None or not path.exists():
        return path
    folder = path / config.subset
    if not folder.is_dir():
        folders = sorted(child.name for child in path.iterdir() if child.is_dir()) if path.is_dir() else []
        there = f"; it holds {', '.join(folders)}" if folders else ""
        raise ValueError(f"{path}: no folder {config.subset!r} for the subset{there}. Set subset to null, or to one.")
    return folder


def _open_place(path: Path, config: SpeechConfig, *, labels: bool) -> Source | StreamSource:
    found = recognise(path, config.split, config.format)
    if found is not None and found.kind == "webdataset" and config.streaming:
        return open_tar_stream(found, config, labels=labels)
    if found is not None and found.kind in READERS:
        return open_listed(found, config, labels=labels)
    if path.is_file() and (path.suffix in (".csv", ".jsonl") or (found is not None and found.kind == "audiofolder")):
        return read_folder(path.parent, path, config, labels=labels, whole=True)
    if path.is_dir() and config.format != "table" and (config.format == "audiofolder" or not is_table_folder(path)):
        return open_folder(path, config, labels=labels)
    if found is not None and found.kind == "audiofolder":
        raise ValueError(f"{path}: a pattern of metadata files; name the folder of one, or several with data.mix")
    return open_table(path, config, labels=labels, files=found.places if found and not path.exists() else ())


def _checked(
    source: Source, config: SpeechConfig, limits: AudioLimits, vocabulary: Collection[str] | None, labels: bool
) -> SpeechDataset:
    store = scan(source, limits, config)
    texts = [as_spelt(clean_transcript(text, config.case), vocabulary) for text in source.texts]
    good: list[int] = []
    problems: list[Problem] = []
    for entry, name in enumerate(source.ids):
        checked = labels and entry not in source.faults
        of_text = transcript_problem(texts[entry], vocabulary) if checked else None
        if reason := "; ".join(filter(None, (store.index.reasons[entry], of_text))):
            problems.append(Problem(name, reason))
        else:
            good.append(entry)
    report(source.name, problems, len(source.ids), config.max_bad_fraction)
    if not good:
        message = f"{source.name}: none of {len(source.ids)} entries can be used; the first: {problems[0]}"
        raise BadDataError(message, problems)
    kept = [texts[entry] for entry in good]
    dataset = SpeechDataset(source, limits.sampling_rate, store, good, kept, problems, config.split)
    dataset.remarks = remarks_on(source, good, store)
    report_remarks(source.name, dataset.remarks)
    return dataset
