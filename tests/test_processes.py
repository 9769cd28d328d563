"""Training in several processes: the shares by hand, two gloo processes against one, what a failure says."""
import contextlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

import configure as c
import deep_dive.train
import train
from conftest import PROJECT
from deep_dive import processes
from model import background_resnet
from support.messages import LabError

CPU = torch.device('cpu')

# ------------------------------------------------------------------------------------------ the shares by hand


@pytest.fixture
def process_of(monkeypatch):
    """Makes this process number `rank` of a group of n_processes, in which nobody answers."""
    def become(rank, n_processes):
        monkeypatch.setattr(dist, 'is_initialized', lambda: True)
        monkeypatch.setattr(dist, 'get_rank', lambda: rank)
        monkeypatch.setattr(dist, 'get_world_size', lambda: n_processes)
    return become


def loaders_of(n_samples, batch_size, n_valid=0, shuffle=True):
    return (DataLoader(range(n_samples), batch_size=batch_size, shuffle=shuffle),
            DataLoader(range(n_valid), batch_size=3, collate_fn=tuple))


def share_of(process_of, rank, n_processes, *loaders, seed=1):
    process_of(rank, n_processes)
    return processes.share_loaders(*loaders, seed)


def batches_of(loader):
    return [list(map(int, batch)) for batch in loader]


def test_shares_by_hand(process_of):
    """Without shuffling, process r of n gets samples r, r + n, r + 2 n and so on, and every n-th validation batch."""
    loaders = loaders_of(12, 6, n_valid=14, shuffle=False)
    shares = [share_of(process_of, rank, 2, *loaders) for rank in (0, 1)]
    assert batches_of(shares[0][0]) == [[0, 2, 4], [6, 8, 10]] and batches_of(shares[1][0]) == [[1, 3, 5], [7, 9, 11]]
    # The padding of a validation utterance depends on its batch, so the batches are those of one process
    assert list(shares[0][1]) == [(0, 1, 2), (6, 7, 8), (12, 13)] and list(shares[1][1]) == [(3, 4, 5), (9, 10, 11)]


@pytest.mark.parametrize('n_samples, batch_size, n_processes', [(100, 10, 2), (96, 7, 3), (1000, 64, 8), (40, 64, 4)])
def test_every_sample_is_seen_once_an_epoch(process_of, n_samples, batch_size, n_processes):
    loaders = [share_of(process_of, rank, n_processes, *loaders_of(n_samples, batch_size))[0]
               for rank in range(n_processes)]
    orders = []
    for _ in range(3):  # epochs
        shares = [batches_of(loader) for loader in loaders]
        assert len({tuple(map(len, share)) for share in shares}) == 1  # all take as many steps, of the same size
        assert {len(batch) for batch in shares[0][:-1]} <= {batch_size // n_processes}
        orders.append([[i for batch in share for i in batch] for share in shares])
        assert sorted(i for share in orders[-1] for i in share) == list(range(n_samples))
    assert orders[0] != orders[1] != orders[2] != orders[0]  # a new order in each epoch
    assert set(orders[0][0]) != set(orders[1][0])  # a process does not keep its samples


def test_a_run_that_goes_on_draws_the_orders_that_follow(process_of):
    """deep_dive/train.py adds the number of the first epoch to the seed."""
    whole, rest = (share_of(process_of, 0, 2, *loaders_of(50, 10), seed=seed)[0] for seed in (1, 2))
    orders = [batches_of(whole) for _ in range(3)]
    assert [batches_of(rest) for _ in range(2)] == orders[1:]


def test_each_process_draws_other_windows(process_of):
    numbers = []
    for rank in (0, 1, 2):
        torch.manual_seed(7)
        share_of(process_of, rank, 3, *loaders_of(50, 10))
        numbers.append(torch.rand(3).tolist())
    torch.manual_seed(7)
    assert numbers[0] == torch.rand(3).tolist()  # the first process goes on as one process alone does
    assert len(set(map(tuple, numbers))) == 3


def test_samples_that_cannot_be_shared_equally(process_of):
    # 11 samples in two processes: the first one is used twice, so that both take as many steps
    loaders = loaders_of(11, 6, shuffle=False)
    shares = [batches_of(share_of(process_of, rank, 2, *loaders)[0]) for rank in (0, 1)]
    assert shares == [[[0, 2, 4], [6, 8, 10]], [[1, 3, 5], [7, 9, 0]]]
    # 14 samples in batches of 2 x 3: the last batch would have one sample in each process. BatchNorm needs two
    loaders = loaders_of(14, 6, shuffle=False)
    shares = [batches_of(share_of(process_of, rank, 2, *loaders)[0]) for rank in (0, 1)]
    assert shares == [[[0, 2, 4], [6, 8, 10]], [[1, 3, 5], [7, 9, 11]]]


@pytest.mark.parametrize('batch_size, n_processes', [(3, 2), (5, 3), (15, 8)])
def test_too_small_a_batch_is_refused(process_of, batch_size, n_processes):
    with pytest.raises(LabError, match='batch_size = %d for %d processes: BatchNorm needs at least 2 utterances in each'
                                       % (batch_size, n_processes)):
        share_of(process_of, 0, n_processes, *loaders_of(100, batch_size))


# ------------------------------------------------------------------------------------------ one process of a group

def test_the_first_process_goes_first(process_of, monkeypatch):
    events = []
    monkeypatch.setattr(dist, 'barrier', lambda: events.append('barrier'))
    for rank in (0, 1):
        process_of(rank, 2)
        processes.first_process_first(events.append, 'work of %d' % rank)
    # The barrier lets both go on when both have reached it: when the first has done its work
    assert events == ['work of 0', 'barrier', 'barrier', 'work of 1']


@pytest.mark.parametrize('has_gpu, backend', [(True, 'nccl'), (False, 'gloo')])
def test_a_process_joins_the_others(process_of, monkeypatch, has_gpu, backend):
    joined, gpus = [], []
    monkeypatch.setattr(dist, 'is_torchelastic_launched', lambda: True)
    monkeypatch.setattr(dist, 'init_process_group', lambda backend, **options: joined.append((backend, options)))
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: has_gpu)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    monkeypatch.setattr(torch.cuda, 'set_device', gpus.append)
    monkeypatch.setattr(tqdm, '__init__', tqdm.__init__)  # both are put back when the test ends
    monkeypatch.setattr(sys, 'stdout', sys.stdout)
    monkeypatch.setenv('LOCAL_RANK', '1')
    process_of(0, 2)
    shown = sys.stdout
    processes.join_processes(True)
    assert joined == [(backend, {'device_id': torch.device('cuda', 1)} if has_gpu else {})]
    assert gpus == ([1] if has_gpu else []) and sys.stdout is shown

    process_of(1, 2)
    processes.join_processes(True)
    with sys.stdout as silent:
        assert silent.name == os.devnull
    assert tqdm([]).disable  # no progress bar, even at a terminal


def test_averages_are_of_all_processes(process_of, monkeypatch, capsys):
    of_the_other = torch.tensor([[10.0, 6.0], [1.0, 1.0], [200.0, 1.0]])  # sums, and of how many samples
    monkeypatch.setattr(dist, 'all_reduce', lambda sums: sums.add_(of_the_other))
    process_of(0, 2)
    averages = processes.average_over_processes([(3.0, 2), (0.5, 4), (100.0, 4)], CPU)
    assert averages == pytest.approx([(3 * 2 + 10) / 8, (0.5 * 4 + 1) / 5, (100 * 4 + 200) / 5])
    assert capsys.readouterr().out == ('  * All processes: training loss 2.0000, validation loss 0.6000, '
                                       'accuracy 120.0000\n')


@pytest.mark.parametrize('rank, codes', [(0, []), (1, [0])])
def test_only_the_first_process_goes_on(process_of, monkeypatch, rank, codes):
    ended, left = [], []
    monkeypatch.setattr(dist, 'destroy_process_group', lambda: left.append(True))
    monkeypatch.setattr(os, '_exit', ended.append)
    process_of(rank, 2)
    processes.leave_processes()
    assert left == [True] and ended == codes


def test_one_process_alone_has_nothing_to_share():
    called, loaders, model = [], (object(), object()), nn.Linear(2, 2)
    processes.join_processes(False)
    assert processes.rank() == 0
    processes.first_process_first(called.append, 1)
    assert called == [1]
    assert processes.share_loaders(*loaders, 0) == loaders and processes.network_to_train(model) is model
    processes.follow_first_process(model)
    assert processes.average_over_processes([(3, 2), (0.5, 7), (90, 7)], CPU) == [3, 0.5, 90]
    processes.leave_processes()


@pytest.fixture
def group_of_one():
    dist.init_process_group('gloo', store=dist.HashStore(), rank=0, world_size=1)
    yield
    processes.leave_processes()
    assert not dist.is_initialized()


def test_a_group_of_one_process_changes_nothing(group_of_one):
    called, model = [], nn.BatchNorm1d(2)
    assert processes.rank() == 0
    processes.first_process_first(called.append, 1)
    assert called == [1]
    loaders = DataLoader(range(20), batch_size=8, shuffle=True), DataLoader(range(20), batch_size=6)
    train_loader, valid_loader = processes.share_loaders(*loaders, 0)
    orders = [[i for batch in train_loader for i in batch.tolist()] for _ in range(2)]  # of two epochs
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(20)) and orders[0] != orders[1]
    assert [len(batch) for batch in train_loader] == [8, 8, 4]
    assert [batch.tolist() for batch in valid_loader] == [batch.tolist() for batch in loaders[1]]
    with pytest.raises(LabError, match='batch_size = 1 for 1 processes: BatchNorm needs at least 2 utterances in each'):
        processes.share_loaders(DataLoader(range(20), batch_size=1), loaders[1], 0)
    network = processes.network_to_train(model)
    assert network.module is model
    model.running_mean[0] = 5
    processes.follow_first_process(model)
    assert model.running_mean.tolist() == [5, 0]
    assert processes.average_over_processes([(3, 2), (0.5, 7), (90, 7)], CPU) == [3, 0.5, 90]


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr(dist, 'is_torchelastic_launched', lambda: True)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    monkeypatch.setenv('LOCAL_RANK', '2')
    with pytest.raises(LabError, match='This machine has 2 GPUs: start torchrun with --nproc_per_node=2'):
        processes.join_processes(True)


# ------------------------------------------------------------------------------------------ two processes against one

# Becomes two processes when the packages are loaded, which takes longest, and does what torchrun does for them.
# BatchNorm is as it is when testing, because its statistics are of the share of a process. The numbers are float32 on
# every processor
LAUNCHER = '''
import atexit, contextlib, os
import torch.distributed as dist
from torch import nn
import deep_dive.train
import train
from model import background_resnet
from support.messages import run_script

background_resnet.train = lambda self, mode=True: nn.Module.train(self, False)
train.mixed_precision = lambda device: contextlib.nullcontext()
init, other = dist.init_process_group, os.fork()
dist.is_torchelastic_launched = lambda: True
dist.init_process_group = lambda backend: init(backend, 'file://%s/store' % os.getcwd(), rank=int(other == 0),
                                               world_size=2)
atexit.register(os.write, 2, b'the end of Python')
run_script(deep_dive.train.main)
assert os.waitpid(other, 0)[1] == 0
'''
# One batch of the whole training set, so that the only difference is who computes which half
SETTINGS = {'use_cuda': False, 'val_ratio': 20, 'batch_size': 16, 'valid_batch_size': 2, 'use_shuffle': False,
            'lr': 1e-3, 'loss_type': 'center', 'plot': False}


@pytest.fixture
def four_speakers(lab, write_feat):
    """20 utterances of exactly 100 frames after trimming: a window of 100 is the whole utterance."""
    for i in range(20):
        write_feat('%s/s%d/%02d.p' % (c.TRAIN_FEAT_DIR, i % 4, i), n_frames=200, seed=i)
    return lab


def start(*command):
    """Run a command of Python: the CompletedProcess."""
    return subprocess.run([sys.executable, *command], env={**os.environ, 'PYTHONPATH': str(PROJECT),
                                                           'OMP_NUM_THREADS': '1'}, capture_output=True, text=True)


@pytest.fixture
def train_in_one(monkeypatch):
    """Trains in this process, as the launcher does."""
    def run(log_dir, **settings):
        deep_dive.train.main(**{**SETTINGS, 'log_dir': log_dir, **settings})
    monkeypatch.setattr(background_resnet, 'train', lambda self, mode=True: nn.Module.train(self, False))
    monkeypatch.setattr(train, 'mixed_precision', lambda device: contextlib.nullcontext())
    return run


def losses_of(log_dir):
    with open(log_dir + '/run.json') as f:
        return [epoch[name] for epoch in json.load(f)['epochs'] for name in ('train_loss', 'valid_loss')]


def without_numbers(log):
    return re.sub(r'\[.*\]|\d+\.\d+', '', log)


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='Windows has no fork')
def test_two_processes_train_what_one_does(four_speakers, train_in_one, capfd):
    """The first process prints and saves. One process alone can go on from there."""
    settings = {**SETTINGS, 'log_dir': 'two', 'n_epochs': 2}
    two = start('-c', LAUNCHER, *('--%s=%s' % setting for setting in settings.items()))
    assert two.returncode == 0, two.stderr
    # A process that shares numbers until Python ends is sometimes aborted, so only the first one gets there
    assert two.stderr.count('the end of Python') == 1
    capfd.readouterr()
    train_in_one('one', n_epochs=3)
    one = capfd.readouterr().out.split('Train Epoch:   3')[0]
    shown = two.stdout.split('Lowest')[0].splitlines(keepends=True)
    of_all = [line for line in shown if 'All processes' in line]
    shown = ''.join(line for line in shown if line not in of_all)
    assert without_numbers(shown) == without_numbers(one)  # the same lines, each once
    # Both processes together: train() and validate() print what the first one has seen
    numbers = [float(number) for line in of_all for number in re.findall(r'loss (\d+\.\d+)', line)]
    assert numbers == pytest.approx(losses_of('two'), abs=1e-4) and len(numbers) == 4
    assert losses_of('two') == pytest.approx(losses_of('one')[:4], abs=1e-4)

    first, a, b = (torch.load('%s/checkpoint_%d.pth' % place) for place in (('one', 1), ('one', 2), ('two', 2)))
    assert list(a['state_dict']) == list(b['state_dict'])  # no name begins with 'module.'
    for name in ('last.weight', 'fc0.weight', 'pretrained.conv1.weight'):
        change = (a['state_dict'][name] - first['state_dict'][name]).abs().max()
        assert change > 1e-5 and (a['state_dict'][name] - b['state_dict'][name]).abs().max() < 0.01 * change
    torch.testing.assert_close(a['criterion'], b['criterion'], atol=1e-4, rtol=1e-3)  # the centres

    train_in_one('two', start=3, n_epochs=1)
    assert len(losses_of('two')) == 6 and losses_of('two') == pytest.approx(losses_of('one'), abs=1e-4)
    assert sorted(os.listdir('one')) == sorted(os.listdir('two'))


# For torchrun. The second process fails, while the first one waits for it. Nothing is trained: few packages are loaded
ONE_FAILS = '''
import torch.distributed as dist
from deep_dive import processes
from support.messages import LabError, run_script

def main():
    processes.join_processes(False)
    if processes.rank() == 1:
        raise LabError('the disk of process 1 is full')
    dist.barrier()
    print('nobody has failed')

run_script(main)
'''


def test_a_process_that_dies_ends_the_other_with_its_message(lab):
    Path('launcher.py').write_text(ONE_FAILS)
    done = start('-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2', 'launcher.py')
    assert done.returncode == 1 and 'Error: the disk of process 1 is full' in done.stderr
    assert 'nobody has failed' not in done.stdout
