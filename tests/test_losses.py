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


def legend_of(figure):
    """The lines of its legend, with plain spaces."""
    return [text.get_text().replace('\u00a0', ' ') for text in figure.legends[0].get_texts()]


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
    assert legend_of(figures[0]) == [
        'model_saved/run_001: lr = 0.01', 'model_saved: lr = 0.1']


def test_losses_of_named_runs(lab, started, figures, capsys):
    write_run('a', [3], lr=0.1, wd=0.5)
    write_run('b', [3], lr=0.1)  # by a version without wd
    write_run('c', [3], lr=0.1, wd=0.5, loss_type='softmax', corpora={}, backbone='resnet18')  # of deep_dive/train.py
    write_run('d', [4], lr=0.1, wd=0.5, loss_type='center', utterances=900)
    started('a', 'b', '--filename=ab.png')
    assert 'wd = 0.5 ' in capsys.readouterr().out and (lab / 'ab.png').exists()
    assert legend_of(figures[0]) == ['a: wd = 0.5', 'b: wd = None']

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
    shown = legend_of(figures[0])
    assert shown == ['모델 1: lr = 0.1', 'b: lr = 0.2'] or shown[0] == 'run 1' and (
        'In the pictures: run 1 = 모델 1: lr = 0.1' in capsys.readouterr().out)


@pytest.mark.parametrize('n_runs', [1, 8, 12, 30])
def test_each_run_has_a_colour_of_its_own(n_runs):
    styles = losses.run_styles(n_runs)
    assert len({colour for colour, _, _ in styles}) == len(styles) == n_runs
    for one, next_one in zip(styles, styles[1:]):  # for those who do not see the colours
        assert one[1] != next_one[1] and (n_runs <= 8 or one[2] != next_one[2])


def test_the_legend_hides_no_loss(lab, figures):
    """Of many runs with long names, which go on in a second line."""
    name = 'model_saved/run_%03d: ' + ', '.join('setting_%d = %d' % (i, i) for i in range(10))
    losses.draw_losses([([5.0, 3], [6.0, 4])] * 30, [name % i for i in range(30)], 'losses.png')
    figure, = figures
    assert figure.axes[0].get_legend() is None
    legend, data = figure.legends[0].get_window_extent(), figure.axes[0].get_window_extent()
    assert legend.y1 < data.y0 and data.height > 400 and legend.x1 <= figure.bbox.x1 and legend.y0 >= 0
    first_line, second_line = legend_of(figure)[0].split('\n')
    assert first_line.endswith(',') and second_line.startswith('setting_')  # no setting stands on two lines


@pytest.mark.parametrize('low, high, expected', [(0.02, 100, {'0.05', '0.5', '1', '20'}), (5.6, 7.3, {'6', '7'}),
                                                 (0.5, 4, {'1', '2', '3'})])
def test_losses_have_plain_numbers(lab, figures, low, high, expected):
    losses.draw_losses([([low, low], [high, low])], ['a'], 'losses.png')
    ax, = figures[0].axes
    shown = {label.get_text() for label in ax.get_yticklabels()}
    assert expected <= shown and not any('10^' in text or '$' in text for text in shown)
    assert not ax.yaxis.get_minorticklabels() and all(float(tick).is_integer() for tick in ax.get_xticks())
