"""Draw the ideas of the deep dive: what the newer networks see, what the losses compare, what PLDA and as-norm do.

    python experiments/ideas.py <folder>

Writes networks.png, losses.png and scores.png, the pictures in docs/deep-dive.md, into the folder. They show made-up
numbers, but each is computed by the code of deep_dive/. Takes five seconds.
"""
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.patches import Ellipse

import project

from deep_dive import plda
from deep_dive.normalisation import cohort_statistics, normalise_scores
from deep_dive.resnet_se import SqueezeExcitation
from deep_dive.tdnn import TDNN, Res2Layer
from support.messages import LabError, run_script
from support.pictures import BLACK, BLUE, GREEN, ORANGE, PURPLE, save_picture

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
    ax.set(title='ecapa: each part of a Res2 layer sees further', xlabel='frame, from the one in the middle',
           ylabel='part', yticks=range(1, 9))


def draw_squeeze(ax):
    """The weights of 16 channels for two utterances."""
    torch.manual_seed(1)
    layer, maps = SqueezeExcitation(16, 4), 8 * torch.randn(2, 16, 1) + torch.randn(2, 16, 20)
    with torch.no_grad():
        weights = (layer(maps) / maps).mean(dim=2).numpy()  # (2, 16)
    for i, (weight, colour) in enumerate(zip(weights, COLOURS)):
        ax.bar(np.arange(1, 17) + 0.4 * i - 0.2, weight, width=0.4, color=colour, label='utterance %d' % (i + 1))
    ax.set(title='resnet_se: weights for each utterance', xlabel='channel', ylabel='weight', ylim=(0, 1),
           xticks=range(1, 17, 3))
    ax.legend()


def draw_attention(ax):
    """The weights with which each frame looks at all frames: softmax of q k / sqrt(size), for made-up q and k."""
    torch.manual_seed(0)
    sound = torch.nn.functional.one_hot(torch.tensor([0] * 6 + [1] * 5 + [2] * 7 + [1] * 4 + [0] * 3)).float()
    q = 4 * sound + 0.4 * torch.randn(sound.shape)
    weights = torch.softmax(q @ q.T / 3 ** 0.5, dim=1)  # (25, 25)
    ax.imshow(weights.numpy(), cmap='Blues', aspect='auto', extent=(0.5, 25.5, 25.5, 0.5))
    ax.set(title='conformer: a frame looks at similar frames', xlabel='frame s', ylabel='frame t')


# ------------------------------------------------------------------------------------------------- losses

def clouds(n_each=4, spread=0.22):
    """Embeddings of three speakers in two dimensions: list of (n_each, 2)."""
    centres = np.array([[0.0, 1.0], [1.1, -0.4], [-1.0, -0.6]])
    generator = np.random.default_rng(3)
    return [centre + generator.normal(0, spread, (n_each, 2)) for centre in centres]


def draw_points(ax, title):
    """Draw the clouds, and return them."""
    points = clouds()
    for cloud, colour, marker in zip(points, COLOURS, MARKERS):
        ax.plot(*cloud.T, marker, color=colour, markersize=9)
    ax.set(title=title, xticks=[], yticks=[], xlim=(-1.8, 1.8), ylim=(-1.3, 1.6),
           xlabel='star: mean; solid: together; dashed: apart')
    return points


def arrow(ax, start, end, pull):
    """An arrow that pulls `start` towards `end` (solid), or pushes it away (dashed)."""
    ax.annotate('', end, start, arrowprops={'arrowstyle': '->', 'linestyle': '-' if pull else '--', 'linewidth': 2,
                                            'color': GREEN if pull else BLACK, 'shrinkA': 6, 'shrinkB': 6})


def draw_ge2e(ax):
    points = draw_points(ax, 'ge2e: every utterance and all means')
    means = [points[0][1:].mean(axis=0), points[1].mean(axis=0), points[2].mean(axis=0)]
    for mean, colour in zip(means, COLOURS):
        ax.plot(*mean, '*', color=colour, markersize=20, markeredgecolor=BLACK)
        arrow(ax, points[0][0], mean, pull=mean is means[0])


def draw_prototypical(ax):
    points = draw_points(ax, 'prototypical: the last utterance and all means')
    for number, cloud in enumerate(points):
        mean = cloud[:-1].mean(axis=0)
        ax.plot(*mean, '*', color=COLOURS[number], markersize=20, markeredgecolor=BLACK)
        arrow(ax, points[0][-1], mean, pull=number == 0)
    ax.plot(*points[0][-1], 'o', color='none', markeredgecolor=BLACK, markersize=16)


def draw_triplet(ax):
    points = draw_points(ax, 'triplet: an anchor, one of its own, one other')
    anchor, positive, negative = points[0][0], points[0][2], points[1][points[1][:, 1].argmax()]
    for point, name in ((anchor, 'a'), (positive, 'p'), (negative, 'n')):
        ax.annotate(name, point, textcoords='offset points', xytext=(8, 6), fontsize=14)
    arrow(ax, anchor, positive, pull=True)
    arrow(ax, anchor, negative, pull=False)


def draw_subcenters(ax):
    generator = np.random.default_rng(1)
    ax.set(title='subcenter: three centres, the nearest counts', xticks=[], yticks=[], xlim=(-1.8, 1.8),
           ylim=(-1.3, 1.6), xlabel='one speaker; star: a centre')
    centres = np.array([[-0.9, 0.7], [0.7, 0.9], [0.2, -0.8]])
    for centre, n_points, name in zip(centres, (7, 4, 2), ('clean', 'noisy', 'wrong label')):
        cloud = centre + generator.normal(0, 0.2, (n_points, 2))
        ax.plot(*cloud.T, 'o', color=BLUE, markersize=9)
        ax.plot(*centre, '*', color=BLUE, markersize=20, markeredgecolor=BLACK)
        ax.annotate(name, centre, textcoords='offset points', xytext=(0, 26), ha='center')
        for point in cloud:
            arrow(ax, point, centre, pull=True)


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
    ax.set(title='PLDA: B says how voices differ, W how recordings do', xlim=(-5.5, 5.5), ylim=(-3.5, 3.5),
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
    ax.figure.colorbar(image, ax=ax)
    ax.set(title='PLDA: the score with the recording (white)', xlabel='direction 1', ylabel='direction 2')


def draw_normalised(axes):
    """Scores of two recordings with their own speaker and with others, before and after s-norm."""
    generator = np.random.default_rng(0)
    others = [generator.normal(mean, 0.1, 300) for mean in (0.0, 0.3)]  # the second one scores high with everybody
    own = [generator.normal(mean, 0.08, 40) for mean in (0.45, 0.75)]
    normalised = [[], []]
    for these, strangers in zip(own, others):
        mean, deviation = cohort_statistics(strangers[None], 's-norm')
        for kind, scores in zip(normalised, (these, strangers)):
            kind.append(normalise_scores(scores, mean, deviation, mean, deviation))
    for ax, (targets, impostors), title in ((axes[0], (own, others), 'before: no threshold fits both recordings'),
                                            (axes[1], normalised, 's-norm: one threshold fits both')):
        values = np.concatenate([*targets, *impostors])
        bins = np.linspace(values.min(), values.max(), 50)
        for number, colour in enumerate((BLUE, ORANGE)):
            ax.hist(impostors[number], bins, density=True, alpha=0.35, color=colour,
                    label='recording %d with strangers' % (number + 1))
            ax.hist(targets[number], bins, density=True, histtype='step', linewidth=2, color=colour,
                    label='recording %d with its own speaker' % (number + 1))
        ax.set(title=title, xlabel='score', yticks=[])
    axes[0].legend(fontsize=9)


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
    project.name_arguments(main)
    run_script(main)
