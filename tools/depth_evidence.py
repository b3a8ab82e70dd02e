"""Compares the depths of elastic models with models that were trained at each depth.

    python tools/depth_evidence.py run --data ../shared/data/digits --steps 1600 --out runs/depth
    python tools/depth_evidence.py table --corpus digits --out runs/depth --title "..." --data "..." --note "..."

`run` trains models of every depth for the same number of steps, and the deepest one also with intermediate CTC, whose
heads are shared or not, with stochastic depth, and with both. Each deep one is made elastic in three ways: by both
rules, and by `compress search` with SVCCA; where tapped blocks have heads of their own, only as it was trained. Every
depth is evaluated on dev and on test. At each depth the elastic model that errs least on dev is compared with the one
trained at that depth, on test, utterance by utterance. What is there already is not made again.
`table` appends an entry to RESULTS.md. tools/measure_depths.py measures the speed.
"""

from __future__ import annotations

import itertools
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonargparse
from add_result import RESULTS, append_entry, facts
from running import COMPRESS, difference, evaluate, execute, grid, rate, read, recall, remember, search, train, typed

STATE = "depth-evidence.json"
TAPS = ("--inter_ctc.blocks", "[3,5,8]")
"""Behind blocks 4, 6 and 9 of 12: the depths that are wanted."""
OWN_HEADS = ("--inter_ctc.heads", "separate", "--inter_ctc.weight", "0.75", "--elastic.depths", "[4,6,9]")
"""The four outputs weigh the same."""
DROPS = ("--stochastic_depth", "0.3")
OWN = "own_heads"
DEEPEST, BELOW = 12, (9, 6, 4)
DEPTHS = (DEEPEST, *BELOW)
SEARCHED = "svcca"
RULES = ("last_first", "every_other")
SPLITS = ("dev", "test")


@dataclass(frozen=True)
class Training:
    """One way of training.

    Attributes:
        name: of its folder.
        blocks: of the model.
        title: what a reader sees of its regularisers; nothing for models of one depth.
        options: of recipes/train.py.
    """

    name: str
    blocks: int
    title: str = ""
    options: tuple[str, ...] = ()


ELASTIC = (
    Training("plain-12", DEEPEST, "neither"),
    Training("inter_ctc", DEEPEST, "intermediate CTC", TAPS),
    Training(OWN, DEEPEST, "intermediate CTC, own heads, weight 0.75", (*TAPS, *OWN_HEADS)),
    Training("stochastic", DEEPEST, "stochastic depth", DROPS),
    Training("both", DEEPEST, "both", (*TAPS, *DROPS)),
    Training("both-80", DEEPEST, "both, intermediate weight 0.8", (*TAPS, *DROPS, "--inter_ctc.weight", "0.8")),
)
INDIVIDUAL = {DEEPEST: ELASTIC[0], **{depth: Training(f"plain-{depth}", depth) for depth in BELOW}}
CHOICES = {"last_first": "first blocks", "every_other": "even distances", SEARCHED: "SVCCA search"}


def run(
    *,
    data: str,
    out: str,
    steps: int,
    training: str = "configs/demo/train.yaml",
    options: str = "",
    names: str = "",
    choices: str = "last_first,every_other,svcca",
    utterances: int = 160,
    seed: int = 0,
    threads: int = 1,
) -> None:
    """Makes every model and every report that is not there yet.

    Args:
        data: a folder with train, dev and test, or `synthetic`.
        out: folder for everything; the data set gets a folder there of its own name.
        steps: of every training.
        training: config of every training.
        options: of every training, e.g. "--tokens.kind bpe".
        names: of the deep trainings, with commas between; all, unless they are given. `plain-12` is always among them.
        choices: of the blocks that run, with commas between.
        utterances: of the dev set in the searches.
        seed: of every training.
        threads: of every training.
    """
    folder = Path(out).absolute() / Path(data).name
    remember(folder / STATE, run=typed(), steps=steps, seed=seed)
    shared = ("--max_steps", str(steps), "--seed", str(seed), "--threads", str(threads), *shlex.split(options))
    wanted = [one for one in ELASTIC if not names or one.name in (*names.split(","), ELASTIC[0].name)]
    for one in (*wanted, *(INDIVIDUAL[depth] for depth in BELOW)):
        blocks = ("--model.settings.num_hidden_layers", str(one.blocks))
        train(training, data, folder / one.name, *shared, *blocks, *one.options)
    for one in INDIVIDUAL.values():
        evaluate(folder / one.name / "best", data, folder / one.name / "report-test")
    for one in wanted:
        for choice in choices.split(",") if one.name != OWN else RULES[:1]:
            _elastic(folder, one.name, choice, data, utterances)
    for depth in DEPTHS:
        report = _paired(folder, depth, data)
        print(f"depth {depth}: {difference(report['difference']['wer'], report['difference']['wer_ci95'])}", flush=True)


def _elastic(folder: Path, name: str, choice: str, data: str, utterances: int) -> None:
    """Makes a trained model elastic, and evaluates every depth on dev and on test."""
    output, source = _place(folder, name, choice), folder / name / "best"
    if name == OWN and not (output / "model").exists():
        shutil.copytree(source, output / "model")
    if choice in RULES:
        which = ["--rule", choice, "--depths", f"[{','.join(map(str, BELOW))}]"]
    else:
        structures = [str(_searched(folder, name, depth, data, utterances)) for depth in BELOW]
        which = ["--structures", f"[{','.join(structures)}]"]
    if not (output / "model").exists():
        command = (*COMPRESS, "elastic", str(source), *which, "--out", str(output / "model"))
        execute(command, output.with_name(f"{output.name}.log"))
    for split in SPLITS:
        evaluate(output / "model", data, output / f"report-{split}", "--data.split", split)
    rates = ", ".join(f"{depth}: {one['wer']:.2%}" for depth, one in _depths(folder, name, choice, "test").items())
    print(f"{name}, {choice}: {rates}", flush=True)


def _searched(folder: Path, name: str, depth: int, data: str, utterances: int) -> Path:
    """The Structure that the search leaves of one depth."""
    out = folder / "search" / f"{name}-{depth}"
    options = ("--remove", str(DEEPEST - depth), "--measure", SEARCHED, "--utterances", str(utterances))
    search(folder / name / "best", data, out, *options)
    return out / "structure.json"


def _paired(folder: Path, depth: int, data: str) -> dict[str, Any]:
    """The elastic model that errs least on dev at a depth, extracted, against the one that was trained there."""
    name, choice = _best(folder, depth)
    output = folder / "extracted" / f"{name}-{choice}-{depth}"
    if not (output / "model").exists():
        words = (str(_place(folder, name, choice) / "model"), "--depth", str(depth), "--out", str(output / "model"))
        execute((*COMPRESS, "extract", *words), output.with_name(f"{output.name}.log"))
    baseline = folder / INDIVIDUAL[depth].name / "best"
    return evaluate(output / "model", data, output / "report", "--baseline", str(baseline))


def _best(folder: Path, depth: int) -> tuple[str, str]:
    """Training and choice of blocks with the lowest error rate on dev; of equal ones the first."""
    return min(_measured(folder), key=lambda row: float(_depths(folder, *row, "dev")[depth]["wer"]))


def _measured(folder: Path) -> list[tuple[str, str]]:
    """Training and choice of blocks of every elastic model that has its reports, in the order of the table."""
    every = itertools.product((one.name for one in ELASTIC), CHOICES)
    return [row for row in every if all(_report(folder, *row, split).exists() for split in SPLITS)]


def _title(name: str) -> str:
    return next(one.title for one in ELASTIC if one.name == name)


def _place(folder: Path, name: str, choice: str) -> Path:
    return folder / "elastic" / f"{name}-{choice}"


def _report(folder: Path, name: str, choice: str, split: str) -> Path:
    return _place(folder, name, choice) / f"report-{split}" / "report.json"


def _depths(folder: Path, name: str, choice: str, split: str) -> dict[int, dict[str, Any]]:
    """What `compress evaluate` says of each depth, the deepest first."""
    report = read(_report(folder, name, choice, split))
    return {int(one["size"]): one for one in reversed(report["sizes"])}


def table(*, corpus: str, out: str, title: str, data: str, note: str = "", results: str = str(RESULTS)) -> None:
    """Appends the comparison to RESULTS.md.

    Args:
        corpus: name of the folder in `out`.
        out: the folder that `run` filled.
        title: heading of the entry.
        data: the data set, splits, and what a reader must know about it.
        note: machine and remarks.
        results: the file to append to.
    """
    folder = Path(out).absolute() / corpus
    state = recall(folder / STATE)
    lines = facts(state["run"], f"{data}; seed {state['seed']}", note, commit=state["commit"])
    lines += [*_rates(folder), *_removed(folder), *_differences(folder, data), *_remarks(state["steps"])]
    append_entry(Path(results), title, lines)


def _rates(folder: Path) -> list[str]:
    head = ("training", "blocks that run", *(f"WER % at depth {depth}" for depth in DEPTHS))
    own = [folder / one.name / "report-test" / "report.json" for one in INDIVIDUAL.values()]
    models = [read(path)["model"] if path.exists() else None for path in own]
    rows = [["trained at that depth", "all", *(_shown(one, bold=True) for one in models)]]
    for name, choice in _measured(folder):
        at, title = _depths(folder, name, choice, "test"), _title(name)
        full = _shown(at[DEEPEST]) if choice == RULES[0] else ""
        rows.append([title, CHOICES[choice], full, *(_shown(at[depth]) for depth in BELOW)])
    return grid(head, rows)


def _shown(one: dict[str, Any] | None, *, bold: bool = False) -> str:
    return rate(one["wer"], one["wer_ci95"], bold=bold) if one else ""


def _removed(folder: Path) -> list[str]:
    head = ("SVCCA search removed", *(f"for depth {depth}" for depth in BELOW))
    rows = []
    for name in [name for name, choice in _measured(folder) if choice == SEARCHED]:
        found = [read(folder / "search" / f"{name}-{depth}" / "search.json")["best"]["removed"] for depth in BELOW]
        rows.append([_title(name), *(" ".join(map(str, blocks)) for blocks in found)])
    return grid(head, rows)


def _differences(folder: Path, data: str) -> list[str]:
    head = ("depth", "best on dev", "its WER %", "trained at that depth", "difference")
    rows = []
    for depth in [depth for depth in DEPTHS if (folder / INDIVIDUAL[depth].name / "done.json").exists()]:
        name, choice = _best(folder, depth)
        report = _paired(folder, depth, data)
        rates = [_shown(report[role]) for role in ("model", "baseline")]
        apart = difference(report["difference"]["wer"], report["difference"]["wer_ci95"])
        rows.append([str(depth), f"{_title(name)}, {CHOICES[choice]}", *rates, apart])
    return grid(head, rows)


def _remarks(steps: int) -> list[str]:
    return [
        f"WER on test with 95 % bootstrap intervals over utterances. Every model was trained for {steps} updates; an "
        "elastic one is one training for all depths. The differences are paired, in points of WER: below 0 the elastic "
        "model is better. Which row stands for the elastic models at a depth was chosen on dev."
    ]


if __name__ == "__main__":
    jsonargparse.auto_cli([run, table], as_positional=False)
