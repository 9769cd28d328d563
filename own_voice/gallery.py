"""The people of the page: their recordings below one folder, and their d-vectors.

The recordings decide who is enrolled. Somebody else may change them, by hand or with a second server. So they
are looked at again before anybody is enrolled, deleted or listed. An enrolment is never written from memory
alone.

page.py asks; here are the answers, as dicts that become JSON. The numbers are those of the scripts, because
the functions are the same: the feature, embed_feature, F.normalize, the cosine, and the threshold of the
model.
"""
import contextlib
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from scipy.special import expit

import configure as c
from DB_wav_reader import feature_of
from SR_Dataset import trim
from exercises.scoring import log_likelihood_ratio
from identification import UNKNOWN, best_speaker
from model import embed_feature, get_embeddings, save_enroll_embeddings
from own_voice.enrol import check_spelling, coded, enrolment_files, files_of, folder_name, folder_of
from own_voice.enrol import in_one_way, keep_recording, remove_files
from own_voice.who_when import who_spoke_when
from support.checks import level_or_configured
from support.enrolments import ENROLL_FILE, description_at, forget_removed, use_own_thresholds
from support.messages import LabError, NoSpeech
from support.recordings import differ_in_bandwidth, open_recording, same_origin, what_is_wrong

MAX_BYTES = 20_000_000  # of a recording: ten minutes at 16 kHz
MOST_FRAMES = 1500  # of a feature that is drawn: 15 s
N_PEAKS = 600  # points of the waveform that is drawn


def told(error):
    """An error as a dict for the page. A code is that of a sentence in TEXTS of page.html."""
    return {'error': str(error), **getattr(error, 'for_page', {})}


class Gallery:
    """Who is enrolled. test_dir: <test_dir>/<name>/enroll*.wav; embedding_dir: where the enrolment is
    written.

    Everybody who has recordings in test_dir is enrolled at once. A speaker with a bad recording is left out,
    and the reason is printed. Raises LabError if the model has no threshold of its own.
    """

    def __init__(self, model, test_dir, embedding_dir, use_cuda=True):
        self.model, self.use_cuda = model, use_cuda
        self.test_dir, self.embedding_dir = Path(test_dir), embedding_dir
        self.found = {}  # name of each folder with recordings -> what read_person says
        self.people = {}  # those of them who are enrolled
        if c.SPEAKER_LEVEL != 1:
            raise LabError('The page needs SPEAKER_LEVEL = 1 in configure.py.')
        use_own_thresholds(model, embedding_dir)
        self.description = description_at(model, 'cosine', level_or_configured(model.settings['level']))
        if not self.description:
            raise LabError("%s has no threshold of its own. Take --cp_num=voices, or --cp_num=best."
                           % model.checkpoint['file'])
        self.refresh()

    # ------------------------------------------------------------------------------------------- files

    def refresh(self):
        """Read those whose recordings have changed, forget those whose recordings are gone, and save what is
        new.

        If nobody is left, the enrolment is deleted. It stays if all recordings are bad, and if there is no
        test_dir: perhaps that is only the wrong folder.
        """
        found = {}
        for folder in sorted(self.test_dir.glob('*'), key=lambda folder: folder.name):
            stats = [(path.name, path.stat()) for path in enrolment_files(folder)]
            stamps = [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]
            if stamps:
                known = self.found.get(folder.name, {})
                found[folder.name] = known if known.get('stamps') == stamps else {
                    **self.read_person(folder), 'stamps': stamps}
        people = {name: person for name, person in found.items() if 'error' not in person}
        if people and any(found.get(name) is not self.found.get(name) for name in {*found, *self.found}):
            embeddings = {name: person['embedding'] for name, person in people.items()}
            origins = {name: person['origin'] for name, person in people.items()}
            save_enroll_embeddings(self.embedding_dir, embeddings, self.model, origins)
        if not found:
            forget_removed(self.embedding_dir, self.test_dir)
        self.found, self.people = found, people  # not before it is saved: otherwise nobody would try again

    def read_person(self, folder):
        """Enrol one person, as enroll.py does: with the sum of the d-vectors of the enrolment files.

        Returns a dict of 'embedding' (1, embedding_size), 'origin', 'facts' of each file and 'files'. For a
        person who cannot be enrolled, a dict of 'error'.
        """
        embedding, origin, facts, files = 0, None, [], enrolment_files(folder)
        try:
            name = folder_name(folder.name)
            if name != folder.name:
                with coded('rename', name=name):
                    raise LabError('Rename this folder to %s.' % name)
            for path in files:
                embedding = embedding + get_embeddings(self.use_cuda, str(path), self.model, None)
                origin = same_origin(origin, str(path), self.model.settings['level'])
                facts.append(open_recording(str(path)).facts)
        except (LabError, OSError) as error:
            print('Skipped %s: %s' % (folder.name, error), file=sys.stderr)
            return {'error': error}
        return {'embedding': embedding, 'origin': origin, 'facts': facts,
                'files': [path.name for path in files]}

    def folder_to_enrol(self, name):
        """The folder for another recording of a person. Raises LabError if the person could not be enrolled
        then."""
        folder = folder_of(self.test_dir, name)
        self.refresh()
        for other, person in self.found.items():
            if 'error' in person and in_one_way(other) == in_one_way(folder.name):
                raise person['error']
        check_spelling(folder.name, self.found)
        return folder

    @contextlib.contextmanager
    def as_file(self, wav):
        """The name of a file with these bytes. The file is gone afterwards."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / 'recording.wav'
            path.write_bytes(wav)
            try:
                yield str(path)
            except LabError as error:
                error.args = (str(error).replace(str(path), 'This recording').split('\n')[0],)
                raise

    # ------------------------------------------------------------------------------------------- answers

    def hear(self, wav):
        """What a recording holds: (feature (n_frames, n_dims), d-vector (embedding_size,), dict of facts).

        Feature and d-vector are those of read_MFB and get_embeddings. 'advice' is what what_is_wrong says.
        """
        with self.as_file(wav) as filename:
            with coded('unreadable'):
                recording = open_recording(filename)
            with coded('tooShort' if len(recording.audio) < c.SAMPLE_RATE else 'noSpeech'):
                facts = recording.facts
            with coded('tooShort', NoSpeech):
                feature, facts = feature_of(recording, self.model.settings['level'])
            feature = trim(feature)
            vector = embed_feature(self.use_cuda, feature, self.model, None, filename).numpy()[0]
        about = {name: facts[name] for name in ('seconds', 'level', 'noise', 'bandwidth')}
        return feature, vector, {**about, 'clipped': 100 * facts['clipped'], 'advice': what_is_wrong(facts)}

    def state(self):
        """Who is enrolled, and what the model knows about its scores."""
        self.refresh()
        gallery = self.unit_vectors()
        return {'model': Path(self.model.checkpoint['file']).stem.removeprefix('checkpoint_'),
                'threshold': self.description['eer'], 'test_dir': str(self.test_dir), 'max_bytes': MAX_BYTES,
                'embedding_dir': str(self.embedding_dir), 'matrix': rounded(gallery @ gallery.T, 4),
                'speakers': [{'name': name, 'recordings': len(person['files']),
                              'seconds': sum(facts['seconds'] for facts in person['facts']),
                              'files': [str(path) for path in files_of(self.test_dir / name)]}
                             for name, person in self.people.items()],
                'skipped': [{'name': name, **told(person['error'])}
                            for name, person in self.found.items() if 'error' in person],
                'own': self.description.get('own'), 'others': self.description.get('others')}

    def unit_vectors(self):
        """The d-vectors of all enrolled, of unit length: (n_speakers, embedding_size)."""
        vectors = [F.normalize(person['embedding']) for person in self.people.values()]
        return (torch.cat(vectors) if vectors else torch.zeros(0, 1)).numpy()

    def enrol(self, name, wav):
        """Save one more recording of a person, and enrol them with it. Nothing is written if it cannot be
        used."""
        folder = self.folder_to_enrol(name)
        _, _, about = self.hear(wav)
        keep_recording(folder, wav, '.wav')
        return {'recording': about, 'state': self.state()}

    def delete(self, name):
        """Remove files_of a person, and their enrolment. The folder stays if something else is in it."""
        folder, before = folder_of(self.test_dir, name), set(self.people)
        self.refresh()
        if folder.name not in before | set(self.people):
            raise LabError('%s is not enrolled.' % name)
        deleted = remove_files(folder)
        state = self.state()
        if not self.people:
            Path(self.embedding_dir, ENROLL_FILE).unlink(missing_ok=True)
        return {'deleted': [str(path) for path in deleted], 'state': state}

    def score(self, wav, claimed=None):
        """Who speaks in a recording, and whether it is the claimed speaker."""
        threshold = self.description['eer']
        _, vector, about = self.hear(wav)
        scores = dict(zip(self.people, (self.unit_vectors() @ vector).tolist())) if self.people else {}
        ranking = [self.answer(name, scores[name]) for name in sorted(scores, key=scores.get, reverse=True)]
        said = {'recording': about, 'threshold': threshold, 'ranking': ranking, 'notes': self.notes(about),
                'answer': best_speaker(scores, threshold) if scores else UNKNOWN}
        if claimed is not None:
            self.check_enrolled(claimed)
            mine = next(answer for answer in ranking if answer['name'] == claimed)
            said['claimed'] = {**mine, 'accepted': mine['score'] > threshold}
        return said

    def notes(self, about):
        """What makes a recording hard to compare with the enrolment: list of codes of TEXTS with their
        values."""
        differ = [name for name, person in self.people.items()
                  if differ_in_bandwidth(person['origin'], about)]
        if not differ:
            return []
        names = ', '.join(differ[:3]) + (' ...' if len(differ) > 3 else '')
        return [{'code': 'otherBandwidth', 'values': {
            'names': names, 'here': round(about['bandwidth']),
            'there': round(self.people[differ[0]]['origin']['bandwidth'])}}]

    def answer(self, name, score):
        """A score, and how likely it is that both are one speaker, if both answers are equally likely
        beforehand."""
        return {'name': name, 'score': score,
                'probability': float(expit(log_likelihood_ratio(score, self.description)))}

    def check_enrolled(self, name):
        if name not in self.people:
            raise LabError('%s is not enrolled.' % name)

    def why(self, wav, name=None):
        """What the network sees and says: the feature, both d-vectors, and a map of all enrolled."""
        feature, vector, about = self.hear(wav)
        if not self.people:
            raise LabError('Nobody is enrolled yet.')
        gallery = self.unit_vectors()
        if name is None:
            name = list(self.people)[(gallery @ vector).argmax()]
        self.check_enrolled(name)
        enrolled = gallery[list(self.people).index(name)]
        return {'recording': about, 'feature': rounded(feature[:MOST_FRAMES], 1),
                'd_vector': rounded(vector, 4), 'enrolled': rounded(enrolled, 4), 'name': name,
                'score': float(enrolled @ vector), 'map': draw_map(list(self.people), gallery, vector)}

    def who_when(self, wav):
        """Who spoke when in a longer recording."""
        if not self.people:
            raise LabError('Nobody is enrolled yet.')
        gallery = {name: F.normalize(person['embedding']) for name, person in self.people.items()}
        with self.as_file(wav) as filename:
            with coded('unreadable'):
                recording = open_recording(filename)
            audio = recording.audio  # (n_samples,)
            with coded('tooShort' if len(audio) < c.SAMPLE_RATE else 'noSpeech', NoSpeech):
                bands = who_spoke_when(recording, self.model, gallery, self.description['eer'], self.use_cuda)
        peaks = np.array([np.abs(part).max(initial=0) for part in np.array_split(audio, N_PEAKS)])
        return {'seconds': len(audio) / c.SAMPLE_RATE, 'peaks': rounded(peaks / max(peaks.max(), 1e-9), 3),
                'bands': [{'begin': begin, 'end': end, 'name': name} for begin, end, name in bands]}


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
