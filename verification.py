"""Is it really them? The d-vector of a test utterance against that of the speaker it claims to be from.

    python verification.py
    python verification.py --test_speaker=241F9241 --thres=0.9     # every setting of main() can be named
    python verification.py a.wav b.wav                             # are both of one speaker? Nobody need be enrolled

Reads TEST_FEAT_DIR/<speaker>/test*.p or test*.wav (configure.py), a checkpoint of train.py and the enrolment of
enroll.py. Prints the decision, the score and the threshold. With --test_speaker=all it prints the error rates over all
trials, and draws scores.png and det.png into enroll_embeddings. Takes ten seconds.
"""
import torch.nn.functional as F

import configure as c
from DB_wav_reader import speaker_of, split_enroll_and_test, test_files_of
from deep_dive import calibration
from deep_dive.all_trials import verify_all
from deep_dive.backends import BACKENDS, NORMALISATIONS, Scorer
from model import get_embeddings, load_enroll_embeddings, load_model
from support.checks import VERIFICATION_RULES, check_enrolled, check_settings
from support.demo_voices import provide_test_features
from support.enrolments import check_recordings
from support.messages import run_script
from support.recordings import check_two_recordings

# `python verification.py a.wav b.wav`: the settings that these words are, and the defaults of others then
WITH_RECORDINGS = {'files': ['enroll_file', 'test_file'], 'with_files': {
    'cp_num': 'voices', 'thres': 'model', 'embedding_size': None, 'test_frames': None}}


def perform_verification(use_cuda, model, embeddings, enroll_speaker, test_filename, test_frames, thres, *,
                         compare=F.cosine_similarity, claimed=None):
    """Print whether test_filename is accepted as enroll_speaker: whether their score is above thres.

    embeddings: dict speaker -> (1, embedding_size). compare: the score of two d-vectors; for others see
    deep_dive/backends.py. claimed: the name that is printed for the test file; None: its speaker. Returns the score.
    Raises LabError for a speaker who is not enrolled.
    """
    check_enrolled([enroll_speaker], embeddings)
    enroll_embedding = F.normalize(embeddings[enroll_speaker])  # (1, embedding_size)
    test_embedding = get_embeddings(use_cuda, test_filename, model, test_frames)  # (1, embedding_size)

    # Compare the score with the threshold
    score = compare(test_embedding, enroll_embedding).item()
    result = 'Accept' if score > thres else 'Reject'

    # In the slides, the enrolled speaker is called true, and the speaker of the test file claimed
    test_spk = claimed or speaker_of(test_filename)
    print('\n=== Speaker verification ===')
    print('True speaker: %s\nClaimed speaker : %s\n\nResult : %s\n' % (enroll_speaker, test_spk, result))
    n_digits = 2 if round(thres, 2) == thres else 4  # two, as in the slides, unless the threshold has more
    print('Score : %0.4f\nThreshold : %0.*f\n' % (score, n_digits, thres))
    return score


def main(
        # Settings of the slides
        log_dir='model_saved',  # where the checkpoints are saved
        embedding_dir='enroll_embeddings',  # where the embeddings are saved
        test_dir=c.TEST_FEAT_DIR,  # where the test files are
        use_cuda=True,  # use a GPU if there is one; False: the CPU in any case
        embedding_size=128,  # dimension of a d-vector; None: what the checkpoint says
        cp_num=24,  # which checkpoint? The one that enroll.py used
        n_classes=None,  # how many speakers in the training data? None: what the checkpoint says
        test_frames=100,  # the utterance is cut into segments of so many frames (10 ms); None: not cut
        enroll_speaker='242M9242',  # the true speaker, who is enrolled; try 230M4087 of the real corpus
        test_speaker='242M9242',  # the claimed speaker, who speaks in the test file; try 241F9241, a wav, or 'all'
        thres=0.95,  # a score above it is accepted; try 0.9, 0.97, 'model'. With 'all' also 'eer' or ('far', 0.05)

        # Beyond the slides
        enroll_file=None,  # compare two recordings, with nobody enrolled: this one
        test_file=None,  # and this one
        backend='cosine',  # or 'centre', 'lda', 'wccn', 'plda': deep_dive/backends.py; another threshold fits then
        normalise=None,  # or 's-norm', 'as-norm': compare scores with those of strangers: deep_dive/normalisation.py
        trials='enrolled',  # with 'all': or 'pairs', every two utterances in test_dir; or the name of a trial list
        piece_seconds=None,  # with 'all': cut the test files into pieces of so many seconds; try 1
        plot=True,  # with 'all': draw the scores and the DET curve
):
    check_settings(locals(), VERIFICATION_RULES, backend=BACKENDS, normalise=NORMALISATIONS)

    # Load the model from the checkpoint
    model = load_model(use_cuda, log_dir, cp_num, embedding_size, n_classes)
    scorer = Scorer(backend, model, normalise)
    if enroll_file is not None:
        # Take two recordings, with nobody enrolled
        check_two_recordings(enroll_file, test_file, model.settings['level'])
        embeddings = {enroll_file: get_embeddings(use_cuda, enroll_file, model, test_frames)}
        enroll_speaker, test_paths = enroll_file, [test_file]
    elif test_speaker == 'all':
        # Test everybody at once
        provide_test_features(test_dir)
        verify_all(use_cuda, model, trials, test_dir, embedding_dir, test_frames, thres, backend=backend,
                   normalise=normalise, piece_seconds=piece_seconds, plot=plot)
        return
    else:
        # Load the enroll embeddings, and find the test files. They must have been recorded like the enrolment
        provide_test_features(test_dir)
        enroll_DB, test_DB = split_enroll_and_test(test_dir)
        embeddings = load_enroll_embeddings(embedding_dir, model=model)
        test_paths = test_files_of(test_speaker, test_DB)
        check_enrolled([enroll_speaker], embeddings)
        check_recordings(embedding_dir, [enroll_speaker], test_paths, model.settings['level'])

    # Perform the test
    for test_path in test_paths:
        if len(test_paths) > 1:
            print('\n%s' % test_path)
        threshold = calibration.choose_thres(thres, model, scorer.name, test_path)
        score = perform_verification(use_cuda, model, embeddings, enroll_speaker, test_path, test_frames, threshold,
                                     compare=scorer, claimed=test_file)
        calibration.print_what_it_means(score, threshold, model, scorer.name, [enroll_file, test_path])


if __name__ == '__main__':
    run_script(main, **WITH_RECORDINGS)
