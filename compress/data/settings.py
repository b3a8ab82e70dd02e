"""What a user can say about speech: one data set, its batches, its augmentation, the synthetic corpus."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal, get_args

from compress.config import check, check_at_least, check_choice, check_positive
from compress.data.formats.recognise import SPEECH_FORMATS, Format

GrammarName = Literal["commands", "digits"]
LetterCase = Literal["keep", "lower", "upper"]

SYNTHETIC = "synthetic"
"""The `source` that stands for the built-in corpus."""


@dataclass(frozen=True)
class SyntheticConfig:
    """The built-in corpus: sentences from a small grammar, spoken by espeak-ng in many voices, with noise.

    Attributes:
        hours: hours of training speech; dev and test come on top.
        seed: everything random follows from it; the same seed gives the same files, bit for bit.
        dev_utterances: utterances in the dev split, spoken by voices and with sentences that train does not hold.
        test_utterances: utterances in the test split, again with unseen voices and unseen sentences.
        grammar: `commands` (about 90 words) or `digits` (10 words).
        min_snr_db: loudest noise, as speech level over noise level in dB.
        max_snr_db: faintest noise, in dB.
    """

    RANGES: ClassVar[dict[str, tuple[float, float]]] = {"min_snr_db": (-100, 100), "max_snr_db": (-100, 100)}

    hours: float = 2.0
    seed: int = 0
    dev_utterances: int = 200
    test_utterances: int = 400
    grammar: GrammarName = "commands"
    min_snr_db: float = 15.0
    max_snr_db: float = 40.0

    def __post_init__(self) -> None:
        check_positive("data.synthetic.hours", self.hours, "a number of hours")
        check_at_least("data.synthetic.dev_utterances", self.dev_utterances, 1)
        check_at_least("data.synthetic.test_utterances", self.test_utterances, 1)
        check_choice("data.synthetic.grammar", self.grammar, get_args(GrammarName))
        remedy = f"give at least min_snr_db {self.min_snr_db:g}"
        check(self.max_snr_db >= self.min_snr_db, "data.synthetic.max_snr_db", self.max_snr_db, remedy)


@dataclass(frozen=True)
class MixConfig:
    """One source of a mix; what it does not say is as for the whole data set.

    Attributes:
        source: as `source` of a data set.
        weight: its share of the seconds, in the same unit as those of the other sources.
        split: the split to read.
        subset: a folder in it, or a configuration on the Hub.
        format: what to take where several kinds lie side by side.
        audio_column: audio column of tables.
        text_column: transcript column.
        case: the case of transcripts.
        channel: the channel to take of several.
        limit: use the first so many entries only.
    """

    source: str
    weight: float = 1.0
    split: str | None = None
    subset: str | None = None
    format: Format | None = None
    audio_column: str | None = None
    text_column: str | None = None
    case: LetterCase | None = None
    channel: int | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        check_positive("data.mix.weight", self.weight, "a share of the seconds, such as 1")


@dataclass(frozen=True)
class SpeechConfig:
    """One data set, or several that are mixed.

    Attributes:
        source: a folder in the audiofolder convention (`metadata.csv` or `metadata.jsonl` with `file_name` and a
            transcript column, in the folder or in `<folder>/<split>/`), such a metadata file, a `.parquet` or `.arrow`
            file or a folder of them, a folder written by `Dataset.save_to_disk`, NeMo manifests (also bucketed and
            tarred), a Kaldi data folder, lhotse cuts or Shar, tars in WebDataset's convention, a pattern of such files
            (`{0..9}`, `*`), a `datasets` name on the Hub, or `synthetic`. What it is, is told by what is in it.
        mix: several sources in place of `source`, each with a weight, which is its share of the seconds; an epoch is
            the first of them once, and the others repeat or go on in the next epoch.
        split: the split to read. A source without splits (a folder with one metadata file, such a file, a single
            table, tables that are named after no split, a saved `Dataset`) is read whole whatever this says, with a
            warning, and reports say so; it cannot be training set and dev set at once.
        subset: the configuration name of a Hub data set, or a folder in a local one.
        format: what to take where several kinds lie side by side: `audiofolder`, `table`, `nemo`, `nemo_tarred`,
            `kaldi`, `lhotse`, `shar` or `webdataset`; null takes the one kind that is there.
        audio_column: audio column of tables and Hub data sets (folders use `file_name`).
        text_column: transcript column; where a manifest, cut or tar has none of that name, its usual one is taken.
        channel: the channel to take of audio with several, from 0; null takes the one that the data name, or the mean.
        allow_commands: run commands that stand in data in place of audio files (`... |`, `pipe:`, lhotse's `command`);
            otherwise such entries are reported.
        streaming: read tables, tars (packed ones as well) and Hub data sets as they come, without a pass over them
            first.
        case: change the case of transcripts: `keep`, `lower` or `upper`.
        max_seconds: longer files are reported and skipped.
        min_seconds: shorter files are reported and skipped.
        silence_dbfs: a file whose peak stays below this level counts as silent.
        max_bad_fraction: unusable files up to this fraction are skipped and reported; beyond it the run stops.
        limit: use the first so many entries only.
        cache_dir: where decoded audio and the synthetic corpus are kept; default `$XDG_CACHE_HOME/conformer-compress`
            or `~/.cache/conformer-compress`.
        cache_max_gib: largest cache of one data set in GiB; audio beyond it is decoded whenever it is needed.
        synthetic: options of the synthetic corpus, used by `source: synthetic` only.
    """

    SHORT_FOR: ClassVar[str] = "source"
    RANGES: ClassVar[dict[str, tuple[float, float]]] = {"silence_dbfs": (-1000, 0), "max_seconds": (0, 86_400)}

    source: str = ""
    split: str = "train"
    subset: str | None = None
    format: Format | None = None
    audio_column: str = "audio"
    text_column: str = "transcription"
    channel: int | None = None
    allow_commands: bool = False
    streaming: bool = False
    case: LetterCase = "keep"
    max_seconds: float = 30.0
    min_seconds: float = 0.1
    silence_dbfs: float = -60.0
    max_bad_fraction: float = 0.01
    limit: int | None = None
    cache_dir: str | None = None
    cache_max_gib: float = 8.0
    synthetic: SyntheticConfig = field(default_factory=SyntheticConfig)
    mix: tuple[MixConfig, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "mix", tuple(self.mix))
        if self.mix and self.source == SYNTHETIC:  # what verbs read unless they are told otherwise
            object.__setattr__(self, "source", "")
        self._check_sources()
        check_choice("data.case", self.case, get_args(LetterCase))
        if self.format is not None:
            check_choice("data.format", self.format, SPEECH_FORMATS)
        check_at_least("data.channel", self.channel, 0)
        check_at_least("data.min_seconds", self.min_seconds, 0)
        longer = self.max_seconds > self.min_seconds
        check(longer, "data.max_seconds", self.max_seconds, f"give more than {self.min_seconds:g}")
        check(self.silence_dbfs < 0, "data.silence_dbfs", self.silence_dbfs, "give a level below 0 dBFS, such as -60")
        fraction = 0 <= self.max_bad_fraction <= 1
        check(fraction, "data.max_bad_fraction", self.max_bad_fraction, "give a fraction from 0 to 1")
        some = self.limit is None or self.limit > 0
        check(some, "data.limit", self.limit, "give at least 1, or leave it out")
        check(self.cache_max_gib >= 0, "data.cache_max_gib", self.cache_max_gib, "give 0 (no cache) or more")

    def _check_sources(self) -> None:
        remedy = (
            "give a folder, a file, a Hub name or 'synthetic', or several as data.mix; a dev set of its own needs "
            "dev.source"
        )
        check(bool(self.source or self.mix), "data.source", self.source, remedy)
        check(not (self.source and self.mix), "data.source", self.source, "leave it empty where data.mix is given")
        alone = not (self.mix and self.streaming)
        check(alone, "data.streaming", self.streaming, "streams cannot be mixed: give false")

    def named(self) -> str:
        """Returns the source, or those that are mixed, for people."""
        return self.source or " + ".join(part.source for part in self.mix)

    def each(self) -> list[SpeechConfig]:
        """Returns the sources of a mix as data sets of their own."""
        own = [{name: value for name, value in vars(part).items() if value is not None} for part in self.mix]
        for settings in own:
            del settings["weight"]
        return [replace(self, mix=(), **settings) for settings in own]


@dataclass(frozen=True)
class BatchConfig:
    """How utterances are put together.

    Attributes:
        seconds: audio in one batch in seconds, padding counted; a longer utterance is a batch of its own.
        max_utterances: at most so many utterances in one batch, whatever their length.
        length_jitter: how far lengths are blurred before sorting, as a fraction, so that every epoch mixes
            utterances anew; 0 sorts exactly and pads least.
        workers: worker processes that load audio and compute features; 0 does it in the training process; null: one,
            and beside a GPU as many as there are cores left, up to 8.
        prefetch_batches: batches that each worker keeps ready.
        buffer_utterances: streaming only: utterances that are held, sorted and cut into batches at a time.
    """

    seconds: float = 80.0
    max_utterances: int | None = None
    length_jitter: float = 0.1
    workers: int | None = None
    prefetch_batches: int = 4
    buffer_utterances: int = 500

    def __post_init__(self) -> None:
        check_positive("batch.seconds", self.seconds, "a number of seconds")
        check_at_least("batch.max_utterances", self.max_utterances, 1)
        check(self.length_jitter >= 0, "batch.length_jitter", self.length_jitter, "give 0 or more, such as 0.1")
        check_at_least("batch.workers", self.workers, 0)
        check_at_least("batch.prefetch_batches", self.prefetch_batches, 1)
        check_at_least("batch.buffer_utterances", self.buffer_utterances, 1)


@dataclass(frozen=True)
class AugmentConfig:
    """Augmentation of training batches; everything is off by default.

    Attributes:
        speed: speed factors, one drawn for each utterance in each epoch, such as (0.9, 1.0, 1.1).
        time_masks: SpecAugment time masks per utterance (spectral features only).
        max_time_mask_seconds: longest time mask in seconds.
        max_time_mask_fraction: longest time mask as a fraction of the utterance.
        freq_masks: SpecAugment frequency masks per utterance (spectral features only).
        max_freq_bins: widest frequency mask in feature bins.
    """

    speed: tuple[float, ...] = ()
    time_masks: int = 0
    max_time_mask_seconds: float = 0.4
    max_time_mask_fraction: float = 0.2
    freq_masks: int = 0
    max_freq_bins: int = 27

    def __post_init__(self) -> None:
        object.__setattr__(self, "speed", tuple(self.speed))
        audible = all(0.5 <= factor <= 2 for factor in self.speed)
        check(audible, "augment.speed", self.speed, "give factors from 0.5 to 2")
        check_at_least("augment.time_masks", self.time_masks, 0)
        check_positive("augment.max_time_mask_seconds", self.max_time_mask_seconds, "a number of seconds")
        fraction, name = self.max_time_mask_fraction, "augment.max_time_mask_fraction"
        check(0 < fraction <= 1, name, fraction, "give a fraction above 0 and up to 1")
        check_at_least("augment.freq_masks", self.freq_masks, 0)
        check_at_least("augment.max_freq_bins", self.max_freq_bins, 1)

    @property
    def masks_features(self) -> bool:
        """Whether SpecAugment is on."""
        return bool(self.time_masks or self.freq_masks)
