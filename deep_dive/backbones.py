"""Networks that can replace the ResNet, and ways to make one vector of a map of any length.

`backbone` and `pooling` in deep_dive/train.py name one of BACKBONES and POOLINGS. networks.py adds the ResNets. A
backbone turns (batch, 1, n_dims, n_frames) into a map (batch, out_channels, rows, columns). A pooling turns the map
into (batch, out_size).

To add a backbone or a pooling, write one class, here or in a file of its own, and one entry in BACKBONES or POOLINGS.
A backbone is made without arguments, and has out_channels. A pooling is made as Pooling(channels, rows), and has
out_size.
"""
import torch
import torch.nn.functional as F
from torch import nn

import configure as c
from deep_dive.conformer import Conformer, LargeConformer
from deep_dive.resnet_se import SEResNet34
from deep_dive.tdnn import ECAPA, TDNN
from support.checks import feature_size


class VGG(nn.Sequential):
    """VGGNet (Simonyan & Zisserman 2015), as small as the lab's ResNet-18. It halves the map three times.

    Theirs has 64 to 512 channels, halves the map five times, and ends in three fully connected layers. It has no
    BatchNorm. Here BatchNorm is added, for the learning rates of the lab.
    """
    out_channels = 128

    def __init__(self):
        layers, in_channels = [], 1
        for channels, n_layers in ((16, 2), (32, 2), (64, 3), (128, 3)):
            if in_channels > 1:
                layers.append(nn.MaxPool2d(2, ceil_mode=True))
            for _ in range(n_layers):
                layers += [nn.Conv2d(in_channels, channels, kernel_size=3, padding=1, bias=False),
                           nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
                in_channels = channels
        super().__init__(*layers)  # (batch, 1, 40, T) -> (batch, 128, 5, T / 8)


class LSTM(nn.Module):
    """Three layers of 256 LSTM cells that read the frames, as in Heigold et al. 2016 and Wan et al. 2018.

    Their networks are larger and use the output at the last frame. Here the pooling gets the outputs at all frames.
    """
    out_channels = 256

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(feature_size(), self.out_channels, num_layers=3, batch_first=True)

    def forward(self, x):  # (batch, 1, n_dims, T)
        out, _ = self.lstm(x.squeeze(1).transpose(1, 2))  # (batch, T, 256)
        return out.transpose(1, 2).unsqueeze(2)  # (batch, 256, 1, T)


class CNNLSTM(nn.Module):
    """Two convolutions that halve the map, then two layers of LSTM that read its columns."""
    out_channels = 256

    def __init__(self):
        super().__init__()
        layers = []
        for in_channels, channels in ((1, 16), (16, 32)):
            layers += [nn.Conv2d(in_channels, channels, kernel_size=3, stride=2, padding=1, bias=False),
                       nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
        self.convolutions = nn.Sequential(*layers)
        rows = -(-feature_size() // 4)  # halved twice, rounded up
        self.lstm = nn.LSTM(32 * rows, self.out_channels, num_layers=2, batch_first=True)

    def forward(self, x):  # (batch, 1, n_dims, T)
        out = self.convolutions(x)  # (batch, 32, n_dims / 4, T / 4)
        out, _ = self.lstm(out.flatten(1, 2).transpose(1, 2))  # (batch, T / 4, 256)
        return out.transpose(1, 2).unsqueeze(2)  # (batch, 256, 1, T / 4)


class AveragePooling(nn.Module):
    """Take the mean of each channel, as in the slides."""

    def __init__(self, channels, rows):
        super().__init__()
        self.out_size = channels

    def forward(self, x):  # (batch, channels, rows, columns)
        return torch.flatten(F.adaptive_avg_pool2d(x, 1), 1)  # (batch, channels)


class StatisticsPooling(nn.Module):
    """Take the mean and standard deviation over time of each channel and row (x-vector, Snyder et al. 2018)."""

    def __init__(self, channels, rows):
        super().__init__()
        self.out_size = 2 * channels * rows

    def forward(self, x):  # (batch, channels, rows, columns)
        h = x.float().flatten(1, 2)  # (batch, channels * rows, columns)
        mean, variance = h.mean(dim=2), h.var(dim=2, correction=0)
        return torch.cat([mean, variance.clamp(min=1e-6).sqrt()], dim=1)  # (batch, 2 * channels * rows)


class AttentivePooling(nn.Module):
    """Take the mean and standard deviation over time, weighted by a small network (Okabe et al. 2018).

    The weights are softmax(e) over the columns, e_t = v tanh(W h_t + b). h_t holds all channels and rows of column t.
    """

    def __init__(self, channels, rows, hidden=64):
        super().__init__()
        self.out_size = 2 * channels * rows
        self.attention = nn.Sequential(nn.Linear(channels * rows, hidden), nn.Tanh(), nn.Linear(hidden, 1))

    def forward(self, x):  # (batch, channels, rows, columns)
        h = x.flatten(1, 2).transpose(1, 2)  # (batch, columns, channels * rows)
        weights = torch.softmax(self.attention(h).float(), dim=1)  # (batch, columns, 1)
        mean = (weights * h).sum(dim=1)  # (batch, channels * rows)
        variance = (weights * (h - mean[:, None]) ** 2).sum(dim=1)
        return torch.cat([mean, variance.clamp(min=1e-6).sqrt()], dim=1)


def rows_of(backbone):
    """The number of rows that the map of a backbone has, with the features that configure.py describes."""
    with torch.no_grad():
        rows = backbone.eval()(torch.zeros(1, 1, feature_size(), c.NUM_WIN_SIZE)).shape[2]
    backbone.train()
    return rows


BACKBONES = {'vgg': VGG, 'lstm': LSTM, 'cnn_lstm': CNNLSTM, 'tdnn': TDNN, 'ecapa': ECAPA, 'resnet_se': SEResNet34,
             'conformer': Conformer, 'conformer_large': LargeConformer}
POOLINGS = {'average': AveragePooling, 'statistics': StatisticsPooling, 'attentive': AttentivePooling}
