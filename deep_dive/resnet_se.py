"""ResNet-34 with squeeze and excitation: a network that weighs its channels anew for every utterance."""
from torch import nn

from resnet import BasicBlock, ResNet


class SqueezeExcitation(nn.Module):
    """Multiply each channel by a weight between 0 and 1 that depends on the whole utterance (Hu et al. 2018).

    Squeeze: z is the mean of each channel. Excitation: weights = sigmoid(W2 relu(W1 z + b1) + b2). W1 makes a few
    numbers of all channels, so that the weight of one channel depends on all others. They are a 16th of the channels in
    the paper, here an eighth ('resnet_se') or a quarter ('ecapa'), so that not too few are left. Takes maps and
    sequences.
    """

    def __init__(self, channels, hidden):
        super().__init__()
        self.excite = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels), nn.Sigmoid())

    def forward(self, x):  # (batch, channels, rows, columns) or (batch, channels, columns)
        z = x.flatten(2).mean(dim=2)  # (batch, channels)
        weights = self.excite(z)
        return x * weights.reshape(*z.shape, *[1] * (x.dim() - 2))  # one weight per channel of each utterance


class SEBasicBlock(BasicBlock):
    """The block of ResNet-34 that weighs its channels before it adds the residual."""

    def __init__(self, inplanes, planes, stride=1, downsample=None):
        super().__init__(inplanes, planes, stride, downsample)
        self.se = SqueezeExcitation(planes, planes // 8)

    def forward(self, x):
        residual = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.se(self.bn2(self.conv2(out)))
        return self.relu(out + residual)


class SEResNet34(ResNet):
    """ResNet-34 with squeeze and excitation in every block, as in the VoxCeleb baselines of Chung et al. 2020.

    Theirs ("Fast ResNet-34") has as many blocks and channels, but the ReLU of a block comes before its BatchNorm. It
    halves the rows in its first layer, but not the map in its last. Here everything but the weights of the channels is
    as in 'resnet34', so that the two can be compared.
    """

    def __init__(self):
        super().__init__(SEBasicBlock, [3, 4, 6, 3])  # (batch, 1, 40, T) -> (batch, 128, 5, T / 8)
