"""Compares CoMFLP with greedy removal, every other block and the last blocks: the same teacher, the same recovery.

    python -m tools.experiments.searches run --data data/digits --out runs/search --removes [3,6,8]
    python -m tools.experiments.searches depth --data data/digits --out runs/search --depths [6,12,24,48]
    python -m tools.experiments.searches table --out runs/search --title "..." --data "..." --note "..."

`run` trains a teacher of so many blocks (or takes --teacher), searches on the dev split with every method, lets each
choice recover by `recipes/prune.py` under the same settings, and evaluates it on the test split before and after. With
--refit, every proposal is repaired in closed form before it is measured, and so is what was chosen; --recover_steps 0
leaves it at that. Equal choices of several methods are made once. `depth` counts word error rates and seconds of both
searches on new models of growing depth; their error rates mean nothing. `table` appends an entry to RESULTS.md. What is
there already is not made again, so each can be started anew at any time. A small trial:

    python -m tools.experiments.searches run --data data/digits --out runs/search-trial --blocks 4 \\
        --removes [2] --teacher_steps 120 --recover_steps 20 --utterances 40 --top_k 3
"""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from compress.checkpoint import load_processor, save
from compress.training.new_models import ModelConfig, build_model, fresh_model
from compress.training.tokens import TokensConfig, build_processor
from tools.commands import main
from tools.experiments.comparing import PERCENT, Contender, rate
from tools.experiments.experiment import (
    REPORT,
    Experiment,
    TableConfig,
    evaluate,
    listed,
    read,
    run_recipe,
    run_verb,
    search,
)
from tools.results import grid

NAME = "searches"
REMOVED, REPAIRED, FINAL = "removed", "repaired", "final"
PHASES = {REMOVED: "test WER % before", REPAIRED: "repaired", FINAL: "after recovery"}
RIVAL = "greedy"
LETTERS = ("abcdefghijklmnopqrstuvwxyz '",)
SMALL = {"hidden_size": 64, "num_attention_heads": 2, "intermediate_size": 128, "subsampling_conv_channels": 16}
"""A new model whose depth is what `depth` varies."""


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What is searched and recovered.

    Attributes:
        data: A folder with train, dev and test.
        out: Folder for everything.
        removes: How many blocks go.
        blocks: Of the teacher that is trained.
        teacher: A model to compress; null trains one.
        train: Config of the teacher.
        teacher_steps: Of its training; null: the epochs of the config.
        prune: Config of the recovery.
        recover_steps: Of the recovery, the same for every method; 0: none.
        recover_options: More of its options, e.g. "--recover.learning_rate 5e-4".
        seeds: Of the recovery: 0 to this number, exclusive.
        measure: Of the correlation.
        top_k: Proposals that CoMFLP measures.
        utterances: Of the dev set in the searches.
        refit: Utterances of the repair of proposals and choices; null: neither is repaired.
        threads: Of each recovery.
    """

    data: str
    out: str
    removes: tuple[int, ...] = (3, 6, 8)
    blocks: int = 12
    teacher: str | None = None
    train: str = "configs/train/parakeet-small_digits.yaml"
    teacher_steps: int | None = None
    prune: str = "configs/demo/prune.yaml"
    recover_steps: int = 500
    recover_options: str = ""
    seeds: int = 1
    measure: str = "distance_correlation"
    top_k: int = 10
    utterances: int = 320
    refit: int | None = None
    threads: int = 1


@dataclass(frozen=True, kw_only=True)
class DepthConfig:
    """Searches of new models of growing depth, half of whose blocks go.

    Attributes:
        data: A folder with dev.
        out: Folder for everything.
        depths: Numbers of blocks.
        utterances: Of the dev set.
        top_k: Proposals that CoMFLP measures.
        greedy: Whether greedy removal is run, too; otherwise its evaluations are computed only.
    """

    data: str
    out: str
    depths: tuple[int, ...] = (6, 12, 24, 48)
    utterances: int = 40
    top_k: int = 10
    greedy: bool = True


def run(config: RunConfig) -> None:
    """Makes every search, model and report that is not there yet."""
    experiment = Experiment(config.out, NAME)
    experiment.note("run", recover_steps=config.recover_steps, refit=config.refit, seeds=list(range(config.seeds)))
    teacher = config.teacher or _train_teacher(experiment.folder, config)
    settings = {"measure": config.measure, "top_k": config.top_k, "utterances": config.utterances}
    options = (*(word for name, value in settings.items() for word in (f"--{name}", str(value))), *_refit(config))
    for remove in config.removes:
        place = experiment.folder / f"search-{remove}"
        searched = search(teacher, config.data, place, "--remove", str(remove), "--methods", "[all]", *options)
        methods = {tuple(entry["removed"]): entry["method"] for entry in searched["methods"]}
        for removed, seed in itertools.product(sorted(methods), range(config.seeds)):
            structure = place / "structures" / f"{methods[removed]}.json"
            _make(_place(experiment.folder, removed, seed), teacher, structure, seed, config)


def _train_teacher(folder: Path, config: RunConfig) -> str:
    length = () if config.teacher_steps is None else ("--max_steps", str(config.teacher_steps))
    blocks = ("--model.settings.num_hidden_layers", str(config.blocks))
    run_recipe("train", folder / "teacher", "--config", config.train, "--data.source", config.data, *blocks, *length)
    return str(folder / "teacher" / "best")


def _refit(config: RunConfig) -> tuple[str, ...]:
    return () if config.refit is None else ("--refit.utterances", str(config.refit))


def _make(output: Path, teacher: str, structure: Path, seed: int, config: RunConfig) -> None:
    """Removes what a method chose, repairs and trains what stays, and evaluates each of these."""
    if config.recover_steps:
        _recover(output, teacher, structure, seed, config)
    run_verb("apply", output / REMOVED, teacher, str(structure))
    if config.refit:
        run_verb("apply", output / REPAIRED, teacher, str(structure), "--data", config.data, *_refit(config))
    for phase in [phase for phase in PHASES if (output / phase).exists()]:
        report = evaluate(output / phase, config.data, _report(output, phase))
        print(f"{output.parent.name}, seed {seed}: WER {report['model']['wer']:.2%} {phase}", flush=True)


def _recover(output: Path, teacher: str, structure: Path, seed: int, config: RunConfig) -> None:
    shared = ("--config", config.prune, "--teacher", teacher, "--data.source", config.data, "--budget", "null")
    length = ("--recover.steps", str(config.recover_steps), "--threads", str(config.threads))
    own = ("--structure", str(structure), "--refit", "null", "--seed", str(seed), *shlex.split(config.recover_options))
    run_recipe("prune", output, *shared, *length, *own)


def depth(config: DepthConfig) -> None:
    """Searches new models of growing depth."""
    experiment = Experiment(config.out, NAME)
    experiment.note("depth")
    for blocks in config.depths:
        model = experiment.folder / f"depth-{blocks}" / "model"
        if not (model / "config.json").exists():
            _new_model(model, blocks)
        methods = listed(("comflp", "greedy") if config.greedy else ("comflp",))
        options = ("--remove", str(blocks // 2), "--methods", methods, "--top_k", str(config.top_k))
        search(model, config.data, model.parent, *options, "--utterances", str(config.utterances))


def table(config: TableConfig) -> None:
    """Appends the comparison to RESULTS.md."""
    experiment = Experiment(config.out, NAME)
    folder, settings = experiment.folder, experiment.settings
    lines = [*_comparison(folder), *_depths(folder), *_remarks(settings)]
    experiment.enter(config, lines, settings.get("seeds", ()))


def _new_model(folder: Path, blocks: int) -> None:
    torch.manual_seed(0)
    processor = build_processor("parakeet", list(LETTERS), TokensConfig())
    config = ModelConfig(family="parakeet", settings={**SMALL, "num_hidden_layers": blocks})
    tokenizer = processor.tokenizer
    model = build_model(config, vocabulary_size=len(tokenizer), blank=int(tokenizer.pad_token_id))
    save(fresh_model(model), processor, folder)
    load_processor(str(folder))


def _place(folder: Path, removed: Sequence[int], seed: int) -> Path:
    return folder / ("without-" + "-".join(map(str, removed))) / f"seed-{seed}"


def _report(output: Path, phase: str) -> Path:
    return output / f"report-{phase}"


def _searches(folder: Path, kind: str) -> list[dict[str, Any]]:
    """What the searches of one kind found, smaller models and fewer blocks first."""
    searches = [read(path) for path in folder.glob(f"{kind}-*/search.json")]
    return sorted(searches, key=lambda searched: (searched["blocks"], searched["remove"]))


def _comparison(folder: Path) -> list[str]:
    phases = [phase for phase in PHASES if any(folder.glob(f"without-*/seed-*/report-{phase}"))]
    names = ("removed", "method", "which", "dev WER %", *(PHASES[phase] for phase in phases), f"minus {RIVAL}")
    rows = []
    for searched in _searches(folder, "search"):
        size = f"{searched['remove']} of {searched['blocks']}"
        rival = next((entry["removed"] for entry in searched["methods"] if entry["method"] == RIVAL), None)
        rows += [[size, *_method(folder, entry, rival, phases)] for entry in searched["methods"]]
    return grid((*names, "evaluations", "seconds"), rows)


def _method(folder: Path, entry: Mapping[str, Any], rival: Sequence[int] | None, phases: Sequence[str]) -> list[str]:
    """What a method chose, what it costs in every phase, and what finding it took."""
    removed = entry["removed"]
    tested = [_shown(folder, removed, phase) for phase in phases]
    apart = _minus(folder, removed, rival, phases[-1]) if entry["method"] != RIVAL else ""
    which, seen = ", ".join(map(str, removed)), f"{PERCENT * entry['wer']:.2f}"
    return [entry["method"], which, seen, *tested, apart, str(entry["evaluations"]), f"{entry['seconds']:.1f}"]


def _reports(folder: Path, removed: Sequence[int], phase: str) -> list[Path]:
    """The reports of what a method chose, one for each seed."""
    return sorted(_place(folder, removed, 0).parent.glob(f"seed-*/report-{phase}/{REPORT}"))


def _minus(folder: Path, mine: Sequence[int], rival: Sequence[int] | None, phase: str) -> str:
    """The paired difference of the error rates in a phase, means over the seeds."""
    contenders = [
        Contender.read(_reports(folder, removed, phase), baseline=None) if removed is not None else None
        for removed in (mine, rival)
    ]
    return contenders[0].against(contenders[1].errors) if contenders[0] and contenders[1] else ""


def _shown(folder: Path, removed: Sequence[int], phase: str) -> str:
    """Mean over the seeds; the interval of a single one, or every one."""
    models = [read(path)["model"] for path in _reports(folder, removed, phase)]
    rates = [PERCENT * model["wer"] for model in models]
    if len(rates) > 1:
        return f"{sum(rates) / len(rates):.2f} ({', '.join(f'{value:.2f}' for value in rates)})"
    return rate(models[0]["wer"], models[0]["wer_ci95"]) if models else ""


def _depths(folder: Path) -> list[str]:
    names = ("blocks", "removed", "method", "evaluations", "block runs", "without reuse", "seconds")
    rows = []
    for searched in _searches(folder, "depth"):
        for entry in searched["methods"]:
            counts = [str(entry[key]) for key in ("evaluations", "block_runs", "block_runs_alone")]
            size = [str(searched[key]) for key in ("blocks", "remove")]
            rows.append([*size, entry["method"], *counts, f"{entry['seconds']:.1f}"])
    return grid(names, rows)


def _remarks(settings: dict[str, Any]) -> list[str]:
    steps = f", and after a recovery of {settings['recover_steps']} steps" if settings.get("recover_steps") else ""
    refit = f", with a refit on {settings['refit']} utterances wherever repaired" if settings.get("refit") else ""
    return [
        f"Blocks are counted from 0. Dev WER is what a search saw{refit}; test WER is of the model without the "
        f"blocks{steps}, with 95 % bootstrap intervals over utterances, or every seed; the difference to {RIVAL} is "
        "paired, in points. The seconds of a search include the matrix, and not the reading of the model. "
        "Models of the table by depth are new: only its counts and seconds mean anything."
    ]


if __name__ == "__main__":
    main(run, depth, table)
