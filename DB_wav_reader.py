"""Find the data, and turn wav files into feature files.

    python DB_wav_reader.py

Reads every wav under TRAIN_WAV_DIR and TEST_WAV_DIR (configure.py) and writes
DIR/<speaker>/<utterance>.p under TRAIN_FEAT_DIR and TEST_FEAT_DIR, only what is missing or older than its wav.
Ten minutes of audio take one to two seconds on one core.

The other scripts import from here what they need to find and read files: the DataFrame loaders, the audio reader, the
feature recipe, and the pickle reader that executes nothing.
"""
import io
import multiprocessing
import os
import pickle
import pickletools
import platform
import signal
import sys
import threading
import warnings
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from glob import glob, escape
from math import gcd
from pathlib import Path


def end_uncaught(kind, error, traceback):
    """Ctrl-C while the packages are still being loaded ends a script in one line, too."""
    if KeyboardInterrupt in (kind, type(error.__cause__)):  # Python may wrap it on the way
        print('Stopped by Ctrl-C.', file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, traceback)


sys.excepthook = end_uncaught

# Before numpy is loaded: in_parallel keeps all cores busy, threads of numpy's own would take them from each other
os.environ.setdefault('OPENBLAS_NUM_THREADS', '1')

import matplotlib  # noqa: E402
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from python_speech_features import delta, fbank, lifter  # noqa: E402
from python_speech_features.sigproc import preemphasis, round_half_up  # noqa: E402
from scipy.fft import dct  # noqa: E402
from scipy.io import wavfile  # noqa: E402
from scipy.ndimage import binary_opening  # noqa: E402
from scipy.signal import butter, resample_poly, sosfilt  # noqa: E402
from tqdm import tqdm  # noqa: E402

import configure as c  # noqa: E402

matplotlib.use('Agg')  # write pictures, open no window
import matplotlib.pyplot as plt  # noqa: E402  (after the choice of how to draw)


class LabError(Exception):
    """Something the person at the keyboard can mend: the message says what is wrong, where, and what to do next."""


def in_one_line(error):
    """The message of an exception, short enough to stand inside another."""
    return ' '.join(str(error).split())[:200] or type(error).__name__


def run_script(main):
    """Call main(); a mistake of the user ends in one or two lines on stderr and exit code 1, never in a traceback."""
    try:
        main()
    except (LabError, OSError) as error:
        sys.exit('Error: %s' % error)
    except KeyboardInterrupt:
        sys.exit('Stopped by Ctrl-C.')


# ----------------------------------------------------------------------------------------------- finding files

def find_wavs(directory, pattern='**/*.[wW][aA][vV]'):
    """Sorted list of the wav files anywhere below `directory`."""
    return sorted(glob(os.path.join(escape(str(directory)), pattern), recursive=True))


OTHER_AUDIO = ['.mp3', '.m4a', '.aac', '.flac', '.ogg', '.opus', '.wma']


def is_wav(filename):
    return str(filename).lower().endswith('.wav')


def find_feats(directory, pattern='**/*.p'):
    """Sorted list of the feature files anywhere below `directory`."""
    return sorted(glob(os.path.join(escape(str(directory)), pattern), recursive=True))


def path_parts(filename):
    """The folders of a file, from the root on, and its name; of Windows paths, too."""
    return os.path.abspath(filename).replace('\\', '/').split('/')


def speaker_of(filename):
    """The speaker of a file: the name of the folder it lies in, or of one further up (SPEAKER_LEVEL)."""
    return path_parts(filename)[-1 - c.SPEAKER_LEVEL]


def sex_of(speaker):
    """'F' or 'M' where the speaker's name says so as in the slides' corpus (103F3021), '' otherwise."""
    return speaker[3] if speaker[:3].isdigit() and speaker[3:4] in ('F', 'M') else ''


def check_speaker_folder(filename, directory):
    """Raise LabError for a file that lies in no speaker's folder below `directory`: not deep enough."""
    if len(Path(filename).relative_to(directory).parts) <= c.SPEAKER_LEVEL:
        place = '%s/<speaker>/' % directory + '<video>/' * (c.SPEAKER_LEVEL - 1)
        raise LabError('%s: lies in no speaker folder. Move it to %s, or see SPEAKER_LEVEL in configure.py.'
                       % (filename, place))


def make_DB(filenames, directory, kind, advice):
    """DataFrame with a row per file: filename, speaker_id (speaker_of), dataset_id (the folder above that).

    Raises LabError, with the advice, where there are no files of this kind, and where one is in no speaker's folder.
    """
    if not filenames:
        problem = 'holds no %s files' % kind if os.path.isdir(directory) else 'does not exist'
        raise LabError('%s %s. %s' % (directory, problem, advice))
    for filename in filenames:
        check_speaker_folder(filename, directory)
    DB = pd.DataFrame({'filename': filenames}, dtype=object)
    DB['filename'] = [name.replace('\\', '/') for name in DB['filename']]  # Windows paths
    DB['speaker_id'] = [speaker_of(name) for name in DB['filename']]
    DB['dataset_id'] = [path_parts(name)[-2 - c.SPEAKER_LEVEL] for name in DB['filename']]
    return DB


def read_DB_structure(directory):
    """DataFrame (filename, speaker_id, dataset_id) of the wav files below `directory`, sorted by filename.

    Raises LabError where the folder is missing or holds no wav file.
    """
    return make_DB(find_wavs(directory), directory, 'wav',
                   'Put recordings there as <speaker>/<name>.wav, or set another folder in configure.py.')


def read_feats_structure(directory):
    """DataFrame (filename, speaker_id, dataset_id) of the feature files below `directory`, sorted by filename.

    Raises LabError where the folder is missing or holds no feature file.
    """
    return make_DB(find_feats(directory), directory, 'feature',
                   'Run python DB_wav_reader.py to make them from your wavs, or set another\nfolder in configure.py; '
                   'demo voices are made only in the folders that the project came with.')


def read_feats_and_wavs(directory):
    """DataFrame (filename, speaker_id, dataset_id) of the feature files and the wavs below `directory`.

    Raises LabError where there are none, and where a recording is there both as a wav and as features.
    """
    DB = make_DB(sorted(find_feats(directory) + find_wavs(directory)), directory, 'feature or wav',
                 'Each speaker needs a folder there with\nenroll.wav and test.wav, or with enroll.p and test.p.')
    stems = Counter(os.path.splitext(filename)[0] for filename in DB['filename'])
    stem, count = stems.most_common(1)[0]
    if count > 1:
        raise LabError('%s is there as a wav and as a feature file. Remove one of them.' % stem)
    return DB


def split_enroll_and_test(dataroot_dir):
    """(enroll_DB, test_DB): the files below `dataroot_dir` whose names begin with 'enroll' and with 'test'.

    Raises LabError where one of the two kinds is missing, and as read_feats_and_wavs.
    """
    DB_all = read_feats_and_wavs(dataroot_dir)
    names = [os.path.basename(filename).lower() for filename in DB_all['filename']]
    enroll_DB = DB_all[[name.startswith('enroll') for name in names]].reset_index(drop=True)
    test_DB = DB_all[[name.startswith('test') for name in names]].reset_index(drop=True)
    folders = {}
    for filename, speaker in zip(DB_all['filename'], DB_all['speaker_id']):
        folder = '/'.join(path_parts(filename)[:-c.SPEAKER_LEVEL])
        if folders.setdefault(speaker, folder) != folder:
            raise LabError('%s and %s are both a folder of speaker %s, who can be enrolled once.\nRename one, or move '
                           'its files into the other.' % (folders[speaker], folder, speaker))
    if enroll_DB.empty or test_DB.empty:
        raise LabError('%s has %d enrolment and %d test files. Each speaker needs a folder there with\n'
                       'enroll.wav and test.wav, or with enroll.p and test.p.'
                       % (dataroot_dir, len(enroll_DB), len(test_DB)))
    return enroll_DB, test_DB


def test_file_of(test_speaker, test_DB):
    """The test file of a speaker; or test_speaker itself, where it is a wav or feature file.

    Raises LabError, with the speakers there are, for an unknown one.
    """
    suffix = os.path.splitext(str(test_speaker))[1].lower()
    if suffix in OTHER_AUDIO:
        raise LabError('%s: only wavs are read. Convert it first, for example: ffmpeg -i %s test.wav'
                       % (test_speaker, test_speaker))
    if is_wav(test_speaker) or str(test_speaker).endswith('.p'):
        if not os.path.isfile(test_speaker):
            raise LabError('test_speaker = %r: there is no such file.' % test_speaker)
        return test_speaker
    filenames = test_DB['filename'][test_DB['speaker_id'] == test_speaker]
    if filenames.empty:
        raise LabError('There is no test file of test_speaker = %r. Choose one of %s, or the name of a wav file.'
                       % (test_speaker, ', '.join(sorted(set(test_DB['speaker_id'])))))
    return filenames.iloc[0]


# ------------------------------------------------------------------------------------------------- audio files

MIN_RATE, MAX_RATE = 8000, 384000  # Hz
MAX_ODD_RATE = 48000  # Hz: of higher rates, those that share no factor with ours take a filter of a million taps


def read_wav(filename):
    """Read a wav file as it is.

    Returns (samples (n_samples, n_channels) float64 in [-1, 1], rate in Hz, kind such as '16-bit PCM').
    Raises LabError for anything but 8, 16, 24 and 32-bit PCM and float.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', wavfile.WavFileWarning)  # chunks of tags that scipy does not know
            warnings.filterwarnings('error', 'Reached EOF')  # a file that was cut off
            # From memory: reading a file, scipy sets aside as much memory as the header claims
            rate, samples = wavfile.read(io.BytesIO(read_whole(filename)))
    except (LabError, OSError):
        raise
    except Exception as error:  # scipy's parser raises whatever a broken header leads it into
        raise LabError('%s: not a wav file that can be read (%s)' % (filename, in_one_line(error))) from error
    if samples.size == 0:
        raise LabError('%s: holds no samples' % filename)
    samples = samples.reshape(len(samples), -1)  # (n_samples,) or (n_samples, n_channels) -> (n_samples, n_channels)
    if samples.dtype == np.uint8:  # 8-bit wavs are unsigned, with silence at 128
        return (samples - 128.0) / 128, rate, '8-bit PCM'
    if samples.dtype == np.int16:
        return samples / 2.0**15, rate, '16-bit PCM'
    if samples.dtype == np.int32:  # scipy puts 24-bit samples into the upper three bytes
        return samples / 2.0**31, rate, '32-bit PCM' if np.any(samples & 0xFF) else '24-bit PCM'
    if samples.dtype in (np.float32, np.float64):
        n_bits = 8 * samples.itemsize
        with np.errstate(invalid='ignore'):  # NaN is for to_mono_at_rate to refuse
            samples = samples.astype(np.float64)
        return samples, rate, '%d-bit float' % n_bits
    raise LabError('%s: samples of type %s are not supported; save it as 16-bit PCM' % (filename, samples.dtype))


def to_mono_at_rate(samples, rate, sample_rate, filename):
    """(n_samples, n_channels) at `rate` -> (n_samples,) at `sample_rate`: channels averaged, polyphase resampling."""
    if not MIN_RATE <= rate <= MAX_RATE:
        raise LabError('%s: sampled at %d Hz, it must be %d to %d' % (filename, rate, MIN_RATE, MAX_RATE))
    if not np.isfinite(samples).all():
        raise LabError('%s: holds NaN or infinite samples' % filename)
    if np.abs(samples).max() > 2:  # a little above 1 is loud, this is not in [-1, 1] at all
        raise LabError('%s: float samples must lie in [-1, 1], these reach %g. Divide them by their full scale.'
                       % (filename, np.abs(samples).max()))
    audio = samples.mean(axis=1)
    if rate == sample_rate:
        return audio
    common = gcd(rate, sample_rate)
    if rate // common > MAX_ODD_RATE:
        raise LabError('%s: sampled at %d Hz, an odd rate; resample it to %d' % (filename, rate, sample_rate))
    return resample_poly(audio, sample_rate // common, rate // common)


def read_audio(filename, sample_rate=c.SAMPLE_RATE):
    """Read a wav file: mono float64 array in [-1, 1] at `sample_rate`, whatever its format, channels and rate.

    Raises LabError, with the file's name, for a file that cannot be used.
    """
    samples, rate, _ = read_wav(filename)
    return to_mono_at_rate(samples, rate, sample_rate, filename)


# ------------------------------------------------------------------------------------------- level and ends of speech

ACTIVE_RANGE = 40  # dB: frames within this of the loudest ones are speech
NOISE_MARGIN = 6  # dB: and they stand out of the background by this
SPEECH_RANGE = 10  # dB between loud and quiet frames; noise and hum have less
DIGITAL_SILENCE = -150  # dBFS: below this there is nothing, not even noise
LOUD_FRAMES = 10  # as many may be louder than what counts as loud: clicks
SHORTEST_RUN = 5  # frames: speech lasts longer than a click and its ringing
VOICE_LOWEST = 80  # Hz: what is below is hum, rumble and offset, and no voice

# What diagnose finds off
FULL_SCALE, MAX_CLIPPED = 0.99, 1e-4  # samples from here on are clipped; more than this share of them is too much
MIN_LEVEL = -65  # dBFS of speech: below, 16 bits are coarse
MIN_SPEECH = 2  # seconds
MIN_SNR = 20  # dB from the background to the speech
MAX_FLOOR = 0.97  # share of the feature's cells on ENERGY_FLOOR; the slides' corpus has 0.86


def frame_levels(audio):
    """Level of each 25 ms of audio (n_samples,), above VOICE_LOWEST: (n_frames,) mean power in dB, 0 at full scale."""
    length = round(c.WIN_LENGTH * c.SAMPLE_RATE)
    high_pass = butter(8, VOICE_LOWEST, 'highpass', fs=c.SAMPLE_RATE, output='sos')
    voice = sosfilt(high_pass, audio - audio.mean())
    frames = voice[:len(audio) // length * length].reshape(-1, length)  # (n_frames, length)
    return 10 * np.log10(np.maximum(np.mean(frames ** 2, axis=1), 1e-20))


def loud_level(levels):
    """What counts as loud among levels (n_frames,): that of the loudest frames but for clicks."""
    return np.sort(levels)[-min(LOUD_FRAMES, len(levels))]


def find_speech(levels, filename):
    """Which frames hold speech, by their levels (n_frames,): (n_frames,) of bool. Raises LabError where none does."""
    sounding = levels[levels > DIGITAL_SILENCE]
    if not len(sounding):
        raise LabError('%s: is silent. Check the microphone and record again.' % filename)
    quiet, loud = np.percentile(sounding, 10), loud_level(sounding)
    threshold = max(loud - ACTIVE_RANGE, min(quiet + NOISE_MARGIN, loud - ACTIVE_RANGE / 2))
    is_speech = binary_opening(levels > threshold, np.ones(SHORTEST_RUN))
    if loud - quiet < SPEECH_RANGE or not is_speech.any():
        raise LabError('%s: no speech stands out of a steady noise at %.0f dBFS. Record again.' % (filename, loud))
    return is_speech


def active_level(levels, is_speech):
    """Level of speech in dBFS: the mean power of its frames, after the idea of ITU-T P.56 (pauses do not count).

    levels, is_speech: (n_frames,). No frame counts more than loud_level: a click would.
    """
    speech = levels[is_speech]
    return 10 * np.log10(np.mean(10 ** (np.minimum(speech, loud_level(speech)) / 10)))


def prepare_speech(audio, filename):
    """Bring the speech in audio (n_samples,) to LEVEL_DBFS, with exactly TRIM_SECONDS of silence before and after it.

    Features depend on the level, and read_MFB drops TRIM_SECONDS at both ends: the recordings of the slides' corpus are
    alike in both, those of the rest of the world are not. Where the recording has less silence, zeros take its place:
    nothing is lost of VoxCeleb's, which are cut in the middle of speech.
    Where LEVEL_DBFS is None, audio is returned as it is. Raises LabError where there is no speech.
    """
    if c.LEVEL_DBFS is None:
        return audio
    levels = frame_levels(audio)
    is_speech = find_speech(levels, filename)
    length, margin = round(c.WIN_LENGTH * c.SAMPLE_RATE), round(c.TRIM_SECONDS * c.SAMPLE_RATE)
    active = np.flatnonzero(is_speech)
    first, stop = active[0] * length, (active[-1] + 1) * length  # samples of speech
    missing = max(0, margin - first), max(0, stop + margin - len(audio))
    framed = np.pad((audio - audio.mean())[max(0, first - margin):stop + margin], missing)
    return framed * 10 ** ((c.LEVEL_DBFS - active_level(levels, is_speech)) / 20)


def diagnose(samples, audio, log_energies, filename):
    """One line about a recording where something is off, None otherwise.

    samples: (n_samples, n_channels) as in the file; audio: (n_samples,) made mono; log_energies: (n_frames,
    FILTER_BANK) as from log_filterbank. Raises LabError where there is no speech.
    """
    levels = frame_levels(audio)
    is_speech = find_speech(levels, filename)
    level, seconds = active_level(levels, is_speech), is_speech.sum() * c.WIN_LENGTH
    clipped = np.mean(np.abs(samples) >= FULL_SCALE)
    on_floor = np.mean(log_energies == log_energies.min(axis=0))  # the lowest there is, for each filter
    noise = np.percentile(levels, 10)
    advice = [('record with less gain', clipped > MAX_CLIPPED),
              ('record at a higher level', level < MIN_LEVEL),
              ('record for longer', seconds < MIN_SPEECH),
              ('the background is just %.0f dB lower, record in a quieter place' % (level - noise),
               level - noise < MIN_SNR),
              ('hardly anything is above the floor', on_floor > MAX_FLOOR)]
    needed = [sentence for sentence, holds in advice if holds]
    if not needed:
        return None
    return ('%s: %.1f s of speech at %.0f dBFS, %.2f %% of the samples clipped, %.0f %% of the cells on the floor: %s'
            % (filename, seconds, level, 100 * clipped, 100 * on_floor, '; '.join(needed)))


# ---------------------------------------------------------------------------------------------------- features

# What decides what a feature is, as it was for the published feature files
PUBLISHED_SETTINGS = {'SAMPLE_RATE': 16000, 'WIN_LENGTH': 0.025, 'WIN_STEP': 0.01, 'FILTER_BANK': 40,
                      'ENERGY_FLOOR': 1e-5, 'USE_MFCC': False, 'N_CEPSTRUM': 20, 'USE_LOGSCALE': True,
                      'USE_DELTA': False, 'USE_SCALE': False}
PRE_EMPHASIS = 0.97  # of each sample, so much of the one before is subtracted: as the library does by itself
FRAMES_AT_ONCE = 6000  # whose spectra are held in memory: a minute takes 100 MB
DELTA_FRAMES = 1  # differences are taken from this many frames before to as many after, as in the original lab
SCALE_FLOOR = 2e-12  # added to the standard deviation: a row may be constant


def feature_settings():
    """What configure.py says about features: written into feature files and checkpoints, compared on reading them."""
    settings = {name: getattr(c, name) for name in PUBLISHED_SETTINGS}
    unused = 'USE_LOGSCALE' if c.USE_MFCC else 'N_CEPSTRUM'  # whatever it says, features are the same
    settings[unused] = PUBLISHED_SETTINGS[unused]
    return settings


def are_settings(settings):
    """Whether these can be the settings of a file: a dict of names and numbers."""
    return isinstance(settings, dict) and len(settings) < 100 and all(
        is_name(name) and isinstance(value, (bool, int, float)) for name, value in settings.items())


def is_name(text):
    """Whether this can be the name of a speaker, a setting or a file in a message: one line of ordinary letters."""
    return isinstance(text, str) and text.isprintable() and len(text) <= 300


def other_settings(settings):
    """Where the settings of a file differ from configure.py, in words; '' where they do not.

    What the dict `settings` lacks is as published: the original lab did not write settings down.
    """
    there, here = {**PUBLISHED_SETTINGS, **settings}, feature_settings()
    return ', '.join('%s = %s there, %s in configure.py' % (name, there[name], here.get(name))
                     for name in there if there[name] != here.get(name))


def require_log_filterbank(what):
    """Raise LabError, naming what asks for it, where configure.py describes other features than log filterbanks."""
    if c.USE_MFCC or c.USE_DELTA or c.USE_SCALE or not c.USE_LOGSCALE:
        raise LabError('%s works on log filterbank energies: in configure.py, set USE_LOGSCALE = True,\n'
                       'and USE_MFCC, USE_DELTA and USE_SCALE to False.' % what)


def feature_size():
    """The number of rows of a feature map, n_dims: the filters or coefficients, three times as many with USE_DELTA."""
    return (c.N_CEPSTRUM if c.USE_MFCC else c.FILTER_BANK) * (3 if c.USE_DELTA else 1)


def extract_features(audio):
    """The feature of mono audio (float in [-1, 1], SAMPLE_RATE): (n_frames, feature_size()) float64.

    As configure.py stands, by the recipe of the published feature files: filterbank energies of 25 ms rectangular
    windows every 10 ms, floored, in 20*log10, minus their mean over the utterance, per filter. Raises as log_filterbank
    and finish_features.
    """
    return finish_features(log_filterbank(audio))


def log_filterbank(audio):
    """Floored mel filterbank energies of mono audio in 20*log10: (n_frames, FILTER_BANK) float64.

    Raises ValueError for integers and several channels.
    """
    if audio.ndim != 1 or audio.dtype.kind != 'f':  # the library would take them without a word, and be wrong
        raise ValueError('audio must be one channel of floats in [-1, 1]; read_audio returns that')
    length, step = (int(round_half_up(seconds * c.SAMPLE_RATE)) for seconds in (c.WIN_LENGTH, c.WIN_STEP))
    n_frames = 1 + max(0, -(-(len(audio) - length) // step))  # the last one is filled up with zeros
    emphasised = preemphasis(audio, PRE_EMPHASIS)
    energies = []
    for first in range(0, n_frames, FRAMES_AT_ONCE):  # an hour in one go would take 6 GB
        part = emphasised[first * step:(first + FRAMES_AT_ONCE - 1) * step + length]
        energies.append(fbank(part, c.SAMPLE_RATE, c.WIN_LENGTH, c.WIN_STEP, c.FILTER_BANK, preemph=0)[0])
    return 20 * np.log10(np.maximum(np.vstack(energies), c.ENERGY_FLOOR))


def finish_features(log_energies):
    """Make the feature that configure.py describes of log energies (n_frames, FILTER_BANK), in 20*log10 and floored.

    Returns (n_frames, feature_size()) float64: filters or cepstral coefficients, then their first differences, then the
    second ones; each row normalised over the utterance. Raises LabError for too large an N_CEPSTRUM.
    """
    if c.USE_MFCC:
        if c.N_CEPSTRUM > c.FILTER_BANK:
            raise LabError('N_CEPSTRUM = %s in configure.py: FILTER_BANK = %s filters give no more coefficients than '
                           'that.\nLower the one or raise the other.' % (c.N_CEPSTRUM, c.FILTER_BANK))
        natural = log_energies * np.log(10) / 20  # cepstra are of natural logarithms
        static = lifter(dct(natural, type=2, axis=1, norm='ortho')[:, :c.N_CEPSTRUM])  # as the library's mfcc does
    else:
        static = log_energies if c.USE_LOGSCALE else 10 ** (log_energies / 20)
    blocks = [static]
    if c.USE_DELTA:
        blocks.append(delta(static, DELTA_FRAMES))
        blocks.append(delta(blocks[1], DELTA_FRAMES))
    feature = np.hstack(blocks)
    feature = feature - feature.mean(axis=0)
    return feature / (feature.std(axis=0) + SCALE_FLOOR) if c.USE_SCALE else feature


def feature_of_wav(filename):
    """What the lab makes of a wav file: (feature (n_frames, feature_size()), kind of wav, line of diagnose or
    None).

    Raises LabError for a file that cannot be used, holds no speech, or too little.
    """
    samples, rate, kind = read_wav(filename)  # (n_samples, n_channels)
    audio = to_mono_at_rate(samples, rate, c.SAMPLE_RATE, filename)  # (n_samples,)
    log_energies = log_filterbank(prepare_speech(audio, filename))  # (n_frames, FILTER_BANK)
    feature = finish_features(log_energies)
    trim_silence(feature, filename)  # raises for a recording too short to be used
    channels = {1: 'mono', 2: 'stereo'}.get(samples.shape[1], '%d channels' % samples.shape[1])
    return feature, '%s, %d Hz, %s' % (kind, rate, channels), diagnose(samples, audio, log_energies, filename)


def trim_silence(feature, filename):
    """Drop TRIM_SECONDS at both ends: (n_frames, n_dims) -> (fewer, n_dims). Raises LabError if too short."""
    n_trim = round(c.TRIM_SECONDS / c.WIN_STEP)  # frames at each end
    trimmed = feature[n_trim:max(n_trim, len(feature) - n_trim)]
    if len(trimmed) <= c.MIN_FRAMES:
        raise LabError('%s: %d frames, %d after trimming %g s at both ends: more than %d are needed'
                       % (filename, len(feature), len(trimmed), c.TRIM_SECONDS, c.MIN_FRAMES))
    return trimmed


def write_feature(filename, feature, label):
    """Write the feature file {'feat': feature (n_frames, feature_size()), 'label': speaker}.

    Where configure.py says something else than the published files' settings, they are its third entry, 'settings'.
    """
    content = {'feat': feature, 'label': label}
    if feature_settings() != PUBLISHED_SETTINGS:
        content['settings'] = feature_settings()
    write_pickles(filename, content)


# ---------------------------------------------------------------------------------- files written whole, read safely

COMPUTER = platform.node()  # the folder may be shared, and numbers of processes are those of one computer


@contextmanager
def written_whole(filename):
    """The path to write to in place of `filename`, which appears when the `with` ends well: whole or not at all.

    Raises LabError where the disk is full or the folder must not be written to.
    """
    filename = Path(filename)
    temporary = filename.with_name('.%s_%d_%s' % (COMPUTER, os.getpid(), filename.name))
    try:
        filename.parent.mkdir(parents=True, exist_ok=True)
        remove_left_overs(filename)
        yield temporary
        os.replace(temporary, filename)
    except OSError as error:
        raise LabError('%s cannot be written: %s. What was there before is as it was.\nMake room, or set another '
                       'folder, then run this again.' % (filename, error.strerror or error)) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def remove_left_overs(filename):
    """Delete what processes of this computer that were killed had written of `filename`."""
    for temporary in filename.parent.glob('.%s_[0-9]*_%s' % (escape(COMPUTER), escape(filename.name))):
        pid = temporary.name.removeprefix('.%s_' % COMPUTER).partition('_')[0]
        if pid.isdigit() and os.name != 'nt':  # Windows has no such question: what is left over stays
            try:
                os.kill(int(pid), 0)  # no signal, but the question whether this process is there
            except ProcessLookupError:
                temporary.unlink(missing_ok=True)
            except (OSError, OverflowError):  # it is somebody else's, or no number of a process
                pass


def read_whole(filename):
    """The bytes of a file. Raises LabError for a pipe or a device, on which one might wait for ever."""
    if os.path.exists(filename) and not os.path.isfile(filename):
        raise LabError('%s: not a file' % filename)
    return Path(filename).read_bytes()


def write_pickles(filename, *objects):
    """Pickle the objects one after another into `filename`."""
    with written_whole(filename) as temporary, open(temporary, 'wb') as f:
        for obj in objects:
            pickle.dump(obj, f, protocol=4)  # numpy 1 cannot read arrays of protocol 5


# Colours that stay apart for the colour-blind (Okabe & Ito 2008), letters that can be read at 800 pixels
BLUE, ORANGE, GREEN, PURPLE, BLACK = '#0072B2', '#D55E00', '#009E73', '#CC79A7', '#000000'
plt.rcParams.update({'figure.figsize': (8, 6), 'figure.dpi': 100, 'font.size': 12, 'axes.titlesize': 13,
                     'axes.grid': True, 'grid.alpha': 0.3, 'axes.spines.top': False, 'axes.spines.right': False,
                     'axes.prop_cycle': plt.cycler(color=[BLUE, ORANGE, GREEN, PURPLE, BLACK])})


def save_picture(fig, filename):
    """Write a figure as PNG, whole or not at all, and print where."""
    fig.tight_layout()
    with written_whole(filename) as temporary:
        fig.savefig(temporary, format='png')
    plt.close(fig)
    print('Picture: %s' % filename)


# What Python 3 and numpy write for plain data and arrays. Missing are those that call in other ways, and numbers and
# strings as text
OPCODES = set('''PROTO FRAME STOP MARK MEMOIZE BINPUT LONG_BINPUT BINGET LONG_BINGET GLOBAL STACK_GLOBAL REDUCE BUILD
    NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 BINFLOAT SHORT_BINUNICODE BINUNICODE SHORT_BINBYTES BINBYTES BINBYTES8
    BYTEARRAY8 EMPTY_DICT SETITEM SETITEMS EMPTY_LIST APPEND APPENDS EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3'''.split())
FREE_OPCODES = 10000  # a small file may have so many; beyond them, an opcode needs BYTES_PER_OPCODE
BYTES_PER_OPCODE = 4  # of the whole file: `]` is one byte there and a list of 56 in memory


def skim_pickle(stream, size, opcodes=OPCODES):
    """Read on in `stream` to the end of a pickle, and execute nothing. Returns its bytes.

    Raises UnpicklingError where it needs other opcodes, or more of them, or more memory than a file of `size` bytes
    honestly can; ValueError where it is broken.
    """
    start = stream.tell()
    for n_before, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
        if opcode.name not in opcodes:
            raise pickle.UnpicklingError('opcode %s is not allowed in it' % opcode.name)
        if n_before > FREE_OPCODES + size / BYTES_PER_OPCODE:
            raise pickle.UnpicklingError('it has too many parts for its size')
        if opcode.name == 'LONG_BINPUT' and argument > n_before:  # room is made for as many before it
            raise pickle.UnpicklingError('it claims to have more parts than it has')
    return stream.getvalue()[start:stream.tell()]


class PickledDtype:
    """What numpy.dtype is while a pickle is read. Called with a code such as 'f8'; the byte order follows."""
    codes = ['b1', 'i1', 'i2', 'i4', 'i8', 'u1', 'u2', 'u4', 'u8', 'f2', 'f4', 'f8']

    def __init__(self, code, *flags):
        self.code, self.order = code, '|'

    def __setstate__(self, state):
        self.order = state[1]

    def to_numpy(self):
        if self.code not in self.codes or self.order not in ['<', '>', '=', '|']:  # numpy reads whole programs here
            raise pickle.UnpicklingError('an array of something else than numbers')
        return np.dtype(self.order + self.code)


class PickledArray:
    """What an array is while a pickle is read: numpy sees its bytes, and none of the pickle's claims about them."""

    def __init__(self, *type_and_shape_to_start_with):
        self.array = None

    def __setstate__(self, state):
        _, shape, dtype, is_fortran, content = state
        # Not a copy: a thousand arrays may name the same bytes
        self.array = np.frombuffer(content, dtype.to_numpy()).reshape(shape, order='F' if is_fortran else 'C')


class PickledBuffer(PickledArray):
    """What an array of protocol 5 is. A class: a pickle could set the attributes of a function."""

    def __init__(self, content, dtype, shape, order):
        self.__setstate__((1, shape, dtype, order == 'F', content))


class PickledDict(dict):
    """What a dict is while a pickle is read. Keys are names or numbers: looking up nested tuples can take for ever."""
    __slots__ = ()

    def __init__(self):
        super().__init__()

    def __setitem__(self, key, value):
        if not isinstance(key, (str, int)):
            raise pickle.UnpicklingError('a key of a dict is neither a name nor a number')
        super().__setitem__(key, value)

    def __setstate__(self, state):
        """Without it, a pickle could set the attributes of this class."""


class PlainUnpickler(pickle._Unpickler):  # the one in Python, whose dicts can be others
    """Unpickler for plain containers, strings, numbers and what is in `allowed`: everything else is refused by name.

    A pickle can name any function for the unpickler to call (see "Restricting Globals" in the documentation of
    Python's pickle); looking the names up here and nowhere else is what keeps a file from running code.
    """
    dispatch = {**pickle._Unpickler.dispatch, pickle.EMPTY_DICT[0]: lambda self: self.append(PickledDict())}
    allowed = {}

    def find_class(self, module, name):
        if (module, name) not in self.allowed:
            raise pickle.UnpicklingError('%s.%s is not allowed in it' % (module, name))
        return self.allowed[module, name]


class ArrayUnpickler(PlainUnpickler):
    """Unpickler for plain data and arrays of numbers."""
    allowed = {
        ('numpy', 'ndarray'): 'numpy.ndarray',  # only ever an argument: a string cannot be called
        ('numpy', 'dtype'): PickledDtype,
        ('numpy.core.multiarray', '_reconstruct'): PickledArray,  # written with numpy 1
        ('numpy._core.multiarray', '_reconstruct'): PickledArray,  # written with numpy 2
        ('numpy._core.numeric', '_frombuffer'): PickledBuffer,  # written with numpy 2 and protocol 5
    }


def with_arrays(content, room):
    """Replace every PickledArray in nested dicts, lists and tuples by its array.

    room: [bytes of the file], used up on the way: whatever is not there twice takes at least a byte, an array all its
    own. Raises UnpicklingError where that is not enough: lists of lists of the same list grow without end.
    """
    is_array = isinstance(content, PickledArray)
    room[0] -= max(1, content.array.nbytes) if is_array else 1
    if room[0] < 0:
        raise pickle.UnpicklingError('it holds the same thing again and again')
    if isinstance(content, dict):
        return {key: with_arrays(value, room) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return type(content)([with_arrays(value, room) for value in content])
    return content.array.copy() if is_array else content


def read_pickles(filename):
    """List of the objects pickled one after another in `filename`. Executes nothing that the file contains.

    Raises LabError, with the file's name, where it is not a pickle or holds more than plain containers and arrays.
    """
    content = read_whole(filename)
    stream, objects, room = io.BytesIO(content), [], [len(content)]
    try:
        while stream.tell() < len(content):
            looked_at = skim_pickle(stream, len(content))
            objects.append(with_arrays(ArrayUnpickler(io.BytesIO(looked_at)).load(), room))
    except Exception as error:  # a broken pickle can raise nearly anything
        raise LabError('%s: not a pickle of plain data and arrays (%s)' % (filename, in_one_line(error))) from error
    if not objects:
        raise LabError('%s: the file is empty' % filename)
    return objects


# ------------------------------------------------------------------------------------- wav files to feature files

def begin_worker():
    """Leave Ctrl-C to the process that started this one, and do not outlive it if it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=end_with_parent, daemon=True).start()


def end_with_parent():
    multiprocessing.parent_process().join()
    os._exit(1)


def in_parallel(function, tasks, description):
    """[function(task) for task in tasks], on all cores, with a progress bar when a person is watching."""
    with ProcessPoolExecutor(initializer=begin_worker) as pool:
        try:
            # A process that is just starting would answer Ctrl-C with a traceback; they inherit that it is ignored
            handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
            pool.submit(os.getpid)
            signal.signal(signal.SIGINT, handler)
            results = pool.map(function, tasks, chunksize=4)
            return list(tqdm(results, total=len(tasks), desc=description, disable=None))
        except KeyboardInterrupt:  # Ctrl-C reaches this process alone, which drops what has not been started
            pool.shutdown(cancel_futures=True)
            raise
        except BrokenProcessPool as error:
            raise LabError('A process that did a part of the work was ended from outside, perhaps for lack of memory.\n'
                           'Close other programs, or split long recordings, and run this again.') from error


def convert_wav(task):
    """Make one feature file. task is (wav file, feature file, folder of the speakers' folders).

    Returns (kind of wav, what is off about it or None), or (None, what is wrong with the file).
    """
    wav_file, feat_file, wav_dir = task
    try:
        check_speaker_folder(wav_file, wav_dir)
        feature, kind, remark = feature_of_wav(wav_file)
    except (LabError, OSError) as error:
        return None, str(error)
    except (MemoryError, ValueError) as error:
        return None, '%s: %s' % (wav_file, error)
    write_feature(feat_file, feature, speaker_of(wav_file))
    return kind, remark


def convert_wavs(wav_dir, feat_dir):
    """Turn the wavs below `wav_dir` into feature files below `feat_dir`, where missing or older than the wav.

    Returns (Counter: kind of wav -> number converted, list of what is off about them, list of what is wrong with those
    not converted, number up to date).
    """
    tasks, n_up_to_date = [], 0
    for wav_file in find_wavs(wav_dir):
        feat_file = Path(feat_dir) / Path(wav_file).relative_to(wav_dir).with_suffix('.p')
        if feat_file.exists() and feat_file.stat().st_mtime >= os.path.getmtime(wav_file):
            n_up_to_date += 1
        else:
            tasks.append((wav_file, feat_file, wav_dir))
    results = in_parallel(convert_wav, tasks, 'Features of %s' % wav_dir)
    converted = Counter(kind for kind, _ in results if kind is not None)
    remarks = [line for kind, line in results if kind is not None and line is not None]
    return converted, remarks, [line for kind, line in results if kind is None], n_up_to_date


def main():
    folders = [(c.TRAIN_WAV_DIR, c.TRAIN_FEAT_DIR),  # wavs in, features out
               (c.TEST_WAV_DIR, c.TEST_FEAT_DIR)]

    n_failed, n_empty = 0, 0
    for wav_dir, feat_dir in folders:
        if not find_wavs(wav_dir):
            print('%s: no wav files' % wav_dir)
            n_empty += 1
            continue
        converted, remarks, errors, n_up_to_date = convert_wavs(wav_dir, feat_dir)
        print('%s -> %s: %d converted, %d up to date, %d skipped'
              % (wav_dir, feat_dir, converted.total(), n_up_to_date, len(errors)))
        for kind, count in sorted(converted.items()):
            print('  %d x %s' % (count, kind))
        for remark in remarks:
            print('Note: %s' % remark)
        for error in errors:
            print('Skipped %s' % error, file=sys.stderr)
        n_failed += len(errors)

    if n_empty == len(folders):
        raise LabError('There are no wav files to convert. Put recordings into %s/<speaker>/, '
                       'or set the folders in configure.py.' % c.TEST_WAV_DIR)
    if n_failed:
        raise LabError('%d wav file(s) skipped, named above. The others are done.' % n_failed)


if __name__ == '__main__':
    run_script(main)
