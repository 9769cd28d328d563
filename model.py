"""The speaker classifier, and its use after training: load it, get d-vectors, save and read enrolments."""
import os
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import configure as c
import resnet
from SR_Dataset import ToTensorTestInput, read_MFB
from deep_dive import backbones
from deep_dive.heads import HEADS, N_CENTRES
from support.checks import BACKEND_TENSORS, check_checkpoint, check_enrolment, check_model
from support.devices import get_device
from support.enrolments import ENROLL_FILE, read_enrolment, use_own_thresholds
from support.messages import LabError, in_one_line
from support.safe_files import read_checkpoint, write_pickles

BACKBONES = {'resnet18': resnet.resnet18, 'resnet34': resnet.resnet34, 'resnet50': resnet.resnet50,
             'resnet101': resnet.resnet101, 'resnet152': resnet.resnet152, **backbones.BACKBONES}
POOLINGS = ['average', *backbones.POOLINGS]
SEGMENT_BATCH = 64  # segments of one utterance that go through the network together


class AveragePooling(nn.Module):
    """The mean of each channel, as in the slides: (batch, channels, rows, columns) -> (batch, channels)."""

    def forward(self, x):
        return torch.flatten(F.adaptive_avg_pool2d(x, 1), 1)


class background_resnet(nn.Module):
    """Speaker classifier on a ResNet. The layer before the classifier is the speaker embedding, the d-vector.

    A feature map (batch, 1, n_dims, n_frames) of any length goes in; spk_embedding (batch, embedding_size) and logits
    (batch, num_classes) come out. d-vectors: Variani et al. 2014. pooling, head: deep_dive/backbones.py and heads.py.
    """

    def __init__(self, embedding_size, num_classes, backbone='resnet18', *, pooling='average', head='slides'):
        super().__init__()
        for name, value, known in (('backbone', backbone, BACKBONES), ('pooling', pooling, POOLINGS)):
            if value not in known:
                raise LabError('unknown %s: %s. Choose one of %s.' % (name, value, ', '.join(known)))
        # Saved, to build it again, and to bring recordings to the level in dBFS that it was trained with
        self.settings = {'backbone': backbone, 'pooling': pooling, 'head': head, 'level': c.LEVEL_DBFS}
        self.pretrained = BACKBONES[backbone]()
        if pooling == 'average':
            self.pooling, n_pooled = AveragePooling(), self.pretrained.out_channels
        else:
            rows = backbones.rows_of(self.pretrained)
            self.pooling = backbones.POOLINGS[pooling](self.pretrained.out_channels, rows)
            n_pooled = self.pooling.out_size
        self.fc0 = nn.Linear(n_pooled, embedding_size)
        self.bn0 = nn.BatchNorm1d(embedding_size)
        self.last = nn.Linear(N_CENTRES.get(head, 1) * embedding_size, num_classes, bias=head not in N_CENTRES)

    def forward(self, x):  # (batch, 1, 40, n_frames)
        out = self.pretrained(x)  # (batch, 128, 5, n_frames / 8)
        out = self.pooling(out)  # (batch, 128)
        spk_embedding = self.fc0(out)  # (batch, embedding_size)
        if self.settings['head'] != 'slides':
            return HEADS[self.settings['head']](self, spk_embedding)
        out = F.relu(self.bn0(spk_embedding))  # (batch, embedding_size)
        out = self.last(out)  # (batch, num_classes)
        return spk_embedding, out


def find_checkpoint(log_dir, cp_num):
    """The file LOG_DIR/checkpoint_<cp_num>.pth. Raises LabError, with those that exist, if there is none."""
    filename = os.path.join(log_dir, 'checkpoint_%s.pth' % cp_num)
    if not os.path.isfile(filename):
        names = [path.stem.removeprefix('checkpoint_') for path in Path(log_dir).glob('checkpoint_*.pth')]
        names.sort(key=lambda name: (len(name), name))  # 2 before 10
        names = ', '.join(name if name.isdigit() else repr(name) for name in names)  # as one writes them in main()
        training = 'python train.py' if log_dir == 'model_saved' else 'python train.py --log_dir=%s' % log_dir
        raise LabError('%s does not exist. Run %s first%s.'
                       % (filename, training, ', or set cp_num to one of %s' % names if names else ''))
    return filename


def load_model(use_cuda, log_dir, cp_num, embedding_size, n_classes):
    """The trained network of LOG_DIR/checkpoint_<cp_num>.pth, in eval mode, on the GPU if there is one.

    embedding_size and n_classes may be None, because the checkpoint knows them. model.checkpoint holds the name of the
    file and its hash, model.thresholds what deep_dive/calibration.py found. Raises LabError if the checkpoint is
    missing, damaged, or of another size than stated.
    """
    filename = find_checkpoint(log_dir, cp_num)
    device = get_device(use_cuda, say_so=True)
    print('=> loading checkpoint')
    checkpoint, sha256 = read_checkpoint(filename)
    check_checkpoint(checkpoint, filename)
    # Checkpoints of the original lab carry the ResNet's own classifier, which is not used
    state_dict = {name: value for name, value in checkpoint['state_dict'].items() if 'pretrained.fc.' not in name}
    try:
        saved_classes, saved_size = len(state_dict['last.weight']), len(state_dict['fc0.weight'])
        model = background_resnet(saved_size, saved_classes, **{
            name: checkpoint[name] for name in ('backbone', 'pooling', 'head') if name in checkpoint})
        model.load_state_dict(state_dict)
        model.backend = {name: checkpoint[name] for name in BACKEND_TENSORS if name in checkpoint}
        check_model(model)
    except (LabError, KeyError, ValueError, RuntimeError, AttributeError, TypeError) as error:
        raise LabError('%s: no checkpoint of the network in model.py (%s)' % (filename, in_one_line(error))) from error
    if embedding_size not in (None, saved_size) or n_classes not in (None, saved_classes):
        raise LabError('%s has embedding_size = %d and n_classes = %d, main() says %s and %s.\nCorrect it, or write '
                       'None.' % (filename, saved_size, saved_classes, embedding_size, n_classes))
    model.checkpoint = {'file': filename, 'sha256': sha256}
    model.settings['level'], model.thresholds = checkpoint.get('level', c.LEVEL_DBFS), checkpoint.get('thresholds', {})
    return model.to(device, memory_format=torch.channels_last).eval()


def get_embeddings(use_cuda, filename, model, test_frames):
    """The d-vector of one feature file or recording: (1, embedding_size) tensor of unit length, on the CPU."""
    feature, _ = read_MFB(filename, model.settings['level'])  # (n_frames, n_dims)
    return embed_feature(use_cuda, feature, model, test_frames, filename)


def embed_feature(use_cuda, feature, model, test_frames, filename='a recording'):
    """The d-vector of a feature (n_frames, n_dims): (1, embedding_size) tensor of unit length, on the CPU.

    The utterance is cut into segments of test_frames (None: the whole utterance is one segment). Their embeddings are
    summed, and the sum is divided by its norm. Raises LabError, with filename, if the sum is zero or no number.
    """
    test_frames = len(feature) if test_frames is None else test_frames
    if test_frames < 1:
        raise LabError('test_frames = %s: a segment must have at least one frame' % test_frames)
    to_tensor, device = ToTensorTestInput(), get_device(use_cuda)
    starts = range(0, len(feature), test_frames)
    segments = [to_tensor(feature[start:start + test_frames]) for start in starts]  # (1, 1, n_dims, <= test_frames)
    n_full = len(feature) // test_frames
    batches = [torch.cat(segments[i:min(i + SEGMENT_BATCH, n_full)]) for i in range(0, n_full, SEGMENT_BATCH)]
    batches += segments[n_full:]  # the last one may be shorter
    activation = 0
    with torch.inference_mode():
        for batch in batches:  # (n_segments, 1, n_dims, n_frames)
            spk_embedding, _ = model(batch.to(device, memory_format=torch.channels_last))
            activation = activation + spk_embedding.sum(dim=0, keepdim=True)  # (1, embedding_size)
    if not 0 < activation.norm() < torch.inf:  # false for NaN, too
        raise LabError('%s: its d-vector is zero, infinite or not a number. Check that recording. If others fail,\n'
                       'too, choose another checkpoint.' % filename)
    return F.normalize(activation, dim=1).cpu()


def save_enroll_embeddings(embedding_dir, embeddings, model, recordings):
    """Write an enrolment: a pickle of dict speaker -> (1, embedding_size) array. Raises LabError if nobody is in it.

    A second pickle in the file names the checkpoint. It also holds `recordings`: dict speaker -> what origin_of says.
    """
    if not embeddings:
        raise LabError('Nobody is enrolled: no speaker has a file that can be used.')
    recordings = {speaker: recordings[speaker] for speaker in embeddings}
    arrays = {speaker: embedding.numpy() for speaker, embedding in embeddings.items()}
    write_pickles(os.path.join(embedding_dir, ENROLL_FILE), arrays, {**model.checkpoint, 'recordings': recordings})


def load_enroll_embeddings(embedding_dir, *, model=None):
    """The enrolment that enroll.py wrote into `embedding_dir`: dict speaker -> (1, embedding_size) tensor.

    Raises LabError if there is none, if it is damaged, or, given the model that is to score it, if it was made with
    another checkpoint.
    """
    embeddings, made_with = read_enrolment(embedding_dir)
    if model is not None:
        check_enrolment(embedding_dir, embeddings, made_with, model.checkpoint)
        use_own_thresholds(model, embedding_dir)  # if there are any: experiments/calibrate.py
    return {speaker: torch.from_numpy(embedding.astype(np.float32)) for speaker, embedding in embeddings.items()}
