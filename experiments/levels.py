"""Which level should recordings be brought to, and what is it worth? Scores at several levels and gains.

    python experiments/levels.py [cp_num]

Scores the ten demo test voices, read as wavs from TEST_WAV_DIR, with model_saved/checkpoint_<cp_num>.pth (default
etri240). The test files are made louder or quieter by some gains, and every recording is brought to LEVEL_DBFS of
configure.py. Then there is no gain, and LEVEL_DBFS has other values. Takes two minutes. Writes nothing but the demo
voices, if they are not there yet.
"""
import os

import numpy as np

import project  # noqa: F401 (finds the lab)

import configure as c
from DB_wav_reader import read_DB_structure, read_audio
from conditions import CONDITIONS, d_vectors_of
from exercises.scoring import equal_error_rate
from model import load_model
from support import demo_voices
from support.messages import run_script

GAINS = [-12, -6, 0, 6, 12, 24]  # dB
LEVELS = [-36, -40, -44, -48, -52]  # dBFS
ENROLL_FRAMES, TEST_FRAMES = 200, 100  # as in enroll.py and verification.py


def main(
        # Settings
        cp_num='etri240',  # which checkpoint
        log_dir='model_saved',  # where the checkpoints are saved
):
    demo_voices.provide_test_features()
    model = load_model(True, log_dir, cp_num, None, None)
    DB = read_DB_structure(c.TEST_WAV_DIR)
    tests, enrolments = ([(name, read_audio(filename)) for filename in DB['filename']
                          if os.path.basename(filename) == name] for name in ('test.wav', 'enroll.wav'))

    configured = c.LEVEL_DBFS
    cases = [(level, gain) for level in (None, configured) for gain in GAINS] + [(level, 0) for level in LEVELS]
    for level, gain in cases:
        model.settings['level'] = c.LEVEL_DBFS = level
        louder = d_vectors_of(tests, lambda audio, rng: audio * 10 ** (gain / 20), model, TEST_FRAMES)
        scores = louder @ d_vectors_of(enrolments, CONDITIONS['unchanged'], model, ENROLL_FRAMES).T  # (n, n)
        own, others = np.diag(scores), scores[~np.eye(len(scores), dtype=bool)]
        print('LEVEL_DBFS = %s, gain %+d dB: %d of %d identified, EER %.1f %%, own scores %.3f and above, '
              'others %.3f at most'
              % (level, gain, np.sum(scores.argmax(axis=1) == np.arange(len(scores))), len(scores),
                 equal_error_rate(own, others), own.min(), others.max()), flush=True)
    c.LEVEL_DBFS = configured


if __name__ == '__main__':
    run_script(main, words=True)
