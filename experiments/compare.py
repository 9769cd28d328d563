"""Train the deep dive's variants for the same few steps, and test each on people never heard.

This is the table in docs/deep-dive.md.

    python experiments/compare.py <folder that hold_out.py made> <folder for results> [number of seeds] [variant ...]

Each variant is train.py with the settings that VARIANTS gives; those in capitals are of configure.py. Without names,
all variants are trained for one epoch, except those that have been trained already. Prints the table and draws
compare.png into the folder for the results. A variant takes three to twenty minutes on one core.
"""
import contextlib
import io
import json
import os
import statistics
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader

import project

import configure as c
import train
from DB_wav_reader import find_feats, make_DB
from deep_dive.all_trials import embed_pieces
from deep_dive.backends import Scorer, available_backends
from deep_dive.losses import LOSSES
from deep_dive.scoring import all_pairs, equal_error_rate, min_dcf
from model import background_resnet, load_model
from support.checks import check_settings, feature_size, sex_of, whole
from support.messages import LabError, run_script
from support.pictures import BLACK, save_picture

# Settings of train.py that all variants have in common
COMMON = {'n_epochs': 1, 'scheduler_type': 'onecycle', 'wd': 5e-4, 'plot': False}
ADAM = {'optimizer_type': 'adam', 'lr': 1e-3, 'wd': 0.0}  # a network without BatchNorm does not learn at lr = 0.1
VARIANTS = {
    'softmax': {},  # nothing else is changed: ResNet-18, average pooling, log filterbank
    **{loss: {'loss_type': loss} for loss in ('center', 'asoftmax', 'amsoftmax', 'aamsoftmax', 'subcenter')},
    **{loss: {'loss_type': loss, 'batch_speakers': 16} for loss in ('ge2e', 'prototypical', 'triplet')},
    'statistics': {'pooling': 'statistics'},
    'attentive': {'pooling': 'attentive'},
    'adam': ADAM,
    **{name: {'backbone': name} for name in ('resnet34', 'resnet50', 'resnet101', 'resnet152', 'vgg',
                                             'tdnn', 'ecapa', 'resnet_se', 'conformer')},
    **{name: {'backbone': name, **ADAM} for name in ('lstm', 'cnn_lstm')},
    **{name: {'augment': [name]} for name in ('speed', 'level', 'noise', 'specaugment')},
    'aam + statistics': {'loss_type': 'aamsoftmax', 'pooling': 'statistics'},
    'aam + statistics + speed': {'loss_type': 'aamsoftmax', 'pooling': 'statistics', 'augment': ['speed']},
    'mfcc': {'USE_MFCC': True},  # features of experiments/other_features.py, in <folder of hold_out.py>_<name>
    'delta': {'USE_DELTA': True},
    'scale': {'USE_SCALE': True},
    'energies': {'USE_LOGSCALE': False},
}

# What the picture says, where the name of a variant is not enough
IN_WORDS = {
    'softmax': "the lab's network: ResNet-18, softmax", 'center': 'center loss', 'asoftmax': 'angular softmax',
    'amsoftmax': 'additive margin (AM)', 'aamsoftmax': 'additive angular margin (AAM)',
    'subcenter': 'sub-center AAM', 'ge2e': 'GE2E', 'prototypical': 'angular prototypical', 'triplet': 'triplets',
    'tdnn': 'TDNN', 'ecapa': 'ECAPA-TDNN', 'resnet_se': 'ResNet-34, squeeze and excitation', 'conformer': 'Conformer',
    'statistics': 'pooling of mean and deviation', 'attentive': 'pooling with attention', 'adam': 'optimizer Adam',
    'vgg': 'VGG', 'lstm': 'LSTM (Adam)', 'cnn_lstm': 'CNN and LSTM (Adam)', 'speed': 'augment: speed',
    'level': 'augment: level', 'noise': 'augment: noise', 'specaugment': 'augment: SpecAugment',
    'aam + statistics': 'AAM, mean and deviation', 'aam + statistics + speed': 'AAM, mean and deviation, speed',
    'mfcc': 'features: MFCC', 'delta': 'features: with differences', 'scale': 'features: scaled',
    'energies': 'features: no logarithm',
    **{'resnet%s' % depth: 'ResNet-%s' % depth for depth in (34, 50, 101, 152)}}


def train_variant(settings, train_dir, log_dir, seed):
    """Run train.py with these settings. What it prints goes to LOG_DIR.log."""
    with open('%s.log' % log_dir, 'w') as log, contextlib.redirect_stdout(log):
        train.main(**{**COMMON, **settings, 'seed': seed, 'train_dir': train_dir, 'log_dir': str(log_dir)})


def test_variant(log_dir, feat_dir, n_files):
    """The figures of a trained model on the first n_files utterances of each speaker below feat_dir, as a dict."""
    filenames = [name for folder in sorted(Path(feat_dir).glob('*')) for name in find_feats(folder)[:n_files]]
    model = load_model(False, str(log_dir), 'best', None, None)
    vectors, speakers = embed_pieces(False, make_DB(filenames, feat_dir, ''), model, 100, None)
    speakers, sexes = np.array(speakers), np.array([sex_of(spk) for spk in speakers])
    first, second = all_pairs(len(speakers))
    is_target, same_sex = speakers[first] == speakers[second], sexes[first] == sexes[second]
    figures = {'parameters': sum(parameter.numel() for parameter in model.parameters()),
               'targets': int(is_target.sum()), 'impostors': int((~is_target).sum())}
    for backend in available_backends(model):
        scorer = Scorer(backend, model)
        scores = scorer.trials(vectors, first, second)
        figures[backend] = {
            'EER': equal_error_rate(scores[is_target], scores[~is_target]),
            'same-sex EER': equal_error_rate(scores[is_target & same_sex], scores[~is_target & same_sex]),
            'minDCF': min_dcf(scores[is_target], scores[~is_target]),
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


def step_ratio(settings, n_pairs=5):
    """How long a training step of a variant takes, in steps of ResNet-18 with softmax: the median of pairs in turn."""
    loops = []
    for these, n_rows in (({}, 40), (settings, feature_size())):
        loss_type = these.get('loss_type', 'softmax')
        criterion = nn.CrossEntropyLoss() if loss_type == 'softmax' else LOSSES[loss_type](200, 128, 300)
        model = background_resnet(128, 200, these.get('backbone', 'resnet18'), pooling=these.get('pooling', 'average'),
                                  head=getattr(criterion, 'head', 'slides'))
        optimizer = train.create_optimizer('sgd', model, 1e-3, 0.0)
        loader = DataLoader([(torch.randn(1, n_rows, c.NUM_WIN_SIZE), i) for i in range(128)], batch_size=64)
        model = model.to(memory_format=torch.channels_last)
        loops.append((loader, model, criterion, optimizer))
    ratios = []
    for _ in range(1 + n_pairs):  # the first pair warms up
        seconds = []
        for loader, model, criterion, optimizer in loops:
            begin = time.perf_counter()
            with contextlib.redirect_stdout(io.StringIO()):
                train.train(loader, model, criterion, optimizer, False, 1, 200)
            seconds.append(time.perf_counter() - begin)
        ratios.append(seconds[1] / seconds[0])
    return statistics.median(ratios[1:])


def results_of(out_dir):
    """Dict variant -> list with the figures of each seed. Variants that have not been trained are left out."""
    runs = {name: [json.loads(path.read_text()) for path in sorted(out_dir.glob('%s_[0-9].json' % name))]
            for name in VARIANTS}
    return {name: figures for name, figures in runs.items() if figures}


def draw_results(results, filename):
    """Draw the equal error rate of each variant, raw and centred, with a line from its best to its worst seed."""
    fig, ax = plt.subplots(figsize=(10, 0.4 * len(results) + 1.5))
    for backend, label, marker, offset in (('cosine', 'd-vectors as they are', 'o', 0.12),
                                           ('centre', 'minus the mean of the training set', 's', -0.12)):
        rates = [[run[backend]['EER'] for run in runs] for runs in results.values()]
        rows = len(results) - np.arange(len(results)) + offset  # the first variant on top
        means = np.array([statistics.mean(values) for values in rates])
        spread = [means - [min(values) for values in rates], [max(values) for values in rates] - means]
        ax.errorbar(means, rows, xerr=spread, fmt=marker, label=label, capsize=3)
    if 'softmax' in results:
        ax.axvline(statistics.mean(run['cosine']['EER'] for run in results['softmax']), linestyle=':', color=BLACK,
                   label="the lab's network")
    ax.set(yticks=len(results) - np.arange(len(results)), yticklabels=[IN_WORDS.get(name, name) for name in results],
           xlabel='equal error rate (%): smaller is better',
           title='One epoch each, tested on 40 people never heard')
    ax.legend(loc='lower right')
    save_picture(fig, filename)


def print_table(results):
    """Print a row for each variant: the mean over its seeds, and in brackets the smallest and the largest."""
    print('| settings | seeds | parameters | step | EER raw | centred | WCCN | same sex: raw, centred | minDCF '
          '| found |')
    print('|---|---|---|---|---|---|---|---|---|---|')
    for name, runs in results.items():
        row = []
        for backend, key in (('cosine', 'EER'), ('centre', 'EER'), ('wccn', 'EER'), ('cosine', 'same-sex EER'),
                             ('centre', 'same-sex EER'), ('cosine', 'minDCF'), ('cosine', 'identified')):
            values = [run[backend][key] for run in runs]
            row.append('%.*f' % (2 if key == 'minDCF' else 1, statistics.mean(values)))
            if len(values) > 1 and key == 'EER':
                row[-1] += ' (%.1f to %.1f)' % (min(values), max(values))
        row[3:5] = [', '.join(row[3:5])]
        settings = ', '.join('`%s = %r`' % setting for setting in VARIANTS[name].items()) or 'as it stands'
        print('| %s | %d | %.2f M | %.1f | %s |' % (settings, len(runs), runs[0]['parameters'] / 1e6,
                                                  statistics.median(run['step'] for run in runs), ' | '.join(row)))


def main(
        # Settings
        data_dir='',  # the folder that hold_out.py made
        out_dir='',  # where the results go
        n_seeds=1,  # how many trainings of each variant
        variants=[],  # names of VARIANTS; []: all of them
        n_files=25,  # test utterances of each of the 40 speakers: 12,000 target and 487,500 impostor trials
):
    if not data_dir or not out_dir:
        raise LabError('Give two folders: the one that hold_out.py made, and one for the results.')
    numbers = {'n_seeds': n_seeds, 'n_files': n_files}
    check_settings(numbers, dict.fromkeys(numbers, whole(1)))
    for name in variants:
        if name not in VARIANTS:
            raise LabError('unknown variant: %s. Choose some of %s.' % (name, ', '.join(VARIANTS)))

    out_dir = Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    defaults = dict(vars(c))
    for seed in range(n_seeds):
        for name in variants or VARIANTS:
            log_dir, result = out_dir / ('%s_%d' % (name, seed)), out_dir / ('%s_%d.json' % (name, seed))
            if result.exists():
                continue
            features = {key: value for key, value in VARIANTS[name].items() if hasattr(c, key)}
            settings = {key: value for key, value in VARIANTS[name].items() if key not in features}
            feat_dir = '%s_%s' % (data_dir, name) if features else data_dir
            try:
                for key, value in features.items():
                    setattr(c, key, value)
                train_variant(settings, os.path.join(feat_dir, 'train'), log_dir, seed)
                figures = test_variant(log_dir, os.path.join(feat_dir, 'unseen'), n_files)
                result.write_text(json.dumps({**figures, 'step': step_ratio(settings)}, indent=1))
            finally:
                vars(c).update(defaults)
    print_table(results_of(out_dir))
    draw_results(results_of(out_dir), out_dir / 'compare.png')


if __name__ == '__main__':
    project.name_arguments(main)
    run_script(main)
