"""Kill -9, Ctrl-C, a full disk, a read-only folder, two at once: no torn file, one line, nothing lost.

tests/interrupt.py stops the scripts more often, at random moments.
"""
import json
import multiprocessing
import os
import signal
import subprocess
import threading
import time

import numpy as np
import pytest
import torch

import DB_wav_reader
import configure as c
from support import demo_voices
import model as lab_model
from conftest import FirstFrame, lines_of_main, run_copy
from interrupt import N_EPOCHS, OUTPUTS, files_of, keeps_what_is_there, left_over, load_results, remove_results
from interrupt import run_whole, start_script, stop_script, write_next, write_scripts
from support import runs, safe_files
from support.messages import LabError


pytestmark = pytest.mark.skipif(os.name == 'nt', reason='Windows has neither kill -9 nor fork')
SHORT = {'n_epochs': 3, 'batch_size': 8, 'plot': False}


@pytest.fixture(scope='module')
def small_project(tmp_path_factory):
    """Copies of the scripts that have little to do, and what they need of one another."""
    folder = tmp_path_factory.mktemp('small project')
    write_scripts(folder)
    demo_voices.make_test_features(folder / c.TEST_WAV_DIR, folder / c.TEST_FEAT_DIR, n_voices=3)
    runs.save_checkpoint(folder / ('model_saved/checkpoint_%d.pth' % N_EPOCHS),
                          {'state_dict': lab_model.background_resnet(128, 6).state_dict()})
    return folder


@pytest.mark.parametrize('script', OUTPUTS)
def test_stopped_twice_and_finished(small_project, script, monkeypatch):
    """By Ctrl-C and by kill -9, each soon after a new file has appeared."""
    remove_results(small_project, script)
    there = {}
    for number, patience in ((signal.SIGINT, 60), (signal.SIGKILL, 60)):
        write_next(small_project, script)
        process, begin = start_script(small_project, script), time.perf_counter()
        while (process.poll() is None and len(files_of(small_project, script)) <= len(there)
               and time.perf_counter() < begin + patience):
            time.sleep(0.01)
        stop_script(process, number)
        there = load_results(small_project, script)
    kept = keeps_what_is_there(small_project, script)
    write_next(small_project, script)
    monkeypatch.chdir(small_project)
    if script == 'demo_voices.py':
        run_whole(small_project, script)
    elif script == 'DB_wav_reader.py':  # to go on in this process saves the time it takes to load the packages
        DB_wav_reader.main()
    else:
        run_here(small_project / script)
    whole = load_results(small_project, script)
    assert not left_over(small_project)
    there.pop('model_saved/run.json', None)  # which has grown
    assert there.items() <= whole.items() and all(path.stat().st_mtime_ns == kept[path] for path in kept)
    if script == 'train.py':
        run_copy(script, lines_of_main(script, {**SHORT, 'log_dir': 'never stopped'}))
        assert losses('never stopped') == losses('model_saved') and len(losses('model_saved')) == 3


def run_here(filename):
    namespace = {'__name__': 'a copy', '__file__': str(filename)}
    exec(compile(filename.read_text(), filename, 'exec'), namespace)
    namespace['main']()


def losses(log_dir):
    with open(log_dir + '/run.json') as f:
        return [(epoch['train_loss'], epoch['valid_loss'], epoch['lr']) for epoch in json.load(f)['epochs']]


@pytest.fixture
def another_process():
    """Starts a function in another process; what is still running at the end of a test is killed."""
    started = []

    def start(function, *args):
        started.append(multiprocessing.get_context('fork').Process(target=function, args=args))
        started[-1].start()
        return started[-1]
    yield start
    for process in started:
        process.kill()
        process.join()


def hold_lock(log_dir, event):
    runs.lock_log_dir(log_dir)
    event.set()
    time.sleep(60)


def test_a_second_training_is_refused_until_the_first_is_dead(lab, write_feat, another_process, stopped_with):
    for i in range(20):
        write_feat('%s/s%d/%02d.p' % (c.TRAIN_FEAT_DIR, i % 2, i), seed=i)
    event = multiprocessing.get_context('fork').Event()
    first = another_process(hold_lock, lab / 'model_saved', event)
    assert event.wait(30)
    one_epoch = lines_of_main('train.py', {'n_epochs': 1, 'plot': False})
    message = stopped_with(lambda: run_copy('train.py', one_epoch))
    assert 'Another train.py is at work in %s.' % (lab / 'model_saved') in message
    assert os.listdir('model_saved') == ['.lock']
    run_copy('train.py', lines_of_main('train.py', {'n_epochs': 1, 'plot': False, 'log_dir': 'another'}))
    first.kill()
    first.join()
    for _ in range(2):  # the second time, this process has the lock already
        run_copy('train.py', one_epoch)
    assert 'checkpoint_1.pth' in os.listdir('model_saved')


def test_an_enrolment_is_read_whole_while_it_is_replaced(lab):
    galleries = [{'%03d' % i: torch.full((1, 128), value + i) for i in range(n)}
                 for value, n in ((1000.0, 9), (2000.0, 300))]
    lab_model.save_enroll_embeddings('enrolled', galleries[0], FirstFrame())
    done = threading.Event()

    def enrol():
        while not done.is_set():
            for gallery in galleries:
                lab_model.save_enroll_embeddings('enrolled', gallery, FirstFrame())
    writer = threading.Thread(target=enrol)
    writer.start()
    try:
        read = [lab_model.load_enroll_embeddings('enrolled') for _ in range(100)]
    finally:
        done.set()
        writer.join()
    assert {len(embeddings) for embeddings in read} == {9, 300}
    assert all(len({float(e[0, 0]) // 1000 for e in embeddings.values()}) == 1 for embeddings in read)


def test_what_a_killed_process_left_is_removed(lab, another_process):
    dead = another_process(os.getpid)
    dead.join()
    os.mkdir('a')
    here = '.%s_' % safe_files.COMPUTER
    kept = [here + '%d_x.p' % os.getppid(), here + '%d_y.p' % dead.pid, here + '7up_x.p', here + '9' * 30 + '_x.p',
            '.another_%d_x.p' % dead.pid]
    for name in [*kept, here + '%d_x.p' % dead.pid]:
        (lab / 'a' / name).touch()
    safe_files.write_pickles('a/x.p', 1)
    assert sorted(os.listdir('a')) == sorted(kept + ['x.p'])
    assert DB_wav_reader.find_feats('a') == ['a/x.p']  # none of those is taken for a feature file


# -------------------------------------------------------------------------------- a full disk, a read-only folder

@pytest.fixture
def small_disk(lab):
    """A disk of 200 kB in the folder 'disk'; calls mount's remount with other options."""
    os.mkdir('disk')
    if subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=200k', 'tmpfs', 'disk'], capture_output=True).returncode:
        pytest.skip('only root may mount a small disk')
    yield lambda options: subprocess.run(['mount', '-o', 'remount,' + options, str(lab / 'disk')], check=True)
    subprocess.run(['umount', '--lazy', str(lab / 'disk')], check=True)


def test_a_full_disk_and_a_read_only_one_leave_what_was_there(small_disk, lab, write_feat, stopped_with):
    def refused(reason, function, *args):
        message = stopped_with(lambda: function(*args))
        assert 'cannot be written: %s. What was there before' % reason in message, message

    save = (safe_files.write_pickles, 'disk/e/embeddings.p')
    safe_files.write_pickles('disk/e/embeddings.p', 'old')
    for reason in ('No space left on device', 'Read-only file system'):
        refused(reason, *save, np.zeros(10**6))
        refused(reason, runs.save_checkpoint, 'disk/e/checkpoint_1.pth', {'x': torch.zeros(10**6)})
        refused(reason, runs.write_run, 'disk/e', {'x': 'x' * 10**6})
        refused(reason, DB_wav_reader.write_feature, 'disk/s/a.p', np.zeros((1000, 40)), 's')
        assert safe_files.read_pickles('disk/e/embeddings.p') == ['old'] and os.listdir('disk/e') == ['embeddings.p']
        small_disk('ro')
    message = stopped_with(lambda: demo_voices.make_train_features('disk/feat', n_voices=1))
    assert 'disk/feat' in message and 'Read-only file system' in message
    small_disk('rw')
    refused('No space left on device', lambda: demo_voices.make_train_features('disk/feat', n_voices=2))
    assert all(safe_files.read_pickles(name) for name in DB_wav_reader.find_feats('disk/feat'))
    assert not demo_voices.is_complete('disk/feat')


def test_a_training_goes_on_when_there_is_room_again(small_disk, lab, write_feat, stopped_with):
    for i in range(20):
        write_feat('%s/s%d/%02d.p' % (c.TRAIN_FEAT_DIR, i % 2, i), seed=i)
    two_epochs = {**SHORT, 'n_epochs': 2}
    run_copy('train.py', lines_of_main('train.py', {**two_epochs, 'log_dir': 'whole'}))
    size = os.path.getsize('whole/checkpoint_1.pth')
    small_disk('size=%d' % (1.5 * size))
    on_disk = {**two_epochs, 'log_dir': 'disk/model_saved'}
    message = stopped_with(lambda: run_copy('train.py', lines_of_main('train.py', on_disk)))
    assert 'disk/model_saved/checkpoint_2.pth cannot be written: No space left on device.' in message
    assert sorted(os.listdir('disk/model_saved')) == ['.lock', 'checkpoint_1.pth', 'run.json']
    small_disk('size=%d' % (5 * size))
    run_copy('train.py', lines_of_main('train.py', {**on_disk, 'start': 2, 'n_epochs': 1}))
    assert losses('disk/model_saved') == losses('whole')


def test_without_room_for_a_file_the_old_one_stays(lab):
    """The same without root: no file may grow beyond 100 kB."""
    import resource
    safe_files.write_pickles('a/x.p', 'old')
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(LabError, match='a/x.p cannot be written: File too large.'):
            safe_files.write_pickles('a/x.p', np.zeros(10**6))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert safe_files.read_pickles('a/x.p') == ['old'] and os.listdir('a') == ['x.p']
