"""Compares models as PyTorch runs them with their exports, float32 and int8: size, error rate and time, in one run.

    python -m tools.experiments.exports --folder runs/exports --models [TEACHER,HALF,QUARTER] --source data/digits \\
        --data "connected digits, test split" --results RESULTS.md

Every model is exported once, into the folder. Then each of the three ways of every model writes down the speech, and
all of them take turns in being timed, with each number of threads. The first model is what the others are compared
with. Models of `timed` are exported and timed, and write nothing: random weights will do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from compress.data import SpeechConfig, open_speech
from compress.evaluation import BootstrapConfig, EvaluateConfig, SpeedConfig
from compress.evaluation.bootstrap import rate_interval
from compress.evaluation.contenders import Contender, Evaluation
from compress.evaluation.errors import count_errors
from compress.evaluation.normalisation import scoring_rule, shared_vocabulary
from compress.evaluation.report import Transcripts
from compress.evaluation.speed import device_name, measure, speed_inputs
from compress.exporting.export import export
from compress.exporting.settings import ExportConfig
from compress.files.paths import last_part
from tools.commands import main, typed
from tools.results import EntryConfig, add, facts, grid

WAYS = ("PyTorch, float32", "ONNX Runtime, float32", "ONNX Runtime, int8")
MILLISECONDS, MEBIBYTE = 1000, 1 << 20


@dataclass(frozen=True, kw_only=True)
class ExportsConfig(EntryConfig):
    """What is compared, and the entry that holds it.

    Attributes:
        folder: Where the exports go.
        models: Checkpoints, the teacher first.
        timed: Checkpoints that are only timed, the largest first.
        source: The speech.
        split: Of it.
        data: What a reader must know about it.
        seconds: Length of the timed audio, one utterance.
        repetitions: Timed passes, of which the median counts.
        threads: Numbers of CPU threads.
    """

    folder: str
    models: tuple[str, ...] = ()
    timed: tuple[str, ...] = ()
    source: str = ""
    split: str = "test"
    data: str = "none: random weights"
    seconds: float = 10.0
    repetitions: int = 20
    threads: tuple[int, ...] = (1, 2)
    title: str = "Exported models: size, error rate, time"


def compare_exports(config: ExportsConfig) -> None:
    """Prints one table of the models that write and one of those that are only timed, and makes an entry of both."""
    lines = []
    for names, written in ((config.models, True), (config.timed, False)):
        if names:
            contenders = {(name, way): loaded for name in names for way, loaded in ways_of(name, config)}
            lines += [*table(config, contenders, rates(config, contenders) if written else {}), ""]
    print("\n".join(lines))
    threads = " and ".join(map(str, config.threads))
    where = (
        f"{device_name(torch.device('cpu'))}; one utterance of {config.seconds:g} s, {threads} threads. {config.note}"
    )
    add(config, [*facts(typed(), config.data, where.strip()), *lines])


def ways_of(name: str, config: ExportsConfig) -> Iterator[tuple[str, Contender]]:
    """A checkpoint and its two exports, which are made where they are not there yet."""
    device = torch.device("cpu")
    yield WAYS[0], Contender.load(name, device, torch.float32)
    for way, int8 in ((WAYS[1], False), (WAYS[2], True)):
        out = Path(config.folder, name.strip("/").replace("/", "-"), "int8" if int8 else "float32")
        if not out.exists():
            export(ExportConfig(model=name, out=str(out), int8=int8))
        yield way, Contender.load(str(out), device, torch.float32)


Ways = dict[tuple[str, str], Contender]


def rates(config: ExportsConfig, contenders: Ways) -> dict[tuple[str, str], Transcripts]:
    """What each writes down."""
    processors = [contender.processor for contender in contenders.values()]
    asked = EvaluateConfig(model=config.models[0], data=SpeechConfig(source=config.source, split=config.split))
    rate = next(iter(contenders.values())).sampling_rate
    speech = open_speech(asked.data, sampling_rate=rate, vocabulary=shared_vocabulary(processors, asked.normalise))
    evaluation = Evaluation(asked, {}, {rate: speech}, scoring_rule(asked.normalise, processors))
    return {key: evaluation.transcribe(contender) for key, contender in contenders.items()}


def table(config: ExportsConfig, contenders: Ways, transcripts: dict[tuple[str, str], Transcripts]) -> list[str]:
    """One row for each way of each model; sizes and times also against the first of them."""
    times = {count: milliseconds(config, contenders, count) for count in config.threads}
    first = next(iter(contenders))
    head = ["model", "run by", "MiB", "of the first", "WER"]
    for count in config.threads:
        words = f"{count} thread{'s' if count > 1 else ''}"
        head += [f"ms, {words}", f"times as fast, {words}"]
    rows = []
    for key, contender in contenders.items():
        share = f"{100 * contender.disk_bytes / contenders[first].disk_bytes:.1f}%"
        row = [last_part(key[0]), key[1], f"{contender.disk_bytes / MEBIBYTE:.2f}", share, wer(transcripts.get(key))]
        for by_way in times.values():
            row += [f"{by_way[key]:.1f}", f"{by_way[first] / by_way[key]:.2f}"]
        rows.append(row)
    return grid(tuple(head), rows)


def wer(transcripts: Transcripts | None) -> str:
    """Word error rate with its 95 % interval, in percent."""
    if transcripts is None:
        return ""
    counts = count_errors(transcripts.references, transcripts.hypotheses)
    interval = rate_interval(counts.errors, counts.words, BootstrapConfig()).to_list()
    low, high = (100 * end for end in interval)
    return f"{100 * counts.errors.sum() / counts.words.sum():.2f} ({low:.2f} to {high:.2f})"


def milliseconds(config: ExportsConfig, contenders: Ways, threads: int) -> dict[tuple[str, str], float]:
    """The median of each, which take turns."""
    asked = SpeedConfig(seconds=config.seconds, repetitions=config.repetitions)
    named = {"/".join(key): contender for key, contender in contenders.items()}
    inputs = {name: speed_inputs(each.processor, each.sampling_rate, asked) for name, each in named.items()}
    models = {name: each.model for name, each in named.items()}
    speeds = measure(models, inputs, replace(asked, threads=threads))
    return {key: MILLISECONDS * speeds["/".join(key)].median_seconds for key in contenders}


if __name__ == "__main__":
    main(compare_exports)
