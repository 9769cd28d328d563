"""Find the data, and turn recordings into feature files.

    python DB_wav_reader.py

Reads every recording in TRAIN_WAV_DIR and TEST_WAV_DIR (configure.py). For each one, it writes a feature file
<speaker>/<utterance>.p in TRAIN_FEAT_DIR or TEST_FEAT_DIR, unless a newer one exists. Ten minutes of audio
take two seconds on one core.
"""
import os
from glob import escape, glob
from pathlib import Path

import numpy as np
import pandas as pd
from python_speech_features import delta, fbank, lifter
from scipy.fft import dct

import configure as c
from support.checks import PUBLISHED_SETTINGS, check_folders, check_frames, check_length, feature_settings
from support.checks import n_cepstrum, path_parts
from support.messages import LabError, check_settings, run_script
from support.audio_files import is_recording, is_wav
from support.recordings import convert_files, note_about, open_recording, parts_for_frames, read_mono
from support.recordings import share_on_floor
from support.safe_files import write_pickles

DELTA_FRAMES = 1  # differences are taken between the frame before and the frame after
SMALL_STD = 2e-12  # added to a standard deviation, because a column may be constant


def find_files(directory):
    """Sorted list of the files anywhere below `directory`. / stands between folders on Windows, too."""
    names = glob(os.path.join(escape(str(directory)), '**', '*.*'), recursive=True)
    return sorted(name.replace(os.sep, '/') for name in names if not os.path.isdir(name))


def find_feats(directory):
    """Sorted list of the feature files anywhere below `directory`."""
    return [filename for filename in find_files(directory) if filename.endswith('.p')]


def find_wavs(directory):
    """Sorted list of the recordings anywhere below `directory`. x.m4a is left out if there is an x.wav."""
    recordings = [filename for filename in find_files(directory) if is_recording(filename)]
    converted = {os.path.splitext(filename)[0] for filename in recordings if is_wav(filename)}
    return [name for name in recordings if is_wav(name) or os.path.splitext(name)[0] not in converted]


def speaker_of(filename):
    """The speaker of a file: the name of its folder, or of the one above that (SPEAKER_LEVEL)."""
    return path_parts(filename)[-1 - c.SPEAKER_LEVEL]


def make_DB(filenames, directory, advice):
    """Make a DataFrame with a row for each file.

    Its columns are filename, speaker_id (speaker_of) and dataset_id (the folder above that of the speaker).
    Raises LabError if there is no file (with the advice), or if one lies in no speaker folder.
    """
    if not filenames:
        problem = 'holds nothing to read' if os.path.isdir(directory) else 'does not exist'
        raise LabError('%s %s. %s' % (directory, problem, advice))
    for filename in filenames:
        if len(Path(filename).relative_to(directory).parts) <= c.SPEAKER_LEVEL:
            raise LabError('%s: lies in no speaker folder. Move it to %s/<speaker>/%s, or see SPEAKER_LEVEL '
                           'in configure.py.' % (filename, directory, '<video>/' * (c.SPEAKER_LEVEL - 1)))
    DB = pd.DataFrame({'filename': filenames}, dtype=object)
    DB['speaker_id'] = [speaker_of(filename) for filename in filenames]
    DB['dataset_id'] = [path_parts(filename)[-2 - c.SPEAKER_LEVEL] for filename in filenames]
    return DB


def read_DB_structure(directory):
    """DataFrame (filename, speaker_id, dataset_id) of the recordings below `directory`, sorted."""
    return make_DB(find_wavs(directory), directory,
                   'Put recordings there as <speaker>/<name>.wav, or set another folder in configure.py.')


def read_feats_structure(directory):
    """DataFrame (filename, speaker_id, dataset_id) of the feature files below `directory`, sorted."""
    return make_DB(find_feats(directory), directory,
                   'Run python DB_wav_reader.py to make feature files\nfrom recordings, or name another '
                   'folder. Demo voices are made only in the folders of this project.')


def read_feats_and_wavs(directory):
    """DataFrame (filename, speaker_id, dataset_id) of both kinds of file below `directory`, sorted."""
    return make_DB(sorted(find_feats(directory) + find_wavs(directory)), directory,
                   'Put enroll.wav and test.wav into\n%s/<speaker>/. If they are in %s, run python '
                   'DB_wav_reader.py.' % (directory, c.TEST_WAV_DIR))


def split_enroll_and_test(dataroot_dir):
    """(enroll_DB, test_DB): the files below `dataroot_dir` whose names begin with 'enroll' and 'test'."""
    DB_all = read_feats_and_wavs(dataroot_dir)
    check_folders(DB_all)
    names = [os.path.basename(filename).lower() for filename in DB_all['filename']]
    enroll_DB = DB_all[[name.startswith('enroll') for name in names]].reset_index(drop=True)
    test_DB = DB_all[[name.startswith('test') for name in names]].reset_index(drop=True)
    return enroll_DB, test_DB


def test_files_of(test_speaker, test_DB):
    """List of the test files of a speaker; or [test_speaker], if that is the name of a file."""
    if is_recording(test_speaker) or test_speaker.endswith('.p'):
        if not os.path.isfile(test_speaker):
            raise LabError('test_speaker = %r: there is no such file.' % test_speaker)
        return [test_speaker]
    if test_DB.empty:
        raise LabError('There is no test file. Each speaker needs test.wav or test.p beside the enrolment '
                       'file.')
    filenames = list(test_DB['filename'][test_DB['speaker_id'] == test_speaker])
    if not filenames:
        speakers = ', '.join(sorted(set(test_DB['speaker_id'])))
        raise LabError('There is no test file of test_speaker = %r. Choose one of %s, or the name of a wav '
                       'file.' % (test_speaker, speakers))
    return filenames


def read_audio(filename, sample_rate=c.SAMPLE_RATE):
    """Read a recording: mono float64 array (n_samples,) in [-1, 1], at `sample_rate`.

    Raises LabError if it cannot be read.
    """
    return read_mono(filename, sample_rate)[0]


def extract_features(audio):
    """The feature of mono audio (n_samples,), float in [-1, 1] at SAMPLE_RATE: (n_frames, n_dims) float64.

    By default: energies of 25 ms every 10 ms, floored, in 20*log10, minus column means. Sets no level.
    """
    return finish_features(log_filterbank(audio))


def log_filterbank(audio):
    """Mel filterbank energies of mono audio (n_samples,), floored, in 20*log10: (n_frames, FILTER_BANK)."""
    if audio.ndim != 1 or audio.dtype.kind != 'f':  # the library makes wrong features of other audio
        raise ValueError('audio must be one channel of floats in [-1, 1]; read_audio returns that')
    check_frames()
    energies = [fbank(part, c.SAMPLE_RATE, c.WIN_LENGTH, c.WIN_STEP, c.FILTER_BANK, preemph=0)[0]
                for part in parts_for_frames(audio)]  # cut to save memory, pre-emphasised already
    return 20 * np.log10(np.maximum(np.concatenate(energies), c.ENERGY_FLOOR))


def finish_features(log_energies):
    """Log energies (n_frames, FILTER_BANK) -> the feature (n_frames, n_dims) that configure.py asks for."""
    feature = log_energies if c.USE_LOGSCALE else 10 ** (log_energies / 20)
    if c.USE_MFCC:
        natural = log_energies * np.log(10) / 20  # a cepstrum is made of natural logarithms
        cepstrum = dct(natural, type=2, axis=1, norm='ortho')  # (n_frames, FILTER_BANK)
        feature = lifter(cepstrum[:, :n_cepstrum()])  # (n_frames, N_CEPSTRUM)
    if c.USE_DELTA:
        first = delta(feature, DELTA_FRAMES)
        feature = np.hstack([feature, first, delta(first, DELTA_FRAMES)])  # three times as many columns
    feature = feature - feature.mean(axis=0)  # in log, a microphone adds a constant
    return feature / (feature.std(axis=0) + SMALL_STD) if c.USE_SCALE else feature


def feature_of(recording, level=None):
    """The feature of a Recording (support/recordings.py). level: its new dBFS; None: LEVEL_DBFS.

    Returns (feature (n_frames, n_dims), facts: a dict of what is known of the recording, with the share
    of log_energies that are on the floor). Raises LabError if there is too little speech, or none.
    """
    log_energies = log_filterbank(recording.prepared(level))  # (n_frames, FILTER_BANK)
    check_length(len(log_energies), recording.filename)
    return finish_features(log_energies), {**recording.facts, 'floor': share_on_floor(log_energies)}


def write_feature(filename, feature, label, origin=None):
    """Write the feature file {'feat': feature (n_frames, n_dims), 'label': speaker}.

    Adds 'settings' if they are not the published ones, and origin (how it was recorded) as 'recording'.
    """
    content = {'feat': feature, 'label': label}
    if feature_settings() != PUBLISHED_SETTINGS:
        content['settings'] = feature_settings()
    if origin is not None:
        content['recording'] = origin
    write_pickles(filename, content)


def convert_wav(task):
    """Make one feature file. task: the two file names. Returns (note or None, error or None)."""
    wav_file, feat_file = task
    try:
        recording = open_recording(wav_file)
        feature, facts = feature_of(recording)
    except (LabError, OSError, MemoryError, ValueError) as error:
        return None, (str(error) if wav_file in str(error) else '%s: %s' % (wav_file, error))
    write_feature(feat_file, feature, speaker_of(wav_file), recording.origin())
    return note_about(wav_file, facts), None


def convert_wavs(wav_dir, feat_dir):
    """Turn the recordings below `wav_dir` into feature files below `feat_dir`, if missing or older.

    Prints notes and errors. Returns the list of the errors.
    """
    return convert_files(convert_wav, read_DB_structure(wav_dir)['filename'], wav_dir, feat_dir)


def main(
        # Settings
        train_wav_dir=c.TRAIN_WAV_DIR,  # recordings to train on: DIR/<speaker>/<utterance>.wav
        train_feat_dir=c.TRAIN_FEAT_DIR,  # where their features go
        test_wav_dir=c.TEST_WAV_DIR,  # recordings to enrol and test: DIR/<speaker>/enroll.wav and test.wav
        test_feat_dir=c.TEST_FEAT_DIR,  # where their features go
):
    check_settings(main, locals())
    check_frames()
    folders = [(train_wav_dir, train_feat_dir), (test_wav_dir, test_feat_dir)]
    folders = [(wav_dir, feat_dir) for wav_dir, feat_dir in folders if find_wavs(wav_dir)]
    if not folders:
        raise LabError('There are no recordings to convert. Put some into %s/<speaker>/, or name another '
                       'folder.' % test_wav_dir)
    errors = [error for wav_dir, feat_dir in folders for error in convert_wavs(wav_dir, feat_dir)]
    if errors:
        raise LabError('%d recording(s) skipped, named above. The others are done.' % len(errors))


if __name__ == '__main__':
    run_script(main)
