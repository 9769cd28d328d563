"""New speakers, few recordings: names in checkpoints, recordings cut into pieces, the classifier asked for names."""
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import wavfile

import configure as c
import deep_dive.train
from SR_Dataset import read_MFB
from conftest import PROJECT
from DB_wav_reader import find_feats
from deep_dive import classify, cut
from deep_dive.mixing import MixedDataset
from support import runs
from support.messages import LabError

MADE_BY = 'Train one that does: python -m deep_dive.train --log_dir='


class Utterances(list):
    """Stands for a dataset: a list of file names. The labels are the places of the speakers among names."""

    def __init__(self, *filenames, names):
        super().__init__(filenames)
        self.filenames, self.n_speakers, self.in_memory = filenames, len(names), True
        self.labels = [names.index(Path(name).parent.name) for name in filenames]


def test_names_stand_in_the_order_of_the_outputs():
    names = ['ann', 'bob', 'eve']
    trained = Utterances('x/eve/1.p', 'x/ann/1.p', 'x/eve/2.p', names=names)
    validated = Utterances('x/bob/1.p', 'x/ann/2.p', names=names)  # bob has one utterance, and it is here
    assert runs.speakers_of([trained, validated]) == names
    other = Utterances('y/zoe/1.p', 'y/ann/1.p', names=['ann', 'zoe'])  # ann of another corpus is another person
    assert runs.speakers_of([MixedDataset([trained, other], [1, 2]), MixedDataset([validated, other], [1, 1])]) == [
        *names, 'ann', 'zoe']


class Loudest(torch.nn.Module):
    """Stands for a network: its outputs are the means of the first filters of a feature map."""

    def __init__(self, n_outputs, head='slides'):
        super().__init__()
        self.n_outputs, self.settings = n_outputs, {'head': head}

    def forward(self, x):  # (batch, 1, 40, n_frames)
        return None, x[:, 0, :self.n_outputs].mean(dim=2)


def test_probabilities_by_hand():
    feature = np.zeros((50, 40))
    feature[:, :3] = np.log([1, 2, 5])  # logits whose softmax is 1/8, 2/8, 5/8
    assert np.allclose(classify.probabilities_of(False, feature, Loudest(3), 3), [1 / 8, 2 / 8, 5 / 8])
    feature[:, 3:6] = 9  # the outputs of three voices at another speed do not count
    assert np.allclose(classify.probabilities_of(False, feature, Loudest(6), 3), [1 / 8, 2 / 8, 5 / 8])
    feature[:, :3] = np.log([1, 2, 5]) / 30  # cosines
    assert np.allclose(classify.probabilities_of(False, feature, Loudest(3, 'cosine'), 3), [1 / 8, 2 / 8, 5 / 8])
    long = np.zeros((12000, 40))  # two minutes go through the network in two parts
    long[:6000, 0], long[:, 1] = np.log(9), np.log(4)
    assert np.allclose(classify.probabilities_of(False, long, Loudest(2), 2), [3 / 7, 4 / 7])


def test_a_recording_is_cut_into_pieces_with_speech(six_voices, lab, stopped_with, capsys):
    voice = sorted((six_voices / 'test_wavs').iterdir())[0]
    rate, audio = wavfile.read(voice / 'enroll.wav')
    silence = np.zeros(4 * rate, np.int16)
    Path('wavs/ann').mkdir(parents=True)
    wavfile.write('wavs/ann/enroll.wav', rate, np.concatenate([audio[:4 * rate], silence, audio[4 * rate:9 * rate]]))
    shutil.copy(voice / 'test.wav', 'wavs/ann')
    cut.main(wav_dir='wavs', feat_dir='feat_new/train')
    assert capsys.readouterr().out == 'feat_new/train: 1 speakers, 4 pieces of 2 s\n'  # 2, none, 2; 1 s is left over
    assert find_feats('feat_new/train') == ['feat_new/train/ann/enroll_%02d.p' % i for i in range(4)]
    feature, label = read_MFB('feat_new/train/ann/enroll_03.p')
    wavfile.write('wavs/ann/last.wav', rate, audio[6 * rate:8 * rate])
    assert label == 'ann' and np.allclose(feature, read_MFB('wavs/ann/last.wav')[0])  # as any recording
    for settings, message in (({}, 'Name two folders'), ({'wav_dir': 'wavs', 'feat_dir': 'feat_new/train'},
                              'feat_new/train exists already: remove it'),
                              ({'wav_dir': 'wavs', 'feat_dir': 'new', 'piece_seconds': 60.0},
                               'wavs has no <speaker>/enroll.wav with 60 s of speech')):
        assert message in stopped_with(cut.main, **settings)


def test_new_speakers_are_named(six_voices, lab, stopped_with, capsys):
    wavs = str(six_voices / c.TEST_WAV_DIR)
    cut.main(wav_dir=wavs, feat_dir='feat_new/train')
    deep_dive.train.main(train_dir='feat_new/train', log_dir='model_new', freeze_backbone=True, n_epochs=5,
                         init_from=str(PROJECT / 'model_saved/checkpoint_etri240.pth'), batch_size=8,
                         scheduler_type='onecycle', plot=False)
    names = sorted(path.name for path in (six_voices / c.TEST_WAV_DIR).iterdir())
    for checkpoint in ('checkpoint_1.pth', 'checkpoint_best.pth'):
        assert torch.load('model_new/' + checkpoint)['speakers'] == names
    capsys.readouterr()
    classify.main(files=[wavs], log_dir='model_new')
    lines = capsys.readouterr().out.splitlines()
    assert '=== Speaker classification: one of 6 speakers ===' in lines
    right = []
    for name in names:
        start = lines.index('%s/%s/test.wav' % (wavs, name)) + 1
        answers = [line.removesuffix(' %').split(' : ') for line in lines[start:start + 3]]
        percents = [float(percent) for _, percent in answers]
        assert lines[start + 3] == '' and percents == sorted(percents, reverse=True) and sum(percents) < 100.02
        right.append(answers[0][0] == name)
    assert sum(right) >= 5
    assert lines[-2].startswith('Accuracy : %.2f %% of 6 files (' % (100 * np.mean(right)))
    assert lines[-1] == 'Picture: model_new/confusion.png'

    classify.main(files=['%s/%s/test.wav' % (wavs, name) for name in names[:2]], log_dir='model_new', piece_seconds=2,
                  plot=False)
    *_, accuracy = capsys.readouterr().out.splitlines()  # each has 13 s or more
    assert ' of 12 pieces (' in accuracy
    Path('stranger').mkdir()
    shutil.copy('%s/%s/test.wav' % (wavs, names[0]), 'stranger/x.wav')
    classify.main(files=['stranger/x.wav'], log_dir='model_new', n_best=1)  # nobody knows who is right
    assert capsys.readouterr().out.splitlines()[-2] == 'stranger/x.wav'
    Path('empty').mkdir()
    Path('empty/a').mkdir()
    shutil.copy('stranger/x.wav', 'empty/a/enroll.wav')
    for files, message in ((['nobody.wav'], 'nobody.wav: there is no such file.'),
                           (['empty'], 'empty holds no <speaker>/test.wav')):
        assert message in stopped_with(classify.main, files=files, log_dir='model_new')
    assert 'stranger/x.wav is shorter than piece_seconds = 60' in stopped_with(
        classify.main, files=['stranger/x.wav'], log_dir='model_new', piece_seconds=60)


def test_a_checkpoint_without_names(lab, write_feat, stopped_with):
    """It loads, and only the one question cannot be answered."""
    write_feat('a/test.p')
    message = stopped_with(classify.main, files=['a/test.p'], cp_num='etri240', log_dir=str(PROJECT / 'model_saved'))
    assert 'does not say who its training speakers are' in message and MADE_BY in message
    for number, speakers in enumerate((None, [], 'ab', ['a', 1], ['a', 'b\nc'], ['a', 'b', 'c'])):
        torch.save({'state_dict': {}, 'speakers': speakers}, '%d.pth' % number)
        with pytest.raises(LabError, match=MADE_BY):
            runs.read_speakers('%d.pth' % number, 4)
    torch.save({'state_dict': {}, 'speakers': ['a', 'b']}, 'right.pth')
    assert runs.read_speakers('right.pth', 6) == ['a', 'b']  # at three speeds
