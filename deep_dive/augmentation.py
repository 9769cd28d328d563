"""Training samples made different: other speeds, levels, noise, gaps. `augment` in train.py names which."""
import functools

import numpy as np
import torch
from python_speech_features import fbank
from python_speech_features.base import hz2mel, mel2hz
from torch.utils.data import Dataset

import configure as c
from SR_Dataset import ToTensorInput, TruncatedInputfromMFB
from support.checks import require_log_filterbank

PER_NEPER = 20 / np.float32(np.log(10))  # features are 20*log10 of energies: so much for a factor of e
# Augmentation (train.py names which)
SPEEDS = (1.0, 0.9, 1.1)  # 'speed': each a further speaker
MAX_ATTENUATION = 20  # 'level': in the features' own 20*log10 of energies, so 10 dB; after 20 dB little would be left
MIN_SNR, MAX_SNR = 5, 30  # 'noise': dB between the average speech and the noise
NOISE_SHARE = 0.5  # 'noise': of the samples; the others stay clean
NOISE_SECONDS = 20  # 'noise': made once; a sample gets a random stretch of it
MAX_SLOPE = 2.0  # 'noise': its power falls with frequency to the power of 0 (white) to this (brown)
MASKED_FRAMES, MASKED_ROWS = 20, 8  # 'specaugment': at most, of a window's 100 and 40


def change_speed(feature, speed):
    """As if played `speed` times as fast: (n_frames, FILTER_BANK) -> (n_frames / speed, FILTER_BANK).

    Time is divided and frequency multiplied by it, both by linear interpolation; the voice becomes another one. After
    Yamamoto et al. 2019 (speed perturbation that makes new speakers), on the filterbank in place of the waveform.
    """
    times = np.arange(int((len(feature) - 1) / speed) + 1) * speed  # in frames of the original
    frame = np.minimum(times.astype(int), len(feature) - 2)
    share = (times - frame)[:, None].astype(np.float32)
    slower = feature[frame] * (1 - share) + feature[frame + 1] * share
    return slower @ filter_warp(speed, feature.shape[1])


def filter_centres(n_filters):
    """The frequencies at which the mel filters of python_speech_features are highest: (n_filters,) in Hz."""
    return mel2hz(hz2mel(c.SAMPLE_RATE / 2) * np.arange(1, n_filters + 1) / (n_filters + 1))


@functools.cache
def filter_warp(speed, n_filters):
    """(n_filters, n_filters) matrix: log energies times it are those of a voice of `speed` times the frequencies."""
    mel = hz2mel(filter_centres(n_filters) / speed)
    place = np.clip(mel / hz2mel(c.SAMPLE_RATE / 2) * (n_filters + 1) - 1, 0, n_filters - 1)  # in filters, from 0
    return np.maximum(0, 1 - np.abs(np.arange(n_filters)[:, None] - place)).astype(np.float32)


def mean_with_silence(feature, silence):
    """The mean (FILTER_BANK,) of a trimmed feature (n_frames, FILTER_BANK) and of what read_MFB dropped of it.

    silence: (FILTER_BANK,) value of each dropped frame. In the slides' corpus 99.9 % of it is on the floor.
    """
    n_dropped = 2 * round(c.TRIM_SECONDS / c.WIN_STEP)
    return (feature.sum(axis=0) + n_dropped * silence) / (len(feature) + n_dropped)


class AttenuatedInput:
    """The recording at a lower level: (n_frames, FILTER_BANK) -> the same shape.

    Exact, because the floor is known: in each filter of a recording with pauses some frame is on it, the lowest. What
    sinks below it is on it, and the mean subtracted is that of the quieter recording.
    """

    def __call__(self, frames_features):
        floor = frames_features.min(axis=0)
        quieter = np.maximum(frames_features - MAX_ATTENUATION * float(torch.rand(1)), floor)
        return quieter - mean_with_silence(quieter, floor)


class NoisyInput:
    """The recording in steady noise: (n_frames, FILTER_BANK) -> the same shape.

    The energies of speech and noise are added, which is what adding the waveforms comes to on average over phases.
    """

    def __init__(self):
        noise = np.random.default_rng(0).normal(size=NOISE_SECONDS * c.SAMPLE_RATE)
        self.noise = fbank(noise, c.SAMPLE_RATE, c.WIN_LENGTH, c.WIN_STEP, c.FILTER_BANK)[0].astype(np.float32)
        self.frequency = (filter_centres(c.FILTER_BANK) / 1000).astype(np.float32)  # kHz

    def __call__(self, frames_features):
        is_noisy, snr, slope, start = torch.rand(4).tolist()
        if is_noisy > NOISE_SHARE:
            return frames_features
        above_floor = frames_features - frames_features.min(axis=0)
        energy = c.ENERGY_FLOOR * np.exp(above_floor / PER_NEPER)  # (n_frames, FILTER_BANK)
        energy[above_floor == 0] = 0  # what is on the floor has no more than that
        frames = (int(start * len(self.noise)) + np.arange(len(energy))) % len(self.noise)
        noise = self.noise[frames] * self.frequency ** (-MAX_SLOPE * slope)
        noise *= energy.sum() / noise.sum() * 10 ** (-(MIN_SNR + (MAX_SNR - MIN_SNR) * snr) / 10)
        noisy = PER_NEPER * np.log(np.maximum(energy + noise, c.ENERGY_FLOOR))
        silence = PER_NEPER * np.log(np.maximum(noise[:50], c.ENERGY_FLOOR)).mean(axis=0)
        return noisy - mean_with_silence(noisy, silence)


class MaskedInput:
    """SpecAugment (Park et al. 2019): some frames and some rows of (1, n_frames, n_dims) become 0, their mean."""

    def __call__(self, window):
        window = window.copy()  # it is part of the features in memory
        for axis, most in ((1, MASKED_FRAMES), (2, MASKED_ROWS)):
            width, start = torch.rand(2).tolist()
            width = int(width * (most + 1))
            start = int(start * (window.shape[axis] - width + 1))
            np.moveaxis(window, axis, 0)[start:start + width] = 0
        return window


AUGMENTATIONS = ['speed', 'level', 'noise', 'specaugment']


def training_transforms(augment):
    """What a training sample goes through, from (n_frames, n_dims) to a (1, n_dims, NUM_WIN_SIZE) tensor.

    augment: list of names among AUGMENTATIONS; AugmentedDataset does 'speed'. All but 'specaugment' work on log
    filterbank energies. Raises LabError for other features.
    """
    if set(augment) - {'specaugment'}:
        require_log_filterbank('augment = %r' % augment)
    transforms = [AttenuatedInput()] if 'level' in augment else []
    transforms += [NoisyInput()] if 'noise' in augment else []
    transforms += [TruncatedInputfromMFB()]
    transforms += [MaskedInput()] if 'specaugment' in augment else []
    return transforms + [ToTensorInput()]


class AugmentedDataset(Dataset):
    """The utterances of a DvectorDataset, each time a little different.

    With 'speed', an utterance comes at one of SPEEDS each time; at the k-th, it is by speaker number + k * n_speakers.
    """

    def __init__(self, dataset, augment):
        self.dataset, self.transforms = dataset, training_transforms(augment)
        self.speeds = SPEEDS if 'speed' in augment else SPEEDS[:1]
        self.labels, self.in_memory, self.feature = dataset.labels, dataset.in_memory, dataset.feature
        self.n_speakers, self.n_classes = dataset.n_speakers, len(self.speeds) * dataset.n_speakers

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index):
        feature = self.dataset.feature(index)  # (n_frames, n_dims)
        k = int(torch.randint(len(self.speeds), ()))
        if k > 0:
            feature = change_speed(feature, self.speeds[k])
        for transform in self.transforms:
            feature = transform(feature)
        return feature, self.labels[index] + k * self.n_speakers
