"""Bring the d-vectors of one speaker together, with center loss, or with softmax and an angular margin.

deep_dive/metric_losses.py holds those losses that compare the utterances of a batch with each other.

`loss_type` in deep_dive/train.py names one of LOSSES. Each is called as loss(logits, targets, spk_embedding), of shapes
(batch, n_classes), (batch,) and (batch, embedding_size). `head` names what the network gives to the loss (heads.py).
'normalised' gives the embedding after BatchNorm. 'cosine' gives this embedding, too, and instead of the logits its
cosine similarity to the weights of each class. 'subcenter' does the same with three weight vectors of each class. In
validation the margin is always full, so that epochs can be compared. Parameters of a loss learn as those of the network
do, but torchrun does not average their gradients.

To add a loss, write one class here and one entry in LOSSES. It is made as Loss(n_classes, embedding_size, n_steps).
"""
import math

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn

from deep_dive.metric_losses import METRIC_LOSSES


class CenterLoss(nn.Module):
    """Add to the cross-entropy how far each embedding is from the centre of its class (Wen et al. 2016, ECCV).

    L = cross-entropy + weight / 2 * mean |x - c_y|^2. The loss holds the centres. They follow the embeddings of their
    class by equation 4 of the paper, c_j -= alpha * sum(c_j - x) / (1 + number of x of class j in the batch). The paper
    has sums over the batch where both means are here, and no BatchNorm on x.
    """
    head = 'normalised'  # without BatchNorm, embeddings could come close to the centres just by shrinking

    def __init__(self, n_classes, embedding_size, n_steps, *, weight=0.003, alpha=0.5):
        super().__init__()
        self.weight, self.alpha = weight, alpha
        self.register_buffer('centres', torch.zeros(n_classes, embedding_size))

    def forward(self, logits, targets, spk_embedding):
        away = spk_embedding - self.centres[targets]  # (batch, embedding_size)
        if self.training:
            counts = torch.bincount(targets, minlength=len(self.centres))  # (n_classes,)
            sums = torch.zeros_like(self.centres).index_add_(0, targets, away.detach())
            if dist.is_initialized():  # the centres follow the embeddings of all processes, so they stay the same
                dist.all_reduce(counts)
                dist.all_reduce(sums)
            self.centres += self.alpha * sums / (1 + counts[:, None])
        return F.cross_entropy(logits, targets) + self.weight / 2 * (away ** 2).sum(dim=1).mean()


class ASoftmaxLoss(nn.Module):
    """Multiply the angle to the own class by m = 4 (SphereFace, Liu et al. 2017, CVPR).

    The logit of the own class is |x| psi(theta). Between theta = k pi/4 and (k+1) pi/4, psi(theta) is
    (-1)^k cos(4 theta) - 2k. The other logits are |x| cos(theta). As in the authors' code, psi is replaced by
    (lambda cos + psi) / (1 + lambda). In step n, lambda is 1000 / (1 + 0.12 n), but at least 5. In the paper, there is
    no BatchNorm on x.
    """
    head = 'cosine'

    def __init__(self, n_classes, embedding_size, n_steps, *, lambda_max=1000.0, lambda_min=5.0, decay=0.12):
        super().__init__()
        self.lambda_max, self.lambda_min, self.decay = lambda_max, lambda_min, decay
        self.register_buffer('n_steps', torch.tensor(0))

    def forward(self, cosines, targets, spk_embedding):
        annealing = self.lambda_min
        if self.training:
            self.n_steps += 1
            annealing = torch.clamp(self.lambda_max / (1 + self.decay * self.n_steps), min=self.lambda_min)
        own = cosines.gather(1, targets[:, None])  # (batch, 1)
        k = torch.floor(4 * torch.acos(own.detach().clamp(-1, 1)) / math.pi)
        psi = (1 - 2 * (k % 2)) * (8 * own ** 4 - 8 * own ** 2 + 1) - 2 * k  # 8 x^4 - 8 x^2 + 1 is cos(4 theta)
        softened = (annealing * own + psi) / (1 + annealing)
        lengths = spk_embedding.norm(dim=1, keepdim=True)  # (batch, 1)
        return F.cross_entropy(lengths * cosines.scatter(1, targets[:, None], softened), targets)


class AMSoftmaxLoss(nn.Module):
    """Make the own logit s (cos - m), the others s cos (Wang et al. 2018, "Additive margin softmax"; CosFace).

    The paper has s = 30 and m = 0.35, for faces. Here m is 0.2, as in speaker recognition, where margins are smaller.
    """
    head = 'cosine'

    def __init__(self, n_classes, embedding_size, n_steps, *, margin=0.2, scale=30.0):
        super().__init__()
        self.margin, self.scale = margin, scale

    def forward(self, cosines, targets, spk_embedding):
        return F.cross_entropy(self.scale * (cosines - self.margin * F.one_hot(targets, cosines.shape[1])), targets)


class AAMSoftmaxLoss(nn.Module):
    """Make the own logit s cos(theta + m), the others s cos(theta) (ArcFace, Deng et al. 2019, CVPR).

    The paper has s = 64 and m = 0.5, for faces. Here they are 30 and 0.2, as in speaker recognition (ECAPA-TDNN,
    Desplanques et al. 2020). The paper's margin is constant. Here it grows from 0 to m during the share `ramp` of all
    n_steps training steps, so that the network begins with the easier question.
    """
    head = 'cosine'

    def __init__(self, n_classes, embedding_size, n_steps, *, margin=0.2, scale=30.0, ramp=0.3):
        super().__init__()
        self.margin, self.scale = margin, scale
        self.register_buffer('ramp_steps', torch.tensor(ramp * n_steps))  # saved, so that a run that goes on keeps it
        self.register_buffer('n_steps', torch.tensor(0))

    def forward(self, cosines, targets, spk_embedding):
        margin = torch.tensor(self.margin)
        if self.training:
            self.n_steps += 1
            margin = margin * torch.clamp(self.n_steps / self.ramp_steps, max=1)
        own = cosines.gather(1, targets[:, None]).clamp(-1 + 1e-6, 1 - 1e-6)  # (batch, 1); acos is too steep at 1
        theta = torch.acos(own)
        beyond = own - margin * torch.sin(margin)  # from theta = pi - m on, because cos(theta + m) rises there
        with_margin = torch.where(theta + margin < math.pi, torch.cos(theta + margin), beyond)
        return F.cross_entropy(self.scale * cosines.scatter(1, targets[:, None], with_margin), targets)


class SubcenterLoss(AAMSoftmaxLoss):
    """Give each class K = 3 sub-centres, of which the nearest counts (sub-center ArcFace, Deng et al. 2020, ECCV).

    cos(theta_j) is the largest of cos(x, w_j,1), cos(x, w_j,2) and cos(x, w_j,3). The loss is that of ArcFace. One
    centre forces all recordings of a speaker into one place. With three, noisy or wrongly labelled ones can gather
    around a centre of their own, and disturb the others less. subcenter_head in heads.py takes the largest. s and m are
    those of AAMSoftmaxLoss, where the paper has 64 and 0.5.
    """
    head = 'subcenter'


LOSSES = {'center': CenterLoss, 'asoftmax': ASoftmaxLoss, 'amsoftmax': AMSoftmaxLoss, 'aamsoftmax': AAMSoftmaxLoss,
          'subcenter': SubcenterLoss, **METRIC_LOSSES}
