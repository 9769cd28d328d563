"""Who is speaking? The enrolled speaker whose d-vector is nearest to that of the test utterance.

    python identification.py

Reads TEST_FEAT_DIR/<speaker>/test.p (configure.py), a checkpoint of train.py and the enrolment of enroll.py. Writes
nothing; prints the answer and every score. Takes some seconds.
"""
import torch.nn.functional as F

import configure as c
from DB_wav_reader import run_script, speaker_of, split_enroll_and_test, test_file_of
from demo_voices import provide_test_features
from model import check_enrolled, get_embeddings, load_enroll_embeddings, load_model


def perform_identification(use_cuda, model, embeddings, test_filename, test_frames, spk_list):
    """Print who of spk_list speaks in test_filename, and the cosine similarity of each. Returns the best speaker's
    name.

    embeddings: dict speaker -> (1, embedding_size). Raises LabError for a speaker who is not enrolled.
    """
    check_enrolled(spk_list, embeddings)
    test_embedding = get_embeddings(use_cuda, test_filename, model, test_frames)  # (1, embedding_size)
    scores = {spk: F.cosine_similarity(test_embedding, embeddings[spk]).item() for spk in spk_list}
    ranking = sorted(spk_list, key=scores.get, reverse=True)
    best_spk = ranking[0]

    true_spk = speaker_of(test_filename)
    print('\n=== Speaker identification ===')
    print('True speaker : %s\nPredicted speaker : %s\nResult : %s\n' % (true_spk, best_spk, true_spk == best_spk))
    for spk in ranking:
        print('%s : %0.4f' % (spk, scores[spk]))
    return best_spk


def main():
    log_dir = 'model_saved'  # where the checkpoints are saved
    embedding_dir = 'enroll_embeddings'  # where the embeddings are saved
    test_dir = c.TEST_FEAT_DIR  # where the test features are saved

    # Settings
    use_cuda = True  # use a GPU if there is one; False: the CPU in any case
    embedding_size = 128  # dimension of a d-vector; None: what the checkpoint says
    cp_num = 24  # which checkpoint to use? The one that enroll.py used
    n_classes = None  # how many speakers in the training data? None: what the checkpoint says
    test_frames = 100  # frames (10 ms) of the segments that the test utterance is cut into

    # Who can it be? None: every enrolled speaker; or a list such as ['103F3021', '207F2088']
    spk_list = None

    # Set the test speaker. A demo voice; with the real corpus: '230M4087'
    test_speaker = '242M9242'

    # Load the model from the checkpoint
    model = load_model(use_cuda, log_dir, cp_num, embedding_size, n_classes)

    # Get the dataframe for the test DB
    provide_test_features()
    enroll_DB, test_DB = split_enroll_and_test(test_dir)

    # Load the enroll embeddings
    embeddings = load_enroll_embeddings(embedding_dir, model=model)

    # Perform the test
    test_path = test_file_of(test_speaker, test_DB)
    perform_identification(use_cuda, model, embeddings, test_path, test_frames, spk_list or sorted(embeddings))


if __name__ == '__main__':
    run_script(main)
