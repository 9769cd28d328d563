"""What do distance, rooms, noise, telephones and codecs cost? Clean enrolments against changed test recordings.

    python experiments/conditions.py <folder> [checkpoint ...]        # default: etri240 and voices

A folder holds <speaker>/enroll.wav and test.wav. The test recordings are changed by deep_dive/acoustics.py, the
enrolments are not. Prints for each checkpoint and change how many are identified, the equal error rate, and how many
are wrongly rejected and accepted at the threshold of the checkpoint. Codecs need ffmpeg. Ten speakers take two minutes.
"""
import functools
from pathlib import Path

import numpy as np
import pandas as pd
import torch

import project  # noqa: F401 (finds the lab)

from DB_wav_reader import feature_of, find_wavs, read_audio, speaker_of
from SR_Dataset import trim
from deep_dive import acoustics
from exercises.scoring import equal_error_rate, rates_at
from model import embed_feature, load_model
from support.checks import level_or_configured
from support.messages import LabError, check_settings, run_script
from support.recordings import Recording

CONDITIONS = {  # name: what is done to the audio (n_samples,), with a random generator
    'unchanged': lambda audio, rng: audio,
    '12 dB louder': lambda audio, rng: 4 * audio,
    'at 1 m (direct sound 6 dB above the echoes, 0.3 s)': lambda audio, rng: acoustics.add_room(audio, rng, 0.3, 6),
    'at 3 m (echoes 3 dB above it, 0.5 s)': lambda audio, rng: acoustics.add_room(audio, rng, 0.5, -3),
    'in a hall (echoes 6 dB above it, 1 s)': lambda audio, rng: acoustics.add_room(audio, rng, 1.0, -6),
    'another microphone': lambda audio, rng: acoustics.change_microphone(audio, rng),
    **{'noise %d dB below' % snr: functools.partial(lambda snr, audio, rng: acoustics.add_noise(audio, rng, snr), snr)
       for snr in (20, 10, 5)},
    'loudness compressed 3:1': lambda audio, rng: acoustics.compress(audio),
    'sampled at 8 kHz': lambda audio, rng: acoustics.halve_rate(audio),
    'telephone': lambda audio, rng: acoustics.telephone(audio),
    **{codec: functools.partial(lambda codec, audio, rng: acoustics.code_and_decode(audio, codec), codec)
       for codec in acoustics.CODECS},
}


def d_vectors_of(recordings, change, model, n_frames=None):
    """The d-vectors of recordings, each a (name, audio) pair, after a change: (n, embedding_size) array.

    n_frames: the length of a segment, as test_frames in the test scripts.
    """
    vectors = []
    for number, (name, audio) in enumerate(recordings):
        changed = Recording(change(audio, np.random.default_rng(number)), name)
        feature, _ = feature_of(changed, model.settings['level'])  # (n_frames, n_dims)
        vectors.append(embed_feature(True, trim(feature), model, n_frames, name))
    return torch.cat(vectors).numpy()


def main(
        # Settings
        test_dir='',  # recordings: DIR/<speaker>/enroll.wav and test.wav
        checkpoints=['etri240', 'voices'],  # which checkpoints
        log_dir='model_saved',  # where the checkpoints are saved
):
    check_settings(main, locals())
    wavs = find_wavs(test_dir)
    enrolments, tests = ([(name, read_audio(name)) for name in wavs if Path(name).name.startswith(kind)]
                         for kind in ('enroll', 'test'))
    speakers = [[speaker_of(name) for name, _ in recordings] for recordings in (enrolments, tests)]
    if speakers[0] != speakers[1] or len(set(speakers[0])) < max(2, len(speakers[0])):
        raise LabError('%r: two speakers or more are needed, each with one enroll.wav and one test.wav.' % test_dir)
    for cp_num in checkpoints:
        model = load_model(True, log_dir, cp_num, None, None)
        own = model.thresholds.get('%s' % level_or_configured(model.settings['level']), {}).get('cosine', {}).get('eer')
        enrolled, rows = d_vectors_of(enrolments, CONDITIONS['unchanged'], model), []
        for name, change in CONDITIONS.items():
            if name in acoustics.CODECS and not acoustics.has_codecs():
                continue
            scores = d_vectors_of(tests, change, model) @ enrolled.T  # (n_speakers, n_speakers)
            target, impostor = np.diag(scores), scores[~np.eye(len(scores), dtype=bool)]
            row = {'test recordings': name, 'identified': np.sum(scores.argmax(axis=1) == np.arange(len(scores))),
                   'EER': equal_error_rate(target, impostor),
                   'own, lowest': target.min(), 'others, highest': impostor.max()}
            if own is not None:
                row['rejected'], row['accepted'] = (100 * rate for rate in rates_at(own, target, impostor))
            rows.append(row)
        print('\n%s: %d target and %d impostor trials, threshold %s'
              % (cp_num, len(target), len(impostor), 'unknown' if own is None else '%.4f' % own))
        print(pd.DataFrame(rows).to_string(index=False, float_format='{:.2f}'.format), flush=True)


if __name__ == '__main__':
    run_script(main, words=True)
