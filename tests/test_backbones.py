"""TDNN, ECAPA, ResNet with squeeze and excitation, Conformer: shapes and sizes by hand, ideas computed literally."""
import pytest
import torch

import resnet
from deep_dive.conformer import Conformer, ConformerLayer, ConvolutionModule, LargeConformer, SelfAttention
from deep_dive.networks import BACKBONES, POOLINGS, background_network
from deep_dive.resnet_se import SEBasicBlock, SqueezeExcitation
from deep_dive.tdnn import ECAPA, TDNN, Res2Layer, SERes2Block
from model import load_model
from support.runs import save_checkpoint

# The map of each backbone, and its columns for so many frames
MAPS = {'tdnn': (512, 1, {1: 1, 2: 2, 40: 40, 41: 41, 100: 100, 1003: 1003}),
        'ecapa': (512, 1, {1: 1, 2: 2, 40: 40, 41: 41, 100: 100, 1003: 1003}),
        'resnet_se': (128, 5, {1: 1, 2: 1, 40: 5, 41: 6, 100: 13, 1003: 126}),
        'conformer': (96, 1, {1: 1, 2: 1, 40: 10, 41: 11, 100: 25, 1003: 251}),
        'conformer_large': (4 * 144, 1, {1: 1, 2: 1, 40: 10, 41: 11, 100: 25, 1003: 251})}


def n_parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.fixture(params=MAPS)
def backbone(request):
    torch.manual_seed(0)
    return request.param


def warmed_up(backbone, **settings):
    """A classifier of 7 speakers in eval mode, whose BatchNorm knows a batch of noise."""
    model = background_network(16, 7, backbone, **settings)
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.momentum = 1.0  # one batch tells all
    with torch.no_grad():
        model(3 * torch.randn(8, 1, 40, 41) + 1)
    return model.eval()


# ------------------------------------------------------------------------------------------------- all of them

def test_shapes(backbone):
    channels, rows, columns_of = MAPS[backbone]
    net = BACKBONES[backbone]().eval()
    assert net.out_channels == channels
    with torch.inference_mode():
        for n_frames, columns in columns_of.items():
            batch = 1 if n_frames > 50 else 3
            assert net(torch.randn(batch, 1, 40, n_frames)).shape == (batch, channels, rows, columns)


def frame_layer_parameters(in_channels, out_channels, width):
    """A convolution with bias, and BatchNorm."""
    return in_channels * width * out_channels + out_channels + 2 * out_channels


def linear_parameters(in_size, out_size):
    return in_size * out_size + out_size


def ecapa_parameters():
    block = 2 * frame_layer_parameters(192, 192, 1) + 7 * frame_layer_parameters(24, 24, 3)
    block += linear_parameters(192, 48) + linear_parameters(48, 192)
    return frame_layer_parameters(40, 192, 5) + 3 * block + linear_parameters(3 * 192, 512)


def resnet_se_parameters():
    total, inplanes = 7 * 7 * 16 + 32, 16
    for planes, n_blocks in ((16, 3), (32, 4), (64, 6), (128, 3)):
        for _ in range(n_blocks):
            total += 9 * inplanes * planes + 2 * planes + 9 * planes * planes + 2 * planes
            total += inplanes * planes + 2 * planes if inplanes != planes else 0
            total += linear_parameters(planes, planes // 8) + linear_parameters(planes // 8, planes)
            inplanes = planes
    return total


def conformer_layer_parameters(size):
    feed_forward = 2 * size + linear_parameters(size, 4 * size) + linear_parameters(4 * size, size)
    attention = 2 * size + 3 * linear_parameters(size, size) + linear_parameters(size, size)
    convolution = (2 * size + linear_parameters(size, 2 * size) + 15 * size + 2 * size
                   + linear_parameters(size, size))
    return 2 * feed_forward + attention + convolution + 2 * size


def conformer_parameters():
    convolutions = 9 * 32 + 32 + 9 * 32 * 32 + 32
    return convolutions + linear_parameters(32 * 10, 96) + 3 * conformer_layer_parameters(96)


def conformer_large_parameters():
    convolutions = 9 * 32 + 2 * 32 + 9 * 32 * 32 + 2 * 32  # BatchNorm instead of a bias
    return convolutions + linear_parameters(32 * 10, 144) + 4 * conformer_layer_parameters(144)


SIZES = {'tdnn': frame_layer_parameters(40, 256, 5) + 2 * frame_layer_parameters(256, 256, 3)
         + frame_layer_parameters(256, 256, 1) + frame_layer_parameters(256, 512, 1),
         'ecapa': ecapa_parameters(), 'resnet_se': resnet_se_parameters(), 'conformer': conformer_parameters(),
         'conformer_large': conformer_large_parameters()}


def test_parameters_by_hand(backbone):
    assert n_parameters(BACKBONES[backbone]()) == SIZES[backbone]
    channels, rows, _ = MAPS[backbone]
    pooled, hidden = channels * rows, 64
    for pooling, size, more in (('average', channels, 0), ('statistics', 2 * pooled, 0),
                                ('attentive', 2 * pooled, linear_parameters(pooled, hidden) + hidden + 1)):
        head = linear_parameters(size, 128) + 2 * 128 + linear_parameters(128, 240)
        model = background_network(128, 240, backbone, pooling=pooling)
        assert n_parameters(model) == SIZES[backbone] + more + head


def test_a_gradient_reaches_every_parameter(backbone):
    net = BACKBONES[backbone]()
    out = net(torch.randn(4, 1, 40, 41))
    (out * torch.randn(out.shape)).sum().backward()
    for name, parameter in net.named_parameters():
        parts = parameter.grad.chunk(3) if 'qkv.weight' in name else [parameter.grad]
        assert all(part.norm() > 1e-4 for part in parts), name


@pytest.mark.parametrize('backbone, pooling', [('tdnn', 'average'), ('ecapa', 'attentive'), ('conformer', 'statistics'),
                                               *(('resnet_se', name) for name in POOLINGS)])
def test_one_and_many_agree_in_any_layout(backbone, pooling):
    """Each pooling is on the map of several rows, that of resnet_se."""
    torch.manual_seed(0)
    model = warmed_up(backbone, pooling=pooling)
    with torch.inference_mode():
        for n_frames in (1, 41):
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


# ------------------------------------------------------------------------------------------------- TDNN

def frames_behind(net, x, channel, t):
    """The frames of x (1, ..., T) on which an output (1, channels, ..., T) depends."""
    x = x.clone().requires_grad_()
    net(x).flatten(2)[0, channel, t].sum().backward()
    return x.grad.flatten(0, -2).abs().sum(dim=0).nonzero().flatten().tolist()


def test_contexts_of_the_tdnn():
    torch.manual_seed(0)
    net, x = TDNN().double().eval(), torch.randn(1, 40, 60, dtype=torch.float64)
    contexts = ([-2, -1, 0, 1, 2], [-2, 0, 2], [-3, 0, 3], [0], [0])
    for layer, context in zip(net.layers, contexts):
        assert frames_behind(layer, x, slice(None), 30) == [30 + offset for offset in context]
        x = layer(x).detach()
    assert frames_behind(net, torch.randn(1, 1, 40, 60).double(), slice(None), 30) == list(range(23, 38))


def test_tdnn_hears_nothing_outside_its_context():
    torch.manual_seed(0)
    net, x = TDNN().eval(), torch.randn(1, 1, 40, 60)
    other = torch.randn(1, 1, 40, 60)
    other[..., 23:38] = x[..., 23:38]
    ours, others = net(x)[..., 30], net(other)[..., 30]
    torch.testing.assert_close(ours, others)
    other[..., 37] += 1
    assert (net(other)[..., 30] - ours).abs().max() > 1e-3


def test_a_layer_of_the_tdnn_by_hand():
    torch.manual_seed(0)
    layer, x = TDNN().layers[1].eval(), torch.randn(1, 256, 9)
    weight, bias = layer[0].weight, layer[0].bias
    expected = sum(weight[:, :, k] @ x[0, :, t] for k, t in enumerate((2, 4, 6))) + bias
    torch.testing.assert_close(layer(x)[0, :, 4], torch.relu(expected) / (1 + 1e-5) ** 0.5, atol=1e-5, rtol=1e-4)
    first = weight[:, :, 1] @ x[0, :, 0] + weight[:, :, 2] @ x[0, :, 2] + bias  # zeros stand before the utterance
    torch.testing.assert_close(layer(x)[0, :, 0], torch.relu(first) / (1 + 1e-5) ** 0.5, atol=1e-5, rtol=1e-4)


# ------------------------------------------------------------------------------------------------- ECAPA

def test_res2_by_hand():
    torch.manual_seed(0)
    layer, x = Res2Layer(32, dilation=3).eval(), torch.randn(2, 32, 50)
    expected = [x[:, :4]]
    for i in range(1, 8):
        part = x[:, 4 * i:4 * i + 4]
        expected.append(layer.layers[i - 1](part + expected[-1] if i > 1 else part))
    torch.testing.assert_close(layer(x), torch.cat(expected, dim=1))


def test_later_parts_of_res2_see_more():
    torch.manual_seed(0)
    layer, x = Res2Layer(64, dilation=2).double().eval(), torch.randn(1, 64, 61, dtype=torch.float64)
    assert frames_behind(layer, x, slice(0, 8), 30) == [30]  # y1 = x1
    for i in range(1, 8):  # part 2 sees 2 frames to each side, part 3 sees 4, part 8 sees 14: every second one
        assert frames_behind(layer, x, slice(8 * i, 8 * i + 8), 30) == list(range(30 - 2 * i, 31 + 2 * i, 2))


def test_ecapa_by_hand():
    torch.manual_seed(0)
    net, x = ECAPA().eval(), torch.randn(2, 1, 40, 50)
    for block, dilation in zip(net.blocks, (2, 3, 4)):
        assert {layer[0].dilation for layer in block[1].layers} == {(dilation,)}
    first = net.first(x[:, 0])
    one = net.blocks[0](first)
    two = net.blocks[1](first + one)
    three = net.blocks[2](first + one + two)
    together = torch.einsum('oc,bct->bot', net.last[0].weight[:, :, 0], torch.cat([one, two, three], dim=1))
    expected = torch.relu(together + net.last[0].bias[:, None])
    torch.testing.assert_close(net(x)[:, :, 0], expected, atol=1e-5, rtol=1e-4)


def test_a_block_of_ecapa_adds_its_input():
    block, x = SERes2Block(32, 2).eval(), torch.randn(2, 32, 20)
    torch.nn.init.constant_(block[3].excite[2].bias, -100.0)  # every channel is multiplied by 0
    torch.testing.assert_close(block(x), x)


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


# ------------------------------------------------------------------------------------------------- Conformer

def test_attention_by_hand():
    torch.manual_seed(0)
    layer, x = SelfAttention(12, n_heads=3).double(), torch.randn(2, 7, 12, dtype=torch.float64)
    h = (x - x.mean(dim=2, keepdim=True)) / (x.var(dim=2, keepdim=True, correction=0) + 1e-5).sqrt()
    weight, bias, expected = layer.qkv.weight, layer.qkv.bias, torch.zeros(2, 7, 12, dtype=torch.float64)
    for head in range(3):
        rows = [slice(start + 4 * head, start + 4 * head + 4) for start in (0, 12, 24)]
        for i in range(2):
            q, k, v = (h[i] @ weight[part].T + bias[part] for part in rows)  # (7, 4)
            for t in range(7):
                weights = torch.exp(torch.stack([q[t] @ k[s] / 2 for s in range(7)]))  # 2 is the square root of 4
                expected[i, t, rows[0]] = sum(weights[s] / weights.sum() * v[s] for s in range(7))
    torch.testing.assert_close(layer(x), expected @ layer.out.weight.T + layer.out.bias)


def test_weights_of_attention_sum_to_one():
    """The weighted mean of equal values is that value, whatever the queries and keys."""
    torch.manual_seed(0)
    layer, x = SelfAttention(12, n_heads=3), torch.randn(2, 9, 12)
    torch.nn.init.zeros_(layer.qkv.weight[24:])
    value = layer.qkv.bias[24:]
    expected = layer.out.weight @ value + layer.out.bias
    torch.testing.assert_close(layer(x), expected.expand(2, 9, 12))


def test_only_the_convolutions_know_the_order():
    torch.manual_seed(0)
    x, order = torch.randn(2, 30, 12), torch.randperm(30)
    attention, convolution = SelfAttention(12, n_heads=3), ConvolutionModule(12, width=15).eval()
    torch.testing.assert_close(attention(x[:, order]), attention(x)[:, order], atol=1e-5, rtol=1e-4)
    assert (convolution(x[:, order]) - convolution(x)[:, order]).abs().max() > 0.01

    def over_time(x):  # (1, 12, T)
        return convolution(x.transpose(1, 2)).transpose(1, 2)
    assert frames_behind(over_time, x[:1].transpose(1, 2), slice(None), 15) == list(range(8, 23))


def test_a_conformer_layer_by_hand():
    torch.manual_seed(0)
    layer, x = ConformerLayer(12).eval(), torch.randn(2, 9, 12)
    out = x + layer.before(x) / 2
    out = out + layer.attention(out)
    out = out + layer.convolution(out)
    out = out + layer.after(out) / 2
    out = (out - out.mean(dim=2, keepdim=True)) / (out.var(dim=2, keepdim=True, correction=0) + 1e-5).sqrt()
    torch.testing.assert_close(layer(x), out, atol=1e-5, rtol=1e-4)


def test_every_frame_of_a_conformer_hears_all():
    torch.manual_seed(0)
    net = Conformer().double().eval()
    assert frames_behind(net, torch.randn(1, 1, 40, 100, dtype=torch.float64), 0, 12) == list(range(100))


def test_a_large_conformer_shows_all_its_layers():
    torch.manual_seed(0)
    net, x = LargeConformer().eval(), 60 * torch.randn(2, 1, 40, 50)
    centred = (x - x.mean(dim=3, keepdim=True)) / 20
    out = net.convolutions(centred)  # (2, 32, 10, 13)
    out = torch.stack([net.to_size(out[:, :, :, t].flatten(1)) for t in range(13)], dim=1)
    for number, layer in enumerate(net.layers):
        out = layer(out)
        part = net(x)[:, 144 * number:144 * (number + 1), 0]
        torch.testing.assert_close(part, out.transpose(1, 2), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(net(x + 100), net(x), atol=1e-3, rtol=1e-3)  # a microphone changes nothing


def test_a_checkpoint_of_the_large_conformer_loads(lab):
    torch.manual_seed(0)
    model = background_network(192, 2, 'conformer_large', pooling='attentive', head='cosine').eval()
    layers = [name for name in model.state_dict() if not name.startswith('last.')]
    assert {name.split('.')[0] for name in layers} == {'pretrained', 'pooling', 'fc0', 'bn0'}
    save_checkpoint('checkpoint_1.pth', {'epoch': 2, 'state_dict': model.state_dict(), 'optimizer': {},
                                         **model.settings, 'level': -24})
    loaded, x = load_model(False, '.', 1, 192, 2), torch.randn(2, 1, 40, 70)
    with torch.inference_mode():
        torch.testing.assert_close(loaded(x)[0], model(x)[0])
    assert loaded.settings['level'] == -24
