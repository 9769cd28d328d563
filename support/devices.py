"""GPU or CPU, bfloat16 or float32, and batches."""
import math

import torch

LONGEST = 6000  # frames of a segment: a minute
MOST_FRAMES = 6400  # of the segments that are put together


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
    abilities = getattr(torch.cpu, 'get_capabilities', dict)()  # PyTorch 2.2, of Intel Macs, cannot tell
    return bool(abilities.get('amx_bf16') or abilities.get('avx512_bf16'))


def mixed_precision(device):
    """Context in which a network computes in bfloat16 if the hardware can, because that is faster."""
    return torch.autocast(device.type, torch.bfloat16, enabled=has_bfloat16(device))


def segments_of(x, n_frames):
    """Cut x (1, 1, n_dims, all frames) into segments of n_frames: list of (n, 1, n_dims, n_frames).

    n_frames: None does not cut, unless there is more than LONGEST. Then the segments are as long as each other,
    because a Conformer needs ten minutes for an hour at once. Segments of one length are put together, at most
    MOST_FRAMES, because a network is a fifth to a quarter faster so. The last one may be shorter.
    """
    n_frames = n_frames or math.ceil(x.shape[3] / math.ceil(x.shape[3] / LONGEST))
    segments = x.split(n_frames, dim=3)
    n_full, most = x.shape[3] // n_frames, max(1, MOST_FRAMES // n_frames)
    batches = [torch.cat(segments[i:min(i + most, n_full)]) for i in range(0, n_full, most)]
    return batches + list(segments[n_full:])
