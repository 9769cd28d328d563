"""Train with every setting there is: other losses, networks and data, transfer, several GPUs or processes.

    python -m deep_dive.train --loss_type=aamsoftmax --backbone=conformer --pooling=attentive
    torchrun --nproc_per_node=2 -m deep_dive.train      # on two GPUs, or in two processes on the CPU

Reads, writes and goes on as train.py does, whose functions do the work and whose settings are settings here, too.
Also finds thresholds and backends of the best epoch, and keeps them in checkpoint_best.pth. With the default settings,
the network is that of train.py, bit for bit. docs/deep-dive.md says how long each variant takes. Lines marked "with
torchrun" do nothing in a single process.
"""
import copy
import os
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader

import train
from SR_Dataset import collate_fn_feat_padded
from deep_dive import batches, calibration, heads, processes, schedules
from deep_dive.augmentation import AUGMENTATIONS
from deep_dive.corpora import load_datasets
from deep_dive.losses import LOSSES
from deep_dive.networks import BACKBONES, POOLINGS, background_network
from model import embed_feature
from support.demo_voices import provide_train_features
from support.devices import get_device
from support.messages import NAME, SHARE, LabError, check_settings, defaults_of, is_name, is_whole, number
from support.messages import or_none, run_script, some_of, whole
from support.pictures import visualize_the_losses
from support.runs import Run, keep_best

CORPORA = ("feature folders with a whole number each, such as {'feat_libri': 4}",
           lambda value: isinstance(value, dict) and all(map(is_name, value)) and all(
               is_whole(weight, 1) and weight <= 1000 for weight in value.values()))
ZERO_OR_TWO = 'a whole number, 0 or at least 2', lambda value: is_whole(value) and value != 1
RULES = {**train.RULES, 'val_speakers': ZERO_OR_TWO, 'corpora': CORPORA, 'cache_gb': number(0), 'num_workers': whole(0),
         'augment': some_of(AUGMENTATIONS), 'batch_speakers': or_none(whole(2)), 'backbone': BACKBONES,
         'pooling': POOLINGS, 'init_from': or_none(NAME), 'loss_type': ['softmax', *LOSSES], 'warm_up': SHARE}


def check_transfer(settings):
    """Raise LabError if there is no network to begin with, or if it would be moved aside."""
    init_from, log_dir = settings['init_from'], settings['log_dir']
    if init_from is None and settings['freeze_backbone']:
        raise LabError('freeze_backbone = True needs init_from: there is nothing to keep in a network that has not '
                       'learned.')
    if init_from is not None and not os.path.isfile(init_from):
        raise LabError('init_from = %r: there is no such checkpoint.' % init_from)
    if init_from is not None and Path(init_from).resolve().parent == Path(log_dir).resolve() and (
            Path(init_from).stem.removeprefix('checkpoint_').replace('best', '0').isdecimal()):
        raise LabError('init_from lies in log_dir = %r, whose checkpoints are moved aside. Set another log_dir.'
                       % log_dir)


def main(
        # Data
        corpora={},  # further feature folders, and how often each of their utterances is drawn: {'feat_libri': 4}
        val_speakers=0,  # so many speakers of train_dir are kept out of the training: thresholds come from them
        augment=[],  # some of ['speed', 'level', 'room', 'microphone', 'noise', 'band', 'specaugment']
        batch_speakers=None,  # 8 for 'ge2e', 'prototypical', 'triplet': speakers in a batch, batch_size / 8 times each
        cache_gb=4.0,  # memory for the features of a corpus, in 10^9 bytes; those that need more are read from disk
        num_workers=2,  # processes that read features from disk, if they do not fit into cache_gb

        # Network
        backbone='resnet18',  # or resnet34, 50, 101, 152, resnet_se, vgg, tdnn, ecapa, conformer, lstm, cnn_lstm
        pooling='average',  # how the frames become one vector: or 'statistics', 'attentive'
        init_from=None,  # begin with a trained network, such as 'model_saved/checkpoint_etri240.pth'
        freeze_backbone=False,  # with init_from; True: train the last layer only

        # Loss
        loss_type='softmax',  # or 'center', 'asoftmax', 'amsoftmax', 'aamsoftmax', 'subcenter'; see batch_speakers

        # Optimiser
        warm_up=0.3,  # onecycle: share of the training in which the learning rate rises

        # After the training
        n_backend=2000,  # utterances from which thresholds and backends of the best checkpoint are found
        **lab: train.main  # and all settings of train.py
):
    settings = check_settings(main, locals(), **RULES)
    use_cuda, start, n_epochs, batch_size, valid_batch_size, scheduler_type, log_dir = (settings[name] for name in (
        'use_cuda', 'start', 'n_epochs', 'batch_size', 'valid_batch_size', 'scheduler_type', 'log_dir'))
    check_transfer(settings)
    n_each = batches.check_batches(settings)  # training utterances that each speaker must have
    processes.join_processes(use_cuda)  # with torchrun
    device = get_device(use_cuda, say_so=True)
    torch.manual_seed(settings['seed'])

    # Load the dataset
    processes.first_process_first(provide_train_features, settings['train_dir'])
    train_dataset, valid_dataset, unheard = load_datasets(settings)
    batches.check_speakers(train_dataset, valid_dataset, n_each)
    n_classes = train_dataset.n_classes
    print('\nNumber of classes (speakers):\n{}\n'.format(n_classes))
    options = {'num_workers': 0 if train_dataset.in_memory else num_workers, 'pin_memory': device.type == 'cuda'}
    train_loader = DataLoader(train_dataset, batch_size, **batches.order_of(train_dataset, settings), **options,
                              drop_last=len(train_dataset) % batch_size == 1)  # BatchNorm needs two
    valid_loader = DataLoader(valid_dataset, valid_batch_size, collate_fn=collate_fn_feat_padded, **options)
    train_loader, valid_loader = processes.share_loaders(train_loader, valid_loader,
                                                         settings['seed'] + start)  # with torchrun

    # Define the loss function (criterion) and the model
    n_steps = (start - 1 + n_epochs) * len(train_loader)
    criterion = nn.CrossEntropyLoss()
    if loss_type != 'softmax':
        criterion = LOSSES[loss_type](n_classes, settings['embedding_size'], n_steps).to(device)
    model = background_network(settings['embedding_size'], n_classes, backbone, pooling,
                               head=getattr(criterion, 'head', 'slides'))
    model = model.to(device, memory_format=torch.channels_last)
    if init_from is not None:
        heads.load_backbone(model, init_from, freeze=freeze_backbone)
    model_before = copy.deepcopy(model)
    network = processes.network_to_train(model)

    # Define the optimizer and the scheduler. Some losses learn, too
    optimizer = train.create_optimizer(settings['optimizer_type'], nn.ModuleList([model, criterion]), settings['lr'],
                                       settings['wd'])
    if scheduler_type == 'onecycle':
        scheduler = schedules.one_cycle(optimizer, settings['lr'], n_steps, warm_up)
    else:
        scheduler = train.create_scheduler(scheduler_type, optimizer, settings['lr'], n_steps, settings['patience'],
                                           settings['min_lr'])
    batch_scheduler = None if scheduler_type == 'plateau' else scheduler

    with Run(settings, [train_dataset, valid_dataset], model, criterion, optimizer, scheduler,
             writes=processes.rank() == 0, not_said=defaults_of(main)) as run:
        for epoch in range(start, start + n_epochs):
            # Train for one epoch
            train_loss = train.train(train_loader, network, criterion, optimizer, use_cuda, epoch, n_classes,
                                     log_interval=settings['log_interval'], scheduler=batch_scheduler)
            processes.follow_first_process(model)  # with torchrun

            # Evaluate on the validation set
            valid_acc = train.AverageMeter()
            valid_loss = train.validate(valid_loader, model, criterion, use_cuda, epoch, valid_acc=valid_acc)
            train_loss, valid_loss, accuracy = processes.average_over_processes(
                [(train_loss, len(train_loader.sampler)), (valid_loss, valid_acc.count),
                 (valid_acc.avg, valid_acc.count)], device)  # with torchrun
            if batch_scheduler is None:
                scheduler.step(valid_loss)

            # Save what the next scripts need, and what it takes to go on from here
            run.save(epoch, train_loss, valid_loss, accuracy)
    processes.leave_processes()  # with torchrun

    # Find the best epoch. It gets its own thresholds, and what the backends need
    print('Lowest validation loss at epoch %d' % run.best_epoch)
    measured = calibration.measure_best(run.best_model(), train_dataset, unheard, use_cuda, n_backend)
    keep_best(log_dir, run.best_epoch, **measured)

    # Visualize the losses, and what the network has learned
    if settings['plot']:
        visualize_the_losses(run.all('train_loss'), run.all('valid_loss'), log_dir=log_dir,
                             accuracies=run.all('valid_acc'), learning_rates=run.all('lr'))
        run.draw_clusters(model_before, embed_feature)


if __name__ == '__main__':
    run_script(main)
