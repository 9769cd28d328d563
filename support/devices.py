"""GPU or CPU, bfloat16 or float32, one process or several (torchrun)."""
import functools
import importlib.util
import os
import shutil
import sys

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from support.messages import LabError


def get_device(use_cuda):
    """The torch.device to run on: the GPU if it is wanted and there is one."""
    return torch.device('cuda' if use_cuda and torch.cuda.is_available() else 'cpu')


def print_device(use_cuda):
    """Say so in one line where a GPU is wanted and there is none."""
    if use_cuda and not torch.cuda.is_available():
        print('No GPU found: running on the CPU')


def has_bfloat16(device):
    """Whether the hardware multiplies bfloat16 numbers itself: the GPU, or a CPU with AMX or AVX512-BF16."""
    if device.type == 'cuda':
        return torch.cuda.is_bf16_supported(including_emulation=False)
    abilities = torch.cpu.get_capabilities()
    return bool(abilities.get('amx_bf16') or abilities.get('avx512_bf16'))


def mixed_precision(device):
    """Context in which a network computes in bfloat16 where that is faster, and in float32 elsewhere."""
    return torch.autocast(device.type, torch.bfloat16, enabled=has_bfloat16(device))


def has_compiler(device):
    """Whether torch.compile finds what it needs: a C++ compiler for the CPU, Triton for a GPU."""
    if device.type == 'cuda':
        return importlib.util.find_spec('triton') is not None
    return shutil.which(os.environ.get('CXX', 'cl' if os.name == 'nt' else 'g++')) is not None


def join_processes(use_cuda):
    """Become one of the processes that torchrun started: (rank, number of processes); (0, 1) without torchrun.

    On GPUs, each process takes one. Only the one of rank 0 prints. Raises LabError where there are too few GPUs.
    """
    if not dist.is_torchelastic_launched():
        return 0, 1
    if get_device(use_cuda).type == 'cuda':
        local_rank, n_gpus = int(os.environ['LOCAL_RANK']), torch.cuda.device_count()
        if local_rank >= n_gpus:
            raise LabError('This machine has %d GPUs: start torchrun with --nproc_per_node=%d.' % (n_gpus, n_gpus))
        torch.cuda.set_device(local_rank)
        dist.init_process_group('nccl', device_id=torch.device('cuda', local_rank))
    else:
        dist.init_process_group('gloo')
    if dist.get_rank() > 0:
        sys.stdout = open(os.devnull, 'w')
        tqdm.__init__ = functools.partialmethod(tqdm.__init__, disable=True)  # as tqdm's documentation has it
    return dist.get_rank(), dist.get_world_size()


def network_to_train(model, device, use_compile, sync_batchnorm):
    """What runs in training, around the parameters of model: itself, compiled, one process's part of a group."""
    network = model
    if dist.is_initialized():
        if sync_batchnorm and device.type != 'cuda':
            raise LabError('sync_batchnorm = True: PyTorch synchronises BatchNorm on GPUs only. Set it to False.')
        network = DistributedDataParallel(nn.SyncBatchNorm.convert_sync_batchnorm(model) if sync_batchnorm else model)
    if use_compile and not has_compiler(device):
        print('No compiler found: training without torch.compile')
    return torch.compile(network) if use_compile and has_compiler(device) else network


def weight_of_share(n_samples, device):
    """What the loss of this process's share of a batch counts for: 1, unless another process has a larger share.

    DistributedDataParallel averages the gradients of the processes as if their shares were equally large.
    """
    if not dist.is_initialized():
        return 1
    n_all = torch.full((), float(n_samples), device=device)
    dist.all_reduce(n_all)
    return n_samples * dist.get_world_size() / n_all


def follow_first_process(model):
    """Give every process the BatchNorm statistics, or the centres of a loss, of the first, which saves them."""
    if dist.is_initialized():
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)
