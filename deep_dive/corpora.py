"""The data of a run: one corpus or several, all speakers or all but those whom the thresholds come from."""
import numpy as np

import train
from DB_wav_reader import read_feats_structure
from SR_Dataset import DvectorDataset, ToTensorDevInput, ToTensorInput, TruncatedInputfromMFB, read_MFB
from deep_dive import augmentation, mixing
from support.messages import LabError

SLIDES = {'corpora': {}, 'val_speakers': 0, 'augment': [], 'cache_gb': 4.0}  # train.py has no such settings


def load_datasets(settings):
    """(train_dataset, valid_dataset, unheard): all corpora, mixed and augmented as the settings of a run say.

    unheard: the utterances that thresholds are found from. They are those of val_speakers, or, if that is 0,
    those of valid_dataset.
    """
    settings = {**SLIDES, **settings}
    train_dir, seed, cache_gb = settings['train_dir'], settings['seed'], settings['cache_gb']
    held_out = held_out_speakers(train_dir, settings['val_speakers'], seed)
    options = {'val_ratio': settings['val_ratio'], 'seed': seed, 'cache_gb': cache_gb}
    train_dataset, valid_dataset = load_corpus(train_dir, **options, without=held_out)
    if settings['corpora']:
        others = [load_corpus(folder, **options) for folder in settings['corpora']]
        train_dataset, valid_dataset = mixing.mix([(train_dataset, valid_dataset), *others],
                                                  [1, *settings['corpora'].values()])
    if settings['augment']:
        train_dataset = augmentation.AugmentedDataset(train_dataset, settings['augment'])
    unheard = held_out_dataset(train_dir, held_out, seed, cache_gb) if held_out else valid_dataset
    return train_dataset, valid_dataset, unheard


def load_corpus(train_dir, val_ratio, seed, cache_gb, without=()):
    """What load_dataset of train.py does, within a limit of memory: (train_dataset, valid_dataset)."""
    train_DB, valid_DB = train.split_train_dev(train_dir, val_ratio, seed=seed, without=without)
    speaker_list = sorted({*train_DB['speaker_id'], *valid_DB['speaker_id']})
    spk_to_idx = {spk: i for i, spk in enumerate(speaker_list)}
    train_gb = cache_gb * (1 - val_ratio / 100)
    transforms = [TruncatedInputfromMFB(), ToTensorInput()]  # of a training window
    train_dataset = DvectorDataset(train_DB, read_MFB, transforms, spk_to_idx, cache_gb=train_gb)
    valid_dataset = DvectorDataset(valid_DB, read_MFB, [ToTensorDevInput()], spk_to_idx,
                                   cache_gb=cache_gb - train_gb)
    return train_dataset, valid_dataset


def held_out_speakers(train_dir, val_speakers, seed):
    """List of `val_speakers` speakers of train_dir, drawn at random. The network is not trained on them."""
    if val_speakers == 0:
        return []
    speakers = np.array(sorted(set(read_feats_structure(train_dir)['speaker_id'])))
    if val_speakers > len(speakers) - 2:
        raise LabError('val_speakers = %d of %d speakers: at least two must be left to train on.'
                       % (val_speakers, len(speakers)))
    chosen = np.random.default_rng(seed).permutation(len(speakers))[:val_speakers]
    return speakers[chosen].tolist()


def held_out_dataset(train_dir, speakers, seed, cache_gb):
    """The utterances of some speakers of train_dir, in a random order, as a DvectorDataset."""
    DB = read_feats_structure(train_dir)
    DB = DB[DB['speaker_id'].isin(speakers)].sample(frac=1, random_state=seed).reset_index(drop=True)
    numbers = {speaker: number for number, speaker in enumerate(sorted(speakers))}
    return DvectorDataset(DB, read_MFB, [ToTensorDevInput()], numbers, cache_gb=cache_gb)
