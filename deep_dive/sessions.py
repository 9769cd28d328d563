"""Make trial lists over sessions: two recordings of one session, or of two.

    python -m support.demo_voices --sessions_dir=demo_sessions        # or record people on several days
    python -m deep_dive.sessions demo_sessions
    python -m deep_dive.trials --trials=same_session.txt --test_dir=demo_sessions --cp_num=voices --test_frames=None
    python -m deep_dive.trials --trials=other_session.txt --test_dir=demo_sessions --cp_num=voices --test_frames=None

A session is what one person records on one occasion: in one room, with one microphone, in one mood. The folder
holds <speaker>/<session>_<name>.wav, such as kim/monday_1.wav, kim/monday_2.wav and kim/friday_1.wav: what
stands before the last _ is the session. In same_session.txt, both recordings of a target trial are of one
session, in other_session.txt they are of two. The impostor trials are every two recordings of two speakers, in
both lists. Speakers who have not both kinds of target trial are left out, so both lists are of the same people.
Takes two seconds.
"""
from pathlib import Path

from DB_wav_reader import read_DB_structure
from exercises.scoring import all_pairs
from support.messages import LabError, check_settings, run_script
from support.safe_files import written_whole


def session_of(filename):
    """The session of a recording: the name of the file up to its last _. Raises LabError if there is none."""
    session, underscore, _ = Path(filename).stem.rpartition('_')
    if not session:
        raise LabError('%s: its name says no session. Name it <session>_<name>.wav, such as monday_1.wav.' % filename)
    return session


def trials_over_sessions(utterances):
    """All trials of utterances, a list of (path, speaker, session): (same, other, impostors), lists of (path, path).

    same: of one speaker in one session; other: of one speaker in two; impostors: of two speakers. Speakers without
    both of the first two are left out.
    """
    same, other, impostors = [], [], []
    for i, j in zip(*all_pairs(len(utterances))):
        (first, speaker, session), (second, other_speaker, other_session) = utterances[i], utterances[j]
        if speaker != other_speaker:
            impostors.append((first, second, speaker, other_speaker))
        else:
            (same if session == other_session else other).append((first, second, speaker, speaker))
    kept = {trial[2] for trial in same} & {trial[2] for trial in other}
    return [[trial[:2] for trial in trials if kept.issuperset(trial[2:])] for trials in (same, other, impostors)]


def write_list(filename, targets, impostors):
    """Write a trial list in VoxCeleb's format, `1 path path` and `0 path path`, as deep_dive/trials.py reads it."""
    lines = ['%d %s %s\n' % (label, *trial) for label, trials in ((1, targets), (0, impostors)) for trial in trials]
    with written_whole(filename) as f:
        f.write(''.join(lines).encode())
    print('%d target and %d impostor trials : %s' % (len(targets), len(impostors), filename))


def main(
        # Settings
        test_dir='',  # the recordings: DIR/<speaker>/<session>_<name>.wav
        same_list='same_session.txt',  # where the trials of one session go
        other_list='other_session.txt',  # where those of two sessions go
):
    if not test_dir:
        raise LabError('Name recordings by their folder, as in\npython -m deep_dive.sessions demo_sessions')
    check_settings(main, locals())
    DB = read_DB_structure(test_dir)
    utterances = [(Path(filename).relative_to(test_dir).as_posix(), speaker, session_of(filename))
                  for filename, speaker in zip(DB['filename'], DB['speaker_id'])]
    with_space = next((path for path, _, _ in utterances if len(path.split()) > 1), None)
    if with_space is not None:
        raise LabError('%s: a trial list cannot hold a name with a space. Rename it.' % with_space)
    same, other, impostors = trials_over_sessions(utterances)
    if not impostors:
        raise LabError('%s: two speakers or more are needed, each with two recordings in one session and one in '
                       'another.' % test_dir)
    write_list(same_list, same, impostors)
    write_list(other_list, other, impostors)


if __name__ == '__main__':
    run_script(main, words=True)
