"""Checkpoints of a training run: complete or absent, and exact.

A run that is interrupted and resumed takes the same steps as one that never was, bit for bit on a CPU. Each checkpoint
is a folder `step-00001000` with

    model.safetensors    the model's weights and buffers
    optimizer.pt         the optimizer's state
    states.pt            whatever else the recipe wants back (position in the data, best value, multipliers, ...)
    random-0.pt          the random generators of each rank
    checkpoint.json      step, settings, number of processes; size and checksum of every file above; its own checksum
"""

from __future__ import annotations

import json
import logging
import re
import shutil
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

import torch
from accelerate.utils import extract_model_from_parallel
from torch import Tensor, nn
from torch.optim import Optimizer

from compress.checkpoint import CheckpointError
from compress.files.reading import read_object
from compress.files.writing import WriteError, explained, flush, flush_folder
from compress.training.loop import processes
from compress.training.loop.random_state import random_state, set_random_state
from compress.training.loop.same_run import require_same
from compress.training.loop.sharding import load_optimizer, whole_tensors
from compress.training.loop.weights_file import load_weights, save_weights

logger = logging.getLogger(__name__)

FORMAT = 4
"""Of the states in a checkpoint; it changes whenever an earlier one could no longer be put back."""

MANIFEST = "checkpoint.json"
FORM = {"format": int, "step": int, "processes": int, "settings": dict, "files": dict}
SIGNATURE = "crc32"
MODEL, OPTIMIZER, STATES, RANDOM = "model.safetensors", "optimizer.pt", "states.pt", "random-{rank}.pt"
STATES_OF_RANK = "states"
"""Those in RANDOM, beside the states of the generators."""
NAME = re.compile(r"step-(\d{8,})")
PARTIAL = ".partial"
CHUNK_BYTES = 1 << 22


@runtime_checkable
class Stateful(Protocol):
    """Anything with a state worth keeping: tensors, numbers, strings, and lists and dicts of these.

    That of rank 0 is kept, or that of each rank where an attribute `of_rank` is true.
    """

    def state_dict(self) -> dict[str, Any]:
        """The state."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> Any:
        """Puts a state back."""
        ...


@dataclass(frozen=True)
class Restored:
    """What a checkpoint gave back.

    Attributes:
        step: the step at which it was saved.
        states: every saved state by name; those of `Stateful` objects have already been put back.
    """

    step: int
    states: dict[str, Any]


class Checkpoints:
    """The checkpoints of one run in one folder. All ranks must call `save`, `latest` and `restore` together.

    The folder must be visible to all ranks. What is saved is whole, also of a model that is sharded over ranks.

    Args:
        directory: created at the first save.
        keep: how many checkpoints to keep, the newest.
        settings: what defines the run (nested, JSON-able); resuming with other settings is refused.
        harmless: globs of dotted keys of `settings` that may change, e.g. `"trackers"`.
    """

    def __init__(
        self,
        directory: str | Path,
        keep: int = 2,
        *,
        settings: Mapping[str, Any] | None = None,
        harmless: Sequence[str] = (),
    ) -> None:
        if keep < 1:
            raise ValueError(f"keep must be at least 1 checkpoint, got {keep}.")
        self.directory = Path(directory)
        self.keep = keep
        self.harmless = tuple(harmless)
        # Through JSON, so that what is compared later is what a file can hold (tuples become lists).
        self.settings: dict[str, Any] = json.loads(json.dumps(dict(settings or {})))
        self._sound: set[Path] = set()
        self._refused: set[Path] = set()

    def save(
        self,
        step: int,
        states: Mapping[str, Stateful | Mapping[str, Any]],
        model: nn.Module,
        optimizer: Optimizer | None = None,
    ) -> Path:
        """Writes a checkpoint, then deletes those beyond `keep`. An existing one of the same step is replaced.

        Args:
            step: optimizer steps taken.
            states: by name; objects with `state_dict`, or mappings of tensors, numbers and strings.
            model: rank 0 writes it, unwrapped from DDP.
            optimizer: left out if None.

        Returns:
            The checkpoint's folder.

        Raises:
            WriteError: on every rank, if any rank could not write (e.g. the disk is full). The checkpoints that were
                there before are untouched.
        """
        target = self.directory / f"step-{step:08d}"
        partial = target.with_name(target.name + PARTIAL)
        self._together(target, lambda: _fresh(partial))
        random_file = partial / RANDOM.format(rank=processes.rank())
        self._together(target, lambda: torch.save(_of_rank(states), random_file), all_ranks=True)
        weights = whole_tensors(extract_model_from_parallel(model).state_dict())
        moments = whole_tensors(optimizer.state_dict()) if optimizer is not None else None
        self._together(target, lambda: self._write(partial, step, states, weights, moments))
        self._together(target, lambda: self._publish(partial, target))
        return target

    def latest(self) -> Path | None:
        """The newest checkpoint that is complete and intact, or None. Damaged ones are passed over with a warning."""
        newest = None
        if processes.rank() == 0:
            newest = next((path for path in reversed(self._folders()) if self._is_sound(path)), None)
        return cast("Path | None", processes.from_main(newest))

    def check_settings(self) -> None:
        """Refuses settings other than those of the latest checkpoint, before anything is loaded.

        Raises:
            SettingsChangedError: naming the keys that differ.
        """
        if path := self.latest():
            self._check(path)

    def restore(
        self,
        states: Mapping[str, Stateful | Mapping[str, Any]],
        model: nn.Module,
        optimizer: Optimizer | None = None,
    ) -> Restored | None:
        """Puts back the latest checkpoint, random generators included; None where there is none.

        Args:
            states: objects to restore, by the names they were saved under; mappings are only given back in `Restored`.
            model: wrapped or not; its weights are loaded strictly.
            optimizer: with the same parameter groups as when it was saved.

        Raises:
            SettingsChangedError: if the run was saved with other settings.
            CheckpointError: if the number of processes differs, the content does not fit, or another version wrote it.
        """
        refusals = []
        while path := self.latest():
            manifest = self._check(path)
            _require_format(path, manifest)
            restored, problem = self._put_back(path, manifest, states, model, optimizer)
            if restored is not None:
                return restored
            refusals.append(problem)
            self._pass_over(path, problem)
        if refusals:
            raise CheckpointError(f"{refusals[0]} No other checkpoint in {self.directory} can be gone on from.")
        return None

    def _put_back(
        self,
        path: Path,
        manifest: Mapping[str, Any],
        states: Mapping[str, Stateful | Mapping[str, Any]],
        model: nn.Module,
        optimizer: Optimizer | None,
    ) -> tuple[Restored | None, str]:
        """Puts back one checkpoint; where that fails on any rank, all ranks get None, and what went wrong."""
        restored, problem = None, ""
        try:
            restored = self._read(path, manifest, states, model, optimizer)
        except CheckpointError as error:
            problem = str(error)
        except Exception as error:  # contents that are sound, but not of the form they should have
            problem = _misshapen(path, error)
        problems = [text for text in processes.gather(problem) if text]
        return (None, problems[0]) if problems else (restored, "")

    def _pass_over(self, path: Path, problem: str) -> None:
        logger.warning("%s It is passed over.", problem)
        self._sound.discard(path)
        self._refused.add(path)

    def _read(
        self,
        path: Path,
        manifest: Mapping[str, Any],
        states: Mapping[str, Stateful | Mapping[str, Any]],
        model: nn.Module,
        optimizer: Optimizer | None,
    ) -> Restored:
        saved = _load(path / STATES)
        if absent := set(states) - set(saved):
            raise CheckpointError(f"{path} holds no state {sorted(absent)}; it has {sorted(saved)}.")
        _load_weights(path, extract_model_from_parallel(model))
        own = _load(path / RANDOM.format(rank=processes.rank()))
        saved |= own.pop(STATES_OF_RANK)
        if optimizer is not None:
            load_optimizer(optimizer, _load(path / OPTIMIZER))
        for name, state in states.items():
            if isinstance(state, Stateful):
                state.load_state_dict(saved[name])
        set_random_state(own)
        return Restored(step=int(manifest["step"]), states=saved)

    def _write(
        self,
        folder: Path,
        step: int,
        states: Mapping[str, Stateful | Mapping[str, Any]],
        weights: Mapping[str, Tensor],
        moments: dict[str, Any] | None,
    ) -> None:
        save_weights(weights, folder / MODEL)
        if moments is not None:
            torch.save(moments, folder / OPTIMIZER)
        torch.save({name: _state_of(state) for name, state in states.items()}, folder / STATES)
        self._sign(folder, step)
        flush_folder(folder)

    def _sign(self, folder: Path, step: int) -> None:
        manifest = {
            "format": FORMAT,
            "step": step,
            "processes": processes.world_size(),
            "settings": self.settings,
            "files": {path.name: fingerprint(path) for path in sorted(folder.iterdir())},
        }
        (folder / MANIFEST).write_text(json.dumps(signed(manifest), indent=1) + "\n")

    def _publish(self, partial: Path, target: Path) -> None:
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)
        flush(self.directory)
        for path in self._folders()[: -self.keep]:
            shutil.rmtree(path, ignore_errors=True)
        self._clear()

    def _is_sound(self, path: Path) -> bool:
        """Reads a checkpoint through once; later questions are answered from memory."""
        if path not in self._sound and path not in self._refused and _intact(path):
            self._sound.add(path)
        return path in self._sound

    def _folders(self) -> list[Path]:
        """Checkpoint folders, oldest first."""
        if not self.directory.is_dir():
            return []
        steps = [(int(match[1]), path) for path in self.directory.iterdir() if (match := NAME.fullmatch(path.name))]
        return [path for _, path in sorted(steps)]

    def _check(self, path: Path) -> dict[str, Any]:
        manifest = read_object(path / MANIFEST)
        require_same(manifest["settings"], self.settings, harmless=self.harmless, where=str(self.directory))
        if manifest["processes"] != processes.world_size():
            raise CheckpointError(
                f"{path} was saved by {manifest['processes']} process(es), and this run has {processes.world_size()}. "
                "Launch with the same number, or give another output folder."
            )
        return manifest

    def _together(self, target: Path, action: Callable[[], object], *, all_ranks: bool = False) -> None:
        """Runs an action on rank 0 or on all ranks; if it fails on one, all raise (none waits for ever)."""
        problem, cause = "", None
        try:
            if all_ranks or processes.rank() == 0:
                with explained(target):
                    action()
        except WriteError as error:
            problem, cause = str(error), error
        if problems := [text for text in processes.gather(problem) if text]:
            if processes.rank() == 0:
                self._clear()
            newest = next((path.name for path in reversed(self._folders())), "none yet")
            raise WriteError(f"{problems[0]} The newest checkpoint is {newest}.") from cause

    def _clear(self) -> None:
        """Deletes what was begun and not finished."""
        for path in self.directory.glob(f"step-*{PARTIAL}"):
            shutil.rmtree(path, ignore_errors=True)


def _of_rank(states: Mapping[str, Stateful | Mapping[str, Any]]) -> dict[str, Any]:
    """What each rank has of its own."""
    own = {name: _state_of(state) for name, state in states.items() if getattr(state, "of_rank", False)}
    return random_state() | {STATES_OF_RANK: own}


def _state_of(state: Stateful | Mapping[str, Any]) -> dict[str, Any]:
    return state.state_dict() if isinstance(state, Stateful) else dict(state)


def _fresh(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def _misshapen(path: Path, error: Exception) -> str:
    return f"{path} is damaged: its content has another form than it should ({type(error).__name__}: {error})."


def fingerprint(path: Path) -> dict[str, int]:
    """Size and checksum of a file."""
    checksum = 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            checksum = zlib.crc32(chunk, checksum)
    return {"bytes": path.stat().st_size, "crc32": checksum}


def signed(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a manifest with a checksum of all that it says."""
    unsigned = {key: value for key, value in manifest.items() if key != SIGNATURE}
    return unsigned | {SIGNATURE: zlib.crc32(json.dumps(unsigned, sort_keys=True).encode())}


def _require_format(path: Path, manifest: Mapping[str, Any]) -> None:
    if manifest["format"] != FORMAT:
        raise CheckpointError(
            f"{path} has format {manifest['format']}, and this version goes on from format {FORMAT} only: finish "
            "the run with the version that began it, or begin it anew in another folder."
        )


def _manifest(path: Path) -> dict[str, Any]:
    """Reads what a checkpoint says of itself.

    Raises:
        ValueError: if it is not what was written; of another format only what every format has is looked at.
    """
    manifest = read_object(path / MANIFEST, FORM)
    if manifest["format"] != FORMAT:
        return manifest
    if signed(manifest) != manifest:
        raise ValueError("it was changed after it was written")
    if NAME.fullmatch(path.name) is None or int(path.name.rpartition("-")[2]) != manifest["step"]:
        raise ValueError(f"it is of step {manifest['step']}")
    wanted = {MODEL, STATES, *(RANDOM.format(rank=rank) for rank in range(manifest["processes"]))}
    if absent := wanted - set(manifest["files"]):
        raise ValueError(f"it lists no {min(absent)}")
    return manifest


def _intact(path: Path) -> bool:
    """Whether every file is there as it was written."""
    try:
        files: dict[str, dict[str, int]] = _manifest(path)["files"]
        damaged = [name for name, expected in files.items() if fingerprint(path / name) != expected]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        damaged = [f"{MANIFEST} ({error})"]
    if damaged:
        logger.warning("%s is damaged (%s) and is passed over.", path, ", ".join(damaged))
    return not damaged


def _load(path: Path) -> Any:
    return torch.load(path, map_location="cpu", weights_only=True)


def _load_weights(path: Path, model: nn.Module) -> None:
    try:
        load_weights(model, path / MODEL)
    except RuntimeError as error:
        raise CheckpointError(f"The weights in {path} do not fit the model: {error}") from error
