"""The people of the page: their recordings below one folder, and their d-vectors.

The recordings decide who is enrolled. Somebody else may change them, by hand or with a second server. So they
are looked at again before anybody is enrolled, deleted or listed. An enrolment is never written from memory
alone.

page.py asks; here are the answers, as dicts that become JSON. The numbers are those of the scripts, because
the functions are the same: the feature, embed_feature, F.normalize, the cosine, and the threshold of the
model. A recording is listened to without a lock, so that one long recording does not keep others waiting.
Only who changes or lists the people holds the lock.
"""
import hashlib
import json
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from scipy.special import expit

import configure as c
from DB_wav_reader import feature_of, find_feats, find_wavs
from SR_Dataset import trim
from exercises.scoring import log_likelihood_ratio
from model import embed_feature, save_enroll_embeddings
from own_voice.answers import DEFAULTS, answer, doubt_about, limits_of, passing_pairs
from own_voice.calibrate import MIN_SPEAKERS, find_thresholds, save_thresholds
from own_voice.enrol import check_spelling, coded, enrolment_files, files_of, folder_name, folder_of
from own_voice.enrol import in_one_way, keep_recording, remove_files, remove_pictures
from own_voice.who_when import SEGMENT, who_spoke_when
from support.audio_files import decode_wav, seconds_of_wav
from support.checks import level_or_configured
from support.enrolments import CALIBRATION_FILE, CONDITIONS, ENROLL_FILE, description_at, description_for
from support.enrolments import forget_removed, read_enrolment, use_own_thresholds
from support.messages import LabError, NoSpeech
from support.recordings import NARROW, Recording, bandwidth_of, differ_in_bandwidth, mono_of, open_recording
from support.recordings import what_is_wrong
from support.safe_files import write_pickles

MAX_SECONDS = 600  # of a recording
ENOUGH = 10  # seconds of speech that an enrolment should have
MOST_FRAMES = 1500  # of a feature that is drawn: 15 s
N_PEAKS = 600  # points of the waveform that is drawn
N_HEARD = 8  # the last recordings, of which the d-vectors are kept: who asks twice does not wait twice


def told(error):
    """An error as a dict for the page. A code is that of a sentence in TEXTS of page.html."""
    return {'error': str(error), **getattr(error, 'for_page', {'code': 'other', 'values': {
        'reason': str(error)}})}


def recording_of(wav):
    """The Recording of the bytes of a sound file. Raises LabError if it is too long, or cannot be read.

    Nothing is written to the disk, unless it is of a kind that only ffmpeg reads. Then the file is there only
    as long as ffmpeg reads it.
    """
    if seconds_of_wav(wav) > MAX_SECONDS:
        with coded('tooLong', seconds=MAX_SECONDS):
            raise LabError('This recording is too long. Use at most %d seconds.' % MAX_SECONDS)
    name = 'This recording'
    with coded('unreadable'):
        try:
            audio, about = mono_of(*decode_wav(wav), name, c.SAMPLE_RATE)  # (n_samples,)
        except ValueError:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / 'recording.wav'
                path.write_bytes(wav)
                try:
                    return Recording(*in_memory(open_recording(str(path)), name))
                except LabError as error:
                    error.args = (str(error).replace(str(path), name).split('\n')[0],)
                    raise
        return Recording(audio, name, **about)


def in_memory(recording, name):
    """What Recording() takes, of a Recording under another name."""
    return recording.audio, name, recording.clipped, recording.remarks


def sure_bandwidth(audio):
    """The bandwidth of audio (n_samples,) in Hz, or None if its two halves do not agree about NARROW."""
    halves = [bandwidth_of(half) for half in np.array_split(audio, 2) if len(half) > c.SAMPLE_RATE]
    are_narrow = {half < NARROW for half in halves}
    return bandwidth_of(audio) if len(halves) == 2 and len(are_narrow) == 1 else None


# ------------------------------------------------------------------------------------- the people

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
        self.lock = threading.RLock()  # who changes or lists the people holds it
        self.heard = {}  # hash of a recording -> what hear says, of the last N_HEARD
        if c.SPEAKER_LEVEL != 1:
            raise LabError('The page needs SPEAKER_LEVEL = 1 in configure.py.')
        self.of_model = model.thresholds
        self.read_thresholds()
        self.refresh()

    def read_thresholds(self):
        """Take the threshold of this room, if the enrolment has one, or that of the model."""
        stamp, self.model.thresholds = self.stamp_of_room(), self.of_model
        level = level_or_configured(self.model.settings['level'])
        shipped = description_at(self.model, 'cosine', level)
        use_own_thresholds(self.model, self.embedding_dir)
        self.description = description_at(self.model, 'cosine', level)
        self.is_of_room = self.model.thresholds is not self.of_model
        if not self.description:
            raise LabError("%s has no threshold of its own. Take --cp_num=voices, or --cp_num=best."
                           % self.model.checkpoint['file'])
        # The limits of the model, if the room has none. Its thresholds by length are of other recordings
        kept = {name: shipped[name] for name in DEFAULTS if name in shipped} if self.is_of_room else shipped
        self.description = {**kept, **self.description}
        # Of long speech, as section 3 of the page and own_voice.compare take it
        self.threshold = description_for(self.description, np.inf)['eer']
        self.threshold_of_model = description_for(shipped, np.inf)['eer'] if shipped else None
        self.room_stamp = stamp  # not before all of it could be read

    def stamp_of_room(self):
        """When the file of the threshold of this room was written, or None if there is none."""
        path = Path(self.embedding_dir, CALIBRATION_FILE)
        return path.stat().st_mtime_ns if path.is_file() else None

    # ------------------------------------------------------------------------------------------- files

    def refresh(self):
        """Read those whose recordings have changed, forget those whose recordings are gone, and save what is
        new.

        If nobody is left, the enrolment is deleted. It stays if all recordings are bad, and if there is no
        test_dir: perhaps that is only the wrong folder.
        """
        if self.stamp_of_room() != self.room_stamp:  # own_voice.calibrate has run
            self.read_thresholds()
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

        Returns a dict of 'embedding' (1, embedding_size), 'origin', and 'files', each a dict of its 'name',
        its 'vector' (embedding_size,) and facts. For a person who cannot be enrolled, a dict of 'error'.
        """
        embedding, origin, files = 0, None, []
        try:
            name = folder_name(folder.name)
            if name != folder.name:
                with coded('rename', name=name):
                    raise LabError('Rename this folder to %s.' % name)
            for path in enrolment_files(folder):
                heard = self.hear_file(path)
                embedding = embedding + torch.from_numpy(heard['vector'])[None]
                bandwidths = [one['bandwidth'] for one in (origin, heard['origin']) if one]
                origin = {**heard['origin'], 'bandwidth': min(bandwidths)}
                files.append({'name': path.name, 'vector': heard['vector'], **heard['about'],
                              'sure': heard['sure']})
        except (LabError, OSError) as error:
            print('Skipped %s: %s' % (folder.name, error), file=sys.stderr)
            return {'error': error}
        return {'embedding': embedding, 'origin': origin, 'files': files}

    def hear_file(self, path):
        """What hear says of a recording in the folder of a person. A wav is not decoded if it was heard."""
        wav = path.read_bytes()
        if self.key_of(wav) not in self.heard:
            return self.listen(open_recording(str(path)))
        return self.hear(wav)

    def folder_to_enrol(self, name):
        """The folder for another recording of a person. Raises LabError if the person could not be enrolled
        then."""
        with self.lock:
            folder = folder_of(self.test_dir, name)
            self.refresh()
            for other, person in self.found.items():
                if 'error' in person and in_one_way(other) == in_one_way(folder.name):
                    raise person['error']
            check_spelling(folder.name, self.found)
            return folder

    def file_of(self, name, filename):
        """An enrolment recording of a person: a path. Raises LabError if there is none of this name."""
        with self.lock:
            self.refresh()
            path = next((path for path in enrolment_files(folder_of(self.test_dir, name)) if path.name == filename),
                        None)
            if path is None:
                with coded('noSuchFile', name=name, file=filename):
                    raise LabError('%s has no recording %s.' % (name, filename))
            return path

    # ------------------------------------------------------------------------------------------- listening

    def key_of(self, wav):
        return hashlib.sha256(wav).digest()

    def hear(self, wav):
        """What a recording holds: a dict, as listen returns it. The last ones are kept."""
        key = self.key_of(wav)
        heard = self.heard.get(key)
        if heard is None:
            heard = self.listen(recording_of(wav))
            with self.lock:
                self.heard[key] = heard
                for oldest in list(self.heard)[:-N_HEARD]:
                    del self.heard[oldest]
        return heard

    def listen(self, recording):
        """What a Recording holds: 'feature' (n_frames, n_dims), 'vector' (embedding_size,), 'about' it,
        'sure': its bandwidth in Hz if it is surely known, or None; 'origin': as of Recording.origin.

        Feature and d-vector are those of read_MFB and get_embeddings. 'advice' is what what_is_wrong says.
        """
        with coded('tooShort' if len(recording.audio) < c.SAMPLE_RATE else 'noSpeech'):
            facts = recording.facts
        with coded('tooShort', NoSpeech):
            feature, facts = feature_of(recording, self.model.settings['level'])
        feature = trim(feature)
        vector = embed_feature(self.use_cuda, feature, self.model, None, recording.filename).numpy()[0]
        about = {name: facts[name] for name in ('seconds', 'level', 'noise', 'bandwidth')}
        return {'feature': feature, 'vector': vector, 'sure': sure_bandwidth(recording.audio),
                'origin': recording.origin(self.model.settings['level']),
                'about': {**about, 'clipped': 100 * facts['clipped'], 'advice': what_is_wrong(facts)}}

    # ------------------------------------------------------------------------------------------- who is there

    def state(self):
        """Who is enrolled, and what the model knows about its scores."""
        with self.lock:
            self.refresh()
            gallery, names = self.unit_vectors(), list(self.people)
            pairs = passing_pairs(names, gallery, self.threshold)
            return {'model': Path(self.model.checkpoint['file']).stem.removeprefix('checkpoint_'),
                    'threshold': self.threshold, 'is_of_room': self.is_of_room,
                    'knows_places': 'slope_one_room' in self.description,
                    'room_is_old': self.room_is_old(), 'of_model': self.threshold_of_model,
                    'can_calibrate': self.can_calibrate(),
                    'test_dir': str(self.test_dir), 'max_seconds': MAX_SECONDS, 'enough': ENOUGH,
                    'embedding_dir': str(self.embedding_dir), 'pairs': pairs,
                    'matrix': rounded(gallery @ gallery.T, 4),
                    'n_pairs': len(names) * (len(names) - 1) // 2,
                    'speakers': [self.about_person(name) for name in names],
                    'skipped': [{'name': name, **told(person['error']), 'files': self.list_files(name)}
                                for name, person in self.found.items() if 'error' in person]
                    + self.left_in_the_enrolment(),
                    'own': self.description.get('own'), 'others': self.description.get('others'),
                    'n_own': self.description.get('targets'), 'n_others': self.description.get('impostors')}

    def room_is_old(self):
        """Whether recordings have come or gone since the threshold of this room was found in this folder."""
        if not self.is_of_room:
            return False
        path = Path(self.embedding_dir, CALIBRATION_FILE)
        known = json.loads(path.read_text(encoding='utf-8'))
        if known.get('recordings') != str(self.test_dir):
            return False
        files = [Path(name) for name in find_feats(self.test_dir) + find_wavs(self.test_dir)]  # as find_thresholds
        folders = {file.parent for file in files}
        newest = max((one.stat().st_mtime_ns for one in (*files, *folders)), default=0)
        return len(folders) != known.get('speakers') or newest > path.stat().st_mtime_ns

    def can_calibrate(self):
        """Whether there are recordings enough to find the threshold of this room."""
        return sum(len(find_wavs(self.test_dir / name)) > 1 for name in self.people) >= MIN_SPEAKERS

    def about_person(self, name):
        """A person as a dict for the page. 'when': seconds since 1970 of the newest recording."""
        person, folder = self.people[name], self.test_dir / name
        return {'name': name, 'recordings': [{'file': one['name'], 'seconds': one['seconds']}
                                             for one in person['files']],
                'seconds': sum(one['seconds'] for one in person['files']),
                'when': max(stamp[2] for stamp in person['stamps']) / 1e9,
                'files': [str(path) for path in files_of(folder)]}

    def list_files(self, name):
        """What would be deleted of a person who is not enrolled: list of names."""
        return [str(path) for path in files_of(self.test_dir / name)]

    def left_in_the_enrolment(self):
        """If nobody has recordings here, those whose d-vectors are in the enrolment all the same."""
        path = Path(self.embedding_dir, ENROLL_FILE)
        if self.people or not path.is_file():
            return []
        try:
            names = list(read_enrolment(self.embedding_dir)[0])
        except LabError:
            return []
        return [{'name': name, 'error': 'its d-vector is in %s, its recordings are not here' % path,
                 'code': 'onlyVector', 'values': {'file': str(path)}, 'files': []} for name in names]

    def unit_vectors(self):
        """The d-vectors of all enrolled, of unit length: (n_speakers, embedding_size)."""
        vectors = [F.normalize(person['embedding']) for person in self.people.values()]
        return (torch.cat(vectors) if vectors else torch.zeros(0, 1)).numpy()

    def limits(self, seconds=None):
        """The limits of the three answers, for those who are enrolled now, and so many seconds of speech."""
        return limits_of(self.description, self.unit_vectors(), seconds=seconds)

    def check_enrolled(self, name):
        if name not in self.people:
            with coded('notEnrolled', name=name):
                raise LabError('%s is not enrolled.' % name)

    def check_anybody(self):
        if not self.people:
            with coded('nobody'):
                raise LabError('Nobody is enrolled yet.')

    # ------------------------------------------------------------------------------------------- changes

    def enrol(self, name, wav, sure=True):
        """Save one more recording of a person, and enrol them with it. Nothing is written if it cannot be
        used.

        sure: whether to add it although it does not fit. Otherwise nothing is written then, and 'doubt' says
        why.
        """
        folder, heard = self.folder_to_enrol(name), self.hear(wav)
        with self.lock:
            doubt = None if sure else self.doubt(folder.name, heard['vector'], heard['about']['seconds'])
            if doubt:
                return {'recording': heard['about'], 'doubt': doubt}
            if wav in [path.read_bytes() for path in enrolment_files(folder)]:
                with coded('sameRecording', name=folder.name):
                    raise LabError('This recording of %s is there already.' % folder.name)
            keep_recording(folder, wav, '.wav')
            return {'recording': heard['about'], 'name': folder.name, 'state': self.state()}

    def doubt(self, name, vector, seconds=None):
        """Why a new d-vector (embedding_size,), of so many seconds of speech, does not fit a person: a code with its
        values, or None."""
        if not self.people:
            return None
        scores = dict(zip(self.people, (self.unit_vectors() @ vector).tolist()))
        found = doubt_about(name, scores, self.limits(seconds), description_for(self.description, seconds)['eer'])
        return found and {'code': found[0], 'values': {'name': name, 'other': found[1]}}

    def delete(self, name):
        """Remove files_of a person, and their enrolment. The folder stays if something else is in it."""
        with self.lock:
            folder, before = self.test_dir / name, set(self.people)
            self.refresh()
            if name in [one['name'] for one in self.left_in_the_enrolment()]:
                self.delete_vector(name)
                return {'deleted': [], 'state': self.state()}
            if name not in {*before, *self.found}:
                self.check_enrolled(name)
            if folder.resolve().parent != self.test_dir.resolve():
                folder_of(self.test_dir, name)  # says why it is not touched
            deleted = remove_files(folder) + remove_pictures(self.embedding_dir)
            self.refresh()
            if not self.people:  # the last one: nothing of anybody is left
                for filename in (ENROLL_FILE, CALIBRATION_FILE):
                    Path(self.embedding_dir, filename).unlink(missing_ok=True)
                self.read_thresholds()
            return {'deleted': [str(path) for path in deleted], 'state': self.state()}

    def delete_vector(self, name):
        """Remove the d-vector of somebody who has no recordings here. Those of the others stay."""
        embeddings, made_with = read_enrolment(self.embedding_dir)
        filename = Path(self.embedding_dir, ENROLL_FILE)
        rest = {other: vector for other, vector in embeddings.items() if other != name}
        recordings = {other: about for other, about in made_with.get('recordings', {}).items() if other in rest}
        if rest:
            write_pickles(filename, rest, {**made_with, 'recordings': recordings})
        else:
            filename.unlink()

    def take_back(self, name, filename):
        """Remove one recording of a person. With the last one, the person goes."""
        with self.lock:
            path = self.file_of(name, filename)
            if len(enrolment_files(path.parent)) == 1:
                return self.delete(path.parent.name)
            path.unlink()
            return {'deleted': [str(path)], 'state': self.state()}

    def rename(self, name, new):
        """Give a person another name: the folder gets it. Raises LabError if somebody has that name."""
        with self.lock:
            self.refresh()
            self.check_enrolled(name)
            folder, target = folder_of(self.test_dir, name), folder_of(self.test_dir, new)
            taken = [other for other in self.test_dir.glob('*')
                     if in_one_way(other.name) == in_one_way(target.name) and other.name != name]
            if taken:
                with coded('taken', name=taken[0].name):
                    raise LabError('%s is enrolled already. Choose another name.' % taken[0].name)
            folder.rename(target)
            remove_pictures(self.embedding_dir)  # they show the old name
            return {'name': target.name, 'state': self.state()}

    # ------------------------------------------------------------------------------------------- thresholds

    def calibrate(self):
        """Find the threshold of this room from the recordings of the people, and keep it with the
        enrolment."""
        begin = time.time_ns()
        with coded('fewRecordings', n=MIN_SPEAKERS):
            thresholds, n_speakers = find_thresholds(self.model, [str(self.test_dir)], self.use_cuda)
        with self.lock:
            written = save_thresholds(self.embedding_dir, self.model, thresholds, str(self.test_dir), n_speakers)
            os.utime(written, ns=(begin, begin))  # a recording that came meanwhile is newer
            self.read_thresholds()
            return {'state': self.state()}

    def forget_room(self):
        """Go back to the threshold of the model."""
        with self.lock:
            Path(self.embedding_dir, CALIBRATION_FILE).unlink(missing_ok=True)
            self.read_thresholds()
            return {'state': self.state()}

    # ------------------------------------------------------------------------------------------- answers

    def score(self, wav, claimed=None, why=False):
        """Who speaks in a recording, and whether it is the claimed speaker. why: also what explains it."""
        heard = self.hear(wav)
        with self.lock:
            if why:  # somebody may have enrolled at the command line; while somebody speaks, there is no time
                self.refresh()
            scores = dict(zip(self.people, (self.unit_vectors() @ heard['vector']).tolist())) if (
                self.people) else {}
            limits = self.limits(heard['about']['seconds'])
            threshold = description_for(self.description, heard['about']['seconds'])['eer']
            kind, names = answer(scores, limits)
            ranking = [{'name': name, 'score': scores[name]}
                       for name in sorted(scores, key=scores.get, reverse=True)]
            said = {'recording': heard['about'], 'threshold': threshold, 'limits': limits,
                    'ranking': ranking,
                    'answer': {'kind': kind, 'names': names},
                    'margin': ranking[0]['score'] - ranking[1]['score'] if len(ranking) > 1 else None}
            if claimed is not None:
                self.check_enrolled(claimed)
                mine = next(one for one in ranking if one['name'] == claimed)
                said['claimed'] = {**mine, 'accepted': mine['score'] > threshold,
                                   **self.meaning(mine['score'], heard['about']['seconds'])}
            compared = claimed or (ranking[0]['name'] if ranking else None)
            said['notes'] = self.notes(heard, compared)
            if why and ranking:
                said['why'] = self.why(heard, compared)
            return said

    def meaning(self, score, seconds):
        """How often two people score as high here: 'pairs' of enrolled people, and how many of them do.

        'conditions': the probability of one speaker, for recordings of one room and of two places, on so many seconds
        of speech, as own_voice.compare prints it; {} if the model does not know it, or the room has its own threshold.
        """
        lines = {} if self.is_of_room else description_for(self.description, seconds)
        conditions = {name: float(expit(log_likelihood_ratio(score, lines, '_' + name)))
                      for name in CONDITIONS if 'slope_' + name in lines}
        matrix = self.unit_vectors() @ self.unit_vectors().T
        among = matrix[np.triu_indices(len(matrix), 1)]
        return {'pairs': len(among), 'as_high': int(np.sum(among >= score)), 'conditions': conditions}

    def notes(self, heard, name):
        """What makes a recording hard to compare with that person's: list of codes of TEXTS with values.

        Bandwidths are named only if they are surely known of both (sure_bandwidth).
        """
        here = heard['sure']
        there = [one['sure'] for one in self.people[name]['files']] if name else []
        if not there or not all(differ_in_bandwidth({'bandwidth': here}, {'bandwidth': one}) for one in there):
            return []  # or the enrolment has both kinds
        return [{'code': 'otherBandwidth', 'values': {
            'name': name, 'here': round(here), 'there': round(min(there))}}]

    def why(self, heard, name):
        """What the network sees and says: the feature, both d-vectors, and a map of all enrolled."""
        gallery, vector = self.unit_vectors(), heard['vector']
        enrolled = gallery[list(self.people).index(name)]
        return {'feature': rounded(heard['feature'][:MOST_FRAMES], 1), 'd_vector': rounded(vector, 4),
                'enrolled': rounded(enrolled, 4), 'name': name, 'score': float(enrolled @ vector),
                'map': draw_map(list(self.people), gallery, vector)}

    def who_when(self, wav, progress=None):
        """Who spoke when in a longer recording. progress: called with the share that is done."""
        with self.lock:
            self.check_anybody()
            gallery = {name: F.normalize(person['embedding']) for name, person in self.people.items()}
            limits = self.limits(SEGMENT)
        recording = recording_of(wav)
        audio = recording.audio  # (n_samples,)
        with coded('tooShort' if len(audio) < c.SAMPLE_RATE else 'noSpeech', NoSpeech):
            bands = who_spoke_when(recording, self.model, gallery, limits, self.use_cuda, progress)
        peaks = np.array([np.abs(part).max(initial=0) for part in np.array_split(audio, N_PEAKS)])
        return {'seconds': len(audio) / c.SAMPLE_RATE, 'peaks': rounded(peaks / max(peaks.max(), 1e-9), 3),
                'bands': [{'begin': begin, 'end': end, 'kind': said[0] if said else None,
                           'names': list(said[1]) if said else []} for begin, end, said in bands]}


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
