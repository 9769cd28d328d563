"""Compare the utterances of a batch with each other: ge2e, prototypical, triplet. They need `batch_speakers`.

A batch is P speakers x K utterances (deep_dive/batches.py). The metric loss moves d-vectors of one speaker together and
those of two speakers apart. It compares utterances, as the test does.

In training, the loss is the metric loss + cross-entropy of the logits. In validation, it is the cross-entropy alone.
Why add cross-entropy? It teaches the last layer, so that the accuracy means something. It compares with all training
speakers, not only with P. Kwon et al. 2021 (ICASSP, "The ins and outs of speaker recognition") add the two as well.
Why leave the metric loss out in validation? It depends on who else is in the batch. A validation batch is not made of
P x K utterances. Cross-entropy of validation can be compared with that of softmax. The training loss cannot: it is a
sum of two, so it lies higher.

deep_dive/losses.py says how a loss is called. `head` is 'normalised', because cosines of vectors around 0 differ more.
"""
import torch
import torch.nn.functional as F
from torch import nn


def by_speaker(spk_embedding, targets):
    """The embeddings of P speakers, K of each, in their order: (batch, size) -> (P, K, size)."""
    n_each = int((targets == targets[0]).sum())
    return spk_embedding[targets.argsort(stable=True)].reshape(-1, n_each, spk_embedding.shape[1])


class MetricLoss(nn.Module):
    """What the three have in common: cross-entropy of the logits, and in training the metric loss of the embeddings."""
    head = 'normalised'

    def forward(self, logits, targets, spk_embedding):
        cross_entropy = F.cross_entropy(logits, targets)
        return cross_entropy + self.metric(spk_embedding, targets) if self.training else cross_entropy


class ScaledLoss(MetricLoss):
    """A metric loss of w cos + b. Scale w > 0 and offset b are learned, from 10 and -5 on as in Wan et al. 2018.

    softplus(x) = log(1 + e^x) keeps w above 0, and is nearly x at 10. Wan et al. and Chung et al. both have b, but it
    cannot change a softmax over the speakers: it is added to all their scores. Wan et al. multiply the gradients of w
    and b by 0.01. Here they learn as the network does: one rate for all is simpler.
    """
    def __init__(self, n_classes, embedding_size, n_steps):
        super().__init__()
        self.scale, self.offset = nn.Parameter(torch.tensor(10.0)), nn.Parameter(torch.tensor(-5.0))

    def scaled(self, cosines):
        return F.softplus(self.scale) * cosines + self.offset


class GE2ELoss(ScaledLoss):
    """Compare each utterance with the mean of each speaker (generalised end-to-end, Wan et al. 2018, ICASSP).

    e_ji: the embedding of utterance i of speaker j, of unit length. The centroid c_k is the mean of the K embeddings of
    speaker k. For k = j, e_ji itself is left out, because it would make the comparison too easy. S_ji,k is
    w cos(e_ji, c_k) + b. The loss is the mean of -S_ji,j + log sum_k exp(S_ji,k), the cross-entropy among P speakers.
    The paper takes the sum, clips the gradient, and has no cross-entropy over all speakers beside it.
    """

    def metric(self, spk_embedding, targets):
        e = by_speaker(F.normalize(spk_embedding), targets)  # (P, K, size)
        n_speakers, n_each, _ = e.shape
        centroids = F.normalize(e.mean(dim=1))  # (P, size)
        without_itself = F.normalize(e.sum(dim=1, keepdim=True) - e, dim=2)  # (P, K, size)
        own = (e * without_itself).sum(dim=2, keepdim=True)  # (P, K, 1)
        is_own = torch.eye(n_speakers, dtype=torch.bool, device=e.device)[:, None]  # (P, 1, P)
        scores = self.scaled(torch.where(is_own, own, e @ centroids.T))  # (P, K, P)
        who = torch.arange(n_speakers, device=e.device).repeat_interleave(n_each)  # (P * K,)
        return F.cross_entropy(scores.flatten(0, 1), who)


class PrototypicalLoss(ScaledLoss):
    """Enrol with K - 1 utterances, and test with the last (angular prototypical, Chung et al. 2020, Interspeech).

    x_j,i: embedding i of speaker j. The prototype c_k is the mean of x_k,1 ... x_k,K-1, and the query is x_j,K. S_j,k
    is w cos(x_j,K, c_k) + b. The loss is the mean of -S_j,j + log sum_k exp(S_j,k) over the P speakers. The paper is
    "In defence of metric learning for speaker recognition". It has this loss alone, without the cross-entropy.
    """

    def metric(self, spk_embedding, targets):
        x = by_speaker(spk_embedding, targets)  # (P, K, size)
        prototypes, queries = x[:, :-1].mean(dim=1), x[:, -1]  # (P, size) each
        scores = self.scaled(F.normalize(queries) @ F.normalize(prototypes).T)  # (P, P)
        return F.cross_entropy(scores, torch.arange(len(x), device=x.device))


class TripletLoss(MetricLoss):
    """Take an anchor a, another utterance p of its speaker and one n of another speaker (FaceNet, Schroff et al. 2015).

    p shall be nearer to a than n is, by the margin m: max(0, cos(a, n) - cos(a, p) + m). The loss is the mean over all
    pairs (a, p) of the batch. The paper takes squared distances. These are 2 - 2 cos, so its margin of 0.2 would be 0.1
    here. Most n are so far away that they teach nothing. The most similar n of all may let all embeddings fall
    together, says the paper. So n is semi-hard: of those less similar to a than p is, the most similar. If there is
    none, n is the least similar of all.
    """
    def __init__(self, n_classes, embedding_size, n_steps, *, margin=0.2):
        super().__init__()
        self.margin = margin

    def metric(self, spk_embedding, targets):
        x = F.normalize(spk_embedding)
        cosines, is_same = x @ x.T, targets[:, None] == targets  # (batch, batch) each
        anchor, positive = torch.nonzero(is_same.fill_diagonal_(False), as_tuple=True)  # (n_pairs,) each
        own = cosines[anchor, positive]  # (n_pairs,)
        others, is_other = cosines[anchor], targets[anchor][:, None] != targets  # (n_pairs, batch) each
        is_semi_hard = is_other & (others < own[:, None])
        semi_hard = others.masked_fill(~is_semi_hard, -torch.inf).amax(dim=1)
        easiest = others.masked_fill(~is_other, torch.inf).amin(dim=1)
        negative = torch.where(is_semi_hard.any(dim=1), semi_hard, easiest)
        return F.relu(negative - own + self.margin).mean()


METRIC_LOSSES = {'ge2e': GE2ELoss, 'prototypical': PrototypicalLoss, 'triplet': TripletLoss}
