"""How well does a model recognise people it has never heard? Every two recordings of a folder are compared.

    python experiments/strangers.py <folder> [folder ...] --cp_num=voices
    python experiments/strangers.py <folder> --piece_seconds=3        # the first 3 s of each recording

A folder holds <speaker>/<name>.wav, or feature files. Each recording goes through the network in one pass. Prints a
row for each folder: the equal error rate of all pairs, how many recordings are identified if only the first one of each
speaker is enrolled, and the errors at a threshold (--thres=model: that of the checkpoint). Writes nothing. 250
recordings take a minute.
"""
import contextlib
import io

import numpy as np
import pandas as pd

import project  # noqa: F401 (finds the lab)

from DB_wav_reader import read_feats_and_wavs
from SR_Dataset import read_MFB
from compare import identified_from
from deep_dive.backends import BACKENDS, Scorer
from deep_dive.calibration import piece_vectors
from exercises.scoring import all_pairs, equal_error_rate, rates_at
from exercises.thresholds import SECONDS
from model import load_model
from support.enrolments import choose_thres
from support.messages import SCORE_OR_MODEL, TEST_RULES, LabError, check_settings, or_none, run_script


def measure(model, folder, piece_seconds, backend, thres):
    """The figures of one folder, as a dict. thres: the threshold whose errors are counted, 'model', or None."""
    with contextlib.redirect_stdout(io.StringIO()):  # notes on recordings
        DB = read_feats_and_wavs(folder)
        features = [read_MFB(filename, model.settings['level'])[0] for filename in DB['filename']]  # (n_frames, n_dims)
        vectors, speakers = piece_vectors(model, features, list(DB['speaker_id']), piece_seconds, True)
    scorer, speakers = Scorer(backend, model), np.array(speakers)
    first, second = all_pairs(len(speakers))
    is_target, scores = speakers[first] == speakers[second], scorer.trials(vectors, first, second)
    if is_target.all() or not is_target.any():
        raise LabError('%s: two speakers are needed, and two recordings of one of them.' % folder)
    target, impostor = scores[is_target], scores[~is_target]
    figures = {'folder': folder, 'speakers': len(set(speakers)), 'targets': len(target), 'impostors': len(impostor),
               'EER': equal_error_rate(target, impostor), 'identified': identified_from(1, vectors, speakers, scorer),
               'own, median': np.median(target), 'others, median': np.median(impostor)}
    if thres is not None:
        threshold = choose_thres(thres, model, backend, DB['filename'][0])
        miss, false_alarm = rates_at(threshold, target, impostor)
        figures.update({'threshold': '%.4f' % threshold, 'rejected': 100 * miss, 'accepted': 100 * false_alarm})
    return figures


def main(
        # Settings
        folders=[],  # the recordings of each folder are compared with each other
        cp_num='voices',  # which checkpoint
        log_dir='model_saved',  # where the checkpoints are saved
        backend='cosine',  # or 'centre', 'lda', 'wccn', 'plda'
        piece_seconds=None,  # take the first seconds of each recording, of 500 at most; None: all recordings, whole
        thres=None,  # count the errors at this threshold; try 'model'
):
    if not folders:
        raise LabError('Name a folder or more: each holds <speaker>/<name>.wav.')
    check_settings(main, locals(), cp_num=TEST_RULES['cp_num'], piece_seconds=SECONDS, backend=BACKENDS,
                   thres=or_none(SCORE_OR_MODEL))
    model = load_model(True, log_dir, cp_num, None, None)
    rows = [measure(model, folder, piece_seconds, backend, thres) for folder in folders]
    print(pd.DataFrame(rows).to_string(index=False, float_format='{:.2f}'.format))


if __name__ == '__main__':
    run_script(main, words=True)
