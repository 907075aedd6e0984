"""Writes the files beside it with a Keras 2, as the 2023 notebook saved its own: an architecture and its weights.

    python make.py FOLDER

runs in an environment of its own, for this project's has Keras 3. With Python 3.11, the folders here came from

    keras-2.15.0    tensorflow-cpu 2.15.1
    keras-2.12.0    tensorflow-cpu 2.12.1
    keras-2.1.6     the same, with keras 2.1.6 and pyyaml before it in PYTHONPATH

`notebook` has the layers of the notebook's network with fewer filters; `normed` has batch normalisation, activations
inside layers and global pooling, and ends in logits; `nested` has models in models and was saved after fit();
`caffe` begins with ResNet50's preprocess_input; `mobile` has the layers of MobileNets. For each it writes

    NAME.json          to_json()
    NAME.h5            save_weights()
    NAME.whole.h5      save()
    NAME.weights.h5    save_weights(), which Keras 2.13 and later lay out as Keras 3 does
    NAME.keras         save(), a zip
    NAME.npz           images (4, 32, 32, 3) uint8, and the outputs (4, K) float32 of the model for image / 255; for
                       `nested`, `caffe` and `mobile`, which scale their input themselves, for the pixels

of which those that differ are kept here.
"""

import collections
import collections.abc
import contextlib
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import tensorflow

OLD = version("keras").startswith("2.1.")


def imported_keras():
    if OLD:
        collections.Iterable = collections.abc.Iterable  # where it looks for it
        tensorflow.compat.v1.disable_v2_behavior()
    import keras

    if OLD:
        keras.backend.tensorflow_backend.tf = tensorflow.compat.v1
    return keras


keras = imported_keras()
L = keras.layers


def notebook():
    stack = [
        L.Conv2D(3, (3, 3), padding="same", input_shape=(32, 32, 3)),
        L.Activation("relu"),
        L.Conv2D(3, (3, 3), padding="same"),
        L.Activation("relu"),
        L.MaxPooling2D(pool_size=(2, 2)),
        L.Dropout(0.25),
        L.Conv2D(4, (3, 3), padding="same"),
        L.Activation("relu"),
        L.Conv2D(4, (3, 3)),
        L.Activation("relu"),
        L.MaxPooling2D(pool_size=(2, 2)),
        L.Dropout(0.25),
        L.Flatten(),
        L.Dense(7),
        L.Activation("relu"),
        L.Dropout(0.5),
        L.Dense(10),
        L.Activation("softmax"),
    ]
    return keras.models.Sequential(stack)


def normed():
    stack = [
        L.Conv2D(4, 3, strides=2, activation="relu", use_bias=False, input_shape=(32, 32, 3)),
        L.BatchNormalization(),
        L.Conv2D(6, 3, activation="tanh", kernel_regularizer=keras.regularizers.l2(1e-4)),
        L.AveragePooling2D(),
        L.BatchNormalization(scale=False, trainable=False),
        L.GlobalAveragePooling2D(),
        L.Dense(3),
    ]
    return keras.models.Sequential(stack)


def residual():
    images = L.Input((32, 32, 3))
    x = L.Conv2D(4, 3, strides=4, padding="same")(images)
    y = L.ReLU()(L.BatchNormalization()(x))
    y = L.Conv2D(4, 3, padding="same")(y)
    y = L.Flatten()(L.Add()([y, x]))
    return keras.models.Model(images, L.Softmax()(L.Dense(3)(y)))


def nested():
    """Models in models, layers that do nothing at inference, and an optimizer's state."""
    inner = keras.Sequential([L.Conv2D(4, 3, strides=2, input_shape=(32, 32, 3)), L.BatchNormalization()], name="stem")
    outer = keras.Sequential([inner, L.SpatialDropout2D(0.1), L.Conv2D(4, 3, strides=2)], name="body")
    maps = L.Input((7, 7, 4))
    block = keras.Model(maps, L.Add()([L.Conv2D(4, 3, padding="same")(maps), maps]), name="block")
    images = L.Input((32, 32, 3))
    x = L.Normalization(mean=[120.0, 110.0, 100.0], variance=[3600.0, 3000.0, 4000.0])(L.RandomFlip()(images))
    x = L.Dropout(0.2)(L.GlobalAveragePooling2D()(block(outer(x, training=False))))
    model = keras.Model(images, L.Dense(3)(L.Dense(5, activation="swish")(x)))
    model.compile("adam", "mse", metrics=["accuracy"])
    model.fit(np.zeros((2, 32, 32, 3)), np.zeros((2, 3)), verbose=0)
    return model


def caffe():
    images = L.Input((32, 32, 3))
    x = keras.applications.imagenet_utils.preprocess_input(images, mode="caffe")
    x = L.Rescaling(0.02)(L.GlobalAveragePooling2D()(L.Conv2D(4, 3, strides=2, activation="relu")(x)))
    return keras.Model(images, L.Dense(3, activation="softmax")(x))


def mobile():
    """What MobileNets and EfficientNet are made of: names with slashes, arithmetic between layers, and gates."""
    images = L.Input((32, 32, 3))
    x = L.Conv2D(4, 3, strides=2, use_bias=False, name="Conv")(images / 127.5 - 1.0)
    x = y = L.ReLU(6.0)(L.BatchNormalization(name="Conv/BatchNorm")(x))
    x = L.DepthwiseConv2D(3, strides=2, use_bias=False, name="expanded/depthwise")(L.ZeroPadding2D(((0, 1), (0, 1)))(x))
    x = L.BatchNormalization()(x) * (L.ReLU(6.0)(L.BatchNormalization()(x) + 3.0) * (1.0 / 6.0))
    gate = L.Conv2D(4, 1, activation="sigmoid")(L.GlobalAveragePooling2D(keepdims=True)(x))
    x = L.LeakyReLU(alpha=0.2)(L.Multiply()([x, gate]))
    y = L.SeparableConv2D(4, 3, strides=2, activation="swish")(y)
    x = L.Concatenate()([L.ELU()(x), L.PReLU(shared_axes=[1, 2])(y)])
    x = L.Rescaling(20.0)(L.Reshape((8,))(L.GlobalAveragePooling2D(keepdims=True)(x)))
    return keras.Model(images, L.Dense(3, activation="softmax")(L.Dropout(0.2)(x)))


def randomised(model):
    """Random weights that keep values moderate, so that no bias or statistic is 0 or 1 and could go missing unseen."""
    random = np.random.RandomState(1)
    for layer in model.layers:
        shapes = [values.shape for values in layer.get_weights()]
        values = [random.normal(0, 2 / np.sqrt(max(np.prod(shape[:-1]), 40)), shape) for shape in shapes]
        if isinstance(layer, keras.Model):
            randomised(layer)
            continue
        layer.set_weights([np.abs(v) + 0.5 if isinstance(layer, L.BatchNormalization) else v for v in values])
    return model


def images():
    """Blocks of flat colour, which compress."""
    blocks = np.random.RandomState(2).randint(0, 256, (4, 8, 8, 3)).astype("uint8")
    return blocks.repeat(4, axis=1).repeat(4, axis=2)


SCALING = nested, caffe, mobile  # scale their input themselves


def write(build, folder):
    keras.backend.clear_session()  # names count from one again
    model, path = randomised(build()), str(folder / build.__name__)
    Path(f"{path}.json").write_text(model.to_json() + "\n")
    model.save_weights(f"{path}.h5")
    model.save(f"{path}.whole.h5")
    model.save_weights(f"{path}.weights.h5")
    if not OLD:
        with contextlib.suppress(TypeError):  # Keras 2 writes no Ellipsis, which `caffe` has
            model.save(f"{path}.keras", save_format="keras_v3")
    white = np.float32(1 if build in SCALING else 255)
    np.savez_compressed(f"{path}.npz", images=images(), outputs=model.predict(images() / white))


if __name__ == "__main__":
    into = Path(sys.argv[1])
    into.mkdir(parents=True, exist_ok=True)
    for network in (notebook, normed) if OLD else (notebook, normed, residual, nested, caffe, mobile):
        write(network, into)
