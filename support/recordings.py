"""Wav files of any kind, and the speech in them: where it is, how loud, what is off about it."""
import io
import warnings
from math import gcd

import numpy as np
from scipy.io import wavfile
from scipy.ndimage import binary_opening
from scipy.signal import butter, resample_poly, sosfilt

import configure as c
from support.messages import LabError, in_one_line
from support.safe_files import read_whole

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


OTHER_AUDIO = ['.mp3', '.m4a', '.aac', '.flac', '.ogg', '.opus', '.wma']


def is_wav(filename):
    return str(filename).lower().endswith('.wav')


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
