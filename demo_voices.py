"""Voices for a clone without recordings: a speech synthesiser of our own.

    python demo_voices.py

Writes what is missing of 240 training voices with 10 utterances of 3 to 4 s each (feature files in TRAIN_FEAT_DIR) and of
10 test voices with enroll.wav and test.wav of about 15 s each (in TEST_WAV_DIR, their features in TEST_FEAT_DIR). Takes
about a minute on two cores. train.py and the test scripts call it when there are no feature files.

It is a source-filter model (Fant 1960). A *voice* is a handful of named, physical parameters; an *utterance* is a random
sentence of Korean-like syllables. Glottal pulses and noise are filtered by eight formants that move from sound to sound:
every 5 ms the short-time spectrum of the source is multiplied by the response of the vocal tract, and the pieces are
overlapped and added. An utterance depends on (seed, voice, utterance) alone.
"""
import os
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import fft
from scipy.io import wavfile

import configure as c
from DB_wav_reader import LabError, convert_wavs, extract_features, find_feats, find_wavs, in_parallel, run_script
from DB_wav_reader import speaker_of, write_feature

RATE = c.SAMPLE_RATE
HOP = RATE // 200  # 5 ms: how often the vocal tract moves
WINDOW = 4 * HOP  # 20 ms pieces of the source
FFT_SIZE = 8 * HOP  # 40 ms: a piece and the ringing of the formants after it
FREQUENCIES = np.fft.rfftfreq(FFT_SIZE, 1 / RATE)
SPEED_OF_SOUND = 35300  # cm/s in warm, moist air


# ------------------------------------------------------------------------------------------------------- voices

class Voice(NamedTuple):
    """What makes a voice: everything that stays the same from one utterance to the next."""
    name: str
    sex: str  # 'F' or 'M'
    f0: float  # Hz, mean fundamental frequency
    f0_range: float  # semitones between low and high tones
    tract_length: float  # cm
    formant_scale: np.ndarray  # (8,) deviation of each formant from what the tract length says, as a factor
    vowel_space: float  # 1 = the targets of VOWELS, less = vowels closer to the neutral one
    bandwidth_scale: float  # factor on all formant bandwidths
    open_phase: float  # strength of the first harmonics: quality factor of the glottal formant, higher when more open
    tilt: float  # Hz: above it the glottal source falls by a further 6 dB an octave
    jitter: float  # standard deviation of the period, as a fraction
    shimmer: float  # dB, standard deviation of the pulse amplitude
    breathiness: float  # dB, noise of the glottis against its pulses
    sibilant: float  # Hz, centre of the noise of /s/
    rate: float  # syllables a second, pauses not counted
    level: float  # dBFS, active speech


def draw_voice(seed, index):
    """The voice number `index`: odd ones are women, even ones men. Its parameters are drawn from

    - F0: 119 and 207 Hz with 2.4 and 2.5 semitones between speakers (Traunmueller & Eriksson 1995); range 4 to 6 semitones
    - vocal-tract length: 16.9 and 14.5 cm, about 5 % between speakers (Goldstein 1980; Fitch & Giedd 1999)
    - formants beyond the tract length: 3 to 5 % (Peterson & Barney 1952: between-speaker spread of one vowel)
    - jitter 0.3 to 1 %, shimmer 0.1 to 0.5 dB (Horii 1979, 1980); noise and tilt stronger for women (Klatt & Klatt 1990)
    - /s/ at 5 to 8 kHz, higher for women (Jongman, Wayland & Wong 2000)
    - 4.5 to 6.5 syllables a second; level -48 to -41 dBFS as measured on the corpus of the slides
    """
    rng = np.random.default_rng([seed, index])
    sex = 'M' if index % 2 == 0 else 'F'
    woman = sex == 'F'
    return Voice(
        name='%03d%s9%03d' % (index, sex, index),  # a 9 where the corpus has the decade of the speaker's age
        sex=sex,
        f0=(207 if woman else 128) * 2 ** (rng.normal(0, 2.5) / 12),
        f0_range=rng.uniform(2.5, 6),
        tract_length=(14.5 if woman else 16.9) * np.exp(rng.normal(0, 0.05)),
        formant_scale=np.exp(rng.normal(0, [0.05, 0.05, 0.05, 0.04, 0.04, 0.04, 0.04, 0.04])),
        vowel_space=rng.uniform(0.65, 1.05),
        bandwidth_scale=np.exp(rng.normal(0, 0.25)),
        open_phase=np.exp(rng.normal(np.log(6.0 if woman else 3.5), 0.4)),
        tilt=np.exp(rng.normal(np.log(9000), 0.7)),
        jitter=rng.uniform(0.003, 0.01),
        shimmer=rng.uniform(0.1, 0.5),
        breathiness=rng.normal(-22 if woman else -26, 4),
        sibilant=(6800 if woman else 6000) * np.exp(rng.normal(0, 0.1)),
        rate=rng.uniform(3.8, 6.2),
        level=rng.uniform(-48, -41))


# ---------------------------------------------------------------------------------------------------- sentences

# F1, F2, F3 in Hz of the Korean monophthongs, men and women (after Yang 1996, Journal of Phonetics 24, rounded to 10 Hz)
VOWELS = {
    'a': ((740, 1370, 2570), (990, 1790, 2960)),
    'eo': ((610, 1120, 2680), (770, 1370, 3010)),
    'o': ((450, 950, 2670), (500, 1030, 3070)),
    'u': ((370, 980, 2570), (420, 1020, 3020)),
    'eu': ((410, 1490, 2500), (450, 1700, 3000)),
    'i': ((340, 2220, 3050), (340, 2810, 3470)),
    'e': ((490, 1970, 2640), (650, 2380, 3070)),
    'ae': ((590, 1850, 2600), (680, 2290, 3060)),
}
VOWEL_WEIGHTS = np.array([0.24, 0.13, 0.11, 0.09, 0.15, 0.17, 0.07, 0.04])  # roughly as frequent as in running speech

# A consonant is a row of segments: duration in ms; voicing, aspiration and frication in dB against a vowel (None = none);
# formants F1, F2, F3 of a man in Hz (None = those of the vowel that follows); centre of the frication against /s/.
# Loci and levels after Klatt (1980), durations after Cho, Jun & Ladefoged (2002) for the three kinds of stop.
LIPS, TEETH, PALATE, VELUM = (250, 950, 2300), (250, 1750, 2700), (250, 2050, 2850), (250, 1850, 2350)
ONSETS = {
    '': [],
    'g': [(45, -12, None, None, VELUM, 0), (12, None, -22, -26, VELUM, 0.35), (25, None, -18, None, None, 0)],
    'd': [(40, -12, None, None, TEETH, 0), (10, None, -22, -26, TEETH, 0.65), (20, None, -18, None, None, 0)],
    'b': [(45, -12, None, None, LIPS, 0), (8, None, -22, -34, LIPS, 0.20), (18, None, -20, None, None, 0)],
    'k': [(65, None, None, None, VELUM, 0), (15, None, -16, -20, VELUM, 0.35), (60, None, -14, None, None, 0)],
    't': [(60, None, None, None, TEETH, 0), (12, None, -16, -20, TEETH, 0.65), (55, None, -14, None, None, 0)],
    'p': [(65, None, None, None, LIPS, 0), (10, None, -16, -30, LIPS, 0.20), (55, None, -15, None, None, 0)],
    'kk': [(95, None, None, None, VELUM, 0), (12, None, None, -20, VELUM, 0.35)],
    'tt': [(95, None, None, None, TEETH, 0), (10, None, None, -20, TEETH, 0.65)],
    'pp': [(95, None, None, None, LIPS, 0), (8, None, None, -30, LIPS, 0.20)],
    'j': [(40, -14, None, None, PALATE, 0), (45, None, -24, -16, PALATE, 0.60)],
    'ch': [(55, None, None, None, PALATE, 0), (60, None, -20, -13, PALATE, 0.60), (30, None, -16, None, None, 0)],
    's': [(75, None, -24, -12, TEETH, 1.0), (20, None, -17, None, None, 0)],
    'ss': [(105, None, -26, -10, TEETH, 1.0)],
    'h': [(50, None, -15, None, None, 0)],
    'm': [(65, -5, None, None, LIPS, 0)],
    'n': [(60, -5, None, None, TEETH, 0)],
    'l': [(28, -5, None, None, (330, 1500, 2500), 0)],
    'y': [(45, -3, None, None, (300, 2200, 2950), 0)],
    'w': [(45, -3, None, None, (330, 800, 2400), 0)],
}
ONSET_WEIGHTS = np.array([18, 11, 8, 4, 3, 3, 2, 2, 2, 1, 9, 5, 11, 3, 6, 6, 8, 8, 5, 3])
CODAS = {
    '': [],
    'n': [(70, -6, None, None, TEETH, 0)],
    'ng': [(75, -6, None, None, VELUM, 0)],
    'm': [(70, -6, None, None, LIPS, 0)],
    'l': [(60, -4, None, None, (380, 1350, 2650), 0)],
    'k': [(60, None, None, None, VELUM, 0)],
    't': [(55, None, None, None, TEETH, 0)],
    'p': [(60, None, None, None, LIPS, 0)],
}
CODA_WEIGHTS = np.array([58, 13, 8, 5, 8, 4, 2, 2])
HIGH_ONSETS = ('k', 't', 'p', 'kk', 'tt', 'pp', 'ch', 's', 'ss', 'h')  # they begin an accentual phrase high (Jun 1993)
NEUTRAL = np.array([500, 1500, 2500])  # Hz: the formants of a uniform tube of 17 cm


def draw_from(rng, table, weights):
    return list(table)[rng.choice(len(table), p=weights / weights.sum())]


def draw_sentence(rng, voice, seconds):
    """A random sentence of `seconds`: arrays with a row per segment of speech or pause.

    Returns (frames (n,) of 5 ms, sources (n, 3) amplitudes of voice, aspiration and frication, formants (n, 3) in Hz,
    frication centre (n,) in Hz, tone (n,) in semitones).
    """
    woman = int(voice.sex == 'F')
    to_woman = np.array([1.1, 1.17, 1.15]) if woman else np.ones(3)  # consonant loci, as the vowels of VOWELS
    rows, time, phrase_start = [], 0.0, 0
    while time < seconds:
        n_syllables = rng.integers(6, 13)  # up to a pause
        accent_left, tones = 0, []
        for i in range(n_syllables):
            onset = draw_from(rng, ONSETS, ONSET_WEIGHTS)
            vowel = draw_from(rng, VOWELS, VOWEL_WEIGHTS)
            coda = draw_from(rng, CODAS, CODA_WEIGHTS)
            if accent_left == 0:  # an accentual phrase of 3 to 5 syllables, low high ... low high (Jun 1993)
                accent_left = accent_length = min(rng.integers(3, 6), n_syllables - i)
                tones = [-0.5 + (onset in HIGH_ONSETS)] + [0.5, 0.2, -0.3, -0.5][:accent_length - 1]
                tones[-1] = 0.5 if i + accent_left < n_syllables else -0.8  # the last one falls
            position = accent_length - accent_left
            accent_left -= 1
            tone = voice.f0_range * (tones[position] + rng.normal(0, 0.15)) - 3.0 * i / n_syllables  # declination
            stretch = 5.5 / voice.rate * rng.lognormal(0, 0.15) * (1.5 if i == n_syllables - 1 else 1.0)
            stress = rng.normal(0, 1.5) - 3.0 * (i / n_syllables) ** 2  # dB
            target = np.array(VOWELS[vowel][woman]) * np.exp(rng.normal(0, 0.03, 3))
            neutral = NEUTRAL * to_woman
            target = neutral * (target / neutral) ** voice.vowel_space
            vowel_row = (rng.normal(120, 20), 0, None, None, None, 0)
            for ms, voicing, aspiration, frication, formants, centre in ONSETS[onset] + [vowel_row] + CODAS[coda]:
                levels = [voicing, aspiration, frication]
                amplitudes = [0.0 if level is None else 10 ** ((level + stress) / 20) for level in levels]
                palatal = 0.75 if vowel == 'i' else 1.0  # /s/ before /i/ is made further back
                row_formants = target if formants is None else np.array(formants) * to_woman
                rows.append((max(1, round(ms * stretch / 5)), amplitudes, row_formants,
                             centre * palatal * voice.sibilant or voice.sibilant, tone))
                time += rows[-1][0] * 0.005
        pause = rng.uniform(0.08, 0.3)
        rows.append((round(pause / 0.005), [0.0, 0.0, 0.0], rows[-1][2], voice.sibilant, rows[-1][4]))
        time += pause
    columns = [np.array(column) for column in zip(*rows)]
    return columns


# ------------------------------------------------------------------------------------------------------- sound

def smooth(track, width):
    """Hann-weighted running mean over `width` rows of 5 ms: what inertia does to a step. (n, k) -> (n, k)"""
    weights = np.hanning(width + 2)[1:-1]
    padded = np.pad(track, ((width // 2, width // 2), (0, 0)), mode='edge')
    windows = np.lib.stride_tricks.sliding_window_view(padded, width, axis=0)  # (n, k, width)
    return windows @ (weights / weights.sum())


def glottal_pulses(rng, voice, f0):
    """Pulse train (len(f0) * HOP,) of unit power, for f0 (n,) in Hz every 5 ms; jitter and shimmer moves each pulse."""
    n_samples = len(f0) * HOP
    cycles = np.cumsum(np.repeat(f0, HOP)) / RATE
    n_pulses = int(cycles[-1])
    instants = np.interp(np.arange(n_pulses) + voice.jitter * rng.standard_normal(n_pulses), cycles, np.arange(n_samples))
    heights = 10 ** (voice.shimmer * rng.standard_normal(n_pulses) / 20) * np.sqrt(RATE / np.interp(instants, np.arange(len(f0)) * HOP, f0))
    before = np.clip(instants.astype(int), 0, n_samples - 2)
    after_share = np.clip(instants - before, 0, 1)  # a pulse between two samples is shared by them
    pulses = np.bincount(before, heights * (1 - after_share), n_samples)
    return pulses + np.bincount(before + 1, heights * after_share, n_samples)


def short_time_spectrum(source):
    """(n * HOP,) samples -> (n, FFT_SIZE / 2 + 1): spectra of 20 ms Hann windows every 5 ms."""
    padded = np.pad(source.astype(np.float32), (0, WINDOW - HOP))
    pieces = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]  # (n, WINDOW)
    return fft.rfft(pieces * np.hanning(WINDOW + 1)[:-1].astype(np.float32), FFT_SIZE)


def overlap_add(spectrum):
    """The inverse of short_time_spectrum, with room for what a filter adds: (n, bins) -> (n * HOP + 7 * HOP,) samples."""
    pieces = fft.irfft(spectrum, FFT_SIZE).reshape(len(spectrum), -1, HOP)  # (n, 8, HOP)
    audio = np.zeros((len(spectrum) + pieces.shape[1] - 1, HOP), np.float32)
    for i in range(pieces.shape[1]):
        audio[i:i + len(spectrum)] += pieces[:, i]
    return audio.ravel() / 2  # four overlapping Hann windows add up to 2


def vocal_tract(formants, bandwidths):
    """Frequency response of a cascade of resonators with gain 1 at 0 Hz (Klatt 1980): (n, 8) Hz, (n, 8) Hz -> (n, bins)."""
    radius = np.exp(-np.pi * bandwidths / RATE)
    denominator = np.ones((len(formants), 1))
    for k in range(formants.shape[1]):  # multiply the polynomials 1 - 2 r cos(w) z^-1 + r^2 z^-2
        product = np.pad(denominator, ((0, 0), (0, 2)))
        product[:, 1:-1] -= denominator * (2 * radius[:, k] * np.cos(2 * np.pi * formants[:, k] / RATE))[:, None]
        product[:, 2:] += denominator * (radius[:, k] ** 2)[:, None]
        denominator = product
    gain = denominator.sum(axis=1, keepdims=True)
    return gain.astype(np.float32) / fft.rfft(denominator.astype(np.float32), FFT_SIZE)


def bandwidth_of(formants):
    """Hz, losses at the walls, the glottis and the lips (Fant 1972)."""
    relative = formants / 500
    return 15 / relative ** 2 + 20 * np.sqrt(relative) + 3.5 * relative ** 2


def active_level(audio):
    """dBFS of the 25 ms frames within 40 dB of the loudest."""
    power = np.square(audio[:len(audio) // 400 * 400].reshape(-1, 400)).mean(axis=1)
    return 10 * np.log10(power[power > 1e-4 * power.max()].mean())


def synthesise(seed, voice, utterance, seconds):
    """Mono audio (about seconds * RATE,) float32 in [-1, 1] of utterance number `utterance` of a Voice."""
    rng = np.random.default_rng([seed, int(voice.name[:3]), utterance])
    frames, amplitudes, targets, frication_centre, tone = draw_sentence(rng, voice, seconds - 1.0)

    # Targets become tracks: (n_segments, ...) -> (n, ...) every 5 ms. Articulators are slow, sources fast.
    speech = slice(0, round((seconds - 1.0) / 0.005))
    amplitudes = smooth(np.repeat(amplitudes, frames, axis=0)[speech], 5)  # (n, 3)
    formants = np.exp(smooth(np.log(np.repeat(targets, frames, axis=0)[speech]), 13))  # (n, 3)
    tone = smooth(np.repeat(tone, frames)[speech, None], 25)[:, 0]
    frication_centre = np.repeat(frication_centre, frames)[speech, None]  # (n, 1)
    f0 = voice.f0 * 2 ** ((tone + rng.normal(0, 0.5)) / 12)

    # The eight formants below 8 kHz: three from the sounds, the others of a uniform tube, all scaled to this tract
    tract = (14.5 if voice.sex == 'F' else 16.9) / voice.tract_length
    upper = (2 * np.arange(4, 9) - 1) * SPEED_OF_SOUND / (4 * voice.tract_length)
    upper = upper[upper < 7900]
    formants = np.hstack([formants * tract, np.tile(upper, (len(formants), 1))]) * voice.formant_scale[:3 + len(upper)]  # (n, 7)
    formants = np.sort(formants, axis=1)

    # Source: pulses and noise of the glottis, and the noise of a narrow passage in front of the tract
    tilt = 1 / np.sqrt(1 + (FREQUENCIES / voice.tilt) ** 2)
    r = FREQUENCIES / ((1.2 if voice.sex=='F' else 1.6) * voice.f0)
    pulse_shape = r / np.sqrt((1 - r ** 2) ** 2 + (r / voice.open_phase) ** 2) * tilt  # derivative of the flow
    piriform = (5000 if voice.sex=='M' else 5600) * tract
    x = FREQUENCIES / piriform
    zero = np.sqrt((1 - x ** 2) ** 2 + (0.15 * x) ** 2) / np.sqrt((1 - x ** 2) ** 2 + (0.8 * x) ** 2)
    pulse_shape = pulse_shape * zero
    noise = rng.standard_normal(len(f0) * HOP)
    voicing = np.repeat(amplitudes[:, 0], HOP)
    breath = np.repeat(amplitudes[:, 0] * 10 ** (voice.breathiness / 20) + amplitudes[:, 1], HOP)
    frication = np.repeat(amplitudes[:, 2], HOP)
    glottis = short_time_spectrum(glottal_pulses(rng, voice, f0) * voicing) * pulse_shape.astype(np.float32)
    glottis += short_time_spectrum(noise * breath) * (zero * 0.25 / (1 + (FREQUENCIES / 2500) ** 2)**.5).astype(np.float32)
    detune = 2.5 * (FREQUENCIES / frication_centre - frication_centre / np.maximum(FREQUENCIES, 1))
    passage = (1 / np.sqrt(1 + detune ** 2)).astype(np.float32)  # (n, bins), a resonance of Q = 3
    spectrum = glottis * vocal_tract(formants, (bandwidth_of(formants) + np.array([60, 30, 0, 0, 0, 0, 0, 0])[:formants.shape[1]]) * voice.bandwidth_scale)
    spectrum += short_time_spectrum(noise * frication) * passage * np.float32(2.0)

    microphone = (FREQUENCIES / 160) ** 3 / np.sqrt(1 + (FREQUENCIES / 160) ** 6)
    spectrum *= microphone.astype(np.float32)

    # The recording: half a second of silence at both ends, the level of this voice, a quiet room
    audio = np.pad(overlap_add(spectrum), RATE // 2)
    audio *= 10 ** ((voice.level + rng.normal(0, 1.0) - active_level(audio)) / 20)
    return audio + 1e-4 * rng.standard_normal(len(audio), np.float32)  # noise at -80 dBFS


# ---------------------------------------------------------------------------------------------- files, in parallel

PROJECT = Path(__file__).resolve().parent
OWN_FOLDERS = [PROJECT / 'feat_logfbank_nfilt40/train', PROJECT / 'feat_logfbank_nfilt40/test', PROJECT / 'test_wavs']
SEED = 0  # of all demo voices
N_TRAIN_VOICES, N_TEST_VOICES = 240, 10
N_UTTERANCES = 10  # of each training voice
TRAIN_SECONDS = (3.0, 4.0)  # shortest and longest training utterance, with the silence at both ends
TEST_SECONDS = 15.0
UNFINISHED = '.unfinished'  # a file of this name lies in a folder of features that is not yet complete


def make_train_utterance(task):
    """Write the feature file of one training utterance. task is (folder, seed, voice index, utterance)."""
    feat_dir, seed, index, utterance = task
    voice = draw_voice(seed, index)
    filename = Path(feat_dir) / voice.name / ('%s_%02d.p' % (voice.name, utterance))
    if not filename.exists():
        seconds = np.random.default_rng([seed, index, utterance, 1]).uniform(*TRAIN_SECONDS)
        write_feature(filename, extract_features(synthesise(seed, voice, utterance, seconds)), voice.name)


def make_test_wav(task):
    """Write enroll.wav or test.wav of one test voice, 16-bit PCM. task is (folder, seed, voice index, file name)."""
    wav_dir, seed, index, name = task
    voice = draw_voice(seed, index)
    filename = Path(wav_dir) / voice.name / name
    if not filename.exists():
        audio = synthesise(seed, voice, int(name == 'test.wav'), TEST_SECONDS)
        filename.parent.mkdir(parents=True, exist_ok=True)
        unfinished = filename.with_name('.%s.%d' % (name, os.getpid()))
        wavfile.write(unfinished, RATE, np.round(audio * 2**15).astype(np.int16))
        os.replace(unfinished, filename)


def make_train_features(feat_dir, *, first=1, n_voices=N_TRAIN_VOICES, n_utterances=N_UTTERANCES, seed=SEED):
    """Write what is missing of the feature files of the training voices, feat_dir/<voice>/<voice>_<utterance>.p."""
    tasks = [(feat_dir, seed, index, utterance)
             for index in range(first, first + n_voices) for utterance in range(n_utterances)]
    with unfinished(feat_dir):
        in_parallel(make_train_utterance, tasks, 'Training voices')


def make_test_features(wav_dir, feat_dir, *, first=N_TRAIN_VOICES + 1, n_voices=N_TEST_VOICES, seed=SEED):
    """Write what is missing of wav_dir/<voice>/{enroll,test}.wav and of their feature files below feat_dir."""
    tasks = [(wav_dir, seed, index, name) for index in range(first, first + n_voices) for name in ('enroll.wav', 'test.wav')]
    with unfinished(feat_dir):
        in_parallel(make_test_wav, tasks, 'Test voices')
        _, errors, _ = convert_wavs(wav_dir, feat_dir)
    if errors:
        raise LabError('\n'.join(errors))


@contextmanager
def unfinished(feat_dir):
    """Mark a folder of features as unfinished until the work inside the `with` is done, even if the power goes."""
    marker = Path(feat_dir) / UNFINISHED
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.touch()
    yield
    marker.unlink()


def may_fill(*directories):
    """Whether these are folders that the project came with, and hold nothing but demo voices."""
    demo_names = {draw_voice(SEED, index).name for index in range(1, N_TRAIN_VOICES + N_TEST_VOICES + 1)}
    files = [filename for directory in directories for filename in find_wavs(directory) + find_feats(directory)]
    return (all(Path(directory).resolve() in OWN_FOLDERS for directory in directories)
            and all(speaker_of(filename) in demo_names for filename in files))


def is_complete(feat_dir):
    """Whether the folder holds feature files, and no demo voices that were interrupted in the making."""
    return len(find_feats(feat_dir)) > 0 and not (Path(feat_dir) / UNFINISHED).exists()


def provide_train_features():
    """Fill TRAIN_FEAT_DIR with demo voices if it holds no feature file and is the project's own folder."""
    if not is_complete(c.TRAIN_FEAT_DIR) and may_fill(c.TRAIN_FEAT_DIR):
        print('No feature files in %s: making %d synthetic demo voices' % (c.TRAIN_FEAT_DIR, N_TRAIN_VOICES), flush=True)
        make_train_features(c.TRAIN_FEAT_DIR)


def provide_test_features():
    """Fill TEST_WAV_DIR and TEST_FEAT_DIR with demo voices if there is no feature file and both are the project's own."""
    if not is_complete(c.TEST_FEAT_DIR) and may_fill(c.TEST_WAV_DIR, c.TEST_FEAT_DIR):
        print('No feature files in %s: making %d synthetic demo voices' % (c.TEST_FEAT_DIR, N_TEST_VOICES), flush=True)
        make_test_features(c.TEST_WAV_DIR, c.TEST_FEAT_DIR)


def main():
    for directories, make in (((c.TRAIN_FEAT_DIR,), make_train_features),
                              ((c.TEST_WAV_DIR, c.TEST_FEAT_DIR), make_test_features)):
        names = ' and '.join(directories)
        if may_fill(*directories):
            make(*directories)
            print('%s: complete' % names)
        else:
            print('%s: left alone, for it is not the project\'s own folder or holds other files than demo voices' % names)


if __name__ == '__main__':
    run_script(main)
