"""What the programs here need: it finds the lab's modules, two folders up, and what the tests share, one folder up."""
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(PROJECT), str(PROJECT / 'tests')]
