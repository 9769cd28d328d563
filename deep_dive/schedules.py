"""How the learning rate moves. `scheduler_type` in train.py names it."""
from torch import optim

from support.messages import LabError

SCHEDULERS = ['plateau', 'cosine', 'onecycle']


def create_scheduler(scheduler_type, optimizer, *, lr, patience, min_lr, warm_up, n_steps):
    """What moves the learning rate. Raises LabError for an unknown name.

    'plateau': divided by 10 after `patience` epochs without a lower validation loss, never below min_lr; stepped once
    an epoch. 'onecycle': up to lr during the share warm_up of all n_steps training steps, then down to nothing along a
    cosine (Smith & Topin 2019, "Super-convergence"). 'cosine': from lr down to nothing (Loshchilov & Hutter 2017). Both
    are stepped once a training step.
    """
    if scheduler_type not in SCHEDULERS:
        raise LabError('unknown scheduler_type: %s. Choose one of %s.' % (scheduler_type, ', '.join(SCHEDULERS)))
    if not 0 < warm_up < 1:
        raise LabError('warm_up = %s: it is a share of the training, above 0 and below 1.' % warm_up)
    if scheduler_type == 'plateau':
        return optim.lr_scheduler.ReduceLROnPlateau(optimizer, 'min', patience=patience, min_lr=min_lr)
    if scheduler_type == 'cosine':
        return optim.lr_scheduler.CosineAnnealingLR(optimizer, n_steps)
    return optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=n_steps, pct_start=warm_up, cycle_momentum=False)
