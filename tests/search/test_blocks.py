"""`compress search` from the command line to the smaller checkpoint."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from compress import Block, Structure
from compress.checkpoint import load_model, load_processor
from compress.cli import main
from compress.conformers import blocks_of, frame_outputs
from compress.curvature.repair import RefitConfig
from compress.data import SpeechConfig
from compress.data.settings import MixConfig
from compress.search import proposal_score, without_blocks
from compress.search.blocks import SearchConfig, search_blocks
from compress.search.fine import FineConfig, FineSearch
from compress.search.settings import MatrixConfig
from tests.helpers import tiny
from tests.helpers.searching import options
from tools.web.browser import find_chromium, visit


def run(model: str, speech: Path, out: Path, *more: str) -> dict[str, Any]:
    assert main(["search", model, *options(speech, out, *more)]) == 0
    found: dict[str, Any] = json.loads((out / "search.json").read_text())
    return found


@pytest.mark.parametrize("measure", ["distance_correlation", "svcca", "cka"])
def test_all_methods_and_every_file(measure: str, parakeet: str, speech: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    found = run(parakeet, speech, out, "--remove", "1", "--methods", "[all]", "--measure", measure)
    assert {one["method"]: one["evaluations"] for one in found["methods"]} == {
        "comflp": 3, "greedy": 3, "every-other": 1, "last": 1,
    }  # fmt: skip
    assert found["data"]["utterances"] == 10
    assert found["data"]["split"] == "dev"
    matrix = np.array(found["matrix"]["values"])
    assert matrix.shape == (4, 4)
    np.testing.assert_allclose(matrix, matrix.T)
    np.testing.assert_allclose(np.diag(matrix), 1.0, atol=1e-4)
    for one in found["proposals"]:
        assert one["score"] == pytest.approx(proposal_score(matrix, one["removed"]))
    best = found["best"]
    assert best["wer"] == min(one["wer"] for one in found["proposals"])
    for one in found["methods"]:
        blocks = Structure.load(out / "structures" / f"{one['method']}.json").blocks
        assert [index for index, block in enumerate(blocks) if block is None] == one["removed"]
    blocks = Structure.load(out / "structure.json").blocks
    assert [index for index, block in enumerate(blocks) if block is None] == best["removed"]
    page = (out / "search.html").read_text()
    assert page.count('class="shade') == 16
    assert page.count('class="shade marked"') == 1
    (block,) = best["removed"]
    marked = page[page.index('class="shade marked"') :]
    assert f"<title>boundaries {block} and {block + 1}: " in marked[: marked.index("</rect>")]
    assert "<script" not in page
    assert "http" not in page.replace("http://www.w3.org", "")
    text = (out / "search.md").read_text()
    assert "| greedy |" in text
    assert "| comflp |" in text
    machine = f"{found['machine']}; processes that shared the error rates: 1"  # for which the seconds hold
    for words in (page, text):
        assert "numbered from 0" in words
        assert f"Without block {block} of 3" in words
        assert machine in words


def test_the_structure_becomes_a_checkpoint(parakeet: str, speech: Path, tmp_path: Path) -> None:
    found = run(parakeet, speech, tmp_path / "out", "--remove", "2")
    assert main(["apply", parakeet, str(tmp_path / "out/structure.json"), "--out", str(tmp_path / "small")]) == 0
    small, model = load_model(str(tmp_path / "small")), load_model(parakeet)
    assert len(blocks_of(small)) == 1
    assert type(small) is type(model)
    assert found["methods"][0]["route"] == "stock"
    inputs = tiny.batch(model)
    with torch.no_grad(), without_blocks(model, found["best"]["removed"]):
        torch.testing.assert_close(frame_outputs(small, inputs), frame_outputs(model, inputs))


def test_every_proposal_can_be_repaired_before_it_is_measured(parakeet: str, speech: Path, tmp_path: Path) -> None:
    """As `compress apply --data` repairs what a Structure leaves."""
    refit = ("--refit.utterances", "6", "--batch.seconds", "4", "--batch.workers", "0")
    found = run(parakeet, speech, tmp_path / "out", "--remove", "1", "--refit_split", "dev", *refit)
    assert (found["refit"]["utterances"], found["refit"]["split"]) == (6, "dev")
    assert "repair" not in found["whole"]
    assert found["methods"][0]["block_runs"] == found["methods"][0]["block_runs_alone"] == 6
    assert "refitted in closed form on 6 utterances" in (tmp_path / "out" / "search.md").read_text()
    all_of_them = ("--refit_split", "dev", *refit[2:], "--refit.utterances", "500", "--methods", "[last]")
    assert run(parakeet, speech, tmp_path / "all", "--remove", "1", *all_of_them)["refit"]["utterances"] == 10
    without_first = next(entry for entry in found["proposals"] if entry["removed"] == [0])
    facts = without_first["repair"]
    assert facts["error_after"] < facts["error_before"]
    Structure("parakeet", (None, Block(), Block())).save(tmp_path / "structure.json")
    data = ("--data", str(speech), "--data.split", "dev", "--data.cache_dir", str(speech / "cache"))
    command = ["apply", parakeet, str(tmp_path / "structure.json"), "--out", str(tmp_path / "small")]
    assert main([*command, *data, *refit]) == 0
    made = json.loads((tmp_path / "small" / "compression.json").read_text())["rounds"][0]["repair"]
    assert {name: made[name] for name in facts if name != "seconds"} == {
        name: value for name, value in facts.items() if name != "seconds"
    }
    small, processor = load_model(str(tmp_path / "small")), load_processor(parakeet)
    dataset = SearchConfig(model=parakeet, data=SpeechConfig(source=str(speech), split="dev"), remove=1).open(processor)
    [trial] = FineSearch(small, processor, dataset, FineConfig()).measure([()])
    assert (trial.wer, trial.cer) == (without_first["wer"], without_first["cer"])


def test_what_is_found_becomes_the_depths_of_an_elastic_model(parakeet: str, speech: Path, tmp_path: Path) -> None:
    """Search by SVCCA, `compress elastic --structures`: at each depth it runs what the search left."""
    structures = [tmp_path / f"without-{remove}" / "structure.json" for remove in (1, 2)]
    removed = {}
    for remove, structure in enumerate(structures, start=1):
        found = run(parakeet, speech, structure.parent, "--remove", str(remove), "--measure", "svcca")
        removed[3 - remove] = found["best"]["removed"]
    out = str(tmp_path / "elastic")
    assert main(["elastic", parakeet, "--structures", f"[{','.join(map(str, structures))}]", "--out", out]) == 0
    model, original = load_model(out), load_model(parakeet)
    assert sorted(model.depths) == [1, 2, 3]
    inputs = tiny.batch(original)
    for depth, numbers in removed.items():
        assert set(numbers) == {0, 1, 2} - set(model.depths[depth])
        model.set_depth(depth)
        with torch.no_grad(), without_blocks(original, numbers):
            torch.testing.assert_close(frame_outputs(model, inputs), frame_outputs(original, inputs))


def test_a_model_that_has_lost_blocks_is_searched_as_it_is(parakeet: str, speech: Path, tmp_path: Path) -> None:
    run(parakeet, speech, tmp_path / "one", "--remove", "1")
    main(["apply", parakeet, str(tmp_path / "one/structure.json"), "--out", str(tmp_path / "two")])
    found = run(str(tmp_path / "two"), speech, tmp_path / "out", "--remove", "1", "--methods", "[last]")
    assert found["blocks"] == 2
    assert found["matrix"] is None
    assert found["best"]["removed"] == [1]
    assert found["best"]["score"] is None
    assert len(Structure.load(tmp_path / "out/structure.json").blocks) == 2


def test_blocks_that_change_the_frame_rate_stay(
    checkpoint: Any, speech: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Granite's encoder: the matrix spans the change of rate, and no method touches block 0."""
    name = checkpoint("granite_speech5", tiny.granite_speech5())
    found = run(name, speech, tmp_path / "out", "--remove", "2", "--methods", "[all]")
    assert found["removable"] == [1, 2]
    assert {tuple(one["removed"]) for one in found["proposals"]} == {(1, 2)}
    assert {one["route"] for one in found["methods"]} == {"code"}  # nothing is left after the feedback
    assert "not with transformers alone" in caplog.text
    with pytest.raises(SystemExit):
        main(["search", name, *options(speech, tmp_path / "out", "--remove", "3")])


def test_48_blocks(checkpoint: Any, speech: Path, tmp_path: Path) -> None:
    """Within 1 MiB for the sample, and with hardly any state kept."""
    name = checkpoint("parakeet-48", tiny.parakeet(num_hidden_layers=48))
    bounds = ("--matrix.rows", "160", "--matrix.max_mib", "1", "--reuse_mib", "0.05")
    found = run(name, speech, tmp_path, "--remove", "24", "--top_k", "4", "--utterances", "8", *bounds)
    assert found["methods"][0]["evaluations"] == 4
    assert found["data"]["utterances"] == 8
    assert len(found["best"]["removed"]) == 24
    assert found["methods"][0]["block_runs"] < found["methods"][0]["block_runs_alone"]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--remove", "0"], "remove is 0, but the model has 3 blocks: at least one must stay, so give 1 to 2."),
        (["--remove", "3"], "remove is 3, but the model has 3 blocks"),
        (["--remove", "1", "--methods", "[best]"], "methods='best' is unknown; choose one of comflp, greedy"),
        (["--remove", "1", "--measure", "cosine"], "measure"),
        (["--remove", "1", "--top_k", "0"], "top_k is 0"),
        (["--remove", "1", "--data.streaming", "true"], "set data.streaming to false"),
        (["--remove", "1", "--matrix.group", "1"], "matrix.group is 1"),
        (["--remove", "1", "--matrix.max_mib", "0.001"], "max_mib is 0.001"),
        (["--remove", "1", "--utterances", "1", "--matrix.feature", "mean"], "needs at least 2 utterances or frames"),
        (["--remove", "1", "--measure", "svcca", "--matrix.rows", "20"], "SVCCA of 20 rows of width 32"),
        (["--remove", "1", "--data.split", "test"], "test"),
        ([], "remove"),
    ],
)
def test_mistakes_get_one_message(
    more: list[str], words: str, parakeet: str, speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["search", parakeet, *options(speech, tmp_path / "out", *more)])
    assert stop.value.code == 2
    message = capsys.readouterr().err
    assert "compress search: error: " in message
    assert words in " ".join(message.split())
    assert not (tmp_path / "out").exists()


def test_speech_without_transcripts_is_refused(
    parakeet: str, speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["search", parakeet, *options(speech / "silent", tmp_path / "out"), "--remove", "1"])
    assert stop.value.code == 2
    message = " ".join(capsys.readouterr().err.split())
    assert "transcription" in message
    assert not (tmp_path / "out").exists()


def test_the_python_interface(parakeet: str, speech: Path, tmp_path: Path) -> None:
    from compress.data import BatchConfig, SpeechConfig
    from compress.evaluation.bootstrap import BootstrapConfig

    config = SearchConfig(
        model=parakeet, remove=1, data=SpeechConfig(str(speech), "dev", cache_dir=str(speech / "cache")),
        out=str(tmp_path), utterances=8, top_k=2, batch=BatchConfig(workers=0), jobs=1,
        matrix=MatrixConfig("mean", group=8, unit_length=False), bootstrap=BootstrapConfig(resamples=100),
    )  # fmt: skip
    first, again = search_blocks(config), search_blocks(config)
    assert first["proposals"] == again["proposals"]
    assert first["matrix"]["values"] == again["matrix"]["values"]
    assert len(first["proposals"]) == 2


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_is_quiet_in_chromium(parakeet: str, speech: Path, tmp_path: Path, width: int) -> None:
    chromium = find_chromium()
    if chromium is None:
        pytest.skip("no Chromium on this machine (looked for chromium, google-chrome and the like)")
    run(parakeet, speech, tmp_path, "--remove", "1", "--methods", "[comflp,last]")
    page = tmp_path / "search.html"
    measures = {
        "shades": "document.querySelectorAll('svg .shade:not(.scale)').length",
        "overflow": "document.documentElement.scrollWidth - document.documentElement.clientWidth",
    }
    seen = visit(chromium, page, tmp_path / "profile", width, measures)
    assert seen.messages == []
    assert [url for url in seen.requests if not url.startswith("data:")] == [page.as_uri()]
    assert seen.values == {"shades": 16, "overflow": 0}


def test_a_refit_looks_at_other_speech_than_what_is_measured(
    parakeet: str, speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a source without splits, and of a mix, both would be the same."""
    refit = ("--remove", "1", "--methods", "[last]", "--refit.utterances", "6", "--batch.workers", "0")
    dev = str(speech / "dev")
    of_dev = options(speech / "dev", tmp_path / "out", *refit, "--data.split", "dev")
    with pytest.raises(SystemExit):
        main(["search", parakeet, *of_dev])
    said = " ".join(capsys.readouterr().err.split())
    assert "the dev set would hold utterances of the speech of the refit: both read" in said
    assert "name another source with refit_data.source" in said
    with pytest.raises(ValueError, match=r"data\.mix has no other split .* refit_data\.source"):
        SearchConfig(
            model=parakeet, data=SpeechConfig(mix=(MixConfig(source=dev),)), remove=1, refit=RefitConfig(utterances=6)
        )
    shutil.copytree(speech / "dev", tmp_path / "others")
    others = ("--refit_data.source", str(tmp_path / "others"), "--refit_data.cache_dir", str(tmp_path / "cache"))
    assert main(["search", parakeet, *of_dev, *others]) == 0
    found = json.loads((tmp_path / "out" / "search.json").read_text())
    assert (found["refit"]["split"], found["data"]["split"]) == (None, None)
    assert f"on 6 utterances of `{tmp_path / 'others'}`, whole source." in (tmp_path / "out/search.md").read_text()
