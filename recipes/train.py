"""Trains a CTC Conformer, from scratch or from a checkpoint: the teacher that recipes/prune.py compresses.

One process:            accelerate launch --cpu recipes/train.py --config configs/train/parakeet-small_digits.yaml
All GPUs of a machine:  accelerate launch recipes/train.py --config ...
Two processes on a CPU: torchrun --nproc_per_node 2 recipes/train.py --config ...

Every key of the config can be given on the command line too: --data.source DIR --optimizer.learning_rate 3e-4.
Started again with the same command, a run goes on from its last checkpoint as if it had never been interrupted.
It leaves in the output folder

    best/, last/      the model with the lowest dev WER and the final one, each with its processor
    checkpoints/      what a resumed run needs
    metrics.jsonl     every number over time (the files of TensorBoard lie beside it)
    done.json         the final numbers, once the run has ended

The model is in pieces while it is trained (FSDP2), if the launcher says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import set_seed
from transformers import PreTrainedModel

from compress.config import FAILURES, fail, parse
from compress.conformers import frame_mask
from compress.data import Batch
from compress.elastic import ElasticConfig, make_elastic, rule_structures
from compress.training.inter_ctc import InterCtcConfig
from compress.training.loop import processes
from compress.training.loop.claim import claimed, require_apart
from compress.training.loop.counts import Counts
from compress.training.loop.ending import end, has_ended, interrupted
from compress.training.loop.finite import FiniteGuard
from compress.training.loop.gradients import accumulate
from compress.training.loop.losses import Losses
from compress.training.loop.numbers import what_it_took
from compress.training.loop.optimizer import WEIGHTS, build_optimizer, parameters_of, weight_groups
from compress.training.loop.position import Position, taken, total_steps
from compress.training.loop.precision import autocast
from compress.training.loop.progress import Progress, start_logging
from compress.training.loop.savings import compile_blocks, recomputed
from compress.training.loop.schedule import set_learning_rates
from compress.training.loop.sharding import Sharding, shorten
from compress.training.loop.unalignable import Unalignable
from compress.training.new_models import build_model, note_length
from compress.training.recogniser import Recogniser
from compress.training.run import (
    best_on_dev,
    dtype_to_save,
    make_accelerator,
    open_checkpoints,
    open_data,
    open_loader,
    save_model,
)
from compress.training.skipping_objective import SkippingConfig, skipping_model
from compress.training.stochastic_depth import check_rate
from compress.training.supernet_results import Rates, mean_wer, rates_as_metrics, rates_by_size
from compress.training.supervised import PROCESSOR, SupervisedConfig, announce, find_processor
from compress.training.trackers import start_trackers

PROGRAM = "train.py"
BEST, LAST = "best", "last"


@dataclass(frozen=True, kw_only=True)
class Config(SupervisedConfig):
    """One training run.

    The settings that every run on transcripts has are those of `SupervisedConfig`.

    Attributes:
        inter_ctc: CTC losses of inner blocks as well; null: none.
        stochastic_depth: probability of the last block to be left out of a training batch, with those before it in
            proportion to their depth; 0: none. 0.3 together with `inter_ctc` prepares a model for running at several
            depths.
        skipping: intermediate outputs that learn to tell which frames are blank and can bypass the last blocks;
            null: none, or those that the checkpoint has.
        elastic: the depths at which the saved models can run; null: one depth, as it is trained.
    """

    inter_ctc: InterCtcConfig | None = None
    stochastic_depth: float = 0.0
    skipping: SkippingConfig | None = None
    elastic: ElasticConfig | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_rate(self.stochastic_depth)


class Training:
    """The job: a model, all that is trained with it, and the loop that takes it through its steps."""

    def __init__(self, config: Config, accelerator: Accelerator) -> None:
        self.config, self.accelerator, self.output = config, accelerator, Path(config.output)
        self.checkpoints = open_checkpoints(config)
        resuming = self.checkpoints.latest() is not None
        self.processor = find_processor(config, accelerator, resuming=resuming)
        self.blank: int = self.processor.tokenizer.pad_token_id
        train_set, self.dev = open_data(config, self.processor, accelerator)
        self.loader = open_loader(config, train_set, self.processor, accelerator, config.seed)

        # Equal weights on every rank, then dropout noise of each rank's own.
        set_seed(config.seed)
        built = build_model(
            config.model,
            vocabulary_size=len(self.processor.tokenizer),
            blank=self.blank,
            keep_sizes=config.elastic is not None,
        )
        note_length(built, train_set.seconds)
        self.model, self.dtype = skipping_model(built, config.skipping), dtype_to_save(config, config.model.checkpoint)
        elastic = config.elastic and config.elastic.resolved(inter_ctc=config.inter_ctc is not None)
        self.depths = rule_structures(self.model, elastic) if elastic else {}
        self.recogniser = Recogniser(
            self.model,
            inter_ctc=config.inter_ctc,
            stochastic_depth=config.stochastic_depth,
            skipping=config.skipping,
            new=config.model.checkpoint is None,
            seed=config.seed,
        )
        groups = weight_groups(self.recogniser, config.optimizer.learning_rate, config.optimizer.weight_decay)
        self.sharding = Sharding(accelerator, self.recogniser)
        self.wrapped, self.optimizer = self.sharding.prepare(build_optimizer(groups, config.optim))
        compile_blocks(self.model, config.compile)
        set_seed(config.seed, device_specific=True)

        self.total_steps = config.max_steps or total_steps(self.loader, config.epochs, config.accumulate)
        config.optimizer.check_length(self.total_steps)
        self.step, self.position, self.best, self.unalignable = 0, Position(), best_on_dev(config), Unalignable()
        self.guard = FiniteGuard(self.recogniser, {"model": self.model}, config.max_skipped_steps, config.precision)
        self.progress = Progress(
            self.total_steps, description="train", directory=self.output, accelerator=accelerator,
            waited=lambda: self.loader.wait_seconds, log_every=config.log_every_steps,
        )  # fmt: skip
        self.states = {
            "position": self.position,
            "best": self.best,
            "unalignable": self.unalignable,
            "guard": self.guard,
            "progress": self.progress,
            **self.recogniser.states(),
        }
        if restored := self.checkpoints.restore(self.states, self.wrapped, self.optimizer):
            self.step = restored.step

    def run(self) -> None:
        """Says what is going to happen, trains, and leaves the last model and the final numbers."""
        start_trackers(self.accelerator, "train", self.config)
        announce(self.config, self.model, self.loader, self.step, self.total_steps)
        self.train()
        self.finish()
        if self.dev is not None:
            self.dev.close()

    def loss_step(self, batch: Batch, counts: Counts) -> Losses:
        """The CTC losses of one batch; utterances too short for their transcript are left out, and named once."""
        again = recomputed(self.model, self.config.gradient_checkpointing)
        with autocast(self.accelerator.device, self.config.precision), again:
            logits = self.wrapped(**batch.inputs)
        frames = frame_mask(self.model, batch.inputs, logits[0].shape[1])
        losses, unalignable = self.recogniser.losses(logits, frames, batch.labels, self.blank, counts)
        self.unalignable.note(unalignable, batch.ids)
        return losses

    def train(self) -> None:
        """The loop: some batches, one step."""
        config, rates, weights = self.config, self.config.optimizer, parameters_of(self.optimizer, WEIGHTS)
        with self.position.reading(self.loader) as batches, self.progress.running(self.step):
            while self.step < self.total_steps:
                rate = rates.learning_rate * rates.factor(self.step, self.total_steps)
                set_learning_rates(self.optimizer, {WEIGHTS: rate})

                of_step = [batch.to(self.accelerator.device) for batch in taken(batches, config.accumulate)]
                self.guard.remember()
                self.recogniser.draw()
                losses = accumulate(self.accelerator, self.wrapped, self.model, of_step, self.loss_step)
                if accepted := self.guard.accepts(losses, of_step, self.step):
                    losses = losses.with_metrics(gradient_norm=shorten(weights, rates.max_gradient_norm))
                    self.optimizer.step()
                self.optimizer.zero_grad(set_to_none=True)

                self.step += 1
                self.progress.advance(self.step, losses if accepted else None, partial(self.measured, rate))
                if self.step % config.evaluate_every_steps == 0 and self.step < self.total_steps:
                    self.evaluate(self.sharding.whole())
                if self.step % config.checkpoint_every_steps == 0 or self.step == self.total_steps:
                    self.guard.confirm(self.step)
                    with self.progress.pause():
                        self.checkpoints.save(self.step, self.states, self.wrapped, self.optimizer)

    def measured(self, learning_rate: float) -> dict[str, float]:
        """What is worth following beside the losses."""
        return {"learning_rate": learning_rate, "skipped_steps": self.guard.skipped}

    def evaluate(self, whole: Recogniser) -> Rates:
        """Error rates of the model in one piece on the dev set, at every depth; the best one of all so far is saved."""
        assert self.dev is not None
        self.guard.confirm(self.step)
        with self.progress.pause():
            model = self.elastic_model(whole)
            rates = rates_by_size(self.dev, model) if self.depths else {"": vars(self.dev.error_rates(model))}
            *_, full = rates.values()
            self.progress.report(self.step, rates_as_metrics(rates) | {"dev/cer": full["cer"]})
            if self.best.improved(mean_wer(rates), self.step):
                save_model(model, self.processor, self.output / BEST, self.dtype)
        return rates

    def elastic_model(self, whole: Recogniser) -> PreTrainedModel:
        """The model as it is saved: with its depths, if it is to have several."""
        heads = whole.inter_ctc.heads_of(self.depths) if whole.inter_ctc else {}
        return make_elastic(whole.model, self.depths, heads=heads) if self.depths else whole.model

    def finish(self) -> None:
        """The last model and the final numbers."""
        whole = self.sharding.whole()
        rates = self.evaluate(whole)
        *_, full = rates.values()
        by_depth = {"last_dev_wer_by_depth": {depth: of_depth["wer"] for depth, of_depth in rates.items()}}
        save_model(self.elastic_model(whole), self.processor, self.output / LAST, self.dtype)
        done = what_it_took(self.step, self.progress, self.guard, self.unalignable) | {
            "best_dev_wer": self.best.value,
            "best_step": self.best.step,
            "last_dev_wer": full["wer"],
            "last_dev_cer": full["cer"],
            "parameters": whole.model.num_parameters(),
            **(by_depth if self.depths else {}),
        }
        if self.accelerator.is_main_process:
            end(self.output, done, PROGRAM, BEST, LAST)


def main(config: Config) -> None:
    """Trains one model as configured; returns at once if the run in `config.output` has already ended."""
    some_unused = config.stochastic_depth > 0 or config.model.checkpoint is not None  # which may be elastic
    accelerator, output = make_accelerator(config, some_unused=some_unused), Path(config.output)
    start_logging()
    require_apart(config.model.checkpoint, output, BEST, LAST)
    open_checkpoints(config).check_settings()
    if has_ended(output, PROGRAM):
        return
    with claimed(output, BEST, LAST, PROCESSOR):
        Training(config, accelerator).run()
        processes.leave(accelerator)


if __name__ == "__main__":
    try:
        main(parse(Config, prog=PROGRAM, description=__doc__ or ""))
    except FAILURES as error:
        fail(PROGRAM, error)
    except KeyboardInterrupt:
        interrupted(PROGRAM)
