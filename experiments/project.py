"""Lets Python find the lab's modules, one folder up, when an experiment is started as python experiments/<name>.py."""
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(PROJECT), str(PROJECT / 'tests')]  # tests: what they share with experiments, such as attacks.py
