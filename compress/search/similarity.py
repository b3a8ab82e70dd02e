"""How alike two sets of representations of the same utterances or frames are: three measures, from 0 to 1.

All take matrices of shape `(rows, width)` whose rows correspond to each other, and none of them changes when a matrix
is rotated or scaled. What they are computed from is a sample of bounded size (`compress.search.boundaries`), so memory
does not grow with the data.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations_with_replacement
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

Measure = Literal["distance_correlation", "svcca", "cka"]
Matrix = NDArray[np.float64]

SVCCA_SHARE = 0.99
"""Of the sum of singular values; so much is kept before CCA (99 % in Raghu et al. 2017 and in CoMFLP's code)."""


def distance_correlation(x: Tensor, y: Tensor) -> float:
    """Computes distance correlation (Szekely, Rizzo, Bakirov 2007, definition 3, equations 2.8 to 2.10; V-statistic).

    0 where one side does not vary. CoMFLP's published code leaves the final square root out.

    Args:
        x: `(rows, width)`.
        y: `(rows, another width)`.
    """
    _check_rows(x, y)
    return float(_distance_correlations([x, y])[0, 1])


def svcca(x: Tensor, y: Tensor, share: float = SVCCA_SHARE) -> float:
    """Computes the mean canonical correlation of the leading singular directions (SVCCA, Raghu et al. 2017, section 2).

    Args:
        x: `(rows, width)`, with many more rows than columns: with fewer, everything correlates with everything.
        y: `(rows, another width)`.
        share: of the sum of singular values that the kept directions hold.
    """
    _check_rows(x, y)
    return _mean_cca(_basis(x, share), _basis(y, share))


def linear_cka(x: Tensor, y: Tensor) -> float:
    """Computes linear centred kernel alignment (Kornblith et al. 2019, section 3, "linear CKA").

    Args:
        x: `(rows, width)`.
        y: `(rows, another width)`.
    """
    _check_rows(x, y)
    x, y = _centred(x), _centred(y)
    norm = _self_norm(x) * _self_norm(y)
    return _cross_norm(x, y) / norm if norm else 0.0


def distance_matrix(sample: Sequence[Tensor], *, group: int = 512, unit_length: bool = True) -> Matrix:
    """Computes distance correlation between all boundaries, as the mean over groups of rows that CoMFLP's code takes.

    Args:
        sample: per boundary `(rows, width)`.
        group: rows in one group; if there are fewer, they are the group; a remainder that fills no group is left out.
            Memory grows with its square.
        unit_length: whether each row is first divided by its length.

    Returns:
        `(boundaries, boundaries)`.

    Raises:
        ValueError: if there are fewer than two rows.
    """
    rows = len(sample[0])
    group = min(group, rows)
    if group < 2:
        raise ValueError(f"Distance correlation needs at least 2 utterances or frames, but the sample has {rows}.")
    total = np.zeros((len(sample), len(sample)))
    for start in range(0, rows - group + 1, group):
        grouped = [boundary[start : start + group] for boundary in sample]
        if unit_length:
            grouped = [F.normalize(boundary.double(), dim=1) for boundary in grouped]
        total += _distance_correlations(grouped)
    return total / (rows // group)


def svcca_matrix(sample: Sequence[Tensor], *, share: float = SVCCA_SHARE) -> Matrix:
    """Computes SVCCA between all boundaries.

    Args:
        sample: per boundary `(rows, width)`.
        share: of the sum of singular values that the kept directions hold.

    Returns:
        `(boundaries, boundaries)`.

    Raises:
        ValueError: if there are not more rows than columns.
    """
    rows, width = sample[0].shape
    if rows <= width:
        raise ValueError(
            f"SVCCA of {rows} rows of width {width} says nothing, since as many directions always correlate: use more "
            "speech, frames instead of means (matrix.feature), or another measure."
        )
    return _symmetric([_basis(boundary, share) for boundary in sample], _mean_cca)


def cka_matrix(sample: Sequence[Tensor]) -> Matrix:
    """Computes linear CKA between all boundaries.

    Args:
        sample: per boundary `(rows, width)`.

    Returns:
        `(boundaries, boundaries)`.
    """
    centred = [_centred(boundary) for boundary in sample]
    norms = [_self_norm(boundary) for boundary in centred]
    scaled = [boundary / norm**0.5 if norm else boundary for boundary, norm in zip(centred, norms, strict=True)]
    return _symmetric(scaled, _cross_norm)


MEASURES: Mapping[Measure, Callable[..., Matrix]] = {
    "distance_correlation": distance_matrix,
    "svcca": svcca_matrix,
    "cka": cka_matrix,
}
"""By name; each takes the sample and has options of its own."""


def _check_rows(x: Tensor, y: Tensor) -> None:
    if x.ndim != 2 or y.ndim != 2 or len(x) != len(y) or len(x) < 2:
        raise ValueError(f"Two matrices with the same rows, at least 2, are needed; got {[*x.shape]} and {[*y.shape]}.")


def _distance_correlations(sample: Sequence[Tensor]) -> Matrix:
    """Correlates every pair of boundaries; all centred distance matrices of one group are held at once."""
    centred = torch.stack([_centred_distances(boundary) for boundary in sample]).flatten(1)
    covariances = (centred @ centred.T).clamp_min(0)
    variances = covariances.diagonal()
    scale = (variances[:, None] * variances).sqrt()
    correlations = torch.where(scale > 0, covariances / scale.clamp_min(torch.finfo(scale.dtype).tiny), 0.0)
    return correlations.clamp_max(1).sqrt().numpy()


def _centred_distances(x: Tensor) -> Tensor:
    distances: Tensor = torch.cdist(x.double(), x.double(), compute_mode="donot_use_mm_for_euclid_dist")
    return distances - distances.mean(0) - distances.mean(1, keepdim=True) + distances.mean()


def _centred(x: Tensor) -> Tensor:
    """Centres in float32: the largest matrices are those of the sample itself."""
    centred: Tensor = x.float() - x.double().mean(0).float()
    return centred


def _basis(x: Tensor, share: float) -> Tensor:
    """Returns orthonormal columns `(rows, kept)` that span the leading directions; none if nothing varies."""
    left, values, _ = torch.linalg.svd(_centred(x), full_matrices=False)
    tiny = values[0] * max(x.shape) * torch.finfo(values.dtype).eps
    values = torch.where(values > tiny, values, 0.0).double()
    reached = values.cumsum(0) / values.sum()  # nan where nothing varies, and then no value is above 0
    directions = int((reached < share).sum()) + 1
    leading: Tensor = left[:, : min(directions, int((values > 0).sum()))].contiguous()
    return leading


def _mean_cca(x: Tensor, y: Tensor) -> float:
    if not x.shape[1] or not y.shape[1]:
        return 0.0
    return float(torch.linalg.svdvals(x.T @ y).clamp_max(1).mean())


def _self_norm(x: Tensor) -> float:
    """Returns the Frobenius norm of `x.T @ x`."""
    return math.sqrt(_cross_norm(x, x))


def _cross_norm(x: Tensor, y: Tensor) -> float:
    """Returns the squared Frobenius norm of `x.T @ y`."""
    return float((x.T @ y).double().square().sum())


def _symmetric(parts: Sequence[Tensor], measure: Callable[[Tensor, Tensor], float]) -> Matrix:
    matrix = np.eye(len(parts))
    for left, right in combinations_with_replacement(range(len(parts)), 2):
        matrix[left, right] = matrix[right, left] = measure(parts[left], parts[right])
    return matrix
