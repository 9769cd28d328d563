"""Which level should recordings be brought to, and what is it worth? Scores at several levels and gains.

    python experiments/levels.py [cp_num]

Scores the ten demo test voices, read as wavs from TEST_WAV_DIR, with model_saved/checkpoint_<cp_num>.pth (default
etri240). The test files are made louder or quieter by some gains, and every recording is brought to LEVEL_DBFS of
configure.py. Then there is no gain, and LEVEL_DBFS has other values. Takes a minute. Writes nothing but the demo
voices, if they are not there yet.
"""
import os

import numpy as np

import project

import configure as c
from DB_wav_reader import extract_features, read_DB_structure, read_audio
from deep_dive.scoring import equal_error_rate
from model import embed_feature, load_model
from support import demo_voices
from support.messages import run_script
from support.recordings import prepare_speech

GAINS = [-12, -6, 0, 6, 12, 24]  # dB
LEVELS = [-36, -40, -44, -48, -52]  # dBFS
ENROLL_FRAMES, TEST_FRAMES = 200, 100  # as in enroll.py and verification.py


def d_vectors_of(recordings, name, gain, model, n_frames):
    """The d-vectors of recordings (n_samples,), made louder by `gain` dB: one a row."""
    vectors, n_trim = [], round(c.TRIM_SECONDS / c.WIN_STEP)
    for audio in recordings:
        feature = extract_features(prepare_speech(audio * 10 ** (gain / 20), name))  # (n_frames, n_dims)
        vectors.append(embed_feature(True, feature[n_trim:-n_trim], model, n_frames, name).numpy())
    return np.concatenate(vectors)  # (n, embedding_size)


def main(
        # Settings
        cp_num='etri240',  # which checkpoint
        log_dir='model_saved',  # where the checkpoints are saved
):
    demo_voices.provide_test_features()
    model = load_model(True, log_dir, cp_num, None, None)
    DB = read_DB_structure(c.TEST_WAV_DIR)
    tests, enrolments = ([read_audio(filename) for filename in DB['filename'] if os.path.basename(filename) == name]
                         for name in ('test.wav', 'enroll.wav'))

    configured = c.LEVEL_DBFS
    cases = [(level, gain) for level in (None, configured) for gain in GAINS] + [(level, 0) for level in LEVELS]
    for level, gain in cases:
        c.LEVEL_DBFS = level
        scores = (d_vectors_of(tests, 'test.wav', gain, model, TEST_FRAMES)
                  @ d_vectors_of(enrolments, 'enroll.wav', 0, model, ENROLL_FRAMES).T)  # (n_speakers, n_speakers)
        own, others = np.diag(scores), scores[~np.eye(len(scores), dtype=bool)]
        print('LEVEL_DBFS = %s, gain %+d dB: %d of %d identified, EER %.1f %%, own scores %.3f and above, '
              'others %.3f at most'
              % (level, gain, np.sum(scores.argmax(axis=1) == np.arange(len(scores))), len(scores),
                 equal_error_rate(own, others), own.min(), others.max()), flush=True)
    c.LEVEL_DBFS = configured


if __name__ == '__main__':
    project.name_arguments(main)
    run_script(main)
