"""lhotse Shar: manifests of cuts, each with a tar of their audio."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from compress.data.formats.cuts import TEXT_FROM, Cut, FindCut, add_cut
from compress.data.formats.entries import Listed, Region, Stored, Wanted
from compress.data.formats.metadata import MetadataRow, read_metadata
from compress.data.formats.tars import index_tar, refuse_packed, shard_number

CUTS, RECORDINGS = "cuts*.jsonl*", "recording"
"""What manifests are called, and how the names of tars begin."""


def shards_of(folder: Path) -> tuple[dict[int, Path], dict[int, Path]]:
    """Finds manifests and tars of a folder by their numbers; other files do not matter."""
    cuts, tars = (
        {shard_number(path.name.split(".jsonl")[0]) or 0: path for path in sorted(folder.glob(pattern))}
        for pattern in (CUTS, f"{RECORDINGS}*.tar")
    )
    return cuts, tars


def read_shar(folder: Path, wanted: Wanted) -> Listed:
    """Reads a folder of shards.

    Args:
        folder: with `cuts.000000.jsonl.gz`, `recording.000000.tar` and so on.
        wanted: what is asked for.

    Raises:
        ValueError: if a manifest has no tar, or a tar no manifest, or tars are packed.
    """
    cuts, tars = shards_of(folder)
    if alone := sorted(set(cuts) ^ set(tars)):
        refuse_packed(folder, RECORDINGS)
        path = cuts.get(alone[0]) or tars[alone[0]]
        raise ValueError(
            f"{folder}: {len(cuts)} files of cuts and {len(tars)} of recordings; {path.name} has no partner"
        )
    listing = Listed(files=[*cuts.values(), *tars.values()], text_from=TEXT_FROM)
    for number, path in cuts.items():
        index = index_tar(tars[number])
        listing.remarks += index.remarks
        audio = {str(PurePosixPath(name).with_suffix("")): region for name, region in index.audio().items()}
        for row in read_metadata(path):
            add_cut(listing, row, wanted, path, _in_tar(audio, index.path.name))
    return listing


def _in_tar(audio: Mapping[str, Region], tar: str) -> FindCut:
    """Audio in a shard is that of the cut alone, of the channels that the cut names."""

    def place(cut: Cut, row: MetadataRow, channel: int | None) -> tuple[Path | Stored | None, int | None, str]:
        region = audio.get(str(cut.get("id")))
        own = None if channel is None or len(cut["channel"]) == 1 else cut["channel"].index(channel)
        return region, own, "" if region else f"no audio: {tar} does not hold this cut"

    return place
