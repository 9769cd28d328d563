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
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import demo_voices  # noqa: E402
from DB_wav_reader import read_feats_structure, run_script, split_enroll_and_test  # noqa: E402
from SR_Dataset import read_MFB  # noqa: E402
from model import embed_feature, get_embeddings, load_model  # noqa: E402
from scoring import equal_error_rate  # noqa: E402

FIRST_VOICE, N_VOICES, N_UTTERANCES = 251, 40, 10  # after those of training and test
TEST_FRAMES, ENROLL_FRAMES = 100, 200


def print_all_pairs(feat_dir, model, what):
    """Print the equal error rate over all pairs of the utterances below feat_dir: raw, and without their mean."""
    DB = read_feats_structure(feat_dir)
    vectors = np.vstack([get_embeddings(True, filename, model, TEST_FRAMES) for filename in DB['filename']])
    centred = vectors - vectors.mean(axis=0)
    speaker = DB['speaker_id'].to_numpy()
    first, second = np.triu_indices(len(DB), 1)
    same = speaker[first] == speaker[second]
    rates = []
    for x in (vectors, centred / np.linalg.norm(centred, axis=1, keepdims=True)):
        scores = (x @ x.T)[first, second]
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
    enrolled = np.vstack([get_embeddings(True, filename, model, ENROLL_FRAMES) for filename in enroll_DB['filename']])
    tests = [(speaker, read_MFB(filename)[0]) for speaker, filename in zip(test_DB['speaker_id'], test_DB['filename'])]
    for seconds in (None, 1, 2, 3):
        hits, own, others = [], [], []
        for speaker, feature in tests:
            length = len(feature) if seconds is None else 100 * seconds
            for start in range(0, len(feature) - length + 1, length):
                scores = enrolled @ embed_feature(True, feature[start:start + length], model, TEST_FRAMES).numpy()[0]
                is_own = enroll_DB['speaker_id'].to_numpy() == speaker
                hits.append(is_own[scores.argmax()])
                own.append(scores[is_own])
                others.append(scores[~is_own])
        own, others = np.concatenate(own), np.concatenate(others)
        print('%d real speakers, %s: %d of %d identified (%.1f %%), EER %.1f %%, own scores %.4f and above, '
              'others %.4f on average and up to %.4f'
              % (len(enrolled), 'whole files' if seconds is None else 'pieces of %d s' % seconds, sum(hits), len(hits),
                 100 * np.mean(hits), equal_error_rate(own, others), own.min(), others.mean(), others.max()))


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
