"""Costs are recovered from times, noise is refused, and what a machine does not like decides the widths."""

from __future__ import annotations

import json
import random
import re
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from accelerate import Accelerator

import compress
from compress.cli import main
from compress.config import parse
from compress.conformers import block_units, front_channels, structure_of
from compress.data import SpeechConfig
from compress.deciding.budget import BudgetConfig, BudgetError, make_budget
from compress.elastic.supernet import SizesConfig
from compress.evaluation.speed import SpeedConfig
from compress.files.writing import WriteError
from compress.latency import LatencyProfile, Line, ProfileError
from compress.model.able_to_skip import able_to_skip
from compress.profiling import ProfileConfig, measuring, profile, with_profile
from compress.profiling.drawing import draw_structure
from compress.profiling.fit import Fit, features_of
from compress.profiling.forms import GraphForms, TorchForms
from compress.running.skipping import Skipping
from compress.shrinking import ShrinkConfig
from compress.shrinking.curve import measure_curve
from compress.structure import MODULES, Structure
from compress.surgery.front_costs import FrontCosts
from compress.training.loop.same_run import SettingsChangedError
from compress.training.measured_budget import with_measured_budget
from tests.helpers import tiny
from tests.helpers.launching import make_split
from tests.helpers.shrinking import spelling_checkpoint

TRUTH = np.array([5e-3, 1e-5, 2e-4, 3e-7, 5e-4, 2e-4, 6e-4, 0.0, 4e-9, 1e-9])
CONFIG = ProfileConfig(model="m", fitted=48)


class Made:
    """A stopwatch whose times are made from what modules cost, and from the widths of convolutions."""

    model, family = tiny.parakeet(), "parakeet"
    units: ClassVar = [{"ffn1": 256, "attention": 4, "conv": 64, "ffn2": 256}] * tiny.BLOCKS
    front = FrontCosts(("conv0", "conv1"), (32, 32), (1000, 3000), (200,))

    def __init__(self, extra: Callable[[Structure], float]) -> None:
        self.extra = extra

    def time(self, structures: Sequence[Structure]) -> list[float]:
        return [float(TRUTH @ features_of(s, self.units, self.front)) * (1 + self.extra(s)) for s in structures]


def widths(structure: Structure) -> list[int]:
    ffns = [kept for block in structure.blocks if block for kept in (block.ffn1, block.ffn2)]
    return [len(kept) for kept in ffns if isinstance(kept, tuple)]


def test_all_frames_pass_all_blocks_while_a_model_that_skips_is_timed() -> None:
    model = able_to_skip(tiny.parakeet(), Skipping(1, 0.0, heads=(1,)))
    inputs, seen = tiny.batch(model), list[int]()
    timed: Any = TorchForms(model, inputs).ready(structure_of(model))
    timed.args[0].encoder.layers[1].register_forward_hook(lambda *found: seen.append(found[2].shape[1]))
    with torch.no_grad():
        timed()
        frames = timed.args[0](**inputs).logits.shape[1]
    timed_frames, frames_in_use = seen
    assert frames_in_use < timed_frames == frames


def test_the_costs_behind_the_times_are_found() -> None:
    made = measuring.fitted(Made(lambda structure: 0.0), CONFIG)  # type: ignore[arg-type]
    assert made.lines == {"ffn": Line(200_000, 300), "attention": Line(500_000, 200_000), "conv": Line(600_000, 0)}
    assert (made.base, made.block, made.round_to) == (5_000_000, 10_000, 8)
    assert (made.front.single, made.front.pair) == ((4000, 12_000), (200,))
    assert made.error["worst"] < 1e-6


def test_the_error_is_that_of_the_costs_which_are_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Costs are whole nanoseconds: where a unit costs half of one, the error says what that is worth."""
    fine = TRUTH.copy()
    fine[3] = 0.45e-9
    monkeypatch.setitem(globals(), "TRUTH", fine)
    made = measuring.fitted(Made(lambda structure: 0.0), CONFIG)  # type: ignore[arg-type]
    assert made.lines["ffn"] == Line(200_000, 0)
    assert 1e-5 < made.error["worst"] < 1e-3


def test_widths_that_take_longer_are_left_out() -> None:
    def odd(structure: Structure) -> float:
        return 0.1 if any(width % 16 for width in widths(structure)) else 0.0

    made = measuring.fitted(Made(odd), CONFIG)  # type: ignore[arg-type]
    assert made.round_to == 16
    assert made.lines["ffn"] == Line(200_000, 300)


def test_noise_is_refused() -> None:
    noise = random.Random(0)
    with pytest.raises(ProfileError, match=r"predictions are off by .* more than --max-error 5\.0%"):
        measuring.fitted(Made(lambda structure: noise.uniform(-0.4, 0.4)), CONFIG)  # type: ignore[arg-type]


def test_no_cost_is_negative() -> None:
    features, seconds = [[1, 0], [1, 1], [1, 2]], [3.0, 2.0, 1.0]
    assert Fit.of(features, seconds).coefficients[1] == 0


@pytest.mark.parametrize("name", tiny.MODELS)
def test_what_is_drawn_can_be_removed(name: str) -> None:
    model = tiny.MODELS[name]()
    units, fixed = block_units(model), measuring.fixed_blocks(model)
    generator = random.Random(0)
    for width in measuring.WIDTHS:
        family, front = measuring.family_of(model).name, front_channels(model)
        drawn = draw_structure(family, units, fixed, generator, width, front)
        drawn.check(family, units, front)
        assert drawn.front.keys() in (front.keys(), set())


def test_the_front_is_whole_as_often_as_not_or_a_multiple_of_eight() -> None:
    """Whoever leaves the front whole, as most do, gets a profile that models with a whole front have made."""
    units, generator = [dict.fromkeys(MODULES, 8)] * 3, random.Random(0)
    fronts = [draw_structure("parakeet", units, set(), generator, 8, {"conv0": 32}).front for _ in range(40)]
    assert 10 < sum(not front for front in fronts) < 30
    assert {len(front["conv0"]) for front in fronts if front} == {8, 16, 24, 32}


def test_something_is_left_of_a_model_of_one_block() -> None:
    units = [dict.fromkeys(MODULES, 8)]
    assert all(draw_structure("parakeet", units, set(), random.Random(seed), 8).blocks != (None,) for seed in range(50))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    return spelling_checkpoint(tmp_path_factory.mktemp("profiled") / "parakeet")


QUICK = ["--fitted", "16", "--held_out", "2", "--max_error", "1000", "--speed.repetitions", "1"]


def test_from_the_model_to_a_checkpoint_within_its_time(
    checkpoint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A profile made here serves `inspect` and `shrink`, whose result says by which it was made."""
    path = tmp_path / "latency.json"
    words = ["profile", checkpoint, "--out", str(path), "--speed.seconds", "0.5", "--speed.threads", "1", *QUICK]
    assert main(words) == 0
    made = LatencyProfile.load(path)
    assert made.conditions["seconds"] == 0.5
    assert "what modules cost" in capsys.readouterr().out
    assert main(["inspect", checkpoint, "--profile", str(path), "--json"]) == 0
    *_, reachable = json.loads(capsys.readouterr().out)["reachable"]
    assert reachable["metric"] == "latency"
    full, smallest = reachable["full"], reachable["smallest"]
    limit, before = (f"{(smallest + share * (full - smallest)) / 1e6:.6f}ms" for share in (0.5, 0.8))
    make_split(tmp_path / "speech" / "train", 6, seed=1)
    budget = ["--budget.latency", limit, "--budget.profile", str(path), "--refit", "null"]
    data = ["--data", str(tmp_path / "speech"), "--data.cache_dir", str(tmp_path / "cache"), "--batch.workers", "0"]
    smaller = ["shrink", checkpoint, "--out", str(tmp_path / "small"), "--structure", "magnitude"]
    assert main([*smaller, *budget, *data, "--rounds", f"[{before}]"]) == 0
    facts = json.loads((tmp_path / "small" / "compression.json").read_text())
    assert facts["metric"] == "latency"
    assert facts["achieved"] <= facts["limit"]
    assert [entry["limit"] for entry in facts["rounds"]] == [int(float(before[:-2]) * 1e6), facts["limit"]]
    card = (tmp_path / "small" / "README.md").read_text()
    assert f"| achieved | {facts['achieved'] / 1e6:,.2f} ms (" in card
    small = compress.load_model(str(tmp_path / "small"))
    assert made.table(small.config).full == facts["achieved"]


def test_a_run_without_a_profile_measures_once(
    checkpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = measuring.fitted(Made(lambda structure: 0.0), CONFIG)  # type: ignore[arg-type]
    asked: list[ProfileConfig] = []
    monkeypatch.setattr(measuring, "profile", lambda config: asked.append(config) or made)
    for _ in range(2):
        budget = with_profile(BudgetConfig(latency="50%"), checkpoint, tmp_path, threads=1, device="cpu")
        assert budget.profile == str(tmp_path / "latency.json")
    assert len(asked) == 1
    assert with_profile(budget, checkpoint, tmp_path, threads=1, device="cpu") is budget
    plain = BudgetConfig(params="50%")
    assert with_profile(plain, checkpoint, tmp_path, threads=1, device="cpu") is plain


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[ProfileConfig]:
    """What was measured: times are made, not taken."""
    orders: list[ProfileConfig] = []
    fitted = measuring.fitted

    def quick(stopwatch: measuring.Stopwatch, config: ProfileConfig) -> LatencyProfile:
        orders.append(config)
        return fitted(Made(lambda structure: 0.0), CONFIG)  # type: ignore[arg-type]

    monkeypatch.setattr(measuring, "fitted", quick)
    return orders


def test_sizes_in_time_that_were_refused_leave_the_profile_to_others(
    checkpoint: str, tmp_path: Path, measured: list[ProfileConfig]
) -> None:
    def curve(*sizes: str, structure: str = "magnitude") -> ShrinkConfig:
        asked = SizesConfig(latency=sizes, seconds=0.5)
        speech = SpeechConfig(source=str(tmp_path / "speech"))
        out = str(tmp_path / "out")
        return ShrinkConfig(model=checkpoint, out=out, data=speech, structure=structure, refit=None, sizes=asked)

    with pytest.raises(BudgetError, match=r"sizes\.latency must decrease"):
        measure_curve(curve("40%", "50%"))
    assert not (tmp_path / "out").exists()
    with pytest.raises(BudgetError, match="reach"):
        measure_curve(curve("60%", "0.001%"))
    for sizes in (("60%", "0.002%"), ("70%", "0.001%")):
        with pytest.raises(BudgetError, match="reach"):
            measure_curve(curve(*sizes))
    assert len(measured) == 1
    with pytest.raises(SettingsChangedError, match="structure"):
        measure_curve(curve("60%", structure="proportional"))


def test_sizes_say_under_which_conditions_they_count_as_budgets_do(
    checkpoint: str, tmp_path: Path, measured: list[ProfileConfig]
) -> None:
    config, path = compress.load_model(checkpoint).config, str(tmp_path / "latency.json")
    profile(ProfileConfig(model=checkpoint, speed=SpeedConfig(seconds=0.5, threads=1))).save(path)
    timed: dict[str, Any] = {"profile": path, "seconds": 0.5}
    for sizes, budget in (
        (SizesConfig(latency=("60%",), **timed), BudgetConfig(latency="60%", **timed)),
        (SizesConfig(macs=("60%",), seconds=3.0), BudgetConfig(macs="60%", seconds=3.0)),
        (SizesConfig(params=("60%",), denominator="encoder"), BudgetConfig(params="60%", denominator="encoder")),
    ):
        assert sizes.requested("60%") == make_budget(budget, config).requested


@pytest.mark.parametrize("below", [".", "sub"])
def test_nothing_is_measured_where_a_run_may_not_write(
    checkpoint: str, measured: list[ProfileConfig], below: str
) -> None:
    before = sorted(Path(checkpoint).rglob("*"))
    budget, output = BudgetConfig(latency="50%"), str(Path(checkpoint, below))
    run: Any = SimpleNamespace(budget=budget, teacher=checkpoint, output=output, threads=1)
    with pytest.raises(WriteError, match="lies in"):
        with_measured_budget(run, Accelerator(cpu=True))
    assert not measured
    assert sorted(Path(checkpoint).rglob("*")) == before


def test_where_a_run_cannot_measure_well_it_says_how_to_do_so_apart(
    checkpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--max_error` and `--speed.repetitions` of which the message speaks are no options of the run."""

    def noisy(config: ProfileConfig) -> LatencyProfile:
        raise ProfileError("raise --speed.repetitions, or allow more.")

    monkeypatch.setattr(measuring, "profile", noisy)
    with pytest.raises(
        ProfileError, match=r"These are options of `(compress profile .*)`; .*--budget\.profile"
    ) as refused:
        with_profile(BudgetConfig(latency="50%", seconds=3.0), checkpoint, tmp_path, threads=1, device="cpu")
    command = re.findall(r"`(compress profile [^`]*)`", str(refused.value))[0]
    wanted = parse(ProfileConfig, shlex.split(command)[2:], prog="compress profile", positional=("model",))
    assert (wanted.model, wanted.device, wanted.speed.threads, wanted.speed.seconds) == (checkpoint, "cpu", 1, 3.0)


def test_exports_are_timed_for_a_budget_of_the_export(
    checkpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two forms are exported and timed; what is fitted to many has its own tests."""
    pytest.importorskip("onnxruntime", reason="exports need the extra: .[export]")
    fitted, times = measuring.fitted, []

    def two_forms(stopwatch: measuring.Stopwatch, config: ProfileConfig) -> LatencyProfile:
        whole = Structure.full(stopwatch.family, len(stopwatch.units))
        small = draw_structure(stopwatch.family, stopwatch.units, {0, 1, 2}, random.Random(1), 8)
        times.extend(stopwatch.time([whole, small, small]))
        assert isinstance(stopwatch.forms, GraphForms)
        assert len(list(stopwatch.forms.folder.glob("*.onnx"))) == 2
        return fitted(Made(lambda structure: 0.0), CONFIG)  # type: ignore[arg-type]

    monkeypatch.setattr(measuring, "fitted", two_forms)
    path = tmp_path / "latency.json"
    speed = ["--speed.seconds", "0.5", "--speed.threads", "1", "--speed.repetitions", "2"]
    assert main(["profile", checkpoint, "--runtime", "onnx", "--out", str(path), *speed]) == 0
    assert all(0 < seconds < 10 for seconds in times)
    assert LatencyProfile.load(path).conditions["runtime"] == "onnx"
    budget = make_budget(BudgetConfig(latency="50%", profile=str(path)), compress.load_model(checkpoint).config)
    assert budget.requested == "latency 50% at 0.5 s, batch 1, 1 thread of onnx"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--device", "cuda"], "device is 'cuda'; with runtime onnx, graphs run on the CPU"),
        (["--dtype", "bfloat16"], "dtype is 'bfloat16'; with runtime onnx, graphs compute in float32"),
        (["--runtime", "tflite"], "runtime"),
    ],
)
def test_what_cannot_be_profiled_as_an_export_is_refused(
    words: list[str], message: str, checkpoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["profile", checkpoint, "--runtime", "onnx", *words])
    assert message in " ".join(capsys.readouterr().err.split())
