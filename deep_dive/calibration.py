"""A threshold that belongs to the model, and scores that mean something: how likely it is that both are one person.

Cosines of different models lie at different places: 0.95 is strict for one and lax for another. So train.py measures
where the errors of its own model lie, and writes it into the checkpoint.
"""
import numpy as np
import torch
from scipy.optimize import minimize
from scipy.special import expit

import configure as c
from DB_wav_reader import read_feats_structure, speaker_of
from SR_Dataset import DvectorDataset, ToTensorDevInput, read_MFB
from deep_dive.backends import all_scorers, estimate_from
from deep_dive.scoring import all_pairs, closest_rates, equal_error_rate, error_rates
from model import embed_feature
from support.messages import LabError
from support.recordings import origin_of, seconds_of

SHORT = [1, 2, 3, 5]  # seconds: with recordings as short as these, how many answers are wrong?
MOST_PIECES = 500  # recordings that are tried for each of these lengths, at most
FALSE_ACCEPTS = [0.05, 0.01, 0.001]  # a threshold is found for each of these shares
ERRORS_NEEDED = 30  # if so many trials are wrong, the true rate is within 30 % of it (rule of 30, Doddington 1998)


def describe_scores(target, impostor, **weights):
    """What the scores of many trials say about a model, as a dict of numbers, and two lists of them.

    target: (n,) scores of trials by one speaker; impostor: (m,) by two; target_weights=, impostor_weights=: how much
    each one counts. 'eer': the threshold where both errors are equal; 'far_0.05' and so on: the lowest threshold with
    so few false accepts, where there are trials enough; 'slope' and 'offset': see calibrate; 'targets' and 'impostors':
    how many trials; 'own' and 'others': 101 scores, up to which 0, 1, 2 ... 100 % of the trials of each kind lie.
    """
    thresholds, _, false_alarms = error_rates(target, impostor, **weights)
    found = {'eer': closest_rates(target, impostor, **weights)[0]}
    for share in FALSE_ACCEPTS:
        if share * len(impostor) >= ERRORS_NEEDED:
            found['far_%g' % share] = thresholds[np.argmax(false_alarms <= share)]
    slope, offset = calibrate(target, impostor, **weights)
    numbers = {**found, 'slope': slope, 'offset': offset, 'targets': len(target), 'impostors': len(impostor)}
    shares = np.linspace(0, 1, 101)
    percent = {name: np.quantile(scores, shares, method='inverted_cdf', weights=weights.get(given)).tolist()
               for name, scores, given in (('own', target, 'target_weights'), ('others', impostor, 'impostor_weights'))}
    return {**{name: float(value) for name, value in numbers.items()}, **percent}


def calibrate(target, impostor, *, target_weights=None, impostor_weights=None):
    """The line that turns a score into a log-likelihood ratio, slope * score + offset: (slope, offset).

    Logistic regression of target (n,) against impostor scores (m,), in which both kinds count equally. It is the line
    with the lowest Cllr (Brümmer & du Preez 2006, Computer Speech & Language). If a threshold without errors exists,
    the slope would be infinite. So each kind gets two more trials, of which one counts as the other kind (Platt 1999).
    """
    scores = np.concatenate([target, impostor])
    middle, scale = scores.mean(), max(scores.std(), 1e-9)
    units = (scores - middle) / scale
    is_target = np.concatenate([np.full(len(target), (len(target) + 1) / (len(target) + 2)),
                                np.full(len(impostor), 1 / (len(impostor) + 2))])
    weights = [np.ones(len(scores)) if given is None else given
               for scores, given in ((target, target_weights), (impostor, impostor_weights))]
    weights = np.concatenate([half / half.sum() / 2 for half in weights])

    def loss(line):
        ratios = line[0] * units + line[1]
        costs = is_target * np.logaddexp(0, -ratios) + (1 - is_target) * np.logaddexp(0, ratios)
        away = weights * (expit(ratios) - is_target)
        return weights @ costs, np.array([away @ units, away.sum()])

    slope, offset = minimize(loss, [1.0, 0.0], jac=True, method='BFGS').x
    return slope / scale, offset - slope * middle / scale


def log_likelihood_ratio(score, description):
    """How much likelier a score is for one speaker than for two: natural logarithm. description: describe_scores."""
    return description['slope'] * score + description['offset']


# ------------------------------------------------------------------------------------------------- of a model

def held_out(DB, val_speakers, seed):
    """The rows of DB that belong to `val_speakers` speakers, drawn at random: (n,) of bool. They are not trained on."""
    if val_speakers == 0:
        return np.zeros(len(DB), bool)
    speakers = np.array(sorted(set(DB['speaker_id'])))
    if val_speakers > len(speakers) - 2:
        raise LabError('val_speakers = %d of %d speakers: at least two must be left to train on.'
                       % (val_speakers, len(speakers)))
    chosen = np.random.default_rng(seed).permutation(len(speakers))[:val_speakers]
    return DB['speaker_id'].isin(speakers[chosen]).to_numpy()


def held_out_dataset(train_dir, val_speakers, seed):
    """The utterances of the speakers that held_out chooses, in a random order, as a DvectorDataset."""
    DB = read_feats_structure(train_dir)
    DB = DB[held_out(DB, val_speakers, seed)].sample(frac=1, random_state=seed).reset_index(drop=True)
    numbers = {speaker: number for number, speaker in enumerate(sorted(set(DB['speaker_id'])))}
    return DvectorDataset(DB, read_MFB, [ToTensorDevInput()], numbers)


def describe_model(model, features, speakers, levels, use_cuda, groups=None, *, are_strangers=True):
    """What the scores of every two utterances say about a model: dict level -> name of a Scorer -> describe_scores.

    features: list of (n_frames, n_dims); speakers: their speakers; levels: 'LEVEL_DBFS' of origin_of, because features
    that are levelled and others have other scores. A level with one kind of trial only is left out. groups: the corpus
    of each utterance, if there are several. Each corpus counts equally. Recordings of two are not compared, because
    they differ in more than the voice, and their scores would be too low. For 'cosine', there are also 'EER' and
    'EER_1s', 'EER_2s' ...: the equal error rate in percent, of whole utterances and of pieces. are_strangers: the
    network was not trained on these speakers. If it was, they are in the cohort themselves. Their normalised scores
    would be too low, so they are left out.
    """
    groups = groups or [''] * len(features)
    described, scorers = {}, [scorer for scorer in all_scorers(model) if are_strangers or scorer.normalise is None]
    for level in sorted(set(map(str, levels))):
        chosen = [i for i in range(len(features)) if str(levels[i]) == level]
        those = [features[i] for i in chosen], [(groups[i], speakers[i]) for i in chosen]
        of_backends = {}
        for seconds in [None, *SHORT]:
            vectors, names = piece_vectors(model, *those, seconds, use_cuda)
            first, second = all_pairs(len(names))
            group, number = numbers_of([group for group, _ in names]), numbers_of(names)
            is_trial = group[first] == group[second]
            first, second = first[is_trial], second[is_trial]
            is_target = number[first] == number[second]
            if is_target.all() or not is_target.any():
                continue
            weights = {'target_weights': equal_weights(group[first][is_target]),
                       'impostor_weights': equal_weights(group[first][~is_target])}
            for scorer in scorers if seconds is None else scorers[:1]:
                scores = scorer.trials(vectors, first, second)
                if seconds is None:
                    of_backends[scorer.name] = describe_scores(scores[is_target], scores[~is_target], **weights)
                if scorer.name == 'cosine' and 'cosine' in of_backends:
                    name = 'EER' if seconds is None else 'EER_%ds' % seconds
                    of_backends['cosine'][name] = float(equal_error_rate(scores[is_target], scores[~is_target],
                                                                         **weights))
        if of_backends:
            described[level] = of_backends
    return described


def equal_weights(groups):
    """How much each trial counts, if all groups together count equally: groups (n,) of numbers -> (n,)."""
    _, place, counts = np.unique(groups, return_inverse=True, return_counts=True)
    return 1 / counts[place]


def numbers_of(names):
    """A number for each different name of a list: (n,)."""
    number = {name: i for i, name in enumerate(dict.fromkeys(names))}
    return np.array([number[name] for name in names], int)


def piece_vectors(model, features, speakers, seconds, use_cuda):
    """The d-vectors of the first piece of `seconds` of each feature (None: all of it): (n, embedding_size), (n,).

    Features that are shorter are left out. Of more than MOST_PIECES, so many are taken, spread over all. The second is
    the list of the speakers.
    """
    length = None if seconds is None else round(seconds / c.WIN_STEP)
    chosen = [i for i, feature in enumerate(features) if length is None or len(feature) >= length]
    if length is not None and len(chosen) > MOST_PIECES:
        chosen = [chosen[i] for i in np.linspace(0, len(chosen) - 1, MOST_PIECES).astype(int)]
    vectors = [embed_feature(use_cuda, features[i][:length], model, None) for i in chosen]
    return torch.cat(vectors) if vectors else torch.zeros(0, 1), [speakers[i] for i in chosen]


def measure_best(model, train_dataset, dataset, use_cuda, n_backend):
    """What checkpoint_best.pth says about its network: a dict with those of BACKEND_TENSORS, and 'thresholds'.

    The tensors come from n_backend training utterances, the thresholds from as many of `dataset`.
    """
    model.backend = estimate_from(train_dataset, model, use_cuda, n_backend)
    numbers = range(min(n_backend, len(dataset)))
    levels = [origin_of(dataset.filenames[i])['LEVEL_DBFS'] for i in numbers]
    groups = [dataset.groups[i] for i in numbers] if hasattr(dataset, 'groups') else None  # of deep_dive/mixing.py
    trained = {speaker_of(filename) for filename in train_dataset.filenames}
    thresholds = describe_model(model, [dataset.feature(i) for i in numbers], [dataset.labels[i] for i in numbers],
                                levels, use_cuda, groups, are_strangers=not any(
                                    speaker_of(dataset.filenames[i]) in trained for i in numbers))
    return {**model.backend, 'thresholds': thresholds}


# ------------------------------------------------------------------------------------------------- at the test

def own_description(model, backend, filename):
    """What describe_scores found for files of this level; {} if the checkpoint does not say.

    backend: here and below, the name of a Scorer: 'plda', or with a normalisation 'plda s-norm'.
    """
    return description_at(model, backend, origin_of(filename, model.settings['level'])['LEVEL_DBFS'])


def description_at(model, backend, level):
    """What describe_scores found for a backend and a level. Of an unknown level, the first that is known counts."""
    of_levels = {name: of_backends[backend] for name, of_backends in model.thresholds.items() if backend in of_backends}
    return of_levels.get('%s' % level, next(iter(of_levels.values()), {}))


def choose_thres(thres, model, backend, filename):
    """The threshold that a setting of the test scripts asks for. 'model' asks for that of the checkpoint.

    Raises LabError if the checkpoint has none.
    """
    if thres != 'model':
        return thres
    description = own_description(model, backend, filename)
    if not description:
        advice = "cp_num = 'best' here and in enroll.py"
        if ' ' in backend:  # of normalised scores
            advice = "thres = 'eer' with test_speaker = 'all', or train with val_speakers = 20"
        elif model.checkpoint['file'].endswith('_best.pth'):
            advice = 'train on more recordings: some speaker must have two validation utterances'
        raise LabError("thres = 'model': %s has no threshold of its own.\nSet a number, such as 0.9, or %s."
                       % (model.checkpoint['file'], advice))
    return description['eer']


def percent(ratio):
    """A log-likelihood ratio as a probability in words, if both answers are equally likely beforehand."""
    probability = 100 * expit(ratio)
    return 'less than 1 %' if probability < 1 else 'more than 99 %' if probability > 99 else '%.0f %%' % probability


def print_what_it_means(score, thres, model, backend, filenames):
    """Print the verdict by the model's own threshold, if thres is another one, and the calibrated answer.

    filenames: the two recordings; the first may be None. If one is short, it also prints how sure the answer is.
    """
    description = own_description(model, backend, filenames[-1])
    if not description:
        return
    own = description['eer']
    if abs(own - thres) > 5e-5:
        print("The model's own threshold is %0.4f : %s" % (own, 'Accept' if score > own else 'Reject'))
    ratio = log_likelihood_ratio(score, description)
    print('Same speaker: %s (log-likelihood ratio %.1f, if both are equally likely beforehand)'
          % (percent(ratio), ratio))
    seconds = min(seconds_of(filename) for filename in filenames if filename is not None)
    measured = [length for length in SHORT if 'EER_%ds' % length in description]
    if not measured or seconds >= max(measured):
        return
    length = max([length for length in measured if length <= seconds], default=measured[0])
    if description['EER_%ds' % length] > description['EER'] + 0.5:
        print('It is short: of answers on %d s of speech, %.0f %% are wrong, on whole recordings %.0f %%.'
              % (length, description['EER_%ds' % length], description['EER']))
