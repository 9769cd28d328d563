"""Draw the losses of several runs over each other, and print what differs between them: the answer to exercise 2.

    python experiments/losses.py                                    # model_saved and the earlier runs in it
    python experiments/losses.py model_saved/run_001 model_saved    # these runs

Reads run.json in each folder. Writes losses.png into the folder in which you start it. Takes three seconds.
"""
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

import project

from support.messages import LabError, run_script
from support.pictures import CLUSTER_STYLES, save_picture
from support.runs import RUN_FILE, read_run

LOG_DIR = 'model_saved'
WITHOUT_EFFECT = ['log_dir', 'log_interval', 'plot', 'num_workers', 'cache_gb']  # these settings change no loss
ABOUT_DATA = ['utterances', 'classes']  # entries of run.json that are no settings of train.py
OTHER_LOSS = ['loss_type', 'train_dir', 'val_ratio', *ABOUT_DATA]  # losses of runs that differ in these are not alike


def runs_in(log_dir):
    """The folders of runs with a finished epoch, the earliest first: run_001, run_002, ... in log_dir, and log_dir."""
    folders = [*sorted(Path(log_dir).glob('run_*')), Path(log_dir)]
    return [str(folder) for folder in folders if (folder / RUN_FILE).exists() and read_run(folder)['epochs']]


def what_differs(settings_of):
    """Settings that are not the same in all runs. settings_of: list of dicts name -> value. Returns such a list."""
    names = list(dict.fromkeys(name for settings in settings_of for name in settings))
    differ = [name for name in names if name not in WITHOUT_EFFECT
              and any(settings.get(name) != settings_of[0].get(name) for settings in settings_of)]
    return [{name: settings.get(name) for name in differ} for settings in settings_of]


def draw_losses(losses_of, labels, filename):
    """Draw the losses of runs: list of (training losses, validation losses). The lowest validation loss is marked."""
    fig, ax = plt.subplots(figsize=(10, 8))
    for i, ((train_losses, valid_losses), label) in enumerate(zip(losses_of, labels)):
        colour, marker = CLUSTER_STYLES[i % len(CLUSTER_STYLES)]
        epochs = range(1, len(valid_losses) + 1)
        ax.plot(epochs, valid_losses, color=colour, marker=marker, markevery=[valid_losses.index(min(valid_losses))],
                markersize=9, label=label)
        ax.plot(epochs, train_losses, color=colour, linewidth=0.7)
    ax.set(xlabel='epochs', ylabel='loss', yscale='log',
           title='Thick: validation loss, with a mark where it is lowest. Thin: training loss')
    ax.legend()
    save_picture(fig, filename)


def main(
        # Settings
        log_dirs=[],  # folders of runs; []: model_saved and the earlier runs in it
        filename='losses.png',  # the picture
):
    if not isinstance(log_dirs, list):
        raise LabError('log_dirs = %r: it must be a list of folders.' % (log_dirs,))
    log_dirs = log_dirs or runs_in(LOG_DIR)
    if not log_dirs:
        raise LabError('There is no finished epoch of a run in %s. Run python train.py first.' % LOG_DIR)
    runs = [read_run(log_dir) for log_dir in log_dirs]
    for log_dir, run in zip(log_dirs, runs):
        if not run['epochs']:
            raise LabError('%s: no epoch of this run is finished yet.' % log_dir)

    # What differs between the runs
    differences = what_differs([{**run['settings'], **{name: run.get(name) for name in ABOUT_DATA}} for run in runs])
    texts = [', '.join('%s = %s' % setting for setting in difference.items()) or 'nothing'
             for difference in differences]

    # Draw the losses
    losses_of = [[[entry[name] for entry in run['epochs']] for name in ('train_loss', 'valid_loss')] for run in runs]
    draw_losses(losses_of, ['%s: %s' % pair if differences[0] else pair[0] for pair in zip(log_dirs, texts)], filename)

    # Print the table
    lowest = [min(valid_losses) for _, valid_losses in losses_of]
    table = pd.DataFrame({
        'Run': log_dirs, 'What differs': texts, 'Epochs': [len(run['epochs']) for run in runs],
        'Lowest validation loss': lowest,
        'At epoch': [valid_losses.index(loss) + 1 for (_, valid_losses), loss in zip(losses_of, lowest)],
        'Seconds': [round(sum(entry['seconds'] for entry in run['epochs'])) for run in runs]})
    print('\n' + table.to_string(index=False, float_format='{:.4f}'.format))

    # Losses of other classes or another formula are other numbers, even if the network is as good
    other_loss = [name for name in OTHER_LOSS if name in differences[0]]
    if other_loss:
        print('\nNote: these runs differ in %s, so their losses cannot be compared. Compare the error rates instead: '
              'python verification.py --test_speaker=all' % ' and '.join(other_loss))


if __name__ == '__main__':
    project.name_arguments(main)
    run_script(main)
