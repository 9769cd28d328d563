"""Change d-vectors before they are compared, by centring, LDA or WCCN. `backend` names which."""
import numpy as np
import torch
import torch.nn.functional as F
from scipy.linalg import eigh
from torch.utils.data import BatchSampler

from SR_Dataset import ToTensorInput, TruncatedInputfromMFB
from model import SEGMENT_BATCH
from support.devices import get_device
from support.messages import LabError

BACKENDS = ['cosine', 'centre', 'lda', 'wccn']
LDA_SIZE = 100  # dimensions that LDA keeps, but at most one fewer than there are speakers
WCCN_SMOOTHING = 0.1  # share of the mean variance that is added to the within-speaker covariance


def estimate_backend(d_vectors, labels):
    """Estimate what `backend` needs to know about the training set: dict of float32 tensors 'mean', 'lda', 'wccn'.

    d_vectors: (n, embedding_size) tensor of unit length. labels: (n,) speakers. W is the covariance within speakers, B
    that of the speakers' means. LDA is the axes a with the largest a'Ba / a'Wa (Dehak et al. 2011), scaled so that
    a'Wa = 1. WCCN is the Cholesky factor of W^-1 (Hatch et al. 2006). W is smoothed as in that paper, so that few
    recordings are enough. If LDA kept all axes, both would give the same cosines.
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
    return {name: torch.from_numpy(np.ascontiguousarray(value, np.float32))
            for name, value in (('mean', mean), ('lda', lda), ('wccn', wccn))}


def available_backends(model):
    """List of the backends for which the checkpoint of a model knows enough."""
    matrices = [name for name in ('lda', 'wccn') if name in model.backend]
    return ['cosine'] + (['centre'] if 'mean' in model.backend else []) + matrices


def create_backend(backend, model):
    """The function that changes d-vectors, a tensor (n, embedding_size), before their cosine is taken.

    'cosine' changes nothing, so it is None. 'centre' subtracts the mean of the training set. 'lda' and 'wccn' also
    multiply by a matrix, see estimate_backend. Raises LabError if the checkpoint does not hold what is needed.
    """
    if backend not in available_backends(model):
        raise LabError("backend = '%s': %s knows enough for %s alone.\nSet cp_num = 'best' here and in enroll.py, and "
                       "run enroll.py again."
                       % (backend, model.checkpoint['file'], ' and '.join(available_backends(model))))
    if backend == 'cosine':
        return None
    mean, matrix = model.backend['mean'], model.backend.get(backend)
    return lambda d_vectors: d_vectors - mean if matrix is None else (d_vectors - mean) @ matrix


def estimate_from(dataset, model, use_cuda, n_utterances):
    """Call estimate_backend with one window of each of the first n_utterances of a training set."""
    d_vectors = window_d_vectors(dataset, model, use_cuda, n_utterances)  # (n, embedding_size)
    return estimate_backend(d_vectors, dataset.labels[:n_utterances])


def window_d_vectors(dataset, model, use_cuda, n_utterances):
    """The d-vectors of one window of each of the first n_utterances, without augmentation: (n, embedding_size)."""
    device, d_vectors = get_device(use_cuda), []
    to_window, to_tensor = TruncatedInputfromMFB(), ToTensorInput()
    model.eval()
    # Use a copy of the random state, because training may go on with the original
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        for numbers in BatchSampler(range(min(n_utterances, len(dataset))), SEGMENT_BATCH, drop_last=False):
            inputs = torch.stack([to_tensor(to_window(dataset.feature(i))) for i in numbers])  # (batch, 1, 40, 100)
            spk_embedding, _ = model(inputs.to(device, memory_format=torch.channels_last))  # (batch, embedding_size)
            d_vectors.append(F.normalize(spk_embedding, dim=1).cpu())
    return torch.cat(d_vectors)
