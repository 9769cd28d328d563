"""Read audio files: wavs by numpy alone, all other formats by the program ffmpeg.

What other programs write often has wrong sizes in its header. So a wav is read as far as it goes, and a
remark says what is odd about it.
"""
import re
import shutil
import struct
import subprocess

import numpy as np

import configure as c
from support.messages import LabError, in_one_line
from support.safe_files import read_whole

WAV_FORMATS = ('.wav', '.wave')
FFMPEG_FORMATS = ('.mp3', '.m4a', '.aac', '.flac', '.ogg', '.oga', '.opus', '.wma', '.webm', '.mp4', '.mov',
                  '.3gp', '.amr', '.aiff', '.aif', '.aifc', '.caf', '.au', '.w64')
QUIET_FOR_8_BITS = 10 ** (-30 / 20)  # RMS of all samples, pauses too: -30 dBFS
STREAMED = 0x7ff00000  # bytes: a program that writes into a pipe promises so much, or more
PCM, FLOATS, EXTENSIBLE = 1, 3, 0xfffe  # how samples are coded; 'extensible': it is said further down
FROM_FFMPEG = {  # what it says -> what that means
    'moov atom not found': 'The recorder stopped before the file was whole. Copy it from the device again, '
                           'or record again.',
    'does not contain any stream': 'It holds no sound. Choose another file.',
    'matches no streams': 'It holds no sound. Choose another file.',
    '': 'Open it in an audio program and save it as 16-bit PCM wav.'}


def is_wav(filename):
    return str(filename).lower().endswith('.wav')


def is_recording(filename):
    """Whether the name is that of a wav file, or of another audio file that ffmpeg can read."""
    return str(filename).lower().endswith(WAV_FORMATS + FFMPEG_FORMATS)


def read_recording(filename):
    """Read a recording as it is.

    Returns (samples (n_samples, n_channels) of floats in [-1, 1], rate in Hz, remark: what is odd about the
    file, or ''). Raises LabError if it cannot be read.
    """
    is_own = str(filename).lower().endswith(WAV_FORMATS)
    samples, rate, remark = read_wav(filename) if is_own else read_through_ffmpeg(filename)
    if not len(samples):
        raise LabError('%s: holds no samples. Record again, or choose another file.' % filename)
    return samples, rate, remark


def quoted(filename):
    """The name of a file as a command line needs it."""
    return str(filename) if re.fullmatch(r'[\w./\\:-]+', str(filename)) else '"%s"' % filename


def read_wav(filename):
    """Read a wav file of 8, 16, 24, 32 or 64-bit PCM or of floats. Returns what read_recording does.

    ffmpeg reads those that are coded in another way, and files of other formats with the name of a wav.
    """
    content = read_whole(filename)
    try:
        return decode_wav(content)
    except ValueError as error:
        has_ffmpeg = shutil.which('ffmpeg') is not None
        if has_ffmpeg and content:
            try:
                return read_through_ffmpeg(filename)
            except LabError:
                pass  # what our own reader found says more
        advice = '.' if has_ffmpeg else ', or convert it: ffmpeg -i %s new.wav' % quoted(filename)
        raise LabError('%s: not a wav file that can be read (%s).\nOpen it in an audio program and save it '
                       'as 16-bit PCM wav%s' % (filename, in_one_line(error), advice)) from error


def decode_wav(content):
    """Decode the bytes of a wav file. Returns what read_recording does. Raises ValueError if it is none."""
    tagged = content.startswith(b'ID3') and re.search(b'RIF[FX].{4}WAVE', content, re.DOTALL)
    start = tagged.start() if tagged else 0  # after a tag of music programs
    kind = content[start:start + 4]
    if kind == b'vers' and b'git-lfs' in content[:100]:
        raise ValueError('only a pointer of Git LFS; run git lfs pull')
    if kind not in (b'RIFF', b'RIFX', b'RF64', b'BW64') or content[start + 8:start + 12] != b'WAVE':
        raise ValueError('it begins with %r' % content[:12].decode('latin-1') if content else 'it is empty')
    order = '>' if kind == b'RIFX' else '<'
    form, first, size = find_chunks(content, start + 12, order)
    coding, n_channels, rate, _, frame_bytes, bits = struct.unpack(order + 'HHIIHH', form[:16])
    if coding == EXTENSIBLE and len(form) >= 26:
        coding = struct.unpack(order + 'H', form[24:26])[0]
    if not n_channels:
        raise ValueError('it has no channel')
    width = frame_bytes // n_channels or (bits + 7) // 8  # bytes of a sample
    if coding == PCM and (bits, width) == (16, 4):
        raise ValueError('samples of 16 bits do not fill 4 bytes')
    stop, says = first_and_last(content, first, size, order)
    n_samples = (stop - first) // (width * n_channels or 1)
    seconds, promised = n_samples / max(rate, 1), size / max(rate * width * n_channels, 1)
    remark = says % (promised, seconds) if says and abs(promised - seconds) > 0.05 else ''
    data = memoryview(content)[first:first + n_samples * width * n_channels]
    samples = to_floats(data, coding, width, order).reshape(-1, n_channels)
    if width == 1 and len(samples) and np.sqrt(np.mean(samples ** 2)) < QUIET_FOR_8_BITS:
        remark = (remark + '; ' if remark else '') + 'it is quiet, so its 8 bits are coarse: record with 16 bits'
    return samples, rate, remark


def seconds_of_wav(content):
    """How long the bytes of a wav file play, by their header: nothing is decoded. 0 if the header is odd."""
    try:
        form, first, size = find_chunks(content, 12, '<')
        per_second = struct.unpack('<I', form[8:12])[0]
        return min(size, len(content) - first) / max(per_second, 1)
    except (ValueError, struct.error):
        return 0


def find_chunks(content, at, order):
    """The chunks that a wav needs: (the bytes of 'fmt ', where the samples begin, how many bytes it says).

    at: where the first chunk begins. Raises ValueError if one of them is missing.
    """
    form, data, long_size = b'', None, 0
    while at + 8 <= len(content) and not (form and data and (
            data[1] or not begins_chunk(content, data[0], order))):  # an empty one may come first
        name, size = content[at:at + 4].lower(), struct.unpack(order + 'I', content[at + 4:at + 8])[0]
        at += 8
        if name == b'fmt ' and not form:
            form = content[at:at + size]
        elif name == b'ds64':  # of files above 4 GB
            long_size = struct.unpack(order + 'Q', content[at + 8:at + 16].ljust(8, b'\0'))[0]
        elif name == b'data':
            data = at, long_size or size
        at += size
        if size % 2 and content[at:at + 4].lower() not in (b'fmt ', b'data'):  # some programs do not fill up
            at += 1
    if len(form) < 16:
        raise ValueError('its header ends too early')
    if data is None:
        raise ValueError('it has no samples')
    return (form, *data)


def first_and_last(content, first, size, order):
    """Where the samples end that begin at `first`, and a remark if the size in the header is wrong, or ''."""
    stop = first + size
    if stop > len(content):
        return len(content), '' if size >= STREAMED else (
            'its header says %.1f s, and it ends after %.1f s: it was cut off')
    if stop == len(content) or begins_chunk(content, stop, order) or begins_chunk(content, stop + 1, order):
        return stop, ''
    if len(content) - stop < 1000:  # rubbish at the end
        return stop if size else len(content), ''
    return len(content), '' if not size else 'its header says %.1f s, and it holds %.1f s: all of it is read'


def begins_chunk(content, at, order):
    """Whether a chunk begins here: a name of four printable letters, and a size that fits."""
    name, size = content[at:at + 4], content[at + 4:at + 8]
    return (len(size) == 4 and all(32 <= letter < 127 for letter in name)
            and at + 8 + struct.unpack(order + 'I', size)[0] <= len(content) + 1)


def to_floats(data, coding, width, order):
    """Samples as floats in [-1, 1], of the bytes of a wav: (n_values,). Raises ValueError for other codes."""
    if coding == FLOATS and width in (4, 8):
        with np.errstate(invalid='ignore'):  # read_mono refuses NaN
            return np.frombuffer(data, '%sf%d' % (order, width)).astype('f%d' % width)
    if coding != PCM or width not in (1, 2, 3, 4, 8):
        raise ValueError('samples of %d bytes in code %d are not supported' % (width, coding))
    if width == 1:  # 8-bit wavs are unsigned, with silence at 128
        return (np.frombuffer(data, np.uint8) - np.float32(128)) / np.float32(128)
    if width == 3:  # they become the upper three bytes of four
        parts = np.frombuffer(data, np.uint8).reshape(-1, 3)[:, ::1 if order == '<' else -1]
        samples = np.zeros((len(parts), 4), np.uint8)
        samples[:, 1:] = parts
        return samples.view('<i4')[:, 0] / np.float32(2 ** 31)
    exact = np.float32 if width == 2 else np.float64  # the smaller one that holds each sample as it is
    return np.frombuffer(data, '%si%d' % (order, width)) / exact(2.0 ** (8 * width - 1))


def read_through_ffmpeg(filename):
    """Read an audio file of another format with the program ffmpeg. Returns what read_recording does."""
    if shutil.which('ffmpeg') is None:
        name = str(filename).rpartition('.')[0] + '.wav'
        raise LabError('%s: only wavs are read without ffmpeg, which is not installed. Install it, or '
                       'convert\nthe file where it is: ffmpeg -i %s %s'
                       % (filename, quoted(filename), quoted(name)))
    read_whole(filename)  # a pipe or a device is refused
    command = ['ffmpeg', '-nostdin', '-loglevel', 'error', '-protocol_whitelist', 'file,pipe',
               '-i', 'file:%s' % filename, '-f', 'wav', '-c:a', 'pcm_f32le', '-ar', str(c.SAMPLE_RATE), '-']
    done = subprocess.run(command, capture_output=True)
    said = in_one_line(done.stderr.decode(errors='replace')) if done.stderr else ''
    try:
        samples, rate, _ = decode_wav(done.stdout)
    except ValueError:
        samples = []
    if not len(samples):
        advice = next(advice for words, advice in FROM_FFMPEG.items() if words in said)
        raise LabError('%s: ffmpeg cannot read it (%s).\n%s'
                       % (filename, said or 'it holds no sound', advice))
    return samples, rate, 'ffmpeg could not read all of it (%s)' % said if done.returncode else ''
