"""Score otherwise than by the cosine, and try other trials than those of exercises/thresholds.py.

    python -m deep_dive.trials --backend=plda --normalise=as-norm
    python -m deep_dive.trials --trials=pairs --test_dir=...     # every two utterances of a folder
    python -m deep_dive.trials --trials=list.txt                 # those of a list, in the format of VoxCeleb
    python -m deep_dive.trials --backend=plda --identify=True    # who is it, by these scores?

Reads what verification.py reads. Prints and draws what exercises/thresholds.py does, and the equal error rate
of every backend. With identify, it does what exercises/similar_voices.py does. Takes ten seconds.
"""
import os
from pathlib import Path

import numpy as np
import torch

import configure as c
from DB_wav_reader import read_feats_and_wavs, speaker_of
from deep_dive.backends import BACKENDS, NORMALISATIONS, Scorer, available_backends
from exercises.scoring import all_pairs, equal_error_rate
from exercises.similar_voices import PIECES, embed_pieces, identify_all, load_tests
from exercises.thresholds import ANY_SCORE, SECONDS, same_speaker, threshold_rule, trials_with_enrolled
from exercises.thresholds import verify_trials
from model import get_embeddings, load_model
from support.checks import COSINES
from support.demo_voices import provide_test_features
from support.enrolments import choose_thres, own_description
from support.messages import SCORE, TEST_RULES, LabError, as_on_disk, check_settings, is_number, or_none
from support.messages import run_script


# ------------------------------------------------------------------------------------- kinds of trials

def trials_of_pairs(use_cuda, model, DB, test_frames):
    """Compare every two utterances of DB once. Returns what trials_with_enrolled does."""
    vectors, speakers = embed_pieces(use_cuda, DB, model, test_frames, None)
    speakers = np.array(speakers)
    first, second = all_pairs(len(vectors))
    return vectors, speakers, first, second, same_speaker(speakers, first, second)


def trials_of_list(use_cuda, model, filename, test_dir, test_frames):
    """Read the trials of a list. Its paths begin in test_dir. Returns what trials_with_enrolled does."""
    is_target, left, right = read_trials(filename)
    paths = sorted({*left, *right})
    row = {path: i for i, path in enumerate(paths)}
    files = [file_of_trial(path, test_dir) for path in paths]
    vectors = torch.cat([get_embeddings(use_cuda, file, model, test_frames) for file in files])
    speakers = np.array([speaker_of(filename) for filename in files])
    first, second = np.array([row[path] for path in left]), np.array([row[path] for path in right])
    return vectors, speakers, first, second, is_target


def file_of_trial(path, test_dir):
    """The file of a path in a trial list, or its features, in test_dir. Raises LabError for neither."""
    filename = as_on_disk(os.path.join(test_dir, path))
    feat_file = as_on_disk(os.path.splitext(filename)[0] + '.p')
    if not os.path.isfile(filename) and not os.path.isfile(feat_file):
        raise LabError('%s: there is no such file, nor its features. Set test_dir, or take its trials out of '
                       'the list.' % filename)
    return filename if os.path.isfile(filename) else feat_file


def read_trials(filename):
    """Read a trial list in VoxCeleb's format: lines `1 path path` for targets, `0 path path` for impostors.

    Returns (is_target (n,), first paths, second paths). Raises LabError, with the line, if a line is
    something else.
    """
    if not Path(filename).is_file():
        raise LabError("trials = %r: there is no such trial list. Write 'enrolled', 'pairs', or the name of "
                       "a file." % str(filename))
    is_target, first, second = [], [], []
    try:
        with open(filename, encoding='utf-8-sig') as f:  # Windows may write a mark at the beginning
            for i, line in enumerate(f, 1):
                fields = line.split(None, 3)
                if not fields:
                    continue
                if len(fields) != 3 or fields[0] not in ('0', '1'):
                    raise LabError('%s, line %d: not a trial `1 path path` or `0 path path`: %s'
                                   % (filename, i, ' '.join(line[:60].split())))
                is_target.append(fields[0] == '1')
                first.append(fields[1])
                second.append(fields[2])
    except UnicodeDecodeError as error:
        raise LabError('%s: no text in UTF-8. A line of a trial list is a trial: 1 path path'
                       % filename) from error
    if len(set(is_target)) < 2:
        raise LabError('%s: needs trials of both kinds, 1 and 0' % filename)
    return np.array(is_target), first, second


# ------------------------------------------------------------------------------------- the program

def score_rule(backend, normalise):
    """The rule of a score: a cosine lies between -1 and 1, others lie anywhere."""
    return SCORE if backend in COSINES and normalise is None else ANY_SCORE


def main(
        # Settings of verification.py
        log_dir='model_saved',  # where the checkpoints are saved
        embedding_dir='enroll_embeddings',  # where the embeddings are saved, and the pictures go
        test_dir=c.TEST_FEAT_DIR,  # where the test files are
        use_cuda=True,  # use a GPU if there is one; False: the CPU in any case
        cp_num='best',  # which checkpoint? 'best' knows the backends
        test_frames=100,  # a piece is cut into segments of so many frames (10 ms); None: not cut

        # Of the deep dive
        backend='cosine',  # or 'centre', 'lda', 'wccn', 'plda': see deep_dive/backends.py
        normalise=None,  # or 's-norm', 'as-norm': see deep_dive/normalisation.py
        trials='enrolled',  # or 'pairs', every two utterances in test_dir; or the name of a trial list
        thres=None,  # as in exercises/thresholds.py; None: 'eer', or with identify the nearest speaker
        identify=False,  # True: name the speaker of each test file, as exercises/similar_voices.py does
        piece_seconds=None,  # cut the test files into pieces; try 1, or with identify a list. None: not cut
        plot=True,  # draw the pictures
):
    check_settings(main, locals(), **TEST_RULES, backend=BACKENDS, normalise=NORMALISATIONS,
                   thres=or_none(threshold_rule(score_rule(backend, normalise), ['eer', 'model'])),
                   piece_seconds=PIECES if identify else SECONDS)
    if trials != 'enrolled' and (identify or piece_seconds is not None):
        raise LabError("trials = %r: piece_seconds and identify need trials = 'enrolled'." % trials)
    if identify and thres is not None and thres != 'model' and not is_number(thres):
        raise LabError("thres = %r: with identify, it must be a number, 'model' or None." % (thres,))
    model = load_model(use_cuda, log_dir, cp_num, None, None)
    scorer, picture_dir = Scorer(backend, model, normalise), embedding_dir if plot else None

    # Find the files
    if trials == 'enrolled':
        DB, embeddings = load_tests(model, test_dir, embedding_dir)
        a_file = DB['filename'][0]
    elif trials == 'pairs':
        provide_test_features(test_dir)
        DB = read_feats_and_wavs(test_dir)
        a_file = DB['filename'][0]
    else:
        a_file = file_of_trial(read_trials(trials)[1][0], test_dir)
    thres = choose_thres(thres, model, scorer.name, a_file)

    # Identify them
    if identify:
        identify_all(use_cuda, model, embeddings, DB, test_frames, list(embeddings), thres=thres,
                     scorer=scorer, piece_seconds=piece_seconds, picture_dir=picture_dir)
        return

    # Or compare them, by every backend
    if trials == 'enrolled':
        found = trials_with_enrolled(use_cuda, model, DB, embeddings, test_frames, piece_seconds)
    elif trials == 'pairs':
        found = trials_of_pairs(use_cuda, model, DB, test_frames)
    else:
        found = trials_of_list(use_cuda, model, trials, test_dir, test_frames)
    vectors, _, first, second, is_target = found
    scores_of = {name: Scorer(name, model, normalise).trials(vectors, first, second)
                 for name in available_backends(model)}
    description = own_description(model, scorer.name, a_file)
    verify_trials(scores_of[backend], found, 'eer' if thres is None else thres, description, picture_dir,
                  scorer.unit)
    for name, scores in scores_of.items():
        print("EER, backend '%s'%s : %.2f %%" % (name, ', ' + normalise if normalise else '',
                                                 equal_error_rate(scores[is_target], scores[~is_target])))


if __name__ == '__main__':
    run_script(main)
