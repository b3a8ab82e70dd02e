"""Tars in WebDataset's convention, and sources that are none or several."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from compress.data import SpeechConfig, SpeechDataset
from compress.data.audio import UnusableAudio, decode
from compress.data.dataset import SpeechStream
from compress.data.formats.tar_streams import files_in
from compress.data.formats.tars import index_tar
from compress.evaluation.data_check import DataCheckConfig, check_data, data_page
from compress.reports.markdown import render_markdown
from tests.helpers.formats import (
    audio_bytes,
    cut,
    lengths,
    reasons,
    remarks,
    write_kaldi,
    write_lines,
    write_tar,
    write_tone,
)  # fmt: skip
from tests.helpers.samples import write_folder

Open = Callable[..., SpeechDataset]
LONG = "long/" * 30


@pytest.mark.parametrize("kind", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_case_23_members_apart_dots_and_long_names(tmp_path: Path, opened: Open, kind: int) -> None:
    audio = {name: audio_bytes(0.5 + number / 4) for number, name in enumerate(("sp0.9-u1.wav", "sp0.9-u2.WAV"))}
    texts = {"sp0.9-u1.txt": b"one\n", "sp0.9-u2.txt": b"\xef\xbb\xbftwo"}
    others = {"a/": b"", "._u1.wav": b"x", f"{LONG}u.wav": audio_bytes(), f"{LONG}u.txt": b"three", "alone.txt": b"?"}
    write_tar(tmp_path / "train-000.tar", {**audio, **texts, **others}, kind=kind)
    dataset = opened(tmp_path)
    assert dataset.texts == ["one", "two", "three"]
    assert list(lengths(dataset).values()) == [0.5, 0.75, 0.5]
    assert remarks(dataset) == ["train-000.tar/alone.txt: not used: no audio file is called alike"]
    assert (dataset.split, opened(tmp_path / "train-000.tar").texts) == ("train", dataset.texts)


def test_transcripts_in_json(tmp_path: Path, opened: Open) -> None:
    said = json.dumps({"text": "stop", "speaker": "ann"}).encode()
    broken = {"b.wav": audio_bytes(), "b.json": b"{", "c.wav": audio_bytes(), "c.json": b"[]"}
    write_tar(tmp_path / "a.tar", {"a.wav": audio_bytes(), "a.json": said, **broken})
    dataset = opened(tmp_path / "a.tar")
    assert (dataset.texts, dataset.groups("speaker")) == (["stop"], ["ann"])
    assert "its json cannot be read" in reasons(dataset)["a.tar/b.wav"]
    assert reasons(dataset)["a.tar/c.wav"] == "no transcript"
    assert opened(tmp_path / "a.tar", text_column="speaker").texts == ["ann"]
    write_tar(tmp_path / "b.tar", {"a.wav": audio_bytes(), "a.cls": b"1"})
    with pytest.raises(ValueError, match=r"b.tar: b.tar/a.wav: no transcripts; looked for .*txt, text.*, it has cls"):
        opened(tmp_path / "b.tar")
    assert len(opened(tmp_path / "b.tar", labels=False)) == 1


def test_case_24_a_truncated_tar(tmp_path: Path, opened: Open) -> None:
    path = write_tar(
        tmp_path / "a.tar", {"a.wav": audio_bytes(), "a.txt": b"one", "b.txt": b"two", "b.wav": audio_bytes()}
    )
    path.write_bytes(path.read_bytes()[:-15_000])
    dataset = opened(path)
    assert dataset.texts == ["one"]
    assert remarks(dataset)[0].startswith("a.tar: truncated tar: the last file in it is cut off; 3 files before it")


def test_packed_tars_are_streams(tmp_path: Path, opened: Open, caplog: pytest.LogCaptureFixture) -> None:
    said = json.dumps({"text": "stop"}).encode()
    for shard, (name, kind) in enumerate((("u1", "txt"), ("u2", "json"))):
        tar = write_tar(tmp_path / f"{kind}/a-{shard}.tar", {f"{name}.{kind}": said, f"{name}.wav": audio_bytes(),
                        "._u.wav": b"x", "u3.wav": audio_bytes(1.0, 300)})  # fmt: skip
        packed = tar.with_suffix(".tar.gz")
        packed.write_bytes(gzip.compress(tar.read_bytes()))
        tar.unlink()
        with pytest.raises(
            ValueError, match=r"a packed tar cannot be read at any place; .* set data.streaming to true"
        ):
            opened(packed)
    for place, texts in (("txt", [said.decode(), None]), ("json/a-1.tar.gz", ["stop", None])):
        stream = opened(tmp_path / place, streaming=True)
        assert isinstance(stream, SpeechStream)
        (block,) = stream.source.read(10, 1, shuffle=False, seed=0, epoch=0)
        assert [row.text for row in block.rows] == texts
    assert (block.rows[0].id, block.rows[0].payload) == ("a-1.tar.gz/u2.wav", audio_bytes())
    packed.write_bytes(packed.read_bytes()[:-400])
    (block,) = stream.source.read(10, 1, shuffle=False, seed=0, epoch=0)
    assert len(block.rows) == 1
    assert "truncated or damaged tar, or none" in caplog.text
    whole = write_tar(tmp_path / "c.tar", {"a.wav": audio_bytes(), "a.txt": b"stop"}).read_bytes()
    (tmp_path / "c.tar").write_bytes(whole[: -20 * 512 - 1024] + b"x" * 20 * 512)
    caplog.clear()
    assert [name for name, _ in files_in(tmp_path / "c.tar")] == ["a.wav"]
    assert "begins no file; the files before it are used" in caplog.text
    damaged = bytearray(gzip.compress(whole))
    damaged[-8] ^= 1  # of the checksum
    cases = {
        "the end of a tar, and more behind it": 2 * gzip.compress(whole),
        "CRC check failed": bytes(damaged),
        "its end is missing": whole[: whole.index(b"a.txt")],
    }
    for message, content in cases.items():
        (tmp_path / "d.tar").write_bytes(content)
        caplog.clear()
        assert [name for name, _ in files_in(tmp_path / "d.tar")][:1] == ["a.wav"]
        assert message in caplog.text
    write_tar(tmp_path / "b.tar", {"a.wav": audio_bytes(), "a.cls": b"1"})
    with pytest.raises(ValueError, match=r"no transcripts; looked for .*, it has cls"):
        opened(tmp_path / "b.tar", streaming=True)


def test_names_may_begin_at_the_folder_that_was_packed(tmp_path: Path, opened: Open) -> None:
    """As `tar cf a.tar .` writes them."""
    path = write_tar(tmp_path / "a.tar", {"./": b"", "./x/a.wav": audio_bytes(), "./x/a.txt": b"stop"})
    assert (opened(path).ids, opened(path).texts) == (["a.tar/x/a.wav"], ["stop"])
    (block,) = opened(path, streaming=True).source.read(10, 1, shuffle=False, seed=0, epoch=0)
    assert [(row.id, row.text) for row in block.rows] == [("a.tar/x/a.wav", "stop")]


def test_an_empty_file_is_one_utterance_that_cannot_be_used(tmp_path: Path, opened: Open) -> None:
    write_tar(tmp_path / "a.tar", {"a.wav": b"", "a.txt": b"stop", "b.wav": audio_bytes(), "b.txt": b"go"})
    stream = opened(tmp_path / "a.tar", streaming=True)
    assert isinstance(stream, SpeechStream)
    (block,) = stream.source.read(10, 1, shuffle=False, seed=0, epoch=0)
    assert [row.payload for row in block.rows] == [b"", audio_bytes()]
    with pytest.raises(UnusableAudio, match="empty: 0 bytes"):
        decode(b"", stream.limits)


def test_what_a_tar_hides_is_told(tmp_path: Path, opened: Open) -> None:
    path = write_tar(tmp_path / "a.tar", {"a.wav": audio_bytes(), "b.wav": audio_bytes()})
    whole, second = path.read_bytes(), 512 + -(-len(audio_bytes()) // 512) * 512
    cases = {
        "damaged tar: byte 16,896 begins no file; 1 files": whole[:second] + b"x" * 512 + whole[second + 512 :],
        "truncated tar: its end is missing; 2 files": whole[: 2 * second],
        "more behind the end of a tar: from byte 33,792 (": whole + whole,
    }
    for message, content in cases.items():
        path.write_bytes(content)
        assert remarks(opened(path, labels=False))[0].startswith(f"a.tar: {message}")
    with tarfile.open(path, "w") as tar:
        for _ in range(2):
            member = tarfile.TarInfo("a.wav")
            member.size = len(audio_bytes())
            tar.addfile(member, io.BytesIO(audio_bytes()))
    assert remarks(opened(path, labels=False)) == ["a.tar/a.wav: two files of this name: the last is used"]


def test_a_header_that_claims_much_takes_no_memory(tmp_path: Path) -> None:
    member = tarfile.TarInfo("x")
    member.type, member.size = tarfile.XHDTYPE, 8**11 - 1
    (tmp_path / "a.tar").write_bytes(member.tobuf() + bytes(2048))
    with pytest.raises(ValueError, match=r"a.tar: no whole file in this tar: "):
        index_tar(tmp_path / "a.tar")


def test_case_31_nothing_there(tmp_path: Path, opened: Open) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "a.json").write_text("")
    (tmp_path / "a.tar").write_bytes(b"")
    write_tar(tmp_path / "b.tar", {})
    write_tar(tmp_path / "c.tar", {"readme.md": b"x"})
    (tmp_path / "d.tar.gz").write_bytes(gzip.compress(b"x"))
    write_kaldi(tmp_path / "kaldi", wav_scp="\n")
    cases = {
        "folder": "looked for an audiofolder .*; it is empty",
        "a.json": "a.json: an empty file",
        "a.tar": "a.tar: an empty file, no tar",
        "b.tar": "b.tar: no audio files in it",
        "c.tar": "c.tar: no audio files in it; it holds readme.md",
        "d.tar.gz": "a packed tar cannot be read at any place; unpack it first",
        "kaldi": "wav.scp: holds no lines",
    }
    for name, message in cases.items():
        with pytest.raises(ValueError, match=message):
            opened(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", '[{"audio_filepath": "a.wav"}]', "a JSON array; one object a line is wanted"),
        ("a.json", '{\n "audio_filepath": "a.wav"}', "line 1 is no whole JSON object"),
        ("a.json", "\ud83d", "a.json: line 1 is no UTF-8; save the file as UTF-8"),
        ("a.json", '{"path": "a.wav"}', "its rows name no audio; looked for .*; they have path"),
        ("a.xyz", "words", "not a data set; give a metadata file"),
    ],
)
def test_what_is_nearly_a_manifest_is_told(tmp_path: Path, opened: Open, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content, errors="surrogatepass")
    with pytest.raises(ValueError, match=message):
        opened(tmp_path / name)


def test_two_kinds_in_one_folder(tmp_path: Path, opened: Open) -> None:
    write_folder(tmp_path, 2)
    write_lines(tmp_path / "m.json", [{"audio_filepath": "clips/000.wav", "text": "stop"}])
    with pytest.raises(ValueError, match=r"holds an audiofolder .* and NeMo manifests; name a file of one of them"):
        opened(tmp_path)
    assert len(opened(tmp_path, format="audiofolder")) == 2
    assert opened(tmp_path, format="nemo").texts == ["stop"]
    with pytest.raises(ValueError, match=r"holds no lhotse cuts, as data.format says; it holds an audiofolder"):
        opened(tmp_path, format="lhotse")


def test_splits_of_every_kind(tmp_path: Path, opened: Open) -> None:
    write_tone(tmp_path / "a.wav")
    for split in ("train", "dev"):
        write_kaldi(tmp_path / "kaldi" / split, wav_scp=f"a {tmp_path / 'a.wav'}\n", text=f"a {split}\n")
        write_tar(tmp_path / f"tars/{split}-0.tar", {"a.wav": audio_bytes(), "a.txt": split.encode()})
        write_lines(tmp_path / f"cuts/cuts_{split}.jsonl", [cut("a", str(tmp_path / "a.wav"), text=split)])
    for place in ("kaldi", "tars", "cuts"):
        assert [opened(tmp_path / place, split=split).texts for split in ("train", "dev")] == [["train"], ["dev"]]
        with pytest.raises(ValueError, match=r"no split 'test'; it has dev, train"):
            opened(tmp_path / place, split="test")


def test_every_kind_is_checked_alike(tmp_path: Path, cache: str) -> None:
    audio = write_tone(tmp_path / "a.wav")
    write_kaldi(tmp_path / "kaldi", wav_scp=f"a {audio}\n", text="a stop\n")
    write_lines(tmp_path / "nemo.json", [{"audio_filepath": "a.wav", "text": "stop"}])
    write_lines(tmp_path / "cuts.jsonl", [cut("a", "a.wav")])
    write_tar(tmp_path / "web.tar", {"a.wav": audio_bytes(), "a.txt": b"stop"})
    write_tar(tmp_path / "tarred/audio_0.tar", {"a.wav": audio_bytes()})
    row = {"audio_filepath": "a.wav", "text": "stop", "shard_id": 0}
    write_lines(tmp_path / "tarred/tarred_audio_manifest.json", [row])
    write_tar(tmp_path / "shar/recording.000000.tar", {"a.wav": audio_bytes(), "a.json": b"{}"})
    write_lines(tmp_path / "shar/cuts.000000.jsonl", [cut("a", "", kind="shar")])
    for name in ("kaldi", "nemo.json", "cuts.jsonl", "web.tar", "tarred", "shar"):
        facts = check_data(DataCheckConfig(data=SpeechConfig(str(tmp_path / name), cache_dir=cache)))
        assert (facts["used"], facts["words"], facts["seconds"], facts["problems"], facts["remarks"]) == (
            1,
            1,
            0.5,
            [],
            [],
        )
        assert "All 1 entries can be used" in render_markdown(data_page(facts))
