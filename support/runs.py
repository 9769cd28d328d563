"""The files of a training run: checkpoints, run.json and the lock. How a run goes on, how an earlier one is kept."""
import copy
import functools
import io
import json
import os
import time
from collections import Counter
from pathlib import Path

import numpy as np
import torch

import configure as c
from support.checks import check_checkpoint, check_loss, feature_settings, in_another_folder, path_parts
from support.messages import LabError, in_one_line, is_name
from support.pictures import CLUSTER_STYLES, draw_clusters
from support.safe_files import read_checkpoint, read_whole, written_whole

LOCK_FILE = '.lock'  # in log_dir: while one training holds it, a second one is refused
RUN_FILE = 'run.json'  # in log_dir: the settings and losses of the run that wrote the checkpoints
BEST_FILE = 'checkpoint_best.pth'  # the epoch with the lowest validation loss
RUN_PICTURES = ['loss_plot.png', 'clusters.png', 'confusion.png']  # the last one: of deep_dive/classify.py
TRAINING_ONLY = ['optimizer', 'scheduler', 'random', 'criterion']  # what BEST_FILE leaves out
SAME_DATA = ['corpus', 'utterances', 'classes']  # what a run that goes on must have in common with its beginning
# These settings may change when a run goes on. All others decide what it learns, so they must stay as they are
WITHOUT_EFFECT = ['use_cuda', 'log_dir', 'log_interval', 'plot', 'num_workers', 'cache_gb', 'n_backend']
MAY_CHANGE = ['start', 'n_epochs', 'train_dir', *WITHOUT_EFFECT]  # train_dir: the data themselves are compared


class Run:
    """A training run in log_dir: it begins there, or goes on, and writes each epoch.

        with Run(settings, [train_dataset, valid_dataset], model, criterion, optimizer, scheduler) as run:
            for epoch in ...:
                ...
                run.save(epoch, train_loss, valid_loss, valid_acc)

    settings: those of main(). If settings['start'] > 1, everything is put back to where it was after the epoch before.
    What an earlier run wrote from epoch `start` on is moved aside. Until this process ends, no other training may use
    log_dir. Ctrl-C ends in a line that says how to go on. writes: False in all processes of torchrun but the first.
    not_said: the values of settings that a run of a program with fewer settings does not have.
    """

    def __init__(self, settings, datasets, model, criterion, optimizer, scheduler, *, writes=True, not_said=None):
        self.settings, self.log_dir, self.datasets, self.writes = settings, settings['log_dir'], datasets, writes
        self.not_said = not_said or {}
        self.model, self.criterion, self.optimizer, self.scheduler = model, criterion, optimizer, scheduler
        self.content = {'corpus': settings['train_dir'], 'utterances': sum(map(len, datasets)),
                        'classes': datasets[0].n_classes, 'settings': settings, 'epochs': []}  # that of run.json

    def __enter__(self):
        if self.settings['start'] > 1:
            self.content['epochs'] = self.go_on()
        if self.writes:
            lock_log_dir(Path(self.log_dir).resolve())
            move_aside(Path(self.log_dir), self.settings['start'])
            self.write()
        self.begin_epoch()
        return self

    def __exit__(self, kind, error, traceback):
        if kind is KeyboardInterrupt:
            start, end = len(self.epochs) + 1, self.settings['start'] + self.settings['n_epochs']
            raise LabError('Stopped by Ctrl-C in epoch %d, after %d finished epochs.\nTo go on from there, add '
                           '--start=%d --n_epochs=%d to the same command.'
                           % (start, start - 1, start, end - start)) from None

    @property
    def epochs(self):
        """List of the finished epochs: dicts of train_loss, valid_loss, valid_acc (percent), lr and seconds."""
        return self.content['epochs']

    @property
    def best_epoch(self):
        """The number of the epoch with the lowest validation loss, from 1 on."""
        losses = self.all('valid_loss')
        return losses.index(min(losses)) + 1

    def all(self, name):
        """List of one of the numbers in `epochs`, such as 'valid_loss'. valid_acc of runs of earlier versions: None."""
        return [entry.get(name) for entry in self.epochs]

    def begin_epoch(self):
        """Note the time and the learning rate."""
        self.begin, self.lr = time.perf_counter(), self.optimizer.param_groups[0]['lr']

    def save(self, epoch, train_loss, valid_loss, valid_acc):
        """Write checkpoint_<epoch>.pth, run.json and, if it is the best epoch so far, checkpoint_best.pth.

        Raises LabError if a loss is no longer a number.
        """
        for loss in (train_loss, valid_loss):
            check_loss(loss, epoch)
        seconds = round(time.perf_counter() - self.begin, 1)
        print('  * Epoch {}: learning rate {:g}, {} s'.format(epoch, self.lr, seconds), flush=True)
        self.epochs.append({'train_loss': train_loss, 'valid_loss': valid_loss, 'lr': self.lr, 'seconds': seconds,
                            'valid_acc': valid_acc})
        if self.writes:
            save_checkpoint('{}/checkpoint_{}.pth'.format(self.log_dir, epoch), {
                'epoch': epoch + 1, 'state_dict': self.model.state_dict(), 'optimizer': self.optimizer.state_dict(),
                'scheduler': state_of(self.scheduler), 'criterion': self.criterion.state_dict(),
                'random': random_state(), 'features': feature_settings(), 'n_speakers': self.datasets[0].n_speakers,
                'speakers': speakers_of(self.datasets), **self.model.settings})
            self.write()
        self.begin_epoch()

    def write(self):
        """Write run.json and, if the last epoch is the best one so far, checkpoint_best.pth."""
        with written_whole(Path(self.log_dir) / RUN_FILE) as f:
            f.write(json.dumps(self.content, indent=1).encode())
        best = self.best_epoch if self.epochs else None
        is_new = best == len(self.epochs) or not (Path(self.log_dir) / BEST_FILE).exists()
        if self.epochs and is_new and os.path.isfile('%s/checkpoint_%d.pth' % (self.log_dir, best)):
            keep_best(self.log_dir, best)

    def best_model(self):
        """The model with the parameters of the best epoch, in eval mode."""
        return load_epoch(self.model, self.log_dir, self.best_epoch)

    def draw_clusters(self, model_before, embed):
        """Draw LOG_DIR/clusters.png: where d-vectors of validation speakers lie before, early in and after training.

        model_before: the network before the first epoch. embed: embed_feature of model.py. The speakers are those with
        the most utterances.
        """
        picture = os.path.join(self.log_dir, 'clusters.png')
        pieces, labels, utterances, names = cut_for_clusters(self.datasets[1])
        if not pieces:
            print('%s is not drawn: no validation utterance has %d frames' % (picture, c.NUM_WIN_SIZE))
            return
        models = {'before training': model_before.eval()}
        if self.best_epoch > 1 and os.path.isfile('%s/checkpoint_1.pth' % self.log_dir):
            models['after epoch 1'] = load_epoch(copy.deepcopy(model_before), self.log_dir, 1)
        models['after epoch %d' % self.best_epoch] = self.best_model()
        use_cuda = self.settings['use_cuda']
        vectors = {title: torch.cat([embed(use_cuda, piece, model, None) for piece in pieces]).numpy()
                   for title, model in models.items()}
        draw_clusters(vectors, np.array(labels), np.array(utterances), names, picture)

    def go_on(self):
        """Put everything back to where it was after epoch start - 1. Returns the list of the epochs until then.

        Raises LabError if the run in log_dir is another one, or does not reach that epoch.
        """
        log_dir, start, there = self.log_dir, self.settings['start'], read_run(self.log_dir)
        for name in SAME_DATA:
            if there.get(name) != self.content[name]:
                raise LabError('The run in %s has %s = %s, this one %s. Set start = 1 to begin a new run.'
                               % (log_dir, name, there.get(name), self.content[name]))
        settings_there = {**self.not_said, **there['settings']}
        for name in {**self.settings, **settings_there}:
            values = settings_there.get(name), self.settings.get(name)
            if name not in self.settings and name not in MAY_CHANGE:
                raise LabError('The run in %s has a setting %s = %s. Go on with python -m deep_dive.train.'
                               % (log_dir, name, values[0]))
            if name not in MAY_CHANGE and (values[0] or None) != (values[1] or None):  # earlier runs lack some
                raise LabError('The run in %s has %s = %s, main() says %s. To go on with it, they must be the same.'
                               % (log_dir, name, *values))
        if len(there['epochs']) < start - 1:
            raise LabError('%s has %d finished epochs: set start = %d or lower.'
                           % (log_dir, len(there['epochs']), len(there['epochs']) + 1))
        filename = find_checkpoint(log_dir, start - 1)
        checkpoint, _ = read_checkpoint(filename)
        check_checkpoint(checkpoint, filename)
        try:
            states = checkpoint['scheduler'], self.scheduler.state_dict()
            n_steps = [state.get('total_steps', state.get('T_max')) for state in states]
            if n_steps[0] != n_steps[1]:
                last_epoch = there['settings']['start'] + there['settings']['n_epochs'] - 1
                raise LabError('The learning rate of the run in %s ends with epoch %d, after %d training steps, not '
                               'after %d.\nSet n_epochs = %d, and keep the number of processes.'
                               % (log_dir, last_epoch, *n_steps, last_epoch - start + 1))
            self.model.load_state_dict(checkpoint['state_dict'])
            self.criterion.load_state_dict(checkpoint['criterion'])
            self.optimizer.load_state_dict(checkpoint['optimizer'])
            self.scheduler.load_state_dict(checkpoint['scheduler'])
            if self.writes:  # the other processes of torchrun have random numbers of their own
                torch.set_rng_state(checkpoint['random']['cpu'])
                if checkpoint['random']['cuda'] is not None and torch.cuda.is_available():
                    torch.cuda.set_rng_state(checkpoint['random']['cuda'])
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise LabError('%s: no training can go on from it (%s).\nSet start to an earlier epoch, or to 1.'
                           % (filename, in_one_line(error))) from error
        return there['epochs'][:start - 1]


def cut_for_clusters(dataset):
    """Pieces of NUM_WIN_SIZE frames of the speakers with the most utterances, as many as there are CLUSTER_STYLES.

    Returns (pieces, the label of each, the utterance of each, dict label -> name of the speaker).
    """
    counts, names = Counter(dataset.labels), names_of(dataset)
    speakers = sorted(counts, key=lambda spk: (-counts[spk], spk))[:len(CLUSTER_STYLES)]
    pieces, labels, utterances = [], [], []
    for i, label in enumerate(dataset.labels):
        feature = dataset.feature(i) if label in speakers else ()  # (n_frames, n_dims)
        for start in range(0, len(feature) - c.NUM_WIN_SIZE + 1, c.NUM_WIN_SIZE):
            pieces.append(feature[start:start + c.NUM_WIN_SIZE])
            labels.append(label)
            utterances.append(i)
    return pieces, labels, utterances, {spk: names[spk] for spk in speakers}


def names_of(dataset):
    """Dict label -> name of the speaker, of the utterances in a dataset."""
    return {label: path_parts(filename)[-1 - c.SPEAKER_LEVEL]
            for label, filename in zip(dataset.labels, dataset.filenames)}


# ------------------------------------------------------------------------------------------------- checkpoints

def find_checkpoint(log_dir, cp_num):
    """The file LOG_DIR/checkpoint_<cp_num>.pth. Raises LabError, with those that exist, if there is none."""
    filename = os.path.join(log_dir, 'checkpoint_%s.pth' % cp_num)
    if not os.path.isfile(filename):
        names = [path.stem.removeprefix('checkpoint_') for path in Path(log_dir).glob('checkpoint_*.pth')]
        names.sort(key=lambda name: (len(name), name))  # 2 before 10
        names = ', '.join(name if name.isdigit() else repr(name) for name in names)  # as one writes them in main()
        elsewhere = in_another_folder(filename)
        if elsewhere:
            raise LabError('%s does not exist.%s' % (filename, elsewhere))
        training = 'python train.py' if log_dir == 'model_saved' else 'python train.py --log_dir=%s' % log_dir
        raise LabError('%s does not exist. Run %s first%s.'
                       % (filename, training, ', or set cp_num to one of %s' % names if names else ''))
    return filename


def speakers_of(datasets):
    """The names of the speakers of a training, in the order of the outputs of the last layer: list of n_speakers.

    datasets: those of training and validation, because some speakers may be in one of them only.
    """
    names = {label: name for dataset in datasets for label, name in names_of(dataset).items()}
    return [names[label] for label in sorted(names)]


def read_speakers(filename, n_classes):
    """The names in a checkpoint with n_classes outputs: list, in their order. Fewer than these with other speeds.

    Raises LabError if there are none, as in checkpoints of earlier versions and in the models that ship.
    """
    speakers = read_checkpoint(filename)[0].get('speakers')
    if not isinstance(speakers, list) or not speakers or not all(map(is_name, speakers)) or n_classes % len(speakers):
        raise LabError('%s does not say who its training speakers are: an earlier version wrote it, or it ships with '
                       'the lab.\nTrain one that does: python -m deep_dive.train --log_dir=model_new'
                       % filename)
    return speakers


def save_checkpoint(filename, checkpoint):
    """torch.save, whole or not at all."""
    content = io.BytesIO()  # torch.save itself does not notice a full disk
    torch.save(checkpoint, content)
    with written_whole(filename) as f:
        f.write(content.getbuffer())
        os.fsync(f.fileno())  # otherwise a power cut could leave an empty file


def keep_best(log_dir, number, **more):
    """Write checkpoint_best.pth: checkpoint `number` without what only training needs, and with `more` entries."""
    checkpoint, _ = read_checkpoint(find_checkpoint(log_dir, number))
    kept = {name: value for name, value in checkpoint.items() if name not in TRAINING_ONLY}
    save_checkpoint(Path(log_dir) / BEST_FILE, {**kept, **more})


def load_epoch(model, log_dir, number):
    """Give a model the parameters of an epoch of the run in log_dir. Returns the model, in eval mode."""
    model.load_state_dict(read_checkpoint(find_checkpoint(log_dir, number))[0]['state_dict'])
    return model.eval()


def state_of(scheduler):
    """Its state_dict without functions, which no checkpoint may hold. PyTorch 2.2 puts some into it."""
    return {name: value for name, value in scheduler.state_dict().items() if not callable(value)}


def random_state():
    """The state of torch's random numbers, on the CPU and on the GPU, if there is one."""
    return {'cpu': torch.get_rng_state(), 'cuda': torch.cuda.get_rng_state() if torch.cuda.is_available() else None}


# ------------------------------------------------------------------------------------------------- folders of runs

@functools.cache  # once in a process, because the process keeps the lock
def lock_log_dir(log_dir):
    """Keep other trainings out of log_dir, an absolute Path, until this process ends, even if it is killed.

    Raises LabError if another training is at work there.
    """
    log_dir.mkdir(parents=True, exist_ok=True)
    lock = os.open(log_dir / LOCK_FILE, os.O_RDWR | os.O_CREAT)  # never closed, because that would unlock it
    try:
        try:
            import fcntl
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:  # Windows has another
            import msvcrt
            msvcrt.locking(lock, msvcrt.LK_NBLCK, 1)
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
    is_another = run_there != run and any(folder.glob('[!.]*'))
    return is_another or any((folder / name).exists() for name in names)


def read_run(log_dir):
    """The content of run.json, which Run writes. Raises LabError if there is nothing, or something else."""
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
