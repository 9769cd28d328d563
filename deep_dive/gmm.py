"""Recognise speakers without a network, by Gaussian mixtures. Around the year 2000 nothing was better.

    python -m deep_dive.gmm --piece_seconds=1     # many pieces of each test file
    python -m deep_dive.gmm                       # whole files, as in identification.py

Reads some of the training features, and TEST_FEAT_DIR/<speaker>/{enroll,test}.p or .wav (configure.py).
Prints what exercises/similar_voices.py and exercises/thresholds.py print, but each speaker has a Gaussian
mixture model (GMM) instead of a d-vector. Draws confusion.png (all answers) into picture_dir. Makes demo
voices if there is no data. Takes ten seconds on one core, and two minutes more with unseen_dir.

One large mixture, the universal background model (UBM), describes how everybody speaks. A speaker's model is
the same mixture, but its means are moved towards the speaker's frames. The score of an utterance says how
much likelier it is under the speaker's model than under the UBM. It is the log of this ratio, averaged over
the frames (Reynolds, Quatieri & Dunn 2000, "Speaker verification using adapted Gaussian mixture models").
"""
import os
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.fft import dct
from tqdm import tqdm

import configure as c
from DB_wav_reader import read_feats_structure, split_enroll_and_test
from SR_Dataset import read_MFB
from exercises.scoring import all_pairs
from exercises.similar_voices import answers, in_pieces, print_accuracy, print_precision_and_recall
from exercises.thresholds import ANY_SCORE, SECONDS, print_error_rates, threshold_rule
from support.checks import require_log_filterbank
from support.demo_voices import provide_test_features, provide_train_features
from support.messages import NAME_OR_EMPTY, POSITIVE, LabError, check_settings, is_number, run_script, whole
from support.pictures import draw_confusion

N_CEPSTRA = 20  # coefficients of a frame; try 30. Words need about 13, but voices differ in finer ones, too
VARIANCE_FLOOR = 0.01  # smallest variance of a component, as a share of the variance of all frames
BLOCK = 4096  # frames at once, so that (BLOCK, n_components) numbers stay in the processor's cache
UTTERANCES_AT_ONCE = 20  # in score_pairs


class GMM(NamedTuple):
    """A mixture of Gaussians with diagonal covariances."""
    weights: np.ndarray  # (n_components,), their sum is 1
    means: np.ndarray  # (n_components, n_dims)
    variances: np.ndarray  # (n_components, n_dims)


# ----------------------------------------------------------------------------------------------------- frames

def heights_of(filename):
    """The log filter energies of an utterance, above the floor: (n_frames, FILTER_BANK). 0 is on the floor.

    The mean that the recipe subtracts cancels out. Raises LabError if all frames are silent.
    """
    feature, _ = read_MFB(filename)  # (n_frames, FILTER_BANK)
    height = feature - feature.min(axis=0)
    if not height.any():
        raise LabError('%s: all frames are silent. Record it again, louder.' % filename)
    return height


def mfcc_of(height):
    """The frames of heights (n_frames, FILTER_BANK) that are not silent, as MFCC: (n, N_CEPSTRA).

    Neighbouring filters rise and fall together, and diagonal covariances cannot describe that. The cosine
    transform makes them nearly independent. It turns a log filterbank into MFCC (Davis & Mermelstein 1980).
    Slopes (deltas) are left out, because they did not help with the speakers of the slides' corpus. A frame
    is silent if every filter is on the floor.
    """
    height = height[(height > 0).any(axis=1)]
    return dct(height, type=2, norm='ortho', axis=1)[:, :N_CEPSTRA]


def frames_of(filename):
    """The frames of an utterance that are not silent, as MFCC: (n_frames, N_CEPSTRA)."""
    return mfcc_of(heights_of(filename))


def read_frames(DB):
    """List of the frames (n_frames, N_CEPSTRA) of each utterance in a DataFrame (filename)."""
    return [frames_of(filename) for filename in tqdm(DB['filename'], desc='Reading features', disable=None)]


def read_pieces(DB, piece_seconds):
    """Cut the utterances of a DataFrame (filename, speaker_id) into pieces of piece_seconds. None: not cut.

    Returns (list of the frames (n_frames, N_CEPSTRA) of each piece, list of their speakers). Silent pieces
    are left out. Raises LabError if no piece is left.
    """
    pieces = [(mfcc_of(piece), speaker) for filename, speaker in zip(DB['filename'], DB['speaker_id'])
              for piece in in_pieces(heights_of(filename), piece_seconds) if piece.any()]
    if not pieces:
        raise LabError('piece_seconds = %s is longer than every test file. Choose a smaller one.'
                       % piece_seconds)
    frames, speakers = zip(*pieces)
    return list(frames), list(speakers)


def in_blocks(frames):
    """Cut frames (n_frames, n_dims) into a list of blocks (BLOCK, n_dims). The last one may be shorter."""
    return [frames[start:start + BLOCK] for start in range(0, len(frames), BLOCK)]


# --------------------------------------------------------------------------------------------------- mixtures

def component_log_likelihoods(frames, gmm):
    """log(weight * density) of each component at each frame: (n_frames, n_dims) -> (n_frames, n_components).

    The square in log N(x; m, v) = -1/2 sum(log(2 pi v) + (x - m)^2 / v) is multiplied out, so that two matrix
    products do all frames and components together.
    """
    squares = gmm.means ** 2 / gmm.variances  # (n_components, n_dims)
    constants = np.sum(np.log(2 * np.pi * gmm.variances) + squares, axis=1)  # (n_components,)
    return (np.log(gmm.weights) - 0.5 * constants + frames @ (gmm.means / gmm.variances).T
            - frames ** 2 @ (0.5 / gmm.variances).T)


def log_sum_exp(logs):
    """log(sum(exp(logs))) of each row (n, k): (n,). Does not underflow, and is twice as fast as scipy's."""
    highest = logs.max(axis=1)
    return highest + np.log(np.sum(np.exp(logs - highest[:, None]), axis=1))


def log_likelihood(frames, gmm):
    """log of the mixture's density at each frame: (n_frames, n_dims) -> (n_frames,)."""
    return np.concatenate([log_sum_exp(component_log_likelihoods(block, gmm)) for block in in_blocks(frames)])


def sums_of_components(frames, gmm):
    """Sum up what EM and the adaptation need to know about frames (n_frames, n_dims), for each component.

    Each frame is shared among the components. The likelier component gets the larger share. Returns (counts
    (n_components,), sums (n_components, n_dims), squares (n_components, n_dims), mean log likelihood of a
    frame). They sum up the shares, the frames times the shares, and the squares of the frames times the
    shares.
    """
    counts, sums, squares, total = 0, 0, 0, 0
    for block in in_blocks(frames):
        logs = component_log_likelihoods(block, gmm)
        log_likelihoods = log_sum_exp(logs)
        shares = np.exp(logs - log_likelihoods[:, None])  # (n_frames, n_components); a row's sum is 1
        counts = counts + shares.sum(axis=0)
        sums = sums + shares.T @ block
        squares = squares + shares.T @ block ** 2
        total = total + log_likelihoods.sum()
    return counts, sums, squares, total / len(frames)


def em_step(frames, gmm, variance_floor):
    """Do one step of expectation-maximisation (Dempster, Laird & Rubin 1977) on frames (n_frames, n_dims).

    Each component takes the share, mean and variance of the frames that it got. variance_floor (n_dims,)
    keeps a component from shrinking around one frame. Returns (new GMM, mean log likelihood of a frame under
    the old GMM). This likelihood never falls from step to step.
    """
    counts, sums, squares, mean_log_likelihood = sums_of_components(frames, gmm)
    counts = np.maximum(counts, 1e-10)  # because no frame may be near a component
    means = sums / counts[:, None]
    variances = np.maximum(squares / counts[:, None] - means ** 2, variance_floor)
    return GMM(counts / counts.sum(), means, variances), mean_log_likelihood


def train_ubm(frames, n_components, n_iterations, *, seed=0):
    """Fit a GMM to frames (n_frames, n_dims): begin with random frames as means, take n_iterations EM steps.

    Prints the mean log likelihood of a frame before each step. It never falls. Raises LabError for more
    components than frames.
    """
    if not 1 <= n_components <= len(frames):
        raise LabError('n_components = %s: it must be between 1 and the %d frames there are to train on.'
                       % (n_components, len(frames)))
    first = np.random.default_rng(seed).choice(len(frames), n_components, replace=False)
    variance = frames.var(axis=0)
    ubm = GMM(np.full(n_components, 1 / n_components), frames[first], np.tile(variance, (n_components, 1)))
    for i in range(n_iterations):
        ubm, mean_log_likelihood = em_step(frames, ubm, VARIANCE_FLOOR * variance)
        print('EM step %2d : log likelihood of a frame was %.4f' % (i + 1, mean_log_likelihood))
    return ubm


def adapt(ubm, frames, relevance):
    """Move the means of the UBM towards a speaker's frames (n_frames, n_dims).

    This is section 3.2 of Reynolds et al. 2000. A component that got n frames goes n / (n + relevance) of the
    way to their mean, because the mean of a few frames is uncertain. Returns the speaker's GMM. Raises
    LabError for a relevance that is not positive.
    """
    if not is_number(relevance) or relevance <= 0:
        raise LabError('relevance = %r: it must be a positive number of frames; 16 is usual.' % (relevance,))
    counts, sums, _, _ = sums_of_components(frames, ubm)
    return ubm._replace(means=(sums + relevance * ubm.means) / (counts + relevance)[:, None])


# ----------------------------------------------------------------------------------------------------- scores

def score_utterances(utterances, models, ubm):
    """Mean log likelihood ratio of each utterance and each model: (n_utterances, n_models).

    utterances: list of (n_frames, n_dims). models: list of GMMs.
    """
    frames, lengths = np.concatenate(utterances), np.array([len(utterance) for utterance in utterances])
    starts = np.cumsum(lengths) - lengths
    background = log_likelihood(frames, ubm)
    ratios = [log_likelihood(frames, model) - background for model in models]  # (n_frames,) each
    return np.stack([np.add.reduceat(ratio, starts) / lengths for ratio in ratios], axis=1)


def score_pairs(DB, ubm, relevance):
    """Compare every two utterances of a DataFrame (filename) once. A GMM of the first scores the second.

    Returns (scores, first, second), each (n_trials,). Trial i compares the rows first[i] and second[i] of DB.
    With 64 components and 1000 utterances of three seconds, half a million trials take a minute on one core.
    """
    utterances = read_frames(DB)
    models = [adapt(ubm, frames, relevance) for frames in utterances]
    scores = np.zeros((len(utterances), len(utterances)))  # (second, first)
    for start in tqdm(range(0, len(utterances), UTTERANCES_AT_ONCE), desc='Scoring pairs', disable=None):
        stop = start + UTTERANCES_AT_ONCE
        scores[start:stop, :stop] = score_utterances(utterances[start:stop], models[:stop], ubm)
    first, second = all_pairs(len(utterances))
    return scores[second, first], first, second


def adapt_speakers(DB, ubm, relevance):
    """Dict speaker -> GMM, adapted to all utterances of the speaker in a DataFrame (filename, speaker_id)."""
    return {speaker: adapt(ubm, np.concatenate(read_frames(rows)), relevance)
            for speaker, rows in DB.groupby('speaker_id')}


def identify(enroll_DB, test_DB, ubm, relevance, piece_seconds=None):
    """Find who of enroll_DB speaks in each piece of test_DB. Print precision, recall and accuracy.

    Both are DataFrames (filename, speaker_id). Returns (scores (n_pieces, n_speakers), list of the speakers
    who are enrolled, list of the speakers of the pieces, their predicted speakers (n_pieces,)).
    """
    models = adapt_speakers(enroll_DB, ubm, relevance)
    pieces, true_spks = read_pieces(test_DB, piece_seconds)
    scores = score_utterances(pieces, list(models.values()), ubm)
    predicted_spks = answers(scores, list(models), None)
    print_precision_and_recall(true_spks, predicted_spks)
    print_accuracy(np.array(true_spks) == predicted_spks, true_spks,
                   'utterances' if piece_seconds is None else 'pieces')
    return scores, list(models), true_spks, predicted_spks


def split_first(DB, n_enroll, n_each):
    """Split the first n_each utterances of each speaker into the first n_enroll and the rest.

    Returns (enroll_DB, test_DB). Raises LabError if a speaker has no utterance left to test with.
    """
    place = DB.groupby('speaker_id').cumcount()  # number of an utterance among those of its speaker
    sizes = DB['speaker_id'].value_counts()
    if not 1 <= n_enroll < min(n_each, sizes.min()):
        raise LabError('n_enroll = %s, n_each = %s: of the %d utterances of %s none would be left to enrol '
                       'or to test.' % (n_enroll, n_each, sizes.min(), sizes.idxmin()))
    return DB[place < n_enroll], DB[(place >= n_enroll) & (place < n_each)]


def main(
        # The background model
        train_dir=c.TRAIN_FEAT_DIR,  # what the UBM is trained on
        n_utterances=1000,  # utterances drawn from it, 40 minutes of speech; more change little
        n_components=64,  # Gaussians; try 16, 128, 256. Utterances of a few seconds do not fill so many
        n_iterations=20,  # steps of EM
        seed=0,  # of the draws of the utterances, and of the frames to start from

        # The speakers
        test_dir=c.TEST_FEAT_DIR,  # where the enrolment and test files are
        relevance=16,  # the UBM counts as much as so many frames of the speaker; try 4 and 64
        piece_seconds=None,  # cut the test files into pieces of so many seconds; try 1. None: not cut
        thres='eer',  # threshold, as in exercises/thresholds.py; scores are about 0
        unseen_dir='',  # people whom the UBM never heard, as from experiments/hold_out.py; '': nobody
        n_each=25,  # so many utterances of each of them are used, the first ones. Every two are compared
        n_enroll=5,  # for identification, so many of these enrol the speaker

        # The picture
        picture_dir='model_gmm',  # where it goes
        plot=True,  # draw it
):
    check_settings(main, locals(), seed=whole(0), relevance=POSITIVE, unseen_dir=NAME_OR_EMPTY,
                   piece_seconds=SECONDS, thres=threshold_rule(ANY_SCORE, ['eer']))

    # Draw the utterances for the background model, and train it
    require_log_filterbank('deep_dive/gmm.py')
    provide_train_features(train_dir)
    train_DB = read_feats_structure(train_dir)
    drawn = np.random.default_rng(seed).permutation(len(train_DB))[:n_utterances]
    frames = np.concatenate(read_frames(train_DB.iloc[drawn]))
    print('Background model: %d Gaussians, %d utterances, %d frames'
          % (n_components, len(drawn), len(frames)))
    ubm = train_ubm(frames, n_components, n_iterations, seed=seed)

    # Identify each test file, or each piece of it
    provide_test_features(test_dir)
    enroll_DB, test_DB = split_enroll_and_test(test_dir)
    pieces = 'whole files' if piece_seconds is None else 'pieces of %g s' % piece_seconds
    print('\n=== Speaker identification: %s ===' % pieces)
    scores, spk_list, true_spks, predicted_spks = identify(enroll_DB, test_DB, ubm, relevance, piece_seconds)
    if plot:
        draw_confusion(true_spks, predicted_spks, os.path.join(picture_dir, 'confusion.png'), pieces)

    # Verify each of them against each enrolled speaker
    speakers = np.array(true_spks + spk_list)
    first, second = np.indices(scores.shape).reshape(2, -1)  # (n_trials,) each
    second = second + len(true_spks)
    print_error_rates(scores.ravel(), speakers[first] == speakers[second], speakers, first, second, thres)

    # Do the same for people whom the UBM never heard, with a few utterances each, and with one
    if unseen_dir:
        enroll_DB, test_DB = split_first(read_feats_structure(unseen_dir), n_enroll, n_each)
        print('=== Speaker identification: %d speakers, %d utterances of each enrolled ==='
              % (enroll_DB['speaker_id'].nunique(), n_enroll))
        identify(enroll_DB, test_DB, ubm, relevance)
        DB = pd.concat([enroll_DB, test_DB]).sort_values('filename')
        scores, first, second = score_pairs(DB, ubm, relevance)
        speakers = DB['speaker_id'].to_numpy(str)
        print_error_rates(scores, speakers[first] == speakers[second], speakers, first, second, thres)


if __name__ == '__main__':
    run_script(main)
