"""The network and what one does with it: shapes and sizes by hand, checkpoints, d-vectors against a literal loop."""
import hashlib
import os
import pickle
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch

import configure as c
import model as lab_model
import resnet
import train
from SR_Dataset import read_MFB
from conftest import PROJECT, SIX
from deep_dive.networks import background_network
from support import checks, devices, runs, safe_files
from support.devices import segments_of
from support.messages import LabError


def n_parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_resnet18_layer_by_layer():
    net = resnet.resnet18()
    # convolutions without bias, and 2 numbers of BatchNorm per channel
    assert n_parameters(net.conv1) == 7 * 7 * 16 and n_parameters(net.bn1) == 32
    assert n_parameters(net.layer1) == 4 * (9 * 16 * 16 + 32)
    assert n_parameters(net.layer2) == 9 * 16 * 32 + 64 + 3 * (9 * 32 * 32 + 64) + 16 * 32 + 64
    assert n_parameters(net.layer3) == 9 * 32 * 64 + 128 + 3 * (9 * 64 * 64 + 128) + 32 * 64 + 128
    assert n_parameters(net.layer4) == 9 * 64 * 128 + 256 + 3 * (9 * 128 * 128 + 256) + 64 * 128 + 256
    assert n_parameters(net) == 784 + 32 + 9344 + 33088 + 131712 + 525568

    x = torch.zeros(2, 1, 40, 100)
    for layer, shape in ((net.conv1, (2, 16, 40, 100)), (net.layer1, (2, 16, 40, 100)), (net.layer2, (2, 32, 20, 50)),
                         (net.layer3, (2, 64, 10, 25)), (net.layer4, (2, 128, 5, 13))):
        x = layer(x)
        assert x.shape == shape


def bottleneck_parameters(blocks):
    """1 x 1, 3 x 3 and 1 x 1 convolutions with BatchNorm, and a 1 x 1 around the first block of each layer."""
    total, inplanes = 784 + 32, 16
    for planes, n in zip((16, 32, 64, 128), blocks):
        for i in range(n):
            total += inplanes * planes + 2 * planes + 9 * planes * planes + 2 * planes
            total += planes * 4 * planes + 8 * planes
            total += inplanes * 4 * planes + 8 * planes if i == 0 else 0
            inplanes = 4 * planes
    return total


def basic_parameters(blocks):
    total, inplanes = 784 + 32, 16
    for planes, n in zip((16, 32, 64, 128), blocks):
        for i in range(n):
            total += 9 * inplanes * planes + 9 * planes * planes + 4 * planes
            total += inplanes * planes + 2 * planes if inplanes != planes else 0
            inplanes = planes
    return total


SIZES = {'resnet18': basic_parameters((2, 2, 2, 2)), 'resnet34': basic_parameters((3, 4, 6, 3)),
         'resnet50': bottleneck_parameters((3, 4, 6, 3)), 'resnet101': bottleneck_parameters((3, 4, 23, 3)),
         'resnet152': bottleneck_parameters((3, 8, 36, 3))}


@pytest.mark.parametrize('backbone', SIZES)
def test_every_backbone_takes_any_length_and_batch(backbone):
    with torch.device('meta'):  # shapes alone: nothing is computed
        model = lab_model.background_resnet(24, 7, backbone).eval()
        width = 128 if backbone in ('resnet18', 'resnet34') else 512
        head = width * 24 + 24 + 2 * 24 + 24 * 7 + 7
        assert n_parameters(model) == SIZES[backbone] + head
        for batch, n_frames in ((1, 1), (3, 41)):
            embedding, logits = model(torch.randn(batch, 1, 40, n_frames))
            assert embedding.shape == (batch, 24) and logits.shape == (batch, 7)


@pytest.mark.parametrize('backbone', ['resnet18', 'resnet50'])
def test_every_parameter_learns(backbone):
    torch.manual_seed(0)
    model = lab_model.background_resnet(16, 3, backbone)
    _, logits = model(torch.randn(4, 1, 40, 16))
    torch.nn.functional.cross_entropy(logits, torch.tensor([0, 1, 2, 0])).backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.parameters())


def test_forward_is_what_the_slides_show():
    torch.manual_seed(0)
    model = lab_model.background_resnet(32, 5).eval()
    x = torch.randn(2, 1, 40, 64)
    net = model.pretrained
    out = net.layer4(net.layer3(net.layer2(net.layer1(torch.relu(net.bn1(net.conv1(x)))))))
    expected = out.mean(dim=(2, 3)) @ model.fc0.weight.T + model.fc0.bias
    embedding, logits = model(x)
    torch.testing.assert_close(embedding, expected)
    hidden = torch.relu(expected / (1 + 1e-5) ** 0.5)  # a fresh BatchNorm subtracts 0 and divides by 1
    torch.testing.assert_close(logits, hidden @ model.last.weight.T + model.last.bias)


def test_residual_blocks_add_their_input():
    x = torch.randn(1, 8, 6, 6)
    block = resnet.BasicBlock(8, 8).eval()
    torch.nn.init.zeros_(block.conv2.weight)
    torch.testing.assert_close(block(x), torch.relu(x))
    block = resnet.Bottleneck(8, 2).eval()
    torch.nn.init.zeros_(block.conv3.weight)
    torch.testing.assert_close(block(x), torch.relu(x))


def test_unknown_backbone_lists_the_known():
    with pytest.raises(LabError, match='alexnet. Choose one of resnet18, .*resnet152.$'):
        lab_model.background_resnet(128, 10, 'alexnet')
    with pytest.raises(LabError, match='alexnet. Choose one of resnet18, .*resnet152, vgg, lstm, cnn_lstm'):
        background_network(128, 10, 'alexnet')


@pytest.mark.parametrize('backbone', ['resnet18', 'resnet50'])
def test_the_network_of_the_deep_dive_is_that_of_the_slides(backbone):
    """With its default settings, it has the same parameters under the same names, and computes the same numbers."""
    networks = []
    for kind in (lab_model.background_resnet, background_network):
        torch.manual_seed(0)
        networks.append(kind(16, 4, backbone).eval())
    lab, deep = networks
    assert list(lab.state_dict()) == list(deep.state_dict())
    assert all(torch.equal(value, deep.state_dict()[name]) for name, value in lab.state_dict().items())
    x = torch.randn(2, 1, 40, 50)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(lab(x), deep(x)))


def save(name, model, folder='model_saved', **more):
    optimizer = train.create_optimizer('sgd', model, 0.1, 1e-4)
    runs.save_checkpoint('%s/checkpoint_%s.pth' % (folder, name), {
        'epoch': 25, 'state_dict': model.state_dict(), 'optimizer': optimizer.state_dict(), **more})


def literal_d_vector(model, feature, test_frames):
    """The d-vector of a feature (n_frames, 40), segment by segment, as the slides compute it."""
    total = torch.zeros(16)
    for start in range(0, len(feature), test_frames):
        segment = feature[start:start + test_frames]
        x = torch.zeros(1, 1, 40, len(segment))
        for t in range(len(segment)):
            for f in range(40):
                x[0, 0, f, t] = segment[t, f]
        with torch.no_grad():
            total += model(x)[0][0]
    return total / torch.sqrt((total ** 2).sum())


def test_d_vector_against_a_literal_loop(lab, write_feat):
    torch.manual_seed(0)
    model = lab_model.background_resnet(16, 4).eval()
    filename = write_feat('s1/a.p', n_frames=171)  # 71 after trimming: no multiple of 30, more than a batch
    feature, _ = read_MFB(filename)
    for test_frames, in_the_loop in ((1, 1), (30, 30), (71, 71), (1000, 71), (None, 71)):
        d_vector = lab_model.get_embeddings(False, filename, model, test_frames)
        assert d_vector.shape == (1, 16)
        expected = literal_d_vector(model, feature, in_the_loop)
        torch.testing.assert_close(d_vector[0], expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize('kind, settings, rebuilt', [
    (lab_model.background_resnet, {'backbone': 'resnet34'}, lab_model.background_resnet),
    (background_network, {'backbone': 'resnet18', 'pooling': 'average', 'head': 'slides'}, lab_model.background_resnet),
    (background_network, {'backbone': 'resnet18', 'pooling': 'average', 'head': 'normalised'}, background_network),
    (background_network, {'backbone': 'vgg', 'pooling': 'statistics', 'head': 'cosine'}, background_network)],
    ids=['lab', 'deep dive as lab', 'other head', 'other network'])
def test_checkpoint_knows_what_rebuilds_the_model(lab, write_feat, capsys, kind, settings, rebuilt):
    torch.manual_seed(0)
    model = kind(48, 9, **settings).eval()
    backend = {'mean': torch.ones(1, 48), 'lda': torch.ones(48, 5), 'wccn': torch.eye(48)}
    model.settings['level'] = -30
    save(3, model, features=checks.feature_settings(), **model.settings, **backend)
    loaded = lab_model.load_model(False, 'model_saved', 3, None, None)
    assert capsys.readouterr().out == '=> loading checkpoint\n'
    assert type(loaded) is rebuilt and not loaded.training and loaded.settings['level'] == -30
    assert {**lab_model.SLIDES, **loaded.settings}.items() >= settings.items()
    assert loaded.backend.keys() == backend.keys() and torch.equal(loaded.backend['wccn'], torch.eye(48))
    assert loaded.checkpoint == {'file': 'model_saved/checkpoint_3.pth', 'sha256': hashlib.sha256(
        (lab / 'model_saved/checkpoint_3.pth').read_bytes()).hexdigest()}
    filename = write_feat('s1/a.p', n_frames=150)
    before, after = (lab_model.get_embeddings(False, filename, net, 100) for net in (model, loaded))
    assert torch.equal(before, after)


def test_checkpoint_of_the_original_lab_loads(lab):
    """Three keys, a ResNet with a classifier of its own, saved in pickled containers."""
    model = lab_model.background_resnet(128, 240)
    state_dict = OrderedDict(model.state_dict())
    state_dict['pretrained.fc.weight'], state_dict['pretrained.fc.bias'] = torch.zeros(1000, 128), torch.zeros(1000)
    runs.save_checkpoint('model_saved/checkpoint_24.pth', {'epoch': 25, 'state_dict': state_dict, 'optimizer': {}})
    assert lab_model.load_model(True, 'model_saved', 24, 128, 240).last.out_features == 240


def test_wrong_checkpoints_are_refused(lab):
    with pytest.raises(LabError, match='checkpoint_24.pth does not exist. Run python train.py first.$'):
        lab_model.load_model(False, 'model_saved', 24, 128, 240)
    with pytest.raises(LabError, match='Run python train.py --log_dir=model_aam first.$'):
        lab_model.load_model(False, 'model_aam', 24, 128, 240)
    model = lab_model.background_resnet(16, 4)
    for name in (1, 2, 10, 'best'):
        save(name, model)
    with pytest.raises(LabError, match='Run python train.py first, or set cp_num to one of 1, 2, 10, .best..$'):
        lab_model.load_model(False, 'model_saved', 24, 128, 240)
    with pytest.raises(LabError, match=r'2.pth has embedding_size = 16 and n_classes = 4, main\(\) says 128 and None'):
        lab_model.load_model(False, 'model_saved', 2, 128, None)
    with pytest.raises(LabError, match=r'2.pth has embedding_size = 16 and n_classes = 4, main\(\) says 16 and 240'):
        lab_model.load_model(False, 'model_saved', 2, 16, 240)

    (lab / 'model_saved/checkpoint_3.pth').write_bytes(b'rubbish')
    torch.save([1, 2], 'model_saved/checkpoint_4.pth')
    torch.save({'state_dict': {'a': torch.ones(1)}}, 'model_saved/checkpoint_5.pth')
    torch.save({'state_dict': model.state_dict(), 'evil': print}, 'model_saved/checkpoint_6.pth')
    torch.save({'state_dict': [1, 2]}, 'model_saved/checkpoint_7.pth')
    torch.save({'state_dict': {'last.weight': 3}}, 'model_saved/checkpoint_8.pth')
    torch.save({'state_dict': {'fc0.weight': torch.ones(16, 128)}}, 'model_saved/checkpoint_9.pth')
    torch.save({'state_dict': model.state_dict(), 'backbone': 'alexnet'}, 'model_saved/checkpoint_11.pth')
    for number, reason in ((3, 'not a checkpoint that can be loaded'), (4, "no 'state_dict'"), (5, 'fc0.weight'),
                           (6, 'not a checkpoint that can be loaded'), (7, "no 'state_dict'"), (8, 'names and tensors'),
                           (9, 'last.weight'), (11, 'unknown backbone.*: alexnet')):
        with pytest.raises(LabError, match='checkpoint_%d.pth.*%s' % (number, reason)) as error:
            lab_model.load_model(False, 'model_saved', number, None, None)
        assert len(str(error.value).splitlines()) <= 2


@pytest.mark.parametrize('wrapper', ['module.', '_orig_mod.', 'module._orig_mod.'])
def test_a_checkpoint_that_was_saved_from_a_wrapper_is_the_network(lab, wrapper):
    model = lab_model.background_resnet(16, 4)
    state_dict = {wrapper + name: value for name, value in model.state_dict().items()}
    runs.save_checkpoint('model_saved/checkpoint_1.pth', {'epoch': 2, 'state_dict': state_dict, 'optimizer': {}})
    loaded = lab_model.load_model(False, 'model_saved', 1, 16, 4)
    torch.testing.assert_close(loaded.state_dict(), model.state_dict(), rtol=0, atol=0)
    del state_dict[wrapper + 'fc0.bias']
    runs.save_checkpoint('model_saved/checkpoint_1.pth', {'state_dict': {**state_dict, 'fc0.bias': torch.ones(16)}})
    with pytest.raises(LabError, match='no checkpoint of the network'):  # only some names have it
        lab_model.load_model(False, 'model_saved', 1, 16, 4)


class Unknown:
    """Something that no checkpoint holds."""


@pytest.mark.parametrize('content, reason', [
    (Unknown(), 'it holds test_network.Unknown, and only tensors and plain data are read'),
    (np.ones(3), 'it holds %s._reconstruct, and only' % np.ones(3).__reduce__()[0].__module__),
    (os.system, 'it holds %s.system, and only' % os.name),
    (pickle.dumps({'state_dict': {}}, 4), 'Unsupported operand 149'),
    (b'\x80\x02garbage', 'Unsupported operand 103'), (b'', 'EOFError'), (b'hello', '101')])
def test_the_advice_of_pytorch_is_not_passed_on(lab, content, reason, recwarn):
    """Its advice is to trust the file. Its letters are bold."""
    if isinstance(content, bytes):
        (lab / 'a.pth').write_bytes(content)
    else:
        torch.save({'state_dict': {}, 'more': content}, 'a.pth')
    with pytest.raises(LabError) as error:
        safe_files.read_checkpoint('a.pth')
    message = str(error.value)
    assert message.startswith('a.pth: not a checkpoint that can be loaded (%s' % reason)
    for word in ('trust', 'weights_only', 'Weights only', 'file an issue', 'two options', '\x1b', 'https', 'Please'):
        assert word not in message
    assert not recwarn.list


def test_checkpoint_of_other_features_is_refused(lab, monkeypatch):
    save(1, lab_model.background_resnet(16, 4), features=checks.feature_settings())
    monkeypatch.setattr(c, 'FILTER_BANK', 26)
    with pytest.raises(LabError, match='trained on other features: FILTER_BANK = 40 there, 26 in configure.py.\n'):
        lab_model.load_model(False, 'model_saved', 1, None, None)


def test_enrolment_is_read_back_and_checked(lab):
    with pytest.raises(LabError, match='nobody is enrolled yet. Run python enroll.py first'):
        lab_model.load_enroll_embeddings('enroll_embeddings')
    model = lab_model.background_resnet(16, 4)
    save(1, model)
    loaded = lab_model.load_model(False, 'model_saved', 1, None, None)
    embedding = np.ones((1, 16), np.float32)
    recordings = {'a': {'LEVEL_DBFS': -44, 'bandwidth': 7600.0}, 'not enrolled': {}}
    lab_model.save_enroll_embeddings('enroll_embeddings', {'a': torch.from_numpy(embedding)}, loaded, recordings)
    with open('enroll_embeddings/embeddings.p', 'rb') as f:
        np.testing.assert_array_equal(pickle.load(f)['a'], embedding)  # other people's notebooks: one dict
    assert torch.equal(lab_model.load_enroll_embeddings('enroll_embeddings', model=loaded)['a'], torch.ones(1, 16))
    made_with = lab_model.read_enrolment('enroll_embeddings')[1]
    assert made_with == {**loaded.checkpoint, 'recordings': {'a': recordings['a']}}
    with pytest.raises(LabError, match='Nobody is enrolled'):
        lab_model.save_enroll_embeddings('enroll_embeddings', {}, loaded, recordings)

    torch.nn.init.ones_(model.last.bias)
    save(2, model)
    other = lab_model.load_model(False, 'model_saved', 2, None, None)
    with pytest.raises(LabError, match='with .*checkpoint_1.pth, and cannot be scored with .*checkpoint_2.pth'):
        lab_model.load_enroll_embeddings('enroll_embeddings', model=other)
    save(1, model)  # trained again
    again = lab_model.load_model(False, 'model_saved', 1, None, None)
    with pytest.raises(LabError, match='with an earlier .*checkpoint_1.pth, which has changed since'):
        lab_model.load_enroll_embeddings('enroll_embeddings', model=again)
    nan = np.full((1, 16), np.nan)
    for content in ([1, 2], {}, {'a': 'b'}, {'a': np.ones(16)}, {'a': np.ones((2, 16))}, {'a': nan}):
        with open('enroll_embeddings/embeddings.p', 'wb') as f:
            pickle.dump(content, f)
        with pytest.raises(LabError, match='not a dict of speakers and their embeddings'):
            lab_model.load_enroll_embeddings('enroll_embeddings')


def test_batches_of_one_and_many_agree(lab):
    model = lab_model.background_resnet(16, 4).eval()
    x = torch.randn(3, 1, 40, 20)
    with torch.inference_mode():
        torch.testing.assert_close(model(x)[0], torch.cat([model(row[None])[0] for row in x]), atol=1e-5, rtol=1e-4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_gpu_and_cpu_agree_and_share_checkpoints(lab, write_feat):
    torch.manual_seed(0)
    model = lab_model.background_resnet(16, 4).to('cuda').eval()
    save(1, model)
    filename = write_feat('s1/a.p')
    on_gpu = lab_model.get_embeddings(True, filename, model, 100)
    on_cpu = lab_model.get_embeddings(False, filename, lab_model.load_model(False, 'model_saved', 1, None, None), 100)
    torch.testing.assert_close(on_gpu, on_cpu, atol=1e-3, rtol=1e-3)


def test_a_checkpoint_from_a_gpu_loads_without_one(lab, monkeypatch):
    model = lab_model.background_resnet(16, 4)
    with monkeypatch.context() as patched:  # what torch.save writes down of tensors on a GPU is where they were
        patched.setattr(torch.serialization, 'location_tag', lambda storage: 'cuda:0')
        save(1, model)
    with zipfile.ZipFile('model_saved/checkpoint_1.pth') as archive:
        assert b'cuda:0' in archive.read('archive/data.pkl')
    loaded = lab_model.load_model(False, 'model_saved', 1, None, None)
    torch.testing.assert_close(loaded.state_dict(), model.state_dict())
    assert loaded.fc0.weight.device.type == 'cpu'


NO_GPU, A_GPU = torch.device('cpu'), torch.device('cuda')


@pytest.mark.parametrize('there, use_cuda, device, line', [
    (True, True, A_GPU, ''), (True, False, NO_GPU, ''), (False, False, NO_GPU, ''),
    (False, True, NO_GPU, 'No GPU found: running on the CPU\n')])
def test_the_device(monkeypatch, capsys, there, use_cuda, device, line):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: there)
    assert devices.get_device(use_cuda) == device and capsys.readouterr().out == ''
    assert devices.get_device(use_cuda, say_so=True) == device and capsys.readouterr().out == line


def test_bfloat16_is_used_where_the_hardware_has_it(monkeypatch):
    def is_used():
        with devices.mixed_precision(NO_GPU):
            return (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
    for abilities in ({}, {'avx512_bf16': True}, {'amx_bf16': True}, {'avx2': True}):
        monkeypatch.setattr(torch.cpu, 'get_capabilities', lambda: abilities, raising=False)
        assert is_used() == any('bf16' in name for name in abilities)
    asked = []
    monkeypatch.setattr(torch.cuda, 'is_bf16_supported', lambda including_emulation: asked.append(including_emulation))
    assert not devices.has_bfloat16(A_GPU) and asked == [False]


def test_the_model_that_ships(six_voices):
    filename = PROJECT / 'model_saved/checkpoint_etri240.pth'
    assert filename.stat().st_size < 4e6
    checkpoint = torch.load(filename)
    assert set(checkpoint) == {'epoch', 'state_dict', 'backbone', 'features', 'n_speakers', 'mean', 'lda', 'wccn',
                               'thresholds'}
    assert (checkpoint['backbone'], checkpoint['n_speakers']) == ('resnet18', 240)
    assert checkpoint['mean'].shape == (1, 128) and 0.7 < checkpoint['mean'].norm() < 1  # raw cosines are high
    assert {tensor.dtype for tensor in checkpoint['state_dict'].values()} == {torch.float32, torch.int64}
    model = lab_model.load_model(False, str(filename.parent), 'etri240', 128, 240)
    vectors = {kind: torch.cat([lab_model.get_embeddings(
        False, six_voices / c.TEST_FEAT_DIR / name / ('%s.p' % kind), model, 100) for name in SIX[:3]])
        for kind in ('enroll', 'test')}  # demo voices, which it has never heard
    scores = vectors['test'] @ vectors['enroll'].T
    assert scores.argmax(dim=1).tolist() == [0, 1, 2] and scores.diag().min() > 0.93


@pytest.mark.parametrize('n_frames, test_frames, expected', [
    (250, 100, [(2, 100), (1, 50)]), (250, None, [(1, 250)]), (6000, None, [(1, 6000)]),
    (13000, None, [(1, 4334), (1, 4334), (1, 4332)]), (12000, None, [(1, 6000), (1, 6000)]),
    (6500, 100, [(64, 100), (1, 100)]), (300, 9000, [(1, 300)])])
def test_an_utterance_is_cut_into_segments(n_frames, test_frames, expected):
    """Only if it is longer than a minute, it is cut although nobody asks for it: an hour at once takes long."""
    x = torch.arange(n_frames * 2.0).reshape(1, 1, 2, n_frames)
    batches = segments_of(x, test_frames)
    assert [(len(batch), batch.shape[3]) for batch in batches] == expected
    assert torch.equal(torch.cat([segment for batch in batches for segment in batch.split(1)], dim=3), x)
