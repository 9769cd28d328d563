"""One process or several: torchrun starts them, on several GPUs or on the CPU.

Each process trains on its share of every batch, and they exchange the gradients. Every function here does nothing if
there is only one process.
"""
import functools
import os
import sys

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import BatchSampler, DataLoader, DistributedSampler, RandomSampler, SequentialSampler
from tqdm import tqdm

from support.devices import get_device
from support.messages import LabError


def join_processes(use_cuda):
    """Become one of the processes that torchrun started. On GPUs, each process takes one. Only the first one prints."""
    if not dist.is_torchelastic_launched():
        return
    if get_device(use_cuda).type == 'cuda':
        local_rank, n_gpus = int(os.environ['LOCAL_RANK']), torch.cuda.device_count()
        if local_rank >= n_gpus:
            raise LabError('This machine has %d GPUs: start torchrun with --nproc_per_node=%d.' % (n_gpus, n_gpus))
        torch.cuda.set_device(local_rank)
        dist.init_process_group('nccl', device_id=torch.device('cuda', local_rank))
    else:
        dist.init_process_group('gloo')
    if rank() > 0:
        sys.stdout = open(os.devnull, 'w', encoding='utf-8')
        tqdm.__init__ = functools.partialmethod(tqdm.__init__, disable=True)  # as tqdm's documentation says


def rank():
    """The number of this process: 0 for the first one, and if there is only one."""
    return dist.get_rank() if dist.is_initialized() else 0


def first_process_first(function, *arguments):
    """Call a function in the first process, and after that in the others."""
    if rank() > 0:
        dist.barrier()
    function(*arguments)
    if dist.is_initialized() and rank() == 0:
        dist.barrier()


def share_loaders(train_loader, valid_loader, seed):
    """Loaders like these two for the share of this process. The batches of all processes make one batch together.

    Whole validation batches are shared, because padding depends on the batch. Raises LabError for too small a batch.
    """
    if not dist.is_initialized():
        return train_loader, valid_loader
    dataset, n_processes = train_loader.dataset, dist.get_world_size()
    batch_size = train_loader.batch_size // n_processes
    if batch_size < 2:
        raise LabError('batch_size = %d for %d processes: BatchNorm needs at least 2 utterances in each.\nRaise '
                       'batch_size, or start fewer processes.' % (train_loader.batch_size, n_processes))
    sampler = NewOrderEachEpoch(dataset, shuffle=isinstance(train_loader.sampler, RandomSampler), seed=seed)
    batches = list(BatchSampler(SequentialSampler(valid_loader.dataset), valid_loader.batch_size, drop_last=False))
    options = {'num_workers': train_loader.num_workers, 'pin_memory': train_loader.pin_memory}
    if rank() > 0:
        torch.manual_seed(seed + rank())  # other random windows in each process
    return (DataLoader(dataset, batch_size, sampler=sampler, drop_last=len(sampler) % batch_size == 1, **options),
            DataLoader(valid_loader.dataset, batch_sampler=batches[rank()::n_processes],
                       collate_fn=valid_loader.collate_fn, **options))


class NewOrderEachEpoch(DistributedSampler):
    """A DistributedSampler that needs nobody to tell it the number of the epoch."""

    def __iter__(self):
        self.set_epoch(self.epoch + 1)
        return super().__iter__()


def network_to_train(model):
    """The network to train around the parameters of a model: the model itself, or one that exchanges gradients."""
    return DistributedDataParallel(model) if dist.is_initialized() else model


def follow_first_process(model):
    """Give every process the BatchNorm statistics of the first one, because that one is saved."""
    if dist.is_initialized():
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)


def average_over_processes(averages, device):
    """The averages over what all processes have seen. averages: (average, how many samples it is of) of the
    training loss, the validation loss and the accuracy.

    Returns a list of numbers. They are printed, too, because train() and validate() print those of the first process.
    """
    if not dist.is_initialized():
        return [average for average, _ in averages]
    sums = torch.tensor([[average * n, n] for average, n in averages], dtype=torch.float64, device=device)
    dist.all_reduce(sums)
    means = (sums[:, 0] / sums[:, 1]).tolist()
    print('  * All processes: training loss %.4f, validation loss %.4f, accuracy %.4f' % tuple(means), flush=True)
    return means


def leave_processes():
    """End the group. Only the first process goes on.

    The others end without Python's own clean-up, because a thread of PyTorch that still holds shared numbers can abort
    it ("terminate called without an active exception").
    """
    if dist.is_initialized():
        number = rank()
        dist.destroy_process_group()
        if number > 0:
            os._exit(0)
