from __future__ import annotations

import json
import math
import re
import shlex
from dataclasses import FrozenInstanceError, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
import yaml

from compress.config import check, check_at_least, check_choice, check_positive, known_keys, nearest, parse, to_dict
from tests.helpers.launching import load_recipe

REPOSITORY = Path(__file__).resolve().parent.parent
COMMITTED_CONFIGS = 18  # update when a YAML is added to configs
LAUNCH_LINE = 3  # of every config: the exact command that runs it
LAUNCH = re.compile(r"# (accelerate launch (?:--\S+ )*(recipes/\w+\.py) --config (configs/\S+\.yaml)( .*)?)")


@dataclass(frozen=True)
class Budget:
    """A target.

    Attributes:
        params: A share such as 50% or a count such as 20M.
        exactly: Whether nothing may be left over.
        round_to: Of what it is a multiple.
        denominator: What the share is of.
    """

    SHORT_FOR: ClassVar[str] = "params"

    params: str | None = None
    exactly: bool = False
    round_to: int = 1
    denominator: Literal["total", "encoder"] = "total"

    def __post_init__(self) -> None:
        if self.params == "200%":
            raise ValueError("budget.params is 200%: a share lies between 0% and 100%")


@dataclass(frozen=True)
class Phase:
    steps: int = 10
    betas: tuple[float, float] = (0.9, 0.98)


@dataclass(frozen=True)
class Config:
    """A job.

    Attributes:
        model: What to compress.
    """

    RANGES: ClassVar[dict[str, tuple[float, float]]] = {"rate": (-10, 10)}

    model: str
    shuffle: bool = True
    rate: float = 1e-3
    patterns: tuple[str, ...] = ("*",)
    budget: Budget = field(default_factory=Budget)
    recover: Budget | None = None
    phases: tuple[Phase, ...] = ()
    weights: dict[str, float] = field(default_factory=dict)
    depths: tuple[int, ...] = ()
    learning_rate_now: float = 1.0


def build(*arguments: str) -> Config:
    return parse(Config, arguments, prog="job")


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as stop:
        build(*arguments)
    assert stop.value.code == 2
    message = capsys.readouterr().err
    assert message.startswith("job: error: ")
    assert "Traceback" not in message
    assert message.count("\n") == 1
    return message


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write_yaml(text: str) -> str:
        file = tmp_path / "config.yaml"
        file.write_text(text)
        return str(file)

    return write_yaml


def test_yaml_and_dotted_overrides(write: Any) -> None:
    file = write(
        "model: a\nrate: 1e-4\nbudget:\n  params: 50%\npatterns: [encoder.*]\nphases: [{steps: 3}, {steps: 4}]\n"
    )
    config = build("--config", file, "--budget.params", "20M", "--rate=2e-4", "--weights.ctc", "0.5")
    assert config.budget == Budget(params="20M")
    assert config.rate == 2e-4
    assert config.patterns == ("encoder.*",)
    assert config.phases == (Phase(steps=3), Phase(steps=4))
    assert config.weights == {"ctc": 0.5}


def test_later_files_override_earlier_ones(tmp_path: Path) -> None:
    for name, text in {"a": "model: a\nrate: 1.0\n", "b": "rate: 2.0\n"}.items():
        (tmp_path / name).write_text(text)
    config = build("--config", str(tmp_path / "a"), "--config", str(tmp_path / "b"))
    assert (config.model, config.rate) == ("a", 2.0)


@pytest.mark.parametrize("amount", ["50%", "20M", "20000000", "1e6"])
def test_amounts_stay_text(amount: str) -> None:
    assert build("--model", "a", "--budget.params", amount).budget.params == amount


@pytest.mark.parametrize(("word", "value"), [("false", False), ("true", True), ("False", False)])
def test_booleans_are_words(word: str, value: bool) -> None:
    assert build("--model", "a", "--shuffle", word).shuffle is value


# The rule for options -------------------------------------------------------------------------------------------------


def given(*words: str) -> Config:
    return parse(Config, words, prog="job", positional=["model", "rate"])


@pytest.mark.parametrize(
    ("words", "same"),
    [
        ("a --learning-rate-now 2 --budget.round-to 8", "--model a --learning_rate_now 2 --budget.round_to 8"),
        ("--budget.denominator=encoder a", "--model a --budget.denominator encoder"),
        ("a --shuffle", "--model a --shuffle true"),
        ("--shuffle a 0.1", "--model a --shuffle true --rate 0.1"),
        ("a --shuffle False 0.1", "--model a --shuffle false --rate 0.1"),
        ("a --budget.exactly", "--model a --budget.exactly true"),
        ("a --recover.exactly --rate 0.1", "--model a --recover.exactly true --rate 0.1"),
        ("--model a 0.1", "--model a --rate 0.1"),
        ("a --rate=-1", "--model a --rate -1"),
        ("a --depths [4,6]", '--model a --depths "[4, 6]"'),
        ("a --depths []", "--model a"),
        ("a --depths [1] --depths [4]", "--model a --depths [4]"),
        ("a --patterns [1,33%,*,x.json]", """--model a --patterns '["1", "33%", "*", "x.json"]'"""),
        ("""a --patterns '["a,1.json",4,null]'""", """--model a --patterns '["a,1.json", "4", "null"]'"""),
        ("a --budget 50%", "--model a --budget.params 50%"),
        ("a --recover=20M", "--model a --recover.params 20M"),
        ("a --recover null", "--model a"),
        ("a --weights.my-own 0.5", "--model a --weights.my_own=0.5"),
    ],
)
def test_options_are_written_by_one_rule(words: str, same: str) -> None:
    assert given(*shlex.split(words)) == given(*shlex.split(same))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("a 0.1 b c --shuffle", "surplus: b c; understood: shuffle=true, model=a, rate=0.1"),
        ("a 0.1 --shuffle perhaps", 'surplus: perhaps; understood: shuffle=true, model=a, rate=0.1; "shuffle" is true'),
        ("a --depths 4", "--depths takes a list in brackets; write --depths [4]"),
        ("a --depths 4 6", "write --depths [4,6]"),
        ("--depths 4 6 a", "write --depths [4,6]"),
        ("a --depths 4 --depths=6", "write --depths [4,6]"),
        ("a --depths 4,6", "write --depths [4,6]"),
        ("a --depths [4, 6]", "write --depths [4,6]"),
        ("a --patterns encoder.*", "--patterns takes a list in brackets; write --patterns [encoder.*]"),
        ("a --patterns x.json y.json", "write --patterns [x.json,y.json]"),
        ("a --patterns+ x", "'patterns+'"),
        ("a --rate --shuffle", "--rate has no value; write --rate VALUE"),
        ("a --rate", "--rate has no value"),
        ("a -r 0.1", "Unknown key '-r'"),
        ("--", "Unknown key ''"),
        ("", "model"),
    ],
)
def test_words_that_the_rule_refuses(words: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        given(*words.split())
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_help_of_a_part(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        given("--recover.help")
    assert stop.value.code == 0
    assert "A share such as 50%" in capsys.readouterr().out


def test_optional_dataclass_and_null(write: Any) -> None:
    file = write("model: a\nrecover:\n  params: 10%\n")
    assert build("--config", file).recover == Budget(params="10%")
    assert build("--config", file, "--recover", "null").recover is None


def test_configs_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        build("--model", "a").rate = 1.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("arguments", "unknown", "known"),
    [
        (["--budget.parms", "50%"], "budget.parms", "budget.params"),
        (["--budgte.params=50%"], "budgte.params", "budget.params"),
        (["--params", "50%"], "params", "budget.params"),
        (["--recover.denominater", "total"], "recover.denominater", "recover.denominator"),
        (["--shufle", "false"], "shufle", "shuffle"),
        (["--model.name", "a"], "model.name", "model"),
    ],
)
def test_unknown_option(capsys: pytest.CaptureFixture[str], arguments: list[str], unknown: str, known: str) -> None:
    message = refusal(capsys, "--model", "a", *arguments)
    assert f"'{unknown}'" in message
    assert f"'{known}'" in message


@pytest.mark.parametrize(
    ("text", "unknown", "known"),
    [
        ("modle: a", "modle", "model"),
        ("model: a\nbudget: {parms: 50%}", "budget.parms", "budget.params"),
        ("model: a\nrecover: {parms: 50%}", "recover.parms", "recover.params"),
        ("model: a\nphases: [{steps: 1}, {step: 1}]", "phases.step", "phases.steps"),
    ],
)
def test_unknown_yaml_key(capsys: pytest.CaptureFixture[str], write: Any, text: str, unknown: str, known: str) -> None:
    file = write(text)
    message = refusal(capsys, "--config", file)
    assert f"'{unknown}' in {file}" in message
    assert f"'{known}'" in message


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        (["--rate", "fast"], "rate"),
        (["--budget.denominator", "half"], "budget.denominator"),
        (["--shuffle", "perhaps"], "shuffle"),
        (["--weights.ctc", "much"], "weights"),
    ],
)
def test_wrong_types_name_the_key(capsys: pytest.CaptureFixture[str], arguments: list[str], key: str) -> None:
    assert re.search(rf'\b{key}"? is ', refusal(capsys, "--model", "a", *arguments))


@pytest.mark.parametrize("text", ["model: a\nrate: [1]", "model: a\nbudget: 50%", "model: a\nphases: [{steps: many}]"])
def test_wrong_types_in_yaml(capsys: pytest.CaptureFixture[str], write: Any, text: str) -> None:
    key = text.splitlines()[1].split(":")[0]
    assert key in refusal(capsys, "--config", write(text))


def test_missing_required_value(capsys: pytest.CaptureFixture[str]) -> None:
    assert "model" in refusal(capsys)


def test_missing_and_unreadable_file(capsys: pytest.CaptureFixture[str], write: Any) -> None:
    assert "nowhere.yaml" in refusal(capsys, "--config", "nowhere.yaml")
    with pytest.raises(SystemExit):
        build("--config", write("model: [a"))
    assert "config.yaml" in capsys.readouterr().err


def test_refused_value(capsys: pytest.CaptureFixture[str]) -> None:
    assert "between 0% and 100%" in refusal(capsys, "--model", "a", "--budget.params", "200%")


def test_traceback_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPRESS_TRACEBACK", "1")
    with pytest.raises(ValueError, match="between 0% and 100%"):
        build("--model", "a", "--budget.params", "200%")


def test_help_shows_descriptions_and_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        build("--help")
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert "A share such as 50%" in text
    assert "0.001" in text


def test_to_dict_survives_json_and_yaml(tmp_path: Path) -> None:
    config = build("--model", "a", "--budget.params", "50%", "--phases", '[{"steps": 3}]', "--weights.ctc", "1")
    plain = to_dict(config)
    assert json.loads(json.dumps(plain)) == plain
    file = tmp_path / "again.yaml"
    file.write_text(yaml.safe_dump(plain))
    assert build("--config", str(file)) == config


def test_to_dict_refuses_what_json_cannot_hold() -> None:
    @dataclass(frozen=True)
    class Odd:
        value: Any = print

    with pytest.raises(ValueError, match="cannot stand in a config"):
        to_dict(Odd())


def test_known_keys_and_nearest() -> None:
    keys = known_keys(Config)
    assert {"model", "budget", "budget.params", "recover.denominator", "phases.betas"} <= set(keys)
    assert nearest("steps", keys) == "phases.steps"


@pytest.mark.parametrize(
    ("refuse", "message"),
    [
        (lambda: check(False, "speed.seconds", 0.0, "give a length"), "speed.seconds is 0.0; give a length."),
        (
            lambda: check_choice("case", "title", ("lower", "upper")),
            "case='title' is unknown; choose one of lower, upper.",
        ),
        (lambda: check_at_least("jobs", 0, 1, "process"), "jobs is 0; give at least 1 process."),
        (lambda: check_at_least("sub", -0.5, 0), "sub is -0.5; give at least 0."),
        (lambda: check_positive("hours", 0, "a number of hours"), "hours is 0; give a number of hours above 0."),
        (lambda: check_positive("rate", math.nan), "rate is nan; give a number above 0."),
    ],
)
def test_checks_name_key_value_and_remedy(refuse: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        refuse()


def test_checks_let_pass_what_fits_or_was_not_given() -> None:
    check(True, "key", 1, "give more")
    check_choice("case", "lower", ("lower", "upper"))
    check_at_least("jobs", 1, 1)
    check_at_least("jobs", None, 1)
    check_positive("hours", 0.1)
    check_positive("seconds", math.inf)
    check_positive("hours", None)
    with pytest.raises(UnicodeError, match="jobs is 0"):
        check_at_least("jobs", 0, 1, error=UnicodeError)


# The committed configs ------------------------------------------------------------------------------------------------


def committed_configs() -> list[Path]:
    return sorted((REPOSITORY / "configs").rglob("*.y*ml"))


def test_every_config_is_found() -> None:
    assert len(committed_configs()) == COMMITTED_CONFIGS


@pytest.mark.parametrize("config", committed_configs(), ids=lambda path: path.relative_to(REPOSITORY).as_posix())
def test_launch_line_builds_the_config(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command in a config's header names the recipe and the config itself, and that recipe accepts it."""
    launch = LAUNCH.fullmatch(config.read_text().splitlines()[LAUNCH_LINE - 1])
    assert launch, f"line {LAUNCH_LINE} must be '# accelerate launch recipes/NAME.py --config {config}'"
    assert launch[3] == config.relative_to(REPOSITORY).as_posix()
    arguments = ["--config", str(config), *shlex.split(launch[4] or "")]
    config_class = load_recipe(launch[2]).Config
    built = parse(config_class, arguments, prog=launch[2])
    with pytest.raises(SystemExit) as stop:
        parse(config_class, [*arguments, "--print_config"], prog=launch[2])
    assert stop.value.code == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed == to_dict(built)


def test_teachers_are_what_the_training_configs_leave() -> None:
    """A teacher in `runs/` is the best model of a committed training config, so that the headers can be followed."""
    configs = {path: yaml.safe_load(path.read_text()) for path in committed_configs()}
    outputs = {f"{config['output']}/best" for config in configs.values()}
    for path, config in configs.items():
        teacher = config.get("teacher", "")
        assert not teacher.startswith("runs/") or teacher in outputs, f"{path.name}: nothing trains {teacher}"
