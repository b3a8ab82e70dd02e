"""What the graphs of a transducer write down, frame by frame and token by token, as transformers' `generate` does."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from compress.runtimes.onnx_graph import OnnxGraph
from compress.runtimes.transducers import DECODER, DECODER_JOINER, ENCODER, JOINER, no_memory


def tokens_written(
    graphs: Mapping[str, OnnxGraph], model: PreTrainedModel, features: Tensor, lengths: Tensor
) -> Tensor:
    """The best token of every step, blanks among them.

    Args:
        graphs: those of `THREE` or of `TWO`.
        model: its config says what they are; none of its weights is used.
        features: `(batch, bins, time)`.
        lengths: `(batch,)`, int64.

    Returns:
        `(batch, steps)`, int64; blank behind the end of an utterance.
    """
    encoded, frames = graphs[ENCODER].run([features, lengths])
    rows = [
        _steps(_Head(graphs, model), row[None, :, :count], model)
        for row, count in zip(encoded, frames.tolist(), strict=True)
    ]
    return pad_sequence(rows, batch_first=True, padding_value=float(model.config.blank_token_id)).to(torch.int64)


def _steps(head: _Head, encoded: Tensor, model: PreTrainedModel) -> Tensor:
    """Those of one utterance `(1, hidden, frames)`; no more than its frames may bring, so that it ends."""
    blank, most, frames = int(model.config.blank_token_id), int(model.config.max_symbols_per_step), encoded.shape[-1]
    tokens: list[int] = []
    frame = at_frame = 0
    while frame < frames and len(tokens) < most * frames:
        token, duration = head.best(encoded[..., frame : frame + 1])
        tokens.append(token)
        if token == blank:
            step = max(duration or 0, 1)
        else:
            head.write(token)
            at_frame += 1
            step = int(at_frame == most) if duration is None else duration
        frame, at_frame = frame + step, 0 if step else at_frame
    return torch.tensor(tokens, dtype=torch.int64)


class _Head:
    """Decoder and joiner of one utterance, and what they remember of the tokens that were written.

    Args:
        graphs: those of `THREE` or of `TWO`.
        model: its config says what they are.
    """

    def __init__(self, graphs: Mapping[str, OnnxGraph], model: PreTrainedModel) -> None:
        self.graphs, self.vocabulary = graphs, int(model.config.vocab_size)
        self._memory = self._next = [no_memory(model, 1)] * 2
        self._decoded: Tensor | None = None
        self._token = torch.tensor([[int(model.config.blank_token_id)]], dtype=torch.int32)

    def best(self, frame: Tensor) -> tuple[int, int | None]:
        """The best token of a frame `(1, hidden, 1)`, and how many frames it lasts, if the model says so."""
        logits = self._logits(frame).flatten()
        tokens, durations = logits[: self.vocabulary], logits[self.vocabulary :]
        return int(tokens.argmax()), int(durations.argmax()) if len(durations) else None

    def write(self, token: int) -> None:
        """Remembers a token, which is no blank."""
        self._memory, self._decoded = self._next, None
        self._token = torch.tensor([[token]], dtype=torch.int32)

    def _logits(self, frame: Tensor) -> Tensor:
        known = [self._token, torch.ones(1, dtype=torch.int32), *self._memory]
        if JOINER not in self.graphs:
            logits, _, *self._next = self.graphs[DECODER_JOINER].run([frame, *known])
            return logits
        if self._decoded is None:
            self._decoded, _, *self._next = self.graphs[DECODER].run(known)
        return self.graphs[JOINER].run([frame, self._decoded])[0]
