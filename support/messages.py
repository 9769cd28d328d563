"""What a person at the keyboard sees: errors in one or two lines, the progress of long work."""
import multiprocessing
import os
import signal
import sys
import threading
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from tqdm import tqdm


class LabError(Exception):
    """Something the person at the keyboard can mend: the message says what is wrong, where, and what to do next."""


def in_one_line(error):
    """The message of an exception, short enough to stand inside another."""
    return ' '.join(str(error).split())[:200] or type(error).__name__


def run_script(main):
    """Call main(); a mistake of the user ends in one or two lines on stderr and exit code 1, never in a traceback."""
    try:
        main()
    except (LabError, OSError) as error:
        sys.exit('Error: %s' % error)
    except KeyboardInterrupt:
        sys.exit('Stopped by Ctrl-C.')


def begin_worker():
    """Leave Ctrl-C to the process that started this one, and do not outlive it if it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=end_with_parent, daemon=True).start()


def end_with_parent():
    multiprocessing.parent_process().join()
    os._exit(1)


def in_parallel(function, tasks, description):
    """[function(task) for task in tasks], on all cores, with a progress bar when a person is watching."""
    with ProcessPoolExecutor(initializer=begin_worker) as pool:
        try:
            # A process that is just starting would answer Ctrl-C with a traceback; they inherit that it is ignored
            handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
            pool.submit(os.getpid)
            signal.signal(signal.SIGINT, handler)
            results = pool.map(function, tasks, chunksize=4)
            return list(tqdm(results, total=len(tasks), desc=description, disable=None))
        except KeyboardInterrupt:  # Ctrl-C reaches this process alone, which drops what has not been started
            pool.shutdown(cancel_futures=True)
            raise
        except BrokenProcessPool as error:
            raise LabError('A process that did a part of the work was ended from outside, perhaps for lack of memory.\n'
                           'Close other programs, or split long recordings, and run this again.') from error
