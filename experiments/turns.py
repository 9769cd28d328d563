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

import project

import configure as c
from DB_wav_reader import read_audio
from deep_dive.calibration import choose_thres
from deep_dive.who_when import who_spoke_when
from model import get_embeddings, load_model
from support.checks import NAME, SCORE_OR_MODEL, TEST_RULES, check_settings, is_seconds
from support.messages import LabError, run_script
from support.recordings import find_speech, frame_levels

UNKNOWN, NOBODY = 'unknown', 'nobody'


def conversation(first, second, turn):
    """Two recordings (n_samples,) in turns of so many samples: (the conversation, 0 or 1 for each sample)."""
    n_turns = min(len(first), len(second)) // turn
    if n_turns == 0:
        raise LabError('A turn of %g s is longer than one of the recordings. Set a lower turn_seconds.'
                       % (turn / c.SAMPLE_RATE))
    parts = [audio[n * turn:(n + 1) * turn] for n in range(n_turns) for audio in (first, second)]
    return np.concatenate(parts), np.repeat(np.tile([0, 1], n_turns), turn)


def samples_of_speech(audio, filename):
    """Which samples of audio (n_samples,) lie in a frame with speech: (n_samples,) of bool."""
    spoken = np.repeat(find_speech(frame_levels(audio), filename), round(c.WIN_LENGTH * c.SAMPLE_RATE))
    return np.pad(spoken, (0, len(audio) - len(spoken)))  # the rest is shorter than a frame


def main(
        # Settings
        folder='',  # the recordings
        cp_num='voices',  # which checkpoint
        log_dir='model_saved',  # where the checkpoints are saved
        turn_seconds=4,  # how long one speaks
        thres='model',  # below it, the answer is 'unknown'
):
    check_settings(locals(), {**TEST_RULES, 'folder': NAME, 'turn_seconds': ('a number of seconds', is_seconds),
                              'thres': SCORE_OR_MODEL})
    speakers = sorted(path.parent for path in Path(folder).glob('*/enroll.wav') if (path.parent / 'test.wav').exists())
    if len(speakers) < 2:
        raise LabError('%s: two speakers with enroll.wav and test.wav are needed.' % folder)
    model = load_model(True, log_dir, cp_num, None, None)
    gallery = {speaker.name: F.normalize(get_embeddings(True, str(speaker / 'enroll.wav'), model, None))
               for speaker in speakers}
    shares = []
    for first, second in zip(speakers, speakers[1:] + speakers[:1]):
        files = [speaker / 'test.wav' for speaker in (first, second)]
        recordings, turn = [read_audio(filename) for filename in files], int(turn_seconds * c.SAMPLE_RATE)
        audio, turns = conversation(*recordings, turn)
        spoken, _ = conversation(*map(samples_of_speech, recordings, files), turn)
        bands = who_spoke_when(audio, model, gallery, choose_thres(thres, model, 'cosine', files[0]),
                               'the conversation')
        said = np.full(len(audio), NOBODY, object)
        for begin, end, name in bands:
            said[int(begin * c.SAMPLE_RATE):int(end * c.SAMPLE_RATE)] = name or NOBODY
        said, names = said[spoken], np.array([first.name, second.name], object)[turns[spoken]]
        right, other = said == names, ~np.isin(said, [UNKNOWN, NOBODY])
        shares.append([right.mean(), (other & ~right).mean(), (said == UNKNOWN).mean(), (said == NOBODY).mean()])
    for share, what in zip(np.mean(shares, axis=0), ('the right speaker', 'another speaker', UNKNOWN, NOBODY)):
        print('%5.1f %% %s' % (100 * share, what))


if __name__ == '__main__':
    project.name_arguments(main)
    run_script(main)
