"""exercises/losses.py: what it draws and prints of several runs."""
import json
import runpy
import sys
from pathlib import Path

import pytest

from exercises import losses


@pytest.fixture
def started(monkeypatch):
    """Runs `python -m exercises.losses <arguments>`."""
    def run(*arguments):
        monkeypatch.setattr(sys, 'argv', ['losses', *arguments])
        monkeypatch.delitem(sys.modules, 'exercises.losses', raising=False)
        runpy.run_module('exercises.losses', run_name='__main__')
    return run


def write_run(folder, valid_losses, *, utterances=1680, **settings):
    epochs = [{'train_loss': 2 * loss, 'valid_loss': loss, 'lr': 0.1, 'seconds': 1.25} for loss in valid_losses]
    Path(folder).mkdir(parents=True, exist_ok=True)
    (Path(folder) / 'run.json').write_text(json.dumps({
        'corpus': 'train', 'utterances': utterances, 'classes': 240, 'settings': settings, 'epochs': epochs}))


@pytest.fixture
def figures(monkeypatch):
    """What losses.py draws."""
    drawn = []
    monkeypatch.setattr(losses.plt, 'close', drawn.append)
    return drawn


def test_losses_of_several_runs(lab, started, figures, capsys):
    common = {'wd': 0.0001, 'augment': ['noise'], 'plot': False}
    write_run('model_saved', [3.0, 1.0, 2.0], lr=0.1, log_dir='model_saved', log_interval=84, **common)
    write_run('model_saved/run_001', [4.0, 2.0], lr=0.01, log_dir='model_saved', log_interval=10, **common)
    write_run('model_saved/run_002', [], lr=10, **common)  # stopped in its first epoch
    (lab / 'model_saved/run_003').mkdir()
    write_run('model_saved/elsewhere', [5], lr=5, **common)
    started()
    picture, _, *table = capsys.readouterr().out.splitlines()
    assert picture == 'Picture: losses.png' and (lab / 'losses.png').read_bytes().startswith(b'\x89PNG')
    assert table[0].split()[-1] == 'Seconds' and len(table) == 3
    assert table[1].split() == ['model_saved/run_001', 'lr', '=', '0.01', '2', '2.0000', '2', '2']  # the earlier run
    assert table[2].split() == ['model_saved', 'lr', '=', '0.1', '3', '1.0000', '2', '4']

    ax, = figures[0].axes
    assert [list(line.get_ydata()) for line in ax.lines] == [[4, 2], [8, 4], [3, 1, 2], [6, 2, 4]]
    assert [list(line.get_xdata()) for line in ax.lines[::2]] == [[1, 2], [1, 2, 3]]
    for valid_line, train_line in (ax.lines[:2], ax.lines[2:]):
        assert valid_line.get_color() == train_line.get_color()
        assert valid_line.get_linewidth() > 2 * train_line.get_linewidth() and valid_line.get_linestyle() == '-'
    assert ax.lines[0].get_color() != ax.lines[2].get_color() and ax.lines[2].get_markevery() == [1]
    assert [text.get_text() for text in figures[0].legends[0].get_texts()] == [
        'model_saved/run_001: lr = 0.01', 'model_saved: lr = 0.1']


def test_losses_of_named_runs(lab, started, figures, capsys):
    write_run('a', [3], lr=0.1, wd=0.5)
    write_run('b', [3], lr=0.1)  # by a version without wd
    write_run('c', [3], lr=0.1, wd=0.5, loss_type='softmax', corpora={}, backbone='resnet18')  # of deep_dive/train.py
    write_run('d', [4], lr=0.1, wd=0.5, loss_type='center', utterances=900)
    started('a', 'b', '--filename=ab.png')
    assert 'wd = 0.5 ' in capsys.readouterr().out and (lab / 'ab.png').exists()
    assert [text.get_text() for text in figures[0].legends[0].get_texts()] == ['a: wd = 0.5', 'b: wd = None']

    started('a', 'c')
    assert capsys.readouterr().out.count('nothing') == 2

    started('a', 'd')
    out = capsys.readouterr().out
    assert 'utterances = 900, loss_type = center' in out
    assert 'Note: these runs differ in loss_type and utterances, so their losses cannot be compared.' in out

    started('a', 'a')
    out = capsys.readouterr().out
    assert out.count('nothing') == 2 and 'Note' not in out
    assert [text.get_text() for text in figures[3].legends[0].get_texts()] == ['a', 'a']


def test_no_losses_to_draw(lab, stopped_with):
    assert 'no finished epoch of a run in model_saved. Run python train.py first' in stopped_with(losses.main)
    write_run('good', [1])
    write_run('begun', [])
    write_run('broken', ['x'])
    for log_dirs, message in (
            (['good', 'nowhere'], 'nowhere/run.json does not exist: there is no run of train.py in nowhere'),
            (['good', 'begun'], 'begun: no epoch of this run is finished yet'),
            (['broken'], 'broken/run.json: not what train.py wrote there'), ('good', 'it must be a list of folders')):
        assert message in stopped_with(losses.main, log_dirs=log_dirs)
    assert list(lab.glob('*.png')) == []


def test_a_folder_in_letters_that_no_font_has(lab, started, figures, capsys):
    write_run('모델 1', [3], lr=0.1), write_run('b', [3], lr=0.2)
    started('모델 1', 'b')
    shown = [text.get_text() for text in figures[0].legends[0].get_texts()]
    assert shown == ['모델 1: lr = 0.1', 'b: lr = 0.2'] or shown[0] == 'run 1' and (
        'In the pictures: run 1 = 모델 1: lr = 0.1' in capsys.readouterr().out)
