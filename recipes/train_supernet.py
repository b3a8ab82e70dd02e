"""Trains one checkpoint that runs at several sizes, and learns what each size keeps: a supernet.

One process:            accelerate launch --cpu recipes/train_supernet.py --config configs/supernet/...
All GPUs of a machine:  accelerate launch recipes/train_supernet.py --config ...
Two processes on a CPU: torchrun --nproc_per_node 2 recipes/train_supernet.py --config ...

Every key of the config can be given on the command line too: --sizes.params [100%,66%,33%] --selection.method zero_out.
Started again with the same command, a run goes on from its last checkpoint as if it had never been interrupted.
Two stages (Xu et al. 2024, arXiv 2407.18930), from scratch or from a checkpoint of any family with a CTC head:

    select   the whole model is trained together with a sub-net, whose parts become fewer; at the end the parts are
             ranked, and each size is the first so many of them
    joint    the sizes are trained together, on the same weights; each has a CTC head of its own

It leaves in the output folder

    best/, last/     the elastic model with the lowest mean dev WER over its sizes and the final one, with the processor
    selected/        the whole model after the first stage
    structures/      the Structure of each size; refers to selected/
    supernet.html    what each size keeps, its cost and its error rate, and how parts left; supernet.md, supernet.json
    history.json     how parts have left so far, at every checkpoint of the first stage
    checkpoints/, select/, joint/   what a resumed run needs, and every number over time
    done.json        the final numbers, once the run has ended

compress evaluate best shows all sizes; compress extract best --size 33% --out DIR writes one as a model of its own.
The model is in pieces while it is trained (FSDP2), if the launcher says so.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed

from compress.checkpoint import load_model
from compress.config import FAILURES, check, fail, parse
from compress.conformers import frame_mask
from compress.data import Batch, SpeechLoader
from compress.elastic import make_elastic
from compress.elastic.supernet import PartsConfig, SelectionConfig, SizesConfig, make_selection, make_subnets, parts_of
from compress.elastic.supernet.report import decided
from compress.training.loop import processes
from compress.training.loop.claim import claimed, require_apart
from compress.training.loop.counts import Counts
from compress.training.loop.ending import end, has_ended, has_model, interrupted, read_back
from compress.training.loop.finite import FiniteGuard
from compress.training.loop.gradients import accumulate
from compress.training.loop.losses import Losses
from compress.training.loop.numbers import leave_numbers, numbers_of, what_it_took
from compress.training.loop.optimizer import WEIGHTS, build_optimizer, parameters_of
from compress.training.loop.position import Position, taken, total_steps
from compress.training.loop.precision import autocast
from compress.training.loop.progress import Progress, start_logging
from compress.training.loop.savings import compile_blocks, recomputed
from compress.training.loop.schedule import set_learning_rates
from compress.training.loop.sharding import Sharding, shorten
from compress.training.loop.unalignable import Unalignable
from compress.training.new_models import note_length
from compress.training.preparation import prepare_for_training
from compress.training.run import (
    best_on_dev,
    dtype_to_save,
    make_accelerator,
    open_checkpoints,
    open_data,
    open_loader,
    require_same_run,
    save_model,
)
from compress.training.supernet import JointConfig, JointNet, SelectionNet, StageNet, divided, supernet_model
from compress.training.supernet_results import (
    BEST,
    LAST,
    SELECTED,
    STRUCTURES,
    Rates,
    SupernetResults,
    mean_wer,
    rates_as_metrics,
    rates_by_size,
)
from compress.training.supervised import PROCESSOR, SupervisedConfig, announce, find_processor
from compress.training.trackers import start_trackers

PROGRAM = "train_supernet.py"
SELECT, JOINT = "select", "joint"
CHANGEABLE: dict[str, tuple[str, ...]] = {SELECT: ("joint.*",), JOINT: ()}
"""Settings that may still change while a stage runs: those of the stage after it."""


@dataclass(frozen=True, kw_only=True)
class Config(SupervisedConfig):
    """One supernet.

    The settings that every run on transcripts has are those of `SupervisedConfig`.

    Attributes:
        sizes: how large the sizes are, largest first.
        parts: what they are made of.
        selection: how the parts of each size are chosen.
        joint: how the sizes are then trained together.
    """

    sizes: SizesConfig
    parts: PartsConfig = field(default_factory=PartsConfig)
    selection: SelectionConfig = field(default_factory=SelectionConfig)
    joint: JointConfig = field(default_factory=JointConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        remedy = "a step runs at several sizes, so blocks cannot be computed again behind it: leave it out"
        check(not self.gradient_checkpointing, "gradient_checkpointing", True, remedy)


class Stage:
    """One stage: a net with all that is trained, its optimizer, and the loop that takes it through its steps."""

    def __init__(self, job: Supernet, name: str, net: StageNet, loader: SpeechLoader, seed: int) -> None:
        self.job, self.config, self.accelerator = job, job.config, job.accelerator
        self.name, self.net, self.loader, self.folder = name, net, loader, job.output / name
        config, (self.before, self.steps) = self.config, job.spans[name]
        self.sharding = Sharding(self.accelerator, net)
        self.wrapped, self.optimizer = self.sharding.prepare(
            build_optimizer(net.groups(config.optimizer), config.optim)
        )
        compile_blocks(net.model, config.compile)
        set_seed(seed, device_specific=True)  # dropout noise of each rank's own
        self.step, self.position, self.best, self.unalignable = 0, Position(), best_on_dev(config), Unalignable()
        self.guard = FiniteGuard(net, {"supernet": net}, config.max_skipped_steps, config.precision)
        self.progress = Progress(
            self.steps, description=name, directory=self.folder, accelerator=self.accelerator,
            waited=lambda: self.loader.wait_seconds, log_every=config.log_every_steps, steps_before=self.before,
        )  # fmt: skip
        self.states = {
            "position": self.position,
            "best": self.best,
            "unalignable": self.unalignable,
            "guard": self.guard,
            "progress": self.progress,
            **net.states(),
        }
        self.checkpoints = open_checkpoints(config, name, harmless=CHANGEABLE[name])
        if restored := self.checkpoints.restore(self.states, self.wrapped, self.optimizer):
            self.step = restored.step
        announce(config, net.model, loader, self.before + self.step, job.total_steps)

    def loss_step(self, batch: Batch, counts: Counts) -> Losses:
        """Every loss of one batch by name; utterances too short for their transcript are left out, and named once."""
        again = recomputed(self.net.model, self.config.gradient_checkpointing)
        with autocast(self.accelerator.device, self.config.precision), again:
            logits = self.wrapped(**batch.inputs)
        frames = frame_mask(self.net.model, batch.inputs, logits[0].shape[1])
        losses, unalignable = self.net.losses(logits, frames, batch.labels, self.job.blank, counts)
        self.unalignable.note(unalignable, batch.ids)
        return losses

    def run(self) -> StageNet:
        """The loop: some batches, one step. Returns the net in one piece."""
        config, weights = self.config, parameters_of(self.optimizer, WEIGHTS)
        with self.position.reading(self.loader) as batches, self.progress.running(self.step):
            while self.step < self.steps:
                self.net.prepare(self.step)
                factor = config.optimizer.factor(self.before + self.step, self.job.total_steps)
                rates = self.net.rates(config.optimizer, factor)
                set_learning_rates(self.optimizer, rates)

                of_step = [batch.to(self.accelerator.device) for batch in taken(batches, config.accumulate)]
                self.guard.remember()
                losses = accumulate(self.accelerator, self.wrapped, self.net.model, of_step, self.loss_step)
                if accepted := self.guard.accepts(losses, of_step, self.step):
                    losses = losses.with_metrics(gradient_norm=shorten(weights, config.optimizer.max_gradient_norm))
                    self.optimizer.step()
                self.net.after_step()
                self.optimizer.zero_grad(set_to_none=True)

                self.step += 1
                self.progress.advance(self.step, losses if accepted else None, partial(self.measured, rates[WEIGHTS]))
                if self.step % config.evaluate_every_steps == 0 and self.step < self.steps:
                    self.evaluate(self.sharding.whole())
                if self.step % config.checkpoint_every_steps == 0 or self.step == self.steps:
                    self.guard.confirm(self.step)
                    with self.progress.pause():
                        self.checkpoints.save(self.step, self.states, self.wrapped, self.optimizer)
                        self.job.results.record(self.net.record())
        leave_numbers(self.folder, what_it_took(self.step, self.progress, self.guard, self.unalignable))
        return self.sharding.whole()

    def measured(self, learning_rate: float) -> dict[str, float]:
        """What is worth following beside the losses."""
        return {**self.net.statistics(), "learning_rate": learning_rate, "skipped_steps": self.guard.skipped}

    def evaluate(self, whole: StageNet) -> Rates:
        """Error rates on the dev set at every size that the model has by now; the best model of all sizes is saved.

        Args:
            whole: the net in one piece.
        """
        assert self.job.dev is not None
        self.guard.confirm(self.step)
        with self.progress.pause():
            rates = rates_by_size(self.job.dev, whole.model)
            self.progress.report(self.step, rates_as_metrics(rates))
            if self.best.improved(mean_wer(rates), self.step, rates) and self.name == JOINT:
                save_model(whole.model, self.job.processor, self.job.output / BEST, self.job.dtype)
                self.job.results.note(rates)
        return rates


class Supernet:
    """The whole job: from a model to one that runs at every size, and what it is worth at each."""

    def __init__(self, config: Config, accelerator: Accelerator) -> None:
        self.config, self.accelerator, self.output = config, accelerator, Path(config.output)
        self.results = SupernetResults(self.output)
        self.has_decided = has_model(self.output / SELECTED)  # by an earlier start of this command
        resuming = self.has_decided or open_checkpoints(config, SELECT).latest() is not None
        self.processor = find_processor(config, accelerator, resuming=resuming)
        self.blank: int = self.processor.tokenizer.pad_token_id
        self.train_set, self.dev = open_data(config, self.processor, accelerator)
        self.loader = open_loader(config, self.train_set, self.processor, accelerator, config.seed)
        self.total_steps = config.max_steps or total_steps(self.loader, config.epochs, config.accumulate)
        select, joint = divided(self.total_steps, config.selection.share)
        config.optimizer.check_length(self.total_steps)
        self.spans = {SELECT: (0, select), JOINT: (select, joint)}

    @property
    def dtype(self) -> torch.dtype | None:
        """Of the weights in the models that are saved."""
        return dtype_to_save(self.config, self.config.model.checkpoint)

    def run(self) -> None:
        """The two stages; of those that an earlier start has finished, the results are used."""
        start_trackers(self.accelerator, "supernet", self.config)
        if not self.has_decided:
            self.select()
        self.finish(*self.join())

    def select(self) -> None:
        """Stage 1: what each size keeps."""
        config = self.config
        set_seed(config.seed)  # equal weights on every rank
        model = supernet_model(config.model, vocabulary_size=len(self.processor.tokenizer), blank=self.blank)
        note_length(model, self.train_set.seconds)
        sizes = make_subnets(config.sizes, parts_of(model, config.parts, config.sizes.table(model.config)))
        _, steps = self.spans[SELECT]
        net = SelectionNet(model, make_selection(config.selection, sizes, steps, config.seed), config.selection)
        selected = Stage(self, SELECT, net, self.loader, config.seed).run()
        assert isinstance(selected, SelectionNet)
        ranking, model = processes.from_main(selected.selection.ranking()), selected.detach()
        self.results.decide(
            decided(sizes, ranking, net.history, model.config, config.selection.method, steps), self.dev
        )
        save_model(model, self.processor, self.output / SELECTED, self.dtype)
        self.accelerator.wait_for_everyone()
        self.accelerator.free_memory()

    def join(self) -> tuple[Stage, StageNet]:
        """Stage 2: the sizes together, from what is read back from disk as a resumed run would."""
        config, seed, selected = self.config, self.config.seed + 1, self.output / SELECTED
        with read_back(selected):
            model = make_elastic(load_model(str(selected)), self.results.structures(), config.joint.own)
        prepare_for_training(model)
        model.train()
        set_seed(seed)
        loader = open_loader(config, self.train_set, self.processor, self.accelerator, seed)
        stage = Stage(self, JOINT, JointNet(model, config.joint, seed), loader, seed)
        return stage, stage.run()

    def finish(self, stage: Stage, whole: StageNet) -> None:
        """The last model, and the final numbers: parameters, MACs and error rate of each size.

        Args:
            stage: the second one.
            whole: its net in one piece.
        """
        last, best = stage.evaluate(whole), stage.best
        if self.dev is not None:
            self.dev.close()
        self.results.note(best.details)
        save_model(whole.model, self.processor, self.output / LAST, self.dtype)
        if self.accelerator.is_main_process:
            done = {"best_dev_wer": best.value, "best_step": best.step} | self.results.numbers()
            done["last_dev_wer"] = {size: of_size["wer"] for size, of_size in last.items()}
            end(self.output, done | numbers_of(self.output, SELECT, JOINT), PROGRAM, BEST, LAST)


def main(config: Config) -> None:
    """Trains one supernet as configured; returns at once if the run in `config.output` has already ended."""
    # Heads and norms of sizes that a step leaves out, or at which their module is absent, get no gradient.
    accelerator, output = make_accelerator(config, some_unused=True), Path(config.output)
    start_logging()
    require_apart(config.model.checkpoint, output, BEST, LAST, SELECTED)
    require_same_run(config, SELECTED, CHANGEABLE)
    if has_ended(output, PROGRAM):
        return
    with claimed(output, BEST, LAST, SELECTED, STRUCTURES, PROCESSOR):
        Supernet(config, accelerator).run()
        processes.leave(accelerator)


if __name__ == "__main__":
    try:
        main(parse(Config, prog=PROGRAM, description=__doc__ or ""))
    except FAILURES as error:
        fail(PROGRAM, error)
    except KeyboardInterrupt:
        interrupted(PROGRAM)
