"""Make a corpus of recordings larger: copies from other rooms, microphones and telephone lines, as feature files.

    python experiments/vary_recordings.py <folder of recordings> <new feature folder> [copies of each]
    python experiments/vary_recordings.py <folder of recordings> <new feature folder> 1 --n_pieces=3    # to test on
    python experiments/vary_recordings.py <folder of recordings> <new feature folder> 1 --n_pieces=3 --changed=False

Reads <folder>/<speaker>/<name>.wav. Writes <speaker>/<name>_00.p, which is the recording itself, and _01.p, _02.p and
so on, changed at random by vary() of deep_dive/acoustics.py. Train on them with --corpora of deep_dive/train.py. With
n_pieces, a recording is cut first, and only the first piece is left as it is: the pieces have other words, too. With
changed=False all are left. A copy of ten seconds takes a quarter of a second on one core.
"""
from pathlib import Path

import numpy as np

import project  # noqa: F401 (finds the lab)

from DB_wav_reader import feature_of, read_audio, read_DB_structure, speaker_of, write_feature
from deep_dive.acoustics import vary
from support.messages import LabError, check_settings, in_parallel, run_script
from support.recordings import Recording

N_TRIES = 5  # a copy in which no speech is found is drawn again, so often at most


def write_copy(task):
    """Write one copy of a piece. task: (recording, feature file, is it changed?, piece, n_pieces, seeds).

    Returns what went wrong, or None.
    """
    wav_file, feat_file, is_changed, piece, n_pieces, seeds = task
    for n in range(N_TRIES):
        rng = np.random.default_rng([*seeds, n])
        try:
            audio = np.array_split(read_audio(wav_file), n_pieces)[piece]
            if is_changed:
                audio = vary(audio, rng)
            recording = Recording(audio, wav_file)
            feature, _ = feature_of(recording)  # (n_frames, n_dims)
        except LabError as error:
            problem = '%s: %s' % (feat_file, error)
            continue
        write_feature(feat_file, feature, speaker_of(wav_file), recording.origin())
        return None
    return problem


def main(
        # Settings
        wav_dir='',  # the recordings
        feat_dir='',  # where the features go; a new folder
        n_copies=12,  # feature files of each piece: itself (the first piece only), and changed copies
        n_pieces=1,  # into how many pieces of equal length a recording is cut
        changed=True,  # False: cut the recordings only
        seed=0,  # of the changes
):
    if not wav_dir or not feat_dir:
        raise LabError('Give two folders: the one of the recordings, and one for the features.')
    check_settings(main, locals())
    if Path(feat_dir).exists():
        raise LabError('%s exists already: remove it, or name another folder.' % feat_dir)
    wav_files, tasks = list(read_DB_structure(wav_dir)['filename']), []
    for i, wav_file in enumerate(wav_files):
        name = Path(feat_dir) / Path(wav_file).relative_to(wav_dir).with_suffix('')
        tasks += [(wav_file, '%s_%02d.p' % (name, number), changed and number > 0, number // n_copies, n_pieces,
                   (seed + i, number)) for number in range(n_pieces * n_copies)]
    errors = [error for error in in_parallel(write_copy, tasks, 'Copies of %s' % wav_dir) if error is not None]
    print('%s: %d feature files of %d recordings' % (feat_dir, len(tasks) - len(errors), len(wav_files)))
    for error in errors:
        print('Skipped %s' % error)


if __name__ == '__main__':
    run_script(main, words=True)
