"""A data set as a list of utterances, checked once, each loaded when it is asked for."""

from __future__ import annotations

import copy
import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from compress.data.audio import AudioLimits, to_float
from compress.data.cache import AudioStore, cache_root, scan
from compress.data.checks import Problem, as_spelt, clean_transcript, report, transcript_problem
from compress.data.columns import as_group
from compress.data.folders import open_folder, read_folder
from compress.data.formats.recognise import recognise
from compress.data.listed import READERS, open_listed
from compress.data.remarks import remarks_on, report_remarks
from compress.data.settings import SYNTHETIC, SpeechConfig
from compress.data.sources import Source, unique
from compress.data.synthetic import ensure_corpus
from compress.data.tables import StreamSource, is_table_folder, open_table

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Utterance:
    """One utterance.

    Attributes:
        id: its file name or row.
        samples: float32 in [-1, 1), mono, `(samples,)`, at the model's rate.
        text: the transcript, or `None`.
        seconds: length in seconds.
    """

    id: str
    samples: NDArray[np.float32]
    text: str | None
    seconds: float


class SpeechDataset(Dataset[Utterance]):
    """The usable entries of a data set; `problems` holds the others.

    Attributes:
        name: the source, for messages.
        sampling_rate: of every utterance, in Hz.
        ids: file names or rows, unique.
        texts: transcripts, or `None`.
        seconds: lengths in seconds.
        problems: entries that cannot be used, with the reason.
        remarks: what was noticed of entries that can be used, and of files.
        origin: the files that were read, and whether they are the whole source.
        whole: whether the source has no splits and was read whole.
        split: the split that was read; None where the whole source was.
        streaming: whether utterances can only be read in turn, through a `SpeechLoader`.
    """

    streaming = False

    def __init__(
        self,
        source: Source | StreamSource,
        sampling_rate: int,
        store: AudioStore | None,
        entries: Sequence[int],
        texts: Sequence[str | None],
        problems: Sequence[Problem],
        split: str,
    ) -> None:
        self.name = source.name
        self.origin = source.origin
        self.whole = source.origin.whole
        self.split = None if self.whole else split
        self.sampling_rate = sampling_rate
        self.problems = list(problems)
        self.remarks: list[Problem] = []
        self._store = store
        self._entries = list(entries)
        self.texts = list(texts)
        names = unique(store.source.ids) if store else []
        self.ids = [names[entry] for entry in entries]
        self.seconds = [store.index.samples[entry] / sampling_rate for entry in entries] if store else []

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: int) -> Utterance:
        if self._store is None:
            raise ValueError(f"{self.name}: a stream has no entry {index}; read it with a SpeechLoader")
        samples = to_float(self._store[self._entries[index]])
        return Utterance(self.ids[index], samples, self.texts[index], self.seconds[index])

    def columns(self) -> list[str]:
        """Names what the source says of its entries, in order; nothing of a stream."""
        return self._store.source.columns.names() if self._store else []

    def groups(self, column: str) -> list[str | None]:
        """Reads a column of the source, such as the speaker.

        Args:
            column: its name.

        Returns:
            The value of each utterance as text, in their order; None where there is none.

        Raises:
            ValueError: naming the columns that there are, if this one is not among them, or holds no texts or numbers.
        """
        if self._store is None:
            raise ValueError(f"{self.name}: the columns of a stream are not read; set data.streaming to false")
        if column not in (names := self.columns()):
            there = f"it has {', '.join(names)}" if names else "nothing but audio files is there"
            raise ValueError(f"{self.name}: no column {column!r}; {there}")
        values = self._store.source.columns.values(column)
        try:
            return [as_group(values[entry]) for entry in self._entries]
        except ValueError as error:
            raise ValueError(f"{self.name}: the column {column!r} cannot be used: {error}") from error

    def sample(self, utterances: int, seed: int = 0) -> SpeechDataset:
        """Draws so many utterances at random, in their order; returns this very data set if it has no more.

        Args:
            utterances: how many.
            seed: decides which.

        Raises:
            TypeError: for a stream, which has no length.
        """
        if utterances >= len(self):
            return self
        chosen = sorted(np.random.default_rng(seed).choice(len(self), utterances, replace=False).tolist())
        smaller = copy.copy(self)
        for name in ("_entries", "texts", "ids", "seconds"):
            setattr(smaller, name, [getattr(self, name)[index] for index in chosen])
        return smaller


class SpeechStream(SpeechDataset):
    """A data set that is read in turn. It has no length; its entries are checked while they are read.

    Args:
        source: where rows come from.
        config: the data set.
        limits: the wanted rate, and what is usable.
        vocabulary: characters the tokenizer can spell; `None` allows any.
        labels: whether transcripts are needed.

    Attributes:
        logged: problems that a person has been told of.
    """

    streaming = True

    def __init__(
        self,
        source: StreamSource,
        config: SpeechConfig,
        limits: AudioLimits,
        vocabulary: Collection[str] | None,
        labels: bool,
    ) -> None:
        super().__init__(source, limits.sampling_rate, None, (), (), (), config.split)
        self.source = source
        self.config = config
        self.limits = limits
        self.vocabulary = vocabulary
        self.labels = labels
        self.logged: set[Problem] = set()

    def __len__(self) -> int:
        raise TypeError(f"{self.name}: a stream has no length; count steps instead of epochs, or set streaming: false")


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
        BadDataError: if more entries than `config.max_bad_fraction` cannot be used.
        ValueError: if the source cannot be opened, or nothing of it can be used.
    """
    if config.source == SYNTHETIC:
        folder = ensure_corpus(cache_root(config), config.synthetic, sampling_rate)
        config = replace(config, source=str(folder), text_column="transcription", streaming=False)
    limits = AudioLimits(sampling_rate, config.min_seconds, config.max_seconds, config.silence_dbfs, config.channel)
    source = _open_source(config, labels=labels)
    if isinstance(source, StreamSource):
        return SpeechStream(source, config, limits, vocabulary, labels)
    if config.streaming:
        raise ValueError(f"{config.source}: only tables and the Hub can be streamed; set streaming: false")
    return _checked(source, config, limits, vocabulary, labels)


def require_split(train: SpeechDataset, dev: SpeechDataset) -> None:
    """Refuses a dev set that holds the training set, or is part of it, because their source has no splits.

    Args:
        train: the training set.
        dev: the dev set.

    Raises:
        ValueError: naming a file that both read, and the remedy.
    """
    shared = train.origin.files & dev.origin.files
    if shared and (train.whole or dev.whole):
        raise ValueError(
            f"the dev set would hold utterances of the training set: both read {min(shared)}, which is not "
            "divided into splits; name another source with dev.source, or set dev_split to null"
        )


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
    if found is not None and found.kind in READERS:
        return open_listed(found, config, labels=labels)
    if path.is_file() and (path.suffix in (".csv", ".jsonl") or (found is not None and found.kind == "audiofolder")):
        return read_folder(path.parent, path, config, labels=labels, whole=True)
    if path.is_dir() and (config.format == "audiofolder" or not is_table_folder(path)):
        return open_folder(path, config, labels=labels)
    return open_table(path, config, labels=labels)


def _checked(
    source: Source, config: SpeechConfig, limits: AudioLimits, vocabulary: Collection[str] | None, labels: bool
) -> SpeechDataset:
    store = scan(source, limits, config)
    texts = [as_spelt(clean_transcript(text, config.case), vocabulary) for text in source.texts]
    good: list[int] = []
    problems: list[Problem] = []
    for entry, name in enumerate(source.ids):
        reasons = [store.index.reasons[entry]] if store.index.reasons[entry] else []
        checked = labels and entry not in source.faults
        text_reason = transcript_problem(texts[entry], vocabulary) if checked else None
        reasons += [text_reason] if text_reason else []
        if reasons:
            problems.append(Problem(name, "; ".join(reasons)))
        else:
            good.append(entry)
    report(source.name, problems, len(source.ids), config.max_bad_fraction)
    if not good:
        raise ValueError(f"{source.name}: none of {len(source.ids)} entries can be used; the first: {problems[0]}")
    kept = [texts[entry] for entry in good]
    dataset = SpeechDataset(source, limits.sampling_rate, store, good, kept, problems, config.split)
    dataset.remarks = remarks_on(source, good, store)
    report_remarks(source.name, dataset.remarks)
    return dataset
