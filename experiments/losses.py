"""Draw the losses of several runs over each other, and print what differs between them: the answer to exercise 2.

    python experiments/losses.py                                    # model_saved and the earlier runs in it
    python experiments/losses.py model_saved model_saved/run_001

Reads run.json in each folder. Writes losses.png into the folder in which it is started. Takes two seconds.
"""
from pathlib import Path

import project  # noqa: F401  (the lab, one folder up, is found)

import matplotlib.pyplot as plt
import pandas as pd

from support.messages import LabError, run_script
from support.pictures import save_picture
from support.runs import RUN_FILE, read_run

WITHOUT_EFFECT = ['start', 'log_dir', 'log_interval', 'plot', 'num_workers', 'cache_gb']  # settings not compared


def differences(runs):
    """What differs between the settings of runs, in words: list of one text per run."""
    names = sorted({name for run in runs for name in run['settings']} - set(WITHOUT_EFFECT))
    names = [name for name in names if len({repr(run['settings'].get(name)) for run in runs}) > 1]
    return [', '.join('%s = %s' % (name, run['settings'].get(name)) for name in names) or 'the same settings'
            for run in runs]


def main(*log_dirs):
    if not log_dirs:
        log_dirs = [str(path.parent) for path in [Path('model_saved') / RUN_FILE,
                                                  *sorted(Path('model_saved').glob('*/' + RUN_FILE))] if path.exists()]
    if not log_dirs:
        raise LabError('model_saved holds no run. Train first: python train.py')
    runs = [read_run(log_dir) for log_dir in log_dirs]
    for log_dir, run in zip(log_dirs, runs):
        if not run['epochs']:
            raise LabError('%s: no epoch of this run is finished yet.' % log_dir)

    # Draw both losses of each run, in one colour
    fig, ax = plt.subplots()
    rows = []
    for log_dir, run, text in zip(log_dirs, runs, differences(runs)):
        train_losses = [epoch['train_loss'] for epoch in run['epochs']]
        valid_losses = [epoch['valid_loss'] for epoch in run['epochs']]
        epochs = range(1, len(run['epochs']) + 1)
        line, = ax.plot(epochs, valid_losses, label='%s: %s' % (log_dir, text))
        ax.plot(epochs, train_losses, ':', linewidth=1, color=line.get_color())
        lowest = min(valid_losses)
        rows.append((log_dir, text, len(epochs), lowest, valid_losses.index(lowest) + 1,
                     sum(epoch['seconds'] for epoch in run['epochs'])))
    ax.set(xlabel='epochs', ylabel='loss', yscale='log', title='Validation loss (solid) and training loss (dotted)')
    ax.legend(fontsize=9)
    save_picture(fig, 'losses.png')

    # Print them
    table = pd.DataFrame(rows, columns=['Run', 'What differs', 'Epochs', 'Lowest validation loss', 'at epoch', 'Seconds'])
    print(table.to_string(index=False, float_format='{:.3f}'.format))


if __name__ == '__main__':
    run_script(main)
