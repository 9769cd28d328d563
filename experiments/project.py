"""What every experiment needs: it finds the lab's modules, one folder up, and the programs in tests/by_hand."""
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(PROJECT), str(PROJECT / 'tests/by_hand')]
