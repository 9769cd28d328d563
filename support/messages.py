"""What a person at the keyboard sees: settings on the command line, errors in one or two lines, progress bars."""
import ast
import inspect
import math
import multiprocessing
import os
import re
import signal
import sys
import threading
import unicodedata
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress

from tqdm import tqdm


FULL_MEMORY = 'out of memory|allocate memory|not enough memory'  # of a GPU, of Linux, of Windows
FOR_RECORDINGS = ('\nFor your own recordings: python -m own_voice.compare a.wav b.wav, or '
                  'python -m own_voice.who x.wav')


class LabError(Exception):
    """A mistake that the person at the keyboard can correct. The message says what is wrong, where, and what to do."""


class NoSpeech(LabError):
    """A recording without speech, or with too little of it."""


def in_one_line(error):
    """The message of an exception, short enough to be a part of another message."""
    return ' '.join(str(error).split())[:200] or type(error).__name__


def run_script(main, *, words=False, see=''):
    """Call main() with the settings of the command line. A user's mistake ends in one or two lines and exit code 1.

    words: words without a name are settings, too, in the order of main(). see: a command that has further settings.
    """
    print_anything()
    try:
        if {'-h', '--help'} & set(sys.argv[1:]):
            print(describe_settings(main))
        else:
            arguments = name_words(main, sys.argv[1:]) if words else sys.argv[1:]
            main(**read_command_line(main, arguments, see))
    except (LabError, OSError) as error:
        sys.exit('Error: %s' % error)
    except (MemoryError, RuntimeError) as error:  # PyTorch says it with a RuntimeError
        if isinstance(error, RuntimeError) and not re.search(FULL_MEMORY, str(error)):
            raise
        sys.exit('Error: the memory is full (%s).\nClose other programs. In a training, set a smaller batch_size.'
                 % in_one_line(error)[:80])
    except KeyboardInterrupt:
        sys.exit('Stopped by Ctrl-C.')


def print_anything():
    """From now on, a letter that a window, a file or a pipe cannot take is printed as its number."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, ValueError):  # a stream of another kind, or none
            stream.reconfigure(errors='backslashreplace')


# ------------------------------------------------------------------------------------------------- names

def one_form(name):
    """A name as it is compared (NFC). In names of files, a Mac writes Hangul and accents in parts (NFD)."""
    return unicodedata.normalize('NFC', name)


def as_on_disk(name, exists=os.path.exists):
    """A path that was typed, in the form in which it exists. If it exists in none, one_form of it."""
    forms = [name, one_form(name), unicodedata.normalize('NFD', name)]
    folder, last = os.path.split(name)
    if not any(map(exists, forms)) and os.path.isdir(folder or '.'):  # or in a mixture of these
        forms[1] = os.path.join(folder, one_form(last))  # the folder is there as it was typed
        forms += [os.path.join(folder, there) for there in os.listdir(folder or '.')
                  if one_form(there) == one_form(last)]
    return next(filter(exists, forms), forms[1])


UNSEEN = ['Zs', 'Cf', 'Mn']  # spaces, joiners, marks above or below a letter
NO_LETTERS = ['Cc', 'Cs', 'Zl', 'Zp']  # control characters, bytes that are no UTF-8, ends of a line


def is_name(text):
    """Whether this can be the name of a speaker, a setting or a file: one line, with something to see.

    Names of several scripts hold spaces of other kinds, or marks that join letters or turn the direction.
    """
    kinds = [unicodedata.category(letter) for letter in text] if isinstance(text, str) else []
    return len(kinds) <= 300 and not set(kinds) & set(NO_LETTERS) and bool(set(kinds) - set(UNSEEN))


# ------------------------------------------------------------------------------------------------- settings

def taken_over(main):
    """The main() whose settings another main() takes over, as in `def main(..., **lab: train.main)`, or None."""
    kinds = inspect.signature(main).parameters.values()
    return next((parameter.annotation for parameter in kinds if parameter.kind is parameter.VAR_KEYWORD), None)


def defaults_of(main):
    """The settings of main(), and after them those that it takes over: dict name -> default."""
    others = taken_over(main)
    own = {name: parameter.default for name, parameter in inspect.signature(main).parameters.items()
           if parameter.kind is not parameter.VAR_KEYWORD}
    return {**own, **(defaults_of(others) if others else {})}


def name_words(main, arguments):
    """Write words without a name as settings of main(), in their order: 'a.wav' as '--enroll_file=a.wav', and so on.

    A setting that is a list takes all words that are left.
    """
    words = [argument for argument in arguments if not argument.startswith('-')]
    named = [argument for argument in arguments if argument.startswith('-')]
    have_names = {argument.removeprefix('--').partition('=')[0] for argument in named}
    for name, default in defaults_of(main).items():
        if words and name not in have_names:
            named.append('--%s=%s' % (name, words if isinstance(default, list) else words[0]))
            words = [] if isinstance(default, list) else words[1:]
    return named + words  # read_command_line refuses those that are too many


NO_NAMES = ['model', 'eer']  # defaults of thresholds, which may be numbers, too
SPEAKERS = ['test_speaker', 'enroll_speaker', 'spk_list']  # settings that name speakers, or a file


def takes_name(default):
    """Whether a setting with this default is a name, so that its value is taken as it stands."""
    return isinstance(default, str) and default not in NO_NAMES


def whole_letters(value, exists):
    """A value of the command line with its names in the form of files that exist, or else in one_form."""
    if isinstance(value, list):
        return [whole_letters(one, exists) for one in value]
    return as_on_disk(value, exists) if isinstance(value, str) else value


def read_command_line(main, arguments, see=''):
    """Settings of main() from arguments such as '--n_epochs=4': dict name -> value.

    A value is a Python literal (4, 0.1, None, [1, 2]); a bare word is a string. A setting that is a name by default
    takes its value as it stands, so --test_speaker=7021 and --test_speaker=None need no quotes.
    Raises LabError for an unknown name.
    """
    defaults, settings = defaults_of(main), {}
    for argument in arguments:
        name, equals, text = argument.removeprefix('--').partition('=')
        if not argument.startswith('--') or not equals:
            example = '%s=%s' % next(iter(defaults.items()), ('name', 'value'))
            advice = FOR_RECORDINGS if '.' in argument else ''  # it may be the name of a file
            raise LabError('%s: write a setting as --name=value, for example --%s. All settings: --help%s'
                           % (argument, example, advice))
        check_name(name, defaults, see)
        exists = os.path.isfile if name in SPEAKERS else os.path.exists
        settings[name] = whole_letters(read_value(text, takes_name(defaults[name])), exists)
    return settings


def check_name(name, defaults, see=''):
    """Raise LabError if there is no setting of this name. see: a command that has further settings, or ''."""
    if name not in defaults:
        raise LabError('unknown setting: %s. Choose one of %s.%s'
                       % (name, ', '.join(defaults) or 'none', '\nMore settings: %s --help' % see if see else ''))


def read_value(text, is_text):
    """The value that `text` stands for. is_text: the setting is a name, so '7021' and 'None' are names."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return text
    return text if is_text and not isinstance(value, str) else value


def describe_settings(main):
    """The settings of main() with their defaults, and their comments as they stand in the source."""
    return '\n'.join([inspect.getmodule(main).__doc__.strip(), '', *lines_of_settings(main)])


def lines_of_settings(main):
    """A line for each setting of main(), then for those that it takes over. Comments of their own are headings."""
    defaults, shown, others = defaults_of(main), [], taken_over(main)
    for line in inspect.getsource(main).split('):\n')[0].splitlines()[1:]:
        heading, setting = re.fullmatch(r' *# (.*)', line), re.fullmatch(r' *(\w+)=.*?, *# (.*)', line)
        if heading:
            shown.append('\n%s (--name=value)' % heading.group(1))
        elif setting:
            name, comment = setting.groups()
            shown.append('  --%-40s %s' % ('%s=%s' % (name, defaults[name]), comment))
    return shown + (lines_of_settings(others) if others else [])


LARGEST_NUMBER = 10 ** 9  # of epochs, seeds, frames and so on


def is_number(value, least=-math.inf, most=math.inf):
    return isinstance(value, (int, float)) and not isinstance(value, bool) and least <= value <= most


def is_whole(value, least=0):
    return isinstance(value, int) and is_number(value, least, LARGEST_NUMBER)


# A rule is what a setting must be, in words, and a function that says whether a value is that

def whole(least):
    return 'a whole number, %d or more' % least, lambda value: is_whole(value, least)


def number(least):
    return 'a number, %g or more' % least, lambda value: is_number(value, least, LARGEST_NUMBER)


def ending(suffix):
    """A rule: a name that ends with a suffix such as '.csv'."""
    return 'a name that ends with %s' % suffix, lambda value: is_name(value) and value.endswith(suffix)


def or_none(rule):
    return rule[0] + ', or None', lambda value: value is None or rule[1](value)


def one_or_see(command):
    """A rule: one speaker or file. command: the program that takes all of them."""
    return 'one speaker or one file. For all of them: %s' % command, lambda value: is_name(value) and value != 'all'


def some_of(known):
    return 'a list of some of %s, such as %s' % (', '.join(known), list(known)[:2]), lambda value: (
        isinstance(value, list) and all(one in known for one in value))


POSITIVE = 'a number above 0', lambda value: is_number(value, 0, LARGEST_NUMBER) and value > 0
PERCENTAGE = 'a percentage above 0 and below 100', lambda value: is_number(value) and 0 < value < 100
SHARE = 'a number above 0 and below 1', lambda value: is_number(value) and 0 < value < 1
NAME_OR_EMPTY = "a name, or ''", lambda value: value == '' or is_name(value)
BOOL = 'True or False', lambda value: isinstance(value, bool)
NAME = 'a name', is_name
NAMES = 'a list of names', lambda value: isinstance(value, list) and len(value) > 0 and all(map(is_name, value))
SCORE = 'a number from -1 to 1', lambda value: is_number(value, -1, 1)
SCORE_OR_MODEL = "a number from -1 to 1, or 'model'", lambda value: SCORE[1](value) or value == 'model'
EPOCH_OR_NAME = "the number of an epoch, or a name such as 'best'", lambda value: is_whole(value) or is_name(value)
CHANNEL = "None, 1, 2, ... or 'mean'", lambda value: value in (None, 'mean') or is_whole(value, 1)
TEST_RULES = {  # of the scripts that use a trained network
    'embedding_size': or_none(whole(1)), 'n_classes': or_none(whole(1)), 'cp_num': EPOCH_OR_NAME,
    'test_frames': or_none(whole(1))}


def rule_of(default):
    """The rule of a setting that has none of its own: it must be of the kind of its default."""
    kinds = {bool: BOOL, int: whole(1 if default else 0), float: number(0), str: NAME, list: NAMES}
    return kinds[type(default)]


def check_settings(main, settings, **rules):
    """Raise LabError for the first setting of main() whose value cannot be used. Returns all settings as a dict.

    settings: locals() at the beginning of main(). rules: name=rule, or name=the values that it may have. The rule of
    all others follows from their default (rule_of).
    """
    defaults, parameters = defaults_of(main), inspect.signature(main).parameters.values()
    taken = {name: value for parameter in parameters if parameter.kind is parameter.VAR_KEYWORD
             for name, value in settings[parameter.name].items()}  # those of **lab
    for name in taken:
        check_name(name, defaults)
    settings = {name: settings.get(name, taken.get(name, default)) for name, default in defaults.items()}
    for name, value in settings.items():
        rule = rules[name] if name in rules else rule_of(defaults[name])
        if isinstance(value, str) and value.startswith(('[', '(', '{')) and not takes_name(defaults[name]):
            example = {'[': "['a', 'b']", '(': "('a', 1)", '{': "{'a': 1}"}[value[0]]
            raise LabError('%s = %.60r cannot be read. Put quotes around the whole and around words in it: --%s="%s"'
                           % (name, value, name, example))
        if not isinstance(rule, tuple):
            if value not in list(rule):
                raise LabError('unknown %s: %s. Choose one of %s.'
                               % (name, in_one_line(value), ', '.join(map(str, rule))))
        elif any(unicodedata.category(letter) == 'Cs' for one in (value if isinstance(value, list) else [value])
                 if isinstance(one, str) for letter in one):
            raise LabError('%s = %r: the letters of this name are not in UTF-8. Rename it.' % (name, value))
        elif not rule[1](value):
            raise LabError('%s = %r: it must be %s.' % (name, value, rule[0]))
    return settings


# ------------------------------------------------------------------------------------------------- processes

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
