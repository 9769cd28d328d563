"""Make batches of P speakers x K utterances. In deep_dive/train.py, P is `batch_speakers`, K = batch_size / P.

The losses of deep_dive/metric_losses.py compare the utterances of a batch. In a batch drawn at random, most speakers
would have one utterance only, and there would be no pair of one speaker.
"""
from collections import Counter, defaultdict

import numpy as np
import torch.distributed as dist
from torch.utils.data import Sampler

from DB_wav_reader import speaker_of
from deep_dive.metric_losses import METRIC_LOSSES
from support.messages import LabError


def check_batches(settings):
    """Raise LabError for settings of deep_dive/train.py that do not fit batch_speakers.

    Returns how many training utterances each speaker must have: with batch_speakers 2, because one makes no pair.
    """
    batch_size, n_speakers, loss_type = (settings[name] for name in ('batch_size', 'batch_speakers', 'loss_type'))
    if n_speakers is None:
        if loss_type in METRIC_LOSSES:
            raise LabError("loss_type = '%s' compares the utterances of a batch, so each speaker needs several.\n"
                           'Set batch_size = 32 and batch_speakers = 8, for batches of 8 speakers with 4 utterances '
                           'of each.'
                           % loss_type)
        return 0
    if batch_size % n_speakers or batch_size == n_speakers:
        raise LabError('batch_speakers = %d, batch_size = %d: each speaker must have the same number of utterances, '
                       '2 or more.\nSet batch_size to 2, 3, 4 ... times batch_speakers.' % (n_speakers, batch_size))
    if not settings['use_shuffle']:
        raise LabError('batch_speakers draws new groups in every epoch. Set use_shuffle = True.')
    if dist.is_torchelastic_launched():
        raise LabError('batch_speakers needs a whole batch in one process. Start without torchrun.')
    return 2


def check_speakers(train_dataset, valid_dataset, n_each):
    """Raise LabError if a speaker of either dataset has fewer than n_each utterances for training."""
    counts = Counter(train_dataset.labels)
    filenames = train_dataset.filenames + valid_dataset.filenames
    for label, filename in zip(train_dataset.labels + valid_dataset.labels, filenames):
        if counts[label] < n_each:
            raise LabError('Speaker %s has %d utterances for training, and batch_speakers needs %d of each speaker.\n'
                           'Lower val_ratio, add recordings, or set batch_speakers = None.'
                           % (speaker_of(filename), counts[label], n_each))


def order_of(dataset, settings):
    """What tells a DataLoader in which order to read a dataset, as a dict: its shuffle=, or its sampler=."""
    if settings['batch_speakers'] is None:
        return {'shuffle': settings['use_shuffle']}
    n_speakers = settings['batch_speakers']
    sampler = SpeakerSampler(dataset, n_speakers, settings['batch_size'] // n_speakers, seed=settings['seed'],
                             epoch=settings['start'])
    print('Batches of %d speakers: an epoch draws %d utterances; the corpus has %d'
          % (n_speakers, len(sampler), len(dataset)))
    return {'sampler': sampler}


class SpeakerSampler(Sampler):
    """The order of an epoch. Every n_speakers * n_each utterances in a row are a batch: n_each of each of n_speakers.

    Normally no utterance is drawn twice in an epoch. What does not fill a group or a batch is left out until the next
    epoch, which draws other groups. Only a speaker with fewer than n_each utterances repeats some of them, with other
    windows. Each epoch has random numbers of its own, so a run that goes on draws what it would have drawn.

    A MixedDataset may hold an utterance several times. It is drawn as often, each time in another group. With the
    augmentation 'speed', another speed is another speaker. So one speed is drawn for a whole group, and the dataset is
    asked for (index, number of the speed).
    """

    def __init__(self, dataset, n_speakers, n_each, *, seed, epoch=1):
        self.n_speakers, self.n_each, self.seed, self.epoch = n_speakers, n_each, seed, epoch
        self.n_speeds = len(getattr(dataset, 'speeds', [1]))
        times_seen, self.piles = Counter(), defaultdict(list)  # a pile: indices of one speaker, all of other utterances
        for index, (label, filename) in enumerate(zip(dataset.labels, dataset.filenames)):
            self.piles[label, times_seen[filename]].append(index)
            times_seen[filename] += 1
        n_labels = len(set(dataset.labels))
        if n_labels < n_speakers:
            raise LabError('batch_speakers = %d: there are only %d speakers. Lower it.' % (n_speakers, n_labels))
        self.length = len(self.draw(epoch))  # the same in each epoch

    def __len__(self):
        return self.length

    def __iter__(self):
        self.epoch += 1
        return iter(self.draw(self.epoch - 1))

    def draw(self, epoch):
        """List of the indices of an epoch, batch after batch."""
        generator = np.random.default_rng([self.seed, epoch])
        groups = defaultdict(list)  # label -> lists of n_each indices
        for (label, _), pile in self.piles.items():
            pile = np.resize(generator.permutation(pile), max(len(pile), self.n_each)).tolist()  # repeats a short one
            groups[label] += [pile[i:i + self.n_each] for i in range(0, len(pile) - self.n_each + 1, self.n_each)]
        groups, batches = list(groups.values()), []
        n_left = np.array([len(of_speaker) for of_speaker in groups])
        while (n_left > 0).sum() >= self.n_speakers:
            # Take those with the most groups left, because then the fewest are left over. Of equal ones, chance decides
            chosen = np.argsort(-n_left - generator.random(len(n_left)))[:self.n_speakers]
            n_left[chosen] -= 1
            batches.append([index for i in chosen for index in self.at_one_speed(groups[i].pop(), generator)])
        generator.shuffle(batches)  # otherwise speakers with many utterances would come first
        return [index for batch in batches for index in batch]

    def at_one_speed(self, group, generator):
        """The indices of a group as the dataset takes them: with the number of a speed, if it has several."""
        speed = int(generator.integers(self.n_speeds))
        return [(index, speed) for index in group] if self.n_speeds > 1 else group
