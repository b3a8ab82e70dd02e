"""Compresses a Conformer to a budget: decides what stays, removes the rest, and distils until it has recovered.

One process:            accelerate launch recipes/prune.py --config configs/prune/parakeet-small_digits.yaml
Two processes on a CPU: torchrun --nproc_per_node 2 recipes/prune.py --config ...

Every key of the config can be given on the command line too: --budget.params 50% --teacher FOLDER_OR_HUB_NAME.
Started again with the same command, a run goes on from its last checkpoint as if it had never been interrupted.
What stays is decided by a look at some speech (structure: obs, fisher or variance), by the weights (magnitude,
proportional, uniform), or by a file. The output folder gets

    removed/   the smaller model, refitted in closed form (refit: null: not at all)
    final/     the smaller model after distillation; with a dev set, the best on dev

and checkpoints/, metrics (*/metrics.jsonl, TensorBoard), config.json, and done.json with the final numbers.
With push.repo_id, final/ goes to the Hub when the run has ended.
With budget.stages: [50%, 25%] each of these leaves its own folder, stages/50 and stages/25, on the way, and the run
report.html with the curve of error rates against what each size saves.
With structure: learned, gates decide, which are learned first and leave gated/: the full-size student with its gates
folded into its weights. `compress apply gated gated/structure.json --out DIR` makes the next one from it.
Without transcripts set distill.ctc to 0 and dev_split to null. A model without a CTC head (a transducer, an attention
decoder) has its encoder compressed, without transcripts. The student is in pieces (FSDP2) if the launcher says so.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from accelerate import Accelerator
from accelerate.utils import set_seed
from transformers import PreTrainedModel

import compress
from compress.checkpoint import load_config, load_model, load_recogniser
from compress.checkpoint.push import HubConfig
from compress.config import FAILURES, check_choice, fail, parse
from compress.conformers import block_mask, frame_mask
from compress.curvature.repair import RefitConfig
from compress.data import Batch
from compress.deciding.budget import BudgetConfig, decide, make_budget
from compress.deciding.by_speech import scores_by_speech
from compress.deciding.decisions import DEFAULT_DECISION, LEARNED, check_decision, reachable_budget
from compress.deciding.gates import GateConfig
from compress.deciding.uniform import UniformConfig
from compress.elastic import at_full_size
from compress.evaluation import GenerateConfig
from compress.shrinking import Calibration, needs_speech, repair, smaller
from compress.structure import Structure
from compress.training.distill import Distillation, DistillConfig
from compress.training.loop import processes
from compress.training.loop.claim import claimed, require_apart
from compress.training.loop.counts import Counts
from compress.training.loop.ending import end, has_ended, has_model, interrupted, read_back
from compress.training.loop.finite import FiniteGuard
from compress.training.loop.gradients import accumulate
from compress.training.loop.losses import Losses
from compress.training.loop.numbers import leave_numbers, numbers_of, what_it_took
from compress.training.loop.optimizer import WEIGHTS, build_optimizer, parameters_of
from compress.training.loop.position import Position, taken
from compress.training.loop.precision import autocast
from compress.training.loop.progress import Progress, start_logging
from compress.training.loop.publish import check_before, push_result
from compress.training.loop.savings import compile_blocks, recomputed
from compress.training.loop.schedule import LearnConfig, PhaseConfig, set_learning_rates
from compress.training.loop.sharding import Sharding, shorten
from compress.training.loop.unalignable import Unalignable
from compress.training.measured_budget import with_measured_budget
from compress.training.new_models import fresh_model
from compress.training.preparation import prepare_for_training
from compress.training.results import FINAL, GATED, REMOVED, Results, say_removed
from compress.training.run import (
    RunConfig,
    best_on_dev,
    dtype_to_save,
    make_accelerator,
    open_calibration,
    open_checkpoints,
    open_data,
    open_loader,
    require_same_run,
)
from compress.training.skipping_objective import SkippingConfig, objective_of, skipping_config, skipping_model
from compress.training.stages import numbers_of_stages, stages_of, steps_of
from compress.training.stages_report import report_stages
from compress.training.student import GatedStudent, Student
from compress.training.trackers import start_trackers

logger = logging.getLogger("compress.prune")

PROGRAM = "prune.py"
LEARN, RECOVER = "learn", "recover"
TeacherDtype = Literal["float32", "bfloat16"]
BF16 = "bfloat16"
CHANGEABLE: dict[str, tuple[str, ...]] = {LEARN: ("recover.*",), RECOVER: ()}
"""Settings that may still change while a phase runs: those of the phase after it."""


@dataclass(frozen=True)
class PruneRefit(RefitConfig):
    """How what is left is repaired in closed form before recovery, as `compress shrink` does it.

    Attributes:
        after_gates: whether that is done behind learned gates, too, whose weights have been trained already.
    """

    after_gates: bool = False


@dataclass(frozen=True, kw_only=True)
class Config(RunConfig):
    """One compression run.

    The settings that every run has are those of `RunConfig`.

    Attributes:
        teacher: folder or Hub name of the model to compress.
        teacher_dtype: `bfloat16`: the teacher's matrices and kernels are held in half of the memory while it teaches.
        start: folder of a smaller form of the teacher to go on from, instead of the teacher itself.
        budget: the size to reach, of the teacher.
        structure: who decides what stays: obs, fisher or variance, which look at speech, magnitude, proportional or
            uniform, or a structure.json (budget: null); `learned`: gates, in a first phase of their own.
        uniform: with structure: uniform, by which scores, and whether convolutions get narrower, too.
        rounds: sizes on the way of a decision without gates or stages, such as [75%,50%]; null: as `compress shrink`.
        refit: how what is left is repaired in closed form before recovery; null: not at all.
        fresh_weights: whether the small model starts from new weights instead of the teacher's.
        gates: what is gated, and how gates start.
        distill: the losses that hold the student to its teacher.
        learn: the phase with gates, where they decide.
        recover: the phase after removal; only here the dev set is looked at.
        skipping: intermediate outputs that learn to tell which frames can bypass the last blocks, from the CTC losses
            beside them; null: none, or those that the teacher has.
        dropout: every dropout probability of the student; null keeps those of the teacher's config.
        weight_decay: of matrices and kernels.
        max_gradient_norm: longer gradients of the weights are shortened to this.
        generate: how a model without a CTC head writes down the dev set.
        push: where `final/` goes on the Hub when the run has ended, e.g. --push.repo_id someone/small; null: nowhere.
    """

    teacher: str
    teacher_dtype: TeacherDtype = "float32"
    start: str | None = None
    budget: BudgetConfig | None
    structure: str = DEFAULT_DECISION
    uniform: UniformConfig = field(default_factory=UniformConfig)
    rounds: tuple[str, ...] | None = None
    refit: PruneRefit | None = field(default_factory=PruneRefit)
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
        check_choice("teacher_dtype", self.teacher_dtype, get_args(TeacherDtype))
        check_decision(self.structure, self.budget, self.rounds)
        if self.fresh_weights and self.structure == LEARNED:
            raise ValueError("Gates are learned on the teacher's weights: fresh_weights needs another structure.")


class Phase:
    """One phase of distillation: a student, its optimizer, and the loop that takes it through its steps."""

    def __init__(self, job: Pruning, name: str, student: Student, settings: PhaseConfig, seed: int) -> None:
        self.job, self.config, self.accelerator = job, job.config, job.accelerator
        self.student, self.settings, self.folder = student, settings, job.output / name
        config, accelerator = self.config, self.accelerator
        prepare_for_training(student.model.train(), dropout=config.dropout)
        self.sharding = Sharding(accelerator, student)
        self.distillation = Distillation(student.model, job.teacher, config.distill, config.teacher_dtype == BF16)
        self.loader = open_loader(config, job.train_set, job.processor, accelerator, seed)
        optimizer = build_optimizer(student.groups(settings, config.weight_decay), config.optim)
        self.wrapped, self.optimizer = self.sharding.prepare(optimizer)
        for model in (job.teacher, student.model):
            compile_blocks(model, config.compile)
        set_seed(seed, device_specific=True)  # dropout noise of each rank's own
        self.step, self.position, self.best, self.unalignable = 0, Position(), best_on_dev(config), Unalignable()
        models = {"teacher": job.teacher, "student": student.model}
        self.guard = FiniteGuard(student, models, config.max_skipped_steps, config.precision)
        self.progress = Progress(
            settings.steps, description=name, directory=self.folder, accelerator=accelerator,
            waited=lambda: self.loader.wait_seconds, log_every=config.log_every_steps,
            steps_before=job.steps_before + (steps_of(config) - settings.steps if name == RECOVER else 0),
        )  # fmt: skip
        self.states: dict[str, Any] = dict(student.states())
        self.states |= {"position": self.position, "best": self.best, "guard": self.guard}
        self.states |= {"unalignable": self.unalignable, "progress": self.progress}
        self.checkpoints = open_checkpoints(config, name, harmless=CHANGEABLE[name])
        if restored := self.checkpoints.restore(self.states, self.wrapped, self.optimizer):
            self.step = restored.step
        logger.info("%s: %s at step %d of %d", config.output, name, self.step, settings.steps)

    def loss_step(self, batch: Batch, counts: Counts) -> Losses:
        """Every loss of one batch by name, weighted. Student and teacher see the same features."""
        again = recomputed(self.student.model, self.config.gradient_checkpointing)
        with autocast(self.accelerator.device, self.config.precision), again:
            target = self.distillation.target(batch.inputs)
            output = self.wrapped(**batch.inputs)
        mask = frame_mask(self.job.teacher, batch.inputs, output.shape[1])
        blocks = block_mask(self.job.teacher, batch.inputs, mask)
        labels = batch.labels if self.config.distill.ctc else None
        distilled, unalignable = self.distillation.losses(output, target, mask, labels, blocks, counts)
        self.unalignable.note(unalignable, batch.ids)
        return Losses.summed(distilled | self.student.losses(output, mask, labels, self.step, counts))

    def run(self) -> Student:
        """The loop: some batches, one step. Returns the student in one piece."""
        config, settings = self.config, self.settings
        weights = parameters_of(self.optimizer, WEIGHTS)
        with self.position.reading(self.loader) as batches, self.progress.running(self.step):
            if self.step == 0:
                self.evaluate()  # recovery has to be better than its start to become the final model
            while self.step < settings.steps:
                set_learning_rates(self.optimizer, {WEIGHTS: settings.rate(self.step)})
                of_step = [batch.to(self.accelerator.device) for batch in taken(batches, config.accumulate)]
                self.guard.remember()
                self.student.draw()
                losses = accumulate(self.accelerator, self.wrapped, self.student.model, of_step, self.loss_step)
                if accepted := self.guard.accepts(losses, of_step, self.step):
                    losses = losses.with_metrics(gradient_norm=shorten(weights, config.max_gradient_norm))
                    self.optimizer.step()
                    self.student.after_step()
                self.optimizer.zero_grad(set_to_none=True)

                self.step += 1
                self.progress.advance(self.step, losses if accepted else None, self.measured)
                if self.step % config.evaluate_every_steps == 0 or self.step == settings.steps:
                    self.evaluate()
                if self.step % config.checkpoint_every_steps == 0 or self.step == settings.steps:
                    self.guard.confirm(self.step)
                    with self.progress.pause():
                        self.checkpoints.save(self.step, self.states, self.wrapped, self.optimizer)
        self.distillation.close()
        leave_numbers(self.folder, what_it_took(self.step, self.progress, self.guard, self.unalignable))
        return self.sharding.whole()

    def measured(self) -> dict[str, float]:
        """What is worth following beside the losses."""
        always = {"learning_rate": self.settings.rate(self.step - 1), "skipped_steps": self.guard.skipped}
        return always | self.student.statistics(self.step)

    def evaluate(self) -> None:
        """In the recovery phase: error rates on the dev set; the best model so far becomes the final one."""
        if isinstance(self.student, GatedStudent) or self.job.dev is None:
            return
        self.guard.confirm(self.step)
        with self.progress.pause():
            model = self.sharding.whole().model
            rates = self.job.dev.error_rates(model)
            self.progress.report(self.step, {"dev/wer": rates.wer, "dev/cer": rates.cer})
            if self.best.improved(rates.wer, self.step):
                self.job.results.save(model, FINAL, {"wer": {"dev": rates.wer}})


class Pruning:
    """The whole job, or a stage of it: from a teacher and a budget to a small model that has recovered."""

    def __init__(self, config: Config, accelerator: Accelerator, of_run: Config, steps_before: int) -> None:
        self.config, self.accelerator, self.output = config, accelerator, Path(config.output)
        self.of_run, self.steps_before = of_run, steps_before
        before = skipping_config(load_config(config.teacher), config.skipping, of_run.start)
        config.distill.require_head(before, config.teacher)
        # A budget that cannot be reached is refused before anything is loaded.
        deciding = (config.structure, config.gates, load_config(config.start) if config.start else None, config.uniform)
        self.budget = reachable_budget(config.budget, before, *deciding) if config.budget else None
        loaded, self.processor = load_recogniser(config.teacher, device=accelerator.device)
        self.start = self.teacher = skipping_model(loaded, config.skipping).requires_grad_(False)
        if config.start is not None:
            with read_back(Path(config.start)):
                self.start = load_model(config.start, device=accelerator.device)
        wanted: dict[str, Any] = {"labels": config.distill.ctc > 0, "generate": config.generate}
        self.train_set, self.dev = open_data(config, self.processor, accelerator, **wanted)
        whole = make_budget(config.budget, before) if config.budget else None
        dtype = dtype_to_save(config, config.teacher)
        self.results = Results(self.output, config.teacher, self.teacher, self.processor, whole, dtype)

    def run(self) -> None:
        """The three phases; of those that an earlier start has finished, the results are used."""
        start_trackers(self.accelerator, "prune", self.config, self.of_run)
        if not has_model(self.output / REMOVED):
            self.removed(*(self.learn() if self.config.structure == LEARNED else self.choose()))
        self.recover()
        self.finish()

    def learn(self) -> tuple[PreTrainedModel, Structure, dict[str, Any]]:
        """Phase 1: the model with its gates folded in, the Structure they decide, and the expected size."""
        config, budget = self.config, self.budget
        assert budget is not None
        start, scores = at_full_size(self.start), None
        if way := config.gates.start:
            speech, table, front = self.speech(), budget.table, budget.front
            scores = processes.from_main(scores_by_speech(way, start, table, speech.batches, speech.total, front=front))
        learn, skipping, seed = config.learn, config.skipping, config.seed
        student = GatedStudent.of(start, config.gates, budget, learn, skipping, seed, scores)
        learned = Phase(self, LEARN, student, learn, seed).run()
        assert isinstance(learned, GatedStudent)
        structure = processes.from_main(decide(budget, learned.gates.scores()))
        facts = {"structure": LEARNED, "expected": learned.expected_size()}
        model = learned.fold(structure)
        self.results.save(model, GATED, facts, structure)
        small = compress.remove(model, structure).eval()
        if config.refit and config.refit.after_gates:
            facts["repair"] = repair(small, self.exact_teacher(), self.speech(), config.refit)
        return small, structure, facts

    def exact_teacher(self) -> PreTrainedModel:
        """The teacher as its checkpoint has it: what was rounded for distillation is read anew."""
        if self.config.teacher_dtype == BF16:
            whole = load_model(self.config.teacher, device=self.accelerator.device)
            self.teacher = skipping_model(whole, self.config.skipping).requires_grad_(False)
        return self.teacher

    def choose(self) -> tuple[PreTrainedModel, Structure, dict[str, Any]]:
        """Instead of phase 1: the smaller model by a look at speech, by the teacher's weights, or as a file says."""
        config = self.config
        refit = None if config.fresh_weights else config.refit
        speech = self.speech() if needs_speech(config.structure, refit, config.uniform) else None
        how = (config.structure, self.budget, config.rounds, speech, refit, self.start, config.uniform)
        shrunk = smaller(self.teacher, *how)
        return shrunk.model, shrunk.structure, {"structure": config.structure, "rounds": shrunk.rounds}

    def speech(self) -> Calibration:
        """The training speech that a decision or a refit looks at."""
        utterances = (self.config.refit or RefitConfig()).utterances
        return open_calibration(self.config, self.teacher, self.train_set, self.processor, utterances)

    def removed(self, small: PreTrainedModel, structure: Structure, facts: dict[str, Any]) -> None:
        """Phase 2: the smaller model, as recovery finds it."""
        if self.config.fresh_weights:
            set_seed(self.config.seed)
            small = fresh_model(small)
        if self.budget:
            facts["achieved"] = self.budget.table.of(structure)
        if self.dev is not None:
            facts["wer"] = {"dev": self.dev.error_rates(small).wer}
        say_removed(small, self.teacher, facts)
        self.results.save(small, REMOVED, facts)
        self.accelerator.wait_for_everyone()
        self.accelerator.free_memory()

    def recover(self) -> None:
        """Phase 3: distillation of the small model, read back from disk as a resumed run would."""
        config, seed = self.config, self.config.seed + 1
        with read_back(self.output / REMOVED):
            small = load_model(str(self.output / REMOVED), device=self.accelerator.device)
        student = Student(small, objective_of(small, config.skipping, seed))
        recovered = Phase(self, RECOVER, student, config.recover, seed).run().model
        if self.dev is None:
            self.results.save(recovered, FINAL, {})

    def finish(self) -> None:
        """The final numbers: requested, expected and achieved size, and what each phase took."""
        if self.dev is not None:
            self.dev.close()
        self.accelerator.wait_for_everyone()
        self.accelerator.free_memory()
        if self.accelerator.is_main_process:
            phases = (LEARN, RECOVER) if self.config.structure == LEARNED else (RECOVER,)
            numbers = self.results.numbers() | numbers_of(self.output, *phases) | numbers_of_stages(self.output)
            report = report_stages(self.output, self.config.teacher, self.exact_teacher, self.dev, numbers)
            end(self.output, numbers | report, PROGRAM, FINAL)


def main(config: Config) -> None:
    """Compresses one model as configured; of a run that has already ended only a push that failed is tried again."""
    accelerator, output = make_accelerator(config), Path(config.output)
    start_logging()
    config = with_measured_budget(config, accelerator)
    stages = stages_of(config, load_config(config.teacher))
    for stage in stages:
        require_apart(config.teacher, Path(stage.output), GATED, REMOVED, FINAL)
        require_same_run(stage, REMOVED, CHANGEABLE)
    if not has_ended(output, PROGRAM):
        check_before(config.push, output)
        for number, stage in enumerate(stages):
            if not has_ended(Path(stage.output), PROGRAM):
                with claimed(Path(stage.output), GATED, REMOVED, FINAL):
                    Pruning(stage, accelerator, config, steps_of(*stages[:number])).run()
    processes.leave(accelerator)
    if accelerator.is_main_process:
        push_result(config.push, output, FINAL)


if __name__ == "__main__":
    try:
        main(parse(Config, prog=PROGRAM, description=__doc__ or ""))
    except FAILURES as error:
        fail(PROGRAM, error)
    except KeyboardInterrupt:
        interrupted(PROGRAM)
