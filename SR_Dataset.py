"""From a feature file (MFB: mel filterbank) to a batch, in three steps.

    read_MFB                  file -> feature (n_frames, 40), label
    DvectorDataset            index -> feature (1, 40, n_frames) as a tensor, index of the speaker
    collate_fn_feat_padded    list of those -> (batch, 1, 40, n_frames), (batch,). In validation only
"""
import math
import os

import numpy as np
import torch
from torch.utils.data import Dataset
from tqdm import tqdm

import configure as c
from DB_wav_reader import feature_of, speaker_of
from support.checks import check_feature, check_length
from support.messages import LabError
from support.recordings import is_recording, print_note, open_recording
from support.safe_files import read_pickles


def read_MFB(filename, level=None):
    """Read a feature file, or make the feature of a recording, and drop TRIM_SECONDS at its ends.

    level: dBFS given to a recording and asked of a feature file (None: LEVEL_DBFS; 'any': not asked). Returns
    (feature (n_frames, n_dims), label: the speaker). Raises LabError for a bad or too short file.
    """
    if is_recording(filename):
        feature, facts = feature_of(open_recording(filename), level)  # (n_frames, n_dims)
        label = speaker_of(filename)
        print_note(filename, facts)
    else:
        feature, label = check_feature(read_pickles(filename)[0], filename, level)  # (n_frames, n_dims)
        check_length(len(feature), filename)
    return trim(feature), label


def trim(feature):
    """Drop TRIM_SECONDS at both ends of a feature: (n_frames, n_dims) -> (fewer frames, n_dims)."""
    n_trim = round(c.TRIM_SECONDS / c.WIN_STEP)  # frames at each end
    return feature[n_trim:len(feature) - n_trim]


class TruncatedInputfromMFB:
    """Take one random window of NUM_WIN_SIZE frames: (n_frames, n_dims) -> (1, NUM_WIN_SIZE, n_dims).

    A shorter utterance is repeated until it is long enough.
    """

    def __call__(self, frames_features):
        if len(frames_features) < c.NUM_WIN_SIZE:
            n_repeats = math.ceil(c.NUM_WIN_SIZE / len(frames_features))
            frames_features = np.tile(frames_features, (n_repeats, 1))
        # torch's random numbers, because train.py sets their seed
        start = int(torch.randint(len(frames_features) - c.NUM_WIN_SIZE + 1, ()))
        return frames_features[None, start:start + c.NUM_WIN_SIZE]


class ToTensorInput:
    """A training window: (1, n_frames, n_dims) array -> (1, n_dims, n_frames) float32 tensor."""

    def __call__(self, np_feature):
        return torch.from_numpy(np.ascontiguousarray(np_feature.transpose(0, 2, 1), np.float32))


class ToTensorDevInput:
    """A whole utterance for validation: (n_frames, n_dims) array -> (1, n_dims, n_frames) float32 tensor."""

    def __call__(self, np_feature):
        return torch.from_numpy(np.ascontiguousarray(np_feature.T[None], np.float32))


class ToTensorTestInput:
    """A batch of one utterance: (n_frames, n_dims) array -> (1, 1, n_dims, n_frames) float32 tensor."""

    def __call__(self, np_feature):
        return torch.from_numpy(np.ascontiguousarray(np_feature.T[None, None], np.float32))


class DvectorDataset(Dataset):
    """The utterances of a DataFrame (filename, speaker_id), as (feature tensor, index of the speaker).

    loader: file -> (feature, label). transforms: are called on a feature, one after another. spk_to_idx: dict
    speaker -> index. All files are read at the start, so a bad one raises LabError before the first epoch.
    If they need more than cache_gb (10^9 bytes) together, they are read again each time.
    """

    def __init__(self, DB, loader, transforms, spk_to_idx, *, cache_gb=4.0):
        self.filenames, self.loader, self.transforms = list(DB['filename']), loader, transforms
        self.n_classes = self.n_speakers = len(spk_to_idx)  # deep_dive/ may have more classes
        file_bytes = sum(os.path.getsize(filename) for filename in self.filenames)
        self.in_memory = file_bytes / 2 <= cache_gb * 1e9  # files hold float64, the memory float32
        self.features, self.labels = [], []
        rows = zip(self.filenames, DB['speaker_id'])
        for filename, speaker in tqdm(rows, total=len(DB), desc='Reading features', disable=None):
            feature, label = loader(filename)  # (n_frames, n_dims)
            if label != speaker:
                raise LabError('%s: its label is %r, but it lies in the folder of %r'
                               % (filename, label, speaker))
            self.labels.append(spk_to_idx[speaker])
            if self.in_memory:
                self.features.append(feature.astype(np.float32))

    def __len__(self):
        return len(self.labels)

    def feature(self, index):
        """The whole feature of an utterance: (n_frames, n_dims) float32."""
        if self.in_memory:
            return self.features[index]
        return self.loader(self.filenames[index])[0].astype(np.float32)

    def __getitem__(self, index):
        feature = self.feature(index)  # (n_frames, n_dims)
        for transform in self.transforms:
            feature = transform(feature)
        return feature, self.labels[index]  # (1, n_dims, n_frames)


def collate_fn_feat_padded(batch):
    """Make one batch of utterances of different lengths. Shorter ones are repeated up to the longest.

    batch: list of (feature (1, n_dims, n_frames), label). Returns (batch, 1, n_dims, longest) and (batch,).
    """
    longest = max(feature.shape[2] for feature, _ in batch)
    padded = [feature.repeat(1, 1, math.ceil(longest / feature.shape[2]))[:, :, :longest]
              for feature, _ in batch]
    return torch.stack(padded), torch.tensor([label for _, label in batch])
