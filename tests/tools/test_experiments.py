"""The experiments: what their entries say follows from the files that evaluations leave."""

from __future__ import annotations

import copy
import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from compress.config import parse
from compress.conformers import family_of, skeleton
from compress.conformers.originals import set_dimension
from compress.evaluation import EvaluateConfig
from compress.exporting.settings import ExportConfig
from compress.files.writing import write_json
from compress.latency import LatencyProfile, Line
from compress.profiling import ProfileConfig
from compress.shrinking import ShrinkConfig
from tests.helpers import forked
from tests.helpers.evaluation_reports import REFERENCES, TEACHER, WRONG, entry, leave
from tools.experiments import (
    equal_time,
    experiment,
    inspect_public,
    public_configs,
    searches,
    shrunk,
    skipping,
    supernets,
)
from tools.experiments.comparing import ONE_SEED, Contender, over_seeds, verdict
from tools.experiments.experiment import COMPRESS, TableConfig
from tools.experiments.measure_screening import rank_correlation
from tools.kill_and_resume import in_pieces


@pytest.fixture
def compared(tmp_path: Path) -> Path:
    """Two seeds of OBS, one of magnitude."""
    state = {"commit": "abc1234", "commands": {"run": "python -m tools.experiments.rivals run --data D"}}
    (tmp_path / "rivals.json").write_text(json.dumps(state))
    leave(tmp_path / "obs-50" / "seed-0" / "report", REFERENCES, 0.0)
    leave(tmp_path / "obs-50" / "seed-1" / "report", WRONG, 3 / 9)
    leave(tmp_path / "magnitude-50" / "seed-0" / "report", WRONG, 3 / 9)
    return tmp_path


def test_the_comparison_is_made_from_reports_and_transcripts(compared: Path) -> None:
    results = compared / "RESULTS.md"
    for place in compared.glob("*/seed-*"):
        (place / "done.json").write_text(json.dumps({"learn": {"seconds": 60.0}, "recover": {"seconds": 30.0}}))
    words = ["table", "--out", str(compared), "--title", "T", "--data", "D", "--results", str(results)]
    done = forked.run(["-m", "tools.experiments.rivals", *words])
    assert done.returncode == 0, done.stderr
    text = results.read_text()
    assert "commit abc1234" in text
    assert "- data: D; seeds 0, 1\n" in text
    assert "    python -m tools.experiments.rivals run --data D\n" in text
    assert "; 11.11, 11.11 | 5.00 | 100 | 100% | 1.00 |" in text
    ours, magnitude = (line for line in text.splitlines() if line.startswith(("| OBS", "| magnitude")))
    assert "| **16.67** (" in ours  # 3 errors of 2 x 9 words
    assert "; 0.00, 33.33 | 8.33 | 50 | 60% | 1.50 (1.50 to 1.50) | 1.5 | +5.56 (" in ours
    assert "| **33.33** (" in magnitude
    assert "| 1.50 | 1.5 | " in magnitude  # of one seed there is no range
    assert magnitude.split("|")[-4].strip().startswith("-33.33 (")
    assert magnitude.split("|")[-3:-1] == ["  ", f" {ONE_SEED} "]
    assert "device cpu, threads 1, repetitions 10" in text


def contender(folder: Path, hypotheses: list[list[str]]) -> Contender:
    for seed, written in enumerate(hypotheses):
        leave(folder / f"seed-{seed}" / "report", written, 0.0)
    made = Contender.read(folder.glob("seed-*/report/report.json"))
    assert made
    return made


def test_a_row_is_better_only_where_the_seeds_agree(tmp_path: Path) -> None:
    nothing = ["", "", ""]
    sure = contender(tmp_path / "sure", [REFERENCES, REFERENCES, TEACHER])
    bad = contender(tmp_path / "bad", [nothing, nothing, nothing])
    wavering = contender(tmp_path / "wavering", [REFERENCES, nothing, REFERENCES])
    alone = contender(tmp_path / "alone", [REFERENCES])
    assert verdict(sure, bad) == "better"
    assert verdict(bad, sure) == "worse"
    # Though 18 of 27 words are more than chance over utterances:
    assert verdict(wavering, bad) == "no significant difference"
    assert verdict(alone, bad) == verdict(bad, alone) == ONE_SEED


def test_the_interval_over_seeds_is_students() -> None:
    interval = over_seeds([0.01, 0.02, 0.03])
    assert interval
    assert interval.to_list() == pytest.approx([0.02 - 4.303 * 0.01 / 3**0.5, 0.02 + 4.303 * 0.01 / 3**0.5])
    assert over_seeds([0.01]) is None


def test_searches_are_compared_before_and_after_recovery(tmp_path: Path) -> None:
    """Equal choices of two methods share one recovery; the table by depth has its own searches."""
    counts = {"evaluations": 10, "seconds": 1.25, "block_runs": 30, "block_runs_alone": 60}
    methods = [{"method": name, "removed": [1, 4], "wer": 0.2} | counts for name in ("comflp", "greedy")]
    for kind, blocks, remove in (("search", 6, 2), ("depth", 48, 24)):
        folder = tmp_path / f"{kind}-{remove}"
        folder.mkdir()
        (folder / "search.json").write_text(json.dumps({"blocks": blocks, "remove": remove, "methods": methods}))
    for phase, wer in (("removed", 0.19), ("final", 0.07)):
        report = tmp_path / "without-1-4" / "seed-0" / f"report-{phase}"
        report.mkdir(parents=True)
        (report / "report.json").write_text(json.dumps({"model": {"wer": wer, "wer_ci95": [wer / 2, 2 * wer]}}))
        spoken = {"id": "a", "reference": "one two", "model": "one"}
        (report / "transcripts.jsonl").write_text(json.dumps(spoken))
    (tmp_path / "searches.json").write_text(json.dumps({"seeds": [0]}))
    searches.table(entry(tmp_path, "Blocks"))
    text = (tmp_path / "R.md").read_text()
    row = "1, 4 | 20.00 | 19.00 (9.50 to 38.00) | 7.00 (3.50 to 14.00) |"
    assert f"| 2 of 6 | comflp | {row} +0.00 (+0.00 to +0.00) | 10 | 1.2 |" in text
    assert f"| 2 of 6 | greedy | {row}  | 10 | 1.2 |" in text
    assert "| 48 | 24 | greedy | 10 | 30 | 60 | 1.2 |" in text
    assert "- data: digits; one seed (0)\n" in text


def test_ranks_are_correlated() -> None:
    assert rank_correlation([1, 2, 3], [10, 100, 1000]) == pytest.approx(1)
    assert rank_correlation([1, 2, 3], [3, 2, -5]) == pytest.approx(-1)
    assert rank_correlation([1, 2, 2, 3], [1, 2, 3, 4]) == pytest.approx(4.5 / (4.5 * 5) ** 0.5)  # ties share a rank


def test_sizes_are_compared_with_models_trained_alone(tmp_path: Path) -> None:
    """Reports of every size and of every model trained alone, and the seconds that their runs took."""
    state = {
        "commit": "abc1234",
        "commands": {"run": "C"},
        "methods": ["top_k", "random", "zero_out"],
        "alone": ["top_k"],
    }
    (tmp_path / "supernets.json").write_text(json.dumps(state))
    seconds = {"select": {"seconds": 60.0}, "joint": {"seconds": 40.0}, "sizes": {"33%": {}, "100%": {}}}
    for method, written in (("top_k", REFERENCES), ("random", WRONG)):
        for size in ("33%", "100%"):
            leave(tmp_path / method / "seed-0" / "sizes" / size / "report", written, 0.0)
        (tmp_path / method / "seed-0" / "done.json").write_text(json.dumps(seconds))
    for folder, written in ((tmp_path / "plain", REFERENCES), (tmp_path / "alone" / "top_k" / "33%", WRONG)):
        leave(folder / "seed-0" / "report", written, 0.0)
        (folder / "seed-0" / "done.json").write_text(json.dumps({"seconds": 80.0}))
    supernets.table(entry(tmp_path, "Sizes"))
    text = (tmp_path / "R.md").read_text()
    row = next(line for line in text.splitlines() if line.startswith("| 33% | supernet, Simple-Top-k"))
    assert "**0.00**" in row
    assert row.split("|")[-3].strip().startswith("-33.33 (")
    assert row.split("|")[-2].strip().startswith("-33.33 (")
    assert "| 33% | alone, as Simple-Top-k chose | **33.33**" in text
    assert "| 100% | plain training | **0.00**" in text
    assert "| 33% | supernet, Iterative-Zero-Out | not run |" in text
    assert "100 s for the supernet, 160 s for the 2 models of its sizes one by one: 0.62 times." in text
    assert "- data: digits; one seed (0)\n" in text


def test_skipping_is_compared_with_the_teacher(tmp_path: Path) -> None:
    common = {"parameters": 1000, "cer": 0.1, "macs_share": 1.0, "skipped": 0.0, "extension": None}
    teacher = common | {"model": "teacher", "wer": 0.02, "rtf_1": 0.2, "rtf_16": 0.1}
    where = {"first_blocks": 2, "threshold": 0.95, "extension": 1, "skipped": 0.4, "macs_share": 0.75}
    skips = common | {"model": "skips", "wer": 0.021, "rtf_1": 0.15, "rtf_16": 0.05} | where
    (tmp_path / "sweep.json").write_text(json.dumps([teacher, skips]))
    row = {"batch": 16, "factorised": True, "skipped": 0.7, "predicted": 1.5, "measured": 1.4}
    (tmp_path / "speed.json").write_text(
        json.dumps({"hidden_size": 512, "blocks": 8, "first_blocks": 4, "rows": [row]})
    )
    (tmp_path / "skips").mkdir()
    (tmp_path / "skips" / "config.json").write_text(json.dumps({"seed": 0}))
    skipping.table(entry(tmp_path, "Skipping"))
    text = (tmp_path / "R.md").read_text()
    assert "| teacher | 1,000 |  |  |  | 2.00 | 0.0 | 100.0 | 0.2000 | 0.1000 | 100.0 | 100.0 |" in text
    assert "| skips | 1,000 | 2 | 0.95 | 1 | 2.10 | 40.0 | 75.0 | 0.1500 | 0.0500 | 75.0 | 50.0 |" in text
    assert "| 16 | factorised | 70 | 1.50 | 1.40 |" in text
    assert "- data: digits; one seed (0)\n" in text


JOB = """
import json, pathlib, sys, time
file = pathlib.Path(sys.argv[1], "phase", "metrics.jsonl")
file.parent.mkdir(parents=True, exist_ok=True)
file.touch()
for step in range(len(file.read_text().splitlines()), 100):
    with file.open("a") as lines:
        lines.write(json.dumps({"step": step, "learning_rate": 0.1}) + "\\n")
    time.sleep(0.01)
"""


def test_a_job_is_killed_in_pieces_and_ends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    in_pieces([sys.executable, "-c", JOB, str(tmp_path)], tmp_path, 100, 3, random.Random(0))
    said = capsys.readouterr().out
    assert [line.split()[2] for line in said.splitlines()] == ["SIGKILL", "SIGTERM", "SIGKILL"]
    lines = (tmp_path / "phase" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(100))


SIZES = {
    "nvidia/parakeet-ctc-0.6b": 608.8,
    "nvidia/parakeet-ctc-1.1b": 1062.5,
    "facebook/wav2vec2-conformer-rel-pos-large": 618.6,
    "facebook/wav2vec2-conformer-rope-large": 593.4,
    "facebook/w2v-bert-2.0 (with a CTC head)": 580.5,
    "google/medasr": 105.3,
    "ibm-granite/granite-speech-5.0-470m-turboctc": 472.9,
    "nvidia/parakeet-tdt-0.6b-v3": 627.5,
    "nvidia/parakeet-rnnt-0.6b": 616.7,
    "nvidia/parakeet-rnnt-1.1b": 1070.4,
    "nvidia/canary-1b-v2": 962.2,
    "CohereLabs/cohere-transcribe-03-2026": 2065.6,
    "nvidia/nemotron-speech-streaming-en-0.6b": 617.0,
    "nvidia/nemotron-3.5-asr-streaming-0.6b": 636.9,
    "facebook/hf-seamless-m4t-medium (speech to text)": 1022.8,
    "facebook/seamless-m4t-v2-large (speech to text)": 1501.8,
    "ibm-granite/granite-speech-3.3-2b": 3079.8,
}
"""Millions of parameters."""


SMALLEST = {family_of(public_configs.CONFIGS[name]).name: name for name in sorted(SIZES, key=SIZES.__getitem__)[::-1]}
"""Of every family, the name of the smallest."""


def test_public_configurations_have_the_published_sizes() -> None:
    assert set(public_configs.CONFIGS) == set(SIZES)
    for name, config in public_configs.CONFIGS.items():
        assert skeleton(config).num_parameters() / 1e6 == pytest.approx(SIZES[name], rel=1e-3)


@pytest.mark.parametrize("family", SMALLEST)
def test_public_configurations_are_inspected_without_weights(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With their first six blocks: what the others are made of, and so what is said of them, is the same."""
    config = copy.deepcopy(public_configs.CONFIGS[SMALLEST[family]])
    set_dimension(config, family_of(config).block_count, 6)
    monkeypatch.setitem(public_configs.CONFIGS, SMALLEST[family], config)
    inspected = inspect_public.describe(SMALLEST[family])
    assert inspected["family"] == family
    assert inspected["parameters"]["total"] == skeleton(config).num_parameters()
    for row in inspected["reachable"]:
        assert 0 <= row["smallest"] < 0.2 * row["full"] or row["denominator"] == "total"
        assert row["smallest"] < row["largest"] <= row["full"]


def test_what_is_free_is_tabled_by_who_decides(tmp_path: Path) -> None:
    entry = {"wer_ci95": [0.01, 0.03], "parameters": 1000, "macs_per_second": 2.5e6, "times_as_fast": 1.5}
    for way, wer in (("obs", 0.02), ("magnitude-no-refit", 0.5)):
        entries = [entry | {"name": "whole", "wer": 0.02}, entry | {"name": "50%", "wer": wer, "seconds": 7.2}]
        (tmp_path / way).mkdir()
        (tmp_path / way / "report.json").write_text(json.dumps({"entries": entries}))
    state = {"commands": {"run": "X"}, "ways": ["obs", "magnitude, no refit"]}
    (tmp_path / "shrunk.json").write_text(json.dumps(state))
    results = tmp_path / "RESULTS.md"
    shrunk.table(TableConfig(out=str(tmp_path), data="D", title="T", results=str(results)))
    text = results.read_text()
    assert "| obs | 2.00 | 2.00 |" in text
    assert "| magnitude, no refit | 2.00 | 50.00 |" in text
    assert "| seconds, on top of the size before | 0 | 7 |" in text


TIMED = {"device_name": "processor", "seconds": 10.0, "batch": 1, "repetitions": 20}
CURVES = {
    "latency": [("50%", 0.5, 0.03)],
    "macs": [("50%", 0.75, 0.03), ("10%", 0.25, 0.07)],
    "params": [("50%", 0.75, 0.03)],
}


def timed_report(share: float, wer: float) -> dict[str, object]:
    """What the comparison reads of a model that takes a share of its teacher's 50 ms, and shall take 49 %."""
    facts = {"runtime": {"name": "ONNX Runtime", "version": "1.2", "precision": "float32"}, "bytes": 1 << 20}
    model = {"wer": wer, "rtf": 0.005 * share, "compression": {"achieved": 49, "full": 100}}
    return {"model": facts | model, "baseline": facts | {"wer": 0.02, "rtf": 0.005}, "conditions": TIMED}


def test_error_rates_are_compared_at_the_same_measured_time(tmp_path: Path) -> None:
    for metric, points in CURVES.items():
        for size, share, wer in points:
            write_json(tmp_path / "reports" / f"{metric}-0-{size[:-1]}" / "report.json", timed_report(share, wer))
    budgets = {metric: [point[0] for point in points] for metric, points in CURVES.items()}
    write_json(tmp_path / "equal_time.json", {"commands": {"run": "X"}, "teachers": 1, "budgets": budgets})
    conditions = {"seconds": 10.0, "batch": 1, "threads": 1, "runtime": "onnx"}
    error = {"mean": 0.01, "worst": 0.027, "structures": 10}
    lines = {kind: Line(1, 1) for kind in ("ffn", "attention", "conv")}
    LatencyProfile({}, conditions, 1, 1, lines, 8, error).save(tmp_path / "latency.json")
    equal_time.table(entry(tmp_path, "T"))
    text = (tmp_path / "R.md").read_text()
    macs, params = "**5.00**; 5.00 | -2.00, one seed", " | "  # the fastest of params is slower than that
    assert f"| 50% | 49 | 50 | 0.98 | 1.00 | **3.00**; 3.00 | {macs} | {params} |" in text
    assert "ONNX Runtime, float32 (version 1.2), 10 s, batch 1, 1 thread of onnx, on processor; medians of 20" in text
    assert "|  | whole | 100 | 50.00 | 1.00 | **2.00**; 2.00 |" in text
    assert "| macs | 10% | 25 | 12.50 | 1.00 | **7.00**; 7.00 |" in text


VERBS = {"profile": ProfileConfig, "shrink": ShrinkConfig, "export": ExportConfig, "evaluate": EvaluateConfig}


@pytest.mark.parametrize(("runtime", "exports"), [("torch", 0), ("onnx", 4)])
def test_every_size_is_deployed_and_timed_as_the_profile_was(
    runtime: str, exports: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every command is one that its verb would take; what a command has left is not made again."""
    asked: list[tuple[str, Any]] = []

    def execute(command: Sequence[str], log: Path, *, stop: bool = True) -> None:
        verb, model, *words = command[len(COMPRESS) :]
        asked.append((verb, parse(VERBS[verb], [f"--model={model}", *words], prog=verb)))
        out = Path(asked[-1][1].out)
        write_json(out if verb == "profile" else out / "report.json", {})

    monkeypatch.setattr(experiment, "execute", execute)
    asking = {"runtime": runtime, "times": ("50%",), "sizes": ("40%",), "batch": 16}
    for _ in range(2):
        equal_time.run(equal_time.RunConfig(teachers=("T",), data="D", out=str(tmp_path), **asking))
    verbs = [verb for verb, _ in asked]
    assert [verbs.count(verb) for verb in VERBS] == [1, 3, exports, 3]
    timings = [config.speed for verb, config in asked if verb in ("profile", "evaluate")]
    assert {(speed.threads, speed.batch, speed.seconds, speed.repetitions) for speed in timings} == {(1, 16, 10.0, 20)}
    assert [config.runtime for verb, config in asked if verb == "profile"] == [runtime]
    models = {config.model for verb, config in asked if verb == ("export" if exports else "evaluate")}
    assert models >= {str(tmp_path / "latency-0" / "sizes" / "50"), str(tmp_path / "params-0" / "sizes" / "40")}
    wholes = {config.baseline for verb, config in asked if verb == "evaluate"}
    assert wholes == ({str(tmp_path / "onnx" / "whole-0")} if exports else {"T"})
