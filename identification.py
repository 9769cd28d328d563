"""Who is speaking? The enrolled speaker whose d-vector is nearest to that of the test utterance.

    python identification.py
    python identification.py --test_speaker=241F9241       # every setting of main() can be named

Reads TEST_FEAT_DIR/<speaker>/test*.p or test*.wav (configure.py), a checkpoint of train.py and the enrolment
of enroll.py. Prints the answer and every score. Takes ten seconds.
"""
import torch.nn.functional as F

import configure as c
from DB_wav_reader import speaker_of, split_enroll_and_test, test_files_of
from model import get_embeddings, load_enroll_embeddings, load_model
from support.checks import check_enrolled
from support.demo_voices import provide_test_features
from support.enrolments import check_recordings, thres_for
from support.messages import NAMES, SCORE_OR_MODEL, TEST_RULES, check_settings, one_or_see, or_none
from support.messages import run_script

UNKNOWN = 'unknown'  # the answer if nobody is near enough


def best_speaker(scores, thres):
    """The speaker with the highest score, or UNKNOWN if it is not above thres. thres None: never UNKNOWN."""
    best_spk = max(scores, key=scores.get)
    return best_spk if thres is None or scores[best_spk] > thres else UNKNOWN


def perform_identification(use_cuda, model, embeddings, test_filename, test_frames, spk_list, *, thres=None):
    """Print who of spk_list speaks in test_filename, and the score of each. Returns the answer.

    embeddings: dict speaker -> (1, embedding_size). LabError if one of spk_list is not enrolled.
    """
    check_enrolled(spk_list, embeddings)
    test_embedding = get_embeddings(use_cuda, test_filename, model, test_frames)  # (1, embedding_size)

    # The highest score wins
    scores = {spk: F.cosine_similarity(test_embedding, embeddings[spk]).item() for spk in spk_list}
    best_spk = best_speaker(scores, thres)

    # With a threshold, UNKNOWN is right for a speaker who is not in spk_list
    true_spk = speaker_of(test_filename)  # the name of its folder
    right = true_spk if true_spk in spk_list or thres is None else UNKNOWN
    result = best_spk == right
    print('\n=== Speaker identification ===')
    print('True speaker : %s\nPredicted speaker : %s\nResult : %s\n' % (true_spk, best_spk, result))
    print_scores(scores, thres)
    return best_spk


def print_scores(scores, thres):
    """Print scores (dict speaker -> score), the highest first; with thres, also the margin and thres."""
    ranking = sorted(scores, key=scores.get, reverse=True)
    for spk in ranking:
        print('%s : %0.4f' % (spk, scores[spk]))
    if thres is not None:
        print()
        if len(ranking) > 1:
            print('Margin to the second : %0.4f' % (scores[ranking[0]] - scores[ranking[1]]))
        print('Threshold : %0.4g' % thres)


def main(
        # Settings of the slides
        log_dir='model_saved',  # where the checkpoints are saved
        embedding_dir='enroll_embeddings',  # where the embeddings are saved
        test_dir=c.TEST_FEAT_DIR,  # where the test files are
        use_cuda=True,  # use a GPU if there is one
        embedding_size=128,  # dimension of a d-vector; None: what the checkpoint says
        cp_num=24,  # which checkpoint? The one that enroll.py used
        n_classes=None,  # training speakers (slides: 240); None: what the checkpoint says
        test_frames=100,  # frames (10 ms apart) in a segment of the utterance; None: not cut
        spk_list=None,  # who can it be? None: everybody enrolled; or a list such as ['103F3021', '207F2088']
        test_speaker='242M9242',  # a demo voice; try 230M4087 of the real corpus, or a wav file

        # Beyond the slides
        thres=None,  # 'unknown' if no score is above it; try 0.9, 'model' (the checkpoint's). None: never
):
    check_settings(main, locals(), **TEST_RULES, spk_list=or_none(NAMES), thres=or_none(SCORE_OR_MODEL),
                   test_speaker=one_or_see('python -m exercises.similar_voices'))

    # Load the model from the checkpoint
    model = load_model(use_cuda, log_dir, cp_num, embedding_size, n_classes)

    # Get the dataframe for the test DB
    provide_test_features(test_dir)
    enroll_DB, test_DB = split_enroll_and_test(test_dir)

    # Load the enroll embeddings
    embeddings = load_enroll_embeddings(embedding_dir, model=model)
    spk_list = spk_list or sorted(embeddings)

    # Find the test files. Their level and bandwidth must be those of the enrolment
    test_paths = test_files_of(test_speaker, test_DB)
    check_recordings(embedding_dir, spk_list, test_paths, model.settings['level'])

    # Perform the test
    for test_path in test_paths:
        if len(test_paths) > 1:
            print('\n%s' % test_path)
        limit = thres_for(thres, model, test_path)
        perform_identification(use_cuda, model, embeddings, test_path, test_frames, spk_list, thres=limit)


if __name__ == '__main__':
    run_script(main, see='python -m exercises.similar_voices')
