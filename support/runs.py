"""The files of a training run: checkpoints, run.json, the lock; and how a run goes on."""
import functools
import io
import json
import os
from pathlib import Path

import torch

from model import find_checkpoint
from support.messages import LabError, in_one_line
from support.safe_files import read_checkpoint, read_whole, written_whole

LOCK_FILE = '.lock'  # beside the checkpoints: while one training holds it, a second one is refused
RUN_FILE = 'run.json'  # beside the checkpoints: the settings and losses of the run that wrote them
BEST_FILE = 'checkpoint_best.pth'  # the epoch with the lowest validation loss
TRAINING_ONLY = ['optimizer', 'scheduler', 'random', 'criterion']  # what that file leaves out


def save_checkpoint(filename, checkpoint):
    """torch.save, whole or not at all."""
    content = io.BytesIO()  # torch.save to a full disk would not say so
    torch.save(checkpoint, content)
    with written_whole(filename) as temporary, open(temporary, 'wb') as f:
        f.write(content.getbuffer())
        f.flush()
        os.fsync(f.fileno())  # or a power cut might leave an empty file of that name


def random_state():
    """Where torch's random numbers stand, on the CPU and, where there is one, on the GPU."""
    return {'cpu': torch.get_rng_state(), 'cuda': torch.cuda.get_rng_state() if torch.cuda.is_available() else None}


def write_run(log_dir, run):
    """Write LOG_DIR/run.json: the data, the model, the settings, and the losses of every epoch so far."""
    with written_whole(Path(log_dir) / RUN_FILE) as temporary:
        temporary.write_text(json.dumps(run, indent=1))


def read_run(log_dir):
    """What write_run wrote; without settings and epochs where there is nothing. Raises LabError for anything else."""
    filename = Path(log_dir) / RUN_FILE
    try:
        run = json.loads(read_whole(filename)) if filename.exists() else {'settings': {}, 'epochs': []}
        numbers = [entry[name] for entry in run['epochs'] for name in ('train_loss', 'valid_loss', 'lr', 'seconds')]
        if not isinstance(run['settings'], dict) or not all(isinstance(number, (int, float)) for number in numbers):
            raise ValueError('settings or losses are missing')
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise LabError('%s: not what train.py wrote there (%s). To start over, remove it and the checkpoints beside it.'
                       % (filename, in_one_line(error))) from error
    return run


@functools.cache  # once in a process: it is this process that holds the lock
def lock_log_dir(log_dir):
    """Keep other trainings out of log_dir, an absolute Path, until this process ends, be it killed.

    Raises LabError where another one is at work there.
    """
    log_dir.mkdir(parents=True, exist_ok=True)
    lock = os.open(log_dir / LOCK_FILE, os.O_RDWR | os.O_CREAT)  # never closed: that would unlock it
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
    except OSError:  # some network drives know no locks
        print('%s cannot be locked: do not start a second training in it' % log_dir)


def check_log_dir(log_dir, run, start):
    """Raise LabError where the run in log_dir must not be overwritten, or cannot be continued, by this one."""
    run_file = Path(log_dir) / RUN_FILE
    if start > 1 and not run_file.exists():
        raise LabError('start = %d, but %s holds no run to continue. Set start = 1.' % (start, log_dir))
    if not any(Path(log_dir).glob('checkpoint_[0-9]*.pth')):
        return
    there = read_run(log_dir)
    same = ['corpus', 'utterances', 'speakers', 'backbone', 'pooling', 'loss_type', 'embedding_size']
    if any(there.get(name) != run[name] for name in same):
        raise LabError('%s holds another run (%s). To keep it, set another log_dir; to start over,\n'
                       'remove its checkpoint_<epoch>.pth, %s and %s.'
                       % (log_dir, ', '.join('%s %s' % (name, there.get(name, 'unknown')) for name in same),
                          BEST_FILE, RUN_FILE))
    if start > 1:
        # Another seed would validate on what was trained on; the others are as they were, whatever main() says
        for name in ('seed', 'val_ratio', 'augment', 'init_from', 'freeze_backbone', 'optimizer_type', 'lr', 'wd',
                     'batch_size', 'scheduler_type', 'patience', 'min_lr', 'warm_up'):
            if there['settings'].get(name) != run['settings'][name]:
                raise LabError('the run in %s has %s = %s, main() says %s: to continue it, they must be the same.'
                               % (log_dir, name, there['settings'].get(name), run['settings'][name]))
        if len(there['epochs']) < start - 1:
            raise LabError('%s holds %d finished epochs: set start = %d or lower.'
                           % (run_file, len(there['epochs']), len(there['epochs']) + 1))
    n_there = len(there['epochs'])
    if start <= n_there:
        print('%s: epochs %d to %d of an earlier run are replaced (start = %d would continue it)'
              % (log_dir, start, n_there, n_there + 1))


def begin_run(log_dir, run, start):
    """Remove what an earlier run left from epoch `start` on, and write down the settings of this one."""
    for filename in sorted(Path(log_dir).glob('checkpoint_[0-9]*.pth')):
        number = filename.stem.removeprefix('checkpoint_')
        if number.isdigit() and int(number) >= start:
            filename.unlink()
    (Path(log_dir) / BEST_FILE).unlink(missing_ok=True)
    write_run(log_dir, run)


def continue_run(log_dir, start, model, criterion, optimizer, scheduler):
    """Put everything back to where it was after epoch start - 1. Returns the history of the epochs until then."""
    filename = find_checkpoint(log_dir, start - 1)
    checkpoint, run = read_checkpoint(filename), read_run(log_dir)
    try:
        states = checkpoint['scheduler'], scheduler.state_dict()
        n_steps = [state.get('total_steps', state.get('T_max')) for state in states]
        if n_steps[0] != n_steps[1]:
            last_epoch = run['settings']['start'] + run['settings']['n_epochs'] - 1
            raise LabError('The cycle of the run in %s ends with epoch %d after %d training steps, not after %d:\n'
                           'set n_epochs = %d, and keep the number of processes.'
                           % (log_dir, last_epoch, *n_steps, last_epoch - start + 1))
        model.load_state_dict(checkpoint['state_dict'])
        criterion.load_state_dict(checkpoint['criterion'])
        optimizer.load_state_dict(checkpoint['optimizer'])
        scheduler.load_state_dict(checkpoint['scheduler'])
        torch.set_rng_state(checkpoint['random']['cpu'])
        if checkpoint['random']['cuda'] is not None and torch.cuda.is_available():
            torch.cuda.set_rng_state(checkpoint['random']['cuda'])
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise LabError('%s: no training can go on from it (%s).\nSet start to an earlier epoch, or to 1.'
                       % (filename, in_one_line(error))) from error
    return run['epochs'][:start - 1]
