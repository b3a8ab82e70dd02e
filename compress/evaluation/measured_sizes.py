"""The sizes of an elastic model in the report: accuracy, parameters, MACs and speed of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from compress.conformers import block_units, skeleton, structure_of
from compress.cost import Size, size_of
from compress.elastic import structure_at
from compress.evaluation.bootstrap import rate_interval
from compress.evaluation.contenders import Evaluation
from compress.evaluation.errors import count_errors
from compress.evaluation.measured_aspect import MeasuredAspect
from compress.evaluation.metrics import error_rates
from compress.evaluation.report import Report, Transcripts
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
_HEADER = ("size", "what runs", "WER", "95 % interval", "parameters", "MACs/s", "RTF")


class MeasuredSizes(MeasuredAspect):
    """The sizes of an elastic model: each is transcribed with and timed, as the standalone model would be."""

    name = "sizes"
    about = "of an elastic model: what it does at each size; parameters and MACs of the extracted model"

    def ways(self, model: PreTrainedModel) -> dict[str, Callable[[], None]]:
        """What sets the model to each size but the full one, by the name under which it is timed."""
        return {role_of(name): partial(activate, model, name) for name in subnet_names(model)[:-1]}

    def run_whole(self, model: PreTrainedModel) -> None:
        """Sets the full size."""
        if len(names := subnet_names(model)) > 1:
            activate(model, names[-1])

    def measure(self, evaluation: Evaluation, watcher: Any) -> list[dict[str, Any]] | None:
        """Transcribes at each size but the full one, which is done; an entry for each size, the full one last."""
        model = evaluation.model.model
        *smaller, full = subnet_names(model)
        if not smaller:
            return None
        entries = []
        for name in smaller:
            activate(model, name)
            entries.append(_entry(evaluation, name, evaluation.transcribe(evaluation.model), role_of(name)))
        activate(model, full)
        return [*entries, _entry(evaluation, full, evaluation.transcripts["model"], "model")]

    def summary(self, report: Report) -> str:
        """From which size to which the model runs, and what that does to its errors."""
        if self.name not in report:
            return ""
        first, *_, full = report[self.name]
        share = formats.percent(first["parameters"] / full["parameters"])
        return (
            f"That is its full size; the smallest of its {len(report[self.name])} sizes, {first['size']}, has {share} "
            f"of the parameters, each extracted, and {formats.percent(first['wer'])} of the words wrong."
        )

    def sections(self, report: Report) -> list[Section]:
        """One section of the page, with the full size first in its figures; none if the model has one size."""
        if self.name not in report:
            return []
        entries = list(reversed(report[self.name]))
        note = (
            "The model is elastic: it runs at another size after `model.activate`, and `compress extract` writes any "
            "size as a model of its own, whose parameters and MACs these are. All other numbers of this page are those "
            "of the full size."
        )
        rates = Figure(_rates(entries), "Word error rate at each size with 95 % intervals")
        bars = [_bars(entries, *quantity) for quantity in _QUANTITIES]
        columns = Columns([Panel("Word error rate", [rates]), Panel("", bars)])
        table = Table(_HEADER, [_row(entry) for entry in report[self.name]], left=2)
        return [Section("At each size", [Text(note), columns, table])]


MEASURED_SIZES = MeasuredSizes()


def role_of(size: str) -> str:
    """The name of a size among the models that are measured together."""
    return f"size {size}"


def what_runs(model: PreTrainedModel, size: str) -> str:
    """The blocks that run at a size, from 0, or where they do so in part the share of the units of each module."""
    structure, units = structure_at(model, size), block_units(model)
    if all(block in (None, Block()) for block in structure.blocks):
        return "blocks " + " ".join(str(index) for index, block in enumerate(structure.blocks) if block)
    return ", ".join(f"{name} {formats.percent(share_kept(structure, units, name), 0)}" for name in MODULES)


def size_of_subnet(model: PreTrainedModel, name: str, seconds: float) -> Size:
    """Parameters and MACs of the standalone model of a size."""
    structure = structure_of(model).then(structure_at(model, name))
    return size_of(skeleton(compressed_config(model.config, structure), original=False), seconds)


def _entry(evaluation: Evaluation, name: str, transcripts: Transcripts, role: str) -> dict[str, Any]:
    """What was measured at one size.

    Args:
        evaluation: with the speeds.
        name: of the size.
        transcripts: what the model wrote there.
        role: under which it was timed.
    """
    model, config = evaluation.model.model, evaluation.config
    counts = count_errors(transcripts.references, transcripts.hypotheses)
    rates = error_rates(transcripts.references, transcripts.hypotheses)
    size = size_of_subnet(model, name, config.macs_seconds)
    return {
        "size": name,
        "runs": what_runs(model, name),
        "wer": rates.wer,
        "wer_ci95": rate_interval(counts.errors, counts.words, config.bootstrap).to_list(),
        "cer": rates.cer,
        "parameters": size.total,
        "macs_per_second": size.macs_per_second,
        "rtf": evaluation.speeds[role].rtf,
    }


def _rates(entries: Sequence[dict[str, Any]]) -> IntervalFigure:
    return named_rates_figure([(role_of(entry["size"]), "model", entry["wer"], entry["wer_ci95"]) for entry in entries])


def _bars(entries: Sequence[dict[str, Any]], label: str, key: str, written: Callable[[float], str]) -> Panel:
    """What each size costs of one quantity, against the first."""
    bars = [Bar(role_of(entry["size"]), entry[key] / entries[0][key], written(entry[key])) for entry in entries]
    return Panel(label, [Figure(Bars(bars), f"{label} at each size")])


def _row(entry: dict[str, Any]) -> list[str]:
    """One size for people, under `_HEADER`."""
    return [
        entry["size"],
        entry["runs"],
        formats.percent(entry["wer"], 2),
        formats.interval(entry["wer_ci95"], 2),
        formats.count(entry["parameters"]),
        formats.count(entry["macs_per_second"]),
        formats.significant(entry["rtf"]),
    ]
