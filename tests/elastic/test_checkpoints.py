"""Elastic checkpoints on disk: the two verbs, what travels with them, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from compress.checkpoint import load_model, save
from compress.cli import main
from compress.conformers import frame_outputs
from compress.elastic import ElasticConfig, structure_at
from compress.elastic.rules import every_other, last_first
from compress.structure import Structure
from tests.helpers import forked
from tests.helpers.routes import processor_for
from tests.helpers.tiny import batch, parakeet


@pytest.fixture
def checkpoint(tmp_path: Path) -> str:
    model = parakeet()
    save(model, processor_for(model), tmp_path / "model")
    return str(tmp_path / "model")


def test_made_and_extracted_by_the_command_line(checkpoint: str, tmp_path: Path) -> None:
    elastic, small = str(tmp_path / "elastic"), str(tmp_path / "small")
    assert main(["elastic", checkpoint, "--depths", "[1,2]", "--out", elastic]) == 0
    assert main(["extract", elastic, "--depth", "2", "--out", small]) == 0
    model, standalone = load_model(elastic), load_model(small)
    assert type(standalone).__name__ == "ParakeetForCTC"  # loads with transformers alone
    inputs = batch(model)
    model.set_depth(2)
    with torch.no_grad():
        torch.testing.assert_close(model(**inputs).logits, standalone(**inputs).logits, rtol=0, atol=1e-6)
    facts = json.loads((tmp_path / "small" / "compression.json").read_text())
    assert (facts["method"], facts["size"]) == ("extract", "2")
    assert facts["parameters"] < facts["parameters_before"]


def test_depths_from_structures(checkpoint: str, tmp_path: Path) -> None:
    first = tmp_path / "first.json"
    Structure.from_dict({"family": "parakeet", "blocks": [_WHOLE, None, _WHOLE]}).save(first)
    elastic = str(tmp_path / "elastic")
    assert main(["elastic", checkpoint, "--depths", "[1]", "--rule", "last_first", "--structures", f"[{first}]",
                 "--out", elastic]) == 0  # fmt: skip
    assert load_model(elastic).depths == {1: (0,), 2: (0, 2), 3: (0, 1, 2)}
    assert structure_at(load_model(elastic), "2") == Structure.load(first)


_WHOLE = {"ffn1": "all", "attention": "all", "conv": "all", "ffn2": "all"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--depths", "[4]"], "has 3 blocks and can run at depth 1 to 3, not at 4"),
        (["--depths", "[0]"], "numbers of blocks from 1"),
        (["--depths", "[2]", "--rule", "odd"], "rule='odd' is unknown; choose one of every_other, last_first"),
        ([], "at least one size"),
    ],
)
def test_mistakes_get_one_message(
    words: list[str], message: str, checkpoint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["elastic", checkpoint, *words, "--out", str(tmp_path / "elastic")])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "elastic").exists()


def test_a_depth_that_is_not_there_is_refused(
    checkpoint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["extract", checkpoint, "--depth", "2", "--out", str(tmp_path / "small")])
    assert "runs at depth 3, not at 2" in capsys.readouterr().err
    main(["elastic", checkpoint, "--depths", "[1]", "--out", str(tmp_path / "elastic")])
    with pytest.raises(SystemExit):
        main(["extract", str(tmp_path / "elastic"), "--depth", "2", "--out", str(tmp_path / "small")])
    assert "runs at depth 1, 3, not at 2" in capsys.readouterr().err


def test_malformed_sizes_on_disk_are_refused_by_name(checkpoint: str, tmp_path: Path) -> None:
    main(["elastic", checkpoint, "--depths", "[1]", "--out", str(tmp_path / "elastic")])
    path = tmp_path / "elastic" / "config.json"
    sizes = [{"name": "1", "blocks": [{"ffn1": 7000}, {}, {}]}]
    path.write_text(json.dumps(json.loads(path.read_text()) | {"sizes": sizes}))
    with pytest.raises(ValueError, match=r"sizes\['1'\]\[0\]\['ffn1'\] must be 0 to 64 units"):
        load_model(str(tmp_path / "elastic"))


CHILD = """
import sys, torch
assert "compress" not in sys.modules
sys.modules["compress"] = None  # as where the package is not installed
from safetensors.torch import load_file
from transformers import AutoModelForCTC
tensors = load_file(sys.argv[2])
model = AutoModelForCTC.from_pretrained(sys.argv[1], trust_remote_code=True).eval()
model.set_depth(2)
with torch.no_grad():
    found = model(**{name: tensors[name] for name in ("input_features", "attention_mask")}).logits
assert torch.allclose(found, tensors["outputs"], atol=1e-6)
print(sorted(model.depths))
"""


def test_it_switches_without_the_package(checkpoint: str, tmp_path: Path) -> None:
    main(["elastic", checkpoint, "--depths", "[2]", "--out", str(tmp_path / "elastic")])
    model = load_model(str(tmp_path / "elastic"))
    model.set_depth(2)
    inputs = batch(model)
    outputs = frame_outputs(model, inputs).detach().contiguous()
    save_file({**inputs, "outputs": outputs}, tmp_path / "tensors.safetensors")
    words = ["-c", CHILD, str(tmp_path / "elastic"), str(tmp_path / "tensors.safetensors")]
    ended = forked.run(words, stranger=True, HF_MODULES_CACHE=str(tmp_path / "modules"))
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip() == "[2, 3]"


def test_rules() -> None:
    assert every_other(range(12), 6) == [1, 3, 5, 7, 9, 11]
    assert every_other(range(12), 8) == [1, 2, 4, 5, 7, 8, 10, 11]
    assert every_other(range(12), 1) == [11]
    assert every_other(range(3), 0) == []
    assert last_first(range(12), 4) == [0, 1, 2, 3]


def test_the_card_and_inspect_say_that_it_can_switch(
    checkpoint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["elastic", checkpoint, "--depths", "[1]", "--out", str(tmp_path / "elastic")])
    assert (
        'runs at size 1, 3, switched without reloading by `model.activate("1")`'
        in (tmp_path / "elastic" / "README.md").read_text()
    )
    main(["inspect", str(tmp_path / "elastic"), "--seconds", "1"])
    assert "runs at size" in capsys.readouterr().out
    assert "elastic" not in (Path(checkpoint) / "README.md").read_text()


def test_the_rule_suits_the_training() -> None:
    assert ElasticConfig((2,)).resolved(inter_ctc=True).rule == "last_first"
    assert ElasticConfig((2,)).resolved(inter_ctc=False).rule == "every_other"
    assert ElasticConfig((2,), "every_other").resolved(inter_ctc=True).rule == "every_other"
