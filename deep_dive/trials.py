"""Score otherwise than by the cosine, and try other trials than those of exercises/thresholds.py.

    python -m deep_dive.trials --backend=plda --normalise=as-norm
    python -m deep_dive.trials --trials=pairs --test_dir=...     # every two utterances of a folder
    python -m deep_dive.trials --trials=list.txt                 # those of a list, of VoxCeleb or of Kaldi
    python -m deep_dive.trials --trials=list.txt --scores_file=x.csv    # every score into a file
    python -m deep_dive.trials --backend=plda --identify=True    # who is it, by these scores?

Reads what verification.py reads. Prints and draws what exercises/thresholds.py does, and the equal error rate
of every backend. With identify, it does what exercises/similar_voices.py does. test_dir may be a folder of
Kaldi (deep_dive/kaldi.py). Takes ten seconds.
"""
import os
from pathlib import Path

import numpy as np
import pandas as pd
import torch

import configure as c
from DB_wav_reader import read_feats_and_wavs, speaker_of
from deep_dive.backends import BACKENDS, NORMALISATIONS, Scorer, available_backends
from deep_dive.kaldi import is_kaldi, read_kaldi
from exercises.scoring import all_pairs, equal_error_rate
from exercises.similar_voices import PIECES, embed_pieces, identify_all, load_tests
from exercises.thresholds import ANY_SCORE, SECONDS, same_speaker, threshold_rule, trials_with_enrolled
from exercises.thresholds import verify_trials
from model import get_embeddings, load_model
from support.checks import COSINES
from support.demo_voices import provide_test_features
from support.enrolments import choose_thres, own_description
from support.messages import SCORE, SHARE, TEST_RULES, LabError, as_on_disk, check_settings, ending, is_number
from support.messages import or_none, run_script
from support.safe_files import written_whole


# ------------------------------------------------------------------------------------- kinds of trials

def trials_of_pairs(use_cuda, model, DB, test_frames):
    """Compare every two utterances of DB once. Returns what trials_with_enrolled does."""
    vectors, speakers = embed_pieces(use_cuda, DB, model, test_frames, None)
    speakers = np.array(speakers)
    first, second = all_pairs(len(vectors))
    return vectors, speakers, first, second, same_speaker(speakers, first, second)


def trials_of_list(use_cuda, model, filename, test_dir, test_frames):
    """The trials of a list. Returns what trials_with_enrolled does. is_target is None if the list has no labels.

    Its paths begin in test_dir. If that is a folder of Kaldi, they are the utterances of wav.scp.
    """
    is_target, left, right = read_trials(filename)
    paths = sorted({*left, *right})
    files, speakers = files_of_trials(paths, test_dir)
    row = {path: i for i, path in enumerate(paths)}
    vectors = torch.cat([get_embeddings(use_cuda, file, model, test_frames) for file in files])
    first, second = np.array([row[path] for path in left]), np.array([row[path] for path in right])
    return vectors, np.array(speakers), first, second, is_target


def files_of_trials(paths, test_dir):
    """The files of the paths in a trial list: (list of files, list of their speakers)."""
    if not is_kaldi(test_dir):
        files = [file_of_trial(path, test_dir) for path in paths]
        return files, [speaker_of(filename) for filename in files]
    DB = read_kaldi(test_dir).set_index('utterance')
    missing = [path for path in paths if path not in DB.index]
    if missing:
        raise LabError('%s is not in wav.scp of %s. Set test_dir, or take its trials out of the list.'
                       % (missing[0], test_dir))
    return list(DB.loc[paths, 'filename']), list(DB.loc[paths, 'speaker_id'])


def file_of_trial(path, test_dir):
    """The file of a path in a trial list, or its features, in test_dir. Raises LabError for neither."""
    filename = as_on_disk(os.path.join(test_dir, path))
    feat_file = as_on_disk(os.path.splitext(filename)[0] + '.p')
    if not os.path.isfile(filename) and not os.path.isfile(feat_file):
        raise LabError('%s: there is no such file, nor its features. Set test_dir, or take its trials out of '
                       'the list.' % filename)
    return filename if os.path.isfile(filename) else feat_file


def read_trials(filename):
    """Read a trial list: lines of VoxCeleb, `1 path path` for targets and `0 path path` for impostors, or of
    Kaldi, `path path target` and `path path nontarget`, or without labels, `path path`.

    Returns (is_target (n,), first paths, second paths). Without labels, is_target is None. Raises LabError,
    with the line, if a line is something else than the first one.
    """
    if not Path(filename).is_file():
        raise LabError("trials = %r: there is no such trial list. Write 'enrolled', 'pairs', or the name of "
                       "a file." % str(filename))
    labels, first, second, kinds = [], [], [], set()
    try:
        with open(filename, encoding='utf-8-sig') as f:  # Windows may write a mark at the beginning
            for i, line in enumerate(f, 1):
                fields = line.split(None, 3)
                if not fields:
                    continue
                kind, label, *paths = read_trial(fields)
                kinds.add(kind)
                if kind is None or len(kinds) > 1:
                    raise LabError('%s, line %d: %s: %s' % (
                        filename, i, 'not a trial `1 path path` or `0 path path`' if kind is None else
                        'a trial in another format than those before it', ' '.join(line[:60].split())))
                labels.append(label)
                first.append(paths[0])
                second.append(paths[1])
    except UnicodeDecodeError as error:
        raise LabError('%s: no text in UTF-8. A line of a trial list is a trial: 1 path path'
                       % filename) from error
    if kinds == {'no label'}:
        return None, first, second
    if len(set(labels)) < 2:
        raise LabError('%s: needs trials of both kinds, 1 and 0. To score them only, leave out the labels.'
                       % filename)
    return np.array(labels), first, second


def read_trial(fields):
    """The words of a line of a trial list: (kind of list, whether it is a target, first path, second path).

    The kind is None if they are no trial.
    """
    if len(fields) == 3 and fields[0] in ('0', '1'):
        return 'VoxCeleb', fields[0] == '1', fields[1], fields[2]
    if len(fields) == 3 and fields[2] in ('target', 'nontarget'):
        return 'Kaldi', fields[2] == 'target', fields[0], fields[1]
    if len(fields) == 2 and fields[0] not in ('0', '1'):
        return 'no label', None, *fields
    return None, None, '', ''


# ------------------------------------------------------------------------------------- scores for other programs

def write_scores(filename, names, first, second, scores, is_target):
    """Write a CSV file: first, second, score, target (1, 0, or nothing if nobody says). Trial i compares
    names[first[i]] and names[second[i]].
    """
    names = np.array(names, dtype=object)
    table = pd.DataFrame({'first': names[first], 'second': names[second], 'score': scores,
                          'target': '' if is_target is None else is_target.astype(int)})
    with written_whole(filename) as f:
        f.write(table.to_csv(index=False, float_format='%.6f', lineterminator='\n').encode())
    print('%d scores : %s' % (len(scores), filename))


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
        p_target=0.01,  # minDCF: how often it is the true speaker; try 0.05 or 0.005
        scores_file=None,  # write every score into this file, such as 'scores.csv'
        plot=True,  # draw the pictures
):
    check_settings(main, locals(), **TEST_RULES, backend=BACKENDS, normalise=NORMALISATIONS,
                   thres=or_none(threshold_rule(score_rule(backend, normalise), ['eer', 'model'])),
                   scores_file=or_none(ending('.csv')), p_target=SHARE,
                   piece_seconds=PIECES if identify else SECONDS)
    if trials != 'enrolled' and (identify or piece_seconds is not None):
        raise LabError("trials = %r: piece_seconds and identify need trials = 'enrolled'." % trials)
    if scores_file is not None and (identify or piece_seconds is not None):
        raise LabError('scores_file = %r: it needs identify = False and piece_seconds = None.' % scores_file)
    if identify and thres is not None and thres != 'model' and not is_number(thres):
        raise LabError("thres = %r: with identify, it must be a number, 'model' or None." % (thres,))
    model = load_model(use_cuda, log_dir, cp_num, None, None)
    scorer, picture_dir = Scorer(backend, model, normalise), embedding_dir if plot else None

    # Find the files
    if trials == 'enrolled':
        DB, embeddings = load_tests(model, test_dir, embedding_dir)
        names, has_labels = [*DB['filename'], *sorted(embeddings)], True
        a_file = DB['filename'][0]
    elif trials == 'pairs':
        provide_test_features(test_dir)
        DB = read_kaldi(test_dir) if is_kaldi(test_dir) else read_feats_and_wavs(test_dir)
        names = list(DB['utterance'] if is_kaldi(test_dir) else DB['filename'])
        a_file, has_labels = DB['filename'][0], all(DB['speaker_id'])
    else:
        is_target, left, right = read_trials(trials)
        names = sorted({*left, *right})
        files, speakers = files_of_trials(names, test_dir)
        a_file, has_labels = files[0], is_target is not None and all(speakers)
        if is_target is not None and not has_labels and scores_file is None:
            raise LabError('%s says which trials are of one speaker, but not who the speakers are: utt2spk is missing '
                           'in %s.\nAdd it, or set --scores_file=scores.csv.' % (trials, test_dir))
    if not has_labels and scores_file is None:
        raise LabError('Nobody says which trials are of one speaker, so there are no error rates.\nTo write the '
                       'scores into a file, set --scores_file=scores.csv. With a folder of Kaldi, see utt2spk.')
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
    if scores_file is not None:
        is_target = is_target if has_labels or trials != 'pairs' else None
        write_scores(scores_file, names, first, second, scorer.trials(vectors, first, second), is_target)
        if not has_labels or len(set(is_target)) < 2:
            return  # there are no error rates
    scores_of = {name: Scorer(name, model, normalise).trials(vectors, first, second)
                 for name in available_backends(model)}
    description = own_description(model, scorer.name, a_file)
    verify_trials(scores_of[backend], found, 'eer' if thres is None else thres, description, picture_dir,
                  scorer.unit, p_target)
    for name, scores in scores_of.items():
        print("EER, backend '%s'%s : %.2f %%" % (name, ', ' + normalise if normalise else '',
                                                 equal_error_rate(scores[is_target], scores[~is_target])))


if __name__ == '__main__':
    run_script(main)
