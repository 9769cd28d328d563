"""A smaller corpus: the first files of the first speakers of a feature folder, as links.

    python experiments/subset.py <feature folder> <new folder> <number of speakers> <files of each>
    python train.py --train_dir=<new folder>

Takes a second.
"""
from pathlib import Path

import project  # noqa: F401 (finds the lab)

from DB_wav_reader import find_feats
from support.messages import LabError, check_settings, run_script


def link_subset(feat_dir, new_dir, n_speakers, files):
    """Link those files of each of the first n_speakers below feat_dir that the slice `files` picks, sorted by name.

    Returns how many files were linked.
    """
    speakers = sorted(folder for folder in Path(feat_dir).glob('*') if folder.is_dir())
    if len(speakers) < n_speakers:
        raise LabError('%s has %d speakers, not %d.' % (feat_dir, len(speakers), n_speakers))
    if Path(new_dir).exists():
        raise LabError('%s exists already: remove it, or name another folder.' % new_dir)
    n_files = 0
    for speaker in speakers[:n_speakers]:
        (Path(new_dir) / speaker.name).mkdir(parents=True)
        for filename in find_feats(speaker)[files]:
            (Path(new_dir) / speaker.name / Path(filename).name).symlink_to(Path(filename).resolve())
            n_files += 1
    return n_files


def main(
        # Settings
        feat_dir='',  # the feature folder
        new_dir='',  # where the links go; a new folder
        n_speakers=50,  # how many speakers
        n_files=50,  # how many files of each, at most
):
    if not feat_dir or not new_dir:
        raise LabError('Give a feature folder, a new folder, the number of speakers and that of files of each.')
    check_settings(main, locals())
    n_linked = link_subset(feat_dir, new_dir, n_speakers, slice(n_files))
    print('%s: %d speakers, %d files' % (new_dir, n_speakers, n_linked))


if __name__ == '__main__':
    run_script(main, words=True)
