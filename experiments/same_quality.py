"""Does the suite's faster loop cost quality? The original lab's loop and ours, side by side, over several seeds.

    python tests/same_quality.py [n_seeds] [n_epochs]

Trains the default network on demo voices with both (default: 3 seeds, 8 epochs, the slides' settings) and prints the
validation accuracy after the last epoch and the equal error rate on 40 further voices. Writes into a temporary folder
alone. Takes about ten minutes on two cores with the defaults.
"""
import random
import sys
import tempfile

import benchmark
import torch
from torch import nn, optim
from torch.utils.data import DataLoader

import project  # noqa: F401  (the lab, one folder up, is found)

import configure as c
import demo_quality
from support import demo_voices
import train
from SR_Dataset import collate_fn_feat_padded
from model import background_resnet
from support.devices import get_device
from support.messages import run_script


def loaders_of(kind, seed, batch_size, valid_batch_size):
    """(train_loader, valid_loader, number of speakers), the same split for both kinds of loop."""
    data, valid_data, n_classes = benchmark.quietly(train.load_dataset, 10, seed=seed)
    if kind == 'literal':
        parts = benchmark.quietly(train.split_train_dev, c.TRAIN_FEAT_DIR, 10, seed=seed)
        speakers = sorted(set(parts[0]['speaker_id']) | set(parts[1]['speaker_id']))
        data, valid_data = (benchmark.LiteralDataset(list(DB['filename']), speakers, whole)
                            for DB, whole in zip(parts, (False, True)))
    return (DataLoader(data, batch_size, shuffle=True),
            DataLoader(valid_data, valid_batch_size, collate_fn=collate_fn_feat_padded), n_classes)


def trained(kind, seed, n_epochs, batch_size, valid_batch_size):
    """A model after n_epochs of one of the loops, and its validation accuracy in percent."""
    device, criterion = get_device(True), nn.CrossEntropyLoss()
    torch.manual_seed(seed)
    random.seed(seed)  # the literal loop draws its windows with it
    train_loader, valid_loader, n_classes = loaders_of(kind, seed, batch_size, valid_batch_size)
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


def main():
    n_seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    n_epochs = int(sys.argv[2]) if len(sys.argv) > 2 else 8
    batch_size, valid_batch_size = 64, 16  # as in train.py

    with tempfile.TemporaryDirectory() as folder:
        c.TRAIN_FEAT_DIR = folder
        demo_voices.make_train_features(folder)
        for seed in range(n_seeds):
            for kind in ('literal', 'suite'):
                model, accuracy = trained(kind, seed, n_epochs, batch_size, valid_batch_size)
                print('seed %d, %s loop, %d epochs: validation accuracy %.1f %%' % (seed, kind, n_epochs, accuracy))
                demo_quality.unheard_voices(model)
                sys.stdout.flush()


if __name__ == '__main__':
    run_script(main)
