"""What scores are worth: the equal error rate of a set of trials."""
import numpy as np


def equal_error_rate(target_scores, impostor_scores):
    """The error rate, in percent, at the threshold where as many targets are missed as impostors are let in.

    target_scores: (n,) of trials of the same speaker; impostor_scores: (m,) of different ones. A trial is accepted from
    the threshold up. Where no threshold makes both rates equal, the mean of the two at their closest.
    """
    thresholds = np.unique(np.concatenate([target_scores, impostor_scores, [np.inf]]))
    miss = np.searchsorted(np.sort(target_scores), thresholds) / len(target_scores)  # share below the threshold
    false_alarm = 1 - np.searchsorted(np.sort(impostor_scores), thresholds) / len(impostor_scores)
    closest = np.argmin(np.abs(miss - false_alarm))
    return 100 * (miss[closest] + false_alarm[closest]) / 2
