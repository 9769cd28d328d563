"""Fit the background model: a ResNet-18 that tells the training speakers apart.

    python train.py
    torchrun --nproc_per_node=2 train.py    # the same on two GPUs, or in two processes on the CPU

Reads the feature files in TRAIN_FEAT_DIR (configure.py), or makes demo voices where the project's own folder has none.
Writes model_saved/checkpoint_<epoch>.pth after every epoch; at the end checkpoint_best.pth (the one with the lowest
validation loss), loss_plot.png and clusters.png. On two CPU cores with bfloat16, 30 epochs take four minutes with the
demo voices.
"""
import functools
import math
import os
import time
from pathlib import Path

import matplotlib.pyplot as plt
import torch
import torch.distributed as dist
from torch import nn, optim
from torch.distributed.elastic.multiprocessing.errors import record
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SequentialSampler
from tqdm import tqdm

import configure as c
from DB_wav_reader import read_feats_structure
from SR_Dataset import DvectorDataset, ShareOfBatches, ToTensorDevInput, read_MFB, collate_fn_feat_padded
from SR_Dataset import collate_fn_share
from deep_dive.augmentation import SPEEDS, training_transforms
from deep_dive.backends import estimate_backend, window_d_vectors
from deep_dive.heads import load_backbone
from deep_dive.losses import LOSSES
from deep_dive.schedules import create_scheduler
from model import background_resnet, find_checkpoint
from support.checks import feature_settings
from support.demo_voices import provide_train_features
from support.devices import follow_first_process, get_device, join_processes, mixed_precision, network_to_train
from support.devices import print_device, weight_of_share
from support.messages import LabError, run_script
from support.pictures import BLACK, draw_clusters, save_picture
from support.runs import BEST_FILE, TRAINING_ONLY, begin_run, check_log_dir, continue_run, lock_log_dir, random_state
from support.runs import save_checkpoint, write_run
from support.safe_files import read_checkpoint

TEXT_SETTINGS = ['backbone', 'pooling', 'loss_type', 'augment', 'init_from', 'optimizer_type', 'scheduler_type',
                 'log_dir']
OPTIMIZERS = {
    'sgd': lambda parameters, lr, wd: optim.SGD(parameters, lr=lr, momentum=0.9, weight_decay=wd),
    'adam': lambda parameters, lr, wd: optim.Adam(parameters, lr=lr, weight_decay=wd),
    'adamw': lambda parameters, lr, wd: optim.AdamW(parameters, lr=lr, weight_decay=wd),
    'adagrad': lambda parameters, lr, wd: optim.Adagrad(parameters, lr=lr, weight_decay=wd),
}


def load_dataset(val_ratio, *, seed=0, cache_gb=4.0, augment=None):
    """The utterances of TRAIN_FEAT_DIR as datasets: (train_dataset, valid_dataset, number of classes).

    val_ratio: percentage of the utterances kept for validation; cache_gb: memory for the features of both, in 10^9
    bytes; augment: names as in training_transforms, or None; 'speed' makes each speaker several classes. Raises
    LabError where they cannot be trained on.
    """
    augment = [] if augment is None else augment
    transforms = training_transforms(augment)
    speeds = SPEEDS if 'speed' in augment else SPEEDS[:1]
    train_DB, valid_DB = split_train_dev(c.TRAIN_FEAT_DIR, val_ratio, seed=seed)
    speaker_list = sorted(set(train_DB['speaker_id']) | set(valid_DB['speaker_id']))
    if len(speaker_list) < 2:
        raise LabError('%s has only the speaker %s: telling speakers apart takes at least two.'
                       % (c.TRAIN_FEAT_DIR, speaker_list[0]))
    spk_to_idx = {spk: i for i, spk in enumerate(speaker_list)}

    valid_gb = cache_gb * len(valid_DB) / (len(train_DB) + len(valid_DB))
    train_dataset = DvectorDataset(train_DB, read_MFB, transforms, spk_to_idx, cache_gb=cache_gb - valid_gb,
                                   speeds=speeds)
    valid_dataset = DvectorDataset(valid_DB, read_MFB, [ToTensorDevInput()], spk_to_idx, cache_gb=valid_gb)
    return train_dataset, valid_dataset, len(speeds) * len(speaker_list)


def split_train_dev(train_feat_dir, valid_ratio, *, seed=0):
    """Split the utterances below train_feat_dir at random: (train_DB, valid_DB), valid_ratio percent in the second."""
    train_valid_DB = read_feats_structure(train_feat_dir)
    total_len = len(train_valid_DB)
    valid_len = int(total_len * valid_ratio / 100)
    train_len = total_len - valid_len
    if valid_len < 1 or train_len < 2:
        raise LabError('%s has %d utterances: val_ratio = %g leaves %d for training and %d for validation.\n'
                       'Add recordings or change val_ratio.'
                       % (train_feat_dir, total_len, valid_ratio, train_len, valid_len))
    shuffled_DB = train_valid_DB.sample(frac=1, random_state=seed)
    train_DB = shuffled_DB.iloc[:train_len].reset_index(drop=True)
    valid_DB = shuffled_DB.iloc[train_len:].reset_index(drop=True)

    print('\nTraining set %d utts (%0.1f%%)' % (train_len, 100 * train_len / total_len))
    print('Validation set %d utts (%0.1f%%)' % (valid_len, 100 * valid_len / total_len))
    print('Total %d utts' % total_len)
    return train_DB, valid_DB


def create_optimizer(optimizer_type, model, lr, wd):
    """The optimizer named optimizer_type for the parameters of model. Raises LabError for an unknown name or value."""
    if optimizer_type not in OPTIMIZERS:
        raise LabError('unknown optimizer_type: %s. Choose one of %s.' % (optimizer_type, ', '.join(OPTIMIZERS)))
    try:
        return OPTIMIZERS[optimizer_type]([p for p in model.parameters() if p.requires_grad], lr, wd)
    except ValueError as error:
        raise LabError('lr = %s, wd = %s: %s' % (lr, wd, error)) from error


class AverageMeter:
    """The last value of a quantity and its mean so far, each value counted n times. Tensors stay on their device."""

    def __init__(self):
        self.val, self.sum, self.count, self.n = 0, 0, 0, 0

    def update(self, val, n=1):
        self.val, self.n = val, n
        self.sum += val * n
        self.count += n

    @property
    def avg(self):
        return float(self.sum) / self.count

    def over_all_processes(self, device):
        """The meter of everything that the processes have seen together: itself, where there is but one."""
        if not dist.is_initialized():
            return self
        together = torch.tensor([float(self.sum), self.count, self.n], dtype=torch.float64, device=device)
        dist.all_reduce(together)
        meter = AverageMeter()
        meter.sum, meter.count, meter.n = together[0].item(), int(together[1]), int(together[2])
        return meter


def accuracy(logits, targets):
    """Percentage of the rows of logits (batch, n_classes) whose largest entry is the target (batch,), as a tensor."""
    return 100 * (logits.argmax(dim=1) == targets).float().mean()


def create_criterion(loss_type, n_classes, embedding_size, n_steps):
    """The loss named loss_type: cross-entropy, or one of deep_dive/losses.py, some of which grow harder in n_steps.

    Raises LabError for an unknown name.
    """
    if loss_type == 'softmax':
        return nn.CrossEntropyLoss()
    if loss_type not in LOSSES:
        raise LabError('unknown loss_type: %s. Choose one of softmax, %s.' % (loss_type, ', '.join(LOSSES)))
    return LOSSES[loss_type](n_classes, embedding_size, n_steps)


def loss_of(criterion, logits, targets, spk_embedding):
    """The loss of a batch, in float32. Those of deep_dive/ look at the embeddings, too."""
    if isinstance(criterion, tuple(LOSSES.values())):
        return criterion(logits.float(), targets, spk_embedding.float())
    return criterion(logits.float(), targets)


def train(train_loader, model, criterion, optimizer, use_cuda, epoch, n_classes, *, log_interval=84, scheduler=None):
    """Train for one epoch; prints a line every log_interval batches. Returns the average training loss.

    n_classes is part of the lab's signature; the loss needs no more than the logits. scheduler: one that is stepped
    after every batch. Raises LabError where the loss is no longer a number.
    """
    device = get_device(use_cuda)
    batch_time, losses, train_acc = AverageMeter(), AverageMeter(), AverageMeter()
    model.train()
    criterion.train()

    end = time.perf_counter()
    for batch_idx, (inputs, targets) in enumerate(tqdm(train_loader, disable=None, leave=False)):
        # fetch a batch: (batch, 1, 40, 100) and (batch,)
        inputs = inputs.to(device, memory_format=torch.channels_last, non_blocking=True)
        targets = targets.to(device, non_blocking=True)

        # forward
        with mixed_precision(device):
            spk_embedding, logits = model(inputs)  # (batch, embedding_size), (batch, n_classes)
        loss = loss_of(criterion, logits, targets, spk_embedding)

        # backward
        optimizer.zero_grad()
        (loss * weight_of_share(len(targets), device)).backward()
        optimizer.step()
        if scheduler is not None:
            scheduler.step()

        # keep the score, without waiting for the device
        losses.update(loss.detach(), len(targets))
        train_acc.update(accuracy(logits, targets), len(targets))
        batch_time.update(time.perf_counter() - end)
        end = time.perf_counter()

        # log
        if batch_idx % log_interval == 0:
            loss_so_far, acc_so_far = losses.over_all_processes(device), train_acc.over_all_processes(device)
            print('Train Epoch: {:3d} [{:8d}/{:8d} ({:3.0f}%)]\tTime {:.3f} ({:.3f})\tLoss {:.4f}\tAcc {:.4f}'.format(
                epoch, loss_so_far.count - loss_so_far.n, len(train_loader.dataset),
                100 * batch_idx / len(train_loader), batch_time.val, batch_time.avg, loss_so_far.avg, acc_so_far.avg),
                flush=True)
    train_loss = losses.over_all_processes(device).avg
    if not math.isfinite(train_loss):
        raise LabError('The loss is %s in epoch %d: training has diverged. Try a lower lr.' % (train_loss, epoch))
    return train_loss


def validate(valid_loader, model, criterion, use_cuda, epoch):
    """Loss and accuracy on the validation utterances, which are printed. Returns the average loss."""
    device = get_device(use_cuda)
    losses, valid_acc = AverageMeter(), AverageMeter()
    model.eval()
    criterion.eval()

    with torch.inference_mode():
        for inputs, targets in valid_loader:  # (batch, 1, 40, n_frames) and (batch,)
            inputs, targets = inputs.to(device, memory_format=torch.channels_last), targets.to(device)
            with mixed_precision(device):
                spk_embedding, logits = model(inputs)
            losses.update(loss_of(criterion, logits, targets, spk_embedding), len(targets))
            valid_acc.update(accuracy(logits, targets), len(targets))

    losses, valid_acc = losses.over_all_processes(device), valid_acc.over_all_processes(device)
    print('  * Validation: Loss {:.4f}\tAcc {:.4f}'.format(losses.avg, valid_acc.avg), flush=True)
    return losses.avg


# ---------------------------------------------------------------------------------- several processes (torchrun)


# -------------------------------------------------------------------------------------------- the files of a run


def visualize_the_losses(train_losses, valid_losses, *, filename='loss_plot.png'):
    """Draw the losses of all epochs into loss_plot.png, with a dashed line at the lowest validation loss."""
    epochs = range(1, len(train_losses) + 1)
    lowest = valid_losses.index(min(valid_losses)) + 1
    fig, ax = plt.subplots(figsize=(10, 8))
    ax.plot(epochs, train_losses, label='Training Loss')
    ax.plot(epochs, valid_losses, label='Validation Loss')
    ax.axvline(lowest, linestyle='--', color=BLACK, label='Lowest validation loss (epoch %d)' % lowest)
    ax.set(xlabel='epochs', ylabel='loss', xlim=(0, len(train_losses) + 1), ylim=(0, None),
           title='The validation loss was lowest, %.3f, at epoch %d of %d' % (min(valid_losses), lowest, len(epochs)))
    ax.legend()
    save_picture(fig, filename)


def main():
    # Hyperparameters
    use_cuda = True  # use a GPU if there is one; False: the CPU in any case
    seed = 0  # of the split, the first weights and the random windows; try a few: how much do the results move?
    val_ratio = 10  # percentage of the utterances kept for validation
    embedding_size = 128  # length of a d-vector; try 32 to 512
    backbone = 'resnet18'  # or resnet34, 50, 101, 152: slower; better? or 'vgg', or, with adam, 'lstm', 'cnn_lstm'
    pooling = 'average'  # what becomes of the frames: 'average', 'statistics' or 'attentive'
    loss_type = 'softmax'  # or 'center', 'asoftmax', 'amsoftmax', 'aamsoftmax': deep_dive/losses.py
    augment = []  # or some of ['speed', 'level', 'noise', 'specaugment'], more speakers, distance, noise, gaps
    init_from = None  # transfer: begin with the network of a checkpoint, such as 'model_saved/checkpoint_best.pth'
    freeze_backbone = False  # with init_from: True learns a new last layer alone, False all of the network
    start = 1  # first epoch; k continues from checkpoint k - 1, with everything as it was
    n_epochs = 30  # how many epochs in this run; the slides then use the one with the lowest validation loss

    lr = 1e-1  # initial learning rate; try 1e-2 and 1
    wd = 1e-4  # weight decay (L2 penalty)
    optimizer_type = 'sgd'  # or 'adam', 'adamw', 'adagrad'; the adams want an lr near 1e-3
    scheduler_type = 'plateau'  # or 'cosine', or 'onecycle': nearly as good in 4 epochs, with wd = 5e-4 (README)
    patience = 2  # plateau: epochs without a lower validation loss before the learning rate is divided by 10
    min_lr = 1e-4  # plateau: the learning rate never falls below this
    warm_up = 0.3  # onecycle: share of the training in which the learning rate rises

    batch_size = 64  # utterances in a training step, of all processes together; half of it: half of lr
    valid_batch_size = 16  # whole utterances in a validation step
    use_shuffle = True  # draw the training utterances in a new order every epoch

    use_compile = False  # torch.compile: minutes to start, then faster steps on some hardware; try it on a GPU
    sync_batchnorm = False  # True: BatchNorm's statistics over all GPUs of a torchrun, as one GPU would see them
    cache_gb = 4.0  # memory for features, in 10^9 bytes; those beyond are read from their files, sample by sample
    num_workers = 2  # processes that read them; none is started where all features are in memory
    n_mean = 100  # training utterances whose mean d-vector goes into every checkpoint: backend = 'centre'
    n_backend = 2000  # training utterances that the best checkpoint's mean, LDA and WCCN are estimated on
    log_dir = 'model_saved'  # where the checkpoints go
    log_interval = 84  # batches from one printed line to the next
    plot = True  # draw loss_plot.png and clusters.png
    settings = dict(locals())  # all of the above, for run.json

    for name, value in settings.items():
        if isinstance(value, str) and name not in TEXT_SETTINGS:
            raise LabError('%s = %r: write it without quotes.' % (name, value))
    if freeze_backbone and init_from is None:
        raise LabError('freeze_backbone = True without init_from would keep a network that has learnt nothing.')
    if init_from is not None and Path(init_from).resolve().parent == Path(log_dir).resolve():
        raise LabError("init_from lies in log_dir = '%s', whose checkpoints are replaced. Set another log_dir."
                       % log_dir)
    if min(n_epochs, start, n_mean, n_backend) < 1:
        raise LabError('start = %s, n_epochs = %s, n_mean = %s, n_backend = %s: each must be at least 1'
                       % (start, n_epochs, n_mean, n_backend))

    # Choose the device; under torchrun, this is one of several processes
    rank, n_processes = join_processes(use_cuda)
    device = get_device(use_cuda)

    # Fix what is random: the first weights, the order of the utterances, their windows
    torch.manual_seed(seed)

    # Load the dataset
    if rank == 0:
        provide_train_features()
    if n_processes > 1:
        dist.barrier()
    train_dataset, valid_dataset, n_classes = load_dataset(val_ratio, seed=seed, cache_gb=cache_gb / n_processes,
                                                           augment=augment)
    print('\nNumber of classes (speakers):\n{}\n'.format(n_classes))

    # Each process takes its share of a training batch, and whole validation batches: padding depends on the batch
    order = RandomSampler(train_dataset) if use_shuffle else SequentialSampler(train_dataset)
    train_batches = ShareOfBatches(order, batch_size, rank, n_processes)
    valid_batches = list(BatchSampler(SequentialSampler(valid_dataset), valid_batch_size, drop_last=False))
    workers = 0 if train_dataset.all_in_memory and valid_dataset.all_in_memory else num_workers
    pin_memory = device.type == 'cuda'
    train_loader = DataLoader(train_dataset, batch_sampler=train_batches, num_workers=workers, pin_memory=pin_memory,
                              collate_fn=collate_fn_share)
    valid_loader = DataLoader(valid_dataset, batch_sampler=valid_batches[rank::n_processes], num_workers=workers,
                              pin_memory=pin_memory, collate_fn=collate_fn_feat_padded)

    # Define the loss function (criterion) and instantiate the model
    print_device(use_cuda)
    n_steps = (start - 1 + n_epochs) * len(train_loader)
    criterion = create_criterion(loss_type, n_classes, embedding_size, n_steps).to(device)
    new_model = functools.partial(background_resnet, embedding_size, n_classes, backbone, pooling=pooling,
                                  head=getattr(criterion, 'head', 'slides'))
    model = new_model().to(device, memory_format=torch.channels_last)  # the faster layout
    if init_from is not None and start == 1:
        load_backbone(model, init_from)
    if freeze_backbone:
        model.freeze_backbone()
    network = network_to_train(model, device, use_compile, sync_batchnorm)

    # Define the optimizer and the scheduler
    optimizer = create_optimizer(optimizer_type, model, lr, wd)
    scheduler = create_scheduler(scheduler_type, optimizer, lr=lr, patience=patience, min_lr=min_lr, warm_up=warm_up,
                                 n_steps=n_steps)

    # Begin a run in log_dir, or go on with the one that is there
    run = {'corpus': c.TRAIN_FEAT_DIR, 'utterances': len(train_dataset) + len(valid_dataset),
           'speakers': train_dataset.n_speakers,
           'backbone': backbone, 'pooling': pooling, 'loss_type': loss_type, 'embedding_size': embedding_size,
           'settings': settings, 'epochs': []}
    if rank == 0:
        lock_log_dir(Path(log_dir).resolve())
        check_log_dir(log_dir, run, start)
    if start > 1:
        run['epochs'] = continue_run(log_dir, start, model, criterion, optimizer, scheduler)
    if rank == 0:
        begin_run(log_dir, run, start)

    try:
        for epoch in range(start, start + n_epochs):
            # Train for one epoch, then see how well it does on the validation set
            begin, lr_now = time.perf_counter(), optimizer.param_groups[0]['lr']
            train_loss = train(train_loader, network, criterion, optimizer, use_cuda, epoch, n_classes,
                               log_interval=log_interval, scheduler=None if scheduler_type == 'plateau' else scheduler)
            follow_first_process(model)
            follow_first_process(criterion)
            valid_loss = validate(valid_loader, model, criterion, use_cuda, epoch)
            seconds = round(time.perf_counter() - begin, 1)
            print('  * Epoch {}: learning rate {:g}, {} s'.format(epoch, lr_now, seconds), flush=True)

            # A validation loss that no longer falls lowers the learning rate
            if scheduler_type == 'plateau':
                scheduler.step(valid_loss)

            # Save what the next scripts need, and what it takes to go on from here
            run['epochs'].append({'train_loss': train_loss, 'valid_loss': valid_loss, 'lr': lr_now, 'seconds': seconds})
            if rank > 0:
                continue
            save_checkpoint('{}/checkpoint_{}.pth'.format(log_dir, epoch), {
                'epoch': epoch + 1, 'state_dict': model.state_dict(), 'optimizer': optimizer.state_dict(),
                'scheduler': scheduler.state_dict(), 'random': random_state(), **model.settings,
                'criterion': criterion.state_dict(),
                'features': feature_settings(), 'n_speakers': train_dataset.n_speakers,
                'mean': window_d_vectors(train_dataset, model, use_cuda, n_mean).mean(dim=0, keepdim=True)})
            write_run(log_dir, run)
    except KeyboardInterrupt:
        raise LabError('Stopped by Ctrl-C in epoch %d, after %d finished epochs.\nTo go on from there, set start = %d '
                       'and n_epochs = %d.' % (epoch, epoch - 1, epoch, start + n_epochs - epoch)) from None

    # The rest is for one process
    if n_processes > 1:
        dist.destroy_process_group()
    if rank > 0:
        os._exit(0)  # a thread of PyTorch's that is about to let go of the last numbers shared can abort Python's end

    # Find the epoch with the lowest validation loss
    avg_train_losses = [entry['train_loss'] for entry in run['epochs']]
    avg_valid_losses = [entry['valid_loss'] for entry in run['epochs']]
    minposs = avg_valid_losses.index(min(avg_valid_losses)) + 1
    print('Lowest validation loss at epoch %d' % minposs)

    # Keep that one under a name of its own, too, with what the backends of the test scripts need
    best = read_checkpoint(find_checkpoint(log_dir, minposs))
    model.load_state_dict(best['state_dict'])
    d_vectors = window_d_vectors(train_dataset, model, use_cuda, n_backend)
    best.update(estimate_backend(d_vectors, train_dataset.labels[:n_backend]))
    save_checkpoint(Path(log_dir) / BEST_FILE, {key: best[key] for key in best if key not in TRAINING_ONLY})

    # Visualize the losses as the network trained, and what it has learnt
    if plot:
        visualize_the_losses(avg_train_losses, avg_valid_losses)
        torch.manual_seed(seed)  # the first weights once more
        models = {'before training': new_model().to(device)}
        if init_from is not None:
            load_backbone(models['before training'], init_from)
        kept = [number for number in (1, minposs) if os.path.isfile('%s/checkpoint_%d.pth' % (log_dir, number))]
        for number in kept:
            model = new_model().to(device)
            model.load_state_dict(read_checkpoint(find_checkpoint(log_dir, number))['state_dict'])
            models['after epoch %d' % number] = model
        draw_clusters(models, valid_dataset, use_cuda)


if __name__ == '__main__':
    run_script(record(main))  # under torchrun, its last lines repeat the message of a process that failed
