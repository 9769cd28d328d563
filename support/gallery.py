"""The people of the page: their recordings below one folder, and their d-vectors. Both always agree.

support/voice_page.py asks; here are the answers, as dicts that become JSON. The numbers are those of the scripts,
because the functions are the same: get_embeddings, F.normalize, the cosine, and the threshold of the model.
"""
import contextlib
import io
import sys
import tempfile
import unicodedata
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from scipy.special import expit

import configure as c
from DB_wav_reader import find_wavs, read_audio
from SR_Dataset import read_MFB
from deep_dive.calibration import description_at, log_likelihood_ratio
from deep_dive.who_when import who_spoke_when
from model import embed_feature, get_embeddings, save_enroll_embeddings
from support.checks import is_name, level_or_configured
from support.enrolments import ENROLL_FILE, use_own_thresholds
from support.messages import LabError
from support.recordings import MAX_FLOOR, compare_origins, is_recording, read_facts, same_origin, what_is_wrong
from support.safe_files import written_whole

MOST_FRAMES = 1500  # of a feature that is drawn: 15 s
N_PEAKS = 600  # points of the waveform that is drawn
LONGEST_NAME = 60
UNKNOWN = 'unknown'  # the answer if nobody is near enough
NOT_IN_NAMES = '<>:"/\\|?*'  # Windows allows none of them in the name of a folder
RESERVED = ['CON', 'PRN', 'AUX', 'NUL', *('%s%d' % (word, n) for word in ('COM', 'LPT') for n in range(1, 10))]


def folder_name(name):
    """A person's name as the name of a folder. Raises LabError if it cannot be one on every system."""
    name = unicodedata.normalize('NFC', name).strip()  # a Mac may write Hangul in parts
    if not is_name(name) or len(name) > LONGEST_NAME or set(name) & set(NOT_IN_NAMES) or name[0] == '.' or (
            name[-1] == '.' or name.partition('.')[0].upper() in RESERVED or name == UNKNOWN):
        raise LabError('This name cannot be used: take up to %d letters, none of %s, and no dot at either end.'
                       % (LONGEST_NAME, ' '.join(NOT_IN_NAMES)))
    return name


class Gallery:
    """Who is enrolled. test_dir: <test_dir>/<name>/enroll*.wav; embedding_dir: where the enrolment is written.

    Everybody who has recordings in test_dir is enrolled at once. A speaker with a bad recording is left out, and the
    reason is printed. Raises LabError if the model has no threshold of its own.
    """

    def __init__(self, model, test_dir, embedding_dir, use_cuda=True):
        self.model, self.test_dir, self.embedding_dir, self.use_cuda = model, Path(test_dir), embedding_dir, use_cuda
        self.people = {}  # name -> {'embedding': (1, embedding_size), 'origin': dict, 'files': list, 'facts': list}
        if c.SPEAKER_LEVEL != 1:
            raise LabError('The page needs SPEAKER_LEVEL = 1 in configure.py.')
        use_own_thresholds(model, embedding_dir)
        self.description = description_at(model, 'cosine', level_or_configured(model.settings['level']))
        if not self.description:
            raise LabError("%s has no threshold of its own. Take --cp_num=voices, or --cp_num=best."
                           % model.checkpoint['file'])
        for folder in sorted(self.test_dir.glob('*')):
            if folder.is_dir() and self.enrolment_files(folder):
                try:
                    self.people[folder.name] = self.read_person(folder)
                except (LabError, OSError) as error:
                    print('Skipped %s: %s' % (folder.name, error), file=sys.stderr)
        self.save()

    # ------------------------------------------------------------------------------------------- files

    def enrolment_files(self, folder):
        """The enrolment recordings in a person's folder, sorted: list of paths."""
        return [path for path in map(Path, find_wavs(folder)) if path.name.lower().startswith('enroll')]

    def folder_of(self, name):
        """The folder of a person. Raises LabError if it lies anywhere else than in test_dir."""
        folder = self.test_dir / folder_name(name)
        if folder.resolve().parent != self.test_dir.resolve():
            raise LabError('%s leads out of %s. Remove that link.' % (folder, self.test_dir))
        return folder

    def read_person(self, folder):
        """Enrol one person, as enroll.py does: the sum of the d-vectors of the enrolment files."""
        embedding, origin, facts = 0, None, []
        for path in self.enrolment_files(folder):
            embedding = embedding + get_embeddings(self.use_cuda, str(path), self.model, None)
            origin = same_origin(origin, str(path), self.model.settings['level'])
            facts.append(read_facts(str(path)))
        return {'embedding': embedding, 'origin': origin, 'facts': facts,
                'files': [path.name for path in self.enrolment_files(folder)]}

    def save(self):
        """Write the enrolment as enroll.py does, or remove it if nobody is left."""
        if self.people:
            save_enroll_embeddings(self.embedding_dir, self.embeddings(), self.model,
                                   {name: person['origin'] for name, person in self.people.items()})
        else:
            Path(self.embedding_dir, ENROLL_FILE).unlink(missing_ok=True)

    def embeddings(self):
        """Dict speaker -> (1, embedding_size) tensor, as load_enroll_embeddings gives it."""
        return {name: person['embedding'] for name, person in self.people.items()}

    @contextlib.contextmanager
    def as_file(self, wav):
        """(the name of a file with these bytes, what is printed meanwhile). The file is gone afterwards."""
        with tempfile.TemporaryDirectory() as folder:
            path, notes = Path(folder) / 'recording.wav', io.StringIO()
            path.write_bytes(wav)
            try:
                with contextlib.redirect_stdout(notes):
                    yield str(path), notes
            except LabError as error:
                raise type(error)(str(error).replace(str(path), 'This recording').split('\n')[0]) from error

    # ------------------------------------------------------------------------------------------- answers

    def state(self):
        """Who is enrolled, and what the model knows about its scores."""
        gallery = self.unit_vectors()
        return {'model': Path(self.model.checkpoint['file']).stem.removeprefix('checkpoint_'),
                'threshold': self.description['eer'], 'test_dir': str(self.test_dir),
                'embedding_dir': str(self.embedding_dir), 'matrix': rounded(gallery @ gallery.T, 4),
                'speakers': [{'name': name, 'files': person['files'], 'notes': [],
                              'seconds': sum(facts['seconds'] for facts in person['facts'])}
                             for name, person in self.people.items()],
                'own': self.description.get('own'), 'others': self.description.get('others')}

    def unit_vectors(self):
        """The d-vectors of all enrolled, of unit length: (n_speakers, embedding_size)."""
        vectors = [F.normalize(person['embedding']) for person in self.people.values()]
        return (torch.cat(vectors) if vectors else torch.zeros(0, 1)).numpy()

    def enrol(self, name, wav):
        """Save one more recording of a person, and enrol them with it. Nothing is written if it cannot be used."""
        folder = self.folder_of(name)
        self.check_spelling(folder.name)
        with self.as_file(wav) as (filename, _):
            get_embeddings(self.use_cuda, filename, self.model, None)
            about = self.about(filename)
        numbers = ['', *range(2, 1000)]
        path = next(path for path in (folder / ('enroll%s.wav' % number) for number in numbers) if not path.exists())
        with written_whole(path) as f:
            f.write(wav)
        self.people[folder.name] = self.read_person(folder)
        self.people = dict(sorted(self.people.items()))
        self.save()
        return {'recording': about, 'state': self.state()}

    def delete(self, name):
        """Remove a person's recordings and features from test_dir, and their enrolment."""
        folder, deleted = self.folder_of(name), []
        if folder.name not in self.people:
            raise LabError('%s is not enrolled.' % name)
        for path in sorted(folder.iterdir()):
            if path.is_file() and path.name.lower().startswith(('enroll', 'test')) and (
                    is_recording(path.name) or path.suffix == '.p'):
                path.unlink()
                deleted.append(str(path))
        with contextlib.suppress(OSError):  # something else is in it
            folder.rmdir()
        del self.people[folder.name]
        self.save()
        return {'deleted': deleted, 'state': self.state()}

    def check_spelling(self, name):
        """Raise LabError if somebody else has this name but for capitals: some systems have one folder for both."""
        for other in self.people:
            if other != name and other.casefold() == name.casefold():
                raise LabError('%s is enrolled already. Write the name in the same way.' % other)

    def about(self, filename):
        """What is known of a recording, and codes of what is wrong with it (those of ADVICE)."""
        facts = read_facts(filename)
        feature, _ = read_MFB(filename, self.model.settings['level'])  # (n_frames, n_dims)
        on_floor = np.mean(feature == feature.min(axis=0))
        return {'seconds': facts['seconds'], 'level': facts['level'], 'noise': facts['noise'],
                'bandwidth': facts['bandwidth'], 'clipped': 100 * facts['clipped'],
                'advice': what_is_wrong(facts) + (['floor'] if on_floor > MAX_FLOOR else [])}

    def score(self, wav, claimed=None):
        """Who speaks in a recording, and whether it is the claimed speaker."""
        threshold = self.description['eer']
        with self.as_file(wav) as (filename, notes):
            vector = get_embeddings(self.use_cuda, filename, self.model, None).numpy()
            compare_origins({name: person['origin'] for name, person in self.people.items()}, filename,
                            self.model.settings['level'])
            about = self.about(filename)
        scores = (self.unit_vectors() @ vector[0]).tolist() if self.people else []
        ranking = sorted([self.answer(name, score) for name, score in zip(self.people, scores)],
                         key=lambda answer: -answer['score'])
        said = {'recording': about, 'threshold': threshold, 'ranking': ranking,
                'answer': ranking[0]['name'] if ranking and ranking[0]['score'] > threshold else UNKNOWN,
                'notes': [line.removeprefix('Note: ').replace(filename, 'This recording')
                          for line in notes.getvalue().splitlines()]}
        if claimed is not None:
            self.check_enrolled(claimed)
            mine = next(answer for answer in ranking if answer['name'] == claimed)
            said['claimed'] = {**mine, 'accepted': mine['score'] > threshold}
        return said

    def answer(self, name, score):
        """A score, and how likely it is that both are one speaker, if both answers are equally likely beforehand."""
        return {'name': name, 'score': score,
                'probability': float(expit(log_likelihood_ratio(score, self.description)))}

    def check_enrolled(self, name):
        if name not in self.people:
            raise LabError('%s is not enrolled.' % name)

    def why(self, wav, name=None):
        """What the network sees and says: the feature, both d-vectors, and a map of all enrolled."""
        with self.as_file(wav) as (filename, _):
            feature, _ = read_MFB(filename, self.model.settings['level'])  # (n_frames, n_dims)
            vector = embed_feature(self.use_cuda, feature, self.model, None, filename).numpy()[0]
            about = self.about(filename)
        if not self.people:
            raise LabError('Nobody is enrolled yet.')
        gallery = self.unit_vectors()
        if name is None:
            name = list(self.people)[(gallery @ vector).argmax()]
        self.check_enrolled(name)
        enrolled = gallery[list(self.people).index(name)]
        return {'recording': about, 'feature': rounded(feature[:MOST_FRAMES], 1), 'd_vector': rounded(vector, 4),
                'enrolled': rounded(enrolled, 4), 'name': name, 'score': float(enrolled @ vector),
                'map': draw_map(list(self.people), gallery, vector)}

    def who_when(self, wav):
        """Who spoke when in a longer recording."""
        if not self.people:
            raise LabError('Nobody is enrolled yet.')
        with self.as_file(wav) as (filename, _):
            audio = read_audio(filename)  # (n_samples,)
            gallery = {name: F.normalize(embedding) for name, embedding in self.embeddings().items()}
            bands = who_spoke_when(audio, self.model, gallery, self.description['eer'], filename, self.use_cuda)
        peaks = np.array([np.abs(part).max(initial=0) for part in np.array_split(audio, N_PEAKS)])
        return {'seconds': len(audio) / c.SAMPLE_RATE, 'notes': [],
                'bands': [{'begin': begin, 'end': end, 'name': name} for begin, end, name in bands],
                'peaks': rounded(peaks / max(peaks.max(), 1e-9), 3)}


def draw_map(names, gallery, vector):
    """The two main axes (PCA) of the enrolled d-vectors (n, size) and a new one (size,), as a dict.

    'share': how much of the variance the two axes show.
    """
    points = np.vstack([gallery, vector])  # (n + 1, size)
    centred = points - points.mean(axis=0)
    _, sizes, axes = np.linalg.svd(centred, full_matrices=False)
    places = np.zeros((len(points), 2))
    places[:, :len(axes[:2])] = centred @ axes[:2].T
    return {'names': names, 'points': rounded(places[:-1], 4), 'new': rounded(places[-1], 4),
            'share': float(np.sum(sizes[:2] ** 2) / max(np.sum(sizes ** 2), 1e-12))}


def rounded(array, digits):
    return np.round(np.asarray(array, np.float64), digits).tolist()
