"""What several tests share: the lab's modules on the path, a lab of six voices, short ways to make files."""
import contextlib
import functools
import os
import shutil
import sys
from pathlib import Path

# Before torch loads, because on a busy machine threads wait for each other
os.environ.setdefault('OMP_NUM_THREADS', '1')

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
from filelock import FileLock  # noqa: E402 (PyTorch brings it)

PROJECT = Path(__file__).resolve().parent.parent
# The tests run from any folder
sys.path[:0] = [str(PROJECT / folder) for folder in ('', 'tests', 'tests/by_hand', 'experiments')]

import configure as c  # noqa: E402
import DB_wav_reader  # noqa: E402
from support import checks, demo_voices, messages, pictures  # noqa: E402

SIX = [demo_voices.draw_voice(0, index).name for index in range(242, 248)]  # the first: the default
SIX_EPOCHS = 6


class FirstFrame(torch.nn.Module):
    """Stands for a network: the embedding of a feature map is its first two filters in the first frame."""

    def __init__(self):
        super().__init__()
        self.anchor = torch.nn.Parameter(torch.zeros(1))
        self.checkpoint, self.backend, self.thresholds = {'file': 'none', 'sha256': 'none'}, {}, {}
        self.settings = {'level': None}  # that of configure.py

    def forward(self, x):  # (batch, 1, 40, n_frames)
        return x[:, 0, :2, 0], None


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """An empty folder to run the scripts in: the paths of configure.py are relative, so they lead into it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(c, 'CHANNEL', c.CHANNEL)  # the next test finds it as it is now
    monkeypatch.setattr(checks, 'PROJECT', tmp_path)  # somebody may have trained in the project's own folder
    return tmp_path


@pytest.fixture
def stopped_with(monkeypatch):
    """Calls main(**settings) as the command line does, and returns its one or two lines of error."""
    def run(main, **settings):
        monkeypatch.setattr(sys, 'argv', ['script'])
        with pytest.raises(SystemExit) as stop:
            messages.run_script(functools.partial(main, **settings))
        message = str(stop.value.code)  # a string: Python prints it to stderr and exits with code 1
        assert message.startswith('Error: ') and 'Traceback' not in message
        assert 1 <= len(message.splitlines()) <= 2, message
        return message
    return run


@pytest.fixture
def write_feat():
    """Writes a feature file of random numbers in the format of the recipe; returns its name."""
    def write(filename, n_frames=200, label=None, seed=0):
        feature = np.random.default_rng(seed).normal(size=(n_frames, checks.feature_size()))
        DB_wav_reader.write_feature(filename, feature, label or Path(filename).parent.name)
        return str(filename)
    return write


@pytest.fixture
def write_vector(lab):
    """Writes a feature file whose embedding under FirstFrame points to (x, y); returns its name."""
    def write(filename, x, y):
        feature = np.zeros((200, 40))
        feature[:, 0], feature[:, 1] = x, y
        DB_wav_reader.write_feature(filename, feature, filename.split('/')[-2])
        return filename
    return write


@pytest.fixture
def six_voices_features(six_voices, lab):
    """The training utterances of the six voices, in a folder to train in that holds nothing else."""
    shutil.copytree(six_voices / c.TRAIN_FEAT_DIR, lab / c.TRAIN_FEAT_DIR, copy_function=os.symlink)


@pytest.fixture(scope='session')
def six_voices(tmp_path_factory):
    """A trained lab: six of the test voices are also trained on. What train.py printed is in train.log.

    One process trains it for all. No test writes into it.
    """
    folder = tmp_path_factory.getbasetemp()
    folder = (folder.parent if 'PYTEST_XDIST_WORKER' in os.environ else folder) / 'six voices'
    with FileLock('%s.lock' % folder):
        if not (folder / 'trained').exists():
            train_six_voices(folder)
    return folder


def train_six_voices(folder):
    import train  # here, so that tests of features alone do not wait for torch
    shutil.rmtree(folder, ignore_errors=True)  # what a process left that failed
    folder.mkdir()
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(folder)
        demo_voices.make_train_features(c.TRAIN_FEAT_DIR, first=242, n_voices=6, n_utterances=16)
        demo_voices.make_test_features(c.TEST_WAV_DIR, c.TEST_FEAT_DIR, first=242, n_voices=6)
        with open('train.log', 'w') as log, contextlib.redirect_stdout(log):
            train.main(n_epochs=SIX_EPOCHS, scheduler_type='onecycle', optimizer_type='adamw', lr=5e-3,
                       batch_size=16)
    (folder / 'trained').touch()


@pytest.fixture
def figures(monkeypatch):
    """The list of the figures that the test draws: they stay open until its end."""
    drawn = []
    with monkeypatch.context() as patched:
        patched.setattr(pictures.plt, 'close', drawn.append)
        yield drawn
    pictures.plt.close('all')
