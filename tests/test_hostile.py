"""Files made to do harm are refused, and nothing that would be a silent wrong answer is scored."""
import io
import os
import tracemalloc

import numpy as np
import pandas as pd
import pytest
import torch

import DB_wav_reader as reader
import attacks
import configure as c
import enroll
import fuzz
import identification
import model as lab_model
from deep_dive import scoring
import verification
from SR_Dataset import read_MFB
from conftest import FirstFrame
from deep_dive import schedules
from fuzz import answer, limits
from support import runs, safe_files
from support.messages import LabError

# Memory that reading a file may take: in times its size, and bytes in any case
TIMES, AT_LEAST = 25, 6e6
TIMES_WAV = 70  # a byte of an 8-bit wav is a float64 of 8 bytes, at twice the rate two; some stages are there at once
AT_LEAST_WAV = 6e7  # the filter for odd rates


def answers_to(files, read, filename, times=TIMES, at_least=AT_LEAST):
    """dict name -> (kind, message) of every file; nothing of them is wrong, and nothing takes much memory."""
    found = {}
    with limits(filename.parent):
        for name, content in files.items():
            filename.write_bytes(content)
            tracemalloc.start()
            found[name] = answer(read, filename)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert found[name][0] != 'WRONG', (name, found[name])
            assert peak < at_least + times * len(content), '%s: %d bytes took %d' % (name, len(content), peak)
    assert os.listdir(filename.parent) == [filename.name]
    return found


def read_ones(found):
    return {name for name, (kind, _) in found.items() if kind == 'read'}


def test_pickles_made_to_do_harm(lab):
    before = {cls: dict(vars(cls)) for cls in (safe_files.PickledDtype, safe_files.PickledArray, safe_files.PickledBuffer)}
    found = answers_to(attacks.pickle_attacks(), read_MFB, lab / 'a.p')
    assert len(found) > 300 and read_ones(found) == set()
    assert before == {cls: dict(vars(cls)) for cls in before}
    for name, (_, message) in found.items():
        if name.startswith(('global', 'stack_global', 'inst', 'ext')):
            assert 'is not allowed in it' in message or 'named only' in name, (name, message)
    (lab / 'a.p').write_bytes(attacks.feature_pickle())
    assert read_MFB('a.p')[0].shape == (100, 40)  # what the attacks are variations of


def test_wavs_made_to_do_harm(lab):
    found = answers_to(attacks.wav_attacks(), reader.read_audio, lab / 'a.wav', TIMES_WAV, AT_LEAST_WAV)
    assert len(found) > 150
    for name in read_ones(found):
        assert not any(word in name for word in ('NaN', 'infinity', 'cut', '0 channels', 'e38', 'RF64 ds64 0')), name
    (lab / 'a.wav').write_bytes(attacks.wav(attacks.syllables().tobytes()))
    assert len(read_MFB('a.wav')[0]) > 40


def test_a_long_recording_takes_a_small_multiple_of_its_size(lab):
    content = attacks.wav(np.resize(attacks.syllables(), 300 * 16000).tobytes())
    (lab / 'a.wav').write_bytes(content)
    tracemalloc.start()
    assert len(read_MFB('a.wav')[0]) > 29000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2e8 + 20 * len(content)


def test_checkpoints_made_to_do_harm(lab):
    torch.manual_seed(0)
    network = lab_model.background_resnet(16, 4)
    for new in (True, False):  # as PyTorch writes them, and as it did before 2020
        torch.save({'epoch': 2, 'state_dict': network.state_dict(), 'optimizer': {}}, 'checkpoint_1.pth',
                   _use_new_zipfile_serialization=new)
        loaded = lab_model.load_model(False, '.', 1, 16, 4)
        torch.testing.assert_close(loaded.state_dict(), network.state_dict())
    os.mkdir('checkpoints')
    found = answers_to(attacks.checkpoint_attacks(network.state_dict()),
                       lambda filename: lab_model.load_model(False, 'checkpoints', 'a', None, None),
                       lab / 'checkpoints/checkpoint_a.pth')
    assert len(found) > 45 and read_ones(found) == set()


def test_what_was_looked_at_is_what_is_loaded():
    shown, hidden = attacks.rewritten({'state_dict': {}}), attacks.rewritten({'hidden': {}})
    content = attacks.two_in_one(shown, hidden)
    assert torch.load(io.BytesIO(content), weights_only=True) == {'hidden': {}}
    assert torch.load(io.BytesIO(safe_files.checked_checkpoint(content)), weights_only=True) == {'state_dict': {}}


def test_trial_lists_made_to_do_harm(lab):
    found = answers_to(attacks.trial_attacks(), scoring.read_trials, lab / 'a.txt')
    assert read_ones(found) == set() and 'UTF-8' in found['utf-16'][1]


@pytest.mark.skipif(not hasattr(os, 'mkfifo'), reason='Windows has no such files')
@pytest.mark.parametrize('name, read', [('a.p', read_MFB), ('a.wav', reader.read_audio), ('a.txt', scoring.read_trials),
                                        ('run.json', lambda name: runs.read_run('.'))])
def test_pipes_and_devices_are_not_waited_for(lab, name, read):
    os.mkfifo(name)
    with pytest.raises(LabError, match='%s: not a file|there is no such trial list' % name):
        read(name)
    os.remove(name)
    os.symlink('/dev/zero', name)
    with pytest.raises(LabError, match='%s: not a file|there is no such trial list' % name):
        read(name)


@pytest.mark.parametrize('content', ['{"epochs": [', '[]', '{"settings": 1, "epochs": []}', 100000 * '[',
                                     '{"settings": {}, "epochs": [1]}', '{"settings": {}, "epochs": [{"lr": 1}]}'],
                         ids=lambda content: content[:9])
def test_a_broken_run_file_is_named(lab, content):
    runs.save_checkpoint('model_saved/checkpoint_1.pth', {'state_dict': {}})
    (lab / 'model_saved/run.json').write_text(content)
    with pytest.raises(LabError, match='run.json: not what train.py wrote there .*To start over, remove it'):
        runs.check_log_dir('model_saved', {}, 1)


@pytest.mark.parametrize('suffix', ['.p', '.wav'])
def test_changed_files(lab, suffix):
    counts, wrong, n_steps = fuzz.fuzz(suffix, 1000, 0, str(lab))
    assert wrong == {} and counts['refused'] > 500 and counts['read'] > 10 and n_steps > 200


# ------------------------------------------------------------------------------------------- no silent wrong answer

class Constant(FirstFrame):
    """A network whose embedding is always the same."""

    def __init__(self, *values):
        super().__init__()
        self.values = torch.tensor([values])

    def forward(self, x):
        return self.values.expand(len(x), -1), None


def verify(embedding, path, model=None):
    return verification.perform_verification(False, model or FirstFrame(), {'a': embedding}, 'a', path, 100, -1.0)


NO_DIRECTION = [[0.0, 0.0], [np.nan, 1.0], [np.inf, 1.0]]


@pytest.mark.parametrize('values', NO_DIRECTION, ids=str)
def test_an_embedding_of_no_direction_is_never_accepted(write_vector, capsys, values):
    path = write_vector('feat/b/test.p', 3, 4)
    DB = pd.DataFrame({'filename': [path], 'speaker_id': ['b']})
    with pytest.raises(LabError, match="the embedding of 'a' is zero, infinite or not a number"):
        verify(torch.tensor([values]), path)
    with pytest.raises(LabError, match="the embedding of 'a' is zero"):
        identification.perform_identification(False, FirstFrame(), {'a': torch.tensor([values])}, path, 100, ['a'])
    with pytest.raises(LabError, match='b/test.p: its d-vector is zero, infinite or not a number'):
        verify(torch.ones(1, 2), path, Constant(*values))
    with pytest.raises(LabError, match='b/test.p: its d-vector is zero'):
        enroll.enroll_per_spk(False, 200, Constant(*values), DB, 'e')
    with pytest.raises(LabError, match='d-vectors of 2 numbers cannot be compared with those of 1'):
        verify(torch.ones(1, 1), path)
    assert 'Accept' not in capsys.readouterr().out and not os.path.exists('e')


def test_scores_that_are_no_numbers_are_refused(write_vector, capsys):
    with pytest.raises(LabError, match='1 of 2 scores are not numbers: a d-vector is zero or NaN'):
        scoring.cosine_scores(np.array([[1.0, 0.0], [0.0, 0.0]]), np.array([[1.0, 0.0]]))
    with pytest.raises(LabError, match='2 of 3 scores are not numbers'):
        scoring.trial_scores(np.array([[1.0, 0], [1, 1], [0, 0]]), np.array([0, 1, 2]), np.array([1, 2, 0]))
    path = write_vector('feat/b/test.p', 3, 4)
    with pytest.raises(LabError, match='1 of 1 scores are not numbers'):  # a backend that takes all of it away
        verification.perform_verification(False, FirstFrame(), {'a': torch.ones(1, 2)}, 'a', path, 100, -1.0,
                                          project=lambda d_vectors: d_vectors * 0)
    assert capsys.readouterr().out == ''


@pytest.fixture
def loaded(lab):
    """A network loaded from checkpoint_1.pth."""
    torch.manual_seed(0)
    network = lab_model.background_resnet(16, 4)
    runs.save_checkpoint('model_saved/checkpoint_1.pth', {'state_dict': network.state_dict()})
    return lab_model.load_model(False, 'model_saved', 1, None, None)


def test_enrolments_that_must_not_be_scored(loaded, lab):
    for name, content in attacks.enrolment_attacks().items():
        safe_files.write_pickles('enrolled/embeddings.p', loaded.checkpoint)
        (lab / 'enrolled/embeddings.p').write_bytes(content + (lab / 'enrolled/embeddings.p').read_bytes())
        with pytest.raises(LabError, match='embeddings.p') as error:
            lab_model.load_enroll_embeddings('enrolled', model=loaded)
        assert len(str(error.value).splitlines()) <= 2, name


@pytest.mark.parametrize('changed', [{'sha256': np.ones(2)}, {'file': 5}, {'file': 'a\n' * 9}, {'file': '\x1b[2J'},
                                     {'LEVEL_DBFS': np.ones(2)}, {'LEVEL_DBFS': 'a\n' * 9}], ids=str)
def test_an_enrolment_of_a_strange_origin_is_refused(loaded, changed):
    safe_files.write_pickles('enrolled/embeddings.p', {'a': np.ones((1, 16), np.float32)}, {**loaded.checkpoint, **changed})
    with pytest.raises(LabError, match='not a dict of speakers') as error:
        lab_model.load_enroll_embeddings('enrolled', model=loaded)
    assert len(str(error.value).splitlines()) <= 2 and '\x1b' not in str(error.value)


def test_names_in_messages_are_one_line(lab):
    feature = np.zeros((200, 40))
    for content in ({'feat': feature, 'label': 'a' * 10**6}, {'feat': feature, 'label': 'a\nb'},
                    {'feat': feature, 'label': 'a', 'settings': {'S%d' % i: 1 for i in range(10000)}}):
        safe_files.write_pickles('a.p', content)
        with pytest.raises(LabError, match="'label' a name") as error:
            read_MFB('a.p')
        assert len(str(error.value)) < 1000


def test_a_training_cannot_go_on_from_a_checkpoint_that_lacks_something(lab):
    network, parameter = lab_model.background_resnet(16, 4), torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    scheduler = schedules.create_scheduler('plateau', optimizer, lr=0.1, patience=2, min_lr=1e-4, warm_up=0.3, n_steps=9)
    for more in ({}, {'scheduler': [1]}, {'scheduler': scheduler.state_dict(), 'criterion': {'a': torch.ones(1)}}):
        runs.save_checkpoint('checkpoint_1.pth', {'state_dict': network.state_dict(), **more})
        with pytest.raises(LabError, match='checkpoint_1.pth: no training can go on from it .*\nSet start'):
            runs.continue_run('.', 2, network, torch.nn.CrossEntropyLoss(), optimizer, scheduler)


def test_an_enrolment_of_another_level_is_refused(loaded, monkeypatch):
    lab_model.save_enroll_embeddings('enrolled', {'a': torch.ones(1, 16)}, loaded)
    assert torch.equal(lab_model.load_enroll_embeddings('enrolled', model=loaded)['a'], torch.ones(1, 16))
    for level in (-26, None):
        monkeypatch.setattr(c, 'LEVEL_DBFS', level)
        with pytest.raises(LabError, match=r'LEVEL_DBFS = -44 there, %s in configure.py' % level):
            lab_model.load_enroll_embeddings('enrolled', model=loaded)
    monkeypatch.setattr(c, 'LEVEL_DBFS', None)  # None is a setting, and not what nobody wrote down
    lab_model.save_enroll_embeddings('enrolled', {'a': torch.ones(1, 16)}, loaded)
    lab_model.load_enroll_embeddings('enrolled', model=loaded)
    safe_files.write_pickles('enrolled/embeddings.p', {'a': np.ones((1, 16), np.float32)}, loaded.checkpoint)
    with pytest.raises(LabError, match='LEVEL_DBFS = not said there, None in configure.py'):
        lab_model.load_enroll_embeddings('enrolled', model=loaded)


def test_a_speaker_enrolled_twice_is_refused(loaded, write_feat):
    with pytest.raises(LabError, match='a and b are the same recording'):
        lab_model.save_enroll_embeddings('enrolled', {'a': torch.ones(1, 16), 'b': torch.ones(1, 16)}, loaded)
    assert not os.path.exists('enrolled')
    twins = {name: np.ones((1, 16), np.float32) for name in 'ab'}
    safe_files.write_pickles('enrolled/embeddings.p', twins, {**loaded.checkpoint, 'LEVEL_DBFS': c.LEVEL_DBFS})
    with pytest.raises(LabError, match='a and b are the same recording'):
        lab_model.load_enroll_embeddings('enrolled', model=loaded)
    for name in ('old/a/enroll.p', 'new/a/enroll.p', 'new/a/test.p'):
        write_feat('feat/' + name)
    with pytest.raises(LabError, match='feat/new/a and .*feat/old/a are both a folder of speaker a'):
        reader.split_enroll_and_test('feat')


def test_a_checkpoint_of_other_features_is_refused(loaded, monkeypatch):
    monkeypatch.setattr(c, 'ENERGY_FLOOR', 1e-7)
    with pytest.raises(LabError,
                       match='checkpoint_1.pth was trained on other features: ENERGY_FLOOR = 1e-05 there, 1e-07'):
        lab_model.load_model(False, 'model_saved', 1, None, None)
