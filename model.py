"""The speaker classifier, and what one does with it once it is trained: load it, get d-vectors, keep them."""
import hashlib
import importlib.util
import io
import math
import os
import pickle
import shutil
import zipfile
from glob import glob, escape
from pathlib import Path
from types import NoneType

import numpy as np
import torch
import torch.nn.functional as F
from scipy.linalg import eigh
from torch import nn

import configure as c
import resnet
from DB_wav_reader import OPCODES, LabError, PickledDict, PlainUnpickler, are_settings, feature_settings, feature_size
from DB_wav_reader import in_one_line, is_name, other_settings, read_pickles, read_whole, skim_pickle, write_pickles
from SR_Dataset import ToTensorTestInput, read_MFB
from deep_dive import backbones


class AveragePooling(nn.Module):
    """The mean of each channel: (batch, channels, rows, columns) -> (batch, channels), as in the slides."""

    def __init__(self, channels, rows):
        super().__init__()
        self.out_size = channels

    def forward(self, x):
        return torch.flatten(F.adaptive_avg_pool2d(x, 1), 1)


BACKBONES = {'resnet18': resnet.resnet18, 'resnet34': resnet.resnet34, 'resnet50': resnet.resnet50,
             'resnet101': resnet.resnet101, 'resnet152': resnet.resnet152, **backbones.BACKBONES}
POOLINGS = {'average': AveragePooling, **backbones.POOLINGS}
ENROLL_FILE = 'embeddings.p'  # in the folder of enrolments
SEGMENT_BATCH = 64  # segments of one utterance that go through the network together: bounds the memory


class background_resnet(nn.Module):
    """Speaker classifier on a ResNet; the layer before the classifier is the speaker embedding, the d-vector.

    A feature map (batch, 1, n_dims, n_frames) of any length goes in; spk_embedding (batch, embedding_size) and logits
    (batch, num_classes) come out. d-vectors: Variani et al. 2014. head: 'slides'; 'normalised': the embedding is that
    after BatchNorm; 'cosine': and in place of logits come the cosines of its angle to the weights of each class, as
    losses with an angular margin want it (deep_dive/losses.py). Raises LabError for an unknown backbone or pooling.
    """

    def __init__(self, embedding_size, num_classes, backbone='resnet18', *, pooling='average', head='slides'):
        super().__init__()
        for name, value, known in (('backbone', backbone, BACKBONES), ('pooling', pooling, POOLINGS)):
            if value not in known:
                raise LabError('unknown %s: %s. Choose one of %s.' % (name, value, ', '.join(known)))
        self.settings = {'backbone': backbone, 'pooling': pooling, 'head': head}  # what rebuilds it
        self.pretrained = BACKBONES[backbone]()
        self.pooling = POOLINGS[pooling](self.pretrained.out_channels, rows_of(self.pretrained))
        self.fc0 = nn.Linear(self.pooling.out_size, embedding_size)
        self.bn0 = nn.BatchNorm1d(embedding_size)
        self.last = nn.Linear(embedding_size, num_classes, bias=head != 'cosine')
        self.is_frozen = False

    def forward(self, x):  # (batch, 1, 40, n_frames)
        out = self.pretrained(x)  # (batch, 128, 5, n_frames / 8)
        out = self.pooling(out)  # (batch, 128)
        spk_embedding = self.fc0(out)  # (batch, embedding_size)
        normalised = self.bn0(spk_embedding)
        if self.settings['head'] == 'cosine':
            return normalised, cosines(normalised, self.last.weight)
        logits = self.last(F.relu(normalised))  # (batch, num_classes)
        return (spk_embedding if self.settings['head'] == 'slides' else normalised), logits

    def freeze_backbone(self):
        """From now on only the last layer learns; BatchNorm keeps its statistics, too."""
        self.is_frozen = True
        self.requires_grad_(False)
        self.last.requires_grad_(True)

    def train(self, mode=True):
        return super().train(mode and not self.is_frozen)


def rows_of(backbone):
    """How many rows the map of a backbone has for a feature map: found by trying."""
    with torch.no_grad():
        rows = backbone.eval()(torch.zeros(1, 1, feature_size(), c.NUM_WIN_SIZE)).shape[2]
    backbone.train()
    return rows


def cosines(vectors, others):
    """Cosine similarity of rows (n, size) and (m, size): (n, m) in float32, whatever the network computes in."""
    with torch.autocast(vectors.device.type, enabled=False):
        return F.linear(F.normalize(vectors.float()), F.normalize(others.float()))


def get_device(use_cuda):
    """The torch.device to run on: the GPU if it is wanted and there is one."""
    return torch.device('cuda' if use_cuda and torch.cuda.is_available() else 'cpu')


def print_device(use_cuda):
    """Say so in one line where a GPU is wanted and there is none."""
    if use_cuda and not torch.cuda.is_available():
        print('No GPU found: running on the CPU')


def has_bfloat16(device):
    """Whether the hardware multiplies bfloat16 numbers itself: the GPU, or a CPU with AMX or AVX512-BF16."""
    if device.type == 'cuda':
        return torch.cuda.is_bf16_supported(including_emulation=False)
    abilities = torch.cpu.get_capabilities()
    return bool(abilities.get('amx_bf16') or abilities.get('avx512_bf16'))


def mixed_precision(device):
    """Context in which a network computes in bfloat16 where that is faster, and in float32 elsewhere."""
    return torch.autocast(device.type, torch.bfloat16, enabled=has_bfloat16(device))


def has_compiler(device):
    """Whether torch.compile finds what it needs: a C++ compiler for the CPU, Triton for a GPU."""
    if device.type == 'cuda':
        return importlib.util.find_spec('triton') is not None
    return shutil.which(os.environ.get('CXX', 'cl' if os.name == 'nt' else 'g++')) is not None


def find_checkpoint(log_dir, cp_num):
    """The file LOG_DIR/checkpoint_<cp_num>.pth. Raises LabError, with those that exist, where there is none."""
    filename = os.path.join(log_dir, 'checkpoint_%s.pth' % cp_num)
    if not os.path.isfile(filename):
        there = glob(os.path.join(escape(log_dir), 'checkpoint_*.pth'))
        if not there:
            raise LabError('%s does not exist. There is no checkpoint yet: run python train.py first.' % filename)
        names = [Path(name).stem.removeprefix('checkpoint_') for name in there]
        names = [name if name.isdigit() else repr(name) for name in names]  # as one writes them in main()
        names.sort(key=lambda name: (len(name), name))  # 2 before 10
        raise LabError('%s does not exist. Set cp_num to one of %s, or run python train.py.'
                       % (filename, ', '.join(names)))
    return filename


class PickledTensor:
    """What a tensor is while a checkpoint is looked through: no larger than the storage it lies in."""

    def __init__(self, n_stored, offset, size, stride, *_):
        last = offset + sum((n - 1) * step for n, step in zip(size, stride))
        if min([offset, *size, *stride]) < 0 or max(math.prod(size), last + 1) > n_stored:
            raise pickle.UnpicklingError('a tensor that claims more numbers than it has')

    def __setstate__(self, state):
        """Without it, a pickle could set the attributes of this class."""


class CheckpointUnpickler(PlainUnpickler):
    """Looks through the pickle in a checkpoint, for all that torch.load(weights_only=True) would take, and should not.

    room: bytes that the storages may have in all; sizes: dict key -> bytes of the storage in the file, None if unknown.
    """
    allowed = {('collections', 'OrderedDict'): PickledDict, ('torch._utils', '_rebuild_tensor_v2'): PickledTensor,
               **{('torch', '%sStorage' % kind): n_bytes for kind, n_bytes in {  # of one number
                   'Float': 4, 'Double': 8, 'Half': 2, 'BFloat16': 2, 'Long': 8, 'Int': 4, 'Short': 2, 'Char': 1,
                   'Byte': 1, 'Bool': 1}.items()}}

    def __init__(self, content, room, sizes=None):
        super().__init__(io.BytesIO(content))
        self.room, self.sizes, self.lengths = room, sizes, {}

    def persistent_load(self, storage):
        what, n_bytes, key, _, length, *view = storage
        if what != 'storage' or not key.isdecimal() or view not in ([], [None]) or length < 0:
            raise pickle.UnpicklingError('a storage as PyTorch does not write it')
        if key not in self.lengths:
            self.lengths[key] = length
            self.room -= length * n_bytes
        if self.lengths[key] != length or self.room < 0 or (
                self.sizes is not None and self.sizes.get(key) != length * n_bytes):
            raise pickle.UnpicklingError('a storage of another size than it has')
        return length


CHECKPOINT_OPCODES = OPCODES | {'BINPERSID', 'LONG1'}
PICKLES_BEFORE_2020 = 5  # a checkpoint of PyTorch before 1.6 is so many pickles and then the numbers, no zip file


def checked_checkpoint(content):
    """The bytes of a checkpoint file as torch.load shall see them.

    Raises ValueError or UnpicklingError where it would call something, or unpack to more than the bytes there are.
    """
    if not content.startswith(b'PK\x03\x04'):  # as PyTorch tells: a file may be both
        stream = io.BytesIO(content)
        for _ in range(PICKLES_BEFORE_2020):
            looked_at = skim_pickle(stream, len(content), CHECKPOINT_OPCODES)
            CheckpointUnpickler(looked_at, len(content)).load()
        return content
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > len(content):
            raise ValueError('it would unpack to more than the file itself: PyTorch does not compress')
        parts = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    folder = os.path.commonprefix(list(parts)).rpartition('/')[0]
    pickled = folder + '/data.pkl'
    if [name for name in parts if name.lower().endswith('.pkl')] != [pickled]:
        raise ValueError('it has no data.pkl, or several')
    looked_at = skim_pickle(io.BytesIO(parts[pickled]), len(content), CHECKPOINT_OPCODES)
    sizes = {name.removeprefix(folder + '/data/'): len(part) for name, part in parts.items()}
    CheckpointUnpickler(looked_at, len(content), sizes).load()
    parts[pickled] = looked_at
    anew = io.BytesIO()  # zip files can be made to hold one thing for Python and another for PyTorch
    with zipfile.ZipFile(anew, 'w') as archive:
        for name, part in parts.items():
            archive.writestr(name, part)
    return anew.getvalue()


def are_tensors(state_dict):
    """Whether this is a dict name -> tensor."""
    return isinstance(state_dict, dict) and all(
        isinstance(name, str) and isinstance(tensor, torch.Tensor) for name, tensor in state_dict.items())


def read_checkpoint(filename, *, content=None):
    """The dict in a checkpoint file, on the CPU. Raises LabError where it is not one of this lab's checkpoints.

    content: its bytes, if they have been read already.
    """
    content = read_whole(filename) if content is None else content
    try:
        checked = checked_checkpoint(content)
        checkpoint = torch.load(io.BytesIO(checked), map_location='cpu', weights_only=True)
    except Exception as error:  # a broken file can raise nearly anything; PyTorch's advice would be to trust it
        reason = in_one_line(error).partition('Re-running')[0]
        raise LabError('%s: not a checkpoint that can be loaded (%s).\nIt is damaged, or something else: choose '
                       'another cp_num, or train again.' % (filename, reason)) from error
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get('state_dict'), dict):
        raise LabError("%s: not a checkpoint of this lab: it has no 'state_dict'" % filename)
    if not are_tensors(checkpoint['state_dict']):
        raise LabError("%s: 'state_dict' must hold names and tensors" % filename)
    if not are_settings(checkpoint.get('features', {})):
        raise LabError("%s: 'features' must be a dict of names and numbers" % filename)
    difference = other_settings(checkpoint.get('features', {}))
    if difference:
        raise LabError('%s was trained on other features: %s.\nSet those in configure.py, or choose another checkpoint.'
                       % (filename, difference))
    return checkpoint


def load_model(use_cuda, log_dir, cp_num, embedding_size, n_classes):
    """The trained network of LOG_DIR/checkpoint_<cp_num>.pth, in eval mode, on the GPU if there is one.

    embedding_size and n_classes may be None: the checkpoint knows them. model.checkpoint tells the file and its hash.
    Raises LabError where the checkpoint is missing, broken, or of another size than stated.
    """
    filename = find_checkpoint(log_dir, cp_num)
    print_device(use_cuda)
    print('=> loading checkpoint')
    content = read_whole(filename)  # once: train.py may replace the file at any time
    checkpoint = read_checkpoint(filename, content=content)
    try:
        # Checkpoints of the original lab carry the ResNet's own classifier, which nothing uses
        state_dict = {name: value for name, value in checkpoint['state_dict'].items() if 'pretrained.fc.' not in name}
        saved_classes, saved_size = state_dict['last.weight'].shape
        settings = {name: checkpoint[name] for name in ('backbone', 'pooling', 'head') if name in checkpoint}
        small = background_resnet(1, 1, **settings)  # first, to see that the real one is no larger than the file
        missing = sorted(small.state_dict().keys() - state_dict.keys())
        if missing or state_dict['fc0.weight'].shape != (saved_size, small.fc0.in_features):
            raise ValueError('Missing key %s' % missing[0] if missing else "'fc0.weight' has another shape")
        model = background_resnet(saved_size, saved_classes, **settings)
        model.load_state_dict(state_dict)
        model.backend = {name: checkpoint[name] for name in ('mean', 'lda', 'wccn') if name in checkpoint}
        check_numbers(model)
    except (LabError, KeyError, ValueError, RuntimeError, AttributeError, TypeError) as error:
        raise LabError('%s: no checkpoint of the network in model.py (%s)' % (filename, in_one_line(error))) from error
    for name, stated, saved in (('embedding_size', embedding_size, saved_size),
                                ('n_classes', n_classes, saved_classes)):
        if stated not in (None, saved):
            raise LabError('%s has %s = %d, main() says %d. Correct it, or write None.'
                           % (filename, name, saved, stated))
    model.checkpoint = {'file': filename, 'sha256': hashlib.sha256(content).hexdigest()}
    return model.to(get_device(use_cuda), memory_format=torch.channels_last).eval()


def check_numbers(model):
    """Raise ValueError where a model, or what it knows of its training set, has other shapes than it should, or NaN."""
    size = model.fc0.out_features
    for name, tensor in model.backend.items():
        rows, columns = tensor.shape
        if (rows, columns) != {'mean': (1, size), 'lda': (size, columns), 'wccn': (size, size)}[name]:
            raise ValueError("'%s' is (%d, %d), the embedding is of %d" % (name, rows, columns, size))
    for name, tensor in [*model.state_dict().items(), *model.backend.items()]:
        if not tensor.isfinite().all():
            raise ValueError("'%s' holds NaN or infinity" % name)


def load_backbone(model, filename):
    """Give a model the trained parameters of a checkpoint, but for the last layer, which belongs to its speakers.

    Raises LabError where the two networks are not alike.
    """
    if not os.path.isfile(filename):
        raise LabError('init_from = %r: there is no such checkpoint.' % filename)
    state_dict = read_checkpoint(filename)['state_dict']
    own = model.state_dict()
    kept = {name: value for name, value in state_dict.items() if not name.startswith('last.')}
    needed = {name for name in own if not name.startswith('last.')}
    if needed - kept.keys() or any(kept[name].shape != own[name].shape for name in needed):
        raise LabError('init_from: %s holds another network. Set embedding_size, backbone and pooling as in its '
                       'training.' % filename)
    own.update((name, kept[name]) for name in needed)
    model.load_state_dict(own)


def get_embeddings(use_cuda, filename, model, test_frames):
    """The d-vector of one feature file: (1, embedding_size) tensor of unit length, on the CPU."""
    feature, _ = read_MFB(filename)  # (n_frames, n_dims)
    return embed_feature(use_cuda, feature, model, test_frames, filename)


def embed_feature(use_cuda, feature, model, test_frames, filename='a recording'):
    """The d-vector of a feature (n_frames, n_dims): (1, embedding_size) tensor of unit length, on the CPU.

    The utterance is cut into segments of test_frames (the last one may be shorter; None: all in one); the embeddings of
    the segments are summed and the sum is divided by its length. Raises LabError, with filename, where they have none.
    """
    if test_frames is None:
        test_frames = len(feature)
    if test_frames < 1:
        raise LabError('test_frames = %s: a segment must have at least one frame' % test_frames)
    to_tensor, device = ToTensorTestInput(), get_device(use_cuda)
    starts = range(0, len(feature), test_frames)
    segments = [to_tensor(feature[start:start + test_frames]) for start in starts]  # (1, 1, n_dims, <= test_frames)
    n_full = len(feature) // test_frames
    batches = [torch.cat(segments[i:min(i + SEGMENT_BATCH, n_full)]) for i in range(0, n_full, SEGMENT_BATCH)]
    batches += segments[n_full:]  # the last one, if it is shorter
    activation = 0
    with torch.inference_mode():
        for batch in batches:  # (n_segments, 1, n_dims, n_frames)
            spk_embedding, _ = model(batch.to(device, memory_format=torch.channels_last))
            activation = activation + spk_embedding.sum(dim=0, keepdim=True)  # (1, embedding_size)
    if not 0 < activation.norm() < torch.inf:  # false for NaN, too
        raise LabError('%s: its d-vector is zero, infinite or not a number. Look at that recording; if others fare\n'
                       'alike, choose another checkpoint.' % filename)
    return F.normalize(activation, dim=1).cpu()


def embed_pieces(use_cuda, DB, model, test_frames, piece_seconds):
    """The d-vectors of the utterances in DB, each cut into pieces of piece_seconds (None: whole).

    A rest shorter than a piece is left out. Returns ((n, embedding_size) tensor, list of the speaker of each).
    """
    if piece_seconds is not None and not (isinstance(piece_seconds, (int, float)) and piece_seconds >= c.WIN_STEP):
        raise LabError('piece_seconds = %r: it must be a number of seconds, or None.' % (piece_seconds,))
    d_vectors, speakers = [], []
    for filename, speaker in zip(DB['filename'], DB['speaker_id']):
        feature, _ = read_MFB(filename)  # (n_frames, n_dims)
        length = len(feature) if piece_seconds is None else round(piece_seconds / c.WIN_STEP)
        for start in range(0, len(feature) - length + 1, length):
            d_vectors.append(embed_feature(use_cuda, feature[start:start + length], model, test_frames, filename))
            speakers.append(speaker)
    if not d_vectors:
        raise LabError('piece_seconds = %g is longer than every test file. Choose a smaller one.' % piece_seconds)
    return torch.cat(d_vectors), speakers


BACKENDS = ['cosine', 'centre', 'lda', 'wccn']
LDA_SIZE = 100  # dimensions that LDA keeps; one fewer than speakers, where these are fewer
WCCN_SMOOTHING = 0.1  # share of the mean variance that is added to the within-speaker covariance


def estimate_backend(d_vectors, labels):
    """What `backend` needs to know of the training set: dict of tensors 'mean', 'lda' and 'wccn', each of float32.

    d_vectors: (n, embedding_size) tensor of unit length; labels: (n,) speakers. With W the covariance within speakers
    and B that of the speakers' means: LDA is the axes a of the largest a'Ba / a'Wa (Dehak et al. 2011), each of
    variance a'Wa = 1; WCCN is the Cholesky factor of W^-1 (Hatch et al. 2006). W is smoothed, as there, so that few
    recordings will do. With as many axes as the embedding has, both would give the same cosines.
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


def unchanged(d_vectors):
    """The backend of the slides: d-vectors are compared as they are."""
    return d_vectors


def available_backends(model):
    """The backends that the checkpoint of a model knows enough for."""
    matrices = [name for name in ('lda', 'wccn') if name in model.backend]
    return ['cosine'] + (['centre'] if 'mean' in model.backend else []) + matrices


def create_backend(backend, model):
    """What d-vectors (n, embedding_size) go through before their cosine is taken: a function of a tensor.

    'cosine': nothing; 'centre': the mean of the training set is subtracted; 'lda', 'wccn': and the rest multiplied by a
    matrix, see estimate_backend. Raises LabError for another name, and where the checkpoint does not know enough.
    """
    if backend not in BACKENDS:
        raise LabError('unknown backend: %s. Choose one of %s.' % (backend, ', '.join(BACKENDS)))
    if backend not in available_backends(model):
        raise LabError("backend = '%s': %s knows enough for %s alone.\nAfter python train.py, cp_num = 'best' knows "
                       "all; set it here and in enroll.py."
                       % (backend, model.checkpoint['file'], ' and '.join(available_backends(model))))
    if backend == 'cosine':
        return unchanged
    mean, matrix = model.backend['mean'], model.backend.get(backend)
    return lambda d_vectors: d_vectors - mean if matrix is None else (d_vectors - mean) @ matrix


def save_enroll_embeddings(embedding_dir, embeddings, model):
    """Write an enrolment: dict speaker -> (1, embedding_size) tensor.

    The file is a pickle of that dict, with numpy arrays, followed by a second pickle: a dict that names the checkpoint
    and LEVEL_DBFS.
    """
    arrays = {speaker: embedding.numpy() for speaker, embedding in embeddings.items()}
    filename = os.path.join(embedding_dir, ENROLL_FILE)
    check_all_different(arrays, filename)
    write_pickles(filename, arrays, {**model.checkpoint, 'LEVEL_DBFS': c.LEVEL_DBFS})


def load_enroll_embeddings(embedding_dir, *, model=None):
    """The enrolment that enroll.py wrote into `embedding_dir`: dict speaker -> (1, embedding_size) tensor.

    Raises LabError where there is none, where it is no enrolment, where two speakers are the same, or, given the model
    that is to score it, where it was made with another checkpoint or another LEVEL_DBFS.
    """
    filename = os.path.join(embedding_dir, ENROLL_FILE)
    if not os.path.isfile(filename):
        raise LabError('%s does not exist: nobody is enrolled yet. Run python enroll.py first.' % filename)
    embeddings, made_with = (read_pickles(filename) + [{}])[:2]
    if not is_enrolment(embeddings) or not is_origin(made_with):
        raise LabError('%s: not a dict of speakers and their embeddings, all of one size and none zero or NaN.\n'
                       'Run python enroll.py again.' % filename)
    if model is not None and made_with.get('sha256') != model.checkpoint['sha256']:
        there, here = made_with.get('file', 'an unknown checkpoint'), model.checkpoint['file']
        if there == here:
            there = 'an earlier %s, which has been trained again since' % there
        raise LabError('%s was made with %s, and cannot be scored with %s.\n'
                       'Run python enroll.py, with the cp_num that you test with.' % (filename, there, here))
    there, here = made_with.get('LEVEL_DBFS', 'not said'), c.LEVEL_DBFS
    if model is not None and there != here:
        raise LabError('%s: LEVEL_DBFS = %s there, %s in configure.py.\nRun python enroll.py again, or set that of the '
                       'file.' % (filename, there, here))
    check_all_different(embeddings, filename)
    return {speaker: torch.from_numpy(embedding.astype(np.float32)) for speaker, embedding in embeddings.items()}


def check_all_different(embeddings, filename):
    """Raise LabError where two speakers of an enrolment, dict speaker -> array, have one and the same embedding."""
    owner = {}  # bytes of an embedding -> speaker
    for speaker, embedding in embeddings.items():
        other = owner.setdefault(embedding.tobytes(), speaker)
        if other != speaker:
            raise LabError('%s: %s and %s are the same recording. Remove the folder of one of them, and run python '
                           'enroll.py again.' % (filename, other, speaker))


def is_origin(made_with):
    """Whether this can be what save_enroll_embeddings wrote of the checkpoint and the level."""
    return isinstance(made_with, dict) and all(is_name(made_with.get(name, '')) for name in ('file', 'sha256')) and (
        isinstance(made_with.get('LEVEL_DBFS'), (int, float, NoneType)))


def is_enrolment(embeddings):
    """Whether this is a dict speaker -> (1, embedding_size) array of floats with a direction, with somebody in it."""
    if not isinstance(embeddings, dict) or not all(
            is_name(speaker) and isinstance(e, np.ndarray) and e.ndim == 2 and len(e) == 1
            and e.dtype.kind == 'f' for speaker, e in embeddings.items()):
        return False
    with np.errstate(over='ignore', invalid='ignore'):  # what no float32 can hold is infinite
        all_of_use = all(has_direction(embedding.astype(np.float32)) for embedding in embeddings.values())
    return all_of_use and len({embedding.shape for embedding in embeddings.values()}) == 1  # 0 of nobody


def has_direction(embedding):
    """Whether an embedding, as array or tensor, can be compared with another: not NaN, infinite or all zero."""
    return 0 < float((embedding ** 2).sum()) < float('inf')


def check_enrolled(speakers, embeddings):
    """Raise LabError where one of the list `speakers` is not enrolled, or with an embedding of no direction."""
    if isinstance(speakers, str):
        raise LabError("%r is one name; a list is needed: ['%s']" % (speakers, speakers))
    for speaker in speakers:
        if speaker not in embeddings:
            raise LabError('%r is not enrolled. Choose among %s.' % (speaker, ', '.join(sorted(embeddings))))
        if not has_direction(embeddings[speaker]):
            raise LabError('the embedding of %r is zero, infinite or not a number. Run python enroll.py again.'
                           % speaker)
