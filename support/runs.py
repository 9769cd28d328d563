"""The files of a training run: checkpoints, run.json and the lock. How a run goes on, how an earlier one is kept."""
import copy
import functools
import io
import json
import os
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

import configure as c
from DB_wav_reader import speaker_of
from model import embed_feature, find_checkpoint
from support.checks import check_checkpoint
from support.devices import rank
from support.messages import LabError, in_one_line
from support.pictures import CLUSTER_STYLES, draw_clusters
from support.safe_files import read_checkpoint, read_whole, written_whole

LOCK_FILE = '.lock'  # in log_dir: while one training holds it, a second one is refused
RUN_FILE = 'run.json'  # in log_dir: the settings and losses of the run that wrote the checkpoints
BEST_FILE = 'checkpoint_best.pth'  # the epoch with the lowest validation loss
RUN_PICTURES = ['loss_plot.png', 'clusters.png']
TRAINING_ONLY = ['optimizer', 'scheduler', 'random', 'criterion']  # what BEST_FILE leaves out
SAME_DATA = ['corpus', 'utterances', 'classes']  # what a run that goes on must have in common with its beginning
SAME_SETTINGS = ['backbone', 'pooling', 'loss_type', 'embedding_size', 'seed', 'val_ratio', 'corpora', 'val_speakers',
                 'augment', 'init_from', 'freeze_backbone', 'optimizer_type', 'lr', 'wd', 'batch_size',
                 'batch_speakers', 'scheduler_type', 'patience', 'min_lr', 'warm_up']


# ------------------------------------------------------------------------------------------------- writing

def save_checkpoint(filename, checkpoint):
    """torch.save, whole or not at all. With torchrun, only the first process saves."""
    if rank() > 0:
        return
    content = io.BytesIO()  # torch.save itself does not notice a full disk
    torch.save(checkpoint, content)
    with written_whole(filename) as f:
        f.write(content.getbuffer())
        os.fsync(f.fileno())  # otherwise a power cut could leave an empty file


def keep_best(log_dir, number, **more):
    """Write checkpoint_best.pth: checkpoint `number` without what only training needs, and with `more` entries."""
    if rank() > 0:
        return
    checkpoint, _ = read_checkpoint(find_checkpoint(log_dir, number))
    kept = {name: value for name, value in checkpoint.items() if name not in TRAINING_ONLY}
    save_checkpoint(Path(log_dir) / BEST_FILE, {**kept, **more})


def write_run(log_dir, run):
    """Write LOG_DIR/run.json: the data, the settings, and the losses of every epoch so far.

    The epoch with the lowest validation loss so far is checkpoint_best.pth.
    """
    if rank() > 0:
        return
    with written_whole(Path(log_dir) / RUN_FILE) as f:
        f.write(json.dumps(run, indent=1).encode())
    losses = [entry['valid_loss'] for entry in run['epochs']]
    best = losses.index(min(losses)) + 1 if losses else None
    is_new = best == len(losses) or not (Path(log_dir) / BEST_FILE).exists()
    if losses and is_new and os.path.isfile('%s/checkpoint_%d.pth' % (log_dir, best)):
        keep_best(log_dir, best)


def random_state():
    """The state of torch's random numbers, on the CPU and on the GPU, if there is one."""
    return {'cpu': torch.get_rng_state(), 'cuda': torch.cuda.get_rng_state() if torch.cuda.is_available() else None}


# ------------------------------------------------------------------------------------------------- begin, go on

def begin_run(settings, datasets, model, criterion, optimizer, scheduler):
    """Begin a run in log_dir, or go on with the one that is there, as the settings of train.py say.

    datasets: those of training and validation. What an earlier run wrote from epoch `start` on is moved aside. Until
    this process ends, no other training may use log_dir. Returns the dict that is written as run.json. Its 'epochs' are
    those of the run so far.
    """
    log_dir, start = settings['log_dir'], settings['start']
    run = {'corpus': settings['train_dir'], 'utterances': sum(map(len, datasets)), 'classes': datasets[0].n_classes,
           'settings': settings, 'epochs': []}
    if start > 1:
        run['epochs'] = continue_run(log_dir, run, start, model, criterion, optimizer, scheduler)
    if rank() == 0:
        lock_log_dir(Path(log_dir).resolve())
        move_aside(Path(log_dir), start)
        write_run(log_dir, run)
    return run


@functools.cache  # once in a process, because the process keeps the lock
def lock_log_dir(log_dir):
    """Keep other trainings out of log_dir, an absolute Path, until this process ends, even if it is killed.

    Raises LabError if another training is at work there.
    """
    log_dir.mkdir(parents=True, exist_ok=True)
    lock = os.open(log_dir / LOCK_FILE, os.O_RDWR | os.O_CREAT)  # never closed, because that would unlock it
    try:
        if os.name == 'nt':
            import msvcrt
            msvcrt.locking(lock, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError) as error:
        raise LabError('Another train.py is at work in %s. Let it finish, stop it, or set another log_dir.'
                       % log_dir) from error
    except OSError:  # some network drives have no locks
        print('%s cannot be locked: do not start a second training in it' % log_dir)


def move_aside(log_dir, start):
    """Move the checkpoints from epoch `start` on, the best one, the pictures and run.json into a folder run_001, ...

    If the run goes on after epoch start - 1 (start > 1), run.json is copied. A move that was interrupted is completed.
    """
    checkpoints = [path for path in sorted(log_dir.glob('checkpoint_*.pth'))
                   if path.stem.removeprefix('checkpoint_').isdecimal()
                   and int(path.stem.removeprefix('checkpoint_')) >= start]
    others = [log_dir / name for name in [BEST_FILE, *RUN_PICTURES] if (log_dir / name).exists()]
    run = (log_dir / RUN_FILE).read_bytes() if (log_dir / RUN_FILE).exists() else None
    has_run = start == 1 and (others or run is not None and b'"epochs": []' not in run)
    if not checkpoints and not has_run:
        return
    number = 1
    while holds_another(log_dir / ('run_%03d' % number), [path.name for path in checkpoints + others], run):
        number += 1
    folder = log_dir / ('run_%03d' % number)
    if run is not None:  # first, because a move that was interrupted is recognized by it
        with written_whole(folder / RUN_FILE) as f:
            f.write(run)
    folder.mkdir(exist_ok=True)
    for path in others + checkpoints:  # a checkpoint is last, because it shows that there is something to move
        path.rename(folder / path.name)
    if start == 1:
        (log_dir / RUN_FILE).unlink(missing_ok=True)
    print('%s: %s is now in %s. To use it again: --log_dir=%s'
          % (log_dir, 'the earlier run' if start == 1 else 'what the earlier run did from epoch %d on' % start,
             folder.as_posix(), folder.as_posix()))


def holds_another(folder, names, run):
    """Whether a folder holds another run than the one to be moved: files of these names, or another run.json."""
    run_there = (folder / RUN_FILE).read_bytes() if (folder / RUN_FILE).exists() else None
    return any((folder / name).exists() for name in names) or run_there != run and any(folder.glob('[!.]*'))


def read_run(log_dir):
    """What write_run wrote. Raises LabError if there is nothing, or something else."""
    filename = Path(log_dir) / RUN_FILE
    if not filename.exists():
        raise LabError('%s does not exist: there is no run of train.py in %s.' % (filename, log_dir))
    try:
        run = json.loads(read_whole(filename))
        numbers = [entry[name] for entry in run['epochs'] for name in ('train_loss', 'valid_loss', 'lr', 'seconds')]
        numbers += [entry.get('valid_acc', 0) for entry in run['epochs']]  # not in runs of earlier versions
        if not isinstance(run['settings'], dict) or not all(isinstance(number, (int, float)) for number in numbers):
            raise ValueError('settings or losses are missing')
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise LabError('%s: not what train.py wrote there (%s). Set start = 1, which moves it aside.'
                       % (filename, in_one_line(error))) from error
    return run


def continue_run(log_dir, run, start, model, criterion, optimizer, scheduler):
    """Put everything back to where it was after epoch start - 1. Returns the history of the epochs until then.

    Raises LabError if the run in log_dir is another one than `run`, or does not reach that epoch.
    """
    there = read_run(log_dir)
    for name in SAME_DATA:
        if there.get(name) != run[name]:
            raise LabError('The run in %s has %s = %s, this one %s. Set start = 1 to begin a new run.'
                           % (log_dir, name, there.get(name), run[name]))
    for name in SAME_SETTINGS:
        if (there['settings'].get(name) or None) != (run['settings'][name] or None):  # earlier runs lack some settings
            raise LabError('The run in %s has %s = %s, main() says %s. To go on with it, they must be the same.'
                           % (log_dir, name, there['settings'].get(name), run['settings'][name]))
    if len(there['epochs']) < start - 1:
        raise LabError('%s has %d finished epochs: set start = %d or lower.'
                       % (log_dir, len(there['epochs']), len(there['epochs']) + 1))
    filename = find_checkpoint(log_dir, start - 1)
    checkpoint, _ = read_checkpoint(filename)
    check_checkpoint(checkpoint, filename)
    try:
        states = checkpoint['scheduler'], scheduler.state_dict()
        n_steps = [state.get('total_steps', state.get('T_max')) for state in states]
        if n_steps[0] != n_steps[1]:
            last_epoch = there['settings']['start'] + there['settings']['n_epochs'] - 1
            raise LabError('The learning rate of the run in %s ends with epoch %d, after %d training steps, not after '
                           '%d.\nSet n_epochs = %d, and keep the number of processes.'
                           % (log_dir, last_epoch, *n_steps, last_epoch - start + 1))
        model.load_state_dict(checkpoint['state_dict'])
        criterion.load_state_dict(checkpoint['criterion'])
        optimizer.load_state_dict(checkpoint['optimizer'])
        scheduler.load_state_dict(checkpoint['scheduler'])
        if rank() == 0:  # the other processes of torchrun have random numbers of their own
            torch.set_rng_state(checkpoint['random']['cpu'])
            if checkpoint['random']['cuda'] is not None and torch.cuda.is_available():
                torch.cuda.set_rng_state(checkpoint['random']['cuda'])
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise LabError('%s: no training can go on from it (%s).\nSet start to an earlier epoch, or to 1.'
                       % (filename, in_one_line(error))) from error
    return there['epochs'][:start - 1]


@contextmanager
def explained_ctrl_c(run, end):
    """Turn Ctrl-C into a line that says how to go on until epoch end - 1. run['epochs'] holds the finished epochs."""
    try:
        yield
    except KeyboardInterrupt:
        start = len(run['epochs']) + 1
        raise LabError('Stopped by Ctrl-C in epoch %d, after %d finished epochs.\nTo go on from there, add --start=%d '
                       '--n_epochs=%d to the same command.' % (start, start - 1, start, end - start)) from None


# ------------------------------------------------------------------------------------------------- clusters

def load_epoch(model, log_dir, number):
    """Give a model the parameters of an epoch of the run in log_dir. Returns the model, in eval mode."""
    model.load_state_dict(read_checkpoint(find_checkpoint(log_dir, number))[0]['state_dict'])
    return model.eval()


def draw_clusters_of(model_before, best_model, dataset, use_cuda, log_dir, minposs):
    """Draw LOG_DIR/clusters.png: where d-vectors of validation speakers lie before, early in and after the training.

    The speakers are those with the most utterances. Each utterance is cut into pieces of NUM_WIN_SIZE frames.
    """
    picture = os.path.join(log_dir, 'clusters.png')
    counts = Counter(dataset.labels)
    speakers = sorted(counts, key=lambda spk: (-counts[spk], spk))[:len(CLUSTER_STYLES)]
    pieces, labels, utterances = [], [], []
    for i, label in enumerate(dataset.labels):
        feature = dataset.feature(i) if label in speakers else ()  # (n_frames, n_dims)
        starts = range(0, len(feature) - c.NUM_WIN_SIZE + 1, c.NUM_WIN_SIZE)
        pieces += [feature[start:start + c.NUM_WIN_SIZE] for start in starts]
        labels += [label for _ in starts]
        utterances += [i for _ in starts]
    if not pieces:
        print('%s is not drawn: no validation utterance has %d frames' % (picture, c.NUM_WIN_SIZE))
        return
    models = {'before training': model_before.eval()}
    if minposs > 1 and os.path.isfile('%s/checkpoint_1.pth' % log_dir):
        models['after epoch 1'] = load_epoch(copy.deepcopy(model_before), log_dir, 1)
    models['after epoch %d' % minposs] = best_model
    vectors = {title: torch.cat([embed_feature(use_cuda, piece, model, None) for piece in pieces]).numpy()
               for title, model in models.items()}
    names = {label: speaker_of(filename) for label, filename in zip(dataset.labels, dataset.filenames)}
    draw_clusters(vectors, np.array(labels), np.array(utterances), {spk: names[spk] for spk in speakers}, picture)
