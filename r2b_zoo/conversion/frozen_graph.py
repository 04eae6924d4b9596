"""Writes a Keras model as the SavedModel that LCE's converter reads, with its weights as constants of the graph."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Optional, Union

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from r2b_zoo.models.layers import resizable_files

SIGNATURE = tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY
# The parts of a Keras input's name that are left out of the node's name, because TensorFlow may not allow them.
_NOT_IN_NAMES = re.compile(r"^_+|[^A-Za-z0-9_.]")

Function = Callable[[tf.Tensor], dict[str, tf.Tensor]]


def save(model: tf.keras.Model, folder: Path, batch: int = 1) -> None:
    """Writes the model in inference mode, for batches of ``batch`` images, with the signature ``serving_default``.

    The converter makes the same tensors and operators from this SavedModel as from that of ``model.save(folder)``. But
    ``model.save`` takes several times as long: it traces each layer again. It also writes variables, which the
    converter has to read back and turn into constants.
    """
    name = _NOT_IN_NAMES.sub("", model.input_names[0]) or "image"
    spec = tf.TensorSpec((batch, *model.inputs[0].shape[1:]), model.inputs[0].dtype, name=name)

    def serve(image: tf.Tensor) -> dict[str, tf.Tensor]:
        with resizable_files():
            outputs = model(image, training=False)
        if isinstance(outputs, Mapping):
            return dict(outputs)
        return dict(zip(model.output_names, tf.nest.flatten(outputs), strict=True))

    saved = _frozen(serve, spec, model.variables)
    if saved is None:
        _save_with_variables(serve, spec, model.variables, folder)
    else:
        (folder / "saved_model.pb").write_bytes(saved.SerializeToString())


def _frozen(serve: Function, spec: tf.TensorSpec, variables: list[tf.Variable]) -> Optional[saved_model_pb2.SavedModel]:
    """The SavedModel without variables; None if ``_make_constants`` cannot replace them all."""
    graph = tf.__internal__.FuncGraph("serve")
    with graph.as_default():
        # Use the names that a saved function's input and outputs have, because they get into the converted file.
        image = tf.compat.v1.placeholder(spec.dtype, spec.shape, name=f"serving_default_{spec.name}")
        found = tf.autograph.to_graph(serve)(image)
        keys = sorted(found)
        tensors = tf.identity_n([found[key] for key in keys], name="StatefulPartitionedCall")
    definition = graph.as_graph_def()
    if not _make_constants(graph, definition, variables):
        return None
    saved = saved_model_pb2.SavedModel(saved_model_schema_version=1)
    contents = saved.meta_graphs.add()
    contents.meta_info_def.tags.append(tf.saved_model.SERVING)
    contents.graph_def.CopyFrom(definition)
    signature = contents.signature_def[SIGNATURE]
    signature.method_name = tf.saved_model.PREDICT_METHOD_NAME
    outputs = dict(zip(keys, tensors, strict=True))
    for table, named in ((signature.inputs, {spec.name: image}), (signature.outputs, outputs)):
        for key, tensor in named.items():
            table[key].name = tensor.name
            table[key].dtype = tensor.dtype.as_datatype_enum
            table[key].tensor_shape.CopyFrom(tensor.shape.as_proto())
    return saved


def _make_constants(graph: Any, definition: tf.compat.v1.GraphDef, variables: list[tf.Variable]) -> bool:
    """Replaces the placeholders of captured variables and tensors by constants with their values.

    Args:
        graph: the ``FuncGraph``.
        definition: the graph's definition, which is changed in place.
        variables: the variables that the graph may read.

    Returns:
        False if a variable remains, for example because a function that the graph calls reads it; else True.
    """
    by_handle = {id(one.handle): one for variable in variables for one in getattr(variable, "values", (variable,))}
    # A graph captures a variable by its handle, and any other tensor directly.
    captured = {placeholder.op.name: by_handle.get(id(tensor), tensor) for tensor, placeholder in graph.captures}
    if any(value.dtype == tf.resource for value in captured.values()):
        return False
    names = {node.name for node in definition.node}
    of_variables = {}
    for node in definition.node:
        value = captured.get(node.name)
        if value is None:
            continue
        _make_constant(node, value)
        if isinstance(value, tf.Variable):
            # The converter names a constant after its node: use the variable's name, by which people know the weight.
            of_variables[node.name] = _unused(value.name.split(":")[0], names)
            node.name = of_variables[node.name]
    return _without_readers(definition, of_variables)


def _without_readers(definition: tf.compat.v1.GraphDef, constants: Mapping[str, str]) -> bool:
    """Removes the operators that read variables; the nodes that used their results use the constants instead.

    Args:
        definition: a graph's definition, which is changed in place.
        constants: name of a replaced handle → name of its constant.

    Returns:
        False, without any change, if another operator uses a handle; else True.
    """
    readers = [node for node in definition.node if any(name in constants for name in node.input)]
    if any(node.op != "ReadVariableOp" for node in readers):
        return False
    replaced = {node.name: constants[node.input[0]] for node in readers}
    replaced.update({f"^{reader}": f"^{constant}" for reader, constant in replaced.items()})
    rest = [node for node in definition.node if node.name not in replaced]
    for node in rest:
        node.input[:] = [replaced.get(name, name) for name in node.input]
    del definition.node[:]
    definition.node.extend(rest)
    return True


def _make_constant(node: Any, value: Union[tf.Tensor, tf.Variable]) -> None:
    node.op = "Const"
    node.attr.clear()
    node.attr["dtype"].type = value.dtype.as_datatype_enum
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value.numpy()))


def _unused(name: str, used: set[str]) -> str:
    """The name, with a number appended if it is in ``used``; adds the result to ``used``."""
    found, number = name, 0
    while found in used:
        number += 1
        found = f"{name}_{number}"
    used.add(found)
    return found


def _save_with_variables(serve: Function, spec: tf.TensorSpec, variables: list[tf.Variable], folder: Path) -> None:
    function = tf.function(serve, input_signature=[spec])
    module = tf.Module()
    module.variables_of_model = variables
    module.serve = function
    tf.saved_model.save(module, str(folder), signatures={SIGNATURE: function})
