"""Do voices that sound alike get high scores? Every test file with everybody enrolled: exercise 3.

    python -m exercises.similar_voices
    python -m exercises.similar_voices "--piece_seconds=[1, 2, 3, 5]"     # how much speech does it take?
    python -m exercises.similar_voices --thres=0.9                        # who is called unknown?

Reads what identification.py reads. Prints precision and recall of every speaker, accuracy and equal error
rate. Draws into embedding_dir: of whole files matrix.png (all scores), of pieces confusion.png (all answers to
the shortest ones), of several lengths lengths.png. Takes ten seconds.
"""
import os

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

import configure as c
from DB_wav_reader import split_enroll_and_test
from SR_Dataset import read_MFB
from exercises.scoring import accuracy_interval, bootstrap_interval, cosine_scores, equal_error_rate
from exercises.scoring import rule_of_three
from identification import UNKNOWN, best_speaker
from model import embed_feature, load_enroll_embeddings, load_model
from support.demo_voices import provide_test_features
from support.enrolments import check_recordings, choose_thres
from support.messages import LARGEST_NUMBER, NAMES, SCORE_OR_MODEL, TEST_RULES, LabError, check_settings
from support.messages import is_number, or_none, run_script
from support.pictures import draw_confusion, draw_lengths, draw_matrix, side_by_side


def is_seconds(value):
    return is_number(value, c.WIN_STEP, LARGEST_NUMBER)


def are_lengths(value):
    return isinstance(value, list) and any(map(is_seconds, value)) and all(
        one is None or is_seconds(one) for one in value)


PIECES = 'a number of seconds, a list of them, or None', lambda value: (
    value is None or is_seconds(value) or are_lengths(value))


# ------------------------------------------------------------------------------------------------- pieces

def load_tests(model, test_dir, embedding_dir, spk_list=None):
    """What to test with: (DataFrame of the test files, dict speaker -> (1, embedding_size) of spk_list).

    spk_list: None is everybody enrolled. Makes demo voices if there is no data. Raises LabError if a test
    file was recorded in another way than the enrolment, or somebody is not enrolled.
    """
    provide_test_features(test_dir)
    _, test_DB = split_enroll_and_test(test_dir)
    if test_DB.empty:
        raise LabError('%s has no test file. Each speaker needs test.wav or test.p beside the enrolment file.'
                       % test_dir)
    embeddings = load_enroll_embeddings(embedding_dir, model=model)
    spk_list = spk_list or sorted(embeddings)
    check_recordings(embedding_dir, spk_list, test_DB['filename'], model.settings['level'])
    return test_DB, {spk: embeddings[spk] for spk in spk_list}


def in_pieces(feature, piece_seconds):
    """Cut a feature (n_frames, n_dims) into pieces of piece_seconds: list of (length, n_dims).

    piece_seconds: None does not cut. A rest shorter than a piece is left out.
    """
    length = len(feature) if piece_seconds is None else round(piece_seconds / c.WIN_STEP)
    return [feature[start:start + length] for start in range(0, len(feature) - length + 1, length)]


def embed_pieces(use_cuda, DB, model, test_frames, piece_seconds):
    """Cut the utterances of DB into pieces of piece_seconds, and get the d-vector of each piece.

    piece_seconds: None does not cut. A rest shorter than a piece is left out. Returns ((n, embedding_size)
    tensor, list of the n speakers). Raises LabError if every utterance is shorter than a piece.
    """
    d_vectors, speakers = [], []
    for filename, speaker in zip(DB['filename'], DB['speaker_id']):
        feature, _ = read_MFB(filename, model.settings['level'])  # (n_frames, n_dims)
        for piece in in_pieces(feature, piece_seconds):  # (length, n_dims)
            d_vectors.append(embed_feature(use_cuda, piece, model, test_frames, filename))
            speakers.append(speaker)
    if not d_vectors:
        raise LabError('piece_seconds = %g is longer than every test file. Choose a smaller one.'
                       % piece_seconds)
    return torch.cat(d_vectors), speakers


def score_matrix(pieces, embeddings, spk_list, scorer=None):
    """Score every piece (n, embedding_size) with every speaker of spk_list: (n, n_speakers) array.

    embeddings: dict speaker -> (1, embedding_size). scorer: a Scorer of deep_dive/backends.py; None: the
    cosine.
    """
    gallery = F.normalize(torch.cat([embeddings[spk] for spk in spk_list]))  # (n_speakers, embedding_size)
    return cosine_scores(pieces.numpy(), gallery.numpy()) if scorer is None else scorer(pieces, gallery)


def answers(scores, spk_list, thres):
    """What best_speaker says to each row of scores (n, n_speakers): (n,) names."""
    nearest = scores.argmax(axis=1)  # (n,)
    return np.array([best_speaker({spk_list[i]: row[i]}, thres) for row, i in zip(scores, nearest)])


# ------------------------------------------------------------------------------------------------- tables

def print_precision_and_recall(true_spks, predicted_spks):
    """Print precision and recall of every speaker, and their means. Returns the accuracy. All in percent.

    true_spks, predicted_spks: (n,) names. Precision is the share of the pieces called X that are by X. Recall
    is the share of the pieces by X that are called X. If there are no such pieces, it is 0.
    """
    true_spks, predicted_spks = np.array(true_spks), np.array(predicted_spks)
    rows = []
    for spk in sorted(set(true_spks) | set(predicted_spks) - {UNKNOWN}):
        n_right = np.sum((true_spks == spk) & (predicted_spks == spk))
        n_called, n_there = np.sum(predicted_spks == spk), np.sum(true_spks == spk)
        rows.append((spk, n_there, 100 * n_right / max(n_called, 1), 100 * n_right / max(n_there, 1)))
    table = pd.DataFrame(rows, columns=['Speaker', 'Pieces', 'Precision', 'Recall'])
    means = table['Precision'].mean(), table['Recall'].mean()
    table.loc[len(table)] = ['macro average', len(true_spks), *means]
    print(table.to_string(index=False, float_format='{:.2f} %'.format))
    return 100 * np.mean(true_spks == predicted_spks)


def print_accuracy(is_right, speakers, unit):
    """Print how often is_right (n,) of bool is true, and how sure this is with so few speakers.

    speakers: (n,) names, by whom each piece is. unit: what was counted, such as 'pieces'.
    """
    accuracy, n_speakers = 100 * np.mean(is_right), len(set(speakers))
    if n_speakers == 1:
        how_sure = 'of one speaker: this says nothing of others'
    elif 0 < accuracy < 100:
        interval = accuracy_interval(is_right, speakers)
        how_sure = '95 %% interval %.2f to %.2f, %d speakers drawn anew' % (*interval, n_speakers)
    else:
        what = 'error' if accuracy else 'right answer'
        how_sure = ('no %s seen on %d speakers; the true rate of %ss may be up to %.0f %%: rule of three'
                    % (what, n_speakers, what, rule_of_three(n_speakers)))
    print('\nAccuracy : %.2f %% of %d %s (%s)' % (accuracy, len(speakers), unit, how_sure))


def print_strangers(scores, true_spks, spk_list, thres):
    """Leave out each enrolled speaker in turn, who is then a stranger. Print how many strangers are noticed.

    scores: (n, n_speakers), with the speakers of spk_list; true_spks: (n,) names.
    """
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
    print('Strangers taken for somebody (false accepts) : %.2f %% of %d'
          % (100 * n_let_in / n_strangers, n_strangers))
    print('Enrolled called unknown (false rejects) : %.2f %% of %d'
          % (100 * n_rejected / max(n_known, 1), n_known))


def intervals_of(scores, is_right, speakers, spk_list, is_own):
    """Intervals of the accuracy and of the equal error rate: ((low, high), (low, high)) in percent.

    scores, is_own: (n, n_speakers); is_right: (n,) of bool; speakers: (n,) names, by whom each piece is. Without a
    trial of one speaker, the second is (0, 0). Where no answer is wrong (or none right), drawing speakers anew changes
    nothing, so the rule of three says how far it may be.
    """
    most = rule_of_three(len(set(speakers)))
    if is_right.all() or not is_right.any():
        of_accuracy = (100 - most, 100) if is_right.all() else (0, most)
    else:
        of_accuracy = accuracy_interval(is_right, speakers)
    if not is_own.any():
        return of_accuracy, (0, 0)
    number = {spk: i for i, spk in enumerate(sorted({*speakers, *spk_list}))}
    rows, columns = (index.ravel() for index in np.indices(scores.shape))
    first = np.array([number[spk] for spk in speakers])[rows]
    second = np.array([number[spk] for spk in spk_list])[columns]
    if equal_error_rate(scores[is_own], scores[~is_own]) == 0:
        return of_accuracy, (0, rule_of_three(len(number)))
    return of_accuracy, bootstrap_interval(scores.ravel(), is_own.ravel(), first, second)


def identify_all(use_cuda, model, embeddings, test_DB, test_frames, spk_list, *, thres=None, scorer=None,
                 piece_seconds=None, picture_dir=None):
    """Identify every test file, or every piece of it. Print precision and recall for each length of pieces.

    test_DB: DataFrame (filename, speaker_id). scorer: see score_matrix. piece_seconds: seconds, None (not
    cut), or a list of them. picture_dir: folder for the pictures, or None. Raises LabError for one speaker.
    """
    if len(spk_list) < 2:
        raise LabError('spk_list = %s: two enrolled speakers or more are needed.' % spk_list)
    lengths = piece_seconds if isinstance(piece_seconds, list) else [piece_seconds]
    accuracies, eers, intervals, said = [], [], [], []
    for length in lengths:
        pieces, speakers = embed_pieces(use_cuda, test_DB, model, test_frames, length)
        true_spks = speakers
        if thres is not None:  # UNKNOWN is right for those who are not in the list
            true_spks = [spk if spk in spk_list else UNKNOWN for spk in speakers]
        scores = score_matrix(pieces, embeddings, spk_list, scorer)
        predicted_spks = answers(scores, spk_list, thres)
        title = 'whole files' if length is None else 'pieces of %g s' % length
        said.append((true_spks, predicted_spks, title))
        print('\n=== Speaker identification: %s ===' % title)
        accuracies.append(print_precision_and_recall(true_spks, predicted_spks))
        is_right = np.array(true_spks) == predicted_spks
        is_own = np.array(speakers)[:, None] == np.array(spk_list)
        eers.append(equal_error_rate(scores[is_own], scores[~is_own]) if is_own.any() else np.nan)
        if picture_dir is not None and len(lengths) > 1:
            intervals.append(intervals_of(scores, is_right, speakers, spk_list, is_own))
        print_accuracy(is_right, speakers, 'files' if length is None else 'pieces')
        print('EER : %.2f %%' % eers[-1] if is_own.any() else 'No EER: no piece is by a speaker in spk_list')
        if thres is not None:
            print_strangers(scores, true_spks, spk_list, thres)
    if picture_dir is None:
        return
    *answers_to, title = said[min(range(len(lengths)), key=lambda i: lengths[i] or np.inf)]
    if lengths != [None] or len(true_spks) > len(set(true_spks)):  # one file of each would show a 1 in each row
        draw_confusion(*answers_to, os.path.join(picture_dir, 'confusion.png'), title)
    if lengths == [None]:
        unit = {} if scorer is None else {'unit': scorer.unit}
        order = side_by_side({spk: embeddings[spk] for spk in spk_list})  # as in similarity.png
        rows = np.argsort([order.index(spk) if spk in order else len(order) for spk in true_spks], kind='stable')
        columns = [spk_list.index(spk) for spk in order]
        draw_matrix(scores[rows][:, columns], [true_spks[i] for i in rows], order,
                    os.path.join(picture_dir, 'matrix.png'), **unit)
    elif len(lengths) > 1:
        points = [point for point in zip(lengths, accuracies, eers, intervals) if point[0] is not None]
        draw_lengths(*zip(*points), os.path.join(picture_dir, 'lengths.png'))


def main(
        # Settings of identification.py
        log_dir='model_saved',  # where the checkpoints are saved
        embedding_dir='enroll_embeddings',  # where the embeddings are saved, and the pictures go
        test_dir=c.TEST_FEAT_DIR,  # where the test files are
        use_cuda=True,  # use a GPU if there is one; False: the CPU in any case
        cp_num=24,  # which checkpoint? The one that enroll.py used
        test_frames=100,  # a piece is cut into segments of so many frames (10 ms); None: not cut
        spk_list=None,  # who can it be? None: everybody enrolled; or a list such as ['103F3021', '207F2088']
        thres=None,  # if no score is above it, the answer is 'unknown'; try 0.9, 'model'. None: the nearest

        # Of this exercise
        piece_seconds=None,  # cut the test files into pieces; try 1, or a list [1, 2, 3, 5]. None: not cut
        plot=True,  # draw the pictures
):
    check_settings(main, locals(), **TEST_RULES, spk_list=or_none(NAMES), thres=or_none(SCORE_OR_MODEL),
                   piece_seconds=PIECES)
    model = load_model(use_cuda, log_dir, cp_num, None, None)
    test_DB, embeddings = load_tests(model, test_dir, embedding_dir, spk_list)
    thres = choose_thres(thres, model, 'cosine', test_DB['filename'][0])
    identify_all(use_cuda, model, embeddings, test_DB, test_frames, list(embeddings), thres=thres,
                 piece_seconds=piece_seconds, picture_dir=embedding_dir if plot else None)


if __name__ == '__main__':
    run_script(main, see='python -m deep_dive.trials')
