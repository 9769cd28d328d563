"""Settings: how the command line is read, what --help prints, and that no wrong value gets through to the work."""
import inspect
import math
import multiprocessing
import os
import re
import runpy
import signal
import sys
import threading
from pathlib import Path

import pytest

import DB_wav_reader
import enroll
import identification
import train
import verification
from deep_dive import gmm
from support import checks, messages
from support.messages import LabError

# ------------------------------------------------------------------------------------------- every wrong value

VALUES = ['yes', '100', '', 'a\nb\nc', '[a', '[a\nb\nc', 'x' * 400, 0, 1, 100, -1, 10 ** 10, 10 ** 400, 0.5, -0.5, 2.5,
          95.0, 1e10, math.nan, math.inf, -math.inf, True, False, None, 1j, b'yes', object, [], ['yes'], [1], [None],
          [[]], [math.nan], (), (1,), ('far', 0.5), ('far', 2), {}, {'yes': 1}, {1}]

# Those of VALUES that are right for a setting. All others must be refused
BOOL, COUNT, POSITIVE, NAME = [True, False], [1, 100], [0.5, 1, 2.5, 95.0, 100], ['yes', '100']
OF_LOADING = {'use_cuda': BOOL, 'log_dir': NAME, 'embedding_size': [*COUNT, None], 'cp_num': [0, *COUNT, *NAME],
              'n_classes': [*COUNT, None], 'test_frames': [*COUNT, None], 'embedding_dir': NAME, 'test_dir': NAME,
              'plot': BOOL}
SCORES = [-1, -0.5, 0, 0.5, 1]
SETTINGS = {
    train: {
        'use_cuda': BOOL, 'val_ratio': [0.5, 1, 2.5, 95.0], 'embedding_size': [100], 'start': COUNT, 'n_epochs': COUNT,
        'lr': POSITIVE, 'wd': [0, *POSITIVE], 'optimizer_type': [], 'batch_size': [100], 'valid_batch_size': COUNT,
        'use_shuffle': BOOL, 'patience': [0, *COUNT], 'min_lr': [0, *POSITIVE], 'seed': [0, *COUNT],
        'scheduler_type': [], 'warm_up': [0.5], 'backbone': [], 'pooling': [], 'loss_type': [],
        'batch_speakers': [None], 'augment': [[]],
        'init_from': [None], 'freeze_backbone': [False], 'cache_gb': [0, *POSITIVE], 'num_workers': [0, *COUNT],
        'n_backend': COUNT, 'corpora': [{}, {'yes': 1}], 'val_speakers': [0, 100], 'train_dir': NAME,
        'log_dir': NAME, 'log_interval': COUNT, 'plot': BOOL},
    enroll: OF_LOADING,
    identification: {
        **OF_LOADING, 'cp_num': [0, *COUNT, *NAME, None], 'spk_list': [None, ['yes']], 'test_speaker': NAME,
        'test_file': [None, *NAME], 'thres': [None, *SCORES], 'backend': [], 'normalise': [None],
        'piece_seconds': [None, [1], *POSITIVE]},
    verification: {
        **OF_LOADING, 'enroll_speaker': NAME, 'test_speaker': NAME, 'thres': SCORES, 'backend': [], 'normalise': [None],
        'trials': NAME, 'enroll_file': [None], 'test_file': [None], 'piece_seconds': [None, *POSITIVE]},
    DB_wav_reader: {'train_wav_dir': NAME, 'train_feat_dir': NAME, 'test_wav_dir': NAME, 'test_feat_dir': NAME},
    gmm: {
        'train_dir': NAME, 'n_utterances': COUNT, 'n_components': COUNT, 'n_iterations': COUNT, 'seed': [0, *COUNT],
        'test_dir': NAME, 'relevance': POSITIVE, 'thres': [*SCORES, ('far', 0.5)], 'unseen_dir': ['', *NAME],
        'n_each': COUNT, 'n_enroll': COUNT}}
FURTHER = [  # right values that are not among VALUES
    *[(train, 'optimizer_type', value) for value in ('sgd', 'adam', 'adamw', 'adagrad')],
    *[(train, 'scheduler_type', value) for value in ('plateau', 'onecycle', 'cosine')],
    *[(train, 'backbone', value) for value in ('resnet18', 'resnet34', 'resnet50', 'resnet101', 'resnet152', 'vgg',
                                               'lstm', 'cnn_lstm', 'tdnn', 'ecapa', 'resnet_se', 'conformer')],
    *[(train, 'pooling', value) for value in ('average', 'statistics', 'attentive')],
    *[(train, 'loss_type', value) for value in ('softmax', 'center', 'asoftmax', 'amsoftmax', 'aamsoftmax',
                                                'subcenter')],
    *[(train, 'batch_speakers', value) for value in (2, 8, 32)],
    (train, 'augment', ['speed', 'level', 'room', 'microphone', 'noise', 'band', 'specaugment']),
    (train, 'seed', 10 ** 9),
    *[(script, 'backend', value) for script in (identification, verification)
      for value in ('cosine', 'centre', 'lda', 'wccn', 'plda')],
    *[(script, 'normalise', value) for script in (identification, verification) for value in ('s-norm', 'as-norm')],
    (identification, 'piece_seconds', [1, 2.5, None]), (enroll, 'cp_num', 'best'), (gmm, 'thres', 'eer'),
    (identification, 'thres', 'model'), (verification, 'thres', 'model')]
MISSING = {train: 'feat_logfbank_nfilt40/train does not exist', gmm: 'feat_logfbank_nfilt40/train does not exist',
           DB_wav_reader: 'There are no recordings to convert', **dict.fromkeys(
               [enroll, identification, verification], 'checkpoint_24.pth does not exist. Run python train.py first')}
NAMED = {'train_dir': '%s does not exist', 'log_dir': '%s/checkpoint_24.pth does not exist',
         'cp_num': 'model_saved/checkpoint_%s.pth does not exist'}  # what is missing if these are set


def is_refused(script, setting, value, message):
    """Whether this is the message about a wrong value. The other messages are about data that is missing."""
    if re.match('Error: (%s = |unknown %s: )' % (setting, setting), message):
        return True
    if setting == 'cp_num' and value is None:
        assert 'nobody is enrolled yet' in message
        return False
    missing = NAMED.get(setting, '') if (script, setting) != (train, 'log_dir') else ''
    assert (missing % value if missing else MISSING[script]) in message, (setting, value, message)
    return False


@pytest.mark.parametrize('script', SETTINGS, ids=lambda script: script.__name__)
def test_every_setting_with_a_value_of_every_kind(script, lab, stopped_with):
    right_values = SETTINGS[script]
    assert right_values.keys() == inspect.signature(script.main).parameters.keys()
    for setting, right in right_values.items():
        right = {repr(value) for value in right}  # because 1 == True
        assert right <= set(map(repr, VALUES))
        for value in VALUES:
            message = stopped_with(script.main, **{setting: value})
            assert is_refused(script, setting, value, message) == (repr(value) not in right), (setting, value, message)
            assert os.listdir() == []


def test_every_choice_is_taken(lab, stopped_with):
    for script, setting, value in FURTHER:
        message = stopped_with(script.main, **{setting: value})
        assert not is_refused(script, setting, value, message), message
    assert os.listdir() == []


def snapshot():
    return {path: path.is_dir() or (path.read_bytes(), path.stat().st_mtime_ns) for path in Path().rglob('*')}


def test_a_wrong_value_is_refused_before_anything_is_read_made_or_removed(lab, stopped_with):
    for name in ('feat_logfbank_nfilt40/train/a/1.p', 'feat_logfbank_nfilt40/test/a/enroll.p', 'train_wavs/a/1.wav',
                 'test_wavs/a/test.wav', 'model_saved/checkpoint_1.pth', 'model_saved/checkpoint_24.pth',
                 'model_saved/run.json', 'model_saved/loss_plot.png', 'enroll_embeddings/embeddings.p'):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(b'who reads this fails')
    before = snapshot()
    for script, right_values in SETTINGS.items():
        for setting in right_values:
            assert is_refused(script, setting, 1j, stopped_with(script.main, **{setting: 1j}))
    for settings in ({'n_epochs': 2.5}, {'start': 0}, {'val_ratio': 100}, {'augment': ['speed', 'echo']}):
        assert is_refused(train, *next(iter(settings.items())), stopped_with(train.main, **settings))
    assert snapshot() == before


@pytest.mark.parametrize('script, settings, complaint', [
    (train, {'n_epochs': 2.5}, 'n_epochs = 2.5: it must be a whole number'),
    (train, {'embedding_size': 0}, 'embedding_size = 0: it must be a whole number'),
    (train, {'use_cuda': 'yes'}, "use_cuda = 'yes': it must be True or False."),
    (train, {'lr': '1e-1'}, "lr = '1e-1': it must be a number above 0"),
    (train, {'batch_size': 1}, 'batch_size = 1: it must be a whole number'),
    (train, {'val_ratio': 0}, 'val_ratio = 0: it must be a percentage above 0 and below 100.'),
    (train, {'warm_up': 30}, 'warm_up = 30: it must be a number above 0 and below 1.'),
    (train, {'backbone': 'resnet'}, 'Choose one of resnet18, resnet34, resnet50, resnet101, resnet152, vgg, lstm,'),
    (train, {'scheduler_type': 'plato'}, 'Choose one of plateau, cosine, onecycle.'),
    (train, {'optimizer_type': 'sdg'}, 'Choose one of sgd, adam, adamw, adagrad.'),
    (train, {'augment': 'speed'}, "augment = 'speed': it must be a list of some of speed, level, room, "),
    (train, {'freeze_backbone': True}, 'freeze_backbone = True needs init_from: there is nothing to keep'),
    (train, {'init_from': 'no.pth'}, "init_from = 'no.pth': there is no such checkpoint."),
    (enroll, {'test_frames': '100'}, "test_frames = '100': it must be a whole number"),
    (enroll, {'cp_num': -1}, "cp_num = -1: it must be the number of an epoch, or a name such as 'best'."),
    (identification, {'spk_list': '103F3021'}, "spk_list = '103F3021': it must be a list of names, or None."),
    (identification, {'spk_list': '[103F3021, 7]'}, "--spk_list=\"['a', 'b']\""),
    (verification, {'thres': 95}, "thres = 95: it must be 'model', a number from -1 to 1, 'eer', or ('far', 0.01)"),
    (verification, {'thres': 'eer'}, "thres = 'eer' needs test_speaker = 'all'. For one test file, it must be a num"),
    (verification, {'thres': ('far', 0.1)}, "thres = ('far', 0.1) needs test_speaker = 'all'."),
])
def test_what_is_wrong_is_said(lab, stopped_with, script, settings, complaint):
    assert complaint in stopped_with(script.main, **settings)


@pytest.mark.parametrize('thres, is_right', [('eer', True), (('far', 0.1), True), (['far', 0.1], True), (0.9, True),
                                             (('far', 2), False), (('far',), False), (('miss', 0.1), False)])
def test_thresholds_for_all_trials(lab, stopped_with, thres, is_right):
    message = stopped_with(verification.main, test_speaker='all', thres=thres)
    assert is_refused(verification, 'thres', thres, message) == (not is_right)


def test_a_training_does_not_begin_with_a_checkpoint_that_it_moves_aside(lab, stopped_with):
    os.mkdir('model_saved')
    for name in ('checkpoint_3.pth', 'checkpoint_best.pth', 'checkpoint_etri240.pth'):
        (lab / 'model_saved' / name).touch()
    for name in ('checkpoint_3.pth', 'checkpoint_best.pth'):
        assert "init_from lies in log_dir = 'model_saved', whose checkpoints are moved aside. Set another" in (
            stopped_with(train.main, init_from='./model_saved/' + name))
        assert MISSING[train] in stopped_with(train.main, init_from='model_saved/' + name, log_dir='another')
    assert MISSING[train] in stopped_with(train.main, init_from='model_saved/checkpoint_etri240.pth')


def test_check_settings_returns_a_copy():
    settings = {'n_epochs': 3, 'plot': True, 'augment': ['speed'], 'loss_type': 'softmax'}
    checked = checks.check_settings(settings, checks.TRAIN_RULES, augment=['speed'], loss_type=['softmax'])
    assert checked == settings and checked is not settings


# ------------------------------------------------------------------------------------------- the command line

def main_of_a_script(
        # Settings of the slides
        n_epochs=30,  # how many epochs
        lr=1e-1,  # initial learning rate (try 1e-2)
        test_speaker='242M9242',  # who speaks; try 'all', or x=1, # 2
        # Beyond the slides
        spk_list=None,  # who can it be?
        augment=[],  # or some of ['speed', 'noise']
):
    return {'n_epochs': n_epochs, 'lr': lr, 'test_speaker': test_speaker, 'spk_list': spk_list, 'augment': augment}


@pytest.mark.parametrize('argument, value', [
    ('n_epochs=4', 4), ('n_epochs=-4', -4), ('n_epochs=4.0', 4.0), ('n_epochs=best', 'best'), ('n_epochs=007', '007'),
    ('n_epochs=None', None), ('n_epochs=True', True), ("n_epochs='4'", '4'), ('n_epochs=', ''),
    ('lr=1e-2', 0.01), ("lr=('far', 0.05)", ('far', 0.05)), ('lr=a=b', 'a=b'), ('lr=[1, 2', '[1, 2'),
    ('lr={[]: 1}', '{[]: 1}'), ('lr=__import__("os")', '__import__("os")'), ('lr=' + '(' * 10 ** 4, '(' * 10 ** 4),
    ('lr=' + '9' * 5000, '9' * 5000), ('lr=1+1', '1+1'),
    ('test_speaker=7021', '7021'), ('test_speaker=0.5', '0.5'), ('test_speaker=1e5', '1e5'), ('test_speaker=-1', '-1'),
    ('test_speaker=True', 'True'), ('test_speaker=103F3021', '103F3021'), ('test_speaker=my voice.wav', 'my voice.wav'),
    ("test_speaker='me'", 'me'), ('test_speaker=C:\\new\\me.wav', 'C:\\new\\me.wav'), ('test_speaker=[7]', [7]),
    ('spk_list=[1, None]', [1, None]), ("spk_list=['a', 'b']", ['a', 'b']), ('spk_list=a,b', 'a,b'),
    ("augment=['speed']", ['speed']),
])
def test_values_on_the_command_line(argument, value):
    settings = messages.read_command_line(main_of_a_script, ['--' + argument])
    name = argument.partition('=')[0]
    assert settings == {name: value} and type(settings[name]) is type(value)


def test_several_settings_on_the_command_line(monkeypatch):
    said = []

    def main(n_epochs=30, test_speaker='x', plot=True):
        said.append((n_epochs, test_speaker, plot))
    for arguments in ([], ['--test_speaker=1', '--plot=False'], ['--n_epochs=2', '--n_epochs=3']):
        monkeypatch.setattr(sys, 'argv', ['script', *arguments])
        messages.run_script(main)
    assert said == [(30, 'x', True), (30, '1', False), (3, 'x', True)]


@pytest.mark.parametrize('argument, complaint', [
    ('--n_epoch=4', 'unknown setting: n_epoch. Choose one of n_epochs, lr, test_speaker, spk_list, augment.'),
    ('--help=1', 'unknown setting: help. Choose one of n_epochs, '),
    ('--=4', 'unknown setting: . Choose one of n_epochs, '),
    ('--n_epochs', '--n_epochs: write a setting as --name=value, for example --n_epochs=30. All settings: --help'),
    ('n_epochs=4', 'n_epochs=4: write a setting as --name=value, for example --n_epochs=30.'),
    ('-n_epochs=4', '-n_epochs=4: write a setting as --name=value'), ('4', '4: write a setting as --name=value')])
def test_a_setting_that_is_not_understood(argument, complaint):
    with pytest.raises(LabError) as error:
        messages.read_command_line(main_of_a_script, ['--lr=1', argument])
    assert str(error.value).startswith(complaint)


def test_a_script_without_settings():
    for argument, complaint in (('x', 'x: write a setting as --name=value'), ('--x=1', 'unknown setting: x.')):
        with pytest.raises(LabError, match=complaint):
            messages.read_command_line(lambda: None, [argument])


def test_help_shows_defaults_and_comments():
    assert messages.describe_settings(main_of_a_script).splitlines() == [
        *__doc__.splitlines(), '',
        '',
        'Settings of the slides (--name=value)',
        '  --n_epochs=30                              how many epochs',
        '  --lr=0.1                                   initial learning rate (try 1e-2)',
        "  --test_speaker=242M9242                    who speaks; try 'all', or x=1, # 2",
        '',
        'Beyond the slides (--name=value)',
        '  --spk_list=None                            who can it be?',
        "  --augment=[]                               or some of ['speed', 'noise']"]


def run_as_script(script, monkeypatch, *arguments):
    monkeypatch.setattr(sys, 'argv', [script.__file__, *arguments])
    runpy.run_path(script.__file__, run_name='__main__')


@pytest.mark.parametrize('script', SETTINGS, ids=lambda script: script.__name__)
def test_every_script_has_a_command_line(script, lab, monkeypatch, capsys):
    for flag in ('--help', '-h'):
        run_as_script(script, monkeypatch, '--nonsense=1', flag)
        out = capsys.readouterr().out
        assert out.startswith(script.__doc__.strip())
        source = inspect.getsource(script.main)
        for name, parameter in inspect.signature(script.main).parameters.items():
            line, = [line for line in out.splitlines() if line.startswith('  --%s=%s ' % (name, parameter.default))]
            comment = line.split('%s=%s ' % (name, parameter.default))[1].strip()
            assert len(comment) >= 5 and re.search(r'\b%s=.*, *# %s\n' % (name, re.escape(comment)), source), line

    names = list(inspect.signature(script.main).parameters)
    for argument, complaint in (
            ('--nonsense=1', 'Error: unknown setting: nonsense. Choose one of %s.' % ', '.join(names)),
            ('--%s={}' % names[0], 'Error: %s = {}: it must be ' % names[0])):
        with pytest.raises(SystemExit) as stop:
            run_as_script(script, monkeypatch, argument)
        assert stop.value.code.startswith(complaint)  # Python prints it to stderr, and the exit code is 1
    assert capsys.readouterr().out == '' and os.listdir() == []


# ------------------------------------------------------------------------------------------- errors

@pytest.mark.parametrize('error, said', [
    (LabError('two\nlines'), 'Error: two\nlines'),
    (FileNotFoundError(2, 'No such file or directory', 'a.p'), "Error: [Errno 2] No such file or directory: 'a.p'"),
    (KeyboardInterrupt(), 'Stopped by Ctrl-C.')])
def test_what_the_user_can_correct_ends_without_a_traceback(monkeypatch, error, said):
    def main():
        raise error
    monkeypatch.setattr(sys, 'argv', ['script'])
    with pytest.raises(SystemExit) as stop:
        messages.run_script(main)
    assert stop.value.code == said


def test_a_bug_of_the_lab_is_not_hidden(monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['script'])
    with pytest.raises(ZeroDivisionError):
        messages.run_script(lambda: 1 / 0)


def test_an_exception_as_a_part_of_a_message():
    assert messages.in_one_line(ValueError('a\n   b\tc ')) == 'a b c'
    assert messages.in_one_line(ValueError('x' * 1000)) == 'x' * 200
    assert messages.in_one_line(EOFError()) == 'EOFError'


# ------------------------------------------------------------------------------------------- in parallel

def test_tasks_in_parallel_keep_their_order():
    handler = signal.getsignal(signal.SIGINT)
    assert messages.in_parallel(math.sqrt, [x * x for x in range(50)], 'Roots') == list(range(50))
    assert messages.in_parallel(math.sqrt, [], 'Roots') == []
    assert signal.getsignal(signal.SIGINT) is handler
    with pytest.raises(ValueError):
        messages.in_parallel(math.sqrt, [1, -1], 'Roots')


def test_a_process_that_is_ended_from_outside():
    with pytest.raises(LabError, match='Another program ended a part of the work, perhaps because the memory was full'):
        messages.in_parallel(os._exit, [1], 'Exits')


def test_ctrl_c_ends_the_work_in_parallel(monkeypatch):
    def interrupted(results, **options):
        raise KeyboardInterrupt
    monkeypatch.setattr(messages, 'tqdm', interrupted)
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        messages.in_parallel(math.sqrt, [1, 4], 'Roots')
    assert signal.getsignal(signal.SIGINT) is handler


def test_a_worker_ignores_ctrl_c_and_ends_with_its_parent(monkeypatch):
    parent_ends, has_ended, handlers = threading.Event(), threading.Event(), []

    class Parent:
        def join(self):
            parent_ends.wait()
    monkeypatch.setattr(multiprocessing, 'parent_process', Parent)
    monkeypatch.setattr(os, '_exit', lambda code: has_ended.set())
    monkeypatch.setattr(signal, 'signal', lambda *arguments: handlers.append(arguments))
    messages.begin_worker()
    assert handlers == [(signal.SIGINT, signal.SIG_IGN)] and not has_ended.is_set()
    parent_ends.set()
    assert has_ended.wait(60)
