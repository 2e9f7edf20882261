"""Extractors with weights: what they compute is what the original computes, whatever the length and the block."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_speech import (
    CELL,
    RATE,
    constant,
    deepspeech_graph,
    deepspeech_layers,
    field,
    node,
    small_config,
    speech_like,
)

from models import audio
from models.audio import deepspeech, frozen_graph, hubert, logmel, pretrained, speech_embedding, wav2vec2, wav2vec2_base
from models.audio.logmel_embedding import extract as extract_both
from models.errors import InputError, MissingAssetError
from models.onnx_session import open_session

LOUD = np.where(np.arange(RATE) // 40 % 2, 32767, -32768).astype(np.int16)  # clipped as hard as can be


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return deepspeech_graph(tmp_path_factory.mktemp("deepspeech") / "graph.pb", deepspeech_layers())


@pytest.fixture(scope="module")
def esperanto(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("esperanto")
    Wav2Vec2ForCTC(Wav2Vec2Config(**small_config(vocab_size=44))).save_pretrained(folder)
    return folder / "model.safetensors"


@pytest.fixture
def embedding(assets: Path) -> list[Path]:
    files = ("openwakeword_melspectrogram.onnx", "openwakeword_speech_embedding.onnx")
    return [assets / "weights" / name for name in files]


# ------------------------------------------------------------------------------------------------------ frozen graph


def test_constants_are_read_however_they_are_written(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    table, row = random.normal(size=(3, 4)), random.normal(size=5)
    path = tmp_path / "graph.pb"
    path.write_bytes(
        constant("a/table", table)
        + constant("row", row, packed=True)
        + constant("same", np.full((2, 3), 0.25), once=True)
        + constant("whole", np.arange(4), kind=3)
        + node("table", "Identity")
        + field(2, b"")
    )
    found = frozen_graph.read_constants(path, lambda name: name != "row")
    assert set(found) == {"a/table", "same"}
    np.testing.assert_array_equal(found["a/table"], table.astype(np.float32))
    np.testing.assert_array_equal(found["same"], np.full((2, 3), 0.25, np.float32))
    np.testing.assert_array_equal(frozen_graph.read_constants(path, "row".__eq__)["row"], row.astype(np.float32))


def test_a_damaged_graph_is_refused(tmp_path: Path, graph: Path) -> None:
    data = graph.read_bytes()
    path = tmp_path / "damaged.pb"
    for broken in (b"", data[: len(data) // 2], data[:-1], b"\xff" * 40, b"<html>not found</html>" * 9):
        path.write_bytes(broken)
        with pytest.raises(InputError, match="damaged.pb"):
            deepspeech.Network.load(path)
    huge = field(2, field(1, 0)) + field(2, field(1, 1 << 63))
    for shape, numbers in ((huge, field(5, b"1234")), (field(2, field(1, 2)), field(5, b"12345"))):
        path.write_bytes(node("a", "Const", {"value": field(8, field(1, 1) + field(2, shape) + numbers)}))
        with pytest.raises(InputError, match="not a whole frozen graph"):
            frozen_graph.read_constants(path, lambda name: True)
    random = np.random.default_rng(0)
    for _ in range(60):
        spoilt = bytearray(data)
        for place in random.integers(0, len(data), 3):
            spoilt[place] = random.integers(0, 256)
        path.write_bytes(spoilt)
        try:
            frozen_graph.read_constants(path, lambda name: True)
        except InputError:
            continue


def test_another_graph_is_refused_by_what_it_lacks(tmp_path: Path) -> None:
    layers = deepspeech_layers()
    wrong = {**layers, "h6": layers["h6"][:, :28], "b6": layers["b6"][:28]}
    with pytest.raises(InputError, match="h6") as raised:
        deepspeech.Network.load(deepspeech_graph(tmp_path / "wrong.pb", wrong))
    assert "b90017e8" in raised.value.fix
    del layers["bidirectional_rnn/bw/basic_lstm_cell/kernel"]
    with pytest.raises(InputError) as raised:
        deepspeech.Network.load(deepspeech_graph(tmp_path / "less.pb", layers))
    assert "bw/kernel" in raised.value.why


# -------------------------------------------------------------------------------------------------------- DeepSpeech


def cepstra_by_definition(sound: np.ndarray) -> np.ndarray:
    """The front end span by span, triangle by triangle, cosine by cosine."""
    lead = np.concatenate([np.zeros(40), sound.astype(float)])
    emphasised = np.append(lead[0], lead[1:] - 0.97 * lead[:-1])
    spans = 1 if len(lead) <= 400 else 1 + int(np.ceil((len(lead) - 400) / 160))
    emphasised = np.concatenate([emphasised, np.zeros(400 + 160 * spans)])
    mel = np.linspace(0, 2595 * np.log10(1 + 8000 / 700), 28)
    corners = [int(513 * 700 * (10 ** (value / 2595) - 1) / 16000) for value in mel]
    rows = []
    for number in range(0, spans, 2):
        span = np.zeros(512)
        span[:400] = emphasised[number * 160 : number * 160 + 400]
        bins = np.arange(257)[:, None] * np.arange(512) * 2 * np.pi / 512
        power = ((span * np.cos(bins)).sum(1) ** 2 + (span * np.sin(bins)).sum(1) ** 2) / 512
        bands = []
        for left, top, right in zip(corners, corners[1:], corners[2:], strict=False):
            band = sum(power[i] * (i - left) / (top - left) for i in range(left, top))
            bands.append(band + sum(power[i] * (right - i) / (right - top) for i in range(top, right)))
        logs = np.log([band or np.finfo(float).eps for band in bands])
        places = np.arange(26)
        row = [
            (logs * np.cos(np.pi * k * (2 * places + 1) / 52)).sum() * np.sqrt((1 if k == 0 else 2) / 26)
            for k in range(26)
        ]
        row = np.array(row) * (1 + 11 * np.sin(np.pi * places / 22))
        row[0] = np.log(power.sum() or np.finfo(float).eps)
        rows.append(row)
    return np.array(rows)


def scores_by_definition(layers: dict[str, np.ndarray], rows: np.ndarray) -> np.ndarray:
    """The graph entry by entry, as TensorFlow's BasicLSTMCell is defined."""
    count = len(rows)
    padded = np.concatenate([np.zeros((9, 26)), rows, np.zeros((9, 26))])
    seen = np.array([padded[k : k + 19].reshape(-1) for k in range(count)])
    values = (seen - seen.mean()) / seen.std()
    for name in "123":
        values = np.clip(values @ layers[f"h{name}"] + layers[f"b{name}"], 0, 20)

    def sigmoid(x: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-x))

    both = []
    for way in ("fw", "bw"):
        kernel, bias = (layers[f"bidirectional_rnn/{way}/basic_lstm_cell/{part}"] for part in ("kernel", "bias"))
        memory, said, out = np.zeros(CELL), np.zeros(CELL), np.zeros((count, CELL))
        for k in range(count) if way == "fw" else reversed(range(count)):
            gates = np.concatenate([values[k], said]) @ kernel + bias
            takes, new, keeps, shows = np.split(gates, 4)
            memory = memory * sigmoid(keeps + 1) + sigmoid(takes) * np.tanh(new)
            said = np.tanh(memory) * sigmoid(shows)
            out[k] = said
        both.append(out)
    last = np.clip(np.concatenate(both, 1) @ layers["h5"] + layers["b5"], 0, 20)
    return last @ layers["h6"] + layers["b6"]


@pytest.mark.parametrize("samples", [0, 1, 300, 361, 5000, 16000])
def test_deepspeech_hears_what_it_was_trained_on(samples: int) -> None:
    sound = speech_like(1.0)[:samples]
    sound[1000:2000] = 0
    np.testing.assert_allclose(deepspeech.cepstra(sound), cepstra_by_definition(sound), atol=1e-6)
    np.testing.assert_allclose(deepspeech.cepstra(sound, 7), deepspeech.cepstra(sound), atol=1e-9)


def test_deepspeech_computes_what_its_graph_says(graph: Path) -> None:
    rows = deepspeech.cepstra(speech_like(2.0))
    expected = scores_by_definition(deepspeech_layers(), rows)
    network = deepspeech.Network.load(graph)
    assert expected.std() > 0.3
    assert np.ptp(expected, axis=0).max() > 0.5  # it is not that everything gives the same
    for block in (3000, 64, 7):  # one block, and several whose states have to be carried both ways
        np.testing.assert_allclose(network.scores(rows, block), expected, atol=1e-4)


def test_old_names_of_the_lstms_weights_are_known(tmp_path: Path, graph: Path) -> None:
    layers = {
        name.replace("kernel", "weights").replace("cell/bias", "cell/biases"): values
        for name, values in deepspeech_layers().items()
    }
    rows = deepspeech.cepstra(speech_like(0.4))
    old = deepspeech.Network.load(deepspeech_graph(tmp_path / "old.pb", layers))
    np.testing.assert_array_equal(old.scores(rows), deepspeech.Network.load(graph).scores(rows))


# ------------------------------------------------------------------------------------------------ wav2vec and HuBERT


def direct(path: Path, sound: np.ndarray) -> np.ndarray:
    """What transformers gives for a whole recording, with 40 samples of silence before it."""
    from transformers import Wav2Vec2ForCTC

    model = Wav2Vec2ForCTC.from_pretrained(path.parent).eval()
    values = sound / 32768
    values = np.concatenate([np.zeros(40), (values - values.mean()) / np.sqrt(values.var() + 1e-7), np.zeros(360)])
    count = -(-len(sound) // 320)
    with torch.no_grad():
        return model(torch.tensor(values[: (count - 1) * 320 + 400], dtype=torch.float32)[None]).logits[0].numpy()


def test_a_short_recording_gives_what_transformers_gives(esperanto: Path) -> None:
    sound = speech_like(2.01)
    model = pretrained.load(esperanto, "Wav2Vec2ForCTC", {})
    values = pretrained.entries(lambda samples: model(samples).logits, sound, 44)
    np.testing.assert_allclose(values, direct(esperanto, sound), atol=1e-4)
    assert values.std(0).max() > 0.02


def test_a_part_of_a_long_recording_is_that_part_of_the_whole(esperanto: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "BLOCK", 60)
    monkeypatch.setattr(pretrained, "CONTEXT", 20)
    model = pretrained.load(esperanto, "Wav2Vec2ForCTC", {})
    lengths = []

    def run(samples: torch.Tensor) -> torch.Tensor:
        lengths.append(samples.shape[1])
        return model(samples).logits

    sound = speech_like(5.0)
    whole = pretrained.entries(run, sound, 44)
    assert max(lengths) == (60 + 2 * 20 - 1) * 320 + 400  # no block takes more memory than another
    for wanted in (slice(0, 60), slice(50, 130), slice(131, 132), slice(200, None), slice(90, 90)):
        part = pretrained.entries(run, sound, 44, wanted=wanted)
        np.testing.assert_allclose(part, whole[wanted], atol=1e-4)
    assert np.abs(whole - direct(esperanto, sound)).mean() < 0.2 * whole.std(0).mean()  # seams are small


def test_weights_are_read_under_their_old_names_and_without_a_config(tmp_path: Path, esperanto: Path) -> None:
    from safetensors.torch import load_file

    names = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    weights = {}
    for name, values in load_file(esperanto).items():
        for new, old in names.items():
            name = name.replace(new, old)
        weights[name] = values
    path = tmp_path / "pytorch_model.bin"
    torch.save(weights, path)
    sound = speech_like(1.0)

    def scores(where: Path) -> np.ndarray:
        model = pretrained.load(where, "Wav2Vec2ForCTC", small_config(vocab_size=44))
        return pretrained.entries(lambda samples: model(samples).logits, sound, 44)

    np.testing.assert_array_equal(scores(path), scores(esperanto))


def test_weights_that_are_not_whole_are_refused(tmp_path: Path, esperanto: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(esperanto)
    (tmp_path / "config.json").write_text((esperanto.parent / "config.json").read_text())
    path = tmp_path / "model.safetensors"
    save_file({name: values for name, values in weights.items() if "layers.1." not in name}, path)
    with pytest.raises(InputError, match="not a whole Wav2Vec2ForCTC"):
        pretrained.load(path, "Wav2Vec2ForCTC", {})
    path.write_bytes(esperanto.read_bytes()[:-2000])
    with pytest.raises(InputError, match="cannot be loaded"):
        pretrained.load(path, "Wav2Vec2ForCTC", {})
    path.write_bytes(esperanto.read_bytes())
    (tmp_path / "config.json").write_text(json.dumps(small_config(vocab_size=31)))
    with pytest.raises(InputError):
        pretrained.load(path, "Wav2Vec2ForCTC", {})
    model = pretrained.load(esperanto, "Wav2Vec2ForCTC", {})
    with pytest.raises(InputError, match="44"):  # a model of another size
        pretrained.entries(lambda samples: model(samples).logits[..., :43], speech_like(0.2), 44)


def test_a_pickle_that_calls_something_is_refused(tmp_path: Path) -> None:
    canary = tmp_path / "canary"

    class Bomb:
        def __reduce__(self) -> tuple:
            return Path.touch, (canary,)

    path = tmp_path / "pytorch_model.bin"
    torch.save({"lm_head.weight": Bomb()}, path)
    with pytest.raises(InputError, match="cannot be loaded"):
        pretrained.load(path, "Wav2Vec2ForCTC", small_config(vocab_size=44))
    assert not canary.exists()


def test_without_transformers_the_message_says_how_to_get_it(esperanto: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(MissingAssetError, match="transformers") as raised:
        wav2vec2.extract(speech_like(0.3), 5, 16, [esperanto])
    assert "[speech]" in raised.value.fix


# ------------------------------------------------------------------------------------------------- speech embedding


def test_the_speech_embedding_does_not_depend_on_blocks(embedding: list[Path]) -> None:
    sound = speech_like(3.0)
    sound[: RATE // 2] = 0
    first = open_session(embedding[0])
    whole = speech_embedding.mel_spectra(first, sound, 360)
    for block in (1, 50, 359):
        np.testing.assert_allclose(speech_embedding.mel_spectra(first, sound, 360, block), whole, atol=1e-4)
    values = speech_embedding.extract(sound, 75, 16, embedding)
    # What is said much later changes nothing but the level below which spectra are cut off.
    np.testing.assert_allclose(speech_embedding.extract(sound[: 2 * RATE], 25, 16, embedding), values[:25], atol=1e-4)


def test_the_speech_embedding_is_centred_on_its_frame(embedding: list[Path]) -> None:
    # The frames that feel a burst lie symmetrically about it.
    quiet = np.random.default_rng(0).normal(0, 30, 4 * RATE)
    quiet[-RATE // 4 :] *= 600  # so that both are cut off at the same level
    burst = quiet.copy()
    burst[2 * RATE - 80 : 2 * RATE + 80] += np.random.default_rng(1).normal(0, 8000, 160)
    plain, other = (speech_embedding.extract(x.astype(np.int16), 100, 2, embedding) for x in (quiet, burst))
    felt = np.flatnonzero(np.abs(plain - other).max((1, 2)) > 1e-4)
    assert felt[0] + felt[-1] == pytest.approx(100, abs=1)
    assert 8 <= 50 - felt[0] <= 11  # it sees 0.4 s each way


def test_a_file_that_is_no_network_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(b"<html>not found</html>")
    with pytest.raises(InputError, match="net.onnx"):
        speech_embedding.extract(speech_like(0.3), 5, 16, [path, path])


# --------------------------------------------------------------------------------------------- what holds for all


@pytest.fixture(params=["logmel", "deepspeech", "wav2vec2", "wav2vec2_base", "hubert", "speech_embedding", "both"])
def ready(request: pytest.FixtureRequest, tmp_path: Path):
    """An extractor with small weights (or the true ones, where they are small), and how it is called."""
    name = request.param
    if name == "logmel":
        return logmel, logmel.extract, []
    if name == "deepspeech":
        return deepspeech, deepspeech.extract, [request.getfixturevalue("graph")]
    if name in ("speech_embedding", "both"):
        files = request.getfixturevalue("embedding")
        if name == "both":
            return audio.extractor("logmel_embedding"), extract_both, files
        return speech_embedding, speech_embedding.extract, files
    import transformers

    torch.manual_seed(2)
    if name == "hubert":
        sizes = {"hidden_size": 1024, "num_hidden_layers": 1, "num_attention_heads": 4, "num_conv_pos_embeddings": 4}
        config = transformers.HubertConfig(**small_config(**sizes, num_conv_pos_embedding_groups=16, vocab_size=32))
        transformers.HubertForCTC(config).save_pretrained(tmp_path)
        return hubert, hubert.extract, [tmp_path / "model.safetensors"]
    if name == "wav2vec2":
        return wav2vec2, wav2vec2.extract, [request.getfixturevalue("esperanto")]
    config = small_config(feat_extract_norm="group", conv_bias=False, do_stable_layer_norm=False, vocab_size=32)
    transformers.Wav2Vec2ForCTC(transformers.Wav2Vec2Config(**config)).save_pretrained(tmp_path)
    return wav2vec2_base, wav2vec2_base.extract, [tmp_path / "model.safetensors"]


PAPERS = {"deepspeech": (29, 16), "wav2vec2": (44, 16), "hubert": (1024, 2)}


def test_every_frame_has_its_window_of_numbers(ready) -> None:
    module, extract, weights = ready
    name = module.__name__.split(".")[-1]
    assert PAPERS.get(name, (module.SIZE, module.WINDOW)) == (module.SIZE, module.WINDOW)
    speech = speech_like(1.3)
    silent, short = np.zeros(RATE, np.int16), speech[:50]
    for sound in (speech, silent, LOUD, short, np.empty(0, np.int16)):
        for frame_count, window in ((33, module.WINDOW), (1, 3)):
            values = extract(sound, frame_count, window, weights)
            assert values.shape == (frame_count, module.SIZE, window)
            assert values.dtype == np.float32
            assert np.isfinite(values).all()
    assert extract(speech, 33, module.WINDOW, weights).std(0).max() > 1e-3


def test_neighbouring_windows_share_their_entries(ready) -> None:
    module, extract, weights = ready
    values = extract(speech_like(1.3), 33, module.WINDOW, weights)
    # A frame is two entries, so the windows of two frames overlap but for two; the grid meets frames without blending.
    if module.WINDOW > 2:
        np.testing.assert_array_equal(values[1:, :, :-2], values[:-1, :, 2:])
    wide = extract(speech_like(1.3), 33, 6, weights)
    # How matrix products round depends on how many rows they have.
    np.testing.assert_allclose(wide[:, :, 2:4], extract(speech_like(1.3), 33, 2, weights), atol=1e-4)
