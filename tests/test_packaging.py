"""The wheel, installed away from the clone; and the environment the tests run in."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from compress import Block, Structure
from compress.checkpoint import save
from compress.training.tokens import SAMPLING_RATE, TokensConfig, build_processor
from tests.helpers import tiny

REPOSITORY = Path(__file__).resolve().parent.parent
VERBS = ("inspect", "search", "apply", "evaluate", "demo", "ls", "cat", "cp", "version")

# One process for all verbs: importing torch and transformers once instead of eleven times.
EVERY_VERB = """
import contextlib, io, json, pathlib, sys
import compress
from compress.cli import main

def printed(*words):
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
        main(list(words))
    return out.getvalue()

texts = {verb: printed(verb, "--help") for verb in sys.argv[1:]}
pathlib.Path("printed.py").write_text(printed("cat", "recipes/prune.py"), encoding="utf-8")
main(["cp", "configs/demo/prune.yaml", "mine.yaml"])
table = printed("inspect", "full", "--seconds", "2")
main(["apply", "full", "structure.json", "--out", "small"])
quick = {"speed.seconds": 0.5, "speed.warmup": 1, "speed.repetitions": 2, "macs_seconds": 1, "bootstrap.resamples": 100}
options = [word for name, value in quick.items() for word in (f"--{name}", str(value))]
files = ["--data", "speech", "--data.cache_dir", "cache", "--batch.workers", "0", "--out", "report"]
main(["evaluate", "small", "--baseline", "full", *files, *options])
print(json.dumps({"file": compress.__file__, "texts": texts, "table": table}))
"""


def run(*command: str, cwd: Path, site: Path | None = None) -> str:
    environment = {**os.environ, "PYTHONPATH": str(site or "")}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def tracked(folder: str) -> list[str]:
    """The committed files of the clone that are below a folder and still there."""
    command = ["git", "-c", "safe.directory=*", "-C", str(REPOSITORY), "ls-files", "-z", "--", folder]
    if shutil.which("git") is None or not (REPOSITORY / ".git").exists():
        pytest.skip("needs a git clone")
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0")
    return [name for name in listed if name and (REPOSITORY / name).is_file()]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("build", reason="the test extra is not installed")
    pytest.importorskip("hatchling", reason="the test extra is not installed")
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(REPOSITORY), cwd=out)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the installed wheel and nothing else."""
    target = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check"]
    run(*pip, "--target", str(target), str(wheel), cwd=target)
    return target


def test_only_the_package_is_installed(site: Path) -> None:
    names = {path.name for path in site.iterdir() if not path.name.endswith(".dist-info")}
    assert names == {"bin", "compress"}


def test_every_recipe_and_config_is_in_the_wheel(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for kind, pattern in {"recipes": "*.py", "configs": "*.yaml"}.items():
        for file in (REPOSITORY / kind).rglob(pattern):
            assert f"compress/_{kind}/{file.relative_to(REPOSITORY / kind).as_posix()}" in names


def test_every_data_file_of_the_package_is_in_the_wheel(wheel: Path) -> None:
    data = {name for name in tracked("compress") if not name.endswith(".py")}
    assert any(name.endswith(".j2") for name in data)
    assert "compress/py.typed" in data, "without it nobody else's type checker reads our annotations"
    assert data <= set(zipfile.ZipFile(wheel).namelist())


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint, a structure for it, and two utterances of noise."""
    folder = tmp_path_factory.mktemp("workplace")
    model = tiny.parakeet()
    save(model, build_processor("parakeet", ["abcdefghijklmnop q"], TokensConfig(), mel_bins=16), folder / "full")
    Structure("parakeet", (Block(), None, Block())).save(folder / "structure.json")
    (folder / "speech" / "test").mkdir(parents=True)
    noise = 0.1 * np.random.default_rng(0).standard_normal(SAMPLING_RATE)
    for name in ("a", "b"):
        soundfile.write(folder / "speech" / "test" / f"{name}.wav", noise, SAMPLING_RATE)
    (folder / "speech" / "test" / "metadata.csv").write_text("file_name,transcription\na.wav,a b\nb.wav,c d\n")
    return folder


@pytest.fixture(scope="module")
def said(site: Path, workplace: Path) -> dict[str, Any]:
    """What the verbs of the installed package print, far from the clone; what they write is in the workplace."""
    printed = run(sys.executable, "-c", EVERY_VERB, *VERBS, cwd=workplace, site=site)
    result: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return result


def test_every_verb_works_away_from_the_clone(said: dict[str, Any], site: Path) -> None:
    assert Path(said["file"]).is_relative_to(site)
    for verb in VERBS:
        assert f"compress {verb}" in said["texts"][verb], f"compress {verb} --help"


def test_ls_cat_and_cp_away_from_the_clone(said: dict[str, Any], site: Path, workplace: Path) -> None:
    command = [sys.executable, str(site / "bin" / "compress"), "ls"]
    listed = [line.split()[0] for line in run(*command, cwd=workplace, site=site).splitlines()]
    assert {"recipes/train.py", "recipes/prune.py", "configs/demo/train.yaml", "configs/demo/prune.yaml"} <= set(listed)
    for copied, name in {"printed.py": "recipes/prune.py", "mine.yaml": "configs/demo/prune.yaml"}.items():
        assert (workplace / copied).read_text(encoding="utf-8") == (REPOSITORY / name).read_text(encoding="utf-8")


def test_a_model_is_inspected_compressed_and_evaluated_away_from_the_clone(
    said: dict[str, Any], workplace: Path
) -> None:
    assert "reachable budgets" in said["table"]
    assert "where channels in front of the blocks may go, too (budget.front)" in " ".join(said["table"].split())
    report = json.loads((workplace / "report" / "report.json").read_text(encoding="utf-8"))
    assert report["ratio"]["parameters"] < 1
    assert report["data"]["utterances"] == 2
    for name in ("report.html", "report.md"):
        assert (workplace / "report" / name).stat().st_size > 0
    assert (workplace / "small" / "README.md").stat().st_size > 0


def test_python_m_compress(site: Path, tmp_path: Path) -> None:
    assert "conformer-compress" in run(sys.executable, "-m", "compress", "version", cwd=tmp_path, site=site)


def test_every_import_is_a_declared_dependency(site: Path) -> None:
    (distribution,) = importlib.metadata.distributions(path=[str(site)])
    optional = re.compile("extra == .(test|docs)")
    required = {re.split(r"[^\w.-]", line)[0] for line in distribution.requires or [] if not optional.search(line)}
    declared = {normalised(name) for name in required}
    providers = importlib.metadata.packages_distributions()
    for file in [*(REPOSITORY / "compress").rglob("*.py"), *(REPOSITORY / "recipes").rglob("*.py")]:
        for package in imported_packages(file) - sys.stdlib_module_names - {"compress", "_typeshed"}:
            names = {normalised(name) for name in providers.get(package, [package])}
            assert names & declared, (
                f"{file.relative_to(REPOSITORY)} imports {package}, which pyproject.toml leaves out"
            )


def imported_packages(file: Path) -> set[str]:
    packages = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            packages |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            packages.add(node.module.partition(".")[0])
    return packages


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_constraints_pin_every_direct_dependency() -> None:
    pins = {}
    for line in (REPOSITORY / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            name, version = line.split(";")[0].split("==")
            pins[normalised(name)] = version.strip()
    text = (REPOSITORY / "pyproject.toml").read_text()
    listed = re.findall(r'^    "([A-Za-z][\w-]*)(?:\[\w+\])?>=', text, flags=re.MULTILINE)
    assert len(listed) > 20
    assert {normalised(name) for name in listed} <= set(pins)
    assert pins["torch"] == pins["torchaudio"] == "2.11.0"


def places(requirements: Iterable[str]) -> list[str]:
    """The requirements that say where to look or how: options of the installer, and addresses."""
    return [line for line in requirements if line.startswith("-") or "://" in line]


def test_what_names_a_place_is_recognised() -> None:
    assert places(["torch==2.11.0", "-x", "--option value", "torch @ scheme://host/file", "# pairs"]) == [
        "-x", "--option value", "torch @ scheme://host/file",
    ]  # fmt: skip


def test_no_requirement_names_a_place() -> None:
    """Where packages come from is the business of whoever installs; `constraints.txt` and pyproject.toml say which."""
    tomllib = pytest.importorskip("tomllib", reason="part of Python 3.11")
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    lists = [project["build-system"]["requires"], project["project"]["dependencies"]]
    lists += [*project["project"]["optional-dependencies"].values(), *project.get("dependency-groups", {}).values()]
    assert sum(map(len, lists)) > 20
    assert not places(line for lines in lists for line in lines)
    assert not places((REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines())


def test_torch_and_torchaudio_are_a_pair() -> None:
    versions = [importlib.metadata.version(name).split("+")[0] for name in ("torch", "torchaudio")]
    assert versions[0] == versions[1], "install torch and torchaudio together, as constraints.txt pins them"
    try:
        import torchaudio.functional
        from transformers import ParakeetForCTC, Wav2Vec2ConformerForCTC
    except OSError as error:
        pytest.fail(f"torch and torchaudio are builds of different kinds; reinstall both together ({error})")
    assert torchaudio.functional.resample is not None
    assert ParakeetForCTC.config_class is not Wav2Vec2ConformerForCTC.config_class
