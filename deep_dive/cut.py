"""Cut recordings into utterances to train on: one long recording of a person becomes several short ones.

    python -m deep_dive.cut test_wavs feat_new/train

Reads <speaker>/enroll*.wav in the first folder. Writes the features of each piece into the second one, which must be
new: <speaker>/enroll_00.p, <speaker>/enroll_01.p, and so on. Other recordings of these speakers are left to test with.
Makes the demo voices of test_wavs if there is no data. Takes ten seconds.
"""
import os
from pathlib import Path

import configure as c
from DB_wav_reader import feature_of, split_enroll_and_test, write_feature
from support.demo_voices import provide_test_features
from support.messages import POSITIVE, LabError, NoSpeech, check_settings, run_script
from support.recordings import Recording, is_recording, open_recording


def cut_recording(filename, piece_seconds, feat_dir, speaker):
    """Write the features of the pieces of a recording below feat_dir/<speaker>. Returns how many.

    Left out: pieces without speech, and a rest that is shorter than a piece.
    """
    audio, length = open_recording(filename).audio, round(piece_seconds * c.SAMPLE_RATE)
    starts, n_written = range(0, len(audio) - length + 1, length), 0
    for start in starts:
        piece = Recording(audio[start:start + length], filename)
        try:
            feature, _ = feature_of(piece)  # (n_frames, n_dims)
        except NoSpeech:
            continue
        name = '%s_%02d.p' % (Path(filename).stem, n_written)
        write_feature(Path(feat_dir) / speaker / name, feature, speaker, piece.origin())
        n_written += 1
    return n_written


def main(
        # Settings
        wav_dir='',  # recordings: <speaker>/enroll.wav
        feat_dir='',  # where the features of the pieces go; a new folder, such as feat_new/train
        piece_seconds=2.0,  # length of a piece; a training window has 1 s
):
    if not wav_dir or not feat_dir:
        raise LabError('Name two folders, as in\npython -m deep_dive.cut test_wavs feat_new/train')
    check_settings(main, locals(), piece_seconds=POSITIVE)
    if os.path.exists(feat_dir):
        raise LabError('%s exists already: remove it, or name another folder.' % feat_dir)
    if wav_dir == c.TEST_WAV_DIR:
        provide_test_features()
    enroll_DB, _ = split_enroll_and_test(wav_dir)
    enroll_DB = enroll_DB[enroll_DB['filename'].map(is_recording)]
    numbers = [cut_recording(filename, piece_seconds, feat_dir, speaker)
               for filename, speaker in zip(enroll_DB['filename'], enroll_DB['speaker_id'])]
    if not sum(numbers):
        raise LabError('%s has no <speaker>/enroll.wav with %g s of speech. Record some, or lower piece_seconds.'
                       % (wav_dir, piece_seconds))
    print('%s: %d speakers, %d pieces of %g s'
          % (feat_dir, enroll_DB['speaker_id'].nunique(), sum(numbers), piece_seconds))


if __name__ == '__main__':
    run_script(main, words=True)
