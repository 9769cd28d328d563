"""How often does the 95 % interval of an equal error rate hold the true rate? A simulation, because there it is known.

    python experiments/coverage.py

Draws imagined speakers, and tests them as exercise 4 does: one enrolled d-vector each and 13 pieces, all compared with
all. A speaker is a random vector. A recording is that vector and some noise, more of it for some speakers than for
others. The true rate is that of 1,000 speakers. For tests of two sizes, prints how often the interval that
exercises/thresholds.py prints holds the true rate, and how often the rule of 30 is right (Doddington et al. 2000,
Speech Communication 31). Takes about five minutes. Writes nothing.
"""
import numpy as np
import pandas as pd

import project  # noqa: F401 (finds the lab)

from exercises.scoring import bootstrap_interval, closest_rates, cosine_scores, equal_error_rate, rates_at
from exercises.scoring import rule_of_three
from support.messages import check_settings, run_script

SIZE = 16  # numbers in an imagined d-vector
N_PIECES = 13  # of each speaker: the demo voices have so many of 1 s
SPREAD = 0.3  # of the noise: its logarithm has this standard deviation from speaker to speaker
N_POPULATION = 1000  # speakers from whom the true rate is found
NUMBERS = [10, 20]  # speakers of a test


def draw_trials(n_speakers, noise, rng):
    """All trials of one imagined test: (scores, is_target, first, second), each (n_trials,)."""
    voices = rng.normal(size=(n_speakers, 1, SIZE))
    loudness = noise * np.exp(SPREAD * rng.normal(size=(n_speakers, 1, 1)))
    recordings = voices + loudness * rng.normal(size=(n_speakers, 1 + N_PIECES, SIZE))
    scores = cosine_scores(recordings[:, 1:].reshape(-1, SIZE), recordings[:, 0])  # (n_speakers * N_PIECES, n_speakers)
    first = np.repeat(np.arange(n_speakers), N_PIECES * n_speakers)
    second = np.tile(np.arange(n_speakers), N_PIECES * n_speakers)
    return scores.ravel(), first == second, first, second


def main(
        # Settings
        n_tests=500,  # imagined tests of each size
        noise=0.5,  # how loud the noise is, on average; 1: as much as speakers differ; try 0.7
        seed=0,  # for the random numbers
):
    check_settings(main, locals())
    rng = np.random.default_rng(seed)
    scores, is_target, _, _ = draw_trials(N_POPULATION, noise, rng)
    true_rate = equal_error_rate(scores[is_target], scores[~is_target])
    threshold, _, true_alarm = closest_rates(scores[is_target], scores[~is_target])
    print('True EER : %.2f %%' % true_rate, flush=True)
    rows = []
    for n_speakers in NUMBERS:
        is_held, within = [], []
        for _ in range(n_tests):
            scores, is_target, first, second = draw_trials(n_speakers, noise, rng)
            target, impostor = scores[is_target], scores[~is_target]
            low, high = (bootstrap_interval(scores, is_target, first, second) if equal_error_rate(target, impostor)
                         else (0, rule_of_three(n_speakers)))
            is_held.append(low <= true_rate <= high)
            alarm = rates_at(threshold, target, impostor)[1]
            if alarm * len(impostor) >= 30:
                within.append(abs(alarm - true_alarm) <= 0.3 * alarm)
        rows.append((n_speakers, 100 * np.mean(is_held), len(within), 100 * pd.Series(within, dtype=float).mean()))
    table = pd.DataFrame(rows, columns=['Speakers', '95 % interval holds', 'Tests with 30 errors', 'within 30 %'])
    print(table.to_string(index=False, float_format='%.1f'))


if __name__ == '__main__':
    run_script(main)
