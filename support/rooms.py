"""The room and the microphone of a recording: echoes, frequency response, noise. deep_dive/acoustics.py has more.

A demo voice can be recorded in a Place (support/demo_voices.py). The same seed and number always give the same Place.
Audio is (n_samples,), float in [-1, 1], at SAMPLE_RATE. rng is a numpy random generator.
"""
from typing import NamedTuple

import numpy as np
from scipy.signal import fftconvolve, firwin2

import configure as c


def rms(audio):
    """The root of the mean square of audio."""
    return float(np.sqrt(np.mean(audio ** 2)))


def add_room(audio, rng, reverberation=0.5, direct_db=0):
    """Add the echoes of a room, as loud as before. Their power falls by 60 dB in `reverberation` seconds.

    The echoes are noise that falls exponentially (Polack 1988). direct_db: how much more power the direct sound has
    than all echoes together. Near the mouth it is 10 dB, at the other end of a room -5 dB.
    """
    times = np.arange(int(reverberation * c.SAMPLE_RATE)) / c.SAMPLE_RATE
    echoes = rng.normal(size=len(times)) * 10 ** (-3 * times / reverberation)
    echoes[:int(rng.uniform(0.002, 0.01) * c.SAMPLE_RATE)] = 0  # the first echo comes after the direct sound
    echoes *= 10 ** (-direct_db / 20) / np.sqrt(np.sum(echoes ** 2))
    echoes[0] = 1
    wet = fftconvolve(audio, echoes)[:len(audio)]
    return wet * rms(audio) / max(rms(wet), 1e-12)


def add_noise(audio, rng, snr=10, slope=1.0):
    """Add steady noise, snr dB below the mean power of audio. Its power is frequency ** -slope: 0 white, 2 brown."""
    spectrum = np.fft.rfft(rng.normal(size=len(audio)))
    frequency = np.maximum(np.fft.rfftfreq(len(audio), 1 / c.SAMPLE_RATE), 50)  # flat below 50 Hz
    return mix(audio, np.fft.irfft(spectrum * frequency ** (-slope / 2), len(audio)), snr)


def mix(audio, noise, snr):
    """Add noise (n_samples,) to audio (n_samples,), so that the mean power of the noise is snr dB lower."""
    return audio + noise * rms(audio) / max(rms(noise), 1e-12) * 10 ** (-snr / 20)


def change_microphone(audio, rng, most_db=8):
    """Filter with the frequency response of another microphone: random gains, up to most_db, at nine frequencies."""
    frequencies = np.concatenate([[0], np.geomspace(100, c.SAMPLE_RATE / 2, 8)])
    gains = 10 ** (rng.uniform(-most_db, most_db, size=len(frequencies)) / 20)
    return fftconvolve(audio, firwin2(255, frequencies, gains, fs=c.SAMPLE_RATE), 'same')


class Place(NamedTuple):
    """A room with a microphone in it. Who records here shares them."""
    seed: int
    number: int
    reverberation: float  # seconds in which the echoes fall by 60 dB
    direct_db: float  # dB by which the direct sound is above all echoes
    snr: float  # dB by which the steady noise is below the recording
    slope: float  # of the noise: its power is frequency ** -slope


def draw_place(seed, number):
    """Draw the Place of this number: a living room or a class, one's own desk or the other end of the room."""
    rng = np.random.default_rng([seed, number, 0])
    return Place(seed, number, reverberation=rng.uniform(0.2, 0.8), direct_db=rng.uniform(-3, 10),
                 snr=rng.uniform(20, 35), slope=rng.uniform(0, 2))


def record_in(place, audio, rng):
    """What the microphone of a Place records of audio. rng: draws the noise, which is new in each recording.

    The echoes and the frequency response are those of the place, the same in all its recordings.
    """
    of_place = np.random.default_rng([place.seed, place.number, 1])
    audio = add_room(audio, of_place, place.reverberation, place.direct_db)
    return add_noise(change_microphone(audio, of_place), rng, place.snr, place.slope)
