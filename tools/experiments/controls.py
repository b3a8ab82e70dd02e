"""Controls: decisions that any method must be better than, as Structure files for `--structure FILE`.

    python -m tools.experiments.controls --model runs/teacher/best --by random --size 25% --out random.json
    python -m tools.experiments.controls --model runs/teacher/best --by taylor --size 25% --data DIR --out t.json

`random` draws a score for every unit. `taylor` takes the first-order term alone, the mean over utterances of the
absolute gradient at a unit's gate (Molchanov et al. 2017, arXiv 1611.06440, eq. 8), over what the unit costs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import PreTrainedModel

from compress.checkpoint import load_recogniser
from compress.config import check_choice
from compress.conformers import family_of
from compress.cost import CostTable
from compress.curvature.fisher import fisher_scores
from compress.data import BatchConfig, SpeechConfig
from compress.data.settings import SYNTHETIC
from compress.deciding.baselines import proportional
from compress.deciding.budget import BudgetConfig, decide, make_budget
from compress.deciding.selection import Scores
from compress.shrinking.checkpoints import calibration_of
from compress.structure import Place
from tools.commands import main


@dataclass(frozen=True, kw_only=True)
class ControlConfig:
    """What is decided.

    Attributes:
        model: The model to be made smaller.
        by: `random` or `taylor`.
        size: Share of its parameters.
        out: The structure.json.
        data: Source of speech with transcripts, for `taylor`.
        utterances: How many of them are read.
        batch: How they are put together.
        seed: Of what is drawn.
    """

    model: str
    by: str
    size: str
    out: str
    data: str = SYNTHETIC
    utterances: int = 256
    batch: BatchConfig = field(default_factory=BatchConfig)
    seed: int = 0

    def __post_init__(self) -> None:
        check_choice("by", self.by, tuple(CONTROLS))


def make(config: ControlConfig) -> None:
    """Writes the Structure that a control decides within the size."""
    model, processor = load_recogniser(config.model)
    budget = make_budget(BudgetConfig(params=config.size), model.config)
    units = CONTROLS[config.by](config, model, processor, budget.table)
    decide(budget, Scores(family_of(model).name, dict.fromkeys(units, 1.0), units)).save(config.out)


def _random(config: ControlConfig, model: PreTrainedModel, *_: Any) -> Units:
    generator = torch.Generator().manual_seed(config.seed)
    return {
        place: torch.rand(len(units), generator=generator).tolist()
        for place, units in proportional(model).units.items()
    }


def _taylor(config: ControlConfig, model: PreTrainedModel, processor: Any, table: CostTable) -> Units:
    speech = calibration_of(
        model, processor, SpeechConfig(source=config.data), config.utterances, config.batch, config.seed
    )
    terms = fisher_scores(model, speech.batches, of=torch.abs)
    return {place: (sums / max(1, table.unit[place.block][place.module])).tolist() for place, sums in terms.items()}


Units = dict[Place, list[float]]
CONTROLS: dict[str, Callable[[ControlConfig, PreTrainedModel, Any, CostTable], Units]] = {
    "random": _random,
    "taylor": _taylor,
}


if __name__ == "__main__":
    main(make)
