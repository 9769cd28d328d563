"""Recordings of any kind, and the speech in them: where it is, how loud it is, what is wrong with it.

open_recording reads a file once. The Recording that it returns knows everything else.
"""
import os
import sys
from contextlib import suppress
from functools import cached_property, lru_cache
from math import gcd
from pathlib import Path

import numpy as np
from python_speech_features.base import get_filterbanks
from scipy.ndimage import binary_opening
from scipy.signal import butter, resample_poly, sosfilt
from tqdm import tqdm

import configure as c
from support.audio_files import is_recording, quoted, read_recording
from support.checks import check_feature, check_frames, level_or_configured, path_parts
from support.messages import LabError, NoSpeech, in_parallel, is_name
from support.safe_files import read_pickles

FRAMES_IN_PART, BLOCKS_IN_PART = 6000, 2400  # a minute: a longer recording is worked on in parts
MIN_RATE, MAX_RATE = 8000, 384000  # Hz

# ------------------------------------------------------------------------------------- speech

ACTIVE_RANGE = 40  # dB: blocks within this of the loudest ones are speech
NOISE_MARGIN = 6  # dB: speech is at least this much louder than the background
SPEECH_RANGE = 10  # dB between loud and quiet blocks; noise and hum have less
DIGITAL_SILENCE = -150  # dBFS: below this there is nothing, not even noise
LOUD_BLOCKS = 10  # so many blocks may be louder than the level called loud, because they can be clicks
SHORTEST_RUN = 5  # blocks: speech lasts longer than a click
VOICE_LOWEST = 80  # Hz: below this there is hum and rumble, and no voice
SHORTEST = 0.6  # seconds of a recording: in less, nothing tells a word from a noise
PAUSE_RUN, PAUSE_RANGE = 4, 2  # a pause: so many blocks, at most so many dB above the quiet ones
MIN_PAUSES = 0.125  # share of the blocks: in fewer pauses, nobody hears the background
MOST_BLOCKS = 24000  # of which the spectrum is looked at: ten minutes
FULL_SCALE = 0.99  # samples above this are clipped
LEAST_TOP = 0.15  # below this, nobody sees whether tops are flat


def parts_for_frames(audio):
    """Cut audio (n_samples,) into parts of a minute, so that the frames of all follow one another.

    Each is emphasised as python_speech_features does: less 0.97 times the sample before. Shows a progress bar
    if there are more than ten.
    """
    length, step = (int(seconds * c.SAMPLE_RATE + 0.5) for seconds in (c.WIN_LENGTH, c.WIN_STEP))
    n_frames = 1 + max(0, -(-(len(audio) - length) // step))
    starts = range(0, n_frames, FRAMES_IN_PART)
    for start in tqdm(starts, desc='Feature', disable=len(starts) <= 10 or None, leave=False):
        first, stop = start * step, (min(start + FRAMES_IN_PART, n_frames) - 1) * step + length
        yield np.append(audio[first] - 0.97 * audio[first - 1] if first else audio[0],
                        audio[first + 1:stop] - 0.97 * audio[first:stop][:-1])


def decibels(power):
    return 10 * np.log10(np.maximum(power, 1e-20))


def blocks_of(audio):
    """Audio (n_samples,) cut into blocks of 25 ms, which do not overlap: (n_blocks, n_samples of a block)."""
    length = round(c.WIN_LENGTH * c.SAMPLE_RATE)
    return audio[:len(audio) // length * length].reshape(-1, length)


def high_pass():
    """The filter that takes away what is below VOICE_LOWEST, as scipy's second-order sections."""
    return butter(8, VOICE_LOWEST, 'highpass', fs=c.SAMPLE_RATE, output='sos')


def block_levels(audio, n_pieces=1):
    """Level of each block of audio (n_samples,), above VOICE_LOWEST: mean power in dBFS, (n_blocks,).

    n_pieces: 8: the median of the powers of so many pieces of a block, in which clicks do not count.
    """
    sections = high_pass()
    state, mean, powers = np.zeros((len(sections), 2)), audio.mean(), []
    length = BLOCKS_IN_PART * round(c.WIN_LENGTH * c.SAMPLE_RATE)
    for begin in range(0, len(audio), length):
        part, state = sosfilt(sections, audio[begin:begin + length] - mean, zi=state)
        pieces = blocks_of(part)
        pieces = pieces.reshape(len(pieces), n_pieces, pieces.shape[1] // n_pieces)
        powers.append(np.median(np.mean(pieces ** 2, axis=2), axis=1))
    return decibels(np.concatenate(powers))


def loud_level(levels):
    """What counts as loud among levels (n_blocks,): the level of the loudest block that is no click."""
    return np.sort(levels)[-min(LOUD_BLOCKS, len(levels))]


def least_level(loud, quiet):
    """The level in dBFS above which blocks are speech, by the levels of the loud and of the quiet ones."""
    return max(loud - ACTIVE_RANGE, min(quiet + NOISE_MARGIN, loud - ACTIVE_RANGE / 2))


def speech_limits(levels):
    """What decides about speech in blocks of these levels (n_blocks,), in dBFS: (quiet, loud, least).

    quiet: the background, below which a tenth of the blocks lies; loud: loud_level; least: least_level.
    """
    quiet, loud = np.percentile(levels, 10), loud_level(levels)
    return quiet, loud, least_level(loud, quiet)


def find_speech(levels, filename):
    """Which blocks hold speech, by their levels (n_blocks,): (n_blocks,) of bool. Raises LabError if none
    do."""
    sounding = levels[levels > DIGITAL_SILENCE]
    if len(levels) and not len(sounding):
        raise NoSpeech('%s: is silent. Check the microphone and record again.' % filename)
    if len(levels) * c.WIN_LENGTH < SHORTEST:
        raise NoSpeech('%s: is too short, %.1f s. Record two seconds of speech or more.'
                       % (filename, len(levels) * c.WIN_LENGTH))
    quiet, loud, least = speech_limits(sounding)
    is_speech = binary_opening(levels > least, np.ones(SHORTEST_RUN))
    if loud - quiet < SPEECH_RANGE or not is_speech.any():
        raise NoSpeech('%s: no speech stands out of a steady noise at %.0f dBFS. Record two seconds '
                       'of speech or more.'
                       % (filename, loud))
    return is_speech


def active_level(levels, is_speech):
    """Level of the speech in dBFS: the mean power of its blocks. levels, is_speech: (n_blocks,).

    Pauses do not count (the idea of ITU-T P.56). No block counts more than loud_level, because it could be a
    click.
    """
    speech = levels[is_speech]
    return 10 * np.log10(np.mean(10 ** (np.minimum(speech, loud_level(speech)) / 10)))


def has_pauses(levels):
    """Whether the quiet blocks among levels (n_blocks,) are pauses, and not only the quiet parts of words."""
    quiet = np.percentile(levels, 10)
    return np.mean(binary_opening(levels < quiet + PAUSE_RANGE, np.ones(PAUSE_RUN))) >= MIN_PAUSES


def bandwidth_of(audio):
    """The highest frequency of the speech in audio (n_samples,), in Hz.

    That is the highest one with a 100,000th of the power of a block, and five times that of the quietest
    blocks, in one of twenty blocks of speech.
    """
    blocks = blocks_of(audio)
    blocks = blocks[::1 + len(blocks) // MOST_BLOCKS]
    power = np.abs(np.fft.rfft(blocks * np.hanning(blocks.shape[1]), 512)) ** 2  # (n_blocks, 257)
    power[:, :int(np.ceil(VOICE_LOWEST * 512 / c.SAMPLE_RATE))] = 0  # an offset, hum
    total = power.sum(axis=1)
    is_speech, is_quiet = total > 1e-4 * total.max(), total <= np.percentile(total, 10)
    share = np.percentile(power[is_speech] / total[is_speech, None], 95, axis=0)  # (257,)
    loud = np.percentile(power[is_speech], 95, axis=0)
    # Of noise, a quarter of the values are below 0.29 times its mean. Quiet parts of words do not count
    quiet = np.percentile(power[is_quiet], 25, axis=0) / 0.29
    share, loud, quiet = (np.convolve(line, np.ones(9) / 9, 'same') for line in (share, loud, quiet))
    heard = np.flatnonzero((share > 1e-5) & (loud > 5 * quiet))
    return float(heard.max(initial=0) * c.SAMPLE_RATE / 512)


def kind_of_sound(audio):
    """What tells speech from other sounds in audio (n_samples,), by its blocks of 40 ms: dict of numbers.

    'voiced': which share of the loud blocks has the pitch of a voice, 70 to 400 Hz; 'lasting': correlation of
    the log mel spectrum, less its mean, with the one 80 ms later; 'changing': standard deviation of the level
    in dB. In speech, syllables come and go, with vowels and consonants. Only two minutes are looked at.
    """
    length = round(0.04 * c.SAMPLE_RATE)
    audio = audio[:min(3000, len(audio) // length) * length]
    blocks = sosfilt(high_pass(), audio - audio.mean()).reshape(-1, length)  # without hum
    window, n_fft = np.hanning(length), 2048
    power = np.abs(np.fft.rfft((blocks - blocks.mean(axis=1, keepdims=True)) * window, n_fft)) ** 2
    level = decibels(power.sum(axis=1))
    is_loud = level > np.sort(level)[-min(5, len(level))] - 25
    lags = slice(round(c.SAMPLE_RATE / 400), round(c.SAMPLE_RATE / 70))
    similar, of_window = np.fft.irfft(power), np.fft.irfft(np.abs(np.fft.rfft(window, n_fft)) ** 2)
    similar = similar[:, lags] / of_window[lags] * of_window[0]  # of a block with itself, so much later
    pitch = similar.max(axis=1) / np.maximum(power.mean(axis=1), 1e-20)
    mel = decibels(power @ get_filterbanks(40, n_fft, c.SAMPLE_RATE).T)
    mel = np.maximum(mel, np.percentile(mel, 95, axis=0) - 30)  # what is quieter nobody hears
    mel -= mel[is_loud].mean(axis=0)
    now, later = (part[is_loud[2:] & is_loud[:-2]] for part in (mel[:-2], mel[2:]))
    lasting = (now * later).sum() / np.sqrt((now ** 2).sum() * (later ** 2).sum() + 1e-9)
    return {'voiced': np.mean(pitch[is_loud] > 0.7), 'lasting': lasting,
            'changing': np.maximum(level, level[is_loud].min()).std()}


# ------------------------------------------------------------------------------------- channels

SAME_CHANNELS = 0.99  # correlation of the differences between samples from which on channels are one sound
SAME_CLICKS = 0.3  # of the largest difference: what is left of one channel without the other. More is a click
CLIPPING_COSTS = 20  # dB of speech over noise
COMPARABLE = 9  # dB: a low pass at 1500 Hz takes 7 dB of white noise away. So much does not make a channel better
WIDE = 0.9  # of the largest bandwidth
MOST_CLICKS, CLICKS_COST = 2, 10  # dB by which speech is above its calm parts; the cost of each dB more


def read_mono(filename, sample_rate):
    """Read one channel of a recording.

    Returns (audio (n_samples,) float64 at `sample_rate`, {'clipped': clipped_share of its samples,
    'remarks': list of what is odd about the file}). Raises LabError if it cannot be read.
    """
    return mono_of(*read_recording(filename), filename, sample_rate)


def mono_of(samples, rate, remark, filename, sample_rate):
    """What read_mono returns, of samples (n_samples, n_channels) that are read already."""
    check_samples(samples, rate, filename)
    names, remarks = choose_channels(samples, rate, filename), [remark] if remark else []
    if len(names) < samples.shape[1]:
        remarks.append('channel %d of %d is used' % (names[0] + 1, samples.shape[1]))
    audio = samples[:, names[0]].astype(np.float64) if len(names) == 1 else samples[:, names].mean(
        axis=1, dtype=np.float64)
    clipped = np.mean([clipped_share(samples[:, name]) for name in names])
    return at_rate(audio, rate, sample_rate), {'clipped': clipped, 'remarks': remarks}


def clipped_share(channel):
    """Which share of a channel (n_samples,) is clipped: in flat tops, or at the highest value of a sound card.

    A flat top is three samples or more at the highest value of all, however high that is: many programs lower
    a recording afterwards.
    """
    size = np.abs(channel)
    highest = size.max()
    if highest < LEAST_TOP:  # steps of a few bits look flat
        return 0.0
    flat = np.mean(binary_opening(size >= 0.9999 * highest, np.ones(3)))
    return float(max(flat, np.mean(size >= FULL_SCALE)))


def check_samples(samples, rate, filename):
    """Raise LabError if samples (n_samples, n_channels) at `rate` cannot be used."""
    if not MIN_RATE <= rate <= MAX_RATE:
        raise LabError('%s: sampled at %d Hz, it must be %d to %d' % (filename, rate, MIN_RATE, MAX_RATE))
    highest = max(samples.max(), -samples.min())  # NaN if one of them is
    if not np.isfinite(highest):
        raise LabError('%s: holds NaN or infinite samples' % filename)
    if highest > 2:  # a little above 1 is loud; this is not in [-1, 1] at all
        raise LabError('%s: float samples must lie in [-1, 1], these reach %g. Divide them by their full '
                       'scale.' % (filename, highest))


def at_rate(audio, rate, sample_rate):
    """Audio (n_samples,) of one rate at another."""
    common = gcd(rate, sample_rate)
    return audio if rate == sample_rate else resample_poly(audio, sample_rate // common, rate // common)


def choose_channels(samples, rate, filename):
    """Which channels of samples (n_samples, n_channels) become one, by their mean: list of numbers from 0 on.

    Two microphones hear a voice at two times. Then the mean of their channels is another voice, so one of
    them is used: that in which speech stands out most. Only channels that are the same are averaged.
    """
    n_channels, wanted = samples.shape[1], c.CHANNEL
    if n_channels > 1 and wanted is not None and wanted != 'mean':
        if wanted not in range(1, n_channels + 1):
            raise LabError('%s: it has %d channel(s), and channel %r is asked for.\nSet another number or None: '
                           'with --channel, or as CHANNEL in configure.py.' % (filename, n_channels, wanted))
        return [wanted - 1]
    if n_channels == 1 or wanted == 'mean' or are_same(samples):
        return list(range(n_channels))
    found = [quality_of(samples[:, name], rate) for name in range(n_channels)]
    quality, clicks, bandwidth = np.array(found).T  # (n_channels,) each
    # Of channels that are nearly as good, a muffled one has less noise, and less of the voice. Clicks reach every
    # frequency, so a channel that crackles does not say how wide the others should be
    is_near = quality > quality.max() - COMPARABLE
    is_near &= clicks < clicks[is_near].min() + 0.5
    is_wide = is_near & (bandwidth >= WIDE * bandwidth[is_near].max())
    is_good = is_wide & (quality > quality[is_wide].max() - 1)
    is_best = is_good & (clicks < clicks[is_good].min() + 0.2)
    return [int(np.flatnonzero(is_best)[0])]  # of channels as good, the first


def use_channel(channel):
    """Read this channel of every recording from now on. None: as configure.py says."""
    if channel is not None:
        c.CHANNEL = channel


def are_same(samples):
    """Whether all channels (n_samples, n_channels) are one sound. They may differ in loudness."""
    clipped = np.array([clipped_share(samples[:, name]) for name in range(samples.shape[1])])
    if clipped.max() - clipped.min() > MAX_CLIPPED:
        return False
    first, *others = (np.diff(samples[:, name].astype(np.float64)) for name in range(samples.shape[1]))
    for other in others:
        both, rest = first @ other, first - first @ other / max(other @ other, 1e-20) * other
        if both <= SAME_CHANNELS * np.sqrt((first @ first) * (other @ other)):
            return False
        if np.abs(rest).max() > SAME_CLICKS * min(np.abs(first).max(), np.abs(other).max()):
            return False
    return True


def quality_of(channel, rate):
    """How good a channel (n_samples,) is: (by how many dB speech stands out, by how many clicks raise blocks,
    bandwidth in Hz).

    Less what clipping and clicks cost. A channel that crackles is louder, but not between its clicks.
    """
    audio = at_rate(channel.astype(np.float64), rate, c.SAMPLE_RATE)
    levels, calm = block_levels(audio), block_levels(audio, 8)
    sounding = calm > DIGITAL_SILENCE
    if sounding.sum() < SHORTEST_RUN:
        return -CLIPPING_COSTS, 0, 0
    is_clipped = clipped_share(channel) > MAX_CLIPPED
    stands_out = loud_level(calm[sounding]) - np.percentile(levels[sounding], 10)
    clicks = np.mean((levels - calm)[sounding])
    costs = CLIPPING_COSTS * is_clipped + CLICKS_COST * max(0, clicks - MOST_CLICKS)
    return stands_out - costs, clicks, bandwidth_of(audio)


class Recording:
    """The audio of a recording, and what is known of it: computed when it is first asked for, and kept.

    audio: (n_samples,) float64, mono, at SAMPLE_RATE; filename: its name in messages; clipped: clipped_share
    of the samples; remarks: list of what is odd about the file.
    """

    def __init__(self, audio, filename, clipped=0.0, remarks=()):
        self.audio, self.filename, self.clipped, self.remarks = audio, filename, clipped, list(remarks)

    @cached_property
    def levels(self):
        """Level of each block in dBFS: (n_blocks,)."""
        return block_levels(self.audio)

    @cached_property
    def is_speech(self):
        """Which blocks hold speech: (n_blocks,) of bool. Raises LabError if none do."""
        return find_speech(self.levels, self.filename)

    @cached_property
    def level(self):
        """Level of the speech in dBFS."""
        return active_level(self.levels, self.is_speech)

    @cached_property
    def facts(self):
        """A dict of numbers. Raises LabError if there is no speech.

        'seconds': of speech; 'level': in dBFS; 'noise': by how many dB the background is lower; 'pauses':
        whether it can be heard; 'bandwidth': in Hz; 'clipped'; 'remarks'; and those of kind_of_sound.
        """
        active, length = np.flatnonzero(self.is_speech), round(c.WIN_LENGTH * c.SAMPLE_RATE)
        sound = kind_of_sound(self.audio[active[0] * length:(active[-1] + 1) * length])
        return {'seconds': self.is_speech.sum() * c.WIN_LENGTH, 'level': self.level, **sound,
                'noise': self.level - np.percentile(self.levels, 10),
                'pauses': has_pauses(self.levels), 'bandwidth': bandwidth_of(self.audio),
                'clipped': self.clipped, 'remarks': self.remarks}

    def origin(self, level=None):
        """How its feature is made: dict with 'LEVEL_DBFS' and 'bandwidth' in Hz. level: as in prepared."""
        return {'LEVEL_DBFS': level_or_configured(level), 'bandwidth': self.facts['bandwidth']}

    def gain(self, level=None):
        """The factor that brings the speech to a level in dBFS. level: as in prepared."""
        level = level_or_configured(level)
        return 1 if level is None else 10 ** ((level - self.level) / 20)

    def prepared(self, level=None):
        """The audio, its speech brought to a level in dBFS, with TRIM_SECONDS of silence before and after it.

        Features depend on the level, and read_MFB drops TRIM_SECONDS at both ends. The recordings of the
        slides' corpus agree in both; other recordings do not. If one has less silence, zeros take its place,
        so no speech is lost. level: None is LEVEL_DBFS of configure.py. If that is None, too, the audio stays
        as it is. Raises LabError if there is no speech.
        """
        if level_or_configured(level) is None:
            return self.audio
        length, margin = round(c.WIN_LENGTH * c.SAMPLE_RATE), round(c.TRIM_SECONDS * c.SAMPLE_RATE)
        active = np.flatnonzero(self.is_speech)
        first, stop = active[0] * length, (active[-1] + 1) * length  # samples of speech
        missing = max(0, margin - first), max(0, stop + margin - len(self.audio))
        framed = np.pad((self.audio - self.audio.mean())[max(0, first - margin):stop + margin], missing)
        return framed * self.gain(level)


def open_recording(filename):
    """The Recording of a file. Raises LabError if it cannot be read.

    The last two are kept, because several functions ask for the same one. A file that has changed is read
    again.
    """
    stat = os.stat(filename)
    return read_once(filename, (stat.st_ino, stat.st_size, stat.st_mtime_ns, c.CHANNEL))


@lru_cache(maxsize=2)
def read_once(filename, version):
    """The Recording of a file. version: anything that changes with the file."""
    check_frames()
    try:
        audio, about = read_mono(filename, c.SAMPLE_RATE)  # (n_samples,)
    except MemoryError as error:
        raise LabError('%s: too long for the memory. Split it: ffmpeg -i %s -f segment -segment_time 600 '
                       'part%%03d.wav' % (filename, quoted(filename))) from error
    return Recording(audio, filename, **about)


# ------------------------------------------------------------------------------------- what is wrong

MAX_CLIPPED = 1e-4  # share of the samples
MIN_LEVEL = -65  # dBFS of speech: below this, 16 bits are coarse
MIN_SPEECH = 2  # seconds
MIN_SNR = 20  # dB from the background to the speech
MAX_FLOOR = 0.97  # share of the cells of the feature that lie on ENERGY_FLOOR; the slides' corpus has 0.86
FEW_VOICED = 0.07  # share of the loud blocks: noises and drums have less
LASTING = 0.65  # correlation: notes of an instrument and thunder last
LEAST_CHANGE = 3.4  # dB: dense music, many people at once
ADVICE = {'clipped': 'record with less gain',
          'quiet': 'record at a higher level',
          'short': 'record for longer',
          'noisy': 'the background is only %(noise).0f dB lower, record in a quieter place',
          'floor': 'hardly anything is above the floor',
          'strange': 'this may not be speech'}


def share_on_floor(log_energies):
    """Which share of the cells of (n_frames, FILTER_BANK) has the lowest value of its filter."""
    return np.mean(log_energies == log_energies.min(axis=0))


def is_strange(facts):
    """Whether a sound may not be speech. Of 1,583 recordings of people, five are so (kind_of_sound)."""
    return facts['voiced'] < FEW_VOICED or facts['lasting'] > LASTING or facts['changing'] < LEAST_CHANGE


def what_is_wrong(facts):
    """What is wrong with a recording: a list of some of ADVICE. facts: see feature_of in DB_wav_reader.py."""
    wrong = {'clipped': facts['clipped'] > MAX_CLIPPED, 'quiet': facts['level'] < MIN_LEVEL,
             'short': facts['seconds'] < MIN_SPEECH, 'noisy': facts['noise'] < MIN_SNR and facts['pauses'],
             'floor': facts['floor'] > MAX_FLOOR, 'strange': is_strange(facts)}
    return [name for name in wrong if wrong[name]]


def note_about(filename, facts):
    """One line about a recording if something is wrong with it, otherwise None. facts: as in
    what_is_wrong."""
    advice, remarks = [ADVICE[name] % facts for name in what_is_wrong(facts)], facts.get('remarks', [])
    if advice:
        remarks = ['%.1f s of speech at %.0f dBFS, %.2f %% of the samples clipped, %.0f %% of the cells on '
                   'the floor: %s' % (facts['seconds'], facts['level'], 100 * facts['clipped'],
                                  100 * facts['floor'], '; '.join(advice)), *remarks]
    return '%s: %s' % (filename, '; '.join(remarks)) if remarks else None


def print_note(filename, facts):
    """Print note_about a recording, if there is one."""
    note = note_about(filename, facts)
    if note is not None:
        print('Note: %s' % note)


# ------------------------------------------------------------------------------------- its kind

NARROW = 5000  # Hz: a recording without anything above this was made at 8 kHz, or came over a telephone
APART = 1500  # Hz: with bandwidths that differ by more, people score about 0.3 lower with themselves


def seconds_of(filename):
    """Seconds of speech in a recording. Of a feature file, its length without TRIM_SECONDS at both ends."""
    if is_recording(filename):
        return open_recording(filename).facts['seconds']
    feature, _ = check_feature(read_pickles(filename)[0], filename, 'any')
    return len(feature) * c.WIN_STEP - 2 * c.TRIM_SECONDS


def origin_of(filename, level=None):
    """How the recording behind a file was made: what Recording.origin says.

    level: to which recordings are brought (Recording.prepared). For a feature file, the answer is in the
    file. If this suite did not make it from a recording, both entries are None, as for the published files.
    """
    if is_recording(filename):
        return open_recording(filename).origin(level)
    content = read_pickles(filename)[0]
    check_feature(content, filename, 'any')
    return {'LEVEL_DBFS': None, 'bandwidth': None, **content.get('recording', {})}


RESERVED = ['unknown', 'all']  # an answer, and a value of test_speaker


def is_speaker(name):
    """Whether a person can be enrolled under this name: a name, not reserved, and not like a file's."""
    return is_name(name) and name.casefold() not in RESERVED and not is_recording(name) and not name.endswith('.p')


def check_speaker(filename):
    """Raise LabError if the speaker of an enrolment file cannot be enrolled under the name of the folder."""
    name = path_parts(filename)[-1 - c.SPEAKER_LEVEL]
    reason = 'a name is one line of letters, not like that of a file, and not %s' % ' or '.join(RESERVED)
    if not name.isascii():
        with suppress(UnicodeError):  # bytes that are no UTF-8 are surrogates here
            if os.fsencode(name) != name.encode('utf-8', 'replace'):
                reason = 'its name is not in UTF-8'  # stays if the next line fails: it is not CP949, either
                reason = 'its name is in CP949, not in UTF-8: %s' % os.fsencode(name).decode('cp949')
    if not is_speaker(name):
        raise LabError('%s: nobody can be enrolled as %r.\nRename the folder (%s).'
                       % (filename, name, reason))


def same_origin(there, filename, level=None):
    """What origin_of says about one more enrolment file of a speaker. there: about the files before it, or
    None.

    Raises LabError if they differ in level, or if nobody can be enrolled under this name. Prints a note if
    they differ in bandwidth; then the lower one counts.
    """
    check_speaker(filename)
    here = origin_of(filename, level)
    if there is None:
        return here
    if there['LEVEL_DBFS'] != here['LEVEL_DBFS']:
        raise LabError('%s is %s, the enrolment files before it are %s. Make all of one kind.'
                       % (filename, in_words(here['LEVEL_DBFS']), in_words(there['LEVEL_DBFS'])))
    if differ_in_bandwidth(there, here):
        print('Note: %s has a bandwidth of %.1f kHz, the enrolment files before it of %.1f kHz: record all '
              'with one microphone.' % (filename, here['bandwidth'] / 1000, there['bandwidth'] / 1000))
    bandwidths = [origin['bandwidth'] for origin in (there, here) if origin['bandwidth'] is not None]
    return {**here, 'bandwidth': min(bandwidths, default=None)}


def differ_in_bandwidth(there, here):
    """Whether one of two origins ends below NARROW and the other does not, or they differ by more than APART."""
    bandwidths = [there['bandwidth'], here['bandwidth']]
    return None not in bandwidths and (min(bandwidths) < NARROW <= max(bandwidths)
                                       or max(bandwidths) - min(bandwidths) > APART)


def in_words(level):
    return 'not levelled' if level is None else 'levelled to %g dBFS' % level


def compare_origins(enrolled, filename, level=None):
    """Compare how a test file and the enrolment were made. Print a note if their bandwidths differ.

    enrolled: dict speaker -> what origin_of says about the enrolment. Raises LabError if the levels differ,
    because features and scores depend on them.
    """
    here = origin_of(filename, level)
    for speaker, there in enrolled.items():
        if there['LEVEL_DBFS'] != here['LEVEL_DBFS']:
            levels = in_words(here['LEVEL_DBFS']), speaker, in_words(there['LEVEL_DBFS'])
            raise LabError('%s is %s, the enrolment of %s is %s: their scores cannot be compared.\nEnrol and '
                           'test with recordings of one kind, or set LEVEL_DBFS in configure.py and run '
                           'python enroll.py.' % (filename, *levels))
    differ = [speaker for speaker, there in enrolled.items() if differ_in_bandwidth(there, here)]
    if differ:
        names = ', '.join(differ[:3]) + (' and %d others' % (len(differ) - 3) if len(differ) > 3 else '')
        print('Note: %s has a bandwidth of %.1f kHz, the enrolment of %s has %.1f kHz. The score will be '
              'lower than it should be. Record both with one microphone.'
              % (filename, here['bandwidth'] / 1000, names, enrolled[differ[0]]['bandwidth'] / 1000))


# ------------------------------------------------------------------------------------- which files

MOST_NAMED = 20  # files that are named in a message


def is_of_recording(feat_file):
    """Whether this suite made a feature file from a recording. If it cannot be read, another program made
    it."""
    try:
        content = read_pickles(feat_file)[0]
    except LabError:
        return False
    return isinstance(content, dict) and 'recording' in content


def convert_files(convert, recordings, wav_dir, feat_dir):
    """Convert each of a list of recordings below wav_dir whose feature file below feat_dir is missing or
    older.

    convert: function of (recording, feature file) that returns (note or None, what went wrong or None).
    Prints all of these. A feature file that this suite did not make from a recording is never replaced.
    Returns the list of what went wrong.
    """
    tasks, n_up_to_date, left_alone = [], 0, []
    for wav_file in recordings:
        feat_file = Path(feat_dir) / Path(wav_file).relative_to(wav_dir).with_suffix('.p')
        if feat_file.exists() and not is_of_recording(feat_file):
            left_alone.append(str(feat_file))
        elif feat_file.exists() and feat_file.stat().st_mtime >= os.path.getmtime(wav_file):
            n_up_to_date += 1
        else:
            tasks.append((wav_file, feat_file))
    results = in_parallel(convert, tasks, 'Features of %s' % wav_dir)
    errors = [error for _, error in results if error is not None]
    print('%s -> %s: %d converted, %d up to date, %d skipped'
          % (wav_dir, feat_dir, len(results) - len(errors), n_up_to_date, len(errors)))
    if left_alone:
        print('%d feature files were not made from a recording by this version, and stay. To make them '
              'again, delete them: %s' % (len(left_alone), ', '.join(left_alone[:MOST_NAMED])))
    for note, error in results:
        if error is not None:
            print('Skipped %s' % error, file=sys.stderr)
        elif note is not None:
            print('Note: %s' % note)
    return errors


def name_unused_files(test_dir, used, enrolled):
    """Print which files below test_dir enroll.py does not use, and why.

    used: list of the files that it or the test scripts use; enrolled: set of the speakers with an enrolment
    file. Raises LabError if there are no such speakers.
    """
    used, lines = {os.path.abspath(filename) for filename in used}, []
    for folder, folders, names in sorted(os.walk(test_dir)):
        files = [os.path.join(folder, name).replace(os.sep, '/') for name in sorted(names)
                 if not name.startswith('.')]
        unused = [filename for filename in files if os.path.abspath(filename) not in used]
        for filename in unused:
            can_be_read = is_recording(filename) or filename.endswith('.p')
            if os.path.basename(filename).lower().startswith(('enroll', 'test')):
                lines.append('%s: %s' % (filename, 'there is a wav of the same name' if can_be_read
                                         else 'files of this format are not read, convert it to wav'))
            elif can_be_read:
                lines.append('%s: its name begins neither with enroll nor with test' % filename)
        speaker = path_parts(folder)[-c.SPEAKER_LEVEL]
        if not folders and not files:
            lines.append('%s: the folder is empty' % folder)
        elif len(unused) < len(files) and speaker not in enrolled:
            lines.append('%s: has test files, but no enrolment file such as enroll.wav' % folder)
    for line in lines[:MOST_NAMED]:
        print('Not used: %s' % line)
    if len(lines) > MOST_NAMED:
        print('Not used: %d more' % (len(lines) - MOST_NAMED))
    if not enrolled:
        raise LabError('%s has no enrolment file. Each speaker needs a folder there with enroll.wav or '
                       'enroll.p.' % test_dir)
