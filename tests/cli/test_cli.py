from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import types
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from accelerate.commands import launch as accelerate_launch

from compress import __version__
from compress.cli import VERBS, main, overview
from compress.config.options import RULE
from compress.evaluation.inspection import inspect_model
from compress.files import shipped
from compress.files.command import is_the_command
from compress.reports.page import Page

REPOSITORY = Path(__file__).resolve().parents[2]


def test_overview_describes_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert text == overview()
    for verb in VERBS:
        line = next(line for line in text.splitlines() if line.split()[:1] == [verb])
        assert len(line.split()) > 3, f"{verb} has no description"


def test_every_file_is_a_verb() -> None:
    files = {path.stem.replace("_", "-") for path in (REPOSITORY / "compress" / "cli").glob("[!_]*.py")}
    assert files == set(VERBS)


WITHOUT_OPTIONS = ("ls", "version")


@pytest.mark.parametrize("verb", VERBS)
def test_help_has_an_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([verb, "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert f"\n  compress {verb}" in text
    assert (RULE in text) == (verb not in WITHOUT_OPTIONS)


def test_no_verb_and_unknown_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert main(["prone"]) == 2
    assert "no verb 'prone'. Did you mean 'prune'?" in capsys.readouterr().err
    assert main(["evalaute"]) == 2
    assert "Did you mean 'evaluate'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["inspect"], "model"),
        (["inspect", "a", "--second", "3"], "Unknown key 'second' in the command line. Did you mean 'seconds'?"),
        (["inspect", "a", "--seconds", "long"], "seconds"),
        (["inspect", "a", "--seconds", "0"], "seconds is 0"),
        (["apply", "a", "structure.json"], "out"),
        (["apply", "a", "s.json", "--out", "b", "--refit.utterances", "4"], "name some with --data"),
        (["profile", "a", "--speed.seconds", "1e9"], "speed.seconds is 1000000000.0; times batch it must be at most"),
        (["profile", "a", "--out", "."], "Could not write . (IsADirectoryError"),
        (["cat", "nothing.yaml"], "no recipe or config named 'nothing.yaml'"),
        (["cp", "nothing.yaml", "."], "no recipe or config named 'nothing.yaml'"),
    ],
)
def test_mistakes_get_one_message(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    message = capsys.readouterr().err
    assert message.startswith(f"compress {arguments[0]}: error: ")
    assert words in message
    assert "Traceback" not in message


def stand_in(monkeypatch: pytest.MonkeyPatch, name: str, **functions: Any) -> None:
    module = types.ModuleType(name)
    for key, function in functions.items():
        setattr(module, key, function)
    monkeypatch.setitem(sys.modules, name, module)


def test_inspect_passes_its_options(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    stand_in(
        monkeypatch,
        "compress.evaluation.inspection",
        inspect_model=lambda model, seconds, profile: {"model": model, "seconds": seconds},
        inspection_page=lambda found: Page(f"about {found['model']}", "It is small.", (), (), maker="compress inspect"),
    )
    assert main(["inspect", "some/model", "--seconds", "3"]) == 0
    assert capsys.readouterr().out == "about some/model\nIt is small.\n"
    assert main(["inspect", "some/model", "--json"]) == 0
    assert '"seconds": 10.0' in capsys.readouterr().out


@pytest.mark.parametrize("seconds", [0.0, -1.0, math.nan, math.inf])
def test_impossible_lengths_are_refused_before_the_model_is_read(seconds: float) -> None:
    with pytest.raises(ValueError, match=f"seconds is {seconds:g}; give the length"):
        inspect_model("nobody/nothing", seconds)


@pytest.mark.parametrize(
    "error",
    [MemoryError("Unable to allocate 9 TiB"), RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 TiB")],
)
def test_lack_of_memory_is_told_from_faults(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise error

    stand_in(monkeypatch, "compress.checkpoint", apply_structure=refuse)
    with pytest.raises(SystemExit):
        main(["apply", "a", "s.json", "--out", "b"])
    said = capsys.readouterr().err
    assert said.startswith(f"compress apply: error: There is not enough memory ({error}). Give smaller batches")
    error = RuntimeError("another fault")
    with pytest.raises(RuntimeError, match="another fault"):
        main(["apply", "a", "s.json", "--out", "b"])


def test_errors_of_the_library_and_tracebacks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(model: str, structure: str, out: str) -> None:
        raise FileNotFoundError(f"{structure} does not exist")

    stand_in(monkeypatch, "compress.checkpoint", apply_structure=refuse)
    with pytest.raises(SystemExit) as stop:
        main(["apply", "a", "gone.json", "--out", "b"])
    assert stop.value.code == 2
    assert capsys.readouterr().err == "compress apply: error: gone.json does not exist\n"
    monkeypatch.setenv("COMPRESS_TRACEBACK", "1")
    with pytest.raises(FileNotFoundError):
        main(["apply", "a", "gone.json", "--out", "b"])


def test_version_names_what_matters(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    text = capsys.readouterr().out
    for word in (f"conformer-compress {__version__}\n", "torch 2", "torchaudio 2", "transformers 5", "python 3"):
        assert word in text


# Recipes and configs --------------------------------------------------------------------------------------------------


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A source checkout with two configs and a recipe."""
    files = {
        "recipes/prune.py": '"""Makes it smaller.\n\nMore."""\n',
        "configs/demo/prune.yaml": "# The demo.\n# Needs: nothing.\nmodel: a\n",
        "configs/prune/prune.yaml": "# The real thing.\nmodel: b\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(shipped, "_PACKAGE", tmp_path / "compress")
    return tmp_path


def test_ls(shelf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ls"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "recipes/prune.py          Makes it smaller.",
        "configs/demo/prune.yaml   The demo.",
        "configs/prune/prune.yaml  The real thing.",
    ]


def test_packaged_files_have_the_same_names(shelf: Path) -> None:
    before = [item.name for item in shipped.resources()]
    (shelf / "compress").mkdir()
    for kind in ("recipes", "configs"):
        (shelf / kind).rename(shelf / "compress" / f"_{kind}")
    assert [item.name for item in shipped.resources()] == before


@pytest.mark.parametrize("name", ["configs/demo/prune.yaml", "demo/prune.yaml"])
def test_cat(shelf: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cat", name]) == 0
    assert capsys.readouterr().out == (shelf / "configs/demo/prune.yaml").read_text()


def test_ambiguous_and_misspelt_names(shelf: Path) -> None:
    with pytest.raises(ValueError, match="ambiguous"):
        shipped.find("prune.yaml")
    with pytest.raises(ValueError, match=r"Did you mean 'recipes/prune\.py'"):
        shipped.find("recipes/prine.py")


def test_cp_into_a_folder_and_never_over_a_file(shelf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = shelf / "mine"
    target.mkdir()
    assert main(["cp", "recipes/prune.py", str(target)]) == 0
    copied = target / "prune.py"
    assert capsys.readouterr().out.strip() == str(copied)
    copied.write_text("edited")
    with pytest.raises(SystemExit) as stop:
        main(["cp", "recipes/prune.py", str(target)])
    assert stop.value.code == 2
    assert "--force" in capsys.readouterr().err
    assert copied.read_text() == "edited"
    assert main(["cp", "recipes/prune.py", str(copied), "--force"]) == 0
    assert copied.read_text() == (shelf / "recipes/prune.py").read_text()
    assert main(["cp", "recipes/prune.py", str(shelf / "new" / "other.py")]) == 0
    assert (shelf / "new" / "other.py").is_file()
    assert main(["cp", "recipes/prune.py", f"{shelf}/folder/"]) == 0
    assert (shelf / "folder" / "prune.py").is_file()


def test_every_committed_recipe_and_config_describes_itself() -> None:
    for item in shipped.resources():
        assert len(item.description) > len(item.path.stem), f"{item.name} needs a first line that says what it is"


SCRIPT = """import atexit, re, sys
atexit.register(lambda: print(*sys.modules, file=open({modules!r}, "w")))
from compress.cli import main
if __name__ == '__main__':
    sys.exit(main())
"""


@pytest.mark.parametrize(
    ("words", "code"), [(["--help"], 0), (["ls"], 0), (["cat", "prune.py"], 0), (["evaluat"], 2), (["help", "cp"], 0)]
)
def test_what_needs_no_model_waits_for_neither_torch_nor_transformers(
    tmp_path: Path, words: list[str], code: int
) -> None:
    """The script is what installers make of the command."""
    script, modules = tmp_path / "compress", tmp_path / "modules"
    script.write_text(SCRIPT.format(modules=str(modules)))
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([sys.executable, script, *words], env=environment, capture_output=True, check=False)
    assert done.returncode == code, done.stderr
    loaded = modules.read_text().split()
    assert "compress.cli" in loaded
    assert not {"torch", "transformers", "compress.model"} & set(loaded)


@pytest.mark.parametrize(
    ("program", "original", "text", "is_it"),
    [
        ("-m", ["python", "-m", "compress", "ls"], None, True),
        ("-m", ["python", "-X", "dev", "-m", "compress"], None, True),
        ("-m", ["python", "-m", "mine", "compress"], None, False),
        ("-c", ["python", "-c", "import compress"], None, False),
        ("compress", ["python", "compress"], "from compress.cli import main", True),
        ("compress", ["python", "compress"], "import compress", False),
        ("train.py", ["python", "train.py"], "from compress.cli import main", False),
    ],
)
def test_a_program_of_any_other_kind_gets_the_models_registered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, original: list[str], text: str | None, is_it: bool
) -> None:
    if text is not None:
        (tmp_path / program).write_text(text)
        program = str(tmp_path / program)
    monkeypatch.setattr(sys, "argv", [program])
    monkeypatch.setattr(sys, "orig_argv", original)
    assert is_the_command() is is_it


@pytest.mark.parametrize("recipe", ["prune", "train", "train_supernet"])
def test_a_recipe_is_launched_by_accelerate_with_the_same_words(recipe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    launched = []
    monkeypatch.setattr(accelerate_launch, "launch_command", launched.append)
    words = ["--config", "my.yaml", "--batch.workers=2", "--output", "out"]
    assert main([recipe.replace("_", "-"), *words]) == 0
    script = str(REPOSITORY / "recipes" / f"{recipe}.py")
    (same,) = launched
    assert vars(same) == vars(accelerate_launch.launch_command_parser().parse_args([script, *words]))
    assert [same.training_script, *same.training_script_args] == [script, *words]


def test_a_recipe_that_fails_says_why_and_its_exit_code_is_kept(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["train", "--outptu", "x"])
    assert stop.value.code == 2
    message = capfd.readouterr().err
    assert "Unknown key 'outptu'" in message
    assert "Traceback" not in message


SLEEPS = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"


STARTS = f"""
    process = subprocess.Popen([sys.executable, '-c', {SLEEPS!r}])
    process.wait()
    raise subprocess.CalledProcessError(process.returncode, 'recipe')
"""


@pytest.mark.parametrize("started", [STARTS, f"    exec({SLEEPS!r})"])
@pytest.mark.parametrize("ends", [signal.SIGTERM, signal.SIGINT])
def test_who_ends_a_verb_ends_the_recipe(started: str, ends: signal.Signals) -> None:
    """What has been started lives no longer than who has started it, who needs to have started nothing yet."""
    verb = f"""
import signal, subprocess, sys
from accelerate.commands import launch
from compress.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background jobs ignore
def start(words):
{started}
launch.launch_command = start
sys.exit(main(["train"]))
"""
    process = subprocess.Popen([sys.executable, "-c", verb], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    sleeper = int(process.stdout.readline())
    process.send_signal(ends)
    assert process.wait(timeout=30) == 128 + ends
    with pytest.raises(ProcessLookupError):
        os.kill(sleeper, 0)


def test_a_recipe_that_the_system_kills_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    def killed(words: object) -> None:
        raise subprocess.CalledProcessError(-signal.SIGKILL, "recipe")

    with patch("accelerate.commands.launch.launch_command", killed), pytest.raises(SystemExit) as stop:
        main(["train"])
    assert stop.value.code == 128 + signal.SIGKILL
    assert "train.py: ended by SIGKILL (is memory short?); the same command goes on" in capsys.readouterr().err
