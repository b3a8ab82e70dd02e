"""RESULTS.md is what the program writes from its entries; entries are added, answered and archived."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tools import results
from tools.add_result import ReportConfig, add_result
from tools.results import ANSWER, QUESTION, REMARK, AnswerConfig, ArchiveConfig, EntryConfig, FilesConfig

WRITTEN = "run: python -m tools.results index"


def test_the_results_are_what_the_program_writes_from_their_entries() -> None:
    assert results.results_text(results.read_entries(results.RESULTS)) == results.RESULTS.read_text(), WRITTEN
    assert results.archive_text(results.read_entries(results.ARCHIVE)) == results.ARCHIVE.read_text(), WRITTEN


def test_every_entry_has_a_question_and_an_answer_that_it_holds() -> None:
    for entry in results.read_entries(results.RESULTS):
        assert entry.head[QUESTION]
        assert entry.answering(entry.head[QUESTION], entry.head[ANSWER]) == entry
    for entry in results.read_entries(results.ARCHIVE):
        assert entry.head[results.SUPERSEDED]


def test_no_two_entries_have_one_title() -> None:
    titles = [entry.title for path in (results.RESULTS, results.ARCHIVE) for entry in results.read_entries(path)]
    assert len(titles) == len(set(titles))


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """Two entries, and where the archive goes."""
    paths = {"results": str(tmp_path / "R.md"), "archive": str(tmp_path / "old" / "archive.md")}
    for title, rate in (("First, at 50 %", "2.5 %"), ("Second", "3.5 %")):
        results.add(EntryConfig(title=title, results=paths["results"]), ["- date 2026-01-01", "", f"WER {rate}"])
    return paths


def test_an_answer_stands_in_the_index_with_a_link(files: dict[str, str]) -> None:
    config = AnswerConfig(title="First, at 50 %", question="How well?", answer="2.5 % WER", remark="One.", **files)
    results.answer(config)
    text = Path(files["results"]).read_text()
    assert "| How well? | 2.5 % WER | [First, at 50 %](#first-at-50) |" in text
    assert '## First, at 50 %\n\n<a id="first-at-50"></a>\n\n- question: How well?\n' in text
    first, second = results.read_entries(Path(files["results"]))
    assert first.head == {QUESTION: "How well?", ANSWER: "2.5 % WER", REMARK: "One."}
    assert first.lines == ("- date 2026-01-01", "", "WER 2.5 %")
    assert second.head == {}
    results.answer(AnswerConfig(title="First, at 50 %", question="How?", **files))
    assert results.read_entries(Path(files["results"]))[0].head[ANSWER] == "2.5 % WER"  # what is not given stays


def test_an_answer_that_the_entry_does_not_hold_is_refused(files: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"does not hold 2\.6"):
        results.answer(AnswerConfig(title="Second", question="How well?", answer="2.6 % WER", **files))
    with pytest.raises(ValueError, match="no entry 'Third'; it has 'First, at 50 %', 'Second'"):
        results.answer(AnswerConfig(title="Third", question="How well?", **files))


def test_a_superseded_entry_moves_with_its_text(files: dict[str, str]) -> None:
    results.archive(ArchiveConfig(title="First, at 50 %", because="Second: three seeds", **files))
    assert [entry.title for entry in results.read_entries(Path(files["results"]))] == ["Second"]
    text = Path(files["archive"]).read_text()
    assert "| [First, at 50 %](#first-at-50) | Second: three seeds |" in text
    assert "- date 2026-01-01\n\nWER 2.5 %\n" in text


def test_the_index_is_written_anew(files: dict[str, str]) -> None:
    results.archive(ArchiveConfig(title="First, at 50 %", because="Second", **files))
    path = Path(files["results"])
    whole = path.read_text()
    path.write_text(whole[whole.index("## Second") :])  # an entry without anything above it
    results.index(FilesConfig(**files))
    assert path.read_text() == whole


def test_a_title_is_given_once(files: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="has an entry 'Second' already"):
        results.add(EntryConfig(title="Second", results=files["results"]), ["again"])


def test_an_entry_is_made_of_a_report_and_of_runs(tmp_path: Path) -> None:
    measured = {
        "wer": 0.025, "wer_ci95": [0.02, 0.03], "cer": 0.01, "words": 2000, "substitutions": 40, "deletions": 5,
        "insertions": 5, "parameters": {"total": 1000, "encoder": 900}, "bytes": 4000, "macs_per_second": 5e6,
        "rtf": 0.1,
    }  # fmt: skip
    difference = {"wer": -0.01, "wer_ci95": [-0.02, 0.001]}
    ratio = {"parameters": 0.5, "macs": 0.61, "speed": 1.2}
    report = {"model": measured, "baseline": measured | {"wer": 0.035}, "difference": difference, "ratio": ratio}
    (tmp_path / "report.json").write_text(json.dumps(report | {"conditions": {"device": "cpu", "threads": 2}}))
    run = tmp_path / "student"
    run.mkdir()
    (run / "done.json").write_text(json.dumps({"steps": 500, "wer": 0.034, "nothing": None}))
    (run / "config.json").write_text(json.dumps({"seed": 3}))
    add_result(
        ReportConfig(
            title="T", command="one ; two", data="digits", report=str(tmp_path / "report.json"), runs=(str(run),),
            question="How well?", answer="2.50 %", results=str(tmp_path / "R.md"),
        )
    )  # fmt: skip
    text = (tmp_path / "R.md").read_text()
    assert "| How well? | 2.50 % | [T](#t) |" in text
    assert "- data: digits\n\n    one\n    two\n" in text
    assert "| WER % | 3.50 (2.00 to 3.00) | 2.50 (2.00 to 3.00) |" in text
    assert "Paired difference of WER: -1.00 points, 95 % interval -2.00 to +0.10." in text
    assert "MACs 0.610, speed 1.20 times." in text
    assert "Real-time factor: device cpu, threads 2." in text
    assert "- `student` (seed 3): steps 500, wer 0.034" in text
