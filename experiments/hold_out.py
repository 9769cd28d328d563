"""Keep 40 of the real corpus's 240 training speakers for a test on people that a model has never heard.

    python experiments/hold_out.py <feature folder of the 240 speakers> <new folder>

Writes two folders of links. <new folder>/train has 200 speakers to train on (--train_dir of train.py).
<new folder>/unseen has the other 40, 17 women and 23 men. Takes a second.
"""
from pathlib import Path

import project

from support.messages import LabError, run_script

# Drawn once at random: places in the list of the speakers, sorted by name and counted from 0
UNSEEN = [10, 12, 13, 17, 19, 22, 23, 27, 28, 31, 36, 44, 45, 57, 58, 88, 90, 92, 102, 106,
          109, 114, 117, 142, 145, 151, 152, 157, 176, 177, 178, 180, 181, 182, 191, 226, 228, 229, 232, 233]
N_SPEAKERS = 240


def main(
        # Settings
        feat_dir='',  # the features of the 240 speakers
        out_dir='',  # where the links go; a new folder
):
    if not feat_dir or not out_dir:
        raise LabError('Give two folders: the features of the %d speakers, and where the links go.' % N_SPEAKERS)
    feat_dir, out_dir = Path(feat_dir), Path(out_dir)
    speakers = sorted(folder for folder in feat_dir.glob('*') if folder.is_dir())
    if len(speakers) != N_SPEAKERS:
        raise LabError('%s has %d speakers; the real corpus has %d.' % (feat_dir, len(speakers), N_SPEAKERS))
    if out_dir.exists():
        raise LabError('%s exists already: remove it, or name another folder.' % out_dir)

    for name in ('train', 'unseen'):
        (out_dir / name).mkdir(parents=True)
    for i, folder in enumerate(speakers):
        (out_dir / ('unseen' if i in UNSEEN else 'train') / folder.name).symlink_to(folder.resolve())
    print('%s: %d speakers, %s: %d speakers'
          % (out_dir / 'train', N_SPEAKERS - len(UNSEEN), out_dir / 'unseen', len(UNSEEN)))


if __name__ == '__main__':
    project.name_arguments(main)
    run_script(main)
