"""Enrol one person, or remove one. Nobody else is computed anew.

    python -m own_voice.enrol kim a.wav b.wav     # a new person, or more recordings of one
    python -m own_voice.enrol --remove=kim        # the d-vector and the recordings of one person

Copies the recordings to <test_dir>/<name>/enroll.wav, enroll2.wav and so on, where the page and enroll.py
find them. Writes the enrolment into embedding_dir, and says who of the enrolled pass as each other. With
--remove, it deletes both, and test recordings of the person in that folder, too, and the pictures (*.png) in
embedding_dir, because they show names. If nobody is left, the file of the enrolment and the threshold of the
room are deleted. Takes five seconds.
"""
import contextlib
import itertools
import math
import os
from pathlib import Path

import torch
import torch.nn.functional as F

import configure as c
from DB_wav_reader import find_wavs
from model import get_embeddings, load_enroll_embeddings, load_model, save_enroll_embeddings
from own_voice.answers import doubt_about, limits_of, print_passing_pairs
from own_voice.compare import check_recording
from own_voice.who import EMBEDDING_DIR
from support.checks import check_enrolment
from support.enrolments import CALIBRATION_FILE, ENROLL_FILE, checkpoint_of, description_for, own_description
from support.enrolments import read_enrolment, use_own_thresholds
from support.messages import NAME_OR_EMPTY, TEST_RULES, LabError, as_on_disk, check_settings, is_name, one_form
from support.messages import run_script
from support.recordings import RESERVED, is_recording, is_speaker, same_origin, seconds_of
from support.safe_files import write_pickles, written_whole

LONGEST_NAME = 60
NOT_IN_NAMES = '<>:"/\\|?*'  # Windows allows none of them in the name of a folder
DOES_NOT_FIT = {  # code of doubt_about -> what is printed of a recording
    'nearer': 'sounds more like {other} than like the other recordings of {name}',
    'doesNotFit': 'does not sound like the other recordings of {name}',
    'secondName': 'sounds much like {other}, who is enrolled already'}
NO_FOLDERS = ['CON', 'PRN', 'AUX', 'NUL',
              'CONIN$', 'CONOUT$', *(word + n for word in ('COM', 'LPT') for n in '123456789¹²³')]


# ------------------------------------------------------------------------------------- names

@contextlib.contextmanager
def coded(code, kind=LabError, **values):
    """Give the errors of a `with` block a code and values. The page says them in its own language (told)."""
    try:
        yield
    except kind as error:
        error.for_page = {'code': code, 'values': values}
        raise


def in_one_way(name):
    """A name as it can be compared with others. A Mac may write Hangul in parts. Capitals do not count."""
    return one_form(name).casefold()


def folder_name(name):
    """A person's name as the name of a folder. Raises LabError if it cannot be one on every system."""
    name = one_form(name).strip()
    if not is_speaker(name) or len(name) > LONGEST_NAME or set(name) & set(NOT_IN_NAMES) or (
            '.' in (name[0], name[-1]) or name.partition('.')[0].upper() in NO_FOLDERS):
        letters = ' '.join(NOT_IN_NAMES)
        with coded('badName', most=LONGEST_NAME, letters=letters):
            raise LabError("This name cannot be used: take up to %d letters, none of %s, no dot at either "
                           "end, not like a file's, and not %s."
                           % (LONGEST_NAME, letters, ' or '.join(RESERVED)))
    return name


def check_spelling(name, others):
    """Raise LabError if one of others is this name written otherwise. Some systems have one folder for both."""
    for other in others:
        if one_form(other) != name and in_one_way(other) == in_one_way(name):
            with coded('spelling', name=other):
                raise LabError('%s is enrolled already. Write the name in the same way.' % other)


# ------------------------------------------------------------------------------------- recordings of a person

def folder_of(test_dir, name):
    """The folder of a person. Raises LabError if it lies anywhere else than in test_dir."""
    folder = Path(as_on_disk(os.path.join(test_dir, folder_name(name))))
    if folder.resolve().parent != Path(test_dir).resolve():
        raise LabError('%s leads out of %s. Remove that link.' % (folder, test_dir))
    return folder


def files_of(folder):
    """What remove_files removes of a person: the enrolment and test recordings and features in the folder, and
    what a killed program left of them, sorted."""
    return sorted(path for path in folder.glob('*') if path.is_file() and (
        path.name.lower().startswith(('enroll', 'test')) and (is_recording(path.name) or path.suffix == '.p')
        or path.name.lower().startswith(('.enroll', '.test')) and path.suffix == '.part'))


def enrolment_files(folder):
    """The enrolment recordings in a person's folder, sorted: list of paths. Folders below it do not count."""
    return [path for path in map(Path, find_wavs(folder)) if path.parent == folder and path.is_file() and (
        path.name.lower().startswith('enroll'))]


def keep_recording(folder, content, suffix):
    """Write the bytes of one more recording into a person's folder, under the first name that is free."""
    # A stem of its own, because enroll.wav would switch an enroll.m4a off
    taken = {path.stem.lower() for path in folder.glob('*')}
    stems = ('enroll%s' % ('' if n == 1 else n) for n in itertools.count(1))
    with written_whole(folder / (next(stem for stem in stems if stem not in taken) + suffix)) as f:
        f.write(content)


def without_copies(files, there):
    """Those of files (list of names) that are not in a person's folder already, under any name: list of paths.

    there: the recordings in that folder. A copy would count twice.
    """
    contents, new = [path.read_bytes() for path in there], []
    for path in map(Path, files):
        if path.read_bytes() in contents:
            print('%s is among the recordings already.' % path)
        else:
            new.append(path)
            contents.append(path.read_bytes())
    return new


def remove_pictures(embedding_dir):
    """Delete the pictures of an enrolment, because they show names, and what a killed program left.

    Returns the deleted paths.
    """
    folder = Path(embedding_dir)
    paths = sorted([*folder.glob('*.png'), *folder.glob('.*.part')])
    for path in paths:
        path.unlink()
    return paths


def remove_files(folder):
    """Delete files_of a person. The folder stays if something else is in it. Returns the deleted paths."""
    deleted = files_of(folder)
    for path in deleted:
        path.unlink()
    with contextlib.suppress(OSError):  # something else is in it, or somebody has removed it
        folder.rmdir()
    return deleted


# ------------------------------------------------------------------------------------- the enrolment

def enrolled_in(embedding_dir, model):
    """Who is enrolled: (dict speaker -> embedding, dict speaker -> how recorded), or two empty dicts."""
    if not Path(embedding_dir, ENROLL_FILE).is_file():
        return {}, {}
    embeddings, made_with = load_enroll_embeddings(embedding_dir), read_enrolment(embedding_dir)[1]
    check_enrolment(embedding_dir, embeddings, made_with, model.checkpoint)
    return embeddings, made_with['recordings']


def note_what_does_not_fit(name, vectors, paths, seconds, embeddings, description):
    """Print a note for each recording that does not fit a person, by the rule of the page.

    vectors: the d-vectors of the person's recordings, (1, embedding_size) each; paths: the names of those that are new,
    which come last, and the seconds of speech in each; embeddings: of all who are enrolled; description: of the scores
    of the model, {} if it knows none.
    """
    others = {spk: embedding for spk, embedding in embeddings.items() if spk != name}
    first = len(vectors) - len(paths)
    for i, path, spoken in zip(range(first, len(vectors)), paths, seconds) if description else []:
        rest = vectors[:i] + vectors[i + 1:]
        people = {**others, name: sum(rest)} if rest else others
        if people:
            enrolled = F.normalize(torch.cat(list(people.values()))).numpy()  # (n_speakers, embedding_size)
            scores = dict(zip(people, enrolled @ F.normalize(vectors[i])[0].numpy()))
            found = doubt_about(name, scores, limits_of(description, enrolled, seconds=spoken),
                                description_for(description, spoken)['eer'])
            if found:
                print('Note: %s %s.' % (path, DOES_NOT_FIT[found[0]].format(name=name, other=found[1])))


def add_person(model, name, files, test_dir, embedding_dir, test_frames, use_cuda):
    """Enrol a person with recordings (list of names), and with those in <test_dir>/<name>. Copies them there.

    Returns the paths of all of them there. If a recording cannot be used, raises LabError before anything is
    written.
    """
    folder, embeddings, name = folder_of(test_dir, name), enrolled_in(embedding_dir, model)[0], folder_name(name)
    check_spelling(name, [*embeddings, *(path.name for path in Path(test_dir).glob('*'))])
    there = enrolment_files(folder)
    if name in embeddings and not there:
        raise LabError('%s is enrolled with recordings that are not in %s.\nSet test_dir to where they are, or '
                       'first use --remove=%s.' % (name, folder, name))
    new = without_copies(files, there)
    vectors = [get_embeddings(use_cuda, str(path), model, test_frames) for path in there + new]
    if new:
        description = own_description(model, 'cosine', str(new[0]))
        seconds = [seconds_of(str(path)) for path in new]
        note_what_does_not_fit(name, vectors, new, seconds, embeddings, description)
    for path in new:
        keep_recording(folder, path.read_bytes(), path.suffix)
    there, origin = enrolment_files(folder), None
    for path in there:
        origin = same_origin(origin, str(path), model.settings['level'])
    embeddings, recordings = enrolled_in(embedding_dir, model)  # again: others may have come or gone
    embeddings = {**embeddings, name: sum(vectors)}  # (1, embedding_size) each
    save_enroll_embeddings(embedding_dir, dict(sorted(embeddings.items())), model,
                           {**recordings, name: origin})
    return there


def remove_person(name, test_dir, embedding_dir):
    """Remove a person from the enrolment, and delete the recordings in <test_dir>/<name>. Returns their paths.

    The pictures go, too, because they show the name. With the last person, the threshold of the room goes.
    Raises LabError for somebody who has neither.
    """
    filename, folder = Path(embedding_dir, ENROLL_FILE), Path(as_on_disk(os.path.join(test_dir, name)))
    arrays, made_with = read_enrolment(embedding_dir) if filename.is_file() else ({}, {})
    name = one_form(folder.name)  # of 'kim/', too
    check_spelling(name, arrays)
    if name in arrays and folder.is_symlink():
        folder_of(test_dir, name)  # says so if it leads out of test_dir
    if folder.resolve().parent != Path(test_dir).resolve() or name not in arrays and not files_of(folder):
        raise LabError('%r is not enrolled in %s. Enrolled there: %s.'
                       % (name, embedding_dir, ', '.join(arrays) or 'nobody'))
    arrays.pop(name, None)
    made_with.get('recordings', {}).pop(name, None)
    if arrays:
        write_pickles(filename, arrays, made_with)
    else:
        filename.unlink(missing_ok=True)
        Path(embedding_dir, CALIBRATION_FILE).unlink(missing_ok=True)
    return remove_files(folder) + remove_pictures(embedding_dir)


# ------------------------------------------------------------------------------------- the program

def main(
        # Settings
        name='',  # the name of the person
        files=[],  # recordings; those in <test_dir>/<name> count, too
        remove='',  # instead, remove this person
        cp_num='voices',  # which checkpoint, if nobody is enrolled yet; otherwise that of the enrolment
        log_dir='model_saved',  # where the checkpoints are saved
        test_dir='feat_own/test',  # where the recordings go: DIR/<name>/enroll.wav
        embedding_dir=EMBEDDING_DIR,  # where the enrolment goes
        test_frames=None,  # cut a recording into segments of so many frames (10 ms); None: not cut
        use_cuda=True,  # use a GPU if there is one
):
    names = 'a list of names', lambda value: isinstance(value, list) and all(map(is_name, value))
    check_settings(main, locals(), **TEST_RULES, name=NAME_OR_EMPTY, remove=NAME_OR_EMPTY, files=names)
    if bool(name) == bool(remove) or is_recording(name):
        raise LabError('Name a person and recordings, as in python -m own_voice.enrol kim a.wav\n'
                       'Or remove a person: python -m own_voice.enrol --remove=kim')
    if c.SPEAKER_LEVEL != 1:
        raise LabError('This program needs SPEAKER_LEVEL = 1 in configure.py.')
    if remove:
        deleted = remove_person(one_form(remove), test_dir, embedding_dir)
        print('%s is no longer enrolled in %s.' % (one_form(remove), embedding_dir))
        print('Deleted : %s' % (', '.join(map(str, deleted)) or 'no recordings'))
        return
    for filename in files:
        check_recording(filename)
    if not files and not enrolment_files(folder_of(test_dir, name)):
        raise LabError('Name recordings of %s, as in python -m own_voice.enrol %s a.wav' % (name, name))
    if Path(embedding_dir, ENROLL_FILE).is_file():
        log_dir, cp_num = checkpoint_of(embedding_dir)
    model = load_model(use_cuda, log_dir, cp_num, None, None)
    use_own_thresholds(model, embedding_dir)
    there = add_person(model, name, files, test_dir, embedding_dir, test_frames, use_cuda)
    print('%s is enrolled in %s, with %d recording(s) : %s'
          % (there[0].parent.name, embedding_dir, len(there), ', '.join(map(str, there))))

    # Say so if people sound alike, as long as nobody relies on the answers
    embeddings = load_enroll_embeddings(embedding_dir)
    description = own_description(model, 'cosine', str(there[0]), math.inf)
    if description:
        enrolled = F.normalize(torch.cat(list(embeddings.values()))).numpy()  # (n_speakers, embedding_size)
        print_passing_pairs(list(embeddings), enrolled, description['eer'],
                            Path(embedding_dir, CALIBRATION_FILE).is_file())


if __name__ == '__main__':
    run_script(main, words=True)
