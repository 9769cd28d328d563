"""Write a trained network as one file, which PyTorch runs without the lab.

    python -m deep_dive.export --cp_num=voices --out=voices.pt2

Anywhere: `embed = torch.export.load('voices.pt2').module()`, then `embed(x)`. In: features as read_MFB gives them,
(batch, 1, 40, n_frames), float32, 41 frames or more. Out: d-vectors (batch, embedding_size) of unit length, those of
get_embeddings with test_frames=None. They are compared before the file is written. Takes a minute.
"""
import io
import warnings

import torch
import torch.nn.functional as F
from torch.export import Dim

from model import load_model
from support.checks import feature_size, level_or_configured
from support.messages import TEST_RULES, LabError, check_settings, ending, in_one_line, run_script
from support.safe_files import written_whole

LARGEST_DIFFERENCE = 1e-5  # between a number of a d-vector of the file and that of the network
EXAMPLE, TRIED = (2, 200), [(1, 41), (3, 333)]  # batch and frames: what the file is made with, and tried with


class Embedding(torch.nn.Module):
    """A network that gives d-vectors of unit length alone: (batch, 1, n_dims, n_frames) -> (batch, embedding_size)."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return F.normalize(self.network(x)[0], dim=1)


def export(network):
    """A network in eval mode, on the CPU, as a .pt2 file: (its bytes, the largest difference of its d-vectors).

    Raises LabError if they differ by more than LARGEST_DIFFERENCE.
    """
    embed, size = Embedding(network).eval(), feature_size()
    content, any_size = io.BytesIO(), {0: Dim.DYNAMIC, 3: Dim.DYNAMIC}  # of axis 0, the batch, and 3, the frames
    with warnings.catch_warnings():  # PyTorch warns of what no user can change
        warnings.simplefilter('ignore')
        try:
            program = torch.export.export(embed, (torch.randn(EXAMPLE[0], 1, size, EXAMPLE[1]),),
                                          dynamic_shapes=(any_size,))
            torch.export.save(program, content)
            content.seek(0)
            again = torch.export.load(content).module()
            worst = 0
            for batch, n_frames in TRIED:
                x = torch.randn(batch, 1, size, n_frames)
                worst = max(worst, float((again(x) - embed(x)).detach().abs().max()))
        except (RuntimeError, ValueError) as error:
            raise LabError('This network cannot be exported: %s' % in_one_line(error)) from error
    if not worst <= LARGEST_DIFFERENCE:
        raise LabError('The exported network gives other d-vectors (by %.2g), so nothing is written.' % worst)
    return content.getvalue(), worst


def main(
        # Settings
        cp_num='voices',  # which checkpoint
        out='network.pt2',  # where the network goes
        log_dir='model_saved',  # where the checkpoints are saved
):
    check_settings(main, locals(), cp_num=TEST_RULES['cp_num'], out=ending('.pt2'))
    model = load_model(False, log_dir, cp_num, None, None)
    content, worst = export(model)
    with written_whole(out) as f:
        f.write(content)
    print('%s : its d-vectors differ from those of the network by %.1g at most.' % (out, worst))
    print('Bring the speech of a recording to %s dBFS before its feature is made.'
          % level_or_configured(model.settings['level']))


if __name__ == '__main__':
    run_script(main)
