"""Copies of the test recordings to listen to, all equally loud: exercise 3.

    python -m exercises.listen
    python -m exercises.listen --test_dir=feat_own/test     # your own recordings

Reads every recording in test_dir, and writes <listen_dir>/<speaker>/<name>.wav (16 bit). The demo voices are as
quiet as the corpus of the slides, and some are louder than others. Only copies are changed: the features are
made from the recordings as they are. Takes five seconds.
"""
from pathlib import Path

import numpy as np

import configure as c
from DB_wav_reader import read_DB_structure
from support.demo_voices import provide_test_features, write_wav
from support.messages import check_settings, is_number, run_script
from support.recordings import open_recording

DBFS = 'a number from -60 to 0', lambda value: is_number(value, -60, 0)
LOUDEST = 0.99  # of full scale: a sample above this would be cut off


def main(
        # Settings
        test_dir=c.TEST_WAV_DIR,  # the recordings: DIR/<speaker>/<name>.wav
        listen_dir='listen',  # where the copies go
        level=-23.0,  # dBFS of the speech in the copies; lower is quieter
):
    check_settings(main, locals(), level=DBFS)
    provide_test_features(test_dir)
    DB = read_DB_structure(test_dir)
    for filename, speaker in zip(DB['filename'], DB['speaker_id']):
        recording = open_recording(filename)
        gain = min(recording.gain(level), LOUDEST / np.abs(recording.audio).max())
        copy = Path(listen_dir) / speaker / (Path(filename).stem + '.wav')
        write_wav(copy, recording.audio * gain)
        print('%s: %.0f dBFS, %s: %.0f dBFS'
              % (filename, recording.level, copy.as_posix(), recording.level + 20 * np.log10(gain)))


if __name__ == '__main__':
    run_script(main)
