"""Run the lab on a GPU that does not exist. Print a line for each part: its name, then 'ok' or the error.

    python tests/fake_gpu.py

PyTorch's FakeTensorMode knows the shape and the device of a tensor, and no numbers. As on a real GPU, an
operation on tensors of two devices raises. PyTorch for the CPU cannot fake a device 'cuda': gradients there
end the process. So the device has another name. It is registered for the whole process. That is why this is
a program of its own. Numbers, speed, bfloat16 and memory cannot be faked.
"""
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils import backend_registration

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import model as lab_model  # noqa: E402
import train  # noqa: E402
from deep_dive import backends, calibration, networks  # noqa: E402
from deep_dive.losses import LOSSES  # noqa: E402
from support import devices  # noqa: E402

NAME = 'fakegpu'
N_EACH, N_SPEAKERS, SIZE = 2, 4, 16  # a batch is N_SPEAKERS x N_EACH utterances
rng = np.random.default_rng(0)


class FakeMode(FakeTensorMode):
    avoid_device_init = True  # do not compute constants on the GPU: it cannot


class FakeNumbers(TorchFunctionMode):
    """Gives numbers where the lab reads one, or needs one to know a shape. A GPU has no numpy arrays."""

    def __torch_function__(self, function, types, arguments=(), keywords=None):
        name, keywords = getattr(function, '__name__', ''), keywords or {}
        if name == 'numpy':
            if arguments[0].device.type == NAME:
                raise TypeError("can't convert a tensor on the GPU to numpy. Use Tensor.cpu() first")
            numbers = rng.normal(size=tuple(arguments[0].shape))
            is_square = numbers.ndim == 2 and len(numbers) == len(numbers.T)
            return numbers @ numbers.T if is_square else numbers  # a covariance is positive definite
        if name in ('item', '__float__', '__int__', '__bool__'):
            return {'__int__': N_EACH, '__bool__': True}.get(name, 0.5)
        if name == 'bincount':
            return torch.zeros(keywords['minlength'], dtype=torch.int64, device=arguments[0].device)
        if name == 'nonzero':
            return tuple(torch.zeros(5, dtype=torch.int64, device=arguments[0].device) for _ in range(2))
        return function(*arguments, **keywords)


class Backend(backend_registration._DummyBackendModule):
    def get_amp_supported_dtype(self):
        return [torch.bfloat16]


class Batches(list):
    """Stands for a DataLoader."""
    sampler = range(N_EACH * N_SPEAKERS)


class Utterances:
    """Stands for a training set."""
    filenames = ['train/%d/%d.wav' % (i % N_SPEAKERS, i) for i in range(24)]
    labels = [i % N_SPEAKERS for i in range(24)]

    def __len__(self):
        return len(self.labels)

    def feature(self, i):
        return rng.normal(size=(150 + 10 * i, 40)).astype(np.float32)


def move(module, function):
    """Stands for nn.Module._apply, which cannot exchange the parameters of a fake network."""
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                part._parameters[name] = nn.Parameter(function(parameter.detach()), parameter.requires_grad)
        for name, buffer in part._buffers.items():
            part._buffers[name] = None if buffer is None else function(buffer)
    return module


def make_gpu():
    """Let get_device find the fake GPU."""
    backend_registration._setup_privateuseone_for_python_backend(NAME, Backend())
    nn.Module._apply = move
    devices.has_bfloat16 = lambda device: False
    calibration.origin_of = lambda filename: {'LEVEL_DBFS': None}  # there are no such files
    for module in (devices, lab_model, train, backends):
        module.get_device = lambda use_cuda, **_: torch.device(NAME if use_cuda else 'cpu')


def batches(n_frames=100):
    targets = torch.arange(N_SPEAKERS).repeat(N_EACH)
    return Batches([(torch.zeros(len(targets), 1, 40, n_frames), targets)])


def learn(network='resnet18', pooling='average', loss='softmax', optimizer='sgd', go_on=False):
    """Train for an epoch as deep_dive/train.py does, validate, and get a d-vector."""
    device = devices.get_device(True)
    criterion = nn.CrossEntropyLoss()
    if loss != 'softmax':
        criterion = LOSSES[loss](N_SPEAKERS, SIZE, 10).to(device)
    head = getattr(criterion, 'head', 'slides')
    model = networks.background_network(SIZE, N_SPEAKERS, network, pooling, head)
    model.to(device, memory_format=torch.channels_last)
    optimizer = train.create_optimizer(optimizer, nn.ModuleList([model, criterion]), 0.1, 1e-4)
    if go_on:  # as Run.go_on of support/runs.py, after epochs on the CPU
        state = optimizer.state_dict()
        state['state'] = {i: {'momentum_buffer': torch.zeros(parameter.shape)}
                          for i, parameter in enumerate(model.parameters())}
        optimizer.load_state_dict(state)
        model.load_state_dict({name: tensor.cpu() for name, tensor in model.state_dict().items()})
    for part in (model, criterion):
        assert {tensor.device.type for tensor in part.state_dict().values()} <= {NAME}
    train.train(batches(), model, criterion, optimizer, True, 1, N_SPEAKERS)
    train.validate(batches(130), model, criterion, True, 1)
    vector = lab_model.embed_feature(True, rng.normal(size=(250, 40)), model, 100)
    assert vector.device.type == 'cpu' and vector.shape == (1, SIZE)
    return model


def learn_as_the_slides():
    """The network and the loss of the lesson, by train.py's own functions."""
    model = lab_model.background_resnet(SIZE, N_SPEAKERS)
    model.to(devices.get_device(True), memory_format=torch.channels_last)
    optimizer = train.create_optimizer('sgd', model, 0.1, 1e-4)
    train.train(batches(), model, nn.CrossEntropyLoss(), optimizer, True, 1, N_SPEAKERS)
    train.validate(batches(), model, nn.CrossEntropyLoss(), True, 1)


def calibrate():
    """Thresholds and backends of a network on the GPU. The d-vectors come back as random numbers."""
    model = learn('tdnn')  # it is small
    found = calibration.measure_best(model, Utterances(), Utterances(), True, 24)
    assert {'mean', 'wccn', 'plda_within', 'thresholds'} <= found.keys()


def forget_the_batch():
    """Leave a batch on the CPU. This must raise."""
    learn_as_the_slides()
    lab_model.background_resnet(SIZE, N_SPEAKERS).to(NAME)(batches()[0][0])


def forget_the_loss():
    """Leave a loss on the CPU. This must raise."""
    vectors, targets = torch.zeros(8, SIZE, device=NAME), batches()[0][1].to(NAME)
    LOSSES['center'](N_SPEAKERS, SIZE, 10)(torch.zeros(8, N_SPEAKERS, device=NAME), targets, vectors)


def forget_to_come_back():
    """Make an array of a d-vector on the GPU. This must raise."""
    torch.zeros(1, SIZE, device=NAME).numpy()


MUST_RAISE = [forget_the_batch, forget_the_loss, forget_to_come_back]
SAME = ['resnet18', 'resnet34', 'resnet101', 'resnet152', 'lstm', 'conformer', 'tdnn']  # made of the same blocks
PARTS = {
    'the slides': learn_as_the_slides, 'calibration': calibrate,
    'a run of the CPU goes on': lambda: learn(go_on=True),
    **{'optimizer %s' % name: (lambda name=name: learn('tdnn', optimizer=name)) for name in train.OPTIMIZERS},
    **{'backbone %s' % name: (lambda name=name: learn(name))
       for name in networks.BACKBONES if name not in SAME},
    **{'pooling %s' % name: (lambda name=name: learn('tdnn', pooling=name)) for name in ('statistics', 'attentive')},
    **{'loss %s' % name: (lambda name=name: learn('tdnn', loss=name)) for name in LOSSES},  # and heads
    **{function.__name__: function for function in MUST_RAISE}}


def main():
    make_gpu()
    for name, part in PARTS.items():
        try:
            with FakeMode(allow_non_fake_inputs=True), FakeNumbers():
                part()
            result = 'ok'
        except Exception as error:  # whatever it is, the test shows it
            result = '%s: %s' % (type(error).__name__, ' '.join(str(error).split())[:300])
        print('\n> %s: %s' % (name, result), flush=True)


if __name__ == '__main__':
    main()
