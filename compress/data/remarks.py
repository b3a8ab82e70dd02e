"""What is noticed of data that can be used: lengths that are not as said, channels that are mixed, files unused."""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Sequence

from compress.data.cache import AudioStore
from compress.data.checks import Problem
from compress.data.sources import Source

logger = logging.getLogger(__name__)

DIFFERENT_SECONDS = 0.5
"""A length that is said counts as wrong from here on."""
_LINE = re.compile(r"^line \d+ ")


def remarks_on(source: Source, entries: Sequence[int], store: AudioStore) -> list[Problem]:
    """Collects what was noticed: before decoding, while decoding, and of lengths that are not as they are said to be.

    Args:
        source: the data set.
        entries: those that are used.
        store: what the pass over the data set found.
    """
    remarks = [Problem(*remark) for remark in source.remarks]
    for entry in entries:
        name = source.ids[entry]
        remarks += [Problem(name, note) for note in store.index.notes[entry]]
        said, measured = source.said_seconds.get(entry), store.index.samples[entry] / store.limits.sampling_rate
        if said is not None and abs(said - measured) > DIFFERENT_SECONDS:
            remarks.append(Problem(name, f"length not as said: {said:.2f} s, it is {measured:.2f} s"))
    return remarks


def report_remarks(source: str, remarks: Sequence[Problem]) -> None:
    """Logs each kind of remark once, with its first example and how many there are."""
    kinds: dict[str, list[Problem]] = defaultdict(list)
    for remark in remarks:
        kinds[kind_of(remark.reason)].append(remark)
    for same in kinds.values():
        others = f" (and {len(same) - 1:,} more)" if len(same) > 1 else ""
        logger.warning("%s: noticed %s%s", source, same[0], others)


def kind_of(reason: str) -> str:
    """Returns what a reason says of any entry: without the line that it stands in, and what it quotes."""
    return _LINE.sub("the row ", reason.partition(":")[0])
