"""Make the features that configure.py describes from log filterbank files, where there are no recordings to read.

    python tests/other_features.py <folder of published log filterbank files> <new folder>

Writes <new folder>/<speaker>/<utterance>.p as USE_MFCC, N_CEPSTRUM, USE_LOGSCALE, USE_DELTA and USE_SCALE say. Takes
a few minutes on two cores for the 24,000 files of the real corpus.

The files hold 20*log10 of the energies minus the mean of each filter, and the floor tells what that mean was: in nearly
every filter some frame lies on it, so that energy = 10 ** ((x - min(x) - 100) / 20). Where no frame does, the energies
of that filter come out too low by one factor. Only USE_LOGSCALE = False notices: otherwise, each row loses its mean.
"""
import sys
from pathlib import Path

import numpy as np

import project  # noqa: F401  (the lab, one folder up, is found)

import configure as c
from DB_wav_reader import find_feats, finish_features, write_feature
from support.checks import PUBLISHED_SETTINGS
from support.messages import LabError, in_parallel, run_script
from support.safe_files import read_pickles

TAKES_RECORDINGS = ['SAMPLE_RATE', 'WIN_LENGTH', 'WIN_STEP', 'FILTER_BANK', 'ENERGY_FLOOR']  # to change these


def convert_feature(task):
    """Make one feature file of another. task is (log filterbank file, new file). Raises LabError for another kind."""
    old_file, new_file = task
    content = read_pickles(old_file)[0]
    if not isinstance(content, dict) or content.keys() != {'feat', 'label'}:  # others say their 'settings'
        raise LabError('%s: not a published log filterbank file. Name a folder of those.' % old_file)
    feature = content['feat']  # (n_frames, FILTER_BANK)
    log_energies = feature - feature.min(axis=0) + 20 * np.log10(c.ENERGY_FLOOR)
    write_feature(new_file, finish_features(log_energies), content['label'])


def main():
    if len(sys.argv) != 3:
        raise LabError('Give two folders: log filterbank files, and where the new ones go.')
    old_dir, new_dir = Path(sys.argv[1]), Path(sys.argv[2])
    for name in TAKES_RECORDINGS:
        if getattr(c, name) != PUBLISHED_SETTINGS[name]:
            raise LabError('%s = %s in configure.py takes recordings; the files have %s. Run python DB_wav_reader.py.'
                           % (name, getattr(c, name), PUBLISHED_SETTINGS[name]))
    if not find_feats(old_dir):
        raise LabError('%s holds no feature files.' % old_dir)
    if new_dir.exists():
        raise LabError('%s exists already: remove it, or name another folder.' % new_dir)

    tasks = [(old_file, new_dir / Path(old_file).relative_to(old_dir)) for old_file in find_feats(old_dir)]
    in_parallel(convert_feature, tasks, 'Features of %s' % old_dir)
    print('%s: %d feature files' % (new_dir, len(tasks)))


if __name__ == '__main__':
    run_script(main)
