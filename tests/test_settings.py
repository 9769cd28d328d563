"""Settings: how the command line is read, what --help prints, and that no wrong value gets through."""
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
import torch

import DB_wav_reader
import deep_dive.train
import enroll
import identification
import train
import verification
from deep_dive import calibration, classify, cut, deceive, export, gmm, sessions, trials
from exercises import listen, losses, one_room, similar_voices, thresholds
from own_voice import calibrate, compare, embed, enrol, page, who, who_when
from support import messages
from support.messages import LabError

# ------------------------------------------------------------------------------------------ every wrong value

VALUES = ['yes', '100', '', 'a\nb\nc', '[a', '[a\nb\nc', 'x' * 400, 0, 1, 100, -1, 10 ** 10, 10 ** 400,
          0.5, -0.5, 2.5, 95.0, 1e10, math.nan, math.inf, -math.inf, True, False, None, 1j, b'yes', object,
          [], ['yes'], [1], [None], [[]], [math.nan], (), (1,), ('far', 0.5), ('far', 2), {}, {'yes': 1}, {1}]

# Those of VALUES that are right for a setting. All others must be refused
BOOL, COUNT, POSITIVE, NAME = [True, False], [1, 100], [0.5, 1, 2.5, 95.0, 100], ['yes', '100', '[a']
CHANNEL = [None, 1, 100]
SCORES = [-1, -0.5, 0, 0.5, 1]
CP_NUM, FRAMES = [0, *COUNT, *NAME], [*COUNT, None]
OF_LOADING = {'use_cuda': BOOL, 'log_dir': NAME, 'embedding_size': [*COUNT, None],
              'cp_num': [0, *COUNT, 'yes', '100'],  # its default is a number, so '[a' is no name
              'n_classes': [*COUNT, None], 'test_frames': FRAMES, 'embedding_dir': NAME, 'test_dir': NAME}
OF_EXERCISES = {name: OF_LOADING[name] for name in ('use_cuda', 'log_dir', 'cp_num', 'test_frames',
                                                    'embedding_dir', 'test_dir')} | {'plot': BOOL}
OF_TRAINING = {
    'use_cuda': BOOL, 'val_ratio': [0.5, 1, 2.5, 95.0], 'embedding_size': [100], 'start': COUNT,
    'n_epochs': COUNT, 'lr': POSITIVE, 'wd': [0, *POSITIVE], 'optimizer_type': [], 'batch_size': [100],
    'valid_batch_size': COUNT, 'use_shuffle': BOOL, 'patience': [0, *COUNT], 'min_lr': [0, *POSITIVE],
    'seed': [0, *COUNT], 'scheduler_type': [], 'train_dir': NAME, 'log_dir': NAME, 'log_interval': COUNT,
    'plot': BOOL}
SETTINGS = {
    train: OF_TRAINING,
    deep_dive.train: {
        **OF_TRAINING, 'warm_up': [0.5], 'backbone': [], 'pooling': [], 'loss_type': [],
        'batch_speakers': [None], 'augment': [[]], 'init_from': [None], 'freeze_backbone': [False],
        'cache_gb': [0, *POSITIVE], 'num_workers': [0, *COUNT], 'n_backend': COUNT,
        'corpora': [{}, {'yes': 1}], 'val_speakers': [0, 100]},
    enroll: {**OF_LOADING, 'plot': BOOL},
    identification: {**OF_LOADING, 'spk_list': [None, ['yes']], 'test_speaker': NAME,
                     'thres': [None, *SCORES]},
    verification: {**OF_LOADING, 'enroll_speaker': NAME, 'test_speaker': NAME, 'thres': SCORES},
    DB_wav_reader: {'train_wav_dir': NAME, 'train_feat_dir': NAME, 'test_wav_dir': NAME,
                    'test_feat_dir': NAME},
    listen: {'test_dir': NAME, 'listen_dir': NAME, 'level': [0, -1, -0.5]},
    losses: {'log_dirs': [[], ['yes']], 'filename': NAME},
    similar_voices: {**OF_EXERCISES, 'spk_list': [None, ['yes']], 'thres': [None, *SCORES],
                     'piece_seconds': [None, [1], *POSITIVE]},
    thresholds: {**OF_EXERCISES, 'thres': [*SCORES, ('far', 0.5)], 'piece_seconds': [None, *POSITIVE],
                 'p_target': [0.5]},
    one_room: {'test_dir': ['', *NAME], 'cp_num': CP_NUM, 'log_dir': NAME, 'thres': [None, *SCORES],
               'piece_seconds': [None, *POSITIVE], 'room': COUNT, 'test_frames': FRAMES, 'use_cuda': BOOL},
    sessions: {'test_dir': NAME, 'same_list': NAME, 'other_list': NAME},
    trials: {**OF_EXERCISES, 'cp_num': CP_NUM, 'backend': [], 'normalise': [None], 'trials': NAME, 'identify': BOOL,
             'thres': [None, *SCORES, ('far', 0.5)], 'piece_seconds': [None, *POSITIVE], 'scores_file': [None],
             'p_target': [0.5]},
    export: {'cp_num': CP_NUM, 'out': [], 'log_dir': NAME},
    calibration: {'log_dir': NAME, 'n_backend': COUNT, 'use_cuda': BOOL},
    deceive: {'test_dir': NAME, 'cp_num': CP_NUM, 'log_dir': NAME, 'thres': SCORES, 'n_tries': COUNT, 'seconds': [100],
              'seed': [0, *COUNT]},
    gmm: {
        'train_dir': NAME, 'n_utterances': COUNT, 'n_components': COUNT, 'n_iterations': COUNT,
        'seed': [0, *COUNT], 'test_dir': NAME, 'relevance': POSITIVE,
        'thres': [*SCORES, 2.5, 95.0, 100, ('far', 0.5)], 'unseen_dir': ['', *NAME], 'n_each': COUNT,
        'n_enroll': COUNT, 'piece_seconds': [None, *POSITIVE], 'picture_dir': NAME, 'plot': BOOL},
    classify: {'files': [['yes']], 'log_dir': NAME, 'cp_num': CP_NUM, 'piece_seconds': [None, *POSITIVE],
               'n_best': COUNT, 'use_cuda': BOOL, 'plot': BOOL},
    cut: {'wav_dir': NAME, 'feat_dir': NAME, 'piece_seconds': POSITIVE},
    compare: {'enroll_file': NAME, 'test_file': NAME, 'thres': [None, *SCORES], 'cp_num': CP_NUM,
              'log_dir': NAME, 'test_frames': FRAMES, 'channel': CHANNEL, 'use_cuda': BOOL},
    who: {'recording': NAME, 'embedding_dir': NAME, 'spk_list': [None, ['yes']], 'thres': [None, *SCORES],
          'test_frames': FRAMES, 'channel': CHANNEL, 'use_cuda': BOOL},
    who_when: {'recording': NAME, 'picture': NAME, 'embedding_dir': NAME, 'thres': [None, *SCORES],
               'channel': CHANNEL, 'use_cuda': BOOL},
    calibrate: {'folders': [['yes']], 'cp_num': CP_NUM, 'log_dir': NAME, 'embedding_dir': NAME,
                'into_checkpoint': [None, 'yes', '100'], 'one_room': [[]], 'use_cuda': BOOL},
    embed: {'files': [['yes']], 'out': [], 'cp_num': CP_NUM, 'log_dir': NAME, 'test_frames': FRAMES,
            'use_cuda': BOOL},
    enrol: {'name': NAME, 'files': [['yes']], 'remove': [''], 'cp_num': CP_NUM, 'log_dir': NAME,
            'test_dir': NAME, 'embedding_dir': NAME, 'test_frames': FRAMES, 'use_cuda': BOOL},
    page: {'cp_num': CP_NUM, 'log_dir': NAME, 'test_dir': NAME, 'embedding_dir': NAME, 'port': [0, *COUNT],
           'proxy': [''], 'open_browser': BOOL, 'use_cuda': BOOL}}
NEEDED = {compare: {'enroll_file': 'a.wav', 'test_file': 'b.wav'}, who: {'recording': 'a.wav'},
          who_when: {'recording': 'a.wav'}, embed: {'files': ['a.wav']}, classify: {'files': ['a.wav']},
          cut: {'wav_dir': 'wavs', 'feat_dir': 'feats'}, sessions: {'test_dir': 'days'},
          enrol: {'name': 'kim', 'files': ['a.wav']}}  # without these, a program only says how it is called
FURTHER = [  # right values that are not among VALUES
    *[(train, 'optimizer_type', value) for value in ('sgd', 'adam', 'adamw', 'adagrad')],
    *[(train, 'scheduler_type', value) for value in ('plateau', 'onecycle', 'cosine')],
    (train, 'seed', 10 ** 9),
    *[(deep_dive.train, 'backbone', value) for value in (
        'resnet18', 'resnet34', 'resnet50', 'resnet101', 'resnet152', 'vgg', 'lstm', 'cnn_lstm', 'tdnn',
        'ecapa', 'resnet_se', 'conformer', 'conformer_large')],
    *[(deep_dive.train, 'pooling', value) for value in ('average', 'statistics', 'attentive')],
    *[(deep_dive.train, 'loss_type', value) for value in (
        'softmax', 'center', 'asoftmax', 'amsoftmax', 'aamsoftmax', 'subcenter')],
    *[(deep_dive.train, 'batch_speakers', value) for value in (2, 8, 32)],
    (deep_dive.train, 'augment', ['speed', 'level', 'room', 'microphone', 'noise', 'band', 'specaugment']),
    *[(trials, 'backend', value) for value in ('cosine', 'centre', 'lda', 'wccn', 'plda')],
    *[(trials, 'normalise', value) for value in ('s-norm', 'as-norm')],
    *[(script, 'thres', 'model') for script in (identification, verification, similar_voices, thresholds,
                                                trials, deceive,
                                                compare, who, who_when)],
    *[(script, 'thres', 'eer') for script in (thresholds, trials, gmm)],
    *[(script, 'channel', value) for script in (compare, who, who_when) for value in (2, 'mean')],
    (similar_voices, 'piece_seconds', [1, 2.5, None]), (enroll, 'cp_num', 'best')]
MISSING = re.compile('does not exist|There are no recordings to convert|There is no finished epoch|'
                     'Nobody is enrolled|there is no such file')


def is_refused(setting, value, message):
    """Whether this is the message about a wrong value. The other messages are about data that is missing."""
    if re.match('Error: (%s = |unknown %s: |Name (two recordings|a recording|a person|recordings|two folders))'
                % (setting, setting), message):
        return True
    assert MISSING.search(message), (setting, value, message)
    return False


def stop(stopped_with, script, **settings):
    """The message of a script that stops, because nothing is there to work on."""
    return stopped_with(script.main, **{**NEEDED.get(script, {}), **settings})


@pytest.mark.parametrize('script', SETTINGS, ids=lambda script: script.__name__)
def test_every_setting_with_a_value_of_every_kind(script, lab, stopped_with):
    right_values = SETTINGS[script]
    assert right_values.keys() == messages.defaults_of(script.main).keys()
    for setting, right in right_values.items():
        right = {repr(value) for value in right}  # because 1 == True
        assert right <= set(map(repr, VALUES))
        for value in VALUES:
            message = stop(stopped_with, script, **{setting: value})
            is_right = repr(value) in right
            assert is_refused(setting, value, message) == (not is_right), (setting, value, message)
            assert os.listdir() == []


def test_every_choice_is_taken(lab, stopped_with):
    for script, setting, value in FURTHER:
        message = stop(stopped_with, script, **{setting: value})
        assert not is_refused(setting, value, message), message
    assert os.listdir() == []


def snapshot():
    return {path: path.is_dir() or (path.read_bytes(), path.stat().st_mtime_ns) for path in Path().rglob('*')}


def test_a_wrong_value_is_refused_before_anything_is_read_made_or_removed(lab, stopped_with):
    for name in ('feat_logfbank_nfilt40/train/a/1.p', 'feat_logfbank_nfilt40/test/a/enroll.p',
                 'train_wavs/a/1.wav',
                 'test_wavs/a/test.wav', 'model_saved/checkpoint_1.pth', 'model_saved/checkpoint_24.pth',
                 'model_saved/checkpoint_voices.pth', 'model_saved/checkpoint_best.pth',
                 'model_saved/run.json', 'model_saved/loss_plot.png', 'enroll_embeddings/embeddings.p',
                 'enroll_own/embeddings.p', 'feat_own/test/a/enroll.wav', 'a.wav', 'b.wav'):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(b'who reads this fails')
    before = snapshot()
    for script, right_values in SETTINGS.items():
        for setting in right_values:
            assert is_refused(setting, 1j, stop(stopped_with, script, **{setting: 1j}))
    for script, setting, value in ((train, 'n_epochs', 2.5), (train, 'start', 0), (train, 'val_ratio', 100),
                                   (deep_dive.train, 'augment', ['speed', 'echo'])):
        assert is_refused(setting, value, stopped_with(script.main, **{setting: value}))
    assert snapshot() == before


@pytest.mark.parametrize('script, settings, complaint', [
    (train, {'n_epochs': 2.5}, 'n_epochs = 2.5: it must be a whole number'),
    (train, {'embedding_size': 0}, 'embedding_size = 0: it must be a whole number'),
    (train, {'use_cuda': 'yes'}, "use_cuda = 'yes': it must be True or False."),
    (train, {'lr': '1e-1'}, "lr = '1e-1': it must be a number"),
    (train, {'batch_size': 1}, 'batch_size = 1: it must be a whole number'),
    (train, {'val_ratio': 0}, 'val_ratio = 0: it must be a percentage above 0 and below 100.'),
    (train, {'scheduler_type': 'plato'}, 'Choose one of plateau, onecycle, cosine.'),
    (train, {'optimizer_type': 'sdg'}, 'Choose one of sgd, adam, adamw, adagrad.'),
    (deep_dive.train, {'optimizer_type': 'sdg'}, 'Choose one of sgd, adam, adamw, adagrad.'),
    (deep_dive.train, {'warm_up': 30}, 'warm_up = 30: it must be a number above 0 and below 1.'),
    (deep_dive.train, {'backbone': 'resnet'},
     'Choose one of resnet18, resnet34, resnet50, resnet101, resnet152, vgg, lstm,'),
    (deep_dive.train, {'augment': 'speed'},
     "augment = 'speed': it must be a list of some of speed, level, room, "),
    (deep_dive.train, {'freeze_backbone': True},
     'freeze_backbone = True needs init_from: there is nothing to keep'),
    (deep_dive.train, {'init_from': 'no.pth'}, "init_from = 'no.pth': there is no such checkpoint."),
    (enroll, {'test_frames': '100'}, "test_frames = '100': it must be a whole number"),
    (enroll, {'cp_num': -1}, "cp_num = -1: it must be the number of an epoch, or a name such as 'best'."),
    (identification, {'spk_list': '103F3021'}, "spk_list = '103F3021': it must be a list of names, or None."),
    (identification, {'spk_list': '[103F3021, 7]'}, "--spk_list=\"['a', 'b']\""),
    (verification, {'thres': 95}, "thres = 95: it must be a number from -1 to 1, or 'model'."),
    (thresholds, {'thres': 95},
     "thres = 95: it must be a number from -1 to 1, 'eer', 'model', or ('far', 0.01)"),
    (trials, {'thres': 95, 'normalise': 's-norm', 'backend': 'x'},
     'unknown backend: x. Choose one of cosine,'),
    (trials, {'trials': 'pairs', 'piece_seconds': 1},
     "trials = 'pairs': piece_seconds and identify need trials"),
    (trials, {'trials': 'pairs', 'identify': True},
     "trials = 'pairs': piece_seconds and identify need trials"),
    (trials, {'identify': True, 'thres': 'eer'},
     "thres = 'eer': with identify, it must be a number, 'model'"),
])
def test_what_is_wrong_is_said(lab, stopped_with, script, settings, complaint):
    assert complaint in stopped_with(script.main, **settings)


@pytest.mark.parametrize('thres, is_right',
                         [('eer', True), (('far', 0.1), True), (['far', 0.1], True), (0.9, True),
                                             (('far', 2), False), (('far',), False), (('miss', 0.1), False)])
def test_thresholds_for_all_trials(lab, stopped_with, thres, is_right):
    for script in (thresholds, trials):
        assert is_refused('thres', thres, stopped_with(script.main, thres=thres)) == (not is_right)


def test_scores_that_are_no_cosines_lie_anywhere(lab, stopped_with):
    for settings, is_right in (({'backend': 'plda'}, True), ({'normalise': 's-norm'}, True),
                               ({'backend': 'lda'}, False)):
        assert is_refused('thres', 17, stopped_with(trials.main, thres=17, **settings)) == (not is_right)


def test_a_training_does_not_begin_with_a_checkpoint_that_it_moves_aside(lab, stopped_with):
    os.mkdir('model_saved')
    for name in ('checkpoint_3.pth', 'checkpoint_best.pth', 'checkpoint_etri240.pth'):
        (lab / 'model_saved' / name).touch()
    missing = 'feat_logfbank_nfilt40/train does not exist'
    for name in ('checkpoint_3.pth', 'checkpoint_best.pth'):
        message = stopped_with(deep_dive.train.main, init_from='./model_saved/' + name)
        assert "init_from lies in log_dir = 'model_saved', whose checkpoints are moved aside. Set " in message
        assert missing in stopped_with(deep_dive.train.main, init_from='model_saved/' + name,
                                       log_dir='another')
    assert missing in stopped_with(deep_dive.train.main, init_from='model_saved/checkpoint_etri240.pth')


# ------------------------------------------------------------------------------------------- rules

@pytest.mark.parametrize('default, right, wrong', [
    (True, [True, False], [1, 0, None, 'True']), (3, [1, 3], [0, -1, 2.5, True, None, '3']),
    (0, [0, 3], [-1, 0.5, False]), (0.5, [0, 0.5, 7], [-0.5, math.nan, '0.5', None]),
    ('a', ['b', '7'], ['', 7, 'a\nb', None, ['a']]),
    (['a'], [['b']], [[], 'b', ['a\nb'], [1], None])], ids=str)
def test_the_rule_of_a_setting_follows_from_its_default(default, right, wrong):
    def main(x=default):
        pass
    for value in right:
        assert messages.check_settings(main, {'x': value}) == {'x': value}
    for value in wrong:
        with pytest.raises(LabError, match='^x = .*: it must be '):
            messages.check_settings(main, {'x': value})


def test_a_setting_may_have_a_rule_of_its_own():
    def main(n=3, kind='a', thres=None):
        pass
    rules = {'n': messages.whole(2), 'kind': ['a', 'b'], 'thres': messages.or_none(messages.SCORE)}
    right = {'n': 2, 'kind': 'b', 'thres': 0.5}
    checked = messages.check_settings(main, right, **rules)
    assert checked == right and checked is not right  # a copy
    for settings, complaint in (({'n': 1}, 'n = 1: it must be a whole number, 2 or more.'),
                                ({'kind': 'c\nd'}, 'unknown kind: c d. Choose one of a, b.'),
                                ({'thres': 2}, 'thres = 2: it must be a number from -1 to 1, or None.')):
        with pytest.raises(LabError) as error:
            messages.check_settings(main, {**right, **settings}, **rules)
        assert str(error.value) == complaint


def main_that_takes_over(
        # More
        m=1,  # how many of these
        **others: train.main
):
    return messages.check_settings(main_that_takes_over, locals(), **train.RULES)


def test_settings_of_another_main_are_taken_over():
    of_train = messages.defaults_of(train.main)
    assert main_that_takes_over() == {'m': 1, **of_train}
    assert main_that_takes_over(m=2, lr=0.5, wd=1) == {'m': 2, **of_train, 'lr': 0.5, 'wd': 1}
    for settings in ({'m': 0}, {'lr': 'x'}, {'val_ratio': 100}):
        with pytest.raises(LabError, match='%s = ' % next(iter(settings))):
            main_that_takes_over(**settings)
    with pytest.raises((LabError, TypeError), match='n_epoch'):
        main_that_takes_over(n_epoch=2)  # a misspelt name
    read = messages.read_command_line(main_that_takes_over, ['--m=2', '--n_epochs=3'])
    assert read == {'m': 2, 'n_epochs': 3}
    lines = messages.describe_settings(main_that_takes_over).splitlines()
    lines = lines[lines.index('More (--name=value)') + 1:]
    assert lines[0].split() == ['--m=1', 'how', 'many', 'of', 'these']
    assert lines[2] == 'Settings of the slides (--name=value)' and lines[3].startswith('  --use_cuda=True ')


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
    return {'n_epochs': n_epochs, 'lr': lr, 'test_speaker': test_speaker, 'spk_list': spk_list,
            'augment': augment}


@pytest.mark.parametrize('argument, value', [
    ('n_epochs=4', 4), ('n_epochs=-4', -4), ('n_epochs=4.0', 4.0), ('n_epochs=best', 'best'),
    ('n_epochs=007', '007'), ('n_epochs=None', None), ('n_epochs=True', True), ("n_epochs='4'", '4'),
    ('n_epochs=', ''), ('lr=1e-2', 0.01), ("lr=('far', 0.05)", ('far', 0.05)), ('lr=a=b', 'a=b'),
    ('lr=[1, 2', '[1, 2'), ('lr={[]: 1}', '{[]: 1}'), ('lr=__import__("os")', '__import__("os")'),
    ('lr=' + '(' * 10 ** 4, '(' * 10 ** 4), ('lr=' + '9' * 5000, '9' * 5000), ('lr=1+1', '1+1'),
    ('test_speaker=7021', '7021'), ('test_speaker=0.5', '0.5'), ('test_speaker=1e5', '1e5'),
    ('test_speaker=-1', '-1'), ('test_speaker=True', 'True'), ('test_speaker=103F3021', '103F3021'),
    ('test_speaker=my voice.wav', 'my voice.wav'), ("test_speaker='me'", 'me'),
    ('test_speaker=C:\\new\\me.wav', 'C:\\new\\me.wav'), ('test_speaker=[7]', '[7]'),
    ('spk_list=[1, None]', [1, None]), ("spk_list=['a', 'b']", ['a', 'b']), ('spk_list=a,b', 'a,b'),
    ("augment=['speed']", ['speed']),
])
def test_values_on_the_command_line(argument, value):
    settings = messages.read_command_line(main_of_a_script, ['--' + argument])
    name = argument.partition('=')[0]
    assert settings == {name: value} and type(settings[name]) is type(value)


def test_a_threshold_on_the_command_line_is_a_number_although_its_default_may_be_a_word():
    for script, right_values in SETTINGS.items():
        if 'thres' in right_values:
            assert messages.read_command_line(script.main, ['--thres=0.5']) == {'thres': 0.5}, script
            assert messages.read_command_line(script.main, ['--thres=model']) == {'thres': 'model'}


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
    ('--n_epochs',
     '--n_epochs: write a setting as --name=value, for example --n_epochs=30. All settings: --help'),
    ('n_epochs=4', 'n_epochs=4: write a setting as --name=value, for example --n_epochs=30.'),
    ('-n_epochs=4', '-n_epochs=4: write a setting as --name=value'),
    ('4', '4: write a setting as --name=value')])
def test_a_setting_that_is_not_understood(argument, complaint):
    with pytest.raises(LabError) as error:
        messages.read_command_line(main_of_a_script, ['--lr=1', argument])
    assert str(error.value).startswith(complaint)


def test_a_script_without_settings():
    for argument, complaint in (('x', 'x: write a setting as --name=value'),
                                ('--x=1', 'unknown setting: x.')):
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


def words_main(enroll_file='', test_file='', thres='model', folders=['x'], use_cuda=True):
    return enroll_file, test_file, thres, folders, use_cuda


@pytest.mark.parametrize('arguments, expected', [
    (['a.wav', 'b.wav'], {'enroll_file': 'a.wav', 'test_file': 'b.wav'}),
    (['a.wav', '--thres=0.5', 'b.wav'], {'enroll_file': 'a.wav', 'test_file': 'b.wav', 'thres': 0.5}),
    (['--enroll_file=a.wav', 'b.wav'], {'enroll_file': 'a.wav', 'test_file': 'b.wav'}),
    (['a', 'b', 'c', 'd', 'e e'],
     {'enroll_file': 'a', 'test_file': 'b', 'thres': 'c', 'folders': ['d', 'e e']}),
    (['7', '--use_cuda=False'], {'enroll_file': '7', 'use_cuda': False}), ([], {})], ids=str)
def test_words_without_a_name(arguments, expected):
    named = messages.name_words(words_main, arguments)
    assert messages.read_command_line(words_main, named) == expected


def test_too_many_words(monkeypatch):
    def main(recording=''):
        raise AssertionError
    monkeypatch.setattr(sys, 'argv', ['script', 'a.wav', 'b.wav'])
    with pytest.raises(SystemExit, match='b.wav: write a setting as --name=value, for example --recording='):
        messages.run_script(main, words=True)


@pytest.mark.parametrize('script, argument, command', [
    (identification, '--test_speaker=all', 'python -m exercises.similar_voices'),
    (verification, '--test_speaker=all', 'python -m exercises.thresholds'),
    (identification, 'x.wav', 'python -m own_voice.who x.wav'),
    (verification, 'x.wav', 'python -m own_voice.compare'),
    (identification, '--piece_seconds=1', 'python -m exercises.similar_voices --help'),
    (identification, '--plot=False', 'python -m exercises.similar_voices --help'),
    (verification, '--piece_seconds=1', 'python -m exercises.thresholds --help'),
    (verification, '--trials=pairs', 'python -m exercises.thresholds --help'),
    (thresholds, '--trials=pairs', 'python -m deep_dive.trials --help'),
    (thresholds, '--backend=plda', 'python -m deep_dive.trials --help'),
    (similar_voices, '--normalise=s-norm', 'python -m deep_dive.trials --help'),
    (train, '--loss_type=center', 'python -m deep_dive.train --help'),
    (train, '--backbone=vgg', 'python -m deep_dive.train --help')])
def test_calls_of_earlier_versions_name_the_new_command(script, argument, command, lab, monkeypatch):
    (lab / 'x.wav').touch()
    with pytest.raises(SystemExit) as stop:
        run_as_script(script, monkeypatch, argument)
    assert stop.value.code.startswith('Error: ') and command in stop.value.code
    assert len(stop.value.code.splitlines()) <= 2 and os.listdir() == ['x.wav']


def run_as_script(script, monkeypatch, *arguments):
    monkeypatch.setattr(sys, 'argv', [script.__file__, *arguments])
    runpy.run_path(script.__file__, run_name='__main__')


@pytest.mark.parametrize('script', SETTINGS, ids=lambda script: script.__name__)
def test_every_script_has_a_command_line(script, lab, monkeypatch, capsys):
    for flag in ('--help', '-h'):
        run_as_script(script, monkeypatch, '--nonsense=1', flag)
        out = capsys.readouterr().out
        assert out.startswith(script.__doc__.strip())
        mains = [script.main, messages.taken_over(script.main) or script.main]
        source = ''.join(map(inspect.getsource, mains))
        for name, default in messages.defaults_of(script.main).items():
            line, = [line for line in out.splitlines() if line.startswith('  --%s=%s ' % (name, default))]
            comment = line.split('%s=%s ' % (name, default))[1].strip()
            written = re.search(r'\b%s=.*, *# %s\n' % (name, re.escape(comment)), source)
            assert len(comment) >= 5 and written, line

    defaults = messages.defaults_of(script.main)
    names = list(defaults)
    no_text = [name for name, default in defaults.items() if not isinstance(default, str)][:1]  # a text may be anything
    for argument, complaint in (
            ('--nonsense=1', 'Error: unknown setting: nonsense. Choose one of %s.' % ', '.join(names)),
            *(('--%s={[]}' % name, "Error: %s = '{[]}' cannot be read." % name) for name in no_text)):
        needed = ['--%s=%s' % setting for setting in NEEDED.get(script, {}).items() if setting[0] not in no_text]
        with pytest.raises(SystemExit) as stop:
            run_as_script(script, monkeypatch, argument, *needed)
        assert stop.value.code.startswith(complaint)  # Python prints it to stderr, and the exit code is 1
    assert capsys.readouterr().out == '' and os.listdir() == []


# ------------------------------------------------------------------------------------------- errors

@pytest.mark.parametrize('error, said', [
    (LabError('two\nlines'), 'Error: two\nlines'),
    (FileNotFoundError(2, 'No such file or directory', 'a.p'),
     "Error: [Errno 2] No such file or directory: 'a.p'"),
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
    with pytest.raises(LabError,
                       match='Another program ended a part of the work, perhaps because the memory was full'):
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


@pytest.mark.parametrize('fill', [lambda: torch.empty(10 ** 14), lambda: bytearray(10 ** 17)])
def test_a_full_memory_ends_in_two_lines(stopped_with, fill):
    message = stopped_with(fill)
    assert 'the memory is full' in message and 'smaller batch_size' in message


def test_a_gpu_out_of_memory_too_and_no_other_error(stopped_with):
    def stop_with(error):
        raise error
    for error in (torch.OutOfMemoryError('CUDA out of memory. Tried'),
                  RuntimeError('[enforce fail] data. DefaultCPUAllocator: not enough memory: you')):
        assert 'smaller batch_size' in stopped_with(lambda: stop_with(error))  # the second is of Windows
    with pytest.raises(RuntimeError, match='shapes'):
        stopped_with(lambda: stop_with(RuntimeError('shapes do not fit')))
