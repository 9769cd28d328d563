"""Training in several processes: the shares of the data by hand, two gloo processes against one, what a failure says."""
import json
import os
import subprocess
import sys

import pytest
import torch
import torch.distributed as dist
from conftest import PROJECT
from torch.utils.data import DataLoader

import configure as c
import train
from support import devices
from support.messages import LabError

# Starts train.main with settings in JSON. BatchNorm is as in tests, so that its statistics make no difference
LAUNCHER = '''
import json, sys
sys.path.insert(0, %r)
import torch, train
from support import devices, messages
settings, dies = json.loads(sys.argv.pop()), sys.argv.pop()
before = train.train
def with_fixed_batchnorm(loader, model, *args, **kwargs):
    model.train = lambda mode=True: torch.nn.Module.train(model, False)
    if dies == str(devices.rank()):
        raise messages.LabError('the disk of process %%s is full' %% dies)
    return before(loader, model, *args, **kwargs)
train.train = with_fixed_batchnorm
sys.argv[1:] = ['--%%s=%%s' %% pair for pair in settings.items()]
messages.run_script(train.main)
'''


@pytest.fixture
def four_speakers(lab, write_feat):
    """22 utterances of one window each: 2 for validation, 20 for training, in a single batch."""
    for i in range(22):
        write_feat('%s/s%d/%02d.p' % (c.TRAIN_FEAT_DIR, i % 4, i), seed=i)
    (lab / 'launcher.py').write_text(LAUNCHER % str(PROJECT))
    return lab


def start(n_processes, dies='nobody', **settings):
    """Start the launcher under torchrun, or alone: the Popen."""
    settings = {'batch_size': 20, 'n_epochs': 2, 'lr': 0.001, 'plot': False, 'use_shuffle': False, **settings}
    torchrun = ['-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=%d' % n_processes]
    return subprocess.Popen([sys.executable, *(torchrun if n_processes else []), 'launcher.py', dies,
                             json.dumps(settings)], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            env={**os.environ, 'OMP_NUM_THREADS': '1'})


def losses_of(folder):
    with open(folder + '/run.json') as f:
        return [epoch[name] for epoch in json.load(f)['epochs'] for name in ('train_loss', 'valid_loss')]


def test_two_processes_train_what_one_does(four_speakers):
    """With the whole training set in one batch. One process alone can go on from there."""
    started = [start(0, log_dir='one', n_epochs=3), start(2, log_dir='two')]
    for process in started:
        out, err = process.communicate()
        assert process.returncode == 0, err
        assert out.count('Validation: Loss') == (3 if process is started[0] else 2)  # one process prints
    go_on = start(0, log_dir='two', start=3, n_epochs=1)
    assert go_on.communicate() and go_on.returncode == 0
    one, two = losses_of('one'), losses_of('two')
    assert len(one) == 6 and two == pytest.approx(one, rel=1e-4) and one[0] > one[4]
    a, b = (torch.load('%s/checkpoint_2.pth' % folder)['state_dict'] for folder in ('one', 'two'))
    assert list(a) == list(b) and sorted(os.listdir('one')) == sorted(os.listdir('two'))


def test_a_process_that_dies_ends_the_others_with_its_message(four_speakers):
    process = start(2, dies='1', log_dir='dead')
    _, err = process.communicate()
    assert process.returncode == 1 and 'Error: the disk of process 1 is full' in err
    assert not os.path.exists('dead/checkpoint_1.pth')


@pytest.fixture
def one_of_two(monkeypatch):
    """This process takes itself for the number `rank` of two."""
    monkeypatch.setattr(dist, 'is_initialized', lambda: True)
    monkeypatch.setattr(dist, 'get_world_size', lambda *group: 2)

    def become(rank):
        monkeypatch.setattr(dist, 'get_rank', lambda *group: rank)
    become(0)
    return become


def test_shares_by_hand(one_of_two):
    def batches(rank, seed=3, epochs=1):
        one_of_two(rank)
        train_loader, valid_loader = devices.share_loaders(
            DataLoader(range(20), 8, shuffle=True), DataLoader(range(5), 2, collate_fn=list), seed)
        return [[batch.tolist() for batch in train_loader] for _ in range(epochs)], list(valid_loader)
    shares, valid = zip(*(batches(rank, epochs=2) for rank in (0, 1)))
    for epoch in (0, 1):
        assert sorted(i for share in shares for batch in share[epoch] for i in batch) == list(range(20))
        assert [len(batch) for batch in shares[0][epoch]] == [4, 4, 2]
    assert shares[0][0] != shares[0][1]  # another order in each epoch
    assert batches(0, seed=4)[0][0] == shares[0][1]  # a run that goes on after epoch 1
    assert valid == ([[0, 1], [4]], [[2, 3]])
    with pytest.raises(LabError, match='batch_size = 3 for 2 processes: BatchNorm needs at least 2 utterances'):
        devices.share_loaders(DataLoader(range(20), 3), None, 0)


def test_alone_nothing_is_shared():
    loaders = DataLoader(range(4)), DataLoader(range(4))
    assert devices.share_loaders(*loaders, 0) == loaders and devices.rank() == 0
    model = torch.nn.Linear(2, 2)
    assert devices.network_to_train(model) is model
    meter = train.AverageMeter()
    meter.update(torch.tensor(3.0), 2)
    assert devices.average_over_processes(meter, torch.device('cpu')) == 3


def test_averages_over_processes(one_of_two, monkeypatch):
    meter = train.AverageMeter()
    meter.update(3.0, 2)
    monkeypatch.setattr(dist, 'all_reduce', lambda total: total.add_(torch.tensor([10.0, 6.0])))  # of the other one
    assert devices.average_over_processes(meter, torch.device('cpu')) == 2
