"""The sizes of an elastic model in the report: accuracy, parameters, MACs and speed of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
from compress.reports.bars import Bar, Bars
from compress.reports.page import Columns, Figure, Panel, Section, Table, Text
from compress.reports.plots import IntervalFigure, named_rates_figure
from compress.running.subnets import activate, subnet_names
from compress.structure import MODULES, Block, share_kept

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_QUANTITIES: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("Parameters", "parameters", formats.count),
    ("MACs per second of audio", "macs_per_second", formats.count),
    ("Real-time factor", "rtf", formats.significant),
)
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


def sections(report: Report) -> list[Section]:
    """What a page shows of the sizes, the full one first in figures; nothing if the model is not elastic."""
    if "sizes" not in report:
        return []
    entries = list(reversed(report["sizes"]))
    note = (
        "The model is elastic: it runs at another size after `model.activate`, and `compress extract` writes any size "
        "as a model of its own, whose parameters and MACs these are. All other numbers of this page are those of the "
        "full size."
    )
    rates = Figure(_rates(entries), "Word error rate at each size with 95 % intervals")
    columns = Columns([Panel("Word error rate", [rates]), Panel("", [_bars(entries, *shown) for shown in _QUANTITIES])])
    table = Table(HEADER, [_row(entry) for entry in report["sizes"]], left=2)
    return [Section("At each size", [Text(note), columns, table])]


def _rates(entries: Sequence[dict[str, Any]]) -> IntervalFigure:
    return named_rates_figure([(role_of(entry["size"]), "model", entry["wer"], entry["wer_ci95"]) for entry in entries])


def _bars(entries: Sequence[dict[str, Any]], label: str, key: str, written: Callable[[float], str]) -> Panel:
    """What each size costs of one quantity, against the first."""
    bars = [Bar(role_of(entry["size"]), entry[key] / entries[0][key], written(entry[key])) for entry in entries]
    return Panel(label, [Figure(Bars(bars), f"{label} at each size")])


def _row(entry: dict[str, Any]) -> list[str]:
    """One size for people, under `HEADER`."""
    return [
        entry["size"],
        entry["runs"],
        formats.percent(entry["wer"], 2),
        formats.interval(entry["wer_ci95"], 2),
        formats.count(entry["parameters"]),
        formats.count(entry["macs_per_second"]),
        formats.significant(entry["rtf"]),
    ]
