from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr, rankdata, spearmanr

from model.evaluation.protein_scores import correlations, ranks


def test_correlation_that_does_not_exist() -> None:
    values = torch.tensor([1.0, 2.0, 4.0])
    assert correlations(values, values**2) == pytest.approx((pearsonr(values, values**2)[0], 1.0))
    noise = 1e3 + torch.tensor([0, 1e-13, 2e-13], dtype=torch.float64)  # a constant, but for rounding
    for second in (torch.ones(3), torch.zeros(3), noise, -noise):
        assert np.isnan(correlations(values, second)).all()
        assert np.isnan(correlations(second, values)).all()
    assert np.isnan(correlations(values[:2], values[:2])).all()
    assert correlations(values, 1e-9 * values**2)[1] == pytest.approx(1)


@pytest.mark.parametrize("values", [5, 1000])
def test_correlations_with_equal_values(values: int) -> None:
    random = np.random.default_rng(2)
    first, second = random.integers(0, values, (2, 400)).astype(np.float64)
    expected = pearsonr(first, second)[0], spearmanr(first, second)[0]
    assert correlations(torch.from_numpy(first), torch.from_numpy(second)) == pytest.approx(expected, abs=1e-12)


def test_ranks() -> None:
    values = np.array([3.0, -1.0, 3.0, 7.0, 3.0, -1.0])
    assert ranks(torch.from_numpy(values)).tolist() == rankdata(values).tolist() == [4.0, 1.5, 4.0, 6.0, 4.0, 1.5]
