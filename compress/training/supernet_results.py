"""What the training of a supernet leaves beside its models: the decision, and the error rates of every size."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from transformers import PreTrainedModel

from compress.data import SpeechDataset
from compress.elastic.supernet.report import read_decided, structures_of, write_decided
from compress.evaluation.bootstrap import BootstrapConfig, rate_interval
from compress.evaluation.errors import count_errors
from compress.evaluation.metrics import error_rates
from compress.files.writing import replaced_folder, write_json
from compress.reports.making import created
from compress.running.subnets import activate, subnet_names
from compress.structure import Structure
from compress.training.loop import processes
from compress.training.run import DevSet

BEST, LAST, SELECTED, STRUCTURES = "best", "last", "selected", "structures"
"""Folders of a run: models, and the Structures of all sizes."""

HISTORY_FILE = "history.json"
SHOWN = ("limit", "achieved", "parts", "parameters", "macs_per_second", "wer", "cer")
"""What is repeated of each size at the end of a run."""

Rates = dict[str, dict[str, Any]]
"""`wer`, its interval `wer_ci95` and `cer` on the dev set by size, the smallest first."""


def rates_by_size(dev: DevSet, model: PreTrainedModel) -> Rates:
    """`wer`, `wer_ci95` and `cer` at every size of a model on a dev set, smallest first; all ranks must call it."""
    by_size = {}
    for size in subnet_names(model):
        activate(model, size)
        texts = dev.written(model)
        rates, counts = error_rates(*texts), count_errors(*texts)
        interval = rate_interval(counts.errors, counts.words, BootstrapConfig()).to_list()
        by_size[size] = {"wer": rates.wer, "cer": rates.cer, "wer_ci95": interval}
    return by_size


def mean_wer(rates: Rates) -> float:
    """The mean word error rate of all sizes, by which models are compared."""
    return fmean(of_size["wer"] for of_size in rates.values())


def rates_as_metrics(rates: Rates) -> dict[str, float]:
    """Word error rates under the names they have in reports: `dev/wer` is that of the full size."""
    *_, full = rates.values()
    by_size = {f"dev/wer/{size}": of_size["wer"] for size, of_size in rates.items()}
    return {"dev/wer": full["wer"]} | (by_size | {"dev/wer/mean": mean_wer(rates)} if len(rates) > 1 else {})


def data_entry(speech: SpeechDataset) -> dict[str, Any]:
    """What a report says of a data set."""
    known = None if speech.streaming else len(speech)
    return {"source": speech.name, "split": speech.split, "utterances": known, "seconds": sum(speech.seconds) or None}


class SupernetResults:
    """The files of one supernet that are no models; rank 0 writes them.

    Args:
        output: folder of the run.
    """

    def __init__(self, output: Path) -> None:
        self.output = output

    def decide(self, result: Mapping[str, Any], dev: DevSet | None) -> None:
        """Writes what the first stage has decided: the report, and the Structure of each size.

        Args:
            result: from `decided`.
            dev: the set on which error rates will be measured.
        """
        if processes.rank() != 0:
            return
        write_decided({**result, "created": created(), "data": dev and data_entry(dev.dataset)}, self.output)
        with replaced_folder(self.output / STRUCTURES) as folder:
            for size, structure in structures_of(result).items():
                structure.save(folder / f"{size}.json")

    def structures(self) -> dict[str, Structure]:
        """The Structure of each size, the smallest first."""
        return structures_of(read_decided(self.output))

    def note(self, rates: Rates) -> None:
        """Puts the error rates of the best model so far into the report."""
        if processes.rank() != 0:
            return
        result = read_decided(self.output)
        for entry in result["sizes"]:
            entry |= rates.get(entry["size"], {})
        write_decided(result, self.output)

    def record(self, history: Mapping[str, Any] | None) -> None:
        """Keeps, for people, how parts have left so far; a stage in which none leave has nothing to keep."""
        if history and processes.rank() == 0:
            write_json(self.output / HISTORY_FILE, dict(history))

    def numbers(self) -> dict[str, Any]:
        """Parameters, MACs and error rate of each size."""
        sizes = read_decided(self.output)["sizes"]
        return {"sizes": {entry["size"]: {key: entry[key] for key in SHOWN} for entry in sizes}}
