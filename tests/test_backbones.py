"""ResNet with squeeze and excitation: shapes and sizes by hand, ideas computed literally."""
import pytest
import torch

import model as lab_model
import resnet
from deep_dive.resnet_se import SEBasicBlock, SqueezeExcitation

# The map of each backbone, and its columns for so many frames
MAPS = {'resnet_se': (128, 5, {1: 1, 2: 1, 40: 5, 41: 6, 100: 13, 1003: 126})}


def n_parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.fixture(params=MAPS)
def backbone(request):
    torch.manual_seed(0)
    return request.param


def warmed_up(backbone, **settings):
    """A classifier of 7 speakers in eval mode, whose BatchNorm has seen some noise."""
    model = lab_model.background_resnet(16, 7, backbone, **settings)
    with torch.no_grad():
        for _ in range(20):
            model(3 * torch.randn(4, 1, 40, 50) + 1)
    return model.eval()


# ------------------------------------------------------------------------------------------------- all of them

def test_shapes(backbone):
    channels, rows, columns_of = MAPS[backbone]
    net = lab_model.BACKBONES[backbone]().eval()
    assert net.out_channels == channels
    with torch.inference_mode():
        for n_frames, columns in columns_of.items():
            for batch in (1, 3):
                assert net(torch.randn(batch, 1, 40, n_frames)).shape == (batch, channels, rows, columns)


def linear_parameters(in_size, out_size):
    return in_size * out_size + out_size


def resnet_se_parameters():
    total, inplanes = 7 * 7 * 16 + 32, 16
    for planes, n_blocks in ((16, 3), (32, 4), (64, 6), (128, 3)):
        for _ in range(n_blocks):
            total += 9 * inplanes * planes + 2 * planes + 9 * planes * planes + 2 * planes
            total += inplanes * planes + 2 * planes if inplanes != planes else 0
            total += linear_parameters(planes, planes // 8) + linear_parameters(planes // 8, planes)
            inplanes = planes
    return total


SIZES = {'resnet_se': resnet_se_parameters()}


def test_parameters_by_hand(backbone):
    assert n_parameters(lab_model.BACKBONES[backbone]()) == SIZES[backbone]
    channels, rows, _ = MAPS[backbone]
    pooled, hidden = channels * rows, 64
    for pooling, size, more in (('average', channels, 0), ('statistics', 2 * pooled, 0),
                                ('attentive', 2 * pooled, linear_parameters(pooled, hidden) + hidden + 1)):
        head = linear_parameters(size, 128) + 2 * 128 + linear_parameters(128, 240)
        model = lab_model.background_resnet(128, 240, backbone, pooling=pooling)
        assert n_parameters(model) == SIZES[backbone] + more + head


def test_a_gradient_reaches_every_parameter(backbone):
    net = lab_model.BACKBONES[backbone]()
    out = net(torch.randn(4, 1, 40, 41))
    (out * torch.randn(out.shape)).sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad.norm() > 1e-4, name


@pytest.mark.parametrize('pooling', lab_model.POOLINGS)
def test_one_and_many_agree_in_any_layout(backbone, pooling):
    model = warmed_up(backbone, pooling=pooling)
    with torch.inference_mode():
        for n_frames in (1, 40, 77):
            x = torch.randn(3, 1, 40, n_frames)
            embedding, logits = model(x)
            for i in range(3):
                one_embedding, one_logits = model(x[i:i + 1])
                torch.testing.assert_close(one_embedding[0], embedding[i], atol=1e-4, rtol=1e-4)
                torch.testing.assert_close(one_logits[0], logits[i], atol=1e-4, rtol=1e-4)
            channels_last = model.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
            torch.testing.assert_close(channels_last[0], embedding, atol=1e-4, rtol=1e-4)


def test_an_utterance_of_a_minute(backbone):
    with torch.inference_mode():
        embedding, _ = warmed_up(backbone)(torch.randn(1, 1, 40, 6000))
    assert embedding.isfinite().all()


# ------------------------------------------------------------------------------------------------- squeeze, excitation

@pytest.mark.parametrize('shape', [(2, 8, 5, 13), (2, 8, 20)])
def test_squeeze_and_excitation_by_hand(shape):
    torch.manual_seed(0)
    layer, x = SqueezeExcitation(8, 3), torch.randn(shape)
    for i in range(2):
        z = torch.stack([x[i, channel].mean() for channel in range(8)])
        hidden = torch.relu(layer.excite[0].weight @ z + layer.excite[0].bias)
        weights = 1 / (1 + torch.exp(-(layer.excite[2].weight @ hidden + layer.excite[2].bias)))
        assert ((0 < weights) & (weights < 1)).all()
        for channel in range(8):
            torch.testing.assert_close(layer(x)[i, channel], weights[channel] * x[i, channel])


def test_se_block_between_all_and_nothing():
    torch.manual_seed(0)
    plain, block, x = resnet.BasicBlock(16, 16).eval(), SEBasicBlock(16, 16).eval(), torch.randn(2, 16, 6, 6)
    block.load_state_dict({**block.state_dict(), **plain.state_dict()})
    torch.nn.init.constant_(block.se.excite[2].bias, 100.0)  # every channel is multiplied by 1
    torch.testing.assert_close(block(x), plain(x))
    torch.nn.init.constant_(block.se.excite[2].bias, -100.0)  # by 0
    torch.testing.assert_close(block(x), torch.relu(x))
