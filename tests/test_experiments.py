"""The programs in experiments/: small ones as a whole, and that each can be imported."""
import importlib
import json

import numpy as np
import pytest

import hold_out
import losses
import other_features
import subset
from DB_wav_reader import find_feats
from conftest import PROJECT
from support import runs
from support.messages import LabError
from support.safe_files import read_pickles

NAMES = [path.stem for path in sorted((PROJECT / 'experiments').glob('*.py'))]


@pytest.mark.parametrize('name', NAMES)
def test_nothing_runs_on_import(name, lab, capsys):
    importlib.import_module(name)
    assert capsys.readouterr().out == '' and list(lab.iterdir()) == []


def write_run(log_dir, valid_losses, **settings):
    epochs = [{'train_loss': 2 * loss, 'valid_loss': loss, 'lr': 0.1, 'seconds': 1.5} for loss in valid_losses]
    (log_dir / 'run.json').parent.mkdir(parents=True, exist_ok=True)
    (log_dir / 'run.json').write_text(json.dumps({'settings': {'seed': 0, **settings}, 'epochs': epochs}))


def test_losses_of_several_runs(lab, capsys, monkeypatch, stopped_with):
    figures = []
    monkeypatch.setattr(losses.plt, 'close', figures.append)
    assert 'model_saved holds no run' in stopped_with(losses.main)
    write_run(lab / 'model_saved', [3, 1, 2], lr=0.1, wd=0, log_dir='model_saved')
    write_run(lab / 'model_saved/run_001', [4, 2], lr=0.01, wd=0, log_dir='model_saved')
    losses.main()
    table = capsys.readouterr().out.splitlines()[-2:]
    assert table[0].split() == ['model_saved', 'lr', '=', '0.1', '3', '1.000', '2', '4.500']
    assert table[1].split() == ['model_saved/run_001', 'lr', '=', '0.01', '2', '2.000', '2', '3.000']
    lines = figures[0].axes[0].lines
    assert [list(line.get_ydata()) for line in lines] == [[3, 1, 2], [6, 2, 4], [4, 2], [8, 4]]
    assert [text.get_text() for text in figures[0].axes[0].get_legend().get_texts()] == [
        'model_saved: lr = 0.1', 'model_saved/run_001: lr = 0.01']
    assert (lab / 'losses.png').read_bytes().startswith(b'\x89PNG')

    with pytest.raises(LabError, match='there is no run of train.py in nowhere'):
        losses.main('nowhere')
    write_run(lab / 'begun', [])
    with pytest.raises(LabError, match='begun: no epoch of this run is finished yet'):
        losses.main('begun')
    assert losses.differences([runs.read_run('model_saved')] * 2) == ['the same settings'] * 2


def test_folders_of_links(lab, write_feat):
    for speaker in range(3):
        for i in range(3):
            write_feat('feat/s%d/%d.p' % (speaker, i))
    subset.main('feat', 'small', '2', '2')
    assert find_feats('small') == ['small/s0/0.p', 'small/s0/1.p', 'small/s1/0.p', 'small/s1/1.p']
    for arguments, message in ((('feat', 'small', '2', '2'), 'small exists already'), (('feat', 'x'), 'Give a feature'),
                               (('feat', 'x', '4', '2'), 'feat has 3 speakers, not 4')):
        with pytest.raises(LabError, match=message):
            subset.main(*arguments)
    for i in range(240):
        (lab / 'corpus' / ('%03d' % i)).mkdir(parents=True)
    hold_out.main('corpus', 'held_out')
    kept, unseen = ({path.name for path in (lab / 'held_out' / name).iterdir()} for name in ('train', 'unseen'))
    assert len(kept) == 200 and unseen == {'%03d' % i for i in hold_out.UNSEEN} and not kept & unseen
    for arguments, message in ((('corpus', 'held_out'), 'held_out exists already'), (('corpus',), 'Give two folders'),
                               (('feat', 'x'), 'feat has 3 speakers')):
        with pytest.raises(LabError, match=message):
            hold_out.main(*arguments)


def test_other_features_of_published_ones(lab, write_feat, monkeypatch):
    filename = write_feat('feat/s1/a.p')
    monkeypatch.setattr(other_features.c, 'USE_SCALE', True)
    other_features.main('feat', 'scaled')
    content = read_pickles('scaled/s1/a.p')[0]
    np.testing.assert_allclose(content['feat'].std(axis=0), 1)
    assert content['label'] == 's1' and content['settings']['USE_SCALE']
    published = read_pickles(filename)[0]['feat']
    expected = published - published.mean(axis=0)
    np.testing.assert_allclose(content['feat'], expected / expected.std(axis=0), atol=1e-9)
    for folders, message in ((('feat', 'scaled'), 'scaled exists already'), (('feat',), 'Give two folders'),
                             (('nowhere', 'x'), 'nowhere holds no feature files')):
        with pytest.raises(LabError, match=message):
            other_features.main(*folders)
    monkeypatch.setattr(other_features.c, 'FILTER_BANK', 23)
    with pytest.raises(LabError, match='FILTER_BANK = 23 in configure.py takes recordings; the files have 40'):
        other_features.main('feat', 'x')
