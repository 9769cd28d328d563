"""Which level should recordings be brought to, and what is it worth? Scores at several levels and gains.

    python tests/levels.py [cp_num]

Scores the ten demo test voices, read as wavs from TEST_WAV_DIR, with model_saved/checkpoint_<cp_num>.pth (default
etri240): the test files louder or quieter than recorded by some gains, every recording brought to LEVEL_DBFS as in
configure.py; then without a gain, for other values of it. Takes a minute; writes nothing but the demo voices, where
they are not there yet.
"""
import os
import sys

import numpy as np

import project  # noqa: F401  (the lab, one folder up, is found)

import configure as c
from support import demo_voices
from DB_wav_reader import read_DB_structure, extract_features, read_audio, trim_silence
from deep_dive.scoring import equal_error_rate
from model import embed_feature, load_model
from support.messages import run_script
from support.recordings import prepare_speech


def main():
    cp_num = sys.argv[1] if len(sys.argv) > 1 else 'etri240'
    gains = [-12, -6, 0, 6, 12, 24]  # dB
    levels = [-36, -40, -44, -48, -52]  # dBFS
    enroll_frames, test_frames = 200, 100  # as in enroll.py and verification.py

    demo_voices.provide_test_features()
    model = load_model(True, 'model_saved', cp_num, None, None)
    DB = read_DB_structure(c.TEST_WAV_DIR)
    audio = {name: [read_audio(filename) for filename in DB['filename'] if os.path.basename(filename) == name]
             for name in ('enroll.wav', 'test.wav')}

    def d_vectors(name, gain, n_frames):
        """One a row, of all speakers' file of this name."""
        prepared = [prepare_speech(samples * 10 ** (gain / 20), name) for samples in audio[name]]
        features = [trim_silence(extract_features(samples), name) for samples in prepared]
        return np.concatenate([embed_feature(True, feature, model, n_frames).numpy() for feature in features])

    cases = [(level, gain) for level in (None, c.LEVEL_DBFS) for gain in gains] + [(level, 0) for level in levels]
    for level, gain in cases:
        c.LEVEL_DBFS = level
        scores = d_vectors('test.wav', gain, test_frames) @ d_vectors('enroll.wav', 0, enroll_frames).T
        own, others = np.diag(scores), scores[~np.eye(len(scores), dtype=bool)]
        print('LEVEL_DBFS = %s, gain %+d dB: %d of %d identified, EER %.1f %%, own scores %.3f and above, '
              'others %.3f at most'
              % (level, gain, np.sum(scores.argmax(axis=1) == np.arange(len(scores))), len(scores),
                 equal_error_rate(own, others), own.min(), others.max()), flush=True)


if __name__ == '__main__':
    run_script(main)
