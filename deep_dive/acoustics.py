"""Make a recording sound as if it came from another room, microphone or telephone line.

vary() draws several of these changes at random: experiments/vary_recordings.py makes training data with it. Robust
x-vectors are trained on such copies (Snyder et al. 2018). experiments/conditions.py measures what each change costs.
vary_piece() is quicker: experiments/train_voices.py changes a piece of a recording anew each time it is drawn.
Audio is (n_samples,), float in [-1, 1], at SAMPLE_RATE. rng is a numpy random generator.
"""
import shutil
import subprocess
from fractions import Fraction

import numpy as np
from scipy.signal import butter, resample_poly, sosfiltfilt

import configure as c
from support.messages import LabError, in_one_line
from support.recordings import active_level, blocks_of, decibels, least_level, loud_level
from support.rooms import add_noise, add_room, change_microphone, mix, rms

CODECS = {  # what ffmpeg needs to know: rate in Hz, and options
    'g722': (16000, ['-c:a', 'g722', '-f', 'g722']),
    'gsm': (8000, ['-c:a', 'libgsm', '-f', 'gsm']),
    'mp3': (16000, ['-c:a', 'libmp3lame', '-b:a', '24k', '-f', 'mp3']),
    'opus': (16000, ['-c:a', 'libopus', '-b:a', '12k', '-f', 'ogg']),
}
TELEPHONE_BAND = (300, 3400)  # Hz
MU = 255  # of the mu-law of ITU-T G.711
LOUDNESS_SECONDS = 0.05  # 'compress' follows the loudness in windows as long as this


def babble(n_samples, rng, voice):
    """One to seven voices at once, each up to 6 dB below the first: (n_samples,). voice: as in vary_piece."""
    return sum(voice(n_samples, rng) * 10 ** (rng.uniform(-6, 0) / 20) for _ in range(rng.integers(1, 8)))


def hum(n_samples, rng):
    """The hum of the mains or of a motor, with its harmonics: (n_samples,)."""
    times = np.arange(n_samples) / c.SAMPLE_RATE
    frequency = rng.choice([50, 60, 100, 120]) * rng.uniform(0.99, 1.01)  # Hz
    return sum(10 ** (rng.uniform(-20, 0) / 20) * np.sin(2 * np.pi * (k * frequency * times + rng.random()))
               for k in range(1, rng.integers(3, 20)))


def compress(audio, ratio=3):
    """Make quiet parts louder, as radio and telephone announcements do: a range of 30 dB becomes 30 / ratio dB."""
    length = round(LOUDNESS_SECONDS * c.SAMPLE_RATE)
    loudness = np.sqrt(np.convolve(audio ** 2, np.ones(length) / length, 'same')) + 1e-3 * max(rms(audio), 1e-12)
    louder = audio * (loudness / loudness.max()) ** (1 / ratio - 1)
    return louder * np.abs(audio).max() / max(np.abs(louder).max(), 1e-12)


def clip(audio, share=0.01):
    """Record too loud: this share of the samples is cut off."""
    limit = np.quantile(np.abs(audio), 1 - share)
    return np.clip(audio, -limit, limit)


def keep_band(audio, low, high):
    """Make all frequencies below low and above high, in Hz, quieter by 60 dB."""
    spectrum, frequency = np.fft.rfft(audio), np.fft.rfftfreq(len(audio), 1 / c.SAMPLE_RATE)
    spectrum[(frequency < low) | (frequency > high)] *= 1e-3
    return np.fft.irfft(spectrum, len(audio))


def change_speed(audio, speed):
    """Play audio `speed` times as fast: its pitch is higher, and it is shorter, (n / speed, rounded up)."""
    ratio = Fraction(speed).limit_denominator(200)
    return resample_poly(audio, ratio.denominator, ratio.numerator)


def to_level(audio, level):
    """Bring the speech in a piece of a recording to a level in dBFS.

    Speech is found as in support/recordings.py. But a piece may be short, or full of noise, so none is refused.
    """
    levels = decibels(np.mean(blocks_of(audio) ** 2, axis=1))  # of blocks, in dBFS
    least = least_level(loud_level(levels), np.percentile(levels, 10))
    return audio * 10 ** ((level - active_level(levels, levels > least)) / 20)


def halve_rate(audio):
    """Keep what a recording at 8 kHz has: the frequencies below 4 kHz."""
    return resample_poly(resample_poly(audio, 8000, c.SAMPLE_RATE), c.SAMPLE_RATE, 8000)[:len(audio)]


def telephone(audio):
    """Send through a telephone line: TELEPHONE_BAND, 8 kHz, eight bits by mu-law (ITU-T G.711)."""
    band = sosfiltfilt(butter(4, TELEPHONE_BAND, 'bandpass', fs=c.SAMPLE_RATE, output='sos'), audio)
    scale = max(np.abs(band).max(), 1e-12)
    compressed = np.sign(band) * np.log1p(MU * np.abs(band) / scale) / np.log1p(MU)
    rounded = np.round(compressed * 127) / 127
    return halve_rate(np.sign(rounded) * np.expm1(np.abs(rounded) * np.log1p(MU)) / MU * scale)


def has_codecs():
    """Whether ffmpeg is installed, which code_and_decode needs."""
    return shutil.which('ffmpeg') is not None


def code_and_decode(audio, codec):
    """Code audio with one of CODECS and decode it again, with ffmpeg. The result may be some ms longer or shorter."""
    rate, options = CODECS[codec]
    container = options[-1]
    raw = ['-f', 'f32le', '-ac', '1', '-ar', str(c.SAMPLE_RATE)]
    coded = run_ffmpeg([*raw, '-i', '-', '-ac', '1', '-ar', str(rate), *options, '-'], audio.astype('<f4').tobytes())
    decoded = run_ffmpeg(['-f', container, '-i', '-', *raw, '-'], coded)
    return np.frombuffer(decoded, '<f4').astype(np.float64)


def run_ffmpeg(arguments, data):
    """Give data to ffmpeg, and return what it writes. Raises LabError with its message."""
    done = subprocess.run(['ffmpeg', '-loglevel', 'error', *arguments], input=data, capture_output=True)
    if done.returncode != 0:
        raise LabError('ffmpeg %s: %s' % (' '.join(arguments), in_one_line(done.stderr.decode(errors='replace'))))
    return done.stdout


def vary(audio, rng):
    """A copy of a recording, changed at random: room, microphone, noise, loudness, band and codec.

    Each change happens to some copies only, so most copies have two or three.
    """
    changed = audio
    if rng.random() < 0.4:
        changed = compress(changed, rng.uniform(1.5, 4))
    if rng.random() < 0.6:
        changed = add_room(changed, rng, rng.uniform(0.1, 0.8), rng.uniform(-3, 12))
    if rng.random() < 0.6:
        changed = change_microphone(changed, rng)
    if rng.random() < 0.5:
        changed = add_noise(changed, rng, rng.uniform(5, 30), rng.uniform(0, 2))
    if rng.random() < 0.1:
        changed = clip(changed, rng.uniform(0.001, 0.02))
    line = rng.random()
    if line < 0.12:
        changed = telephone(changed)
    elif line < 0.24:
        changed = halve_rate(changed)
    elif line < 0.5 and has_codecs():
        changed = code_and_decode(changed, rng.choice(list(CODECS)))
    peak = np.abs(changed).max()
    return changed / peak if peak > 1 else changed


def vary_piece(audio, rng, voice):
    """Change a piece of a recording at random, in some ms. Most pieces have two changes.

    voice: a function; voice(n_samples, rng) returns a piece of some recording, for voices in the background.
    """
    if rng.random() < 0.5:
        audio = add_room(audio, rng, rng.uniform(0.1, 0.8), rng.uniform(-3, 12))
    if rng.random() < 0.15:
        audio = compress(audio, rng.uniform(1.5, 4))
    noise, snr = rng.random(), rng.uniform(3, 30)
    if noise < 0.3:
        audio = add_noise(audio, rng, snr, rng.uniform(0, 2))
    elif noise < 0.54:
        audio = mix(audio, babble(len(audio), rng, voice), snr)
    elif noise < 0.6:
        audio = mix(audio, hum(len(audio), rng), snr)
    if rng.random() < 0.6:
        audio, line = change_microphone(audio, rng), rng.random()
        if line < 0.12:
            audio = telephone(audio)
        elif line < 0.3:
            audio = keep_band(audio, 0, rng.uniform(3500, 7000))  # as codecs and old recordings do
        elif line < 0.4:
            audio = keep_band(audio, rng.uniform(60, 250), c.SAMPLE_RATE / 2)
    if rng.random() < 0.1:
        audio = clip(audio, rng.uniform(0.001, 0.03))
    return audio
