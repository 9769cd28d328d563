"""Measure how good scores are: equal error rate, detection cost, DET curve, confidence intervals.

A trial compares two recordings and gives a score. In a *target* trial both are by one speaker. In an
*impostor* trial they are by two. A trial is accepted if its score is above the threshold. Nothing here needs
the network.
"""
import numpy as np
from scipy.optimize import isotonic_regression

from support.messages import LabError, is_number

TRIALS_AT_ONCE = 100000  # so many need about 100 MB of memory


def cosine_scores(embeddings, others):
    """Cosine similarity of each row of (n, size) with each of (m, size): (n, m).

    Raises LabError if the sizes differ.
    """
    check_sizes(embeddings, others)
    products = embeddings @ others.T
    with np.errstate(invalid='ignore', divide='ignore'):
        scores = products / np.outer(lengths_of(embeddings), lengths_of(others))
    return only_numbers(scores.astype(np.float64))


def check_sizes(embeddings, others):
    """Raise LabError if the rows of (n, size) and (m, size) have two sizes."""
    if embeddings.shape[1] != others.shape[1]:
        raise LabError('d-vectors of %d numbers cannot be compared with those of %d. Run python enroll.py '
                       'again.' % (embeddings.shape[1], others.shape[1]))


def only_numbers(scores):
    """Return the scores. Raises LabError if one is not a number: no threshold could decide about it."""
    if not np.isfinite(scores).all():
        raise LabError('%d of %d scores are not numbers: a d-vector is zero or NaN.\nRun python enroll.py '
                       'again, or choose another checkpoint or backend.'
                       % (np.sum(~np.isfinite(scores)), np.size(scores)))
    return scores


def lengths_of(vectors):
    """The length of each row (n, size): (n,)."""
    return np.sqrt(np.einsum('ij,ij->i', vectors, vectors))


def trial_scores(vectors, first, second):
    """Cosine similarity of the rows first[i] and second[i] of vectors (n, size): (n_trials,)."""
    with np.errstate(invalid='ignore', divide='ignore'):
        unit = vectors / lengths_of(vectors)[:, None]
    return only_numbers(trial_products(unit, first, second))


def trial_products(vectors, first, second):
    """The dot product of the rows first[i] and second[i] of vectors (n, size): (n_trials,)."""
    starts = range(0, len(first), TRIALS_AT_ONCE)
    parts = [np.sum(vectors[first[i:i + TRIALS_AT_ONCE]] * vectors[second[i:i + TRIALS_AT_ONCE]], axis=1)
             for i in starts]
    return np.concatenate([[], *parts]).astype(np.float64)


def error_rates(target_scores, impostor_scores, *, target_weights=None, impostor_weights=None):
    """Both error rates at every threshold that makes a difference: (thresholds, misses, false_alarms).

    Each is (k,). target_scores: (n,). impostor_scores: (m,). A weight says how often its trial counts. By
    default it counts once. The first threshold is below all scores, the last above all, the others halfway
    between two neighbours. misses: share of the targets at or below the threshold. false_alarms: share of the
    impostors above it.
    """
    scores = np.concatenate([target_scores, impostor_scores])
    values, place = np.unique(scores, return_inverse=True)  # sorted; the place of each trial among them
    n_targets = len(target_scores)
    rates = []
    for part, weights in ((place[:n_targets], target_weights), (place[n_targets:], impostor_weights)):
        counts = np.bincount(part, weights, minlength=len(values))
        share_up_to = np.concatenate([[0], np.cumsum(counts)]) / counts.sum()
        rates.append(share_up_to)
    thresholds = np.concatenate([[values[0] - 1e-6], (values[:-1] + values[1:]) / 2, [values[-1] + 1e-6]])
    return thresholds, rates[0], 1 - rates[1]


def closest_rates(target_scores, impostor_scores, **weights):
    """(threshold, miss, false alarm) where the two error rates differ least."""
    thresholds, misses, false_alarms = error_rates(target_scores, impostor_scores, **weights)
    closest = np.argmin(np.abs(misses - false_alarms))
    return thresholds[closest], misses[closest], false_alarms[closest]


def equal_error_rate(target_scores, impostor_scores, **weights):
    """The error rate in percent at the threshold where misses and false alarms have the same share.

    If no threshold makes both equal, it is the mean of the two where they are closest. Other programs take the
    point on the straight line between the two nearest thresholds, or on the convex hull of the curve, which lies
    on that line or below it (Brümmer & de Villiers 2011, "The BOSARIS toolkit"). See eer_tolerance.
    """
    _, miss, false_alarm = closest_rates(target_scores, impostor_scores, **weights)
    return max(0.0, 100 * (miss + false_alarm) / 2)  # rounding of weighted sums may leave -1e-14


def eer_tolerance(n_targets, n_impostors):
    """By how many points equal_error_rate may differ from that of the straight line, if no two scores are equal.

    Where the rates cross, one of them makes a step of 1 / n. The crossing lies within this step. So the rates
    differ by at most half a step at its nearer end, and their mean is at most half of that away.
    """
    return 100 / 4 / min(n_targets, n_impostors)


def min_dcf(target_scores, impostor_scores, *, p_target=0.01, cost_miss=1, cost_false_alarm=1):
    """The smallest detection cost of any threshold, divided by that of always accepting or always rejecting.

    cost(t) = cost_miss * p_target * miss(t) + cost_false_alarm * (1 - p_target) * false_alarm(t), as in the
    NIST speaker recognition evaluations (Martin & Przybocki 2000). That of 2016 had costs of 1 and p_target =
    0.01 and 0.005. Those up to 2008 had a cost_miss of 10, a cost_false_alarm of 1 and 0.01. Of the two constant
    answers, the cheaper one counts.
    """
    _, misses, false_alarms = error_rates(target_scores, impostor_scores)
    miss_cost, false_alarm_cost = cost_miss * p_target, cost_false_alarm * (1 - p_target)
    return np.min(miss_cost * misses + false_alarm_cost * false_alarms) / min(miss_cost, false_alarm_cost)


def cllr(target_ratios, impostor_ratios):
    """The cost of log-likelihood ratios in bits: 0 if all are right and sure, 1 if all are 0 and say nothing.

    target_ratios: (n,), impostor_ratios: (m,), natural logarithms. Cllr of Brümmer & du Preez 2006: the mean
    over the targets of log2(1 + 1 / ratio), and that over the impostors of log2(1 + ratio), averaged.
    """
    misses = np.logaddexp(0, -np.asarray(target_ratios))
    false_alarms = np.logaddexp(0, np.asarray(impostor_ratios))
    return (misses.mean() + false_alarms.mean()) / 2 / np.log(2)


def log_likelihood_ratio(score, description, condition=''):
    """How much likelier a score is if one speaker said both than if two did: natural logarithm.

    description: a dict with 'slope' and 'offset', found by deep_dive/calibration.py. condition: what these two
    names end in, such as '_one_room'.
    """
    return description['slope' + condition] * score + description['offset' + condition]


def min_cllr(target_scores, impostor_scores):
    """The lowest Cllr that a rising function of the scores can have. What is left is the fault of the scores.

    The best function is found by isotonic regression, called PAV by Brümmer & du Preez 2006. Each kind of
    trial has half the weight.
    """
    scores = np.concatenate([target_scores, impostor_scores])
    values, place = np.unique(scores, return_inverse=True)  # equal scores have equal ratios
    n_targets = len(target_scores)
    shares = [np.bincount(part, minlength=len(values)) / len(part)
              for part in (place[:n_targets], place[n_targets:])]
    share = isotonic_regression(shares[0] / (shares[0] + shares[1]), weights=shares[0] + shares[1]).x
    with np.errstate(divide='ignore', invalid='ignore'):
        ratios = np.log(share) - np.log1p(-share)  # -inf and inf where only one kind is
    return cllr(ratios[place[:n_targets]], ratios[place[n_targets:]])


def rates_at(threshold, target_scores, impostor_scores):
    """The shares (miss, false alarm) if scores above the threshold are accepted."""
    return np.mean(np.asarray(target_scores) <= threshold), np.mean(np.asarray(impostor_scores) > threshold)


def choose_threshold(thres, target_scores, impostor_scores):
    """The threshold that `thres` asks for: a number, 'eer', or ('far', share of the impostors to accept).

    Raises LabError for anything else, and for a share smaller than one impostor trial.
    """
    if thres == 'eer':
        return closest_rates(target_scores, impostor_scores)[0]
    if isinstance(thres, (tuple, list)) and len(thres) == 2 and thres[0] == 'far' and is_number(thres[1]):
        if not 1 / len(impostor_scores) <= thres[1] < 1:
            raise LabError("thres = ('far', %g): with %d impostor trials, a false-accept rate must be at "
                           "least 1 / %d and below 1.\nAsk for more, or cut the test files into pieces "
                           "(piece_seconds = 1)."
                           % (thres[1], len(impostor_scores), len(impostor_scores)))
        thresholds, _, false_alarms = error_rates(target_scores, impostor_scores)
        return thresholds[np.argmax(false_alarms <= thres[1] + 1e-12)]  # the lowest one that is strict enough
    if is_number(thres):
        return float(thres)
    raise LabError("thres = %r: it must be a number, 'eer', or ('far', 0.01): a false-accept rate of 1 %%"
                   % (thres,))


def bootstrap_interval(scores, is_target, first, second, *, n_rounds=500, seed=0, level=95):
    """Confidence interval (low, high) of the equal error rate in percent, by the bootstrap (Efron 1979).

    scores, is_target: (n,). first, second: (n,), the two speakers of each trial. Speakers are drawn with
    replacement. A trial counts as often as its speakers were drawn. Trials are not drawn, because those of
    one speaker depend on each other, so the interval would be far too narrow. With few speakers, it is too narrow
    still: in the simulation of experiments/coverage.py, the one of 95 % held the true rate in 80 % of the tests
    of ten speakers, and in 86 % of those of twenty. Returns (nan, nan) for fewer than two speakers.
    """
    speakers, number = np.unique(np.concatenate([first, second]), return_inverse=True)
    if len(speakers) < 2:
        return np.nan, np.nan
    # Count trials of the same two speakers with the same score, to three decimals, as one with a weight.
    # Scores that are no cosines may lie further apart, and those of a network that is hardly trained much nearer
    # together. So they are rounded more, or less
    unit = max(min(1, 10 * np.ptp(scores)), np.ptp(scores) / 2) or 1
    whole_scores = np.round(1000 * scores / unit).astype(int)
    whole_scores -= whole_scores.min()
    places = np.stack([number[:len(first)], number[len(first):], whole_scores, is_target])
    code, counts = np.unique(np.ravel_multi_index(places, places.max(axis=1) + 1), return_counts=True)
    first, second, whole_scores, is_target = np.unravel_index(code, places.max(axis=1) + 1)
    is_target = is_target.astype(bool)

    rng, rates = np.random.default_rng(seed), []
    while len(rates) < n_rounds:
        weights = counts * draw_speakers(first, second, len(speakers), rng)
        of_targets, of_impostors = weights[is_target], weights[~is_target]
        if of_targets.sum() and of_impostors.sum():  # both kinds of trial were drawn
            rates.append(equal_error_rate(whole_scores[is_target], whole_scores[~is_target],
                                          target_weights=of_targets, impostor_weights=of_impostors))
    return tuple(np.percentile(rates, [(100 - level) / 2, (100 + level) / 2]))


def draw_speakers(first, second, n_speakers, rng):
    """Draw speakers with replacement. Returns how often each trial counts then: (n,).

    first, second: (n,), the numbers of the two speakers of each trial, below n_speakers. rng: a numpy generator.
    """
    drawn = np.bincount(rng.integers(n_speakers, size=n_speakers), minlength=n_speakers)
    return np.where(first == second, drawn[first], drawn[first] * drawn[second])


def accuracy_interval(is_right, speakers, *, n_rounds=500, seed=0, level=95):
    """Confidence interval (low, high) of a share of right answers in percent, by the bootstrap.

    is_right: (n,) of bool; speakers: (n,), whose answer each is. Speakers are drawn with replacement.
    """
    names, number = np.unique(speakers, return_inverse=True)
    right, total = np.bincount(number, weights=is_right), np.bincount(number)  # of each speaker
    drawn = np.random.default_rng(seed).integers(len(names), size=(n_rounds, len(names)))
    shares = 100 * right[drawn].sum(axis=1) / total[drawn].sum(axis=1)
    return tuple(np.percentile(shares, [(100 - level) / 2, (100 + level) / 2]))


def rule_of_three(n):
    """How high an error rate in percent may be (95 %) if no error was seen on n speakers: 300 / n, 100 at most.

    Eypasch et al. 1995, BMJ 311. Speakers count, not trials, because those of one speaker depend on each other.
    """
    return min(100, 300 / n)


def all_pairs(n):
    """Every pair of n things once: two index arrays (n (n - 1) / 2,)."""
    return np.triu_indices(n, 1)
