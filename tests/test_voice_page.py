"""The page: what the server answers and refuses, and whether its numbers are those of the scripts."""
import http.client
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import unicodedata
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import wavfile

import enroll
import verification
from answers import count_answers
from DB_wav_reader import log_filterbank
from conftest import PROJECT, FirstFrame
from model import load_enroll_embeddings, load_model
from own_voice import answers, calibrate, compare, gallery, page, who, who_when
from own_voice.answers import in_words
from own_voice.who_when import draw_bands
from support import enrolments, recordings
from support.messages import LabError, run_script
from support.recordings import Recording
from turns import conversation, samples_of_speech, shares_of


@pytest.fixture(scope='module')
def wavs(six_voices):
    """The recordings of demo voices: dict (name, 'enroll' or 'test') -> bytes of a wav."""
    return {(folder.name, kind): (folder / ('%s.wav' % kind)).read_bytes()
            for folder in sorted((six_voices / 'test_wavs').iterdir()) if folder.is_dir()
            for kind in ('enroll', 'test')}


@pytest.fixture(scope='module')
def names(wavs):
    return sorted({name for name, _ in wavs})


@pytest.fixture(scope='module')
def voices():
    """The model that ships, for people."""
    return load_model(False, str(PROJECT / 'model_saved'), 'voices', None, None)


@pytest.fixture
def people(lab, voices):
    return gallery.Gallery(voices, 'own', 'enrolled', use_cuda=False)


@pytest.fixture
def server(people):
    """A server at work in another thread."""
    with page.PageServer(people) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={'poll_interval': 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def ask(server, path, body=None, *, method=None, **headers):
    """(status, JSON or text) of a request as the page sends it. A header of None is left out."""
    connection = http.client.HTTPConnection('127.0.0.1', server.server_port, timeout=60)
    headers = {'Host': server.hosts[0], 'Origin': 'http://%s' % server.hosts[0], **headers}
    connection.putrequest(method or ('GET' if body is None else 'POST'), path, skip_host=True)
    if body is not None and 'Content-Length' not in headers:
        headers['Content-Length'] = str(len(body))
    for name, value in headers.items():
        if value is not None:
            connection.putheader(name, value)
    connection.endheaders(body)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    is_json = answer.getheader('Content-Type') == 'application/json'
    return answer.status, json.loads(content) if is_json else content


def files_of(people, name):
    return [one['name'] for one in people.people[name]['files']]


def wav_of(audio):
    content = io.BytesIO()
    wavfile.write(content, 16000, np.round(audio * 32767).astype(np.int16))
    return content.getvalue()


# ------------------------------------------------------------------------------------- answers

def test_the_page_and_the_programs_agree(server, wavs, names, capsys):
    folder = '/%s/' % server.token
    for name in names[:3]:
        status, said = ask(server, folder + 'enrol?sure=1&name=%s' % name, wavs[name, 'enroll'])
        assert status == 200 and said['recording']['seconds'] > 2
    assert [speaker['name'] for speaker in said['state']['speakers']] == names[:3]
    assert Path('own', names[0], 'enroll.wav').read_bytes() == wavs[names[0], 'enroll']
    before = Path('enrolled/embeddings.p').read_bytes()
    _, of_page = ask(server, folder + 'score?name=%s' % names[1], wavs[names[0], 'test'])
    assert names[0] == of_page['ranking'][0]['name'] and of_page['threshold'] < 1
    score = next(one['score'] for one in of_page['ranking'] if one['name'] == names[1])
    claimed = of_page['claimed']
    assert (claimed['name'], claimed['score'], claimed['pairs']) == (names[1], score, 3)
    # The probabilities are those of own_voice.compare, for this length
    capsys.readouterr()
    seconds, model = of_page['recording']['seconds'], server.gallery.model
    compare.print_what_it_means(score, 0.5, model, 'own/%s/enroll.wav' % names[0], seconds)
    printed = re.findall(r'Same speaker, .*log-likelihood ratio (-?\d+\.\d)', capsys.readouterr().out)
    assert list(claimed['conditions']) == ['one_room', 'two_places']
    for ratio, share in zip(printed, claimed['conditions'].values(), strict=True):
        assert np.log(share / (1 - share)) == pytest.approx(float(ratio), abs=0.051)
    assert claimed['accepted'] == (score > of_page['threshold'])

    # The same by the programs: enrol anew, identify, verify
    settings = {'log_dir': str(PROJECT / 'model_saved'), 'cp_num': 'voices', 'test_frames': None,
                'use_cuda': False}
    of_scripts = {**settings, 'embedding_size': None, 'embedding_dir': 'enrolled', 'test_dir': 'own'}
    enroll.main(**of_scripts, plot=False)
    assert Path('enrolled/embeddings.p').read_bytes() == before
    Path('x.wav').write_bytes(wavs[names[0], 'test'])
    capsys.readouterr()
    who.main('x.wav', embedding_dir='enrolled', use_cuda=False)
    out = capsys.readouterr().out
    assert 'Predicted speaker : %s\n' % in_words(*of_page['answer'].values()) in out
    assert 'Threshold : %.4g\n' % of_page['limits']['named'] in out
    assert 'Margin to the second : %.4f\n' % of_page['margin'] in out and '%' not in out
    for one in of_page['ranking']:
        assert '%s : %.4f\n' % (one['name'], one['score']) in out
    verification.main(**of_scripts, test_speaker='x.wav', enroll_speaker=names[1], thres='model')
    compare.main('own/%s/enroll.wav' % names[1], 'x.wav', **settings)
    for out in capsys.readouterr().out.split('=> loading checkpoint')[1:]:
        assert 'Score : %.4f' % of_page['claimed']['score'] in out
        assert ('Accept' if of_page['claimed']['accepted'] else 'Reject') in out


def test_several_recordings_add_up_and_deleting_removes_all(people, wavs, names):
    first, second = names[:2]
    people.enrol(first, wavs[first, 'enroll'])
    one = people.people[first]['embedding']
    people.enrol(first, wavs[first, 'test'])
    people.enrol(second, wavs[second, 'enroll'])
    torch.testing.assert_close(people.people[first]['embedding'].norm() > one.norm(), torch.tensor(True))
    assert files_of(people, first) == ['enroll.wav', 'enroll2.wav']
    Path('own', first, 'notes.txt').write_text('mine')
    assert people.delete(first)['deleted'] == ['own/%s/enroll.wav' % first, 'own/%s/enroll2.wav' % first]
    assert os.listdir('own/%s' % first) == ['notes.txt'] and list(people.people) == [second]
    people.delete(second)
    assert os.listdir('own') == [first] and not Path('enrolled/embeddings.p').exists()
    with pytest.raises(LabError, match='%s is not enrolled' % second):
        people.delete(second)


def test_who_is_there_already_is_enrolled(lab, voices, wavs, names, capsys):
    for name in names[:2]:
        Path('own', name).mkdir(parents=True)
        Path('own', name, 'enroll1.wav').write_bytes(wavs[name, 'enroll'])
    Path('own', names[1], 'enroll2.wav').write_bytes(b'no wav')
    Path('own/empty').mkdir()
    assert list(gallery.Gallery(voices, 'own', 'enrolled', use_cuda=False).people) == names[:1]
    assert 'Skipped %s: own/%s/enroll2.wav: not a wav file' % (names[1], names[1]) in capsys.readouterr().err
    voices.thresholds, kept = {}, voices.thresholds
    try:
        with pytest.raises(LabError, match='has no threshold of its own. Take --cp_num=voices'):
            gallery.Gallery(voices, 'own', 'enrolled')
    finally:
        voices.thresholds = kept


def test_starting_keeps_an_enrolment_of_somebody_else(lab, voices):
    Path('enrolled').mkdir()
    Path('enrolled/embeddings.p').write_bytes(b'made by enroll.py')
    gallery.Gallery(voices, 'own', 'enrolled', use_cuda=False)
    assert Path('enrolled/embeddings.p').read_bytes() == b'made by enroll.py'


def test_what_is_listed_is_what_is_deleted(people, wavs, names):
    people.enrol('me', wavs[names[0], 'enroll'])
    for name in ('test.wav', 'enroll.p', 'notes.txt', 'old/enroll.wav'):
        Path('own/me', name).parent.mkdir(exist_ok=True)
        Path('own/me', name).write_bytes(wavs[names[1], 'enroll'])
    speaker, = people.state()['speakers']
    assert [one['file'] for one in speaker['recordings']] == ['enroll.wav']  # old/enroll.wav is in a folder of its own
    assert speaker['files'] == ['own/me/enroll.p', 'own/me/enroll.wav', 'own/me/test.wav']
    assert people.delete('me')['deleted'] == speaker['files']
    assert sorted(os.listdir('own/me')) == ['notes.txt', 'old'] and Path('own/me/old/enroll.wav').is_file()
    assert people.people == {}


def test_a_new_recording_takes_a_stem_that_is_free(people, wavs, names):
    """enroll.wav would switch enroll.m4a off, because a wav of the same name counts as its copy."""
    Path('own/me').mkdir(parents=True)
    for name in ('Enroll.p', 'enroll2.m4a.txt', 'enroll2.txt'):
        Path('own/me', name).write_bytes(b'')
    people.enrol('me', wavs[names[0], 'enroll'])
    assert files_of(people, 'me') == ['enroll3.wav']


def test_who_cannot_be_enrolled_gets_no_more_files(people, wavs, names):
    Path('own/me').mkdir(parents=True)
    Path('own/me/enroll.wav').write_bytes(b'no wav')
    for _ in range(2):
        with pytest.raises(LabError, match='own/me/enroll.wav: not a wav file'):
            people.enrol('me', wavs[names[0], 'enroll'])
    assert os.listdir('own/me') == ['enroll.wav']
    skipped, = people.state()['skipped']
    assert skipped['name'] == 'me' and 'own/me/enroll.wav: not a wav file' in skipped['error']


def test_folders_with_other_names_are_skipped(people, wavs, names):
    parts = unicodedata.normalize('NFD', '김민지')  # as a Mac writes it
    for name in (parts, ' me', 'unknown'):
        Path('own', name).mkdir(parents=True)
        Path('own', name, 'enroll.wav').write_bytes(wavs[names[0], 'enroll'])
    state = people.state()
    assert state['speakers'] == []
    assert {one['name']: (one['error'][:36], one['code']) for one in state['skipped']} == {
        parts: ('Rename this folder to 김민지.', 'rename'), ' me': ('Rename this folder to me.', 'rename'),
        'unknown': ('This name cannot be used: take up to', 'badName')}
    with pytest.raises(LabError, match='Rename this folder to 김민지'):  # for a Mac, they are one folder
        people.enrol('김민지', wavs[names[1], 'enroll'])


def test_a_folder_that_was_removed_by_hand(people, wavs, names):
    for name in names[:2]:
        people.enrol(name, wavs[name, 'enroll'])
    for name in names[:2]:
        shutil.rmtree('own/%s' % name)
        assert people.delete(name)['deleted'] == [] and name not in people.people
    assert not Path('enrolled/embeddings.p').exists()


def test_who_is_gone_from_the_folder_is_not_recognised(people, voices, wavs, names):
    people.enrol(names[0], wavs[names[0], 'enroll'])
    kept = Path('enrolled/embeddings.p').read_bytes()
    shutil.rmtree('own/%s' % names[0])
    assert people.state()['speakers'] == [] and not Path('enrolled/embeddings.p').exists()
    Path('enrolled/embeddings.p').write_bytes(kept)  # the same, at the start of the page
    gallery.Gallery(voices, 'own', 'enrolled', use_cuda=False)
    assert not Path('enrolled/embeddings.p').exists()


def test_the_enrolment_is_never_written_from_memory_alone(people, voices, wavs, names, monkeypatch):
    """A second server, and somebody who copies folders, change the same people."""
    other = gallery.Gallery(voices, 'own', 'enrolled', use_cuda=False)
    people.enrol(names[0], wavs[names[0], 'enroll'])
    other.enrol(names[1], wavs[names[1], 'enroll'])
    people.enrol(names[2], wavs[names[2], 'enroll'])
    assert sorted(load_enroll_embeddings('enrolled')) == names[:3]
    other.delete(names[0])
    people.delete(names[2])
    assert list(load_enroll_embeddings('enrolled')) == [names[1]] == list(people.people)
    Path('own', names[3]).mkdir()
    Path('own', names[3], 'enroll.wav').write_bytes(wavs[names[3], 'enroll'])
    before = people.people[names[1]]['embedding']
    Path('own', names[1], 'enroll.wav').write_bytes(wavs[names[1], 'test'])
    assert [speaker['name'] for speaker in people.state()['speakers']] == sorted([names[1], names[3]])
    assert not torch.equal(people.people[names[1]]['embedding'], before)
    assert torch.equal(load_enroll_embeddings('enrolled')[names[1]], people.people[names[1]]['embedding'])
    monkeypatch.setattr(people, 'read_person', None)  # who has not changed is not read again
    people.state()


def test_what_could_not_be_saved_is_saved_later(people, wavs, names):
    Path('enrolled').write_text('a file where the folder should be')
    with pytest.raises(LabError, match='cannot be written'):
        people.enrol(names[0], wavs[names[0], 'enroll'])
    Path('enrolled').unlink()
    people.state()
    assert list(load_enroll_embeddings('enrolled')) == names[:1]


def test_a_stranger_is_unknown(people, wavs, names):
    people.enrol(names[0], wavs[names[0], 'enroll'])
    people.description = {'eer': 0.99999, 'answer_slack': 0}  # of a model that knows no lengths
    said = people.score(wavs[names[0], 'test'])
    assert said['answer'] == {'kind': 'unknown', 'names': []} and said['ranking'][0]['name'] == names[0]
    people.delete(names[0])
    assert people.score(wavs[names[0], 'test'])['ranking'] == []


def test_why(people, wavs, names):
    for name in names[:3]:
        people.enrol(name, wavs[name, 'enroll'])
    said = people.score(wavs[names[2], 'test'], why=True)['why']
    assert len(said['feature'][0]) == 40 and len(said['d_vector']) == len(said['enrolled']) == 128
    assert said['score'] == pytest.approx(np.dot(said['d_vector'], said['enrolled']), abs=1e-3)
    assert said['score'] == pytest.approx(people.score(wavs[names[2], 'test'])['ranking'][0]['score'],
                                          abs=1e-6)
    # The mean is over the silence at the ends, too
    assert np.abs(np.mean(said['feature'], axis=0)).max() < 40
    assert people.score(wavs[names[2], 'test'], names[0], why=True)['why']['name'] == names[0]
    assert 'why' not in people.score(wavs[names[2], 'test'])


def test_the_map_by_hand():
    """Three points on a line keep their distances, and one axis shows everything."""
    found = gallery.draw_map(['a', 'b'], np.array([[0.0, 0, 3], [0, 0, 0]]), np.array([0.0, 0, 6]))
    places = np.array([*found['points'], found['new']])
    assert found['names'] == ['a', 'b'] and found['share'] == pytest.approx(1)
    np.testing.assert_allclose(np.abs(np.diff(places[:, 0])), [3, 6])
    assert gallery.draw_map(['a'], np.ones((1, 2)), np.ones(2)) == {
        'names': ['a'], 'points': [[0, 0]], 'new': [0, 0], 'share': 0}


def test_a_recording_of_another_bandwidth_gets_one_note(people, wavs, names):
    """Only about the two that are compared, and only if both bandwidths are sure."""
    for name in names[:2]:
        people.enrol(name, wavs[name, 'enroll'])
    wav = wavs[names[0], 'test']
    assert people.score(wav, names[0])['notes'] == []
    people.people[names[0]]['files'][0]['sure'] = 3900.4
    note, = people.score(wav, names[0])['notes']
    assert note['code'] == 'otherBandwidth' and note['values']['name'] == names[0]
    assert note['values']['there'] == 3900 and note['values']['here'] > 5000
    assert people.score(wav, names[1])['notes'] == []
    people.people[names[0]]['files'][0]['sure'] = None
    assert people.score(wav, names[0])['notes'] == []


def test_a_bandwidth_is_sure_if_both_halves_agree():
    noise = np.random.default_rng(0).standard_normal(64000) * (np.arange(64000) // 4000 % 2 + 1e-4)
    narrow = recordings.sosfilt(recordings.butter(8, 3500, fs=16000, output='sos'), noise)
    assert gallery.sure_bandwidth(noise) > 7000 and gallery.sure_bandwidth(narrow) < 5000
    assert gallery.sure_bandwidth(np.concatenate([narrow, noise])) is None
    assert gallery.sure_bandwidth(noise[:9000]) is None  # half a second tells nothing


def test_the_floor_is_that_of_the_whole_feature(people, wavs, names, monkeypatch):
    """As in a note about a recording: with the silence at both ends, of which read_MFB drops some."""
    wav = wavs[names[0], 'test']
    whole = recordings.open_recording(io_file(wav, 'whole.wav'))
    log_energies = log_filterbank(whole.prepared(people.model.settings['level']))
    share = np.mean(log_energies == log_energies.min(axis=0))
    monkeypatch.setattr(recordings, 'MAX_FLOOR', share + 1e-6)
    assert 'floor' not in people.hear(wav)['about']['advice']
    people.heard.clear()
    monkeypatch.setattr(recordings, 'MAX_FLOOR', share - 1e-6)
    assert 'floor' in people.hear(wav)['about']['advice']


def test_names_of_folders():
    assert gallery.folder_name(' 김민지 ') == '김민지'
    assert gallery.folder_name('\u1100\u1175\u11b7') == '김'  # as a Mac writes it
    for name in ('', '..', '.x', 'x.', 'a/b', 'a\\b', 'a:b', 'a\nb', 'x' * 61, 'CON', 'com1.wav', 'unknown',
                 '<b>'):
        with pytest.raises(LabError, match='This name cannot be used'):
            gallery.folder_name(name)


def test_a_name_differs_in_more_than_capitals(people, wavs, names):
    people.enrol('Minji', wavs[names[0], 'enroll'])
    with pytest.raises(LabError, match='Minji is enrolled already') as error:
        people.enrol('minji', wavs[names[0], 'enroll'])
    assert error.value.for_page == {'code': 'spelling', 'values': {'name': 'Minji'}}
    assert os.listdir('own/Minji') == ['enroll.wav']


def test_a_folder_elsewhere_is_never_written(people, wavs, names):
    os.makedirs('own'), os.makedirs('elsewhere')
    os.symlink('../elsewhere', 'own/me')
    with pytest.raises(LabError, match='own/me leads out of own'):
        people.enrol('me', wavs[names[0], 'enroll'])
    assert os.listdir('elsewhere') == []


# ------------------------------------------------------------------------------------- three answers

LIMITS = {'named': 0.6, 'unknown': 0.4, 'margin': 0.1}


@pytest.mark.parametrize('scores, kind, names, words', [
    ({'a': 0.7, 'b': 0.5}, 'known', ['a'], 'a'),
    ({'a': 0.5, 'b': 0.7}, 'known', ['b'], 'b'),
    ({'a': 0.7, 'b': 0.65}, 'not sure', ['a', 'b'], 'not sure: a or b'),
    ({'a': 0.5, 'b': 0.1}, 'not sure', ['a'], 'not sure whether a'),
    ({'a': 0.5, 'b': 0.45, 'c': 0.44}, 'not sure', ['a', 'b'], 'not sure: a or b'),
    ({'a': 0.39, 'b': 0.38}, 'unknown', [], 'unknown'),
    ({'a': 0.6}, 'known', ['a'], 'a'),
    ({}, 'unknown', [], 'unknown')])
def test_three_answers(scores, kind, names, words):
    assert answers.answer(scores, LIMITS) == (kind, names) and in_words(kind, names) == words


def test_a_name_needs_more_if_the_enrolled_sound_alike():
    """Two pairs of three score 0.6 and 0.8, one 0.96: the mean is 0.787."""
    alike = np.array([[1, 0], [0.6, 0.8], [0.8, 0.6]])
    numbers = {'eer': 0.4, 'answer_gap': 0.05, 'answer_growth': 0.02}
    limits = answers.limits_of(numbers, alike)
    assert limits['named'] == pytest.approx((0.6 + 0.8 + 0.96) / 3 + 0.05 + 0.02 * np.log(3))
    assert limits['unknown'] == pytest.approx(limits['named'] - answers.DEFAULTS['answer_slack'])
    assert answers.limits_of(numbers, np.eye(3))['named'] == 0.4
    assert answers.limits_of(numbers, np.eye(1))['named'] == pytest.approx(0.4 + limits['margin'])
    assert answers.limits_of(numbers, alike, 0.2)['named'] == 0.2
    # Who is enrolled under two names can still be named, but nobody below the threshold is
    assert answers.limits_of({'eer': 0.95}, np.ones((2, 1)))['named'] == 0.95
    assert answers.limits_of(numbers, np.ones((2, 1)))['named'] == pytest.approx(1 - limits['margin'])
    assert answers.passing_pairs(['a', 'b', 'c'], alike, 0.7) == [
        ['b', 'c', pytest.approx(0.96)], ['a', 'c', pytest.approx(0.8)]]


# ------------------------------------------------------------------------------------- the enrolment listens

def test_what_does_not_fit_is_asked_about(people, wavs, names, monkeypatch):
    me, other = names[:2]
    for name in (me, other):
        people.enrol(name, wavs[name, 'enroll'])
    unit, across = np.eye(128, dtype=np.float32)[:2]
    people.people[me]['embedding'], people.people[other]['embedding'] = (
        torch.from_numpy(unit)[None], torch.from_numpy(across)[None])
    assert people.doubt(me, unit) is None
    assert people.doubt(me, across) == {'code': 'nearer', 'values': {'name': me, 'other': other}}
    assert people.doubt(me, np.eye(128)[5]) == {'code': 'doesNotFit', 'values': {'name': me, 'other': other}}
    limits = people.limits()  # like enough not to be unknown, although not to be named
    assert people.doubt(me, (limits['unknown'] + 0.01) * unit) is None
    does_not_fit = {'code': 'doesNotFit', 'values': {'name': me, 'other': other}}
    assert people.doubt(me, (limits['unknown'] - 0.01) * unit) == does_not_fit
    # A short recording scores lower with its own speaker
    assert people.doubt(me, (limits['unknown'] - 0.01) * unit, 1) is None
    assert people.doubt(me, (limits['unknown'] - 0.01) * unit, 12) == does_not_fit
    assert people.doubt('new', unit) == {'code': 'secondName', 'values': {'name': 'new', 'other': me}}
    assert people.doubt('new', np.eye(128)[5]) is None
    monkeypatch.setattr(people, 'doubt', lambda *about: {'code': 'nearer', 'values': {}})
    said = people.enrol(me, wavs[other, 'test'], sure=False)
    assert said['doubt']['code'] == 'nearer' and files_of(people, me) == ['enroll.wav']
    people.enrol(me, wavs[other, 'test'])
    assert files_of(people, me) == ['enroll.wav', 'enroll2.wav']
    with pytest.raises(LabError, match='This recording of %s is there already' % me):
        people.enrol(me, wavs[other, 'test'])
    assert files_of(people, me) == ['enroll.wav', 'enroll2.wav']


def test_one_recording_is_taken_back_and_a_person_renamed(people, wavs, names):
    people.enrol('me', wavs[names[0], 'enroll'])
    before = people.people['me']['embedding']
    people.enrol('me', wavs[names[0], 'test'])
    assert people.take_back('me', 'enroll2.wav')['deleted'] == ['own/me/enroll2.wav']
    torch.testing.assert_close(people.people['me']['embedding'], before)
    people.enrol('you', wavs[names[1], 'enroll'])
    with pytest.raises(LabError, match='you is enrolled already'):
        people.rename('me', 'You')
    assert people.rename('me', 'Minji')['name'] == 'Minji'
    assert sorted(load_enroll_embeddings('enrolled')) == ['Minji', 'you'] and not Path('own/me').exists()
    with pytest.raises(LabError, match='Minji has no recording ../you/enroll.wav'):
        people.take_back('Minji', '../you/enroll.wav')
    people.take_back('Minji', 'enroll.wav')  # the last one
    assert list(people.people) == ['you'] and not Path('own/Minji').exists()


def test_deleting_removes_what_else_shows_a_person(people, wavs, names):
    people.enrol('me', wavs[names[0], 'enroll'])
    for name in ('own/me/.enroll.wav.0f.part', 'enrolled/similarity.png', 'enrolled/.embeddings.p.0f.part'):
        Path(name).write_bytes(b'x')
    Path('own/broken').mkdir()
    Path('own/broken/enroll.wav').write_bytes(b'no wav')
    people.state()
    people.delete('me')
    assert os.listdir('own') == ['broken'] and os.listdir('enrolled') == []
    people.delete('broken')  # listed as not enrolled
    assert os.listdir('own') == []


def test_a_d_vector_without_recordings_is_listed_and_deleted(people, wavs, names):
    for name in ('me', 'you'):
        people.enrol(name, wavs[names[0], 'enroll'])
    shutil.rmtree('own')  # if it were there, and empty, nobody would be enrolled any more
    assert [(one['name'], one['code']) for one in people.state()['skipped']] == [
        ('me', 'onlyVector'), ('you', 'onlyVector')]
    people.delete('me')
    assert list(load_enroll_embeddings('enrolled')) == ['you']
    people.delete('you')
    assert not Path('enrolled/embeddings.p').exists() and people.state()['skipped'] == []


def test_the_threshold_of_this_room(people, wavs, names):
    for name in names[:3]:
        people.enrol(name, wavs[name, 'enroll'])
    of_model = people.state()['threshold']
    assert not people.state()['can_calibrate']
    with pytest.raises(LabError, match='3 are needed') as error:
        people.calibrate()
    assert error.value.for_page == {'code': 'fewRecordings', 'values': {'n': 3}}
    for name in names[:3]:
        people.enrol(name, wavs[name, 'test'])
    try:
        assert people.state()['can_calibrate']
        state = people.calibrate()['state']
        thresholds = json.loads(Path('enrolled/calibration.json').read_text())['thresholds']
        written = thresholds[str(people.model.settings['level'])]['cosine']
        found = enrolments.description_for(written, np.inf)['eer']  # of long speech
        assert state['is_of_room'] and state['threshold'] == found and state['of_model'] == of_model
        assert gallery.Gallery(people.model, 'own', 'enrolled', use_cuda=False).threshold == found
        # Somebody may do it at the command line
        people.forget_room()
        assert people.state()['threshold'] == of_model
        calibrate.main(folders=['own'], log_dir=str(PROJECT / 'model_saved'), embedding_dir='enrolled', use_cuda=False)
        assert people.state()['threshold'] == found
        # It is old as soon as a recording comes or goes
        assert not state['room_is_old'] and not people.rename(names[2], 'Minji')['state']['room_is_old']
        os.utime('enrolled/calibration.json', ns=(0, 10 ** 9))
        assert people.state()['room_is_old']
        assert not people.calibrate()['state']['room_is_old']
        assert people.take_back(names[0], 'enroll2.wav')['state']['room_is_old']
        Path('own', names[0], 'test.wav').write_bytes(wavs[names[0], 'test'])
        Path('own/nobody').mkdir()
        Path('own/nobody/test.wav').write_bytes(wavs[names[0], 'test'])  # it counts for the threshold, too
        assert not people.calibrate()['state']['room_is_old']
        assert people.delete('Minji')['state']['room_is_old']
        # A room whose recordings are all short does not borrow the threshold of the model for long ones
        file = Path('enrolled/calibration.json')
        content = json.loads(file.read_text())
        of_room = content['thresholds'][str(people.model.settings['level'])]['cosine']
        of_room.update({'eer': 0.2, **{name: 0.1 for name in of_room if name in ('eer_1s', 'eer_2s', 'eer_4s')}})
        del of_room['eer_8s']
        file.write_text(json.dumps(content))
        assert people.state()['threshold'] == 0.1
        # A broken file is refused each time, and before anything is written or deleted
        for broken in ('{}', '{', '[]'):
            file.write_text(broken)
            for ask_for in (people.state, people.state, lambda: people.delete(names[0])):
                with pytest.raises(LabError, match='calibration.json: not what python -m own_voice.calibrate wrote'):
                    ask_for()
        assert Path('own', names[0], 'enroll.wav').is_file()
        file.unlink()
    finally:
        people.model.thresholds = people.of_model
    state = people.forget_room()['state']
    assert not state['is_of_room'] and state['threshold'] == of_model
    assert not Path('enrolled/calibration.json').exists()


# ------------------------------------------------------------------------------------- one recording, once

def test_a_wav_is_decoded_once_and_leaves_no_file(people, wavs, names, monkeypatch):
    decoded, decode = [], gallery.decode_wav
    monkeypatch.setattr(gallery, 'decode_wav', lambda wav: decoded.append(1) or decode(wav))
    monkeypatch.setattr(recordings, 'read_recording', None)  # nothing is read from the disk
    monkeypatch.setattr(gallery.tempfile, 'TemporaryDirectory', None)
    people.enrol('me', wavs[names[0], 'enroll'])
    people.score(wavs[names[0], 'test'], 'me', why=True)
    people.score(wavs[names[0], 'test'])
    assert len(decoded) == 2


def test_a_recording_is_too_long_in_seconds(people):
    """11 minutes of 8 bits at 8 kHz are few bytes. Nothing is decoded."""
    content = io.BytesIO()
    wavfile.write(content, 8000, np.zeros(8000 * 660, np.uint8))
    with pytest.raises(LabError, match='too long. Use at most 600 seconds') as error:
        people.hear(content.getvalue())
    assert error.value.for_page == {'code': 'tooLong', 'values': {'seconds': 600}}


def test_long_work_is_cancelled_and_others_go_on(server, wavs, names, monkeypatch):
    """The work waits until somebody else was answered, and ends when it is cancelled."""
    answered, begun = threading.Event(), threading.Event()

    def work(wav, progress):
        progress(0.25)
        begun.set()
        assert answered.wait(60)
        progress(0.5)
        raise AssertionError('it was cancelled')
    monkeypatch.setattr(server.gallery, 'who_when', work)
    said, folder = [], '/%s/' % server.token
    thread = threading.Thread(target=lambda: said.append(ask(server, folder + 'who_when?job=1', b'')))
    thread.start()
    assert begun.wait(60)
    assert ask(server, folder + 'progress?job=1') == (200, {'share': 0.25})
    assert ask(server, folder + 'state')[0] == 200
    assert ask(server, folder + 'cancel?job=1', b'') == (200, {})
    answered.set()
    thread.join()
    assert said == [(200, {'cancelled': True})] and server.jobs == {}


def test_a_recording_can_be_played(server, wavs, names):
    folder = '/%s/' % server.token
    ask(server, folder + 'enrol?name=me&sure=1', wavs[names[0], 'enroll'])
    assert ask(server, folder + 'recording?name=me&file=enroll.wav') == (200, wavs[names[0], 'enroll'])
    assert ask(server, folder + 'recording?name=me&file=../../x')[0] == 404
    # A player moves in it by asking for a part
    whole, sound = wavs[names[0], 'enroll'], folder + 'recording?name=me&file=enroll.wav'
    for asked, answer in (('bytes=100-199', (206, whole[100:200])), ('bytes=100-', (206, whole[100:])),
                          ('bytes=0-99999999', (206, whole)), ('bytes=99999999-', (200, whole)),
                          ('bytes=-5', (200, whole)), ('lines=1-2', (200, whole))):
        assert ask(server, sound, Range=asked) == answer


def test_an_old_address_says_what_to_do(server):
    status, said = ask(server, '/old/', Accept='text/html,*/*')
    assert status == 404 and b'python -m own_voice.page' in said and server.token.encode() not in said


def test_the_token_is_no_argument_of_a_program(monkeypatch):
    opened = []
    monkeypatch.setattr(page.webbrowser, 'open', opened.append)
    with page.opened_privately('http://127.0.0.1:1/token/'):
        path = Path(opened[0].removeprefix('file://'))
        assert 'token' not in opened[0] and 'url=http://127.0.0.1:1/token/' in path.read_text()
        assert path.stat().st_mode & 0o77 == 0 and path.parent.stat().st_mode & 0o77 == 0
    assert not path.exists()


@pytest.mark.skipif(not hasattr(signal, 'SIGHUP'), reason='Windows has no such signals')
@pytest.mark.parametrize('name', ['SIGTERM', 'SIGHUP'])
def test_a_signal_leaves_no_temporary_file(tmp_path, name):
    """The file that opens the browser is there while the server runs, and goes with it. So does a recording that
    ffmpeg is reading."""
    folder, slow = tmp_path / 'temporary', tmp_path / 'ffmpeg'
    folder.mkdir()
    slow.write_text('#!/bin/sh\nexec sleep 20\n')
    slow.chmod(0o755)
    environment = {**os.environ, 'PYTHONPATH': str(PROJECT), 'TMPDIR': str(folder), 'BROWSER': 'true',
                   'PATH': '%s:%s' % (tmp_path, os.environ['PATH'])}
    log_dir = '--log_dir=%s' % (PROJECT / 'model_saved')
    with subprocess.Popen([sys.executable, '-m', 'own_voice.page', log_dir, '--use_cuda=False'], cwd=tmp_path,
                          env=environment, stdout=subprocess.PIPE, text=True) as server:
        line = next(line for line in server.stdout if line.startswith('http://'))
        while not list(folder.glob('*/open.html')):
            assert server.poll() is None
        with urllib.request.urlopen(line.strip()) as said:  # it serves
            assert said.status == 200
        arguments = Path('/proc/%d/cmdline' % server.pid)
        token = line.strip().split('/')[3]
        assert not arguments.exists() or token not in arguments.read_text()
        host = line.strip().split('/')[2]
        asked = http.client.HTTPConnection(host)
        asked.request('POST', '/%s/score' % token, b'no wav', {'Origin': 'http://' + host})
        while not list(folder.glob('*/recording.wav')):
            assert server.poll() is None
        server.send_signal(getattr(signal, name))
        assert server.wait(60) != 0
        asked.close()
    assert list(folder.iterdir()) == []


# ------------------------------------------------------------------------------------- who when

def test_who_spoke_when(people, wavs, names):
    """Eight seconds of each of three voices, and three seconds of nothing."""
    for name in names[:3]:
        people.enrol(name, wavs[name, 'enroll'])
    people.description = {**people.description, 'answer_gap': -1, 'answer_margin': 0}  # synthetic voices
    parts = [recordings.open_recording(io_file(wavs[name, 'test'], 'part.wav')).audio[:64000]
             for name in names[:3]]
    silence = 1e-5 * np.random.default_rng(0).standard_normal(48000)
    said = people.who_when(wav_of(np.concatenate([parts[0], parts[1], silence, parts[2]])))
    assert said['seconds'] == pytest.approx(15) and len(said['peaks']) == 600 and max(said['peaks']) == 1
    ends = [band['end'] for band in said['bands']]
    assert said['bands'][0]['begin'] == 0 and ends == sorted(ends) and ends[-1] == pytest.approx(15)
    assert [band['begin'] for band in said['bands'][1:]] == ends[:-1]

    def share(name, begin, end):
        return sum(max(0, min(band['end'], end) - max(band['begin'], begin)) for band in said['bands']
                   if band['names'] == ([] if name is None else [name])) / (end - begin)
    # Half of the time at least: they are synthetic voices, and segments of 1.6 s
    assert share(names[0], 0.5, 3.5) > 0.5 and share(names[1], 4.5, 7.5) > 0.5
    assert share(names[2], 11.5, 14.5) > 0.5
    assert share(None, 9, 10) == 1


def io_file(content, name):
    Path(name).write_bytes(content)
    return name


class RowMeans(FirstFrame):
    """Stands for a network: the embedding of a feature map is the mean size of two halves of its rows."""

    def forward(self, x):  # (batch, 1, 40, n_frames)
        return torch.stack([x[:, 0, :20].abs().mean(dim=(1, 2)), x[:, 0, 20:].abs().mean(dim=(1, 2))],
                           dim=1), None


def test_segments_have_their_places():
    """A low tone in syllables, then a high one: the score changes where the tone does."""
    t = np.arange(64000) / 16000
    audio = 0.1 * np.sin(np.pi * 4 * t) ** 2 * np.sin(2 * np.pi * np.where(t < 2, 400, 4000) * t)
    audio += 1e-4 * np.random.default_rng(0).standard_normal(len(audio))
    model, embeddings = RowMeans(), {'low': torch.tensor([[1.0, 0]]), 'high': torch.tensor([[0, 1.0]])}
    talk = Recording(audio, 'talk.wav')
    scores, is_speech = who_when.segment_scores(talk, model, embeddings)
    assert scores.shape == (20, 2) and is_speech[2:18].all()  # 4 s in steps of 0.2 s
    # Segments of 1.6 s, of which five are averaged: the change may be found half a second away
    assert (scores[2:7].argmax(axis=1) == 0).all() and (scores[13:18].argmax(axis=1) == 1).all()
    limits = {'named': 2, 'unknown': 2, 'margin': 0}
    bands = who_when.who_spoke_when(talk, model, embeddings, limits)
    assert {said for _, _, said in bands} <= {('unknown', ()), None} and bands[-1][1] == 4


def test_short_bands_take_the_name_before_them():
    """Steps of 0.2 s: three of them are a band, two are not."""
    def bands(answers):
        return who_when.bands_of([{'.': None, '?': 'unknown'}.get(letter, letter) for letter in answers], 9.9)
    assert bands('aaabbb') == [(0, 0.6, 'a'), (0.6, 9.9, 'b')]
    assert bands('aaabbaaa') == [(0, 9.9, 'a')]
    assert bands('aaabbccbbb') == [(0, 1.4, 'a'), (1.4, 9.9, 'b')]  # bb and cc are short, bbb is not
    assert bands('aaa??aaa') == [(0, 9.9, 'a')]
    assert bands('bbaaa') == [(0, 0.4, 'b'), (0.4, 9.9, 'a')]  # nothing is before it
    assert bands('aaa..bbaaa') == [(0, 0.6, 'a'), (0.6, 1, None), (1, 1.4, 'b'), (1.4, 9.9, 'a')]
    assert bands('') == []


def test_who_when_uses_the_device_that_it_is_told(monkeypatch):
    asked = []
    monkeypatch.setattr(who_when, 'embed_feature',
                        lambda use_cuda, *rest: asked.append(use_cuda) or torch.ones(1, 2))
    audio = 0.1 * np.sin(np.arange(48000) / 9) * (np.arange(48000) // 4000 % 2)
    talk = Recording(audio, 'talk.wav')
    limits = {'named': 0.5, 'unknown': 0.5, 'margin': 0}
    who_when.who_spoke_when(talk, FirstFrame(), {'me': torch.ones(1, 2)}, limits, use_cuda=False)
    assert asked and not any(asked)


def test_bands_of_more_speakers_than_colours_have_a_pattern(monkeypatch, lab):
    figures = []
    monkeypatch.setattr(who_when, 'save_picture', lambda fig, filename: figures.append(fig))
    names = ['speaker %d' % i for i in range(12)]
    draw_bands(np.zeros(16000 * 12), [(i, i + 1, ('known', (name,))) for i, name in enumerate(names)], 'x.png')
    shown = figures[0].legends[0].get_patches()
    assert len({(patch.get_facecolor(), patch.get_hatch()) for patch in shown}) == 12
    # The colour of the edge is also that of the pattern
    assert all(patch.get_facecolor() != patch.get_edgecolor() for patch in shown)


def test_who_spoke_when_by_the_program(people, voices, wavs, names, capsys, monkeypatch):
    """Without settings, it finds those enrolled in the browser. Nothing is read twice."""
    own = gallery.Gallery(voices, 'feat_own/test', who.EMBEDDING_DIR, use_cuda=False)
    for name in names[:2]:
        own.enrol(name, wavs[name, 'enroll'])
    Path('talk.wav').write_bytes(wavs[names[0], 'test'])
    said, figures, reads, read = own.who_when(wavs[names[0], 'test']), [], [], recordings.read_recording
    monkeypatch.setattr(who_when, 'save_picture', lambda fig, filename: figures.append(filename))
    monkeypatch.setattr(recordings, 'read_recording',
                        lambda filename: reads.append(filename) or read(filename))
    monkeypatch.setattr('sys.argv', ['script', 'talk.wav', 'talk.png'])
    run_script(who_when.main, words=True)
    lines = ['%6.1f to %6.1f s: %s' % (band['begin'], band['end'], in_words(band['kind'], band['names'])
                                       if band['kind'] else 'nobody') for band in said['bands']]
    assert capsys.readouterr().out.splitlines()[-len(lines):] == lines
    assert figures == ['talk.png'] and reads == ['talk.wav']


@pytest.mark.parametrize('program', [who, who_when])
def test_nobody_is_enrolled_yet(lab, program, stopped_with):
    message = stopped_with(program.main, recording='x.wav')
    assert 'Nobody is enrolled in enroll_own' in message and '--embedding_dir=enroll_embeddings' in message
    assert 'Name a recording' in stopped_with(program.main)


# ------------------------------------------------------------------------------------- refusals

def test_the_page_itself(server):
    status, html = ask(server, '/%s/' % server.token)
    assert status == 200 and b'<html' in html and b'NONCE' not in html
    status, state = ask(server, '/%s/state' % server.token)
    assert status == 200 and state['speakers'] == [] and state['max_seconds'] == gallery.MAX_SECONDS
    assert len(state['own']) == len(state['others']) == 101
    assert server.server_address[0] == '127.0.0.1'  # nobody on the network can ask


@pytest.mark.parametrize('case',
                         ['no token', 'another token', 'another host', 'another origin', 'no origin', 'get',
                                  'no length', 'too long', 'another page', 'chunked', 'a bad length',
                                  'a long length'])
def test_requests_of_others_are_refused(server, wavs, names, case, lab):
    token, wav = server.token, wavs[names[0], 'enroll']
    evil = 'http://evil.example'
    requests = {
        'no token': (404, '/enrol?name=me', wav, {}),
        'another token': (404, '/%s/enrol?name=me' % token[::-1], wav, {}),
        'another host': (403, '/%s/enrol?name=me' % token, wav, {'Host': 'evil.example'}),
        'another origin': (403, '/%s/enrol?name=me' % token, wav, {'Origin': evil}),
        'no origin': (403, '/%s/enrol?name=me' % token, wav, {'Origin': None}),
        'get': (404, '/%s/enrol?name=me' % token, None, {}),
        'no length': (411, '/%s/enrol?name=me' % token, wav[:2], {'Content-Length': None}),
        'chunked': (411, '/%s/enrol?name=me' % token, wav[:2], {'Transfer-Encoding': 'chunked'}),
        'a bad length': (411, '/%s/enrol?name=me' % token, wav[:2], {'Content-Length': '-5'}),
        'a long length': (413, '/%s/enrol?name=me' % token, wav[:2], {'Content-Length': '9' * 5000}),
        'too long': (413, '/%s/enrol?name=me' % token, wav[:2], {'Content-Length': str(page.MAX_BYTES + 1)}),
        'another page': (404, '/%s/secrets' % token, wav, {})}
    expected, path, body, headers = requests[case]
    status, said = ask(server, path, body, **headers)
    assert status == expected and said['error']
    assert not os.path.exists('own/me') and ask(server, '/%s/state' % token)[0] == 200


def test_a_proxy_that_is_named_may_show_the_page(people):
    """Another one may not; nor may that of the address without the token."""
    host, other = 'x-8000-colab.googleusercontent.com', 'y-8000-colab.googleusercontent.com'
    with page.PageServer(people, proxy='https://%s/' % host) as server:
        threading.Thread(target=server.serve_forever, kwargs={'poll_interval': 0.01}, daemon=True).start()
        folder = '/%s/' % server.token
        asked = [(200, folder, None, {'Host': host}), (403, folder, None, {'Host': other}),
                 (404, '/', None, {'Host': host}), (200, folder, None, {}),
                 (200, folder + 'check?name=me', b'', {'Host': host, 'Origin': 'https://' + host}),
                 (200, folder + 'check?name=me', b'', {'Origin': 'https://' + host}),
                 (403, folder + 'check?name=me', b'', {'Host': host, 'Origin': 'http://' + host}),
                 (403, folder + 'check?name=me', b'', {'Host': host, 'Origin': 'https://' + other})]
        for expected, path, body, headers in asked:
            assert ask(server, path, body, **headers)[0] == expected, (path, headers)
        with urllib.request.urlopen(server.address) as reply:
            policy = reply.headers['Content-Security-Policy']
        assert policy.endswith('frame-ancestors https://*.google.com https://*.googleusercontent.com')
        server.shutdown()
    with page.PageServer(people) as server:
        assert server.frames == "'none'" and server.origins == ['http://%s' % host for host in server.hosts]


def test_an_address_without_a_slash_is_refused(server):
    for address in ('x', 'http://[', '//[/', ''):
        with socket.create_connection(('127.0.0.1', server.server_port)) as connection:
            connection.sendall(('GET %s HTTP/1.0\r\nHost: %s\r\n\r\n' % (address, server.hosts[0])).encode())
            assert b'"error": "Open the address' in connection.makefile('rb').read()


def test_a_mistake_in_the_server_is_named_and_printed(server, monkeypatch, capsys):
    printed, handle_error = threading.Event(), server.handle_error
    monkeypatch.setattr(server, 'handle_error', lambda *request: (handle_error(*request), printed.set()))
    monkeypatch.setattr(server.gallery, 'state', lambda: {}['mistake'])
    status, said = ask(server, '/%s/state' % server.token)
    assert status == 500 and said == {
        'error': 'Something went wrong in the server: look at its window.', 'code': 'mistake', 'values': {}}
    assert printed.wait(60) and "KeyError: 'mistake'" in capsys.readouterr().err


@pytest.mark.parametrize('error, printed',
                         [(BrokenPipeError, False), (TimeoutError, False), (ValueError, True)])
def test_only_cut_connections_are_passed_over(server, capsys, error, printed):
    try:
        raise error
    except error:
        server.handle_error(None, ('127.0.0.1', 1))
    assert (error.__name__ in capsys.readouterr().err) == printed


@pytest.mark.parametrize('body, status, message, code', [
    (b'', 400, 'This recording: not a wav file', 'unreadable'),
    (b'RIFF' + bytes(100), 400, 'This recording: not a wav file', 'unreadable'),
    (wav_of(np.zeros(32000)), 422, 'This recording: is silent', 'noSpeech'),
    (wav_of(0.1 * np.random.default_rng(0).standard_normal(32000)), 422, 'no speech stands out', 'noSpeech'),
    (wav_of(0.1 * np.sin(np.arange(8000))), 422, 'This recording: is too short', 'tooShort'),
    (wav_of(0.1 * np.sin(np.arange(32000)) * (np.arange(32000) < 3000)), 422, 'are needed', 'tooShort')])
def test_bad_recordings_are_refused_and_not_saved(server, body, status, message, code):
    found, said = ask(server, '/%s/enrol?name=me' % server.token, body)
    assert found == status and message in said['error'] and '/tmp' not in said['error']
    assert said['code'] == code
    assert not os.path.exists('own/me/enroll.wav') and not os.path.exists('enrolled/embeddings.p')


def test_a_bad_name_is_refused(server, wavs, names):
    for query in ('', '?name=', '?name=..%2Fx', '?name=a%00b', '?name=unknown'):
        status, said = ask(server, '/%s/enrol%s' % (server.token, query), wavs[names[0], 'enroll'])
        assert status == 400 and 'This name cannot be used' in said['error'] and said['code'] == 'badName'
        # Before it is recorded
        assert ask(server, '/%s/check%s' % (server.token, query), b'') == (status, said)
    assert ask(server, '/%s/check?name=%%20me' % server.token, b'') == (200, {'name': 'me'})
    status, said = ask(server, '/%s/score?name=nobody' % server.token, wavs[names[0], 'enroll'])
    assert (status, said['error']) == (400, 'nobody is not enrolled.')
    assert ask(server, '/%s/who_when' % server.token,
               wavs[names[0], 'enroll'])[1]['error'] == 'Nobody is enrolled yet.'
    assert not Path('own').exists()


def test_a_cut_connection_changes_nothing(server, wavs, names):
    with socket.create_connection(('127.0.0.1', server.server_port)) as connection:
        connection.sendall(('POST /%s/enrol?name=me HTTP/1.1\r\nHost: %s\r\n'
                            'Origin: http://%s\r\nContent-Length: 99999'
                            '\r\n\r\n' % (server.token, server.hosts[0], server.hosts[0])).encode() + b'RIFF')
    assert ask(server, '/%s/state' % server.token)[1]['speakers'] == [] and not Path('own/me').exists()


def test_requests_at_once_all_count(server, wavs, names):
    answers = []
    threads = [threading.Thread(target=lambda name=name: answers.append(ask(
        server, '/%s/enrol?sure=1&name=%s' % (server.token, name), wavs[name, 'enroll']))) for name in names[:4]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [status for status, _ in answers] == [200] * 4
    state = ask(server, '/%s/state' % server.token)[1]
    assert [speaker['name'] for speaker in state['speakers']] == names[:4]
    np.testing.assert_allclose(np.diag(state['matrix']), 1, atol=1e-3)


def test_settings_of_the_page_are_checked(lab, stopped_with):
    assert 'port = 70000: it must be a whole number up to 65535' in stopped_with(page.main, port=70000)
    assert 'checkpoint_nothing.pth does not exist' in stopped_with(page.main, cp_num='nothing')


def test_the_turns_of_a_conversation():
    audio, turns = conversation(np.arange(7), 10 * np.arange(5), 2)
    assert audio.tolist() == [0, 1, 0, 10, 2, 3, 20, 30] and turns.tolist() == [0, 0, 1, 1, 0, 0, 1, 1]
    said, _ = conversation(np.array([True, False]), np.array([False, True]), 1)
    assert said.tolist() == [True, False, False, True]
    with pytest.raises(LabError, match='A turn of 0.000375 s is longer than one of the recordings'):
        conversation(np.arange(7), np.arange(5), 6)


def test_only_speech_counts_in_a_conversation():
    audio = 0.1 * np.sin(np.arange(33000)) * (np.arange(33000) < 16000)
    spoken = samples_of_speech(Recording(audio, 'x.wav'))
    assert spoken.shape == audio.shape and spoken[:15600].all() and not spoken[17000:].any()


def test_shares_and_the_diarization_error_by_hand():
    """Ten samples, of which the last two are a pause. s is a stranger."""
    truth = np.array(list('aaabbsssss'), object)
    said = np.array(['a', 'b', 'not sure', 'b', 'nobody', 'unknown', 'a', 'unknown', 'a', 'nobody'], object)
    shares = shares_of(said, truth, np.arange(10) < 8, ['a', 'b'])
    assert shares == {'the right speaker': 50, 'another speaker': 25, 'not sure': 12.5, 'unknown': 0,
                      'nobody': 12.5, 'DER': 62.5}  # 4 of 8 are wrong, and one sample of the pause


def test_answers_are_counted_by_hand():
    """a and b lie at right angles, each with two recordings. c is near a, and always left out or enrolled."""
    vectors, speakers = np.eye(3)[[0, 0, 1, 1, 2]], np.array(list('aabbc'))
    numbers = {'eer': 0.5, 'answer_gap': 0}
    for seed in range(9):
        rng = np.random.default_rng(seed)
        enrolled, strangers = count_answers(vectors, speakers, [9] * len(speakers), numbers, 2, rng)
        assert enrolled['wrong'] == enrolled['unknown'] == strangers['wrong'] == 0
        assert enrolled['right'] + strangers['unknown'] == 3  # two of the five are enrolled
