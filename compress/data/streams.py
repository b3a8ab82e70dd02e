"""Rows of shards in turn, in blocks at each of which reading can begin again without what lies before it."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from compress.data.settings import SpeechConfig
from compress.data.sources import Origin, Row, audio_payload, numbered

OPEN_SHARDS = 4
"""Shards that are read side by side where rows are shuffled."""


class Shard(Protocol):
    """A file of rows, or a part of a data set on the Hub."""

    def rows_from(self, start: int) -> Iterator[dict[str, Any]]:
        """Yields its rows from the `start`-th on."""


@dataclass(frozen=True)
class ParquetShard:
    """A parquet file on this machine, whose footer says where each row is.

    Attributes:
        path: of the file.
        columns: that are read.
    """

    path: Path
    columns: tuple[str, ...]

    def rows_from(self, start: int) -> Iterator[dict[str, Any]]:
        """Yields rows, and reads no group of them that lies before the first."""
        import pyarrow.parquet

        with pyarrow.parquet.ParquetFile(self.path) as file:
            for group in range(file.num_row_groups):
                count = file.metadata.row_group(group).num_rows
                if start < count:
                    table = file.read_row_group(group, columns=list(self.columns))  # those that are not there are not
                    for row in range(start, count):
                        yield {name: table[name][row].as_py() for name in table.column_names}
                start = max(0, start - count)


@dataclass(frozen=True)
class TableShard:
    """A `datasets` table on this machine, of which any row can be read."""

    table: Any

    def rows_from(self, start: int) -> Iterator[dict[str, Any]]:
        """Yields rows."""
        return (self.table[row] for row in range(start, len(self.table)))


@dataclass(frozen=True)
class RemoteShard:
    """One shard of a `datasets` stream; the rows before the first that is wanted are read, and not decoded."""

    rows: Any
    number: int

    def rows_from(self, start: int) -> Iterator[dict[str, Any]]:
        """Yields rows."""
        return islice(iter(self.rows.shard(self.rows.num_shards, self.number)), start, None)


@dataclass(frozen=True)
class StreamPlace:
    """Where in an epoch's rows a block begins, and which rows of it come next.

    Attributes:
        block: its number.
        batches: those before the rows that come next, over all ranks.
        rows: those before the block.
        following: how many shards have been opened.
        open: those that are being read, in turn: the place of each in the epoch's order, and its next row.
        used: rows of the block that have been used.
        lengths: of the rows that come next, in seconds, as far as they are known; None where one cannot be used.
        seen: entries before the rows that come next.
        bad: unusable ones among them.
    """

    block: int = 0
    batches: int = 0
    rows: int = 0
    following: int = 0
    open: tuple[tuple[int, int], ...] = ()
    used: int = 0
    lengths: tuple[float | None, ...] = ()
    seen: int = 0
    bad: int = 0

    @classmethod
    def of(cls, state: Any) -> StreamPlace:
        """Makes a place of what `asdict` gave, also by way of JSON."""
        reading = tuple((int(shard), int(row)) for shard, row in state["open"])
        return cls(**{**state, "open": reading, "lengths": tuple(state.get("lengths", ()))})


class RowBlock(NamedTuple):
    """Rows that are used together.

    Attributes:
        rows: mixed, if rows are shuffled.
        place: where they begin.
    """

    rows: list[Row]
    place: StreamPlace


@dataclass
class StreamSource:
    """A data set that is read in turn."""

    name: str
    origin: Origin
    shards: Sequence[Shard]
    config: SpeechConfig
    roots: Sequence[Path]

    def read(
        self, block_rows: int, least: int, *, shuffle: bool, seed: int, epoch: int, place: StreamPlace | None = None
    ) -> Iterator[RowBlock]:
        """Yields every row in blocks, in an order that follows from seed and epoch.

        Repeated names are numbered in the order of shards and rows, as in a listed data set; where shards are shuffled,
        which of them comes first follows from seed and epoch too, and from where reading begins.

        Args:
            block_rows: rows of a block.
            least: rows of the last block, at least; the one before it takes them if they are fewer.
            shuffle: take shards in random order, several side by side, and mix the rows of a block.
            seed: of the run.
            epoch: number of the epoch.
            place: where to begin; None: at the first row.
        """
        ordered = not shuffle or self.config.limit is not None
        random = np.random.default_rng([seed, epoch])
        order = list(range(len(self.shards))) if ordered else random.permutation(len(self.shards)).tolist()
        waiting: list[tuple[StreamPlace, Row]] = []
        place = place or StreamPlace()
        number = place.block
        for item in self._rows(order, 1 if ordered else OPEN_SHARDS, place):
            waiting.append(item)
            if len(waiting) == block_rows + least:
                yield _block(waiting[:block_rows], number, [seed, epoch] if shuffle else None)
                waiting, number = waiting[block_rows:], number + 1
        if waiting:
            yield _block(waiting, number, [seed, epoch] if shuffle else None)

    def _rows(self, order: Sequence[int], width: int, place: StreamPlace) -> Iterator[tuple[StreamPlace, Row]]:
        seen: Counter[str] = Counter()
        rows = _braided([self.shards[number] for number in order], width, place)
        left = None if self.config.limit is None else max(0, self.config.limit - place.rows)
        for before, position, number, row in islice(rows, left):
            cell = row[self.config.audio_column]
            where = f"shard {order[position]} row {number}" if len(order) > 1 else f"row {number}"
            name = row_name(cell, where)
            payload = audio_payload(cell, self.roots)
            yield before, Row(numbered(name, seen), name, row.get(self.config.text_column), payload)


def row_name(cell: object, otherwise: str) -> str:
    """Returns the path in an audio cell, or another name where there is none."""
    path = cell.get("path") if isinstance(cell, dict) else cell
    return path if isinstance(path, str) and path else otherwise


def _braided(
    shards: Sequence[Shard], width: int, place: StreamPlace
) -> Iterator[tuple[StreamPlace, int, int, dict[str, Any]]]:
    """Rows of several shards in turn; another is opened where one ends.

    Yields:
        The place before the row, the place of its shard in the order, its number there, and the row.
    """
    reading = deque((position, row, shards[position].rows_from(row)) for position, row in place.open)
    following, count = place.following, place.rows
    while True:
        while len(reading) < width and following < len(shards):
            reading.append((following, 0, shards[following].rows_from(0)))
            following += 1
        if not reading:
            return
        before = StreamPlace(rows=count, following=following, open=tuple((shard, row) for shard, row, _ in reading))
        position, number, rows = reading.popleft()
        if (row := next(rows, None)) is not None:
            reading.append((position, number + 1, rows))
            count += 1
            yield before, position, number, row


def _block(rows: Sequence[tuple[StreamPlace, Row]], number: int, seed: Sequence[int] | None) -> RowBlock:
    """A block of rows, mixed if there is a seed."""
    order = np.random.default_rng([*seed, number]).permutation(len(rows)).tolist() if seed else range(len(rows))
    return RowBlock([rows[place][1] for place in order], replace(rows[0][0], block=number))
