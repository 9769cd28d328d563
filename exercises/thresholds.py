"""Test every file at once, and count how often the answers are right (test_speaker = 'all').

identification.py calls identify_all, and verification.py calls verify_all.
"""
import os

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

import configure as c
from DB_wav_reader import read_feats_and_wavs, speaker_of, split_enroll_and_test, test_files_of
from SR_Dataset import read_MFB
from deep_dive.backends import Scorer, available_backends
from deep_dive.calibration import choose_thres, log_likelihood_ratio, own_description
from deep_dive.scoring import accuracy_interval, all_pairs, bootstrap_interval, choose_threshold, cllr, cosine_scores
from deep_dive.scoring import equal_error_rate, error_rates, min_cllr, min_dcf, rates_at, read_trials
from model import embed_feature, get_embeddings, load_enroll_embeddings
from support.checks import sex_of
from support.enrolments import check_recordings
from support.messages import LabError
from support.pictures import draw_confusion, draw_det, draw_lengths, draw_matrix, draw_scores


def embed_pieces(use_cuda, DB, model, test_frames, piece_seconds):
    """Cut the utterances in DB into pieces of piece_seconds (None: do not cut), and get the d-vector of each piece.

    A rest shorter than a piece is left out. Returns ((n, embedding_size) tensor, list of the speaker of each piece).
    """
    if piece_seconds is not None and not (isinstance(piece_seconds, (int, float)) and piece_seconds >= c.WIN_STEP):
        raise LabError('piece_seconds = %r: it must be a number of seconds, or None.' % (piece_seconds,))
    d_vectors, speakers = [], []
    for filename, speaker in zip(DB['filename'], DB['speaker_id']):
        feature, _ = read_MFB(filename, model.settings['level'])  # (n_frames, n_dims)
        length = len(feature) if piece_seconds is None else round(piece_seconds / c.WIN_STEP)
        for start in range(0, len(feature) - length + 1, length):
            d_vectors.append(embed_feature(use_cuda, feature[start:start + length], model, test_frames, filename))
            speakers.append(speaker)
    if not d_vectors:
        raise LabError('piece_seconds = %g is longer than every test file. Choose a smaller one.' % piece_seconds)
    return torch.cat(d_vectors), speakers


UNKNOWN = 'unknown'  # the answer if nobody is near enough


def print_precision_and_recall(true_spks, predicted_spks):
    """Print precision and recall of every speaker in percent, and their means. Returns the accuracy in percent.

    true_spks, predicted_spks: (n,) names. Precision is the share of the pieces called X that are by X. Recall is the
    share of the pieces by X that are called X. If there are no such pieces, it is 0.
    """
    true_spks, predicted_spks = np.array(true_spks), np.array(predicted_spks)
    rows = []
    for spk in sorted(set(true_spks) | set(predicted_spks) - {UNKNOWN}):
        n_right = np.sum((true_spks == spk) & (predicted_spks == spk))
        n_called, n_there = np.sum(predicted_spks == spk), np.sum(true_spks == spk)
        rows.append((spk, n_there, 100 * n_right / max(n_called, 1), 100 * n_right / max(n_there, 1)))
    table = pd.DataFrame(rows, columns=['Speaker', 'Pieces', 'Precision', 'Recall'])
    table.loc[len(table)] = ['macro average', len(true_spks), table['Precision'].mean(), table['Recall'].mean()]
    print(table.to_string(index=False, float_format='{:.2f} %'.format))
    return 100 * np.mean(true_spks == predicted_spks)


def score_matrix(pieces, embeddings, spk_list, scorer=None):
    """Score every piece (n, embedding_size) with every speaker of spk_list: (n, n_speakers) array.

    scorer: a Scorer of deep_dive/backends.py. None: the score is the cosine similarity.
    """
    gallery = F.normalize(torch.cat([embeddings[spk] for spk in spk_list]))  # (n_speakers, embedding_size)
    return cosine_scores(pieces.numpy(), gallery.numpy()) if scorer is None else scorer(pieces, gallery)


def answers(scores, spk_list, thres):
    """The name of the highest score in each row of (n, n_speakers), or 'unknown' if it is not above thres: (n,)."""
    nearest = np.array(spk_list)[scores.argmax(axis=1)]
    return nearest if thres is None else np.where(scores.max(axis=1) > thres, nearest, UNKNOWN)


def print_strangers(scores, true_spks, spk_list, thres):
    """Leave out each enrolled speaker in turn, who is then a stranger. Print how many strangers are noticed."""
    n_let_in, n_strangers, n_rejected, n_known = 0, 0, 0, 0
    true_spks = np.array(true_spks)
    for i in range(len(spk_list)):
        others = np.delete(scores, i, axis=1)
        left = spk_list[:i] + spk_list[i + 1:]
        is_unknown, is_stranger = answers(others, left, thres) == UNKNOWN, ~np.isin(true_spks, left)
        n_let_in += np.sum(is_stranger & ~is_unknown)
        n_strangers += np.sum(is_stranger)
        n_rejected += np.sum(~is_stranger & is_unknown)
        n_known += np.sum(~is_stranger)
    print('\nEach speaker left out in turn, threshold %.4f' % thres)
    print('Strangers taken for somebody (false accepts) : %.2f %% of %d' % (100 * n_let_in / n_strangers, n_strangers))
    print('Enrolled called unknown (false rejects) : %.2f %% of %d' % (100 * n_rejected / max(n_known, 1), n_known))


N_THRESHOLDS = 7  # in the table of thresholds, besides the chosen one


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


def trials_of_pairs(use_cuda, model, DB, test_frames):
    """Compare every two utterances of DB once. Returns what trials_with_enrolled does."""
    vectors, speakers = embed_pieces(use_cuda, DB, model, test_frames, None)
    speakers = np.array(speakers)
    first, second = all_pairs(len(vectors))
    return vectors, speakers, first, second, same_speaker(speakers, first, second)


def file_of_trial(path, test_dir):
    """Find the file of a path in a trial list, or its features, in test_dir. Raises LabError if there is neither."""
    filename = os.path.join(test_dir, path)
    feat_file = os.path.splitext(filename)[0] + '.p'
    if not os.path.isfile(filename) and not os.path.isfile(feat_file):
        raise LabError('%s: there is no such file, nor its features. Set test_dir, or take its trials out of the list.'
                       % filename)
    return filename if os.path.isfile(filename) else feat_file


def trials_of_list(use_cuda, model, filename, test_dir, test_frames):
    """Read the trials of a list. Its paths begin in test_dir. Returns what trials_with_enrolled does."""
    is_target, left, right = read_trials(filename)
    paths = sorted(set(left) | set(right))
    row = {path: i for i, path in enumerate(paths)}
    files = [file_of_trial(path, test_dir) for path in paths]
    vectors = torch.cat([get_embeddings(use_cuda, filename, model, test_frames) for filename in files])
    speakers = np.array([speaker_of(filename) for filename in files])
    first, second = np.array([row[path] for path in left]), np.array([row[path] for path in right])
    return vectors, speakers, first, second, is_target


def let_in_most(is_accepted, first, second, names):
    """The two speakers that are mistaken most often: '247F9247 as 249F9249 (7 of 15)'; '' if nobody is accepted.

    is_accepted: (n,) of bool, of impostor trials; first, second: (n,), the numbers of the two speakers in names.
    """
    if not is_accepted.any():
        return ''
    code = first * len(names) + second
    accepted = np.bincount(code[is_accepted], minlength=len(names) ** 2)
    pair = accepted.argmax()
    return '%s as %s (%d of %d)' % (*(names[i] for i in divmod(pair, len(names))), accepted[pair], np.sum(code == pair))


def print_error_rates(scores, is_target, speakers, first, second, thres):
    """Print how often trials are wrongly accepted and rejected, at one threshold and at others. Returns the threshold.

    scores: (n_trials,). The others are those of trials_with_enrolled. thres is that of choose_threshold. Raises
    LabError if there are no targets, or no impostors.
    """
    target, impostor = scores[is_target], scores[~is_target]
    if not len(target) or not len(impostor):
        raise LabError('%d target and %d impostor trials: both kinds are needed. Enrol and test two speakers or more.'
                       % (len(target), len(impostor)))
    threshold, eer = choose_threshold(thres, target, impostor), equal_error_rate(target, impostor)
    names, number = np.unique(speakers, return_inverse=True)
    print('\n=== Speaker verification: all trials ===')
    print('Target trials : %d\nImpostor trials : %d\n' % (len(target), len(impostor)))
    if eer > 0:
        interval = bootstrap_interval(scores, is_target, number[first], number[second])
        print('EER : %.2f %% (95 %% interval %.2f to %.2f, %d speakers drawn anew)'
              % (eer, *interval, len(names)))
    else:
        print('EER : 0.00 %% (no error seen on %d speakers; the true rate may be up to %.0f %%: rule of three)'
              % (len(names), min(100, 300 / len(names))))
    sexes = np.array([sex_of(spk) for spk in speakers])
    same_sex = (sexes[first] == sexes[second]) & (sexes[first] != '')
    if np.any(same_sex & ~is_target) and not np.all(same_sex):
        print('EER, same sex : %.2f %% (%d impostor trials)'
              % (equal_error_rate(scores[same_sex & is_target], scores[same_sex & ~is_target]),
                 np.sum(same_sex & ~is_target)))
    print('minDCF (p = 0.01) : %.3f\n' % min_dcf(target, impostor))

    others = np.linspace(np.median(impostor), np.median(target), N_THRESHOLDS).round(2)
    impostors = number[first[~is_target]], number[second[~is_target]], names
    table = pd.DataFrame([(t, *rates_at(t, target, impostor), let_in_most(impostor > t, *impostors))
                          for t in sorted({*others, threshold})],
                         columns=['Threshold', 'False rejects', 'False accepts', 'Let in most often'])
    table[['False rejects', 'False accepts']] *= 100
    print(table.to_string(index=False, formatters=['{:.4f}'.format, '{:.2f} %'.format, '{:.2f} %'.format, str]))
    miss, false_alarm = rates_at(threshold, target, impostor)
    print('\nThreshold : %.4f\nFalse accepts : %.2f %%\nFalse rejects : %.2f %%\n'
          % (threshold, 100 * false_alarm, 100 * miss))
    return threshold


def print_cllr(scores, is_target, description):
    """Print Cllr with the calibration of the model, if it has one, and the lowest Cllr that these scores allow."""
    target, impostor = scores[is_target], scores[~is_target]
    if description:
        print('Cllr : %.3f' % cllr(log_likelihood_ratio(target, description),
                                   log_likelihood_ratio(impostor, description)))
    print('min Cllr : %.3f\n' % min_cllr(target, impostor))


# ------------------------------------------------------------------------------------------------- for the scripts

def intervals_of(scores, true_spks, spk_list, predicted_spks, is_own):
    """Intervals of the accuracy and of the equal error rate: ((low, high), (low, high)) in percent.

    scores, is_own: (n, n_speakers). Without a trial of one speaker, the second is (0, 0).
    """
    number = {spk: i for i, spk in enumerate(sorted({*true_spks, *spk_list}))}
    rows, columns = (index.ravel() for index in np.indices(scores.shape))
    first = np.array([number[spk] for spk in true_spks])[rows]
    second = np.array([number[spk] for spk in spk_list])[columns]
    return (accuracy_interval(np.array(true_spks) == predicted_spks, true_spks),
            bootstrap_interval(scores.ravel(), is_own.ravel(), first, second) if is_own.any() else (0, 0))


def identify_all(use_cuda, model, embeddings, test_DB, test_frames, spk_list, *, thres, scorer, piece_seconds,
                 picture_dir):
    """Identify every test file, or every piece of it. Print precision and recall for each length of the pieces.

    test_DB: DataFrame (filename, speaker_id). scorer: as for score_matrix. piece_seconds: seconds, None (not cut), or a
    list of them. picture_dir: folder for confusion.png, or lengths.png if there are several lengths, or None. Raises
    LabError for one speaker.
    """
    if len(spk_list) < 2:
        raise LabError("test_speaker = 'all' needs two enrolled speakers or more: enrol another one.")
    lengths = piece_seconds if isinstance(piece_seconds, list) else [piece_seconds]
    accuracies, eers, intervals = [], [], []
    for length in lengths:
        pieces, true_spks = embed_pieces(use_cuda, test_DB, model, test_frames, length)
        if thres is not None:  # 'unknown' is right for those who are not in the list
            true_spks = [spk if spk in spk_list else UNKNOWN for spk in true_spks]
        scores = score_matrix(pieces, embeddings, spk_list, scorer)
        predicted_spks = answers(scores, spk_list, thres)
        print('\n=== Speaker identification: %s ===' % ('whole files' if length is None else 'pieces of %g s' % length))
        accuracies.append(print_precision_and_recall(true_spks, predicted_spks))
        is_own = np.array(true_spks)[:, None] == np.array(spk_list)
        eers.append(equal_error_rate(scores[is_own], scores[~is_own]) if is_own.any() else np.nan)
        if picture_dir is not None and len(lengths) > 1:
            intervals.append(intervals_of(scores, true_spks, spk_list, predicted_spks, is_own))
        print('\nAccuracy : %.2f %% of %d pieces' % (accuracies[-1], len(true_spks)))
        print('EER : %.2f %%' % eers[-1] if is_own.any() else 'No EER: no piece is by a speaker in spk_list')
        if thres is not None:
            print_strangers(scores, true_spks, spk_list, thres)
    if picture_dir is not None and len(lengths) == 1:
        draw_confusion(true_spks, predicted_spks, os.path.join(picture_dir, 'confusion.png'))
        if lengths == [None]:
            unit = {} if scorer is None else {'unit': scorer.unit}
            draw_matrix(scores, true_spks, spk_list, os.path.join(picture_dir, 'matrix.png'), **unit)
    elif picture_dir is not None:
        points = [point for point in zip(lengths, accuracies, eers, intervals) if point[0] is not None]
        draw_lengths(*zip(*points), os.path.join(picture_dir, 'lengths.png'))


def verify_all(use_cuda, model, trials, test_dir, embedding_dir, test_frames, thres, *, backend='cosine',
               normalise=None, piece_seconds=None, plot=True):
    """Verify all trials, see verify_trials. The pictures go into embedding_dir.

    trials: 'enrolled' (every test file below test_dir, or every piece of it, with everybody enrolled), 'pairs' (every
    two utterances below test_dir), or a trial list whose paths begin in test_dir.
    """
    scorer, DB = Scorer(backend, model, normalise), read_feats_and_wavs(test_dir)
    if trials != 'enrolled' and piece_seconds is not None:
        raise LabError("piece_seconds = %s: only trials = 'enrolled' are cut into pieces." % (piece_seconds,))
    if trials == 'enrolled':
        _, DB = split_enroll_and_test(test_dir)
        embeddings = load_enroll_embeddings(embedding_dir, model=model)
        check_recordings(embedding_dir, list(embeddings), test_files_of('all', DB), model.settings['level'])
        all_trials = trials_with_enrolled(use_cuda, model, DB, embeddings, test_frames, piece_seconds)
    elif trials == 'pairs':
        all_trials = trials_of_pairs(use_cuda, model, DB, test_frames)
    else:
        all_trials = trials_of_list(use_cuda, model, trials, test_dir, test_frames)
    thres = choose_thres(thres, model, scorer.name, DB['filename'][0])
    verify_trials(model, all_trials, thres, backend=backend, normalise=normalise, description=own_description(
        model, scorer.name, DB['filename'][0]), picture_dir=embedding_dir if plot else None)


def verify_trials(model, all_trials, thres, *, backend='cosine', normalise=None, description=None, picture_dir=None):
    """Print the error rates of trials at the threshold and at others, Cllr, and the EER of every backend.

    all_trials: as from trials_with_enrolled. description: what the checkpoint knows of its own scores
    (deep_dive/calibration.py). picture_dir: folder for scores.png and det.png, or None.
    """
    vectors, speakers, first, second, is_target = all_trials
    scorers = {name: Scorer(name, model, normalise) for name in available_backends(model)}
    scores_of = {name: scorer.trials(vectors, first, second) for name, scorer in scorers.items()}
    threshold = print_error_rates(scores_of[backend], is_target, speakers, first, second, thres)
    print_cllr(scores_of[backend], is_target, description)
    for name, scores in scores_of.items():
        print("EER, backend '%s'%s : %.2f %%" % (name, ', ' + normalise if normalise else '',
                                                 equal_error_rate(scores[is_target], scores[~is_target])))
    if picture_dir is not None:
        draw_trials(scores_of[backend][is_target], scores_of[backend][~is_target], threshold, picture_dir,
                    scorers[backend].unit)


def draw_trials(target, impostor, threshold, picture_dir, unit='cosine similarity'):
    """Draw the scores of both kinds of trial, (n,) and (m,). Draw the DET curve, too, if there is any error.

    unit: what the scores are, in words.
    """
    rates = rates_at(threshold, target, impostor)
    draw_scores(target, impostor, threshold, rates, os.path.join(picture_dir, 'scores.png'), unit)
    _, misses, false_alarms = error_rates(target, impostor)
    eer, filename = equal_error_rate(target, impostor), os.path.join(picture_dir, 'det.png')
    if eer == 0:
        print('No picture of a DET curve: a threshold without errors exists. Try piece_seconds = 1.%s'
              % (' %s is of an earlier run.' % filename if os.path.exists(filename) else ''))
        return
    title = 'EER %.2f %% of %d target and %d impostor trials' % (eer, len(target), len(impostor))
    draw_det(misses, false_alarms, rates, title, threshold, filename)
