"""Stop the scripts at random moments: what is there must be whole, and going on must end as if nothing had happened.

    python tests/interrupt.py [how often each script is killed] [script ...]

Runs demo_voices.py, DB_wav_reader.py, train.py and enroll.py on a few voices, in a temporary folder. Four times in five
a run is killed (kill -9), otherwise it gets a Ctrl-C; then every file is loaded, and the next run goes on; every third
one is left to finish and compared with one that was not stopped. 50 kills of each take about half an hour on one core.
Not for Windows.
"""
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import matplotlib.pyplot as plt
import torch

from project import PROJECT

import configure as c
from conftest import changed_source, lines_of_main
from support.messages import LabError, run_script
from support.recordings import read_wav
from support.safe_files import COMPUTER, read_pickles

N_EPOCHS = 3
N_VOICES, N_UTTERANCES, N_TEST_VOICES = 6, 4, 4
FEATURES = [c.TRAIN_FEAT_DIR, c.TEST_FEAT_DIR, c.TEST_WAV_DIR]
OUTPUTS = {'demo_voices.py': FEATURES, 'DB_wav_reader.py': [c.TEST_FEAT_DIR],  # what each script writes
           'train.py': ['model_saved', 'loss_plot.png', 'clusters.png'], 'enroll.py': ['enroll_embeddings']}


def write_scripts(folder):
    """Put copies of the scripts into a folder, with little to do."""
    demo = [('N_TRAIN_VOICES, N_TEST_VOICES = 240, 10', 'N_TRAIN_VOICES, N_TEST_VOICES = %d, %d'
             % (N_VOICES, N_TEST_VOICES)),
            ('N_UTTERANCES = 7', 'N_UTTERANCES = %d' % N_UTTERANCES), ('TEST_SECONDS = 15.0', 'TEST_SECONDS = 5.0')]
    for name in ('support', 'deep_dive'):
        shutil.copytree(PROJECT / name, folder / name)
    (folder / 'support/demo_voices.py').write_text(changed_source('support/demo_voices.py', demo))
    (folder / 'demo_voices.py').write_text('from support import demo_voices, messages\n\n'
                                           'if __name__ == "__main__":\n    messages.run_script(demo_voices.main)\n')
    (folder / 'DB_wav_reader.py').write_text(changed_source('DB_wav_reader.py', []))
    (folder / 'enroll.py').write_text(changed_source('enroll.py', lines_of_main('enroll.py', {'cp_num': N_EPOCHS})))
    write_train(folder, 1)


def write_train(folder, start):
    values = {'start': start, 'n_epochs': N_EPOCHS - start + 1, 'batch_size': 8}
    (folder / 'train.py').write_text(changed_source('train.py', lines_of_main('train.py', values)))


def write_next(folder, script):
    """Where train.py was stopped, tell it to go on from the last finished epoch; the others see that for themselves."""
    run_file = folder / 'model_saved/run.json'
    if script == 'train.py':
        done = len(json.loads(run_file.read_text())['epochs']) if run_file.exists() else 0
        write_train(folder, min(done + 1, N_EPOCHS))  # after the last epoch, the rest comes with that one


def start_script(folder, script):
    """Start a script as from a terminal, Ctrl-C included: the Popen."""
    return subprocess.Popen([sys.executable, script], cwd=folder, env={**os.environ, 'PYTHONPATH': str(PROJECT)},
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
                            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))


def stop_script(process, number, seconds=0):
    """Stop it after some seconds, with SIGKILL (that process alone) or SIGINT (its children, too, as a terminal does).

    Returns whether it was still at work. Raises where a child stays behind, and where Ctrl-C gets more than two lines.
    """
    try:
        process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        if number == signal.SIGKILL:
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGINT)
    err = process.communicate(timeout=300)[1]  # until the last one that could write there has ended
    assert process.returncode in (0, 1, -number), err
    if number == signal.SIGINT and err:  # nothing is said while Python itself is starting
        assert 'Stopped by Ctrl-C' in err.splitlines()[0] and len(err.splitlines()) <= 2, err
    return process.returncode != 0


def files_of(folder, script):
    """The files that a script has written, but for the hidden ones, which no script reads."""
    paths = [path for name in OUTPUTS[script] for path in [folder / name, *(folder / name).rglob('*')]]
    return [path for path in paths if path.is_file() and not path.name.startswith('.')]


def load_results(folder, script):
    """Load every file that a script has written: dict name -> what must be the same every time."""
    results = {}
    for path in files_of(folder, script):
        content = path.read_bytes()
        if path.suffix == '.pth':
            content = {name: value.numpy().tobytes() for name, value in torch.load(path)['state_dict'].items()}
        elif path.suffix == '.json':
            content = [(epoch['train_loss'], epoch['valid_loss'], epoch['lr']) for epoch in
                       json.loads(content)['epochs']]
        elif path.suffix == '.p':
            read_pickles(path)
        elif path.suffix == '.wav':
            read_wav(path)
        elif path.suffix == '.png':
            plt.imread(path)
        results[str(path.relative_to(folder))] = hashlib.sha256(repr(content).encode()).hexdigest()
    return results


def remove_results(folder, script):
    for name in OUTPUTS[script]:
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).unlink(missing_ok=True)


def left_over(folder):
    """The temporary files of processes that were killed."""
    return list(folder.rglob('.%s_*' % COMPUTER))


def run_whole(folder, script):
    """Let a script do what is left; hidden files of those that were killed before must be gone. Returns its results."""
    process = start_script(folder, script)
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert not left_over(folder), left_over(folder)
    return load_results(folder, script)


def check_stopped(folder, script, expected):
    """Every file loads, and holds what it would hold had nothing happened; run.json lacks the epochs to come."""
    there = load_results(folder, script)
    for name in there:
        assert there[name] == expected[name] or name.endswith('run.json'), '%s is another one' % name


def keeps_what_is_there(folder, script):
    """The times of the files that a further run must not write again."""
    return {} if script in ('train.py', 'enroll.py') else {
        path: path.stat().st_mtime_ns for path in files_of(folder, script)}


def stop_often(folder, script, n_stops):
    """Kill a script n_stops times, with some Ctrl-C between; prints the counts."""
    begin = time.perf_counter()
    subprocess.run([sys.executable, '-c', 'import ' + script[:-3]], cwd=folder, check=True,
                   env={**os.environ, 'PYTHONPATH': str(PROJECT)})
    importing = time.perf_counter() - begin
    write_next(folder, script)
    remove_results(folder, script)
    expected = run_whole(folder, script)
    whole = time.perf_counter() - begin - importing
    remove_results(folder, script)

    counts, n_runs = Counter(), 0
    while counts['killed'] < n_stops:
        write_next(folder, script)
        kept = keeps_what_is_there(folder, script)
        n_runs += 1
        number = signal.SIGKILL if n_runs % 5 else signal.SIGINT
        # Before, Ctrl-C is for Python to answer, which is still loading its own modules
        earliest = (0.3 if number == signal.SIGINT else 0.7) * importing
        start = time.perf_counter()
        if stop_script(start_script(folder, script), number, random.uniform(earliest, 1.1 * whole)):
            counts['killed' if number == signal.SIGKILL else 'Ctrl-C'] += 1
            counts['left over'] += bool(left_over(folder))
        elif n_runs % 3 == 1:  # it had all to do
            faster = (time.perf_counter() - start) / whole  # the machine may be less busy by now, or more
            importing, whole = importing * faster, whole * faster
        check_stopped(folder, script, expected)
        if n_runs % 3 == 0:
            write_next(folder, script)
            assert run_whole(folder, script) == expected
            counts['finished and compared'] += 1
        assert all(path.stat().st_mtime_ns == kept[path] for path in kept), 'a finished file was written again'
        if n_runs % 3 == 0:
            remove_results(folder, script)
    write_next(folder, script)
    assert run_whole(folder, script) == expected
    print('%s: %d times killed, %d times Ctrl-C, with %d half-written files, all removed; %d times finished, the same '
          '(%.0f s)' % (script, counts['killed'], counts['Ctrl-C'], counts['left over'],
                        counts['finished and compared'] + 1, time.perf_counter() - begin), flush=True)


def main():
    n_stops, scripts = (sys.argv[1:2] or ['50'])[0], sys.argv[2:] or list(OUTPUTS)
    if not n_stops.isdigit() or not set(scripts) <= set(OUTPUTS):
        raise LabError('Give a number, and some of %s.' % ', '.join(OUTPUTS))
    with tempfile.TemporaryDirectory() as folder:
        write_scripts(Path(folder))
        for script in OUTPUTS:  # in this order: each needs what those before it have made
            stop_often(Path(folder), script, int(n_stops) if script in scripts else 0)


if __name__ == '__main__':
    run_script(main)
