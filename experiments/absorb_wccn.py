"""Put WCCN into a trained network, so that plain cosines of its d-vectors use it, without a backend.

    python experiments/fold.py <checkpoint> <new checkpoint> <feature folder> [feature folder ...] [--level=-34]

The folders hold training utterances in as many conditions as there are, such as those of vary_recordings.py. So what
differs between two recordings of one speaker (microphone, room, words) counts less. Mean and WCCN (Hatch et al. 2006)
of the embeddings of whole utterances go into the layer fc0, and BatchNorm is put in there, too. The classifier behind
it no longer fits, and is of no use. --level gives the level that recordings have from then on, if it is not that of the
training. A thousand utterances take a minute.
"""
import os

import numpy as np
import torch

import project

from DB_wav_reader import read_feats_structure
from SR_Dataset import ToTensorTestInput, read_MFB
from deep_dive.backends import estimate_backend
from model import load_model
from support.checks import BACKEND_TENSORS, check_settings, is_number, whole
from support.messages import LabError, run_script
from support.runs import save_checkpoint
from support.safe_files import read_checkpoint


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


def fold(state_dict, mean, matrix):
    """The parameters of a network whose embedding is (e - mean) @ matrix, if e was that of state_dict after BatchNorm.

    mean: (1, embedding_size); matrix: (embedding_size, embedding_size). BatchNorm is y = scale * x + shift in a test.
    """
    folded = dict(state_dict)
    scale = state_dict['bn0.weight'] / torch.sqrt(state_dict['bn0.running_var'] + 1e-5)
    shift = state_dict['bn0.bias'] - scale * state_dict['bn0.running_mean']
    folded['fc0.weight'] = matrix.T @ (scale[:, None] * state_dict['fc0.weight'])
    folded['fc0.bias'] = matrix.T @ (scale * state_dict['fc0.bias'] + shift - mean[0])
    folded['bn0.weight'], folded['bn0.bias'] = torch.ones_like(scale), torch.zeros_like(scale)
    folded['bn0.running_mean'], folded['bn0.running_var'] = torch.zeros_like(scale), torch.full_like(scale, 1 - 1e-5)
    return folded


def main(
        # Settings
        checkpoint='',  # a checkpoint of a training with one of the angular losses or center loss
        new_checkpoint='',  # where to save the new one
        folders=[],  # features to estimate WCCN on
        n_each=12,  # utterances of each speaker, at most
        level=None,  # dBFS; recordings are brought to this in tests; None: as in the training
):
    check_settings({'n_each': n_each, 'level': level}, {
        'n_each': whole(2), 'level': ('a level in dBFS, from -200 to 0, or None',
                                      lambda value: value is None or is_number(value, -200, 0))})
    if not checkpoint or not new_checkpoint or not folders:
        raise LabError('Give a checkpoint, the name of the new one, and the folders to estimate WCCN on.')
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
    save_checkpoint(new_checkpoint, {**kept, 'state_dict': fold(content['state_dict'], estimated['mean'],
                                                                scale * estimated['wccn'])})
    print('%s: WCCN of %d utterances of %d speakers' % (new_checkpoint, len(speakers), len(set(speakers))))


if __name__ == '__main__':
    project.name_arguments(main)
    run_script(main)
