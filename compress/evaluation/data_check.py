"""`compress check`: what would be used of a data set, what not, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from compress.checkpoint import load_processor
from compress.data import (
    BadDataError,
    Problem,
    SpeechConfig,
    SpeechDataset,
    feature_extractor_of,
    open_speech,
    vocabulary_of,
)
from compress.data.remarks import kind_of
from compress.reports import formats
from compress.reports.page import Listing, Page, Section, Table

RATE = 16_000
"""Where no model says at which rate it listens."""
LISTED = 10
SPEAKER_COLUMNS = (
    "speaker", "speaker_id", "speaker_name", "spk", "spk_id", "spkid", "client_id", "reader", "reader_id", "voice",
)  # fmt: skip
"""What columns that say who speaks are called; the first one that is there counts."""
NOTHING: dict[str, Any] = {
    "seconds": 0.0, "lengths": None, "speakers": None, "sources": [],
    "words": 0, "different_words": 0, "characters": "",
}  # fmt: skip
"""What there is to say of speech where no entry can be used."""


@dataclass(frozen=True, kw_only=True)
class DataCheckConfig:
    """What is checked.

    Attributes:
        data: the speech; `data.split` is read, and `data.max_bad_fraction` decides on the exit code.
        model: whose tokenizer has to spell the transcripts, a folder or Hub name; null spells anything.
        transcripts: whether they are needed.
        json: print JSON instead of tables, with every entry that cannot be used.
    """

    data: SpeechConfig
    model: str | None = None
    transcripts: bool = True
    json: bool = False


def check_data(config: DataCheckConfig) -> dict[str, Any]:
    """Opens a data set as training and evaluation do, and counts.

    Args:
        config: the data set, and whose tokenizer has to spell it.

    Returns:
        JSON-able: entries, what is used of them, lengths in seconds, characters, every problem, and every remark.

    Raises:
        ValueError: if the source cannot be opened or only be streamed, or nothing of a source of a mix can be used.
    """
    processor = load_processor(config.model) if config.model else None
    rate = int(feature_extractor_of(processor).sampling_rate) if processor else RATE
    vocabulary = vocabulary_of(processor) if processor else None
    every = replace(config.data, max_bad_fraction=1.0, streaming=False)
    try:
        speech = open_speech(every, sampling_rate=rate, vocabulary=vocabulary, labels=config.transcripts)
    except BadDataError as error:  # every fraction is allowed, so there is nothing left
        if config.data.mix:
            raise
        return _facts(config, rate, config.data.split, 0, error.problems, []) | NOTHING
    except ValueError as error:
        if config.data.streaming:
            raise ValueError(f"{error} (compress check lists a data set as a whole, and reads no streams)") from None
        raise
    return _facts(config, rate, speech.split, len(speech), speech.problems, speech.remarks) | _measured(speech)


def too_many_problems(facts: dict[str, Any]) -> bool:
    """Whether training would stop: nothing can be used, or less of a source than `data.max_bad_fraction` wants."""
    parts = [(entry["problems"], entry["utterances"] + entry["problems"]) for entry in facts["sources"]]
    unusable = parts or [(facts["entries"] - facts["used"], facts["entries"])]
    return not facts["used"] or any(bad > facts["max_bad_fraction"] * entries for bad, entries in unusable)


def data_page(facts: dict[str, Any]) -> Page:
    """What was found, for a person."""
    unusable = facts["entries"] - facts["used"]
    return Page(
        title=facts["source"],
        headline=_headline(facts),
        sections=[
            *_by_source(facts["sources"]),
            *_speech_by_speaker(facts["speakers"]),
            *([Section("why entries cannot be used", [_reasons(facts["problems"])])] if unusable else []),
            *([Section("what was noticed otherwise", [_reasons(facts["remarks"])])] if facts["remarks"] else []),
        ],
        conditions=[],
        maker="compress check",
        context=f"{formats.split(facts['split'])}, at {facts['sampling_rate']:,} Hz",
        numbers=_numbers(facts),
    )


def _headline(facts: dict[str, Any]) -> str:
    if not (unusable := facts["entries"] - facts["used"]):
        return f"All {facts['entries']:,} entries can be used."
    if not facts["used"]:
        return f"None of {facts['entries']:,} entries can be used. Training would stop."
    verdict = "Training would stop" if too_many_problems(facts) else "Training would go on without them"
    allowed = f"data.max_bad_fraction allows {formats.percent(facts['max_bad_fraction'])}"
    return f"{unusable:,} of {facts['entries']:,} entries cannot be used. {verdict} ({allowed})."


def _words(speech: SpeechDataset) -> dict[str, Any]:
    texts = list(filter(None, speech.texts))
    words = [word for text in texts for word in text.split()]
    characters = "".join(sorted(set("".join(texts))))
    return {"words": len(words), "different_words": len(set(words)), "characters": characters}


def _facts(
    config: DataCheckConfig,
    rate: int,
    split: str | None,
    used: int,
    problems: Sequence[Problem],
    remarks: Sequence[Problem],
) -> dict[str, Any]:
    return {
        "source": config.data.named(),
        "split": split,
        "model": config.model,
        "sampling_rate": rate,
        "entries": used + len(problems),
        "used": used,
        "max_bad_fraction": config.data.max_bad_fraction,
        "problems": [problem.facts() for problem in problems],
        "remarks": [remark.facts() for remark in remarks],
    }


def _measured(speech: SpeechDataset) -> dict[str, Any]:
    """What can be used, with the keys of `NOTHING`."""
    return {
        "seconds": sum(speech.seconds),
        "lengths": {"shortest": min(speech.seconds), "median": median(speech.seconds), "longest": max(speech.seconds)},
        "speakers": _speakers(speech),
        "sources": speech.by_source(),
        **_words(speech),
    }


def _speakers(speech: SpeechDataset) -> dict[str, Any] | None:
    """Seconds of each speaker, those who say most first; None where no column says who speaks."""
    named = {name.lower(): name for name in reversed(speech.columns())}
    column = next((named[name] for name in SPEAKER_COLUMNS if name in named), None)
    if column is None:
        return None
    seconds: dict[str | None, float] = {}
    speakers = speech.groups(column)
    for speaker, length in zip(speakers, speech.seconds, strict=True):
        seconds[speaker] = seconds.get(speaker, 0.0) + length
    most_first = sorted(seconds.items(), key=lambda entry: -entry[1])
    known = {speaker: length for speaker, length in most_first if speaker is not None}
    return {"column": column, "seconds": known, "unknown": speakers.count(None)}


def _numbers(facts: dict[str, Any]) -> Table:
    rows = [("entries", f"{facts['entries']:,}"), ("can be used", f"{facts['used']:,}")]
    return Table(header=("", "of this data set"), rows=rows + (_speech_rows(facts) if facts["used"] else []), left=2)


def _speech_rows(facts: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        ("speech", formats.duration(facts["seconds"])),
        ("shortest, median, longest", ", ".join(f"{seconds:.1f} s" for seconds in facts["lengths"].values())),
        *_speaker_rows(facts["speakers"]),
        ("words", f"{facts['words']:,}, {facts['different_words']:,} different ones"),
        ("characters", facts["characters"].replace(" ", "␣") or "none"),
    ]


def _speaker_rows(speakers: dict[str, Any] | None) -> list[tuple[str, str]]:
    if speakers is None:
        return [("speakers", "no column says who speaks")]
    rows = [("speakers", f"{len(speakers['seconds']):,}, by the column {speakers['column']}")]
    if lengths := sorted(speakers["seconds"].values()):
        ends = (lengths[0], median(lengths), lengths[-1])
        rows.append(("  least, median, most of one", ", ".join(map(formats.duration, ends))))
    if speakers["unknown"]:
        rows.append(("  entries without a speaker", f"{speakers['unknown']:,}"))
    return rows


def _speech_by_speaker(speakers: dict[str, Any] | None) -> list[Section]:
    """Who says how much, those who say most first."""
    if not speakers or not speakers["seconds"]:
        return []
    rows = [(name, formats.duration(seconds)) for name, seconds in speakers["seconds"].items()]
    more = [(f"and {len(rows) - LISTED:,} more", "--json lists them")] if len(rows) > LISTED else []
    return [Section("Speech by speaker", [Table(("speaker", "speech"), [*rows[:LISTED], *more])])]


def _by_source(sources: Sequence[dict[str, Any]]) -> list[Section]:
    """What a mix is made of; nothing where there is one source alone."""
    header = ("source", "split", "speech", "share of an epoch", "read in an epoch", "cannot be used")
    rows = [
        (entry["source"], entry["split"] or "whole source", formats.duration(entry["seconds"]),
         formats.percent(entry["share"]), f"{entry['passes_per_epoch']:.2f} times", f"{entry['problems']:,}")
        for entry in sources
    ]  # fmt: skip
    return [Section("Speech by source", [Table(header, rows)])] if rows else []


def _reasons(problems: Sequence[dict[str, str]]) -> Listing:
    """Entries below the kind of reason that they share, the most frequent kind first."""
    kinds = Counter(kind_of(problem["reason"]) for problem in problems)
    entries = []
    for kind, count in kinds.most_common():
        files = [str(Problem(**problem)) for problem in problems if kind_of(problem["reason"]) == kind]
        more = [f"and {count - LISTED:,} more (--json lists them)"] if count > LISTED else []
        entries.append((f"{kind}: {count:,}", [*files[:LISTED], *more]))
    return Listing(entries)
