"""What the scripts say of all trials at once: rates and rankings by hand, then on the six voices; and every picture."""
import os
import re
import struct
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.io import wavfile
from scipy.stats import norm

import configure as c
import demo_quality
from support import demo_voices
import enroll
import identification
import model as lab_model
from deep_dive import scoring
import train
import verification
from DB_wav_reader import read_audio, read_feats_structure, split_enroll_and_test
from conftest import PROJECT, FirstFrame, run_copy
from deep_dive import all_trials, backends
from support import pictures
from support.messages import LabError
from test_scripts import SIX, enrolled  # noqa: F401  (a fixture)

ALL = ("test_speaker = '242M9242'", "test_speaker = 'all'")


def picture_size(filename):
    """Width and height of a PNG."""
    with open(filename, 'rb') as f:
        content = f.read()
    assert content.startswith(b'\x89PNG\r\n\x1a\n') and len(content) < 200000
    return struct.unpack('>II', content[16:24])


def test_unknown_below_the_threshold(write_vector, capsys):
    embeddings = {'a': torch.tensor([[1.0, 0.0]]), 'b': torch.tensor([[0.0, 2.0]])}
    path = write_vector('feat/b/test.p', 3, 4)  # cosines: 0.6 with a, 0.8 with b
    for thres, answer in ((0.79, 'b'), (0.81, 'unknown')):
        assert answer == identification.perform_identification(
            False, FirstFrame(), embeddings, path, 100, ['a', 'b'], thres=thres)
        assert capsys.readouterr().out == (
            '\n=== Speaker identification ===\nTrue speaker : b\nPredicted speaker : %s\nResult : %s\n\n'
            'b : 0.8000\na : 0.6000\n\nMargin to the runner-up : 0.2000\nThreshold : %.4g\n'
            % (answer, answer == 'b', thres))
    path = write_vector('feat/c/test.p', 0, 1)
    assert 'unknown' == identification.perform_identification(  # a score must be above the threshold, not on it
        False, FirstFrame(), embeddings, path, 100, ['a', 'b'], thres=1.0)


def test_backends_by_hand(write_vector, capsys):
    """Less (0.6, 0), the test's (0.6, 0.8) is (0, 0.8), a's (1, 0) is (0.4, 0), b's (0, 1) is (-0.6, 1)."""
    embeddings = {'a': torch.tensor([[1.0, 0.0]]), 'b': torch.tensor([[0.0, 2.0]])}
    path, model = write_vector('feat/b/test.p', 3, 4), FirstFrame()
    with pytest.raises(LabError, match="backend = 'centre': none knows enough for cosine alone.\n.*cp_num = 'best'"):
        backends.create_backend('centre', model)
    model.backend = {'mean': torch.tensor([[0.6, 0.0]]), 'wccn': torch.tensor([[0.0, 1.0], [2.0, 0.0]])}
    assert backends.available_backends(model) == ['cosine', 'centre', 'wccn']
    with pytest.raises(LabError, match='unknown backend: plda. Choose one of cosine, centre, lda, wccn.'):
        backends.create_backend('plda', model)
    expected = {'cosine': (0.8, 0.6), 'centre': (1 / np.hypot(0.6, 1), 0), 'wccn': (2 / np.hypot(2, 0.6), 0)}
    for backend, (b, a) in expected.items():
        project = backends.create_backend(backend, model)
        score = verification.perform_verification(False, model, embeddings, 'b', path, 100, 0.5, project=project)
        assert score == pytest.approx(b)
        identification.perform_identification(False, model, embeddings, path, 100, ['a', 'b'], project=project)
        assert 'b : %.4f\na : %.4f\n' % (b, a) in capsys.readouterr().out


def test_estimated_backend():
    """Two directions: speakers differ in the first, one speaker's recordings in the second."""
    generator = np.random.default_rng(0)
    speakers = np.repeat(np.arange(30), 20)
    vectors = np.stack([generator.normal(size=30)[speakers], generator.normal(size=600)], axis=1)
    vectors = vectors * [0.5, 0.1] + [0.3, 0.2]
    vectors[:, 0] += 0.01 * generator.normal(size=600)
    backend = backends.estimate_backend(torch.from_numpy(vectors), speakers)
    np.testing.assert_allclose(backend['mean'], vectors.mean(axis=0, keepdims=True), rtol=1e-5)
    residual = vectors - np.stack([vectors[speakers == s].mean(axis=0) for s in speakers])
    within = residual.T @ residual / (600 - 30)
    within += backends.WCCN_SMOOTHING * np.trace(within) / 2 * np.eye(2)
    wccn, lda = backend['wccn'].numpy(), backend['lda'].numpy()
    np.testing.assert_allclose(wccn @ wccn.T, np.linalg.inv(within), rtol=1e-4)
    assert abs(lda[0, 0]) > 10 * abs(lda[1, 0])  # the first axis of LDA is the one that tells speakers apart
    # LDA against the definition: each axis is an eigenvector of W^-1 B, of falling eigenvalue
    between = np.cov(np.stack([vectors[speakers == s].mean(axis=0) for s in range(30)]).T, ddof=0)
    ratios = [(a @ between @ a) / (a @ within @ a) for a in lda.T]
    np.testing.assert_allclose(sorted(np.linalg.eigvals(np.linalg.inv(within) @ between))[::-1], ratios, rtol=1e-3)
    # One recording of each, or nothing that varies: still numbers
    for some in (torch.from_numpy(vectors[::20]), torch.ones(30, 2)):
        assert all(torch.isfinite(m).all() for m in backends.estimate_backend(some, np.arange(30)).values())


def test_precision_and_recall_by_hand(capsys):
    accuracy = all_trials.print_precision_and_recall(['a', 'a', 'b', 'b', 'b'], ['a', 'b', 'b', 'b', 'unknown'])
    assert accuracy == 60
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert all_trials.print_precision_and_recall(['a', 'b'], ['a', 'a']) == 50
    assert 'macro average       2    25.00 %  50.00 %' in capsys.readouterr().out
    assert lines == [['Speaker', 'Pieces', 'Precision', 'Recall'], ['a', '2', '100.00', '%', '50.00', '%'],
                     ['b', '3', '66.67', '%', '66.67', '%'],
                     ['macro', 'average', '5', '83.33', '%', '58.33', '%']]


def test_strangers_by_hand(capsys):
    """Pieces of a, b, c in turn; above 0.5, the stranger a is taken for b, the enrolled b is called unknown by all."""
    scores = np.array([[0.9, 0.6, 0.1], [0.4, 0.3, 0.2], [0.0, 0.4, 0.8]])
    assert all_trials.answers(scores, ['a', 'b', 'c'], 0.5).tolist() == ['a', 'unknown', 'c']
    assert all_trials.answers(scores, ['a', 'b', 'c'], None).tolist() == ['a', 'a', 'c']
    all_trials.print_strangers(scores, ['a', 'b', 'c'], ['a', 'b', 'c'], 0.5)
    out = capsys.readouterr().out
    assert 'Strangers taken for somebody (miss) : 33.33 % of 3' in out
    assert 'Enrolled called unknown (false alarm) : 33.33 % of 6' in out  # b, without a and without c
    all_trials.print_strangers(scores[:, :2], ['a', 'b', 'c'], ['a', 'b'], -1)  # c is a stranger in both turns
    out = capsys.readouterr().out
    assert '(miss) : 100.00 % of 4' in out and '(false alarm) : 0.00 % of 2' in out


def test_pieces_by_hand(write_vector):
    DB = pd.DataFrame({'filename': [write_vector('t/a/test.p', 3, 4)], 'speaker_id': ['a']})  # 100 frames once trimmed
    for seconds, n_pieces in ((None, 1), (0.3, 3), (1, 1)):
        vectors, speakers = all_trials.embed_pieces(False, DB, FirstFrame(), 100, seconds)
        torch.testing.assert_close(vectors, torch.tensor([[0.6, 0.8]]).repeat(n_pieces, 1))
        assert speakers == ['a'] * n_pieces
    with pytest.raises(LabError, match='piece_seconds = 2 is longer than every test file'):
        all_trials.embed_pieces(False, DB, FirstFrame(), 100, 2)


def test_all_kinds_of_trials_by_hand(write_vector, lab):
    model = FirstFrame()
    DB = pd.DataFrame({'filename': [write_vector('t/a/test.p', 3, 4), write_vector('t/b/test.p', 0, 2)],
                       'speaker_id': ['a', 'b']})
    embeddings = {'b': torch.tensor([[0.0, 3.0]]), 'a': torch.tensor([[2.0, 0.0]])}
    expected = {('a', 'a'): 0.6, ('a', 'b'): 0.8, ('b', 'a'): 0, ('b', 'b'): 1}
    vectors, speakers, first, second, is_target = all_trials.trials_with_enrolled(
        False, model, DB, embeddings, 100, None)
    scores = scoring.trial_scores(vectors.numpy(), first, second)
    assert dict(zip(zip(speakers[first], speakers[second]), scores)) == pytest.approx(expected)
    assert is_target.tolist() == [True, False, False, True]

    write_vector('t/a/enroll.p', 4, 3)
    vectors, speakers, first, second, is_target = all_trials.trials_of_pairs(
        False, model, read_feats_structure('t'), 100)
    np.testing.assert_allclose(scoring.trial_scores(vectors.numpy(), first, second), [0.96, 0.6, 0.8], atol=1e-6)
    assert is_target.tolist() == [True, False, False]

    (lab / 'trials.txt').write_text('1 a/test.wav a/enroll.p\n0 b/test.p a/test.wav\n')  # a wav's features will do
    vectors, speakers, first, second, is_target = all_trials.trials_of_list(False, model, 'trials.txt', 't', 100)
    np.testing.assert_allclose(scoring.trial_scores(vectors.numpy(), first, second), [0.96, 0.8], atol=1e-6)
    assert list(speakers[first]) == ['a', 'b'] and list(speakers[second]) == ['a', 'a']
    assert is_target.tolist() == [True, False]
    with pytest.raises(LabError, match='t/c/test.wav: there is no such file, nor its features'):
        all_trials.file_of_trial('c/test.wav', 't')


def test_error_rates_that_are_printed(capsys):
    scores = np.array([0.9, 0.4, 0.6, 0.1])
    speakers, first, second = np.array(['101F1', '102M1', '103F1']), np.array([0, 1, 0, 1]), np.array([0, 1, 2, 0])
    all_trials.print_error_rates(scores, np.array([True, True, False, False]), speakers, first, second, 0.5)
    out = capsys.readouterr().out
    assert 'Target trials : 2\nImpostor trials : 2\n\nEER : 50.00 % (95 % interval' in out
    assert 'EER, same sex : 75.00 % (1 impostor trials)\n' in out
    assert 'minDCF (p = 0.01) : 0.500\n' in out
    assert '\nThreshold : 0.5000\nFalse accepts : 50.00 %\nFalse rejects : 50.00 %\n' in out
    table = [line.split() for line in out.splitlines() if re.match(r' *0\.\d{4} +\d', line)]
    assert ['0.5000', '50.00', '%', '50.00', '%'] in table and ['0.3500', '0.00', '%', '50.00', '%'] in table
    with pytest.raises(LabError, match='1 target and 0 impostor trials: both kinds are needed'):
        all_trials.print_error_rates(scores[:1], np.array([True]), speakers, first[:1], second[:1], 0.5)


def test_six_voices_all_identified(enrolled, monkeypatch, capsys):  # noqa: F811
    monkeypatch.chdir(enrolled)
    run_copy('identification.py', [ALL, ('    thres = None', '    thres = 0.5')])
    out = capsys.readouterr().out
    assert '=== Speaker identification: whole files ===' in out and 'Accuracy : 100.00 % of 6 pieces\n' in out
    assert re.search(r'macro average +6 +100.00 % +100.00 %\n', out) and 'Each speaker left out in turn' in out
    assert 'Picture: enroll_embeddings/confusion.png' in out
    assert max(picture_size('enroll_embeddings/confusion.png')) >= 700
    run_copy('identification.py', [ALL, ('piece_seconds = None', 'piece_seconds = [1, 3, None]'),
                                   ("    backend = 'cosine'", "    backend = 'centre'")])
    out = capsys.readouterr().out
    assert 'pieces of 1 s ===' in out and 'pieces of 3 s ===' in out
    assert picture_size('enroll_embeddings/lengths.png') == (800, 600)


def test_six_voices_by_the_script_that_measures(enrolled, monkeypatch, capsys):  # noqa: F811
    monkeypatch.chdir(enrolled)
    demo_quality.real_speakers(lab_model.load_model(False, 'model_saved', 24, None, None), c.TEST_FEAT_DIR)
    assert '6 real speakers, whole files: 6 of 6 identified (100.0 %), EER 0.0 %' in capsys.readouterr().out


def test_six_voices_all_verified(enrolled, monkeypatch, capsys, stopped_with):  # noqa: F811
    monkeypatch.chdir(enrolled)
    run_copy('verification.py', [ALL, ('thres = 0.95', "thres = 'eer'")])
    out = capsys.readouterr().out
    assert 'Target trials : 6\nImpostor trials : 30\n' in out and 'EER : 0.00 % (no error seen on 6 speakers; ' in out
    assert "EER, backend 'cosine' : 0.00 %\nEER, backend 'centre' : 0.00 %\n" in out and 'False accepts : 0.00 %' in out
    assert 'No picture of a DET curve' in out and min(picture_size('enroll_embeddings/scores.png')) >= 600
    os.remove('enroll_embeddings/scores.png')
    assert 'with 30 impostor trials, a false-accept rate must be at least 1 / 30' in stopped_with(
        lambda: run_copy('verification.py', [ALL, ('thres = 0.95', "thres = ('far', 0.01)")]))
    run_copy('verification.py', [ALL, ("trials = 'enrolled'", "trials = 'pairs'"), ('plot = True', 'plot = False')])
    assert 'Target trials : 6\nImpostor trials : 60\n' in capsys.readouterr().out
    with open('trials.txt', 'w') as f:
        f.writelines('%d %s/enroll.p %s/test.p\n' % (a == b, a, b) for a in SIX[:3] for b in SIX)
    run_copy('verification.py', [ALL, ("trials = 'enrolled'", "trials = 'trials.txt'"),
                                 ('plot = True', 'plot = False')])
    assert 'Target trials : 3\nImpostor trials : 15\n' in capsys.readouterr().out
    assert not os.path.exists('enroll_embeddings/scores.png')


I, V, ONE = 'identification.py', 'verification.py', "    spk_list = ['%s']" % SIX[0]


def test_the_det_curve_by_hand(lab, monkeypatch):
    """One of four targets is missed where no impostor gets in, none where one of two does."""
    figures = []
    monkeypatch.setattr(pictures.plt, 'close', figures.append)
    scores, is_target = np.array([0.9, 0.8, 0.7, 0.3, 0.5, 0.1]), np.array([True] * 4 + [False] * 2)
    pictures.draw_det(scores, is_target, 0.4, 'det.png')
    curve, _, point = figures[0].axes[0].lines
    corners = {(round(x, 6), round(y, 6)) for x, y in norm.cdf(np.transpose(curve.get_data()))}
    assert {(0.5, 0.25), (1e-5, 0.25), (0.5, 1e-5)} <= corners
    assert norm.cdf(np.ravel(point.get_data())) == pytest.approx([0.5, 0.25])
    assert picture_size('det.png') == (700, 700)


def test_settings_that_cannot_be(enrolled, monkeypatch, stopped_with):  # noqa: F811
    monkeypatch.chdir(enrolled)
    for script, old, new, complaint in (
            (I, '    thres = None', "    thres = 'eer'", "thres = 'eer': it must be a number, or None"),
            (I, '    spk_list = None', ONE, 'needs two enrolled speakers'),
            (I, 'piece_seconds = None', 'piece_seconds = 0', 'piece_seconds = 0: it must be a number'),
            (V, 'piece_seconds = None', 'piece_seconds = [1, 2]', 'piece_seconds = [1, 2]: it must be'),
            (V, 'thres = 0.95', "thres = '0.95'", "thres = '0.95': it must be a number, 'eer', or"),
            (V, "trials = 'enrolled'", "trials = 'pair'", "trials = 'pair': there is no such trial list")):
        assert complaint in stopped_with(lambda: run_copy(script, [ALL, (old, new)]))
    assert "thres = 'eer': for one test file it must be a number" in stopped_with(
        lambda: run_copy('verification.py', [('thres = 0.95', "thres = 'eer'")]))


def test_pictures_of_who_sounds_like_whom(lab, monkeypatch):
    figures = []
    monkeypatch.setattr(pictures.plt, 'close', figures.append)
    vectors = np.random.default_rng(0).normal(1, 1, (6, 8)).astype(np.float32)
    embeddings = {name: torch.from_numpy(vector[None]) for name, vector in zip(SIX, vectors)}
    pictures.draw_similarity(embeddings, 'similarity.png')
    pictures.draw_parameters(embeddings, 'parameters.png')
    shown = figures[0].axes[1].images[0].get_array()
    order = [SIX.index(label.get_text()) for label in figures[0].axes[1].get_yticklabels()]
    np.testing.assert_allclose(shown, pictures.similarity(embeddings, SIX)[order][:, order])
    assert sorted(order) == list(range(6)) and len(figures[0].axes[1].texts) == 36
    points = sum(len(line.get_xdata()) for line in figures[1].axes[0].lines)
    assert points == 15 and 'rank correlation' in figures[1].axes[0].get_title()
    assert min(picture_size('similarity.png')) >= 700 and picture_size('parameters.png') == (800, 600)


def test_clusters_by_hand(lab, monkeypatch):
    """Two speakers at right angles, both without spread."""
    class FourUtterances:
        labels = [0, 0, 1, 1]

        def feature(self, index):
            feature = np.zeros((250, 40))
            feature[:, self.labels[index]] = 5
            return feature
    figures = []
    monkeypatch.setattr(train.plt, 'close', figures.append)
    pictures.draw_clusters({'at last': FirstFrame()}, FourUtterances(), False)
    ax = figures[0].axes[0]
    assert ax.get_title() == 'at last: the nearest piece is\nby the same speaker in 100 %'
    (x0, x1), n_pieces = [line.get_xdata()[0] for line in ax.lines], [len(line.get_xdata()) for line in ax.lines]
    assert abs(x0 - x1) == pytest.approx(np.sqrt(2), abs=1e-5) and n_pieces == [4, 4]
    assert picture_size('clusters.png')[1] == 480


@pytest.fixture(scope='module')
def three_voices(tmp_path_factory):
    """The wavs of three demo test voices, and their d-vectors at enrolment under the model that ships."""
    folder = tmp_path_factory.mktemp('three voices')
    demo_voices.make_test_features(folder / 'wavs', folder / 'feats', n_voices=3)
    model = lab_model.load_model(False, str(PROJECT / 'model_saved'), 'etri240', None, None)
    enroll_DB, test_DB = split_enroll_and_test(folder / 'wavs')
    return model, enroll.enroll_per_spk(False, 200, model, enroll_DB, str(folder)), list(test_DB['filename'])


@pytest.mark.parametrize('gain', [-12, -6, 6, 12, 24])
def test_no_decision_depends_on_the_level(three_voices, tmp_path, gain):
    model, embeddings, test_files = three_voices
    names = sorted(embeddings)
    for filename in test_files:
        audio = read_audio(filename)
        changed = tmp_path / Path(filename).parent.name / 'test.wav'
        changed.parent.mkdir()
        wavfile.write(changed, 16000, audio * 10 ** (gain / 20))
        answers, scores = [], []
        for path in (filename, changed):
            answers.append(identification.perform_identification(False, model, embeddings, path, 100, names))
            scores.append([verification.perform_verification(False, model, embeddings, spk, path, 100, 0.95)
                           for spk in names])
        assert answers == [changed.parent.name] * 2
        assert [score > 0.95 for score in scores[0]] == [score > 0.95 for score in scores[1]]
        assert scores[0] == pytest.approx(scores[1], abs=1e-4)


def test_formats_of_one_recording_score_the_same(three_voices, tmp_path):
    model, embeddings, test_files = three_voices
    audio = 4 * read_audio(test_files[0])
    audio += 1e-6 * np.random.default_rng(0).standard_normal(len(audio))  # finer than 16 bits
    scores = []
    for name, samples in (('float', audio.astype(np.float32)), ('16', np.round(audio * 2**15).astype(np.int16)),
                          ('24', np.round(audio * 2**23).astype(np.int32) << 8)):
        path = tmp_path / name / 'test.wav'
        path.parent.mkdir()
        wavfile.write(path, 16000, samples)  # 24 bits: in the upper three bytes of four
        scores.append([verification.perform_verification(False, model, embeddings, spk, path, 100, 0.95)
                       for spk in sorted(embeddings)])
    assert scores[0] == pytest.approx(scores[1], abs=1e-3) and scores[0] == pytest.approx(scores[2], abs=1e-3)
