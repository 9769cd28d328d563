"""Can a model be deceived? Replayed and synthesised voices are scored as if they were the enrolled speaker.

    python -m deep_dive.deceive
    python -m deep_dive.deceive --test_dir=<folder>       # people: replays only

Reads <speaker>/enroll.wav and test.wav of a folder. Every attack is compared with enroll.wav. First comes what is no
attack: test.wav by the speaker, and by all others. Then test.wav is played to the microphone by a loudspeaker. If the
speakers are demo voices, the lab's own synthesiser then says new words with their parameters, all of them, or only what
an attacker could measure (rough_copy). Prints for each row how many recordings there are, their scores, and the share
that is accepted. Nothing here can tell an attack from a living person. Writes nothing but demo voices, if there are
none. Ten of them take three minutes.
"""
import os
from pathlib import Path

import numpy as np
import pandas as pd

import configure as c
from DB_wav_reader import feature_of, find_wavs, read_audio, speaker_of
from SR_Dataset import trim
from deep_dive import acoustics
from model import embed_feature, load_model
from support.demo_voices import AVERAGES, SEED, draw_voice, is_demo_name, provide_test_features, synthesise
from support.enrolments import choose_thres
from support.messages import SCORE_OR_MODEL, TEST_RULES, LabError, check_settings, run_script, whole
from support.recordings import Recording

REPLAYS = {  # loudspeaker: its frequencies in Hz, echoes of the room in seconds, direct sound minus echoes in dB
    'a good loudspeaker, near': (60, 8000, 0.2, 10),
    "a telephone's loudspeaker, near": (400, 7000, 0.2, 10),
    'a good loudspeaker, across the room': (60, 8000, 0.5, -3),
}
REPLAY_SNR = 30  # dB: how much quieter than the replay the noise of the room is
NEW_WORDS = 2  # number of the first new utterance of a demo voice; 0 and 1 are enroll.wav and test.wav
ERRORS = [0, 0.02, 0.05, 0.1, 0.2]  # of what an attacker measures, as a share


def replay(audio, rng, lowest, highest, reverberation, direct_db):
    """A recording (n_samples,) as a microphone hears it from a loudspeaker in a room. The numbers: see REPLAYS."""
    played = acoustics.change_microphone(acoustics.keep_band(audio, lowest, highest), rng)  # a loudspeaker is no better
    heard = acoustics.change_microphone(acoustics.add_room(played, rng, reverberation, direct_db), rng)
    return acoustics.add_noise(heard, rng, REPLAY_SNR)


def rough_copy(voice, error, rng):
    """What an attacker may know of a Voice: pitch, formants, length of the vocal tract and place of /s/, a bit wrong.

    error: the standard deviation of the factor on each, as a share. All other parameters are those of the average
    voice of the sex, or the middle of what draw_voice of support/demo_voices.py draws.
    """
    average = AVERAGES[voice.sex]
    factor = rng.lognormal(0, error, 3 + len(voice.formant_scale))
    return voice._replace(
        f0=voice.f0 * factor[0], tract_length=voice.tract_length * factor[1], sibilant=voice.sibilant * factor[2],
        formant_scale=voice.formant_scale * factor[3:], open_phase=average.open_phase, breathiness=average.breathiness,
        f0_range=4.75, vowel_space=0.85, bandwidth_scale=1, tilt=9000, jitter=0.0065, shimmer=0.3, rate=5)


def vector_of(audio, name, model):
    """(d-vector (embedding_size,), seconds of speech) of audio (n_samples,), which is brought to the model's level."""
    feature = trim(feature_of(Recording(audio, name), model.settings['level'])[0])  # (n_frames, n_dims)
    return embed_feature(True, feature, model, None, name)[0], len(feature) * c.WIN_STEP


def read_pairs(test_dir):
    """The recordings of a folder: dict speaker -> {'enroll': audio (n_samples,), 'test': audio}."""
    if not os.path.isdir(test_dir):
        raise LabError('%s does not exist. It must hold <speaker>/enroll.wav and test.wav.' % test_dir)
    pairs = {}
    for filename in find_wavs(test_dir):
        pairs.setdefault(speaker_of(filename), {})[Path(filename).stem] = read_audio(filename)
    pairs = {speaker: pair for speaker, pair in pairs.items() if {'enroll', 'test'} <= {*pair}}
    if len(pairs) < 2:
        raise LabError('%s: two speakers or more are needed, each with enroll.wav and test.wav.' % test_dir)
    return pairs


def attacks_on(speaker, audio, rng, utterance, seconds):
    """One attack of each kind on an enrolled speaker: yields (name of the row, audio (n_samples,)).

    audio: another recording of the speaker, to be replayed. utterance, seconds: number and length of the new words.
    """
    for name, numbers in REPLAYS.items():
        yield 'replay: ' + name, replay(audio, rng, *numbers)
    if is_demo_name(speaker):
        voice = draw_voice(SEED, int(speaker[:3]))
        yield 'synthesis: all parameters', synthesise(SEED, voice, utterance, seconds)
        for error in ERRORS:
            copy = rough_copy(voice, error, rng)
            name = 'synthesis: pitch and formants, %g %% wrong' % (100 * error)
            yield name, synthesise(SEED, copy, utterance, seconds)


def all_trials(model, pairs, n_tries, seconds, seed):
    """What is tried on the enrolled speakers: dict name of the row -> list of (score, seconds).

    seconds: of speech in the shorter of both recordings. pairs: as of read_pairs. The other arguments are settings of
    main().
    """
    enrolled, tested = ({speaker: vector_of(pair[kind], speaker, model) for speaker, pair in pairs.items()}
                        for kind in ('enroll', 'test'))
    tries = {'the speaker, other words': [(enrolled[speaker], tested[speaker]) for speaker in pairs],
             'another speaker': [(enrolled[speaker], tested[other]) for speaker in pairs for other in pairs
                                 if other != speaker]}
    for number, (speaker, pair) in enumerate(pairs.items()):
        for i in range(n_tries):
            rng = np.random.default_rng([seed, number, i])
            for name, audio in attacks_on(speaker, pair['test'], rng, NEW_WORDS + i, seconds):
                attack = vector_of(audio.astype(np.float64), speaker, model)
                tries.setdefault(name, []).append((enrolled[speaker], attack))
    return {name: [(float(one @ other), min(length, of_other)) for (one, length), (other, of_other) in of_row]
            for name, of_row in tries.items()}


def main(
        # Settings
        test_dir=c.TEST_WAV_DIR,  # recordings: DIR/<speaker>/enroll.wav and test.wav
        cp_num='voices',  # which checkpoint
        log_dir='model_saved',  # where the checkpoints are saved
        thres='model',  # a score above it is accepted; 'model': that of the checkpoint for the length
        n_tries=3,  # replays and new utterances for each speaker and row
        seconds=15,  # how long a new utterance is, in seconds
        seed=0,  # of rooms, microphones, and of what an attacker measures wrongly
):
    check_settings(main, locals(), cp_num=TEST_RULES['cp_num'], thres=SCORE_OR_MODEL, n_tries=whole(1),
                   seconds=whole(3), seed=whole(0))
    model, rows = load_model(True, log_dir, cp_num, None, None), []
    if test_dir == c.TEST_WAV_DIR:
        provide_test_features()
    pairs, a_file = read_pairs(test_dir), find_wavs(test_dir)[0]
    for name, tries in all_trials(model, pairs, n_tries, seconds, seed).items():
        scores = np.array([score for score, _ in tries])
        thresholds = np.array([choose_thres(thres, model, 'cosine', a_file, length) for _, length in tries])
        rows.append({'what': name, 'recordings': len(tries), 'lowest': scores.min(), 'median': np.median(scores),
                     'highest': scores.max(), 'threshold': np.median(thresholds),
                     'accepted, %': 100 * np.mean(scores > thresholds)})
    print(pd.DataFrame(rows).to_string(index=False, float_format='{:.3f}'.format))


if __name__ == '__main__':
    run_script(main)
