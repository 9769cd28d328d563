"""Score normalisation: measure a score in units of what the same d-vectors score with strangers, the cohort.

Some recordings are near to everybody, others to nobody. So one threshold does not fit all. The mean and the standard
deviation of a recording's scores with the cohort say which kind it is. The cohort are speakers of the training set, one
d-vector for each, which deep_dive/calibration.py keeps in checkpoint_best.pth. Nothing here needs the network.
"""
import numpy as np

NORMALISATIONS = [None, 's-norm', 'as-norm']
COHORT_SIZE = 400  # speakers, at most
N_NEAREST = 50  # speakers of the cohort that as-norm looks at


def cohort_statistics(cohort_scores, normalise):
    """The mean and the standard deviation of the scores of each recording with the cohort: (n,), (n,).

    cohort_scores: (n, n_cohort). 's-norm' takes all of them, 'as-norm' the N_NEAREST highest of each recording.
    """
    if normalise == 'as-norm':
        n_nearest = min(N_NEAREST, cohort_scores.shape[1])
        cohort_scores = np.partition(cohort_scores, -n_nearest, axis=1)[:, -n_nearest:]  # (n, n_nearest)
    return cohort_scores.mean(axis=1), np.maximum(cohort_scores.std(axis=1), 1e-6)


def normalise_scores(scores, mean, deviation, other_mean, other_deviation):
    """Normalise scores by both of their sides: ((s - mean_1) / deviation_1 + (s - mean_2) / deviation_2) / 2.

    This is s-norm (Kenny 2010, Odyssey). If mean and deviation are those of the nearest speakers of the cohort, it is
    as-norm (Matejka et al. 2017, Interspeech; as-norm1 there). The arrays have one shape, or broadcast to it.
    """
    return ((scores - mean) / deviation + (scores - other_mean) / other_deviation) / 2
