"""Make the three recordings of README's first command: two of one synthetic voice, and one of another.

    python experiments/sample_voices.py
    python experiments/sample_voices.py --folder=samples     # elsewhere: the same bytes

Writes voice1_a.wav, voice1_b.wav and voice2.wav, 5 s each, 16 kHz, 16 bit. The voices are the first two men
among the ten test voices: 242M9242, whom the lab tests first, and 244M9244. Their sentences are in no other
file. The speech is at -23 dBFS, which is comfortable to listen to. Takes a second.
"""
from pathlib import Path

import numpy as np

import project  # noqa: F401 (finds the lab)

from exercises.listen import DBFS
from support.checks import PROJECT
from support.demo_voices import SEED, draw_voice, synthesise, write_wav
from support.messages import check_settings, run_script

RECORDINGS = {'voice1_a.wav': (242, 10), 'voice1_b.wav': (242, 11), 'voice2.wav': (244, 10)}  # voice, utterance


def main(
        # Settings
        folder=str(PROJECT / 'docs'),  # where the recordings go
        seconds=5.0,  # the length of each, with half a second of silence at both ends
        level=-23.0,  # dBFS of the speech
):
    check_settings(main, locals(), level=DBFS)
    for name, (index, utterance) in RECORDINGS.items():
        audio = synthesise(SEED, draw_voice(SEED, index)._replace(level=level), utterance, seconds)
        write_wav(Path(folder) / name, audio)
        print('%s: %.1f s, highest sample %.2f' % (Path(folder) / name, seconds, np.abs(audio).max()))


if __name__ == '__main__':
    run_script(main)
