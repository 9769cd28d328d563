"""Is it really them? The d-vector of a test utterance against that of an enrolled speaker.

    python verification.py
    python verification.py --test_speaker=241F9241 --thres=0.9     # every setting of main() can be named

Reads TEST_FEAT_DIR/<speaker>/test*.p or test*.wav (configure.py), a checkpoint of train.py and the enrolment
of enroll.py. Prints the decision, the score and the threshold. Takes ten seconds.
"""
import torch.nn.functional as F

import configure as c
from DB_wav_reader import speaker_of, split_enroll_and_test, test_files_of
from model import get_embeddings, load_enroll_embeddings, load_model
from support.checks import check_enrolled
from support.demo_voices import provide_test_features
from support.enrolments import check_recordings, thres_for
from support.messages import SCORE_OR_MODEL, TEST_RULES, check_settings, one_or_see, run_script


def perform_verification(use_cuda, model, embeddings, enroll_speaker, test_filename, test_frames, thres):
    """Print whether test_filename is accepted as enroll_speaker: whether their score is above thres.

    embeddings: dict speaker -> (1, embedding_size). Returns the score. Raises LabError for a name not in it.
    """
    check_enrolled([enroll_speaker], embeddings)
    enroll_embedding = embeddings[enroll_speaker]  # (1, embedding_size)
    test_embedding = get_embeddings(use_cuda, test_filename, model, test_frames)  # (1, embedding_size)

    # Compare the score with the threshold
    score = F.cosine_similarity(test_embedding, enroll_embedding).item()
    print_decision(enroll_speaker, speaker_of(test_filename), score, thres)
    return score


def print_decision(enroll_speaker, test_spk, score, thres):
    """Print the decision. "True" and "claimed" as in the slides; papers swap the two words."""
    result = 'Accept' if score > thres else 'Reject'
    print('\n=== Speaker verification ===')
    print('True speaker: %s\nClaimed speaker : %s\n\nResult : %s\n' % (enroll_speaker, test_spk, result))
    n_digits = 2 if round(thres, 2) == thres else 4  # two, as in the slides, unless the threshold has more
    print('Score : %0.4f\nThreshold : %0.*f\n' % (score, n_digits, thres))


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
        enroll_speaker='242M9242',  # who is enrolled ('true'); try 230M4087 of the real corpus
        test_speaker='242M9242',  # who speaks in the test file ('claimed'); try 241F9241 or a wav file
        thres=0.95,  # a score above it is accepted; try 0.9, 0.97, 'model' (that of the checkpoint)
):
    check_settings(main, locals(), **TEST_RULES, thres=SCORE_OR_MODEL,
                   test_speaker=one_or_see('python -m exercises.thresholds'))

    # Load the model from the checkpoint
    model = load_model(use_cuda, log_dir, cp_num, embedding_size, n_classes)

    # Get the dataframe for the test DB
    provide_test_features(test_dir)
    enroll_DB, test_DB = split_enroll_and_test(test_dir)

    # Load the enroll embeddings
    embeddings = load_enroll_embeddings(embedding_dir, model=model)

    # Find the test files. Their level and bandwidth must be those of the enrolment
    test_paths = test_files_of(test_speaker, test_DB)
    check_recordings(embedding_dir, [enroll_speaker], test_paths, model.settings['level'])

    # Perform the test
    for test_path in test_paths:
        if len(test_paths) > 1:
            print('\n%s' % test_path)
        limit = thres_for(thres, model, test_path)
        perform_verification(use_cuda, model, embeddings, enroll_speaker, test_path, test_frames, limit)


if __name__ == '__main__':
    run_script(main, see='python -m exercises.thresholds')
