"""A threshold that belongs to the model, and scores that say how likely it is that both are one person.

    python -m deep_dive.calibration                     # of the run of train.py in model_saved
    python -m deep_dive.calibration --log_dir=...       # of another run

Cosines of different models lie at different places: 0.95 is strict for one and lax for another. So this
program measures where the errors of a model lie. It reads run.json and the data of the run, and adds
thresholds and backends to checkpoint_best.pth. deep_dive/train.py does the same at its end. Takes a minute.
"""
import numpy as np
import torch
from scipy.optimize import minimize
from scipy.special import expit

import configure as c
from DB_wav_reader import speaker_of
from deep_dive.backends import all_scorers, estimate_from
from deep_dive.corpora import load_datasets
from exercises.scoring import all_pairs, closest_rates, equal_error_rate
from model import embed_feature, load_model
from support.messages import LabError, check_settings, run_script
from support.recordings import origin_of
from support.runs import read_run, save_checkpoint
from support.safe_files import read_checkpoint

LENGTHS = [1, 2, 4, 8, 15]  # seconds: short recordings need another threshold than long ones
MOST_PIECES = 1500  # recordings that are tried for each of these lengths, at most
ENOUGH_GROUPS = 5  # corpora that a length needs, if whole recordings have so many


def describe_scores(target, impostor, **weights):
    """What the scores of many trials say about a model, as a dict of numbers, and two lists of them.

    target: (n,) scores of trials by one speaker; impostor: (m,) by two; target_weights=, impostor_weights=:
    how much each one counts. 'eer': the threshold where both errors are equal; 'slope' and 'offset': see
    calibrate; 'targets' and 'impostors': how many trials; 'own' and 'others': 101 scores, up to which 0, 1, 2
    ... 100 % of the trials of each kind lie.
    """
    slope, offset = calibrate(target, impostor, **weights)
    numbers = {'eer': closest_rates(target, impostor, **weights)[0], 'slope': slope, 'offset': offset,
               'targets': len(target), 'impostors': len(impostor)}
    percentiles = {}
    for name, scores, given in (('own', target, 'target_weights'), ('others', impostor, 'impostor_weights')):
        percentiles[name] = np.quantile(scores, np.linspace(0, 1, 101), method='inverted_cdf',
                                        weights=weights.get(given)).tolist()
    return {**{name: float(value) for name, value in numbers.items()}, **percentiles}


def calibrate(target, impostor, *, target_weights=None, impostor_weights=None):
    """The line that turns a score into a log-likelihood ratio, slope * score + offset: (slope, offset).

    Logistic regression of target (n,) against impostor scores (m,), in which both kinds count equally. It is
    the line with the lowest Cllr (Brümmer & du Preez 2006, Computer Speech & Language). If a threshold
    without errors exists, the slope would be infinite. So each kind gets two more trials, of which one counts
    as the other kind (Platt 1999).
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


def percent(ratio):
    """A log-likelihood ratio as a probability in words, if both answers are equally likely beforehand."""
    probability = 100 * expit(ratio)
    if probability < 1:
        return 'less than 1 %'
    return 'more than 99 %' if probability > 99 else '%.0f %%' % probability


# ------------------------------------------------------------------------------------- of a model

def describe_model(model, features, speakers, levels, use_cuda, groups=None, *, are_strangers=True, conditions=None):
    """What the scores of every two utterances say about a model.

    Returns dict level -> dict name of a Scorer -> what describe_scores says. features: list of (n_frames,
    n_dims); speakers: their speakers; levels: 'LEVEL_DBFS' of origin_of, because features that are levelled
    and others have other scores. A level with one kind of trial only is left out. groups: the corpus of each
    utterance, if there are several. Each corpus counts equally. Recordings of two are not compared, because
    they differ in more than the voice, and their scores would be too low. For 'cosine', there are also 'EER',
    the equal error rate in percent, and for pieces of LENGTHS 'eer_2s', 'slope_2s', 'offset_2s', 'EER_2s' and
    so on (description_for of support/enrolments.py reads them). A length that fewer than ENOUGH_GROUPS groups
    have is left out: the few would decide. With three groups or more, 'eer_low' and
    'eer_high' say between which values 'eer' moves if one of them is left out.
    are_strangers: the network was not trained on these speakers. If it was, they are in the cohort
    themselves. Their normalised scores would be too low, so they are left out.
    conditions: dict name -> list of groups that were recorded under this condition. Each gets a calibration of
    its own, such as 'slope_one_room' and 'offset_one_room', and 'slope_one_room_2s' and so on.
    """
    groups, described = groups or [''] * len(features), {}
    scorers = [scorer for scorer in all_scorers(model) if are_strangers or scorer.normalise is None]
    for level in sorted(set(map(str, levels))):
        chosen = [i for i in range(len(features)) if str(levels[i]) == level]
        those = [features[i] for i in chosen], [(groups[i], speakers[i]) for i in chosen]
        of_backends, needed = {}, 0
        for seconds in [None, *LENGTHS]:
            vectors, names = piece_vectors(model, *those, seconds, use_cuda)
            first, second = all_pairs(len(names))
            group, number = numbers_of([group for group, _ in names]), numbers_of(names)
            is_trial = group[first] == group[second]
            first, second = first[is_trial], second[is_trial]
            is_target = number[first] == number[second]
            both = set(group[first][is_target]) & set(group[first][~is_target])  # groups with both kinds of trials
            needed = min(ENOUGH_GROUPS, len(both)) if seconds is None else needed
            if is_target.all() or not is_target.any() or len(both) < needed:
                continue
            weights = {'target_weights': equal_weights(group[first][is_target]),
                       'impostor_weights': equal_weights(group[first][~is_target])}
            for scorer in scorers if seconds is None else scorers[:1]:
                scores = scorer.trials(vectors, first, second)
                target, impostor = scores[is_target], scores[~is_target]
                if seconds is None:
                    of_backends[scorer.name] = describe_scores(target, impostor, **weights)
                    if scorer.name == 'cosine':
                        of_backends['cosine'].update(range_without_one(scores, is_target, group[first]),
                                                     EER=float(equal_error_rate(target, impostor, **weights)))
                elif 'cosine' in of_backends:
                    of_backends['cosine'].update(describe_length(target, impostor, seconds, weights))
                if conditions and scorer.name == 'cosine' and 'cosine' in of_backends:
                    trial_groups = np.array([group for group, _ in names])[first]
                    of_backends['cosine'].update(
                        lines_of_conditions(scores, is_target, trial_groups, conditions, seconds))
        if of_backends:
            described[level] = of_backends
    return described


def describe_length(target, impostor, seconds, weights):
    """'eer_2s', 'slope_2s', 'offset_2s' and 'EER_2s' of pieces of 2 s, as a dict."""
    slope, offset = calibrate(target, impostor, **weights)
    numbers = {'eer': closest_rates(target, impostor, **weights)[0], 'slope': slope, 'offset': offset,
               'EER': equal_error_rate(target, impostor, **weights)}
    return {'%s_%ds' % (name, seconds): float(value) for name, value in numbers.items()}


def lines_of_conditions(scores, is_target, groups, conditions, seconds):
    """{'slope_one_room': , 'offset_one_room': }, or 'slope_one_room_2s' and so on: the line of each condition.

    scores, is_target, groups: (n,) each; conditions: dict name -> list of groups. A condition without
    trials of both kinds is left out. In the others, each group counts equally.
    """
    found, end = {}, '' if seconds is None else '_%ds' % seconds
    for name, members in conditions.items():
        target, impostor = (np.isin(groups, members) & kind for kind in (is_target, ~is_target))
        if target.any() and impostor.any():
            slope, offset = calibrate(scores[target], scores[impostor], target_weights=equal_weights(groups[target]),
                                      impostor_weights=equal_weights(groups[impostor]))
            found.update({'slope_%s%s' % (name, end): float(slope), 'offset_%s%s' % (name, end): float(offset)})
    return found


def range_without_one(scores, is_target, groups):
    """{'eer_low': , 'eer_high': }: how far the threshold moves if one group of trials is left out; {} with two.

    scores, is_target, groups: (n,) each. A group that has trials of one kind only is always left in.
    """
    both = set(groups[is_target]) & set(groups[~is_target])
    if len(both) < 3:
        return {}
    found = []
    for group in both:
        target, impostor = ((groups != group) & kind for kind in (is_target, ~is_target))
        found.append(closest_rates(scores[target], scores[impostor], target_weights=equal_weights(groups[target]),
                                   impostor_weights=equal_weights(groups[impostor]))[0])
    return {'eer_low': float(min(found)), 'eer_high': float(max(found))}


def equal_weights(groups):
    """How much each trial counts, if all groups together count equally: groups (n,) of numbers -> (n,)."""
    _, place, counts = np.unique(groups, return_inverse=True, return_counts=True)
    return 1 / counts[place]


def numbers_of(names):
    """A number for each different name of a list: (n,)."""
    number = {name: i for i, name in enumerate(dict.fromkeys(names))}
    return np.array([number[name] for name in names], int)


def piece_vectors(model, features, speakers, seconds, use_cuda):
    """The d-vectors of the first piece of `seconds` of each feature: ((n, embedding_size), n speakers).

    seconds: None takes all of a feature. Features that are shorter are left out. Of more than MOST_PIECES, so
    many are taken, spread over all.
    """
    length = None if seconds is None else round(seconds / c.WIN_STEP)
    chosen = [i for i, feature in enumerate(features) if length is None or len(feature) >= length]
    if length is not None and len(chosen) > MOST_PIECES:
        chosen = [chosen[i] for i in np.linspace(0, len(chosen) - 1, MOST_PIECES).astype(int)]
    vectors = [embed_feature(use_cuda, features[i][:length], model, None) for i in chosen]
    return torch.cat(vectors) if vectors else torch.zeros(0, 1), [speakers[i] for i in chosen]


def measure_best(model, train_dataset, dataset, use_cuda, n_backend):
    """What checkpoint_best.pth says about its network: a dict of BACKEND_TENSORS and 'thresholds'.

    The tensors come from n_backend training utterances, the thresholds from as many of `dataset`.
    """
    model.backend = estimate_from(train_dataset, model, use_cuda, n_backend)
    numbers = range(min(n_backend, len(dataset)))
    levels = [origin_of(dataset.filenames[i])['LEVEL_DBFS'] for i in numbers]
    groups = [dataset.groups[i] for i in numbers] if hasattr(dataset, 'groups') else None  # of MixedDataset
    trained = {speaker_of(filename) for filename in train_dataset.filenames}
    are_strangers = not any(speaker_of(dataset.filenames[i]) in trained for i in numbers)
    features, labels = [dataset.feature(i) for i in numbers], [dataset.labels[i] for i in numbers]
    described = describe_model(model, features, labels, levels, use_cuda, groups, are_strangers=are_strangers)
    return {**model.backend, 'thresholds': described}


def main(
        # Settings
        log_dir='model_saved',  # where the run is
        n_backend=2000,  # utterances from which backends are found, and as many for the thresholds
        use_cuda=True,  # use a GPU if there is one
):
    check_settings(main, locals())
    run = read_run(log_dir)
    if not run['epochs']:
        raise LabError('%s: no epoch of this run is finished yet.' % log_dir)

    # Split the data of the run as it did
    train_dataset, valid_dataset, unheard = load_datasets(run['settings'])
    n_utterances = len(train_dataset) + len(valid_dataset)
    if n_utterances != run['utterances']:
        raise LabError('%s: there are %d utterances now, the run in %s had %d. So nobody knows which of them '
                       'it learned.\nTrain again.'
                       % (run['corpus'], n_utterances, log_dir, run['utterances']))

    # Measure the best epoch, and keep what was found
    model = load_model(use_cuda, log_dir, 'best', None, None)
    torch.manual_seed(run['settings']['seed'])
    measured = measure_best(model, train_dataset, unheard, use_cuda, n_backend)
    filename = model.checkpoint['file']
    save_checkpoint(filename, {**read_checkpoint(filename)[0], **measured})

    for level, of_backends in measured['thresholds'].items():
        numbers = of_backends['cosine']
        print('Level %s: EER %.2f %% of %d target and %d impostor trials, at the threshold %.4f'
              % (level, numbers['EER'], numbers['targets'], numbers['impostors'], numbers['eer']))
    if not measured['thresholds']:
        print('No threshold: some speaker must have two validation utterances.')
    print('Written: %s. Run python enroll.py again, because it is another checkpoint now.' % filename)


if __name__ == '__main__':
    run_script(main)
