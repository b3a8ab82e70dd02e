"""A model's blocks apart from what runs before them, which is computed once: blocks left out, or entered anew."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_map
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from compress.conformers import family_of, numbered_blocks, part
from compress.running.aspects import in_full
from compress.surgery.slicing import AbsentBlock, assign, renumber_caches


@contextmanager
def leaving_out(model: PreTrainedModel, numbers: Collection[int]) -> Iterator[None]:
    """Inside, a model runs without some of its blocks, as if they had been removed; which ones is not checked.

    Args:
        model: of any family.
        numbers: of the blocks.
    """
    family, numbered = family_of(model), numbered_blocks(model)
    blocks: nn.ModuleList = part(model, family.blocks)
    gone = {position for number, position in enumerate(numbered) if number in numbers}
    standing = [
        AbsentBlock() if position in gone else block
        for position, block in enumerate(blocks)
        if family.numbered_blocks or position not in gone
    ]
    try:
        assign(model, family.blocks, nn.ModuleList(standing))
        renumber_caches(family, model)
        with in_full(model):
            yield
    finally:
        assign(model, family.blocks, blocks)
        renumber_caches(family, model)


class Front:
    """What runs before a model's blocks: its outputs in one forward pass, given again in later ones.

    Args:
        model: of any family, in eval mode; the inputs of all passes must be the same.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self._model, self._path = model, family_of(model).blocks
        self._modules = list(_beside(model, self._path))
        self._outputs: dict[nn.Module, list[Any]] = {}

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Inside, outputs are recorded until what stands first in the list of blocks is called."""
        depth, before = 0, True
        self._outputs = {module: [] for module in self._modules}

        def enter(module: nn.Module, inputs: Any) -> None:
            nonlocal depth
            depth += 1

        def leave(module: nn.Module, inputs: Any, output: Any) -> None:
            nonlocal depth
            depth -= 1
            if before and not depth:
                self._outputs[module].append(copied(output))

        def stop(module: nn.Module, inputs: Any) -> None:
            nonlocal before
            before = False

        handles: list[RemovableHandle] = [part(self._model, self._path)[0].register_forward_pre_hook(stop)]
        for module in self._modules:
            handles += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    @contextmanager
    def replayed(self) -> Iterator[None]:
        """Inside, what was recorded is given again, in order, without being computed."""
        with ExitStack() as patches:
            for module, outputs in self._outputs.items():
                if outputs:
                    patches.enter_context(answering(module, list(outputs)))
            yield


@contextmanager
def answering(module: nn.Module, outputs: list[Any]) -> Iterator[None]:
    """Inside, a module gives copies of outputs at hand, one for each call, before it computes any."""
    own, compute = vars(module).get("forward"), module.forward

    def answer(*args: Any, **kwargs: Any) -> Any:
        return copied(outputs.pop(0)) if outputs else compute(*args, **kwargs)

    vars(module)["forward"] = answer
    try:
        yield
    finally:
        del vars(module)["forward"]
        if own is not None:
            vars(module)["forward"] = own


def _beside(model: nn.Module, path: str) -> Iterator[nn.Module]:
    """Yields the modules beside the way from a model to its blocks, none of which holds a block."""
    names = path.split(".")
    for depth, name in enumerate(names):
        owner = part(model, ".".join(names[:depth]))
        yield from (child for child_name, child in owner.named_children() if child_name != name)


def copied(output: Any) -> Any:
    """Copies an output, since some models change in place what they were given."""
    return tree_map(lambda value: value.clone() if isinstance(value, Tensor) else value, output)


@contextmanager
def entered_with(module: nn.Module, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Inside, `change` sees the hidden states that the module is called with, and gives those it really gets."""

    def hook(module: nn.Module, args: Any, kwargs: Any) -> Any:
        if args:
            return (change(args[0]), *args[1:]), kwargs
        return args, kwargs | {"hidden_states": change(kwargs["hidden_states"])}

    handle = module.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def replaced_by(state: Tensor) -> Callable[[Tensor], Tensor]:
    """A change for `entered_with`: whatever comes, these hidden states go in, or rather a copy of them."""
    return lambda hidden: state.clone()
