"""Make the features that configure.py describes from log filterbank files, because there are no recordings to read.

    python experiments/other_features.py <folder of published log filterbank files> <new folder>

Writes <new folder>/<speaker>/<utterance>.p as USE_MFCC, N_CEPSTRUM, USE_LOGSCALE, USE_DELTA and USE_SCALE say. Takes
a few minutes on two cores for the 24,000 files of the real corpus.

The files hold 20*log10 of the energies minus the mean of each filter. The floor tells what that mean was. In nearly
every filter, some frame lies on the floor, so energy = 10 ** ((x - min(x) - 100) / 20). If no frame of a filter does,
its energies come out too low by one factor. This matters only with USE_LOGSCALE = False, because otherwise each row
loses its mean.
"""
from pathlib import Path

import numpy as np

import project  # noqa: F401 (finds the lab)

import configure as c
from DB_wav_reader import find_feats, finish_features, write_feature
from support.checks import PUBLISHED_SETTINGS
from support.messages import LabError, in_parallel, run_script
from support.safe_files import read_pickles

NEEDS_RECORDINGS = ['SAMPLE_RATE', 'WIN_LENGTH', 'WIN_STEP', 'FILTER_BANK', 'ENERGY_FLOOR']  # to change these


def convert_feature(task):
    """Make one feature file of another. task is (log filterbank file, new file). Raises LabError for another kind."""
    old_file, new_file = task
    content = read_pickles(old_file)[0]
    # Other feature files have more entries
    if (not isinstance(content, dict) or content.keys() != {'feat', 'label'}
            or not isinstance(content['feat'], np.ndarray) or content['feat'].shape[1:] != (c.FILTER_BANK,)):
        raise LabError('%s: not a published log filterbank file. Name a folder of those.' % old_file)
    feature = content['feat']  # (n_frames, FILTER_BANK)
    log_energies = feature - feature.min(axis=0) + 20 * np.log10(c.ENERGY_FLOOR)
    write_feature(new_file, finish_features(log_energies), content['label'])


def main(
        # Settings
        old_dir='',  # the published log filterbank files
        new_dir='',  # where the new ones go; a new folder
):
    if not old_dir or not new_dir:
        raise LabError('Give two folders: log filterbank files, and where the new ones go.')
    old_dir, new_dir = Path(old_dir), Path(new_dir)
    for name in NEEDS_RECORDINGS:
        if getattr(c, name) != PUBLISHED_SETTINGS[name]:
            raise LabError('%s = %s in configure.py needs recordings, because the files have %s. Run python '
                           'DB_wav_reader.py.' % (name, getattr(c, name), PUBLISHED_SETTINGS[name]))
    if not find_feats(old_dir):
        raise LabError('%s holds no feature files.' % old_dir)
    if new_dir.exists():
        raise LabError('%s exists already: remove it, or name another folder.' % new_dir)

    tasks = [(old_file, new_dir / Path(old_file).relative_to(old_dir)) for old_file in find_feats(old_dir)]
    in_parallel(convert_feature, tasks, 'Features of %s' % old_dir)
    print('%s: %d feature files' % (new_dir, len(tasks)))


if __name__ == '__main__':
    run_script(main, words=True)
