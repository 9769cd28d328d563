"""Which of its training speakers does a network hear? This asks the classifier: its last layer has an output for each.

    python -m deep_dive.classify x.wav --log_dir=model_new         # a recording, or several, or feature files (.p)
    python -m deep_dive.classify test_wavs --log_dir=model_new     # a folder: <speaker>/test*.wav or test*.p in it

identification.py compares d-vectors with those of enrolled speakers. Here nobody is enrolled: the speakers are those
whom the network was trained on. Everybody gets one of these names, strangers too. Prints the most likely names of each
file (with pieces, the mean of their probabilities). If the folders of the files have names of training speakers, it
also prints how many answers are right, and draws them into LOG_DIR/confusion.png. Takes five seconds.
"""
import os

import numpy as np
import torch

from DB_wav_reader import split_enroll_and_test
from SR_Dataset import ToTensorTestInput, read_MFB
from deep_dive.heads import N_CENTRES
from exercises.similar_voices import in_pieces, print_accuracy, print_precision_and_recall
from exercises.thresholds import SECONDS
from model import load_model
from support.devices import get_device, segments_of
from support.messages import NAMES, TEST_RULES, LabError, check_settings, run_script
from support.pictures import draw_confusion
from support.runs import read_speakers

SCALE = 30  # cosines are multiplied by it, as in AM-, AAM- and sub-center softmax (losses.py), to become logits


def find_test_files(files):
    """List of files: those given, and the test files of the folders among them. Raises LabError if one is missing."""
    found = []
    for name in files:
        if os.path.isdir(name):
            test_DB = split_enroll_and_test(name)[1]
            if test_DB.empty:
                raise LabError('%s holds no <speaker>/test.wav and no <speaker>/test.p.' % name)
            found += list(test_DB['filename'])
        elif not os.path.isfile(name):
            raise LabError('%s: there is no such file.' % name)
        else:
            found.append(name)
    return found


def probabilities_of(use_cuda, feature, model, n_speakers):
    """The probability of each training speaker for a feature (n_frames, n_dims): (n_speakers,) array, its sum is 1.

    A network that was trained with other speeds has further outputs, for voices at these speeds. They do not count.
    """
    x = ToTensorTestInput()(feature)  # (1, 1, n_dims, n_frames)
    x = x.to(get_device(use_cuda), memory_format=torch.channels_last)
    with torch.inference_mode():
        logits = torch.cat([model(segments)[1] for segments in segments_of(x, None)])  # (n_segments, n_classes)
    logits = logits.float().mean(dim=0)[:n_speakers]
    is_cosine = model.settings.get('head') in N_CENTRES
    return (SCALE * logits if is_cosine else logits).softmax(dim=0).cpu().numpy()


def print_names(filename, probabilities, speakers, n_best):
    """Print the n_best most likely speakers of a file. probabilities: (n_speakers,)."""
    print('\n%s' % filename)
    for i in np.argsort(-probabilities)[:n_best]:
        print('%s : %.2f %%' % (speakers[i], 100 * probabilities[i]))


def main(
        # Settings
        files=[],  # recordings, feature files, or folders with <speaker>/test.wav
        log_dir='model_saved',  # where the checkpoints are saved
        cp_num='best',  # which checkpoint
        piece_seconds=None,  # cut the files into pieces of so many seconds; try 1. None: not cut
        n_best=3,  # so many names are printed for each file
        use_cuda=True,  # use a GPU if there is one
        plot=True,  # draw LOG_DIR/confusion.png, if it is known who is right
):
    if not files:
        raise LabError('Name recordings or a folder, as in\npython -m deep_dive.classify x.wav --log_dir=model_new')
    check_settings(main, locals(), files=NAMES, cp_num=TEST_RULES['cp_num'], piece_seconds=SECONDS)
    filenames = find_test_files(files)
    model = load_model(use_cuda, log_dir, cp_num, None, None)
    speakers = read_speakers(model.checkpoint['file'], model.last.out_features)

    print('\n=== Speaker classification: one of %d speakers ===' % len(speakers))
    true_spks, predicted_spks = [], []
    for filename in filenames:
        feature, label = read_MFB(filename, model.settings['level'])  # (n_frames, n_dims)
        pieces = in_pieces(feature, piece_seconds)
        if not pieces:
            raise LabError('%s is shorter than piece_seconds = %g. Choose a smaller one.' % (filename, piece_seconds))
        probabilities = np.array([probabilities_of(use_cuda, piece, model, len(speakers)) for piece in pieces])
        print_names(filename, probabilities.mean(axis=0), speakers, n_best)
        true_spks += [label] * len(pieces)
        predicted_spks += [speakers[i] for i in probabilities.argmax(axis=1)]

    # Who is right? This is known if the folders are named after training speakers
    if set(true_spks) <= set(speakers) and len(true_spks) > 1:
        print()
        print_precision_and_recall(true_spks, predicted_spks)
        print_accuracy(np.array(true_spks) == np.array(predicted_spks), true_spks,
                       'files' if piece_seconds is None else 'pieces')
        if plot:
            draw_confusion(true_spks, predicted_spks, os.path.join(log_dir, 'confusion.png'),
                           'whole files' if piece_seconds is None else 'pieces of %g s' % piece_seconds)


if __name__ == '__main__':
    run_script(main, words=True)
