"""What the verbs that look at a model on a dev set are told alike: model, speech, matrix, how error rates are found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, get_args

from torch import Tensor
from transformers import PreTrainedModel

from compress.config import check, check_at_least, check_choice
from compress.data import BatchConfig, SpeechConfig, SpeechDataset, SpeechLoader, feature_extractor_of, open_speech
from compress.data.settings import SYNTHETIC
from compress.evaluation.bootstrap import BootstrapConfig
from compress.evaluation.generate import GenerateConfig
from compress.evaluation.normalisation import IGNORED, Normaliser, shared_vocabulary
from compress.evaluation.transcribe import batching_for
from compress.machine import DTYPES, usable_cores
from compress.search.boundaries import Feature, SampleConfig, sample_boundaries
from compress.search.fine import FineConfig
from compress.search.similarity import SVCCA_SHARE, Measure


@dataclass(frozen=True)
class MatrixConfig:
    """What the correlation matrix is computed from. The paper leaves most of it to its code.

    That code compares means of utterances, in groups of 4 (`feature: mean`, `group: 4`). What scores say of error
    rates, as the rank correlation over proposals on dev splits, -1 being perfect: on a teacher of 6 blocks means had
    -0.14 and 0.01 (2 and 3 removed), frames in groups of 512 -0.73 and -0.43; on two of 12 blocks (2, 3 and 4 removed)
    means -0.50, -0.18, 0.07 and 0.25, 0.17, 0.21, frames -0.11, -0.24, -0.25 and -0.68, -0.61, -0.24. Where half of
    the blocks went, neither said anything. tools/experiments/measure_screening.py measures it for another model.

    Attributes:
        feature: what is compared: `frames`, or the `mean` of every utterance.
        rows: frames in all, at most.
        group: distance correlation only: it is computed in groups of so many rows and averaged.
        unit_length: distance correlation only: divide each row by its length first, as CoMFLP's code does.
        svcca_share: SVCCA only: the share of the sum of singular values that is kept.
        max_mib: memory for the sample, in MiB.
    """

    feature: Feature = "frames"
    rows: int = 4096
    group: int = 512
    unit_length: bool = True
    svcca_share: float = SVCCA_SHARE
    max_mib: float = 1024.0

    def __post_init__(self) -> None:
        check_choice("matrix.feature", self.feature, get_args(Feature))
        check(2 <= self.group <= MOST_IN_GROUP, "matrix.group", self.group, f"give 2 to {MOST_IN_GROUP} rows")
        share = "give a share above 0 and up to 1"
        check(0 < self.svcca_share <= 1, "matrix.svcca_share", self.svcca_share, share)

    def options(self, measure: Measure) -> dict[str, Any]:
        """Returns the options of this measure."""
        if measure == "distance_correlation":
            return {"group": self.group, "unit_length": self.unit_length}
        return {"share": self.svcca_share} if measure == "svcca" else {}


MOST_IN_GROUP = 512
"""Rows of a group: the distances at all boundaries of a deep model then take some 100 MiB."""


def _dev_split() -> SpeechConfig:
    return SpeechConfig(source=SYNTHETIC, split="dev")


@dataclass(frozen=True, kw_only=True)
class DevConfig:
    """Which model is looked at, and on which speech.

    Attributes:
        model: folder or Hub id of the model.
        data: speech with transcripts; the dev split, never the one that results are reported on.
        utterances: how many utterances of the dev set are used, drawn at random.
        seed: of everything random.
        batch: how utterances are put together; families whose output depends on padding run one by one.
        device: "cpu", "cuda", "cuda:1", or "auto" for a GPU if there is one.
        normalise: what scoring ignores on both sides: "none", "lower" (case), "words" (case and punctuation),
            "whisper-basic" or "whisper" (English).
    """

    model: str
    data: SpeechConfig = field(default_factory=_dev_split)
    utterances: int = 320
    seed: int = 0
    batch: BatchConfig = field(default_factory=BatchConfig)
    device: str = "auto"
    normalise: Normaliser = "lower"

    def __post_init__(self) -> None:
        check_choice("normalise", self.normalise, IGNORED)
        check_at_least("utterances", self.utterances, 1)
        if self.data.streaming:
            raise ValueError("A dev set is read several times here: set data.streaming to false.")

    def open(self, processor: Any) -> SpeechDataset:
        """Opens the utterances that are used.

        Args:
            processor: of the model.
        """
        rate = int(feature_extractor_of(processor).sampling_rate)
        vocabulary = shared_vocabulary([processor], self.normalise)
        return open_speech(self.data, sampling_rate=rate, vocabulary=vocabulary).sample(self.utterances, self.seed)

    def described(self, dataset: SpeechDataset) -> dict[str, Any]:
        """Describes the speech as results do."""
        return {"source": self.data.named(), "split": dataset.split, "ignores": IGNORED[self.normalise]} | {
            "utterances": len(dataset),
            "seconds": sum(dataset.seconds),
        }


@dataclass(frozen=True, kw_only=True)
class BlocksConfig(DevConfig):
    """How blocks are compared and their error rates measured.

    The rest is that of `DevConfig`.

    Attributes:
        matrix: what the matrix is computed from.
        jobs: processes that share the error rates, each with one thread; null: one for each core. On a GPU one.
        reuse_mib: hidden states kept for proposals that share them, per process; beyond it they are computed again.
        dtype: "float32", "bfloat16" or "float16".
        generate: how models without a CTC head write.
        bootstrap: how intervals are computed.
    """

    matrix: MatrixConfig = field(default_factory=MatrixConfig)
    jobs: int | None = None
    reuse_mib: float = 512.0
    dtype: str = "float32"
    generate: GenerateConfig = field(default_factory=GenerateConfig)
    bootstrap: BootstrapConfig = field(default_factory=BootstrapConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("dtype", self.dtype, DTYPES)
        self.fine()  # refuses what does not fit

    def fine(self) -> FineConfig:
        """Returns how error rates are measured."""
        return FineConfig(
            batch=self.batch,
            jobs=usable_cores() if self.jobs is None else self.jobs,
            reuse_mib=self.reuse_mib,
            normalise=self.normalise,
            generate=self.generate,
            bootstrap=self.bootstrap,
        )


def boundary_sample(
    model: PreTrainedModel, processor: Any, dataset: SpeechDataset, config: BlocksConfig
) -> list[Tensor]:
    """Samples what passes the boundaries of a model's blocks, in one pass over a data set.

    Args:
        model: of any family, in eval mode.
        processor: the model's own.
        dataset: speech; transcripts play no part.
        config: matrix, batch and seed are read.

    Returns:
        For each of the `blocks + 1` boundaries `(rows, hidden)`; index 0 is the input of the first block.
    """
    loader = SpeechLoader(dataset, processor, batching_for(model, config.batch), shuffle=False)
    sample = sample_boundaries(
        model,
        loader.epoch(0),
        len(dataset),
        SampleConfig(config.matrix.feature, config.matrix.rows, config.matrix.max_mib, config.seed),
    )
    loader.close()
    return sample
