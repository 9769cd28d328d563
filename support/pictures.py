"""The pictures of the suite. The functions get the numbers to draw."""
import os
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from matplotlib import font_manager
from matplotlib.ft2font import FT2Font
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
from scipy.cluster.hierarchy import dendrogram, leaves_list, linkage
from scipy.spatial.distance import squareform
from scipy.special import ndtri
from scipy.stats import spearmanr

import configure as c
from support.checks import sex_of
from support.safe_files import written_whole


matplotlib.use('Agg')  # write pictures, open no window
plt.style.use(Path(__file__).with_name('lab.mplstyle'))

HANGUL_FONTS = ['NanumGothic', 'Noto Sans CJK KR', 'Noto Sans KR', 'Malgun Gothic', 'AppleGothic']
installed = {font.name for font in font_manager.fontManager.ttflist}
plt.rcParams['font.family'] = ['DejaVu Sans', *(name for name in HANGUL_FONTS if name in installed)]
BLUE, ORANGE, GREEN, PURPLE, BLACK = '#0072B2', '#D55E00', '#009E73', '#CC79A7', '#000000'  # as in lab.mplstyle
AMBER, SKY, GREY = '#E69F00', '#56B4E9', '#808080'
SAME, DIFFERENT = BLUE, ORANGE  # pairs of one speaker and of two, in every picture and on the page of own_voice
CLUSTER_STYLES = [(BLUE, 'o'), (ORANGE, 's'), (GREEN, '^'), (PURPLE, 'D'),  # of the speakers in clusters.png
                  (BLACK, 'x'), (SKY, '+'), (AMBER, 'v'), (GREY, '*')]
N_BINS = 40  # of the histograms
LOWEST_LEVEL = -100  # dBFS, below which no level is drawn
MOST_ROWS = 60  # of the matrix of test files and enrolled speakers
MOST_NUMBERS = 20  # a matrix with more columns has colours only: numbers could not be read
MOST_LETTERS = 24  # of a name. A longer one is cut in its middle


def save_picture(fig, filename):
    """Write a figure as PNG, whole or not at all, and print where."""
    if fig.get_layout_engine() is None:
        fig.tight_layout()
    with written_whole(filename) as f:
        fig.savefig(f, format='png')
    plt.close(fig)
    print('Picture: %s' % filename)


def plain_log_ticks(axis):
    """Label a logarithmic axis with plain numbers: 0.5 and not 5 x 10^-1. Call it when everything is drawn."""
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)) if high >= 10 * low else MaxNLocator(6, steps=[1, 2, 5, 10]))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter('{x:g}')


def axis_top(train_losses, valid_losses):
    """Where the axis of the losses ends. The first validation loss does not count, because it may be very large."""
    return 1.1 * max([*train_losses, *valid_losses[1:]])


def visualize_the_losses(train_losses, valid_losses, *, log_dir='.', accuracies=(), learning_rates=()):
    """Draw the losses of all epochs into LOG_DIR/loss_plot.png, with a dashed line at the lowest validation loss.

    Below them, if they are given: the validation accuracies in percent and the learning rates. Runs of earlier versions
    have no accuracies: None.
    """
    numbers, lowest = range(1, len(train_losses) + 1), valid_losses.index(min(valid_losses)) + 1
    below = [(values, label, colour, look) for values, label, colour, look in (
        (accuracies, 'validation accuracy (%)', ORANGE, {'ylim': (0, 100)}),
        (learning_rates, 'learning rate', GREEN, {'yscale': 'log'})) if values]
    fig, axes = plt.subplots(1 + len(below), 1, figsize=(10, 8 + len(below)), sharex=True, squeeze=False,
                             height_ratios=(3, 2, 1)[:1 + len(below)], layout='constrained')
    losses, *others = axes[:, 0]
    losses.plot(numbers, train_losses, '.-', color=BLUE, label='Training Loss')
    losses.plot(numbers, valid_losses, '.-', color=ORANGE, label='Validation Loss')
    top, title = axis_top(train_losses, valid_losses), 'The validation loss was lowest, %.3f, at epoch %d of %d' % (
        min(valid_losses), lowest, len(numbers))
    if valid_losses[0] > top:
        title += '\n(the first one, %.1f, is above the axis)' % valid_losses[0]
    losses.set(ylabel='loss', xlim=(0, len(numbers) + 1), ylim=(0, top), title=title)
    for ax, (values, label, colour, look) in zip(others, below):
        ax.plot(numbers, np.array(values, float), '.-', color=colour)
        ax.set(ylabel=label, **look)
    for ax in axes[:, 0]:
        ax.axvline(lowest, linestyle='--', color=BLACK, label='Lowest validation loss (epoch %d)' % lowest)
    if learning_rates:
        plain_log_ticks(others[-1].yaxis)
    ax.set(xlabel='epochs')
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    fig.legend(*losses.get_legend_handles_labels(), loc='outside lower center', ncols=3)
    save_picture(fig, os.path.join(log_dir, 'loss_plot.png'))


def drawable(names, kind='speaker'):
    """The names as they can be drawn. A name in letters that no font here has becomes kind and a number, and a line
    says so. A long name of a speaker is cut in its middle."""
    fonts = [FT2Font(font_manager.findfont(family)).get_charmap() for family in plt.rcParams['font.family']]
    shown, numbered = [], {}
    for name in names:
        if not all(any(ord(letter) in font for font in fonts) for letter in name):
            name = numbered.setdefault(name, '%s %d' % (kind, len(numbered) + 1))
        shown.append(name)
    if numbered:
        print('No font here has the letters of some names. In the pictures: %s'
              % ', '.join('%s = %s' % (number, name) for name, number in numbered.items()))
    return cut_names(shown) if kind == 'speaker' else shown


def cut_names(names):
    """Names of MOST_LETTERS at most: both ends of a longer one stay. If two would then be alike, all stay whole."""
    half = MOST_LETTERS // 2
    cut = [name if len(name) <= MOST_LETTERS else name[:half] + '…' + name[1 - half:] for name in names]
    return cut if len(set(cut)) == len(set(names)) else list(names)


def inches_for(names):
    """The side of a matrix on which so many names can be read: 6.5 inches or more."""
    return max(6.5, 0.22 * len(names))


def draw_who_sounds_alike(embeddings, parameters, picture_dir):
    """Draw the cosine similarity of every two speakers, and of demo voices also how differently they were made.

    embeddings: dict speaker -> (1, embedding_size) tensor; parameters: DataFrame with a row for each speaker, or None.
    """
    speakers, scores = cosines_of(embeddings)
    draw_similarity(scores, speakers, os.path.join(picture_dir, 'similarity.png'))
    if parameters is not None:
        first, second = np.triu_indices(len(speakers), 1)  # every pair once
        numbers = parameters.loc[speakers].to_numpy()  # (n, n_parameters)
        differences = np.abs(numbers[first] - numbers[second])  # (n_pairs, n_parameters)
        same_sex = np.array([sex_of(speakers[i]) == sex_of(speakers[j]) for i, j in zip(first, second)])
        draw_parameters(differences, scores[first, second], same_sex, list(parameters.columns),
                        os.path.join(picture_dir, 'parameters.png'))


def cosines_of(embeddings):
    """(list of speakers, cosine similarity of every two (n, n)). embeddings: dict speaker -> (1, embedding_size)."""
    speakers = sorted(embeddings)
    vectors = np.concatenate([embeddings[spk].numpy() for spk in speakers])  # (n, embedding_size)
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return speakers, np.clip(vectors @ vectors.T, -1, 1)


def tree_of(scores):
    """The tree of speakers who sound alike: average linkage of 1 - cosine. scores: (n, n)."""
    return linkage(squareform(1 - scores, checks=False), 'average')


def side_by_side(embeddings):
    """The speakers in the order of similarity.png. embeddings: dict speaker -> (1, embedding_size)."""
    speakers, scores = cosines_of(embeddings)
    return [speakers[i] for i in leaves_list(tree_of(scores))]


def draw_similarity(scores, speakers, filename):
    """Draw the cosine similarity of every two speakers: scores (n, n). Those who sound alike stand side by side."""
    side = inches_for(speakers)
    fig, (tree_ax, ax) = plt.subplots(2, 1, figsize=(side + 2.5, 1.25 * side + 1.375), height_ratios=(1, 4),
                                      layout='constrained')
    tree = dendrogram(tree_of(scores), ax=tree_ax, no_labels=True, color_threshold=0, above_threshold_color='black')
    order = tree['leaves']
    image = ax.imshow(scores[order][:, order], cmap='cividis', aspect='auto')
    fig.colorbar(image, ax=[tree_ax, ax], label='cosine similarity')
    for i, a in enumerate(order if len(order) <= MOST_NUMBERS else []):
        for j, b in enumerate(order):
            ax.text(j, i, '%.2f' % scores[a, b], ha='center', va='center', fontsize=10,
                    color='black' if scores[a, b] > (scores.min() + 1) / 2 else 'white')
    shown = drawable(speakers)
    name_axes(ax, [speakers[i] for i in order], [shown[i] for i in order])
    ax.grid(False)
    tree_ax.set(ylabel='1 - cosine')
    first, second = np.triu_indices(len(speakers), 1)  # every pair once
    between = scores[first, second]
    nearest = np.argmax(between)
    sexes = {sex_of(spk) for spk in speakers}
    colours = ', '.join(text for sex, text in (('F', 'women orange'), ('M', 'men blue')) if sex in sexes)
    tree_ax.set_title('%d speakers%s: cosine %.2f on average,\n%s and %s are most alike (%.2f)'
                      % (len(speakers), ' (%s)' % colours if colours else '', between.mean(), shown[first[nearest]],
                         shown[second[nearest]], between.max()), fontsize=11)
    save_picture(fig, filename)


def name_axes(ax, speakers, shown):
    """Write the names of the speakers along both axes, those of women in orange and those of men in blue."""
    ax.set(xticks=range(len(shown)), yticks=range(len(shown)), yticklabels=shown)
    ax.set_xticklabels(shown, rotation=90)
    for labels in (ax.get_xticklabels(), ax.get_yticklabels()):
        for label, speaker in zip(labels, speakers):
            label.set_color({'F': ORANGE, 'M': BLUE, '': 'black'}[sex_of(speaker)])


def draw_parameters(differences, scores, same_sex, names, filename):
    """Draw the cosine similarity of every two demo voices against how differently they were made.

    differences: (n_pairs, n_parameters), in standard deviations; scores: (n_pairs,); same_sex: (n_pairs,) of bool;
    names: of the parameters. The bars are rank correlations (Spearman) of score and difference, one for each parameter.
    """
    distances = np.linalg.norm(differences, axis=1)  # (n_pairs,)
    fig, (ax, bars) = plt.subplots(1, 2, figsize=(13, 6.5), width_ratios=(3, 2), layout='constrained')
    for mask, marker, colour, label in ((same_sex, 'o', GREEN, 'two women or two men'),
                                        (~same_sex, 'x', PURPLE, 'a woman and a man')):
        ax.plot(distances[mask], scores[mask], marker, color=colour, label='%s (%d pairs)' % (label, mask.sum()))
    ends = np.array([distances.min(), distances.max()])
    ax.plot(ends, np.polyval(np.polyfit(distances, scores, 1), ends), '--', color=BLACK, label='trend')
    ax.set(xlabel="distance of the voices' parameters (standard deviations)", ylabel='cosine similarity',
           title='Score of two demo voices against how differently\nthey were made: rank correlation %.2f over %d pairs'
           % (spearmanr(distances, scores)[0], len(scores)))
    fig.legend(loc='outside lower center', ncols=3)
    heard = np.array([spearmanr(column, scores)[0] for column in differences.T])
    order = np.argsort(-heard)  # the most negative one on top
    bars.barh(np.array(names)[order], heard[order], color=BLUE)
    bars.axvline(0, color=BLACK, linewidth=1)
    bars.set(title='What does the network hear?', xlabel='rank correlation of score and difference\n'
             '(far below 0: who differs in it scores low)')
    save_picture(fig, filename)


def draw_confusion(true_spks, predicted_spks, filename, pieces='whole files'):
    """Matrix of the answers (columns) to the pieces of every speaker (rows). pieces: what they are, in words."""
    rows, columns = sorted(set(true_spks)), sorted(set(true_spks) | set(predicted_spks))
    counts = np.zeros((len(rows), len(columns)), int)
    for true_spk, predicted_spk in zip(true_spks, predicted_spks):
        counts[rows.index(true_spk), columns.index(predicted_spk)] += 1
    n_right = np.sum(np.array(true_spks) == np.array(predicted_spks))
    side = inches_for(columns)
    fig, ax = plt.subplots(figsize=(side + 1.5, side + 0.5), layout='constrained')
    fig.colorbar(ax.imshow(counts, cmap='cividis', aspect='auto'), ax=ax, label='how many',
                 ticks=MaxNLocator(integer=True))
    for i, j in zip(*np.nonzero(counts)):
        colour = 'white' if counts[i, j] < counts.max() / 2 else 'black'
        ax.text(j, i, counts[i, j], ha='center', va='center', color=colour, fontsize=10)
    shown = dict(zip(columns, drawable(columns)))
    ax.set(xticks=range(len(columns)), yticks=range(len(rows)), yticklabels=[shown[row] for row in rows],
           xlabel='predicted speaker', ylabel='true speaker', title='%s: %d of %d identified (%.1f %%)'
           % (pieces, n_right, len(true_spks), 100 * n_right / len(true_spks)))
    ax.set_xticklabels(shown.values(), rotation=90)
    ax.grid(False)
    save_picture(fig, filename)


def draw_matrix(scores, true_spks, spk_list, filename, unit='cosine similarity'):
    """Draw the score of every test file (rows) with every enrolled speaker (columns).

    scores: (n, n_speakers); true_spks: the speaker of each test file. The highest score of a row has a frame. Of more
    than MOST_ROWS files, the first ones are drawn. unit: what the scores are, in words.
    """
    scores, true_spks = scores[:MOST_ROWS], true_spks[:MOST_ROWS]
    numbers = scores.shape[1] <= MOST_NUMBERS
    height = max(min(0.65 * len(scores), 6.5), 0.22 * len(scores))
    fig, ax = plt.subplots(figsize=(inches_for(spk_list) + 2.5, 2 + height), layout='constrained')
    image = ax.imshow(scores, cmap='cividis', aspect='auto')
    fig.colorbar(image, ax=ax, label=unit)
    middle = (scores.min() + scores.max()) / 2
    for i, j in np.ndindex(*scores.shape) if numbers else []:
        ax.text(j, i, '%.2f' % scores[i, j], ha='center', va='center', fontsize=10,
                color='black' if scores[i, j] > middle else 'white')
    for i, j in enumerate(scores.argmax(axis=1)):
        ax.add_patch(plt.Rectangle((j - 0.5, i - 0.5), 1, 1, fill=False, edgecolor=ORANGE, linewidth=2))
    shown = drawable([*true_spks, *spk_list])
    ax.set(xticks=range(len(spk_list)), yticks=range(len(true_spks)), yticklabels=shown[:len(true_spks)],
           xlabel='enrolled speaker', ylabel='speaker of the test file',
           title='Test files against enrolment\n(frame: the highest score of a row)')
    ax.set_xticklabels(shown[len(true_spks):], rotation=90)
    ax.grid(False)
    save_picture(fig, filename)


def draw_lengths(lengths, accuracies, eers, intervals, filename):
    """Accuracy and equal error rate, in percent, against the length of the pieces.

    intervals: for each length ((low, high) of the accuracy, (low, high) of the equal error rate).
    """
    accuracies, eers, intervals = np.array(accuracies), np.array(eers), np.array(intervals)  # intervals: (n, 2, 2)
    fig, panels = plt.subplots(2, 1, sharex=True, layout='constrained')
    for k, (ax, values, style, label) in enumerate(zip(
            panels, (accuracies, eers), ('o-', 's--'), ('identified (%)', 'equal error rate (%)'))):
        below, above = values - intervals[:, k, 0], intervals[:, k, 1] - values
        ax.errorbar(lengths, values, np.maximum([below, above], 0), fmt=style, color=(BLUE, ORANGE)[k], capsize=4)
        ax.set(ylabel=label)
    panels[0].set(ylim=(min(intervals[:, 0, 0].min(), accuracies.min()) - 1, 100.5), title='From %g to %g s: accuracy '
                  '%.1f to %.1f %%, EER %.1f to %.1f %%\n(lines: intervals of 95 %%; without an error, rule of three)'
                  % (lengths[0], lengths[-1], accuracies[0], accuracies[-1], eers[0], eers[-1]))
    panels[1].set(xlabel='length of a test piece (s)', xticks=lengths, ylim=(0, None))
    save_picture(fig, filename)


def draw_scores(target, impostor, threshold, rates, filename, unit='cosine similarity'):
    """Histograms of the scores of both kinds of trial, (n,) and (m,), and the threshold.

    rates: (miss, false alarm) at the threshold, as shares. unit: what the scores are, in words.
    """
    scores = np.concatenate([target, impostor])
    fig, ax = plt.subplots(layout='constrained')
    width = max(np.ptp(scores), 1e-6) / N_BINS
    first, last = np.floor((scores.min() - threshold) / width), np.ceil((scores.max() - threshold) / width)
    bins = threshold + width * np.arange(first, last + 2)  # no bar stands on both sides of the threshold
    for part, colour, label in ((impostor, DIFFERENT, 'different speakers'), (target, SAME, 'same speaker')):
        ax.hist(part, bins, density=True, alpha=0.7, color=colour, label='%s (%d trials)' % (label, len(part)))
    ax.axvline(threshold, linestyle='--', color=BLACK, label='threshold %.3f' % threshold)
    ax.set(xlabel='score (%s)' % unit, ylabel='density',
           title='At %.3f, %.1f %% of the same-speaker trials are rejected,\n%.1f %% of the others accepted'
           % (threshold, 100 * rates[0], 100 * rates[1]))
    fig.legend(loc='outside lower center', ncols=3, fontsize=11)
    save_picture(fig, filename)


def draw_det(misses, false_alarms, point, title, threshold, filename):
    """DET curve: one error rate against the other, on axes where normal scores give a line (Martin et al. 1997).

    misses, false_alarms: (k,) shares at every threshold; point: (miss, false alarm) at the threshold.
    """
    ticks = np.array([0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 0.99])
    limits = ndtri([0.0005, np.clip(1.02 * max(point), 0.5, 0.999)])  # a network that learned nothing accepts everybody
    fig, ax = plt.subplots(figsize=(7, 7), layout='constrained')
    # The probit of 0 is infinite: an error that was never seen is drawn on the edge
    curve = np.clip(ndtri(np.clip([false_alarms, misses], 1e-5, 1 - 1e-5)), *limits)
    ax.plot(*curve, drawstyle='steps-post', clip_on=False, label='every threshold of this model')
    ax.plot(limits, limits, linestyle=':', color=BLACK, label='equal error rates')
    place = np.clip(ndtri(np.clip([point[1], point[0]], 1e-5, 1 - 1e-5)), *limits)
    ax.plot(*place, 'o', color=ORANGE, markersize=10, clip_on=False, label='threshold %.3f' % threshold)
    for text, place, towards in (('stricter', (0.03, 0.35), (0.03, 0.55)), ('looser', (0.35, 0.03), (0.55, 0.03))):
        ax.annotate(text, towards, place, xycoords='axes fraction', rotation=90 if text == 'stricter' else 0,
                    ha='center', va='center', arrowprops={'arrowstyle': '->'})
    labels = ['%g' % (100 * tick) for tick in ticks]
    ax.set(xticks=ndtri(ticks), xticklabels=labels, yticks=ndtri(ticks), yticklabels=labels, xlim=limits, ylim=limits,
           xlabel='false accepts (%)', ylabel='false rejects (%)', title=title)
    fig.legend(loc='outside lower center', ncols=3, fontsize=10)
    save_picture(fig, filename)


def draw_clusters(vectors_of, labels, utterances, names, filename):
    """Draw d-vectors of some speakers on their two main axes (PCA), with a panel for each model.

    vectors_of: dict title -> (n_pieces, embedding_size); labels, utterances: (n_pieces,), whose and from which
    utterance each piece is; names: dict label -> name of the speaker. The title of a panel says how often the nearest
    piece, among those of other utterances, is by the same speaker. A point far from all others (see without_outliers)
    is drawn at the edge, and counted.
    """
    sexes = [{'F': ' (woman)', 'M': ' (man)', '': ''}[sex_of(name)] for name in names.values()]
    legend = {spk: name + sex for spk, name, sex in zip(names, drawable(names.values()), sexes)}
    fig, axes = plt.subplots(1, len(vectors_of), figsize=(4.5 * len(vectors_of), 5.6), squeeze=False,
                             layout='constrained')
    same, other = labels[:, None] == labels, utterances[:, None] != utterances  # (n_pieces, n_pieces)
    chance = np.mean((same & other).sum(axis=1) / np.maximum(other.sum(axis=1), 1))
    for ax, (title, vectors) in zip(axes[0], vectors_of.items()):
        similarity = np.where(utterances[:, None] == utterances, -1, vectors @ vectors.T)  # (n_pieces, n_pieces)
        share = np.mean(labels[similarity.argmax(axis=1)] == labels)
        centred = vectors - vectors.mean(axis=0)  # (n_pieces, embedding_size)
        directions = np.linalg.svd(centred, full_matrices=False)[2]  # the main axes, one a row
        points = centred @ directions[:2].T  # (n_pieces, 2)
        limits = np.array([without_outliers(values) for values in points.T]).T  # (2, 2): lows, highs
        n_outside = np.sum((points < limits[0]).any(axis=1) | (points > limits[1]).any(axis=1))
        points = np.clip(points, *limits)
        for (spk, name), (colour, marker) in zip(legend.items(), CLUSTER_STYLES):
            ax.plot(*points[labels == spk].T, marker, color=colour, alpha=0.7, label=name, clip_on=False)
        ax.set(title='%s: the nearest piece is\nby the same speaker in %.0f %%' % (title, 100 * share),
               xlabel='first main axis' + ('\n(%d far outside, drawn at the edge)' % n_outside if n_outside else ''),
               ylabel='second main axis', xlim=limits[:, 0], ylim=limits[:, 1])
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc='outside lower center',
               ncols=min(1 + len(vectors_of), len(names)))
    fig.suptitle('D-vectors of the validation utterances of %d speakers, in pieces of %g s.\n'
                 'By chance, the nearest piece would be by the same speaker in %.0f %%'
                 % (len(names), c.NUM_WIN_SIZE * c.WIN_STEP, 100 * chance))
    save_picture(fig, filename)


def without_outliers(values):
    """Both ends of an axis that shows the values (n,) but those far out: beyond a quartile by more than three times the
    distance of the quartiles (Tukey 1977)."""
    low, high = np.percentile(values, [25, 75])
    far = 3 * (high - low) + 1e-6
    near = values[(values >= low - far) & (values <= high + far)]
    margin = 0.05 * np.ptp(near) + 1e-6
    return near.min() - margin, near.max() + margin


def draw_speech(recordings, thresholds, filename):
    """Draw each Recording: its waveform, and below it the level of its blocks with the threshold. Speech is shaded.

    thresholds: of each recording, in dBFS.
    """
    lowest = min(*thresholds, *(np.percentile(recording.levels, 1) for recording in recordings)) - 3
    columns = min(2, len(recordings))
    rows = -(-len(recordings) // columns)
    fig = plt.figure(figsize=(max(9, 6.5 * columns), 4 * rows), layout='constrained')
    for part, recording, threshold in zip(fig.subfigures(rows, columns, squeeze=False).flat, recordings, thresholds):
        wave, energy = part.subplots(2, 1, sharex=True)
        seconds, levels = len(recording.audio) / c.SAMPLE_RATE, recording.levels
        every = max(1, len(recording.audio) // 20000)
        wave.plot(np.arange(0, len(recording.audio), every) / c.SAMPLE_RATE, recording.audio[::every], color=BLACK,
                  linewidth=0.5)
        energy.plot((np.arange(len(levels)) + 0.5) * c.WIN_LENGTH, levels, color=BLUE, linewidth=1)
        energy.axhline(threshold, linestyle='--', color=BLACK)
        edges = np.flatnonzero(np.diff(np.concatenate([[False], recording.is_speech, [False]])))
        for begin, end in edges.reshape(-1, 2) * c.WIN_LENGTH:
            for ax in (wave, energy):
                ax.axvspan(begin, end, alpha=0.3, linewidth=0, color=ORANGE)
        name, = drawable([os.path.basename(recording.filename)], 'sound')
        wave.set(ylabel='amplitude', title='%s: %.0f %% is taken for speech'
                 % (name, 100 * np.mean(recording.is_speech)))
        energy.set(xlim=(0, seconds), ylim=(max(lowest, LOWEST_LEVEL), None), xlabel='seconds', ylabel='level (dBFS)')
    fig.suptitle('Shaded: taken for speech. Dashed: the threshold of the level')
    save_picture(fig, filename)
