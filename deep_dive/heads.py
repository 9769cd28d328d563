"""What stands behind the pooling of a network, for other losses (networks.py), and transfer from a trained one."""
from types import MethodType

import torch
import torch.nn.functional as F
from torch import nn

from support.checks import check_checkpoint
from support.messages import LabError
from support.safe_files import read_checkpoint


def normalised_head(model, spk_embedding):
    """The embedding after BatchNorm, and the logits of the slides. (batch, size) -> (batch, size), (batch, classes)."""
    normalised = model.bn0(spk_embedding)
    return normalised, model.last(F.relu(normalised))


def cosine_head(model, spk_embedding):
    """The embedding after BatchNorm, and the cosines of its angle to the weights of each class instead of logits."""
    normalised = model.bn0(spk_embedding)
    return normalised, cosines(normalised, model.last.weight)


def subcenter_head(model, spk_embedding):
    """As cosine_head, but each class has three weight vectors, its sub-centres. The nearest one counts."""
    normalised = model.bn0(spk_embedding)  # (batch, embedding_size)
    centres = model.last.weight.reshape(-1, normalised.shape[1])  # (classes * 3, embedding_size)
    of_classes = cosines(normalised, centres).unflatten(1, (len(model.last.weight), -1))  # (batch, classes, 3)
    return normalised, of_classes.amax(dim=2)


HEADS = {'normalised': normalised_head, 'cosine': cosine_head, 'subcenter': subcenter_head}
N_CENTRES = {'cosine': 1, 'subcenter': 3}  # of heads that take cosines: weight vectors of a class; all stand in `last`


def cosines(vectors, others):
    """Cosine similarity of rows (n, size) and (m, size): (n, m), always in float32."""
    with torch.autocast(vectors.device.type, enabled=False):
        return F.linear(F.normalize(vectors.float()), F.normalize(others.float()))


def load_backbone(model, filename, *, freeze=False):
    """Transfer: give a model the trained parameters of a checkpoint, all but the last layer.

    The last layer belongs to the speakers of the checkpoint. freeze: only the last layer learns from now on. Raises
    LabError if the two networks differ.
    """
    checkpoint, _ = read_checkpoint(filename)
    check_checkpoint(checkpoint, filename)
    state_dict = checkpoint['state_dict']
    own = model.state_dict()
    needed = {name for name in own if not name.startswith('last.')}
    if needed - state_dict.keys() or any(state_dict[name].shape != own[name].shape for name in needed):
        raise LabError('init_from: %s holds another network. Set embedding_size, backbone and pooling as in its '
                       'training.' % filename)
    model.load_state_dict({**own, **{name: state_dict[name] for name in needed}})
    if freeze:
        freeze_backbone(model)


def freeze_backbone(model):
    """Let only the last layer learn. BatchNorm keeps its statistics, too."""
    model.requires_grad_(False)
    model.last.requires_grad_(True)
    model.train = MethodType(stay_in_eval_mode, model)


def stay_in_eval_mode(model, mode=True):
    """Stands for model.train()."""
    return nn.Module.train(model, False)
