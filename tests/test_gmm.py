"""The Gaussian mixtures: against scipy and loops, adaptation by hand, speakers told apart, mistakes named."""
import numpy as np
import pandas as pd
import pytest
from scipy.fft import dct
from scipy.stats import multivariate_normal

import DB_wav_reader
import configure as c
from deep_dive import gmm
from deep_dive.gmm import GMM
from support import demo_voices
from support.messages import LabError


@pytest.fixture
def mixture():
    """Three components in two dimensions, and 50 frames."""
    rng = np.random.default_rng(0)
    components = GMM(np.array([0.5, 0.3, 0.2]), rng.normal(size=(3, 2)), rng.uniform(0.2, 2, (3, 2)))
    return components, rng.normal(size=(50, 2))


def literal_densities(frames, mixture):
    """weight * density, one frame and component after another: (n_frames, n_components)."""
    return np.array([[w * multivariate_normal.pdf(x, m, np.diag(v)) for w, m, v in zip(*mixture)]
                     for x in frames])


def test_log_likelihood_against_scipy(mixture, monkeypatch):
    mixture, frames = mixture
    densities = literal_densities(frames, mixture)
    assert np.allclose(gmm.component_log_likelihoods(frames, mixture), np.log(densities))
    assert np.allclose(gmm.log_likelihood(frames, mixture), np.log(densities.sum(axis=1)))
    monkeypatch.setattr(gmm, 'BLOCK', 7)  # blocks change nothing, the last of them shorter
    assert np.allclose(gmm.log_likelihood(frames, mixture), np.log(densities.sum(axis=1)))
    far = gmm.log_likelihood(frames + 1000, mixture)  # where every density is 0 in double precision
    assert np.isfinite(far).all() and (far < -1e5).all()


def test_em_step_against_a_literal_loop(mixture, monkeypatch):
    mixture, frames = mixture
    monkeypatch.setattr(gmm, 'BLOCK', 7)
    floor = np.array([0.3, 0.01])
    new, mean_log_likelihood = gmm.em_step(frames, mixture, floor)
    densities = literal_densities(frames, mixture)
    shares = densities / densities.sum(axis=1, keepdims=True)
    for k in range(3):
        count = sum(shares[:, k])
        mean = sum(s * x for s, x in zip(shares[:, k], frames)) / count
        variance = sum(s * (x - mean) ** 2 for s, x in zip(shares[:, k], frames)) / count
        assert new.weights[k] == pytest.approx(count / len(frames))
        assert np.allclose(new.means[k], mean) and np.allclose(new.variances[k], np.maximum(variance, floor))
    assert mean_log_likelihood == pytest.approx(np.mean(np.log(densities.sum(axis=1))))


def test_em_never_lowers_the_likelihood_and_finds_the_mixture(capsys):
    rng = np.random.default_rng(1)
    frames = np.concatenate([rng.normal(-3, 1, (600, 2)), rng.normal(3, 0.5, (200, 2))])
    ubm = gmm.train_ubm(frames, 2, 30)
    values = [float(line.split()[-1]) for line in capsys.readouterr().out.splitlines()]
    assert len(values) == 30 and (np.diff(values) >= -1e-4).all() and values[-1] > values[0] + 0.5
    order = np.argsort(ubm.weights)
    assert np.allclose(ubm.weights[order], [0.25, 0.75], atol=0.01)
    assert np.allclose(ubm.means[order], [[3, 3], [-3, -3]], atol=0.2)
    assert np.allclose(ubm.variances[order], [[0.25, 0.25], [1, 1]], atol=0.2)
    again = gmm.train_ubm(frames, 2, 30)
    assert all(np.array_equal(a, b) for a, b in zip(ubm, again))  # seeded


def test_a_component_without_frames_does_no_harm():
    frames = np.random.default_rng(2).normal(size=(100, 2))
    start = GMM(np.array([0.5, 0.5]), np.array([[0.0, 0.0], [1e4, 1e4]]), np.ones((2, 2)))
    for _ in range(3):
        start, mean_log_likelihood = gmm.em_step(frames, start, np.full(2, 0.01))
    assert np.isfinite(mean_log_likelihood) and all(np.isfinite(part).all() for part in start)


def test_adaptation_by_hand():
    ubm = GMM(np.array([0.5, 0.5]), np.array([[0.0], [100.0]]), np.ones((2, 1)))
    adapted = gmm.adapt(ubm, np.full((4, 1), 2.0), 16)  # four frames, all of the first component's
    assert np.allclose(adapted.means, [[4 / (4 + 16) * 2.0], [100.0]])  # the other one got none, and stays
    assert np.array_equal(adapted.weights, ubm.weights) and np.array_equal(adapted.variances, ubm.variances)
    many = gmm.adapt(ubm, np.full((10 ** 6, 1), 2.0), 16)
    assert many.means[0, 0] == pytest.approx(2.0, abs=1e-4)
    assert gmm.adapt(ubm, np.full((4, 1), 2.0), 1e9).means[0, 0] == pytest.approx(0, abs=1e-7)
    for wrong in (0, -1, 'many'):
        with pytest.raises(LabError, match='it must be a positive number of frames'):
            gmm.adapt(ubm, np.full((4, 1), 2.0), wrong)


def test_frames_are_cepstra_of_what_is_not_silent(lab):
    feature = np.random.default_rng(0).uniform(1, 60, (300, 40))
    feature[100:150] = 0  # on the floor
    DB_wav_reader.write_feature('a/u.p', feature - feature.mean(axis=0), 'a')
    frames = gmm.frames_of('a/u.p')
    assert frames.shape == (300 - 2 * 50 - 50, gmm.N_CEPSTRA)
    sounding = np.delete(feature[50:250], np.s_[50:100], 0)
    assert np.allclose(frames, dct(sounding, norm='ortho')[:, :gmm.N_CEPSTRA])
    DB_wav_reader.write_feature('a/silent.p', np.zeros((300, 40)), 'a')
    with pytest.raises(LabError, match='silent.p: all frames are silent'):
        gmm.frames_of('a/silent.p')


@pytest.fixture
def two_speakers(lab):
    """Four utterances of each of two speakers, who differ in their filters' mean alone; their UBM."""
    rng = np.random.default_rng(3)
    tilts = {'ann': np.linspace(0, 3, 40), 'bob': np.linspace(3, 0, 40)}
    for speaker, tilt in tilts.items():
        for i in range(4):
            feature = rng.normal(0, 3, (160 + 10 * i, 40)) + tilt
            feature[80] = -30  # a floor that all filters have in common
            DB_wav_reader.write_feature('unseen/%s/%d.p' % (speaker, i), feature, speaker)
    DB = DB_wav_reader.read_feats_structure('unseen')
    return DB, gmm.train_ubm(np.concatenate(gmm.read_frames(DB)), 4, 5)


def test_two_speakers_are_told_apart(two_speakers, capsys):
    DB, ubm = two_speakers
    enroll_DB, test_DB = gmm.split_first(DB, 2, 4)
    assert list(enroll_DB['filename'].str[-3:]) == ['0.p', '1.p'] * 2
    assert list(test_DB['filename'].str[-3:]) == ['2.p', '3.p'] * 2
    capsys.readouterr()
    scores, spk_list, true_spks, predicted_spks = gmm.identify(enroll_DB, test_DB, ubm, 16)
    assert list(predicted_spks) == true_spks == ['ann', 'ann', 'bob', 'bob']
    assert spk_list == ['ann', 'bob'] and scores.shape == (4, 2)
    assert (scores.argmax(axis=1) == [0, 0, 1, 1]).all()
    assert 'Accuracy : 100.00 % of 4 utterances' in capsys.readouterr().out


def test_pieces_of_an_utterance(two_speakers, capsys):
    DB, ubm = two_speakers
    enroll_DB, test_DB = gmm.split_first(DB, 2, 4)
    frames, speakers = gmm.read_pieces(test_DB, 0.3)  # of 80 and 90 frames after trimming, as 2 and 3 pieces of 30
    assert speakers == ['ann'] * 5 + ['bob'] * 5
    whole = gmm.frames_of(test_DB['filename'].iloc[1])  # its frame 80 - 50 = 30 is silent, and in the second piece
    assert [len(piece) for piece in frames[:5]] == [30, 29, 30, 29, 30]
    assert np.allclose(np.concatenate(frames[2:5]), whole)
    capsys.readouterr()
    scores, spk_list, true_spks, predicted_spks = gmm.identify(enroll_DB, test_DB, ubm, 16, 0.3)
    literal = [[np.mean(gmm.log_likelihood(piece, gmm.adapt(ubm, np.concatenate(gmm.read_frames(rows)), 16))
                        - gmm.log_likelihood(piece, ubm)) for _, rows in enroll_DB.groupby('speaker_id')]
               for piece in frames]
    assert np.allclose(scores, literal) and true_spks == speakers
    n_right = np.sum(np.array(predicted_spks) == true_spks)
    assert 'Accuracy : %.2f %% of 10 pieces (' % (10 * n_right) in capsys.readouterr().out
    feature = np.random.default_rng(4).uniform(1, 9, (190, 40))
    feature[80:110] = 0  # the second of three pieces is silent
    DB_wav_reader.write_feature('gap/cy/0.p', feature, 'cy')
    assert gmm.read_pieces(DB_wav_reader.read_feats_structure('gap'), 0.3)[1] == ['cy', 'cy']
    with pytest.raises(LabError, match='piece_seconds = 3 is longer than every test file'):
        gmm.read_pieces(test_DB, 3)


def test_all_pairs_against_one_pair_after_another(two_speakers, monkeypatch):
    DB, ubm = two_speakers
    monkeypatch.setattr(gmm, 'UTTERANCES_AT_ONCE', 3)
    scores, first, second = gmm.score_pairs(DB, ubm, 16)
    assert len(scores) == 8 * 7 // 2
    frames = gmm.read_frames(DB)
    for score, i, j in zip(scores, first, second):
        model = gmm.adapt(ubm, frames[i], 16)
        ratio = gmm.log_likelihood(frames[j], model) - gmm.log_likelihood(frames[j], ubm)
        assert i < j and score == pytest.approx(ratio.mean())
    same = np.array(DB['speaker_id'])[first] == np.array(DB['speaker_id'])[second]
    assert scores[same].min() > scores[~same].max()


def test_main_on_demo_voices(six_voices, lab, capsys):
    demo_voices.make_train_features(c.TRAIN_FEAT_DIR, n_voices=20, n_utterances=3)
    capsys.readouterr()
    gmm.main(n_components=32, n_iterations=8, test_dir=str(six_voices / c.TEST_FEAT_DIR),
             unseen_dir=c.TRAIN_FEAT_DIR, n_each=3, n_enroll=2)
    out = capsys.readouterr().out
    assert out.startswith('Background model: 32 Gaussians, 60 utterances, ')
    accuracies = [float(line.split()[2]) for line in out.splitlines() if line.startswith('Accuracy : ')]
    eers = [float(line.split()[2]) for line in out.splitlines() if line.startswith('EER : ')]
    assert accuracies[0] == 100  # of 6 voices
    assert accuracies[1] >= 60  # of 20, by 2 short utterances of each
    assert eers[0] <= 10 and eers[1] <= 25
    assert 'Picture: model_gmm/confusion.png' in out.splitlines()
    for line in ('=== Speaker identification: whole files ===', 'Target trials : 6', 'Impostor trials : 30',
                 '=== Speaker identification: 20 speakers, 2 utterances of each enrolled ===',
                 'Target trials : 60', 'Impostor trials : %d' % (60 * 59 // 2 - 60)):
        assert line in out.splitlines()


def test_mistakes_are_named(lab, write_feat, stopped_with, capsys):
    def stopped(**settings):
        return stopped_with(gmm.main, **{'n_components': 2, **settings})

    for name in ('enroll', 'test'):
        for speaker in ('ann', 'bob'):
            write_feat('%s/%s/%s.p' % (c.TEST_FEAT_DIR, speaker, name))
    assert 'does not exist' in stopped()  # this folder is not the project's: no demo voices are made in it
    for i in range(3):
        write_feat('%s/eve/%d.p' % (c.TRAIN_FEAT_DIR, i), seed=i)
    assert 'n_components = 1000: it must be between 1 and the 300 frames' in stopped(n_components=1000)
    assert 'n_components = 0' in stopped(n_components=0)
    assert 'n_utterances = 0' in stopped(n_utterances=0)
    assert 'relevance = 0: it must be a number above 0' in stopped(relevance=0)
    assert 'n_enroll = 5, n_each = 25: of the 3 utterances of eve' in stopped(unseen_dir=c.TRAIN_FEAT_DIR)
    assert 'nowhere does not exist' in stopped(unseen_dir='nowhere')
    capsys.readouterr()
    gmm.main(n_components=2, n_iterations=1)  # without unseen people, two tables are printed and no third one
    assert capsys.readouterr().out.count('===') == 4


def test_first_utterances_need_some_to_test_with():
    DB = pd.DataFrame({'filename': ['a/1', 'a/2', 'b/1'], 'speaker_id': ['a', 'a', 'b']})
    with pytest.raises(LabError, match='of the 1 utterances of b none would be left'):
        gmm.split_first(DB, 1, 25)
    with pytest.raises(LabError, match='n_enroll = 0'):
        gmm.split_first(DB, 0, 25)
