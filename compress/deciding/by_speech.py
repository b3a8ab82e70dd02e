"""Who decides what stays by looking at speech, without learning: scores of units from curvature and second moments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from transformers import PreTrainedModel

from compress.conformers import family_of
from compress.cost import CostTable
from compress.curvature.fisher import fisher_scores
from compress.curvature.moments import Total, alone
from compress.curvature.passage import Inputs
from compress.curvature.scores import ModuleScores, obs_scores, variance_scores
from compress.data import Batch
from compress.deciding.selection import Scores

BySpeech = Callable[[PreTrainedModel, Sequence[Batch], Total, bool], ModuleScores]

BY_SPEECH: Mapping[str, BySpeech] = {
    "fisher": lambda model, batches, total, front: fisher_scores(model, batches, total, front=front),
    "obs": lambda model, batches, total, front: obs_scores(model, _inputs_of(batches), total, front=front),
    "variance": lambda model, batches, total, front: variance_scores(model, _inputs_of(batches), total, front=front),
}
"""Ways to decide from speech, by name. `obs`: what the others cannot make up for when a unit goes; `variance`: how much
it adds to its module's output; both without transcripts. `fisher`: how the loss bends when it is closed."""


def _inputs_of(batches: Sequence[Batch]) -> list[Inputs]:
    return [batch.inputs for batch in batches]


def scores_by_speech(
    name: str,
    model: PreTrainedModel,
    table: CostTable,
    batches: Sequence[Batch],
    total: Total = alone,
    *,
    front: bool = False,
) -> Scores:
    """The scores of every unit by one of `BY_SPEECH`, each over what the unit costs.

    Args:
        name: the way.
        model: of any family, in eval mode.
        table: its costs.
        batches: speech on the model's device; for `fisher` of a CTC model with labels.
        total: over the processes.
        front: whether channels in front of the blocks get scores, too; `obs` and `variance` give them to the last ones
            there alone, whose weights lead into the residual stream, and the others stay.
    """
    of_units = BY_SPEECH[name](model, batches, total, front)
    units = {place: (scores / max(1, table.each(place))).tolist() for place, scores in of_units.items()}
    modules = {place: 1.0 for place in units if not place.in_front}
    return Scores(family_of(model).name, modules, units, per_cost=True)
