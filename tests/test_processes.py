"""Training in several processes: the shares of a batch by hand, two gloo processes against one, what a failure says."""
import json
import os
import re
import subprocess
import sys

import pytest
import torch
import torch.distributed as dist
from torch.utils.data import RandomSampler, SequentialSampler

import configure as c
from SR_Dataset import ShareOfBatches
from conftest import PROJECT, changed_source
from support import devices
from support.messages import LabError


def own_shares(batches):
    return [[index for index in batch if index is not None] for batch in batches]


def test_shares_by_hand():
    assert next(iter(ShareOfBatches(SequentialSampler(range(12)), 4, 1, 2))) == [None, 1, None, 3]
    shares = [own_shares(ShareOfBatches(SequentialSampler(range(11)), 4, rank, 2)) for rank in (0, 1)]
    # batches 0-3 and 4-7; the last, 8-10, would leave one process with a single utterance
    assert shares == [[[0, 2], [4, 6, 8, 10]], [[1, 3], [5, 7, 9]]]
    assert own_shares(ShareOfBatches(SequentialSampler(range(12)), 4, 1, 2)) == [[1, 3], [5, 7], [9, 11]]
    assert list(ShareOfBatches(SequentialSampler(range(6)), 4)) == [[0, 1, 2, 3], [4, 5]]
    assert list(ShareOfBatches(SequentialSampler(range(5)), 4)) == [[0, 1, 2, 3, 4]]


@pytest.mark.parametrize('n_samples, batch_size, n_processes', [
    (100, 10, 1), (101, 10, 1), (109, 10, 2), (103, 10, 2), (100, 7, 3), (9, 64, 4), (1000, 64, 8), (1007, 64, 8)])
def test_every_sample_is_seen_once_an_epoch(n_samples, batch_size, n_processes):
    samplers = []
    for rank in range(n_processes):
        order = RandomSampler(range(n_samples), generator=torch.Generator().manual_seed(5))
        samplers.append(ShareOfBatches(order, batch_size, rank, n_processes))
    for _ in range(2):  # epochs
        shares = [own_shares(sampler) for sampler in samplers]
        assert sorted(i for share in shares for batch in share for i in batch) == list(range(n_samples))
        assert {len(share) for share in shares} == {len(samplers[0])}  # all take as many steps
        for batches in zip(*shares):
            sizes = [len(batch) for batch in batches]
            assert min(sizes) >= 2 and max(sizes) - min(sizes) <= 1
            assert batch_size <= sum(sizes) < batch_size + 2 * n_processes or batches[0] is shares[0][-1]


def test_one_process_sees_what_the_data_loader_would_give_it():
    torch.manual_seed(3)
    expected = [batch.tolist() for batch in torch.utils.data.DataLoader(range(50), batch_size=8, shuffle=True)]
    torch.manual_seed(3)
    shares = ShareOfBatches(RandomSampler(range(50)), 8)
    assert [batch.tolist() for batch in torch.utils.data.DataLoader(range(50), batch_sampler=shares)] == expected


def test_too_small_a_batch_is_refused():
    for n_samples, batch_size, n_processes in ((100, 1, 1), (100, 5, 3), (5, 64, 3)):
        with pytest.raises(LabError, match='batch_size = %d, %d utterances, processes: %d. BatchNorm needs'
                                           % (batch_size, n_samples, n_processes)):
            ShareOfBatches(SequentialSampler(range(n_samples)), batch_size, 0, n_processes)


# ------------------------------------------------------------------------------------------ two processes against one

@pytest.fixture
def four_speakers(lab, write_feat):
    """98 utterances of 160 frames: 9 for validation, 89 for training, in batches of 17 and a last one of 4."""
    for i in range(98):
        write_feat('%s/s%d/%02d.p' % (c.TRAIN_FEAT_DIR, i % 4, i), n_frames=260, seed=i)
    return lab


def start_copy(folder, replacements, n_processes):
    """Start a copy of train.py with changed lines, in float32, under torchrun or alone: the Popen."""
    settings = [('n_epochs = 30', 'n_epochs = 2'), ('log_interval = 84', 'log_interval = 2'),
                ('    batch_size = 64', '    batch_size = 17'), ("log_dir = 'model_saved'", "log_dir = '%s'" % folder),
                ('    plot = True', '    plot = False'),
                ('        with mixed_precision(device):\n            spk_embedding, logits = model(inputs)  #',
                 '        if True:\n            spk_embedding, logits = model(inputs)  #'),
                ('            with mixed_precision(device):\n                spk',
                 '            if True:\n                spk')]
    replacements = dict(settings) | dict(replacements)
    with open('train_%s.py' % folder, 'w') as f:
        f.write(changed_source('train.py', replacements.items()))
    torchrun = ['-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=%d' % n_processes]
    return subprocess.Popen([sys.executable, *(torchrun if n_processes else []), 'train_%s.py' % folder], text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            env={**os.environ, 'PYTHONPATH': str(PROJECT), 'OMP_NUM_THREADS': '1'})


def outputs(*started):
    """What copies of train.py that run beside each other printed: a CompletedProcess for each."""
    ended = [process.communicate() for process in started]
    return [subprocess.CompletedProcess(process.args, process.returncode, *texts)
            for process, texts in zip(started, ended)]


def history(folder):
    with open(folder + '/run.json') as f:
        return json.load(f)['epochs']


# BatchNorm as it is when testing, so that nothing but BatchNorm's statistics is left out of the comparison
FIXED_BATCHNORM = [('model.train()', 'model.eval()'), ('lr = 1e-1', 'lr = 1e-3')]

# A process that ends as Python does, right after it has shared numbers, is now and then aborted: "terminate called ..."
SAYS_ITS_END = ("    if rank > 0:\n        os._exit(0)", """    import atexit
    atexit.register(os.write, 2, b'the end of Python')
    if rank > 0:
        os._exit(0)""")


def test_two_processes_train_what_one_does(four_speakers):
    """In shares of 9 and 8. One process prints and saves; one process alone can go on from there."""
    augmented = FIXED_BATCHNORM + [SAYS_ITS_END, ('    augment = []  #', "    augment = ['speed', 'specaugment']  #")]
    one, two = outputs(start_copy('one', [('n_epochs = 30', 'n_epochs = 3')] + augmented, 0),
                       start_copy('two', augmented, 2))
    assert one.returncode == two.returncode == 0, two.stderr
    assert two.stderr.count('the end of Python') == 1  # of the first process alone
    logs = [re.sub(r'Time \S+ \S+|, \S+ s$', '', log.stdout, flags=re.M).split('Train Epoch:   3')[0].split('Lowest')[0]
            for log in (one, two)]
    shown = [[float(number) for number in re.findall(r'\d+\.\d+', log)] for log in logs]
    assert re.sub(r'\d+\.\d+', '', logs[0]) == re.sub(r'\d+\.\d+', '', logs[1])
    assert shown[1] == pytest.approx(shown[0], abs=2e-3) and len(shown[0]) > 15
    a, b = (torch.load('%s/checkpoint_2.pth' % folder)['state_dict'] for folder in ('one', 'two'))
    start = torch.load('one/checkpoint_1.pth')['state_dict']
    assert list(a) == list(b) and not any(name.startswith('module.') for name in b)
    for name in ('last.weight', 'fc0.weight', 'pretrained.conv1.weight'):
        change = (a[name] - start[name]).abs().max()
        assert change > 1e-5 and (a[name] - b[name]).abs().max() < 0.01 * change

    go_on = [('    start = 1', '    start = 3'), ('n_epochs = 30', 'n_epochs = 1')]
    assert outputs(start_copy('two', go_on + augmented, 0))[0].returncode == 0
    losses = [[epoch[name] for epoch in history(folder) for name in ('train_loss', 'valid_loss')]
              for folder in ('one', 'two')]
    assert len(losses[0]) == 6 and losses[1] == pytest.approx(losses[0], rel=1e-4)
    assert sorted(os.listdir('one')) == sorted(os.listdir('two'))


def test_what_batchnorm_leaves_of_a_difference(four_speakers):
    """Each process normalises by the statistics of its own 9 or 8 samples: the losses move by less than 3 %."""
    one_epoch = [('n_epochs = 30', 'n_epochs = 1'), ('lr = 1e-1', 'lr = 1e-3')]
    one, two = [[float(loss) for loss in re.findall(r'Loss (\S+)', done.stdout)]
                for done in outputs(start_copy('one', one_epoch, 0), start_copy('two', one_epoch, 2))]
    assert len(one) == len(two) == 4 and two == pytest.approx(one, rel=0.03) and two[0] != one[0], (one, two)


def test_a_process_that_dies_ends_the_others_with_its_message(four_speakers):
    dying = ('            follow_first_process(model)',
             '            if rank == 1:\n                raise LabError("the disk of process 1 is full")')
    done, = outputs(start_copy('dead', [dying], 2))
    assert done.returncode == 1 and 'Error: the disk of process 1 is full' in done.stderr
    assert 'LabError: the disk of process 1 is full' in done.stderr.split('FAILED')[1]  # in torchrun's last lines
    assert not os.path.exists('dead/checkpoint_1.pth')


@pytest.fixture
def group_of_one():
    dist.init_process_group('gloo', store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_sync_batchnorm_needs_gpus(group_of_one):
    with pytest.raises(LabError, match='sync_batchnorm = True: PyTorch synchronises BatchNorm on GPUs only'):
        devices.network_to_train(torch.nn.Linear(2, 2), torch.device('cpu'), False, True)


def test_a_group_of_one_weighs_its_batches_as_they_are(group_of_one):
    assert devices.weight_of_share(7, torch.device('cpu')) == 1
