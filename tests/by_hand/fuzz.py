"""Give broken files to the readers of feature files, enrolments, wavs and checkpoints. Each must end in a LabError.

    python tests/by_hand/fuzz.py
    python tests/by_hand/fuzz.py --n_inputs=1000 --seed=1

Valid files and those of tests/attacks.py are changed at random. An input that reaches a line of the readers that none
reached before is changed further. Prints every answer that is no LabError, every input that takes more than 5 seconds,
and everything that touches a file outside a temporary folder. Takes four minutes on one core.
"""
import codecs
import io
import os
import pickle
import random
import re
import signal
import struct
import sys
import tempfile
import time
import warnings
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

import find_lab  # noqa: F401 (finds the lab)

import attacks
from DB_wav_reader import read_audio
from SR_Dataset import read_MFB
from model import load_enroll_embeddings
from support.checks import feature_settings
from support.enrolments import ENROLL_FILE
from support.messages import LabError, check_settings, run_script
from support.safe_files import read_checkpoint

try:
    import resource
except ImportError:  # Windows
    resource = None

TIME_LIMIT = 5  # seconds of computing, so that other programs on the machine make no difference
ROOM = 2**29  # bytes that may be taken while the files are read; who asks for more gets a MemoryError
TRACED_SHARE = 0.1  # of the inputs, because reading with a tracer takes four times as long
TRACED = ('DB_wav_reader.py', 'SR_Dataset.py', 'model.py', 'checks.py', 'enrolments.py', 'recordings.py',
          'safe_files.py', 'wavfile.py', 'pickle.py', 'zipfile.py')

# What no reader needs to do (see the "Audit events table" of Python's documentation)
FORBIDDEN = ('subprocess.', 'socket.', 'shutil.', 'ctypes.', 'os.system', 'os.exec', 'os.posix_spawn', 'os.spawn',
             'os.fork',
             'os.remove', 'os.rename', 'os.rmdir', 'os.mkdir', 'os.link', 'os.symlink', 'os.chmod', 'os.chown',
             'os.truncate', 'os.kill', 'os.putenv', 'import', 'exec', 'compile')
SCORED_WITH = SimpleNamespace(checkpoint={'file': 'a.pth', 'sha256': 'ff'})  # what the enrolments were made with
watched = {'folder': None, 'seen': []}  # an audit hook stays for ever, so it looks here whether to watch


def notice(event, arguments):
    """Audit hook. It notes what is forbidden, and the files outside the folder that are opened for writing."""
    if watched['folder'] is None:
        return
    if event == 'open':
        path, mode, flags = arguments
        writes = any(letter in (mode or '') for letter in 'wax+') or flags & (os.O_WRONLY | os.O_RDWR)
        if writes and not str(path).startswith(watched['folder']):
            watched['seen'].append('open %s for writing' % path)
    elif event.startswith(FORBIDDEN):
        watched['seen'].append('%s %s' % (event, str(arguments)[:80]))


sys.addaudithook(notice)
for name in ('raw-unicode-escape', 'unicode-escape', 'latin-1', 'ascii', 'utf-8', 'cp437'):
    codecs.lookup(name)  # Python imports them the first time, which is no finding


class Hang(BaseException):
    """An input takes too long. It is no Exception, because the readers turn every Exception into a LabError."""


def stop(signal_number, frame):
    raise Hang('more than %d seconds' % TIME_LIMIT)


@contextmanager
def limits(folder):
    """Watch what is done outside `folder`, stop what takes too long, and refuse memory beyond ROOM."""
    watched['folder'], watched['seen'] = str(folder), []
    old_handler = signal.signal(signal.SIGPROF, stop) if hasattr(signal, 'SIGPROF') else None
    if sys.platform == 'linux':
        taken = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()
        old_limit = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (taken + ROOM, old_limit[1]))
    try:
        yield
    finally:
        watched['folder'] = None
        if old_handler is not None:
            signal.signal(signal.SIGPROF, old_handler)
        if sys.platform == 'linux':
            resource.setrlimit(resource.RLIMIT_AS, old_limit)


def answer(read, filename):
    """Read a file within `limits`. Returns ('read' or 'refused', message), or ('WRONG', what happened)."""
    seen_before = len(watched['seen'])
    if hasattr(signal, 'setitimer'):
        signal.setitimer(signal.ITIMER_PROF, TIME_LIMIT)
    try:
        read(str(filename))
        result = 'read', ''
    except LabError as error:
        result = 'refused', str(error)
        if len(str(error)) > 1000 + len(str(filename)) or len(str(error).splitlines()) > 2:
            result = 'WRONG', 'an endless message: %.60s' % error
    except BaseException as error:  # whatever it is, it is a finding
        result = 'WRONG', '%s: %.200s' % (type(error).__name__, error)
    finally:
        if hasattr(signal, 'setitimer'):
            signal.setitimer(signal.ITIMER_PROF, 0)
    if len(watched['seen']) > seen_before:
        result = 'WRONG', watched['seen'][-1]
    return result


def steps_of(call):
    """Call it. Returns (result of the call, set of the steps from line to line that it took in the TRACED files)."""
    steps, last = set(), [0]

    def in_file(frame, event, argument):
        steps.add((frame.f_code.co_filename, last[0], frame.f_lineno))
        last[0] = frame.f_lineno
        return in_file

    def on_call(frame, event, argument):
        return in_file if frame.f_code.co_filename.endswith(TRACED) else None

    folder, watched['folder'] = watched['folder'], None  # not the readers trace, but this function
    tracer = sys.gettrace()  # that of a debugger, or of a program that measures coverage
    sys.settrace(on_call)
    watched['folder'] = folder
    try:
        result = call()
    finally:
        watched['folder'] = None
        sys.settrace(tracer)
        watched['folder'] = folder
    return result, steps


NUMBERS = [struct.pack(form, value) for form, values in (
    ('<B', (0, 1, 127, 128, 255)), ('<H', (0, 1, 3, 32767, 65534, 65535)),
    ('<I', (0, 1, 16, 8000, 2**31 - 1, 2**31, 2**32 - 1)), ('<Q', (0, 2**40, 2**63 - 1, 2**64 - 1)),
    ('<f', (float('nan'), float('inf'), 1e38)), ('<d', (float('nan'), float('-inf')))) for value in values]
PIECES = {'.p': [bytes([i]) for i in range(40, 127)] + [bytes([i]) for i in range(128, 153)] + [
    b'h\x00', b'h\x01', b'h\x02', b'q\x00', b'cnumpy\ndtype\n', b'cposix\nsystem\n', b'cbuiltins\neval\n', b'}\x94',
    b']\x94',
    b'\x85R', b'tb', b'K\x01\x85', b'\x8c\x02f8', b'r\xff\xff\xff\x7f', b'I1\n', b'L9L\n', b'(h\x00h\x00t'],
    '.wav': [b'fmt ', b'data', b'LIST', b'RIFX', b'RF64', b'ds64', b'\xfe\xff', b'\x03\x00', b'\x18\x00', b'\x20\x00'],
    '.pth': [b'PK\x01\x02', b'PK\x03\x04', b'PK\x05\x06', b'PK\x06\x06', b'\x08\x00', b'\xff\xff', b'ctorch\nload\n',
             b'cbuiltins\neval\n', b'FloatStorage', b'q\x01', b'h\x01', b'K\x01\x85', b'\x85R', b'tR', b'tQ']}


def changed(content, others, pieces, rng):
    """The content of a file, changed at one to six places. Most lie near an end, because headers are there."""
    content = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 3, 6))):
        place = int(rng.expovariate(0.015)) % (len(content) + 1)
        if rng.random() < 0.15:
            place = len(content) - place
        length = rng.choice((1, 1, 2, 4, 8, 30))
        kind = rng.randrange(8)
        if kind == 0 and content:
            content[min(place, len(content) - 1)] ^= 1 << rng.randrange(8)
        elif kind == 1:
            content[place:place + 1] = bytes([rng.randrange(256)])
        elif kind == 2:
            number = rng.choice(NUMBERS)
            content[place:place + len(number)] = number
        elif kind == 3:
            del content[place:place + length]
        elif kind == 4:
            content[place:place] = content[place:place + length] * rng.choice((1, 2, 50))
        elif kind == 5:
            content[place:place] = rng.choice(pieces)
        elif kind == 6:
            piece = rng.choice(pieces)
            content[place:place + len(piece)] = piece
        elif rng.random() < 0.5:
            other = rng.choice(others)
            start = int(rng.expovariate(0.015)) % (len(other) + 1)
            content[place:place + length] = other[start:start + rng.choice((4, 30, 200))]
        else:
            del content[rng.randrange(len(content) + 1):]
    return bytes(content)


def seeds_of(suffix):
    """Small files to start from: valid ones and attacks."""
    if suffix == '.p':
        rng = np.random.default_rng(0)
        feature, embedding = rng.normal(size=(142, 40)), rng.normal(size=(1, 16)).astype(np.float32)
        enrolment, recording = io.BytesIO(), {'LEVEL_DBFS': -44, 'bandwidth': 7600.0}
        pickle.dump({'a': embedding, 'b': -embedding}, enrolment, 4)
        pickle.dump({**SCORED_WITH.checkpoint, 'recordings': {'a': recording, 'b': recording}}, enrolment, 4)
        valid = [pickle.dumps({'feat': feature.astype(np.float16), 'label': 's1', 'settings': feature_settings(),
                               'recording': recording}, p)
                 for p in (3, 4, 5)] + [enrolment.getvalue(), attacks.feature_pickle()]
        found = {**attacks.pickle_attacks(), **attacks.enrolment_attacks()}
    elif suffix == '.wav':
        samples = attacks.syllables()[9600:10600]
        valid = [attacks.wav(samples.tobytes()), attacks.wav(samples.tobytes(), bits=24, rate=8000),
                 attacks.wav((samples / 32768).astype('<f4').tobytes(), tag=3, bits=32, channels=2, rate=44100),
                 attacks.wav(samples.tobytes(), tag=0xFFFE, more=attacks.extensible()),
                 attacks.wav(samples.tobytes(), bits=8, before=attacks.chunk(b'LIST', b'tags'))]
        found = {name: content[:3000] for name, content in attacks.wav_attacks().items()}
    else:
        state_dict = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3)).state_dict()
        checkpoint, legacy = {'epoch': 2, 'state_dict': state_dict, 'features': feature_settings()}, io.BytesIO()
        torch.save(checkpoint, legacy, _use_new_zipfile_serialization=False)
        valid = [attacks.rewritten(checkpoint), legacy.getvalue()]
        found = attacks.checkpoint_attacks({'fc0.bias': torch.ones(3), 'last.weight': torch.ones(2, 3)})
    return 20 * valid + [content for content in found.values() if len(content) < 20000]


def fuzz(suffix, n_inputs, seed, folder):
    """Read n_inputs changed files. Returns (Counter of answers, dict what is wrong -> input, number of steps)."""
    rng, pieces = random.Random(seed), PIECES[suffix]
    corpus = seeds_of(suffix) + ([attacks.wav(attacks.syllables().tobytes())] if suffix == '.wav' else [])
    n_seeds = len(corpus)
    filename = Path(folder) / ('a' + suffix)
    enrolled = Path(folder) / ENROLL_FILE
    counts, wrong, reached = Counter(), {}, set()
    with limits(folder):
        for i in range(n_inputs):
            content = changed(rng.choice(corpus), corpus, pieces, rng) if i >= n_seeds else corpus[i]
            place, read = filename, read_checkpoint if suffix == '.pth' else read_MFB
            if suffix == '.p' and i % 4 == 0:
                place, read = enrolled, lambda filename: load_enroll_embeddings(folder, model=SCORED_WITH)
            elif suffix == '.wav' and len(content) < 50000:
                read = read_audio  # because it is too short to be speech
            place.write_bytes(content)
            if i < n_seeds or rng.random() < TRACED_SHARE:
                (kind, message), steps = steps_of(lambda: answer(read, place))
            else:
                (kind, message), steps = answer(read, place), set()
            counts[kind] += 1
            if kind == 'WRONG':
                wrong.setdefault(re.sub(r'\d+', '0', message), content)
            if not steps <= reached and len(content) < 20000:
                reached |= steps
                corpus.append(content)
    return counts, wrong, len(reached)


def main(
        # Settings
        n_inputs=100000,  # changed files of each kind
        seed=0,  # of the changes
):
    check_settings(main, locals())
    warnings.simplefilter('ignore')  # PyTorch warns of pickles of another version
    n_wrong = 0
    for suffix, what in (('.p', 'feature files and enrolments'), ('.wav', 'wavs'), ('.pth', 'checkpoints')):
        start = time.time()
        with tempfile.TemporaryDirectory() as folder:
            counts, wrong, n_steps = fuzz(suffix, n_inputs, seed, folder)
            left = sorted(set(os.listdir(folder)) - {'a' + suffix, ENROLL_FILE})
        print('%d %s in %.0f s: %d refused, %d read, %d wrong; %d steps of the readers reached; further files: %s'
              % (n_inputs, what, time.time() - start, counts['refused'], counts['read'], counts['WRONG'], n_steps,
                 left or 'none'), flush=True)
        for message, content in wrong.items():
            print('  %s: %r' % (message, content[:200]))
        n_wrong += counts['WRONG'] + len(left)
    if n_wrong:
        raise LabError('%d inputs were answered wrongly. They are shown above.' % n_wrong)


if __name__ == '__main__':
    run_script(main)
