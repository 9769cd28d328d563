"""Make synthetic voices, so that the lab works without recordings.

    python -m support.demo_voices
    python -m support.demo_voices --n_others=40     # other voices instead, to find a threshold on
    python -m support.demo_voices --sessions_dir=demo_sessions    # instead, recordings in several rooms

Makes feature files of 240 training voices in TRAIN_FEAT_DIR, with 7 utterances of 3 to 4 s each. Makes
enroll.wav and test.wav of 10 test voices in TEST_WAV_DIR, 15 s each, and their features in TEST_FEAT_DIR.
Other voices get the same two recordings in feat_others/wavs, and their features in feat_others/test.
Keeps files that exist. Takes a minute or more on two cores. train.py and the test scripts do the same if there
are no feature files. With sessions_dir, it makes wavs of 20 test voices in that folder, each on two
occasions: in another room, with another microphone. Takes 15 s.

The synthesiser is a source-filter model (Fant 1960). A *voice* is a set of physical parameters. An
*utterance* is a random sentence of Korean-like syllables. The source is pulses and noise. Formants filter it,
and move from sound to sound. Every 5 ms, the short-time spectrum of the source is multiplied by the response
of the vocal tract. The pieces are overlapped and added. The same seed, voice and utterance always give the
same samples.
"""
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import fft
from scipy.io import wavfile

import configure as c
from DB_wav_reader import convert_wavs, feature_of, find_feats, find_wavs, speaker_of, write_feature
from support.checks import PROJECT
from support.messages import NAME_OR_EMPTY, LabError, check_settings, in_parallel, run_script, whole
from support.recordings import Recording, is_of_recording
from support.rooms import draw_place, record_in
from support.safe_files import written_whole

RATE = c.SAMPLE_RATE
STEP = 0.005  # seconds: how often the vocal tract moves
HOP = round(RATE * STEP)  # samples
WINDOW = 4 * HOP  # the source is cut into pieces of 20 ms
FFT_SIZE = 8 * HOP  # 40 ms, because the formants ring after a piece
FREQUENCIES = np.fft.rfftfreq(FFT_SIZE, 1 / RATE).astype(np.float32)
SILENCE = 0.5  # seconds before and after an utterance, as in the corpus of the slides
SPEED_OF_SOUND = 35300  # cm/s in warm, moist air


# ----------------------------------------------------------------------------------------------------- voices

class Average(NamedTuple):
    """The average voice of a sex. Voices are drawn around it."""
    f0: float  # Hz
    tract_length: float  # cm
    glottal_formant: float  # frequency of the maximum of the source, as a multiple of F0
    open_phase: float  # quality factor of that maximum
    breathiness: float  # dB
    sibilant: float  # Hz
    piriform: float  # Hz, antiresonance of the two cavities beside the larynx (Dang & Honda 1997)
    locus_scale: tuple  # formants of consonants, as multiples of those of a man


AVERAGES = {
    'F': Average(207, 14.5, 1.2, 6.0, -22, 6800, 5600, (1.1, 1.17, 1.15)),
    'M': Average(128, 16.9, 1.6, 3.5, -26, 6000, 5000, (1.0, 1.0, 1.0)),
}


class Voice(NamedTuple):
    """The parameters of a voice. They are the same in all its utterances."""
    index: int
    name: str  # such as 241F9241
    sex: str  # 'F' or 'M'
    f0: float  # Hz, mean fundamental frequency
    f0_range: float  # semitones between low and high tones
    tract_length: float  # cm
    formant_scale: np.ndarray  # (8,) factor on each formant, beside that of tract_length
    vowel_space: float  # 1: the targets of VOWELS; below 1: all vowels are closer to the neutral one
    bandwidth_scale: float  # factor on all formant bandwidths
    open_phase: float  # quality factor of the glottal formant; higher: stronger first harmonics
    tilt: float  # Hz, above this the source falls by 6 dB more per octave
    jitter: float  # standard deviation of the period, as a share of the period
    shimmer: float  # dB, standard deviation of the height of the pulses
    breathiness: float  # dB, level of the noise of the glottis minus that of its pulses
    sibilant: float  # Hz, centre of the noise of /s/
    rate: float  # syllables a second, without the pauses
    level: float  # dBFS, level of the speech without the pauses


def draw_voice(seed, index):
    """Draw the Voice number `index` around AVERAGES. Odd numbers are women, even numbers are men.

    - F0 differs by 3 semitones. Women have 207 Hz (Traunmueller & Eriksson 1995), men a little above 119 Hz
    - The vocal tract has 14.5 and 16.9 cm, and differs by 5 % (Goldstein 1980; Fitch & Giedd 1999)
    - Formants differ by 5 to 6 % more, as within one vowel (Peterson & Barney 1952)
    - Jitter is 0.3 to 1 %, shimmer 0.1 to 0.5 dB (Horii 1979, 1980)
    - Women have more noise in the voice (Klatt & Klatt 1990)
    - /s/ is higher for women (Jongman, Wayland & Wong 2000)
    - Spectral balance, level and its spread make feature maps as full as those of the corpus of the slides
    """
    rng = np.random.default_rng([seed, index])
    sex = 'F' if index % 2 else 'M'
    average = AVERAGES[sex]
    return Voice(
        index=index,
        name='%03d%s9%03d' % (index, sex, index),  # the corpus has the decade of the age instead of 9
        sex=sex,
        f0=average.f0 * 2 ** (rng.normal(0, 3) / 12),
        f0_range=rng.uniform(2.5, 7),
        tract_length=average.tract_length * rng.lognormal(0, 0.05),
        formant_scale=rng.lognormal(0, [0.06, 0.06, 0.06, 0.05, 0.05, 0.05, 0.05, 0.05]),
        vowel_space=rng.uniform(0.65, 1.05),
        bandwidth_scale=rng.lognormal(0, 0.25),
        open_phase=average.open_phase * rng.lognormal(0, 0.4),
        tilt=9000 * rng.lognormal(0, 0.7),
        jitter=rng.uniform(0.003, 0.01),
        shimmer=rng.uniform(0.1, 0.5),
        breathiness=average.breathiness + rng.normal(0, 4),
        sibilant=average.sibilant * rng.lognormal(0, 0.1),
        rate=rng.uniform(3.8, 6.2),
        level=rng.uniform(-48, -41))


PARAMETER_NAMES = ['pitch', 'vocal tract: long or short', *('formant %d: high or low' % (i + 1) for i in range(8)),
                   'vowels: clear or blurred', 'formants: broad or sharp', 'lowest harmonics: strong or weak',
                   'voice: bright or dull', 'jitter: uneven in time', 'shimmer: uneven in loudness',
                   'sound of s: high or low', 'speaking rate', 'pitch range', 'breathiness']


def as_numbers(voice):
    """The parameters of a Voice without its level, in the order of PARAMETER_NAMES: (n_parameters,).

    Frequencies and factors are logarithms.
    """
    ratios = [voice.f0, voice.tract_length, *voice.formant_scale, voice.vowel_space, voice.bandwidth_scale,
              voice.open_phase, voice.tilt, voice.jitter, voice.shimmer, voice.sibilant, voice.rate]
    return np.concatenate([np.log(ratios), [voice.f0_range, voice.breathiness]])


def parameters_of(name):
    """The parameters of the demo voice of this name: (n_parameters,).

    In standard deviations from the mean of the training voices.
    """
    training = np.array([as_numbers(draw_voice(SEED, index)) for index in range(1, N_TRAIN_VOICES + 1)])
    return (as_numbers(draw_voice(SEED, int(name[:3]))) - training.mean(axis=0)) / training.std(axis=0)


def parameters_of_all(speakers):
    """What parameters_of says of each speaker, as a DataFrame with a row for each; None for people."""
    if not all(map(is_demo_name, speakers)):
        return None
    rows = [parameters_of(spk) for spk in speakers]
    return pd.DataFrame(rows, index=list(speakers), columns=PARAMETER_NAMES)


def is_demo_name(speaker):
    """Whether this is the name of a demo voice."""
    return speaker[:3].isdecimal() and speaker == draw_voice(SEED, int(speaker[:3])).name


# -------------------------------------------------------------------------------------------------- sentences

# F1, F2, F3 in Hz of the Korean monophthongs, rounded to 10 Hz (Yang 1996, Journal of Phonetics 24). The
# weight is roughly how often a vowel occurs in running speech
VOWELS = {
    'a': {'M': (740, 1370, 2570), 'F': (990, 1790, 2960), 'weight': 24},
    'eo': {'M': (610, 1120, 2680), 'F': (770, 1370, 3010), 'weight': 13},
    'o': {'M': (450, 950, 2670), 'F': (500, 1030, 3070), 'weight': 11},
    'u': {'M': (370, 980, 2570), 'F': (420, 1020, 3020), 'weight': 9},
    'eu': {'M': (410, 1490, 2500), 'F': (450, 1700, 3000), 'weight': 15},
    'i': {'M': (340, 2220, 3050), 'F': (340, 2810, 3470), 'weight': 17},
    'e': {'M': (490, 1970, 2640), 'F': (650, 2380, 3070), 'weight': 7},
    'ae': {'M': (590, 1850, 2600), 'F': (680, 2290, 3060), 'weight': 4},
}
NEUTRAL = np.array([500, 1500, 2500])  # Hz, formants of a man whose vocal tract is equally wide everywhere


class Segment(NamedTuple):
    """A part of a sound. Its targets stay the same from its start to its end."""
    ms: float
    voicing: float = -np.inf  # level in dB, where a vowel has 0; so are the next two
    aspiration: float = -np.inf  # noise made in the glottis
    frication: float = -np.inf  # noise made where the mouth is narrow
    formants: tuple = None  # F1, F2, F3 of a man in Hz; None: those of the vowel in the syllable
    centre: float = 1.0  # frequency of the frication, as a multiple of that of /s/


# The formants at a closure and the levels follow Klatt (1980). The three kinds of stop follow Cho, Jun &
# Ladefoged (2002). The weight is roughly how often a sound occurs in running speech
LIPS, TEETH, PALATE, VELUM = (250, 950, 2300), (250, 1750, 2700), (250, 2050, 2850), (250, 1850, 2350)
ONSETS = {
    '': (18, []),
    'g': (11, [Segment(45, -12, formants=VELUM),
               Segment(12, aspiration=-22, frication=-26, formants=VELUM, centre=0.35),
               Segment(25, aspiration=-18)]),
    'd': (8, [Segment(40, -12, formants=TEETH),
              Segment(10, aspiration=-22, frication=-26, formants=TEETH, centre=0.65),
              Segment(20, aspiration=-18)]),
    'b': (4, [Segment(45, -12, formants=LIPS),
              Segment(8, aspiration=-22, frication=-34, formants=LIPS, centre=0.2),
              Segment(18, aspiration=-20)]),
    'k': (3, [Segment(65, formants=VELUM),
              Segment(15, aspiration=-16, frication=-20, formants=VELUM, centre=0.35),
              Segment(60, aspiration=-14)]),
    't': (3, [Segment(60, formants=TEETH),
              Segment(12, aspiration=-16, frication=-20, formants=TEETH, centre=0.65),
              Segment(55, aspiration=-14)]),
    'p': (2, [Segment(65, formants=LIPS),
              Segment(10, aspiration=-16, frication=-30, formants=LIPS, centre=0.2),
              Segment(55, aspiration=-15)]),
    'kk': (2, [Segment(95, formants=VELUM), Segment(12, frication=-20, formants=VELUM, centre=0.35)]),
    'tt': (2, [Segment(95, formants=TEETH), Segment(10, frication=-20, formants=TEETH, centre=0.65)]),
    'pp': (1, [Segment(95, formants=LIPS), Segment(8, frication=-30, formants=LIPS, centre=0.2)]),
    'j': (9, [Segment(40, -14, formants=PALATE),
              Segment(45, aspiration=-24, frication=-16, formants=PALATE, centre=0.6)]),
    'ch': (5, [Segment(55, formants=PALATE),
               Segment(60, aspiration=-20, frication=-13, formants=PALATE, centre=0.6),
               Segment(30, aspiration=-16)]),
    's': (11, [Segment(75, aspiration=-24, frication=-12, formants=TEETH), Segment(20, aspiration=-17)]),
    'ss': (3, [Segment(105, aspiration=-26, frication=-10, formants=TEETH)]),
    'h': (6, [Segment(50, aspiration=-15)]),
    'm': (6, [Segment(65, -5, formants=LIPS)]),
    'n': (8, [Segment(60, -5, formants=TEETH)]),
    'l': (8, [Segment(28, -5, formants=(330, 1500, 2500))]),
    'y': (5, [Segment(45, -3, formants=(300, 2200, 2950))]),
    'w': (3, [Segment(45, -3, formants=(330, 800, 2400))]),
}
CODAS = {
    '': (58, []),
    'n': (13, [Segment(70, -6, formants=TEETH)]),
    'ng': (8, [Segment(75, -6, formants=VELUM)]),
    'm': (5, [Segment(70, -6, formants=LIPS)]),
    'l': (8, [Segment(60, -4, formants=(380, 1350, 2650))]),
    'k': (4, [Segment(60, formants=VELUM)]),
    't': (2, [Segment(55, formants=TEETH)]),
    'p': (2, [Segment(60, formants=LIPS)]),
}
HIGH_ONSETS = ('k', 't', 'p', 'kk', 'tt', 'pp', 'ch', 's', 'ss', 'h')  # after these, a phrase begins high


def draw_key(rng, weights):
    """Draw a key of the dict key -> weight. A larger weight is drawn more often."""
    values = np.array(list(weights.values()), float)
    return list(weights)[rng.choice(len(values), p=values / values.sum())]


def draw_phrase(rng):
    """Draw the six to twelve syllables between two pauses: list of (onset, vowel, coda)."""
    onsets = {name: weight for name, (weight, _) in ONSETS.items()}
    vowels = {name: entry['weight'] for name, entry in VOWELS.items()}
    codas = {name: weight for name, (weight, _) in CODAS.items()}
    return [(draw_key(rng, onsets), draw_key(rng, vowels), draw_key(rng, codas))
            for _ in range(rng.integers(6, 13))]


def draw_tones(rng, phrase):
    """Draw a tone for each syllable: -0.5 is low, 0.5 is high (Jun 1993).

    An accentual phrase has 3 to 5 syllables. It begins low, or high if HIGH_ONSETS says so, goes on high and
    then lower, and ends high. The last one falls.
    """
    tones = []
    while len(tones) < len(phrase):
        first_onset = phrase[len(tones)][0]
        tones += [0.5 if first_onset in HIGH_ONSETS else -0.5] + [0.5, 0.2, -0.3][:rng.integers(1, 4)] + [0.5]
    tones = np.array(tones[:len(phrase)])
    tones[-1] = -0.8
    return tones + rng.normal(0, 0.15, len(phrase))


def draw_sentence(rng, voice, seconds):
    """Draw segments and pauses for at least `seconds`. The arrays have a row for each.

    Returns (duration (n,) in steps, amplitudes (n, 3) of voicing, aspiration and frication, formants (n, 3)
    in Hz without the scale of this vocal tract, frication centre (n,) in Hz, tone (n,) in semitones).
    """
    locus_scale = np.array(AVERAGES[voice.sex].locus_scale)
    neutral = NEUTRAL * locus_scale
    rows, steps = [], 0
    while steps * STEP < seconds:
        phrase = draw_phrase(rng)
        for i, ((onset, vowel, coda), tone) in enumerate(zip(phrase, draw_tones(rng, phrase))):
            done = i / len(phrase)
            tone = voice.f0_range * tone - 3 * done  # semitones; pitch and level fall during a phrase
            stress = rng.normal(0, 1.5) - 3 * done ** 2  # dB
            stretch = 5.5 / voice.rate * rng.lognormal(0, 0.15) * (1.5 if i == len(phrase) - 1 else 1)
            target = neutral * (VOWELS[vowel][voice.sex] / neutral) ** voice.vowel_space
            target = target * rng.lognormal(0, 0.03, 3)
            sibilant = voice.sibilant * (0.75 if vowel == 'i' else 1)  # /i/: the tongue is further back
            for segment in ONSETS[onset][1] + [Segment(rng.normal(120, 20), 0)] + CODAS[coda][1]:
                duration = max(1, round(segment.ms / 1000 * stretch / STEP))
                levels = np.array([segment.voicing, segment.aspiration, segment.frication])
                formants = target if segment.formants is None else segment.formants * locus_scale
                amplitudes = 10 ** ((levels + stress) / 20)
                rows.append((duration, amplitudes, formants, segment.centre * sibilant, tone))
        pause = round(rng.uniform(0.08, 0.3) / STEP)
        rows.append((pause, np.zeros(3), *rows[-1][2:]))
        steps = sum(row[0] for row in rows)
    return [np.array(column) for column in zip(*rows)]


# ------------------------------------------------------------------------------------------------------ sound

def smooth(track, width):
    """Smooth steps by a Hann-weighted mean over `width` (odd) rows: (n, k) -> (n, k). Tongues cannot jump."""
    weights = np.hanning(width + 2)[1:-1]
    padded = np.pad(track, ((width // 2, width // 2), (0, 0)), mode='edge')
    windows = np.lib.stride_tricks.sliding_window_view(padded, width, axis=0)  # (n, k, width)
    return windows @ (weights / weights.sum())


def glottal_pulses(rng, voice, f0):
    """Make pulses of unit power (n * HOP,) from F0 (n,) in Hz. Jitter moves each pulse. Shimmer scales it."""
    n_samples = len(f0) * HOP
    cycles = np.cumsum(np.repeat(f0, HOP)) / RATE
    number = np.arange(int(cycles[-1]))
    moved = number + voice.jitter * rng.standard_normal(len(number))
    instants = np.interp(moved, cycles, np.arange(n_samples))
    heights = 10 ** (voice.shimmer * rng.standard_normal(len(number)) / 20)
    heights *= np.sqrt(RATE / f0[(instants / HOP).astype(int)])  # fewer pulses are higher
    before = np.minimum(instants.astype(int), n_samples - 2)
    share = instants - before  # a pulse between two samples is divided; the second one gets this share
    return (np.bincount(before, heights * (1 - share), n_samples)
            + np.bincount(before + 1, heights * share, n_samples))


def short_time_spectrum(source):
    """Compute the spectra of 20 ms Hann windows every 5 ms: (n * HOP,) samples -> (n, bins)."""
    padded = np.pad(source.astype(np.float32), (0, WINDOW - HOP))
    pieces = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]  # (n, WINDOW)
    return fft.rfft(pieces * np.hanning(WINDOW + 1)[:-1].astype(np.float32), FFT_SIZE)


def overlap_add(spectrum):
    """Invert short_time_spectrum: (n, bins) -> ((n + 7) * HOP,) samples. In the last, the formants ring."""
    pieces = fft.irfft(spectrum, FFT_SIZE).reshape(len(spectrum), -1, HOP)  # (n, 8, HOP)
    audio = np.zeros((len(spectrum) + pieces.shape[1] - 1, HOP), np.float32)
    for i in range(pieces.shape[1]):
        audio[i:i + len(spectrum)] += pieces[:, i]
    return audio.ravel() / 2  # four overlapping Hann windows add up to 2


def resonators(formants, bandwidths):
    """Response of k resonators in a row, 1 at 0 Hz (Klatt 1980): (n, k), (n, k), both in Hz -> (n, bins)."""
    radius = np.exp(-np.pi * bandwidths / RATE)
    cosine = np.cos(2 * np.pi * formants / RATE)
    denominator = np.ones((len(formants), 1))
    for k in range(formants.shape[1]):  # multiply the polynomials 1 - 2 r cos(w) z^-1 + r^2 z^-2
        product = np.pad(denominator, ((0, 0), (0, 2)))
        product[:, 1:-1] -= denominator * (2 * radius[:, k] * cosine[:, k])[:, None]
        product[:, 2:] += denominator * (radius[:, k] ** 2)[:, None]
        denominator = product
    gain = denominator.sum(axis=1, keepdims=True)
    return gain.astype(np.float32) / fft.rfft(denominator.astype(np.float32), FFT_SIZE)


def bandwidths_of(formants):
    """Bandwidths in Hz: losses at walls, glottis and lips (Fant 1972). An open glottis widens F1 and F2."""
    relative = formants / 500
    bandwidths = 15 / relative ** 2 + 20 * np.sqrt(relative) + 3.5 * relative ** 2
    bandwidths[:, :2] += (60, 30)
    return bandwidths


def second_order(frequency, quality):
    """1 / the response of a resonance: |(1 - x^2) + j x / quality| at x = FREQUENCIES / frequency."""
    x = FREQUENCIES / frequency
    return np.sqrt((1 - x ** 2) ** 2 + (x / quality) ** 2)


def speech_level(audio):
    """Mean level in dBFS of the 25 ms frames that are at most 40 dB below the loudest one."""
    frame = round(0.025 * RATE)
    power = np.square(audio[:len(audio) // frame * frame].reshape(-1, frame)).mean(axis=1)
    return 10 * np.log10(power[power > 1e-4 * power.max()].mean())


def synthesise(seed, voice, utterance, seconds, place=None):
    """Make utterance number `utterance` of a Voice: mono audio (n_samples,) in [-1, 1], float32.

    seconds: its length, with the silence at both ends. place: the room and microphone that it is recorded with
    (draw_place of support/rooms.py); None: no echoes, and the microphone changes nothing.
    """
    rng = np.random.default_rng([seed, voice.index, 1 + utterance])  # 0 would give the numbers of draw_voice
    average = AVERAGES[voice.sex]
    duration, amplitudes, formants, centre, tone = draw_sentence(rng, voice, seconds - 2 * SILENCE)

    # Targets become tracks with a value every 5 ms: (n_segments, ...) -> (n, ...). The source changes
    # quickly, the tongue slowly, and pitch most slowly
    n = round((seconds - 2 * SILENCE) / STEP)
    amplitudes = smooth(np.repeat(amplitudes, duration, axis=0)[:n], 5)  # (n, 3)
    formants = np.exp(smooth(np.log(np.repeat(formants, duration, axis=0)[:n]), 15))  # (n, 3)
    tone = smooth(np.repeat(tone, duration)[:n, None], 25)[:, 0]  # (n,)
    centre = np.repeat(centre, duration)[:n, None]  # (n, 1)

    # The vocal tract. F1 to F3 come from the sounds, higher ones from a tube. All are scaled to this voice
    tract = average.tract_length / voice.tract_length
    tube = (2 * np.arange(4, 9) - 1) * SPEED_OF_SOUND / (4 * voice.tract_length)
    tube = tube[tube < 0.49 * RATE]
    formants = np.hstack([formants * tract, np.tile(tube, (n, 1))])  # (n, 7 or 8)
    formants = np.sort(formants * voice.formant_scale[:3 + len(tube)], axis=1)
    piriform = second_order(average.piriform * tract, 7) / second_order(average.piriform * tract, 1.25)
    bandwidths = bandwidths_of(formants) * voice.bandwidth_scale
    tract_response = resonators(formants, bandwidths) * piriform  # (n, bins)

    # The glottis makes pulses and noise. The spectrum of the pulses is that of the derivative of the air flow
    f0 = voice.f0 * 2 ** ((tone + rng.normal(0, 0.7)) / 12)
    peak = average.glottal_formant * voice.f0
    pulse_shape = FREQUENCIES / peak / second_order(peak, voice.open_phase)
    pulse_shape = pulse_shape / np.hypot(1, FREQUENCIES / voice.tilt)
    noise_shape = 0.25 / np.hypot(1, FREQUENCIES / 2500)
    voicing, aspiration, frication = np.repeat(amplitudes, HOP, axis=0).T  # (n * HOP,) each
    breath = voicing * 10 ** (voice.breathiness / 20) + aspiration
    noise = rng.standard_normal(n * HOP)
    spectrum = short_time_spectrum(voicing * glottal_pulses(rng, voice, f0)) * pulse_shape.astype(np.float32)
    spectrum += short_time_spectrum(breath * noise) * noise_shape.astype(np.float32)
    spectrum *= tract_response

    # A fricative is noise with one broad resonance
    detuning = FREQUENCIES / centre - centre / np.maximum(FREQUENCIES, 1)  # (n, bins)
    noise_shape = 1.6 / np.hypot(1, 2.5 * detuning)
    spectrum += short_time_spectrum(frication * noise) * noise_shape.astype(np.float32)

    # The recording has little below 160 Hz, silence at both ends, a level, and the noise of a quiet room. In
    # the corpus of the slides, the level of a speaker has a standard deviation of 1.4 dB from utterance to
    # utterance
    x = FREQUENCIES / 160
    audio = np.pad(overlap_add(spectrum * (x ** 3 / np.hypot(1, x ** 3)))[:n * HOP], round(SILENCE * RATE))
    audio *= 10 ** ((voice.level + rng.normal(0, 1.4) - speech_level(audio)) / 20)
    audio += 1e-4 * rng.standard_normal(len(audio), np.float32)  # -80 dBFS
    return audio if place is None else record_in(place, audio, rng).astype(np.float32)


# ----------------------------------------------------------------------------------------- files, in parallel

SEED = 0  # for all demo voices
N_TRAIN_VOICES, N_TEST_VOICES = 240, 10
N_UTTERANCES = 7  # utterances of each training voice
TRAIN_SECONDS = (3.0, 4.0)  # shortest and longest training utterance, with the silence at both ends
TEST_SECONDS = 15.0
N_SESSION_VOICES, N_SESSIONS, N_IN_SESSION = 20, 2, 2  # voices, occasions of each, recordings on each
SESSION_SECONDS = 8.0
FIRST_OF_SESSIONS = 100  # the number of their first utterance: a voice says there what it says nowhere else
MARKER = '.unfinished'  # name of a file in a folder that is not complete
EARLIER = ('%s holds demo voices of an earlier version, which are not levelled as recordings are.\n'
           'To have them made again, delete the folder.')


def make_train_utterance(task):
    """Write the feature file of one training utterance. task is (folder, seed, voice index, utterance)."""
    feat_dir, seed, index, utterance = task
    voice = draw_voice(seed, index)
    filename = Path(feat_dir) / voice.name / ('%s_%02d.p' % (voice.name, utterance))
    if not filename.exists():
        seconds = np.random.default_rng([seed, index, 1 + utterance, 1]).uniform(*TRAIN_SECONDS)
        recording = Recording(synthesise(seed, voice, utterance, seconds).astype(np.float64), filename)
        write_feature(filename, feature_of(recording)[0], voice.name, recording.origin())


def make_test_wav(task):
    """Write enroll.wav or test.wav of one test voice, 16-bit PCM.

    task is (folder, seed, voice index, file name).
    """
    wav_dir, seed, index, name = task
    voice = draw_voice(seed, index)
    filename = Path(wav_dir) / voice.name / name
    if not filename.exists():
        write_wav(filename, synthesise(seed, voice, int(name == 'test.wav'), TEST_SECONDS))


def write_wav(filename, audio):
    """Write audio (n_samples,) as 16-bit PCM."""
    with written_whole(filename) as f:
        wavfile.write(f, RATE, np.round(audio * 2**15).astype(np.int16))


def make_session_wav(task):
    """Write <voice>/session<s>_<n>.wav of one test voice, in the Place of the session.

    task is (folder, seed, voice index, s, n).
    """
    wav_dir, seed, index, session, number = task
    voice = draw_voice(seed, index)
    filename = Path(wav_dir) / voice.name / ('session%d_%d.wav' % (session, number))
    if not filename.exists():
        utterance = FIRST_OF_SESSIONS + N_IN_SESSION * session + number
        place = draw_place(seed, N_SESSIONS * index + session)
        write_wav(filename, synthesise(seed, voice, utterance, SESSION_SECONDS, place))


def make_sessions(wav_dir, n_voices=N_SESSION_VOICES):
    """Write the recordings of test voices on several occasions, where they do not exist."""
    first = N_TRAIN_VOICES + 1
    tasks = [(wav_dir, SEED, index, session, number) for index in range(first, first + n_voices)
             for session in range(1, 1 + N_SESSIONS) for number in range(1, 1 + N_IN_SESSION)]
    in_parallel(make_session_wav, tasks, 'Sessions')


def make_train_features(feat_dir, *, first=1, n_voices=N_TRAIN_VOICES, n_utterances=N_UTTERANCES, seed=SEED):
    """Write feat_dir/<voice>/<voice>_<utterance>.p, where it does not exist, for all training voices.

    They are levelled as those of recordings are. Raises LabError if others lie there that are not.
    """
    if is_unlevelled(feat_dir):
        raise LabError(EARLIER % feat_dir)
    tasks = [(feat_dir, seed, index, utterance)
             for index in range(first, first + n_voices) for utterance in range(n_utterances)]
    with marked_unfinished(feat_dir):
        in_parallel(make_train_utterance, tasks, 'Training voices')


def make_test_features(wav_dir, feat_dir, *, first=N_TRAIN_VOICES + 1, n_voices=N_TEST_VOICES, seed=SEED):
    """Write wav_dir/<voice>/enroll.wav and test.wav, and their features below feat_dir, if there are none.

    If both are one folder, no features are made: the recordings are read there.
    """
    tasks = [(wav_dir, seed, index, name)
             for index in range(first, first + n_voices) for name in ('enroll.wav', 'test.wav')]
    with marked_unfinished(feat_dir):
        in_parallel(make_test_wav, tasks, 'Test voices')
        errors = convert_wavs(wav_dir, feat_dir) if Path(wav_dir) != Path(feat_dir) else []
        if errors:
            raise LabError('%s\nDelete it, and it is made again.' % errors[0].splitlines()[0])


@contextmanager
def marked_unfinished(feat_dir):
    """Mark a folder of features as unfinished until the `with` ends. If the work stops, the mark stays."""
    marker = Path(feat_dir) / MARKER
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.touch()
    yield
    marker.unlink(missing_ok=True)  # another script may have done the same work


def is_own(directory):
    """Whether this is the folder test_wavs, feat_*/train or feat_*/test of this project."""
    path = Path(directory).resolve()
    is_feature_folder = path.parent.name.startswith('feat_') and path.name in ('train', 'test')
    return path == PROJECT / 'test_wavs' or path.parent.parent == PROJECT and is_feature_folder


def may_fill(*directories):
    """Whether these are folders of this project with <speaker>/<utterance>, with nothing but demo voices."""
    demo_names = {draw_voice(SEED, index).name for index in range(1, N_TRAIN_VOICES + N_TEST_VOICES + 1)}
    files = [file for directory in directories for file in find_wavs(directory) + find_feats(directory)]
    return (c.SPEAKER_LEVEL == 1 and all(map(is_own, directories))
            and all(speaker_of(file) in demo_names for file in files))


def is_complete(feat_dir):
    """Whether the folder holds feature files, or recordings, and is not marked as unfinished."""
    return bool(find_feats(feat_dir) or find_wavs(feat_dir)) and not (Path(feat_dir) / MARKER).exists()


def is_unlevelled(feat_dir):
    """Whether the demo voices in a folder are not levelled as recordings are. All of them are of one kind."""
    filenames = find_feats(feat_dir)
    return bool(filenames) and not is_of_recording(filenames[0])


def provide_train_features(train_dir=c.TRAIN_FEAT_DIR):
    """Make demo voices in train_dir if may_fill allows it, and there are neither feature files nor
    recordings.

    Prints a note if there are demo voices that are not levelled as recordings are.
    """
    if is_complete(train_dir) and may_fill(train_dir) and is_unlevelled(train_dir):
        print('Note: ' + EARLIER % train_dir)
    if is_complete(train_dir) or find_wavs(c.TRAIN_WAV_DIR) or not may_fill(train_dir):
        return
    print('Making %d synthetic demo voices: %s has no feature files' % (N_TRAIN_VOICES, train_dir),
          flush=True)
    make_train_features(train_dir)


def provide_test_features(test_dir=c.TEST_FEAT_DIR):
    """Make demo voices in TEST_WAV_DIR and test_dir if may_fill allows it, and test_dir is not complete.

    Recordings in test_dir are enough, as in `--test_dir=test_wavs`: they are read there.
    """
    if is_complete(test_dir) or not may_fill(c.TEST_WAV_DIR, test_dir):
        return
    print('Making %d synthetic demo voices: %s has no feature files' % (N_TEST_VOICES, test_dir), flush=True)
    make_test_features(c.TEST_WAV_DIR, test_dir)


def main(
        # Settings
        n_others=0,  # make so many other voices, in others_dir; try 40. 0: those of the lab
        others_dir='feat_others',  # where the other voices go: wavs/<voice> and test/<voice>
        sessions_dir='',  # write recordings of test voices in several rooms into this folder, and nothing else
):
    check_settings(main, locals(), n_others=whole(0), sessions_dir=NAME_OR_EMPTY)
    if n_others and sessions_dir:
        raise LabError('n_others and sessions_dir: name one of them, and run the program again for the other.')
    if n_others:
        make_test_features(others_dir + '/wavs', others_dir + '/test', first=N_TRAIN_VOICES + N_TEST_VOICES + 1,
                           n_voices=n_others)
        return
    if sessions_dir:
        make_sessions(sessions_dir)
        print('%s: %d voices, %d sessions of each, %d recordings in each'
              % (sessions_dir, N_SESSION_VOICES, N_SESSIONS, N_IN_SESSION))
        return
    for directories, make in (((c.TRAIN_FEAT_DIR,), make_train_features),
                              ((c.TEST_WAV_DIR, c.TEST_FEAT_DIR), make_test_features)):
        names = ' and '.join(directories)
        if may_fill(*directories):
            make(*directories)
            print('%s: complete' % names)
        else:
            print('%s: left alone: not the project\'s own, or holds other files than demo voices' % names)


if __name__ == '__main__':
    run_script(main)
