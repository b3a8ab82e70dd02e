"""Selections: who gets gradients, how many parts are kept when, and what ranking they end with."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from compress.elastic.supernet import (
    History,
    PartMasks,
    PartsConfig,
    PartSelection,
    SelectionConfig,
    SizesConfig,
    Subnets,
    make_selection,
    make_subnets,
    parts_of,
)
from compress.elastic.supernet.methods import ORDERS
from compress.elastic.supernet.orders import evenly
from compress.elastic.supernet.ortho_softmax import OrthoSoftmax, OrthoSoftmaxConfig, orthogonality
from compress.elastic.supernet.selection import Descent, k_hot, straight_through
from compress.elastic.supernet.top_k import TopK, TopKConfig, relaxed_top_k
from compress.elastic.supernet.zero_out import ZeroOut, ZeroOutConfig
from tests.helpers.tiny import BLOCKS, batch, parakeet

STEPS = 40
COUNTED = SizesConfig(parts=(9, 6, 3))
BUDGETS = SizesConfig(params=("100%", "80%", "60%"))
METHODS = ("top_k", "zero_out", "ortho_softmax", "fisher", "random", "every_other_block")
LEARNED = METHODS[:3]


def subnets_of(config: SizesConfig, granularity: Any = "module") -> Subnets:
    model = parakeet()
    return make_subnets(config, parts_of(model, PartsConfig(granularity), config.table(model.config)))


def selection(method: Any, config: SizesConfig = COUNTED, **more: Any) -> PartSelection:
    return make_selection(SelectionConfig(method=method), subnets_of(config, **more), STEPS, seed=1)


def set_scores(one: Any, values: list[float] | Tensor) -> None:
    with torch.no_grad():
        one.scores.copy_(torch.as_tensor(values))


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("method", LEARNED)
@pytest.mark.parametrize("granularity", ["module", "component"])
def test_gradients_of_the_speech_loss_reach_every_score(method: str, granularity: str) -> None:
    model = parakeet()
    one: Any = selection(method, SizesConfig(parts=(6, 3)), granularity=granularity)
    masks = PartMasks(model, one.parts)
    masks.use(one.values(STEPS // 2))
    (model(**batch(model)).logits ** 2).sum().backward()
    rows = one.used(STEPS // 2) if method == "ortho_softmax" else None
    assert one.scores.grad is not None
    assert (one.scores.grad[:rows] != 0).all()


@given(scores=st.lists(st.floats(-3, 3), min_size=2, max_size=20), data=st.data())
@settings(max_examples=60, deadline=None)
def test_the_hard_choice_has_exactly_k_parts_and_the_relaxed_one_sums_to_k(scores: list[float], data: Any) -> None:
    values = torch.tensor(scores, requires_grad=True)
    count = data.draw(st.integers(1, len(scores)))
    relaxed = relaxed_top_k(values, count)
    assert relaxed.sum().item() == pytest.approx(count, rel=1e-4)
    top = torch.sort(values.detach(), descending=True, stable=True).indices[:count].tolist()
    hard = straight_through(k_hot(top, relaxed), relaxed)
    assert sorted(hard.tolist()) == [0.0] * (len(scores) - count) + [1.0] * count
    weight = torch.arange(len(scores), dtype=torch.float32)
    for one in (hard, relaxed):
        (gradient,) = torch.autograd.grad((one * weight).sum(), values, retain_graph=True)
        assert torch.isfinite(gradient).all()
        if one is hard:
            through = gradient
    assert torch.equal(through, gradient)


def test_limits_of_the_temperature() -> None:
    scores = torch.tensor([0.3, 0.9, -0.2, 0.5, 0.1])
    assert torch.allclose(relaxed_top_k(scores, 2, 1e-3), torch.tensor([0.0, 1.0, 0.0, 1.0, 0.0]), atol=1e-6)
    assert torch.allclose(relaxed_top_k(scores, 2, 1e6), torch.full((5,), 0.4), atol=1e-4)
    assert torch.allclose(relaxed_top_k(scores, 5, 1e-3), torch.ones(5), atol=1e-6)


def test_one_round_is_a_softmax_and_the_second_leaves_its_choice_out() -> None:
    scores = torch.tensor([1.0, 0.0, -1.0])
    first = scores.softmax(0)
    assert torch.allclose(relaxed_top_k(scores, 1), first)
    second = (scores.exp() * (1 - first)) / (scores.exp() * (1 - first)).sum()
    assert torch.allclose(relaxed_top_k(scores, 2), first + second)


def test_k_goes_down_in_equal_steps() -> None:
    one = selection("top_k")
    counts = [len(one.kept(step)) for step in range(STEPS + 1)]
    assert counts[0] == 12
    assert counts[round(0.6 * STEPS) :] == [3] * (STEPS - round(0.6 * STEPS) + 1)
    assert all(0 <= high - low <= 1 for high, low in pairwise(counts))
    held = [counts.count(count) for count in range(4, 13)]
    assert max(held) - min(held) <= 1
    assert [one.values(step).sum().item() for step in (0, 10, STEPS)] == [12, counts[10], 3]


def test_the_cost_goes_down_evenly_and_reaches_every_budget() -> None:
    one = selection("top_k", BUDGETS, granularity="component")
    whole, smallest = one.parts.whole, one.sizes.smallest
    for step in range(STEPS + 1):
        limit = whole - min(1.0, step / (0.6 * STEPS)) * (whole - smallest)
        kept, ranking = one.kept(step), one.ranking()
        assert one.parts.cost(kept) <= limit
        assert kept == ranking or one.parts.cost(ranking[: len(kept) + 1]) > limit


def test_a_descent_in_jumps() -> None:
    limits = [Descent(10, 2, 8, jumps=2).limit(step) for step in range(10)]
    assert limits == [10] * 4 + [6] * 4 + [2] * 2
    assert Descent(10, 2, 0).limit(0) == 2


def test_one_part_leaves_at_a_time_as_published() -> None:
    """600 sub-epochs of some steps, of which 384 take 48 parts to 16: each number of parts lasts for 12 of them."""
    down = Descent(48, 16, 3840, jumps=32)
    limits = [down.limit(step) for step in range(6000)]
    assert limits == [48 - min(step // 120, 32) for step in range(6000)]


@given(start=st.integers(2, 60), data=st.data())
@settings(max_examples=60, deadline=None)
def test_equal_jumps_are_exact(start: int, data: Any) -> None:
    end = data.draw(st.integers(1, start - 1))
    down = Descent(start, end, start - end)
    assert [down.limit(step) for step in range(start - end + 1)] == list(range(start, end - 1, -1))


def test_the_highest_scores_are_kept_and_all_sizes_are_prefixes() -> None:
    one = selection("top_k")
    scores = drawn(0, 12)
    set_scores(one, scores)
    order = scores.argsort(descending=True).tolist()
    assert one.ranking() == order
    assert one.kept(STEPS) == order[:3]
    assert [round(value) for value in one.values(STEPS).tolist()] == [int(part in order[:3]) for part in range(12)]


def test_the_relaxed_option_has_a_little_of_everything() -> None:
    soft = TopK(subnets_of(COUNTED), STEPS, TopKConfig(hard=False))
    assert torch.allclose(soft.values(STEPS), torch.full((12,), 0.25))


def zero_out(iterations: int, config: SizesConfig = COUNTED, first: float = 1.0) -> ZeroOut:
    return ZeroOut(subnets_of(config), STEPS, ZeroOutConfig(iterations=iterations, first=first))


def test_zero_out_schedule() -> None:
    one = zero_out(4)
    assert one.ends == [10, 20, 30, 40]
    assert [one.target(step) for step in (0, 9, 10, 29, 39)] == pytest.approx([x / 48 for x in (9, 9, 18, 27, 36)])
    assert zero_out(4, first=3.0).ends == [20, 27, 33, 40]
    zeroed = []
    for step in range(STEPS):
        set_scores(one, one.scores.detach() + 0.01 * drawn(step, 12))
        one.after_step(step)
        zeroed.append(int((one.scores < -4).sum()))
    assert [zeroed[step] for step in (8, 9, 18, 19, 28, 29, 39)] == [0, 3, 3, 5, 5, 7, 7]
    assert [len(one.kept(step)) for step in (0, 9, 10, 20, 30, 39, 40)] == [12, 12, 9, 7, 5, 5, 3]
    assert len(one.ranking()) == len(set(one.ranking())) == 12


def test_zeroed_parts_may_recover_and_the_lowest_go() -> None:
    one = zero_out(4)
    set_scores(one, torch.arange(12.0))
    one.after_step(9)
    assert one.scores.tolist() == [-5.0] * 3 + [float(n) for n in range(3, 12)]
    set_scores(one, [20.0, -5, -5, *range(3, 12)])
    one.after_step(19)
    assert (one.scores == -5).nonzero().flatten().tolist() == [1, 2, 3, 4, 5]


def test_medium_sizes_follow_the_scores_before_the_last_cut() -> None:
    one = zero_out(2, SizesConfig(parts=(6, 3)))
    before = [float(n) for n in range(12)]
    set_scores(one, before)
    one.after_step(19)
    assert one.before_last_cut.tolist() == before
    set_scores(one, [9.0, 8.0, 7.0, *range(-9, 0)])
    one.after_step(39)
    ranking = one.ranking()
    assert set(ranking[:3]) == {0, 1, 2}
    assert ranking[3:] == [11, 10, 9, 8, 7, 6, 5, 4, 3]
    assert one.scores.tolist()[:3] == [9.0, 8.0, 7.0]
    single = zero_out(1, SizesConfig(parts=(6, 3)))
    set_scores(single, before)
    single.after_step(39)
    assert single.ranking() == list(range(11, -1, -1))


def test_the_sparsity_loss_is_the_distance_to_the_target() -> None:
    one = zero_out(4)
    set_scores(one, [100.0] * 6 + [-100.0] * 6)
    assert one.penalties(0)["sparsity"].item() == pytest.approx(5 * abs(6 / 12 - 9 / 48))
    budgets = zero_out(1, BUDGETS)
    set_scores(budgets, [100.0] * 11 + [-100.0])
    whole, fixed = budgets.parts.whole, budgets.parts.fixed
    gone = budgets.parts.shares()[11]
    target = (whole - budgets.sizes.smallest) / (whole - fixed)
    assert budgets.penalties(0)["sparsity"].item() == pytest.approx(5 * abs(gone - target), rel=1e-4)
    assert selection("zero_out").values(0).min().item() == pytest.approx(0.99995, abs=1e-5)


def test_orthogonality() -> None:
    assert float(orthogonality(torch.eye(4)[:3])) == pytest.approx(0.0, abs=1e-6)
    same = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    assert float(orthogonality(same)) == pytest.approx(1.0)
    even = torch.full((1, 4), 0.25)
    assert float(orthogonality(even)) == pytest.approx(0.75)


def test_rows_of_ortho_softmax_are_used_up_to_the_budget() -> None:
    one = OrthoSoftmax(subnets_of(SizesConfig(parts=(6, 3))), STEPS, OrthoSoftmaxConfig(), seed=0)
    set_scores(one, 50 * torch.eye(12).flip(0))
    used = [one.used(step) for step in range(STEPS)]
    assert set(used) == {3, 6}
    assert used == [one.used(step) for step in range(STEPS)]
    step = used.index(3)
    assert torch.allclose(one.values(step), torch.tensor([0.0] * 9 + [1.0] * 3), atol=1e-4)
    assert one.ranking() == list(range(11, -1, -1))
    set_scores(one, torch.tensor([[3.0, 2.0, 1.0, *range(-9, 0)]] * 12))
    assert one.ranking() == [0, 1, 2, 11, 10, 9, 8, 7, 6, 5, 4, 3]


def test_ortho_softmax_schedules() -> None:
    config = OrthoSoftmaxConfig(decay=0.5, penalty_warmup=0.5)
    one = OrthoSoftmax(subnets_of(COUNTED), STEPS, config, seed=0)
    assert one.penalties(0)["orthogonality"].item() == 0.0
    full = orthogonality(one.rows(STEPS // 2)[: one.used(STEPS // 2)])
    assert one.penalties(STEPS // 2)["orthogonality"].item() == pytest.approx(full.item())
    assert torch.allclose(one.rows(3), (one.scores / 0.125).softmax(1))
    assert torch.allclose(one.rows(39), (one.scores / 0.01).softmax(1))
    assert float(one.scale(torch.tensor(2.0))) == pytest.approx(1 - 0.135335, abs=1e-5)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("config", [COUNTED, BUDGETS])
def test_every_method_ends_with_a_ranking_of_all_parts(method: str, config: SizesConfig) -> None:
    one = selection(method, config, granularity="component" if config is BUDGETS else "module")
    for step in range(STEPS):
        values = one.values(step)
        assert values.shape == (len(one.parts),)
        assert values.dtype == torch.float32
        one.after_step(step)
        assert one.parts.cost(one.kept(step)) <= one.parts.whole
    assert sorted(one.ranking()) == list(range(len(one.parts)))
    assert one.parts.cost(one.kept(STEPS)) <= one.sizes.smallest


def test_fixed_orders() -> None:
    parts = subnets_of(COUNTED).parts
    assert ORDERS["random"](parts, 1) != ORDERS["random"](parts, 2)
    order = ORDERS["every_other_block"](parts, 0)
    assert [parts.entries[number].block for number in order[::4]] == evenly(BLOCKS) == [2, 0, 1]
    assert evenly(8) == [7, 3, 5, 1, 6, 2, 4, 0]
    assert sorted(evenly(6)[:3]) == [1, 3, 5]
    for count in (1, 2, 5, 12):
        assert sorted(evenly(count)) == list(range(count))
    assert list(selection("random").parameters()) == []


def test_history_gives_the_spans_of_parts() -> None:
    history = History(3)
    for step, kept in enumerate(([0, 1, 2], [0, 1], [0, 1], [0, 2], [0]), start=1):
        history.note(step, kept)
    assert [change["step"] for change in history.changes] == [2, 4, 5]
    assert [history.spans(part, 10) for part in range(3)] == [[(0, 10)], [(0, 4)], [(0, 2), (4, 5)]]
    resumed = History(3)
    resumed.load_state_dict(history.state_dict())
    resumed.note(6, [0])
    assert resumed.changes == history.changes


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SelectionConfig(method="fisher", full=0), "selection.full is 0; fisher looks at the gradients"),
        (lambda: SelectionConfig(method="best"), "selection.method='best' is unknown; choose one of top_k, zero_out"),  # type: ignore[arg-type]
        (lambda: SelectionConfig(share=1.0), "selection.share"),
        (lambda: SelectionConfig(sub=0.0), "selection.sub is 0.0; give a number above 0"),
        (lambda: TopKConfig(descent=1.5), "top_k.descent"),
        (lambda: TopKConfig(temperature=0.0), "top_k.temperature"),
        (lambda: ZeroOutConfig(iterations=0), "zero_out.iterations"),
        (lambda: OrthoSoftmaxConfig(decay=1.5), "ortho_softmax.decay"),
        (lambda: OrthoSoftmaxConfig(penalty=-1.0), "ortho_softmax.penalty"),
    ],
)
def test_wrong_settings_are_refused_by_name(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_entries_of_the_scores_are_named_after_their_parts() -> None:
    assert selection("top_k").entry_name(5) == "blocks.1.attention"
    assert selection("ortho_softmax").entry_name(12 + 6) == "blocks.1.conv"
