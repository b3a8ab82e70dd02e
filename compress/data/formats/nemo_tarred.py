"""NeMo's tarred data sets: tars of audio, and manifests whose rows name the files in them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from compress.data.formats.entries import Listed, Region, Remark, Stored, Wanted
from compress.data.formats.metadata import MetadataRow, read_metadata
from compress.data.formats.nemo import FindAudio, add_row, key_of_texts
from compress.data.formats.tars import TarIndex, index_tar, refuse_packed, shard_number

WHOLE_MANIFEST = "tarred_audio_manifest*.json*"
SHARDED = "sharded_manifests"
_PART = re.compile(r"-sub\d+$")


class _Shard:
    """A tar, with its audio also by names without suffix, and the names that rows have named."""

    def __init__(self, index: TarIndex) -> None:
        self.index = index
        self.audio = index.audio()
        self.named: set[str] = set()
        self._stems = {_stem(member): member for member in self.audio}

    def find(self, name: str) -> Region | None:
        """The member that a row means: of its name, its stem, or its stem without the number of a part."""
        if not PurePosixPath(name).name:
            return None
        wanted = (_stem(name), _PART.sub("", _stem(name)), flattened(name))
        stem = next((stem for stem in wanted if stem in self._stems), None)
        member = name if name in self.audio else self._stems.get(stem or "")
        if member is None:
            return None
        self.named.add(member)
        return self.audio[member]


def manifests_of(folder: Path) -> list[Path]:
    """Finds the manifests of a tarred folder: the one of all shards in its latest version, else one for each shard."""
    whole = sorted(folder.glob(WHOLE_MANIFEST), key=lambda path: (shard_number(path.name) or 0, path.name))
    return whole[-1:] or sorted((folder / SHARDED).glob("*.json*"), key=lambda path: shard_number(path.name) or 0)


def read_tarred(folders: Sequence[Path], wanted: Wanted) -> Listed:
    """Reads tarred folders, such as buckets; together they are one data set.

    Args:
        folders: with tars and manifests.
        wanted: what is asked for.

    Raises:
        ValueError: if rows and tars do not have the same numbers, tars are packed, or something cannot be read.
    """
    listing = Listed()
    for folder in folders:
        listing.add(_read_folder(folder, wanted))
    return listing


def flattened(name: str) -> str:
    """Writes a path as NeMo calls it in a tar, without its suffix: `/a/b.c/x.wav` is `_a_b_c_x`."""
    return str(PurePosixPath(name).with_suffix("")).replace("/", "_").replace(".", "_")


def _read_folder(folder: Path, wanted: Wanted) -> Listed:
    shards = {number: _Shard(index_tar(tar)) for number, tar in _numbered(sorted(folder.glob("*.tar")))}
    rows = [(path, row) for path in manifests_of(folder) for row in read_metadata(path)]
    _require_same_numbers(folder, {_shard_of(path, row) for path, row in rows}, set(shards))
    key = key_of_texts([row for _, row in rows], wanted, folder)
    listing = Listed(files=[*manifests_of(folder), *(shard.index.path for shard in shards.values())], text_from=key)
    for path, row in rows:
        number = _shard_of(path, row)
        chosen = [shards[number]] if number is not None else list(shards.values())
        add_row(listing, row, key, wanted, path, _inside(chosen))
    listing.remarks += [remark for shard in shards.values() for remark in _left_over(shard)]
    return listing


def _numbered(tars: Sequence[Path]) -> list[tuple[int, Path]]:
    numbers = [shard_number(tar.name) for tar in tars]
    return [
        (place if number is None else number, tar)
        for place, (number, tar) in enumerate(zip(numbers, tars, strict=True))
    ]


def _shard_of(path: Path, row: MetadataRow) -> int | None:
    own = row.values.get("shard_id")
    if isinstance(own, int):
        return own
    return shard_number(path.name) if path.parent.name == SHARDED else None


def _require_same_numbers(folder: Path, named: set[int | None], there: set[int]) -> None:
    said = {number for number in named if number is not None}
    missing = sorted(said - there)
    if missing or not there:
        refuse_packed(folder)
    if missing:
        raise ValueError(
            f"{folder}: rows name shards {_listed(said)}, tars are numbered {_listed(there)}; "
            f"{_listed(set(missing))} are missing"
        )


def _listed(numbers: set[int]) -> str:
    ordered = sorted(numbers)
    return f"{ordered[0]} to {ordered[-1]}" if len(ordered) > 2 else ", ".join(map(str, ordered)) or "not at all"


def _inside(shards: Sequence[_Shard]) -> FindAudio:
    def place(name: str, row: MetadataRow) -> tuple[Path | Stored | None, str]:
        region = next(filter(None, (shard.find(name) for shard in shards)), None)
        tars = " or ".join(shard.index.path.name for shard in shards[:3])
        return region, "" if region else f"line {row.line}: no file of this name in {tars}"

    return place


def _left_over(shard: _Shard) -> list[Remark]:
    tar = shard.index.path.name
    names = [name for name in shard.audio if name not in shard.named]
    return [
        *shard.index.remarks,
        *(Remark(f"{tar}/{name}", "not used: no row of the manifest names it") for name in names),
    ]


def _stem(name: str) -> str:
    return str(PurePosixPath(name).with_suffix(""))
