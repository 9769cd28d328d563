"""What several tests need: the lab's modules on the path, a lab of six voices, short ways to make files."""
import contextlib
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

PROJECT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(PROJECT), str(PROJECT / 'tests'), str(PROJECT / 'experiments')]  # the tests run from any folder

import configure as c  # noqa: E402
import DB_wav_reader  # noqa: E402
from support import checks, demo_voices, messages  # noqa: E402
from subset import link_subset  # noqa: E402


def changed_source(script, replacements):
    """The source of a script in which a student has changed some lines, each of them found once."""
    source = (PROJECT / script).read_text()
    for old, new in replacements:
        assert source.count(old) == 1, old
        source = source.replace(old, new)
    return source


def lines_of_main(script, values):
    """The replacements that give settings in main() of a script other values: {name: value}."""
    source = (PROJECT / script).read_text()
    return [(re.search(r'^    %s = .*$' % name, source, re.MULTILINE).group(), '    %s = %r' % (name, value))
            for name, value in values.items()]


def run_copy(script, replacements):
    """main() of a copy of a script in which a student has changed some lines."""
    namespace = {'__name__': 'a copy', '__file__': str(PROJECT / script)}
    exec(compile(changed_source(script, replacements), str(PROJECT / script), 'exec'), namespace)
    namespace['main']()


class FirstFrame(torch.nn.Module):
    """In place of a network: the embedding of a feature map is its first two filters in the first frame."""

    def __init__(self):
        super().__init__()
        self.anchor = torch.nn.Parameter(torch.zeros(1))
        self.checkpoint, self.backend = {'file': 'none', 'sha256': 'none'}, {}

    def forward(self, x):  # (batch, 1, 40, n_frames)
        return x[:, 0, :2, 0], None


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """An empty folder to run the scripts in: the paths of configure.py are relative, so they lead into it."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def stopped_with(capsys):
    """Calls a script's main() as the command line does, and returns its one or two lines of error."""
    def run(main):
        with pytest.raises(SystemExit) as stop:
            messages.run_script(main)
        message = str(stop.value.code)  # a string: Python prints it to stderr and exits with code 1
        assert message.startswith('Error: ') and 'Traceback' not in message
        assert 1 <= len(message.splitlines()) <= 2, message
        return message
    return run


@pytest.fixture
def write_feat():
    """Writes a feature file of random numbers, after the recipe's format; returns its name."""
    def write(filename, n_frames=200, label=None, seed=0):
        feature = np.random.default_rng(seed).normal(size=(n_frames, checks.feature_size()))
        DB_wav_reader.write_feature(filename, feature, label or Path(filename).parent.name)
        return str(filename)
    return write


@pytest.fixture
def write_vector(lab):
    """Writes a feature file whose embedding under FirstFrame points to (x, y)."""
    def write(filename, x, y):
        feature = np.zeros((200, 40))
        feature[:, 0], feature[:, 1] = x, y
        DB_wav_reader.write_feature(filename, feature, filename.split('/')[-2])
        return filename
    return write


@pytest.fixture
def six_voices_features(six_voices, lab):
    """Sixteen training utterances of each of the six voices, in a folder to train in that holds nothing else."""
    link_subset(six_voices / c.TRAIN_FEAT_DIR, lab / c.TRAIN_FEAT_DIR, 6, slice(16))


@pytest.fixture(scope='session')
def six_voices(tmp_path_factory):
    """A trained lab: six of the test voices are also trained on. What train.py printed is in train.log."""
    import train  # here, so that tests of features alone do not wait for torch
    folder = tmp_path_factory.mktemp('six voices')
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(folder)
        first = demo_voices.N_TRAIN_VOICES + 2
        demo_voices.make_train_features(c.TRAIN_FEAT_DIR, first=first, n_voices=6, n_utterances=70)
        demo_voices.make_test_features(c.TEST_WAV_DIR, c.TEST_FEAT_DIR, first=first, n_voices=6)
        with open('train.log', 'w') as log, contextlib.redirect_stdout(log):
            train.main()
    return folder
