"""The file that enroll.py writes: who is enrolled, with which checkpoint, from what kind of recordings."""
import json
import os
from pathlib import Path

from support.checks import are_thresholds, is_enrolment, is_origin
from support.messages import LabError
from support.recordings import compare_origins
from support.safe_files import read_pickles, read_whole

ENROLL_FILE = 'embeddings.p'  # in the folder of the enrolment
CALIBRATION_FILE = 'calibration.json'  # beside it: what experiments/calibrate.py found


def read_enrolment(embedding_dir):
    """(dict speaker -> array, dict with 'file' and 'sha256' of the checkpoint, and 'recordings') of an enrolment."""
    filename = os.path.join(embedding_dir, ENROLL_FILE)
    if not os.path.isfile(filename):
        raise LabError('%s does not exist: nobody is enrolled yet. Run python enroll.py first.' % filename)
    embeddings, made_with = (read_pickles(filename) + [{}])[:2]
    if not is_enrolment(embeddings) or not is_origin(made_with):
        raise LabError('%s: not a dict of speakers and their embeddings, all of one size and none zero or NaN.\n'
                       'Run python enroll.py again.' % filename)
    return embeddings, made_with


def checkpoint_of(embedding_dir):
    """(log_dir, cp_num) of the checkpoint that an enrolment was made with, as far as it says so."""
    path = Path(str(read_enrolment(embedding_dir)[1].get('file', '')))
    return str(path.parent), path.stem.removeprefix('checkpoint_')


def check_recordings(embedding_dir, speakers, test_filenames, level=None):
    """Raise LabError, or print a note, if a test file was recorded in another way than the enrolment.

    level: to which the model wants recordings brought (prepare_speech of support/recordings.py).
    """
    recordings = read_enrolment(embedding_dir)[1]['recordings']
    for filename in test_filenames:
        compare_origins({speaker: recordings[speaker] for speaker in speakers}, filename, level)


def use_own_thresholds(model, embedding_dir):
    """Let the thresholds that experiments/calibrate.py found for this model, if it did, replace those of the model."""
    path = Path(embedding_dir) / CALIBRATION_FILE
    if not path.is_file():
        return
    try:
        content = json.loads(read_whole(path))
        sha256, thresholds = content['sha256'], content['thresholds']
    except (ValueError, KeyError, TypeError, RecursionError):
        sha256, thresholds = None, None
    if not are_thresholds(thresholds):
        raise LabError('%s: not what experiments/calibrate.py wrote. Run it again, or delete the file.' % path)
    if sha256 != model.checkpoint['sha256']:
        print('%s is not used: it belongs to another checkpoint. Run experiments/calibrate.py again.' % path)
        return
    model.thresholds = thresholds
    print('Threshold and calibration: %s' % path)
