"""Compresses a Conformer to a budget: learns gates, removes what they close, and distils on without gates.

One process:            accelerate launch recipes/prune.py --config configs/prune/parakeet-small_digits.yaml
Two processes on a CPU: torchrun --nproc_per_node 2 recipes/prune.py --config ...

Every key of the config can be given on the command line too: --budget.params 50% --teacher FOLDER_OR_HUB_NAME.
Started again with the same command, a run goes on from its last checkpoint as if it had never been interrupted.
Three phases, each of which leaves something usable in the output folder:

    gated/     1. the full-size student after gate learning, gates folded into its weights: it computes what the removed
                  model computes. `compress apply gated gated/structure.json --out DIR` makes the next one from it.
    removed/   2. the smaller model before recovery
    final/     3. the smaller model after distillation without gates; with a dev set, the best on dev

and checkpoints/, metrics (*/metrics.jsonl, TensorBoard), config.json, and done.json with the final numbers.
With push.repo_id, final/ goes to the Hub when the run has ended.
With structure: magnitude, proportional, uniform or a file, what stays is known at once, and there is no first phase.
Without transcripts set distill.ctc to 0 and dev_split to null. A model without a CTC head (a transducer, an attention
decoder) has its encoder compressed, without transcripts. Not supported: sharded models (FSDP, ZeRO).
"""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import set_seed
from torch import Tensor
from transformers import PreTrainedModel

import compress
from compress.checkpoint import (
    CheckpointError,
    describe,
    load_config,
    load_model,
    load_processor,
    read_compression,
    save,
)
from compress.checkpoint.push import HubConfig
from compress.config import fail, parse, to_dict
from compress.conformers import family_of, frame_mask, frame_outputs, skeleton
from compress.cost import size_of
from compress.data import Batch
from compress.deciding.budget import BudgetConfig, Lagrangian, check_reachable, decide, make_budget
from compress.deciding.decisions import DECISIONS
from compress.deciding.gates import GateConfig, Gates
from compress.evaluation import GenerateConfig
from compress.files.writing import write_json
from compress.running.skipper import without_skipping
from compress.structure import Structure
from compress.training.ctc import ctc_loss
from compress.training.distill import DistillConfig, LayerDistance, output_distance
from compress.training.loop import processes
from compress.training.loop.best import Best
from compress.training.loop.claim import claimed
from compress.training.loop.finite import FiniteGuard
from compress.training.loop.numbers import what_it_took
from compress.training.loop.optimizer import WEIGHTS, ParameterGroup, build_optimizer, weight_groups
from compress.training.loop.position import Position
from compress.training.loop.precision import autocast
from compress.training.loop.progress import Progress, start_logging
from compress.training.loop.publish import check_before, push_result
from compress.training.loop.schedule import LearnConfig, PhaseConfig, set_learning_rates
from compress.training.loop.unalignable import Unalignable
from compress.training.new_models import fresh_model
from compress.training.preparation import prepare_for_training
from compress.training.run import RunConfig, make_accelerator, open_checkpoints, open_data, open_loader, start_trackers
from compress.training.skipping import SkippingConfig, objective_of, skipping_config, skipping_model
from compress.training.student import GatedStudent, Student

logger = logging.getLogger("compress.prune")

PROGRAM = "prune.py"
LEARNED = "learned"
GATES, MULTIPLIERS = "gates", "multipliers"
NUMBERS = "numbers.json"
CHANGEABLE: dict[str, tuple[str, ...]] = {"learn": ("recover.*",), "recover": ()}
"""Settings that may still change while a phase runs: those of the phase after it."""


@dataclass(frozen=True, kw_only=True)
class Config(RunConfig):
    """One compression run; the settings that every run has are those of `RunConfig`.

    Attributes:
        teacher: folder or Hub name of the model to compress.
        budget: the size to reach.
        structure: who decides what stays. `learned`: gates, in the first phase. Without a first phase: one of
            `compress.deciding.decisions` (magnitude, proportional, uniform), or a structure.json (budget: null).
        fresh_weights: whether the small model starts from new weights instead of the teacher's.
        gates: what is gated, and how gates start.
        distill: the losses that hold the student to its teacher.
        learn: the phase with gates.
        recover: the phase after removal; only here the dev set is looked at.
        skipping: intermediate outputs that learn to tell which frames can pass the last blocks by, from the CTC losses
            beside them; null: none, or those that the teacher has.
        dropout: every dropout probability of the student; null keeps those of the teacher's config.
        weight_decay: of matrices and kernels.
        max_gradient_norm: longer gradients of the weights are shortened to this.
        generate: how a model without a CTC head writes down the dev set.
        push: where `final/` goes on the Hub when the run has ended, e.g. --push.repo_id someone/small; null: nowhere.
    """

    teacher: str
    budget: BudgetConfig | None
    structure: str = LEARNED
    fresh_weights: bool = False
    gates: GateConfig = field(default_factory=GateConfig)
    distill: DistillConfig = field(default_factory=DistillConfig)
    learn: LearnConfig = field(default_factory=LearnConfig)
    recover: PhaseConfig = field(default_factory=lambda: PhaseConfig(steps=1000, learning_rate=1e-4))
    skipping: SkippingConfig | None = None
    dropout: float | None = 0.0
    weight_decay: float = 0.0
    max_gradient_norm: float = 1.0
    generate: GenerateConfig = field(default_factory=GenerateConfig)
    push: HubConfig | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.budget is None) == (self.structure in (LEARNED, *DECISIONS)):
            raise ValueError(
                f"structure is {self.structure!r}, budget is {self.budget}: {', '.join((LEARNED, *DECISIONS))} need a "
                "budget; a structure.json is a decision already and goes with budget: null."
            )
        if self.fresh_weights and self.structure == LEARNED:
            raise ValueError("Gates are learned on the teacher's weights: fresh_weights needs another structure.")


class Phase:
    """One phase of distillation: a student, its optimizer, and the loop that takes it through its steps."""

    def __init__(self, run: Pruning, name: str, student: Student, settings: PhaseConfig, seed: int) -> None:
        self.pruning, self.config, self.settings, self.student = run, run.config, settings, student
        self.accelerator, self.model = run.accelerator, student.model
        config, self.folder = self.config, run.output / name
        prepare_for_training(self.model, dropout=config.dropout)
        self.model.train()
        self.layers = LayerDistance(self.model, run.teacher, config.distill) if config.distill.layers else None
        self.loader = open_loader(config, run.train_set, run.processor, run.accelerator, seed)
        self.wrapped, self.optimizer = self.accelerator.prepare(student, build_optimizer(self.groups()))
        set_seed(seed, device_specific=True)  # dropout noise of each rank's own
        self.step, self.position, self.best, self.unalignable = 0, Position(), Best(), Unalignable()
        models = {"teacher": run.teacher, "student": self.model}
        self.guard = FiniteGuard(student, models, config.max_skipped_steps, config.precision)
        self.progress = Progress(
            settings.steps, description=name, directory=self.folder, accelerator=self.accelerator,
            waited=lambda: self.loader.wait_seconds, log_every=config.log_every_steps,
            steps_before=config.learn.steps if name == "recover" and config.structure == LEARNED else 0,
        )  # fmt: skip
        self.checkpoints = open_checkpoints(config, name, harmless=CHANGEABLE[name])
        names = ("position", "best", "unalignable", "guard", "progress")
        self.states: dict[str, Any] = {name: getattr(self, name) for name in names}
        if isinstance(student, GatedStudent):
            self.states["noise"] = student.noise
        if student.skipping:
            self.states["skipping"] = student.skipping
        if restored := self.checkpoints.restore(self.states, self.wrapped, self.optimizer):
            self.step = restored.step
        logger.info("%s: %s at step %d of %d", config.output, name, self.step, settings.steps)

    def groups(self) -> Sequence[ParameterGroup]:
        """Weights; and in the first phase gates, and multipliers, which ascend."""
        rate, decay = self.settings.learning_rate, self.config.weight_decay
        if not isinstance(self.student, GatedStudent):
            return weight_groups(self.student, rate, decay)
        assert isinstance(self.settings, LearnConfig)
        gates, multipliers = list(self.student.gates.parameters()), list(self.student.lagrangian.parameters())
        return [
            *weight_groups(self.student, rate, decay, exclude=[*gates, *multipliers]),
            ParameterGroup(GATES, gates, self.settings.gate_learning_rate),
            ParameterGroup(MULTIPLIERS, multipliers, self.settings.multiplier_learning_rate, maximize=True),
        ]

    def loss_step(self, batch: Batch) -> dict[str, Tensor]:
        """Every loss of one batch by name, weighted. Student and teacher see the same features."""
        teacher, weights = self.pruning.teacher, self.config.distill
        with autocast(self.accelerator.device, self.config.precision):
            with torch.no_grad(), without_skipping(teacher):
                target = frame_outputs(teacher, batch.inputs)
            logits = self.wrapped(**batch.inputs)
        mask = frame_mask(teacher, batch.inputs, logits.shape[1])
        losses: dict[str, Tensor] = {}
        if self.layers:
            losses["layers"] = weights.layers * self.layers.take(mask)
            losses["layers"] += 0.0 * logits.sum()  # several processes wait for gradients of the head, too
        if weights.output:
            losses["output"] = weights.output * output_distance(teacher, logits, target, mask, weights)
        if weights.ctc:
            ctc, unalignable = ctc_loss(logits, mask, batch.labels, int(teacher.config.pad_token_id))
            self.unalignable.note(unalignable, batch.ids)
            losses["ctc"] = weights.ctc * ctc
        if skipping := self.student.skipping:
            labels, blank = batch.labels if weights.ctc else None, int(teacher.config.pad_token_id)
            losses["skipping"] = skipping.added(self.model, logits, mask, labels, blank)
        if isinstance(self.student, GatedStudent):
            losses["budget"] = self.student.lagrangian(self.student.expected_share(), self.step)
        return losses

    def run(self) -> None:
        """The loop: one batch, one step."""
        config, rates = self.config, self.settings
        weights = [p for group in self.optimizer.param_groups if group["name"] == WEIGHTS for p in group["params"]]
        batches = self.position.stream(self.loader)
        with self.progress.running(self.step):
            if self.step == 0:
                self.evaluate()  # recovery has to be better than its start to become the final model
            while self.step < rates.steps:
                set_learning_rates(self.optimizer, {WEIGHTS: rates.rate(self.step)})

                batch = next(batches).to(self.accelerator.device)
                self.guard.remember()
                losses = self.loss_step(batch)
                self.accelerator.backward(torch.stack(list(losses.values())).sum())
                if accepted := self.guard.accepts(losses, batch, self.step):
                    losses["gradient_norm"] = self.accelerator.clip_grad_norm_(weights, config.max_gradient_norm)
                    self.optimizer.step()
                    self.student.after_step()
                self.optimizer.zero_grad(set_to_none=True)

                self.step += 1
                self.progress.advance(self.step, losses if accepted else {}, self.measured)
                if self.step % config.evaluate_every_steps == 0 or self.step == rates.steps:
                    self.evaluate()
                if self.step % config.checkpoint_every_steps == 0 or self.step == rates.steps:
                    self.guard.confirm(self.step)
                    with self.progress.pause():
                        self.checkpoints.save(self.step, self.states, self.wrapped, self.optimizer)

    def measured(self) -> dict[str, float]:
        """What is worth following beside the losses."""
        return {"learning_rate": self.settings.rate(self.step - 1)} | self.student.statistics(self.step)

    def evaluate(self) -> None:
        """In the recovery phase: error rates on the dev set; the best model so far becomes the final one."""
        if isinstance(self.student, GatedStudent) or self.pruning.dev is None:
            return
        self.guard.confirm(self.step)
        with self.progress.pause():
            rates = self.pruning.dev.error_rates(self.model)
            self.progress.report(self.step, {"dev/wer": rates.wer, "dev/cer": rates.cer})
            if self.best.improved(rates.wer, self.step):
                self.pruning.save(self.model, "final", {"wer": {"dev": rates.wer}})

    def close(self) -> None:
        """Takes the recording hooks off, and writes what the phase took, for the end of the run."""
        if self.layers:
            self.layers.close()
        numbers = what_it_took(self.step, self.progress, self.guard, self.unalignable)
        if self.accelerator.is_main_process:
            write_json(self.folder / NUMBERS, numbers)


class Pruning:
    """The whole job: `prepare`, then the three phases, then the final numbers."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.output = Path(config.output)
        self.accelerator = make_accelerator(config)

    def prepare(self) -> None:
        """The budget first, refused before anything is loaded if it cannot be reached; then teacher and data."""
        config = self.config
        teacher_config = skipping_config(load_config(config.teacher), config.skipping)
        if config.distill.ctc and not family_of(teacher_config).has_ctc:
            raise ValueError(f"{config.teacher} has no CTC head: set distill.ctc to 0.")
        self.budget = config.budget and make_budget(config.budget, teacher_config)
        if self.budget and config.structure == LEARNED:
            check_reachable(self.budget, Gates(skeleton(teacher_config, original=False), config.gates).scores())
        teacher = skipping_model(load_model(config.teacher, device=self.accelerator.device), config.skipping)
        self.teacher = teacher.requires_grad_(False)
        self.processor = load_processor(config.teacher)
        self.train_set, self.dev = open_data(
            config, self.processor, self.accelerator, labels=config.distill.ctc > 0, generate=config.generate
        )

    def decide(self) -> None:
        """Phases 1 and 2: what stays, decided by gates or without them, and the removal of the rest."""
        if (self.output / "removed" / "config.json").exists():
            return  # an earlier start of this command came that far
        model, structure, facts = self.learn() if self.config.structure == LEARNED else self.choose()
        small = compress.remove(model, structure)
        if self.config.fresh_weights:
            set_seed(self.config.seed)
            small = fresh_model(small)
        if self.budget:
            facts["achieved"] = self.budget.table.of(structure)
        if self.dev is not None:
            facts["wer"] = {"dev": self.dev.error_rates(small).wer}
        logger.info("Removed all but %d of %d parameters: %s", small.num_parameters(), model.num_parameters(), facts)
        self.save(small, "removed", facts)
        self.accelerator.wait_for_everyone()
        self.accelerator.free_memory()

    def choose(self) -> tuple[PreTrainedModel, Structure, dict[str, Any]]:
        """What stays, without learning: by the teacher's weights, or as a file says."""
        name = self.config.structure
        structure = DECISIONS[name](self.teacher, self.budget) if self.budget else Structure.load(name)
        return self.teacher, processes.from_main(structure), {"structure": name}

    def learn(self) -> tuple[PreTrainedModel, Structure, dict[str, Any]]:
        """Phase 1: the model with its gates folded in, the Structure they decide, and the expected size."""
        config, budget = self.config, self.budget
        assert budget is not None
        warmup = round(config.learn.budget_warmup * config.learn.steps)
        lagrangian = Lagrangian(budget.fraction, warmup, config.learn.quadratic_start)
        model = copy.deepcopy(self.teacher)
        skipping = objective_of(model, config.skipping, config.seed)
        student = GatedStudent(model, config.gates, budget, lagrangian, config.seed, skipping)
        student.model.requires_grad_(True)
        phase = Phase(self, "learn", student, config.learn, config.seed)
        phase.run()
        phase.close()
        expected = float(student.expected_share().detach()) * budget.table.full
        structure = processes.from_main(decide(budget, student.gates.scores()))
        model = student.detach()
        student.gates.fold_(model, student.gates.values(structure))
        facts = {"structure": LEARNED, "expected": expected}
        self.save(model, "gated", facts, structure)
        return model, structure, facts

    def recover(self) -> None:
        """Phase 3: distillation of the small model, read back from disk as a resumed run would."""
        removed = self.output / "removed"
        try:
            small = load_model(str(removed), device=self.accelerator.device)
        except ValueError as error:
            raise CheckpointError(
                f"{error} Delete {removed} and run the same command again to make it anew."
            ) from error
        skipping = objective_of(small, self.config.skipping, self.config.seed + 1)
        phase = Phase(self, "recover", Student(small, skipping), self.config.recover, self.config.seed + 1)
        phase.run()
        phase.close()
        if self.dev is None:
            self.save(phase.model, "final", {})

    def save(self, model: PreTrainedModel, name: str, facts: dict[str, Any], structure: Any = None) -> None:
        """A complete checkpoint with what is known of its making; facts of earlier phases are carried on."""
        if not self.accelerator.is_main_process:
            return
        made = describe("prune", self.config.teacher, size_of(self.teacher), size_of(model), self.budget)
        known = read_compression(str(self.output / "removed")) or {}
        save(model, self.processor, self.output / name, known | made | facts | {"phase": name}, structure)

    def finish(self) -> None:
        """The final numbers: requested, expected and achieved size, and what it cost."""
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            final = read_compression(str(self.output / "final")) or {}
            sizes = ("requested", "limit", "expected", "achieved", "full", "parameters_before", "parameters")
            phases = ("learn", "recover") if self.config.structure == LEARNED else ("recover",)
            done = {name: final.get(name) for name in ("structure", *sizes, "route", "wer")} | {
                phase: json.loads((self.output / phase / NUMBERS).read_text()) for phase in phases
            }
            write_json(self.output / "done.json", done)
            logger.info("Done: %s", "  ".join(f"{name} {value}" for name, value in done.items()))


def main(config: Config) -> None:
    """Compresses one model as configured; of a run that has already ended only a push that failed is tried again."""
    pruning = Pruning(config)
    start_logging()
    for name in ("learn", "recover"):
        open_checkpoints(config, name, harmless=CHANGEABLE[name]).check_settings()
    if (pruning.output / "done.json").exists():
        logger.info("%s has already ended; its numbers are in done.json there.", config.output)
    else:
        check_before(config.push, pruning.output)
        with claimed(pruning.output, "gated", "removed", "final"):
            pruning.prepare()
            start_trackers(pruning.accelerator, "prune", to_dict(config), pruning.output)
            pruning.decide()
            pruning.recover()
            pruning.finish()
    processes.leave(pruning.accelerator)
    if pruning.accelerator.is_main_process:
        push_result(config.push, pruning.output, "final")


if __name__ == "__main__":
    try:
        main(parse(Config, prog=PROGRAM, description=__doc__ or ""))
    except (ValueError, OSError) as error:
        fail(PROGRAM, error)
