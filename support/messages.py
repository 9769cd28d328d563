"""What a person at the keyboard sees: settings on the command line, errors in one or two lines, progress bars."""
import ast
import inspect
import multiprocessing
import os
import re
import signal
import sys
import threading
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from tqdm import tqdm


class LabError(Exception):
    """A mistake that the person at the keyboard can correct. The message says what is wrong, where, and what to do."""


class NoSpeech(LabError):
    """A recording without speech, or with too little of it."""


def in_one_line(error):
    """The message of an exception, short enough to be a part of another message."""
    return ' '.join(str(error).split())[:200] or type(error).__name__


def run_script(main, *, files=(), with_files=None):
    """Call main() with the settings of the command line. A user's mistake ends in one or two lines and exit code 1.

    files: settings that words without a name are given to, in this order. with_files: dict setting -> default, instead
    of that of main(), if any of them is given.
    """
    try:
        if {'-h', '--help'} & set(sys.argv[1:]):
            print(describe_settings(main))
        else:
            settings = read_command_line(main, name_files(sys.argv[1:], files))
            main(**{**(with_files or {}), **settings} if set(files) & set(settings) else settings)
    except (LabError, OSError) as error:
        sys.exit('Error: %s' % error)
    except KeyboardInterrupt:
        sys.exit('Stopped by Ctrl-C.')


def name_files(arguments, files):
    """Write 'a.wav' as '--enroll_file=a.wav', if the first of `files` is enroll_file, and so on."""
    words, named = [], []
    for argument in arguments:
        (named if argument.startswith('--') else words).append(argument)
    if len(words) > len(files) and files:
        raise LabError('%s: too many names of recordings. This script takes %d.' % (words[len(files)], len(files)))
    return named + ['--%s=%s' % pair for pair in zip(files, words)] + words[len(files):]


def defaults_of(main):
    """The settings of main(): dict name -> default."""
    return {name: parameter.default for name, parameter in inspect.signature(main).parameters.items()}


def read_command_line(main, arguments):
    """Settings of main() from arguments such as '--n_epochs=4': dict name -> value.

    A value is a Python literal (4, 0.1, None, [1, 2]); a bare word is a string. A setting that is a string by default
    takes its value as it stands, so --test_speaker=7021 needs no quotes. Raises LabError for an unknown name.
    """
    defaults, settings = defaults_of(main), {}
    for argument in arguments:
        name, equals, text = argument.removeprefix('--').partition('=')
        if not argument.startswith('--') or not equals:
            raise LabError('%s: write a setting as --name=value, for example --%s. All settings: --help'
                           % (argument, '%s=%s' % next(iter(defaults.items()), ('name', 'value'))))
        if name not in defaults:
            raise LabError('unknown setting: %s. Choose one of %s.' % (name, ', '.join(defaults) or 'none'))
        settings[name] = read_value(text, isinstance(defaults[name], str))
    return settings


def read_value(text, is_text):
    """The value that `text` stands for. is_text: the setting is a string, so numbers are names, too."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return text
    return text if is_text and isinstance(value, (int, float)) else value


def describe_settings(main):
    """The settings of main() with their defaults, and their comments as they stand in the source."""
    defaults = defaults_of(main)
    lines = inspect.getsource(main).split('):\n')[0].splitlines()[1:]
    shown = [inspect.getmodule(main).__doc__.strip(), '']
    for line in lines:
        heading, setting = re.fullmatch(r' *# (.*)', line), re.fullmatch(r' *(\w+)=.*?, *# (.*)', line)
        if heading:
            shown.append('\n%s (--name=value)' % heading.group(1))
        elif setting:
            name, comment = setting.groups()
            shown.append('  --%-40s %s' % ('%s=%s' % (name, defaults[name]), comment))
    return '\n'.join(shown)


def in_parallel(function, tasks, description):
    """[function(task) for task in tasks], on all cores, with a progress bar if a person is watching."""
    with ProcessPoolExecutor(initializer=begin_worker) as pool:
        try:
            # A worker that is just starting would answer Ctrl-C with a traceback. It inherits that Ctrl-C is ignored
            handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
            pool.submit(os.getpid)
            signal.signal(signal.SIGINT, handler)
            results = pool.map(function, tasks, chunksize=4)
            return list(tqdm(results, total=len(tasks), desc=description, disable=None))
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)
            raise
        except BrokenProcessPool as error:
            raise LabError('Another program ended a part of the work, perhaps because the memory was full.\n'
                           'Close other programs, or split long recordings, and run this again.') from error


def begin_worker():
    """Leave Ctrl-C to the process that started this one, and end when that process is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=end_with_parent, daemon=True).start()


def end_with_parent():
    multiprocessing.parent_process().join()
    os._exit(1)
