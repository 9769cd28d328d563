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
from support.pictures import BLACK, DIFFERENT, SAME, save_picture
from support.recordings import open_recording, seconds_of

SECONDS = 3  # of each recording that are shown


def draw_pipeline(audios, features, d_vectors, thres, filename):
    """Draw the steps from left to right, with a row for each of two recordings.

    audios: two of (n_samples,); features: two of (n_frames, FILTER_BANK), the same parts; d_vectors: (2,
    embedding_size).
    """
    fig = plt.figure(figsize=(15, 5), layout='constrained')
    grid = fig.add_gridspec(2, 4, width_ratios=(3, 3.4, 3, 3.8))
    height = max(np.abs(audio).max() for audio in audios)
    darkest, brightest = min(map(np.min, features)), max(map(np.max, features))
    size = np.abs(d_vectors).max()
    sounds, maps, vectors = ([fig.add_subplot(grid[row, column]) for row in (0, 1)] for column in (0, 1, 2))
    for row, name in enumerate(('first', 'second')):
        seconds = len(audios[row]) / c.SAMPLE_RATE
        sounds[row].plot(np.arange(len(audios[row])) / c.SAMPLE_RATE, audios[row], color=BLACK, linewidth=0.4)
        sounds[row].set(yticks=[], xlim=(0, seconds), ylim=(-height, height), ylabel=name)
        of_maps = maps[row].imshow(features[row].T, origin='lower', aspect='auto', cmap='magma', vmin=darkest,
                                   vmax=brightest, extent=(0, seconds, 0.5, features[row].shape[1] + 0.5))
        maps[row].set(ylabel='filter', yticks=(1, 20, 40))
        of_vectors = vectors[row].imshow(d_vectors[row:row + 1], aspect='auto', cmap='PuOr', vmin=-size, vmax=size,
                                         interpolation='nearest', extent=(0.5, d_vectors.shape[1] + 0.5, 0, 1))
        vectors[row].set(yticks=[])
    fig.colorbar(of_maps, ax=maps, label="level minus the filter's mean (20 log10)")
    fig.colorbar(of_vectors, ax=vectors, label='value')
    for ax, label in ((sounds[1], 'seconds'), (maps[1], 'seconds'),
                      (vectors[1], '%d numbers each' % d_vectors.shape[1])):
        ax.set(xlabel=label)

    # One score for both
    verdict, score = fig.add_subplot(grid[:, 3]), float(d_vectors[0] @ d_vectors[1])
    verdict.axvspan(thres, 1, color=SAME, alpha=0.2)
    verdict.axvspan(-1, thres, color=DIFFERENT, alpha=0.2)
    verdict.axvline(thres, linestyle='--', color=BLACK)
    verdict.plot([score], [0.5], 'o', color=BLACK, markersize=14)
    verdict.set(xlim=(-1, 1), ylim=(0, 1), yticks=[], xlabel='score: %.2f, threshold: %.2f' % (score, thres))
    for text, x in (('Reject', (thres - 1) / 2), ('Accept', (thres + 1) / 2)):
        verdict.text(x, 0.85, text, ha='center', fontsize=11)
    for ax, title in ((sounds[0], '1. two recordings'), (maps[0], '2. log mel filterbank'),
                      (vectors[0], '3. network: d-vectors'), (verdict, '4. their cosine, and a threshold')):
        ax.set_title(title, loc='left')
    for ax in fig.axes:
        ax.grid(False)
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
    names = [wav_file, other_file]
    features = [read_MFB(name, level)[0] for name in names]  # (n_frames, FILTER_BANK)
    d_vectors = np.concatenate([embed_feature(True, feature, model, None).numpy() for feature in features])
    seconds = min(map(seconds_of, names))
    shown = min(SECONDS, *(len(feature) * c.WIN_STEP for feature in features))
    start, length = int(c.TRIM_SECONDS * c.SAMPLE_RATE), int(shown * c.SAMPLE_RATE)
    audios = [open_recording(name).prepared(level)[start:start + length] for name in names]  # features are of this
    draw_pipeline(audios, [feature[:round(shown / c.WIN_STEP)] for feature in features], d_vectors,
                  choose_thres('model', model, 'cosine', wav_file, seconds), picture)


if __name__ == '__main__':
    run_script(main, words=True)
