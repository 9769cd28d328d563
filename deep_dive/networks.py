"""The speaker classifier with other networks, poolings and heads: `backbone`, `pooling` and `loss_type` name them.

It differs from background_resnet of model.py in what stands before the embedding (backbone, pooling), and in what
stands behind it (head). Everything else is that of the lab.
"""
from torch import nn

import configure as c
from deep_dive import backbones
from deep_dive.backbones import POOLINGS
from deep_dive.heads import HEADS, N_CENTRES
from model import BACKBONES as RESNETS
from model import background_resnet
from support.messages import LabError

BACKBONES = {**RESNETS, **backbones.BACKBONES}
HEAD_NAMES = ['slides', *HEADS]


class background_network(background_resnet):
    """A background_resnet with one of BACKBONES, POOLINGS and HEADS.

    Input and output are those of background_resnet. With another head than that of the slides, the second output need
    not be logits: see deep_dive/heads.py. Raises LabError for an unknown name.
    """

    def __init__(self, embedding_size, num_classes, backbone='resnet18', pooling='average', head='slides'):
        for name, value, known in (('backbone', backbone, BACKBONES), ('pooling', pooling, POOLINGS),
                                   ('head', head, HEAD_NAMES)):
            if value not in known:
                raise LabError('unknown %s: %s. Choose one of %s.' % (name, value, ', '.join(known)))
        nn.Module.__init__(self)  # not that of background_resnet, because most layers are others
        self.settings = {'backbone': backbone, 'pooling': pooling, 'head': head, 'level': c.LEVEL_DBFS}
        self.pretrained = BACKBONES[backbone]()
        self.pooling = POOLINGS[pooling](self.pretrained.out_channels, backbones.rows_of(self.pretrained))
        self.fc0 = nn.Linear(self.pooling.out_size, embedding_size)
        self.bn0 = nn.BatchNorm1d(embedding_size)
        self.last = nn.Linear(N_CENTRES.get(head, 1) * embedding_size, num_classes, bias=head not in N_CENTRES)

    def forward(self, x):  # (batch, 1, n_dims, n_frames)
        out = self.pretrained(x)  # (batch, channels, rows, columns)
        out = self.pooling(out)  # (batch, pooled)
        spk_embedding = self.fc0(out)  # (batch, embedding_size)
        if self.settings['head'] == 'slides':
            return spk_embedding, self.last(self.bn0(spk_embedding).relu())
        return HEADS[self.settings['head']](self, spk_embedding)
