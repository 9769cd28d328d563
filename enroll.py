"""Enrol the speakers: one averaged d-vector for each.

    python enroll.py

Reads TEST_FEAT_DIR/<speaker>/enroll*.p (configure.py) and a checkpoint of train.py; makes the demo test voices where
the project's own folder has none. Writes enroll_embeddings/embeddings.p. Takes some seconds.
"""
import configure as c
from DB_wav_reader import run_script, split_enroll_and_test
from demo_voices import provide_test_features
from model import get_embeddings, load_model, save_enroll_embeddings


def enroll_per_spk(use_cuda, test_frames, model, DB, embedding_dir):
    """Sum the d-vectors of the enrolment files of each speaker, and save them in embedding_dir.

    Returns dict speaker -> (1, embedding_size) tensor.
    """
    n_files = len(DB)
    enroll_speaker_list = sorted(set(DB['speaker_id']))
    embeddings = {}

    print('Start to aggregate all the d-vectors per enroll speaker')
    for i in range(n_files):
        filename = DB['filename'][i]
        spk = DB['speaker_id'][i]

        activation = get_embeddings(use_cuda, filename, model, test_frames)  # (1, embedding_size)
        if spk in embeddings:
            embeddings[spk] += activation
        else:
            embeddings[spk] = activation
        print('Aggregates the activation (spk : %s)' % spk)

    save_enroll_embeddings(embedding_dir, embeddings, model)
    for spk in enroll_speaker_list:
        print('Save the embeddings for %s' % spk)
    return embeddings


def main():
    # Settings
    use_cuda = True  # use a GPU if there is one; False: the CPU in any case
    log_dir = 'model_saved'  # where the checkpoints are saved
    embedding_size = 128  # dimension of a d-vector; None: what the checkpoint says
    cp_num = 24  # which checkpoint to use? 'best' is the one with the lowest validation loss; the same in all scripts
    n_classes = None  # how many speakers in the training data? None: what the checkpoint says
    test_frames = 200  # frames (10 ms) of the segments that an utterance is cut into; try 100 and 400
    embedding_dir = 'enroll_embeddings'  # where to save the embeddings

    # Load the model from the checkpoint
    model = load_model(use_cuda, log_dir, cp_num, embedding_size, n_classes)

    # Get the dataframe for the enroll DB
    provide_test_features()
    enroll_DB, test_DB = split_enroll_and_test(c.TEST_FEAT_DIR)

    # Perform the enrollment and save the results
    enroll_per_spk(use_cuda, test_frames, model, enroll_DB, embedding_dir)


if __name__ == '__main__':
    run_script(main)
