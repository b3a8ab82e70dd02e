"""What the tool measures that goes on inside an epoch of shards."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from compress.data import BatchConfig
from tools.experiments import measure_resume


def test_going_on_inside_an_epoch_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And compared with what would have come next."""
    monkeypatch.setattr(measure_resume, "DIFFERENT", 3)
    config = measure_resume.ResumeConfig(
        folder=str(tmp_path / "speech"), hours=0.02, title="Going on", results=str(tmp_path / "R.md"),
        batch=BatchConfig(seconds=15.0, workers=0, buffer_utterances=1),
    )  # fmt: skip
    measure_resume.measure_resume(config)
    text = (tmp_path / "R.md").read_text()
    assert all(f"| {kind} | " in text for kind in measure_resume.KINDS)
    assert "0.02 hours of noise in FLAC, 4 shards" in text
    assert list((tmp_path / "speech").iterdir()) == []
    with pytest.raises(ValueError, match="hours is 0"):
        replace(config, hours=0.0)
