"""Error rates by a metadata column: one per group, those without a value last; a refusal names the columns."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from datasets import Dataset

from compress.cli import main
from compress.data import SpeechConfig, open_speech
from compress.evaluation.bootstrap import BootstrapConfig
from compress.evaluation.groups import MOST_SHOWN, NO_VALUE, group_sections, rates_by_group
from compress.evaluation.page import page_of
from compress.evaluation.report import Report, Transcripts
from compress.reports.html import render_html
from compress.reports.markdown import render_markdown
from compress.reports.page import Table
from tests.helpers.processors import save_tiny
from tests.helpers.samples import RATE, table, tone, write_audio, write_folder, write_metadata

BOOTSTRAP = BootstrapConfig(resamples=100)


def transcripts(*texts: tuple[str, str]) -> Transcripts:
    ids = tuple(str(number) for number in range(len(texts)))
    return Transcripts(ids, (1.0,) * len(texts), tuple(said for said, _ in texts), tuple(heard for _, heard in texts))


TEXTS = transcripts(("a b", "a b"), ("a b", "a"), ("a", "b"), ("a b c d", "a b c d"), ("", ""))
GROUPS = {"0": "ann", "1": "ann", "2": "bob", "3": None, "4": "eve"}


def test_each_group_has_its_rate_and_the_worst_comes_first() -> None:
    entry = rates_by_group("speaker", GROUPS, {"model": TEXTS, "baseline": TEXTS}, BOOTSTRAP)
    assert entry["column"] == "speaker"
    assert [group["value"] for group in entry["groups"]] == ["bob", "ann", "eve", None]
    bob, ann, eve, unknown = entry["groups"]
    assert (ann["words"], ann["model"]["wer"]) == (4, 0.25)
    assert 0 <= ann["model"]["wer_ci95"][0] <= 0.25 <= ann["model"]["wer_ci95"][1]
    assert ann["baseline"] == ann["model"]
    assert bob["model"] == {"wer": 1.0, "wer_ci95": None}  # one utterance tells nothing of others
    assert eve["model"] == {"wer": None, "wer_ci95": None}  # no word to err in
    assert unknown["model"]["wer"] == 0.0


def test_pages_show_groups_and_leave_out_what_is_too_much(make_report: Callable[..., Report]) -> None:
    report = make_report(baseline=False, utterances=10)
    assert group_sections(report) == []
    report["by"] = rates_by_group("speaker", GROUPS, {"model": TEXTS}, BOOTSTRAP)
    assert "Word error rate by speaker" in render_html(page_of(report))
    assert f"| {NO_VALUE} | 1 | 4 | 0.00 % |  |" in render_markdown(page_of(report))
    many = transcripts(*[("a", "b")] * (MOST_SHOWN + 9))
    report["by"] = rates_by_group("name", {name: name for name in many.ids}, {"model": many}, BOOTSTRAP)
    (section,) = group_sections(report)
    (shown,) = (part for part in section.parts if isinstance(part, Table))
    assert len(shown.rows) == MOST_SHOWN
    assert "all are in report.json" in render_markdown(page_of(report))


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five tones by two speakers and nobody; the second cannot be used."""
    folder = tmp_path_factory.mktemp("speech")
    speakers = ["ann", "ann", "bob", "", "ann"]
    rows = []
    for number, speaker in enumerate(speakers):
        write_audio(folder / f"{number}.wav", tone(0.5, level=0.0 if number == 1 else 0.3))
        rows.append({"file_name": f"{number}.wav", "transcription": "low mid", "speaker": speaker, "age": number})
    write_metadata(folder, rows)
    return folder


def test_evaluate_by_column(speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_tiny(tmp_path / "model")
    words = ["evaluate", str(tmp_path / "model"), "--data", str(speech), "--data.cache_dir", str(tmp_path / "cache"),
             "--data.max_bad_fraction", "1", "--batch.workers", "0", "--speed.repetitions", "1", "--speed.seconds", "1",
             "--bootstrap.resamples", "100"]  # fmt: skip
    assert main([*words, "--by", "speaker", "--out", str(tmp_path / "out")]) == 0
    assert "Word error rate by speaker" in capsys.readouterr().out
    groups = json.loads((tmp_path / "out/report.json").read_text())["by"]["groups"]
    assert {group["value"]: group["utterances"] for group in groups} == {"ann": 2, "bob": 1, None: 1}
    with pytest.raises(SystemExit):
        main([*words, "--by", "spaeker"])
    assert "no column 'spaeker'; it has file_name, transcription, speaker, age" in capsys.readouterr().err


def test_tables_keep_their_columns(tmp_path: Path) -> None:
    write_folder(tmp_path / "audio/train", 3)
    rows = table(tmp_path / "audio", 3)
    rows = rows.add_column("reader", ["x", None, "y"]).add_column("parts", [[1], [2], [3]])
    assert isinstance(rows, Dataset)
    rows.to_parquet(tmp_path / "rows.parquet")
    config = SpeechConfig(str(tmp_path / "rows.parquet"), audio_column="sound", text_column="words", cache_max_gib=0)
    speech = open_speech(config, sampling_rate=RATE)
    assert speech.groups("reader") == ["x", None, "y"]
    with pytest.raises(ValueError, match=r"'parts' cannot be used: it holds a value of type list"):
        speech.groups("parts")
