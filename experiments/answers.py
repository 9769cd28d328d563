"""How often is a stranger told a name? People are enrolled, others are left out, and all of them are tested.

    python experiments/answers.py <folder> [folder ...] --cp_num=voices
    python experiments/answers.py <folder> --n_enrolled=2

A folder holds <speaker>/<name>.wav, or feature files. In each draw, n_enrolled people are enrolled with one recording
each. Their other recordings are tested, and those of everybody who is left out. Prints the share of each of the three
answers of own_voice/answers.py. Run it again with another model: a checkpoint may carry its own answer_gap,
answer_growth, answer_margin and answer_slack. 250 recordings take a minute.
"""
import numpy as np

import project  # noqa: F401 (finds the lab)

import configure as c
from deep_dive.calibration import piece_vectors
from model import load_model
from own_voice.answers import answer, limits_of
from strangers import read_folder
from support.enrolments import own_description
from support.messages import TEST_RULES, LabError, check_settings, run_script, whole

KINDS = ['right', 'wrong', 'not sure', 'unknown']


def count_answers(vectors, speakers, seconds, description, n_enrolled, rng):
    """The answers of one draw: two dicts of KINDS -> how many, of the enrolled and of the strangers.

    vectors: (n, embedding_size) of unit length; speakers: (n,) names; seconds: (n,) of speech. One person at least is
    left out.
    """
    people = rng.permutation(np.unique(speakers))
    enrolled = people[:min(n_enrolled, len(people) - 1)]
    chosen = [rng.choice(np.flatnonzero(speakers == person)) for person in enrolled]
    counts = [dict.fromkeys(KINDS, 0), dict.fromkeys(KINDS, 0)]
    for i in np.setdiff1d(np.arange(len(speakers)), chosen):
        limits = limits_of(description, vectors[chosen], seconds=seconds[i])
        kind, names = answer(dict(zip(enrolled, vectors[chosen] @ vectors[i])), limits)
        if kind == 'known':
            kind = 'right' if names == [speakers[i]] else 'wrong'
        counts[int(speakers[i] not in enrolled)][kind] += 1
    return counts


def main(
        # Settings
        folders=[],  # the recordings of each folder are tested by themselves
        cp_num='voices',  # which checkpoint
        log_dir='model_saved',  # where the checkpoints are saved
        n_enrolled=10,  # people; if the folder has no more than that, one is left out
        n_draws=20,  # how often people are drawn
        seed=0,  # of the draws
):
    if not folders:
        raise LabError('Name a folder or more: each holds <speaker>/<name>.wav.')
    check_settings(main, locals(), cp_num=TEST_RULES['cp_num'], n_enrolled=whole(1), n_draws=whole(1), seed=whole(0))
    model = load_model(True, log_dir, cp_num, None, None)
    for folder in folders:
        DB, features = read_folder(folder, model.settings['level'])
        vectors, speakers = piece_vectors(model, features, list(DB['speaker_id']), None, True)
        description = own_description(model, 'cosine', DB['filename'][0])
        if not description or len(set(speakers)) < 2:
            raise LabError('%s: two speakers are needed, and a checkpoint with a threshold of its own.' % folder)
        rng = np.random.default_rng(seed)
        seconds = [len(feature) * c.WIN_STEP for feature in features]
        draws = [count_answers(vectors.numpy(), np.array(speakers), seconds, description, n_enrolled, rng)
                 for _ in range(n_draws)]
        print('%s: %d people, %d of them enrolled' % (folder, len(set(speakers)),
                                                      min(n_enrolled, len(set(speakers)) - 1)))
        for who, counts in zip(('enrolled', 'strangers'), zip(*draws)):
            total = max(1, sum(sum(count.values()) for count in counts))
            shares = ['%s %5.1f %%' % (kind, 100 * sum(count[kind] for count in counts) / total) for kind in KINDS]
            print('  %-9s  %s' % (who, ', '.join(shares)))


if __name__ == '__main__':
    run_script(main, words=True)
