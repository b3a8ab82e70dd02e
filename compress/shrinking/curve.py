"""`compress shrink` with several sizes: what each loses, costs and gains, before anyone pays for training.

One chain of rounds passes all sizes, so that scores and moments are computed once for all of them. What is finished
stands in the folder of the report, and the same command goes on behind it.
"""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from compress.checkpoint import describe, load_config, load_model, save
from compress.checkpoint.weights import dtypes_in_file
from compress.config import to_dict
from compress.conformers import family_of, skeleton
from compress.cost import size_of
from compress.data import require_split
from compress.deciding.budget import Budget, takes_front
from compress.deciding.decisions import check_range
from compress.deciding.uniform import DEFAULT_UNIFORM, UniformConfig
from compress.elastic.supernet.limits import SizesConfig
from compress.files.reading import ReadError, read_object
from compress.files.writing import recover_folder, require_place_for_models, write_json, write_text
from compress.latency import LATENCY_FILE
from compress.reports.making import made
from compress.reports.saving import save_page
from compress.shrinking.checkpoints import opened, saved_dtype, timed
from compress.shrinking.curve_report import SHRINK_REPORT, WHOLE, page_of, with_chosen
from compress.shrinking.measured import measure_of
from compress.shrinking.rounds import Shrunk, limits_between, shrink_in_rounds
from compress.shrinking.settings import ShrinkConfig
from compress.structure import Structure
from compress.training.loop.same_run import require_same

logger = logging.getLogger(__name__)

CALIBRATION = "the speech that is looked at"

CURVE_ABOUT = (
    "Error rates are fractions, pooled over the dev set, with 95 % bootstrap intervals. Nothing was trained. Every "
    "size goes on from the one before it. `holds`: the interval of the word error rate reaches down to that of the "
    "whole model; `chosen` names the smallest such size. Real-time factors were measured in turn with the whole model. "
    "`seconds` is what deciding, removing and repairing took on top of the size before."
)
CURVE_HARMLESS = ("out", "save", "batch.workers", "batch.prefetch_batches")
"""Settings that may change between the start of a curve and its resumption."""
ENTRY_FORM = {"name": str, "wer_ci95": list, "parameters": int} | dict.fromkeys(
    ("share", "wer", "macs_per_second", "times_as_fast"), float
)
"""Of what was measured of a size, what its page shows."""
ANY_COST = 10**9
"""Of a whole model, to compare shares with each other before it is known what they are of."""
SHRINK_SETTINGS, SIZE_FOLDERS, SIZE_STRUCTURES, ENTRIES = "settings.json", "sizes", "structures", "entries"


def measure_curve(config: ShrinkConfig) -> dict[str, Any]:
    """Shrinks to every size, measures each, and writes report, Structures and, if wanted, checkpoints.

    Args:
        config: what was asked for, with sizes.

    Returns:
        What is written to report.json; `CURVE_ABOUT` explains it.

    Raises:
        BudgetError: if the sizes do not decrease, or one cannot be reached.
        ValueError: if the model or the speech are unusable, or `out` holds a curve with other settings.
    """
    assert config.sizes is not None
    if config.sizes.latency is None or config.sizes.profile is not None:
        budgets_of(config.sizes, config.model, config.structure, config.uniform)  # refused before the folder is made
    elif all(name.endswith("%") for name in config.sizes.names):  # and these before anything is measured
        config.sizes.require_decreasing(ANY_COST)
    claim_curve(config)
    timely = timed(config, Path(config.out))
    assert timely.sizes is not None
    return Curve(timely, budgets_of(timely.sizes, config.model, config.structure, config.uniform)).run()


def budgets_of(
    sizes: SizesConfig, model: str, decision: str, alike: UniformConfig = DEFAULT_UNIFORM
) -> dict[str, Budget]:
    """A budget for every size below the whole model's, from its config alone, largest first.

    Raises:
        BudgetError: if they do not decrease, or one cannot be reached.
    """
    known = load_config(model)
    table = sizes.table(known)
    assert table is not None
    sizes.require_decreasing(table.full)
    front = takes_front(decision, table)
    limits = {name: limit for name in sizes.names if (limit := sizes.amount(name, table.full)) < table.full}
    budgets = {
        name: Budget(table, limit, sizes.requested(name), sizes.round_to, front) for name, limit in limits.items()
    }
    whole = skeleton(known, original=False)
    for budget in budgets.values():
        check_range(budget, whole, decision, alike)
    return budgets


def claim_curve(config: ShrinkConfig) -> None:
    """Takes the folder of a curve, and refuses one that holds something else, or a curve with other settings.

    Settings alone are left by a start that was refused; they bind nobody. With a profile beside them, the sizes may be
    others.
    """
    out, settings = Path(config.out), to_dict(config)
    path = out / SHRINK_SETTINGS
    if out.is_file():
        raise ValueError(f"{out} is a file; choose a folder.")
    require_place_for_models(out)
    others = {child.name for child in out.iterdir()} - {SHRINK_SETTINGS} if out.exists() else set()
    if path.exists() and others:
        changeable = CURVE_HARMLESS if others - {LATENCY_FILE} else (*CURVE_HARMLESS, "sizes.latency")
        require_same(read_object(path), settings, harmless=changeable, where=str(out))
    elif others:
        raise ValueError(f"{out} holds something else; choose another folder or delete it.")
    write_json(path, settings)


class Curve:
    """One curve under way.

    Args:
        config: what was asked for.
        budgets: by size, the largest first.
    """

    def __init__(self, config: ShrinkConfig, budgets: Mapping[str, Budget]) -> None:
        self.config, self.budgets, self.out = config, budgets, Path(config.out)
        self.model, self.processor, self.speech = opened(config)
        self.measure = measure_of(self.model, self.processor, config)
        if self.speech:
            require_split(self.speech.dataset, self.measure.dev, CALIBRATION, "name another source with dev.source")

    def run(self) -> dict[str, Any]:
        """Measures what is not measured yet, and writes the report."""
        finished = (self.out / f"{SHRINK_REPORT}.json").exists()
        entries = [self._whole(), *self._sizes()]
        report = {
            "about": CURVE_ABOUT,
            **made(),
            "model": self.config.model,
            "family": family_of(self.model).name,
            "structure": self.config.structure,
            "refit": self._refit(),
            "calibration_seconds": self.speech.seconds if self.speech else 0.0,
            **self.measure.described(),
            **with_chosen(entries),
        }
        save_page(page_of(report), self.out, SHRINK_REPORT)
        write_json(self.out / f"{SHRINK_REPORT}.json", report)
        if not self.config.save and not finished:
            shutil.rmtree(self.out / SIZE_FOLDERS, ignore_errors=True)
        return report

    def _refit(self) -> dict[str, Any] | None:
        """How models are repaired, and on how many utterances in fact."""
        if self.config.refit is None or self.speech is None:
            return None
        return to_dict(self.config.refit) | {"utterances": self.speech.utterances}

    def _whole(self) -> dict[str, Any]:
        if known := self._known(WHOLE):
            return known
        return self._keep(WHOLE, {"share": 1.0} | self.measure.of(self.model))

    def _sizes(self) -> Iterator[dict[str, Any]]:
        shrunk: Shrunk | None = Shrunk.whole(self.model)
        before = None
        for name, budget in self.budgets.items():
            if known := self._known(name, kept=self.config.save):
                shrunk, before = None, name
                yield known
                continue
            began = time.perf_counter()
            start = shrunk or self._read_back(str(before))
            shrunk = self._shrunk(start, budget)
            self._save(name, shrunk, budget)
            before = name
            yield self._keep(name, self._entry(shrunk, budget, time.perf_counter() - began))

    def _shrunk(self, start: Shrunk, budget: Budget) -> Shrunk:
        limits = limits_between(budget.table.of(start.structure), budget.limit)
        how = self.config
        *_, last = shrink_in_rounds(
            start, self.model, budget, limits, how.structure, self.speech, how.refit, how.uniform
        )
        round_as_saved_(last.model, how.model)
        return last

    def _entry(self, shrunk: Shrunk, budget: Budget, seconds: float) -> dict[str, Any]:
        cost, measured = budget.table.of(shrunk.structure), self.measure.of(shrunk.model)
        return measured | {
            "share": cost / budget.table.full,
            "requested": budget.requested,
            "limit": budget.limit,
            "cost": cost,
            "seconds": round(seconds, 1),
            "rounds": shrunk.rounds,
        }

    def _keep(self, name: str, entry: dict[str, Any]) -> dict[str, Any]:
        named = {"name": name} | entry
        write_json(self._path(ENTRIES, name, ".json"), named)
        return named

    def _known(self, name: str, *, kept: bool = False) -> dict[str, Any] | None:
        """What an earlier start has measured of a size, if it also has kept its checkpoint where that is wanted."""
        path, folder = self._path(ENTRIES, name, ".json"), self._path(SIZE_FOLDERS, name)
        if not path.exists() or (kept and not folder.exists()):
            return None
        return read_entry(path)

    def _save(self, name: str, shrunk: Shrunk, budget: Budget) -> None:
        """Keeps a size, from which the next one goes on also after an interruption."""
        facts = describe("shrink", self.config.model, size_of(self.model), size_of(shrunk.model), budget)
        facts |= {"structure": self.config.structure, "rounds": shrunk.rounds, "achieved": shrunk.rounds[-1]["cost"]}
        folder, dtype = self._path(SIZE_FOLDERS, name), saved_dtype(self.config.model)
        save(shrunk.model, self.processor, folder, facts, dtype=dtype)
        write_text(self._path(SIZE_STRUCTURES, name, ".json"), json.dumps(shrunk.structure.to_dict()) + "\n")

    def _read_back(self, name: str) -> Shrunk:
        """A size that an earlier start has left."""
        folder, entry = self._path(SIZE_FOLDERS, name), self._path(ENTRIES, name, ".json")
        recover_folder(folder)
        try:
            model = load_model(str(folder), dtype=self.model.dtype, device=self.model.device)
            rounds = read_object(entry, {"rounds": list})["rounds"]
            return Shrunk(model, Structure.load(self._path(SIZE_STRUCTURES, name, ".json")), rounds)
        except (ValueError, OSError) as error:
            raise ReadError(
                f"{error} The next size goes on from there: delete {entry}, and run the same command again to make "
                f"{name} anew."
            ) from error

    def _path(self, folder: str, name: str, ending: str = "") -> Path:
        return self.out / folder / (name.replace("%", "") + ending)


def read_entry(path: Path) -> dict[str, Any]:
    """Reads what was measured of a size.

    Raises:
        ReadError: naming the file and what is wrong in it, and the remedy.
    """
    try:
        entry = read_object(path, ENTRY_FORM, optional={"rounds": list, "seconds": float, "requested": str})
        ends = entry["wer_ci95"]
        if len(ends) != 2 or not all(isinstance(end, int | float) for end in ends):
            raise ReadError(f"{path}: wer_ci95 must be two numbers, and is {ends}.")
    except ReadError as error:
        raise ReadError(f"{error} Delete it, and run the same command again to measure this size anew.") from error
    return entry


@torch.no_grad()
def round_as_saved_(model: PreTrainedModel, original: str) -> None:
    """Rounds what is saved of a model to the precision of the checkpoint that it was made from, in place.

    So it is measured, and the next size made from it, as it is read back. What is not saved, such as the frequencies of
    positions, is computed anew when it is read, and stays.
    """
    dtypes = dtypes_in_file(model, saved_dtype(original))
    for name, value in model.state_dict().items():
        value.copy_(value.to(dtypes[name]))
