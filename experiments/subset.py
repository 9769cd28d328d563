"""A smaller corpus: the first files of the first speakers of a feature folder, as links.

    python tests/subset.py <feature folder> <new folder> <number of speakers> <files of each>

Then set TRAIN_FEAT_DIR in configure.py to the new folder. Takes a second.
"""
import sys
from pathlib import Path

import project  # noqa: F401  (the lab, one folder up, is found)

from DB_wav_reader import find_feats
from support.messages import LabError, run_script


def link_subset(feat_dir, new_dir, n_speakers, files):
    """Link those files of each of the first n_speakers below feat_dir that the slice `files` picks, sorted by name."""
    speakers = sorted(folder for folder in Path(feat_dir).glob('*') if folder.is_dir())
    if len(speakers) < n_speakers:
        raise LabError('%s has %d speakers, not %d.' % (feat_dir, len(speakers), n_speakers))
    if Path(new_dir).exists():
        raise LabError('%s exists already: remove it, or name another folder.' % new_dir)
    for speaker in speakers[:n_speakers]:
        (Path(new_dir) / speaker.name).mkdir(parents=True)
        for filename in find_feats(speaker)[files]:
            (Path(new_dir) / speaker.name / Path(filename).name).symlink_to(Path(filename).resolve())


def main():
    if len(sys.argv) != 5:
        raise LabError('Give a feature folder, a new folder, the number of speakers and that of files of each.')
    feat_dir, new_dir, n_speakers, n_files = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    link_subset(feat_dir, new_dir, n_speakers, slice(n_files))
    print('%s: %d speakers, %d files of each' % (new_dir, n_speakers, n_files))


if __name__ == '__main__':
    run_script(main)
