"""The weights of a checkpoint on disk: how many bytes they take, and what tells them from others."""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor
from transformers import PreTrainedModel

from compress.files.reading import Form, read_object

_FILES = ("model.safetensors", "pytorch_model.bin")
"""In the order in which transformers looks for them; sharded weights have an index of the same name."""
SAFETENSORS = ".safetensors"
FLOATING = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
"""Types of weights that can be computed with as they are, as safetensors calls them."""
WEIGHTS_DIGEST = "weights_sha256"
"""The key of `weights_digest` in reports."""
_INDEX_SUFFIX = ".index.json"
SHARDS_FORM: Form = {"weight_map": dict}


def bytes_on_disk(path_or_repo: str, *, cache_dir: str | None = None) -> int:
    """Adds up the weight files of a checkpoint: one file, or the shards its index names.

    Where there are both, safetensors count and pickles do not, as transformers loads them.

    Args:
        path_or_repo: a folder, or a Hub id whose snapshot is in the cache (it is, once the model was loaded).
        cache_dir: the Hub cache to look into; None is the usual one.

    Raises:
        ValueError: there is no such folder or snapshot, or it holds no weights.
    """
    folder = checkpoint_folder(path_or_repo, cache_dir)
    files = _weight_files(folder)
    if not files:
        raise ValueError(f"{folder} holds no {' or '.join(_FILES)}, so its size is unknown: save the model again.")
    return sum(file.stat().st_size for file in files)


def weights_digest(path_or_repo: str) -> str:
    """Computes what tells the weights of a checkpoint from all others, wherever it lies and however it is sharded.

    Args:
        path_or_repo: a folder, or a Hub id whose snapshot is in the cache.

    Returns:
        SHA-256 over the names, types, shapes and values of all tensors in its safetensors files, by name.

    Raises:
        ValueError: there is no such folder or snapshot.
    """
    files = [file for file in _weight_files(checkpoint_folder(path_or_repo)) if file.suffix == SAFETENSORS]
    places = sorted((name, file) for file in files for name in _names(file))
    digest = hashlib.sha256()
    for name, file in places:
        with safe_open(file, "pt") as tensors:
            tensor = tensors.get_tensor(name).contiguous()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def dtypes_in_file(model: PreTrainedModel, dtype: torch.dtype) -> dict[str, torch.dtype]:
    """The type in which each tensor of a model is saved, by its name in the state.

    Args:
        model: whose numbers that are no fractions stay what they are.
        dtype: of its weights; what transformers never reads in half precision, such as some norms, is in float32 then.
    """
    half = dtype in (torch.float16, torch.bfloat16)
    names = (half and getattr(model, "_keep_in_fp32_modules_strict", None)) or ()
    kept = [re.compile(re.escape(name).replace(r"\*", ".*")) for name in names]

    def of(name: str, tensor: Tensor) -> torch.dtype:
        if not tensor.is_floating_point():
            return tensor.dtype
        return torch.float32 if any(pattern.search(name) for pattern in kept) else dtype

    return {name: of(name, tensor) for name, tensor in model.state_dict().items()}


def stored_dtype(path_or_repo: str) -> torch.dtype | None:
    """Finds the type of most weights of a checkpoint; None if none of them is one that can be computed with.

    Args:
        path_or_repo: a folder, or a Hub id whose snapshot is in the cache.

    Raises:
        ValueError: there is no such folder or snapshot.
    """
    amounts: Counter[torch.dtype] = Counter()
    for file in _weight_files(checkpoint_folder(path_or_repo)):
        if file.suffix == SAFETENSORS:
            with safe_open(file, "pt") as tensors:
                for part in map(tensors.get_slice, tensors.keys()):
                    if kind := FLOATING.get(part.get_dtype()):
                        amounts[kind] += math.prod(part.get_shape())
    return max(amounts, key=amounts.__getitem__, default=None)


def checkpoint_folder(path_or_repo: str, cache_dir: str | None = None) -> Path:
    """Finds where the files of a checkpoint lie: the folder itself, or the snapshot of a Hub model in the cache.

    Args:
        path_or_repo: a folder, or a Hub id whose snapshot is in the cache.
        cache_dir: the Hub cache to look into; None is the usual one.

    Raises:
        ValueError: there is no such folder or snapshot.
    """
    folder = Path(path_or_repo)
    return folder if folder.is_dir() else _snapshot(path_or_repo, cache_dir)


def _names(file: Path) -> list[str]:
    with safe_open(file, "pt") as tensors:
        return list(tensors.keys())


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
        if (folder / name).is_file():  # as transformers does: an index beside it is left from before
            return [folder / name]
        index = folder / (name + _INDEX_SUFFIX)
        if index.is_file():
            shards = sorted(set(read_object(index, SHARDS_FORM)["weight_map"].values()))
            missing = [shard for shard in shards if not (folder / shard).is_file()]
            if missing:
                raise ValueError(
                    f"{folder} lacks {missing[0]}, which {index.name} names: copy or save the model again."
                )
            return [folder / shard for shard in shards]
    return sorted(folder.glob("*.safetensors"))
