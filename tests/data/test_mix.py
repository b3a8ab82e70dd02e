"""Several data sets in one: shares of seconds, passes that go on, reports by source."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from accelerate import Accelerator

from compress.config import parse, to_dict
from compress.data import BatchConfig, SpeechConfig, SpeechDataset, SpeechLoader, open_speech, require_split
from compress.data.formats.arks import ArkRecord
from compress.data.settings import MixConfig
from compress.evaluation import EvaluateConfig
from compress.evaluation.data_check import DataCheckConfig, check_data, data_page
from compress.reports.markdown import render_markdown
from compress.training.run import RunConfig, open_data
from tests.helpers.formats import audio_bytes, write_lines, write_tar, write_tone
from tests.helpers.samples import RATE, tone, write_audio, write_folder

Open = Callable[..., SpeechDataset]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 200 short files, and a table of 40 at another rate, in strings of the large kind."""
    place = tmp_path_factory.mktemp("mix")
    write_folder(place / "long/train", 200)
    cells = [{"bytes": audio_bytes(0.3 + number / 100), "path": f"{number}.wav"} for number in range(40)]
    texts = pa.array(["stop now"] * 40, pa.large_string())
    (place / "short").mkdir()
    pyarrow.parquet.write_table(pa.table({"audio": cells, "transcription": texts}), place / "short/train.parquet")
    return place


@pytest.fixture
def mixed(sources: Path, cache: str) -> Callable[..., SpeechDataset]:
    def opened(weight: float = 3, *more: MixConfig, **options: Any) -> SpeechDataset:
        parts = (MixConfig(str(sources / "long"), weight), MixConfig(str(sources / "short")), *more)
        return open_speech(SpeechConfig(mix=parts, cache_dir=cache, **options), sampling_rate=RATE)

    return opened


def heard(dataset: SpeechDataset, epoch: int) -> tuple[Counter[int], list[float]]:
    """How often each entry is in an epoch, and the seconds of both sources in it."""
    entries = dataset.entries_of_epoch(0, epoch)
    seconds = [0.0, 0.0]
    for entry in entries:
        seconds[entry >= 200] += dataset.seconds[entry]
    return Counter(entries), seconds


@pytest.mark.parametrize("weight", [3, 0.5, 12])
def test_case_28_29_shares_are_of_seconds(mixed: Callable[..., SpeechDataset], weight: float) -> None:
    dataset = mixed(weight)
    entry = dataset.by_source()[1]
    total: Counter[int] = Counter()
    for epoch in range(4):
        counts, seconds = heard(dataset, epoch)
        assert all(counts[number] == 1 for number in range(200))
        assert seconds[1] / sum(seconds) == pytest.approx(1 / (1 + weight), rel=0.02)
        assert seconds[1] / sum(dataset.seconds[200:]) == pytest.approx(entry["passes_per_epoch"], rel=0.02)
        total.update({number: count for number, count in counts.items() if number >= 200})
    assert max(total.values()) - min(total[number] for number in range(200, 240)) <= 1
    assert sum(total.values()) == pytest.approx(4 * 40 * entry["passes_per_epoch"], rel=0.05)


@pytest.mark.usefixtures("without_features")
def test_batches_of_a_mix_resume_on_any_number_of_ranks(mixed: Callable[..., SpeechDataset], parakeet: Any) -> None:
    dataset = mixed(3)

    def ids(start: int = 0, **ranks: int) -> list[list[str]]:
        loader = SpeechLoader(dataset, parakeet, BatchConfig(seconds=30, workers=0), seed=1, **ranks)
        return [batch.ids for batch in loader.epoch(2, start)]

    everything = ids()
    assert ids(start=3) == everything[3:]
    ranks = [ids(rank=rank, world_size=2) for rank in (0, 1)]
    assert len(ranks[0]) == len(ranks[1])
    names = Counter(name for batch in everything for name in batch)
    assert names == Counter(name for rank in ranks for batch in rank for name in batch)
    assert names == Counter(dataset.ids[entry] for entry in dataset.entries_of_epoch(1, 2))


@pytest.mark.usefixtures("without_features")
def test_a_mix_without_shuffling_is_everything_once(mixed: Callable[..., SpeechDataset], parakeet: Any) -> None:
    loader = SpeechLoader(mixed(), parakeet, BatchConfig(seconds=60, workers=0), shuffle=False)
    assert Counter(name for batch in loader.epoch(0) for name in batch.ids) == Counter(mixed().ids)
    dataset = mixed()
    assert Counter(dataset.groups("source")).most_common() == [
        (source["source"], source["utterances"]) for source in dataset.by_source()
    ]
    assert set(dataset.groups("speaker")) == {"tone", None}
    assert np.array_equal(dataset[201].samples, dataset.parts()[1][1].samples)
    assert len(dataset.sample(7)) == len(dataset.sample(7).groups("source")) == 7
    with pytest.raises(ValueError, match=r"no column 'room'; it has source, file_name"):
        dataset.groups("room")


def test_case_30_one_file_in_two_sources(
    mixed: Callable[..., SpeechDataset], sources: Path, cache: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    row = {"audio_filepath": str(sources / "long/train/clips/003.wav"), "text": "stop"}
    manifest = write_lines(tmp_path / "m.json", [row])
    with caplog.at_level(logging.WARNING):
        mixed(3, MixConfig(str(manifest)))
    assert "hold 1 pieces of the same audio: clips/003.wav of the one is" in caplog.text
    train, dev = (SpeechConfig(str(place), cache_dir=cache) for place in (sources / "long", manifest))
    caplog.clear()
    require_split(*(open_speech(config, sampling_rate=RATE) for config in (train, dev)))
    assert "the training set and the dev set hold 1 pieces of the same audio: clips/003.wav" in caplog.text


def test_the_same_place_in_an_archive_is_the_same_audio_however_it_is_named(
    tmp_path: Path, cache: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tar(tmp_path / "t.tar", {"a.wav": audio_bytes(), "a.txt": b"stop"})
    monkeypatch.chdir(tmp_path)
    one, other = (
        open_speech(SpeechConfig(str(path), cache_dir=cache), sampling_rate=RATE).places()
        for path in ("t.tar", tmp_path / "t.tar")
    )
    assert one == other != {}
    parts = [ArkRecord(tmp_path / "a.ark", 5, end).place for end in (40, 60)]
    assert parts[0] == parts[1]


def test_a_run_writes_down_what_it_mixes(sources: Path, cache: str, tmp_path: Path, parakeet: Any) -> None:
    write_audio(tmp_path / "wide.wav", np.stack([tone(0.5), tone(0.5)], axis=1))
    rows = [{"audio_filepath": name, "text": "stop"} for name in ("wide.wav", "missing.wav", "dev.wav")]
    write_tone(tmp_path / "dev.wav")
    manifest, dev = write_lines(tmp_path / "m.json", rows), write_lines(tmp_path / "dev.json", rows[2:])
    mix = (MixConfig(str(sources / "short"), 2), MixConfig(str(manifest)))
    data = SpeechConfig(mix=mix, cache_dir=cache, max_bad_fraction=0.5)
    config = RunConfig(output=str(tmp_path / "run"), data=data, dev=SpeechConfig(str(dev), cache_dir=cache))
    open_data(config, parakeet, Accelerator(cpu=True))
    skipped, remark = (json.loads((tmp_path / f"run/{name}.jsonl").read_text()) for name in ("skipped", "remarks"))
    assert (skipped["file"], skipped["source"]) == ("missing.wav", str(manifest))
    assert (remark["file"], remark["source"]) == ("wide.wav", str(manifest))
    noted = json.loads((tmp_path / "run/data.json").read_text())["sources"]
    assert [(entry["weight"], entry["problems"]) for entry in noted] == [(2, 0), (1, 1)]
    with pytest.raises(ValueError, match=r"data.mix has no dev set of its own: name one with dev.source"):
        RunConfig(output="run", data=data)


def test_a_mix_is_checked_by_source(sources: Path, cache: str) -> None:
    mix = (MixConfig(str(sources / "long"), 3), MixConfig(str(sources / "short")))
    facts = check_data(DataCheckConfig(data=SpeechConfig(mix=mix, cache_dir=cache)))
    assert facts["source"] == f"{sources}/long + {sources}/short"
    assert [entry["share"] for entry in facts["sources"]] == [0.75, 0.25]
    assert "Speech by source" in render_markdown(data_page(facts))


def test_a_mix_in_words(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("data: {mix: [{source: A, weight: 3}, {source: B, text_column: words}]}")
    both = [
        ["--config", str(tmp_path / "c.yaml")],
        ["--data.mix", "[{source: A, weight: 3}, {source: B, text_column: words}]"],
    ]
    for words in both:
        config = parse(DataCheckConfig, words, prog="check").data
        assert config.mix == (MixConfig("A", 3.0), MixConfig("B", text_column="words"))
        assert [part.text_column for part in config.each()] == ["transcription", "words"]
        assert to_dict(config)["mix"][0]["weight"] == 3.0
    measured = parse(EvaluateConfig, ["m", *both[1]], prog="evaluate", positional=("model",)).data
    assert (measured.source, measured.split, len(measured.mix)) == ("", "test", 2)  # in place of the built-in speech


@pytest.mark.parametrize(
    ("mix", "message"),
    [
        ("[{source: A, wieght: 3}]", "Unknown key 'data.mix.wieght' in PLACE. Did you mean 'data.mix.weight'?"),
        ("[A, B]", "data.mix in PLACE holds 'A'; each of its entries is keys with values: [{source: ...}]"),
        ("A", "data.mix in PLACE holds 'A'; each of its entries is keys with values: [{source: ...}]"),
        ("[os.path]", "data.mix in PLACE holds 'os.path'; each"),
        ("[{class_path: os.path}]", "Unknown key 'data.mix.class_path' in PLACE"),
    ],
)
def test_a_mix_in_wrong_words(tmp_path: Path, mix: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "c.yaml").write_text(f"data: {{mix: {mix}}}")
    for words, place in (
        (["--config", f"{tmp_path}/c.yaml"], f"{tmp_path}/c.yaml"),
        (["--data.mix", mix], "the command line"),
    ):
        with pytest.raises(SystemExit):
            parse(DataCheckConfig, words, prog="check")
        assert message.replace("PLACE", place) in capsys.readouterr().err


def test_a_mix_goes_before_the_synthetic_corpus_and_has_a_sane_epoch(sources: Path, cache: str) -> None:
    assert EvaluateConfig(model="m", data=SpeechConfig("synthetic", mix=(MixConfig("B"),))).data.named() == "B"
    mix = (MixConfig(str(sources / "long")), MixConfig(str(sources / "short"), 1e6))
    with pytest.raises(
        ValueError, match=r"an epoch, which is .*long once, would read .*short [0-9,]+ times; put a larg"
    ):
        open_speech(SpeechConfig(mix=mix, cache_dir=cache), sampling_rate=RATE)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "data.source is ''; give a folder"),
        ({"source": "A", "mix": (MixConfig("B"),)}, "data.source is 'A'; leave it empty where data.mix is given"),
        ({"mix": (MixConfig("B"),), "streaming": True}, "streams cannot be mixed"),
    ],
)
def test_exactly_one_of_source_and_mix(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SpeechConfig(**settings)
