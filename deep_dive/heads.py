"""What stands behind the backbone for losses beyond the slides, and networks that begin with a trained one."""
import os

import torch
import torch.nn.functional as F

from support.messages import LabError
from support.safe_files import read_checkpoint


def cosines(vectors, others):
    """Cosine similarity of rows (n, size) and (m, size): (n, m) in float32, whatever the network computes in."""
    with torch.autocast(vectors.device.type, enabled=False):
        return F.linear(F.normalize(vectors.float()), F.normalize(others.float()))


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
