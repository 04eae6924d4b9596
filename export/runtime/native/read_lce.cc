#include <limits>

#include "reader.h"

namespace r2b {

bool Reader::Fail(const std::string& what) {
  *error_ = std::string(OpName(op_->kind)) + " (node " + std::to_string(op_->node) + "): " + what;
  return false;
}

bool Reader::Activation(int activation) {
  op_->clamp = activation != tfl::kActNone;
  op_->lo = activation == tfl::kActReluN1To1 ? -1.0f : 0.0f;
  op_->hi = activation == tfl::kActReluN1To1 ? 1.0f
            : activation == tfl::kActRelu6   ? 6.0f
                                             : std::numeric_limits<float>::infinity();
  return activation >= tfl::kActNone && activation <= tfl::kActRelu6;
}

bool Reader::Option(const OptionsMap& options, const char* key, int low, int high, int* value) {
  int64_t raw;
  if (!options.GetInt(key, &raw))
    return Fail(std::string("option '") + key +
                "' is missing or not an integer; convert the model with Larq Compute Engine 0.7 or newer");
  if (raw < low || raw > high)
    return Fail(std::string("option '") + key + "' = " + std::to_string(raw) + " is not within " + std::to_string(low) +
                " to " + std::to_string(high) + "; the file is damaged or was written by an unknown converter");
  *value = int(raw);
  return true;
}

bool Reader::LceTypes(std::initializer_list<tfl::Type> inputs, std::initializer_list<tfl::Type> outputs) {
  auto among = [](tfl::Type type, const std::initializer_list<tfl::Type>& types) {
    for (tfl::Type t : types)
      if (t == type) return true;
    return false;
  };
  if (!Input(0) || !among(Input(0)->type, inputs))
    return Fail("unsupported input type " + std::to_string(Input(0) ? int(Input(0)->type) : -1));
  if (!among(Output()->type, outputs)) return Fail("unsupported output type " + std::to_string(int(Output()->type)));
  for (const tfl::Tensor* t : {Input(0), Output()})
    if (t->type == tfl::kInt8 && !(t->params.scale > 0))
      return Fail("an int8 tensor without a quantization scale; convert the model again");
  return true;
}

bool Reader::BconvOptions() {
  const OptionsMap options(node_.custom_initial_data, size_t(node_.custom_initial_data_size));
  if (!options.ok()) return Fail("its options are not a well-formed map; the file is damaged");
  int padding, pad_value, activation;
  if (!Option(options, "channels_in", 1, 1 << 20, &op_->channels_in) ||
      !Option(options, "stride_height", 1, kMostWindow, &op_->stride_h) ||
      !Option(options, "stride_width", 1, kMostWindow, &op_->stride_w) ||
      !Option(options, "dilation_height_factor", 1, kMostWindow, &op_->dilation_h) ||
      !Option(options, "dilation_width_factor", 1, kMostWindow, &op_->dilation_w) ||
      !Option(options, "padding", 0, 1, &padding) || !Option(options, "pad_values", 0, 1, &pad_value) ||
      !Option(options, "fused_activation_function", 0, 3, &activation))
    return false;
  op_->same_padding = padding == 0;
  op_->pad_one = pad_value == 1;
  return Activation(activation);
}

bool Reader::Bconv() {
  if (!BconvOptions() || !LceTypes({tfl::kInt32}, {tfl::kFloat32, tfl::kInt8, tfl::kInt32})) return false;
  const tfl::Tensor* filter = Input(1);
  if (!filter || filter->type != tfl::kInt32 || !IsConstant(filter) || Rank(filter) != 4)
    return Fail(
        "input 1 must be a constant bit-packed filter of 4 dimensions; convert the model with Larq Compute Engine "
        "0.7 or newer");
  for (int i = 0; i < 4; ++i)
    if (filter->dims->data[i] < 1 || filter->dims->data[i] > kMostWindow)
      return Fail("a filter dimension of " + std::to_string(filter->dims->data[i]));
  op_->kernel_h = filter->dims->data[1];
  op_->kernel_w = filter->dims->data[2];
  return true;
}

bool Reader::Quantize() { return LceTypes({tfl::kFloat32, tfl::kInt8, tfl::kBool}, {tfl::kInt32}); }
bool Reader::Dequantize() { return LceTypes({tfl::kInt32}, {tfl::kFloat32, tfl::kInt8, tfl::kBool}); }

bool Reader::BmaxPool() {
  const OptionsMap options(node_.custom_initial_data, size_t(node_.custom_initial_data_size));
  if (!options.ok()) return Fail("its options are not a well-formed map; the file is damaged");
  int padding;
  if (!Option(options, "filter_height", 1, kMostWindow, &op_->kernel_h) ||
      !Option(options, "filter_width", 1, kMostWindow, &op_->kernel_w) ||
      !Option(options, "stride_height", 1, kMostWindow, &op_->stride_h) ||
      !Option(options, "stride_width", 1, kMostWindow, &op_->stride_w) || !Option(options, "padding", 0, 1, &padding))
    return false;
  op_->same_padding = padding == 0;
  return LceTypes({tfl::kInt32}, {tfl::kInt32});
}

}  // namespace r2b
