"""The house itself: what may import what, how long the files are that are read in class, nothing runs on import."""
import ast
import subprocess
import sys

from conftest import PROJECT

# Each file may import only those before it
ORDER = ['configure', 'support.messages', 'support.safe_files', 'support.checks', 'support.recordings',
         'support.enrolments', 'support.devices', 'support.pictures', 'DB_wav_reader', 'SR_Dataset', 'resnet',
         'support.demo_voices', 'deep_dive.metric_losses', 'deep_dive.losses', 'deep_dive.resnet_se', 'deep_dive.tdnn',
         'deep_dive.conformer', 'deep_dive.backbones', 'deep_dive.augmentation', 'deep_dive.heads',
         'deep_dive.schedules', 'deep_dive.batches', 'deep_dive.mixing', 'deep_dive.rooms', 'model', 'support.runs',
         'deep_dive.scoring', 'deep_dive.plda', 'deep_dive.normalisation', 'deep_dive.backends',
         'deep_dive.calibration', 'deep_dive.all_trials', 'train', 'enroll', 'identification', 'verification',
         'deep_dive.gmm', 'deep_dive.who_when', 'support.gallery', 'support.voice_page']
SCRIPTS = ['train', 'enroll', 'identification', 'verification']


def file_of(module):
    return PROJECT / (module.replace('.', '/') + '.py')


def imports_of(module):
    """The modules of the project that a module imports, at the top or within a function."""
    found = set()
    for node in ast.walk(ast.parse(file_of(module).read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module} | {'%s.%s' % (node.module, alias.name) for alias in node.names}
    return found & set(ORDER)


def test_every_file_has_its_place():
    there = {str(path.relative_to(PROJECT))[:-3].replace('/', '.')
             for folder in ('.', 'support', 'deep_dive') for path in (PROJECT / folder).glob('*.py')}
    assert {module for module in there if not module.endswith('__init__')} == set(ORDER)


def test_imports_run_one_way():
    for i, module in enumerate(ORDER):
        allowed = set(ORDER[:i]) - set(SCRIPTS)
        assert imports_of(module) <= allowed, (module, imports_of(module) - allowed)


def test_the_lab_can_be_read_in_one_sitting():
    lines = {module: len(file_of(module).read_text().splitlines()) for module in ORDER if '.' not in module}
    assert lines.pop('train') <= 300 and max(lines.values()) <= 250 and sum(lines.values()) <= 1000, lines


def test_nothing_runs_on_import(tmp_path):
    done = subprocess.run([sys.executable, '-W', 'error', '-c', 'import %s' % ', '.join(ORDER)], cwd=tmp_path,
                          env={'PYTHONPATH': str(PROJECT), 'PYTHONDONTWRITEBYTECODE': '1', 'HOME': str(tmp_path)},
                          capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout == '', done.stderr
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith('.')] == []
