"""How many bytes a checkpoint's weights take on disk."""

from __future__ import annotations

import json
from pathlib import Path

_FILES = ("model.safetensors", "pytorch_model.bin")
"""In the order in which transformers looks for them; sharded weights have an index of the same name."""
_INDEX_SUFFIX = ".index.json"


def bytes_on_disk(path_or_repo: str, *, cache_dir: str | None = None) -> int:
    """Adds up the weight files of a checkpoint: one file, or the shards its index names.

    Where there are both, safetensors count and pickles do not, as transformers loads them.

    Args:
        path_or_repo: a folder, or a Hub id whose snapshot is in the cache (it is, once the model was loaded).
        cache_dir: the Hub cache to look into; None is the usual one.

    Raises:
        ValueError: there is no such folder or snapshot, or it holds no weights.
    """
    folder = Path(path_or_repo)
    if not folder.is_dir():
        folder = _snapshot(path_or_repo, cache_dir)
    files = _weight_files(folder)
    if not files:
        raise ValueError(f"{folder} holds no {' or '.join(_FILES)}, so its size is unknown: save the model again.")
    return sum(file.stat().st_size for file in files)


def _snapshot(repo: str, cache_dir: str | None) -> Path:
    # Imported here: a local folder does not need the Hub's client.
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(repo, cache_dir=cache_dir, local_files_only=True))
    except (HFValidationError, LocalEntryNotFoundError) as error:
        raise ValueError(
            f"{repo!r} is neither a folder nor a Hub model in the local cache: check the name, or load it once."
        ) from error


def _weight_files(folder: Path) -> list[Path]:
    for name in _FILES:
        index = folder / (name + _INDEX_SUFFIX)
        if index.is_file():
            shards = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
            return [folder / shard for shard in sorted(set(shards))]
        if (folder / name).is_file():
            return [folder / name]
    return sorted(folder.glob("*.safetensors"))
