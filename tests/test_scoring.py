"""Error rates against hand-worked examples and brute force over all thresholds."""
import numpy as np
import pytest

from exercises import scoring
from support.messages import LabError


@pytest.mark.parametrize('target, impostor, eer', [
    ([0.9, 0.8, 0.7], [0.1, 0.2, 0.3], 0),  # apart
    ([0.1, 0.2, 0.3], [0.9, 0.8, 0.7], 100),  # the wrong way round
    ([0.9, 0.4], [0.6, 0.1], 50),  # from 0.6 up: one of two missed, one of two let in
    # From -0.8 up: one of four missed, one of four let in
    ([-0.1, -0.2, -0.3, -0.9], [-0.8, -0.95, -0.96, -0.97], 25),
    ([0.5, 0.5], [0.5, 0.5], 50),  # ties: everybody or nobody, half of 0 + 100
])
def test_equal_error_rate_by_hand(target, impostor, eer):
    assert scoring.equal_error_rate(np.array(target), np.array(impostor)) == pytest.approx(eer)


def test_how_far_another_definition_of_the_rate_may_be():
    assert scoring.eer_tolerance(10, 90) == 2.5 and scoring.eer_tolerance(130, 50) == 0.5
    # Of two targets and four impostors: one impostor is let in below 0.4, 25 %. Between the thresholds below and above
    # 0.4 the misses go from 0 to 50 %, so the straight line has 25 %. The nearest of both has (0 + 25) / 2
    assert scoring.equal_error_rate(np.array([0.9, 0.4]), np.array([0.6, 0.1, 0.2, 0.3])) == 12.5
    rng = np.random.default_rng(0)
    for n_targets, n_impostors in ((2, 4), (7, 30), (30, 11), (59, 700)):
        for _ in range(100):
            target, impostor = rng.normal(1, 1, n_targets), rng.normal(0, 1, n_impostors)
            _, misses, alarms = scoring.error_rates(target, impostor)
            line = 100 * np.interp(0, misses - alarms, misses)  # where the difference is 0
            away = abs(scoring.equal_error_rate(target, impostor) - line)
            assert away <= scoring.eer_tolerance(n_targets, n_impostors) + 1e-9


def test_error_rates_by_hand():
    thresholds, misses, false_alarms = scoring.error_rates([0.8, 0.4, 0.4], [0.4, -0.2])
    np.testing.assert_allclose(thresholds, [-0.2, 0.1, 0.6, 0.8], atol=2e-6)
    np.testing.assert_allclose(misses, [0, 0, 2 / 3, 1])
    np.testing.assert_allclose(false_alarms, [1, 0.5, 0, 0])


def test_weights_count_trials_several_times():
    target, impostor = [0.9, 0.5, 0.4], [0.6, 0.3]
    weighted = scoring.error_rates(target, impostor, target_weights=[1, 3, 0], impostor_weights=[2, 1])
    repeated = scoring.error_rates([0.9, 0.5, 0.5, 0.5], [0.6, 0.6, 0.3])
    for threshold, miss, alarm in zip(*repeated):
        place = np.argmin(np.abs(weighted[0] - threshold))
        assert (weighted[1][place], weighted[2][place]) == pytest.approx((miss, alarm))


def brute_force(target, impostor):
    """(miss, false alarm) at every threshold that matters."""
    thresholds = np.append(np.arange(-80, 81) / 10, -np.inf)
    return [(np.mean(target <= t), np.mean(impostor > t)) for t in thresholds]


def test_rates_against_every_threshold():
    rng = np.random.default_rng(0)
    for _ in range(50):
        target, impostor = rng.normal(1, 1, 37).round(1), rng.normal(0, 1, 211).round(1)
        rates = brute_force(target, impostor)
        gap = min(abs(miss - alarm) for miss, alarm in rates)
        means = [50 * (miss + alarm) for miss, alarm in rates if abs(miss - alarm) < gap + 1e-12]
        assert min(abs(scoring.equal_error_rate(target, impostor) - mean) for mean in means) < 1e-9
        cost = min(0.01 * miss + 0.99 * alarm for miss, alarm in rates) / 0.01
        assert scoring.min_dcf(target, impostor) == pytest.approx(cost)
        points = set(zip(*(np.round(part, 9) for part in scoring.error_rates(target, impostor)[1:])))
        assert points == {(round(miss, 9), round(alarm, 9)) for miss, alarm in rates}


def test_detection_cost_by_hand():
    # above 0.5: one of two targets missed, no impostor let in: 0.01 * 0.5 / 0.01; all accepted would cost 99
    assert scoring.min_dcf([0.9, 0.1], [0.5, 0.2]) == pytest.approx(0.5)
    assert scoring.min_dcf([0.9, 0.8], [-0.5, 0.2]) == 0
    assert scoring.min_dcf([-0.9], [-0.5]) == 1  # nothing better than to accept nobody
    assert scoring.min_dcf([0.9, 0.1], [0.5, 0.2], p_target=0.5) == pytest.approx(0.5)
    # p = 0.9: below 0.1 all is accepted, at 0.1 * 1; above 0.5 half of the targets is missed, at 0.9 * 0.5
    assert scoring.min_dcf([0.9, 0.1], [0.5, 0.2], p_target=0.9) == pytest.approx(1)


def test_a_score_must_be_above_the_threshold():
    assert scoring.rates_at(0.5, [0.5, 0.6], [0.5, 0.4, 0.7]) == (0.5, pytest.approx(1 / 3))


def test_thresholds_that_are_asked_for():
    target, impostor = np.array([0.9, 0.8, 0.7, 0.3]), np.array([0.6, 0.2, 0.1, 0.4, 0.5])
    assert scoring.choose_threshold(0.95, target, impostor) == 0.95
    thres = scoring.choose_threshold('eer', target, impostor)
    assert scoring.rates_at(thres, target, impostor) == (0.25, pytest.approx(0.2))
    thres = scoring.choose_threshold(('far', 0.2), target, impostor)
    assert scoring.choose_threshold(['far', 0.2], target, impostor) == thres
    assert thres == pytest.approx(0.55) and scoring.rates_at(thres, target, impostor)[1] == pytest.approx(0.2)
    with pytest.raises(LabError, match='with 5 impostor trials, a false-accept rate must be at least 1 / 5 '):
        scoring.choose_threshold(('far', 0.19), target, impostor)
    assert scoring.choose_threshold(('far', 1 / 90), target, np.arange(90) / 100) > 0.87
    for wrong in ('ear', ('far',), None, True, ('frr', 0.1), ('far', '1 %'), float('nan')):
        with pytest.raises(LabError, match="it must be a number, 'eer', or"):
            scoring.choose_threshold(wrong, target, impostor)


def test_interval_by_drawing_speakers():
    """Perfect scores leave no doubt; random ones of few speakers leave more than drawing trials would say."""
    rng = np.random.default_rng(0)
    speaker = np.repeat(np.arange(12), 6)
    first, second = scoring.all_pairs(len(speaker))
    rows, columns = speaker[first], speaker[second]
    perfect = (rows == columns) * 1.0
    assert scoring.bootstrap_interval(perfect, rows == columns, rows, columns, n_rounds=50) == (0, 0)
    quality = rng.normal(0, 2, 12)  # each speaker is easy or hard to recognise, in all of their trials
    scores = (rows == columns) * (1 + quality[rows]) + rng.normal(0, 1, len(rows))
    low, high = scoring.bootstrap_interval(scores, rows == columns, rows, columns, n_rounds=200)
    eer = scoring.equal_error_rate(scores[rows == columns], scores[rows != columns])
    # By trials: 2 * 1.96 * sqrt(0.25 * 0.75 / 180), about 12 at its widest
    assert low < eer < high and high - low > 8
    assert (low, high) == scoring.bootstrap_interval(scores, rows == columns, rows, columns, n_rounds=200)
    for scale in (1e-5, 1e-3, 100):  # of a network that is hardly trained, and of scores that are no cosines
        assert scoring.bootstrap_interval(scale * scores, rows == columns, rows, columns, n_rounds=200) == (
            pytest.approx((low, high), abs=1.5))
    of_one = scoring.bootstrap_interval(scores[:3], rows[:3] == 0, rows[:3] * 0, columns[:3] * 0)
    assert np.isnan(of_one).all()


def test_cosine_by_hand():
    scores = scoring.cosine_scores(np.array([[3.0, 4.0], [0.0, -2.0]]),
                                   np.array([[1.0, 0.0], [0.0, 5.0], [4.0, 3.0]]))
    np.testing.assert_allclose(scores, [[0.6, 0.8, 0.96], [0, -1, -0.6]], atol=1e-12)
    with pytest.raises(LabError, match='d-vectors of 2 numbers cannot be compared with those of 3'):
        scoring.cosine_scores(np.ones((1, 2)), np.ones((1, 3)))


def test_scores_that_are_no_numbers_are_refused():
    wrong = np.array([[0.0, 0.0], [np.nan, 1.0], [1.0, 1.0]])
    with pytest.raises(LabError, match='2 of 3 scores are not numbers: a d-vector is zero or NaN'):
        scoring.cosine_scores(wrong, np.ones((1, 2)))
    with pytest.raises(LabError, match='1 of 2 scores are not numbers'):
        scoring.trial_scores(wrong, np.array([0, 2]), np.array([2, 2]))


def test_scores_of_trials_by_hand(monkeypatch):
    monkeypatch.setattr(scoring, 'TRIALS_AT_ONCE', 2)  # more trials than are scored at once
    vectors = np.array([[3.0, 4.0], [2.0, 0.0], [0.0, -2.0]])
    scores = scoring.trial_scores(vectors, np.array([0, 0, 1]), np.array([1, 2, 2]))
    np.testing.assert_allclose(scores, [0.6, -0.8, 0], atol=1e-12)
    assert scoring.trial_scores(vectors[:1], *scoring.all_pairs(1)).shape == (0,)


def test_interval_of_an_accuracy_by_hand():
    """Two speakers, one always right, one never. Drawn: both right 1/4, one of each 1/2, both wrong 1/4."""
    right = np.array([True, True, False, False])
    assert scoring.accuracy_interval(right, ['a', 'a', 'b', 'b']) == (0, 100)
    assert scoring.accuracy_interval(right, ['a', 'b', 'a', 'b']) == (50, 50)  # each is right once
    alone = scoring.accuracy_interval(np.array([True, False, False]), ['a', 'a', 'a'])
    assert alone == pytest.approx((100 / 3, 100 / 3))
