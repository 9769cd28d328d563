"""How often is a piece of a conversation given to the right speaker? Conversations are put together from recordings.

    python experiments/turns.py <folder>
    python experiments/turns.py ../SpeakerRecognition_tutorial/test_wavs --turn_seconds=2

The folder holds <speaker>/enroll.wav and <speaker>/test.wav. Everybody is enrolled. In each conversation two speakers
talk in turn, with the words of their test.wav. Prints which share of the speech has the right name, another's name,
'not sure', 'unknown', or was taken for silence. The pauses of test.wav do not count. The diarization error rate (DER)
counts the pauses, too: the time with a wrong answer, over the time of speech. With --n_enrolled=2, only so many are
enrolled, and the others are strangers: then 'unknown' is right for them. Ten conversations take a minute.
"""
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

import project  # noqa: F401 (finds the lab)

import configure as c
from exercises.similar_voices import is_seconds
from identification import UNKNOWN
from model import get_embeddings, load_model
from own_voice.answers import NOT_SURE
from own_voice.who import limits_for
from own_voice.who_when import SEGMENT, who_spoke_when
from support.messages import SCORE_OR_MODEL, TEST_RULES, LabError, check_settings, or_none, run_script, whole
from support.recordings import Recording, open_recording

NOBODY = 'nobody'


def conversation(first, second, turn):
    """Two recordings (n_samples,) in turns of so many samples: (the conversation, 0 or 1 for each sample)."""
    n_turns = min(len(first), len(second)) // turn
    if n_turns == 0:
        raise LabError('A turn of %g s is longer than one of the recordings. Set a lower turn_seconds.'
                       % (turn / c.SAMPLE_RATE))
    parts = [audio[n * turn:(n + 1) * turn] for n in range(n_turns) for audio in (first, second)]
    return np.concatenate(parts), np.repeat(np.tile([0, 1], n_turns), turn)


def samples_of_speech(recording):
    """Which samples of a Recording lie in a block with speech: (n_samples,) of bool."""
    spoken = np.repeat(recording.is_speech, round(c.WIN_LENGTH * c.SAMPLE_RATE))
    return np.pad(spoken, (0, len(recording.audio) - len(spoken)))  # the rest is shorter than a block


def shares_of(said, truth, spoken, enrolled):
    """Shares of the speech in percent: dict 'the right speaker', 'another speaker', 'not sure' ... and 'DER'.

    said, truth: names for each sample, (n_samples,) of objects; spoken: (n_samples,) of bool, without the pauses;
    enrolled: names. For somebody else, 'unknown' is right. DER: the time that is given to the wrong one, missed, or
    taken for speech, over the time of speech.
    """
    right = np.where(np.isin(truth, enrolled), said == truth, said == UNKNOWN)
    is_name = np.isin(said, enrolled)
    wrong_or_missed, false_alarm = spoken & ~right, ~spoken & (said != NOBODY)
    counts = {'the right speaker': right, 'another speaker': is_name & ~right, NOT_SURE: said == NOT_SURE,
              UNKNOWN: (said == UNKNOWN) & ~right, NOBODY: said == NOBODY}
    shares = {what: 100 * those[spoken].mean() for what, those in counts.items()}
    return {**shares, 'DER': 100 * (wrong_or_missed | false_alarm).sum() / spoken.sum()}


def main(
        # Settings
        folder='',  # the recordings
        cp_num='voices',  # which checkpoint
        log_dir='model_saved',  # where the checkpoints are saved
        turn_seconds=4,  # how long one speaks
        thres=None,  # the score that a name needs; None: by the checkpoint and who is enrolled
        n_enrolled=None,  # enrol the first of the people only; None: all
):
    check_settings(main, locals(), cp_num=TEST_RULES['cp_num'], turn_seconds=('a number of seconds', is_seconds),
                   thres=or_none(SCORE_OR_MODEL), n_enrolled=or_none(whole(1)))
    speakers = sorted(path.parent for path in Path(folder).glob('*/enroll.wav') if (path.parent / 'test.wav').exists())
    if len(speakers) < 2:
        raise LabError('%s: two speakers with enroll.wav and test.wav are needed.' % folder)
    model = load_model(True, log_dir, cp_num, None, None)
    gallery = {speaker.name: F.normalize(get_embeddings(True, str(speaker / 'enroll.wav'), model, None))
               for speaker in speakers[:n_enrolled]}
    enrolled = torch.cat(list(gallery.values())).numpy()  # (n_speakers, embedding_size)
    limits = limits_for(model, enrolled, thres, str(speakers[0] / 'test.wav'), SEGMENT)
    shares = []
    for first, second in zip(speakers, speakers[1:] + speakers[:1]):
        files = [str(speaker / 'test.wav') for speaker in (first, second)]
        recordings, turn = [open_recording(filename) for filename in files], int(turn_seconds * c.SAMPLE_RATE)
        audio, turns = conversation(*(recording.audio for recording in recordings), turn)
        spoken, _ = conversation(*map(samples_of_speech, recordings), turn)
        said = np.full(len(audio), NOBODY, object)
        for begin, end, heard in who_spoke_when(Recording(audio, 'the conversation'), model, gallery, limits):
            kind, names = heard or (NOBODY, ())
            said[int(begin * c.SAMPLE_RATE):int(end * c.SAMPLE_RATE)] = names[0] if kind == 'known' else kind
        truth = np.array([first.name, second.name], object)[turns]
        shares.append(shares_of(said, truth, spoken, list(gallery)))
    for what in shares[0]:
        print('%5.1f %% %s' % (np.mean([share[what] for share in shares]), what))


if __name__ == '__main__':
    run_script(main, words=True)
