"""The speaker classifier, and what one does with it once it is trained: load it, get d-vectors, keep them."""
import hashlib
import os
from glob import escape, glob
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from deep_dive import backbones
import configure as c
import resnet
from SR_Dataset import ToTensorTestInput, read_MFB
from deep_dive.heads import cosines
from support.checks import check_all_different, feature_size, is_enrolment, is_origin
from support.devices import get_device, print_device
from support.messages import LabError, in_one_line
from support.safe_files import read_checkpoint, read_pickles, read_whole, write_pickles


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
