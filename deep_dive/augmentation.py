"""Change training samples: speed, level, room, noise, band, gaps. `augment` in deep_dive/train.py names which.

All of it is done on the filterbank, so features are enough. deep_dive/acoustics.py changes waveforms.
"""
import functools

import numpy as np
import torch
from python_speech_features import fbank
from python_speech_features.base import get_filterbanks, hz2mel, mel2hz
from scipy.signal import lfilter
from torch.utils.data import Dataset

import configure as c
from SR_Dataset import ToTensorInput, TruncatedInputfromMFB
from support.checks import require_log_filterbank

N_FFT, PRE_EMPHASIS = 512, 0.97  # of fbank of python_speech_features, which makes the features
PER_NEPER = 20 / np.float32(np.log(10))  # features are 20*log10 of energies, so a factor of e adds this
# How much each augmentation changes a sample
SPEEDS = (1.0, 0.9, 1.1)  # 'speed': another speed is another speaker
MAX_ATTENUATION = 20  # 'level': in units of 20*log10 of energy, so this is 10 dB. After 20 dB little would be left
MIN_SNR, MAX_SNR = 5, 30  # 'noise': dB between the mean powers of the two waveforms, recording and noise
MIN_REVERBERATION, MAX_REVERBERATION = 0.1, 0.8  # 'room': seconds in which the echoes fall by 60 dB
MIN_DIRECT, MAX_DIRECT = -3, 12  # 'room': dB between the direct sound and all echoes together
MAX_RATIO = 3  # 'room': the differences of loudness between frames are divided by 1 to this
ROOM_SHARE = 0.5  # 'room': this share of the samples gets echoes, and as many another loudness
MICROPHONE_DB, MICROPHONE_POINTS = 6, 8  # 'microphone': gains up to this, at so many places of the mel scale
MICROPHONE_SHARE = 0.5  # 'microphone': this share of the samples gets another frequency response
BANDS = ((0, 4000), (300, 3400))  # 'band', in Hz: a recording at 8 kHz, and a telephone line
BAND_SHARE = 0.2  # 'band': this share of the samples loses the frequencies outside one of BANDS
NOISE_SHARE = 0.5  # 'noise': this share of the samples gets noise
NOISE_SECONDS = 20  # 'noise': it is made once, and a sample gets a random part of it
MAX_SLOPE = 2.0  # 'noise': its power is frequency ** -slope, with a slope from 0 (white) to this (brown)
FLAT_BELOW = 50  # 'noise': Hz; below it, the power is that at this frequency
MASKED_FRAMES, MASKED_ROWS = 20, 8  # 'specaugment': at most so many of a window's 100 and 40


def change_speed(feature, speed):
    """Play a feature `speed` times as fast: (n_frames, FILTER_BANK) -> (n_frames / speed, FILTER_BANK).

    Times are divided by `speed` and frequencies multiplied, both by linear interpolation. So the voice becomes another
    one. Yamamoto et al. 2019 make new speakers in this way from waveforms. Here they are made from the filterbank.
    """
    times = np.arange(int((len(feature) - 1) / speed) + 1) * speed  # in frames of the original
    frame = np.minimum(times.astype(int), len(feature) - 2)
    share = (times - frame)[:, None].astype(np.float32)
    slower = feature[frame] * (1 - share) + feature[frame + 1] * share
    return slower @ filter_warp(speed, feature.shape[1])


def filter_centres(n_filters):
    """The centre frequencies of the mel filters of python_speech_features: (n_filters,) in Hz."""
    return mel2hz(hz2mel(c.SAMPLE_RATE / 2) * np.arange(1, n_filters + 1) / (n_filters + 1))


@functools.cache
def filter_warp(speed, n_filters):
    """Matrix (n_filters, n_filters). Log energies times it are those of a voice with `speed` times the frequencies."""
    mel = hz2mel(filter_centres(n_filters) / speed)
    place = np.clip(mel / hz2mel(c.SAMPLE_RATE / 2) * (n_filters + 1) - 1, 0, n_filters - 1)  # which filter, from 0 on
    return np.maximum(0, 1 - np.abs(np.arange(n_filters)[:, None] - place)).astype(np.float32)


def mean_with_silence(feature, silence):
    """The mean (FILTER_BANK,) of a trimmed feature (n_frames, FILTER_BANK) and of the frames that read_MFB dropped.

    silence: (FILTER_BANK,), the value of each dropped frame. In the slides' corpus 99.9 % of them are on the floor.
    """
    n_dropped = 2 * round(c.TRIM_SECONDS / c.WIN_STEP)
    return (feature.sum(axis=0) + n_dropped * silence) / (len(feature) + n_dropped)


class AttenuatedInput:
    """Lower the level of a recording: (n_frames, FILTER_BANK) -> the same shape.

    The result is exact, because the floor is known. In a recording with pauses, the lowest frame of each filter is on
    it. What sinks below the floor is raised to it. Then the mean of the quieter recording is subtracted.
    """

    def __call__(self, frames_features):
        floor = frames_features.min(axis=0)
        quieter = np.maximum(frames_features - MAX_ATTENUATION * float(torch.rand(1)), floor)
        return quieter - mean_with_silence(quieter, floor)


def energy_of(frames_features):
    """The filter energies of a feature: (n_frames, FILTER_BANK). What is on the floor counts as no energy.

    The lowest frame of each filter has ENERGY_FLOOR. So the mean that was subtracted need not be known.
    """
    above_floor = frames_features - frames_features.min(axis=0)
    energy = c.ENERGY_FLOOR * np.exp(above_floor / PER_NEPER)
    energy[above_floor == 0] = 0
    return energy


def feature_of_energy(energy):
    """Energies in 20*log10, not below the floor: (n_frames, FILTER_BANK)."""
    return PER_NEPER * np.log(np.maximum(energy, c.ENERGY_FLOOR))


class RoomInput:
    """Put a recording into a room, and change its loudness: (n_frames, FILTER_BANK) -> the same shape.

    Echoes are earlier frames whose power falls exponentially. Powers are added, as in the average over all phases.
    """

    def __call__(self, frames_features):
        has_echoes, seconds, direct, is_compressed, ratio = torch.rand(5).tolist()
        if has_echoes > ROOM_SHARE and is_compressed > ROOM_SHARE:
            return frames_features
        energy = energy_of(frames_features)  # (n_frames, FILTER_BANK)
        if is_compressed <= ROOM_SHARE:
            loudness = energy.mean(axis=1, keepdims=True)  # (n_frames, 1)
            ratio = 1 + (MAX_RATIO - 1) * ratio
            energy *= np.maximum(loudness / max(loudness.max(), 1e-30), 1e-4) ** (1 / ratio - 1)
        if has_echoes <= ROOM_SHARE:
            seconds = MIN_REVERBERATION + (MAX_REVERBERATION - MIN_REVERBERATION) * seconds
            decay = 10 ** (-6 * c.WIN_STEP / seconds)  # of the power, from one frame to the next
            echoes = lfilter([0, 1 - decay], [1, -decay], energy, axis=0)  # their powers add up to that of energy
            energy = energy + echoes * 10 ** (-(MIN_DIRECT + (MAX_DIRECT - MIN_DIRECT) * direct) / 10)
        feature = feature_of_energy(energy.astype(np.float32))
        return feature - mean_with_silence(feature, feature_of_energy(np.zeros(energy.shape[1], np.float32)))


class MicrophoneInput:
    """Record with another microphone: a gain for each filter, (n_frames, FILTER_BANK) -> the same shape.

    Subtracting the mean would undo a gain, but what was near the floor sinks into it, or stands out more.
    """

    def __call__(self, frames_features):
        is_changed, *gains = torch.rand(1 + MICROPHONE_POINTS).tolist()
        if is_changed > MICROPHONE_SHARE:
            return frames_features
        n_filters = frames_features.shape[1]
        places = np.linspace(0, n_filters - 1, MICROPHONE_POINTS)
        gain = np.interp(np.arange(n_filters), places, MICROPHONE_DB * (2 * np.array(gains) - 1)).astype(np.float32)
        above_floor = frames_features - frames_features.min(axis=0)  # (n_frames, FILTER_BANK)
        changed = np.maximum(above_floor + 2 * gain, 0) * (above_floor > 0)  # 1 dB is 2 in 20*log10 of energies
        return changed - mean_with_silence(changed, np.zeros(n_filters, np.float32))


class NarrowInput:
    """Remove the frequencies that a telephone does not carry: (n_frames, FILTER_BANK) -> the same shape.

    A filter without energy is on the floor in every frame. So it is 0 when the mean is subtracted.
    """

    def __init__(self):
        centres = filter_centres(c.FILTER_BANK)
        self.outside = [(centres < lowest) | (centres > highest) for lowest, highest in BANDS]

    def __call__(self, frames_features):
        is_narrow, which = torch.rand(2).tolist()
        if is_narrow > BAND_SHARE:
            return frames_features
        feature = frames_features.copy()  # because it may be the one in memory
        feature[:, self.outside[int(which * len(BANDS))]] = 0
        return feature


class NoisyInput:
    """Add steady noise to a recording: (n_frames, FILTER_BANK) -> the same shape.

    The energies of speech and noise are added. On average over all phases, adding the waveforms does the same. The
    ratio of the two is that of the waveforms, as in add_noise of acoustics.py. A ratio of filter energies would be
    another one: before python_speech_features computes them, its pre-emphasis x[n] - 0.97 x[n - 1] takes 14 dB or more
    from all below 500 Hz, where speech is loudest, and adds 3 dB to white noise. What is on the floor is not known and
    counts as nothing, so there is a little less noise than asked for.
    """

    def __init__(self):
        white = np.random.default_rng(0).normal(size=NOISE_SECONDS * c.SAMPLE_RATE)
        noise = fbank(white, c.SAMPLE_RATE, c.WIN_LENGTH, c.WIN_STEP, c.FILTER_BANK)[0]
        self.noise = (noise / noise.mean(axis=0)).astype(np.float32)  # (n_frames, FILTER_BANK), 1 on average
        self.n_samples = round(c.WIN_LENGTH * c.SAMPLE_RATE)
        self.filters = get_filterbanks(c.FILTER_BANK, N_FFT, c.SAMPLE_RATE)  # (FILTER_BANK, N_FFT / 2 + 1)
        self.frequency = np.fft.rfftfreq(8 * N_FFT, 1 / c.SAMPLE_RATE)  # Hz; finer than that of the filters
        self.emphasis = np.abs(1 - PRE_EMPHASIS * np.exp(-2j * np.pi * self.frequency / c.SAMPLE_RATE)) ** 2

    def power_of(self, energy):
        """The mean power of the waveform that has these filter energies: (n_frames, FILTER_BANK) -> a number.

        The filters add up to 1 at each frequency, so together they hold the power of a frame after the pre-emphasis.
        Each is divided by what the pre-emphasis does there. 2: only one half of the spectrum is in the filters.
        """
        gain = self.filters.sum(axis=1) / (self.filters @ (1 / self.emphasis[::8]))  # (FILTER_BANK,)
        return (energy / gain).sum(axis=1).mean() * 2 / self.n_samples

    def noise_energy(self, slope):
        """The mean filter energies (FILTER_BANK,) of noise of power 1 that falls with frequency ** -slope."""
        power = np.maximum(self.frequency, FLAT_BELOW) ** -slope
        correlation = np.fft.irfft(self.emphasis * power / power.mean())  # with itself, some samples later
        lag = np.minimum(np.arange(len(correlation)), len(correlation) - np.arange(len(correlation)))
        spectrum = np.fft.rfft(correlation * np.maximum(self.n_samples - lag, 0)).real  # of a frame, on average
        return self.filters @ spectrum[::8] / N_FFT

    def __call__(self, frames_features):
        is_noisy, snr, slope, start = torch.rand(4).tolist()
        if is_noisy > NOISE_SHARE:
            return frames_features
        energy = energy_of(frames_features)  # (n_frames, FILTER_BANK)
        frames = (int(start * len(self.noise)) + np.arange(len(energy))) % len(self.noise)
        power = self.power_of(energy) * 10 ** (-(MIN_SNR + (MAX_SNR - MIN_SNR) * snr) / 10)
        noise = self.noise[frames] * (power * self.noise_energy(MAX_SLOPE * slope)).astype(np.float32)
        noisy = feature_of_energy(energy + noise)
        silence = feature_of_energy(noise[:50]).mean(axis=0)
        return noisy - mean_with_silence(noisy, silence)


class MaskedInput:
    """Set some frames and some rows of (1, n_frames, n_dims) to 0, their mean (SpecAugment, Park et al. 2019).

    The paper also warps the time axis, and may mask twice. Here a window is a second, which leaves less to hide.
    """

    def __call__(self, window):
        window = window.copy()  # because it is part of the features in memory
        for axis, most in ((1, MASKED_FRAMES), (2, MASKED_ROWS)):
            width, start = torch.rand(2).tolist()
            width = int(width * (most + 1))
            start = int(start * (window.shape[axis] - width + 1))
            np.moveaxis(window, axis, 0)[start:start + width] = 0
        return window


AUGMENTATIONS = ['speed', 'level', 'room', 'microphone', 'noise', 'band', 'specaugment']


def training_transforms(augment):
    """List of the transforms that make a tensor (1, n_dims, NUM_WIN_SIZE) of a feature (n_frames, n_dims).

    augment: list of names among AUGMENTATIONS. AugmentedDataset does 'speed'. All names except 'specaugment' need log
    filterbank energies. Raises LabError for other features.
    """
    if set(augment) - {'specaugment'}:
        require_log_filterbank('augment = %r' % augment)
    transforms = [AttenuatedInput()] if 'level' in augment else []
    transforms += [RoomInput()] if 'room' in augment else []
    transforms += [MicrophoneInput()] if 'microphone' in augment else []
    transforms += [NoisyInput()] if 'noise' in augment else []
    transforms += [NarrowInput()] if 'band' in augment else []
    transforms += [TruncatedInputfromMFB()]
    transforms += [MaskedInput()] if 'specaugment' in augment else []
    return transforms + [ToTensorInput()]


class AugmentedDataset(Dataset):
    """The utterances of a DvectorDataset. They are a little different each time.

    With 'speed', one of SPEEDS is drawn each time. The k-th speed adds k * n_speakers to the speaker's number.
    deep_dive/batches.py asks for (index, k) instead, because all utterances of a group must have one speed.
    """

    def __init__(self, dataset, augment):
        self.dataset, self.transforms = dataset, training_transforms(augment)
        self.speeds = SPEEDS if 'speed' in augment else SPEEDS[:1]
        self.labels, self.filenames = dataset.labels, dataset.filenames
        self.in_memory, self.feature = dataset.in_memory, dataset.feature
        self.n_speakers, self.n_classes = dataset.n_speakers, len(self.speeds) * dataset.n_speakers

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index):
        index, k = index if isinstance(index, tuple) else (index, int(torch.randint(len(self.speeds), ())))
        feature = self.dataset.feature(index)  # (n_frames, n_dims)
        if k > 0:
            feature = change_speed(feature, self.speeds[k])
        for transform in self.transforms:
            feature = transform(feature)
        return feature, self.labels[index] + k * self.n_speakers
