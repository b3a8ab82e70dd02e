"""`compress shrink` and `compress apply --data`: budgets, rounds, refusals, and what a checkpoint says of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

import compress
from compress.cli import main
from compress.curvature.repair import RefitConfig
from compress.data import BatchConfig, SpeechConfig, open_speech
from compress.deciding.budget import BudgetConfig, BudgetError, make_budget
from compress.shrinking.calibration import read_calibration
from compress.shrinking.checkpoints import calibration_of
from compress.shrinking.rounds import smaller
from compress.structure import Block, Structure
from tests.helpers.formats import write_tar
from tests.helpers.launching import RATE, make_split
from tests.helpers.shrinking import words


def facts(out: Path) -> dict:  # type: ignore[type-arg]
    return json.loads((out / "compression.json").read_text())  # type: ignore[no-any-return]


@pytest.mark.parametrize("structure", ["obs", "fisher", "variance", "magnitude", "proportional", "uniform"])
def test_every_decision_keeps_its_budget_and_is_repaired(
    parakeet: str, speech: Path, tmp_path: Path, structure: str
) -> None:
    front = "false" if structure in ("proportional", "uniform") else "true"
    more = ("--budget.params", "60%", "--structure", structure, "--budget.front", front, "--budget.round_to", "2")
    assert main(["shrink", parakeet, *words(speech, tmp_path / "small", *more)]) == 0
    made = facts(tmp_path / "small")
    small = compress.load_model(str(tmp_path / "small"))
    assert made["method"] == "shrink"
    assert made["structure"] == structure
    assert small.num_parameters() == made["parameters"] == made["achieved"] <= made["limit"]
    assert all(entry["repair"]["error_after"] <= entry["repair"]["error_before"] for entry in made["rounds"])
    assert len(made["rounds"]) == (2 if structure in ("obs", "fisher", "variance", "uniform") else 1)


def test_rounds_lead_to_the_budget_and_the_structure_is_that_of_the_whole_model(
    parakeet: str, speech: Path, tmp_path: Path
) -> None:
    """What was removed in rounds without a refit is what the Structure removes at once."""
    more = ("--budget.macs", "50%", "--rounds", "[80%,65%]", "--refit", "null")
    assert main(["shrink", parakeet, *words(speech, tmp_path / "small", *more)]) == 0
    rounds = facts(tmp_path / "small")["rounds"]
    assert [entry["cost"] <= entry["limit"] for entry in rounds] == [True] * 3
    assert "repair" not in rounds[0]
    small, whole = compress.load_model(str(tmp_path / "small")), compress.load_model(parakeet)
    at_once = compress.remove(whole, Structure.load(tmp_path / "small" / "structure.json"))
    assert all(map(torch.equal, small.parameters(), at_once.parameters()))


def test_rounds_of_a_model_that_is_smaller_already_are_shares_of_the_whole_one(parakeet: str) -> None:
    whole = compress.load_model(parakeet)
    full = make_budget(BudgetConfig(params="60%"), whole.config).table.full

    def rounds(named: str) -> list[int]:
        start = smaller(whole, "magnitude", make_budget(BudgetConfig(params="60%"), whole.config), None, None, None)
        budget = make_budget(BudgetConfig(params="40%"), whole.config)
        budget = replace(budget, table=budget.table.of_model(start.model.config))
        made = smaller(whole, "magnitude", budget, [named], None, None, start.model)
        return [entry["limit"] for entry in made.rounds]

    assert rounds("50%") == [int(0.5 * full), int(0.4 * full)]
    with pytest.raises(BudgetError, match=r"rounds is \['70%'\]"):
        rounds("70%")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"structure": "Obs"}, "structure='Obs' is unknown"),
        ({"budget": 0.75}, "budget is 0.75; give a share or an amount of parameters as a text, such as '50%'"),
        ({"structure": "learned"}, "structure='learned' is unknown"),
        ({"budget": BudgetConfig(params="50%", stages=("75%",))}, "budget.stages is"),
    ],
)
def test_from_python_nobody_decides_by_another_name(
    parakeet: str, speech: Path, more: dict[str, Any], message: str
) -> None:
    model, processor = compress.load_model(parakeet), compress.load_processor(parakeet)
    with pytest.raises(ValueError, match=message):
        compress.shrink(model, processor, str(speech), **({"budget": "60%"} | more))


def test_from_python_it_is_the_same_and_leaves_the_model_alone(parakeet: str, speech: Path, tmp_path: Path) -> None:
    assert (
        main(["shrink", parakeet, *words(speech, tmp_path / "small", "--budget.params", "60%"), "--device", "cpu"]) == 0
    )
    model, processor = compress.load_model(parakeet), compress.load_processor(parakeet)
    before = [parameter.clone() for parameter in model.parameters()]
    data = SpeechConfig(source=str(speech), cache_dir=str(speech / "cache"))
    small = compress.shrink(model.train(), processor, data, "60%", refit=RefitConfig(utterances=6))
    saved = compress.load_model(str(tmp_path / "small"))
    assert all(map(torch.equal, small.parameters(), saved.parameters()))
    assert all(map(torch.equal, before, model.parameters()))
    assert model.training
    assert not small.training


def test_transcripts_are_not_needed(parakeet: str, speech: Path, tmp_path: Path) -> None:
    """Fisher scores are then those of what the model itself writes."""
    make_split(tmp_path / "speech" / "train", 4, seed=3)
    metadata = tmp_path / "speech" / "train" / "metadata.csv"
    rows = metadata.read_text().splitlines()
    metadata.write_text("\n".join(row.split(",")[0] for row in rows) + "\n")
    more = ("--budget.params", "60%", "--structure", "fisher")
    assert main(["shrink", parakeet, *words(tmp_path / "speech", tmp_path / "small", *more)]) == 0


def test_apply_repairs_where_there_is_speech(parakeet: str, speech: Path, tmp_path: Path) -> None:
    plain = compress.load_model(parakeet)
    structure = {
        "family": "parakeet",
        "blocks": [{"ffn1": None, "attention": [0, 2], "conv": "all", "ffn2": "all"}] * 3,
    }
    Structure.from_dict(structure).save(tmp_path / "structure.json")
    command = ["apply", parakeet, str(tmp_path / "structure.json")]
    assert main([*command, "--out", str(tmp_path / "plain")]) == 0
    assert main([*command, *words(speech, tmp_path / "repaired")]) == 0
    removed = compress.remove(plain, Structure.from_dict(structure))
    assert all(map(torch.equal, removed.parameters(), compress.load_model(str(tmp_path / "plain")).parameters()))
    repaired = compress.load_model(str(tmp_path / "repaired"))
    assert not all(map(torch.equal, removed.parameters(), repaired.parameters()))
    entry = facts(tmp_path / "repaired")["rounds"][0]["repair"]
    assert entry["error_after"] < entry["error_before"]


def test_few_frames_are_warned_of(
    parakeet: str, speech: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    more = ("--budget.params", "80%", "--refit.utterances", "1")
    assert main(["shrink", parakeet, *words(speech, tmp_path / "small"), *more]) == 0
    assert "projections were refitted on fewer frames than they have inputs (blocks." in caplog.text


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ((), "need either a budget (--budget.params 75%) or sizes"),
        (("--budget.params", "60%", "--sizes.params", "[60%]"), "with budget and sizes"),
        (("--budget.params", "1%"), "cannot be reached"),
        (("--budget.params", "60%", "--rounds", "[50%]"), "name sizes that decrease from below"),
        (("--budget.params", "60%", "--budget.stages", "[70%]"), "budget.stages are for training"),
        (("--sizes.params", "[50%,60%]"), "must decrease, largest first"),
        (("--sizes.params", "[90%,60%]", "--rounds", "[80%]"), "rounds go with a budget"),
        (("--sizes.parts", "[4,2]"), "give sizes.params, sizes.macs or sizes.latency"),
        (("--structure", "nowhere.json"), "nowhere.json"),
        (("--structure", "fischer", "--budget.params", "60%"), "there is no such file; did you mean 'fisher'?"),
        (("--sizes.params", "[60%]", "--data", "", "--data.mix", "[{source: a}]"), "name one with dev.source"),
        (("--sizes.params", "[150%,60%]"), "The budget '150%' is a share; give more than 0% and at most 100%"),
        (("--budget.params", "60%", "--save"), "save is 'given without sizes'; it belongs to a curve"),
        (("--budget.params", "60%", "--dev_utterances", "3"), "dev_utterances is 'given without sizes'"),
        (("--budget.params", "60%", "--dev.source", "x"), "dev is 'given without sizes'"),
        (("--budget.params", "60%", "--refit.ridge", "0"), "refit.ridge is 0"),
        (("--budget.params", "60%", "--refit.ridge", ".inf"), "refit.ridge is inf"),
        (("--budget.params", "60%", "--data.split", "nothing"), "nothing"),
    ],
)
def test_bad_input_is_refused(
    parakeet: str, speech: Path, tmp_path: Path, more: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as refused:
        main(["shrink", parakeet, *words(speech, tmp_path / "small", *more)])
    assert refused.value.code == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "small").exists()


def test_speech_that_is_silent_or_not_there_is_refused(
    parakeet: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, count, message in (("silent", 2, "0.wav: silent: peak -inf dBFS"), ("empty", 0, "holds no rows")):
        folder = tmp_path / name / "train"
        make_split(folder, count, seed=1)
        for file in folder.glob("*.wav"):
            soundfile.write(file, np.zeros(8000), 16000)
        with pytest.raises(SystemExit) as refused:
            main(["shrink", parakeet, *words(tmp_path / name, tmp_path / "small", "--budget.params", "60%")])
        assert refused.value.code == 2
        assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "small").exists()


def test_apply_without_a_refit_is_removal_alone_and_says_what_it_lacks(
    parakeet: str, speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    structure = Structure("parakeet", (Block(ffn1=(0,)),) * 3)
    structure.save(tmp_path / "structure.json")
    command = ["apply", parakeet, str(tmp_path / "structure.json")]
    assert main([*command, *words(speech, tmp_path / "small"), "--refit", "null"]) == 0
    removed = compress.remove(compress.load_model(parakeet), structure)
    assert all(map(torch.equal, removed.parameters(), compress.load_model(str(tmp_path / "small")).parameters()))
    for more, message in (
        (["apply", parakeet, "gone.json", *words(speech, tmp_path / "refused")], "give the path of a structure.json"),
        ([*command, "--out", str(tmp_path / "refused"), "--seed", "3"], "seed is 'given without data'"),
    ):
        with pytest.raises(SystemExit):
            main(more)
        assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "refused").exists()


def test_a_stream_gives_as_many_utterances_as_were_asked_for(parakeet: str, speech: Path, tmp_path: Path) -> None:
    """Also where they end inside a batch; what is recorded is what was seen."""
    members = {path.name: path.read_bytes() for path in sorted((speech / "train").glob("*.wav"))}
    members |= {f"{Path(name).stem}.txt": b"low mid" for name in members}
    tar = write_tar(tmp_path / "shard.tar", dict(sorted(members.items())))
    for source, utterances, more in ((tar, 3, ("--data.streaming", "true")), (speech, 6, ()), (speech, 500, ())):
        budget = ("--budget.params", "80%", "--refit.utterances", str(utterances))
        out = tmp_path / f"{utterances}"
        assert (
            main(["shrink", parakeet, *words(source, out, *budget, *more), "--data.cache_dir", str(tmp_path / "cache")])
            == 0
        )
        assert facts(out)["rounds"][0]["repair"]["utterances"] == min(utterances, len(members) // 2)


@pytest.mark.parametrize("streaming", [False, True])
def test_transcripts_that_cannot_be_spelt_count_as_none(
    parakeet: str, speech: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, streaming: bool
) -> None:
    """Else Fisher would look at the loss of unknown tokens."""
    name = "0.wav"
    members = {name: (speech / "train" / name).read_bytes(), "0.txt": b"LOW MID"}
    source = str(write_tar(tmp_path / "shard.tar", members))
    model, processor = compress.load_model(parakeet).eval(), compress.load_processor(parakeet)
    labels: dict[str, str] = {}
    for case in ("keep", "lower"):
        data = SpeechConfig(source=source, streaming=streaming, case=case, cache_dir=str(tmp_path / "cache"))
        speech_read = calibration_of(model, processor, data, 1, BatchConfig(workers=0), 0)
        labels[case] = processor.tokenizer.decode([token for token in speech_read.batches[0].labels[0] if token >= 0])
    assert labels["lower"] == "low mid"
    assert processor.tokenizer.unk_token not in labels["keep"]
    assert labels["keep"] != "low mid"
    assert "1 transcripts cannot be used and count as none; the first has characters outside" in caplog.text


def test_a_process_without_an_utterance_is_refused(parakeet: str, speech: Path, tmp_path: Path) -> None:
    """A stream does not know beforehand that there are not enough for all; what they add up would wait for ever."""
    members = {"one.wav": (speech / "train" / "0.wav").read_bytes(), "one.txt": b"low mid"}
    source = str(write_tar(tmp_path / "shard.tar", members))
    model, processor = compress.load_model(parakeet), compress.load_processor(parakeet)
    stream = open_speech(SpeechConfig(source=source, streaming=True), sampling_rate=RATE)
    with pytest.raises(ValueError, match=r"1 of 2 processes have no utterance to look at, .* start fewer processes"):
        read_calibration(model, processor, stream, 4, BatchConfig(workers=0), rank=1, world_size=2)
    assert read_calibration(model, processor, stream, 4, BatchConfig(workers=0)).utterances == 1
