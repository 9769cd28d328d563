"""How the learning rate moves, beyond the plateau of the slides. `scheduler_type` in train.py names it."""
from torch import optim

SCHEDULERS = ['plateau', 'cosine', 'onecycle']


def create_scheduler(scheduler_type, optimizer, *, lr, warm_up, n_steps):
    """A scheduler that is stepped after each of n_steps training steps.

    'onecycle': up to lr during the share warm_up of the steps, then down to nothing along a cosine (Smith & Topin 2019,
    "Super-convergence"). 'cosine': from lr down to nothing (Loshchilov & Hutter 2017).
    """
    if scheduler_type == 'cosine':
        return optim.lr_scheduler.CosineAnnealingLR(optimizer, n_steps)
    if warm_up * n_steps == 1:  # PyTorch would divide by zero
        warm_up = warm_up / 2
    return optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=n_steps, pct_start=warm_up, cycle_momentum=False)
