"""test_speaker = 'all': every test file at once, and how often the answers are right."""
import os

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

import configure as c
from DB_wav_reader import speaker_of
from SR_Dataset import read_MFB
from deep_dive.backends import unchanged
from deep_dive.scoring import all_pairs, bootstrap_interval, choose_threshold, cosine_scores, equal_error_rate
from deep_dive.scoring import min_dcf, rates_at, read_trials
from model import embed_feature, get_embeddings
from support.checks import sex_of
from support.messages import LabError


def embed_pieces(use_cuda, DB, model, test_frames, piece_seconds):
    """The d-vectors of the utterances in DB, each cut into pieces of piece_seconds (None: whole).

    A rest shorter than a piece is left out. Returns ((n, embedding_size) tensor, list of the speaker of each).
    """
    if piece_seconds is not None and not (isinstance(piece_seconds, (int, float)) and piece_seconds >= c.WIN_STEP):
        raise LabError('piece_seconds = %r: it must be a number of seconds, or None.' % (piece_seconds,))
    d_vectors, speakers = [], []
    for filename, speaker in zip(DB['filename'], DB['speaker_id']):
        feature, _ = read_MFB(filename)  # (n_frames, n_dims)
        length = len(feature) if piece_seconds is None else round(piece_seconds / c.WIN_STEP)
        for start in range(0, len(feature) - length + 1, length):
            d_vectors.append(embed_feature(use_cuda, feature[start:start + length], model, test_frames, filename))
            speakers.append(speaker)
    if not d_vectors:
        raise LabError('piece_seconds = %g is longer than every test file. Choose a smaller one.' % piece_seconds)
    return torch.cat(d_vectors), speakers


UNKNOWN = 'unknown'  # the answer where nobody is near enough


def print_precision_and_recall(true_spks, predicted_spks):
    """Print a DataFrame: precision and recall in percent of every speaker and their means. Returns the accuracy.

    true_spks, predicted_spks: (n,) names. Precision: share of what is called X that is X; recall: share of X called X;
    0 of none is 0.
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


def score_matrix(pieces, embeddings, spk_list, project=unchanged):
    """Cosine similarity of every piece (n, embedding_size) with every speaker of spk_list: (n, n_speakers) array."""
    gallery = F.normalize(torch.cat([embeddings[spk] for spk in spk_list]))  # (n_speakers, embedding_size)
    return cosine_scores(project(pieces).numpy(), project(gallery).numpy())


def answers(scores, spk_list, thres):
    """(n,) names: of the highest score in each row of scores (n, n_speakers), 'unknown' where it is not above thres."""
    nearest = np.array(spk_list)[scores.argmax(axis=1)]
    return nearest if thres is None else np.where(scores.max(axis=1) > thres, nearest, UNKNOWN)


def print_strangers(scores, true_spks, spk_list, thres):
    """Leave each enrolled speaker out in turn, whose pieces then come from a stranger; print how many are noticed."""
    n_missed, n_strangers, n_alarms, n_known = 0, 0, 0, 0
    true_spks = np.array(true_spks)
    for i in range(len(spk_list)):
        others = np.delete(scores, i, axis=1)
        left = spk_list[:i] + spk_list[i + 1:]
        is_unknown, is_stranger = answers(others, left, thres) == UNKNOWN, ~np.isin(true_spks, left)
        n_missed += np.sum(is_stranger & ~is_unknown)
        n_strangers += np.sum(is_stranger)
        n_alarms += np.sum(~is_stranger & is_unknown)
        n_known += np.sum(~is_stranger)
    print('\nEach speaker left out in turn, threshold %.4f' % thres)
    print('Strangers taken for somebody (miss) : %.2f %% of %d' % (100 * n_missed / n_strangers, n_strangers))
    print('Enrolled called unknown (false alarm) : %.2f %% of %d' % (100 * n_alarms / max(n_known, 1), n_known))


N_THRESHOLDS = 7  # in the table of thresholds, besides the chosen one


def trials_with_enrolled(use_cuda, model, test_DB, embeddings, test_frames, piece_seconds):
    """Every test piece against every enrolled speaker.

    Returns (vectors (n, embedding_size) tensor, speaker of each (n,), first, second: the rows of vectors that each
    trial compares, is_target (n_trials,)).
    """
    pieces, speakers = embed_pieces(use_cuda, test_DB, model, test_frames, piece_seconds)
    enrolled = sorted(embeddings)
    vectors = torch.cat([pieces] + [F.normalize(embeddings[spk]) for spk in enrolled])
    speakers = np.array(speakers + enrolled)
    first = np.repeat(np.arange(len(pieces)), len(enrolled))
    second = len(pieces) + np.tile(np.arange(len(enrolled)), len(pieces))
    return vectors, speakers, first, second, speakers[first] == speakers[second]


def trials_of_pairs(use_cuda, model, DB, test_frames):
    """Every two utterances of DB once. Returns what trials_with_enrolled does."""
    vectors, speakers = embed_pieces(use_cuda, DB, model, test_frames, None)
    speakers = np.array(speakers)
    first, second = all_pairs(len(vectors))
    return vectors, speakers, first, second, speakers[first] == speakers[second]


def file_of_trial(path, test_dir):
    """The file in test_dir of a path in a trial list: this one, or the features that were made of this wav."""
    filename = os.path.join(test_dir, path)
    feat_file = os.path.splitext(filename)[0] + '.p'
    if not os.path.isfile(filename) and not os.path.isfile(feat_file):
        raise LabError('%s: there is no such file, nor its features. Set test_dir, or take its trials out of the list.'
                       % filename)
    return filename if os.path.isfile(filename) else feat_file


def trials_of_list(use_cuda, model, filename, test_dir, test_frames):
    """The trials of a list, whose paths begin in test_dir (file_of_trial). Returns what trials_with_enrolled does."""
    is_target, left, right = read_trials(filename)
    paths = sorted(set(left) | set(right))
    row = {path: i for i, path in enumerate(paths)}
    files = [file_of_trial(path, test_dir) for path in paths]
    vectors = torch.cat([get_embeddings(use_cuda, filename, model, test_frames) for filename in files])
    speakers = np.array([speaker_of(filename) for filename in files])
    first, second = np.array([row[path] for path in left]), np.array([row[path] for path in right])
    return vectors, speakers, first, second, is_target


def print_error_rates(scores, is_target, speakers, first, second, thres):
    """Print how often trials are wrongly accepted and rejected, at one threshold and at others. Returns the threshold.

    scores (n_trials,); the others as from trials_with_enrolled; thres: as in choose_threshold. Raises LabError where
    there are no targets, or no impostors.
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
    table = pd.DataFrame([(t, *rates_at(t, target, impostor)) for t in sorted({*others, threshold})],
                         columns=['Threshold', 'False rejects', 'False accepts'])
    table[['False rejects', 'False accepts']] *= 100
    print(table.to_string(index=False, formatters=['{:.4f}'.format, '{:.2f} %'.format, '{:.2f} %'.format]))
    miss, false_alarm = rates_at(threshold, target, impostor)
    print('\nThreshold : %.4f\nFalse accepts : %.2f %%\nFalse rejects : %.2f %%\n'
          % (threshold, 100 * false_alarm, 100 * miss))
    return threshold
