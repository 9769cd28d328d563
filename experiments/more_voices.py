"""Make more demo voices than the lab has, in rooms and over telephones: a further corpus to train on.

    python experiments/more_voices.py <new feature folder> <number of voices> [utterances of each]
    python -m deep_dive.train "--corpora={'<new feature folder>': 1}"

Writes <voice>/<voice>_<utterance>.p, changed at random by vary() of deep_dive/acoustics.py (--changed=False: as they
are). The voices are others than those of the lab. A thousand voices with seven utterances take ten minutes on two
cores.
"""
from pathlib import Path

import numpy as np

import project  # noqa: F401 (finds the lab)

from DB_wav_reader import feature_of, write_feature
from deep_dive.acoustics import vary
from support.demo_voices import TRAIN_SECONDS, draw_voice, synthesise
from support.messages import LabError, check_settings, in_parallel, run_script, whole
from support.recordings import Recording

FIRST = 1001  # the lab's own voices have the numbers below


def write_utterance(task):
    """Write one feature file. task: (folder, number of the voice, utterance, whether it is changed, seed)."""
    feat_dir, index, utterance, changed, seed = task
    rng = np.random.default_rng([seed, index, 1 + utterance, 2])  # not the numbers that the synthesiser draws
    voice = draw_voice(seed, index)
    filename = Path(feat_dir) / voice.name / ('%s_%02d.p' % (voice.name, utterance))
    audio = synthesise(seed, voice, utterance, rng.uniform(*TRAIN_SECONDS)).astype(np.float64)
    try:
        recording = Recording(vary(audio, rng) if changed else audio, filename)
        feature, _ = feature_of(recording)  # (n_frames, n_dims)
    except LabError:  # no speech stands out of the noise that was drawn
        recording = Recording(audio, filename)
        feature, _ = feature_of(recording)
    write_feature(filename, feature, voice.name, recording.origin())


def main(
        # Settings
        feat_dir='',  # where the features go; a new folder
        n_voices=1000,  # how many voices
        n_utterances=7,  # utterances of each
        changed=True,  # in rooms, with microphones and over telephones; False: as the lab's own
        seed=0,  # of the voices and the changes
):
    if not feat_dir:
        raise LabError('Give a new feature folder, and the number of voices.')
    check_settings(main, locals(), n_voices=whole(2))
    if Path(feat_dir).exists():
        raise LabError('%s exists already: remove it, or name another folder.' % feat_dir)
    tasks = [(feat_dir, index, utterance, changed, seed)
             for index in range(FIRST, FIRST + n_voices) for utterance in range(n_utterances)]
    in_parallel(write_utterance, tasks, 'Voices')
    print('%s: %d voices, %d utterances' % (feat_dir, n_voices, len(tasks)))


if __name__ == '__main__':
    run_script(main, words=True)
