"""Files made to do harm: each function returns a dict name -> bytes. Nothing here is ever run.

test_hostile.py and tests/by_hand/fuzz.py give the files to the lab's readers. A reader must refuse a file
with a LabError, or read what it really holds.
"""
import io
import pickle
import struct
import zipfile

import numpy as np
import torch

# ------------------------------------------------------------------------------------- pickles

CODE = "open('was_here', 'w')"  # what an attack would run

GLOBALS = ['os system', 'posix system', 'builtins exec', 'builtins eval', 'builtins open', 'builtins getattr',
           'builtins __import__', 'subprocess Popen', 'pickle loads', 'numpy load', 'numpy fromfile',
           'numpy memmap', 'numpy._core.multiarray scalar', 'numpy._core.multiarray fromfile',
           'numpy.testing._private.utils runstring', 'torch load', 'ctypes CDLL',
           'importlib import_module', 'socket socket', 'support.safe_files write_pickles',
           'support.safe_files PickledArray', 'functools partial', 'operator attrgetter', '_codecs encode',
           'copyreg _reconstructor',
           'numpy ndarray.tofile', 'numpy dtype.__class__', 'builtins bytearray', 'collections OrderedDict']


def text(value):
    """A string in a pickle."""
    return b'\x8c' + bytes([len(value)]) + value.encode()


def array_pickle(dtype='f8', shape=b'K\x02K\x03\x86', content=bytes(48), order='<', is_fortran=b'\x89'):
    """A pickled array that claims what the arguments say. shape and is_fortran are opcodes."""
    return (b'cnumpy._core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R(K\x01' + shape
            + b'cnumpy\ndtype\n' + text(dtype) + b'\x89\x88\x87R(K\x03' + text(order)
            + b'NNNJ\xff\xff\xff\xffJ\xff\xff'
            b'\xff\xffK\x00tb' + is_fortran + b'B' + struct.pack('<I', len(content)) + content + b'tb')


def feature_pickle(array=None, label='s1', extra=b''):
    """The pickle of a feature file. extra: opcodes that put further entries into its dict."""
    array = array or array_pickle(shape=b'K\xc8K\x28\x86', content=np.zeros((200, 40)).tobytes())
    return b'\x80\x04}' + text('feat') + array + b's' + text('label') + text(label) + b's' + extra + b'.'


def pickle_attacks():
    """Pickles that call something, import something, or claim to be larger than they are."""
    found = {}
    for name in GLOBALS:
        module, attribute = name.split()
        callables = {'global': b'c%s\n%s\n' % (module.encode(), attribute.encode()),
                     'stack_global': text(module) + text(attribute) + b'\x93'}
        for kind, function in callables.items():
            found['%s %s reduce' % (kind, name)] = b'\x80\x04' + function + text(CODE) + b'\x85R.'
            found['%s %s named only' % (kind, name)] = b'\x80\x04' + function + b'.'
            found['%s %s newobj' % (kind, name)] = b'\x80\x04' + function + text(CODE) + b'\x85\x81.'
            found['%s %s newobj_ex' % (kind, name)] = b'\x80\x04' + function + text(CODE) + b'\x85}\x92.'
            found['%s %s obj' % (kind, name)] = b'\x80\x04(' + function + text(CODE) + b'o.'
        found['inst %s' % name] = b'(S"%s"\ni%s\n%s\n.' % (CODE.encode(), module.encode(), attribute.encode())

    buffer = b'cnumpy._core.numeric\n_frombuffer\n'
    found.update({
        'ext1': b'\x80\x02\x82\x01.', 'ext2': b'\x80\x02\x83\x01\x00.',
        'ext4': b'\x80\x02\x84\x01\x00\x00\x00.',
        'persistent id': b'\x80\x02K\x01Q.', 'persistent id as text': b'P1\n.',
        'next buffer': b'\x80\x05\x97.',
        'readonly buffer': b'\x80\x05N\x98.', 'protocol 255': b'\x80\xff}.',
        'build on a function': b'\x80\x04' + buffer + b'N}' + text('__defaults__') + b'K\x01\x85s\x86b.',
        'build on a class': b'\x80\x04cnumpy\ndtype\n}' + text('codes') + text('O') + b'sb.',
        'build with slots': b'\x80\x04cnumpy\ndtype\n' + text('f8') + b'\x85RN}' + text('__class__')
        + b'K\x01s\x86b.',
        'set': b'\x80\x04\x8f(K\x01\x90.', 'frozenset': b'\x80\x04(K\x01\x91.',
        'dup': b'\x80\x04K\x01' + b'2' * 1000 + b't.', 'nothing': b'', 'stop': b'.',
        'end of a list': b'\x80\x04]e.',
        'unhashable key': b'\x80\x04}]K\x01s.', 'mark alone': b'\x80\x04(.',
        'memo of nothing': b'\x80\x04h\x05.',
        # Claims
        'memo at 2**31 - 1': b'\x80\x04Nr\xff\xff\xff\x7f.', 'memo at 2**24': b'\x80\x04Nr\x00\x00\x00\x01.',
        'memo as text': b'\x80\x04Np999999999\n.', 'negative memo': b'\x80\x04Np-1\n.',
        'bytes of 2**62': b'\x80\x04\x8e' + struct.pack('<Q', 2**62) + b'abc.',
        'bytes of 2**64 - 1': b'\x80\x04\x8e' + struct.pack('<Q', 2**64 - 1) + b'abc.',
        'bytes of 4 GB': b'\x80\x04B\xff\xff\xff\xffabc.', 'string of 4 GB': b'\x80\x04X\xff\xff\xff\xffabc.',
        'string of 8 EB': b'\x80\x04\x8d' + struct.pack('<Q', 2**63 - 1) + b'abc.',
        'bytearray of 8 EB': b'\x80\x05\x96' + struct.pack('<Q', 2**63 - 1) + b'abc.',
        'frame of 8 EB': b'\x80\x04\x95' + struct.pack('<Q', 2**63 - 1) + b'N.',
        'frame past the end': b'\x80\x04\x95' + struct.pack('<Q', 50) + b'N.',
        'frame of none': b'\x80\x04\x95' + bytes(8) + b'N.',
        'long of 2 GB': b'\x80\x02\x8b\xff\xff\xff\x7f\x01.',
        'negative long': b'\x80\x02\x8b\xff\xff\xff\xff\x01.',
        'many digits': b'I' + b'9' * 200000 + b'\n.', 'many digits as long': b'L' + b'9' * 200000 + b'L\n.',
        'long of a megabyte': b'\x80\x02\x8b' + struct.pack('<I', 2**20) + b'\x7f' * 2**20 + b'.',
        # Containers
        'many lists': b'\x80\x04' + b']' * 200000 + b'.',
        'many dicts': b'\x80\x04(' + b'}' * 200000 + b't.',
        'many marks': b'\x80\x04' + b'(' * 200000 + b'.',
        'many tuples': b'\x80\x04)' + b'\x85' * 200000 + b'.',
        'nested lists': b'\x80\x04' + b']' * 5000 + b'a' * 4999 + b'.',
        'nested tuples': b'\x80\x04)' + b'\x85' * 9000 + b'.',
        'nested dicts': b'\x80\x04' + b'}K\x01' * 3000 + b'N' + b's' * 3000 + b'.',
        'list of itself': b'\x80\x04]\x94h\x00a.', 'dict of itself': b'\x80\x04}\x94K\x01h\x00s.',
        'tuple of a list of itself': b'\x80\x04]\x94h\x00\x85a.',
        'lists of ten of the last': b'\x80\x04]' + b''.join(b'\x94](' + (b'h' + bytes([i])) * 10 + b'e'
                                                            for i in range(30)) + b'.',
        'dicts of ten of the last': b'\x80\x04}' + b''.join(
            b'\x94}(' + b''.join(b'K' + bytes([k]) + b'h' + bytes([i]) for k in range(10)) + b'u'
            for i in range(30)) + b'.',
        'tuples of the last twice as a key': b'\x80\x04})' + b''.join(
            b'\x94h' + bytes([i]) + b'\x86' for i in range(60)) + b'Ns.',
        'nested tuples as a key': b'\x80\x04B' + struct.pack('<I', 2 * 10**6) + bytes(2 * 10**6) + (
            b'})' + b'\x85' * 400000 + b'Ns.'),
        'tuples of the last twice': b'\x80\x04)'
        + b''.join(b'\x94h' + bytes([i]) + b'\x86' for i in range(60)) + b'.',
    })

    content = bytes(8 * 10000)
    found['one buffer as 1000 arrays'] = (  # 80 MB of 80 kB
        b'\x80\x05' + buffer + b'\x94B' + struct.pack('<I', len(content)) + content
        + b'\x94cnumpy\ndtype\n' + text('f8') + b'\x89\x88\x87R(K\x03' + text('<')
        + b'NNNK\x00K\x00K\x00tb\x94('
        + (b'h\x00(h\x01h\x02M\x10\x27\x85' + text('C') + b'tR') * 1000 + b't.')
    arrays = {
        'objects': {'dtype': 'O'}, 'objects of 8 bytes': {'dtype': 'O8'}, 'strings': {'dtype': 'U4'},
        'dates': {'dtype': 'M8[s]'},
        'void': {'dtype': 'V8'}, 'a struct': {'dtype': 'f4,f4'},
        'nested brackets': {'dtype': '(' * 200 + 'f8'},
        'no dtype': {'dtype': ''}, 'rubbish': {'dtype': '\u20ac8'}, 'another order': {'order': '<f8,'},
        'long double': {'dtype': 'f16'},
        'complex': {'dtype': 'c16'}, 'shape of strings': {'shape': text('a') + b'\x85'},
        'shape of None': {'shape': b'N'},
        'shape 2**62': {'shape': b'\x8a\x08' + struct.pack('<Q', 2**62) + b'\x85'},
        'shape 10**9 x 10**9': {'shape': b'J\x00\xca\x9a\x3bJ\x00\xca\x9a\x3b\x86'},
        'shape 0 x 2**31': {'shape': b'K\x00J\xff\xff\xff\x7f\x86', 'content': b''},
        'negative shape': {'shape': b'J\xff\xff\xff\xff\x85'},
        'two negative': {'shape': b'J\xff\xff\xff\xffJ\xff\xff\xff\xff\x86'},
        '100 dimensions': {'shape': b'(' + b'K\x01' * 100 + b't'},
        'too few bytes': {'content': bytes(40)}, 'odd bytes': {'content': bytes(47)},
        'no bytes': {'content': b''},
        'order of a list': {'is_fortran': b']'},
    }
    found.update({'array: ' + name: b'\x80\x04' + array_pickle(**how) + b'.' for name, how in arrays.items()})
    found.update({'feature: ' + name: feature_pickle(array_pickle(**how)) for name, how in arrays.items()})
    found['array without a state'] = b'\x80\x04cnumpy._core.multiarray\n_reconstruct\nN\x85R.'
    found['type itself'] = b'\x80\x04cnumpy\nndarray\nJ\xff\xff\xff\x7f\x85\x85R.'

    values = np.ones((200, 40))
    for name, value in (('NaN', np.nan), ('infinity', np.inf), ('1e308', 1e308), ('-infinity', -np.inf)):
        values[100, 3] = value
        found['feature: ' + name] = pickle.dumps({'feat': values, 'label': 's1'}, 4)
    for name, bad in (('integers', np.ones((200, 40), int)), ('bools', np.ones((200, 40), bool)),
                      ('no frames', np.ones((0, 40))),
                      ('one frame', np.ones((1, 40))), ('one dimension', np.ones(200)),
                      ('a cube', np.ones((200, 40, 1))),
                      ('a list', [[1.0] * 40] * 200), ('41 rows', np.ones((200, 41))),
                      ('no rows', np.ones((200, 0)))):
        found['feature: ' + name] = pickle.dumps({'feat': bad, 'label': 's1'}, 4)
    for name, label in (('no label', None), ('label of a list', ['s1']), ('label of bytes', b's1'),
                        ('label 1', 1)):
        found['feature: ' + name] = pickle.dumps({'feat': np.ones((200, 40)), 'label': label}, 4)
    many = ['x' * 10000] * 2000
    for name, settings in (('a list', [1]), ('None', None), ('a string', 'x'),
                           ('of lists', {'USE_MFCC': many}),
                           ('two lines', {'a\nb': 1}), ('long names', {'x' * 100000: 1}), ('numbers', {1: 2}),
                           ('NaN', {'ENERGY_FLOOR': float('nan')})):
        found['settings: ' + name] = pickle.dumps({'feat': np.ones((200, 40)), 'label': 's1',
                                                   'settings': settings}, 4)
    return found


def enrolment_attacks():
    """Enrolments that must not be scored."""
    good = np.ones((1, 16), np.float32)
    contents = {'nobody': {}, 'a list': [1, 2], 'zero': {'a': 0 * good}, 'NaN': {'a': np.nan * good},
                'infinity': {'a': np.inf * good},
                'one of them zero': {'a': good, 'b': 0 * good}, 'too large': {'a': good * np.float32(1e30)},
                'tiny': {'a': good * np.float32(1e-30)}, 'overflow': {'a': np.full((1, 16), 1e300)},
                'two sizes': {'a': good, 'b': np.ones((1, 15), np.float32)},
                'two rows': {'a': np.ones((2, 16))},
                'no numbers': {'a': np.ones((1, 0))},
                'integers': {'a': np.ones((1, 16), int)}, 'names of numbers': {1: good}, 'text': {'a': 'b'},
                'None': {'a': None}}
    return {name: pickle.dumps(content, 4) for name, content in contents.items()}


# ------------------------------------------------------------------------------------- recordings

def chunk(name, content, size=None):
    """A chunk of a wav file. size: what it claims."""
    size = len(content) if size is None else size
    return name + struct.pack('<I', size) + content + bytes(len(content) % 2)


def wav(samples=bytes(64000), *, tag=1, channels=1, rate=16000, byte_rate=None, align=None, bits=16, more=b'',
        before=b'',
        after=b'', claimed=None, riff_size=None, riff=b'RIFF', wave=b'WAVE'):
    """A wav file that claims what the arguments say. Without arguments it says the truth."""
    align = channels * bits // 8 if align is None else align
    byte_rate = (rate * align) % 2**32 if byte_rate is None else byte_rate
    form = struct.pack('<HHIIHH', tag, channels, rate, byte_rate, align, bits) + more
    body = wave + before + chunk(b'fmt ', form) + chunk(b'data', samples, claimed) + after
    return riff + struct.pack('<I', len(body) if riff_size is None else riff_size) + body


def extensible(sub_format=b'\x01\x00\x00\x00\x00\x00\x10\x00\x80\x00\x00\xaa\x00\x38\x9b\x71', size=22,
               valid_bits=16):
    return struct.pack('<HHI', size, valid_bits, 4) + sub_format


def syllables(dtype=np.int16, scale=2**14):
    """A valid recording: three seconds of a tone that comes and goes, with silence before and after it."""
    t = np.arange(48000) / 16000
    tone = np.pad(np.sin(2 * np.pi * 700 * t) * np.sin(2 * np.pi * 3 * t) ** 4, 9600)
    return (scale * (0.5 * tone + 1e-4 * np.random.default_rng(0).standard_normal(len(tone)))).astype(dtype)


def wav_attacks():
    """Wav files with absurd headers, chunks that end too early or never, samples that are no numbers."""
    found = {'empty': b'', 'RIFF alone': b'RIFF', 'no chunk': wav()[:12], 'cut in fmt': wav()[:30],
             'cut in data': wav()[:5001],
             'rubbish': bytes(range(256)) * 20, 'ones': b'\xff' * 5000, 'text': b'this is no wav',
             'FLAC': b'fLaC' + bytes(100),
             'no samples': wav(b''), 'one sample': wav(b'\x01\x00'), 'one byte': wav(b'\x01'),
             'odd bytes': wav(bytes(64001)),
             'data before fmt': b'RIFF' + struct.pack('<I', 1000) + b'WAVE' + chunk(b'data', bytes(500)),
             'two fmt': wav(before=chunk(b'fmt ', struct.pack('<HHIIHH', 1, 0, 0, 0, 0, 0))),
             'two data': wav(after=chunk(b'data', bytes(99))),
             'second data is empty': wav(after=chunk(b'data', b'')),
             'no fmt': b'RIFF' + bytes(4) + b'WAVE' + chunk(b'data', bytes(99)),
             'many empty chunks': wav(before=chunk(b'junk', b'') * 20000),
             'many data chunks': wav(after=chunk(b'data', bytes(2)) * 5000),
             'fmt of 4 GB': b'RIFF\xff\xff\xff\xffWAVEfmt \xff\xff\xff\xff' + bytes(200),
             'fmt of 2 bytes': b'RIFF\xc8\x00\x00\x00WAVE' + chunk(b'fmt ', b'\x01\x00')
             + chunk(b'data', bytes(99)),
             'unknown chunk of 4 GB': wav(before=chunk(b'LIST', bytes(8), 2**32 - 1)),
             'AVI': wav(wave=b'AVI '),
             'RIFX': wav(riff=b'RIFX'),
             'RF64 without ds64': wav(riff=b'RF64'), 'XFIR': wav(riff=b'XFIR')}
    for size in (0, 1, 2**31 - 1, 2**31, 2**32 - 1):
        found['data claims %d' % size] = wav(claimed=size)
        found['riff claims %d' % size] = wav(riff_size=size)
        found['both claim %d' % size] = wav(claimed=size, riff_size=size)
        found['float data claims %d' % size] = wav(tag=3, bits=32, claimed=size, riff_size=size)
        found['24-bit data claims %d' % size] = wav(bits=24, claimed=size, riff_size=size)
    for size in (0, 15, 16, 28, 2**32 - 1):
        for data_size in (0, 64000, 2**40, 2**62, 2**63, 2**64 - 1):
            body = wav(samples=bytes(64000), claimed=2**32 - 1)[12:]
            found['RF64 ds64 %d data %d' % (size, data_size)] = (
                b'RF64\xff\xff\xff\xffWAVEds64'
                + struct.pack('<IQQQI', size, len(body) + 80, data_size, 0, 0) + body)
    for rate in (0, 1, 7, 7999, 8000, 11025, 15999, 44101, 47999, 383987, 383999, 384000, 384001, 2**31,
                 2**32 - 1):
        found['rate %d' % rate] = wav(syllables().tobytes(), rate=rate)
    for channels in (0, 2, 3, 255, 256, 32768, 65535):
        found['%d channels' % channels] = wav(channels=channels, align=(2 * channels) % 2**16)
        found['%d channels in 2 bytes' % channels] = wav(channels=channels, align=2)
    for bits in (0, 1, 4, 7, 8, 9, 12, 17, 20, 24, 31, 32, 33, 48, 63, 64, 65, 128, 65535):
        for tag in (1, 3):
            found['%d bits of %d' % (bits, tag)] = wav(tag=tag, bits=bits, align=-(-bits // 8))
            found['%d bits of %d in 4 bytes' % (bits, tag)] = wav(tag=tag, bits=bits, align=4)
    for align in (0, 1, 3, 5, 6, 7, 8, 4096, 65535):
        found['blocks of %d' % align] = wav(align=align)
        found['blocks of %d, floats' % align] = wav(tag=3, bits=32, align=align)
    for tag in (0, 2, 6, 7, 17, 85, 0xF1AC, 0xFFFF):
        found['format %d' % tag] = wav(tag=tag)
    found.update({
        'wrong byte rate': wav(byte_rate=1), 'extensible': wav(tag=0xFFFE, more=extensible()),
        'extensible, not': wav(tag=0xFFFE),
        'extensible of 0 bytes': wav(tag=0xFFFE, more=extensible(size=0)),
        'extensible of 65535': wav(tag=0xFFFE, more=extensible(size=65535)),
        'extensible of rubbish': wav(tag=0xFFFE, more=extensible(b'\xff' * 16)),
        'extensible, short': wav(tag=0xFFFE, more=extensible()[:10]),
        'extensible mu-law': wav(tag=0xFFFE, more=extensible(b'\x07' + extensible()[9:])),
        'extensible of 3 valid bits': wav(tag=0xFFFE, more=extensible(valid_bits=3)),
        'extensible in extensible': wav(tag=0xFFFE, more=extensible(b'\xfe\xff' + extensible()[10:]))})
    audio = syllables(np.float32, 1)
    for name, value in (('NaN', np.nan), ('infinity', np.inf), ('-infinity', -np.inf), ('1e38', 1e38),
                        ('3', 3),
                        ('1e-40', 1e-40)):
        spoilt = audio.copy()
        spoilt[30000] = value
        found['a sample of ' + name] = wav(spoilt.tobytes(), tag=3, bits=32)
        found['all samples of ' + name] = wav(np.full_like(audio, value).tobytes(), tag=3, bits=32)
    found['doubles of 1e308'] = wav(np.full(40000, 1e308).tobytes(), tag=3, bits=64)
    found['silence'], found['full scale'] = wav(bytes(64000)), wav(np.full(32000, -32768, np.int16).tobytes())
    found['alternating'] = wav(np.tile(np.array([32767, -32768], np.int16), 24000).tobytes())
    return found


def ffmpeg_attacks():
    """Files for ffmpeg that hold no recording, or ask it to fetch one from somewhere else."""
    return {'a.mp3': b'this is no recording',
            'b.m4a': b'#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9.0,\nhttp://127.0.0.1:9/a.ts\n'
                     b'#EXT-X-ENDLIST\n',
            'c.ogg': b'v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 9 RTP/AVP 0\n'}


# ------------------------------------------------------------------------------------- checkpoints

def rewritten(checkpoint, change=lambda name, content: content, compression=zipfile.ZIP_STORED, more=()):
    """The file of a checkpoint whose entries are changed or compressed. more: further (name, bytes)."""
    old, new = io.BytesIO(), io.BytesIO()
    torch.save(checkpoint, old)
    with zipfile.ZipFile(old) as source, zipfile.ZipFile(new, 'w', compression) as target:
        for entry in source.infolist():
            target.writestr(entry.filename, change(entry.filename, source.read(entry)))
        for name, content in more:
            target.writestr(name, content)
    return new.getvalue()


def with_pickle(opcodes):
    """A checkpoint whose pickle is these opcodes."""
    return rewritten({'state_dict': {}},
                     lambda name, content: opcodes if name.endswith('data.pkl') else content)


def two_in_one(for_python, for_pytorch):
    """A zip file that holds one checkpoint for Python's zipfile and another for PyTorch.

    The two look for the directory of a zip file in different places.
    """
    places = []
    for content in (for_python, for_pytorch):
        size, start = struct.unpack('<II', content[-10:-2])
        places.append((content[:start], bytearray(content[start:start + size])))
    (body, directory), (other_body, other_directory) = places
    assert len(directory) == len(other_directory)
    filler = bytes(len(directory))  # zipfile believes that so much was put before the archive
    entry = 0
    while entry < len(directory):
        n_name, n_extra, n_comment = struct.unpack('<HHH', directory[entry + 28:entry + 34])
        begin = struct.unpack('<I', directory[entry + 42:entry + 46])[0] + len(other_body)
        directory[entry + 42:entry + 46] = struct.pack('<I', begin)
        entry += 46 + n_name + n_extra + n_comment
    end = for_pytorch[-22:-6] + struct.pack('<I', len(other_body + filler + body)) + bytes(2)
    return other_body + filler + body + bytes(other_directory) + bytes(directory) + end


def checkpoint_attacks(state_dict):
    """Checkpoints that must not be loaded. Most are of a network with this state_dict.

    Two pickles that keep torch.load itself busy for ever are left out. In one of them, a key of a dict is a
    tuple that holds the same tuple twice, which holds the same tuple twice, and so on; Python visits all of
    them for its hash.
    """
    found = {name: with_pickle(b'\x80\x02' + opcodes + b'.') for name, opcodes in {
        'bytearray of 20 GB': b'cbuiltins\nbytearray\n\x8a\x05\x00\x00\x00\x00\x05\x85R',
        'tensor of 4 GB': b'ctorch\nFloatTensor\nJ\x00\x00\x00\x40\x85R', 'set': b'cbuiltins\nset\n)R',
        'code': b'cposix\nsystem\n' + b'X\x02\x00\x00\x00ls\x85R',
        'code in torch': b'ctorch\nload\nX\x01\x00\x00\x00x\x85R',
        'eval': b'cbuiltins\neval\nX\x03\x00\x00\x001+1\x85R', 'getattr': b'cbuiltins\ngetattr\nNN\x86R',
        'encode': b'c_codecs\nencode\nNN\x86R',
        'many lists': b']' * 200000, 'string of 4 GB': b'X\xff\xff\xff\xffabc',
        'memo at 2**31': b'Nr\xff\xff\xff\x7f',
        'no storage': b'(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x007X\x03\x00\x00\x00'
                      b'cpuK\x04tQ',
        'lists of ten of the last': b']' + b''.join(
            b'q' + bytes([i]) + b'](' + (b'h' + bytes([i])) * 10 + b'e' for i in range(30)),
        'list of itself': b']q\x00h\x00a', 'nothing': b'',
        'tensor beyond its storage': b'ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\n'
                                     b'FloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x00tQK\x00'
                                     b'J\x00\x00\x00\x40'
                                     b'\x85K\x01\x85\x89}tR',
        'storage of minus one': b'(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000'
                                b'X\x03\x00\x00\x00cpuJ\xff\xff\xff\xfftQ'}.items()}
    weights = {'state_dict': state_dict}
    huge = {**state_dict, 'last.weight': torch.zeros(1).expand(10**6, 10**6)}
    wide = {**state_dict, 'last.weight': torch.zeros(1, 200000)}  # fc0 would take 100 MB
    legacy = io.BytesIO()
    torch.save({'state_dict': huge}, legacy, _use_new_zipfile_serialization=False)
    packed = rewritten({'state_dict': {'last.weight': torch.zeros(10**7)}}, compression=zipfile.ZIP_DEFLATED)
    nan = {**state_dict, 'fc0.bias': torch.full_like(state_dict['fc0.bias'], torch.nan)}
    size = len(state_dict['fc0.bias'])
    nowhere = {**state_dict, 'last.weight': torch.zeros(10**6, 10**6, device='meta')}
    nearly_empty = torch.sparse_coo_tensor(torch.zeros(2, 0).long(), torch.zeros(0), (10**6, 10**6),
                                           check_invariants=True)
    for name, checkpoint in {
            'repeated rows': {'state_dict': huge}, 'a wide layer': {'state_dict': wide},
            'NaN weights': {'state_dict': nan}, 'weights of no device': {'state_dict': nowhere},
            'nearly empty weights': {'state_dict': {**state_dict, 'last.weight': nearly_empty}},
            'no state_dict': {'a': 1}, 'a list': [1], 'state_dict of a list': {'state_dict': [1]},
            'state_dict of numbers': {'state_dict': {'a': 1}},
            'names of numbers': {'state_dict': {1: torch.ones(1)}},
            'features of a list': {**weights, 'features': [1]},
            'features of None': {**weights, 'features': None},
            'features of tensors': {**weights, 'features': {'USE_MFCC': torch.ones(2)}},
            'other features': {**weights, 'features': {'FILTER_BANK': 23}},
            'unknown backbone': {**weights, 'backbone': 'x'},
            'backbone of a list': {**weights, 'backbone': [1]},
            'a larger backbone': {**weights, 'backbone': 'resnet50'},
            'head of a list': {**weights, 'head': [1] * 3, 'pooling': 'x'},
            'mean of one number': {**weights, 'mean': torch.ones(1, 1)},
            'mean of many rows': {**weights, 'mean': torch.ones(1000, size)},
            'mean of NaN': {**weights, 'mean': torch.full((1, size), torch.nan)},
            'mean of text': {**weights, 'mean': 'x'},
            'lda of another size': {**weights, 'lda': torch.ones(3, 2)},
            'lda of repeated rows': {**weights, 'lda': torch.zeros(1).expand(size, 10**8)},
            'wccn of a vector': {**weights, 'wccn': torch.ones(size)}}.items():
        found[name] = rewritten(checkpoint)
    found.update({
        'zip bomb': packed, 'repeated rows, before 2020': legacy.getvalue(),
        'zip bomb beside it': rewritten(weights, compression=zipfile.ZIP_DEFLATED,
                                        more=[('archive/x', bytes(10**7))]),
        'storage too short': rewritten(weights,
                                       lambda name, content: content[:5] if '/data/' in name else content),
        'empty': b'', 'rubbish': bytes(range(256)) * 9, 'zip of nothing': b'PK\x05\x06' + bytes(18),
        'cut': rewritten(weights)[:3000],
        'pickle of code': b'cposix\nsystem\n(S"ls"\ntR.',
        'tar': b'storages'.ljust(257, b'\0') + b'ustar\x0000' + bytes(2000),
        'code before a zip': b'\x80\x02cposix\nsystem\nX\x02\x00\x00\x00ls\x85R.' * 5 + rewritten(weights),
        'huge before a zip': legacy.getvalue() + rewritten(weights),
        'bytearray in capitals': found['bytearray of 20 GB'].replace(b'data.pkl', b'DATA.PKL'),
        'two in one': two_in_one(rewritten({'state_dict': {}}), with_pickle(b'\x80\x02cbuiltins\neval\n)R.')),
        'empty pickles': b'\x80\x02N.' * 5})
    return found


# ------------------------------------------------------------------------------------- trial lists

def trial_attacks():
    """Trial lists that hold no trials."""
    return {'empty': b'', 'one endless line': b'1 a b ' * 300000, 'one endless word': b'1' * 2000000,
            'spaces': b' ' * 500000,
            'lines': b'\n' * 100000, 'zeros': bytes(100000), 'latin-1': b'1 M\xfcller/a.p b.p\n0 a b\n',
            'rubbish': bytes(range(256)) * 50,
            'utf-16': '1 a b\n0 a c\n'.encode('utf-16'), 'one kind': b'1 a b\n' * 5, 'numbers': b'0.5 a b\n',
            'two fields': b'1 a\n',
            'two lines in one': b'1 a b 0 a c\n', 'separators': '1 a b\x1c0 a c\u20280 b c'.encode(),
            'surrogates': b'1 \xed\xa0\x80 b\n0 a b\n'}
