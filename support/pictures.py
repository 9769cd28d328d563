"""Every picture the lab draws but the loss curves."""
from collections import Counter
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import torch
from scipy.cluster.hierarchy import dendrogram, linkage
from scipy.spatial.distance import pdist, squareform
from scipy.special import ndtri
from scipy.stats import spearmanr

import configure as c
from deep_dive.scoring import all_pairs, cosine_scores, equal_error_rate, error_rates, rates_at
from model import embed_feature
from support.checks import sex_of
from support.demo_voices import parameters_of
from support.safe_files import written_whole

# The colours of lab.mplstyle
matplotlib.use('Agg')  # write pictures, open no window
plt.style.use(Path(__file__).with_name('lab.mplstyle'))

BLUE, ORANGE, GREEN, PURPLE, BLACK = '#0072B2', '#D55E00', '#009E73', '#CC79A7', '#000000'


def save_picture(fig, filename):
    """Write a figure as PNG, whole or not at all, and print where."""
    fig.tight_layout()
    with written_whole(filename) as temporary:
        fig.savefig(temporary, format='png')
    plt.close(fig)
    print('Picture: %s' % filename)


def draw_similarity(embeddings, filename):
    """Cosine similarity of every two speakers, neighbours in a tree of the most similar ones side by side.

    The tree: average linkage of 1 - cosine.
    """
    speakers = sorted(embeddings)
    scores = similarity(embeddings, speakers)
    fig, (tree_ax, ax) = plt.subplots(2, 1, figsize=(8, 9.5), height_ratios=(1, 4))
    tree = dendrogram(linkage(squareform(1 - scores, checks=False), 'average'), ax=tree_ax, no_labels=True,
                      color_threshold=0, above_threshold_color='black')
    order = tree['leaves']
    ax.imshow(scores[order][:, order], cmap='cividis', aspect='auto')
    for i, a in enumerate(order if len(order) <= 20 else []):  # more would not be readable
        for j, b in enumerate(order):
            ax.text(j, i, '%.2f' % scores[a, b], ha='center', va='center', fontsize=10,
                    color='black' if scores[a, b] > (scores.min() + 1) / 2 else 'white')
    names = [speakers[i] for i in order]
    ax.set(xticks=range(len(names)), yticks=range(len(names)), yticklabels=names)
    ax.set_xticklabels(names, rotation=90)
    for label in ax.get_xticklabels() + ax.get_yticklabels():
        label.set_color({'F': ORANGE, 'M': BLUE, '': 'black'}[sex_of(label.get_text())])
    ax.grid(False)
    tree_ax.set(ylabel='1 - cosine')
    first, second = all_pairs(len(speakers))
    between = scores[first, second]
    nearest = np.argmax(between)
    tree_ax.set_title('%d speakers (women orange, men blue): cosine %.2f on average,\n%s and %s are most alike (%.2f)'
                      % (len(speakers), between.mean(), speakers[first[nearest]], speakers[second[nearest]],
                         between.max()))
    save_picture(fig, filename)


def similarity(embeddings, speakers):
    """Cosine similarity of every two of the speakers: (n, n) array."""
    vectors = torch.cat([embeddings[spk] for spk in speakers]).numpy()  # (n, embedding_size)
    return np.clip(cosine_scores(vectors, vectors), -1, 1)


def draw_parameters(embeddings, filename):
    """Demo voices: cosine similarity of every two against the distance of the parameters they were made with."""
    speakers = sorted(embeddings)
    parameters = np.array([parameters_of(spk) for spk in speakers])  # (n, n_parameters), each of variance 1
    first, second = all_pairs(len(speakers))
    distances, scores = pdist(parameters), similarity(embeddings, speakers)[first, second]
    same_sex = np.array([sex_of(speakers[i]) == sex_of(speakers[j]) for i, j in zip(first, second)])
    fig, ax = plt.subplots()
    for mask, marker, label in ((same_sex, 'o', 'same sex'), (~same_sex, 'x', 'a woman and a man')):
        ax.plot(distances[mask], scores[mask], marker, label='%s (%d pairs)' % (label, mask.sum()))
    ax.set(xlabel="distance of the voices' parameters (standard deviations)", ylabel='cosine similarity',
           title='Score of two demo voices against how differently they were made:\nrank correlation %.2f over %d pairs'
           % (spearmanr(distances, scores)[0], len(scores)))
    ax.legend()
    save_picture(fig, filename)


def draw_confusion(true_spks, predicted_spks, filename):
    """Matrix of the answers (columns) to the pieces of every speaker (rows)."""
    rows, columns = sorted(set(true_spks)), sorted(set(true_spks) | set(predicted_spks))
    counts = np.zeros((len(rows), len(columns)), int)
    for true_spk, predicted_spk in zip(true_spks, predicted_spks):
        counts[rows.index(true_spk), columns.index(predicted_spk)] += 1
    n_right = np.sum(np.array(true_spks) == np.array(predicted_spks))
    fig, ax = plt.subplots(figsize=(8, 7))
    ax.imshow(counts, cmap='cividis')
    for i, j in zip(*np.nonzero(counts)):
        colour = 'white' if counts[i, j] < counts.max() / 2 else 'black'
        ax.text(j, i, counts[i, j], ha='center', va='center', color=colour)
    ax.set(xticks=range(len(columns)), yticks=range(len(rows)), yticklabels=rows, xlabel='predicted speaker',
           ylabel='true speaker', title='%d of %d test pieces identified (%.1f %%)'
           % (n_right, len(true_spks), 100 * n_right / len(true_spks)))
    ax.set_xticklabels(columns, rotation=90)
    ax.grid(False)
    save_picture(fig, filename)


def draw_lengths(lengths, accuracies, eers, filename):
    """Accuracy and equal error rate against the length of the pieces."""
    fig, (above, below) = plt.subplots(2, 1, sharex=True)
    above.plot(lengths, accuracies, 'o-', clip_on=False)
    above.set(ylabel='identified (%)', ylim=(min(accuracies) - 1, 100),
              title='From %g to %g s: accuracy %.1f to %.1f %%, EER %.1f to %.1f %%'
              % (lengths[0], lengths[-1], accuracies[0], accuracies[-1], eers[0], eers[-1]))
    below.plot(lengths, eers, 's--', color=ORANGE, clip_on=False)
    below.set(ylabel='equal error rate (%)', xlabel='length of a test piece (s)', xticks=lengths)
    below.set_ylim(bottom=0)
    save_picture(fig, filename)


N_BINS = 40  # of the histograms


def draw_scores(scores, is_target, threshold, filename):
    """Histograms of the scores of both kinds of trial, and the threshold."""
    target, impostor = scores[is_target], scores[~is_target]
    fig, ax = plt.subplots()
    width = (scores.max() - scores.min()) / N_BINS
    bins = threshold + width * np.arange(-N_BINS - 1, N_BINS + 2)  # no bar on both sides of the threshold
    bins = bins[(bins > scores.min() - width) & (bins < scores.max() + width)]
    for part, label in ((impostor, 'different speakers'), (target, 'same speaker')):
        ax.hist(part, bins, density=True, alpha=0.7, label='%s (%d trials)' % (label, len(part)))
    ax.axvline(threshold, linestyle='--', color=BLACK, label='threshold %.3f' % threshold)
    miss, false_alarm = rates_at(threshold, target, impostor)
    ax.set(xlabel='score (cosine similarity)', ylabel='density',
           title='At %.3f, %.1f %% of the same-speaker trials are rejected,\n%.1f %% of the others accepted'
           % (threshold, 100 * miss, 100 * false_alarm))
    ax.legend()
    save_picture(fig, filename)


def draw_det(scores, is_target, threshold, filename):
    """DET curve: one error rate against the other, on axes where normal scores give a line (Martin et al. 1997)."""
    target, impostor = scores[is_target], scores[~is_target]
    _, misses, false_alarms = error_rates(target, impostor)
    eer = equal_error_rate(target, impostor)
    if eer == 0:
        print('No picture of a DET curve: a threshold without errors exists. Try piece_seconds = 1.')
        return
    ticks = np.array([0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4])
    limits = ndtri([0.0005, 0.5])
    fig, ax = plt.subplots(figsize=(7, 7))
    curve = ndtri(np.clip([false_alarms, misses], 1e-5, 1 - 1e-5))  # the probit of 0 and 1 is infinite
    ax.plot(*curve, drawstyle='steps-post')
    ax.plot(limits, limits, linestyle=':', color=BLACK, label='equal error rates')
    miss, false_alarm = rates_at(threshold, target, impostor)
    place = np.clip(ndtri(np.clip([false_alarm, miss], 1e-5, 1 - 1e-5)), *limits)
    ax.plot(*place, 'o', color=ORANGE, markersize=10, clip_on=False, label='threshold %.3f' % threshold)
    labels = ['%g' % (100 * tick) for tick in ticks]
    ax.set(xticks=ndtri(ticks), xticklabels=labels, yticks=ndtri(ticks), yticklabels=labels, xlim=limits, ylim=limits,
           xlabel='false accepts (%)', ylabel='false rejects (%)',
           title='EER %.2f %% of %d target and %d impostor trials' % (eer, len(target), len(impostor)))
    ax.legend(loc='upper right')
    save_picture(fig, filename)


CLUSTER_STYLES = [(BLUE, 'o'), (ORANGE, 's'), (GREEN, '^'), (PURPLE, 'D'),  # of the speakers in clusters.png
                  (BLACK, 'x'), (BLUE, '+'), (ORANGE, 'v'), (GREEN, '*')]


def draw_clusters(models, dataset, use_cuda, *, filename='clusters.png'):
    """Draw where the d-vectors of some speakers lie: on their two main axes (PCA), a panel for each model.

    models: dict title -> model; dataset: of validation utterances, each cut into pieces of NUM_WIN_SIZE frames. Taken
    are the speakers who have the most. A panel's title says of how many pieces the nearest one, among those of other
    utterances, is by the same speaker.
    """
    counts = Counter(dataset.labels)
    speakers = sorted(counts, key=lambda spk: (-counts[spk], spk))[:len(CLUSTER_STYLES)]
    pieces, labels, utterances = [], [], []
    for i, label in enumerate(dataset.labels):
        feature = dataset.feature(i)  # (n_frames, n_dims)
        starts = range(0, len(feature) - c.NUM_WIN_SIZE + 1, c.NUM_WIN_SIZE) if label in speakers else ()
        pieces += [feature[start:start + c.NUM_WIN_SIZE] for start in starts]
        labels += [label for _ in starts]
        utterances += [i for _ in starts]
    if not pieces:
        print('%s is not drawn: no validation utterance has %d frames' % (filename, c.NUM_WIN_SIZE))
        return
    labels, utterances = np.array(labels), np.array(utterances)
    fig, axes = plt.subplots(1, len(models), figsize=(4.5 * len(models), 4.8), squeeze=False)
    for ax, (title, model) in zip(axes[0], models.items()):
        vectors = torch.cat([embed_feature(use_cuda, piece, model.eval(), c.NUM_WIN_SIZE) for piece in pieces]).numpy()
        similarity = np.where(utterances[:, None] == utterances, -1, vectors @ vectors.T)  # (n_pieces, n_pieces)
        share = np.mean(labels[similarity.argmax(axis=1)] == labels)
        centred = vectors - vectors.mean(axis=0)  # (n_pieces, embedding_size)
        directions = np.linalg.svd(centred, full_matrices=False)[2]  # the main axes, one a row
        points = centred @ directions[:2].T  # (n_pieces, 2)
        for spk, (colour, marker) in zip(speakers, CLUSTER_STYLES):
            ax.plot(*points[labels == spk].T, marker, color=colour, alpha=0.7)
        ax.set(title='%s: the nearest piece is\nby the same speaker in %.0f %%' % (title, 100 * share),
               xlabel='first main axis', ylabel='second main axis')
    fig.suptitle('D-vectors of the validation utterances of %d speakers, in pieces of %g s'
                 % (len(speakers), c.NUM_WIN_SIZE * c.WIN_STEP))
    save_picture(fig, filename)
