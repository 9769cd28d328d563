"""Files are written whole or not at all. Files are read without running anything that they contain."""
import hashlib
import io
import os
import pickle
import re
import uuid
import warnings
import zipfile
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path

import numpy as np

from support.messages import LabError, in_one_line

try:
    import fcntl
except ImportError:  # Windows does not let anybody delete a file that is open, so it needs no lock
    fcntl = None


# ------------------------------------------------------------------------------------------------- writing

@contextmanager
def written_whole(filename):
    """Open a binary file to write `filename` into. It gets its name only when the `with` ends without an error.

    Raises LabError if the disk is full or the folder is read-only.
    """
    filename = Path(filename)
    temporary = filename.with_name('.%s.%s.part' % (filename.name, uuid.uuid4().hex[:8]))
    try:
        filename.parent.mkdir(parents=True, exist_ok=True)
        remove_left_overs(filename)
        with open_locked(temporary) as f:
            yield f
            f.flush()
            if fcntl is None:
                f.close()  # Windows cannot rename an open file
            os.replace(temporary, filename)
    except OSError as error:
        raise LabError('%s cannot be written: %s. What was there before is unchanged.\nMake room, or set another '
                       'folder, then run this again.' % (filename, error.strerror or error)) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def open_locked(temporary):
    """A new binary file that stays locked until it is closed."""
    while True:
        f = open(temporary, 'xb')
        if fcntl is not None:
            with suppress(OSError):  # some network drives have no locks
                fcntl.flock(f, fcntl.LOCK_EX)  # waits while another process looks at the file
        if fcntl is None or temporary.exists():  # another process may have removed it before it was locked
            return f
        f.close()


def remove_left_overs(filename):
    """Delete what killed processes wrote of `filename`. A file that is still being written is locked, and stays."""
    for left_over in filename.parent.glob('.%s.*.part' % escape(filename.name)):
        with suppress(OSError):
            if fcntl is None:
                left_over.unlink()
                continue
            with open(left_over, 'rb') as f:
                fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
                left_over.unlink()  # while it is locked


def write_pickles(filename, *objects):
    """Pickle the objects one after another into `filename`."""
    with written_whole(filename) as f:
        for obj in objects:
            pickle.dump(obj, f, protocol=4)  # numpy 1 cannot read arrays of protocol 5


# ------------------------------------------------------------------------------------------------- reading

def read_whole(filename):
    """The bytes of a file. Raises LabError for a pipe or a device, because they may never end."""
    if os.path.exists(filename) and not os.path.isfile(filename):
        raise LabError('%s: not a file' % filename)
    return Path(filename).read_bytes()


class PickledDtype:
    """Stands for numpy.dtype while a pickle is read. It is called with a code such as 'f8'."""

    def __init__(self, code, *flags):
        self.code, self.order = code, '|'

    def __setstate__(self, state):
        self.order = state[1]

    def to_numpy(self):
        if self.code not in ('f2', 'f4', 'f8') or self.order not in ('<', '>', '=', '|'):
            raise pickle.UnpicklingError('an array of something else than floats')
        return np.dtype(self.order + self.code)


class PickledArray:
    """Stands for an array while a pickle is read. numpy gets the bytes alone and checks what the pickle claims."""

    def __init__(self, *type_and_shape):
        self.array = None

    def __setstate__(self, state):
        _, shape, dtype, is_fortran, content = state
        self.array = np.frombuffer(content, dtype.to_numpy()).reshape(shape, order='F' if is_fortran else 'C')


class PickledBuffer(PickledArray):
    """Stands for an array of pickle protocol 5."""

    def __init__(self, content, dtype, shape, order):
        self.__setstate__((1, shape, dtype, order == 'F', content))


class PickledDict(dict):
    """Stands for a dict while a pickle is read. Its keys are names or numbers: nested tuples can take for ever."""
    __slots__ = ()

    def __setitem__(self, key, value):
        if not isinstance(key, (str, int)):
            raise pickle.UnpicklingError('a key of a dict is neither a name nor a number')
        super().__setitem__(key, value)

    def __setstate__(self, state):
        """Without this, a pickle could set the attributes of this class."""


class SafeUnpickler(pickle._Unpickler):
    """Reads plain data and arrays of floats. The pickle cannot call anything else, because find_class refuses it.

    See "Restricting Globals" in the documentation of Python's pickle. The unpickler is the one written in Python,
    because the one written in C takes no other dict.
    """
    dispatch = {**pickle._Unpickler.dispatch, pickle.EMPTY_DICT[0]: lambda self: self.append(PickledDict())}
    allowed = {
        ('numpy', 'ndarray'): 'numpy.ndarray',  # an argument of the next ones; a string cannot be called
        ('numpy', 'dtype'): PickledDtype,
        ('numpy.core.multiarray', '_reconstruct'): PickledArray,  # written with numpy 1
        ('numpy._core.multiarray', '_reconstruct'): PickledArray,  # written with numpy 2
        ('numpy.core.numeric', '_frombuffer'): PickledBuffer,  # written with numpy 1 and protocol 5
        ('numpy._core.numeric', '_frombuffer'): PickledBuffer,  # written with numpy 2 and protocol 5
    }

    def find_class(self, module, name):
        if (module, name) not in self.allowed:
            raise pickle.UnpicklingError('%s.%s is not allowed in it' % (module, name))
        return self.allowed[module, name]


def read_pickles(filename):
    """List of the objects pickled one after another in `filename`: dicts whose values are plain data or arrays.

    Nothing that the file contains is run. Raises LabError, with the file's name, if it holds anything else.
    """
    stream, objects = io.BytesIO(read_whole(filename)), []
    try:
        while stream.tell() < len(stream.getbuffer()):
            content = SafeUnpickler(stream).load()
            if isinstance(content, dict):
                content = {key: value.array.copy() if isinstance(value, PickledArray) else value
                           for key, value in content.items()}
            objects.append(content)
    except Exception as error:  # a broken pickle can raise nearly anything
        raise LabError('%s: not a pickle of plain data and arrays (%s)' % (filename, in_one_line(error))) from error
    if not objects:
        raise LabError('%s: the file is empty' % filename)
    return objects


def read_checkpoint(filename):
    """The dict in a checkpoint, on the CPU, and the sha256 of the file.

    Raises LabError if the file is damaged, or is no checkpoint with a 'state_dict'.
    """
    import torch  # here, because DB_wav_reader.py works without it
    content = read_whole(filename)
    try:
        if content.startswith(b'PK'):  # a zip file, as PyTorch writes since 2020
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                if sum(entry.file_size for entry in archive.infolist()) > len(content):
                    raise ValueError('it would unpack to more than its own size')
                if archive.testzip() is not None:  # PyTorch itself does not look at the checksums
                    raise ValueError('a checksum is wrong: the file is damaged')
        with warnings.catch_warnings(action='ignore'):  # advice for programmers
            checkpoint = torch.load(io.BytesIO(content), map_location='cpu', weights_only=True)
        if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get('state_dict'), dict):
            raise ValueError("it has no 'state_dict'")
        for name, tensor in [*checkpoint['state_dict'].items(), *checkpoint.items()]:
            if isinstance(tensor, torch.Tensor) and (
                    tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes()):
                raise ValueError("'%s' claims more numbers than it has" % name)
        if not all(isinstance(name, str) and isinstance(tensor, torch.Tensor)
                   for name, tensor in checkpoint['state_dict'].items()):
            raise ValueError("'state_dict' must hold names and tensors")
    except Exception as error:  # a broken file can raise nearly anything
        raise LabError('%s: not a checkpoint that can be loaded (%s).\nIt is damaged, or something else: choose '
                       'another cp_num, or train again.' % (filename, reason_of(error))) from error
    checkpoint['state_dict'] = without_wrapper(checkpoint['state_dict'])
    return checkpoint, hashlib.sha256(content).hexdigest()


def reason_of(error):
    """What PyTorch says is wrong with a file, without its advice, which is to trust the file."""
    refused = re.search(r'[Uu]nsupported (?:(?:global: )?GLOBAL|class) (\S+)', str(error))
    if refused:
        return 'it holds %s, and only tensors and plain data are read' % refused.group(1)
    found = str(error).rpartition('WeightsUnpickler error:')[2]
    advice = 'Please|Re-running|Check the documentation|Weights only load failed'
    return in_one_line(re.split(advice, found)[0] or type(error).__name__)


WRAPPERS = r'^(module\.|_orig_mod\.)+'  # what DataParallel and torch.compile put before each name


def without_wrapper(state_dict):
    """A state_dict with the names that the network itself has, if it was saved from a wrapper around it."""
    if not all(re.match(WRAPPERS, name) for name in state_dict):
        return state_dict
    return {re.sub(WRAPPERS, '', name): tensor for name, tensor in state_dict.items()}
