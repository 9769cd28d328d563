"""Files made to do harm are refused in a line or two. Nothing that would be a silent wrong answer is
scored."""
import shutil
import json
import os
import pickle

import numpy as np
import pandas as pd
import pytest
import torch

import attacks
import configure as c
import deep_dive.networks  # noqa: F401: if load_model imported it within limits, that would seem an attack
import encodings.utf_8_sig  # noqa: F401: here for the same reason
import enroll
import fuzz
import identification
import model as lab_model
import train
import verification
from DB_wav_reader import convert_wavs, read_audio
from SR_Dataset import read_MFB
from conftest import FirstFrame
from deep_dive.trials import read_trials
from exercises import scoring
from fuzz import answer, limits
from support import enrolments, messages, recordings, runs, safe_files
from support.messages import LabError

ORIGIN = {'LEVEL_DBFS': None,
          'bandwidth': None}  # of a feature file that this suite did not make from a recording


def answers_to(files, read, filename):
    """dict name -> (kind, message) of every file. Asserts that none is answered wrongly, and that nothing is
    left."""
    found = {}
    with limits(filename.parent):
        for name, content in files.items():
            filename.write_bytes(content)
            found[name] = answer(read, filename)
            assert found[name][0] != 'WRONG', (name, found[name])
    assert os.listdir(filename.parent) == [filename.name]
    return found


def names_of(found, kind='', part=''):
    return {name for name, (its_kind, message) in found.items() if kind in its_kind and part in message}


def test_pickles_made_to_do_harm(lab):
    stand_ins = [safe_files.PickledDtype, safe_files.PickledArray, safe_files.PickledBuffer,
                 safe_files.PickledDict]
    before = [dict(vars(cls)) for cls in stand_ins]
    found = answers_to(attacks.pickle_attacks(), read_MFB, lab / 'a.p')
    assert len(found) > 300 and names_of(found, 'read') == set()
    assert names_of(found, part='MemoryError') <= {'bytearray of 8 EB'}
    assert before == [dict(vars(cls)) for cls in stand_ins]  # a pickle can set attributes of what it may name
    for name, (_, message) in found.items():
        if name.startswith(('global', 'stack_global', 'inst')):
            assert 'is not allowed in it' in message, (name, message)
    (lab / 'a.p').write_bytes(attacks.feature_pickle())
    assert read_MFB('a.p')[0].shape == (100, 40)  # the attacks are variations of this


def test_wavs_made_to_do_harm(lab, monkeypatch):
    monkeypatch.setattr(shutil, 'which', lambda name: None)  # ffmpeg would be asked about files that are no wavs
    found = answers_to(attacks.wav_attacks(), read_audio, lab / 'a.wav')
    assert len(found) > 150
    for name in names_of(found, 'read'):
        assert not any(word in name for word in ('NaN', 'infinity', 'cut in fmt', '0 channels', 'e38',
                                                 'RF64 ds64 0')), name
    (lab / 'a.wav').write_bytes(attacks.wav(attacks.syllables().tobytes()))
    assert len(read_MFB('a.wav')[0]) > 40


@pytest.mark.skipif(shutil.which('ffmpeg') is None, reason='needs ffmpeg')
def test_files_for_ffmpeg_made_to_do_harm(lab):
    for name, content in attacks.ffmpeg_attacks().items():
        (lab / name).write_bytes(content)
        with pytest.raises(LabError, match='%s: ffmpeg cannot read it' % name) as error:
            read_audio(name)
        assert len(str(error.value).splitlines()) <= 2, error.value
    assert sorted(os.listdir()) == sorted(attacks.ffmpeg_attacks())


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
    assert len(found) > 50 and names_of(found, 'read') == set()
    # More numbers than the file has: they would fill the memory, or be repetitions of a few
    claims = {'repeated rows', 'repeated rows, before 2020', 'huge before a zip', 'lda of repeated rows'}
    assert names_of(found, part='claims more numbers than it has') == claims
    assert {'zip bomb', 'zip bomb beside it'} == names_of(found, part='unpack to more than its own size')


def test_a_damaged_byte_of_a_checkpoint_is_noticed(lab):
    state_dict = {'last.weight': torch.arange(6.).reshape(2, 3), 'n': torch.tensor(3)}
    content = attacks.rewritten({'epoch': 2, 'state_dict': state_dict})
    weights = state_dict['last.weight'].numpy().tobytes()
    place = content.index(weights)
    for i in [*range(place, place + len(weights)), *range(0, len(content), 7)]:
        damaged = bytearray(content)
        damaged[i] ^= 64
        (lab / 'checkpoint_1.pth').write_bytes(damaged)
        try:
            found, _ = safe_files.read_checkpoint('checkpoint_1.pth')
        except LabError as error:
            assert len(str(error).splitlines()) <= 2
            assert 'a checksum is wrong: the file is damaged' in str(error) or i not in range(place,
                                                                                              place + 24)
        else:  # a byte that stands for nothing, such as a date
            assert i not in range(place, place + len(weights)) and found['epoch'] == 2
            torch.testing.assert_close(found['state_dict'], state_dict, rtol=0, atol=0)


def test_trial_lists_made_to_do_harm(lab):
    found = answers_to(attacks.trial_attacks(), read_trials, lab / 'a.txt')
    assert names_of(found, 'read') == set() and 'UTF-8' in found['utf-16'][1]


@pytest.mark.skipif(not hasattr(os, 'mkfifo'), reason='Windows has no such files')
@pytest.mark.parametrize('name, read', [
    ('a.p', read_MFB), ('a.wav', read_audio), ('a.txt', read_trials), ('a.pth', safe_files.read_checkpoint),
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
                                     '{"settings": {}, "epochs": [1]}',
                                     '{"settings": {}, "epochs": [{"lr": 1}]}'],
                         ids=lambda content: content[:9])
def test_a_broken_run_file_is_named(lab, content):
    (lab / 'run.json').write_text(content)
    with pytest.raises(LabError, match='run.json: not what train.py wrote there .*Set start = 1') as error:
        runs.read_run('.')
    assert len(str(error.value).splitlines()) <= 2


@pytest.mark.parametrize('suffix', ['.p', '.wav'])
def test_changed_files(lab, suffix, monkeypatch):
    monkeypatch.setattr(shutil, 'which', lambda name: None)  # no ffmpeg
    counts, wrong, n_steps = fuzz.fuzz(suffix, 200, 0, str(lab))  # by_hand/fuzz.py makes 100,000
    assert wrong == {} and counts['refused'] > 40 and counts['read'] > 10 and n_steps > 50


# ------------------------------------------------------------------------------------- no silent wrong answer

class Constant(FirstFrame):
    """A network whose embedding is always the same."""

    def __init__(self, *values):
        super().__init__()
        self.values = torch.tensor([values])

    def forward(self, x):
        return self.values.expand(len(x), -1), None


def verify(embedding, path, model=None):
    return verification.perform_verification(False, model or FirstFrame(), {'a': embedding}, 'a', path, 100,
                                             -1.0)


NO_DIRECTION = [[0.0, 0.0], [np.nan, 1.0], [np.inf, 1.0]]


@pytest.mark.parametrize('values', NO_DIRECTION, ids=str)
def test_an_embedding_of_no_direction_is_never_accepted(write_vector, capsys, values):
    path = write_vector('feat/b/test.p', 3, 4)
    DB = pd.DataFrame({'filename': [path], 'speaker_id': ['b']})
    with pytest.raises(LabError, match="the embedding of 'a' is zero, infinite or not a number"):
        verify(torch.tensor([values]), path)
    with pytest.raises(LabError, match="the embedding of 'a' is zero"):
        identification.perform_identification(False, FirstFrame(), {'a': torch.tensor([values])}, path, 100,
                                              ['a'])
    reason = 'b/test.p: its d-vector is zero, infinite or not a number'
    with pytest.raises(LabError, match=reason):
        verify(torch.ones(1, 2), path, Constant(*values))
    with pytest.raises(LabError, match='Nobody is enrolled'):
        enroll.enroll_per_spk(False, 200, Constant(*values), DB, 'e')
    printed = capsys.readouterr()
    assert reason in printed.err and 'Accept' not in printed.out and not os.path.exists('e')


def test_scores_that_are_no_numbers_are_refused():
    with pytest.raises(LabError, match='1 of 2 scores are not numbers: a d-vector is zero or NaN'):
        scoring.cosine_scores(np.array([[1.0, 0.0], [0.0, 0.0]]), np.array([[1.0, 0.0]]))
    with pytest.raises(LabError, match='2 of 3 scores are not numbers'):
        scoring.trial_scores(np.array([[1.0, 0], [1, 1], [0, 0]]), np.array([0, 1, 2]), np.array([1, 2, 0]))


@pytest.fixture
def loaded(lab):
    """A network loaded from checkpoint_1.pth."""
    torch.manual_seed(0)
    network = lab_model.background_resnet(16, 4)
    runs.save_checkpoint('model_saved/checkpoint_1.pth', {'state_dict': network.state_dict()})
    return lab_model.load_model(False, 'model_saved', 1, None, None)


def refused_enrolment(loaded, match='embeddings.p'):
    """The message that refuses the enrolment in the folder 'enrolled'."""
    with pytest.raises(LabError, match=match) as error:
        lab_model.load_enroll_embeddings('enrolled', model=loaded)
    message = str(error.value)
    assert len(message.splitlines()) <= 2 and len(message) < 1000 and '\x1b' not in message


def test_enrolments_that_must_not_be_scored(loaded, lab):
    (lab / 'enrolled').mkdir()
    for name, content in attacks.enrolment_attacks().items():
        speakers = pickle.loads(content)
        made_with = {**loaded.checkpoint, 'recordings': {str(name): ORIGIN for name in speakers}}
        (lab / 'enrolled/embeddings.p').write_bytes(content + pickle.dumps(made_with, 4))
        refused_enrolment(loaded)


@pytest.mark.parametrize('changed', [
    {'sha256': np.ones(2)}, {'file': 5}, {'file': 'a\n' * 9}, {'file': '\x1b[2J'}, {'recordings': [ORIGIN]},
    {'recordings': {'a': 5}}, {'recordings': {'a': {}}}, {'recordings': {'a\n': ORIGIN}},
    {'recordings': {'a': {**ORIGIN, 'LEVEL_DBFS': np.ones(2)}}},
    {'recordings': {'a': {**ORIGIN, 'bandwidth': 'a\n' * 9}}}], ids=str)
def test_an_enrolment_of_a_strange_origin_is_refused(loaded, changed):
    safe_files.write_pickles('enrolled/embeddings.p', {'a': np.ones((1, 16), np.float32)},
                             {**loaded.checkpoint, 'recordings': {'a': ORIGIN}, **changed})
    refused_enrolment(loaded, 'not a dict of speakers')


def test_an_enrolment_that_does_not_fit_is_refused(loaded, write_feat):
    lab_model.save_enroll_embeddings('enrolled', {'a': torch.ones(1, 16)}, loaded,
                                     {'a': {**ORIGIN, 'LEVEL_DBFS': -44}})
    assert torch.equal(lab_model.load_enroll_embeddings('enrolled', model=loaded)['a'], torch.ones(1, 16))
    origins = enrolments.read_enrolment('enrolled')[1]['recordings']
    with pytest.raises(LabError, match='test.p is not levelled, the enrolment of a is levelled to -44 dBFS'):
        recordings.compare_origins(origins, write_feat('a/test.p'))
    embeddings = {'a': np.ones((1, 16), np.float32)}
    safe_files.write_pickles('enrolled/embeddings.p', embeddings, loaded.checkpoint)
    refused_enrolment(loaded, 'does not say how its recordings were made')
    safe_files.write_pickles('enrolled/embeddings.p', embeddings)  # as the original lab wrote it
    refused_enrolment(loaded, 'was made with an unknown checkpoint')


@pytest.mark.parametrize('content', [5, [1], {'feat': 1}, {'label': 'a'}, None], ids=str)
def test_what_is_no_feature_file_is_named(lab, content):
    safe_files.write_pickles('feat/a/test.p', content)
    with pytest.raises(LabError, match='test.p: not a feature file'):
        read_MFB('feat/a/test.p')
    with pytest.raises(LabError, match='test.p: not a feature file'):
        recordings.compare_origins({'a': ORIGIN}, 'feat/a/test.p')
    os.makedirs('wavs/a')
    (lab / 'wavs/a/test.wav').write_bytes(attacks.wav(attacks.syllables().tobytes()))
    assert convert_wavs('wavs', 'feat') == [] and safe_files.read_pickles('feat/a/test.p') == [content]


def test_names_in_messages_are_one_line(lab):
    feature = np.zeros((200, 40))
    for content in ({'feat': feature, 'label': 'a' * 10**6}, {'feat': feature, 'label': 'a\nb'},
                    {'feat': feature, 'label': 'a', 'settings': {'S%d' % i: 1 for i in range(10000)}},
                    {'feat': feature, 'label': 'a', 'recording': {'LEVEL_DBFS': 'a\nb'}}):
        safe_files.write_pickles('a.p', content)
        with pytest.raises(LabError, match="'label' a name") as error:
            read_MFB('a.p')
        assert len(str(error.value)) < 1000


class Nine(list):
    """Stands for a dataset."""
    n_classes = 4


def test_a_training_cannot_go_on_from_a_checkpoint_that_lacks_something(lab):
    network, parameter = lab_model.background_resnet(16, 4), torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
    epoch = {'train_loss': 1.0, 'valid_loss': 1.0, 'lr': 0.1, 'seconds': 1.0}
    settings = {**messages.defaults_of(train.main), 'train_dir': 'feat', 'log_dir': '.', 'start': 2}
    content = {'corpus': 'feat', 'utterances': 9, 'classes': 4, 'settings': settings, 'epochs': [epoch]}
    (lab / 'run.json').write_text(json.dumps(content))
    run = runs.Run(settings, [Nine(range(9))], network, torch.nn.CrossEntropyLoss(), optimizer, scheduler)
    for more in ({}, {'scheduler': [1]},
                 {'scheduler': scheduler.state_dict(), 'criterion': {'a': torch.ones(1)}},
                 {'scheduler': scheduler.state_dict(), 'criterion': {}, 'optimizer': {'state': 1}}):
        runs.save_checkpoint('checkpoint_1.pth', {'state_dict': network.state_dict(), **more})
        with pytest.raises(LabError, match='checkpoint_1.pth: no training can go on from it .*\nSet start'):
            run.go_on()


def test_a_checkpoint_of_other_features_is_refused(loaded, monkeypatch):
    monkeypatch.setattr(c, 'ENERGY_FLOOR',
                        1e-7)  # a checkpoint that does not name its features has the published ones
    with pytest.raises(LabError,
                       match='1.pth was trained on other features: ENERGY_FLOOR = 1e-05 there, 1e-07'):
        lab_model.load_model(False, 'model_saved', 1, None, None)
