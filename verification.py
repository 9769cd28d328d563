"""Is it really them? The d-vector of a test utterance against that of the speaker it claims to be from.

    python verification.py

Reads TEST_FEAT_DIR/<speaker>/test.p or test.wav (configure.py), a checkpoint of train.py and the enrolment of
enroll.py. Prints the decision, the score and the threshold; with test_speaker = 'all' the error rates over all trials,
and draws scores.png and det.png into enroll_embeddings. Takes some seconds.
"""
import os

# The lab's own first: from DB_wav_reader on, Ctrl-C ends in one line
import configure as c
from DB_wav_reader import BLACK, ORANGE, LabError, read_feats_and_wavs, run_script, save_picture, sex_of, speaker_of
from DB_wav_reader import split_enroll_and_test, test_file_of
from demo_voices import provide_test_features
from model import available_backends, check_enrolled, create_backend, embed_pieces, get_embeddings
from model import load_enroll_embeddings, load_model, unchanged
from scoring import all_pairs, bootstrap_interval, choose_threshold, cosine_scores, equal_error_rate, error_rates
from scoring import is_number, min_dcf, rates_at, read_trials, trial_scores

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from scipy.special import ndtri  # the probit: inverse of the normal distribution

N_THRESHOLDS = 7  # in the table of thresholds, besides the chosen one
N_BINS = 40  # of the histograms


def perform_verification(use_cuda, model, embeddings, enroll_speaker, test_filename, test_frames, thres, *,
                         project=unchanged):
    """Print whether test_filename is accepted as enroll_speaker: whether their cosine similarity is above thres.

    embeddings: dict speaker -> (1, embedding_size); project: as from create_backend. Returns the score. Raises LabError
    for a speaker who is not enrolled.
    """
    check_enrolled([enroll_speaker], embeddings)
    if not is_number(thres):
        raise LabError("thres = %r: for one test file it must be a number; 'eer' and ('far', 0.01) take "
                       "test_speaker = 'all'." % (thres,))
    enroll_embedding = F.normalize(embeddings[enroll_speaker])  # (1, embedding_size)
    test_embedding = get_embeddings(use_cuda, test_filename, model, test_frames)  # (1, embedding_size)
    score = cosine_scores(project(test_embedding).numpy(), project(enroll_embedding).numpy()).item()
    result = 'Accept' if score > thres else 'Reject'

    test_spk = speaker_of(test_filename)
    print('\n=== Speaker verification ===')
    print('True speaker: %s\nClaimed speaker : %s\n\nResult : %s\n' % (enroll_speaker, test_spk, result))
    n_digits = 2 if round(thres, 2) == thres else 4
    print('Score : %0.4f\nThreshold : %0.*f\n' % (score, n_digits, thres))
    return score


def trials_with_enrolled(use_cuda, model, test_DB, embeddings, test_frames, piece_seconds):
    """Every test piece against every enrolled speaker.

    Returns (vectors (n, embedding_size) tensor, speaker of each (n,), first, second: the rows of vectors that each
    trial compares, is_target (n_trials,)).
    """
    pieces, speakers = embed_pieces(use_cuda, test_DB, model, test_frames, piece_seconds)
    enrolled = sorted(embeddings)
    vectors = torch.cat([pieces] + [F.normalize(embeddings[spk]) for spk in enrolled])
    speakers = np.array(speakers + enrolled)
    first = np.repeat(np.arange(len(pieces)), len(enrolled))
    second = len(pieces) + np.tile(np.arange(len(enrolled)), len(pieces))
    return vectors, speakers, first, second, speakers[first] == speakers[second]


def trials_of_pairs(use_cuda, model, DB, test_frames):
    """Every two utterances of DB once. Returns what trials_with_enrolled does."""
    vectors, speakers = embed_pieces(use_cuda, DB, model, test_frames, None)
    speakers = np.array(speakers)
    first, second = all_pairs(len(vectors))
    return vectors, speakers, first, second, speakers[first] == speakers[second]


def file_of_trial(path, test_dir):
    """The file in test_dir of a path in a trial list: this one, or the features that were made of this wav."""
    filename = os.path.join(test_dir, path)
    feat_file = os.path.splitext(filename)[0] + '.p'
    if not os.path.isfile(filename) and not os.path.isfile(feat_file):
        raise LabError('%s: there is no such file, nor its features. Set test_dir, or take its trials out of the list.'
                       % filename)
    return filename if os.path.isfile(filename) else feat_file


def trials_of_list(use_cuda, model, filename, test_dir, test_frames):
    """The trials of a list, whose paths begin in test_dir (file_of_trial). Returns what trials_with_enrolled does."""
    is_target, left, right = read_trials(filename)
    paths = sorted(set(left) | set(right))
    row = {path: i for i, path in enumerate(paths)}
    files = [file_of_trial(path, test_dir) for path in paths]
    vectors = torch.cat([get_embeddings(use_cuda, filename, model, test_frames) for filename in files])
    speakers = np.array([speaker_of(filename) for filename in files])
    first, second = np.array([row[path] for path in left]), np.array([row[path] for path in right])
    return vectors, speakers, first, second, is_target


def print_error_rates(scores, is_target, speakers, first, second, thres):
    """Print how often trials are wrongly accepted and rejected, at one threshold and at others. Returns the threshold.

    scores (n_trials,); the others as from trials_with_enrolled; thres: as in choose_threshold. Raises LabError where
    there are no targets, or no impostors.
    """
    target, impostor = scores[is_target], scores[~is_target]
    if not len(target) or not len(impostor):
        raise LabError('%d target and %d impostor trials: both kinds are needed. Enrol and test two speakers or more.'
                       % (len(target), len(impostor)))
    threshold, eer = choose_threshold(thres, target, impostor), equal_error_rate(target, impostor)
    names, number = np.unique(speakers, return_inverse=True)
    print('\n=== Speaker verification: all trials ===')
    print('Target trials : %d\nImpostor trials : %d\n' % (len(target), len(impostor)))
    if eer > 0:
        interval = bootstrap_interval(scores, is_target, number[first], number[second])
        print('EER : %.2f %% (95 %% interval %.2f to %.2f, %d speakers drawn anew)'
              % (eer, *interval, len(names)))
    else:
        print('EER : 0.00 %% (no error seen on %d speakers; the true rate may be up to %.0f %%: rule of three)'
              % (len(names), min(100, 300 / len(names))))
    sexes = np.array([sex_of(spk) for spk in speakers])
    same_sex = (sexes[first] == sexes[second]) & (sexes[first] != '')
    if np.any(same_sex & ~is_target) and not np.all(same_sex):
        print('EER, same sex : %.2f %% (%d impostor trials)'
              % (equal_error_rate(scores[same_sex & is_target], scores[same_sex & ~is_target]),
                 np.sum(same_sex & ~is_target)))
    print('minDCF (p = 0.01) : %.3f\n' % min_dcf(target, impostor))

    others = np.linspace(np.median(impostor), np.median(target), N_THRESHOLDS).round(2)
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
    width = (scores.max() - scores.min()) / N_BINS
    bins = threshold + width * np.arange(-N_BINS - 1, N_BINS + 2)  # no bar on both sides of the threshold
    bins = bins[(bins > scores.min() - width) & (bins < scores.max() + width)]
    for part, label in ((impostor, 'different speakers'), (target, 'same speaker')):
        ax.hist(part, bins, density=True, alpha=0.7, label='%s (%d trials)' % (label, len(part)))
    ax.axvline(threshold, linestyle='--', color=BLACK, label='threshold %.3f' % threshold)
    miss, false_alarm = rates_at(threshold, target, impostor)
    ax.set(xlabel='score (cosine similarity)', ylabel='density',
           title='At %.3f, %.1f %% of the same-speaker trials are rejected,\n%.1f %% of the others accepted'
           % (threshold, 100 * miss, 100 * false_alarm))
    ax.legend()
    save_picture(fig, filename)


def draw_det(scores, is_target, threshold, filename):
    """DET curve: one error rate against the other, on axes where normal scores give a line (Martin et al. 1997)."""
    target, impostor = scores[is_target], scores[~is_target]
    _, misses, false_alarms = error_rates(target, impostor)
    eer = equal_error_rate(target, impostor)
    if eer == 0:
        print('No picture of a DET curve: a threshold without errors exists. Try piece_seconds = 1.')
        return
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
           title='EER %.2f %% of %d target and %d impostor trials' % (eer, len(target), len(impostor)))
    ax.legend(loc='upper right')
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
    segments = test_frames  # None: embed the utterance in one pass, here and in enroll.py

    # Set the true speaker, as the slides call whom the claim is about. A demo voice; with the real corpus: '230M4087'
    enroll_speaker = '242M9242'

    # Set the claimed speaker, who speaks in the test file. Try '241F9241'; with the real corpus: '207F2088'
    # 'all': every test file against every enrolled speaker
    test_speaker = '242M9242'

    # Threshold: a score above it is accepted. What do 0.9 and 0.97 change?
    # With 'all' also 'eer' (as many wrongly accepted as rejected) or ('far', 0.05) (5 % wrongly accepted)
    thres = 0.95
    backend = 'cosine'  # of d-vectors as they are; 'centre', 'lda', 'wccn' (model.py): another threshold fits then

    # With 'all': what is tried?
    trials = 'enrolled'  # or 'pairs': every two utterances below test_dir; or the name of a trial list: 1 path path
    piece_seconds = None  # 'enrolled': cut the test files into pieces first; try 1, 2, 3, 5; None: whole
    plot = True  # draw the scores and the DET curve into embedding_dir

    # Load the model from the checkpoint
    model = load_model(use_cuda, log_dir, cp_num, embedding_size, n_classes)
    project = create_backend(backend, model)

    # Get the dataframe for the test DB, and load the enroll embeddings
    provide_test_features()
    if test_speaker != 'all' or trials == 'enrolled':
        enroll_DB, test_DB = split_enroll_and_test(test_dir)
        embeddings = load_enroll_embeddings(embedding_dir, model=model)

    # Perform the test
    if test_speaker != 'all':
        test_path = test_file_of(test_speaker, test_DB)
        perform_verification(use_cuda, model, embeddings, enroll_speaker, test_path, segments, thres, project=project)
        return

    # Or perform them all
    if trials == 'enrolled':
        all_trials = trials_with_enrolled(use_cuda, model, test_DB, embeddings, segments, piece_seconds)
    elif trials == 'pairs':
        all_trials = trials_of_pairs(use_cuda, model, read_feats_and_wavs(test_dir), segments)
    else:
        all_trials = trials_of_list(use_cuda, model, trials, test_dir, segments)
    vectors, speakers, first, second, is_target = all_trials
    scores = trial_scores(project(vectors).numpy(), first, second)
    threshold = print_error_rates(scores, is_target, speakers, first, second, thres)
    for name in available_backends(model):
        others = trial_scores(create_backend(name, model)(vectors).numpy(), first, second)
        print("EER, backend '%s' : %.2f %%" % (name, equal_error_rate(others[is_target], others[~is_target])))
    if plot:
        draw_scores(scores, is_target, threshold, os.path.join(embedding_dir, 'scores.png'))
        draw_det(scores, is_target, threshold, os.path.join(embedding_dir, 'det.png'))


if __name__ == '__main__':
    run_script(main)
