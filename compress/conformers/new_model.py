"""The words in which a new model of a family is described: what a small one looks like, and the processor it takes.

They are apart from the words of `description`, for nothing of this travels with a checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from compress.conformers.description import Family

ENCODER_CONFIG = "encoder_config"
"""Where the config of a model holds that of its encoder, if that has one of its own."""


@dataclass(frozen=True)
class NewModel:
    """A model of a family that is trained from nothing, and its processor.

    Attributes:
        family: the family.
        settings: what makes it small enough to learn on a CPU, under the names that transformers gives them (those of
            the encoder where it has a config of its own); all others are as transformers has them.
        processor: class of the processor, in transformers.
        extractor: class of its feature extractor.
        extractor_settings: of the feature extractor.
        mel_bins: the setting of the model that holds the number of mel features per frame; None: it takes raw samples.
        extractor_bins: the settings of the feature extractor that hold it.
        frames_stacked: how many neighbouring frames the feature extractor puts side by side, to reach that number.
        blank_first: whether the blank is the first of the tokens; otherwise it is the last one.
        characters: class of a tokenizer of the family's own that knows single characters only; None: the general one.
    """

    family: Family
    settings: Mapping[str, Any]
    processor: str
    extractor: str
    extractor_settings: Mapping[str, Any] | None = None
    mel_bins: str | None = None
    extractor_bins: tuple[str, ...] = ("feature_size",)
    frames_stacked: int = 1
    blank_first: bool = True
    characters: str | None = None

    @property
    def config_class(self) -> Any:
        """The class of the model's config."""
        return self.family.original_class.config_class

    @property
    def encoder_class(self) -> Any:
        """The class of the encoder's config, if it has one of its own."""
        return self.config_class.sub_configs.get(ENCODER_CONFIG)

    @property
    def settings_class(self) -> Any:
        """The class of config that has the settings."""
        return self.encoder_class or self.config_class
