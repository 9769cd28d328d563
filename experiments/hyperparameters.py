"""Six trainings of exercise 2, three times each: the table of docs/teacher.md.

    python experiments/hyperparameters.py [folder]

Trains with three learning rates and two schedules, and three seeds of each. The other settings are those of exercise
2. Then enrols the ten test voices, and compares their test files, cut into pieces of 1 s, with all of them. Prints a
row for each training, and a row for each setting: the mean of its seeds, and in brackets the lowest and the highest.
Writes each training into a folder of its own below `folder`. A training that was interrupted goes on. One that is
there already is only measured. 18 trainings take about an hour on one core with bfloat16.
"""
from pathlib import Path

import numpy as np
import pandas as pd

import project  # noqa: F401 (finds the lab)

import configure as c
import train
from DB_wav_reader import split_enroll_and_test
from exercises.scoring import bootstrap_interval, equal_error_rate, rates_at, trial_scores
from exercises.thresholds import trials_with_enrolled
from model import get_embeddings, load_model
from support.demo_voices import provide_test_features
from support.messages import check_settings, run_script
from support.runs import RUN_FILE, read_run

EXERCISE = {'batch_size': 32, 'wd': 5e-4}  # the settings of exercise 2
LEARNING_RATES, SCHEDULES = [0.01, 0.1, 1.0], ['onecycle', 'plateau']
ENROLL_FRAMES, TEST_FRAMES = 200, 100  # as in enroll.py and verification.py
PIECE_SECONDS, THRES = 1, 0.95  # exercises.thresholds --piece_seconds=1, and the threshold of the slides


def train_once(log_dir, n_epochs, **settings):
    """Train into log_dir, or go on with the training that is there. Returns its run.json."""
    n_done = len(read_run(log_dir)['epochs']) if (Path(log_dir) / RUN_FILE).exists() else 0
    if n_done < n_epochs:
        train.main(log_dir=log_dir, start=n_done + 1, n_epochs=n_epochs - n_done, plot=False, **EXERCISE, **settings)
    return read_run(log_dir)


def measure(log_dir):
    """The trials of exercises.thresholds with the best epoch of a training, as a dict of numbers (percent, cosine)."""
    model = load_model(True, log_dir, 'best', None, None)
    enroll_DB, test_DB = split_enroll_and_test(c.TEST_FEAT_DIR)
    embeddings = {speaker: get_embeddings(True, filename, model, ENROLL_FRAMES)
                  for speaker, filename in zip(enroll_DB['speaker_id'], enroll_DB['filename'])}
    vectors, speakers, first, second, is_target = trials_with_enrolled(True, model, test_DB, embeddings, TEST_FRAMES,
                                                                       PIECE_SECONDS)
    scores = trial_scores(vectors.numpy(), first, second)
    miss, false_alarm = rates_at(THRES, scores[is_target], scores[~is_target])
    low, high = bootstrap_interval(scores, is_target, speakers[first], speakers[second])
    return {'EER': equal_error_rate(scores[is_target], scores[~is_target]), 'from': low, 'to': high,
            'Accepted at %g' % THRES: 100 * false_alarm, 'Rejected': 100 * miss,
            'Score of two voices': scores[~is_target].mean()}


def mean_and_range(values):
    """'64.3 (60.1 to 66.0)': the mean of numbers, the lowest and the highest."""
    return '{:.2f} ({:.2f} to {:.2f})'.format(np.mean(values), np.min(values), np.max(values))


def main(
        # Settings
        folder='model_exercise_2',  # where the trainings go
        n_seeds=3,  # trainings of each setting
        n_epochs=10,  # as in exercise 2
):
    check_settings(main, locals())
    provide_test_features()
    rows = []
    for seed in range(n_seeds):
        for schedule in SCHEDULES:
            for lr in LEARNING_RATES:
                log_dir = '%s/%s_%g_seed_%d' % (folder, schedule, lr, seed)
                epochs = train_once(log_dir, n_epochs, lr=lr, scheduler_type=schedule, seed=seed)['epochs']
                rows.append({'Learning rate': lr, 'Schedule': schedule, 'Seed': seed,
                             'Accuracy': max(epoch['valid_acc'] for epoch in epochs),
                             'Lowest loss': min(epoch['valid_loss'] for epoch in epochs), **measure(log_dir)})
    table = pd.DataFrame(rows).sort_values(['Schedule', 'Learning rate', 'Seed'])
    print('\n' + table.to_string(index=False, float_format='{:.2f}'.format))
    of_settings = table.drop(columns='Seed').groupby(['Schedule', 'Learning rate']).agg(mean_and_range)
    print('\n' + of_settings.to_string())


if __name__ == '__main__':
    run_script(main, words=True)
