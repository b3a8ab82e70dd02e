"""What an evaluation is asked for: the models, the speech, and under which conditions."""

from __future__ import annotations

from dataclasses import dataclass, field

from compress.config import check_at_least, check_choice, check_positive
from compress.data import BatchConfig, SpeechConfig
from compress.data.settings import SYNTHETIC
from compress.evaluation.bootstrap import BootstrapConfig
from compress.evaluation.generate import GenerateConfig
from compress.evaluation.metrics import OWN_METRICS
from compress.evaluation.normalisation import IGNORED, Normaliser
from compress.evaluation.speed import SpeedConfig
from compress.machine import DTYPES

RUNTIMES = ("torch", "onnx")


def _test_split() -> SpeechConfig:
    return SpeechConfig(source=SYNTHETIC, split="test")


@dataclass(frozen=True)
class EvaluateConfig:
    """What to evaluate, on what, and how.

    Attributes:
        model: folder or Hub id of the model.
        data: the speech; the test split of the built-in synthetic corpus unless something else is named.
        baseline: folder or Hub id of the model to compare with, usually the teacher; None evaluates `model` alone.
        out: folder for report.json, report.md, report.html and transcripts.jsonl; None writes nothing.
        batch: how utterances are batched for transcription; families whose output depends on padding run one by one.
        device: "cpu", "cuda", "cuda:1", or "auto" for a GPU if there is one.
        dtype: "float32", "bfloat16" or "float16".
        normalise: what scoring ignores on both sides: "none", "lower" (case), "words" (case and punctuation),
            "whisper-basic" or "whisper" (English), the normalisers of public leaderboards; the map of spellings of the
            latter is the model's own normalizer.json, if it has one.
        runtime: what runs the model, "torch" or "onnx"; the latter exports it to a temporary folder first. What was
            exported already is known by its export.json, and runs as it is. The baseline runs in torch, unless it was
            exported.
        metrics: beside wer and cer, which are always there: any metric of `evaluate` that takes texts, such as
            `[wer,cer,exact_match]`; those that are not ours are downloaded from the Hub, and their code is run.
        by: a column of the data's metadata, such as `speaker`, for each of whose values the error rate is given too.
        macs_seconds: length of the utterance whose MACs are counted.
        speed: conditions of the timing.
        bootstrap: how intervals are computed.
        generate: how models without a CTC head write.
        worst: how many of the worst utterances the report shows.
    """

    model: str
    data: SpeechConfig = field(default_factory=_test_split)
    baseline: str | None = None
    out: str | None = None
    batch: BatchConfig = field(default_factory=BatchConfig)
    device: str = "auto"
    dtype: str = "float32"
    normalise: Normaliser = "lower"
    runtime: str = "torch"
    metrics: tuple[str, ...] = tuple(OWN_METRICS)
    by: str | None = None
    macs_seconds: float = 10.0
    speed: SpeedConfig = field(default_factory=SpeedConfig)
    bootstrap: BootstrapConfig = field(default_factory=BootstrapConfig)
    generate: GenerateConfig = field(default_factory=GenerateConfig)
    worst: int = 20

    def __post_init__(self) -> None:
        check_choice("dtype", self.dtype, DTYPES)
        check_choice("runtime", self.runtime, RUNTIMES)
        check_choice("normalise", self.normalise, IGNORED)
        check_positive("macs_seconds", self.macs_seconds, "the length of an utterance, for example 10,")
        check_at_least("worst", self.worst, 0, "utterances")
