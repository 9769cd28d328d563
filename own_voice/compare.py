"""Are two recordings of one speaker? Nobody need be enrolled.

    python -m own_voice.compare a.wav b.wav

Prints how both were recorded, the decision, the score, and what the score means. Feature files (.p) can be
compared, too. Takes seven seconds.
"""
import math
import os

import torch.nn.functional as F

from deep_dive.calibration import percent
from exercises.scoring import log_likelihood_ratio
from model import get_embeddings, load_model
from support.enrolments import CONDITIONS, choose_thres, own_description
from support.messages import CHANNEL, SCORE_OR_MODEL, TEST_RULES, LabError, check_settings, or_none, run_script
from support.recordings import compare_origins, is_recording, open_recording, origin_of, seconds_of, use_channel
from verification import print_decision

WORDS = dict(zip(CONDITIONS, [', recorded in one room with one microphone', ', recorded in two places']))


def check_recording(filename, others=()):
    """Raise LabError if this is not the name of a recording that is there. others: endings that will do, too."""
    if not os.path.isfile(filename):
        raise LabError('%s: %s' % (filename, 'a folder, not a recording.' if os.path.isdir(filename)
                                   else 'there is no such file.'))
    if not is_recording(filename) and not filename.endswith(tuple(others)):
        raise LabError('%s: no recording. Give the name of a wav file.' % filename)


def check_two_recordings(enroll_file, test_file, level=None):
    """Print how two recordings were made. Raises LabError, or prints a note, if they cannot well be compared.

    level: to which the model wants recordings brought (Recording.prepared).
    """
    for filename in (enroll_file, test_file):
        check_recording(filename, ['.p'])
    for filename in filter(is_recording, (enroll_file, test_file)):
        facts = open_recording(filename).facts
        print('%s: %.1f s of speech at %.0f dBFS, background %.0f dB lower, up to %.1f kHz, %.2f %% clipped'
              % (filename, facts['seconds'], facts['level'], facts['noise'], facts['bandwidth'] / 1000,
                 100 * facts['clipped']))
    compare_origins({enroll_file: origin_of(enroll_file, level)}, test_file, level)


def print_what_it_means(score, thres, model, test_file, seconds):
    """Print how likely it is that both recordings are of one speaker. Print it only if the model knows it.

    A score means less in one room than in two places, where recordings of two people differ in more than the
    voice. Who asks knows where it was: so the answer is printed for both. If thres is not the model's own
    threshold, print the decision by that one, too. seconds: of speech in the shorter recording; if that makes
    answers worse, print how often they are wrong.
    """
    description = own_description(model, 'cosine', test_file, seconds)
    if not description:
        return
    own = description['eer']
    if abs(own - thres) > 5e-5:
        print("The model's own threshold is %0.4f : %s" % (own, 'Accept' if score > own else 'Reject'))
    conditions = {WORDS[name]: log_likelihood_ratio(score, description, '_' + name)
                  for name in CONDITIONS if 'slope_' + name in description}
    for words, ratio in (conditions or {'': log_likelihood_ratio(score, description)}).items():
        print('Same speaker%s: %s (log-likelihood ratio %.1f)' % (words, percent(ratio), ratio))
    print('A percentage holds if both answers are equally likely beforehand.')
    longer = {'%d s' % length: description['EER_%ds' % length] for length in range(math.ceil(seconds), 61)
              if 'EER_%ds' % length in description}
    longer['whole recordings'] = own_description(model, 'cosine', test_file).get('EER', 100)
    best = min(longer, key=longer.get)
    if description.get('EER', 0) > longer[best] + 0.5:
        print('It is short: of answers on %.2g s of speech, %.0f %% are wrong, on %s %.0f %%.'
              % (seconds, description['EER'], best, longer[best]))


def main(
        # Settings
        enroll_file='',  # a recording of one speaker
        test_file='',  # another recording. Is it the same speaker?
        thres=None,  # a score above it is accepted; None: the threshold of the checkpoint; try 0.5
        cp_num='voices',  # which checkpoint
        log_dir='model_saved',  # where the checkpoints are saved
        test_frames=None,  # cut a recording into segments of so many frames (10 ms); None: not cut
        channel=None,  # of a recording that has several: 1, 2, ... or 'mean'; None: as configure.py says
        use_cuda=True,  # use a GPU if there is one
):
    if not enroll_file or not test_file:
        raise LabError('Name two recordings, as in\npython -m own_voice.compare a.wav b.wav')
    check_settings(main, locals(), **TEST_RULES, thres=or_none(SCORE_OR_MODEL), channel=CHANNEL)
    use_channel(channel)
    model = load_model(use_cuda, log_dir, cp_num, None, None)
    check_two_recordings(enroll_file, test_file, model.settings['level'])
    seconds = min(map(seconds_of, [enroll_file, test_file]))
    thres = choose_thres('model' if thres is None else thres, model, 'cosine', test_file, seconds)
    enroll_embedding, test_embedding = (get_embeddings(use_cuda, filename, model, test_frames)
                                        for filename in (enroll_file, test_file))  # (1, embedding_size) each
    score = F.cosine_similarity(test_embedding, enroll_embedding).item()
    print_decision(enroll_file, test_file, score, thres)
    print_what_it_means(score, thres, model, test_file, seconds)


if __name__ == '__main__':
    run_script(main, words=True)
