"""Losses that bring the d-vectors of one speaker together: center loss, and softmax with an angular margin.

`loss_type` in train.py names one of LOSSES. Each is called as loss(logits, targets, spk_embedding): (batch, n_classes),
(batch,) and (batch, embedding_size). `head` says what the network hands it (model.py): 'normalised', the embedding
after BatchNorm, or 'cosine', that and the cosines of its angle to the weights of each class in place of logits. In
validation every margin is the full one, so that epochs can be compared.

One more loss takes one class here and one entry in LOSSES.
"""
import math

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn


class CenterLoss(nn.Module):
    """Softmax, and the distance of each embedding from the centre of its class (Wen et al. 2016, ECCV).

    L = cross-entropy + weight / 2 * mean |x - c_y|^2. The centres are parameters of the loss that follow the embeddings
    of their class by equation 4 of the paper: c_j -= alpha * sum(c_j - x) / (1 + number of x of class j in the batch).
    """
    head = 'normalised'  # before BatchNorm, embeddings could come close to the centres by getting smaller

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
    """SphereFace (Liu et al. 2017, CVPR): the angle to the own class is multiplied by m = 4.

    The own class gets |x| psi(theta), psi(theta) = (-1)^k cos(4 theta) - 2k for theta in [k pi/4, (k+1) pi/4], the
    others |x| cos(theta). With the annealing of the authors' code, (lambda cos + psi) / (1 + lambda) stands for psi,
    lambda falling from 1000 to 5 as 1000 / (1 + 0.12 n) in step n.
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
    """Additive margin (Wang et al. 2018, "Additive margin softmax"; CosFace): own class s (cos - m), others s cos."""
    head = 'cosine'

    def __init__(self, n_classes, embedding_size, n_steps, *, margin=0.2, scale=30.0):
        super().__init__()
        self.margin, self.scale = margin, scale

    def forward(self, cosines, targets, spk_embedding):
        return F.cross_entropy(self.scale * (cosines - self.margin * F.one_hot(targets, cosines.shape[1])), targets)


class AAMSoftmaxLoss(nn.Module):
    """Additive angular margin (ArcFace, Deng et al. 2019, CVPR): own class s cos(theta + m), others s cos(theta).

    The margin grows from 0 to m during the first `ramp` of all n_steps training steps: from the start, it would keep a
    network from learning.
    """
    head = 'cosine'

    def __init__(self, n_classes, embedding_size, n_steps, *, margin=0.2, scale=30.0, ramp=0.3):
        super().__init__()
        self.margin, self.scale = margin, scale
        self.register_buffer('ramp_steps', torch.tensor(ramp * n_steps))  # a run that goes on keeps its own
        self.register_buffer('n_steps', torch.tensor(0))

    def forward(self, cosines, targets, spk_embedding):
        margin = torch.tensor(self.margin)
        if self.training:
            self.n_steps += 1
            margin = margin * torch.clamp(self.n_steps / self.ramp_steps, max=1)
        own = cosines.gather(1, targets[:, None]).clamp(-1 + 1e-6, 1 - 1e-6)  # (batch, 1); acos has no slope at 1
        theta = torch.acos(own)
        beyond = own - margin * torch.sin(margin)  # from theta = pi - m on, where cos(theta + m) would rise again
        with_margin = torch.where(theta + margin < math.pi, torch.cos(theta + margin), beyond)
        return F.cross_entropy(self.scale * cosines.scatter(1, targets[:, None], with_margin), targets)


LOSSES = {'center': CenterLoss, 'asoftmax': ASoftmaxLoss, 'amsoftmax': AMSoftmaxLoss, 'aamsoftmax': AAMSoftmaxLoss}
