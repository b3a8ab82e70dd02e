"""Tars of samples, in the convention of WebDataset: files whose names begin alike belong together."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from compress.data.formats.entries import Entry, Listed, Region, Remark, Wanted, text_key
from compress.data.formats.tars import TarIndex, index_tar, is_audio_name

TEXT_FIELDS = ("txt", "text", "transcript", "json.text")
JSON = "json"
_FIRST_SAMPLES = 100
"""The fields of so many samples are looked at to find the transcripts."""


@dataclass
class _Sample:
    """An audio file in a tar, and what belongs to it."""

    name: str
    audio: Region
    fields: dict[str, Region] = field(default_factory=dict)
    fault: str = ""

    def json(self) -> dict[str, Any]:
        """What its `json` says; nothing where there is none."""
        if JSON not in self.fields:
            return {}
        try:
            content = json.loads(self.fields[JSON].read().decode("utf-8-sig"))
        except (ValueError, RecursionError) as error:
            self.fault = self.fault or f"its json cannot be read: {error}"
            return {}
        return content if isinstance(content, dict) else {}

    def text(self, name: str) -> str | None:
        """What a field holds, as text."""
        if name not in self.fields:
            return None
        try:
            return self.fields[name].read().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            self.fault = self.fault or f"its {name} is no UTF-8: {error.reason}"
            return None


def read_webdataset(tars: Sequence[Path], wanted: Wanted) -> Listed:
    """Reads tars of samples; together they are one data set.

    A sample is an audio file and the files whose names are its own without the suffix, a dot and something else,
    wherever they stand in the same tar.

    Args:
        tars: their paths.
        wanted: what is asked for.

    Raises:
        ValueError: naming the fields of the samples, if there are no transcripts among them.
    """
    listing = Listed(files=list(tars))
    samples: list[_Sample] = []
    for tar in tars:
        index = index_tar(tar)
        listing.remarks += index.remarks
        samples += _samples(index, listing)
    if not samples:
        raise ValueError(f"{tars[0]}: no audio files in it{_names_there(listing)}")
    contents = [sample.json() for sample in samples]
    listing.text_from = _key_of_texts(samples, contents, wanted, tars[0])
    for sample, content in zip(samples, contents, strict=True):
        listing.entries.append(_entry(sample, content, listing.text_from))
    return listing


def _samples(index: TarIndex, listing: Listed) -> list[_Sample]:
    samples: dict[str, _Sample] = {}
    for name, region in index.audio().items():
        sample = _Sample(f"{index.path.name}/{name}", region)
        if samples.setdefault(str(PurePosixPath(name).with_suffix("")), sample) is not sample:
            listing.remarks.append(Remark(sample.name, "not used: the tar holds other audio of this name"))
    for name, region in index.members.items():
        if is_audio_name(name):
            continue
        key = _longest_key(name, samples)
        if key is None:
            listing.remarks.append(Remark(f"{index.path.name}/{name}", "not used: no audio file is called alike"))
        else:
            samples[key].fields[name.removeprefix(f"{key}.")] = region
    return list(samples.values())


def _longest_key(name: str, samples: Mapping[str, _Sample]) -> str | None:
    """The key that a name begins with, before a dot."""
    head = name
    while "." in head:
        head = head.rpartition(".")[0]
        if head in samples:
            return head
    return None


def _key_of_texts(samples: Sequence[_Sample], contents: Sequence[Mapping[str, Any]], wanted: Wanted, tar: Path) -> str:
    named: dict[str, None] = {}
    for sample, content in zip(samples[:_FIRST_SAMPLES], contents[:_FIRST_SAMPLES], strict=True):
        named |= dict.fromkeys(sample.fields) | dict.fromkeys(f"{JSON}.{key}" for key in content)
    own = f"{JSON}.{wanted.text_column}"
    return text_key(named, (own, *TEXT_FIELDS), wanted, f"{tar}: {samples[0].name}")


def _entry(sample: _Sample, content: Mapping[str, Any], key: str) -> Entry:
    text = content.get(key.removeprefix(f"{JSON}.")) if key.startswith(f"{JSON}.") else sample.text(key)
    return Entry(sample.name, sample.audio, text, fault=sample.fault, columns=content)


def _names_there(listing: Listed) -> str:
    names = [remark.name.partition("/")[2] for remark in listing.remarks[:5]]
    return f"; it holds {', '.join(names)}" if names else ""
