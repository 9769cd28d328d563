"""How well does a model recognise people it has never heard? Every two recordings of a folder are compared.

    python experiments/strangers.py <folder> [folder ...] --cp_num=voices --thres=model
    python experiments/strangers.py <folder> "--lengths=[None, 4, 2]" --n_pieces=6    # whole, and pieces of 4 s and 2 s

A folder holds <speaker>/<name>.wav, or feature files. Each piece goes through the network in one pass. Pieces of one
recording are not compared with each other. Prints a row for each folder and length: the equal error rate of all pairs,
with an interval of 90 % (speakers drawn anew), and that of pairs of one sex; how many pieces are identified if only the
first recording of each speaker is enrolled; and the errors at a threshold. --thres=model: that of the checkpoint for
the length of the shorter piece, and Cllr of its calibration. Writes nothing. 250 recordings take a minute.
"""
import contextlib
import io
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

import project  # noqa: F401 (finds the lab)

import configure as c
from DB_wav_reader import read_feats_and_wavs
from SR_Dataset import read_MFB
from deep_dive.backends import BACKENDS, Scorer
from exercises.scoring import all_pairs, bootstrap_interval, cllr, equal_error_rate, min_cllr
from exercises.thresholds import SECONDS
from model import embed_feature, load_model
from support.checks import sex_of
from support.enrolments import choose_thres, own_description
from support.messages import NAME, SCORE_OR_MODEL, TEST_RULES, LabError, check_settings, or_none, run_script, whole

LENGTHS = 'a list of lengths in seconds, such as [None, 4, 2]', lambda value: (
    isinstance(value, list) and len(value) > 0 and all(SECONDS[1](length) for length in value))


def cut(whole_thing, length, most):
    """The first pieces, at most so many, that an array is cut into. length None: one piece, the whole."""
    if length is None:
        return [whole_thing]
    return [whole_thing[i:i + length] for i in range(0, len(whole_thing) - length + 1, length)][:most]


def read_sexes(filename):
    """Dict speaker -> 'F' or 'M' of a text file with lines such as `anna F`."""
    lines = Path(filename).read_text(encoding='utf-8').splitlines()
    return {line.rpartition(' ')[0]: line.rpartition(' ')[2] for line in lines if line.strip()}


def figures_of(vectors, speakers, recordings, scorer, sexes, seconds=None, thresholds=None, lines=None):
    """The figures of all pairs of d-vectors of two recordings, as a dict. Raises LabError if a kind of pair is missing.

    vectors: (n, embedding_size) tensor of unit length; speakers, recordings: n names, whose and of what each is;
    sexes: as of read_sexes. Of each pair, the shorter piece decides which threshold and which calibration counts:
    seconds, thresholds: (n,); lines: (n, 2), slope and offset. Without them, there are no errors and no Cllr.
    """
    speakers, recordings = np.array(speakers), np.array(recordings)
    first, second = all_pairs(len(speakers))
    two_recordings = recordings[first] != recordings[second]
    first, second = first[two_recordings], second[two_recordings]
    is_target, scores = speakers[first] == speakers[second], scorer.trials(vectors, first, second)
    if is_target.all() or not is_target.any():
        raise LabError('two speakers are needed, and two recordings of one of them.')
    target, impostor = scores[is_target], scores[~is_target]
    shorter = first if seconds is None else np.where(seconds[first] < seconds[second], first, second)
    sex = np.array([sexes.get(speaker, sex_of(speaker)) for speaker in speakers])
    of_one_sex = ~is_target & (sex[first] == sex[second]) & (sex[first] != '')  # pairs of two speakers
    names, number = np.unique(speakers, return_inverse=True)
    low, high = bootstrap_interval(scores, is_target, number[first], number[second], n_rounds=200, level=90)

    # Enrol the first recording of each speaker, and identify the pieces of all others
    enrolled = {name: recordings[speakers == name][0] for name in names}
    is_enrolled = np.array([enrolled[name] == recording for name, recording in zip(speakers, recordings)])
    gallery = F.normalize(torch.stack([vectors[is_enrolled & (speakers == name)].sum(dim=0) for name in names]))
    answers = names[scorer(vectors[~is_enrolled], gallery).argmax(axis=1)]

    figures = {'speakers': len(names), 'targets': len(target), 'impostors': len(impostor),
               'EER': equal_error_rate(target, impostor), 'from': low, 'to': high,
               'identified': 100 * np.mean(answers == speakers[~is_enrolled]),
               'own, median': np.median(target), 'others, median': np.median(impostor)}
    if of_one_sex.any():
        figures['EER, same sex'] = equal_error_rate(target, scores[of_one_sex])
    if thresholds is not None:
        accepted = scores > thresholds[shorter]
        figures.update({'threshold, median': np.median(thresholds[shorter]),
                        'rejected': 100 * np.mean(~accepted[is_target]),
                        'accepted': 100 * np.mean(accepted[~is_target])})
        if of_one_sex.any():
            figures['accepted, same sex'] = 100 * np.mean(accepted[of_one_sex])
    if lines is not None:
        slope, offset = lines[shorter].T
        ratios = slope * scores + offset
        figures.update({'Cllr': cllr(ratios[is_target], ratios[~is_target]), 'min Cllr': min_cllr(target, impostor)})
    return figures


def read_folder(folder, level):
    """The recordings of a folder: (DataFrame, list of features (n_frames, n_dims)). Notes on them are not printed."""
    with contextlib.redirect_stdout(io.StringIO()):
        DB = read_feats_and_wavs(folder)
        return DB, [read_MFB(filename, level)[0] for filename in DB['filename']]


def measure(model, folder, lengths, n_pieces, backend, thres, sexes):
    """The figures of one folder, a dict for each length. The other arguments are settings of main()."""
    DB, features = read_folder(folder, model.settings['level'])
    filename, scorer, rows = DB['filename'][0], Scorer(backend, model), []
    for seconds in lengths:
        length = None if seconds is None else round(seconds / c.WIN_STEP)
        pieces = [(piece, speaker, number) for number, (feature, speaker) in enumerate(zip(features, DB['speaker_id']))
                  for piece in cut(feature, length, n_pieces)]
        if not pieces:
            raise LabError('%s: no recording has %g s.' % (folder, seconds))
        vectors = torch.cat([embed_feature(True, piece, model, None) for piece, _, _ in pieces])
        _, speakers, recordings = zip(*pieces)
        length_of = np.array([len(piece) * c.WIN_STEP for piece, _, _ in pieces])  # seconds
        thresholds = lines = None
        if thres is not None:
            thresholds = np.array([choose_thres(thres, model, backend, filename, length) for length in length_of])
        if thres == 'model':
            described = [own_description(model, backend, filename, length) for length in length_of]
            lines = np.array([(one['slope'], one['offset']) for one in described])
        try:
            figures = figures_of(vectors, speakers, recordings, scorer, sexes, length_of, thresholds, lines)
        except LabError as error:
            raise LabError('%s: %s' % (folder, error)) from error
        rows.append({'folder': folder, 'seconds': seconds or 'whole', **figures})
    return rows


def print_table(rows):
    """Print a list of dicts of figures as a table."""
    print(pd.DataFrame(rows).to_string(index=False, float_format='{:.2f}'.format, na_rep=''))


def main(
        # Settings
        folders=[],  # the recordings of each folder are compared with each other
        cp_num='voices',  # which checkpoint
        log_dir='model_saved',  # where the checkpoints are saved
        backend='cosine',  # or 'centre', 'lda', 'wccn', 'plda'
        lengths=[None],  # seconds of a piece; None: whole recordings; try [None, 4, 2]
        n_pieces=1,  # pieces of each recording, at most; more of them give a more exact figure
        thres=None,  # count the errors at this threshold; try 'model'
        sexes=None,  # a file that names the sex of speakers, with lines such as `anna F`
):
    if not folders:
        raise LabError('Name a folder or more: each holds <speaker>/<name>.wav.')
    check_settings(main, locals(), cp_num=TEST_RULES['cp_num'], lengths=LENGTHS, n_pieces=whole(1), backend=BACKENDS,
                   thres=or_none(SCORE_OR_MODEL), sexes=or_none(NAME))
    model = load_model(True, log_dir, cp_num, None, None)
    sexes = read_sexes(sexes) if sexes else {}
    print_table([row for folder in folders for row in measure(model, folder, lengths, n_pieces, backend, thres, sexes)])


if __name__ == '__main__':
    run_script(main, words=True)
