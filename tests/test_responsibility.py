"""Who is hurt by errors, and what deceives a model: shares by group on hand-made pairs, replays, synthesised voices."""
import re
from pathlib import Path

import numpy as np
import pytest
from scipy.io import wavfile

import configure as c
import groups
from conftest import FirstFrame
from deep_dive import deceive
from exercises.scoring import all_pairs
from support import demo_voices
from support.messages import LabError

RATE = c.SAMPLE_RATE


# ------------------------------------------------------------------------------------- who is hurt

def test_the_rows_of_groups_by_hand():
    """a and b are women, c and d men, of e nothing is known: no pair of e counts."""
    speakers, sexes = np.array(list('aabccde')), np.array(['F', 'F', 'F', 'M', 'M', 'M', ''])
    first, second = all_pairs(7)
    accepted = {(0, 2), (3, 4), (3, 5), (4, 5), (0, 3)} | {(i, 6) for i in range(6)}
    is_accepted = np.array([pair in accepted for pair in zip(first, second)])
    rows = groups.rows_of(is_accepted, speakers, first, second, sexes, 2)
    assert [list(row.values()) for row in rows] == [
        ['F', 2, 1, '100.0 (100.0 to 100.0)', 2, '50.0 (50.0 to 50.0)'],
        ['M', 2, 1, '0.0 (up to 100)', 2, '100.0 (100.0 to 100.0)'],
        ['same', 4, 2, '50.0 (0.0 to 100.0)', 4, '75.0 (50.0 to 100.0)'],
        ['different', 4, 0, '', 9, '11.1 (0.0 to 25.0)']]
    assert [row['group'] for row in groups.rows_of(is_accepted, speakers, first, second, sexes, 3)] == ['same',
                                                                                                     'different']


def test_the_interval_of_a_share_draws_people():
    """One of 20 people is accepted as everybody: an interval over pairs would be far too narrow."""
    first, second = all_pairs(20)
    is_accepted = first == 0
    low, high = map(float, re.fullmatch(r'10\.0 \((.*) to (.*)\)',
                                        groups.share_with_interval(is_accepted, first, second)).groups())
    rng, shares = np.random.default_rng(1), []
    for _ in range(2000):  # the same by hand: everybody who was drawn is compared with all others
        drawn = rng.integers(20, size=20)
        one, other = drawn[first], drawn[second]
        shares.append(100 * np.mean((np.minimum(one, other) == 0)[one != other]))
    assert (low, high) == pytest.approx(np.percentile(shares, [2.5, 97.5]), abs=1.5) and high > 25


def test_ages_are_put_together():
    ages = {'6': 'to 12 years', '12.5': 'to 12 years', '13': '13 to 19 years', '39': '20 to 39 years', '': '',
            '99': '60 years and more'}
    assert {age: groups.age_group(age, 'p.csv') for age in ages} == ages
    for age in ('old', '-3', 'nan', '200'):
        with pytest.raises(LabError, match='p.csv: age = '):
            groups.age_group(age, 'p.csv')


def test_a_table_of_people_and_a_folder(write_vector, monkeypatch, capsys, stopped_with):
    """Of the two women, one pair of recordings is accepted: (0.6, 0.8) and (0.8, 0.6), whose cosine is 0.96."""
    for name, x, y in (('a/1', 3, 4), ('a/2', 0, 2), ('b/1', 4, 3), ('c/1', -2, 0), ('d/1', 0, -2)):
        write_vector('t/%s.p' % name, x, y)
    monkeypatch.setattr(groups, 'load_model', lambda *arguments: FirstFrame())
    Path('p.csv').write_text('speaker,sex,age\na,F,30\nb,F,30\nc,M,\nd,M,8\nnobody,M,50\n')
    groups.main(people='p.csv', folders=['t'], thres=0.9, n_least=2)
    lines = [' '.join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert 't sex F 2 1 100.0 (100.0 to 100.0) 2 50.0 (50.0 to 50.0)' in lines
    assert 't sex M 2 0 1 0.0 (up to 100)' in lines and 't sex different 4 0 6 0.0 (up to 75)' in lines
    assert 't age 20 to 39 years 2 1 100.0 (100.0 to 100.0) 2 50.0 (50.0 to 50.0)' in lines
    assert any(line.startswith('t all all 4 1 100.0') for line in lines)
    for table in ('name,sex\na,F\n', 'speaker\na\n', 'speaker,sex\na,F\na,M\n', ''):
        Path('p.csv').write_text(table)
        assert 'p.csv: ' in stopped_with(groups.main, people='p.csv', folders=['t'])
    assert 'none.csv: ' in stopped_with(groups.main, people='none.csv', folders=['t'])


# ------------------------------------------------------------------------------------- deceiving

def test_what_an_attacker_knows_of_a_voice():
    voice = demo_voices.draw_voice(0, 243)
    copy = deceive.rough_copy(voice, 0, np.random.default_rng(0))
    assert (copy.f0, copy.tract_length, copy.sibilant) == (voice.f0, voice.tract_length, voice.sibilant)
    assert (copy.formant_scale == voice.formant_scale).all() and copy.level == voice.level
    average = demo_voices.AVERAGES['F']
    assert copy.open_phase == average.open_phase != voice.open_phase and copy.breathiness == average.breathiness
    copies = [deceive.rough_copy(voice, 0.05, np.random.default_rng(i)) for i in range(400)]
    for wrong in (np.log([copy.f0 / voice.f0 for copy in copies]),
                  np.log([copy.formant_scale / voice.formant_scale for copy in copies])):
        assert wrong.mean() == pytest.approx(0, abs=0.01) and wrong.std() == pytest.approx(0.05, rel=0.1)


def test_a_replay_has_the_band_of_the_loudspeaker():
    noise = np.random.default_rng(0).normal(size=RATE)
    for lowest, highest in ((60, 8000), (400, 4000)):
        heard = deceive.replay(noise, np.random.default_rng(1), lowest, highest, 0.2, 10)
        assert heard.shape == noise.shape
        power, frequency = np.abs(np.fft.rfft(heard)) ** 2, np.fft.rfftfreq(RATE, 1 / RATE)
        outside = power[(frequency < 0.8 * lowest) | (frequency > 1.2 * highest)].sum() / power.sum()
        assert outside < 0.01  # only the noise of the room
    assert power[frequency > 5000].sum() / power.sum() > 1e-6  # there is some


def test_every_attack_is_scored(lab, monkeypatch, capsys, stopped_with):
    """A demo voice and a person: only the demo voice can be synthesised."""
    voice = demo_voices.draw_voice(demo_voices.SEED, 241)
    for name, first in ((voice.name, 0), ('kim', 5)):
        Path('w', name).mkdir(parents=True)
        for i, kind in enumerate(('enroll', 'test')):
            audio = demo_voices.synthesise(demo_voices.SEED, voice, first + i, 3)
            wavfile.write('w/%s/%s.wav' % (name, kind), RATE, np.round(audio * 2 ** 15).astype(np.int16))
    model = FirstFrame()
    model.forward = lambda x: (x[:, 0].std(dim=2), None)  # (batch, 40)
    monkeypatch.setattr(deceive, 'load_model', lambda *arguments: model)
    tables = []
    for thres, n_tries in ((-1, 2), (1, 1)):
        deceive.main(test_dir='w', n_tries=n_tries, seconds=3, thres=thres)
        tables.append([line.split() for line in capsys.readouterr().out.splitlines()[1:]])
    assert len(tables[0]) == 2 + len(deceive.REPLAYS) + 1 + len(deceive.ERRORS)
    assert {row[-1] for row in tables[0]} == {'100.000'} and {row[-1] for row in tables[1]} == {'0.000'}
    counts = {' '.join(row[:-6]): row[-6] for row in tables[0]}
    assert counts['the speaker, other words'] == counts['another speaker'] == '2'  # 2 speakers
    assert counts['replay: a good loudspeaker, near'] == '4' and counts['synthesis: all parameters'] == '2'
    lowest, median, highest = map(float, tables[0][0][-5:-2])
    assert -1 <= lowest <= median <= highest <= 1
    assert 'x does not exist' in stopped_with(deceive.main, test_dir='x')
    Path('w/kim/test.wav').unlink()
    assert 'w: two speakers or more are needed' in stopped_with(deceive.main, test_dir='w')
