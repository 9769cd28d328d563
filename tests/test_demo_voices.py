"""The synthesiser: it always makes the same samples, it makes the voices asked for, and it touches no other
files."""
import functools
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.io import wavfile

import DB_wav_reader
import configure as c
from support import demo_voices as demo
from support import recordings, safe_files


def tree(folder):
    files = [path for path in sorted(folder.rglob('*')) if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_same_samples_whatever_the_order_and_the_number_of_processes(tmp_path):
    demo.make_train_features(tmp_path / 'all cores', n_voices=3, n_utterances=2)
    tasks = [(tmp_path / 'one', demo.SEED, index, utterance) for index in (3, 1, 2) for utterance in (1, 0)]
    for task in tasks:
        demo.make_train_utterance(task)
    assert tree(tmp_path / 'all cores') == tree(tmp_path / 'one') and len(tree(tmp_path / 'one')) == 6

    demo.make_test_features(tmp_path / 'wavs', tmp_path / 'feats', first=1, n_voices=2)
    for index, name in ((2, 'test.wav'), (1, 'test.wav'), (1, 'enroll.wav'), (2, 'enroll.wav')):
        demo.make_test_wav((tmp_path / 'wavs one', demo.SEED, index, name))
    assert tree(tmp_path / 'wavs') == tree(tmp_path / 'wavs one') and len(tree(tmp_path / 'wavs')) == 4


def test_utterances_voices_and_seeds_differ():
    audio = {(seed, voice, utterance): demo.synthesise(seed, demo.draw_voice(seed, voice), utterance, 2.0)
             for seed in (0, 1) for voice in (1, 2) for utterance in (0, 1)}
    keys = list(audio)
    for i, a in enumerate(keys):
        assert np.array_equal(audio[a], demo.synthesise(a[0], demo.draw_voice(*a[:2]), a[2], 2.0))
        for b in keys[:i]:
            assert not np.allclose(audio[a], audio[b], atol=1e-3)


def test_names_follow_the_corpus():
    assert demo.draw_voice(0, 7).name == '007F9007' and demo.draw_voice(0, 242).name == '242M9242'
    for name, is_demo in (('007F9007', True), ('242M9242', True), ('007M9007', False), ('242M9243', False),
                          ('me', False), ('', False), ('²²²F9222', False)):
        assert demo.is_demo_name(name) == is_demo, name


def test_parameters_are_in_standard_deviations():
    training = np.array([demo.parameters_of(demo.draw_voice(0, index).name) for index in range(1, 241, 20)])
    assert training.shape == (12, 20)
    assert (np.abs(training.mean(axis=0)) < 1.2).all() and (np.abs(training.std(axis=0) - 1) < 0.8).all()
    voices = [demo.draw_voice(0, index) for index in range(1, 241)]
    pitches = np.log([voice.f0 for voice in voices])
    assert demo.parameters_of(voices[4].name)[0] == pytest.approx(
        (pitches[4] - pitches.mean()) / pitches.std())
    ranges = np.array([voice.f0_range for voice in voices])
    assert demo.parameters_of('242M9242')[-2] == pytest.approx(
        (demo.draw_voice(0, 242).f0_range - ranges.mean()) / ranges.std())
    of_all = demo.parameters_of_all(['242M9242', '007F9007'])
    assert list(of_all.index) == ['242M9242', '007F9007']
    assert of_all.loc['242M9242', 'pitch range'] == demo.parameters_of('242M9242')[-2]
    np.testing.assert_array_equal(of_all.loc['007F9007'], demo.parameters_of('007F9007'))
    assert demo.parameters_of_all(['242M9242', 'me']) is None


@pytest.mark.parametrize('index', range(1, 9))
def test_recording_conditions(index):
    voice = demo.draw_voice(0, index)
    audio = demo.synthesise(0, voice, 0, 3.5)
    assert len(audio) == 3.5 * 16000
    level = demo.speech_level(audio)
    assert abs(level - voice.level) < 4 and -52 < level < -37
    for silence in (audio[:7000], audio[-7000:]):
        assert 20 * np.log10(silence.std()) == pytest.approx(-80, abs=1)
    # The corpus is quiet, so about six of seven cells of the feature map lie on the floor
    feature = DB_wav_reader.extract_features(audio)
    on_floor = (feature == feature.min(axis=0)).mean()
    assert 0.7 < on_floor < 0.98


def autocorrelation_f0(audio):
    """Median over the voiced 40 ms frames of the lag, 60 to 400 Hz, at which a frame is most like itself."""
    found = []
    for start in range(0, len(audio) - 640, 320):
        frame = audio[start:start + 640] - audio[start:start + 640].mean()
        correlation = np.correlate(frame, frame, 'full')[639:]
        lag = 40 + np.argmax(correlation[40:267])
        if correlation[0] > 1e-3 and correlation[lag] > 0.5 * correlation[0]:
            found.append(16000 / lag)
    return np.median(found)


@pytest.mark.parametrize('f0', [100, 140, 200, 250])
def test_fundamental_frequency_is_the_one_asked_for(f0):
    voice = demo.draw_voice(0, 1)._replace(f0=f0, f0_range=0.0, level=-20.0)
    measured = autocorrelation_f0(demo.synthesise(0, voice, 0, 4.0))
    assert abs(12 * np.log2(measured / f0)) < 3  # semitones: pitch falls, and an utterance has an offset


def test_a_longer_vocal_tract_lowers_the_formants():
    def centroid(length):
        voice = demo.draw_voice(0, 2)._replace(tract_length=length, level=-20.0)
        spectrum = np.abs(np.fft.rfft(demo.synthesise(0, voice, 0, 3.0))) ** 2
        return np.average(np.arange(len(spectrum)), weights=spectrum)
    assert centroid(14.0) > centroid(16.9) > centroid(19.0)


def test_resonators_have_their_peaks_at_the_formants():
    formants = np.array([[500.0, 1500, 2500], [300, 2200, 3000]])
    response = np.abs(demo.resonators(formants, np.full((2, 3), 80.0)))
    np.testing.assert_allclose(response[:, 0], 1, rtol=1e-3)
    for row, centres in zip(response, formants):
        peaks = [k for k in range(1, len(row) - 1) if row[k - 1] < row[k] > row[k + 1]]
        np.testing.assert_allclose(demo.FREQUENCIES[peaks], centres, atol=25)


def test_overlap_add_inverts_the_short_time_spectrum():
    source = np.random.default_rng(0).standard_normal(100 * demo.HOP).astype(np.float32)
    back = demo.overlap_add(demo.short_time_spectrum(source))
    inside = slice(demo.WINDOW, len(source))
    np.testing.assert_allclose(back[inside], source[inside], atol=1e-4)


def test_test_voices_are_wavs_and_their_features(tmp_path):
    demo.make_test_features(tmp_path / 'wavs', tmp_path / 'feats', n_voices=1)
    rate, samples = wavfile.read(tmp_path / 'wavs/241F9241/test.wav')
    assert (rate, samples.dtype, len(samples)) == (16000, np.int16, 15 * 16000)
    content = safe_files.read_pickles(tmp_path / 'feats/241F9241/enroll.p')[0]
    recording = recordings.open_recording(tmp_path / 'wavs/241F9241/enroll.wav')
    feature, facts = DB_wav_reader.feature_of(recording)
    np.testing.assert_array_equal(content['feat'], feature)
    assert recordings.what_is_wrong(facts) == [] and content['recording'] == recording.origin()


@pytest.mark.parametrize('level', [-44, -30, None])
def test_training_features_are_levelled_as_those_of_recordings(tmp_path, monkeypatch, level):
    """What a wav of the same audio gives, so that thresholds of a demo training hold for recordings."""
    monkeypatch.setattr(c, 'LEVEL_DBFS', level)
    demo.make_train_utterance((tmp_path / 'feats', 0, 2, 1))
    content = safe_files.read_pickles(tmp_path / 'feats/002M9002/002M9002_01.p')[0]
    seconds = np.random.default_rng([0, 2, 2, 1]).uniform(*demo.TRAIN_SECONDS)
    audio = demo.synthesise(0, demo.draw_voice(0, 2), 1, seconds)
    wavfile.write(tmp_path / 'x.wav', 16000, audio)
    recording = recordings.open_recording(tmp_path / 'x.wav')
    np.testing.assert_array_equal(content['feat'], DB_wav_reader.feature_of(recording)[0])
    assert content['recording'] == {'LEVEL_DBFS': level, 'bandwidth': recording.facts['bandwidth']}
    assert recordings.origin_of(tmp_path / 'feats/002M9002/002M9002_01.p') == recording.origin()


@pytest.fixture
def small_project(lab, monkeypatch):
    """An empty project that makes three training voices and one test voice instead of 240 and 10."""
    monkeypatch.setattr(demo, 'PROJECT', lab.resolve())
    small = {'make_train_features': {'n_voices': 3, 'n_utterances': 2},
             'make_test_features': {'first': 4, 'n_voices': 1}}
    for name, size in small.items():
        monkeypatch.setattr(demo, name, functools.partial(getattr(demo, name), **size))
    return lab


def test_an_empty_project_is_filled_once(small_project, capsys):
    demo.provide_train_features()
    demo.provide_test_features()
    assert capsys.readouterr().out == (
        'Making 240 synthetic demo voices: feat_logfbank_nfilt40/train has no feature files\n'
        'Making 10 synthetic demo voices: feat_logfbank_nfilt40/test has no feature files\n'
        'test_wavs -> feat_logfbank_nfilt40/test: 2 converted, 0 up to date, 0 skipped\n')
    files = tree(small_project)
    assert len(files) == 3 * 2 + 2 + 2
    demo.provide_train_features()
    demo.provide_test_features()
    assert tree(small_project) == files and capsys.readouterr().out == ''


def make_earlier_voices():
    """The training voices as earlier versions wrote them: not levelled."""
    for index in (1, 2, 3):
        for utterance in (0, 1):
            voice = demo.draw_voice(0, index)
            audio = demo.synthesise(0, voice, utterance, 2.0)
            filename = '%s/%s/%s_%02d.p' % (c.TRAIN_FEAT_DIR, voice.name, voice.name, utterance)
            DB_wav_reader.write_feature(filename, DB_wav_reader.extract_features(audio), voice.name)


def test_voices_of_an_earlier_version_are_used_and_named(small_project, capsys, stopped_with):
    """They are neither thrown away nor mixed with levelled ones."""
    make_earlier_voices()
    before = tree(small_project)
    demo.provide_train_features()
    said = ('%s holds demo voices of an earlier version, which are not levelled as recordings are.\n'
            'To have them made again, delete the folder.' % c.TRAIN_FEAT_DIR)
    assert capsys.readouterr().out == 'Note: %s\n' % said
    assert stopped_with(demo.main) == 'Error: ' + said
    (small_project / c.TRAIN_FEAT_DIR / demo.MARKER).touch()  # if they are not complete
    assert stopped_with(demo.provide_train_features) == 'Error: ' + said
    (small_project / c.TRAIN_FEAT_DIR / demo.MARKER).unlink()
    assert tree(small_project) == before

    shutil.rmtree(c.TRAIN_FEAT_DIR)
    capsys.readouterr()
    demo.provide_train_features()
    demo.provide_train_features()
    assert 'earlier' not in capsys.readouterr().out and not demo.is_unlevelled(c.TRAIN_FEAT_DIR)


def test_features_of_people_are_no_voices_of_an_earlier_version(small_project, write_feat, capsys):
    make_earlier_voices()
    write_feat(c.TRAIN_FEAT_DIR + '/103F3021/a.p')  # such as the published ones, which nobody levelled
    demo.provide_train_features()
    assert capsys.readouterr().out == ''


def test_what_is_there_is_left_alone(small_project, write_feat, capsys):
    write_feat(c.TRAIN_FEAT_DIR + '/me/a.p')
    os.makedirs(c.TEST_WAV_DIR + '/me')
    wavfile.write(c.TEST_WAV_DIR + '/me/enroll.wav', 16000, np.zeros(16000, np.int16))
    before = tree(small_project)
    demo.provide_train_features()
    demo.provide_test_features()
    assert capsys.readouterr().out == ''
    demo.main()
    assert tree(small_project) == before
    out = capsys.readouterr().out
    assert 'Making' not in out and out.count('left alone') == 2


def test_other_folders_are_never_filled(lab, capsys):
    (lab / c.TRAIN_FEAT_DIR).mkdir(parents=True)
    demo.provide_train_features()
    demo.provide_test_features()
    demo.main()
    assert tree(lab) == {} and capsys.readouterr().out.count('left alone') == 2


@pytest.mark.parametrize('name', ['elsewhere', 'mine/train', 'feat_x/other', 'feat_x/deeper/train',
                                  '../feat_x/train', 'feat_x', 'test_wavs/train'])
def test_a_folder_elsewhere_is_never_filled(small_project, name, monkeypatch):
    before = tree(small_project)
    demo.provide_train_features(name)
    demo.provide_test_features(name)
    monkeypatch.setattr(c, 'TEST_WAV_DIR', name)
    demo.provide_test_features()
    assert tree(small_project) == before == {}


def test_another_feature_folder_of_the_project_is_filled(small_project, capsys):
    demo.provide_train_features('feat_mfcc/train')
    demo.provide_test_features(str(small_project / 'feat_mfcc/test'))
    assert 'feat_mfcc/train has no feature files' in capsys.readouterr().out
    names = list(tree(small_project))
    assert len(names) == 3 * 2 + 2 + 2 and not Path(c.TRAIN_FEAT_DIR).exists()


def test_other_voices_stand_in_no_folder_of_the_lab(small_project, stopped_with):
    assert 'name one of them' in stopped_with(demo.main, n_others=1, sessions_dir='days')
    assert tree(small_project) == {}
    demo.main(n_others=1)
    names = ['wavs/251F9251/enroll.wav', 'wavs/251F9251/test.wav', 'test/251F9251/enroll.p', 'test/251F9251/test.p']
    assert sorted(map(str, tree(small_project))) == sorted('feat_others/' + name for name in names)


def test_the_folder_of_the_recordings_gets_no_features(small_project, capsys):
    for _ in range(2):  # the second time, the recordings are there
        demo.provide_test_features(c.TEST_WAV_DIR)
        assert sorted(tree(small_project)) == ['test_wavs/004M9004/enroll.wav', 'test_wavs/004M9004/test.wav']
    assert capsys.readouterr().out.count('Making') == 1


def test_speakers_further_up_take_no_demo_voices(small_project, monkeypatch):
    monkeypatch.setattr(c, 'SPEAKER_LEVEL', 2)
    demo.provide_train_features()
    assert tree(small_project) == {}


def test_an_interrupted_making_is_completed(small_project, capsys, monkeypatch):
    demo.provide_train_features()
    whole = tree(small_project)
    victim = small_project / c.TRAIN_FEAT_DIR / '002M9002/002M9002_01.p'
    victim.unlink()
    demo.provide_train_features()
    assert not victim.exists()  # somebody has deleted it, and wants fewer voices
    (small_project / c.TRAIN_FEAT_DIR / demo.MARKER).touch()
    demo.provide_train_features()
    assert tree(small_project) == whole

    victim.unlink()
    demo.main()  # this makes everything that is missing
    assert victim.exists() and tree(small_project).keys() > whole.keys()
    out = capsys.readouterr().out.splitlines()
    assert 'feat_logfbank_nfilt40/train: complete' in out
    assert out[-1] == 'test_wavs and feat_logfbank_nfilt40/test: complete'


def test_a_failure_leaves_the_folder_marked(tmp_path, monkeypatch):
    with pytest.raises(KeyboardInterrupt), demo.marked_unfinished(tmp_path / 'feats'):
        raise KeyboardInterrupt
    assert os.listdir(tmp_path / 'feats') == [demo.MARKER] and not demo.is_complete(tmp_path / 'feats')
    with demo.marked_unfinished(tmp_path / 'feats'):
        demo.make_train_utterance((tmp_path / 'feats', 0, 1, 0))
        assert not demo.is_complete(tmp_path / 'feats')
        (tmp_path / 'feats' / demo.MARKER).unlink()  # another script has finished the same work
    assert demo.is_complete(tmp_path / 'feats')


def test_a_broken_wav_of_a_demo_voice_is_an_error(small_project, stopped_with):
    path = small_project / c.TEST_WAV_DIR / '004M9004/enroll.wav'
    path.parent.mkdir(parents=True)
    path.write_bytes(b'rubbish')
    for _ in range(2):  # the second time, too
        message = stopped_with(demo.provide_test_features)
        assert '004M9004/enroll.wav: not a wav file' in message
        assert 'Delete it, and it is made again' in message
    path.unlink()
    demo.provide_test_features()
    assert len(DB_wav_reader.find_feats(c.TEST_FEAT_DIR)) == 2


def test_no_demo_voices_where_recordings_wait_to_be_converted(small_project):
    os.makedirs(c.TRAIN_WAV_DIR + '/me')
    wavfile.write(c.TRAIN_WAV_DIR + '/me/a.wav', 16000, np.zeros(16000, np.int16))
    before = tree(small_project)
    demo.provide_train_features()
    assert tree(small_project) == before
