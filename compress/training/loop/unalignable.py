"""Utterances whose transcript does not fit into their frames, named once each."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor

logger = logging.getLogger(__name__)


@dataclass
class Unalignable:
    """Remembers and names the utterances whose transcript needs more frames than they have.

    Attributes:
        ids: those met so far by this rank.
    """

    ids: set[str] = field(default_factory=set)
    of_rank: ClassVar[bool] = True

    def note(self, unalignable: Tensor, ids: Sequence[str]) -> None:
        """Warns of utterances that are new here.

        Args:
            unalignable: `(batch,)` booleans, as `ctc_loss` returns them.
            ids: of the batch.
        """
        new = {name for name, bad in zip(ids, unalignable.tolist(), strict=True) if bad} - self.ids
        if new:
            self.ids |= new
            logger.warning(
                "Too short for their transcripts, and without effect on the loss: %s (%d so far).",
                ", ".join(sorted(new)),
                len(self.ids),
            )

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {"ids": sorted(self.ids)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Puts back what `state_dict` gave."""
        self.ids = set(state["ids"])
