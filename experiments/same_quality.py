"""Does the suite's faster loop cost quality? The original lab's loop and ours, side by side, over several seeds.

    python experiments/same_quality.py [n_seeds] [n_epochs]

Trains the default network on demo voices with both (default: 3 seeds, 8 epochs, the slides' settings). Prints the
validation accuracy after the last epoch, and the equal error rate on 40 further voices. Writes into a temporary folder
only. Takes about ten minutes on two cores with the defaults.
"""
import random
import sys
import tempfile

import torch
from torch import nn, optim
from torch.utils.data import DataLoader

import project  # noqa: F401 (finds the lab)

import benchmark
import demo_quality
import train
from SR_Dataset import collate_fn_feat_padded
from model import background_resnet
from support import demo_voices
from support.devices import get_device
from support.messages import check_settings, run_script


def loaders_of(kind, train_dir, seed, batch_size, valid_batch_size):
    """(train_loader, valid_loader, number of speakers), the same split for both kinds of loop."""
    data, valid_data, n_classes = benchmark.quietly(train.load_dataset, 10, train_dir=train_dir, seed=seed)
    if kind == 'literal':
        parts = benchmark.quietly(train.split_train_dev, train_dir, 10, seed=seed)
        speakers = sorted(set(parts[0]['speaker_id']) | set(parts[1]['speaker_id']))
        data, valid_data = (benchmark.LiteralDataset(list(DB['filename']), speakers, whole_utterances)
                            for DB, whole_utterances in zip(parts, (False, True)))
    return (DataLoader(data, batch_size, shuffle=True),
            DataLoader(valid_data, valid_batch_size, collate_fn=collate_fn_feat_padded), n_classes)


def trained(kind, train_dir, seed, n_epochs, batch_size, valid_batch_size):
    """A model after n_epochs of one of the loops, and its validation accuracy in percent."""
    device, criterion = get_device(True), nn.CrossEntropyLoss()
    torch.manual_seed(seed)
    random.seed(seed)  # the literal loop draws its windows with it
    train_loader, valid_loader, n_classes = loaders_of(kind, train_dir, seed, batch_size, valid_batch_size)
    layout = torch.contiguous_format if kind == 'literal' else torch.channels_last
    model = background_resnet(128, n_classes).to(device, memory_format=layout)
    optimizer = train.create_optimizer('sgd', model, 0.1, 1e-4)
    scheduler = optim.lr_scheduler.ReduceLROnPlateau(optimizer, 'min', patience=2, min_lr=1e-4)
    for epoch in range(1, n_epochs + 1):
        if kind == 'literal':
            benchmark.literal_train(train_loader, model, criterion, optimizer, device)
            valid_loss, hits = benchmark.literal_validate(valid_loader, model, criterion, device)
        else:
            benchmark.quietly(train.train, train_loader, model, criterion, optimizer, True, epoch, n_classes)
            valid_loss = benchmark.quietly(train.validate, valid_loader, model, criterion, True, epoch)
            _, hits = benchmark.literal_validate(valid_loader, model, criterion, device)
        scheduler.step(valid_loss)
    return model.eval(), 100 * hits


def main(
        # Settings
        n_seeds=3,  # how many trainings of each kind
        n_epochs=8,  # how many epochs each
):
    check_settings(main, locals())
    batch_size, valid_batch_size = 64, 16  # as in train.py

    with tempfile.TemporaryDirectory() as folder:
        demo_voices.make_train_features(folder)
        for seed in range(n_seeds):
            for kind in ('literal', 'suite'):
                model, accuracy = trained(kind, folder, seed, n_epochs, batch_size, valid_batch_size)
                print('seed %d, %s loop, %d epochs: validation accuracy %.1f %%' % (seed, kind, n_epochs, accuracy))
                demo_quality.unheard_voices(model)
                sys.stdout.flush()


if __name__ == '__main__':
    run_script(main, words=True)
