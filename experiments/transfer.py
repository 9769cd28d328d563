"""Learn 20 new speakers from 10 files each: from scratch, with a trained network frozen, with one fine-tuned.

    python experiments/transfer.py <folder that hold_out.py made> <checkpoint trained on its train/> <new folder>

Trains three times with deep_dive/train.py, with the settings of APPROACHES, on speakers that the checkpoint has never
heard. Tests every epoch on 20 other files of each speaker. Prints accuracy and time of each epoch, and draws
transfer.png into the new folder. Takes some minutes on two cores.
"""
import contextlib
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch.utils.data import DataLoader

import project  # noqa: F401 (finds the lab)

import train
from DB_wav_reader import read_feats_structure
from SR_Dataset import DvectorDataset, ToTensorDevInput, collate_fn_feat_padded, read_MFB
from compare import train_to_the_end
from model import load_model
from subset import link_subset
from support.messages import LabError, run_script
from support.pictures import save_picture
from support.runs import read_run

N_SPEAKERS, N_FILES, N_TEST_FILES = 20, 10, 20
# Settings of deep_dive/train.py. An epoch of 180 utterances has 12 steps
COMMON = {'n_epochs': 20, 'batch_size': 16, 'lr': 1e-2, 'wd': 5e-4, 'scheduler_type': 'onecycle', 'plot': False}
APPROACHES = {
    'from scratch': {'lr': 3e-2},
    'frozen': {'init_from': 'the checkpoint', 'freeze_backbone': True, 'lr': 1e-1},
    'fine-tuned': {'init_from': 'the checkpoint'},
}
IN_WORDS = {'from scratch': 'from scratch: everything is new', 'frozen': 'frozen: only the new last layer learns',
            'fine-tuned': 'fine-tuned: the trained network goes on learning'}


def accuracies_of(log_dir, test_loader):
    """The accuracy on the test files after each epoch, in percent, and the seconds of training until then."""
    accuracies, seconds = [], []
    for number, entry in enumerate(read_run(log_dir)['epochs'], 1):
        with contextlib.redirect_stdout(None):
            model = load_model(False, str(log_dir), number, None, None)
        meter = train.AverageMeter()
        with torch.inference_mode():
            for inputs, targets in test_loader:
                meter.update(100 * (model(inputs)[1].argmax(dim=1) == targets).float().mean(), len(targets))
        accuracies.append(meter.avg)
        seconds.append(entry['seconds'] + (seconds[-1] if seconds else 0))
    return accuracies, seconds


def main(
        # Settings
        data_dir='',  # the folder that hold_out.py made
        checkpoint='',  # trained on its folder train
        out_dir='',  # where the results go; a new folder
):
    if not data_dir or not checkpoint or not out_dir:
        raise LabError('Give the folder that hold_out.py made, a checkpoint, and a new folder for the results.')
    if not Path(checkpoint).is_file():
        raise LabError('%s: there is no such checkpoint.' % checkpoint)
    unseen_dir, out_dir = Path(data_dir) / 'unseen', Path(out_dir)

    # 20 of the speakers that the checkpoint has never heard: 10 files to learn from, 20 others to test on
    link_subset(unseen_dir, out_dir / 'train', N_SPEAKERS, slice(N_FILES))
    link_subset(unseen_dir, out_dir / 'test', N_SPEAKERS, slice(N_FILES, N_FILES + N_TEST_FILES))
    test_DB = read_feats_structure(out_dir / 'test')
    spk_to_idx = {spk: i for i, spk in enumerate(sorted(set(test_DB['speaker_id'])))}
    test_loader = DataLoader(DvectorDataset(test_DB, read_MFB, [ToTensorDevInput()], spk_to_idx), batch_size=16,
                             collate_fn=collate_fn_feat_padded)

    fig, ax = plt.subplots(layout='constrained')
    for (name, settings), marker in zip(APPROACHES.items(), 'os^'):
        if 'init_from' in settings:
            settings = {**settings, 'init_from': checkpoint}
        log_dir = out_dir / name.replace(' ', '_')
        train_to_the_end({**COMMON, **settings, 'train_dir': str(out_dir / 'train')}, log_dir)
        accuracies, seconds = accuracies_of(log_dir, test_loader)
        for number, (accuracy, second) in enumerate(zip(accuracies, seconds), 1):
            print('%-12s  epoch %2d, %5.1f s of training: %5.2f %% of %d test files'
                  % (name, number, second, accuracy, len(test_DB)), flush=True)
        ax.plot(seconds, accuracies, marker + '-', clip_on=False,
                label='%s, %.1f %%' % (IN_WORDS[name], accuracies[-1]))
    ax.set(xlabel='seconds of training; a mark is an epoch',
           ylabel='accuracy on %d other recordings of each (%%)' % N_TEST_FILES, xlim=(0, None), ylim=(0, 100),
           title='%d new speakers, %d recordings of each to learn from' % (N_SPEAKERS, N_FILES))
    fig.legend(loc='outside lower center')
    save_picture(fig, out_dir / 'transfer.png')


if __name__ == '__main__':
    run_script(main, words=True)
