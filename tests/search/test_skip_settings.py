"""`compress skip` and what `compress evaluate` says of the result, from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from compress.checkpoint import CheckpointError, load_model
from compress.cli import main
from compress.conformers import blocks_of
from compress.cost import size_of
from compress.data import BatchConfig, SpeechConfig
from compress.evaluation.usage import Frames, SkippingMacs, frames_of_last_pass, skipped_share
from compress.model.able_to_skip import able_to_skip
from compress.running.skipping import Skipping, SkippingError, read_skipping
from compress.search.skip_settings import CalibrateConfig, Dev, calibrate
from tests.helpers import tiny
from tools.web.browser import find_chromium, visit

QUICK = ["--batch.workers", "0", "--batch.seconds", "4"]
TIMING = ["--speed.seconds", "0.5", "--speed.warmup", "0", "--speed.repetitions", "1", "--bootstrap.resamples", "100"]


def options(speech: Path, out: Path, *more: str) -> list[str]:
    return ["--data", str(speech), "--data.cache_dir", str(speech / "cache"), "--out", str(out), *QUICK, *more]


@pytest.fixture(scope="module")
def calibrated(skips: str, speech: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("skip") / "out"
    assert main(["skip", skips, *options(speech, out, "--max-wer-increase=1000", "--thresholds", "[0.6,0.9]")]) == 0
    return out


def test_the_cheapest_setting_that_holds_is_stored(calibrated: Path, skips: str) -> None:
    found = json.loads((calibrated / "compression.json").read_text())["skipping"]
    assert found["chosen"] == found["trials"][-1]
    assert found["chosen"]["skipped"] > 0
    assert found["chosen"]["macs_share"] < 1
    model = load_model(str(calibrated))
    assert model.skipper.settings == Skipping(
        **found["chosen"]["settings"] | {"heads": tuple(found["chosen"]["settings"]["heads"])}
    )
    before = load_model(skips)
    assert all(torch.equal(tensor, before.state_dict()[name]) for name, tensor in model.state_dict().items())


def patched(monkeypatch: pytest.MonkeyPatch, rises: list[float]) -> None:
    """By how much the error rates of the measured settings exceed the one without skipping, one after the other."""
    measure, before = Dev.wer, []

    def wer(self: Dev, on_batch: Any = None) -> float:
        if on_batch is not None:
            before.append(measure(self, on_batch))
            return before[0]
        return before[0] + rises.pop(0)

    monkeypatch.setattr(Dev, "wer", wer)


def config(skips: str, speech: Path, out: Path, **more: Any) -> CalibrateConfig:
    data = SpeechConfig(source=str(speech), split="dev", cache_dir=str(speech / "cache"))
    return CalibrateConfig(model=skips, out=str(out), data=data, batch=BatchConfig(workers=0), **more)


def test_settings_are_tried_from_the_cheapest_on(
    skips: str, speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patched(monkeypatch, [0.3, 0.0021, 0.002])  # the cheapest, the most careful of its kind, the cheapest of the others
    found = calibrate(config(skips, speech, tmp_path / "out", max_wer_increase=0.2, thresholds=(0.5, 0.55)))["skipping"]
    first, careful, last = found["trials"]
    assert first["macs_share"] <= min(careful["macs_share"], last["macs_share"])
    assert careful["settings"] == first["settings"] | {"threshold": 0.55}
    assert found["chosen"] == last
    assert [last["settings"][name] for name in ("first_blocks", "extension")] != [
        first["settings"][name] for name in ("first_blocks", "extension")
    ]
    assert read_skipping(load_model(str(tmp_path / "out")).config.skipping) == Skipping(
        **found["chosen"]["settings"] | {"heads": (1, 2)}
    )


def test_a_careful_setting_that_holds_is_the_choice_where_no_cheaper_one_does(
    skips: str, speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patched(monkeypatch, [0.3, 0.0, 0.3, 0.3, 0.3])  # of both heads one setting each is left out, or holds
    given = {"thresholds": (0.45, 0.5, 0.55), "extensions": (0,)}
    found = calibrate(config(skips, speech, tmp_path / "out", **given))["skipping"]
    assert len(found["trials"]) == 5
    assert found["chosen"] == found["trials"][1]
    assert found["chosen"]["settings"]["threshold"] == 0.55


def test_another_model_can_give_the_rate_to_hold(
    skips: str, speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patched(monkeypatch, [0.1, 0.3, 0.1005])  # the baseline's comes first
    found = calibrate(config(skips, speech, tmp_path / "out", baseline=skips, thresholds=(0.6, 0.9)))["skipping"]
    assert found["wer_to_hold"] == pytest.approx(found["wer_without"] + 0.1)
    assert len(found["trials"]) == 2


def test_a_baseline_that_is_not_there_is_named_before_anything_is_measured(
    skips: str, speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Dev, "wer", lambda *_: pytest.fail("measured"))
    with pytest.raises(CheckpointError, match=r"There is no folder '\./nowhere'"):
        calibrate(config(skips, speech, tmp_path / "out", baseline="./nowhere"))


def test_a_model_that_has_learned_nothing_but_skipping_is_named(
    skips: str, speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    patched(monkeypatch, [-0.01])
    calibrate(config(skips, speech, tmp_path / "out"))
    assert "makes fewer errors when it skips" in caplog.text
    assert "--baseline MODEL" in caplog.text


def test_what_does_not_hold_is_not_written(
    skips: str, speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patched(monkeypatch, [0.3, 0.02])
    with pytest.raises(
        SkippingError, match=r"None of 2 settings keeps .* within 0\.1 points .* adds 2\.00: allow more"
    ):
        calibrate(config(skips, speech, tmp_path / "out", thresholds=(0.6,), extensions=(0,)))
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_without_an_intermediate_head_says_how_to_train_one(
    parakeet: str, speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["skip", parakeet, *options(speech, tmp_path / "out")])
    message = " ".join(capsys.readouterr().err.split())
    assert "no intermediate CTC output" in message
    assert "recipes/train.py --model.checkpoint CKPT --skipping.first_blocks [K]" in message


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"thresholds": (1.0,)}, "from 0 to below 1"),
        ({"extensions": (-1,)}, "numbers of neighbours"),
        ({"max_wer_increase": -0.1}, "max_wer_increase is -0.1; give at least 0 percentage points"),
        ({"utterances": 0}, "at least 1"),
        ({"normalise": "loudly"}, "is unknown"),
    ],
)
def test_senseless_options_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CalibrateConfig(model="model", out="out", **wrong)


def test_macs_are_those_of_the_gathered_sequences() -> None:
    model = able_to_skip(tiny.parakeet(), Skipping(1, heads=(1,), own_heads=True))
    macs, size = SkippingMacs(model), size_of(model, 4.0)
    frames = 100  # 4 seconds
    assert macs.full(frames) == pytest.approx(size.macs, rel=1e-6)
    settings = Skipping(1, heads=(1,))
    nothing = macs.of(Frames(frames, frames), settings) - macs.full(frames)
    assert nothing == pytest.approx(frames * 32 * tiny.VOCABULARY)  # the intermediate head
    saved = macs.full(frames) - macs.of(Frames(frames, 50), settings)
    last = [sum(block.values()) for block in size.block_macs][1:]
    half = [sum(block.values()) for block in size_of(model, 2.0).block_macs][1:]
    assert saved == pytest.approx(sum(last) - sum(half) - nothing, rel=1e-6)
    assert macs.share([Frames(frames, 0)], settings) < macs.share([Frames(frames, 50)], settings) < 1
    assert len(blocks_of(model)) == 3


def test_the_share_is_that_of_all_frames() -> None:
    assert skipped_share([Frames(10, 5), Frames(30, 30)]) == pytest.approx(5 / 40)
    with pytest.raises(ValueError, match="its threshold is 1"):
        frames_of_last_pass(able_to_skip(tiny.parakeet(), Skipping(1, 1.0, heads=(1,))))


@pytest.fixture(scope="module")
def report(calibrated: Path, parakeet: str, speech: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report")
    words = options(speech, out, *TIMING, "--data.split", "dev", "--baseline", parakeet)
    assert main(["evaluate", str(calibrated), *words]) == 0
    return out


def test_evaluate_reports_frames_macs_and_speed(report: Path, calibrated: Path) -> None:
    found = json.loads((report / "report.json").read_text())["skipping"]
    chosen = json.loads((calibrated / "compression.json").read_text())["skipping"]
    assert found["settings"] == chosen["chosen"]["settings"]
    assert found["skipped"] == pytest.approx(chosen["chosen"]["skipped"])
    assert found["macs_share"] == pytest.approx(chosen["chosen"]["macs_share"])
    assert found["off"]["wer"] == pytest.approx(chosen["wer_without"])
    assert found["on"]["wer"] == pytest.approx(chosen["chosen"]["wer"])
    assert found["predicted_speedup"] == pytest.approx(1 / found["macs_share"])
    assert set(found["rtf"]) == {"on", "off", "baseline"}
    assert found["speedup"] == pytest.approx(found["rtf"]["off"] / found["rtf"]["on"])
    example = found["example"]
    assert len(example["blank"]) == len(example["kept"]) > 0
    for blank, kept in zip(example["blank"], example["kept"], strict=True):
        if found["settings"]["extension"] == 0:
            assert kept == (blank <= found["settings"]["threshold"]) or abs(blank - example["threshold"]) < 1e-3
    assert "What skipping does" in (report / "report.md").read_text()


def test_the_page_shows_one_utterance(report: Path, tmp_path: Path) -> None:
    chromium = find_chromium()
    if chromium is None:
        pytest.skip("no Chromium to open the page in")
    expressions = {
        "line": "document.querySelector('.probability').getAttribute('points').split(' ').length",
        "deep": "document.querySelectorAll('rect.deep').length",
        "words": "document.body.innerText.includes('What skipping does')",
    }
    seen = visit(chromium, report / "report.html", tmp_path, 1200, expressions)
    example = json.loads((report / "report.json").read_text())["skipping"]["example"]
    assert seen.values["line"] == len(example["blank"])
    assert (seen.values["deep"] > 0) == any(example["kept"])
    assert seen.values["words"]
    assert not seen.messages
