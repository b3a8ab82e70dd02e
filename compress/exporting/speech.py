"""Error rates of a model before and after export, on a dev set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from transformers import PreTrainedModel

from compress.checkpoint.exported import ExportError
from compress.conformers import family_of
from compress.data import SpeechDataset, SpeechLoader, feature_extractor_of, open_speech
from compress.evaluation.errors import ErrorRates
from compress.evaluation.metrics import error_rates
from compress.evaluation.normalisation import ScoringRule, scoring_rule, shared_vocabulary
from compress.evaluation.transcribe import batching_for, transcribe
from compress.exporting.clients import Slot
from compress.exporting.settings import ExportConfig
from compress.exporting.source import SourceModel
from compress.runtimes.signatures import ENCODER_ALONE


@dataclass(frozen=True)
class DevSpeech:
    """Speech with transcripts, and everything by which it is read and scored."""

    dataset: SpeechDataset
    processor: Any
    rule: ScoringRule
    config: ExportConfig

    @classmethod
    def open(cls, config: ExportConfig, source: SourceModel, slot: Slot) -> DevSpeech:
        """Opens the dev split of the data that is asked for.

        Raises:
            ExportError: if the graph writes no text.
            ValueError: if the data are not usable.
        """
        if slot.signature == ENCODER_ALONE:
            raise ExportError(
                f"data: of a {family_of(source.model).name} the encoder alone is exported, which writes no text that "
                "could be scored; leave --data and --keep_fp32 out."
            )
        assert config.data
        vocabulary = shared_vocabulary([source.processor], config.normalise)
        rate = int(feature_extractor_of(source.processor).sampling_rate)
        data = replace(config.data, split=config.dev_split)
        dataset = open_speech(data, sampling_rate=rate, vocabulary=vocabulary)
        return cls(dataset, source.processor, scoring_rule(config.normalise, [source.processor]), config)

    def loader(self, model: PreTrainedModel) -> SpeechLoader:
        """Its batches for a model, the longest first."""
        return SpeechLoader(self.dataset, self.processor, batching_for(model, self.config.batch), shuffle=False)

    def rates(self, model: PreTrainedModel) -> ErrorRates:
        """How well a model writes it down."""
        loader = self.loader(model)
        _, references, texts = transcribe(model, loader, self.processor)
        loader.close()
        return error_rates(self._scored(references), self._scored(texts))

    def entry(self, before: ErrorRates, after: ErrorRates) -> dict[str, Any]:
        """What export.json says: fractions of the words and characters, of the model and of its export."""
        return {
            "source": self.config.data.named() if self.config.data else None,
            "split": self.dataset.split,
            "model": before.to_dict(),
            "export": after.to_dict(),
        }

    def _scored(self, texts: Sequence[str]) -> list[str]:
        return [self.rule(text) for text in texts]
