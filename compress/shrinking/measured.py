"""What is measured of each size: error rates on a dev set, parameters, MACs, and speed beside the whole model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from transformers import PreTrainedModel

from compress.cost import size_of
from compress.data import BatchConfig, SpeechDataset, SpeechLoader, feature_extractor_of, open_speech
from compress.evaluation.bootstrap import BootstrapConfig, rate_interval
from compress.evaluation.errors import count_errors
from compress.evaluation.generate import GenerateConfig
from compress.evaluation.metrics import error_rates
from compress.evaluation.normalisation import IGNORED, Normaliser, scoring_rule, shared_vocabulary
from compress.evaluation.speed import SpeedConfig, conditions, measure, speed_inputs
from compress.evaluation.transcribe import batching_for, transcribe
from compress.shrinking.settings import ShrinkConfig


@dataclass(frozen=True)
class MeasureConfig:
    """How models are measured on a dev set; the fields are those of `ShrinkConfig`."""

    batch: BatchConfig = field(default_factory=BatchConfig)
    normalise: Normaliser = "lower"
    generate: GenerateConfig = field(default_factory=GenerateConfig)
    bootstrap: BootstrapConfig = field(default_factory=BootstrapConfig)
    speed: SpeedConfig = field(default_factory=SpeedConfig)


def measure_of(whole: PreTrainedModel, processor: Any, config: ShrinkConfig) -> DevMeasure:
    """What measures the sizes of a curve: on the dev set that is asked for, and as is asked for."""
    rate = int(feature_extractor_of(processor).sampling_rate)
    vocabulary = shared_vocabulary([processor], config.normalise)
    dev = open_speech(config.dev_set, sampling_rate=rate, vocabulary=vocabulary)
    how = MeasureConfig(config.batch, config.normalise, config.generate, config.bootstrap, config.speed)
    sample = dev.sample(config.dev_utterances or len(dev), config.seed)
    return DevMeasure(whole, processor, sample, config.dev_set.named(), how)


class DevMeasure:
    """Measures models on one dev set, beside the whole model.

    Args:
        whole: the model that others are compared with.
        processor: of all of them.
        dev: utterances with transcripts.
        source: where they are from, for reports.
        config: how they are scored and timed.
    """

    def __init__(
        self, whole: PreTrainedModel, processor: Any, dev: SpeechDataset, source: str, config: MeasureConfig
    ) -> None:
        self.whole, self.processor, self.dev, self.source, self.config = whole, processor, dev, source, config

    def of(self, model: PreTrainedModel) -> dict[str, Any]:
        """Error rates with their interval, parameters, MACs, real-time factor, and how much faster than the whole."""
        size, config = size_of(model), self.config.speed
        inputs = speed_inputs(self.processor, self.dev.sampling_rate, config)
        models = {"model": model} if model is self.whole else {"model": model, "whole": self.whole}
        speeds = measure(models, dict.fromkeys(models, inputs), config)
        return self._rates(model) | {
            "parameters": size.total,
            "macs_per_second": size.macs_per_second,
            "rtf": speeds["model"].rtf,
            "times_as_fast": speeds.get("whole", speeds["model"]).rtf / speeds["model"].rtf,
        }

    def _rates(self, model: PreTrainedModel) -> dict[str, Any]:
        config = self.config
        loader = SpeechLoader(self.dev, self.processor, batching_for(model, config.batch), shuffle=False)
        ids, *texts = transcribe(model, loader, self.processor, config=config.generate)
        loader.close()
        order = sorted(range(len(ids)), key=ids.__getitem__)
        rule = scoring_rule(config.normalise, [self.processor])
        references, written = ([rule(column[n]) for n in order] for column in texts)
        rates, counts = error_rates(references, written), count_errors(references, written)
        interval = rate_interval(counts.errors, counts.words, config.bootstrap)
        return {"wer": rates.wer, "wer_ci95": interval.to_list(), "cer": rates.cer}

    def described(self) -> dict[str, Any]:
        """Describes the speech, and the conditions of the timing, as results do."""
        data: dict[str, Any] = {
            "source": self.source,
            "split": self.dev.split,
            "ignores": IGNORED[self.config.normalise],
        }
        data |= {"utterances": len(self.dev), "seconds": sum(self.dev.seconds)}
        return {"data": data, "conditions": conditions(self.whole.device, self.whole.dtype, self.config.speed)}
