"""The depths of an elastic model in the report: accuracy, size and speed of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from compress.compressed import compressed_config
from compress.conformers import skeleton, structure_of
from compress.cost import Size, size_of
from compress.depths import depths_of, set_depth
from compress.elastic import structure_at
from compress.evaluation import formats
from compress.evaluation.bootstrap import BootstrapConfig, rate_interval
from compress.evaluation.errors import count_errors, error_rates
from compress.evaluation.report import Measurements, Report, Transcripts
from compress.evaluation.speed import Speed

if TYPE_CHECKING:
    from collections.abc import Callable

    from transformers import PreTrainedModel

HEADER = ("depth", "blocks", "WER", "95 % interval", "parameters", "MACs/s", "RTF")


@dataclass(frozen=True)
class DepthMeasurements:
    """What was measured at one depth.

    Attributes:
        depth: how many blocks run.
        blocks: which, from 0 among those that the model has.
        transcripts: what it wrote.
        size: of the standalone model.
        speed: of the elastic model at this depth.
    """

    depth: int
    blocks: tuple[int, ...]
    transcripts: Transcripts
    size: Size
    speed: Speed


def depths_below(model: PreTrainedModel) -> list[int]:
    """The depths of a model other than the full one; none if it is not elastic."""
    return list(depths_of(model))[:-1]


def setters(model: PreTrainedModel) -> dict[str, Callable[[], None]]:
    """What sets each depth of a model, under the names that `role_of` gives them; nothing if it is not elastic."""
    depths = depths_below(model)
    found: dict[str, Callable[[], None]] = {role_of(depth): partial(set_depth, model, depth) for depth in depths}
    return {**found, "model": partial(set_depth, model, max(depths_of(model)))} if depths else {}


def role_of(depth: int) -> str:
    """The name of a depth among the models that are measured together."""
    return f"depth {depth}"


def size_at(model: PreTrainedModel, depth: int, seconds: float) -> Size:
    """Parameters and MACs of the standalone model of a depth."""
    structure = structure_of(model).then(structure_at(model, depth))
    return size_of(skeleton(compressed_config(model.config, structure), original=False), seconds)


def depth_entries(full: Measurements, below: Sequence[DepthMeasurements], config: BootstrapConfig) -> Report:
    """What the report says of the depths, `{"depths": [...]}`, shallowest first; nothing without any.

    Args:
        full: the model at its full depth.
        below: what was measured at the others.
        config: how intervals are computed.
    """
    if not below:
        return {}
    count = len(full.size.blocks)
    last = DepthMeasurements(count, tuple(range(count)), full.transcripts, full.size, full.speed)
    return {"depths": [_entry(one, config) for one in (*below, last)]}


def _entry(one: DepthMeasurements, config: BootstrapConfig) -> dict[str, Any]:
    counts = count_errors(one.transcripts.references, one.transcripts.hypotheses)
    rates = error_rates(one.transcripts.references, one.transcripts.hypotheses)
    return {
        "depth": one.depth,
        "blocks": list(one.blocks),
        "wer": rates.wer,
        "wer_ci95": rate_interval(counts.errors, counts.words, config).to_list(),
        "cer": rates.cer,
        "parameters": one.size.total,
        "macs_per_second": one.size.macs_per_second,
        "rtf": one.speed.rtf,
    }


def depth_rows(report: Report) -> list[list[str]]:
    """The table of the depths, for people, with the columns of `HEADER`; empty if the model is not elastic."""
    return [
        [
            str(one["depth"]),
            " ".join(map(str, one["blocks"])),
            formats.percent(one["wer"], 2),
            formats.interval(one["wer_ci95"], 2),
            formats.count(one["parameters"]),
            formats.count(one["macs_per_second"]),
            formats.significant(one["rtf"]),
        ]
        for one in report.get("depths", ())
    ]
