"""Scores are made by metrics of `evaluate`: ours work offline, others run only by their explicit name."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from compress.evaluation.errors import align, count_errors
from compress.evaluation.metrics import CharacterErrorRate, WordErrorRate, error_rates, further_scores, load_metrics

METRIC = """
import datasets
import evaluate


class Same(evaluate.Metric):
    def _info(self):
        text = datasets.Value("string")
        features = datasets.Features({"predictions": text, "references": text})
        return evaluate.MetricInfo(description="", citation="", inputs_description="", features=features)

    def _compute(self, predictions, references):
        FAULT
        return {"same": sum(map(str.__eq__, predictions, references)) / len(references), "what": "text"}
"""
SAID, WRITTEN = ["a c", "d e", ""], ["a b", "d", "x"]


def test_metric_works_offline(monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the metric opened a connection")

    monkeypatch.setattr("socket.socket.connect", refuse)
    metric = WordErrorRate()
    metric.add(prediction="a b", reference="a c")
    metric.add_batch(predictions=["d"], references=["d e"])
    result = metric.compute()
    assert result["wer"] == 0.5
    assert (result["substitutions"], result["deletions"], result["words"]) == (1, 1, 4)
    assert metric.compute(predictions=["a"], references=["a"])["wer"] == 0


def test_metric_combines_with_others():
    import evaluate

    result = evaluate.combine([WordErrorRate()]).compute(predictions=["a b"], references=["a c"])
    assert np.isclose(result["wer"], 0.5)


def test_metrics_count_what_the_alignments_show() -> None:
    words = WordErrorRate().compute(predictions=WRITTEN, references=SAID)
    characters = CharacterErrorRate().compute(predictions=WRITTEN, references=SAID)
    columns = [column.kind for said, written in zip(SAID, WRITTEN, strict=True) for column in align(said, written)]
    kinds = ("substitute", "delete", "insert")
    assert [words[name] for name in ("substitutions", "deletions", "insertions")] == [
        columns.count(kind) for kind in kinds
    ]
    assert count_errors(SAID, WRITTEN).errors.sum() == sum(columns.count(kind) for kind in kinds)
    assert error_rates(SAID, WRITTEN).to_dict() == words | characters | {"utterances": 3}


def own_metric(folder: Path, fault: str = "pass") -> str:
    path = folder / "same_text" / "same_text.py"
    path.parent.mkdir()
    path.write_text(METRIC.replace("FAULT", fault))
    return str(path.parent)


def test_a_metric_that_is_named_is_loaded_and_said_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    name = own_metric(tmp_path)
    with caplog.at_level(logging.WARNING):
        metrics = load_metrics(["wer", "cer", name])
    assert f"metrics: {name} is no metric of this package: its code is loaded" in caplog.text
    assert further_scores(metrics, ["a", "b"], ["a", "c"]) == {name: {"same": 0.5}}


def test_our_own_metrics_are_always_there_and_load_no_code(caplog: pytest.LogCaptureFixture) -> None:
    assert load_metrics(["wer", "cer"]) == {}
    assert caplog.text == ""


@pytest.mark.parametrize(("name", "reason"), [("nonsense", "Couldn't find a module script"), ("", "")])
def test_a_metric_that_cannot_be_used_is_named(tmp_path: Path, name: str, reason: str) -> None:
    name = name or own_metric(tmp_path, "raise KeyError('lang')")
    with pytest.raises(
        ValueError, match=f"metrics: '.*{Path(name).name}' cannot be used to score transcripts: {reason}"
    ):
        load_metrics([name])
