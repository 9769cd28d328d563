"""Who spoke when in a longer recording? The enrolled speakers, as coloured bands over the waveform.

    python -m own_voice.who_when talk.wav                                      # those enrolled in the browser
    python -m own_voice.who_when talk.wav --embedding_dir=enroll_embeddings    # those enrolled by enroll.py

The d-vectors of overlapping segments are compared with those of the enrolled speakers. Prints who speaks from
when to when, and draws a picture. The idea is that of the demonstration of diarization in Resemblyzer (2019):
the speakers are known, so nothing has to be clustered. A minute of audio takes five seconds on one core.
"""
from itertools import groupby

import matplotlib.pyplot as plt
import numpy as np
import torch
from scipy.ndimage import uniform_filter1d

import configure as c
from DB_wav_reader import extract_features
from exercises.scoring import cosine_scores
from identification import UNKNOWN
from model import embed_feature
from own_voice.answers import NOT_SURE, answer, in_words
from own_voice.compare import check_recording
from own_voice.who import EMBEDDING_DIR, limits_for, load_enrolled
from support.enrolments import check_recordings
from support.messages import CHANNEL, SCORE_OR_MODEL, LabError, check_settings, or_none, run_script
from support.pictures import AMBER, BLUE, GREEN, ORANGE, PURPLE, drawable, save_picture
from support.recordings import open_recording, use_channel

SEGMENT = 1.6  # seconds that are judged together; shorter: quicker to notice a change, and less sure
STEP = 0.2  # seconds from one segment to the next
SMOOTH = 5  # segments whose scores are averaged, so that a single one does not decide
MIN_SHARE = 0.4  # of the middle half of a segment must be speech
SHORTEST = 0.6  # seconds: a shorter band after another voice is only a few segments in doubt

# Of the picture
NO_SPEECH, IN_DOUBT, NO_NAME = '#e8e0c8', '#bbbbbb', '#555555'  # colours
OF_NAMES = [BLUE, ORANGE, GREEN, PURPLE, AMBER]
HATCHES = ['', '//', 'xx', '..']  # the next one when all colours are used


def segment_scores(recording, model, embeddings, use_cuda=True, progress=None):
    """The cosine similarity of every segment of a Recording with every enrolled speaker.

    embeddings: dict speaker -> (1, embedding_size). Returns (scores (n_segments, n_speakers), is_speech
    (n_segments,) of bool). The middle of segment i is at (i + 0.5) * STEP seconds. progress: if given, it is
    called with the share of the segments that are done. Raises LabError if there is no speech.
    """
    speech, half = recording.is_speech, round(SEGMENT * c.SAMPLE_RATE / 2)  # (n_blocks of 25 ms,)
    audio = (recording.audio - recording.audio.mean()) * recording.gain(model.settings['level'])
    feature = extract_features(np.pad(audio, half))  # (n_frames, n_dims)
    step, length = round(STEP / c.WIN_STEP), round(SEGMENT / c.WIN_STEP)
    starts = range(step // 2, len(feature) - length + 1, step)
    vectors = []
    for start in starts:
        segment = feature[start:start + length]
        # Minus its own mean, because that of the recording is a mixture of the speakers
        segment = segment - segment.mean(axis=0)
        vectors.append(embed_feature(use_cuda, segment, model, None, recording.filename))
        if progress is not None:
            progress(len(vectors) / len(starts))
    enrolled = torch.cat(list(embeddings.values()))  # (n_speakers, embedding_size)
    scores = cosine_scores(torch.cat(vectors).numpy(), enrolled.numpy())
    scores = uniform_filter1d(scores, SMOOTH, axis=0, mode='nearest')
    share = np.interp((np.arange(len(starts)) + 0.5) * STEP, (np.arange(len(speech)) + 0.5) * c.WIN_LENGTH,
                      uniform_filter1d(speech.astype(float), round(SEGMENT / 2 / c.WIN_LENGTH)))
    return scores, share >= MIN_SHARE


def who_spoke_when(recording, model, embeddings, limits, use_cuda=True, progress=None):
    """Who speaks from when to when in a Recording: list of (begin, end, said) in seconds.

    said: (kind, names) as answer of answers.py says it, or None where nobody speaks. limits: see there, for
    SEGMENT seconds.
    """
    scores, is_speech = segment_scores(recording, model, embeddings, use_cuda, progress)
    answers = []
    for row, there in zip(scores, is_speech):
        kind, names = answer(dict(zip(embeddings, row)), limits)
        answers.append((kind, tuple(sorted(names))) if there else None)
    return bands_of(answers, len(recording.audio) / c.SAMPLE_RATE)


def bands_of(answers, seconds):
    """Put segments with one answer together: list of (begin, end, said). answers: what is said of each
    segment, or None.

    A band shorter than SHORTEST takes the name of the band before it. Silence (None) is never renamed, and a
    band after silence keeps its name.
    """
    bands, end = [], 0  # end: in segments
    for name, segments in groupby(answers):
        begin, end = end, end + len(list(segments))
        before = bands[-1][2] if bands else None
        if None not in (name, before) and end - begin < round(SHORTEST / STEP):
            name = before
        if not bands or name != before:
            bands.append([round(begin * STEP, 2), 0, name])
        bands[-1][1] = round(end * STEP, 2)
    if bands:
        bands[-1][1] = seconds
    return [tuple(band) for band in bands]


def draw_bands(audio, bands, filename):
    """Draw the waveform (n_samples,) over bands, a list of (begin, end, said) in seconds: a colour for each
    name. said: as of who_spoke_when."""
    looks = {None: {'facecolor': NO_SPEECH}, UNKNOWN: {'facecolor': NO_NAME},
             NOT_SURE: {'facecolor': IN_DOUBT, 'hatch': '..'}}
    bands = [(begin, end, said and (said[1][0] if said[0] == 'known' else said[0])) for begin, end, said in bands]
    names = list(dict.fromkeys(name for _, _, name in bands if name not in looks))  # in the order of speaking
    for i, name in enumerate(names):
        looks[name] = {'facecolor': OF_NAMES[i % len(OF_NAMES)], 'hatch': HATCHES[i // len(OF_NAMES) % len(HATCHES)]}
    shown = {None: 'nobody', UNKNOWN: UNKNOWN, NOT_SURE: NOT_SURE, **dict(zip(names, drawable(names)))}
    n_columns = 6 if max(map(len, shown.values())) < 16 else 4
    n_lines = -(-len(dict.fromkeys(name for _, _, name in bands)) // n_columns)
    fig, ax = plt.subplots(figsize=(12, 3.6 + 0.25 * n_lines), layout='constrained')
    for begin, end, name in bands:
        ax.axvspan(begin, end, alpha=0.5, linewidth=0, edgecolor='white', **looks[name])
    for name in dict.fromkeys(name for _, _, name in bands):
        ax.bar(0, 0, alpha=0.5, linewidth=0, edgecolor='white', label=shown[name], **looks[name])
    every = max(1, len(audio) // 20000)
    ax.plot(np.arange(0, len(audio), every) / c.SAMPLE_RATE, audio[::every], color='black', linewidth=0.5)
    ax.set(xlim=(0, len(audio) / c.SAMPLE_RATE), xlabel='seconds', ylabel='amplitude')
    fig.legend(loc='outside upper center', ncols=n_columns)
    save_picture(fig, filename)


def main(
        # Settings
        recording='',  # the recording
        picture='who_when.png',  # where to save the picture
        embedding_dir=EMBEDDING_DIR,  # where the enrolment is saved
        thres=None,  # the score that a name needs; None: by the checkpoint and who is enrolled; try 0.3
        channel=None,  # of a recording that has several: 1, 2, ... or 'mean'; None: as configure.py says
        use_cuda=True,  # use a GPU if there is one
):
    if not recording:
        raise LabError('Name a recording, as in\npython -m own_voice.who_when talk.wav')
    check_settings(main, locals(), thres=or_none(SCORE_OR_MODEL), channel=CHANNEL)
    use_channel(channel)
    model, embeddings = load_enrolled(embedding_dir, use_cuda)
    check_recording(recording)
    check_recordings(embedding_dir, list(embeddings), [recording], model.settings['level'])
    limits = limits_for(model, torch.cat(list(embeddings.values())).numpy(), thres, recording, SEGMENT)
    talk = open_recording(recording)
    bands = who_spoke_when(talk, model, embeddings, limits, use_cuda)
    for begin, end, said in bands:
        print('%6.1f to %6.1f s: %s' % (begin, end, in_words(*said) if said else 'nobody'))
    draw_bands(talk.audio, bands, picture)


if __name__ == '__main__':
    run_script(main, words=True)
