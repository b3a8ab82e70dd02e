"""Which of a data set's files belong to a split, by their names and folders."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

_NUMBERING = re.compile(r"[-_.]?\d+([-_]of[-_]\d+)?([-_][0-9a-f]{16})?$")
"""What the numbers of shards look like at the end of a name: `-00000-of-00001`, `_3`, also with a fingerprint."""
_SPLIT_WORDS = frozenset(
    {"train", "training", "dev", "devel", "development", "val", "valid", "validation", "eval", "evaluation", "test"}
)
_WORD = re.compile(r"[a-z]+")
_ENDING = re.compile(r"(\.(gz|tgz|jsonl?|parquet|arrow|tar))+$")
_ROLE = re.compile(r"^(.*[-_.])?cuts[-_.]|^manifest[-_.]|[-_.](cuts|manifest|tarred_audio_manifest)$")
"""What names say of manifests beside the split: `cuts_train`, `train_manifest`."""


def files_of_split(files: Sequence[Path], folder: Path, split: str) -> list[Path]:
    """Chooses the files of one split: those that are called so, numbers of shards aside, or lie in a folder called so.

    Args:
        files: what is there, below `folder`.
        folder: of the data set; a single file has no splits.
        split: the one that is wanted.

    Returns:
        Its files; none if the files do not tell splits apart.

    Raises:
        ValueError: naming the splits that are there, if they do tell splits apart, but this one is not among them.
    """
    if folder.is_file():
        return []
    chosen = [file for file in files if split in (_name(file), *_parts(file, folder))]
    splits = splits_of(files, folder)
    if splits and not chosen:
        raise ValueError(f"{folder}: no split {split!r}; it has {', '.join(splits)}. Set split to one of them.")
    return chosen


def splits_of(files: Sequence[Path], folder: Path) -> list[str]:
    """Lists what the files and their folders are called, as far as it sounds like splits."""
    return sorted({part for file in files for part in _parts(file, folder) if _names_split(part)})


def _parts(file: Path, folder: Path) -> list[str]:
    """The folders that a file lies in, and its own name without the number of its shard."""
    return [*file.relative_to(folder).parts[:-1], _NUMBERING.sub("", _name(file))]


def _name(file: Path) -> str:
    """A file's name without its suffix, and without what it says of manifests."""
    return _ROLE.sub("", _ENDING.sub("", file.name))


def _names_split(part: str) -> bool:
    return not _SPLIT_WORDS.isdisjoint(_WORD.findall(part.lower()))
