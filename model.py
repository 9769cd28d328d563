"""The speaker classifier, and its use after training: load it, get d-vectors, save and read enrolments."""
import os

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import configure as c
import resnet
from SR_Dataset import ToTensorTestInput, read_MFB
from support.checks import BACKEND_TENSORS, check_checkpoint, check_enrolment, check_model
from support.devices import get_device, segments_of
from support.enrolments import ENROLL_FILE, read_enrolment, use_own_thresholds
from support.messages import LabError, in_one_line
from support.runs import find_checkpoint
from support.safe_files import read_checkpoint, write_pickles

BACKBONES = {'resnet18': resnet.resnet18, 'resnet34': resnet.resnet34, 'resnet50': resnet.resnet50,
             'resnet101': resnet.resnet101, 'resnet152': resnet.resnet152}
SLIDES = {'pooling': 'average', 'head': 'slides'}  # this network; deep_dive/networks.py has others


class background_resnet(nn.Module):
    """Speaker classifier on a ResNet. The layer before its last gives the speaker embedding, the d-vector.

    In: feature maps (batch, 1, n_dims, n_frames) of any length. Out: spk_embedding (batch, embedding_size)
    and logits (batch, num_classes). d-vectors: Variani et al. 2014. LabError for a backbone not in BACKBONES.
    """

    def __init__(self, embedding_size, num_classes, backbone='resnet18'):
        super().__init__()
        if backbone not in BACKBONES:
            raise LabError('unknown backbone: %s. Choose one of %s.' % (backbone, ', '.join(BACKBONES)))
        # Saved in each checkpoint. level: dBFS of the training, to which test recordings are brought
        self.settings = {'backbone': backbone, 'level': c.LEVEL_DBFS}
        self.pretrained = BACKBONES[backbone]()  # the slides' name; starts untrained
        self.fc0 = nn.Linear(self.pretrained.out_channels, embedding_size)
        self.bn0 = nn.BatchNorm1d(embedding_size)
        self.last = nn.Linear(embedding_size, num_classes)

    def forward(self, x):  # (batch, 1, 40, n_frames)
        x = self.pretrained.conv1(x)  # (batch, 16, 40, n_frames)
        x = self.pretrained.bn1(x)
        x = self.pretrained.relu(x)
        x = self.pretrained.layer1(x)  # (batch, 16, 40, n_frames); from here, 4 x channels with Bottleneck
        x = self.pretrained.layer2(x)  # (batch, 32, 20, n_frames / 2)
        x = self.pretrained.layer3(x)  # (batch, 64, 10, n_frames / 4)
        x = self.pretrained.layer4(x)  # (batch, 128, 5, n_frames / 8)
        out = F.adaptive_avg_pool2d(x, 1)  # (batch, 128, 1, 1)
        out = torch.flatten(out, 1)  # (batch, 128)
        spk_embedding = self.fc0(out)  # (batch, embedding_size)
        out = F.relu(self.bn0(spk_embedding))  # (batch, embedding_size)
        out = self.last(out)  # (batch, num_classes)
        return spk_embedding, out


def network_of(checkpoint):
    """The network of a checkpoint, with its parameters. It may be one of deep_dive/."""
    # Checkpoints of the original lab carry the ResNet's own classifier, which is not used
    state_dict = {name: value for name, value in checkpoint['state_dict'].items()
                  if 'pretrained.fc.' not in name}
    sizes = len(state_dict['fc0.weight']), len(state_dict['last.weight'])  # embedding_size, n_classes
    backbone = checkpoint.get('backbone', 'resnet18')
    others = {name: checkpoint.get(name, SLIDES[name]) for name in SLIDES}
    if backbone in BACKBONES and others == SLIDES:
        model = background_resnet(*sizes, backbone)
    else:
        from deep_dive.networks import background_network  # the lab uses it only here
        model = background_network(*sizes, backbone, **others)
    model.load_state_dict(state_dict)
    return model


def load_model(use_cuda, log_dir, cp_num, embedding_size, n_classes):
    """The trained network of checkpoint cp_num in log_dir, in eval mode, on the GPU if there is one.

    embedding_size and n_classes may be None, because the checkpoint knows them. model.checkpoint names the
    file and its hash. model.thresholds: for thres='model'. model.backend: for deep_dive/. Raises
    LabError if the file is missing, damaged, or of other sizes.
    """
    filename = find_checkpoint(log_dir, cp_num)
    device = get_device(use_cuda, say_so=True)
    print('=> loading checkpoint')
    checkpoint, sha256 = read_checkpoint(filename)
    check_checkpoint(checkpoint, filename)
    try:
        model = network_of(checkpoint)
        model.backend = {name: checkpoint[name] for name in BACKEND_TENSORS if name in checkpoint}
        check_model(model)
    except (LabError, KeyError, ValueError, RuntimeError, AttributeError, TypeError) as error:
        raise LabError('%s: no checkpoint of the network in model.py (%s)'
                       % (filename, in_one_line(error))) from error
    sizes = model.fc0.out_features, model.last.out_features
    if embedding_size not in (None, sizes[0]) or n_classes not in (None, sizes[1]):
        raise LabError('%s has embedding_size = %d and n_classes = %d, main() says %s and %s.\nCorrect it, '
                       'or write None.' % (filename, *sizes, embedding_size, n_classes))
    model.checkpoint = {'file': filename, 'sha256': sha256}
    model.settings['level'] = checkpoint.get('level', c.LEVEL_DBFS)
    model.thresholds = checkpoint.get('thresholds', {})
    return model.to(device, memory_format=torch.channels_last).eval()  # faster


def get_embeddings(use_cuda, filename, model, test_frames):
    """The d-vector of a feature file or recording: (1, embedding_size) tensor of unit length, on the CPU."""
    feature, _ = read_MFB(filename, model.settings['level'])  # (n_frames, n_dims)
    return embed_feature(use_cuda, feature, model, test_frames, filename)


def embed_feature(use_cuda, feature, model, test_frames, filename='a recording'):
    """The d-vector of a feature (n_frames, n_dims): (1, embedding_size) tensor of unit length, on the CPU.

    The utterance is cut into segments of test_frames (None: not cut, up to a minute). The sum of their
    embeddings is divided by its norm. Raises LabError, with filename, if it is 0, infinite or NaN.
    """
    x = ToTensorTestInput()(feature)  # (1, 1, n_dims, n_frames)
    x = x.to(get_device(use_cuda), memory_format=torch.channels_last)
    activation = 0
    with torch.inference_mode():
        for segments in segments_of(x, test_frames):  # (n, 1, n_dims, test_frames or less)
            spk_embedding, _ = model(segments)  # (n, embedding_size)
            activation = activation + spk_embedding.sum(dim=0, keepdim=True)  # (1, embedding_size)
    if not 0 < activation.norm() < torch.inf:  # false for NaN, too
        raise LabError('%s: its d-vector is zero, infinite or not a number.\nCheck that recording. If others '
                       'fail, too, choose another checkpoint.' % filename)
    return F.normalize(activation, dim=1).cpu()


def save_enroll_embeddings(embedding_dir, embeddings, model, recordings):
    """Write an enrolment: a pickle of dict speaker -> (1, embedding_size) array.

    A second pickle follows in that file: the checkpoint, and `recordings`: speaker -> how recorded. Raises
    LabError if nobody is enrolled.
    """
    if not embeddings:
        raise LabError('Nobody is enrolled: no speaker has a file that can be used.')
    recordings = {speaker: recordings[speaker] for speaker in embeddings}
    arrays = {speaker: embedding.numpy() for speaker, embedding in embeddings.items()}
    about = {**model.checkpoint, 'recordings': recordings}
    write_pickles(os.path.join(embedding_dir, ENROLL_FILE), arrays, about)


def load_enroll_embeddings(embedding_dir, *, model=None):
    """The enrolment that enroll.py wrote into `embedding_dir`: dict speaker -> (1, embedding_size) tensor.

    model: the one that scores; gets thresholds of own_voice/calibrate.py, if there are any. Raises
    LabError if the enrolment is missing, damaged, or made with another checkpoint than model.
    """
    embeddings, made_with = read_enrolment(embedding_dir)
    if model is not None:
        check_enrolment(embedding_dir, embeddings, made_with, model.checkpoint)
        use_own_thresholds(model, embedding_dir)
    return {spk: torch.from_numpy(embedding.astype(np.float32)) for spk, embedding in embeddings.items()}
