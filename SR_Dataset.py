"""From a feature file to a batch, in three hops: read_MFB, DvectorDataset, collate_fn_feat_padded.

    read_MFB          file -> feature (n_frames, 40), label
    DvectorDataset    index -> feature (1, 40, n_frames) as a tensor, index of the speaker
    collate           list of those -> features (batch, 1, 40, n_frames), labels (batch,)
"""
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset, default_collate
from tqdm import tqdm

import configure as c
from DB_wav_reader import feature_of_wav, speaker_of, trim_silence
from support.checks import are_settings, feature_size, is_name, other_settings
from support.messages import LabError
from support.recordings import is_wav
from support.safe_files import read_pickles

MAX_DECIBELS = 1000  # no feature is as large, in units of 20*log10


def read_MFB(filename):
    """Read a feature file and drop TRIM_SECONDS of silence at both ends. A wav is made into features first.

    Returns (feature (n_frames, n_dims), label), the label being the speaker's name.
    Raises LabError, with the file's name, where the file is not a feature file, was made with other settings than those
    in configure.py, holds NaN or infinity, or is MIN_FRAMES or shorter once trimmed.
    """
    if is_wav(filename):
        feature, _, remark = feature_of_wav(filename)
        if remark is not None:
            print('Note: %s' % remark)
        return trim_silence(feature, filename), speaker_of(filename)
    content = read_pickles(filename)[0]
    if not isinstance(content, dict) or not {'feat', 'label'} <= content.keys():
        raise LabError("%s: not a feature file: it must hold a dict with 'feat' and 'label'" % filename)
    feature, label, settings = content['feat'], content['label'], content.get('settings', {})
    if (not isinstance(feature, np.ndarray) or feature.ndim != 2 or feature.dtype.kind != 'f'
            or not is_name(label) or not are_settings(settings)):
        raise LabError("%s: 'feat' must be a float array (n_frames, %d), 'label' a name, 'settings', if any, numbers"
                       % (filename, feature_size()))
    if other_settings(settings):
        raise LabError('%s: made with other settings: %s.\nSet those of the file in configure.py, or name a folder of '
                       'other features there, or delete the files and make them again.'
                       % (filename, other_settings(settings)))
    if feature.shape[1] != feature_size():
        raise LabError('%s: has %d rows a frame, configure.py asks for %d. Delete it and make it again.'
                       % (filename, feature.shape[1], feature_size()))
    if not (np.abs(feature) < MAX_DECIBELS).all():  # false for NaN, too
        raise LabError('%s: holds NaN, infinite or absurd values. Delete it and make it again.' % filename)
    return trim_silence(feature, filename), label


class TruncatedInputfromMFB:
    """One random window of NUM_WIN_SIZE frames: (n_frames, n_dims) -> (1, NUM_WIN_SIZE, n_dims).

    A shorter utterance is repeated until it is long enough.
    """

    def __call__(self, frames_features):
        if len(frames_features) < c.NUM_WIN_SIZE:
            n_repeats = -(-c.NUM_WIN_SIZE // len(frames_features))  # rounded up
            frames_features = np.tile(frames_features, (n_repeats, 1))
        # torch's random numbers, not numpy's: one seed rules everything, and workers of a DataLoader differ
        start = int(torch.randint(len(frames_features) - c.NUM_WIN_SIZE + 1, ()))
        return frames_features[None, start:start + c.NUM_WIN_SIZE]


class ToTensorInput:
    """A training sample for the network: (1, n_frames, n_dims) array -> (1, n_dims, n_frames) float32 tensor."""

    def __call__(self, np_feature):
        return torch.from_numpy(np.ascontiguousarray(np_feature.transpose(0, 2, 1), np.float32))


class ToTensorDevInput:
    """A whole utterance for validation: (n_frames, n_dims) array -> (1, n_dims, n_frames) float32 tensor."""

    def __call__(self, np_feature):
        return torch.from_numpy(np.ascontiguousarray(np_feature.T[None], np.float32))


class ToTensorTestInput:
    """A batch of one for enrolment and test: (n_frames, n_dims) array -> (1, 1, n_dims, n_frames) float32 tensor."""

    def __call__(self, np_feature):
        return torch.from_numpy(np.ascontiguousarray(np_feature.T[None, None], np.float32))


class InFile(NamedTuple):
    """Where an array stands in a file; numpy.memmap reads from there the rows that are asked for, and no more."""
    filename: str
    dtype: np.dtype
    offset: int  # bytes
    shape: tuple


def find_in_file(filename, feature):
    """The place of `feature` in the feature file it was read from: a pickle holds an array as one run of bytes."""
    offset = Path(filename).read_bytes().find(feature.tobytes())
    if offset < 0:
        raise LabError('%s: does not hold its array as it lies in memory; make it again, or raise cache_gb' % filename)
    return InFile(filename, feature.dtype, offset, feature.shape)


class DvectorDataset(Dataset):
    """Utterances of a DataFrame (filename, speaker_id): (feature tensor, index of the speaker).

    loader: file -> (feature, label); transforms: called one after another on a feature; spk_to_idx: speaker -> index.
    speeds: each time, an utterance comes at one of them; at the k-th, it is by speaker index + k * n_speakers.
    Every file is read and checked once. Features stay in memory as float32 up to cache_gb (10^9 bytes); of the others,
    each sample reads from its file just the frames it needs, or all of them for another speed, level or noise. Raises
    LabError for a file that cannot be used: here, before the first epoch, rather than in the middle of it.
    """

    def __init__(self, DB, loader, transforms, spk_to_idx, *, cache_gb=4.0, speeds=(1.0,)):
        self.transforms = transforms
        self.speeds, self.n_speakers = speeds, len(spk_to_idx)
        self.features, self.labels = [], []  # (n_frames, n_dims) array or where to find it; int
        self.all_in_memory = True
        # One block for all: 24,000 arrays would leave as much memory in gaps between them as they need themselves.
        # In files a number has two bytes or more; what is not written to takes no memory.
        file_bytes = sum(os.path.getsize(filename) for filename in DB['filename'])
        memory = np.empty(int(min(cache_gb * 1e9, 2 * file_bytes)) // 4, np.float32)
        n_used = 0  # numbers in memory
        rows = zip(DB['filename'], DB['speaker_id'])
        for filename, speaker in tqdm(rows, total=len(DB), desc='Reading features', disable=None):
            feature, label = loader(filename)
            if label != speaker:
                raise LabError("%s: its label is %r, but it lies in the folder of %r" % (filename, label, speaker))
            cached = memory[n_used:n_used + feature.size]
            if self.all_in_memory and len(cached) == feature.size:
                self.features.append(cached.reshape(feature.shape))
                self.features[-1][:] = feature
                n_used += feature.size
            else:
                self.features.append(find_in_file(filename, feature))
                self.all_in_memory = False
            self.labels.append(spk_to_idx[speaker])

    def __len__(self):
        return len(self.labels)

    def feature(self, index):
        """The whole feature (n_frames, n_dims) of an utterance; of one left in its file, rows are read when used."""
        feature = self.features[index]
        if isinstance(feature, InFile):
            return np.memmap(feature.filename, feature.dtype, 'r', feature.offset, feature.shape)
        return feature

    def __getitem__(self, index):
        # A sample of another process: drawing for it, too, all draw the windows that one alone would
        feature = self.feature(0 if index is None else index)
        k = int(torch.randint(len(self.speeds), ())) if len(self.speeds) > 1 else 0
        if k > 0:
            from deep_dive.augmentation import change_speed  # which needs this file
            feature = change_speed(feature, self.speeds[k])
        for transform in self.transforms:
            feature = transform(feature)
        return None if index is None else (feature, self.labels[index] + k * self.n_speakers)


def collate_fn_feat_padded(batch):
    """Utterances of different lengths as one batch, the shorter ones repeated up to the length of the longest.

    batch: list of (feature (1, n_dims, n_frames), label). Returns (batch, 1, n_dims, longest) and (batch,) tensors.
    """
    longest = max(feature.shape[2] for feature, _ in batch)
    padded = [feature.repeat(1, 1, -(-longest // feature.shape[2]))[:, :, :longest] for feature, _ in batch]
    return torch.stack(padded), torch.tensor([label for _, label in batch])


def collate_fn_share(batch):
    """A training batch of (feature (1, n_dims, n_frames), label): (share, 1, n_dims, n_frames) and (share,) tensors.

    None stands for the samples of other processes.
    """
    return default_collate([sample for sample in batch if sample is not None])


class ShareOfBatches:
    """Of every batch of indices, the share of one of the processes that train together: all of it where it is alone.

    order: sampler that yields the same indices in each process. In place of the others' samples comes None. A last
    batch that would leave a process with fewer than the two samples that BatchNorm needs is joined to the one before
    it: together, every sample is seen once an epoch.
    """

    def __init__(self, order, batch_size, rank=0, n_processes=1):
        self.order, self.batch_size, self.rank, self.n_processes = order, batch_size, rank, n_processes
        if min(batch_size, len(order)) < 2 * n_processes:
            raise LabError('batch_size = %s, %d utterances, processes: %d. BatchNorm needs at least two utterances of '
                           'a batch in each.\nRaise batch_size, add recordings, or start fewer processes.'
                           % (batch_size, len(order), n_processes))
        n_left = len(order) % batch_size
        self.n_batches = len(order) // batch_size + (n_left >= 2 * n_processes)

    def __len__(self):
        return self.n_batches

    def __iter__(self):
        indices = list(self.order)
        for i in range(self.n_batches):
            stop = (i + 1) * self.batch_size if i < self.n_batches - 1 else len(indices)
            batch = indices[i * self.batch_size:stop]
            yield [index if i % self.n_processes == self.rank else None for i, index in enumerate(batch)]
