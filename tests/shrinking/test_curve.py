"""`compress shrink --sizes`: what is measured, what is kept, and going on where it was interrupted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import compress
from compress.cli import main
from compress.deciding.budget import BudgetConfig
from compress.elastic.supernet import SizesConfig
from compress.files.reading import ReadError
from compress.shrinking import curve, curve_report
from compress.shrinking.checkpoints import reachable_target
from compress.structure import Structure
from tests.helpers.shrinking import words

SIZES = ("--sizes.params", "[80%,60%]", "--bootstrap.resamples", "100",
         "--speed.seconds", "1", "--speed.repetitions", "1", "--speed.warmup", "0")  # fmt: skip


def report_of(out: Path) -> dict[str, Any]:
    return json.loads((out / "report.json").read_text())  # type: ignore[no-any-return]


def errors_of(entry: dict[str, Any]) -> list[float]:
    """What the refits of a size left, which tells models apart that err alike."""
    return [of_round["repair"]["error_after"] for of_round in entry.get("rounds", ())]


def test_interrupted_it_goes_on_and_ends_with_the_same_numbers(
    parakeet: str, speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a checkpoint in half precision, to which every size is rounded when it is saved."""
    half = tmp_path / "half"
    compress.save(compress.load_model(parakeet).to(torch.bfloat16), compress.load_processor(parakeet), half)
    parakeet = str(half)
    command = ["shrink", parakeet, *words(speech, tmp_path / "whole", *SIZES, "--save")]
    assert main(command) == 0
    whole = report_of(tmp_path / "whole")
    assert [entry["name"] for entry in whole["entries"]] == ["whole", "80%", "60%"]
    for entry in whole["entries"][1:]:
        name = entry["name"].removesuffix("%")
        small = compress.load_model(str(tmp_path / "whole" / "sizes" / name))
        structure = Structure.load(tmp_path / "whole" / "structures" / f"{name}.json")
        assert small.num_parameters() == entry["parameters"] == entry["cost"] <= entry["limit"]
        assert compress.remove(compress.load_model(parakeet), structure).num_parameters() == entry["parameters"]
        assert 0 <= entry["wer_ci95"][0] <= entry["wer_ci95"][1]
    page = (tmp_path / "whole" / "report.html").read_text()
    assert page.count("polyline") == 3
    assert "60%" in (tmp_path / "whole" / "report.md").read_text()

    shrunk = curve.Curve._shrunk
    begun: list[int] = []

    def once(self: Any, start: Any, budget: Any) -> Any:
        if begun:
            raise KeyboardInterrupt
        begun.append(budget.limit)
        return shrunk(self, start, budget)

    monkeypatch.setattr(curve.Curve, "_shrunk", once)
    command = ["shrink", parakeet, *words(speech, tmp_path / "resumed", *SIZES)]
    assert main(command) == 130
    assert not (tmp_path / "resumed" / "report.json").exists()
    monkeypatch.setattr(curve.Curve, "_shrunk", lambda self, start, budget: shrunk(self, start, budget))
    assert main(command) == 0
    for mine, theirs in zip(report_of(tmp_path / "resumed")["entries"], whole["entries"], strict=True):
        for name in ("wer", "wer_ci95", "cer", "parameters", "macs_per_second", "share"):
            assert mine[name] == theirs[name]
        assert errors_of(mine) == errors_of(theirs)
    assert not (tmp_path / "resumed" / "sizes").exists()


def test_a_folder_with_other_settings_is_refused(
    parakeet: str, speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out" / "entries").mkdir(parents=True)
    (tmp_path / "out" / "settings.json").write_text(json.dumps({"model": "another"}))
    with pytest.raises(SystemExit):
        main(["shrink", parakeet, *words(speech, tmp_path / "out", *SIZES)])
    assert "holds a run with other settings" in " ".join(capsys.readouterr().err.split())
    (tmp_path / "out" / "settings.json").rename(tmp_path / "out" / "thesis.tex")
    with pytest.raises(SystemExit):
        main(["shrink", parakeet, *words(speech, tmp_path / "out", *SIZES)])
    assert "holds something else" in " ".join(capsys.readouterr().err.split())
    with pytest.raises(SystemExit):
        main(["shrink", parakeet, *words(speech, Path(parakeet, "out"), *SIZES)])
    assert "lies in the folder of the model" in " ".join(capsys.readouterr().err.split())
    assert not Path(parakeet, "out").exists()


def test_sizes_of_one_curve_are_timed_under_the_same_conditions(
    parakeet: str, speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["shrink", parakeet, *words(speech, tmp_path / "out", *SIZES)]
    assert main(command) == 0
    with pytest.raises(SystemExit):
        main([*command, "--speed.seconds", "2"])
    said = " ".join(capsys.readouterr().err.split())
    assert "holds a run with other settings" in said
    assert "speed.seconds" in said
    assert report_of(tmp_path / "out")["conditions"]["seconds"] == 1


def test_a_dev_set_without_a_length_is_refused_at_once(
    parakeet: str, speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["shrink", parakeet, *words(speech, tmp_path / "out", *SIZES, "--data.streaming", "true")])
    assert "name one with dev.source" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


def test_a_start_that_was_refused_and_a_size_that_got_lost_are_no_end(
    parakeet: str, speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["shrink", parakeet, *words(speech, tmp_path / "out", *SIZES)]
    with pytest.raises(SystemExit):
        main([*command, "--dev_split", "nowhere"])
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["settings.json"]
    monkeypatch.setattr(curve.Curve, "run", lambda self: self._read_back("80%"))
    with pytest.raises(SystemExit):
        main(command)
    said = " ".join(capsys.readouterr().err.split())
    assert "goes on from there: delete" in said
    assert "entries/80.json, and run the same command again to make 80% anew" in said


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({}, "lacks name"),
        ({"wer": float("nan")}, "wer is nan, which cannot be"),
        ({"wer_ci95": [0.1]}, "wer_ci95 must be two numbers"),
        ({"rounds": 3}, "rounds must be a list"),
    ],
)
def test_a_damaged_size_is_named(tmp_path: Path, entry: dict[str, object], message: str) -> None:
    whole = {"name": "50%", "share": 0.5, "wer": 0.1, "wer_ci95": [0.0, 0.2], "parameters": 5}
    whole |= {"macs_per_second": 1.0, "times_as_fast": 2.0}
    (tmp_path / "50.json").write_text(json.dumps(entry and whole | entry))
    with pytest.raises(ReadError, match=rf"50\.json.* {message}.* Delete it, and run the same command again"):
        curve.read_entry(tmp_path / "50.json")


@pytest.mark.parametrize(
    ("decision", "sizes", "front"),
    [
        ("obs", SizesConfig(params=("60%",)), True),
        ("fisher", SizesConfig(params=("60%",)), False),
        ("obs", SizesConfig(params=("60%",), denominator="encoder"), False),
    ],
)
def test_sizes_take_the_front_where_a_budget_does(
    parakeet: str, decision: str, sizes: SizesConfig, front: bool
) -> None:
    (budget,) = curve.budgets_of(sizes, parakeet, decision).values()
    assert budget.front is front
    assert (
        reachable_target(BudgetConfig(params="60%", denominator=sizes.denominator), parakeet, decision).front is front
    )


def test_sizes_near_each_other_and_checkpoints_wanted_afterwards(parakeet: str, speech: Path, tmp_path: Path) -> None:
    """A size that the one before it keeps already is that one; a finished curve makes what it has not kept."""
    more = ("--sizes.params", "[80%,79.9%]", *SIZES[2:])
    command = ["shrink", parakeet, *words(speech, tmp_path / "out", *more)]
    assert main(command) == 0
    entries = report_of(tmp_path / "out")["entries"]
    assert entries[2]["parameters"] == entries[1]["parameters"] <= entries[2]["limit"] < entries[1]["limit"]
    assert report_of(tmp_path / "out")["refit"]["utterances"] == 6
    assert not (tmp_path / "out" / "sizes").exists()
    assert main([*command, "--save"]) == 0
    for entry in report_of(tmp_path / "out")["entries"][1:]:
        folder = tmp_path / "out" / "sizes" / entry["name"].removesuffix("%")
        assert compress.load_model(str(folder)).num_parameters() == entry["parameters"]
    assert main(command) == 0
    assert folder.exists()  # nothing is taken away that was made


def test_uniform_sizes_out_of_reach_are_refused_before_anything_is_made(
    parakeet: str, speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ("--sizes.params", "[80%,20%]", "--structure", "uniform", *SIZES[2:])
    with pytest.raises(SystemExit):
        main(["shrink", parakeet, *words(speech, tmp_path / "out", *more)])
    assert "cannot be reached with equally many units in every block" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


def test_what_is_looked_at_is_not_what_is_measured(
    parakeet: str, speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As both would be of a source without splits."""
    command = ["shrink", parakeet, *words(speech / "dev", tmp_path / "out", *SIZES)]
    with pytest.raises(SystemExit):
        main(command)
    said = " ".join(capsys.readouterr().err.split())
    assert "the dev set would hold utterances of the speech that is looked at: both read" in said
    assert "name another source with dev.source" in said
    other = ("--dev.source", str(speech / "train"), "--dev.cache_dir", str(tmp_path / "cache"))
    assert main([*command, *other]) == 0
    assert report_of(tmp_path / "out")["data"]["split"] is None
    assert "train, whole source" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize(
    ("requested", "counted", "under"),
    [
        ("params 60% of total", "the model's parameters", ""),
        ("params 60% of encoder", "the encoder's parameters", ""),
        ("macs 60% of total", "the model's MACs", ""),
        ("macs 60% of encoder at 10 s", "the encoder's MACs", " at 10 s"),
        ("latency 60% of total", "the model's predicted time", ""),
        ("latency 60% at 3 s, 1 thread of torch", "the model's predicted time", " at 3 s, 1 thread of torch"),
    ],
)
def test_shares_are_said_to_be_of_what_was_asked_for(requested: str, counted: str, under: str) -> None:
    measured = {"wer": 0.1, "wer_ci95": [0.05, 0.2], "times_as_fast": 2.0, "macs_per_second": 1e6}
    size = {"name": "60%", "share": 0.6, "requested": requested}
    report = curve_report.with_chosen([{"name": "whole", "share": 1.0} | measured, size | measured])
    assert f"At 60.0 % of {counted} the word error rate is 10.00 %" in curve_report._headline(report)
    assert f"% of {counted}" in str(curve_report._panels(report)[0].parts[0])
    assert curve_report._sizes_of(report) == f"shares of {counted}{under}"
