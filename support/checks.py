"""What makes a feature file, a checkpoint or an enrolment unusable.

The functions check_... raise LabError, and check_model raises ValueError. is_..., are_... and has_... answer
True or False.
"""
import os
from pathlib import Path
from types import NoneType

import numpy as np
from python_speech_features import get_filterbanks

import configure as c
from support.messages import LARGEST_NUMBER, POSITIVE, LabError, NoSpeech, is_name, is_number, is_whole, number
from support.messages import one_form, whole

PROJECT = Path(__file__).resolve().parent.parent


# ------------------------------------------------------------------------------------------------- features

# What decides how a feature is made, with the values of the published feature files
PUBLISHED_SETTINGS = {'SAMPLE_RATE': 16000, 'WIN_LENGTH': 0.025, 'WIN_STEP': 0.01, 'FILTER_BANK': 40,
                      'ENERGY_FLOOR': 1e-5, 'USE_MFCC': False, 'N_CEPSTRUM': 20, 'USE_LOGSCALE': True,
                      'USE_DELTA': False, 'USE_SCALE': False}
LARGEST_FEATURE = 1000  # no feature is as large, in units of 20*log10


def feature_settings():
    """What configure.py says about features. Feature files and checkpoints keep it, to be compared later."""
    settings = {name: getattr(c, name) for name in PUBLISHED_SETTINGS}
    unused = 'USE_LOGSCALE' if c.USE_MFCC else 'N_CEPSTRUM'  # it changes nothing, so it is not compared
    settings[unused] = PUBLISHED_SETTINGS[unused]
    return settings


def is_small_dict(value):
    """Whether this is a dict with names as keys, and not too many of them."""
    return isinstance(value, dict) and len(value) < 100 and all(map(is_name, value))


def are_settings(settings):
    """Whether these can be the settings of a file: a dict of names and numbers."""
    return is_small_dict(settings) and all(
        isinstance(value, (bool, int, float, NoneType)) for value in settings.values())


def other_settings(settings):
    """Where the settings of a file differ from configure.py, in words; '' if they agree.

    A setting that the file does not name is as published, because the original lab did not save settings.
    """
    there, here = {**PUBLISHED_SETTINGS, **settings}, feature_settings()
    return ', '.join('%s = %s there, %s in configure.py' % (name, there[name], here.get(name))
                     for name in there if there[name] != here.get(name))


def feature_size():
    """The number of rows of a feature map, n_dims: filters or coefficients, times three with USE_DELTA."""
    return (c.N_CEPSTRUM if c.USE_MFCC else c.FILTER_BANK) * (3 if c.USE_DELTA else 1)


def n_cepstrum():
    """N_CEPSTRUM. Raises LabError if the filterbank is too small for so many coefficients."""
    if c.N_CEPSTRUM > c.FILTER_BANK:
        raise LabError('N_CEPSTRUM = %s in configure.py: FILTER_BANK = %s filters give no more coefficients '
                       'than that.\nLower the one or raise the other.' % (c.N_CEPSTRUM, c.FILTER_BANK))
    return c.N_CEPSTRUM


FFT_LENGTH = 512  # samples: python_speech_features cuts a longer frame without a word


CONFIGURE_RULES = {  # see check_settings of messages.py
    'SAMPLE_RATE': ('a whole number of Hz, 8000 or more', lambda value: is_whole(value, 8000)),
    'WIN_LENGTH': ('a number of seconds, from 0.001 to 1', lambda value: is_number(value, 0.001, 1)),
    'WIN_STEP': ('a number of seconds, from 0.001 to 1', lambda value: is_number(value, 0.001, 1)),
    'FILTER_BANK': whole(1), 'N_CEPSTRUM': whole(1), 'ENERGY_FLOOR': POSITIVE, 'TRIM_SECONDS': number(0),
    'LEVEL_DBFS': ('a number from -200 to 0, or None', lambda value: value is None or is_number(value, -200, 0))}


def check_frames():
    """Raise LabError for a setting in configure.py that no feature can be made with, or only a wrong one."""
    for name, (words, fits) in CONFIGURE_RULES.items():
        if not fits(getattr(c, name)):
            raise LabError('%s = %r in configure.py: it must be %s.' % (name, getattr(c, name), words))
    n_samples = int(c.WIN_LENGTH * c.SAMPLE_RATE + 0.5)
    if n_samples > FFT_LENGTH:
        raise LabError('WIN_LENGTH = %g and SAMPLE_RATE = %d in configure.py: a frame has %d samples, and %d '
                       'are the most.\nSet WIN_LENGTH to %g or less.'
                       % (c.WIN_LENGTH, c.SAMPLE_RATE, n_samples, FFT_LENGTH,
                          int(1000 * FFT_LENGTH / c.SAMPLE_RATE) / 1000))
    n_empty = int((get_filterbanks(c.FILTER_BANK, FFT_LENGTH, c.SAMPLE_RATE).sum(axis=1) == 0).sum())
    if n_empty:
        raise LabError('FILTER_BANK = %d in configure.py: %d of these filters are so narrow that they are '
                       'always empty.\nSet it to %d or less.' % (c.FILTER_BANK, n_empty, most_filters()))


def most_filters():
    """The largest FILTER_BANK of which no filter is empty."""
    return next(n for n in range(c.FILTER_BANK, 0, -1)
                if get_filterbanks(n, FFT_LENGTH, c.SAMPLE_RATE).sum(axis=1).all())


def require_log_filterbank(what):
    """Raise LabError if configure.py asks for other features than log filterbank energies.

    what: the program that needs them, in words.
    """
    if c.USE_MFCC or c.USE_DELTA or c.USE_SCALE or not c.USE_LOGSCALE:
        raise LabError('%s works on log filterbank energies: in configure.py, set USE_LOGSCALE = True,\n'
                       'and USE_MFCC, USE_DELTA and USE_SCALE to False.' % what)


def level_or_configured(level):
    """The level in dBFS to which recordings are brought. level: of a checkpoint; None: LEVEL_DBFS."""
    return c.LEVEL_DBFS if level is None else level


def check_feature(content, filename, level=None):
    """(feature (n_frames, n_dims), label) from the content of a feature file. Raises LabError if it is none.

    level: in dBFS; features of a recording at another level are refused. None: LEVEL_DBFS of configure.py.
    'any': all are taken, and so are features that nobody levelled.
    """
    if not isinstance(content, dict) or not {'feat', 'label'} <= content.keys():
        raise LabError("%s: not a feature file: it must hold a dict with 'feat' and 'label'" % filename)
    feature, label, settings = content['feat'], content['label'], content.get('settings', {})
    recording, is_array = content.get('recording', {}), isinstance(feature, np.ndarray) and feature.ndim == 2
    if not is_array or not is_name(label) or not are_settings(settings) or not are_settings(recording):
        raise LabError("%s: 'feat' must be a float array (n_frames, %d), 'label' a name, 'settings' and "
                       "'recording', if they are there, numbers" % (filename, feature_size()))
    if other_settings(settings):
        raise LabError('%s: made with other settings: %s.\nSet those of the file in configure.py, or name a '
                       'folder of other features there, or delete the files and make them again.'
                       % (filename, other_settings(settings)))
    made_at = recording.get('LEVEL_DBFS')
    if level != 'any' and made_at is not None and made_at != level_or_configured(level):
        raise LabError('%s: its recording was brought to %g dBFS, and %s are asked for here.\nPut the '
                       'recording itself there (.wav), delete the file and make it again, or choose another '
                       'checkpoint.' % (filename, made_at, level_or_configured(level)))
    if feature.shape[1] != feature_size():
        raise LabError('%s: has %d rows a frame, configure.py asks for %d. Delete it and make it again.'
                       % (filename, feature.shape[1], feature_size()))
    if not (np.abs(feature) < LARGEST_FEATURE).all():  # false for NaN, too
        raise LabError('%s: holds NaN, infinite or absurd values. Delete it and make it again.' % filename)
    return feature, one_form(label)


def path_parts(filename):
    """The folders of a file, from the root on, and its name, in one_form. Windows paths are split, too."""
    return one_form(os.path.abspath(filename)).replace('\\', '/').split('/')


def in_another_folder(filename):
    """Advice about a file that does not exist: where to go if the folder of the project has it, or ''."""
    if os.path.isabs(filename) or not (PROJECT / filename).exists() or Path.cwd() == PROJECT:
        return ''
    return '\nIt is in the folder of the project, and you are in another one: cd "%s"' % PROJECT


def check_folders(DB):
    """Raise LabError if two folders belong to speakers of one name. DB: DataFrame (filename, speaker_id)."""
    folders = {}
    for filename, speaker in zip(DB['filename'], DB['speaker_id']):
        folder = '/'.join(path_parts(filename)[:-c.SPEAKER_LEVEL])
        if folders.setdefault(speaker, folder) != folder:
            raise LabError('%s and %s are both a folder of speaker %s, who can be enrolled once.\nRename '
                           'one, or move its files into the other.' % (folders[speaker], folder, speaker))


def check_split(train_dir, train_speakers, valid_speakers, val_ratio):
    """Raise LabError if there are too few speakers, or too few utterances to train on or to validate with.

    train_speakers, valid_speakers: the speaker of each utterance. Prints how many speakers are in validation
    only, because the network never learns them.
    """
    train_len, valid_len = len(train_speakers), len(valid_speakers)
    if valid_len < 1 or train_len < 2:
        raise LabError('%s has %d utterances: val_ratio = %g leaves %d for training and %d for validation. '
                       'Change it.' % (train_dir, train_len + valid_len, val_ratio, train_len, valid_len))
    if len({*train_speakers, *valid_speakers}) < 2:
        raise LabError('%s has only one speaker. Training needs at least two.' % train_dir)
    n_valid, n_unseen = len({*valid_speakers}), len({*valid_speakers} - {*train_speakers})
    if n_unseen:
        print('Note: %d of %d validation speakers have no utterance in the training set. The network never '
              'learns them,\nso their accuracy stays 0. Put more utterances of each speaker into %s.'
              % (n_unseen, n_valid, train_dir))


def check_loss(loss, epoch):
    """Raise LabError if a loss is no longer a number."""
    if not np.isfinite(loss):
        raise LabError('The loss is %s in epoch %d: training has diverged. Try a lower lr.' % (loss, epoch))


def check_length(n_frames, filename):
    """Raise LabError if too few of n_frames are left after TRIM_SECONDS have been dropped at both ends."""
    n_trimmed = 2 * round(c.TRIM_SECONDS / c.WIN_STEP)
    if n_frames - n_trimmed <= c.MIN_FRAMES:
        raise NoSpeech('%s: %d frames, %d after trimming %g s at both ends: more than %d are needed'
                       % (filename, n_frames, max(0, n_frames - n_trimmed), c.TRIM_SECONDS, c.MIN_FRAMES))


# What a checkpoint may know about its training set, for the backends of deep_dive/backends.py
BACKEND_TENSORS = ['mean', 'lda', 'wccn', 'plda_mean', 'plda_between', 'plda_within', 'cohort']
COSINES = ['cosine', 'centre', 'lda', 'wccn']  # the backends whose scores are cosines


def check_checkpoint(checkpoint, filename):
    """Raise LabError if a checkpoint, a dict, was trained on other features than configure.py asks for."""
    settings = checkpoint.get('features', {})
    if not are_settings(settings):
        raise LabError("%s: 'features' must be a dict of names and numbers" % filename)
    if not are_thresholds(checkpoint.get('thresholds', {})):
        raise LabError("%s: 'thresholds' must be a dict of dicts of numbers" % filename)
    if checkpoint.get('level') is not None and not is_number(checkpoint['level'], -200, 0):
        raise LabError("%s: 'level' must be a number in dBFS" % filename)
    if 'level' in checkpoint and checkpoint['level'] is None and c.LEVEL_DBFS is not None:
        raise LabError('%s was trained on recordings as they are.\nSet LEVEL_DBFS = None in configure.py, or '
                       'choose another checkpoint.' % filename)
    if other_settings(settings):
        raise LabError('%s was trained on other features: %s.\nSet those in configure.py, or choose another '
                       'checkpoint.' % (filename, other_settings(settings)))


def are_thresholds(thresholds):
    """Whether these can be the thresholds of a model: dict level -> dict backend -> see is_description."""
    return is_small_dict(thresholds) and all(
        is_small_dict(found_by) and all(is_description(found, backend) for backend, found in found_by.items())
        for found_by in thresholds.values())


def is_description(found, backend):
    """Whether describe_scores of deep_dive/calibration.py can have found this: a dict of numbers.

    'own' and 'others', if they are there, are lists of 101 scores of this backend.
    """
    def are_scores(value):
        most = 2 if backend in COSINES else LARGEST_NUMBER
        return isinstance(value, list) and len(value) == 101 and all(is_number(x, -most, most) for x in value)

    return is_small_dict(found) and {'eer', 'slope', 'offset'} <= found.keys() and all(
        are_scores(value) if name in ('own', 'others') else
        is_number(value, -LARGEST_NUMBER ** 2, LARGEST_NUMBER ** 2) for name, value in found.items())


def check_model(model):
    """Raise ValueError if a model, or what it knows about its training set, has wrong shapes or holds NaN."""
    size = model.fc0.out_features
    for name, tensor in model.backend.items():
        rows, columns = tensor.shape
        shapes = {'mean': (1, size), 'plda_mean': (1, size), 'lda': (size, columns),
                  'cohort': (max(rows, 2), size)}
        if (rows, columns) != shapes.get(name, (size, size)):
            raise ValueError("'%s' is (%d, %d), the embedding is of %d" % (name, rows, columns, size))
    for name, tensor in [*model.state_dict().items(), *model.backend.items()]:
        if not tensor.isfinite().all():
            raise ValueError("'%s' holds NaN or infinity" % name)
    if 'plda_within' in model.backend:
        np.linalg.cholesky(model.backend['plda_within'].numpy())  # ValueError: a variance is not above 0


# ------------------------------------------------------------------------------------------------- speakers

def sex_of(speaker):
    """'F' or 'M' if the name says so as in the slides' corpus (103F3021), otherwise ''."""
    return speaker[3] if speaker[:3].isdigit() and speaker[3:4] in ('F', 'M') else ''


def has_direction(embedding):
    """Whether an embedding, an array or a tensor, can be compared: it is not all zero, infinite or NaN."""
    return 0 < float((embedding ** 2).sum()) < float('inf')


def is_enrolment(embeddings):
    """Whether this is a dict speaker -> (1, embedding_size) float array, not empty, that can be compared."""
    if not isinstance(embeddings, dict) or not all(
            is_name(speaker) and isinstance(e, np.ndarray) and e.ndim == 2 and len(e) == 1
            for speaker, e in embeddings.items()):
        return False
    with np.errstate(over='ignore', invalid='ignore'):  # what no float32 can hold is infinite
        all_of_use = all(has_direction(embedding.astype(np.float32)) for embedding in embeddings.values())
    return all_of_use and len({embedding.shape for embedding in embeddings.values()}) == 1  # 0: it is empty


def is_origin(made_with):
    """Whether this can be what save_enroll_embeddings wrote about the checkpoint and the recordings."""
    recordings = made_with.get('recordings', {}) if isinstance(made_with, dict) else None
    return (isinstance(recordings, dict)
            and all(is_name(made_with.get(name, 'x')) for name in ('file', 'sha256'))
            and all(is_name(speaker) and are_settings(origin) and {'LEVEL_DBFS', 'bandwidth'} <= origin.keys()
                    for speaker, origin in recordings.items()))


def check_enrolment(embedding_dir, embeddings, made_with, checkpoint):
    """Raise LabError if an enrolment was made with another checkpoint, so that this one cannot score it.

    embeddings: dict speaker -> array; made_with, checkpoint: dicts with 'file' and 'sha256'.
    """
    if made_with.get('sha256') != checkpoint['sha256']:
        there, here = made_with.get('file', 'an unknown checkpoint'), checkpoint['file']
        if there == here:
            there = 'an earlier %s, which has changed since' % there
        raise LabError('The enrolment in %s was made with %s, and cannot be scored with %s.\n'
                       'Enrol with that one, and with your test_dir and test_frames: python enroll.py "--log_dir=%s" '
                       '--cp_num=%s "--embedding_dir=%s"' % (embedding_dir, there, here, Path(here).parent,
                                                            Path(here).stem.removeprefix('checkpoint_'), embedding_dir))
    if made_with.get('recordings', {}).keys() != embeddings.keys():
        raise LabError('The enrolment in %s does not say how its recordings were made. Run python enroll.py '
                       'again.' % embedding_dir)


def check_enrolled(speakers, embeddings):
    """Raise LabError if one of the list `speakers` is not enrolled, or cannot be compared.

    embeddings: dict speaker -> (1, embedding_size).
    """
    if isinstance(speakers, str):
        raise LabError("%r is one name; a list is needed: ['%s']" % (speakers, speakers))
    for speaker in speakers:
        if speaker not in embeddings:
            raise LabError('%r is not enrolled. Choose among %s.' % (speaker, ', '.join(sorted(embeddings))))
        if not has_direction(embeddings[speaker]):
            raise LabError('the embedding of %r is zero, infinite or not a number. Run python enroll.py '
                           'again.' % speaker)
