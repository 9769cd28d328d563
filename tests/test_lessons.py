"""The lessons after the lab: rooms and microphones, one room for all, sessions, speech or not."""
import os
import re
from pathlib import Path

import numpy as np
import pytest
from scipy.io import wavfile

import configure as c
import occasions
from conftest import PROJECT, FirstFrame
from deep_dive import sessions, trials
from exercises import one_room, speech
from exercises.scoring import closest_rates
from own_voice import calibrate
from support import demo_voices as demo
from support import recordings, rooms
from support.messages import LabError, NoSpeech
from support.recordings import Recording

RATE = c.SAMPLE_RATE


# ------------------------------------------------------------------------------------- rooms

def test_without_a_place_a_demo_voice_is_what_it_was():
    """Sums of samples of the 16-bit wavs that the version before rooms wrote."""
    for index, utterance, sums in ((241, 0, [20634, 984708, 780597, 595828, 548700, 20989]),
                                   (242, 1, [21025, 621892, 394982, 1154324, 1025238, 20460])):
        audio = demo.synthesise(0, demo.draw_voice(0, index), utterance, 3.0)
        samples = np.round(audio * 2**15).astype(int)
        assert audio.dtype == np.float32
        found = [np.abs(samples[start:start + 8000]).sum() for start in range(0, len(samples), 8000)]
        np.testing.assert_allclose(found, sums, rtol=1e-3)  # other processors round otherwise


def test_a_place_changes_nothing_but_the_recording(monkeypatch):
    """The voice says the same, at the same level: what the microphone hears is the voice without a place."""
    heard = []
    monkeypatch.setattr(demo, 'record_in', lambda place, audio, rng: heard.append((place, audio.copy())) or audio)
    place, voice = rooms.draw_place(0, 1), demo.draw_voice(0, 241)
    dry = demo.synthesise(0, voice, 3, 2.0)
    recorded = demo.synthesise(0, voice, 3, 2.0, place)
    assert np.array_equal(recorded, dry) and len(heard) == 1
    assert heard[0][0] == place and np.array_equal(heard[0][1], dry)


def response(place, rng):
    """What the microphone of a place records of a click, without noise."""
    click = np.zeros(2 * RATE)
    click[1000] = 1
    return rooms.record_in(place._replace(snr=300), click, rng)


def test_a_place_has_one_room_and_one_microphone():
    places = [rooms.draw_place(0, number) for number in range(1, 30)]
    assert places[4] == rooms.draw_place(0, 5) and len(set(places)) == 29
    first, again, elsewhere, other_seed = (
        response(place, np.random.default_rng(i)) for i, place in enumerate(
            (places[4], places[4], places[5], rooms.draw_place(1, 5))))
    np.testing.assert_allclose(first, again, atol=1e-12)
    for other in (elsewhere, other_seed):
        assert first @ other < 0.9 * np.sqrt((first @ first) * (other @ other))
    for place in places:
        assert 0.2 <= place.reverberation <= 0.8 and -3 <= place.direct_db <= 10 and 20 <= place.snr <= 35
        wet = response(place, np.random.default_rng(0))[800:]  # echoes end after the reverberation, by 60 dB
        end = 1000 - 800 + round(place.reverberation * RATE)
        assert (wet[end + 300:] ** 2).sum() < 1e-6 * (wet ** 2).sum()


def test_a_place_has_a_microphone():
    """Without echoes, what is left of a click has the gains of the microphone: up to 8 dB up and down."""
    for number in range(1, 6):
        click = response(rooms.draw_place(0, number)._replace(direct_db=100), np.random.default_rng(0))
        gains = 20 * np.log10(np.abs(np.fft.rfft(click)))[200:14000:200]  # 100 to 7000 Hz
        assert 4 < np.ptp(gains) < 16.5


def test_the_noise_of_a_place_is_new_in_each_recording():
    place = rooms.draw_place(0, 3)
    voice = demo.synthesise(0, demo.draw_voice(0, 242), 0, 3.0).astype(np.float64)
    clean, one, two = (rooms.record_in(place._replace(snr=snr), voice, np.random.default_rng(i))
                       for snr, i in ((300, 0), (place.snr, 1), (place.snr, 2)))
    noise, other = one - clean, two - clean
    assert 20 * np.log10(rooms.rms(clean) / rooms.rms(noise)) == pytest.approx(place.snr, abs=0.1)
    assert abs(noise @ other) < 0.1 * (noise @ noise)
    assert 0.5 < rooms.rms(clean) / rooms.rms(voice) < 2  # within 6 dB


def test_recordings_over_sessions(tmp_path, monkeypatch):
    """Two recordings of one session are of one place, those of two sessions and of two voices of others."""
    monkeypatch.setattr(demo, 'SESSION_SECONDS', 2.0)
    demo.make_sessions(tmp_path / 'all', n_voices=2)
    names = ['%s/session%d_%d.wav' % (voice, session, number)
             for voice in ('241F9241', '242M9242') for session in (1, 2) for number in (1, 2)]
    assert sorted(path.relative_to(tmp_path / 'all').as_posix() for path in (tmp_path / 'all').rglob('*.wav')) == names
    places = []
    monkeypatch.setattr(demo, 'record_in', lambda place, audio, rng: places.append(place) or audio)
    contents = set()
    for index, session, number in ((i, s, n) for i in (241, 242) for s in (1, 2) for n in (1, 2)):
        demo.make_session_wav((tmp_path / 'dry', 0, index, session, number))
    contents = {path.read_bytes() for path in (tmp_path / 'dry').rglob('*.wav')}
    assert len(contents) == 8 and places[::2] == places[1::2] and len(set(places)) == 4


def test_the_generator_makes_sessions_and_nothing_else(lab, monkeypatch, capsys):
    monkeypatch.setattr(demo, 'make_sessions', lambda folder: os.makedirs(folder))
    demo.main(sessions_dir='days')
    assert os.listdir() == ['days'] and capsys.readouterr().out == (
        'days: 20 voices, 2 sessions of each, 2 recordings in each\n')


# ------------------------------------------------------------------------------------- one microphone, one room

def at(*degrees):
    """Vectors of unit length at these angles: (n, 2)."""
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


# Of each person: enrolled, calibrating, tested. D sounds like C
A, B, C, D = at(0, 10, 5), at(90, 100, 95), at(180, 190, 185), at(190, 200, 205)


def test_the_threshold_of_the_three_by_hand():
    """Their own pairs are 10 degrees apart, the nearest pair of two people 80. So it lies halfway."""
    assert one_room.threshold_of_room(np.stack([A[:2], B[:2], C[:2]])) == pytest.approx(
        (np.cos(np.radians(10)) + np.cos(np.radians(80))) / 2)


def test_every_four_are_a_class_by_hand():
    fourths, threes, highest, own, found = one_room.all_classes(np.stack([A, B, C, D]))
    assert fourths.tolist() == [0, 1, 2, 3] and threes.tolist() == [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]]
    cosines = np.cos(np.radians([85, 85, 5, 25]))  # A to B, B to A, C to D, D to C
    np.testing.assert_allclose(highest, cosines)
    np.testing.assert_allclose(own[3], np.cos(np.radians([5, 5, 5])))
    np.testing.assert_allclose(own[0], np.cos(np.radians([5, 5, 15])))
    assert found[3] == pytest.approx(one_room.threshold_of_room(np.stack([A[:2], B[:2], C[:2]])))
    others = np.stack([A, B, C, D])
    others[:, 2] = at(80, 160, 240, 320)  # what is tested does not move a threshold
    np.testing.assert_array_equal(one_room.all_classes(others)[4], found)
    assert len(one_room.all_classes(np.stack([A, B, C, D, A]))[0]) == 20  # five fours, each with four fourths


def test_the_outcome_by_hand(capsys):
    """At 0.95, C passes as D (5 degrees), D as C does not (25 degrees), and nobody is rejected."""
    one_room.print_outcome('By hand', np.stack([A, B, C, D]), 0.95)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == '=== By hand: 4 people, 4 classes ===' and lines[2] == 'Threshold of the model : 0.950'
    assert lines[3].startswith('    the fourth is accepted : 25.0 % (0.0 to ')
    assert lines[4] == '    one of the three is rejected : 0.0 % (up to 75, rule of three)'
    assert lines[5].startswith('Threshold found on the three : ')
    one_room.print_outcome('By hand', np.stack([A, B, C, D]), 0.97)  # 15 degrees: 0.966
    lines = capsys.readouterr().out.splitlines()
    assert lines[4].startswith('    one of the three is rejected : 25.0 % (')  # D, in three of twelve


def test_it_is_the_threshold_of_own_voice_calibrate(lab, write_vector):
    angles = {'kim': (0, 30), 'lee': (50, 75), 'park': (95, 130)}
    vectors = np.stack([at(*pair) for pair in angles.values()])
    for name, pair in angles.items():
        for file, (x, y) in zip(('enroll', 'test'), at(*pair)):
            write_vector('people/%s/%s.p' % (name, file), x, y)
    found, n_speakers = calibrate.find_thresholds(FirstFrame(), ['people'], use_cuda=False)
    assert n_speakers == 3
    assert one_room.threshold_of_room(vectors) == pytest.approx(found['None']['cosine']['eer'], abs=1e-6)
    target, impostor = np.cos(np.radians([30, 25, 35])), np.cos(np.radians([20, 50, 45, 75, 20, 55, 45, 80]))
    assert found['None']['cosine']['eer'] == pytest.approx(closest_rates(target, [*impostor, *np.cos(np.radians(
        [95, 65, 130, 100]))])[0], abs=1e-6)


def test_a_folder_of_people(lab, write_vector, monkeypatch, capsys, stopped_with):
    """The first two recordings enrol and calibrate, the last is tested. Who has fewer than three is left out."""
    for name, vectors in (('a', A), ('b', B), ('c', C), ('d', D)):
        numbers = [*vectors[:2], vectors[0], vectors[2]] if name == 'a' else vectors
        for i, (x, y) in enumerate(numbers):
            write_vector('people/%s/%d.p' % (name, i), x, y)
    write_vector('people/e/0.p', 1, 0)
    expected = np.stack([A, B, C, D])
    found = one_room.vectors_of_folder(FirstFrame(), False, None, 'people', None)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    monkeypatch.setattr(one_room, 'load_model', lambda *args: FirstFrame())
    assert 'none has no threshold of its own. Set thres = 0.9' in stopped_with(one_room.main, test_dir='people')
    one_room.main(test_dir='people', thres=0.95)
    out = capsys.readouterr().out
    assert '=== people: 4 people, 4 classes ===' in out and 'Threshold of the model : 0.950' in out
    os.remove('people/d/0.p')
    assert stopped_with(one_room.main, test_dir='people', thres=0.95) == (
        'Error: people: 3 people have 3 recordings or more, 4 are needed. Record more, or cut the recordings into '
        'pieces: --piece_seconds=6')


def test_demo_people_in_rooms(monkeypatch, capsys):
    monkeypatch.setattr(one_room, 'N_VOICES', 4)
    monkeypatch.setattr(one_room, 'DEMO_SECONDS', 2)
    places = []
    synthesise = demo.synthesise
    monkeypatch.setattr(demo, 'synthesise', lambda *args: places.append(args[-1].number) or synthesise(*args))
    one_room.main(log_dir=str(PROJECT / 'model_saved'), use_cuda=False, room=7, piece_seconds=1)  # they are not cut
    out = capsys.readouterr().out
    assert places == [number for number in (241, 242, 243, 244) for _ in range(3)] + 12 * [7]
    first, second = re.findall(r'=== (.*): 4 people, 4 classes ===\nThreshold of the model : 0.364\n', out)
    assert (first, second) == ('Each in another room', 'All in room 7')


# ------------------------------------------------------------------------------------- sessions

UTTERANCES = [(path, path.split('/')[0], path.split('/')[1].split('_')[0]) for path in (
    'a/1_x.wav', 'a/1_y.wav', 'a/2_x.wav', 'b/1_x.wav', 'b/1_y.wav', 'b/2_x.wav', 'c/1_x.wav', 'c/1_y.wav')]


def test_trials_over_sessions_by_hand():
    """c has one session, so nothing of c is in the lists."""
    same, other, impostors = sessions.trials_over_sessions(UTTERANCES)
    assert same == [('a/1_x.wav', 'a/1_y.wav'), ('b/1_x.wav', 'b/1_y.wav')]
    assert other == [('a/1_x.wav', 'a/2_x.wav'), ('a/1_y.wav', 'a/2_x.wav'),
                     ('b/1_x.wav', 'b/2_x.wav'), ('b/1_y.wav', 'b/2_x.wav')]
    assert impostors == [('a/' + x, 'b/' + y) for x in ('1_x.wav', '1_y.wav', '2_x.wav')
                         for y in ('1_x.wav', '1_y.wav', '2_x.wav')]


def touch(folder, paths):
    for path in paths:
        (Path(folder) / path).parent.mkdir(parents=True, exist_ok=True)
        (Path(folder) / path).touch()


def test_the_lists_are_read_by_the_trials(lab, capsys, stopped_with):
    touch('days', [path for path, _, _ in UTTERANCES])
    sessions.main(test_dir='days')
    assert capsys.readouterr().out == ('2 target and 9 impostor trials : same_session.txt\n'
                                       '4 target and 9 impostor trials : other_session.txt\n')
    same, other, impostors = sessions.trials_over_sessions(UTTERANCES)
    for name, targets in (('same_session.txt', same), ('other_session.txt', other)):
        is_target, first, second = trials.read_trials(name)
        assert list(zip(first, second)) == targets + impostors
        assert is_target.tolist() == len(targets) * [True] + len(impostors) * [False]
        assert trials.files_of_trials(first, 'days')[1] == [path[0] for path in first]  # the speakers
    touch('days', ['a/monday.wav'])
    assert stopped_with(sessions.main, test_dir='days') == (
        'Error: days/a/monday.wav: its name says no session. Name it <session>_<name>.wav, such as monday_1.wav.')
    os.rename('days/a/monday.wav', 'days/a/mon day_1.wav')
    assert 'a/mon day_1.wav: a trial list cannot hold a name with a space' in stopped_with(
        sessions.main, test_dir='days')
    touch('one', ['a/1_x.wav', 'a/1_y.wav', 'b/1_x.wav', 'b/2_y.wav'])
    assert 'one: two speakers or more are needed' in stopped_with(sessions.main, test_dir='one')
    assert 'Name recordings by their folder' in stopped_with(sessions.main)


def test_the_last_underscore_ends_the_session():
    assert sessions.session_of('kim/in_the_car_12.wav') == 'in_the_car'
    with pytest.raises(LabError, match='its name says no session'):
        sessions.session_of('kim/_1.wav')


def test_occasions_of_clips(lab, capsys, stopped_with):
    assert occasions.sessions_of([1, 5, 105, 1105, 1106], 100) == [1, 1, 1, 2, 2]
    touch('clips', ['kim/common_voice_ko_%d.wav' % number for number in (20, 7, 300000)])
    occasions.main(test_dir='clips', out_dir='days')
    assert capsys.readouterr().out == 'days: 1 speakers, 3 clips\n'
    assert sorted(os.listdir('days/kim')) == ['session1_20.wav', 'session1_7.wav', 'session2_300000.wav']
    assert Path('days/kim/session2_300000.wav').resolve() == Path('clips/kim/common_voice_ko_300000.wav').resolve()
    assert 'days exists already' in stopped_with(occasions.main, test_dir='clips', out_dir='days')
    touch('clips', ['kim/a.wav'])
    assert 'clips/kim/a.wav: not named as a clip' in stopped_with(occasions.main, test_dir='clips', out_dir='x')


# ------------------------------------------------------------------------------------- speech or not

def sound(*parts):
    """A Recording of a noise at -80 dBFS, with parts (level in dBFS, seconds) of a tone in it."""
    rng = np.random.default_rng(0)
    audio = np.concatenate([10 ** ((level + 3) / 20) * np.sin(2 * np.pi * 500 * np.arange(round(seconds * RATE)) / RATE)
                            for level, seconds in parts])
    return Recording(audio + 1e-4 * rng.normal(size=len(audio)), 'by hand')


def test_the_limits_of_speech_by_hand():
    """6 dB above the background, but 20 to 40 dB below the loud blocks."""
    for quiet, loud, least in ((-60, -25, -54), (-80, -25, -65), (-40, -25, -45)):
        levels = np.array(20 * [quiet] + 80 * [loud])
        assert recordings.speech_limits(levels) == (quiet, loud, least)


def test_what_the_detector_finds_by_hand(capsys):
    found = speech.describe(sound((-200, 1), (-30, 1.5), (-200, 0.5), (-30, 0.05), (-200, 0.95)))
    assert found['speech (%)'] == pytest.approx(100 * 1.5 / 4, abs=2)  # not the click of two blocks
    assert found['seconds'] == 4 and found['background'] == pytest.approx(-80, abs=1)
    assert found['loud'] == pytest.approx(-30, abs=0.5) and found['threshold'] == pytest.approx(-70, abs=1)
    assert found['may be no speech'] == 'yes'  # a tone lasts
    with pytest.raises(NoSpeech, match='no speech stands out of a steady noise'):
        speech.describe(sound((-30, 3)))
    with pytest.raises(NoSpeech, match='is silent'):
        speech.describe(Recording(np.zeros(RATE), 'by hand'))
    truth, heard = np.array([1, 1, 1, 0, 0], bool), np.array([1, 1, 0, 1, 0], bool)
    speech.print_agreement(truth, heard)
    assert capsys.readouterr().out == ('In the noise, 67 % of the blocks of speech are found, and 50 % of the other '
                                       'blocks are taken for speech.\n')


def shaded(ax):
    """Seconds of a panel that are shaded."""
    return sum(patch.get_width() for patch in ax.patches)


def test_the_picture_shades_what_is_printed(lab, figures, capsys):
    speech.main()
    out = capsys.readouterr().out
    assert out.endswith('Picture: speech.png\n') and 'In the noise, 100 % of the blocks' in out
    shares = [float(share) for share in re.findall(r'^ *(?:a voice|the voice in noise|a melody|rustling paper) +6 '
                                                   r'+-?\d+ +-?\d+ +-?\d+ +(\d+)', out, flags=re.M)]
    panels = [part.axes for part in figures[0].subfigs]
    assert len(shares) == len(panels) == 4
    for share, (wave, energy) in zip(shares, panels):
        assert shaded(wave) == shaded(energy) == pytest.approx(6 * share / 100, abs=0.031)
        assert '%.0f %% is taken for speech' % share in wave.get_title()
    levels, threshold = panels[0][1].lines
    assert len(levels.get_xdata()) == 6 / c.WIN_LENGTH
    assert '%.0f' % threshold.get_ydata()[0] == re.search(r'a voice +6 +\S+ +\S+ +(\S+)', out).group(1)
    assert Path('speech.png').read_bytes().startswith(b'\x89PNG')


def test_a_recording_of_ones_own(lab, figures, capsys, stopped_with):
    recording = sound((-200, 1), (-30, 2), (-200, 1))
    wavfile.write('a.wav', RATE, recording.audio.astype(np.float32))
    speech.main(recordings=['a.wav'], picture='x.png')
    out = capsys.readouterr().out
    assert 'In the noise' not in out and 'Picture: x.png' in out
    wave, energy = figures[0].subfigs[0].axes
    assert shaded(wave) == pytest.approx(2, abs=0.06)
    assert [patch.get_x() for patch in wave.patches] == pytest.approx([1], abs=0.03)
    assert "recordings = [1]: it must be a list of names" in stopped_with(speech.main, recordings=[1])
    assert 'b.wav: there is no such file' in stopped_with(speech.main, recordings=['b.wav'])
