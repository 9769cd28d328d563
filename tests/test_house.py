"""The house itself: what may import what, how long the lesson is, what lies at the top, nothing runs on
import."""
import ast
import graphlib
import re
import subprocess
import sys

import pytest

import train
from conftest import PROJECT
from support import messages

LAB = ['DB_wav_reader', 'SR_Dataset', 'resnet', 'model', 'train', 'enroll', 'identification', 'verification']
PLACES = ['configure', 'support', 'lab', 'exercises', 'deep_dive', 'own_voice',
          'experiments']  # imports run this way
MAY_USE = {place: PLACES[:i + 1] for i, place in enumerate(PLACES)}
RECIPE = 'DB_wav_reader', ['support.demo_voices', 'support.recordings']  # these make features as the lab does
DOOR = [('model', 'network_of',
         'deep_dive.networks')]  # a checkpoint may hold a network that is not the slides'
PACKAGES = {'torch', 'numpy', 'pandas', 'python_speech_features', 'matplotlib', 'scipy', 'tqdm'}
TOP = {'README.md', 'LICENSE', 'NOTICE', 'requirements.txt', 'configure.py', *(name + '.py' for name in LAB),
       'feat_logfbank_nfilt40', 'model_saved', 'enroll_embeddings', 'test_wavs', 'docs', 'tests', *PLACES[3:],
       'support'}


def module_of(path):
    """The name by which a file is imported. Files of experiments/ find each other without a package."""
    name = '.'.join(path.relative_to(PROJECT).with_suffix('').parts)
    return name.removeprefix('experiments.').removesuffix('.__init__')


PATHS = [path for folder in ('', *PLACES[1:]) for path in (PROJECT / folder).glob('*.py')]
MODULES = {module_of(path): path for path in PATHS}
HELD_BY = {module: 'lab' if module in LAB else path.parent.name if path.parent != PROJECT else module
           for module, path in MODULES.items()}


def imports_of(module):
    """(function or None, what it imports) for each import of a module, in a function or at the top."""
    tree, found = ast.parse(MODULES[module].read_text(encoding='utf-8')), []
    functions = [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    within = {id(inner): function.name for function in functions for inner in ast.walk(function)}
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, module  # no `from . import`
            names = [name if name in MODULES else node.module
                     for name in ('%s.%s' % (node.module, alias.name) for alias in node.names)]
        found += [(within.get(id(node)), name) for name in dict.fromkeys(names)]
    return found


IMPORTS = {module: imports_of(module) for module in MODULES}


def test_every_file_has_a_place():
    assert set(HELD_BY.values()) == set(PLACES) and len(MODULES) == len(PATHS)  # no two of one name
    assert {module for module, place in HELD_BY.items() if place in ('configure', 'lab')} == {'configure',
                                                                                              *LAB}


def test_imports_run_down_the_house():
    upward = []
    for module, found in IMPORTS.items():
        for function, name in found:
            is_recipe = name == RECIPE[0] and module in RECIPE[1]
            if name in MODULES and HELD_BY[name] not in MAY_USE[HELD_BY[module]] and not is_recipe:
                upward.append((module, function, name))
    assert upward == DOOR


def test_no_two_files_import_each_other():
    """Except through the door."""
    graph = {module: [name for function, name in found if (module, function, name) not in DOOR]
             for module, found in IMPORTS.items()}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError


def test_nothing_imports_an_experiment_or_a_test():
    others = {path.stem for folder in ('tests', 'tests/by_hand') for path in (PROJECT / folder).glob('*.py')}
    for module, found in IMPORTS.items():
        names = {name.split('.')[0] for _, name in found}
        assert 'experiments' not in names and 'tests' not in names, module
        assert HELD_BY[module] == 'experiments' or not names & others, (module, names & others)


def test_packages_are_those_of_the_requirements():
    for module, found in IMPORTS.items():
        names = {name.split('.')[0] for _, name in found} - set(MODULES)
        names -= {'tests', *PLACES, *(path.stem for path in (PROJECT / 'tests').rglob('*.py'))}
        assert names <= PACKAGES | sys.stdlib_module_names, (module,
                                                             names - PACKAGES - sys.stdlib_module_names)
    assert 'torch' not in [name for _, name in IMPORTS['DB_wav_reader']]


def test_the_tests_run_with_the_highest_versions_that_are_permitted():
    permitted, tested = ({line.split(';')[0]
                          for line in (PROJECT / folder / 'requirements.txt').read_text().splitlines()
                          if not line.startswith('#') and '== "x86_64"' not in line}  # not those of an Intel Mac
                         for folder in ('', 'tests'))
    assert {re.sub('>=.*<=', '==', line) for line in permitted} == tested


def test_the_lesson_can_be_read_in_one_sitting():
    texts = {module: MODULES[module].read_text(encoding='utf-8') for module in ('configure', *LAB)}
    lengths = {module: len(text) for module, text in texts.items()}
    assert sum(lengths.values()) <= 56000 and lengths['train'] <= 11000, (sum(lengths.values()), lengths)
    assert [line for text in texts.values() for line in text.splitlines() if len(line) > 110] == []


def test_the_training_script_has_few_settings():
    shown = [line for line in messages.describe_settings(train.main).splitlines() if line.startswith('  --')]
    assert len(shown) == len(messages.defaults_of(train.main)) <= 19


def test_nothing_else_lies_at_the_top():
    done = subprocess.run(['git', 'ls-files'], cwd=PROJECT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip('this is no clone: nobody knows which files belong to the project')
    names = {name.split('/')[0] for name in done.stdout.splitlines()}
    assert {name for name in names if not name.startswith('.')} <= TOP


def test_nothing_runs_on_import(tmp_path):
    modules = [module for module, place in HELD_BY.items() if place != 'experiments']
    done = subprocess.run([sys.executable, '-W', 'error', '-c', 'import %s' % ', '.join(modules)],
                          cwd=tmp_path,
                          env={'PYTHONPATH': str(PROJECT), 'PYTHONDONTWRITEBYTECODE': '1',
                               'HOME': str(tmp_path)},
                          capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout == '', done.stderr
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith('.')] == []
