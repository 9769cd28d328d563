"""The four scripts: what they print, letter by letter, what they decide, and what they say when something is wrong."""
import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

import configure as c
import enroll
import identification
import model as lab_model
import train
import verification
from conftest import PROJECT, FirstFrame, run_copy
from deep_dive import backends, schedules
from support import runs
from support.demo_voices import N_TRAIN_VOICES, draw_voice
from support.messages import LabError

SIX = [draw_voice(0, index).name for index in range(N_TRAIN_VOICES + 2, N_TRAIN_VOICES + 8)]  # the first is main()'s


def test_identification_by_hand(write_vector, capsys):
    embeddings = {'a': torch.tensor([[1.0, 0.0]]), 'b': torch.tensor([[0.0, 2.0]]), 'c': torch.tensor([[-1.0, -1.0]])}
    path = write_vector('feat/b/test.p', 3, 4)  # cosines: 0.6 with a, 0.8 with b, -7 / (5 sqrt 2) with c
    best = identification.perform_identification(False, FirstFrame(), embeddings, path, 100, ['a', 'b', 'c'])
    assert best == 'b'
    assert capsys.readouterr().out == (
        '\n=== Speaker identification ===\nTrue speaker : b\nPredicted speaker : b\nResult : True\n\n'
        'b : 0.8000\na : 0.6000\nc : -0.9899\n')

    assert identification.perform_identification(False, FirstFrame(), embeddings, path, 100, ['c', 'a']) == 'a'
    assert 'True speaker : b\nPredicted speaker : a\nResult : False\n' in capsys.readouterr().out


@pytest.mark.parametrize('thres, result', [(0.79, 'Accept'), (0.81, 'Reject')])
def test_verification_by_hand(write_vector, capsys, thres, result):
    path = write_vector('feat/b/test.p', 3, 4)
    verification.perform_verification(False, FirstFrame(), {'a': torch.tensor([[0.0, 5.0]])}, 'a', path, 100, thres)
    assert capsys.readouterr().out == (
        '\n=== Speaker verification ===\nTrue speaker: a\nClaimed speaker : b\n\nResult : %s\n\n'
        'Score : 0.8000\nThreshold : %.2f\n\n' % (result, thres))


def test_a_score_must_be_above_the_threshold_to_be_accepted(write_vector, capsys):
    path = write_vector('feat/b/test.p', 0, 1)
    verification.perform_verification(False, FirstFrame(), {'a': torch.tensor([[0.0, 1.0]])}, 'a', path, 100, 1.0)
    assert 'Result : Reject' in capsys.readouterr().out


def test_enrolment_files_of_a_speaker_add_up(write_vector, capsys):
    import pandas as pd
    DB = pd.DataFrame({'filename': [write_vector('t/b/enroll1.p', 3, 4), write_vector('t/a/enroll.p', 0, 9),
                                    write_vector('t/b/enroll2.p', 1, 0)], 'speaker_id': ['b', 'a', 'b']})
    embeddings = enroll.enroll_per_spk(False, 200, FirstFrame(), DB, 'enrolled')
    torch.testing.assert_close(embeddings, {'b': torch.tensor([[1.6, 0.8]]), 'a': torch.tensor([[0.0, 1.0]])})
    torch.testing.assert_close(lab_model.load_enroll_embeddings('enrolled'), embeddings)
    assert capsys.readouterr().out == (
        'Start to aggregate all the d-vectors per enroll speaker\n'
        'Aggregates the activation (spk : b)\nAggregates the activation (spk : a)\n'
        'Aggregates the activation (spk : b)\n'
        'Save the embeddings for a\nSave the embeddings for b\n')


def test_speakers_who_are_not_enrolled_are_named(write_vector):
    path, embeddings = write_vector('feat/b/test.p', 3, 4), {'a': torch.ones(1, 2), 'b': torch.ones(1, 2)}
    with pytest.raises(LabError, match="'x' is not enrolled. Choose among a, b."):
        identification.perform_identification(False, FirstFrame(), embeddings, path, 100, ['a', 'x'])
    with pytest.raises(LabError, match="'x' is not enrolled. Choose among a, b."):
        verification.perform_verification(False, FirstFrame(), embeddings, 'x', path, 100, 0.95)


class Scripted(nn.Module):
    """In place of a network: logits by hand, one list a batch, for (features, labels) batches of any content."""

    def __init__(self, batches):
        super().__init__()
        self.batches = iter(batches)
        self.bias = nn.Parameter(torch.zeros(2))
        self.modes = []

    def forward(self, x):
        self.modes.append(self.training)
        return None, torch.tensor(next(self.batches)) + self.bias


class Batches(list):
    """In place of a DataLoader."""
    dataset = range(5)


def test_training_lines_show_true_accuracies(capsys):
    """Batches of 2, 2 and 1 with 1, 2 and 0 right: 50 %, then 3 of 4, then 3 of 5."""
    x = torch.zeros(2, 1, 40, 100)
    loader = Batches([(x, torch.tensor([0, 0])), (x, torch.tensor([1, 1])), (x[:1], torch.tensor([0]))])
    model = Scripted([[[9.0, 0], [0, 9]], [[0.0, 9], [0, 9]], [[0.0, 9]]])
    optimizer = train.create_optimizer('sgd', model, 0.0, 0.0)
    loss = train.train(loader, model, nn.CrossEntropyLoss(), optimizer, False, 7, 2, log_interval=1)
    right, wrong = np.log(1 + np.exp(-9)), np.log(1 + np.exp(9))  # of one sample
    assert loss == pytest.approx((3 * right + 2 * wrong) / 5) and model.modes == [True] * 3
    lines = re.sub(r'Time \d+\.\d{3} \(\d+\.\d{3}\)', 'Time ...', capsys.readouterr().out)
    assert lines == (
        'Train Epoch:   7 [       0/       5 (  0%)]\tTime ...\tLoss 4.5001\tAcc 50.0000\n'
        'Train Epoch:   7 [       2/       5 ( 33%)]\tTime ...\tLoss 2.2501\tAcc 75.0000\n'
        'Train Epoch:   7 [       4/       5 ( 67%)]\tTime ...\tLoss 3.6001\tAcc 60.0000\n')


def test_window_d_vectors_by_hand():
    """Windows of lengths 5 and 7 count the same; the third utterance is not asked for; dice stay as they were."""
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


def test_diverged_training_stops():
    model = Scripted([[[np.nan, 0.0]]])
    loader = Batches([(torch.zeros(1, 1, 40, 100), torch.tensor([0]))])
    with pytest.raises(LabError, match='The loss is nan in epoch 3: training has diverged. Try a lower lr.'):
        train.train(loader, model, nn.CrossEntropyLoss(), train.create_optimizer('sgd', model, 0.1, 0), False, 3, 2)


def test_a_line_every_84_batches(capsys):
    x, y = torch.zeros(1, 1, 40, 100), torch.tensor([0])
    model = Scripted([[[1.0, 0]]] * 200)
    optimizer = train.create_optimizer('sgd', model, 0.1, 0.0)
    train.train(Batches([(x, y)] * 200), model, nn.CrossEntropyLoss(), optimizer, False, 1, 2)
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_validation_line_and_no_learning_from_it(capsys):
    x = torch.zeros(2, 1, 40, 100)
    loader = Batches([(x, torch.tensor([0, 0])), (x, torch.tensor([1, 1])), (x[:1], torch.tensor([0]))])
    model = Scripted([[[9.0, 0], [0, 9]], [[0.0, 9], [0, 9]], [[0.0, 9]]])
    loss = train.validate(loader, model, nn.CrossEntropyLoss(), False, 1)
    assert capsys.readouterr().out == '  * Validation: Loss 3.6001\tAcc 60.0000\n'
    assert loss == pytest.approx(3.6001, abs=1e-4)
    assert model.bias.grad is None and model.modes == [False] * 3


def test_optimizers():
    model = nn.Linear(2, 2)
    sgd = train.create_optimizer('sgd', model, 0.1, 1e-4).param_groups[0]
    assert (sgd['lr'], sgd['momentum'], sgd['weight_decay']) == (0.1, 0.9, 1e-4)
    for name, kind in (('adam', torch.optim.Adam), ('adamw', torch.optim.AdamW),
                       ('adagrad', torch.optim.Adagrad)):
        optimizer = train.create_optimizer(name, model, 0.01, 1e-3)
        assert isinstance(optimizer, kind) and optimizer.param_groups[0]['weight_decay'] == 1e-3
    with pytest.raises(LabError, match='unknown optimizer_type: sdg. Choose one of sgd, adam, adamw, adagrad.'):
        train.create_optimizer('sdg', model, 0.1, 0)
    with pytest.raises(LabError, match='lr = -1, wd = 0: '):
        train.create_optimizer('sgd', model, -1, 0)


def test_loss_plot_marks_the_lowest_validation_loss(lab, monkeypatch):
    figures = []
    monkeypatch.setattr(train.plt, 'close', figures.append)
    train.visualize_the_losses([3, 2, 1], [3, 1.5, 2])
    assert (lab / 'loss_plot.png').read_bytes().startswith(b'\x89PNG\r\n\x1a\n')
    training, validation, lowest = figures[0].axes[0].lines
    assert list(training.get_ydata()) == [3, 2, 1] and list(validation.get_ydata()) == [3, 1.5, 2]
    assert list(lowest.get_xdata()) == [2, 2] and lowest.get_linestyle() == '--'


def test_missing_pieces_are_explained_in_order(lab, stopped_with, write_feat):
    assert 'feat_logfbank_nfilt40/train does not exist' in stopped_with(train.main)
    for script in (enroll, identification, verification):
        assert 'There is no checkpoint yet: run python train.py first' in stopped_with(script.main)
    model = lab_model.background_resnet(128, 4)
    runs.save_checkpoint('model_saved/checkpoint_23.pth', {'state_dict': model.state_dict()})
    assert 'Set cp_num to one of 23, or run python train.py' in stopped_with(enroll.main)
    runs.save_checkpoint('model_saved/checkpoint_24.pth', {'state_dict': model.state_dict()})
    for script in (enroll, identification, verification):
        assert 'feat_logfbank_nfilt40/test does not exist' in stopped_with(script.main)
    write_feat(c.TEST_FEAT_DIR + '/me/enroll.p')
    assert '1 enrolment and 0 test files' in stopped_with(enroll.main)
    write_feat(c.TEST_FEAT_DIR + '/me/test.p')
    for script in (identification, verification):
        assert 'Run python enroll.py first' in stopped_with(script.main)
    enroll.main()
    for script in (identification, verification):
        assert "no test file of test_speaker = '%s'. Choose one of me, or" % SIX[0] in stopped_with(script.main)


def test_a_failed_enrolment_leaves_the_old_one(lab, write_vector):
    import pandas as pd
    filenames = [write_vector('t/a/enroll.p', 1, 0), write_vector('t/b/enroll.p', 0, 1)]
    DB = pd.DataFrame({'filename': filenames, 'speaker_id': ['a', 'b']})
    enroll.enroll_per_spk(False, 200, FirstFrame(), DB, 'enrolled')
    before = (lab / 'enrolled/embeddings.p').read_bytes()
    (lab / 't/b/enroll.p').write_bytes(b'rubbish')
    with pytest.raises(LabError, match='t/b/enroll.p'):
        enroll.enroll_per_spk(False, 200, FirstFrame(), DB, 'enrolled')
    assert (lab / 'enrolled/embeddings.p').read_bytes() == before and os.listdir('enrolled') == ['embeddings.p']


def test_a_failed_save_leaves_the_old_checkpoint(lab):
    runs.save_checkpoint('model_saved/checkpoint_1.pth', {'epoch': 2})
    with pytest.raises(Exception):
        runs.save_checkpoint('model_saved/checkpoint_1.pth', {'epoch': lambda: 0})
    assert torch.load('model_saved/checkpoint_1.pth') == {'epoch': 2}
    assert os.listdir('model_saved') == ['checkpoint_1.pth']


def test_the_command_line_shows_one_line_and_exit_code_1(lab):
    started = [subprocess.Popen([sys.executable, PROJECT / script], stderr=subprocess.PIPE, text=True)
               for script in ('train.py', 'enroll.py', 'identification.py', 'verification.py')]
    for process in started:
        _, error = process.communicate()
        assert process.returncode == 1 and error.startswith('Error: ') and len(error.splitlines()) <= 2, error


# -------------------------------------------------------------------------------------------- a whole lab on 6 voices

def run(script, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    capsys.readouterr()
    script.main()
    return capsys.readouterr().out


@pytest.fixture
def enrolled(six_voices, monkeypatch, capsys):
    run(enroll, six_voices, monkeypatch, capsys)
    return six_voices


def test_six_voices_the_loss_falls(six_voices):
    log = (six_voices / 'train.log').read_text()
    assert log.startswith('\nTraining set 378 utts (90.0%)\nValidation set 42 utts (10.0%)\nTotal 420 utts\n'
                          '\nNumber of classes (speakers):\n6\n\n')
    assert log.count('Train Epoch: ') == 30 and '\nTrain Epoch:  30 [       0/     378 (  0%)]\tTime ' in log
    losses = [float(loss) for loss in re.findall(r'  \* Validation: Loss (\d+\.\d{4})\tAcc \d+\.\d{4}\n', log)]
    assert len(losses) == 30 and losses[-1] < 0.5 * losses[0]
    assert log.endswith('Lowest validation loss at epoch %d\nPicture: loss_plot.png\nPicture: clusters.png\n'
                        % (1 + losses.index(min(losses))))


def test_six_voices_what_training_writes(six_voices):
    names = ['checkpoint_%d.pth' % n for n in range(1, 31)] + ['checkpoint_best.pth', 'run.json']
    assert sorted(os.listdir(six_voices / 'model_saved')) == sorted(['.lock'] + names)
    checkpoint = torch.load(six_voices / 'model_saved/checkpoint_30.pth')
    assert {'epoch', 'state_dict', 'optimizer', 'scheduler', 'backbone', 'features'} <= set(checkpoint)
    assert checkpoint['epoch'] == 31 and (six_voices / 'loss_plot.png').exists()
    losses = re.findall(r'Validation: Loss (\d+\.\d{4})', (six_voices / 'train.log').read_text())
    scheduler = checkpoint['scheduler']
    assert scheduler['last_epoch'] == 30 and scheduler['best'] == pytest.approx(min(map(float, losses)), abs=1e-4)
    assert (scheduler['patience'], scheduler['min_lrs'], scheduler['factor']) == (2, [1e-4], 0.1)
    best = torch.load(six_voices / 'model_saved/checkpoint_best.pth')
    number = 1 + losses.index(min(losses, key=float))
    expected = torch.load(six_voices / ('model_saved/checkpoint_%d.pth' % number))
    assert best['epoch'] == number + 1 and 'optimizer' not in best and best['n_speakers'] == 6
    assert all(torch.equal(best['state_dict'][name], expected['state_dict'][name]) for name in expected['state_dict'])
    # d-vectors vary less within speakers than altogether, by 1 - |mean|^2, as they have unit length
    within = torch.linalg.inv(best['wccn'].double() @ best['wccn'].double().T)
    assert within.trace() / (1 + backends.WCCN_SMOOTHING) < 0.5 * (1 - best['mean'].norm() ** 2)
    settings = torch.load(six_voices / 'model_saved/checkpoint_1.pth')['optimizer']['param_groups'][0]
    assert (settings['lr'], settings['momentum'], settings['weight_decay']) == (0.1, 0.9, 1e-4)


def test_six_voices_all_are_identified_and_score_above_every_other(enrolled, monkeypatch, capsys):
    monkeypatch.chdir(enrolled)
    model = lab_model.load_model(False, 'model_saved', 24, 128, None)
    embeddings = lab_model.load_enroll_embeddings('enroll_embeddings', model=model)
    assert sorted(embeddings) == SIX
    for speaker in SIX:
        path = '%s/%s/test.p' % (c.TEST_FEAT_DIR, speaker)
        assert identification.perform_identification(False, model, embeddings, path, 100, SIX) == speaker
        scores = {spk: verification.perform_verification(False, model, embeddings, spk, path, 100, 0.95) for spk in SIX}
        assert scores.pop(speaker) > max(scores.values())


def test_six_voices_what_the_scripts_print(enrolled, monkeypatch, capsys):
    out = run(enroll, enrolled, monkeypatch, capsys)
    assert out.splitlines()[-15:-2] == (['Start to aggregate all the d-vectors per enroll speaker']
                                      + ['Aggregates the activation (spk : %s)' % speaker for speaker in SIX]
                                      + ['Save the embeddings for %s' % speaker for speaker in SIX])
    pictures = ['Picture: enroll_embeddings/%s.png' % name for name in ('similarity', 'parameters')]
    assert out.splitlines()[-2:] == pictures
    out = run(identification, enrolled, monkeypatch, capsys)
    lines = out[out.index('=> loading checkpoint'):].splitlines()
    assert lines[:6] == ['=> loading checkpoint', '', '=== Speaker identification ===', 'True speaker : ' + SIX[0],
                         'Predicted speaker : ' + SIX[0], 'Result : True']
    assert lines[6] == '' and len(lines) == 13 and lines[7].startswith(SIX[0] + ' : ')
    scores = [float(line.split(' : ')[1]) for line in lines[7:]]
    assert scores == sorted(scores, reverse=True)
    out = run(verification, enrolled, monkeypatch, capsys)
    assert re.fullmatch(r'=> loading checkpoint\n\n=== Speaker verification ===\n'
                        r'True speaker: (\w+)\nClaimed speaker : \1\n\n'
                        r'Result : (Accept|Reject)\n\nScore : 0\.\d{4}\nThreshold : 0\.95\n\n',
                        out[out.index('=> loading'):])
    assert ('No GPU found: running on the CPU' in out) != torch.cuda.is_available()


def test_an_enrolment_with_another_checkpoint_is_refused(enrolled, lab, stopped_with):
    shutil.copytree(enrolled, lab, dirs_exist_ok=True)
    shutil.copy('model_saved/checkpoint_23.pth', 'model_saved/checkpoint_24.pth')
    for script in (identification, verification):
        message = stopped_with(script.main)
        assert 'with an earlier model_saved/checkpoint_24.pth, which has been trained again since' in message
        assert 'Run python enroll.py' in message


def test_one_seed_gives_one_result(six_voices_features, lab, capsys):
    logs = []
    for name, seed in (('first', 1), ('again', 1), ('other', 2)):
        run_copy('train.py', [('n_epochs = 30', 'n_epochs = 1'), ('seed = 0', 'seed = %d' % seed),
                              ("log_dir = 'model_saved'", "log_dir = '%s'" % name)])
        logs.append(re.sub(r'Time \S+ \S+|, \S+ s$', '', capsys.readouterr().out, flags=re.M))
    assert 'Validation' in logs[0] and logs[0] == logs[1] != logs[2]


def test_two_epochs_and_two_more_equal_four(six_voices_features, lab, capsys):
    """Bit for bit: parameters, losses, learning rates; a step that lowers the learning rate lies in between."""
    patient = ('patience = 2', 'patience = 0')
    run_copy('train.py', [('n_epochs = 30', 'n_epochs = 4'), ("log_dir = 'model_saved'", "log_dir = 'four'"), patient])
    run_copy('train.py', [('n_epochs = 30', 'n_epochs = 2'), patient])
    run_copy('train.py', [('n_epochs = 30', 'n_epochs = 2'), ('    start = 1', '    start = 3'), patient])
    runs = [json.loads((lab / folder / 'run.json').read_text())['epochs'] for folder in ('four', 'model_saved')]
    for run in runs:
        assert len(run) == 4 and all(epoch.pop('seconds') > 0 for epoch in run)
    assert runs[0] == runs[1]
    whole, continued = (torch.load('%s/checkpoint_4.pth' % folder) for folder in ('four', 'model_saved'))
    assert all(torch.equal(whole['state_dict'][name], continued['state_dict'][name]) for name in whole['state_dict'])
    assert torch.equal(whole['random']['cpu'], continued['random']['cpu'])


def test_another_run_is_not_overwritten(six_voices_features, lab, stopped_with, capsys):
    one = ('n_epochs = 30', 'n_epochs = 1')
    assert 'start = 2, but model_saved holds no run to continue' in stopped_with(
        lambda: run_copy('train.py', [one, ('    start = 1', '    start = 2')]))
    run_copy('train.py', [one])
    before = (lab / 'model_saved/checkpoint_1.pth').read_bytes()
    message = stopped_with(lambda: run_copy('train.py', [one, ("backbone = 'resnet18'", "backbone = 'resnet34'")]))
    assert 'model_saved holds another run' in message and 'backbone resnet18' in message and 'remove' in message
    assert 'has seed = 0, main() says 1' in stopped_with(
        lambda: run_copy('train.py', [one, ('    start = 1', '    start = 2'), ('seed = 0', 'seed = 1')]))
    assert 'holds 1 finished epochs: set start = 2 or lower' in stopped_with(
        lambda: run_copy('train.py', [one, ('    start = 1', '    start = 9')]))
    assert 'has lr = 0.1, main() says 0.2' in stopped_with(
        lambda: run_copy('train.py', [one, ('    start = 1', '    start = 2'), ('lr = 1e-1', 'lr = 2e-1')]))
    assert (lab / 'model_saved/checkpoint_1.pth').read_bytes() == before
    capsys.readouterr()
    run_copy('train.py', [one, ('seed = 0', 'seed = 1')])
    assert 'model_saved: epochs 1 to 1 of an earlier run are replaced' in capsys.readouterr().out
    (lab / 'model_saved/run.json').unlink()  # checkpoints of unknown origin
    assert 'model_saved holds another run' in stopped_with(lambda: run_copy('train.py', [one]))


def test_a_run_continued_in_the_middle_drops_what_came_after(six_voices_features, lab, capsys, stopped_with):
    run_copy('train.py', [('n_epochs = 30', 'n_epochs = 3')])
    continued = [('n_epochs = 30', 'n_epochs = 1'), ('    start = 1', '    start = 2')]
    run_copy('train.py', continued)
    assert 'epochs 2 to 3 of an earlier run are replaced' in capsys.readouterr().out
    assert sorted(os.listdir('model_saved')) == ['.lock', 'checkpoint_1.pth', 'checkpoint_2.pth', 'checkpoint_best.pth',
                                                 'run.json']
    run = json.loads((lab / 'model_saved/run.json').read_text())
    run['epochs'].pop()  # as after a power cut between the checkpoint and this file
    (lab / 'model_saved/run.json').write_text(json.dumps(run))
    assert 'holds 1 finished epochs: set start = 2 or lower' in stopped_with(
        lambda: run_copy('train.py', [continued[0], ('    start = 1', '    start = 3')]))


def test_a_cycle_that_was_stopped_ends_where_it_was_to_end(six_voices_features, lab, stopped_with):
    cycle = [("scheduler_type = 'plateau'", "scheduler_type = 'onecycle'")]
    run_copy('train.py', cycle + [('n_epochs = 30', 'n_epochs = 2')])
    assert 'ends with epoch 2 after 4 training steps, not after 6:\nset n_epochs = 1' in stopped_with(
        lambda: run_copy('train.py', cycle + [('n_epochs = 30', 'n_epochs = 2'), ('    start = 1', '    start = 2')]))
    rates = [epoch['lr'] for epoch in json.loads((lab / 'model_saved/run.json').read_text())['epochs']]
    run_copy('train.py', cycle + [('n_epochs = 30', 'n_epochs = 1'), ('    start = 1', '    start = 2')])
    assert [epoch['lr'] for epoch in json.loads((lab / 'model_saved/run.json').read_text())['epochs']] == rates


def test_ctrl_c_says_how_to_go_on(six_voices_features, lab, stopped_with, monkeypatch):
    validate, calls = train.validate, []

    def stop_in_epoch_2(*args):
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return validate(*args)
    monkeypatch.setattr(train, 'validate', stop_in_epoch_2)
    message = stopped_with(train.main)
    assert 'in epoch 2, after 1 finished epochs.\nTo go on from there, set start = 2 and n_epochs = 29.' in message
    assert sorted(os.listdir('model_saved')) == ['.lock', 'checkpoint_1.pth', 'run.json']


@pytest.mark.parametrize('old, new, complaint', [
    ('n_epochs = 30', 'n_epochs = 0', 'start = 1, n_epochs = 0, n_mean = 100, n_backend = 2000: each must'),
    ('start = 1', 'start = 0', 'start = 0, n_epochs = 30, n_mean = 100, n_backend = 2000: each must'),
    ('batch_size = 64', 'batch_size = 1', 'batch_size = 1, 87 utterances, processes: 1. BatchNorm needs at least two'),
    ("optimizer_type = 'sgd'", "optimizer_type = 'sdg'", 'unknown optimizer_type: sdg'),
    ('lr = 1e-1', "lr = '1e-1'", "lr = '1e-1': write it without quotes."),
    ('warm_up = 0.3', 'warm_up = 30', 'warm_up = 30: it is a share of the training'),
    ("scheduler_type = 'plateau'", "scheduler_type = 'plato'", 'unknown scheduler_type: plato. Choose one of plateau'),
    ("backbone = 'resnet18'", "backbone = 'resnet'", 'unknown backbone: resnet. Choose one of resnet18'),
    ('val_ratio = 10', 'val_ratio = 0', 'val_ratio = 0 leaves 96 for training and 0 for validation'),
])
def test_impossible_settings_are_named(six_voices_features, lab, old, new, complaint, stopped_with):
    assert complaint in stopped_with(lambda: run_copy('train.py', [('    ' + old, '    ' + new)]))
    assert not (lab / 'model_saved').exists()


def test_a_last_batch_of_one_joins_the_one_before(six_voices_features, lab, capsys):
    run_copy('train.py', [('n_epochs = 30', 'n_epochs = 1'), ('log_interval = 84', 'log_interval = 1'),
                          ('    batch_size = 64', '    batch_size = 43')])  # 87 = 2 * 43 + 1
    assert capsys.readouterr().out.count('Train Epoch') == 2


def test_one_cycle_rises_to_lr_and_falls_to_nothing():
    optimizer = train.create_optimizer('sgd', nn.Linear(2, 2), 0.5, 0)
    scheduler = schedules.create_scheduler('onecycle', optimizer, lr=0.5, patience=2, min_lr=0, warm_up=0.3, n_steps=100)
    rates = []
    for _ in range(100):
        rates.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        scheduler.step()
    assert rates[0] == pytest.approx(0.5 / 25) and rates.index(max(rates)) == 29 and max(rates) == pytest.approx(0.5)
    assert rates[:30] == sorted(rates[:30]) and rates[29:] == sorted(rates[29:], reverse=True) and rates[-1] < 1e-4
    assert optimizer.param_groups[0]['momentum'] == 0.9


def test_one_cycle_spans_the_epochs_of_all_parts(six_voices_features, lab, capsys):
    """Stopped after two of three epochs and continued: the learning rates and the parameters of three."""
    one_cycle = ("scheduler_type = 'plateau'", "scheduler_type = 'onecycle'")
    run_copy('train.py', [('n_epochs = 30', 'n_epochs = 3'), one_cycle])
    whole = torch.load('model_saved/checkpoint_3.pth')
    rates = [epoch['lr'] for epoch in json.loads((lab / 'model_saved/run.json').read_text())['epochs']]
    assert rates[0] == pytest.approx(0.004) and rates[1] > 0.07 > rates[2]  # at the beginning of each epoch
    (lab / 'model_saved/checkpoint_3.pth').unlink()
    run_copy('train.py', [('n_epochs = 30', 'n_epochs = 1'), ('    start = 1', '    start = 3'), one_cycle])
    again = torch.load('model_saved/checkpoint_3.pth')
    assert all(torch.equal(whole['state_dict'][name], again['state_dict'][name]) for name in whole['state_dict'])
    assert whole['scheduler'] == again['scheduler']
