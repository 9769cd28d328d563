"""Is it really them? The d-vector of a test utterance against that of the speaker it claims to be from.

    python verification.py

Reads TEST_FEAT_DIR/<speaker>/test.p (configure.py), a checkpoint of train.py and the enrolment of enroll.py. Writes
nothing; prints the decision, the score and the threshold. Takes some seconds.
"""
import torch.nn.functional as F

import configure as c
from DB_wav_reader import run_script, speaker_of, split_enroll_and_test, test_file_of
from demo_voices import provide_test_features
from model import check_enrolled, get_embeddings, load_enroll_embeddings, load_model


def perform_verification(use_cuda, model, embeddings, enroll_speaker, test_filename, test_frames, thres):
    """Print whether test_filename is accepted as enroll_speaker: whether their cosine similarity is above thres.

    embeddings: dict speaker -> (1, embedding_size). Returns the score. Raises LabError for a speaker who is not
    enrolled.
    """
    check_enrolled([enroll_speaker], embeddings)
    enroll_embedding = embeddings[enroll_speaker]  # (1, embedding_size)
    test_embedding = get_embeddings(use_cuda, test_filename, model, test_frames)  # (1, embedding_size)
    score = F.cosine_similarity(test_embedding, enroll_embedding).item()
    result = 'Accept' if score > thres else 'Reject'

    test_spk = speaker_of(test_filename)
    print('\n=== Speaker verification ===')
    print('True speaker: %s\nClaimed speaker : %s\n\nResult : %s\n' % (enroll_speaker, test_spk, result))
    print('Score : %0.4f\nThreshold : %0.2f\n' % (score, thres))
    return score


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

    # Set the true speaker, as the slides call whom the claim is about. A demo voice; with the real corpus: '230M4087'
    enroll_speaker = '242M9242'

    # Set the claimed speaker, who speaks in the test file. Try '241F9241'; with the real corpus: '207F2088'
    test_speaker = '242M9242'

    # Threshold: a score above it is accepted. What do 0.9 and 0.97 change?
    thres = 0.95

    # Load the model from the checkpoint
    model = load_model(use_cuda, log_dir, cp_num, embedding_size, n_classes)

    # Get the dataframe for the test DB
    provide_test_features()
    enroll_DB, test_DB = split_enroll_and_test(test_dir)

    # Load the enroll embeddings
    embeddings = load_enroll_embeddings(embedding_dir, model=model)

    # Perform the test
    test_path = test_file_of(test_speaker, test_DB)
    perform_verification(use_cuda, model, embeddings, enroll_speaker, test_path, test_frames, thres)


if __name__ == '__main__':
    run_script(main)
