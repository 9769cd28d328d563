"""The four scripts: what they print, letter by letter, what they decide, and what becomes of earlier
results."""
import contextlib
import json
import os
import re
import shlex
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import DB_wav_reader
import configure as c
import deep_dive.train
import enroll
import identification
import model as lab_model
import train
import verification
from conftest import PROJECT, SIX, SIX_EPOCHS, FirstFrame
from deep_dive import backends, schedules
from exercises import similar_voices, thresholds
from support import checks, pictures, runs
from support.messages import LabError, defaults_of


# ------------------------------------------------------------------------------------------- one decision

def test_identification_by_hand(write_vector, capsys):
    embeddings = {'a': torch.tensor([[1.0, 0.0]]), 'b': torch.tensor([[0.0, 2.0]]),
                  'c': torch.tensor([[-1.0, -1.0]])}
    path = write_vector('feat/b/test.p', 3, 4)  # cosines: 0.6 with a, 0.8 with b, -7 / (5 sqrt 2) with c
    best = identification.perform_identification(False, FirstFrame(), embeddings, path, 100, ['a', 'b', 'c'])
    assert best == 'b'
    assert capsys.readouterr().out == (
        '\n=== Speaker identification ===\nTrue speaker : b\nPredicted speaker : b\nResult : True\n\n'
        'b : 0.8000\na : 0.6000\nc : -0.9899\n')

    assert identification.perform_identification(False, FirstFrame(), embeddings, path, 100,
                                                 ['c', 'a']) == 'a'
    assert 'True speaker : b\nPredicted speaker : a\nResult : False\n' in capsys.readouterr().out


@pytest.mark.parametrize('spk_list, thres, answer, result', [
    (['a', 'b'], 0.79, 'b', True), (['a', 'b'], 0.81, 'unknown', False),  # an enrolled speaker
    (['a', 'c'], 0.59, 'a', False), (['a', 'c'], 0.61, 'unknown', True)])  # a stranger
def test_identification_with_a_threshold(write_vector, capsys, spk_list, thres, answer, result):
    embeddings = {'a': torch.tensor([[1.0, 0.0]]), 'b': torch.tensor([[0.0, 2.0]]),
                  'c': torch.tensor([[-1.0, -1.0]])}
    path = write_vector('feat/b/test.p', 3, 4)
    assert identification.perform_identification(False, FirstFrame(), embeddings, path, 100, spk_list,
                                                 thres=thres) == answer
    out = capsys.readouterr().out
    assert 'True speaker : b\nPredicted speaker : %s\nResult : %s\n' % (answer, result) in out
    margin = 0.2 if 'b' in spk_list else 0.6 + 7 / 50 ** 0.5
    assert out.endswith('\n\nMargin to the second : %.4f\nThreshold : %.2f\n' % (margin, thres))


def test_identification_with_one_speaker_has_no_runner_up(write_vector, capsys):
    path = write_vector('feat/a/test.p', 1, 0)
    one = {'a': torch.tensor([[1.0, 0.0]])}
    assert identification.perform_identification(False, FirstFrame(), one, path, 100, ['a'], thres=0.5) == 'a'
    out = capsys.readouterr().out
    assert 'Result : True' in out and out.endswith('\n\na : 1.0000\n\nThreshold : 0.5\n')


@pytest.mark.parametrize('thres, result, shown', [(0.79, 'Accept', '0.79'), (0.81, 'Reject', '0.81'),
                                                  (0.7999, 'Accept', '0.7999'), (1, 'Reject', '1.00')])
def test_verification_by_hand(write_vector, capsys, thres, result, shown):
    path = write_vector('feat/b/test.p', 3, 4)
    score = verification.perform_verification(False, FirstFrame(), {'a': torch.tensor([[0.0, 5.0]])}, 'a',
                                              path, 100,
                                              thres)
    assert score == pytest.approx(0.8)
    assert capsys.readouterr().out == (
        '\n=== Speaker verification ===\nTrue speaker: a\nClaimed speaker : b\n\nResult : %s\n\n'
        'Score : 0.8000\nThreshold : %s\n\n' % (result, shown))


def test_a_score_must_be_above_the_threshold_to_be_accepted(write_vector, capsys):
    path = write_vector('feat/b/test.p', 0, 1)
    embeddings = {'a': torch.tensor([[0.0, 1.0]])}
    assert verification.perform_verification(False, FirstFrame(), embeddings, 'a', path, 100, 1.0) == 1
    assert 'Result : Reject' in capsys.readouterr().out
    assert identification.perform_identification(False, FirstFrame(), embeddings, path, 100, ['a'],
                                                 thres=1.0) == 'unknown'


def test_speakers_who_are_not_enrolled_are_named(write_vector):
    path, embeddings = write_vector('feat/b/test.p', 3, 4), {'a': torch.ones(1, 2), 'b': torch.ones(1, 2)}
    with pytest.raises(LabError, match="'x' is not enrolled. Choose among a, b."):
        identification.perform_identification(False, FirstFrame(), embeddings, path, 100, ['a', 'x'])
    with pytest.raises(LabError, match="'x' is not enrolled. Choose among a, b."):
        verification.perform_verification(False, FirstFrame(), embeddings, 'x', path, 100, 0.95)


# ------------------------------------------------------------------------------------------- enrolment

def make_DB(*filenames):
    return pd.DataFrame({'filename': filenames, 'speaker_id': [name.split('/')[-2] for name in filenames]})


def test_enrolment_files_of_a_speaker_add_up(write_vector, capsys):
    DB = make_DB(write_vector('t/b/enroll1.p', 3, 4), write_vector('t/a/enroll.p', 0, 9),
                 write_vector('t/b/enroll2.p', 1, 0))
    embeddings = enroll.enroll_per_spk(False, 200, FirstFrame(), DB, 'enrolled')
    torch.testing.assert_close(embeddings, {'b': torch.tensor([[1.6, 0.8]]), 'a': torch.tensor([[0.0, 1.0]])})
    torch.testing.assert_close(lab_model.load_enroll_embeddings('enrolled'), embeddings)
    assert capsys.readouterr().out == (
        'Start to aggregate all the d-vectors per enroll speaker\n'
        'Aggregates the activation (spk : b)\nAggregates the activation (spk : a)\n'
        'Aggregates the activation (spk : b)\n'
        'Save the embeddings for a\nSave the embeddings for b\n')


def test_a_speaker_with_a_file_of_no_use_is_skipped(write_vector, write_feat, capsys):
    """Also if other files of the speaker are good, and if a file cannot even be opened."""
    DB = make_DB(write_vector('t/a/enroll.p', 1, 0), write_vector('t/b/enroll1.p', 0, 1), 't/b/enroll2.p',
                 write_feat('t/c/enroll.p', n_frames=140), 't/d/enroll.p', write_vector('t/e/enroll.p', 0, 0))
    Path('t/b/enroll2.p').write_bytes(b'rubbish')
    assert list(enroll.enroll_per_spk(False, 200, FirstFrame(), DB, 'enrolled')) == ['a']
    assert list(lab_model.load_enroll_embeddings('enrolled')) == ['a']
    captured = capsys.readouterr()
    reasons = captured.err.split('Skipped ')[1:]
    assert [re.match(r'\w: .*?t/(\w/enroll\d?\.p)', reason).group(1) for reason in reasons] == [
        'b/enroll2.p', 'c/enroll.p', 'd/enroll.p', 'e/enroll.p']
    assert reasons[1] == ('c: t/c/enroll.p: 140 frames, 40 after trimming 0.5 s at both ends: '
                          'more than 40 are needed\n')
    assert captured.out.endswith('Save the embeddings for a\n') and captured.out.count('Save') == 1


def test_if_nobody_can_be_enrolled_the_earlier_enrolment_stays(lab, write_vector):
    DB = make_DB(write_vector('t/a/enroll.p', 1, 0))
    enroll.enroll_per_spk(False, 200, FirstFrame(), DB, 'enrolled')
    before = (lab / 'enrolled/embeddings.p').read_bytes()
    (lab / 't/a/enroll.p').write_bytes(b'rubbish')
    with pytest.raises(LabError, match='Nobody is enrolled: no speaker has a file that can be used.'):
        enroll.enroll_per_spk(False, 200, FirstFrame(), DB, 'enrolled')
    assert (lab / 'enrolled/embeddings.p').read_bytes() == before
    assert os.listdir('enrolled') == ['embeddings.p']


# ------------------------------------------------------------------------------------------- one epoch

class Scripted(nn.Module):
    """Stands for a network: logits by hand, one list a batch, for (features, labels) batches of any
    content."""

    def __init__(self, batches):
        super().__init__()
        self.batches = iter(batches)
        self.bias = nn.Parameter(torch.zeros(2))
        self.modes = []

    def forward(self, x):
        self.modes.append(self.training)
        return None, torch.tensor(next(self.batches)) + self.bias


class Batches(list):
    """Stands for a DataLoader."""
    sampler = range(5)


def three_batches():
    """Batches of 2, 2 and 1 utterances, and a network that gets 1, 2 and 0 of them right."""
    x = torch.zeros(2, 1, 40, 100)
    loader = Batches([(x, torch.tensor([0, 0])), (x, torch.tensor([1, 1])), (x[:1], torch.tensor([0]))])
    return loader, Scripted([[[9.0, 0], [0, 9]], [[0.0, 9], [0, 9]], [[0.0, 9]]])


def test_training_lines_show_true_accuracies(capsys):
    """50 %, then 3 of 4, then 3 of 5."""
    loader, model = three_batches()
    optimizer = train.create_optimizer('sgd', model, 0.0, 0.0)
    loss = train.train(loader, model, nn.CrossEntropyLoss(), optimizer, False, 7, 2, log_interval=1)
    right, wrong = np.log(1 + np.exp(-9)), np.log(1 + np.exp(9))  # of one sample
    assert loss == pytest.approx((3 * right + 2 * wrong) / 5) and model.modes == [True] * 3
    lines = re.sub(r'Time \d+\.\d{3} \(\d+\.\d{3}\)', 'Time ...', capsys.readouterr().out)
    assert lines == (
        'Train Epoch:   7 [       0/       5 (  0%)]\tTime ...\tLoss 4.5001\tAcc 50.0000\n'
        'Train Epoch:   7 [       2/       5 ( 33%)]\tTime ...\tLoss 2.2501\tAcc 75.0000\n'
        'Train Epoch:   7 [       4/       5 ( 67%)]\tTime ...\tLoss 3.6001\tAcc 60.0000\n')


def test_validation_line_and_no_learning_from_it(capsys):
    loader, model = three_batches()
    loss = train.validate(loader, model, nn.CrossEntropyLoss(), False, 1)
    assert capsys.readouterr().out == '  * Validation: Loss 3.6001\tAcc 60.0000\n'
    assert loss == pytest.approx(3.6001, abs=1e-4)
    assert model.bias.grad is None and model.modes == [False] * 3


def test_a_training_step_by_hand():
    """Two steps of SGD with momentum 0.9 on a bias alone, whose gradient is the softmax minus the target."""
    model = Scripted([[[0.0, 0]], [[0.0, 0]]]).eval()
    optimizer = train.create_optimizer('sgd', model, 0.5, 0.0)
    x, y = torch.zeros(1, 1, 40, 100), torch.tensor([0])
    train.train(Batches([(x, y), (x, y)]), model, nn.CrossEntropyLoss(), optimizer, False, 1, 2)
    velocity = np.array([0.5, 0.5]) - [1, 0]
    bias = -0.5 * velocity
    velocity = 0.9 * velocity + np.exp(bias) / np.exp(bias).sum() - [1, 0]
    np.testing.assert_allclose(model.bias.detach(), bias - 0.5 * velocity, rtol=1e-6)


def test_a_line_every_84_batches(capsys):
    x, y = torch.zeros(1, 1, 40, 100), torch.tensor([0])
    model = Scripted([[[1.0, 0]]] * 200)
    optimizer = train.create_optimizer('sgd', model, 0.1, 0.0)
    train.train(Batches([(x, y)] * 200), model, nn.CrossEntropyLoss(), optimizer, False, 1, 2)
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_optimizers():
    model = nn.Linear(2, 2)
    sgd = train.create_optimizer('sgd', model, 0.1, 1e-4).param_groups[0]
    assert (sgd['lr'], sgd['momentum'], sgd['weight_decay']) == (0.1, 0.9, 1e-4)
    for name, kind in (('adam', torch.optim.Adam), ('adamw', torch.optim.AdamW),
                       ('adagrad', torch.optim.Adagrad)):
        optimizer = train.create_optimizer(name, model, 0.01, 1e-3)
        assert isinstance(optimizer, kind) and optimizer.param_groups[0]['weight_decay'] == 1e-3


@pytest.mark.parametrize('name', train.OPTIMIZERS)
def test_frozen_parameters_stay(name):
    """Weight decay does not move them either."""
    model = nn.Linear(2, 2)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    model.weight.requires_grad_(False)
    optimizer = train.create_optimizer(name, model, 0.1, 0.1)
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    assert torch.equal(model.weight, before['weight']) and not torch.equal(model.bias, before['bias'])


def rates_of(scheduler_type, n_steps, warm_up=None):
    """The learning rate in each of n_steps, and the momentum at the end."""
    optimizer = train.create_optimizer('sgd', nn.Linear(2, 2), 0.5, 0)
    scheduler = train.create_scheduler(scheduler_type, optimizer, 0.5, n_steps, patience=2, min_lr=1e-4)
    if warm_up is not None:
        scheduler = schedules.one_cycle(optimizer, 0.5, n_steps, warm_up)
    rates = []
    for _ in range(n_steps):
        rates.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        scheduler.step()
    return rates, optimizer.param_groups[0]['momentum']


def test_one_cycle_rises_to_lr_and_falls_to_nothing():
    rates, momentum = rates_of('onecycle', 100)
    assert rates[0] == pytest.approx(0.5 / 25) and rates[29] == max(rates) == pytest.approx(0.5)
    assert rates[:30] == sorted(rates[:30]) and rates[29:] == sorted(rates[29:],
                                                                     reverse=True) and rates[-1] < 1e-4
    assert momentum == 0.9


@pytest.mark.parametrize('warm_up, n_steps', [(0.5, 2), (0.25, 4), (0.1, 10), (0.2, 5), (0.3, 1), (0.999, 3),
                                              (None, 1), (None, 2), (None, 3), (None, 10)])
def test_one_cycle_of_a_few_steps(warm_up, n_steps):
    """PyTorch divides by zero where the learning rate would rise in one step exactly."""
    assert all(0 < rate <= 0.5 for rate in rates_of('onecycle', n_steps, warm_up=warm_up)[0])


def test_cosine_by_hand():
    np.testing.assert_allclose(rates_of('cosine', 8)[0], 0.25 * (1 + np.cos(np.pi * np.arange(8) / 8)))


def test_window_d_vectors_by_hand():
    """Windows of lengths 5 and 7 count the same. The third utterance is not asked for. No random number is
    used up."""
    class ThreeUtterances:
        def feature(self, index):
            feature = np.zeros((150, 40))
            feature[:, :2] = [(3.0, 4), (0, 7), (5, 5)][index]
            return feature

        def __len__(self):
            return 3
    before = torch.get_rng_state()
    d_vectors = backends.window_d_vectors(ThreeUtterances(), FirstFrame(), False, 2)
    torch.testing.assert_close(d_vectors, torch.tensor([[0.6, 0.8], [0.0, 1.0]]))
    assert torch.equal(torch.get_rng_state(), before)


def test_loss_plot_marks_the_lowest_validation_loss(lab, monkeypatch):
    figures = []
    monkeypatch.setattr(pictures.plt, 'close', figures.append)
    train.visualize_the_losses([3, 2, 1], [3, 1.5, 2])
    assert (lab / 'loss_plot.png').read_bytes().startswith(b'\x89PNG\r\n\x1a\n')
    training, validation, lowest = figures[0].axes[0].lines
    assert list(training.get_ydata()) == [3, 2, 1] and list(validation.get_ydata()) == [3, 1.5, 2]
    assert list(lowest.get_xdata()) == [2, 2] and lowest.get_linestyle() == '--'
    assert lowest.get_label() == 'Lowest validation loss (epoch 2)'
    assert figures[0].axes[0].get_ylim() == pytest.approx((0, 3.3))


# --------------------------------------------------------------------------------------- the scripts, by hand

def test_missing_pieces_are_explained_in_order(lab, stopped_with, write_feat):
    assert 'feat_logfbank_nfilt40/train does not exist' in stopped_with(train.main)
    for script in (enroll, identification, verification):
        assert 'checkpoint_24.pth does not exist. Run python train.py first.' in stopped_with(script.main)
    model = lab_model.background_resnet(128, 4)
    for name in ('23', 'best'):
        runs.save_checkpoint('model_saved/checkpoint_%s.pth' % name, {'state_dict': model.state_dict()})
    assert "Run python train.py first, or set cp_num to one of 23, 'best'." in stopped_with(enroll.main)
    runs.save_checkpoint('model_saved/checkpoint_24.pth', {'state_dict': model.state_dict()})
    for script in (enroll, identification, verification):
        assert 'feat_logfbank_nfilt40/test does not exist' in stopped_with(script.main)
    write_feat(c.TEST_FEAT_DIR + '/me/test.p')
    assert 'feat_logfbank_nfilt40/test has no enrolment file.' in stopped_with(enroll.main)
    write_feat(c.TEST_FEAT_DIR + '/me/enroll.p')
    for script in (identification, verification):
        assert 'Run python enroll.py first' in stopped_with(script.main)
    enroll.main()
    for script in (identification, verification):
        message = stopped_with(script.main)
        assert "no test file of test_speaker = '%s'. Choose one of me, or" % SIX[0] in message
        assert "test_speaker = 'x.wav': there is no such file" in stopped_with(script.main,
                                                                               test_speaker='x.wav')
    assert "'you' is not enrolled. Choose among me." in stopped_with(identification.main, test_speaker='me',
                                                                     spk_list=['me', 'you'])
    assert "'you' is not enrolled. Choose among me." in stopped_with(verification.main, test_speaker='me',
                                                                     enroll_speaker='you')
    os.remove(c.TEST_FEAT_DIR + '/me/test.p')
    for script in (identification, verification):
        assert 'There is no test file' in stopped_with(script.main)


@pytest.fixture
def four_speakers(write_vector, monkeypatch):
    """Files of a and b, of a stranger who has no enrolment file, and of c, whose enrolment file is damaged.

    The scripts use FirstFrame instead of a checkpoint.
    """
    for name, x, y in (('a/enroll', 1, 0), ('b/enroll', 0, 1), ('a/test', 3, 4), ('b/test1', 4, 3),
                       ('b/test2', 3, 4),
                       ('c/test', 1, 1), ('stranger/test', -4, -3)):
        write_vector('%s/%s.p' % (c.TEST_FEAT_DIR, name), x, y)
    Path(c.TEST_FEAT_DIR, 'c/enroll.p').write_bytes(b'rubbish')
    for script in (enroll, identification, verification):
        monkeypatch.setattr(script, 'load_model', lambda *arguments: FirstFrame())


def test_a_speaker_who_cannot_be_enrolled_does_not_stop_the_class(four_speakers, lab, stopped_with, capsys):
    """It ends with an error, so the exit code is 1."""
    assert stopped_with(enroll.main) == (
        'Error: Not enrolled, for the reasons above: c. The others are enrolled.')
    captured = capsys.readouterr()
    assert captured.err.startswith('Skipped c: %s/c/enroll.p: not a pickle of plain data' % c.TEST_FEAT_DIR)
    assert captured.out == (
        'Not used: feat_logfbank_nfilt40/test/stranger: has test files, but no enrolment file such as '
        'enroll.wav\n'
        'Start to aggregate all the d-vectors per enroll speaker\n'
        'Aggregates the activation (spk : a)\nAggregates the activation (spk : b)\n'
        'Save the embeddings for a\nSave the embeddings for b\n')
    assert list(lab_model.load_enroll_embeddings('enroll_embeddings')) == ['a', 'b']
    assert os.listdir('enroll_embeddings') == ['embeddings.p']  # two speakers make no picture
    (lab / c.TEST_FEAT_DIR / 'c/enroll.p').unlink()
    enroll.main()  # ends without an error


@pytest.fixture
def enrolled_by_hand(four_speakers, stopped_with, capsys):
    stopped_with(enroll.main)
    capsys.readouterr()


def test_several_test_files_are_all_tested_and_named(enrolled_by_hand, lab, capsys):
    identification.main(test_speaker='b')
    answers = ('\n%s/b/test%d.p\n\n=== Speaker identification ===\nTrue speaker : b\nPredicted speaker : %s\n'
               'Result : %s\n\n%s : 0.8000\n%s : 0.6000\n')
    assert capsys.readouterr().out == (
        answers % (c.TEST_FEAT_DIR, 1, 'a', False, 'a', 'b') + answers % (c.TEST_FEAT_DIR, 2, 'b', True, 'b',
                                                                          'a'))
    verification.main(enroll_speaker='b', test_speaker='b', thres=0.7)
    answers = ('\n%s/b/test%d.p\n\n=== Speaker verification ===\nTrue speaker: b\nClaimed speaker : b\n\n'
               'Result : %s\n\nScore : %s\nThreshold : 0.70\n\n')
    assert capsys.readouterr().out == (
        answers % (c.TEST_FEAT_DIR, 1, 'Reject', '0.6000') + answers % (c.TEST_FEAT_DIR, 2, 'Accept',
                                                                        '0.8000'))
    identification.main(test_speaker='a')  # a single one needs no name
    assert capsys.readouterr().out.startswith('\n=== Speaker identification ===\nTrue speaker : a\n')


def test_a_stranger_who_is_called_unknown(enrolled_by_hand, lab, capsys):
    answer = '=== Speaker identification ===\nTrue speaker : %s\nPredicted speaker : %s\nResult : %s\n'
    for settings, expected in (
            ({'test_speaker': 'stranger', 'thres': 0.5}, ('stranger', 'unknown', True)),
            ({'test_speaker': 'stranger'}, ('stranger', 'b', False)),
            ({'test_speaker': c.TEST_FEAT_DIR + '/stranger/test.p', 'thres': -0.7}, ('stranger', 'b', False)),
            ({'test_speaker': 'a', 'spk_list': ['b'], 'thres': 0.9}, ('a', 'unknown', True)),
            ({'test_speaker': 'a', 'thres': 0.9}, ('a', 'unknown', False))):
        identification.main(**settings)
        assert answer % expected in capsys.readouterr().out


# ---------------------------------------------------------------------------------------- a lab of six voices

@pytest.fixture(scope='module')
def enrolled(six_voices, tmp_path_factory):
    """The six voices are enrolled: (settings of the scripts, what enroll.py printed)."""
    settings = {'log_dir': str(six_voices / 'model_saved'), 'test_dir': str(six_voices / c.TEST_FEAT_DIR),
                'embedding_dir': str(tmp_path_factory.mktemp('enrolled')), 'cp_num': 'best'}
    with open(settings['embedding_dir'] + '/enroll.log', 'w+') as log, contextlib.redirect_stdout(log):
        enroll.main(**settings)
        log.seek(0)
        return settings, log.read()


def test_six_voices_the_loss_falls(six_voices):
    log = (six_voices / 'train.log').read_text().removeprefix('No GPU found: running on the CPU\n')
    assert log.startswith('\nTraining set 87 utts (90.6%)\nValidation set 9 utts (9.4%)\nTotal 96 utts\n'
                          '\nNumber of classes (speakers):\n6\n\n')
    assert log.count('Train Epoch: ') == SIX_EPOCHS
    assert '\nTrain Epoch: %3d [       0/      87 (  0%%)]\tTime ' % SIX_EPOCHS in log
    epochs = re.findall(r'  \* Validation: Loss (\d+\.\d{4})\tAcc (\d+\.\d{4})\n'
                        r'  \* Epoch (\d+): learning rate (\d[\de.-]*), \d+\.\d s\n', log)
    losses, accuracies, numbers, rates = (list(map(float, column)) for column in zip(*epochs))
    assert numbers == list(range(1, SIX_EPOCHS + 1)) and rates[0] == 0.0002 and rates[-1] < rates[2]
    assert losses[-1] < losses[0] and max(accuracies) > 30  # by chance: 17
    assert log.endswith('Lowest validation loss at epoch %d\nPicture: model_saved/loss_plot.png\n'
                        'Picture: model_saved/clusters.png\n' % (1 + losses.index(min(losses))))


def test_six_voices_what_training_writes(six_voices):
    names = ['checkpoint_%d.pth' % n for n in range(1, SIX_EPOCHS + 1)]
    assert sorted(os.listdir(six_voices / 'model_saved')) == sorted(
        [*names, 'checkpoint_best.pth', 'run.json', 'loss_plot.png', 'clusters.png', '.lock'])
    checkpoint = torch.load(six_voices / 'model_saved' / names[-1])
    assert set(checkpoint) == {'epoch', 'state_dict', 'optimizer', 'scheduler', 'criterion', 'random',
                               'features',
                               'n_speakers', 'speakers', 'backbone', 'level'}
    assert (checkpoint['backbone'], checkpoint['level'], checkpoint['n_speakers']) == ('resnet18', -44, 6)
    assert checkpoint['speakers'] == sorted(os.listdir(six_voices / c.TRAIN_FEAT_DIR))
    assert checkpoint['epoch'] == SIX_EPOCHS + 1
    assert checkpoint['optimizer']['param_groups'][0]['weight_decay'] == 1e-4

    run = json.loads((six_voices / 'model_saved/run.json').read_text())
    assert (run['corpus'], run['utterances'], run['classes']) == (c.TRAIN_FEAT_DIR, 96, 6)
    assert run['settings']['lr'] == 5e-3 and run['settings']['scheduler_type'] == 'onecycle'
    assert all(set(epoch) == {'train_loss', 'valid_loss', 'valid_acc', 'lr', 'seconds'}
               for epoch in run['epochs'])
    losses = [epoch['valid_loss'] for epoch in run['epochs']]
    number = 1 + losses.index(min(losses))

    best = torch.load(six_voices / 'model_saved/checkpoint_best.pth')
    assert set(best) == set(checkpoint) - set(runs.TRAINING_ONLY)
    assert best['epoch'] == number + 1 and best['n_speakers'] == 6
    assert is_same(best['state_dict'],
                   torch.load(six_voices / 'model_saved' / names[number - 1])['state_dict'])


def test_six_voices_all_are_identified_and_score_above_every_other(six_voices, lab, capsys):
    """With the model that ships: it has learned from more speakers than a test can train on."""
    settings = {'log_dir': str(PROJECT / 'model_saved'), 'test_dir': str(six_voices / c.TEST_FEAT_DIR)}
    enroll.main(**settings, cp_num='etri240', plot=False)
    model = lab_model.load_model(False, settings['log_dir'], 'etri240', 128, 240)
    embeddings = lab_model.load_enroll_embeddings('enroll_embeddings', model=model)
    assert sorted(embeddings) == SIX
    for speaker in SIX:
        path = '%s/%s/test.p' % (settings['test_dir'], speaker)
        assert identification.perform_identification(False, model, embeddings, path, 100, SIX) == speaker
        scores = {spk: verification.perform_verification(False, model, embeddings, spk, path, 100,
                                                         0.95) for spk in SIX}
        assert scores.pop(speaker) > max(scores.values())


def test_six_voices_what_the_scripts_print(enrolled, capsys):
    settings, out = enrolled
    first = '' if torch.cuda.is_available() else 'No GPU found: running on the CPU\n'
    lines = ['=> loading checkpoint', 'Start to aggregate all the d-vectors per enroll speaker',
             *('Aggregates the activation (spk : %s)' % speaker for speaker in SIX),
             *('Save the embeddings for %s' % speaker for speaker in SIX),
             *('Picture: %s/%s.png' % (settings['embedding_dir'], name)
               for name in ('similarity', 'parameters'))]
    assert out == first + '\n'.join(lines) + '\n'

    identification.main(**settings)
    out = capsys.readouterr().out
    ranking = re.findall(r'\n(\w+) : (-?\d\.\d{4})', out)
    assert out == ('%s=> loading checkpoint\n\n=== Speaker identification ===\n'
                   'True speaker : %s\nPredicted speaker : %s\nResult : %s\n\n%s' % (
                       first, SIX[0], ranking[0][0], ranking[0][0] == SIX[0],
                       ''.join('%s : %s\n' % line for line in ranking)))
    assert sorted(name for name, _ in ranking) == SIX
    assert [float(score) for _, score in ranking] == sorted((float(score) for _, score in ranking),
                                                            reverse=True)

    verification.main(**settings)
    assert re.fullmatch(first + r'=> loading checkpoint\n\n=== Speaker verification ===\n'
                        r'True speaker: %s\nClaimed speaker : %s\n\nResult : (Accept|Reject)\n\n'
                        r'Score : [01]\.\d{4}\nThreshold : 0\.95\n\n' % (SIX[0], SIX[0]),
                        capsys.readouterr().out)


def test_an_enrolment_with_another_checkpoint_is_refused(enrolled, lab, stopped_with):
    settings, _ = enrolled
    for script in (identification, verification):
        message = stopped_with(script.main, **{**settings, 'cp_num': 1})
        assert 'checkpoint_best.pth, and cannot be scored with' in message
        command = message.partition('python enroll.py ')[2]
        assert shlex.split(command) == ['--log_dir=%s' % settings['log_dir'], '--cp_num=1',
                                        '--embedding_dir=%s' % settings['embedding_dir']]
    shutil.copy(settings['log_dir'] + '/checkpoint_2.pth', 'checkpoint_1.pth')
    enroll.main(**{**settings, 'log_dir': '.', 'cp_num': 1, 'embedding_dir': 'e', 'plot': False})
    shutil.copy(settings['log_dir'] + '/checkpoint_1.pth', 'checkpoint_1.pth')
    for script in (identification, verification):
        assert 'with an earlier ./checkpoint_1.pth, which has changed since' in stopped_with(
            script.main, **{**settings, 'log_dir': '.', 'cp_num': 1, 'embedding_dir': 'e'})


def test_recordings_that_are_levelled_are_not_compared_with_features_that_are_not(
        six_voices, enrolled, lab, capsys, stopped_with, monkeypatch):
    """SIX[0] is enrolled from a feature file such as the published ones, SIX[1] from a wav of any level."""
    test_dir = Path('mixed')
    shutil.copytree(six_voices / c.TEST_WAV_DIR / SIX[1], test_dir / SIX[1])
    audio = DB_wav_reader.read_audio(six_voices / c.TEST_WAV_DIR / SIX[0] / 'enroll.wav')
    DB_wav_reader.write_feature(test_dir / SIX[0] / 'enroll.p', DB_wav_reader.extract_features(audio), SIX[0])
    shutil.copy(six_voices / c.TEST_WAV_DIR / SIX[0] / 'test.wav', test_dir / SIX[0])
    settings = {**enrolled[0], 'test_dir': 'mixed', 'embedding_dir': 'e', 'plot': False}
    enroll.main(**settings)
    of_exercises = {name: value for name, value in settings.items() if name != 'plot'}
    for script in (identification, verification, similar_voices, thresholds):
        message = stopped_with(script.main, **of_exercises)
        assert ('mixed/%s/test.wav is levelled to -44 dBFS, the enrolment of %s is not levelled: their '
                'scores cannot' % (SIX[0], SIX[0])) in message
    # A feature that is not levelled, against an enrolment that is
    settings = of_exercises
    unlevelled = {**settings, 'test_speaker': 'mixed/%s/enroll.p' % SIX[0]}
    for script, more in ((identification, {'spk_list': [SIX[1]]}),
                         (verification, {'enroll_speaker': SIX[1]})):
        message = stopped_with(script.main, **unlevelled, **more)
        assert 'enroll.p is not levelled, the enrolment of %s is levelled to -44 dBFS' % SIX[1] in message
    # What is of one kind is compared, although others are enrolled
    capsys.readouterr()
    identification.main(**settings, test_speaker=SIX[1], spk_list=[SIX[1]])
    verification.main(**unlevelled)
    assert 'Result : True' in capsys.readouterr().out
    # The level is the one that the model was trained with
    monkeypatch.setattr(c, 'LEVEL_DBFS', -30)
    identification.main(**settings, test_speaker=SIX[1], spk_list=[SIX[1]])
    assert 'Result : True' in capsys.readouterr().out


# ------------------------------------------------------------------------------------------- runs

NOISE = {'use_cuda': False, 'train_dir': 'feat', 'batch_size': 9, 'patience': 0,
         'plot': False}  # two steps an epoch
VALID_LOSSES = [3.0, 4.0, 2.0,
                5.0]  # so the learning rate falls after epochs 2 and 4, and epoch 3 is the best
REAL_VALIDATE = train.validate


def planned_validate(valid_loader, model, criterion, use_cuda, epoch, *, valid_acc):
    """Stands for validate: the losses are known in advance."""
    REAL_VALIDATE(valid_loader, model, criterion, use_cuda, epoch, valid_acc=valid_acc)
    return VALID_LOSSES[epoch - 1]


@pytest.fixture(scope='module')
def four_epochs(tmp_path_factory):
    """A folder with a run of four epochs, on twenty utterances of noise by two speakers."""
    folder = tmp_path_factory.mktemp('four epochs')
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(folder)
        monkeypatch.setattr(train, 'validate', planned_validate)
        rng = np.random.default_rng(0)
        for i in range(20):
            feature = rng.normal(size=(rng.integers(210, 250), 40))  # 110 to 150 frames are left
            DB_wav_reader.write_feature('feat/%s/%02d.p' % ('ab'[i % 2], i), feature, 'ab'[i % 2])
        train.main(**{**NOISE, 'plot': True}, n_epochs=4)
    return folder


@pytest.fixture
def four(four_epochs, lab, monkeypatch):
    """A copy of it, to go on there."""
    shutil.copytree(four_epochs, lab, dirs_exist_ok=True)
    monkeypatch.setattr(train, 'validate', planned_validate)
    return lab


def is_same(one, other):
    """Whether two checkpoints, or parts of them, are equal bit for bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(is_same(one[key], other[key]) for key in one)
    return one == other


def history(folder):
    """The losses and the learning rate of each epoch of a run."""
    epochs = json.loads(Path(folder, 'run.json').read_text())['epochs']
    return [(epoch['train_loss'], epoch['valid_loss'], epoch['lr']) for epoch in epochs]


def contents(folder):
    """The content of each file in a folder, but not of the lock."""
    paths = [path for path in Path(folder).iterdir() if path.is_file() and path.name != '.lock']
    return {path.name: path.read_bytes() for path in paths}


def test_two_epochs_and_two_more_equal_four(four):
    """Bit for bit: parameters, losses, learning rates, random numbers; the learning rate falls in between."""
    train.main(**NOISE, n_epochs=2, log_dir='parts')
    train.main(**NOISE, n_epochs=2, log_dir='parts', start=3)
    assert history('parts') == history('model_saved')
    assert [lr for _, _, lr in history('parts')] == pytest.approx([0.1, 0.1, 0.01, 0.01])
    for name in ('checkpoint_1.pth', 'checkpoint_4.pth', 'checkpoint_best.pth'):
        assert is_same(torch.load('parts/' + name), torch.load('model_saved/' + name)), name
    assert torch.load('parts/checkpoint_best.pth')['epoch'] == 4  # epoch 3 was the best
    assert sorted(os.listdir('parts')) == ['.lock', *['checkpoint_%d.pth' % n for n in range(1, 5)],
                                           'checkpoint_best.pth', 'run.json']


def test_the_deep_dive_measures_the_best_epoch(four, capsys):
    """It does not learn otherwise. Thresholds and backends are those of the best network, not of the last
    one."""
    deep_dive.train.main(**NOISE, n_epochs=4, log_dir='deep')
    assert history('deep') == history('model_saved')
    best, model = torch.load('deep/checkpoint_best.pth'), lab_model.load_model(False, 'deep', 'best', 128, 2)
    assert best['epoch'] == 4 and set(best) == {*torch.load('model_saved/checkpoint_best.pth'), 'pooling',
                                                'head',
                                                'thresholds', *checks.BACKEND_TENSORS}
    assert is_same(best['state_dict'], torch.load('model_saved/checkpoint_3.pth')['state_dict'])
    dataset, _, _ = train.load_dataset(10, train_dir='feat')
    # The windows are drawn after the last epoch
    torch.set_rng_state(torch.load('deep/checkpoint_4.pth')['random']['cpu'])
    expected = backends.estimate_from(dataset, model, False, 2000)
    for name in checks.BACKEND_TENSORS:
        torch.testing.assert_close(best[name], expected[name], rtol=1e-4, atol=1e-4)


def test_a_seed_gives_one_result_and_another_seed_another(four, capsys):
    """No matter whether the features are kept in memory or read from disk."""
    deep_dive.train.main(**NOISE, n_epochs=1, log_dir='from disk', cache_gb=0, num_workers=0)
    train.main(**NOISE, n_epochs=1, log_dir='other', seed=1)
    assert history('from disk') == history('model_saved')[:1] != history('other')
    from_disk, in_memory = (torch.load('%s/checkpoint_1.pth' % log_dir) for log_dir in ('from disk',
                                                                                        'model_saved'))
    assert is_same({name: from_disk[name] for name in in_memory}, in_memory)


def test_a_run_continued_in_the_middle_keeps_what_came_after(four, capsys):
    before, losses = contents('model_saved'), history('model_saved')
    capsys.readouterr()
    train.main(**NOISE, n_epochs=1, start=2)
    assert ('\nmodel_saved: what the earlier run did from epoch 2 on is now in model_saved/run_001. '
            'To use it again: --log_dir=model_saved/run_001\n') in capsys.readouterr().out
    first = before.pop('checkpoint_1.pth')
    assert contents('model_saved/run_001') == before
    after = contents('model_saved')
    assert after.keys() == {'checkpoint_1.pth', 'checkpoint_2.pth', 'checkpoint_best.pth', 'run.json'}
    assert after['checkpoint_1.pth'] == first and history('model_saved') == losses[:2]
    assert is_same(torch.load('model_saved/checkpoint_2.pth'),
                   torch.load('model_saved/run_001/checkpoint_2.pth'))
    best = torch.load('model_saved/checkpoint_best.pth')  # of the two epochs that are there
    assert best['epoch'] == 2 and is_same(best['state_dict'],
                                          torch.load('model_saved/checkpoint_1.pth')['state_dict'])


@pytest.mark.parametrize('losses', [(np.nan, 1.0), (1.0, np.inf)])
def test_diverged_training_stops(four, stopped_with, monkeypatch, losses):
    """Nothing of that epoch is kept."""
    before = contents('model_saved')
    monkeypatch.setattr(train, 'train', lambda *arguments, **more: losses[0])
    monkeypatch.setattr(train, 'validate', lambda *arguments, valid_acc: valid_acc.update(50.0) or losses[1])
    message = stopped_with(train.main, **NOISE, start=5, n_epochs=1)
    assert re.search(r'The loss is (nan|inf) in epoch 5: training has diverged. Try a lower lr.', message)
    assert contents('model_saved').items() >= before.items() - {('run.json', before['run.json'])}
    assert len(history('model_saved')) == 4 and 'checkpoint_5.pth' not in os.listdir('model_saved')


def test_a_stopped_run_says_how_to_go_on(four, stopped_with, monkeypatch):
    """A run that goes on is stopped in its first epoch, then in its second. In the end, it is as if never
    stopped."""
    def stop_in(last_epoch):
        def validate(*arguments, **more):
            if arguments[-1] == last_epoch:
                raise KeyboardInterrupt
            return planned_validate(*arguments, **more)
        monkeypatch.setattr(train, 'validate', validate)
    whole = history('model_saved')
    for start, last_epoch, best in ((3, 3, 1), (3, 4, 3)):
        stop_in(last_epoch)
        assert stopped_with(train.main, **NOISE, start=start, n_epochs=5 - start) == (
            'Error: Stopped by Ctrl-C in epoch %d, after %d finished epochs.\nTo go on from there, add '
            '--start=%d --n_epochs=%d to the same command.'
            % (last_epoch, last_epoch - 1, last_epoch, 5 - last_epoch))
        numbers = ['checkpoint_%d.pth' % number for number in range(1, last_epoch)]
        assert sorted(os.listdir('model_saved')) == ['.lock', *numbers, 'checkpoint_best.pth', 'run.json',
                                                     'run_001']
        assert history('model_saved') == whole[:last_epoch - 1]
        assert torch.load('model_saved/checkpoint_best.pth')['epoch'] == best + 1
    stop_in(None)
    train.main(**NOISE, start=4, n_epochs=1)
    assert history('model_saved') == whole
    for name in ('checkpoint_4.pth', 'checkpoint_best.pth'):
        assert is_same(torch.load('model_saved/' + name), torch.load('model_saved/run_001/' + name)), name
    assert not os.path.exists('model_saved/run_002')

    # A run that was stopped in its first epoch has left nothing to keep
    stop_in(1)
    for _ in range(2):
        assert 'add --start=1 --n_epochs=4 to' in stopped_with(train.main, **NOISE, n_epochs=4, log_dir='new')
        assert sorted(os.listdir('new')) == ['.lock', 'run.json']


def test_an_earlier_run_is_moved_aside_whole(four, capsys):
    for name in ('README.md', 'checkpoint_etri240.pth'):  # these are of no run
        (four / 'model_saved' / name).write_text(name)
    kept = contents('model_saved')
    of_no_run = {name: kept.pop(name) for name in ('README.md', 'checkpoint_etri240.pth')}
    capsys.readouterr()
    train.main(**NOISE, n_epochs=1, lr=0.01)
    moved = ('model_saved: the earlier run is now in model_saved/run_%03d. '
             'To use it again: --log_dir=model_saved/run_%03d\n')
    assert '\n' + moved % (1, 1) in capsys.readouterr().out
    assert contents('model_saved/run_001') == kept
    after = contents('model_saved')
    assert after.keys() == {'checkpoint_1.pth', 'checkpoint_best.pth', 'run.json', *of_no_run}
    assert of_no_run.items() <= after.items() and history('model_saved')[0][2] == 0.01
    lab_model.load_model(False, 'model_saved/run_001', 4, 128, 2)

    # The next one gets another folder. Nobody knows where these checkpoints are from, but they are kept
    (four / 'model_saved/run.json').unlink()
    capsys.readouterr()
    runs.move_aside(Path('model_saved'), 1)
    assert capsys.readouterr().out == moved % (2, 2)
    assert contents('model_saved/run_002') == {
        name: after[name] for name in ('checkpoint_1.pth', 'checkpoint_best.pth')}
    (four / 'model_saved/checkpoint_best.pth').write_text('the only one that a student has kept')
    runs.move_aside(Path('model_saved'), 1)
    assert contents('model_saved/run_003') == {'checkpoint_best.pth': b'the only one that a student has kept'}
    (four / 'model_saved/run.json').write_bytes(after['run.json'])  # the losses alone
    runs.move_aside(Path('model_saved'), 1)
    assert contents('model_saved').keys() == of_no_run.keys()
    assert [Path(folder, 'run.json').read_bytes() == after['run.json']
            for folder in ('model_saved/run_001', 'model_saved/run_004')] == [False, True]
    capsys.readouterr()
    runs.move_aside(Path('model_saved'), 1)
    runs.move_aside(Path('nothing'), 1)
    assert capsys.readouterr().out == ''


@pytest.mark.parametrize('start', [1, 3])
def test_an_interrupted_move_is_completed(lab, monkeypatch, start):
    """It is interrupted before each of its steps in turn. Nothing is lost, and one folder gets all."""
    files = {'checkpoint_%d.pth' % n: b'%d' % n for n in (1, 2, 3, 4, 10)}
    files.update({name: name.encode() for name in ('checkpoint_best.pth', 'loss_plot.png', 'clusters.png')})
    files['run.json'] = json.dumps({'epochs': [1, 2]}).encode()
    stay = {name: files[name] for name in ('checkpoint_1.pth', 'checkpoint_2.pth', 'run.json') if start == 3}
    moved = {name: content for name, content in files.items() if name == 'run.json' or name not in stay}
    n_interrupted, steps = 0, [0]

    def step(function):
        def interrupted(*arguments, **settings):
            steps[0] -= 1
            if steps[0] < 0:
                raise KeyboardInterrupt
            return function(*arguments, **settings)
        return interrupted
    while True:
        log_dir = lab / str(n_interrupted)
        for folder in (log_dir, log_dir / 'run_001'):  # an earlier run is there already
            folder.mkdir()
            for name in files:
                (folder / name).write_bytes(files[name] if folder == log_dir else b'earlier')
        steps[0] = n_interrupted
        with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
            for module, name in ((os, 'rename'), (os, 'replace'), (os, 'unlink'), (os, 'mkdir'),
                                 (shutil, 'copyfile')):
                patch.setattr(module, name, step(getattr(module, name)))
            runs.move_aside(log_dir, start)
        there = [contents(log_dir), contents(log_dir / 'run_002') if (log_dir / 'run_002').exists() else {}]
        for name, content in files.items():
            assert content in (there[0].get(name), there[1].get(name)), (n_interrupted, name)
        runs.move_aside(log_dir, start)
        assert contents(log_dir) == stay and contents(log_dir / 'run_002') == moved, n_interrupted
        assert set(contents(log_dir / 'run_001').values()) == {b'earlier'}
        assert not (log_dir / 'run_003').exists()
        if steps[0] >= 0:
            break
        n_interrupted += 1
    assert n_interrupted >= len(moved)


def test_a_run_that_cannot_go_on_is_left_as_it_is(four, stopped_with, capsys):
    shutil.copytree('feat', 'other')
    before = contents('model_saved')
    for settings, complaint in (
            ({'seed': 1},
             'The run in model_saved has seed = 0, main() says 1. To go on with it, they must be'),
            ({'lr': 0.2}, 'has lr = 0.1, main() says 0.2.'),
            ({'use_shuffle': False}, 'has use_shuffle = True, main() says False.'),
            ({'train_dir': 'other'}, 'has corpus = feat, this one other. Set start = 1 to begin a new run.'),
            ({'start': 6}, 'model_saved has 4 finished epochs: set start = 5 or lower.'),
            ({'log_dir': 'empty'}, 'empty/run.json does not exist: there is no run of train.py in empty.')):
        assert complaint in stopped_with(train.main, **{**NOISE, 'start': 3, 'n_epochs': 1, **settings})
    state_dict = torch.load('model_saved/checkpoint_2.pth')['state_dict']
    checkpoint = Path('model_saved/checkpoint_2.pth')
    for change, complaint in (
            (lambda: checkpoint.write_bytes(b'rubbish'),
             'checkpoint_2.pth: not a checkpoint that can be loaded'),
            (lambda: torch.save({'epoch': 3, 'state_dict': state_dict, 'optimizer': {}}, checkpoint),
             "checkpoint_2.pth: no training can go on from it ('scheduler').\nSet start to an earlier epoch, "
             "or to 1."),
            (checkpoint.unlink, 'checkpoint_2.pth does not exist'),
            (lambda: Path('model_saved/run.json').write_text('{"epochs": [{}], "settings": {}}'),
             "run.json: not what train.py wrote there ('train_loss'). Set start = 1, which moves it aside."),
            (lambda: Path('model_saved/run.json').write_text('{"epochs": [], "settings": 3}'),
             'run.json: not what train.py wrote there (settings or losses are missing).'),
            (lambda: Path('model_saved/run.json').write_text('[' * 10 ** 5),
             'run.json: not what train.py wrote')):
        change()
        changed = contents('model_saved')
        assert complaint in stopped_with(train.main, **NOISE, start=3, n_epochs=1)
        assert contents('model_saved') == changed
        for name, content in before.items():
            (four / 'model_saved' / name).write_bytes(content)
    assert sorted(os.listdir()) == ['feat', 'model_saved', 'other']
    assert not os.path.exists('model_saved/run_001')


@pytest.mark.parametrize('script, more', [(train, {}), (deep_dive.train, {'loss_type': 'center'})],
                         ids=['train.py', 'deep_dive/train.py'])
def test_one_cycle_spans_the_epochs_of_all_parts(four, stopped_with, capsys, script, more):
    """A run is stopped after two of three epochs and goes on: the learning rates and the parameters are the
    same."""
    cycle = {**NOISE, 'scheduler_type': 'onecycle', 'log_dir': 'cycle', **more}
    script.main(**cycle, n_epochs=3)
    # 6 steps. The learning rate rises until step 0.3 * 6 - 1, then it falls until step 5
    falling = [0.05 * (1 + np.cos(np.pi * (step - 0.8) / 4.2)) for step in (2, 4)]
    assert [lr for _, _, lr in history('cycle')] == pytest.approx([0.004, *falling], rel=1e-3)
    assert ('The learning rate of the run in cycle ends with epoch 3, after 6 training steps, not after 8.\n'
            'Set n_epochs = 1, and keep the number of processes.') in stopped_with(
        script.main, **cycle, start=3, n_epochs=2)
    script.main(**cycle, start=3, n_epochs=1)
    assert history('cycle') == history('cycle/run_001')
    assert is_same(torch.load('cycle/checkpoint_3.pth'), torch.load('cycle/run_001/checkpoint_3.pth'))


def test_a_training_that_begins_with_a_trained_network(four, capsys):
    """The backbone stays as it was, and the last layer learns. Settings of the deep dive go together."""
    deep_dive.train.main(**NOISE, n_epochs=1, log_dir='transfer', init_from='model_saved/checkpoint_best.pth',
                         freeze_backbone=True, loss_type='center', scheduler_type='cosine',
                         augment=['speed', 'level'])
    old, new = (torch.load(folder + '/checkpoint_best.pth') for folder in ('model_saved', 'transfer'))
    last = {name for name in new['state_dict'] if name.startswith('last.')}
    assert {name: new['state_dict'][name].shape[0] for name in last} == {'last.weight': 6,
                                                                         'last.bias': 6}  # 3 speeds
    assert is_same({name: value for name, value in old['state_dict'].items() if name not in last},
                   {name: value for name, value in new['state_dict'].items() if name not in last})
    assert new['n_speakers'] == 2 and history('transfer')[0][2] == 0.1


def test_the_smallest_d_vectors_and_a_last_batch_of_one(four, capsys):
    """BatchNorm needs two utterances, so a last batch of one is left out."""
    settings = {**NOISE, 'batch_size': 17, 'plot': True, 'embedding_size': 2}
    train.main(**settings, n_epochs=1, log_interval=1, log_dir='small')
    out = capsys.readouterr().out
    assert out.count('Train Epoch') == 1 and '[       0/      18 (  0%)]' in out  # 18 = 17 + 1
    assert out.endswith('Picture: small/loss_plot.png\nPicture: small/clusters.png\n')
    assert torch.load('small/checkpoint_best.pth')['state_dict']['fc0.weight'].shape == (2, 128)
    deep_dive.train.main(**settings, n_epochs=1, log_dir='deep')
    assert torch.load('deep/checkpoint_best.pth')['mean'].shape == (1, 2)


def test_training_data_of_no_use(lab, write_feat, stopped_with):
    for i in range(3):
        write_feat('feat/a/%d.p' % i)
    few = 'feat has 3 utterances: val_ratio = %d leaves %d for training and %d for validation. Change it.'
    assert few % (10, 3, 0) in stopped_with(train.main, train_dir='feat')
    assert few % (90, 1, 2) in stopped_with(train.main, train_dir='feat', val_ratio=90)
    assert 'feat has only one speaker. Training needs at least two.' in stopped_with(
        train.main, train_dir='feat', val_ratio=40)
    write_feat('feat/b/1.p', label='c')
    assert "feat/b/1.p: its label is 'c', but it lies in the folder of 'b'" in stopped_with(
        train.main, train_dir='feat', val_ratio=40)
    assert os.listdir() == ['feat']


# ------------------------------------------------------------------------------------------- earlier versions

@pytest.fixture
def earlier(four):
    """The run as an earlier version left it, whose train.py had all settings and measured the best epoch."""
    run = json.loads(Path('model_saved/run.json').read_text())
    run['settings'] = {**defaults_of(deep_dive.train.main), **run['settings']}
    Path('model_saved/run.json').write_text(json.dumps(run))
    for path in Path('model_saved').glob('*.pth'):
        checkpoint = {**torch.load(path), 'pooling': 'average', 'head': 'slides'}
        if path.name == 'checkpoint_best.pth':
            numbers = {'eer': 0.9, 'slope': 20.0, 'offset': -18.0}
            checkpoint.update(thresholds={'None': {'cosine': numbers}}, mean=torch.zeros(1, 128))
        runs.save_checkpoint(path, checkpoint)
    return four


def test_a_run_of_an_earlier_version_goes_on(earlier, stopped_with):
    before, losses = contents('model_saved'), history('model_saved')
    message = stopped_with(train.main, **NOISE, start=3, n_epochs=2)
    assert 'The run in model_saved has a setting ' in message
    assert 'Go on with python -m deep_dive.train.' in message
    assert contents('model_saved') == before
    deep_dive.train.main(**NOISE, start=3, n_epochs=2)
    assert history('model_saved') == losses
    after = torch.load('model_saved/checkpoint_4.pth')
    assert is_same(after['state_dict'], torch.load('model_saved/run_001/checkpoint_4.pth')['state_dict'])
    train.main(**NOISE, n_epochs=1)  # a new run moves it aside
    assert len(history('model_saved')) == 1 and history('model_saved/run_002') == losses


def test_a_checkpoint_and_an_enrolment_of_an_earlier_version_are_used(earlier, write_vector, capsys):
    write_vector(c.TEST_FEAT_DIR + '/me/enroll.p', 3, 4)
    write_vector(c.TEST_FEAT_DIR + '/me/test.p', 3, 4)
    enroll.main(cp_num='best', plot=False)  # the format of an enrolment is the same
    model = lab_model.load_model(False, 'model_saved', 'best', 128, 2)
    assert type(model) is lab_model.background_resnet and model.thresholds['None']['cosine']['eer'] == 0.9
    assert list(model.backend) == ['mean']
    capsys.readouterr()
    settings = {'cp_num': 'best', 'test_speaker': 'me'}
    identification.main(**settings)
    verification.main(**settings, enroll_speaker='me', thres='model')
    out = capsys.readouterr().out
    assert 'Predicted speaker : me\nResult : True\n\nme : 1.0000\n' in out
    assert out.endswith('Result : Accept\n\nScore : 1.0000\nThreshold : 0.90\n\n')


# ------------------------------------------------------------------------------------------- files of a run

def test_a_failed_save_leaves_the_old_checkpoint(lab):
    runs.save_checkpoint('model_saved/checkpoint_1.pth', {'epoch': 2})
    with pytest.raises(Exception):
        runs.save_checkpoint('model_saved/checkpoint_1.pth', {'epoch': lambda: 0})
    assert torch.load('model_saved/checkpoint_1.pth') == {'epoch': 2}
    assert os.listdir('model_saved') == ['checkpoint_1.pth']


@pytest.mark.parametrize('start', [1, 2])
def test_a_further_process_of_torchrun_writes_nothing(four, start):
    before = contents('model_saved')
    network, settings = lab_model.background_resnet(128, 2), {**defaults_of(train.main), **NOISE,
                                                              'start': start}
    optimizer = train.create_optimizer('sgd', network, 0.1, 1e-4)
    scheduler = train.create_scheduler('plateau', optimizer, 0.1, 8, 0, 1e-4)
    datasets = train.load_dataset(10, train_dir='feat')[:2]
    with runs.Run(settings, datasets, network, nn.CrossEntropyLoss(), optimizer, scheduler,
                  writes=False) as run:
        run.save(start, 1.0, 2.0, 50.0)
    assert len(run.epochs) == start and run.all('valid_acc')[-1] == 50.0
    assert contents('model_saved') == before and not os.path.exists('model_saved/run_001')


@pytest.mark.skipif(os.name == 'nt', reason='Windows has another kind of lock')
@pytest.mark.parametrize('error, complaint', [
    (BlockingIOError(), 'Another train.py is at work in %s. Let it finish, stop it, or set another log_dir.'),
    (OSError(), '%s cannot be locked: do not start a second training in it')])
def test_a_log_dir_that_cannot_be_locked(lab, monkeypatch, capsys, error, complaint):
    def fail(*arguments):
        raise error
    monkeypatch.setattr('fcntl.lockf', fail)
    with pytest.raises(LabError) if isinstance(error,
                                               BlockingIOError) else contextlib.nullcontext() as refused:
        runs.lock_log_dir(lab / 'model_saved')
    said = str(refused.value) if refused else capsys.readouterr().out.strip()
    assert said == complaint % (lab / 'model_saved')


class Utterances:
    """Stands for a dataset: utterance i is by speaker labels[i], and its frames point to (labels[i] + 1, i +
    1)."""

    def __init__(self, labels, n_frames):
        self.labels, self.n_frames = labels, n_frames
        self.filenames = ['x/speaker %d/y.p' % label for label in labels]

    def feature(self, index):
        feature = np.zeros((self.n_frames[index], 40))
        feature[:, :2] = self.labels[index] + 1, index + 1
        return feature


def stand_for_run(log_dir, valid_dataset, best):
    """Stands for a Run whose best epoch is 3. Its draw(model_before) is Run.draw_clusters."""
    run = SimpleNamespace(log_dir=log_dir, datasets=[None, valid_dataset], settings={'use_cuda': False},
                          best_epoch=3,
                          best_model=lambda: best)
    run.draw = lambda model_before: runs.Run.draw_clusters(run, model_before, lab_model.embed_feature)
    return run


def test_clusters_by_hand(lab, monkeypatch, capsys):
    """Pieces of 100 frames; the eight speakers with the most utterances, so the fourth one is left out."""
    drawn = []
    monkeypatch.setattr(runs, 'draw_clusters', lambda *arguments: drawn.append(arguments))
    labels = [0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 1, 2, 4, 5, 6, 7, 8, 8]
    n_frames = [100, 199, 99, 500, 300] + [100] * 13
    stand_for_run('here', Utterances(labels, n_frames), FirstFrame()).draw(FirstFrame())
    (vectors, numbers, utterances, names, filename), = drawn
    expected = [0, 1, 4, 4, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17]
    assert list(utterances) == expected and list(numbers) == [labels[i] for i in expected]
    assert {label: 'speaker %d' % label for label in [0, 1, 2, 4, 5, 6, 7, 8]} == names
    assert list(names)[0] == 8 and filename == 'here/clusters.png'
    points = np.array([(labels[i] + 1, i + 1) for i in expected])
    assert list(vectors) == ['before training', 'after epoch 3']
    for d_vectors in vectors.values():
        np.testing.assert_allclose(d_vectors, points / np.linalg.norm(points, axis=1, keepdims=True),
                                   rtol=1e-6)

    stand_for_run('here', Utterances([0, 1], [99, 99]), FirstFrame()).draw(FirstFrame())
    assert capsys.readouterr().out == (
        'here/clusters.png is not drawn: no validation utterance has 100 frames\n')
    assert len(drawn) == 1


def test_clusters_are_of_the_epochs_that_they_name(four, monkeypatch):
    drawn, checkpoint = [], 'model_saved/checkpoint_%d.pth'
    monkeypatch.setattr(runs, 'draw_clusters', lambda vectors, *arguments: drawn.append(vectors))
    before, best = lab_model.background_resnet(128, 2), lab_model.background_resnet(128, 2)
    best.load_state_dict(torch.load(checkpoint % 3)['state_dict'])
    untrained = {name: value.clone() for name, value in before.state_dict().items()}
    stand_for_run('model_saved', Utterances([0, 1], [100, 100]), best.eval()).draw(before)
    assert is_same(before.state_dict(), untrained)
    first = lab_model.background_resnet(128, 2)
    first.load_state_dict(torch.load(checkpoint % 1)['state_dict'])
    assert list(drawn[0]) == ['before training', 'after epoch 1', 'after epoch 3']
    for vectors, model in zip(drawn[0].values(), (before, first, best)):
        for i, vector in enumerate(vectors):
            expected = lab_model.embed_feature(False, Utterances([0, 1], [100, 100]).feature(i), model.eval(),
                                               None)
            np.testing.assert_allclose(vector, expected[0], rtol=1e-5, atol=1e-6)
