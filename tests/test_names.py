"""Names that people have: in every script, in every form that a system writes, in every window."""
import os
import pickle
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest

import DB_wav_reader
import enroll
import identification
import model as lab_model
import verification
from conftest import PROJECT, FirstFrame
from deep_dive import trials
from own_voice import enrol, gallery
from support import checks, enrolments, messages, recordings, runs
from support.messages import LabError

SCRIPTS = {
    'full-width space': '山田\u3000太郎', 'no-break space': 'Anne\u00a0Marie', 'non-joiner': 'علی\u200cرضا',
    'right to left': '\u200fדוד', 'joiner': '👩\u200d🏫', 'Hangul': '홍길동', 'Hindi': 'नमस्ते',
    'apostrophe': 'O\u2019Neil', 'accent': 'Zoë Müller', 'narrow space': 'Jean\u202fPaul',
    'Thai': 'ไทย สมชาย', 'new emoji': '\U0001fae9',
    'Khmer': 'ខ្មែរ\u200bភាសា', 'direction': '\u202aאבי\u202c', 'capital': 'ẞİı'}
LOOK_LIKE_VALUES = ['None', '(kim)', '[1]', '1,2', 'model', 'eer', 'True', '007', '1e3', '{a}', "it's", 'a=b',
                    '-x', '#1']


def parts(name):
    """A name as a Mac writes it."""
    return unicodedata.normalize('NFD', name)


@pytest.fixture
def first_frame(monkeypatch):
    """The scripts load FirstFrame instead of a checkpoint."""
    for script in (enroll, identification, verification):
        monkeypatch.setattr(script, 'load_model', lambda *_: FirstFrame())


def of(script, **typed):
    """The settings of a script that are typed as these, and the folders of the tests."""
    arguments = ['--%s=%s' % setting for setting in {'test_dir': 'own', **typed}.items()]
    return messages.read_command_line(script.main, arguments)


# ------------------------------------------------------------------------------------------- who can be named

@pytest.mark.parametrize('name', [*SCRIPTS.values(), *LOOK_LIKE_VALUES])
def test_a_person_is_enrolled_and_found(write_vector, first_frame, capsys, name):
    for person, y in ((name, 1), ('another', -1)):
        for kind in ('enroll', 'test'):
            write_vector('own/%s/%s.p' % (person, kind), 1, y)
    enroll.main(**of(enroll, plot=False))
    identification.main(**of(identification, test_speaker=name))
    assert 'Predicted speaker : %s\nResult : True' % messages.one_form(name) in capsys.readouterr().out
    verification.main(**of(verification, test_speaker=name, enroll_speaker=name))
    assert 'Result : Accept' in capsys.readouterr().out


NO_PERSON = ['all', 'unknown', 'Unknown', '\u200d', '\u0301',
             'kim.wav', 'KIM.M4A', 'kim.p', '\u3000', 'a\tb', 'a\x1b[1mb', 'a\u2028b',
             'x\x85y']


@pytest.mark.parametrize('name', NO_PERSON)
def test_who_cannot_be_named_is_refused_at_enrolment(write_vector, first_frame, capsys, name):
    for person in (name, 'another'):
        write_vector('own/%s/enroll.p' % person, 1, 1)
    with pytest.raises(LabError, match='Not enrolled, for the reasons above'):
        enroll.main(**of(enroll, plot=False))
    assert 'Skipped %s: own/' % name in capsys.readouterr().err
    with pytest.raises(LabError) as error:
        recordings.check_speaker('own/%s/enroll.wav' % name)
    assert 'nobody can be enrolled as %r.\nRename the folder (a name is one line' % name in str(error.value)
    assert list(lab_model.load_enroll_embeddings('enroll_embeddings')) == ['another']
    with pytest.raises(LabError, match='This name cannot be used'):
        gallery.folder_name(name)


@pytest.mark.skipif(os.name == 'nt' or sys.platform == 'darwin', reason='such names cannot be written there')
@pytest.mark.parametrize('name', ['김', '홍길동', 'Kim철수', '박 영', '이순신2'])
def test_a_folder_in_another_encoding(lab, write_feat, name):
    messages.print_anything()  # as run_script does
    folder = os.fsdecode(name.encode('cp949'))
    filename = write_feat('own/%s/enroll.p' % folder, label='x')
    DB = DB_wav_reader.split_enroll_and_test('own')[0]
    with pytest.raises(LabError):
        enroll.enroll_per_spk(False, 200, FirstFrame(), DB, 'enrolled')
    with pytest.raises(LabError) as error:
        recordings.check_speaker(filename)
    assert str(error.value).endswith('Rename the folder (its name is in CP949, not in UTF-8: %s).' % name)


def test_names():
    assert all(map(messages.is_name, [*SCRIPTS.values(), *LOOK_LIKE_VALUES]))
    for no_name in ('', ' ', '\u3000\xa0', 'a\nb', 'a\x00', '\udcb1', 'x' * 301, None, 7):
        assert not messages.is_name(no_name)


# ------------------------------------------------------------------------------------------- one form

@pytest.mark.parametrize('name', ['홍길동', 'Zoë', 'Nguyễn', 'Å', 'がぎ'])
@pytest.mark.parametrize('on_disk, typed', [(parts, str), (str, parts), (parts, parts)])
def test_a_name_from_a_mac(write_vector, first_frame, capsys, name, on_disk, typed):
    for kind in ('enroll', 'test'):
        write_vector('own/%s/%s.p' % (on_disk(name), kind), 1, 1)
    enroll.main(**of(enroll, plot=False))
    capsys.readouterr()
    identification.main(**of(identification, test_speaker=typed(name), spk_list='[%r]' % typed(name)))
    assert 'True speaker : %s\nPredicted speaker : %s\n' % (name, name) in capsys.readouterr().out
    verification.main(**of(verification, test_speaker=typed(name), enroll_speaker=typed(name)))
    assert 'Result : Accept' in capsys.readouterr().out


def test_an_enrolment_and_a_feature_file_of_a_mac(lab):
    name = '홍길동'
    origin = {'LEVEL_DBFS': None, 'bandwidth': None}
    Path('enroll_embeddings').mkdir()
    with open('enroll_embeddings/embeddings.p', 'wb') as f:
        pickle.dump({parts(name): np.ones((1, 4))}, f)
        pickle.dump({'file': 'x', 'sha256': 'y', 'recordings': {parts(name): origin}}, f)
    embeddings, made_with = enrolments.read_enrolment('enroll_embeddings')
    assert list(embeddings) == list(made_with['recordings']) == [name]
    content = {'feat': np.zeros((9, 40)), 'label': parts(name)}
    assert checks.check_feature(content, 'x.p')[1] == name
    assert DB_wav_reader.speaker_of(parts('a/%s/x.p' % name)) == name


def test_a_file_that_is_typed_in_another_form(lab, write_feat):
    folder = parts('한글 폴더')
    Path(folder).mkdir()
    Path(parts('홍길동')).mkdir()  # this folder does not hide the speaker
    assert of(enroll, test_dir='한글 폴더')['test_dir'] == folder
    assert of(enroll, test_dir=parts('새 폴더'))['test_dir'] == '새 폴더'
    assert of(identification, test_speaker='홍길동')['test_speaker'] == '홍길동'
    write_feat('%s/가.p' % folder)
    assert of(identification, test_speaker='한글 폴더/가.p')['test_speaker'] == '한글 폴더/가.p'
    Path(parts('나.wav')).write_bytes(b'')
    assert of(identification, test_speaker='나.wav')['test_speaker'] == parts('나.wav')
    write_feat('own/%s/test.p' % parts('김'))
    assert trials.file_of_trial('김/test.wav', 'own') == 'own/%s/test.p' % parts('김')


@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig'])
def test_a_trial_list_with_a_mark_at_its_beginning(lab, encoding):
    Path('list.txt').write_text('1 홍/a.p 홍/b.p\n0 홍/a.p 김/a.p\n', encoding=encoding)
    is_target, first, second = trials.read_trials('list.txt')
    assert list(is_target) == [True, False] and first[0] == '홍/a.p' and second == ['홍/b.p', '김/a.p']


# ------------------------------------------------------------------------------- where it is printed

PRINTING = '''
import sys
from support.messages import LabError, run_script
def main(test_speaker='x'):
    """A script."""
    print('Predicted speaker : 홍길동 Zoë 👩 \\udcb1')
    raise LabError('홍길동 is not enrolled')
run_script(main)
'''


@pytest.mark.parametrize('encoding', ['cp949', 'cp1252', 'ascii', 'latin-1', 'utf-8', 'shift_jis'])
def test_no_print_raises(tmp_path, encoding):
    """Into a file or a pipe, whose encoding is that of the system."""
    (tmp_path / 'script.py').write_text(PRINTING, encoding='utf-8')
    done = subprocess.run([sys.executable, 'script.py'], cwd=tmp_path, capture_output=True, env={
        **os.environ, 'PYTHONPATH': str(PROJECT), 'PYTHONUTF8': '0', 'PYTHONIOENCODING': encoding})
    assert b'Traceback' not in done.stderr and done.returncode == 1
    assert '홍길동 Zoë 👩 \udcb1\n'.encode(encoding, 'backslashreplace') in done.stdout.replace(b'\r', b'')
    assert '홍길동 is not enrolled'.encode(encoding, 'backslashreplace') in done.stderr


# ------------------------------------------------------------------------------- from another place

@pytest.mark.parametrize('there', [
    'model_saved\\checkpoint_voices.pth', 'C:\\Users\\김\\lab\\model_saved\\checkpoint_voices.pth',
    'model_saved/checkpoint_voices.pth', '/home/kim/model_saved/checkpoint_voices.pth',
    '.\\model_saved\\checkpoint_voices.pth'])
def test_an_enrolment_from_another_computer(lab, monkeypatch, there):
    monkeypatch.setattr(enrolments, 'read_enrolment', lambda folder: ({}, {'file': there}))
    log_dir, cp_num = enrolments.checkpoint_of('enrolled')
    in_project = PROJECT / 'model_saved/checkpoint_voices.pth'
    assert os.path.samefile(runs.find_checkpoint(log_dir, cp_num), in_project)
    Path('model_saved').mkdir()  # one of this name here comes first
    Path('model_saved/checkpoint_voices.pth').write_bytes(b'')
    assert Path(enrolments.checkpoint_of('enrolled')[0]).resolve() == Path('model_saved').resolve()


def test_from_another_folder(lab, monkeypatch):
    monkeypatch.setattr(checks, 'PROJECT', PROJECT)  # lab lets it be an empty folder
    with pytest.raises(LabError) as error:
        runs.find_checkpoint('model_saved', 'voices')
    assert str(error.value) == (
        'model_saved/checkpoint_voices.pth does not exist.\nIt is in the folder of the project, and you are '
        'in another one: cd "%s"' % PROJECT)
    with pytest.raises(LabError, match='Run python train.py first'):
        runs.find_checkpoint('model_saved', 'none such')


def test_a_folder_that_was_typed_stays_as_it_is(lab):
    """A new person in a folder whose name a Mac wrote in parts."""
    parts = unicodedata.normalize('NFD', '녹음')
    os.mkdir(parts)
    assert enrol.folder_of(parts, '홍길동') == Path(parts, '홍길동')


def test_letters_that_are_no_utf_8(lab, stopped_with):
    for settings in ({'name': 'kim', 'files': ['a\udcc8.wav']}, {'name': 'kim\udcc8', 'files': ['a.wav']}):
        message = stopped_with(enrol.main, **settings)
        assert 'not in UTF-8' in message or 'must be' in message


def test_a_threshold_is_still_a_number():
    assert messages.read_command_line(identification.main, ['--thres=0.5', '--spk_list=None']) == {
        'thres': 0.5, 'spk_list': None}
    assert messages.read_command_line(verification.main, ['--thres=model'])['thres'] == 'model'
    for value, example in (('[kim', "['a', 'b']"), ('{kim: 1}', "{'a': 1}"), ('(far, 0.05)', "('a', 1)")):
        with pytest.raises(LabError, match='cannot be read. Put quotes around the whole and around words') as error:
            identification.main(spk_list=value)
        assert str(error.value).endswith('--spk_list="%s"' % example)
