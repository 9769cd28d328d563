"""Is it really them? The d-vector of a test utterance against that of the speaker it claims to be from.

    python verification.py

Reads TEST_FEAT_DIR/<speaker>/test.p (configure.py), a checkpoint of train.py and the enrolment of enroll.py. Writes
nothing; prints the decision, the score and the threshold. Takes some seconds.
"""
import os

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from scipy.special import ndtri  # the probit: inverse of the normal distribution

import configure as c
from DB_wav_reader import BLACK, ORANGE, LabError, run_script, save_picture, speaker_of, split_enroll_and_test
from DB_wav_reader import test_file_of
from demo_voices import provide_test_features
from model import check_enrolled, embed_pieces, get_embeddings, load_enroll_embeddings, load_model, mean_to_subtract
from scoring import all_pairs, bootstrap_interval, choose_threshold, cosine_scores, equal_error_rate, error_rates
from scoring import min_dcf, rates_at


def perform_verification(use_cuda, model, embeddings, enroll_speaker, test_filename, test_frames, thres, *, mean=0):
    """Print whether test_filename is accepted as enroll_speaker: whether their cosine similarity is above thres.

    embeddings: dict speaker -> (1, embedding_size); mean: subtracted from both d-vectors. Returns the score. Raises
    LabError for a speaker who is not enrolled.
    """
    check_enrolled([enroll_speaker], embeddings)
    enroll_embedding = F.normalize(embeddings[enroll_speaker])  # (1, embedding_size)
    test_embedding = get_embeddings(use_cuda, test_filename, model, test_frames)  # (1, embedding_size)
    score = F.cosine_similarity(test_embedding - mean, enroll_embedding - mean).item()
    result = 'Accept' if score > thres else 'Reject'

    test_spk = speaker_of(test_filename)
    print('\n=== Speaker verification ===')
    print('True speaker: %s\nClaimed speaker : %s\n\nResult : %s\n' % (enroll_speaker, test_spk, result))
    print('Score : %0.4f\nThreshold : %0.2f\n' % (score, thres))
    return score


def trials_with_enrolled(pieces, speakers, embeddings, mean):
    """Every piece against every enrolled speaker: (scores, speaker of the piece, enrolled speaker), each (n_trials,).

    pieces: (n, embedding_size) d-vectors of `speakers`; mean: subtracted from all, 0 for raw scores.
    """
    enrolled = sorted(embeddings)
    gallery = F.normalize(torch.cat([embeddings[spk] for spk in enrolled]))  # (n_enrolled, embedding_size)
    scores = cosine_scores((pieces - mean).numpy(), (gallery - mean).numpy())  # (n, n_enrolled)
    return scores.ravel(), np.repeat(speakers, len(enrolled)), np.tile(enrolled, len(speakers))


def trials_of_pairs(pieces, speakers, mean):
    """Every two pieces once, as trials_with_enrolled."""
    centred = (pieces - mean).numpy()
    first, second = all_pairs(len(pieces))
    speakers = np.array(speakers)
    return cosine_scores(centred, centred)[first, second], speakers[first], speakers[second]


def print_error_rates(scores, rows, columns, thres):
    """Print how often trials are wrongly accepted and rejected, at one threshold and at others. Returns the threshold.

    scores: (n_trials,); rows, columns: (n_trials,) speakers of the two sides; thres: as in choose_threshold.
    """
    is_target = rows == columns
    target, impostor = scores[is_target], scores[~is_target]
    if not len(target) or not len(impostor):
        raise LabError('%d target and %d impostor trials: both kinds are needed' % (len(target), len(impostor)))
    threshold = choose_threshold(thres, target, impostor)
    low, high = bootstrap_interval(scores, rows, columns)
    print('\n=== Speaker verification: all trials ===')
    print('Target trials : %d\nImpostor trials : %d\n' % (len(target), len(impostor)))
    print('EER : %.2f %% (95 %% interval %.2f to %.2f, %d speakers drawn anew)'
          % (equal_error_rate(target, impostor), low, high, len(set(rows) | set(columns))))
    print('minDCF (p = 0.01) : %.3f\n' % min_dcf(target, impostor))

    others = np.linspace(np.median(impostor), np.median(target), 7).round(2)
    table = pd.DataFrame([(t, *rates_at(t, target, impostor)) for t in sorted({*others, threshold})],
                         columns=['Threshold', 'False rejects', 'False accepts'])
    table[['False rejects', 'False accepts']] *= 100
    print(table.to_string(index=False, formatters=['{:.4f}'.format, '{:.2f} %'.format, '{:.2f} %'.format]))
    miss, false_alarm = rates_at(threshold, target, impostor)
    print('\nThreshold : %.4f\nFalse accepts : %.2f %%\nFalse rejects : %.2f %%\n'
          % (threshold, 100 * false_alarm, 100 * miss))
    return threshold


def draw_scores(scores, is_target, threshold, filename):
    """Histograms of the scores of both kinds of trial, and the threshold."""
    target, impostor = scores[is_target], scores[~is_target]
    fig, ax = plt.subplots()
    bins = np.linspace(scores.min(), scores.max(), 41)
    for part, label in ((impostor, 'different speakers'), (target, 'same speaker')):
        ax.hist(part, bins, density=True, alpha=0.7, label='%s (%d trials)' % (label, len(part)))
    ax.axvline(threshold, linestyle='--', color=BLACK, label='threshold %.3f' % threshold)
    miss, false_alarm = rates_at(threshold, target, impostor)
    ax.set(xlabel='score (cosine similarity)', ylabel='density',
           title='At %.3f, %.1f %% of the true speakers are rejected,\n%.1f %% of the others accepted'
           % (threshold, 100 * miss, 100 * false_alarm))
    ax.legend()
    save_picture(fig, filename)


def draw_det(scores, is_target, threshold, filename):
    """DET curve: one error rate against the other, on axes where normal scores give a line (Martin et al. 1997)."""
    target, impostor = scores[is_target], scores[~is_target]
    _, misses, false_alarms = error_rates(target, impostor)
    ticks = np.array([0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4])
    limits = ndtri([0.0005, 0.5])
    fig, ax = plt.subplots(figsize=(7, 7))
    curve = ndtri(np.clip([false_alarms, misses], 1e-5, 1 - 1e-5))  # the probit of 0 and 1 is infinite
    ax.plot(*curve, drawstyle='steps-post')
    ax.plot(limits, limits, linestyle=':', color=BLACK, label='equal error rates')
    miss, false_alarm = rates_at(threshold, target, impostor)
    place = np.clip(ndtri(np.clip([false_alarm, miss], 1e-5, 1 - 1e-5)), *limits)
    ax.plot(*place, 'o', color=ORANGE, markersize=10, clip_on=False, label='threshold %.3f' % threshold)
    labels = ['%g' % (100 * tick) for tick in ticks]
    ax.set(xticks=ndtri(ticks), xticklabels=labels, yticks=ndtri(ticks), yticklabels=labels, xlim=limits, ylim=limits,
           xlabel='false accepts (%)', ylabel='false rejects (%)',
           title='EER %.2f %% of %d target and %d impostor trials'
           % (equal_error_rate(target, impostor), len(target), len(impostor)))
    ax.legend()
    save_picture(fig, filename)


def main():
    log_dir = 'model_saved'  # where the checkpoints are saved
    embedding_dir = 'enroll_embeddings'  # where the embeddings are saved
    test_dir = c.TEST_FEAT_DIR  # where the test features are saved

    # Settings
    use_cuda = True  # use a GPU if there is one; False: the CPU in any case
    embedding_size = 128  # dimension of a d-vector; None: what the checkpoint says
    cp_num = 24  # which checkpoint to use? The one that enroll.py used
    n_classes = None  # how many speakers in the training data? None: what the checkpoint says
    test_frames = 100  # frames (10 ms) of the segments that the test utterance is cut into

    # Set the true speaker, as the slides call whom the claim is about. A demo voice; with the real corpus: '230M4087'
    enroll_speaker = '242M9242'

    # Set the claimed speaker, who speaks in the test file. Try '241F9241'; with the real corpus: '207F2088'
    # 'all': every test file against every enrolled speaker
    test_speaker = '242M9242'

    # Threshold: a score above it is accepted. What do 0.9 and 0.97 change?
    # With 'all' also 'eer' (as many wrongly accepted as rejected) or ('far', 0.01) (1 % wrongly accepted)
    thres = 0.95

    # With 'all': what is tried?
    piece_seconds = None  # test files are cut into pieces as long as this first; try 1, 2, 3, 5; None: whole
    trials = 'enrolled'  # or 'pairs': every two utterances below test_dir; or the file name of a trial list
    centre = False  # subtract the mean d-vector of the training set; needs cp_num = 'best' or 'etri240'
    plot = True  # write the histogram of the scores and the DET curve into embedding_dir

    # Load the model from the checkpoint
    model = load_model(use_cuda, log_dir, cp_num, embedding_size, n_classes)
    mean = mean_to_subtract(centre, model)

    # Get the dataframe for the test DB
    provide_test_features()
    enroll_DB, test_DB = split_enroll_and_test(test_dir)

    # Load the enroll embeddings
    embeddings = load_enroll_embeddings(embedding_dir, model=model)

    # Perform the test
    if test_speaker != 'all':
        test_path = test_file_of(test_speaker, test_DB)
        perform_verification(use_cuda, model, embeddings, enroll_speaker, test_path, test_frames, thres, mean=mean)
        return

    # Or perform them all
    pieces, speakers = embed_pieces(use_cuda, test_DB, model, test_frames, piece_seconds)
    scores, rows, columns = trials_with_enrolled(pieces, speakers, embeddings, mean)
    threshold = print_error_rates(scores, rows, columns, thres)
    if plot:
        draw_scores(scores, rows == columns, threshold, os.path.join(embedding_dir, 'scores.png'))
        draw_det(scores, rows == columns, threshold, os.path.join(embedding_dir, 'det.png'))


if __name__ == '__main__':
    run_script(main)
