"""What a model is worth, on demo voices and on people it never heard.

    python tests/demo_quality.py [cp_num] [real_test_folder] [folder_of_unseen_speakers]

Run it after train.py, from the project's folder. Makes 40 further demo voices in a temporary folder and scores all
pairs of their utterances of 3 to 4 s with model_saved/checkpoint_<cp_num>.pth (default 24). Given the test folder of
the real corpus (<speaker>/enroll.p and test.p), it also identifies those speakers, from whole files and from pieces of
1, 2 and 3 s, and says how high they score. Given a feature folder of further speakers, as tests/hold_out.py makes one,
it scores all pairs of their utterances, too. Takes about a minute, and three more for 40 real speakers with 100
utterances each; writes nothing else.
"""
import sys
import tempfile

import numpy as np

import project  # noqa: F401  (the lab, one folder up, is found)

from support import demo_voices
from DB_wav_reader import read_feats_structure, split_enroll_and_test
from deep_dive.all_trials import answers, embed_pieces, score_matrix, trials_of_pairs
from deep_dive.scoring import equal_error_rate, trial_scores
from model import get_embeddings, load_model
from support.messages import run_script

FIRST_VOICE, N_VOICES, N_UTTERANCES = 251, 40, 10  # after those of training and test
TEST_FRAMES, ENROLL_FRAMES = 100, 200


def print_all_pairs(feat_dir, model, what):
    """Print the equal error rate over all pairs of the utterances below feat_dir: raw, and without their mean."""
    DB = read_feats_structure(feat_dir)
    vectors, _, first, second, same = trials_of_pairs(True, model, DB, TEST_FRAMES)
    rates = []
    for mean in (0, vectors.mean(dim=0)):
        scores = trial_scores((vectors - mean).numpy(), first, second)
        rates.append(equal_error_rate(scores[same], scores[~same]))
    print('%s, all %d same-voice and %d other pairs of utterances: EER %.2f %%, centred on their mean %.2f %%'
          % (what, same.sum(), (~same).sum(), *rates))


def unheard_voices(model):
    """print_all_pairs of further demo voices."""
    with tempfile.TemporaryDirectory() as folder:
        demo_voices.make_train_features(folder, first=FIRST_VOICE, n_voices=N_VOICES, n_utterances=N_UTTERANCES)
        print_all_pairs(folder, model, '%d unheard demo voices' % N_VOICES)


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


def main():
    log_dir = 'model_saved'
    cp_num = sys.argv[1] if len(sys.argv) > 1 else '24'
    test_dir = sys.argv[2] if len(sys.argv) > 2 else None
    unseen_dir = sys.argv[3] if len(sys.argv) > 3 else None

    model = load_model(True, log_dir, cp_num, None, None)
    unheard_voices(model)
    if test_dir is not None:
        real_speakers(model, test_dir)
    if unseen_dir is not None:
        print_all_pairs(unseen_dir, model, 'speakers of %s' % unseen_dir)


if __name__ == '__main__':
    run_script(main)
