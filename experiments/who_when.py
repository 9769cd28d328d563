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


def draw_bands(audio, bands, names, filename):
    """Draw the waveform (n_samples,) over bands, a list of (begin, end, name) in seconds: a colour for each name."""
    fig, ax = plt.subplots(figsize=(12, 4), layout='constrained')
    cycle = plt.rcParams['axes.prop_cycle'].by_key()['color']
    colours = {None: NOBODY, 'unknown': UNKNOWN, **{name: cycle[i % len(cycle)] for i, name in enumerate(names)}}
    hatches = {name: '' if i < len(cycle) else '//' for i, name in enumerate(names)}
    shown = {None: 'nobody', 'unknown': 'unknown', **dict(zip(names, drawable(names)))}
    for begin, end, name in bands:
        ax.axvspan(begin, end, color=colours[name], alpha=0.5, linewidth=0, hatch=hatches.get(name, ''))
    for name in dict.fromkeys(name for _, _, name in bands):
        ax.bar(0, 0, color=colours[name], alpha=0.5, label=shown[name])
    every = max(1, len(audio) // 20000)
    ax.plot(np.arange(0, len(audio), every) / c.SAMPLE_RATE, audio[::every], color='black', linewidth=0.5)
    ax.set(xlim=(0, len(audio) / c.SAMPLE_RATE), xlabel='seconds', ylabel='amplitude')
    fig.legend(loc='outside upper center', ncols=6)
    save_picture(fig, filename)


def main(
        # Settings
        recording='',  # the recording
        picture='who_when.png',  # where to save the picture
        log_dir='model_saved',  # where the checkpoints are saved
        embedding_dir='enroll_embeddings',  # where the enrolment is saved
        thres='model',  # below it, the answer is 'unknown'
):
    check_settings({'embedding_dir': embedding_dir, 'log_dir': log_dir, 'thres': thres},
                   {**TEST_RULES, 'thres': SCORE_OR_MODEL})
    if not recording:
        raise LabError('Give the name of a recording.')
    model = load_model(True, log_dir, checkpoint_of(embedding_dir)[1], None, None)
    embeddings = {name: F.normalize(embedding) for name, embedding in
                  load_enroll_embeddings(embedding_dir, model=model).items()}
    check_recordings(embedding_dir, list(embeddings), [recording], model.settings['level'])
    audio = read_audio(recording)  # (n_samples,)
    bands, _ = who_spoke_when(audio, model, embeddings, choose_thres(thres, model, 'cosine', recording), recording)
    for begin, end, name in bands:
        print('%6.1f to %6.1f s: %s' % (begin, end, name or 'nobody'))
    draw_bands(audio, bands, list(embeddings), picture)


if __name__ == '__main__':
    project.name_arguments(main)
    run_script(main)
