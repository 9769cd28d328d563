"""What a model is worth, on demo voices and on people it has never heard.

    python experiments/demo_quality.py [cp_num] [real_test_folder] [folder_of_unseen_speakers]

Run it after train.py, from the project's folder. Makes 40 further demo voices in a temporary folder and scores all
pairs of their utterances of 3 to 4 s with model_saved/checkpoint_<cp_num>.pth (default 24). With the test folder of
the real corpus (<speaker>/enroll.p and test.p), it also identifies those speakers, from whole files and from pieces of
1, 2 and 3 s, and says how high they score. With a feature folder of further speakers, such as
experiments/hold_out.py makes, it also scores all pairs of their utterances. Takes about a minute, and three more for
40 real speakers with 100 utterances each. Writes nothing else.

"Centred" means that the mean of the training set is subtracted from each d-vector, as --backend=centre does. The
checkpoint 'etri240' holds this mean, and 'best' does after python -m deep_dive.calibration.
"""
import tempfile

import numpy as np

import project  # noqa: F401 (finds the lab)

from DB_wav_reader import read_feats_structure, split_enroll_and_test
from deep_dive.trials import trials_of_pairs
from exercises.scoring import equal_error_rate, trial_scores
from exercises.similar_voices import answers, embed_pieces, score_matrix
from model import get_embeddings, load_model
from support import demo_voices
from support.messages import EPOCH_OR_NAME, NAME_OR_EMPTY, check_settings, run_script

FIRST_VOICE, N_VOICES, N_UTTERANCES = 251, 40, 10  # after those of training and test
TEST_FRAMES, ENROLL_FRAMES = 100, 200


def print_all_pairs(feat_dir, model, what, mean=None):
    """Print the equal error rate over all pairs of the utterances below feat_dir: raw, and centred.

    mean: (1, embedding_size), that of the training set; None: it is not known.
    """
    DB = read_feats_structure(feat_dir)
    vectors, _, first, second, same = trials_of_pairs(True, model, DB, TEST_FRAMES)
    rates = []
    for centre in [0] if mean is None else [0, mean]:
        scores = trial_scores((vectors - centre).numpy(), first, second)
        rates.append(equal_error_rate(scores[same], scores[~same]))
    centred = 'centred on the training mean: not known' if mean is None else (
        'centred on the training mean %.2f %%' % rates[1])
    print('%s, all %d same-voice and %d other pairs of utterances: EER %.2f %%, %s'
          % (what, same.sum(), (~same).sum(), rates[0], centred))


def unheard_voices(model, mean=None):
    """print_all_pairs of further demo voices."""
    with tempfile.TemporaryDirectory() as folder:
        demo_voices.make_train_features(folder, first=FIRST_VOICE, n_voices=N_VOICES, n_utterances=N_UTTERANCES)
        print_all_pairs(folder, model, '%d unheard demo voices' % N_VOICES, mean)


def real_speakers(model, test_dir):
    """How many of the real test speakers a model identifies, from whole files and from pieces."""
    enroll_DB, test_DB = split_enroll_and_test(test_dir)
    speakers = list(enroll_DB['speaker_id'])
    embeddings = {speaker: get_embeddings(True, filename, model, ENROLL_FRAMES)
                  for speaker, filename in zip(speakers, enroll_DB['filename'])}
    for seconds in (None, 1, 2, 3):
        pieces, true_speakers = embed_pieces(True, test_DB, model, TEST_FRAMES, seconds)
        scores = score_matrix(pieces, embeddings, speakers)  # (n_pieces, n_speakers)
        is_own = np.array(true_speakers)[:, None] == np.array(speakers)
        own, others, n_hits = scores[is_own], scores[~is_own], np.sum(answers(scores, speakers, None) == true_speakers)
        print('%d real speakers, %s: %d of %d identified (%.1f %%), EER %.1f %%, own scores %.4f and above, '
              'others %.4f on average and up to %.4f'
              % (len(speakers), 'whole files' if seconds is None else 'pieces of %d s' % seconds, n_hits, len(pieces),
                 100 * n_hits / len(pieces), equal_error_rate(own, others), own.min(), others.mean(), others.max()))


def main(
        # Settings
        cp_num=24,  # which checkpoint; 'best' can hold the training mean, too
        test_dir='',  # the test folder of the real corpus; '': none
        unseen_dir='',  # a feature folder of further speakers; '': none
        log_dir='model_saved',  # where the checkpoints are saved
):
    check_settings(main, locals(), cp_num=EPOCH_OR_NAME, test_dir=NAME_OR_EMPTY, unseen_dir=NAME_OR_EMPTY)
    model = load_model(True, log_dir, cp_num, None, None)
    mean = model.backend.get('mean')  # (1, embedding_size)
    if mean is None:
        print('%s does not hold the training mean. --cp_num=best does, after python -m deep_dive.calibration.'
              % model.checkpoint['file'])
    unheard_voices(model, mean)
    if test_dir:
        real_speakers(model, test_dir)
    if unseen_dir:
        print_all_pairs(unseen_dir, model, 'speakers of %s' % unseen_dir, mean)


if __name__ == '__main__':
    run_script(main, words=True)
