"""The clients that exports are made for: what each can take, how it calls graphs, and the files that it wants."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from compress.checkpoint.exported import ExportError
from compress.conformers import family_of, original_config
from compress.data import feature_extractor_of
from compress.exporting import readmes
from compress.runtimes.signatures import ENCODER_ALONE, ONE_GRAPH, TRANSDUCER
from compress.runtimes.transducers import DECODER, DECODER_JOINER, ENCODER, JOINER

BLANK = "<blk>"
"""What clients call the blank."""
ONNX_ASR_TYPES = {
    "parakeet": "nemo-conformer-ctc",
    "parakeet_tdt": "nemo-conformer-tdt",
    "parakeet_rnnt": "nemo-conformer-rnnt",
}
"""What onnx-asr calls models, by family."""
_NOT_FOLLOWED = {
    "granite_speech": "its attention cuts an utterance into pieces, and a graph would keep the number of those that it "
    "was made with"
}
"""Families whose encoders torch's exporter gets wrong, and why."""
NEMO_BINS = (80, 128)
_NEMO_FEATURES: Mapping[str, Any] = {
    "n_fft": 512, "win_length": 400, "hop_length": 160, "preemphasis": 0.97, "sampling_rate": 16000,
}  # fmt: skip
"""What clients compute for NeMo's models, under the names of Parakeet's feature extractor."""
MEDASR_BINS = 128
_RAW_RATE = 16000
NEMO_MODEL, NEMO_TRANSDUCER = "EncDecCTCModelBPE", "EncDecRNNTBPEModel"


@dataclass(frozen=True)
class Slot:
    """One kind of model that a client runs.

    Attributes:
        signature: how it calls the graph; see `compress.runtimes.signatures`.
        refuses: why a model and its processor cannot be taken, if so.
        metadata: what it reads from the graph.
        readme: text that runs it, with `{graph}`, `{bins}` and others in it.
        files: writes what it wants beside the graph.
        parts: of a transducer, the files of its graphs without their endings, by what they compute.
    """

    signature: str
    readme: str
    refuses: Callable[[PreTrainedModel, Any], str | None] = lambda model, processor: None
    metadata: Callable[[PreTrainedModel, Any], dict[str, str]] = lambda model, processor: {}
    files: Callable[[PreTrainedModel, Any, Path], None] = lambda model, processor, folder: None
    parts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Client:
    """A program that recognises speech with exported models.

    Attributes:
        slots: the kinds of models that it runs, by family; under "" for any other.
        graph: name of the file with the graph, with `{int8}` where that of a quantised one differs.
        int8: what stands there.
        unsigned: whether it wants the weights of int8 graphs as unsigned numbers.
    """

    slots: Mapping[str, Slot]
    graph: str = "model{int8}.onnx"
    int8: str = ".int8"
    unsigned: bool = False

    def graphs(self, slot: Slot, *, int8: bool) -> dict[str, str]:
        """The files of the graphs below the folder, by what they compute."""
        ending = self.int8 if int8 else ""
        parts = {part: f"{stem}{ending}.onnx" for part, stem in slot.parts.items()}
        return parts or {ONE_GRAPH: self.graph.format(int8=ending)}


def slot_for(name: str, model: PreTrainedModel, processor: Any) -> Slot:
    """The slot of a client that takes a model.

    Raises:
        ExportError: saying why there is none, and which clients have one.
    """
    reason = _obstacle(name, model, processor)
    if reason is None:
        return _slots(name, model)
    others = [other for other in CLIENTS if _obstacle(other, model, processor) is None]
    remedy = f"Clients that can: {', '.join(others)}." if others else "It cannot be exported."
    raise ExportError(f"{name} cannot run this model: {reason}. {remedy}")


def graph_of_blocks(model: PreTrainedModel, processor: Any) -> Slot:
    """The slot in which a model is one graph, its encoder alone where it has no CTC head.

    Raises:
        ExportError: if it cannot be exported.
    """
    slot = slot_for("plain", model, processor)
    return ENCODER_SLOT if slot.parts else slot


def _slots(name: str, model: PreTrainedModel) -> Slot:
    slots, family = CLIENTS[name].slots, family_of(model)
    if family.name in slots:
        return slots[family.name]
    return slots[""] if family.has_ctc else ENCODER_SLOT


def _obstacle(name: str, model: PreTrainedModel, processor: Any) -> str | None:
    family = family_of(model)
    slots = CLIENTS[name].slots
    if family.name not in slots and "" not in slots:
        alone = "" if family.has_ctc else ", of which the encoder alone is exported"
        return f"it takes {', '.join(slots)}, and this is a {family.name}{alone}"
    return _slots(name, model).refuses(model, processor)


def tokens_of(model: PreTrainedModel, processor: Any) -> list[str]:
    """What each output of a model stands for; the blank and everything without a token are named for clients."""
    by_number = {number: token for token, number in processor.tokenizer.get_vocab().items()}
    tokens = [by_number.get(number, f"<unused{number}>") for number in range(model.config.vocab_size)]
    tokens[getattr(model.config, "blank_token_id", model.config.pad_token_id)] = BLANK
    return tokens


def subsampling(model: PreTrainedModel) -> int:
    """How many input frames become one output frame, for models whose every convolution rounds up."""
    return int(model.config.encoder_config.subsampling_factor)


def _bins(processor: Any) -> int:
    return int(feature_extractor_of(processor).feature_size)


def _other_features(processor: Any) -> str | None:
    extractor = feature_extractor_of(processor)
    differing = [
        f"{name} {getattr(extractor, name, None)} instead of {value}"
        for name, value in _NEMO_FEATURES.items()
        if getattr(extractor, name, None) != value
    ]
    return (
        f"it computes its own features, and this model was trained with {', '.join(differing)}" if differing else None
    )


def _refused_by_nemo(model: PreTrainedModel, processor: Any) -> str | None:
    return _other_features(processor)


def _refused_by_onnx_asr(model: PreTrainedModel, processor: Any) -> str | None:
    bins = _bins(processor)
    if bins not in NEMO_BINS:
        return f"it computes {' or '.join(map(str, NEMO_BINS))} mel features, and this model takes {bins}"
    return _other_features(processor)


def _refused_alone(model: PreTrainedModel, processor: Any) -> str | None:
    return _NOT_FOLLOWED.get(family_of(model).name)


def _refused_transducer(model: PreTrainedModel, processor: Any) -> str | None:
    last, blank = model.config.vocab_size - 1, model.config.blank_token_id
    if blank != last:
        return f"it takes the last token, {last}, for the blank, and this model's blank is {blank}"
    return _other_features(processor)


def _transducer_refused_by_onnx_asr(model: PreTrainedModel, processor: Any) -> str | None:
    return _refused_transducer(model, processor) or _refused_by_onnx_asr(model, processor)


def _refused_by_medasr(model: PreTrainedModel, processor: Any) -> str | None:
    bins = _bins(processor)
    return None if bins == MEDASR_BINS else f"it computes {MEDASR_BINS} mel features for LASR; this model takes {bins}"


def _refused_by_omnilingual(model: PreTrainedModel, processor: Any) -> str | None:
    extractor = feature_extractor_of(processor)
    if extractor.sampling_rate != _RAW_RATE or not extractor.do_normalize:
        return (
            f"it gives raw audio at {_RAW_RATE} Hz with zero mean and unit variance, and this model takes other audio"
        )
    return None


def _nemo_metadata(model: PreTrainedModel, processor: Any) -> dict[str, str]:
    return {
        "model_type": NEMO_MODEL,
        "vocab_size": str(model.config.vocab_size),
        "subsampling_factor": str(subsampling(model)),
        "normalize_type": "per_feature",
    }


def _transducer_metadata(model: PreTrainedModel, processor: Any) -> dict[str, str]:
    """What sherpa-onnx reads from the encoder; its vocabulary is without the blank."""
    config = model.config
    return {
        "model_type": NEMO_TRANSDUCER,
        "vocab_size": str(config.vocab_size - 1),
        "subsampling_factor": str(subsampling(model)),
        "normalize_type": "per_feature",
        "pred_rnn_layers": str(config.num_decoder_layers),
        "pred_hidden": str(config.decoder_hidden_size),
        "feat_dim": str(_bins(processor)),
        "url": family_of(model).name,
    }


def _medasr_metadata(model: PreTrainedModel, processor: Any) -> dict[str, str]:
    factor = model.config.encoder_config.subsampling_conv_stride**2
    numbers = {"vocab_size": model.config.vocab_size, "subsampling_factor": factor}
    return {"model_type": "medasr_ctc", **{name: str(number) for name, number in numbers.items()}}


def _token_lines(model: PreTrainedModel, processor: Any) -> str:
    """`token number` on each line; a line with the number alone stands for the space between words."""
    delimiter = getattr(processor.tokenizer, "word_delimiter_token", None)
    words = ["" if token == delimiter else f"{token} " for token in tokens_of(model, processor)]
    return "".join(f"{word}{number}\n" for number, word in enumerate(words))


def _sherpa_files(model: PreTrainedModel, processor: Any, folder: Path) -> None:
    (folder / "tokens.txt").write_text(_token_lines(model, processor), encoding="utf-8")


def _onnx_asr_files(model: PreTrainedModel, processor: Any, folder: Path) -> None:
    (folder / "vocab.txt").write_text(_token_lines(model, processor), encoding="utf-8")
    config = {
        "model_type": ONNX_ASR_TYPES[family_of(model).name],
        "features_size": _bins(processor),
        "subsampling_factor": subsampling(model),
        "max_tokens_per_step": getattr(model.config, "max_symbols_per_step", None),
    }
    config = {key: value for key, value in config.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _transformers_js_files(model: PreTrainedModel, processor: Any, folder: Path) -> None:
    """Config of the original, for the client knows no other class, and what its own loader reads of a processor."""
    original_config(model.config).to_json_file(str(folder / "config.json"), use_diff=False)
    processor.tokenizer.save_pretrained(folder)
    feature_extractor_of(processor).save_pretrained(folder)
    for name, change in (("tokenizer.json", _grouping), ("tokenizer_config.json", _without_pad)):
        path = folder / name
        content = change(json.loads(path.read_text(encoding="utf-8")), processor.tokenizer.pad_token)
        path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _grouping(tokenizer: dict[str, Any], blank: str) -> dict[str, Any]:
    """A tokenizer whose decoder groups what is repeated and drops blanks, which the client does for no class of ours.

    It would drop special tokens first, and with them what parts the two letters of a double one.
    """
    decoder = tokenizer["decoder"]
    rest = decoder["decoders"] if decoder["type"] == "Sequence" else [decoder]
    grouping = {"type": "CTC", "pad_token": blank, "word_delimiter_token": " ", "cleanup": False}
    added = [token | {"special": token["special"] and token["content"] != blank} for token in tokenizer["added_tokens"]]
    return tokenizer | {"added_tokens": added, "decoder": {"type": "Sequence", "decoders": [grouping, *rest]}}


def _without_pad(config: dict[str, Any], blank: str) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key != "pad_token"}


_THREE_GRAPHS = {ENCODER: "encoder", DECODER: "decoder", JOINER: "joiner"}
_PLAIN_TRANSDUCER = Slot(TRANSDUCER, readmes.THREE_GRAPHS, parts=_THREE_GRAPHS)
_NEMO = Slot("nemo-ctc", readmes.SHERPA_NEMO, _refused_by_nemo, _nemo_metadata, _sherpa_files)
_SHERPA_TRANSDUCER = Slot(
    TRANSDUCER,
    readmes.SHERPA_TRANSDUCER,
    _refused_transducer,
    _transducer_metadata,
    _sherpa_files,
    parts=_THREE_GRAPHS,
)
_ONNX_ASR_TRANSDUCER = Slot(
    TRANSDUCER,
    readmes.ONNX_ASR,
    _transducer_refused_by_onnx_asr,
    files=_onnx_asr_files,
    parts={ENCODER: "encoder-model", DECODER_JOINER: "decoder_joint-model"},
)
CLIENTS: Mapping[str, Client] = {
    "plain": Client(
        {
            "parakeet_tdt": _PLAIN_TRANSDUCER,
            "parakeet_rnnt": _PLAIN_TRANSDUCER,
            "": Slot("transformers", readmes.PLAIN),
        }
    ),
    "sherpa-onnx": Client(
        {
            "parakeet": _NEMO,
            "parakeet_tdt": _SHERPA_TRANSDUCER,
            "parakeet_rnnt": _SHERPA_TRANSDUCER,
            "lasr": Slot("medasr", readmes.SHERPA_MEDASR, _refused_by_medasr, _medasr_metadata, _sherpa_files),
            "wav2vec2_conformer": Slot(
                "raw-audio", readmes.SHERPA_OMNILINGUAL, _refused_by_omnilingual, files=_sherpa_files
            ),
        },
        unsigned=True,
    ),
    "onnx-asr": Client(
        {
            "parakeet": Slot("nemo-ctc", readmes.ONNX_ASR, _refused_by_onnx_asr, _nemo_metadata, _onnx_asr_files),
            "parakeet_tdt": _ONNX_ASR_TRANSDUCER,
            "parakeet_rnnt": _ONNX_ASR_TRANSDUCER,
        }
    ),
    "transformers.js": Client(
        {"parakeet": Slot("transformers.js", readmes.TRANSFORMERS_JS, files=_transformers_js_files)},
        graph="onnx/model{int8}.onnx",
        int8="_quantized",
    ),
}
"""By the names under which people ask for them."""
ENCODER_SLOT = Slot(ENCODER_ALONE, readmes.FRAMES_ALONE, _refused_alone)
"""Of models without a CTC head, for which a client has no slot of their own."""
