"""What this machine offers to a program."""

from __future__ import annotations

import ctypes
import os

import torch


def usable_cores() -> int:
    """Says how many CPU cores this process may use, which can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def own_cores() -> int:
    """Says how many CPU cores this process may use by itself, when those that were launched with it share them."""
    return max(1, usable_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def return_freed_memory() -> None:
    """Gives memory that was freed, and that the C library keeps for later, back to the system.

    By itself glibc keeps blocks of up to 32 MB in its heap, where what lives on between them leaves gaps. With another
    library of C nothing changes.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim is not None:
        trim(0)


TORCH = "PyTorch"
"""What reports call it where it runs a model."""
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def find_device(name: str) -> torch.device:
    """Finds the device a user names; "auto" is a GPU if there is one.

    Raises:
        ValueError: if there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device={name!r} is unknown: use cpu, cuda, cuda:1 or auto.") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device={name!r}, but torch finds no GPU here: use --device cpu or --device auto.")
    try:
        torch.zeros(1, device=device).cpu()
    except Exception as error:  # torch has an error of its own for every device that it was built without
        raise ValueError(f"device={name!r} cannot be used by this torch: use --device cpu or --device auto.") from error
    return device
