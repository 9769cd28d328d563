"""Who spoke when? The d-vectors of overlapping windows of a recording, against those of the enrolled speakers.

experiments/who_when.py and the page of support/voice_page.py call who_spoke_when. The idea is that of the demonstration
of diarization in Resemblyzer (2019): the speakers are known, so nothing has to be clustered.
"""
from itertools import groupby

import numpy as np
import torch
from scipy.ndimage import uniform_filter1d

import configure as c
from DB_wav_reader import extract_features
from model import embed_feature
from deep_dive.scoring import cosine_scores
from support.checks import level_or_configured
from support.recordings import active_level, find_speech, frame_levels

WINDOW = 1.6  # seconds that are judged together; shorter: quicker to notice a change, and less sure
STEP = 0.2  # seconds from one window to the next
SMOOTH = 5  # windows whose scores are averaged, so that a single one does not decide
MIN_SHARE = 0.4  # of the middle half of a window must be speech
SHORTEST = 0.6  # seconds: a shorter band after another voice is no change of the speaker, but a few windows in doubt


def window_scores(audio, model, embeddings, filename='a recording', use_cuda=True):
    """The cosine similarity of every window of a recording with every enrolled speaker.

    audio: (n_samples,), mono, of any level; embeddings: dict speaker -> (1, embedding_size). Returns (scores
    (n_windows, n_speakers), is_speech (n_windows,) of bool). The middle of window i is at (i + 0.5) * STEP seconds.
    Raises LabError if there is no speech.
    """
    levels = frame_levels(audio)
    speech = find_speech(levels, filename)  # (n_frames of 25 ms,)
    level = level_or_configured(model.settings['level'])
    gain = 1 if level is None else 10 ** ((level - active_level(levels, speech)) / 20)
    half = round(WINDOW * c.SAMPLE_RATE / 2)
    feature = extract_features(np.pad((audio - audio.mean()) * gain, half))  # (n_frames, n_dims)
    step, length = round(STEP / c.WIN_STEP), round(WINDOW / c.WIN_STEP)
    starts = range(step // 2, len(feature) - length + 1, step)
    vectors = []
    for start in starts:
        window = feature[start:start + length]
        # Minus its own mean, because that of the recording is a mixture of the speakers
        vectors.append(embed_feature(use_cuda, window - window.mean(axis=0), model, None, filename))
    gallery = torch.cat(list(embeddings.values()))  # (n_speakers, embedding_size)
    scores = cosine_scores(torch.cat(vectors).numpy(), gallery.numpy())
    scores = uniform_filter1d(scores, SMOOTH, axis=0, mode='nearest')
    share = np.interp((np.arange(len(starts)) + 0.5) * STEP, (np.arange(len(speech)) + 0.5) * c.WIN_LENGTH,
                      uniform_filter1d(speech.astype(float), round(WINDOW / 2 / c.WIN_LENGTH)))
    return scores, share >= MIN_SHARE


def who_spoke_when(audio, model, embeddings, thres, filename='a recording', use_cuda=True):
    """Who speaks from when to when: list of (begin, end, name) in seconds.

    name: an enrolled speaker, 'unknown' if nobody's score is above thres, None where nobody speaks.
    """
    scores, is_speech = window_scores(audio, model, embeddings, filename, use_cuda)
    names = list(embeddings)
    answers = [None if not there else names[row.argmax()] if row.max() > thres else 'unknown'
               for row, there in zip(scores, is_speech)]
    return bands_of(answers, len(audio) / c.SAMPLE_RATE)


def bands_of(answers, seconds):
    """Put windows with one answer together: list of (begin, end, name). answers: a name or None for each window.

    A band shorter than SHORTEST takes the name of the band before it. Silence (None) is never renamed, and a band after
    silence keeps its name.
    """
    bands, end = [], 0  # end: in windows
    for name, windows in groupby(answers):
        begin, end = end, end + len(list(windows))
        before = bands[-1][2] if bands else None
        if None not in (name, before) and end - begin < round(SHORTEST / STEP):
            name = before
        if not bands or name != before:
            bands.append([round(begin * STEP, 2), 0, name])
        bands[-1][1] = round(end * STEP, 2)
    if bands:
        bands[-1][1] = seconds
    return [tuple(band) for band in bands]
