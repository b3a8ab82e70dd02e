"""How graphs are called: the names, order and meaning of what goes in, for each kind of client.

A signature says it three times, once for each who needs it: a module whose forward pass is traced, the names that the
graph's inputs get, and the tensors that stand for a batch as this package makes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from compress.conformers import family_of, frame_lengths, frame_outputs

TRANSDUCER = "nemo-transducer"
"""What export.json gives where a transducer's graphs go together; see `compress.runtimes.transducers`."""
ENCODER_ALONE = "encoder"
ONE_GRAPH = "model"
"""What the graph computes where there is only one."""
_SURELY = 100.0  # the logit of a blank, where all others are 0


class TracedModel(nn.Module):
    """A model called with features `(batch, time, ...)` and a mask `(batch, time)`, int64; gives what frames become."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model
        self.features = family_of(model).features

    def outputs(self, features: Tensor, mask: Tensor) -> Tensor:
        """`(batch, frames, vocabulary)`, or the output of the encoder of a model without a CTC head."""
        return frame_outputs(self.model, {self.features: features, "attention_mask": mask})

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """The outputs as they are."""
        return self.outputs(features, mask)


class _BlankInPadding(TracedModel):
    """For a client that reads every frame, and makes one of padding for each utterance."""

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """Frames of padding are surely blank."""
        logits = self.outputs(features, mask)
        valid = torch.arange(logits.shape[1], device=mask.device) < frame_lengths(self.model, mask)[:, None]
        blank = torch.zeros(logits.shape[-1])
        blank[self.model.config.pad_token_id] = _SURELY
        return torch.where(valid[..., None], logits, blank)


class _NemoCtc(TracedModel):
    def forward(self, audio_signal: Tensor, length: Tensor) -> Tensor:
        """Of `(batch, bins, time)` and `(batch,)`, int64; padding may hold anything."""
        features = audio_signal.transpose(1, 2)
        mask = torch.arange(features.shape[1], device=length.device) < length[:, None]
        return self.outputs(features * mask[..., None], mask.to(torch.int64)).log_softmax(-1)


class _MedAsr(TracedModel):
    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Gives the lengths, too."""
        return self.outputs(x, mask), frame_lengths(self.model, mask)


class _RawAudio(TracedModel):
    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """Of one utterance `(1, samples)`."""
        return self.outputs(x, torch.ones_like(x, dtype=torch.int64))


class _Encoder(TracedModel):
    def forward(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Gives the lengths, too."""
        return self.outputs(features, mask), frame_lengths(self.model, mask)


@dataclass(frozen=True)
class Signature:
    """One way in which graphs are called.

    Attributes:
        inputs: names of the inputs; `{features}` stands for the family's word.
        outputs: names of the outputs, that of the frames first.
        traced: makes of a model what is traced.
        log_probabilities: whether the frames' outputs are logarithms of probabilities rather than logits.
        bins_first: whether features are `(batch, bins, time)`.
        by_length: whether lengths stand for masks.
        singly: whether it takes one utterance without a mask.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    traced: type[TracedModel]
    log_probabilities: bool = False
    bins_first: bool = False
    by_length: bool = False
    singly: bool = False

    def input_names(self, model: PreTrainedModel) -> list[str]:
        """The names of the inputs of a model's graph."""
        return [name.format(features=family_of(model).features) for name in self.inputs]

    def axes(self, model: PreTrainedModel) -> dict[str, dict[int, str]]:
        """Which dimensions of inputs and outputs vary, by name."""
        features, *rest = self.input_names(model)
        frames, *lengths = self.outputs
        batch: dict[int, str] = {} if self.singly else {0: "batch"}
        axes = {features: batch | {2 if self.bins_first else 1: "time"}, frames: batch | {1: "frames"}}
        axes |= {name: batch | ({} if self.by_length else {1: "time"}) for name in rest}
        return axes | dict.fromkeys(lengths, batch)

    def tensors(self, model: PreTrainedModel, inputs: Mapping[str, Tensor]) -> list[Tensor]:
        """What a graph is called with for a batch, in the order of its inputs."""
        features, mask = inputs[family_of(model).features], inputs.get("attention_mask")
        if mask is None:
            mask = torch.ones(features.shape[:2], dtype=torch.int64)
        first = features.transpose(1, 2).contiguous() if self.bins_first else features
        second = [] if self.singly else [mask.sum(-1) if self.by_length else mask]
        return [first.to(torch.float32), *(tensor.to(torch.int64) for tensor in second)]


SIGNATURES: Mapping[str, Signature] = {
    "transformers": Signature(("{features}", "attention_mask"), ("logits",), TracedModel),
    "transformers.js": Signature(("{features}", "attention_mask"), ("logits",), _BlankInPadding),
    ENCODER_ALONE: Signature(("{features}", "attention_mask"), ("encoded", "encoded_lengths"), _Encoder),
    "nemo-ctc": Signature(
        ("audio_signal", "length"), ("logprobs",), _NemoCtc, log_probabilities=True, bins_first=True, by_length=True
    ),
    "medasr": Signature(("x", "mask"), ("logits", "logits_len"), _MedAsr),
    "raw-audio": Signature(("x",), ("logits",), _RawAudio, singly=True),
}
"""By the name that export.json gives."""
