"""The deep dive: each loss by hand and by its gradients, each network on any length; train.py against its own."""
import json
import math
import os
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from scipy.signal import lfilter, resample_poly

import configure as c
import deep_dive.train
import model as lab_model
import train
from DB_wav_reader import extract_features
from SR_Dataset import DvectorDataset, read_MFB
from conftest import PROJECT
from deep_dive import backbones, backends, calibration, heads, schedules
from deep_dive.augmentation import AUGMENTATIONS, SPEEDS, AttenuatedInput, AugmentedDataset, MaskedInput, NoisyInput
from deep_dive.augmentation import change_speed, training_transforms
from deep_dive.backbones import AttentivePooling, StatisticsPooling
from deep_dive.losses import LOSSES, AAMSoftmaxLoss, AMSoftmaxLoss, ASoftmaxLoss, CenterLoss
from deep_dive.metric_losses import METRIC_LOSSES
from deep_dive.networks import POOLINGS, background_network
from subset import link_subset
from support.messages import LabError, defaults_of, run_script
from support.runs import Run

N_CLASSES, SIZE = 5, 6


@pytest.fixture
def batch():
    """Embeddings, weights of the classes, cosines and targets, of double precision."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(8, SIZE, generator=generator, dtype=torch.float64)
    weights = torch.randn(N_CLASSES, SIZE, generator=generator, dtype=torch.float64)
    targets = torch.tensor([0, 1, 2, 3, 4, 0, 1, 1])
    return x, weights, F.normalize(x) @ F.normalize(weights).T, targets


def cross_entropy_by_hand(logits, targets):
    return np.mean([math.log(sum(math.exp(v) for v in row)) - row[t] for row, t in zip(logits.tolist(), targets)])


def test_additive_margins_by_hand(batch):
    _, _, cosines, targets = batch
    am, aam = cosines.clone(), cosines.clone()
    for i, t in enumerate(targets):
        am[i, t] -= 0.3
        aam[i, t] = math.cos(math.acos(cosines[i, t]) + 0.3)
    loss = AMSoftmaxLoss(N_CLASSES, SIZE, 1, margin=0.3, scale=7.0)
    assert loss(cosines, targets, None).item() == pytest.approx(cross_entropy_by_hand(7 * am, targets))
    loss = AAMSoftmaxLoss(N_CLASSES, SIZE, 8, margin=0.3, scale=7.0, ramp=0.5).train()
    ramped = []
    for step in range(1, 6):
        ramped.append(loss(cosines, targets, None).item())
    assert ramped[3] == ramped[4] == pytest.approx(cross_entropy_by_hand(7 * aam, targets))
    assert ramped[0] < ramped[1] < ramped[2] < ramped[3]  # the margin grows
    loss.n_steps.zero_()
    assert loss.eval()(cosines, targets, None).item() == ramped[3]  # in validation it is the full one
    own = torch.tensor([[-1.0, 0.5]])  # at pi, beyond the margin: no easier than just before
    before = torch.tensor([[-0.99, 0.5]])
    assert loss(own, torch.tensor([0]), None) > loss(before, torch.tensor([0]), None)


def test_sphereface_by_hand(batch):
    x, _, cosines, targets = batch
    loss = ASoftmaxLoss(N_CLASSES, SIZE, 1, lambda_max=1000.0, lambda_min=5.0, decay=0.1).train()
    value = loss(cosines, targets, x).item()
    annealing, logits = 1000 / 1.1, torch.zeros(8, N_CLASSES, dtype=torch.float64)
    for i, t in enumerate(targets):
        for j in range(N_CLASSES):
            logits[i, j] = x[i].norm() * cosines[i, j]
        theta = math.acos(cosines[i, t])
        k = int(4 * theta / math.pi)
        psi = (-1) ** k * math.cos(4 * theta) - 2 * k
        logits[i, t] = x[i].norm() * (annealing * math.cos(theta) + psi) / (1 + annealing)
    assert value == pytest.approx(cross_entropy_by_hand(logits, targets))
    loss.n_steps += 10 ** 6
    hardest = loss(cosines, targets, x)
    assert hardest > value
    loss.n_steps.zero_()
    assert loss.eval()(cosines, targets, x) == hardest  # in validation, from the first epoch on


def test_center_loss_by_hand(batch):
    x, weights, _, targets = batch
    logits = x @ weights.T
    loss = CenterLoss(N_CLASSES, SIZE, 1, weight=0.1, alpha=0.5).double().train()
    expected = cross_entropy_by_hand(logits, targets) + 0.05 * np.mean([sum(v ** 2 for v in row) for row in x.tolist()])
    assert loss(logits, targets, x).item() == pytest.approx(expected)
    # Centres were at 0: c_1 += 0.5 * (sum of the three of class 1) / (1 + 3)
    torch.testing.assert_close(loss.centres[1], 0.5 * x[[1, 6, 7]].sum(dim=0) / 4)
    before = loss.centres.clone()
    loss.eval()(logits, targets, x)
    assert torch.equal(loss.centres, before)


STEPS = [(torch.randn(8, SIZE, generator=torch.Generator().manual_seed(step)), torch.tensor(targets))  # two halves each
         for step, targets in enumerate(([0, 1, 2, 3, 4, 0, 1, 1], [2, 2, 2, 2, 2, 4, 4, 4], [0, 0, 0, 0, 1, 1, 1, 1]))]


def follow_the_steps(rows):
    """What CenterLoss returns in each of STEPS for these rows of the batch, and its centres after each."""
    loss, values, centres = CenterLoss(N_CLASSES, SIZE, 1).train(), [], []
    for x, targets in STEPS:
        values.append(loss(torch.zeros(8, N_CLASSES)[rows], targets[rows], x[rows]))
        centres.append(loss.centres.clone())
    return torch.stack(values), torch.stack(centres)


def follow_with_another_process(rank, folder):
    torch.set_num_threads(1)  # a process that was forked cannot use the threads of the one it came from
    dist.init_process_group('gloo', 'file://%s/store' % folder, rank=rank, world_size=2)
    torch.save(follow_the_steps(slice(4 * rank, 4 * rank + 4)), '%s/%d.pth' % (folder, rank))
    dist.destroy_process_group()


def test_centres_are_the_same_in_two_processes_and_in_one(tmp_path):
    torch.multiprocessing.start_processes(follow_with_another_process, (tmp_path,), 2, start_method='fork')
    (first_values, first), (second_values, second) = (torch.load(tmp_path / ('%d.pth' % rank)) for rank in (0, 1))
    values, centres = follow_the_steps(slice(8))
    assert torch.equal(first, second) and centres[-1].norm() > 1
    torch.testing.assert_close(first, centres)
    torch.testing.assert_close((first_values + second_values) / 2, values)


@pytest.mark.parametrize('loss_type', LOSSES)
def test_gradients(batch, loss_type):
    x, weights, _, targets = batch
    loss = LOSSES[loss_type](N_CLASSES, SIZE, 1).double().eval()

    def value(x, weights):
        logits = F.normalize(x) @ F.normalize(weights).T if loss.head in heads.N_CENTRES else x @ weights.T
        return loss(logits, targets, x)
    assert torch.autograd.gradcheck(value, (x.requires_grad_(), weights.requires_grad_()))


def test_poolings_by_hand():
    x = torch.tensor([[[[1.0, 3.0]], [[0.0, 4.0]]]])  # (1, 2 channels, 1 row, 2 columns)
    torch.testing.assert_close(StatisticsPooling(2, 1)(x), torch.tensor([[2.0, 2.0, 1.0, 2.0]]))
    rows = x.reshape(1, 1, 2, 2)  # the same as one channel of two rows: rows are kept apart
    torch.testing.assert_close(StatisticsPooling(1, 2)(rows), torch.tensor([[2.0, 2.0, 1.0, 2.0]]))
    attentive = AttentivePooling(2, 1)
    for parameter in attentive.parameters():
        torch.nn.init.zeros_(parameter)
    torch.testing.assert_close(attentive(x), torch.tensor([[2.0, 2.0, 1.0, 2.0]]))  # equal weights
    attentive.attention[2].weight.data[:] = 1.0
    attentive.attention[0].weight.data[:] = torch.tensor([0.1, 0.0])
    e = 64 * torch.tanh(0.1 * torch.tensor([1.0, 3.0]))
    share = torch.softmax(e, dim=0)[1].item()
    mean = 1 + 2 * share
    assert attentive(x)[0, 0].item() == pytest.approx(mean, abs=1e-5)
    assert attentive(x)[0, 2].item() == pytest.approx(2 * math.sqrt(share * (1 - share)), abs=1e-3)


KINDS = ['resnet18', 'resnet50', *backbones.BACKBONES]  # the other ResNets have more of the same blocks


@pytest.mark.parametrize('backbone, pooling', [(name, 'average') for name in KINDS]
                         + [('resnet18', name) for name in POOLINGS if name != 'average'] + [('lstm', 'attentive')])
def test_any_length(backbone, pooling, monkeypatch):
    for n_filters, lengths in ((40, (41, 150)), (23, (41,))):
        monkeypatch.setattr(c, 'FILTER_BANK', n_filters)
        model = background_network(128, 7, backbone, pooling=pooling).eval()
        for n_frames in lengths:
            embedding, logits = model(torch.randn(1, 1, n_filters, n_frames))
            assert embedding.shape == (1, 128) and logits.shape == (1, 7)


@pytest.fixture
def noise(lab, write_feat):
    """A folder to train in: three utterances of noise of each of three speakers."""
    for i, speaker in enumerate(3 * ['a', 'b', 'c']):
        write_feat('%s/%s/%d.p' % (c.TRAIN_FEAT_DIR, speaker, i), seed=i)
    return lab


def nth(n, values):
    return list(values)[n % len(values)]


@pytest.mark.parametrize('n', range(len(KINDS)), ids=KINDS)
def test_every_value_trains(noise, capsys, n):
    """No setting has more values than there are networks, so each value has its turn."""
    assert 1 + len(LOSSES) <= len(KINDS)
    settings = {'backbone': nth(n, KINDS), 'pooling': nth(n, POOLINGS), 'loss_type': nth(n, ['softmax', *LOSSES]),
                'optimizer_type': nth(n, train.OPTIMIZERS), 'scheduler_type': nth(n, ['plateau', 'onecycle', 'cosine']),
                'augment': nth(n, [[], *([name] for name in AUGMENTATIONS)])}
    if settings['loss_type'] in METRIC_LOSSES:
        settings.update(batch_size=4, batch_speakers=2)
    deep_dive.train.main(n_epochs=1, val_ratio=20, plot=False, lr=1e-3, **settings)
    assert 'Validation: Loss' in capsys.readouterr().out
    model = lab_model.load_model(False, 'model_saved', 'best', 128, None)
    head = LOSSES[settings['loss_type']].head if settings['loss_type'] in LOSSES else 'slides'
    assert {**lab_model.SLIDES, **model.settings} == {
        'backbone': settings['backbone'], 'head': head, 'pooling': settings['pooling'], 'level': -44}
    assert len(model.last.weight) == (9 if settings['augment'] == ['speed'] else 3)
    assert backends.available_backends(model) == backends.BACKENDS
    assert model.backend['lda'].shape == (128, 2)  # three speakers differ in a plane
    for segments in (100, None):
        d_vector = lab_model.embed_feature(False, np.random.default_rng(0).normal(size=(150, 40)), model, segments)
        assert d_vector.norm().item() == pytest.approx(1, abs=1e-5)
    assert json.loads((noise / 'model_saved/run.json').read_text())['settings'].items() >= settings.items()


@pytest.mark.parametrize('scheduler_type', ['cosine', 'onecycle'])
def test_schedules_end_at_nothing(scheduler_type):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    if scheduler_type == 'cosine':
        scheduler = train.create_scheduler('cosine', optimizer, 0.5, 40, 2, 1e-4)
    else:
        scheduler = schedules.one_cycle(optimizer, 0.5, 40, warm_up=0.25)
    rates = []
    for _ in range(40):
        rates.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        scheduler.step()
    highest = {'cosine': 0, 'onecycle': 9}[scheduler_type]  # a quarter of the 40 steps, counted from 0
    assert rates.index(max(rates)) == highest and max(rates) == pytest.approx(0.5)
    assert rates[highest:] == sorted(rates[highest:], reverse=True) and rates[-1] < 0.001
    assert rates[(highest + 40) // 2] == pytest.approx(0.25, abs=0.03)  # half of it halfway down the cosine


def test_one_cycle_rises_as_in_train_unless_told():
    rates = []
    for make in (lambda optimizer: train.create_scheduler('onecycle', optimizer, 0.5, 40, 2, 1e-4),
                 lambda optimizer: schedules.one_cycle(optimizer, 0.5, 40, warm_up=0.3)):
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
        scheduler, rates_here = make(optimizer), []
        for _ in range(40):
            rates_here.append(optimizer.param_groups[0]['lr'])
            optimizer.step()
            scheduler.step()
        rates.append(rates_here)
    assert rates[0] == rates[1]


@pytest.mark.parametrize('values', [{'loss_type': 'asoftmax', 'augment': ['speed', 'noise']}, {'loss_type': 'center'}],
                         ids=lambda values: values['loss_type'])
def test_one_epoch_and_one_more_equal_two(noise, values):
    """What a loss has learned goes on, too, and so do the random numbers of the augmentation."""
    for log_dir, start, n_epochs in (('two', 1, 2), ('parts', 1, 1), ('parts', 2, 1)):
        deep_dive.train.main(log_dir=log_dir, start=start, n_epochs=n_epochs, val_ratio=20, plot=False,
                             optimizer_type='adamw', lr=1e-3, backbone='vgg', **values)
    whole, continued = (torch.load('%s/checkpoint_2.pth' % folder) for folder in ('two', 'parts'))
    for part in ('state_dict', 'criterion'):
        assert whole[part] and all(torch.equal(whole[part][name], continued[part][name]) for name in whole[part])


@pytest.mark.parametrize('setting, some', [('loss_type', 'softmax, center, asoftmax, amsoftmax, aamsoftmax, '
                                                        'subcenter, ge2e, prototypical, triplet'),
                                           ('backbone', 'resnet18, resnet34, .*, vgg, lstm, cnn_lstm'),
                                           ('pooling', 'average, statistics, attentive'),
                                           ('optimizer_type', 'sgd, adam, adamw, adagrad'),
                                           ('scheduler_type', 'plateau, onecycle, cosine')])
def test_a_misspelt_value_lists_the_known(lab, stopped_with, setting, some):
    message = stopped_with(deep_dive.train.main, **{setting: 'resent'})
    assert re.search('unknown %s: resent. Choose one of %s' % (setting, some), message)
    assert not list(lab.iterdir())


def test_misspelt_augment_lists_the_known(lab, stopped_with, monkeypatch):
    for value in (['sped'], 'speed', None):
        complaint = 'augment = %r: it must be a list of some of speed, level, room, microphone, noise, ' % (value,)
        assert complaint in stopped_with(deep_dive.train.main, augment=value)
    monkeypatch.setattr(c, 'USE_MFCC', True)
    with pytest.raises(LabError, match='works on log filterbank energies'):
        training_transforms(['level'])
    training_transforms(['specaugment'])


# ------------------------------------------------------------------------------------------------- the lab's training

SHORT = {'use_cuda': False, 'val_ratio': 30, 'batch_size': 3, 'lr': 1e-2}


def losses_of(log_dir):
    epochs = json.loads(Path(log_dir, 'run.json').read_text())['epochs']
    return [(epoch['train_loss'], epoch['valid_loss'], epoch['valid_acc'], epoch['lr']) for epoch in epochs]


@pytest.mark.parametrize('n_epochs, more', [(2, {}), (1, {'scheduler_type': 'onecycle', 'use_shuffle': False})],
                         ids=['default', 'onecycle'])
def test_by_default_both_trainings_give_the_same_parameters(noise, n_epochs, more):
    """Bit for bit. Then deep_dive/calibration.py adds to the best epoch of the lab what the other has measured."""
    train.main(**SHORT, **more, n_epochs=n_epochs, log_dir='lab', plot=False)
    deep_dive.train.main(**SHORT, **more, n_epochs=n_epochs, log_dir='deep', plot=False)
    assert losses_of('lab') == losses_of('deep')
    for name in (1, n_epochs, 'best'):
        lab, deep = (torch.load('%s/checkpoint_%s.pth' % (folder, name)) for folder in ('lab', 'deep'))
        assert list(lab['state_dict']) == list(deep['state_dict'])
        assert all(torch.equal(tensor, deep['state_dict'][key]) for key, tensor in lab['state_dict'].items())
    measured = {'mean', 'wccn', 'lda', 'cohort', 'plda_mean', 'plda_between', 'plda_within', 'thresholds'}
    assert not measured & lab.keys() and measured <= deep.keys()
    calibration.main(log_dir='lab')
    lab = torch.load('lab/checkpoint_best.pth')
    assert lab['thresholds'] == deep['thresholds']
    assert all(torch.equal(lab[name], deep[name]) for name in measured - {'thresholds'})


def test_the_lab_does_not_go_on_with_a_run_of_the_deep_dive(noise, stopped_with):
    deep_dive.train.main(**SHORT, n_epochs=1, plot=False)
    kept = {path.name: path.read_bytes() for path in Path('model_saved').iterdir()}
    message = stopped_with(train.main, **SHORT, start=2, n_epochs=1, plot=False)
    assert 'The run in model_saved has a setting ' in message and 'python -m deep_dive.train' in message
    assert {path.name: path.read_bytes() for path in Path('model_saved').iterdir()} == kept
    deep_dive.train.main(**SHORT, start=2, n_epochs=1, plot=False)
    assert len(losses_of('model_saved')) == 2


def test_the_deep_dive_goes_on_with_a_run_of_the_lab(noise, stopped_with):
    deep_dive.train.main(**SHORT, n_epochs=2, log_dir='whole', plot=False)
    train.main(**SHORT, n_epochs=1, log_dir='parts', plot=False)
    message = stopped_with(deep_dive.train.main, **SHORT, log_dir='parts', start=2, n_epochs=1, pooling='statistics')
    assert 'The run in parts has pooling = average, main() says statistics.' in message
    deep_dive.train.main(**SHORT, start=2, n_epochs=1, log_dir='parts', plot=False)
    whole, parts = (torch.load('%s/checkpoint_2.pth' % folder)['state_dict'] for folder in ('whole', 'parts'))
    assert all(torch.equal(tensor, parts[name]) for name, tensor in whole.items())


def another(value):
    """A value of another setting, of the same kind."""
    return {bool: lambda: not value, int: lambda: value + 1, float: lambda: value / 2, str: lambda: value + ' 2',
            list: lambda: ['noise'], dict: lambda: {'further': 2}, type(None): lambda: 8}[type(value)]()


@pytest.mark.parametrize('script', [train, deep_dive.train], ids=['train.py', 'deep_dive/train.py'])
def test_nothing_that_changes_the_result_may_change_when_a_run_goes_on(lab, stopped_with, script):
    """Each setting, also one that is new: only those named here may change."""
    class Data:
        n_classes, n_speakers = 3, 3

        def __len__(self):
            return 9

    before = defaults_of(script.main)
    Path('model_saved').mkdir()
    Path('model_saved/run.json').write_text(json.dumps({
        'corpus': before['train_dir'], 'utterances': 9, 'classes': 3, 'settings': {**before, 'log_dir': 'elsewhere'},
        'epochs': [{'train_loss': 1, 'valid_loss': 1, 'lr': 0.1, 'seconds': 1, 'valid_acc': 50}]}))
    may_change = []
    for name, value in before.items():
        settings = {**before, name: another(value), 'start': 2, 'log_dir': 'model_saved'}
        run = Run(settings, [Data()], None, None, None, None)
        run.content['corpus'] = before['train_dir']
        with pytest.raises(LabError) as error:
            run.go_on()
        if 'checkpoint_1.pth does not exist' in str(error.value):  # nobody complained about the setting
            may_change.append(name)
        else:
            assert 'has %s = %s, main() says %s. To go' % (name, value, another(value)) in str(error.value)
    assert set(may_change) == {'use_cuda', 'start', 'n_epochs', 'train_dir', 'log_dir', 'log_interval', 'plot'} | (
        {'cache_gb', 'num_workers', 'n_backend'} if script is deep_dive.train else set())


def test_the_order_may_not_change_when_a_run_goes_on(noise, stopped_with):
    train.main(**SHORT, n_epochs=1, plot=False)
    message = stopped_with(train.main, **SHORT, start=2, n_epochs=1, plot=False, use_shuffle=False)
    assert 'The run in model_saved has use_shuffle = True, main() says False' in message
    assert not Path('model_saved/checkpoint_2.pth').exists() and len(losses_of('model_saved')) == 1


@pytest.mark.parametrize('script', [train, deep_dive.train], ids=['train.py', 'deep_dive/train.py'])
def test_each_run_has_its_own_pictures_and_writes_nothing_else(noise, script, capsys):
    there = {path for path in noise.rglob('*') if path.is_file()}
    script.main(**SHORT, n_epochs=1, log_dir='runs/a')
    first = Path('runs/a/loss_plot.png').read_bytes()
    assert first.startswith(b'\x89PNG') and 'Picture: runs/a/loss_plot.png' in capsys.readouterr().out
    script.main(**SHORT, n_epochs=1, log_dir='runs/b', seed=1)
    assert Path('runs/a/loss_plot.png').read_bytes() == first != Path('runs/b/loss_plot.png').read_bytes()
    new = {path for path in noise.rglob('*') if path.is_file()} - there
    assert all(Path('runs') in path.relative_to(noise).parents for path in new)
    assert len([path for path in new if path.name == 'loss_plot.png']) == 2


def settings_shown(main, monkeypatch, capsys):
    """The names of the settings in --help, in their order."""
    monkeypatch.setattr(sys, 'argv', ['script', '--help'])
    run_script(main)
    return re.findall(r'^  --(\w+)=', capsys.readouterr().out, re.MULTILINE)


def test_settings_of_both_trainings(monkeypatch, capsys):
    """train.py has those of the slides, and few more. deep_dive/train.py has its own, and all of those."""
    of_lab, of_both = (settings_shown(script.main, monkeypatch, capsys) for script in (train, deep_dive.train))
    assert of_lab == list(defaults_of(train.main)) and len(of_lab) <= 19
    assert of_both[-len(of_lab):] == of_lab and len(set(of_both)) == len(of_both)
    assert {'backbone', 'pooling', 'loss_type', 'corpora', 'augment', 'init_from'} <= set(of_both) - set(of_lab)


def test_a_setting_of_the_deep_dive_is_pointed_at(noise, monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['train.py', '--pooling=attentive'])
    with pytest.raises(SystemExit, match='unknown setting: pooling.*\n.*python -m deep_dive.train --help'):
        run_script(train.main, see='python -m deep_dive.train')
    assert os.listdir() == [c.TRAIN_FEAT_DIR.split('/')[0]]


# ------------------------------------------------------------------------------------------------- transfer

def test_transfer(six_voices, lab, stopped_with, capsys):
    """Frozen, nothing but the last layer moves, not even BatchNorm's statistics. Fine-tuned, everything does."""
    link_subset(six_voices / c.TRAIN_FEAT_DIR, lab / c.TRAIN_FEAT_DIR, 3, slice(5))
    checkpoint = str(PROJECT / 'model_saved/checkpoint_etri240.pth')
    before = torch.load(checkpoint)['state_dict']
    for is_kept in (True, False):
        log_dir = 'kept_%s' % is_kept
        deep_dive.train.main(n_epochs=1, val_ratio=20, batch_size=4, plot=False, log_dir=log_dir,
                             init_from=checkpoint, freeze_backbone=is_kept)
        after = torch.load('%s/checkpoint_1.pth' % log_dir)['state_dict']
        assert after['last.weight'].shape == (3, 128)
        moved = {name for name in after if not name.startswith('last.') and not torch.equal(before[name], after[name])}
        assert (not moved) == is_kept and (is_kept or {'bn0.running_mean', 'pretrained.bn1.running_var'} <= moved)
    lines = capsys.readouterr().out.splitlines()
    accuracies = [float(line.split()[-1]) for line in lines if 'Validation: Loss' in line]
    assert min(accuracies) > 60  # of three voices, of which a network from scratch knows nothing after three steps

    for settings, message in (({'freeze_backbone': True}, 'freeze_backbone = True needs init_from'),
                              ({'init_from': 'nowhere.pth'}, "init_from = 'nowhere.pth': there is no such checkpoint"),
                              ({'init_from': checkpoint, 'embedding_size': 64}, 'holds another network'),
                              ({'init_from': checkpoint, 'backbone': 'vgg'}, 'holds another network')):
        assert message in stopped_with(deep_dive.train.main, n_epochs=1, plot=False, log_dir='refused', **settings)
    assert not (lab / 'refused').exists()


def test_a_frozen_network_computes_as_it_did():
    model = background_network(16, 4)
    model(torch.randn(8, 1, 40, 16))  # BatchNorm has seen something
    expected = model.eval()(torch.ones(1, 1, 40, 16))[0]
    heads.freeze_backbone(model)
    assert model.train() is model and not any(module.training for module in model.modules())
    embedding, logits = model(torch.ones(1, 1, 40, 16))  # a batch of one is refused by BatchNorm that still learns
    assert torch.equal(embedding, expected)
    logits.sum().backward()
    assert {name for name, parameter in model.named_parameters() if parameter.grad is not None} == {
        'last.weight', 'last.bias'}
    model.load_state_dict(model.state_dict())
    assert model.eval() is model


# ------------------------------------------------------------------------------------------------- augmentation

@pytest.fixture
def recording():
    """Noise of two colours in bursts, and digital silence: at the ends, and between the bursts."""
    generator = np.random.default_rng(0)
    audio = np.zeros(3 * c.SAMPLE_RATE)
    for start, level in ((9000, 0.02), (18000, 0.004), (27000, 0.01)):
        audio[start:start + 6000] = level * lfilter([1], [1, -0.9 * (start != 18000)], generator.normal(size=6000))
    return audio


def trimmed(audio):
    return extract_features(audio)[50:-50].astype(np.float32)


@pytest.mark.parametrize('share', [0, 0.3, 1])
def test_attenuation_is_exact(recording, monkeypatch, share):
    monkeypatch.setattr(torch, 'rand', lambda size: torch.full((size,), float(share)))
    quieter = recording * 10 ** (-share * 10 / 20)  # features are 20*log10 of energies: 20 are 10 dB
    np.testing.assert_allclose(AttenuatedInput()(trimmed(recording)), trimmed(quieter), atol=2e-4)


@pytest.mark.parametrize('snr, slope', [(15, 0.0), (10, 0.5), (10, 1.0)])  # dB, and the power is f ** (-2 * slope)
def test_noise_is_that_of_the_waveform(recording, monkeypatch, snr, slope):
    """Of waveforms with noise at several ratios, the one at the ratio that was asked for is the nearest."""
    recording = 10 * recording  # so that little of it is on the floor
    transform, feature = NoisyInput(), trimmed(recording)
    monkeypatch.setattr(torch, 'rand', lambda size: torch.tensor([0.0, (snr - 5) / 25, slope, 0.3]))
    spectrum = np.fft.rfft(np.random.default_rng(1).normal(size=len(recording)))
    frequency = np.maximum(np.fft.rfftfreq(len(recording), 1 / c.SAMPLE_RATE), 50)
    noise = np.fft.irfft(spectrum * frequency ** -slope)
    kept = recording[8000:-8000]  # half a second is dropped at both ends
    noise *= np.sqrt(np.mean(kept ** 2) / np.mean(noise ** 2))
    result = transform(feature)
    errors = {ratio: np.mean((result - trimmed(recording + noise * 10 ** (-ratio / 20))) ** 2)
              for ratio in np.arange(snr - 6, snr + 6.5, 0.5)}
    assert abs(min(errors, key=errors.get) - snr) <= 1
    assert errors[snr] < np.mean((feature - trimmed(recording + noise * 10 ** (-snr / 20))) ** 2) / 4
    monkeypatch.setattr(torch, 'rand', lambda size: torch.tensor([0.9, 0.5, 0.0, 0.3]))
    assert transform(feature) is feature  # half of the samples stay clean
    assert NoisyInput()(np.tile(feature, (20, 1))).shape == (20 * len(feature), 40)  # longer than the noise


def test_masks():
    torch.manual_seed(0)
    window = np.ones((1, 100, 40), np.float32)
    widths = []
    for _ in range(300):
        masked = MaskedInput()(window)[0]
        frames, rows = (masked == 0).all(axis=1), (masked == 0).all(axis=0)
        assert (masked[~frames][:, ~rows] == 1).all()
        for mask in (frames, rows):
            assert not mask.any() or np.ptp(np.flatnonzero(mask)) == mask.sum() - 1  # in one piece
        widths.append((frames.sum(), rows.sum()))
    assert np.min(widths, axis=0).tolist() == [0, 0] and np.max(widths, axis=0).tolist() == [20, 8]
    assert (window == 1).all()


def test_speed_by_hand_and_against_the_waveform():
    ramp = np.tile(np.arange(50.0)[:, None], (1, 40)).astype(np.float32)
    np.testing.assert_allclose(change_speed(ramp, 1.1), np.tile(np.arange(0, 49, 1.1)[:, None], (1, 40)), rtol=1e-5)
    np.testing.assert_allclose(change_speed(ramp, 0.5)[:4, 0], [0, 0.5, 1, 1.5])
    # A chirp that is played faster, every second sample of 10 left out, against the feature made faster
    t = np.arange(3 * c.SAMPLE_RATE) / c.SAMPLE_RATE
    audio = 0.1 * np.sin(2 * np.pi * (500 * t + 400 * t ** 2)) + 1e-4 * np.random.default_rng(0).normal(size=len(t))
    feature, faster = extract_features(audio), extract_features(resample_poly(audio, 10, 11))
    warped = change_speed(feature.astype(np.float32), 1.1)
    n = min(len(warped), len(faster))

    def likeness(one, other):
        return np.corrcoef(one[:n].ravel(), other[:n].ravel())[0, 1]
    assert likeness(warped, faster) > 0.9 > 0.7 > likeness(feature, faster)


@pytest.fixture
def three_utterances(lab, write_feat):
    """A function of cache_gb: the DvectorDataset of an utterance of each of a, b and c."""
    files = [write_feat('%s/a.p' % speaker, seed=i) for i, speaker in enumerate('abc')]
    DB = pd.DataFrame({'filename': files, 'speaker_id': list('abc')})
    return lambda cache_gb=4: DvectorDataset(DB, read_MFB, [], {'a': 0, 'b': 1, 'c': 2}, cache_gb=cache_gb)


def test_speeds_are_further_speakers(three_utterances, monkeypatch):
    dataset = three_utterances()
    augmented = AugmentedDataset(dataset, ['speed'])
    assert (len(augmented), augmented.n_speakers, augmented.n_classes, augmented.labels) == (3, 3, 9, [0, 1, 2])
    augmented.transforms = []
    for k, speed in enumerate(SPEEDS):
        with monkeypatch.context() as patched:
            patched.setattr(torch, 'randint', lambda high, size: torch.tensor(k) if high == 3 else None)
            feature, label = augmented[2]
        assert label == 2 + 3 * k
        expected = dataset.feature(2) if speed == 1 else change_speed(dataset.feature(2), speed)
        np.testing.assert_array_equal(feature, expected)
    others = AugmentedDataset(dataset, ['level', 'noise', 'specaugment'])
    assert others.n_classes == 3 and {others[1][1] for _ in range(20)} == {1}


def test_samples_differ_and_the_utterances_stay(three_utterances):
    dataset = three_utterances()
    kept = [dataset.feature(i).copy() for i in range(3)]
    in_memory, in_files = (AugmentedDataset(one, AUGMENTATIONS) for one in (dataset, three_utterances(cache_gb=0)))
    assert in_memory.in_memory and not in_files.in_memory
    drawn = []
    for augmented in (in_memory, in_memory, in_files):
        torch.manual_seed(0)
        drawn.append([augmented[i % 3] for i in range(60)])
    assert {label for _, label in drawn[0]} == set(range(9))
    assert all(label % 3 == i % 3 for i, (_, label) in enumerate(drawn[0]))
    assert all(feature.shape == (1, 40, 100) and feature.dtype == torch.float32 for feature, _ in drawn[0])
    assert len({feature.numpy().tobytes() for feature, _ in drawn[0]}) > 3  # three utterances
    for again in drawn[1:]:  # one seed, the same samples
        assert all(label == other_label and torch.equal(feature, other)
                   for (feature, label), (other, other_label) in zip(drawn[0], again))
    assert all(np.array_equal(dataset.feature(i), feature) for i, feature in enumerate(kept))
