"""Time-delay neural networks: convolutions over the frames alone. The 40 rows of a feature map are the input channels.

Frames beyond the ends of an utterance count as zeros, so a layer gives as many frames as it gets, even for one frame.
"""
import torch
from torch import nn

from deep_dive.resnet_se import SqueezeExcitation
from support.checks import feature_size


def frame_layer(in_channels, out_channels, width=1, dilation=1):
    """A layer that sees `width` frames, `dilation` apart: (batch, in_channels, T) -> (batch, out_channels, T)."""
    padding = dilation * (width // 2)  # as many frames come out as go in
    return nn.Sequential(nn.Conv1d(in_channels, out_channels, width, dilation=dilation, padding=padding),
                         nn.ReLU(), nn.BatchNorm1d(out_channels))


class TDNN(nn.Module):
    """The frame layers of the x-vector network (Snyder et al. 2018). An output sees 7 frames before and 7 after it.

    Theirs is larger (512 channels, 1500 in the last layer) and has two layers between the pooling and the classifier.
    The x-vector is the output of the first of them, as the d-vector is here. They use pooling = 'statistics'.
    Their layers have no zeros at the ends, so they need 15 frames.
    """
    out_channels = 512

    def __init__(self, channels=256):
        super().__init__()
        self.layers = nn.Sequential(
            frame_layer(feature_size(), channels, width=5),  # frames t - 2 to t + 2
            frame_layer(channels, channels, width=3, dilation=2),  # t - 2, t and t + 2 of the layer before
            frame_layer(channels, channels, width=3, dilation=3),  # t - 3, t and t + 3
            frame_layer(channels, channels),  # t alone
            frame_layer(channels, self.out_channels))

    def forward(self, x):  # (batch, 1, n_dims, T)
        return self.layers(x.squeeze(1)).unsqueeze(2)  # (batch, n_dims, T) -> (batch, 512, T) -> (batch, 512, 1, T)


class Res2Layer(nn.Module):
    """A convolution in parts, each of which also sees what the part before it found (Res2Net, Gao et al. 2021).

    The channels are split into parts x1, x2, ... The outputs are y1 = x1, y2 = K2(x2) and yi = Ki(xi + y(i-1)), where
    each K is a frame layer of width 3. Later parts see more frames, so one layer covers several lengths of time.
    """

    def __init__(self, channels, dilation, n_parts=8):
        super().__init__()
        self.n_parts, size = n_parts, channels // n_parts
        self.layers = nn.ModuleList(frame_layer(size, size, 3, dilation) for _ in range(n_parts - 1))

    def forward(self, x):  # (batch, channels, T)
        first, *others = x.chunk(self.n_parts, dim=1)  # each (batch, channels / n_parts, T)
        outputs, before = [first], 0
        for part, layer in zip(others, self.layers):
            before = layer(part + before)
            outputs.append(before)
        return torch.cat(outputs, dim=1)  # (batch, channels, T)


class SERes2Block(nn.Sequential):
    """Two layers that see one frame, a Res2Layer between them, squeeze and excitation, and a residual connection."""

    def __init__(self, channels, dilation):
        super().__init__(frame_layer(channels, channels), Res2Layer(channels, dilation),
                         frame_layer(channels, channels), SqueezeExcitation(channels, channels // 4))

    def forward(self, x):  # (batch, channels, T)
        return x + super().forward(x)


class ECAPA(nn.Module):
    """ECAPA-TDNN (Desplanques et al. 2020), with 192 channels for their 512 or 1024, and at the end 512 for 1536.

    Each block gets the sum of all outputs before it. The last layer sees the outputs of all three blocks. Their pooling
    weighs the frames of each channel by themselves, and its weights also depend on the mean and deviation of the whole
    utterance. pooling = 'attentive' is close, but gives a frame one weight for all channels, and looks at it alone.
    """
    out_channels = 512

    def __init__(self, channels=192):
        super().__init__()
        self.first = frame_layer(feature_size(), channels, width=5)
        self.blocks = nn.ModuleList(SERes2Block(channels, dilation) for dilation in (2, 3, 4))
        self.last = nn.Sequential(nn.Conv1d(3 * channels, self.out_channels, kernel_size=1), nn.ReLU())

    def forward(self, x):  # (batch, 1, n_dims, T)
        total = self.first(x.squeeze(1))  # (batch, n_dims, T) -> (batch, 192, T)
        outputs = []
        for block in self.blocks:
            outputs.append(block(total))  # (batch, 192, T)
            total = total + outputs[-1]
        return self.last(torch.cat(outputs, dim=1)).unsqueeze(2)  # (batch, 576, T) -> (batch, 512, 1, T)
