"""Let a trained network absorb WCCN, so that plain cosines of its d-vectors use it, without a backend.

    python experiments/absorb_wccn.py <checkpoint> <new checkpoint> <feature folder> [feature folder ...]
    python experiments/absorb_wccn.py <checkpoint> <new checkpoint> <feature folder> --level=-34

The folders hold training utterances in as many conditions as there are, such as those of vary_recordings.py. So what
differs between two recordings of one speaker (microphone, room, words) counts less. The layer fc0 absorbs mean and WCCN
(Hatch et al. 2006) of the embeddings of whole utterances, and BatchNorm, too. The classifier behind it no longer fits,
and is of no use. --level gives the level that recordings have from then on, if it is not that of the training. A
thousand utterances take a minute.
"""
import os

import numpy as np
import torch

import project  # noqa: F401 (finds the lab)

from DB_wav_reader import read_feats_structure
from SR_Dataset import ToTensorTestInput, read_MFB
from deep_dive.backends import estimate_backend
from model import load_model
from support.checks import BACKEND_TENSORS
from support.messages import LabError, check_settings, is_number, or_none, run_script, whole
from support.runs import save_checkpoint
from support.safe_files import read_checkpoint

LEVEL = 'a level in dBFS, from -200 to 0', lambda value: is_number(value, -200, 0)


def embeddings_of(model, folders, n_each):
    """The embeddings of whole utterances, not of unit length: ((n, embedding_size) tensor, list of speakers).

    n_each: at most so many utterances of each speaker, spread over all. Speakers of two folders are two speakers.
    """
    vectors, speakers, to_tensor = [], [], ToTensorTestInput()
    for folder in folders:
        DB = read_feats_structure(folder)
        for speaker, filenames in DB.groupby('speaker_id')['filename']:
            spread = np.linspace(0, len(filenames) - 1, min(n_each, len(filenames))).astype(int)
            for filename in filenames.iloc[spread]:
                with torch.inference_mode():
                    feature, _ = read_MFB(filename, model.settings['level'])  # (n_frames, n_dims)
                    vectors.append(model(to_tensor(feature))[0])  # (1, embedding_size)
                speakers.append((folder, speaker))
    numbers = {speaker: number for number, speaker in enumerate(sorted(set(speakers)))}
    return torch.cat(vectors), [numbers[speaker] for speaker in speakers]


def absorb(state_dict, mean, matrix):
    """The parameters of a network whose embedding is (e - mean) @ matrix, if e was that of state_dict after BatchNorm.

    mean: (1, embedding_size); matrix: (embedding_size, size of the new embedding). In a test, BatchNorm is
    y = scale * x + shift.
    """
    absorbed = dict(state_dict)
    scale = state_dict['bn0.weight'] / torch.sqrt(state_dict['bn0.running_var'] + 1e-5)
    shift = state_dict['bn0.bias'] - scale * state_dict['bn0.running_mean']
    absorbed['fc0.weight'] = matrix.T @ (scale[:, None] * state_dict['fc0.weight'])
    absorbed['fc0.bias'] = matrix.T @ (scale * state_dict['fc0.bias'] + shift - mean[0])
    size = matrix.shape[1]
    absorbed['bn0.weight'], absorbed['bn0.bias'] = torch.ones(size), torch.zeros(size)
    absorbed['bn0.running_mean'], absorbed['bn0.running_var'] = torch.zeros(size), torch.full((size,), 1 - 1e-5)
    return absorbed


def main(
        # Settings
        checkpoint='',  # a checkpoint of a training with one of the angular losses or center loss
        new_checkpoint='',  # where to save the new one
        folders=[],  # features to estimate WCCN on
        n_each=12,  # utterances of each speaker, at most
        level=None,  # dBFS; recordings are brought to this in tests; None: as in the training
):
    if not checkpoint or not new_checkpoint or not folders:
        raise LabError('Give a checkpoint, the name of the new one, and the folders to estimate WCCN on.')
    check_settings(main, locals(), n_each=whole(2), level=or_none(LEVEL))
    if os.path.exists(new_checkpoint):
        raise LabError('%s exists already: remove it, or choose another name.' % new_checkpoint)
    content, _ = read_checkpoint(checkpoint)
    if content.get('head', 'slides') == 'slides':
        raise LabError('%s: the d-vectors of the slides come from before BatchNorm. Train with another loss_type.'
                       % checkpoint)
    log_dir, _, name = checkpoint.rpartition('/')
    model = load_model(False, log_dir or '.', name.removeprefix('checkpoint_').removesuffix('.pth'), None, None)
    vectors, speakers = embeddings_of(model, folders, n_each)
    estimated = estimate_backend(vectors, speakers)
    scale = vectors.norm(dim=1).mean() / ((vectors - estimated['mean']) @ estimated['wccn']).norm(dim=1).mean()
    kept = {name: value for name, value in content.items()
            if name not in (*BACKEND_TENSORS, 'thresholds', 'optimizer', 'scheduler', 'criterion', 'random')}
    if level is not None:
        kept['level'] = level
    save_checkpoint(new_checkpoint, {**kept, 'state_dict': absorb(content['state_dict'], estimated['mean'],
                                                                  scale * estimated['wccn'])})
    print('%s: WCCN of %d utterances of %d speakers' % (new_checkpoint, len(speakers), len(set(speakers))))


if __name__ == '__main__':
    run_script(main, words=True)
