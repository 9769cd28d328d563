"""Compare d-vectors otherwise than by their cosine: `backend` and `normalise` name how.

'centre', 'lda' and 'wccn' change d-vectors before their cosine is taken. 'plda' (deep_dive/plda.py) takes no
cosine. Scores of each backend can be normalised (deep_dive/normalisation.py).
"""
import numpy as np
import torch
import torch.nn.functional as F
from scipy.linalg import eigh
from torch.utils.data import BatchSampler

from SR_Dataset import ToTensorInput, TruncatedInputfromMFB
from deep_dive import plda
from deep_dive.normalisation import COHORT_SIZE, NORMALISATIONS, cohort_statistics, normalise_scores
from exercises.scoring import check_sizes, lengths_of, only_numbers, trial_products
from support.checks import COSINES
from support.devices import get_device
from support.messages import LabError

BACKENDS = [*COSINES, 'plda']
LDA_SIZE = 100  # dimensions that LDA keeps, but at most one fewer than there are speakers
WCCN_SMOOTHING = 0.1  # share of the mean variance that is added to the within-speaker covariance
PLDA_SMOOTHING = 0.01  # the same for PLDA, which does with less
WINDOWS_AT_ONCE = 64  # in window_d_vectors


def estimate_backend(d_vectors, labels):
    """Estimate what the backends need to know about the training set.

    Returns a dict of float32 tensors, BACKEND_TENSORS. d_vectors: (n, embedding_size) tensor of unit length.
    labels: (n,) speakers. W is the covariance within speakers, B that of the speakers' means. LDA is the axes
    a with the largest a'Ba / a'Wa (Dehak et al. 2011), scaled so that a'Wa = 1. WCCN is the Cholesky factor
    of W^-1 (Hatch et al. 2006). W is smoothed as in that paper, so that few recordings are enough. If LDA
    kept all axes, both would give the same cosines. PLDA: see estimate_plda. Of COHORT_SIZE speakers, the
    cohort keeps the mean d-vectors, scaled to length 1: (n_cohort, embedding_size).
    """
    vectors, labels = d_vectors.double().numpy(), np.asarray(labels)
    mean = vectors.mean(axis=0, keepdims=True)
    speakers, number, counts = np.unique(labels, return_inverse=True, return_counts=True)
    means = np.zeros((len(speakers), vectors.shape[1]))
    np.add.at(means, number, vectors)
    means /= counts[:, None]
    within = (vectors - means[number]).T @ (vectors - means[number]) / max(1, len(vectors) - len(speakers))
    within += WCCN_SMOOTHING * max(np.trace(within) / len(within), 1e-9) * np.eye(len(within))
    between = np.cov(means.T, aweights=counts, ddof=0)
    n_axes = min(LDA_SIZE, len(speakers) - 1)
    lda = eigh(between, within)[1][:, ::-1][:, :n_axes]  # eigh sorts the largest last
    wccn = np.linalg.cholesky(np.linalg.inv(within))
    plda_mean, plda_between, plda_within, _ = plda.estimate_plda(vectors, labels, smoothing=PLDA_SMOOTHING)
    chosen = np.linspace(0, len(speakers) - 1, min(COHORT_SIZE, len(speakers))).astype(int)
    cohort = means[chosen] / np.linalg.norm(means[chosen], axis=1, keepdims=True)
    found = {'mean': mean, 'lda': lda, 'wccn': wccn, 'plda_mean': plda_mean, 'plda_between': plda_between,
             'plda_within': plda_within, 'cohort': cohort}
    if len(speakers) < 2:  # nothing to compare with
        del found['lda'], found['cohort']
    if len(speakers) < 2 or max(counts) < 2:  # PLDA needs to see how recordings of one speaker differ
        del found['plda_mean'], found['plda_between'], found['plda_within']
    return {name: torch.from_numpy(np.ascontiguousarray(value, np.float32)) for name, value in found.items()}


def available_backends(model):
    """List of the backends for which the checkpoint of a model knows enough."""
    needed = {'cosine': [], 'centre': ['mean'], 'lda': ['mean', 'lda'], 'wccn': ['mean', 'wccn'],
              'plda': ['plda_mean', 'plda_between', 'plda_within']}
    return [backend for backend in BACKENDS if all(name in model.backend for name in needed[backend])]


def available_normalisations(model):
    """List of the normalisations for which the checkpoint of a model knows enough."""
    return NORMALISATIONS if 'cohort' in model.backend else [None]


class Scorer:
    """How two d-vectors are compared. Call it for a matrix of scores, or `trials` for single pairs.

    backend: one of BACKENDS. 'cosine' changes nothing. 'centre' subtracts the mean of the training set. 'lda'
    and 'wccn' also multiply by a matrix, see estimate_backend. The score is then the cosine. That of 'plda'
    is a log-likelihood ratio. An enrolled speaker counts as one recording, whose d-vector is the sum of those
    of all enrolment files, for every backend. PLDA could score several recordings jointly, but then it takes
    them for independent, which those of one day are not. normalise: one of NORMALISATIONS. Raises LabError if
    the checkpoint of the model does not hold what is needed.
    """

    def __init__(self, backend, model, normalise=None):
        again = ("Set cp_num = 'best' here and in enroll.py. If that knows no more, run python -m "
                 'deep_dive.calibration first.')
        if backend not in available_backends(model):
            raise LabError("backend = '%s': %s knows enough for %s only.\n%s" % (
                backend, model.checkpoint['file'], ', '.join(available_backends(model)), again))
        if normalise not in available_normalisations(model):
            raise LabError("normalise = '%s': %s holds no cohort.\n%s"
                           % (normalise, model.checkpoint['file'], again))
        self.backend, self.normalise = backend, normalise
        self.name = backend if normalise is None else '%s %s' % (backend, normalise)  # that of its thresholds
        self.known = {name: tensor.double().numpy() for name, tensor in model.backend.items()}
        self.cohort = model.backend.get('cohort')  # (n_cohort, embedding_size)
        self.unit = 'cosine similarity' if backend in COSINES else 'log-likelihood ratio'  # for the pictures
        if normalise is not None:
            self.unit += ', ' + normalise

    def prepare(self, d_vectors):
        """Write a tensor (n, size) as (points (n, k), own (n,)), as prepare of deep_dive/plda.py does.

        Of a cosine, own is 0. The score of two d-vectors is then the product of their points, plus what is
        their own.
        """
        vectors = d_vectors.double().numpy()
        if self.backend == 'plda':
            return plda.prepare(vectors, self.known['plda_mean'], self.known['plda_between'],
                                self.known['plda_within'])
        if self.backend != 'cosine':
            vectors = vectors - self.known['mean']
        if self.backend in ('lda', 'wccn'):
            vectors = vectors @ self.known[self.backend]
        with np.errstate(invalid='ignore', divide='ignore'):
            return vectors / lengths_of(vectors)[:, None], np.zeros(len(vectors))

    def statistics(self, points, own):
        """The mean and the deviation of the scores of prepared d-vectors with the cohort: (n,), (n,)."""
        cohort_points, cohort_own = self.prepare(self.cohort)
        return cohort_statistics(points @ cohort_points.T + own[:, None] + cohort_own, self.normalise)

    def __call__(self, d_vectors, others):
        """The score of each row of (n, size) with each of (m, size), tensors: (n, m) array."""
        check_sizes(d_vectors, others)
        (points, own), (other_points, other_own) = self.prepare(d_vectors), self.prepare(others)
        scores = points @ other_points.T + own[:, None] + other_own
        if self.normalise is not None:
            mean, deviation = self.statistics(points, own)
            scores = normalise_scores(scores, mean[:, None], deviation[:, None],
                                      *self.statistics(other_points, other_own))
        return only_numbers(scores)

    def trials(self, vectors, first, second):
        """The scores of the rows first[i] and second[i] of a tensor (n, size): (n_trials,)."""
        points, own = self.prepare(vectors)
        scores = trial_products(points, first, second) + own[first] + own[second]
        if self.normalise is not None:
            mean, deviation = self.statistics(points, own)
            scores = normalise_scores(scores, mean[first], deviation[first], mean[second], deviation[second])
        return only_numbers(scores)


def all_scorers(model):
    """A Scorer for every backend and normalisation for which the checkpoint knows enough, 'cosine' first."""
    return [Scorer(backend, model, normalise) for backend in available_backends(model)
            for normalise in available_normalisations(model)]


def estimate_from(dataset, model, use_cuda, n_utterances):
    """Call estimate_backend with one window of each of the first n_utterances of a training set."""
    d_vectors = window_d_vectors(dataset, model, use_cuda, n_utterances)  # (n, embedding_size)
    return estimate_backend(d_vectors, dataset.labels[:n_utterances])


def window_d_vectors(dataset, model, use_cuda, n_utterances):
    """The d-vectors of one window of each of the first n_utterances: (n, embedding_size). Not augmented."""
    device, d_vectors = get_device(use_cuda), []
    to_window, to_tensor = TruncatedInputfromMFB(), ToTensorInput()
    model.eval()
    # Use a copy of the random state, because training may go on with the original
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        for numbers in BatchSampler(range(min(n_utterances, len(dataset))), WINDOWS_AT_ONCE, drop_last=False):
            windows = [to_tensor(to_window(dataset.feature(i))) for i in numbers]  # (1, 40, 100) each
            windows = torch.stack(windows)  # (n, 1, 40, 100)
            spk_embedding, _ = model(windows.to(device, memory_format=torch.channels_last))
            d_vectors.append(F.normalize(spk_embedding, dim=1).cpu())
    return torch.cat(d_vectors)
