"""On a GPU that fake_gpu.py pretends, nothing of the lab is left on the CPU. A run goes on without the GPU.

What a fake cannot tell is asked by the tests that skip without a GPU.
"""
import re
import subprocess
import sys
import zipfile

import pytest
import torch

import fake_gpu
import train
from conftest import PROJECT
from support import runs


@pytest.fixture(scope='module')
def results():
    """What fake_gpu.py says: dict part -> 'ok' or an error."""
    done = subprocess.run([sys.executable, PROJECT / 'tests/fake_gpu.py'], capture_output=True, text=True,
                          encoding='utf-8')
    assert done.returncode == 0, done.stderr
    return dict(re.findall(r'^> (.*?): (.*)$', done.stdout, re.MULTILINE))


WRONG = [function.__name__ for function in fake_gpu.MUST_RAISE]
RIGHT = [part for part in fake_gpu.PARTS if part not in WRONG]


@pytest.mark.parametrize('part', RIGHT)
def test_everything_is_on_the_gpu(results, part):
    assert results[part] == 'ok'


def test_the_fake_gpu_notices_two_devices(results):
    for part in ('forget_the_batch', 'forget_the_loss'):
        assert results[part].startswith('FakeTensorDeviceMismatchError') and 'two devices' in results[part]
    assert results['forget_to_come_back'].startswith('TypeError')
    assert results.keys() == fake_gpu.PARTS.keys()


@pytest.fixture
def noise(lab, write_feat):
    """Twelve utterances of noise by two speakers, to train on."""
    for i in range(12):
        write_feat('feat/%d/%d.p' % (i % 2, i), seed=i)


@pytest.mark.parametrize('place', ['cuda:3', 'mps'])
def test_a_run_of_a_gpu_goes_on_without_one(noise, monkeypatch, place):
    settings = {'use_cuda': False, 'train_dir': 'feat', 'batch_size': 11, 'plot': False,
                'optimizer_type': 'adam'}
    of_gpu = {'cuda': torch.zeros(16, dtype=torch.uint8)}
    with monkeypatch.context() as patched:
        # torch.save writes down where a tensor was
        patched.setattr(torch.serialization, 'location_tag', lambda storage: place)
        patched.setattr(runs, 'random_state', lambda: {'cpu': torch.get_rng_state(), **of_gpu})
        train.main(n_epochs=1, **settings)
    with zipfile.ZipFile('model_saved/checkpoint_1.pth') as archive:
        assert place.encode() in archive.read('archive/data.pkl')
    train.main(n_epochs=1, start=2, **settings)
    train.main(n_epochs=2, log_dir='at_once', **settings)
    went_on, at_once = (torch.load('%s/checkpoint_2.pth' % folder) for folder in ('model_saved', 'at_once'))
    for name in ('state_dict', 'optimizer'):
        torch.testing.assert_close(went_on[name], at_once[name])
    assert went_on['state_dict']['fc0.weight'].device.type == 'cpu'
