"""What an evaluation works with: the models, the speech, and what has been measured of them so far."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from compress.checkpoint import load_processor, load_recogniser
from compress.checkpoint.exported import Export, is_export, read_export
from compress.checkpoint.weights import bytes_on_disk, weights_digest
from compress.data import Batch, SpeechDataset, SpeechLoader, feature_extractor_of
from compress.evaluation.memory import weights_in_memory
from compress.evaluation.normalisation import ScoringRule
from compress.evaluation.report import Transcripts
from compress.evaluation.settings import EvaluateConfig
from compress.evaluation.speed import Speed
from compress.evaluation.transcribe import batching_for, transcribe
from compress.machine import TORCH
from compress.runtimes.onnx_graph import runtime_version
from compress.runtimes.onnx_model import exported_model

if TYPE_CHECKING:
    from transformers import PreTrainedModel, ProcessorMixin


@dataclass(frozen=True)
class Contender:
    """A loaded model with everything needed to run it.

    Attributes:
        name: by which reports call it.
        model: in eval mode.
        processor: its own.
        disk_bytes: of its weights, or of the graphs that hold them.
        digest: what tells those from others.
        memory_bytes: of the weights once they are loaded; of a graph as many as on disk.
        checkpoint: the folder or Hub name under which what is known of its compression is found.
        runtime: `name` and `version` of what runs it, and the `precision` of its weights.
    """

    name: str
    model: PreTrainedModel
    processor: ProcessorMixin
    disk_bytes: int
    digest: str
    memory_bytes: int
    checkpoint: str
    runtime: dict[str, str]

    @classmethod
    def load(cls, name: str, device: torch.device, dtype: torch.dtype) -> Contender:
        """Loads a model in eval mode, from a folder or the Hub, or what was exported to a folder.

        Raises:
            ValueError: if it cannot be loaded.
        """
        if is_export(name):
            return cls.of_export(name, read_export(name))
        model, processor = load_recogniser(name, dtype=dtype, device=device)
        runtime = {"name": TORCH, "version": torch.__version__, "precision": str(dtype).removeprefix("torch.")}
        memory = weights_in_memory(model)
        return cls(name, model, processor, bytes_on_disk(name), weights_digest(name), memory, name, runtime)

    @classmethod
    def of_export(cls, name: str, export: Export) -> Contender:
        """What was exported, behind the face of its model.

        Args:
            name: by which reports call it.
            export: the folder.
        """
        model, processor = exported_model(export), load_processor(export.source)
        runtime = {"name": "ONNX Runtime", "version": runtime_version(), "precision": export.facts["precision"]}
        size = export.bytes_on_disk
        return cls(name, model, processor, size, export.digest, size, export.source, runtime)

    @property
    def sampling_rate(self) -> int:
        """Samples per second of the speech that the model takes."""
        return int(feature_extractor_of(self.processor).sampling_rate)


@dataclass
class Evaluation:
    """An evaluation under way.

    Attributes:
        config: what was asked for.
        contenders: by role, `model` and perhaps `baseline`.
        datasets: the speech at each sampling rate that a contender asks for.
        rule: what scoring ignores.
        console: where progress is drawn; None draws nothing.
        transcripts: by role, what each contender wrote, once it has.
        speeds: by role, how fast each contender is, and the model in each way that aspects name, once it was timed.
    """

    config: EvaluateConfig
    contenders: dict[str, Contender]
    datasets: dict[int, SpeechDataset]
    rule: ScoringRule
    console: Console | None = None
    transcripts: dict[str, Transcripts] = field(default_factory=dict)
    speeds: dict[str, Speed] = field(default_factory=dict)

    @property
    def model(self) -> Contender:
        """The model that is evaluated."""
        return self.contenders["model"]

    def speech_for(self, contender: Contender) -> SpeechDataset:
        """The data at a contender's sampling rate."""
        return self.datasets[contender.sampling_rate]

    def transcribe(self, contender: Contender, watchers: Sequence[Callable[[Batch], None]] = ()) -> Transcripts:
        """Lets a contender write down all of the speech, set as it is at present.

        Args:
            contender: the one that writes.
            watchers: are called with every finished batch.

        Returns:
            What it wrote, in the order of the data set (of a stream: in the order in which it came).
        """
        dataset, config = self.speech_for(contender), self.config
        loader = SpeechLoader(dataset, contender.processor, batching_for(contender.model, config.batch), shuffle=False)
        with _progress(self.console) as progress:
            total = None if dataset.streaming else len(dataset)
            task = progress.add_task(f"transcribing with {contender.name}", total=total)

            def finished(batch: Batch) -> None:
                progress.advance(task, len(batch.ids))
                for watcher in watchers:
                    watcher(batch)

            ids, references, texts = transcribe(
                contender.model, loader, contender.processor, on_batch=finished, config=config.generate
            )
        loader.close()
        written = {name: (reference, text) for name, reference, text in zip(ids, references, texts, strict=True)}
        lengths = dict(zip(dataset.ids, dataset.seconds, strict=True))
        order = ids if dataset.streaming else dataset.ids
        return Transcripts(
            ids=tuple(order),
            seconds=tuple(lengths.get(name) for name in order),
            references=tuple(self.rule(written[name][0]) for name in order),
            hypotheses=tuple(self.rule(written[name][1]) for name in order),
        )


@contextmanager
def _progress(console: Console | None) -> Iterator[Progress]:
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=console is None, transient=True) as progress:
        yield progress
