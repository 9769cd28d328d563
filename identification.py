"""Who is speaking? The enrolled speaker whose d-vector is nearest to that of the test utterance.

    python identification.py
    python identification.py --test_speaker=241F9241       # every setting of main() can be named
    python identification.py x.wav                         # who of the enrolled speaks in this recording?

Reads TEST_FEAT_DIR/<speaker>/test*.p or test*.wav (configure.py), a checkpoint of train.py and the enrolment of
enroll.py. Prints the answer and every score. With --test_speaker=all it prints precision and recall of everybody, and
draws confusion.png and matrix.png, or lengths.png for several lengths, into enroll_embeddings. Takes ten seconds.
"""
import torch.nn.functional as F

import configure as c
from DB_wav_reader import speaker_of, split_enroll_and_test, test_files_of
from deep_dive import calibration
from deep_dive.all_trials import identify_all
from deep_dive.backends import BACKENDS, NORMALISATIONS, Scorer
from model import get_embeddings, load_enroll_embeddings, load_model
from support.checks import IDENTIFICATION_RULES, check_enrolled, check_settings
from support.demo_voices import provide_test_features
from support.enrolments import check_recordings, checkpoint_of
from support.messages import run_script

# `python identification.py x.wav`: the setting that this word is, and the defaults of others then
WITH_RECORDING = {'files': ['test_file'], 'with_files': {
    'cp_num': None, 'thres': 'model', 'embedding_size': None, 'test_frames': None}}


def perform_identification(use_cuda, model, embeddings, test_filename, test_frames, spk_list, *, thres=None,
                           compare=F.cosine_similarity, is_known=True):
    """Print who of spk_list speaks in test_filename, and the score of each. Returns the best speaker.

    embeddings: dict speaker -> (1, embedding_size). thres: if no score is above it, the answer is 'unknown'; None: the
    nearest speaker is always the answer. compare: the score of two d-vectors; for others see deep_dive/backends.py.
    is_known: False for a recording whose speaker nobody knows. Raises LabError for a speaker who is not enrolled.
    """
    check_enrolled(spk_list, embeddings)
    test_embedding = get_embeddings(use_cuda, test_filename, model, test_frames)  # (1, embedding_size)

    # Score every speaker
    scores = {}
    for spk in spk_list:
        enroll_embedding = F.normalize(embeddings[spk])  # (1, embedding_size)
        scores[spk] = compare(test_embedding, enroll_embedding).item()

    # The highest score wins
    ranking = sorted(spk_list, key=scores.get, reverse=True)
    best_spk = ranking[0] if thres is None or scores[ranking[0]] > thres else 'unknown'

    # With a threshold, 'unknown' is the right answer for a speaker who is not in spk_list
    true_spk = speaker_of(test_filename)
    right_answer = true_spk if true_spk in spk_list or thres is None else 'unknown'
    lines = ['Predicted speaker : %s' % best_spk]
    if is_known:
        lines = ['True speaker : %s' % true_spk, *lines, 'Result : %s' % (best_spk == right_answer)]
    print('\n=== Speaker identification ===\n%s\n' % '\n'.join(lines))
    for spk in ranking:
        print('%s : %0.4f' % (spk, scores[spk]))
    if thres is not None:
        print()
        if len(ranking) > 1:
            print('Margin to the runner-up : %0.4f' % (scores[ranking[0]] - scores[ranking[1]]))
        print('Threshold : %0.4g' % thres)
    return best_spk


def main(
        # Settings of the slides
        log_dir='model_saved',  # where the checkpoints are saved
        embedding_dir='enroll_embeddings',  # where the embeddings are saved
        test_dir=c.TEST_FEAT_DIR,  # where the test files are
        use_cuda=True,  # use a GPU if there is one; False: the CPU in any case
        embedding_size=128,  # dimension of a d-vector; None: what the checkpoint says
        cp_num=24,  # which checkpoint? The one that enroll.py used; None: find that out
        n_classes=None,  # how many speakers in the training data? None: what the checkpoint says
        test_frames=100,  # the utterance is cut into segments of so many frames (10 ms); None: not cut
        spk_list=None,  # who can it be? None: everybody enrolled; or a list such as ['103F3021', '207F2088']
        test_speaker='242M9242',  # a demo voice; try 230M4087 of the real corpus, a wav file, or 'all'

        # Beyond the slides
        test_file=None,  # a recording, instead of test_speaker
        thres=None,  # if no score is above it, the answer is 'unknown'; try 0.9, 'model'. None: the nearest in any case
        backend='cosine',  # or 'centre', 'lda', 'wccn', 'plda': deep_dive/backends.py; another threshold fits then
        normalise=None,  # or 's-norm', 'as-norm': compare scores with those of strangers: deep_dive/normalisation.py
        piece_seconds=None,  # with 'all': cut the test files into pieces; try 1, or a list [1, 2, 3, 5]
        plot=True,  # with 'all': draw the confusion matrix, or the curve over several lengths
):
    check_settings(locals(), IDENTIFICATION_RULES, backend=BACKENDS, normalise=NORMALISATIONS)

    # Load the model from the checkpoint
    if cp_num is None:
        log_dir, cp_num = checkpoint_of(embedding_dir)
    model = load_model(use_cuda, log_dir, cp_num, embedding_size, n_classes)
    scorer = Scorer(backend, model, normalise)

    # Get the dataframe for the test DB. One recording needs none
    if test_file is None:
        provide_test_features(test_dir)
        enroll_DB, test_DB = split_enroll_and_test(test_dir)

    # Load the enroll embeddings
    embeddings = load_enroll_embeddings(embedding_dir, model=model)
    spk_list = spk_list or sorted(embeddings)
    check_enrolled(spk_list, embeddings)

    # Find the test files. They must have been recorded like the enrolment
    test_paths = [test_file] if test_file is not None else test_files_of(test_speaker, test_DB)
    check_recordings(embedding_dir, spk_list, test_paths, model.settings['level'])
    thres = calibration.choose_thres(thres, model, scorer.name, test_paths[0])

    # Perform the test
    if test_file is None and test_speaker == 'all':
        identify_all(use_cuda, model, embeddings, test_DB, test_frames, spk_list, thres=thres, scorer=scorer,
                     piece_seconds=piece_seconds, picture_dir=embedding_dir if plot else None)
        return
    for test_path in test_paths:
        if len(test_paths) > 1:
            print('\n%s' % test_path)
        perform_identification(use_cuda, model, embeddings, test_path, test_frames, spk_list, thres=thres,
                               compare=scorer, is_known=test_file is None)


if __name__ == '__main__':
    run_script(main, **WITH_RECORDING)
