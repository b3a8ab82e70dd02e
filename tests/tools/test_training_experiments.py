"""Experiments that train: depths, speakers that training heard against others, skipping, optimizers."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

from tests.helpers.evaluation_reports import REFERENCES, TEACHER, WRONG, entry, leave
from tools.experiments import depths, optimizers, skipping_ways, unheard


def test_depths_are_compared_with_models_trained_there(tmp_path: Path) -> None:
    """Who stands for the elastic models is chosen on dev; what is said of them is measured on test."""
    rates = {(training.name, choice): 0.3 for training in depths.ELASTIC for choice in depths.CHOICES}
    rates |= {("both", "svcca"): 0.1, ("inter_ctc", "last_first"): 0.2}
    digits = tmp_path / "digits"

    def write(folder: Path, report: dict[str, Any]) -> None:
        folder.mkdir(parents=True)
        (folder / "report.json").write_text(json.dumps(report))

    for ((name, choice), dev), seed in itertools.product(rates.items(), (0, 1)):
        for split, wer in (("dev", dev), ("test", 0.5 - dev + seed * 0.1)):
            sizes = [{"size": str(depth), "wer": wer, "wer_ci95": [0, 1]} for depth in (4, 6, 9, 12)]
            write(digits / "elastic" / f"{name}-{choice}" / f"seed-{seed}" / f"report-{split}", {"sizes": sizes})
    for name, depth in itertools.product([training.name for training in depths.ELASTIC], depths.BELOW):
        search = digits / "search" / f"{name}-{depth}" / "seed-0"
        search.mkdir(parents=True)
        (search / "search.json").write_text(json.dumps({"best": {"removed": list(range(1, 13 - depth))}}))
    for depth, training in depths.INDIVIDUAL.items():
        write(digits / training.name / "seed-0" / "report", {"model": {"wer": 0.01 * depth, "wer_ci95": [0, 1]}})
        leave(digits / "extracted" / f"both-svcca-{depth}" / "seed-0" / "report", WRONG, 3 / 9)
        leave(digits / "extracted" / f"both-svcca-{depth}" / "seed-1" / "report", REFERENCES, 0.0)
    state = {"commands": {"run": "python -m tools.experiments.depths run"}, "commit": "abc1234", "steps": 1600}
    (digits / "depths.json").write_text(json.dumps(state))
    results = str(tmp_path / "R.md")
    depths.table(depths.DepthTableConfig(corpus="digits", out=str(tmp_path), title="T", data="digits", results=results))
    text = (tmp_path / "R.md").read_text()
    assert "| trained at that depth | all | **12.00** (0.00 to 100.00) | **9.00**" in text
    assert "| both | SVCCA search |  | 45.00; 40.00, 50.00 |" in text
    (row,) = (line for line in text.splitlines() if line.startswith("| 4 | both, SVCCA search |"))
    assert row.startswith("| 4 | both, SVCCA search | 16.67; 33.33, 0.00 | 11.11; 11.11, 11.11 | +5.56 (")
    assert row.count("+5.56 (") == 2  # over the utterances, and over the seeds
    assert "| both | 1 2 3 | 1 2 3 4 5 6 | 1 2 3 4 5 6 7 8 |" in text
    assert "- data: digits; seeds 0, 1\n" in text


def test_speakers_that_were_not_heard_are_compared_with_those_that_were(tmp_path: Path) -> None:
    """Each utterance counts once as unheard, by the models made without its speaker."""
    speakers = {"a": "ann", "b": "ben", "c": "ben"}
    unheard_json = {"commands": {"run": "U"}, "commit": "abc1234", "sizes": ["50%", "10%"], "speakers": speakers}
    (tmp_path / "unheard.json").write_text(json.dumps(unheard_json))
    for speaker in ("ann", "ben"):
        leave(tmp_path / speaker / "50" / "report", TEACHER, 1 / 9)
    leave(
        tmp_path / "ann" / "10" / "report", WRONG, 3 / 9
    )  # two words of ann's, whom it did not hear, and one of ben's
    leave(tmp_path / "ben" / "10" / "report", TEACHER, 1 / 9)
    unheard.table(entry(tmp_path, "U"))
    text = (tmp_path / "R.md").read_text()
    teacher, half, tenth = (
        next(line for line in text.splitlines() if line.startswith(f"| {name} | 11.11 ("))
        for name in ("teacher", "50%", "10%")
    )
    assert teacher.split(" | ")[3].startswith("11.11 (")
    assert half.count("+0.00 (+0.00 to +0.00)") == 3
    assert tenth.split(" | ")[3].startswith("33.33 (")
    assert [cell[:6] for cell in tenth.split(" | ")[2::2]] == ["+0.00 ", "+22.22"]
    assert tenth.split(" | ")[5].startswith("+22.22 (")
    assert "| 10% | 50.00 | 20.00 |" in text


def test_models_that_skip_are_held_against_themselves_without_it(tmp_path: Path) -> None:
    """The utterances of a setting are paired with those of the same model at threshold 1, over the seeds.

    The setting that dev chooses is the cheapest of those that lose nothing there, whatever it does on test.
    """
    (tmp_path / "skipping_ways.json").write_text(json.dumps({"commands": {"run": "S"}, "commit": "abc1234"}))
    common = {"words": [5, 5], "skipped": 0.0, "macs_share": 1.0, "rtf_1": 0.2, "first_blocks": 2, "extension": 1}
    for swept in ("sweep", "sweep-dev"):
        (tmp_path / swept).mkdir()
    for seed, errors in enumerate(([1, 0], [2, 1])):
        skips = {"model": "both", "wer": sum(errors) / 10, "errors": errors} | common | {"skipped": 0.5, "rtf_1": 0.1}
        rows = [
            {"model": "teacher", "wer": 0.05 * (seed + 1), "errors": [0, 0], **common},
            {"model": "both", "threshold": 1.0, "wer": 0.1, "errors": [1, 0], **common},
            skips | {"threshold": 0.9, "macs_share": 0.75},
            skips | {"threshold": 0.95, "macs_share": 0.8},
            skips | {"threshold": 0.99, "macs_share": 0.85},
        ]
        (tmp_path / "sweep" / f"seed-{seed}.json").write_text(json.dumps(rows))
        on_dev = [*rows[:3], rows[3] | {"errors": [1 - seed, seed]}, rows[4] | {"errors": [0, 0]}]
        (tmp_path / "sweep-dev" / f"seed-{seed}.json").write_text(json.dumps(on_dev))
    skipping_ways.table(entry(tmp_path, "Ways"))
    text = (tmp_path / "R.md").read_text()
    assert "| both | 2 | 0.9 | 1 | 20.00 | 10.00 | +10.00 (+10.00 to +10.00) | +100.0 | 50 | 75 | 50 |  |" in text
    assert [line[:18] for line in text.splitlines() if line.endswith("| yes |")] == ["| both | 2 | 0.95 "]
    assert "The teachers err 5.00, 10.00 %." in text
    assert "- data: digits; seeds 0, 1\n" in text


def test_optimizers_are_held_against_adamw_at_the_rate_that_did_best_on_dev(tmp_path: Path) -> None:
    (tmp_path / "optimizers.json").write_text(json.dumps({"commands": {"run": "O"}, "commit": "abc1234"}))
    trained = {
        "adamw-1e-3-20": (0.3, REFERENCES), "adamw-2e-3-20": (0.2, TEACHER), "muon-8e-3-20": (0.1, REFERENCES),
        "muon-8e-3-100": (0.1, WRONG),
    }  # fmt: skip
    for name, (dev, written) in trained.items():
        leave(tmp_path / name / "seed-0" / "report", written, 1 / 9)
        done = {"best_dev_wer": dev, "seconds": 5.0}
        (tmp_path / name / "seed-0" / "done.json").write_text(json.dumps(done))
    optimizers.table(entry(tmp_path, "O"))
    rows = [line.split(" | ") for line in (tmp_path / "R.md").read_text().splitlines() if line[:3] in ("| 2", "| 1")]
    assert [row[:4] for row in rows] == [
        ["| 20", "adamw", "1e-3", "30.00"],
        ["| 20", "adamw", "2e-3", "20.00"],
        ["| 20", "muon", "8e-3", "10.00"],
        ["| 100", "muon", "8e-3", "10.00"],
    ]
    assert [row[5:7] for row in rows] == [["5.56", "250"], ["5.56", "250"], ["5.56", "250"], ["5.56", "50"]]
    beside = [row[7][:6] for row in rows]
    assert beside == ["-11.11", " |", "-11.11", " |"]  # the best by dev errs once; of 100 updates there is no AdamW
