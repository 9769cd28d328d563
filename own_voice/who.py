"""Who of the enrolled speaks in a recording?

    python -m own_voice.who x.wav                                      # those enrolled in the browser
    python -m own_voice.who x.wav --embedding_dir=enroll_embeddings    # those enrolled by enroll.py

Uses the checkpoint that the enrolment was made with. The answer is a name, 'unknown', or 'not sure'
(answers.py). Takes five seconds.
"""
import math
import os
from pathlib import Path

import torch
import torch.nn.functional as F

from identification import print_scores
from model import get_embeddings, load_enroll_embeddings, load_model
from own_voice.answers import answer, in_words, limits_of, print_passing_pairs
from own_voice.compare import check_recording
from support.checks import check_enrolled
from support.enrolments import CALIBRATION_FILE, ENROLL_FILE, check_recordings, checkpoint_of, choose_thres
from support.enrolments import own_description
from support.messages import CHANNEL, NAMES, SCORE_OR_MODEL, TEST_RULES, LabError, check_settings, or_none, run_script
from support.recordings import seconds_of, use_channel

EMBEDDING_DIR = 'enroll_own'  # where the page enrols


def load_enrolled(embedding_dir, use_cuda):
    """The enrolment in embedding_dir: (model, dict speaker -> (1, embedding_size) of unit length).

    The model is that of the checkpoint that the enrolment was made with. Raises LabError if nobody is
    enrolled.
    """
    if not os.path.isfile(os.path.join(embedding_dir, ENROLL_FILE)):
        raise LabError('Nobody is enrolled in %s. Enrol in the browser: python -m own_voice.page\nOr use '
                       'what enroll.py wrote: --embedding_dir=enroll_embeddings' % embedding_dir)
    model = load_model(use_cuda, *checkpoint_of(embedding_dir), None, None)
    embeddings = load_enroll_embeddings(embedding_dir, model=model)
    return model, {name: F.normalize(embedding) for name, embedding in embeddings.items()}


def limits_for(model, enrolled, thres, recording, seconds):
    """limits_of a model for a recording. enrolled: (n, embedding_size). thres: a number, None or 'model'.

    seconds: of speech that is tested at once. Raises LabError if a threshold is needed and the checkpoint has
    none of its own.
    """
    given = None if thres == 'model' else thres
    eer = choose_thres('model' if given is None else given, model, 'cosine', recording)
    return limits_of({'eer': eer, **own_description(model, 'cosine', recording)}, enrolled, given, seconds)


def main(
        # Settings
        recording='',  # the recording
        embedding_dir=EMBEDDING_DIR,  # where the enrolment is saved
        spk_list=None,  # who can it be? None: everybody enrolled; or a list of names
        thres=None,  # the score that a name needs; None: by the checkpoint and who is enrolled; try 0.5
        test_frames=None,  # cut the recording into segments of so many frames (10 ms); None: not cut
        channel=None,  # of a recording that has several: 1, 2, ... or 'mean'; None: as configure.py says
        use_cuda=True,  # use a GPU if there is one
):
    if not recording:
        raise LabError('Name a recording, as in\npython -m own_voice.who x.wav')
    check_settings(main, locals(), spk_list=or_none(NAMES), thres=or_none(SCORE_OR_MODEL),
                   test_frames=TEST_RULES['test_frames'], channel=CHANNEL)
    use_channel(channel)
    model, embeddings = load_enrolled(embedding_dir, use_cuda)
    check_recording(recording, ['.p'])
    spk_list = spk_list or sorted(embeddings)
    check_enrolled(spk_list, embeddings)
    check_recordings(embedding_dir, spk_list, [recording], model.settings['level'])
    enrolled = torch.cat([embeddings[spk] for spk in spk_list]).numpy()  # (n_speakers, embedding_size)
    limits = limits_for(model, enrolled, thres, recording, seconds_of(recording))
    if thres in (None, 'model'):
        print_passing_pairs(spk_list, enrolled, own_description(model, 'cosine', recording, math.inf)['eer'],
                            Path(embedding_dir, CALIBRATION_FILE).is_file())

    test_embedding = get_embeddings(use_cuda, recording, model, test_frames)  # (1, embedding_size)
    scores = {spk: F.cosine_similarity(test_embedding, embeddings[spk]).item() for spk in spk_list}
    print('\n=== Speaker identification ===\nPredicted speaker : %s\n' % in_words(*answer(scores, limits)))
    print_scores(scores, limits['named'])
    print("Below %0.4g the answer is 'unknown'" % limits['unknown'])


if __name__ == '__main__':
    run_script(main, words=True)
