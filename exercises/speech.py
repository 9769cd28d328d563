"""Speech or not? The energy detector of the lab, drawn over the waveform.

    python -m exercises.speech                # four sounds that the program makes
    python -m exercises.speech a.wav b.wav    # your own recordings

The level of a recording is measured in blocks of 25 ms, above 80 Hz. Blocks above a threshold are speech, if five or
more follow one another. The threshold lies 6 dB above the background, the level below which a tenth of the blocks lies,
but at least 20 dB below the loud blocks, and never more than 40 dB below them (support/recordings.py). Prints what was
found, and draws speech.png. Takes five seconds.
"""
import os

import numpy as np
import pandas as pd

import configure as c
from support import demo_voices as demo
from support.messages import NAMES, LabError, check_settings, run_script
from support.pictures import draw_speech
from support.recordings import DIGITAL_SILENCE, Recording, is_strange, open_recording, speech_limits
from support.rooms import add_noise

SOUND_SECONDS = 6  # of each sound that is made
NOTES = 262 * 2 ** (np.array([0, 4, 7, 12, 7, 4, 0, 5]) / 12)  # Hz: a broken chord from middle C
LEVEL = 0.05  # of the made sounds that are no voice, as the root of the mean square
RUSTLES = 0.3  # seconds from the beginning of one rustle to that of the next


def made_sounds(snr):
    """A demo voice, the same in noise, and two sounds without speech: list of Recordings. snr: see add_noise."""
    n_samples, rng = SOUND_SECONDS * c.SAMPLE_RATE, np.random.default_rng(0)
    voice = demo.synthesise(demo.SEED, demo.draw_voice(demo.SEED, 242), 1, SOUND_SECONDS).astype(np.float64)
    times = np.arange(n_samples) / c.SAMPLE_RATE
    beat = SOUND_SECONDS / len(NOTES)
    pitch = NOTES[(times / beat).astype(int)]
    melody = sum(np.sin(2 * np.pi * k * pitch * times) / k for k in range(1, 6)) * np.exp(-3 * (times % beat) / beat)
    rustling = rng.normal(size=n_samples) * np.exp(-20 * (times % RUSTLES))
    sounds = {'a voice': voice, 'the voice in noise': add_noise(voice, rng, snr),
              'a melody': LEVEL * melody, 'rustling paper': LEVEL * rustling}
    return [Recording(audio, name) for name, audio in sounds.items()]


def describe(recording):
    """What the detector finds in a Recording: a row of the table. Raises LabError if it finds no speech."""
    share = 100 * np.mean(recording.is_speech)  # first, because it says what is wrong with a silent one
    quiet, loud, least = speech_limits(recording.levels[recording.levels > DIGITAL_SILENCE])
    return {'sound': recording.filename, 'seconds': len(recording.audio) / c.SAMPLE_RATE, 'background': quiet,
            'loud': loud, 'threshold': least, 'speech (%)': share,
            'may be no speech': 'yes' if is_strange(recording.facts) else ''}


def print_agreement(truth, found):
    """Print how many blocks of speech are found again in noise. truth, found: (n_blocks,) of bool."""
    print('In the noise, %.0f %% of the blocks of speech are found, and %.0f %% of the other blocks are taken for '
          'speech.' % (100 * np.mean(found[truth]), 100 * np.mean(found[~truth])))


def main(
        # Settings
        recordings=[],  # recordings; []: four sounds that are made
        snr=5.0,  # dB by which the noise is below the made voice; try 10, 15
        picture='speech.png',  # where to save the picture
):
    check_settings(main, locals(), recordings=(NAMES[0], lambda value: value == [] or NAMES[1](value)))
    missing = [filename for filename in recordings if not os.path.isfile(filename)]
    if missing:
        raise LabError('%s: there is no such file.' % missing[0])
    sounds = [open_recording(filename) for filename in recordings] or made_sounds(snr)
    rows = [describe(sound) for sound in sounds]
    print('Levels in dBFS (0: full scale):')
    print(pd.DataFrame(rows).to_string(index=False, float_format='{:.0f}'.format))
    if not recordings:
        print_agreement(sounds[0].is_speech, sounds[1].is_speech)
    draw_speech(sounds, [row['threshold'] for row in rows], picture)


if __name__ == '__main__':
    run_script(main, words=True)
