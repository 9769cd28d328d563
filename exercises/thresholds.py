"""What does a threshold let in, and whom? All trials of test files and enrolled speakers: exercise 4.

    python -m exercises.thresholds
    python -m exercises.thresholds --piece_seconds=1 --thres=eer     # both errors equally frequent
    python -m exercises.thresholds "--thres=('far', 0.05)"           # at most 5 % of the impostors are let in

Reads what verification.py reads. Prints both error rates at several thresholds, and who is let in as whom.
Draws scores.png (histograms) and det.png (all thresholds) into embedding_dir. Takes ten seconds.
deep_dive/trials.py does the same with other scores and other trials.
"""
import os

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

import configure as c
from exercises.scoring import bootstrap_interval, choose_threshold, cllr, eer_tolerance, equal_error_rate, error_rates
from exercises.scoring import log_likelihood_ratio, min_cllr, min_dcf, rates_at, rule_of_three, trial_scores
from exercises.similar_voices import embed_pieces, is_seconds, load_tests
from model import load_model
from support.checks import sex_of
from support.enrolments import choose_thres, own_description
from support.messages import LARGEST_NUMBER, SCORE, SHARE, TEST_RULES, LabError, check_settings, is_number
from support.messages import or_none, run_script
from support.pictures import draw_det, draw_scores

N_THRESHOLDS = 7  # in the table of thresholds, besides the chosen one
TOLERANCE = 0.5  # points; if the EER on the straight line (scoring.py) may differ by more, it is said
MOST_PAIRS = 100  # of speakers, in the list of those who are let in; the lab's ten are 90 pairs
SECONDS = or_none(('a number of seconds', is_seconds))
ANY_SCORE = 'a number', lambda value: is_number(value, -LARGEST_NUMBER, LARGEST_NUMBER)


def threshold_rule(score, words):
    """The rule of a setting that is a number with the rule `score`, one of the words, or ('far', share)."""
    return ("%s, %s, or ('far', 0.01): a false-accept rate of 1 %%" % (score[0], ', '.join(map(repr, words))),
            lambda value: score[1](value) or value in words or is_far(value))


def is_far(value):
    return isinstance(value, (tuple, list)) and len(value) == 2 and value[0] == 'far' and SHARE[1](value[1])


# ------------------------------------------------------------------------------------------------- trials

def trials_with_enrolled(use_cuda, model, test_DB, embeddings, test_frames, piece_seconds):
    """Compare every test piece with every enrolled speaker.

    Returns (vectors (n, embedding_size) tensor, speakers (n,), first, second, is_target). The last three are
    (n_trials,). Trial i compares the rows first[i] and second[i] of vectors.
    """
    pieces, speakers = embed_pieces(use_cuda, test_DB, model, test_frames, piece_seconds)
    enrolled = sorted(embeddings)
    vectors = torch.cat([pieces] + [F.normalize(embeddings[spk]) for spk in enrolled])
    speakers = np.array(speakers + enrolled)
    first = np.repeat(np.arange(len(pieces)), len(enrolled))
    second = len(pieces) + np.tile(np.arange(len(enrolled)), len(pieces))
    return vectors, speakers, first, second, same_speaker(speakers, first, second)


def same_speaker(speakers, first, second):
    """Whether the two sides of each trial are by one speaker: (n_trials,) of bool."""
    number = np.unique(speakers, return_inverse=True)[1]  # numbers take less memory than names
    return number[first] == number[second]


def let_in(is_accepted, first, second, names, most=None):
    """Who is mistaken for whom, the most often mistaken first: ('247F9247', '249F9249 (7 of 15)') and so on.

    Returns a list, [] if nobody is accepted. is_accepted: (n,) of bool, of impostor trials; first, second:
    (n,), the numbers of the two speakers in names. most: so many pairs at most; None: all.
    """
    codes, pair = np.unique(first * len(names) + second, return_inverse=True)  # a number for every two speakers
    accepted, trials = np.bincount(pair, weights=is_accepted), np.bincount(pair)
    mistaken = np.argsort(-accepted, kind='stable')[:np.count_nonzero(accepted)][:most]
    return [(names[codes[i] // len(names)], '%s (%d of %d)' % (names[codes[i] % len(names)], accepted[i], trials[i]))
            for i in mistaken]


# ------------------------------------------------------------------------------------------------- tables

def print_error_rates(scores, is_target, speakers, first, second, thres, p_target=0.01):
    """Print how often trials are wrongly accepted and rejected, at one threshold and at others.

    Returns the threshold. scores: (n_trials,). is_target, speakers, first and second: see
    trials_with_enrolled. thres: see choose_threshold. p_target: see min_dcf. Raises LabError if there are no
    targets, or no impostors.
    """
    target, impostor = scores[is_target], scores[~is_target]
    if not len(target) or not len(impostor):
        raise LabError('%d target and %d impostor trials: both kinds are needed. Enrol and test two speakers '
                       'or more.' % (len(target), len(impostor)))
    threshold, eer = choose_threshold(thres, target, impostor), equal_error_rate(target, impostor)
    names, number = np.unique(speakers, return_inverse=True)
    print('\n=== Speaker verification: all trials ===')
    print('Target trials : %d\nImpostor trials : %d\n' % (len(target), len(impostor)))
    if eer > 0:
        interval = bootstrap_interval(scores, is_target, number[first], number[second])
        print('EER : %.2f %% (95 %% interval %.2f to %.2f, %d speakers drawn anew)'
              % (eer, *interval, len(names)))
    else:
        print('EER : 0.00 %% (no error seen on %d speakers; the true rate may be up to %.0f %%: rule of '
              'three)' % (len(names), rule_of_three(len(names))))
    tolerance = eer_tolerance(len(target), len(impostor))
    if eer > 0 and tolerance > TOLERANCE:
        print('These trials are few: on a straight line between thresholds, this EER may differ by up to %.1f points'
              % tolerance)
    sexes = np.array([sex_of(spk) for spk in speakers])
    same_sex = (sexes[first] == sexes[second]) & (sexes[first] != '')
    if np.any(same_sex & ~is_target) and not np.all(same_sex):
        print('EER, same sex : %.2f %% (%d impostor trials)'
              % (equal_error_rate(scores[same_sex & is_target], scores[same_sex & ~is_target]),
                 np.sum(same_sex & ~is_target)))
    print('minDCF (p = %g) : %.3f\n' % (p_target, min_dcf(target, impostor, p_target=p_target)))

    others = np.linspace(np.median(impostor), np.median(target), N_THRESHOLDS).round(2)
    impostors = number[first[~is_target]], number[second[~is_target]], names
    rows = []
    for t in sorted({*others, threshold}):
        worst = let_in(impostor > t, *impostors, most=1)
        rows.append((t, *rates_at(t, target, impostor), ' as '.join(worst[0]) if worst else ''))
    table = pd.DataFrame(rows, columns=['Threshold', 'False rejects', 'False accepts', 'Let in most often'])
    table[['False rejects', 'False accepts']] *= 100
    percent = '{:.2f} %'.format
    print(table.to_string(index=False, formatters=['{:.4f}'.format, percent, percent, str]))
    miss, false_alarm = rates_at(threshold, target, impostor)
    print('\nThreshold : %.4f\nFalse accepts : %.2f %%\nFalse rejects : %.2f %%\n'
          % (threshold, 100 * false_alarm, 100 * miss))
    print_let_in(let_in(impostor > threshold, *impostors))
    return threshold


def print_let_in(pairs):
    """Print who gets in as whom at the chosen threshold: a line for each speaker, MOST_PAIRS at most in all.

    pairs: what let_in returns.
    """
    print('Let in at this threshold :%s' % ('' if pairs else ' nobody'))
    for speaker in dict.fromkeys(speaker for speaker, _ in pairs[:MOST_PAIRS]):
        print('%s as %s' % (speaker, ', '.join(other for one, other in pairs[:MOST_PAIRS] if one == speaker)))
    if len(pairs) > MOST_PAIRS:
        print('and %d other pairs, not more often' % (len(pairs) - MOST_PAIRS))
    print()


def print_cllr(scores, is_target, description):
    """Print Cllr with the calibration of the model, and the lowest Cllr that these scores allow.

    scores, is_target: (n_trials,). description: see log_likelihood_ratio. {}: the model has no calibration.
    """
    target, impostor = scores[is_target], scores[~is_target]
    if description:
        print('Cllr : %.3f' % cllr(log_likelihood_ratio(target, description),
                                   log_likelihood_ratio(impostor, description)))
    print('min Cllr : %.3f\n' % min_cllr(target, impostor))


def draw_trials(target, impostor, threshold, picture_dir, unit='cosine similarity'):
    """Draw the scores of both kinds of trial, (n,) and (m,). Draw the DET curve, too, if there is any error.

    unit: what the scores are, in words.
    """
    rates = rates_at(threshold, target, impostor)
    draw_scores(target, impostor, threshold, rates, os.path.join(picture_dir, 'scores.png'), unit)
    _, misses, false_alarms = error_rates(target, impostor)
    eer, filename = equal_error_rate(target, impostor), os.path.join(picture_dir, 'det.png')
    if eer == 0:
        print('No picture of a DET curve: a threshold without errors exists. Shorter pieces may have errors.%s'
              % (' %s is of an earlier run.' % filename if os.path.exists(filename) else ''))
        return
    title = 'EER %.2f %% of %d target and %d impostor trials' % (eer, len(target), len(impostor))
    draw_det(misses, false_alarms, rates, title, threshold, filename)


def verify_trials(scores, trials, thres, description, picture_dir=None, unit='cosine similarity', p_target=0.01):
    """Print the error rates of trials at a threshold and at others, and Cllr. Draw scores.png and det.png.

    scores: (n_trials,). trials: as from trials_with_enrolled. description: what the checkpoint knows of its
    own scores (own_description). picture_dir: a folder, or None. unit: what the scores are, in words.
    p_target: see min_dcf.
    """
    _, speakers, first, second, is_target = trials
    threshold = print_error_rates(scores, is_target, speakers, first, second, thres, p_target)
    print_cllr(scores, is_target, description)
    if picture_dir is not None:
        draw_trials(scores[is_target], scores[~is_target], threshold, picture_dir, unit)


def main(
        # Settings of verification.py
        log_dir='model_saved',  # where the checkpoints are saved
        embedding_dir='enroll_embeddings',  # where the embeddings are saved, and the pictures go
        test_dir=c.TEST_FEAT_DIR,  # where the test files are
        use_cuda=True,  # use a GPU if there is one; False: the CPU in any case
        cp_num=24,  # which checkpoint? The one that enroll.py used
        test_frames=100,  # a piece is cut into segments of so many frames (10 ms); None: not cut
        thres=0.95,  # a score above it is accepted; try 0.9, 'model', 'eer' or ('far', 0.05)

        # Of this exercise
        piece_seconds=None,  # cut the test files into pieces of so many seconds; try 1. None: not cut
        p_target=0.01,  # minDCF: how often it is the true speaker; try 0.05 or 0.005
        plot=True,  # draw the pictures
):
    check_settings(main, locals(), **TEST_RULES, thres=threshold_rule(SCORE, ['eer', 'model']),
                   piece_seconds=SECONDS, p_target=SHARE)
    model = load_model(use_cuda, log_dir, cp_num, None, None)
    test_DB, embeddings = load_tests(model, test_dir, embedding_dir)
    trials = trials_with_enrolled(use_cuda, model, test_DB, embeddings, test_frames, piece_seconds)
    vectors, _, first, second, _ = trials
    scores, test_file = trial_scores(vectors.numpy(), first, second), test_DB['filename'][0]
    verify_trials(scores, trials, choose_thres(thres, model, 'cosine', test_file, piece_seconds),
                  own_description(model, 'cosine', test_file, piece_seconds), embedding_dir if plot else None,
                  p_target=p_target)


if __name__ == '__main__':
    run_script(main, see='python -m deep_dive.trials')
