"""Kill -9, Ctrl-C, a full disk, a read-only folder, two at once: no torn file, one clear line, nothing is
lost.

tests/by_hand/interrupt.py stops the scripts more often, at random moments.
"""
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import DB_wav_reader
import attacks
import configure as c
import enroll
import interrupt
import model as lab_model
import train
from conftest import FirstFrame
from interrupt import DEMO_VOICES
from support import demo_voices, messages, runs, safe_files
from support.messages import LabError

pytestmark = pytest.mark.skipif(os.name == 'nt', reason='Windows has neither kill -9 nor fork')
N_EPOCHS = 2
SHORT = {'use_cuda': False, 'n_epochs': N_EPOCHS, 'batch_size': 8, 'plot': False}


@pytest.fixture
def two_speakers(lab, write_feat, monkeypatch):
    """Twelve utterances to train on, in one thread as the started scripts do: sums agree to the last
    digit."""
    for i in range(12):
        write_feat('%s/s%d/%02d.p' % (c.TRAIN_FEAT_DIR, i % 2, i), seed=i)
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield lab
    torch.set_num_threads(n_threads)


def losses(log_dir):
    with open(log_dir + '/run.json') as f:
        return [(epoch['train_loss'], epoch['valid_loss'], epoch['lr']) for epoch in json.load(f)['epochs']]


# -------------------------------------------------------------------------------------------- stopped scripts

def as_a_script(main, read_end, write_end):
    """Call main() as the command line does. Errors go into the pipe. The packages are there since the fork."""
    os.setsid()  # a group of processes, which Ctrl-C reaches as a whole
    os.dup2(write_end, 2)
    os.close(read_end), os.close(write_end)
    sys.stderr, sys.argv = open(2, 'w', closefd=False), ['script']
    signal.signal(signal.SIGINT, signal.default_int_handler)
    messages.run_script(main)


def stop_at_work(folder, script, number, main):
    """Start main() in another process, and stop it when it has begun to write. Returns what it has written:
    every file is whole."""
    there, (read_end, write_end) = interrupt.all_files(folder, script), os.pipe()
    process = multiprocessing.get_context('fork').Process(target=as_a_script, args=[main, read_end, write_end])
    process.start()
    os.close(write_end)
    while process.is_alive() and interrupt.all_files(folder, script) <= there:
        time.sleep(0.01)
    if process.is_alive() and number == signal.SIGKILL:
        process.kill()
    elif process.is_alive():
        os.killpg(process.pid, number)
    with open(read_end) as f:
        err = f.read()  # ends when the last process that could write there has ended
    process.join()
    assert process.exitcode in (0, 1, -number), err
    if number == signal.SIGINT and err:  # nothing is said if the work was just done
        assert 'Stopped by Ctrl-C' in err.splitlines()[0] and len(err.splitlines()) <= 2, err
    return interrupt.load_results(folder, script)


def make_demo_voices():
    demo_voices.make_train_features(c.TRAIN_FEAT_DIR, n_voices=3, n_utterances=3)
    demo_voices.make_test_features(c.TEST_WAV_DIR, c.TEST_FEAT_DIR, n_voices=1)


@pytest.mark.parametrize('script, number, main', [
    (DEMO_VOICES, signal.SIGINT, make_demo_voices), ('DB_wav_reader.py', signal.SIGKILL, DB_wav_reader.main)],
    ids=[DEMO_VOICES, 'DB_wav_reader.py'])
def test_what_is_stopped_can_be_finished(lab, script, number, main):
    if script == 'DB_wav_reader.py':
        for i in range(12):
            folder = lab / c.TEST_WAV_DIR / ('s%d' % i)
            folder.mkdir(parents=True)
            (folder / 'test.wav').write_bytes(attacks.wav(attacks.syllables().tobytes()))
    main()
    expected = interrupt.load_results(lab, script)
    assert expected
    interrupt.remove_results(lab, script)

    assert stop_at_work(lab, script, number, main).items() <= expected.items()
    kept = interrupt.times_to_keep(lab, script)
    main()
    assert interrupt.load_results(lab, script) == expected and interrupt.left_over(lab) == []
    interrupt.check_kept(kept)


def test_an_enrolment_that_is_stopped_leaves_nothing(write_vector, monkeypatch):
    """Ctrl-C at the second speaker."""
    for name, x in (('a', 3), ('b', 4)):
        write_vector('%s/%s/enroll.p' % (c.TEST_FEAT_DIR, name), x, 1)
    monkeypatch.setattr(enroll, 'load_model', lambda *arguments: FirstFrame())
    monkeypatch.setattr(sys, 'argv', ['script', '--plot=False'])
    embed, n_embedded = enroll.get_embeddings, []

    def press_ctrl_c(*arguments, **more):
        n_embedded.append(1)
        if len(n_embedded) == 2:
            raise KeyboardInterrupt
        return embed(*arguments, **more)
    monkeypatch.setattr(enroll, 'get_embeddings', press_ctrl_c)
    with pytest.raises(SystemExit, match='^Stopped by Ctrl-C.$'):
        messages.run_script(enroll.main)
    assert not os.path.exists('enroll_embeddings')
    messages.run_script(enroll.main)
    assert list(lab_model.load_enroll_embeddings('enroll_embeddings')) == ['a', 'b']


def test_a_training_that_is_stopped_twice_ends_as_if_it_had_never_been(two_speakers, monkeypatch,
                                                                       stopped_with):
    monkeypatch.setattr(interrupt, 'N_EPOCHS', N_EPOCHS)
    train.main(**SHORT, log_dir='never stopped')
    expected = {name: interrupt.hash_of(two_speakers / 'never stopped' / name)
                for name in ('checkpoint_1.pth', 'checkpoint_2.pth', 'checkpoint_best.pth')}
    log_dir = two_speakers / 'model_saved'
    process = interrupt.start_script(two_speakers, 'train.py')
    while process.poll() is None and not (log_dir / 'checkpoint_1.pth').exists():
        time.sleep(0.01)
    interrupt.stop_script(process, signal.SIGKILL)
    assert 'checkpoint_1.pth' in os.listdir(log_dir)
    for name in {path.name for path in log_dir.glob('*.pth')} - {'checkpoint_best.pth'}:
        assert interrupt.hash_of(log_dir / name) == expected[name]

    def press_ctrl_c(*args, **more):
        raise KeyboardInterrupt
    start = interrupt.next_epoch(two_speakers)
    settings = {**SHORT, 'start': start, 'n_epochs': N_EPOCHS - start + 1}
    with monkeypatch.context() as patched:
        patched.setattr(train, 'validate', press_ctrl_c)
        message = stopped_with(train.main, **settings)
    assert 'Stopped by Ctrl-C in epoch %d, after %d finished epochs.' % (start, start - 1) in message
    assert '--start=%d --n_epochs=%d' % (start, settings['n_epochs']) in message
    assert interrupt.next_epoch(two_speakers) == start

    train.main(**settings)
    assert losses('never stopped') == losses('model_saved') and len(losses('model_saved')) == N_EPOCHS
    assert {name: interrupt.hash_of(log_dir / name) for name in expected} == expected
    assert interrupt.left_over(two_speakers) == []


# ------------------------------------------------------------------------------------------------ two at once

@pytest.fixture
def another_process():
    """Starts a function in another process, and waits until it calls its last argument. Kills it after the
    test."""
    started = []

    def start(function, *args):
        event = multiprocessing.get_context('fork').Event()
        started.append(multiprocessing.get_context('fork').Process(target=function, args=[*args, event.set]))
        started[-1].start()
        assert event.wait(600), 'the other process has not done what it should'
        return started[-1]
    yield start
    for process in started:
        process.kill()
        process.join()


def hold_lock(log_dir, ready):
    runs.lock_log_dir(log_dir)
    ready()
    signal.pause()


def write_half(filename, ready):
    with safe_files.written_whole(filename) as f:
        f.write(b'half')
        f.flush()
        ready()
        signal.pause()


def test_a_second_training_is_refused_until_the_first_is_dead(two_speakers, another_process, stopped_with):
    one_epoch = {**SHORT, 'n_epochs': 1}
    first = another_process(hold_lock, two_speakers / 'model_saved')
    message = stopped_with(train.main, **one_epoch)
    assert 'Another train.py is at work in %s.' % (two_speakers / 'model_saved') in message
    assert os.listdir('model_saved') == ['.lock']
    runs.lock_log_dir(two_speakers / 'another')  # is free
    first.kill()
    first.join()
    train.main(**one_epoch)
    train.main(**one_epoch)  # this process has the lock already
    assert {'checkpoint_1.pth', 'run_001'} <= set(os.listdir('model_saved'))


@pytest.mark.skipif(not hasattr(os, 'waitid'), reason='cannot wait for a dead process without reaping it')
def test_what_a_killed_writer_left_is_removed(lab, another_process):
    for name in ('x.p', '[x].p'):
        writer = another_process(write_half, 'a/' + name)
        half = [path.name for path in (lab / 'a').glob('.*.part')]
        assert len(half) == 1 and DB_wav_reader.find_feats('a') == []  # nobody takes it for a feature file
        safe_files.write_pickles('a/' + name, 1)
        assert sorted(os.listdir('a')) == sorted([*half, name])  # because it is still being written
        (lab / 'a/.y.p.01234567.part').touch()  # of another file

        writer.kill()
        os.waitid(os.P_PID, writer.pid, os.WEXITED | os.WNOWAIT)  # it is dead, but has not been reaped
        safe_files.write_pickles('a/' + name, 2)
        assert sorted(os.listdir('a')) == ['.y.p.01234567.part',
                                           name] and safe_files.read_pickles('a/' + name) == [2]
        os.remove('a/' + name)
        os.remove('a/.y.p.01234567.part')


def test_a_file_that_is_removed_before_it_is_locked_is_written_again(lab, monkeypatch):
    """Another process has found it in the moment after it was created, and has taken it for a left-over."""
    removed = []

    def remove_first(f, how):
        if not removed:
            removed.append(f.name)
            os.remove(f.name)
    monkeypatch.setattr(safe_files.fcntl, 'flock', remove_first)
    safe_files.write_pickles('a/x.p', 1)
    assert removed and safe_files.read_pickles('a/x.p') == [1] and os.listdir('a') == ['x.p']


@pytest.mark.parametrize('is_windows', [False, True])
def test_files_are_written_where_there_are_no_locks(lab, monkeypatch, is_windows):
    def refuse(f, how):
        raise OSError('Operation not supported')
    if is_windows:
        monkeypatch.setattr(safe_files, 'fcntl', None)
    else:
        monkeypatch.setattr(safe_files.fcntl, 'flock', refuse)
    safe_files.write_pickles('a/x.p', 1)
    (lab / 'a/.x.p.01234567.part').touch()
    safe_files.write_pickles('a/x.p', 2)
    assert safe_files.read_pickles('a/x.p') == [2]
    assert os.path.exists('a/.x.p.01234567.part') != is_windows  # Windows does not remove an open file


def test_an_enrolment_is_read_whole_while_it_is_replaced(lab):
    galleries = [{'%03d' % i: torch.full((1, 128), value + i) for i in range(n)}
                 for value, n in ((1000.0, 9), (2000.0, 100))]
    origins = {speaker: {'LEVEL_DBFS': None, 'bandwidth': None} for speaker in galleries[1]}
    lab_model.save_enroll_embeddings('enrolled', galleries[0], FirstFrame(), origins)
    done = threading.Event()

    def enrol():
        while not done.is_set():
            for gallery in galleries:
                lab_model.save_enroll_embeddings('enrolled', gallery, FirstFrame(), origins)
    writer = threading.Thread(target=enrol)
    writer.start()
    try:
        read = []
        while writer.is_alive() and (len(read) < 50 or len({len(embeddings) for embeddings in read}) < 2):
            read.append(lab_model.load_enroll_embeddings('enrolled'))
    finally:
        done.set()
        writer.join()
    assert {len(embeddings) for embeddings in read} == {9, 100}
    assert all(len({float(e[0, 0]) // 1000 for e in embeddings.values()}) == 1 for embeddings in read)


# ---------------------------------------------------------------------------- a full disk, a read-only folder

@pytest.fixture
def small_disk(lab):
    """A disk of 200 kB in the folder 'disk'. Calls mount's remount with other options."""
    os.mkdir('disk')
    if subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=200k', 'tmpfs', 'disk'],
                      capture_output=True).returncode:
        pytest.skip('only root may mount a small disk')
    yield lambda options: subprocess.run(['mount', '-o', 'remount,' + options, str(lab / 'disk')], check=True)
    subprocess.run(['umount', '--lazy', str(lab / 'disk')], check=True)


def test_a_full_disk_and_a_read_only_one_leave_what_was_there(small_disk, stopped_with):
    def refused(reason, function, *args):
        message = stopped_with(lambda: function(*args))
        assert 'cannot be written: %s. What was there before' % reason in message, message

    safe_files.write_pickles('disk/e/embeddings.p', 'old')
    for reason in ('No space left on device', 'Read-only file system'):
        refused(reason, safe_files.write_pickles, 'disk/e/embeddings.p', np.zeros(10**6))
        refused(reason, runs.save_checkpoint, 'disk/e/checkpoint_1.pth', {'x': torch.zeros(10**6)})
        refused(reason, runs.Run.write, SimpleNamespace(log_dir='disk/e', content={'x': 'x' * 10**6}))
        refused(reason, DB_wav_reader.write_feature, 'disk/s/a.p', np.zeros((1000, 40)), 's')
        assert safe_files.read_pickles('disk/e/embeddings.p') == ['old']
        assert os.listdir('disk/e') == ['embeddings.p']
        small_disk('ro')
    message = stopped_with(lambda: demo_voices.make_train_features('disk/feat', n_voices=1))
    assert 'disk/feat' in message and 'Read-only file system' in message
    small_disk('rw')
    refused('No space left on device', lambda: demo_voices.make_train_features('disk/feat', n_voices=2))
    assert all(safe_files.read_pickles(name) for name in DB_wav_reader.find_feats('disk/feat'))
    assert not demo_voices.is_complete('disk/feat')


def test_a_training_goes_on_when_there_is_room_again(two_speakers, small_disk, stopped_with):
    two_epochs = {**SHORT, 'n_epochs': 2}
    train.main(**two_epochs, log_dir='whole')
    size, size_of_best = (os.path.getsize('whole/' + name) for name in ('checkpoint_1.pth',
                                                                        'checkpoint_best.pth'))
    small_disk('size=%d' % (1.5 * size + size_of_best))
    message = stopped_with(train.main, **two_epochs, log_dir='disk/model_saved')
    assert 'disk/model_saved/checkpoint_2.pth cannot be written: No space left on device.' in message
    assert sorted(os.listdir('disk/model_saved')) == ['.lock', 'checkpoint_1.pth', 'checkpoint_best.pth',
                                                      'run.json']
    small_disk('size=%d' % (9 * size))
    train.main(**{**two_epochs, 'log_dir': 'disk/model_saved', 'start': 2, 'n_epochs': 1})
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
