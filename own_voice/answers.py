"""Three answers to "who is speaking?": a name, 'unknown', or 'not sure'. The page and the programs use them.

A threshold alone is not enough. Its errors were counted on pairs of two people. But a stranger is compared
with everybody who is enrolled, and the highest of these scores counts. And people who record in one room
score high with each other. So the score that is needed for a name grows with the number of the enrolled, and
with how much they sound alike. The numbers below were chosen on people whom the model `voices` never heard
(docs/own-voice.md). A checkpoint may carry others beside its threshold, under the names of DEFAULTS.
"""
import numpy as np

from identification import UNKNOWN
from support.enrolments import description_for

DEFAULTS = {  # all are cosines; what they do is said in limits_of and answer
    'answer_gap': 0.27, 'answer_growth': 0.04, 'answer_margin': 0.1, 'answer_slack': 0.15}
NOT_SURE = 'not sure'


def limits_of(description, enrolled, thres=None, seconds=None):
    """The limits of the three answers, as a dict of numbers.

    description: of the scores of a model, with its threshold 'eer'. enrolled: (n, size), of unit length.
    'named': the score that a name needs. It is the threshold, or the mean score of two enrolled people plus
    answer_gap plus answer_growth times ln(n), if that is higher. If one person is enrolled, it is the
    threshold plus the margin. It is at most 1 minus the margin, or the threshold, if that is higher.
    'unknown': below it (by answer_slack), the answer is 'unknown'. 'margin': by which the best score must be
    above the second. thres: takes the place of 'named'. seconds: of speech that is tested. A model that knows
    its threshold for short recordings lowers 'named' by as much as that.
    """
    numbers = {name: description.get(name, default) for name, default in DEFAULTS.items()}
    threshold = description_for(description, seconds)['eer']
    lower = 0 if seconds is None else description_for(description, np.inf)['eer'] - threshold
    named = threshold if thres is None else thres
    n = len(enrolled)
    if thres is None and n == 1:
        named = named + numbers['answer_margin']
    elif thres is None and n > 1:
        alike = np.mean((enrolled @ enrolled.T)[np.triu_indices(n, 1)])
        named = max(named, alike + numbers['answer_gap'] + numbers['answer_growth'] * np.log(n) - lower)
    if thres is None:
        named = min(named, max(threshold, 1 - numbers['answer_margin']))  # who is enrolled twice can still be named
    return {'named': float(named), 'unknown': float(named - numbers['answer_slack']),
            'margin': numbers['answer_margin']}


def answer(scores, limits):
    """What to say about scores (dict speaker -> cosine): (kind, list of names).

    ('known', [X]); ('unknown', []); ('not sure', [X, Y]): X or Y, because both score nearly the same;
    ('not sure', [X]): X or somebody who is not enrolled. limits: as limits_of returns them.
    """
    ranking = sorted(scores, key=scores.get, reverse=True)[:2]
    if not ranking or scores[ranking[0]] < limits['unknown']:
        return 'unknown', []
    if len(ranking) > 1 and scores[ranking[0]] - scores[ranking[1]] < limits['margin']:
        return NOT_SURE, ranking
    return ('known' if scores[ranking[0]] >= limits['named'] else NOT_SURE), ranking[:1]


def doubt_about(name, scores, limits, threshold):
    """Why a new recording does not fit a person: (code, the nearest of the others), or None if it fits.

    scores (dict speaker -> cosine): of the recording with all who are enrolled, and, if the person has other
    recordings, with these under `name`. limits: as limits_of returns them; threshold: of the model, both for so
    many seconds of speech. 'nearer': it sounds more like another one; 'doesNotFit': unlike the person's other
    recordings, so that it would be 'unknown'; 'secondName': a person without other recordings sounds like somebody
    who is enrolled.
    """
    others = {spk: score for spk, score in scores.items() if spk != name}
    own, nearest = scores.get(name), max(others, key=others.get, default=None)
    if own is None:
        return ('secondName', nearest) if answer(others, limits)[0] == 'known' else None
    if nearest is not None and others[nearest] > max(own, threshold):
        return 'nearer', nearest
    return ('doesNotFit', nearest) if own < limits['unknown'] else None


def in_words(kind, names):
    """An answer as it is printed: 'X', 'unknown', 'not sure: X or Y', or 'not sure whether X'."""
    if kind == NOT_SURE:
        return 'not sure: %s or %s' % tuple(names) if len(names) > 1 else 'not sure whether %s' % names[0]
    return names[0] if names else UNKNOWN


def passing_pairs(names, enrolled, threshold):
    """Which enrolled people pass as each other: list of [name, name, score], the highest first.

    names: n of them; enrolled: (n, size), of unit length.
    """
    scores = enrolled @ enrolled.T
    pairs = [[names[i], names[j], float(scores[i, j])] for i, j in zip(*np.triu_indices(len(names), 1))
             if scores[i, j] > threshold]
    return sorted(pairs, key=lambda pair: -pair[2])


def print_passing_pairs(names, enrolled, threshold, is_of_room):
    """Say which enrolled people pass as each other, if any do, and what helps.

    is_of_room: whether the threshold is that of the room already.
    """
    pairs = passing_pairs(names, enrolled, threshold)
    if pairs:
        named = ', '.join('%s and %s' % (first, second) for first, second, _ in pairs[:3])
        advice = '' if is_of_room else ('\nFind the threshold of this room, if three of them have two recordings: '
                                        'python -m own_voice.calibrate')
        print('Note: %d of %d pairs of enrolled people pass as each other at the threshold %.4f: %s%s.%s'
              % (len(pairs), len(names) * (len(names) - 1) // 2, threshold, named,
                 ' ...' if len(pairs) > 3 else '', advice))
