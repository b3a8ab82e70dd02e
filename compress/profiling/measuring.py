"""Measures a latency profile: times random smaller forms of a model in turn, and fits what its modules cost.

Modules that are timed alone miss what lies between them, so whole models are timed. Widths that a machine does not
like show as models that take longer than the rest foretells.
"""

from __future__ import annotations

import logging
import random
import shlex
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from transformers import PreTrainedModel

from compress.checkpoint import load_recogniser
from compress.config import check, check_at_least, check_choice
from compress.conformers import block_units, family_of, fixed_blocks
from compress.cost import cost_table
from compress.data import feature_extractor_of
from compress.deciding.budget import BudgetConfig
from compress.elastic.supernet.limits import SizesConfig
from compress.evaluation.speed import SpeedConfig, conditions, speed_inputs, with_threads
from compress.evaluation.transcribe import to_model
from compress.latency import (
    LATENCY_FILE,
    LINE_KINDS,
    LatencyProfile,
    Line,
    ProfileError,
    described_model,
)
from compress.machine import DTYPES, find_device
from compress.profiling.drawing import draw_structure
from compress.profiling.fit import Fit, features_of
from compress.profiling.forms import Forms, GraphForms, TimedPass, TorchForms
from compress.runtimes.onnx_graph import runtime_version
from compress.runtimes.optional import require_packages
from compress.structure import Structure

logger = logging.getLogger(__name__)

WIDTHS = (8, 16, 32)
"""What widths can be multiples of."""
TOLERATED = 0.01  # how much longer models of narrower multiples may take than those of the widest
PER_SECOND = 1e9
HELD_BYTES = 1 << 30
"""Of all smaller forms together: below it they are made once, above it anew in every round."""
_TIMED = (
    "forward pass from prepared features, as in an evaluation; random smaller forms take turns, and the shortest pass "
    "of each counts, of a single CPU thread by its own time"
)
EXPORTED = "onnx"
Timed = TypeVar("Timed", BudgetConfig, SizesConfig)


@dataclass(frozen=True, kw_only=True)
class ProfileConfig:
    """What is measured, and how carefully.

    Attributes:
        model: checkpoint folder or Hub name.
        out: the file to write.
        runtime: what the model runs in: "torch", or "onnx" for its export in ONNX Runtime on the CPU; the graphs of all
            random Structures lie in a temporary folder meanwhile, together some fifteen times as large as the model.
        speed: conditions of the timing; `repetitions` are rounds in each of which every model has its turn, and the
            shortest time of a model counts.
        fitted: how many random Structures the costs are fitted to.
        held_out: how many more the predictions are checked on.
        max_error: largest mean error of these predictions, as a share, with which a profile is written.
        max_minutes: no further round begins where it would end later than this.
        seed: of the Structures.
        device: "cpu", "cuda", "cuda:1", or "auto" for a GPU if there is one.
        dtype: "float32", "bfloat16" or "float16".
    """

    model: str
    out: str = LATENCY_FILE
    runtime: Literal["torch", "onnx"] = "torch"
    speed: SpeedConfig = field(default_factory=lambda: SpeedConfig(warmup=1))
    fitted: int = 24
    held_out: int = 10
    max_error: float = 0.05
    max_minutes: float = 4.0
    seed: int = 0
    device: str = "auto"
    dtype: str = "float32"

    def __post_init__(self) -> None:
        check_choice("dtype", self.dtype, DTYPES)
        if self.runtime == EXPORTED:
            check(self.device in ("auto", "cpu"), "device", self.device, "with runtime onnx, graphs run on the CPU")
            check(self.dtype == "float32", "dtype", self.dtype, "with runtime onnx, graphs compute in float32")
            require_packages("compress profile --runtime onnx", "onnx", "onnxruntime")
        check_at_least("fitted", self.fitted, 16, "Structures, or the costs are guesses")
        check_at_least("held_out", self.held_out, 1, "Structures to check the predictions on")
        check(self.max_error > 0, "max_error", self.max_error, "give a share above 0, for example 0.05")
        check(self.max_minutes > 0, "max_minutes", self.max_minutes, "give minutes above 0")


def profile(config: ProfileConfig, console: Console | None = None) -> LatencyProfile:
    """Measures what the modules of a model cost in time.

    Args:
        config: what is measured.
        console: where progress is drawn; None draws nothing.

    Raises:
        ProfileError: if predictions are further off than `max_error`.
        ExportError: if graphs are timed, and the model cannot be exported.
        ValueError: if the model cannot be loaded.
    """
    device = torch.device("cpu") if config.runtime == EXPORTED else find_device(config.device)
    model, processor = load_recogniser(config.model, dtype=DTYPES[config.dtype], device=device)
    inputs = to_model(model, speed_inputs(processor, feature_extractor_of(processor).sampling_rate, config.speed))
    facts = conditions(device, DTYPES[config.dtype], config.speed) | {"runtime": config.runtime, "timed": _TIMED}
    with with_threads(config.speed.threads), torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        forms: Forms = TorchForms(model, inputs)
        if config.runtime == EXPORTED:
            forms, facts = GraphForms(model, processor, inputs, Path(folder)), facts | {EXPORTED: runtime_version()}
        made = fitted(Stopwatch(model, forms, config, console), config)
    return replace(made, model=described_model(model.config), conditions=facts)


def fitted(stopwatch: Stopwatch, config: ProfileConfig) -> LatencyProfile:
    """The costs that explain the times of random Structures, checked on others; model and conditions are left open."""
    generator, units = random.Random(config.seed), stopwatch.units
    front = stopwatch.front
    channels = dict(zip(front.names, front.channels, strict=True))
    draw = partial(draw_structure, stopwatch.family, units, fixed_blocks(stopwatch.model), generator, front=channels)
    widths = [WIDTHS[number % len(WIDTHS)] for number in range(config.fitted)]
    structures = [Structure.full(stopwatch.family, len(units)), *map(draw, widths)]
    fresh = [draw(WIDTHS[-1]) for _ in range(config.held_out)]
    seconds = stopwatch.time([*structures, *fresh])
    features = [features_of(structure, units, front) for structure in (*structures, *fresh)]
    count = len(structures)
    width, fit = _liked_width([0, *widths], features[:count], seconds[:count])
    fit = fit.rounded(1 / PER_SECOND)
    error = abs(fit.off(features[count:], seconds[count:]))
    _require_close(error, config)
    *in_blocks, alone, pairs_of_channels = fit.coefficients * PER_SECOND
    base, block, *lines = map(round, in_blocks)
    pairs = dict(zip(LINE_KINDS, zip(lines[::2], lines[1::2], strict=True), strict=True))
    said = {"mean": float(error.mean()), "worst": float(error.max()), "structures": config.held_out}
    costs = front.scaled(alone, pairs_of_channels)
    return LatencyProfile({}, {}, base, block, {kind: Line(*pair) for kind, pair in pairs.items()}, width, said, costs)


def _liked_width(widths: Sequence[int], features: Sequence[Sequence[int]], seconds: Sequence[float]) -> tuple[int, Fit]:
    """The least of `WIDTHS` whose multiples take no longer than those of the largest, and a fit without those below."""
    whole = [number for number, width in enumerate(widths) if width in (0, WIDTHS[-1])]
    wide = Fit.of([features[n] for n in whole], [seconds[n] for n in whole])
    for least in WIDTHS:
        among = [number for number, width in enumerate(widths) if width == least]
        slower = -wide.off([features[n] for n in among], [seconds[n] for n in among]).mean()
        if slower <= TOLERATED or least == WIDTHS[-1]:
            break
    usable = [number for number, width in enumerate(widths) if width == 0 or width >= least]
    return least, Fit.of([features[n] for n in usable], [seconds[n] for n in usable])


def _require_close(error: np.ndarray[Any, Any], config: ProfileConfig) -> None:
    if error.mean() > config.max_error:
        raise ProfileError(
            f"predictions are off by {error.mean():.1%} on average (worst {error.max():.1%}), more than --max-error "
            f"{config.max_error:.1%}: time on a machine with nothing else to do, raise --speed.repetitions, or allow "
            "more."
        )


class Stopwatch:
    """Times smaller forms of one model in turn.

    Args:
        model: all of it, in eval mode.
        forms: its smaller forms.
        config: rounds and time limit.
        console: where progress is drawn.
    """

    def __init__(self, model: PreTrainedModel, forms: Forms, config: ProfileConfig, console: Console | None) -> None:
        self.model, self.forms, self.config, self.console = model, forms, config, console
        self.family, self.units = family_of(model).name, block_units(model)
        self.front = cost_table(model.config, "macs", seconds=config.speed.seconds).front

    def time(self, structures: Sequence[Structure]) -> list[float]:
        """The shortest time of each, in seconds, over as many rounds as there is time for."""
        shortest = [float("inf")] * len(structures)
        ready = cache(self.forms.ready) if self._are_small(structures) else self.forms.ready
        columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
        with Progress(*columns, console=self.console, disable=self.console is None) as progress:
            for structure in progress.track(structures, description="Preparing random Structures"):
                self.forms.prepare(structure)
            task = progress.add_task("Timing them", total=self.config.speed.repetitions * len(structures))
            started = time.monotonic()
            for completed in range(1, self.config.speed.repetitions + 1):
                for number, structure in enumerate(structures):
                    shortest[number] = min(shortest[number], self._shortest(ready(structure)))
                    progress.advance(task)
                took = time.monotonic() - started
                if took * (completed + 1) / completed > 60 * self.config.max_minutes:
                    break
        return shortest

    def _are_small(self, structures: Sequence[Structure]) -> bool:
        return bool(len(structures) * self.model.get_memory_footprint() < HELD_BYTES)

    def _shortest(self, form: TimedPass) -> float:
        return min(self._passed(form) for _ in range(self.config.speed.warmup + 1))

    def _passed(self, form: TimedPass) -> float:
        """The time of one pass; of a single thread that of its own, which other programs hardly lengthen."""
        on_cpu = self.model.device.type == "cpu"
        clock = time.thread_time if on_cpu and torch.get_num_threads() == 1 else time.perf_counter
        start = clock()
        form()
        if not on_cpu:
            torch.accelerator.synchronize(self.model.device)
        return clock() - start


def with_profile(budget: Timed, model: str, output: Path, *, threads: int | None, device: str) -> Timed:
    """A budget that, if it is one of time, names its profile, which is measured unless the folder of the run holds one.

    Args:
        budget: what was asked for, or several sizes.
        model: the model to be made smaller.
        output: of the run; the profile is written there.
        threads: that the model will run on.
        device: on which.
    """
    if budget.latency is None or budget.profile is not None:
        return budget
    path = output / LATENCY_FILE
    if not path.exists():
        speed = SpeedConfig(seconds=budget.seconds, threads=threads, warmup=1)
        logger.info("%s: measuring what modules cost in time on this machine", path)
        order = ProfileConfig(model=model, out=str(path), speed=speed, device=device)
        try:
            profile(order).save(path)
        except ProfileError as error:
            raise ProfileError(f"{error} {_by_hand(order)}") from None
    return replace(budget, profile=str(path))


def _by_hand(config: ProfileConfig) -> str:
    """How the same is measured apart from the run that wants it, with other settings."""
    words = ["compress", "profile", config.model, "--out", LATENCY_FILE, "--device", config.device]
    words += ["--speed.seconds", f"{config.speed.seconds:g}"]
    words += [] if config.speed.threads is None else ["--speed.threads", str(config.speed.threads)]
    return (
        f"These are options of `{shlex.join(words)}`; name the file that it writes beside the budget "
        f"(--budget.profile {LATENCY_FILE}, or --sizes.profile)."
    )
