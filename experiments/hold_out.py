"""Keep some speakers of a corpus for a test on people that a model has never heard.

    python experiments/hold_out.py <folder of the speakers> <new folder>
    python experiments/hold_out.py <folder of the speakers> <new folder> --n_unseen=38

Writes two folders of links. <new folder>/train has the speakers to train on (--train_dir of train.py).
<new folder>/unseen has the others. Of the slides' 240 training speakers these are always the same 40, 17 women and 23
men. Of another corpus, --n_unseen speakers are drawn of those with --n_files files or more. Takes a second.
"""
import random
from pathlib import Path

import project  # noqa: F401 (finds the lab)

from support.messages import LabError, check_settings, or_none, run_script, whole

# The slides' corpus. Drawn once at random: places in the list of the speakers, sorted by name and counted from 0
UNSEEN = [10, 12, 13, 17, 19, 22, 23, 27, 28, 31, 36, 44, 45, 57, 58, 88, 90, 92, 102, 106,
          109, 114, 117, 142, 145, 151, 152, 157, 176, 177, 178, 180, 181, 182, 191, 226, 228, 229, 232, 233]
N_SPEAKERS = 240


def main(
        # Settings
        feat_dir='',  # features or recordings: a folder for each speaker
        out_dir='',  # where the links go; a new folder
        n_unseen=None,  # how many speakers are kept; None: the 40 of the slides' 240
        n_files=0,  # of another corpus: only speakers with so many files or more are kept
        seed=1,  # of the draw
):
    if not feat_dir or not out_dir:
        raise LabError('Give two folders: the one of the speakers, and where the links go.')
    check_settings(main, locals(), n_unseen=or_none(whole(1)), n_files=whole(0), seed=whole(0))
    feat_dir, out_dir = Path(feat_dir), Path(out_dir)
    speakers = sorted(folder for folder in feat_dir.glob('[!.]*') if folder.is_dir())
    if n_unseen is None and len(speakers) != N_SPEAKERS:
        raise LabError("%s has %d speakers; the slides' corpus has %d. For another corpus, say how many speakers to "
                       'keep: --n_unseen=40' % (feat_dir, len(speakers), N_SPEAKERS))
    enough = [i for i, folder in enumerate(speakers) if len(list(folder.glob('[!.]*'))) >= n_files]
    if n_unseen is not None and (n_unseen > len(enough) or n_unseen == len(speakers)):
        raise LabError('n_unseen = %d: %s has %d speakers, %d of them with n_files = %d files or more, and some must '
                       'be left to train on. Lower n_unseen or n_files.'
                       % (n_unseen, feat_dir, len(speakers), len(enough), n_files))
    if out_dir.exists():
        raise LabError('%s exists already: remove it, or name another folder.' % out_dir)

    unseen = UNSEEN if n_unseen is None else random.Random(seed).sample(enough, n_unseen)
    for name in ('train', 'unseen'):
        (out_dir / name).mkdir(parents=True)
    for i, folder in enumerate(speakers):
        (out_dir / ('unseen' if i in unseen else 'train') / folder.name).symlink_to(folder.resolve())
    print('%s: %d speakers, %s: %d speakers'
          % (out_dir / 'train', len(speakers) - len(unseen), out_dir / 'unseen', len(unseen)))


if __name__ == '__main__':
    run_script(main, words=True)
