"""Who spoke when in a longer recording? The enrolled speakers, as coloured bands over the waveform.

    python experiments/who_when.py <recording> [picture]
    python experiments/who_when.py talk.wav --embedding_dir=enroll_own        # those enrolled in the browser

Reads the enrolment of enroll.py and the checkpoint that it was made with. Prints who speaks from when to when, and
draws the picture. A minute of audio takes five seconds on one core.
"""
import matplotlib.pyplot as plt
import numpy as np
import torch.nn.functional as F

import project

import configure as c
from DB_wav_reader import read_audio
from deep_dive.calibration import choose_thres
from deep_dive.who_when import who_spoke_when
from model import load_enroll_embeddings, load_model
from support.checks import SCORE_OR_MODEL, TEST_RULES, check_settings
from support.enrolments import check_recordings, checkpoint_of
from support.messages import LabError, run_script
from support.pictures import drawable, save_picture

NOBODY, UNKNOWN = '#dddddd', '#888888'
HATCHES = ['', '//', 'xx', '..']  # the next one when all colours are used


def draw_bands(audio, bands, filename):
    """Draw the waveform (n_samples,) over bands, a list of (begin, end, name) in seconds: a colour for each name."""
    fig, ax = plt.subplots(figsize=(12, 4), layout='constrained')
    cycle = list(dict.fromkeys(plt.rcParams['axes.prop_cycle'].by_key()['color']))
    looks = {None: {'facecolor': NOBODY}, 'unknown': {'facecolor': UNKNOWN}}
    names = list(dict.fromkeys(name for _, _, name in bands if name not in looks))  # in the order in which they speak
    for i, name in enumerate(names):
        looks[name] = {'facecolor': cycle[i % len(cycle)], 'hatch': HATCHES[i // len(cycle) % len(HATCHES)]}
    shown = {None: 'nobody', 'unknown': 'unknown', **dict(zip(names, drawable(names)))}
    for begin, end, name in bands:
        ax.axvspan(begin, end, alpha=0.5, linewidth=0, edgecolor='white', **looks[name])
    for name in dict.fromkeys(name for _, _, name in bands):
        ax.bar(0, 0, alpha=0.5, linewidth=0, edgecolor='white', label=shown[name], **looks[name])
    every = max(1, len(audio) // 20000)
    ax.plot(np.arange(0, len(audio), every) / c.SAMPLE_RATE, audio[::every], color='black', linewidth=0.5)
    ax.set(xlim=(0, len(audio) / c.SAMPLE_RATE), xlabel='seconds', ylabel='amplitude')
    fig.legend(loc='outside upper center', ncols=6)
    save_picture(fig, filename)


def main(
        # Settings
        recording='',  # the recording
        picture='who_when.png',  # where to save the picture
        embedding_dir='enroll_embeddings',  # where the enrolment is saved
        thres='model',  # below it, the answer is 'unknown'
):
    check_settings({'embedding_dir': embedding_dir, 'thres': thres}, {**TEST_RULES, 'thres': SCORE_OR_MODEL})
    if not recording:
        raise LabError('Give the name of a recording.')
    model = load_model(True, *checkpoint_of(embedding_dir), None, None)
    embeddings = {name: F.normalize(embedding) for name, embedding in
                  load_enroll_embeddings(embedding_dir, model=model).items()}
    check_recordings(embedding_dir, list(embeddings), [recording], model.settings['level'])
    audio = read_audio(recording)  # (n_samples,)
    bands = who_spoke_when(audio, model, embeddings, choose_thres(thres, model, 'cosine', recording), recording)
    for begin, end, name in bands:
        print('%6.1f to %6.1f s: %s' % (begin, end, name or 'nobody'))
    draw_bands(audio, bands, picture)


if __name__ == '__main__':
    project.name_arguments(main)
    run_script(main)
