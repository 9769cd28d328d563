"""PLDA against the literal ratio of two normal distributions, normalisation against loops, both programs."""
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import multivariate_normal

import configure as c
import enroll
import model as lab_model
from conftest import PROJECT, FirstFrame
from deep_dive import backends, calibration, normalisation, plda, trials
from exercises import scoring
from support import runs
from support.checks import BACKEND_TENSORS
from support.messages import LabError

MEAN = np.array([[1.0, -2.0, 0.5]])
BETWEEN = np.array([[2.0, 0.5, 0.0], [0.5, 1.0, -0.3], [0.0, -0.3, 0.2]])
WITHIN = np.array([[0.5, -0.1, 0.0], [-0.1, 0.3, 0.1], [0.0, 0.1, 0.4]])


def draw(n_speakers, seed=0, most=7):
    """(vectors (n, 3), speakers (n,)) from the model, one to `most` recordings of each speaker."""
    rng = np.random.default_rng(seed)
    speakers = np.repeat(np.arange(n_speakers), rng.integers(1, most + 1, size=n_speakers))
    voices = rng.multivariate_normal(MEAN[0], BETWEEN, size=n_speakers)
    return voices[speakers] + rng.multivariate_normal(np.zeros(3), WITHIN, size=len(speakers)), speakers


def literal_ratio(one, other, mean=MEAN[0], between=BETWEEN, within=WITHIN):
    """log p(both | one speaker) - log p(both | two speakers), of the stacked pair."""
    total, zero = between + within, np.zeros_like(between)
    stacked, means = np.concatenate([one, other]), np.concatenate([mean, mean])
    same = multivariate_normal(means, np.block([[total, between], [between, total]]))
    different = multivariate_normal(means, np.block([[total, zero], [zero, total]]))
    return same.logpdf(stacked) - different.logpdf(stacked)


# ------------------------------------------------------------------------------------------------- the model

def test_em_recovers_what_the_data_were_drawn_from():
    vectors, speakers = draw(4000)
    mean, between, within, _ = plda.estimate_plda(vectors, speakers)
    # Standard errors: of a variance of speakers v sqrt(2 / 4000), of one of 16000 recordings a half of that
    np.testing.assert_allclose(mean, MEAN, atol=4 * np.sqrt(2.5 / 4000))
    np.testing.assert_allclose(between, BETWEEN, atol=4 * 2.5 * np.sqrt(2 / 4000))
    np.testing.assert_allclose(within, WITHIN, atol=4 * 0.5 * np.sqrt(2 / 12000))


@pytest.mark.parametrize('seed, smoothing', list(enumerate((0.0, 0.01, 0.3))))
def test_the_likelihood_never_falls(seed, smoothing):
    vectors, speakers = draw(15, seed)
    objectives = plda.estimate_plda(vectors, speakers, n_steps=60, smoothing=smoothing)[3]
    assert len(objectives) == 60 and objectives[5] > objectives[0] + 1e-3
    assert (np.diff(objectives) > -1e-9).all()


def test_the_likelihood_is_that_of_all_recordings():
    """The recordings of a speaker, one after the other, are one normal vector."""
    vectors, speakers = draw(10)
    mean, between, within, _ = plda.estimate_plda(vectors, speakers, n_steps=3)
    expected = 0
    for speaker in range(10):
        own = vectors[speakers == speaker]
        covariance = np.kron(np.ones((len(own), len(own))), between) + np.kron(np.eye(len(own)), within)
        expected += multivariate_normal(np.tile(mean[0], len(own)), covariance).logpdf(own.ravel())
    assert plda.estimate_plda(vectors, speakers, n_steps=4)[3][-1] == pytest.approx(expected)


def test_one_step_by_hand():
    """One dimension, two speakers with two recordings each: 1 and 3, -1 and -3.

    At the start, m = 0, W = 1 (each is 1 from its mean), B = 4 (the means are 2 and -2). With n b = 2 * 4,
    the E-step gives E[y] = 8 / 9 * 2 = 16 / 9 and Var[y] = 4 / 9.
    So B = (16 / 9)^2 + 4 / 9 and W = 1 + (2 - 16 / 9)^2 + 4 / 9.
    """
    vectors, speakers = np.array([[1.0], [3.0], [-1.0], [-3.0]]), ['a', 'a', 'b', 'b']
    mean, between, within, _ = plda.estimate_plda(vectors, speakers, n_steps=1)
    assert mean[0, 0] == pytest.approx(0) and between[0, 0] == pytest.approx(256 / 81 + 4 / 9)
    assert within[0, 0] == pytest.approx(1 + 4 / 81 + 4 / 9)


def test_the_axes_make_both_covariances_diagonal():
    variances, axes = plda.find_axes(BETWEEN, WITHIN)
    np.testing.assert_allclose(axes.T @ WITHIN @ axes, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(axes.T @ BETWEEN @ axes, np.diag(variances), atol=1e-12)


# ------------------------------------------------------------------------------------------------- its score

def plda_scores(vectors, *parameters):
    points, own = plda.prepare(vectors, *parameters)
    return points @ points.T + own[:, None] + own


def test_score_by_hand():
    """B = W = 1, m = 0: the covariance of a pair is [[2, 1], [1, 2]] (determinant 3) or 2 in each (4).

    For 1 and 1 the squared distances are 2 / 3 and 1, for 1 and -1 they are 2 and 1, for 0 and 0 both are 0.
    """
    one, zero = np.ones((1, 1)), np.zeros((1, 1))
    scores = plda_scores(np.array([[1.0], [-1.0], [0.0]]), zero, one, one)
    half = np.log(4 / 3) / 2
    np.testing.assert_allclose([scores[0, 0], scores[0, 1], scores[2, 2]],
                               [half - (2 / 3 - 1) / 2, half - (2 - 1) / 2, half])


def test_score_is_the_literal_log_likelihood_ratio():
    vectors, _ = draw(10)
    scores = plda_scores(vectors, MEAN, BETWEEN, WITHIN)
    expected = [[literal_ratio(one, other) for other in vectors] for one in vectors]
    np.testing.assert_allclose(scores, expected, atol=1e-9)
    np.testing.assert_allclose(scores, scores.T, atol=1e-12)


def test_scores_of_data_from_the_model_are_calibrated():
    """The ratio of a ratio is that ratio: the true one costs no more than the best function of it."""
    vectors, speakers = draw(150, most=4)
    first, second = scoring.all_pairs(len(speakers))
    points, own = plda.prepare(vectors, MEAN, BETWEEN, WITHIN)
    scores = scoring.trial_products(points, first, second) + own[first] + own[second]
    is_target = speakers[first] == speakers[second]
    target, impostor = scores[is_target], scores[~is_target]
    assert scoring.cllr(target, impostor) < scoring.min_cllr(target, impostor) + 0.05 < 0.9


# ------------------------------------------------------------------------------------------------- of a model

@pytest.fixture
def model():
    """FirstFrame, which knows what the backends need, of vectors (n, 2) of length 1."""
    model, rng = FirstFrame(), np.random.default_rng(0)
    speakers = np.repeat(np.arange(60), 5)
    angles = rng.uniform(0, 2, size=60)[speakers] + 0.2 * rng.normal(size=300)
    vectors = torch.from_numpy(np.stack([np.cos(angles), np.sin(angles)], axis=1))
    model.backend = backends.estimate_backend(vectors, speakers)
    return model


D_VECTORS = F.normalize(torch.tensor([[1.0, 0.3], [0.2, 1.0], [1.0, 1.0], [0.9, -0.1], [-1.0, 2.0]]))
FIRST, SECOND = scoring.all_pairs(len(D_VECTORS))


def test_what_the_training_set_leaves(model):
    assert model.backend['cohort'].shape == (60, 2)
    assert backends.available_backends(model) == backends.BACKENDS
    np.testing.assert_allclose(model.backend['cohort'].norm(dim=1), 1, rtol=1e-6)
    assert backends.available_normalisations(model) == normalisation.NORMALISATIONS
    many = backends.estimate_backend(torch.rand(900, 2), np.arange(900) // 2)
    assert many['cohort'].shape == (normalisation.COHORT_SIZE, 2)
    # With one recording of each, or nothing that varies, the result still holds numbers
    for few in (torch.rand(6, 4), torch.ones(6, 4)):
        found = backends.estimate_backend(few, np.arange(6))
        assert all(tensor.isfinite().all() for tensor in found.values())
        np.linalg.cholesky(backends.estimate_backend(few, [0, 0, 1, 2, 3, 4])['plda_within'])


def test_scores_of_plda_are_literal_for_a_model(model):
    mean, between, within = (model.backend['plda_' + name].double().numpy()
                             for name in ('mean', 'between', 'within'))
    vectors = D_VECTORS.double().numpy()
    expected = [[literal_ratio(one, other, mean[0], between, within) for other in vectors] for one in vectors]
    scorer = backends.Scorer('plda', model)
    np.testing.assert_allclose(scorer(D_VECTORS, D_VECTORS), expected, atol=1e-6)
    np.testing.assert_allclose(scorer.trials(D_VECTORS, FIRST, SECOND), np.array(expected)[FIRST, SECOND],
                               atol=1e-6)


def literal_normalisation(normalise, scores, cohort_scores, i, j):
    """The score of i and j, normalised as the formula says. cohort_scores: (n_vectors, n_strangers)."""
    normalised = 0
    for side in (i, j):
        strangers = sorted(cohort_scores[side], reverse=True)
        if normalise == 'as-norm':
            strangers = strangers[:normalisation.N_NEAREST]
        mean = sum(strangers) / len(strangers)
        variance = sum((score - mean) ** 2 for score in strangers) / len(strangers)
        normalised += (scores[i, j] - mean) / variance ** 0.5 / 2
    return normalised


@pytest.mark.parametrize('n_nearest', [3, 1000])
@pytest.mark.parametrize('normalise', ['s-norm', 'as-norm'])
@pytest.mark.parametrize('backend', backends.BACKENDS)
def test_normalisation_against_loops(model, monkeypatch, backend, normalise, n_nearest):
    monkeypatch.setattr(normalisation, 'N_NEAREST', n_nearest)
    plain, normalised = backends.Scorer(backend, model), backends.Scorer(backend, model, normalise)
    assert (plain.name, normalised.name) == (backend, backend + ' ' + normalise)
    scores, cohort_scores = plain(D_VECTORS, D_VECTORS), plain(D_VECTORS, model.backend['cohort'])
    expected = np.array([[literal_normalisation(normalise, scores, cohort_scores, i, j) for j in range(5)]
                         for i in range(5)])
    found = normalised(D_VECTORS, D_VECTORS)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(found, found.T, atol=1e-12)  # it does not matter who is enrolled
    np.testing.assert_allclose(normalised.trials(D_VECTORS, FIRST, SECOND), found[FIRST, SECOND], atol=1e-9)


def test_normalisation_by_hand():
    """Scores 0, 2, 4 with three strangers: mean 2, deviation sqrt(8 / 3). Of the nearest two: 3 and 1."""
    cohort_scores = np.array([[0.0, 4.0, 2.0], [1.0, 1.0, 1.0]])
    mean, deviation = normalisation.cohort_statistics(cohort_scores, 's-norm')
    np.testing.assert_allclose(mean, [2, 1])
    np.testing.assert_allclose(deviation, [np.sqrt(8 / 3), 1e-6])  # never 0
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(normalisation, 'N_NEAREST', 2)
        mean, deviation = normalisation.cohort_statistics(cohort_scores, 'as-norm')
    assert (mean[0], deviation[0]) == (3, 1)
    assert normalisation.normalise_scores(5.0, 3.0, 1.0, 2.0, 0.5) == (2 + 6) / 2


def test_a_saved_model_gives_the_same_scores(lab):
    torch.manual_seed(0)
    network, d_vectors = lab_model.background_resnet(8, 30), F.normalize(torch.randn(120, 8))
    network.backend = backends.estimate_backend(d_vectors, np.arange(120) // 4)
    checkpoint = {'state_dict': network.state_dict(), **network.backend}
    runs.save_checkpoint('model_saved/checkpoint_1.pth', checkpoint)
    loaded = lab_model.load_model(False, 'model_saved', 1, None, None)
    for backend in backends.BACKENDS:
        for normalise in normalisation.NORMALISATIONS:
            before, after = (backends.Scorer(backend, one, normalise)(d_vectors[:5], d_vectors)
                             for one in (network, loaded))
            np.testing.assert_array_equal(before, after)

    def without(*names):
        return {name: value for name, value in checkpoint.items() if name not in names}
    runs.save_checkpoint('model_saved/checkpoint_2.pth', without('plda_within', 'cohort'))
    old = lab_model.load_model(False, 'model_saved', 2, None, None)
    assert backends.available_backends(old) == ['cosine', 'centre', 'lda', 'wccn']
    assert backends.available_normalisations(old) == [None]
    assert np.isfinite(backends.Scorer('wccn', old)(d_vectors, d_vectors)).all()
    for name, wrong in (('plda_within', -torch.eye(8)), ('plda_within', torch.zeros(8, 8)),
                        ('plda_between', torch.eye(7)), ('plda_mean', torch.zeros(2, 8)),
                        ('cohort', torch.ones(1, 8)), ('cohort', torch.ones(5, 7)),
                        ('cohort', torch.full((5, 8), torch.nan))):
        runs.save_checkpoint('model_saved/checkpoint_3.pth', {**checkpoint, name: wrong})
        with pytest.raises(LabError, match='checkpoint_3.pth: no checkpoint of the network in model.py'):
            lab_model.load_model(False, 'model_saved', 3, None, None)


# ------------------------------------------------------------------------------------- in the programs

@pytest.fixture(scope='module')
def measured(six_voices, tmp_path_factory):
    """The run of the six voices, to which deep_dive.calibration has added thresholds and backends."""
    log_dir = tmp_path_factory.mktemp('measured')
    shutil.copytree(six_voices / 'model_saved', log_dir, dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(six_voices)  # where the training features are
        calibration.main(log_dir=str(log_dir))
    return log_dir


@pytest.fixture
def settings(six_voices, measured, lab):
    """The six voices, enrolled with the best checkpoint of their lab. Settings of deep_dive/trials.py."""
    settings = {'use_cuda': False, 'log_dir': str(measured), 'cp_num': 'best',
                'test_dir': str(six_voices / c.TEST_FEAT_DIR)}
    enroll.main(**settings, plot=False)
    return settings


def test_the_program_finds_a_threshold_for_everything(six_voices, measured):
    before, checkpoint = (torch.load(folder / 'checkpoint_best.pth')
                          for folder in (six_voices / 'model_saved', measured))
    assert checkpoint.keys() - before.keys() == {*BACKEND_TENSORS, 'thresholds'}
    assert all(torch.equal(checkpoint['state_dict'][name], tensor)
               for name, tensor in before['state_dict'].items())
    assert checkpoint['cohort'].shape == (6, 128)
    loaded = lab_model.load_model(False, measured, 'best', None, None)
    names = [scorer.name for scorer in backends.all_scorers(loaded)]
    assert names[:3] == ['cosine', 'cosine s-norm', 'cosine as-norm'] and names[-1] == 'plda as-norm'
    for of_backends in checkpoint['thresholds'].values():
        assert list(of_backends) == backends.BACKENDS  # the speakers are in the cohort: nothing normalised
        for numbers in of_backends.values():
            assert numbers['slope'] > 0 and numbers['own'][50] > numbers['others'][50]


def test_other_data_than_those_of_the_run(six_voices, measured, lab, stopped_with):
    assert 'nowhere/run.json does not exist' in stopped_with(calibration.main, log_dir='nowhere')
    shutil.copytree(six_voices / c.TRAIN_FEAT_DIR, c.TRAIN_FEAT_DIR)
    next(Path(c.TRAIN_FEAT_DIR).rglob('*.p')).unlink()
    before = (measured / 'checkpoint_best.pth').read_bytes()
    assert 'there are 95 utterances now, the run in %s had 96' % measured in stopped_with(
        calibration.main, log_dir=str(measured))
    assert (measured / 'checkpoint_best.pth').read_bytes() == before


@pytest.mark.parametrize('backend, normalise', [('plda', None), ('cosine', 's-norm')])
def test_trials_with_plda_and_normalisation(settings, capsys, stopped_with, backend, normalise):
    chosen = {**settings, 'backend': backend, 'normalise': normalise}
    loaded = lab_model.load_model(False, settings['log_dir'], 'best', None, None)
    scorer = backends.Scorer(backend, loaded, normalise)
    own = next(iter(loaded.thresholds.values())).get(scorer.name, {'eer': 7.0})['eer']
    if normalise is not None:
        assert 'train with val_speakers = 20' in stopped_with(trials.main, **chosen, thres='model')
    chosen_thres = 'model' if normalise is None else own
    capsys.readouterr()

    trials.main(**chosen, identify=True)
    out = capsys.readouterr().out
    assert '=== Speaker identification: whole files ===' in out and 'matrix.png' in out
    trials.main(**chosen, piece_seconds=1)
    out = capsys.readouterr().out
    known = ', ' + normalise if normalise else ''
    rates = re.findall(r"EER, backend '(\w+)'%s : (\d+\.\d\d) %%" % known, out)
    assert [name for name, _ in rates] == backends.BACKENDS
    assert re.search(r'\nEER : (\d+\.\d\d) %', out).group(1) == dict(rates)[backend]
    assert ('\nCllr : ' in out) == (normalise is None) and 'min Cllr : ' in out
    assert Path('enroll_embeddings/scores.png').exists()
    trials.main(**chosen, piece_seconds=1, thres=('far', 0.1), plot=False)
    assert 'False accepts : ' in capsys.readouterr().out
    trials.main(**chosen, thres=chosen_thres, plot=False)
    assert '\nThreshold : %.4f\n' % own in capsys.readouterr().out
    trials.main(**chosen, identify=True, thres=chosen_thres, plot=False)
    assert 'left out in turn, threshold %.4f\n' % own in capsys.readouterr().out


def test_old_checkpoints_say_what_they_lack(six_voices, lab, stopped_with):
    (lab / 'model_saved').mkdir()
    shutil.copy(PROJECT / 'model_saved/checkpoint_etri240.pth', 'model_saved')
    old = {'use_cuda': False, 'cp_num': 'etri240', 'test_dir': str(six_voices / c.TEST_FEAT_DIR)}
    enroll.main(**old, plot=False)
    message = stopped_with(trials.main, **old, backend='plda')
    assert "backend = 'plda': model_saved/checkpoint_etri240.pth knows enough for cosine, " in message
    assert 'If that knows no more, run python -m deep_dive.calibration first.' in message
    message = stopped_with(trials.main, **old, normalise='s-norm')
    assert "normalise = 's-norm': model_saved/checkpoint_etri240.pth holds no cohort" in message
    trials.main(**old, plot=False)


def test_misspelt_values_are_refused(lab, stopped_with):
    assert 'unknown backend: PLDA. Choose one of cosine, centre, lda, wccn, plda.' in stopped_with(
        trials.main, backend='PLDA')
    for wrong in ('snorm', 'S-norm', 'z-norm', True, 1, ['s-norm']):
        message = stopped_with(trials.main, normalise=wrong)
        assert re.search('unknown normalise: .*Choose one of None, s-norm, as-norm|cannot be read', message)
    # A cosine lies between -1 and 1, other scores anywhere
    for other in ({}, {'backend': 'wccn'}):
        message = stopped_with(trials.main, **other, thres=7.5)
        assert 'thres = 7.5: it must be a number from -1 to 1' in message
    for other in ({'backend': 'plda'}, {'normalise': 's-norm'}, {'backend': 'lda', 'normalise': 'as-norm'}):
        for right in (7.5, -20, 0.5, 'model'):
            assert 'checkpoint_best.pth does not exist' in stopped_with(trials.main, **other, thres=right)
        for wrong in ('x', float('nan'), float('inf'), True, [1]):
            message = stopped_with(trials.main, **other, thres=wrong)
            assert 'thres = ' in message and 'from -1 to 1' not in message


def test_few_recordings_leave_out_what_they_cannot_tell():
    vectors = F.normalize(torch.randn(6, 4, generator=torch.manual_seed(0)))
    assert not {'lda', 'cohort', 'plda_mean', 'plda_between', 'plda_within'} & backends.estimate_backend(
        vectors, [0] * 6).keys()
    of_many = backends.estimate_backend(vectors, list(range(6)))
    assert not {'plda_mean', 'plda_between', 'plda_within'} & of_many.keys()
    assert set(backends.estimate_backend(vectors, [0, 0, 1, 1, 2, 2])) == set(BACKEND_TENSORS)
