"""Train the deep dive's variants, and test each on people never heard. These are the tables in docs/deep-dive.md.

    python experiments/compare.py <folder that hold_out.py made> <folder for results> [number of seeds] [variant ...]
    python experiments/compare.py ../held_out ../converged 3 softmax ecapa --n_epochs=10

Each variant is deep_dive/train.py with the settings that VARIANTS gives. Settings in capitals are of configure.py.
Without names, all variants are trained. A variant that has been trained and tested is skipped, and one that was
interrupted goes on after its last epoch, so the command may be stopped and given again. Prints the table and draws
compare.png into the folder for the results. An epoch takes two minutes on one core with bfloat16, and four without,
times the column "step".
"""
import contextlib
import io
import itertools
import json
import statistics
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.ticker import LogLocator, NullLocator
from torch import nn
from torch.utils.data import DataLoader

import project  # noqa: F401 (finds the lab)

import configure as c
import deep_dive.train
import train
from DB_wav_reader import find_feats, make_DB
from deep_dive.backends import Scorer
from deep_dive.losses import LOSSES
from deep_dive.networks import background_network
from exercises.scoring import all_pairs, equal_error_rate, min_dcf
from exercises.similar_voices import embed_pieces
from model import load_model
from support.checks import feature_settings, feature_size, sex_of
from support.messages import LabError, check_settings, or_none, run_script, some_of, whole
from support.pictures import GREEN, save_picture
from support.runs import RUN_FILE, read_run

# Settings of deep_dive/train.py that all variants have in common
COMMON = {'scheduler_type': 'onecycle', 'wd': 5e-4, 'plot': False}
ADAM = {'optimizer_type': 'adam', 'lr': 1e-3, 'wd': 0.0}  # a network without BatchNorm does not learn at lr = 0.1
CONFORMER_AAM = {'backbone': 'conformer', 'pooling': 'attentive', 'loss_type': 'aamsoftmax', 'augment': ['speed']}
VARIANTS = {
    'softmax': {},  # the lab's network: ResNet-18, average pooling, log filterbank
    **{loss: {'loss_type': loss} for loss in ('center', 'asoftmax', 'amsoftmax', 'aamsoftmax', 'subcenter')},
    **{loss: {'loss_type': loss, 'batch_speakers': 16} for loss in ('ge2e', 'prototypical', 'triplet')},
    'statistics': {'pooling': 'statistics'},
    'attentive': {'pooling': 'attentive'},
    'adam': ADAM,
    **{name: {'backbone': name} for name in ('resnet34', 'resnet50', 'resnet101', 'resnet152', 'vgg',
                                             'tdnn', 'ecapa', 'resnet_se', 'conformer')},
    **{name: {'backbone': name, **ADAM} for name in ('lstm', 'cnn_lstm')},
    **{name: {'augment': [name]} for name in ('speed', 'level', 'noise', 'specaugment')},
    'softmax_20': {'n_epochs': 20},
    'resnet34_20': {'backbone': 'resnet34', 'n_epochs': 20},
    'speed_20': {'augment': ['speed'], 'n_epochs': 20},
    'aam_statistics': {'loss_type': 'aamsoftmax', 'pooling': 'statistics'},
    'aam_statistics_speed': {'loss_type': 'aamsoftmax', 'pooling': 'statistics', 'augment': ['speed']},
    'softmax_2s': {'NUM_WIN_SIZE': 200},
    'conformer_2s': {'backbone': 'conformer', 'NUM_WIN_SIZE': 200},
    'conformer_ge2e': {**CONFORMER_AAM, 'loss_type': 'ge2e', 'batch_speakers': 16},
    'conformer_aam': CONFORMER_AAM,
    'ecapa_aam_2s': {**CONFORMER_AAM, 'backbone': 'ecapa', 'NUM_WIN_SIZE': 200},
    'conformer_aam_2s': {**CONFORMER_AAM, 'NUM_WIN_SIZE': 200},
    'conformer_aam_3s': {**CONFORMER_AAM, 'NUM_WIN_SIZE': 300},
    'conformer_aam_2s_20': {**CONFORMER_AAM, 'NUM_WIN_SIZE': 200, 'n_epochs': 20},
    'mfcc': {'USE_MFCC': True},  # features of experiments/other_features.py, in <folder of hold_out.py>_<name>
    'delta': {'USE_DELTA': True},
    'scale': {'USE_SCALE': True},
    'energies': {'USE_LOGSCALE': False},
}

# How two d-vectors are compared: backend and normalise of Scorer
SCORERS = {'raw': ['cosine'], 'centred': ['centre'], 'WCCN': ['wccn'], 'PLDA': ['plda'],
           'as-norm': ['cosine', 'as-norm']}


def scorer_of(way, model):
    """The Scorer that SCORERS names."""
    backend, *normalise = SCORERS[way]
    return Scorer(backend, model, *normalise)


def in_configure(name):
    """Those settings of a variant that are of configure.py, as a dict."""
    return {key: value for key, value in VARIANTS[name].items() if hasattr(c, key)}


def features_for(name, data_dir):
    """The folder with the features of a variant: data_dir, or <data_dir>_<name> for features that are not the lab's.

    Raises LabError if it does not exist.
    """
    folder, maker = Path(data_dir), 'hold_out.py'
    if in_configure(name).keys() & feature_settings().keys():
        folder, maker = folder.with_name('%s_%s' % (folder.name, name)), 'other_features.py'
    for part in (folder / 'train', folder / 'unseen'):
        if not part.is_dir():
            raise LabError("%s does not exist. Make it of the slides' corpus first, with %s.\n"
                           'docs/deep-dive.md has the commands: "What helps?" and "After one epoch".' % (part, maker))
    return folder


def train_to_the_end(settings, log_dir):
    """Run deep_dive/train.py, or go on after the last epoch in log_dir. What it prints goes to LOG_DIR.log."""
    last, n_done = settings['n_epochs'], 0
    if (log_dir / RUN_FILE).exists():
        n_done = len(read_run(log_dir)['epochs'])
    if n_done == last and 'mean' in load_model(False, str(log_dir), 'best', None, None).backend:
        return
    start = min(n_done + 1, last)  # the last epoch again, if only the end of the training is missing
    with open('%s.log' % log_dir, 'a', encoding='utf-8') as log, contextlib.redirect_stdout(log):
        deep_dive.train.main(**{**settings, 'start': start, 'n_epochs': last - start + 1, 'log_dir': str(log_dir)})


def d_vectors_of(model, feat_dir, n_files, test_frames):
    """The d-vectors of the first n_files utterances of each speaker below feat_dir, and who is in which half.

    Returns ((n, embedding_size) tensor, (n,) names of the speakers, dict). The dict has a mask (n,) for 'all' speakers,
    for those on the 'even' lines of their list (counted from 1), and for those on the 'odd' ones.
    """
    folders = sorted(folder for folder in Path(feat_dir).glob('[!.]*') if folder.is_dir())
    filenames = [name for folder in folders for name in find_feats(folder)[:n_files]]
    vectors, names = embed_pieces(False, make_DB(filenames, feat_dir, ''), model, test_frames, None)
    line = {folder.name: number for number, folder in enumerate(folders, 1)}
    even = np.array([line[name] % 2 == 0 for name in names])
    return vectors, np.array(names), {'all': np.full(len(names), True), 'even': even, 'odd': ~even}


def test_variant(log_dir, feat_dir, n_files, test_frames):
    """The figures of a trained model on the speakers below feat_dir, as a dict: of all of them, and of each half."""
    model = load_model(False, str(log_dir), 'best', None, None)
    vectors, speakers, halves = d_vectors_of(model, feat_dir, n_files, test_frames)
    return {'parameters': sum(parameter.numel() for parameter in model.parameters()),
            **{half: figures_of(vectors[kept], speakers[kept], model) for half, kept in halves.items()}}


def kinds_of_pairs(speakers):
    """All pairs of n recordings, by their speakers (n,). Returns four arrays (n_pairs,).

    first and second: the places of both recordings among the n. is_target and same_sex: bool.
    """
    sexes = np.array([sex_of(spk) for spk in speakers])
    first, second = all_pairs(len(speakers))
    return first, second, speakers[first] == speakers[second], sexes[first] == sexes[second]


def rates_of(scores, is_target, same_sex):
    """The figures of scores (n_pairs,), as a dict. is_target, same_sex: see kinds_of_pairs."""
    return {'EER': equal_error_rate(scores[is_target], scores[~is_target]),
            'same-sex EER': equal_error_rate(scores[is_target & same_sex], scores[~is_target & same_sex]),
            'minDCF': min_dcf(scores[is_target], scores[~is_target])}


def figures_of(vectors, speakers, model):
    """The figures of all pairs of d-vectors (n, embedding_size), with each way of scoring that SCORERS names.

    speakers: (n,) names. The model knows what the backends need.
    """
    first, second, is_target, same_sex = kinds_of_pairs(speakers)
    figures = {'speakers': len(set(speakers)), 'targets': int(is_target.sum()), 'impostors': int((~is_target).sum())}
    for way in SCORERS:
        scorer = scorer_of(way, model)
        figures[way] = {**rates_of(scorer.trials(vectors, first, second), is_target, same_sex),
                        'identified': identified_from(5, vectors, speakers, scorer)}
    return figures


def identified_from(n_enrol, vectors, speakers, scorer):
    """Percentage identified. The first n_enrol utterances of each speaker are enrolled, and the others tested.

    vectors: (n, embedding_size) tensor of unit length; speakers: (n,); scorer: a Scorer of deep_dive/backends.py.
    """
    names = sorted(set(speakers))
    gallery = F.normalize(torch.stack([vectors[speakers == name][:n_enrol].sum(dim=0) for name in names]))
    tested = np.concatenate([np.flatnonzero(speakers == name)[n_enrol:] for name in names])
    answers = np.array(names)[scorer(vectors[tested], gallery).argmax(axis=1)]
    return 100 * np.mean(answers == speakers[tested])


def step_ratio(settings, n_pairs=9):
    """How long a training step of a variant takes, in steps of ResNet-18 with softmax: the median of pairs in turn.

    Both networks have 200 classes, made-up samples and SGD. Reading and augmenting the samples is not in it.
    """
    loops = []
    for these, n_rows, n_frames in (({}, 40, 100), (settings, feature_size(), c.NUM_WIN_SIZE)):
        loss_type = these.get('loss_type', 'softmax')
        criterion = nn.CrossEntropyLoss() if loss_type == 'softmax' else LOSSES[loss_type](200, 128, 300)
        model = background_network(128, 200, these.get('backbone', 'resnet18'), these.get('pooling', 'average'),
                                   head=getattr(criterion, 'head', 'slides'))
        optimizer = train.create_optimizer('sgd', model, 1e-3, 0.0)
        samples = [(torch.randn(1, n_rows, n_frames), i // 4) for i in range(128)]  # four of each speaker in a batch
        model = model.to(memory_format=torch.channels_last)
        loops.append((DataLoader(samples, batch_size=64), model, criterion, optimizer))
    ratios = []
    for pair in range(1 + n_pairs):  # the first pair warms up
        seconds = {}
        for i in (0, 1) if pair % 2 else (1, 0):
            loader, model, criterion, optimizer = loops[i]
            begin = time.perf_counter()
            with contextlib.redirect_stdout(io.StringIO()):
                train.train(loader, model, criterion, optimizer, False, 1, 200)
            seconds[i] = time.perf_counter() - begin
        ratios.append(seconds[1] / seconds[0])
    return statistics.median(ratios[1:])


def results_of(out_dir):
    """Dict variant -> list with the figures of each seed. Variants that have not been trained are left out."""
    paths = sorted(out_dir.glob('*_*.json'))
    results = {name: [json.loads(path.read_text(encoding='utf-8')) for path in paths
                      if path.stem.rpartition('_')[0] == name]
               for name in VARIANTS}
    return {name: figures for name, figures in results.items() if figures}


def mean_of(figures, *keys):
    """The mean over the seeds of one figure: the first key, then the next one within it."""
    for key in keys:
        figures = [entry[key] for entry in figures]
    return statistics.mean(figures)


def draw_results(results, half, filename):
    """Draw the equal error rates of each variant, with a line from its best to its worst seed; and against the time.

    half: 'all', 'even' or 'odd', see test_variant.
    """
    fig, (ax, front_ax) = plt.subplots(1, 2, figsize=(14, 0.35 * len(results) + 3), layout='constrained')
    rows = len(results) - np.arange(len(results))  # the first variant on top
    for name, label, marker, offset in (('raw', 'd-vectors as they are', 'o', 0.2),
                                        ('centred', 'minus the mean of the training set', 's', 0),
                                        ('PLDA', 'PLDA', '^', -0.2)):
        rates = [[run[half][name]['EER'] for run in seeds] for seeds in results.values()]
        means = np.array([statistics.mean(values) for values in rates])
        spread = [means - [min(values) for values in rates], [max(values) for values in rates] - means]
        ax.errorbar(means, rows + offset, xerr=spread, fmt=marker, label=label, capsize=3)
    n_people = next(iter(results.values()))[0][half]['speakers']
    ax.set(yticks=rows, yticklabels=['%s  %d' % (name, number) for number, name in enumerate(results, 1)],
           ylim=(0.4, len(results) + 0.6), xlabel='equal error rate (%): smaller is better',
           title='%d people never heard' % n_people)

    points = [(mean_of(seeds, 'time'), mean_of(seeds, half, 'PLDA', 'EER')) for seeds in results.values()]
    front_ax.plot(*zip(*points), '^', color=GREEN)
    front_ax.step(*zip(*pareto_front(points)), where='post', linestyle='--', color='0.7', zorder=1,
                  label='Pareto front: nothing is both as quick and as good')
    front_ax.set(xlabel="time of the training, in epochs of the lab's network (logarithmic)", xscale='log',
                 ylabel='equal error rate with PLDA (%)', title='What the time is worth')
    front_ax.margins(x=0.1)  # room for the numbers at both ends
    front_ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5, 7)))
    front_ax.xaxis.set_major_formatter('{x:g}')
    front_ax.xaxis.set_minor_locator(NullLocator())
    fig.legend(loc='outside lower center', ncols=4, fontsize=10)
    number_points(front_ax, points)
    save_picture(fig, filename)


def number_points(ax, points):
    """Write 1, 2, ... beside the points, each at the first place where no point and no other number is.

    A number that is not close to its point has a line to it.
    """
    ax.figure.canvas.draw()  # so that all places are known
    half = np.array([10, 8])  # of the box of a number of two digits, in pixels
    middles = list(ax.transData.transform(points))  # of what is there: points, then numbers, too
    for number, point in enumerate(points, 1):
        for distance, degrees in itertools.product(range(14, 100, 8), range(45, 405, 45)):
            away = distance * np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))])
            middle = middles[number - 1] + away
            if all((abs(middle - other) >= 2 * half).any() for other in middles[len(points):]) and all(
                    (abs(middle - other) >= half + 4).any() for other in middles[:len(points)]):
                break
        middles.append(middle)
        line = {'arrowstyle': '-', 'color': '0.6', 'shrinkB': 3} if distance > 14 else None
        ax.annotate(number, point, away, textcoords='offset pixels', ha='center', va='center', fontsize=11,
                    arrowprops=line, bbox={'facecolor': 'white', 'edgecolor': 'none', 'pad': 0.5})


def pareto_front(points):
    """Those of the points (time, error) for which no other is at least as good in both, from the quickest on."""
    front = []
    for time_needed, error in sorted(points):
        if not front or error < front[-1][1]:
            front.append((time_needed, error))
    return front


def print_table(results, half):
    """Print a row for each variant: the mean over its seeds, and in brackets the smallest and the largest."""
    columns = [(name, 'EER') for name in SCORERS] + [
        ('raw', 'same-sex EER'), ('PLDA', 'same-sex EER'), ('raw', 'minDCF'), ('raw', 'identified')]
    print('| name | settings | seeds | parameters | step | time | EER raw | centred | WCCN | PLDA | as-norm '
          '| same sex: raw, PLDA | minDCF | found |')
    print('|---|---|---|---|---|---|---|---|---|---|---|---|---|---|')
    for name, seeds in results.items():
        row = []
        for scoring, key in columns:
            values = [run[half][scoring][key] for run in seeds]
            row.append('%.*f' % (2 if key == 'minDCF' else 1, statistics.mean(values)))
            if len(values) > 1 and key == 'EER':
                row[-1] += ' (%.1f to %.1f)' % (min(values), max(values))
        row[5:7] = [', '.join(row[5:7])]
        settings = ', '.join('`%s = %r`' % setting for setting in VARIANTS[name].items()) or 'as it stands'
        print('| `%s` | %s | %d | %.2f M | %.1f | %.1f | %s |' % (
            name, settings, len(seeds), seeds[0]['parameters'] / 1e6, statistics.median(run['step'] for run in seeds),
            mean_of(seeds, 'time'), ' | '.join(row)))


def main(
        # Settings
        data_dir='',  # the folder that hold_out.py made
        out_dir='',  # where the results go; another folder for another number of epochs
        n_seeds=1,  # how many trainings of each variant
        variants=[],  # names of VARIANTS; []: all of them
        n_epochs=1,  # how many epochs, where a variant does not say how many; try 10
        n_files=25,  # test utterances of each of the 40 speakers, 6 or more; 25: 12,000 target, 487,500 impostor trials
        test_frames=None,  # length of a test segment in frames; None: whole utterances, each in one pass
        speakers='all',  # the 40; or 'even': the 20 to choose settings on; or 'odd': the other 20, to report on
):
    if not data_dir or not out_dir:
        raise LabError('Give two folders: the one that hold_out.py made, and one for the results.')
    check_settings(main, locals(), variants=some_of(VARIANTS), n_files=whole(6), test_frames=or_none(whole(1)),
                   speakers=['all', 'even', 'odd'])
    feat_dirs = {name: features_for(name, data_dir) for name in variants or VARIANTS}

    out_dir = Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    same = {'n_epochs': n_epochs, 'n_files': n_files, 'test_frames': test_frames}  # for all rows of a table
    defaults = dict(vars(c))
    for seed in range(n_seeds):
        for name, feat_dir in feat_dirs.items():
            log_dir, result = out_dir / ('%s_%d' % (name, seed)), out_dir / ('%s_%d.json' % (name, seed))
            if result.exists():
                there = json.loads(result.read_text(encoding='utf-8'))['same']
                if there != same:
                    raise LabError('%s has results with %s, not with %s. Name another folder for the results.'
                                   % (out_dir, there, same))
                continue
            settings = {'n_epochs': n_epochs, 'seed': seed, 'train_dir': str(feat_dir / 'train'), **COMMON,
                        **{key: value for key, value in VARIANTS[name].items() if key not in in_configure(name)}}
            try:
                for key, value in in_configure(name).items():
                    setattr(c, key, value)
                train_to_the_end(settings, log_dir)
                figures = test_variant(log_dir, feat_dir / 'unseen', n_files, test_frames)
                step = step_ratio(settings)
                figures = {**figures, 'step': step, 'time': step * settings['n_epochs'], 'same': same}
                result.write_text(json.dumps(figures, indent=1), encoding='utf-8')
            finally:
                vars(c).update(defaults)
    print_table(results_of(out_dir), speakers)
    draw_results(results_of(out_dir), speakers, out_dir / 'compare.png')


if __name__ == '__main__':
    run_script(main, words=True)
