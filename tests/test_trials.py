"""Backends and further kinds of trials: by hand, then on the six voices."""
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import configure as c
import enroll
from DB_wav_reader import read_feats_structure
from conftest import PROJECT, SIX, FirstFrame
from deep_dive import backends, trials
from exercises import scoring, similar_voices
from support.messages import LabError


def test_backends_by_hand():
    """Less (0.6, 0), the test's (0.6, 0.8) is (0, 0.8), a's (1, 0) is (0.4, 0), b's (0, 1) is (-0.6, 1)."""
    embeddings = {'a': torch.tensor([[1.0, 0.0]]), 'b': torch.tensor([[0.0, 2.0]])}
    pieces, model = torch.tensor([[0.6, 0.8]]), FirstFrame()
    with pytest.raises(LabError, match="backend = 'centre': none knows enough for cosine only.\nSet cp_num"):
        backends.Scorer('centre', model)
    model.backend = {'mean': torch.tensor([[0.6, 0.0]]), 'wccn': torch.tensor([[0.0, 1.0], [2.0, 0.0]])}
    assert backends.available_backends(model) == ['cosine', 'centre', 'wccn']
    with pytest.raises(LabError, match="backend = 'lda': none knows enough for cosine, centre, wccn only"):
        backends.Scorer('lda', model)
    expected = {'cosine': (0.8, 0.6), 'centre': (1 / np.hypot(0.6, 1), 0), 'wccn': (2 / np.hypot(2, 0.6), 0)}
    for backend, (b, a) in expected.items():
        scorer = backends.Scorer(backend, model)
        scores = similar_voices.score_matrix(pieces, embeddings, ['a', 'b'], scorer)
        np.testing.assert_allclose(scores, [[a, b]], atol=1e-6)
        rows = torch.nn.functional.normalize(torch.cat([pieces, *embeddings.values()]))
        np.testing.assert_allclose(scorer.trials(rows, np.array([0, 0]), np.array([1, 2])), [a, b], atol=1e-6)


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
    assert abs(lda[0, 0]) > 10 * abs(lda[1, 0])  # the first axis of LDA tells speakers apart
    # LDA against the definition: each axis is an eigenvector of W^-1 B, of falling eigenvalue
    between = np.cov(np.stack([vectors[speakers == s].mean(axis=0) for s in range(30)]).T, ddof=0)
    ratios = [(a @ between @ a) / (a @ within @ a) for a in lda.T]
    eigenvalues = np.linalg.eigvals(np.linalg.inv(within) @ between)
    np.testing.assert_allclose(sorted(eigenvalues, reverse=True), ratios, rtol=1e-3)
    # With one recording of each, or nothing that varies, the result still holds numbers
    for some in (torch.from_numpy(vectors[::20]), torch.ones(30, 2)):
        assert all(torch.isfinite(m).all() for m in backends.estimate_backend(some, np.arange(30)).values())


def test_pairs_and_lists_by_hand(write_vector, lab):
    model = FirstFrame()
    write_vector('t/a/test.p', 3, 4)
    write_vector('t/b/test.p', 0, 2)
    write_vector('t/a/enroll.p', 4, 3)
    vectors, speakers, first, second, is_target = trials.trials_of_pairs(
        False, model, read_feats_structure('t'), 100)
    scores = scoring.trial_scores(vectors.numpy(), first, second)
    np.testing.assert_allclose(scores, [0.96, 0.6, 0.8], atol=1e-6)
    assert is_target.tolist() == [True, False, False]

    # The features of a wav will do
    (lab / 'trials.txt').write_text('1 a/test.wav a/enroll.p\n0 b/test.p a/test.wav\n')
    vectors, speakers, first, second, is_target = trials.trials_of_list(False, model, 'trials.txt', 't', 100)
    scores = scoring.trial_scores(vectors.numpy(), first, second)
    np.testing.assert_allclose(scores, [0.96, 0.8], atol=1e-6)
    assert list(speakers[first]) == ['a', 'b'] and list(speakers[second]) == ['a', 'a']
    assert is_target.tolist() == [True, False]
    with pytest.raises(LabError, match='t/c/test.wav: there is no such file, nor its features'):
        trials.file_of_trial('c/test.wav', 't')


def test_trial_lists(tmp_path):
    (tmp_path / 'list.txt').write_text('1 a/1.wav a/2.wav\n\n0 a/1.wav b/1.wav\n')
    is_target, first, second = trials.read_trials(tmp_path / 'list.txt')
    assert is_target.tolist() == [True, False]
    assert first == ['a/1.wav'] * 2 and second == ['a/2.wav', 'b/1.wav']
    with pytest.raises(LabError, match='there is no such trial list'):
        trials.read_trials(tmp_path / 'other.txt')
    for content, reason in (('1 a b\n2 a b\n', 'line 2: not a trial'), ('1 a\n', 'line 1: not a trial'),
                            ('a b target\nb a\n', 'line 2: a trial in another format'),
                            ('a b target\n1 a b\n', 'line 2: a trial in another format'),
                            ('a b targets\n', 'line 1: not a trial'), ('a\n', 'line 1: not a trial'),
                            ('1 a b\n', 'needs trials of both kinds'), ('', 'needs trials of both kinds')):
        (tmp_path / 'list.txt').write_text(content)
        with pytest.raises(LabError, match=reason):
            trials.read_trials(tmp_path / 'list.txt')
    (tmp_path / 'list.txt').write_bytes(b'1 a b\n\xff')
    with pytest.raises(LabError, match='no text in UTF-8'):
        trials.read_trials(tmp_path / 'list.txt')


def test_lists_of_kaldi_and_lists_without_labels(tmp_path):
    (tmp_path / 'list.txt').write_text('\ufeffa b target\na c nontarget\n', encoding='utf-8')
    is_target, first, second = trials.read_trials(tmp_path / 'list.txt')
    assert is_target.tolist() == [True, False] and (first, second) == (['a', 'a'], ['b', 'c'])
    (tmp_path / 'list.txt').write_text('a b\na c\n')
    assert trials.read_trials(tmp_path / 'list.txt') == (None, ['a', 'a'], ['b', 'c'])


@pytest.fixture
def three_vectors(write_vector, lab, monkeypatch):
    """a's (0.6, 0.8) and (0.8, 0.6), b's (0, 1). Scores 0.96, 0.8 and 0.6. And the settings to score them."""
    for name, x, y in (('a/1', 3, 4), ('a/2', 4, 3), ('b/1', 0, 2)):
        write_vector('t/%s.p' % name, x, y)
    monkeypatch.setattr(trials, 'load_model', lambda *arguments: FirstFrame())
    return {'test_dir': 't', 'scores_file': 'x.csv', 'plot': False}


@pytest.mark.parametrize('lines, labels', [('1 a/1.p a/2.p\n0 b/1.p a/1.p\n', '10'),
                                           ('a/1.p a/2.p target\nb/1.p a/1.p nontarget\n', '10'),
                                           ('a/1.p a/2.p\nb/1.p a/1.p\n', ['', ''])])
def test_the_scores_of_a_list_in_a_file(three_vectors, capsys, lines, labels):
    Path('list.txt').write_text(lines)
    trials.main(**three_vectors, trials='list.txt')
    assert Path('x.csv').read_text() == ('first,second,score,target\na/1.p,a/2.p,0.960000,%s\n'
                                         'b/1.p,a/1.p,0.800000,%s\n' % tuple(labels))
    out = capsys.readouterr().out
    assert '2 scores : x.csv' in out and ('Target trials : 1\n' in out) == (labels == '10')


def test_the_cost_at_another_share_of_targets(three_vectors, capsys):
    """The target scores 0.8, the impostors 0.96 and 0.6: accept one of them, or nobody."""
    Path('list.txt').write_text('1 b/1.p a/1.p\n0 a/1.p a/2.p\n0 b/1.p a/2.p\n')
    for p_target, cost in ((0.5, 0.5), (0.4, 0.75), (0.01, 1)):
        trials.main(**three_vectors, trials='list.txt', p_target=p_target)
        assert 'minDCF (p = %g) : %.3f\n' % (p_target, cost) in capsys.readouterr().out


def test_the_scores_of_all_with_all_in_a_file(three_vectors, capsys):
    trials.main(**three_vectors, trials='pairs')
    assert Path('x.csv').read_text() == ('first,second,score,target\nt/a/1.p,t/a/2.p,0.960000,1\n'
                                         't/a/1.p,t/b/1.p,0.800000,0\nt/a/2.p,t/b/1.p,0.600000,0\n')
    assert 'Target trials : 1\nImpostor trials : 2\n' in capsys.readouterr().out


def test_a_folder_of_kaldi(three_vectors, lab, stopped_with):
    (lab / 'data').mkdir()
    (lab / 'data/wav.scp').write_text('u1 t/a/1.p\nu2 ../t/a/2.p\nu3 t/b/1.p\n')  # from here, or from the folder
    (lab / 'list.txt').write_text('u3 u1 nontarget\nu1 u2 target\n')
    settings = {**three_vectors, 'test_dir': 'data'}
    scores = 'first,second,score,target\nu3,u1,0.800000,0\nu1,u2,0.960000,1\n'
    trials.main(**settings, trials='list.txt')  # nobody says who speaks, so there are no error rates
    assert (lab / 'x.csv').read_text() == scores
    trials.main(**settings, trials='pairs')
    all_scores = 'first,second,score,target\nu1,u2,0.960000,%s\nu1,u3,0.800000,%s\nu2,u3,0.600000,%s\n'
    assert (lab / 'x.csv').read_text() == all_scores % ('', '', '')
    for kind, reason in (('pairs', 'Nobody says which trials are of one speaker'),
                         ('list.txt', 'list.txt says which trials are of one speaker, but not who the speakers are: '
                                      'utt2spk is missing in data')):
        message = stopped_with(trials.main, **{**settings, 'scores_file': None, 'trials': kind})
        assert reason in message
    (lab / 'data/utt2spk').write_text('u3 b\nu2 a\nu1 a\n')
    trials.main(**settings, trials='pairs')
    assert (lab / 'x.csv').read_text() == all_scores % (1, 0, 0)
    trials.main(**settings, trials='list.txt')
    assert (lab / 'x.csv').read_text() == scores
    (lab / 'list.txt').write_text('u3 u1\nu1 u4\n')
    assert 'u4 is not in wav.scp of data' in stopped_with(trials.main, **settings, trials='list.txt')


@pytest.mark.parametrize('scp, utt2spk, complaint', [
    ('u1 sox a.wav -t wav - |\n', None, 'data/wav.scp: u1 is a command, and none is run here'),
    ('u1 gone.wav\n', None, 'data/wav.scp: gone.wav: there is no such file'),
    ('u1\n', None, 'data/wav.scp, line 1: a line must have two words'), ('', None, 'data/wav.scp is empty'),
    ('u1 t/a/1.p\nu1 t/b/1.p\n', None, 'data/wav.scp, line 2: there is such a line already: u1'),
    ('u1 t/a/1.p\n', 'u2 a\n', 'data/utt2spk has no line for u1')])
def test_a_folder_of_kaldi_that_cannot_be_read(three_vectors, lab, stopped_with, scp, utt2spk, complaint):
    (lab / 'data').mkdir()
    (lab / 'data/wav.scp').write_text(scp)
    if utt2spk:
        (lab / 'data/utt2spk').write_text(utt2spk)
    assert complaint in stopped_with(trials.main, **{**three_vectors, 'test_dir': 'data', 'trials': 'pairs'})
    assert not (lab / 'x.csv').exists()


# ------------------------------------------------------------------------------------- on six voices

@pytest.fixture(scope='module')
def enrolled(six_voices, tmp_path_factory):
    """Settings of the trials: the six voices, who are enrolled here with the model that ships."""
    settings = {'cp_num': 'etri240', 'log_dir': str(PROJECT / 'model_saved'),
                'test_dir': str(six_voices / c.TEST_FEAT_DIR),
                'embedding_dir': str(tmp_path_factory.mktemp('six'))}
    enroll.main(**settings, plot=False)
    return settings


def test_six_voices_by_every_backend(enrolled, lab, capsys):
    picture = Path(enrolled['embedding_dir']) / 'scores.png'
    trials.main(**enrolled)
    out = capsys.readouterr().out
    assert 'Target trials : 6\nImpostor trials : 30\n' in out
    assert re.findall(r"EER, backend '(\w+)' : 0.00 %", out) == ['cosine', 'centre', 'lda', 'wccn']
    picture.unlink()
    trials.main(**enrolled, trials='pairs', backend='wccn', plot=False)
    assert 'Target trials : 6\nImpostor trials : 60\n' in capsys.readouterr().out
    (lab / 'list.txt').write_text(''.join('%d %s/enroll.p %s/test.p\n' % (a == b, a, b)
                                          for a in SIX[:3] for b in SIX))
    trials.main(**enrolled, trials='list.txt', thres=0, plot=False)
    out = capsys.readouterr().out
    assert 'Target trials : 3\nImpostor trials : 15\n' in out and '\nThreshold : 0.0000\n' in out
    assert not picture.exists()


def test_six_voices_the_scores_of_enrolled_speakers_in_a_file(enrolled, lab):
    trials.main(**enrolled, scores_file='x.csv', plot=False)
    table = pd.read_csv('x.csv')
    assert list(table['second']) == SIX * 6 and table['target'].sum() == 6
    assert (table['first'].str.split('/').str[-2] == table['second']).equals(table['target'] == 1)
    assert table.loc[table['target'] == 1, 'score'].min() > table.loc[table['target'] == 0, 'score'].max()


def test_six_voices_identified_by_a_backend(enrolled, capsys):
    trials.main(**enrolled, identify=True, backend='centre', piece_seconds=[3, None])
    out = capsys.readouterr().out
    assert 'pieces of 3 s ===' in out and 'Accuracy : 100.00 % of 6 files (no error' in out and 'left out' not in out
    assert 'lengths.png' in out
    trials.main(**enrolled, identify=True, backend='centre', thres='model', plot=False)
    assert 'Each speaker left out in turn, threshold ' in capsys.readouterr().out


def test_settings_that_cannot_be(enrolled, stopped_with):
    for setting, complaint in (
            ({'backend': 'plsa'}, 'unknown backend: plsa. Choose one of cosine, centre, lda, wccn, plda'),
            ({'trials': 'pair'}, "trials = 'pair': there is no such trial list"),
            ({'trials': 'pairs', 'piece_seconds': 1}, "trials = 'pairs': piece_seconds and identify need"),
            ({'trials': 'pairs', 'identify': True}, "trials = 'pairs': piece_seconds and identify need"),
            ({'scores_file': 'x.txt'}, "scores_file = 'x.txt': it must be a name that ends with .csv"),
            ({'scores_file': 'x.csv', 'identify': True}, 'it needs identify = False'),
            ({'scores_file': 'x.csv', 'piece_seconds': 1}, 'it needs identify = False and piece_seconds = None'),
            ({'piece_seconds': [1, 2]}, 'piece_seconds = [1, 2]: it must be a number of seconds, or None'),
            ({'identify': True, 'thres': 'eer'}, "thres = 'eer': with identify, it must be a number")):
        assert complaint in stopped_with(trials.main, **{**enrolled, **setting})
