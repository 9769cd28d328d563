"""Exercises 3 and 4: rates and rankings by hand, then on the six voices; and every picture."""
import re
import struct
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.colors import rgb_to_hsv, to_hex, to_rgb
from scipy.io import wavfile
from scipy.stats import linregress, norm, spearmanr

import configure as c
import demo_quality
import enroll
import identification
import model as lab_model
import verification
from DB_wav_reader import read_audio, split_enroll_and_test
from conftest import PROJECT, SIX, FirstFrame
from exercises import listen, scoring, similar_voices, thresholds
from support import demo_voices, pictures, runs
from support.messages import LabError


def picture_size(filename):
    """Width and height of a PNG."""
    content = Path(filename).read_bytes()
    assert content.startswith(b'\x89PNG\r\n\x1a\n') and len(content) < 200000
    return struct.unpack('>II', content[16:24])


@pytest.fixture(scope='module')
def enrolled(six_voices, tmp_path_factory):
    """Settings of the exercises: the six voices, who are enrolled here with the model that ships."""
    settings = {'cp_num': 'etri240', 'log_dir': str(PROJECT / 'model_saved'),
                'test_dir': str(six_voices / c.TEST_FEAT_DIR),
                'embedding_dir': str(tmp_path_factory.mktemp('six'))}
    enroll.main(**settings)
    return settings


# ------------------------------------------------------------------------------------- by hand

def test_unknown_below_the_threshold(write_vector, capsys):
    assert identification.best_speaker({'a': 0.2, 'b': 0.3}, None) == 'b'
    assert identification.best_speaker({'a': 0.2, 'b': 0.3}, 0.25) == 'b'
    assert identification.best_speaker({'a': 0.2, 'b': 0.3}, 0.3) == 'unknown'  # it must be above
    embeddings = {'a': torch.tensor([[1.0, 0.0]]), 'b': torch.tensor([[0.0, 2.0]])}
    path = write_vector('feat/b/test.p', 3, 4)  # cosines: 0.6 with a, 0.8 with b
    for thres, answer in ((0.79, 'b'), (0.81, 'unknown')):
        assert answer == identification.perform_identification(
            False, FirstFrame(), embeddings, path, 100, ['a', 'b'], thres=thres)
        assert capsys.readouterr().out == (
            '\n=== Speaker identification ===\nTrue speaker : b\nPredicted speaker : %s\nResult : %s\n\n'
            'b : 0.8000\na : 0.6000\n\nMargin to the second : 0.2000\nThreshold : %.4g\n'
            % (answer, answer == 'b', thres))
    path = write_vector('feat/c/test.p', 0, 1)
    # A score must be above the threshold, not on it
    assert 'unknown' == identification.perform_identification(
        False, FirstFrame(), embeddings, path, 100, ['a', 'b'], thres=1.0)
    assert 'Result : True\n' in capsys.readouterr().out  # c is a stranger


def test_precision_and_recall_by_hand(capsys):
    accuracy = similar_voices.print_precision_and_recall(
        ['a', 'a', 'b', 'b', 'b'], ['a', 'b', 'b', 'b', 'unknown'])
    assert accuracy == 60
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert similar_voices.print_precision_and_recall(['a', 'b'], ['a', 'a']) == 50
    assert 'macro average       2    25.00 %  50.00 %' in capsys.readouterr().out
    assert lines == [['Speaker', 'Pieces', 'Precision', 'Recall'], ['a', '2', '100.00', '%', '50.00', '%'],
                     ['b', '3', '66.67', '%', '66.67', '%'],
                     ['macro', 'average', '5', '83.33', '%', '58.33', '%']]


@pytest.mark.parametrize('predicted, how_sure', [
    ('ab', 'no error seen on 2 speakers; the true rate of errors may be up to 100 %: rule of three'),
    ('ba', 'no right answer seen on 2 speakers; the true rate of right answers may be up to 100 %: rule of three'),
    ('aa', '95 % interval 0.00 to 100.00, 2 speakers drawn anew')])
def test_how_sure_an_accuracy_is(capsys, predicted, how_sure):
    is_right = np.array(list(predicted)) == np.array(['a', 'b'])
    similar_voices.print_accuracy(is_right, ['a', 'b'], 'files')
    assert capsys.readouterr().out == '\nAccuracy : %.2f %% of 2 files (%s)\n' % (100 * is_right.mean(), how_sure)


def test_strangers_by_hand(capsys):
    """Pieces of a, b, c in turn; above 0.5, the stranger a is taken for b, and b is called unknown by all."""
    scores = np.array([[0.9, 0.6, 0.1], [0.4, 0.3, 0.2], [0.0, 0.4, 0.8]])
    assert similar_voices.answers(scores, ['a', 'b', 'c'], 0.5).tolist() == ['a', 'unknown', 'c']
    assert similar_voices.answers(scores, ['a', 'b', 'c'], None).tolist() == ['a', 'a', 'c']
    assert similar_voices.answers(np.array([[0.5, 0.25]]), ['a', 'b'], 0.5).tolist() == ['unknown']
    similar_voices.print_strangers(scores, ['a', 'b', 'c'], ['a', 'b', 'c'], 0.5)
    out = capsys.readouterr().out
    assert 'Strangers taken for somebody (false accepts) : 33.33 % of 3' in out
    assert 'Enrolled called unknown (false rejects) : 33.33 % of 6' in out  # b, without a and without c
    # c is a stranger in both turns
    similar_voices.print_strangers(scores[:, :2], ['a', 'b', 'c'], ['a', 'b'], -1)
    out = capsys.readouterr().out
    assert '(false accepts) : 100.00 % of 4' in out and '(false rejects) : 0.00 % of 2' in out


def test_pieces_by_hand(write_vector):
    # 100 frames once trimmed
    DB = pd.DataFrame({'filename': [write_vector('t/a/test.p', 3, 4)], 'speaker_id': ['a']})
    for seconds, n_pieces in ((None, 1), (0.3, 3), (1, 1)):
        vectors, speakers = similar_voices.embed_pieces(False, DB, FirstFrame(), 100, seconds)
        torch.testing.assert_close(vectors, torch.tensor([[0.6, 0.8]]).repeat(n_pieces, 1))
        assert speakers == ['a'] * n_pieces
    with pytest.raises(LabError, match='piece_seconds = 2 is longer than every test file'):
        similar_voices.embed_pieces(False, DB, FirstFrame(), 100, 2)


A_AND_B = {'a': torch.tensor([[2.0, 0.0]]), 'b': torch.tensor([[0.0, 3.0]])}


@pytest.fixture
def a_b_and_c(write_vector):
    """Test files of a, b and the stranger c. Cosines with A_AND_B: (0.8, 0.6), (0.6, 0.8), (0.74, 0.67)."""
    files = [write_vector('t/a/test.p', 4, 3), write_vector('t/b/test.p', 3, 4),
             write_vector('t/c/test.p', 1.1, 1)]
    return pd.DataFrame({'filename': files, 'speaker_id': list('abc')})


def test_identification_of_all_by_hand(a_b_and_c, capsys, figures):
    def identify(**settings):
        settings = {'picture_dir': '.', **settings}
        similar_voices.identify_all(False, FirstFrame(), A_AND_B, a_b_and_c, 100, ['a', 'b'], **settings)
        return capsys.readouterr().out

    out = identify()
    assert '\n=== Speaker identification: whole files ===\n' in out
    assert '\nAccuracy : 66.67 % of 3 files (95 % interval 0.00 to 100.00, 3 speakers drawn anew)\nEER : 0.00 %\n' in (
        out) and 'left out' not in out
    assert re.search(r'\n *a +1 +50.00 % +100.00 %\n *b +1 +100.00 % +100.00 %\n *c +1 +0.00 % +0.00 %', out)
    matrix = figures[0].axes[0]  # of whole files
    identify(piece_seconds=1)
    out = identify(piece_seconds=1, thres=0.75)  # now c is called unknown, which is right
    assert '\nAccuracy : 100.00 % of 3 pieces (no error seen on 3 speakers;' in out and '\nEER : 0.00 %\n' in out
    assert 'Each speaker left out in turn, threshold 0.7500\n' in out
    assert '(false accepts) : 0.00 % of 4\n' in out and '(false rejects) : 0.00 % of 2\n' in out
    for figure, names, counts in ((figures[1], 'a b c', [[1, 0, 0], [0, 1, 0], [1, 0, 0]]),
                                  (figures[2], 'a b unknown', np.eye(3))):
        ax = figure.axes[0]
        for labels in (ax.get_yticklabels(), ax.get_xticklabels()):
            assert ' '.join(label.get_text() for label in labels) == names
        assert np.array_equal(ax.images[0].get_array(), counts)
        assert [text.get_text() for text in ax.texts] == ['1'] * 3
    assert figures[1].axes[0].get_title() == 'pieces of 1 s: 2 of 3 identified (66.7 %)'
    assert picture_size('confusion.png') == (800, 700)
    assert [label.get_text() for label in matrix.get_yticklabels()] == ['a', 'b', 'c']
    assert matrix.images[0].get_array().shape == (3, 2) and len(matrix.texts) == 6
    frames = [(int(frame.get_y() + 0.5), int(frame.get_x() + 0.5)) for frame in matrix.patches]
    assert frames == list(enumerate(matrix.images[0].get_array().argmax(axis=1)))  # the highest in each row

    out = identify(piece_seconds=[0.5, 1, None])
    assert re.findall(r'pieces of [\d.]+ s|whole files|of \d (?:pieces|files)', out) == [
        'pieces of 0.5 s', 'of 6 pieces', 'pieces of 1 s', 'of 3 pieces', 'whole files', 'of 3 files']
    assert figures[3].axes[0].get_title() == 'pieces of 0.5 s: 4 of 6 identified (66.7 %)'  # the shortest ones
    above, below = figures[4].axes
    for ax, values in ((above, [200 / 3, 200 / 3]), (below, [0, 0])):  # without the whole files
        np.testing.assert_allclose(np.array(ax.lines[0].get_data(), float), [[0.5, 1], values])
    for ax in (above, below):  # the intervals hold the values
        for y, ((_, low), (_, high)) in zip(ax.lines[0].get_ydata(), ax.collections[0].get_segments()):
            assert low <= y <= high
    # No trial is wrong, and three speakers say little: rule of three
    assert [segment[:, 1].tolist() for segment in below.collections[0].get_segments()] == [[0, 100]] * 2
    assert picture_size('lengths.png') == (800, 600)
    identify(piece_seconds=[0.5, 1], picture_dir=None)
    assert len(figures) == 5
    similar_voices.identify_all(False, FirstFrame(), A_AND_B, a_b_and_c[2:], 100, ['a', 'b'], thres=0.75)
    out = capsys.readouterr().out
    assert 'Accuracy : 100.00 % of 1 files (of one speaker: this says nothing of others)\nNo EER: no piece is by' in out
    two_strangers = pd.concat([a_b_and_c, a_b_and_c[2:].assign(speaker_id='d')], ignore_index=True)
    similar_voices.identify_all(False, FirstFrame(), A_AND_B, two_strangers, 100, ['a', 'b'], thres=0.75,
                                piece_seconds=[0.5, 1], picture_dir='.')
    out = capsys.readouterr().out
    assert 'of 4 pieces (no error seen on 4 speakers; the true rate of errors may be up to 75 %' in out
    bars = figures[-1].axes[0].collections[0].get_segments()  # of lengths.png
    assert bars[1][:, 1].tolist() == [25, 100]
    with pytest.raises(LabError, match='two enrolled speakers or more are needed'):
        similar_voices.identify_all(False, FirstFrame(), A_AND_B, a_b_and_c, 100, ['a'])


def test_the_matrix_has_the_order_of_the_similarity(write_vector, figures):
    """a and c sound alike, b does not. So b stands beside both, and not between them. d is not enrolled."""
    vectors = {'a': (1.0, 0.0), 'b': (0.0, 1.0), 'c': (0.96, 0.28)}
    embeddings = {spk: torch.tensor([vector]) for spk, vector in vectors.items()}
    files = [write_vector('t/%s/test.p' % spk, *vector) for spk, vector in {'d': (3, 4), **vectors}.items()]
    DB = pd.DataFrame({'filename': files, 'speaker_id': list('dabc')})
    similar_voices.identify_all(False, FirstFrame(), embeddings, DB, 100, ['c', 'a', 'b'], picture_dir='.')
    pictures.draw_who_sounds_alike(embeddings, None, '.')
    matrix, similarity = figures[0].axes[0], figures[1].axes[1]
    rows, columns, order = ([label.get_text() for label in labels] for labels in (
        matrix.get_yticklabels(), matrix.get_xticklabels(), similarity.get_xticklabels()))
    assert columns == order and order.index('b') != 1 and rows == [*order, 'd']
    scores = [[np.dot(vectors.get(row, (0.6, 0.8)), vectors[column]) for column in columns] for row in rows]
    np.testing.assert_allclose(matrix.images[0].get_array(), scores, atol=1e-6)


def test_several_files_of_a_speaker_are_counted(a_b_and_c, figures):
    twice = pd.concat([a_b_and_c, a_b_and_c])
    similar_voices.identify_all(False, FirstFrame(), A_AND_B, twice, 100, ['a', 'b'], picture_dir='.')
    assert figures[0].axes[0].get_title() == 'whole files: 4 of 6 identified (66.7 %)'
    assert figures[1].axes[0].get_title().startswith('Test files against enrolment')


def test_intervals_where_nothing_is_wrong():
    """Ten speakers without an error: the rule of three says 30 %. With an error, speakers are drawn anew."""
    spk_list, right = list('abcdefghij'), np.ones(10, dtype=bool)
    is_own = np.eye(10, dtype=bool)
    assert similar_voices.intervals_of(1.0 * is_own, right, spk_list, spk_list, is_own) == ((70, 100), (0, 30))
    never = similar_voices.intervals_of(1.0 * ~is_own, ~right, spk_list, spk_list, is_own)
    assert never[0] == (0, 30) and never[1] == (100, 100)
    once = similar_voices.intervals_of(1.0 * is_own, np.arange(10) > 0, spk_list, spk_list, is_own)
    assert once[0] == scoring.accuracy_interval(np.arange(10) > 0, spk_list) and 60 <= once[0][0] < once[0][1] == 100
    assert similar_voices.intervals_of(1.0 * is_own, right, spk_list, spk_list, is_own & False)[1] == (
        0, 0)
    assert [scoring.rule_of_three(n) for n in (2, 3, 10, 40)] == [100, 100, 30, 7.5]


def test_every_piece_with_everybody(write_vector):
    DB = pd.DataFrame({'filename': [write_vector('t/a/test.p', 3, 4), write_vector('t/b/test.p', 0, 2)],
                       'speaker_id': ['a', 'b']})
    expected = {('a', 'a'): 0.6, ('a', 'b'): 0.8, ('b', 'a'): 0, ('b', 'b'): 1}
    vectors, speakers, first, second, is_target = thresholds.trials_with_enrolled(
        False, FirstFrame(), DB, A_AND_B, 100, None)
    scores = scoring.trial_scores(vectors.numpy(), first, second)
    assert dict(zip(zip(speakers[first], speakers[second]), scores)) == pytest.approx(expected)
    assert is_target.tolist() == [True, False, False, True]


def test_who_is_let_in(capsys):
    names, accepted = np.array(['a', 'b', 'c']), np.array([True, False, True, True])
    first, second = np.array([0, 0, 2, 2]), np.array([1, 1, 0, 0])
    assert thresholds.let_in(accepted, first, second, names) == [('c', 'a (2 of 2)'), ('a', 'b (1 of 2)')]
    assert thresholds.let_in(accepted, first, second, names, 1) == [('c', 'a (2 of 2)')]
    assert thresholds.let_in(accepted[1:2], first[1:2], second[1:2], names) == []
    thresholds.print_let_in([('c', 'a (2 of 2)'), ('a', 'b (1 of 2)'), ('c', 'b (1 of 2)')])
    assert capsys.readouterr().out == (
        'Let in at this threshold :\nc as a (2 of 2), b (1 of 2)\na as b (1 of 2)\n\n')
    thresholds.print_let_in([])
    assert capsys.readouterr().out == 'Let in at this threshold : nobody\n\n'
    thresholds.print_let_in([('a%d' % i, 'b (1 of 2)') for i in range(thresholds.MOST_PAIRS + 2)])
    assert capsys.readouterr().out.endswith('a99 as b (1 of 2)\nand 2 other pairs, not more often\n\n')


def test_error_rates_that_are_printed(capsys):
    scores = np.array([0.9, 0.4, 0.6, 0.1])
    speakers, is_target = np.array(['101F1', '102M1', '103F1']), np.array([True, True, False, False])
    first, second = np.array([0, 1, 0, 1]), np.array([0, 1, 2, 0])
    thresholds.print_error_rates(scores, is_target, speakers, first, second, 0.5)
    out = capsys.readouterr().out
    assert 'Target trials : 2\nImpostor trials : 2\n\nEER : 50.00 % (95 % interval' in out
    assert 'are few: on a straight line between thresholds, this EER may differ by up to 12.5 points\n' in out
    assert 'EER, same sex : 75.00 % (1 impostor trials)\n' in out
    assert 'minDCF (p = 0.01) : 0.500\n' in out
    assert '\nThreshold : 0.5000\nFalse accepts : 50.00 %\nFalse rejects : 50.00 %\n' in out
    table = [line.split() for line in out.splitlines() if re.match(r' *0\.\d{4} +\d', line)]
    assert ['0.5000', '50.00', '%', '50.00', '%', '101F1', 'as', '103F1', '(1', 'of', '1)'] in table
    table = [row[:5] for row in table]
    assert ['0.5000', '50.00', '%', '50.00', '%'] in table
    assert ['0.3500', '0.00', '%', '50.00', '%'] in table
    assert out.endswith('\nLet in at this threshold :\n101F1 as 103F1 (1 of 1)\n\n')
    with pytest.raises(LabError, match='1 target and 0 impostor trials: both kinds are needed'):
        thresholds.print_error_rates(scores[:1], np.array([True]), speakers, first[:1], second[:1], 0.5)


def test_the_point_is_on_the_axes(lab, figures):
    for false_alarm in (0.02, 0.954):
        pictures.draw_det(np.array([0.5, 0]), np.array([0, 1]), (0.01, false_alarm), '', 0.9, 'det.png')
        ax = figures[-1].axes[0]
        (x,), (y,) = ax.lines[2].get_data()
        np.testing.assert_allclose(norm.cdf([x, y]), [false_alarm, 0.01])
        assert ax.get_xlim()[0] < x < ax.get_xlim()[1] and ax.get_xlim() == ax.get_ylim()


def test_verification_of_all_by_hand(a_b_and_c, lab, capsys, monkeypatch):
    """Two targets score 0.8. The impostors score 0.6 twice, and c 0.74 and 0.67."""
    monkeypatch.setattr(thresholds, 'load_model', lambda *settings: FirstFrame())
    monkeypatch.setattr(thresholds, 'load_tests', lambda *settings: (a_b_and_c, A_AND_B))

    def verify(plot=True):
        thresholds.main(embedding_dir='.', thres=0.7, p_target=0.05, plot=plot)
        return capsys.readouterr().out

    out = verify()
    assert 'Target trials : 2\nImpostor trials : 4\n\nEER : 0.00 % (no error seen on 3 speakers; ' in out
    assert '\nThreshold : 0.7000\nFalse accepts : 25.00 %\nFalse rejects : 0.00 %\n' in out
    assert 'minDCF (p = 0.05) : 0.000\n' in out
    assert '\nmin Cllr : 0.000\n' in out and '\nCllr' not in out  # this model has no calibration
    assert 'No picture of a DET curve' in out and 'earlier run' not in out
    assert {path.name for path in lab.glob('*.png')} == {'scores.png'}
    # A picture of an earlier run is named, and it stays as it is
    (lab / 'det.png').write_bytes(b'of an earlier run')
    assert re.search(r'No picture of a DET curve.* \./det\.png is of an earlier run\.\n', verify())
    assert (lab / 'det.png').read_bytes() == b'of an earlier run'
    (lab / 'scores.png').unlink()
    assert 'Picture' not in verify(plot=False) and not (lab / 'scores.png').exists()


# ------------------------------------------------------------------------------------- on six voices

def test_six_voices_all_identified(enrolled, capsys):
    similar_voices.main(**enrolled, thres=0.5)
    out = capsys.readouterr().out
    assert '=== Speaker identification: whole files ===' in out and 'Accuracy : 100.00 % of 6 files (no error' in out
    assert re.search(r'macro average +6 +100.00 % +100.00 %\n', out)
    assert 'Each speaker left out in turn, threshold 0.5000\n' in out
    folder = Path(enrolled['embedding_dir'])
    assert 'Picture: %s' % (folder / 'matrix.png') in out and not (folder / 'confusion.png').exists()
    similar_voices.main(**enrolled, piece_seconds=[1, 3, None])
    out = capsys.readouterr().out
    assert 'Picture: %s' % (folder / 'confusion.png') in out
    assert max(picture_size(folder / 'confusion.png')) >= 700
    assert 'pieces of 1 s ===' in out and 'pieces of 3 s ===' in out
    assert picture_size(folder / 'lengths.png') == (800, 600)


def test_six_voices_by_the_script_that_measures(enrolled, capsys):
    model = lab_model.load_model(False, enrolled['log_dir'], 'etri240', None, None)
    demo_quality.real_speakers(model, enrolled['test_dir'])
    assert '6 real speakers, whole files: 6 of 6 identified (100.0 %), EER 0.0 %' in capsys.readouterr().out


def test_six_voices_all_verified(enrolled, capsys, stopped_with):
    pictures_there = Path(enrolled['embedding_dir'])
    thresholds.main(**enrolled, thres='eer')
    out = capsys.readouterr().out
    assert 'Target trials : 6\nImpostor trials : 30\n' in out and 'False accepts : 0.00 %' in out
    assert 'EER : 0.00 % (no error seen on 6 speakers; ' in out and '\nCllr : 0.' in out
    assert 'No picture of a DET curve' in out and min(picture_size(pictures_there / 'scores.png')) >= 600
    assert 'with 30 impostor trials, a false-accept rate must be at least 1 / 30' in stopped_with(
        thresholds.main, **enrolled, thres=('far', 0.01))
    thresholds.main(**enrolled, thres='model', piece_seconds=1, plot=False)
    model = lab_model.load_model(False, enrolled['log_dir'], 'etri240', None, None)
    out, own = capsys.readouterr().out, model.thresholds[str(c.LEVEL_DBFS)]['cosine']['eer']
    assert '\nThreshold : %.4f\n' % own in out


def test_settings_that_cannot_be(enrolled, stopped_with):
    for main, setting, complaint in (
            (similar_voices.main, {'thres': 'eer'},
             "thres = 'eer': it must be a number from -1 to 1, or 'model', or None"),
            (similar_voices.main, {'spk_list': SIX[:1]}, 'two enrolled speakers or more are needed'),
            (similar_voices.main, {'spk_list': ['nobody']}, "'nobody' is not enrolled. Choose among "),
            (similar_voices.main, {'piece_seconds': 0}, 'piece_seconds = 0: it must be a number of seconds'),
            (similar_voices.main, {'piece_seconds': [None]}, 'piece_seconds = [None]: it must be '),
            (thresholds.main, {'piece_seconds': [1, 2]}, 'piece_seconds = [1, 2]: it must be'),
            (thresholds.main, {'thres': '0.95'},
             "thres = '0.95': it must be a number from -1 to 1, 'eer', 'model', or ('far', 0.01): "),
            (thresholds.main, {'thres': ('far', 1)}, "thres = ('far', 1): it must be ")):
        assert complaint in stopped_with(main, **{**enrolled, **setting})


def test_a_folder_without_test_files(enrolled, lab, write_feat, stopped_with):
    write_feat('t/%s/enroll.p' % SIX[0])
    assert 't has no test file. Each speaker needs test.wav or test.p' in stopped_with(
        thresholds.main, **{**enrolled, 'test_dir': 't'})


def test_the_lab_names_the_exercises(stopped_with):
    assert stopped_with(identification.main, test_speaker='all') == (
        "Error: test_speaker = 'all': it must be one speaker or one file. "
        'For all of them: python -m exercises.similar_voices.')
    assert stopped_with(verification.main, test_speaker='all') == (
        "Error: test_speaker = 'all': it must be one speaker or one file. "
        'For all of them: python -m exercises.thresholds.')


# ------------------------------------------------------------------------------------- pictures

def test_scores_and_the_det_curve_by_hand(lab, figures, capsys):
    """One of four targets is missed where no impostor gets in, none where one of two does."""
    thresholds.draw_trials(np.array([0.9, 0.8, 0.7, 0.3]), np.array([0.5, 0.1]), 0.41, '.')
    assert capsys.readouterr().out == 'Picture: ./scores.png\nPicture: ./det.png\n'
    histograms, det = (figure.axes[0] for figure in figures)
    assert histograms.get_title() == ('At 0.410, 25.0 % of the same-speaker trials are rejected,\n'
                                      '50.0 % of the others accepted')
    for bars, share in zip(histograms.containers, (0.5, 0.75)):  # of the impostors, of the targets above 0.41
        areas = [(bar.get_x(), bar.get_width() * bar.get_height()) for bar in bars]
        assert sum(area for _, area in areas) == pytest.approx(1)
        assert sum(area for x, area in areas if x > 0.41 - 1e-9) == pytest.approx(share)
        assert min(abs(x - 0.41) for x, _ in areas) < 1e-9  # no bar stands on both sides of the threshold
    assert [to_hex(bars[0].get_facecolor()).upper() for bars in histograms.containers] == [
        pictures.DIFFERENT, pictures.SAME]
    assert histograms.lines[0].get_xdata() == [0.41, 0.41]
    assert [len(figure.legends[0].get_texts()) for figure in figures] == [3, 3]
    assert not any(ax.get_legend() for ax in (histograms, det))  # beside the data, never over them
    curve, _, point = det.lines
    corners = {(round(x, 6), round(y, 6)) for x, y in norm.cdf(np.transpose(curve.get_data()))}
    assert {(0.5, 0.25), (0.0005, 0.25), (0.5, 0.0005)} <= corners  # an error never seen stands on the edge
    assert [text.get_text() for text in det.texts] == ['stricter', 'looser']
    assert norm.cdf(np.ravel(point.get_data())) == pytest.approx([0.5, 0.25])
    assert det.get_title() == 'EER 37.50 % of 4 target and 2 impostor trials'
    assert picture_size('det.png') == (700, 700) and picture_size('scores.png') == (800, 600)


@pytest.mark.parametrize('threshold', [-1, 0.95, 3])
def test_no_score_is_left_out_of_the_histograms(lab, figures, threshold):
    pictures.draw_scores(np.array([0.5, 0.6, 0.7]), np.array([0.2, 0.3]), threshold, (0, 0), 'scores.png')
    pictures.draw_scores(np.array([0.5]), np.array([0.5]), threshold, (0, 0), 'scores.png')
    for figure in figures:
        for bars in figure.axes[0].containers:
            assert sum(bar.get_width() * bar.get_height() for bar in bars) == pytest.approx(1)


def test_pictures_of_who_sounds_like_whom(lab, figures):
    vectors = np.random.default_rng(0).normal(1, 1, (6, 8)).astype(np.float32)
    embeddings = {name: torch.from_numpy(vector[None]) for name, vector in zip(SIX, vectors)}
    pictures.draw_who_sounds_alike(embeddings, demo_voices.parameters_of_all(embeddings), '.')
    (tree, ax, _), (compared, bars) = figures[0].axes, figures[1].axes
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = unit @ unit.T
    order = [SIX.index(label.get_text()) for label in ax.get_yticklabels()]
    assert sorted(order) == list(range(6))
    np.testing.assert_allclose(ax.images[0].get_array(), cosines[order][:, order], atol=1e-6)
    assert [text.get_text() for text in ax.texts] == ['%.2f' % cosines[i, j] for i in order for j in order]
    pairs = [(i, j) for i in range(6) for j in range(i + 1, 6)]
    most_alike = max(pairs, key=lambda pair: cosines[pair])
    assert '%s and %s are most alike' % tuple(SIX[i] for i in most_alike) in tree.get_title()
    for sex, colour in (('M', pictures.BLUE), ('F', pictures.ORANGE)):
        assert {label.get_color() for label in ax.get_yticklabels() if label.get_text()[3] == sex} == {colour}

    parameters = [demo_voices.parameters_of(name) for name in SIX]
    for same_sex, line in zip((True, False), compared.lines):
        expected = [(np.linalg.norm(parameters[i] - parameters[j]), cosines[i, j])
                    for i, j in pairs if (SIX[i][3] == SIX[j][3]) == same_sex]
        drawn = np.transpose(line.get_data()).tolist()
        np.testing.assert_allclose(sorted(drawn), sorted(expected), rtol=1e-5)
    assert 'rank correlation' in compared.get_title() and 'over 15 pairs' in compared.get_title()
    scores = [cosines[pair] for pair in pairs]
    distances = [np.linalg.norm(parameters[i] - parameters[j]) for i, j in pairs]
    trend = compared.lines[2].get_xydata()
    np.testing.assert_allclose(trend[:, 1], linregress(distances, scores).slope * trend[:, 0]
                               + linregress(distances, scores).intercept, rtol=1e-5)
    pitch = [abs(parameters[i][0] - parameters[j][0]) for i, j in pairs]
    place = [label.get_text() for label in bars.get_yticklabels()].index('pitch')
    assert bars.patches[place].get_width() == pytest.approx(spearmanr(pitch, scores)[0])
    assert min(picture_size('similarity.png')) >= 700 and picture_size('parameters.png') == (1300, 650)


def test_the_page_has_the_same_two_hues():
    """Blue for one speaker and orange for two: lighter or darker where the page needs it."""
    page = (PROJECT / 'own_voice/page.html').read_text(encoding='utf-8')
    for name, colour in (('own', pictures.SAME), ('others', pictures.DIFFERENT)):
        on_page = re.findall('--%s: (#[0-9a-f]{6});' % name, page)
        hues = [360 * rgb_to_hsv(to_rgb(one))[0] for one in (colour, *on_page)]
        assert len(on_page) == 2 and np.ptp(hues) < 1


def test_long_names_are_cut():
    long = 'Maria-Theresia Hohenzollern-Sigmaringen the %s'
    names = ['kim', long % 'first', long % 'second']
    assert pictures.drawable(names) == ['kim', 'Maria-Theres…n the first', 'Maria-Theres… the second']
    assert max(map(len, pictures.drawable(names))) == pictures.MOST_LETTERS
    alike = ['a' * 20 + letter + 'b' * 20 for letter in 'xy']
    assert pictures.drawable(alike) == alike  # cut, both would be the same
    assert pictures.drawable(names, 'run') == names  # the settings of a run are all there


@pytest.mark.parametrize('n_speakers', [3, 10, 40])
def test_a_matrix_grows_with_its_names(lab, figures, n_speakers):
    """The names do not overlap, whatever their number."""
    names = ['%03d' % i for i in range(n_speakers)]
    pictures.draw_similarity(np.eye(n_speakers), names, 'similarity.png')
    pictures.draw_matrix(np.eye(n_speakers), names, names, 'matrix.png')
    pictures.draw_confusion(names, names, 'confusion.png')
    for figure in figures:
        ax = next(ax for ax in figure.axes if ax.images)
        for labels, axis in ((ax.get_yticklabels(), 1), (ax.get_xticklabels(), 0)):
            boxes = sorted((label.get_window_extent().get_points()[:, axis].tolist() for label in labels))
            assert len(boxes) == n_speakers
            assert all(before[1] <= after[0] for before, after in zip(boxes, boxes[1:]))


def test_names_without_letters_are_numbered(capsys):
    burmese = '\u1000 \u1001'
    assert pictures.drawable([burmese, 'b', burmese]) == ['speaker 1', 'b', 'speaker 1']
    assert capsys.readouterr().out == ('No font here has the letters of some names. In the pictures: '
                                       'speaker 1 = \u1000 \u1001\n')


def test_losses_accuracy_and_learning_rate_of_a_run(lab, figures):
    pictures.visualize_the_losses([3, 2], [14, 1], accuracies=[None, 70], learning_rates=[0.1, 0.01])
    losses, accuracy, rate = figures[0].axes
    assert [list(line.get_ydata()) for line in losses.lines[:2]] == [[3, 2], [14, 1]]
    assert losses.get_ylim() == pytest.approx((0, 3.3))  # the first validation loss does not squash the rest
    assert pictures.axis_top([1, 1], [9, 5]) == pytest.approx(5.5)  # the others can be seen
    np.testing.assert_equal(accuracy.lines[0].get_ydata(), [np.nan, 70])
    assert list(rate.lines[0].get_ydata()) == [0.1, 0.01]
    assert [ax.lines[-1].get_xdata()[0] for ax in figures[0].axes] == [2, 2, 2]  # the lowest validation loss
    assert (lab / 'loss_plot.png').exists()
    assert losses.get_title().endswith('\n(the first one, 14.0, is above the axis)')
    assert all(ax.get_legend() is None for ax in figures[0].axes) and len(figures[0].legends[0].get_texts()) == 3
    shown = [label.get_text() for label in rate.get_yticklabels()]
    assert {'0.01', '0.02', '0.05', '0.1'} <= set(shown) and not any('$' in text for text in shown)  # no 10^-2
    assert all(float(tick).is_integer() for tick in rate.get_xticks())


def test_people_have_no_parameters(lab, figures):
    vectors = torch.randn(21, 1, 8, generator=torch.Generator().manual_seed(0))
    many = {'speaker %02d' % i: vectors[i] for i in range(21)}
    pictures.draw_who_sounds_alike(many, demo_voices.parameters_of_all(many), '.')
    assert len(figures) == 1 and not figures[0].axes[1].texts  # so many numbers could not be read
    assert {label.get_color() for label in figures[0].axes[1].get_yticklabels()} == {'black'}
    assert figures[0].axes[0].get_title().startswith('21 speakers: cosine')  # no colours are named
    assert not (lab / 'parameters.png').exists()


class FourUtterances:
    """Two speakers at right angles, both without spread."""
    labels = [0, 0, 1, 1]
    filenames = ['x/084F2102/a.p', 'x/084F2102/b.p', 'x/somebody/a.p', 'x/somebody/b.p']
    n_classes = 2

    def __init__(self, n_frames):
        self.n_frames = n_frames

    def __len__(self):
        return 4

    def feature(self, index):
        feature = np.zeros((self.n_frames, 40))
        feature[:, self.labels[index]] = 5
        return feature


def test_clusters_by_hand(lab, figures, capsys):
    def draw(n_frames, log_dir):
        settings = {'log_dir': log_dir, 'use_cuda': False, 'train_dir': 'train'}
        run = runs.Run(settings, [FourUtterances(n_frames)] * 2, FirstFrame(), None, None, None)
        run.content['epochs'] = [{'valid_loss': 1}]
        runs.save_checkpoint('%s/checkpoint_1.pth' % log_dir, {'state_dict': FirstFrame().state_dict()})
        run.draw_clusters(FirstFrame(), lab_model.embed_feature)

    draw(250, '.')
    for ax, title in zip(figures[0].axes, ('before training', 'after epoch 1')):
        assert ax.get_title() == '%s: the nearest piece is\nby the same speaker in 100 %%' % title
        (x0, x1) = [line.get_xdata()[0] for line in ax.lines]
        assert abs(x0 - x1) == pytest.approx(np.sqrt(2), abs=1e-5)
        assert [len(line.get_xdata()) for line in ax.lines] == [4, 4]  # pieces
    assert picture_size('clusters.png') == (900, 560)
    assert [text.get_text() for text in figures[0].legends[0].texts] == ['084F2102 (woman)', 'somebody']
    capsys.readouterr()
    draw(99, 'short')
    assert capsys.readouterr().out == (
        'short/clusters.png is not drawn: no validation utterance has 100 frames\n')


def test_the_nearest_piece_is_of_another_utterance(lab, figures):
    """The first two pieces are of one utterance. The nearest piece of another one is by the other speaker."""
    angles = np.array([0, 0.1, 0.4, 2.0])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    pictures.draw_clusters({'by hand': vectors}, np.array([7, 7, 8, 8]), np.array([0, 0, 1, 2]),
                           {7: 'a', 8: 'b'}, 'clusters.png')
    ax, = figures[0].axes
    assert ax.get_title() == 'by hand: the nearest piece is\nby the same speaker in 25 %'
    # The first two pieces have two others of other utterances, none of their speaker. The last two have three each,
    # one of their speaker: (0 + 0 + 1/3 + 1/3) / 4
    assert figures[0].get_suptitle().endswith('By chance, the nearest piece would be by the same speaker in 17 %')
    assert 'outside' not in ax.get_xlabel()
    points = np.concatenate([np.transpose(line.get_data()) for line in ax.lines])
    np.testing.assert_allclose(np.linalg.norm(points[0] - points, axis=1),  # distances stay in two dimensions
                               np.linalg.norm(vectors[0] - vectors, axis=1))


# ------------------------------------------------------------------------------------- recordings

@pytest.fixture(scope='module')
def three_voices(six_voices, tmp_path_factory):
    """The model that ships, the enrolment of three voices with it from their wavs, and their test wavs."""
    model = lab_model.load_model(False, str(PROJECT / 'model_saved'), 'etri240', None, None)
    enroll_DB, test_DB = (DB[:3] for DB in split_enroll_and_test(six_voices / c.TEST_WAV_DIR))
    folder = str(tmp_path_factory.mktemp('three voices'))
    return model, enroll.enroll_per_spk(False, 200, model, enroll_DB, folder), list(test_DB['filename'])


def scores_of(path, model, embeddings):
    """The cosine similarity of a wav with each enrolled speaker: (1, n_speakers)."""
    test_embedding = lab_model.get_embeddings(False, path, model, 100)
    return similar_voices.score_matrix(test_embedding, embeddings, sorted(embeddings))


def test_no_decision_depends_on_the_level(three_voices, tmp_path):
    model, embeddings, test_files = three_voices
    names = sorted(embeddings)
    for filename, speaker in zip(test_files, names):
        audio, all_scores = read_audio(filename)[:6 * 16000], []
        for gain in (0, -12, -6, 6, 12, 24):
            wavfile.write(tmp_path / 'test.wav', 16000, audio * 10 ** (gain / 20))
            all_scores.append(scores_of(tmp_path / 'test.wav', model, embeddings))
            assert similar_voices.answers(all_scores[-1], names, None).tolist() == [speaker]
            assert np.array_equal(all_scores[-1] > 0.95, all_scores[0] > 0.95)
            np.testing.assert_allclose(all_scores[-1], all_scores[0], atol=1e-4)


def test_formats_of_one_recording_score_the_same(three_voices, tmp_path):
    model, embeddings, test_files = three_voices
    audio = 4 * read_audio(test_files[0])
    audio += 1e-6 * np.random.default_rng(0).standard_normal(len(audio))  # finer than 16 bits
    scores = []
    for name, samples in (('float', audio.astype(np.float32)),
                          ('16', np.round(audio * 2**15).astype(np.int16)),
                          ('24', np.round(audio * 2**23).astype(np.int32) << 8)):
        path = tmp_path / ('%s.wav' % name)
        wavfile.write(path, 16000, samples)  # 24 bits: in the upper three bytes of four
        scores.append(scores_of(path, model, embeddings))
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-3)
    np.testing.assert_allclose(scores[0], scores[2], atol=1e-3)


def test_an_outlier_of_the_clusters_stands_at_the_edge(lab, figures):
    angles = np.append(np.linspace(0, 0.2, 11), 3)  # all but one are near each other
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    pictures.draw_clusters({'by hand': vectors}, np.arange(12) % 2, np.arange(12), {0: 'a', 1: 'b'}, 'clusters.png')
    ax, = figures[0].axes
    assert ax.get_xlabel() == 'first main axis\n(1 far outside, drawn at the edge)'
    points = np.concatenate([np.transpose(line.get_data()) for line in ax.lines])
    (low, high), spread = ax.get_xlim(), 0.2  # of the others
    assert high - low < 1.2 * spread and low <= points[:, 0].min() and points[:, 0].max() <= high
    assert np.sum((points[:, 0] == low) | (points[:, 0] == high)) == 1
    assert pictures.without_outliers(np.array([0, 1, 2, 3, 4, 10.0])) == pytest.approx((-0.5, 10.5), abs=1e-4)
    assert pictures.without_outliers(np.array([0, 1, 2, 3, 4, 12.0])) == pytest.approx((-0.2, 4.2), abs=1e-4)


def test_copies_to_listen_to_are_equally_loud(six_voices, lab, capsys):
    click = np.zeros(16000)
    click[8000] = 0.5
    for speaker, gain, more in (('a', 1, []), ('b', 0.3, []), ('c', 1, click)):
        audio = np.append(gain * read_audio(six_voices / c.TEST_WAV_DIR / SIX[0] / 'test.wav'), more)
        (lab / 'wavs' / speaker).mkdir(parents=True)
        wavfile.write('wavs/%s/test.wav' % speaker, 16000, audio.astype(np.float32))
    before = [path.read_bytes() for path in sorted(lab.rglob('*.wav'))]
    listen.main(test_dir='wavs', level=-30.0)
    assert [path.read_bytes() for path in sorted((lab / 'wavs').rglob('*.wav'))] == before
    (rate, one), (_, other), (_, third) = (wavfile.read('listen/%s/test.wav' % name) for name in 'abc')
    assert rate == 16000 and one.dtype == np.int16
    np.testing.assert_allclose(one, other, atol=2)  # the same voice, which was recorded less loud
    assert demo_voices.speech_level(one / 2**15) == pytest.approx(-30, abs=0.5)
    assert np.abs(third / 2**15).max() == pytest.approx(0.99, abs=1e-4)  # the click is not cut off
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(', ')[2] for line in lines[:2]] == ['listen/%s/test.wav: -30 dBFS' % name for name in 'ab']
