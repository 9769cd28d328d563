"""Enrol the speakers: one averaged d-vector for each.

    python enroll.py

Reads TEST_FEAT_DIR/<speaker>/enroll*.p or enroll*.wav (configure.py) and a checkpoint of train.py; makes the demo test
voices where the project's own folder has none. Writes embeddings.p and two pictures of who sounds like whom into
enroll_embeddings. Takes some seconds.
"""
import os

# The lab's own first: from DB_wav_reader on, Ctrl-C ends in one line
import configure as c
from DB_wav_reader import BLUE, ORANGE, run_script, save_picture, sex_of, split_enroll_and_test
from demo_voices import is_demo_name, parameters_of, provide_test_features
from model import get_embeddings, load_model, save_enroll_embeddings
from scoring import all_pairs, cosine_scores

import matplotlib.pyplot as plt
import numpy as np
import torch
from scipy.cluster.hierarchy import dendrogram, linkage
from scipy.spatial.distance import pdist, squareform
from scipy.stats import spearmanr


def enroll_per_spk(use_cuda, test_frames, model, DB, embedding_dir):
    """Sum the d-vectors of the enrolment files of each speaker, and save them in embedding_dir.

    Returns dict speaker -> (1, embedding_size) tensor.
    """
    n_files = len(DB)
    enroll_speaker_list = sorted(set(DB['speaker_id']))
    embeddings = {}

    print('Start to aggregate all the d-vectors per enroll speaker')
    for i in range(n_files):
        filename = DB['filename'][i]
        spk = DB['speaker_id'][i]

        activation = get_embeddings(use_cuda, filename, model, test_frames)  # (1, embedding_size)
        if spk in embeddings:
            embeddings[spk] += activation
        else:
            embeddings[spk] = activation
        print('Aggregates the activation (spk : %s)' % spk)

    save_enroll_embeddings(embedding_dir, embeddings, model)
    for spk in enroll_speaker_list:
        print('Save the embeddings for %s' % spk)
    return embeddings


def draw_similarity(embeddings, filename):
    """Cosine similarity of every two speakers, neighbours in a tree of the most similar ones side by side.

    The tree: average linkage of 1 - cosine.
    """
    speakers = sorted(embeddings)
    scores = similarity(embeddings, speakers)
    fig, (tree_ax, ax) = plt.subplots(2, 1, figsize=(8, 9.5), height_ratios=(1, 4))
    tree = dendrogram(linkage(squareform(1 - scores, checks=False), 'average'), ax=tree_ax, no_labels=True,
                      color_threshold=0, above_threshold_color='black')
    order = tree['leaves']
    ax.imshow(scores[order][:, order], cmap='cividis', aspect='auto')
    for i, a in enumerate(order if len(order) <= 20 else []):  # more would not be readable
        for j, b in enumerate(order):
            ax.text(j, i, '%.2f' % scores[a, b], ha='center', va='center', fontsize=10,
                    color='black' if scores[a, b] > (scores.min() + 1) / 2 else 'white')
    names = [speakers[i] for i in order]
    ax.set(xticks=range(len(names)), yticks=range(len(names)), yticklabels=names)
    ax.set_xticklabels(names, rotation=90)
    for label in ax.get_xticklabels() + ax.get_yticklabels():
        label.set_color({'F': ORANGE, 'M': BLUE, '': 'black'}[sex_of(label.get_text())])
    ax.grid(False)
    tree_ax.set(ylabel='1 - cosine')
    first, second = all_pairs(len(speakers))
    between = scores[first, second]
    nearest = np.argmax(between)
    tree_ax.set_title('%d speakers (women orange, men blue): cosine %.2f on average,\n%s and %s are most alike (%.2f)'
                      % (len(speakers), between.mean(), speakers[first[nearest]], speakers[second[nearest]],
                         between.max()))
    save_picture(fig, filename)


def similarity(embeddings, speakers):
    """Cosine similarity of every two of the speakers: (n, n) array."""
    vectors = torch.cat([embeddings[spk] for spk in speakers]).numpy()  # (n, embedding_size)
    return np.clip(cosine_scores(vectors, vectors), -1, 1)


def draw_parameters(embeddings, filename):
    """Demo voices: cosine similarity of every two against the distance of the parameters they were made with."""
    speakers = sorted(embeddings)
    parameters = np.array([parameters_of(spk) for spk in speakers])  # (n, n_parameters), each of variance 1
    first, second = all_pairs(len(speakers))
    distances, scores = pdist(parameters), similarity(embeddings, speakers)[first, second]
    same_sex = np.array([sex_of(speakers[i]) == sex_of(speakers[j]) for i, j in zip(first, second)])
    fig, ax = plt.subplots()
    for mask, marker, label in ((same_sex, 'o', 'same sex'), (~same_sex, 'x', 'a woman and a man')):
        ax.plot(distances[mask], scores[mask], marker, label='%s (%d pairs)' % (label, mask.sum()))
    ax.set(xlabel="distance of the voices' parameters (standard deviations)", ylabel='cosine similarity',
           title='Score of two demo voices against how differently they were made:\nrank correlation %.2f over %d pairs'
           % (spearmanr(distances, scores)[0], len(scores)))
    ax.legend()
    save_picture(fig, filename)


def main():
    # Settings
    use_cuda = True  # use a GPU if there is one; False: the CPU in any case
    log_dir = 'model_saved'  # where the checkpoints are saved
    embedding_size = 128  # dimension of a d-vector; None: what the checkpoint says
    cp_num = 24  # which checkpoint to use? 'best' is the one with the lowest validation loss; the same in all scripts
    n_classes = None  # how many speakers in the training data? None: what the checkpoint says
    test_frames = 200  # frames (10 ms) of the segments that an utterance is cut into; try 100 and 400
    segments = test_frames  # None: embed the utterance in one pass, here and in the two test scripts
    embedding_dir = 'enroll_embeddings'  # where to save the embeddings
    plot = True  # write the pictures of who sounds like whom there, too

    # Load the model from the checkpoint
    model = load_model(use_cuda, log_dir, cp_num, embedding_size, n_classes)

    # Get the dataframe for the enroll DB
    provide_test_features()
    enroll_DB, test_DB = split_enroll_and_test(c.TEST_FEAT_DIR)

    # Perform the enrollment and save the results
    embeddings = enroll_per_spk(use_cuda, segments, model, enroll_DB, embedding_dir)

    # Draw who sounds like whom
    if plot and len(embeddings) > 2:
        draw_similarity(embeddings, os.path.join(embedding_dir, 'similarity.png'))
        if all(is_demo_name(spk) for spk in embeddings):
            draw_parameters(embeddings, os.path.join(embedding_dir, 'parameters.png'))


if __name__ == '__main__':
    run_script(main)
