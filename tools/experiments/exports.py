"""Compares models as PyTorch runs them with their exports, float32 and int8: size, error rate and time, in one run.

    python -m tools.experiments.exports make --folder runs/exports/random
    python -m tools.experiments.exports compare --folder runs/exports --models [TEACHER,HALF,QUARTER] \\
        --timed [runs/exports/random/teacher,runs/exports/random/half,runs/exports/random/quarter] \\
        --source data/digits --data "connected digits, test split" --results RESULTS.md

`make` writes a teacher of 109 million random weights, and what is left of it at smaller sizes. `compare` exports every
model once, into its folder. Then each of the three ways of every model writes down the speech, and all of them take
turns in being timed, with each number of threads. The first model is what the others are compared with, and the last
one, in int8, is held against the goals. Models of `timed` are exported and timed, and write nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from compress.checkpoint import save
from compress.checkpoint.exported import Export, ExportError, read_export
from compress.checkpoint.weights import WEIGHTS_DIGEST, weights_digest
from compress.data import SpeechConfig, open_speech
from compress.deciding.baselines import proportional
from compress.deciding.budget import BudgetConfig, decide, make_budget
from compress.evaluation import BootstrapConfig, EvaluateConfig, SpeedConfig
from compress.evaluation.bootstrap import rate_interval
from compress.evaluation.contenders import Contender, Evaluation
from compress.evaluation.errors import ErrorCounts, count_errors
from compress.evaluation.normalisation import scoring_rule, shared_vocabulary
from compress.evaluation.speed import device_name, measure, speed_inputs
from compress.exporting.export import export
from compress.exporting.settings import ExportConfig
from compress.files.paths import last_part
from compress.model.removal import remove
from compress.training.new_models import ModelConfig, build_model
from compress.training.tokens import TokensConfig, build_processor
from tools.commands import main, typed
from tools.experiments.comparing import rate
from tools.experiments.measure_gates import LARGE
from tools.results import EntryConfig, add, facts, grid

GOAL_BYTES, GOAL_SPEED, GOAL_WER = 8, 4, 5
"""Of the last model in int8: at most so many percent of the first one's bytes, at least so many times its speed in
PyTorch (at 109 million parameters), and an error rate at most so many percent above its own in PyTorch."""
WAYS = ("PyTorch, float32", "ONNX Runtime, float32", "ONNX Runtime, int8")
MILLISECONDS, MEBIBYTE = 1000, 1 << 20
FIRST_LETTER, LETTERS = 0x4E00, 1020
"""As many letters as give a usual vocabulary."""
SMALLER = {"half": "50%", "quarter": "25%"}


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


@dataclass(frozen=True, kw_only=True)
class MakeConfig:
    """Models of random weights.

    Attributes:
        folder: Where they go, one folder for each.
    """

    folder: str


def make(config: MakeConfig) -> None:
    """Writes a teacher in the dimensions of FastConformer-Large, and its smaller forms, the same share everywhere."""
    texts = ["".join(map(chr, range(FIRST_LETTER, FIRST_LETTER + LETTERS)))]
    processor = build_processor("parakeet", texts, TokensConfig())
    blank, outputs = processor.tokenizer.pad_token_id, len(processor.tokenizer)
    torch.manual_seed(0)
    model = ModelConfig(family="parakeet", settings=LARGE | {"subsampling_factor": 8})
    teacher = build_model(model, vocabulary_size=outputs, blank=blank).eval()
    save(teacher, processor, Path(config.folder, "teacher"))
    for name, share in SMALLER.items():
        structure = decide(make_budget(BudgetConfig(params=share), teacher.config), proportional(teacher))
        save(remove(teacher, structure), processor, Path(config.folder, name), {"method": "apply"})


def compare(config: ExportsConfig) -> None:
    """Prints one table of the models that write and one of those that are only timed, and makes an entry of both."""
    lines: list[str] = []
    for names, written in ((config.models, True), (config.timed, False)):
        if names:
            contenders = {(name, way): loaded for name in names for way, loaded in ways_of(name, config)}
            lines += [
                caption(contenders, written=written),
                "",
                *table(config, contenders, rates(config, contenders) if written else {}),
            ]
    print("\n".join(lines))
    threads = " and ".join(map(str, config.threads))
    where = (
        f"{device_name(torch.device('cpu'))}; one utterance of {config.seconds:g} s, {threads} threads. {config.note}"
    )
    add(config, [*facts(typed(), config.data, where.strip()), *lines])


def caption(contenders: Ways, *, written: bool) -> str:
    """What stands above a table."""
    first = next(iter(contenders.values()))
    millions = sum(parameter.numel() for parameter in first.model.parameters()) / 1e6
    return f"A teacher of {millions:.1f} million parameters{'' if written else ', size and time only'}:"


def ways_of(name: str, config: ExportsConfig) -> Iterator[tuple[str, Contender]]:
    """A checkpoint and its two exports."""
    device = torch.device("cpu")
    yield WAYS[0], Contender.load(name, device, torch.float32)
    for way, int8 in zip(WAYS[1:], (False, True), strict=True):
        exported = export_of(config.folder, name, int8=int8)
        yield way, Contender.of_export(str(exported.folder), exported)


def export_of(folder: str, name: str, *, int8: bool, client: str = "plain") -> Export:
    """The export of a model within a folder, made where it is not there yet.

    Raises:
        ExportError: if the one that is there is of other weights.
    """
    out = Path(folder, name.strip("./").replace("/", "-"), client, "int8" if int8 else "float32")
    if not out.exists():
        return export(ExportConfig(model=name, out=str(out), client=client, int8=int8))
    made = read_export(out)
    if made.facts["model"].get(WEIGHTS_DIGEST) != weights_digest(name):
        raise ExportError(f"{out} was exported from other weights than those of {name}: delete it.")
    return made


Ways = dict[tuple[str, str], Contender]
Errors = dict[tuple[str, str], ErrorCounts]
Times = dict[tuple[str, str], float]


def rates(config: ExportsConfig, contenders: Ways) -> Errors:
    """How many words each gets wrong, of every utterance."""
    processors = [contender.processor for contender in contenders.values()]
    asked = EvaluateConfig(model=config.models[0], data=SpeechConfig(source=config.source, split=config.split))
    hertz = next(iter(contenders.values())).sampling_rate
    speech = open_speech(asked.data, sampling_rate=hertz, vocabulary=shared_vocabulary(processors, asked.normalise))
    evaluation = Evaluation(asked, {}, {hertz: speech}, scoring_rule(asked.normalise, processors))
    written = {key: evaluation.transcribe(contender) for key, contender in contenders.items()}
    return {key: count_errors(texts.references, texts.hypotheses) for key, texts in written.items()}


def table(config: ExportsConfig, contenders: Ways, errors: Errors) -> list[str]:
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
        row = [
            last_part(key[0]),
            key[1],
            f"{contender.disk_bytes / MEBIBYTE:.2f}",
            share,
            wer(errors[key]) if errors else "",
        ]
        for by_way in times.values():
            row += [f"{by_way[key]:.1f}", f"{by_way[first] / by_way[key]:.2f}"]
        rows.append(row)
    return [*grid(tuple(head), rows), *goals(contenders, times, errors)]


def goals(contenders: Ways, times: dict[int, Times], errors: Errors) -> list[str]:
    """The last model in int8 against what was aimed at."""
    first, last = next(iter(contenders)), next(reversed(contenders))
    share = 100 * contenders[last].disk_bytes / contenders[first].disk_bytes
    faster = ", ".join(f"{by_way[first] / by_way[last]:.2f}" for by_way in times.values())
    said = [
        f"{share:.1f} % of the first model's bytes (goal: at most {GOAL_BYTES})",
        f"{faster} times its speed in PyTorch (goal at 109 million parameters: at least {GOAL_SPEED})",
    ]
    if last in errors:
        own, exported = (pooled(errors[key]) for key in ((last[0], WAYS[0]), last))
        change = 100 * (exported / own - 1) if own else 0.0
        said.append(f"an error rate {change:+.1f} % relative to its own in PyTorch (goal: at most +{GOAL_WER})")
    return [f"{last_part(last[0])}, {last[1]}: {'; '.join(said)}.", ""]


def wer(counts: ErrorCounts) -> str:
    """Word error rate with its 95 % interval, in percent."""
    return rate(pooled(counts), rate_interval(counts.errors, counts.words, BootstrapConfig()).to_list())


def pooled(counts: ErrorCounts) -> float:
    """The word error rate, a fraction."""
    return float(counts.errors.sum() / counts.words.sum())


def milliseconds(config: ExportsConfig, contenders: Ways, threads: int) -> Times:
    """The median of each, which take turns."""
    asked = SpeedConfig(seconds=config.seconds, repetitions=config.repetitions)
    named = {"/".join(key): contender for key, contender in contenders.items()}
    inputs = {name: speed_inputs(each.processor, each.sampling_rate, asked) for name, each in named.items()}
    models = {name: each.model for name, each in named.items()}
    speeds = measure(models, inputs, replace(asked, threads=threads))
    return {key: MILLISECONDS * speeds["/".join(key)].median_seconds for key in contenders}


if __name__ == "__main__":
    main(make, compare)
