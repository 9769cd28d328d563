"""Losses that compare the utterances of a batch: by hand, by their gradients. Batches of P speakers x K utterances."""
import json
import math
import os
import re
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F

import configure as c
import deep_dive.train
import model as lab_model
from SR_Dataset import DvectorDataset, read_MFB
from deep_dive import heads
from deep_dive.augmentation import SPEEDS, AugmentedDataset
from deep_dive.batches import SpeakerSampler
from deep_dive.losses import LOSSES, SubcenterLoss
from deep_dive.metric_losses import METRIC_LOSSES, GE2ELoss, PrototypicalLoss, TripletLoss
from deep_dive.mixing import MixedDataset
from deep_dive.networks import background_network
from support.messages import LabError

N_CLASSES, SIZE = 9, 6
TARGETS = torch.tensor([5, 2, 5, 7, 2, 2, 7, 5, 7])  # 3 speakers x 3 utterances, in any order


@pytest.fixture
def batch():
    """Logits and embeddings, of double precision. Utterances of a speaker are a little alike."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(9, SIZE, generator=generator, dtype=torch.float64)
    x += 0.5 * torch.randn(N_CLASSES, SIZE, generator=generator, dtype=torch.float64)[TARGETS]
    return torch.randn(9, N_CLASSES, generator=generator, dtype=torch.float64), x


# ------------------------------------------------------------------------------------------- losses by hand

def cosine(one, other):
    return sum(a * b for a, b in zip(one, other)) / math.sqrt(sum(a * a for a in one) * sum(b * b for b in other))


def mean(vectors):
    return [sum(column) / len(vectors) for column in zip(*vectors)]


def unit(vector):
    return [value / math.sqrt(sum(v * v for v in vector)) for value in vector]


def negative_log_softmax(scores, own):
    return math.log(sum(math.exp(score) for score in scores)) - scores[own]


def groups_of(x):
    """The embeddings of speakers 2, 5 and 7, as lists of lists."""
    return [[x[i].tolist() for i in range(len(x)) if TARGETS[i] == speaker] for speaker in (2, 5, 7)]


def ge2e_by_hand(x):
    groups, w, b = [[unit(e) for e in group] for group in groups_of(x)], math.log(1 + math.exp(10)), -5
    values = []
    for j, group in enumerate(groups):
        for i, e in enumerate(group):
            scores = []
            for k, others in enumerate(groups):
                used = [other for n, other in enumerate(others) if (k, n) != (j, i)]
                scores.append(w * cosine(e, mean(used)) + b)
            values.append(negative_log_softmax(scores, j))
    return sum(values) / len(values)


def prototypical_by_hand(x):
    groups, w, b = groups_of(x), math.log(1 + math.exp(10)), -5
    values = []
    for j, group in enumerate(groups):
        values.append(negative_log_softmax([w * cosine(group[-1], mean(others[:-1])) + b for others in groups], j))
    return sum(values) / len(values)


def triplet_by_hand(x, margin=0.2):
    values = []
    for a in range(len(x)):
        for p in range(len(x)):
            if a == p or TARGETS[a] != TARGETS[p]:
                continue
            own = cosine(x[a].tolist(), x[p].tolist())
            others = [cosine(x[a].tolist(), x[n].tolist()) for n in range(len(x)) if TARGETS[n] != TARGETS[a]]
            semi_hard = [value for value in others if value < own]
            negative = max(semi_hard) if semi_hard else min(others)
            values.append(max(0, negative - own + margin))
    assert 0 in values and max(values) > margin  # some pairs teach nothing, and some have no semi-hard one
    return sum(values) / len(values)


BY_HAND = {'ge2e': ge2e_by_hand, 'prototypical': prototypical_by_hand, 'triplet': triplet_by_hand}


@pytest.mark.parametrize('loss_type', METRIC_LOSSES)
def test_metric_losses_by_hand(batch, loss_type):
    """In training with the cross-entropy of the logits, in validation this alone, whatever the batch."""
    logits, x = batch
    loss, cross_entropy = LOSSES[loss_type](N_CLASSES, SIZE, 1), F.cross_entropy(logits, TARGETS)
    value = loss.train()(logits, TARGETS, x)
    assert value.dtype == torch.float64
    assert (value - cross_entropy).item() == pytest.approx(BY_HAND[loss_type](x), abs=1e-6)  # w and b are float32
    assert torch.equal(loss.eval()(logits, TARGETS, x), cross_entropy)
    assert loss(logits[:1], TARGETS[:1], x[:1]).isfinite()  # a validation batch may be one utterance


@pytest.mark.parametrize('loss_type', METRIC_LOSSES)
def test_gradients_in_training(batch, loss_type):
    logits, x = batch
    loss = LOSSES[loss_type](N_CLASSES, SIZE, 1).double().train()
    assert torch.autograd.gradcheck(lambda logits, x: loss(logits, TARGETS, x),
                                    (logits.requires_grad_(), x.requires_grad_()))
    assert torch.autograd.gradcheck(lambda scale: torch.func.functional_call(
        loss, {'scale': scale}, (logits, TARGETS, x)), (torch.tensor(10.0, dtype=torch.float64,
                                                                            requires_grad=True),)
    ) if loss_type != 'triplet' else not list(loss.parameters())


@pytest.mark.parametrize('kind', [GE2ELoss, PrototypicalLoss])
def test_the_scale_learns_and_stays_above_nothing(batch, kind):
    logits, x = batch
    loss = kind(N_CLASSES, SIZE, 1).double().train()
    loss.scale.data.fill_(-3.0)
    value = loss(logits, TARGETS, x)
    value.backward()
    assert loss.scale.grad != 0  # it can come back from anywhere
    assert loss.offset.grad.abs() < 1e-12  # b is in all scores of a softmax
    scale = loss.scaled(1) - loss.scaled(0)
    assert scale.item() == pytest.approx(math.log(1 + math.exp(-3)))


def test_they_prefer_speakers_apart():
    """With each speaker in one place, far from the others, nothing is left to learn; all in one place is worst."""
    apart, together = torch.eye(N_CLASSES)[TARGETS], torch.ones(9, N_CLASSES)
    for loss in (GE2ELoss(9, 9, 1), PrototypicalLoss(9, 9, 1), TripletLoss(9, 9, 1)):
        assert loss.metric(apart, TARGETS) < 1e-3
        assert loss.metric(together, TARGETS) > 0.19


def test_subcentres_by_hand(batch):
    """The logit of a class is the cosine to the nearest of its three weight vectors, with the margin of ArcFace."""
    _, x = batch
    model = background_network(SIZE, N_CLASSES, head='subcenter').eval()
    assert model.last.weight.shape == (N_CLASSES, 3 * SIZE) and model.last.bias is None
    embedding, logits = heads.subcenter_head(model, x.float())
    expected = [[max(cosine(e, row[k * SIZE:(k + 1) * SIZE]) for k in range(3)) for row in model.last.weight.tolist()]
                for e in embedding.tolist()]
    torch.testing.assert_close(logits, torch.tensor(expected))

    loss = SubcenterLoss(N_CLASSES, SIZE, 1, margin=0.3, scale=7.0).eval()
    values = []
    for row, target in zip(expected, TARGETS.tolist()):
        row = [7 * math.cos(math.acos(value) + 0.3 * (j == target)) for j, value in enumerate(row)]
        values.append(negative_log_softmax(row, target))
    assert loss(logits, TARGETS, embedding).item() == pytest.approx(np.mean(values), rel=1e-5)


def test_gradients_of_subcentres(batch):
    _, x = batch
    weights = torch.randn(N_CLASSES, 3 * SIZE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    loss = SubcenterLoss(N_CLASSES, SIZE, 1).double().eval()

    def value(x, weights):
        of_centres = F.normalize(x) @ F.normalize(weights.reshape(-1, SIZE)).T
        return loss(of_centres.unflatten(1, (N_CLASSES, 3)).amax(dim=2), TARGETS, x)
    assert torch.autograd.gradcheck(value, (x.requires_grad_(), weights.requires_grad_()))


# ------------------------------------------------------------------------------------------- batches

class Labels:
    """Stands for a dataset of which only the labels and the names of the files are asked for."""

    def __init__(self, labels, filenames=None):
        self.labels, self.filenames = labels, filenames or list(range(len(labels)))


def batches_of(sampler, size):
    order = list(sampler)
    assert len(order) == len(sampler) and len(order) % size == 0
    return [order[i:i + size] for i in range(0, len(order), size)]


UNEQUAL = [0] * 13 + [1] * 3 + [2] * 5 + [3] * 4 + [4] * 7 + [5] * 3


@pytest.mark.parametrize('labels, n_speakers, n_each, n_batches', [
    ([i % 10 for i in range(120)], 5, 4, 6),  # all utterances: 10 speakers x 12
    ([i % 10 for i in range(110)], 5, 3, 6),  # 11 of each: 2 of each are left out
    (UNEQUAL, 2, 3, 5),  # groups: 4, 1, 1, 1, 2, 1. So 5 batches of 2 are possible, if speaker 0 is in 4 of them
    (UNEQUAL, 3, 3, 3), (UNEQUAL, 6, 3, 1)])
def test_every_batch_is_of_p_speakers_and_k_utterances(labels, n_speakers, n_each, n_batches):
    sampler = SpeakerSampler(Labels(labels), n_speakers, n_each, seed=0)
    for _ in range(5):
        batches = batches_of(sampler, n_speakers * n_each)
        assert len(batches) == n_batches
        for batch in batches:
            of_speakers = [labels[i] for i in batch]
            assert sorted(Counter(of_speakers).values()) == [n_each] * n_speakers
            assert all(len(set(of_speakers[i:i + n_each])) == 1 for i in range(0, len(batch), n_each))
        drawn = [i for batch in batches for i in batch]
        assert len(set(drawn)) == len(drawn)  # no utterance twice in an epoch


def test_over_the_epochs_everybody_and_everything_has_a_turn():
    sampler = SpeakerSampler(Labels(UNEQUAL), 2, 3, seed=0)
    drawn = Counter(i for _ in range(60) for i in sampler)
    assert set(drawn) == set(range(len(UNEQUAL)))
    partners = {frozenset(UNEQUAL[i] for i in batch) for _ in range(60) for batch in batches_of(sampler, 6)}
    assert len(partners) > 8  # of 15 pairs of speakers


def test_one_seed_gives_one_order_and_a_run_goes_on_with_it():
    dataset = Labels([i % 8 for i in range(96)])
    whole, again = (SpeakerSampler(dataset, 4, 3, seed=7) for _ in range(2))
    epochs = [list(whole) for _ in range(4)]
    assert epochs == [list(again) for _ in range(4)]
    assert len(set(map(tuple, epochs))) == 4  # new groups in each epoch
    rest = SpeakerSampler(dataset, 4, 3, seed=7, epoch=3)
    assert [list(rest) for _ in range(2)] == epochs[2:]
    assert list(SpeakerSampler(dataset, 4, 3, seed=8)) != epochs[0]
    torch.manual_seed(1)  # other random numbers change nothing
    assert list(SpeakerSampler(dataset, 4, 3, seed=7)) == epochs[0]


def test_too_few_speakers_are_refused():
    with pytest.raises(LabError, match='batch_speakers = 3: there are only 2 speakers. Lower it.'):
        SpeakerSampler(Labels([0, 0, 1, 1]), 3, 2, seed=0)


def test_a_speaker_with_few_utterances_repeats_them():
    labels = [0] * 8 + [1] * 3 + [2] * 2
    for batch in batches_of(SpeakerSampler(Labels(labels), 3, 4, seed=0), 12):
        times = Counter(batch)
        assert sorted(times[i] for i in range(8)) == [0] * 4 + [1] * 4
        assert sorted(times[i] for i in range(8, 11)) == [1, 1, 2] and times[11] == times[12] == 2


@pytest.fixture
def dataset_of(lab, write_feat):
    """A function (folder, names of speakers): the DvectorDataset of three utterances of each."""
    def make(folder, speakers):
        files = [write_feat('%s/%s/%d.p' % (folder, s, i), seed=i) for s in speakers for i in range(3)]
        DB = pd.DataFrame({'filename': files, 'speaker_id': [s for s in speakers for _ in range(3)]})
        return DvectorDataset(DB, read_MFB, [], {s: i for i, s in enumerate(speakers)})
    return make


def test_mixed_corpora(dataset_of):
    """A corpus that is drawn four times has four times as many groups. A group never holds an utterance twice."""
    mixed = MixedDataset([dataset_of('one', 'ab'), dataset_of('two', 'abc')], [1, 4])
    sampler, drawn = SpeakerSampler(mixed, 2, 2, seed=0), Counter()
    for _ in range(20):
        for batch in batches_of(sampler, 4):
            for group in (batch[:2], batch[2:]):
                assert len({mixed.labels[i] for i in group}) == 1
                assert len({mixed.filenames[i] for i in group}) == 2
            drawn.update(mixed.labels[i] for i in batch)
    assert drawn[0] == drawn[1] == 2 * 20  # of each, one group
    assert drawn[2] == drawn[3] == drawn[4] == 2 * 4 * 20


def test_a_group_has_one_speed(dataset_of):
    """Another speed is another speaker, so a group at several speeds would not be of one speaker."""
    dataset = AugmentedDataset(dataset_of('one', 'abcd'), ['speed'])
    sampler, labels = SpeakerSampler(dataset, 2, 3, seed=0), set()
    for _ in range(20):
        for batch in batches_of(sampler, 6):
            classes = [dataset[i][1] for i in batch]
            assert sorted(Counter(classes).values()) == [3, 3]
            labels |= set(classes)
    assert labels == set(range(4 * len(SPEEDS)))
    others = SpeakerSampler(AugmentedDataset(dataset.dataset, ['level']), 2, 3, seed=0)
    assert all(isinstance(i, int) for i in others)


# ------------------------------------------------------------------------------------------- settings

PAIRS = {'batch_size': 4, 'batch_speakers': 2}


@pytest.mark.parametrize('settings, complaint', [
    *[({'loss_type': name}, "loss_type = '%s' compares the utterances of a batch, so each speaker needs several.\n"
                            'Set batch_size = 32 and batch_speakers = 8' % name) for name in METRIC_LOSSES],
    ({'batch_speakers': 7}, 'batch_speakers = 7, batch_size = 64: each speaker must have the same number of utter'),
    ({'batch_speakers': 64},
     'batch_speakers = 64, batch_size = 64: each speaker must have the same number of utterances, 2 or more'),
    ({'batch_speakers': 100}, 'batch_speakers = 100, batch_size = 64: each speaker must have the same number'),
    ({'batch_speakers': 8, 'use_shuffle': False}, 'draws new groups in every epoch. Set use_shuffle = True.'),
    ({'batch_speakers': 1}, 'batch_speakers = 1: it must be a whole number, 2 or more, or None.')])
def test_what_does_not_fit_is_refused_before_anything_is_made(lab, stopped_with, settings, complaint):
    assert complaint in stopped_with(deep_dive.train.main, **settings)
    assert os.listdir() == []


def test_too_few_utterances_are_refused_before_the_training(lab, write_feat, stopped_with):
    for i in range(20):
        write_feat('feat/%s/%d.p' % ('c' if i == 0 else 'ab'[i % 2], i))
    message = stopped_with(deep_dive.train.main, train_dir='feat', loss_type='ge2e', batch_size=16, batch_speakers=2)
    assert re.search('Speaker c has [01] utterances for training, and batch_speakers needs 2 of each', message)
    assert os.listdir() == ['feat']


@pytest.fixture
def noise(lab, write_feat):
    """A folder to train in: four utterances of noise of each of four speakers, of which one is for validation."""
    for i in range(16):
        write_feat('%s/%s/%d.p' % (c.TRAIN_FEAT_DIR, 'abcd'[i % 4], i), seed=i)
    return lab


SMALL = {'use_cuda': False, 'val_ratio': 10, 'plot': False, 'optimizer_type': 'adamw', 'lr': 1e-3, 'backbone': 'vgg'}


@pytest.mark.parametrize('settings', [
    {'loss_type': 'prototypical', **PAIRS, 'augment': ['speed', 'level']},
    {'loss_type': 'triplet', **PAIRS, 'cache_gb': 0, 'num_workers': 1}],
    ids=lambda settings: settings['loss_type'])
def test_one_epoch_and_one_more_equal_two(noise, settings):
    """The groups go on, and so do the scale and the offset that a loss has learned. The network can be loaded."""
    for log_dir, start, n_epochs in (('two', 1, 2), ('parts', 1, 1), ('parts', 2, 1)):
        deep_dive.train.main(**SMALL, **settings, log_dir=log_dir, start=start, n_epochs=n_epochs)
    whole, continued = (torch.load('%s/checkpoint_2.pth' % folder) for folder in ('two', 'parts'))
    for part in ('state_dict', 'criterion'):
        assert all(torch.equal(whole[part][name], continued[part][name]) for name in whole[part])
    if 'scale' in whole['criterion']:
        assert whole['criterion']['scale'] != 10  # it has learned
    n_classes = 12 if 'augment' in settings else 4
    model = lab_model.load_model(False, 'two', 'best', 128, n_classes)
    d_vector = lab_model.embed_feature(False, np.random.default_rng(0).normal(size=(150, 40)), model, None)
    assert d_vector.shape == (1, 128)
    run = json.loads((noise / 'two/run.json').read_text())
    assert run['settings'].items() >= settings.items()
    assert all(math.isfinite(epoch['valid_loss']) for epoch in run['epochs'])


def test_mixed_corpora_train(noise, write_feat):
    for i in range(12):
        write_feat('further/%s/%d.p' % ('aef'[i % 3], i), seed=100 + i)
    deep_dive.train.main(**SMALL, loss_type='ge2e', **PAIRS, n_epochs=1, corpora={'further': 3}, augment=['speed'])
    assert torch.load('model_saved/checkpoint_1.pth')['state_dict']['last.weight'].shape == (21, 128)


def test_torchrun_is_refused_in_one_line(lab, stopped_with, monkeypatch):
    monkeypatch.setattr(dist, 'is_torchelastic_launched', lambda: True)
    message = stopped_with(deep_dive.train.main, loss_type='ge2e', batch_speakers=8)
    assert message == 'Error: batch_speakers needs a whole batch in one process. Start without torchrun.'
    assert os.listdir() == []
