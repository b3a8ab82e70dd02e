"""The sizes of an elastic model in the report: accuracy, parameters, MACs and speed of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from compress.conformers import block_units, skeleton, structure_of
from compress.cost import Size, size_of
from compress.elastic import structure_at
from compress.evaluation.bootstrap import BootstrapConfig, rate_interval
from compress.evaluation.errors import count_errors, error_rates
from compress.evaluation.report import Report, Transcripts
from compress.evaluation.speed import Speed
from compress.model.registration import compressed_config
from compress.reports import formats
from compress.running.subnets import activate, subnet_names
from compress.structure import MODULES, Block, share_kept

if TYPE_CHECKING:
    from collections.abc import Callable

    from transformers import PreTrainedModel

HEADER = ("size", "what runs", "WER", "95 % interval", "parameters", "MACs/s", "RTF")


@dataclass(frozen=True)
class SubnetMeasurements:
    """What was measured at one size.

    Attributes:
        name: of the size.
        runs: what runs there, in words.
        transcripts: what it wrote.
        size: of the standalone model.
        speed: of the elastic model at this size.
    """

    name: str
    runs: str
    transcripts: Transcripts
    size: Size
    speed: Speed


def subnets_below(model: PreTrainedModel) -> list[str]:
    """The sizes of a model other than the full one; none if it is not elastic."""
    return subnet_names(model)[:-1]


def setters(model: PreTrainedModel) -> dict[str, Callable[[], None]]:
    """What sets each size of a model, under the names that `role_of` gives them; nothing if it is not elastic."""
    below = subnets_below(model)
    found: dict[str, Callable[[], None]] = {role_of(name): partial(activate, model, name) for name in below}
    return {**found, "model": partial(activate, model, subnet_names(model)[-1])} if below else {}


def role_of(size: str) -> str:
    """The name of a size among the models that are measured together."""
    return f"size {size}"


def what_runs(model: PreTrainedModel, size: str) -> str:
    """The blocks that run at a size, from 0, or where they do so in part the share of the units of each module."""
    structure, units = structure_at(model, size), block_units(model)
    if all(block in (None, Block()) for block in structure.blocks):
        return "blocks " + " ".join(str(index) for index, block in enumerate(structure.blocks) if block)
    return ", ".join(f"{name} {formats.percent(share_kept(structure, units, name), 0)}" for name in MODULES)


def measurements(
    model: PreTrainedModel, written: dict[str, Transcripts], speeds: dict[str, Speed], seconds: float
) -> list[SubnetMeasurements]:
    """What was measured at each size of an elastic model.

    Args:
        model: the model.
        written: by size, what it wrote there.
        speeds: by role.
        seconds: length of the utterance whose MACs are counted.
    """
    full = subnet_names(model)[-1]
    return [
        SubnetMeasurements(
            name=name,
            runs=what_runs(model, name),
            transcripts=transcripts,
            size=size_of_subnet(model, name, seconds),
            speed=speeds["model" if name == full else role_of(name)],
        )
        for name, transcripts in written.items()
    ]


def size_of_subnet(model: PreTrainedModel, name: str, seconds: float) -> Size:
    """Parameters and MACs of the standalone model of a size."""
    structure = structure_of(model).then(structure_at(model, name))
    return size_of(skeleton(compressed_config(model.config, structure), original=False), seconds)


def subnet_entries(measured: Sequence[SubnetMeasurements], config: BootstrapConfig) -> Report:
    """What the report says of the sizes, `{"sizes": [...]}`, smallest first; nothing without any.

    Args:
        measured: what was measured at each.
        config: how intervals are computed.
    """
    return {"sizes": [_entry(one, config) for one in measured]} if measured else {}


def _entry(one: SubnetMeasurements, config: BootstrapConfig) -> dict[str, Any]:
    counts = count_errors(one.transcripts.references, one.transcripts.hypotheses)
    rates = error_rates(one.transcripts.references, one.transcripts.hypotheses)
    return {
        "size": one.name,
        "runs": one.runs,
        "wer": rates.wer,
        "wer_ci95": rate_interval(counts.errors, counts.words, config).to_list(),
        "cer": rates.cer,
        "parameters": one.size.total,
        "macs_per_second": one.size.macs_per_second,
        "rtf": one.speed.rtf,
    }


def subnet_rows(report: Report) -> list[list[str]]:
    """The table of the sizes, for people, with the columns of `HEADER`; empty if the model is not elastic."""
    return [
        [
            one["size"],
            one["runs"],
            formats.percent(one["wer"], 2),
            formats.interval(one["wer_ci95"], 2),
            formats.count(one["parameters"]),
            formats.count(one["macs_per_second"]),
            formats.significant(one["rtf"]),
        ]
        for one in report.get("sizes", ())
    ]
