"""Is a model equally good for everybody? Its errors by sex, age and language, with one threshold for all groups.

    python experiments/groups.py people.csv <folder> [folder ...]

A folder holds <speaker>/<name>.wav, or feature files. people.csv says what is known of the speakers: a line for each,
below a first line that names the columns, such as `speaker,sex,age,language`. A speaker may be missing, or a cell be
empty. Ages in years are put together (AGES). Every two recordings of a folder are compared. The threshold is that of
the model for the length of the shorter recording, or thres. Prints a row for each folder, column and group: how many
people, how many pairs of one speaker are rejected, and how many pairs of two speakers of this group are accepted. The
row `same` is of all pairs within a group, and `different` of those of two groups. Behind each share stands an interval
of 95 %, for which people are drawn anew. Writes nothing. 250 recordings take a minute.
"""
import numpy as np
import pandas as pd

import project  # noqa: F401 (finds the lab)

import configure as c
from deep_dive.calibration import piece_vectors
from exercises.scoring import all_pairs, draw_speakers, rule_of_three, trial_scores
from model import load_model
from strangers import print_table, read_folder
from support.enrolments import choose_thres
from support.messages import SCORE_OR_MODEL, TEST_RULES, LabError, check_settings, in_one_line, run_script, whole

AGES = {'to 12 years': 12, '13 to 19 years': 19, '20 to 39 years': 39, '40 to 59 years': 59, '60 years and more': 150}
N_ROUNDS, LEVEL = 500, 95  # of the interval of a share: how often people are drawn anew, percent


def read_people(filename):
    """What is known of people: a DataFrame of texts with a row for each speaker, '' where nothing is known.

    Raises LabError if the file is no such table.
    """
    try:
        people = pd.read_csv(filename, dtype=str, keep_default_na=False, skipinitialspace=True)
    except (ValueError, OSError) as error:
        raise LabError('%s: no table that can be read: %s' % (filename, in_one_line(error))) from error
    if 'speaker' not in people or len(people.columns) < 2 or people['speaker'].duplicated().any():
        raise LabError('%s: the first line must name the columns, such as speaker,sex,age,language. Then comes one '
                       'line for each speaker.' % filename)
    people = people.set_index('speaker')
    if 'age' in people:
        people['age'] = [age_group(age, filename) for age in people['age']]
    return people


def age_group(age, filename):
    """The key of AGES to which an age in years belongs, a text; '' if it is empty. Raises LabError for other texts."""
    if not age:
        return ''
    try:
        return next(name for name, oldest in AGES.items() if 0 < float(age) < oldest + 1)
    except (ValueError, StopIteration):
        raise LabError('%s: age = %r is no number of years.' % (filename, age)) from None


def share_with_interval(is_error, first, second):
    """The share of pairs with an error and its interval in percent, as in '8.7 (6.2 to 11.0)'. '' without any pairs.

    is_error: (n,) of bool; first, second: (n,), the numbers of the two speakers, or twice that of one. The interval is
    by the bootstrap: speakers are drawn with replacement, and a pair counts as often as its speakers were drawn, as in
    bootstrap_interval of exercises/scoring.py. A draw without any of the pairs is left out. Without an error it says
    nothing: then the rule of three is used, as in '0.0 (up to 30)'.
    """
    if not len(is_error):
        return ''
    if not np.any(is_error):
        return '0.0 (up to %.0f)' % rule_of_three(len(np.unique([first, second])))
    speakers, place = np.unique(np.stack([first, second]), return_inverse=True)
    (one, two), row = np.unique(place.reshape(2, -1), axis=1, return_inverse=True)  # the same two speakers in one row
    errors, pairs = np.bincount(row.ravel(), is_error), np.bincount(row.ravel())
    rng, shares = np.random.default_rng(0), []
    for _ in range(N_ROUNDS):
        weights = draw_speakers(one, two, len(speakers), rng)
        if weights @ pairs:
            shares.append(100 * (weights @ errors) / (weights @ pairs))
    low, high = np.percentile(shares, [(100 - LEVEL) / 2, (100 + LEVEL) / 2])
    return '%.1f (%.1f to %.1f)' % (100 * np.mean(is_error), low, high)


def rows_of(is_accepted, speakers, first, second, groups, n_least):
    """A dict for each group of at least n_least people, and for the pairs of one group and of two, of any size.

    is_accepted, first, second: (n_pairs,); pair i compares the recordings first[i] and second[i]. speakers, groups:
    for each recording, whose it is, and the group of that speaker ('': not known).
    """
    number = np.unique(speakers, return_inverse=True)[1]
    first_speaker, second_speaker = number[first], number[second]
    is_target, of_one_group = first_speaker == second_speaker, groups[first] == groups[second]
    is_known = (groups[first] != '') & (groups[second] != '')
    n_people = {group: len({*speakers[groups == group]}) for group in sorted({*groups} - {''})}
    chosen = {group: of_one_group & (groups[first] == group) for group, n in n_people.items() if n >= n_least}
    if len(n_people) > 1:
        chosen.update({'same': is_known & of_one_group, 'different': is_known & ~of_one_group})
    rows = []
    for group, pairs in chosen.items():
        own, others = pairs & is_target, pairs & ~is_target
        rows.append({
            'group': group, 'people': n_people.get(group, sum(n_people.values())),
            'pairs of one': own.sum(),
            'rejected, %': share_with_interval(~is_accepted[own], first_speaker[own], second_speaker[own]),
            'pairs of two': others.sum(),
            'accepted, %': share_with_interval(is_accepted[others], first_speaker[others], second_speaker[others])})
    return rows


def measure(model, folder, people, thres, n_least):
    """The rows of one folder for all columns of people: a list of dicts. The other arguments are settings of main()."""
    DB, features = read_folder(folder, model.settings['level'])
    vectors, speakers = piece_vectors(model, features, list(DB['speaker_id']), None, True)
    speakers, (first, second) = np.array(speakers), all_pairs(len(speakers))
    seconds = np.array([len(feature) * c.WIN_STEP for feature in features])
    shorter = np.where(seconds[first] < seconds[second], first, second)
    thresholds = np.array([choose_thres(thres, model, 'cosine', DB['filename'][0], length) for length in seconds])
    is_accepted = trial_scores(vectors.numpy(), first, second) > thresholds[shorter]
    rows = []
    for column, known in {'all': dict.fromkeys(speakers, 'all'), **people.to_dict()}.items():
        groups = np.array([known.get(speaker, '') for speaker in speakers])
        rows += [{'folder': folder, 'column': column, **row}
                 for row in rows_of(is_accepted, speakers, first, second, groups, n_least)]
    return rows


def main(
        # Settings
        people='',  # a table of the speakers: speaker,sex,age,language and other columns
        folders=[],  # the recordings of each folder are compared with each other
        cp_num='voices',  # which checkpoint
        log_dir='model_saved',  # where the checkpoints are saved
        thres='model',  # a score above it is accepted; try 0.5241. 'model': that of the checkpoint for this length
        n_least=5,  # a smaller group has no row
):
    if not people or not folders:
        raise LabError('Name a table of the speakers, and a folder or more: each holds <speaker>/<name>.wav.')
    check_settings(main, locals(), cp_num=TEST_RULES['cp_num'], thres=SCORE_OR_MODEL, n_least=whole(2))
    known = read_people(people)
    model = load_model(True, log_dir, cp_num, None, None)
    rows = [row for folder in folders for row in measure(model, folder, known, thres, n_least)]
    if not rows:
        raise LabError('%s: none of its groups has %d people in these folders.' % (people, n_least))
    print_table(rows)


if __name__ == '__main__':
    run_script(main, words=True)
