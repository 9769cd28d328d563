"""A corpus laid out like VoxCeleb: <speaker>/<video>/<utterance>.wav, cut in the middle of speech; a trial
list."""
import json

import numpy as np
import pytest
from scipy.io import wavfile

import DB_wav_reader as reader
import configure as c
import train
from SR_Dataset import read_MFB
from deep_dive import trials as trials_program
from support import demo_voices, recordings
from support.messages import LabError

WAV_DIRS = {'train_wav_dir': 'dev/wav', 'test_wav_dir': 'test/wav'}
SPEAKERS, VIDEOS, UTTERANCES = ('id10270', 'id10271', 'id10272'), ('5r0dWxy17C8',
                                                                   'x6uYqmx31kE'), ('00001', '00002')


@pytest.fixture
def voxceleb(lab, monkeypatch):
    """Three voices with two videos of two utterances each, to train on and to test with."""
    monkeypatch.setattr(c, 'SPEAKER_LEVEL', 2)
    # Other processes may read configure.py as it stands, so one process does all
    monkeypatch.setattr(recordings, 'in_parallel',
                        lambda function, tasks, _: [function(task) for task in tasks])
    silence = round(demo_voices.SILENCE * c.SAMPLE_RATE)
    for i, speaker in enumerate(SPEAKERS):
        voice = demo_voices.draw_voice(0, 1 + i)
        names = [(video, name) for video in VIDEOS for name in UTTERANCES]
        for j, (video, name) in enumerate(names):
            for k, wav_dir in enumerate(WAV_DIRS.values()):
                audio = demo_voices.synthesise(0, voice, len(names) * k + j, 4.0)[silence:-silence]
                (lab / wav_dir / speaker / video).mkdir(parents=True, exist_ok=True)
                wavfile.write(lab / wav_dir / speaker / video / (name + '.wav'), 16000,
                              np.round(4 * audio * 2**15).astype(np.int16))  # another level, too
    return lab


def test_wavs_to_trials(voxceleb, capsys):
    reader.main(**WAV_DIRS)
    out = capsys.readouterr().out
    assert out.count('12 converted, 0 up to date, 0 skipped') == 2
    filename = c.TRAIN_FEAT_DIR + '/id10271/x6uYqmx31kE/00002.p'
    feature, label = read_MFB(filename)
    assert label == 'id10271' and 280 <= len(feature) <= 300  # of 3 s: nothing but pauses at the ends is lost
    DB = reader.read_feats_structure(c.TRAIN_FEAT_DIR)
    assert sorted(set(DB['speaker_id'])) == list(SPEAKERS) and set(DB['dataset_id']) == {'train'}

    train.main(n_epochs=1, plot=False)
    assert json.loads((voxceleb / 'model_saved/run.json').read_text())['classes'] == 3
    trials = ['%d %s/%s/00001.wav %s/%s/00002.wav\n' % (a == b, a, VIDEOS[0], b, VIDEOS[1])
              for a in SPEAKERS for b in SPEAKERS]
    (voxceleb / 'veri_test.txt').write_text(''.join(trials))
    capsys.readouterr()
    printed = []
    for settings in ({'trials': 'veri_test.txt'}, {'trials': 'veri_test.txt', 'test_dir': 'test/wav'},
                     {'trials': 'pairs'}):
        trials_program.main(cp_num=1, plot=False, **settings)
        printed.append(capsys.readouterr().out)
    assert 'Target trials : 3\nImpostor trials : 6\n' in printed[0] and '3 speakers' in printed[0]
    assert printed[0] == ''.join(line for line in printed[1].splitlines(True)
                                 if not line.startswith('Note: '))
    assert 'Target trials : 18\nImpostor trials : 48\n' in printed[2]


def test_a_file_in_no_speaker_folder(lab, monkeypatch, write_feat):
    write_feat('train/id1/a.p')
    assert list(reader.read_feats_structure('train')['speaker_id']) == ['id1']
    monkeypatch.setattr(c, 'SPEAKER_LEVEL', 2)
    with pytest.raises(LabError,
                       match='train/id1/a.p: lies in no speaker folder. Move it to train/<speaker>/<video>/'):
        reader.read_feats_structure('train')


def test_demo_voices_are_not_mixed_in(lab, monkeypatch):
    monkeypatch.setattr(demo_voices, 'PROJECT', lab)
    assert demo_voices.may_fill(c.TRAIN_FEAT_DIR)
    monkeypatch.setattr(c, 'SPEAKER_LEVEL', 2)
    assert not demo_voices.may_fill(c.TRAIN_FEAT_DIR)
