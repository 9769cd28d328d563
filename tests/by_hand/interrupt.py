"""Stop the scripts at random moments. Every file must be whole, and a further run must end as if nothing had happened.

    python tests/by_hand/interrupt.py
    python tests/by_hand/interrupt.py --n_stops=5 --scripts="['train.py']"

Makes demo voices and runs DB_wav_reader.py, train.py and enroll.py with few voices, in a temporary folder. Four runs in
five are killed (kill -9), the fifth gets a Ctrl-C. Then every file is loaded, and the next run goes on. Every third run
may finish, and is compared with one that was not stopped. 50 kills of each script take half an hour on one core. Not
for Windows.
"""
import hashlib
import json
import os
import random
import select
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

from find_lab import PROJECT

import configure as c
from support.messages import check_settings, run_script, some_of, whole
from support.audio_files import read_wav
from support.safe_files import read_pickles

N_EPOCHS = 3
N_VOICES, N_UTTERANCES, N_TEST_VOICES = 6, 4, 3
MAKE_VOICES = '''from support import demo_voices, messages
def main():
    print('Making demo voices')
    demo_voices.make_train_features(%r, n_voices=%d, n_utterances=%d)
    demo_voices.make_test_features(%r, %r, n_voices=%d)
messages.run_script(main)
''' % (c.TRAIN_FEAT_DIR, N_VOICES, N_UTTERANCES, c.TEST_WAV_DIR, c.TEST_FEAT_DIR, N_TEST_VOICES)
DEMO_VOICES = 'support/demo_voices.py'
OUTPUTS = {DEMO_VOICES: [c.TRAIN_FEAT_DIR, c.TEST_FEAT_DIR, c.TEST_WAV_DIR],  # what each script writes
           'DB_wav_reader.py': [c.TEST_FEAT_DIR], 'train.py': ['model_saved'], 'enroll.py': ['enroll_embeddings']}


# ------------------------------------------------------------------------------------------------- start and stop

def next_epoch(folder):
    """The `start` with which train.py goes on. After the last epoch, that one is done again for the pictures."""
    run_file = folder / 'model_saved/run.json'
    n_finished = len(json.loads(run_file.read_text())['epochs']) if run_file.exists() else 0
    return min(n_finished + 1, N_EPOCHS)


def start_script(folder, script):
    """Start what a script still has to do, as from a terminal. Returns the Popen."""
    command, env = [sys.executable, str(PROJECT / script)], {'PYTHONPATH': str(PROJECT), 'PYTHONUNBUFFERED': '1'}
    if script == DEMO_VOICES:
        command = [sys.executable, '-c', MAKE_VOICES]
    elif script == 'train.py':
        start = next_epoch(folder)
        command += ['--start=%d' % start, '--n_epochs=%d' % (N_EPOCHS - start + 1), '--batch_size=8']
    elif script == 'enroll.py':
        command += ['--cp_num=%d' % N_EPOCHS]
    if script in ('train.py', 'enroll.py'):  # on a GPU, or with several threads, sums can differ in the last digit
        command, env = [*command, '--use_cuda=False'], {**env, 'OMP_NUM_THREADS': '1'}
    return subprocess.Popen(command, cwd=folder, env={**os.environ, **env}, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            start_new_session=True,  # a group of processes, which Ctrl-C reaches as a whole
                            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))


def all_files(folder, script):
    """The files that a script has written, hidden ones too."""
    paths = [path for name in OUTPUTS[script] for path in [folder / name, *(folder / name).rglob('*')]]
    return {path for path in paths if path.is_file()}


def wait_for_work(process, folder, script, there):
    """Wait until a script prints, or has a file that is not among `there`, or has ended.

    Before, Python imports packages. Then it answers Ctrl-C with a traceback.
    """
    while process.poll() is None and all_files(folder, script) <= there:
        if select.select([process.stdout], [], [], 0.01)[0]:
            return


def stop_script(process, number):
    """Stop a script with SIGKILL (that process alone) or SIGINT (its children, too, as a terminal does).

    Returns whether it was still at work. Raises AssertionError if Ctrl-C ends in more than two lines.
    """
    if process.poll() is None:
        if number == signal.SIGKILL:
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGINT)
    err = process.communicate()[1]  # ends when the last process that could write there has ended
    assert process.returncode in (0, 1, -number), err
    if number == signal.SIGINT and err:  # Python says nothing if it is ending already
        assert 'Stopped by Ctrl-C' in err.splitlines()[0] and len(err.splitlines()) <= 2, err
    return process.returncode != 0


# ------------------------------------------------------------------------------------------------- what is there

def files_of(folder, script):
    """The files that a script has written. Hidden files do not count, because no script reads them."""
    return [path for path in all_files(folder, script) if not path.name.startswith('.')]


def hash_of(path):
    """Load a file. Returns a hash of what must be the same every time."""
    content = path.read_bytes()
    if path.suffix == '.pth':
        content = {name: value.numpy().tobytes() for name, value in torch.load(path)['state_dict'].items()}
    elif path.suffix == '.json':
        content = [(epoch['train_loss'], epoch['valid_loss'], epoch['lr']) for epoch in json.loads(content)['epochs']]
    elif path.suffix == '.p':
        read_pickles(path)
    elif path.suffix == '.wav':
        read_wav(path)
    elif path.suffix == '.png':
        plt.imread(path)
    return hashlib.sha256(repr(content).encode()).hexdigest()


def load_results(folder, script):
    """Load every file that a script has written: dict name -> hash."""
    results = {str(path.relative_to(folder)): hash_of(path) for path in files_of(folder, script)}
    # What train.py moves aside depends on the moments of the kills. It has been loaded, and that is enough
    return {name: content for name, content in results.items() if '/run_' not in name}


def remove_results(folder, script):
    for name in OUTPUTS[script]:
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).unlink(missing_ok=True)


def left_over(folder):
    """The temporary files of processes that were killed."""
    return list(folder.rglob('.*.part'))


def check_stopped(folder, script, expected):
    """Load every file. It must hold what a run that is not stopped writes into it.

    run.json may lack epochs, and checkpoint_best.pth may be that of an earlier epoch.
    """
    there = load_results(folder, script)
    for name, content in there.items():
        if name.endswith('checkpoint_best.pth'):
            assert content in expected.values(), '%s is of no epoch' % name
        elif not name.endswith('run.json'):
            assert content == expected[name], '%s is another one' % name
    return there


def times_to_keep(folder, script):
    """The times of the files that a further run must not write again: dict path -> time."""
    is_kept = script in (DEMO_VOICES, 'DB_wav_reader.py')
    return {path: path.stat().st_mtime_ns for path in files_of(folder, script) if is_kept}


def check_kept(kept):
    changed = [str(path) for path in kept if path.stat().st_mtime_ns != kept[path]]
    assert not changed, 'finished files were written again: %s' % changed


def run_whole(folder, script):
    """Let a script do what is left. Returns its results. Nothing of the killed runs before may be left."""
    process = start_script(folder, script)
    err = process.communicate()[1]
    assert process.returncode == 0, err
    assert not left_over(folder), left_over(folder)
    return load_results(folder, script)


# ------------------------------------------------------------------------------------------------- many times

def stop_often(folder, script, n_stops):
    """Kill a script n_stops times, and stop it by Ctrl-C in between. Prints the counts."""
    begin = time.perf_counter()
    process = start_script(folder, script)
    wait_for_work(process, folder, script, set())
    at_work = time.perf_counter()
    process.communicate()
    whole = time.perf_counter() - at_work  # seconds that the work takes; it decides only when to stop
    expected = load_results(folder, script)
    remove_results(folder, script)

    counts, n_runs = Counter(), 0
    while counts['killed'] < n_stops:
        n_runs += 1
        number = signal.SIGKILL if n_runs % 5 else signal.SIGINT
        kept, there = times_to_keep(folder, script), all_files(folder, script)
        process = start_script(folder, script)
        wait_for_work(process, folder, script, there)
        time.sleep(random.uniform(0, whole))
        if stop_script(process, number):
            counts['killed' if number == signal.SIGKILL else 'Ctrl-C'] += 1
            counts['left over'] += bool(left_over(folder))
        check_stopped(folder, script, expected)
        if n_runs % 3 == 0:
            assert run_whole(folder, script) == expected
            counts['finished and compared'] += 1
        check_kept(kept)
        if n_runs % 3 == 0:
            remove_results(folder, script)
    assert run_whole(folder, script) == expected
    print('%s: %d times killed, %d times Ctrl-C, with %d half-written files, all removed; %d times finished, the same '
          '(%.0f s)' % (script, counts['killed'], counts['Ctrl-C'], counts['left over'],
                        counts['finished and compared'] + 1, time.perf_counter() - begin), flush=True)


def main(
        # Settings
        n_stops=50,  # how often each script is killed
        scripts=list(OUTPUTS),  # which scripts
):
    check_settings(main, locals(), n_stops=whole(0), scripts=some_of(OUTPUTS))
    with tempfile.TemporaryDirectory() as folder:
        for script in OUTPUTS:  # in this order, because each needs what those before it have made
            stop_often(Path(folder), script, n_stops if script in scripts else 0)


if __name__ == '__main__':
    run_script(main)
