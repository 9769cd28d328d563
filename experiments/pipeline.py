"""Draw what the lab does with a recording, from the samples to the verdict: the picture at the top of the README.

    python experiments/pipeline.py <recording> <another recording> <picture.png> --cp_num=voices

Writes the picture. Takes five seconds.
"""
import matplotlib.pyplot as plt
import numpy as np

import project  # noqa: F401 (finds the lab)

import configure as c
from SR_Dataset import read_MFB
from model import embed_feature, load_model
from support.enrolments import choose_thres
from support.messages import LabError, run_script
from support.pictures import BLACK, BLUE, GREEN, ORANGE, save_picture
from support.recordings import open_recording, seconds_of

SECONDS = 3  # of the first recording that are shown


def draw_pipeline(audio, feature, d_vectors, thres, filename):
    """Draw the steps from left to right.

    audio: (n_samples,); feature: (n_frames, FILTER_BANK), the same part; d_vectors: two of (embedding_size,).
    """
    fig, axes = plt.subplots(1, 4, figsize=(15, 3.6), width_ratios=(3, 3, 2, 3), layout='constrained')
    for ax, title in zip(axes, ('1. a recording', '2. log mel filterbank', '3. network: two d-vectors',
                                '4. their cosine, and a threshold')):
        ax.set_title(title, loc='left')
        ax.grid(False)
    axes[0].plot(np.arange(len(audio)) / c.SAMPLE_RATE, audio, linewidth=0.4)
    axes[0].set(xlabel='seconds', yticks=[], xlim=(0, len(audio) / c.SAMPLE_RATE))
    axes[1].imshow(feature.T, origin='lower', aspect='auto', cmap='magma',
                   extent=(0, len(feature) * c.WIN_STEP, 0.5, feature.shape[1] + 0.5))
    axes[1].set(xlabel='seconds', ylabel='filter')
    size = max(np.abs(d_vectors).max(axis=1))
    axes[2].imshow(np.array(d_vectors), aspect='auto', cmap='RdBu', interpolation='nearest', vmin=-size, vmax=size)
    axes[2].set(xlabel='%d numbers each' % d_vectors.shape[1], yticks=(0, 1), yticklabels=('first', 'second'))
    score = float(d_vectors[0] @ d_vectors[1])
    axes[3].axvspan(thres, 1, color=GREEN, alpha=0.2)
    axes[3].axvspan(-1, thres, color=ORANGE, alpha=0.2)
    axes[3].axvline(thres, linestyle='--', color=BLACK)
    axes[3].plot([score], [0.5], 'o', color=BLUE, markersize=14)
    axes[3].set(xlim=(-1, 1), ylim=(0, 1), yticks=[], xlabel='score: %.2f, threshold: %.2f' % (score, thres))
    for text, x in (('Reject', (thres - 1) / 2), ('Accept', (thres + 1) / 2)):
        axes[3].text(x, 0.85, text, ha='center')
    save_picture(fig, filename)


def main(
        # Settings
        wav_file='',  # the recording that is drawn
        other_file='',  # the one that it is compared with
        picture='pipeline.png',  # where to save the picture
        cp_num='voices',  # which checkpoint
        log_dir='model_saved',  # where the checkpoints are saved
):
    if not wav_file or not other_file:
        raise LabError('Name two recordings.')
    model = load_model(True, log_dir, cp_num, None, None)
    level = model.settings['level']
    features = [read_MFB(name, level)[0] for name in (wav_file, other_file)]  # (n_frames, FILTER_BANK)
    d_vectors = np.concatenate([embed_feature(True, feature, model, None).numpy() for feature in features])
    start = int(c.TRIM_SECONDS * c.SAMPLE_RATE)
    audio = open_recording(wav_file).prepared(level)  # (n_samples,); the feature is of this
    seconds = min(map(seconds_of, [wav_file, other_file]))
    draw_pipeline(audio[start:start + SECONDS * c.SAMPLE_RATE],
                  features[0][:round(SECONDS / c.WIN_STEP)], d_vectors,
                  choose_thres('model', model, 'cosine', wav_file, seconds), picture)


if __name__ == '__main__':
    run_script(main, words=True)
