"""Is it really them? The d-vector of a test utterance against that of the speaker it claims to be from.

    python verification.py

Reads TEST_FEAT_DIR/<speaker>/test.p or test.wav (configure.py), a checkpoint of train.py and the enrolment of
enroll.py. Prints the decision, the score and the threshold; with test_speaker = 'all' the error rates over all trials,
and draws scores.png and det.png into enroll_embeddings. Takes some seconds.
"""
import os

import torch.nn.functional as F

import configure as c
from DB_wav_reader import read_feats_and_wavs, speaker_of, split_enroll_and_test, test_file_of
from deep_dive.all_trials import print_error_rates, trials_of_list, trials_of_pairs, trials_with_enrolled
from deep_dive.backends import available_backends, create_backend, unchanged
from deep_dive.scoring import cosine_scores, equal_error_rate, trial_scores
from model import get_embeddings, load_enroll_embeddings, load_model
from support.checks import check_enrolled, is_number
from support.demo_voices import provide_test_features
from support.messages import LabError, run_script
from support.pictures import draw_det, draw_scores


def perform_verification(use_cuda, model, embeddings, enroll_speaker, test_filename, test_frames, thres, *,
                         project=unchanged):
    """Print whether test_filename is accepted as enroll_speaker: whether their cosine similarity is above thres.

    embeddings: dict speaker -> (1, embedding_size); project: as from create_backend. Returns the score. Raises LabError
    for a speaker who is not enrolled.
    """
    check_enrolled([enroll_speaker], embeddings)
    if not is_number(thres):
        raise LabError("thres = %r: for one test file it must be a number; 'eer' and ('far', 0.01) take "
                       "test_speaker = 'all'." % (thres,))
    enroll_embedding = F.normalize(embeddings[enroll_speaker])  # (1, embedding_size)
    test_embedding = get_embeddings(use_cuda, test_filename, model, test_frames)  # (1, embedding_size)
    score = cosine_scores(project(test_embedding).numpy(), project(enroll_embedding).numpy()).item()
    result = 'Accept' if score > thres else 'Reject'

    test_spk = speaker_of(test_filename)
    print('\n=== Speaker verification ===')
    print('True speaker: %s\nClaimed speaker : %s\n\nResult : %s\n' % (enroll_speaker, test_spk, result))
    n_digits = 2 if round(thres, 2) == thres else 4
    print('Score : %0.4f\nThreshold : %0.*f\n' % (score, n_digits, thres))
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
    segments = test_frames  # None: embed the utterance in one pass, here and in enroll.py

    # Set the true speaker, as the slides call whom the claim is about. A demo voice; with the real corpus: '230M4087'
    enroll_speaker = '242M9242'

    # Set the claimed speaker, who speaks in the test file. Try '241F9241'; with the real corpus: '207F2088'
    # 'all': every test file against every enrolled speaker
    test_speaker = '242M9242'

    # Threshold: a score above it is accepted. What do 0.9 and 0.97 change?
    # With 'all' also 'eer' (as many wrongly accepted as rejected) or ('far', 0.05) (5 % wrongly accepted)
    thres = 0.95
    backend = 'cosine'  # of d-vectors as they are; 'centre', 'lda', 'wccn' (model.py): another threshold fits then

    # With 'all': what is tried?
    trials = 'enrolled'  # or 'pairs': every two utterances below test_dir; or the name of a trial list: 1 path path
    piece_seconds = None  # 'enrolled': cut the test files into pieces first; try 1, 2, 3, 5; None: whole
    plot = True  # draw the scores and the DET curve into embedding_dir

    # Load the model from the checkpoint
    model = load_model(use_cuda, log_dir, cp_num, embedding_size, n_classes)
    project = create_backend(backend, model)

    # Get the dataframe for the test DB, and load the enroll embeddings
    provide_test_features()
    if test_speaker != 'all' or trials == 'enrolled':
        enroll_DB, test_DB = split_enroll_and_test(test_dir)
        embeddings = load_enroll_embeddings(embedding_dir, model=model)

    # Perform the test
    if test_speaker != 'all':
        test_path = test_file_of(test_speaker, test_DB)
        perform_verification(use_cuda, model, embeddings, enroll_speaker, test_path, segments, thres, project=project)
        return

    # Or perform them all
    if trials == 'enrolled':
        all_trials = trials_with_enrolled(use_cuda, model, test_DB, embeddings, segments, piece_seconds)
    elif trials == 'pairs':
        all_trials = trials_of_pairs(use_cuda, model, read_feats_and_wavs(test_dir), segments)
    else:
        all_trials = trials_of_list(use_cuda, model, trials, test_dir, segments)
    vectors, speakers, first, second, is_target = all_trials
    scores = trial_scores(project(vectors).numpy(), first, second)
    threshold = print_error_rates(scores, is_target, speakers, first, second, thres)
    for name in available_backends(model):
        others = trial_scores(create_backend(name, model)(vectors).numpy(), first, second)
        print("EER, backend '%s' : %.2f %%" % (name, equal_error_rate(others[is_target], others[~is_target])))
    if plot:
        draw_scores(scores, is_target, threshold, os.path.join(embedding_dir, 'scores.png'))
        draw_det(scores, is_target, threshold, os.path.join(embedding_dir, 'det.png'))


if __name__ == '__main__':
    run_script(main)
