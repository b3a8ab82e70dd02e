"""`torchaudio.models.Conformer` with a CTC head as a model of transformers, so that everything here works on it.

The blocks are torchaudio's own, with the names of their parameters. Only `nn.MultiheadAttention`, which cannot have
fewer heads than its width demands, is replaced by projections that can.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchaudio.models import Conformer
from torchaudio.models.conformer import ConformerLayer
from transformers import AutoConfig, AutoModelForCTC, PreTrainedConfig, PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import CausalLMOutput


class TorchaudioConformerConfig(PreTrainedConfig):
    """Dimensions under the names that `torchaudio.models.Conformer` gives them, and what stands around it.

    Attributes:
        num_features: features per input frame.
        stacked_frames: input frames that are put side by side, which divides the frame rate.
        project_input: whether a linear layer stands before the Conformer; without one its `input_dim` must be
            `num_features * stacked_frames`.
    """

    model_type = "torchaudio_conformer_ctc"

    vocab_size: int = 32
    pad_token_id: int | None = 0
    num_features: int = 80
    stacked_frames: int = 4
    project_input: bool = True
    input_dim: int = 144
    num_heads: int = 4
    ffn_dim: int = 576
    num_layers: int = 8
    depthwise_conv_kernel_size: int = 15
    dropout: float = 0.0
    use_group_norm: bool = False
    convolution_first: bool = False
    initializer_range: float = 0.02
    ctc_loss_reduction: str = "mean"
    ctc_zero_infinity: bool = True


class SelfAttention(nn.Module):
    """Multi-head attention that takes what `nn.MultiheadAttention` takes, `(time, batch, input_dim)`."""

    def __init__(self, config: TorchaudioConformerConfig) -> None:
        super().__init__()
        self.config, self.dropout = config, config.dropout
        self.head_dim = config.input_dim // config.num_heads
        self.query, self.key, self.value, self.out = (nn.Linear(config.input_dim, config.input_dim) for _ in range(4))

    def forward(self, query: Tensor, key_padding_mask: Tensor | None = None, **_: Any) -> tuple[Tensor, None]:
        """Attention of `query` to itself; `key_padding_mask` is `(batch, time)`, true for padding."""
        hidden = query.transpose(0, 1)
        heads = [
            part(hidden).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        ]
        mask = None if key_padding_mask is None else ~key_padding_mask[:, None, None, :]
        attend = _eager if self.config._attn_implementation == "eager" else F.scaled_dot_product_attention
        mixed = attend(*heads, attn_mask=mask, dropout_p=self.dropout if self.training else 0.0)
        return self.out(mixed.permute(2, 0, 1, 3).flatten(2)), None


def _eager(query: Tensor, key: Tensor, value: Tensor, *, attn_mask: Tensor | None, dropout_p: float) -> Tensor:
    scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, torch.finfo(scores.dtype).min)
    return F.dropout(scores.softmax(-1), dropout_p) @ value


class ConformerBlock(ConformerLayer, GradientCheckpointingLayer):  # type: ignore[misc]
    """torchaudio's layer, with the batch first."""

    def __init__(self, config: TorchaudioConformerConfig) -> None:
        super().__init__(
            config.input_dim,
            config.ffn_dim,
            config.num_heads,
            config.depthwise_conv_kernel_size,
            dropout=config.dropout,
            use_group_norm=config.use_group_norm,
            convolution_first=config.convolution_first,
        )
        self.self_attn = SelfAttention(config)

    def forward(self, hidden_states: Tensor, key_padding_mask: Tensor | None = None) -> Tensor:
        """Both `(batch, time, input_dim)`; `key_padding_mask` is `(batch, time)`, true for padding."""
        output: Tensor = super().forward(hidden_states.transpose(0, 1), key_padding_mask)
        return output.transpose(0, 1)


class ConformerEncoder(nn.Module):
    """Stacking of frames, a projection if there is one, and the blocks."""

    def __init__(self, config: TorchaudioConformerConfig) -> None:
        super().__init__()
        self.stacked_frames = config.stacked_frames
        width = config.num_features * config.stacked_frames
        if not config.project_input and width != config.input_dim:
            raise ValueError(
                f"Without project_input the features must be as wide as the Conformer: {config.num_features} features "
                f"x {config.stacked_frames} frames = {width}, input_dim is {config.input_dim}."
            )
        self.input_linear = nn.Linear(width, config.input_dim) if config.project_input else nn.Identity()
        self.conformer_layers = nn.ModuleList(ConformerBlock(config) for _ in range(config.num_layers))

    def forward(self, features: Tensor, lengths: Tensor | None) -> list[Tensor]:
        """The input of the first block and the outputs of all, each `(batch, frames, input_dim)`.

        Args:
            features: `(batch, input frames, num_features)`.
            lengths: `(batch,)`, frames that are not padding; None: all.
        """
        frames = features.shape[1] // self.stacked_frames
        stacked = features[:, : frames * self.stacked_frames].reshape(features.shape[0], frames, -1)
        padding = None if lengths is None else torch.arange(frames, device=features.device) >= lengths[:, None]
        states = [self.input_linear(stacked)]
        for block in self.conformer_layers:
            states.append(block(states[-1], key_padding_mask=padding))
        return states


def _described(conformer: Conformer) -> dict[str, Any]:
    """The arguments by which torchaudio made a Conformer."""
    layer: Any = conformer.conformer_layers[0]
    depthwise, norm = layer.conv_module.sequential[2], layer.conv_module.sequential[3]
    return {
        "input_dim": layer.self_attn.embed_dim,
        "num_heads": layer.self_attn.num_heads,
        "ffn_dim": layer.ffn1.sequential[1].out_features,
        "num_layers": len(conformer.conformer_layers),
        "depthwise_conv_kernel_size": depthwise.kernel_size[0],
        "dropout": layer.self_attn_dropout.p,
        "use_group_norm": isinstance(norm, nn.GroupNorm),
        "convolution_first": layer.convolution_first,
    }


class TorchaudioConformerForCTC(PreTrainedModel):
    """A `torchaudio.models.Conformer` with a linear CTC head."""

    config_class = TorchaudioConformerConfig
    config: TorchaudioConformerConfig
    base_model_prefix = "encoder"
    main_input_name = "input_features"
    input_modalities = "audio"
    supports_gradient_checkpointing = True
    _no_split_modules = ["ConformerBlock"]  # noqa: RUF012 (as in every class of transformers)
    _supports_sdpa = True
    _supports_attention_backend = True

    def __init__(self, config: TorchaudioConformerConfig) -> None:
        super().__init__(config)
        self.encoder = ConformerEncoder(config)
        self.ctc_head = nn.Linear(config.input_dim, config.vocab_size)
        self.post_init()  # type: ignore[no-untyped-call]

    @classmethod
    def _can_set_attn_implementation(cls) -> bool:
        """Eager or sdpa; transformers would look for the answer in the text of the file that holds this class."""
        return True

    @classmethod
    def wrap(
        cls,
        conformer: Conformer,
        head: nn.Linear,
        *,
        input_linear: nn.Linear | None = None,
        stacked_frames: int = 1,
        blank: int = 0,
    ) -> TorchaudioConformerForCTC:
        """Takes over a trained Conformer and its head; the result computes the same.

        Args:
            conformer: of torchaudio.
            head: from its outputs to the tokens.
            input_linear: what stands before it, if anything.
            stacked_frames: input frames that are put side by side before that.
            blank: token of the CTC blank.
        """
        described = _described(conformer)
        width = described["input_dim"] if input_linear is None else input_linear.in_features
        config = TorchaudioConformerConfig(
            vocab_size=head.out_features,
            pad_token_id=blank,
            num_features=width // stacked_frames,
            stacked_frames=stacked_frames,
            project_input=input_linear is not None,
            **described,
        )
        model = cls(config)
        parts: dict[str, nn.Module] = {"encoder": conformer, "ctc_head": head}
        if input_linear is not None:
            parts["encoder.input_linear"] = input_linear
        weights = {
            f"{path}.{name}": tensor for path, part in parts.items() for name, tensor in part.state_dict().items()
        }
        model.load_state_dict(dict(item for name in weights for item in _renamed(name, weights[name])))
        return model

    def forward(
        self,
        input_features: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        output_hidden_states: bool | None = None,
        **_: Any,
    ) -> CausalLMOutput:
        """Logits, and the CTC loss if there are labels.

        Args:
            input_features: `(batch, input frames, num_features)`.
            attention_mask: `(batch, input frames)`, 0 for padding.
            labels: `(batch, tokens)`, padded with -100.
            output_hidden_states: whether the outputs of the blocks are wanted.
        """
        lengths = None if attention_mask is None else self._get_output_lengths(attention_mask.sum(-1))
        states = self.encoder(input_features, lengths)
        logits = self.ctc_head(states[-1])
        loss = None if labels is None else self._loss(logits, lengths, labels)
        return CausalLMOutput(loss=loss, logits=logits, hidden_states=tuple(states) if output_hidden_states else None)

    def _get_output_lengths(self, input_lengths: Tensor) -> Tensor:
        return input_lengths // self.config.stacked_frames

    def _loss(self, logits: Tensor, lengths: Tensor | None, labels: Tensor) -> Tensor:
        kept = labels >= 0
        if lengths is None:
            lengths = torch.full((len(logits),), logits.shape[1])
        scores = F.log_softmax(logits.float(), dim=-1).transpose(0, 1)
        return F.ctc_loss(
            scores,
            labels[kept],
            lengths,
            kept.sum(-1),
            blank=self.config.pad_token_id or 0,
            reduction=self.config.ctc_loss_reduction,
            zero_infinity=self.config.ctc_zero_infinity,
        )


def _renamed(name: str, tensor: Tensor) -> list[tuple[str, Tensor]]:
    """Torchaudio's fused projections of query, key and value under their own names."""
    for kind in ("weight", "bias"):
        if name.endswith(f"in_proj_{kind}"):
            stem = name.removesuffix(f"in_proj_{kind}")
            return [
                (f"{stem}{part}.{kind}", projection)
                for part, projection in zip(("query", "key", "value"), tensor.chunk(3), strict=True)
            ]
    return [(name.replace("self_attn.out_proj.", "self_attn.out."), tensor)]


AutoConfig.register(TorchaudioConformerConfig.model_type, TorchaudioConformerConfig)
AutoModelForCTC.register(TorchaudioConformerConfig, TorchaudioConformerForCTC)
