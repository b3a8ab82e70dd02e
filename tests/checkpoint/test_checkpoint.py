"""What a checkpoint holds, and loading it with the package; one that is not complete is refused."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import (
    AutoConfig,
    AutoModelForCTC,
    ParakeetCTCConfig,
    ParakeetForCTC,
    SeamlessM4Tv2Config,
    SeamlessM4Tv2Model,
    pipeline,
)

import compress
from compress import Block, Structure
from compress.checkpoint import CheckpointError, apply_structure, load_config, load_model, load_processor, save
from compress.checkpoint.weights import stored_dtype, weights_digest
from compress.conformers import UnsupportedModelError
from compress.cost import cost_table
from compress.evaluation.inspection import inspect_model
from tests.helpers.routes import processor_for
from tests.helpers.tiny import CTC_MODELS, MODELS, PARAKEET_ENCODER, batch, parakeet, random_structure

TINY_SEAMLESS = {"encoder_layers": 1, "encoder_ffn_dim": 32, "encoder_attention_heads": 2} | {
    f"t2u_{name}": value
    for name, value in {
        "encoder_layers": 1, "encoder_ffn_dim": 32, "encoder_attention_heads": 2, "decoder_layers": 1,
        "decoder_ffn_dim": 32, "decoder_attention_heads": 2, "vocab_size": 20,
    }.items()
}  # fmt: skip
FAMILIES = pytest.mark.parametrize("name", MODELS)


@FAMILIES
def test_the_saved_tensors_are_what_the_cost_model_counts(name, tmp_path):
    model = MODELS[name]()
    structure = random_structure(model, 4)
    small = compress.remove(model, structure)
    save(small, None, tmp_path / "small")
    parameters = {name for name, _ in small.named_parameters(remove_duplicate=False)}
    buffers = sum(tensor.numel() for name, tensor in small.state_dict().items() if name not in parameters)
    with safe_open(tmp_path / "small" / "model.safetensors", "pt") as file:
        counted = sum(file.get_tensor(key).numel() for key in file.keys()) - buffers  # noqa: SIM118
    assert counted == cost_table(model.config).of(structure)
    assert counted == load_model(str(tmp_path / "small")).num_parameters()


def test_an_index_of_shards_that_are_gone_is_left_from_before(tmp_path):
    model = parakeet()
    model.save_pretrained(tmp_path, max_shard_size="40KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    sharded = weights_digest(str(tmp_path))
    index = (tmp_path / "model.safetensors.index.json").read_text()
    model.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text(index)
    assert weights_digest(str(tmp_path)) == sharded
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"lacks model-00001-of-\d+\.safetensors, which model.safetensors.index.json"):
        weights_digest(str(tmp_path))


def test_a_checkpoint_folder_is_complete(tmp_path):
    model = parakeet()
    processor = processor_for(model)
    facts = {"teacher": "someone/model", "wer": {"dev": 0.051}, "parameters_before": 54652}
    save(compress.remove(model, random_structure(model, 1)), processor, tmp_path / "small", facts)
    names = {path.name for path in (tmp_path / "small").iterdir()}
    assert {"config.json", "model.safetensors", "structure.json", "compression.json", "README.md"} <= names
    assert {"processor_config.json", "tokenizer.json"} <= names
    card = (tmp_path / "small" / "README.md").read_text()
    assert "base_model: someone/model" in card
    assert "| WER, dev | 5.10 % |" in card
    assert "54,652" in card
    assert Structure.load(tmp_path / "small" / "structure.json").family == "parakeet"
    before = card
    save(load_model(str(tmp_path / "small")), processor, tmp_path / "small", facts)
    assert (tmp_path / "small" / "README.md").read_text() == before


@pytest.mark.parametrize("name", CTC_MODELS)
def test_pipeline_transcribes_with_a_loaded_checkpoint(name, tmp_path):
    model = MODELS[name]()
    save(compress.remove(model, random_structure(model, 2)), processor_for(model), tmp_path / "small")
    assert load_processor(str(tmp_path / "small")).feature_extractor.sampling_rate == 16000
    recogniser = pipeline("automatic-speech-recognition", model=str(tmp_path / "small"))
    result = recogniser(torch.randn(16000, generator=torch.Generator().manual_seed(0)).numpy())
    assert isinstance(result["text"], str)


def test_save_pretrained_alone_leaves_structure_and_card(tmp_path):
    small = compress.remove(parakeet(), random_structure(parakeet(), 1))
    small.save_pretrained(tmp_path / "small")
    assert Structure.load(tmp_path / "small" / "structure.json").to_dict() == small.config.structure
    assert "What each block keeps" in (tmp_path / "small" / "README.md").read_text()


def test_save_pretrained_leaves_the_card_that_is_there(tmp_path: Path) -> None:
    """A person's, or a checkpoint's own, which knows the teacher."""
    small = compress.remove(parakeet(), random_structure(parakeet(), 1))
    save(small, None, tmp_path, {"teacher": "someone/model"})
    for card in ((tmp_path / "README.md").read_text(), "# My project\n"):
        (tmp_path / "README.md").write_text(card)
        small.save_pretrained(tmp_path)
        assert (tmp_path / "README.md").read_text() == card


def test_what_loads_without_the_package_asks_for_no_consent(tmp_path: Path) -> None:
    save(compress.remove(parakeet(), random_structure(parakeet(), 1)), None, tmp_path)
    block = (tmp_path / "README.md").read_text().partition("Or without that package")[2].split("```")[1]
    assert block.count('from_pretrained("path/or/repository", trust_remote_code=True)') == 2
    assert block.count(".from_pretrained(") == 2
    assert "Its processor takes trust_remote_code=True" in (tmp_path / "modeling_compressed.py").read_text()


def test_a_model_without_ctc_head_hears_what_is_supported(tmp_path):
    encoder = parakeet().encoder
    described = "ParakeetForCTC, ParakeetForTDT, ParakeetForRNNT are described so far. Supported:"
    with pytest.raises(UnsupportedModelError, match=rf"not supported: .* but of that only {described}"):
        compress.remove(encoder, Structure.full("parakeet", 3))
    model = MODELS["wav2vec2_conformer-relative"]()
    model.wav2vec2_conformer.save_pretrained(tmp_path)
    with pytest.raises(UnsupportedModelError, match="is a Wav2Vec2ConformerModel, which is not supported"):
        load_config(str(tmp_path))
    with pytest.raises(UnsupportedModelError, match="of its family only Wav2Vec2ConformerForCTC"):
        compress.remove(model.wav2vec2_conformer, Structure.full("wav2vec2_conformer", 3))


def test_apply_is_removal_from_the_command_line(tmp_path):
    model = parakeet()
    structure = random_structure(model, 6)
    save(model, processor_for(model), tmp_path / "full")
    structure.save(tmp_path / "wanted.json")
    facts = apply_structure(str(tmp_path / "full"), str(tmp_path / "wanted.json"), str(tmp_path / "small"))
    assert facts["parameters"] == cost_table(model.config).of(structure)
    small, inputs = load_model(str(tmp_path / "small")), batch(model)
    assert torch.allclose(small(**inputs).logits, compress.remove(model, structure)(**inputs).logits, atol=1e-6)
    for taken, problem in (("small", "exists already"), ("full/small", "lies in the folder of the model")):
        with pytest.raises(ValueError, match=problem):
            apply_structure(str(tmp_path / "full"), str(tmp_path / "wanted.json"), str(tmp_path / taken))


def test_a_compressed_checkpoint_can_be_compressed_again(tmp_path):
    model = parakeet()
    save(model, processor_for(model), tmp_path / "full")
    first, second = random_structure(model, 0), None
    first.save(tmp_path / "first.json")
    apply_structure(str(tmp_path / "full"), str(tmp_path / "first.json"), str(tmp_path / "one"))
    small = load_model(str(tmp_path / "one"))
    second = random_structure(small, 8)
    second.save(tmp_path / "second.json")
    apply_structure(str(tmp_path / "one"), str(tmp_path / "second.json"), str(tmp_path / "two"))
    inputs = batch(model)
    direct = compress.remove(model, first.then(second))
    assert torch.allclose(load_model(str(tmp_path / "two"))(**inputs).logits, direct(**inputs).logits, atol=1e-6)
    facts = json.loads((tmp_path / "two" / "compression.json").read_text())
    assert facts["teacher_compression"]["method"] == "apply"


def broken(tmp_path, change):
    model = parakeet()
    save(
        compress.remove(model, Structure("parakeet", (Block(ffn1=(0, 1)), Block(), Block()))), None, tmp_path / "small"
    )
    path = tmp_path / "small" / "config.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))
    return str(tmp_path / "small")


def test_weights_that_do_not_fit_the_structure_are_refused(tmp_path):
    def change(config):
        config["structure"]["blocks"][0]["ffn1"] = [0, 1, 2]

    with pytest.raises(CheckpointError, match=r"cannot be loaded|does not fit"):
        load_model(broken(tmp_path, change))


def test_a_config_without_structure_is_refused(tmp_path):
    with pytest.raises(compress.StructureError, match="no `structure`"):
        load_model(broken(tmp_path, lambda config: config.pop("structure")))


def test_a_malformed_structure_is_refused_by_name(tmp_path):
    def change(config):
        config["structure"]["blocks"][0]["attention"] = [2, 1]

    with pytest.raises(compress.StructureError, match=r"blocks\[0\].attention must be sorted"):
        load_model(broken(tmp_path, change))


def test_a_truncated_file_of_weights_is_refused(tmp_path):
    folder = broken(tmp_path, lambda config: None)
    weights = tmp_path / "small" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        load_model(folder)


def test_missing_folders_and_models_are_named(tmp_path):
    with pytest.raises(CheckpointError, match="There is no folder"):
        load_config("./nowhere")
    with pytest.raises(CheckpointError, match=r"holds no config.json"):
        load_config(str(tmp_path))


def test_an_unsupported_model_hears_why_and_what_is_supported(tmp_path):
    AutoConfig.for_model("wav2vec2").save_pretrained(tmp_path)
    with pytest.raises(UnsupportedModelError, match=r"model_type 'wav2vec2'.*not supported.*ParakeetForCTC"):
        load_config(str(tmp_path))
    AutoConfig.for_model("granite_speech_plus").save_pretrained(tmp_path)
    with pytest.raises(UnsupportedModelError, match="of that only GraniteSpeechForConditionalGeneration is described"):
        load_config(str(tmp_path))


@pytest.mark.parametrize("name", ["parakeet", "torchaudio_conformer-batch"])
def test_inspect_reads_only_the_config(name, tmp_path):
    """The public configuration of every family is inspected in tests/tools/test_experiments.py."""
    model = MODELS[name]()
    model.config.save_pretrained(tmp_path)
    description = inspect_model(str(tmp_path), seconds=2.0)
    assert description["parameters"]["total"] == sum(p.numel() for p in model.parameters())
    assert description["gates"]["head"] == 12
    assert len(description["blocks"]) == 3
    total = description["reachable"][0]
    assert total["smallest"] < total["largest"] <= total["full"] == description["parameters"]["total"]
    json.dumps(description)


def test_an_adapter_is_not_lost_unnoticed(tmp_path):
    model = MODELS["granite_speech"]()
    model.config.has_lora_adapter = True
    model.save_pretrained(tmp_path)
    assert "LoRA adapter" in inspect_model(str(tmp_path))["obstacle"]
    with pytest.raises(UnsupportedModelError, match=r"cannot be compressed as it is: .* LoRA adapter.* merge it"):
        load_model(str(tmp_path))


def test_a_whole_seamless_checkpoint_gives_its_speech_to_text(tmp_path):
    """Public SeamlessM4T checkpoints hold more than what writes down speech; the rest is left out without complaint."""
    model = MODELS["seamless_m4t_v2"]()
    whole = SeamlessM4Tv2Model(SeamlessM4Tv2Config(**{**model.config.to_dict(), **TINY_SEAMLESS}))
    whole.save_pretrained(tmp_path)
    loaded = load_model(str(tmp_path))
    assert type(loaded) is type(model)
    assert torch.equal(loaded.lm_head.weight, whole.lm_head.weight)
    assert not hasattr(loaded, "t2u_model")


def test_apply_keeps_the_dtype_of_the_checkpoint(tmp_path):
    model = parakeet().bfloat16()
    structure = random_structure(model, 6)
    save(model, processor_for(model), tmp_path / "full")
    structure.save(tmp_path / "wanted.json")
    apply_structure(str(tmp_path / "full"), str(tmp_path / "wanted.json"), str(tmp_path / "small"))
    small = load_model(str(tmp_path / "small"), dtype="auto")
    expected = compress.remove(model, structure).state_dict()
    assert {value.dtype for value in small.parameters()} == {torch.bfloat16}
    assert all(torch.equal(value, expected[name]) for name, value in small.state_dict().items())
    assert load_model(str(tmp_path / "small")).dtype == torch.float32


@pytest.mark.parametrize("route", ["original", "code"])
def test_weights_are_written_in_the_type_that_is_asked_for(tmp_path: Path, route: str) -> None:
    model = parakeet()
    small = compress.remove(model, random_structure(model, 1)) if route == "code" else model
    save(small, processor_for(model), tmp_path / "whole")
    save(small, processor_for(model), tmp_path / "half", dtype=torch.bfloat16)
    assert next(small.parameters()).dtype == torch.float32
    assert (stored_dtype(str(tmp_path / "whole")), stored_dtype(str(tmp_path / "half"))) == (
        torch.float32,
        torch.bfloat16,
    )
    assert load_model(str(tmp_path / "half"), dtype="auto").dtype == torch.bfloat16
    assert json.loads((tmp_path / "half" / "config.json").read_text())["dtype"] == "bfloat16"
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("half", "whole")]
    assert sizes[0] < 0.6 * sizes[1]


def test_heads_that_share_keys_are_refused_by_name(tmp_path: Path) -> None:
    config = ParakeetCTCConfig(
        vocab_size=20, pad_token_id=19, encoder_config={**PARAKEET_ENCODER, "num_key_value_heads": 2}
    )
    ParakeetForCTC(config).save_pretrained(tmp_path)
    for load in (load_model, load_config):
        with pytest.raises(
            UnsupportedModelError, match=r"has 2 heads of keys and values \(num_key_value_heads\) for 4 he"
        ):
            load(str(tmp_path))


def test_what_transformers_keeps_in_single_precision_is_saved_in_it(tmp_path: Path) -> None:
    """As it saves a model itself that it has read in half precision."""
    MODELS["granite_speech5"]().save_pretrained(tmp_path / "single")
    theirs = AutoModelForCTC.from_pretrained(tmp_path / "single", dtype=torch.bfloat16)
    theirs.save_pretrained(tmp_path / "theirs")
    model = load_model(str(tmp_path / "theirs"))
    assert next(model.parameters()).dtype == torch.float32
    save(model, None, tmp_path / "ours", dtype=torch.bfloat16)
    wanted, saved = (load_file(tmp_path / name / "model.safetensors") for name in ("theirs", "ours"))
    assert {tensor.dtype for tensor in saved.values()} >= {torch.bfloat16, torch.float32}
    assert wanted.keys() == saved.keys()
    weights = [name for name in wanted if not name.endswith("num_batches_tracked")]  # a float, where they count
    assert all(torch.equal(wanted[name], saved[name]) for name in weights)
    assert [wanted[name].dtype for name in weights] == [saved[name].dtype for name in weights]


@FAMILIES
def test_tensors_that_are_one_are_saved_once_in_any_type(name: str, tmp_path: Path) -> None:
    model = MODELS[name]()
    save(model, None, tmp_path / "whole")
    save(model, None, tmp_path / "half", dtype=torch.bfloat16)
    whole, half = (load_file(tmp_path / folder / "model.safetensors") for folder in ("whole", "half"))
    assert whole.keys() == half.keys()
