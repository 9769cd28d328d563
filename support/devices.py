"""GPU or CPU, bfloat16 or float32, and batches."""
import contextlib

import torch

from support.messages import LabError


def get_device(use_cuda, *, say_so=False):
    """The torch.device to run on: the GPU (CUDA) if it is wanted and there is one.

    say_so: print a line if there is none. Apple's GPU (MPS) is not used: its numbers were never compared with
    those of a CPU. A fake device (tests/fake_gpu.py) cannot show them.
    """
    if say_so and use_cuda and not torch.cuda.is_available():
        has_mps = torch.backends.mps.is_available()
        print('%s: running on the CPU' % ("Apple's GPU (MPS) is not used" if has_mps else 'No GPU found'))
    return torch.device('cuda' if use_cuda and torch.cuda.is_available() else 'cpu')


def has_bfloat16(device):
    """Whether the hardware itself multiplies bfloat16 numbers: the GPU, or a CPU with AMX or AVX512-BF16."""
    if device.type == 'cuda':
        return torch.cuda.is_bf16_supported(including_emulation=False)
    abilities = torch.cpu.get_capabilities()
    return bool(abilities.get('amx_bf16') or abilities.get('avx512_bf16'))


def mixed_precision(device):
    """Context in which a network computes in bfloat16 if the hardware can, because that is faster."""
    return torch.autocast(device.type, torch.bfloat16, enabled=has_bfloat16(device))


def in_batches(segments, most=64):
    """Put segments together, at most so many, because a network is a fifth to a quarter faster so.

    segments: list of (1, 1, n_dims, n_frames), all of one length but the last. Returns a list of
    (n, 1, n_dims, n_frames).
    """
    n_full = sum(segment.shape[3] == segments[0].shape[3] for segment in segments)
    batches = [torch.cat(segments[i:min(i + most, n_full)]) for i in range(0, n_full, most)]
    return batches + list(segments[n_full:])


@contextlib.contextmanager
def enough_memory(filename):
    """Raise LabError if the memory is too small for what is computed of a recording within a `with` block.

    PyTorch says so with a RuntimeError, on the CPU and on the GPU. Others are left alone.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and 'memory' not in str(error):
            raise
        raise LabError('%s: too long for the memory. Cut it into segments: --test_frames=200' % filename) from error
