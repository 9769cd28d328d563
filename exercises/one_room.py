"""One microphone, one room: how often does a fourth person pass as one of the three who are enrolled?

    python -m exercises.one_room                                     # demo voices
    python -m exercises.one_room ../test_wavs --piece_seconds=6      # recordings of people who share a room

Each person has three recordings. Three people are enrolled with the first one. The fourth is tested with the
third one, and is accepted if one of the three scores is above the threshold. First this is the threshold of
the model. Then it is found on the three: their first and second recordings are compared, as
own_voice/calibrate.py does. Every four people are such a class, and each of them is the fourth in turn.

A folder holds <person>/<name>.wav. The first two recordings of a person enrol and calibrate, the last one is
tested. If there are only two, cut them into pieces. Demo voices are recorded twice: each in another room, and
all in one. Takes half a minute.
"""
from itertools import combinations

import numpy as np
import torch

from DB_wav_reader import feature_of, read_feats_and_wavs
from SR_Dataset import trim
from exercises.scoring import accuracy_interval, all_pairs, closest_rates, rule_of_three, trial_scores
from exercises.similar_voices import embed_pieces
from exercises.thresholds import SECONDS
from model import embed_feature, load_model
from support import demo_voices as demo
from support.checks import level_or_configured
from support.enrolments import description_at, description_for
from support.messages import NAME_OR_EMPTY, SCORE, TEST_RULES, LabError, check_settings, or_none, run_script
from support.messages import whole
from support.recordings import Recording
from support.rooms import draw_place

N_VOICES = 12  # demo people
DEMO_SECONDS = 10  # of each of their recordings, with half a second of silence at both ends
N_RECORDINGS = 3  # of each person: to enrol, to calibrate, to test
N_ENROLLED = 3


# ------------------------------------------------------------------------------------------------- recordings

def demo_vectors(model, use_cuda, test_frames, place_of):
    """The d-vectors of all demo people: (N_VOICES, N_RECORDINGS, embedding_size), of unit length.

    place_of: a function; place_of(index) is the Place in which the voice of this number records.
    """
    vectors = []
    for index in range(demo.N_TRAIN_VOICES + 1, demo.N_TRAIN_VOICES + 1 + N_VOICES):
        voice = demo.draw_voice(demo.SEED, index)
        for utterance in range(N_RECORDINGS):
            audio = demo.synthesise(demo.SEED, voice, utterance, DEMO_SECONDS, place_of(index))
            recording = Recording(audio.astype(np.float64), voice.name)
            feature, _ = feature_of(recording, model.settings['level'])  # (n_frames, n_dims)
            vectors.append(embed_feature(use_cuda, trim(feature), model, test_frames, voice.name))
    return torch.cat(vectors).numpy().reshape(N_VOICES, N_RECORDINGS, -1)


def vectors_of_folder(model, use_cuda, test_frames, test_dir, piece_seconds):
    """The d-vectors of the people in a folder: (n_people, N_RECORDINGS, embedding_size), of unit length.

    Of each, those of the first two recordings or pieces, and of the last. People with fewer than three are left out.
    Raises LabError if fewer than four are left.
    """
    DB = read_feats_and_wavs(test_dir)
    vectors, speakers = embed_pieces(use_cuda, DB, model, test_frames, piece_seconds)
    places = [[i for i, other in enumerate(speakers) if other == speaker] for speaker in sorted(set(speakers))]
    chosen = [[*those[:N_RECORDINGS - 1], those[-1]] for those in places if len(those) >= N_RECORDINGS]
    if len(chosen) <= N_ENROLLED:
        raise LabError('%s: %d people have %d recordings or more, %d are needed. Record more, or cut the recordings '
                       'into pieces: --piece_seconds=6' % (test_dir, len(chosen), N_RECORDINGS, N_ENROLLED + 1))
    return vectors.numpy()[chosen]


# ------------------------------------------------------------------------------------------------- the exercise

def threshold_of_room(vectors):
    """The threshold that the recordings of some people give: where both error rates of all pairs are equal.

    vectors: (n_people, n_recordings, size). Every two recordings are compared, as own_voice/calibrate.py does.
    """
    n_people, n_recordings, size = vectors.shape
    first, second = all_pairs(n_people * n_recordings)
    scores = trial_scores(vectors.reshape(-1, size), first, second)
    is_target = first // n_recordings == second // n_recordings
    return closest_rates(scores[is_target], scores[~is_target])[0]


def all_classes(vectors):
    """Let every four people be a class, and each of them the fourth: (fourths, threes, highest, own, thresholds).

    vectors: (n_people, N_RECORDINGS, size), of unit length. fourths: (n,), threes: (n, 3), numbers of people;
    highest: (n,), the highest score of the fourth with one of the three; own: (n, 3), the scores of the three with
    themselves; thresholds: (n,), found on the three.
    """
    found = []
    for four in combinations(range(len(vectors)), N_ENROLLED + 1):
        for fourth in four:
            three = [person for person in four if person != fourth]
            enrolled, tested = vectors[three, 0], vectors[:, -1]  # (3, size), (n_people, size)
            own = np.sum(enrolled * tested[three], axis=1)  # (3,)
            highest = np.max(enrolled @ tested[fourth])
            found.append((fourth, three, highest, own, threshold_of_room(vectors[three, :-1])))
    return [np.array(column) for column in zip(*found)]


def share(is_error, people):
    """How often there is an error, in words, with an interval of 95 %: the people are drawn anew.

    is_error: (n,) of bool; people: (n,), of whom each is.
    """
    if not is_error.any():
        return '0.0 %% (up to %.0f, rule of three)' % rule_of_three(len(np.unique(people)))
    return '%.1f %% (%.1f to %.1f)' % (100 * np.mean(is_error), *accuracy_interval(is_error, people))


def print_outcome(where, vectors, thres):
    """Print how often the fourth is accepted, and one of the three rejected, at two thresholds.

    where: how the people were recorded, in words; vectors: (n_people, N_RECORDINGS, size), of unit length; thres: of
    the model.
    """
    fourths, threes, highest, own, found = all_classes(vectors)
    print('\n=== %s: %d people, %d classes ===' % (where, len(vectors), len(fourths)))
    for threshold, name in ((np.full(len(found), thres), 'of the model : %.3f' % thres),
                            (found, 'found on the three : %.3f (in 90 %% of the classes %.3f to %.3f)'
                             % tuple(np.quantile(found, (0.5, 0.05, 0.95))))):
        print('Threshold %s' % name)
        print('    the fourth is accepted : %s' % share(highest > threshold, fourths))
        print('    one of the three is rejected : %s' % share((own <= threshold[:, None]).ravel(), threes.ravel()))


def main(
        # Settings
        test_dir='',  # recordings of people who share a room: DIR/<person>/<name>.wav; '': demo voices
        cp_num='voices',  # which checkpoint? Try etri240, with test_frames = 100
        log_dir='model_saved',  # where the checkpoints are saved
        thres=None,  # the first threshold; None: that of the model, for pieces so long or for 8 s and more
        piece_seconds=None,  # cut the recordings of test_dir into pieces of so many seconds; None: not cut
        room=1,  # in which room are all demo voices? Try 2, 3, 4
        test_frames=None,  # cut a recording into segments of so many frames (10 ms); None: not cut
        use_cuda=True,  # use a GPU if there is one
):
    check_settings(main, locals(), **TEST_RULES, test_dir=NAME_OR_EMPTY, thres=or_none(SCORE),
                   piece_seconds=SECONDS, room=whole(1))
    model = load_model(use_cuda, log_dir, cp_num, None, None)
    if thres is None:
        description = description_at(model, 'cosine', level_or_configured(model.settings['level']))
        if not description:
            raise LabError('%s has no threshold of its own. Set thres = 0.9, or another checkpoint.'
                           % model.checkpoint['file'])
        cut_seconds = piece_seconds if test_dir else None  # demo voices are not cut
        thres = description_for(description, cut_seconds or DEMO_SECONDS)['eer']
    if test_dir:
        print_outcome(test_dir, vectors_of_folder(model, use_cuda, test_frames, test_dir, piece_seconds), thres)
        return
    for where, place_of in (('Each in another room', lambda index: draw_place(demo.SEED, index)),
                            ('All in room %d' % room, lambda index: draw_place(demo.SEED, room))):
        print_outcome(where, demo_vectors(model, use_cuda, test_frames, place_of), thres)


if __name__ == '__main__':
    run_script(main, words=True)
