"""The file that enroll.py writes: who is enrolled, with which checkpoint, from what kind of recordings.

And the threshold that belongs to a checkpoint or to an enrolment.
"""
import json
import os
from pathlib import Path

import numpy as np

from support.checks import PROJECT, are_thresholds, check_enrolled, in_another_folder, is_enrolment, is_origin
from support.messages import LabError, one_form
from support.recordings import compare_origins, origin_of, seconds_of
from support.safe_files import read_pickles, read_whole

ENROLL_FILE = 'embeddings.p'  # in the folder of the enrolment
CALIBRATION_FILE = 'calibration.json'  # beside it: what own_voice/calibrate.py found
CONDITIONS = ['one_room', 'two_places']  # under which recordings are made; a model may know a calibration of each


def read_enrolment(embedding_dir):
    """Read an enrolment: (dict speaker -> array, dict about it).

    The second dict has 'file' and 'sha256' of the checkpoint, and 'recordings': how each speaker was
    recorded.
    """
    filename = os.path.join(embedding_dir, ENROLL_FILE)
    if not os.path.isfile(filename):
        raise LabError('%s does not exist: nobody is enrolled yet. Run python enroll.py first.%s'
                       % (filename, in_another_folder(filename)))
    embeddings, made_with = (read_pickles(filename) + [{}])[:2]
    if not is_enrolment(embeddings) or not is_origin(made_with):
        raise LabError('%s: not a dict of speakers and their embeddings, all of one size and none zero or '
                       'NaN.\nRun python enroll.py again.' % filename)
    if 'recordings' in made_with:
        recordings = in_one_form(made_with['recordings'])
        # dict(): what read_pickles found is of a class of its own, which cannot be written and read again
        made_with = {**made_with, 'recordings': {name: dict(origin) for name, origin in recordings.items()}}
    return in_one_form(embeddings), made_with


def in_one_form(of_speakers):
    """A dict with the names of speakers as they are compared. A Mac may have written them in parts."""
    return {one_form(speaker): value for speaker, value in of_speakers.items()}


def checkpoint_of(embedding_dir):
    """(log_dir, cp_num) of the checkpoint that an enrolment was made with, as far as it says so.

    Windows puts a backslash between folders. If the folder is not here, because the enrolment comes from
    another computer, that of the same name in the project is taken. check_enrolment compares them later.
    """
    path = Path(str(read_enrolment(embedding_dir)[1].get('file', '')).replace('\\', '/'))
    folders = [path.parent, Path(path.parent.name), PROJECT / path.parent.name]
    folder = next((folder for folder in folders if (folder / path.name).is_file()), path.parent)
    return str(folder), path.stem.removeprefix('checkpoint_')


def check_recordings(embedding_dir, speakers, test_filenames, level=None):
    """Raise LabError, or print a note, if a test file was recorded in another way than the enrolment.

    level: to which the model wants recordings brought (Recording.prepared of support/recordings.py). Raises
    LabError for a speaker who is not enrolled, too.
    """
    embeddings, made_with = read_enrolment(embedding_dir)
    check_enrolled(speakers, embeddings)
    recordings = made_with['recordings']
    for filename in test_filenames:
        compare_origins({speaker: recordings[speaker] for speaker in speakers}, filename, level)


def forget_removed(embedding_dir, test_dir):
    """Delete the enrolment if the folder test_dir holds no enrolment file any more.

    Otherwise the d-vectors of those who were removed could still be used. If there is no such folder, perhaps
    its name is wrong, and the enrolment stays.
    """
    filename = Path(embedding_dir, ENROLL_FILE)
    names = (name for _, _, names in os.walk(test_dir) for name in names)
    if os.path.isdir(test_dir) and filename.is_file() and not any(
            name.lower().startswith('enroll') for name in names):
        filename.unlink()
        print('%s is deleted: nobody has an enrolment file in %s any more.' % (filename, test_dir))


# ------------------------------------------------------------------------------------------------- thresholds

def use_own_thresholds(model, embedding_dir):
    """If own_voice/calibrate.py found thresholds for this model, let them replace those of the checkpoint."""
    path = Path(embedding_dir) / CALIBRATION_FILE
    if not path.is_file():
        return
    try:
        content = json.loads(read_whole(path))
        sha256, thresholds = content['sha256'], content['thresholds']
    except (ValueError, KeyError, TypeError, RecursionError):
        sha256, thresholds = None, None
    if not are_thresholds(thresholds):
        raise LabError('%s: not what python -m own_voice.calibrate wrote. Run it again, or delete the file.'
                       % path)
    if sha256 != model.checkpoint['sha256']:
        print('%s is not used: it belongs to another checkpoint. Run python -m own_voice.calibrate again.'
              % path)
        return
    model.thresholds = thresholds
    print('Threshold and calibration: %s' % path)


def description_at(model, backend, level):
    """What describe_scores of deep_dive/calibration.py found for a level in dBFS; {} if nothing.

    backend: here and below, how scores are made: 'cosine', or the name of a Scorer of deep_dive/backends.py.
    If nothing is known of this level, the first level of which something is known counts.
    """
    found = {name: of_backends[backend] for name, of_backends in model.thresholds.items()
             if backend in of_backends}
    return found.get(str(level), next(iter(found.values()), {}))


def description_for(description, seconds):
    """A description whose 'eer', 'slope', 'offset', 'EER' and the lines of CONDITIONS are those of recordings of
    so many seconds of speech.

    description: of describe_model of deep_dive/calibration.py. If it knows them for some lengths, such as 2 and
    4 s ('eer_2s', 'eer_4s'), what lies between two of them is taken, on a line over log(seconds), and beyond the
    longest that of the longest. seconds = None, or a model that knows no lengths: that of whole recordings.
    """
    lines = ['%s_%s' % (name, condition) for name in ('slope', 'offset') for condition in CONDITIONS]
    for name in ('eer', 'slope', 'offset', 'EER', *lines):
        known = {length: description['%s_%ds' % (name, length)] for length in range(1, 61)
                 if '%s_%ds' % (name, length) in description}
        if seconds is not None and known and (name != 'EER' or seconds < max(known)):
            value = np.interp(np.log(max(seconds, 0.1)), np.log(list(known)), list(known.values()))
            description = {**description, name: float(value)}
    return description


def own_description(model, backend, filename, seconds=None):
    """What description_at says of a test file, for recordings of so many seconds of speech (None: of any length)."""
    description = description_at(model, backend, origin_of(filename, model.settings['level'])['LEVEL_DBFS'])
    return description_for(description, seconds)


def thres_for(thres, model, filename):
    """choose_thres for the cosines of one test file, by the length of its speech."""
    return choose_thres(thres, model, 'cosine', filename, seconds_of(filename) if thres == 'model' else None)


def choose_thres(thres, model, backend, filename, seconds=None):
    """The threshold that a setting asks for: thres itself, or for 'model' that of the checkpoint.

    seconds: how much speech there is in the shorter of two recordings; None: enough. Raises LabError if the
    checkpoint has none.
    """
    if thres != 'model':
        return thres
    description = own_description(model, backend, filename, seconds)
    if not description:
        path = Path(model.checkpoint['file'])
        advice = ('run python -m deep_dive.calibration "--log_dir=%s". Then enrol and test with checkpoint_best.pth'
                  % path.parent)
        if ' ' in backend:  # scores that are normalised
            advice = "'eer', or train with val_speakers = 20"
        raise LabError("thres = 'model': %s has no threshold of its own.\nSet a number, such as 0.9, or %s."
                       % (path, advice))
    return description['eer']
