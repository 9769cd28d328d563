"""Let several trained networks decide together: add their scores, and test them on people never heard.

    python experiments/fusion.py <folder that hold_out.py made> <log_dir> <log_dir> [log_dir ...]
    python experiments/fusion.py ../held_out ../converged/conformer_aam_2s_20_0 ../converged/conformer_aam_2s_20_1

Networks that began with other random numbers make other mistakes, and the sum of two scores has fewer of them. (That
is called fusion.) The scores of PLDA are log-likelihood ratios, all in one unit, and so are cosines. Prints a row for
each network and one for the sum, on pairs of whole utterances. The test takes half a minute for each network.
"""
from pathlib import Path

import project

from compare import SCORERS, check_held_out, d_vectors_of, kinds_of_pairs, rates_of
from deep_dive.backends import Scorer
from model import load_model
from support.checks import check_settings, whole
from support.messages import LabError, run_script

WAYS = ['raw', 'PLDA']  # of SCORERS


def print_row(name, n_parameters, scores, is_target, same_sex):
    """Print the figures of a network, or of the sum. scores: a dict with an array (n_pairs,) for each of WAYS."""
    rates = {way: rates_of(scores[way], is_target, same_sex) for way in WAYS}
    cells = [', '.join('%.*f' % (digits, rates[way][key]) for way in WAYS)
             for key, digits in (('EER', 2), ('same-sex EER', 2), ('minDCF', 2))]
    print('| %s | %.2f M | %s |' % (name, n_parameters / 1e6, ' | '.join(cells)))


def main(
        # Settings
        data_dir='',  # the folder that hold_out.py made
        log_dirs=[],  # the trained networks: two or more folders with a checkpoint_best.pth
        n_files=25,  # test utterances of each of the 40 speakers
        speakers='all',  # the 40; or 'even': the 20 to choose settings on; or 'odd': the other 20, to report on
):
    if not data_dir or len(log_dirs) < 2:
        raise LabError('Give the folder that hold_out.py made, and two or more folders of trained networks.')
    check_settings({'n_files': n_files, 'speakers': speakers}, {'n_files': whole(1)}, speakers=['all', 'even', 'odd'])

    check_held_out(data_dir)

    # Score all pairs with each network, in each of WAYS
    networks, n_parameters = [], []
    for log_dir in log_dirs:
        model = load_model(False, log_dir, 'best', None, None)
        vectors, names, halves = d_vectors_of(model, Path(data_dir) / 'unseen', n_files, None)
        vectors, names = vectors[halves[speakers]], names[halves[speakers]]
        first, second, is_target, same_sex = kinds_of_pairs(names)
        networks.append({way: Scorer(SCORERS[way][0], model).trials(vectors, first, second) for way in WAYS})
        n_parameters.append(sum(parameter.numel() for parameter in model.parameters()))

    # Print the figures of each, and of the sum
    print('\n%d people, %d trials of one speaker and %d of two' % (len(set(names)), is_target.sum(),
                                                                  (~is_target).sum()))
    print('| network | parameters | EER: %s | same sex | minDCF |' % ', '.join(WAYS))
    print('|---|---|---|---|---|')
    for log_dir, n, scores in zip(log_dirs, n_parameters, networks):
        print_row(Path(log_dir).name, n, scores, is_target, same_sex)
    print_row('sum', sum(n_parameters), {way: sum(scores[way] for scores in networks) for way in WAYS},
              is_target, same_sex)


if __name__ == '__main__':
    project.name_arguments(main)
    run_script(main)
