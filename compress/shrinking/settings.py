"""What `compress shrink` is asked for: the model, how small, who decides, how it is repaired, and on which speech."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from compress.config import check, check_at_least, check_choice
from compress.curvature.repair import RefitConfig
from compress.data import BatchConfig, SpeechConfig
from compress.data.settings import SYNTHETIC
from compress.deciding.budget import BudgetConfig
from compress.deciding.by_speech import BY_SPEECH
from compress.deciding.decisions import DECISIONS, DEFAULT_DECISION, require_known, scores_behind
from compress.deciding.uniform import UniformConfig, check_uniform
from compress.elastic.supernet.limits import SizesConfig
from compress.evaluation.bootstrap import BootstrapConfig
from compress.evaluation.generate import GenerateConfig
from compress.evaluation.normalisation import IGNORED, Normaliser
from compress.evaluation.speed import SpeedConfig
from compress.machine import DTYPES

WITHOUT_TRAINING = (*BY_SPEECH, *DECISIONS)
"""Everyone who can decide what stays without training, by name."""


@dataclass(frozen=True, kw_only=True)
class ApplyConfig:
    """What is removed from which model, and whether what is left is repaired.

    Attributes:
        model: checkpoint folder or Hub name.
        structure: a structure.json.
        out: folder for the smaller model.
        data: speech on which what is left is refitted in closed form; null: it is removed and no more.
        refit: how; null: not at all, which data are not needed for.
        batch: how utterances are put together.
        seed: of the choice of utterances.
        device: "cpu", "cuda", "cuda:1", or "auto" for a GPU if there is one; without data everything is on the CPU.
    """

    model: str
    structure: str
    out: str
    data: SpeechConfig | None = None
    refit: RefitConfig | None = field(default_factory=RefitConfig)
    batch: BatchConfig = field(default_factory=BatchConfig)
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        for name, default in (("refit", RefitConfig()), ("batch", BatchConfig()), ("seed", 0)):
            needless = self.data is None and getattr(self, name) not in (default, None)
            remedy = "what is left is refitted on speech: name some with --data"
            check(not needless, name, "given without data", remedy)

    def shrinking(self) -> ShrinkConfig:
        """The same as an order to shrink by a file."""
        assert self.data is not None
        check(Path(self.structure).is_file(), "structure", self.structure, "give the path of a structure.json")
        return ShrinkConfig(
            model=self.model, out=self.out, data=self.data, structure=self.structure,
            refit=self.refit, batch=self.batch, seed=self.seed, device=self.device,
        )  # fmt: skip


def _train_split() -> SpeechConfig:
    return SpeechConfig(source=SYNTHETIC)


@dataclass(frozen=True, kw_only=True)
class ShrinkConfig:
    """What becomes smaller without training, and how.

    Attributes:
        model: folder or Hub name.
        out: with a budget or a file, folder of the smaller checkpoint; with sizes, folder of the report.
        data: speech that is looked at, the training split; transcripts serve `fisher` alone, and need not be there.
        budget: the size to reach.
        sizes: several sizes, whose error rates are measured on a dev set: `sizes.params`, `sizes.macs` or
            `sizes.latency`, largest first.
        structure: who decides what stays: `obs`, `fisher`, `variance` look at the speech, `magnitude`, `proportional`
            at the weights, `uniform` keeps as many units in every block; or a structure.json, without budget and sizes.
        uniform: with `structure: uniform`, by which scores, and whether convolutions get narrower, too.
        rounds: sizes on the way, such as [75%,60%]: scores, removal and refit are made anew at each; null: as many as
            the size asks for, none of which takes away more than 30 % of what it finds.
        refit: how what is left is repaired in closed form; null: not at all.
        save: with sizes, keep the checkpoint of each size, in `sizes/`.
        dev_split: with sizes, the split of the dev set, which is otherwise read like `data`.
        dev: the dev set, if it is another source.
        dev_utterances: how many utterances of the dev set are used, drawn at random; null: all.
        seed: of what is drawn at random.
        batch: how utterances are put together; models whose output depends on padding see them singly.
        device: "cpu", "cuda", "cuda:1", or "auto" for a GPU if there is one.
        dtype: in which the model is looked at: "float32", "bfloat16" or "float16"; it is saved in its own.
        normalise: what scoring ignores on both sides: "none", "lower" (case), "words" (case and punctuation),
            "whisper-basic" or "whisper" (English).
        generate: how a model without a CTC head writes down the dev set.
        bootstrap: how intervals are computed.
        speed: conditions of the timing.
    """

    model: str
    out: str
    data: SpeechConfig = field(default_factory=_train_split)
    budget: BudgetConfig | None = None
    sizes: SizesConfig | None = None
    structure: str = DEFAULT_DECISION
    uniform: UniformConfig = field(default_factory=UniformConfig)
    rounds: tuple[str, ...] | None = None
    refit: RefitConfig | None = field(default_factory=RefitConfig)
    save: bool = False
    dev_split: str = "dev"
    dev: SpeechConfig | None = None
    dev_utterances: int | None = None
    seed: int = 0
    batch: BatchConfig = field(default_factory=BatchConfig)
    device: str = "auto"
    dtype: str = "float32"
    normalise: Normaliser = "lower"
    generate: GenerateConfig = field(default_factory=GenerateConfig)
    bootstrap: BootstrapConfig = field(default_factory=BootstrapConfig)
    speed: SpeedConfig = field(default_factory=SpeedConfig)

    def __post_init__(self) -> None:
        check_choice("dtype", self.dtype, DTYPES)
        check_choice("normalise", self.normalise, IGNORED)
        check_at_least("dev_utterances", self.dev_utterances, 1)
        require_known(self.structure, WITHOUT_TRAINING)
        check_uniform(self.structure, self.budget is not None and bool(self.budget.front))
        self._check_target()
        if self.rounds is not None and (self.sizes or self.from_file):
            raise ValueError("rounds go with a budget: sizes are rounds themselves, and a file is one.")
        if self.budget and self.budget.stages is not None:
            raise ValueError("budget.stages are for training (recipes/prune.py): give rounds, or several sizes.")
        if self.sizes and self.data.mix and self.dev is None:
            raise ValueError("data.mix has no dev set of its own: name one with dev.source.")
        if self.sizes and self.dev_set.streaming:
            raise ValueError(
                "A curve is measured on a dev set of known length, and a stream has none: name one with dev.source, or "
                "set data.streaming to false."
            )
        for name, unused in (("save", False), ("dev_utterances", None), ("dev", None)):
            needless = self.sizes is None and getattr(self, name) != unused
            check(not needless, name, "given without sizes", "it belongs to a curve: give sizes, or leave it out")
        if self.sizes and self.sizes.parts is not None:
            raise ValueError("Sizes in parts belong to supernets: give sizes.params, sizes.macs or sizes.latency.")

    def _check_target(self) -> None:
        targets = [name for name in ("budget", "sizes") if getattr(self, name) is not None]
        if len(targets) != (0 if self.from_file else 1):
            raise ValueError(
                f"structure is {self.structure!r}, with {' and '.join(targets) or 'neither budget nor sizes'}: "
                f"{', '.join(WITHOUT_TRAINING)} need either a budget (--budget.params 75%) or sizes "
                "(--sizes.params [75%,50%]); a structure.json is a decision already and goes without both."
            )

    @property
    def from_file(self) -> bool:
        """Whether what stays has been decided already."""
        return self.structure not in WITHOUT_TRAINING

    @property
    def looks_at_speech(self) -> bool:
        """Whether the decision or the refit does."""
        return self.refit is not None or scores_behind(self.structure, self.uniform) in BY_SPEECH

    @property
    def dev_set(self) -> SpeechConfig:
        """The dev set."""
        return self.dev or replace(self.data, split=self.dev_split, limit=None)

    @property
    def utterances(self) -> int:
        """How many utterances are looked at."""
        return (self.refit or RefitConfig()).utterances
