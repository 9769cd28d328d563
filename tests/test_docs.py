"""Do the pages say what the lab does? Their commands are run in order, and their links are followed."""
import importlib
import inspect
import re
import runpy
import shlex
import shutil
import socketserver
import sys
import webbrowser
from pathlib import Path

import pytest

from conftest import PROJECT
from support import messages
from test_settings import SETTINGS

PAGES = [PROJECT / 'README.md', *sorted((PROJECT / 'docs').rglob('*.md')),
         *sorted(PROJECT.glob('[!.]*_*/README.md'))]
RUN = ['README.md', 'docs/lab.md', 'docs/own-voice.md']
COMMAND = re.compile(r'(python|torchrun|pip|mkdir|cp|git) ')
NOT_RUN = re.compile(r'pip |git |python -m pytest')
TRAININGS = ['train', 'deep_dive.train']


def blocks_of(page):
    """The indented blocks of a page, each a list of lines: commands, or what they print."""
    text = page.read_text(encoding='utf-8')
    found = re.findall(r'(?:^ {4}.*\n|^\n(?= {4}))+', text, flags=re.M)
    return [[line.strip() for line in block.splitlines() if line.strip()] for block in found]


def steps_of(page):
    """(commands, printed lines) in the order of the page: the lines are what the commands before them
    print."""
    steps = []
    for line in (line for block in blocks_of(page) for line in block):
        if COMMAND.match(line):
            if not steps or steps[-1][1]:
                steps.append(([], []))
            steps[-1][0].extend(line.split('  #')[0].split(' && '))
        elif steps and line != '...':
            steps[-1][1].append(line)
    return steps


def numbers_aside(line):
    """A printed line without what differs from machine to machine: numbers, sexes, verdicts, spaces."""
    line = re.sub(r'\d+[FM]\d+', 'SPEAKER', line)
    line = re.sub(r'Accept|Reject|True$|False$', 'VERDICT', line)
    line = re.sub(r'(more|less) than (?=\d+ %)', '', line)
    return re.sub(r'\s+', ' ', re.sub(r'-?\d[\d.]*(e-\d+)?|\bnan\b', '0', line)).strip()


@pytest.fixture(scope='module')
def clone(six_voices, tmp_path_factory):
    """A small clone: the trained lab of six voices, the models that ship, recordings named as on the
    pages."""
    folder = tmp_path_factory.mktemp('clone')
    for name in ('feat_logfbank_nfilt40', 'test_wavs', 'model_saved'):
        shutil.copytree(six_voices / name, folder / name)
    for name in ('etri240', 'voices'):
        shutil.copy(PROJECT / 'model_saved' / ('checkpoint_%s.pth' % name), folder / 'model_saved')
    (folder / 'docs').mkdir()
    for recording in (PROJECT / 'docs').glob('*.wav'):
        shutil.copy(recording, folder / 'docs')
    voices = sorted((folder / 'test_wavs').iterdir())
    for name, wav in (('a.wav', 'enroll.wav'), ('b.wav', 'test.wav'), ('c.wav', 'test.wav')):
        shutil.copy(voices[0] / wav, folder / name)
    for voice in voices[1:3]:  # others, enrolled in the same way
        for kind in ('enroll', 'test'):
            (folder / 'feat_own/test' / voice.name).mkdir(parents=True, exist_ok=True)
            shutil.copy(voice / ('%s.wav' % kind), folder / 'feat_own/test' / voice.name)
    for voice in voices[:2]:
        for i in range(20):  # of which a tenth, enough for a threshold, is kept for validation
            (folder / 'train_wavs' / voice.name).mkdir(parents=True, exist_ok=True)
            shutil.copy(voice / 'test.wav', folder / 'train_wavs' / voice.name / ('%d.wav' % i))
    return folder, {}


def module_and_arguments(command):
    """What a command of Python or torchrun starts: (module, arguments), or None if it is none of the
    project's."""
    words = shlex.split(command.split(' > ')[0])
    if words[0] == 'torchrun':
        words = [word for word in words if word != '--' and not word.startswith('--nproc')]
    if words[0] in ('python', 'torchrun') and words[1:2] == ['-m'] and len(words) > 2:
        name, arguments = words[2], words[3:]
    elif words[0] == 'python' and len(words) > 1 and words[1].endswith('.py'):
        name, arguments = re.sub('(experiments|tests/by_hand)/', '', words[1])[:-3], words[2:]
    else:
        return None
    return None if name in ('pytest', 'venv', 'pip') else (name, arguments)


def run(command, monkeypatch, capsys):
    """Run one command in this process, as the shell would, with one epoch. Returns what it printed."""
    words = shlex.split(command)
    if words[0] == 'mkdir':
        Path(words[-1]).mkdir(parents=True, exist_ok=True)
    elif words[0] == 'cp':
        shutil.copy(*words[1:])
    else:
        name, arguments = module_and_arguments(command)
        is_training = name in TRAININGS and '--help' not in arguments
        if is_training:
            arguments = [word for word in arguments if not word.startswith('--n_epochs')] + ['--n_epochs=1']
        script = str(PROJECT / (name.replace('.', '/') + '.py'))
        monkeypatch.setattr(sys, 'argv', [script, *arguments])
        monkeypatch.setattr(socketserver.BaseServer, 'serve_forever',
                            lambda server: None)  # the page: for nobody
        monkeypatch.setattr(webbrowser, 'open', lambda address: None)
        runpy.run_path(script, run_name='__main__')
        if is_training:
            for checkpoint in ('model_saved/checkpoint_24.pth', 'model_saved/run_001/checkpoint_24.pth'):
                if Path(checkpoint).parent.is_dir():  # the checkpoint of the slides
                    shutil.copy('model_saved/checkpoint_best.pth', checkpoint)
    return capsys.readouterr().out


@pytest.mark.parametrize('name', RUN)
def test_the_commands_of_a_page_do_what_it_shows(clone, name, monkeypatch, capsys):
    folder, printed_by = clone
    monkeypatch.chdir(folder)
    n_commands = 0
    for commands, shown in steps_of(PROJECT / name):
        printed = []
        for command in commands:
            if NOT_RUN.match(command):
                continue
            if command not in printed_by or command.startswith(('cp', 'mkdir', 'python enroll.py')):
                printed_by[command] = run(command, monkeypatch, capsys)
            printed += [numbers_aside(line) for line in printed_by[command].splitlines()]
            n_commands += 1
        missing = [line for line in shown if numbers_aside(line) not in printed]
        assert not missing, '%s: %s do not print %r' % (name, commands, missing)
    assert n_commands > 4


@pytest.mark.parametrize('name', RUN)
def test_the_korean_page_shows_the_same(name):
    assert steps_of(PROJECT / 'docs/ko' / Path(name).name) == steps_of(PROJECT / name)


def commands_of(page):
    """Every command of a page, in blocks and in `code`."""
    commands = [command for commands, _ in steps_of(page) for command in commands]
    return commands + re.findall(r'`((?:python|torchrun) [^`]+)`', page.read_text(encoding='utf-8'))


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_commands_name_settings_that_there_are(page, lab, stopped_with):
    """And values that the settings may have: in an empty folder, a program stops because something is
    missing."""
    for command in commands_of(page):
        started = module_and_arguments(command)
        if started is None or set(started[1]) & {'-h', '--help'}:
            continue
        module, arguments = importlib.import_module(started[0]), started[1]
        if 'words=True' in inspect.getsource(module):
            arguments = messages.name_words(module.main, arguments)
        settings = messages.read_command_line(module.main, arguments)
        if module in SETTINGS:
            message = stopped_with(module.main, **settings)
            assert not re.search('it must be|unknown|: write |: run python -m', message), (command, message)
    assert list(lab.iterdir()) == []


def anchors_of(page):
    """The anchors of the headings of a page, as GitHub makes them."""
    headings = re.findall(r'^#+ (.*)$', page.read_text(encoding='utf-8'), flags=re.M)
    return {re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-') for heading in headings}


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_links_lead_somewhere(page):
    for target in re.findall(r'\]\(([^)]+)\)', page.read_text(encoding='utf-8')):
        if '://' in target:
            continue
        path, _, anchor = target.partition('#')
        file = page.parent / path if path else page
        assert file.exists(), '%s links to %s' % (page.name, target)
        assert not anchor or anchor in anchors_of(file), '%s links to %s' % (page.name, target)


def names_in(page):
    """The commands of a page, and the files and settings that it names in `code`."""
    text = page.read_text(encoding='utf-8')
    commands = [command for commands, _ in steps_of(page) for command in commands]
    return commands, set(re.findall(r'`(--?[\w=.]+|[\w./]+\.(?:py|png|pth|json|txt|p))`', text))


@pytest.mark.parametrize('name', ['README.md', 'lab.md', 'own-voice.md', 'teacher.md', 'deep-dive.md',
                                  'responsibility.md', 'field.md', 'lessons.md', 'systems.md', 'measuring.md',
                                  'troubleshooting.md', 'colab.md'])
def test_both_languages_name_the_same_commands_and_files(name):
    english = PROJECT / (name if name == 'README.md' else 'docs/%s' % name)
    korean = PROJECT / 'docs/ko' / name
    for there, here in zip(names_in(english), names_in(korean)):
        assert here == there


def test_the_readme_is_one_page():
    text = (PROJECT / 'README.md').read_text(encoding='utf-8')
    assert len(text.splitlines()) <= 200 and len(text.encode()) <= 14000
