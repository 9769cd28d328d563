"""Every picture of the lab but the loss curves. The functions get the numbers to draw."""
import os
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from scipy.cluster.hierarchy import dendrogram, linkage
from scipy.spatial.distance import pdist, squareform
from scipy.special import ndtri
from scipy.stats import spearmanr

import configure as c
from support.checks import sex_of
from support.safe_files import written_whole


matplotlib.use('Agg')  # write pictures, open no window
plt.style.use(Path(__file__).with_name('lab.mplstyle'))

BLUE, ORANGE, GREEN, PURPLE, BLACK = '#0072B2', '#D55E00', '#009E73', '#CC79A7', '#000000'  # as in lab.mplstyle
CLUSTER_STYLES = [(BLUE, 'o'), (ORANGE, 's'), (GREEN, '^'), (PURPLE, 'D'),  # of the speakers in clusters.png
                  (BLACK, 'x'), (BLUE, '+'), (ORANGE, 'v'), (GREEN, '*')]
N_BINS = 40  # of the histograms


def save_picture(fig, filename):
    """Write a figure as PNG, whole or not at all, and print where."""
    fig.tight_layout()
    with written_whole(filename) as f:
        fig.savefig(f, format='png')
    plt.close(fig)
    print('Picture: %s' % filename)


def draw_who_sounds_alike(embeddings, parameters, picture_dir):
    """Draw the cosine similarity of every two speakers, and of demo voices also how differently they were made.

    embeddings: dict speaker -> (1, embedding_size) tensor; parameters: dict speaker -> (n_parameters,), None of people.
    """
    speakers = sorted(embeddings)
    vectors = np.concatenate([embeddings[spk].numpy() for spk in speakers])  # (n, embedding_size)
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    scores = np.clip(vectors @ vectors.T, -1, 1)  # (n, n)
    draw_similarity(scores, speakers, os.path.join(picture_dir, 'similarity.png'))
    if parameters is not None:
        first, second = np.triu_indices(len(speakers), 1)  # every pair once
        distances = pdist(np.stack([parameters[spk] for spk in speakers]))  # (n_pairs,)
        same_sex = np.array([sex_of(speakers[i]) == sex_of(speakers[j]) for i, j in zip(first, second)])
        draw_parameters(distances, scores[first, second], same_sex, os.path.join(picture_dir, 'parameters.png'))


def draw_similarity(scores, speakers, filename):
    """Draw the cosine similarity of every two speakers: scores (n, n). Similar speakers stand side by side.

    Their order is that of a tree: average linkage of 1 - cosine.
    """
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
    first, second = np.triu_indices(len(speakers), 1)  # every pair once
    between = scores[first, second]
    nearest = np.argmax(between)
    tree_ax.set_title('%d speakers (women orange, men blue): cosine %.2f on average,\n%s and %s are most alike (%.2f)'
                      % (len(speakers), between.mean(), speakers[first[nearest]], speakers[second[nearest]],
                         between.max()))
    save_picture(fig, filename)


def draw_parameters(distances, scores, same_sex, filename):
    """Draw the cosine similarity of every two demo voices against the distance of their parameters.

    distances, scores: (n_pairs,); same_sex: (n_pairs,) of bool.
    """
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


def draw_scores(target, impostor, threshold, rates, filename):
    """Histograms of the scores of both kinds of trial, (n,) and (m,), and the threshold.

    rates: (miss, false alarm) at the threshold, as shares.
    """
    scores = np.concatenate([target, impostor])
    fig, ax = plt.subplots()
    width = max(np.ptp(scores), 1e-6) / N_BINS
    first, last = np.floor((scores.min() - threshold) / width), np.ceil((scores.max() - threshold) / width)
    bins = threshold + width * np.arange(first, last + 2)  # no bar stands on both sides of the threshold
    for part, label in ((impostor, 'different speakers'), (target, 'same speaker')):
        ax.hist(part, bins, density=True, alpha=0.7, label='%s (%d trials)' % (label, len(part)))
    ax.axvline(threshold, linestyle='--', color=BLACK, label='threshold %.3f' % threshold)
    ax.set(xlabel='score (cosine similarity)', ylabel='density',
           title='At %.3f, %.1f %% of the same-speaker trials are rejected,\n%.1f %% of the others accepted'
           % (threshold, 100 * rates[0], 100 * rates[1]))
    ax.legend()
    save_picture(fig, filename)


def draw_det(misses, false_alarms, point, title, threshold, filename):
    """DET curve: one error rate against the other, on axes where normal scores give a line (Martin et al. 1997).

    misses, false_alarms: (k,) shares at every threshold; point: (miss, false alarm) at the threshold.
    """
    ticks = np.array([0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4])
    limits = ndtri([0.0005, 0.5])
    fig, ax = plt.subplots(figsize=(7, 7))
    curve = ndtri(np.clip([false_alarms, misses], 1e-5, 1 - 1e-5))  # the probit of 0 and 1 is infinite
    ax.plot(*curve, drawstyle='steps-post')
    ax.plot(limits, limits, linestyle=':', color=BLACK, label='equal error rates')
    place = np.clip(ndtri(np.clip([point[1], point[0]], 1e-5, 1 - 1e-5)), *limits)
    ax.plot(*place, 'o', color=ORANGE, markersize=10, clip_on=False, label='threshold %.3f' % threshold)
    labels = ['%g' % (100 * tick) for tick in ticks]
    ax.set(xticks=ndtri(ticks), xticklabels=labels, yticks=ndtri(ticks), yticklabels=labels, xlim=limits, ylim=limits,
           xlabel='false accepts (%)', ylabel='false rejects (%)', title=title)
    ax.legend(loc='upper right')
    save_picture(fig, filename)


def draw_clusters(vectors_of, labels, utterances, speakers, filename):
    """Draw d-vectors of some speakers on their two main axes (PCA), with a panel for each model.

    vectors_of: dict title -> (n_pieces, embedding_size); labels, utterances: (n_pieces,), whose and from which
    utterance each piece is. The title of a panel says how often the nearest piece, among those of other utterances, is
    by the same speaker.
    """
    fig, axes = plt.subplots(1, len(vectors_of), figsize=(4.5 * len(vectors_of), 4.8), squeeze=False)
    for ax, (title, vectors) in zip(axes[0], vectors_of.items()):
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
