"""Measuring an aspect: how an evaluation deals with one way in which a model runs in part.

`compress.evaluation.measured_aspects.MEASURED_ASPECTS` has one object for each of `compress.running.aspects.ASPECTS`,
under the same name; evaluation, report and page go through that tuple. A new one is a file that defines an object of a
class derived from `MeasuredAspect`, and its name in the tuple.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from transformers import PreTrainedModel

from compress.data import Batch
from compress.evaluation.contenders import Evaluation
from compress.evaluation.report import Report
from compress.evaluation.rows import InUse
from compress.reports.page import Section


class MeasuredAspect:
    """What an evaluation does for one aspect. Every verb has a default that suits an aspect with nothing to do there.

    Attributes:
        name: of the aspect, and the key of its entry in report.json.
        about: what that entry holds, with its units.
    """

    name: str
    about: str

    def watch(self, model: PreTrainedModel) -> Callable[[Batch], None]:
        """What is called with every batch that the model has just transcribed; `measure` gets it back."""
        return lambda batch: None

    def ways(self, model: PreTrainedModel) -> dict[str, Callable[[], None]]:
        """Ways to run the model that are timed in turn with the model itself: by name, what sets each."""
        return {}

    def run_whole(self, model: PreTrainedModel) -> None:
        """Sets a model to the way in which it runs when nobody sets anything; only called if there are other ways."""

    def held_still(self, models: Sequence[PreTrainedModel]) -> AbstractContextManager[None]:
        """Inside, what is said makes no difference to how models run, so that their speed on noise means something."""
        return nullcontext()

    def measure(self, evaluation: Evaluation, watcher: Any) -> Any:
        """Measures a model that has the aspect, and leaves it as it was.

        Args:
            evaluation: with the transcripts and the speeds of the models, and of all `ways`.
            watcher: what `watch` gave, after it has seen all batches.

        Returns:
            The entry of report.json; None if the model lacks the aspect.
        """
        raise NotImplementedError

    def in_use(self, report: Report) -> InUse | None:
        """How fast the model is in the way in which its error rate was measured; None if as everything else."""
        return None

    def summary(self, report: Report) -> str:
        """What the headline of a page says of the entry, in a sentence; empty if it needs none."""
        return ""

    def sections(self, report: Report) -> list[Section]:
        """What a page shows of the entry; nothing if there is none."""
        raise NotImplementedError
