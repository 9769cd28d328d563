"""Find threshold and calibration for your own recordings, if three speakers or more have two recordings each.

    python -m own_voice.calibrate                                    # the people of the page
    python -m own_voice.calibrate <folder> [folder ...] --embedding_dir=enroll_embeddings

A folder holds <speaker>/<name>.wav, or feature files, as the test_dir of enroll.py does. Every two recordings
of a folder are compared, and each folder counts equally. Writes calibration.json beside the enrolment. The
programs that use this enrolment find it there, and say so. Delete it to use the thresholds of the model
again. With --into_checkpoint=<file>, they go into a checkpoint, those of recordings and those of unlevelled
features side by side. Then --one_room says in which folders all people share a room and a microphone, and
own_voice.compare says what a score means under this condition and in two places. A hundred recordings take half
a minute.
"""
import json
from pathlib import Path

import pandas as pd

from DB_wav_reader import read_feats_and_wavs
from SR_Dataset import read_MFB
from deep_dive.calibration import describe_model
from model import load_model
from own_voice.who import EMBEDDING_DIR
from support.enrolments import CALIBRATION_FILE
from support.messages import EPOCH_OR_NAME, NAME, LabError, check_settings, or_none, run_script
from support.recordings import origin_of
from support.runs import save_checkpoint
from support.safe_files import read_checkpoint, written_whole

MIN_SPEAKERS = 3


def find_thresholds(model, folders, use_cuda=True, one_room=()):
    """What the recordings of several folders say about the scores of a model: (thresholds, n_speakers).

    thresholds: as describe_model returns them. one_room: those of the folders whose people share a room and a
    microphone. Raises LabError if fewer than MIN_SPEAKERS people have two recordings.
    """
    DBs = [read_feats_and_wavs(folder) for folder in folders]
    groups = [folder for folder, DB in zip(folders, DBs) for _ in range(len(DB))]
    DB, named = pd.concat(DBs, ignore_index=True), ' and '.join(folders)
    n_files = pd.Series(list(zip(groups, DB['speaker_id']))).value_counts()
    if (n_files > 1).sum() < MIN_SPEAKERS:
        raise LabError('Speakers with two recordings or more in %s: %d. %d are needed, each with recordings '
                       'such as enroll.wav and test.wav, or enroll.wav and enroll2.wav.'
                       % (named, (n_files > 1).sum(), MIN_SPEAKERS))
    features, levels = [], []
    for filename in DB['filename']:
        features.append(read_MFB(filename, model.settings['level'])[0])  # (n_frames, n_dims)
        levels.append(origin_of(filename, model.settings['level'])['LEVEL_DBFS'])
    conditions = {'one_room': one_room, 'two_places': [f for f in folders if f not in one_room]} if one_room else {}
    thresholds = describe_model(model, features, list(DB['speaker_id']), levels, use_cuda, groups,
                                conditions=conditions)
    if not thresholds:
        raise LabError('%s: there are no two recordings of one speaker that are of one kind (levelled, or '
                       'published features).' % named)
    return thresholds, len(n_files)


def save_thresholds(embedding_dir, model, thresholds, named, n_speakers):
    """Keep thresholds with the enrolment in embedding_dir, and return the file. named: the recordings' folders."""
    written = Path(embedding_dir) / CALIBRATION_FILE
    content = {'recordings': named, 'speakers': n_speakers, 'sha256': model.checkpoint['sha256'],
               'thresholds': thresholds}
    with written_whole(written) as f:
        f.write(json.dumps(content, indent=1).encode())
    return written


def main(
        # Settings
        folders=['feat_own/test'],  # the recordings; those of two folders are not compared with each other
        cp_num='voices',  # which checkpoint; the one that you test with
        log_dir='model_saved',  # where the checkpoints are saved
        embedding_dir=EMBEDDING_DIR,  # where the enrolment is saved
        into_checkpoint=None,  # instead, write them into this checkpoint, for everybody who uses it
        one_room=[],  # those of the folders whose people share a room and a microphone; try ["feat_own/test"]
        use_cuda=True,  # use a GPU if there is one
):
    among = 'a list of some of the folders', lambda value: isinstance(value, list) and all(f in folders for f in value)
    check_settings(main, locals(), cp_num=EPOCH_OR_NAME, into_checkpoint=or_none(NAME), one_room=among)
    model = load_model(use_cuda, log_dir, cp_num, None, None)
    thresholds, n_speakers = find_thresholds(model, folders, use_cuda, one_room)
    print('Measured with %s' % model.checkpoint['file'])
    if into_checkpoint is not None:
        written = into_checkpoint
        checkpoint, _ = read_checkpoint(written)
        checkpoint['thresholds'] = {**checkpoint.get('thresholds', {}), **thresholds}
        save_checkpoint(written, checkpoint)
    else:
        written = save_thresholds(embedding_dir, model, thresholds, ' and '.join(folders), n_speakers)
    for level, of_backends in thresholds.items():
        numbers = of_backends['cosine']
        known = model.thresholds.get(level, {}).get('cosine')
        print('%d speakers, %d pairs of one speaker and %d of two: EER %.2f %% at the threshold %.4f (any length)%s'
              % (n_speakers, numbers['targets'], numbers['impostors'], numbers['EER'], numbers['eer'],
                 ', the model says %.4f' % known['eer'] if known else ''))
    print('Written: %s' % written)


if __name__ == '__main__':
    run_script(main, words=True)
