"""Loads checkpoints as a stranger would, and checks what must work then. Needs torch and transformers, nothing of ours.

    python tests/helpers/route_checks.py cases.json results.json [--with-package]

`cases.json` holds a list of objects with `name`, `folder` (the checkpoint), `tensors` (a safetensors file with the
model's inputs and the `outputs` they must give), `again` (a folder to save it in), `auto` (the Auto class), `encoder`
(of a model without a CTC head: paths of what is run of it, one after the other, the encoder last), `masked` (whether
the encoder takes an `attention_mask`), `checks` (all where it is missing), and `route`: `stock` loads without code of
the checkpoint, `code` with `trust_remote_code=True`. With `--with-package`, `compress` is imported instead; without, it
is hidden even where it is installed. `results.json` says of every case and check "ok" or what went wrong.
"""

from __future__ import annotations

import copy
import gc
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

PACKAGE = "compress"
WITH_PACKAGE = "--with-package" in sys.argv
if not WITH_PACKAGE:
    assert PACKAGE not in sys.modules
    sys.modules[PACKAGE] = None  # type: ignore[assignment]  # from here on `import compress` fails

import torch  # noqa: E402
import transformers  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from transformers import dynamic_module_utils  # noqa: E402

if WITH_PACKAGE:
    __import__(PACKAGE)

EXACT, OTHER_KERNELS, HALF = 1e-6, 1e-5, 0.25
CODE_FILE = "modeling_compressed.py"


class Case:
    """One checkpoint, of which every check has a model of its own."""

    def __init__(self, case: dict[str, Any]) -> None:
        self.folder, self.route, self.auto = case["folder"], case["route"], getattr(transformers, case["auto"])
        self.again = Path(case["again"])
        tensors = load_file(case["tensors"])
        self.expected = tensors.pop("outputs")
        self.inputs = tensors
        self.encoder, self.masked = case.get("encoder"), case.get("masked", True)
        self.options = {"trust_remote_code": True} if self.route == "code" and not WITH_PACKAGE else {}
        self._loaded: Any = None

    def model(self) -> Any:
        """A copy of the model as it is loaded without options."""
        self._loaded = self._loaded or self.load()
        return copy.deepcopy(self._loaded)

    def load(self, folder: str | Path | None = None, **options: Any) -> Any:
        loaded = self.auto.from_pretrained(folder or self.folder, **self.options, **options)
        return (loaded[0].eval(), loaded[1]) if isinstance(loaded, tuple) else loaded.eval()

    def run(self, model: Any, prepared: Callable[[Any], Any] = lambda module: module) -> Any:
        """Logits, or the output of the encoder of a model without a CTC head; `prepared` may compile what is run."""
        if not self.encoder:
            return prepared(model)(**self.inputs).logits
        *before, encoder = (model.get_submodule(path) for path in self.encoder)
        hidden = self.inputs["input_features"]
        for module in before:
            hidden = module(hidden)
        mask = {"attention_mask": self.inputs["attention_mask"]} if self.masked else {}
        result = prepared(encoder)(hidden, **mask)
        return getattr(result, "last_hidden_state", result)

    def difference(self, model: Any, prepared: Callable[[Any], Any] = lambda module: module) -> float:
        with torch.no_grad():
            outputs = self.run(model, prepared)
        return float((outputs.float() - self.expected).abs().max())

    def close(self, model: Any, limit: float, prepared: Callable[[Any], Any] = lambda module: module) -> None:
        difference, limit = self.difference(model, prepared), limit * max(1.0, float(self.expected.abs().max()))
        assert difference <= limit, f"outputs differ by {difference:.2g}, allowed {limit:g}"


def loads(case: Case) -> None:
    """The very function, no missing or unexpected keys, and the class that the route promises."""
    model, info = case.load(output_loading_info=True)
    assert not any(info.values()), f"keys: { {key: sorted(map(str, value))[:5] for key, value in info.items()} }"
    case.close(model, EXACT)
    origin = type(model).__module__.partition(".")[0]
    promised = "transformers" if case.route == "stock" else PACKAGE if WITH_PACKAGE else "transformers_modules"
    assert origin == promised, f"the class is from {origin}, not {promised}"


def bfloat16(case: Case) -> None:
    """All in bfloat16 but what the original's class keeps in float32."""
    model = case.load(dtype=torch.bfloat16)
    kept = tuple(model._keep_in_fp32_modules or ()) + tuple(model._keep_in_fp32_modules_strict or ())
    for name, parameter in model.named_parameters():
        assert parameter.dtype == torch.bfloat16 or any(part in name for part in kept), f"{name} is {parameter.dtype}"
    half = copy.copy(case)
    half.inputs = {n: t.bfloat16() if t.is_floating_point() else t for n, t in case.inputs.items()}
    difference = half.difference(model) / float(case.expected.abs().max())
    assert difference <= HALF, f"relative difference {difference:.2g}, allowed {HALF:g}"


def device_map(case: Case) -> None:
    case.close(case.load(device_map="auto"), EXACT)


def attention(case: Case) -> None:
    model = case.model()
    for name in ("eager", "sdpa", "eager"):
        model.set_attn_implementation(name)
        assert model.config._attn_implementation == name, f"{name} could not be set"
        case.close(model, OTHER_KERNELS)


def gradient_checkpointing(case: Case) -> None:
    """The same gradients as without it. Nothing random: in eval mode the blocks would not be checkpointed."""
    gradients = []
    for checkpointed in (False, True):
        model = case.model()
        if checkpointed:
            model.gradient_checkpointing_enable()
        still(model)
        case.run(model).square().mean().backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    assert gradients[0]
    for name, gradient in gradients[0].items():
        assert torch.allclose(gradient, gradients[1][name], atol=OTHER_KERNELS), f"gradient of {name}"


def still(model: Any) -> None:
    """Training mode without anything random in it: no dropout, no layerdrop, no masked features."""
    model.train()
    for module in model.modules():
        for name in ("layerdrop", "dropout", "p", "attention_dropout", "activation_dropout"):
            if isinstance(vars(module).get(name), float | int):
                setattr(module, name, 0.0)
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.eval()
    for name, value in vars(model.config).items():
        if name.endswith(("layerdrop", "dropout")) and isinstance(value, float | int):
            setattr(model.config, name, 0.0)
    if hasattr(model.config, "apply_spec_augment"):
        model.config.apply_spec_augment = False


def compiled(case: Case) -> None:
    """One graph: `fullgraph` raises at a break. The graph is run as it is; generating kernels is torch's business."""
    torch._dynamo.reset()
    case.close(case.model(), OTHER_KERNELS, lambda module: torch.compile(module, backend="eager", fullgraph=True))


def saved_again(case: Case) -> None:
    """Load, save, load, save, load: still complete, still the same function."""
    model = case.model()
    for turn in ("once", "twice"):
        folder = str(case.again / turn / Path(case.folder).name)  # code of one name and content is one module
        model.save_pretrained(folder)
        model = case.load(folder)
        files = {path.name for path in Path(folder).iterdir()}
        wanted = {"config.json", "model.safetensors"}
        wanted |= {CODE_FILE, "structure.json"} if case.route == "code" else set()
        assert wanted <= files, f"missing: {sorted(wanted - files)}"
        config = json.loads((Path(folder) / "config.json").read_text())
        assert config["structure"]
        if case.route == "code":
            stem = Path(CODE_FILE).stem
            assert all(value.startswith(f"{stem}.") for value in config["auto_map"].values())
            assert config["auto_map"].keys() == {"AutoConfig", case.auto.__name__}
    case.close(model, EXACT)


def pipeline(case: Case) -> None:
    recogniser = transformers.pipeline("automatic-speech-recognition", model=case.folder, **case.options)
    sound = torch.randn(16000, generator=torch.Generator().manual_seed(0)).numpy()
    short = {"generate_kwargs": {"max_new_tokens": 4}} if case.encoder else {}
    assert isinstance(recogniser(sound, **short)["text"], str)


CHECKS: dict[str, Callable[[Case], None]] = {
    check.__name__: check
    for check in (loads, bfloat16, device_map, attention, gradient_checkpointing, compiled, saved_again, pipeline)
}


def applies(check: str, case: dict[str, Any]) -> bool:
    return check in case.get("checks", CHECKS)


def outcome(check: Callable[[Case], None], case: Case) -> str:
    try:
        check(case)
    except Exception as error:  # whatever it is, it goes into the table
        return f"{type(error).__name__}: {str(error).strip()[:1000]}"
    return "ok"


def outcomes(case: dict[str, Any]) -> dict[str, str]:
    """What the checks of a case find, by name."""
    gc.freeze()  # what is there stays: compiling would look for garbage among it again and again
    checked = Case(case)
    return {name: outcome(check, checked) for name, check in CHECKS.items() if applies(name, case)}


def remember_imports() -> None:
    """Lets transformers look through a file for what it imports once, and not whenever the same file is loaded."""
    look, known = dynamic_module_utils.get_imports, {}

    def remembered(filename: str | Path) -> list[str]:
        content = Path(filename).read_bytes()
        known[content] = known.get(content) or look(filename)
        return known[content]

    dynamic_module_utils.get_imports = remembered


def main(cases_file: str, results_file: str) -> None:
    remember_imports()
    cases = json.loads(Path(cases_file).read_text())
    results = {case["name"]: outcomes(case) for case in cases}
    versions = {"transformers": transformers.__version__, "torch": torch.__version__}
    Path(results_file).write_text(json.dumps({"versions": versions, "results": results}, indent=2) + "\n")


if __name__ == "__main__":
    main(*[word for word in sys.argv[1:] if not word.startswith("--")])
