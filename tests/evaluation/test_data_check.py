"""`compress check`: a data set is looked at as training would."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from compress.cli import main
from tests.helpers.formats import audio_bytes, write_tar
from tests.helpers.processors import save_tiny
from tests.helpers.samples import tone, write_audio, write_metadata


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    """Ten tones, one of which is silent, one is called by a word with a letter of its own, and one is not there."""
    rows = []
    for number in range(10):
        name = f"{number}.wav"
        if number != 2:
            write_audio(
                tmp_path / "speech" / "train" / name, tone(0.5 + number / 10, level=0.0 if number == 1 else 0.3)
            )
        rows.append({"file_name": name, "transcription": "häh" if number == 3 else "low mid",
                     "Speaker_ID": "" if number == 9 else f"s{number % 2}"})  # fmt: skip
    write_metadata(tmp_path / "speech" / "train", rows)
    return tmp_path / "speech"


def checked(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    capsys.readouterr()
    try:
        code = main(["check", *words])
    except SystemExit as stop:
        code = int(stop.code or 0)
    return code, capsys.readouterr().out


def test_what_cannot_be_used_is_told(speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache = ("--data.cache_dir", str(tmp_path / "cache"))
    code, text = checked(capsys, str(speech), *cache)
    assert code == 1
    assert "2 of 10 entries cannot be used. Training would stop" in text
    assert "1.wav: silent" in text
    assert "2.wav: file not found" in text
    code, text = checked(capsys, str(speech), *cache, "--data.max_bad_fraction", "0.2")
    assert code == 0
    assert "Training would go on without them" in text
    assert "2, by the column Speaker_ID" in text
    assert "entries without a speaker" in text
    assert "least, median, most of one" in text


def test_the_tokenizer_of_a_model_decides_on_characters(
    speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_tiny(tmp_path / "model")
    words = (str(speech), "--model", str(tmp_path / "model"), "--json", "--data.cache_dir", str(tmp_path / "cache"))
    code, text = checked(capsys, *words)
    facts = json.loads(text)
    assert code == 1
    assert (facts["entries"], facts["used"]) == (10, 7)
    reasons = {problem["file"]: problem["reason"] for problem in facts["problems"]}
    assert reasons["3.wav"].startswith("characters outside the vocabulary: 'ä'")
    assert facts["characters"] == " dilmow"
    assert facts["seconds"] == pytest.approx(sum(0.5 + number / 10 for number in (0, 4, 5, 6, 7, 8, 9)), abs=0.01)
    seconds = {"s0": 0.5 + 0.9 + 1.1 + 1.3, "s1": 1.0 + 1.2}
    assert facts["speakers"] == {"column": "Speaker_ID", "seconds": pytest.approx(seconds, abs=0.01), "unknown": 1}
    assert facts["lengths"]["longest"] == pytest.approx(1.4, abs=0.01)


def test_rows_that_share_a_fault_are_told_together(
    speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever their lines are; and a transcript of half a character is asked of no tokenizer."""
    save_tiny(tmp_path / "model")
    row = '{"file_name": "%d.wav", "transcription": "%s"}'
    rows = [row % (4, "low"), "3", "null", row % (5, "lo\\ud800"), row % (6, "mid")]
    (speech / "train/metadata.csv").unlink()
    (speech / "train/metadata.jsonl").write_text("\n".join(rows))
    cache = ("--data.cache_dir", str(tmp_path / "cache"))
    code, text = checked(capsys, str(speech), "--model", str(tmp_path / "model"), *cache)
    assert code == 1
    assert "the row is no JSON object: 2" in text
    assert "the transcript holds halves of characters: 1" in text


def test_a_source_of_which_nothing_can_be_used_is_told_in_full(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where any share may be unusable; of a mix the source is named."""
    write_metadata(tmp_path / "speech" / "train", [{"file_name": f"{n}.wav", "transcription": "low"} for n in range(3)])
    words = (str(tmp_path / "speech"), "--data.cache_dir", str(tmp_path / "cache"), "--data.max_bad_fraction", "1")
    code, text = checked(capsys, *words, "--json")
    facts = json.loads(text)
    assert code == 1
    assert (facts["entries"], facts["used"], facts["seconds"], facts["lengths"]) == (3, 0, 0.0, None)
    assert [problem["file"] for problem in facts["problems"]] == ["0.wav", "1.wav", "2.wav"]
    code, text = checked(capsys, *words)
    assert code == 1
    assert "None of 3 entries can be used. Training would stop." in text
    assert "file not found: 3" in text
    with pytest.raises(SystemExit) as stop:
        main(["check", "--data.mix", f"[{{source: {tmp_path / 'speech'}}}]", "--json", *words[1:]])
    assert stop.value.code == 2
    assert f"{tmp_path / 'speech'}" in "".join(capsys.readouterr().err.split())


def test_each_source_of_a_mix_is_judged_by_itself(
    speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"file_name": f"{number}.wav", "transcription": "low"} for number in range(60)]
    for row in rows:
        write_audio(tmp_path / "good" / "train" / row["file_name"], tone(0.3))
    write_metadata(tmp_path / "good" / "train", rows)
    mix = f"[{{source: {tmp_path / 'good'}}}, {{source: {speech}}}]"
    words = ("--data.mix", mix, "--data.cache_dir", str(tmp_path / "cache"), "--data.max_bad_fraction")
    code, text = checked(capsys, *words, "0.1")
    assert code == 1
    assert "2 of 70 entries cannot be used. Training would stop" in text
    assert checked(capsys, *words, "0.2")[0] == 0


def test_what_can_only_be_streamed_is_not_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tar = write_tar(tmp_path / "x.tar", {"a.wav": audio_bytes(), "a.txt": b"stop"})
    packed = tmp_path / "y.tar.gz"
    packed.write_bytes(gzip.compress(tar.read_bytes()))
    with pytest.raises(SystemExit):
        main(["check", str(packed), "--data.streaming", "true", "--data.cache_dir", str(tmp_path / "cache")])
    assert "compress check lists a data set as a whole" in " ".join(capsys.readouterr().err.split())


def test_a_split_that_is_not_there_is_named(speech: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["check", str(speech), "--data.split", "test"])
    assert stop.value.code == 2
    assert "no split 'test'; it has train" in capsys.readouterr().err
