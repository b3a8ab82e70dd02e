"""The words in which a family of Conformers is described: where its modules and units live.

A description holds names only. What is done with the names (gating, counting, removing) is written once, for all
families. Paths are dotted: those of a `Family` start at the model, those of a module's norm at the block, the others
at the module.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import transformers
from transformers import PreTrainedModel

UNIT_KINDS = ("head", "ffn_unit", "conv_channel")
FRONT_KIND = "front_channel"
"""Of units in front of the blocks."""

MaskForm = Literal["frames", "padding", "pairs", "attention"]
"""How blocks are told what is padding: `(batch, frames)`, true for frames that count or for those that do not;
`(batch, 1, frames, frames)`, true for pairs of frames that count; or as the attention of transformers wants it."""

Prompt = Literal["none", "target_language", "transcription_request", "decoder_prompt", "chat"]
"""What a model that writes by `generate` wants to be told before it writes."""


@dataclass(frozen=True)
class FeedForward:
    """A feed-forward module: `down(activation(up(norm(x))))`. Its units are rows of `up` and columns of `down`."""

    path: str
    norm: str
    up: str
    down: str
    unit_kind: ClassVar[str] = "ffn_unit"

    @property
    def last(self) -> str:
        """The last projection, on whose input unit gates act."""
        return self.down


@dataclass(frozen=True)
class Attention:
    """Multi-head self-attention. Its units are heads: `head_dim` rows of each projection, as many columns of `out`.

    Attributes:
        key: projection of keys; if `value` is the same one, it gives all heads' keys and then all heads' values.
        head_dim: attribute of the module that holds the size of one head; it never changes.
        position: projection of relative positions (Transformer-XL), sliced like query; absent from some models.
        per_head: parameters of shape `(heads, head_dim)`; absent from some models.
        head_count: name under which the forward pass reads the number of heads from the module's `config`, if it does.
        own_head_count: attribute of the module from which the forward pass reads the number of heads, if it does.
        cache_number: attribute that numbers the attention modules of the encoder for a cache of keys and values.
        returns_weights: whether it returns `(output, attention weights)` rather than the output alone.
    """

    path: str
    norm: str
    query: str
    key: str
    value: str
    out: str
    head_dim: str
    position: str | None = None
    per_head: tuple[str, ...] = ()
    head_count: str | None = None
    own_head_count: str | None = None
    cache_number: str | None = None
    returns_weights: bool = True
    unit_kind: ClassVar[str] = "head"

    @property
    def last(self) -> str:
        """The last projection, on whose input unit gates act."""
        return self.out


@dataclass(frozen=True)
class Convolution:
    """The convolution module: pointwise to a GLU, depthwise, norm, activation, pointwise. Its units are channels.

    Output channel c of the GLU needs rows c and channels + c of `glu`.
    """

    path: str
    norm: str
    glu: str
    depthwise: str
    inner_norm: str
    out: str
    unit_kind: ClassVar[str] = "conv_channel"

    @property
    def last(self) -> str:
        """The last projection, on whose input unit gates act."""
        return self.out


Module = FeedForward | Attention | Convolution


@dataclass(frozen=True)
class Stock:
    """Paths in the config of the dimensions, beside the number of blocks, by which the original class can be smaller.

    Attributes:
        ffn_units: the number of units of every FFN; without it all must stay.
        heads: the numbers of heads of every attention; without them (and `head_dim`) all heads must stay.
        head_dim: the size of one head, which the class would otherwise derive from the number of heads.
        halves: whether something happens after half of the blocks, so that both halves must lose equally many.
        dead: the values, or paths to values, by path, that make parts which no forward pass uses as small as can be.
        front: the numbers of channels in front of the blocks: one for each group or, where the config has one number,
            the same for all; without it all must stay.
    """

    ffn_units: str | None = None
    heads: tuple[str, ...] = ()
    head_dim: str | None = None
    halves: bool = False
    dead: tuple[tuple[str, int | str], ...] = ()
    front: str | None = None


@dataclass(frozen=True)
class Family:
    """One kind of Conformer in transformers, in the model that people load.

    Attributes:
        name: the name that structures and messages use.
        model_type: `config.model_type` of the model.
        model_class: class of the model, in transformers unless `own_class` is given.
        own_class: the class itself, where it is ours.
        auto_class: the Auto class of transformers that builds it.
        other_classes: classes whose checkpoints it can be loaded from as well.
        left_out: paths of parts of those checkpoints that it does not have.
        encoder: path of the encoder; its parameters are the `encoder` denominator. In a model without a CTC head it is
            called with the features and, unless `ignores_padding`, their `attention_mask`.
        projection: path of what the features go through before such an encoder is called, if that is not inside it.
        ignores_padding: whether such an encoder takes no `attention_mask`.
        prompt: of a model without a CTC head: what `generate` is given beside the features.
        blocks: path of the list of blocks.
        block_count: path in the config of their number.
        ffn1, attention, conv, ffn2: the four modules.
        final_norm: the block's last norm, which stays as long as the block.
        layerdrop: path of the number that makes the encoder skip blocks in training, if it does.
        dropouts: paths in the config of every dropout probability.
        frame_lengths: path of the method that turns input lengths into numbers of frames; None: they are the same.
        without_adapters: keywords with which that method gives the frames of blocks, where `adapters` change them.
        input_rate: input frames (or samples) per second.
        input_features: path in the config of the number of features per input frame; None for raw samples.
        features_per_bin: what that number is multiplied by.
        sampling_rate: of the audio, in Hz.
        dead: paths of parts that no forward pass uses; they are dropped at removal and frozen in training.
        spec_augment: path in the config of the switch of the model's own SpecAugment, if it has one.
        spec_augment_embedding: path of the parameter that only the model's own SpecAugment uses.
        padding_sensitive: whether the output of an utterance depends on the padding beside it.
        numbered_blocks: whether the encoder counts its blocks, so that a dropped one must leave a placeholder.
        fixed_blocks: path in the config of the numbers of blocks that cannot be dropped, if there are any.
        head: path of the CTC head; None in a model without one.
        to_head: paths of what the last block's output goes through on its way to the CTC head, in running order.
        frames_first: the modules whose last projection takes and gives `(frames, batch, ...)` rather than `(batch,
            frames, ...)`.
        adapters: paths of further parts on that way that most models lack, and that blocks' outputs cannot go through.
        masks: the masks that blocks are called with, by keyword, and their form.
        positions: the keyword of the embeddings of positions, one or a tuple of them: `(any, frames, ...)` of places,
            `(any, 2 frames - 1, ...)` of distances from the largest on; None: blocks are not called with any.
        position_table: where those are looked up in a table that grows with the first longer input: the path in the
            config of the number of frames that it starts with, and a path and its value that say that there is one.
        front: paths of what lies in front of the blocks, in running order, if channels can go there: its layers are
            defined in the order in which they run, and each gives what the next one alone is given.
        stock: the other dimensions by which the original class can hold a compressed model; None if it never can.
    """

    name: str
    model_type: str
    model_class: str
    encoder: str
    blocks: str
    block_count: str
    ffn1: FeedForward
    attention: Attention
    conv: Convolution
    ffn2: FeedForward
    final_norm: str
    dropouts: tuple[str, ...]
    frame_lengths: str | None
    input_rate: int
    layerdrop: str | None = None
    input_features: str | None = None
    features_per_bin: int = 1
    sampling_rate: int = 16000
    dead: tuple[str, ...] = ()
    spec_augment: str | None = None
    spec_augment_embedding: str | None = None
    padding_sensitive: bool = False
    own_class: type[PreTrainedModel] | None = None
    auto_class: str = "AutoModelForCTC"
    other_classes: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    projection: str | None = None
    ignores_padding: bool = False
    prompt: Prompt = "none"
    numbered_blocks: bool = False
    fixed_blocks: str | None = None
    head: str | None = None
    to_head: tuple[str, ...] = ()
    frames_first: tuple[str, ...] = ()
    adapters: tuple[str, ...] = ()
    without_adapters: tuple[tuple[str, Any], ...] = ()
    masks: tuple[tuple[str, MaskForm], ...] = ()
    positions: str | None = None
    position_table: tuple[str, str, str] | None = None
    front: tuple[str, ...] = ()
    stock: Stock | None = None

    @property
    def original_class(self) -> type[PreTrainedModel]:
        """The class of its CTC models before they are compressed."""
        original: type[PreTrainedModel] = self.own_class or getattr(transformers, self.model_class)
        return original

    @property
    def has_ctc(self) -> bool:
        """Whether the model says a token for each frame; otherwise it writes by `generate`."""
        return self.auto_class == "AutoModelForCTC"

    @property
    def features(self) -> str:
        """The name under which its models take speech."""
        return "input_features" if self.input_features else "input_values"

    @property
    def auto(self) -> Any:
        """The Auto class by which its models are built and loaded, compressed or not."""
        return getattr(transformers, self.auto_class)

    @property
    def stock_paths(self) -> tuple[str, ...]:
        """Paths in the config of everything that changes when the original class holds a compressed model."""
        if not self.stock:
            return ()
        paths = (self.block_count, self.stock.ffn_units, *self.stock.heads, self.stock.head_dim, self.fixed_blocks)
        return (*filter(None, paths), *(path for path, _ in self.stock.dead))

    @property
    def modules(self) -> Mapping[str, Module]:
        """The four modules by name, in running order."""
        return {"ffn1": self.ffn1, "attention": self.attention, "conv": self.conv, "ffn2": self.ffn2}
