"""Who decides what stays by looking at speech, without learning: scores of units from curvature and second moments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from transformers import PreTrainedModel

from compress.conformers import family_of
from compress.cost import CostTable
from compress.curvature.fisher import fisher_scores
from compress.curvature.moments import Total, alone
from compress.curvature.scores import ModuleScores, obs_scores, variance_scores
from compress.data import Batch
from compress.deciding.selection import Scores

BySpeech = Callable[[PreTrainedModel, Sequence[Batch], Total], ModuleScores]

BY_SPEECH: Mapping[str, BySpeech] = {
    "fisher": fisher_scores,
    "obs": lambda model, batches, total: obs_scores(model, [batch.inputs for batch in batches], total),
    "variance": lambda model, batches, total: variance_scores(model, [batch.inputs for batch in batches], total),
}
"""Ways to decide from speech, by name. `obs`: what the others cannot make up for when a unit goes; `variance`: how much
it adds to its module's output; both without transcripts. `fisher`: how the loss bends when it is closed."""


def scores_by_speech(
    name: str, model: PreTrainedModel, table: CostTable, batches: Sequence[Batch], total: Total = alone
) -> Scores:
    """The scores of every unit by one of `BY_SPEECH`, each over what the unit costs.

    Args:
        name: the way.
        model: of any family, in eval mode.
        table: its costs.
        batches: speech on the model's device; for `fisher` of a CTC model with labels.
        total: over the processes.
    """
    of_units = BY_SPEECH[name](model, batches, total)
    units = {
        place: (scores / max(1, table.unit[place.block][place.module])).tolist() for place, scores in of_units.items()
    }
    return Scores(family_of(model).name, dict.fromkeys(units, 1.0), units, per_cost=True)
