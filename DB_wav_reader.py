"""Find the data, and turn wav files into feature files.

    python DB_wav_reader.py

Reads every wav under TRAIN_WAV_DIR and TEST_WAV_DIR (configure.py) and writes
DIR/<speaker>/<utterance>.p under TRAIN_FEAT_DIR and TEST_FEAT_DIR, only what is missing or older than its wav.
Ten minutes of audio take one to two seconds on one core.

The other scripts import from here what they need to find and read files: the DataFrame loaders, the audio reader, the
feature recipe, and the pickle reader that executes nothing.
"""
import os
import sys
from collections import Counter
from glob import escape, glob
from pathlib import Path

import numpy as np
import pandas as pd
from python_speech_features import delta, fbank, lifter
from python_speech_features.sigproc import preemphasis, round_half_up
from scipy.fft import dct

import configure as c
from support.checks import PUBLISHED_SETTINGS, feature_settings
from support.messages import LabError, in_parallel, run_script
from support.recordings import OTHER_AUDIO, diagnose, is_wav, prepare_speech, read_wav, to_mono_at_rate
from support.safe_files import write_pickles


def find_wavs(directory, pattern='**/*.[wW][aA][vV]'):
    """Sorted list of the wav files anywhere below `directory`."""
    return sorted(glob(os.path.join(escape(str(directory)), pattern), recursive=True))


def find_feats(directory, pattern='**/*.p'):
    """Sorted list of the feature files anywhere below `directory`."""
    return sorted(glob(os.path.join(escape(str(directory)), pattern), recursive=True))


def path_parts(filename):
    """The folders of a file, from the root on, and its name; of Windows paths, too."""
    return os.path.abspath(filename).replace('\\', '/').split('/')


def speaker_of(filename):
    """The speaker of a file: the name of the folder it lies in, or of one further up (SPEAKER_LEVEL)."""
    return path_parts(filename)[-1 - c.SPEAKER_LEVEL]


def check_speaker_folder(filename, directory):
    """Raise LabError for a file that lies in no speaker's folder below `directory`: not deep enough."""
    if len(Path(filename).relative_to(directory).parts) <= c.SPEAKER_LEVEL:
        place = '%s/<speaker>/' % directory + '<video>/' * (c.SPEAKER_LEVEL - 1)
        raise LabError('%s: lies in no speaker folder. Move it to %s, or see SPEAKER_LEVEL in configure.py.'
                       % (filename, place))


def make_DB(filenames, directory, kind, advice):
    """DataFrame with a row per file: filename, speaker_id (speaker_of), dataset_id (the folder above that).

    Raises LabError, with the advice, where there are no files of this kind, and where one is in no speaker's folder.
    """
    if not filenames:
        problem = 'holds no %s files' % kind if os.path.isdir(directory) else 'does not exist'
        raise LabError('%s %s. %s' % (directory, problem, advice))
    for filename in filenames:
        check_speaker_folder(filename, directory)
    DB = pd.DataFrame({'filename': filenames}, dtype=object)
    DB['filename'] = [name.replace('\\', '/') for name in DB['filename']]  # Windows paths
    DB['speaker_id'] = [speaker_of(name) for name in DB['filename']]
    DB['dataset_id'] = [path_parts(name)[-2 - c.SPEAKER_LEVEL] for name in DB['filename']]
    return DB


def read_DB_structure(directory):
    """DataFrame (filename, speaker_id, dataset_id) of the wav files below `directory`, sorted by filename.

    Raises LabError where the folder is missing or holds no wav file.
    """
    return make_DB(find_wavs(directory), directory, 'wav',
                   'Put recordings there as <speaker>/<name>.wav, or set another folder in configure.py.')


def read_feats_structure(directory):
    """DataFrame (filename, speaker_id, dataset_id) of the feature files below `directory`, sorted by filename.

    Raises LabError where the folder is missing or holds no feature file.
    """
    return make_DB(find_feats(directory), directory, 'feature',
                   'Run python DB_wav_reader.py to make them from your wavs, or set another\nfolder in configure.py; '
                   'demo voices are made only in the folders that the project came with.')


def read_feats_and_wavs(directory):
    """DataFrame (filename, speaker_id, dataset_id) of the feature files and the wavs below `directory`.

    Raises LabError where there are none, and where a recording is there both as a wav and as features.
    """
    DB = make_DB(sorted(find_feats(directory) + find_wavs(directory)), directory, 'feature or wav',
                 'Each speaker needs a folder there with\nenroll.wav and test.wav, or with enroll.p and test.p.')
    stems = Counter(os.path.splitext(filename)[0] for filename in DB['filename'])
    stem, count = stems.most_common(1)[0]
    if count > 1:
        raise LabError('%s is there as a wav and as a feature file. Remove one of them.' % stem)
    return DB


def split_enroll_and_test(dataroot_dir):
    """(enroll_DB, test_DB): the files below `dataroot_dir` whose names begin with 'enroll' and with 'test'.

    Raises LabError where one of the two kinds is missing, and as read_feats_and_wavs.
    """
    DB_all = read_feats_and_wavs(dataroot_dir)
    names = [os.path.basename(filename).lower() for filename in DB_all['filename']]
    enroll_DB = DB_all[[name.startswith('enroll') for name in names]].reset_index(drop=True)
    test_DB = DB_all[[name.startswith('test') for name in names]].reset_index(drop=True)
    folders = {}
    for filename, speaker in zip(DB_all['filename'], DB_all['speaker_id']):
        folder = '/'.join(path_parts(filename)[:-c.SPEAKER_LEVEL])
        if folders.setdefault(speaker, folder) != folder:
            raise LabError('%s and %s are both a folder of speaker %s, who can be enrolled once.\nRename one, or move '
                           'its files into the other.' % (folders[speaker], folder, speaker))
    if enroll_DB.empty or test_DB.empty:
        raise LabError('%s has %d enrolment and %d test files. Each speaker needs a folder there with\n'
                       'enroll.wav and test.wav, or with enroll.p and test.p.'
                       % (dataroot_dir, len(enroll_DB), len(test_DB)))
    return enroll_DB, test_DB


def test_file_of(test_speaker, test_DB):
    """The test file of a speaker; or test_speaker itself, where it is a wav or feature file.

    Raises LabError, with the speakers there are, for an unknown one.
    """
    suffix = os.path.splitext(str(test_speaker))[1].lower()
    if suffix in OTHER_AUDIO:
        raise LabError('%s: only wavs are read. Convert it first, for example: ffmpeg -i %s test.wav'
                       % (test_speaker, test_speaker))
    if is_wav(test_speaker) or str(test_speaker).endswith('.p'):
        if not os.path.isfile(test_speaker):
            raise LabError('test_speaker = %r: there is no such file.' % test_speaker)
        return test_speaker
    filenames = test_DB['filename'][test_DB['speaker_id'] == test_speaker]
    if filenames.empty:
        raise LabError('There is no test file of test_speaker = %r. Choose one of %s, or the name of a wav file.'
                       % (test_speaker, ', '.join(sorted(set(test_DB['speaker_id'])))))
    return filenames.iloc[0]


def read_audio(filename, sample_rate=c.SAMPLE_RATE):
    """Read a wav file: mono float64 array in [-1, 1] at `sample_rate`, whatever its format, channels and rate.

    Raises LabError, with the file's name, for a file that cannot be used.
    """
    samples, rate, _ = read_wav(filename)
    return to_mono_at_rate(samples, rate, sample_rate, filename)


PRE_EMPHASIS = 0.97  # of each sample, so much of the one before is subtracted: as the library does by itself
FRAMES_AT_ONCE = 6000  # whose spectra are held in memory: a minute takes 100 MB
DELTA_FRAMES = 1  # differences are taken from this many frames before to as many after, as in the original lab
SCALE_FLOOR = 2e-12  # added to the standard deviation: a row may be constant


def extract_features(audio):
    """The feature of mono audio (float in [-1, 1], SAMPLE_RATE): (n_frames, feature_size()) float64.

    As configure.py stands, by the recipe of the published feature files: filterbank energies of 25 ms rectangular
    windows every 10 ms, floored, in 20*log10, minus their mean over the utterance, per filter. Raises as log_filterbank
    and finish_features.
    """
    return finish_features(log_filterbank(audio))


def log_filterbank(audio):
    """Floored mel filterbank energies of mono audio in 20*log10: (n_frames, FILTER_BANK) float64.

    Raises ValueError for integers and several channels.
    """
    if audio.ndim != 1 or audio.dtype.kind != 'f':  # the library would take them without a word, and be wrong
        raise ValueError('audio must be one channel of floats in [-1, 1]; read_audio returns that')
    length, step = (int(round_half_up(seconds * c.SAMPLE_RATE)) for seconds in (c.WIN_LENGTH, c.WIN_STEP))
    n_frames = 1 + max(0, -(-(len(audio) - length) // step))  # the last one is filled up with zeros
    emphasised = preemphasis(audio, PRE_EMPHASIS)
    energies = []
    for first in range(0, n_frames, FRAMES_AT_ONCE):  # an hour in one go would take 6 GB
        part = emphasised[first * step:(first + FRAMES_AT_ONCE - 1) * step + length]
        energies.append(fbank(part, c.SAMPLE_RATE, c.WIN_LENGTH, c.WIN_STEP, c.FILTER_BANK, preemph=0)[0])
    return 20 * np.log10(np.maximum(np.vstack(energies), c.ENERGY_FLOOR))


def finish_features(log_energies):
    """Make the feature that configure.py describes of log energies (n_frames, FILTER_BANK), in 20*log10 and floored.

    Returns (n_frames, feature_size()) float64: filters or cepstral coefficients, then their first differences, then the
    second ones; each row normalised over the utterance. Raises LabError for too large an N_CEPSTRUM.
    """
    if c.USE_MFCC:
        if c.N_CEPSTRUM > c.FILTER_BANK:
            raise LabError('N_CEPSTRUM = %s in configure.py: FILTER_BANK = %s filters give no more coefficients than '
                           'that.\nLower the one or raise the other.' % (c.N_CEPSTRUM, c.FILTER_BANK))
        natural = log_energies * np.log(10) / 20  # cepstra are of natural logarithms
        static = lifter(dct(natural, type=2, axis=1, norm='ortho')[:, :c.N_CEPSTRUM])  # as the library's mfcc does
    else:
        static = log_energies if c.USE_LOGSCALE else 10 ** (log_energies / 20)
    blocks = [static]
    if c.USE_DELTA:
        blocks.append(delta(static, DELTA_FRAMES))
        blocks.append(delta(blocks[1], DELTA_FRAMES))
    feature = np.hstack(blocks)
    feature = feature - feature.mean(axis=0)
    return feature / (feature.std(axis=0) + SCALE_FLOOR) if c.USE_SCALE else feature


def feature_of_wav(filename):
    """What the lab makes of a wav file: (feature (n_frames, feature_size()), kind of wav, line of diagnose or
    None).

    Raises LabError for a file that cannot be used, holds no speech, or too little.
    """
    samples, rate, kind = read_wav(filename)  # (n_samples, n_channels)
    audio = to_mono_at_rate(samples, rate, c.SAMPLE_RATE, filename)  # (n_samples,)
    log_energies = log_filterbank(prepare_speech(audio, filename))  # (n_frames, FILTER_BANK)
    feature = finish_features(log_energies)
    trim_silence(feature, filename)  # raises for a recording too short to be used
    channels = {1: 'mono', 2: 'stereo'}.get(samples.shape[1], '%d channels' % samples.shape[1])
    return feature, '%s, %d Hz, %s' % (kind, rate, channels), diagnose(samples, audio, log_energies, filename)


def trim_silence(feature, filename):
    """Drop TRIM_SECONDS at both ends: (n_frames, n_dims) -> (fewer, n_dims). Raises LabError if too short."""
    n_trim = round(c.TRIM_SECONDS / c.WIN_STEP)  # frames at each end
    trimmed = feature[n_trim:max(n_trim, len(feature) - n_trim)]
    if len(trimmed) <= c.MIN_FRAMES:
        raise LabError('%s: %d frames, %d after trimming %g s at both ends: more than %d are needed'
                       % (filename, len(feature), len(trimmed), c.TRIM_SECONDS, c.MIN_FRAMES))
    return trimmed


def write_feature(filename, feature, label):
    """Write the feature file {'feat': feature (n_frames, feature_size()), 'label': speaker}.

    Where configure.py says something else than the published files' settings, they are its third entry, 'settings'.
    """
    content = {'feat': feature, 'label': label}
    if feature_settings() != PUBLISHED_SETTINGS:
        content['settings'] = feature_settings()
    write_pickles(filename, content)


def convert_wav(task):
    """Make one feature file. task is (wav file, feature file, folder of the speakers' folders).

    Returns (kind of wav, what is off about it or None), or (None, what is wrong with the file).
    """
    wav_file, feat_file, wav_dir = task
    try:
        check_speaker_folder(wav_file, wav_dir)
        feature, kind, remark = feature_of_wav(wav_file)
    except (LabError, OSError) as error:
        return None, str(error)
    except (MemoryError, ValueError) as error:
        return None, '%s: %s' % (wav_file, error)
    write_feature(feat_file, feature, speaker_of(wav_file))
    return kind, remark


def convert_wavs(wav_dir, feat_dir):
    """Turn the wavs below `wav_dir` into feature files below `feat_dir`, where missing or older than the wav.

    Returns (Counter: kind of wav -> number converted, list of what is off about them, list of what is wrong with those
    not converted, number up to date).
    """
    tasks, n_up_to_date = [], 0
    for wav_file in find_wavs(wav_dir):
        feat_file = Path(feat_dir) / Path(wav_file).relative_to(wav_dir).with_suffix('.p')
        if feat_file.exists() and feat_file.stat().st_mtime >= os.path.getmtime(wav_file):
            n_up_to_date += 1
        else:
            tasks.append((wav_file, feat_file, wav_dir))
    results = in_parallel(convert_wav, tasks, 'Features of %s' % wav_dir)
    converted = Counter(kind for kind, _ in results if kind is not None)
    remarks = [line for kind, line in results if kind is not None and line is not None]
    return converted, remarks, [line for kind, line in results if kind is None], n_up_to_date


def main():
    folders = [(c.TRAIN_WAV_DIR, c.TRAIN_FEAT_DIR),  # wavs in, features out
               (c.TEST_WAV_DIR, c.TEST_FEAT_DIR)]

    n_failed, n_empty = 0, 0
    for wav_dir, feat_dir in folders:
        if not find_wavs(wav_dir):
            print('%s: no wav files' % wav_dir)
            n_empty += 1
            continue
        converted, remarks, errors, n_up_to_date = convert_wavs(wav_dir, feat_dir)
        print('%s -> %s: %d converted, %d up to date, %d skipped'
              % (wav_dir, feat_dir, converted.total(), n_up_to_date, len(errors)))
        for kind, count in sorted(converted.items()):
            print('  %d x %s' % (count, kind))
        for remark in remarks:
            print('Note: %s' % remark)
        for error in errors:
            print('Skipped %s' % error, file=sys.stderr)
        n_failed += len(errors)

    if n_empty == len(folders):
        raise LabError('There are no wav files to convert. Put recordings into %s/<speaker>/, '
                       'or set the folders in configure.py.' % c.TEST_WAV_DIR)
    if n_failed:
        raise LabError('%d wav file(s) skipped, named above. The others are done.' % n_failed)


if __name__ == '__main__':
    run_script(main)
