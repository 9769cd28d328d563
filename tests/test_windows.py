"""The programs as Windows would run them: without fcntl and SIGHUP, with spawned processes, printing cp949.

The folder has spaces and Hangul. Warnings are errors. A file that is opened as text must name its encoding.
"""
import ast
import os
import subprocess
import sys
import types

import pytest

from conftest import PROJECT
from support import checks, runs
from support.messages import LabError
from test_house import MODULES

WINDOWS = '''
import builtins, io, multiprocessing, os, signal, sys, types

def of_windows():
    """Take away what Windows does not have, and refuse to open text in the encoding of the system."""
    sys.modules["fcntl"] = None
    for name in ("SIGHUP", "SIGKILL", "SIGUSR1", "SIGALRM"):
        delattr(signal, name)
    for name in ("fork", "mkfifo", "getuid"):
        delattr(os, name)
    real_open = io.open
    def open_as_windows(file, mode="r", buffering=-1, encoding=None, *more, **named):
        caller = sys._getframe(1).f_code.co_filename
        if caller.endswith("pathlib.py"):
            caller = sys._getframe(2).f_code.co_filename
        is_ours = caller.startswith(PROJECT) and not caller.startswith(sys.prefix)  # README puts venv into the project
        assert "b" in mode or encoding or not is_ours, (caller, file)
        return real_open(file, mode, buffering, encoding, *more, **named)
    builtins.open = io.open = open_as_windows
    multiprocessing.set_start_method("spawn", force=True)

PROJECT = os.environ["PYTHONPATH"]
of_windows()

if __name__ == "__main__":
    import DB_wav_reader, enroll, identification, train, verification
    from model import load_model
    from own_voice import gallery
    from support import demo_voices, messages
    sys.modules["msvcrt"] = types.SimpleNamespace(LK_NBLCK=2, locking=lambda file, mode, size: None)
    demo_voices.make_test_features("wavs", "unused", first=242, n_voices=3)
    DB_wav_reader.main(train_wav_dir="wavs", train_feat_dir="feat", test_wav_dir="none")
    train.main(n_epochs=1, batch_size=2, valid_batch_size=2, val_ratio=40, train_dir="feat")
    names = sorted(os.listdir("wavs"))
    os.rename("wavs/" + names[0], "wavs/김 민지")
    use = {"cp_num": 1, "test_dir": "wavs", "test_speaker": "김 민지"}
    enroll.main(cp_num=1, test_dir="wavs")
    for script in (identification, verification):
        more = {"enroll_speaker": "김 민지"} if script is verification else {}
        sys.argv = ["script", *("--%s=%s" % setting for setting in {**use, **more}.items())]
        messages.run_script(script.main)
    voices = load_model(True, os.path.join(PROJECT, "model_saved"), "voices", None, None)
    print([one["name"] for one in gallery.Gallery(voices, "wavs", "enroll_own").state()["speakers"]])
'''


def test_the_programs_on_a_windows_that_is_only_pretended(tmp_path):
    folder = tmp_path / '내 문서 (lab)'
    folder.mkdir()
    (folder / 'all.py').write_text(WINDOWS, encoding='utf-8')
    env = {**os.environ, 'PYTHONPATH': str(PROJECT), 'PYTHONUTF8': '0', 'PYTHONIOENCODING': 'cp949',
           'USERNAME': 'kim'}  # torch asks for it
    done = subprocess.run([sys.executable, '-W', 'error', 'all.py'], cwd=folder, capture_output=True, env=env)
    errors, out = done.stderr.decode('cp949'), done.stdout.decode('cp949')
    assert done.returncode == 0, errors
    assert 'Warning' not in errors and 'Traceback' not in errors
    assert 'wavs -> feat: 6 converted, 0 up to date, 0 skipped' in out
    assert 'True speaker : 김 민지\n' in out.replace('\r', '') and "'김 민지'" in out.splitlines()[-1]
    assert (folder / 'model_saved/loss_plot.png').exists()


def test_every_file_that_is_opened_as_text_names_its_encoding():
    missing = []
    for module, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, 'id', '')
            values = [one.value for one in node.args if isinstance(one, ast.Constant)]
            is_binary = name == 'open' and any(isinstance(value, str) and 'b' in value and len(value) < 4
                                               for value in values)
            is_open = isinstance(node.func, ast.Name) and name == 'open'
            is_text = is_open or name in ('read_text', 'write_text')
            if is_text and not is_binary and 'encoding' not in [keyword.arg for keyword in node.keywords]:
                missing.append((module, node.lineno))
    assert missing == []


@pytest.mark.parametrize('path', [
    'C:\\lab\\own\\김 민지\\test.wav', '.\\own\\김 민지\\test.wav', 'own/김 민지\\test.wav',
    'D:/내 문서/own/김 민지/test.wav', '\\\\server\\own\\김 민지\\test.wav'])
def test_paths_of_windows(path):
    assert checks.path_parts(path)[-3:] == ['own', '김 민지', 'test.wav']


def test_a_folder_is_locked_as_windows_does(tmp_path, monkeypatch):
    """With msvcrt instead of fcntl. A second training gets PermissionError there."""
    locked = []

    def locking(file, mode, size):
        if locked:
            raise PermissionError(13, 'Permission denied')
        locked.append(size)
    monkeypatch.setitem(sys.modules, 'fcntl', None)
    monkeypatch.setitem(sys.modules, 'msvcrt', types.SimpleNamespace(LK_NBLCK=2, locking=locking))
    runs.lock_log_dir.__wrapped__(tmp_path / 'runs')  # without the cache, as two processes
    with pytest.raises(LabError, match='Another train.py is at work in'):
        runs.lock_log_dir.__wrapped__(tmp_path / 'runs')
    assert locked == [1]
