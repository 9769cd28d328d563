"""What every experiment needs: it finds the lab's modules, one folder up, and its settings may come without names."""
import inspect
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(PROJECT), str(PROJECT / 'tests')]  # tests: what they share with experiments, such as attacks.py


def name_arguments(main):
    """Give the words on the command line the names of the settings of main(), in their order.

    So `hold_out.py a b` means `hold_out.py --feat_dir=a --out_dir=b`. A setting that is a list takes all words that are
    left.
    """
    words = [argument for argument in sys.argv[1:] if not argument.startswith('-')]
    named = [argument for argument in sys.argv[1:] if argument.startswith('-')]
    have_names = {argument.removeprefix('--').partition('=')[0] for argument in named}
    for name, parameter in inspect.signature(main).parameters.items():
        if words and name not in have_names:
            if isinstance(parameter.default, list):
                named.append('--%s=%r' % (name, words))
                words = []
            else:
                named.append('--%s=%s' % (name, words.pop(0)))
    sys.argv[1:] = named + words  # run_script refuses the words that are too many
