"""What every training recipe shares: the settings of a run, the accelerator, the data, the dev set."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, GradientAccumulationPlugin, ProjectConfiguration
from transformers import PreTrainedModel

from compress.checkpoint.saving import write_weights
from compress.checkpoint.weights import stored_dtype
from compress.config import check, check_at_least, check_choice, to_dict
from compress.data import (
    AugmentConfig,
    BadDataError,
    BatchConfig,
    Problem,
    SpeechConfig,
    SpeechDataset,
    SpeechLoader,
    feature_extractor_of,
    open_speech,
    require_split,
    vocabulary_of,
    write_problems,
)
from compress.evaluation import ErrorRates, GenerateConfig, error_rates, transcribe
from compress.evaluation.transcribe import batching_for
from compress.files.reading import read_object
from compress.files.writing import replaced_folder, write_json
from compress.machine import DTYPES, own_cores
from compress.shrinking import Calibration, read_calibration
from compress.training.loop import processes
from compress.training.loop.best import Best
from compress.training.loop.checkpoints import Checkpoints
from compress.training.loop.ending import has_model
from compress.training.loop.launcher import require_obeyed, require_shardable, wants_sharding
from compress.training.loop.optimizer import OptimizerName, require_optimizer
from compress.training.loop.precision import Precision, autocast
from compress.training.loop.same_run import flatten, require_same
from compress.training.loop.sharding import shard_on_cpu

logger = logging.getLogger(__name__)

SETTINGS_FILE = "config.json"
"""In the folder of a run: its settings, when it was last started."""
SavedDtype = Literal["auto", "float32", "bfloat16", "float16"]

HARMLESS = (
    "output", "dev", "dev.*", "dev_*", "evaluate_every_steps", "checkpoint_every_steps", "keep_checkpoints",
    "log_every_steps", "max_skipped_steps", "trackers", "batch.workers", "batch.prefetch_batches", "data.cache_*",
    "push", "push.*", "gradient_checkpointing",
)  # fmt: skip
"""Settings that may change between the start of a run and its resumption: they touch neither weights nor data."""


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What every training run has.

    Attributes:
        output: folder of the run.
        data: the training set; `data.split` is its split.
        dev_split: split of the dev set, which is otherwise read like the training set; null evaluates nothing.
        dev: the dev set, if it is another source.
        dev_limit: evaluate on the first so many dev utterances; null takes all.
        batch: how utterances are put together.
        augment: augmentation of the training batches.
        optim: `adamw`; `adamw_8bit`, which keeps its moments in a quarter of the memory (torchao); or `muon`, which
            needs far fewer steps for the matrices and kernels of one frame (AdamW has the rest).
        gradient_checkpointing: keep of a forward pass what goes into blocks alone, and compute blocks again in the
            backward pass: the same gradients in much less memory, and about a third more time.
        compile: run blocks compiled by `torch.compile`, for batches of any size; not with `gradient_checkpointing`.
        accumulate: batches of one step, which is that of a batch so many times as large; nothing that is drawn for a
            step (gates, which frames skip, what is left out at random) differs between them.
        dtype: of the weights in the models that are saved: float32, bfloat16 or float16; auto: that of the checkpoint
            from which the run begins, float32 where it begins with none.
        precision: bf16 where the machine has it in hardware (auto), or always one of bf16 and fp32.
        seed: of everything random.
        evaluate_every_steps: steps between evaluations on the dev set; there is one at the end in any case.
        checkpoint_every_steps: steps between checkpoints.
        keep_checkpoints: how many of them stay.
        log_every_steps: steps between reports.
        max_skipped_steps: steps whose gradient is not finite after which the run gives up.
        trackers: of accelerate, such as tensorboard or wandb.
        threads: CPU threads of each process; null shares this machine's cores among its processes. (`accelerate launch`
            sets OMP_NUM_THREADS to 1 where it finds no GPU, which would leave all cores but one idle.)
    """

    output: str
    data: SpeechConfig
    dev_split: str | None = "dev"
    dev: SpeechConfig | None = None
    dev_limit: int | None = None
    batch: BatchConfig = field(default_factory=BatchConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    accumulate: int = 1
    optim: OptimizerName = "adamw"
    gradient_checkpointing: bool = False
    compile: bool = False
    dtype: SavedDtype = "auto"
    precision: Precision = "auto"
    seed: int = 0
    evaluate_every_steps: int = 500
    checkpoint_every_steps: int = 500
    keep_checkpoints: int = 2
    log_every_steps: int = 20
    max_skipped_steps: int = 20
    trackers: tuple[str, ...] = ("tensorboard",)
    threads: int | None = None

    def __post_init__(self) -> None:
        check(bool(self.output), "output", self.output, "give the folder of the run")
        check_choice("dtype", self.dtype, get_args(SavedDtype))
        require_optimizer(self.optim)
        counts = ("evaluate_every_steps", "checkpoint_every_steps", "keep_checkpoints", "log_every_steps")
        for name in (*counts, "accumulate", "max_skipped_steps", "threads", "dev_limit"):
            check_at_least(name, getattr(self, name), 1)
        if self.data.mix and self.dev is None and self.dev_split is not None:
            raise ValueError("data.mix has no dev set of its own: name one with dev.source, or set dev_split to null.")
        if self.compile and self.gradient_checkpointing:
            raise ValueError(
                "compile: true has no effect beside gradient_checkpointing: true, since blocks that are computed again "
                "run uncompiled; set one of them to false."
            )


def open_checkpoints(config: RunConfig, *parts: str, harmless: Sequence[str] = ()) -> Checkpoints:
    """The checkpoints of a run, or of one of its phases, which refuse to resume with other settings.

    Args:
        config: of the run; the recipe's own settings are part of it.
        parts: below `<output>/checkpoints`, e.g. the name of a phase.
        harmless: settings that may change beside `HARMLESS`.
    """
    folder = Path(config.output, "checkpoints", *parts)
    return Checkpoints(folder, config.keep_checkpoints, settings=to_dict(config), harmless=(*HARMLESS, *harmless))


def require_same_run(config: RunConfig, folder: str, changeable: Mapping[str, Sequence[str]]) -> None:
    """Refuses to go on from a model, or a checkpoint, that an earlier start has left with other settings.

    Args:
        config: of the run.
        folder: of the model that the first phase leaves, in the run's output.
        changeable: by phase, settings that may have changed since beside `HARMLESS`.

    Raises:
        SettingsChangedError: naming the keys that differ.
    """
    output = Path(config.output)
    if has_model(output / folder) and (output / SETTINGS_FILE).exists():
        settings = json.loads(json.dumps(to_dict(config)))  # as a file holds them: tuples are lists there
        allowed = (*HARMLESS, *next(iter(changeable.values())))
        require_same(read_object(output / SETTINGS_FILE), settings, harmless=allowed, where=str(output / folder))
    for phase, harmless in changeable.items():
        open_checkpoints(config, phase, harmless=harmless).check_settings()


def open_loader(
    config: RunConfig, dataset: SpeechDataset, processor: Any, accelerator: Accelerator, seed: int
) -> SpeechLoader:
    """The training batches of this rank, in an order that follows from the seed."""
    return SpeechLoader(
        dataset,
        processor,
        config.batch,
        augment=config.augment,
        seed=seed,
        rank=accelerator.process_index,
        world_size=accelerator.num_processes,
    )


def open_calibration(
    config: RunConfig, model: PreTrainedModel, dataset: SpeechDataset, processor: Any, utterances: int
) -> Calibration:
    """Some training utterances that a model is looked at with, divided among the processes; see `read_calibration`.

    Args:
        config: of the run.
        model: in eval mode.
        dataset: the training set.
        processor: the model's own.
        utterances: how many, over all processes.
    """
    return read_calibration(
        model, processor, dataset, utterances, config.batch, seed=config.seed,
        rank=processes.rank(), world_size=processes.world_size(), total=processes.summed, agreed=processes.from_main,
    )  # fmt: skip


def make_accelerator(config: RunConfig, *, some_unused: bool = False) -> Accelerator:
    """An accelerator for one or many processes on whatever devices there are; autocast stays the recipe's.

    Args:
        config: of the run; trackers write to its output folder, and it says how many CPU threads to use.
        some_unused: whether there are steps in which some trained parameters get no gradient, which distributed
            training must know.

    Raises:
        ValueError: if the launcher asks for something that is not obeyed here.
    """
    require_obeyed(config.precision, config.accumulate)
    require_shardable(compiled=config.compile, optim=config.optim)
    accelerator = Accelerator(
        cpu=not torch.accelerator.is_available(),
        mixed_precision="no",  # autocast is ours, around the forward pass only
        gradient_accumulation_plugin=GradientAccumulationPlugin(config.accumulate, sync_with_dataloader=False),
        log_with=list(config.trackers) or None,
        project_config=ProjectConfiguration(project_dir=config.output, logging_dir=config.output),
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=some_unused)],
    )
    if wants_sharding():
        shard_on_cpu(accelerator)
    torch.set_num_threads(config.threads or own_cores())
    return accelerator


def dtype_to_save(config: RunConfig, checkpoint: str | None) -> torch.dtype | None:
    """The type of the weights in the models that a run saves.

    Args:
        config: of the run.
        checkpoint: folder or Hub name of the model from which it begins, once that was loaded; None: a new one.
    """
    if config.dtype != "auto":
        return DTYPES[config.dtype]
    return stored_dtype(checkpoint) if checkpoint else None


def save_model(model: PreTrainedModel, processor: Any, folder: Path, dtype: torch.dtype | None = None) -> None:
    """Saves a model and its processor in transformers' format, on rank 0; the folder appears whole or not at all.

    Args:
        model: in training or not.
        processor: its feature extractor and tokenizer.
        folder: where to; an older model there is replaced.
        dtype: of the weights in the files; None: as they are.
    """
    if processes.rank() == 0:
        with replaced_folder(folder) as fresh:
            write_weights(model, fresh, dtype)
            processor.save_pretrained(fresh)


class DevSet:
    """The dev set of a run, divided among its processes.

    Args:
        dataset: the utterances, with transcripts.
        processor: of the model that will be evaluated.
        batch: how utterances are put together, unless the output depends on padding: then they run one by one.
        accelerator: tells ranks apart, and the device.
        precision: of the forward passes.
        generate: how a model without a CTC head writes.
    """

    def __init__(
        self,
        dataset: SpeechDataset,
        processor: Any,
        batch: BatchConfig,
        accelerator: Accelerator,
        precision: Precision,
        generate: GenerateConfig | None = None,
    ) -> None:
        self.dataset, self.processor, self.batch = dataset, processor, batch
        self.accelerator, self.precision, self.generate = accelerator, precision, generate
        self._loaders: dict[BatchConfig, SpeechLoader] = {}

    def error_rates(self, model: PreTrainedModel) -> ErrorRates:
        """Error rates of a model, the same on every rank. All ranks must call it; the model comes back in its mode."""
        return error_rates(*self.written(model))

    def written(self, model: PreTrainedModel) -> tuple[list[str], list[str]]:
        """What was said and what a model writes, the same on every rank; see `error_rates`."""
        with autocast(self.accelerator.device, self.precision):
            processes.share_buffers(model)
            loader = self._loader(batching_for(model, self.batch))
            part = list(zip(*transcribe(model, loader, self.processor, config=self.generate), strict=True))
        every = {row[0]: row for rows in processes.gather(part) for row in rows}
        said, written = ([row[column] for row in every.values()] for column in (1, 2))
        return said, written

    def close(self) -> None:
        """Ends the worker processes; call it behind the last evaluation."""
        for loader in self._loaders.values():
            loader.close()

    def _loader(self, batch: BatchConfig) -> SpeechLoader:
        """The loader of such batches, whose workers live on from one evaluation to the next.

        Each start of workers forks a process with threads. Where several processes train together, threads of gloo or
        NCCL are at work at any time by then, and a lock that one of them holds stays locked in the fork for ever: there
        each process reads its share itself.
        """
        if batch not in self._loaders:
            several = self.accelerator.num_processes > 1
            self._loaders[batch] = SpeechLoader(
                self.dataset, self.processor, replace(batch, workers=0) if several else batch, shuffle=False,
                rank=self.accelerator.process_index, world_size=self.accelerator.num_processes,
            )  # fmt: skip
        return self._loaders[batch]


def open_data(
    config: RunConfig,
    processor: Any,
    accelerator: Accelerator,
    *,
    labels: bool = True,
    generate: GenerateConfig | None = None,
) -> tuple[SpeechDataset, DevSet | None]:
    """Opens the training set and the dev set, checked against what the processor can spell.

    `<output>/skipped.jsonl` lists every entry that cannot be used, if there are any, also where they stop the run; a
    stream finds them later, and logs them. `remarks.jsonl` lists what was noticed otherwise, `data.json` what a mix is
    made of.

    Args:
        config: says which.
        processor: feature extractor and tokenizer of the model.
        accelerator: rank 0 fills the caches, the others find them filled.
        labels: whether the training set needs transcripts.
        generate: how a model without a CTC head writes down the dev set.

    Returns:
        The training set, and the dev set unless there is none.

    Raises:
        BadDataError: if more of a set than its `max_bad_fraction` cannot be used.
        ValueError: if a source cannot be opened, is not divided into a training and a dev set, or has fewer utterances
            than there are processes.
    """
    rate, vocabulary = feature_extractor_of(processor).sampling_rate, vocabulary_of(processor)
    problems: list[Problem] = []
    remarks: list[Problem] = []
    try:
        with accelerator.main_process_first():
            train_set = open_speech(config.data, sampling_rate=rate, vocabulary=vocabulary, labels=labels)
            _write_sources(train_set, config)
            problems += train_set.problems
            remarks += train_set.remarks
            if (dev := _dev_config(config)) is None:
                return train_set, None
            dev_set = open_speech(dev, sampling_rate=rate, vocabulary=vocabulary)
            problems += dev_set.problems
            remarks += dev_set.remarks
    except BadDataError as error:
        problems += error.problems
        raise
    finally:
        if accelerator.is_main_process:
            write_problems(problems, Path(config.output, "skipped.jsonl"))
            write_problems(remarks, Path(config.output, "remarks.jsonl"), "what was noticed of data that are used")
    require_split(train_set, dev_set)
    for data, name in ((train_set, "data"), (dev_set, "dev")):
        _require_share(data, name, accelerator.num_processes)
    return train_set, DevSet(dev_set, processor, config.batch, accelerator, config.precision, generate)


def best_on_dev(config: RunConfig) -> Best:
    """The best model by the dev set of a run: one that is resumed with another dev set judges anew."""
    speech = _dev_config(config)
    settings = flatten(to_dict(speech)) if speech else {}
    said = {key: value for key, value in settings.items() if not key.startswith("cache_")}
    return Best(on=json.dumps(said, sort_keys=True))


def _dev_config(config: RunConfig) -> SpeechConfig | None:
    if config.dev is None and config.dev_split is None:
        return None
    dev = config.dev or replace(config.data, split=config.dev_split or "", limit=None)
    return replace(dev, limit=config.dev_limit or dev.limit)


def _write_sources(train_set: SpeechDataset, config: RunConfig) -> None:
    """Writes what a mix is made of to `data.json`, on rank 0; nothing of one source alone."""
    if processes.rank() == 0 and (sources := train_set.by_source()):
        write_json(Path(config.output, "data.json"), {"sources": sources})


def _require_share(dataset: SpeechDataset, name: str, world_size: int) -> None:
    """Refuses a set of which some process would get nothing; what a stream holds is not known beforehand."""
    if not dataset.streaming and len(dataset) < world_size:
        raise ValueError(
            f"{name}: {dataset.name} has {len(dataset)} utterances for {world_size} processes; each needs one. Give "
            "more utterances, or launch fewer processes."
        )
