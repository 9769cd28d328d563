"""Fit the background model: a ResNet-18 that tells the training speakers apart.

    python train.py                  # every setting of main() can be named, as in --n_epochs=10

Reads the features in TRAIN_FEAT_DIR, or makes demo voices (synthetic). Writes checkpoints and pictures into
model_saved. Moves an earlier run aside. Demo voices: 8 to 14 minutes on two CPU cores, 4 with fast bfloat16.
"""
import copy
import time

import torch
from torch import nn, optim
from torch.utils.data import DataLoader
from tqdm import tqdm

import configure as c
from DB_wav_reader import read_feats_structure
from SR_Dataset import DvectorDataset, ToTensorDevInput, ToTensorInput, TruncatedInputfromMFB
from SR_Dataset import collate_fn_feat_padded, read_MFB
from model import background_resnet, embed_feature
from support.checks import check_split
from support.demo_voices import provide_train_features
from support.devices import get_device, mixed_precision
from support.messages import PERCENTAGE, POSITIVE, check_settings, run_script, whole
from support.pictures import visualize_the_losses
from support.runs import Run

OPTIMIZERS = {'sgd': optim.SGD, 'adam': optim.Adam, 'adamw': optim.AdamW, 'adagrad': optim.Adagrad}
RULES = {'val_ratio': PERCENTAGE, 'embedding_size': whole(2), 'batch_size': whole(2), 'patience': whole(0),
         'lr': POSITIVE, 'optimizer_type': OPTIMIZERS, 'scheduler_type': ['plateau', 'onecycle', 'cosine']}


def load_dataset(val_ratio, *, train_dir=c.TRAIN_FEAT_DIR, seed=0):
    """The utterances in train_dir: (train_dataset, valid_dataset, n_classes)."""
    train_DB, valid_DB = split_train_dev(train_dir, val_ratio, seed=seed)
    speaker_list = sorted({*train_DB['speaker_id'], *valid_DB['speaker_id']})
    spk_to_idx = {spk: i for i, spk in enumerate(speaker_list)}
    transforms = [TruncatedInputfromMFB(), ToTensorInput()]
    train_dataset = DvectorDataset(train_DB, read_MFB, transforms, spk_to_idx)
    valid_dataset = DvectorDataset(valid_DB, read_MFB, [ToTensorDevInput()], spk_to_idx)
    return train_dataset, valid_dataset, len(speaker_list)


def split_train_dev(train_feat_dir, valid_ratio, *, seed=0, without=()):
    """(train_DB, valid_DB), at random: valid_ratio percent in valid_DB. without: speakers in neither."""
    DB = read_feats_structure(train_feat_dir)
    DB = DB[~DB['speaker_id'].isin(without)]
    DB = DB.sample(frac=1, random_state=seed, ignore_index=True)  # shuffle
    total_len = len(DB)
    valid_len = int(total_len * valid_ratio / 100)
    train_len = total_len - valid_len
    train_DB, valid_DB = DB[:train_len], DB[train_len:].reset_index(drop=True)
    check_split(train_feat_dir, train_DB['speaker_id'], valid_DB['speaker_id'], valid_ratio)

    print('\nTraining set %d utts (%0.1f%%)' % (train_len, 100 * train_len / total_len))
    print('Validation set %d utts (%0.1f%%)' % (valid_len, 100 * valid_len / total_len))
    print('Total %d utts' % total_len)
    return train_DB, valid_DB


def create_optimizer(optimizer_type, model, lr, wd):
    """The optimizer of that name (in OPTIMIZERS) for the parameters of model."""
    momentum = {'momentum': 0.9} if optimizer_type == 'sgd' else {}
    return OPTIMIZERS[optimizer_type](model.parameters(), lr=lr, weight_decay=wd, **momentum)


def create_scheduler(scheduler_type, optimizer, lr, n_steps, patience, min_lr):
    """Changes lr: 'plateau' after an epoch, the others after each of n_steps batches."""
    if scheduler_type == 'plateau':
        return optim.lr_scheduler.ReduceLROnPlateau(optimizer, 'min', patience=patience, min_lr=min_lr)
    if scheduler_type == 'onecycle':  # up during 30 % of the batches, then down (Smith & Topin 2019)
        return optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=n_steps, cycle_momentum=False)
    return optim.lr_scheduler.CosineAnnealingLR(optimizer, n_steps)  # Loshchilov & Hutter 2017


class AverageMeter:
    """The last value, and the average so far. A value counts n times."""

    def __init__(self):
        self.val, self.sum, self.count = 0, 0, 0

    def update(self, val, n=1):
        self.val = val
        self.sum += val * n
        self.count += n

    @property
    def avg(self):
        return float(self.sum) / self.count


def loss_of(criterion, logits, targets, spk_embedding):
    """The loss of a batch, in float32. Losses of deep_dive/ need the embeddings, too."""
    embeddings = [] if isinstance(criterion, nn.CrossEntropyLoss) else [spk_embedding.float()]
    return criterion(logits.float(), targets, *embeddings)


def train(train_loader, model, criterion, optimizer, use_cuda, epoch, n_classes, *, log_interval=84,
          scheduler=None):
    """Train for one epoch. Returns the average loss. scheduler steps after each batch. n_classes: unused."""
    device = get_device(use_cuda)
    batch_time, losses, train_acc = AverageMeter(), AverageMeter(), AverageMeter()
    model.train()
    criterion.train()

    end = time.perf_counter()
    for batch_idx, (inputs, targets) in enumerate(tqdm(train_loader, disable=None, leave=False)):
        # Get a batch: (batch, 1, 40, 100) and (batch,)
        inputs, targets = inputs.to(device), targets.to(device)

        # Forward
        with mixed_precision(device):  # bfloat16 if fast
            spk_embedding, logits = model(inputs)  # (batch, embedding_size), (batch, n_classes)
        loss = loss_of(criterion, logits, targets, spk_embedding)

        # Backward
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if scheduler is not None:
            scheduler.step()

        # Measure. Numbers stay on the GPU: reading each takes time
        losses.update(loss.detach(), len(targets))
        train_acc.update(100 * (logits.argmax(dim=1) == targets).float().mean(), len(targets))
        batch_time.update(time.perf_counter() - end)
        end = time.perf_counter()

        # Print
        if batch_idx % log_interval == 0:
            print('Train Epoch: {:3d} [{:8d}/{:8d} ({:3.0f}%)]\tTime {:.3f} ({:.3f})\tLoss {:.4f}\t'
                  'Acc {:.4f}'.format(epoch, losses.count - len(targets), len(train_loader.sampler),
                                      100 * batch_idx / len(train_loader), batch_time.val, batch_time.avg,
                                      losses.avg, train_acc.avg), flush=True)
    return losses.avg


def validate(valid_loader, model, criterion, use_cuda, epoch, *, valid_acc=None):
    """Print loss and accuracy. Returns the average loss. valid_acc: a meter to fill. epoch: unused."""
    device = get_device(use_cuda)
    losses, valid_acc = AverageMeter(), valid_acc or AverageMeter()
    model.eval()
    criterion.eval()

    with torch.inference_mode():
        for inputs, targets in valid_loader:  # (batch, 1, 40, n_frames) and (batch,)
            inputs, targets = inputs.to(device), targets.to(device)
            with mixed_precision(device):
                spk_embedding, logits = model(inputs)
            losses.update(loss_of(criterion, logits, targets, spk_embedding), len(targets))
            valid_acc.update(100 * (logits.argmax(dim=1) == targets).float().mean(), len(targets))

    print('  * Validation: Loss {:.4f}\tAcc {:.4f}'.format(losses.avg, valid_acc.avg), flush=True)
    return losses.avg


def main(
        # Settings of the slides
        use_cuda=True,  # use a GPU if there is one
        val_ratio=10,  # percent kept for validation
        embedding_size=128,  # dimension of a d-vector; try 32 to 512
        start=1,  # first epoch; 5: go on after checkpoint_4
        n_epochs=30,  # how many epochs
        lr=1e-1,  # learning rate at the start (onecycle: the peak); try 1e-2 and 1
        wd=1e-4,  # weight decay (L2 penalty)
        optimizer_type='sgd',  # or 'adam', 'adamw', 'adagrad'; adam and adamw need lr near 1e-3
        batch_size=64,  # utterances in a training step; if you halve it, try half of lr
        valid_batch_size=16,  # utterances in a validation step
        use_shuffle=True,  # a new order in every epoch
        patience=2,  # plateau: lr / 10 after more epochs than this without a lower loss
        min_lr=1e-4,  # plateau: the lowest lr

        # Beyond the slides
        seed=0,  # of everything random; try several
        scheduler_type='plateau',  # or 'onecycle' (up, then down), 'cosine' (only down)
        train_dir=c.TRAIN_FEAT_DIR,  # where the training features are
        log_dir='model_saved',  # where checkpoints and pictures go
        log_interval=84,  # batches between printed lines
        plot=True,  # draw pictures
):
    settings = check_settings(main, locals(), **RULES)
    device = get_device(use_cuda, say_so=True)
    torch.manual_seed(seed)

    # Load the dataset
    provide_train_features(train_dir)
    train_dataset, valid_dataset, n_classes = load_dataset(val_ratio, train_dir=train_dir, seed=seed)
    print('\nNumber of classes (speakers):\n{}\n'.format(n_classes))
    train_loader = DataLoader(train_dataset, batch_size, shuffle=use_shuffle,
                              drop_last=len(train_dataset) % batch_size == 1)  # BatchNorm needs two
    valid_loader = DataLoader(valid_dataset, valid_batch_size, collate_fn=collate_fn_feat_padded)

    # Instantiate the model
    model = background_resnet(embedding_size, n_classes)
    model.to(device, memory_format=torch.channels_last)  # faster
    model_before = copy.deepcopy(model)  # untrained, for clusters.png

    # Define the criterion, the optimizer and the scheduler
    criterion = nn.CrossEntropyLoss()
    optimizer = create_optimizer(optimizer_type, model, lr, wd)
    n_steps = (start - 1 + n_epochs) * len(train_loader)
    scheduler = create_scheduler(scheduler_type, optimizer, lr, n_steps, patience, min_lr)
    batch_scheduler = None if scheduler_type == 'plateau' else scheduler

    # Train. Run (support/runs.py) loads and saves
    with Run(settings, [train_dataset, valid_dataset], model, criterion, optimizer, scheduler) as run:
        for epoch in range(start, start + n_epochs):
            train_loss = train(train_loader, model, criterion, optimizer, use_cuda, epoch, n_classes,
                               log_interval=log_interval, scheduler=batch_scheduler)

            # Evaluate on the validation set
            valid_acc = AverageMeter()
            valid_loss = validate(valid_loader, model, criterion, use_cuda, epoch, valid_acc=valid_acc)
            if batch_scheduler is None:
                scheduler.step(valid_loss)

            # Save a checkpoint
            run.save(epoch, train_loss, valid_loss, valid_acc.avg)

    print('Lowest validation loss at epoch %d' % run.best_epoch)

    if plot:
        visualize_the_losses(run.all('train_loss'), run.all('valid_loss'), log_dir=log_dir,
                             accuracies=run.all('valid_acc'), learning_rates=run.all('lr'))
        run.draw_clusters(model_before, embed_feature)


if __name__ == '__main__':
    run_script(main, see='python -m deep_dive.train')
