"""Files that are written whole or not at all, and read without running anything that they contain."""
import io
import math
import os
import pickle
import pickletools
import platform
import zipfile
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path

import numpy as np
import torch

from support.checks import are_settings, other_settings
from support.messages import LabError, in_one_line

COMPUTER = platform.node()  # the folder may be shared, and numbers of processes are those of one computer


@contextmanager
def written_whole(filename):
    """The path to write to in place of `filename`, which appears when the `with` ends well: whole or not at all.

    Raises LabError where the disk is full or the folder must not be written to.
    """
    filename = Path(filename)
    temporary = filename.with_name('.%s_%d_%s' % (COMPUTER, os.getpid(), filename.name))
    try:
        filename.parent.mkdir(parents=True, exist_ok=True)
        remove_left_overs(filename)
        yield temporary
        os.replace(temporary, filename)
    except OSError as error:
        raise LabError('%s cannot be written: %s. What was there before is as it was.\nMake room, or set another '
                       'folder, then run this again.' % (filename, error.strerror or error)) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def remove_left_overs(filename):
    """Delete what processes of this computer that were killed had written of `filename`."""
    for temporary in filename.parent.glob('.%s_[0-9]*_%s' % (escape(COMPUTER), escape(filename.name))):
        pid = temporary.name.removeprefix('.%s_' % COMPUTER).partition('_')[0]
        if pid.isdigit() and os.name != 'nt':  # Windows has no such question: what is left over stays
            try:
                os.kill(int(pid), 0)  # no signal, but the question whether this process is there
            except ProcessLookupError:
                temporary.unlink(missing_ok=True)
            except (OSError, OverflowError):  # it is somebody else's, or no number of a process
                pass


def read_whole(filename):
    """The bytes of a file. Raises LabError for a pipe or a device, on which one might wait for ever."""
    if os.path.exists(filename) and not os.path.isfile(filename):
        raise LabError('%s: not a file' % filename)
    return Path(filename).read_bytes()


def write_pickles(filename, *objects):
    """Pickle the objects one after another into `filename`."""
    with written_whole(filename) as temporary, open(temporary, 'wb') as f:
        for obj in objects:
            pickle.dump(obj, f, protocol=4)  # numpy 1 cannot read arrays of protocol 5


# What Python 3 and numpy write for plain data and arrays. Missing are those that call in other ways, and numbers and
# strings as text
OPCODES = set('''PROTO FRAME STOP MARK MEMOIZE BINPUT LONG_BINPUT BINGET LONG_BINGET GLOBAL STACK_GLOBAL REDUCE BUILD
    NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 BINFLOAT SHORT_BINUNICODE BINUNICODE SHORT_BINBYTES BINBYTES BINBYTES8
    BYTEARRAY8 EMPTY_DICT SETITEM SETITEMS EMPTY_LIST APPEND APPENDS EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3'''.split())
FREE_OPCODES = 10000  # a small file may have so many; beyond them, an opcode needs BYTES_PER_OPCODE
BYTES_PER_OPCODE = 4  # of the whole file: `]` is one byte there and a list of 56 in memory


def skim_pickle(stream, size, opcodes=OPCODES):
    """Read on in `stream` to the end of a pickle, and execute nothing. Returns its bytes.

    Raises UnpicklingError where it needs other opcodes, or more of them, or more memory than a file of `size` bytes
    honestly can; ValueError where it is broken.
    """
    start = stream.tell()
    for n_before, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
        if opcode.name not in opcodes:
            raise pickle.UnpicklingError('opcode %s is not allowed in it' % opcode.name)
        if n_before > FREE_OPCODES + size / BYTES_PER_OPCODE:
            raise pickle.UnpicklingError('it has too many parts for its size')
        if opcode.name == 'LONG_BINPUT' and argument > n_before:  # room is made for as many before it
            raise pickle.UnpicklingError('it claims to have more parts than it has')
    return stream.getvalue()[start:stream.tell()]


class PickledDtype:
    """What numpy.dtype is while a pickle is read. Called with a code such as 'f8'; the byte order follows."""
    codes = ['b1', 'i1', 'i2', 'i4', 'i8', 'u1', 'u2', 'u4', 'u8', 'f2', 'f4', 'f8']

    def __init__(self, code, *flags):
        self.code, self.order = code, '|'

    def __setstate__(self, state):
        self.order = state[1]

    def to_numpy(self):
        if self.code not in self.codes or self.order not in ['<', '>', '=', '|']:  # numpy reads whole programs here
            raise pickle.UnpicklingError('an array of something else than numbers')
        return np.dtype(self.order + self.code)


class PickledArray:
    """What an array is while a pickle is read: numpy sees its bytes, and none of the pickle's claims about them."""

    def __init__(self, *type_and_shape_to_start_with):
        self.array = None

    def __setstate__(self, state):
        _, shape, dtype, is_fortran, content = state
        # Not a copy: a thousand arrays may name the same bytes
        self.array = np.frombuffer(content, dtype.to_numpy()).reshape(shape, order='F' if is_fortran else 'C')


class PickledBuffer(PickledArray):
    """What an array of protocol 5 is. A class: a pickle could set the attributes of a function."""

    def __init__(self, content, dtype, shape, order):
        self.__setstate__((1, shape, dtype, order == 'F', content))


class PickledDict(dict):
    """What a dict is while a pickle is read. Keys are names or numbers: looking up nested tuples can take for ever."""
    __slots__ = ()

    def __init__(self):
        super().__init__()

    def __setitem__(self, key, value):
        if not isinstance(key, (str, int)):
            raise pickle.UnpicklingError('a key of a dict is neither a name nor a number')
        super().__setitem__(key, value)

    def __setstate__(self, state):
        """Without it, a pickle could set the attributes of this class."""


class PlainUnpickler(pickle._Unpickler):  # the one in Python, whose dicts can be others
    """Unpickler for plain containers, strings, numbers and what is in `allowed`: everything else is refused by name.

    A pickle can name any function for the unpickler to call (see "Restricting Globals" in the documentation of
    Python's pickle); looking the names up here and nowhere else is what keeps a file from running code.
    """
    dispatch = {**pickle._Unpickler.dispatch, pickle.EMPTY_DICT[0]: lambda self: self.append(PickledDict())}
    allowed = {}

    def find_class(self, module, name):
        if (module, name) not in self.allowed:
            raise pickle.UnpicklingError('%s.%s is not allowed in it' % (module, name))
        return self.allowed[module, name]


class ArrayUnpickler(PlainUnpickler):
    """Unpickler for plain data and arrays of numbers."""
    allowed = {
        ('numpy', 'ndarray'): 'numpy.ndarray',  # only ever an argument: a string cannot be called
        ('numpy', 'dtype'): PickledDtype,
        ('numpy.core.multiarray', '_reconstruct'): PickledArray,  # written with numpy 1
        ('numpy._core.multiarray', '_reconstruct'): PickledArray,  # written with numpy 2
        ('numpy._core.numeric', '_frombuffer'): PickledBuffer,  # written with numpy 2 and protocol 5
    }


def with_arrays(content, room):
    """Replace every PickledArray in nested dicts, lists and tuples by its array.

    room: [bytes of the file], used up on the way: whatever is not there twice takes at least a byte, an array all its
    own. Raises UnpicklingError where that is not enough: lists of lists of the same list grow without end.
    """
    is_array = isinstance(content, PickledArray)
    room[0] -= max(1, content.array.nbytes) if is_array else 1
    if room[0] < 0:
        raise pickle.UnpicklingError('it holds the same thing again and again')
    if isinstance(content, dict):
        return {key: with_arrays(value, room) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return type(content)([with_arrays(value, room) for value in content])
    return content.array.copy() if is_array else content


def read_pickles(filename):
    """List of the objects pickled one after another in `filename`. Executes nothing that the file contains.

    Raises LabError, with the file's name, where it is not a pickle or holds more than plain containers and arrays.
    """
    content = read_whole(filename)
    stream, objects, room = io.BytesIO(content), [], [len(content)]
    try:
        while stream.tell() < len(content):
            looked_at = skim_pickle(stream, len(content))
            objects.append(with_arrays(ArrayUnpickler(io.BytesIO(looked_at)).load(), room))
    except Exception as error:  # a broken pickle can raise nearly anything
        raise LabError('%s: not a pickle of plain data and arrays (%s)' % (filename, in_one_line(error))) from error
    if not objects:
        raise LabError('%s: the file is empty' % filename)
    return objects


class PickledTensor:
    """What a tensor is while a checkpoint is looked through: no larger than the storage it lies in."""

    def __init__(self, n_stored, offset, size, stride, *_):
        last = offset + sum((n - 1) * step for n, step in zip(size, stride))
        if min([offset, *size, *stride]) < 0 or max(math.prod(size), last + 1) > n_stored:
            raise pickle.UnpicklingError('a tensor that claims more numbers than it has')

    def __setstate__(self, state):
        """Without it, a pickle could set the attributes of this class."""


class CheckpointUnpickler(PlainUnpickler):
    """Looks through the pickle in a checkpoint, for all that torch.load(weights_only=True) would take, and should not.

    room: bytes that the storages may have in all; sizes: dict key -> bytes of the storage in the file, None if unknown.
    """
    allowed = {('collections', 'OrderedDict'): PickledDict, ('torch._utils', '_rebuild_tensor_v2'): PickledTensor,
               **{('torch', '%sStorage' % kind): n_bytes for kind, n_bytes in {  # of one number
                   'Float': 4, 'Double': 8, 'Half': 2, 'BFloat16': 2, 'Long': 8, 'Int': 4, 'Short': 2, 'Char': 1,
                   'Byte': 1, 'Bool': 1}.items()}}

    def __init__(self, content, room, sizes=None):
        super().__init__(io.BytesIO(content))
        self.room, self.sizes, self.lengths = room, sizes, {}

    def persistent_load(self, storage):
        what, n_bytes, key, _, length, *view = storage
        if what != 'storage' or not key.isdecimal() or view not in ([], [None]) or length < 0:
            raise pickle.UnpicklingError('a storage as PyTorch does not write it')
        if key not in self.lengths:
            self.lengths[key] = length
            self.room -= length * n_bytes
        if self.lengths[key] != length or self.room < 0 or (
                self.sizes is not None and self.sizes.get(key) != length * n_bytes):
            raise pickle.UnpicklingError('a storage of another size than it has')
        return length


CHECKPOINT_OPCODES = OPCODES | {'BINPERSID', 'LONG1'}
PICKLES_BEFORE_2020 = 5  # a checkpoint of PyTorch before 1.6 is so many pickles and then the numbers, no zip file


def checked_checkpoint(content):
    """The bytes of a checkpoint file as torch.load shall see them.

    Raises ValueError or UnpicklingError where it would call something, or unpack to more than the bytes there are.
    """
    if not content.startswith(b'PK\x03\x04'):  # as PyTorch tells: a file may be both
        stream = io.BytesIO(content)
        for _ in range(PICKLES_BEFORE_2020):
            looked_at = skim_pickle(stream, len(content), CHECKPOINT_OPCODES)
            CheckpointUnpickler(looked_at, len(content)).load()
        return content
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > len(content):
            raise ValueError('it would unpack to more than the file itself: PyTorch does not compress')
        parts = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    folder = os.path.commonprefix(list(parts)).rpartition('/')[0]
    pickled = folder + '/data.pkl'
    if [name for name in parts if name.lower().endswith('.pkl')] != [pickled]:
        raise ValueError('it has no data.pkl, or several')
    looked_at = skim_pickle(io.BytesIO(parts[pickled]), len(content), CHECKPOINT_OPCODES)
    sizes = {name.removeprefix(folder + '/data/'): len(part) for name, part in parts.items()}
    CheckpointUnpickler(looked_at, len(content), sizes).load()
    parts[pickled] = looked_at
    anew = io.BytesIO()  # zip files can be made to hold one thing for Python and another for PyTorch
    with zipfile.ZipFile(anew, 'w') as archive:
        for name, part in parts.items():
            archive.writestr(name, part)
    return anew.getvalue()


def are_tensors(state_dict):
    """Whether this is a dict name -> tensor."""
    return isinstance(state_dict, dict) and all(
        isinstance(name, str) and isinstance(tensor, torch.Tensor) for name, tensor in state_dict.items())


def read_checkpoint(filename, *, content=None):
    """The dict in a checkpoint file, on the CPU. Raises LabError where it is not one of this lab's checkpoints.

    content: its bytes, if they have been read already.
    """
    content = read_whole(filename) if content is None else content
    try:
        checked = checked_checkpoint(content)
        checkpoint = torch.load(io.BytesIO(checked), map_location='cpu', weights_only=True)
    except Exception as error:  # a broken file can raise nearly anything; PyTorch's advice would be to trust it
        reason = in_one_line(error).partition('Re-running')[0]
        raise LabError('%s: not a checkpoint that can be loaded (%s).\nIt is damaged, or something else: choose '
                       'another cp_num, or train again.' % (filename, reason)) from error
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get('state_dict'), dict):
        raise LabError("%s: not a checkpoint of this lab: it has no 'state_dict'" % filename)
    if not are_tensors(checkpoint['state_dict']):
        raise LabError("%s: 'state_dict' must hold names and tensors" % filename)
    if not are_settings(checkpoint.get('features', {})):
        raise LabError("%s: 'features' must be a dict of names and numbers" % filename)
    difference = other_settings(checkpoint.get('features', {}))
    if difference:
        raise LabError('%s was trained on other features: %s.\nSet those in configure.py, or choose another checkpoint.'
                       % (filename, difference))
    return checkpoint
