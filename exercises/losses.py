"""Draw the losses of several runs over each other, and print what differs between them: exercise 2.

    python -m exercises.losses                                    # model_saved and the earlier runs in it
    python -m exercises.losses model_saved/run_001 model_saved    # these runs

Reads run.json in each folder. Writes losses.png into the folder in which you start it. Takes three seconds.
"""
import textwrap
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.ticker import MaxNLocator

from support.messages import LabError, check_settings, is_name, run_script
from support.pictures import CLUSTER_STYLES, drawable, plain_log_ticks, save_picture
from support.runs import RUN_FILE, WITHOUT_EFFECT, read_run

LOG_DIR = 'model_saved'
ABOUT_DATA = ['utterances', 'classes']  # entries of run.json that are no settings of train.py
OTHER_LOSS = ['loss_type', 'train_dir', 'val_ratio', *ABOUT_DATA]  # they make other losses of a good network
# What train.py does, where deep_dive/train.py has a setting
SLIDES = {'loss_type': 'softmax', 'backbone': 'resnet18', 'pooling': 'average', 'warm_up': 0.3}
DASHES = ['-', '--', ':', '-.']  # of the lines, one after the other, when there are more runs than CLUSTER_STYLES
LINE_LETTERS = 100  # of the legend
FOLDERS = 'a list of folders', lambda value: isinstance(value, list) and all(map(is_name, value))


def runs_in(log_dir):
    """Folders of runs with a finished epoch, the earliest first: run_001 and so on, then log_dir."""
    folders = [*sorted(Path(log_dir).glob('run_*')), Path(log_dir)]
    return [str(folder) for folder in folders if (folder / RUN_FILE).exists() and read_run(folder)['epochs']]


def what_differs(settings_of):
    """The settings that are not the same in all runs. settings_of: list of dicts. Returns a list of dicts.

    A setting that a run does not have is as in SLIDES, or it is off: False, 0, None or empty.
    """
    names = dict.fromkeys(name for settings in settings_of for name in settings if name not in WITHOUT_EFFECT)
    differences = [{} for _ in settings_of]
    for name in names:
        values = [settings.get(name, SLIDES.get(name)) for settings in settings_of]
        if any((value or None) != (values[0] or None) for value in values):
            for difference, value in zip(differences, values):
                difference[name] = value
    return differences


def run_styles(n):
    """(colour, marker, dashes) of n runs. No two runs have the same colour.

    More runs than CLUSTER_STYLES go from dark to light in their order. Neighbours differ in marker and dashes.
    """
    if n <= len(CLUSTER_STYLES):
        return [(colour, marker, '-') for colour, marker in CLUSTER_STYLES[:n]]
    colours = plt.get_cmap('viridis')([0.85 * i / (n - 1) for i in range(n)])  # (n, 4)
    return [(tuple(colour), CLUSTER_STYLES[i % len(CLUSTER_STYLES)][1], DASHES[i % len(DASHES)])
            for i, colour in enumerate(colours)]


def draw_losses(losses_of, labels, filename):
    """Draw the losses of runs: list of (training, validation losses). Mark the lowest validation loss."""
    # A no-break space keeps a setting on one line
    labels = [textwrap.fill(label.replace(' = ', '\u00a0=\u00a0'), LINE_LETTERS) for label in labels]
    n_lines = sum(label.count('\n') + 1 for label in labels)
    fig, ax = plt.subplots(figsize=(10, 7 + 0.25 * n_lines), layout='constrained')
    for (train_losses, valid_losses), label, (colour, marker, dashes) in zip(losses_of, labels,
                                                                              run_styles(len(labels))):
        epochs, lowest = range(1, len(valid_losses) + 1), valid_losses.index(min(valid_losses))
        mark = {'marker': marker, 'markevery': [lowest], 'markersize': 9}
        ax.plot(epochs, valid_losses, color=colour, linestyle=dashes, linewidth=2.5, label=label, **mark)
        ax.plot(epochs, train_losses, color=colour, linestyle=dashes, linewidth=0.7,
                marker='.' if len(epochs) == 1 else '')
    longest = max(len(valid_losses) for _, valid_losses in losses_of)
    ax.set(xlabel='epochs', ylabel='loss (logarithmic)', yscale='log', xlim=(0, longest + 1),
           title='Thick: validation loss, with a mark where it is lowest. Thin: training loss')
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    plain_log_ticks(ax.yaxis)
    fig.legend(loc='outside lower left')
    save_picture(fig, filename)


def main(
        # Settings
        log_dirs=[],  # folders of runs; []: model_saved and the earlier runs in it
        filename='losses.png',  # the picture
):
    check_settings(main, locals(), log_dirs=FOLDERS)
    log_dirs = log_dirs or runs_in(LOG_DIR)
    if not log_dirs:
        raise LabError('There is no finished epoch of a run in %s. Run python train.py first.' % LOG_DIR)
    runs = [read_run(log_dir) for log_dir in log_dirs]
    for log_dir, run in zip(log_dirs, runs):
        if not run['epochs']:
            raise LabError('%s: no epoch of this run is finished yet.' % log_dir)

    # What differs between the runs
    about_data = [{name: run.get(name) for name in ABOUT_DATA} for run in runs]
    differences = what_differs([{**run['settings'], **about} for run, about in zip(runs, about_data)])
    texts = [', '.join('%s = %s' % setting for setting in difference.items()) or 'nothing'
             for difference in differences]
    labels = ['%s: %s' % pair for pair in zip(log_dirs, texts)] if differences[0] else log_dirs

    # Draw the losses
    losses_of = [[[entry[name] for entry in run['epochs']] for name in ('train_loss', 'valid_loss')]
                 for run in runs]
    draw_losses(losses_of, drawable(labels, 'run'), filename)

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
        print('\nNote: these runs differ in %s, so their losses cannot be compared. Compare the error rates '
              'instead: python -m exercises.thresholds' % ' and '.join(other_loss))


if __name__ == '__main__':
    run_script(main, words=True)
