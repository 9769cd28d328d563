"""From recording to feature file: the recipe, the files found, the converter, other features, safe
pickles."""
import os
import pickle
import re
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from python_speech_features import fbank, mfcc
from scipy.signal import butter, sosfilt

import DB_wav_reader as reader
import configure as c
import model as lab_model
import other_features
import train
from SR_Dataset import read_MFB
from conftest import PROJECT
from support import checks, demo_voices, recordings, safe_files
from support.messages import LabError
from test_recordings import chirp, speech, touch, write_wav


def log_energies_by_hand(audio):
    """The recipe of the feature files, written with a DFT matrix and loops instead of the library."""
    emphasised = [audio[0]] + [audio[n] - 0.97 * audio[n - 1] for n in range(1, len(audio))]
    n_frames = 1 + int(np.ceil((len(audio) - 400) / 160))
    padded = np.concatenate([emphasised, np.zeros((n_frames - 1) * 160 + 400 - len(audio))])
    dft = np.exp(-2j * np.pi * np.outer(np.arange(400), np.arange(257)) / 512)

    # The edges of 40 triangles, equally far apart in mel
    mel = np.linspace(0, 2595 * np.log10(1 + 8000 / 700), 42)
    edge = np.floor(513 * 700 * (10 ** (mel / 2595) - 1) / 16000)
    log_energies = np.zeros((n_frames, 40))
    for frame in range(n_frames):
        power = np.abs(padded[160 * frame:160 * frame + 400] @ dft) ** 2 / 512
        for j in range(40):
            left, centre, right = edge[j], edge[j + 1], edge[j + 2]
            energy = 0
            for k in range(257):
                if left <= k < centre:
                    energy += power[k] * (k - left) / (centre - left)
                elif centre <= k < right:
                    energy += power[k] * (right - k) / (right - centre)
            log_energies[frame, j] = 20 * np.log10(max(energy, 1e-5))
    return log_energies


def test_features_equal_the_filterbank_computed_by_hand():
    audio = chirp(0.3)
    feature = reader.extract_features(audio)
    assert feature.shape == (29, 40) and feature.dtype == np.float64
    by_hand = log_energies_by_hand(audio)
    np.testing.assert_allclose(feature, by_hand - by_hand.mean(axis=0), atol=1e-9)


def test_features_equal_frozen_numbers():
    feature = reader.extract_features(chirp(1.0))
    assert feature.shape == (99, 40)
    np.testing.assert_allclose(feature[[10, 50, 90], [8, 25, 38]], [-0.7506529, -3.0595609, 20.1055926],
                               atol=1e-6)
    np.testing.assert_allclose(feature.mean(axis=0), 0, atol=1e-10)


@pytest.mark.parametrize('n_samples', [300, 400, 4 * 160 + 400, 4 * 160 + 401, 16000])
def test_features_have_a_frame_for_every_10_ms(n_samples):
    audio = chirp(1.0)[:n_samples]
    energies, _ = fbank(audio, nfilt=40)
    feature = reader.log_filterbank(audio)
    assert len(feature) == 1 + max(0, -(-(n_samples - 400) // 160))
    np.testing.assert_allclose(feature, 20 * np.log10(np.maximum(energies, 1e-5)), atol=1e-9)


@pytest.mark.parametrize('audio', [np.zeros(16000, np.int16), np.zeros((16000, 2))])
def test_unscaled_and_stereo_audio_is_refused(audio):
    with pytest.raises(ValueError, match='one channel of floats'):
        reader.extract_features(audio)


@pytest.mark.parametrize('n_samples', [800, 960240, 960241, 2000001])
def test_a_long_recording_is_worked_on_in_parts_that_nobody_hears(n_samples):
    audio = 0.01 * np.random.default_rng(0).standard_normal(n_samples)
    energies, _ = fbank(audio, 16000, 0.025, 0.01, 40)
    whole = 20 * np.log10(np.maximum(energies, 1e-5))
    np.testing.assert_allclose(reader.log_filterbank(audio), whole, atol=1e-9)
    high_pass = butter(8, 80, 'highpass', fs=16000, output='sos')
    blocks = recordings.blocks_of(sosfilt(high_pass, audio - audio.mean()))
    np.testing.assert_allclose(recordings.block_levels(audio), 10 * np.log10(np.mean(blocks ** 2, axis=1)),
                               atol=1e-9)


def test_memory_does_not_grow_with_a_recording():
    """What the work needs beyond its answer: the answer is 3,200 bytes for each 1,280 of audio."""
    def most_memory(minutes):
        audio = 0.01 * np.random.default_rng(0).standard_normal(960000 * minutes)
        tracemalloc.start()
        log_energies, levels = reader.log_filterbank(audio), recordings.block_levels(audio)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most - 4 * log_energies.nbytes - levels.nbytes
    assert most_memory(4) < 1.2 * most_memory(2)


@pytest.mark.parametrize('rate, seconds, most', [(44100, 0.05, '0.011'), (44100, 0.02, '0.011'),
                                                 (16000, 0.05, '0.032'), (8000, 0.1, '0.064'),
                                                 (48000, 0.025, '0.01'), (22050, 0.025, '0.023')])
def test_frames_that_the_library_would_cut_are_refused(monkeypatch, stopped_with, lab, rate, seconds, most):
    monkeypatch.setattr(c, 'SAMPLE_RATE', rate), monkeypatch.setattr(c, 'WIN_LENGTH', seconds)
    message = stopped_with(reader.main)
    assert 'WIN_LENGTH = %g' % seconds in message and 'Set WIN_LENGTH to %s or less.' % most in message
    with pytest.raises(LabError, match='WIN_LENGTH'):
        reader.extract_features(chirp(0.3))
    monkeypatch.setattr(c, 'WIN_LENGTH', float(most))
    checks.check_frames()


@pytest.mark.parametrize('n_filters, n_empty', [(80, 1), (128, 13)])
def test_filters_that_are_always_empty_are_refused(monkeypatch, stopped_with, lab, n_filters, n_empty):
    monkeypatch.setattr(c, 'FILTER_BANK', n_filters)
    assert 'FILTER_BANK = %d in configure.py: %d of' % (n_filters, n_empty) in stopped_with(reader.main)
    monkeypatch.setattr(c, 'FILTER_BANK', checks.most_filters())
    assert c.FILTER_BANK == 73 and (fbank(chirp(1.0), 16000, nfilt=73)[0] > 1e-15).any(axis=0).all()
    checks.check_frames()


def test_silence_lies_on_the_floor():
    audio = np.concatenate([np.zeros(8000), chirp(0.5)])
    raw = reader.extract_features(audio)
    np.testing.assert_allclose(raw[0], raw[20])  # every bin of both frames is -100 minus the mean of the bin
    assert (raw >= raw[0] - 1e-9).all()


# ------------------------------------------------------------------------------------- the files found

def test_found_files_are_a_sorted_dataframe(lab, write_feat):
    for name in ('b/2.p', 'a/1.p', 'b/1.p', 'a/deeper/than/3.p'):
        write_feat('data/test/' + name, label='x')
    touch('data/test/a/.1.p.0123abcd.part', 'data/test/a/1.txt')
    DB = reader.read_feats_structure('data/test')
    assert list(DB.columns) == ['filename', 'speaker_id', 'dataset_id']
    assert list(DB['filename']) == ['data/test/a/1.p', 'data/test/a/deeper/than/3.p', 'data/test/b/1.p',
                                    'data/test/b/2.p']
    assert list(DB['speaker_id']) == ['a', 'than', 'b', 'b']
    assert list(DB['dataset_id'])[::2] == ['test', 'test']
    assert reader.speaker_of('C:\\lab\\feat\\test\\230M4087\\test.p') == '230M4087'
    assert reader.speaker_of('feat/test/230M4087/test.p') == '230M4087'


def test_the_speaker_may_be_a_folder_further_up(lab, monkeypatch):
    touch('vox/id1/video1/1.wav', 'vox/id1/video2/1.m4a', 'vox/id2/video3/1.wav')
    monkeypatch.setattr(c, 'SPEAKER_LEVEL', 2)
    DB = reader.read_DB_structure('vox')
    assert list(DB['speaker_id']) == ['id1', 'id1', 'id2'] and list(DB['dataset_id']) == ['vox'] * 3
    touch('vox/id3/1.wav')
    with pytest.raises(LabError, match='vox/id3/1.wav: lies in no speaker folder'):
        reader.read_DB_structure('vox')


def test_names_with_special_letters_are_found(lab):
    touch('my [own] *data?/a/1.wav')
    assert reader.find_wavs('my [own] *data?') == ['my [own] *data?/a/1.wav']


def test_enrolment_and_test_files_are_told_apart_by_name(lab, write_feat):
    for name in ('test_a/enroll.p', 'test_a/Enroll2.p', 'test_a/test.p',
                 'enroll_b/enroll.p', 'enroll_b/test.p', 'enroll_b/other.p'):
        write_feat('feat/test/' + name)
    enroll_DB, test_DB = reader.split_enroll_and_test('feat/test')
    assert list(enroll_DB['speaker_id']) == ['enroll_b', 'test_a', 'test_a']
    assert list(enroll_DB.index) == [0, 1, 2]
    assert list(test_DB['filename']) == ['feat/test/enroll_b/test.p', 'feat/test/test_a/test.p']


@pytest.mark.parametrize('read', [reader.read_feats_structure, reader.read_DB_structure,
                                  reader.split_enroll_and_test])
def test_missing_and_empty_folders_are_named(lab, read):
    with pytest.raises(LabError, match='nowhere does not exist'):
        read('nowhere')
    os.mkdir('empty')
    with pytest.raises(LabError, match='empty holds nothing to read'):
        read('empty')


def test_file_outside_a_speaker_folder_is_refused(lab, write_feat):
    write_feat('train/stray.p')
    with pytest.raises(LabError, match='train/stray.p: lies in no speaker folder'):
        reader.read_feats_structure('train')


# ------------------------------------------------------------------------------------- the converter

def test_converter_does_what_is_missing_or_old_and_names_what_it_cannot_use(lab, capsys, stopped_with):
    for name in ('s1/enroll.wav', 's1/test.wav', 's2/enroll.wav', 's2/test.wav'):
        write_wav(Path(c.TEST_WAV_DIR) / name, np.round(speech() * 2**15).astype(np.int16))
    reader.main()
    assert capsys.readouterr().out == (
        'test_wavs -> feat_logfbank_nfilt40/test: 4 converted, 0 up to date, 0 skipped\n')
    content = safe_files.read_pickles('feat_logfbank_nfilt40/test/s1/test.p')[0]
    assert content.keys() == {'feat', 'label', 'recording'} and content['label'] == 's1'
    assert content['recording'] == recordings.origin_of(c.TEST_WAV_DIR + '/s1/test.wav')
    audio = recordings.Recording(np.round(speech() * 2**15) / 2**15, 'test.wav').prepared()
    np.testing.assert_allclose(content['feat'], reader.extract_features(audio))

    (lab / c.TEST_WAV_DIR / 's1/bad.wav').write_bytes(b'RIFFrubbish')
    write_wav(Path(c.TEST_WAV_DIR) / 's1/SHORT.WAV', speech(0.3))
    write_wav(Path(c.TEST_WAV_DIR) / 's2/clipped.wav', np.clip(speech(amplitude=3), -1, 1))
    write_wav(Path(c.TRAIN_WAV_DIR) / 's3/1.wav')
    older = os.path.getmtime(c.TEST_WAV_DIR + '/s2/test.wav') - 1
    os.utime('feat_logfbank_nfilt40/test/s2/test.p', (older, older))  # a second older than its wav
    message = stopped_with(reader.main)
    captured = capsys.readouterr()
    assert 'train_wavs -> feat_logfbank_nfilt40/train: 1 converted, 0 up to date, 0 skipped\n' in captured.out
    assert 'test_wavs -> feat_logfbank_nfilt40/test: 2 converted, 3 up to date, 2 skipped\n' in captured.out
    assert re.search(r'Note: test_wavs/s2/clipped.wav: 2.\d s of speech at -\d dBFS, \d+.\d\d % of the '
                     r'samples clipped'
                     r', \d\d % of the cells on the floor: record with less gain\n', captured.out)
    assert 'Skipped test_wavs/s1/bad.wav: not a wav file' in captured.err
    assert re.search(r'Skipped test_wavs/s1/SHORT.WAV: 1\d\d frames, \d\d after trimming 0.5 s', captured.err)
    assert '2 recording(s) skipped, named above. The others are done.' in message
    made = {str(path.relative_to('feat_logfbank_nfilt40'))
            for path in Path('feat_logfbank_nfilt40').rglob('*.p')}
    assert made == {'test/s1/enroll.p', 'test/s1/test.p', 'test/s2/enroll.p', 'test/s2/test.p',
                    'test/s2/clipped.p',
                    'train/s3/1.p'}


def test_what_a_library_cannot_read_is_named_with_the_file(lab, monkeypatch):
    errors = [MemoryError('no room'), ValueError('no room'), OSError('s1/a.wav has no room')]

    def fail(wav_file):
        raise errors.pop()
    monkeypatch.setattr(reader, 'open_recording', fail)
    while errors:
        note, message = reader.convert_wav(('s1/a.wav', 's1/a.p'))
        assert note is None and message.count('s1/a.wav') == 1 and 'no room' in message
    assert not Path('s1').exists()


def test_the_converter_never_replaces_what_it_has_not_made(lab, write_feat, capsys):
    """A git clone makes every wav newer than its feature file. Those of the corpus stay what they are."""
    write_wav('wavs/s1/enroll.wav'), write_wav('wavs/s1/test.wav')
    os.utime(write_feat('feats/s1/test.p'), (1, 1))
    for i in range(3):
        touch('wavs/s2/%d.wav' % i)
    for name, content in (('0', [1, 2]), ('1', 5), ('2', {'feat': None})):  # other programs have made them
        safe_files.write_pickles('feats/s2/%s.p' % name, content)
    before = {path: path.read_bytes() for path in Path('feats').rglob('*.p')}
    assert len(before) == 4
    for n_converted in (1, 0):
        assert reader.convert_wavs('wavs', 'feats') == []
        out = capsys.readouterr().out
        assert '%d converted, %d up to date, 0 skipped' % (n_converted, 1 - n_converted) in out
        line, = [line for line in out.splitlines() if ' feature files ' in line]
        assert line.startswith('4 feature files ') and 'stay' in line
        assert re.findall(r'feats/[\w/]+\.p', line) == sorted(map(str, before))
        assert {path: path.read_bytes() for path in before} == before
    assert safe_files.read_pickles('feats/s1/enroll.p')[0].keys() == {'feat', 'label', 'recording'}

    for i in range(recordings.MOST_NAMED):
        touch('wavs/s3/%02d.wav' % i)
        safe_files.write_pickles('feats/s3/%02d.p' % i, {})
    reader.convert_wavs('wavs', 'feats')
    out = capsys.readouterr().out
    assert '%d feature files ' % (4 + recordings.MOST_NAMED) in out
    assert out.count('.p') == recordings.MOST_NAMED


def test_the_converter_never_replaces_what_it_cannot_read(lab, capsys):
    """An array of whole numbers, a pickle of another library, a damaged file: nobody knows what they are
    worth."""
    contents = [pickle.dumps({'feat': np.arange(3), 'label': 's1'}), pickle.dumps(Path('s1')), b'damaged',
                b'']
    for i, content in enumerate(contents):
        write_wav('wavs/s1/%d.wav' % i)
        touch('feats/s1/%d.p' % i)
        Path('feats/s1/%d.p' % i).write_bytes(content)
        os.utime('feats/s1/%d.p' % i, (1, 1))
    assert reader.convert_wavs('wavs', 'feats') == []
    assert [Path('feats/s1/%d.p' % i).read_bytes() for i in range(4)] == contents
    assert re.search(r'\n4 feature files .* stay.*feats/s1/0.p.*feats/s1/3.p\n', capsys.readouterr().out)


def test_nothing_to_convert_is_an_error(lab, stopped_with):
    assert 'There are no recordings to convert. Put some into here/<speaker>/' in stopped_with(
        reader.main, test_wav_dir='here')
    for value in (5, None, '', True, ['a']):
        assert 'test_feat_dir = ' in stopped_with(reader.main, test_feat_dir=value)
    assert os.listdir() == []


def test_a_user_s_mistake_ends_in_one_line_and_exit_code_1(lab):
    done = subprocess.run([sys.executable, PROJECT / 'DB_wav_reader.py'], capture_output=True, text=True)
    assert done.returncode == 1 and 'Traceback' not in done.stderr
    assert done.stderr.startswith('Error: There are no recordings') and len(done.stderr.splitlines()) == 1


# ------------------------------------------------------------------------------------- other features

def change(monkeypatch, settings):
    for name, value in settings.items():
        monkeypatch.setattr(c, name, value)


def cepstrum_by_hand(log_energies, n_coefficients):
    """Orthonormal DCT of the natural logarithms, lifted: the loops of the library written out."""
    n_frames, n_filters = log_energies.shape
    cepstrum = np.zeros((n_frames, n_coefficients))
    for frame in range(n_frames):
        for k in range(n_coefficients):
            total = 0
            for j in range(n_filters):
                energy = 10 ** (log_energies[frame, j] / 20)
                total += np.log(energy) * np.cos(np.pi * k * (2 * j + 1) / (2 * n_filters))
            total *= np.sqrt((1 if k == 0 else 2) / n_filters)
            cepstrum[frame, k] = (1 + 11 * np.sin(np.pi * k / 22)) * total
    return cepstrum


def differences_by_hand(feature):
    """Half of the difference between the frame after and the frame before. The ends are repeated."""
    last = len(feature) - 1
    return np.array([(feature[min(t + 1, last)] - feature[max(t - 1, 0)]) / 2 for t in range(len(feature))])


SETTINGS = [{'USE_LOGSCALE': False}, {'USE_DELTA': True}, {'USE_SCALE': True}, {'USE_MFCC': True},
            {'USE_MFCC': True, 'N_CEPSTRUM': 13, 'USE_DELTA': True, 'USE_SCALE': True}]


@pytest.mark.parametrize('settings', SETTINGS, ids=str)
def test_other_features_equal_those_computed_by_hand(monkeypatch, settings):
    change(monkeypatch, settings)
    log_energies = log_energies_by_hand(chirp(0.3))
    static = log_energies if c.USE_LOGSCALE else 10 ** (log_energies / 20)
    if c.USE_MFCC:
        static = cepstrum_by_hand(log_energies, c.N_CEPSTRUM)
    blocks = [static]
    if c.USE_DELTA:
        blocks += [differences_by_hand(static), differences_by_hand(differences_by_hand(static))]
    expected = np.concatenate([block - block.mean(axis=0) for block in blocks], axis=1)
    if c.USE_SCALE:
        expected = expected / (expected.std(axis=0) + 2e-12)
    feature = reader.extract_features(chirp(0.3))
    assert feature.shape == (29, checks.feature_size())
    np.testing.assert_allclose(feature, expected, atol=1e-9)


def test_a_cepstrum_is_that_of_the_library_where_nothing_is_on_the_floor(monkeypatch):
    change(monkeypatch, {'USE_MFCC': True, 'USE_LOGSCALE': False, 'ENERGY_FLOOR': 1e-12})
    audio = np.random.default_rng(0).standard_normal(16000)
    cepstrum = mfcc(audio, 16000, numcep=20, nfilt=40, appendEnergy=False)
    np.testing.assert_allclose(reader.extract_features(audio), cepstrum - cepstrum.mean(axis=0), atol=1e-9)
    change(monkeypatch, {'N_CEPSTRUM': 40})
    assert reader.extract_features(audio).shape == (99, 40)
    change(monkeypatch, {'N_CEPSTRUM': 41})
    with pytest.raises(LabError, match='N_CEPSTRUM = 41 .* FILTER_BANK = 40 filters give no more'):
        reader.extract_features(audio)


def test_features_made_with_other_settings_are_refused(lab, write_feat, monkeypatch):
    assert checks.feature_settings() == checks.PUBLISHED_SETTINGS and checks.feature_size() == 40
    assert safe_files.read_pickles(write_feat('s1/published.p'))[0].keys() == {'feat', 'label'}
    change(monkeypatch, {'N_CEPSTRUM': 13})  # it changes nothing without USE_MFCC
    assert safe_files.read_pickles(write_feat('s1/published.p'))[0].keys() == {'feat', 'label'}
    # Nor does this with USE_MFCC
    change(monkeypatch, {'USE_MFCC': True, 'USE_SCALE': True, 'USE_LOGSCALE': False})
    content = safe_files.read_pickles(write_feat('s1/mfcc.p'))[0]
    assert content['settings'] == {**checks.PUBLISHED_SETTINGS, 'USE_MFCC': True, 'N_CEPSTRUM': 13,
                                   'USE_SCALE': True}
    assert read_MFB('s1/mfcc.p')[0].shape == (100, 13)
    with pytest.raises(LabError,
                       match='published.p: .*: USE_MFCC = False there, True in configure.py, N_CEPSTRUM'):
        read_MFB('s1/published.p')
    change(monkeypatch, {'USE_SCALE': False})
    with pytest.raises(LabError,
                       match=r'(?s)mfcc.p: .*: USE_SCALE = True there, False in .* make them again'):
        read_MFB('s1/mfcc.p')


@pytest.mark.parametrize('settings', [
    {'FILTER_BANK': 23}, {'USE_MFCC': True, 'N_CEPSTRUM': 13, 'USE_DELTA': True, 'USE_SCALE': True}], ids=str)
def test_a_network_trains_on_other_features(lab, capsys, monkeypatch, settings):
    change(monkeypatch, settings)
    for voice in (1, 2):
        for utterance in range(3):
            demo_voices.make_train_utterance((c.TRAIN_FEAT_DIR, 0, voice, utterance))
    train.main(n_epochs=1, plot=False, val_ratio=20, embedding_size=16)
    assert 'Validation: Loss' in capsys.readouterr().out
    model = lab_model.load_model(False, 'model_saved', 1, 16, 2)
    filename = reader.find_feats(c.TRAIN_FEAT_DIR)[0]
    assert lab_model.get_embeddings(False, filename, model, 100).norm().item() == pytest.approx(1, abs=1e-5)
    change(monkeypatch, {name: checks.PUBLISHED_SETTINGS[name] for name in settings})
    with pytest.raises(LabError, match='checkpoint_1.pth was trained on other features: [A-Z_]+ = .* there'):
        lab_model.load_model(False, 'model_saved', 1, None, None)


def test_a_checkpoint_that_lacks_the_newer_settings_is_of_published_features(monkeypatch):
    older = {name: checks.PUBLISHED_SETTINGS[name] for name in list(checks.PUBLISHED_SETTINGS)[:5]}
    assert 'USE_MFCC' not in older
    checkpoints = [{'features': older}, {}]
    for checkpoint in checkpoints:
        checks.check_checkpoint(checkpoint, 'a.pth')
    change(monkeypatch, {'USE_DELTA': True})
    for checkpoint in checkpoints:
        with pytest.raises(LabError, match='a.pth was .*: USE_DELTA = False there, True in configure.py'):
            checks.check_checkpoint(checkpoint, 'a.pth')
    for features in (5, [1], {'USE_DELTA': [True]}, {5: True}, {'line\nbreak': 1},
                     dict.fromkeys(map(str, range(100)))):
        with pytest.raises(LabError, match="a.pth: 'features' must be a dict of names and numbers"):
            checks.check_checkpoint({'features': features}, 'a.pth')
    for level in ('loud', 10, True, [-44], float('nan')):
        with pytest.raises(LabError, match="a.pth: 'level' must be a number in dBFS"):
            checks.check_checkpoint({'level': level}, 'a.pth')


@pytest.mark.parametrize('settings', [{'USE_LOGSCALE': False}, {'USE_DELTA': True}, {'USE_SCALE': True},
                                      {'USE_MFCC': True}], ids=str)
def test_what_needs_log_filterbank_energies_says_so(monkeypatch, settings):
    checks.require_log_filterbank('augmentation')
    change(monkeypatch, settings)
    with pytest.raises(LabError,
                       match='^augmentation works on log filterbank energies: .*set USE_LOGSCALE = True'):
        checks.require_log_filterbank('augmentation')


@pytest.mark.parametrize('settings', SETTINGS, ids=str)
def test_features_from_feature_files_are_those_from_wavs(lab, monkeypatch, settings):
    reader.write_feature('old.p', reader.extract_features(speech()), 's1')
    change(monkeypatch, settings)
    other_features.convert_feature(('old.p', 'new.p'))
    content = safe_files.read_pickles('new.p')[0]
    np.testing.assert_allclose(content['feat'], reader.extract_features(speech()), atol=1e-9)
    assert content['label'] == 's1' and content['settings'] == checks.feature_settings()
    with pytest.raises(LabError, match='new.p: not a published log filterbank file'):
        other_features.convert_feature(('new.p', 'newer.p'))


def test_a_folder_of_other_features(lab, monkeypatch, capsys):
    """What is made from log filterbank files equals what is made from the same audio with the same
    settings."""
    monkeypatch.setattr(other_features, 'in_parallel',
                        lambda function, tasks, _: [function(task) for task in tasks])
    for folder, settings in (('old', {}), ('expected', {'USE_MFCC': True, 'USE_DELTA': True})):
        change(monkeypatch, settings)
        for voice in (demo_voices.draw_voice(0, index) for index in (1, 2)):
            feature = reader.extract_features(demo_voices.synthesise(0, voice, 0, 3.0))
            reader.write_feature('%s/%s/0.p' % (folder, voice.name), feature, voice.name)
    other_features.main(old_dir='old', new_dir='new')
    assert capsys.readouterr().out == 'new: 2 feature files\n'
    for expected_file, new_file in zip(reader.find_feats('expected'), reader.find_feats('new'), strict=True):
        expected, new = (safe_files.read_pickles(name)[0] for name in (expected_file, new_file))
        assert Path(expected_file).relative_to('expected') == Path(new_file).relative_to('new')
        assert expected['settings'] == new['settings'] and expected['label'] == new['label']
        np.testing.assert_allclose(expected['feat'], new['feat'], atol=1e-9)


# ------------------------------------------------------------------------------------- safe pickles

class Evil:
    """If Python's own pickle reads this, it writes a file."""

    def __reduce__(self):
        return open, ('was_here', 'w')


EVILS = [Evil(), {'feat': Evil()}, np.array([Evil()], dtype=object), np.array(['text']), print, Evil,
         pickle.Pickler]


@pytest.mark.parametrize('bad', EVILS)
def test_pickles_execute_nothing(lab, bad):
    with open('bad.p', 'wb') as f:
        pickle.dump(bad, f)
    with pytest.raises(LabError, match='bad.p: not a pickle of plain data and arrays') as error:
        safe_files.read_pickles('bad.p')
    assert not os.path.exists('was_here')
    if isinstance(bad, Evil):
        assert 'open is not allowed' in str(error.value)


@pytest.mark.parametrize('content',
                         [b'', b'rubbish', b'\x80\x04', pickle.dumps({'feat': np.ones((50, 40))})[:-20]])
def test_broken_pickles_are_named(lab, content):
    (lab / 'bad.p').write_bytes(content)
    with pytest.raises(LabError, match='bad.p'):
        safe_files.read_pickles('bad.p')


def test_pickles_of_both_numpys_are_read(lab):
    feature = np.random.default_rng(0).normal(size=(60, 40))
    new = pickle.dumps({'feat': feature, 'label': 'a'}, protocol=3)
    old = new.replace(b'numpy._core.multiarray', b'numpy.core.multiarray')
    contents = [pickle.dumps({'feat': feature, 'label': 'a'}, protocol) for protocol in (3, 4, 5)]
    contents.append(contents[-1][:2] + contents[-1][11:].replace(  # without the length of the frame: it changes
        b'\x13numpy._core.numeric', b'\x12numpy.core.numeric'))
    for content in [old, new.replace(b'numpy.core.multiarray', b'numpy._core.multiarray')] + contents:
        (lab / 'a.p').write_bytes(content)
        np.testing.assert_array_equal(safe_files.read_pickles('a.p')[0]['feat'], feature)
    for array in (feature.T, np.asfortranarray(feature), feature.astype('>f4'), feature.astype('f2')):
        for protocol in (3, 4, 5):
            (lab / 'a.p').write_bytes(pickle.dumps({'feat': array}, protocol))
            back = safe_files.read_pickles('a.p')[0]['feat']
            assert back.dtype == array.dtype and back.shape == array.shape
            np.testing.assert_array_equal(back, array)
    for array in (np.arange(3), np.array(True), np.ones(3, complex)):  # no feature is of these
        (lab / 'a.p').write_bytes(pickle.dumps({'feat': array}))
        with pytest.raises(LabError, match='a.p: not a pickle .* something else than floats'):
            safe_files.read_pickles('a.p')


def test_an_array_that_claims_to_be_huge_is_refused(lab):
    shape = b'(I1000000000\nI1000000000\nt'
    attacks = [b'cnumpy\nndarray\n' + shape + b'R.',  # an array of any size from the type itself
               # An object at any address
               b"cnumpy\nndarray\n((I1\ntcnumpy\ndtype\n(S'O'\ntRC\x08AAAAAAAAtR.",
               b"cnumpy.core.multiarray\n_reconstruct\n(N" + shape + b"S'b'\ntR"
               # 8 bytes that claim to be 8 EB
               b"(I1\n" + shape + b"cnumpy\ndtype\n(S'f8'\ntRI00\nC\x08AAAAAAAAtb."]
    for attack in attacks:
        (lab / 'huge.p').write_bytes(attack)
        with pytest.raises(LabError, match='huge.p: not a pickle'):
            safe_files.read_pickles('huge.p')


def test_a_failed_write_leaves_the_old_file_and_nothing_else(lab):
    safe_files.write_pickles('a/x.p', 'old')
    with pytest.raises(Exception):
        safe_files.write_pickles('a/x.p', lambda: 'functions cannot be pickled')
    assert safe_files.read_pickles('a/x.p') == ['old'] and os.listdir('a') == ['x.p']


def test_a_speaker_has_one_folder(lab, write_feat):
    for name in ('old/a/enroll.p', 'new/a/enroll.p', 'new/a/test.p'):
        write_feat('feat/' + name)
    with pytest.raises(LabError, match='feat/new/a and .*feat/old/a are both a folder of speaker a'):
        reader.split_enroll_and_test('feat')
