"""A recipe from a model card, done twice: a ResNet-50 that begins with nothing, and one that was trained before.

    python experiments/recipe.py <folder of the 240 training speakers> <new folder>
    python experiments/recipe.py --demo=True --out_dir=model_recipe     # a small version on demo voices

Keeps 50 speakers. Trains a ResNet-50 on the others (PRETRAINING). Then trains with the settings of the card (RECIPE) on
50 files of each of the 50: once from scratch, and once from the trained network (init_from of deep_dive/train.py).
Prints the validation accuracy of each epoch, and draws recipe.png (the training) and predictions.png (what the network
says of validation utterances) into the new folder. What is done is not done again, so the command may be stopped and
given again. Takes an hour on one core with bfloat16, and two without.

The small version takes three minutes on two plain cores. The 50 speakers are demo voices, with fewer files each
(N_DEMO_FILES). So few minutes are not enough to train on others first: the trained network is checkpoint_resnet50.pth
beside this file. It is the network of checkpoint_best.pth in the folder `pretraining` that the first command makes.
"""
from pathlib import Path

import matplotlib.pyplot as plt
import torch

import project  # noqa: F401 (finds the lab)

import configure as c
import hold_out
from compare import train_to_the_end
from model import load_model
from subset import link_subset
from support.checks import PROJECT
from support.demo_voices import make_train_features
from support.messages import LabError, run_script
from support.pictures import BLUE, ORANGE, save_picture
from support.runs import BEST_FILE, read_run
from train import load_dataset

N_SPEAKERS, N_FILES = 50, 50
PRETRAINING = {'backbone': 'resnet50', 'n_epochs': 5, 'scheduler_type': 'onecycle', 'wd': 5e-4, 'plot': False}
RECIPE = {'backbone': 'resnet50', 'n_epochs': 5, 'optimizer_type': 'adamw', 'lr': 1e-3, 'wd': 0.0,
          'scheduler_type': 'cosine', 'batch_size': 32, 'val_ratio': 10, 'plot': False}
# The small version
DEMO = {'val_ratio': 20, 'n_backend': 50}  # besides those of RECIPE; nothing here uses the backends
N_DEMO_FILES, DEMO_PRETRAINED = 6, 'experiments/checkpoint_resnet50.pth'


def draw_trainings(histories, filename):
    """Draw loss and accuracy of each training, side by side. histories: dict name -> `epochs` of its run.json."""
    fig, (losses, accuracy) = plt.subplots(1, 2, figsize=(12, 5.5), layout='constrained')
    numbers = range(1, RECIPE['n_epochs'] + 1)
    for (name, epochs), colour in zip(histories.items(), (BLUE, ORANGE)):
        losses.plot(numbers, [epoch['train_loss'] for epoch in epochs], 'o--', color=colour, label=name + ', training')
        losses.plot(numbers, [epoch['valid_loss'] for epoch in epochs], 'o-', color=colour, label=name + ', validation')
        accuracies = [epoch['valid_acc'] for epoch in epochs]
        accuracy.plot(numbers, accuracies, 'o-', color=colour, label='%s: %.1f %%' % (name, accuracies[-1]))
    losses.set(xlabel='epoch', ylabel='loss', ylim=(0, None), xticks=numbers)
    accuracy.set(xlabel='epoch', ylabel='validation accuracy (%)', ylim=(0, 100), xticks=numbers)
    for ax in (losses, accuracy):
        ax.legend(loc='upper center', bbox_to_anchor=(0.5, -0.12), ncols=2)
    save_picture(fig, filename)


def draw_predictions(model, dataset, names, filename, n_shown=6):
    """Draw utterances of a validation dataset with the true speaker, the predicted one, and its probability.

    The first half are the first utterances, the other half the first ones that the model gets wrong. names: of all
    classes, in their order.
    """
    shown = []
    with torch.inference_mode():
        for i in range(len(dataset)):
            feature, target = dataset[i]  # (1, n_dims, n_frames)
            probabilities = model(feature[None])[1].float().softmax(dim=1)[0]  # (n_classes,)
            predicted = int(probabilities.argmax())
            if len(shown) < n_shown // 2 or predicted != target:
                shown.append((feature[0], names[target], names[predicted], 100 * float(probabilities[predicted])))
            if len(shown) == n_shown:
                break
    fig, axes = plt.subplots(2, n_shown // 2, figsize=(14, 6), layout='constrained')
    darkest, brightest = min(feature.min() for feature, *_ in shown), max(feature.max() for feature, *_ in shown)
    for ax, (feature, true, predicted, percent) in zip(axes.flat, shown):
        n_filters, n_frames = feature.shape
        image = ax.imshow(feature.numpy(), origin='lower', aspect='auto', cmap='viridis', vmin=darkest, vmax=brightest,
                          extent=(0, n_frames * c.WIN_STEP, 0.5, n_filters + 0.5))
        ax.set(title='true: %s\npredicted: %s (%.0f %%)' % (true, predicted, percent), xlabel='seconds',
               ylabel='filter', yticks=(1, *range(10, n_filters + 1, 10)))
        ax.title.set_color('black' if true == predicted else ORANGE)
        ax.grid(False)
    for ax in list(axes.flat)[len(shown):]:
        ax.axis('off')
    fig.colorbar(image, ax=axes, label="level minus the filter's mean (20 log10)")
    save_picture(fig, filename)


def prepare(feat_dir, out_dir):
    """Divide the speakers below feat_dir: out_dir/fifty gets 50. Train a network on the others. Returns its file."""
    if not (out_dir / 'speakers').exists():
        hold_out.main(feat_dir=feat_dir, out_dir=str(out_dir / 'speakers'), n_unseen=N_SPEAKERS)
    if not (out_dir / 'fifty').exists():
        link_subset(out_dir / 'speakers' / 'unseen', out_dir / 'fifty', N_SPEAKERS, slice(N_FILES))
    train_to_the_end({**PRETRAINING, 'train_dir': str(out_dir / 'speakers' / 'train')}, out_dir / 'pretraining')
    return out_dir / 'pretraining' / BEST_FILE


def main(
        # Settings
        feat_dir='',  # the features of the training speakers: a folder for each
        out_dir='',  # where folders of links, trainings and pictures go
        demo=False,  # True: the small version, without feat_dir
):
    if not out_dir or not (feat_dir or demo):
        raise LabError('Give two folders: the one of the training speakers, and one for the results.\n'
                       'The small version: python experiments/recipe.py --demo=True --out_dir=model_recipe')
    out_dir = Path(out_dir)
    fifty = out_dir / 'fifty'
    if demo:
        make_train_features(str(fifty), n_voices=N_SPEAKERS, n_utterances=N_DEMO_FILES)
        trained, recipe = PROJECT / DEMO_PRETRAINED, {**RECIPE, **DEMO}
    else:
        trained, recipe = prepare(feat_dir, out_dir), RECIPE

    # Train on the 50 twice
    histories = {}
    for name, log_dir, init_from in (('from scratch', out_dir / 'from_scratch', None),
                                     ('pretrained', out_dir / 'pretrained', str(trained))):
        train_to_the_end({**recipe, 'train_dir': str(fifty), 'init_from': init_from}, log_dir)
        histories[name] = read_run(log_dir)['epochs']
        print('%-12s  validation accuracy after each epoch: %s %%'
              % (name, ', '.join('%.1f' % epoch['valid_acc'] for epoch in histories[name])), flush=True)
    draw_trainings(histories, out_dir / 'recipe.png')

    valid_dataset = load_dataset(recipe['val_ratio'], train_dir=str(fifty))[1]
    model = load_model(False, str(out_dir / 'pretrained'), 'best', None, None)
    names = sorted(folder.name for folder in fifty.glob('[!.]*'))
    draw_predictions(model, valid_dataset, names, out_dir / 'predictions.png')


if __name__ == '__main__':
    run_script(main, words=True)
