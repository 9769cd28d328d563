"""Make more demo voices than the lab has, in rooms and over telephones: a further corpus to train on.

    python experiments/more_voices.py <new feature folder> <number of voices> [utterances of each]
    python train.py "--corpora={'<new feature folder>': 1}"

Writes <voice>/<voice>_<utterance>.p, changed at random by vary() of deep_dive/rooms.py (--changed=False: as they are).
The voices are others than those of the lab. A thousand voices with seven utterances take ten minutes on two cores.
"""
from pathlib import Path

import numpy as np

import project

import configure as c
from DB_wav_reader import extract_features, write_feature
from deep_dive.rooms import vary
from support.checks import BOOL, check_settings, whole
from support.demo_voices import TRAIN_SECONDS, draw_voice, synthesise
from support.messages import LabError, in_parallel, run_script
from support.recordings import bandwidth_of, prepare_speech

FIRST = 1001  # the lab's own voices have the numbers below


def write_utterance(task):
    """Write one feature file. task: (folder, number of the voice, utterance, whether it is changed, seed)."""
    feat_dir, index, utterance, changed, seed = task
    rng = np.random.default_rng([seed, index, 1 + utterance, 2])  # not the numbers that the synthesiser draws
    voice = draw_voice(seed, index)
    filename = Path(feat_dir) / voice.name / ('%s_%02d.p' % (voice.name, utterance))
    audio = synthesise(seed, voice, utterance, rng.uniform(*TRAIN_SECONDS)).astype(np.float64)
    try:
        heard = prepare_speech(vary(audio, rng) if changed else audio, filename)
    except LabError:  # no speech stands out of the noise that was drawn
        heard = prepare_speech(audio, filename)
    write_feature(filename, extract_features(heard), voice.name, {'LEVEL_DBFS': c.LEVEL_DBFS,
                                                                  'bandwidth': bandwidth_of(heard)})


def main(
        # Settings
        feat_dir='',  # where the features go; a new folder
        n_voices=1000,  # how many voices
        n_utterances=7,  # utterances of each
        changed=True,  # in rooms, with microphones and over telephones; False: as the lab's own
        seed=0,  # of the voices and the changes
):
    check_settings({'n_voices': n_voices, 'n_utterances': n_utterances, 'changed': changed, 'seed': seed}, {
        'n_voices': whole(2), 'n_utterances': whole(1), 'changed': BOOL, 'seed': whole(0)})
    if not feat_dir:
        raise LabError('Give a new feature folder, and the number of voices.')
    if Path(feat_dir).exists():
        raise LabError('%s exists already: remove it, or name another folder.' % feat_dir)
    tasks = [(feat_dir, index, utterance, changed, seed)
             for index in range(FIRST, FIRST + n_voices) for utterance in range(n_utterances)]
    in_parallel(write_utterance, tasks, 'Voices')
    print('%s: %d voices, %d utterances' % (feat_dir, n_voices, len(tasks)))


if __name__ == '__main__':
    project.name_arguments(main)
    run_script(main)
