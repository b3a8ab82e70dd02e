"""Transducers in NeMo's layout: the graphs that clients of others expect, how they are called, and go together.

An encoder makes frames of features, a decoder (the prediction network) makes states of the tokens that were written,
and a joiner makes logits of a frame and a state; some clients want the last two as one graph.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from compress.checkpoint.exported import ExportError
from compress.conformers import family_of, frame_lengths
from compress.runtimes.onnx_graph import OnnxGraph
from compress.runtimes.signatures import TracedModel

ENCODER, DECODER, JOINER, DECODER_JOINER = "encoder", "decoder", "joiner", "decoder and joiner"
THREE, TWO = (ENCODER, DECODER, JOINER), (ENCODER, DECODER_JOINER)
"""The graphs of a client that joins for itself, and of one that does not."""


class _Encoder(TracedModel):
    def forward(self, audio_signal: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Of `(batch, bins, time)` and `(batch,)`, int64; gives `(batch, hidden, frames)`, and how many are valid."""
        features = audio_signal.transpose(1, 2)
        mask = torch.arange(features.shape[1], device=length.device) < length[:, None]
        encoded = self.outputs(features * mask[..., None], mask.to(torch.int64))
        projector: Any = self.model.encoder_projector
        return projector(encoded).transpose(1, 2), frame_lengths(self.model, mask)


class _Part(nn.Module):
    """A part of a transducer behind its encoder."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.decoder: Any = model.decoder
        self.joint: Any = model.joint

    def decoded(self, targets: Tensor, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """States `(batch, tokens, hidden)` of tokens `(batch, tokens)`, and the memory behind the last of them."""
        states, (hidden, cell) = self.decoder.lstm(self.decoder.embedding(targets), (first, second))
        return self.decoder.decoder_projector(states), hidden, cell

    def joined(self, encoded: Tensor, decoded: Tensor) -> Tensor:
        """Logits `(batch, frames, tokens, outputs)` of `(batch, hidden, frames)` and `(batch, tokens, hidden)`."""
        frames = encoded.transpose(1, 2)[:, :, None]
        logits: Tensor = self.joint(encoder_hidden_states=frames, decoder_hidden_states=decoded[:, None])
        return logits


class _Decoder(_Part):
    def forward(self, targets: Tensor, target_length: Tensor, first: Tensor, second: Tensor) -> tuple[Tensor, ...]:
        """Gives `(batch, hidden, tokens)`, lengths and memory."""
        decoded, hidden, cell = self.decoded(targets, first, second)
        return decoded.transpose(1, 2), target_length, hidden, cell


class _Joiner(_Part):
    def forward(self, encoder_outputs: Tensor, decoder_outputs: Tensor) -> Tensor:
        """Of what encoder and decoder give."""
        return self.joined(encoder_outputs, decoder_outputs.transpose(1, 2))


class _DecoderJoiner(_Part):
    def forward(
        self, encoder_outputs: Tensor, targets: Tensor, target_length: Tensor, first: Tensor, second: Tensor
    ) -> tuple[Tensor, ...]:
        """Gives logits, lengths and memory."""
        decoded, hidden, cell = self.decoded(targets, first, second)
        return self.joined(encoder_outputs, decoded), target_length, hidden, cell


@dataclass(frozen=True)
class GraphOfPart:
    """One of the graphs of a transducer.

    Attributes:
        inputs: their names, in order.
        outputs: their names, in order.
        varying: which dimensions of the first output vary.
        traced: makes of a model what is traced.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    varying: Mapping[int, str]
    traced: type[nn.Module]

    def axes(self) -> dict[str, Mapping[int, str]]:
        """Which dimensions vary, by the names of inputs and outputs."""
        named = {name: _AXES[name] for name in (*self.inputs, *self.outputs[1:])}
        return named | {self.outputs[0]: self.varying}


_COMPARED_TOKENS = 4
_MEMORY_IN, _MEMORY_OUT = ("input_states_1", "input_states_2"), ("output_states_1", "output_states_2")
_AXES: Mapping[str, Mapping[int, str]] = {
    "audio_signal": {0: "batch", 2: "time"},
    "targets": {0: "batch", 1: "tokens"},
    "encoder_outputs": {0: "batch", 2: "frames"},
    "decoder_outputs": {0: "batch", 2: "tokens"},
    **{name: {0: "batch"} for name in ("length", "encoded_lengths", "target_length", "prednet_lengths")},
    **{name: {1: "batch"} for name in (*_MEMORY_IN, *_MEMORY_OUT)},
}
_FRAMES, _TOKENS, _BOTH = {0: "batch", 2: "frames"}, {0: "batch", 2: "tokens"}, {0: "batch", 1: "frames", 2: "tokens"}
_REMEMBERED = ("outputs", "prednet_lengths", *_MEMORY_OUT)
GRAPHS: Mapping[str, GraphOfPart] = {
    ENCODER: GraphOfPart(("audio_signal", "length"), ("outputs", "encoded_lengths"), _FRAMES, _Encoder),
    DECODER: GraphOfPart(("targets", "target_length", *_MEMORY_IN), _REMEMBERED, _TOKENS, _Decoder),
    JOINER: GraphOfPart(("encoder_outputs", "decoder_outputs"), ("outputs",), _BOTH, _Joiner),
    DECODER_JOINER: GraphOfPart(
        ("encoder_outputs", "targets", "target_length", *_MEMORY_IN), _REMEMBERED, _BOTH, _DecoderJoiner
    ),
}
"""By what they compute."""


def example_of(model: PreTrainedModel, part: str, features: Tensor, lengths: Tensor) -> list[Tensor]:
    """What a part is called with where it is traced, in the order of its inputs.

    Args:
        model: the transducer.
        part: of `GRAPHS`.
        features: `(batch, bins, time)`.
        lengths: `(batch,)`, int64.
    """
    batch, hidden = len(lengths), int(model.config.decoder_hidden_size)
    memory = no_memory(model, batch)
    tensors = {
        "audio_signal": features,
        "length": lengths,
        "encoder_outputs": torch.zeros(batch, hidden, 5),
        "decoder_outputs": torch.zeros(batch, hidden, 3),
        "targets": torch.zeros(batch, 3, dtype=torch.int32),
        "target_length": torch.full((batch,), 3, dtype=torch.int32),
        **dict.fromkeys(_MEMORY_IN, memory),
    }
    return [tensors[name] for name in GRAPHS[part].inputs]


def parts_in_order(graphs: Sequence[Path], place: Path) -> tuple[str, ...]:
    """What the graphs of a transducer compute, in their order.

    Args:
        graphs: their files, the encoder's first.
        place: which file lists them, for the message.

    Raises:
        ExportError: if there are neither as many as of `THREE` nor as of `TWO`.
    """
    for parts in (THREE, TWO):
        if len(graphs) == len(parts):
            return parts
    raise ExportError(
        f"{place}: graphs lists {len(graphs)}, and a transducer has {', '.join(THREE)}, or {' and '.join(TWO)} in one: "
        "export the model again."
    )


def nemo_inputs(model: PreTrainedModel, inputs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """What an encoder's graph is called with for a batch: features `(batch, bins, time)` and lengths, int64."""
    features, mask = inputs[family_of(model).features], inputs.get("attention_mask")
    lengths = torch.full((len(features),), features.shape[1]) if mask is None else mask.sum(-1)
    return features.transpose(1, 2).contiguous(), lengths.to(torch.int64)


def no_memory(model: PreTrainedModel, batch: int) -> Tensor:
    """Each of the two halves of a decoder's memory before anything is written, `(layers, batch, hidden)`."""
    return torch.zeros(int(model.config.num_decoder_layers), batch, int(model.config.decoder_hidden_size))


def some_tokens(model: PreTrainedModel, batch: int) -> Tensor:
    """Seeded tokens behind which logits are compared, `(batch, tokens)`, int32."""
    numbers = torch.Generator().manual_seed(0)
    return torch.randint(model.config.vocab_size, (batch, _COMPARED_TOKENS), generator=numbers, dtype=torch.int32)


def transducer_logits(
    graphs: Mapping[str, OnnxGraph], model: PreTrainedModel, features: Tensor, lengths: Tensor, tokens: Tensor
) -> tuple[Tensor, Tensor]:
    """What the graphs of a transducer make together, token by token as clients call them.

    Args:
        graphs: those of `THREE` or of `TWO`.
        model: says how large its memory is.
        features: `(batch, bins, time)`.
        lengths: `(batch,)`, int64.
        tokens: that were written before, `(batch, tokens)`, int32.

    Returns:
        Logits `(batch, frames, tokens, outputs)`, and the number of frames of each utterance.
    """
    encoded, frames = graphs[ENCODER].run([features, lengths])
    first = second = no_memory(model, len(lengths))
    ones = torch.ones(len(lengths), dtype=torch.int32)
    steps = []
    for token in tokens.split(1, dim=1):
        if JOINER in graphs:
            decoded, _, first, second = graphs[DECODER].run([token, ones, first, second])
            (logits,) = graphs[JOINER].run([encoded, decoded])
        else:
            logits, _, first, second = graphs[DECODER_JOINER].run([encoded, token, ones, first, second])
        steps.append(logits)
    return torch.cat(steps, dim=2), frames
