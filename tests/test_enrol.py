"""One person enrolled or removed, while the others stay as they are. And nobody stays who was removed."""
import json
import os
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import wavfile

import enroll
from DB_wav_reader import split_enroll_and_test
from conftest import FirstFrame
from model import load_enroll_embeddings
from own_voice import enrol, who
from support import enrolments
from support.messages import LabError


class MeanSize(FirstFrame):
    """Stands for a network: the embedding is the mean size of eight filters, because a frame can be empty."""

    def forward(self, x):
        return x[:, 0, ::5].abs().mean(dim=2), None


def write_recording(filename, seed):
    """Bursts of noise, which are loud and quiet in turn as speech is."""
    generator = np.random.default_rng(seed)
    audio = generator.normal(size=48000) * np.where(np.arange(48000) % 8000 < 5000, 0.05, 1e-4)
    Path(filename).parent.mkdir(parents=True, exist_ok=True)
    wavfile.write(filename, 16000, np.float32(audio))


@pytest.fixture
def recordings(lab, monkeypatch):
    """Four recordings. The programs use MeanSize instead of a checkpoint."""
    for i, name in enumerate('abcd'):
        write_recording('%s.wav' % name, i)
    for program in (enrol, enroll, who):
        monkeypatch.setattr(program, 'load_model', lambda *arguments: MeanSize())
    return ['%s.wav' % name for name in 'abcd']


def test_one_person_is_added_as_enroll_adds_everybody(recordings, lab, monkeypatch, capsys):
    enrol.main('kim', ['a.wav', 'b.wav'])
    enrol.main('김민지', ['c.wav'])
    read = []
    monkeypatch.setattr(enrol, 'get_embeddings', lambda use_cuda, filename, *others: read.append(filename) or (
        enroll.get_embeddings(use_cuda, filename, *others)))
    enrol.main('kim', ['d.wav'])
    folder = 'feat_own/test/kim/'
    assert sorted(read) == ['d.wav', folder + 'enroll.wav', folder + 'enroll2.wav']  # nobody else's
    assert Path(folder, 'enroll3.wav').read_bytes() == Path('d.wav').read_bytes()
    assert 'kim is enrolled in enroll_own, with 3 recording(s) : %senroll.wav' % folder in capsys.readouterr().out
    found, about = enrolments.read_enrolment('enroll_own')

    enroll_DB, _ = split_enroll_and_test('feat_own/test')
    enroll.enroll_per_spk(False, None, MeanSize(), enroll_DB, 'all')
    expected, about_all = enrolments.read_enrolment('all')
    assert list(found) == list(expected) == ['kim', '김민지'] and about == about_all
    for name in found:
        np.testing.assert_allclose(found[name], expected[name], atol=1e-6)


def test_a_recording_that_is_there_already_counts_once(recordings, lab, capsys):
    write_recording('feat_own/test/kim/enroll.wav', 9)
    enrol.main('kim')
    alone = load_enroll_embeddings('enroll_own')['kim']
    enrol.main('kim', ['feat_own/test/kim/enroll.wav'])
    torch.testing.assert_close(load_enroll_embeddings('enroll_own')['kim'], alone)
    assert os.listdir('feat_own/test/kim') == ['enroll.wav']

    # A copy under another name, as after a program that was killed before it had enrolled
    shutil.copy('feat_own/test/kim/enroll.wav', 'copy.wav')
    enrol.main('kim', ['copy.wav', recordings[0], recordings[0]])
    assert sorted(os.listdir('feat_own/test/kim')) == ['enroll.wav', 'enroll2.wav']
    assert 'copy.wav is among the recordings already' in capsys.readouterr().out


def test_a_recording_that_does_not_fit_is_noted(capsys):
    enrolled = {'kim': torch.tensor([[2.0, 0.1]]), 'lee': torch.tensor([[0.0, 1.0]]),
                'far': torch.tensor([[-1.0, 0.0]])}
    vectors = [torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.1]]), torch.tensor([[0.1, 1.0]])]
    description = {'eer': 0.5}
    enrol.note_what_does_not_fit('kim', vectors, ['a.wav', 'b.wav', 'c.wav'], [None] * 3, enrolled, description)
    assert capsys.readouterr().out == 'Note: c.wav sounds more like lee than like the other recordings of kim.\n'
    # Only new ones are looked at. They come last
    enrol.note_what_does_not_fit('kim', vectors[::-1], ['a.wav'], [None], enrolled, description)
    assert capsys.readouterr().out == ''
    # The first recording of somebody: is it one voice under a second name? Beside nobody there is nothing to say
    enrol.note_what_does_not_fit('min', vectors[2:], ['c.wav'], [None], enrolled, description)
    assert capsys.readouterr().out == 'Note: c.wav sounds much like lee, who is enrolled already.\n'
    enrol.note_what_does_not_fit('min', vectors[2:], ['c.wav'], [None], {}, description)
    # A model that knows no threshold cannot say what fits
    enrol.note_what_does_not_fit('kim', vectors, ['a.wav', 'b.wav', 'c.wav'], [None] * 3, enrolled, {})
    assert capsys.readouterr().out == ''
    # Unlike the other one (0.32), and nobody else is there to resemble. A short recording may be so
    across, of_lengths = torch.tensor([[0.32, 0.95]]), {**description, 'eer_1s': 0.3, 'eer_8s': 0.5}
    enrol.note_what_does_not_fit('kim', [vectors[0], across], ['d.wav'], [8], {}, of_lengths)
    assert capsys.readouterr().out == 'Note: d.wav does not sound like the other recordings of kim.\n'
    enrol.note_what_does_not_fit('kim', [vectors[0], across], ['d.wav'], [1], {}, of_lengths)
    assert capsys.readouterr().out == ''


@pytest.mark.parametrize('folder', ['\u1112\u1169\u11bc\uae38\ub3d9', unicodedata.normalize('NFD', '홍길동'),
                                    '\u091c\u095b'])
def test_a_folder_in_another_form_of_the_name(recordings, lab, folder):
    """A Mac writes Hangul in parts, and some letters have two forms of which NFC is not the shorter one."""
    name = unicodedata.normalize('NFC', folder)
    write_recording('feat_own/test/%s/enroll.wav' % folder, 8)
    enroll.main(test_dir='feat_own/test', embedding_dir='enroll_own', test_frames=None, plot=False)
    enrol.main(name, [recordings[1]])
    assert list(load_enroll_embeddings('enroll_own')) == [name] and os.listdir('feat_own/test') == [folder]
    assert sorted(os.listdir('feat_own/test/' + folder)) == ['enroll.wav', 'enroll2.wav']
    enrol.main(remove=name)
    assert os.listdir('feat_own/test') == os.listdir('enroll_own') == []


def test_a_folder_that_is_a_link_is_named(recordings, lab, stopped_with):
    write_recording('elsewhere/enroll.wav', 1)
    os.makedirs('feat_own/test')
    os.symlink(os.path.abspath('elsewhere'), 'feat_own/test/kim')
    enroll.main(test_dir='feat_own/test', embedding_dir='enroll_own', test_frames=None, plot=False)
    assert 'feat_own/test/kim leads out of feat_own/test. Remove that link' in stopped_with(enrol.main, remove='kim')
    assert os.listdir('elsewhere') == ['enroll.wav'] and list(load_enroll_embeddings('enroll_own')) == ['kim']


def test_who_comes_or_goes_while_another_is_enrolled(recordings, lab, monkeypatch):
    enrol.main('ann', [recordings[0]])
    enrol.main('kim', [recordings[1]])
    get_embeddings, meanwhile = enrol.get_embeddings, [lambda: enrol.main(remove='ann'),
                                                       lambda: enrol.main('lee', [recordings[2]])]

    def slowly(*arguments):
        if meanwhile:
            meanwhile.pop()()
        return get_embeddings(*arguments)
    monkeypatch.setattr(enrol, 'get_embeddings', slowly)
    enrol.main('bob', ['d.wav'])
    assert list(load_enroll_embeddings('enroll_own')) == ['bob', 'kim', 'lee']


def test_removing_one_leaves_the_others_and_removing_the_last_leaves_nothing(recordings, lab, stopped_with, capsys):
    for name, recording in zip(['ann', 'kim', 'lee'], recordings):
        enrol.main(name, [recording])
    before, about = enrolments.read_enrolment('enroll_own')
    Path('feat_own/test/kim/notes.txt').write_text('mine')
    shutil.copy('d.wav', 'feat_own/test/kim/test.wav')
    enrol.main(remove='kim')
    assert 'Deleted : feat_own/test/kim/enroll.wav, feat_own/test/kim/test.wav' in capsys.readouterr().out
    assert os.listdir('feat_own/test/kim') == ['notes.txt']
    after, about_others = enrolments.read_enrolment('enroll_own')
    assert list(after) == list(about_others['recordings']) == ['ann', 'lee']
    for name in after:
        np.testing.assert_array_equal(after[name], before[name])
        assert about_others['recordings'][name] == about['recordings'][name]
    who.main('a.wav', thres=0.5)
    assert 'kim' not in capsys.readouterr().out
    Path('enroll_own/similarity.png').write_bytes(b'names')
    Path('enroll_own/calibration.json').write_text('{}')
    enrol.main(remove='ann/')
    assert sorted(os.listdir('enroll_own')) == ['calibration.json', 'embeddings.p']
    enrol.main(remove='./lee')
    assert os.listdir('enroll_own') == [] and os.listdir('feat_own/test') == ['kim']
    assert 'Nobody is enrolled in enroll_own' in stopped_with(who.main, recording='a.wav')
    enrol.main('lee', ['a.wav'])  # and one can begin again
    assert list(load_enroll_embeddings('enroll_own')) == ['lee']


def test_people_who_pass_as_each_other_are_named(recordings, lab, monkeypatch, capsys):
    def model(eer):
        found = MeanSize()
        found.thresholds = {'-44': {'cosine': {'eer': eer, 'slope': 10.0, 'offset': -5.0}}}
        return lambda *arguments: found
    monkeypatch.setattr(enrol, 'load_model', model(0.9))
    enrol.main('kim', ['a.wav'])
    assert 'pass as each other' not in capsys.readouterr().out
    enrol.main('lee', ['a.wav'])  # the same voice under a second name
    assert ('Note: 1 of 1 pairs of enrolled people pass as each other at the threshold 0.9000: kim and lee.'
            in capsys.readouterr().out)
    # Whoever uses the threshold of the room need not be told of it
    description = {'eer': 0.9, 'slope': 10.0, 'offset': -5.0}
    Path('enroll_own/calibration.json').write_text(json.dumps(
        {'sha256': MeanSize().checkpoint['sha256'], 'thresholds': {'-44': {'cosine': description}}}))
    enrol.main('kim', ['a.wav'])
    out = capsys.readouterr().out
    assert 'pass as each other at the threshold 0.9000: kim and lee.\n' in out and 'Find the threshold' not in out
    assert out.count('Threshold and calibration') == 1
    os.remove('enroll_own/calibration.json')
    monkeypatch.setattr(enrol, 'load_model', model(1.1))
    enrol.main('kim', ['a.wav'])
    assert 'pass as each other' not in capsys.readouterr().out


def test_what_cannot_be_used_changes_nothing(recordings, lab, stopped_with):
    enrol.main('kim', ['a.wav'])
    Path('bad.wav').write_bytes(b'no wav')
    Path('notes.txt').write_text('')
    os.mkdir('folder')
    before = Path('enroll_own/embeddings.p').read_bytes()
    for settings, complaint in (
            ({'name': 'lee', 'files': ['b.wav', 'bad.wav']}, 'bad.wav: not a wav file'),
            ({'name': 'kim', 'files': ['bad.wav']}, 'bad.wav: not a wav file'),
            ({'name': 'lee', 'files': ['gone.wav']}, 'gone.wav: there is no such file'),
            ({'name': 'lee', 'files': ['folder']}, 'folder: a folder, not a recording'),
            ({'name': 'lee', 'files': ['notes.txt']}, 'notes.txt: no recording'),
            ({'name': 'Kim', 'files': ['b.wav']}, 'kim is enrolled already. Write the name in the same way'),
            ({'name': 'a/b', 'files': ['b.wav']}, 'This name cannot be used'),
            ({'name': 'all', 'files': ['b.wav']}, 'This name cannot be used'),
            ({'name': 'COM¹', 'files': ['b.wav']}, 'This name cannot be used'),
            ({'name': 'b.wav', 'files': ['c.wav']}, 'Name a person and recordings'),
            ({'name': 'lee'}, 'Name recordings of lee'), ({}, 'Name a person and recordings'),
            ({'name': 'kim', 'remove': 'kim'}, 'Name a person and recordings'),
            ({'remove': 'KIM'}, 'kim is enrolled already. Write the name in the same way'),
            ({'remove': 'lee'}, "'lee' is not enrolled in enroll_own. Enrolled there: kim"),
            ({'remove': '../../enroll_own'}, 'is not enrolled'), ({'remove': '..'}, 'is not enrolled')):
        assert complaint in stopped_with(enrol.main, **settings), settings
    assert Path('enroll_own/embeddings.p').read_bytes() == before
    assert os.listdir('feat_own/test') == ['kim'] and os.listdir('feat_own/test/kim') == ['enroll.wav']


def test_who_was_enrolled_elsewhere_is_not_replaced(recordings, lab, stopped_with):
    enrol.main('kim', ['a.wav'], test_dir='elsewhere')
    assert 'kim is enrolled with recordings that are not in' in stopped_with(enrol.main, name='kim', files=['b.wav'])
    assert not os.path.exists('feat_own')
    enrol.main(remove='kim')  # the recordings elsewhere are left alone
    assert os.listdir('elsewhere/kim') == ['enroll.wav'] and os.listdir('enroll_own') == []


def test_after_the_last_folder_is_gone_nobody_is_enrolled(recordings, lab, stopped_with, capsys):
    settings = {'test_dir': 'own', 'embedding_dir': 'enrolled', 'test_frames': None, 'plot': False}
    write_recording('own/kim/enroll.wav', 1)
    enroll.main(**settings)
    shutil.move('own', 'away')
    stopped_with(enroll.main, **settings)
    assert list(load_enroll_embeddings('enrolled')) == ['kim']  # perhaps the name of the folder was wrong
    shutil.move('away', 'own')
    shutil.move('own/kim/enroll.wav', 'own/kim/bad.wav')
    assert 'own has no enrolment file' in stopped_with(enroll.main, **settings)
    assert 'enrolled/embeddings.p is deleted: nobody has an enrolment file in own' in capsys.readouterr().out
    with pytest.raises(LabError, match='nobody is enrolled yet'):
        load_enroll_embeddings('enrolled')
