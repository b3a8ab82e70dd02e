"""Transcription by models that have no CTC head: their own `generate`, told what each of them wants to be told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from compress.config import check_at_least
from compress.conformers import family_of, frame_lengths
from compress.data import feature_extractor_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SILENCE = np.zeros(1600, dtype=np.float32)  # stands for the speech where only the prompt beside it is wanted


@dataclass(frozen=True)
class GenerateConfig:
    """How a model without a CTC head writes; models with one take no notice of it.

    Attributes:
        language: of the speech, in the model's own code; null: English (`en`, for SeamlessM4T `eng`).
        instruction: what a model with a chat template is asked.
        max_new_tokens: an attention decoder stops there at the latest; a transducer at the end of the speech.
    """

    language: str | None = None
    instruction: str = "can you transcribe the speech into a written format?"
    max_new_tokens: int = 256

    def __post_init__(self) -> None:
        check_at_least("generate.max_new_tokens", self.max_new_tokens, 1)


def generate(model: PreTrainedModel, inputs: Mapping[str, Tensor], processor: Any, config: GenerateConfig) -> list[str]:
    """What the model writes down of each utterance, greedily unless its generation config says otherwise.

    Args:
        model: without a CTC head, in eval mode.
        inputs: its features and their `attention_mask`, on its device and in its dtype.
        processor: the model's own.
        config: see there.
    """
    prompted = PROMPTS[family_of(model).prompt](model, inputs, processor, config)
    arguments = dict(inputs) | {"max_new_tokens": config.max_new_tokens} | prompted
    write: Any = model.generate  # each model's own, with its own arguments
    written = write(**arguments)
    tokens: Tensor = getattr(written, "sequences", written)
    durations: Tensor | None = getattr(written, "durations", None)
    if durations is not None:
        tokens = _said(model, tokens, durations, frame_lengths(model, inputs["attention_mask"]))
    if "input_ids" in arguments:
        tokens = tokens[:, arguments["input_ids"].shape[1] :]
    texts: list[str] = processor.batch_decode(tokens, skip_special_tokens=True)
    return [text.strip() for text in texts]


def _said(model: PreTrainedModel, tokens: Tensor, durations: Tensor, frames: Tensor) -> Tensor:
    """A transducer's tokens, blank behind the end of an utterance: it goes on until the longest of a batch ends.

    Args:
        model: the transducer.
        tokens: `(batch, steps)`, the first of which stands for the start.
        durations: `(batch, steps)`, how many frames each step goes on.
        frames: `(batch,)`, of each utterance.
    """
    steps = torch.arange(tokens.shape[1], device=tokens.device)
    first_frames, frames = durations.cumsum(1) - durations, frames.to(tokens.device)[:, None]
    over = (first_frames >= frames) | (steps > _most_steps(model, frames))
    return tokens.masked_fill(over, int(model.config.blank_token_id))


def _most_steps(model: PreTrainedModel, frames: Tensor) -> Tensor:
    """So many steps a transducer takes at most for so many frames; one without blanks stays at a frame for several."""
    return frames.clamp(min=1) * int(model.config.max_symbols_per_step)


def _whole_speech(model: PreTrainedModel, inputs: Mapping[str, Tensor], processor: Any, config: GenerateConfig) -> Any:
    return {"max_new_tokens": int(_most_steps(model, frame_lengths(model, inputs["attention_mask"])).max())}


def _language(model: PreTrainedModel, inputs: Mapping[str, Tensor], processor: Any, config: GenerateConfig) -> Any:
    return {"tgt_lang": config.language or "eng"}


def _request(model: PreTrainedModel, inputs: Mapping[str, Tensor], processor: Any, config: GenerateConfig) -> Any:
    """The prompt of the checkpoint's chat template, through the processor."""
    silence = [SILENCE] * len(inputs["input_features"])
    prompts = processor.apply_transcription_request(silence, source_language=config.language or "en", tokenize=False)
    return {"decoder_input_ids": processor(audio=silence, text=prompts)["decoder_input_ids"].to(model.device)}


def _prompt(model: PreTrainedModel, inputs: Mapping[str, Tensor], processor: Any, config: GenerateConfig) -> Any:
    tokens = processor.get_decoder_prompt_ids(language=config.language or "en")
    rows = torch.tensor(tokens, device=model.device).expand(len(inputs["input_features"]), -1)
    return {"decoder_input_ids": rows}


def _chat(model: PreTrainedModel, inputs: Mapping[str, Tensor], processor: Any, config: GenerateConfig) -> Any:
    """A chat in which as many audio tokens stand for each utterance as the projector makes of its frames."""
    tokenizer, extractor = processor.tokenizer, feature_extractor_of(processor)
    message = {"role": "user", "content": processor.audio_token + config.instruction}
    template = processor if processor.chat_template else tokenizer
    chat = template.apply_chat_template([message], tokenize=False, add_generation_prompt=True)
    window = extractor.projector_window_size
    blocks = -(-frame_lengths(model, inputs["attention_mask"]) // window)
    sizes = blocks * (window // extractor.projector_downsample_rate)
    texts = [chat.replace(processor.audio_token, processor.audio_token * size) for size in sizes.tolist()]
    tokens = tokenizer(texts, return_tensors="pt", padding=True, padding_side="left").to(model.device)
    heard = torch.arange(int(sizes.max()), device=model.device) < sizes[:, None]
    return {"input_ids": tokens.input_ids, "attention_mask": tokens.attention_mask, "input_features_mask": heard}


PROMPTS: Mapping[str, Callable[..., Any]] = {
    "none": _whole_speech,
    "target_language": _language,
    "transcription_request": _request,
    "decoder_prompt": _prompt,
    "chat": _chat,
}
"""What `generate` is given beside the features, by `Family.prompt`."""
