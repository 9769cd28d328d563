"""The recipe of the model for anybody: its pieces and features by hand, a small run that is stopped and goes on."""
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch

import attacks
import configure as c
import train_voices
from DB_wav_reader import extract_features
from SR_Dataset import read_MFB
from deep_dive import acoustics
from deep_dive.conformer import LargeConformer
from model import load_model
from support import demo_voices
from support.recordings import Recording

RATE = c.SAMPLE_RATE
QUICK = {'batch_size': 3, 'n_steps': 1, 'n_epochs': 2, 'shortest': 0.5, 'longest': 0.6, 'warm_up': 1, 'decay': 1,
         'speeds': [0.88], 'use_cuda': False}


@pytest.fixture
def people(lab, monkeypatch):
    """Four people with two recordings each, a teacher's vectors of all at two speeds, and a small network."""
    for name, value in (('size', 16), ('n_layers', 2), ('out_channels', 32)):
        monkeypatch.setattr(LargeConformer, name, value)
    names, rng = [], np.random.default_rng(0)
    for index in range(4):
        voice = demo_voices.draw_voice(0, index)
        for utterance in range(2):
            audio = demo_voices.synthesise(0, voice, utterance, 2.0)
            path = Path('corpus', voice.name, '%d.wav' % utterance)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(attacks.wav(np.round(32767 * np.clip(4 * audio, -1, 1)).astype(np.int16).tobytes()))
            names.append('corpus/%s/%d' % (voice.name, utterance))
    for name in ('teacher.npz', 'teacher_0.88.npz'):
        np.savez(name, files=names, vectors=train_voices.unit(rng.normal(size=(8, 192))).astype(np.float16))
    return sorted({name.split('/')[1] for name in names})


def read(filename):
    return torch.load(filename, weights_only=True)


def are_equal(one, other):
    """Whether two states of a run agree bit for bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(are_equal(one[name], other[name]) for name in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(are_equal, one, other))
    return one == other


# ------------------------------------------------------------------------------------------- the whole recipe

def test_a_run_that_was_stopped_goes_on_bit_for_bit(people, monkeypatch, capsys):
    Path('kept.txt').write_text(people[0] + '\n')
    settings = {**QUICK, 'folders': ['corpus'], 'teacher': 'teacher.npz', 'hold_out': 'kept.txt'}
    seen, embeddings_of_people = [], train_voices.embeddings_of_people

    def note(*arguments):
        seen.append((arguments, embeddings_of_people(*arguments)))
        return seen[-1][1]
    monkeypatch.setattr(train_voices, 'embeddings_of_people', note)
    train_voices.main(**settings, log_dir='whole')
    out = capsys.readouterr().out
    assert 'corpus: 3 people, 6 recordings, 0.00 hours' in out
    assert 'Together 3 people, at 2 speeds. 1 people are kept for tests. Seed 0.' in out

    train_epoch = train_voices.train_epoch

    def one_epoch(run, batches, s, device):
        if batches.epoch == 1:
            raise KeyboardInterrupt
        return train_epoch(run, batches, s, device)
    with monkeypatch.context() as patch:
        patch.setattr(train_voices, 'train_epoch', one_epoch)
        with pytest.raises(KeyboardInterrupt):
            train_voices.main(**settings, log_dir='stopped')
        assert not Path('stopped/checkpoint_2.pth').exists()
    # The speech is not read again
    monkeypatch.setattr(train_voices, 'speech_of', None)
    train_voices.main(**settings, log_dir='stopped')
    whole, stopped = read('whole/going_on.pth'), read('stopped/going_on.pth')
    assert are_equal(whole, stopped) and whole['step'] == 2

    # Three people differ in a plane. So 128 of 192 directions hold all of it, and only what they share is gone
    model = load_model(False, 'whole', 2, 128, None)
    assert model.settings == {'backbone': 'conformer_large', 'pooling': 'attentive', 'head': 'cosine', 'level': -24}
    (_, batches, s, device), vectors = seen[0]
    centred, after = vectors - vectors.mean(dim=0), embeddings_of_people(model, batches, s, device)
    assert vectors.shape == (3, 192) and after.shape == (3, 128)
    torch.testing.assert_close(after.mean(dim=0), torch.zeros(128), atol=1e-4, rtol=0)
    torch.testing.assert_close(after @ after.T, centred @ centred.T, atol=1e-3, rtol=1e-3)


def test_without_a_teacher_and_from_another_run(people, stopped_with, capsys):
    settings = {**QUICK, 'folders': ['corpus'], 'n_epochs': 1}
    train_voices.main(**settings, log_dir='one')
    assert 'cosine to the teacher 0.0000, AAM' in capsys.readouterr().out
    train_voices.main(**settings, log_dir='two', init_from='one/going_on.pth', lr=1e-12)
    one, two = (read(folder + '/going_on.pth')['model']['fc0.weight'] for folder in ('one', 'two'))
    torch.testing.assert_close(one, two, atol=1e-6, rtol=0)

    assert 'corpus has' not in stopped_with(train_voices.main)
    Path('kept.txt').write_text('nobody\n')
    for more, message in (({'hold_out': 'kept.txt'}, 'kept.txt: no folder has nobody. Correct the name'),
                          ({'teacher': 'teacher.npz', 'speeds': [1.5]}, 'teacher_1.5.npz: there is no such file'),
                          ({'speeds': [0.88, 1.13]}, 'one/going_on.pth: a run of other people, speeds or')):
        assert message in stopped_with(train_voices.main, **{**settings, 'log_dir': 'one', **more})
    np.savez('few.npz', files=['corpus/x/0'], vectors=np.ones((1, 192)))
    assert 'few.npz has no vector of 8 recordings, such as corpus/' in stopped_with(
        train_voices.main, **settings, teacher='few.npz')


# ------------------------------------------------------------------------------------------- its parts

def test_speech_is_cut_out_and_levelled(people):
    filename = 'corpus/%s/0.wav' % people[1]
    recording = train_voices.open_recording(filename)
    active = np.flatnonzero(recording.is_speech)
    speech = train_voices.speech_of(filename)
    assert len(speech) == (active[-1] + 1 - active[0]) * 400 + 2 * 800  # blocks of 25 ms, and 50 ms at both ends
    assert Recording(np.pad(speech / 32767, 8000), '').level == pytest.approx(-30, abs=1)
    Path('silent.wav').write_bytes(attacks.wav(bytes(64000)))
    assert train_voices.speech_of('silent.wav') is None


def test_features_are_those_of_the_lab():
    rng = np.random.default_rng(0)
    audio = 0.05 * rng.normal(size=(2, 400 + 160 * 57))
    audio[1, 4000:] *= 1e-3  # parts on the floor
    features = train_voices.features_of(torch.tensor(audio, dtype=torch.float32))
    assert features.shape == (2, 1, 40, 58)
    for one, expected in zip(features, map(extract_features, audio)):
        np.testing.assert_allclose(one[0].T, expected, atol=1e-4)


def settings_of(**more):
    return {'teacher': None, 'speeds': [0.5], 'seed': 0, 'n_steps': 4, 'shortest': 0.5, 'longest': 1, 'batch_size': 300,
            'speed_share': 0.25, 'own_share': 0.25, 'level': -24, 'feature_dir': None, 'quiet_share': 0, **more}


def test_a_batch_by_hand(lab, monkeypatch):
    """a has four recordings, b has one: a is drawn twice as often. At half the speed each is another class."""
    files = ['f/a/%d.wav' % i for i in range(4)] + ['f/b/0.wav']
    vectors = [np.eye(192)[[0, 1, 1, 1, 2]], np.eye(192)[[3, 3, 3, 3, 4]]]
    for name, of_speed in zip(('t.npz', 't_0.5.npz'), vectors):
        np.savez(name, files=[file[:-4] for file in files], vectors=of_speed)
    monkeypatch.setattr(train_voices, 'vary_piece', lambda audio, rng, voice: audio)
    speech = [(1000 * np.sin(np.arange(n) / 3)).astype(np.int16) for n in (20000, 20000, 20000, 20000, 3000)]
    batches = train_voices.Batches(speech, list('aaaab'), files, settings_of(teacher='t.npz'))
    pieces, windows, targets, classes = batches[2]
    np.testing.assert_array_equal(pieces, batches[2][0])  # the same in any process
    assert pieces.shape[0] == 300 and (pieces.shape[1] - 400) % 160 == 0 and 8000 <= pieces.shape[1] <= 16000
    assert np.mean(classes % 2 == 0) == pytest.approx(2 / 3, abs=0.08)
    assert np.mean(classes >= 2) == pytest.approx(0.25, abs=0.08) and set(classes) == {0, 1, 2, 3}
    mean = vectors[0].mean(axis=0)
    centred = train_voices.unit(vectors[0] - mean)
    centre = train_voices.unit(centred[:4].mean(axis=0, keepdims=True))[0]
    expected = train_voices.unit((0.25 * centred[0] + 0.75 * centre)[None])[0]
    np.testing.assert_allclose(batches.targets[0][0], expected, atol=1e-6)
    assert {tuple(target) for target in targets[classes == 0]} == {tuple(row) for row in batches.targets[0][:4]}
    np.testing.assert_allclose(batches.targets[1][4], train_voices.unit(vectors[1][4:] - mean)[0], atol=1e-6)
    levels = [10 * math.log10(np.mean(piece ** 2)) for piece in pieces]
    assert np.mean(levels) == pytest.approx(-24, abs=0.5) and np.std(levels) == pytest.approx(2, abs=0.4)


def test_windows_of_feature_files(lab, write_feat, monkeypatch):
    """Two further people, with a file each. A window is as long as a piece, and its mean is zero."""
    features = {name: read_MFB(write_feat('feats/%s/x.p' % name, n_frames=n_frames, seed=n_frames))[0]
                for name, n_frames in (('c', 145), ('d', 300))}
    monkeypatch.setattr(train_voices, 'vary_piece', lambda audio, rng, voice: audio)
    batches = train_voices.Batches([np.arange(20000).astype(np.int16)] * 2, list('ab'), ['f/a/0.wav', 'f/b/0.wav'],
                                   settings_of(feature_dir='feats', feature_share=0.2))
    pieces, windows, targets, classes = batches[1]
    assert len(pieces) == len(targets) == 240 and batches.n_classes == 2 * 2 + 2
    assert windows.shape == (60, (pieces.shape[1] - 400) // 160 + 1, 40) and windows.dtype == np.float32
    assert set(classes[:240]) <= {0, 1, 2, 3} and set(classes[240:]) == {4, 5}
    for window, person in zip(windows, classes[240:]):
        feature = features['cd'[person - 4]]
        feature = np.tile(feature, (3, 1))  # 45 frames are left of c, which is shorter than a window
        places = [feature[start:start + len(window)] for start in range(len(feature) - len(window))]
        assert any(np.allclose(place - place.mean(axis=0), window, atol=1e-5) for place in places)
    np.testing.assert_allclose(windows.mean(axis=1), 0, atol=1e-5)


def test_some_pieces_are_quieter(lab, monkeypatch):
    monkeypatch.setattr(train_voices, 'vary_piece', lambda audio, rng, voice: audio)
    speech = [(1000 * np.sin(np.arange(20000) / 3)).astype(np.int16)]
    pieces = train_voices.Batches(speech, ['a'], ['f/a/0.wav'], settings_of(quiet_share=0.5))[0][0]
    quieter = -24 - np.array([10 * math.log10(np.mean(piece ** 2)) for piece in pieces])
    assert np.mean(quieter > 7) == pytest.approx(0.5 * 13 / 20, abs=0.08) and quieter.max() < 20 + 8


def test_a_further_stage_may_have_other_people(people, stopped_with):
    settings = {**QUICK, 'folders': ['corpus'], 'n_epochs': 1}
    train_voices.main(**settings, log_dir='one')
    Path('kept.txt').write_text(people[0] + '\n')
    train_voices.main(**settings, log_dir='two', init_from='one/going_on.pth', hold_out='kept.txt', lr=1e-12)
    one, two = (read(folder + '/going_on.pth')['model'] for folder in ('one', 'two'))
    torch.testing.assert_close(one['fc0.weight'], two['fc0.weight'], atol=1e-6, rtol=0)
    assert one['last.weight'].shape == (8, 192) and two['last.weight'].shape == (6, 192)
    steps = [read(folder + '/going_on.pth')['criterion']['n_steps'] for folder in ('one', 'two')]
    assert steps[1] == steps[0] + 1  # the margin goes on rising
    torch.save({'model': {}}, 'other.pth')
    torch.save({'state_dict': {}}, 'another.pth')
    for name in ('other.pth', 'another.pth'):
        assert '%s: neither the going_on.pth nor the checkpoint' % name in stopped_with(
            train_voices.main, **settings, teacher='teacher.npz', log_dir='three', init_from=name)


def test_a_further_stage_from_a_checkpoint_alone(people, write_feat, monkeypatch, stopped_with):
    """The layer that the checkpoint has no more is found again: what it says of people is what the teacher says."""
    settings = {**QUICK, 'folders': ['corpus'], 'n_epochs': 1, 'init_from': 'one/checkpoint_1.pth'}
    train_voices.main(**{**settings, 'init_from': None}, teacher='teacher.npz', log_dir='one')
    assert 'init_from: a checkpoint has no layer of 192 numbers' in stopped_with(
        train_voices.main, **settings, log_dir='two')
    for i in range(4):
        write_feat('feats/%s/%d.p' % ('cd'[i % 2], i), seed=i)
    begun, train_epoch = {}, train_voices.train_epoch
    monkeypatch.setattr(train_voices, 'train_epoch', lambda run, *others: begun.update(run=run, others=others))
    vectors = torch.from_numpy(np.random.default_rng(0).normal(size=(4, 128)).astype(np.float32))
    with monkeypatch.context() as patched:  # the untrained network says nearly the same of everybody
        patched.setattr(train_voices, 'embeddings_of_people', lambda *arguments: vectors)
        patched.setattr(train_voices, 'save_average', lambda *arguments: None)
        train_voices.main(**settings, teacher='teacher.npz', log_dir='two', feature_dir='feats', feature_share=0.4,
                          feature_weight=0.1)
    batches, s, device = begun['others']
    model = begun['run']['average']
    for name, tensor in begun['run']['model'].state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name])
    # M by hand. It brings each of the four vectors to what the teacher says of that person
    M = np.linalg.lstsq(train_voices.unit(vectors.numpy()), batches.centres[0], rcond=None)[0]
    np.testing.assert_allclose(train_voices.unit(vectors.numpy()) @ M, batches.centres[0], atol=1e-4)
    reduced = train_voices.background_network(128, 2, 'conformer_large', pooling='attentive', head='cosine')
    reduced.load_state_dict(read('one/checkpoint_1.pth')['state_dict'])
    x = torch.randn(5, 1, 40, 120)
    before, after = (network.eval()(x)[0].detach().numpy() for network in (reduced, model))
    np.testing.assert_allclose(after, before @ M, atol=1e-3 * np.abs(after).max())
    numbers = vectors.numpy() @ M
    np.testing.assert_allclose(model.bn0.running_mean, numbers.mean(axis=0), atol=1e-4)
    np.testing.assert_allclose(model.bn0.running_var, numbers.var(axis=0, ddof=1), atol=1e-4)
    torch.testing.assert_close(model.bn0.weight ** 2, model.bn0.running_var + 1e-5, rtol=1e-4, atol=1e-8)
    # The classes of the speakers of features, who have two files each, begin where their windows are
    for number, person in enumerate('cd'):
        windows = [batches.window('feats/%s/%d.p' % (person, i), 200, np.random.default_rng(0))
                   for i in range(number, 4, 2)]
        x = torch.from_numpy(np.stack(windows)).float().transpose(1, 2).unsqueeze(1)
        centre = torch.nn.functional.normalize(model(x)[0]).mean(dim=0)
        torch.testing.assert_close(model.last.weight[number - 2], centre, rtol=1e-3, atol=1e-5)
    # The classes of a run with the same people are kept
    begun['run']['model'].last.weight.data[-2:] = 7
    train_voices.save(begun['run'], 1, {**s, 'log_dir': 'two'})
    again = train_voices.begin_run(batches, s, device)
    train_voices.begin_with(again, 'two/going_on.pth', batches, s, device)
    assert (again['model'].last.weight[-2:] == 7).all()
    # And a step can be made
    train_epoch(begun['run'], batches, s, device)


def test_the_speakers_of_features_weigh_as_much_as_asked(people, write_feat, capsys, monkeypatch):
    losses, apart = [], []
    real = torch.nn.functional.cross_entropy
    monkeypatch.setattr(train_voices.F, 'cross_entropy', lambda cosines, classes: apart.append(classes.tolist())
                        or real(cosines, classes))
    for i in range(4):
        write_feat('feats/%s/%d.p' % ('cd'[i % 2], i), seed=i)
    for weight in (0.0, 1.0, 2.0):
        train_voices.main(**{**QUICK, 'n_epochs': 1, 'batch_size': 5}, folders=['corpus'], feature_dir='feats',
                          feature_share=0.4, feature_weight=weight, log_dir='of_%g' % weight)
        losses.append(float(re.search(r'loss (\d+\.\d+)', capsys.readouterr().out).group(1)))
    assert [len(classes) for classes in apart] == [5, 5, 2, 5, 2]  # of AAM, and of the windows if they have a weight
    assert all(set(classes) <= {8, 9} for classes in apart if len(classes) == 2)  # 4 people at 2 speeds come first
    assert losses[1] > losses[0] and losses[2] - losses[1] == pytest.approx(losses[1] - losses[0], abs=2e-4)


def test_the_learning_rate():
    rates = [train_voices.rate_at(step, 10, 2, 4) for step in range(10)]
    falling = [1 - math.cos(math.pi / 2 * left / 4) for left in (3, 2, 1)]
    assert rates == pytest.approx([0.5, 1, 1, 1, 1, 1, 1, *falling])
    assert {train_voices.rate_at(step, 10, 0, 0) for step in range(10)} == {1}


def test_the_average_follows():
    average, model = torch.nn.BatchNorm1d(2), torch.nn.BatchNorm1d(2)
    model.weight.data[:], model.num_batches_tracked[...] = torch.tensor([3.0, 5.0]), 7
    train_voices.follow(average, model, 0.25)
    assert average.weight.tolist() == [1.5, 2] and average.num_batches_tracked == 7


# ------------------------------------------------------------------------------------------- changed waveforms

def level_of(audio):
    return 20 * math.log10(acoustics.rms(audio))


@pytest.mark.parametrize('kind', ['babble', 'hum'])
def test_noise_is_as_quiet_as_stated(kind):
    rng, times = np.random.default_rng(0), np.arange(RATE) / RATE
    speech = 0.1 * np.sin(2 * np.pi * 300 * times)
    voices = []

    def voice(n_samples, rng):
        voices.append(rng.normal(size=n_samples))
        return voices[-1]
    noise = acoustics.babble(RATE, rng, voice) if kind == 'babble' else acoustics.hum(RATE, rng)
    noisy = acoustics.mix(speech, noise, 12)
    assert level_of(speech) - level_of(noisy - speech) == pytest.approx(12, abs=0.1)
    if kind == 'babble':
        gains = np.linalg.lstsq(np.stack(voices).T, noise, rcond=None)[0]
        assert 1 <= len(gains) <= 7 and (0.5 < gains).all() and (gains <= 1).all()
    else:
        power = np.abs(np.fft.rfft(noise)) ** 2
        assert power[:2500].sum() > 0.999 * power.sum() and np.argmax(power) >= 49


def test_a_band_is_kept():
    rng = np.random.default_rng(0)
    audio = rng.normal(size=RATE)
    before, after = (np.abs(np.fft.rfft(x)) for x in (audio, acoustics.keep_band(audio, 100, 4000)))
    decibels = 20 * np.log10(after / before)  # one number a Hz
    np.testing.assert_allclose(decibels[100:4001], 0, atol=0.1)
    np.testing.assert_allclose(decibels[[50, 99, 4001, 7000]], -60, atol=0.1)


@pytest.mark.parametrize('speed', [0.88, 1.13, 1.065])
def test_another_speed_is_another_pitch_and_length(speed):
    tone = np.sin(2 * np.pi * 400 * np.arange(2 * RATE) / RATE)
    changed = acoustics.change_speed(tone, speed)
    assert len(changed) == math.ceil(2 * RATE / speed)
    assert np.argmax(np.abs(np.fft.rfft(changed * np.hanning(len(changed)), 20 * RATE))) / 20 == pytest.approx(
        400 * speed, abs=0.5)


def test_a_piece_is_brought_to_a_level():
    """Pauses do not count, and neither does a click. A piece of noise alone, or of nothing, is not refused."""
    rng, times = np.random.default_rng(0), np.arange(2 * RATE) / RATE
    speech = np.where(times % 1 < 0.5, np.sqrt(2) * np.sin(2 * np.pi * 200 * times), 0)
    speech += 1e-3 * rng.normal(size=2 * RATE)
    clicked = speech.copy()
    clicked[RATE - 100] = 100
    for audio in (speech, clicked):
        levelled = acoustics.to_level(0.02 * audio, -24)
        assert level_of(levelled[:RATE // 2]) == pytest.approx(-24, abs=0.3)
    assert level_of(acoustics.to_level(rng.normal(size=RATE), -24)) == pytest.approx(-24, abs=0.3)
    assert not acoustics.to_level(np.zeros(RATE), -24).any()


def test_pieces_vary_and_keep_their_length():
    rng = np.random.default_rng(0)
    audio = rng.normal(size=8080)

    def voice(n_samples, rng):
        return rng.normal(size=n_samples)
    pieces = [acoustics.vary_piece(audio, np.random.default_rng(seed), voice) for seed in (0, 0, *range(1, 40))]
    np.testing.assert_array_equal(pieces[0], pieces[1])
    assert all(piece.shape == audio.shape and np.isfinite(piece).all() for piece in pieces)
    assert 25 < len({piece.tobytes() for piece in pieces}) < 40  # some stay as they are
    assert np.isfinite(acoustics.vary_piece(np.zeros(8080), rng, voice)).all()
