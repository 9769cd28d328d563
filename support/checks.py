"""What makes a feature file, an enrolment or a setting unusable."""
from types import NoneType

import numpy as np

import configure as c
from support.messages import LabError

# What decides what a feature is, as it was for the published feature files
PUBLISHED_SETTINGS = {'SAMPLE_RATE': 16000, 'WIN_LENGTH': 0.025, 'WIN_STEP': 0.01, 'FILTER_BANK': 40,
                      'ENERGY_FLOOR': 1e-5, 'USE_MFCC': False, 'N_CEPSTRUM': 20, 'USE_LOGSCALE': True,
                      'USE_DELTA': False, 'USE_SCALE': False}


def feature_settings():
    """What configure.py says about features: written into feature files and checkpoints, compared on reading them."""
    settings = {name: getattr(c, name) for name in PUBLISHED_SETTINGS}
    unused = 'USE_LOGSCALE' if c.USE_MFCC else 'N_CEPSTRUM'  # whatever it says, features are the same
    settings[unused] = PUBLISHED_SETTINGS[unused]
    return settings


def are_settings(settings):
    """Whether these can be the settings of a file: a dict of names and numbers."""
    return isinstance(settings, dict) and len(settings) < 100 and all(
        is_name(name) and isinstance(value, (bool, int, float)) for name, value in settings.items())


def is_name(text):
    """Whether this can be the name of a speaker, a setting or a file in a message: one line of ordinary letters."""
    return isinstance(text, str) and text.isprintable() and len(text) <= 300


def other_settings(settings):
    """Where the settings of a file differ from configure.py, in words; '' where they do not.

    What the dict `settings` lacks is as published: the original lab did not write settings down.
    """
    there, here = {**PUBLISHED_SETTINGS, **settings}, feature_settings()
    return ', '.join('%s = %s there, %s in configure.py' % (name, there[name], here.get(name))
                     for name in there if there[name] != here.get(name))


def require_log_filterbank(what):
    """Raise LabError, naming what asks for it, where configure.py describes other features than log filterbanks."""
    if c.USE_MFCC or c.USE_DELTA or c.USE_SCALE or not c.USE_LOGSCALE:
        raise LabError('%s works on log filterbank energies: in configure.py, set USE_LOGSCALE = True,\n'
                       'and USE_MFCC, USE_DELTA and USE_SCALE to False.' % what)


def feature_size():
    """The number of rows of a feature map, n_dims: the filters or coefficients, three times as many with USE_DELTA."""
    return (c.N_CEPSTRUM if c.USE_MFCC else c.FILTER_BANK) * (3 if c.USE_DELTA else 1)


def sex_of(speaker):
    """'F' or 'M' where the speaker's name says so as in the slides' corpus (103F3021), '' otherwise."""
    return speaker[3] if speaker[:3].isdigit() and speaker[3:4] in ('F', 'M') else ''


def is_origin(made_with):
    """Whether this can be what save_enroll_embeddings wrote of the checkpoint and the level."""
    return isinstance(made_with, dict) and all(is_name(made_with.get(name, '')) for name in ('file', 'sha256')) and (
        isinstance(made_with.get('LEVEL_DBFS'), (int, float, NoneType)))


def is_enrolment(embeddings):
    """Whether this is a dict speaker -> (1, embedding_size) array of floats with a direction, with somebody in it."""
    if not isinstance(embeddings, dict) or not all(
            is_name(speaker) and isinstance(e, np.ndarray) and e.ndim == 2 and len(e) == 1
            and e.dtype.kind == 'f' for speaker, e in embeddings.items()):
        return False
    with np.errstate(over='ignore', invalid='ignore'):  # what no float32 can hold is infinite
        all_of_use = all(has_direction(embedding.astype(np.float32)) for embedding in embeddings.values())
    return all_of_use and len({embedding.shape for embedding in embeddings.values()}) == 1  # 0 of nobody


def has_direction(embedding):
    """Whether an embedding, as array or tensor, can be compared with another: not NaN, infinite or all zero."""
    return 0 < float((embedding ** 2).sum()) < float('inf')


def check_enrolled(speakers, embeddings):
    """Raise LabError where one of the list `speakers` is not enrolled, or with an embedding of no direction."""
    if isinstance(speakers, str):
        raise LabError("%r is one name; a list is needed: ['%s']" % (speakers, speakers))
    for speaker in speakers:
        if speaker not in embeddings:
            raise LabError('%r is not enrolled. Choose among %s.' % (speaker, ', '.join(sorted(embeddings))))
        if not has_direction(embeddings[speaker]):
            raise LabError('the embedding of %r is zero, infinite or not a number. Run python enroll.py again.'
                           % speaker)


def check_all_different(embeddings, filename):
    """Raise LabError where two speakers of an enrolment, dict speaker -> array, have one and the same embedding."""
    owner = {}  # bytes of an embedding -> speaker
    for speaker, embedding in embeddings.items():
        other = owner.setdefault(embedding.tobytes(), speaker)
        if other != speaker:
            raise LabError('%s: %s and %s are the same recording. Remove the folder of one of them, and run python '
                           'enroll.py again.' % (filename, other, speaker))


def is_number(value):
    """Whether a setting is a number that scores can be compared with."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and np.isfinite(value)


def only_numbers(scores):
    """The scores themselves. Raises LabError where one is not a number: it would count as rejected, or as anything."""
    if not np.isfinite(scores).all():
        raise LabError('%d of %d scores are not numbers: a d-vector is zero or NaN.\nRun python enroll.py again, or '
                       'choose another checkpoint or backend.' % (np.sum(~np.isfinite(scores)), np.size(scores)))
    return scores
