"""The recogniser: a CTC model in training, with intermediate CTC, skipping and stochastic depth where wanted."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

from compress.training.ctc import ctc_loss
from compress.training.inter_ctc import InterCtc, InterCtcConfig, mean_loss
from compress.training.loop.counts import Counts
from compress.training.loop.losses import Losses
from compress.training.loop.sharding import Shardable
from compress.training.skipping_objective import SkippingConfig, objective_of
from compress.training.stochastic_depth import StochasticDepth


class Recogniser(Shardable):
    """All that is trained, as one module, so that distributed training averages the gradients of all of it.

    Args:
        model: the model to train.
        inter_ctc: intermediate CTC; None: none.
        stochastic_depth: the rate; 0: none.
        skipping: weights of the intermediate losses of a model that can skip; None: the default ones.
        new: whether the weights are new.
        seed: of the dropped blocks, and of the blocks behind which frames skip.

    Raises:
        ValueError: if a model that can skip, which has its own intermediate outputs, is to have intermediate CTC, too.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        inter_ctc: InterCtcConfig | None = None,
        stochastic_depth: float = 0.0,
        skipping: SkippingConfig | None = None,
        new: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.model = model
        self.skipping = objective_of(model, skipping, seed)
        if self.skipping and inter_ctc:
            raise ValueError(
                "A model that skips learns intermediate outputs already: set inter_ctc to null, and name the blocks in "
                "skipping.first_blocks."
            )
        self.inter_ctc = InterCtc(model, inter_ctc, new=new) if inter_ctc else None
        self.stochastic_depth = StochasticDepth(model, stochastic_depth, seed)

    def draw(self) -> None:
        """Call before every step; what is drawn for it is drawn here, alike for all of its forward passes."""
        self.stochastic_depth.draw()
        if self.skipping:
            self.skipping.draw(self.model)

    def forward(self, **inputs: Tensor) -> list[Tensor]:
        """The logits, `(batch, frames, vocabulary)`, of the last block and then of the tapped ones.

        Those of a model that can skip are its intermediate outputs, which it gives in training mode only.
        """
        if self.skipping:
            last = self.skipping.passes(self.model, lambda: self.model(**inputs).logits)
            return [last, *self.skipping.skipper(self.model).take_logits().values()]
        logits: Tensor = self.model(**inputs).logits
        return [logits, *(self.inter_ctc(self.model) if self.inter_ctc else ())]

    def losses(
        self, logits: list[Tensor], frames: Tensor, labels: Tensor, blank: int, counts: Counts | None = None
    ) -> tuple[Losses, Tensor]:
        """The CTC losses of what `forward` gave.

        Args:
            logits: of the last block and of the tapped ones.
            frames: `(batch, frames)`, true for frames that count.
            labels: `(batch, tokens)`, padded with -100.
            blank: id of the blank.
            counts: what sums are divided by; None: by the batch's own counts.

        Returns:
            Losses without their weights: `ctc`; with intermediate CTC also `inter_ctc` (their mean); of a model that
            can skip also what `SkippingObjective.losses` names, and as a metric `skipped_frames`, the share of the
            frames that did. And `(batch,)` booleans: which utterances could not be aligned.
        """
        counts = counts or Counts()
        if self.skipping and self.training:
            last, unalignable = self.skipping.ctc(logits[0], frames, labels, blank, counts)
            inner = self.skipping.losses(logits[1:], logits[0], frames, labels, blank, counts)
            share = self.skipping.share
            metrics = {} if share is None else {"skipped_frames": share}
            return Losses(self.skipping.combined(last, inner), {"ctc": last, **inner}, metrics), unalignable
        last, unalignable = ctc_loss(logits[0], frames, labels, blank, counts.utterances)
        if self.inter_ctc is None:
            return Losses(last, {"ctc": last}), unalignable
        tapped = mean_loss([ctc_loss(output, frames, labels, blank, counts.utterances)[0] for output in logits[1:]])
        return Losses(self.inter_ctc.combined(last, tapped), {"ctc": last, "inter_ctc": tapped}), unalignable

    def states(self) -> dict[str, Any]:
        """What a run's checkpoints hold beside parameters, by name."""
        states = {"stochastic_depth": self.stochastic_depth.noise}
        return states | ({"skipping": self.skipping.noise} if self.skipping else {})
