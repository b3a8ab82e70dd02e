"""Forward passes: removed models against their MACs, depth on demand, and frames that skip blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

import compress
from compress.conformers import blocks_of
from compress.cost import dummy_input, size_of
from compress.deciding.baselines import proportional
from compress.deciding.budget import BudgetConfig, decide, make_budget
from compress.elastic.make import make_elastic
from compress.elastic.rules import ElasticConfig, rule_structures
from compress.evaluation.speed import SpeedConfig, measure
from compress.model.able_to_skip import able_to_skip
from compress.running.skipper import required_skipper, set_skipping
from compress.running.skipping import Skipping
from compress.running.subnets import activate
from tools.gpu.workload import Workload

SECONDS = 10.0
BATCHES = (1, 16, 128)
TINY = (1,)
SKIPPED = 0.5


def pass_rows(work: Workload) -> list[list[str]]:
    """The model, a half and a quarter of it (the same share of every module), in bf16, each way to start kernels."""
    full = work.model()
    models = {"all": full, "50 %": _share(full, "50%"), "25 %": _share(full, "25%")}
    models = {name: model.to(torch.bfloat16) for name, model in models.items()}
    rows = _passes_of(work, models, "", graph=False) + _passes_of(work, models, ", one CUDA graph", graph=True)
    for block in (block for model in models.values() for block in blocks_of(model)):
        block.compile(backend="eager" if work.tiny else "inductor")
    return rows + _passes_of(work, models, ", compiled, one CUDA graph", graph=True)


def _passes_of(work: Workload, models: Mapping[str, PreTrainedModel], way: str, *, graph: bool) -> list[list[str]]:
    macs = {name: size_of(model, SECONDS).macs for name, model in models.items()}
    rows = []
    for batch in TINY if work.tiny else BATCHES:
        times = _times(work, models, batch, graph=graph)
        for name in models:
            real, predicted = times["all"] / times[name], macs["all"] / macs[name]
            rows.append(
                [f"{name} of the parameters{way}", f"{batch} x {SECONDS:.0f} s", f"{1e3 * times[name]:.2f}",
                 f"{real:.2f}", f"{predicted:.2f}", f"{real / predicted:.2f}"]
            )  # fmt: skip
    return rows


def part_rows(work: Workload) -> list[list[str]]:
    """A third of the blocks, and half of the frames in half of the blocks, by one model each."""
    model = work.model().to(torch.bfloat16)
    return [*_depth_rows(work, model), *_skipping_rows(work, model)]


def _share(model: PreTrainedModel, budget: str) -> PreTrainedModel:
    structure = decide(make_budget(BudgetConfig(params=budget), model.config), proportional(model))
    return compress.remove(model, structure)


def _depth_rows(work: Workload, model: PreTrainedModel) -> list[list[str]]:
    blocks = len(blocks_of(model))
    third = str(blocks // 3)
    elastic = make_elastic(model, rule_structures(model, ElasticConfig((blocks // 3,))))
    alone = compress.remove(model, rule_structures(model, ElasticConfig((blocks // 3,)))[third])
    predicted = size_of(model, SECONDS).macs / size_of(alone, SECONDS).macs
    prepare = {size: lambda size=size: activate(elastic, size) for size in (str(blocks), third)}
    models = {str(blocks): elastic, third: elastic}
    return _rows(work, models, prepare, f"{third} of {blocks} blocks", predicted)


def _skipping_rows(work: Workload, model: PreTrainedModel) -> list[list[str]]:
    half = len(blocks_of(model)) // 2
    skipping = able_to_skip(model, Skipping(half, heads=(half,), extension=0))
    size, threshold = size_of(model, SECONDS), _threshold(work, skipping)
    saved = SKIPPED * sum(sum(macs.values()) for macs in size.block_macs[half:])
    prepare = {
        "all": lambda: set_skipping(skipping, threshold=1.0),
        "skipping": lambda: set_skipping(skipping, threshold=threshold),
    }
    predicted = size.macs / (size.macs - saved)
    models = {"all": skipping, "skipping": skipping}
    return _rows(work, models, prepare, f"{SKIPPED:.0%} of the frames skip the last half", predicted)


@torch.no_grad()
def _threshold(work: Workload, model: PreTrainedModel) -> float:
    """The blank's probability above which half of the frames of what is timed lie (weights are random, so any may)."""
    set_skipping(model, threshold=0.999)
    model(**{model.main_input_name: _features(work, model).to(model.dtype)})
    blank = required_skipper(model).last.blank
    assert blank is not None
    return float(blank.float().quantile(1 - SKIPPED))


def _rows(
    work: Workload,
    models: Mapping[str, PreTrainedModel],
    prepare: Mapping[str, Callable[[], None]],
    name: str,
    predicted: float,
) -> list[list[str]]:
    rows = []
    for batch in TINY if work.tiny else BATCHES:
        before, after = _times(work, models, batch, prepare).values()
        audio = SECONDS * batch
        rows += [
            ["everything", f"{batch} x {SECONDS:.0f} s", f"{before / audio:.6f}", "1", "1"],
            [name, f"{batch} x {SECONDS:.0f} s", f"{after / audio:.6f}", f"{before / after:.2f}", f"{predicted:.2f}"],
        ]
    return rows


def _times(
    work: Workload,
    models: Mapping[str, PreTrainedModel],
    batch: int,
    prepare: Mapping[str, Callable[[], None]] | None = None,
    *,
    graph: bool = False,
) -> dict[str, float]:
    """Median seconds of each model's forward pass; they take turns."""
    model = next(iter(models.values()))
    features = _features(work, model).expand(batch, -1, -1)
    inputs = {model.main_input_name: features}
    config = SpeedConfig(seconds=SECONDS, batch=batch, warmup=work.sized(2, 0), repetitions=work.sized(30, 1))
    with ExitStack() as stack:
        for each in models.values() if graph and work.device.type == "cuda" else ():
            stack.enter_context(_as_graph(each, features.to(torch.bfloat16)))
        speeds = measure(models, dict.fromkeys(models, inputs), config, prepare)
    return {name: speed.median_seconds for name, speed in speeds.items()}


def _features(work: Workload, model: PreTrainedModel) -> Tensor:
    """One utterance of noise, always the same; batches hold it several times, so that all of it skips alike."""
    torch.manual_seed(0)
    return dummy_input(model, SECONDS, device=str(work.device))


@contextmanager
@torch.no_grad()
def _as_graph(model: PreTrainedModel, features: Tensor) -> Iterator[None]:
    """Inside, a call of the model replays the kernels that it starts for a batch like this one."""
    inputs, beside, graph = {model.main_input_name: features}, torch.cuda.Stream(), torch.cuda.CUDAGraph()
    beside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(beside):
        for _ in range(3):
            model(**inputs)
    torch.cuda.current_stream().wait_stream(beside)
    with torch.cuda.graph(graph):
        output = model(**inputs)

    def replay(**_: Tensor) -> Any:
        graph.replay()
        return output

    model.forward = replay
    try:
        yield
    finally:
        del model.forward
