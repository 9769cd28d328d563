"""Let several trained networks decide together: add their scores, and test them on people never heard.

    python experiments/fusion.py <folder that hold_out.py made> <log_dir> <log_dir> [log_dir ...]
    python experiments/fusion.py ../held_out ../converged/conformer_aam_2s_20_0 ../converged/ecapa_aam_2s_0

Networks of another kind, or that began with other random numbers, err in other pairs. All cosines lie between -1 and 1,
and all scores of PLDA have one unit, so they are added as they are. Prints a row for each network and one for the sum,
of all pairs of whole utterances. Takes ten seconds for each network with bfloat16. The networks must have been trained
on the folder's train/ only: one that has heard the 40 people is far too good.
"""
from pathlib import Path

import project  # noqa: F401 (finds the lab)

from compare import d_vectors_of, features_for, kinds_of_pairs, rates_of, scorer_of
from model import load_model
from support.messages import NAME_OR_EMPTY, LabError, check_settings, is_name, run_script, whole

WAYS = ['raw', 'PLDA']  # of SCORERS in compare.py


def main(
        # Settings
        data_dir='',  # the folder that hold_out.py made
        log_dirs=[],  # the trained networks: two or more folders with a checkpoint_best.pth
        n_files=25,  # test utterances of each of the 40 speakers
        speakers='all',  # the 40; or 'even': the 20 to choose settings on; or 'odd': the other 20, to report on
):
    folders = 'a list of folders', lambda value: isinstance(value, list) and all(map(is_name, value))
    check_settings(main, locals(), n_files=whole(2), speakers=['all', 'even', 'odd'], log_dirs=folders,
                   data_dir=NAME_OR_EMPTY)
    if not data_dir or len(log_dirs) < 2:
        raise LabError('Give the folder that hold_out.py made, and two or more folders of trained networks.')
    unseen_dir = features_for('softmax', data_dir) / 'unseen'  # the lab's features
    for log_dir in log_dirs:
        if not (Path(log_dir) / 'checkpoint_best.pth').exists():
            raise LabError('%s holds no checkpoint_best.pth. Train it with compare.py first.\nThe commands are in '
                           'docs/deep-dive.md, "Do better than the slides".' % log_dir)

    # Score all pairs with each network
    n_parameters, scores = [], []
    for log_dir in log_dirs:
        model = load_model(False, log_dir, 'best', None, None)
        vectors, names, halves = d_vectors_of(model, unseen_dir, n_files, None)
        chosen = halves[speakers]
        pairs = kinds_of_pairs(names[chosen])  # the same for every network
        scores.append({way: scorer_of(way, model).trials(vectors[chosen], *pairs[:2]) for way in WAYS})
        n_parameters.append(sum(parameter.numel() for parameter in model.parameters()))

    # Print the figures of each, and of the sum
    _, _, is_target, same_sex = pairs
    print('\n%d people, %d trials of one speaker and %d of two' % (len(set(names[chosen])), is_target.sum(),
                                                                  (~is_target).sum()))
    print('| network | parameters | EER: %s | same sex | minDCF |\n|---|---|---|---|---|' % ', '.join(WAYS))
    rows = [*zip([Path(log_dir).name for log_dir in log_dirs], n_parameters, scores),
            ('sum', sum(n_parameters), {way: sum(of_network[way] for of_network in scores) for way in WAYS})]
    for name, n, scores_of_row in rows:
        rates = [rates_of(scores_of_row[way], is_target, same_sex) for way in WAYS]
        cells = [', '.join('%.2f' % rate[key] for rate in rates) for key in ('EER', 'same-sex EER', 'minDCF')]
        print('| %s | %.2f M | %s |' % (name, n / 1e6, ' | '.join(cells)))


if __name__ == '__main__':
    run_script(main, words=True)
