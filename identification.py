"""Who is speaking? The enrolled speaker whose d-vector is nearest to that of the test utterance.

    python identification.py

Reads TEST_FEAT_DIR/<speaker>/test.p or test.wav (configure.py), a checkpoint of train.py and the enrolment of
enroll.py. Prints the answer and every score; with test_speaker = 'all' precision and recall of everybody, and draws
confusion.png, or lengths.png for a list of lengths, into enroll_embeddings. Takes some seconds.
"""
import os

import numpy as np

import configure as c
from DB_wav_reader import speaker_of, split_enroll_and_test, test_file_of
from deep_dive.all_trials import UNKNOWN, answers, embed_pieces, print_precision_and_recall, print_strangers
from deep_dive.all_trials import score_matrix
from deep_dive.backends import create_backend, unchanged
from deep_dive.scoring import equal_error_rate
from model import get_embeddings, load_enroll_embeddings, load_model
from support.checks import check_enrolled, is_number
from support.demo_voices import provide_test_features
from support.messages import LabError, run_script
from support.pictures import draw_confusion, draw_lengths


def perform_identification(use_cuda, model, embeddings, test_filename, test_frames, spk_list, *, thres=None,
                           project=unchanged):
    """Print who of spk_list speaks in test_filename, and the cosine similarity of each. Returns the best speaker's
    name, or 'unknown' where no score is above thres (None: the nearest is always the answer).

    embeddings: dict speaker -> (1, embedding_size); project: as from create_backend. Raises LabError for a speaker who
    is not enrolled.
    """
    check_enrolled(spk_list, embeddings)
    test_embedding = get_embeddings(use_cuda, test_filename, model, test_frames)  # (1, embedding_size)
    scores = dict(zip(spk_list, score_matrix(test_embedding, embeddings, spk_list, project)[0]))
    ranking = sorted(spk_list, key=scores.get, reverse=True)
    best_spk = ranking[0] if thres is None or scores[ranking[0]] > thres else UNKNOWN

    true_spk = speaker_of(test_filename)
    print('\n=== Speaker identification ===')
    print('True speaker : %s\nPredicted speaker : %s\nResult : %s\n' % (true_spk, best_spk, true_spk == best_spk))
    for spk in ranking:
        print('%s : %0.4f' % (spk, scores[spk]))
    if thres is not None and len(ranking) > 1:
        print('\nMargin to the runner-up : %0.4f\nThreshold : %0.4g' % (scores[ranking[0]] - scores[ranking[1]], thres))
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
    segments = test_frames  # None: embed the utterance in one pass, here and in enroll.py

    # Who can it be? None: every enrolled speaker; or a list such as ['103F3021', '207F2088']
    spk_list = None

    # Set the test speaker. A demo voice; with the real corpus: '230M4087'; 'all': every test file of every speaker
    test_speaker = '242M9242'

    # Threshold: where no score is above it, the answer is 'unknown'; try 0.9. None: the nearest, as in the slides
    thres = None
    backend = 'cosine'  # of d-vectors as they are; 'centre', 'lda', 'wccn': see estimate_backend in model.py

    # With 'all'
    piece_seconds = None  # cut the test files into pieces; try 1, 2, 3, 5, or a list such as [1, 2, 3, 5]; None: whole
    plot = True  # write the confusion matrix, or the curve over several lengths, into embedding_dir

    # Load the model from the checkpoint
    model = load_model(use_cuda, log_dir, cp_num, embedding_size, n_classes)
    project = create_backend(backend, model)

    # Get the dataframe for the test DB
    provide_test_features()
    enroll_DB, test_DB = split_enroll_and_test(test_dir)

    # Load the enroll embeddings
    embeddings = load_enroll_embeddings(embedding_dir, model=model)
    spk_list = spk_list or sorted(embeddings)
    if thres is not None and not is_number(thres):
        raise LabError('thres = %r: it must be a number, or None for the nearest in any case.' % (thres,))
    check_enrolled(spk_list, embeddings)

    # Perform the test
    if test_speaker != 'all':
        test_path = test_file_of(test_speaker, test_DB)
        perform_identification(use_cuda, model, embeddings, test_path, segments, spk_list, thres=thres,
                               project=project)
        return

    # Or perform them all, for each length of the pieces
    if len(spk_list) < 2:
        raise LabError("test_speaker = 'all' needs two enrolled speakers or more: enrol another one.")
    lengths = piece_seconds if isinstance(piece_seconds, list) else [piece_seconds]
    accuracies, eers = [], []
    for length in lengths:
        pieces, true_spks = embed_pieces(use_cuda, test_DB, model, segments, length)
        if thres is not None:  # right is 'unknown' for those who are not in the list
            true_spks = [spk if spk in spk_list else UNKNOWN for spk in true_spks]
        scores = score_matrix(pieces, embeddings, spk_list, project)
        predicted_spks = answers(scores, spk_list, thres)
        print('\n=== Speaker identification: %s ===' % ('whole files' if length is None else 'pieces of %g s' % length))
        accuracies.append(print_precision_and_recall(true_spks, predicted_spks))
        is_own = np.array(true_spks)[:, None] == np.array(spk_list)
        eers.append(equal_error_rate(scores[is_own], scores[~is_own]))
        print('\nAccuracy : %.2f %% of %d pieces\nEER : %.2f %%' % (accuracies[-1], len(true_spks), eers[-1]))
        if thres is not None:
            print_strangers(scores, true_spks, spk_list, thres)
    if plot and len(lengths) == 1:
        draw_confusion(true_spks, predicted_spks, os.path.join(embedding_dir, 'confusion.png'))
    elif plot:
        # Whole files have no one length
        points = [point for point in zip(lengths, accuracies, eers) if point[0] is not None]
        draw_lengths(*zip(*points), os.path.join(embedding_dir, 'lengths.png'))


if __name__ == '__main__':
    run_script(main)
