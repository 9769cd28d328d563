"""How often is a piece of a conversation given to the right speaker? Conversations are put together from recordings.

    python experiments/turns.py <folder>
    python experiments/turns.py ../etri_test --turn_seconds=2

The folder holds <speaker>/enroll.wav and <speaker>/test.wav. Everybody is enrolled. In each conversation two speakers
talk in turn, with the words of their test.wav. Prints which share of the speech has the right name, another's name,
'unknown', or was taken for silence. The pauses of test.wav do not count. Ten conversations take a minute.
"""
from pathlib import Path

import numpy as np
import torch.nn.functional as F

import project  # noqa: F401 (finds the lab)

import configure as c
from exercises.similar_voices import is_seconds
from identification import UNKNOWN
from model import get_embeddings, load_model
from own_voice.who_when import who_spoke_when
from support.enrolments import choose_thres
from support.messages import SCORE_OR_MODEL, TEST_RULES, LabError, check_settings, run_script
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


def main(
        # Settings
        folder='',  # the recordings
        cp_num='voices',  # which checkpoint
        log_dir='model_saved',  # where the checkpoints are saved
        turn_seconds=4,  # how long one speaks
        thres='model',  # below it, the answer is 'unknown'
):
    check_settings(main, locals(), cp_num=TEST_RULES['cp_num'], turn_seconds=('a number of seconds', is_seconds),
                   thres=SCORE_OR_MODEL)
    speakers = sorted(path.parent for path in Path(folder).glob('*/enroll.wav') if (path.parent / 'test.wav').exists())
    if len(speakers) < 2:
        raise LabError('%s: two speakers with enroll.wav and test.wav are needed.' % folder)
    model = load_model(True, log_dir, cp_num, None, None)
    gallery = {speaker.name: F.normalize(get_embeddings(True, str(speaker / 'enroll.wav'), model, None))
               for speaker in speakers}
    shares = []
    for first, second in zip(speakers, speakers[1:] + speakers[:1]):
        files = [str(speaker / 'test.wav') for speaker in (first, second)]
        recordings, turn = [open_recording(filename) for filename in files], int(turn_seconds * c.SAMPLE_RATE)
        audio, turns = conversation(*(recording.audio for recording in recordings), turn)
        spoken, _ = conversation(*map(samples_of_speech, recordings), turn)
        bands = who_spoke_when(Recording(audio, 'the conversation'), model, gallery,
                               choose_thres(thres, model, 'cosine', files[0]))
        said = np.full(len(audio), NOBODY, object)
        for begin, end, name in bands:
            said[int(begin * c.SAMPLE_RATE):int(end * c.SAMPLE_RATE)] = name or NOBODY
        said, names = said[spoken], np.array([first.name, second.name], object)[turns[spoken]]
        right, other = said == names, ~np.isin(said, [UNKNOWN, NOBODY])
        shares.append([right.mean(), (other & ~right).mean(), (said == UNKNOWN).mean(), (said == NOBODY).mean()])
    for share, what in zip(np.mean(shares, axis=0), ('the right speaker', 'another speaker', UNKNOWN, NOBODY)):
        print('%5.1f %% %s' % (100 * share, what))


if __name__ == '__main__':
    run_script(main, words=True)
