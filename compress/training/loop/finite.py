"""What to do when a loss or a gradient is not finite: say where it began, skip the step, and give up at a limit."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from compress.data import Batch
from compress.training.loop import processes
from compress.training.loop.losses import Losses
from compress.training.loop.precision import Precision, autocast
from compress.training.loop.sharding import in_pieces, own_piece, total_norm

logger = logging.getLogger(__name__)


SPOILT = (
    "Skipping cannot help. Nothing was written since the last checkpoint, from which the same command goes on; "
    "lower the learning rate of what is named, or lengthen the warm-up."
)


class NotFiniteError(ValueError):
    """Too many steps had a loss or gradient that was not finite, or the weights themselves are not."""


@dataclass
class FiniteGuard:
    """Refuses steps whose gradient is not finite.

    The norm of the gradient is the witness: after gradients have been averaged it is the same on every rank, so all
    ranks skip together. Running statistics (BatchNorm) that the bad forward pass has spoilt are put back.

    Attributes:
        trained: everything that is trained: the model, and its gates and multipliers if there are any.
        models: by name, the models that the batch goes through, in this order; where one of them gives the first
            output that is not finite is part of the message.
        limit: skipped steps, over the whole run, at which it stops.
        precision: of the forward passes.
        skipped: steps skipped so far.
    """

    trained: nn.Module
    models: Mapping[str, nn.Module]
    limit: int
    precision: Precision = "fp32"
    skipped: int = 0
    _statistics: list[Tensor] = field(default_factory=list, repr=False)
    _backup: list[Tensor] = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
        self._statistics = [b for b in self.trained.buffers() if b.is_floating_point() and b.numel()]
        self._backup = [torch.empty_like(buffer) for buffer in self._statistics]

    @torch.no_grad()
    def remember(self) -> None:
        """Call before the forward passes of a step: keeps the running statistics."""
        if self._statistics:
            torch._foreach_copy_(self._backup, self._statistics)

    @torch.no_grad()
    def accepts(self, losses: Losses, batches: Sequence[Batch], step: int) -> bool:
        """Call between backward passes and clipping; False asks to leave the optimizer's step out.

        Args:
            losses: of the step, on this rank.
            batches: of the step, on this rank.
            step: for the message.

        Raises:
            NotFiniteError: at the limit, or at once if a weight or gate is not finite itself.
        """
        norm = total_norm(p.grad for p in self.trained.parameters() if p.grad is not None)
        if bool(torch.isfinite(norm)):
            return True
        spoilt = self._spoilt()
        origin = spoilt or self._origin(losses, batches)
        if self._statistics:
            torch._foreach_copy_(self._statistics, self._backup)
        self.skipped += 1
        message = f"Step {step} is not finite. It began in {origin}. {_numbers(losses, float(norm), batches)}"
        if spoilt:
            raise NotFiniteError(f"{message}. {SPOILT}")
        logger.warning("%s. Skipped (%d of at most %d).", message, self.skipped, self.limit)
        if self.skipped >= self.limit:
            raise NotFiniteError(
                f"{message}. {self.skipped} steps were skipped, the limit (max_skipped_steps). Listen to the named "
                "files; if they are sound, lower the learning rate, lengthen the warm-up, or set precision to fp32."
            )
        return False

    @torch.no_grad()
    def confirm(self, step: int) -> None:
        """Call before anything is written: weights that are not finite never replace good ones on disk.

        Raises:
            NotFiniteError: naming the weight or gate.
        """
        if spoilt := self._spoilt():
            raise NotFiniteError(f"After step {step} the model is not finite: {spoilt}. {SPOILT}")

    def _spoilt(self) -> str | None:
        """The first weight, gate or multiplier that is not finite itself."""
        named = list(self.trained.named_parameters())
        own = (number for number, (_, value) in enumerate(named) if not torch.isfinite(own_piece(value)).all())
        first = min(processes.gather(next(own, len(named))))  # where the model is in pieces, they are not the same
        return _entry(self.trained, *named[first]) if first < len(named) else None

    def _origin(self, losses: Losses, batches: Sequence[Batch]) -> str:
        """Where on this rank the first value that is not finite came from."""
        for place in (place for batch in batches for place in self._places(batch)):
            return place
        if names := losses.not_finite():
            return f"the loss {', '.join(names)}"
        gradients = ((name, p.grad) for name, p in reversed(list(self.trained.named_parameters())))
        for name, gradient in gradients:
            if gradient is not None and not torch.isfinite(own_piece(gradient)).all():
                return f"the gradient of {_entry(self.trained, name, gradient)}, averaged over all processes"
        return "the sum of the gradient's squares, which is too large a number"

    def _places(self, batch: Batch) -> Iterator[str]:
        """Inputs of a batch that are not finite, and of each model the first such output."""
        for name, value in batch.inputs.items():
            if rows := _bad_rows(value, batch.ids):
                yield f"the input {name} of {rows}"
        for name, model in self.models.items():
            if in_pieces(model):  # which runs on all ranks at once, or not at all
                continue
            if place := self._bad_output(name, model, batch):
                yield place

    def _bad_output(self, name: str, model: nn.Module, batch: Batch) -> str | None:
        """The first module, in running order, whose output for the batch is not finite; gates stay as last drawn."""
        with _watched(model) as bad_outputs, autocast(next(iter(batch.inputs.values())).device, self.precision):
            model(**batch.inputs)
        if not bad_outputs:
            return None
        path, output = bad_outputs[0]
        rows = _bad_rows(output, batch.ids)
        return f"the output of the {name}'s {path or 'head'}" + (f" for {rows}" if rows else "")

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {"skipped": self.skipped}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Puts back what `state_dict` gave."""
        self.skipped = int(state["skipped"])


def _entry(trained: nn.Module, name: str, tensor: Tensor) -> str:
    """A parameter's name and its first entry that is not finite; gates have names of their own, pieces no places."""
    if isinstance(tensor, DTensor):
        return name
    index = int((~torch.isfinite(tensor)).flatten().nonzero()[0])
    owner, _, _ = name.rpartition(".")
    entry_name = getattr(trained.get_submodule(owner), "entry_name", None)
    if entry_name is not None:
        return f"the gate {entry_name(index)}"
    place = [int(i) for i in torch.unravel_index(torch.tensor(index), tensor.shape)]
    return f"{name}{place or ''}"


def _bad_rows(value: Tensor, ids: Sequence[str]) -> str:
    """The utterances of a batch whose values are not finite; empty if there are none or the rows are not utterances."""
    if not value.is_floating_point() or value.ndim < 1 or len(value) != len(ids):
        return ""
    bad = ~torch.isfinite(value).flatten(1).all(1)
    return ", ".join(name for name, is_bad in zip(ids, bad.tolist(), strict=True) if is_bad)


@contextmanager
def _watched(model: nn.Module) -> Iterator[list[tuple[str, Tensor]]]:
    """Collects `(path, output)` of modules whose outputs are not finite, in running order."""
    bad_outputs: list[tuple[str, Tensor]] = []

    def hook(path: str) -> Any:
        def look(module: nn.Module, inputs: Any, output: Any) -> None:
            first = output[0] if isinstance(output, tuple) and output else output
            if isinstance(first, Tensor) and first.is_floating_point() and not torch.isfinite(first).all():
                bad_outputs.append((path, first))

        return look

    handles = [module.register_forward_hook(hook(path)) for path, module in model.named_modules()]
    try:
        yield bad_outputs
    finally:
        for handle in handles:
            handle.remove()


def _numbers(losses: Losses, norm: float, batches: Sequence[Batch]) -> str:
    shown = ", ".join(f"{name} {float(loss):g}" for name, loss in losses.parts.items())
    utterances = ", ".join(name for batch in batches for name in batch.ids)
    return f"Losses: {shown}; gradient norm {norm:g}; utterances: {utterances}"
