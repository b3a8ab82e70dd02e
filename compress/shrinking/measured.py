"""What is measured of each size: error rates on a dev set, parameters, MACs, and speed beside the whole model."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedModel

from compress.cost import size_of
from compress.data import SpeechDataset, SpeechLoader, feature_extractor_of, open_speech
from compress.evaluation.bootstrap import rate_interval
from compress.evaluation.errors import count_errors
from compress.evaluation.metrics import error_rates
from compress.evaluation.normalisation import IGNORED, scoring_rule, shared_vocabulary
from compress.evaluation.speed import measure, speed_inputs
from compress.evaluation.transcribe import batching_for, transcribe
from compress.shrinking.settings import ShrinkConfig


class DevMeasure:
    """Measures models on one dev set, beside the whole model.

    Args:
        whole: the model that others are compared with.
        processor: of all of them.
        config: the dev set, and how it is scored and timed.
    """

    def __init__(self, whole: PreTrainedModel, processor: Any, config: ShrinkConfig) -> None:
        self.whole, self.processor, self.config = whole, processor, config
        rate = int(feature_extractor_of(processor).sampling_rate)
        vocabulary = shared_vocabulary([processor], config.normalise)
        dev = open_speech(config.dev_set, sampling_rate=rate, vocabulary=vocabulary)
        self.dev: SpeechDataset = dev.sample(config.dev_utterances or len(dev), config.seed)

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
        """Describes the speech as results do."""
        dev, config = self.config.dev_set, self.config
        return {"source": dev.source, "split": self.dev.split, "ignores": IGNORED[config.normalise]} | {
            "utterances": len(self.dev),
            "seconds": sum(self.dev.seconds),
        }
