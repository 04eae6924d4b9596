"""The registered networks: requirements for all of them, and facts from each network's paper."""

import inspect

import numpy as np
import pytest
import tensorflow as tf

import r2b_zoo
from r2b_zoo import weights
from r2b_zoo.models import BLOCK_NAMES, topology
from r2b_zoo.models.layers import ChannelGate, Conv2D, LearnedScale, tanh
from r2b_zoo.models.parts import Parts
from tests.networks import randomize
from tests.small import DEPLOYED, NETWORKS, SHALLOW, SMALL, shallow, small_network

NAMES = r2b_zoo.list_models()
EACH = pytest.mark.parametrize(("name", "precision"), NETWORKS)
EACH_DEPLOYED = pytest.mark.parametrize(("name", "precision"), DEPLOYED)
BINARY = [name for name, precision in NETWORKS if precision == "binary"]


def images(rng, count=4, shape=SMALL["input_shape"]):
    return rng.normal(size=(count, *shape)).astype("float32")


def convolutions(model):
    """The convolutions of the blocks, without those of shortcuts: sixteen in a full network."""
    return [
        layer for layer in model.layers if layer.name.startswith("block") and layer.name[6:] in ("a_conv", "b_conv")
    ]


def sign(x):
    return np.where(x >= 0, 1.0, -1.0).astype("float32")


# --- every network ----------------------------------------------------------------------------------------------------


@EACH
def test_forward_gives_probabilities(name, precision, rng):
    model = randomize(small_network(name, precision, SHALLOW))
    probabilities = model(images(rng)).numpy()
    assert probabilities.shape == (4, 10)
    assert np.isfinite(probabilities).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    assert np.ptp(probabilities, axis=0).max() > 1e-3, "all four images have the same answer"


@EACH
def test_training_reaches_every_weight(name, precision, rng):
    """All trainable weights have finite, nonzero gradients; one step changes them and the batch-norm statistics."""
    model = randomize(small_network(name, precision, SHALLOW))
    before = model.get_weights()
    labels = tf.one_hot([0, 3, 7, 9], 10)
    with tf.GradientTape() as tape:
        probabilities = model(images(rng), training=True)
        loss = tf.reduce_mean(tf.keras.losses.categorical_crossentropy(labels, probabilities))
    assert model.trainable_variables, "an earlier test froze this shared network"
    gradients = tape.gradient(loss, model.trainable_variables)
    for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
        assert gradient is not None, variable.name
        assert np.isfinite(gradient).all(), variable.name
        assert np.any(gradient), f"no gradient at {variable.name}"
    tf.keras.optimizers.legacy.SGD(0.1).apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    pairs = zip(model.weights, before, strict=True)
    assert [weight.name for weight, old in pairs if np.array_equal(old, weight)] == []
    if precision == "binary":
        assert all(np.abs(conv.get_weights()[0]).max() <= 1 for conv in convolutions(model)), "latent weights exceed ±1"


@pytest.mark.parametrize("name", NAMES)
def test_intermediates_are_the_blocks_and_the_logits(name):
    outputs = r2b_zoo.intermediates(small_network(name, "real"))
    expected = {
        **{f"block{i}": (None, 32 >> (i - 1) // 2, 32 >> (i - 1) // 2, 16 << (i - 1) // 2) for i in range(1, 9)},
        "logits": (None, 10),
    }
    assert {name: tuple(tensor.shape) for name, tensor in outputs.items()} == expected
    assert tuple(expected)[:-1] == BLOCK_NAMES


def test_intermediates_refuse_a_network_without_blocks():
    other = tf.keras.Sequential([tf.keras.Input((4,)), tf.keras.layers.Dense(2)], name="other")
    with pytest.raises(ValueError, match=r"blocks, layers called block1 to block8; received other, which has none: bu"):
        r2b_zoo.intermediates(other)


def test_a_shallow_network_has_one_block_of_each_kind_and_the_next_is_whole_again():
    with shallow():
        model = r2b_zoo.create("BNN18", **SMALL)
    shapes = {name: tuple(tensor.shape) for name, tensor in r2b_zoo.intermediates(model).items()}
    assert shapes == {"block1": (None, 32, 32, 16), "block2": (None, 16, 16, 32), "logits": (None, 10)}
    assert tuple(r2b_zoo.intermediates(r2b_zoo.create("BNN18", **SMALL))) == (*BLOCK_NAMES, "logits")


@EACH_DEPLOYED
def test_a_network_without_top_equals_the_inside_of_the_full_one(name, precision, rng, tmp_path):
    full = randomize(small_network(name, precision))
    weights.save(full, tmp_path / "full.h5")
    features = r2b_zoo.create(
        name, **{**SMALL, "num_classes": 1000}, precision=precision, include_top=False, weights=tmp_path / "full.h5"
    )
    assert features.output_shape == (None, 4, 4, 128)
    assert tuple(r2b_zoo.intermediates(features)) == BLOCK_NAMES
    inside = tf.keras.Model(full.input, r2b_zoo.intermediates(full))(images(rng))
    outside = tf.keras.Model(features.input, r2b_zoo.intermediates(features))(images(np.random.default_rng(7)))
    for block in BLOCK_NAMES:
        np.testing.assert_array_equal(outside[block], inside[block], err_msg=block)


@EACH_DEPLOYED
def test_features_only_returns_the_stage_outputs_of_the_full_network(name, precision, rng, tmp_path):
    full = randomize(small_network(name, precision))
    weights.save(full, tmp_path / "full.h5")
    arguments = {**SMALL, "precision": precision, "weights": tmp_path / "full.h5", "features_only": True}
    features = r2b_zoo.create(name, **arguments)
    x = images(rng)
    found = features(x)
    assert [tuple(values.shape[1:]) for values in found] == [(32, 32, 16), (16, 16, 32), (8, 8, 64), (4, 4, 128)]
    inside = tf.keras.Model(full.input, r2b_zoo.intermediates(full))(x)
    for values, block in zip(found, topology.FEATURE_NAMES, strict=True):
        np.testing.assert_array_equal(values, inside[block], err_msg=block)
    without_top = r2b_zoo.create(name, **{**arguments, "features_only": False, "include_top": False})
    np.testing.assert_array_equal(found[-1], without_top(x))
    assert not [layer.name for layer in features.layers if layer.name in ("global_pool", "logits", "probabilities")]


@pytest.mark.parametrize("name", NAMES)
def test_features_only_with_the_stem_of_imagenet_are_at_strides_4_to_32(name):
    features = r2b_zoo.create(name, width=8, input_shape=(96, 65, 3), features_only=True)
    assert [shape[1:] for shape in features.output_shape] == [(24, 17, 8), (12, 9, 16), (6, 5, 32), (3, 3, 64)]
    if name != "StrongBaselineNet":  # its learned scale has a factor for every row and column
        anywhere = r2b_zoo.create(name, width=8, features_only=True)
        assert anywhere.input_shape == (None, None, None, 3)


@pytest.mark.parametrize(
    ("name", "precision", "suffix"),
    [*((*network, ".keras") for network in DEPLOYED), ("RealToBinaryNet", "binary", ".h5")],
)
def test_a_network_saved_and_loaded_is_the_same_function(name, precision, suffix, rng, tmp_path):
    model = randomize(small_network(name, precision, SHALLOW))
    model.save(tmp_path / f"model{suffix}")
    loaded = tf.keras.models.load_model(tmp_path / f"model{suffix}")
    x = images(rng)
    np.testing.assert_array_equal(loaded(x), model(x))
    assert loaded.get_config() == model.get_config()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["RealToBinaryNet", "StrongBaselineNet"])
def test_a_tensorflow_saved_model_is_the_same_function(name, rng, tmp_path):
    model = randomize(small_network(name, "binary", SHALLOW))
    model.save(str(tmp_path / "model"), save_traces=False)
    x = images(rng)
    np.testing.assert_array_equal(tf.keras.models.load_model(str(tmp_path / "model"))(x), model(x))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["RealToBinaryNet", "StrongBaselineNet"])
def test_a_tensorflow_saved_model_needs_no_code_of_r2b_zoo(name, rng, tmp_path):
    model = randomize(small_network(name, "binary", SHALLOW))
    model.save(str(tmp_path / "model"))
    loaded = tf.saved_model.load(str(tmp_path / "model"))
    x = images(rng)
    np.testing.assert_allclose(loaded(x, training=False), model(x), atol=1e-5)


# --- precision --------------------------------------------------------------------------------------------------------


@EACH
def test_a_precision_quantises_inputs_and_kernels_accordingly(name, precision):
    convs = convolutions(small_network(name, precision))
    assert len(convs) == 16
    if name == "ResNet18":
        assert all(type(conv) is Conv2D for conv in convs)
        return
    for conv in convs:
        if precision == "real":
            assert conv.input_quantizer is tanh
        else:
            assert conv.input_quantizer.precision == 1
        assert (getattr(conv.kernel_quantizer, "precision", None) == 1) == (precision == "binary")
        assert (conv.kernel_constraint is not None) == (precision == "binary")
        assert not conv.use_bias


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize("layer", ["block1a_conv", "block2a_conv"])
def test_a_binary_convolution_is_the_float_convolution_of_signs(name, layer, rng):
    """Compares them on the inputs that occur inside the network; block2a's convolution has stride 2."""
    model = randomize(small_network(name, "binary", SHALLOW))
    conv = model.get_layer(layer)
    x, y = tf.keras.Model(model.input, [conv.input, conv.output])(images(rng))
    latent = conv.get_weights()[0]
    # Bi-Real Net and XNOR-Net scale a filter by the mean magnitude of its latent weights.
    magnitude = np.abs(latent).mean(axis=(0, 1, 2)) if name in ("BiRealNet18", "XNORNet18") else 1
    expected = tf.nn.conv2d(sign(x.numpy()), sign(latent) * magnitude, conv.strides, "SAME")
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
    if name not in ("BiRealNet18", "XNORNet18"):
        assert np.array_equal(y, np.round(y)), "sums of ±1 are whole numbers"


def test_the_sign_of_zero_is_plus_one():
    conv = Parts("binary", "ste_sign", "ste_sign")
    image = tf.keras.Input((3, 3, 2))
    model = tf.keras.Model(image, conv.conv(image, 1, 1, "conv"))
    model.set_weights([np.zeros((3, 3, 2, 1))])
    assert model(np.zeros((1, 3, 3, 2)))[0, 1, 1, 0] == 9 * 2


@pytest.mark.parametrize("name", BINARY)
def test_a_real_convolution_reads_tanh(name, rng):
    model = randomize(small_network(name, "real", SHALLOW))
    conv = model.get_layer("block2a_conv")
    x, y = tf.keras.Model(model.input, [conv.input, conv.output])(images(rng))
    expected = tf.nn.conv2d(np.tanh(x), conv.get_weights()[0], conv.strides, "SAME")
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", BINARY)
def test_the_weights_of_one_precision_fit_the_next(name, tmp_path):
    """The progressive schedule starts a stage from weights of another precision; loading them gives a warning."""
    before = randomize(small_network(name, "real", SHALLOW))
    weights.save(before, tmp_path / "real.h5")
    after = small_network(name, "binary_activations", SHALLOW)
    with pytest.warns(UserWarning, match=r"trained with precision='real'"):
        weights.load(after, tmp_path / "real.h5")
    for old, new in zip(before.get_weights(), after.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


# --- what the papers say ----------------------------------------------------------------------------------------------


def layer_types(model, *types):
    return [layer.name for layer in model.layers if isinstance(layer, types)]


def test_strong_baseline_has_learned_scales_in_place_of_gates():
    gated, scaled = small_network("RealToBinaryNet", "binary"), small_network("StrongBaselineNet", "binary")
    assert len(layer_types(gated, ChannelGate)) == len(layer_types(scaled, LearnedScale)) == 16
    assert layer_types(gated, LearnedScale) == layer_types(scaled, ChannelGate) == []
    rest = [
        [w.shape for layer in m.layers if not isinstance(layer, (ChannelGate, LearnedScale)) for w in layer.weights]
        for m in (gated, scaled)
    ]
    assert rest[0] == rest[1]


def test_the_gate_reads_the_real_activations_before_the_sign():
    model = small_network("RealToBinaryNet", "binary")
    for conv in convolutions(model):
        half = conv.name.removesuffix("_conv")
        x, y = model.get_layer(f"{half}_gate").input
        assert x is model.get_layer(f"{half}_batch_norm").output is conv.input
        assert y is conv.output


@pytest.mark.parametrize("name", NAMES)
def test_shortcuts_that_change_shape_are_real_by_default(name):
    model = small_network(name, "real" if name == "ResNet18" else "binary")
    convs = [layer for layer in model.layers if layer.name.endswith("_shortcut_conv")]
    assert [conv.filters for conv in convs] == [32, 64, 128]
    assert all(type(conv) is tf.keras.layers.Conv2D and conv.kernel_size == (1, 1) for conv in convs)
    # Networks with a shortcut around each half block have 16 additions; the others have 8.
    adds = 16 if name in ("RealToBinaryNet", "StrongBaselineNet", "BiRealNet18") else 8
    assert len(layer_types(model, tf.keras.layers.Add)) == adds


def test_binary_shortcuts_are_binary_convolutions_after_the_papers_layer():
    for name, layers_before in (
        ("BNN18", ["shortcut_pool"]),
        ("XNORNet18", ["shortcut_pool", "shortcut_sign_batch_norm"]),
    ):
        model = r2b_zoo.create(name, **SMALL, downsample="binary", include_top=False)
        convs = [layer for layer in model.layers if layer.name.endswith("_shortcut_conv")]
        assert [conv.filters for conv in convs] == [32, 64, 128]
        for conv, block in zip(convs, ("block3", "block5", "block7"), strict=True):
            assert conv.kernel_size == (1, 1)
            assert conv.input_quantizer.precision == conv.kernel_quantizer.precision == 1
            source = model.get_layer(f"{block}_{layers_before[-1]}")
            assert conv.input is source.output
            assert model.get_layer(f"{block}_shortcut_batch_norm").input is conv.output


# --- registry ---------------------------------------------------------------------------------------------------------


def test_names_and_cards():
    assert NAMES == ["RealToBinaryNet", "StrongBaselineNet", "BiRealNet18", "XNORNet18", "BNN18", "ResNet18"]
    assert r2b_zoo.list_models(pretrained=True) == ["RealToBinaryNet", "BiRealNet18"]
    assert set(r2b_zoo.list_models(pretrained=False)) == set(NAMES) - {"RealToBinaryNet", "BiRealNet18"}
    for name in NAMES:
        card = r2b_zoo.card(name.lower())
        assert card.name == name == small_network(name, "real", SHALLOW).name == getattr(r2b_zoo, name).__name__
        assert 0 < card.top1 < card.top5 < 100
        assert card.pretrained == (card.weights_url is not None) == (card.pretrained_licence is not None)


def test_unknown_names_list_the_known_ones():
    for function in (r2b_zoo.create, r2b_zoo.card):
        with pytest.raises(ValueError, match=r"no network 'ResNet50'; the networks are RealToBinaryNet, .*ResNet18"):
            function("ResNet50")


# --- arguments --------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("shallow")
def test_input_sizes_may_vary_where_nothing_is_learned_per_pixel(rng):
    model = r2b_zoo.RealToBinaryNet(**{**SMALL, "input_shape": (None, None, 3), "width": 8})
    assert model.get_layer("block1a_gate").reduce_kernel.shape == (8, 1)
    for shape in ((32, 32, 3), (17, 41, 3)):
        assert model(images(rng, 2, shape)).shape == (2, 10)
    with pytest.raises(ValueError, match=r"fixed input size.*Pass input_shape=\(height, width, channels\)"):
        r2b_zoo.StrongBaselineNet(**{**SMALL, "input_shape": (None, None, 3)})


@pytest.mark.usefixtures("shallow")
def test_input_tensor(rng):
    image = tf.keras.Input((32, 32, 3), name="photograph")
    model = r2b_zoo.BNN18(**{**SMALL, "input_shape": None}, input_tensor=image * 2.0)
    assert [tensor.name for tensor in model.inputs] == ["photograph"]
    assert model(images(rng)).shape == (4, 10)


def test_the_stem_of_imagenet():
    model = r2b_zoo.BiRealNet18(input_shape=(64, 64, 1), width=8, include_top=False)
    assert model.get_layer("stem_conv").get_weights()[0].shape == (7, 7, 1, 8)
    assert model.get_layer("stem_pool").output_shape == (None, 16, 16, 8)
    assert model.output_shape == (None, 2, 2, 64)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_shape": (32, 32)}, r"must be \(height, width, channels\).*received \(32, 32\), which has 2 numbers"),
        ({"input_shape": (0, 32, 3)}, r"with positive integers.*received \(0, 32, 3\)"),
        ({"input_shape": (32.0, 32, 3)}, r"with positive integers.*received \(32.0, 32, 3\)"),
        ({"input_shape": (32, 32, None)}, r"with positive integers; received \(32, 32, None\)"),
        ({"input_shape": (3, 224, 224)}, r"received \(3, 224, 224\), which looks like channels first"),
        ({"precision": "float"}, r"precision of {name} must be one of .*'real'; received 'float'"),
        ({"stem": "mnist"}, r"stem must be one of 'imagenet', 'cifar'; received 'mnist'"),
        ({"width": 0}, r"width must be a positive integer; received 0"),
        ({"width": 16.0}, r"width must be a positive integer; received 16.0"),
        ({"num_classes": -1}, r"num_classes must be a positive integer; received -1"),
        ({"num_classes": True}, r"num_classes must be a positive integer; received True"),
        ({"input_tensor": np.zeros((1, 32, 32, 3))}, r"input_tensor must be a Keras tensor.*received .*ndarray"),
        ({"downsample": "pooled"}, r"downsample of {name} must be one of 'real'.*; received 'pooled'"),
        ({"batch_norm_momentum": 1.0}, r"batch_norm_momentum must be a number of at least 0 and below 1; received 1.0"),
        (
            {"batch_norm_momentum": True},
            r"batch_norm_momentum must be a number of at least 0 and below 1; received True",
        ),
        (
            {"weights": "nowhere.h5"},
            r"None, 'imagenet', 'cifar10' or the path of a weights file; there is no file 'nowhere.h5'",
        ),
    ],
)
@pytest.mark.parametrize("name", ["RealToBinaryNet", "ResNet18"])
def test_wrong_arguments(name, arguments, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message.format(name=name)):
        r2b_zoo.create(name, **{**SMALL, **arguments})


def test_input_shape_that_disagrees_with_input_tensor():
    with pytest.raises(ValueError, match=r"input_shape \(32, 32, 3\) disagrees with the shape \(16, 16, 3\)"):
        r2b_zoo.BNN18(**SMALL, input_tensor=tf.keras.Input((16, 16, 3)))


def test_resnet18_has_one_precision():
    with pytest.raises(ValueError, match=r"precision of ResNet18 must be one of 'real'; received 'binary'"):
        r2b_zoo.ResNet18(**SMALL, precision="binary")


def test_resnet18_refuses_binary_shortcuts():
    with pytest.raises(ValueError, match=r"downsample of ResNet18 must be one of 'real'; received 'binary'"):
        r2b_zoo.ResNet18(**SMALL, downsample="binary")


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        (
            "RealToBinaryNet",
            {"weight_scale": "max"},
            r"weight_scale of RealToBinaryNet must be one of 'none', 'mean', 'le",
        ),
        (
            "RealToBinaryNet",
            {"gate_reduction": 0},
            r"gate_reduction of RealToBinaryNet must be a positive integer; rec",
        ),
        ("RealToBinaryNet", {"prelu_slope": float("nan")}, r"must be a finite number, for example 0\.25; received nan"),
        ("StrongBaselineNet", {"weight_scale": "learned"}, r"must be one of 'none', 'mean'; received 'learned'"),
    ],
)
def test_wrong_options(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        r2b_zoo.create(name, **SMALL, **arguments)


def test_options_that_a_network_does_not_have():
    with pytest.raises(TypeError, match=r"BNN18 has no argument 'weight_scale'\."):
        r2b_zoo.BNN18(**SMALL, weight_scale="mean")
    with pytest.raises(
        TypeError, match=r"no argument 'gate_reduction'; its own arguments are weight_scale, prelu_slope\."
    ):
        r2b_zoo.StrongBaselineNet(**SMALL, gate_reduction=4)


def test_options_are_what_the_signature_says():
    for name in NAMES:
        signature = inspect.signature(getattr(r2b_zoo, name))
        options = r2b_zoo.models.options(name)
        assert {option: signature.parameters[option].default for option in options} == options
        assert all(f"        {option}: " in getattr(r2b_zoo, name).__doc__ for option in options)
    assert r2b_zoo.models.options("BNN18") == {"downsample": "real", "batch_norm_momentum": 0.99}
    assert "prelu_slope" in r2b_zoo.models.options("RealToBinaryNet")


def test_options_reach_every_layer_they_are_about():
    options = {"batch_norm_momentum": 0.9, "prelu_slope": 0.1, "gate_reduction": 4, "downsample": "binary"}
    model = r2b_zoo.RealToBinaryNet(**{**SMALL, "width": 8}, **options)
    norms = [layer for layer in model.layers if isinstance(layer, tf.keras.layers.BatchNormalization)]
    slopes = [layer for layer in model.layers if isinstance(layer, tf.keras.layers.PReLU)]
    gates = [layer for layer in model.layers if isinstance(layer, ChannelGate)]
    assert {norm.momentum for norm in norms} == {0.9}
    assert {float(value) for layer in slopes for value in np.unique(layer.get_weights()[0])} == {np.float32(0.1)}
    assert {gate.reduction for gate in gates} == {4}
    assert (len(norms), len(slopes), len(gates)) == (1 + 16 + 2 * 3, 1 + 16, 16)


def test_a_network_too_narrow_for_its_gates():
    with pytest.raises(ValueError, match=r"reduces 4 channels by 8, which leaves no hidden units: use a wider network"):
        r2b_zoo.RealToBinaryNet(**{**SMALL, "width": 4})
