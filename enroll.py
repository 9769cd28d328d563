"""Enrol the speakers: one averaged d-vector for each.

    python enroll.py

Reads TEST_FEAT_DIR/<speaker>/enroll*.p or enroll*.wav (configure.py) and a checkpoint of train.py; makes the demo test
voices where the project's own folder has none. Writes embeddings.p and two pictures of who sounds like whom into
enroll_embeddings. Takes some seconds.
"""
import os

import configure as c
from DB_wav_reader import split_enroll_and_test
from model import get_embeddings, load_model, save_enroll_embeddings
from support.demo_voices import is_demo_name, provide_test_features
from support.messages import run_script
from support.pictures import draw_parameters, draw_similarity


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
    segments = test_frames  # None: embed the utterance in one pass, here and in the two test scripts
    embedding_dir = 'enroll_embeddings'  # where to save the embeddings
    plot = True  # write the pictures of who sounds like whom there, too

    # Load the model from the checkpoint
    model = load_model(use_cuda, log_dir, cp_num, embedding_size, n_classes)

    # Get the dataframe for the enroll DB
    provide_test_features()
    enroll_DB, test_DB = split_enroll_and_test(c.TEST_FEAT_DIR)

    # Perform the enrollment and save the results
    embeddings = enroll_per_spk(use_cuda, segments, model, enroll_DB, embedding_dir)

    # Draw who sounds like whom
    if plot and len(embeddings) > 2:
        draw_similarity(embeddings, os.path.join(embedding_dir, 'similarity.png'))
        if all(is_demo_name(spk) for spk in embeddings):
            draw_parameters(embeddings, os.path.join(embedding_dir, 'parameters.png'))


if __name__ == '__main__':
    run_script(main)
