"""PLDA: score two d-vectors by how much likelier they are if one speaker said both than if two speakers did.

The two-covariance model of Brümmer & de Villiers 2010 ("The speaker partitioning problem", Odyssey):

    x = y + e,   y ~ N(m, B),   e ~ N(0, W)

y is the voice of a speaker. It is drawn once for each speaker. e is what differs from one recording to the next. It is
drawn for each recording. B is the covariance between speakers, W that within speakers. They are estimated by the EM
algorithm.

Lengths of d-vectors do not follow a normal distribution, so each is scaled to length 1 (Garcia-Romero & Espy-Wilson
2011, Interspeech). The d-vectors of model.py have that length. The paper centres and whitens first. Here m is
subtracted afterwards. Nothing here needs the network.
"""
import numpy as np
from scipy.linalg import eigh

N_STEPS = 20  # of EM; it begins near its goal, so more change little


def find_axes(between, within):
    """The axes in which all directions are independent: (variances (size,), axes (size, size)).

    B and W are (size, size). The axes V solve V'WV = I and V'BV = diag(variances). So after x V, recordings of one
    speaker vary by 1 in each direction, and speakers by the variance of that direction.
    """
    variances, axes = eigh(between, within)
    return np.maximum(variances, 0), axes  # a variance of 0 may come out as -1e-17


def estimate_plda(vectors, speakers, *, n_steps=N_STEPS, smoothing=0.0):
    """Estimate m, B and W by EM: (mean (1, size), between (size, size), within (size, size), objectives (n_steps,)).

    vectors: (n, size). speakers: (n,). Let V be the axes of find_axes, u = (x - m) V, and b the variances. A speaker
    with n recordings, whose mean is u_mean, then has in each direction

        E-step:  E[y] = n b / (1 + n b) u_mean,   Var[y] = b / (1 + n b)
        M-step:  m += mean of E[y] over speakers,   B = covariance of E[y] over speakers + mean of Var[y],
                 W = mean of (u - E[y])(u - E[y])' + Var[y] over recordings

    and m, B and W are turned back into the directions of x. smoothing: as if so large a share of further recordings
    varied alike in all directions, because few recordings cannot say how much they vary in each. This is a prior. The
    objectives are the log-likelihood of the vectors plus that of the prior, before each step. They never fall.
    """
    names, number, counts = np.unique(speakers, return_inverse=True, return_counts=True)
    n, size = vectors.shape
    means = np.zeros((len(names), size))
    np.add.at(means, number, vectors)
    means /= counts[:, None]
    scatter = (vectors - means[number]).T @ (vectors - means[number])  # around the mean of each speaker
    alike = max(np.trace(scatter) / n / size, 1e-9) * np.eye(size)

    # Begin with what one would compute without EM
    mean = means.mean(axis=0, keepdims=True)
    between, within = np.cov(means.T, ddof=0).reshape(size, size), scatter / n
    within = (within + smoothing * alike) / (1 + smoothing)
    counts, objectives = counts[:, None], []
    for _ in range(n_steps):
        # E-step
        variances, axes = find_axes(between, within)
        averages = (means - mean) @ axes  # (n_speakers, size)
        voices = counts * variances / (1 + counts * variances) * averages  # E[y]
        doubts = variances / (1 + counts * variances)  # Var[y]
        scatter_here = axes.T @ scatter @ axes

        # The objective, before the step
        squares = np.trace(scatter_here) + np.sum(counts * averages * (averages - voices))
        log_within = np.linalg.slogdet(within)[1]
        likelihood = n * (size * np.log(2 * np.pi) + log_within) + np.sum(np.log1p(counts * variances)) + squares
        prior = smoothing * n * (log_within + np.trace(np.linalg.solve(within, alike)))
        objectives.append(-(likelihood + prior) / 2)

        # M-step
        back = axes.T @ within  # the inverse of the axes
        move = voices.mean(axis=0, keepdims=True)
        left = averages - voices
        between_here = (voices - move).T @ (voices - move) / len(names) + np.diag(doubts.mean(axis=0))
        within_here = (scatter_here + (counts * left).T @ left + np.diag(np.sum(counts * doubts, axis=0))) / n
        mean = mean + move @ back
        between, within = back.T @ between_here @ back, back.T @ within_here @ back
        within = (within + smoothing * alike) / (1 + smoothing)
    return mean, between, within, np.array(objectives)


def prepare(vectors, mean, between, within):
    """Write each vector so that a score is a sum of products: (points (n, size), own (n,)).

    The score of x_1 and x_2 is the log-likelihood ratio

        log p(x_1, x_2 | one speaker) - log p(x_1 | any speaker) - log p(x_2 | any speaker)

    With u = (x - m) V and the variances b of find_axes, it is, summed over all directions,

        b / (2 b + 1) u_1 u_2  -  b^2 / (2 (b + 1) (2 b + 1)) (u_1^2 + u_2^2)  +  log(b + 1) - log(2 b + 1) / 2

    So it is points_1 · points_2 + own_1 + own_2, and all scores are one product of matrices. vectors: (n, size).
    """
    variances, axes = find_axes(between, within)
    u = (vectors - mean) @ axes
    points = np.sqrt(variances / (2 * variances + 1)) * u
    constant = np.sum(np.log1p(variances) - np.log1p(2 * variances) / 2)
    own = constant / 2 - u ** 2 @ (variances ** 2 / ((variances + 1) * (2 * variances + 1))) / 2
    return points, own
