"""The report as JSON, Markdown and terminal table; its numbers; writing it whole or not at all."""

from __future__ import annotations

import io
import json
from collections.abc import Callable

import pytest
from rich.console import Console

from compress.cli import main
from compress.evaluation import evaluate
from compress.evaluation.bootstrap import BootstrapConfig
from compress.evaluation.page import page_of
from compress.evaluation.report import Report, Transcripts, difference, kept_blocks, worst_utterances
from compress.evaluation.rows import comparison_rows, compression_line, headline, verdict
from compress.reports import formats
from compress.reports.console import show
from compress.reports.html import render_html
from compress.reports.markdown import render_markdown

MakeReport = Callable[..., Report]
ONCE = {"ffn1": 10, "attention": 20, "conv": 30, "ffn2": 40, "norm": 2}
BOOTSTRAP = BootstrapConfig(resamples=100)


def made(**texts: tuple[str, str]) -> Transcripts:
    """Transcripts from `id=(reference, hypothesis)`."""
    return Transcripts(
        ids=tuple(texts),
        seconds=tuple(1.0 for _ in texts),
        references=tuple(reference for reference, _ in texts.values()),
        hypotheses=tuple(hypothesis for _, hypothesis in texts.values()),
    )


def test_dropped_blocks_do_not_shift_the_others():
    units = {"ffn1": (1, 2), "attention": (1, 2), "conv": (0, 2), "ffn2": (2, 2)}
    now = [{"ffn1": 5, "attention": 10, "conv": 0, "ffn2": 40, "norm": 2}]
    rows = kept_blocks([None, units], now, [ONCE, ONCE])
    assert rows[0] is None
    assert rows[1] is not None
    assert rows[1]["attention"] == {"units": [1, 2], "parameters": [10, 20]}


def test_difference_is_taken_over_shared_utterances_in_any_order():
    model = made(a=("x y", "x y"), b=("x y", "x z"), c=("x", ""))
    baseline = made(b=("x y", "q q"), a=("x y", "x y"))
    result = difference(model, baseline, BOOTSTRAP)
    assert result["wer"] == pytest.approx(-0.25)
    assert (result["utterances"], result["better"], result["same"], result["worse"]) == (2, 1, 1, 0)
    with pytest.raises(ValueError, match="share no utterance"):
        difference(model, made(z=("x", "x")), BOOTSTRAP)


def test_worst_utterances_come_first_and_perfect_ones_never():
    transcripts = {
        "model": made(a=("x y", "x z"), b=("x y", "x y"), c=("x y z", "")),
        "baseline": made(a=("x y", "x y"), b=("x y", "x y")),
    }
    worst = worst_utterances(transcripts, 5)
    assert [one["id"] for one in worst] == ["c", "a"]
    assert worst[0]["baseline"] is None
    assert worst[1]["model"]["alignment"] == [["equal", "x", "x"], ["substitute", "y", "z"]]


@pytest.mark.parametrize("baseline", [True, False])
def test_report_is_plain_json_and_says_its_units(make_report: MakeReport, baseline: bool):
    report = make_report(baseline=baseline)
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert "0.05 is 5 %" in report["about"]["wer, cer, difference.wer"]
    assert ("difference" in report) == ("ratio" in report) == baseline


@pytest.mark.parametrize("baseline", [True, False])
def test_table_and_markdown_show_every_row(make_report: MakeReport, baseline: bool):
    report = make_report(baseline=baseline)
    screen = io.StringIO()
    show(page_of(report), Console(file=screen, width=160))
    page = render_markdown(page_of(report))
    for row in comparison_rows(report):
        assert row.label.strip() in screen.getvalue()
        assert row.model in page
    assert ("against baseline" in screen.getvalue()) == baseline
    for text in (screen.getvalue(), page):
        assert "broken <b>.flac" in text
        assert "cpu (Some Processor, 2 cores), 2 threads" in text  # the machine that the times hold for
    assert "| block | ffn1 | attention | conv | ffn2 |" in page


def test_markdown_tables_keep_their_columns(make_report: MakeReport):
    report = make_report(utterances=10)
    lines = [line for line in render_markdown(page_of(report)).splitlines() if line.startswith("| ")]
    assert {line.count("|") for line in lines} == {5, 6}


def test_headline_and_verdict_follow_the_interval(make_report: MakeReport):
    report = make_report()
    assert "of the parameters" in headline(report)
    for ends, words in (
        ([0.01, 0.02], "more errors"),
        ([-0.02, -0.01], "fewer errors"),
        ([-0.1, 0.1], "includes zero"),
    ):
        report["difference"]["wer_ci95"] = ends
        assert words in verdict(report)
    report["difference"] |= {"utterances": 1, "wer_ci95": [0.3, 0.3]}
    assert verdict(report) == "One utterance does not tell the two models apart."


@pytest.mark.parametrize(
    ("carried", "expected"),
    [
        (None, None),
        ({"compress_version": "0.1.0"}, None),
        ({"method": "apply", "teacher": "t"}, "teacher t"),
        (
            {"requested": "params 50% of total", "expected": 1.9e6, "achieved": 2_000_000, "full": 4_000_000},
            "requested params 50% of total, expected 1.90 M (47.50 %), achieved 2.00 M (50.00 %), before 4.00 M",
        ),
        (
            {"requested": "latency 50%", "achieved": 11_168_233, "full": 22_348_878, "metric": "latency"},
            "requested latency 50%, achieved 11.17 ms (49.97 %), before 22.35 ms",
        ),
    ],
)
def test_compression_is_shown_if_the_checkpoint_carries_it(carried: dict[str, object] | None, expected: str | None):
    assert compression_line({"compression": carried}) == expected


def test_every_form_of_the_report_speaks_of_the_compression_before(make_report: MakeReport) -> None:
    report = make_report(blocks=2, utterances=5)
    first = {"method": "prune", "teacher": "someone/large", "parameters_before": 4_000_000, "parameters": 2_000_000}
    report["model"]["compression"] = {"method": "prune", "teacher": "/runs/first", "teacher_compression": first}
    sentence = "first had itself been compressed (prune, from someone/large, 4,000,000 to 2,000,000 parameters)"
    console = Console(record=True, width=1000, file=io.StringIO())
    show(page_of(report), console)
    for text in (render_markdown(page_of(report)), render_html(page_of(report)), console.export_text()):
        assert sentence in text


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (formats.count(4_213_456), "4.21 M"),
        (formats.count(999), "999"),
        (formats.count(617_000_000), "617 M"),
        (formats.size(3 * 2**20), "3.00 MiB"),
        (formats.size(12), "12 B"),
        (formats.points(-0.0123), "\u22121.23"),
        (formats.points(0.0), "+0.00"),
        (formats.percent(0.0512), "5.1 %"),
        (formats.duration(9000), "2.5 h"),
        (formats.duration(90), "1.5 min"),
        (formats.duration(None), "length unknown"),
    ],
)
def test_numbers_as_people_read_them(shown: str, expected: str):
    assert shown == expected


def test_the_table_is_shown_though_it_could_not_be_written_at_the_end(
    make_report: MakeReport, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise evaluate.ReportNotWritten("Could not write out/report.json", make_report())

    monkeypatch.setattr(evaluate, "evaluate_models", fail)
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", "some/model", "--out", "out"])
    assert stop.value.code == 2
    said = capsys.readouterr()
    assert "95 % interval" in said.out
    assert "Could not write out/report.json" in said.err
