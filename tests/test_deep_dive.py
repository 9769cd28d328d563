"""The deep dive: each loss against a literal computation and by its gradients, each network on any length."""
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import run_copy

import configure as c
import model as lab_model
import train
from deep_dive.backbones import BACKBONES, POOLINGS, AttentivePooling, StatisticsPooling
from deep_dive.losses import LOSSES, AAMSoftmaxLoss, AMSoftmaxLoss, ASoftmaxLoss, CenterLoss

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
    assert loss(cosines, targets, x) > value  # the margin is at its hardest


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


@pytest.mark.parametrize('loss_type', LOSSES)
def test_gradients(batch, loss_type):
    x, weights, _, targets = batch
    loss = LOSSES[loss_type](N_CLASSES, SIZE, 1).double().eval()

    def value(x, weights):
        logits = F.normalize(x) @ F.normalize(weights).T if loss.cosine else x @ weights.T
        return loss(logits, targets, x)
    assert torch.autograd.gradcheck(value, (x.requires_grad_(), weights.requires_grad_()))


def test_poolings_by_hand():
    x = torch.tensor([[[[1.0, 3.0]], [[0.0, 4.0]]]])  # (1, 2 channels, 1 row, 2 columns)
    torch.testing.assert_close(StatisticsPooling(2, 1)(x), torch.tensor([[2.0, 2.0, 1.0, 2.0]]))
    attentive = AttentivePooling(2, 1)
    for parameter in attentive.parameters():
        torch.nn.init.zeros_(parameter)
    torch.testing.assert_close(attentive(x), torch.tensor([[2.0, 2.0, 1.0, 2.0]]))  # equal weights
    attentive.attention[0].weight.data[:] = torch.tensor([10.0, 0.0])
    attentive.attention[2].weight.data[:] = 1.0  # 64 * (tanh(30) - tanh(10)): none
    attentive.attention[0].weight.data[:] = torch.tensor([0.1, 0.0])
    e = 64 * torch.tanh(0.1 * torch.tensor([1.0, 3.0]))
    share = torch.softmax(e, dim=0)[1].item()
    mean = 1 + 2 * share
    assert attentive(x)[0, 0].item() == pytest.approx(mean, abs=1e-5)
    assert attentive(x)[0, 2].item() == pytest.approx(2 * math.sqrt(share * (1 - share)), abs=1e-3)


@pytest.mark.parametrize('backbone, pooling', [(name, 'average') for name in BACKBONES]
                         + [('resnet18', name) for name in POOLINGS] + [('lstm', 'attentive')])
def test_any_length(backbone, pooling, monkeypatch):
    for n_filters in (40, 23):
        monkeypatch.setattr(c, 'FILTER_BANK', n_filters)
        model = lab_model.background_resnet(128, 7, backbone, pooling=pooling).eval()
        for n_frames in (41, 100, 333):
            embedding, logits = model(torch.randn(2, 1, n_filters, n_frames))
            assert embedding.shape == (2, 128) and logits.shape == (2, 7)


VALUES = ([('loss_type', name) for name in LOSSES] + [('backbone', name) for name in BACKBONES]
          + [('pooling', name) for name in POOLINGS] + [('scheduler_type', 'cosine'), ('optimizer_type', 'adamw')])


@pytest.mark.parametrize('setting, value', VALUES)
def test_every_value_trains(six_voices_features, lab, capsys, setting, value):
    default = {'loss_type': 'softmax', 'backbone': 'resnet18', 'pooling': 'average', 'scheduler_type': 'plateau',
               'optimizer_type': 'sgd'}[setting]
    run_copy('train.py', [('n_epochs = 30', 'n_epochs = 1'), ('plot = True', 'plot = False'),
                          ("    %s = '%s'" % (setting, default), "    %s = '%s'" % (setting, value))])
    assert 'Validation: Loss' in capsys.readouterr().out
    model = lab_model.load_model(False, 'model_saved', 1, 128, 6)
    assert lab_model.embed_feature(False, np.zeros((150, 40)), model, 100).norm().item() == pytest.approx(1, abs=1e-5)
