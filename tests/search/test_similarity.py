"""The measures against closed forms, and what must not change them."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from compress.search.similarity import MEASURES, distance_correlation, distance_matrix, linear_cka, svcca, svcca_matrix

ALL = [distance_correlation, svcca, linear_cka]


def normal(rows: int, width: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))


def rotation(width: int, seed: int = 5) -> Tensor:
    return torch.linalg.qr(normal(width, width, seed)).Q


@pytest.mark.parametrize("measure", ALL)
def test_rotation_scale_shift_and_order_change_nothing(measure: Callable[[Tensor, Tensor], float]) -> None:
    x = normal(200, 6)
    y = x @ normal(6, 4, 1) + normal(200, 4, 2)
    plain = measure(x, y)
    assert 0.1 < plain < 0.99
    assert measure(y, x) == pytest.approx(plain, abs=1e-6)
    assert measure(3.5 * (x @ rotation(6)) + 2.0, 0.1 * (y @ rotation(4))) == pytest.approx(plain, abs=1e-5)
    order = torch.randperm(200, generator=torch.Generator().manual_seed(3))
    assert measure(x[order], y[order]) == pytest.approx(plain, abs=1e-6)
    assert measure(x, -2 * x @ rotation(6)) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("measure", ALL)
def test_what_does_not_vary_correlates_with_nothing(measure: Callable[[Tensor, Tensor], float]) -> None:
    assert measure(torch.ones(50, 3), normal(50, 4)) == 0.0


@pytest.mark.parametrize("measure", ALL)
def test_rows_must_correspond(measure: Callable[[Tensor, Tensor], float]) -> None:
    with pytest.raises(ValueError, match="same rows"):
        measure(normal(5, 3), normal(6, 3))


def test_distance_correlation_of_binary_variables_is_phi() -> None:
    """For two values on either side every distance is 0 or 1, and R is the absolute correlation."""
    x = torch.tensor([0.0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1])
    y = torch.tensor([0.0, 0, 0, 1, 0, 1, 1, 1, 0, 1, 1, 0])
    phi = abs(float(np.corrcoef(x, y)[0, 1]))
    assert distance_correlation(x[:, None], y[:, None]) == pytest.approx(phi, abs=1e-9)


@pytest.mark.parametrize("rho", [0.3, 0.8])
def test_distance_correlation_of_normal_variables(rho: float) -> None:
    """Szekely et al. 2007, theorem 7."""
    x = normal(1500, 1).double()
    noise = normal(1500, 1, 1).double()
    noise -= x * (noise * x).sum() / (x * x).sum()
    y = rho * x / x.std() + math.sqrt(1 - rho**2) * noise / noise.std()
    top = rho * math.asin(rho) + math.sqrt(1 - rho**2) - rho * math.asin(rho / 2) - math.sqrt(4 - rho**2) + 1
    expected = math.sqrt(top / (1 + math.pi / 3 - math.sqrt(3)))
    assert distance_correlation(x, y) == pytest.approx(expected, abs=0.03)


def test_one_dimension_is_plain_correlation() -> None:
    x, y = normal(100, 1), normal(100, 1, 1) + 0.5 * normal(100, 1)
    plain = abs(float(np.corrcoef(x[:, 0], y[:, 0])[0, 1]))
    assert svcca(x, y) == pytest.approx(plain, abs=1e-5)
    assert linear_cka(x, y) == pytest.approx(plain**2, abs=1e-5)


def test_svcca_is_the_mean_canonical_correlation() -> None:
    """Two shared directions of four, whatever invertible map they went through."""
    shared, own = normal(4000, 2), normal(4000, 4, 1)
    basis = torch.linalg.qr(torch.cat([shared, own], 1) - torch.cat([shared, own], 1).mean(0)).Q
    x, y = basis[:, :4] @ normal(4, 4, 2), basis[:, [0, 1, 4, 5]] @ normal(4, 4, 3)
    assert svcca(x, y, share=1.0) == pytest.approx(0.5, abs=1e-4)


def test_svcca_keeps_the_share_of_singular_values() -> None:
    basis = torch.linalg.qr(normal(300, 4) - normal(300, 4).mean(0)).Q
    x = basis[:, :3] * torch.tensor([90.0, 9.0, 1.0])
    noise = basis[:, [3]]
    y = torch.cat([basis[:, :2] * 50, noise * 50], 1)
    assert svcca(x, y, share=0.98) == pytest.approx(1.0, abs=1e-4)
    assert svcca(x, y, share=0.995) == pytest.approx(2 / 3, abs=1e-4)


def test_cka_of_shared_directions() -> None:
    """With orthonormal columns CKA is the number of shared ones over the root of the product of widths."""
    basis = torch.linalg.qr(normal(300, 6) - normal(300, 6).mean(0)).Q
    assert linear_cka(basis[:, :4], basis[:, 2:5]) == pytest.approx(2 / math.sqrt(12), abs=1e-5)


def test_matrices_hold_the_measures() -> None:
    sample = [normal(64, 5)]
    for seed in (1, 2, 3):
        sample.append(sample[-1] @ rotation(5, seed) + 0.5 * normal(64, 5, 10 + seed))
    pairs = {"svcca": svcca, "cka": linear_cka, "distance_correlation": distance_correlation}
    for name, one in pairs.items():
        options = {"group": 64, "unit_length": False} if name == "distance_correlation" else {}
        matrix = MEASURES[name](sample, **options)
        assert matrix.shape == (4, 4)
        expected = [[one(x, y) for y in sample] for x in sample]
        np.testing.assert_allclose(matrix, expected, atol=1e-5)
        assert matrix[0, 1] > matrix[0, 3]


def test_groups_are_averaged_and_rows_get_unit_length() -> None:
    x, y = normal(11, 3), normal(11, 3, 1)
    groups = [(x[:5], y[:5]), (x[5:10], y[5:10])]
    mean = sum(distance_correlation(a, b) for a, b in groups) / 2
    assert distance_matrix([x, y], group=5, unit_length=False)[0, 1] == pytest.approx(mean)
    lengths = torch.rand(11, 1, generator=torch.Generator().manual_seed(0)) + 0.1
    few = distance_matrix([x, y], group=100, unit_length=False)[0, 1]
    assert few == pytest.approx(distance_correlation(x, y))
    np.testing.assert_allclose(distance_matrix([x, y]), distance_matrix([x * lengths, y]), atol=1e-6)


def test_samples_that_say_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="SVCCA of 8 rows of width 8 says nothing"):
        svcca_matrix([normal(8, 8)] * 2)
    with pytest.raises(ValueError, match="needs at least 2 utterances or frames, but the sample has 1"):
        distance_matrix([normal(1, 8)] * 2)
