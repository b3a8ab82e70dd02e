"""Every route of every family in processes of their own: the checks of helpers/route_checks.py, with and without us.

Without: the process has never imported `compress` and is told that there is none, so that importing it fails there as
in an environment without it (route_matrix.py builds such environments, and several versions of transformers in them).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from compress.checkpoint import load_model
from compress.conformers import frame_outputs
from tests.helpers.routes import EVERY_CHECK, build_cases, check_cases
from tests.helpers.sharing import shared
from tests.helpers.tiny import CTC_MODELS, MODELS, OTHER_MODELS

Cases = list[dict[str, Any]]
Found = Callable[[str, bool], "tuple[Cases, dict[str, dict[str, str]]]"]
EVERY = pytest.mark.parametrize("name", MODELS)
GROUPS = (tuple(CTC_MODELS), tuple(OTHER_MODELS))
"""Models that one process checks: one that does something for the first time takes longer than the checks."""
REGISTERED = {"loads", "saved_again", "pipeline"}
"""What depends on the classes that the package registers, and not on what they compute."""
IN_FULL = ("parakeet", "canary")
"""With and without a CTC head: of these all checks are repeated with the package, and where the class is not ours."""
COMPILED_ELSEWHERE = (
    "wav2vec2_conformer-rotary", "wav2vec2_conformer-none", "wav2vec2_bert-relative", "wav2vec2_bert-rotary",
    "torchaudio_conformer-batch", "parakeet_tdt", "parakeet_rnnt", "canary", "cohere_asr", "seamless_m4t-rotary",
)  # fmt: skip
"""Their blocks are compiled as those of another model here: of the class that Parakeet has, or with other positions."""


@pytest.fixture(scope="session")
def cases_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Cases]:
    """The cases of a model, made once."""

    def fill(folder: Path, name: str) -> None:
        (folder / "cases.json").write_text(json.dumps(build_cases(name, folder)))

    def cases(name: str) -> Cases:
        folder = shared(tmp_path_factory, f"routes-{name}", partial(fill, name=name))
        made: Cases = json.loads((folder / "cases.json").read_text())
        return made

    return cases


@pytest.fixture(scope="session")
def found(tmp_path_factory: pytest.TempPathFactory, cases_of: Callable[[str], Cases]) -> Found:
    """The cases of a model and their outcomes in a process with or without the package, one for a group of models."""

    def fill(folder: Path, group: int, with_package: bool) -> None:
        cases = [case | {"again": str(folder / case["name"])} for name in GROUPS[group] for case in cases_of(name)]
        cases = [case for case in cases if case["route"] == "code" or is_checked_in_full(case) or not with_package]
        chosen = [case | {"checks": checks_of(case, with_package)} for case in cases]
        by_package = [] if with_package else [saved_by_the_package(case) for case in cases if case["route"] == "code"]
        check_cases(chosen + by_package, folder, with_package=with_package)

    def outcomes(name: str, with_package: bool) -> tuple[Cases, dict[str, dict[str, str]]]:
        group = next(number for number, names in enumerate(GROUPS) if name in names)
        make = partial(fill, group=group, with_package=with_package)
        folder = shared(tmp_path_factory, f"routes-{'with' if with_package else 'without'}-{group}", make)
        cases, results = (json.loads((folder / file).read_text()) for file in ("cases.json", "results.json"))
        mine = [case for case in cases if case["name"].startswith(f"{name}/")]
        return mine, {case["name"]: results["results"][case["name"]] for case in mine}

    return outcomes


def is_checked_in_full(case: dict[str, Any]) -> bool:
    return case["name"].partition("/")[0] in IN_FULL


def checks_of(case: dict[str, Any], with_package: bool) -> list[str]:
    """Whether the original's own class compiles does not depend on the numbers in its config."""
    name, checks = case["name"].partition("/")[0], set(case.get("checks", EVERY_CHECK))
    if with_package and (case["route"] == "stock" or name not in IN_FULL):
        checks &= REGISTERED
    if name in COMPILED_ELSEWHERE or (case["route"] == "stock" and name not in IN_FULL):
        checks -= {"compiled"}
    return sorted(checks)


def saved_by_the_package(case: dict[str, Any]) -> dict[str, Any]:
    """The same checkpoint, loaded with the package and saved by transformers' own method."""
    folder = f"{case['again']}-by-package/{Path(case['folder']).name}"
    load_model(case["folder"]).save_pretrained(folder)
    return case | {"name": f"{case['name']}-by-package", "folder": folder, "checks": ["loads"]}


def failures(outcomes: dict[str, dict[str, str]]) -> dict[str, str]:
    return {
        f"{case} {check}": outcome
        for case, checks in outcomes.items()
        for check, outcome in checks.items()
        if outcome != "ok"
    }


@EVERY
def test_without_the_package(name: str, found: Found) -> None:
    cases, outcomes = found(name, False)
    assert not failures(outcomes)
    assert f"{name}/code-by-package" in outcomes
    for case in cases:  # what was saved without the package loads with it
        if "saved_again" in case["checks"]:
            tensors = load_file(case["tensors"])
            model = load_model(str(Path(case["again"], "twice", case["route"])))
            assert torch.allclose(tensors.pop("outputs"), frame_outputs(model, tensors), atol=1e-6)


@EVERY
def test_with_the_package(name: str, found: Found) -> None:
    """Its classes are made by the sources that the file is made of (test_modelling_file.py): they compute the same.

    On the stock route the class is that of transformers here, too, with the same `model_type` as before compression.
    """
    cases, outcomes = found(name, True)
    assert not failures(outcomes)
    assert {case["route"] for case in cases} == ({"code", "stock"} if name in IN_FULL else {"code"})


def test_what_the_code_that_travels_refuses(cases_of: Callable[[str], Cases], tmp_path: Path) -> None:
    """To be run without consent where there is no package, and a malformed structure."""
    case = cases_of("parakeet")[0] | {"checks": ["loads"]}
    assert case["route"] == "code"
    broken = shutil.copytree(case["folder"], tmp_path / "broken")
    config = json.loads((broken / "config.json").read_text())
    config["structure"]["blocks"][0] = {"ffn1": [10**9], "attention": "all", "conv": None, "ffn2": None}
    (broken / "config.json").write_text(json.dumps(config))
    unasked, malformed = case | {"name": "unasked", "route": "stock"}, case | {"name": "b", "folder": str(broken)}
    refused = check_cases([unasked, malformed], tmp_path)["results"]
    assert "trust_remote_code=True" in refused["unasked"]["loads"]
    assert "StructureError: blocks[0].ffn1 keeps unit 1000000000, but the model has 64" in refused["b"]["loads"]
