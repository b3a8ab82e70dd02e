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
    supernet.html    what each size keeps, what it costs and how it errs, and how parts left; supernet.md, supernet.json
    history.json     how parts have left so far, at every checkpoint of the first stage
    checkpoints/, select/, joint/   what a resumed run needs, and every number over time
    done.json        the final numbers, once the run has ended

compress evaluate best shows all sizes; compress extract best --size 33% --out DIR writes one as a model of its own.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from accelerate.utils import set_seed
from torch import Tensor
from transformers import PreTrainedModel

from compress.checkpoint import CheckpointError, load_model
from compress.config import fail, parse, to_dict
from compress.conformers import frame_mask
from compress.data import Batch
from compress.elastic import make_elastic, standalone
from compress.elastic.supernet import PartsConfig, SelectionConfig, SizesConfig, make_selection, make_subnets, parts_of
from compress.elastic.supernet.report import decided, read_decided, structures_of, write_decided
from compress.files.writing import replaced_folder, write_json
from compress.running.subnets import activate, subnet_names
from compress.training.loop import processes
from compress.training.loop.best import Best
from compress.training.loop.claim import claimed
from compress.training.loop.finite import FiniteGuard
from compress.training.loop.numbers import what_it_took
from compress.training.loop.optimizer import WEIGHTS, ParameterGroup, build_optimizer, weight_groups
from compress.training.loop.position import Position, total_batches
from compress.training.loop.precision import autocast
from compress.training.loop.progress import Progress, start_logging
from compress.training.loop.schedule import set_learning_rates
from compress.training.loop.unalignable import Unalignable
from compress.training.new_models import build_model
from compress.training.preparation import prepare_for_training
from compress.training.recogniser import to_minimise
from compress.training.run import make_accelerator, open_checkpoints, open_data, open_loader, start_trackers
from compress.training.supernet import JointConfig, JointNet, SelectionNet, StageNet
from compress.training.supervised import SupervisedConfig, announce, find_processor

logger = logging.getLogger("compress.supernet")

PROGRAM = "train_supernet.py"
SELECT, JOINT = "select", "joint"
SCORES = "scores"
NUMBERS, HISTORY = "numbers.json", "history.json"
CHANGEABLE: dict[str, tuple[str, ...]] = {SELECT: ("joint.*",), JOINT: ()}
"""Settings that may still change while a stage runs: those of the stage after it."""


@dataclass(frozen=True, kw_only=True)
class Config(SupervisedConfig):
    """One supernet; the settings that every run on transcripts has are those of `SupervisedConfig`.

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


class Stage:
    """One stage: a net with all that is trained, its optimizer, and the loop that takes it through its steps."""

    def __init__(self, supernet: Supernet, name: str, net: StageNet, seed: int) -> None:
        self.supernet, self.config, self.name, self.net = supernet, supernet.config, name, net
        self.accelerator, config = supernet.accelerator, supernet.config
        self.before, self.steps = supernet.spans[name]
        self.loader = supernet.loader if name == SELECT else supernet.open_loader(seed)
        self.wrapped, self.optimizer = self.accelerator.prepare(net, build_optimizer(self.groups()))
        set_seed(seed, device_specific=True)  # dropout noise of each rank's own
        self.step, self.position, self.best, self.unalignable = 0, Position(), Best(), Unalignable()
        self.guard = FiniteGuard(net, {"supernet": net}, config.max_skipped_steps, config.precision)
        self.progress = Progress(
            self.steps, description=name, directory=supernet.output / name, accelerator=self.accelerator,
            waited=lambda: self.loader.wait_seconds, log_every=config.log_every_steps, steps_before=self.before,
        )  # fmt: skip
        self.checkpoints = open_checkpoints(config, name, harmless=CHANGEABLE[name])
        names = ("position", "best", "unalignable", "guard", "progress")
        self.states: dict[str, Any] = {name: getattr(self, name) for name in names} | net.states()
        if restored := self.checkpoints.restore(self.states, self.wrapped, self.optimizer):
            self.step = restored.step
        announce(config, net.model, self.loader, self.before + self.step, supernet.total_steps)

    def groups(self) -> list[ParameterGroup]:
        """Weights, and in the first stage the scores."""
        rates, scores = self.config.optimizer, self.net.scores()
        weights = weight_groups(self.net, rates.learning_rate, rates.weight_decay, exclude=scores)
        return [*weights, ParameterGroup(SCORES, scores, self.rate_of_scores)] if scores else weights

    @property
    def rate_of_scores(self) -> float:
        """The learning rate of the scores, at the peak."""
        own = self.config.selection.learning_rate
        return self.config.optimizer.learning_rate if own is None else own

    def rates(self) -> dict[str, float]:
        """The learning rates of this step; one schedule goes through both stages."""
        factor = self.config.optimizer.factor(self.before + self.step, self.supernet.total_steps)
        if self.name == JOINT and self.config.joint.warmup_steps:
            factor *= min(1.0, (self.step + 1) / self.config.joint.warmup_steps)
        known = {str(group["name"]) for group in self.optimizer.param_groups}
        peaks = {WEIGHTS: self.config.optimizer.learning_rate, SCORES: self.rate_of_scores}
        return {name: peaks[name] * factor for name in known}

    def loss_step(self, batch: Batch) -> dict[str, Tensor]:
        """Every loss of one batch by name; utterances too short for their transcript are left out, and named once."""
        with autocast(self.accelerator.device, self.config.precision):
            logits = self.wrapped(**batch.inputs)
        frames = frame_mask(self.net.model, batch.inputs, logits[0].shape[1])
        losses, unalignable = self.net.losses(logits, frames, batch.labels, self.supernet.blank)
        self.unalignable.note(unalignable, batch.ids)
        return losses

    def run(self) -> None:
        """The loop: one batch, one step."""
        config, batches = self.config, self.position.stream(self.loader)
        weights = [p for group in self.optimizer.param_groups if group["name"] == WEIGHTS for p in group["params"]]
        with self.progress.running(self.step):
            while self.step < self.steps:
                self.net.prepare(self.step)
                rates = self.rates()
                set_learning_rates(self.optimizer, rates)

                batch = next(batches).to(self.accelerator.device)
                self.guard.remember()
                losses = self.loss_step(batch)
                self.accelerator.backward(to_minimise(losses))
                if accepted := self.guard.accepts(losses, batch, self.step):
                    norm = self.accelerator.clip_grad_norm_(weights, config.optimizer.max_gradient_norm)
                    losses["gradient_norm"] = norm
                    self.optimizer.step()
                self.net.after_step()
                self.optimizer.zero_grad(set_to_none=True)

                self.step += 1
                measured = partial(dict, self.net.statistics(), learning_rate=rates[WEIGHTS])
                self.progress.advance(self.step, losses if accepted else {}, measured)
                if self.step % config.evaluate_every_steps == 0 and self.step < self.steps:
                    self.evaluate()
                if self.step % config.checkpoint_every_steps == 0 or self.step == self.steps:
                    self.guard.confirm(self.step)
                    self.save_checkpoint()

    def save_checkpoint(self) -> None:
        """What a resumed run needs; and in the first stage, for people, how parts have left so far."""
        with self.progress.pause():
            self.checkpoints.save(self.step, self.states, self.wrapped, self.optimizer)
            if (record := self.net.record()) and self.accelerator.is_main_process:
                write_json(self.supernet.output / HISTORY, record)

    def evaluate(self) -> dict[str, dict[str, float]]:
        """Error rates on the dev set at every size that the model has by now; the best model of all sizes is saved."""
        assert self.supernet.dev is not None
        self.guard.confirm(self.step)
        model, found = self.net.model, {}
        with self.progress.pause():
            for name in subnet_names(model):
                activate(model, name)
                rates = self.supernet.dev.error_rates(model)
                found[name] = {"wer": rates.wer, "cer": rates.cer}
            mean, full = fmean(one["wer"] for one in found.values()), found[subnet_names(model)[-1]]["wer"]
            by_size = {f"dev/wer/{name}": one["wer"] for name, one in found.items()} | {"dev/wer/mean": mean}
            self.progress.report(self.step, {"dev/wer": full} | (by_size if len(found) > 1 else {}))
            if self.best.improved(mean, self.step, found) and self.name == JOINT:
                self.supernet.save(model, "best")
                self.supernet.report(found)
        return found

    def close(self) -> None:
        """Writes what the stage took, for the end of the run."""
        numbers = what_it_took(self.step, self.progress, self.guard, self.unalignable)
        if self.accelerator.is_main_process:
            write_json(self.supernet.output / self.name / NUMBERS, numbers)


class Supernet:
    """The whole job: `prepare`, then the two stages, then the final numbers."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.output = Path(config.output)
        # Heads and norms of sizes that a step leaves out, or at which their module is absent, get no gradient.
        self.accelerator = make_accelerator(config, some_unused=True)

    def prepare(self) -> None:
        """The data, and how many steps each stage has."""
        config = self.config
        resuming = open_checkpoints(config, SELECT).latest() is not None or self.has_decided()
        self.processor = find_processor(config, self.accelerator, resuming=resuming)
        self.blank: int = self.processor.tokenizer.pad_token_id
        self.train_set, self.dev = open_data(config, self.processor, self.accelerator)
        self.loader = self.open_loader(config.seed)
        self.total_steps = config.max_steps or total_batches(self.loader, config.epochs)
        select = round(config.selection.share * self.total_steps)
        self.spans = {SELECT: (0, select), JOINT: (select, self.total_steps - select)}
        if not 0 < select < self.total_steps:
            raise ValueError(
                f"Of {self.total_steps} steps selection.share {config.selection.share} leaves {select} and "
                f"{self.total_steps - select} for the two stages; each needs at least one: set epochs or max_steps "
                "higher."
            )

    def open_loader(self, seed: int) -> Any:
        """The training batches, in an order that follows from the seed."""
        return open_loader(self.config, self.train_set, self.processor, self.accelerator, seed)

    def has_decided(self) -> bool:
        """Whether an earlier start of this command has finished the first stage."""
        return (self.output / "selected" / "config.json").exists()

    def select(self) -> None:
        """Stage 1: what each size keeps."""
        if self.has_decided():
            return
        config = self.config
        set_seed(config.seed)  # equal weights on every rank
        model = self.build()
        parts = parts_of(model, config.parts, config.sizes.table(model.config))
        sizes = make_subnets(config.sizes, parts)
        _, steps = self.spans[SELECT]
        selection = make_selection(config.selection, sizes, steps, config.seed)
        net = SelectionNet(model, selection, config.selection)
        stage = Stage(self, SELECT, net, config.seed)
        stage.run()
        stage.close()
        ranking = processes.from_main(selection.ranking())
        method = config.selection.method
        self.decide(net.detach(), decided(sizes, ranking, net.history, model.config, method, steps))
        self.accelerator.wait_for_everyone()
        self.accelerator.free_memory()

    def build(self) -> PreTrainedModel:
        """The model to begin with, at the full one of its sizes if it has others.

        Raises:
            ValueError: if it is a checkpoint that can skip frames.
        """
        config = self.config.model
        model = build_model(config, vocabulary_size=len(self.processor.tokenizer), blank=self.blank)
        if getattr(model.config, "skipping", None):
            raise ValueError(
                f"{config.checkpoint} can skip frames, which would be unlearned here: begin with the model that it was "
                "trained from, and let the supernet learn to skip afterwards (recipes/train.py with skipping)."
            )
        if len(subnet_names(model)) > 1:
            model = standalone(model, subnet_names(model)[-1], consume=True)
            prepare_for_training(model)
        return model

    def decide(self, model: PreTrainedModel, result: dict[str, Any]) -> None:
        """Writes the decision, and the model with whose weights the second stage begins."""
        if not self.accelerator.is_main_process:
            return
        write_decided(result, self.output)
        with replaced_folder(self.output / "structures") as folder:
            for name, structure in structures_of(result).items():
                structure.save(folder / f"{name}.json")
        self.save(model, "selected")
        logger.info("Selected: %s", {one["size"]: one["parts"] for one in result["sizes"]})

    def join(self) -> None:
        """Stage 2: the sizes together, from what is read back from disk as a resumed run would."""
        selected, seed = self.output / "selected", self.config.seed + 1
        try:
            model = make_elastic(
                load_model(str(selected)), structures_of(read_decided(self.output)), self.config.joint.own
            )
        except ValueError as error:
            raise CheckpointError(
                f"{error} Delete {selected} and run the same command again to make it anew."
            ) from error
        prepare_for_training(model)
        model.train()
        set_seed(seed)
        stage = Stage(self, JOINT, JointNet(model, self.config.joint, seed), seed)
        stage.run()
        self.last, self.best = stage.evaluate(), stage.best
        self.report(self.best.details)
        stage.close()
        self.save(model, "last")

    def save(self, model: PreTrainedModel, name: str) -> None:
        """The model and its processor, in transformers' format."""
        if self.accelerator.is_main_process:
            with replaced_folder(self.output / name) as fresh:
                model.save_pretrained(fresh)
                self.processor.save_pretrained(fresh)

    def report(self, rates: dict[str, dict[str, float]]) -> None:
        """Puts the error rates of the best model so far into the report."""
        if self.accelerator.is_main_process:
            result = read_decided(self.output)
            for one in result["sizes"]:
                one |= rates.get(one["size"], {})  # none of a run begun before they were kept
            write_decided(result, self.output)

    def finish(self) -> None:
        """The final numbers: what each size has and costs, and how it errs."""
        if not self.accelerator.is_main_process:
            return
        shown = ("limit", "achieved", "parts", "parameters", "macs_per_second", "wer", "cer")
        done = {
            "best_dev_wer": self.best.value,
            "best_step": self.best.step,
            "sizes": {one["size"]: {key: one[key] for key in shown} for one in read_decided(self.output)["sizes"]},
            "last_dev_wer": {name: one["wer"] for name, one in self.last.items()},
        } | {stage: json.loads((self.output / stage / NUMBERS).read_text()) for stage in (SELECT, JOINT)}
        write_json(self.output / "done.json", done)
        logger.info("Done: %s", "  ".join(f"{name} {value}" for name, value in done.items()))


def main(config: Config) -> None:
    """Trains one supernet as configured; returns at once if the run in `config.output` has already ended."""
    supernet = Supernet(config)
    start_logging()
    for stage in (SELECT, JOINT):
        open_checkpoints(config, stage, harmless=CHANGEABLE[stage]).check_settings()
    if (supernet.output / "done.json").exists():
        logger.info("%s has already ended; its numbers are in done.json there.", config.output)
        return
    with claimed(supernet.output, "best", "last", "selected", "structures", "processor"):
        supernet.prepare()
        start_trackers(supernet.accelerator, "supernet", to_dict(config), supernet.output)
        supernet.select()
        supernet.join()
        supernet.finish()
        accelerator = supernet.accelerator
        del supernet  # and with it the prepared models
        processes.leave(accelerator)


if __name__ == "__main__":
    try:
        main(parse(Config, prog=PROGRAM, description=__doc__ or ""))
    except (ValueError, OSError) as error:
        fail(PROGRAM, error)
