"""Draw the ideas of the deep dive: what the newer networks see, what the losses compare, what PLDA and s-norm do.

    python experiments/ideas.py <folder>

Writes networks.png, losses.png and scores.png, the pictures in docs/deep-dive.md, into the folder. The numbers are made
up. Where a layer or a score can be computed, the code of deep_dive/ computes it; the losses are sketches. Takes five
seconds.
"""
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.patches import Circle, Ellipse

import project  # noqa: F401 (finds the lab)

from deep_dive import plda
from deep_dive.normalisation import cohort_statistics, normalise_scores
from deep_dive.resnet_se import SqueezeExcitation
from deep_dive.tdnn import TDNN, Res2Layer
from support.messages import LabError, run_script
from support.pictures import BLACK, BLUE, DIFFERENT, GREEN, ORANGE, PURPLE, SAME, save_picture

COLOURS, MARKERS = (BLUE, ORANGE, GREEN, PURPLE), 'os^D'


# ------------------------------------------------------------------------------------------------- networks

def draw_tdnn(ax):
    """The frames that one output of a TDNN depends on, layer by layer."""
    needed, dilations = {0}, []
    for layer in reversed(TDNN().layers):
        width, dilation = layer[0].kernel_size[0], layer[0].dilation[0]
        dilations.append([dilation * (i - width // 2) for i in range(width)])
    for depth, offsets in zip(range(len(dilations), 0, -1), dilations):  # from the last layer down to the input
        for t in needed:
            for offset in offsets:
                ax.plot([t, t + offset], [depth, depth - 1], color=BLUE, linewidth=0.7)
        ax.plot(sorted(needed), [depth] * len(needed), 'o', color=ORANGE)
        needed = {t + offset for t in needed for offset in offsets}
    ax.plot(sorted(needed), [0] * len(needed), 's', color=BLACK)
    ax.set(title='tdnn: %d frames reach one output' % len(needed), xlabel='frame', ylabel='layer',
           yticks=range(len(dilations) + 1), yticklabels=['input', *range(1, len(dilations) + 1)])


def draw_res2(ax):
    """How many frames each part of a Res2 layer sees: those that an impulse at frame 20 reaches."""
    layer = Res2Layer(8, dilation=2).eval()
    for parameter in layer.parameters():
        torch.nn.init.ones_(parameter)
    x = torch.zeros(1, 8, 41)
    before = layer(x)
    x[:, :, 20] = 1
    with torch.no_grad():
        reached = (layer(x) - before)[0] != 0  # (8 parts, 41 frames)
    ax.imshow(reached.numpy(), aspect='auto', cmap='Blues', vmax=1.5, extent=(-20.5, 20.5, 8.5, 0.5))
    ax.set(title='ecapa: a Res2 layer with dilation 2', ylabel='part', yticks=range(1, 9),
           xlabel='frames that the part sees, from the one in the middle')


def draw_squeeze(ax):
    """The weights of 16 channels for two utterances."""
    torch.manual_seed(1)
    layer, maps = SqueezeExcitation(16, 4), 8 * torch.randn(2, 16, 1) + torch.randn(2, 16, 20)
    with torch.no_grad():
        weights = (layer(maps) / maps).mean(dim=2).numpy()  # (2, 16)
    for i, (weight, colour) in enumerate(zip(weights, COLOURS)):
        ax.bar(np.arange(1, 17) + 0.4 * i - 0.2, weight, width=0.4, color=colour, label='utterance %d' % (i + 1))
    ax.set(title='resnet_se: weights of the channels (untrained)', xlabel='channel', ylabel='weight', ylim=(0, 1),
           xticks=range(1, 17, 3))
    ax.legend()


def draw_attention(ax):
    """The weights with which each frame looks at all frames: softmax of q k / sqrt(size). Here q = k."""
    torch.manual_seed(0)
    sound = torch.nn.functional.one_hot(torch.tensor([0] * 6 + [1] * 5 + [2] * 7 + [1] * 4 + [0] * 3)).float()
    q = 4 * sound + 0.4 * torch.randn(sound.shape)
    weights = torch.softmax(q @ q.T / 3 ** 0.5, dim=1)  # (25, 25)
    ax.imshow(weights.numpy(), cmap='Blues', aspect='auto', extent=(0.5, 25.5, 25.5, 0.5))
    ax.set(title='conformer: attention of 25 frames of three sounds', xlabel='frame s', ylabel='frame t')


# ------------------------------------------------------------------------------------------------- losses

def on_circle(degrees):
    """Embeddings of length 1 in two dimensions, because the losses compare by the cosine: (..., 2)."""
    return np.stack([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], axis=-1)


SPEAKERS = [on_circle([68.0, 84, 99, 117]), on_circle([2.0, -14, -25, -41]), on_circle([190.0, 204, 214, 232])]


def mean_of(points):
    """The mean of embeddings (n, 2), of length 1: (2,)."""
    return points.mean(axis=0) / np.linalg.norm(points.mean(axis=0))


def draw_circle(ax, title, below):
    """The circle on which all embeddings lie, with the text below it."""
    ax.add_patch(Circle((0, 0), 1, fill=False, color='lightgrey'))
    ax.plot(0, 0, '+', color='grey')
    ax.set(title=title, xlabel=below, xticks=[], yticks=[], xlim=(-1.5, 1.5), ylim=(-1.2, 1.35), aspect='equal')


def draw_speakers(ax, title, below='solid line: together; dashed line: apart; star: mean'):
    """The embeddings of the three speakers on the circle."""
    draw_circle(ax, title, below)
    for cloud, colour, marker in zip(SPEAKERS, COLOURS, MARKERS):
        ax.plot(*cloud.T, marker, color=colour, markersize=9)


def connect(ax, start, end, together):
    """A line between two that the loss moves together (solid), or apart (dashed)."""
    ax.plot(*zip(start, end), color=BLACK, linestyle='-' if together else '--', linewidth=1.5, zorder=0)


def draw_with_means(ax, utterance, own):
    """Connect an utterance of the first speaker with the mean of `own`, and with those of the other speakers."""
    for number, points in enumerate([own, *SPEAKERS[1:]]):
        ax.plot(*mean_of(points), '*', color=COLOURS[number], markersize=20, markeredgecolor=BLACK)
        connect(ax, utterance, mean_of(points), together=number == 0)
    ax.plot(*utterance, 'o', color='none', markeredgecolor=BLACK, markersize=16)


def draw_ge2e(ax):
    draw_speakers(ax, 'ge2e: each utterance (here one) and all means')
    draw_with_means(ax, SPEAKERS[0][0], SPEAKERS[0][1:])  # without itself


def draw_prototypical(ax):
    draw_speakers(ax, 'prototypical: the last utterance and all means')
    draw_with_means(ax, SPEAKERS[0][-1], SPEAKERS[0][:-1])


def semi_hard(anchor, positive, others):
    """Of the others (n, 2) that are less similar to the anchor than the positive is, the most similar one."""
    allowed = others[others @ anchor < positive @ anchor]
    return allowed[(allowed @ anchor).argmax()]


def draw_triplet(ax):
    draw_speakers(ax, 'triplet: a and p together, a and n apart', 'solid line: together; dashed line: apart')
    anchor, positive = SPEAKERS[0][0], SPEAKERS[0][3]
    negative = semi_hard(anchor, positive, np.concatenate(SPEAKERS[1:]))
    for point, name in ((anchor, 'a'), (positive, 'p'), (negative, 'n')):
        ax.annotate(name, 1.15 * point, ha='center', va='center', fontsize=15)
    connect(ax, anchor, positive, together=True)
    connect(ax, anchor, negative, together=False)


def draw_subcenters(ax):
    draw_circle(ax, 'subcenter: one speaker, three centres', 'star: a centre')
    for degrees, name in (([60.0, 75, 80, 95, 104], 'clean'), ([-20.0, -5, 4], 'noisy'), ([200.0, 215], 'wrong label')):
        points = on_circle(degrees)
        ax.plot(*points.T, 'o', color=BLUE, markersize=9)
        ax.plot(*mean_of(points), '*', color=BLUE, markersize=20, markeredgecolor=BLACK)
        ax.annotate(name, 0.6 * mean_of(points), ha='center', va='center')


# ------------------------------------------------------------------------------------------------- scores

BETWEEN, WITHIN = np.diag([4.0, 0.3]), np.diag([0.3, 1.0])  # covariances of voices and of recordings, in two directions


def draw_plda(ax):
    """Recordings of four speakers, and an ellipse around those of each."""
    generator = np.random.default_rng(7)
    for voice, colour, marker in zip([(-3.5, 0.2), (-1.2, -0.4), (1.0, 0.5), (3.4, 0)], COLOURS, MARKERS):
        x = generator.multivariate_normal(voice, WITHIN, 12)
        ax.plot(*x.T, marker, color=colour, markersize=5)
        width, height = 4 * np.sqrt(np.diag(WITHIN))  # two standard deviations to each side
        ax.add_patch(Ellipse(voice, width, height, fill=False, color=colour))
    ax.set(title='recordings of four speakers; an ellipse: two deviations of W', xlim=(-5.5, 5.5), ylim=(-3.5, 3.5),
           xlabel='direction 1: speakers differ', ylabel='direction 2: recordings differ')


def draw_ratio(ax):
    """The score of each point with one recording."""
    x, y = np.meshgrid(np.linspace(-5.5, 5.5, 200), np.linspace(-3.5, 3.5, 150))
    recording = np.array([[1.5, 1.0]])
    points, own = plda.prepare(np.stack([x.ravel(), y.ravel()], axis=1), np.zeros((1, 2)), BETWEEN, WITHIN)
    point, constant = plda.prepare(recording, np.zeros((1, 2)), BETWEEN, WITHIN)
    scores = (points @ point.T + own[:, None] + constant).reshape(x.shape)
    image = ax.contourf(x, y, scores, levels=np.arange(-12, 5, 2), cmap='cividis', extend='both')
    ax.contour(x, y, scores, levels=[0], colors=['white'], linestyles='--')
    ax.plot(*recording[0], 'o', color='white', markeredgecolor=BLACK, markersize=10)
    ax.figure.colorbar(image, ax=ax, label='score')
    ax.set(title='score of each place with the recording (dot); dashed: 0', xlabel='direction 1', ylabel='direction 2')


def draw_normalised(axes):
    """Scores of two enrolled recordings with their own speaker and with others, before and after s-norm.

    The second one scores high with everybody. Each is compared with 300 cohort speakers and tested by 300 strangers and
    40 recordings of its own speaker. The tests themselves score alike with the cohort.
    """
    generator = np.random.default_rng(0)
    before, after = [], []
    for offset in (0.0, 0.3):
        cohort, strangers = (generator.normal(offset, 0.1, 300) for _ in range(2))
        own = generator.normal(offset + 0.45, 0.08, 40)
        mean, deviation = cohort_statistics(cohort[None], 's-norm')
        before.append((strangers, own))
        after.append([normalise_scores(scores, mean, deviation, 0.15, 0.18) for scores in (strangers, own)])
    for ax, recordings, title in zip(axes, (before, after), ('before: no threshold fits both recordings',
                                                             'after s-norm: one threshold fits both better')):
        scores = np.concatenate([part for recording in recordings for part in recording])
        bins = np.linspace(scores.min(), scores.max(), 50)
        for number, (recording, look) in enumerate(zip(recordings, ({'alpha': 0.4},
                                                                    {'histtype': 'step', 'linewidth': 2})), 1):
            for part, colour, whose in zip(recording, (DIFFERENT, SAME), ('strangers', 'its own speaker')):
                ax.hist(part, bins, density=True, color=colour, label='recording %d, %s' % (number, whose), **look)
        ax.set(title=title, xlabel='score', yticks=[])
    axes[0].figure.legend(*axes[0].get_legend_handles_labels(), loc='outside lower center', ncols=4, fontsize=11)


def main(
        # Settings
        out_dir='',  # where the pictures go
):
    if not out_dir:
        raise LabError('Name the folder for the pictures.')
    Path(out_dir).mkdir(parents=True, exist_ok=True)
    for name, drawings in (('networks', (draw_tdnn, draw_res2, draw_squeeze, draw_attention)),
                           ('losses', (draw_ge2e, draw_prototypical, draw_triplet, draw_subcenters))):
        fig, axes = plt.subplots(2, 2, figsize=(12, 8), layout='constrained')
        for ax, draw in zip(axes.flat, drawings):
            ax.grid(False)
            draw(ax)
        save_picture(fig, Path(out_dir) / (name + '.png'))
    fig, axes = plt.subplots(2, 2, figsize=(12, 8), layout='constrained')
    for ax in axes.flat:
        ax.grid(False)
    draw_plda(axes[0, 0])
    draw_ratio(axes[0, 1])
    draw_normalised(axes[1])
    save_picture(fig, Path(out_dir) / 'scores.png')


if __name__ == '__main__':
    run_script(main, words=True)
