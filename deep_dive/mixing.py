"""Train on several corpora. `corpora` in deep_dive/train.py names further folders, and how often to draw from each.

A corpus with few utterances would hardly be seen beside a large one. With {'feat_libri': 4}, each of its utterances is
drawn four times in an epoch, each time with another window.
"""
import numpy as np
from torch.utils.data import Dataset


class MixedDataset(Dataset):
    """The utterances of several DvectorDatasets as one dataset. An utterance of datasets[k] is in it weights[k] times.

    The speakers of datasets[k] get the numbers after those of the datasets before. So two speakers of two corpora are
    two classes, even if they have the same name. The order is random, but always the same.
    """

    def __init__(self, datasets, weights):
        self.datasets = datasets
        places = [(k, i) for k, dataset in enumerate(datasets) for i in range(len(dataset)) for _ in range(weights[k])]
        order = np.random.default_rng(0).permutation(len(places))
        self.places = [places[n] for n in order]  # (which dataset, which of its utterances)
        self.first_number = np.cumsum([0, *(dataset.n_speakers for dataset in datasets)]).tolist()
        self.groups = [k for k, _ in self.places]  # of which corpus each utterance is
        self.filenames = [datasets[k].filenames[i] for k, i in self.places]
        self.labels = [self.first_number[k] + datasets[k].labels[i] for k, i in self.places]
        self.n_speakers = self.n_classes = self.first_number[-1]
        self.in_memory = all(dataset.in_memory for dataset in datasets)

    def __len__(self):
        return len(self.places)

    def feature(self, index):
        """The whole feature of an utterance: (n_frames, n_dims) float32."""
        k, i = self.places[index]
        return self.datasets[k].feature(i)

    def __getitem__(self, index):
        k, i = self.places[index]
        return self.datasets[k][i][0], self.labels[index]  # (1, n_dims, n_frames)


def mix(parts, weights):
    """(train_dataset, valid_dataset) of all corpora. parts: a list of such pairs. weights count in training only."""
    train_datasets, valid_datasets = zip(*parts)
    return MixedDataset(train_datasets, weights), MixedDataset(valid_datasets, [1] * len(parts))
