"""From wav to feature file: the recipe, the audio reader, the files found, and what goes wrong."""
import os
import pickle
import re
import shutil
import struct
import subprocess
import sys

import numpy as np
import pytest
import torch
from python_speech_features import fbank, mfcc
from scipy.io import wavfile

import DB_wav_reader as reader
import configure as c
from support import demo_voices
import model as lab_model
import other_features
from SR_Dataset import read_MFB
from conftest import PROJECT, changed_source, run_copy
from support import checks, recordings, safe_files
from support.messages import LabError


def chirp(seconds=1.0, amplitude=0.01):
    """A tone that rises from 100 to 7000 Hz, without any random number."""
    t = np.arange(int(seconds * 16000)) / 16000
    return amplitude * np.sin(2 * np.pi * (100 * t + 3450 * t ** 2 / seconds))


def speech(seconds=3.0, silence=0.7, amplitude=0.01):
    """Syllables of a chirp, six a second, between two silences with a little noise."""
    t = np.arange(int(seconds * 16000)) / 16000
    audio = np.pad(chirp(seconds, amplitude) * np.sin(np.pi * 6 * t) ** 4, int(silence * 16000))
    return audio + 1e-3 * amplitude * np.random.default_rng(0).standard_normal(len(audio))


def log_energies_by_hand(audio):
    """The recipe of the feature files written out once more, with a DFT matrix and loops instead of the library."""
    emphasised = [audio[0]] + [audio[n] - 0.97 * audio[n - 1] for n in range(1, len(audio))]
    n_frames = 1 + int(np.ceil((len(audio) - 400) / 160))
    padded = np.concatenate([emphasised, np.zeros((n_frames - 1) * 160 + 400 - len(audio))])
    dft = np.exp(-2j * np.pi * np.outer(np.arange(400), np.arange(257)) / 512)

    mel = np.linspace(0, 2595 * np.log10(1 + 8000 / 700), 42)  # the edges of 40 triangles, equally far apart in mel
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
    np.testing.assert_allclose(feature[[10, 50, 90], [8, 25, 38]], [-0.7506529, -3.0595609, 20.1055926], atol=1e-6)
    np.testing.assert_allclose(feature.mean(axis=0), 0, atol=1e-10)


@pytest.mark.parametrize('n_samples', [300, 400, 4 * 160 + 400, 4 * 160 + 401, 5 * 160 + 400, 16000])
def test_features_of_parts_are_those_of_the_whole(monkeypatch, n_samples):
    audio = chirp(1.0)[:n_samples]
    monkeypatch.setattr(reader, 'FRAMES_AT_ONCE', 5)
    energies, _ = fbank(audio, nfilt=40)  # the library's, in one go
    np.testing.assert_allclose(reader.log_filterbank(audio), 20 * np.log10(np.maximum(energies, 1e-5)), atol=1e-9)


@pytest.mark.parametrize('audio', [np.zeros(16000, np.int16), np.zeros((16000, 2))])
def test_unscaled_and_stereo_audio_is_refused(audio):
    with pytest.raises(ValueError, match='one channel of floats'):
        reader.extract_features(audio)


def test_silence_sits_on_the_floor():
    audio = np.concatenate([np.zeros(8000), chirp(0.5)])
    raw = reader.extract_features(audio)
    np.testing.assert_allclose(raw[0], raw[20])  # every bin of both frames is -100 minus the mean of the bin
    assert (raw >= raw[0] - 1e-9).all()


@pytest.mark.parametrize('dtype, scale, kind', [
    (np.uint8, 127, '8-bit PCM'), (np.int16, 2**15, '16-bit PCM'), (np.int32, 2**31, '32-bit PCM'),
    (np.float32, 1, '32-bit float'), (np.float64, 1, '64-bit float')])
def test_every_wav_format_reads_as_the_same_audio(tmp_path, dtype, scale, kind):
    audio = chirp(0.2, amplitude=0.5)
    samples = np.round(audio * scale) + 128 if dtype == np.uint8 else audio * scale
    wavfile.write(tmp_path / 'a.wav', 16000, samples.astype(dtype))
    precision = {np.uint8: 0.01, np.int16: 4e-5}.get(dtype, 1e-7)
    np.testing.assert_allclose(reader.read_audio(tmp_path / 'a.wav'), audio, atol=precision)
    assert recordings.read_wav(tmp_path / 'a.wav')[2] == kind


def write_24_bit(filename, audio):
    data = b''.join(struct.pack('<i', round(x * 2**23))[:3] for x in audio)
    form = struct.pack('<IHHIIHH', 16, 1, 1, 16000, 48000, 3, 24)
    filename.write_bytes(b'RIFF' + struct.pack('<I', 36 + len(data)) + b'WAVEfmt ' + form
                         + b'data' + struct.pack('<I', len(data)) + data)


def test_24_bit_wavs_are_read(tmp_path):
    audio = chirp(0.2, amplitude=0.5)
    write_24_bit(tmp_path / 'a.wav', audio)
    np.testing.assert_allclose(reader.read_audio(tmp_path / 'a.wav'), audio, atol=2e-7)
    assert recordings.read_wav(tmp_path / 'a.wav')[2] == '24-bit PCM'


def test_channels_are_averaged_and_rates_resampled(tmp_path):
    t = np.arange(48000) / 48000
    tone = 0.2 * np.sin(2 * np.pi * 440 * t)
    wavfile.write(tmp_path / 'a.wav', 48000, np.stack([2 * tone, 0 * tone], axis=1).astype(np.float32))
    audio = reader.read_audio(tmp_path / 'a.wav')
    assert audio.shape == (16000,)  # a second is a second: a stereo file has no more frames than a mono one
    np.testing.assert_allclose(audio[1000:-1000], tone[::3][1000:-1000], atol=2e-3)
    for rate in (8000, 11025, 22050, 44100):
        wavfile.write(tmp_path / 'b.wav', rate, np.zeros(rate, np.int16))
        assert reader.read_audio(tmp_path / 'b.wav').shape == (16000,)


def test_unusable_wavs_are_named_with_the_reason(tmp_path):
    (tmp_path / 'text.wav').write_bytes(b'this is no wav')
    (tmp_path / 'empty.wav').write_bytes(b'')
    wavfile.write(tmp_path / 'slow.wav', 6000, np.zeros(600, np.int16))
    wavfile.write(tmp_path / 'nan.wav', 16000, np.full(600, np.nan, np.float32))
    wavfile.write(tmp_path / 'none.wav', 16000, np.zeros(0, np.int16))
    wavfile.write(tmp_path / 'scaled.wav', 16000, np.full(600, 3000, np.float32))
    wavfile.write(tmp_path / 'cut.wav', 16000, np.zeros(6000, np.int16))
    (tmp_path / 'cut.wav').write_bytes((tmp_path / 'cut.wav').read_bytes()[:5000])
    reasons = {'text.wav': 'not a wav file', 'empty.wav': 'not a wav file', 'slow.wav': '6000 Hz, it must be 8000 to',
               'nan.wav': 'NaN', 'none.wav': 'no samples', 'scaled.wav': r'must lie in \[-1, 1\], these reach 3000',
               'cut.wav': 'Reached EOF'}
    for name, reason in reasons.items():
        with pytest.raises(LabError, match=reason) as error:
            reader.read_audio(str(tmp_path / name))
        assert name in str(error.value)


def test_found_files_are_a_sorted_dataframe(lab, write_feat):
    for name in ('b/2.p', 'a/1.p', 'b/1.p', 'a/deeper/than/3.p'):
        write_feat('data/test/' + name, label='x')
    DB = reader.read_feats_structure('data/test')
    assert list(DB.columns) == ['filename', 'speaker_id', 'dataset_id']
    assert list(DB['filename'])[0] == 'data/test/a/1.p' and list(DB['filename']) == sorted(DB['filename'])
    assert list(DB['speaker_id'])[0] == 'a' and list(DB['dataset_id'])[0] == 'test'
    assert reader.speaker_of('C:\\lab\\feat\\test\\230M4087\\test.p') == '230M4087'
    assert reader.speaker_of('feat/test/230M4087/test.p') == '230M4087'


def test_enrolment_and_test_files_are_told_apart_by_name(lab, write_feat):
    for name in ('test_a/enroll.p', 'test_a/enroll2.p', 'test_a/test.p',
                 'enroll_b/enroll.p', 'enroll_b/test.p', 'enroll_b/other.p'):
        write_feat('feat/test/' + name)
    enroll_DB, test_DB = reader.split_enroll_and_test('feat/test')
    assert list(enroll_DB['speaker_id']) == ['enroll_b', 'test_a', 'test_a'] and list(enroll_DB.index) == [0, 1, 2]
    assert list(test_DB['filename']) == ['feat/test/enroll_b/test.p', 'feat/test/test_a/test.p']


@pytest.mark.parametrize('read', [reader.read_feats_structure, reader.read_DB_structure, reader.split_enroll_and_test])
def test_missing_and_empty_folders_are_named(lab, read):
    with pytest.raises(LabError, match='nowhere does not exist'):
        read('nowhere')
    os.mkdir('empty')
    with pytest.raises(LabError, match='empty holds no [a-z ]+ files'):
        read('empty')


def test_file_outside_a_speaker_folder_is_refused(lab, write_feat):
    write_feat('train/stray.p')
    with pytest.raises(LabError, match='train/stray.p: lies in no speaker folder'):
        reader.read_feats_structure('train')


def test_converter_does_what_is_missing_or_old_and_names_what_it_cannot_use(lab, capsys, stopped_with):
    for name in ('s1/enroll.wav', 's1/test.wav', 's2/enroll.wav'):
        path = lab / c.TEST_WAV_DIR / name
        path.parent.mkdir(parents=True, exist_ok=True)
        wavfile.write(path, 16000, np.round(speech() * 2**15).astype(np.int16))
    write_24_bit(lab / c.TEST_WAV_DIR / 's2/test.wav', speech())
    reader.main()
    out = capsys.readouterr().out
    assert '4 converted, 0 up to date, 0 skipped' in out
    assert '3 x 16-bit PCM, 16000 Hz, mono\n' in out and '1 x 24-bit PCM, 16000 Hz, mono\n' in out
    content = safe_files.read_pickles('feat_logfbank_nfilt40/test/s1/test.p')[0]
    assert content['label'] == 's1'
    audio = recordings.prepare_speech(np.round(speech() * 2**15) / 2**15, 'test.wav')
    np.testing.assert_allclose(content['feat'], reader.extract_features(audio))

    (lab / c.TEST_WAV_DIR / 's1/bad.wav').write_bytes(b'RIFFrubbish')
    wavfile.write(lab / c.TEST_WAV_DIR / 'stray.wav', 16000, np.zeros(32000, np.int16))
    wavfile.write(lab / c.TEST_WAV_DIR / 's1/SHORT.WAV', 16000, speech(0.3).astype(np.float32))
    wavfile.write(lab / c.TEST_WAV_DIR / 's2/clipped.wav', 16000, np.clip(speech(amplitude=3), -1, 1))
    os.utime('feat_logfbank_nfilt40/test/s2/test.p', (1, 1))  # older than its wav
    message = stopped_with(reader.main)
    captured = capsys.readouterr()
    assert '2 converted, 3 up to date, 3 skipped' in captured.out
    assert re.search(r'Note: test_wavs/s2/clipped.wav: 2.\d s of speech at -\d dBFS, \d+.\d\d % of the samples clipped'
                     r', \d\d % of the cells on the floor: record with less gain\n', captured.out)
    assert 's1/bad.wav: not a wav file' in captured.err and 'stray.wav: lies in no speaker folder' in captured.err
    assert 's1/SHORT.WAV: 12' in captured.err and 'after trimming 0.5 s' in captured.err
    assert '3 wav file(s) skipped' in message
    made = {path.name for path in (lab / 'feat_logfbank_nfilt40').rglob('*') if path.is_file()}
    assert made == {'enroll.p', 'test.p', 'clipped.p'}


# ------------------------------------------------------------------------------------------- other features

def change(monkeypatch, settings):
    for name, value in settings.items():
        monkeypatch.setattr(c, name, value)


def cepstrum_by_hand(log_energies, n_coefficients):
    """Orthonormal DCT of the natural logarithms, lifted: the library's loops written out."""
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
    """Half of what lies between the frame before and the frame after; the ends are repeated."""
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
    change(monkeypatch, {'N_CEPSTRUM': 41})
    with pytest.raises(LabError, match='N_CEPSTRUM = 41 .* FILTER_BANK = 40 filters give no more'):
        reader.extract_features(audio)


@pytest.mark.parametrize('settings, folder', [
    ({}, 'feat_logfbank_nfilt40'), ({'USE_LOGSCALE': False, 'FILTER_BANK': 23}, 'feat_fbank_nfilt23'),
    ({'USE_MFCC': True, 'USE_DELTA': True, 'USE_SCALE': True}, 'feat_mfcc_nfilt40_delta_scale')])
def test_the_folder_is_named_after_the_settings(settings, folder):
    namespace = {}
    exec(changed_source('configure.py', [('\n%s = %s ' % (name, getattr(c, name)), '\n%s = %s ' % (name, value))
                                         for name, value in settings.items()]), namespace)
    assert namespace['FEAT_DIR'] == folder and namespace['TRAIN_FEAT_DIR'] == folder + '/train'


def test_features_made_with_other_settings_are_refused(lab, write_feat, monkeypatch):
    assert checks.feature_settings() == checks.PUBLISHED_SETTINGS
    assert safe_files.read_pickles(write_feat('s1/published.p'))[0].keys() == {'feat', 'label'}
    change(monkeypatch, {'N_CEPSTRUM': 13})  # decides nothing, without USE_MFCC
    assert safe_files.read_pickles(write_feat('s1/published.p'))[0].keys() == {'feat', 'label'}
    change(monkeypatch, {'USE_MFCC': True, 'USE_SCALE': True})
    content = safe_files.read_pickles(write_feat('s1/mfcc.p'))[0]
    assert content['settings'] == {**checks.PUBLISHED_SETTINGS, 'USE_MFCC': True, 'N_CEPSTRUM': 13, 'USE_SCALE': True}
    assert read_MFB('s1/mfcc.p')[0].shape == (100, 13)
    with pytest.raises(LabError, match='published.p: .*: USE_MFCC = False there, True in configure.py, N_CEPSTRUM'):
        read_MFB('s1/published.p')
    change(monkeypatch, {'USE_SCALE': False})
    with pytest.raises(LabError, match=r'(?s)mfcc.p: .*: USE_SCALE = True there, False in .* make them again'):
        read_MFB('s1/mfcc.p')


@pytest.mark.parametrize('settings', SETTINGS + [{'FILTER_BANK': 23}, {'FILTER_BANK': 64}], ids=str)
def test_a_network_trains_on_other_features(lab, capsys, monkeypatch, settings):
    change(monkeypatch, settings)
    for voice in range(1, 5):
        for utterance in range(3):
            demo_voices.make_train_utterance((c.TRAIN_FEAT_DIR, 0, voice, utterance))
    run_copy('train.py', [('n_epochs = 30', 'n_epochs = 1'), ('plot = True', 'plot = False'),
                          ('num_workers = 2', 'num_workers = 0'),
                          ('cache_gb = 4.0', 'cache_gb = 4e-4')])  # some in memory, some in their files
    assert 'Validation: Loss' in capsys.readouterr().out
    model = lab_model.load_model(False, 'model_saved', 1, 128, 4)
    filename = reader.find_feats(c.TRAIN_FEAT_DIR)[0]
    assert lab_model.get_embeddings(False, filename, model, 100).norm().item() == pytest.approx(1, abs=1e-5)
    change(monkeypatch, {name: checks.PUBLISHED_SETTINGS[name] for name in settings})
    with pytest.raises(LabError, match='checkpoint_1.pth was trained on other features: [A-Z_]+ = .* there'):
        lab_model.load_model(False, 'model_saved', 1, None, None)


def test_a_checkpoint_that_lacks_the_newer_settings_is_of_published_features(lab, monkeypatch):
    older = {name: checks.PUBLISHED_SETTINGS[name] for name in list(checks.PUBLISHED_SETTINGS)[:5]}
    assert 'USE_MFCC' not in older
    torch.save({'state_dict': {}, 'features': older}, 'a.pth')
    torch.save({'state_dict': {}}, 'b.pth')
    assert safe_files.read_checkpoint('a.pth')['features'] == older and safe_files.read_checkpoint('b.pth')
    change(monkeypatch, {'USE_DELTA': True})
    for filename in ('a.pth', 'b.pth'):
        with pytest.raises(LabError, match=filename + ' was .*: USE_DELTA = False there, True in configure.py'):
            safe_files.read_checkpoint(filename)


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


ASK_FOR = [('USE_MFCC = False', 'USE_MFCC = True'), ('USE_DELTA = False', 'USE_DELTA = True')]
FEW_VOICES = [('N_TRAIN_VOICES, N_TEST_VOICES = 240, 10', 'N_TRAIN_VOICES, N_TEST_VOICES = 3, 1')]
IN_CLONE = """import sys
from support import demo_voices
demo_voices.provide_train_features(), demo_voices.provide_test_features()
sys.path.insert(0, 'experiments')
import other_features
other_features.main()"""


def test_a_clone_with_other_features(lab, monkeypatch, stopped_with):
    """Demo voices go to the folder of the settings; what is made from log filterbank files is the same."""
    for voice in range(1, 4):
        for utterance in range(demo_voices.N_UTTERANCES):
            demo_voices.make_train_utterance((lab / 'old', 0, voice, utterance))
    for folder in ('support', 'experiments', 'deep_dive'):
        shutil.copytree(PROJECT / folder, lab / folder)
    for script, lines in {'configure.py': ASK_FOR, 'support/demo_voices.py': FEW_VOICES, 'DB_wav_reader.py': [],
                          'SR_Dataset.py': []}.items():
        (lab / script).write_text(changed_source(script, lines))
    done = subprocess.run([sys.executable, '-c', IN_CLONE, 'old', 'new'], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.endswith('new: 21 feature files\n'), done.stderr
    made, derived = (reader.find_feats(folder) for folder in ('feat_mfcc_nfilt40_delta/train', 'new'))
    assert len(made) == len(derived) == 21 and len(reader.find_feats('feat_mfcc_nfilt40_delta/test')) == 2
    for made_file, derived_file in zip(made, derived):
        contents = [safe_files.read_pickles(name)[0] for name in (made_file, derived_file)]
        assert contents[0]['settings'] == contents[1]['settings'] and contents[0]['feat'].shape[1] == 60
        np.testing.assert_allclose(contents[0]['feat'], contents[1]['feat'], atol=1e-9)

    for folders, complaint in ((['old'], 'Give two folders'), (['nowhere', 'x'], 'nowhere holds no feature files'),
                               (['old', 'new'], 'new exists already: remove it')):
        monkeypatch.setattr(sys, 'argv', ['other_features.py', *folders])
        assert complaint in stopped_with(other_features.main)
    change(monkeypatch, {'FILTER_BANK': 64})
    assert 'FILTER_BANK = 64 in configure.py takes recordings; the files have 40' in stopped_with(other_features.main)


# ------------------------------------------------------------------------------------- recordings of any origin

def test_level_and_ends_by_hand():
    """Two seconds of a tone that comes and goes four times a second, of level -40 dBFS where it sounds."""
    sounding = np.tile(np.repeat([1.0, 0.0], 2000), 8)  # 125 ms each: whole frames of 25 ms
    tone = 0.01 * np.sqrt(2) * np.sin(2 * np.pi * 2000 * np.arange(32000) / 16000)
    audio = np.pad(sounding * tone, (16000, 3200)) + 1e-6 * np.random.default_rng(0).standard_normal(51200)
    sounds = np.pad(sounding[::400] > 0, (40, 8))
    levels = recordings.frame_levels(audio)
    assert recordings.active_level(levels, sounds) == pytest.approx(-40, abs=0.01)
    is_speech = recordings.find_speech(levels, 'a.wav')
    after = np.roll(sounds, 1)  # an end as sharp as these is still there a frame later
    assert is_speech[sounds].all() and not is_speech[~sounds & ~after].any()
    prepared = recordings.prepare_speech(audio, 'a.wav')
    n_samples = 30000 + 400  # to the frame after the last tone
    assert len(prepared) == 8000 + n_samples + 8000  # TRIM_SECONDS at both ends
    gain = 10 ** ((-44 - recordings.active_level(levels, is_speech)) / 20)
    np.testing.assert_allclose(prepared[8000:-8000], gain * (audio - audio.mean())[16000:16000 + n_samples], atol=1e-9)
    np.testing.assert_array_equal(prepared[-3200:], 0)  # 1600 + 3200 samples of the recording are left; then zeros


@pytest.mark.parametrize('spoil', [
    lambda audio: audio + 0.02, lambda audio: audio + 0.01 * np.sin(np.arange(len(audio)) * 2 * np.pi * 50 / 16000),
    lambda audio: np.pad(audio, 16000 * 90) + 1e-6 * np.random.default_rng(2).standard_normal(len(audio) + 2880000),
    lambda audio: np.concatenate([[0.3] * 100, audio, [-0.3] * 100])], ids=['offset', 'hum', 'long silence', 'clicks'])
def test_speech_is_found_in_spite_of(spoil):
    clean, spoilt = speech(), spoil(speech())
    of_frames = [recordings.frame_levels(audio) for audio in (clean, spoilt)]
    levels = [recordings.active_level(part, recordings.find_speech(part, 'a.wav')) for part in of_frames]
    lengths = [len(recordings.prepare_speech(audio, 'a.wav')) for audio in (clean, spoilt)]
    assert levels[1] == pytest.approx(levels[0], abs=2) and lengths[1] == pytest.approx(lengths[0], abs=1600)


def test_rumble_is_no_speech(tmp_path):
    spectrum = np.fft.rfft(np.random.default_rng(0).standard_normal(160000))
    spectrum[1:] /= np.arange(1, len(spectrum))  # power falls with the square of frequency
    wavfile.write(tmp_path / 'a.wav', 16000, np.fft.irfft(spectrum) / 10)
    with pytest.raises(LabError, match='no speech stands out of a steady noise'):
        reader.feature_of_wav(str(tmp_path / 'a.wav'))


@pytest.mark.parametrize('decibels', [-12, -6, 6, 12, 24])
def test_features_do_not_depend_on_the_level_of_a_recording(tmp_path, decibels):
    for name, gain in (('as it is', 0), ('changed', decibels)):
        wavfile.write(tmp_path / (name + '.wav'), 16000, speech() * 10 ** (gain / 20))
    one, other = [reader.feature_of_wav(tmp_path / (name + '.wav'))[0] for name in ('as it is', 'changed')]
    np.testing.assert_allclose(one, other, atol=1e-6)


def test_the_published_recipe_to_the_letter(tmp_path, monkeypatch):
    monkeypatch.setattr(c, 'LEVEL_DBFS', None)
    wavfile.write(tmp_path / 'a.wav', 16000, speech())
    feature, _, _ = reader.feature_of_wav(tmp_path / 'a.wav')
    np.testing.assert_array_equal(feature, reader.extract_features(speech()))


@pytest.mark.parametrize('audio, reason', [
    (np.zeros(48000), 'is silent'),
    (1e-3 * np.random.default_rng(0).standard_normal(48000), 'no speech stands out of a steady noise at -60 dBFS'),
    (0.1 * np.sin(np.arange(48000) / 10), 'no speech stands out of a steady noise at -23 dBFS')],
    ids=['zeros', 'noise', 'hum'])
def test_a_recording_without_speech_is_refused(tmp_path, audio, reason):
    wavfile.write(tmp_path / 'a.wav', 16000, audio)
    with pytest.raises(LabError, match='a.wav: .*' + reason):
        reader.feature_of_wav(str(tmp_path / 'a.wav'))


@pytest.mark.parametrize('change, advice', [
    (lambda audio: audio, None),
    (lambda audio: np.clip(300 * audio, -1, 1), 'record with less gain'),
    (lambda audio: audio / 1000, 'record at a higher level'),
    (lambda audio: audio[:24000], 'record for longer'),
    (lambda audio: audio + 1e-3 * np.random.default_rng(1).standard_normal(len(audio)), 'record in a quieter place')])
def test_what_is_off_about_a_recording(tmp_path, change, advice):
    wavfile.write(tmp_path / 'a.wav', 16000, change(speech()))
    _, _, remark = reader.feature_of_wav(tmp_path / 'a.wav')
    assert remark is None if advice is None else advice in remark, remark


def test_wavs_stand_beside_feature_files(lab, write_feat):
    for name in ('a/enroll.wav', 'a/test.wav'):
        (lab / 'feat/a').mkdir(parents=True, exist_ok=True)
        wavfile.write(lab / 'feat' / name, 16000, speech())
    write_feat('feat/b/enroll.p'), write_feat('feat/b/test.p')
    enroll_DB, test_DB = reader.split_enroll_and_test('feat')
    assert list(enroll_DB['filename']) == ['feat/a/enroll.wav', 'feat/b/enroll.p']
    assert reader.test_file_of('a', test_DB) == 'feat/a/test.wav' == reader.test_file_of('feat/a/test.wav', test_DB)
    with pytest.raises(LabError, match="'elsewhere.wav': there is no such file"):
        reader.test_file_of('elsewhere.wav', test_DB)
    feature, label = read_MFB('feat/a/test.wav')
    assert label == 'a' and feature.shape == (len(reader.feature_of_wav('feat/a/test.wav')[0]) - 100, 40)
    write_feat('feat/a/test.p')
    with pytest.raises(LabError, match='feat/a/test is there as a wav and as a feature file. Remove one'):
        reader.split_enroll_and_test('feat')


def test_nothing_to_convert_is_an_error(lab, stopped_with):
    assert 'There are no wav files to convert' in stopped_with(reader.main)


class Evil:
    """Unpickled by Python's own pickle, this writes a file."""

    def __reduce__(self):
        return open, ('was_here', 'w')


EVILS = [Evil(), {'feat': Evil()}, np.array([Evil()], dtype=object), np.array(['text']), print, Evil, pickle.Pickler]


@pytest.mark.parametrize('bad', EVILS)
def test_pickles_execute_nothing(lab, bad):
    with open('bad.p', 'wb') as f:
        pickle.dump(bad, f)
    with pytest.raises(LabError, match='bad.p: not a pickle of plain data and arrays') as error:
        safe_files.read_pickles('bad.p')
    assert not os.path.exists('was_here')
    if isinstance(bad, Evil):
        assert 'open is not allowed' in str(error.value)


@pytest.mark.parametrize('content', [b'', b'rubbish', b'\x80\x04', pickle.dumps({'feat': np.ones((50, 40))})[:-20]])
def test_broken_pickles_are_named(lab, content):
    (lab / 'bad.p').write_bytes(content)
    with pytest.raises(LabError, match='bad.p'):
        safe_files.read_pickles('bad.p')


def test_pickles_of_both_numpys_are_read(lab):
    feature = np.random.default_rng(0).normal(size=(60, 40))
    new = pickle.dumps({'feat': feature, 'label': 'a'}, protocol=3)
    old = new.replace(b'numpy._core.multiarray', b'numpy.core.multiarray')
    assert new != old
    contents = [pickle.dumps({'feat': feature, 'label': 'a'}, protocol) for protocol in (3, 4, 5)]
    for content in [old] + contents:
        (lab / 'a.p').write_bytes(content)
        np.testing.assert_array_equal(safe_files.read_pickles('a.p')[0]['feat'], feature)
    for array in (feature.T, np.asfortranarray(feature), feature.astype('>f4'), np.arange(3), np.array(True)):
        for protocol in (3, 4, 5):
            (lab / 'a.p').write_bytes(pickle.dumps([array], protocol))
            back = safe_files.read_pickles('a.p')[0][0]
            assert back.dtype == array.dtype and back.shape == array.shape
            np.testing.assert_array_equal(back, array)


def test_an_array_that_claims_to_be_huge_is_refused(lab):
    shape = b'(I1000000000\nI1000000000\nt'
    attacks = [b'cnumpy\nndarray\n' + shape + b'R.',  # an array of any size from the type itself
               b"cnumpy\nndarray\n((I1\ntcnumpy\ndtype\n(S'O'\ntRC\x08AAAAAAAAtR.",  # an object at any address
               b"cnumpy.core.multiarray\n_reconstruct\n(N" + shape + b"S'b'\ntR"
               b"(I1\n" + shape + b"cnumpy\ndtype\n(S'f8'\ntRI00\nC\x08AAAAAAAAtb."]  # 8 bytes that claim to be 8 EB
    for attack in attacks:
        (lab / 'huge.p').write_bytes(attack)
        with pytest.raises(LabError, match='huge.p: not a pickle'):
            safe_files.read_pickles('huge.p')


def test_a_failed_write_leaves_the_old_file_and_nothing_else(lab):
    safe_files.write_pickles('a/x.p', 'old')
    with pytest.raises(Exception):
        safe_files.write_pickles('a/x.p', lambda: 'functions cannot be pickled')
    assert safe_files.read_pickles('a/x.p') == ['old'] and os.listdir('a') == ['x.p']


def test_a_user_s_mistake_ends_in_one_line_and_exit_code_1(lab):
    done = subprocess.run([sys.executable, PROJECT / 'DB_wav_reader.py'], capture_output=True, text=True)
    assert done.returncode == 1 and 'Traceback' not in done.stderr
    assert done.stderr.startswith('Error: There are no wav files') and len(done.stderr.splitlines()) == 1
