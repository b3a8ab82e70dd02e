"""The nets of a supernet's two stages: what runs, what gets gradients, and what the losses are."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import compress
from compress.conformers import blocks_of, family_of, frame_mask, part, submodule
from compress.data import Batch
from compress.elastic import make_elastic, standalone
from compress.elastic.supernet import PartsConfig, SelectionConfig, SizesConfig, make_selection, make_subnets, parts_of
from compress.elastic.supernet.fisher import FisherConfig
from compress.elastic.supernet.ortho_softmax import OrthoSoftmaxConfig
from compress.elastic.supernet.top_k import TopKConfig
from compress.running.subnets import subnets_of
from compress.structure import Place
from compress.training.ctc import ctc_loss
from compress.training.loop.finite import FiniteGuard
from compress.training.loop.losses import Losses
from compress.training.loop.optimizer import WEIGHTS
from compress.training.preparation import prepare_for_training
from compress.training.supernet import SCORES, JointConfig, JointNet, SelectionNet, divided
from compress.training.supernet_results import rates_as_metrics
from compress.training.supervised import OptimizerConfig
from tests.helpers import forked
from tests.helpers.stages import joint, selecting
from tests.helpers.tiny import CTC_MODELS, batch, parakeet, random_structure

LABELS = torch.tensor([[3, 4, 5], [6, 7, -100]])
FAMILIES = pytest.mark.parametrize("name", {name.partition("-")[0]: name for name in CTC_MODELS}.values())


def losses_of(net: SelectionNet | JointNet) -> Losses:
    inputs = batch(net.model)
    logits = net(**inputs)
    frames = frame_mask(net.model, inputs, logits[0].shape[1])
    return net.losses(logits, frames, LABELS, int(net.model.config.pad_token_id))[0]


@FAMILIES
def test_the_first_stage_trains_the_whole_model_and_the_removed_one(name: str) -> None:
    model = CTC_MODELS[name]()
    net = selecting(model, SelectionConfig(top_k=TopKConfig(descent=0.0)))
    with torch.no_grad():
        net.selection.scores.copy_(torch.randn(len(net.selection.parts), generator=torch.Generator().manual_seed(0)))
    structure = net.selection.parts.structure(net.selection.kept(0))
    with torch.no_grad():
        full, sub = net(**batch(model))
    net.detach()
    small = compress.remove(model, structure)
    prepare_for_training(small, dropout=0.0)
    inputs = batch(model)
    with torch.no_grad():
        for logits, one in ((full, model), (sub, small)):
            expected = one(**inputs).logits
            mask = frame_mask(one, inputs, expected.shape[1])
            assert torch.allclose(logits[mask], expected[mask], atol=1e-4)


@FAMILIES
def test_every_weight_and_score_gets_a_gradient_in_the_first_stage(name: str) -> None:
    net = selecting(CTC_MODELS[name](), SelectionConfig())
    net.prepare(3)
    losses_of(net).total.backward()
    assert all(p.grad is not None for p in net.parameters() if p.requires_grad)
    scores: Any = net.selection.scores
    assert (scores.grad != 0).all()


def test_running_statistics_follow_the_whole_model_alone() -> None:
    plain = parakeet()
    prepare_for_training(plain, dropout=0.0)
    plain.train()(**batch(plain))
    net = selecting(parakeet(), SelectionConfig(method="random"))
    net.prepare(9)
    net(**batch(net.model))
    expected = dict(plain.named_buffers())
    assert all(torch.equal(expected[name], buffer) for name, buffer in net.model.named_buffers())


def test_losses_of_the_first_stage() -> None:
    net = selecting(parakeet(), SelectionConfig(method="zero_out", full=0.9, sub=0.2))
    losses = losses_of(net)
    parts = losses.parts
    expected = 0.9 * parts["ctc"] + 0.2 * parts["ctc/sub"] + parts["sparsity"]
    assert float(losses.total.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    focal = selecting(parakeet(), SelectionConfig(method="ortho_softmax", ortho_softmax=OrthoSoftmaxConfig(penalty=0)))
    losses = losses_of(focal)
    full, sub = (losses.parts[name].detach() for name in ("ctc", "ctc/sub"))
    assert float(losses.total.detach()) == pytest.approx(float(full + (1 - (-sub).exp()) * sub), rel=1e-5)


def test_gates_and_scores_stay_float32_under_autocast() -> None:
    for method in ("top_k", "zero_out", "ortho_softmax"):
        net = selecting(parakeet(), SelectionConfig(method=method))  # type: ignore[arg-type]
        net.prepare(5)
        with torch.autocast("cpu", torch.bfloat16):
            logits = net(**batch(net.model))
        assert torch.isfinite(logits[1]).all()
        assert net.selection.values(5).dtype == torch.float32


def test_the_sandwich_rule_draws_one_size_between() -> None:
    four = joint(parakeet(), JointConfig(), (11, 8, 5, 2))
    assert four.names == ("2", "5", "8", "11", "12")
    drawn = [four.draw() for _ in range(300)]
    assert all(one[:2] == ("12", "2") and len(one) == 3 for one in drawn)
    counts = Counter(one[2] for one in drawn)
    assert set(counts) == {"5", "8", "11"}
    assert min(counts.values()) > 70
    three, two = joint(parakeet(), JointConfig(), (8, 2)), joint(parakeet(), JointConfig(), (2,))
    assert three.draw() == ("12", "2", "8")
    assert two.draw() == ("12", "2")


@FAMILIES
def test_the_second_stage_runs_each_size_as_the_elastic_model_does(name: str) -> None:
    net = joint(CTC_MODELS[name](), JointConfig(stochastic_depth=0.0))
    net.eval().prepare(0)
    inputs = batch(net.model)
    with torch.no_grad():
        logits = net(**inputs)
        assert net.model.size == net.names[-1]
        for size, found in zip(net.running, logits, strict=True):
            net.model.activate(size)
            assert torch.equal(net.model(**inputs).logits, found)
    assert not torch.equal(logits[0], logits[1])


def test_what_the_smallest_size_lacks_is_left_out_now_and_then() -> None:
    net = joint(parakeet(), JointConfig(stochastic_depth=0.5))
    smallest = subnets_of(net.model)[net.names[0]]
    blocks = [(number, block) for number, block in enumerate(smallest.blocks) if block]
    absent = [Place.of(number, name) for number, block in blocks for name, kept in block.items() if not kept]
    assert net.stochastic.always == dict.fromkeys(absent, 0)
    assert len(absent) == 12 - 2
    state = net.noise.state_dict()

    def logits() -> Tensor:
        found: Tensor = net(**batch(net.model))[0]
        return found

    net.prepare(0)
    first, repeated = logits(), logits()
    net.prepare(1)
    other = logits()
    net.noise.load_state_dict(state)
    net.prepare(0)
    assert torch.equal(first, repeated)
    assert not torch.equal(first, other)
    assert torch.equal(first, logits())


@FAMILIES
def test_without_all_that_it_lacks_the_full_size_is_the_smallest(name: str) -> None:
    """Also where the smallest size keeps some chunks and heads of a module."""
    model = CTC_MODELS[name]()
    asked = SizesConfig(parts=(10, 6))
    sizes = make_subnets(asked, parts_of(model, PartsConfig("component", ffn_chunks=2)))
    order = torch.randperm(len(sizes.parts), generator=torch.Generator().manual_seed(2)).tolist()
    elastic = make_elastic(model, sizes.structures(order))
    prepare_for_training(elastic, dropout=0.0)
    net = JointNet(elastic.train(), JointConfig(stochastic_depth=1 - 1e-6), seed=0)
    counts = set(net.stochastic.always.values())
    assert 0 in counts
    assert counts - {0}
    net.prepare(0)
    with torch.no_grad():
        full, smallest, middle = net(**batch(elastic))
        plain = {}
        for size in net.running[1:]:
            elastic.activate(size)
            plain[size] = elastic(**batch(elastic)).logits
    torch.testing.assert_close(full, smallest, rtol=0, atol=1e-4)
    assert torch.equal(middle, plain[net.running[2]]), "nothing is left out of the sizes below the full one"
    assert torch.equal(smallest, plain[net.running[1]])
    assert not torch.allclose(middle, smallest, atol=1e-3)


def test_what_only_a_smaller_size_spoils_is_found_there(caplog: pytest.LogCaptureFixture) -> None:
    net = joint(parakeet(), JointConfig())
    guard = FiniteGuard(net, {"supernet": net}, limit=2)
    net.model.ctc_head.per_size[0].register_forward_hook(lambda *found: found[2] * torch.inf)
    net.prepare(0)
    losses = losses_of(net)
    losses.total.backward()
    assert not guard.accepts(losses, [Batch(batch(net.model), LABELS, ["a.wav", "b.wav"], [], 1.0)], step=0)
    assert "It began in the output of the supernet's model.ctc_head.per_size.0 for a.wav, b.wav" in caplog.text
    assert net.model.size == net.names[-1]


def test_losses_of_the_second_stage() -> None:
    config = JointConfig(full=0.9, smallest=0.4, middle=0.2, distill=0.5, stochastic_depth=0.0)
    net = joint(parakeet(), config)
    inputs = batch(net.model)
    net.prepare(0)
    logits = net(**inputs)
    frames = frame_mask(net.model, inputs, logits[0].shape[1])
    blank = int(net.model.config.pad_token_id)
    losses, _ = net.losses(logits, frames, LABELS, blank)
    found = {name: loss.item() for name, loss in losses.parts.items()}
    single = [ctc_loss(one, frames, LABELS, blank)[0].item() for one in logits]
    assert [found[name] for name in ("ctc", "ctc/smallest", "ctc/middle")] == pytest.approx(single)
    expected = 0.9 * single[0] + 0.4 * single[1] + 0.2 * single[2] + 0.5 * found["distill"]
    assert losses.total.item() == pytest.approx(expected, rel=1e-5)
    assert found["distill"] > 0
    full, *smaller = (one.detach().requires_grad_() for one in logits)
    net.losses([full, *smaller], frames, LABELS, blank)[0].parts["distill"].backward()
    assert full.grad is None
    assert all(one.grad is not None for one in smaller)


def test_each_stage_has_its_learning_rates() -> None:
    peak = OptimizerConfig(learning_rate=0.1)
    net = selecting(parakeet(), SelectionConfig(method="zero_out", learning_rate=0.4))
    assert net.rates(peak, 0.5) == {WEIGHTS: 0.05, SCORES: 0.2}
    assert {group.name: group.learning_rate for group in net.groups(peak)} == {WEIGHTS: 0.1, SCORES: 0.4}
    assert selecting(parakeet(), SelectionConfig()).rates(peak, 0.5) == {WEIGHTS: 0.05, SCORES: 0.05}
    assert selecting(parakeet(), SelectionConfig(method="random")).rates(peak, 0.5) == {WEIGHTS: 0.05}
    both = joint(parakeet(), JointConfig(warmup_steps=4))
    for step, expected in ((0, 0.0125), (1, 0.025), (3, 0.05), (9, 0.05)):
        both.prepare(step)
        assert both.rates(peak, 0.5) == {WEIGHTS: pytest.approx(expected)}
    assert joint(parakeet(), JointConfig(warmup_steps=0)).rates(peak, 0.5) == {WEIGHTS: 0.05}


def test_fisher_sees_the_gradient_of_the_whole_model_in_its_gates() -> None:
    """Against differences of the loss; and a part without effect is wanted least."""
    model, dead = parakeet(), 5
    net = selecting(model, SelectionConfig(method="fisher", fisher=FisherConfig(decay=0.0, per_cost=False)))
    selection: Any = net.selection
    place = selection.parts.entries[dead].place
    module = family_of(model).modules[place.name]
    last: Any = part(submodule(blocks_of(model)[place.block], module), module.last)
    for parameter in last.parameters():
        parameter.data.zero_()

    def loss_with(number: int, value: float) -> float:
        net._masks.use(torch.ones(len(selection.parts)).index_fill(0, torch.tensor([number]), value))
        inputs = batch(model)
        logits = model(**inputs).logits
        net._masks.open()
        frames = frame_mask(model, inputs, logits.shape[1])
        return ctc_loss(logits, frames, LABELS, int(model.config.pad_token_id))[0].item()

    net.prepare(0)
    losses_of(net).parts["ctc"].backward()
    net.after_step()
    assert selection.ranking()[-1] == dead
    assert float(selection.squares[dead]) == 0
    for number in (0, 7):
        slope = (loss_with(number, 1.02) - loss_with(number, 0.98)) / 0.04
        assert float(selection.squares[number]) == pytest.approx(slope**2, rel=0.05)


def test_both_stages_need_a_step() -> None:
    assert divided(10, 0.6) == (6, 4)
    for share in (0.01, 0.99):
        with pytest.raises(ValueError, match="each needs at least one: set epochs or max_steps higher"):
            divided(10, share)


def test_rates_are_reported_by_size_where_there_are_several() -> None:
    rates = {"33%": {"wer": 0.3, "cer": 0.1}, "100%": {"wer": 0.1, "cer": 0.0}}
    expected = {"dev/wer": 0.1, "dev/wer/33%": 0.3, "dev/wer/100%": 0.1, "dev/wer/mean": 0.2}
    assert rates_as_metrics(rates) == pytest.approx(expected)
    assert rates_as_metrics({"8": rates["33%"]}) == {"dev/wer": 0.3}


def test_all_shared_weights_and_the_heads_of_the_step_learn_in_the_second_stage() -> None:
    net = joint(parakeet(), JointConfig(), (11, 8, 5, 2))
    net.prepare(0)
    losses_of(net).total.backward()
    without = {name for name, p in net.named_parameters() if p.requires_grad and p.grad is None}
    assert all("per_size" in name for name in without)
    heads = {name for name, _ in net.named_parameters() if "ctc_head" in name}
    assert len(heads & without) == len(heads) * 2 // 5


def test_a_pruned_model_becomes_a_supernet() -> None:
    model = compress.remove(parakeet(), random_structure(parakeet(), 3))
    prepare_for_training(model, dropout=0.0)
    asked = SizesConfig(params=("90%", "70%"))
    sizes = make_subnets(asked, parts_of(model, PartsConfig("component"), asked.table(model.config)))
    config = SelectionConfig()
    net = SelectionNet(model.train(), make_selection(config, sizes, 10, seed=0), config)
    losses_of(net).total.backward()
    elastic = make_elastic(net.detach(), sizes.structures(net.selection.ranking()), own=JointConfig().own)
    prepare_for_training(elastic, dropout=0.0)
    both = JointNet(elastic.train(), JointConfig(), seed=0)
    losses_of(both).total.backward()
    for name, limit in sizes.limits.items():
        assert standalone(elastic, name).num_parameters() <= limit


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"smallest": -0.1}, "joint.smallest is -0.1; give at least 0"),
        ({"stochastic_depth": 1.0}, "joint.stochastic_depth"),
    ],
)
def test_wrong_settings_are_refused_by_name(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        JointConfig(**settings)


def test_two_processes_train_as_one_would(tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    ended = forked.run_two(["-m", "tests.helpers.two_supernets", str(out)])
    assert ended.returncode == 0, ended.stderr
    for stage in json.loads(out.read_text()).values():
        assert stage["averaged_minus_mean"] < 1e-6
        assert stage["weights_differ"] == 0.0
        assert all(one == other for one, other in stage["choices"])
        assert len({str(one) for one, _ in stage["choices"]}) > 1
