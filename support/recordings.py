"""Recordings of any kind, and the speech in them: where it is, how loud it is, what is wrong with it."""
import io
import os
import shutil
import subprocess
import warnings
from math import gcd

import numpy as np
from scipy.io import wavfile
from scipy.ndimage import binary_opening
from scipy.signal import butter, resample_poly, sosfilt

import configure as c
from support.checks import check_feature, level_or_configured, path_parts
from support.messages import LabError, NoSpeech, in_one_line
from support.safe_files import read_pickles, read_whole

# ------------------------------------------------------------------------------------------------- audio files

FFMPEG_FORMATS = ('.mp3', '.m4a', '.aac', '.flac', '.ogg', '.opus', '.wma', '.webm', '.mp4', '.3gp', '.amr')
MIN_RATE, MAX_RATE = 8000, 384000  # Hz


def is_wav(filename):
    return str(filename).lower().endswith('.wav')


def is_recording(filename):
    """Whether the name is that of a wav file, or of another audio file that ffmpeg can read."""
    return is_wav(filename) or str(filename).lower().endswith(FFMPEG_FORMATS)


def read_recording(filename):
    """Read a recording as it is.

    Returns (samples (n_samples, n_channels) float64 in [-1, 1], rate in Hz). Raises LabError if it cannot be read.
    """
    return read_wav(filename) if is_wav(filename) else read_through_ffmpeg(filename)


def read_wav(filename):
    """Read a wav file of 8, 16, 24 or 32-bit PCM or of floats. Returns what read_recording does."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', wavfile.WavFileWarning)  # chunks that scipy does not know, such as tags
            warnings.filterwarnings('error', 'Reached EOF')  # the file was cut off
            # From memory, because from a file scipy reserves as much memory as the header claims
            rate, samples = wavfile.read(io.BytesIO(read_whole(filename)))
    except (LabError, OSError):
        raise
    except Exception as error:  # a broken header can raise nearly anything
        raise LabError('%s: not a wav file that can be read (%s).\nOpen it in an audio program and save it as 16-bit '
                       'PCM wav, or convert it: ffmpeg -i %s new.wav' % (filename, in_one_line(error), filename)
                       ) from error
    if samples.size == 0:
        raise LabError('%s: holds no samples' % filename)
    samples = samples.reshape(len(samples), -1)  # (n_samples,) or (n_samples, n_channels) -> (n_samples, n_channels)
    if samples.dtype == np.uint8:  # 8-bit wavs are unsigned, with silence at 128
        return (samples - 128.0) / 128, rate
    if samples.dtype == np.int16:
        return samples / 2.0**15, rate
    if samples.dtype == np.int32:  # scipy puts 24-bit samples into the upper three bytes
        return samples / 2.0**31, rate
    if samples.dtype in (np.float32, np.float64):
        with np.errstate(invalid='ignore'):  # to_mono_at_rate refuses NaN
            return samples.astype(np.float64), rate
    raise LabError('%s: samples of type %s are not supported; save it as 16-bit PCM' % (filename, samples.dtype))


def read_through_ffmpeg(filename):
    """Read an audio file of another format with the program ffmpeg. Returns what read_recording does."""
    if shutil.which('ffmpeg') is None:
        raise LabError('%s: only wavs are read without ffmpeg, which is not installed. Install it, or convert the\n'
                       'file where it is: ffmpeg -i %s %s.wav' % (filename, filename, str(filename).rpartition('.')[0]))
    read_whole(filename)  # a pipe or a device is refused
    done = subprocess.run(['ffmpeg', '-nostdin', '-loglevel', 'error', '-protocol_whitelist', 'file,pipe', '-i',
                           'file:%s' % filename, '-f', 'f32le', '-ac', '1', '-ar', str(c.SAMPLE_RATE), '-'],
                          capture_output=True)
    samples = np.frombuffer(done.stdout[:len(done.stdout) // 4 * 4], '<f4')
    if done.returncode or not len(samples):
        raise LabError('%s: ffmpeg cannot read it (%s)'
                       % (filename, in_one_line(done.stderr.decode(errors='replace') or 'it holds no sound')))
    return samples[:, None].astype(np.float64), c.SAMPLE_RATE


def to_mono_at_rate(samples, rate, sample_rate, filename):
    """(n_samples, n_channels) at `rate` -> (n_samples,) at `sample_rate`: channels averaged, polyphase resampling."""
    if not MIN_RATE <= rate <= MAX_RATE:
        raise LabError('%s: sampled at %d Hz, it must be %d to %d' % (filename, rate, MIN_RATE, MAX_RATE))
    if not np.isfinite(samples).all():
        raise LabError('%s: holds NaN or infinite samples' % filename)
    if np.abs(samples).max() > 2:  # a little above 1 is loud; this is not in [-1, 1] at all
        raise LabError('%s: float samples must lie in [-1, 1], these reach %g. Divide them by their full scale.'
                       % (filename, np.abs(samples).max()))
    audio = samples.mean(axis=1)
    common = gcd(rate, sample_rate)
    return audio if rate == sample_rate else resample_poly(audio, sample_rate // common, rate // common)


# ------------------------------------------------------------------------------------------------- speech

ACTIVE_RANGE = 40  # dB: frames within this of the loudest ones are speech
NOISE_MARGIN = 6  # dB: speech is at least this much louder than the background
SPEECH_RANGE = 10  # dB between loud and quiet frames; noise and hum have less
DIGITAL_SILENCE = -150  # dBFS: below this there is nothing, not even noise
LOUD_FRAMES = 10  # so many frames may be louder than the level called loud, because they can be clicks
SHORTEST_RUN = 5  # frames: speech lasts longer than a click
VOICE_LOWEST = 80  # Hz: below this there is hum and rumble, and no voice

# Limits of what_is_wrong and diagnose
FULL_SCALE, MAX_CLIPPED = 0.99, 1e-4  # larger samples are clipped; a larger share of them is too much
MIN_LEVEL = -65  # dBFS of speech: below this, 16 bits are coarse
MIN_SPEECH = 2  # seconds
MIN_SNR = 20  # dB from the background to the speech
MAX_FLOOR = 0.97  # share of the cells of the feature that lie on ENERGY_FLOOR; the slides' corpus has 0.86
MOST_NAMED = 20  # files that name_unused_files names
ADVICE = {'clipped': 'record with less gain', 'quiet': 'record at a higher level', 'short': 'record for longer',
          'noisy': 'the background is only %(noise).0f dB lower, record in a quieter place',
          'floor': 'hardly anything is above the floor'}
NARROW = 5000  # Hz: a recording without anything above this was made at 8 kHz, or came over a telephone


def frames_of(audio):
    """Audio (n_samples,) cut into pieces of 25 ms: (n_frames, n_samples of a frame)."""
    length = round(c.WIN_LENGTH * c.SAMPLE_RATE)
    return audio[:len(audio) // length * length].reshape(-1, length)


def frame_levels(audio):
    """Level of each 25 ms of audio (n_samples,), above VOICE_LOWEST: (n_frames,) mean power in dB, 0 at full scale."""
    high_pass = butter(8, VOICE_LOWEST, 'highpass', fs=c.SAMPLE_RATE, output='sos')
    frames = frames_of(sosfilt(high_pass, audio - audio.mean()))
    return 10 * np.log10(np.maximum(np.mean(frames ** 2, axis=1), 1e-20))


def loud_level(levels):
    """What counts as loud among levels (n_frames,): the level of the loudest frame that is no click."""
    return np.sort(levels)[-min(LOUD_FRAMES, len(levels))]


def find_speech(levels, filename):
    """Which frames hold speech, by their levels (n_frames,): (n_frames,) of bool. Raises LabError if there is none."""
    sounding = levels[levels > DIGITAL_SILENCE]
    if not len(sounding):
        raise NoSpeech('%s: is silent. Check the microphone and record again.' % filename)
    quiet, loud = np.percentile(sounding, 10), loud_level(sounding)
    threshold = max(loud - ACTIVE_RANGE, min(quiet + NOISE_MARGIN, loud - ACTIVE_RANGE / 2))
    is_speech = binary_opening(levels > threshold, np.ones(SHORTEST_RUN))
    if loud - quiet < SPEECH_RANGE or not is_speech.any():
        raise NoSpeech('%s: no speech stands out of a steady noise at %.0f dBFS. Record again.' % (filename, loud))
    return is_speech


def active_level(levels, is_speech):
    """Level of the speech in dBFS: the mean power of its frames. Pauses do not count (the idea of ITU-T P.56).

    levels, is_speech: (n_frames,). No frame counts more than loud_level, because it could be a click.
    """
    speech = levels[is_speech]
    return 10 * np.log10(np.mean(10 ** (np.minimum(speech, loud_level(speech)) / 10)))


def prepare_speech(audio, filename, level=None):
    """Bring the speech in audio (n_samples,) to a level in dBFS, with TRIM_SECONDS of silence before and after it.

    Features depend on the level, and read_MFB drops TRIM_SECONDS at both ends. The recordings of the slides' corpus
    agree in both; other recordings do not. If a recording has less silence, zeros take its place, so no speech is lost.
    level: None is LEVEL_DBFS of configure.py. If that is None, too, audio is returned as it is. Raises LabError if
    there is no speech.
    """
    level = level_or_configured(level)
    if level is None:
        return audio
    levels = frame_levels(audio)
    is_speech = find_speech(levels, filename)
    length, margin = round(c.WIN_LENGTH * c.SAMPLE_RATE), round(c.TRIM_SECONDS * c.SAMPLE_RATE)
    active = np.flatnonzero(is_speech)
    first, stop = active[0] * length, (active[-1] + 1) * length  # samples of speech
    missing = max(0, margin - first), max(0, stop + margin - len(audio))
    framed = np.pad((audio - audio.mean())[max(0, first - margin):stop + margin], missing)
    return framed * 10 ** ((level - active_level(levels, is_speech)) / 20)


def facts_of(samples, audio, filename):
    """What is known of a recording: dict of seconds of speech, its level in dBFS, how many dB the background is lower
    ('noise'), the highest frequency in Hz ('bandwidth') and the share of clipped samples ('clipped').

    samples: (n_samples, n_channels) as in the file; audio: (n_samples,) made mono. Raises LabError if there is no
    speech.
    """
    levels = frame_levels(audio)
    is_speech = find_speech(levels, filename)
    level = active_level(levels, is_speech)
    return {'seconds': is_speech.sum() * c.WIN_LENGTH, 'level': level, 'noise': level - np.percentile(levels, 10),
            'bandwidth': bandwidth_of(audio), 'clipped': np.mean(np.abs(samples) >= FULL_SCALE)}


def what_is_wrong(facts):
    """What is wrong with a recording of which facts_of says this: a list of some of ADVICE."""
    wrong = {'clipped': facts['clipped'] > MAX_CLIPPED, 'quiet': facts['level'] < MIN_LEVEL,
             'short': facts['seconds'] < MIN_SPEECH, 'noisy': facts['noise'] < MIN_SNR}
    return [name for name in wrong if wrong[name]]


def diagnose(samples, audio, log_energies, filename):
    """One line about a recording if something is wrong with it, otherwise None.

    samples, audio: as in facts_of; log_energies: (n_frames, FILTER_BANK) as from log_filterbank. Raises LabError if
    there is no speech.
    """
    facts = facts_of(samples, audio, filename)
    on_floor = np.mean(log_energies == log_energies.min(axis=0))  # the lowest value of each filter
    wrong = what_is_wrong(facts) + (['floor'] if on_floor > MAX_FLOOR else [])
    if not wrong:
        return None
    return ('%s: %.1f s of speech at %.0f dBFS, %.2f %% of the samples clipped, %.0f %% of the cells on the floor: %s'
            % (filename, facts['seconds'], facts['level'], 100 * facts['clipped'], 100 * on_floor,
               '; '.join(ADVICE[name] % facts for name in wrong)))


def check_two_recordings(enroll_file, test_file, level=None):
    """Print what is known of two recordings. Raises LabError, or prints a note, if they cannot well be compared.

    level: to which the model wants recordings brought (prepare_speech).
    """
    for filename in (enroll_file, test_file):
        if not os.path.isfile(filename) or not (is_recording(filename) or filename.endswith('.p')):
            raise LabError('%s: %s' % (filename, 'no recording. Give the name of a wav file.'
                                       if os.path.isfile(filename) else 'there is no such file.'))
        if is_recording(filename):
            describe_recording(filename)
    compare_origins({enroll_file: origin_of(enroll_file, level)}, test_file, level)


def seconds_of(filename):
    """Seconds of speech in a recording. Of a feature file, its length without TRIM_SECONDS at both ends."""
    if not is_recording(filename):
        return len(check_feature(read_pickles(filename)[0], filename, 'any')[0]) * c.WIN_STEP - 2 * c.TRIM_SECONDS
    return read_facts(filename)['seconds']


def read_facts(filename):
    """facts_of a recording. Raises LabError if it cannot be read, or holds no speech."""
    samples, rate = read_recording(filename)  # (n_samples, n_channels)
    audio = to_mono_at_rate(samples, rate, c.SAMPLE_RATE, filename)  # (n_samples,)
    return facts_of(samples, audio, filename)


def describe_recording(filename):
    """Print how a recording was made. Raises LabError if it cannot be read, or holds no speech."""
    facts = read_facts(filename)
    print('%s: %.1f s of speech at %.0f dBFS, background %.0f dB lower, up to %.1f kHz, %.2f %% clipped'
          % (filename, facts['seconds'], facts['level'], facts['noise'], facts['bandwidth'] / 1000,
             100 * facts['clipped']))


# ------------------------------------------------------------------------------------------------- its kind

def bandwidth_of(audio):
    """The highest frequency of the speech in audio (n_samples,), in Hz.

    That is the highest one with a 100,000th of the power of a frame, and five times that of the quietest frames, in one
    of twenty frames of speech.
    """
    frames = frames_of(audio)
    power = np.abs(np.fft.rfft(frames * np.hanning(frames.shape[1]), 512)) ** 2  # (n_frames, 257)
    total = power.sum(axis=1)
    is_speech, is_quiet = total > 1e-4 * total.max(), total <= np.percentile(total, 10)
    share = np.percentile(power[is_speech] / total[is_speech, None], 95, axis=0)  # (257,)
    loud, quiet = np.percentile(power[is_speech], 95, axis=0), power[is_quiet].mean(axis=0)
    share, loud, quiet = (np.convolve(line, np.ones(9) / 9, 'same') for line in (share, loud, quiet))
    heard = np.flatnonzero((share > 1e-5) & (loud > 5 * quiet))
    return float(heard.max(initial=0) * c.SAMPLE_RATE / 512)


def origin_of(filename, level=None):
    """How the recording behind a file was made: dict with 'LEVEL_DBFS' (None: not levelled) and 'bandwidth' in Hz.

    level: to which recordings are brought (prepare_speech).

    Both are None for a feature file that this suite did not make from a recording, such as the published ones.
    """
    if is_recording(filename):
        samples, rate = read_recording(filename)
        audio = to_mono_at_rate(samples, rate, c.SAMPLE_RATE, filename)
        find_speech(frame_levels(audio), filename)  # without speech there is no bandwidth
        return {'LEVEL_DBFS': level_or_configured(level), 'bandwidth': bandwidth_of(audio)}
    content = read_pickles(filename)[0]
    check_feature(content, filename, 'any')
    return {'LEVEL_DBFS': None, 'bandwidth': None, **content.get('recording', {})}


def is_of_recording(feat_file):
    """Whether this suite made a feature file from a recording. A file that cannot be read may be another program's."""
    try:
        content = read_pickles(feat_file)[0]
    except LabError:
        return False
    return isinstance(content, dict) and 'recording' in content


def same_origin(there, filename, level=None):
    """What origin_of says about another enrolment file of a speaker; there: about the files before, None at the first.

    Raises LabError if they differ in level. Prints a note if they differ in bandwidth; then the lower one counts.
    """
    here = origin_of(filename, level)
    if there is None:
        return here
    if there['LEVEL_DBFS'] != here['LEVEL_DBFS']:
        raise LabError('%s is %s, the enrolment files before it are %s. Make all of one kind.'
                       % (filename, in_words(here['LEVEL_DBFS']), in_words(there['LEVEL_DBFS'])))
    if differ_in_bandwidth(there, here):
        print('Note: %s has a bandwidth of %.1f kHz, the enrolment files before it of %.1f kHz: record all with one '
              'microphone.' % (filename, here['bandwidth'] / 1000, there['bandwidth'] / 1000))
    bandwidths = [origin['bandwidth'] for origin in (there, here) if origin['bandwidth'] is not None]
    return {**here, 'bandwidth': min(bandwidths, default=None)}


def differ_in_bandwidth(there, here):
    """Whether one of two origins lacks the frequencies above NARROW, and the other has them."""
    bandwidths = [there['bandwidth'], here['bandwidth']]
    return None not in bandwidths and min(bandwidths) < NARROW <= max(bandwidths)


def in_words(level):
    return 'not levelled' if level is None else 'levelled to %g dBFS' % level


def compare_origins(enrolled, filename, level=None):
    """Refuse a test file whose level cannot be compared with the enrolment. Print a note if its bandwidth differs.

    enrolled: dict speaker -> what origin_of says about the enrolment. Raises LabError for another level, because
    features and scores depend on it.
    """
    here = origin_of(filename, level)
    for speaker, there in enrolled.items():
        if there['LEVEL_DBFS'] != here['LEVEL_DBFS']:
            raise LabError('%s is %s, the enrolment of %s is %s: their scores cannot be compared.\nEnrol and test with '
                           'recordings of one kind, or set LEVEL_DBFS in configure.py and run python enroll.py.'
                           % (filename, in_words(here['LEVEL_DBFS']), speaker, in_words(there['LEVEL_DBFS'])))
    differ = [speaker for speaker, there in enrolled.items() if differ_in_bandwidth(there, here)]
    if differ:
        names = ', '.join(differ[:3]) + (' and %d others' % (len(differ) - 3) if len(differ) > 3 else '')
        print('Note: %s has a bandwidth of %.1f kHz, the enrolment of %s has %.1f kHz. The score will be lower than it '
              'should be. Record both with one microphone.'
              % (filename, here['bandwidth'] / 1000, names, enrolled[differ[0]]['bandwidth'] / 1000))


def name_unused_files(test_dir, used, enrolled):
    """Print what enroll.py does not use below test_dir, and why. Raises LabError if nobody has an enrolment file.

    used: list of the files that it or the test scripts use; enrolled: set of the speakers with an enrolment file.
    """
    used, lines = {os.path.abspath(filename) for filename in used}, []
    for folder, folders, names in sorted(os.walk(test_dir)):
        files = [os.path.join(folder, name).replace('\\', '/') for name in sorted(names) if not name.startswith('.')]
        unused = [filename for filename in files if os.path.abspath(filename) not in used]
        for filename in unused:
            can_be_read = is_recording(filename) or filename.endswith('.p')
            if os.path.basename(filename).lower().startswith(('enroll', 'test')):
                lines.append('%s: %s' % (filename, 'there is a wav of the same name' if can_be_read
                                         else 'files of this format are not read, convert it to wav'))
            elif can_be_read:
                lines.append('%s: its name begins neither with enroll nor with test' % filename)
        speaker = path_parts(folder)[-c.SPEAKER_LEVEL]
        if not folders and not files:
            lines.append('%s: the folder is empty' % folder)
        elif len(unused) < len(files) and speaker not in enrolled:
            lines.append('%s: has test files, but no enrolment file such as enroll.wav' % folder)
    for line in lines[:MOST_NAMED]:
        print('Not used: %s' % line)
    if len(lines) > MOST_NAMED:
        print('Not used: %d more' % (len(lines) - MOST_NAMED))
    if not enrolled:
        raise LabError('%s has no enrolment file. Each speaker needs a folder there with enroll.wav or enroll.p.'
                       % test_dir)
