"""Recordings of every kind: how they are read, where the speech is, how loud it is, what is wrong with it."""
import os
import pickle
import re
import shutil
import struct
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from scipy.io import wavfile
from scipy.signal import butter, resample_poly, sosfiltfilt

import attacks
import DB_wav_reader as reader
import configure as c
import enroll
import identification
import model as lab_model
import verification
from SR_Dataset import read_MFB
from conftest import PROJECT, FirstFrame
from own_voice import compare
from support import audio_files, checks, demo_voices, recordings, runs
from support.messages import LabError, NoSpeech
from support.recordings import Recording


def chirp(seconds=1.0, amplitude=0.01):
    """A tone that rises from 100 to 7000 Hz. It contains no random number."""
    t = np.arange(int(seconds * 16000)) / 16000
    return amplitude * np.sin(2 * np.pi * (100 * t + 3450 * t ** 2 / seconds))


def speech(seconds=3.0, silence=0.7, amplitude=0.01):
    """Syllables of a chirp, six a second, between two silences with a little noise."""
    t = np.arange(int(seconds * 16000)) / 16000
    audio = np.pad(chirp(seconds, amplitude) * np.sin(np.pi * 6 * t) ** 4, int(silence * 16000))
    return audio + 1e-3 * amplitude * np.random.default_rng(0).standard_normal(len(audio))


def write_wav(filename, audio=None, rate=16000):
    """Write a wav file, and its folder. Returns its name."""
    Path(filename).parent.mkdir(parents=True, exist_ok=True)
    wavfile.write(filename, rate, speech() if audio is None else audio)
    return str(filename)


def touch(*filenames):
    """Make empty files, and their folders."""
    for filename in filenames:
        Path(filename).parent.mkdir(parents=True, exist_ok=True)
        Path(filename).touch()


class Sizes(FirstFrame):
    """Stands for a network: the embedding of a feature map is the mean size of each of its rows."""

    def forward(self, x):  # (batch, 1, 40, n_frames)
        return x[:, 0].abs().mean(dim=2), None


@pytest.fixture
def scripts(lab, monkeypatch):
    """Settings of enroll, identification and verification for the files in feat. Sizes is their network."""
    monkeypatch.setattr(enroll, 'draw_who_sounds_alike', lambda *arguments: None)
    for script in (enroll, identification, verification):
        monkeypatch.setattr(script, 'load_model', lambda *arguments: Sizes())

    def settings_of(**settings):
        return {'test_dir': 'feat', **settings}
    return settings_of


def feature_of(filename):
    """(feature, facts) of a recording."""
    return reader.feature_of(recordings.open_recording(filename))


# ------------------------------------------------------------------------------------- wav files

@pytest.mark.parametrize('dtype, scale',
                         [(np.uint8, 127), (np.int16, 2**15), (np.int32, 2**31), (np.float32, 1),
                                          (np.float64, 1)])
def test_every_wav_format_is_read_as_the_same_audio(tmp_path, dtype, scale):
    audio = chirp(0.2, amplitude=0.5)
    samples = np.round(audio * scale) + 128 if dtype == np.uint8 else audio * scale
    write_wav(tmp_path / 'a.wav', samples.astype(dtype))
    precision = {np.uint8: 0.01, np.int16: 4e-5}.get(dtype, 1e-7)
    np.testing.assert_allclose(reader.read_audio(tmp_path / 'a.wav'), audio, atol=precision)


def write_24_bit(filename, audio, more=b''):
    """Write a wav file of 24-bit samples. `more` are chunks after the samples."""
    data = b''.join(struct.pack('<i', round(x * 2**23))[:3] for x in audio)
    form = struct.pack('<IHHIIHH', 16, 1, 1, 16000, 48000, 3, 24)
    filename.write_bytes(b'RIFF' + struct.pack('<I', 36 + len(data) + len(more)) + b'WAVEfmt ' + form
                         + b'data' + struct.pack('<I', len(data)) + data + more)


@pytest.mark.parametrize('tag', [b'', b'LIST' + struct.pack('<I', 8) + b'INFOabcd'],
                         ids=['plain', 'with a tag'])
def test_24_bit_wavs_are_read(tmp_path, tag):
    audio = chirp(0.2, amplitude=0.5)
    write_24_bit(tmp_path / 'a.wav', audio, tag)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        np.testing.assert_allclose(reader.read_audio(tmp_path / 'a.wav'), audio, atol=2e-7)


def test_equal_channels_are_averaged_and_rates_resampled(tmp_path):
    t = np.arange(48000) / 48000
    tone = 0.2 * np.sin(2 * np.pi * 440 * t)
    write_wav(tmp_path / 'a.wav', np.stack([1.5 * tone, 0.5 * tone], axis=1).astype(np.float32), 48000)
    assert recordings.read_recording(tmp_path / 'a.wav')[0].shape == (48000, 2)
    audio = reader.read_audio(tmp_path / 'a.wav')
    assert audio.shape == (16000,)  # a stereo file has no more frames than a mono one
    np.testing.assert_allclose(audio[1000:-1000], tone[::3][1000:-1000], atol=2e-3)
    for rate in (8000, 11025, 22050, 44100):
        write_wav(tmp_path / 'b.wav', np.zeros(rate, np.int16), rate)
        assert reader.read_audio(tmp_path / 'b.wav').shape == (16000,)


def test_unusable_wavs_are_named_with_the_reason(lab, no_ffmpeg):
    Path('text.wav').write_bytes(b'this is no wav')
    Path('empty.wav').write_bytes(b'')
    write_wav('slow.wav', np.zeros(600, np.int16), 6000)
    write_wav('nan.wav', np.full(600, np.nan, np.float32))
    write_wav('none.wav', np.zeros(0, np.int16))
    write_wav('scaled.wav', np.full(600, 3000, np.float32))
    write_wav('cut.wav', np.zeros(6000, np.int16))
    Path('cut.wav').write_bytes(Path('cut.wav').read_bytes()[:30])
    Path('lfs.wav').write_bytes(b'version https://git-lfs.github.com/spec/v1\noid sha256:00')
    Path('my 1.wav').write_bytes(b'RIFF\0\0\0\0WAVEfmt ' + struct.pack('<IHHIIHH', 16, 7, 1, 8000, 8000, 1, 8)
                                 + b'data' + struct.pack('<I', 4) + b'abcd')
    os.mkdir('folder.wav')
    reasons = {'text.wav': 'not a wav file', 'empty.wav': 'it is empty',
               'slow.wav': '6000 Hz, it must be 8000 to', 'nan.wav': 'NaN', 'none.wav': 'no samples',
               'scaled.wav': r'must lie in \[-1, 1\], these reach 3000', 'lfs.wav': 'git lfs pull',
               'my 1.wav': 'in code 7 are not supported', 'cut.wav': 'its header ends too early',
               'folder.wav': 'not a file'}
    for name, reason in reasons.items():
        with pytest.raises(LabError, match='^%s: .*%s' % (name, reason)) as error:
            reader.read_audio(name)
        assert len(str(error.value).splitlines()) <= 2
        if 'not a wav file' in str(error.value):  # it says how to make a good one
            assert 'ffmpeg -i %s new.wav' % ('"my 1.wav"' if ' ' in name else name) in str(error.value)
    with pytest.raises(FileNotFoundError, match='nowhere.wav'):
        reader.read_audio('nowhere.wav')


FORM = struct.pack('<HHIIHH', 1, 1, 16000, 32000, 2, 16)


def chunk(name, body, size=None, order='<'):
    """A chunk of a wav file. size: what it says of itself, if that is wrong."""
    return name + struct.pack(order + 'I', len(body) if size is None else size) + body


def odd_wav(*chunks, size=0, kind=b'RIFF'):
    """The bytes of a wav file whose header says a wrong size."""
    return kind + struct.pack('<I', size) + b'WAVE' + b''.join(chunks)


PCM = (32768 * speech()).astype('<i2')  # 4.4 s
DATA = PCM.tobytes()
ODD_WAVS = {  # name -> its bytes, and the remark about it
    'both FFFFFFFF, by ffmpeg': (odd_wav(chunk(b'fmt ', FORM), chunk(b'LIST', b'INFOxxxx'),
                                         chunk(b'data', DATA, 0xffffffff), size=0xffffffff), ''),
    'by sox': (odd_wav(chunk(b'fmt ', FORM), chunk(b'data', DATA, 0x7ffff000), size=0x7ffff024), ''),
    'by arecord': (odd_wav(chunk(b'fmt ', FORM), chunk(b'data', DATA, 0x80000000), size=0x80000024), ''),
    'both 0': (odd_wav(chunk(b'fmt ', FORM), chunk(b'data', DATA, 0)), ''),
    '8 too many': (odd_wav(chunk(b'fmt ', FORM), chunk(b'data', DATA), size=len(DATA) + 44), ''),
    'data 0 after junk': (odd_wav(chunk(b'JUNK', b'x' * 28), chunk(b'fmt ', FORM),
                                  chunk(b'FLLR', b'\0' * 4008), chunk(b'data', DATA, 0), size=4088), ''),
    'half of it said': (odd_wav(chunk(b'fmt ', FORM), chunk(b'data', DATA, len(DATA) // 2)),
                        'its header says 2.2 s, and it holds 4.4 s: all of it is read'),
    'cut off': (odd_wav(chunk(b'fmt ', FORM), chunk(b'data', DATA + b'x', 2 * len(DATA)), size=len(DATA)),
                'its header says 8.8 s, and it ends after 4.4 s: it was cut off'),
    'samples first': (odd_wav(chunk(b'data', DATA), chunk(b'fmt ', FORM)), ''),
    'capitals': (odd_wav(chunk(b'FMT ', FORM), chunk(b'DATA', DATA)), ''),
    'a tag first': (b'ID3\3\0\0\0\0\0\x0a' + b'\0' * 10
                    + odd_wav(chunk(b'fmt ', FORM), chunk(b'data', DATA)), ''),
    'an odd tag without filling': (odd_wav(chunk(b'fmt ', FORM), chunk(b'LIST', b'INFOx'),
                                           chunk(b'data', DATA)), ''),
    'tags after it': (odd_wav(chunk(b'fmt ', FORM), chunk(b'data', DATA),
                              chunk(b'id3 ', b'ID3' + b'x' * 5000)), ''),
    'rubbish after it': (odd_wav(chunk(b'fmt ', FORM), chunk(b'data', DATA),
                                 b'\1\2\3\4\5\6\7\x08\x09'), ''),
    'RF64': (odd_wav(chunk(b'ds64', struct.pack('<QQQI', 0, len(DATA), len(PCM), 0)), chunk(b'fmt ', FORM),
                     chunk(b'data', DATA, 0xffffffff), chunk(b'LIST', b'INFO' + b'x' * 2000),
                     kind=b'RF64'), ''),
    'RIFX': (odd_wav(chunk(b'fmt ', struct.pack('>HHIIHH', 1, 1, 16000, 32000, 2, 16), order='>'),
                     chunk(b'data', PCM.astype('>i2').tobytes(), order='>'), kind=b'RIFX'), ''),
    'extensible': (odd_wav(chunk(b'fmt ', struct.pack('<HHIIHHHHIH', 0xfffe, *struct.unpack('<xxHIIHH', FORM),
                                                      22, 16, 4, 1)
                                 + bytes.fromhex('0000 0000 1000 8000 00aa 0038 9b71')),
                           chunk(b'data', DATA)), '')}


@pytest.mark.parametrize('name', ODD_WAVS)
def test_wavs_with_an_odd_header_are_read_to_their_end(lab, no_ffmpeg, name):
    content, remark = ODD_WAVS[name]
    Path('a.wav').write_bytes(content)
    np.testing.assert_array_equal(reader.read_audio('a.wav'), PCM / 32768)
    assert recordings.open_recording('a.wav').facts['remarks'] == ([remark] if remark else [])
    _, facts = feature_of('a.wav')
    assert recordings.note_about('a.wav', facts) == ('a.wav: %s' % remark if remark else None)


def test_an_empty_wav_with_tags_holds_no_samples(lab):
    Path('a.wav').write_bytes(odd_wav(chunk(b'fmt ', FORM), chunk(b'data', b''), chunk(b'LIST', b'INFOabcd')))
    with pytest.raises(LabError, match='a.wav: holds no samples'):
        reader.read_audio('a.wav')


# ------------------------------------------------------------------------------------- channels

def late(audio, milliseconds):
    """The audio as a microphone hears it that is further away."""
    turned = np.fft.rfft(audio) * np.exp(-2j * np.pi * np.fft.rfftfreq(len(audio), 1 / 16) * milliseconds)
    return np.fft.irfft(turned, len(audio))


def crackle(n_samples, per_second, amplitude=0.02):
    """Clicks of 2.5 ms, as of a loose plug."""
    clicks, rng = np.zeros(n_samples), np.random.default_rng(4)
    for start in rng.integers(0, n_samples - 40, int(per_second * n_samples / 16000)):
        clicks[start:start + 40] += amplitude * rng.standard_normal(40) * np.exp(-np.arange(40) / 10)
    return clicks


NOISE = 0.01 * np.random.default_rng(3).standard_normal(len(speech()))
TWO_CHANNELS = {  # name -> what is in the other channel
    '0.2 ms later': lambda audio: late(audio, 0.2), '0.4 ms later': lambda audio: late(audio, 0.4),
    '0.8 ms later, and quieter': lambda audio: 0.5 * late(audio, 0.8), 'inverted': lambda audio: -audio,
    'nearly inverted': lambda audio: -0.98 * audio, 'silent': lambda audio: 0 * audio,
    'noisy': lambda audio: audio + NOISE, 'noise alone': lambda audio: 10 * NOISE,
    'offset alone': lambda audio: 0 * audio + 0.5,
    'hum': lambda audio: 0.1 * np.sin(np.arange(len(audio)) / 50),
    'clipped': lambda audio: np.clip(300 * audio, -1, 1),
    'clipped and lowered': lambda audio: 0.7 * np.clip(300 * audio, -1, 1),
    **{'crackling, %d a second' % n: lambda audio, n=n: audio + crackle(len(audio), n) for n in (1, 4, 20, 100)}}


@pytest.mark.parametrize('name, rate', [*((name, 16000) for name in TWO_CHANNELS), ('0.4 ms later', 48000)])
def test_of_channels_that_differ_the_clearer_one_is_used(lab, name, rate):
    audio = speech()
    other = TWO_CHANNELS[name](audio)
    both = resample_poly(np.stack([audio, other], axis=1), rate // 16000, 1)
    write_wav('first.wav', both, rate), write_wav('last.wav', both[:, [1, 1, 0]], rate)
    alike = 'ms' in name or 'inverted' in name  # both are as good
    for filename, place in (('first.wav', 0), ('last.wav', 2)):
        recording = recordings.open_recording(filename)
        used = 0 if alike else place  # of channels as good, the first
        expected = resample_poly(recordings.read_recording(filename)[0][:, used], 16000, rate)
        np.testing.assert_allclose(recording.audio, expected, atol=1e-9)
        assert recording.remarks == ['channel %d of %d is used' % (used + 1, 2 + place // 2)]
        assert recording.clipped == 0


def test_clipping_is_seen_at_any_level():
    """Flat tops tell it, or samples at full scale. A quiet recording has steps that look flat."""
    tone = np.sin(2 * np.pi * 100 * np.arange(16000) / 16000)
    for size in (0.2, 0.985):
        assert recordings.clipped_share(size * tone) < 1e-4
        assert recordings.clipped_share(size * np.clip(2 * tone, -1, 1)) == pytest.approx(2 / 3, abs=0.02)
    assert recordings.clipped_share(np.round(0.01 * 32768 * tone) / 32768) == 0
    # What a decoder makes of clipped speech is not flat any more, and reaches beyond 1
    decoded = np.append(np.clip(2 * tone, -1, 1) * np.linspace(0.99, 1, 16000), 1.05)
    assert recordings.clipped_share(decoded) > 0.3


@pytest.mark.parametrize('highest', [1500, 2000, 2500])
def test_a_muffled_channel_is_not_used(lab, highest):
    """It has less noise. A channel that crackles sounds wide, and is not used, either."""
    noisy = speech() + 1e-3 * np.random.default_rng(0).normal(size=len(speech()))
    low_pass = butter(8, highest, fs=16000, output='sos')
    muffled = sosfiltfilt(low_pass, noisy)
    write_wav('a.wav', np.stack([muffled, noisy], axis=1))
    assert recordings.open_recording('a.wav').remarks == ['channel 2 of 2 is used']
    crackling = muffled + 3 * np.abs(muffled).max() * np.sign(crackle(len(muffled), 4))
    write_wav('b.wav', np.stack([crackling, muffled], axis=1) / 10)
    assert recordings.open_recording('b.wav').remarks == ['channel 2 of 2 is used']


def test_hum_does_not_make_speech_strange():
    times = np.arange(5 * 16000) / 16000
    audio = demo_voices.synthesise(0, demo_voices.draw_voice(0, 1), 0, 5.0)[:len(times)]
    alone = recordings.kind_of_sound(audio)
    with_hum = recordings.kind_of_sound(audio + audio.std() * np.sin(2 * np.pi * 50 * times[:len(audio)]))
    assert with_hum['changing'] == pytest.approx(alone['changing'], abs=0.5)
    assert with_hum['lasting'] == pytest.approx(alone['lasting'], abs=0.05)


@pytest.mark.parametrize('name, value', [
    ('SAMPLE_RATE', 0), ('SAMPLE_RATE', 16000.0), ('SAMPLE_RATE', '16000'), ('WIN_LENGTH', 25), ('WIN_LENGTH', 0),
    ('WIN_STEP', 0), ('WIN_STEP', -0.01), ('FILTER_BANK', 0), ('FILTER_BANK', 40.0), ('FILTER_BANK', None),
    ('TRIM_SECONDS', -1), ('LEVEL_DBFS', 'loud')])
def test_a_setting_that_nothing_can_be_made_with_is_named(lab, monkeypatch, name, value):
    monkeypatch.setattr(c, name, value)
    with pytest.raises(LabError, match='^%s = %r in configure.py: it must be ' % (name, value)):
        checks.check_frames()
    write_wav('a.wav', speech())
    with pytest.raises(LabError, match='^%s = ' % name):
        read_MFB('a.wav')


def test_odd_chunks_of_a_wav():
    """A tag that holds the letters RIFF, an empty data chunk before the full one, a second 'fmt '."""
    samples = np.arange(-2000, 2000, dtype='<i2')
    whole = attacks.wav(samples.tobytes())
    fmt, data = whole[12:36], whole[36:]
    for content in (b'ID3\x04' + 500 * b'RIFF x' + whole, whole[:12] + fmt + b'data\0\0\0\0' + data,
                    whole[:36] + fmt[:12] + b'\x40\x1f\0\0' + fmt[16:] + data):
        decoded, rate, _ = audio_files.decode_wav(content)
        assert rate == 16000
        np.testing.assert_array_equal(decoded[:, 0], samples / 32768)
    align = fmt[:20] + b'\x04\0' + fmt[22:]
    with pytest.raises(ValueError, match='16 bits do not fill 4 bytes'):
        audio_files.decode_wav(whole[:12] + align + data)


def test_eight_bits_of_a_quiet_recording_are_coarse():
    tone = np.sin(np.arange(16000) / 10)
    for size, is_coarse in ((0.01, True), (0.3, False)):
        content = attacks.wav(np.round(128 + 127 * size * tone).astype(np.uint8).tobytes(), bits=8)
        assert ('8 bits are coarse' in audio_files.decode_wav(content)[2]) == is_coarse


@pytest.mark.parametrize('gain', [1, 0.5])
def test_channels_that_are_the_same_are_averaged_without_a_word(lab, gain):
    audio = speech()
    write_wav('a.wav', np.stack([audio, gain * audio + 1e-6], axis=1))
    recording = recordings.open_recording('a.wav')
    np.testing.assert_allclose(recording.audio, (1 + gain) / 2 * audio, atol=1e-6)
    assert recording.remarks == []


def test_a_channel_can_be_asked_for(lab, monkeypatch):
    audio = speech()
    write_wav('a.wav', np.stack([audio, audio + NOISE], axis=1))
    for channel, expected in ((None, audio), (1, audio), (2, audio + NOISE), ('mean', audio + NOISE / 2)):
        monkeypatch.setattr(c, 'CHANNEL', channel)
        np.testing.assert_allclose(recordings.open_recording('a.wav').audio, expected, atol=1e-9)
    monkeypatch.setattr(c, 'CHANNEL', 3)
    with pytest.raises(LabError, match=r'^a.wav: it has 2 channel\(s\), and channel 3 is asked for'):
        recordings.open_recording('a.wav')


def test_a_channel_can_be_named_on_the_command_line(lab, stopped_with, capsys):
    audio = speech()
    write_wav('a.wav', np.stack([NOISE, audio], axis=1))
    write_wav('b.wav', audio)
    settings = {'enroll_file': 'a.wav', 'test_file': 'b.wav', 'log_dir': str(PROJECT / 'model_saved')}
    compare.main(**settings, channel=2, use_cuda=False)
    assert 'Score : 1.0000' in capsys.readouterr().out and c.CHANNEL == 2
    assert 'a.wav: it has 2 channel(s), and channel 3 is asked for' in stopped_with(compare.main, **settings, channel=3)
    assert "channel = 0: it must be None, 1, 2, ... or 'mean'" in stopped_with(compare.main, **settings, channel=0)


# ------------------------------------------------------------------------------------- other formats

FAKE_FFMPEG = """#!%s -IS
import struct, sys
options = dict(zip(sys.argv[1:], sys.argv[2:]))
wanted = {'-f': 'wav', '-c:a': 'pcm_f32le', '-ar': '16000', '-protocol_whitelist': 'file,pipe'}
if {name: options[name] for name in wanted} != wanted or '-nostdin' not in sys.argv or sys.argv[-1] != '-':
    sys.exit('wrong arguments')
if not options['-i'].startswith('file:'):
    sys.exit('the name could be taken for an option or an address')
with open(options['-i'][5:], 'rb') as f:
    content = f.read()
if not content.startswith(b'FAKE'):
    sys.exit(options['-i'] + ': ' + content.decode())
size, form = struct.pack('<I', 0xffffffff), struct.pack('<IHHIIHH', 16, 3, 1, 16000, 64000, 4, 32)
sys.stdout.buffer.write(b'RIFF' + size + b'WAVEfmt ' + form + b'data' + size
                       + content[4:].removesuffix(b'END OF FILE'))
if content.endswith(b'END OF FILE'):
    sys.exit('the file ends too early')
""" % sys.executable


@pytest.fixture
def ffmpeg(tmp_path, monkeypatch):
    """The only program on the path is an ffmpeg that reads the files of write_fake."""
    if os.name == 'nt':
        pytest.skip('Windows does not start a script without its interpreter')
    program = tmp_path / 'bin' / 'ffmpeg'
    program.parent.mkdir()
    program.write_text(FAKE_FFMPEG)
    program.chmod(0o755)
    monkeypatch.setenv('PATH', str(program.parent))


@pytest.fixture
def no_ffmpeg(monkeypatch):
    monkeypatch.setenv('PATH', '')


def write_fake(filename, audio, more=b''):
    """Write a file that the fake ffmpeg can read, and its folder."""
    Path(filename).parent.mkdir(parents=True, exist_ok=True)
    Path(filename).write_bytes(b'FAKE' + np.asarray(audio, '<f4').tobytes() + more)


def test_other_formats_are_read_through_ffmpeg(lab, ffmpeg):
    audio = speech().astype(np.float32)
    write_wav('me/test.wav', audio)
    write_fake('me/test.m4a', audio)
    write_fake('-odd: name.MP3', audio, more=b'abc')  # three bytes are no sample
    for name in ('me/test.m4a', '-odd: name.MP3'):
        samples, rate, remark = recordings.read_recording(name)
        assert samples.shape == (len(audio), 1) and rate == 16000 and remark == ''
        np.testing.assert_array_equal(samples[:, 0], audio)
    feature, label = read_MFB('me/test.m4a')
    np.testing.assert_array_equal(feature, read_MFB('me/test.wav')[0])
    assert label == 'me' and recordings.origin_of('me/test.m4a') == recordings.origin_of('me/test.wav')


def test_the_converter_reads_other_formats(lab, ffmpeg, capsys):
    write_fake('wavs/me/test.m4a', speech().astype(np.float32))
    write_wav('wavs/me/enroll.wav', speech().astype(np.float32))
    write_fake('wavs/me/enroll.m4a', chirp())  # there is a wav of this name
    assert reader.convert_wavs('wavs', 'feats') == []
    assert '2 converted, 0 up to date, 0 skipped' in capsys.readouterr().out
    of_m4a, of_wav = (recordings.read_pickles('feats/me/%s.p' % name)[0] for name in ('test', 'enroll'))
    np.testing.assert_array_equal(of_m4a['feat'], of_wav['feat'])
    assert of_m4a['recording'] == of_wav['recording']


def test_what_ffmpeg_cannot_read_is_refused(lab, ffmpeg):
    Path('broken.m4a').write_bytes(b'Invalid data found')
    Path('half.m4a').write_bytes(b'moov atom not found')
    Path('photo.mp4').write_bytes(b'Output file #0 does not contain any stream')
    write_fake('empty.m4a', [])
    write_fake('loud.m4a', [0.0, 3.0])
    write_fake('nan.m4a', [0.0, np.nan])
    cannot = 'ffmpeg cannot read it .file:%s: '
    for name, reason in (('broken.m4a', cannot % 'broken.m4a' + r'Invalid data found\).\nOpen it'),
                         ('half.m4a', cannot % 'half.m4a' + r'moov .*\).\n.* Copy it from the device'),
                         ('photo.mp4', cannot % 'photo.mp4' + r'Out.* stream\).\nIt holds no sound'),
                         ('empty.m4a', r'ffmpeg cannot read it \(it holds no sound\)'),
                         ('loud.m4a', r'float samples must lie in \[-1, 1\]'), ('nan.m4a', 'holds NaN')):
        with pytest.raises(LabError, match='^%s: %s' % (name, reason)):
            reader.read_audio(name)


def test_what_ffmpeg_reads_in_part_is_noted(lab, ffmpeg):
    write_fake('cut.m4a', speech(), more=b'END OF FILE')
    assert recordings.open_recording('cut.m4a').remarks == [
        'ffmpeg could not read all of it (the file ends too early)']


def test_a_wav_of_another_kind_is_read_through_ffmpeg(lab, ffmpeg):
    write_fake('a.wav', speech())
    np.testing.assert_allclose(reader.read_audio('a.wav'), speech(), atol=1e-8)


def test_ffmpeg_gets_files_only(lab, ffmpeg):
    os.mkdir('a.m4a')  # a pipe or a device is refused in the same way; ffmpeg could wait for it for ever
    with pytest.raises(LabError, match='^a.m4a: not a file'):
        reader.read_audio('a.m4a')
    with pytest.raises(FileNotFoundError, match='b.m4a'):
        reader.read_audio('b.m4a')


def test_without_ffmpeg_the_line_to_convert_is_given(lab, no_ffmpeg):
    write_fake('me/enroll.m4a', speech())
    with pytest.raises(LabError, match='^me/enroll.m4a: .*\n.*: ffmpeg -i me/enroll.m4a me/enroll.wav$'):
        read_MFB('me/enroll.m4a')


def test_recordings_of_every_format_are_found(lab):
    names = ['feat/a/%d%s' % (i, suffix)
             for i, suffix in enumerate(audio_files.WAV_FORMATS + audio_files.FFMPEG_FORMATS)]
    touch(*names, 'feat/a/LOUD.WAV', 'feat/a/x.wav', 'feat/a/y.FLAC', 'feat/b/x.m4a')
    touch('feat/a/x.m4a', 'feat/a/loud.m4a', 'feat/a/.hidden.wav', 'feat/a/notes.txt', 'feat/a/wav',
          'feat/a/z.p')
    found = reader.find_wavs('feat')
    assert found == sorted([*names, 'feat/a/LOUD.WAV', 'feat/a/x.wav', 'feat/a/y.FLAC', 'feat/b/x.m4a',
                            'feat/a/loud.m4a'])  # x.m4a beside x.wav is not read; LOUD.WAV has another name
    assert list(reader.read_DB_structure('feat')['filename']) == found


def test_recordings_stand_beside_feature_files(lab, write_feat):
    write_wav('feat/a/enroll.wav'), write_wav('feat/a/test.wav'), write_wav('feat/a/Test_2.wav')
    write_feat('feat/b/enroll.p'), write_feat('feat/b/test.p')
    enroll_DB, test_DB = reader.split_enroll_and_test('feat')
    assert list(enroll_DB['filename']) == ['feat/a/enroll.wav', 'feat/b/enroll.p']
    assert reader.test_files_of('a', test_DB) == ['feat/a/Test_2.wav', 'feat/a/test.wav']
    assert reader.test_files_of('feat/a/enroll.wav', test_DB) == ['feat/a/enroll.wav']
    assert reader.test_files_of('feat/b/enroll.p', test_DB) == ['feat/b/enroll.p']
    for name in ('elsewhere.wav', 'elsewhere.m4a', 'elsewhere.p'):
        with pytest.raises(LabError, match="'%s': there is no such file" % name):
            reader.test_files_of(name, test_DB)
    with pytest.raises(LabError, match="no test file of test_speaker = 'c'. Choose one of a, b, or the name"):
        reader.test_files_of('c', test_DB)
    with pytest.raises(LabError, match='There is no test file'):
        reader.test_files_of('a', test_DB[:0])
    # One's own file needs no other
    assert reader.test_files_of('feat/a/test.wav', test_DB[:0]) == ['feat/a/test.wav']
    feature, label = read_MFB('feat/a/test.wav')
    assert label == 'a' and feature.shape == (len(feature_of('feat/a/test.wav')[0]) - 100, 40)


@pytest.mark.skipif(shutil.which('ffmpeg') is None, reason='ffmpeg is not installed')
@pytest.mark.parametrize('suffix', ['mp3', 'm4a', 'flac', 'oga', 'aiff', 'caf', 'au', 'w64', 'mov', 'wave'])
def test_every_format_is_as_loud_as_the_wav(lab, suffix):
    """Two channels, and six: ffmpeg's own mean of them is louder than each, and clipped."""
    audio = 50 * speech()
    write_wav('two.wav', np.stack([audio] * 2, axis=1).astype(np.float32))
    write_wav('six.wav', np.stack([audio] * 6, axis=1).astype(np.float32))
    for name in ('two',) if suffix == 'mp3' else ('two', 'six'):
        converted = '%s of my own.%s' % (name, suffix)
        form = ['-f', 'wav'] if suffix == 'wave' else []
        subprocess.run(['ffmpeg', '-loglevel', 'error', '-i', name + '.wav', *form, converted], check=True)
        wav, other = (feature_of(filename)[1] for filename in (name + '.wav', converted))
        assert other['level'] == pytest.approx(wav['level'], abs=0.5) and other['clipped'] == 0


# ------------------------------------------------------------------------------------- speech and its level

def test_level_and_ends_by_hand():
    """Two seconds of a tone that comes and goes four times a second, of level -40 dBFS where it sounds."""
    sounding = np.tile(np.repeat([1.0, 0.0], 2000), 8)  # 125 ms each: whole blocks of 25 ms
    tone = 0.01 * np.sqrt(2) * np.sin(2 * np.pi * 2000 * np.arange(32000) / 16000)
    audio = np.pad(sounding * tone, (16000, 3200)) + 1e-6 * np.random.default_rng(0).standard_normal(51200)
    sounds = np.pad(sounding[::400] > 0, (40, 8))
    levels = recordings.block_levels(audio)
    assert recordings.active_level(levels, sounds) == pytest.approx(-40, abs=0.01)
    is_speech = recordings.find_speech(levels, 'a.wav')
    after = np.roll(sounds, 1)  # the filter makes a sharp end last one block longer
    assert is_speech[sounds].all() and not is_speech[~sounds & ~after].any()
    prepared = Recording(audio, 'a.wav').prepared()
    n_samples = 30000 + 400  # to the block after the last tone
    assert len(prepared) == 8000 + n_samples + 8000  # TRIM_SECONDS at both ends
    gain = 10 ** ((-44 - recordings.active_level(levels, is_speech)) / 20)
    np.testing.assert_allclose(prepared[8000:-8000], gain * (audio - audio.mean())[16000:16000 + n_samples],
                               atol=1e-9)
    # The recording has 4800 samples left, so 3200 zeros follow
    np.testing.assert_array_equal(prepared[-3200:], 0)
    cut = Recording(audio[12000:], 'a.wav').prepared()  # it begins 4000 samples before the first tone
    assert len(cut) == len(prepared) and not cut[:4000].any() and cut[4000:8000].any()
    np.testing.assert_allclose(cut[8000:], prepared[8000:], atol=1e-6)


@pytest.mark.parametrize('spoil', [
    lambda audio: audio + 0.02,
    lambda audio: audio + 0.01 * np.sin(np.arange(len(audio)) * 2 * np.pi * 50 / 16000),
    lambda audio: np.pad(audio, 16000 * 90)
    + 1e-6 * np.random.default_rng(2).standard_normal(len(audio) + 2880000),
    lambda audio: np.concatenate([[0.3] * 100, audio, [-0.3] * 100]),
    lambda audio: audio + 0.3 * (np.arange(len(audio)) // 50 == 700)],
    ids=['offset', 'hum', 'long silence', 'clicks', 'a click in the speech'])
def test_speech_is_found_in_spite_of(spoil):
    clean, spoilt = speech(), spoil(speech())
    heard = [Recording(audio, 'a.wav') for audio in (clean, spoilt)]
    levels, lengths = [one.level for one in heard], [len(one.prepared()) for one in heard]
    assert levels[1] == pytest.approx(levels[0], abs=2) and lengths[1] == pytest.approx(lengths[0], abs=1600)


@pytest.mark.parametrize('decibels', [-12, -6, 6, 24])
def test_features_do_not_depend_on_the_level_of_a_recording(lab, decibels):
    one, other = (feature_of(write_wav('%d.wav' % gain, speech() * 10 ** (gain / 20)))[0]
                  for gain in (0, decibels))
    np.testing.assert_allclose(one, other, atol=1e-6)


def test_without_a_level_the_recipe_is_that_of_the_published_files(lab, monkeypatch):
    monkeypatch.setattr(c, 'LEVEL_DBFS', None)
    feature, _ = feature_of(write_wav('a.wav'))
    np.testing.assert_array_equal(feature, reader.extract_features(speech()))


def test_a_checkpoint_brings_recordings_to_its_own_level(lab, made_feat):
    """20 dB louder are 40 more in every cell that is not on the floor: 20*log10 of the energies."""
    audio = speech()
    quiet, loud = (Recording(audio, 'a.wav').prepared(level) for level in (-44, -24))
    np.testing.assert_allclose(loud, 10 * quiet)
    filename, model = write_wav('a/a.wav', audio), Sizes()
    model.settings['level'] = -24
    expected = np.abs(reader.extract_features(loud)[50:-50]).mean(axis=0)
    vector = lab_model.get_embeddings(False, filename, model, None)[0].numpy()
    np.testing.assert_allclose(vector, expected / np.linalg.norm(expected), atol=1e-6)
    assert recordings.origin_of(filename, -24)['LEVEL_DBFS'] == -24
    with pytest.raises(LabError,
                       match='a/made.p: its recording was brought to -44 dBFS, and -24 are asked for here'):
        lab_model.get_embeddings(False, made_feat('a/made.p', -44, 7000.0), model, None)
    lab_model.get_embeddings(False, made_feat('a/made.p', -24, 7000.0), model, None)


def rumble():
    """Ten seconds of noise whose power falls with the square of frequency."""
    spectrum = np.fft.rfft(np.random.default_rng(0).standard_normal(160000))
    spectrum[1:] /= np.arange(1, len(spectrum))
    return np.fft.irfft(spectrum) / 10


NO_SPEECH = {
    'zeros': (np.zeros(48000), 'is silent'),
    'noise': (1e-3 * np.random.default_rng(0).standard_normal(48000),
              'stands out of a steady noise at -60 dBFS'),
    'hum': (0.1 * np.sin(np.arange(48000) / 10), 'stands out of a steady noise at -23 dBFS'),
    'rumble': (rumble(), 'no speech stands out of a steady noise')}


@pytest.mark.parametrize('name', NO_SPEECH)
def test_a_recording_without_speech_is_refused(lab, scripts, stopped_with, name):
    audio, reason = NO_SPEECH[name]
    write_wav(name + '.wav', audio)
    with pytest.raises(LabError, match='^%s.wav: .*%s' % (name, reason)):
        feature_of(name + '.wav')
    write_wav('feat/a/enroll.wav'), write_wav('feat/a/test.wav')
    enroll.main(**scripts())
    assert '%s.wav: ' % name in stopped_with(identification.main, **scripts(test_speaker=name + '.wav'))


@pytest.mark.parametrize('n_samples', [1, 100, 8000])
def test_a_recording_of_a_moment_is_refused(lab, scripts, stopped_with, n_samples):
    write_wav('a.wav', speech(silence=0)[1000:1000 + n_samples])
    with pytest.raises(LabError, match='^a.wav: '):
        read_MFB('a.wav')
    write_wav('feat/a/enroll.wav'), write_wav('feat/a/test.wav')
    enroll.main(**scripts())
    assert 'a.wav: ' in stopped_with(identification.main, **scripts(test_speaker='a.wav'))


@pytest.mark.parametrize('change, advice', [
    (lambda audio: audio, None),
    (lambda audio: np.clip(300 * audio, -1, 1), 'record with less gain'),
    (lambda audio: audio / 1000, 'record at a higher level'),
    (lambda audio: audio[:24000], 'record for longer'),
    (lambda audio: audio + 1e-3 * np.random.default_rng(1).standard_normal(len(audio)),
     'record in a quieter place')])
def test_what_is_wrong_with_a_recording(lab, change, advice):
    _, facts = feature_of(write_wav('a.wav', change(speech())))
    note = recordings.note_about('a.wav', facts)
    assert note is None if advice is None else advice in note, note


def spoken():
    """Four seconds of a demo voice in a quiet room."""
    audio = demo_voices.synthesise(0, demo_voices.draw_voice(0, 1), 0, 4.0).astype(float)
    return audio + 1e-5 * np.random.default_rng(0).standard_normal(len(audio))


def without_pauses(audio, decibels):
    """Only those blocks that are at most so much quieter than the loudest ones."""
    levels = recordings.block_levels(audio)
    return recordings.blocks_of(audio)[levels > recordings.loud_level(levels) - decibels].ravel()


FINE = {'an offset': lambda audio: audio + 0.3,
        'a drift': lambda audio: audio + np.linspace(-0.2, 0.2, len(audio)),
        'a step': lambda audio: audio + 0.2 * (np.arange(len(audio)) > 30000),
        'no pauses, 40 dB': lambda audio: without_pauses(audio, 40),
        'no pauses, 30 dB': lambda audio: without_pauses(audio, 30),
        'no pauses, 25 dB': lambda audio: without_pauses(audio, 25)}


@pytest.mark.parametrize('name', FINE)
def test_no_note_where_nothing_is_wrong(name):
    facts = {**Recording(FINE[name](spoken()), 'a.wav').facts, 'floor': 0.5}
    assert recordings.what_is_wrong(facts) == [] and facts['bandwidth'] > recordings.NARROW


def strum(seconds=8):
    """Chords of a guitar: decaying harmonics, a chord every 0.5 s."""
    t, rng = np.arange(16000) / 16000, np.random.default_rng(0)
    audio = np.zeros(seconds * 16000 + 32000)
    for start in range(8000, seconds * 16000, 8000):
        for tone in rng.choice([82.4, 110, 146.8, 196, 246.9, 329.6], 3, replace=False):
            audio[start:start + 16000] += sum(
                np.exp(-t * (1 + 0.5 * k)) * np.sin(2 * np.pi * tone * k * t) / k for k in range(1, 12))
    return 0.05 * audio


def thunder(seconds=8):
    """Low noise that swells and rolls away, three times."""
    rng, t = np.random.default_rng(0), np.arange(seconds * 16000) / 16000
    low = sosfiltfilt(butter(2, [30, 400], 'bandpass', fs=16000, output='sos'), rng.standard_normal(len(t)))
    return low * sum(np.exp(-np.maximum(t - start, 0) / 0.7) * (t > start) for start in (0.5, 2.5, 5))


def rain(seconds=8):
    """Drops of noise, eighty a second."""
    rng, audio = np.random.default_rng(0), 0.003 * np.random.default_rng(1).standard_normal(seconds * 16000)
    for start in rng.integers(0, len(audio) - 160, 80 * seconds):
        audio[start:start + 160] += rng.exponential(0.3) * np.exp(-np.arange(160) / 30) * rng.standard_normal(160)
    return audio


def crowd(seconds=8):
    """Twelve demo voices at once."""
    return sum(demo_voices.synthesise(0, demo_voices.draw_voice(0, i), 0, float(seconds))[:16000 * seconds - 3200]
               for i in range(12))


@pytest.mark.parametrize('sound', [strum, thunder, rain, crowd])
def test_what_may_not_be_speech_is_noted(lab, sound):
    audio = sound() + 1e-4 * np.random.default_rng(5).standard_normal(len(sound()))
    filename = write_wav('a.wav', 0.3 * audio / np.abs(audio).max())
    assert 'this may not be speech' in recordings.note_about(filename, feature_of(filename)[1])


def test_demo_voices_are_speech():
    for index in range(6):
        voice = demo_voices.synthesise(0, demo_voices.draw_voice(0, index), 0, 4.0).astype(float)
        assert not recordings.is_strange(recordings.kind_of_sound(voice))


def test_a_word_of_a_moment_is_too_short(lab):
    for n_samples in (400, 4800, 6400, 8000):
        with pytest.raises(NoSpeech, match='is too short, 0.[0-9] s. Record two seconds'):
            feature_of(write_wav('a.wav', spoken()[8000:8000 + n_samples]))


def test_an_hour_that_does_not_fit_into_the_memory_is_one_bad_recording(lab, monkeypatch):
    def fail(*arguments):
        raise MemoryError
    monkeypatch.setattr(recordings, 'read_mono', fail)
    with pytest.raises(LabError, match='a b.wav: too long for the memory. Split it: ffmpeg -i "a b.wav" -f'):
        recordings.open_recording(write_wav('a b.wav'))


def test_a_note_by_hand(lab, monkeypatch, capsys):
    """A tone of 1 kHz in one of two channels, two times 0.35 s: it fills few cells, and it is clipped."""
    tone = np.sin(2 * np.pi * np.arange(5600) / 16) * np.sqrt(2)
    tones = np.pad(np.concatenate([tone, np.zeros(6400), tone]), 16000)
    left = np.clip(tones, -0.995, 0.995) + 1e-4 * np.random.default_rng(0).standard_normal(len(tones))
    monkeypatch.setattr(c, 'LEVEL_DBFS', -55)
    feature, facts = feature_of(write_wav('me/a.wav', np.stack([left, 0 * left], axis=1)))
    clipped = 100 * np.mean(np.abs(left) >= 0.99)
    level = 10 * np.log10(np.mean(np.clip(tone, -0.995, 0.995) ** 2))
    on_floor = 100 * np.mean(feature == feature.min(axis=0))
    assert on_floor > 97
    note = recordings.note_about('me/a.wav', facts)
    assert re.fullmatch(r'me/a.wav: 0\.[78] s of speech at %.0f dBFS, %.2f %% of the samples clipped, %.0f '
                        r'%% of the cells on the floor: record with less gain; record for longer; hardly '
                        r'anything is above the floor; channel 1 of 2 is used'
                        % (level, clipped, on_floor), note)
    read_MFB('me/a.wav')
    assert capsys.readouterr().out == 'Note: %s\n' % note


def test_each_recording_is_read_once(lab, monkeypatch, capsys):
    """Comparing two needs the feature, level, bandwidth, seconds and clipped samples of each."""
    a, b = write_wav('me/a.wav'), write_wav('me/b.wav', speech(4.0))
    model, reads, read = Sizes(), [], recordings.read_recording
    numbers = {'eer': 0.5, 'slope': 1.0, 'offset': -0.5, 'EER': 1.0, 'EER_5s': 5.0}
    model.thresholds = {'-44': {'cosine': numbers}}
    monkeypatch.setattr(compare, 'load_model', lambda *arguments: model)
    monkeypatch.setattr(recordings, 'read_recording',
                        lambda filename: reads.append(filename) or read(filename))
    compare.main(a, b)
    assert sorted(reads) == [a, b] and 'It is short' in capsys.readouterr().out

    write_wav('me/a.wav', speech(3.5))  # it is another recording now
    assert len(recordings.open_recording(a).audio) == len(speech(3.5)) and len(reads) == 3


# ------------------------------------------------------------------------------------- bandwidth

@pytest.mark.parametrize('highest', [2000, 3400, 4000, 6000, 7500])
def test_bandwidth_by_hand(highest):
    """Bursts of noise without any frequency above `highest`, in a room with a noise of all frequencies."""
    rng = np.random.default_rng(0)
    spectrum = np.fft.rfft(rng.standard_normal(48000))
    spectrum[highest * 3 + 1:] = 0  # 3 s, so a step of the spectrum is a third of a Hz
    bursts = 0.05 * np.fft.irfft(spectrum) * np.tile(np.repeat([1.0, 0.0], 2000), 12)
    audio = bursts + 1e-4 * rng.standard_normal(48000)
    assert recordings.bandwidth_of(audio) == pytest.approx(highest, abs=300)


def at_8_khz(audio):
    """The same sound with half as many samples a second."""
    return resample_poly(audio, 1, 2)


def over_a_telephone(audio):
    """Only frequencies from 300 to 3400 Hz, and a noise of all frequencies at -70 dBFS."""
    band = butter(4, [300, 3400], 'bandpass', fs=16000, output='sos')
    return sosfiltfilt(band, audio) + 10 ** (-70 / 20) * np.random.default_rng(0).standard_normal(len(audio))


def voice_wavs(folder, index=1):
    """Write three files of one demo voice: wide.wav, narrow.wav at 8 kHz, and phone.wav."""
    audio = demo_voices.synthesise(0, demo_voices.draw_voice(0, index), 0, 4.0).astype(float)
    write_wav('%s/wide.wav' % folder, audio)
    write_wav('%s/narrow.wav' % folder, at_8_khz(audio), 8000)
    write_wav('%s/phone.wav' % folder, over_a_telephone(audio))


@pytest.mark.parametrize('index', range(1, 7))
def test_bandwidth_of_a_voice(lab, index):
    voice_wavs('me', index)
    wide, narrow, phone = (recordings.origin_of('me/%s.wav' % name) for name in ('wide', 'narrow', 'phone'))
    assert wide['bandwidth'] > 6000 and 3500 < narrow['bandwidth'] < 4700 and 2500 < phone['bandwidth'] < 4000
    assert recordings.differ_in_bandwidth(wide, narrow) and recordings.differ_in_bandwidth(phone, wide)
    assert not recordings.differ_in_bandwidth(narrow, phone)
    assert not recordings.differ_in_bandwidth(origin(-44, 5000.0), origin(-44, 6400.0))
    assert recordings.differ_in_bandwidth(origin(-44, 4999.0), origin(-44, 6400.0))
    assert not recordings.differ_in_bandwidth(wide, wide)


def test_bandwidth_goes_into_the_feature_file(lab, capsys):
    voice_wavs('wavs/me')
    assert reader.convert_wavs('wavs', 'feats') == []
    for name in ('wide', 'narrow', 'phone'):
        origin = recordings.origin_of('wavs/me/%s.wav' % name)
        assert origin['LEVEL_DBFS'] == -44
        assert origin == recordings.origin_of('feats/me/%s.p' % name)
        assert recordings.read_pickles('feats/me/%s.p' % name)[0]['recording'] == origin


def test_other_bandwidth_is_noted_at_enrolment_and_at_test(lab, scripts, capsys):
    voice_wavs('me')
    os.makedirs('feat/me')
    for name, source in (('enroll', 'wide'), ('test', 'narrow'), ('test2', 'phone'), ('test3', 'wide')):
        os.link('me/%s.wav' % source, 'feat/me/%s.wav' % name)
    enroll.main(**scripts())
    assert 'Note' not in capsys.readouterr().out
    identification.main(**scripts(test_speaker='me'))
    notes = re.findall(r'Note: feat/me/(test\d?).wav has a bandwidth of (...) kHz, the enrolment of me has '
                       r'(...) kHz',
                       capsys.readouterr().out)
    assert [note[0] for note in notes] == ['test', 'test2'] and float(notes[0][1]) < 5 < float(notes[0][2])

    os.link('me/narrow.wav', 'feat/me/enroll2.wav')
    enroll.main(**scripts())
    notes = re.findall(r'Note: feat/me/enroll2.wav has a bandwidth of (...) kHz, the enrolment files before '
                       r'it of '
                       r'(...) kHz', capsys.readouterr().out)
    assert len(notes) == 1 and float(notes[0][0]) < 5 < float(notes[0][1])
    verification.main(**scripts(test_speaker='me', enroll_speaker='me'))  # now the lower bandwidth counts
    assert re.findall(r'Note: feat/me/(\w+).wav has a bandwidth', capsys.readouterr().out) == ['test3']


# ------------------------------------------------------------------------------------- how a file was made

@pytest.fixture
def made_feat(lab):
    """Writes a feature file that was made from a recording of this level and bandwidth. Returns its name."""
    def write(filename, level, bandwidth):
        feature = np.random.default_rng(0).normal(size=(200, 40))
        reader.write_feature(filename, feature, Path(filename).parent.name,
                             {'LEVEL_DBFS': level, 'bandwidth': bandwidth})
        return filename
    return write


def origin(level, bandwidth):
    return {'LEVEL_DBFS': level, 'bandwidth': bandwidth}


def test_a_network_of_recordings_as_they_are_is_not_tested_at_another_level(lab, monkeypatch):
    """Its level is None, as if it did not matter. So LEVEL_DBFS must be None, too."""
    monkeypatch.setattr(c, 'LEVEL_DBFS', None)
    network = lab_model.background_resnet(128, 2)
    runs.save_checkpoint('model_saved/checkpoint_1.pth', {'state_dict': network.state_dict(), **network.settings})
    assert lab_model.load_model(False, 'model_saved', 1, 128, 2).settings['level'] is None
    monkeypatch.setattr(c, 'LEVEL_DBFS', -44)
    with pytest.raises(LabError, match='was trained on recordings as they are.\nSet LEVEL_DBFS = None'):
        lab_model.load_model(False, 'model_saved', 1, 128, 2)


def test_the_origin_of_a_file(lab, write_feat, made_feat, monkeypatch):
    assert recordings.origin_of(write_feat('a/published.p')) == origin(None, None)
    assert recordings.origin_of(made_feat('a/made.p', -44, 7000.0)) == origin(-44, 7000.0)
    write_wav('a/a.wav')
    # The chirp ends at 7 kHz
    assert recordings.origin_of('a/a.wav') == origin(-44, pytest.approx(7000, abs=100))
    monkeypatch.setattr(c, 'LEVEL_DBFS', None)
    assert recordings.origin_of('a/a.wav') == origin(None, pytest.approx(7000, abs=100))
    assert recordings.origin_of('a/made.p') == origin(-44, 7000.0)


def test_several_enrolment_files_have_one_origin(made_feat, write_feat, capsys):
    wide, narrow = made_feat('a/wide.p', -44, 7000.0), made_feat('a/narrow.p', -44, 3900.0)
    loud, unknown = made_feat('a/loud.p', -30, 7000.0), made_feat('a/unknown.p', -44, None)
    assert recordings.same_origin(None, wide) == origin(-44, 7000.0)
    assert recordings.same_origin(origin(-44, 6000.0), wide) == origin(-44, 6000.0)
    assert recordings.same_origin(origin(-44, 6000.0), unknown) == origin(-44, 6000.0)
    assert recordings.same_origin(origin(-44, None), unknown) == origin(-44, None)
    assert capsys.readouterr().out == ''
    assert recordings.same_origin(origin(-44, 7000.0), narrow) == origin(-44, 3900.0)
    assert recordings.same_origin(origin(-44, 3900.0), wide) == origin(-44, 3900.0)
    assert re.findall(r'Note: a/(\w+).p has .* of (...) kHz, .* of (...) kHz', capsys.readouterr().out) == [
        ('narrow', '3.9', '7.0'), ('wide', '7.0', '3.9')]
    with pytest.raises(LabError,
                       match='a/loud.p is levelled to -30 dBFS, .* before it are levelled to -44 dBFS'):
        recordings.same_origin(origin(-44, 7000.0), loud)
    with pytest.raises(LabError,
                       match='a/published.p is not levelled, .* before it are levelled to -44 dBFS'):
        recordings.same_origin(origin(-44, 7000.0), write_feat('a/published.p'))


def test_a_test_file_is_compared_with_every_enrolment(made_feat, write_feat, capsys):
    wide, published = made_feat('a/wide.p', -44, 7000.0), write_feat('a/published.p')
    narrow = {name: origin(-44, 3900.0) for name in 'abcde'}
    recordings.compare_origins({'w': origin(-44, 5600.0), 'x': origin(-44, None), 'y': origin(-44, 8000.0)},
                               wide)
    recordings.compare_origins({'z': origin(None, None)}, published)
    recordings.compare_origins({}, wide)
    assert capsys.readouterr().out == ''
    for enrolled, names in ((dict(list(narrow.items())[:3]), 'a, b, c'), (narrow, 'a, b, c and 2 others')):
        recordings.compare_origins({'w': origin(-44, 7000.0), **enrolled}, wide)
        assert ('Note: a/wide.p has a bandwidth of 7.0 kHz, the enrolment of %s has 3.9 kHz' % names
                in capsys.readouterr().out)
    recordings.compare_origins({'w': origin(-44, 5400.0)}, wide)  # not narrow, and 1.6 kHz less
    assert 'the enrolment of w has 5.4 kHz' in capsys.readouterr().out
    with pytest.raises(LabError,
                       match=r'a/wide.p is levelled to -44 dBFS, the enrolment of q is not levelled'):
        recordings.compare_origins({'a': origin(-44, 7000.0), 'q': origin(None, None)}, wide)
    with pytest.raises(LabError,
                       match=r'a/published.p is not levelled, the enrolment of a is levelled to -44 dBFS'):
        recordings.compare_origins(narrow, published)


def test_another_level_is_refused_by_the_scripts(lab, scripts, write_feat, stopped_with, monkeypatch):
    write_wav('feat/a/enroll.wav'), write_wav('feat/a/test.wav')
    enroll.main(**scripts())
    made_with = lab_model.read_enrolment('enroll_embeddings')[1]
    assert made_with['recordings'] == {'a': recordings.origin_of('feat/a/enroll.wav')}
    identification.main(**scripts(test_speaker='a'))

    monkeypatch.setattr(c, 'LEVEL_DBFS', None)  # enrolled at -44 dBFS, tested as it is
    for main, settings in ((identification.main, {}), (verification.main, {'enroll_speaker': 'a'})):
        message = stopped_with(main, **scripts(test_speaker='a', **settings))
        assert 'feat/a/test.wav is not levelled, the enrolment of a is levelled to -44 dBFS' in message
        assert 'python enroll.py' in message
    enroll.main(**scripts())
    identification.main(**scripts(test_speaker='a'))

    write_feat('feat/b/enroll.p'), write_feat('feat/b/test.p')  # published files are as they were recorded
    enroll.main(**scripts())
    identification.main(**scripts(test_speaker='a')), identification.main(**scripts(test_speaker='b'))
    monkeypatch.setattr(c, 'LEVEL_DBFS', -44)
    enroll.main(**scripts())
    message = stopped_with(identification.main, **scripts(test_speaker='b'))
    assert 'feat/b/test.p is not levelled, the enrolment of a is levelled to -44 dBFS' in message
    message = stopped_with(identification.main, **scripts(test_speaker='a'))
    assert 'feat/a/test.wav is levelled to -44 dBFS, the enrolment of b is not levelled' in message
    identification.main(**scripts(test_speaker='b', spk_list=['b']))
    verification.main(**scripts(test_speaker='a', enroll_speaker='a'))

    write_wav('feat/b/enroll2.wav')  # both kinds for one speaker: nobody can be tested with their sum
    assert 'Not enrolled, for the reasons above: b.' in stopped_with(enroll.main, **scripts())
    assert lab_model.read_enrolment('enroll_embeddings')[0].keys() == {'a'}


def test_files_without_an_origin_are_refused(lab, scripts, stopped_with):
    """A damaged test file or enrolment ends in a line or two, before anything is scored."""
    write_wav('feat/a/enroll.wav'), write_wav('feat/a/test.wav')
    enroll.main(**scripts())
    feature = np.zeros((200, 40))
    for content in ([1], 5, {'feat': feature, 'label': 'a', 'recording': 5},
                    {'feat': feature, 'label': 'a', 'recording': {'LEVEL_DBFS': -44, 'bandwidth': 'high'}}):
        Path('bad.p').write_bytes(pickle.dumps(content, protocol=4))
        assert 'bad.p: ' in stopped_with(identification.main, **scripts(test_speaker='bad.p'))

    embeddings, made_with = lab_model.read_enrolment('enroll_embeddings')
    for recording in ({}, {'LEVEL_DBFS': -44}, {'bandwidth': 7000.0}, 5,
                      {'LEVEL_DBFS': -44, 'bandwidth': 'high'}):
        lab_model.write_pickles('enroll_embeddings/embeddings.p', embeddings, {
            **made_with, 'recordings': {'a': recording}})
        assert 'enroll_embeddings' in stopped_with(identification.main, **scripts(test_speaker='a'))


# ------------------------------------------------------------------------------------- what is not used

def unused(test_dir, capsys):
    """What name_unused_files prints of a folder, without the words 'Not used'."""
    enroll_DB, test_DB = reader.split_enroll_and_test(test_dir)
    recordings.name_unused_files(test_dir, [*enroll_DB['filename'], *test_DB['filename']],
                                 set(enroll_DB['speaker_id']))
    return [line.removeprefix('Not used: ') for line in capsys.readouterr().out.splitlines()]


def test_what_is_not_used_is_named(lab, capsys):
    touch('feat/a/enroll.wav', 'feat/a/Enroll_2.WAV', 'feat/a/test.m4a', 'feat/a/.my.wav', 'feat/a/photo.jpg')
    for test_dir in ('feat', 'feat/', './feat//', str(lab / 'feat')):
        assert unused(test_dir, capsys) == []
    touch('feat/b/.DS_Store')
    touch('feat/c/my_voice1.wav', 'feat/c/old.p', 'feat/d/test.wav', 'feat/e/enroll.m4a', 'feat/e/enroll.wav')
    lines = unused('feat', capsys)
    for line, start in zip(lines, ('feat/b: the folder is empty',
                                   'feat/c/my_voice1.wav: its name begins neither with enroll nor with test',
                                   'feat/c/old.p: its name begins neither with enroll nor with test',
                                   'feat/d: has test files, but no enrolment file',
                                   'feat/e/enroll.m4a: there is a wav of the same name'), strict=True):
        assert line.startswith(start)
    touch(*('feat/c/%02d.wav' % i for i in range(16)))
    lines = unused('feat', capsys)
    assert len(lines) == 21 and lines[-1] == '1 more'


def test_a_file_of_an_unknown_format_is_named(lab, capsys):
    """Without this line, nobody would hear why the speaker is not enrolled."""
    touch('feat/a/enroll.wav', 'feat/b/enroll.ra', 'feat/b/test.wav', 'feat/c/Enroll.ra')
    lines = unused('feat', capsys)
    assert len(lines) == 3
    assert lines[0].startswith('feat/b/enroll.ra: ') and lines[2].startswith('feat/c/Enroll.ra: ')
    assert lines[1].startswith('feat/b: has test files, but no enrolment file')


def test_a_speaker_may_have_several_folders(lab, capsys, monkeypatch):
    monkeypatch.setattr(c, 'SPEAKER_LEVEL', 2)
    touch('feat/a/one/enroll.wav', 'feat/a/two/test.wav', 'feat/b/one/test.wav')
    lines = unused('feat', capsys)
    assert len(lines) == 1 and lines[0].startswith('feat/b/one: has test files, but no enrolment file')


def test_a_folder_without_any_enrolment_file_is_refused(lab, scripts, capsys, stopped_with):
    touch('feat/a/test.wav', 'feat/b/me.wav')
    assert 'feat has no enrolment file' in stopped_with(enroll.main, **scripts())
    assert 'Not used: feat/b/me.wav' in capsys.readouterr().out


def test_a_bad_recording_does_not_stop_the_class(lab, scripts, no_ffmpeg, capsys, stopped_with):
    write_wav('feat/good/enroll.wav'), write_wav('feat/good/enroll2.wav'), write_wav('feat/good/test.wav')
    touch('feat/broken/enroll.wav', 'feat/other/enroll.m4a', 'feat/named/my_voice1.wav',
          'feat/silent/test.wav')
    os.mkdir('feat/empty')
    write_wav('feat/half/enroll.wav'), write_wav('feat/half/enroll2.wav', speech(0.2))
    message = stopped_with(enroll.main, **scripts())
    assert 'Not enrolled, for the reasons above: broken, half, other. The others are enrolled.' in message
    captured = capsys.readouterr()
    not_used = re.findall(r'Not used: feat/([\w./]+):', captured.out)
    assert not_used == ['empty', 'named/my_voice1.wav', 'silent']
    assert re.findall(r'Skipped (\w+): feat/([\w./]+): ', captured.err) == [
        ('broken', 'broken/enroll.wav'), ('half', 'half/enroll2.wav'), ('other', 'other/enroll.m4a')]
    assert 'ffmpeg -i feat/other/enroll.m4a feat/other/enroll.wav' in captured.err
    assert re.findall('Save the embeddings for (.*)', captured.out) == ['good']
    assert lab_model.read_enrolment('enroll_embeddings')[0].keys() == {'good'}
    identification.main(**scripts(test_speaker='good'))
    assert 'Result : True' in capsys.readouterr().out
