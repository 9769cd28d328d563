"""The programs in experiments/ and in tests/by_hand/: what they make of small folders, how they read settings."""
import ast
import json
import runpy
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.text import Text
from scipy.io import wavfile

import compare
import configure as c
import coverage
import deep_dive.train
import demo_quality
import fusion
import hold_out
import hyperparameters
import ideas
import mutations
import other_features
import pipeline
import recipe
import sample_voices
import subset
import transfer
from DB_wav_reader import find_feats
from SR_Dataset import read_MFB
from conftest import PROJECT, FirstFrame
from deep_dive import backends
from deep_dive.heads import load_backbone
from deep_dive.networks import background_network
from exercises import scoring
from model import get_embeddings, load_model
from support import messages
from support.messages import LabError
from support.safe_files import read_pickles

FOLDERS = {'experiments': 'project', 'tests/by_hand': 'find_lab'}  # and what finds the modules of the lab
PLACES = [(folder, path.stem) for folder in FOLDERS for path in sorted((PROJECT / folder).glob('*.py'))]


@pytest.fixture
def started(monkeypatch):
    """Runs a program as `python experiments/<name>.py <arguments>` does."""
    def run(name, *arguments, folder='experiments'):
        monkeypatch.setattr(sys, 'argv', [name, *arguments])
        runpy.run_path(str(PROJECT / folder / (name + '.py')), run_name='__main__')
    return run


# ------------------------------------------------------------------------------------------- all of them

@pytest.mark.parametrize('folder, name', PLACES)
def test_nothing_runs_on_import(folder, name, lab, capsys):
    runpy.run_path(str(PROJECT / folder / (name + '.py')), run_name=name)
    assert capsys.readouterr().out == '' and list(lab.iterdir()) == []


@pytest.mark.parametrize('folder, name', PLACES)
def test_each_finds_the_modules_of_the_lab(folder, name):
    """project.py and find_lab.py put them on the path, so they are imported before them."""
    tree = ast.parse((PROJECT / folder / (name + '.py')).read_text())
    imported = [node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
                for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    of_lab = [module for module in imported if (PROJECT / module.partition('.')[0]).is_dir()
              or any((PROJECT / place / (module + '.py')).exists() for place in ('', 'tests', *FOLDERS))]
    assert not of_lab or name in FOLDERS.values() or of_lab[0] == FOLDERS[folder]


def test_an_experiment_is_started_from_any_folder(tmp_path):
    done = subprocess.run([sys.executable, str(PROJECT / 'experiments/subset.py'), 'nowhere', 'new', '1', '1'],
                          cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr == 'Error: nowhere has 0 speakers, not 1.\n'
    done = subprocess.run([sys.executable, str(PROJECT / 'tests/by_hand/fuzz.py'), '--n_inputs=0'], cwd=tmp_path,
                          capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr == 'Error: n_inputs = 0: it must be a whole number, 1 or more.\n'


@pytest.mark.parametrize('folder, name', [place for place in PLACES if place[1] not in FOLDERS.values()])
def test_each_says_how_it_is_started(folder, name, started, capsys):
    started(name, '--help', folder=folder)
    shown = capsys.readouterr().out
    assert '\n    python %s/%s.py' % (folder, name) in shown and ' (--name=value)\n  --' in shown


@pytest.mark.parametrize('arguments, expected', [
    ([], {}),
    (['a', 'b'], {'first': 'a', 'second': 'b'}),
    (['a', '7', '8'], {'first': 'a', 'second': '7', 'number': 8}),
    (['a', 'b', '3', 'x', 'y z'], {'first': 'a', 'second': 'b', 'number': 3, 'names': ['x', 'y z']}),
    (['--first=a', 'b'], {'first': 'a', 'second': 'b'}),
    (['b', '--number=2', '--first=a', 'x'], {'first': 'a', 'second': 'b', 'number': 2, 'names': ['x']})])
def test_settings_without_their_names(monkeypatch, arguments, expected):
    got = {}

    def main(first='', second='', number=1, names=[]):
        got.update(first=first, second=second, number=number, names=names)
    monkeypatch.setattr(sys, 'argv', ['script', *arguments])
    messages.run_script(main, words=True)
    assert got == {'first': '', 'second': '', 'number': 1, 'names': [], **expected}


def test_words_that_are_too_many(monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['script', 'a', 'b'])
    with pytest.raises(SystemExit, match='b: write a setting as --name=value'):
        messages.run_script(lambda first='': None, words=True)


def test_each_mutation_fits_the_code():
    """mutations.py itself takes too long for a test."""
    for script, old, new, tests in mutations.BROKEN:
        compile(mutations.broken_text(script, old, new), script, 'exec')
        assert (PROJECT / 'tests' / tests).exists() and old != new
    with pytest.raises(LabError, match="train.py has 0 times 'no such line'. Change BROKEN"):
        mutations.broken_text('train.py', 'no such line', '')


# ------------------------------------------------------------------------------------------- smaller corpora

def test_the_first_files_of_the_first_speakers(lab, started, stopped_with, write_feat, capsys):
    for speaker, n_files in (('s2', 3), ('s0', 1), ('s1', 3)):
        for i in range(n_files):
            write_feat('feat/%s/%d.p' % (speaker, i), seed=i)
    started('subset', 'feat', 'small', '2', '2')
    assert capsys.readouterr().out == 'small: 2 speakers, 3 files\n'
    assert find_feats('small') == ['small/s0/0.p', 'small/s1/0.p', 'small/s1/1.p']
    assert all(Path(name).resolve() == lab / 'feat' / Path(name).relative_to('small') for name in find_feats('small'))
    subset.link_subset('feat', 'last', 3, slice(2, None))
    assert find_feats('last') == ['last/s1/2.p', 'last/s2/2.p']

    folders = {'feat_dir': 'feat', 'new_dir': 'new'}
    for settings, message in (({}, 'Give a feature folder'), ({'feat_dir': 'feat'}, 'Give a feature folder'),
                              ({**folders, 'n_speakers': 4}, 'feat has 3 speakers, not 4'),
                              ({**folders, 'n_files': 0}, 'n_files = 0: it must be a whole number, 1 or more'),
                              ({**folders, 'new_dir': 'small', 'n_speakers': 1}, 'small exists already')):
        assert message in stopped_with(subset.main, **settings)
    assert not (lab / 'new').exists()


def test_forty_speakers_are_held_out(lab, started, stopped_with, write_feat, capsys):
    names = ['%03d%s' % (i, 'FM'[i % 2]) for i in range(1, 241)]
    for name in names:
        (lab / 'corpus' / name).mkdir(parents=True)
    write_feat('corpus/011M/a.p')
    started('hold_out', 'corpus', 'held_out')
    assert capsys.readouterr().out == 'held_out/train: 200 speakers, held_out/unseen: 40 speakers\n'
    kept, unseen = ({path.name for path in (lab / 'held_out' / name).iterdir()} for name in ('train', 'unseen'))
    assert kept | unseen == set(names) and not kept & unseen and len(unseen) == 40
    assert {'011M', '013M', '234F'} <= unseen and {'001M', '010F', '012F', '240F'} <= kept  # counted from 0 in UNSEEN
    assert find_feats('held_out/unseen') == ['held_out/unseen/011M/a.p']  # through the link

    for settings, message in (({}, 'Give two folders'), ({'feat_dir': 'corpus'}, 'Give two folders'),
                              ({'feat_dir': 'corpus', 'out_dir': 'held_out'}, 'held_out exists already'),
                              ({'feat_dir': 'held_out', 'out_dir': 'x'}, "held_out has 2 speakers; the slides' corpus"),
                              ({'feat_dir': 'held_out', 'out_dir': 'x', 'n_unseen': 2}, 'some must be left'),
                              ({'feat_dir': 'held_out', 'out_dir': 'x', 'n_unseen': 0}, 'n_unseen = 0')):
        assert message in stopped_with(hold_out.main, **settings)


def test_some_speakers_of_another_corpus_are_held_out(lab, capsys):
    names = ['s%d' % i for i in range(10)]
    for name in names:
        (lab / 'corpus' / name).mkdir(parents=True)
    kept = []
    for folder in 'xyz':
        hold_out.main(feat_dir='corpus', out_dir=folder, n_unseen=3, seed=2 if folder == 'z' else 1)
        train, unseen = ({path.name for path in (lab / folder / part).iterdir()} for part in ('train', 'unseen'))
        assert train | unseen == set(names) and len(train) == 7 and len(unseen) == 3
        kept.append(train)
    assert kept[0] == kept[1] != kept[2]


def test_only_speakers_with_enough_files_are_held_out(lab, write_feat, stopped_with):
    for i in range(6):
        for n in range(2 if i % 2 else 1):
            write_feat('corpus/s%d/%d.p' % (i, n))
    hold_out.main(feat_dir='corpus', out_dir='x', n_unseen=3, n_files=2)
    assert {path.name for path in (lab / 'x' / 'unseen').iterdir()} == {'s1', 's3', 's5'}
    assert 'corpus has 6 speakers, 3 of them with n_files = 2 files or more' in stopped_with(
        hold_out.main, feat_dir='corpus', out_dir='y', n_unseen=4, n_files=2)


# ------------------------------------------------------------------------------------------- other features

@pytest.fixture
def in_one_process(monkeypatch):
    """Other processes may read configure.py as it stands, so this process does all."""
    monkeypatch.setattr(other_features, 'in_parallel', lambda function, tasks, _: [function(task) for task in tasks])


def test_other_features_of_published_ones(lab, write_feat, monkeypatch, in_one_process, capsys):
    published = read_pickles(write_feat('feat/train/s1/a.p', seed=1))[0]['feat']
    write_feat('feat/test/s2/enroll.p', seed=2)
    monkeypatch.setattr(c, 'USE_SCALE', True)
    other_features.main(old_dir='feat', new_dir='scaled')
    assert capsys.readouterr().out == 'scaled: 2 feature files\n'
    content = read_pickles('scaled/train/s1/a.p')[0]
    expected = (published - published.mean(axis=0)) / published.std(axis=0)
    np.testing.assert_allclose(content['feat'], expected, atol=1e-9)
    assert content['label'] == 's1' and content['settings']['USE_SCALE']
    assert read_pickles('scaled/test/s2/enroll.p')[0]['label'] == 's2'

    # The lowest frame of each filter was on the floor: an energy of 1e-5
    monkeypatch.setattr(c, 'USE_SCALE', False)
    monkeypatch.setattr(c, 'USE_LOGSCALE', False)
    other_features.main(old_dir='feat', new_dir='energies')
    energies = 1e-5 * 10 ** ((published - published.min(axis=0)) / 20)
    np.testing.assert_allclose(read_pickles('energies/train/s1/a.p')[0]['feat'], energies - energies.mean(axis=0),
                               atol=1e-15)


def test_other_features_that_cannot_be_made(lab, write_feat, monkeypatch, stopped_with, in_one_process):
    write_feat('feat/s1/a.p')
    folders = {'old_dir': 'feat', 'new_dir': 'new'}
    for settings, message in (({}, 'Give two folders'), ({'old_dir': 'feat'}, 'Give two folders'),
                              ({'old_dir': 'nowhere', 'new_dir': 'new'}, 'nowhere holds no feature files'),
                              ({'old_dir': 'feat', 'new_dir': 'feat'}, 'feat exists already')):
        assert message in stopped_with(other_features.main, **settings)
    with monkeypatch.context() as patched:
        patched.setattr(c, 'FILTER_BANK', 23)
        assert 'FILTER_BANK = 23 in configure.py needs recordings, because the files have 40' in stopped_with(
            other_features.main, **folders)
    with monkeypatch.context() as patched:
        patched.setattr(c, 'USE_DELTA', True)
        write_feat('feat/s1/b.p')  # not a published one
        assert 'feat/s1/b.p: not a published log filterbank file' in stopped_with(other_features.main, **folders)


# ------------------------------------------------------------------------------------------- trained models

@pytest.fixture
def pairs_of_angles(write_vector):
    """Two speakers with two utterances each. Two utterances point to the same side of the mean (1, 0), or do not."""
    for name, x, y in (('s1/a', 3, 1), ('s1/b', 2, 1), ('s2/a', 3, -1), ('s2/b', 2, -1)):
        write_vector('pairs/%s.p' % name, x, y)


def test_centred_means_the_mean_of_the_training_set(pairs_of_angles, capsys):
    model = FirstFrame().eval()
    demo_quality.print_all_pairs('pairs', model, 'four utterances')
    assert capsys.readouterr().out == (
        'four utterances, all 2 same-voice and 4 other pairs of utterances: EER 0.00 %, '
        'centred on the training mean: not known\n')
    # Of unit length, the utterances are (0.95, 0.32), (0.89, 0.45) and so on. Minus (0.95, 0.4), the first two point to
    # different sides, and the last two to nearly the same
    mean = torch.tensor([[0.92, 0.38]])
    vectors = np.array([[3, 1], [2, 1], [3, -1], [2, -1]]) / np.sqrt([[10], [5], [10], [5]]) - mean.numpy()
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = units @ units.T
    eer = scoring.equal_error_rate(cosines[[0, 2], [1, 3]], cosines[[0, 0, 1, 1], [2, 3, 2, 3]])
    demo_quality.print_all_pairs('pairs', model, 'four utterances', mean)
    assert eer > 0 and capsys.readouterr().out.endswith('EER 0.00 %%, centred on the training mean %.2f %%\n' % eer)


def test_the_checkpoint_says_the_mean(monkeypatch, capsys):
    means, folders, ships = [], [], str(PROJECT / 'model_saved')
    monkeypatch.setattr(demo_quality, 'unheard_voices', lambda model, mean: means.append(mean))
    monkeypatch.setattr(demo_quality, 'real_speakers', lambda model, folder: folders.append(folder))
    monkeypatch.setattr(demo_quality, 'print_all_pairs', lambda folder, model, what, mean: folders.append(folder))
    demo_quality.main(cp_num='etri240', log_dir=ships, test_dir='tests', unseen_dir='others')
    assert torch.equal(means[0], torch.load(ships + '/checkpoint_etri240.pth')['mean'])
    assert folders == ['tests', 'others'] and 'does not hold' not in capsys.readouterr().out
    monkeypatch.setattr(demo_quality, 'load_model', lambda *settings: FirstFrame())
    demo_quality.main(cp_num=1)
    assert means[1] is None and 'none does not hold the training mean' in capsys.readouterr().out


def test_variants_are_compared(lab, write_feat, monkeypatch, started, stopped_with, capsys):
    for speaker in ('001F', '002M', '003F', '004M'):
        for i in range(6):
            write_feat('held_out/train/%s/%d.p' % (speaker, i), seed=i)
    with monkeypatch.context() as patched:
        patched.setattr(c, 'USE_SCALE', True)
        for name in find_feats('held_out'):
            write_feat('held_out_scale/' + name.partition('/')[2])
            write_feat(('held_out_scale/' + name.partition('/')[2]).replace('train', 'unseen'))
    monkeypatch.setattr(compare, 'step_ratio', lambda settings: 1.5)  # it is measured
    compare.main(data_dir='held_out', out_dir='results', variants=['scale'], n_files=6, n_epochs=2)
    *_, heading, _, row, picture = capsys.readouterr().out.splitlines()
    figures = json.loads(Path('results/scale_0.json').read_text())
    # Four speakers with six utterances each; on the even lines of the list are 002M and 004M
    assert [(figures[half]['targets'], figures[half]['impostors']) for half in ('all', 'even', 'odd')] == [
        (4 * 15, 6 * 36), (2 * 15, 36), (2 * 15, 36)]
    assert figures['step'] == 1.5 and figures['time'] == 3 and heading.startswith('| name | settings | seeds |')
    assert set(figures['odd']) == {'speakers', 'targets', 'impostors', 'raw', 'centred', 'WCCN', 'PLDA', 'as-norm'}
    assert row.startswith('| `scale` | `USE_SCALE = True` | 1 | 0.7')
    assert '| 1.5 | 3.0 | %.1f |' % figures['all']['raw']['EER'] in row
    assert picture == 'Picture: results/compare.png' and not c.USE_SCALE
    run = json.loads(Path('results/scale_0/run.json').read_text())
    assert run['corpus'] == 'held_out_scale/train' and run['settings']['scheduler_type'] == 'onecycle'
    times = Path('results/scale_0/checkpoint_2.pth').stat().st_mtime_ns

    started('compare', 'held_out', 'results', '1', 'scale', '--n_epochs=2', '--n_files=6')  # nothing is trained again
    assert capsys.readouterr().out.splitlines() == [heading, _, row, picture]
    Path('results/scale_0.json').unlink()
    compare.main(data_dir='held_out', out_dir='results', variants=['scale'], n_files=6, n_epochs=2)
    assert row in capsys.readouterr().out  # trained, not tested
    assert Path('results/scale_0/checkpoint_2.pth').stat().st_mtime_ns == times
    compare.print_table(compare.results_of(Path('results')), 'even')
    assert '| 1.5 | 3.0 | %.1f |' % figures['even']['raw']['EER'] in capsys.readouterr().out
    for settings, message in (({}, 'Give two folders'), ({'n_seeds': 0}, 'n_seeds = 0'),
                              ({'speakers': 'some'}, 'unknown speakers: some. Choose one of all, even, odd.'),
                              ({'out_dir': 'results', 'variants': ['scale']}, 'results has results with'),
                              ({'data_dir': 'elsewhere'}, "elsewhere/train does not exist. Make it of the slides' "
                                                          'corpus first, with hold_out.py'),
                              ({'variants': ['mfcc']}, 'held_out_mfcc/train does not exist. Make it of'),
                              ({'variants': ['wav2vec']}, 'it must be a list of some of softmax, center')):
        folders = {'data_dir': 'held_out', 'out_dir': 'new'} if settings else {}
        assert message in stopped_with(compare.main, **{**folders, **settings})


def test_an_interrupted_variant_goes_on(lab, write_feat, monkeypatch):
    for i in range(12):
        write_feat('train/%s/%d.p' % ('ab'[i % 2], i), seed=i)
    settings = {**compare.COMMON, 'n_epochs': 3, 'train_dir': 'train', 'seed': 0}
    compare.train_to_the_end(settings, Path('whole'))

    def stop(*arguments, **keywords):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(deep_dive.train.calibration, 'measure_best', stop)  # the power fails at the end of the training
        with pytest.raises(KeyboardInterrupt):
            compare.train_to_the_end(settings, Path('cut'))
    with monkeypatch.context() as patched:
        patched.setattr(compare.train, 'validate', stop)  # and again within an epoch
        with pytest.raises(LabError, match='Stopped by Ctrl-C in epoch 3'):
            compare.train_to_the_end(settings, Path('cut'))
    compare.train_to_the_end(settings, Path('cut'))
    whole, cut = (torch.load('%s/checkpoint_best.pth' % folder) for folder in ('whole', 'cut'))
    assert all(torch.equal(whole['state_dict'][name], tensor) for name, tensor in cut['state_dict'].items())
    assert 'mean' in cut


def test_a_training_of_exercise_2_goes_on_and_is_measured(lab, write_feat, capsys):
    for i in range(12):
        write_feat('%s/%s/%d.p' % (c.TRAIN_FEAT_DIR, 'ab'[i % 2], i), seed=i)
    for i, name in enumerate(['a/enroll', 'a/test', 'b/enroll', 'b/test']):
        write_feat('%s/%s.p' % (c.TEST_FEAT_DIR, name), seed=i)
    settings = {'lr': 0.01, 'scheduler_type': 'plateau', 'seed': 0}
    assert len(hyperparameters.train_once('plateau', 1, **settings)['epochs']) == 1
    first = hyperparameters.train_once('plateau', 2, **settings)
    assert len(first['epochs']) == 2 and first['settings']['start'] == 2  # it went on
    times = Path('plateau/checkpoint_2.pth').stat().st_mtime_ns
    assert hyperparameters.train_once('plateau', 2, **settings) == first
    assert Path('plateau/checkpoint_2.pth').stat().st_mtime_ns == times

    model = load_model(True, 'plateau', 'best', None, None)
    enrolled, tested = ([get_embeddings(True, '%s/%s/%s.p' % (c.TEST_FEAT_DIR, name, kind), model, frames)
                         for name in 'ab'] for kind, frames in (('enroll', 200), ('test', 100)))
    n_pieces = {len(read_MFB('%s/%s/test.p' % (c.TEST_FEAT_DIR, name))[0]) // 100 for name in 'ab'}
    assert n_pieces == {1}  # so the piece is nearly the whole file
    measured = hyperparameters.measure('plateau')
    assert measured['Score of two voices'] == pytest.approx(
        np.mean([torch.cosine_similarity(tested[i], enrolled[1 - i]).item() for i in range(2)]), abs=0.02)
    assert hyperparameters.mean_and_range([1, 2, 6]) == '3.00 (1.00 to 6.00)'


def spread(vectors):
    """Those of a network that has hardly learned are nearly equal, and rounding would decide who is nearer."""
    return torch.nn.functional.normalize(vectors - vectors.mean(dim=0))


def test_networks_decide_together(lab, write_feat, stopped_with, capsys, monkeypatch):
    for folder in ('train', 'unseen'):
        for number, speaker in enumerate(('001F', '002M', '003F', '004M')):
            for i in range(6):
                write_feat('held_out/%s/%s/%d.p' % (folder, speaker, i), seed=10 * number + i)
    names, scores = np.repeat(['001F', '002M', '003F', '004M'], 6), []
    first, second = np.triu_indices(24, 1)
    is_target = names[first] == names[second]
    same_sex = np.array([names[i][-1] == names[j][-1] for i, j in zip(first, second)])
    for seed in (0, 1):
        deep_dive.train.main(train_dir='held_out/train', log_dir='model_%d' % seed, seed=seed, n_epochs=1, plot=False)
        model = load_model(False, 'model_%d' % seed, 'best', None, None)
        with torch.inference_mode():
            features = [torch.from_numpy(read_MFB('held_out/unseen/%s/%d.p' % (name, i % 6))[0].T).float()
                        for i, name in enumerate(names)]
            vectors = torch.nn.functional.normalize(torch.cat([model(feature[None, None])[0] for feature in features]))
        vectors = spread(vectors)
        scores.append([(vectors @ vectors.T).numpy()[first, second],
                       backends.Scorer('plda', model).trials(vectors, first, second)])
    scores.append([of_model_0 + of_model_1 for of_model_0, of_model_1 in zip(*scores)])
    capsys.readouterr()
    networks = ['model_0', 'model_1']
    d_vectors_of = fusion.d_vectors_of

    def spread_out(*arguments):
        vectors, *others = d_vectors_of(*arguments)
        return [spread(vectors), *others]

    monkeypatch.setattr(fusion, 'd_vectors_of', spread_out)
    fusion.main(data_dir='held_out', log_dirs=networks, n_files=6)
    *_, people, _, _, row_0, row_1, row_of_sum = capsys.readouterr().out.splitlines()
    assert people == '4 people, 60 trials of one speaker and 216 of two'
    rates = []
    for row, name, ways in zip((row_0, row_1, row_of_sum), (*networks, 'sum'), scores):
        cells = row.strip('| ').split(' | ')
        assert cells[0] == name
        rates.append(cells[2])
        for cell, impostors, figure in zip(cells[2:], (~is_target, ~is_target & same_sex, ~is_target),
                                           (scoring.equal_error_rate, scoring.equal_error_rate, scoring.min_dcf)):
            assert cell == ', '.join('%.2f' % figure(way[is_target], way[impostors]) for way in ways)
    assert len(set(rates)) == 3  # the sum is not one of the two
    assert cells[1] == '%.2f M' % (2 * sum(parameter.numel() for parameter in model.parameters()) / 1e6)

    fusion.main(data_dir='held_out', log_dirs=networks, n_files=6, speakers='odd')
    assert '2 people, 30 trials of one speaker and 36 of two\n' in capsys.readouterr().out
    for settings, message in (({'log_dirs': networks[:1]}, 'two or more folders'), ({'n_files': 1}, 'n_files = 1'),
                              ({'log_dirs': 'model_0'}, "log_dirs = 'model_0': it must be a list"),
                              ({'data_dir': 'elsewhere'}, 'elsewhere/train does not exist'),
                              ({'log_dirs': ['model_0', 'model_2']}, 'model_2 holds no checkpoint_best.pth. Train it')):
        assert message in stopped_with(fusion.main, **{'data_dir': 'held_out', 'log_dirs': networks, **settings})


def test_a_step_of_losses_that_compare_is_timed(monkeypatch):
    """Their batches must hold several utterances of a speaker, or the loss is no number and train() stops."""
    monkeypatch.setattr(c, 'NUM_WIN_SIZE', 16)
    assert compare.step_ratio(compare.VARIANTS['triplet'], n_pairs=1) > 0


def test_the_front_is_what_nothing_beats():
    assert compare.pareto_front([(3, 4), (1, 9), (2, 9), (4, 5), (5, 3), (3, 6)]) == [(1, 9), (3, 4), (5, 3)]


@pytest.mark.parametrize('n_points', [2, 18])
def test_numbers_of_points_do_not_collide(n_points):
    """Of points so close to each other that a number beside each would cover the next."""
    fig, ax = plt.subplots()
    points = np.random.default_rng(0).normal(size=(n_points, 2)) * [0.3, 0.05]
    points[0] = [10, 5]  # far away
    ax.plot(*points.T, '^')
    compare.number_points(ax, points.tolist())
    fig.canvas.draw()
    boxes = [(text.get_text(), Text.get_window_extent(text)) for text in ax.texts]  # without the lines to the points
    assert [name for name, _ in boxes] == [str(i + 1) for i in range(n_points)]
    places = ax.transData.transform(points)
    for i, (_, box) in enumerate(boxes):
        assert not any(box.overlaps(other) for _, other in boxes[:i])
        assert not any(box.contains(*place) for place in places)
    plt.close(fig)


def test_a_prediction_has_seconds_and_filters_from_1(lab, monkeypatch):
    figures, dataset = [], [(torch.rand(1, 40, 250), 0), (torch.rand(1, 40, 150), 1)]
    monkeypatch.setattr(recipe, 'save_picture', lambda fig, filename: figures.append(fig))
    recipe.draw_predictions(lambda feature: (None, torch.tensor([[2.0, 0.0]])), dataset, ['a', 'b'], 'x.png')
    first, second, *others = figures[0].axes
    assert first.images[0].get_extent() == [0, 2.5, 0.5, 40.5] and second.images[0].get_extent()[1] == 1.5
    assert first.get_xlabel() == 'seconds' and list(first.get_yticks()) == [1, 10, 20, 30, 40]
    assert [ax.get_title() for ax in (first, second)] == ['true: %s\npredicted: a (88 %%)' % true for true in 'ab']
    assert first.images[0].get_clim() == second.images[0].get_clim()  # one scale of colours, which is drawn
    assert others[-1].get_ylabel() == "level minus the filter's mean (20 log10)"
    plt.close(figures[0])


def test_the_steps_are_drawn_for_two_recordings(lab, monkeypatch):
    """The d-vectors have a cosine of 0.28."""
    figures, rng = [], np.random.default_rng(0)
    monkeypatch.setattr(pipeline, 'save_picture', lambda fig, filename: figures.append(fig))
    audios, features = [rng.normal(size=n) for n in (16000, 8000)], [rng.normal(size=(n, 40)) for n in (100, 50)]
    pipeline.draw_pipeline(audios, features, np.array([[0.6, 0.8], [0.8, -0.25]]), 0.5, 'x.png')
    axes = figures[0].axes
    assert [len(line.get_ydata()) for ax in axes for line in ax.lines][:2] == [16000, 8000]
    maps = [image for ax in axes for image in ax.images]
    assert [image.get_array().shape for image in maps] == [(40, 100), (40, 50), (1, 2), (1, 2)]
    assert maps[0].get_clim() == maps[1].get_clim() and maps[2].get_clim() == maps[3].get_clim() == (-0.8, 0.8)
    scales = {ax.get_ylabel() for ax in axes}  # of the colours
    assert {"level minus the filter's mean (20 log10)", 'value'} <= scales
    assert 'score: 0.28, threshold: 0.50' in [ax.get_xlabel() for ax in axes]
    plt.close(figures[0])


def test_a_recipe_from_a_card(lab, write_feat, monkeypatch, stopped_with, capsys):
    for speaker in range(5):
        for i in range(10):
            write_feat('feats/s%d/%d.p' % (speaker, i), seed=10 * speaker + i)
    monkeypatch.setattr(recipe, 'N_SPEAKERS', 2)
    for settings in (recipe.PRETRAINING, recipe.RECIPE):
        for name, value in (('n_epochs', 2), ('backbone', 'resnet18'), ('batch_size', 8)):
            monkeypatch.setitem(settings, name, value)
    recipe.main(feat_dir='feats', out_dir='card')
    out = capsys.readouterr().out.splitlines()
    assert out[0] == 'card/speakers/train: 3 speakers, card/speakers/unseen: 2 speakers'
    rows = [line for line in out if 'validation accuracy after each epoch' in line]
    assert [row.partition('  ')[0] for row in rows] == ['from scratch', 'pretrained']
    assert [line for line in out if line.startswith('Picture')] == [
        'Picture: card/recipe.png', 'Picture: card/predictions.png']
    times = [path.stat().st_mtime_ns for path in sorted(Path('card').rglob('checkpoint_*.pth'))]
    before, after = (torch.load('card/%s/checkpoint_best.pth' % name)['state_dict']['fc0.weight']
                     for name in ('pretraining', 'pretrained'))
    assert 0 < (before - after).abs().mean() < 0.01 and len(find_feats('card/fifty')) == 20
    recipe.main(feat_dir='feats', out_dir='card')  # nothing is trained again
    assert [path.stat().st_mtime_ns for path in sorted(Path('card').rglob('checkpoint_*.pth'))] == times
    assert 'Give two folders' in stopped_with(recipe.main)
    assert 'Give two folders' in stopped_with(recipe.main, demo=True)  # where to?


def test_the_small_version_of_the_recipe(lab, monkeypatch, capsys):
    shipped = torch.load(PROJECT / recipe.DEMO_PRETRAINED)
    assert not {'speakers', 'cohort'} & shipped.keys() and shipped['n_speakers'] == 190  # nothing of single people
    assert recipe.RECIPE['backbone'] == recipe.PRETRAINING['backbone'] == 'resnet50'
    network = background_network(128, 50, 'resnet50', 'average', head='slides')
    load_backbone(network, str(PROJECT / recipe.DEMO_PRETRAINED))
    assert torch.equal(network.fc0.weight, shipped['state_dict']['fc0.weight'])
    # A smaller network, so that it does not take minutes
    for name, value in (('N_SPEAKERS', 4), ('DEMO_PRETRAINED', 'model_saved/checkpoint_etri240.pth')):
        monkeypatch.setattr(recipe, name, value)
    for name, value in (('n_epochs', 2), ('batch_size', 8), ('backbone', 'resnet18')):
        monkeypatch.setitem(recipe.RECIPE, name, value)
    recipe.main(out_dir='card', demo=True)
    out = capsys.readouterr().out.splitlines()
    rows = [line for line in out if 'validation accuracy after each epoch' in line]
    assert [row.partition('  ')[0] for row in rows] == ['from scratch', 'pretrained']
    assert [line for line in out if line.startswith('Picture')] == [
        'Picture: card/recipe.png', 'Picture: card/predictions.png']
    assert len(find_feats('card/fifty')) == 4 * recipe.N_DEMO_FILES
    settings = {name: json.loads(Path('card/%s/run.json' % name).read_text())['settings']
                for name in ('from_scratch', 'pretrained')}
    assert settings['from_scratch']['init_from'] is None
    assert settings['pretrained']['init_from'] == str(PROJECT / 'model_saved/checkpoint_etri240.pth')
    for of_run in settings.values():  # those of the card, and more files to validate on
        assert {**recipe.RECIPE, 'val_ratio': 20}.items() <= of_run.items()


@pytest.mark.parametrize('noise, held', [(0.01, '100.0'), (0.5, None)])
def test_how_often_an_interval_holds_the_true_rate(monkeypatch, capsys, noise, held):
    monkeypatch.setattr(coverage, 'N_POPULATION', 30)
    monkeypatch.setattr(coverage, 'NUMBERS', [4])
    coverage.main(n_tests=3, noise=noise)
    true_rate, _, row = capsys.readouterr().out.splitlines()
    n_speakers, share, n_tests, within = row.split()
    assert n_speakers == '4' and (share == held or held is None)
    if held:  # no errors at all: the rule of three holds the true rate, and there are no 30 errors
        assert true_rate == 'True EER : 0.00 %' and (n_tests, within) == ('0', 'NaN')


def test_imagined_trials_by_hand():
    scores, is_target, first, second = coverage.draw_trials(5, 0.1, np.random.default_rng(0))
    assert len(scores) == 5 * 13 * 5 and is_target.sum() == 5 * 13 and (is_target == (first == second)).all()
    assert scores[is_target].min() > 0.9 > scores[~is_target].max()


def test_ideas_are_drawn(lab, stopped_with, capsys):
    ideas.main(out_dir='pictures')
    names = ['networks', 'losses', 'scores']
    assert capsys.readouterr().out.splitlines() == ['Picture: pictures/%s.png' % name for name in names]
    fig, ax = plt.subplots()
    ideas.draw_tdnn(ax)
    assert list(ax.lines[-1].get_xdata()) == list(range(-7, 8))  # 7 + 1 + 7 frames
    ideas.draw_res2(ax)
    reached = ax.images[0].get_array()  # part i sees i - 1 frames to each side, 2 apart
    assert [int(row.sum()) for row in reached] == [1, 3, 5, 7, 9, 11, 13, 15]
    assert reached[7, 6] and not reached[7, :6].any()  # part 8: from frame 20 - 14 on
    # cos(a, x) is 0.9, 0.7, 0.5 and -1; p is at 0.8, so n is the one at 0.7
    others = np.array([[0.9, 0.19 ** 0.5], [0.7, -0.51 ** 0.5], [0.5, 0.75 ** 0.5], [-1, 0]])
    assert ideas.semi_hard(np.array([1, 0]), np.array([0.8, 0.6]), others).tolist() == others[1].tolist()
    plt.close(fig)
    assert 'Name the folder' in stopped_with(ideas.main)


def test_new_speakers_are_learnt(lab, write_feat, monkeypatch, stopped_with, capsys):
    for speaker in range(3):
        for i in range(8):
            write_feat('held_out/unseen/s%d/%d.p' % (speaker, i), seed=10 * speaker + i)
    for name, number in (('N_SPEAKERS', 3), ('N_FILES', 4), ('N_TEST_FILES', 4)):
        monkeypatch.setattr(transfer, name, number)
    monkeypatch.setitem(transfer.COMMON, 'n_epochs', 2)
    checkpoint = str(PROJECT / 'model_saved/checkpoint_etri240.pth')
    transfer.main(data_dir='held_out', checkpoint=checkpoint, out_dir='results')
    *lines, picture = capsys.readouterr().out.splitlines()
    assert [line.partition('  ')[0] for line in lines[::2]] == ['from scratch', 'frozen', 'fine-tuned']
    assert all(line.endswith(' % of 12 test files') for line in lines) and len(lines) == 6
    assert picture == 'Picture: results/transfer.png'
    assert len(find_feats('results/train')) == len(find_feats('results/test')) == 12
    assert not {Path(name).name for name in find_feats('results/train')} & {
        Path(name).name for name in find_feats('results/test')}
    before, frozen, tuned = (torch.load(name)['state_dict'] for name in (
        checkpoint, 'results/frozen/checkpoint_2.pth', 'results/fine-tuned/checkpoint_2.pth'))
    assert torch.equal(frozen['fc0.weight'], before['fc0.weight']) and frozen['last.weight'].shape == (3, 128)
    assert not torch.equal(tuned['fc0.weight'], before['fc0.weight'])
    for settings, message in (({}, 'Give the folder that hold_out.py made'), ({
            'data_dir': 'held_out', 'checkpoint': 'x.pth', 'out_dir': 'new'}, 'x.pth: there is no such checkpoint')):
        assert message in stopped_with(transfer.main, **settings)


def test_the_recordings_that_ship_are_made_by_their_program(lab):
    """To one unit of 16 bits: versions of numpy and scipy round differently."""
    sample_voices.main(folder='samples')
    for name in sample_voices.RECORDINGS:
        (rate, there), (_, made) = (wavfile.read(str(folder / name)) for folder in (PROJECT / 'docs', lab / 'samples'))
        assert (rate, there.shape) == (16000, (80000,))
        np.testing.assert_allclose(made.astype(int), there, atol=1)
