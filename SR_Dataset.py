"""From a feature file to a batch, in three steps.

    read_MFB                  file -> feature (n_frames, 40), label
    DvectorDataset            index -> feature (1, 40, n_frames) as a tensor, index of the speaker
    collate_fn_feat_padded    list of those -> features (batch, 1, 40, n_frames), labels (batch,): for validation
"""
import math
import os

import numpy as np
import torch
from torch.utils.data import Dataset
from tqdm import tqdm

import configure as c
from DB_wav_reader import feature_of_wav, speaker_of
from support.checks import check_feature, check_length
from support.messages import LabError
from support.recordings import is_recording
from support.safe_files import read_pickles


def read_MFB(filename, level=None):
    """Read a feature file, or make the feature of a recording, and drop TRIM_SECONDS of silence at both ends.

    level: of recordings, in dBFS; None: LEVEL_DBFS. Returns (feature (n_frames, n_dims), label: name of the speaker).
    Raises LabError, with the file's name, if the file cannot be used, or is MIN_FRAMES or shorter after trimming.
    """
    if is_recording(filename):
        feature, note, _ = feature_of_wav(filename, level)  # (n_frames, n_dims)
        label = speaker_of(filename)
        if note is not None:
            print('Note: %s' % note)
    else:
        feature, label = check_feature(read_pickles(filename)[0], filename, level)  # (n_frames, n_dims)
    check_length(len(feature), filename)
    n_trim = round(c.TRIM_SECONDS / c.WIN_STEP)  # frames at each end
    return feature[n_trim:len(feature) - n_trim], label


class TruncatedInputfromMFB:
    """Take one random window of NUM_WIN_SIZE frames: (n_frames, n_dims) -> (1, NUM_WIN_SIZE, n_dims).

    A shorter utterance is repeated until it is long enough.
    """

    def __call__(self, frames_features):
        if len(frames_features) < c.NUM_WIN_SIZE:
            n_repeats = math.ceil(c.NUM_WIN_SIZE / len(frames_features))
            frames_features = np.tile(frames_features, (n_repeats, 1))
        # torch's random numbers, because train.py sets their seed. numpy's would be the same in all workers
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


class DvectorDataset(Dataset):
    """The utterances of a DataFrame (filename, speaker_id): (feature tensor, index of the speaker).

    loader: file -> (feature, label); transforms: called one after another on a feature; spk_to_idx: speaker -> index.
    Every file is read once, so that a bad one is found before the first epoch: LabError. If the features need more than
    cache_gb (10^9 bytes) of memory, each is read again when it is needed.
    """

    def __init__(self, DB, loader, transforms, spk_to_idx, *, cache_gb=4.0):
        self.filenames, self.loader, self.transforms = list(DB['filename']), loader, transforms
        self.n_speakers = self.n_classes = len(spk_to_idx)  # an AugmentedDataset has more classes
        file_bytes = sum(os.path.getsize(filename) for filename in self.filenames)
        self.in_memory = file_bytes / 2 <= cache_gb * 1e9  # files hold float64, the memory float32
        self.features, self.labels = [], []
        rows = zip(self.filenames, DB['speaker_id'])
        for filename, speaker in tqdm(rows, total=len(DB), desc='Reading features', disable=None):
            feature, label = loader(filename)  # (n_frames, n_dims)
            if label != speaker:
                raise LabError("%s: its label is %r, but it lies in the folder of %r" % (filename, label, speaker))
            self.labels.append(spk_to_idx[speaker])
            if self.in_memory:
                self.features.append(feature.astype(np.float32))

    def __len__(self):
        return len(self.labels)

    def feature(self, index):
        """The whole feature of an utterance: (n_frames, n_dims) float32."""
        return self.features[index] if self.in_memory else self.loader(self.filenames[index])[0].astype(np.float32)

    def __getitem__(self, index):
        feature = self.feature(index)  # (n_frames, n_dims)
        for transform in self.transforms:
            feature = transform(feature)
        return feature, self.labels[index]  # (1, n_dims, n_frames)


def collate_fn_feat_padded(batch):
    """Make one batch of utterances of different lengths. Shorter ones are repeated up to the length of the longest.

    batch: list of (feature (1, n_dims, n_frames), label). Returns (batch, 1, n_dims, longest) and (batch,) tensors.
    """
    longest = max(feature.shape[2] for feature, _ in batch)
    padded = [feature.repeat(1, 1, math.ceil(longest / feature.shape[2]))[:, :, :longest] for feature, _ in batch]
    return torch.stack(padded), torch.tensor([label for _, label in batch])
