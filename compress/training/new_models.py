"""The model to train: a new one of a family, or a checkpoint's, ready for training."""

from __future__ import annotations

import copy
import difflib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from torch import nn
from torch.nn.utils import parametrize
from transformers import PreTrainedModel

from compress.checkpoint import load_model
from compress.config import check_choice
from compress.conformers import NEW_MODELS, NewModel
from compress.conformers.new_model import ENCODER_CONFIG
from compress.elastic import at_full_size
from compress.running.subnets import subnet_names
from compress.training.preparation import prepare_for_training

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelConfig:
    """Which model to train; give either a family or a checkpoint.

    Attributes:
        family: a new model of this family, one of `compress.conformers.NEW_MODELS`.
        settings: of the new model, under the names transformers gives them (those of the encoder where it has a config
            of its own); those that are not named make a model small enough to learn on a CPU.
        checkpoint: folder or Hub name of a model to go on from, with its own tokens.
    """

    family: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    checkpoint: str | None = None

    def __post_init__(self) -> None:
        if (self.family is None) == (self.checkpoint is None):
            raise ValueError(
                "Set either model.family (a new model) or model.checkpoint (one to go on from), "
                f"got family={self.family!r} and checkpoint={self.checkpoint!r}."
            )
        if self.checkpoint is not None and self.settings:
            raise ValueError(
                "model.settings describes a new model, and a checkpoint brings its own: remove one of them."
            )
        if self.family is not None:
            check_choice("model.family", self.family, NEW_MODELS)


def note_length(model: PreTrainedModel, seconds: Sequence[float]) -> None:
    """Lets the config of a model say how long the longest utterance was that it is trained on, as far as is known.

    Args:
        model: before training.
        seconds: the lengths of the utterances; none of a stream.
    """
    if seconds:
        model.config.trained_seconds = round(max(seconds), 1)


def build_model(config: ModelConfig, *, vocabulary_size: int, blank: int, keep_sizes: bool = False) -> PreTrainedModel:
    """The model, in training mode on the CPU, with layerdrop off and unused parts frozen.

    A new model's weights come from torch's global generator. Of an elastic checkpoint the full size is taken: trained
    without the others it ruins them.

    Args:
        config: which model.
        vocabulary_size: number of tokens of a new model.
        blank: id of its blank.
        keep_sizes: whether an elastic checkpoint stays elastic, for a training that replaces its sizes.

    Raises:
        ValueError: naming a setting the family does not have and the nearest it has.
    """
    if config.checkpoint is None:
        assert config.family is not None
        model = _new_model(NEW_MODELS[config.family], config.settings, vocabulary_size, blank)
        _draw_weights(model)
    else:
        model = load_model(config.checkpoint)
        if not keep_sizes:
            _say_full_size(config.checkpoint, model)
            model = at_full_size(model, consume=True)
    prepare_for_training(model)
    model.train()
    return model


def _say_full_size(checkpoint: str, model: PreTrainedModel) -> None:
    """Says of an elastic checkpoint that its full size goes on alone."""
    *smaller, full = subnet_names(model)
    if smaller:
        logger.info(
            "%s runs at size %s, %s: size %s, all of it, is trained alone, and the other sizes are left behind.",
            checkpoint, ", ".join(smaller), full, full,
        )  # fmt: skip


def fresh_model(model: PreTrainedModel) -> PreTrainedModel:
    """A model of the same class, config and device whose weights are new, from torch's global generator."""
    fresh: PreTrainedModel = type(model)(copy.deepcopy(model.config))
    _draw_weights(fresh)
    nn.Module.to(fresh, model.device)
    fresh.train(model.training)
    return fresh


def _draw_weights(model: nn.Module) -> None:
    """Draws the weights of linear and convolution layers anew as torch does, scaled by their number of inputs.

    transformers draws them with one small deviation (0.02) whatever the layer, which suits fine-tuning of large models.
    In a small one the signal dies on the way through the depthwise convolutions, and CTC stays at its prior for long.
    """
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d) and not parametrize.is_parametrized(module):
            module.reset_parameters()


def mel_bins(config: ModelConfig) -> int:
    """Mel features per frame that a new model takes; 0 if it takes raw samples."""
    new = NEW_MODELS[config.family or ""]
    if new.mel_bins is None:
        return 0
    default = new.settings.get(new.mel_bins, getattr(new.settings_class, new.mel_bins))
    return int(config.settings.get(new.mel_bins, default))


def _new_model(new: NewModel, settings: Mapping[str, Any], vocabulary_size: int, blank: int) -> PreTrainedModel:
    tokens = {"vocab_size": vocabulary_size, "pad_token_id": blank}
    known = [item.name for item in fields(new.settings_class)]
    config = _filled(new, settings, {name: value for name, value in tokens.items() if name in known})
    if new.encoder_class:
        config = new.config_class(**{ENCODER_CONFIG: config}, **tokens)
    return new.family.original_class(config)


def _filled(new: NewModel, settings: Mapping[str, Any], tokens: Mapping[str, int]) -> Any:
    """A config of small defaults and the settings given, whose names are checked."""
    known = [item.name for item in fields(new.settings_class)]
    for name in settings:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else "."
            raise ValueError(f"model.settings has no {name!r} in {new.settings_class.__name__}{hint}")
    return new.settings_class(**{**new.settings, **settings, **tokens})
