"""Is the same speaker as often as own_voice.compare says? Each folder is tested with the calibration of the others.

    python experiments/certainty.py <folder> [folder ...] "--one_room=[<folder>, ...]"

A folder holds <speaker>/<name>.wav, or feature files. one_room: those of them whose people share a room and a
microphone. For each condition (one room; two places) and each length, the calibration is found on all folders of the
condition but one, and each percentage of that one is compared with the share of pairs of one speaker. Pairs of one
speaker and of two count equally, and so does each folder. Prints a row for each condition and range of percentages.
Writes nothing. 250 recordings take two minutes.
"""
import numpy as np
import pandas as pd
from scipy.special import expit

import project  # noqa: F401 (finds the lab)

from deep_dive.calibration import calibrate, equal_weights, piece_vectors
from exercises.scoring import all_pairs, cosine_scores
from model import load_model
from strangers import LENGTHS, read_folder
from support.messages import NAMES, TEST_RULES, LabError, check_settings, run_script

RANGES = [(1, 10), (10, 25), (25, 50), (50, 75), (75, 90), (90, 99), (50, 99)]  # percent


def trials_of(model, folder, lengths):
    """Scores of every two recordings of a folder: dict seconds -> (scores (n,), is_target (n,))."""
    DB, features = read_folder(folder, model.settings['level'])
    found = {}
    for seconds in lengths:
        vectors, names = piece_vectors(model, features, list(DB['speaker_id']), seconds, True)
        first, second = all_pairs(len(names))
        is_target = np.array(names)[first] == np.array(names)[second]
        if is_target.any() and not is_target.all():
            found[seconds] = cosine_scores(vectors.numpy(), vectors.numpy())[first, second], is_target
    return found


def percentages(trials, tested):
    """What a score means in one folder, by the calibration of the others: (percentages (n,), is_target (n,)).

    trials: list of (scores (n,), is_target (n,)), one of each folder; tested: the number of the folder.
    """
    others = [one for number, one in enumerate(trials) if number != tested]
    scores, is_target = (np.concatenate(part) for part in zip(*others))
    groups = np.repeat(np.arange(len(others)), [len(one) for one, _ in others])
    slope, offset = calibrate(scores[is_target], scores[~is_target], target_weights=equal_weights(groups[is_target]),
                              impostor_weights=equal_weights(groups[~is_target]))
    return 100 * expit(slope * trials[tested][0] + offset), trials[tested][1]


def compare_shares(answers):
    """What was said and what was right, a dict for each of RANGES: list of dicts of numbers.

    answers: list of (percentages (n,), is_target (n,)), one of each folder and length. Each counts equally, and in each
    the pairs of one speaker as much as those of two.
    """
    said, is_target = (np.concatenate(part) for part in zip(*answers))
    weights = np.concatenate([np.where(kind, 1 / kind.sum(), 1 / (~kind).sum()) for _, kind in answers])
    rows = []
    for low, high in RANGES:
        chosen = (said >= low) & (said < high)
        if chosen.any():
            mean, share = (np.average(values[chosen], weights=weights[chosen]) for values in (said, 100 * is_target))
            rows.append({'from, %': low, 'to, %': high, 'pairs': int(chosen.sum()), 'said, %': mean, 'right, %': share})
    return rows


def main(
        # Settings
        folders=[],  # the recordings of each folder are compared with each other
        one_room=[],  # those of them whose people share a room and a microphone
        cp_num='voices',  # which checkpoint
        log_dir='model_saved',  # where the checkpoints are saved
        lengths=[None, 8, 4, 2],  # seconds of a piece; None: whole recordings
):
    check_settings(main, locals(), cp_num=TEST_RULES['cp_num'], folders=NAMES, lengths=LENGTHS)
    model = load_model(True, log_dir, cp_num, None, None)
    trials = {folder: trials_of(model, folder, lengths) for folder in folders}
    rows = []
    for condition, members in (('one room', [folder for folder in folders if folder in one_room]),
                               ('two places', [folder for folder in folders if folder not in one_room])):
        answers = []
        for seconds in lengths:
            of_length = [trials[folder][seconds] for folder in members if seconds in trials[folder]]
            if len(of_length) > 1:
                answers += [percentages(of_length, tested) for tested in range(len(of_length))]
        if not answers:
            raise LabError('%s: name two folders or more of this condition.' % condition)
        rows += [{'condition': condition, **row} for row in compare_shares(answers)]
    print(pd.DataFrame(rows).to_string(index=False, float_format='{:.1f}'.format))


if __name__ == '__main__':
    run_script(main, words=True)
