"""Fit the background model: a ResNet-18 that tells the training speakers apart.

    python train.py
    python train.py --n_epochs=10             # every setting of main() can be named; --help lists them
    torchrun --nproc_per_node=2 train.py      # on two GPUs, or in two processes on the CPU

Reads the feature files in TRAIN_FEAT_DIR (configure.py). If there are none, makes synthetic demo voices first. Writes
into model_saved checkpoint_<epoch>.pth after every epoch, checkpoint_best.pth (lowest validation loss), loss_plot.png
and clusters.png. An earlier run there is moved aside. With demo voices, 30 epochs take eight to ten minutes on two CPU
cores without bfloat16, four with it. Lines marked "with torchrun" do nothing in a single process.
"""
import copy
import time

import matplotlib.pyplot as plt
import torch
from torch import nn, optim
from torch.utils.data import DataLoader
from tqdm import tqdm

import configure as c
from DB_wav_reader import read_feats_structure
from SR_Dataset import DvectorDataset, ToTensorDevInput, ToTensorInput, TruncatedInputfromMFB
from SR_Dataset import collate_fn_feat_padded, read_MFB
from deep_dive import augmentation, batches, calibration, heads, mixing, schedules
from deep_dive.losses import LOSSES
from model import BACKBONES, POOLINGS, background_resnet
from support import devices, runs
from support.checks import TRAIN_RULES, check_loss, check_settings, check_split, feature_settings
from support.demo_voices import provide_train_features
from support.devices import average_over_processes, get_device, mixed_precision
from support.messages import run_script
from support.pictures import draw_training, save_picture, axis_top

OPTIMIZERS = {'sgd': optim.SGD, 'adam': optim.Adam, 'adamw': optim.AdamW, 'adagrad': optim.Adagrad}


def load_dataset(val_ratio, *, train_dir=c.TRAIN_FEAT_DIR, corpora=(), val_speakers=0, cache_gb=4, augment=(), **split):
    """The utterances below train_dir and in corpora: (train_dataset, valid_dataset, n_classes). split: seed, n_each."""
    train_DB, valid_DB = split_train_dev(train_dir, val_ratio, val_speakers=val_speakers, **split)
    speaker_list = sorted(set(train_DB['speaker_id']) | set(valid_DB['speaker_id']))
    spk_to_idx = {spk: i for i, spk in enumerate(speaker_list)}
    train_gb = cache_gb * (1 - val_ratio / 100)
    train_transforms, valid_transforms = [TruncatedInputfromMFB(), ToTensorInput()], [ToTensorDevInput()]
    train_dataset = DvectorDataset(train_DB, read_MFB, train_transforms, spk_to_idx, cache_gb=train_gb)
    valid_dataset = DvectorDataset(valid_DB, read_MFB, valid_transforms, spk_to_idx, cache_gb=cache_gb - train_gb)
    if corpora:
        others = [load_dataset(val_ratio, train_dir=folder, cache_gb=cache_gb, **split)[:2] for folder in corpora]
        train_dataset, valid_dataset = mixing.mix([(train_dataset, valid_dataset), *others], [1, *corpora.values()])
    if augment:
        train_dataset = augmentation.AugmentedDataset(train_dataset, augment)
    return train_dataset, valid_dataset, train_dataset.n_classes


def split_train_dev(train_feat_dir, valid_ratio, *, val_speakers=0, seed=0, n_each=1):
    """Split the utterances below train_feat_dir at random: (train_DB, valid_DB), valid_ratio percent in the second."""
    train_valid_DB = read_feats_structure(train_feat_dir)
    train_valid_DB = train_valid_DB[~calibration.held_out(train_valid_DB, val_speakers, seed)]
    total_len = len(train_valid_DB)
    valid_len = int(total_len * valid_ratio / 100)
    train_len = total_len - valid_len
    shuffled_DB = train_valid_DB.sample(frac=1, random_state=seed, ignore_index=True)
    train_DB, valid_DB = shuffled_DB.iloc[:train_len], shuffled_DB.iloc[train_len:].reset_index(drop=True)
    check_split(train_feat_dir, train_DB['speaker_id'], valid_DB['speaker_id'], valid_ratio, n_each)

    print('\nTraining set %d utts (%0.1f%%)' % (train_len, 100 * train_len / total_len))
    print('Validation set %d utts (%0.1f%%)' % (valid_len, 100 * valid_len / total_len))
    print('Total %d utts' % total_len)
    return train_DB, valid_DB


def create_optimizer(optimizer_type, model, lr, wd):
    """The optimizer named optimizer_type, one of OPTIMIZERS, for the parameters of model."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    momentum = {'momentum': 0.9} if optimizer_type == 'sgd' else {}
    return OPTIMIZERS[optimizer_type](parameters, lr=lr, weight_decay=wd, **momentum)


class AverageMeter:
    """The last value of a quantity, and the average so far. Each value is the average of n samples."""

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
    """The loss of a batch, in float32. The losses of deep_dive/losses.py look at the embeddings, too."""
    embeddings = [] if isinstance(criterion, nn.CrossEntropyLoss) else [spk_embedding.float()]
    return criterion(logits.float(), targets, *embeddings)


def train(train_loader, model, criterion, optimizer, use_cuda, epoch, n_classes, *, log_interval=84, scheduler=None):
    """Train for one epoch. Prints a line every log_interval batches. Returns the average training loss.

    scheduler: one that is stepped after every batch. Raises LabError if the loss is no longer a number.
    """
    device = get_device(use_cuda)
    batch_time, losses, train_acc = AverageMeter(), AverageMeter(), AverageMeter()
    model.train()
    criterion.train()

    end = time.perf_counter()
    for batch_idx, (inputs, targets) in enumerate(tqdm(train_loader, disable=None, leave=False)):
        # Get a batch: (batch, 1, 40, 100) and (batch,)
        inputs = inputs.to(device, memory_format=torch.channels_last, non_blocking=True)
        targets = targets.to(device, non_blocking=True)

        # Forward
        with mixed_precision(device):
            spk_embedding, logits = model(inputs)  # (batch, embedding_size), (batch, n_classes)
        loss = loss_of(criterion, logits, targets, spk_embedding)

        # Backward
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if scheduler is not None:
            scheduler.step()

        # Measure. The numbers stay on the GPU, because reading them in every step would slow down the training
        losses.update(loss.detach(), len(targets))
        train_acc.update(100 * (logits.argmax(dim=1) == targets).float().mean(), len(targets))
        batch_time.update(time.perf_counter() - end)
        end = time.perf_counter()

        # Print
        if batch_idx % log_interval == 0:
            print('Train Epoch: {:3d} [{:8d}/{:8d} ({:3.0f}%)]\tTime {:.3f} ({:.3f})\tLoss {:.4f}\tAcc {:.4f}'.format(
                epoch, losses.count - len(targets), len(train_loader.sampler), 100 * batch_idx / len(train_loader),
                batch_time.val, batch_time.avg, losses.avg, train_acc.avg), flush=True)
    train_loss = average_over_processes(losses, device)
    check_loss(train_loss, epoch)
    return train_loss


def validate(valid_loader, model, criterion, use_cuda, epoch, *, valid_acc=None):
    """Print loss and accuracy on the validation utterances. Returns the average loss. valid_acc: a new AverageMeter."""
    device = get_device(use_cuda)
    losses, valid_acc = AverageMeter(), valid_acc or AverageMeter()
    model.eval()
    criterion.eval()

    with torch.inference_mode():
        for inputs, targets in valid_loader:  # (batch, 1, 40, n_frames) and (batch,)
            inputs, targets = inputs.to(device, memory_format=torch.channels_last), targets.to(device)
            with mixed_precision(device):
                spk_embedding, logits = model(inputs)
            losses.update(loss_of(criterion, logits, targets, spk_embedding), len(targets))
            valid_acc.update(100 * (logits.argmax(dim=1) == targets).float().mean(), len(targets))

    valid_loss, acc = average_over_processes(losses, device), average_over_processes(valid_acc, device)
    print('  * Validation: Loss {:.4f}\tAcc {:.4f}'.format(valid_loss, acc), flush=True)
    check_loss(valid_loss, epoch)
    return valid_loss


def visualize_the_losses(train_losses, valid_losses):
    """Draw the losses of all epochs into loss_plot.png, with a dashed line at the lowest validation loss."""
    epochs = range(1, len(train_losses) + 1)
    lowest = valid_losses.index(min(valid_losses)) + 1
    fig, ax = plt.subplots(figsize=(10, 8))
    ax.plot(epochs, train_losses, label='Training Loss')
    ax.plot(epochs, valid_losses, label='Validation Loss')
    ax.axvline(lowest, linestyle='--', color='black', label='Lowest validation loss (epoch %d)' % lowest)
    ax.set(xlabel='epochs', ylabel='loss', xlim=(0, len(epochs) + 1), ylim=(0, axis_top(train_losses, valid_losses)))
    ax.legend()
    save_picture(fig, 'loss_plot.png')


def main(
        # Settings of the slides
        use_cuda=True,  # use a GPU if there is one; False: the CPU in any case
        val_ratio=10,  # percentage of the utterances kept for validation
        embedding_size=128,  # dimension of a d-vector; try 32 to 512
        start=1,  # first epoch; 5 goes on after checkpoint_4
        n_epochs=30,  # how many epochs
        lr=1e-1,  # initial learning rate; try 1e-2 and 1
        wd=1e-4,  # weight decay (L2 penalty)
        optimizer_type='sgd',  # or 'adam', 'adamw', 'adagrad'; adam and adamw need lr near 1e-3
        batch_size=64,  # utterances in a training step; if you halve it, try half of lr
        valid_batch_size=16,  # utterances in a validation step
        use_shuffle=True,  # draw the training utterances in a new order every epoch
        patience=2,  # if the validation loss has not fallen for more epochs than this, lr is divided by 10
        min_lr=1e-4,  # the learning rate never falls below this

        # Beyond the slides
        seed=0,  # of everything random; try several: how much do the results differ?
        scheduler_type='plateau',  # or 'onecycle' (rises, then falls to 0), 'cosine' (falls from lr to 0)
        warm_up=0.3,  # onecycle: share of the training in which the learning rate rises
        backbone='resnet18',  # or resnet34, 50, 101, 152, resnet_se, vgg, tdnn, ecapa, conformer; adam: lstm, cnn_lstm
        pooling='average',  # how the frames become one vector: or 'statistics', 'attentive'
        loss_type='softmax',  # or 'center', 'asoftmax', 'amsoftmax', 'aamsoftmax', 'subcenter'; see batch_speakers
        batch_speakers=None,  # 8 for 'ge2e', 'prototypical', 'triplet': speakers in a batch, batch_size / 8 times each
        augment=[],  # or some of ['speed', 'level', 'room', 'microphone', 'noise', 'band', 'specaugment']
        init_from=None,  # begin with a trained network, such as 'model_saved/checkpoint_etri240.pth'
        freeze_backbone=False,  # with init_from; True: train the last layer only
        cache_gb=4.0,  # memory for the features of a corpus, in 10^9 bytes; those that need more are read from disk
        num_workers=2,  # processes that read features from disk
        n_backend=2000,  # utterances from which thresholds and backends of the best checkpoint are found
        val_speakers=0,  # so many speakers of train_dir are kept out of the training: thresholds come from them
        train_dir=c.TRAIN_FEAT_DIR,  # where the training features are
        corpora={},  # further feature folders, and how often each of their utterances is drawn: {'feat_libri': 4}
        log_dir='model_saved',  # where the checkpoints and pictures go
        log_interval=84,  # batches from one printed line to the next
        plot=True,  # draw loss_plot.png and clusters.png
):
    settings = check_settings(locals(), TRAIN_RULES, optimizer_type=OPTIMIZERS, scheduler_type=schedules.SCHEDULERS,
                              backbone=BACKBONES, pooling=POOLINGS, loss_type=['softmax', *LOSSES],
                              augment=augmentation.AUGMENTATIONS)
    n_each = batches.check_batches(settings)  # training utterances that each speaker must have
    devices.join_processes(use_cuda)  # with torchrun
    device = get_device(use_cuda, say_so=True)
    torch.manual_seed(seed)

    # Load the dataset
    devices.first_process_first(provide_train_features, train_dir)
    data = {name: settings[name] for name in ('train_dir', 'corpora', 'val_speakers', 'seed', 'cache_gb', 'augment')}
    train_dataset, valid_dataset, n_classes = load_dataset(val_ratio, **data, n_each=n_each)
    unheard = calibration.held_out_dataset(train_dir, val_speakers, seed) if val_speakers else valid_dataset
    print('\nNumber of classes (speakers):\n{}\n'.format(n_classes))
    options = {'num_workers': 0 if train_dataset.in_memory else num_workers, 'pin_memory': device.type == 'cuda'}
    train_loader = DataLoader(train_dataset, batch_size, **batches.order_of(train_dataset, settings), **options,
                              drop_last=len(train_dataset) % batch_size == 1)  # BatchNorm needs two utterances
    valid_loader = DataLoader(valid_dataset, valid_batch_size, collate_fn=collate_fn_feat_padded, **options)
    train_loader, valid_loader = devices.share_loaders(train_loader, valid_loader, seed + start)  # with torchrun

    # Define the loss function (criterion), the model and its first weights
    n_steps = (start - 1 + n_epochs) * len(train_loader)
    criterion = nn.CrossEntropyLoss()
    if loss_type != 'softmax':
        criterion = LOSSES[loss_type](n_classes, embedding_size, n_steps).to(device)
    model = background_resnet(embedding_size, n_classes, backbone, pooling=pooling,
                              head=getattr(criterion, 'head', 'slides'))
    model = model.to(device, memory_format=torch.channels_last)  # the faster layout
    if init_from is not None:
        heads.load_backbone(model, init_from, freeze=freeze_backbone)
    model_before = copy.deepcopy(model)
    network = devices.network_to_train(model)

    # Define the optimizer and the scheduler
    optimizer = create_optimizer(optimizer_type, nn.ModuleList([model, criterion]), lr, wd)  # some losses learn, too
    scheduler = optim.lr_scheduler.ReduceLROnPlateau(optimizer, 'min', patience=patience, min_lr=min_lr)
    if scheduler_type != 'plateau':
        scheduler = schedules.create_scheduler(scheduler_type, optimizer, lr=lr, warm_up=warm_up, n_steps=n_steps)

    # Begin a run in log_dir, or go on with the one that is there
    run = runs.begin_run(settings, [train_dataset, valid_dataset], model, criterion, optimizer, scheduler)
    with runs.explained_ctrl_c(run, start + n_epochs):
        for epoch in range(start, start + n_epochs):
            # Train for one epoch
            begin, lr_now, valid_acc = time.perf_counter(), optimizer.param_groups[0]['lr'], AverageMeter()
            train_loss = train(train_loader, network, criterion, optimizer, use_cuda, epoch, n_classes,
                               log_interval=log_interval, scheduler=None if scheduler_type == 'plateau' else scheduler)
            devices.follow_first_process(model)  # with torchrun

            # Evaluate on the validation set. The learning rate falls if the loss does not
            valid_loss = validate(valid_loader, model, criterion, use_cuda, epoch, valid_acc=valid_acc)
            seconds = round(time.perf_counter() - begin, 1)
            print('  * Epoch {}: learning rate {:g}, {} s'.format(epoch, lr_now, seconds), flush=True)
            if scheduler_type == 'plateau':
                scheduler.step(valid_loss)

            # Save what the next scripts need, and what it takes to go on from here
            runs.save_checkpoint('{}/checkpoint_{}.pth'.format(log_dir, epoch), {
                'epoch': epoch + 1, 'state_dict': model.state_dict(), 'optimizer': optimizer.state_dict(),
                'scheduler': scheduler.state_dict(), 'criterion': criterion.state_dict(), 'random': runs.random_state(),
                'features': feature_settings(), 'n_speakers': train_dataset.n_speakers, **model.settings})
            run['epochs'].append({'train_loss': train_loss, 'valid_loss': valid_loss, 'lr': lr_now, 'seconds': seconds,
                                  'valid_acc': average_over_processes(valid_acc, device)})
            runs.write_run(log_dir, run)
    devices.leave_processes()  # with torchrun

    # Find the epoch with the lowest validation loss
    avg_train_losses = [entry['train_loss'] for entry in run['epochs']]
    avg_valid_losses = [entry['valid_loss'] for entry in run['epochs']]
    minposs = avg_valid_losses.index(min(avg_valid_losses)) + 1
    print('Lowest validation loss at epoch %d' % minposs)

    # Keep it as checkpoint_best.pth, with its own thresholds, and with what the backends of the deep dive need
    runs.load_epoch(model, log_dir, minposs)
    runs.keep_best(log_dir, minposs, **calibration.measure_best(model, train_dataset, unheard, use_cuda, n_backend))

    # Visualize the losses as the network trained, and what it has learned
    if plot:
        visualize_the_losses(avg_train_losses, avg_valid_losses)
        draw_training(run['epochs'], '{}/loss_plot.png'.format(log_dir))
        runs.draw_clusters_of(model_before, model, valid_dataset, use_cuda, log_dir, minposs)


if __name__ == '__main__':
    run_script(main)
