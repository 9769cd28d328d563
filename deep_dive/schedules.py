"""A learning rate that rises for as long as one likes: `warm_up` in deep_dive/train.py. train.py has the others."""
from torch import optim


def one_cycle(optimizer, lr, n_steps, warm_up):
    """Up to lr during the share warm_up of n_steps, then down along a cosine (Smith & Topin 2019, "Super-convergence").

    This is PyTorch's form, which begins at lr / 25 and ends at lr / 250,000. The paper has straight lines up and down,
    equally long, some steps more at the end, and a momentum that moves against the learning rate. Here it stays as it
    is, because not every optimizer has one. The scheduler is stepped after each training step.
    """
    if warm_up * n_steps == 1:  # PyTorch would divide by zero
        warm_up = warm_up / 2
    return optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=n_steps, pct_start=warm_up, cycle_momentum=False)
