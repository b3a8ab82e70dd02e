"""Structure: which parts of a Conformer stay. The one value that every method produces and every tool consumes.

A `Structure` is small, immutable and JSON-serialisable. Indices always refer to the model that it is applied to.
"""

from __future__ import annotations

import json
import reprlib
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple

Kept = Literal["all"] | tuple[int, ...] | None
"""What stays of one module: every unit, the kept unit indices (sorted), or nothing (the module is removed)."""

STRUCTURE_FILE = "structure.json"
"""Name of a saved Structure."""
MOST_STRUCTURE_BYTES = 1 << 26
"""Of such a file; models with a thousand blocks of ten thousand units take a fifth of it."""

MODULES = ("ffn1", "attention", "conv", "ffn2")
"""The four modules of a block, in the order in which they run."""

FEWEST_CHANNELS = 2
"""How many channels of a group in front of the blocks stay at least; a depthwise convolution of one would be none."""


IN_FRONT = -1
"""Stands for the number of a block where channels in front of the blocks are meant."""


class Place(NamedTuple):
    """Where a module is in a model, or a group of channels in front of the blocks.

    Attributes:
        block: the number of its block, from 0; of such a group `IN_FRONT`.
        module: its own number among the four, or the group's among the groups, in running order, from 0.
    """

    block: int
    module: int

    @classmethod
    def of(cls, block: int, name: str) -> Place:
        """The place of the module of that name in a block."""
        return cls(block, MODULES.index(name))

    @property
    def name(self) -> str:
        """The name of the module."""
        assert not self.in_front
        return MODULES[self.module]

    @property
    def label(self) -> str:
        """The place in words, such as `blocks.3.conv` or `front[1]`."""
        return f"front[{self.module}]" if self.in_front else f"blocks.{self.block}.{self.name}"

    @property
    def in_front(self) -> bool:
        """Whether a group of channels in front of the blocks is meant."""
        return self.block == IN_FRONT


class StructureError(ValueError):
    """A Structure that is malformed, or that does not fit the model it is applied to."""


@dataclass(frozen=True)
class Block:
    """What stays of one block. The block's final norm always stays, even when all four modules are removed."""

    ffn1: Kept = "all"
    attention: Kept = "all"
    conv: Kept = "all"
    ffn2: Kept = "all"

    def __post_init__(self) -> None:
        for name in MODULES:
            object.__setattr__(self, name, _read_kept(getattr(self, name), name))

    def items(self) -> Iterator[tuple[str, Kept]]:
        """Yields `(module name, what is kept)` in running order."""
        for name in MODULES:
            yield name, getattr(self, name)


@dataclass(frozen=True)
class Structure:
    """Which modules and which units each block of a model keeps.

    Attributes:
        family: name of the family the structure belongs to, e.g. `"parakeet"`.
        blocks: one entry per block of the model it is applied to; None drops the whole block.
        front: the kept channels of groups in front of the blocks, by name; groups that are not named stay whole.
    """

    family: str
    blocks: tuple[Block | None, ...]
    front: Mapping[str, tuple[int, ...]] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "front", _read_front(self.front))

    @classmethod
    def full(cls, family: str, blocks: int) -> Structure:
        """The structure that keeps everything of a model with so many blocks."""
        return cls(family, (Block(),) * blocks)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Structure:
        """Reads the form `{"family": "parakeet", "blocks": [B, ...]}`, perhaps with `"front"`, and checks it.

        Raises:
            StructureError: with the field's name, if anything has the wrong type, is negative, unsorted or repeated.
        """
        _check_keys(data, ("family", "blocks"), "structure", optional=("front",))
        family, blocks = data["family"], data["blocks"]
        if not isinstance(family, str) or not family:
            raise StructureError(f"structure.family must be a family's name, got {reprlib.repr(family)}.")
        if not isinstance(blocks, Sequence) or isinstance(blocks, str):
            raise StructureError(f"structure.blocks must be a list, one entry per block, got {reprlib.repr(blocks)}.")
        read = tuple(_read_block(block, f"blocks[{index}]") for index, block in enumerate(blocks))
        return cls(family, read, data.get("front", {}))

    def to_dict(self) -> dict[str, Any]:
        """The JSON form; `from_dict` is its inverse."""
        front = {"front": {name: list(kept) for name, kept in self.front.items()}} if self.front else {}
        return {"family": self.family, "blocks": [_write_block(block) for block in self.blocks], **front}

    @classmethod
    def load(cls, path: str | Path) -> Structure:
        """Reads a `structure.json`.

        Raises:
            StructureError: naming the file, if it is not valid JSON or not a valid structure.
        """
        status = Path(path).stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > MOST_STRUCTURE_BYTES:
            raise StructureError(
                f"{path} is no structure.json: that is a regular file of up to {MOST_STRUCTURE_BYTES} bytes."
            )
        try:
            return cls.from_dict(json.loads(Path(path).read_text(), object_pairs_hook=_without_repetition))
        except StructureError as error:
            raise StructureError(f"{path}: {error}") from error
        except (ValueError, RecursionError) as error:
            raise StructureError(f"{path} is not valid JSON: {error}.") from error

    def save(self, path: str | Path) -> None:
        """Writes a `structure.json`."""
        Path(path).write_text(json.dumps(self.to_dict()) + "\n")

    def check(self, family: str, units: Sequence[Mapping[str, int]], front: Mapping[str, int] | None = None) -> None:
        """Checks that this structure fits a model.

        Args:
            family: the model's family.
            units: per block, the number of units of each module; 0 where the model has no such module any more.
            front: the number of channels of each group in front of the blocks, by name; None: there are no groups.

        Raises:
            StructureError: naming the family, the number of blocks or the index that does not fit.
        """
        if self.family != family:
            raise StructureError(f"The structure is for family {self.family!r}, but the model is a {family!r}.")
        if len(self.blocks) != len(units):
            raise StructureError(f"The structure has {len(self.blocks)} blocks, but the model has {len(units)}.")
        if not any(self.blocks):
            raise StructureError("The structure drops every block; at least one must stay.")
        for index, (block, counts) in enumerate(zip(self.blocks, units, strict=True)):
            for name, kept in block.items() if block else ():
                if isinstance(kept, tuple) and not counts[name]:
                    raise StructureError(f"blocks[{index}].{name} keeps units, but the model has no {name} there.")
                if isinstance(kept, tuple) and kept[-1] >= counts[name]:
                    raise StructureError(
                        f"blocks[{index}].{name} keeps unit {kept[-1]}, "
                        f"but the model has {counts[name]} units there (0 to {counts[name] - 1}). The structure.json "
                        "of a checkpoint compressed more than once is of the model before the first time."
                    )
        self._check_front(front or {})

    def _check_front(self, channels: Mapping[str, int]) -> None:
        for name, kept in self.front.items():
            if name not in channels:
                known = f"its groups are {', '.join(channels)}" if channels else "it has none"
                raise StructureError(f"front.{name} is no group of channels of this {self.family}: {known}.")
            if kept[-1] >= channels[name]:
                raise StructureError(
                    f"front.{name} keeps channel {kept[-1]}, "
                    f"but the model has {channels[name]} channels there (0 to {channels[name] - 1})."
                )

    def of_front(self, name: str) -> Kept:
        """What stays of a group of channels in front of the blocks."""
        return self.front.get(name, "all")

    @property
    def survivors(self) -> list[int]:
        """The numbers of the blocks that it keeps, in order."""
        return [index for index, block in enumerate(self.blocks) if block]

    def then(self, later: Structure) -> Structure:
        """This structure followed by another one that refers to the already smaller model.

        Raises:
            StructureError: if `later` does not fit what this structure leaves.
        """
        survivors = self.survivors
        if later.family != self.family or len(later.blocks) != len(survivors):
            raise StructureError(
                f"Cannot follow a {self.family} structure that leaves {len(survivors)} blocks "
                f"by a {later.family} structure of {len(later.blocks)} blocks."
            )
        blocks: list[Block | None] = [None] * len(self.blocks)
        for index, then in zip(survivors, later.blocks, strict=True):
            first = self.blocks[index]
            assert first is not None
            blocks[index] = then and Block(**{m: _compose(k, getattr(then, m)) for m, k in first.items()})
        names = dict.fromkeys((*self.front, *later.front))
        front = {name: _compose(self.of_front(name), later.of_front(name)) for name in names}
        return Structure(self.family, tuple(blocks), {n: kept for n, kept in front.items() if isinstance(kept, tuple)})


def count_kept(kept: Kept, units: int) -> int:
    """How many of a module's `units` stay."""
    if kept is None:
        return 0
    return units if kept == "all" else len(kept)


def share_kept(structure: Structure, units: Sequence[Mapping[str, int]], name: str) -> float:
    """The share of the units of all modules of a name that stays.

    Args:
        structure: of a model.
        units: per block of the model, the number of units of each module.
        name: of the modules.
    """
    kept = [
        count_kept(getattr(block, name), counts[name]) if block else 0
        for block, counts in zip(structure.blocks, units, strict=True)
    ]
    return sum(kept) / max(1, sum(counts[name] for counts in units))


def _compose(first: Kept, then: Kept) -> Kept:
    if first is None or then is None:
        return None
    if first == "all" or then == "all":
        return then if first == "all" else first
    if then[-1] >= len(first):
        raise StructureError(f"Unit {then[-1]} is out of range: only {len(first)} units were left.")
    return tuple(first[index] for index in then)


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise StructureError(f"an object of the file has a key twice; its keys are {[key for key, _ in pairs]}.")
    return content


def _read_block(data: Any, where: str) -> Block | None:
    if data is None:
        return None
    if not isinstance(data, Mapping):
        raise StructureError(f"{where} must be null or an object with {', '.join(MODULES)}, got {reprlib.repr(data)}.")
    _check_keys(data, tuple(field.name for field in fields(Block)), where)
    return Block(**{name: _read_kept(data[name], f"{where}.{name}") for name in MODULES})


def _read_kept(data: Any, where: str) -> Kept:
    if data is None or data == "all":
        return data  # type: ignore[no-any-return]
    if not isinstance(data, Sequence) or isinstance(data, str):
        raise StructureError(f'{where} must be "all", null or a list of kept indices, got {reprlib.repr(data)}.')
    if not data:
        raise StructureError(f"{where} is an empty list; write null to remove the module.")
    for index in data:
        if isinstance(index, bool) or not isinstance(index, int) or index < 0:
            raise StructureError(f"{where} holds {reprlib.repr(index)}; indices are whole numbers from 0.")
    if any(left >= right for left, right in pairwise(data)):
        raise StructureError(f"{where} must be sorted without repetitions, got {list(data)[:8]}...")
    return tuple(data)


def _read_front(data: Any) -> dict[str, tuple[int, ...]]:
    """What is kept of each group of which not all is, by name and in the order of names."""
    if not isinstance(data, Mapping):
        raise StructureError(f"structure.front must be an object, got {reprlib.repr(data)}.")
    read = {}
    for name in sorted(data, key=str):
        kept = None if data[name] in ([], ()) else _read_kept(data[name], f"front.{name}")
        if kept is None or (kept != "all" and len(kept) < FEWEST_CHANNELS):
            raise StructureError(
                f"front.{name} keeps {reprlib.repr(data[name])}; at least {FEWEST_CHANNELS} channels of it must stay."
            )
        if isinstance(kept, tuple):
            read[name] = kept
    return read


def _write_block(block: Block | None) -> dict[str, Any] | None:
    if block is None:
        return None
    return {name: list(kept) if isinstance(kept, tuple) else kept for name, kept in block.items()}


def _check_keys(data: Any, expected: tuple[str, ...], where: str, optional: tuple[str, ...] = ()) -> None:
    if not isinstance(data, Mapping):
        raise StructureError(f"{where} must be an object with {', '.join(expected)}, got {type(data).__name__}.")
    missing, unknown = [k for k in expected if k not in data], [k for k in data if k not in expected + optional]
    if missing or unknown:
        raise StructureError(f"{where}: missing keys {missing}, unknown keys {unknown}; it needs {list(expected)}.")
