"""The Conformer: attention, which compares all frames, and convolutions, which compare neighbours, in one layer."""
import torch
import torch.nn.functional as F
from torch import nn

from support.checks import feature_size


class FeedForward(nn.Sequential):
    """Two linear layers that treat each frame by itself. SiLU is the swish of the paper: x * sigmoid(x)."""

    def __init__(self, size):
        super().__init__(nn.LayerNorm(size), nn.Linear(size, 4 * size), nn.SiLU(), nn.Linear(4 * size, size))


class SelfAttention(nn.Module):
    """Replace each frame by a weighted mean of all frames, in several heads (Vaswani et al. 2017).

    The weights of frame t are softmax(q_t k_s / sqrt(size of a head)) over all frames s. The mean is that of the v_s.
    q, k and v are linear in the frames.
    """

    def __init__(self, size, n_heads):
        super().__init__()
        self.n_heads = n_heads
        self.norm = nn.LayerNorm(size)
        self.qkv = nn.Linear(size, 3 * size)
        self.out = nn.Linear(size, size)

    def forward(self, x):  # (batch, T, size)
        heads = self.qkv(self.norm(x)).unflatten(2, (3, self.n_heads, -1))  # (batch, T, 3, n_heads, size / n_heads)
        q, k, v = heads.permute(2, 0, 3, 1, 4)  # each (batch, n_heads, T, size / n_heads)
        mean = F.scaled_dot_product_attention(q, k, v)  # never holds all T x T weights, so T may be large
        return self.out(mean.transpose(1, 2).flatten(2))  # (batch, T, n_heads, size / n_heads) -> (batch, T, size)


class ConvolutionModule(nn.Module):
    """A convolution over time in each channel by itself, between two layers that mix the channels of a frame."""

    def __init__(self, size, width):
        super().__init__()
        self.norm = nn.LayerNorm(size)
        self.layers = nn.Sequential(
            nn.Conv1d(size, 2 * size, kernel_size=1), nn.GLU(dim=1),  # one half is multiplied by sigmoid(other half)
            nn.Conv1d(size, size, width, padding=width // 2, groups=size, bias=False),  # BatchNorm has its own bias
            nn.BatchNorm1d(size), nn.SiLU(), nn.Conv1d(size, size, kernel_size=1))

    def forward(self, x):  # (batch, T, size)
        return self.layers(self.norm(x).transpose(1, 2)).transpose(1, 2)  # (batch, size, T) within


class ConformerLayer(nn.Module):
    """Half a feed-forward, attention, convolution, half a feed-forward, each with a residual connection, and a norm."""

    def __init__(self, size, n_heads=4, width=15):
        super().__init__()
        self.before, self.after = FeedForward(size), FeedForward(size)
        self.attention, self.convolution = SelfAttention(size, n_heads), ConvolutionModule(size, width)
        self.norm = nn.LayerNorm(size)

    def forward(self, x):  # (batch, T, size)
        x = x + 0.5 * self.before(x)
        x = x + self.attention(x)
        x = x + self.convolution(x)
        x = x + 0.5 * self.after(x)
        return self.norm(x)


class Conformer(nn.Module):
    """A small Conformer (Gulati et al. 2020): three layers of size 96 behind two convolutions that halve the map.

    Theirs has 16 layers or more, convolutions over 32 frames where 15 are here, dropout, and attention that knows how
    far two frames are apart. Here the attention knows no positions: only the convolutions know the order of the frames.
    So a network that was trained with windows of 1 s takes utterances of any length.
    """
    out_channels = 96

    def __init__(self, n_layers=3):
        super().__init__()
        self.convolutions = nn.Sequential(nn.Conv2d(1, 32, kernel_size=3, stride=2, padding=1), nn.ReLU(),
                                          nn.Conv2d(32, 32, kernel_size=3, stride=2, padding=1), nn.ReLU())
        self.add_layers(self.out_channels, n_layers)

    def add_layers(self, size, n_layers):
        """What stands behind the convolutions: a layer that brings each frame to `size`, and n_layers."""
        rows = -(-feature_size() // 4)  # halved twice, rounded up
        self.to_size = nn.Linear(32 * rows, size)
        self.layers = nn.Sequential(*(ConformerLayer(size) for _ in range(n_layers)))

    def frames(self, x):
        """What the layers get: (batch, 1, n_dims, T) -> (batch, T / 4, size)."""
        out = self.convolutions(x)  # (batch, 32, n_dims / 4, T / 4)
        return self.to_size(out.flatten(1, 2).transpose(1, 2))  # (batch, T / 4, 32 * n_dims / 4) to (.., size)

    def forward(self, x):  # (batch, 1, n_dims, T)
        return self.layers(self.frames(x)).transpose(1, 2).unsqueeze(2)  # (batch, 96, 1, T / 4)


class LargeConformer(Conformer):
    """Four layers of size 144, and the pooling sees the outputs of all of them (MFA-Conformer, Zhang et al. 2022).

    The last layer has lost details that the first ones still hold. The convolutions have BatchNorm, for a higher
    learning rate. Zhang et al. have six layers of size 256, and one more LayerNorm behind the outputs.
    """
    size, n_layers = 144, 4
    out_channels = n_layers * size

    def __init__(self):
        nn.Module.__init__(self)  # not that of Conformer, because its convolutions are others
        self.convolutions = nn.Sequential(
            nn.Conv2d(1, 32, kernel_size=3, stride=2, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(),
            nn.Conv2d(32, 32, kernel_size=3, stride=2, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU())
        self.add_layers(self.size, self.n_layers)

    def forward(self, x):  # (batch, 1, n_dims, T)
        # A feature's mean is 0 over the whole recording, with its silence. Here it is over what the network sees
        out = self.frames((x - x.mean(dim=3, keepdim=True)) / 20)
        outputs = []
        for layer in self.layers:
            out = layer(out)  # (batch, T / 4, size)
            outputs.append(out)
        return torch.cat(outputs, dim=2).transpose(1, 2).unsqueeze(2)  # (batch, n_layers * size, 1, T / 4)
