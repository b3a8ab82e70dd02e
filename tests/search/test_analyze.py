"""`compress analyze`: how the blocks of a model behave."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compress.checkpoint import load_model, load_processor, save
from compress.cli import main
from compress.conformers import blocks_of
from compress.model.able_to_skip import able_to_skip
from compress.running.skipping import Skipping, write_skipping
from compress.search import structure_without
from compress.search.analyze import AnalyzeConfig
from tests.helpers import tiny
from tests.helpers.processors import processor_of
from tests.helpers.searching import options
from tools.web.browser import find_chromium, visit


def run(model: str, speech: Path, out: Path, *more: str) -> dict[str, Any]:
    assert main(["analyze", model, *options(speech, out, *more)]) == 0
    found: dict[str, Any] = json.loads((out / "analysis.json").read_text())
    return found


def test_every_block_and_every_file(parakeet: str, speech: Path, tmp_path: Path) -> None:
    found = run(parakeet, speech, tmp_path / "out", "--measures", "[svcca,cka,distance_correlation]")
    assert found["blocks"] == 3
    assert [one["block"] for one in found["removals"]] == [one["block"] for one in found["heads"]] == [0, 1, 2]
    assert set(found["matrices"]) == {"svcca", "cka", "distance_correlation"}
    for values in found["matrices"].values():
        assert np.array(values).shape == (4, 4)
    assert all(np.isfinite(one["ctc_loss"]) for one in found["heads"])
    page = (tmp_path / "out" / "analysis.html").read_text()
    assert page.count('class="shade') == 3 * 16
    assert "without 0" in page
    assert "after 0" in page
    assert "<script" not in page
    text = (tmp_path / "out" / "analysis.md").read_text()
    assert "## Without one block" in text
    assert "## The CTC head after each block" in text


def test_the_last_head_is_the_model_and_the_one_before_the_model_without_its_last_block(
    parakeet: str, speech: Path, tmp_path: Path
) -> None:
    found = run(parakeet, speech, tmp_path / "out")
    rates = {key: [one[key] for one in found["heads"]] for key in ("wer", "cer")}
    for key, values in rates.items():
        assert values[-1] == pytest.approx(found["whole"][key])
        assert values[-2] == pytest.approx(found["removals"][-1][key])


def test_heads_hear_all_frames_of_a_model_that_skips(
    checkpoint: Callable[[str, Any], str], speech: Path, tmp_path: Path
) -> None:
    model = able_to_skip(tiny.parakeet(), Skipping(1, 1.0, heads=(1,)))
    whole = run(checkpoint("parakeet-whole", model), speech, tmp_path / "whole")
    model.config.skipping = write_skipping(Skipping(1, 0.0, heads=(1,)))
    assert run(checkpoint("parakeet-half", model), speech, tmp_path / "half")["heads"] == whole["heads"]


def test_a_removal_is_that_of_search(parakeet: str, speech: Path, tmp_path: Path) -> None:
    found = run(parakeet, speech, tmp_path / "out")
    assert (
        main(["search", parakeet, *options(speech, tmp_path / "search", "--remove", "1", "--methods", "[greedy]")]) == 0
    )
    search = json.loads((tmp_path / "search" / "search.json").read_text())
    best = search["best"]
    mine = next(one for one in found["removals"] if one["block"] == best["removed"][0])
    assert mine["wer"] == pytest.approx(best["wer"])
    assert min(one["wer"] for one in found["removals"]) == mine["wer"]


def test_a_model_without_a_ctc_head_has_no_heads_and_says_why(speech: Path, tmp_path: Path) -> None:
    model = tiny.OTHER_MODELS["canary"]()
    save(model, processor_of(model), tmp_path / "canary")
    words = speech / "canary"  # its tokenizer knows other letters
    (words / "dev").mkdir(parents=True)
    for number in range(3):
        shutil.copyfile(speech / "dev" / f"{number}.wav", words / "dev" / f"{number}.wav")
    (words / "dev" / "metadata.csv").write_text("file_name,transcription\n0.wav,low\n1.wav,mid\n2.wav,high\n")
    more = ("--generate.max_new_tokens", "4")
    found = run(str(tmp_path / "canary"), words, tmp_path / "out", *more)
    assert found["heads"] == []
    assert "no CTC head" in found["no_heads_because"]
    assert "no CTC head" in (tmp_path / "out" / "analysis.html").read_text()
    assert len(found["removals"]) == 3


def test_blocks_that_change_the_frame_rate_are_left_out(
    checkpoint: Callable[[str, Any], str], speech: Path, tmp_path: Path
) -> None:
    model = checkpoint("granite_speech5", tiny.granite_speech5())
    found = run(model, speech, tmp_path / "out", "--utterances", "4")
    assert [one["block"] for one in found["removals"]] == [1, 2]
    assert [one["block"] for one in found["heads"]] == [0, 1, 2]


def test_nothing_about_the_model_changes(parakeet: str, speech: Path, tmp_path: Path) -> None:
    files = {path.name: path.read_bytes() for path in Path(parakeet).iterdir()}
    run(parakeet, speech, tmp_path / "out", "--utterances", "2")
    assert {path.name: path.read_bytes() for path in Path(parakeet).iterdir()} == files
    model = load_model(parakeet)
    assert len(structure_without(model, (1,)).blocks) == len(blocks_of(model))
    assert load_processor(parakeet) is not None


def test_senseless_settings_are_refused(parakeet: str) -> None:
    with pytest.raises(ValueError, match="measures='pearson' is unknown; choose one of"):
        AnalyzeConfig(model=parakeet, measures=("pearson",))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="utterances is 0"):
        AnalyzeConfig(model=parakeet, utterances=0)


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_is_quiet_in_chromium(parakeet: str, speech: Path, tmp_path: Path, width: int) -> None:
    chromium = find_chromium()
    if chromium is None:
        pytest.skip("no Chromium on this machine (looked for chromium, google-chrome and the like)")
    run(parakeet, speech, tmp_path)
    page = tmp_path / "analysis.html"
    measures = {"overflow": "document.documentElement.scrollWidth - document.documentElement.clientWidth"}
    seen = visit(chromium, page, tmp_path / "profile", width, measures)
    assert seen.messages == []
    assert [url for url in seen.requests if not url.startswith("data:")] == [page.as_uri()]
    assert seen.values == {"overflow": 0}


def test_a_model_of_one_block_cannot_do_without_it(
    checkpoint: Callable[[str, Any], str], speech: Path, tmp_path: Path
) -> None:
    [one] = run(checkpoint("parakeet-one", tiny.parakeet(num_hidden_layers=1)), speech, tmp_path / "out")["heads"]
    assert one["block"] == 0
    text = (tmp_path / "out" / "analysis.md").read_text()
    assert "The model can do without none of its blocks, of which it has 1: WER" in text
    assert "Without one block" not in text


def test_losses_leave_out_what_cannot_be_aligned(parakeet: str, speech: Path, tmp_path: Path) -> None:
    """The mean is that of the others, and it is said how many there are."""
    dev = speech / "dev"
    lines = (dev / "metadata.csv").read_text().splitlines()
    for name, rows in (("good", lines[:4]), ("long", [*lines[:4], f"{lines[4].split(',')[0]},{'ab ' * 40}"])):
        (tmp_path / name / "dev").mkdir(parents=True)
        for row in rows[1:]:
            shutil.copy(dev / row.split(",")[0], tmp_path / name / "dev")
        (tmp_path / name / "dev" / "metadata.csv").write_text("\n".join(rows) + "\n")
    good, long = (run(parakeet, tmp_path / name, tmp_path / f"{name}-out") for name in ("good", "long"))
    assert [head["unalignable"] for head in long["heads"]] == [1, 1, 1]
    for mine, other in zip(long["heads"], good["heads"], strict=True):
        assert mine["ctc_loss"] == pytest.approx(other["ctc_loss"], rel=1e-4)
    said = "The losses leave out 1 utterance with more tokens than frames."
    assert said in (tmp_path / "long-out" / "analysis.md").read_text()
    assert said not in (tmp_path / "good-out" / "analysis.md").read_text()
