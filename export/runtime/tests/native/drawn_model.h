// Draws graphs from bytes, for the fuzzer. They have longer chains of operators than any network, strides and dilations
// up to the largest that the runtime accepts (kMostWindow), and large windows, batches and maps. Many graphs are
// refused because they are too large. Few are refused because shapes do not match, since each operator's shapes follow
// from its input's.
#pragma once

#include <algorithm>
#include <cstring>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include "graph.h"
#include "mini_interpreter.h"

struct DrawnModel : MiniInterpreter {
  // The bytes that Byte() has not read yet. After the last of them, it returns 0.
  const uint8_t* next = nullptr;
  size_t left = 0;
  int Byte() { return left ? (--left, *next++) : 0; }
  int Below(int n) { return Byte() % n; }
  bool Chance(int of256) { return Byte() < of256; }
  int One(std::initializer_list<int> of) { return of.begin()[Below(int(of.size()))]; }

  std::vector<std::vector<int>> dims;
  std::vector<std::string> custom_names;

  int NewTensor(tfl::Type type, std::vector<int> shape) {
    const size_t t = tensors.size();
    dims.push_back(shape);
    shapes.emplace_back();
    for (int d : shape) shapes.back().Push(d);
    tensors.push_back(tfl::Tensor{});
    tensors[t].type = type;
    tensors[t].params.scale = type == tfl::kInt8 ? 0.5f : 0;
    memory.emplace_back();
    return int(t);
  }
  // Returns the new tensor's index, or -1 if it would have more than 2^20 elements.
  int Constant(tfl::Type type, const std::vector<int>& shape) {
    if (r2b::Elements(shape) > 1 << 20) return -1;
    const int t = NewTensor(type, shape);
    tensors[size_t(t)].dims = shapes[size_t(t)].get();
    Allocate(size_t(t));
    tensors[size_t(t)].allocation_type = tfl::kMmapRo;
    const int seed = Byte(), count = int(tensors[size_t(t)].bytes / 4);
    for (int i = 0; i < count; ++i) {
      const uint32_t bits = uint32_t(i + seed) * 2654435761u;
      const float number = float(int(bits >> 20) - 2048) / 1024;
      std::memcpy(memory[size_t(t)].get() + size_t(i) * 4,
                  type == tfl::kFloat32 ? static_cast<const void*>(&number) : &bits, 4);
    }
    return t;
  }
  void Numbers(int t, const std::vector<int>& values) {
    std::memcpy(memory[size_t(t)].get(), values.data(), values.size() * sizeof(int));
  }

  void Add(int code, const char* name, std::vector<int> in, int out, std::vector<int> parameters,
           const std::vector<std::pair<const char*, int>>& map = {}) {
    registrations.push_back(tfl::Registration{});
    registrations.back().builtin_code = code;
    custom_names.emplace_back(name);
    lists.emplace_back();
    for (int t : in) lists.back().Push(t);
    lists.emplace_back();
    lists.back().Push(out);
    parameters.resize(8);
    builtin.push_back(parameters);
    options.push_back(FlexMap(map));
    plan.Push(int(plan.storage.size()) - 1);
  }

  // Encodes a map as a FlexBuffer of eight-byte numbers; keys must be sorted.
  static std::vector<uint8_t> FlexMap(const std::vector<std::pair<const char*, int>>& map) {
    std::vector<uint8_t> bytes;
    const auto number = [&](uint64_t value) {
      for (int i = 0; i < 8; ++i) bytes.push_back(uint8_t(value >> 8 * i));
    };
    std::vector<size_t> keys;
    for (const auto& entry : map) {
      keys.push_back(bytes.size());
      bytes.insert(bytes.end(), entry.first, entry.first + std::strlen(entry.first) + 1);
    }
    number(map.size());
    const size_t vector = bytes.size();
    for (size_t key : keys) number(bytes.size() - key);
    number(bytes.size() - vector);
    number(8);
    number(map.size());
    const size_t values = bytes.size();
    for (const auto& entry : map) number(uint64_t(int64_t(entry.second)));
    for (size_t i = 0; i < map.size(); ++i) bytes.push_back(1 << 2 | 3);
    number(bytes.size() - values);
    bytes.push_back(9 << 2 | 3);
    bytes.push_back(8);
    return bytes;
  }

  int Channels() { return One({1, 3, 31, 32, 33, 64, 96, 100, 256}); }
  int Kernel() { return One({1, 1, 2, 3, 3, 5, 7, 64, 1366}); }
  int Stride() { return One({1, 1, 1, 2, 3, 32768}); }
  int Dilation() { return One({1, 1, 1, 1, 2, 12291, 32768}); }
  // Sets `out` to the shape of a window's output. Returns false if the window does not fit.
  bool Out(const std::vector<int>& in, int kh, int kw, int sh, int sw, int dh, int dw, bool same,
           std::vector<int>* out) {
    const int h = r2b::WindowExtent(in[1], kh, sh, dh, same).out, w = r2b::WindowExtent(in[2], kw, sw, dw, same).out;
    *out = {in[0], h, w, in[3]};
    return h > 0 && w > 0;
  }

  int Quantize(int x) {
    std::vector<int> shape = dims[size_t(x)];
    shape.back() = (shape.back() + 31) / 32;
    const int out = NewTensor(tfl::kInt32, shape);
    Add(tfl::kCustom, "LceQuantize", {x}, out, {});
    return out;
  }

  int Bconv(int x) {
    const std::vector<int> in = dims[size_t(x)];
    const int groups = in[3] % 128 ? 1 : One({1, 1, 2, 4}), outputs = Channels() / groups * groups;
    const int kh = Kernel(), kw = Chance(128) ? kh : Kernel(), sh = Stride(), sw = Stride(), dh = Dilation(),
              dw = Dilation();
    const bool same = Chance(200), pad_one = Chance(64);
    std::vector<int> out;
    if (outputs < 1 || !Out(in, kh, kw, sh, sw, dh, dw, same, &out)) return x;
    const tfl::Type type = Chance(60) ? tfl::kInt32 : Chance(30) ? tfl::kInt8 : tfl::kFloat32;
    const int bits = Quantize(x), words = (in[3] + 31) / 32;
    const int filter = Constant(tfl::kInt32, {outputs, kh, kw, words / groups});
    if (filter < 0) return x;
    const int thresholds = type == tfl::kInt32 ? Constant(tfl::kInt32, {outputs}) : -1;
    const int multiplier = Constant(tfl::kFloat32, {outputs}), bias = Constant(tfl::kFloat32, {outputs});
    out[3] = type == tfl::kInt32 ? (outputs + 31) / 32 : outputs;
    const int y = NewTensor(type, out);
    Add(tfl::kCustom, "LceBconv2d", {bits, filter, multiplier, bias, thresholds}, y, {},
        {{"channels_in", in[3]},
         {"dilation_height_factor", dh},
         {"dilation_width_factor", dw},
         {"fused_activation_function", Below(4)},
         {"pad_values", pad_one},
         {"padding", !same},
         {"stride_height", sh},
         {"stride_width", sw}});
    if (type == tfl::kFloat32) return y;
    if (type == tfl::kInt8) return x;
    if (Chance(128)) {
      std::vector<int> pooled;
      if (Out(out, kh, kw, 1, 1, 1, 1, true, &pooled)) {
        const int z = NewTensor(tfl::kInt32, pooled);
        Add(tfl::kCustom, "LceBMaxPool2d", {y}, z, {},
            {{"filter_height", kh}, {"filter_width", kw}, {"padding", 0}, {"stride_height", 1}, {"stride_width", 1}});
      }
    }
    out[3] = outputs;
    const int floats = NewTensor(tfl::kFloat32, out);
    Add(tfl::kCustom, "LceDequantize", {y}, floats, {});
    return floats;
  }

  int Chain(int x) {
    const std::vector<int> shape = dims[size_t(x)];
    const int length = One({1, 2, 5, 63, 64, 65, 130}), start = x;
    for (int i = 0; i < length; ++i) {
      const int code = One({tfl::kMul, tfl::kAdd, tfl::kSub, tfl::kPrelu, tfl::kRelu, tfl::kRelu6, tfl::kLogistic});
      const int y = NewTensor(tfl::kFloat32, shape);
      std::vector<int> in{x};
      if (code == tfl::kMul || code == tfl::kAdd || code == tfl::kSub || code == tfl::kPrelu) {
        const int operand =
            code != tfl::kPrelu && Chance(40) ? start : Constant(tfl::kFloat32, {Chance(128) ? 1 : shape.back()});
        if (operand < 0) return x;
        in.push_back(operand);
      }
      Add(code, "", in, y, {Chance(30) ? 1 : 0});
      x = y;
    }
    return x;
  }

  int Window(int x) {
    const std::vector<int> in = dims[size_t(x)];
    const bool whole = Chance(60), same = Chance(128);
    const int kh = whole ? in[1] : Kernel(), kw = whole ? in[2] : Kernel(), s = whole ? 1 : Stride();
    std::vector<int> out;
    if (!Out(in, kh, kw, s, s, 1, 1, same, &out)) return x;
    const int padding = same ? tfl::kPaddingSame : tfl::kPaddingValid;
    const int code = One({tfl::kMaxPool2d, tfl::kAveragePool2d, tfl::kConv2d, tfl::kMean});
    if (code == tfl::kMean) {
      const int axes = Constant(tfl::kInt32, {2}), y = NewTensor(tfl::kFloat32, {in[0], 1, 1, in[3]});
      Numbers(axes, {1, 2});
      Add(code, "", {x, axes}, y, {1});
      return y;
    }
    if (code == tfl::kConv2d) {
      const int outputs = Channels(), d = Dilation();
      if (!Out(in, kh, kw, s, s, d, d, same, &out)) return x;
      out[3] = outputs;
      const int filter = Constant(tfl::kFloat32, {outputs, kh, kw, in[3]});
      if (filter < 0) return x;
      const int bias = Constant(tfl::kFloat32, {outputs}), y = NewTensor(tfl::kFloat32, out);
      Add(code, "", {x, filter, bias}, y, {padding, s, s, Below(4), d, d});
      return y;
    }
    const int y = NewTensor(tfl::kFloat32, out);
    Add(code, "", {x}, y, {padding, s, s, kw, kh, Below(4)});
    return y;
  }

  // Operators that only move values: concatenation, split, strided slice and padding.
  int Move(int x) {
    const std::vector<int> in = dims[size_t(x)];
    const int axis = Below(4), amount = One({0, 1, 3, 1000, 1 << 20});
    std::vector<int> out = in;
    const int code = One({tfl::kConcatenation, tfl::kSplit, tfl::kStridedSlice, tfl::kPad});
    if (code == tfl::kConcatenation) {
      out[size_t(axis)] *= 2;
      const int y = NewTensor(tfl::kFloat32, out);
      Add(code, "", {x, x}, y, {axis});
      return y;
    }
    if (code == tfl::kSplit) {
      const int number = Constant(tfl::kInt32, {}), parts = One({1, 2, 3, 8, 32});
      Numbers(number, {axis - 4 * Below(2)});
      out[size_t(axis)] /= parts;
      std::vector<int> outs;
      for (int part = 0; part < parts; ++part) outs.push_back(NewTensor(tfl::kFloat32, out));
      Add(code, "", {number, x}, outs[0], {parts});
      for (int part = 1; part < parts; ++part) lists.back().Push(outs[size_t(part)]);
      return outs[size_t(Below(parts))];
    }
    const int y = NewTensor(tfl::kFloat32, out);
    if (code == tfl::kPad) {
      std::vector<int> amounts(8, 0);
      amounts[size_t(2 * axis)] = amount, amounts[size_t(2 * axis + 1)] = One({0, 1, 2147483647});
      dims[size_t(y)][size_t(axis)] += amount + (amounts[size_t(2 * axis + 1)] == 1);
      const int pads = Constant(tfl::kInt32, {4, 2});
      Numbers(pads, amounts);
      Add(code, "", {x, pads}, y, {});
      return y;
    }
    std::vector<int> begin(4, 0), end = in, stride(4, 1);
    begin[size_t(axis)] = One({0, 1, -1, -2147483647, 2147483647});
    stride[size_t(axis)] = One({1, 2, -1, 2147483647, -2147483647 - 1});
    std::vector<int> operands{x};
    for (const auto& values : {begin, end, stride}) {
      operands.push_back(Constant(tfl::kInt32, {4}));
      Numbers(operands.back(), values);
    }
    const int mask = Below(16), shrink = Chance(20) ? 1 << axis : 0;
    Add(code, "", operands, y, {mask, mask, 0, 0, shrink});
    return x;  // not y, whose shape is not known here
  }

  // Depthwise convolutions, transposed convolutions, and resized maps.
  int Spread(int x) {
    const std::vector<int> in = dims[size_t(x)];
    const int code = One({tfl::kDepthwiseConv2d, tfl::kTransposeConv, tfl::kResizeBilinear});
    std::vector<int> out = in;
    if (code == tfl::kResizeBilinear) {
      const int size = Constant(tfl::kInt32, {2});
      out[1] = One({1, 2, 7, 64, 1 << 14, 2147483647}), out[2] = One({1, in[2], 33});
      Numbers(size, {out[1], out[2]});
      const int y = NewTensor(tfl::kFloat32, out);
      Add(code, "", {x, size}, y, {One({0, 1, 256})});  // align_corners and half_pixel_centers, a byte each
      return y;
    }
    const int kh = Kernel(), kw = Kernel(), s = Stride(), same = Chance(128);
    const int padding = same ? tfl::kPaddingSame : tfl::kPaddingValid;
    if (code == tfl::kDepthwiseConv2d) {
      const int multiplier = One({1, 1, 2, 3}), d = Dilation();
      if (!Out(in, kh, kw, s, s, d, d, same, &out)) return x;
      out[3] *= multiplier;
      const int filter = Constant(tfl::kFloat32, {1, kh, kw, out[3]});
      if (filter < 0) return x;
      const int y = NewTensor(tfl::kFloat32, out);
      Add(code, "", {x, filter}, y, {padding, s, s, multiplier, Below(4), d, d});
      return y;
    }
    const int outputs = Channels(), stride = std::min(s, 1000),
              filter = Constant(tfl::kFloat32, {outputs, kh, kw, in[3]});
    if (filter < 0 || in[1] > 1 << 14 || in[2] > 1 << 14) return x;
    out = {in[0], same ? in[1] * stride : (in[1] - 1) * stride + std::max(kh, stride),
           same ? in[2] * stride : (in[2] - 1) * stride + std::max(kw, stride), outputs};
    const int size = Constant(tfl::kInt32, {4}), y = NewTensor(tfl::kFloat32, out);
    Numbers(size, out);
    Add(code, "", {size, filter, x}, y, {padding, stride, stride});
    return y;
  }

  int Dense(int x) {
    const std::vector<int> in = dims[size_t(x)];
    const int outputs = Channels(), weights = Constant(tfl::kFloat32, {outputs, in.back()});
    if (weights < 0) return x;
    std::vector<int> out = in;
    out.back() = outputs;
    const int y = NewTensor(tfl::kFloat32, out);
    Add(tfl::kFullyConnected, "", {x, weights}, y, {Below(4), 0, 1});
    return y;
  }

  int Step(int x) {
    switch (Below(12)) {
      case 0:
      case 1:
      case 2: return Bconv(x);
      case 3:
      case 4: return Chain(x);
      case 5:
      case 6: return Window(x);
      case 7:
      case 8: return Move(x);
      case 9:
      case 10: return Spread(x);
      default: return Dense(x);
    }
  }

  void Draw(const uint8_t* bytes, size_t size) {
    next = bytes;
    left = size;
    const int side = One({1, 2, 5, 8, 17, 64, 1000, 1 << 14, 1 << 20});
    const int batch = One({1, 1, 1, 1, 2, 3, 64, 1 << 14, 1 << 24});
    const int threads = 1 + Below(4);
    int x = NewTensor(tfl::kFloat32, {batch, side, Chance(200) ? side : One({1, 3, 1 << 14}), Channels()});
    for (int steps = 1 + Below(12); steps > 0; --steps) {
      if (tensors.size() > 1500) break;
      x = Step(x);
    }
    Quantize(x);
    nodes.resize(registrations.size());
    for (size_t i = 0; i < nodes.size(); ++i) {
      registrations[i].custom_name = custom_names[i].c_str();
      nodes[i] = tfl::Node{};
      nodes[i].builtin_data = builtin[i].data();
      nodes[i].custom_initial_data = options[i].data();
      nodes[i].custom_initial_data_size = int(options[i].size());
    }
    Finish(threads);
  }
};
