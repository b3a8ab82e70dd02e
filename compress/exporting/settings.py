"""What an export is asked for."""

from __future__ import annotations

from dataclasses import dataclass, field

from compress.config import check_at_least, check_choice, check_positive
from compress.data import BatchConfig, SpeechConfig
from compress.evaluation.normalisation import IGNORED, Normaliser
from compress.exporting.clients import CLIENTS

FORMATS = ("onnx",)
KEEP_FP32 = ("none", "auto")
LARGEST_DIFFERENCE = 1e-4


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Which model goes where, for whom, and how exactly.

    Attributes:
        model: folder or Hub name.
        out: folder for the export; there must be none yet.
        format: of the graph; "onnx" is the only one.
        client: who is to run it: "plain" (any program that runs ONNX), "onnx-asr", "sherpa-onnx" or "transformers.js".
        size: of an elastic checkpoint: one of its sizes; without it all of the model.
        depth: of an elastic checkpoint: how many blocks, instead of a size.
        int8: quantise the weights of linear layers to 8 bits.
        keep_fp32: with int8: "auto" leaves those layers as they are whose quantisation costs most, until the error rate
            on `data` holds; "none" quantises all.
        max_wer_increase: with auto: by how many points the word error rate may grow over that of the model itself.
        calibration_utterances: with auto: on how many utterances each layer is tried alone.
        tolerance: the largest difference between the outputs of model and graph that is accepted.
        data: speech on which the error rate of the export is measured; auto needs it.
        dev_split: the split of it that is read.
        batch: how that is put together.
        normalise: what scoring ignores on both sides, as in `compress evaluate`.
    """

    model: str
    out: str
    format: str = "onnx"
    client: str = "plain"
    size: str | None = None
    depth: int | None = None
    int8: bool = False
    keep_fp32: str = "none"
    max_wer_increase: float = 0.1
    calibration_utterances: int = 16
    tolerance: float = LARGEST_DIFFERENCE
    data: SpeechConfig | None = None
    dev_split: str = "dev"
    batch: BatchConfig = field(default_factory=BatchConfig)
    normalise: Normaliser = "lower"

    def __post_init__(self) -> None:
        check_choice("format", self.format, FORMATS)
        check_choice("client", self.client, CLIENTS)
        check_choice("keep_fp32", self.keep_fp32, KEEP_FP32)
        check_choice("normalise", self.normalise, IGNORED)
        check_positive("tolerance", self.tolerance, "a difference of outputs, for example 1e-4,")
        check_at_least("max_wer_increase", self.max_wer_increase, 0)
        check_at_least("calibration_utterances", self.calibration_utterances, 1)
        if self.size is not None and self.depth is not None:
            raise ValueError("size and depth both say which part of an elastic checkpoint is meant: give one of them.")
        if self.keep_fp32 == "auto" and not self.int8:
            raise ValueError("keep_fp32 is auto without int8: nothing is quantised then; add --int8.")
        if self.keep_fp32 == "auto" and self.data is None:
            raise ValueError(
                "keep_fp32 is auto, which measures error rates on speech with transcripts: name it with --data DIR "
                "(its dev split is read)."
            )
