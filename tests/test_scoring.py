"""Error rates against hand-worked examples and brute force."""
import numpy as np
import pytest

import scoring


@pytest.mark.parametrize('target, impostor, eer', [
    ([0.9, 0.8, 0.7], [0.1, 0.2, 0.3], 0),  # apart
    ([0.1, 0.2, 0.3], [0.9, 0.8, 0.7], 100),  # the wrong way round
    ([0.9, 0.4], [0.6, 0.1], 50),  # from 0.6 up: one of two missed, one of two let in
    ([-0.1, -0.2, -0.3, -0.9], [-0.8, -0.95, -0.96, -0.97], 25),  # from -0.8 up: one of four missed, one of four let in
    ([0.5, 0.5], [0.5, 0.5], 50),  # ties: everybody or nobody, half of 0 + 100
])
def test_equal_error_rate_by_hand(target, impostor, eer):
    assert scoring.equal_error_rate(np.array(target), np.array(impostor)) == pytest.approx(eer)


def test_equal_error_rate_against_every_threshold():
    rng = np.random.default_rng(0)
    for _ in range(50):
        target, impostor = rng.normal(1, 1, 37).round(1), rng.normal(0, 1, 211).round(1)
        rates = [(np.mean(target < t), np.mean(impostor >= t)) for t in np.append(np.arange(-60, 61) / 10, np.inf)]
        gap = min(abs(miss - alarm) for miss, alarm in rates)
        means = [50 * (miss + alarm) for miss, alarm in rates if abs(miss - alarm) < gap + 1e-12]
        assert min(abs(scoring.equal_error_rate(target, impostor) - mean) for mean in means) < 1e-9
