"""Write d-vectors for other programs: of recordings, of feature files, of all in a folder.

    python -m own_voice.embed a.wav b.wav --out=x.npz
    python -m own_voice.embed feat_own/test --out=x.npz     # a folder: all recordings and features below it
    python -m own_voice.embed ../data/test --out=x.npz      # a folder of Kaldi: wav.scp, and utt2spk if there is one

The file is numpy's: `found = numpy.load('x.npz')` has found['names'] (n,), found['vectors'] (n, embedding_size)
of unit length, float32, so that `vectors @ vectors.T` is every cosine, and found['speakers'] (n,), '' where
there is no utt2spk. A hundred recordings take half a minute.
"""
import os
import sys

import numpy as np
from tqdm import tqdm

from DB_wav_reader import find_feats, find_wavs
from deep_dive.kaldi import is_kaldi, read_kaldi
from model import get_embeddings, load_model
from own_voice.compare import check_recording
from support.messages import NAMES, TEST_RULES, LabError, check_settings, ending, run_script
from support.safe_files import written_whole


def find_utterances(files):
    """What stands behind files and folders: list of (name, file, speaker or '').

    Raises LabError if there is no such file or folder, or nothing in it.
    """
    found = []
    for filename in files:
        if is_kaldi(filename):
            found += read_kaldi(filename).itertuples(index=False, name=None)
        elif os.path.isdir(filename):
            below = sorted(find_wavs(filename) + find_feats(filename))
            if not below:
                raise LabError('%s holds no recording, and no feature file.' % filename)
            found += [(path, path, '') for path in below]
        else:
            check_recording(filename, ['.p'])
            found.append((filename, filename, ''))
    return found


def main(
        # Settings
        files=[],  # recordings, feature files or folders
        out='d_vectors.npz',  # where the d-vectors go
        cp_num='voices',  # which checkpoint
        log_dir='model_saved',  # where the checkpoints are saved
        test_frames=None,  # cut a recording into segments of so many frames (10 ms); None: not cut
        use_cuda=True,  # use a GPU if there is one
):
    if not files:
        raise LabError('Name recordings or a folder, as in python -m own_voice.embed a.wav b.wav --out=x.npz')
    check_settings(main, locals(), **TEST_RULES, files=NAMES, out=ending('.npz'))
    utterances, done, vectors = find_utterances(files), [], []
    model = load_model(use_cuda, log_dir, cp_num, None, None)
    for name, filename, speaker in tqdm(utterances, desc='d-vectors', disable=None):
        try:
            vectors.append(get_embeddings(use_cuda, filename, model, test_frames).numpy()[0])
            done.append((name, speaker))
        except (LabError, OSError, MemoryError) as error:
            reason = error if filename in str(error) else '%s: %s' % (filename, error)
            print('Skipped %s' % reason, file=sys.stderr)
    if not done:
        raise LabError('No file can be used, for the reasons above. %s is not written.' % out)
    names, speakers = zip(*done)
    with written_whole(out) as f:
        np.savez(f, names=np.array(names), vectors=np.array(vectors), speakers=np.array(speakers))
    print('%d d-vectors of %d numbers : %s' % (len(done), len(vectors[0]), out))
    if len(done) < len(utterances):
        raise LabError('%d of %d files skipped, named above. The others are written.'
                       % (len(utterances) - len(done), len(utterances)))


if __name__ == '__main__':
    run_script(main, words=True)
