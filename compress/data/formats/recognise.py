"""What a path holds, told by what is in it rather than by how it is called."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from compress.data.formats.metadata import FILE_COLUMN
from compress.data.formats.nemo import AUDIO_KEYS
from compress.data.formats.nemo_tarred import SHARDED, WHOLE_MANIFEST, manifests_of
from compress.data.formats.patterns import is_pattern, matching
from compress.data.formats.shar import CUTS, RECORDINGS
from compress.data.formats.splits import files_of_split
from compress.data.formats.tars import TAR_ENDINGS, is_tar
from compress.data.formats.text_files import first_bytes, open_text

Format = Literal["audiofolder", "table", "nemo", "nemo_tarred", "kaldi", "lhotse", "shar", "webdataset"]
SPEECH_FORMATS: Mapping[str, str] = {
    "audiofolder": "an audiofolder (metadata.csv or metadata.jsonl)",
    "table": "tables (.parquet, .arrow, or a saved data set)",
    "nemo": "NeMo manifests",
    "nemo_tarred": "a tarred NeMo data set",
    "kaldi": "a Kaldi data folder (wav.scp)",
    "lhotse": "lhotse cuts",
    "shar": "lhotse Shar (cuts.*.jsonl.gz with recording.*.tar)",
    "webdataset": "tars of samples (WebDataset)",
}
METADATA_NAMES = ("metadata.csv", "metadata.jsonl")
SAVED_MARKERS = ("dataset_dict.json", "state.json")
TABLE_SUFFIXES = {".parquet": "parquet", ".arrow": "arrow"}
_MANIFEST_ENDINGS = (".json", ".jsonl", ".json.gz", ".jsonl.gz")
_TABLE_MAGIC = (b"PAR1", b"ARROW1")
_BUCKETS = "bucket*"
_KALDI_FILES = ("feats.scp", "text", "segments", "utt2spk")
_SHOWN = 5
_TRIED = 20
"""So many files of a folder may turn out to be no manifests, before the others are not looked at."""
_LONGEST_LINE = 1 << 20
_LHOTSE_PARTS = ("sources", "recording_id", "num_features")


@dataclass(frozen=True)
class Recognised:
    """What is to be read.

    Attributes:
        kind: of the files.
        places: files or folders, as the kind's reader takes them.
        whole: whether all of the source is read for any split.
    """

    kind: str
    places: tuple[Path, ...]
    whole: bool


def recognise(path: Path, split: str, kind: str | None = None) -> Recognised | None:
    """Finds out what a path holds, and which of it belongs to a split.

    A split is a folder of its name, or files that are called after it.

    Args:
        path: a file, a folder, or a pattern of files.
        split: the one that is wanted.
        kind: what to take where several kinds lie side by side; None: there must be only one.

    Returns:
        What to read; None where nothing fits.

    Raises:
        ValueError: if several kinds fit, the split is not there, or the content is nearly of a kind.
    """
    if is_pattern(str(path)) and not path.exists():
        files = matching(str(path))
        own = _one_kind({_kind_of_file(file) for file in files} - {None}, path, kind)
        return Recognised(own, tuple(dict.fromkeys(_place_of(file, own) for file in files)), True)
    if path.is_file():
        single = kind or _kind_of_file(path)
        return Recognised(single, (_place_of(path, single),), True) if single else None
    if not path.is_dir():
        return None
    for folder, whole in ((path / split, False), (path, True)):
        kinds = _kinds_in(folder) if folder.is_dir() else {}
        if kinds:
            chosen = _one_kind(set(kinds), folder, kind)
            return _of_split(chosen, kinds[chosen], folder, split if whole else None)
    if splits := [child.name for child in _folders(path) if set(_kinds_in(child)) - {"audiofolder", "table"}]:
        raise ValueError(f"{path}: no split {split!r}; it has {', '.join(splits)}. Set split to one of them.")
    _refuse_nearly(path, path / split)
    return None


def looked_for(path: Path) -> str:
    """Says of a folder in which nothing was recognised what would have been, and what is there instead."""
    names = sorted(child.name for child in path.iterdir())
    there = f"it holds {', '.join(names[:_SHOWN])}{' ...' if len(names) > _SHOWN else ''}" if names else "it is empty"
    return f"looked for {', '.join(SPEECH_FORMATS.values())}; {there}"


def _of_split(kind: str, places: Sequence[Path], folder: Path, split: str | None) -> Recognised:
    """Those of the files that are called after the split, where files of several splits lie side by side."""
    if split is None:
        return Recognised(kind, tuple(places), False)
    if kind in ("nemo", "lhotse", "webdataset"):
        chosen = files_of_split(places, folder, split)
        return Recognised(kind, tuple(chosen or places), not chosen)
    return Recognised(kind, tuple(places), True)


def _one_kind(kinds: set[Any], path: Path, kind: str | None) -> str:
    if kind is not None:
        if kind in kinds:
            return kind
        there = ", ".join(SPEECH_FORMATS[name] for name in sorted(kinds)) or "nothing that is known"
        raise ValueError(
            f"{path}: holds no {SPEECH_FORMATS[kind].removeprefix('a ')}, as data.format says; it holds {there}"
        )
    if len(kinds) == 1:
        return str(next(iter(kinds)))
    if not kinds:
        raise ValueError(f"{path}: none of its files is known as speech")
    both = " and ".join(SPEECH_FORMATS[name] for name in sorted(kinds))
    raise ValueError(
        f"{path}: holds {both}; name a file of one of them as the source, or set data.format to one of "
        f"{', '.join(sorted(kinds))}"
    )


def _kinds_in(folder: Path) -> dict[str, list[Path]]:
    """Every kind that lies directly in a folder, with the places that its reader takes."""
    with os.scandir(folder) as children:
        files = [folder / name for name in sorted(child.name for child in children if child.is_file())]
    names = {file.name for file in files}
    kinds: dict[str, list[Path]] = {}
    if not names.isdisjoint(METADATA_NAMES):
        kinds["audiofolder"] = [folder]
    if not names.isdisjoint(SAVED_MARKERS) or any(file.suffix in TABLE_SUFFIXES for file in files):
        kinds["table"] = [folder]
    if "wav.scp" in names:
        kinds["kaldi"] = [folder]
    return kinds | _shards_in(folder, files) | _manifests_in(folder, files, bool(kinds.get("table")))


def _shards_in(folder: Path, files: Sequence[Path]) -> dict[str, list[Path]]:
    """Tars, and what stands beside them that says what they are."""
    tars = [file for file in files if file.name.endswith(TAR_ENDINGS)]
    if any(file.match(CUTS) for file in files) and any(tar.name.startswith(RECORDINGS) for tar in tars):
        return {"shar": [folder]}
    if tars and manifests_of(folder):
        return {"nemo_tarred": [folder]}
    if tars:
        return {"webdataset": tars}
    buckets = [child for child in _folders(folder) if child.match(_BUCKETS)]
    inside = [_kinds_in(bucket) for bucket in buckets]
    kinds = {kind for found in inside for kind in found if kind in ("nemo", "nemo_tarred")}
    return {kind: [place for found in inside for place in found.get(kind, [])] for kind in kinds}


def _manifests_in(folder: Path, files: Sequence[Path], beside_tables: bool) -> dict[str, list[Path]]:
    if beside_tables or not {"shar", "nemo_tarred"}.isdisjoint(_shards_in(folder, files)):
        return {}
    kinds: dict[str, list[Path]] = {}
    others = 0
    for file in files:
        if not file.name.endswith(_MANIFEST_ENDINGS) or file.name in METADATA_NAMES:
            continue
        record = _first_record(file)
        if record is not None and (kind := _kind_of_record(record)) in ("nemo", "lhotse"):
            kinds.setdefault(str(kind), []).append(file)
        elif (others := others + 1) == _TRIED and not kinds:
            return {}
    return kinds


def _folders(folder: Path) -> list[Path]:
    with os.scandir(folder) as children:
        return [folder / name for name in sorted(child.name for child in children if child.is_dir())]


def _place_of(path: Path, kind: str) -> Path:
    """What the reader of a kind takes for one of its files."""
    if kind == "kaldi":
        return path.parent
    if kind == "nemo_tarred":
        return path.parent.parent if path.parent.name == SHARDED else path.parent
    return path


def _kind_of_file(path: Path) -> str | None:
    """What a single file is; None where that is for others to say.

    Raises:
        ValueError: if it is nearly a manifest.
    """
    if path.suffix in TABLE_SUFFIXES or first_bytes(path, len(_TABLE_MAGIC[1])).startswith(_TABLE_MAGIC):
        return "table"
    if path.name == "wav.scp":
        return "kaldi"
    if path.suffix == ".csv":
        return "audiofolder"
    if path.match(WHOLE_MANIFEST) or path.parent.name == SHARDED:
        return "nemo_tarred"
    if path.name.endswith(TAR_ENDINGS) or is_tar(path):
        return "webdataset"
    record = _first_record(path)
    if record is None:
        _refuse_text(path)
        return None
    kind = _kind_of_record(record)
    if kind is None:
        _refuse_record(path, record)
    return kind


def _kind_of_record(record: Mapping[str, Any]) -> str | None:
    if not set(AUDIO_KEYS).isdisjoint(record):
        return "nemo"
    is_cut = str(record.get("type", "")).endswith("Cut") or {"id", "supervisions", "recording"} <= set(record)
    if is_cut:
        return "lhotse"
    return "audiofolder" if FILE_COLUMN in record else None


def _first_record(path: Path) -> Mapping[str, Any] | None:
    """The first line of a file, if it is a JSON object."""
    line = _first_line(path)
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def _first_line(path: Path) -> str:
    """The first line that is not blank; empty where there is none, or the file is no text."""
    try:
        with open_text(path) as file:
            while line := file.readline(_LONGEST_LINE):
                if line.strip():
                    return line.strip()
    except (ValueError, OSError):
        pass
    return ""


def _refuse_text(path: Path) -> None:
    line = _first_line(path)
    if not line and path.stat().st_size == 0:
        raise ValueError(f"{path}: an empty file")
    if path.suffix == ".jsonl":  # its reader names the line
        return
    if not line and path.name.endswith(_MANIFEST_ENDINGS):
        with open_text(path) as file:  # says why it is no text
            file.readline(_LONGEST_LINE)
    if line.startswith("["):
        raise ValueError(f"{path}: a JSON array; one object a line is wanted (jq -c '.[]')")
    if line.startswith("{"):
        raise ValueError(f"{path}: line 1 is no whole JSON object; one object a line is wanted (jq -c .)")


def _refuse_record(path: Path, record: Mapping[str, Any]) -> None:
    if not set(_LHOTSE_PARTS).isdisjoint(record):
        raise ValueError(
            f"{path}: a part of a lhotse data set; cuts are wanted: CutSet.from_manifests(recordings, supervisions)"
        )
    raise ValueError(
        f"{path}: its rows name no audio; looked for {', '.join(AUDIO_KEYS)} (NeMo), type: ...Cut (lhotse), "
        f"{FILE_COLUMN} (audiofolder); they have {', '.join(map(str, record))}"
    )


def _refuse_nearly(*folders: Path) -> None:
    for folder in folders:
        if folder.is_dir() and any((folder / name).is_file() for name in _KALDI_FILES):
            raise ValueError(f"{folder}: features or text only, as of Kaldi; audio is needed (wav.scp)")
