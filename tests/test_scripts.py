"""The four scripts: what they print, letter by letter, what they decide, and what they keep."""
import json
import os
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import PROJECT, SIX, SIX_EPOCHS, FirstFrame
from torch import nn

import configure as c
import enroll
import identification
import model as lab_model
import train
import verification
from deep_dive import backends, schedules
from support import runs
from support.messages import LabError


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
    """Stands for a DataLoader."""
    sampler = range(5)


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
        assert 'checkpoint_24.pth does not exist. Run python train.py first.' in stopped_with(script.main)
    model = lab_model.background_resnet(128, 4)
    runs.save_checkpoint('model_saved/checkpoint_23.pth', {'state_dict': model.state_dict()})
    assert 'Run python train.py first, or set cp_num to one of 23.' in stopped_with(enroll.main)
    runs.save_checkpoint('model_saved/checkpoint_24.pth', {'state_dict': model.state_dict()})
    for script in (enroll, identification, verification):
        assert 'feat_logfbank_nfilt40/test does not exist' in stopped_with(script.main)
    write_feat(c.TEST_FEAT_DIR + '/me/test.p')
    assert 'has no enrolment file' in stopped_with(enroll.main)
    write_feat(c.TEST_FEAT_DIR + '/me/enroll.p')
    for script in (identification, verification):
        assert 'Run python enroll.py first' in stopped_with(script.main)
    enroll.main()
    for script in (identification, verification):
        assert "no test file of test_speaker = '%s'. Choose one of me, or" % SIX[0] in stopped_with(script.main)
        assert "test_speaker = 'x.wav': there is no such file" in stopped_with(script.main, test_speaker='x.wav')
    os.remove(c.TEST_FEAT_DIR + '/me/test.p')
    for script in (identification, verification):
        assert 'There is no test file' in stopped_with(script.main, test_speaker='all')


def write_speakers(write_vector):
    """Enrolment and test files of a and b, and a broken one of c."""
    for name, x, y in (('a/enroll.p', 1, 0), ('b/enroll.p', 0, 1), ('a/test.p', 2, 1), ('b/test1.p', 1, 2),
                       ('b/test2.p', 0, 3), ('stranger/test.p', -1, -1)):
        write_vector(c.TEST_FEAT_DIR + '/' + name, x, y)
    os.makedirs(c.TEST_FEAT_DIR + '/broken')
    with open(c.TEST_FEAT_DIR + '/broken/enroll.p', 'wb') as f:
        f.write(b'rubbish')


@pytest.fixture
def first_frame(monkeypatch):
    """The scripts use FirstFrame instead of a checkpoint."""
    for script in (enroll, identification, verification):
        monkeypatch.setattr(script, 'load_model', lambda *arguments: FirstFrame())


def test_one_broken_file_does_not_stop_the_class(lab, write_vector, first_frame, stopped_with, capsys):
    write_speakers(write_vector)
    assert 'Not enrolled, for the reasons above: broken. The others are enrolled.' in stopped_with(enroll.main)
    captured = capsys.readouterr()
    assert 'Skipped broken: %s/broken/enroll.p: not a pickle' % c.TEST_FEAT_DIR in captured.err
    assert 'stranger: has test files, but no enrolment file' in captured.out
    assert sorted(lab_model.load_enroll_embeddings('enroll_embeddings')) == ['a', 'b']

    identification.main(test_speaker='b')  # every test file, named
    out = capsys.readouterr().out
    assert out.count('Result : True') == 2 and '%s/b/test1.p\n' % c.TEST_FEAT_DIR in out
    verification.main(test_speaker='b', enroll_speaker='b', thres=0.9)
    out = capsys.readouterr().out
    assert out.index('test1.p') < out.index('Reject') < out.index('test2.p') < out.index('Accept')

    identification.main(test_speaker='stranger', thres=0.5)
    out = capsys.readouterr().out
    assert 'True speaker : stranger\nPredicted speaker : unknown\nResult : True\n' in out

    before = (lab / 'enroll_embeddings/embeddings.p').read_bytes()
    for name in ('a', 'b'):
        (lab / c.TEST_FEAT_DIR / name / 'enroll.p').write_bytes(b'rubbish')
    assert 'Nobody is enrolled' in stopped_with(enroll.main)
    assert (lab / 'enroll_embeddings/embeddings.p').read_bytes() == before


def test_a_failed_save_leaves_the_old_checkpoint(lab):
    runs.save_checkpoint('model_saved/checkpoint_1.pth', {'epoch': 2})
    with pytest.raises(Exception):
        runs.save_checkpoint('model_saved/checkpoint_1.pth', {'epoch': lambda: 0})
    assert torch.load('model_saved/checkpoint_1.pth') == {'epoch': 2}
    assert os.listdir('model_saved') == ['checkpoint_1.pth']


def test_the_command_line_shows_one_line_and_exit_code_1(lab):
    for script in ('train.py', 'verification.py'):
        done = subprocess.run([sys.executable, PROJECT / script], capture_output=True, text=True)
        assert done.returncode == 1 and done.stderr.startswith('Error: ') and len(done.stderr.splitlines()) <= 2


# ------------------------------------------------------------------------------------------------- six voices

@pytest.fixture
def enrolled(six_voices, monkeypatch, capsys):
    monkeypatch.chdir(six_voices)
    enroll.main(cp_num='best')
    return six_voices


def test_six_voices_the_loss_falls(six_voices):
    log = (six_voices / 'train.log').read_text()
    assert ('\nTraining set 108 utts (90.0%)\nValidation set 12 utts (10.0%)\nTotal 120 utts\n'
            '\nNumber of classes (speakers):\n6\n\n') in log
    assert log.count('Train Epoch: ') == SIX_EPOCHS and '\nTrain Epoch:   8 [       0/     108 (  0%)]\tTime ' in log
    losses = [float(loss) for loss in re.findall(r'  \* Validation: Loss (\d+\.\d{4})\tAcc \d+\.\d{4}\n', log)]
    assert len(losses) == SIX_EPOCHS and losses[-1] < losses[0]
    assert log.endswith('Lowest validation loss at epoch %d\nPicture: loss_plot.png\nPicture: model_saved/loss_plot.png'
                        '\nPicture: model_saved/clusters.png\n' % (1 + losses.index(min(losses))))


def test_six_voices_what_training_writes(six_voices):
    names = ['checkpoint_%d.pth' % n for n in range(1, SIX_EPOCHS + 1)]
    names += ['checkpoint_best.pth', 'run.json', 'loss_plot.png', 'clusters.png', '.lock']
    assert sorted(os.listdir(six_voices / 'model_saved')) == sorted(names)
    checkpoint = torch.load(six_voices / ('model_saved/checkpoint_%d.pth' % SIX_EPOCHS))
    assert {'epoch', 'state_dict', 'optimizer', 'scheduler', 'backbone', 'features'} <= set(checkpoint)
    assert checkpoint['epoch'] == SIX_EPOCHS + 1
    best = torch.load(six_voices / 'model_saved/checkpoint_best.pth')
    losses = [epoch['valid_loss'] for epoch in json.loads((six_voices / 'model_saved/run.json').read_text())['epochs']]
    number = 1 + losses.index(min(losses))
    expected = torch.load(six_voices / ('model_saved/checkpoint_%d.pth' % number))
    assert best['epoch'] == number + 1 and 'optimizer' not in best and best['n_speakers'] == 6
    assert all(torch.equal(best['state_dict'][name], expected['state_dict'][name]) for name in expected['state_dict'])
    # d-vectors vary less within speakers than altogether, by 1 - |mean|^2, because they have unit length
    within = torch.linalg.inv(best['wccn'].double() @ best['wccn'].double().T)
    assert within.trace() / (1 + backends.WCCN_SMOOTHING) < 1 - best['mean'].norm() ** 2
    settings = torch.load(six_voices / 'model_saved/checkpoint_1.pth')['optimizer']['param_groups'][0]
    assert settings['weight_decay'] == 1e-4


def test_six_voices_what_the_scripts_print(enrolled, capsys):
    out = capsys.readouterr().out
    assert out.splitlines()[-15:-2] == (['Start to aggregate all the d-vectors per enroll speaker']
                                        + ['Aggregates the activation (spk : %s)' % speaker for speaker in SIX]
                                        + ['Save the embeddings for %s' % speaker for speaker in SIX])
    pictures = ['Picture: enroll_embeddings/%s.png' % name for name in ('similarity', 'parameters')]
    assert out.splitlines()[-2:] == pictures
    identification.main(cp_num='best')
    out = capsys.readouterr().out
    lines = out[out.index('=> loading checkpoint'):].splitlines()
    assert lines[:6] == ['=> loading checkpoint', '', '=== Speaker identification ===', 'True speaker : ' + SIX[0],
                         'Predicted speaker : ' + SIX[0], 'Result : True']
    assert lines[6] == '' and len(lines) == 13 and lines[7].startswith(SIX[0] + ' : ')
    scores = [float(line.split(' : ')[1]) for line in lines[7:]]
    assert scores == sorted(scores, reverse=True)
    verification.main(cp_num='best')
    out = capsys.readouterr().out
    assert re.fullmatch(r'=> loading checkpoint\n\n=== Speaker verification ===\n'
                        r'True speaker: (\w+)\nClaimed speaker : \1\n\n'
                        r'Result : (Accept|Reject)\n\nScore : 0\.\d{4}\nThreshold : 0\.95\n\n',
                        out[out.index('=> loading'):])
    assert ('No GPU found: running on the CPU' in out) != torch.cuda.is_available()


def test_an_enrolment_with_another_checkpoint_is_refused(enrolled, stopped_with):
    for script in (identification, verification):
        message = stopped_with(script.main, cp_num=1)
        assert 'was made with model_saved/checkpoint_best.pth, and cannot be scored with' in message
        assert 'Run python enroll.py' in message


def test_levelled_and_unlevelled_files_are_not_compared(enrolled, stopped_with, monkeypatch, capsys):
    """The enrolment is of recordings at -44 dBFS; a training feature of the demo voices was never levelled."""
    never = '%s/%s/%s_00.p' % (c.TRAIN_FEAT_DIR, SIX[0], SIX[0])
    for script in (identification, verification):
        message = stopped_with(script.main, cp_num='best', test_speaker=never)
        assert '_00.p is not levelled, the enrolment of' in message and 'is levelled to -44 dBFS' in message
    wav = '%s/%s/test.wav' % (c.TEST_WAV_DIR, SIX[0])
    verification.main(cp_num='best', test_speaker=wav)
    monkeypatch.setattr(c, 'LEVEL_DBFS', -30)
    assert 'is levelled to -30 dBFS' in stopped_with(verification.main, cp_num='best', test_speaker=wav)


# ------------------------------------------------------------------------------------------------- runs

SHORT = {'n_epochs': 1, 'batch_size': 29, 'plot': False}  # 87 utterances, three steps


def history(folder):
    with open(folder + '/run.json') as f:
        return [(epoch['train_loss'], epoch['valid_loss'], epoch['lr']) for epoch in json.load(f)['epochs']]


def test_one_seed_gives_one_result(six_voices_features, lab):
    for name, seed in (('first', 1), ('again', 1), ('other', 2)):
        train.main(**SHORT, seed=seed, log_dir=name)
    assert history('first') == history('again') != history('other')


def test_runs_go_on_and_are_kept(six_voices_features, lab, capsys, stopped_with):
    """Bit for bit, 2 + 1 epochs equal 3, with one cycle. Nothing that a run has written is ever lost."""
    cycle = {**SHORT, 'scheduler_type': 'onecycle'}
    train.main(**{**cycle, 'n_epochs': 3})
    whole, losses = torch.load('model_saved/checkpoint_3.pth'), history('model_saved')
    assert losses[0][2] == pytest.approx(0.004) and len(losses) == 3
    assert 'ends with epoch 3, after 9 training steps, not after 12.\nSet n_epochs = 1' in stopped_with(
        train.main, **{**cycle, 'n_epochs': 2, 'start': 3})

    # A run that goes on in its middle keeps what came after
    capsys.readouterr()
    train.main(**cycle, start=3)
    out = capsys.readouterr().out
    assert 'what the earlier run did from epoch 3 on is now in model_saved/run_001' in out
    assert '--log_dir=model_saved/run_001' in out
    again = torch.load('model_saved/checkpoint_3.pth')
    assert all(torch.equal(whole['state_dict'][name], again['state_dict'][name]) for name in whole['state_dict'])
    assert whole['scheduler'] == again['scheduler'] and history('model_saved') == losses
    assert torch.equal(whole['random']['cpu'], again['random']['cpu'])
    assert sorted(os.listdir('model_saved/run_001')) == ['checkpoint_3.pth', 'checkpoint_best.pth', 'run.json']
    assert history('model_saved/run_001') == losses

    # A new run moves the earlier one aside, whole; what came with the project stays
    for name in ('checkpoint_etri240.pth', 'README.md'):
        (lab / 'model_saved' / name).write_bytes(b'x')
    best = (lab / 'model_saved/checkpoint_best.pth').read_bytes()
    train.main(**SHORT, lr=0.01)
    out = capsys.readouterr().out
    assert 'model_saved: the earlier run is now in model_saved/run_002. To use it again: --log_dir=model_saved/' in out
    assert history('model_saved/run_002') == losses
    assert (lab / 'model_saved/run_002/checkpoint_best.pth').read_bytes() == best
    assert sorted(os.listdir('model_saved')) == sorted(
        ['.lock', 'README.md', 'checkpoint_1.pth', 'checkpoint_best.pth', 'checkpoint_etri240.pth', 'run.json',
         'run_001', 'run_002'])

    # To go on, the settings must be the same, and so many epochs must be there
    for settings, message in (({'seed': 1}, 'has seed = 0, main() says 1'), ({'lr': 0.2}, 'has lr = 0.01, main() says'),
                              ({'backbone': 'vgg'}, 'has backbone = resnet18'),
                              ({'start': 9}, 'has 1 finished epochs: set start = 2 or lower'),
                              ({'log_dir': 'empty'}, 'there is no run of train.py in empty')):
        assert message in stopped_with(train.main, **{**SHORT, 'lr': 0.01, 'start': 2, **settings})
    assert len(history('model_saved')) == 1 and not os.path.exists('empty')


def test_an_interrupted_move_is_completed(lab, capsys):
    for name in ('run_001/checkpoint_1.pth', 'checkpoint_2.pth', 'run.json', 'loss_plot.png'):
        (lab / name).parent.mkdir(exist_ok=True)
        (lab / name).write_text(name)
    runs.move_aside(lab, 1)
    assert sorted(os.listdir('run_001')) == ['checkpoint_1.pth', 'checkpoint_2.pth', 'loss_plot.png', 'run.json']
    (lab / 'checkpoint_24.pth').write_text('of unknown origin')
    runs.move_aside(lab, 1)
    assert os.listdir('run_002') == ['checkpoint_24.pth'] and sorted(os.listdir()) == ['run_001', 'run_002']
    capsys.readouterr()
    (lab / 'run.json').write_text(json.dumps({'settings': {}, 'epochs': []}, indent=1))
    runs.move_aside(lab, 1)  # a run that was stopped in its first epoch has left nothing to keep
    assert capsys.readouterr().out == '' and len(os.listdir()) == 3


def test_ctrl_c_says_how_to_go_on(six_voices_features, lab, stopped_with, monkeypatch):
    validate, calls = train.validate, []

    def stop_in_epoch_2(*args):
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return validate(*args)
    monkeypatch.setattr(train, 'validate', stop_in_epoch_2)
    message = stopped_with(train.main, **{**SHORT, 'n_epochs': 30})
    assert 'in epoch 2, after 1 finished epochs.\nTo go on from there, add --start=2 --n_epochs=29' in message
    assert sorted(os.listdir('model_saved')) == ['.lock', 'checkpoint_1.pth', 'checkpoint_best.pth', 'run.json']


def test_a_last_batch_of_one_is_left_out(six_voices_features, lab, capsys):
    train.main(n_epochs=1, batch_size=43, log_interval=1, plot=False)  # 87 = 2 * 43 + 1
    assert capsys.readouterr().out.count('Train Epoch') == 2


def test_one_cycle_rises_to_lr_and_falls_to_nothing():
    optimizer = train.create_optimizer('sgd', nn.Linear(2, 2), 0.5, 0)
    scheduler = schedules.create_scheduler('onecycle', optimizer, lr=0.5, warm_up=0.3, n_steps=100)
    rates = []
    for _ in range(100):
        rates.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        scheduler.step()
    assert rates[0] == pytest.approx(0.5 / 25) and rates.index(max(rates)) == 29 and max(rates) == pytest.approx(0.5)
    assert rates[:30] == sorted(rates[:30]) and rates[29:] == sorted(rates[29:], reverse=True) and rates[-1] < 1e-4
    assert optimizer.param_groups[0]['momentum'] == 0.9
